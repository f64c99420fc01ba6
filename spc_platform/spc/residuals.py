"""Residuals of autocorrelated streams: what is left of each point once its own past has predicted it.

On a stream with memory the limits of an ordinary chart are wrong (autocorrelation 0.9 at lag 1: every third point alarms).
One-step errors of a model are independent, so the ordinary chart fits them. Two models: autoregression of each chart's
own order, and the EWMA as a one-step forecast (Montgomery and Mastrangelo, Journal of Quality Technology 23, 1991).
A segment knows nothing of the one before it: its first points have no residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.diagnostics import Members
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

CRITERIA: dict[str, Callable[[Floats, int], Floats]] = {
    "aic": lambda n, terms: np.full_like(n, 2.0 * terms),
    "bic": lambda n, terms: np.log(np.maximum(n, 1.0)) * terms,
}
"""Penalty of ``terms`` coefficients on n points, added to n ln(RSS / n) (Akaike 1974; Schwarz 1978)."""

_GRID = np.linspace(0.02, 1.0, 50)
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_NARROWINGS = 30


@dataclass(frozen=True)
class Autoregression:
    """AR(p) of each chart: x_t - mean = sum_j coefficients[:, j - 1] (x_(t-j) - mean) + error.

    ``order`` per chart (-1: not enough points, no model); ``coefficients`` is charts x largest order, 0 beyond a chart's
    order; ``sigma`` is the root of RSS / (n - p - 1); ``n`` the points that entered; ``stationary``: whether shocks die out.
    """

    order: Ints
    mean: Floats
    coefficients: Floats
    sigma: Floats
    n: Ints
    stationary: Flags

    def frame(self) -> pl.DataFrame:
        """One row per chart: order, mean, coefficients (list), sigma, n, stationary; null where there is no model."""
        fitted = pl.Series(self.order >= 0)
        frame = pl.DataFrame(
            {
                "order": self.order,
                "mean": self.mean,
                "coefficients": self.coefficients.tolist(),
                "sigma": self.sigma,
                "n": self.n,
                "stationary": self.stationary,
            },
            schema_overrides={"coefficients": pl.List(pl.Float64)},
        )
        named = ("order", "mean", "sigma", "stationary")
        frame = frame.with_columns(pl.when(fitted).then(pl.col(name)).alias(name) for name in named)
        return frame.with_columns(
            pl.col("mean", "sigma").fill_nan(None), pl.when(fitted).then(pl.col("coefficients").list.head("order"))
        )


def _members(value: Floats, is_first: Flags, spans: Spans) -> Members:
    if not len(value) == len(is_first) == spans.rows:
        raise ContractError(
            f"{len(value)} values, {len(is_first)} segment flags and spans over {spans.rows} rows do not fit; pass one each",
            code="SPC-371",
        )
    if np.isinf(value).any():
        row = int(np.flatnonzero(np.isinf(value))[0])
        raise ContractError(f"value, row {row}, is infinite; correct it or pass NaN for not observed", code="SPC-370")
    return Members(np.repeat(np.arange(len(spans.starts)), spans.sizes), len(spans.starts))


def _first(is_first: Flags, spans: Spans) -> Flags:
    first = is_first.copy()
    first[spans.starts] = True
    return first


def _lagged(value: Floats, segment: Ints, lag: int) -> Floats:
    """The value ``lag`` points before, NaN where that lies outside the segment."""
    before = np.full_like(value, np.nan)
    if lag < len(value):
        before[lag:] = np.where(segment[lag:] == segment[:-lag], value[:-lag], np.nan) if lag else value
    return before


def fit_autoregression(
    value: Floats,
    is_first: Flags,
    spans: Spans,
    *,
    order: int | None = None,
    largest: int = 3,
    criterion: str = "bic",
    included: Flags | None = None,
) -> Autoregression:
    """AR(p) of every chart by conditional least squares within segments, all charts in one batched solve.

    ``value``: one per point in time order, NaN where nothing was observed (it then predicts nothing); ``spans``: charts;
    ``order``: of every chart, or None to choose each chart's from 0 to ``largest`` by ``criterion`` (aic, bic) on the points
    that have ``largest`` predecessors. ``included`` (default: all): the points to be fitted, e.g. a baseline. A chart with
    fewer than 3 (p + 1) usable points or without variation has order -1 and no figures. Raises ``ContractError`` SPC-374
    for an impossible order or an unknown criterion, SPC-370 and SPC-371 as ``chart_fitness``. Source: Box and Jenkins, 7.
    """
    top = largest if order is None else order
    if criterion not in CRITERIA or top < 0 or top > 20:
        known = ", ".join(CRITERIA)
        raise ContractError(f"order {top} by {criterion!r}: use orders 0 to 20 and one of {known}", code="SPC-374")
    members = _members(value, is_first, spans)
    if not spans.rows:
        none = np.zeros(0)
        return Autoregression(none.astype(np.int64), none, none.reshape(0, top), none, none.astype(np.int64), none > 0)
    segment = np.cumsum(_first(is_first, spans), dtype=np.int64)
    fitted = np.isfinite(value) & (included if included is not None else True)
    centre, scale = _standard(value, fitted, members)
    z = (value - centre[members.chart]) / scale[members.chart]
    lags = [_lagged(z, segment, lag) for lag in range(top + 1)]
    chosen = np.full(members.charts, top, dtype=np.int64)
    if order is None:
        chosen = _chosen_order(lags, fitted, members, top, criterion)
    result = Autoregression(
        np.full(members.charts, -1, dtype=np.int64),
        np.full(members.charts, np.nan),
        np.zeros((members.charts, top)),
        np.full(members.charts, np.nan),
        np.zeros(members.charts, dtype=np.int64),
        np.zeros(members.charts, dtype=np.bool_),
    )
    for p in np.unique(chosen[chosen >= 0]):
        of = np.flatnonzero(chosen == p)
        solution, rss, n = _solve(lags, fitted, members, int(p), int(p))
        ok = of[np.isfinite(rss[of])]
        phi = solution[ok, 1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            level = solution[ok, 0] / (1.0 - phi.sum(axis=1))
        result.order[ok], result.n[ok] = p, n[ok]
        result.coefficients[ok, : int(p)] = phi
        result.mean[ok] = centre[ok] + scale[ok] * level
        result.sigma[ok] = scale[ok] * np.sqrt(rss[ok] / (n[ok] - p - 1.0))
        result.stationary[ok] = _stationary(phi)
    return result


def _standard(value: Floats, fitted: Flags, members: Members) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the fitted points: the normal equations are solved in these units."""
    kept = members.kept(fitted)
    deviation, centre = kept.centred(value[fitted])
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(kept.total(deviation**2) / kept.sizes())
    return centre, np.where(scale > 0, scale, np.nan)


