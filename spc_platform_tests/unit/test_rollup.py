from __future__ import annotations

from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.operations import SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.performance import OEE_ROLLUP, RATIOS, SUMMED_ELEMENTS
from spc_platform.contracts.production import OEE_ELEMENTS
from spc_platform.errors import ContractError
from spc_platform.production.oee import oee_elements, oee_ratios
from spc_platform.production.rollup import oee_rollup, reworked_good
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, counts, orders, site, states, utc

AS_OF = utc(2026, 3, 20)
EVENTS = pl.Schema({column.name: column.dtype for column in SEGMENT_EVENT_PAYLOAD})
AREAS = [
    ("PLANT", "site", None, ""),
    ("BODY", "area", "PLANT", ""),
    ("L1", "work_center", "BODY", ""),
    ("L2", "work_center", "PLANT", ""),
    ("CNC", "work_unit", "L1", ""),
    ("PRESS", "work_unit", "L1", ""),
    ("VISION", "work_unit", "L2", ""),
]


def cell(unit: str = "CNC", day: int = 10, shift: str = "early", product: str | None = "shaft", **given: Any) -> dict[str, Any]:
    """A row of oee_elements in minutes (apt, aust, adet, minor, adot, pdt, unknown) and counts; pri in seconds."""
    minutes = {name: given.pop(name, 0) for name in ("apt", "aust", "adet", "adot", "unknown", "pdt", "minor")}
    busy = sum(minutes[name] for name in ("apt", "aust", "adet", "adot", "unknown"))
    gq, sq, rq = (given.pop(name, 0) for name in ("gq", "sq", "rq"))
    row = {f"{name}_s": 60.0 * value for name, value in minutes.items() if name != "minor"}
    return {
        "equipment_id": unit,
        "work_center_id": "L2" if unit == "VISION" else "L1",
        "shift_id": shift,
        "material_definition_id": product,
        **row,
        "minor_stop_s": 60.0 * minutes["minor"],
        "pbt_s": 60.0 * busy,
        "pot_s": 60.0 * (busy + minutes["pdt"]),
        "pri_s": given.pop("pri", 60.0),
        "pq": gq + sq + rq,
        "gq": gq,
        "sq": sq,
        "rq": rq,
        "data_quality": given.pop("data_quality", None),
        "as_of": AS_OF,
        "production_date": date(2026, 3, day),
        **given,
    }


def cells(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=OEE_ELEMENTS.schema)


def rolled(frame: pl.DataFrame, reworked: pl.DataFrame | None = None, plant=None, **kept: Any) -> dict[str, Any]:
    """The one row of the rollup that has the given values."""
    found = oee_rollup(frame, plant or site(equipment=AREAS), reworked)
    OEE_ROLLUP.pandera_schema().validate(found)
    for name, value in kept.items():
        found = found.filter(pl.col(name).eq_missing(pl.lit(value)))
    assert found.height == 1, found
    return found.row(0, named=True)


LINE = {"equipment_level": "work_center", "equipment_id": "L1", "period": "day", "scope": "all"}


def test_the_worked_shift_has_every_ratio_of_iso_22400_2_as_an_exact_fraction():
    """DOMAIN section 5 in minutes: PBT 450 = APT 380 + setup 30 + delay 40 (15 minor); 350 made, 340 good."""
    frame = cells(cell(apt=380, aust=30, adet=40, minor=15, pdt=30, gq=340, sq=6, rq=4))
    row = rolled(frame, equipment_level="work_unit", period="shift", scope="all")
    exact = {
        "oee": Fraction(340, 450),
        "nee": Fraction(410, 450) * Fraction(350, 380) * Fraction(340, 350),
        "tpm_availability": Fraction(395, 450),
        "technical_efficiency": Fraction(380, 420),
        "utilization_efficiency": Fraction(380, 450),
        "allocation_efficiency": Fraction(1),
        "setup_rate": Fraction(30, 410),
        "throughput_per_h": Fraction(350 * 60, 450),
        "first_pass_yield": Fraction(340, 350),
        "scrap_ratio": Fraction(6, 350),
        "rework_ratio": Fraction(4, 350),
    }
    assert {name: row[name] for name in exact} == pytest.approx(
        {name: float(value) for name, value in exact.items()}, rel=1e-15
    )
    assert (row["aubt_s"], row["final_yield"], row["reason"]) == (27000.0, None, "REWORK_OUTCOME_UNKNOWN")


