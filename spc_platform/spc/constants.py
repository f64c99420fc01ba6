"""Control-chart constants, computed for any subgroup size.

Three-digit tables cost 0.05 % on the limits and stop at n = 25. Here d2, d3 and d4 follow from the distribution
of the range of n standard normal values by integrals, c4 from its closed form, the error of the median from the
distribution of the middle order statistics, and the constants of successive differences from the moment
generating function of their sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import brentq
from scipy.special import erf, gammaln, log_ndtr, ndtr, roots_legendre

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Floats, Ints, Spans

SERIES_FROM_NU = 30.0
"""Above this the difference of two lgamma cancels; the series is exact to 1e-16 there and better beyond."""

_LOG_C4 = (-1.0 / 4.0, 1.0 / 24.0, -1.0 / 20.0, 17.0 / 112.0, -31.0 / 36.0, 691.0 / 88.0)
"""log c4 in odd powers of 1 / nu, from Stirling's series of both gamma functions."""

_NODES = 400
_EDGE = 12.0


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats, Floats, Floats]:
    """Nodes x of the trapezoidal rule, nodes w of Gauss and Legendre with weights, log of Phi(x + w) - Phi(x)."""
    x = np.linspace(-_EDGE, _EDGE, 2 * _NODES + 1)
    node, weight = roots_legendre(_NODES)
    w = _EDGE * (node + 1.0)
    upper, lower = x[None, :] + w[:, None], np.broadcast_to(x[None, :], (_NODES, len(x)))
    # the smaller tail of the two keeps its digits; Phi(b) - Phi(a) near 1 - 1 would lose all of them
    share = np.where(lower > 0, ndtr(-lower) - ndtr(-upper), ndtr(upper) - ndtr(lower))
    # the computed weights sum to 2 but for 3e-14, which the square of the range would multiply
    return x, w, _EDGE * weight * (2.0 / np.sum(weight)), np.log(np.maximum(share, np.finfo(float).tiny))


@lru_cache(maxsize=4096)
def _range_moments(n: int) -> tuple[float, float]:
    """Mean and standard deviation of the range of ``n`` standard normal values."""
    x, w, dw, log_share = _grid()
    dx = _EDGE / _NODES
    mean = float(dx * np.sum(-np.expm1(n * log_ndtr(-x)) - np.exp(n * log_ndtr(x))))
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    cumulative = n * dx * np.sum(density * np.exp((n - 1) * log_share), axis=1)
    square = 2.0 * float(np.sum(dw * w * (1.0 - cumulative)))
    return mean, float(np.sqrt(square - mean * mean))


def _sizes(n: npt.ArrayLike) -> Floats:
    sizes = np.asarray(n, dtype=np.float64)
    bad = sizes[~(sizes >= 2)]
    if bad.size:
        raise ContractError(
            f"constants of dispersion need a subgroup size of at least 2, got {bad.flat[0]:g}: "
            "a single value has no range and no standard deviation; leave such subgroups out of the dispersion"
        )
    return sizes


def _per_size(constant: Callable[[int], float], sizes: Floats) -> Floats:
    """``constant`` of each size, computed once per distinct size."""
    if np.any(sizes != np.floor(sizes)):
        raise ContractError(
            "d2, d3, d4, the error of the median and c4_mssd are defined for whole sizes only, "
            f"got {sizes[sizes != np.floor(sizes)].flat[0]:g}; round the sizes or use c4"
        )
    if sizes.size and sizes.min() == sizes.max():
        return np.full(sizes.shape, constant(int(sizes.flat[0])))
    present, which = np.unique(sizes, return_inverse=True)
    values = np.array([constant(int(size)) for size in present], dtype=np.float64)
    return values[which].reshape(sizes.shape)


def d2(n: npt.ArrayLike) -> Floats:
    """Mean range of n standard normal values, E[R] = Int 1 - (1 - Phi)^n - Phi^n (Tippett 1925).

    ``n`` is an array of whole sizes of at least 2; a smaller size raises ``ContractError``.

    >>> round(float(d2(5)), 10)
    2.3259289473
    """
    return _per_size(lambda size: _range_moments(size)[0], _sizes(n))


def d3(n: npt.ArrayLike) -> Floats:
    """Compute the standard deviation of the range of n standard normal values, from E[R^2] = 2 Int w (1 - F_R(w)) dw.

    >>> round(float(d3(5)), 10)
    0.8640819411
    """
    return _per_size(lambda size: _range_moments(size)[1], _sizes(n))


