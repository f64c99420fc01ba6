"""Orders, work in process, roll-ups, losses, energy, genealogy and the event log of the embedded plant against its truth.

What can be counted is counted a second time here, from the plant's truth or with the standard library alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from datetime import date, timedelta
from graphlib import TopologicalSorter

import polars as pl
import pytest

from spc_platform.contracts.events import OPERATIONS_EVENT_TYPES
from spc_platform.engine.steps.operations import STEPS
from spc_platform.plant.events import order_lifecycle
from spc_platform.production.event_log import verify_chain
from spc_platform_tests.pipeline.conftest import FOURTEEN_DATES, Finished

READING_KWH = 0.0005
"""A reading shows three decimals."""
SUMMED = ["pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s", "pq", "gq", "sq", "rq"]
Rows = dict[tuple[object, ...], dict[str, float]]


def of_dates(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("production_date").is_in(FOURTEEN_DATES))


def single(finished: Finished, table: str) -> pl.DataFrame:
    return finished.workspace.lake.read(table).cast({pl.Categorical: pl.String})


def test_no_check_of_any_table_failed(finished: Finished) -> None:
    assert finished.workspace.verdicts.failed() == []


def test_every_table_of_operations_is_made(finished: Finished) -> None:
    for step in STEPS:
        for table in step.outputs:
            if step.partitioned:
                assert finished.workspace.lake.dates(table) == FOURTEEN_DATES, table
            else:
                assert finished.workspace.lake.has(table, None), table


# --- work orders


def test_every_order_passes_its_stages_when_it_truly_did(finished: Finished) -> None:
    true = order_lifecycle(of_dates(finished.truth("order_events")))
    stages = [f"{stage}_at" for stage in ("released", "started", "completed", "closed", "cancelled")]
    columns = ["job_order_id", "work_center_id", "material_definition_id", "planned_quantity", "due_at", *stages]
    found = single(finished, "work_order_status")
    assert found.height > 40
    expected = true.select(columns).cast({"planned_quantity": pl.Float64})
    assert found.select(columns).sort("job_order_id").equals(expected.sort("job_order_id"))


def test_pauses_and_lateness_are_the_true_ones(finished: Finished) -> None:
    true = order_lifecycle(of_dates(finished.truth("order_events"))).filter(pl.col("completed_at").is_not_null())
    found = single(finished, "work_order_status").join(true, on="job_order_id", suffix="_true")
    assert found.height == true.height > 30
    assert found.filter(pl.col("pauses") > 0).height > 5
    assert found.filter(pl.col("paused_s") != pl.col("paused_s_true")).is_empty()
    assert found.filter(pl.col("lateness_s") != pl.col("lateness_s_true")).is_empty()
    assert 0 < found.filter("is_late").height < found.height
    assert found.filter(pl.col("is_late") != (pl.col("lateness_s_true") > 0)).is_empty()


def test_parts_of_orders_add_up_to_the_true_counts_at_the_last_operation(finished: Finished) -> None:
    found = single(finished, "work_order_status")
    assert found.filter(pl.col("good") + pl.col("scrap") + pl.col("rework") != pl.col("produced")).is_empty()
    true = of_dates(finished.truth("oee_elements"))
    for product, last_station in (("HSG-100", "A40"), ("HSG-200", "A40"), ("VLV-10", "B40"), ("VLV-20", "B40")):
        made = true.filter(material_definition_id=product, equipment_id=last_station)
        orders = found.filter(material_definition_id=product)
        sums = [int(orders[name].sum()) for name in ("good", "scrap", "rework")]
        assert sums == [int(made[name].sum()) for name in ("gq", "sq", "rq")], product
        assert sums[0] > 500


# --- work in process


def test_work_in_process_is_the_true_one_at_every_moment_that_the_plant_tells(finished: Finished) -> None:
    true = of_dates(finished.truth("wip_at"))
    moments = true.select("at").unique()
    intervals = single(finished, "wip_interval")
    here = intervals.join_where(
        moments, pl.col("start_at") <= pl.col("at"), (pl.col("end_at") > pl.col("at")) | pl.col("is_open")
    )
    waits, works = pl.col("place") == "queue", pl.col("place") == "in_process"
    found = here.group_by("at", "segment_id").agg(
        queue_items=waits.sum().cast(pl.Int64),
        queue_quantity=pl.col("quantity").filter(waits).sum().cast(pl.Int64),
        in_process_items=works.sum().cast(pl.Int64),
        in_process_quantity=pl.col("quantity").filter(works).sum().cast(pl.Int64),
    )
    columns = ["at", "segment_id", "queue_items", "queue_quantity", "in_process_items", "in_process_quantity"]
    there = true.filter(pl.sum_horizontal(columns[2:]) > 0).select(columns)
    assert there.height > 800
    assert found.select(columns).sort("at", "segment_id").equals(there.sort("at", "segment_id"))


def test_nothing_had_to_be_assumed_about_any_lot(finished: Finished) -> None:
    """The plant's records in force contradict nothing: late and withdrawn ones leave no finding."""
    assert single(finished, "wip_finding").is_empty()


