"""The marts, built by dbt from a lake small enough to recompute by hand, and the documented queries on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.errors import LakeError
from spc_platform.lake.marts import drop_lake, register_lake
from spc_platform.lake.serving import Serving
from spc_platform.production.oee import oee_ratios
from spc_platform.settings import REPOSITORY

VERSION = "20261101T000000Z-tiny"
FIRST, SECOND = date(2026, 10, 29), date(2026, 10, 30)
START = datetime(2026, 10, 29, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAGE = "ab" * 32
CHART = {"characteristic_id": "bore", "equipment_id": "S1"}
UNIT_OF_LINE = {"equipment_id": "S1", "work_center_id": "L1"}
DOCUMENT = REPOSITORY / "docs" / "how-to" / "query-the-marts.md"

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

STOPS = (  # reason, class, minutes
    ("JAM", "breakdown", 30),
    ("TOOL", "breakdown", 20),
    ("JAM", "micro_stop", 4),
    (None, "unknown", 6),
    ("LUNCH", "planned", 45),
    (None, "no_order", 100),
)


def lake_rows() -> dict[str, list[dict[str, Any]]]:
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
                     "specification_version": 1 + (number == 2), "mean": mean, "m2": spread**2 / 2,
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
                     "approved_by": "site policy", "reason": "first complete baseline", "effective_from": START}
        ],
        "spc_limit_estimates": [limit | {"mu": 10.3, "n_observed": 6, "window_from": START, "window_to": START + 26 * HOUR}],
        "spc_capability": [
            CHART | {"specification_version": 1, "lsl": 9.0, "usl": 11.0, "window_from": START, "window_to": START + HOUR,
                     "n_observed": 4, "n_subgroups": 2, "mean": 10.15, "estimator": "rbar", "cpk": 1.5, "confidence": 0.95,
                     "n_masked": 0, "n_violation_points": 0, "stability": "stable"}
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
        "oee_elements": [_elements(row) for row in OEE_ROWS],
        "measurement_rejected": [
            rejected | {"source_id": "mes", "record_id": "bad", "page_row": 6, "characteristic_id": "bore",
                        "measured_at": START, "reasons": "value:NOT_FINITE;unit:MISSING"}
        ],
        "telemetry_rejected": [
            rejected | {"source_id": "mes", "record_id": "t1", "page_row": 0, "raw_record": '{"at": "noon"}',
                        "decode_error": "observed_at:NOT_A_TIME", "reasons": "observed_at:NOT_A_TIME"}
        ],
    }  # fmt: skip


def _elements(row: dict[str, Any]) -> dict[str, Any]:
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
                 "estimator": "rbar", "rule_set": "western_electric", "iqr_multiplier": 1.5}
    ],
    "specifications": [
        {"characteristic_id": "bore", "version": 1, "effective_from": START, "effective_to": START + 24 * HOUR, "lsl": 9.0,
         "target": 10.0, "usl": 11.0, "unit": "mm"},
        {"characteristic_id": "bore", "version": 2, "effective_from": START + 24 * HOUR, "usl": 10.7, "unit": "mm"},
    ],
    "reasons": [{"reason_code": "JAM", "description": "Part jammed", "loss_category": "breakdowns"}],
    "shifts": [{"shift_id": "early", "work_center_id": "*", "start_local": "06:00", "end_local": "14:00", "weekdays": "12345"}],
}  # fmt: skip


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


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marts]:
    """The published marts of the tiny lake, whose Parquet files are then removed: the version stands alone."""
    work = tmp_path_factory.mktemp("marts")
    serving = Serving(work / "serving")
    files = write_lake(work, lake_rows())
    database = serving.build_path(VERSION)
    register_lake(database, files, {name: frame(SITE_TABLES, name, rows) for name, rows in SITE_ROWS.items()})
    built = dbt_build(database, work)
    assert built.returncode == 0, built.stdout
    drop_lake(database)
    serving.publish(VERSION, {"run_id": "run-1"})
    for path in (path for paths in files.values() for path in paths):
        path.unlink()
    with duckdb.connect(serving.current(), read_only=True) as connection:
        yield Marts(connection, serving, files)


def test_the_published_file_holds_only_tables_of_plain_types(marts: Marts) -> None:
    kinds = marts.rows("SELECT DISTINCT table_schema, table_type FROM information_schema.tables")
    assert kinds == [{"table_schema": "marts", "table_type": "BASE TABLE"}]
    types = {row["data_type"] for row in marts.rows("SELECT DISTINCT data_type FROM duckdb_columns() WHERE NOT internal")}
    assert types == {"VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP"}


def test_every_table_and_column_carries_a_comment_and_numbers_their_unit(marts: Marts) -> None:
    bare = marts.rows(
        "SELECT table_name, '' AS column_name FROM duckdb_tables() WHERE coalesce(comment, '') = '' "
        "UNION ALL SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''"
    )
    assert bare == []
    comment = "SELECT comment FROM duckdb_columns() WHERE table_name = '{}' AND column_name = '{}'"
    assert marts.row(comment.format("fct_oee", "apt_s"))["comment"] == "Actual production time, unit: s."
    assert "UTC" in marts.row(comment.format("fct_measurement", "measured_at"))["comment"]
    unitless = marts.rows(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND column_name LIKE '%\\_s' ESCAPE '\\' "
        "AND comment NOT LIKE '%unit: s%'"
    )
    assert unitless == []


def test_keys_are_physical(marts: Marts) -> None:
    keys = {
        row["table_name"]: row["constraint_column_names"]
        for row in marts.rows(
            "SELECT table_name, constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
        )
    }
    assert keys["fct_control_limit"] == ["characteristic_id", "equipment_id", "limit_version"]
    assert keys["mart_oee_by_shift"] == ["equipment_id", "production_date", "shift_id"]
    assert len(keys) >= 12


def test_the_equipment_hierarchy_is_flattened(marts: Marts) -> None:
    assert marts.row("SELECT work_center_id, area_id, site_id FROM marts.dim_equipment WHERE equipment_id = 'S1'") == {
        "work_center_id": "L1", "area_id": "HALL", "site_id": "PLANT",
    }  # fmt: skip
    assert marts.row("SELECT work_center_id, area_id FROM marts.dim_equipment WHERE equipment_id = 'HALL'") == {
        "work_center_id": None, "area_id": "HALL",
    }  # fmt: skip


def test_a_part_is_judged_by_the_specification_in_force_when_it_was_made(marts: Marts) -> None:
    judged = marts.rows("SELECT record_id, lsl, usl, is_within_specification FROM marts.fct_measurement ORDER BY record_id")
    assert [row["usl"] for row in judged] == [11.0] * 4 + [10.7] * 2
    assert judged[4]["lsl"] is None, "version 2 is one-sided"
    assert [row["is_within_specification"] for row in judged] == [True] * 5 + [False]  # 10.8 > 10.7
    assert marts.row("SELECT specification_version, usl FROM marts.dim_characteristic") == {
        "specification_version": 2,
        "usl": 10.7,
    }


def test_a_masked_value_stays_beside_its_flag_and_its_point_is_still_a_violation(marts: Marts) -> None:
    masked = marts.row("SELECT value, mask_reason FROM marts.fct_measurement WHERE is_masked")
    assert masked == {"value": 10.8, "mask_reason": "iqr"}
    point = marts.row(
        "SELECT status, is_violation, rules, value FROM marts.mart_control_chart_point "
        "WHERE n_masked > 0 AND panel = 'location'"
    )
    assert point == {
        "status": "partly_masked",
        "is_violation": True,
        "rules": "western_electric_1",
        "value": pytest.approx(10.7),
    }


def test_limits_and_zones_of_a_point(marts: Marts) -> None:
    point = marts.row("SELECT * FROM marts.mart_control_chart_point WHERE point_number = 3 AND panel = 'location'")
    # sigma / sqrt(2) = 0.0707107; (10.7 - 10.1) / 0.0707107 = 8.48528
    assert point["ucl"] == pytest.approx(10.3121320, abs=1e-7)
    assert point["plus_2_sigma"] == pytest.approx(10.2414214, abs=1e-7)
    assert point["minus_1_sigma"] == pytest.approx(10.0292893, abs=1e-7)
    assert point["z"] == pytest.approx(8.48528, abs=1e-5)
    assert (point["lsl"], point["usl"], point["unit"]) == (None, 10.7, "mm")
    spread = marts.row("SELECT * FROM marts.mart_control_chart_point WHERE point_number = 3 AND panel = 'dispersion'")
    assert spread["minus_2_sigma"] == 0, "0.1128 - 2 * 0.08525 is below 0, where no range can be"
    assert spread["minus_1_sigma"] == pytest.approx(0.02755)
    assert spread["usl"] is None, "a specification says nothing about ranges"


def test_limits_are_published_with_version_reason_and_the_estimate_beside(marts: Marts) -> None:
    limit = marts.row("SELECT * FROM marts.fct_control_limit")
    assert (limit["limit_version"], limit["is_newest"], limit["approved_by"]) == (1, True, "site policy")
    assert limit["location_ucl"] == pytest.approx(10.3121320, abs=1e-7)
    assert marts.row("SELECT mu, mu_in_force, version_in_force FROM marts.fct_limit_estimate") == {
        "mu": 10.3, "mu_in_force": 10.1, "version_in_force": 1,
    }  # fmt: skip


def test_oee_of_the_textbook_shift(marts: Marts) -> None:
    """DOMAIN.md section 5: ISO .8444 .9211 .9714 = .7556, TPM .8778 .8861 .9714 = .7556, NEE .8152."""
    shift = marts.row("SELECT * FROM marts.mart_oee_by_shift WHERE shift_id = 'early'")
    assert shift["availability"] == pytest.approx(0.8444, abs=5e-5)
    assert shift["effectiveness"] == pytest.approx(0.9211, abs=5e-5)
    assert shift["quality"] == pytest.approx(0.9714, abs=5e-5)
    assert shift["oee"] == pytest.approx(0.7556, abs=5e-5)
    assert shift["tpm_availability"] == pytest.approx(0.8778, abs=5e-5)
    assert shift["tpm_performance"] == pytest.approx(0.8861, abs=5e-5)
    assert shift["tpm_availability"] * shift["tpm_performance"] * shift["quality"] == pytest.approx(shift["oee"])
    assert shift["nee"] == pytest.approx(0.8152, abs=5e-5)
    assert shift["reason"] is None
    assert shift["shift_end_at"] - shift["shift_start_at"] == 8 * HOUR


def test_two_products_are_summed_not_averaged(marts: Marts) -> None:
    shift = marts.row("SELECT * FROM marts.mart_oee_by_shift WHERE shift_id = 'late'")
    # pot 400 min, apt 250; ideal 1*100 + 2*50 = 200 min, good 1*90 + 2*50 = 190 min
    assert shift["availability"] == pytest.approx(250 / 400)
    assert shift["effectiveness"] == pytest.approx(200 / 250)
    assert shift["quality"] == pytest.approx(190 / 200)
    assert shift["oee"] == pytest.approx(190 / 400)
    averaged = marts.row("SELECT avg(oee) AS oee FROM marts.fct_oee WHERE shift_id = 'late'")["oee"]
    assert averaged == pytest.approx((90 / 150 + 100 / 150 + 0) / 3), "the mean of ratios is another number"


@pytest.mark.parametrize(
    ("shift", "reason", "oee", "quality"),
    [
        ("night", "NO_BUSY_TIME;NOT_RUN;NOTHING_PRODUCED", None, None),
        ("x1", "COUNT_WITHOUT_RUN", None, 1.0),
        ("x2", "NOTHING_PRODUCED", 0.0, None),
        ("x3", None, 1.5, 1.0),
        ("x4", "NO_IDEAL_CYCLE", None, None),
    ],
)
def test_a_ratio_without_meaning_is_empty_with_its_reason(
    marts: Marts, shift: str, reason: str | None, oee: float | None, quality: float | None
) -> None:
    for table in ("mart_oee_by_shift", "fct_oee"):
        row = marts.row(f"SELECT * FROM marts.{table} WHERE shift_id = '{shift}'")
        assert (row["reason"], row["oee"], row["quality"]) == (reason, oee, quality)
        assert row["suspect_ideal_cycle"] is (shift == "x3"), "an effectiveness above 1 is flagged, never capped"


def test_the_mart_and_the_command_line_give_the_same_oee(marts: Marts) -> None:
    keys = ["equipment_id", "production_date", "shift_id"]
    expected = oee_ratios(frame(LAKE_TABLES, "oee_elements", [_elements(row) for row in OEE_ROWS]), keys).sort(keys)
    found = marts.connection.sql("FROM marts.mart_oee_by_shift").pl().sort(keys)
    shared = [name for name in expected.columns if name in found.columns]
    assert {"oee", "nee", "tpm_performance", "reason", "suspect_ideal_cycle", "ideal_gq_s", "apt_s"} <= set(shared)
    assert found.select(shared).to_dicts() == expected.select(shared).to_dicts()


def test_downtime_pareto_counts_losses_only(marts: Marts) -> None:
    pareto = marts.rows("SELECT * FROM marts.mart_downtime_pareto ORDER BY pareto_rank")
    assert [(row["reason_code"], row["n_stops"], row["duration_s"]) for row in pareto] == [
        ("JAM", 2, 34 * 60.0),
        ("TOOL", 1, 20 * 60.0),
        ("(none)", 1, 6 * 60.0),
    ]
    assert [row["cumulative_share"] for row in pareto] == pytest.approx([34 / 60, 54 / 60, 1.0])
    assert pareto[0]["n_micro_stops"] == 1
    assert pareto[0]["reason_description"] == "Part jammed"
    assert pareto[0]["mean_stop_s"] == 17 * 60.0


def test_a_refused_record_is_listed_once_per_broken_rule(marts: Marts) -> None:
    rejected = marts.rows("SELECT * FROM marts.mart_rejected ORDER BY refused_by, reason")
    assert [(row["refused_by"], row["record_id"], row["column_name"], row["reason_code"]) for row in rejected] == [
        ("measurement", "bad", "unit", "MISSING"),
        ("measurement", "bad", "value", "NOT_FINITE"),
        ("telemetry", "t1", "observed_at", "NOT_A_TIME"),
    ]
    assert rejected[2]["raw_record"] == '{"at": "noon"}'
    assert (rejected[0]["page_sha256"], rejected[0]["page_row"]) == (PAGE, 6)


def test_the_publication_says_what_it_is(marts: Marts) -> None:
    publication = marts.row("SELECT * FROM marts.meta_publication")
    assert publication == {
        "published_version": VERSION, "run_id": "run-1", "measurements": 6, "subgroups": 3, "points": 6, "violations": 1,
        "limit_versions": 1, "oee_shifts": 7, "stops": 6, "rejected_records": 2, "first_production_date": FIRST,
        "last_production_date": SECOND, "as_of": datetime(2026, 10, 30, 7),  # noqa: DTZ001 - UTC without a zone, for BI tools
    }  # fmt: skip
    assert marts.serving.verify(VERSION).rows["mart_control_chart_point"] == 6


def documented_queries() -> list[Any]:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```sql\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, flags=re.MULTILINE)]
    return [pytest.param(block[1], id=[title for at, title in headings if at < block.start()][-1]) for block in blocks]


def test_the_how_to_answers_every_promised_question() -> None:
    titles = {parameter.id for parameter in documented_queries()}
    assert {
        "Control limits in force", "Violations, newest first", "OEE by shift", "Downtime pareto", "Rejected records",
        "From a point back to the raw page",
    } <= titles  # fmt: skip


@pytest.mark.parametrize("query", documented_queries())
def test_a_documented_query_runs_and_finds_rows(marts: Marts, query: str) -> None:
    assert marts.rows(query.rstrip().rstrip(";"))


def test_a_point_is_traced_to_the_landed_page(marts: Marts) -> None:
    query = next(
        parameter.values[0] for parameter in documented_queries() if parameter.id == "From a point back to the raw page"
    )
    traced = marts.rows(query.rstrip().rstrip(";"))
    assert [(row["record_id"], row["value"], row["page_sha256"], row["page_row"]) for row in traced] == [
        ("m20", 10.6, PAGE, 4),
        ("m21", 10.8, PAGE, 5),
    ]


def test_wrong_figures_stop_the_build(tmp_path: Path) -> None:
    """Every dbt test of ours can fail, and then dbt fails."""
    rows = lake_rows()
    rows["oee_elements"][0]["apt_s"] += 1.0
    rows["oee_elements"][2]["material_definition_id"] = "P1"
    rows["spc_points"][0]["lcl"] = 11.0
    rows["spc_subgroups"][1]["n_observed"] = 3
    rows["measurement"].append(rows["measurement"][0])
    rows["state_interval"] *= 2
    rows["downtime_event"].append(rows["downtime_event"][0])
    rows["spc_limits"] *= 2
    database = tmp_path / "spc.duckdb"
    register_lake(database, write_lake(tmp_path, rows), {name: frame(SITE_TABLES, name, r) for name, r in SITE_ROWS.items()})
    built = dbt_build(database, tmp_path)
    assert built.returncode == 1
    results = json.loads((tmp_path / "target" / "run_results.json").read_text())["results"]
    failed = {row["unique_id"].split(".")[2] for row in results if row["status"] in ("fail", "error")}
    assert failed == {
        "fct_oee_partition_of", "fct_oee_unique_combination", "fct_subgroup_traced_to", "fct_measurement_unique_combination",
        "fct_state_interval_unique_combination", "fct_downtime_unique_combination", "mart_control_chart_point_ordered",
        "fct_control_limit", "fct_limit_estimate",
    }  # fmt: skip


def test_register_lake_refuses_a_missing_file_an_unknown_table_and_a_used_database(tmp_path: Path) -> None:
    database = tmp_path / "spc.duckdb"
    with pytest.raises(LakeError, match=r"missing.*gone\.parquet"):
        register_lake(database, {"measurement": [tmp_path / "gone.parquet"]}, {})
    with pytest.raises(LakeError, match="no contract for measurment"):
        register_lake(database, {"measurment": []}, {})
    with pytest.raises(LakeError, match=r"named spc\.duckdb"):
        register_lake(tmp_path / "marts.duckdb", {}, {})
    register_lake(database, {}, {})
    with pytest.raises(LakeError, match="fresh directory"):
        register_lake(database, {}, {})
    with duckdb.connect(database) as connection:
        connection.execute("CREATE SCHEMA marts; CREATE VIEW marts.v AS SELECT 1 AS one")
    with pytest.raises(LakeError, match=r"views are left.*marts\.v"):
        drop_lake(database)