def _log_c4(n: npt.ArrayLike) -> Floats:
    nu = _sizes(n) - 1.0
    small, large = np.minimum(nu, SERIES_FROM_NU), np.maximum(nu, SERIES_FROM_NU)
    exact = 0.5 * np.log(2.0 / small) + gammaln((small + 1.0) / 2.0) - gammaln(small / 2.0)
    series = np.polynomial.polynomial.polyval(1.0 / (large * large), _LOG_C4) / large
    return np.asarray(np.where(nu > SERIES_FROM_NU, series, exact), dtype=np.float64)


def c4(n: npt.ArrayLike) -> Floats:
    """Mean of the sample standard deviation of n standard normal values.

    c4 = sqrt(2 / nu) Gamma(n / 2) / Gamma(nu / 2) with nu = n - 1; above nu = 30 its logarithm's series
    -1/(4 nu) + 1/(24 nu^3) - .... ``n`` may be fractional; a size below 2 raises ``ContractError``.

    >>> round(float(c4(5)), 10), round(float(c4(1e9)), 12)
    (0.939985603, 0.99999999975)
    """
    return np.asarray(np.exp(_log_c4(n)), dtype=np.float64)


def c5(n: npt.ArrayLike) -> Floats:
    """Compute the standard deviation of the sample standard deviation of n standard normal values, sqrt(1 - c4^2).

    From the logarithm of c4, so that nothing cancels for large n.

    >>> round(float(c5(2)), 10)
    0.602810275
    """
    return np.asarray(np.sqrt(-np.expm1(2.0 * _log_c4(n))), dtype=np.float64)


@lru_cache(maxsize=4096)
def _range_median(n: int) -> float:
    """Root of F_R(w) = 1/2 with F_R(w) = n Int phi(x) [Phi(x + w) - Phi(x)]^(n - 1) dx."""
    x = np.linspace(-_EDGE, _EDGE, 2 * _NODES + 1)
    density = np.exp(-0.5 * x * x) * (_EDGE / _NODES) / np.sqrt(2.0 * np.pi)
    below, above = ndtr(x), ndtr(-x)

    def excess(w: float) -> float:
        share = np.where(x > 0, above - ndtr(-(x + w)), ndtr(x + w) - below)
        log_share = np.log(np.maximum(share, np.finfo(float).tiny))
        return float(n * np.sum(density * np.exp((n - 1) * log_share)) - 0.5)

    return float(brentq(excess, 0.0, 2.0 * _EDGE, xtol=1e-14, rtol=8.9e-16))


def d4(n: npt.ArrayLike) -> Floats:
    """Median of the range of n standard normal values, the root of F_R(w) = 1/2 (Ferrell 1953; Minitab's d4).

    ``n`` is an array of whole sizes of at least 2; a smaller size raises ``ContractError``.

    >>> round(float(d4(2)), 10)
    0.9538725524
    """
    return _per_size(_range_median, _sizes(n))


def _log_twice_phi(x: Floats) -> Floats:
    """log(2 Phi(x)), to full digits where it is near 0 and is multiplied by a large n."""
    near = np.log1p(erf(np.clip(x, -1.0, 1.0) / np.sqrt(2.0)))
    return np.asarray(np.where(np.abs(x) < 1.0, near, log_ndtr(x) + np.log(2.0)), dtype=np.float64)


@lru_cache(maxsize=4096)
def _median_error(n: int) -> float:
    """Root of Int y^2 g / Int g with g the density of the median up to a factor, which cancels."""
    m = (n - 1) // 2
    # 4 Phi (1 - Phi) <= exp(-2 y^2 / pi): twelve of these widths hold the density to 1e-31
    edge = 12.0 * min(1.0, float(np.sqrt(np.pi / (4.0 * max(m, 1)))))
    y = np.linspace(-edge, edge, 2 * _NODES + 1)
    if n % 2:
        log_density = m * (_log_twice_phi(y) + _log_twice_phi(-y)) - 0.5 * y * y
        density = np.exp(log_density - np.max(log_density))
    else:
        # the two middle values are y - t and y + t; the hazard of their gap is at least 1.59 m for every y
        node, weight = roots_legendre(160)
        t = min(9.0, 30.0 / max(m, 1)) * 0.5 * (node + 1.0)
        low, high = y[None, :] - t[:, None], y[None, :] + t[:, None]
        log_density = m * (_log_twice_phi(low) + _log_twice_phi(-high)) - 0.5 * (low * low + high * high)
        density = weight @ np.exp(log_density - np.max(log_density))
    return float(np.sqrt(np.sum(y * y * density) / np.sum(density)))


