"""Confidence intervals of variance components, by the modified large-sample method (MLS).

A component is a linear combination sum(c_q S_q^2) of independent mean squares with n_q degrees of freedom. Sources:
Ting, Burdick, Graybill, Jeyaratnam and Lu, J. Statistical Computation and Simulation 35 (1990) 135 (coefficients of
both signs); Graybill and Wang, JASA 75 (1980) 869 (all positive); Burdick, Borror and Montgomery, Design and Analysis
of Gauge R&R Studies (SIAM 2005), chapters 2 and 3.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from spc_platform.spc.results import Interval
from spc_platform.spc.sequence import Floats

METHOD = "MLS"


def _same_sign(c: Floats, ms: Floats, df: Floats, half: Floats, tail: float) -> float:
    """Terms between mean squares of one sign in the bound that their own G sets."""
    total = 0.0
    members = np.flatnonzero(c)
    for i, q in enumerate(members):
        for t in members[i + 1 :]:
            both = df[q] + df[t]
            quantile = both / stats.chi2.ppf(1.0 - tail, both)
            star = (
                (1.0 - quantile) ** 2 * both**2 / (df[q] * df[t]) - half[q] ** 2 * df[q] / df[t] - half[t] ** 2 * df[t] / df[q]
            )
            total += float(star) / (members.size - 1) * c[q] * c[t] * ms[q] * ms[t]
    return total


def mls_interval(c: Floats, ms: Floats, df: Floats, confidence: float) -> Interval:
    """Two-sided interval of sum(c * mean square); a variance cannot be negative, so both ends stop at 0.

    ``c``, ``ms``, ``df``: coefficients, mean squares and degrees of freedom, one per line of the ANOVA table. With a
    single term the interval is the exact chi-square one. ``confidence`` is a share.

    >>> one = mls_interval(np.array([1.0]), np.array([2.0]), np.array([10.0]), 0.95)
    >>> bool(np.isclose(one.low, 20 / stats.chi2.ppf(0.975, 10))), bool(np.isclose(one.high, 20 / stats.chi2.ppf(0.025, 10)))
    (True, True)
    """
    tail = (1.0 - confidence) / 2.0
    used = c != 0
    c, ms, df = c[used], ms[used], df[used]
    g = 1.0 - df / stats.chi2.ppf(1.0 - tail, df)
    h = df / stats.chi2.ppf(tail, df) - 1.0
    plus, minus = np.where(c > 0, c, 0.0), np.where(c < 0, -c, 0.0)
    below = float(np.sum((g * plus * ms) ** 2) + np.sum((h * minus * ms) ** 2)) + _same_sign(plus, ms, df, g, tail) * bool(
        minus.any()
    )
    above = float(np.sum((h * plus * ms) ** 2) + np.sum((g * minus * ms) ** 2)) + _same_sign(minus, ms, df, g, tail) * bool(
        plus.any()
    )
    for q in np.flatnonzero(plus):
        for r in np.flatnonzero(minus):
            product = plus[q] * minus[r] * ms[q] * ms[r]
            upper, lower = stats.f.ppf(1.0 - tail, df[q], df[r]), stats.f.ppf(tail, df[q], df[r])
            below += ((upper - 1.0) ** 2 - (g[q] * upper) ** 2 - h[r] ** 2) / upper * product
            above += ((1.0 - lower) ** 2 - (h[q] * lower) ** 2 - g[r] ** 2) / lower * product
    point = float(np.sum(c * ms))
    return Interval(
        max(0.0, point - float(np.sqrt(max(below, 0.0)))),
        max(0.0, point + float(np.sqrt(max(above, 0.0)))),
        confidence,
        METHOD if used.sum() > 1 else "chi-square",
    )
