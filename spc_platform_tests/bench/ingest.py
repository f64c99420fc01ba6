"""From the plant's HTTP interface to committed partitions: rates of each stage, beside what the stage cannot undercut."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import zstandard

from spc_platform.engine import Workspace
from spc_platform.lake.landing import Landing, LandingReport, raw_partition
from spc_platform_tests.bench.folders import dates, land, landed_workspace, plant, scratch
from spc_platform_tests.bench.result import Figures, Result, Timing, number, side_by_side, timed

TABLE = "raw_telemetry"
COLUMNS = ("stage", "rows", "wall s", "CPU s", "rows per wall s", "CPU ratio to its baseline")


def _row(name: str, rows: int, taken: Timing, base: Timing | None) -> tuple[str, ...]:
    ratio = "1" if base is None else f"{taken.cpu / base.cpu:.2f}"
    return name, number(rows), *taken.columns, number(rows / taken.wall), ratio


def _landing() -> tuple[LandingReport, Timing, Timing]:
    """First landing of everything the plant has; then a second walk, which finds nothing new."""
    reports: list[LandingReport] = []
    with plant():
        land(scratch("ingest-warm"))  # the plant generates its records on the first request
        first = timed(lambda: reports.append(land(scratch("ingest"))))
        again = timed(lambda: land(scratch("ingest")))
    return reports[0], first, again


def _read_pages(workspace: Workspace, day: date) -> None:
    """Baseline of raw_partition: unpack and parse the day's pages as JSON, keeping nothing."""
    for page in workspace.ledger.pages(TABLE, day):
        body = zstandard.ZstdDecompressor().decompress(workspace.landing.path(page.source_id, page.sha256).read_bytes())
        pl.read_json(body)


def _partitions(workspace: Workspace) -> list[tuple[str, ...]]:
    day = dates()[3]
    frame = _raw(workspace, day)
    parquet, lake = scratch("plain.parquet"), workspace.lake
    lake.commit(TABLE, frame, day)
    taken = side_by_side(
        {
            "pages": lambda: _read_pages(workspace, day),
            "raw": lambda: _raw(workspace, day),
            "write": lambda: frame.write_parquet(parquet),
            "commit": lambda: lake.commit(TABLE, frame, day),
            "scan": lambda: pl.read_parquet(_file(workspace, day)),
            "read": lambda: lake.read(TABLE, day),
        },
        5,
    )
    return [
        _row("baseline: unpack the pages and `pl.read_json`", frame.height, taken["pages"], None),
        _row("raw_partition, nothing decoded before", frame.height, taken["raw"], taken["pages"]),
        _row("baseline: `write_parquet`", frame.height, taken["write"], None),
        _row("Lake.commit: sort, encode, sha256, fsync, manifest, ledger", frame.height, taken["commit"], taken["write"]),
        _row("baseline: `pl.read_parquet`", frame.height, taken["scan"], None),
        _row("Lake.read, already verified by this process", frame.height, taken["read"], taken["scan"]),
    ]


def _raw(workspace: Workspace, day: date) -> pl.DataFrame:
    fresh = Landing(workspace.landing.root, workspace.ledger)
    return raw_partition(TABLE, day, workspace.site, fresh, workspace.ledger)


def _file(workspace: Workspace, day: date) -> Path:
    return workspace.lake.paths(TABLE, [day])[0]


def bench() -> Result:
    """Landing once over HTTP; one production date of telemetry through raw partition and commit, five repetitions."""
    report, first, again = _landing()
    with landed_workspace("ingest-partitions") as workspace:
        rows = _partitions(workspace)
    rates = (report.pages / first.wall, report.records / first.wall, report.bytes / 1e6 / first.wall)
    landing = [
        ("first landing", number(report.pages), number(report.records), *first.columns, *map(number, rates)),
        ("second walk, overlap only", "", "", *again.columns, "", "", ""),
    ]
    return Result(
        "Ingest and lake",
        "Landing takes everything that the embedded plant has for 14 production dates, 10,000 records a page, over loopback; "
        "the plant runs in its own process on the same cores. The stages below it take one production date of telemetry. "
        "Medians of five alternating repetitions; landing once.",
        [
            Figures("landing", ("walk", "pages", "records", "wall s", "CPU s", "pages/s", "records/s", "MB/s"), landing),
            Figures("one production date of telemetry", COLUMNS, rows),
        ],
        f"{report.records / first.wall:,.0f} records a second are landed; {report.records / first.cpu:,.0f} per CPU second.",
    )
