"""One document per work order, worked by hand."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import jsonschema
import polars as pl

from spc_platform.contracts.core import MATERIAL_LINK, WORK_ORDER
from spc_platform.contracts.energy import ENERGY_INTERVAL
from spc_platform.contracts.order_summary import ORDER_SUMMARY
from spc_platform.production.order_summary import OrderRecords, order_summaries
from spc_platform.production.states import state_intervals
from spc_platform.settings import REPOSITORY
from spc_platform_tests.unit.production_site import EARLY, counts, orders, site, states, utc

SCHEMA = json.loads((REPOSITORY / "docs" / "reference" / "erp-summary.schema.json").read_text())
PLANT = site(
    shifts=[EARLY], equipment=[("PLANT", "site", None, ""), ("L1", "work_center", "PLANT", ""), ("CNC", "work_unit", "L1", "")]
)
DAY = date(2026, 3, 10)


def at(hour: int, minute: int = 0) -> datetime:
    return utc(2026, 3, 10, hour, minute)


def energy(*rows: tuple[datetime, datetime, float | None]) -> pl.DataFrame:
    filled = [
        {
            **dict.fromkeys(ENERGY_INTERVAL.names),
            "stream_id": "CNC.energy",
            "equipment_id": "CNC",
            "start_at": start,
            "end_at": end,
            "energy_kwh": kwh,
            "quality": "OK" if kwh is not None else "NO_READING",
            "is_estimated": False,
            "production_date": DAY,
        }
        for start, end, kwh in rows
    ]
    return pl.DataFrame(filled, schema=ENERGY_INTERVAL.schema)


def links(*rows: tuple[str, str, float | None]) -> pl.DataFrame:
    filled = [
        {
            **dict.fromkeys(MATERIAL_LINK.names),
            "parent_id": lot,
            "child_id": f"S{number}",
            "link_type": kind,
            "quantity": quantity,
            "occurred_at": at(7),
            "job_order_id": "O1",
        }
        for number, (lot, kind, quantity) in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=MATERIAL_LINK.schema)


ORDERS = orders(("O1", "P1", at(6), at(9)), ("O2", "P2", at(9)))
COUNTS = counts(("P1", at(7), 5, 1, 0), ("P1", at(8), 4, 0, 2)).with_columns(job_order_id=pl.lit("O1"))
LINKS = links(("LOT2", "consumed", 1.5), ("LOT1", "consumed", 2.0), ("LOT1", "consumed", 0.5), ("LOT3", "assembled", 9.0))
RAN = state_intervals(states(("RUN", at(6)), ("STOP", at(8, 30)), ("RUN", at(9, 30))), ORDERS, PLANT, DAY, utc(2026, 3, 11))
USED = energy((at(6), at(8), 4.0), (at(8), at(10), 2.0), (at(10), at(14), 1.0))


def documents(**changes: pl.DataFrame) -> dict[str, Any]:
    records = OrderRecords(ORDERS, COUNTS, LINKS, RAN, USED)._replace(**changes)
    frame = order_summaries(records, PLANT)
    assert frame.schema == ORDER_SUMMARY.schema
    found = {order: json.loads(document) for order, _, document in frame.iter_rows()}
    for order, status, document in frame.iter_rows():
        jsonschema.Draft202012Validator(SCHEMA).validate(found[order])
        assert list(found[order]) == sorted(found[order])
        assert ": " not in document
        assert found[order]["status"] == status
    return found


def test_a_summary_holds_what_the_order_asked_for_and_what_became_of_it() -> None:
    assert documents()["O1"] == {
        "consumed_material_lots": [{"lot_id": "LOT1", "quantity": 2.5}, {"lot_id": "LOT2", "quantity": 1.5}],
        "end_at": "2026-03-10T09:00:00.000000Z",
        "energy": {"estimated_kwh": 1.0, "is_complete": True, "kwh": 5.0},
        "job_order_id": "O1",
        "material_definition_id": "P1",
        "planned_quantity": 1,
        "quantities": {"good": 9, "produced": 12, "rework": 2, "scrap": 1},
        "schema_version": "1.0",
        "site_id": "test",
        "start_at": "2026-03-10T06:00:00.000000Z",
        "status": "ended",
        "time_elements_s": {"adet": 1800.0, "adot": 0.0, "apt": 9000.0, "aust": 0.0, "pdt": 0.0, "unknown": 0.0},
        "work_center_ids": ["L1"],
    }


def test_time_and_energy_of_a_line_are_shared_out_to_its_orders_without_rest() -> None:
    found = documents()
    assert sum(sum(each["time_elements_s"].values()) for each in found.values()) == 8 * 3600
    assert sum(each["energy"]["kwh"] for each in found.values()) == 7.0
    assert found["O2"]["time_elements_s"]["adet"] == 1800.0


def test_an_order_that_runs_and_made_nothing_says_so_without_inventing_energy() -> None:
    second = documents(energy=energy((at(6), at(9), 3.0), (at(9), at(14), None)))["O2"]
    assert (second["status"], second["end_at"], second["quantities"]["produced"]) == ("running", None, 0)
    assert second["energy"] == {"estimated_kwh": None, "is_complete": False, "kwh": None}
    assert second["consumed_material_lots"] == []
    unmetered = documents(energy=ENERGY_INTERVAL.empty())["O2"]
    assert unmetered["energy"] == second["energy"]


def test_a_lot_with_an_unknown_quantity_has_no_sum() -> None:
    lots = documents(links=links(("LOT1", "consumed", 2.0), ("LOT1", "consumed", None)))["O1"]["consumed_material_lots"]
    assert lots == [{"lot_id": "LOT1", "quantity": None}]


def test_any_order_of_records_gives_the_same_bytes() -> None:
    straight = order_summaries(OrderRecords(ORDERS, COUNTS, LINKS, RAN, USED), PLANT)
    mixed = [each.sample(fraction=1.0, shuffle=True, seed=3) for each in (ORDERS, COUNTS, LINKS, RAN, USED)]
    assert order_summaries(OrderRecords(*mixed), PLANT).equals(straight)


def test_without_orders_there_is_no_summary() -> None:
    assert documents(orders=WORK_ORDER.empty()) == {}