def median_error(n: npt.ArrayLike) -> Floats:
    """Compute the standard deviation of the sample median of n standard normal values.

    For even n of the mean of the two middle values. From the exact density of the middle order statistics (David and
    Nagaraja, Order Statistics, 2.1 and 2.2). ``n`` is an array of whole sizes of at least 1.

    >>> [round(float(value), 4) for value in median_error([1, 2, 3, 5])]
    [1.0, 0.7071, 0.6698, 0.5356]
    """
    sizes = np.asarray(n, dtype=np.float64)
    return _per_size(_median_error, np.where(sizes == 1, 1.0, _sizes(np.where(sizes == 1, 2.0, sizes))))


_LOG_T = np.arange(-80.0, 80.0, 0.25)
"""Nodes of the trapezoidal rule in log t: what it leaves out is below 1e-17 (strip of half width pi / 2)."""


def c4_mssd(n: npt.ArrayLike) -> Floats:
    """Mean of the root of the mean square successive difference of n standard normal values, sqrt(MSSD).

    MSSD = sum of (x_(i+1) - x_i)^2 over 2 (n - 1); Minitab writes c4'(n). ``n`` is an array of whole sizes of at
    least 2, any length. Source: ``c4_mssd_of_segments`` with one segment.

    >>> round(float(c4_mssd(2)), 10)
    0.7978845608
    """
    return _per_size(_c4_mssd, _sizes(n))


@lru_cache(maxsize=4096)
def _c4_mssd(n: int) -> float:
    return float(c4_mssd_of_segments(np.array([n]), Spans(np.array([0]), 1))[0])


def c4_mssd_of_segments(lengths: Ints, spans: Spans) -> Floats:
    """``c4_mssd`` of differences pooled over several unbroken segments: sqrt(Q / (2 m)), m = sum of (length - 1).

    ``lengths``: values of each segment, at least 2; ``spans``: the segments of each group. One value per group.
    E sqrt(Q) = 1 / (2 sqrt(pi)) Int (1 - M(t)) t^(-3/2) dt, where M(t) = E exp(-t Q) is the product over the
    segments of det(I + 2 t D D')^(-1/2), and with s = sqrt(1 + 8 t) that determinant is
    [((s + 1) / 2)^(2 n) - ((s - 1) / 2)^(2 n)] / s (von Neumann 1941 for Q; Chebyshev's U for the determinant).
    """
    _sizes(lengths)
    of_span = np.repeat(np.arange(len(spans.starts)), spans.sizes)
    pairs = spans.total(lengths - 1)
    found = np.empty(len(pairs))
    many = 1 << 12
    for low in range(0, len(pairs), many):
        chosen = slice(int(spans.starts[low]), int(spans.starts[low + many]) if low + many < len(pairs) else spans.rows)
        local = of_span[chosen] - low
        log_m = np.zeros((int(local[-1]) + 1, len(_LOG_T)))
        np.add.at(log_m, local, _log_moment(lengths[chosen].astype(np.float64), pairs[of_span[chosen]]))
        weight = np.exp(-0.5 * _LOG_T) * (_LOG_T[1] - _LOG_T[0]) / (2.0 * np.sqrt(np.pi))
        # not a product of matrices: its last digit would depend on how many groups there are
        found[low : low + many] = np.sum(-np.expm1(log_m) * weight, axis=1)
    return found


def _log_moment(n: Floats, pairs: Floats) -> Floats:
    """Log of E exp(-t Q / (2 pairs)) of a segment of ``n`` values, at the nodes of log t."""
    t8 = 8.0 * np.exp(_LOG_T)[None, :] / (2.0 * pairs[:, None])
    s = np.sqrt(1.0 + t8)
    above_one = t8 / (1.0 + s)
    # log of (s - 1) / (s + 1), whose first form keeps its digits near s = 1 and the second at large s
    log_ratio = np.where(s < 2.0, np.log(above_one) - np.log1p(s), np.log1p(np.maximum(-2.0 / (1.0 + s), -0.9)))
    smaller = np.log(-np.expm1(2.0 * n[:, None] * log_ratio))
    log_det = 2.0 * n[:, None] * np.log1p(0.5 * above_one) - np.log1p(above_one) + smaller
    return np.asarray(-0.5 * log_det, dtype=np.float64)