def _solve(lags: list[Floats], fitted: Flags, members: Members, p: int, needed: int) -> tuple[Floats, Floats, Ints]:
    """Intercept and coefficients, RSS and n of AR(p) on the points that have ``needed`` predecessors."""
    rows = fitted & np.isfinite(np.sum(lags[: needed + 1], axis=0))
    of = members.kept(rows)
    columns = [np.ones(int(rows.sum())), *(lag[rows] for lag in lags[1 : p + 1])]
    target = lags[0][rows]
    n = of.sizes()
    gram = np.empty((members.charts, p + 1, p + 1))
    right = np.empty((members.charts, p + 1))
    for i, left in enumerate(columns):
        right[:, i] = of.total(left * target)
        for j in range(i + 1):
            gram[:, i, j] = gram[:, j, i] = of.total(left * columns[j])
    size = np.maximum(n, 1)[:, None, None]
    usable = (n >= 3 * (p + 1)) & (np.linalg.eigvalsh(gram / size)[:, 0] > 1e-10)
    solution = np.full((members.charts, p + 1), np.nan)
    solution[usable] = np.linalg.solve(gram[usable], right[usable][:, :, None])[:, :, 0]
    prediction = np.sum([solution[of.chart, i] * column for i, column in enumerate(columns)], axis=0)
    rss = np.where(usable, of.total(np.where(np.isfinite(prediction), target - prediction, 0.0) ** 2), np.nan)
    return solution, rss, n


def _chosen_order(lags: list[Floats], fitted: Flags, members: Members, largest: int, criterion: str) -> Ints:
    scores = []
    for p in range(largest + 1):
        _, rss, n = _solve(lags, fitted, members, p, largest)
        size = n.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores.append(size * np.log(rss / size) + CRITERIA[criterion](size, p + 1))
    table = np.stack(scores)
    # fewer points than the largest order asks for: a mean is all that can be said, if even that
    return np.where(np.isfinite(table).any(axis=0), np.argmin(np.where(np.isfinite(table), table, np.inf), axis=0), 0)


def _stationary(phi: Floats) -> Flags:
    charts, p = phi.shape
    if not p or not charts:
        return np.ones(charts, dtype=np.bool_)
    companion = np.zeros((charts, p, p))
    companion[:, 0, :] = phi
    companion[:, np.arange(1, p), np.arange(p - 1)] = 1.0
    return np.asarray(np.abs(np.linalg.eigvals(companion)).max(axis=1) < 1.0, dtype=np.bool_)


