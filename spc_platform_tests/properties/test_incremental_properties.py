"""Whatever a peer does and however it is cut into pages, the lake shows what the peer shows, and only touched dates change."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
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

few = settings(max_examples=15, deadline=None, derandomize=True)
TABLE = "raw_measurement"
CONTENT = [name for name in RAW_MEASUREMENT.names if name not in ("page_sha256", "page_row")]
NAMES, DAYS, VALUES = (
    st.sampled_from("abcdef"),
    st.integers(0, 3),
    st.floats(0, 9, allow_nan=False).map(lambda value: round(value, 1)),
)
LATE = st.sampled_from([0.0, 0.0, OVERLAP_S - 60.0])
PUT = st.tuples(st.just("put"), NAMES, DAYS, VALUES, LATE)
FLAG, DROP, LAND = (
    st.tuples(st.just("flag"), NAMES),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("land"), st.integers(1, 5)),
)


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
        for production_date in [day(number) for number in range(4)]:
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
        return reconciling.reconcile(self.plant, [day(number) for number in range(4)], self.peer.now)


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
@given(steps=st.lists(st.one_of(PUT, PUT, FLAG, LAND), min_size=1, max_size=18))
def test_after_any_changes_in_any_batches_the_lake_shows_what_the_peer_shows(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), Peer())
        for step in [*steps, ("land", 2)]:
            do(plant, step)
            if step[0] == "land":
                plant.peer.page_size = step[1]
                plant.land()
                asked, changed = plant.refresh()
                assert asked == changed
                assert plant.view() == plant.peer.truth()


@few
@given(steps=st.lists(st.one_of(PUT, PUT, FLAG, DROP, DROP, LAND), min_size=1, max_size=14), reconciled=st.integers(0, 14))
def test_deletions_without_a_word_are_seen_by_comparing_the_whole_window(steps: list[tuple[Any, ...]], reconciled: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        plant = Plant(Path(folder), Peer(resource=WINDOWED))
        for number, step in enumerate(steps):
            do(plant, step)
            if step[0] == "land":
                plant.land()
                plant.refresh()
            if number == reconciled:
                plant.reconcile(monkeypatch)
                asked, changed = plant.refresh()
                assert asked == changed
                assert plant.view() == plant.peer.truth()
        plant.reconcile(monkeypatch)
        plant.refresh()
        assert plant.view() == plant.peer.truth()
        again = plant.reconcile(monkeypatch)
        assert set(again["verdict"]) == {"equal"}
        assert plant.refresh() == (set(), set())


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