def test_work_in_process_is_never_negative_and_what_left_is_what_came(finished: Finished) -> None:
    intervals = single(finished, "wip_interval").sort("item_id", "segment_id", "place", "start_at")
    assert intervals.filter((pl.col("quantity") <= 0) | (pl.col("end_at") < pl.col("start_at"))).is_empty()
    place = ["item_id", "segment_id", "place"]
    overlapping = intervals.filter(pl.col("start_at") < pl.col("end_at").shift(1).over(place))
    assert overlapping.is_empty(), "one quantity per item and place at a time"
    visits = of_dates(finished.truth("segment_visits"))
    assert visits.filter(pl.col("finished_quantity") + pl.col("scrapped_quantity") != pl.col("quantity")).is_empty()
    still = intervals.filter("is_open").select("item_id", "segment_id").unique()
    assert visits.join(still, on=["item_id", "segment_id"], how="semi").is_empty(), "what is finished is not there any more"


# --- roll-ups and losses


def summed(elements: pl.DataFrame, keys: list[str]) -> Rows:
    """Sums of elements by hand, row by row."""
    rows: Rows = defaultdict(lambda: dict.fromkeys([*SUMMED, "ideal_gq_s"], 0.0))
    for row in elements.iter_rows(named=True):
        sums = rows[tuple(row[key] for key in keys)]
        for name in SUMMED:
            sums[name] += row[name]
        sums["ideal_gq_s"] += (row["pri_s"] or 0.0) * row["gq"]
    return rows


@pytest.mark.parametrize("level", ["work_unit", "work_center", "area", "site"])
@pytest.mark.parametrize("period", ["shift", "day", "week"])
def test_oee_of_every_level_and_period_is_that_of_the_summed_elements(finished: Finished, level: str, period: str) -> None:
    equipment = {row["equipment_id"]: row for row in finished.workspace.site["equipment"].iter_rows(named=True)}

    def above(unit: str) -> str:
        node = equipment[unit]
        while node["equipment_level"] != level:
            node = equipment[node["parent_equipment_id"]]
        return str(node["equipment_id"])

    elements = finished.table("oee_elements").cast({pl.Categorical: pl.String})
    placed = elements.with_columns(node=pl.Series([above(unit) for unit in elements["equipment_id"]]))
    keys = ["node", "production_date", *(["shift_id"] if period == "shift" else [])]
    if period == "week":
        # The row of a date is the week to date: the date's elements and those of all dates since Monday.
        reach = [(day, last) for last in FOURTEEN_DATES for day in _since_monday(last)]
        days = pl.DataFrame(reach, schema=["production_date", "last"], orient="row")
        # A node without any element on a date has no row of that date: its week is that of the date before.
        begun = placed.select("node", last="production_date").unique()
        to_date = placed.join(days, on="production_date").join(begun, on=["node", "last"], how="semi")
        placed = to_date.with_columns(production_date="last")
    expected = summed(placed, keys)
    found = finished.table("oee_rollup").filter(equipment_level=level, period=period, scope="all")
    assert {tuple(row) for row in found.select("equipment_id", *keys[1:]).rows()} == set(expected)
    for row in found.iter_rows(named=True):
        sums = expected[row["equipment_id"], *(row[key] for key in keys[1:])]
        assert {name: row[name] for name in SUMMED} == pytest.approx({name: sums[name] for name in SUMMED}, abs=1e-6)
        if sums["pbt_s"] > 0:
            assert row["oee"] == pytest.approx(sums["ideal_gq_s"] / sums["pbt_s"], rel=1e-12)
        assert row["period_start"] == (_since_monday(row["production_date"])[0] if period == "week" else row["production_date"])


