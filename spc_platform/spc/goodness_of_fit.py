"""Anderson-Darling statistic of fitted distributions and its p-value, for many charts at once.

p-values, by distribution: normal and lognormal from D'Agostino and Stephens, Goodness-of-Fit Techniques (1986), table
4.9; Weibull from the approximation of MIL-HDBK-17 (1997) to Stephens' table 4.17; gamma from the asymptotic law of the
statistic with both parameters estimated, a weighted sum of chi-squares (Lockhart and Stephens 1985), by Imhof's integral.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from spc_platform.spc.sequence import Floats, Spans

_POINTS = 96
_CHARTS_AT_ONCE = 32
_FARTHEST = 10.0
_IMHOF_UP_TO = 2.0
_LARGEST_SHAPE = 1e6


def anderson_darling(log_cdf: Floats, log_sf: Floats, spans: Spans) -> Floats:
    """A^2 of each span: -n - sum((2 i - 1) ln F(x_i) + (2 (n - i) + 1) ln(1 - F(x_i))) / n.

    Logarithms of F and 1 - F at values that ascend within each span. Source: Anderson and Darling (1954).

    >>> u = np.array([0.25, 0.5, 0.75])
    >>> anderson_darling(np.log(u), np.log1p(-u), Spans(np.array([0]), 3)).round(6).tolist()
    [0.269431]
    """
    n = spans.sizes.astype(np.float64)
    size: Floats = np.repeat(n, spans.sizes)
    rank: Floats = (np.arange(spans.rows) - np.repeat(spans.starts, spans.sizes) + 1).astype(np.float64)
    least = float(np.log(np.finfo(np.float64).tiny))
    terms = (2.0 * rank - 1.0) * np.maximum(log_cdf, least)
    terms += (2.0 * (size - rank) + 1.0) * np.maximum(log_sf, least)
    return np.asarray(-n - spans.total(terms) / n, dtype=np.float64)


def p_of_normal(a2: Floats, n: Floats) -> Floats:
    """p-value of A^2 about a normal distribution with mean and s estimated (D'Agostino and Stephens, table 4.9).

    Valid for n of at least 8; the statistic is modified by 1 + 0.75 / n + 2.25 / n^2. Modified statistics above 10 have
    the p of 10, 4e-24: that far out the published parabola is no tail any more (R's nortest cuts it there, too).

    >>> p_of_normal(np.array([0.752]), np.array([1e9])).round(3).tolist()
    [0.05]
    """
    a = np.minimum(a2 * (1.0 + 0.75 / n + 2.25 / (n * n)), _FARTHEST)
    return np.asarray(
        np.select(
            [np.isnan(a), a >= 0.6, a >= 0.34, a >= 0.2],
            [
                np.full_like(a, np.nan),
                np.exp(1.2937 - 5.709 * a + 0.0186 * a * a),
                np.exp(0.9177 - 4.279 * a - 1.38 * a * a),
                -np.expm1(-8.318 + 42.796 * a - 59.938 * a * a),
            ],
            -np.expm1(-13.436 + 101.14 * a - 223.73 * a * a),
        ),
        dtype=np.float64,
    )


def p_of_weibull(a2: Floats, n: Floats) -> Floats:
    """p-value of A^2 about a Weibull distribution with shape and scale estimated (MIL-HDBK-17-1F, 8.3.4.2.2).

    1 / (1 + exp(-0.1 + 1.24 ln A* + 4.48 A*)) with A* = (1 + 0.2 / sqrt(n)) A^2.

    >>> p_of_weibull(np.array([0.757]), np.array([1e12])).round(2).tolist()
    [0.05]
    """
    a = a2 * (1.0 + 0.2 / np.sqrt(n))
    return np.asarray(special.expit(0.1 - 1.24 * np.log(a) - 4.48 * a), dtype=np.float64)


def p_of_gamma(a2: Floats, shape: Floats) -> Floats:
    """Asymptotic p-value of A^2 about a gamma distribution with shape and scale estimated by maximum likelihood.

    The weights are eigenvalues of the limiting covariance on a grid of 96 nodes: right to 0.001 at the published
    critical values. NaN stays NaN.

    >>> p_of_gamma(np.array([0.786, 0.752]), np.array([1.0, 1e6])).round(2).tolist()
    [0.05, 0.05]
    """
    p = np.full(len(a2), np.nan)
    known = np.flatnonzero(np.isfinite(a2) & (shape > 0))
    for first in range(0, len(known), _CHARTS_AT_ONCE):
        chosen = known[first : first + _CHARTS_AT_ONCE]
        p[chosen] = _tail(_gamma_weights(np.minimum(shape[chosen], _LARGEST_SHAPE)), a2[chosen])
    return p


def _gamma_weights(shape: Floats) -> Floats:
    """Weights of the chi-squares in the limit of A^2, one row per shape."""
    # nodes crowd at both ends, where the statistic weighs most: u = (1 - cos t) / 2 makes du / (u (1 - u)) smooth
    node = (np.arange(_POINTS) + 0.5) / _POINTS
    angle = np.pi * node
    u = (1.0 - np.cos(angle)) / 2.0
    share = np.pi * np.sin(angle) / (2.0 * _POINTS) / (u * (1.0 - u))
    a = shape[:, None]
    x = special.gammaincinv(a, u)
    density = np.exp(special.xlogy(a, x) - x - special.gammaln(a))  # x f(x): the derivative by the log of scale
    step = 1e-5 * a
    slope = (special.gammainc(a + step, x) - special.gammainc(a - step, x)) / (2.0 * step)
    effects = np.stack([slope, -density], axis=2)
    information = np.empty((len(shape), 2, 2))
    information[:, 0, 0] = special.polygamma(1, shape)
    information[:, 0, 1] = information[:, 1, 0] = 1.0
    information[:, 1, 1] = shape
    lost = effects @ np.linalg.solve(information, np.swapaxes(effects, 1, 2))
    covariance = np.minimum.outer(u, u) - np.multiply.outer(u, u) - lost
    root = np.sqrt(share)
    weights = np.linalg.eigvalsh(covariance * root[:, None] * root[None, :])
    return np.maximum(weights, 0.0)


def _tail(weights: Floats, x: Floats) -> Floats:
    """P(sum of weights times chi-square(1) > x) by Imhof, Biometrika 48 (1961) 419.

    Beyond ``_IMHOF_UP_TO``, where the integral is a small difference, the tail follows its largest weight.
    """
    node, weight = special.roots_legendre(400)
    # in v = sqrt(u) the integrand decays like exp(-c v) and is smooth at 0
    v = 14.0 * (node + 1.0)
    u = v * v
    near = np.minimum(x, _IMHOF_UP_TO)
    scaled = weights[:, None, :] * u[None, :, None]
    angle = 0.5 * np.arctan(scaled).sum(axis=2) - 0.5 * near[:, None] * u
    decay = np.exp(-0.25 * np.log1p(scaled * scaled).sum(axis=2))
    integral = (np.sin(angle) * decay * (28.0 * weight / v)).sum(axis=1)
    largest = weights.max(axis=1)
    beyond = special.chdtrc(1.0, x / largest) / special.chdtrc(1.0, near / largest)
    return np.asarray(np.clip(0.5 + integral / np.pi, 0.0, 1.0) * beyond, dtype=np.float64)
