from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.performance import CHANGEOVER, OEE_LOSS, SCRAP_REASON
from spc_platform.contracts.production import DOWNTIME_EVENT
from spc_platform.errors import ContractError
from spc_platform.production.losses import (
    LOSS_COLUMNS,
    changeovers,
    downtime_pareto,
    not_adding_up,
    oee_losses,
    reason_losses,
    scrap_reasons,
    six_losses,
    unmapped_reasons,
)
from spc_platform.production.oee import oee_elements, oee_ratios
from spc_platform.production.states import downtime_events, state_intervals
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, counts, orders, site, states, utc

DAY = date(2026, 3, 10)
LATER = utc(2026, 3, 12)
LONG_AGO = utc(2026, 1, 1)
REASONS = [
    ("jam", "", None, "minor_stoppage"),
    ("tool", "", None, "Equipment failure"),
    ("adjust", "", None, "setup_and_adjustment"),
    ("waiting", "", "ADOT", None),
    ("surface", "", None, "process_defects"),
    ("warm_up", "", None, "reduced_yield"),
    ("weather", "", None, "act of god"),
]
SHAFT = ("shaft", "CNC", 60.0, LONG_AGO, None)
GEAR = ("gear", "CNC", 0.1, LONG_AGO, None)
SHAFT_ORDER = orders(("A", "shaft", utc(2026, 3, 9)))


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10):
    return utc(2026, 3, day, hour, minute, second)


def plant(**tables: Any):
    return site(**{"shifts": [EARLY], "reasons": REASONS, "products": [SHAFT, GEAR], **tables})


