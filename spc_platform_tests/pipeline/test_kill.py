"""kill -9 at every named point of a commit and of a walk: readers never see a partial file, the next run converges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import zstandard

from spc_platform.errors import LakeError
from spc_platform.lake.files import file_sha256, sha256
from spc_platform.lake.landing import Landing, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Lake
from spc_platform_tests.pipeline.lake_writer import NEW_PAGES, OLD_PAGES, SITE, TABLE, commit, land
from spc_platform_tests.torture.scenarios import COMMIT_POINTS, PAGE_POINTS, WALK_POINTS
from spc_platform_tests.unit.lake_plant import MONDAY, TUESDAY, raw_measurements

LAND_POINTS = (*PAGE_POINTS, *WALK_POINTS)
Kill = Callable[[str, str, Path], int]


@pytest.fixture(scope="module")
def run() -> Iterator[Kill]:
    """Run a writer in a process of its own; gives its exit code (negative: the signal that ended it).

    The next two processes are started ahead, so that their imports overlap with the checks.
    """
    command = [sys.executable, "-m", "spc_platform_tests.pipeline.lake_writer"]
    waiting: deque[subprocess.Popen[str]] = deque()

    def run_writer(writer: str, point: str, root: Path) -> int:
        while len(waiting) < 3:
            waiting.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True))
        process = waiting.popleft()
        process.communicate(json.dumps([writer, point, str(root)]) + "\n", timeout=120)
        return process.returncode

    yield run_writer
    for process in waiting:
        process.kill()
        process.communicate()


def lake_violations(root: Path) -> list[str]:
    """What a reader would suffer: neither the whole old nor the whole new partition, or a partial file under a data name."""
    violations = []
    old, new = (raw_measurements(MONDAY, 50, shift) for shift in (0.0, 1.0))
    try:
        seen = Lake(root / "lake").read(TABLE, MONDAY)
        if not (seen.equals(old) or seen.equals(new)):
            violations.append("read neither the old nor the new rows")
    except LakeError as error:
        violations.append(str(error))
    files = (root / "lake").rglob("*.parquet")
    violations.extend(f"{path.name} is partial" for path in files if file_sha256(path) != path.stem)
    return violations


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_commit_killed_anywhere_leaves_the_old_or_the_new_partition(run: Kill, tmp_path: Path, point: str) -> None:
    commit(tmp_path, shift=0.0)
    assert run("commit", point, tmp_path) == -signal.SIGKILL
    assert lake_violations(tmp_path) == []

    done = commit(tmp_path)
    lake = Lake(tmp_path / "lake")
    assert lake.read(TABLE, MONDAY).equals(raw_measurements(MONDAY, 50, 1.0))
    assert Ledger(tmp_path / "ledger.sqlite").commits(TABLE)["sha256"].to_list()[-1] == done.sha256
    lake.sweep(0)
    assert list((tmp_path / "lake").rglob("*.parquet")) == [done.path]
    assert not list((tmp_path / "lake").rglob(".tmp-*"))
    assert lake_violations(tmp_path) == []


@pytest.mark.parametrize(
    ("writer", "point"), [("commit_in_place", "parquet:half-written"), ("commit_manifest_first", "named-too-early")]
)
def test_a_broken_commit_is_caught_by_the_same_harness(run: Kill, tmp_path: Path, writer: str, point: str) -> None:
    commit(tmp_path, shift=0.0)
    assert run(writer, point, tmp_path) == -signal.SIGKILL
    assert lake_violations(tmp_path) != []


def landed_rows(root: Path) -> pl.DataFrame:
    ledger = Ledger(root / "ledger.sqlite")
    landing = Landing(root / "landing", ledger)
    return pl.concat([raw_partition(TABLE, day, SITE, landing, ledger) for day in (MONDAY, TUESDAY)])


def pending(root: Path) -> list[date]:
    return [change.production_date for change in Ledger(root / "ledger.sqlite").pending()]


def landing_violations(root: Path) -> list[str]:
    """What a killed walk must not leave: a watermark past records that did not land, or a ledger row without its page."""
    violations = []
    ledger = Ledger(root / "ledger.sqlite")
    landing = Landing(root / "landing", ledger)
    try:
        known = {(row["record_id"], row["revision"]) for row in landed_rows(root).iter_rows(named=True)}
    except LakeError as error:
        return [str(error)]
    is_past = (ledger.watermark("mes", "measurements") or "") >= "2026-03-03T10"
    if is_past and not {("a", 2), ("c", 1)} <= known:
        violations.append("the watermark passed records that never landed")
    files = landing.root.rglob("*.zst")
    violations.extend(f"{path.name} is partial" for path in files if not landing_is_whole(path))
    return violations


def landing_is_whole(path: Path) -> bool:
    page = {sha256(page): page for page in (*OLD_PAGES, *NEW_PAGES)}[path.stem]
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()) == page


@pytest.mark.parametrize("point", LAND_POINTS)
def test_a_walk_killed_anywhere_loses_nothing_and_the_next_one_converges(run: Kill, tmp_path: Path, point: str) -> None:
    root, straight = tmp_path / "killed", tmp_path / "straight"
    for place in (root, straight):
        land(place, pages=OLD_PAGES)
    assert run("land", point, root) == -signal.SIGKILL
    assert landing_violations(root) == []

    land(root)
    land(straight)
    assert landed_rows(root).equals(landed_rows(straight))
    assert pending(root) == pending(straight) == [MONDAY, TUESDAY]
    for day in (MONDAY, TUESDAY):
        assert Ledger(root / "ledger.sqlite").change_digest(day) == Ledger(straight / "ledger.sqlite").change_digest(day)
    assert Ledger(root / "ledger.sqlite").watermark("mes", "measurements") == "2026-03-03T10:00:00.000000Z"
    Landing(root / "landing", Ledger(root / "ledger.sqlite")).sweep(0)
    assert not list(root.rglob(".tmp-*"))


def test_a_watermark_that_moves_first_is_caught_by_the_same_harness(run: Kill, tmp_path: Path) -> None:
    land(tmp_path, pages=OLD_PAGES)
    assert run("land_watermark_first", "page:durable", tmp_path) == -signal.SIGKILL
    assert landing_violations(tmp_path) == ["the watermark passed records that never landed"]


def test_every_step_of_a_commit_and_of_a_walk_is_killed_once(tmp_path: Path) -> None:
    steps: list[str] = []
    commit(tmp_path, steps.append)
    land(tmp_path, steps.append)
    assert set(steps) == {*COMMIT_POINTS, *LAND_POINTS}
