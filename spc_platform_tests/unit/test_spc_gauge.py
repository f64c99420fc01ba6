"""Measurement systems: what is refused, what is null with a reason, and what no row order or unit may change."""

import json

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.bias_linearity import bias, linearity, type_one_study
from spc_platform.spc.gauge import GaugeStudy, Scale, gauge_crossed, gauge_nested, gauge_xbar_r
from spc_platform.spc.laboratories import compare_two_laboratories, interlaboratory

PARTS, OPERATORS = np.repeat(np.arange(5), 6), np.tile(np.repeat(["ann", "bob"], 3), 5)
VALUES = np.random.default_rng(3).normal(0, 0.1, 30) + 2.0 * PARTS + 0.3 * (OPERATORS == "bob")


def refused(code: str, call: object) -> str:
    assert callable(call)
    with pytest.raises(ContractError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


def test_a_missing_cell_is_named() -> None:
    keep = ~((PARTS == 3) & (OPERATORS == "bob"))
    text = refused("SPC-363", lambda: gauge_crossed(VALUES[keep], PARTS[keep], OPERATORS[keep]))
    assert "part 3, operator bob: 0 values" in text


def test_a_cell_with_a_value_too_few_is_named() -> None:
    text = refused("SPC-363", lambda: gauge_crossed(VALUES[1:], PARTS[1:], OPERATORS[1:]))
    assert "part 0, operator ann: 2 values" in text


def test_an_operator_with_fewer_parts_is_refused_in_a_nested_study() -> None:
    keep = ~((PARTS == 3) & (OPERATORS == "bob"))
    assert "operator bob measured 4 parts" in refused(
        "SPC-363", lambda: gauge_nested(VALUES[keep], PARTS[keep], OPERATORS[keep])
    )


def test_an_unmeasured_value_is_refused_with_its_row() -> None:
    values = VALUES.copy()
    values[7] = np.nan
    assert "row 8" in refused("SPC-360", lambda: gauge_crossed(values, PARTS, OPERATORS))


def test_text_in_the_values_is_refused() -> None:
    refused("SPC-360", lambda: bias(["1.0", "n.a."], 1.0))


def test_one_replicate_shows_no_repeatability() -> None:
    refused("SPC-361", lambda: gauge_crossed(VALUES[::3], PARTS[::3], OPERATORS[::3]))


def test_one_operator_shows_no_reproducibility() -> None:
    refused("SPC-361", lambda: gauge_crossed(VALUES, PARTS, ["ann"] * 30))


def test_labels_of_another_length_or_missing_are_refused() -> None:
    refused("SPC-364", lambda: gauge_crossed(VALUES, PARTS[:-1], OPERATORS))
    refused("SPC-364", lambda: gauge_crossed(VALUES, PARTS, [*OPERATORS[:-1], None]))


@pytest.mark.parametrize(
    "scale", [Scale(k=0.0), Scale(tolerance=-1.0), Scale(process_sigma=float("nan")), Scale(lsl=float("inf"))]
)
def test_impossible_scales_are_refused(scale: Scale) -> None:
    refused("SPC-365", lambda: gauge_crossed(VALUES, PARTS, OPERATORS, scale=scale))


def test_limits_in_the_wrong_order_are_refused() -> None:
    refused("SPC-369", lambda: gauge_crossed(VALUES, PARTS, OPERATORS, scale=Scale(lsl=1.0, usl=1.0)))


def test_equal_values_have_no_shares_and_say_why() -> None:
    study = gauge_crossed(np.full(30, 5.0), PARTS, OPERATORS)
    assert study.n_distinct_categories is None
    assert study.verdicts["study_variation"] == "unknown"
    assert any("all values are equal" in note for note in study.notes)
    assert study.to_dict()["components"][0]["contribution_pct"] is None


def components(study: GaugeStudy) -> list[float]:
    return [component.variance for component in study.components]


@pytest.mark.parametrize("make", [gauge_crossed, gauge_nested, gauge_xbar_r])
def test_no_row_order_changes_a_digit(make: object) -> None:
    assert callable(make)
    order = np.random.default_rng(1).permutation(30)
    assert components(make(VALUES, PARTS, OPERATORS)) == components(make(VALUES[order], PARTS[order], OPERATORS[order]))


@pytest.mark.parametrize("make", [gauge_crossed, gauge_nested, gauge_xbar_r])
@pytest.mark.parametrize(("offset", "unit", "within"), [(1e9, 1.0, 1e-6), (0.0, 1e-12, 1e-12)])
def test_offset_and_unit_do_not_change_the_shares(make: object, offset: float, unit: float, within: float) -> None:
    assert callable(make)
    before, after = make(VALUES, PARTS, OPERATORS), make(offset + unit * VALUES, PARTS, OPERATORS)
    expected = [component.contribution_pct for component in before.components]
    assert [component.contribution_pct for component in after.components] == pytest.approx(expected, rel=within, abs=1e-9)
    assert components(after) == pytest.approx([variance * unit**2 for variance in components(before)], rel=within, abs=1e-300)


def test_a_real_interaction_is_kept() -> None:
    wild = VALUES + np.where((PARTS % 2 == 1) & (OPERATORS == "bob"), 3.0, 0.0)
    study = gauge_crossed(wild, PARTS, OPERATORS)
    assert not study.is_interaction_pooled
    assert study.component("part x operator").variance > 1.0
    gauge, parts = study.component("gauge_rr"), study.component("part_to_part")
    assert study.component("total").variance == pytest.approx(gauge.variance + parts.variance, rel=1e-12)


def test_one_limit_compares_half_the_spread_with_its_distance_from_the_mean() -> None:
    gauge = gauge_crossed(VALUES, PARTS, OPERATORS, scale=Scale(usl=10.0)).component("gauge_rr")
    assert gauge.tolerance_pct == pytest.approx(100 * 3 * gauge.standard_deviation / (10.0 - VALUES.mean()), rel=1e-9)


def test_a_limit_on_the_wrong_side_of_the_mean_gives_null_with_a_note() -> None:
    study = gauge_crossed(VALUES, PARTS, OPERATORS, scale=Scale(usl=-10.0))
    assert np.isnan(study.component("gauge_rr").tolerance_pct)
    assert any("beyond the only limit" in note for note in study.notes)


def test_every_result_turns_into_strict_json() -> None:
    x = np.arange(6.0)
    y = x + np.array([0.1, -0.1, 0.2, 0.0, 0.1, -0.2])
    laboratories, materials = np.repeat(list("ABC"), 4), np.tile(list("xxyy"), 3)
    results = [
        gauge_crossed(VALUES, PARTS, OPERATORS),
        gauge_nested(VALUES, PARTS, OPERATORS),
        gauge_xbar_r(VALUES, PARTS, OPERATORS),
        type_one_study(np.ones(12), 1.0, 0.5),
        linearity(np.r_[y, y + 0.05], np.r_[x, x]),
        compare_two_laboratories(x, y),
        interlaboratory(VALUES[:12], laboratories, materials),
    ]
    for result in results:
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_a_type_1_study_by_hand() -> None:
    values = np.array([9.99, 10.01, 10.0, 10.02, 10.01] * 5)
    study = type_one_study(values, 10.0, 0.5, resolution=0.01)
    s = np.sqrt(sum((value - values.mean()) ** 2 for value in values) / 24)
    assert study.cg == pytest.approx(0.2 * 0.5 / (6 * s), rel=1e-9)
    assert study.cgk == pytest.approx((0.1 * 0.5 - 0.006) / (3 * s), rel=1e-9)
    assert study.repeatability_pct == pytest.approx(100 * 6 * s / 0.5, rel=1e-9)
    assert study.resolution_pct == pytest.approx(2.0)


def test_a_type_1_study_without_spread_has_no_cg_and_says_why() -> None:
    study = type_one_study(np.full(25, 10.0), 10.0, 0.5)
    assert np.isnan(study.cg)
    assert study.is_capable is None
    assert study.bias.reason is not None
    refused("SPC-369", lambda: type_one_study(np.ones(25), 1.0, 0.0))
    refused("SPC-361", lambda: type_one_study(np.ones(9), 1.0, 1.0))


def test_linearity_needs_references_that_differ_and_repeat() -> None:
    refused("SPC-362", lambda: linearity([1.0, 1.1, 1.2], [1.0, 1.0, 1.0]))
    refused("SPC-361", lambda: linearity([1.0, 1.1, 2.0], [1.0, 1.0, 2.0]))
    refused("SPC-364", lambda: linearity([1.0, 1.1, 2.0], [1.0, 1.0, 2.0, 2.0]))


def test_laboratories_that_cannot_be_compared_are_refused() -> None:
    refused("SPC-362", lambda: compare_two_laboratories([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]))
    refused("SPC-364", lambda: compare_two_laboratories([1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]))
    refused("SPC-361", lambda: interlaboratory([1.0, 2.0, 3.0, 4.0], list("AABB"), list("xxxx")))
    text = refused("SPC-363", lambda: interlaboratory(VALUES[:7], list("AABBBCC"), list("xxxxxxx")))
    assert "laboratory B, material x: 3 values" in text
