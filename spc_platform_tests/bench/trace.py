"""A million links of materials: making the genealogy, opening the kept one, tracing and recalling."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import polars as pl

from spc_platform.cli.trace_file import read_links
from spc_platform.contracts.operations import SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.raw import MEASUREMENT_PAYLOAD
from spc_platform.lake.genealogy_index import GenealogyIndex
from spc_platform.production.genealogy import links_in_force, lot_genealogy
from spc_platform.production.traceability import Genealogy, recall, trace
from spc_platform.settings import REPOSITORY
from spc_platform_tests.bench.folders import scratch
from spc_platform_tests.bench.result import Figures, Result, median, number, timed

N_LINKS = 1_000_000
LEVELS, WIDTH = 20, 25_000
EVENT = {column.name: column.dtype for column in SEGMENT_EVENT_PAYLOAD}
MEASURED = {column.name: column.dtype for column in MEASUREMENT_PAYLOAD}
START = "LOT-0250003"


def _links() -> pl.DataFrame:
    """Twenty levels of lots; each link leads from a lot of one level to a lot of the next."""
    rng = np.random.default_rng(7)
    level = rng.integers(0, LEVELS - 1, N_LINKS)
    ends = {
        "parent_id": level * WIDTH + rng.integers(0, WIDTH, N_LINKS),
        "child_id": (level + 1) * WIDTH + rng.integers(0, WIDTH, N_LINKS),
    }
    ends["parent_id"][0] = 10 * WIDTH + 3
    return pl.DataFrame(ends).select(
        record_id=pl.int_range(N_LINKS).cast(pl.String),
        parent_id=pl.concat_str(pl.lit("LOT-"), pl.col("parent_id").cast(pl.String).str.zfill(7)),
        child_id=pl.concat_str(pl.lit("LOT-"), pl.col("child_id").cast(pl.String).str.zfill(7)),
        link_type=pl.lit("consumed"),
        quantity=pl.lit(1.0),
        occurred_at=pl.lit(datetime(2026, 1, 1, tzinfo=UTC)) + pl.duration(hours=pl.Series(level)),
    )


def bench() -> Result:
    """Making is done once; tracing is the median of five items, the whole command of three runs."""
    folder = scratch("trace")
    folder.mkdir()
    path, index = folder / "links.parquet", GenealogyIndex(folder / "index")
    _links().write_parquet(path)
    made: list[tuple[Genealogy, pl.DataFrame]] = []

    def make() -> tuple[Genealogy, pl.DataFrame]:
        found = lot_genealogy(links_in_force(read_links(path, "UTC")[1]))
        made.append((Genealogy.of(found.edges), found.refused))
        return made[0]

    rows = [("make the genealogy of the file and keep it", *timed(lambda: index.open("bench", make)).columns)]
    genealogy, _ = index.open("bench", make)
    assert len(made) == 1, "the kept genealogy was not used"
    rows.append(("open the kept one", *timed(lambda: index.open("bench", make)).columns))
    starts = [f"LOT-{place:07d}" for place in range(10 * WIDTH + 3, 10 * WIDTH + 8)]
    events = pl.DataFrame(schema=EVENT)
    values = pl.DataFrame(schema=MEASURED)
    calls = {
        "trace both ways": lambda item: trace(genealogy, item, ["backward", "forward"]),
        "recall list": lambda item: recall(genealogy, item, events, values),
    }
    for name, call in calls.items():
        rows.append((name, *median([timed(lambda item=item, call=call: call(item)) for item in starts]).columns))
    n_items = trace(genealogy, START, ["backward", "forward"]).items.height
    command = [sys.executable, "-c", "from spc_platform.cli.main import main; main()", "trace", "--lot", START]
    command += ["--links", str(path), "--index", str(folder / "kept"), "--format", "json"]
    runs = [timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)) for _ in range(4)]
    rows.append(("spc trace, index kept, as a process", number(median(runs[1:]).wall), ""))
    return Result(
        f"Traces over {N_LINKS:,} links of materials",
        f"Lots in {LEVELS} levels of {WIDTH:,}. A trace of the lot in the middle reaches {n_items:,} items. The process "
        "includes starting Python, hashing the file and writing JSON.",
        [Figures("genealogy", ("what", "wall s", "CPU s"), rows)],
        f"A trace as a process takes {number(median(runs[1:]).wall)} s, {number(runs[0].wall)} s when the index is made first.",
    )