def _since_monday(last: date) -> list[date]:
    return [last - timedelta(days=back) for back in range(last.weekday(), -1, -1)]


def test_the_six_losses_share_out_planned_busy_time_to_the_microsecond(finished: Finished) -> None:
    losses = finished.table("oee_loss")
    parts = [name for name in losses.columns if name.endswith("_s") and name != "pbt_s"]
    assert len(parts) == 6 + 3
    whole = losses.drop_nulls(parts)
    assert whole.height == losses.height > 300, "every product of the plant has an ideal cycle"
    exact = [(pl.col(name) * 1_000_000).round().cast(pl.Int64) for name in parts]
    assert whole.filter(pl.sum_horizontal(exact) != (pl.col("pbt_s") * 1_000_000).round().cast(pl.Int64)).is_empty()


def test_losses_are_the_seconds_and_parts_of_the_truth(finished: Finished) -> None:
    key = ["equipment_id", "production_date", "shift_id", "material_definition_id"]
    true = of_dates(finished.truth("oee_elements"))
    found = finished.table("oee_loss").cast({pl.Categorical: pl.String}).join(true, on=key, suffix="_true", nulls_equal=True)
    assert found.height == finished.table("oee_loss").height
    same = {
        "idling_and_minor_stops_s": pl.col("minor_stop_s"),
        "no_order_s": pl.col("adot_s"),
        "unknown_s": pl.col("unknown_s_true"),
        "value_adding_s": pl.col("gq") * pl.col("pri_s").fill_null(0.0),
        "reduced_speed_s": pl.col("apt_s") - pl.col("pq") * pl.col("pri_s").fill_null(0.0),
    }
    for name, expected in same.items():
        assert found.filter((pl.col(name) - expected).abs() > 1e-6).is_empty(), name
    lost = found.select(((pl.col("sq") + pl.col("rq")) * pl.col("pri_s")).sum()).item()
    assert found["process_defects_s"].sum() + found["reduced_yield_s"].sum() == pytest.approx(lost, rel=1e-12)


# --- energy


def test_energy_of_each_station_and_date_is_what_it_truly_took(finished: Finished) -> None:
    """The sum telescopes to two readings, also over the counter that rolls over and the one that is exchanged.

    A date's last reading is a millisecond early, which at the 30 kW that no meter exceeds is below 1e-5 kWh.
    """
    true = of_dates(finished.truth("energy_kwh")).group_by("equipment_id", "production_date").agg(pl.col("kwh").sum())
    found = finished.table("energy_by_state").group_by("equipment_id", "production_date").agg(pl.col("energy_kwh").sum())
    both = true.join(found.cast({pl.Categorical: pl.String}), on=["equipment_id", "production_date"], how="left")
    assert both.height > 80
    assert set(finished.table("energy_interval")["quality"].unique()) >= {"ROLLOVER", "RESET", "GAP"}
    assert both.filter((pl.col("kwh") - pl.col("energy_kwh")).abs().fill_null(1.0) > 2 * READING_KWH + 1e-5).is_empty()