def autoregression_residuals(value: Floats, is_first: Flags, spans: Spans, model: Autoregression) -> Floats:
    """One-step errors of each point under ``model``; NaN (never 0) where a predecessor or the model is missing.

    ``value``, ``is_first``, ``spans`` as for ``fit_autoregression``; in the unit of the values. Values with a large common
    offset lose digits to the model's mean: take the offset off first (``spc.residual_study`` does).
    """
    members = _members(value, is_first, spans)
    segment = np.cumsum(_first(is_first, spans), dtype=np.int64)
    order = model.order[members.chart]
    deviation = value - model.mean[members.chart]
    residual = np.where(order >= 0, deviation, np.nan)
    for lag in range(1, model.coefficients.shape[1] + 1):
        part = model.coefficients[members.chart, lag - 1] * _lagged(deviation, segment, lag)
        residual = residual - np.where(lag <= order, part, 0.0)
    return residual


def ewma_forecast(value: Floats, is_first: Flags, spans: Spans, weight: Floats) -> Floats:
    """EWMA of the points before each one: the one-step forecast, NaN on the first point of a segment.

    z_t = w x_t + (1 - w) z_(t-1), begun anew with the first observed value of a segment and after every NaN; ``weight`` per
    chart, above 0 and at most 1 (else ``ContractError`` SPC-374). All recursions run at once, by doubling the reach.

    >>> one = np.array([True, False, False, False])
    >>> ewma_forecast(np.array([4.0, 8.0, 8.0, 0.0]), one, Spans(np.array([0]), 4), np.array([0.5])).tolist()
    [nan, 4.0, 6.0, 7.0]
    """
    if len(weight) != len(spans.starts) or not np.all((weight[np.isfinite(weight)] > 0) & (weight[np.isfinite(weight)] <= 1)):
        raise ContractError(
            "the EWMA weight must be one per chart, above 0 and at most 1; pass None to have it chosen", code="SPC-374"
        )
    members = _members(value, is_first, spans)
    seen, first, segment = _runs(value, is_first, spans)
    return _forecast(value, seen, first, segment, weight[members.chart])


def _runs(value: Floats, is_first: Flags, spans: Spans) -> tuple[Flags, Flags, Ints]:
    """Observed points, those that begin a run without gaps, and the number of each point's run."""
    seen = np.isfinite(value)
    first = _first(is_first, spans) | ~seen | np.concatenate([[True], ~seen[:-1]])[: len(value)]
    return seen, first, np.cumsum(first, dtype=np.int64)


def _forecast(value: Floats, seen: Flags, first: Flags, run: Ints, weight: Floats) -> Floats:
    origin = np.where(seen, value, 0.0)[np.flatnonzero(first)][run - 1]
    # about the first value of the run: a large common offset costs no digits
    level = np.where(first | ~seen, 0.0, weight * (np.where(seen, value, 0.0) - origin))
    fade = np.where(first, 0.0, 1.0 - weight)
    fade = np.where(np.isfinite(fade), fade, 0.0)
    reach = 1
    while reach < len(value) and fade.max(initial=0.0) > 1e-18:
        # the right side is evaluated before it is written: every pass doubles how far back a point reaches
        level[reach:] = level[reach:] + fade[reach:] * level[:-reach]
        fade[reach:] = fade[reach:] * fade[:-reach]
        fade[:reach] = 0.0
        reach *= 2
    forecast = np.full_like(value, np.nan)
    forecast[1:] = (origin + level)[:-1]
    return np.where(first | ~seen, np.nan, forecast)


def best_weight(value: Floats, is_first: Flags, spans: Spans, *, included: Flags | None = None) -> Floats:
    """EWMA weight of each chart that minimises the sum of squared one-step errors of the ``included`` points.

    Montgomery and Mastrangelo (1991): a grid of 0.02, then golden section between the neighbours of the best, to 1e-6.
    NaN for a chart with fewer than 3 one-step errors or without variation.
    """
    members = _members(value, is_first, spans)
    if not spans.rows:
        return np.zeros(0)
    seen, first, run = _runs(value, is_first, spans)
    used = seen & ~first & (included if included is not None else True)
    of = members.kept(used)

    def squares(weight: Floats) -> Floats:
        return of.total((value - _forecast(value, seen, first, run, weight[members.chart]))[used] ** 2)

    table = np.stack([squares(np.full(members.charts, weight)) for weight in _GRID])
    best = np.argmin(table, axis=0)
    low = np.where(best > 0, _GRID[np.maximum(best - 1, 0)], 1e-4)
    high = _GRID[np.minimum(best + 1, len(_GRID) - 1)]
    for _ in range(_NARROWINGS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        lower = squares(left) <= squares(right)
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    found = 0.5 * (low + high)
    # at the edge the best weight is 1, which no interior point reaches
    found = np.where(squares(np.ones(members.charts)) <= squares(found), 1.0, found)
    return np.where((of.sizes() >= 3) & (table.max(axis=0) > 0), found, np.nan)
