"""Run lengths: exact chains and integral equations against published figures, and the evaluator against both."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from math import e, factorial

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.rules import RULE_SETS, evaluate
from spc_platform.spc.run_lengths import (
    average_run_length,
    is_exact,
    pattern_run_length,
    simulated_run_length,
    survival,
)
from spc_platform.spc.time_weighted import cusum_panels, ewma_panel, moving_average_panel
from spc_platform.spc.weighted_run_lengths import (
    cusum_decision,
    cusum_run_length,
    ewma_limit,
    ewma_run_length,
    mewma_limit,
    mewma_run_length,
    moving_average_run_length,
)

WE = RULE_SETS["western_electric"]
NELSON = RULE_SETS["nelson"]
TREND, ALTERNATE, WITHIN, OUTSIDE = NELSON[2], NELSON[3], NELSON[6], NELSON[7]


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


@pytest.mark.parametrize(("rule", "chance"), [(WITHIN, 0.6826894921370859), (OUTSIDE, 0.3173105078629141)])
def test_a_run_of_m_alone_is_the_run_of_successes_of_feller(rule, chance):
    """Feller, Introduction to Probability XIII.7: the mean wait for m successes in a row is (1 - p^m) / (q p^m)."""
    assert average_run_length([rule]) == pytest.approx((1 - chance**rule.m) / ((1 - chance) * chance**rule.m), rel=1e-12)


@pytest.mark.parametrize(
    "rules",
    [
        WE,
        WE[:2],
        (NELSON[0], NELSON[1], NELSON[4], NELSON[5]),
        (NELSON[0], WITHIN),
        (*NELSON[:2], *NELSON[4:]),
        RULE_SETS["westgard"],
        (replace(WE[1], side="above"), replace(WE[2], side="below", flag="window")),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_evaluator_signals_as_often_as_the_chain_says(rules, shift):
    """2e6 seeded points in 40,000 segments: the share without a signal within 4 binomial standard errors of the exact one."""
    segments, points = 40_000, 50
    z = np.random.default_rng(20260302).standard_normal(segments * points) + shift
    is_first = np.arange(z.size) % points == 0
    signals = evaluate(z, is_first, rules)
    quiet = 1.0 - len(np.unique(signals.point // points)) / segments
    exact = survival(rules, points, shift)
    assert quiet == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / segments) + 1e-12)


def test_a_trend_or_an_alternation_with_zones_has_no_exact_run_length():
    assert not is_exact(NELSON)
    with pytest.raises(ContractError, match=r"not for nelson_3, nelson_4; leave other rules out or simulate") as raised:
        average_run_length(NELSON)
    assert raised.value.code == "SPC-318"
    with pytest.raises(ContractError, match="empty rule set"):
        average_run_length(())
    with pytest.raises(ContractError, match="no trend and no alternation"):
        pattern_run_length(NELSON[0])


def test_a_trend_of_three_alone_waits_as_the_zigzag_numbers_say():
    """No trend of 3 in n points is an alternating permutation, 2 E_n of n! (Andre 1879); sum E_n x^n / n! = sec x + tan x."""
    assert pattern_run_length(replace(TREND, m=3)) == pytest.approx(2 * (1 / np.cos(1) + np.tan(1)) - 2, rel=1e-12)
    # no alternation of 3 points is a monotone sequence: 1 + 1 + 2 (1/2! + 1/3! + ...)
    assert pattern_run_length(replace(ALTERNATE, m=3)) == pytest.approx(2 * e - 2, rel=1e-12)
    # no rise of 2 points is a falling sequence: 1 + 1 + 1/2! + 1/3! + ...
    assert pattern_run_length(replace(TREND, m=2, side="above")) == pytest.approx(e, rel=1e-12)


def orders_without_a_trend(n, m):
    """How many orders of n values hold no m points in a row that rise or fall: counted by the rank of the last value."""
    counts = {("", 1, 0): 1}
    for size in range(2, n + 1):
        longer = Counter()
        for (direction, length, rank), orders in counts.items():
            for new in range(size):
                step = "up" if new > rank else "down"
                now = length + 1 if step == direction else 2
                if now < m:
                    longer[step, now, new] += orders
        counts = longer
    return sum(counts.values())


def test_a_trend_of_four_alone_is_the_sum_over_permutations():
    rule = replace(TREND, m=4)
    orders = np.array(list(permutations(range(6))), dtype=float)
    is_first = np.zeros(orders.shape, dtype=bool)
    is_first[:, 0] = True
    hit = np.unique(evaluate(orders.ravel(), is_first.ravel(), [rule]).point // 6)
    assert factorial(6) - len(hit) == orders_without_a_trend(6, 4)
    alive = [1.0] + [orders_without_a_trend(n, 4) / factorial(n) for n in range(1, 26)]
    factor = alive[-1] / alive[-2]
    assert pattern_run_length(rule) == pytest.approx(sum(alive) + alive[-1] * factor / (1 - factor), rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "survey"),
    # simulated in-control run lengths of the trend and alternation tests alone: JMP's 6 and 14 points, Minitab's 7 and 15
    [(TREND, 421), (ALTERNATE, 602), (replace(TREND, m=7), 2845), (replace(ALTERNATE, m=15), 946)],
)
def test_trend_and_alternation_alone(rule, survey):
    assert pattern_run_length(rule) == pytest.approx(survey, rel=0.015)
    mean, error = simulated_run_length([rule], 4_000, seed=7)
    assert mean == pytest.approx(pattern_run_length(rule), abs=4 * error)


@pytest.mark.parametrize(("count", "survey"), [(4, 118.6), (6, 79.1), (8, 73.3)])
def test_nelson_rules_with_patterns_are_simulated(count, survey):
    mean, error = simulated_run_length(NELSON[:count], 40_000, seed=1)
    assert error < 0.006 * mean
    # the survey's figure is a simulation too, given to 0.1
    assert mean == pytest.approx(survey, abs=4 * error + 0.1)
    assert simulated_run_length(NELSON[:count], 40_000, seed=1) == (mean, error)


@pytest.mark.parametrize("rules", [WE, RULE_SETS["westgard"], NELSON[6:8]])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_simulation_agrees_with_the_chain(rules, shift):
    mean, error = simulated_run_length(rules, 5_000, seed=3, shift=shift)
    assert mean == pytest.approx(average_run_length(rules, shift), abs=4 * error)


def test_a_simulation_without_a_standard_error_is_refused():
    with pytest.raises(ContractError, match="1 replications") as raised:
        simulated_run_length(WE, 1)
    assert raised.value.code == "SPC-317"


SHIFTS = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4]


# Lucas & Crosier (1982); Montgomery 9.1: two-sided CUSUM, k = 0.5, without and with the head start h/2
@pytest.mark.parametrize(
    ("decision", "head_start", "published"),
    [
        (4, 0.0, [168, 74.2, 26.6, 13.3, 8.38, 4.75, 3.34, 2.62, 2.19, 1.71]),
        (4, 0.5, [149, 62.7, 20.1, 8.97, 5.29, 2.86, 2.01, 1.59, 1.33, 1.07]),
        (5, 0.0, [465, 139, 38.0, 17.0, 10.4, 5.75, 4.01, 3.11, 2.57, 2.01]),
        (5, 0.5, [430, 122, 28.7, 11.2, 6.35, 3.37, 2.36, 1.86, 1.54, 1.16]),
    ],
)
def test_cusum_run_lengths_are_the_published_ones(decision, head_start, published):
    lengths = [cusum_run_length(0.5, decision, shift, head_start) for shift in SHIFTS]
    # printed to three digits
    assert lengths == pytest.approx(published, rel=5e-3)


def test_one_sided_cusum_and_its_decision_interval():
    # R. Vance (1986) and Hawkins: one-sided k = 0.5, h = 5 in control about 930; two-sided is half of it
    assert cusum_run_length(0.5, 5.0, one_sided=True) == pytest.approx(2 * cusum_run_length(0.5, 5.0), rel=1e-12)
    assert cusum_run_length(0.5, 5.0) == pytest.approx(465.44, abs=5e-3)
    # Hawkins (1993), in Montgomery 9.1: k and h for a two-sided in-control run length of 370
    hawkins = {0.25: 8.01, 0.5: 4.77, 0.75: 3.34, 1.0: 2.52, 1.25: 1.99, 1.5: 1.61}
    for reference, decision in hawkins.items():
        assert cusum_decision(reference, 370.0) == pytest.approx(decision, abs=6e-3)


# Lucas & Saccucci (1990); Montgomery 9.2: EWMA schemes of in-control run length 500, fixed limits
@pytest.mark.parametrize(
    ("weight", "k", "published"),
    [
        (0.40, 3.054, [500, 224, 71.2, 28.4, 14.3, 5.9, 3.5, 2.5, 2.0, 1.4]),
        (0.25, 2.998, [500, 170, 48.2, 20.1, 11.1, 5.5, 3.6, 2.7, 2.3, 1.7]),
        (0.20, 2.962, [500, 150, 41.8, 18.2, 10.5, 5.5, 3.7, 2.9, 2.4, 1.9]),
        (0.10, 2.814, [500, 106, 31.3, 15.9, 10.3, 6.1, 4.4, 3.4, 2.9, 2.2]),
        (0.05, 2.615, [500, 84.1, 28.8, 16.4, 11.4, 7.1, 5.2, 4.2, 3.5, 2.7]),
    ],
)
def test_ewma_run_lengths_are_the_published_ones(weight, k, published):
    lengths = [ewma_run_length(weight, k, shift, asymptotic=True) for shift in SHIFTS]
    # printed to three digits, or to one decimal
    assert lengths == pytest.approx(published, rel=5e-3, abs=0.06)
    assert ewma_limit(weight, 500.0, asymptotic=True) == pytest.approx(k, abs=1e-3)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_plotted_ewma_with_moving_limits_signals_as_often_as_computed(shift):
    segments, points = 2_000, 1_500
    z = np.random.default_rng(11).standard_normal(segments * points) + shift
    is_first = np.arange(z.size) % points == 0
    panel = ewma_panel(z, 1, is_first, 0.0, 1.0, 0.2, 2.5)
    mean, error = _first_signals(np.abs(panel.z) > 2.5, points)
    assert mean == pytest.approx(ewma_run_length(0.2, 2.5, shift), abs=4 * error)
    assert ewma_run_length(0.2, 2.5, shift) < ewma_run_length(0.2, 2.5, shift, asymptotic=True)


@pytest.mark.parametrize(("shift", "head_start"), [(0.0, 0.0), (0.0, 0.5), (1.0, 0.5)])
def test_the_plotted_cusum_signals_as_often_as_computed(shift, head_start):
    segments, points = 2_000, 1_500
    z = np.random.default_rng(12).standard_normal(segments * points) + shift
    is_first = np.arange(z.size) % points == 0
    upper, lower = cusum_panels(z, 1, is_first, 0.0, 1.0, 0.5, 3.5, head_start)
    mean, error = _first_signals((upper.value > 3.5) | (lower.value < -3.5), points)
    assert mean == pytest.approx(cusum_run_length(0.5, 3.5, shift, head_start), abs=4 * error)


def test_the_simulated_moving_average_agrees_with_the_plotted_one():
    mean, error = moving_average_run_length(1, 3.0, replications=5_000)
    assert mean == pytest.approx(370.398, abs=4 * error)  # span 1 is the Shewhart chart
    segments, points = 2_000, 1_500
    z = np.random.default_rng(14).standard_normal(segments * points)
    panel = moving_average_panel(z, 1, np.arange(z.size) % points == 0, 0.0, 1.0, 4, 2.5)
    plotted, plotted_error = _first_signals(np.abs(panel.z) > 2.5, points)
    mean, error = moving_average_run_length(4, 2.5, replications=5_000)
    assert mean == pytest.approx(plotted, abs=4 * np.hypot(error, plotted_error))


def _first_signals(signal, points):
    """Mean first signal of each segment with its standard error; every segment is long enough to hold one."""
    rows = signal.reshape(-1, points)
    assert rows.any(axis=1).all()
    lengths = rows.argmax(axis=1) + 1.0
    return lengths.mean(), lengths.std(ddof=1) / np.sqrt(len(lengths))


# Prabhu & Runger, J. Quality Technology 29 (1997) 8; Montgomery 11.4: limits for an in-control run length of 200 and the
# run length at shifts of Mahalanobis distance 0.5, 1, 1.5, 2, 3; their Markov chain is printed to about 1 %
@pytest.mark.parametrize(
    ("p", "weight", "limit", "published"),
    [
        (2, 0.05, 7.35, [26.61, 11.23, 7.14, 5.28, 3.56]),
        (2, 0.10, 8.64, [28.07, 10.15, 6.11, 4.42, 2.93]),
    ],
)
def test_mewma_limits_and_run_lengths_are_the_published_ones(p, weight, limit, published):
    assert mewma_limit(p, weight, 200.0) == pytest.approx(limit, abs=0.01)
    lengths = [mewma_run_length(p, weight, limit, shift) for shift in (0.5, 1.0, 1.5, 2.0, 3.0)]
    assert lengths == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("p", "weight", "limit"), [(4, 0.10, 12.73), (10, 0.10, 22.67), (2, 0.8, 10.58), (4, 0.2, 13.87)])
def test_mewma_limits_of_more_variables(p, weight, limit):
    assert mewma_limit(p, weight, 200.0) == pytest.approx(limit, abs=0.02)


def test_a_mewma_of_weight_one_is_the_chi_square_chart():
    # chi-square 0.995 quantiles (NIST e-Handbook 1.3.6.7.4): 10.597, 14.860
    assert mewma_limit(2, 1.0, 200.0) == pytest.approx(10.597, abs=1e-3)
    assert mewma_limit(4, 1.0, 200.0) == pytest.approx(14.860, abs=1e-3)


@pytest.mark.parametrize("p", [2, 3, 10])
def test_both_equations_of_the_mewma_meet_at_no_shift(p):
    limit = mewma_limit(p, 0.2, 200.0)
    assert mewma_run_length(p, 0.2, limit, 1e-6) == pytest.approx(200.0, rel=1e-8)


def test_a_mewma_of_one_variable_is_the_ewma():
    assert mewma_limit(1, 0.1, 500.0) == pytest.approx(ewma_limit(0.1, 500.0, asymptotic=True) ** 2, rel=1e-9)


def test_a_mewma_in_three_dimensions_signals_as_often_as_computed():
    random, replications = np.random.default_rng(13), 4_000
    z, lengths, active = np.zeros((replications, 3)), np.zeros(replications), np.ones(replications, dtype=bool)
    for point in range(1, 400):
        z = 0.8 * z + 0.2 * (random.standard_normal(z.shape) + np.array([0.6, 0.0, -0.8]))
        hit = active & ((1.8 / 0.2) * (z * z).sum(axis=1) > 12.0)
        lengths[hit] = point
        active &= ~hit
    assert not active.any()
    error = lengths.std(ddof=1) / np.sqrt(replications)
    assert lengths.mean() == pytest.approx(mewma_run_length(3, 0.2, 12.0, 1.0), abs=4 * error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ewma_run_length(0.0, 3.0), "weight is 0"),
        (lambda: ewma_run_length(0.1, -3.0), "k is -3"),
        (lambda: cusum_run_length(-0.5, 5.0), "reference is -0.5"),
        (lambda: cusum_run_length(0.5, 5.0, 0.0, 1.5), "head_start is 1.5"),
        (lambda: mewma_run_length(0, 0.1, 8.0), "p is 0"),
        (lambda: mewma_run_length(2, 0.001, 8.0, 1.0), "too small"),
        (lambda: ewma_limit(0.1, 0.5), "arl0 is 0.5"),
    ],
)
def test_parameters_out_of_range_are_named(call, message):
    with pytest.raises(ContractError, match=message) as raised:
        call()
    assert raised.value.code == "SPC-317"
