"""Whatever a peer does and however it is cut into pages, the lake shows what the peer shows, and only touched dates change."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spc_platform.contracts.raw import RAW_MEASUREMENT
from spc_platform.engine import reconcile as reconciling
from spc_platform.engine.workspace import Workspace
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Lake
from spc_platform.lake.verdicts import Verdicts
from spc_platform.settings import Settings
from spc_platform_tests.unit.lake_plant import plant_site
from spc_platform_tests.unit.peer_model import OVERLAP_S, RESOURCE, WINDOWED, Peer, day

few = settings(max_examples=5, deadline=None, derandomize=True)
TABLE = "raw_measurement"
CONTENT = [name for name in RAW_MEASUREMENT.names if name not in ("page_sha256", "page_row")]
DAYS = 3
NAMES, VALUES = st.sampled_from("abc"), st.integers(0, 3).map(float)
LATE = st.sampled_from([0.0, 0.0, OVERLAP_S - 300.0])
PUT = st.tuples(st.just("put"), NAMES, st.integers(0, DAYS - 1), VALUES, LATE)
FLAG, DROP = st.tuples(st.just("flag"), NAMES), st.tuples(st.just("drop"), NAMES)


def rounds(*changes: st.SearchStrategy[tuple[Any, ...]]) -> st.SearchStrategy[list[tuple[int, list[tuple[Any, ...]]]]]:
    """What happens between landings, and how many records the pages of each landing hold."""
    return st.lists(st.tuples(st.integers(1, 4), st.lists(st.one_of(*changes), min_size=1, max_size=3)), min_size=2, max_size=3)


class Plant:
    """A lake that follows one peer: every landing, then every pending date made from landed pages and committed."""

    def __init__(self, root: Path, peer: Peer) -> None:
        self.peer = peer
        ledger = Ledger(root / "ledger.sqlite")
        site = plant_site(peer.config)
        self.plant = Workspace(
            Settings(data=root),
            site,
            ledger,
            Landing(root / "landing", ledger),
            Lake(root / "lake", ledger),
            Verdicts(root / "verdicts.sqlite"),
        )

    def land(self) -> None:
        land_source(self.peer, self.plant.site, self.plant.landing, self.plant.ledger)

    def refresh(self) -> tuple[set[date], set[date]]:
        """(dates that were asked for, dates whose rows are other than before)."""
        asked = {change.production_date: change.digest for change in self.plant.ledger.pending()}
        changed = set()
        for production_date in [day(number) for number in range(DAYS)]:
            rows = raw_partition(TABLE, production_date, self.plant.site, self.plant.landing, self.plant.ledger)
            before = self.plant.lake.read(TABLE, production_date)
            if not rows.select(CONTENT).sort(CONTENT).equals(before.select(CONTENT).sort(CONTENT)):
                changed.add(production_date)
            if production_date in asked:
                self.plant.lake.commit(TABLE, rows, production_date)
        for production_date, digest in asked.items():
            self.plant.ledger.mark_applied(production_date, digest)
        return set(asked), changed

    def view(self) -> dict[str, tuple[str, float]]:
        """What the lake holds in force."""
        rows = self.plant.lake.read(TABLE).filter("is_current", ~pl.col("is_deleted"))
        assert rows["record_id"].is_unique().all()
        said = pl.col("measured_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
        return {name: (at, value) for name, at, value in rows.select("record_id", said, "value").iter_rows()}

    def reconcile(self, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
        monkeypatch.setattr(reconciling, "open_source", lambda config, settings: self.peer)
        self.peer.now += timedelta(minutes=1)
        return reconciling.reconcile(self.plant, [day(number) for number in range(DAYS)], self.peer.now)


def do(plant: Plant, step: tuple[Any, ...]) -> None:
    kind, *given_ = step
    if kind == "put":
        name, number, value, late_s = given_
        plant.peer.put(name, number, value, late_s=late_s)
    elif kind == "flag":
        plant.peer.flag_deleted(*given_)
    elif kind == "drop":
        plant.peer.drop(*given_)


@few
@given(history=rounds(PUT, PUT, PUT, FLAG))
@example(history=[(1, [("put", "a", 0, 1.0, 0.0)]), (2, [("put", "a", 1, 1.0, 0.0)]), (1, [("flag", "a")])])
def test_after_any_changes_in_any_batches_the_lake_shows_what_the_peer_shows(history: list[tuple[int, list[Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), Peer())
        for page_size, changes in history:
            for change in changes:
                do(plant, change)
            plant.peer.page_size = page_size
            plant.land()
            asked, changed = plant.refresh()
            assert asked == changed
            assert plant.view() == plant.peer.truth()


@few
@given(history=rounds(PUT, PUT, FLAG, DROP))
@example(history=[(1, [("put", "a", 0, 1.0, 0.0), ("put", "b", 0, 1.0, 0.0)]), (2, [("drop", "a")])])
def test_deletions_without_a_word_are_seen_by_comparing_the_whole_window(history: list[tuple[int, list[Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        plant = Plant(Path(folder), Peer(resource=WINDOWED))
        for page_size, changes in history:
            for change in changes:
                do(plant, change)
            plant.peer.page_size = page_size
            plant.land()
            plant.refresh()
            plant.reconcile(monkeypatch)
            asked, changed = plant.refresh()
            assert asked == changed
            assert plant.view() == plant.peer.truth()
        assert set(plant.reconcile(monkeypatch)["verdict"]) <= {"equal"}
        assert plant.refresh() == (set(), set())


@few
@given(before=rounds(PUT), gone=st.sets(NAMES), after=rounds(PUT, DROP))
@example(before=[(1, [("put", "a", 0, 1.0, 0.0)])], gone={"a"}, after=[(1, [("drop", "a")])])
def test_a_record_that_vanished_and_returned_unchanged_is_in_force_again(
    before: list[tuple[int, list[Any]]], gone: set[str], after: list[tuple[int, list[Any]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        plant = Plant(Path(folder), Peer(resource=WINDOWED))
        for _, changes in before:
            for change in changes:
                do(plant, change)
        plant.land()
        kept = {name: plant.peer.records[name] for name in gone & set(plant.peer.records)}
        for name in gone:
            plant.peer.drop(name)
        for returned in ({}, kept):
            plant.peer.records.update(returned)
            plant.reconcile(monkeypatch)
            plant.refresh()
            assert plant.view() == plant.peer.truth()
        for _, changes in after[:1]:
            for change in changes:
                do(plant, change)
        plant.reconcile(monkeypatch)
        plant.refresh()
        assert plant.view() == plant.peer.truth()


def test_the_watermark_is_asked_again_with_its_overlap() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), Peer(resource=RESOURCE))
        plant.peer.put("a", 0, 1.0)
        plant.land()
        plant.peer.put("late", 1, 2.0, late_s=OVERLAP_S + 30)
        plant.land()
        plant.peer.put("later", 1, 2.0, late_s=OVERLAP_S + 300)
        plant.land()
        plant.refresh()
        assert set(plant.view()) == {"a", "late"}, "a record later than the overlap is not seen by landing alone"
