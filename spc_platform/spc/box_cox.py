"""Box-Cox transformation of positive values to normal ones, with the limits that judge them.

Box and Cox, J. Royal Statistical Society B 26 (1964) 211: w = (x^lambda - 1) / lambda, ln x for lambda 0. Two criteria:
``mle`` maximises the likelihood of all values (as scipy.stats.boxcox), ``pooled_sd`` minimises the standard deviation
within subgroups of the standardized transform (as Minitab); they differ when the means of the subgroups do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from spc_platform.errors import ContractError
from spc_platform.spc.distributions import checked
from spc_platform.spc.sequence import Floats, Ints, Spans

Criterion = Literal["mle", "pooled_sd"]
_WIDEST = 5.0
_HALVES = 2.0


@dataclass(frozen=True)
class BoxCox:
    """Power that makes the values most normal, with its profile-likelihood interval, and the power to use.

    ``rounded``: nearest half inside the interval, else the power itself. ``low`` and ``high`` are NaN where the interval
    leaves -5 to 5, the range that is searched.
    """

    power: float
    low: float
    high: float
    rounded: float
    criterion: Criterion
    confidence: float


def box_cox(x: npt.ArrayLike, power: float) -> Floats:
    """Transform positive values: (x^power - 1) / power, ln x for power 0; NaN for values that are not positive.

    >>> box_cox([1.0, 4.0], 0.5).tolist()
    [0.0, 2.0]
    """
    values = np.asarray(x, dtype=np.float64)
    return np.asarray(special.boxcox(np.where(values > 0, values, np.nan), power), dtype=np.float64)


def find_power(
    values: npt.ArrayLike, sizes: Ints | None = None, criterion: Criterion = "mle", confidence: float = 0.95
) -> BoxCox:
    """Power of the Box-Cox transformation with its confidence interval.

    ``values`` in their order; ``sizes``: of the subgroups in that order, for ``pooled_sd`` (required there, at least one
    above 1). The interval holds the powers whose profile log-likelihood lies within chi-square(1) / 2 of the largest; for
    pooled_sd with the degrees of freedom within subgroups in the place of n. Raises ``ContractError``: SPC-347 for a
    value that is not positive (names the row), SPC-349 when all values are equal, SPC-357 for subgroup sizes that do not
    match, SPC-358 when the best power lies outside -5 to 5.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    checked(data, "a Box-Cox transformation", positive=True)
    likelihood = _likelihood(data, sizes, criterion)
    grid = np.linspace(-_WIDEST, _WIDEST, 101)
    heights = np.array([likelihood(float(power)) for power in grid])
    best = int(np.argmax(heights))
    if best in (0, len(grid) - 1):
        raise ContractError(
            f"the best power of a Box-Cox transformation lies outside {-_WIDEST:g} to {_WIDEST:g} (values from {data.min():g} "
            f"to {data.max():g}); subtract an offset so that the values span more, or use the Johnson distribution",
            code="SPC-358",
        )
    slope = _slope(likelihood)
    power = _root(slope, float(grid[best - 1]), float(grid[best + 1]))
    enough = likelihood(power) - 0.5 * float(special.chdtri(1.0, 1.0 - confidence))
    low, high = (_end(likelihood, power, edge, enough) for edge in (-_WIDEST, _WIDEST))
    half = round(power * _HALVES) / _HALVES
    inside = (not low > half) and (not high < half)
    return BoxCox(power, low, high, half if inside else power, criterion, confidence)


def _likelihood(data: Floats, sizes: Ints | None, criterion: Criterion) -> Callable[[float], float]:
    """Profile log-likelihood of the power up to a constant; values are scaled by their geometric mean, as the power is."""
    logs = np.log(data)
    logs = logs - logs.mean()
    if criterion == "mle":
        freedom, spans = float(len(data)), Spans(np.array([0]), len(data))
    else:
        spans = _subgroups(len(data), sizes)
        freedom = float(len(data) - len(spans.starts))

    def of(power: float) -> float:
        # about the geometric mean the standardized transform needs no factor: its Jacobian is 1
        w = special.expm1(power * logs) / power if abs(power) > 1e-12 else logs
        centre = spans.expand(spans.total(w) / spans.sizes).astype(np.float64)
        return -0.5 * freedom * float(np.log(np.sum((w - centre) ** 2)))

    return of


def _subgroups(n: int, sizes: Ints | None) -> Spans:
    if sizes is None or int(np.sum(sizes)) != n or int(np.min(sizes)) < 1 or len(sizes) == n:
        raise ContractError(
            f"criterion pooled_sd needs subgroups that hold the {n} values in order, at least one with 2 values; "
            "give their sizes, or use criterion mle",
            code="SPC-357",
        )
    return Spans(np.cumsum(sizes) - np.asarray(sizes, dtype=np.int64), n)


def _slope(likelihood: Callable[[float], float]) -> Callable[[float], float]:
    step = 1e-3

    def of(power: float) -> float:
        # five points: the error is of the order of step^4
        near = likelihood(power + step) - likelihood(power - step)
        far = likelihood(power + 2.0 * step) - likelihood(power - 2.0 * step)
        return (8.0 * near - far) / (12.0 * step)

    return of


def _root(slope: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(slope, low, high, xtol=1e-13))


def _end(likelihood: Callable[[float], float], power: float, edge: float, enough: float) -> float:
    """Where the likelihood falls to ``enough`` between the power and the edge; NaN when it does not."""
    if likelihood(edge) > enough:
        return float("nan")
    return float(optimize.brentq(lambda each: likelihood(each) - enough, min(power, edge), max(power, edge), xtol=1e-12))
