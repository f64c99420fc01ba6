"""Subgroups: which values stand together, and their statistics."""

from datetime import timedelta
from statistics import median

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.spc import SPC_SUBGROUPS
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Spans
from spc_platform.spc.subgroups import STATISTICS, WIDEST_COLUMN, consecutive, form_subgroups, subgroup_statistics, ungrouped
from spc_platform_tests.unit.spc_frames import START, XBAR_R, make_site, mask, measurements, subgroups

FIVES = make_site(XBAR_R)
KEYED = make_site({**XBAR_R, "subgrouping": "key"})


def test_consecutive_values_form_subgroups_and_the_partial_last_one_keeps_its_n():
    formed = subgroups([1, 2, 3, 4, 5, 7, 9], FIVES)
    assert formed["n_observed"].to_list() == [5, 2]
    assert formed["mean"].to_list() == [3.0, 8.0]
    assert formed["median"].to_list() == [3.0, 8.0]
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


def statistics_of(values, sizes, masked=()):
    value = np.asarray(values, dtype=float)
    kept = np.ones(len(value), dtype=bool)
    kept[list(masked)] = False
    return subgroup_statistics(value, kept, Spans(np.cumsum(sizes) - np.asarray(sizes), len(value)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 31, WIDEST_COLUMN, WIDEST_COLUMN + 1, 200])
def test_statistics_of_every_size_against_plain_python(size):
    values = np.random.default_rng(size).normal(10, 3, 40 * size)
    values[: size * 3] = np.round(values[: size * 3])  # ties
    found = statistics_of(values, [size] * 40)
    for at, group in enumerate(values.reshape(40, size).tolist()):
        assert found["median"][at] == median(group)
        assert (found["minimum"][at], found["maximum"][at]) == (min(group), max(group))
        assert found["mean"][at] == pytest.approx(np.mean(group), rel=1e-14)
        assert found["m2"][at] == pytest.approx(np.var(group) * size, rel=1e-12, abs=1e-14)
        if size > 1:
            assert found["range"][at] == max(group) - min(group)
            assert found["s"][at] == pytest.approx(np.std(group, ddof=1), rel=1e-12)
        else:
            assert np.isnan(found["range"][at])
            assert np.isnan(found["s"][at])


def test_a_subgroup_has_the_same_digits_alone_and_among_any_others():
    rng = np.random.default_rng(2)
    sizes = rng.choice([1, 2, 5, 5, 5, 5, 7, 33, 100], 400)
    values = rng.normal(1e3, 1, sizes.sum())
    masked = rng.choice(len(values), 300, replace=False)
    together = statistics_of(values, sizes, masked)
    ends = np.cumsum(sizes)
    for at, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        inside = [row - (end - size) for row in masked if end - size <= row < end]
        alone = statistics_of(values[end - size : end], [size], inside)
        for name, figures in alone.items():
            np.testing.assert_array_equal(figures[0], together[name][at], err_msg=name)


def test_more_subgroups_than_a_block_holds():
    values = np.random.default_rng(4).normal(size=5 * 20_001)
    found = statistics_of(values, [5] * 20_001)
    np.testing.assert_array_equal(found["median"], np.median(values.reshape(-1, 5), axis=1))
    np.testing.assert_array_equal(found["maximum"], values.reshape(-1, 5).max(axis=1))
    np.testing.assert_allclose(found["s"], values.reshape(-1, 5).std(axis=1, ddof=1), rtol=1e-12)


def test_masked_values_leave_only_the_figures_beside():
    found = statistics_of([1, 2, 3, 50, 60, 7, 8], [3, 2, 2], masked=[0, 3, 4])
    assert found["n_masked"].tolist() == [1, 2, 0]
    assert found["mean"].tolist() == [2.0, 55.0, 7.5]
    np.testing.assert_array_equal(found["mean_unmasked"], [2.5, np.nan, 7.5])
    np.testing.assert_array_equal(found["m2_unmasked"], [0.5, np.nan, 0.5])


def test_equal_values_have_no_dispersion_to_the_last_bit():
    for size in (2, 5, 50):
        found = statistics_of([0.1] * size * 3, [size] * 3)
        assert found["m2"].tolist() == found["s"].tolist() == found["range"].tolist() == [0.0] * 3
        assert found["mean"].tolist() == found["median"].tolist() == [0.1] * 3


@pytest.mark.parametrize(("offset", "scale"), [(1e9, 1e-3), (0.0, 1e-12), (-1e9, 1.0)])
def test_offsets_and_tiny_values_keep_what_the_stored_numbers_hold(offset, scale):
    noise = np.random.default_rng(9).standard_normal(1000)
    stored = offset + scale * noise
    held = (stored - offset).reshape(-1, 5)  # exact: the difference of the stored number and the offset
    found = statistics_of(stored, [5] * 200)
    np.testing.assert_allclose(found["s"], held.std(axis=1, ddof=1), rtol=1e-12)
    # storing rounds each value by half a unit of the last place of the offset, s by no more than twice that
    plain = scale * noise.reshape(-1, 5).std(axis=1, ddof=1)
    np.testing.assert_allclose(found["s"], plain, rtol=1e-13, atol=np.spacing(abs(offset)))
    np.testing.assert_allclose(found["mean"], offset + held.mean(axis=1), rtol=0, atol=4.5e-16 * np.abs(stored).max())


@pytest.mark.parametrize(("bad", "sizes"), [(np.nan, [2, 3]), (np.inf, [1] * 5), (-np.inf, [5]), (1e200, [2, 3])])
def test_a_value_that_has_no_statistics_is_named(bad, sizes):
    with pytest.raises(ContractError, match=r"SPC-310.*row 3"):
        statistics_of([1.0, 2.0, 3.0, bad, 5.0], sizes)


@pytest.mark.parametrize("sizes", [[5] * 40, [1] * 40, [1, 2, 7, 33, 40, 5]])
def test_a_statistic_has_the_same_digits_whatever_else_is_asked_for(sizes):
    spans = Spans(np.cumsum(sizes) - sizes, sum(sizes))
    value = np.random.default_rng(8).normal(1e9, 1e-3, spans.rows)
    whole = subgroup_statistics(value, np.ones(spans.rows, dtype=bool), spans)
    for name in STATISTICS:
        alone = subgroup_statistics(value, None, spans, [name])
        assert set(alone) & set(STATISTICS) == {name}
        assert np.array_equal(alone[name], whole[name], equal_nan=True)


def test_consecutive_subgroups_begin_anew_with_each_block_at_its_own_size():
    blocks = Spans(np.array([0, 7, 8, 14]), 15)
    assert consecutive(blocks, 3).starts.tolist() == [0, 3, 6, 7, 8, 11, 14]
    assert consecutive(blocks, np.array([5, 1, 2, 9])).starts.tolist() == [0, 5, 7, 8, 10, 12, 14]
    assert consecutive(Spans(np.zeros(0, dtype=np.int64), 0), 5).starts.tolist() == []
