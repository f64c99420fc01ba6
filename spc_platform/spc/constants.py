"""Control-chart constants, computed for any subgroup size.

Three-digit tables cost 0.05 % on the limits and stop at n = 25. Here d2 and d3 are integrals of the
distribution of the range of n standard normal values, c4 is its closed form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import gammaln, log_ndtr, ndtr

from spc_platform.errors import ContractError

Floats = npt.NDArray[np.float64]

SERIES_FROM_NU = 1e4
"""Above this the difference of two lgamma cancels; the series is exact to 4e-14 there and better beyond."""

_NODES = 400
_EDGE = 12.0


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Nodes x and w with their weights, and Phi(x + w) - Phi(x) on their product."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    x, w = _EDGE * node, _EDGE * (node + 1.0)
    upper, lower = x[None, :] + w[:, None], np.broadcast_to(x[None, :], (_NODES, _NODES))
    # the smaller tail of the two keeps its digits; Phi(b) - Phi(a) near 1 - 1 would lose all of them
    share = np.where(lower > 0, ndtr(-lower) - ndtr(-upper), ndtr(upper) - ndtr(lower))
    return x, _EDGE * weight, w, _EDGE * weight, np.log(np.maximum(share, np.finfo(float).tiny))


@lru_cache(maxsize=4096)
def _range_moments(n: int) -> tuple[float, float]:
    """Mean and standard deviation of the range of ``n`` standard normal values."""
    x, dx, w, dw, log_share = _grid()
    mean = float(np.sum(dx * (-np.expm1(n * log_ndtr(-x)) - np.exp(n * log_ndtr(x)))))
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    cumulative = n * np.sum(dx * density * np.exp((n - 1) * log_share), axis=1)
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


def _moments(n: npt.ArrayLike, which: int) -> Floats:
    sizes = _sizes(n)
    if np.any(sizes != np.floor(sizes)):
        raise ContractError("d2 and d3 are defined for whole subgroup sizes only; round the sizes or use c4")
    if not sizes.size:
        return sizes
    whole = sizes.astype(np.int64)
    present = np.flatnonzero(np.bincount(whole.ravel()))
    table = np.zeros(int(present[-1]) + 1)
    table[present] = [_range_moments(int(size))[which] for size in present]
    return np.asarray(table[whole], dtype=np.float64)


def d2(n: npt.ArrayLike) -> Floats:
    """Mean range of n standard normal values, E[R] = Int 1 - (1 - Phi)^n - Phi^n (Tippett 1925).

    ``n`` is an array of whole sizes of at least 2; a smaller size raises ``ContractError``.

    >>> round(float(d2(5)), 10)
    2.3259289473
    """
    return _moments(n, 0)


def d3(n: npt.ArrayLike) -> Floats:
    """Compute the standard deviation of the range of n standard normal values, from E[R^2] = 2 Int w (1 - F_R(w)) dw.

    >>> round(float(d3(5)), 10)
    0.8640819411
    """
    return _moments(n, 1)


def c4(n: npt.ArrayLike) -> Floats:
    """Mean of the sample standard deviation of n standard normal values.

    c4 = sqrt(2 / nu) Gamma(n / 2) / Gamma(nu / 2) with nu = n - 1; above nu = 1e4 its series
    1 - 1/(4 nu) + 1/(32 nu^2). ``n`` may be fractional; a size below 2 raises ``ContractError``.

    >>> round(float(c4(5)), 10), round(float(c4(1e9)), 12)
    (0.939985603, 0.99999999975)
    """
    sizes = _sizes(n)
    nu = sizes - 1.0
    small = np.minimum(nu, SERIES_FROM_NU)
    exact = np.sqrt(2.0 / small) * np.exp(gammaln((small + 1.0) / 2.0) - gammaln(small / 2.0))
    return np.asarray(np.where(nu > SERIES_FROM_NU, 1.0 - 1.0 / (4.0 * nu) + 1.0 / (32.0 * nu * nu), exact), dtype=np.float64)


def c5(n: npt.ArrayLike) -> Floats:
    """Compute the standard deviation of the sample standard deviation of n standard normal values, sqrt(1 - c4^2).

    >>> round(float(c5(2)), 10)
    0.602810275
    """
    sizes = _sizes(n)
    nu = sizes - 1.0
    # 1 - c4^2 cancels for large nu: its own series 1/(2 nu) - 1/(8 nu^2) - 1/(16 nu^3)
    series = 1.0 / (2.0 * nu) - 1.0 / (8.0 * nu * nu) - 1.0 / (16.0 * nu**3)
    return np.asarray(np.sqrt(np.where(nu > SERIES_FROM_NU, series, 1.0 - c4(sizes) ** 2)), dtype=np.float64)


CONSTANTS = {"d2": d2, "d3": d3, "c4": c4, "c5": c5}


def of_size(name: str, n: pl.Expr) -> pl.Expr:
    """Give the constant ``name`` (d2, d3, c4, c5) of each subgroup size; null where the size is below 2.

    >>> pl.select(of_size("d2", pl.lit(pl.Series([1, 2])))).to_series().round(6).to_list()
    [None, 1.128379]
    """

    def per_size(sizes: pl.Series) -> pl.Series:
        present = sizes.drop_nulls().unique().sort()
        present = present.filter(present >= 2)
        values = pl.Series(CONSTANTS[name](present.to_numpy()), dtype=pl.Float64)
        missing: dict[str, Any] = {"default": None, "return_dtype": pl.Float64}
        return sizes.replace_strict(present, values, **missing)

    return n.map_batches(per_size, return_dtype=pl.Float64)
