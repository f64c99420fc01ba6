"""The embedded plant's records and truth: determined by the seed, consistent with each other and with its site folder."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.plant import Plant
from spc_platform.plant.measuring import BAD_RECORDS
from spc_platform.plant.process import (
    CHARACTERISTICS,
    DEFAULT_NOW,
    FIRST_DATE,
    METER_GRID_S,
    METERS,
    MICRO_STOP_S,
    PRI_S,
    SHIFTS,
    SPECIAL_CAUSES,
    STREAMS,
)
from spc_platform.plant.records import RESOURCES
from spc_platform.plant.schedule import day_schedule
from spc_platform.site.loader import load_site

SITE = Path(__file__).resolve().parents[2] / "data" / "site"
FOURTEEN = [FIRST_DATE + timedelta(days=number) for number in range(14)]
WEDNESDAY = date(2026, 3, 25)
CLOCK_CHANGE = date(2026, 3, 28)
SECONDS = ["pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s"]


@pytest.fixture(scope="module")
def plant():
    return Plant()


@pytest.fixture(scope="module")
def site():
    return load_site(SITE)


@pytest.fixture(scope="module")
def measured(plant):
    """In-control and disturbed measurements of 14 dates, latest revision, in standard units of the true process."""
    bad = plant.truth("bad_records").select("record_id")
    moved = plant.truth("corrections").select("record_id")
    true = pl.DataFrame(
        [(c.characteristic, c.mean, c.sigma) for c in CHARACTERISTICS], schema=["characteristic", "mu", "sigma"], orient="row"
    )
    records = pl.concat([plant.records("measurements", each) for each in FOURTEEN])
    return (
        records.join(bad, left_on="id", right_on="record_id", how="anti")
        .join(moved, left_on="id", right_on="record_id", how="anti")
        .join(true, on="characteristic")
        .with_columns(z=(pl.col("value") - pl.col("mu")) / pl.col("sigma"))
        .sort("characteristic", "measured_at")
    )


def oee(plant, **where):
    return plant.truth("oee_elements").filter(**where)


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_date_does_not_depend_on_the_dates_generated_before_it(plant, resource):
    plant.records(resource, FIRST_DATE)
    alone = Plant().day(resource, WEDNESDAY)
    after_others = plant.day(resource, WEDNESDAY)
    assert_frame_equal(alone.frame, after_others.frame)
    for name, truth in alone.truth.items():
        assert_frame_equal(truth, after_others.truth[name])


@pytest.mark.parametrize("resource", RESOURCES)
def test_another_seed_is_another_plant(plant, resource):
    other = Plant(seed=1).day(resource, WEDNESDAY).frame
    assert not other.equals(plant.day(resource, WEDNESDAY).frame)


@pytest.mark.parametrize("resource", RESOURCES)
def test_records_come_in_the_order_of_updated_at_and_id_and_each_revision_once(plant, resource):
    frame = plant.day(resource, WEDNESDAY).frame
    assert frame.select("_us", "id").equals(frame.sort("_us", "id").select("_us", "id"))
    assert frame.select("id", "rev").is_unique().all()


def test_every_one_of_the_fourteen_dates_has_production(plant):
    made = plant.truth("oee_elements").group_by("production_date").agg(pl.col("pq").sum())
    assert sorted(made["production_date"]) == FOURTEEN
    assert made["pq"].min() > 0


def test_the_volume_of_fourteen_dates_is_the_stated_one(plant):
    measurements = sum(plant.day("measurements", each).frame.height for each in FOURTEEN)
    telemetry = sum(plant.day("telemetry", each).frame.height for each in FOURTEEN)
    assert 75_000 <= measurements <= 110_000
    assert 700_000 <= telemetry <= 850_000


def test_the_night_of_the_clock_change_lasts_seven_hours(plant):
    night = oee(plant, production_date=CLOCK_CHANGE, shift_id="night")
    assert night.group_by("equipment_id").agg(pl.col("pot_s").sum())["pot_s"].to_list() == [7 * 3600] * 4
    usual = oee(plant, production_date=WEDNESDAY, shift_id="night", equipment_id="A10")
    assert usual["pot_s"].sum() == 8 * 3600


def test_time_elements_partition_planned_operation_time_to_the_second(plant):
    elements = plant.truth("oee_elements")
    assert elements.filter(pl.sum_horizontal(SECONDS) != pl.col("pot_s")).is_empty()
    assert elements.filter(pl.col("minor_stop_s") > pl.col("adet_s")).is_empty()


def test_state_records_fill_each_stations_shifts_without_overlap(plant):
    closed = (
        plant.records("equipment-states", WEDNESDAY)
        .filter(pl.col("end").is_not_null())
        .with_columns(pl.col("start", "end").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ"))
        .sort("station", "start")
    )
    following = closed.with_columns(next=pl.col("start").shift(-1).over("station"))
    gaps = following.filter(pl.col("next") > pl.col("end")).select("station", gap=pl.col("next") - pl.col("end"))
    assert gaps.rows() == [("B30", timedelta(seconds=260))]
    assert following.filter(pl.col("next") < pl.col("end")).is_empty()
    # B20 is down from 05:50 to 06:10 on the next date: its last record reaches ten minutes beyond the date.
    lengths = closed.group_by("station").agg(length=(pl.col("end") - pl.col("start")).sum()).sort("station")
    beyond = {"B20": timedelta(minutes=10), "B30": timedelta(seconds=-260)}
    for station, length in lengths.rows():
        assert length == timedelta(hours=24) + beyond.get(station, timedelta()), station


def test_the_gap_without_a_state_is_the_only_unknown_time(plant):
    unknown = plant.truth("oee_elements").filter(pl.col("unknown_s") > 0)
    assert unknown.select("equipment_id", "production_date", "unknown_s").rows() == [("B30", WEDNESDAY, 260)]


def test_a_long_state_is_sent_open_and_closed_by_its_second_revision(plant):
    states = plant.day("equipment-states", WEDNESDAY).frame
    opened, closed = states.filter(pl.col("end").is_null()), states.filter(rev=2)
    assert opened.height > 100
    assert opened["rev"].unique().to_list() == [1]
    assert sorted(opened["id"]) == sorted(closed["id"])
    both = opened.join(closed, on="id", suffix="_closed")
    assert (both["_us"] < both["_us_closed"]).all()


def test_counts_of_the_records_add_up_to_the_truth(plant):
    counts = pl.concat([plant.records("production-counts", each) for each in FOURTEEN])
    recorded = counts.group_by("station", "product").agg(pl.col("good", "scrap", "rework").sum())
    true = plant.truth("oee_elements").group_by("equipment_id", "material_definition_id").agg(pl.col("gq", "sq", "rq").sum())
    both = recorded.join(true, left_on=["station", "product"], right_on=["equipment_id", "material_definition_id"])
    assert both.height == len(PRI_S)
    assert both.filter(
        (pl.col("good") != pl.col("gq")) | (pl.col("scrap") != pl.col("sq")) | (pl.col("rework") != pl.col("rq"))
    ).is_empty()
    assert plant.truth("oee_elements").filter(pl.col("pq") != pl.sum_horizontal("gq", "sq", "rq")).is_empty()


def test_performance_lies_between_80_and_100_percent(plant):
    long = plant.truth("oee_elements").filter(pl.col("apt_s") >= 3600)
    performance = long["pri_s"] * long["pq"] / long["apt_s"]
    assert performance.min() > 0.80
    assert performance.max() < 1.0


def test_a_count_is_made_in_a_shift_and_order_in_which_the_station_ran(plant):
    counts = plant.truth("oee_elements").filter(pl.col("pq") > 0)
    assert counts["apt_s"].min() > 0
    assert counts["material_definition_id"].null_count() == 0


def test_maintenance_recorded_after_the_fact_counts_only_from_its_recording_on(plant):
    # CAL-004: A20 15:00-16:30, recorded 15:40: 50 min planned, with the 30 min break of the late shift.
    late = oee(plant, equipment_id="A20", production_date=date(2026, 4, 1), shift_id="late")
    assert late["pdt_s"].sum() == (50 + 30) * 60
    assert late["adet_s"].sum() - late["minor_stop_s"].sum() >= 40 * 60
    # CAL-005: B40 07:00-07:45, recorded the day after: only the breaks of 15 and 30 min are planned.
    early = oee(plant, equipment_id="B40", production_date=date(2026, 4, 2), shift_id="early")
    assert early["pdt_s"].sum() == 45 * 60


def test_maintenance_recorded_before_the_fact_is_planned(plant):
    early = oee(plant, equipment_id="B10", production_date=date(2026, 3, 26), shift_id="early")
    assert early["pdt_s"].sum() == (45 + 90) * 60


def test_a_stop_across_a_shift_edge_keeps_its_class(plant):
    # B30 is jammed from 21:58:00 to 22:02:30, 270 s in two shifts: minor in both.
    event = plant.schedule(WEDNESDAY).stations["B30"]
    at = (22 - 6) * 3600
    assert event.event[at - 1] == event.event[at]
    run = np.flatnonzero((event.starts < at) & (event.ends > at))
    assert (event.ends - event.starts)[run].tolist() == [270]
    assert MICRO_STOP_S > 270


def test_line_b_does_not_work_on_good_friday(plant):
    assert oee(plant, production_date=date(2026, 4, 3))["work_center_id"].unique().to_list() == ["line_a"]


def test_in_control_values_are_independent_and_normal_around_the_true_mean(plant, measured):
    disturbed = pl.concat([plant.truth("special_cause_measurements"), plant.truth("sensor_outliers")], how="diagonal")
    calm = measured.join(disturbed.select("record_id"), left_on="id", right_on="record_id", how="anti")
    moments = calm.group_by("characteristic").agg(
        n=pl.len(),
        mean=pl.col("z").mean(),
        sd=pl.col("z").std(),
        skew=pl.col("z").skew(),
        lag=pl.corr("z", pl.col("z").shift(1)),
    )
    # Standard errors of a normal sample: mean 1/sqrt(n), sd 1/sqrt(2n), skewness sqrt(6/n), lag-1 correlation 1/sqrt(n).
    root = moments["n"].sqrt()
    assert (moments["mean"].abs() * root).max() < 4
    assert ((moments["sd"] - 1).abs() * root * 2**0.5).max() < 4
    assert (moments["skew"].abs() * root / 6**0.5).max() < 4
    assert (moments["lag"].abs() * root).max() < 4
    assert calm["z"].abs().max() < 5.5


@pytest.mark.parametrize("cause", [c for c in SPECIAL_CAUSES if c.start < DEFAULT_NOW], ids=lambda c: f"{c.cause}-{c.kind}")
def test_a_special_cause_has_its_stated_size(plant, measured, cause):
    hit = plant.truth("special_cause_measurements").filter(cause_id=cause.cause)
    z = measured.join(hit.select("record_id"), left_on="id", right_on="record_id")["z"]
    assert z.len() == hit.height > 0
    if cause.kind == "shift":
        assert abs(z.mean() - cause.size) < 4 / z.len() ** 0.5
    elif cause.kind == "drift":
        assert abs(z.mean() - cause.size / 2) < 0.5
        assert abs(z[-15:].mean()) > abs(z[:15].mean()) + 1.5
    elif cause.kind == "variance":
        assert abs(z.std() / cause.size - 1) < 4 / (2 * z.len()) ** 0.5
    else:
        assert z.len() == 1
        assert abs(z[0]) > 8 - 5.5


def test_special_causes_leave_the_first_baseline_alone(plant):
    first = plant.truth("special_causes")["production_date"].min()
    assert first >= FIRST_DATE + timedelta(days=2)
    assert plant.truth("sensor_outliers")["production_date"].min() > FIRST_DATE


def test_sensor_outliers_are_far_out_yet_inside_the_sensor_range(plant, site):
    outliers = plant.truth("sensor_outliers").join(site["characteristics"], on=["characteristic_id", "equipment_id"])
    assert outliers.height == 3 * 13
    assert outliers["size_sigma"].abs().min() >= 8
    assert outliers.filter(~pl.col("value").is_between(pl.col("sensor_min"), pl.col("sensor_max"))).is_empty()
    disturbed = plant.truth("special_cause_measurements")
    assert outliers.join(disturbed, on="record_id", how="semi").is_empty()


def test_each_date_holds_the_stated_number_of_bad_records(plant):
    bad = plant.truth("bad_records").filter(pl.col("production_date").is_in(FOURTEEN))
    per_date = bad.group_by("production_date", "kind").len()
    assert per_date.height == 14 * len(BAD_RECORDS)
    for _, kind, number in per_date.rows():
        assert number == BAD_RECORDS[kind][0], kind


def test_bad_records_are_sent_as_the_truth_says(plant, site):
    records = plant.records("measurements", WEDNESDAY)
    sent = plant.truth("bad_records").filter(production_date=WEDNESDAY).join(records, left_on="record_id", right_on="id")
    by_kind = {kind[0]: frame for kind, frame in sent.group_by("kind")}
    assert by_kind["nan"]["value"].null_count() == 2
    assert by_kind["missing_unit"]["unit"].null_count() == 1
    assert by_kind["wrong_unit"]["unit"].to_list() == ["psi"]
    assert by_kind["registered_unit"]["unit"][0] in ("bar", "um", "kN")
    assert "bar" in by_kind["registered_unit"]["unit"]
    assert not by_kind["no_zone"]["measured_at_right"][0].endswith("Z")
    assert by_kind["unknown_characteristic"]["characteristic"][0] not in site["characteristics"]["characteristic_id"]
    ranges = by_kind["impossible"].join(site["characteristics"], left_on="characteristic", right_on="characteristic_id")
    assert (ranges["value"] > ranges["sensor_max"]).all()


def test_each_kind_of_correction_occurs_and_a_moved_record_changes_its_date(plant, site):
    corrections = plant.truth("corrections")
    assert set(corrections["kind"]) == {"changed", "moved", "deleted"}
    moved = corrections.filter(kind="moved").row(0, named=True)
    both = plant.records("measurements", moved["production_date"]).filter(id=moved["record_id"]).sort("rev")
    at = both["measured_at"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    dates = pl.DataFrame({"at": at}).select(site.production_date(pl.col("at"))).to_series().to_list()
    assert dates == [moved["production_date"], moved["new_production_date"]]
    assert dates[0] != dates[1]


def test_a_correction_is_visible_only_after_its_updated_at():
    plant = Plant()
    correction = plant.truth("corrections").filter(kind="changed").row(0, named=True)
    day, record = correction["production_date"], correction["record_id"]
    plant.now = correction["updated_at"] - timedelta(milliseconds=1)
    before = plant.records("measurements", day).filter(id=record)
    assert before.select("rev", "value").rows() == [(1, correction["old_value"])]
    plant.now = correction["updated_at"]
    after = plant.records("measurements", day).filter(id=record).sort("rev")
    assert after.select("rev", "value").rows() == [(1, correction["old_value"]), (2, correction["new_value"])]


def test_late_records_come_hours_after_they_were_measured(plant):
    late = plant.truth("late_records").filter(pl.col("production_date").is_in(FOURTEEN))
    delay = late["updated_at"] - late["measured_at"]
    assert late.height == 40 * 14
    assert delay.min() >= timedelta(hours=2) - timedelta(seconds=1)
    assert delay.max() <= timedelta(hours=24)
    assert (delay > timedelta(hours=12)).any()


@pytest.mark.parametrize("resource", RESOURCES)
def test_nothing_of_the_fourteen_dates_is_outstanding_at_the_default_clock(plant, resource):
    now_us = DEFAULT_NOW.timestamp() * 1e6
    assert max(plant.day(resource, each).frame["_us"].max() for each in FOURTEEN) <= now_us


def test_telemetry_has_one_value_in_every_cell_outside_the_stated_gaps(plant):
    records = plant.day("telemetry", WEDNESDAY).frame
    gaps = plant.truth("telemetry_gaps").filter(production_date=WEDNESDAY)
    assert set(gaps.group_by("stream_id").len()["len"]) <= {3, 4}
    assert gaps.filter(kind="short")["cells"].max() <= 2
    assert set(gaps.filter(kind="middle")["cells"]) <= {3, 4, 5}
    assert gaps.filter(kind="long")["cells"].min() >= 8
    for stream in STREAMS:
        at = records.filter(signal=stream.signal)["at"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us")
        cell = (at.cast(pl.Int64) - int(stream.clock_offset_s * 1e6)) // (stream.grid_s * 1_000_000)
        missing = gaps.filter(stream_id=stream.signal)["cells"].sum()
        assert cell.is_unique().all(), stream.signal
        assert cell.len() == 24 * 3600 // stream.grid_s - missing, stream.signal


def test_serials_lots_and_orders_agree_across_the_stations_of_a_line(plant):
    parts = (
        plant.records("measurements", WEDNESDAY)
        .group_by("serial")
        .agg(
            pl.col("lot", "order").n_unique(),
            stations=pl.col("station").n_unique(),
            line=pl.col("station").str.head(1).n_unique(),
        )
    )
    assert parts["lot"].max() == parts["order"].max() == parts["line"].max() == 1
    assert (parts["stations"] == 4).mean() > 0.5


def test_a_dates_schedule_is_drawn_from_seed_and_date_alone():
    one, other = day_schedule(7, CLOCK_CHANGE), day_schedule(7, CLOCK_CHANGE)
    assert one.seconds == 23 * 3600
    for name, station in one.stations.items():
        assert np.array_equal(station.event, other.stations[name].event)


def test_advancing_past_the_fourteen_dates_gives_new_dates_up_to_the_last():
    plant = Plant(now=datetime(2026, 4, 7, 12, tzinfo=UTC))
    assert plant.production_dates()[-1] == date(2026, 4, 7)
    assert plant.records("measurements", date(2026, 4, 6)).height > 7000
    plant.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert plant.production_dates()[-1] == date(2026, 4, 19)


def test_unknown_names_are_refused_with_the_known_ones(plant):
    with pytest.raises(ValueError, match="measurements, telemetry"):
        plant.records("measurment", WEDNESDAY)
    with pytest.raises(ValueError, match="oee_elements"):
        plant.truth("oee")


def test_the_site_folder_describes_this_plant(site):
    measured = site["characteristics"].filter(pl.col("counted").is_null())
    charts = measured.select("characteristic_id", "equipment_id", "unit", "sensor_min", "sensor_max")
    true = [(c.characteristic, c.station, c.unit, c.sensor_min, c.sensor_max) for c in CHARACTERISTICS]
    assert sorted(charts.rows()) == sorted(true)
    keyed = site["characteristics"].filter(subgrouping="key").select("characteristic_id", "subgroup_size").rows()
    assert sorted(keyed) == sorted((c.characteristic, c.sample_size) for c in CHARACTERISTICS if c.sample_size)
    signals = site["streams"].select("stream_id", "equipment_id", "unit", "grid_s", "clock_offset_s").rows()
    meters = [(m.signal, m.station, "kW.h", METER_GRID_S, 0.0) for m in METERS]
    assert sorted(signals) == sorted([(s.signal, s.station, s.unit, s.grid_s, s.clock_offset_s) for s in STREAMS] + meters)
    ideal = site["products"].select("material_definition_id", "equipment_id", "pri_s").rows()
    assert {(product, station): pri for product, station, pri in ideal} == PRI_S
    assert site.policies.micro_stop_s == MICRO_STOP_S
    assert set(site["shifts"]["shift_id"]) == set(SHIFTS)
    assert site.first_production_date == FIRST_DATE


def test_the_site_uses_every_kind_of_chart_specification_and_rule_set(site):
    charts, limits = site["characteristics"], site["specifications"]
    assert charts.filter(pl.col("counted").is_null()).height == 24
    values = {"xbar_r", "xbar_s", "median_r", "i_mr", "i_mr_s", "ewma", "cusum", "moving_average"}
    assert set(charts["chart"]) == values | {"p", "np", "laney_p", "c", "u", "g"}
    assert set(site["multivariate"]["chart"]) == {"t2", "mewma"}
    assert set(charts["rule_set"]) == {"western_electric", "nelson", "limits_only"}
    assert limits.filter(pl.col("lsl").is_null()).height >= 1
    assert limits.filter(pl.col("usl").is_null()).height >= 1
    changed = limits.filter(pl.col("version") == 2)["effective_from"].dt.date().to_list()
    assert [each in FOURTEEN for each in changed] == [True]
    assert "state_median" in set(site["streams"]["imputation"])


def test_capability_is_spread_from_poor_to_excellent(site):
    true = pl.DataFrame(
        [(c.characteristic, c.mean, c.sigma) for c in CHARACTERISTICS],
        schema=["characteristic_id", "mu", "sigma"],
        orient="row",
    )
    cpk = (
        site["specifications"]
        .join(true, on="characteristic_id")
        .select(
            pl.min_horizontal(
                (pl.col("usl") - pl.col("mu")) / (3 * pl.col("sigma")), (pl.col("mu") - pl.col("lsl")) / (3 * pl.col("sigma"))
            )
        )
        .to_series()
    )
    assert 0.8 < cpk.min() < 1.0
    assert 1.8 < cpk.max() <= 2.01


def test_no_telemetry_value_lies_outside_its_sensor_range(plant, site):
    records = pl.concat([plant.day("telemetry", each).frame for each in FOURTEEN])
    ranges = records.join(site["streams"], left_on="signal", right_on="stream_id")
    assert ranges.height == records.height
    assert ranges.filter(~pl.col("value").is_between(pl.col("sensor_min"), pl.col("sensor_max"))).is_empty()


def test_new_resources_leave_the_bytes_of_the_earlier_ones_alone(plant):
    """SHA-256 of the CSV of 14 dates before events and meters were added."""
    before = {
        "measurements": "cb8f2332906423a8",
        "telemetry": "540f823d40ddaf87",
        "equipment-states": "bdceff8629393901",
        "production-counts": "101b90fee460c3d0",
        "work-orders": "c1b289139b63e351",
    }
    for resource, digest in before.items():
        found = sha256()
        for each in FOURTEEN:
            frame = plant.day(resource, each).frame
            kept = frame.filter(~pl.col("signal").str.ends_with(".energy")) if resource == "telemetry" else frame
            found.update(kept.write_csv().encode())
        assert found.hexdigest()[:16] == digest, resource
