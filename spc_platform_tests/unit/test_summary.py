"""When the demo's summary may say that a special cause was found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from spc_platform.cli.summary import found_causes

START, END = datetime(2026, 3, 25, 8, tzinfo=UTC), datetime(2026, 3, 25, 12, tzinfo=UTC)
INSIDE = datetime(2026, 3, 25, 10, tzinfo=UTC)
RULE_1 = {
    "characteristic_id": "A10.bore",
    "equipment_id": "A10",
    "subgroup_at": INSIDE,
    "panel": "location",
    "rule": "nelson_1",
    "side": "above",
}


def is_found(kind: str, size_sigma: float, **signal: object) -> bool:
    cause = {"cause_id": "SC01", "characteristic_id": "A10.bore", "equipment_id": "A10", "kind": kind, "size_sigma": size_sigma}
    causes = pl.DataFrame([cause | {"start_at": START, "end_at": END}])
    return bool(found_causes(causes, pl.DataFrame([RULE_1 | signal]))["found"].item())


@pytest.mark.parametrize("rule", ["nelson_1", "western_electric_1"])
def test_a_point_beyond_the_limit_on_the_side_of_the_shift_finds_it(rule: str) -> None:
    assert is_found("shift", 3.0, rule=rule)
    assert is_found("drift", -4.0, rule=rule, side="below")


def test_the_bounds_of_the_window_belong_to_it() -> None:
    assert is_found("shift", 3.0, subgroup_at=START)
    assert is_found("shift", 3.0, subgroup_at=END)


@pytest.mark.parametrize(
    "signal",
    [
        {"rule": "nelson_2"},
        {"rule": "western_electric_4"},
        {"side": "below"},
        {"side": "both"},
        {"panel": "dispersion"},
        {"subgroup_at": START - timedelta(microseconds=1)},
        {"subgroup_at": END + timedelta(microseconds=1)},
        {"equipment_id": "A20"},
        {"characteristic_id": "A10.length"},
    ],
    ids=str,
)
def test_any_other_signal_does_not_find_a_shift(signal: dict[str, object]) -> None:
    assert not is_found("shift", 3.0, **signal)


def test_a_variance_must_show_on_the_dispersion_panel() -> None:
    assert is_found("variance", 3.0, panel="dispersion")
    assert not is_found("variance", 3.0)


def test_one_cause_found_by_many_signals_is_one_cause() -> None:
    cause = {"cause_id": "SC01", "characteristic_id": "A10.bore", "equipment_id": "A10", "kind": "spike", "size_sigma": 6.0}
    cause |= {"start_at": START, "end_at": END}
    causes = pl.DataFrame([cause, cause | {"cause_id": "SC02", "equipment_id": "A11"}])
    found = found_causes(causes, pl.DataFrame([RULE_1, RULE_1 | {"subgroup_at": END}]))
    assert found.select("cause_id", "found").rows() == [("SC01", True), ("SC02", False)]
