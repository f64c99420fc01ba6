"""Sigma within and overall, for all charts at once, with the degrees of freedom of each estimator.

Sources: minimum-variance linear unbiased weights for unequal n as in Montgomery, Introduction to Statistical
Quality Control (6.3), and Minitab's "estimating sigma"; degrees of freedom as Minitab states them for capability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.constants import c4, d2, d3
from spc_platform.spc.sequence import CHART, Flags, Floats, Ints, Spans, first_of_segment, merge

_FN_FROM = np.array([2, 3, 4, 5, 6, 8, 10, 18, 65])
_FN = np.array([0.88, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.00])


@dataclass(frozen=True)
class Terms:
    """What one row gives to sigma: weight, estimate of sigma (or of its square), degrees of freedom."""

    weight: Floats
    value: Floats
    nu: Floats


@dataclass(frozen=True)
class Estimator:
    """How rows become sigma: sum(weight * value) / sum(weight), or the root of that over c4(nu + 1).

    ``terms`` maps (n, range, s, m2, moving range) of the rows that carry dispersion to their terms.
    """

    terms: Callable[[Ints, Floats, Floats, Floats, Floats], Terms]
    per_pair: bool = False
    squared: bool = False


def _rbar(n: Ints, spread: Floats, s: Floats, m2: Floats, moving: Floats) -> Terms:
    mean_range = d2(n)
    return Terms((mean_range / d3(n)) ** 2, spread / mean_range, np.asarray(0.9 * (n - 1.0), dtype=np.float64))


def _sbar(n: Ints, spread: Floats, s: Floats, m2: Floats, moving: Floats) -> Terms:
    mean_s = c4(n)
    return Terms(mean_s**2 / (1.0 - mean_s**2), s / mean_s, _FN[np.searchsorted(_FN_FROM, n, side="right") - 1] * (n - 1.0))


def _pooled(n: Ints, spread: Floats, s: Floats, m2: Floats, moving: Floats) -> Terms:
    freedom = np.asarray(n - 1.0, dtype=np.float64)
    return Terms(freedom, m2 / freedom, freedom)


def _mr(n: Ints, spread: Floats, s: Floats, m2: Floats, moving: Floats) -> Terms:
    one = np.ones_like(moving)
    return Terms(one, moving / float(d2(2)), one)


ESTIMATORS: dict[str, Estimator] = {
    "rbar": Estimator(_rbar),
    "sbar": Estimator(_sbar),
    "pooled": Estimator(_pooled, squared=True),
    "mr": Estimator(_mr, per_pair=True),
}
"""The estimators of sigma within; new ones are a row here."""


def moving_range(ordered: pl.DataFrame, is_first: Flags) -> pl.Series:
    """|x_i - x_(i-1)| of adjacent individuals; null on the first row of a segment and where either n is above 1."""
    individual = (pl.col("n_observed") == 1) & (pl.col("n_observed").shift() == 1)
    step = (pl.col("mean") - pl.col("mean").shift()).abs()
    return ordered.select(moving_range=pl.when(individual & ~pl.Series(is_first)).then(step))["moving_range"]


def within_sigma(ordered: pl.DataFrame, by: Sequence[str], gap_h: float) -> pl.DataFrame:
    """Mean, M2, sigma within with its degrees of freedom, and overall s of each group of subgroups.

    ``ordered``: SPC_SUBGROUPS sorted by ``by`` and time, with ``estimator``, and optionally ``included`` (false
    leaves a subgroup out and breaks the moving ranges on both sides of it). One row per group in the same order:
    ``by``, the chart's ids, estimator, n_subgroups, n_observed, mean, m2, sigma_within (null when nothing carries
    dispersion), nu, sigma_overall (n - 1; null for one value), window_from, window_to. Raises ``ContractError``
    for an unknown estimator. Sources: the module's docstring.
    """
    unknown = set(ordered["estimator"].unique()) - set(ESTIMATORS)
    if unknown:
        known = ", ".join(ESTIMATORS)
        raise ContractError(f"unknown estimator {', '.join(sorted(unknown))} in the characteristics; use one of {known}")
    if "included" not in ordered.columns:
        ordered = ordered.with_columns(included=pl.lit(value=True))
    pairs = moving_range(ordered, first_of_segment(ordered, [*by, "included"], gap_h))
    rows = ordered.with_columns(moving_range=pairs).filter("included")
    if rows.is_empty():
        return _groups(rows, by, Spans(np.zeros(0, dtype=np.int64), 0))
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in by)
    is_first = rows.select(changed.alias("changed"))["changed"].to_numpy().copy()
    is_first[0] = True
    return _groups(rows, by, Spans.from_first(is_first))


def _groups(rows: pl.DataFrame, by: Sequence[str], spans: Spans) -> pl.DataFrame:
    n = rows["n_observed"].to_numpy()
    total, mean, m2 = merge(n.astype(np.float64), rows["mean"].to_numpy(), rows["m2"].to_numpy(), spans)
    sigma, nu = _sigma(rows, spans)
    named = [*by, *(name for name in CHART if name not in by), "estimator"]
    values = pl.DataFrame(
        {
            "n_subgroups": spans.sizes,
            "n_observed": total.astype(np.int64),
            "mean": mean,
            "m2": m2,
            "sigma_within": sigma,
            "nu": nu,
            "sigma_overall": np.where(total > 1, np.sqrt(m2 / np.maximum(total - 1.0, 1.0)), np.nan),
            "window_from": rows["subgroup_at"][spans.starts],
            "window_to": rows["subgroup_end_at"][spans.ends],
            "last_subgroup_at": rows["subgroup_at"][spans.ends],
        }
    )
    return pl.concat(
        [rows[spans.starts].select(named), values.with_columns(pl.col(pl.Float64).fill_nan(None))], how="horizontal"
    )


def _sigma(rows: pl.DataFrame, spans: Spans) -> tuple[Floats, Floats]:
    """Sigma within (NaN when it cannot be estimated) and degrees of freedom per span."""
    weight, weighted, nu = (np.zeros(rows.height) for _ in range(3))
    n: Ints = rows["n_observed"].to_numpy()
    spread, s, m2, moving = (
        rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("range", "s", "m2", "moving_range")
    )
    estimator = rows["estimator"]
    squared = np.zeros(rows.height, dtype=np.bool_)
    for name, rule in ESTIMATORS.items():
        chosen = (estimator == name).to_numpy()
        used = np.flatnonzero(chosen & (np.isfinite(moving) if rule.per_pair else (n > 1)))
        terms = rule.terms(n[used], spread[used], s[used], m2[used], moving[used])
        weight[used], weighted[used], nu[used] = terms.weight, terms.weight * terms.value, terms.nu
        squared |= chosen & rule.squared
    freedom = spans.total(nu)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = spans.total(weighted) / spans.total(weight)
    unbiased = np.sqrt(ratio) / c4(np.maximum(freedom, 1.0) + 1.0)
    return np.where(squared[spans.starts], unbiased, ratio), freedom
