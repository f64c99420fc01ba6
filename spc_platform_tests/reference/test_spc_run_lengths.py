"""Run lengths: the exact chain against published figures, and the evaluator against the chain."""

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.rules import RULE_SETS, evaluate
from spc_platform.spc.run_lengths import average_run_length, survival

WE = RULE_SETS["western_electric"]
NELSON = RULE_SETS["nelson"]


# Champ & Woodall (1987), recomputed to four decimals
@pytest.mark.parametrize(
    ("rules", "in_control"),
    [
        (WE[:1], 370.3983),
        (WE[:2], 225.4384),
        ((WE[0], WE[2]), 166.0545),
        ((WE[0], WE[3]), 152.7301),
        ((NELSON[0], NELSON[1]), 216.6955),
        (WE, 91.7508),
        ((NELSON[0], NELSON[1], NELSON[4], NELSON[5]), 109.0493),
    ],
)
def test_in_control_run_length_is_the_published_one(rules, in_control):
    assert average_run_length(rules) == pytest.approx(in_control, abs=6e-5)


@pytest.mark.parametrize(("shift", "length"), [(1.0, 9.222), (2.0, 3.128)])
def test_western_electric_under_a_shift(shift, length):
    assert average_run_length(WE, shift) == pytest.approx(length, abs=6e-4)


@pytest.mark.parametrize("rules", [WE, WE[:2], (NELSON[0], NELSON[1], NELSON[4], NELSON[5])])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_evaluator_signals_as_often_as_the_chain_says(rules, shift):
    """2e6 seeded points in 40,000 segments: the share without a signal within 4 binomial standard errors of the exact one."""
    segments, points = 40_000, 50
    z = np.random.default_rng(20260302).standard_normal(segments * points) + shift
    is_first = np.arange(z.size) % points == 0
    signals = evaluate(z, is_first, rules)
    quiet = 1.0 - len(np.unique(signals.point // points)) / segments
    exact = survival(rules, points, shift)
    assert quiet == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / segments))


def test_rules_with_unbounded_memory_have_no_exact_run_length():
    with pytest.raises(ContractError, match="leave other rules out"):
        average_run_length(NELSON)
