"""What the platform found against what the embedded plant did: every injected defect, cause, second and part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from math import sqrt

import polars as pl
import pytest
from scipy.stats import norm, poisson

from spc_platform.plant.process import CHARACTERISTICS
from spc_platform.spc.rules import RULE_SETS
from spc_platform.spc.run_lengths import average_run_length
from spc_platform_tests.pipeline.conftest import FOURTEEN_DATES, Finished

WESTERN_ELECTRIC = RULE_SETS["western_electric"]
TRUE = {what.characteristic: what for what in CHARACTERISTICS}
UNLIKELY = 1e-3
"""A special cause counts as found when chance alone would give as many signals less often than this."""
DISPERSION_ALARM_RATE = 0.01
"""More than the share of ranges (n = 5: 0.0046) or deviations (n = 8: 0.0039) above the upper limit in control."""


@pytest.fixture(scope="module")
def violations(finished: Finished) -> pl.DataFrame:
    return finished.table("spc_violations")


@pytest.fixture(scope="module")
def points(finished: Finished) -> pl.DataFrame:
    return finished.table("spc_points")


def test_every_sensor_outlier_is_masked_and_still_judged(finished: Finished, violations: pl.DataFrame) -> None:
    outliers = finished.truth("sensor_outliers")
    flags = finished.table("measurement_flags")
    assert outliers.height == 3 * 13, "three on each date but the first"
    masked = outliers.join(flags.filter("is_masked"), on="record_id", suffix="_kept")
    assert masked.height == outliers.height
    assert masked.filter(pl.col("value") != pl.col("value_kept")).is_empty(), "a mask alters no value"
    individuals = masked.join(
        finished.workspace.site["characteristics"].filter(chart="i_mr").select("characteristic_id"), on="characteristic_id"
    )
    assert individuals.height > 5
    beyond = violations.filter((pl.col("panel") == "location") & pl.col("rule").str.ends_with("_1"))
    assert individuals.join(
        beyond.with_columns(measured_at="subgroup_at"), on=["characteristic_id", "measured_at"], how="anti"
    ).is_empty()


def test_few_good_values_are_masked(finished: Finished) -> None:
    """Hampel with 15 values and 6 MAD, IQR with 3: about one good value in a thousand."""
    masked = finished.table("measurement_flags").select("record_id", "is_masked")
    for name in ("sensor_outliers", "special_cause_measurements"):
        masked = masked.join(finished.truth(name), on="record_id", how="anti")
    assert masked.height > 80_000
    assert 0 < masked["is_masked"].sum() < 0.002 * masked.height


def signals_of(cause: dict[str, object], violations: pl.DataFrame) -> pl.DataFrame:
    """Points beyond a control limit, on the panel and side that the cause moves, from its start to its end."""
    variance = cause["kind"] == "variance"
    side = "above" if variance or float(str(cause["size_sigma"])) > 0 else "below"
    return violations.filter(
        (pl.col("characteristic_id") == cause["characteristic_id"])
        & (pl.col("equipment_id") == cause["equipment_id"])
        & (pl.col("panel") == ("dispersion" if variance else "location"))
        & pl.col("rule").str.ends_with("_1")
        & (pl.col("side") == side)
        & pl.col("subgroup_at").is_between(cause["start_at"], cause["end_at"])
    )


def test_every_special_cause_is_signalled_within_its_window(
    finished: Finished, points: pl.DataFrame, violations: pl.DataFrame
) -> None:
    """Only rule 1 counts (a point beyond the limit), on the side of the shift; a variance must show on the R or S panel.

    Points beyond one limit are independent in control, 0.135 % of them, so chance has a Poisson tail.
    """
    causes = finished.truth("special_causes")
    assert causes["cause_id"].to_list() == [f"SC{number:02}" for number in range(1, 11)]
    for cause in causes.iter_rows(named=True):
        found = signals_of(cause, violations)
        panel = "dispersion" if cause["kind"] == "variance" else "location"
        inside = points.filter(
            (pl.col("characteristic_id") == cause["characteristic_id"])
            & (pl.col("panel") == panel)
            & pl.col("subgroup_at").is_between(cause["start_at"], cause["end_at"])
        )
        if cause["kind"] == "spike":
            hit = finished.truth("special_cause_measurements").filter(cause_id=cause["cause_id"])
            assert hit["measured_at"].item() in found["subgroup_at"].to_list(), cause["cause_id"]
            continue
        rate = DISPERSION_ALARM_RATE if cause["kind"] == "variance" else norm.sf(3.0)
        assert inside.height >= 7, cause["cause_id"]
        assert poisson.sf(found.height - 1, rate * inside.height) < UNLIKELY, (cause["cause_id"], found.height)


def test_without_the_cause_the_same_measure_finds_nothing(finished: Finished, violations: pl.DataFrame) -> None:
    """The measure above can fail: in the same hours of another date it finds at most one of the ten."""
    causes = finished.truth("special_causes")
    elsewhere = 0
    for cause in causes.iter_rows(named=True):
        day = -2 if cause["start_at"].date() > FOURTEEN_DATES[4] else 3
        moved = cause | {name: cause[name] + pl.duration(days=day) for name in ("start_at", "end_at")}
        elsewhere += signals_of(moved, violations).height >= 3
    assert elsewhere <= 1


def in_control(finished: Finished, points: pl.DataFrame) -> pl.DataFrame:
    """Means and individuals in phase II that no special cause, sensor outlier or correction touches, with the true process."""
    true = pl.DataFrame(
        [(what.characteristic, what.mean, what.sigma) for what in CHARACTERISTICS],
        schema=["characteristic_id", "true_mean", "true_sigma"],
        orient="row",
    )
    disturbed = finished.truth("special_causes").select("characteristic_id", "start_at", "end_at")
    hit = points.join(disturbed, on="characteristic_id").filter(
        pl.col("subgroup_at").is_between(pl.col("start_at") - pl.duration(hours=1), "end_at")
    )
    plain = pl.col("statistic").is_in(["xbar", "x"])
    free = points.filter(plain & ~pl.col("is_baseline") & (pl.col("n_masked") == 0))
    outliers = finished.truth("sensor_outliers").select("characteristic_id", "production_date")
    return (
        free.join(hit.select("subgroup_id"), on="subgroup_id", how="anti")
        .join(outliers, on=["characteristic_id", "production_date"], how="anti")
        .join(true, on="characteristic_id")
        .join(finished.workspace.site["characteristics"].select("characteristic_id", "rule_set"), on="characteristic_id")
    )


def test_points_beyond_the_limits_are_as_many_as_the_true_process_predicts(finished: Finished, points: pl.DataFrame) -> None:
    """The limits are estimates, so the chance of each point beyond them follows from the plant's true mean and sigma.

    Points are independent: their number has the mean sum(p) and at most that variance; 4 standard deviations are allowed.
    """
    free = in_control(finished, points)
    error = free["true_sigma"].to_numpy() / free["n_observed"].to_numpy() ** 0.5
    mean = free["true_mean"].to_numpy()
    expected = (norm.cdf((free["lcl"].to_numpy() - mean) / error) + norm.sf((free["ucl"].to_numpy() - mean) / error)).sum()
    beyond = free.filter((pl.col("value") < pl.col("lcl")) | (pl.col("value") > pl.col("ucl")))
    flagged = free.filter(pl.col("rules").cast(pl.String).str.contains(r"_1(;|$)"))
    assert flagged["subgroup_id"].equals(beyond["subgroup_id"]), "rule 1 flags exactly what lies beyond the limits"
    assert free.height > 20_000
    assert abs(beyond.height - expected) < 4 * sqrt(expected), (beyond.height, expected)


def alarms_with_restart(charts: pl.DataFrame, violations: pl.DataFrame) -> Iterator[tuple[str, int]]:
    """Chart and number of alarms, when after each alarm the rules forget what was before it.

    That is the process whose mean run length the theory gives; the platform itself never forgets at an alarm.
    """
    rules = {rule.name: rule for rule in WESTERN_ELECTRIC}
    signals = defaultdict(list)
    for signal in violations.sort("subgroup_at").iter_rows(named=True):
        signals[signal["characteristic_id"]].append(signal)
    for (chart,), rows in charts.sort("subgroup_at").group_by("characteristic_id", maintain_order=True):
        place = {key: number for number, key in enumerate(rows["subgroup_id"])}
        z = rows["z"].to_list()
        began, alarms = 0, 0
        for signal in signals[str(chart)]:
            rule = rules[signal["rule"]]
            zone = 3.0 if rule.zone is None else rule.zone
            sign = 1.0 if signal["side"] == "above" else -1.0
            window = [place.get(key, -1) for key in signal["window_subgroup_ids"].split(";")]
            if window[-1] < began or sum(at >= began and sign * z[at] > zone for at in window) < rule.k:
                continue
            began, alarms = window[-1] + 1, alarms + 1
        yield str(chart), alarms


def test_false_alarms_are_as_frequent_as_the_exact_run_length_of_the_rules(
    finished: Finished, points: pl.DataFrame, violations: pl.DataFrame
) -> None:
    """All Western Electric rules together, against the Markov chain of Champ and Woodall at each chart's own limits.

    The chain is taken at the true mean in units of the estimated limits, for full subgroups. A run length varies about as much
    as it is long, so the number of alarms varies like a Poisson number; 4 standard deviations are allowed.
    """
    charts = in_control(finished, points).filter(rule_set="western_electric")
    located = violations.filter((pl.col("panel") == "location") & (pl.col("rule_set") == "western_electric"))
    counted = dict(alarms_with_restart(charts, located))
    expected = 0.0
    for (chart,), rows in charts.group_by("characteristic_id"):
        what, n = TRUE[str(chart)], int(rows["n_observed"].max())
        error = what.sigma / sqrt(n)
        widened = rows["standard_error"].to_numpy()[rows["n_observed"].arg_max()] / error
        shift = (what.mean - float(rows["cl"][0])) / error
        rules = [replace(rule, zone=None if rule.zone is None else rule.zone * widened) for rule in WESTERN_ELECTRIC]
        expected += rows.height / average_run_length(rules, shift, 3.0 * widened)
    assert len(counted) == 13
    assert charts.height > 12_000
    assert abs(sum(counted.values()) - expected) < 4 * sqrt(expected), (sum(counted.values()), expected, charts.height)


def test_every_bad_record_is_refused_for_its_reason_and_nothing_else_is(finished: Finished) -> None:
    bad = finished.truth("bad_records").filter(expected="rejected")
    rejected = finished.table("measurement_rejected").select("record_id", "reasons", "production_date")
    assert bad.height == 8 * 14
    expected = bad.select("record_id", reasons="expected_reason").sort("record_id")
    assert rejected.select("record_id", "reasons").sort("record_id").equals(expected)
    accepted = finished.table("measurement").select("record_id")
    assert accepted.join(bad, on="record_id", how="semi").is_empty()


def test_values_in_a_registered_unit_are_converted_and_the_source_s_value_stays_in_raw(finished: Finished) -> None:
    converted = finished.truth("bad_records").filter(expected="converted")
    unit = {what.characteristic: what.unit for what in CHARACTERISTICS}
    kept = converted.select("record_id").join(finished.table("measurement"), on="record_id")
    raw = kept.select("record_id").join(
        finished.table("raw_measurement").filter("is_current").select("record_id", said="value", said_unit="unit"),
        on="record_id",
    )
    assert kept.height == converted.height == 2 * 14
    factor = {("bar", "kPa"): 100.0, ("um", "mm"): 0.001, ("kN", "N"): 1000.0}
    for row in kept.join(raw, on="record_id").iter_rows(named=True):
        assert row["unit"] == unit[row["characteristic_id"]]
        assert row["value"] == pytest.approx(row["said"] * factor[row["said_unit"], row["unit"]], rel=1e-12)
        assert row["unit_conversion"] == f"{row['said_unit']}>{row['unit']}"
    unconverted = finished.table("measurement").join(converted, on="record_id", how="anti")
    assert unconverted["unit_conversion"].null_count() == unconverted.height


def test_every_gap_of_the_telemetry_has_the_flag_that_its_length_earns(finished: Finished) -> None:
    """Under 3 cells held, 3 to 5 interpolated, more missing, or imputed where the stream declares it."""
    aligned = finished.table("telemetry_aligned").select("stream_id", "grid_at", "fill_flag", "value", "n_observed")
    gaps = finished.truth("telemetry_gaps")
    inside = aligned.filter(pl.col("n_observed") == 0).join_where(
        gaps,
        pl.col("stream_id") == pl.col("stream_id_right"),
        pl.col("grid_at") >= pl.col("gap_from"),
        pl.col("grid_at") < pl.col("gap_to"),
    )
    imputing = "B10.spindle_load"
    flag = (
        pl.when(kind="short").then(pl.lit("held")).when(kind="middle").then(pl.lit("interpolated"))
        .when(stream_id=imputing).then(pl.lit("imputed")).otherwise(pl.lit("missing"))
    )  # fmt: skip
    assert gaps.height > 400
    assert inside.height == gaps["cells"].sum()
    assert inside.filter(pl.col("fill_flag").cast(pl.String) != flag).is_empty()
    assert inside.filter((pl.col("fill_flag") == "missing") != pl.col("value").is_null()).is_empty()


def test_no_cell_of_a_shift_is_empty_but_for_the_gaps(finished: Finished) -> None:
    """But for the last cell of a date on the stream whose clock is 7 s fast: its observation may bear the next date."""
    last_cells = [finished.workspace.day_bounds(day)[1] - timedelta(seconds=20) for day in FOURTEEN_DATES]
    streams = finished.workspace.site["streams"].select("stream_id", "equipment_id")
    shifts = finished.table("shift_calendar").select("equipment_id", "start_at", "end_at")
    empty = (
        finished.table("telemetry_aligned")
        .filter(pl.col("fill_flag") != "observed")
        .select("stream_id", "grid_at")
        .filter(~((pl.col("stream_id") == "B20.laser_power") & pl.col("grid_at").is_in(last_cells)))
        .join(streams, on="stream_id")
        .join_where(
            shifts,
            pl.col("equipment_id") == pl.col("equipment_id_right"),
            pl.col("grid_at") >= pl.col("start_at"),
            pl.col("grid_at") < pl.col("end_at"),
        )
    )
    gaps = finished.truth("telemetry_gaps")["cells"].sum()
    lost = finished.truth("lost_readings").select("stream_id", "grid_at").sort("stream_id", "grid_at")
    of_meters = pl.col("stream_id").cast(pl.String).str.ends_with(".energy")
    assert empty.filter(~of_meters).height == gaps
    meters = empty.filter(of_meters).select(pl.col("stream_id").cast(pl.String), "grid_at").sort("stream_id", "grid_at")
    assert meters.rows() == lost.rows()


def test_oee_elements_are_equal_to_the_second_and_the_part(finished: Finished) -> None:
    key = ["equipment_id", "production_date", "shift_id", "material_definition_id"]
    figures = ["pot_s", "pdt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s", "pq", "gq", "sq", "rq"]
    columns = [*key, *figures]

    def typed(frame: pl.DataFrame) -> pl.DataFrame:
        texts = [pl.col(name).cast(pl.String) for name in key if name != "production_date"]
        return frame.with_columns(*texts, pl.col(figures).cast(pl.Float64)).select(columns)

    truth, found = typed(finished.truth("oee_elements")), typed(finished.table("oee_elements"))
    assert truth.height == found.height > 400
    assert truth.join(found, on=columns, how="anti", nulls_equal=True).is_empty()
    assert found.join(truth, on=columns, how="anti", nulls_equal=True).is_empty()
    ideal = finished.table("oee_elements").filter(pl.col("pq") > 0)
    assert ideal.join(finished.truth("oee_elements"), on=[*key, "pri_s"], how="anti").is_empty()


def test_corrections_are_in_force_and_what_they_replace_is_kept(finished: Finished) -> None:
    raw, core = finished.table("raw_measurement"), finished.table("measurement")
    changed = finished.truth("corrections").filter(kind="changed")
    now = changed.join(core.select("record_id", "value", current_revision="revision"), on="record_id")
    assert changed.height == 3 * 14
    assert now.height == changed.height
    assert now.filter((pl.col("value") != pl.col("new_value")) | (pl.col("current_revision") != 2)).is_empty()
    before = changed.join(raw.filter(pl.col("revision") == 1), on="record_id")
    assert before.height == changed.height
    assert before.filter((pl.col("value") != pl.col("old_value")) | pl.col("is_current")).is_empty()
    assert changed.filter(pl.col("old_value") == pl.col("new_value")).is_empty()


def test_deleted_records_are_gone_from_core_and_kept_in_raw(finished: Finished) -> None:
    deleted = finished.truth("corrections").filter(kind="deleted")
    assert deleted.height == 14
    for table in ("measurement", "measurement_rejected", "measurement_flags"):
        assert finished.table(table).join(deleted, on="record_id", how="semi").is_empty(), table
    kept = finished.table("raw_measurement").join(deleted.select("record_id"), on="record_id")
    assert sorted(kept.select("revision", "is_current", "is_deleted").rows()) == 14 * [(1, False, False)] + 14 * [
        (2, True, True)
    ]


def test_moved_records_are_on_their_new_date_only(finished: Finished) -> None:
    moved = finished.truth("corrections").filter(kind="moved")
    assert moved.height >= 6
    core = finished.table("measurement").join(moved.select("record_id", "new_production_date"), on="record_id")
    assert core.height == moved.height
    assert core.filter(pl.col("production_date") != pl.col("new_production_date")).is_empty()
    raw = moved.select("record_id", "new_production_date").join(finished.table("raw_measurement"), on="record_id")
    assert raw.height == 2 * moved.height
    assert raw.filter(pl.col("is_current") != (pl.col("production_date") == pl.col("new_production_date"))).is_empty()


def test_late_records_are_in_core(finished: Finished) -> None:
    late = finished.truth("late_records")
    assert late.height == 40 * 14
    assert late.join(finished.table("measurement"), on=["record_id", "production_date"], how="anti").is_empty()


@pytest.mark.parametrize("name", ["measurement", "telemetry", "equipment_state", "production_count", "work_order"])
def test_what_was_landed_is_accepted_rejected_superseded_or_deleted(finished: Finished, name: str) -> None:
    """Against the plant's own records, so that nothing is lost on the way from the page to raw either."""
    raw = finished.table(f"raw_{name}")
    current = raw.filter(pl.col("is_current") & ~pl.col("is_deleted"))
    accepted, rejected = finished.table(name), finished.table(f"{name}_rejected")
    both = pl.concat([frame.select("source_id", "record_id") for frame in (accepted, rejected)])
    assert both.is_unique().all()
    assert current.select("source_id", "record_id").sort("record_id").equals(both.sort("record_id"))
    assert accepted.height > 0


def test_no_check_failed(finished: Finished) -> None:
    assert finished.workspace.verdicts.failed() == []
    assert list(finished.workspace.lake.verify()) == []
