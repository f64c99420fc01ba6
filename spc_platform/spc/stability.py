"""Whether a chart shows more signals than chance gives a stable process: the verdict that stands beside every index.

Every long chart has false alarms, so a single signal proves nothing. A chart is ``unstable`` when chance explains its
signals with a probability below 1 %, judged in two ways: by the number of points that signal, and by the farthest point.
The chance is that of known limits; limits estimated from a short baseline give somewhat more false alarms than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from spc_platform.spc.limit_rates import limit_alarm_rate
from spc_platform.spc.rules import Rule, evaluate
from spc_platform.spc.sequence import Flags, Floats

CHANCE = 0.01
"""Probability below which chance does not explain the signals."""

_BLOCKS, _BLOCK = 4000, 100
_SEED = 20


@lru_cache(maxsize=256)
def signals_by_chance(rules: tuple[Rule, ...], width: float = 3.0) -> tuple[float, float]:
    """Share of points that signal on a stable process, and how much their count varies beyond Poisson (1: as Poisson).

    This is the share of flagged points, which is more than 1 / ARL: a run that goes on flags several points. Points
    beyond the limits are counted exactly; what other rules add comes from 400,000 seeded normal values judged by
    ``rules.evaluate`` itself (standard error of the share below 0.0003).

    >>> from spc_platform.spc.rules import RULE_SETS
    >>> round(signals_by_chance(RULE_SETS["limits_only"])[0], 7)
    0.0026998
    """
    limits = [rule for rule in rules if rule.kind == "beyond" and rule.k == rule.m == 1 and rule.zone is None]
    exact = float(2.0 * special.ndtr(-width)) if limits else 0.0
    if len(limits) == len(rules):
        return exact, 1.0
    z = np.random.default_rng(_SEED).standard_normal(_BLOCKS * _BLOCK)
    is_first = np.arange(len(z)) == 0
    flagged = np.zeros(len(z), dtype=np.bool_)
    flagged[evaluate(z, is_first, rules, width).point] = True
    others = flagged & ~(np.abs(z) > width) if limits else flagged
    counts = flagged.reshape(_BLOCKS, _BLOCK).sum(axis=1)
    spread = float(counts.var(ddof=1) / max(counts.mean(), 1.0 / _BLOCKS))
    return exact + float(others.mean()), max(spread, 1.0)


def chance_of_signals(
    points: npt.ArrayLike, signals: npt.ArrayLike, largest_z: npt.ArrayLike, share: npt.ArrayLike, spread: npt.ArrayLike
) -> Floats:
    """Probability that a stable process signals at least so often or so far, per chart; NaN where ``share`` is NaN.

    ``points``, ``signals``: number of points, and of those that signal; ``largest_z``: largest |z| of a signalling point,
    0 or NaN without; ``share``, ``spread``: of ``signals_by_chance``. The smaller of the Poisson tail of the count, both
    count and mean divided by the spread (quasi-Poisson), and of 1 - (1 - P(|Z| > z))^points; twice it, for two looks.

    >>> chance_of_signals([100, 100], [1, 1], [3.1, 8.0], 0.0027, 1.0).round(4).tolist()
    [0.3522, 0.0]
    """
    n, count, z, expected, clumps = (
        np.asarray(each, dtype=np.float64) for each in np.broadcast_arrays(points, signals, largest_z, share, spread)
    )
    number = np.where(count > 0, special.gammainc(np.maximum(count, 0.5) / clumps, n * expected / clumps), 1.0)
    beyond = 2.0 * special.ndtr(-np.nan_to_num(np.abs(z)))
    with np.errstate(divide="ignore", invalid="ignore"):  # without a point there is no signal, and nothing to explain
        far = np.where(count > 0, -np.expm1(n * np.log1p(-np.minimum(beyond, 1.0))), 1.0)
    return np.asarray(np.where(np.isnan(expected), np.nan, np.minimum(1.0, 2.0 * np.minimum(number, far))))


def is_unstable(
    points: npt.ArrayLike, signals: npt.ArrayLike, largest_z: npt.ArrayLike, rules: Sequence[Rule], width: float
) -> Flags:
    """True where chance explains the signals with a probability below ``CHANCE``; arguments of ``chance_of_signals``."""
    share, spread = signals_by_chance(tuple(rules), width)
    return np.asarray(chance_of_signals(points, signals, largest_z, share, spread) < CHANCE, dtype=np.bool_)


def chance_of_spread_signals(
    statistic: str, size: npt.ArrayLike, width: npt.ArrayLike, points: npt.ArrayLike, signals: npt.ArrayLike
) -> Floats:
    """Probability that a stable spread lies beyond its limits at least so often, per chart.

    ``statistic``: r, s or mr; ``size``: its subgroup size or span; ``width``: k of the limits. The rate is that of the
    statistic's own distribution (``limit_alarm_rate``); one far value flags two moving ranges.

    >>> chance_of_spread_signals("r", 5, 3.0, [25, 25], [0, 2]).round(4).tolist()
    [1.0, 0.0123]
    """
    return chance_of_signals(points, signals, 0.0, limit_alarm_rate(statistic, size, width), 2.0 if statistic == "mr" else 1.0)
