"""The ledger: transactions per page, change digests, several processes and threads."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from spc_platform.errors import LakeError
from spc_platform.lake.ledger import LandedPage, Ledger, PageOutcome
from spc_platform.lake.record_index import NEVER, RECORDS

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
DAY = {MONDAY: (MONDAY - date(1970, 1, 1)).days, TUESDAY: (TUESDAY - date(1970, 1, 1)).days}
NOW = datetime(2026, 3, 5, tzinfo=UTC)


def records(*rows: tuple[str, int, date], updated_at: int = NEVER) -> pl.DataFrame:
    columns = [
        (name, revision, hash((name, revision, DAY[day])) >> 2, updated_at, updated_at, DAY[day] * 86_400_000_000, DAY[day])
        for name, revision, day in rows
    ]
    return pl.DataFrame(columns, schema=RECORDS, orient="row")


def landed(digest: str, source_id: str = "mes") -> LandedPage:
    return LandedPage(source_id, "measurements", digest, "origin", "1", 10, NOW)


def land(ledger: Ledger, digest: str, frame: pl.DataFrame, *, mutable: bool = True) -> PageOutcome:
    batch = ledger.open_batch("mes", "measurements")
    outcome = ledger.land_page(batch, landed(digest), {"raw_measurement": frame}, mutable=mutable)
    ledger.close_batch(batch, digest)
    return outcome


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_a_change_is_pending_until_its_digest_is_applied(ledger: Ledger) -> None:
    assert ledger.change_digest(MONDAY) == ""
    land(ledger, "p1", records(("a", 1, MONDAY), ("b", 1, MONDAY), ("c", 1, TUESDAY)))
    [first, second] = ledger.pending()
    assert (first.production_date, first.n_pages, first.n_records) == (MONDAY, 1, 2)
    assert (second.production_date, second.n_records) == (TUESDAY, 1)
    ledger.mark_applied(MONDAY, first.digest)
    assert [pending.production_date for pending in ledger.pending()] == [TUESDAY]
    assert ledger.touched_dates() == [MONDAY, TUESDAY]


def test_a_page_that_lands_while_a_date_is_built_stays_pending(ledger: Ledger) -> None:
    land(ledger, "p1", records(("a", 1, MONDAY)))
    digest = ledger.change_digest(MONDAY)
    land(ledger, "p2", records(("b", 1, MONDAY)))
    ledger.mark_applied(MONDAY, digest)
    assert [pending.production_date for pending in ledger.pending()] == [MONDAY]


def test_the_digest_is_that_of_the_set_of_pages(tmp_path: Path) -> None:
    pages = {f"p{n}": records((f"r{n}", 1, MONDAY)) for n in range(5)}
    straight, reverse = Ledger(tmp_path / "a.sqlite"), Ledger(tmp_path / "b.sqlite")
    for digest in pages:
        land(straight, digest, pages[digest])
    for digest in reversed(pages):
        land(reverse, digest, pages[digest])
    assert straight.change_digest(MONDAY) == reverse.change_digest(MONDAY)
    land(reverse, "p5", records(("r5", 1, MONDAY)))
    assert straight.change_digest(MONDAY) != reverse.change_digest(MONDAY)


def test_pages_of_equal_bytes_from_two_files_are_two_and_a_refused_one_is_forgotten_alone(ledger: Ledger) -> None:
    first, second = (replace(landed("p1"), origin=name) for name in ("monday.txt", "tuesday.txt"))
    batch = ledger.open_batch("mes", "measurements")
    for page in (first, second, second):
        ledger.refuse_page(batch, page, "no table")
    ledger.close_batch(batch, None, error="no table")
    assert ledger.status()["unreadable_pages"].to_list() == [2]
    ledger.land_page(batch, second, {"raw_measurement": records(("b", 1, TUESDAY))}, mutable=True)
    assert ledger.status().select("pages", "unreadable_pages").rows() == [(2, 1)]
    assert ledger.known_page(first) is None
    ledger.land_page(batch, first, {"raw_measurement": records(("a", 1, MONDAY), ("c", 1, TUESDAY))}, mutable=True)
    assert [page.origin for page in ledger.pages("raw_measurement", TUESDAY)] == ["monday.txt", "tuesday.txt"]
    assert [page.origin for page in ledger.pages("raw_measurement", MONDAY)] == ["monday.txt"]
    assert ledger.sources_of("p1") == [("mes", 10)]
    assert {pending.production_date: pending.n_pages for pending in ledger.pending()} == {MONDAY: 1, TUESDAY: 2}


def test_a_failed_page_leaves_nothing(ledger: Ledger) -> None:
    def fail(step: str) -> None:
        if step == "page:entered":
            raise RuntimeError(step)

    batch = ledger.open_batch("mes", "measurements")
    with pytest.raises(RuntimeError):
        ledger.land_page(batch, landed("p1"), {"raw_measurement": records(("a", 1, MONDAY))}, mutable=True, checkpoint=fail)
    assert ledger.known_page(landed("p1")) is None
    assert (ledger.pending(), ledger.pages("raw_measurement", MONDAY)) == ([], [])
    assert land(ledger, "p1", records(("a", 1, MONDAY))).n_new == 1


def test_a_failed_batch_leaves_the_watermark_and_notes_the_error(ledger: Ledger) -> None:
    ledger.close_batch(ledger.open_batch("mes", "measurements"), "10")
    ledger.close_batch(ledger.open_batch("mes", "measurements"), "20", error="breaker open")
    assert ledger.watermark("mes", "measurements") == "10"
    [status] = ledger.status().to_dicts()
    assert status["last_error"] == "breaker open"
    assert status["last_success_at"] <= status["last_error_at"]


def test_superseded_rows_are_those_of_the_date_that_a_move_left(ledger: Ledger) -> None:
    land(ledger, "p1", records(("a", 1, MONDAY), ("b", 1, MONDAY), updated_at=5))
    land(ledger, "p2", records(("a", 2, TUESDAY), ("b", 2, MONDAY)))
    assert ledger.superseded("raw_measurement", MONDAY).drop("updated_at").rows() == [("mes", "a", 1)]
    assert ledger.superseded("raw_measurement", TUESDAY).is_empty()
    assert ledger.superseded("raw_telemetry", MONDAY).is_empty()


def test_pages_that_only_take_records_away_change_the_date_but_are_not_read_for_it(ledger: Ledger) -> None:
    land(ledger, "p1", records(("a", 1, MONDAY)))
    before = ledger.change_digest(MONDAY)
    land(ledger, "p2", records(("a", 2, TUESDAY)))
    assert ledger.change_digest(MONDAY) != before
    assert [page.sha256 for page in ledger.pages("raw_measurement", MONDAY)] == ["p1"]


def test_commits_are_a_history_without_repeats(ledger: Ledger) -> None:
    for digest in ("x", "x", "y", "x"):
        ledger.record_commit("measurement", MONDAY, digest, 3)
    ledger.record_commit("spc_limits", None, "z", 1)
    assert ledger.commits("measurement").select("production_date", "sha256").rows() == [(MONDAY, name) for name in "xyx"]
    assert ledger.commits("spc_limits")["production_date"].to_list() == [None]


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda n: land(ledger, f"p{n}", records((f"r{n}", 1, MONDAY))), range(40)))
    assert sum(outcome.n_new for outcome in outcomes) == 40
    assert (ledger.pending()[0].n_pages, ledger.pending()[0].n_records) == (40, 40)


def test_two_processes_create_and_fill_one_ledger(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from spc_platform_tests.unit.test_ledger import *\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for n in range(15): land(ledger, f'{sys.argv[2]}-{n}', records((f'{sys.argv[2]}-{n}', 1, MONDAY)))"
    )
    path = tmp_path / "ledger.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert Ledger(path).pending()[0].n_pages == 30


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LakeError, match="version 99"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at " * 50)
    with pytest.raises(LakeError, match=r"cannot be used: file is not a database.*backup"):
        Ledger(path)


@pytest.mark.parametrize("mutable", [True, False])
def test_a_page_of_100_000_records_is_entered_whole(ledger: Ledger, *, mutable: bool) -> None:
    n = 100_000
    frame = pl.DataFrame({"i": pl.int_range(n, eager=True)}).select(
        record_id=pl.format("record-{}", (pl.col("i") * 7919) % n),
        revision=pl.lit(1),
        content_hash=pl.col("i") * 977,
        updated_at=pl.col("i"),
        stated_at=pl.col("i"),
        event_at=pl.col("i"),
        production_date=pl.lit(DAY[MONDAY]),
    )
    outcome = land(ledger, "big", frame, mutable=mutable)
    assert (outcome.n_new, outcome.touched) == (n, (MONDAY,))
    assert land(ledger, "again", frame.reverse().head(n // 2), mutable=mutable).n_new == 0


def test_a_full_disk_is_a_clear_error_and_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    land(ledger, "p1", records(("a", 1, MONDAY)))
    connection = ledger._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LakeError, match=r"database or disk is full.*free space"):
        land(ledger, "p2", records(*((f"record-{n}", 1, TUESDAY) for n in range(5000))))
    connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.touched_dates() == [MONDAY]
    assert land(ledger, "p2", records(("b", 1, TUESDAY))).n_new == 1
