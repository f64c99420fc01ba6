"""Rebuilding the ledger: the same knowledge from the same pages, other dates after the production day changed, never half."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import date, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.ledger_rebuild import rebuild_ledger
from spc_platform.site.model import Site
from spc_platform_tests.unit.lake_plant import (
    CONFIG,
    MEASUREMENTS,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    ScriptedSource,
    at,
    body,
    measurement,
    plant_site,
    telemetry,
)

SITE = plant_site()
LATER = replace(SITE, day_start=time(10))
PAGES: list[bytes | Exception] = [
    body(measurement("a", at(MONDAY, 8)), measurement("b", at(TUESDAY, 6)), measurement("c", at(TUESDAY, 12))),
    body(measurement("a", at(TUESDAY, 8), rev=2), measurement("b", at(TUESDAY, 6), value=3.0, rev=2)),
    body(measurement("a", at(TUESDAY, 8), rev=2), measurement("d", None, updated_at=None)),
]
SIGNALS: list[bytes | Exception] = [
    body(*(telemetry(f"t{n}", at(MONDAY, n)) for n in range(6, 20))),
    body(*(telemetry(f"t{n}", at(MONDAY, n)) for n in range(15, 24)), telemetry("u", at(TUESDAY, 3))),
]
TABLES = (
    "batch",
    "page",
    "page_date",
    "stream",
    "change",
    "applied",
    "watermark",
    "source",
    "record",
    "superseded",
    "page_hashes",
)


def land(root: Path, site: Site = SITE) -> tuple[Landing, Ledger]:
    ledger = Ledger(root / "ledger.sqlite")
    landing = Landing(root / "landing", ledger)
    land_source(ScriptedSource({"measurements": PAGES, "telemetry": SIGNALS}), site, landing, ledger)
    return landing, ledger


def contents(ledger: Ledger) -> dict[str, list[Any]]:
    connection = sqlite3.connect(ledger.path)
    try:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in TABLES}
    finally:
        connection.close()


def apply_all(ledger: Ledger) -> None:
    for pending in ledger.pending():
        ledger.mark_applied(pending.production_date, pending.digest)


def test_rebuilding_gives_the_identical_ledger_and_touches_no_date(tmp_path: Path) -> None:
    landing, ledger = land(tmp_path)
    apply_all(ledger)
    before = contents(ledger)
    done = rebuild_ledger(SITE, landing, ledger)
    assert contents(ledger) == before
    assert (done.pages, done.records, done.changed) == (5, 31, ())
    assert ledger.pending() == []
    assert sorted(path.name for path in tmp_path.iterdir() if "rebuild" in path.name) == []


def test_a_page_that_could_not_be_read_is_read_once_the_site_says_how(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)
    with pytest.raises(ContractError):
        land_source(
            ScriptedSource({"measurements": [b'{"rows": [' + body(measurement("a", at(MONDAY, 8)))[10:-20]]}),
            SITE,
            landing,
            ledger,
        )
    good = replace(SITE, sources=(replace(CONFIG, resources=(replace(MEASUREMENTS, records="rows"),)),))
    with pytest.raises(ContractError):
        land_source(ScriptedSource({"measurements": [b'{"rows": []}']}), SITE, landing, ledger)
    assert ledger.status()["unreadable_pages"].item() == 2
    done = rebuild_ledger(good, landing, ledger)
    assert (done.pages, done.unreadable_pages) == (2, 1)


def test_another_start_of_the_production_day_is_refused_until_the_ledger_is_rebuilt(tmp_path: Path) -> None:
    landing, ledger = land(tmp_path)
    apply_all(ledger)
    with pytest.raises(LakeError, match=r"SPC-520.*from 06:00.*from 10:00.*spc ledger rebuild"):
        land_source(ScriptedSource({}), LATER, landing, ledger)
    with pytest.raises(LakeError, match="SPC-520"):
        raw_partition("raw_measurement", MONDAY, LATER, landing, ledger)
    done = rebuild_ledger(LATER, landing, ledger)
    assert {day.production_date for day in ledger.pending()} == set(done.changed)
    land_source(ScriptedSource({}), LATER, landing, ledger)


def test_after_the_day_changed_the_ledger_is_the_one_that_landing_with_the_new_day_gives(tmp_path: Path) -> None:
    landing, ledger = land(tmp_path / "old")
    fresh_landing, fresh = land(tmp_path / "new", LATER)
    rebuild_ledger(LATER, landing, ledger)
    now, then = contents(ledger), contents(fresh)
    derived = ("page_date", "stream", "record", "superseded", "page_hashes")
    assert {table: now[table] for table in derived} == {table: then[table] for table in derived}
    for day in fresh.touched_dates():
        for table in ("raw_measurement", "raw_telemetry"):
            expected = raw_partition(table, day, LATER, fresh_landing, fresh)
            assert_frame_equal(raw_partition(table, day, LATER, landing, ledger), expected, check_exact=True)


def test_a_date_that_loses_its_last_record_is_made_once_more_without_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)
    land_source(ScriptedSource({"measurements": [body(measurement("early", at(WEDNESDAY, 6)))]}), SITE, landing, ledger)
    apply_all(ledger)
    rebuild_ledger(LATER, landing, ledger)
    assert [change.production_date for change in ledger.pending()] == [TUESDAY, WEDNESDAY]
    assert raw_partition("raw_measurement", WEDNESDAY, LATER, landing, ledger).is_empty()
    assert raw_partition("raw_measurement", TUESDAY, LATER, landing, ledger)["record_id"].to_list() == ["early"]
    apply_all(ledger)
    assert rebuild_ledger(LATER, landing, ledger).changed == ()
    assert ledger.pending() == []


def test_a_missing_page_stops_the_rebuild_and_leaves_the_ledger(tmp_path: Path) -> None:
    landing, ledger = land(tmp_path)
    before = contents(ledger)
    [page, *_] = ledger.pages("raw_measurement", TUESDAY)
    landing.path("mes", page.sha256).unlink()
    with pytest.raises(LakeError, match="SPC-501"):
        rebuild_ledger(LATER, landing, ledger)
    assert contents(ledger) == before


@pytest.mark.parametrize("point", ["rebuild:page", "rebuild:built", "rebuild:emptied", "rebuild:filled", "rebuild:taken-over"])
def test_a_rebuild_killed_at_any_point_leaves_the_old_ledger_or_the_new_one(tmp_path: Path, point: str) -> None:
    landing, ledger = land(tmp_path / "plant")
    before = contents(ledger)
    script = (
        "import os, signal, sys; from pathlib import Path; from spc_platform_tests.unit.test_ledger_rebuild import *\n"
        "root, point = Path(sys.argv[1]), sys.argv[2]\n"
        "ledger = Ledger(root / 'ledger.sqlite')\n"
        "def kill(at):\n"
        "    if at == point: os.kill(os.getpid(), signal.SIGKILL)\n"
        "rebuild_ledger(LATER, Landing(root / 'landing', ledger), ledger, checkpoint=kill)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path / "plant"), point], check=False)
    assert died.returncode == -signal.SIGKILL
    after = contents(ledger)
    _, fresh = land(tmp_path / "fresh", LATER)
    new = contents(fresh)["page_date"]
    assert after["page_date"] == (new if point == "rebuild:taken-over" else before["page_date"])
    rebuild_ledger(LATER, landing, ledger)
    assert contents(ledger)["page_date"] == new


def test_the_raw_table_after_a_rebuild_holds_every_record_once(tmp_path: Path) -> None:
    landing, ledger = land(tmp_path)
    rebuild_ledger(LATER, landing, ledger)
    days: list[date] = ledger.touched_dates()
    raw = pl.concat(raw_partition("raw_telemetry", day, LATER, landing, ledger) for day in days)
    assert sorted(raw["record_id"]) == sorted({*(f"t{n}" for n in range(6, 24)), "u"})