def test_energy_of_each_state_is_right_within_what_is_marked_as_estimated(finished: Finished) -> None:
    key = ["equipment_id", "production_date", "state"]
    by_state = finished.table("energy_by_state").cast({pl.Categorical: pl.String})
    found = by_state.group_by(key).agg(pl.col("energy_kwh", "estimated_kwh", "metered_s").sum())
    both = of_dates(finished.truth("energy_kwh")).join(found, on=key, how="left")
    assert both.height > 300
    known = both["energy_kwh"] - both["estimated_kwh"]
    # Each of at most 288 readings of a date has its rounding.
    rounding = 288 * READING_KWH
    assert (known <= both["kwh"] + rounding).all(), "what is not estimated was surely used"
    assert ((both["energy_kwh"] - both["kwh"]).abs() <= both["estimated_kwh"] + rounding).all()
    assert known.sum() > 0.7 * both["kwh"].sum()
    assert ((both["metered_s"] - both["seconds"]).abs() <= 0.01).sum() > 0.97 * both.height


# --- genealogy


def test_the_genealogy_has_the_true_edges_and_no_other(finished: Finished) -> None:
    columns = ["parent_id", "child_id", "link_type", "quantity", "occurred_at", "equipment_id", "job_order_id"]
    found = single(finished, "lot_genealogy").select(columns)
    assert found.height > 1000
    assert found.sort(columns).equals(of_dates(finished.truth("genealogy_edges")).select(columns).sort(columns))
    assert single(finished, "lot_genealogy_refused").is_empty()


def test_the_genealogy_is_acyclic(finished: Finished) -> None:
    parents: dict[str, set[str]] = defaultdict(set)
    for parent, child in single(finished, "lot_genealogy").select("parent_id", "child_id").iter_rows():
        if parent != child:
            parents[child].add(parent)
    assert len(list(TopologicalSorter(parents).static_order())) > len(parents)


# --- the log of events


def test_every_revision_of_every_raw_record_of_execution_is_in_the_log_once(finished: Finished) -> None:
    log = finished.table("operations_event").cast({pl.Categorical: pl.String})
    for kind in OPERATIONS_EVENT_TYPES:
        columns = ["source_id", "record_id", "revision", "is_deleted", "production_date"]
        raw = Counter(finished.table(f"raw_{kind}").select(columns).iter_rows())
        logged = Counter(log.filter(event_type=kind).select(columns).iter_rows())
        assert logged == raw, kind
        assert (len(raw) > 50) is (kind != "signal_event"), "the plant sends of each kind but signals"
    superseded = finished.table("raw_segment_event").filter(~pl.col("is_current")).height
    assert superseded > 10, "corrected and withdrawn records are among them"
    assert log["event_id"].n_unique() == log.height


def test_the_log_of_each_date_is_a_whole_chain(finished: Finished) -> None:
    """Recomputed with hashlib: chain_hash = sha256(prev_hash, sequence and event_id, separated by line feeds)."""
    log = finished.table("operations_event").sort("production_date", "sequence")
    for (day,), rows in log.group_by("production_date", maintain_order=True):
        before = hashlib.sha256(f"operations_event\n{day}".encode()).hexdigest()
        for number, row in enumerate(rows.iter_rows(named=True), start=1):
            assert (row["sequence"], row["prev_hash"]) == (number, before)
            before = hashlib.sha256(f"{before}\n{number}\n{row['event_id']}".encode()).hexdigest()
            assert row["chain_hash"] == before
    assert verify_chain(log).is_empty()
    forged = log.with_columns(record_id=pl.when(pl.col("sequence") == 7).then(pl.lit("forged")).otherwise("record_id"))
    assert set(verify_chain(forged)["problem"]) >= {"ALTERED"}
