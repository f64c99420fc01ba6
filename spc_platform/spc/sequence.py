"""Subgroups of many charts as one ordered sequence of rows, and sums over its contiguous spans.

Every figure is a sum over a span of rows in a fixed order, so neither the order of the input nor the
number of threads changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.site.model import Site

CHART = ["characteristic_id", "equipment_id"]
"""What names a chart."""

CHART_SETTINGS = ["weight", "span", "reference", "decision", "head_start"]
"""Settings of single kinds of charts, in the site's characteristics; null: the default of ``spc.charting``."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


_LARGEST_TABLE = 100_000
"""Up to this size the constants of sizes are looked up in a table, beyond it by search."""


@dataclass(frozen=True)
class Spans:
    """Contiguous spans that cover ``rows`` rows: their first rows and their sizes."""

    starts: Ints
    rows: int

    @classmethod
    def from_first(cls, is_first: Flags) -> Spans:
        """Spans that begin where ``is_first`` is true; row 0 must be true."""
        return cls(np.flatnonzero(is_first), len(is_first))

    @cached_property
    def sizes(self) -> Ints:
        sizes = np.empty_like(self.starts)
        np.subtract(self.starts[1:], self.starts[:-1], out=sizes[:-1])
        sizes[-1:] = self.rows - self.starts[-1:]
        return sizes

    @property
    def ends(self) -> Ints:
        """Last row of each span."""
        return self.starts + self.sizes - 1

    def expand(self, per_span: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One value per span, repeated for each of its rows."""
        return np.repeat(per_span, self.sizes)

    def total(self, values: Floats | Ints) -> Floats:
        """Sum of each span."""
        return np.add.reduceat(values.astype(np.float64, copy=False), self.starts)

    def count(self, flags: Flags) -> Ints:
        """Rows of each span that are flagged."""
        return np.add.reduceat(flags.astype(np.int64), self.starts)

    def median(self, values: Floats) -> Floats:
        """Median of each span, the mean of the two middle values of an even count; a span with NaN gives NaN.

        >>> Spans(np.array([0, 3]), 7).median(np.array([3.0, 1.0, 2.0, 9.0, 4.0, 8.0, 5.0])).tolist()
        [2.0, 6.5]
        """
        sizes = self.sizes
        if len(sizes) and bool(np.all(sizes == sizes[0])):
            ordered = np.sort(values.reshape(len(sizes), -1), axis=1).ravel()  # NaN sorts last, here and below
        else:
            within = pl.DataFrame({"span": np.repeat(np.arange(len(sizes)), sizes), "value": values})
            ordered = within.sort("span", "value")["value"].to_numpy()
        found = middle(ordered[self.starts + (sizes - 1) // 2], ordered[self.starts + sizes // 2])
        return np.where(np.isnan(ordered[self.ends]), np.nan, found)


def of_sizes(constant: Callable[[Ints], Floats], n: Ints, smallest: int = 2) -> Floats:
    """Give the constant (d2, c4, ...) of each size, worked out once per distinct size; NaN below the smallest that has one.

    ``n``: sizes, not negative. The result is for reading only: where all sizes are equal it is one number seen many times.

    >>> of_sizes(lambda n: 1.0 / n, np.array([1, 2, 2])).tolist()
    [nan, 0.5, 0.5]
    """
    if not n.size:
        return np.zeros(0)
    low, high = int(n.min()), int(n.max())
    if low == high:
        return np.broadcast_to(constant(n[:1]) if low >= smallest else np.full(1, np.nan), n.shape)
    sizes, place = _distinct(n, high)
    known = sizes >= smallest
    table = np.full(len(sizes), np.nan)
    table[known] = constant(sizes[known])
    return np.asarray(table[place], dtype=np.float64)


def _distinct(n: Ints, largest: int) -> tuple[Ints, Ints]:
    """The distinct sizes in ascending order, and which of them each entry is."""
    if largest > _LARGEST_TABLE:
        return np.unique(n, return_inverse=True)
    present = np.bincount(n) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[n]


def middle(low: Floats, high: Floats) -> Floats:
    """Half way between two values."""
    return np.asarray(0.5 * (low + high), dtype=np.float64)


def merge(n: Floats, mean: Floats, m2: Floats, spans: Spans) -> tuple[Floats, Floats, Floats]:
    """n, mean and sum of squared deviations of the values behind each span of (n, mean, m2).

    Exact merging (Chan, Golub, LeVeque 1983): M2 = sum m2_i + sum n_i (mean_i - mean)^2, about a shift so
    that a large common offset costs no digits. Spans without values give NaN as mean and 0 as M2.
    """
    first = mean[spans.starts]
    shift = spans.expand(first).astype(np.float64, copy=False)
    filled = mean
    if not (there := n > 0).all():
        filled, m2 = np.where(there, mean, shift), np.where(there, m2, 0.0)
    filled, first, shift = (_finite_or_zero(values) for values in (filled, first, shift))
    total = spans.total(n)
    deviation = np.subtract(filled, shift, out=shift)
    with np.errstate(invalid="ignore", divide="ignore"):
        weighted = n * deviation
        centre = spans.total(weighted) / total
    deviation -= spans.expand(np.nan_to_num(centre))
    np.multiply(n, deviation, out=weighted)
    weighted *= deviation
    return total, first + centre, spans.total(m2) + spans.total(weighted)


def _finite_or_zero(values: Floats) -> Floats:
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, 0.0)


def chart_order(subgroups: pl.DataFrame, site: Site) -> pl.DataFrame:
    """SPC_SUBGROUPS of the site's charts in time order per chart, with the declared chart's columns.

    Adds chart_index, chart, subgroup_size, estimator and rule_set of ``characteristics``; subgroups of
    charts that the site no longer declares are left out.
    """
    charts = (
        site["characteristics"]
        .select(*CHART, "chart", "subgroup_size", "estimator", "rule_set", *CHART_SETTINGS)
        .sort(CHART)
        .with_row_index("chart_index")
    )
    joined = _deviations(subgroups.join(charts, on=CHART, how="inner", maintain_order="left"), site)
    index = joined["chart_index"].to_numpy().astype(np.int64)
    at = joined["subgroup_at"].to_physical().to_numpy()
    step = np.diff(index)
    # a lake partition is already in this order: seeing that is far cheaper than sorting by texts
    if bool(np.all((step > 0) | ((step == 0) & (np.diff(at) > 0)))):
        return joined
    return joined.sort("chart_index", "subgroup_at", "subgroup_id")


def _deviations(subgroups: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Charts of deviations from nominal hold them: the target of the specification in force is subtracted from the location."""
    is_deviation = pl.col("chart").is_in(["dnom", "dnom_i_mr"])
    if not subgroups.select(is_deviation.any()).item():
        return subgroups
    nominal = site["specifications"].select("characteristic_id", specification_version="version", _nominal="target")
    joined = subgroups.join(nominal, on=["characteristic_id", "specification_version"], how="left", maintain_order="left")
    # without a nominal there is no deviation: such a subgroup is not charted
    joined = joined.filter(~is_deviation | pl.col("_nominal").is_not_null())
    shifted = [
        pl.when(is_deviation).then(pl.col(name) - pl.col("_nominal")).otherwise(name).alias(name) for name in ("mean", "median")
    ]
    return joined.with_columns(shifted).drop("_nominal")


def first_of_segment(ordered: pl.DataFrame, columns: Sequence[str], gap_h: float) -> Flags:
    """Flag where a row does not continue the row before it.

    A segment ends where one of ``columns`` changes (null is a value of its own) or where more than
    ``gap_h`` hours lie between the end of a subgroup and the next one.
    """
    gap = pl.col("subgroup_at") - pl.col("subgroup_end_at").shift()
    changed = [pl.col(name).ne_missing(pl.col(name).shift()) for name in columns]
    first = ordered.select(
        first=pl.any_horizontal(*changed, gap > pl.duration(microseconds=round(gap_h * 3.6e9))).fill_null(value=True)
    )["first"].to_numpy()
    first = first.copy()
    first[:1] = True
    return first
