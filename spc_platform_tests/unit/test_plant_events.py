"""The plant's events of orders, operations and materials, and its meters: consistent with each other and with their truth."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spc_platform.plant import Plant
from spc_platform.plant.flow import ROUTES
from spc_platform.plant.process import FIRST_DATE, METERS
from spc_platform.site.loader import load_site

SITE = Path(__file__).resolve().parents[2] / "data" / "site"
FOURTEEN = [FIRST_DATE + timedelta(days=number) for number in range(14)]
EVENTS = ("order-events", "segment-events", "material-links")
EXCHANGE = date(2026, 4, 1)
WIP = ["queue_items", "queue_quantity", "in_process_items", "in_process_quantity"]
PLACE = ["line", "operation"]


@pytest.fixture(scope="module")
def plant():
    return Plant()


@pytest.fixture(scope="module")
def site():
    return load_site(SITE)


def instant(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us").dt.replace_time_zone("UTC")


def current(plant: Plant, resource: str) -> pl.DataFrame:
    """Valid records of the 14 dates in their latest revision, in the order of their happening."""
    bad = plant.truth("event_defects").filter(pl.col("expected_reason").is_not_null())
    records = pl.concat([plant.day(resource, each).frame for each in FOURTEEN])
    latest = records.sort("rev").unique("id", keep="last").filter(~pl.col("deleted"))
    return latest.join(bad, left_on="id", right_on="record_id", how="anti").with_columns(instant("at")).sort("at", "id")


def test_the_events_of_fourteen_dates_stay_below_forty_thousand_records(plant):
    events = sum(plant.day(resource, each).frame.height for resource in EVENTS for each in FOURTEEN)
    energy = sum(plant.day("telemetry", each).frame["signal"].str.ends_with(".energy").sum() for each in FOURTEEN)
    assert 5_000 < events < 10_000
    assert 20_000 < energy < 30_000


def test_the_events_of_a_date_do_not_depend_on_the_order_in_which_dates_are_asked_for():
    seed = 77
    late_first, in_turn = Plant(seed), Plant(seed)
    last = late_first.day("segment-events", FOURTEEN[5]).frame
    assert last.equals(Plant(seed).day("segment-events", FOURTEEN[5]).frame)
    for each in FOURTEEN[:5]:
        in_turn.day("segment-events", each)
    assert last.equals(in_turn.day("segment-events", FOURTEEN[5]).frame)


def test_the_routings_of_the_site_are_the_ways_of_the_plants_lots(site):
    routed = site["routings"].sort("material_definition_id", "sequence").group_by("material_definition_id", maintain_order=True)
    routes = {product[0]: tuple(rows.select("segment_id", "equipment_id").rows()) for product, rows in routed}
    lines = {"HSG": ROUTES["line_a"], "VLV": ROUTES["line_b"]}
    assert routes == {product: lines[product[:3]] for product in ("HSG-100", "HSG-200", "VLV-10", "VLV-20")}


# --- orders


def test_every_order_is_released_before_it_starts_and_completed_after_its_counts_end(plant):
    orders = plant.truth("order_lifecycle").filter(pl.col("completed_at").is_not_null())
    assert orders.height > 40
    assert orders.filter(pl.col("released_at") >= pl.col("started_at")).is_empty()
    assert orders.filter(pl.col("closed_at") <= pl.col("completed_at")).is_empty()
    records = pl.concat([plant.records("work-orders", each) for each in FOURTEEN]).filter(rev=2)
    both = orders.join(records, left_on="job_order_id", right_on="id")
    assert both.height == orders.filter(pl.col("released_at") < datetime(2026, 4, 6, 4, tzinfo=UTC)).height
    assert both.filter(pl.col("started_at") != both.select(instant("start"))["start"] + timedelta(seconds=60)).is_empty()
    assert both.filter(pl.col("completed_at") <= both.select(instant("end"))["end"]).is_empty()
    assert both.filter(pl.col("planned_quantity") != pl.col("planned")).is_empty()


def test_orders_are_paused_cancelled_late_and_on_time(plant):
    orders = plant.truth("order_lifecycle")
    paused = orders.filter(pl.col("pauses") > 0)
    assert paused.height > 5
    assert paused["paused_s"].is_between(1200, 3600).all()
    assert orders["cancelled_at"].drop_nulls().len() > 0
    assert orders.filter(pl.col("cancelled_at").is_not_null() & pl.col("started_at").is_not_null()).is_empty()
    assert (orders["lateness_s"] > 0).any()
    assert (orders["lateness_s"] < 0).any()


def test_the_order_events_as_sent_tell_the_true_lifecycle(plant):
    sent = current(plant, "order-events").select("order", "event", "at").sort("at", "order", "event")
    true = plant.truth("order_events").filter(pl.col("production_date").is_in(FOURTEEN))
    assert (
        sent.rows()
        == true.select("job_order_id", "event_type", "occurred_at")
        .sort(pl.all())
        .select("job_order_id", "event_type", "occurred_at")
        .sort("occurred_at", "job_order_id", "event_type")
        .rows()
    )


# --- operations


def test_parts_in_are_parts_out_at_every_operation(plant):
    visits = plant.truth("segment_visits")
    assert visits.filter(pl.col("finished_quantity") + pl.col("scrapped_quantity") != pl.col("quantity")).is_empty()
    order = pl.col("came_at") <= pl.col("queued_at"), pl.col("queued_at") <= pl.col("started_at")
    assert visits.filter(~(order[0] & order[1] & (pl.col("started_at") < pl.col("finished_at")))).is_empty()
    assert visits["scrapped_quantity"].sum() > 0
    assert visits["reworked_quantity"].sum() > 0


def test_a_station_works_on_one_lot_at_a_time_and_only_begins_and_ends_while_it_runs(plant):
    on_station = plant.truth("segment_visits").filter(~pl.col("item_id").str.ends_with("-R")).sort("equipment_id", "started_at")
    following = on_station.with_columns(next=pl.col("started_at").shift(-1).over("equipment_id"))
    assert following.filter(pl.col("next") < pl.col("finished_at")).is_empty()
    schedule = plant.schedule(FOURTEEN[2])
    begun = on_station.filter(
        pl.col("started_at").is_between(schedule.start, schedule.start + timedelta(hours=24), closed="left")
    )
    assert begun.height > 80
    for station, at in begun.select("equipment_id", "started_at").rows():
        assert schedule.stations[station].state[int((at - schedule.start).total_seconds())] == 0, (station, at)


def test_work_in_process_counted_from_the_events_as_sent_is_the_true_one(plant):
    """Balances of every operation in plain sums: queued + again - started waits; started - scrapped - finished is worked on."""
    events = current(plant, "segment-events").with_columns(
        came=pl.when(pl.col("event") == "queued").then(
            pl.when(pl.col("event").shift(1).over("item", order_by="at") == "finished").then(
                pl.col("at").shift(1).over("item", order_by="at")
            )
        )
    )
    events = events.with_columns(at=pl.coalesce("came", "at"))
    signs = {"queued": (1, 0), "started": (-1, 1), "sent_to_rework": (1, -1), "scrapped": (0, -1), "finished": (0, -1)}
    truth = plant.truth("wip_at").filter(pl.col("production_date").is_in(FOURTEEN))
    for at in truth["at"].unique().sort().gather_every(7):
        happened = events.filter(pl.col("at") <= at)
        for place, column in enumerate(("queue_quantity", "in_process_quantity")):
            sign = pl.col("event").replace_strict({name: value[place] for name, value in signs.items()}, return_dtype=pl.Int64)
            held = happened.group_by(segment_id="operation").agg(held=(sign * pl.col("quantity")).sum())
            both = truth.filter(at=at).join(held, on="segment_id", how="left").with_columns(pl.col("held").fill_null(0))
            assert both.filter(pl.col("held") != pl.col(column)).is_empty(), (at, column)


def test_little_in_part_seconds_of_the_events_as_sent_and_of_the_true_visits(plant):
    """Up to any instant, parts times the time that they have spent equal the area under the work in process (Little 1961)."""
    noon = datetime(2026, 3, 29, 10, tzinfo=UTC)
    visits = plant.truth("segment_visits").filter(pl.col("queued_at") < noon, segment_id="inspection")
    spent = pl.col("quantity") * (pl.min_horizontal("finished_at", pl.lit(noon)) - pl.col("queued_at")).dt.total_seconds()
    # Scrapped parts leave two seconds before the end of their lot.
    early = visits.filter(pl.col("finished_at") < noon)["scrapped_quantity"].sum() * 2
    events = current(plant, "segment-events").filter(pl.col("at") < noon, operation="inspection")
    sign = {"queued": 1, "started": 0, "scrapped": -1, "finished": -1}
    to_noon = (noon - pl.col("at")).dt.total_seconds() * pl.col("quantity")
    area = events.select((to_noon * pl.col("event").replace_strict(sign, return_dtype=pl.Int64)).sum()).item()
    assert visits.height > 100
    assert area == visits.select(spent.sum()).item() - early


# --- materials


def test_the_genealogy_has_no_cycle_and_every_kind_of_link_and_reaches_from_supplier_to_housing(plant):
    edges = plant.truth("genealogy_edges")
    assert set(edges["link_type"]) == {"consumed", "assembled", "split", "merged", "reworked"}
    other = edges.filter(pl.col("parent_id") != pl.col("child_id"))
    assert edges.filter(pl.col("parent_id") == pl.col("child_id"))["link_type"].unique().to_list() == ["reworked"]
    depth, left = 0, other.select("parent_id", "child_id").unique()
    while left.height:
        roots = left.join(left, left_on="parent_id", right_on="child_id", how="anti")
        assert roots.height, "a cycle is left"
        left = left.join(roots, on=["parent_id", "child_id"], how="anti")
        depth += 1
    assert depth >= 4
    bodies = other.filter(pl.col("parent_id").str.starts_with("SUP-BDY"))["child_id"]
    for _ in range(4):
        bodies = other.filter(pl.col("parent_id").is_in(bodies.implode()))["child_id"].unique()
        if bodies.str.starts_with("LA").any():
            return
    raise AssertionError("no body of a valve reaches a housing")


def test_no_more_of_a_lot_of_valves_is_assembled_than_was_finished(plant):
    used = plant.truth("genealogy_edges").filter(link_type="assembled").group_by("parent_id").agg(pl.col("quantity").sum())
    made = plant.truth("segment_visits").filter(segment_id="final_test").group_by("item_id").agg(pl.col("good_quantity").sum())
    both = used.join(made, left_on="parent_id", right_on="item_id", how="left")
    assert both.height > 50
    assert both["good_quantity"].null_count() == 0
    assert both.filter(pl.col("quantity") > pl.col("good_quantity")).is_empty()


def test_a_split_shares_a_lot_and_a_merge_adds_two(plant):
    edges, visits = plant.truth("genealogy_edges"), plant.truth("segment_visits")
    split = edges.filter(link_type="split").group_by("parent_id").agg(pl.len(), pl.col("quantity").sum())
    whole = visits.filter(pl.col("segment_id").is_in(["pressing", "welding"])).select("item_id", "good_quantity")
    shared = split.join(whole, left_on="parent_id", right_on="item_id")
    assert shared["len"].unique().to_list() == [2]
    assert shared.filter(pl.col("quantity") != pl.col("good_quantity")).is_empty()
    merged = edges.filter(link_type="merged").group_by("child_id").agg(pl.len(), pl.col("quantity").sum())
    last = visits.filter(pl.col("segment_id").is_in(["fastening", "final_test"])).select("item_id", in_all="quantity")
    added = merged.join(last, left_on="child_id", right_on="item_id")
    assert added.height > 10
    assert added["len"].unique().to_list() == [2]
    assert added.filter(pl.col("quantity") != pl.col("in_all")).is_empty()


def test_the_lots_of_measured_parts_are_lots_of_the_genealogy(plant):
    lots = plant.day("measurements", FOURTEEN[2]).frame["lot"].drop_nulls().unique()
    edges = plant.truth("genealogy_edges")
    known = lots.is_in(edges["child_id"].implode())
    assert known.mean() > 0.95


# --- how records come


@pytest.mark.parametrize("resource", EVENTS)
def test_records_come_late_are_corrected_and_withdrawn_as_the_truth_says(plant, resource):
    defects = plant.truth("event_defects").filter(pl.col("production_date").is_in(FOURTEEN), resource=resource)
    records = pl.concat([plant.day(resource, each).frame for each in FOURTEEN]).with_columns(
        instant("at"), instant("updated_at")
    )
    assert {"late", "corrected", "withdrawn"} <= set(defects["kind"])
    late = records.filter(rev=1).join(defects.filter(kind="late"), left_on="id", right_on="record_id")
    assert (late["updated_at"] - late["at"]).min() >= timedelta(hours=1)
    corrected = defects.filter(kind="corrected")["record_id"]
    first, second = (records.filter(pl.col("id").is_in(corrected.implode()), rev=rev).sort("id") for rev in (1, 2))
    changed = "at" if resource == "order-events" else "quantity"
    assert first["id"].equals(second["id"])
    assert (first[changed] != second[changed]).all()
    gone = records.filter(pl.col("id").is_in(defects.filter(kind="withdrawn")["record_id"].implode())).sort("id", "rev")
    assert gone["deleted"].to_list() == [False, True] * (gone.height // 2)


def test_impossible_records_are_rare_and_each_has_its_reason(plant):
    bad = plant.truth("event_defects").filter(pl.col("expected_reason").is_not_null())
    assert set(bad["kind"]) == {"unknown_station", "unknown_operation", "no_quantity", "future", "own_parent", "negative"}
    for resource in EVENTS:
        for each in FOURTEEN:
            share = bad.filter(resource=resource, production_date=each).height / plant.day(resource, each).frame.height
            assert share < 0.05, (resource, each)


# --- energy


def readings(plant: Plant, signal: str) -> pl.DataFrame:
    frame = pl.concat([plant.day("telemetry", each).frame for each in FOURTEEN])
    return frame.filter(signal=signal).with_columns(instant("at")).sort("at")


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.station)
def test_the_steps_of_a_meter_add_up_to_the_true_energy(plant, meter):
    step = readings(plant, meter.signal)["value"].diff().drop_nulls().to_numpy()
    falls = np.flatnonzero(step < 0)
    assert falls.size == (meter.station in ("A10", "B20"))
    if meter.station == "A10":
        step[falls] += 10_000
    elif meter.station == "B20":
        shown = readings(plant, meter.signal)["value"].to_numpy()
        step[falls] = shown[falls + 1]
    true = plant.truth("energy_kwh").filter(equipment_id=meter.station)["kwh"].sum()
    assert step.sum() == pytest.approx(true, abs=0.002)


def test_a_meter_is_exchanged_between_two_readings_that_are_both_there(plant):
    shown = readings(plant, "B20.energy").filter(pl.col("at").dt.convert_time_zone("Europe/Berlin").dt.date() == EXCHANGE)
    drop = int(np.flatnonzero(np.diff(shown["value"].to_numpy()) < 0)[0])
    before, after = shown["at"][drop], shown["at"][drop + 1]
    assert (before + timedelta(milliseconds=1), after - before) == (
        datetime(2026, 4, 1, 8, 15, tzinfo=UTC),
        timedelta(minutes=5),
    )


def test_energy_is_power_of_the_state_times_its_seconds(plant):
    meter = METERS[0]
    power = dict(zip(("RUN", "STOP", "IDLE", "SETUP"), meter.power_w, strict=True))
    true = plant.truth("energy_kwh").filter(pl.col("state") != "UNKNOWN", equipment_id=meter.station)
    watts = true["kwh"] * 3_600_000 / true["seconds"]
    assert watts.to_list() == pytest.approx([power[state] for state in true["state"]], rel=1e-12)
    elements = plant.truth("oee_elements").filter(equipment_id=meter.station)
    assert true["seconds"].sum() == elements["pot_s"].sum()


def test_a_truth_of_events_tells_nothing_of_the_future():
    plant = Plant(now=datetime(2026, 3, 25, 12, tzinfo=UTC))
    for name in ("order_events", "segment_visits", "wip_at", "genealogy_edges", "event_defects"):
        assert plant.truth(name).height > 0
        instants = [column for column in ("occurred_at", "finished_at", "at") if column in plant.truth(name).columns]
        assert plant.truth(name)[instants[0]].max() <= plant.now, name
    assert plant.truth("energy_kwh")["production_date"].max() == date(2026, 3, 24)
