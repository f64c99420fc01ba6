"""Laws of the prepare step: row order, units of measure and observed values."""

from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from spc_platform.contracts.production import SHIFT_CALENDAR
from spc_platform.prepare.align import align_streams
from spc_platform.prepare.mask import measurement_flags
from spc_platform.prepare.quarantine import accept
from spc_platform_tests.unit.prepare_frames import SIX, raw, site_with, small_site
from spc_platform_tests.unit.test_align import NO_STATES, observations, stream
from spc_platform_tests.unit.test_mask import measured

few = settings(max_examples=25, deadline=None, derandomize=True)
FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
SECONDS = st.dictionaries(st.integers(0, 400).map(lambda tenth: tenth / 10), FINITE, max_size=40)
MASKED = site_with(characteristics=[{"iqr_multiplier": 1.5, "hampel_window": 5, "hampel_multiplier": 3.0}])
MEASUREMENTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "value": st.one_of(st.none(), st.sampled_from([float("nan"), float("inf"), -5.0, 25.0, 1000.0])),
            "unit": st.sampled_from([None, "", "mm", "in", "kPa"]),
            "characteristic_id": st.sampled_from([None, "SHAFT-DIA", "SHAFT-LEN"]),
            "equipment_id": st.sampled_from([None, "L1-LATHE", "L1"]),
            "measured_at": st.sampled_from([None, SIX, SIX + timedelta(days=9), SIX - timedelta(days=9999)]),
            "decode_error": st.sampled_from([None, "value:NOT_A_NUMBER"]),
            "is_current": st.booleans(),
            "is_deleted": st.booleans(),
        },
    ),
    max_size=20,
)


@few
@given(rows=MEASUREMENTS, seed=st.integers(0, 1000))
def test_every_current_row_is_accepted_or_rejected_once_whatever_the_order(rows: list[dict[str, object]], seed: int) -> None:
    frame = raw("measurement", *rows)
    accepted, rejected = accept("measurement", frame, small_site(), SHIFT_CALENDAR.empty())
    current = frame.filter("is_current", ~pl.col("is_deleted"))["record_id"]
    assert sorted([*accepted["record_id"], *rejected["record_id"]]) == sorted(current)
    assert rejected["reasons"].str.len_chars().min() != 0
    assert rejected["reasons"].null_count() == 0
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    again = accept("measurement", shuffled, small_site(), SHIFT_CALENDAR.empty())
    assert_frame_equal(again[0], accepted, check_exact=True)
    assert_frame_equal(again[1], rejected, check_exact=True)


@few
@given(seconds=SECONDS, seed=st.integers(0, 1000))
def test_aligning_does_not_depend_on_the_order_of_rows(seconds: dict[float, float], seed: int) -> None:
    telemetry, last = observations(seconds), SIX + timedelta(seconds=41)
    expected = align_streams(telemetry, stream(), NO_STATES, SIX, last)
    shuffled = telemetry.sample(fraction=1.0, shuffle=True, seed=seed)
    assert_frame_equal(align_streams(shuffled, stream(), NO_STATES, SIX, last), expected, check_exact=True)


@few
@given(seconds=SECONDS)
def test_filling_never_changes_an_observed_cell_and_never_leaves_its_neighbours(seconds: dict[float, float]) -> None:
    telemetry, last = observations(seconds), SIX + timedelta(seconds=41)
    filled = align_streams(telemetry, stream(), NO_STATES, SIX, last)
    bare = align_streams(telemetry, stream(hold_below=0, interpolate_up_to=0), NO_STATES, SIX, last)
    assert filled["grid_at"].equals(bare["grid_at"])
    seen = bare["fill_flag"] == "observed"
    assert_frame_equal(filled.filter(seen), bare.filter(seen), check_exact=True)
    assert (filled["value"].is_null() == (filled["fill_flag"] == "missing")).all()
    assert ((filled["n_observed"] > 0) == (filled["fill_flag"] == "observed")).all()
    sides = filled.with_columns(
        before=pl.when(seen).then("value").forward_fill(), after=pl.when(seen).then("value").backward_fill()
    ).filter(fill_flag="interpolated")
    low, high = pl.min_horizontal("before", "after"), pl.max_horizontal("before", "after")
    slack = 1e-9 * pl.max_horizontal(low.abs(), high.abs())
    assert sides.select(pl.col("value").is_between(low - slack, high + slack)).to_series().all()


@few
@given(
    values=st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=40),
    shift=st.integers(-512, 512),
    power=st.integers(-3, 3),
    seed=st.integers(0, 1000),
)
def test_masks_do_not_depend_on_the_unit_or_zero_of_the_scale(values: list[float], shift: int, power: int, seed: int) -> None:
    # Whole numbers and powers of two keep the arithmetic exact, so that the masks must agree to the last row.
    frame = measurement_flags(measured(values), MASKED)
    moved = measurement_flags(measured([2.0**power * (value + shift) for value in values]), MASKED)
    assert moved["mask_reason"].to_list() == frame["mask_reason"].to_list()
    assert moved["hampel_score"].to_list() == frame["hampel_score"].to_list()
    assert moved["iqr_low"].to_list() == [None if low is None else 2.0**power * (low + shift) for low in frame["iqr_low"]]
    shuffled = measured(values).sample(fraction=1.0, shuffle=True, seed=seed)
    assert_frame_equal(measurement_flags(shuffled, MASKED), frame, check_exact=True)
    assert frame["value"].to_list() == values
