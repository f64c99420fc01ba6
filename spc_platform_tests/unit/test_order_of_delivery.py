"""Records of a source whose deletions have no revision: the state that was delivered last is in force."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.site.loader import _implied
from spc_platform.site.model import Resource
from spc_platform.sources.base import Page
from spc_platform_tests.unit.lake_plant import CONFIG, MEASUREMENTS, MONDAY, RECEIVED, TUESDAY, at, measurement, plant_site

OPTIONS = {"order": "delivery", "deleted": {"path": "@removed"}}
FIELDS = {name: field for name, field in MEASUREMENTS.fields.items() if name != "is_deleted"}
ORDERED = replace(MEASUREMENTS, fields=FIELDS, options=OPTIONS)
SITE = plant_site(replace(CONFIG, resources=(ORDERED,)))
REMOVED = {"id": "a", "@removed": {"reason": "deleted"}}
FIRST = measurement("a", at(MONDAY, 8), 1.0, rev=7)
# The service counts anew for a record that it restored, and it lies on another day.
AGAIN = measurement("a", at(TUESDAY, 9), 2.0, rev=2)
DELIVERIES: list[list[dict[str, Any]]] = [[FIRST], [REMOVED], [AGAIN], [REMOVED], [AGAIN], [FIRST], [REMOVED], [REMOVED, AGAIN]]
IN_FORCE = [[1.0], [], [2.0], [], [2.0], [1.0], [], [2.0]]


class Deliveries:
    """Gives the deliveries of the named numbers, each with the time at which the source gave it."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.config, self.numbers = SITE.sources[0], numbers

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        for number in self.numbers:
            said = json.dumps({"data": DELIVERIES[number], "token": number}).encode()
            yield Page("mes", resource.name, said, f"delta={number}", str(number), RECEIVED + timedelta(hours=number))

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        return None


def raw_after(folder: Path, numbers: Sequence[int]) -> pl.DataFrame:
    ledger = Ledger(folder / "ledger.sqlite")
    landing = Landing(folder / "landing", ledger)
    land_source(Deliveries(numbers), SITE, landing, ledger)
    days = [MONDAY, TUESDAY, RECEIVED.date()]
    return pl.concat(raw_partition("raw_measurement", day, SITE, landing, ledger) for day in days)


def in_force(rows: pl.DataFrame) -> list[float]:
    assert rows["is_current"].sum() == 1, "one state of the record is in force, be it its deletion"
    return rows.filter("is_current", ~pl.col("is_deleted"))["value"].to_list()


@pytest.mark.parametrize("last", range(len(DELIVERIES)))
def test_a_restored_record_is_in_force_until_it_is_removed_again(tmp_path: Path, last: int) -> None:
    assert in_force(raw_after(tmp_path, range(last + 1))) == IN_FORCE[last]


@pytest.mark.parametrize("order", list(permutations(range(5)))[1::9])
def test_the_order_in_which_deliveries_land_does_not_matter(tmp_path: Path, order: tuple[int, ...]) -> None:
    straight, shuffled = raw_after(tmp_path / "straight", range(5)), raw_after(tmp_path / "shuffled", order)
    assert shuffled.equals(straight)
    assert in_force(shuffled) == [2.0]


def test_a_source_that_tracks_changes_is_ordered_by_delivery() -> None:
    assert _implied({"kind": "rest", "pagination": {"delta": True}}) == {"order": "delivery"}
    assert _implied({"kind": "rest", "pagination": {}}) == {}
