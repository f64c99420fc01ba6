"""Work orders by hand: lifecycle, quantities at the last operation, lateness, and events that are wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.operations import WORK_ORDER_EVENT_PAYLOAD
from spc_platform.contracts.orders import WORK_ORDER_STATUS
from spc_platform.contracts.production import DOWNTIME_EVENT
from spc_platform.contracts.validate import rule_failures
from spc_platform.production.work_orders import STAGE, STATE_AFTER, TRANSITIONS, work_order_status
from spc_platform_tests.unit.production_site import counts, utc

POINTS = pl.DataFrame({"material_definition_id": ["P"], "equipment_id": ["PRESS"]})
SCHEMA = {column.name: column.dtype for column in WORK_ORDER_EVENT_PAYLOAD}


def at(clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return utc(2026, 1, 5, hour, minute)


def events(*rows: tuple[str, str], order: str = "W1", planned: float | None = 100.0, due: str | None = "12:00") -> pl.DataFrame:
    said = {
        "work_center_id": "L1",
        "material_definition_id": "P",
        "planned_quantity": planned,
        "due_at": at(due) if due else None,
    }
    filled = [
        {**dict.fromkeys(SCHEMA), "job_order_id": order, "event_type": kind, "occurred_at": at(clock)}
        | (said if number == 0 else {})
        for number, (kind, clock) in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=SCHEMA)


def made(*rows: tuple[str, str, int, int, int], order: str = "W1") -> pl.DataFrame:
    frames = [counts(("P", at(clock), good, scrap, rework), unit=unit) for unit, clock, good, scrap, rework in rows]
    return pl.concat([counts(), *frames]).with_columns(job_order_id=pl.lit(order))


def stops(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    named = [
        {"equipment_id": unit, "start_at": at(start), "end_at": at(end), "stop_class": kind} for unit, start, end, kind in rows
    ]
    return pl.DataFrame(
        named, schema={name: DOWNTIME_EVENT.schema[name] for name in ("equipment_id", "start_at", "end_at", "stop_class")}
    )


def status(
    log: pl.DataFrame, production: pl.DataFrame | None = None, downtime: pl.DataFrame | None = None, as_of: str = "20:00"
) -> dict[str, Any]:
    frame = work_order_status(
        log, made() if production is None else production, stops() if downtime is None else downtime, POINTS, at(as_of)
    )
    assert frame.schema == WORK_ORDER_STATUS.schema
    assert not rule_failures(WORK_ORDER_STATUS, frame)
    return frame.row(0, named=True)


LIFE = [
    ("released", "06:00"),
    ("started", "07:00"),
    ("paused", "09:00"),
    ("resumed", "09:30"),
    ("completed", "13:00"),
    ("closed", "15:00"),
]


def test_the_life_of_an_order() -> None:
    """Six hours on the line of which half an hour paused; one hour late on a due time of 12:00."""
    production = made(("CNC", "08:00", 100, 3, 0), ("PRESS", "08:10", 90, 4, 3))
    found = status(
        events(*LIFE),
        production,
        stops(
            ("PRESS", "06:30", "07:10", "breakdown"),
            ("PRESS", "10:00", "10:05", "micro_stop"),
            ("CNC", "08:00", "09:00", "breakdown"),
            ("PRESS", "11:00", "11:30", "planned"),
        ),
    )
    expected = {
        "state": "closed", "released_at": at("06:00"), "started_at": at("07:00"), "completed_at": at("13:00"),
        "closed_at": at("15:00"), "paused_s": 1800.0, "wait_s": 3600.0, "run_s": 5.5 * 3600, "stop_s": 900.0,
        "lead_time_s": 7 * 3600.0, "lateness_s": 3600.0, "is_late": True, "planned_quantity": 100.0, "produced": 97, "good": 90,
        "scrap": 4, "rework": 3, "upstream_scrap": 3, "yield_ratio": 90 / 97, "rolled_yield_ratio": 90 / 100, "n_events": 6,
        "data_quality": None,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_an_order_that_still_runs_is_measured_until_as_of() -> None:
    found = status(events(*LIFE[:3]), as_of="11:00")
    assert (found["state"], found["paused_s"], found["run_s"]) == ("paused", 7200.0, 7200.0)
    assert (found["lateness_s"], found["is_late"], found["lead_time_s"]) == (-3600.0, False, None)
    assert found["yield_ratio"] is None


def test_events_after_as_of_are_not_known_yet() -> None:
    assert status(events(*LIFE), as_of="08:00")["state"] == "running"


def test_order_of_delivery_and_repeated_events_change_nothing_but_the_remark() -> None:
    plain = status(events(*LIFE))
    log = events(*LIFE)
    twice = pl.concat([log, log.filter(pl.col("event_type") == "started")])
    shuffled = twice.sample(fraction=1.0, shuffle=True, seed=5)
    found = status(shuffled)
    assert found == plain | {"n_events": 7, "data_quality": "REPEATED:started"}
    again = work_order_status(twice, made(), stops(), POINTS, at("20:00"))
    assert again.equals(work_order_status(shuffled, made(), stops(), POINTS, at("20:00")))


def test_a_missing_start_is_the_first_count() -> None:
    found = status(events(LIFE[0], LIFE[4]), made(("CNC", "08:00", 1, 0, 0), ("PRESS", "08:30", 1, 0, 0)))
    assert (found["state"], found["started_at"], found["wait_s"]) == ("completed", at("08:00"), 7200.0)
    assert found["data_quality"] == "ILLEGAL:released>completed;MISSING:started"


def test_an_event_that_leads_back_is_named_and_changes_nothing() -> None:
    found = status(events(*LIFE, ("started", "16:00")))
    assert (found["state"], found["run_s"]) == ("closed", 5.5 * 3600)
    assert found["data_quality"] == "ILLEGAL:closed>started"


def test_a_completed_order_cannot_be_cancelled() -> None:
    found = status(events(*LIFE[:5], ("cancelled", "14:00")))
    assert (found["state"], found["cancelled_at"], found["lateness_s"]) == ("completed", None, 3600.0)
    assert found["data_quality"] == "ILLEGAL:completed>cancelled"


def test_a_pause_that_was_never_begun_is_named() -> None:
    found = status(events(*LIFE[:2], LIFE[3], *LIFE[4:]))
    assert (found["paused_s"], found["data_quality"]) == (0.0, "ILLEGAL:running>resumed")


def test_a_cancelled_order_is_not_late() -> None:
    found = status(events(*LIFE[:2], ("cancelled", "14:00")))
    assert (found["state"], found["lateness_s"], found["is_late"], found["lead_time_s"]) == ("cancelled", None, False, None)
    assert found["run_s"] == 7 * 3600.0


def test_parts_before_the_start_and_more_than_planned() -> None:
    production = made(("PRESS", "06:30", 60, 0, 0), ("PRESS", "14:00", 41, 0, 0))
    found = status(events(*LIFE), production)
    assert found["data_quality"] == "COUNT_BEFORE_START;COUNT_AFTER_END;OVERPRODUCED"


def test_an_order_without_release_plan_and_due() -> None:
    found = status(events(*LIFE[1:], planned=None, due=None))
    assert (found["wait_s"], found["lead_time_s"], found["lateness_s"]) == (None, None, None)
    assert found["data_quality"] == "MISSING:released;NO_PLAN;NO_DUE"


def test_without_events_there_is_no_order() -> None:
    empty = pl.DataFrame(schema=SCHEMA)
    assert work_order_status(empty, made(), stops(), POINTS, at("08:00")).equals(WORK_ORDER_STATUS.empty())


@pytest.mark.parametrize("event", sorted(STAGE))
def test_every_event_has_a_state_and_a_stage(event: str) -> None:
    assert STATE_AFTER[event] in {after for _, _, after in TRANSITIONS}
    assert {STATE_AFTER[event]} == {after for _, name, after in TRANSITIONS if name == event}
