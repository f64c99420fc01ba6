"""The marts, built by dbt from a lake small enough to recompute by hand, and the documented queries on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.order_summary import ERP_OUTBOX
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.errors import LakeError
from spc_platform.lake.marts import drop_lake, register_lake
from spc_platform.lake.serving import Serving
from spc_platform.production.oee import oee_ratios
from spc_platform.settings import REPOSITORY
from spc_platform_tests.pipeline.marts_lake import (
    FIRST,
    HOUR,
    MU,
    OEE_ROWS,
    OUTBOX_ROWS,
    PAGE,
    SCRAPPED,
    SECOND,
    SITE_ROWS,
    VERSION,
    Marts,
    dbt_build,
    frame,
    lake_rows,
    oee_elements_row,
    write_lake,
)
from spc_platform_tests.pipeline.marts_operations import REFUSED

DOCUMENT = REPOSITORY / "docs" / "how-to" / "query-the-marts.md"


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marts]:
    """The published marts of the tiny lake, whose Parquet files are then removed: the version stands alone."""
    work = tmp_path_factory.mktemp("marts")
    serving = Serving(work / "serving")
    files = write_lake(work, lake_rows())
    database = serving.build_path(VERSION)
    site = {name: frame(SITE_TABLES, name, rows) for name, rows in SITE_ROWS.items()}
    register_lake(database, files, site, ERP_OUTBOX.conform(pl.DataFrame(OUTBOX_ROWS, schema=ERP_OUTBOX.schema)))
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


STATISTICS = {
    "fct_measurement", "fct_subgroup", "fct_count_subgroup", "fct_control_limit", "fct_limit_estimate", "fct_spc_violation",
    "fct_capability", "fct_chart_fitness", "fct_limit_drift", "fct_alarm_budget", "fct_shadow_signal",
    "fct_multivariate_point", "fct_multivariate_variable", "fct_multivariate_limit", "mart_chart_overview",
    "mart_control_chart_point",
}  # fmt: skip
"""Marts of measurements and charts; every other fact is one of production."""


def test_every_mart_of_production_says_until_when_the_plant_was_known_or_why_not(marts: Marts) -> None:
    tables = {row["table_name"]: row["comment"] for row in marts.rows("SELECT table_name, comment FROM duckdb_tables()")}
    facts = {name for name in tables if name.startswith(("fct_", "mart_"))}
    assert facts >= STATISTICS
    told = {
        row["table_name"]: row["data_type"]
        for row in marts.rows("SELECT table_name, data_type FROM duckdb_columns() WHERE column_name = 'as_of'")
    }
    without = facts - STATISTICS - set(told)
    assert {name for name in without if "No as_of: " not in tables[name]} == set()
    assert without < facts - STATISTICS
    assert all(told[name] == "TIMESTAMP" for name in facts & set(told))
    for name in ("fct_scrap_reason", "fct_energy", "mart_six_losses", "mart_downtime_pareto", "fct_wip_finding"):
        assert marts.row(f"SELECT count(as_of) > 0 AS any FROM marts.{name}")["any"], name


def test_the_equipment_hierarchy_is_flattened(marts: Marts) -> None:
    assert marts.row("SELECT work_center_id, area_id, site_id FROM marts.dim_equipment WHERE equipment_id = 'S1'") == {
        "work_center_id": "L1", "area_id": "HALL", "site_id": "PLANT",
    }  # fmt: skip
    assert marts.row("SELECT work_center_id, area_id FROM marts.dim_equipment WHERE equipment_id = 'HALL'") == {
        "work_center_id": None, "area_id": "HALL",
    }  # fmt: skip


def test_a_part_is_judged_by_the_specification_in_force_when_it_was_made(marts: Marts) -> None:
    judged = marts.rows(
        "SELECT record_id, lsl, usl, is_within_specification FROM marts.fct_measurement "
        "WHERE characteristic_id = 'bore' ORDER BY record_id"
    )
    assert [row["usl"] for row in judged] == [11.0] * 4 + [10.7] * 2
    assert judged[4]["lsl"] is None, "version 2 is one-sided"
    assert [row["is_within_specification"] for row in judged] == [True] * 5 + [False]  # 10.8 > 10.7
    assert marts.row("SELECT specification_version, usl FROM marts.dim_characteristic WHERE characteristic_id = 'bore'") == {
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
    point = marts.row(
        "SELECT * FROM marts.mart_control_chart_point "
        "WHERE characteristic_id = 'bore' AND point_number = 3 AND panel = 'location'"
    )
    # sigma / sqrt(2) = 0.0707107; (10.7 - 10.1) / 0.0707107 = 8.48528
    assert point["ucl"] == pytest.approx(10.3121320, abs=1e-7)
    assert point["plus_2_sigma"] == pytest.approx(10.2414214, abs=1e-7)
    assert point["minus_1_sigma"] == pytest.approx(10.0292893, abs=1e-7)
    assert point["z"] == pytest.approx(8.48528, abs=1e-5)
    assert (point["lsl"], point["usl"], point["unit"]) == (None, 10.7, "mm")
    spread = marts.row(
        "SELECT * FROM marts.mart_control_chart_point "
        "WHERE characteristic_id = 'bore' AND point_number = 3 AND panel = 'dispersion'"
    )
    assert spread["minus_2_sigma"] == 0, "0.1128 - 2 * 0.08525 is below 0, where no range can be"
    assert spread["minus_1_sigma"] == pytest.approx(0.02755)
    assert spread["usl"] is None, "a specification says nothing about ranges"


def test_limits_are_published_with_version_reason_and_the_estimate_beside(marts: Marts) -> None:
    limit = marts.row("SELECT * FROM marts.fct_control_limit WHERE characteristic_id = 'bore'")
    assert (limit["limit_version"], limit["is_newest"], limit["approved_by"]) == (1, True, "site policy")
    assert limit["location_ucl"] == pytest.approx(10.3121320, abs=1e-7)
    assert marts.row("SELECT mu, mu_in_force, version_in_force FROM marts.fct_limit_estimate") == {
        "mu": 10.3, "mu_in_force": 10.1, "version_in_force": 1,
    }  # fmt: skip


def test_limits_of_a_version_are_given_where_they_follow_from_it_alone(marts: Marts) -> None:
    columns = "location_lcl, location_cl, location_ucl"
    limits = {
        row["characteristic_id"]: row for row in marts.rows(f"SELECT characteristic_id, {columns} FROM marts.fct_control_limit")
    }
    found = {name: tuple(row[column] for column in columns.split(", ")) for name, row in limits.items()}
    assert found["port"] == pytest.approx((MU - 1.5, MU, MU + 1.5)), "between subgroups: 3 * sigma of the means, 0.5"
    assert found["flaws"] == (0, 4.0, 10.0), "c = 4: 4 -+ 3 sqrt(4), and no count below 0"
    assert found["scrap"] == (None, 0.04, None), "limits of a share depend on each sample"
    assert found["leak"] == (None, None, None), "a CUSUM has no location panel"


def test_points_of_counted_subgroups_carry_their_shift_count_and_zones(marts: Marts) -> None:
    scrap = marts.rows("SELECT * FROM marts.mart_control_chart_point WHERE characteristic_id = 'scrap' ORDER BY point_number")
    # sqrt(0.04 * 0.96 / 50) = 0.0277128: 2 of them below 0.04 is no share
    assert [row["count"] for row in scrap] == list(SCRAPPED)
    last = scrap[-1]
    assert (last["size"], last["shift_id"], last["job_order_id"], last["unit"], last["status"]) == (
        50,
        "early",
        "J1",
        "1",
        "used",
    )
    assert last["minus_2_sigma"] == 0
    assert last["minus_1_sigma"] == pytest.approx(0.0122872, abs=1e-7)
    assert last["plus_2_sigma"] == pytest.approx(0.0954256, abs=1e-7)
    good = marts.row("SELECT * FROM marts.mart_control_chart_point WHERE characteristic_id = 'yield' AND point_number = 1")
    assert good["plus_2_sigma"] == 1, "0.99 + 2 * 0.00995 is no share"
    counted = marts.row("SELECT count, size, rate, counted FROM marts.fct_count_subgroup WHERE production_date = '2026-10-30' "
                        "AND characteristic_id = 'scrap'")  # fmt: skip
    assert counted == {"count": 9, "size": 50, "rate": 0.18, "counted": "scrap"}


ZONES = ("minus_2_sigma", "minus_1_sigma", "plus_1_sigma", "plus_2_sigma")


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("characteristic_id = 'leak' AND panel = 'upper'", "used"),
        ("characteristic_id = 'leak' AND panel = 'lower'", "used"),
        ("characteristic_id = 'gap'", "used"),
        ("characteristic_id = 'yield' AND cl IS NULL", "no_limits"),
    ],
    ids=["upper CUSUM", "lower CUSUM", "g chart without standard error", "no limits in force"],
)
def test_a_point_without_zones_has_none(marts: Marts, where: str, status: str) -> None:
    point = marts.row(f"SELECT * FROM marts.mart_control_chart_point WHERE {where}")
    assert [point[name] for name in ZONES] == [None] * 4
    assert point["status"] == status


def test_a_cusum_is_in_standard_errors_and_each_panel_has_one_limit(marts: Marts) -> None:
    panels = marts.rows(
        "SELECT panel, value, lcl, cl, ucl, unit, usl, is_violation FROM marts.mart_control_chart_point "
        "WHERE characteristic_id = 'leak' ORDER BY panel"
    )
    assert [tuple(row.values()) for row in panels] == [
        ("lower", -0.2, -5.0, 0.0, None, "1", None, False),
        ("upper", 5.5, None, 0.0, 5.0, "1", None, True),
    ]


def test_the_values_behind_a_multivariate_point_are_standardized_by_its_version(marts: Marts) -> None:
    part = marts.rows(
        "SELECT p.value AS t2, v.characteristic_id, v.z, v.unit, v.is_largest_contribution "
        "FROM marts.fct_multivariate_point AS p "
        "JOIN marts.fct_multivariate_variable AS v USING (vector_id, production_date) WHERE p.serial_number = 'P2' ORDER BY 2"
    )
    assert [row["z"] for row in part] == pytest.approx([1.0, 1.5])
    assert [row["is_largest_contribution"] for row in part] == [False, True]
    assert {row["unit"] for row in part} == {"mm"}
    a, b = (row["z"] for row in part)
    assert part[0]["t2"] == pytest.approx((a**2 + b**2 - 2 * 0.6 * a * b) / (1 - 0.6**2))
    pair = marts.row("SELECT * FROM marts.fct_multivariate_limit WHERE characteristic_id < other_characteristic_id")
    assert (pair["sigma"], pair["correlation"], pair["is_newest"]) == (pytest.approx(0.1), pytest.approx(0.6), True)


def test_a_part_measured_on_two_dates_is_a_point_of_each(marts: Marts) -> None:
    dates = marts.rows("SELECT production_date FROM marts.fct_multivariate_point WHERE serial_number = 'P1' ORDER BY 1")
    assert [row["production_date"] for row in dates] == [FIRST, SECOND]


def test_the_overview_has_one_row_per_chart_with_its_newest_verdicts(marts: Marts) -> None:
    rows = marts.rows("SELECT * FROM marts.mart_chart_overview WHERE NOT is_multivariate ORDER BY rank NULLS LAST, chart_id")
    assert [row["characteristic_id"] for row in rows] == ["bore", "leak", "gap", "scrap", "width", "yield"]
    bore, leak, _, scrap, width, _ = rows
    assert (bore["is_discovery"], bore["drift_verdict"], bore["fitness_verdict"], bore["n_signals_7d"]) == (
        True,
        "shifted",
        "fit",
        1,
    )
    assert (bore["specification_version"], bore["stability"], bore["cpk"], bore["ppk"]) == (2, "unstable", None, 0.0)
    assert bore["capability_reason"] == "sigma within: one subgroup"
    assert (leak["fitness_verdict"], leak["suggested_chart"], leak["drift_verdict"]) == ("unfit", "residual_i_mr", "no_version")
    assert leak["n_samples_7d"] == 1, "one leak test, plotted on two panels"
    assert (scrap["n_samples_7d"], scrap["n_signals_7d"]) == (7, 2), (
        "of nine dates the last seven; the first two signals are older"
    )
    assert scrap["last_signal_at"] == datetime(2026, 10, 30, 4)  # noqa: DTZ001 - UTC without a zone, for BI tools
    assert (width["n_samples_7d"], width["rank"], width["is_discovery"], width["limit_version"]) == (0, None, False, None)


def test_the_overview_has_the_multivariate_charts_those_without_limits_too(marts: Marts) -> None:
    new, parts = marts.rows("SELECT * FROM marts.mart_chart_overview WHERE is_multivariate ORDER BY chart_id")
    columns = ("chart_id", "chart", "description", "work_center_id", "characteristic_id", "limit_version", "limits_approved_by")
    assert [parts[name] for name in columns] == ["S1.parts", "t2", "bore, width", "L1", None, 1, "site policy"]
    assert [new[name] for name in columns] == ["S1.new", "mewma", "bore, width", "L1", None, None, None]
    assert (parts["n_samples_7d"], parts["n_signals_7d"], parts["last_signal_at"]) == (3, 1, datetime(2026, 10, 29, 4))  # noqa: DTZ001
    assert (new["n_samples_7d"], new["n_signals_7d"], new["last_production_date"]) == (0, 0, None)


def test_every_revision_of_a_summary_stands_with_what_the_erp_said_to_it(marts: Marts) -> None:
    rows = marts.rows("SELECT * FROM marts.fct_erp_delivery ORDER BY job_order_id, revision")
    columns = ("job_order_id", "revision", "is_newest", "state", "acknowledged_at", "refused_at", "next_attempt_at")
    first, second, third = (datetime(2026, 10, 29, 4 + hour) for hour in range(3))  # noqa: DTZ001 - UTC without a zone
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("WO-1", 1, False, "acknowledged", second, None, None),
        ("WO-1", 2, True, "sent", None, None, third),
        ("WO-2", 1, True, "refused", None, second, None),
    ]
    assert {row["entered_at"] for row in rows} == {first}


@pytest.mark.parametrize(
    ("mart", "lake"),
    [
        ("fct_subgroup", "spc_subgroups"),
        ("fct_count_subgroup", "spc_count_subgroups"),
        ("fct_control_limit", "spc_limits"),
        ("fct_limit_estimate", "spc_limit_estimates"),
        ("fct_capability", "spc_capability"),
        ("mart_control_chart_point", "spc_points"),
        ("fct_spc_violation", "spc_violations"),
        ("fct_multivariate_point", "spc_vector_points"),
        ("fct_multivariate_variable", "spc_vectors"),
        ("fct_multivariate_limit", "spc_vector_limits"),
        ("fct_chart_fitness", "spc_chart_fitness"),
        ("fct_limit_drift", "spc_limit_drift"),
        ("fct_shadow_signal", "spc_shadow"),
        ("fct_alarm_budget", "spc_alarm_budget"),
        ("fct_work_order", "work_order_status"),
        ("fct_wip_interval", "wip_interval"),
        ("fct_wip_finding", "wip_finding"),
        ("fct_oee_rollup", "oee_rollup"),
        ("fct_oee_loss", "oee_loss"),
        ("fct_scrap_reason", "scrap_reason"),
        ("fct_changeover", "changeover"),
        ("fct_flow_interval", "flow_interval"),
        ("fct_count_comparison", "count_comparison"),
        ("fct_bottleneck", "bottleneck"),
        ("fct_reliability", "reliability"),
        ("fct_energy", "energy_by_state"),
        ("fct_energy_per_part", "energy_per_part"),
        ("fct_genealogy", "lot_genealogy"),
        ("fct_genealogy_refused", "lot_genealogy_refused"),
        ("fct_operations_event", "operations_event"),
        ("fct_clock_offset", "clock_offset"),
    ],
)
def test_a_mart_publishes_every_column_of_its_table(marts: Marts, mart: str, lake: str) -> None:
    """A column that a contract gains is missing here until stg_lake__*.sql, the mart and marts.yml name it."""
    comments = marts.rows(f"SELECT column_name, comment FROM duckdb_columns() WHERE table_name = '{mart}'")
    published = {row["column_name"]: row["comment"] for row in comments}
    assert set(LAKE_TABLES[lake].names) <= set(published)
    with_unit = [column.name for column in LAKE_TABLES[lake].columns if column.unit not in ("", "1")]
    assert [name for name in with_unit if "unit: " not in published[name]] == []
    (counted,) = marts.rows(f"SELECT count(*) AS n FROM marts.{mart}")
    assert counted["n"] == len(lake_rows()[lake]), "no row is lost or doubled on the way"


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
    expected = oee_ratios(frame(LAKE_TABLES, "oee_elements", [oee_elements_row(row) for row in OEE_ROWS]), keys).sort(keys)
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
    rejected = marts.rows(
        "SELECT * FROM marts.mart_rejected WHERE refused_by IN ('measurement', 'telemetry') ORDER BY refused_by, reason"
    )
    assert [(row["refused_by"], row["record_id"], row["column_name"], row["reason_code"]) for row in rejected] == [
        ("measurement", "bad", "unit", "MISSING"),
        ("measurement", "bad", "value", "NOT_FINITE"),
        ("telemetry", "t1", "observed_at", "NOT_A_TIME"),
    ]
    assert rejected[2]["raw_record"] == '{"at": "noon"}'
    assert (rejected[0]["page_sha256"], rejected[0]["page_row"]) == (PAGE, 6)


def test_every_table_that_refuses_records_is_listed(marts: Marts) -> None:
    rejected = marts.rows("SELECT DISTINCT refused_by, subject_id, reason, event_at FROM marts.mart_rejected ORDER BY ALL")
    assert {f"{row['refused_by']}_rejected" for row in rejected} == {name for name in LAKE_TABLES if name.endswith("_rejected")}
    others = [row for row in rejected if row["refused_by"] not in ("measurement", "telemetry")]
    assert [(row["refused_by"], row["subject_id"], row["reason"]) for row in others] == [
        (table, subject, reason) for table, _, subject, _, reason in REFUSED
    ]
    assert {row["event_at"] for row in others} == {datetime(2026, 10, 29, 4)}  # noqa: DTZ001 - UTC without a zone


def test_the_six_losses_of_a_line_add_up_to_its_planned_busy_time(marts: Marts) -> None:
    """LOSSES of marts_operations in minutes: 850 = 340 + 90 + 180 good, and the sums of each loss over both shifts."""
    rows = marts.rows(f"SELECT * FROM marts.mart_six_losses WHERE production_date = '{FIRST}' ORDER BY loss_rank")
    assert [(row["loss"], row["loss_group"], row["lost_s"] / 60) for row in rows] == [
        ("equipment_failure", "availability", 50.0),
        ("setup_and_adjustment", "availability", 30.0),
        ("reduced_speed", "performance", 25.0),
        ("process_defects", "quality", 17.0),
        ("idling_and_minor_stops", "performance", 15.0),
        ("reduced_yield", "quality", 3.0),
        ("no_order", "none", 100.0),
        ("unknown", "none", 0.0),
    ]
    assert {(row["pbt_s"] / 60, row["value_adding_s"] / 60) for row in rows} == {(850.0, 610.0)}
    assert sum(row["share"] for row in rows) == pytest.approx(1 - 610 / 850)


def test_a_loss_is_empty_where_an_ideal_cycle_is_not_known(marts: Marts) -> None:
    rows = marts.rows(f"SELECT * FROM marts.mart_six_losses WHERE production_date = '{SECOND}' ORDER BY loss_rank")
    lost = {row["loss"]: row["lost_s"] for row in rows}
    assert (lost["equipment_failure"], lost["reduced_speed"], lost["process_defects"]) == (1200.0, None, None)
    assert rows[0]["loss"] == "equipment_failure", "what is not known ranks behind what is"
    assert rows[0]["value_adding_s"] is None


def test_a_week_is_published_once_as_newest(marts: Marts) -> None:
    weeks = marts.rows("SELECT production_date, is_newest FROM marts.fct_oee_rollup WHERE period = 'week' ORDER BY 1")
    assert [tuple(row.values()) for row in weeks] == [(FIRST, False), (SECOND, True)]
    others = marts.rows("SELECT is_newest FROM marts.fct_oee_rollup WHERE period <> 'week'")
    assert [row["is_newest"] for row in others] == [True, True]


def test_scrap_without_a_reason_or_with_an_unlisted_one_is_kept(marts: Marts) -> None:
    scrap = marts.rows("SELECT reason_code, reason_description, scrap_quantity FROM marts.fct_scrap_reason ORDER BY 3")
    assert [tuple(row.values()) for row in scrap] == [(None, None, 2), ("WARMUP", None, 3), ("BURR", "Burr on the edge", 5)]


def test_the_publication_says_what_it_is(marts: Marts) -> None:
    publication = marts.row("SELECT * FROM marts.meta_publication")
    assert publication == {
        "published_version": VERSION, "run_id": "run-1", "measurements": 7, "subgroups": 4, "points": 20, "violations": 1,
        "limit_versions": 5, "oee_shifts": 7, "stops": 6, "rejected_records": 9, "first_production_date": FIRST,
        "last_production_date": SECOND, "as_of": datetime(2026, 10, 30, 7),  # noqa: DTZ001 - UTC without a zone, for BI tools
    }  # fmt: skip
    assert marts.serving.verify(VERSION).rows["mart_control_chart_point"] == 20


def documented_queries() -> list[Any]:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```sql\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, flags=re.MULTILINE)]
    return [pytest.param(block[1], id=[title for at, title in headings if at < block.start()][-1]) for block in blocks]


def test_the_how_to_answers_every_promised_question() -> None:
    titles = {parameter.id for parameter in documented_queries()}
    assert {
        "Control limits in force", "Violations, newest first", "OEE by shift", "Downtime pareto", "Rejected records",
        "From a point back to the raw page", "What to look at first", "The alarm budget of the plant",
        "Multivariate charts: which characteristic moved", "Where the time of a line goes", "Work orders that are late",
        "Work in process and its age", "Bottleneck of a shift", "Changeovers from product to product", "Energy per good part",
        "Where a lot went", "The event log of a record",
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
    rows["spc_points"][1]["standard_error"] = -1.0
    for point in rows["spc_points"]:
        point.update({"upper": {"lcl": -9.0}, "lower": {"ucl": 9.0}}.get(point["panel"], {}))
    rows["spc_vector_limits"][1]["covariance"] = 0.021
    rows["spc_limit_drift"][0]["shift_ci_low"] = 2.5
    rows["spc_alarm_budget"][1]["rank"] = 1
    rows["oee_loss"][0]["reduced_speed_s"] += 1.0
    rows["oee_rollup"][1]["adet_s"] += 1.0
    rows["count_comparison"][0]["difference"] += 1
    for table in ("oee_loss", "oee_rollup", "wip_interval", "energy_by_state", "energy_per_part", "scrap_reason", "bottleneck"):
        rows[table].append(rows[table][-1])
    rows["operations_event"].append(rows["operations_event"][0])
    database = tmp_path / "spc.duckdb"
    register_lake(database, write_lake(tmp_path, rows), {name: frame(SITE_TABLES, name, r) for name, r in SITE_ROWS.items()})
    built = dbt_build(database, tmp_path)
    assert built.returncode == 1
    results = json.loads((tmp_path / "target" / "run_results.json").read_text())["results"]
    failed = {row["unique_id"].split(".")[2] for row in results if row["status"] in ("fail", "error")}
    assert failed == {
        "fct_oee_partition_of", "fct_oee_unique_combination", "fct_subgroup_traced_to", "fct_measurement_unique_combination",
        "fct_state_interval_unique_combination", "fct_downtime_unique_combination", "mart_control_chart_point_ordered",
        "fct_control_limit", "fct_limit_estimate", "mart_chart_overview", "mart_control_chart_point_zones_ordered",
        "mart_control_chart_point_upper_empty_where", "mart_control_chart_point_lower_empty_where",
        "fct_multivariate_limit_correlation_in_range", "fct_limit_drift_ordered", "fct_alarm_budget_unique_combination",
        "fct_oee_loss_partition_of", "fct_oee_loss_unique_combination", "fct_oee_rollup_partition_of",
        "fct_count_comparison_partition_of",
        "fct_oee_rollup_unique_combination", "fct_wip_interval_unique_combination", "fct_energy_unique_combination",
        "fct_energy_per_part_unique_combination", "fct_scrap_reason_unique_combination", "fct_bottleneck",
        "fct_operations_event_unique_combination",
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
