"""Reconciliation with a real REST peer: what differs is counted, named, landed and, where declared, deleted with care."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.contracts.raw import RAW_MEASUREMENT
from spc_platform.engine.reconcile import dates_to_reconcile, reconcile
from spc_platform.engine.workspace import Workspace
from spc_platform.errors import ContractError, PermanentError
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Lake
from spc_platform.lake.verdicts import Verdicts
from spc_platform.orchestration.assets.reconciliation import _verdict
from spc_platform.prepare.reconcile import absent_records, compare
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources import open_source
from spc_platform_tests.unit.lake_plant import MONDAY, plant_site, raw_measurements
from spc_platform_tests.unit.peer_model import OVERLAP_S, RESOURCE, WINDOWED, Peer, day
from spc_platform_tests.unit.rest_server import Mes, Request, answer, serving

DATES = [day(number) for number in range(3)]
NOW = datetime(2026, 3, 20, tzinfo=UTC)


class Rest:
    """A peer behind HTTP, and the plant that lands it."""

    def __init__(self, root: Path, mes: Mes, peer: Peer, resource: Resource) -> None:
        self.peer = peer
        config = SourceConfig("mes", "rest", (resource,), base_url=mes.url, limits={"retries": 0})
        ledger = Ledger(root / "ledger.sqlite")
        self.plant = Workspace(
            Settings(data=root),
            plant_site(config),
            ledger,
            Landing(root / "landing", ledger),
            Lake(root / "lake", ledger),
            Verdicts(root / "verdicts.sqlite"),
        )
        self.land()
        self.refresh()

    def land(self) -> None:
        plant = self.plant
        land_source(open_source(plant.site.source("mes"), plant.settings), plant.site, plant.landing, plant.ledger)

    def refresh(self) -> list[date]:
        pending = self.plant.ledger.pending()
        for change in pending:
            day_ = change.production_date
            rows = raw_partition("raw_measurement", day_, self.plant.site, self.plant.landing, self.plant.ledger)
            self.plant.lake.commit("raw_measurement", rows, day_)
            self.plant.ledger.mark_applied(day_, change.digest)
        return [change.production_date for change in pending]

    def reconcile(self, **options: Any) -> dict[date, dict[str, Any]]:
        rows = reconcile(self.plant, DATES, NOW, **options)
        return {row["production_date"]: row for row in rows.iter_rows(named=True)}

    def current(self) -> list[str]:
        rows = self.plant.lake.read("raw_measurement").filter("is_current", ~pl.col("is_deleted"))
        return sorted(rows["record_id"])


@pytest.fixture
def rest(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    options = getattr(request, "param", {})
    peer = Peer(resource=replace(options.get("resource", RESOURCE), options={"counts_path": options.get("counts", "")}))
    for number in range(9):
        peer.put(f"r{number}", number % 3, float(number))

    def reply(asked: Request) -> bytes:
        if asked.path == "/counts":
            return answer({"data": options.get("said") or [{"date": f"{day(n)}", "count": 3} for n in range(3)]})
        since = asked.query.get("updated_since")
        rows = [row for row in peer.since(None) if since is None or row["updated_at"] >= since]
        start = int(asked.query.get("cursor", "0"))
        following = start + peer.page_size
        return answer({"data": rows[start:following], "next_cursor": str(following) if following < len(rows) else None})

    with serving(reply) as mes:
        plant = Rest(tmp_path, mes, peer, peer.resource)
        mes.asked.clear()
        plant.mes = mes  # type: ignore[attr-defined]
        yield plant


def test_a_lake_that_holds_what_the_source_holds_is_equal_in_counts_and_checksums(rest: Rest) -> None:
    found = rest.reconcile()
    assert list(found) == DATES
    for row in found.values():
        assert (row["verdict"], row["n_source"], row["n_lake"], row["record_ids"]) == ("equal", 3, 3, None)
        assert row["checksum_source"] == row["checksum_lake"]
    assert rest.refresh() == []
    assert rest.plant.lake.read("reconciliation").height == 3


def test_a_record_that_came_later_than_every_overlap_is_found_named_and_landed(rest: Rest) -> None:
    rest.peer.put("late", 1, 5.0, late_s=OVERLAP_S + 3600)
    rest.peer.put("newer", 2, 1.0)
    row = rest.reconcile()[DATES[1]]
    assert (row["verdict"], row["n_missing"], row["n_extra"], row["record_ids"]) == ("differs", 1, 0, "+late")
    assert row["checksum_source"] != row["checksum_lake"]
    assert rest.refresh() == [DATES[1], DATES[2]]
    assert {row["verdict"] for row in rest.reconcile().values()} == {"equal"}


def test_what_landed_and_was_not_applied_yet_is_pending_and_no_difference(rest: Rest) -> None:
    rest.peer.put("new", 2, 1.0)
    found = rest.reconcile()
    assert [row["verdict"] for row in found.values()] == ["equal", "equal", "pending"]
    assert found[DATES[2]]["record_ids"] == "+new"


def test_a_lake_that_was_altered_differs_and_says_where(rest: Rest) -> None:
    rows = rest.plant.lake.read("raw_measurement", DATES[0])
    altered = rows.filter(pl.col("record_id") != "r0").with_columns(
        value=pl.when(pl.col("record_id") == "r3").then(99.0).otherwise("value")
    )
    rest.plant.lake.commit("raw_measurement", altered, DATES[0])
    row = rest.reconcile()[DATES[0]]
    assert (row["verdict"], row["n_missing"], row["n_different"], row["record_ids"]) == ("differs", 1, 1, "+r0 ~r3")
    check = _verdict(rest.plant.lake.read("reconciliation"))
    assert not check.passed
    assert "+r0 ~r3" in (check.description or "")


@pytest.mark.parametrize("rest", [{"counts": "/counts"}], indirect=True)
def test_a_source_that_counts_is_not_read_again_while_the_counts_agree(rest: Rest) -> None:
    found = rest.reconcile(land=False)
    assert {row["method"] for row in found.values()} == {"counts"}
    assert [asked.path for asked in rest.mes.asked] == ["/counts"]  # type: ignore[attr-defined]
    assert rest.mes.asked[0].query == {"first": "2026-03-02", "last": "2026-03-04"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("rest", [{"counts": "/counts", "said": [{"date": "2026-03-02", "count": 4}]}], indirect=True)
def test_counts_that_disagree_are_followed_by_reading_the_window(rest: Rest) -> None:
    assert {row["method"] for row in rest.reconcile().values()} == {"window"}


@pytest.mark.parametrize("rest", [{"counts": "/counts", "said": [{"day": 1}]}], indirect=True)
def test_counts_of_another_form_are_refused(rest: Rest) -> None:
    with pytest.raises(ContractError, match="SPC-674"):
        rest.reconcile()


def test_without_a_declaration_an_absent_record_is_reported_and_kept(rest: Rest) -> None:
    rest.peer.drop("r4")
    row = rest.reconcile()[DATES[1]]
    assert (row["n_extra"], row["record_ids"], row["is_deletion_applied"]) == (1, "-r4", False)
    assert rest.refresh() == []
    assert "r4" in rest.current()


@pytest.mark.parametrize("rest", [{"resource": WINDOWED}], indirect=True)
def test_where_declared_an_absent_record_is_a_deletion_on_its_date_and_its_return_is_seen(rest: Rest) -> None:
    kept = rest.peer.records["r4"]
    rest.peer.drop("r4")
    assert rest.reconcile()[DATES[1]]["is_deletion_applied"]
    assert rest.refresh() == [DATES[1]]
    assert "r4" not in rest.current()
    gone = rest.plant.lake.read("raw_measurement", DATES[1]).filter(pl.col("record_id") == "r4", "is_current")
    assert gone.select("is_deleted", "decode_note", "value").rows() == [(True, "record:ABSENT_FROM_WINDOW", 4.0)]
    rest.peer.records["r4"] = kept
    rest.reconcile()
    assert rest.refresh() == [DATES[1]]
    assert rest.current() == [f"r{number}" for number in range(9)]


@pytest.mark.parametrize("rest", [{"resource": replace(WINDOWED, least_window_share=0.8)}], indirect=True)
@pytest.mark.parametrize("dropped", [2, 9])
def test_a_window_that_is_suddenly_short_or_empty_is_no_mass_deletion(rest: Rest, dropped: int) -> None:
    for number in range(dropped):
        rest.peer.drop(f"r{number}")
    with pytest.raises(PermanentError, match=rf"SPC-275.*gave {9 - dropped} of 9 known records"):
        rest.reconcile()
    rest.refresh()
    assert len(rest.current()) == 9


def test_the_least_share_is_the_sites_decision() -> None:
    known = raw_measurements(MONDAY, 10)
    seen = known["record_id"].head(8)
    assert absent_records(known, seen, 0.8, "mes")["record_id"].to_list() == ["m-8", "m-9"]
    with pytest.raises(PermanentError, match=r"80.0%.*least share 81.0%"):
        absent_records(known, seen, 0.81, "mes")


def test_checksums_do_not_depend_on_the_order_of_records_nor_on_lineage() -> None:
    rows = raw_measurements(MONDAY, 50)
    other = rows.sample(fraction=1.0, shuffle=True, seed=3).with_columns(page_sha256=pl.lit("f"), page_row=pl.int_range(50))
    row = compare(rows, other, "raw_measurement").row(0, named=True)
    assert row["checksum_source"] == row["checksum_lake"]
    assert compare(rows, rows.with_columns(pl.col("value") + 1e-9), "raw_measurement")["n_different"].item() == 50
    assert compare(rows, rows.clear(), "raw_measurement")["n_missing"].item() == 50
    assert compare(RAW_MEASUREMENT.empty(), RAW_MEASUREMENT.empty(), "raw_measurement").is_empty()


def test_only_dates_that_have_ended_are_compared(rest: Rest) -> None:
    late_evening = datetime(2026, 3, 4, 23, tzinfo=UTC)
    assert dates_to_reconcile(rest.plant, late_evening, 7)[-2:] == DATES[:2]
    assert dates_to_reconcile(rest.plant, late_evening + timedelta(days=30), 2) == DATES[1:]


def test_the_command_names_the_records_and_says_by_its_exit_code_that_they_differ(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "open", classmethod(lambda cls, settings: rest.plant))
    same = CliRunner().invoke(app, ["reconcile", "--first", "2026-03-02", "--last", "2026-03-04"])
    assert (same.exit_code, "3 production dates, 9 records at the sources: 3 equal" in same.output) == (0, True), same.output
    rest.peer.drop("r0")
    other = CliRunner().invoke(app, ["reconcile", "--first", "2026-03-02", "--last", "2026-03-04"])
    assert other.exit_code == 1
    assert "differs: mes raw_measurement 2026-03-02: 2 at the source, 3 in the lake" in other.output
    assert "-r0" in other.output
    unknown = CliRunner().invoke(app, ["reconcile", "--source", "sap"])
    assert "SPC-673" in str(unknown.exception)
