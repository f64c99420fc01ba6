"""Johnson's system of distributions: which family (SU, SB, SL) and which transformation make the values normal.

Slifker and Shapiro, Technometrics 22 (1980) 239: four quantiles at equal steps of a normal variate decide the family and
give the parameters. The step is searched over 0.25 to 1.25 for the smallest Anderson-Darling statistic, as Chou, Polansky
and Mason (1998) and Minitab's Johnson transformation do; the likelihood then polishes the parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, special

from spc_platform.errors import ContractError
from spc_platform.spc.goodness_of_fit import anderson_darling
from spc_platform.spc.sequence import Floats, Spans

Parameters = tuple[float, float, float, float]
FEWEST = 10
_AS_GOOD = 0.02
_KEPT_AWAY = 1e-4
_FAR = 50.0
_STEPS = np.round(np.arange(0.25, 1.2501, 0.01), 2)
_HALF_LOG_TAU = 0.5 * float(np.log(2.0 * np.pi))


def fit_johnson(data: Floats, *, polish: bool = True) -> tuple[str, Parameters]:
    """Family (su, sb, sl) and parameters gamma, delta, xi, lambda of ascending values.

    z = gamma + delta g((x - xi) / lambda) is about standard normal, with g = arsinh (SU), logit (SB), ln (SL, lambda
    1). ``polish`` false keeps the quantile estimates that Minitab reports. Raises ``ContractError`` SPC-355 with
    fewer than 10 values, and SPC-356 when no family holds all values.
    """
    if len(data) < FEWEST:
        raise ContractError(
            f"{len(data)} values do not determine the four parameters of a Johnson distribution; give at least {FEWEST}, "
            "or fit a distribution of two parameters",
            code="SPC-355",
        )
    candidates = _candidates(data)
    scored = [(_score(family, parameters, data), family, parameters) for family, parameters in candidates]
    finite = [each for each in scored if np.isfinite(each[0])]
    if not finite:
        raise ContractError(
            f"no Johnson distribution holds all {len(data)} values (too few different ones, or several groups); "
            "look at the histogram, and separate the streams or use the empirical percentiles",
            code="SPC-356",
        )
    least = min(each[0] for each in finite)
    # SL is the border of SU and SB: where it fits nearly as well, its fewer parameters describe the values
    simple = [each for each in finite if each[1] == "sl" and each[0] <= least + _AS_GOOD]
    _, family, parameters = min(simple or finite, key=lambda each: each[0])
    return family, _polished(family, parameters, data) if polish else parameters


def transform(family: str, parameters: Parameters, x: Floats) -> Floats:
    """Standard normal scores of the values; NaN outside the support of the family.

    ``family``: su, sb or sl; ``parameters``: gamma, delta, xi, lambda; ``x``: in the unit of xi and lambda. Source: Johnson,
    Biometrika 36 (1949) 149.
    """
    gamma, delta, xi, lam = parameters
    with np.errstate(invalid="ignore", divide="ignore"):
        y = (x - xi) / lam
        if family == "su":
            return np.asarray(gamma + delta * np.arcsinh(y), dtype=np.float64)
        inside = (y > 0) & (y < 1) if family == "sb" else y > 0
        shape = special.logit(y) if family == "sb" else np.log(y)
        return np.asarray(np.where(inside, gamma + delta * shape, np.nan), dtype=np.float64)


def _candidates(data: Floats) -> list[tuple[str, Parameters]]:
    """Families with parameters for every step, from the quantiles at -3z, -z, z, 3z (plotting position (i - 0.5) / n)."""
    shares = special.ndtr(np.multiply.outer(_STEPS, [-3.0, -1.0, 1.0, 3.0]))
    q = np.quantile(data, shares, method="hazen")
    n, p, m = q[:, 1] - q[:, 0], q[:, 2] - q[:, 1], q[:, 3] - q[:, 2]
    middle = 0.5 * (q[:, 1] + q[:, 2])
    with np.errstate(all="ignore"):
        ratio = m * n / (p * p)
        found = {"su": _su(m / p, n / p, p, middle), "sb": _sb(p / m, p / n, p, middle), "sl": _sl(m / p, p, middle)}
    allowed = {"su": ratio > 1.0, "sb": ratio < 1.0, "sl": m > p}
    rows = [(family, np.column_stack(np.broadcast_arrays(*columns))[allowed[family]]) for family, columns in found.items()]
    chosen = [(family, block[np.isfinite(block).all(axis=1) & (block[:, 1] > 0) & (block[:, 3] > 0)]) for family, block in rows]
    return [(family, (a, b, c, d)) for family, block in chosen for a, b, c, d in block.tolist()]


def _su(m: Floats, n: Floats, p: Floats, middle: Floats) -> tuple[Floats, ...]:
    delta = 2.0 * _STEPS / np.arccosh(0.5 * (m + n))
    gamma = delta * np.arcsinh((n - m) / (2.0 * np.sqrt(m * n - 1.0)))
    lam = 2.0 * p * np.sqrt(m * n - 1.0) / ((m + n - 2.0) * np.sqrt(m + n + 2.0))
    return gamma, delta, middle + p * (n - m) / (2.0 * (m + n - 2.0)), lam


def _sb(m: Floats, n: Floats, p: Floats, middle: Floats) -> tuple[Floats, ...]:
    product = (1.0 + m) * (1.0 + n)
    delta = _STEPS / np.arccosh(0.5 * np.sqrt(product))
    gamma = delta * np.arcsinh((n - m) * np.sqrt(product - 4.0) / (2.0 * (m * n - 1.0)))
    lam = p * np.sqrt((product - 2.0) ** 2 - 4.0) / (m * n - 1.0)
    return gamma, delta, middle - lam / 2.0 + p * (n - m) / (2.0 * (m * n - 1.0)), lam


def _sl(m: Floats, p: Floats, middle: Floats) -> tuple[Floats, ...]:
    delta = 2.0 * _STEPS / np.log(m)
    gamma = delta * np.log((m - 1.0) / (p * np.sqrt(m)))
    return gamma, delta, middle - p / 2.0 * (m + 1.0) / (m - 1.0), np.ones_like(m)


def _score(family: str, parameters: Parameters, data: Floats) -> float:
    z = transform(family, parameters, data)
    if not np.all(np.isfinite(z)):
        return float("inf")
    return float(anderson_darling(special.log_ndtr(z), special.log_ndtr(-z), Spans(np.array([0]), len(data)))[0])


def _log_likelihood(family: str, parameters: Parameters, data: Floats) -> float:
    _, delta, xi, lam = parameters
    z = transform(family, parameters, data)
    y = (data - xi) / lam
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = -0.5 * np.log1p(y * y) if family == "su" else -np.log(y)
        if family == "sb":
            slope = slope - np.log1p(-y)
    return float(np.sum(np.log(delta / lam) + slope - 0.5 * z * z - _HALF_LOG_TAU))


def _polished(family: str, start: Parameters, data: Floats) -> Parameters:
    """Parameters of a local maximum of the likelihood near the start; the start itself when there is none.

    The likelihood of SB and SL grows without bound as an edge of the support reaches a value, so only a converged maximum
    that keeps its distance from the values counts.
    """
    three = family == "sl"
    unit = float(data[-1] - data[0]) if three else start[3]
    scaled = (data - start[2]) / unit

    def parameters(free: Any) -> Parameters:
        lam = 1.0 if three else float(np.exp(free[3]))
        return float(free[0]), float(np.exp(free[1])), float(free[2]), lam

    def lost(free: Any) -> float:
        value = _log_likelihood(family, parameters(free), scaled)
        return -value if np.isfinite(value) else 1e300

    gamma = start[0] + start[1] * float(np.log(unit)) if three else start[0]
    first = np.array([gamma, np.log(start[1]), 0.0] if three else [gamma, np.log(start[1]), 0.0, 0.0])
    options: Any = {"xatol": 1e-11, "fatol": 1e-11, "maxiter": 8000, "maxfev": 8000, "adaptive": True}
    found = optimize.minimize(lost, first, method="Nelder-Mead", options=options)
    gamma, delta, xi, lam = parameters(found.x)
    gap = min(scaled[0] - xi, xi + lam - scaled[-1] if family == "sb" else np.inf) if family != "su" else np.inf
    if not found.success or found.fun > lost(first) or gap < _KEPT_AWAY * lam or np.abs(found.x).max() > _FAR:
        return start
    if three:
        return gamma - delta * float(np.log(unit)), delta, float(start[2] + unit * xi), 1.0
    return gamma, delta, float(start[2] + unit * xi), unit * lam