def d2_star(n: npt.ArrayLike, g: npt.ArrayLike) -> Floats:
    """d2* of the mean of g ranges of n values: sqrt(d2^2 + d3^2 / g), the root mean square of that mean.

    Source: Duncan, Quality Control and Industrial Statistics, and AIAG, Measurement Systems Analysis, appendix C,
    whose table agrees to one unit of its fifth digit.

    >>> round(float(d2_star(2, 1)), 4), round(float(d2_star(3, 1)), 4)
    (1.4142, 1.9115)
    """
    return np.asarray(np.sqrt(d2(n) ** 2 + d3(n) ** 2 / _groups(g)), dtype=np.float64)


def nu_range(n: npt.ArrayLike, g: npt.ArrayLike) -> Floats:
    """Compute the degrees of freedom of the mean of g ranges of n values, as of a standard deviation.

    The nu whose chi has the coefficient of variation of that mean: c4(nu + 1) = d2 / d2*. By the first two moments
    (Patnaik 1950, as in Duncan and in AIAG's table, which rounds to one digit); 1 for n = 2, g = 1, which is exact.

    >>> round(float(nu_range(2, 1)), 10), round(float(nu_range(5, 1)), 1)
    (1.0, 3.8)
    """
    ranges, groups = np.broadcast_arrays(_sizes(n), _groups(g))
    pairs, which = np.unique(np.stack([ranges.ravel(), groups.ravel()]), axis=1, return_inverse=True)
    values = np.array([_nu_range(int(size), float(many)) for size, many in pairs.T])
    return np.asarray(values[which.ravel()].reshape(ranges.shape), dtype=np.float64)


@lru_cache(maxsize=4096)
def _nu_range(n: int, g: float) -> float:
    mean, sd = _range_moments(n)
    target = (sd / mean) ** 2 / g

    def excess(log_nu: float) -> float:
        size = np.exp(log_nu) + 1.0
        return float(np.log((c5(size) / c4(size)) ** 2 / target))

    # c5^2 / c4^2 is 1 / (2 nu) to first order, and pi / 2 - 1 at nu = 1, the smallest
    if excess(0.0) <= 0.0:
        return 1.0
    return float(np.exp(brentq(excess, 0.0, np.log(2.0 / target + 2.0), xtol=1e-15, rtol=8.9e-16)))


def _groups(g: npt.ArrayLike) -> Floats:
    groups = np.asarray(g, dtype=np.float64)
    if groups.size and not bool(np.all(groups >= 1)):
        raise ContractError(
            f"d2* is of the mean of at least one range, got g = {groups[~(groups >= 1)].flat[0]:g}; "
            "give the number of ranges that were averaged",
            code="SPC-311",
        )
    return groups


def factors(n: npt.ArrayLike, k: float = 3.0) -> pl.DataFrame:
    """Table of the factors of control charts: one row per size, in units of the named statistic.

    A, A2, A3: limits of means from sigma, R-bar, S-bar; B3, B4 and B5, B6: of s from S-bar and from sigma; D1, D2
    and D3, D4: of R from sigma and from R-bar; E2, E3: of individuals from R-bar and S-bar; A6: of medians from
    R-bar; with d2, d3, d4, c4, c5 and median_error. Lower factors are 0 where k standard errors reach below it.
    ``k``: width in standard errors. Source: Montgomery, Introduction to Statistical Quality Control, appendix VI
    (three digits); here exact.

    >>> factors(5).select(pl.col("A2", "A3", "B3", "B4", "D3", "D4", "E2").round(4)).row(0)
    (0.5768, 1.4273, 0.0, 2.089, 0.0, 2.1145, 1.2898)
    """
    sizes = np.atleast_1d(_sizes(n))
    ranges, spread, centre, error = d2(sizes), d3(sizes), c4(sizes), c5(sizes)
    middle = median_error(sizes)
    root = np.sqrt(sizes)
    columns = {
        "n": sizes.astype(np.int64),
        "d2": ranges,
        "d3": spread,
        "d4": d4(sizes),
        "c4": centre,
        "c5": error,
        "median_error": middle,
        "A": k / root,
        "A2": k / (ranges * root),
        "A3": k / (centre * root),
        "A6": k * middle / ranges,
        "B3": np.maximum(1.0 - k * error / centre, 0.0),
        "B4": 1.0 + k * error / centre,
        "B5": np.maximum(centre - k * error, 0.0),
        "B6": centre + k * error,
        "D1": np.maximum(ranges - k * spread, 0.0),
        "D2": ranges + k * spread,
        "D3": np.maximum(1.0 - k * spread / ranges, 0.0),
        "D4": 1.0 + k * spread / ranges,
        "E2": k / ranges,
        "E3": k / centre,
    }
    return pl.DataFrame(columns)