def test_a_line_is_the_sum_of_its_work_units_not_the_mean_of_their_ratios():
    """CNC: 1 of 1 h at OEE 1; PRESS: 9 h, 90 of 540 min good, OEE 1/6. The line is 150/600 = 1/4; the mean would be 7/12."""
    frame = cells(cell(apt=60, gq=60), cell("PRESS", apt=540, gq=90))
    assert rolled(frame, **LINE)["oee"] == 0.25
    plant = rolled(frame, equipment_level="site", period="week", scope="all")
    assert (plant["equipment_id"], plant["oee"], plant["pbt_s"]) == ("PLANT", 0.25, 36000.0)
    assert rolled(frame, equipment_level="area", period="day", scope="all")["equipment_id"] == "BODY"


def test_a_line_that_hangs_below_the_site_has_no_area_and_still_counts_to_the_site():
    frame = cells(cell("VISION", apt=60, gq=30))
    found = oee_rollup(frame, site(equipment=AREAS))
    assert found["equipment_level"].unique().sort().to_list() == ["site", "work_center", "work_unit"]
    assert rolled(frame, equipment_level="site", period="day", scope="all")["oee"] == 0.5


def test_mixed_products_are_weighed_by_their_ideal_cycles():
    """Shaft: 60 s, 30 of 40 good; gear: 20 s, 60 of 60 good, in 60 + 30 min: Q = (1800 + 1200) / (2400 + 1200) = 5/6."""
    frame = cells(cell(apt=60, gq=30, sq=10), cell(product="gear", pri=20.0, apt=30, gq=60))
    row = rolled(frame, **LINE)
    assert (row["quality"], row["oee"], row["first_pass_yield"]) == pytest.approx((5 / 6, 3000 / 5400, 90 / 100), rel=1e-15)
    gear = rolled(frame, **{**LINE, "scope": "product", "material_definition_id": "gear"})
    assert (gear["oee"], gear["pbt_s"]) == (1200 / 1800, 1800.0)


def test_a_week_is_the_iso_week_of_the_production_date():
    """2025-12-29 (Monday) and 2026-01-04 (Sunday) lie in ISO week 2026-W01, 2026-01-05 in W02 (ISO 8601)."""
    days = [date(2025, 12, 29), date(2026, 1, 4), date(2026, 1, 5)]
    frame = cells(*(cell(apt=60, gq=10 * (n + 1), production_date=day) for n, day in enumerate(days)))
    weeks = oee_rollup(frame, site(), levels=["site"], periods=["week"], scopes=["all"])
    assert weeks.select("period_start", "iso_week", "pq", "production_date").rows() == [
        (date(2025, 12, 29), "2026-W01", 30, date(2026, 1, 4)),
        (date(2026, 1, 5), "2026-W02", 30, date(2026, 1, 5)),
    ]


def test_undefined_ratios_are_null_with_a_reason_and_zero_production_is_not_undefined():
    nothing = rolled(cells(cell(apt=60)), **LINE)
    assert (nothing["oee"], nothing["quality"], nothing["final_yield"], nothing["reason"]) == (
        0.0,
        None,
        None,
        "NOTHING_PRODUCED",
    )
    closed = rolled(cells(cell(pdt=480)), **LINE)
    names = ["availability", "oee", "utilization_efficiency", "allocation_efficiency", "throughput_per_h", "setup_rate"]
    assert [closed[name] for name in names] == [None] * 6
    assert closed["reason"].startswith("NO_BUSY_TIME")
    ghost = rolled(cells(cell(adet=60, gq=5, data_quality="COUNT_WITHOUT_RUN")), **LINE)
    assert (ghost["oee"], ghost["effectiveness"], ghost["availability"]) == (None, None, 0.0)
    assert (ghost["reason"], ghost["data_quality"]) == ("COUNT_WITHOUT_RUN", "COUNT_WITHOUT_RUN")


def test_one_unknown_ideal_cycle_leaves_the_oee_of_the_whole_line_unknown_but_not_its_availability():
    frame = cells(cell(apt=60, gq=60), cell("PRESS", apt=30, adet=30, gq=5, pri=None, data_quality="NO_IDEAL_CYCLE"))
    row = rolled(frame, **LINE)
    assert (row["oee"], row["availability"], row["reason"]) == (None, 0.75, "NO_IDEAL_CYCLE")


def test_effectiveness_above_one_is_kept_and_flagged():
    row = rolled(cells(cell(apt=60, gq=90)), **LINE)
    assert (row["effectiveness"], row["oee"], row["suspect_ideal_cycle"]) == (1.5, 1.5, True)


