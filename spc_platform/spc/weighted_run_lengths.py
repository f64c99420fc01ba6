"""Average run lengths of EWMA, CUSUM and MEWMA on independent normal points, and the limits that meet a wanted one.

Each run length solves a Fredholm integral equation of the second kind in the plotted statistic, here by Gauss-Legendre
nodes (Nystroem), which are exact to more digits than any table shows. Shifts are in standard errors of a plotted mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, ive, ndtr, roots_legendre

from spc_platform.errors import ContractError
from spc_platform.spc.run_lengths import simulated_waits
from spc_platform.spc.sequence import Flags, Floats

_LONGEST = 1e8
_WIDEST = 20.0


def ewma_run_length(weight: float, k: float, shift: float = 0.0, *, asymptotic: bool = False) -> float:
    """Average run length of an EWMA from its start at mu, with limits that widen with time or, ``asymptotic``, fixed ones.

    ``weight``: of the newest mean, above 0 and up to 1; ``k``: width in standard errors of the EWMA. Crowder, Technometrics
    29 (1987) 401 for fixed limits (weight 0.1 and k 2.814 give 500, Lucas and Saccucci 1990); moving limits by the
    density of the EWMA among the charts that have not signalled. Raises ``ContractError`` SPC-317.

    >>> round(ewma_run_length(1.0, 3.0), 4), round(ewma_run_length(0.1, 2.814, asymptotic=True), 1)
    (370.3983, 499.6)
    """
    _check("weight", weight, 0.0, 1.0)
    _check("k", k)
    edge = k * np.sqrt(weight / (2.0 - weight))
    node, share = _nodes(2.0 * edge / weight)

    def density(to: Floats, by: Floats) -> Floats:
        """Of the next EWMA ``to``, from ``by``: rows by, columns to."""
        return _normal((to[None, :] - (1.0 - weight) * by[:, None]) / weight - shift) / weight

    z, dz = edge * node, edge * share
    steady = np.linalg.solve(np.eye(len(z)) - density(z, z) * dz, np.ones(len(z)))
    if asymptotic or weight == 1.0:
        return float(1.0 + density(z, np.zeros(1))[0] @ (dz * steady))
    length, alive = 1.0, np.ones(1)
    at = np.zeros(1)
    # the limits are the fixed ones once (1 - w)^(2 i) is below a digit
    for i in range(1, int(np.ceil(-18.0 / np.log1p(-weight))) + 1):
        now = edge * np.sqrt(-np.expm1(2.0 * i * np.log1p(-weight)))
        alive = (alive @ density(now * node, at)) * (now * share)
        at = now * node
        length += float(alive.sum())
        if alive.sum() < 1e-14:
            return length
    return length + float(alive @ (density(z, at) @ (dz * steady)))


def cusum_run_length(
    reference: float, decision: float, shift: float = 0.0, head_start: float = 0.0, *, one_sided: bool = False
) -> float:
    """Average run length of a tabular CUSUM with both sides, or of its upper side alone (``one_sided``).

    ``reference`` k, ``decision`` h in standard errors; ``head_start``: fraction of h from which both sums start. One side by
    the integral equation of Page (1954) and Goel and Wu (1971); both by Lucas and Crosier, Technometrics 24 (1982) 199,
    exact because a side that signals finds the other at zero. Raises ``ContractError`` SPC-317.

    >>> round(cusum_run_length(0.5, 5.0), 1), round(cusum_run_length(0.5, 5.0, 1.0), 2)
    (465.4, 10.38)
    """
    _check("reference", reference, -1e-300)
    _check("decision", decision)
    _check("head_start", head_start, -1e-300, 1.0)
    zero, start = _one_side(reference, decision, shift, head_start * decision)
    if one_sided:
        return start
    zero_below, start_below = _one_side(reference, decision, -shift, head_start * decision)
    return (start * zero_below + start_below * zero - zero * zero_below) / (zero + zero_below)


def _one_side(reference: float, decision: float, shift: float, start: float) -> tuple[float, float]:
    """Run length of the upper sum from zero, and from ``start``."""
    node, share = _nodes(decision)
    y, dy = decision * (node + 1.0) / 2.0, decision * share / 2.0
    at = np.concatenate(([0.0, start], y))
    step = _normal(y[None, :] + reference - shift - at[:, None]) * dy
    back = ndtr(reference - shift - at)
    # unknown: L(0) and L at the nodes; the row of the start is only read off
    matrix = np.concatenate((back[:, None], step), axis=1)
    rows = np.delete(matrix, 1, axis=0)
    lengths = np.linalg.solve(np.eye(len(rows)) - rows, np.ones(len(rows)))
    return float(lengths[0]), float(1.0 + matrix[1] @ lengths)


def mewma_run_length(p: int, weight: float, limit: float, shift: float = 0.0) -> float:
    """Average run length of a MEWMA of ``p`` variables with T2 = (2-w)/w |z|^2 against ``limit``, from its start at mu.

    ``shift``: Mahalanobis distance of the mean in standard errors, whatever its direction. In control the distance of the
    EWMA from mu is a Markov process of one dimension, out of control of two: along the shift, and across it. Runger and
    Prabhu, Annals of Operations Research 67 (1996); integral equation of Rigdon (1995). Fixed (asymptotic) limits.

    >>> round(mewma_run_length(2, 0.1, 8.6336), 1)
    200.0
    """
    if p != int(p) or p < 1:
        raise ContractError(f"p is {p}; a MEWMA has a whole number of variables, at least 1", code="SPC-317")
    _check("weight", weight, 0.0, 1.0)
    _check("limit", limit)
    edge = float(np.sqrt(limit * weight / (2.0 - weight)))
    if p == 1:
        return ewma_run_length(weight, float(np.sqrt(limit)), shift, asymptotic=True)
    if shift == 0.0:
        node, share = _nodes(edge / weight)
        r, dr = edge * (node + 1.0) / 2.0, edge * share / 2.0
        kernel = _distance(r / weight, (1.0 - weight) / weight * r, p) / weight * dr
        lengths = np.linalg.solve(np.eye(len(r)) - kernel, np.ones(len(r)))
        return float(1.0 + (_distance(r / weight, np.zeros(1), p)[0] / weight * dr) @ lengths)
    # half a disc of points: along the shift -edge .. edge, across it 0 .. what the limit leaves
    if edge / weight > _WIDEST:
        raise ContractError(
            f"weight {weight:g} is too small for the run length of a MEWMA after a shift; use a larger weight, or shift 0",
            code="SPC-317",
        )
    # as many nodes as 9 digits take; in the angle, so that the edge of the disc is smooth
    node, share = _legendre(int(20 + 5.0 * edge / weight))
    room_node, room_share = _legendre(int(12 + 1.8 * edge / weight))
    angle = np.pi / 2.0 * node
    along, room = (np.repeat(edge * part, len(room_node)) for part in (np.sin(angle), np.cos(angle)))
    across = room * np.tile((room_node + 1.0) / 2.0, len(node))
    area = np.repeat(np.pi / 2.0 * share, len(room_node)) * room * room * np.tile(room_share / 2.0, len(node))

    def kernel_from(x: Floats, y: Floats) -> Floats:
        step = _normal((along[None, :] - (1.0 - weight) * x[:, None]) / weight - shift) / weight
        return step * _distance(across / weight, (1.0 - weight) / weight * y, p - 1) / weight * area

    lengths = np.linalg.solve(np.eye(len(area)) - kernel_from(along, across), np.ones(len(area)))
    return float(1.0 + kernel_from(np.zeros(1), np.zeros(1))[0] @ lengths)


def moving_average_run_length(
    span: int, k: float, shift: float = 0.0, replications: int = 20_000, seed: int = 1
) -> tuple[float, float]:
    """Average run length of a moving average of ``span`` means and its standard error, by seeded simulation.

    Its points overlap, so the run length solves no equation of low dimension. Raises ``ContractError`` SPC-317.
    """
    if span != int(span) or span < 1 or replications < 2:
        raise ContractError(f"span {span}, {replications} replications; give whole numbers from 1 and from 2", code="SPC-317")
    _check("k", k)

    def signals(z: Floats) -> Flags:
        window = np.minimum(np.arange(z.shape[1]) + 1, span)
        total = z.copy()
        for lag in range(1, span):
            total[:, lag:] += z[:, :-lag]
        return np.asarray(np.abs(total) > k * np.sqrt(window))

    return simulated_waits(signals, span - 1, replications, seed, shift)


@lru_cache(maxsize=1024)
def ewma_limit(weight: float, arl0: float, *, asymptotic: bool = False) -> float:
    """Width k in standard errors at which an EWMA of that ``weight`` has the in-control run length ``arl0`` (points).

    ``asymptotic``: limits of the final variance from the first point on. The root of ``ewma_run_length``; ``ContractError``
    SPC-317 where no width gives it.

    >>> round(ewma_limit(0.1, 500.0, asymptotic=True), 3)
    2.814
    """
    return _solve(lambda k: ewma_run_length(weight, k, asymptotic=asymptotic), arl0, 0.2, 7.0)


@lru_cache(maxsize=1024)
def cusum_decision(reference: float, arl0: float) -> float:
    """Decision interval h in standard errors at which a two-sided CUSUM has the in-control run length ``arl0``.

    >>> round(cusum_decision(0.5, 370.0), 3)
    4.774
    """
    return _solve(lambda h: cusum_run_length(reference, h), arl0, 0.05, 30.0)


@lru_cache(maxsize=1024)
def mewma_limit(p: int, weight: float, arl0: float) -> float:
    """Limit of T2 at which a MEWMA of ``p`` variables has the in-control run length ``arl0`` (points).

    The root of ``mewma_run_length``; ``ContractError`` SPC-317 where no limit gives it.

    >>> round(mewma_limit(2, 0.1, 200.0), 4)
    8.6336
    """
    return _solve(lambda limit: mewma_run_length(p, weight, limit), arl0, 0.05 * p, 60.0 + 4.0 * p)


def mewma_limit_at_width(p: int, weight: float, k: float) -> float:
    """Limit of a MEWMA with the in-control run length of two-sided limits ``k`` standard errors wide, 1 / (2 Phi(-k)).

    >>> mewma_limit_at_width(2, 0.1, 3.0) == mewma_limit(2, 0.1, 0.5 / float(ndtr(-3.0)))
    True
    """
    return mewma_limit(p, weight, 0.5 / float(ndtr(-k)))


def _solve(run_length: Callable[[float], float], arl0: float, low: float, high: float) -> float:
    """The limit of a run length; its logarithm is nearly linear in the limit."""
    _check("arl0", arl0, 1.0, _LONGEST)
    while run_length(low) > arl0:
        low /= 4.0
        if low < 1e-6:
            raise ContractError(f"no limit gives an in-control run length of {arl0:g}; ask for a longer one", code="SPC-317")
    # widen step by step: far beyond the wanted run length the equations lose their digits
    top = low
    while run_length(top) < arl0:
        if top >= high:
            raise ContractError(f"no limit up to {high:g} gives the run length {arl0:g}; ask for a shorter one", code="SPC-317")
        low, top = top, min(top * 1.5, high)
    return float(brentq(lambda limit: np.log(run_length(limit) / arl0), low, top, xtol=1e-12, rtol=1e-13))


def _check(name: str, value: float, low: float = 0.0, high: float = np.inf) -> None:
    if not (low < value <= high and np.isfinite(value)):
        bound = f" and at most {high:g}" if np.isfinite(high) else ""
        raise ContractError(f"{name} is {value:g}; it must be above {max(low, 0.0):g}{bound}, correct it", code="SPC-317")


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[Floats, Floats]:
    node, weight = roots_legendre(count)
    return node, weight


def _nodes(widths: float) -> tuple[Floats, Floats]:
    """Nodes on -1 to 1 for a range as wide as ``widths`` standard deviations of the kernel."""
    return _legendre(int(min(40 + 6 * np.ceil(widths), 1500)))


def _normal(x: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi))


def _distance(to: Floats, by: Floats, p: int) -> Floats:
    """Density of the length ``to`` of a normal vector of ``p`` dimensions with unit covariance and a mean of length ``by``."""
    x, centre = to[None, :], by[:, None]
    order = p / 2.0 - 1.0
    product = x * centre
    # I(v) / v^order tends to 1 / (2^order Gamma(p / 2)) at a centred normal
    small = product < 1e-8
    safe = np.where(small, 1.0, product)
    scaled = np.where(small, np.exp(-order * np.log(2.0) - gammaln(p / 2.0)), ive(order, safe) / safe**order)
    tilt = np.where(small, -0.5 * (x * x + centre * centre), -0.5 * (x - centre) ** 2)
    return np.asarray(x ** (p - 1) * scaled * np.exp(tilt))
