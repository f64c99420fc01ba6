"""Maximum likelihood of normal, lognormal, Weibull and gamma distributions, for all spans at once.

Normal and lognormal in closed form; the Weibull and gamma shape equations (Johnson, Kotz, Balakrishnan, Continuous
Univariate Distributions 1, chapters 21 and 17) by Newton's method to the last digits. Values ascend within each span;
each function gives shape, location and scale per span.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from spc_platform.spc.sequence import Floats, Spans

_STEPS = 100
_CLOSE = 1e-14


def rows_of(spans: Spans, per_span: Floats) -> Floats:
    """One value per span, repeated for each of its rows."""
    return np.asarray(spans.expand(per_span), dtype=np.float64)


def relative_logs(values: Floats, reference: Floats) -> Floats:
    """ln(x / reference) with full precision where x is close to the reference."""
    ratio = (values - reference) / reference
    return np.asarray(np.where(np.abs(ratio) < 0.5, np.log1p(ratio), np.log(values / reference)), dtype=np.float64)


def _fit_normal(values: Floats, spans: Spans, n: Floats) -> tuple[Floats, Floats, Floats]:
    start = values[spans.starts]
    away = values - rows_of(spans, start)
    centre = spans.total(away) / n
    scale = np.sqrt(spans.total((away - rows_of(spans, centre)) ** 2) / n)
    return np.full(len(n), np.nan), start + centre, scale


def _fit_lognormal(values: Floats, spans: Spans, n: Floats) -> tuple[Floats, Floats, Floats]:
    start = values[spans.starts]
    logs = relative_logs(values, rows_of(spans, start))
    centre = spans.total(logs) / n
    shape = np.sqrt(spans.total((logs - rows_of(spans, centre)) ** 2) / n)
    return shape, np.zeros(len(n)), start * np.exp(centre)


def _fit_weibull(values: Floats, spans: Spans, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Shape k of sum(x^k ln x) / sum(x^k) - 1 / k = mean ln x, by Newton from Menon's estimate."""
    largest = values[spans.ends]
    logs = relative_logs(values, rows_of(spans, largest))
    mean = spans.total(logs) / n
    k = np.pi / np.sqrt(6.0 * spans.total((logs - rows_of(spans, mean)) ** 2) / n)
    for _ in range(_STEPS):
        weight = np.exp(rows_of(spans, k) * logs)
        total = spans.total(weight)
        first = spans.total(weight * logs) / total
        second = spans.total(weight * (logs - rows_of(spans, first)) ** 2) / total
        step = (first - 1.0 / k - mean) / (second + 1.0 / (k * k))
        k = np.maximum(k - step, k / 4.0)
        if not np.any(np.abs(step) > _CLOSE * k):
            break
    weight = np.exp(rows_of(spans, k) * logs)
    return k, np.zeros(len(n)), largest * (spans.total(weight) / n) ** (1.0 / k)


def _fit_gamma(values: Floats, spans: Spans, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Shape a of ln a - digamma(a) = ln mean - mean ln x, by Newton in 1 / a (Minka 2002)."""
    start = values[spans.starts]
    mean = start + spans.total(values - rows_of(spans, start)) / n
    ratio = values / rows_of(spans, mean) - 1.0
    away = (values - rows_of(spans, mean)) / rows_of(spans, mean)
    ratio = np.where(np.abs(away) < 0.5, away, ratio)
    excess = spans.total(_excess_of_log(ratio, values / rows_of(spans, mean))) / n
    a = (3.0 - excess + np.sqrt((excess - 3.0) ** 2 + 24.0 * excess)) / (12.0 * excess)
    for _ in range(_STEPS):
        inverse = 1.0 / a + (_log_minus_digamma(a) - excess) / (a * a * _slope(a))
        after = np.where(inverse > 0, 1.0 / inverse, a / 2.0)
        moved = np.abs(after - a) > _CLOSE * a
        a = after
        if not np.any(moved):
            break
    return a, np.zeros(len(n)), mean / a


def _excess_of_log(d: Floats, x: Floats) -> Floats:
    """Difference d - ln(1 + d), which cancels for small d: there its series. ``x`` is 1 + d with the digits of a small x."""
    series = np.zeros_like(d)
    for power in range(11, 1, -1):
        series = d * series + (1.0 if power % 2 == 0 else -1.0) / power
    return np.asarray(np.where(np.abs(d) < 0.01, d * d * series, d - np.log(x)), dtype=np.float64)


def _log_minus_digamma(a: Floats) -> Floats:
    """Difference ln a - digamma(a), by its asymptotic series where the difference cancels."""
    b = 1.0 / (a * a)
    series = 0.5 / a + b * (1.0 / 12.0 - b * (1.0 / 120.0 - b * (1.0 / 252.0 - b / 240.0)))
    return np.asarray(np.where(a > 50.0, series, np.log(a) - special.digamma(a)), dtype=np.float64)


def _slope(a: Floats) -> Floats:
    """1 / a - trigamma(a): the derivative of ln a - digamma(a)."""
    b = 1.0 / (a * a)
    series = -b * (0.5 + (1.0 / a) * (1.0 / 6.0 - b * (1.0 / 30.0 - b * (1.0 / 42.0 - b / 30.0))))
    return np.asarray(np.where(a > 50.0, series, 1.0 / a - special.polygamma(1, a)), dtype=np.float64)


FITTERS = {"normal": _fit_normal, "lognormal": _fit_lognormal, "weibull": _fit_weibull, "gamma": _fit_gamma}
