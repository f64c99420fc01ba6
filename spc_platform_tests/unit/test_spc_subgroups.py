"""Subgroups: which values stand together, and their statistics."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.spc import SPC_SUBGROUPS
from spc_platform.contracts.validate import rule_failures
from spc_platform.spc.subgroups import form_subgroups, ungrouped
from spc_platform_tests.unit.spc_frames import START, XBAR_R, make_site, mask, measurements, subgroups

FIVES = make_site(XBAR_R)
KEYED = make_site({**XBAR_R, "subgrouping": "key"})


def test_consecutive_values_form_subgroups_and_the_partial_last_one_keeps_its_n():
    formed = subgroups([1, 2, 3, 4, 5, 7, 9], FIVES)
    assert formed["n_observed"].to_list() == [5, 2]
    assert formed["mean"].to_list() == [3.0, 8.0]
    assert formed["m2"].to_list() == [10.0, 2.0]
    assert formed["range"].to_list() == [4.0, 2.0]
    assert formed["s"].to_list() == pytest.approx([np.sqrt(2.5), np.sqrt(2.0)])
    assert formed["minimum"].to_list() == [1.0, 7.0]
    assert formed["maximum"].to_list() == [5.0, 9.0]
    assert formed["subgroup_id"].to_list() == ["bore|L1-S1|mes:000000", "bore|L1-S1|mes:000005"]
    assert formed["subgroup_end_at"].to_list() == [START + timedelta(minutes=4), START + timedelta(minutes=6)]
    assert rule_failures(SPC_SUBGROUPS, formed) == []


def test_a_subgroup_of_one_has_neither_range_nor_s():
    last = subgroups([1, 2, 3, 4, 5, 6], FIVES).row(-1, named=True)
    assert (last["n_observed"], last["range"], last["s"], last["m2"]) == (1, None, None, 0.0)


def test_an_absent_value_is_not_a_zero():
    formed = subgroups([10, None, 12, float("nan"), 14, 16, 18], FIVES)
    assert formed["n_observed"].to_list() == [5]
    assert formed["mean"].to_list() == [14.0]
    assert formed["minimum"].to_list() == [10.0]


def test_masked_values_stay_and_the_figures_without_them_stand_beside():
    row = subgroups([1, 2, 3, 4, 100], FIVES, masked=["000004"]).row(0, named=True)
    assert (row["n_observed"], row["n_masked"], row["mean"], row["maximum"]) == (5, 1, 22.0, 100.0)
    assert (row["mean_unmasked"], row["m2_unmasked"]) == (2.5, 5.0)


def test_a_wholly_masked_subgroup_has_no_unmasked_mean():
    row = subgroups([1.0, 2.0], FIVES, masked=["000000", "000001"]).row(0, named=True)
    assert (row["n_masked"], row["mean"], row["mean_unmasked"], row["m2_unmasked"]) == (2, 1.5, None, None)


def test_only_observed_values_enter_never_those_of_the_prepared_table():
    """The flags table's own values are filled or cleaned copies: altering them must change nothing."""
    frame = measurements([1, 2, 3, 4, 5], site=FIVES)
    flags = mask(frame)
    altered = flags.with_columns(value=pl.col("value") + 99, value_cleaned=pl.lit(7.0))
    assert_frame_equal(form_subgroups(frame, flags, FIVES), form_subgroups(frame, altered, FIVES))


def test_a_subgroup_never_spans_two_specifications_or_two_production_dates():
    formed = subgroups([1, 2, 3, 4, 5, 6], FIVES, versions=[1, 1, 2, 2, 2, None])
    assert formed.select("specification_version", "n_observed").rows() == [(1, 2), (2, 3), (None, 1)]
    over_night = subgroups([1, 2, 3, 4], FIVES, start=START + timedelta(hours=23, minutes=58))
    assert over_night["n_observed"].to_list() == [2, 2]
    assert over_night["production_date"].n_unique() == 2


def test_the_key_of_the_source_makes_the_subgroup_and_a_value_without_key_none():
    frame = measurements([1, 10, 3, 12, 50], keys=["a", "b", "a", "b", None], site=KEYED)
    formed = form_subgroups(frame, mask(frame), KEYED)
    assert formed.select("mean", "n_observed").rows() == [(2.0, 2), (11.0, 2)]
    assert formed["subgroup_id"].to_list() == ["bore|L1-S1|mes:000000", "bore|L1-S1|mes:000001"]
    assert ungrouped(frame, KEYED).rows() == [("bore", "L1-S1", "NO_SUBGROUP_KEY", 1)]


def test_a_characteristic_without_a_chart_is_counted_not_lost():
    frame = measurements([1, 2], equipment_id="L9-S9")
    assert form_subgroups(frame, mask(frame), FIVES).is_empty()
    assert ungrouped(frame, FIVES).rows() == [("bore", "L9-S9", "NO_CHART", 2)]


def test_a_large_offset_costs_no_digits():
    """1e9 with noise of 1e-3: sums of squares would lose everything, the exact result is known."""
    noise = [0.0, 1.0, 2.0, 3.0, 4.0]
    exact = np.array([1e9 + step / 1024 for step in noise])
    row = subgroups(exact.tolist(), FIVES).row(0, named=True)
    assert row["m2"] == pytest.approx(10.0 / 1024**2, rel=1e-12)
    assert row["mean"] == 1e9 + 2 / 1024
    assert row["range"] == 4 / 1024


def test_streams_of_two_work_units_are_not_mixed():
    site = make_site(XBAR_R, {**XBAR_R, "equipment_id": "L1-S2"})
    both = pl.concat(
        [measurements([1, 1, 1], site=site), measurements([9, 9], equipment_id="L1-S2", first_record=50, site=site)]
    )
    formed = form_subgroups(both, mask(both), site)
    assert formed.select("equipment_id", "mean", "n_observed").rows() == [("L1-S1", 1.0, 3), ("L1-S2", 9.0, 2)]


def test_any_row_order_gives_the_same_subgroups():
    frame = measurements(np.random.default_rng(3).normal(10, 1, 200).tolist(), every_s=0.0, site=FIVES)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=5)
    assert_frame_equal(form_subgroups(frame, mask(frame), FIVES), form_subgroups(shuffled, mask(frame).reverse(), FIVES))