def produced(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Counts from (product, counted_at, good, scrap, rework, reason)."""
    return counts(*(row[:5] for row in rows)).with_columns(
        reason_code=pl.Series([row[5] if len(row) > 5 else None for row in rows], dtype=pl.String)
    )


def shared_out(records, made, where=None, work_order=SHAFT_ORDER, unit="CNC") -> tuple[pl.DataFrame, pl.DataFrame]:
    where = where or plant()
    intervals = state_intervals(records, work_order, where, DAY, LATER)
    elements = oee_elements(intervals, made, where, DAY, LATER)
    scrap = scrap_reasons(made, elements, where, DAY, LATER)
    SCRAP_REASON.pandera_schema().validate(scrap)
    losses = oee_losses(elements, intervals, scrap, where)
    OEE_LOSS.pandera_schema().validate(losses)
    mine = pl.col("equipment_id") == unit
    return losses.filter(mine), elements.filter(mine)


def until(end, *rows: tuple[Any, ...]) -> pl.DataFrame:
    """States of which each without an end lasts until ``end`` and gives way to those of higher priority."""
    return states(*rows).with_columns(end_at=pl.coalesce("end_at", pl.lit(end)))


@pytest.fixture
def oracle():
    """DOMAIN section 5: PBT 450, setup 30, delay 40 of which 15 minor, 350 made at 1 min, 340 good; 3 lost at start-up."""
    records = until(
        at(14),
        ("RUN", at(6)),
        ("SETUP", at(7), at(7, 30)),
        ("STOP", at(8), at(8, 25), "tool"),
        *(("STOP", at(9, n * 10), at(9, n * 10 + 3), "jam") for n in range(5)),
    )
    made = produced(
        ("shaft", at(8), 100, 2, 1, "warm_up"), ("shaft", at(11), 200, 4, 2, "surface"), ("shaft", at(13), 40, 0, 1)
    )
    where = plant(breaks=[("early", "*", "12:00", "12:30", "")])
    return shared_out(records, made, where)


def test_the_six_losses_of_the_worked_shift_in_minutes(oracle):
    losses, elements = oracle
    row = losses.row(0, named=True)
    minutes = {name: row[name] / 60 for name in ("pbt_s", *LOSS_COLUMNS, "value_adding_s")}
    assert minutes == {
        "pbt_s": 450,
        "equipment_failure_s": 25,
        "setup_and_adjustment_s": 30,
        "idling_and_minor_stops_s": 15,
        "reduced_speed_s": 380 - 350,
        "process_defects_s": 7,
        "reduced_yield_s": 3,
        "no_order_s": 0,
        "unknown_s": 0,
        "value_adding_s": 340,
    }
    ratios = oee_ratios(elements, []).row(0, named=True)
    assert Fraction(340, 450) == Fraction(row["value_adding_s"]) / Fraction(row["pbt_s"]), "value-adding time over PBT is OEE"
    lost_availability = Fraction(row["equipment_failure_s"]) + Fraction(row["setup_and_adjustment_s"])
    assert ratios["tpm_availability"] == pytest.approx(float(1 - lost_availability / Fraction(row["pbt_s"])), rel=1e-15)


def explained(row: dict[str, Any]) -> Fraction:
    """What is left of PBT - value-adding time after all losses, in exact microseconds."""
    micro = {name: Fraction(round(row[name] * 1_000_000)) for name in ("pbt_s", *LOSS_COLUMNS, "value_adding_s")}
    return micro["pbt_s"] - micro["value_adding_s"] - sum(micro[name] for name in LOSS_COLUMNS)


def test_losses_explain_what_is_not_value_adding_to_the_microsecond_also_for_cycles_that_are_no_binary_fraction():
    """0.1 s x 12 345 parts is 1234.5 s, though 0.1 is no binary fraction."""
    records = until(at(14), ("RUN", at(6)), ("IDLE", at(12), at(12, 0, 7)), ("STOP", at(13), None, "tool"))
    losses, _ = shared_out(
        records, produced(("gear", at(9), 12_000, 300, 45, "warm_up")), work_order=orders(("A", "gear", at(0)))
    )
    row = losses.row(0, named=True)
    assert explained(row) == 0
    assert (row["reduced_yield_s"], row["value_adding_s"], row["reduced_speed_s"]) == (34.5, 1200.0, 7 * 3600 - 7 - 1234.5)
    assert (row["no_order_s"], row["equipment_failure_s"]) == (7.0, 3600.0)


def test_the_ideal_time_of_many_parts_does_not_drift_off_the_decimal_that_was_stated():
    """1.001 s x 12 345 = 12357.345 s; float arithmetic in seconds or microseconds misses it by a bit."""
    where = plant(products=[("shaft", "CNC", 1.001, LONG_AGO, None)])
    losses, _ = shared_out(until(at(14), ("RUN", at(6))), produced(("shaft", at(9), 12_345, 0, 0)), where)
    assert losses["value_adding_s"].item() == float(Fraction("1.001") * 12_345) == 12357.345


def test_a_short_stop_is_minor_whatever_its_reason_and_a_long_jam_is_a_failure():
    """Policy: below 300 s. 299 s of tool breakage is minor, 300 s of jam is not, 10 min of adjusting is setup."""
    records = until(
        at(14),
        ("RUN", at(6)),
        ("STOP", at(7), at(7, 4, 59), "tool"),
        ("STOP", at(8), at(8, 5), "jam"),
        ("STOP", at(9), at(9, 10), "adjust"),
        ("SETUP", at(10), at(10, 20), "tool"),
        ("STOP", at(11), at(11, 30), "weather"),
    )
    losses, elements = shared_out(records, produced())
    row = losses.row(0, named=True)
    assert row["idling_and_minor_stops_s"] == 299.0 == elements.row(0, named=True)["minor_stop_s"]
    assert row["equipment_failure_s"] == 300.0 + 20 * 60 + 30 * 60
    assert row["setup_and_adjustment_s"] == 600.0
    assert explained(row) == 0


def test_a_stop_over_the_shift_edge_is_sorted_once_by_its_whole_length():
    records = until(at(22), ("RUN", at(6)), ("STOP", at(13, 58), at(14, 3), "jam"))
    losses, _ = shared_out(records, produced(), plant(shifts=[EARLY, LATE]))
    assert losses.select("shift_id", "equipment_failure_s", "idling_and_minor_stops_s").rows() == [
        ("early", 120.0, 0.0),
        ("late", 180.0, 0.0),
    ]


def test_parts_made_faster_than_the_ideal_cycle_are_a_negative_rate_loss_and_still_add_up():
    losses, _ = shared_out(until(at(14), ("RUN", at(6))), produced(("shaft", at(9), 600, 0, 0)))
    row = losses.row(0, named=True)
    assert row["reduced_speed_s"] == (480 - 600) * 60.0
    assert explained(row) == 0


def test_without_an_ideal_cycle_speed_and_quality_losses_are_unknown_and_time_losses_are_not():
    losses, _ = shared_out(
        until(at(14), ("RUN", at(6)), ("STOP", at(7), at(8), "tool")), produced(("shaft", at(9), 1, 1, 0)), plant(products=[])
    )
    row = losses.row(0, named=True)
    assert (row["reduced_speed_s"], row["process_defects_s"], row["value_adding_s"]) == (None, None, None)
    assert (row["equipment_failure_s"], row["reduced_yield_s"]) == (3600.0, 0.0)
    assert six_losses(losses, [])["reduced_speed_s"].to_list() == [None]


def test_rows_add_up_with_and_without_an_ideal_cycle_and_a_lost_second_is_found():
    ran = until(at(14), ("RUN", at(6)), ("STOP", at(7), at(8), "tool"))
    for where in (plant(), plant(products=[])):
        losses, elements = shared_out(ran, produced(("shaft", at(9), 20, 1, 0)), where)
        assert not_adding_up(losses, elements).is_empty()
        short = losses.with_columns(pl.col("equipment_failure_s") - 1.0)
        assert not_adding_up(short, elements).height == losses.height


def test_losses_of_a_line_are_sums_and_their_shares_add_up_with_oee_to_one(oracle):
    losses, elements = oracle
    both = pl.concat([losses, losses.with_columns(equipment_id=pl.lit("PRESS"))])
    row = six_losses(both, ["work_center_id"]).row(0, named=True)
    assert (row["pbt_s"], row["reduced_yield_s"]) == (54000.0, 360.0)
    shares = sum(row[f"{name.removesuffix('_s')}_share"] for name in LOSS_COLUMNS)
    assert shares + oee_ratios(elements, [])["oee"].item() == pytest.approx(1.0, rel=1e-15)


def test_intervals_of_another_moment_are_refused(oracle):
    _, elements = oracle
    with pytest.raises(ContractError, match=r"SPC-626.*equipment_id=CNC.*same dates and as_of"):
        oee_losses(
            elements,
            pl.DataFrame(schema=dict(state_intervals(states(), SHAFT_ORDER, plant(), DAY, LATER).schema)),
            SCRAP_REASON.empty(),
            plant(),
        )


def test_intervals_of_another_micro_stop_policy_are_refused(oracle):
    """Delay and setup are the same seconds, but none of them is a minor stop: TPM would disagree with the losses."""
    _, elements = oracle
    unsorted = state_intervals(
        states(("STOP", at(6), at(6, 40), "tool"), ("SETUP", at(7), at(7, 30)), ("RUN", at(8))),
        SHAFT_ORDER,
        plant(),
        DAY,
        LATER,
    )
    scrap = SCRAP_REASON.empty()
    without_parts = elements.with_columns(sq=pl.lit(0), rq=pl.lit(0))
    with pytest.raises(ContractError, match="SPC-626"):
        oee_losses(without_parts, unsorted, scrap, plant())


def test_reasons_are_understood_in_the_words_of_sites_and_others_are_listed():
    found = dict(reason_losses(plant()).rows())
    assert (found["jam"], found["tool"], found["weather"]) == ("idling_and_minor_stops", "equipment_failure", None)
    assert unmapped_reasons(plant()).rows() == [("weather", "act of god")]


def test_scrap_by_reason_counts_parts_and_their_ideal_time():
    made = produced(
        ("shaft", at(8), 10, 2, 1, "surface"),
        ("shaft", at(9), 10, 3, 0, "surface"),
        ("shaft", at(10), 10, 0, 2),
        ("shaft", at(11), 10, 0, 0, "surface"),
        ("shaft", at(3), 10, 9, 9, "surface"),
    )
    intervals = state_intervals(states(("RUN", at(6))), SHAFT_ORDER, plant(), DAY, LATER)
    scrap = scrap_reasons(made, oee_elements(intervals, made, plant(), DAY, LATER), plant(), DAY, LATER)
    assert scrap.select("reason_code", "loss_category", "scrap_quantity", "rework_quantity", "ideal_s").rows() == [
        ("surface", "process_defects", 5, 1, 360.0),
        (None, "process_defects", 0, 2, 120.0),
    ]


def stops(*rows: tuple[str, str, str, int, int], as_of=LATER) -> pl.DataFrame:
    """Downtime events from (unit, reason, class, start minute, length in minutes)."""
    filled = [
        {
            "equipment_id": unit,
            "work_center_id": "L1",
            "shift_id": "early",
            "event_id": f"{unit}{start}",
            "state": "STOP",
            "reason_code": reason,
            "loss_category": None,
            "time_element": "ADET",
            "stop_class": kind,
            "start_at": at(6) + timedelta(minutes=start),
            "end_at": at(6) + timedelta(minutes=start + length),
            "duration_s": 60.0 * length,
            "is_open": False,
            "as_of": as_of,
            "production_date": DAY,
        }
        for unit, reason, kind, start, length in rows
    ]
    return pl.DataFrame(filled, schema=DOWNTIME_EVENT.schema)


def test_the_pareto_ranks_reasons_with_cumulative_shares_and_leaves_planned_stops_out():
    """34 + 20 + 6 = 60 min: shares 34/60, 54/60, 1."""
    events = stops(
        ("CNC", "jam", "breakdown", 0, 30),
        ("PRESS", "jam", "micro_stop", 0, 4),
        ("CNC", "tool", "breakdown", 60, 20),
        ("CNC", "surface", "setup", 90, 6),
        ("CNC", "break", "planned", 120, 600),
        ("CNC", "waiting", "no_order", 130, 600),
    )
    found = downtime_pareto(events)
    assert found.select("pareto_rank", "reason_code", "n_stops", "n_micro_stops", "duration_s", "mean_stop_s").rows() == [
        (1, "jam", 2, 1, 2040.0, 1020.0),
        (2, "tool", 1, 0, 1200.0, 1200.0),
        (3, "surface", 1, 0, 360.0, 360.0),
    ]
    assert found["cumulative_share"].to_list() == [34 / 60, 54 / 60, 1.0]
    units = downtime_pareto(events, ["reason_code"], within=["equipment_id"])
    assert units.filter(equipment_id="PRESS").select("pareto_rank", "share", "cumulative_share").rows() == [(1, 1.0, 1.0)]
    assert downtime_pareto(events.sample(fraction=1, shuffle=True, seed=2), ["equipment_id"]).equals(
        downtime_pareto(events, ["equipment_id"])
    )
    assert downtime_pareto(events.clear()).is_empty()


def test_a_stop_seen_open_and_then_ended_is_one_stop_of_its_last_known_length():
    seen_open = stops(("CNC", "tool", "breakdown", 0, 10), as_of=at(7)).with_columns(is_open=pl.lit(value=True))
    ended = stops(("CNC", "tool", "breakdown", 0, 25))
    assert downtime_pareto(pl.concat([ended, seen_open])).select("n_stops", "n_open", "duration_s").rows() == [(1, 0, 1500.0)]


def test_a_changeover_runs_from_the_last_old_part_to_the_first_new_one_also_over_a_shift_edge():
    """Shaft until 13:40; setup 13:40-14:25, a 10-minute stop, run of gear from 14:35: setup 45 min, changeover 55 min
    of which the 5 min of break at 14:00 are no busy time (they take 5 min of the setup)."""
    records = until(
        at(22),
        ("RUN", at(6)),
        ("SETUP", at(13, 40), at(14, 25)),
        ("STOP", at(14, 25), at(14, 35), "tool"),
        ("SETUP", at(20), at(20, 10)),
    )
    where = plant(shifts=[EARLY, LATE], breaks=[("late", "*", "14:00", "14:05", "")])
    work = orders(("A", "shaft", at(6)), ("B", "gear", at(13, 50)))
    found = changeovers(state_intervals(records, work, where, DAY, LATER).sample(fraction=1, shuffle=True, seed=5))
    CHANGEOVER.pandera_schema().validate(found)
    assert found.drop("work_center_id").rows() == [
        ("CNC", "early", "shaft", "gear", at(13, 40), at(14, 35), 2400.0, 3000.0, DAY)
    ], "setup within one product is no changeover"


def test_a_changeover_ends_on_the_next_date_and_counts_no_night_without_a_shift():
    where = plant()
    work = orders(("A", "shaft", at(6)), ("B", "gear", at(20)))
    records = until(at(14, day=11), ("RUN", at(6), at(13)), ("SETUP", at(13), at(6, 30, day=11)), ("RUN", at(6, 30, day=11)))
    days = [state_intervals(records, work, where, day, LATER) for day in (DAY, date(2026, 3, 11))]
    row = changeovers(pl.concat(days)).row(0, named=True)
    assert (row["setup_s"], row["duration_s"], row["production_date"]) == (5400.0, 5400.0, DAY)
    assert changeovers(days[0]).is_empty(), "nothing has followed yet"


def test_the_night_of_a_clock_change_is_shared_out_to_the_second():
    """Berlin 2026-03-28: the night shift 22:00-06:00 lasts 7 hours; running all day at 60 s, 1000 parts."""
    where = site("Europe/Berlin", shifts=[EARLY, LATE, NIGHT], reasons=REASONS, products=[SHAFT])
    day, after = date(2026, 3, 28), utc(2026, 3, 30)
    intervals = state_intervals(
        states(("RUN", utc(2026, 3, 28, 0))), orders(("A", "shaft", utc(2026, 3, 27))), where, day, after
    )
    made = counts(("shaft", utc(2026, 3, 29, 2), 400, 20, 0))
    elements = oee_elements(intervals, made, where, day, after)
    losses = oee_losses(elements, intervals, scrap_reasons(made, elements, where, day, after), where)
    night = losses.filter(equipment_id="CNC", shift_id="night").row(0, named=True)
    assert (night["pbt_s"], night["reduced_speed_s"], night["process_defects_s"]) == (25200.0, 0.0, 1200.0)
    assert explained(night) == 0


def test_pareto_of_real_events_agrees_with_the_losses_of_a_day_without_overlaps():
    records = until(
        at(14),
        ("RUN", at(6), at(7)),
        ("STOP", at(7), at(7, 20), "tool"),
        ("RUN", at(7, 20)),
    )
    losses, _ = shared_out(records, produced())
    pareto = downtime_pareto(downtime_events(records, plant(), DAY, LATER))
    assert pareto["duration_s"].sum() == losses["equipment_failure_s"].sum() == 1200.0
