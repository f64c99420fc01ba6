"""Sigma within, between and overall, for all charts at once, with the degrees of freedom of each estimator.

Sources: minimum-variance linear unbiased weights for unequal n as in Montgomery, Introduction to Statistical
Quality Control (6.3), and Minitab's "estimating sigma"; degrees of freedom as Minitab states them for capability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.constants import c4, c4_mssd, c4_mssd_of_segments, c5, d2, d3, d4
from spc_platform.spc.sequence import CHART, Flags, Floats, Ints, Spans, first_of_segment, merge, of_sizes

_FN_FROM = np.array([2, 3, 4, 5, 6, 8, 10, 18, 65])
_FN = np.array([0.88, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.00])


@dataclass(frozen=True)
class Rows:
    """What estimators see of the subgroups, flat over all groups; NaN where a row carries no such dispersion.

    ``moving``: moving range of ``mr_span`` individuals that ends at the row; ``step``: difference to the individual
    before; ``paired``: the row continues an unbroken run of individuals.
    """

    n: Ints
    mean: Floats
    spread: Floats
    s: Floats
    m2: Floats
    moving: Floats
    step: Floats
    paired: Flags
    mr_span: Ints

    def of(self, chosen: Flags) -> Rows:
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


Estimate = tuple[Floats, Floats]
"""Sigma within (NaN when it cannot be estimated) and its degrees of freedom, one of each per group."""

_OfSize = Callable[[Ints], Floats]


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.asarray(np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0), dtype=np.float64)


def _weighted(rows: Rows, spans: Spans, dispersion: Floats, mean: _OfSize, spread: _OfSize, freedom: _OfSize) -> Estimate:
    """Mean of dispersion over its ``mean`` factor, by minimum variance, of the subgroups of at least two values."""
    weight = of_sizes(lambda n: (mean(n) / spread(n)) ** 2, rows.n)
    nu = of_sizes(freedom, rows.n)
    weighted = dispersion / of_sizes(mean, rows.n)
    weighted *= weight
    if not (several := rows.n > 1).all():
        weight, weighted, nu = (np.where(several, values, 0.0) for values in (weight, weighted, nu))
    return _ratio(spans.total(weighted), spans.total(weight)), spans.total(nu)


def _rbar(rows: Rows, spans: Spans) -> Estimate:
    return _weighted(rows, spans, rows.spread, d2, d3, lambda n: np.asarray(0.9 * (n - 1.0), dtype=np.float64))


def _sbar(rows: Rows, spans: Spans) -> Estimate:
    def freedom(n: Ints) -> Floats:
        return np.asarray(_FN[np.searchsorted(_FN_FROM, n, side="right") - 1] * (n - 1.0), dtype=np.float64)

    return _weighted(rows, spans, rows.s, c4, c5, freedom)


def _pooled(rows: Rows, spans: Spans) -> Estimate:
    several = rows.n > 1
    nu = spans.total(np.where(several, rows.n - 1.0, 0.0))
    squares = _ratio(spans.total(np.where(several, rows.m2, 0.0)), nu)
    return np.sqrt(squares) / c4(np.maximum(nu, 1.0) + 1.0), nu


def _mr(rows: Rows, spans: Spans) -> Estimate:
    there = np.isfinite(rows.moving)
    count = spans.total(there.astype(np.float64))
    mean = _ratio(spans.total(np.where(there, rows.moving, 0.0)), count)
    return mean / d2(rows.mr_span[spans.starts]), count


def _median_mr(rows: Rows, spans: Spans) -> Estimate:
    there = np.isfinite(rows.moving)
    count = spans.count(there)
    median = np.full(len(count), np.nan)
    some = count > 0
    own = Spans(np.cumsum(count[some]) - count[some], int(count.sum()))
    if own.rows:
        median[some] = own.median(rows.moving[there])
    return median / d4(rows.mr_span[spans.starts]), count.astype(np.float64)


def _mssd(rows: Rows, spans: Spans) -> Estimate:
    pairs = spans.total(rows.paired.astype(np.float64))
    squares = spans.total(np.where(rows.paired, rows.step * rows.step, 0.0))
    unbiasing = np.full(len(pairs), np.nan)
    runs = Spans.from_first(~rows.paired)
    lengths = runs.sizes
    group = np.searchsorted(spans.starts, runs.starts, side="right") - 1
    lengths, group = lengths[lengths > 1], group[lengths > 1]
    many = np.bincount(group, minlength=len(pairs))
    single = many[group] == 1
    unbiasing[group[single]] = c4_mssd(lengths[single])
    broken, parts = group[~single], lengths[~single]
    if len(broken):
        first = np.flatnonzero(np.diff(broken, prepend=-1))
        unbiasing[broken[first]] = c4_mssd_of_segments(parts, Spans(first, len(parts)))
    return np.sqrt(_ratio(squares, 2.0 * pairs)) / unbiasing, pairs


ESTIMATORS: dict[str, Callable[[Rows, Spans], Estimate]] = {
    "rbar": _rbar,
    "sbar": _sbar,
    "pooled": _pooled,
    "mr": _mr,
    "median_mr": _median_mr,
    "mssd": _mssd,
}
"""The estimators of sigma within; new ones are a row here.

