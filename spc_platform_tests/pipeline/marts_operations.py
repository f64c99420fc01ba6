"""Orders, work in process, losses, flow, energy and genealogy of the tiny lake of ``marts_lake``, small enough to recompute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from spc_platform.contracts import LAKE_TABLES

FIRST, SECOND = date(2026, 10, 29), date(2026, 10, 30)
START = datetime(2026, 10, 29, 4, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
AS_OF = START + 9 * HOUR
UNIT = {"equipment_id": "S1", "work_center_id": "L1", "shift_id": "early", "production_date": FIRST}

LOSSES: tuple[dict[str, Any], ...] = (
    # the textbook shift of marts_lake.OEE_ROWS in minutes: 450 = 340 good + 25 + 30 + 15 + (380 - 350) + 7 + 3
    {"shift_id": "early", "material_definition_id": "P1", "pbt": 450, "equipment_failure": 25, "setup_and_adjustment": 30,
     "idling_and_minor_stops": 15, "reduced_speed": 30, "process_defects": 7, "reduced_yield": 3, "value_adding": 340},
    # its late shift: 150 = 90 good + 25 + (125 - 100) + 10, and faster than ideal: 150 = 180 good - 30
    {"shift_id": "late", "material_definition_id": "P1", "pbt": 150, "equipment_failure": 25, "reduced_speed": 25,
     "process_defects": 10, "value_adding": 90},
    {"shift_id": "late", "material_definition_id": "P2", "pbt": 150, "reduced_speed": -30, "value_adding": 180},
    {"shift_id": "late", "material_definition_id": None, "pbt": 100, "no_order": 100},
    # a product without ideal cycle
    {"shift_id": "early", "material_definition_id": "P1", "pbt": 60, "value_adding": 60, "production_date": SECOND},
    {"shift_id": "early", "material_definition_id": "P3", "pbt": 60, "equipment_failure": 20, "reduced_speed": None,
     "process_defects": None, "reduced_yield": None, "value_adding": None, "production_date": SECOND},
)  # fmt: skip


def operations_rows() -> dict[str, list[dict[str, Any]]]:
    """One row or more of each table."""
    return order_rows() | performance_rows() | energy_rows() | link_rows() | refused_rows()


def order_rows() -> dict[str, list[dict[str, Any]]]:
    order = {"work_center_id": "L1", "material_definition_id": "P1", "as_of": AS_OF, "paused_s": 0.0, "stop_s": 600.0,
             "scrap": 0, "rework": 0, "upstream_scrap": 0, "n_events": 3, "planned_quantity": 100.0}  # fmt: skip
    item = {"item_id": "LOT1", "item_kind": "lot", "work_center_id": "L1", "material_definition_id": "P1",
            "job_order_id": "J1", "is_rework": False, "as_of": AS_OF, "production_date": FIRST}  # fmt: skip
    return {
        "work_order_status": [
            order | {"job_order_id": "J1", "state": "completed", "released_at": START, "started_at": START + HOUR,
                     "completed_at": START + 5 * HOUR, "due_at": START + 6 * HOUR, "wait_s": 3600.0, "run_s": 14400.0,
                     "lead_time_s": 18000.0, "lateness_s": -3600.0, "is_late": False, "produced": 100, "good": 97,
                     "scrap": 3, "upstream_scrap": 25, "yield_ratio": 0.97, "rolled_yield_ratio": 97 / 125},
            order | {"job_order_id": "J2", "state": "running", "released_at": START, "started_at": START + 5 * HOUR,
                     "due_at": START + 8 * HOUR, "wait_s": 18000.0, "run_s": 14400.0, "lateness_s": 3600.0, "is_late": True,
                     "produced": 40, "good": 40, "yield_ratio": 1.0, "rolled_yield_ratio": 1.0},
        ],
        "wip_interval": [
            item | {"segment_id": segment, "place": place, "quantity": quantity, "entered_at": START + from_h * HOUR,
                    "start_at": START + from_h * HOUR, "end_at": START + to_h * HOUR, "is_open": to_h == 9}
            for segment, place, quantity, from_h, to_h in (
                ("turn", "queue", 50.0, 0, 2),
                ("turn", "in_process", 50.0, 2, 4),
                ("press", "queue", 48.0, 4, 9),
            )
        ],
        "wip_finding": [
            {"item_id": "LOT1", "segment_id": "turn", "occurred_at": START + 4 * HOUR, "event_type": "finished",
             "finding": "DOUBLE_FINISH", "quantity": 2.0, "balance": -2.0, "rule": "the earliest finish counts",
             "production_date": FIRST}
        ],
    }  # fmt: skip


def performance_rows() -> dict[str, list[dict[str, Any]]]:
    elements = {"pot_s": 480, "pdt_s": 30, "pbt_s": 450, "aubt_s": 450, "apt_s": 380, "aust_s": 30, "adet_s": 40,
                "minor_stop_s": 15, "adot_s": 0, "unknown_s": 0, "ideal_pq_s": 350, "ideal_gq_s": 340}  # fmt: skip
    rollup = {name: 60.0 * minutes for name, minutes in elements.items()} | {
        "pq": 350, "gq": 340, "sq": 10, "rq": 0, "availability": 380 / 450, "effectiveness": 350 / 380, "quality": 340 / 350,
        "oee": 340 / 450, "suspect_ideal_cycle": False, "as_of": AS_OF, "scope": "all", "iso_week": "2026-W44",
    }  # fmt: skip
    days = {"period": "day", "period_start": FIRST, "production_date": FIRST}
    weeks = {"period": "week", "period_start": date(2026, 10, 26)}
    return {
        "oee_rollup": [
            rollup | {"equipment_level": "work_unit", "equipment_id": "S1", "shift_id": "early"} | days | {"period": "shift"},
            rollup | {"equipment_level": "work_center", "equipment_id": "L1"} | days,
            rollup | {"equipment_level": "work_center", "equipment_id": "L1", "production_date": FIRST} | weeks,
            rollup | {"equipment_level": "work_center", "equipment_id": "L1", "production_date": SECOND} | weeks,
        ],
        "oee_loss": [oee_loss_row(row) for row in LOSSES],
        "scrap_reason": [
            UNIT | {"material_definition_id": "P1", "reason_code": reason, "loss_category": loss, "scrap_quantity": scrap,
                    "rework_quantity": 0, "ideal_s": 60.0 * scrap}
            for reason, loss, scrap in (("BURR", "process_defects", 5), (None, "process_defects", 2),
                                        ("WARMUP", "reduced_yield", 3))
        ],
        "changeover": [
            UNIT | {"from_material_definition_id": one, "to_material_definition_id": other, "start_at": START + at * HOUR,
                    "end_at": START + at * HOUR + minutes * MINUTE, "setup_s": 60.0 * minutes - 120.0,
                    "duration_s": 60.0 * minutes}
            for at, one, other, minutes in ((2, "P1", "P2", 30), (5, "P2", "P1", 20), (7, "P1", "P2", 40))
        ],
        "flow_interval": [
            UNIT | {"flow_state": state, "time_element": "ADET", "start_at": START + number * HOUR,
                    "end_at": START + number * HOUR + 10 * MINUTE, "duration_s": 600.0}
            for number, state in enumerate(("starved", "blocked"))
        ],
        "count_comparison": [
            UNIT | {"in_force": "counter", "mes_good": 340, "mes_scrap": 7, "mes_rework": 3, "counter_good": 344,
                    "counter_scrap": 8, "difference": 2, "agrees": False, "across_gap": 5, "refused": 1}
        ],
        "bottleneck": [
            UNIT | {"active_s": 24600.0, "momentary_s": 18000.0, "sole_s": 15000.0, "shifting_s": 3000.0,
                    "is_bottleneck": True},
            UNIT | {"equipment_id": "S2", "active_s": 12000.0, "momentary_s": 6000.0, "sole_s": 3000.0,
                    "shifting_s": 3000.0, "is_bottleneck": False},
        ],
        "reliability": [
            {"equipment_id": "S1", "window_start": FIRST, "operating_s": 36000.0, "failures": 2, "open_failures": 0,
             "repair_s": 3000.0, "mtbf_s": 18000.0, "mttr_s": 1500.0, "availability": 12 / 13, "confidence": 0.95,
             "production_date": SECOND}
        ],
    }  # fmt: skip


def energy_rows() -> dict[str, list[dict[str, Any]]]:
    """Early: 30 kWh in production and 10 beside it for 100 good parts; late: nothing metered."""
    cell = UNIT | {"material_definition_id": "P1", "estimated_kwh": 1.5, "gap_kwh": 0.0, "unmetered_s": 0.0}
    return {
        "energy_by_state": [
            cell | {"state": state, "time_element": element, "energy_kwh": energy, "metered_s": seconds}
            for state, element, energy, seconds in (("RUN", "APT", 30.0, 22800.0), ("STOP", "ADET", 10.0, 4200.0))
        ]
        + [cell | {"shift_id": "late", "state": "RUN", "time_element": "APT", "metered_s": 0.0, "unmetered_s": 7500.0}],
        "energy_per_part": [
            cell | {"energy_kwh": 40.0, "metered_s": 27000.0, "productive_kwh": 30.0, "idle_kwh": 10.0, "gq": 100,
                    "kwh_per_good_part": 0.4, "is_complete": True, "end_at": START + 8 * HOUR},
            cell | {"shift_id": "late", "metered_s": 0.0, "unmetered_s": 7500.0, "productive_kwh": 0.0, "idle_kwh": 0.0,
                    "gq": 90, "no_ratio_reason": "NO_READING", "is_complete": False, "end_at": AS_OF},
        ],
    }  # fmt: skip


def link_rows() -> dict[str, list[dict[str, Any]]]:
    """BAR went into LOT1, that was split in two, of which one became part SN1, and the log of two events."""
    record = {"source_id": "mes", "revision": 1, "updated_at": START}
    links = (("BAR", "LOT1", "consumed"), ("LOT1", "LOT1a", "split"), ("LOT1", "LOT1b", "split"), ("LOT1a", "SN1", "assembled"))
    return {
        "lot_genealogy": [
            record | {"record_id": f"l{number}", "parent_id": parent, "child_id": child, "link_type": kind, "quantity": 1.0,
                      "occurred_at": START + number * HOUR}
            for number, (parent, child, kind) in enumerate(links)
        ],
        "lot_genealogy_refused": [
            record | {"record_id": "l9", "parent_id": "SN1", "child_id": "BAR", "link_type": "consumed", "quantity": 1.0,
                      "occurred_at": START, "reasons": "child_id:CYCLE", "cycle_items": "BAR>LOT1>LOT1a>SN1>BAR"}
        ],
        "operations_event": [
            {"event_id": f"{number}f" * 32, "event_type": "work_order_event", "source_id": "mes", "record_id": "w1",
             "revision": number, "equipment_id": "L1", "effective_at": START, "recorded_at": START + number * MINUTE,
             "is_deleted": False, "payload": '{"job_order_id":"J1"}', "sequence": number,
             "prev_hash": f"{number - 1}e" * 32, "chain_hash": f"{number}e" * 32, "production_date": FIRST}
            for number in (1, 2)
        ],
    }  # fmt: skip


REFUSED = (
    # table, the column that names its subject, the subject, the column of its time, the broken rule
    ("equipment_state", "equipment_id", "S8", "start_at", "end_at:NOT_AFTER_START"),
    ("material_link", "child_id", "LOT8", "occurred_at", "quantity:NOT_ABOVE_0"),
    ("production_count", "equipment_id", "S9", "counted_at", "good_quantity:BELOW_0"),
    ("segment_event", "item_id", "LOT9", "occurred_at", "segment_id:UNKNOWN"),
    ("signal_event", "equipment_id", "S7", "occurred_at", "signal:NOT_ALLOWED"),
    ("work_order", "work_center_id", "L9", "start_at", "work_center_id:UNKNOWN"),
    ("work_order_event", "job_order_id", "J9", "occurred_at", "event_type:NOT_ALLOWED"),
)


def refused_rows() -> dict[str, list[dict[str, Any]]]:
    """One refused record of each table but those of marts_lake."""
    refused = {"source_id": "mes", "revision": 1, "updated_at": START, "page_sha256": "ab" * 32, "page_row": 0,
               "production_date": FIRST, "is_current": True, "is_deleted": False}  # fmt: skip
    return {
        f"{table}_rejected": [refused | {"record_id": f"{table}9", subject: name, at: START, "reasons": reason}]
        for table, subject, name, at, reason in REFUSED
    }


def oee_loss_row(row: dict[str, Any]) -> dict[str, Any]:
    """Minutes of LOSSES as a row of oee_loss; what is not named is 0."""
    names = [name for name in LAKE_TABLES["oee_loss"].names if name.endswith("_s")]
    minutes = {name: row.get(name.removesuffix("_s"), 0) for name in names}
    seconds = {name: None if value is None else 60.0 * value for name, value in minutes.items()}
    kept = {name: row[name] for name in ("shift_id", "material_definition_id")}
    return UNIT | kept | {"production_date": row.get("production_date", FIRST), "as_of": AS_OF} | seconds
