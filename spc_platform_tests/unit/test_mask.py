"""Masks stand beside values and hide nothing."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from spc_platform.contracts.core import MEASUREMENT
from spc_platform.contracts.prepared import MEASUREMENT_FLAGS
from spc_platform.prepare.mask import measurement_flags
from spc_platform.site.model import Site
from spc_platform_tests.unit.prepare_frames import DAY, SIX, site_with

COLUMNS = ("source_id", "record_id", "characteristic_id", "equipment_id", "measured_at", "value", "production_date")


def chart(**changes: Any) -> Site:
    quiet = {"iqr_multiplier": None, "hampel_window": None, "hampel_multiplier": None}
    return site_with(characteristics=[{**quiet, **changes}])


def measured(values: list[float], characteristic_id: str = "SHAFT-DIA") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "source_id": "mes",
            "record_id": [f"{characteristic_id}-{index:03d}" for index in range(len(values))],
            "characteristic_id": characteristic_id,
            "equipment_id": "L1-LATHE",
            "measured_at": [SIX + timedelta(seconds=index) for index in range(len(values))],
            "value": values,
            "production_date": DAY,
        },
        schema_overrides={name: MEASUREMENT.schema[name] for name in COLUMNS},
    )


def test_fences_follow_quantiles_of_type_7() -> None:
    # Type 7 of 1..9 and 30: Q1 = 3.25, Q3 = 7.75 (R: quantile(c(1:9, 30))); 1.5 * IQR = 6.75.
    frame = measurement_flags(measured([1, 2, 3, 4, 5, 6, 7, 8, 9, 30]), chart(iqr_multiplier=1.5))
    assert frame.select("iqr_low", "iqr_high").unique().rows() == [(-3.5, 14.5)]
    assert frame["mask_reason"].to_list() == ["none"] * 9 + ["iqr"]
    assert frame["value"].to_list()[-1] == 30.0
    assert frame["value_cleaned"].to_list()[-1] is None


def test_the_declared_multiplier_moves_the_fences() -> None:
    frame = measurement_flags(measured([1, 2, 3, 4, 5, 6, 7, 8, 9, 30]), chart(iqr_multiplier=5.0))
    # 7.75 + 5 * 4.5 = 30.25
    assert frame["iqr_high"].unique().to_list() == [30.25]
    assert not frame["is_masked"].any()


def test_a_value_on_the_fence_is_not_masked() -> None:
    # Q1 = 1, Q3 = 3 of 0..4, so that the upper fence with m = 0.5 is exactly 4.
    frame = measurement_flags(measured([0, 1, 2, 3, 4]), chart(iqr_multiplier=0.5))
    assert frame["iqr_high"].to_list() == [4.0] * 5
    assert not frame["is_masked"].any()


@pytest.mark.parametrize(("n", "fenced"), [(4, False), (5, True)])
def test_fewer_than_five_values_have_no_fences(n: int, fenced: bool) -> None:
    frame = measurement_flags(measured([1.0, 2.0, 3.0, 4.0, 1000.0][-n:]), chart(iqr_multiplier=1.5))
    assert frame["iqr_low"].is_not_null().all() == fenced
    assert frame["is_masked"].any() == fenced


def test_hampel_scores_against_the_rolling_median_in_time_order() -> None:
    frame = measurement_flags(measured([1, 2, 3, 20, 4, 5, 6]), chart(hampel_window=5, hampel_multiplier=3.0))
    # Window of the 20: 2, 3, 20, 4, 5, median 4, deviations 2 1 16 0 1, MAD 1.
    assert frame["hampel_score"].to_list()[3] == pytest.approx(16 / 1.4826, rel=1e-12)
    assert frame["mask_reason"].to_list() == ["none"] * 3 + ["hampel"] + ["none"] * 3


def test_hampel_equals_a_plain_loop_over_windows() -> None:
    values = np.random.default_rng(7).normal(size=60)
    frame = measurement_flags(measured(values.tolist()), chart(hampel_window=7, hampel_multiplier=3.0))
    expected = []
    for index, value in enumerate(values):
        window = values[max(index - 3, 0) : index + 4]
        mad = np.median(np.abs(window - np.median(window)))
        expected.append(abs(value - np.median(window)) / (1.4826 * mad))
    assert frame["hampel_score"].to_list() == pytest.approx(expected, rel=1e-12)


def test_a_mad_of_zero_has_no_score_and_masks_nothing() -> None:
    frame = measurement_flags(measured([5, 5, 5, 9, 5, 5, 5]), chart(hampel_window=5, hampel_multiplier=3.0))
    assert frame["hampel_score"].null_count() == 7
    assert not frame["is_masked"].any()


def test_a_value_alone_has_no_hampel_score() -> None:
    frame = measurement_flags(measured([5.0]), chart(hampel_window=5, hampel_multiplier=3.0))
    assert frame["hampel_score"].to_list() == [None]


def test_both_rules_are_named_when_both_mask() -> None:
    site = chart(iqr_multiplier=1.5, hampel_window=5, hampel_multiplier=3.0)
    frame = measurement_flags(measured([1, 2, 3, 2, 90, 3, 1, 2]), site)
    assert frame["mask_reason"].to_list()[4] == "iqr+hampel"


def test_no_declared_rule_masks_nothing() -> None:
    frame = measurement_flags(measured([1, 1, 1, 1, 1e9]), chart())
    assert frame["mask_reason"].unique().to_list() == ["none"]
    assert frame["value_cleaned"].to_list() == frame["value"].to_list()


def test_charts_do_not_see_each_other() -> None:
    site = site_with(
        characteristics=[
            {"characteristic_id": name, "iqr_multiplier": 1.5, "hampel_window": length, "hampel_multiplier": 3.0}
            for name, length in (("A", 3), ("B", 5), ("C", 5))
        ]
    )
    values = {"A": [1.0, 2, 3, 4, 5, 6], "B": [100.0, 101, 102, 103, 104, 105], "C": [-5.0, -4, -3, -2, -1, 0]}
    together = measurement_flags(pl.concat(measured(each, name) for name, each in values.items()), site)
    alone = pl.concat(measurement_flags(measured(each, name), site) for name, each in values.items())
    assert together.equals(MEASUREMENT_FLAGS.conform(alone))
    assert not together["is_masked"].any()


def test_the_frame_conforms_and_is_empty_for_no_measurements() -> None:
    site = chart(iqr_multiplier=1.5, hampel_window=5, hampel_multiplier=3.0)
    MEASUREMENT_FLAGS.pandera_schema().validate(measurement_flags(measured([1, 2, 3, 4, 50]), site))
    assert measurement_flags(measured([]), site).schema == MEASUREMENT_FLAGS.schema


@pytest.mark.parametrize(
    "rule", [{"iqr_multiplier": 3.0}, {"hampel_window": 21, "hampel_multiplier": 6.0}], ids=["iqr", "hampel"]
)
def test_injected_sensor_outliers_of_twenty_sigma_are_all_masked_and_nothing_else(rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(20)
    values = rng.normal(25.0, 0.01, size=800)
    injected = rng.choice(800, size=12, replace=False)
    values[injected] += rng.choice([-0.2, 0.2], size=12)
    frame = measurement_flags(measured(values.tolist()), chart(**rule))
    assert np.flatnonzero(frame["is_masked"].to_numpy()).tolist() == sorted(injected.tolist())
    assert frame["value"].to_list() == values.tolist()
