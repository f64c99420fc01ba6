"""A lake small enough to recompute by hand, with one row or more of every table that the marts read, and its dbt build."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.lake.serving import Serving
from spc_platform.settings import REPOSITORY
from spc_platform_tests.pipeline.marts_operations import operations_rows

VERSION = "20261101T000000Z-tiny"
FIRST, SECOND = date(2026, 10, 29), date(2026, 10, 30)
START = datetime(2026, 10, 29, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAGE = "ab" * 32
CHART = {"characteristic_id": "bore", "equipment_id": "S1"}
UNIT_OF_LINE = {"equipment_id": "S1", "work_center_id": "L1"}

VALUES = ((10.0, 10.2), (10.1, 10.3), (10.6, 10.8))
"""Three subgroups of two; the first two on the first date. The third mean, 10.7, lies 8.5 standard errors above 10.1."""
MU, SIGMA = 10.1, 0.1

OEE_ROWS: tuple[dict[str, Any], ...] = (
    # DOMAIN.md section 5: POT 480 min, planned down 30, setup 30, delays 40 of which 15 minor, PRI 1 min, PQ 350, GQ 340
    {"shift_id": "early", "material_definition_id": "P1", "pot": 480, "pdt": 30, "apt": 380, "aust": 30, "adet": 40,
     "minor": 15, "pri": 60.0, "gq": 340, "sq": 10},
    # two products in one shift: E = (1*100 + 2*50)/250, Q = (1*90 + 2*50)/200
    {"shift_id": "late", "material_definition_id": "P1", "pot": 150, "apt": 125, "adet": 25, "pri": 60.0, "gq": 90, "sq": 10},
    {"shift_id": "late", "material_definition_id": "P2", "pot": 150, "apt": 125, "adet": 25, "pri": 120.0, "gq": 50},
    {"shift_id": "late", "material_definition_id": None, "pot": 100, "adot": 100},
    # no busy time at all
    {"shift_id": "night", "material_definition_id": None, "pot": 60, "pdt": 60},
    # parts counted in no production time
    {"shift_id": "x1", "material_definition_id": "P1", "pot": 60, "adet": 60, "pri": 60.0, "gq": 5},
    # ran, made nothing
    {"shift_id": "x2", "material_definition_id": "P1", "pot": 60, "apt": 60, "pri": 60.0},
    # an ideal cycle that cannot be right, and one that is unknown
    {"shift_id": "x3", "material_definition_id": "P1", "pot": 60, "apt": 60, "pri": 60.0, "gq": 90},
    {"shift_id": "x4", "material_definition_id": "P3", "pot": 60, "apt": 60, "gq": 9},
)  # fmt: skip

SCRAPPED = (9, 9, 9, 1, 2, 3, 1, 2, 9)
"""Scrapped of 50 parts on nine dates, the last is SECOND; 9 lies 5.1 standard errors above a share of 0.04."""

STOPS = (  # reason, class, minutes
    ("JAM", "breakdown", 30),
    ("TOOL", "breakdown", 20),
    ("JAM", "micro_stop", 4),
    (None, "unknown", 6),
    ("LUNCH", "planned", 45),
    (None, "no_order", 100),
)


def lake_rows() -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    measured, counted = (measured_rows(), clock_rows()), (count_rows(), cusum_rows())
    for part in (*measured, *counted, multivariate_rows(), verdict_rows(), operations_rows()):
        for table, more in part.items():
            rows.setdefault(table, []).extend(more)
    return rows


def clock_rows() -> dict[str, list[dict[str, Any]]]:
    row = {"clock_id": "S1", "measured_at": START, "offset_s": -2.5, "uncertainty_s": 0.5, "method": "http_date"}
    return {"clock_offset": [row | {"samples": 40, "round_trip_s": 0.004}]}


def measured_rows() -> dict[str, list[dict[str, Any]]]:
    measurements, flags, subgroups, points, violations = [], [], [], [], []
    for number, pair in enumerate(VALUES):
        day = FIRST if number < 2 else SECOND
        at = START + 24 * HOUR * (day - FIRST).days + number * HOUR
        subgroup_id = f"bore|S1|mes:m{number}0"
        masked = int(number == 2)
        for position, value in enumerate(pair):
            record = {"source_id": "mes", "record_id": f"m{number}{position}", "production_date": day, "value": value}
            seen = record | CHART | {"measured_at": at + timedelta(minutes=position)}
            measurements.append(
                seen | {"revision": 1, "updated_at": at + HOUR, "page_sha256": PAGE, "page_row": 2 * number + position,
                        "unit": "mm", "work_center_id": "L1", "shift_id": "early", "specification_version": 1 + (number == 2)}
            )  # fmt: skip
            flags.append(
                seen | {"mask_reason": "iqr" if masked and position else "none", "is_masked": bool(masked and position)}
            )
        mean, spread = sum(pair) / 2, max(pair) - min(pair)
        known = CHART | {"subgroup_id": subgroup_id, "subgroup_at": at, "production_date": day}
        subgroups.append(
            known | {"subgroup_end_at": at + timedelta(minutes=1), "shift_id": "early", "n_observed": 2,
                     "specification_version": 1 + (number == 2), "mean": mean, "median": mean, "m2": spread**2 / 2,
                     "range": spread, "s": spread / sqrt(2),
                     "minimum": min(pair), "maximum": max(pair), "n_masked": masked}
        )  # fmt: skip
        z = (mean - MU) / (SIGMA / sqrt(2))
        rules = "western_electric_1" if abs(z) > 3 else None
        judged = known | {"chart": "xbar_r", "n_observed": 2, "n_masked": masked, "limit_version": 1, "is_baseline": number < 2}
        points.append(
            judged | {"panel": "location", "statistic": "xbar", "value": mean, "cl": MU, "lcl": MU - 3 * SIGMA / sqrt(2),
                      "ucl": MU + 3 * SIGMA / sqrt(2), "standard_error": SIGMA / sqrt(2), "z": z, "rules": rules}
        )  # fmt: skip
        points.append(
            judged | {"panel": "dispersion", "statistic": "r", "value": spread, "cl": 0.1128, "lcl": 0.0, "ucl": 0.3686,
                      "standard_error": 0.08525, "z": (spread - 0.1128) / 0.08525}
        )  # fmt: skip
        if rules:
            violations.append(
                known | {"panel": "location", "rule_set": "western_electric", "rule": rules, "rule_text": "1 beyond 3 sigma",
                         "side": "above", "z": z, "window_subgroup_ids": subgroup_id, "limit_version": 1}
            )  # fmt: skip
    limit = CHART | {
        "chart": "xbar_r", "mu": MU, "sigma": SIGMA, "estimator": "rbar", "n_subgroups": 2, "inputs_hash": "cd" * 32
    }  # fmt: skip
    rejected = {"revision": 1, "updated_at": START, "page_sha256": PAGE, "production_date": FIRST, "is_current": True,
                "is_deleted": False}  # fmt: skip
    return {
        "measurement": measurements,
        "measurement_flags": flags,
        "spc_subgroups": subgroups,
        "spc_points": points,
        "spc_violations": violations,
        "spc_limits": [
            limit | {"limit_version": 1, "k": 3.0, "subgroup_size": 2, "baseline_from": START, "baseline_to": START + HOUR,
                     "approved_by": "site policy", "reason": "first complete baseline", "effective_from": START} | kind
            for kind in (
                {},
                {"characteristic_id": "scrap", "chart": "p", "mu": 0.04, "sigma": 1.0, "estimator": "binomial",
                 "subgroup_size": 1},
                {"characteristic_id": "port", "chart": "i_mr_r", "sigma_means": 0.5, "subgroup_size": 5},
                {"characteristic_id": "flaws", "chart": "c", "mu": 4.0, "sigma": 1.0, "estimator": "poisson",
                 "subgroup_size": 1},
                {"characteristic_id": "leak", "chart": "cusum", "estimator": "mr", "subgroup_size": 1},
            )
        ],
        "spc_limit_estimates": [limit | {"mu": 10.3, "n_observed": 6, "window_from": START, "window_to": START + 26 * HOUR}],
        "spc_capability": [
            CHART | {"specification_version": 1, "lsl": 9.0, "usl": 11.0, "window_from": START, "window_to": START + HOUR,
                     "n_observed": 4, "n_subgroups": 2, "mean": 10.15, "estimator": "rbar", "cpk": 1.5, "confidence": 0.95,
                     "n_masked": 0, "n_violation_points": 0, "signal_share": 0.0, "stability": "stable"},
            CHART | {"specification_version": 2, "usl": 10.7, "window_from": START, "window_to": START + HOUR,
                     "n_observed": 2, "n_subgroups": 1, "mean": 10.7, "estimator": "rbar", "ppk": 0.0, "confidence": 0.95,
                     "n_masked": 1, "n_violation_points": 1, "signal_share": 1.0, "stability": "unstable",
                     "reason": "sigma within: one subgroup"},
        ],
        "shift_calendar": [
            UNIT_OF_LINE | {"shift_id": shift, "start_at": START, "end_at": START + 8 * HOUR, "duration_s": 28800.0,
                            "planned_down_s": 1800.0, "production_date": FIRST}
            for shift in ("early", "late")
        ],
        "state_interval": [
            UNIT_OF_LINE | {"shift_id": "early", "state": "RUN", "time_element": "APT", "start_at": START,
                            "end_at": START + HOUR, "duration_s": 3600.0, "is_open": False, "as_of": START + HOUR,
                            "production_date": FIRST}
        ],
        "downtime_event": [
            UNIT_OF_LINE | {"shift_id": "early", "event_id": f"mes:s{number}", "state": "STOP", "reason_code": reason,
                            "time_element": "ADET", "stop_class": stop_class, "start_at": START + number * HOUR,
                            "end_at": START + number * HOUR + timedelta(minutes=minutes), "duration_s": 60.0 * minutes,
                            "is_open": False, "as_of": START + 9 * HOUR, "production_date": FIRST}
            for number, (reason, stop_class, minutes) in enumerate(STOPS)
        ],
        "oee_elements": [oee_elements_row(row) for row in OEE_ROWS],
        "measurement_rejected": [
            rejected | {"source_id": "mes", "record_id": "bad", "page_row": 6, "characteristic_id": "bore",
                        "measured_at": START, "reasons": "value:NOT_FINITE;unit:MISSING"}
        ],
        "telemetry_rejected": [
            rejected | {"source_id": "mes", "record_id": "t1", "page_row": 0, "raw_record": '{"at": "noon"}',
                        "decode_error": "observed_at:NOT_A_TIME", "reasons": "observed_at:NOT_A_TIME"}
        ],
    }  # fmt: skip


def count_rows() -> dict[str, list[dict[str, Any]]]:
    """Counted charts: a p chart of scrap on nine dates, one of yield near 1, a g chart, and a subgroup without limits."""
    charted = [
        # characteristic, statistic, date, found, inspected, value, cl, standard error, lcl, ucl, rules
        *(
            ("scrap", "p", SECOND - timedelta(days=8 - day), found, 50, found / 50, 0.04, sqrt(0.04 * 0.96 / 50), 0.0,
             0.04 + 3 * sqrt(0.04 * 0.96 / 50), "nelson_1" if found == 9 else None)
            for day, found in enumerate(SCRAPPED)
        ),
        ("yield", "p", FIRST, 98, 100, 0.98, 0.99, sqrt(0.99 * 0.01 / 100), 0.99 - 3 * sqrt(0.99 * 0.01 / 100), 1.0, None),
        ("gap", "g", FIRST, 1, 120, 119.0, 69.0, None, 0.13, 660.0, None),
        ("yield", "p", SECOND, 97, 100, 0.97, None, None, None, None, None),
    ]  # fmt: skip
    subgroups, points = [], []
    for characteristic, statistic, day, found, size, value, cl, error, lcl, ucl, rules in charted:
        at = START + 24 * HOUR * (day - FIRST).days
        known = {"characteristic_id": characteristic, "equipment_id": "S1", "subgroup_id": f"{characteristic}|S1|{day}|early",
                 "subgroup_at": at, "production_date": day, "n_observed": size}  # fmt: skip
        subgroups.append(
            known | {"subgroup_end_at": at + 8 * HOUR, "shift_id": "early", "job_order_id": "J1", "count": found, "size": size}
        )
        z = (value - cl) / error if cl is not None and error is not None else None
        points.append(
            known | {"chart": statistic, "panel": "location", "statistic": statistic, "value": value, "cl": cl, "lcl": lcl,
                     "ucl": ucl, "standard_error": error, "z": z, "n_masked": 0, "is_baseline": False, "rules": rules,
                     "limit_version": None if cl is None else 1}
        )  # fmt: skip
    return {"spc_count_subgroups": subgroups, "spc_points": points}


def cusum_rows() -> dict[str, list[dict[str, Any]]]:
    """One leak test on a CUSUM: the upper panel signals, the lower one is negative, and each has one limit."""
    known = {"characteristic_id": "leak", "equipment_id": "S1", "production_date": FIRST}
    at = {"subgroup_id": "leak|S1|mes:k0", "subgroup_at": START}
    seen = {"source_id": "mes", "record_id": "k0", "value": 4.6, "measured_at": START}
    panels = (("upper", 5.5, None, 5.0), ("lower", -0.2, -5.0, None))
    return {
        "measurement": [
            known | seen | {"revision": 1, "updated_at": START, "page_sha256": PAGE, "page_row": 9, "unit": "ml/min",
                            "work_center_id": "L1"}
        ],
        "measurement_flags": [known | seen | {"mask_reason": "none", "is_masked": False}],
        "spc_subgroups": [
            known | at | {"subgroup_end_at": START, "n_observed": 1, "mean": 4.6, "median": 4.6, "m2": 0.0, "minimum": 4.6,
                          "maximum": 4.6, "n_masked": 0}
        ],
        "spc_points": [
            known | at | {"chart": "cusum", "panel": panel, "statistic": f"cusum_{panel}", "value": value, "n_observed": 1,
                          "n_masked": 0, "cl": 0.0, "lcl": lcl, "ucl": ucl, "standard_error": 1.0, "z": value,
                          "limit_version": 1, "is_baseline": False, "rules": "nelson_1" if panel == "upper" else None}
            for panel, value, lcl, ucl in panels
        ],
    }  # fmt: skip


def multivariate_rows() -> dict[str, list[dict[str, Any]]]:
    """T² of bore and width: means 10.1 and 5.1, sigmas 0.1 and 0.2, correlation 0.6; part P1 is measured on two dates."""
    chart = {"chart_id": "S1.parts", "equipment_id": "S1"}
    covariance = {("bore", "bore"): 0.01, ("bore", "width"): 0.012, ("width", "bore"): 0.012, ("width", "width"): 0.04}
    # T2 = (a^2 + b^2 - 2 * 0.6 a b) / (1 - 0.6^2) of the standardized a, b; without one of them it is the other's square
    parts = [
        ("P1", FIRST, {"bore": 10.0, "width": 5.0}, 1.015625, "bore", 0.765625),  # a = -1, b = -0.5
        ("P2", FIRST, {"bore": 10.2, "width": 5.4}, 2.265625, "width", 1.265625),  # a = 1, b = 1.5
        ("P1", SECOND, {"bore": 10.0, "width": 5.0}, 1.015625, "bore", 0.765625),
    ]
    vectors, points = [], []
    for serial, day, values, t2, largest, contribution in parts:
        known = chart | {"vector_id": f"S1.parts|{serial}", "serial_number": serial, "production_date": day,
                         "vector_at": START + 24 * HOUR * (day - FIRST).days}  # fmt: skip
        vectors += [known | {"characteristic_id": name, "value": value} for name, value in values.items()]
        points.append(
            known | {"chart": "t2", "value": t2, "cl": 1.39, "ucl": 2.0, "z": 0.3, "is_signal": t2 > 2.0, "is_baseline": False,
                     "largest_contribution": largest, "contribution": contribution, "limit_version": 1}
        )  # fmt: skip
    limits = [
        chart | {"limit_version": 1, "chart": "t2", "characteristic_id": one, "other_characteristic_id": other,
                 "mean": {"bore": 10.1, "width": 5.1}[one], "covariance": value, "k": 3.0, "n_vectors": 300,
                 "baseline_from": START, "baseline_to": START, "approved_by": "site policy", "reason": "first baseline",
                 "inputs_hash": "ef" * 32, "effective_from": START}
        for (one, other), value in covariance.items()
    ]  # fmt: skip
    return {"spc_vectors": vectors, "spc_vector_limits": limits, "spc_vector_points": points}


def verdict_rows() -> dict[str, list[dict[str, Any]]]:
    """What is said about the charts of bore and leak; the others have not been judged yet."""
    leak = {"characteristic_id": "leak", "equipment_id": "S1", "chart": "cusum"}
    bore = CHART | {"chart": "xbar_r"}
    judged = {"n_subgroups": 3, "n_values": 6, "window_from": START, "window_to": START, "inputs": "values"}
    budget = {"rule_set": "western_electric", "method": "exact", "standard_error": 0.0}
    return {
        "spc_chart_fitness": [
            bore | judged | {"verdict": "fit", "text": "fit", "implied_false_alarm_rate": 0.0027},
            leak | judged | {"verdict": "unfit", "reasons": "AUTOCORRELATED", "text": "each value follows the one before",
                             "suggested_chart": "residual_i_mr", "autocorrelation_lag1": 0.8, "implied_false_alarm_rate": 0.11},
        ],
        "spc_limit_drift": [
            bore | {"limit_version": 1, "estimator": "rbar", "verdict": "shifted", "shift": 2.0, "shift_ci_low": 1.0,
                    "shift_ci_high": 3.0, "ratio": 1.0, "confidence": 0.95, "explanation": "the centre moved by 2 sigma"},
            leak | {"verdict": "no_version", "confidence": 0.95, "explanation": "no version to compare with"},
        ],
        "spc_shadow": [
            CHART | {"subgroup_id": "bore|S1|mes:m20", "subgroup_at": START + 26 * HOUR, "panel": "location",
                     "rule_set": "western_electric", "rule": "western_electric_1", "rule_text": "1 beyond 3 sigma",
                     "verdict": "only_in_force", "limit_version": 1, "shadow_version": 2, "z_in_force": 8.5, "z_shadow": 1.2,
                     "production_date": SECOND}
        ],
        "spc_alarm_budget": [
            bore | budget | {"points_per_day": 24.0, "arl0": 92.0, "expected_false_alarms_per_day": 0.26, "rank": 1,
                             "observed_signals_per_day": 0.5, "p_value_adjusted": 1e-9, "is_discovery": True,
                             "shift_sigma": 6.0, "shift_standard_error": 0.7},
            leak | budget | {"points_per_day": 100.0, "arl0": 930.0, "expected_false_alarms_per_day": 0.11, "rank": 2,
                             "observed_signals_per_day": 0.1, "p_value_adjusted": 0.7, "is_discovery": False},
        ],
    }  # fmt: skip


def oee_elements_row(row: dict[str, Any]) -> dict[str, Any]:
    """Minutes and counts of OEE_ROWS as a row of oee_elements."""
    seconds = {f"{name}_s": 60.0 * row.get(name, 0) for name in ("pot", "pdt", "apt", "aust", "adet", "adot", "unknown")}
    counts = {name: row.get(name, 0) for name in ("gq", "sq", "rq")}
    return (
        UNIT_OF_LINE
        | seconds
        | counts
        | {
            "shift_id": row["shift_id"],
            "material_definition_id": row["material_definition_id"],
            "pbt_s": seconds["pot_s"] - seconds["pdt_s"],
            "minor_stop_s": 60.0 * row.get("minor", 0),
            "pri_s": row.get("pri"),
            "pq": sum(counts.values()),
            "as_of": START + 9 * HOUR,
            "production_date": FIRST,
        }
    )


SITE_ROWS: dict[str, list[dict[str, Any]]] = {
    "equipment": [
        {"equipment_id": "PLANT", "equipment_level": "site", "description": "Plant"},
        {"equipment_id": "HALL", "equipment_level": "area", "parent_equipment_id": "PLANT", "description": "Hall"},
        {"equipment_id": "L1", "equipment_level": "work_center", "parent_equipment_id": "HALL", "description": "Line"},
        {"equipment_id": "S1", "equipment_level": "work_unit", "parent_equipment_id": "L1", "description": "Station"},
    ],
    "characteristics": [
        CHART | {"description": "Bore", "unit": "mm", "chart": "xbar_r", "subgrouping": "consecutive", "subgroup_size": 2,
                 "estimator": "rbar", "rule_set": "western_electric", "iqr_multiplier": 1.5},
        *(
            {"characteristic_id": name, "equipment_id": "S1", "description": name, "unit": unit, "chart": chart,
             "subgrouping": subgrouping, "subgroup_size": 1, "estimator": estimator, "rule_set": "nelson"} | more
            for name, unit, chart, subgrouping, estimator, more in (
                ("leak", "ml/min", "cusum", "individual", "mr", {"reference": 0.5, "decision": 5.0}),
                ("width", "mm", "i_mr", "individual", "mr", {}),
                ("scrap", "1", "p", "shift", "binomial", {"counted": "scrap"}),
                ("yield", "1", "p", "shift", "binomial", {"counted": "nonconforming"}),
                ("gap", "1", "g", "event", "geometric", {"counted": "scrap"}),
            )
        ),
    ],
    "multivariate": [
        {"chart_id": chart_id, "equipment_id": "S1", "characteristic_id": name, "chart": chart, "baseline": 300}
        for chart_id, chart in (("S1.parts", "t2"), ("S1.new", "mewma"))
        for name in ("width", "bore")
    ],
    "specifications": [
        {"characteristic_id": "bore", "version": 1, "effective_from": START, "effective_to": START + 24 * HOUR, "lsl": 9.0,
         "target": 10.0, "usl": 11.0, "unit": "mm"},
        {"characteristic_id": "bore", "version": 2, "effective_from": START + 24 * HOUR, "usl": 10.7, "unit": "mm"},
    ],
    "reasons": [
        {"reason_code": "JAM", "description": "Part jammed", "loss_category": "breakdowns"},
        {"reason_code": "BURR", "description": "Burr on the edge", "loss_category": "process_defects"},
    ],
    "routings": [
        {"material_definition_id": "P1", "segment_id": segment, "sequence": place, "equipment_id": "S1"}
        for place, segment in enumerate(("turn", "press"), start=1)
    ],
    "shifts": [{"shift_id": "early", "work_center_id": "*", "start_local": "06:00", "end_local": "14:00", "weekdays": "12345"}],
}  # fmt: skip


OUTBOX_ROWS: list[dict[str, Any]] = [
    {"job_order_id": order, "revision": revision, "is_newest": newest, "state": state, "payload_sha256": "cd" * 32,
     "attempts": 1, "entered_at": START, "settled_at": None if state == "sent" else START + HOUR,
     "next_attempt_at": START + 2 * HOUR, "last_error": None if state == "acknowledged" else "status 422: the period is closed"}
    for order, revision, newest, state in (
        ("WO-1", 1, False, "acknowledged"), ("WO-1", 2, True, "sent"), ("WO-2", 1, True, "refused")
    )
]  # fmt: skip


def frame(tables: dict[str, Any], name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return tables[name].conform(pl.DataFrame(rows, schema=tables[name].schema))


def write_lake(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[Path]]:
    """One Parquet file per table and production date, as the lake keeps them."""
    files: dict[str, list[Path]] = {}
    for name, content in rows.items():
        whole = frame(LAKE_TABLES, name, content)
        parts = whole.partition_by("production_date") if "production_date" in whole.columns else [whole]
        for number, part in enumerate(parts):
            path = folder / "it's the lake" / name / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_parquet(path)
            files.setdefault(name, []).append(path)
    return files


def dbt_build(database: Path, work: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "SPC_DBT_DATABASE": str(database),
        "SPC_PUBLISHED_VERSION": VERSION,
        "SPC_RUN_ID": "run-1",
        "DBT_TARGET_PATH": str(work / "target"),
        "DBT_LOG_PATH": str(work / "logs"),
    }
    project = str(REPOSITORY / "dbt")
    command = [str(Path(sys.executable).with_name("dbt")), "build", "--project-dir", project, "--profiles-dir", project]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=work)


@dataclass
class Marts:
    connection: duckdb.DuckDBPyConnection
    serving: Serving
    files: dict[str, list[Path]]

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self.connection.sql(query).pl().to_dicts()

    def row(self, query: str) -> dict[str, Any]:
        (only,) = self.rows(query)
        return only