def test_data_quality_codes_of_all_rows_are_gathered_once():
    frame = cells(cell(apt=1, data_quality="B;A"), cell("PRESS", apt=1, data_quality="A"), cell("PRESS", day=11, apt=1))
    assert rolled(frame, **{**LINE, "period_start": date(2026, 3, 10)})["data_quality"] == "A;B"
    assert rolled(frame, **{**LINE, "period_start": date(2026, 3, 11)})["data_quality"] is None


def segment_events(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Segment events from (item, segment, type, at, quantity)."""
    filled = [
        {
            "item_id": item,
            "item_kind": "serial",
            "segment_id": segment,
            "event_type": kind,
            "occurred_at": at,
            "quantity": quantity,
        }
        | {"equipment_id": "CNC", "job_order_id": None, "material_definition_id": "shaft"}
        for item, segment, kind, at, quantity in rows
    ]
    return pl.DataFrame(filled, schema=EVENTS)


def at(hour: int, minute: int = 0, day: int = 10) -> datetime:
    return utc(2026, 3, day, hour, minute)


def test_final_yield_counts_parts_that_rework_saved_in_the_shift_that_made_them():
    """100 parts: 90 good, 4 scrap, 6 to rework. Of these 3 come back good (one in the next shift), 1 is scrapped,
    1 is sent again and still away, 1 is finished at the rework station alone. Final yield (90 + 4) / 100."""
    events = segment_events(
        *((f"s{n}", "turn", "sent_to_rework", at(7, n), 1.0) for n in range(6)),
        ("s0", "turn", "finished", at(9), 1.0),
        ("s1", "turn", "finished", at(10), 1.0),
        ("s2", "rework", "finished", at(13), 1.0),
        ("s2", "turn", "finished", at(15), 1.0),
        ("s3", "rework", "finished", at(9), 1.0),
        ("s3", "turn", "scrapped", at(10), 1.0),
        ("s4", "turn", "sent_to_rework", at(11), 1.0),
        ("s5", "rework", "finished", at(11), 1.0),
    )
    plant = site(equipment=AREAS)
    found = reworked_good(events.sample(fraction=1, shuffle=True, seed=1), plant)
    assert found.rows() == [("CNC", date(2026, 3, 10), "early", "shaft", 4)]
    row = rolled(cells(cell(apt=400, gq=90, sq=4, rq=6)), found, **LINE)
    assert (row["first_pass_yield"], row["final_yield"], row["reason"]) == (0.9, 0.94, None)
    assert rolled(cells(cell(apt=400, gq=96, sq=4)), **LINE)["final_yield"] == 0.96, "without rework it is the first-pass yield"


def test_of_a_reworked_lot_no_more_counts_than_was_sent():
    events = segment_events(("lot", "turn", "sent_to_rework", at(7), 6.0), ("lot", "turn", "finished", at(8), 20.0))
    assert reworked_good(events, site())["reworked_good"].to_list() == [6]
    assert reworked_good(events.clear(), site()).is_empty()


def test_scrap_of_other_parts_of_a_lot_does_not_undo_the_rework_of_its_own():
    """A lot of 85: 2 sent to rework, 1 other part scrapped, 84 finished, 2 of them saved; a lot wholly scrapped saves none."""
    events = segment_events(
        ("lot", "turn", "sent_to_rework", at(7), 2.0),
        ("lot", "turn", "scrapped", at(8), 1.0),
        ("lot", "turn", "finished", at(8, 1), 84.0),
        ("gone", "turn", "sent_to_rework", at(7), 2.0),
        ("gone", "rework", "finished", at(7, 30), 2.0),
        ("gone", "turn", "scrapped", at(8), 2.0),
    ).with_columns(item_kind=pl.lit("lot"))
    assert reworked_good(events, site())["reworked_good"].to_list() == [2]


def test_parts_that_rework_gives_another_name_are_followed_by_their_link_and_counted_once():
    """3 of lot L go on as L-R and are finished at the bench: told by event and link at once, and by link alone."""
    finished = segment_events(("L", "turn", "finished", at(9), 80.0), ("L-R", "turn", "finished", at(11), 3.0))
    both = pl.concat([finished, segment_events(("L", "turn", "sent_to_rework", at(8), 3.0))])
    link = {
        "parent_id": "L",
        "child_id": "L-R",
        "link_type": "reworked",
        "quantity": 3.0,
        "occurred_at": at(8),
        "equipment_id": "CNC",
    }
    links = pl.DataFrame([link, {**link, "child_id": "L"}, {**link, "link_type": "split"}]).with_columns(
        pl.col("occurred_at").dt.cast_time_unit("us")
    )
    for events in (both, finished):
        assert reworked_good(events, site(), links)["reworked_good"].to_list() == [3]
    assert reworked_good(finished, site()).is_empty(), "events alone know nothing of it"


def test_an_event_that_names_no_product_takes_that_of_its_item():
    events = segment_events(("a", "turn", "sent_to_rework", at(7), 1.0), ("a", "turn", "finished", at(8), 1.0))
    silent = events.with_columns(material_definition_id=pl.when(event_type="finished").then("material_definition_id"))
    assert reworked_good(silent, site())["material_definition_id"].to_list() == ["shaft"]


def test_more_parts_saved_than_were_counted_as_rework_do_not_lift_the_final_yield_above_one():
    saved = reworked_good(
        segment_events(
            *(
                (f"s{n}", "turn", kind, at(hour), 1.0)
                for n in range(9)
                for kind, hour in (("sent_to_rework", 7), ("finished", 8))
            )
        ),
        site(),
    )
    assert saved["reworked_good"].to_list() == [9]
    assert rolled(cells(cell(apt=60, gq=8, rq=2)), saved, **LINE)["final_yield"] == 1.0


def test_a_part_sent_to_rework_on_a_shift_border_belongs_to_the_shift_that_ends_as_its_count_does():
    events = segment_events(
        ("a", "turn", "sent_to_rework", at(14), 1.0),
        ("a", "turn", "finished", at(15), 1.0),
        ("b", "turn", "sent_to_rework", at(6, day=11), 1.0),
        ("b", "turn", "finished", at(15, day=11), 1.0),
    )
    found = reworked_good(events, site())
    assert found.select("production_date", "shift_id").rows() == [(date(2026, 3, 10), "early"), (date(2026, 3, 10), "night")]
    only_early = reworked_good(events, site(shifts=[EARLY]))
    assert only_early.select("production_date", "shift_id").rows() == [
        (date(2026, 3, 10), "early"),
        (date(2026, 3, 11), "early"),
    ]


def test_rows_counted_twice_and_rows_of_no_work_unit_are_refused():
    with pytest.raises(ContractError, match=r"SPC-625.*equipment_id=CNC.*once"):
        oee_rollup(cells(cell(apt=1), cell(apt=2)), site())
    with pytest.raises(ContractError, match=r"SPC-625.*'ROBOT'.*equipment.csv"):
        oee_rollup(cells(cell("ROBOT", apt=1)), site())


def test_the_rollup_is_the_same_in_any_order_and_empty_for_nothing():
    frame = cells(
        *(
            cell(unit, day, shift, apt=day, gq=day, pri=10 / 3)
            for unit in ("CNC", "PRESS", "VISION")
            for day in range(9, 20)
            for shift in ("early", "late")
        )
    )
    expected = oee_rollup(frame, site(equipment=AREAS))
    assert oee_rollup(frame.sample(fraction=1, shuffle=True, seed=3), site(equipment=AREAS)).equals(expected)
    assert oee_rollup(frame.clear(), site(equipment=AREAS)).is_empty()
    assert {column.name for column in (*SUMMED_ELEMENTS, *RATIOS)} - {"reworked_good", "final_yield"} <= set(
        oee_ratios(frame, []).columns
    )


@pytest.mark.parametrize(
    ("zone", "day", "hours"), [("Europe/Berlin", date(2026, 3, 28), 23), ("America/New_York", date(2026, 10, 31), 25)]
)
def test_the_day_of_a_clock_change_has_23_or_25_hours_in_every_sum(zone: str, day: date, hours: int):
    plant = site(zone, shifts=[EARLY, LATE, NIGHT], products=[("shaft", "CNC", 60.0, utc(2026, 1, 1), None)])
    began = datetime(day.year, day.month, day.day, tzinfo=plant.zone_info) - timedelta(days=1)
    after = began + timedelta(days=4)
    intervals = state_intervals(states(("RUN", began)), orders(("A", "shaft", began)), plant, day, after)
    frame = oee_elements(intervals, counts(), plant, day, after)
    row = rolled(frame, plant=plant, equipment_level="work_unit", equipment_id="CNC", period="week", scope="all")
    assert (row["pot_s"], row["apt_s"]) == (hours * 3600.0, hours * 3600.0)