rbar, sbar: means of R_i / d2(n_i) and s_i / c4(n_i) with minimum-variance weights, nu 0.9 sum(n_i - 1) and
sum f_n (n_i - 1). pooled: root of sum M2_i / nu over c4(nu + 1), nu = sum(n_i - 1). mr, median_mr: mean and median of
the moving ranges of ``mr_span`` individuals over d2 and d4 of it, nu their number (k - w + 1 when nothing breaks them).
mssd: root of sum of squared successive differences / (2 nu) over its exact mean for the lengths of the unbroken runs,
nu the number of differences (k - 1).
"""


def moving_range(ordered: pl.DataFrame, is_first: Flags, span: int | Ints = 2) -> pl.Series:
    """Largest minus smallest of ``span`` adjacent individuals that end at each row, in the values' unit.

    ``ordered``: n_observed and mean in time order; ``is_first``: true where nothing reaches back across;
    ``span``: one number, or one per row. Null where fewer than ``span`` individuals (n of 1) adjoin in the segment.
    Raises ``ContractError`` SPC-312 for a span that is not a whole number of at least 2.
    """
    given = np.atleast_1d(np.asarray(span))
    bad = np.flatnonzero(~(given >= 2) | (given != np.floor(given)))
    if bad.size and ordered.height:
        raise ContractError(
            f"moving ranges in row {bad[0]} of {given[bad[0]]} values: a range needs a whole number of at least 2; "
            "correct mr_span",
            code="SPC-312",
        )
    individual = ordered["n_observed"].to_numpy() == 1
    if not individual.any():
        return pl.Series("moving_range", [None], dtype=pl.Float64).new_from_index(0, ordered.height)
    spans = np.broadcast_to(given, (ordered.height,))
    position = _position_in_run(individual, is_first)
    mean = ordered["mean"]
    found = np.full(ordered.height, np.nan)
    same = len(spans) and spans.min() == spans.max()
    for width in [spans[0]] if same else np.unique(spans).tolist():
        whole = (spans == width) & (position >= width - 1)
        window = (mean.rolling_max(int(width)) - mean.rolling_min(int(width))).to_numpy()
        found[whole] = window[whole]
    return pl.Series("moving_range", found).fill_nan(None)


def _position_in_run(individual: Flags, is_first: Flags) -> Ints:
    """Individuals directly before each row in its unbroken run; -1 for a row that is none."""
    if not individual.any():
        return np.broadcast_to(np.int64(-1), individual.shape)
    begins = is_first | ~individual
    begins[1:] |= ~individual[:-1]
    at = np.arange(len(individual))
    position: Ints = at - np.maximum.accumulate(np.where(begins, at, 0))
    return np.where(individual, position, -1)


def between_sigma(sigma_means: npt.ArrayLike, sigma_within: npt.ArrayLike, n_bar: npt.ArrayLike) -> Floats:
    """Sigma between subgroups, sqrt(max(0, sigma_means^2 - sigma_within^2 / n_bar)), in the values' unit.

    ``sigma_means``: mean moving range of the subgroup means / d2(2); ``n_bar``: subgroup size, for unequal sizes
    their harmonic mean (``n_harmonic`` of ``within_sigma``), as the variance of a mean is sigma^2 / n. 0 where the
    means vary no more than the values within explain; NaN where either sigma is missing. Source: Minitab, methods
    and formulas of the I-MR-R/S chart and of between/within capability.

    >>> between_sigma([5.0, 1.0], [6.0, 6.0], [4.0, 4.0]).tolist()
    [4.0, 0.0]
    """
    means, within, n = (np.asarray(given, dtype=np.float64) for given in (sigma_means, sigma_within, n_bar))
    # the product of sum and difference squares nothing large away
    part = within / np.sqrt(n)
    return np.asarray(np.sqrt(np.maximum((means - part) * (means + part), 0.0)), dtype=np.float64)


def within_sigma(ordered: pl.DataFrame, by: Sequence[str], gap_h: float | None = None, *, mr_span: int = 2) -> pl.DataFrame:
    """Mean, M2, sigma within with its degrees of freedom, sigma of the means and overall s of each group.

    ``ordered``: rows of subgroups sorted by ``by`` and time with n_observed, mean, m2, range (may be absent without rbar), s
    (without sbar) and ``estimator`` (one of ``ESTIMATORS`` per group); ``segment`` (whole numbers) changes where nothing
    may reach across. Optional: ``included`` (false leaves a subgroup out and breaks the moving ranges on both sides of
    it), ``mr_span`` (values of a moving range, one per group; else the parameter). Without ``segment``, ``gap_h`` hours
    between subgroup_end_at and the next subgroup_at break.

    One row per group in the same order: ``by``, the chart's ids where there are any, estimator, n_subgroups,
    n_observed, n_harmonic (harmonic mean of the sizes), mean, m2, sigma_within (null when nothing carries
    dispersion), nu, sigma_means (mean moving range of the means of adjacent subgroups / d2(2); null without a pair),
    sigma_overall (n - 1; null for one value); and where ``ordered`` has subgroup_at: window_from, window_to,
    last_subgroup_at. Raises ``ContractError``: unknown estimator; SPC-312 for an ``mr_span`` below 2; SPC-313 without
    ``segment`` and ``gap_h``; SPC-314 for two estimators or spans in one group. Sources: the module's docstring.
    """
    used = set(ordered["estimator"].unique())
    unknown = used - set(ESTIMATORS)
    if unknown:
        known = ", ".join(ESTIMATORS)
        raise ContractError(
            f"unknown estimator {', '.join(sorted(map(str, unknown)))} in the characteristics; use one of {known}"
        )
    rows, seen = ordered, _seen(ordered, _breaks(ordered, by, gap_h), mr_span, used)
    if "included" in ordered.columns and not ordered["included"].all():
        rows, seen = ordered.filter("included"), seen.of(ordered["included"].fill_null(value=False).to_numpy())
    if rows.is_empty():
        return _groups(rows, by, Spans(np.zeros(0, dtype=np.int64), 0), seen)
    spans = Spans.from_first(_changes(rows, by))
    if len(used) > 1 or seen.mr_span.min() != seen.mr_span.max():
        _one_per_group(rows.with_columns(mr_span=pl.Series(seen.mr_span)), by, spans)
    return _groups(rows, by, spans, seen)


def _seen(ordered: pl.DataFrame, is_first: Flags, mr_span: int, used: set[str]) -> Rows:
    """The subgroups as estimators see them, with what reaches back to the rows before."""
    span: Ints = ordered["mr_span"].to_numpy() if "mr_span" in ordered.columns else np.asarray(mr_span, dtype=np.int64)
    moving = moving_range(ordered, is_first, span)
    n, m2, mean = (_array(ordered[name]) for name in ("n_observed", "m2", "mean"))
    spread, s = (
        _array(ordered[name]) if name in ordered.columns or estimator in used else np.broadcast_to(np.nan, ordered.height)
        for name, estimator in (("range", "rbar"), ("s", "sbar"))
    )
    step = np.full(ordered.height, np.nan)
    np.subtract(mean[1:], mean[:-1], out=step[1:])
    np.abs(step, out=step)
    step[is_first] = np.nan
    paired = _position_in_run(n == 1, is_first) > 0
    return Rows(n, mean, spread, s, m2, _array(moving), step, paired, np.broadcast_to(span, ordered.height))


def _array(column: pl.Series) -> Any:
    """Whole numbers as they are, everything else as numbers with NaN for null."""
    return column.to_numpy() if column.dtype.is_integer() else column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _changes(rows: pl.DataFrame, columns: Sequence[str]) -> Flags:
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in columns)
    is_first: Flags = rows.select(changed.alias("changed"))["changed"].to_numpy().copy()
    is_first[:1] = True
    return is_first


def _breaks(ordered: pl.DataFrame, by: Sequence[str], gap_h: float | None) -> Flags:
    included = [name for name in ("included",) if name in ordered.columns]
    if "segment" in ordered.columns:
        return _changes(ordered, [*by, *included, "segment"])
    if gap_h is None:
        raise ContractError(
            "subgroups without a column segment and without a gap: moving ranges could reach across stages and pauses; "
            "add segment (0 everywhere when nothing separates the rows) or give gap_h",
            code="SPC-313",
        )
    return first_of_segment(ordered, [*by, *included], gap_h)


def _one_per_group(rows: pl.DataFrame, by: Sequence[str], spans: Spans) -> None:
    is_first = np.zeros(rows.height, dtype=np.bool_)
    is_first[spans.starts] = True
    bad = np.flatnonzero(_changes(rows, ["estimator", "mr_span"]) & ~is_first)
    if bad.size:
        before, here = rows.row(int(bad[0]) - 1, named=True), rows.row(int(bad[0]), named=True)
        where = ", ".join(f"{name} {here[name]}" for name in by)
        raise ContractError(
            f"{where}: estimator {before['estimator']} with mr_span {before['mr_span']} is followed by "
            f"{here['estimator']} with {here['mr_span']}; one group has one estimate: give one, or split the group",
            code="SPC-314",
        )


def _groups(rows: pl.DataFrame, by: Sequence[str], spans: Spans, seen: Rows) -> pl.DataFrame:
    n = seen.n.astype(np.float64)
    total, mean, m2 = merge(n, seen.mean, seen.m2, spans)
    sigma, nu = _sigma(rows["estimator"][spans.starts], seen, spans)
    pairs = np.isfinite(seen.step)
    mean_step = _ratio(spans.total(np.where(pairs, seen.step, 0.0)), spans.total(pairs))
    named = [*by, *(name for name in CHART if name in rows.columns and name not in by), "estimator"]
    values = pl.DataFrame(
        {
            "n_subgroups": spans.sizes,
            "n_observed": total.astype(np.int64),
            "n_harmonic": spans.sizes / spans.total(of_sizes(lambda n: 1.0 / n, seen.n, smallest=0)),
            "mean": mean,
            "m2": m2,
            "sigma_within": sigma,
            "nu": nu,
            "sigma_means": mean_step / float(d2(2)),
            "sigma_overall": np.where(total > 1, np.sqrt(m2 / np.maximum(total - 1.0, 1.0)), np.nan),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    return pl.concat([rows[spans.starts].select(named), values, _window(rows, spans)], how="horizontal")


def _window(rows: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    if "subgroup_at" not in rows.columns:
        return pl.DataFrame()
    end = "subgroup_end_at" if "subgroup_end_at" in rows.columns else "subgroup_at"
    first, last = rows[spans.starts], rows[spans.ends]
    return pl.DataFrame({"window_from": first["subgroup_at"], "window_to": last[end], "last_subgroup_at": last["subgroup_at"]})


def _sigma(estimator: pl.Series, seen: Rows, spans: Spans) -> Estimate:
    sigma, nu = np.full(len(spans.starts), np.nan), np.zeros(len(spans.starts))
    for name in estimator.unique():
        chosen = (estimator == name).to_numpy()
        sizes = spans.sizes[chosen]
        own = Spans(np.cumsum(sizes) - sizes, int(sizes.sum()))
        rows_of = seen if chosen.all() else seen.of(np.repeat(chosen, spans.sizes))
        sigma[chosen], nu[chosen] = ESTIMATORS[name](rows_of, own)
    return sigma, nu
