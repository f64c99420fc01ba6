"""Rational subgroups: from single measurements to the small statistics that every figure of SPC rests on.

Only observed values enter. A masked value is a value: it stays in every statistic, and the statistics
without it stand beside them.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np
import polars as pl

from spc_platform.contracts.spc import SPC_SUBGROUPS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.sequence import CHART, Flags, Floats, Ints, Spans, middle

BLOCK_VALUES = 1 << 15
"""Values that are reduced at a time: they and their deviations stay in a core's second-level cache."""

_ENDS = frozenset(("minimum", "maximum", "range"))
_DISPERSIONS = frozenset(("range", "s"))
_LARGEST = 1e150
"""Beyond this the square of a deviation overflows."""

WIDEST_COLUMN = 32
"""Up to this size a subgroup is reduced position by position over all subgroups of its size at once."""

_RECORD = ["source_id", "record_id"]
_BLOCK = ["chart_index", "production_date", "specification_version", "sample"]
_NO_KEY = "NO_SUBGROUP_KEY"
_NO_CHART = "NO_CHART"


def form_subgroups(measurement: pl.DataFrame, flags: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Subgroups of MEASUREMENT as the site declares them: SPC_SUBGROUPS, values in the characteristic's unit.

    consecutive: ``subgroup_size`` values in time order within chart, production date and specification
    version; the partial last one is kept with its n. key: all values of one ``subgroup_key`` within the same;
    a value without a key forms no subgroup (``ungrouped`` counts them). individual: n = 1.
    ``flags`` (MEASUREMENT_FLAGS) says only which values are masked; a value without a flag is not.
    """
    rows = _charted(measurement, flags, site).filter(~((pl.col("subgrouping") == "key") & pl.col("sample").is_null()))
    rows = rows.sort(*_BLOCK, "measured_at", *_RECORD)
    if rows.is_empty():
        return SPC_SUBGROUPS.empty()
    spans = _subgroups(rows)
    first = rows[spans.starts]
    frame = first.select(
        *CHART,
        "shift_id",
        "material_lot_id",
        "job_order_id",
        "specification_version",
        "production_date",
        subgroup_id=pl.concat_str(*CHART, pl.concat_str(*_RECORD, separator=":"), separator="|"),
        subgroup_at=pl.col("measured_at"),
        subgroup_end_at=rows["measured_at"][spans.ends],
    )
    statistics = subgroup_statistics(rows["value"].to_numpy(), (~rows["is_masked"]).to_numpy(), spans)
    return SPC_SUBGROUPS.conform(frame.with_columns(pl.DataFrame(statistics).with_columns(pl.col(pl.Float64).fill_nan(None))))


def ungrouped(measurement: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Measurements that form no subgroup: characteristic_id, equipment_id, reason, n.

    ``NO_CHART``: the site declares no chart for the characteristic on that work unit. ``NO_SUBGROUP_KEY``: the
    chart subgroups by the source's key and the value has none; guessing one would make subgroups that are
    not rational.
    """
    charts = site["characteristics"].select(*CHART, "subgrouping")
    reason = (
        pl.when(pl.col("subgrouping").is_null())
        .then(pl.lit(_NO_CHART))
        .when((pl.col("subgrouping") == "key") & pl.col("subgroup_key").is_null())
        .then(pl.lit(_NO_KEY))
    )
    return (
        measurement.select(*CHART, "subgroup_key")
        .join(charts, on=CHART, how="left")
        .with_columns(reason=reason)
        .drop_nulls("reason")
        .group_by(*CHART, "reason")
        .agg(n=pl.len().cast(pl.Int64))
        .sort(*CHART, "reason")
    )


def _charted(measurement: pl.DataFrame, flags: pl.DataFrame, site: Site) -> pl.DataFrame:
    charts = (
        site["characteristics"]
        .select(*CHART, "subgrouping", size=pl.when(pl.col("subgrouping") == "individual").then(1).otherwise("subgroup_size"))
        .sort(CHART)
        .with_row_index("chart_index")
    )
    masked = flags.filter("is_masked").select(*_RECORD, "is_masked").unique(_RECORD, keep="any")
    return (
        measurement.select(
            *CHART,
            *_RECORD,
            "measured_at",
            "value",
            "shift_id",
            "material_lot_id",
            "job_order_id",
            "specification_version",
            "subgroup_key",
            "production_date",
        )
        .filter(pl.col("value").is_finite())  # an absent value is absent, never 0
        .join(charts, on=CHART, how="inner")
        .join(masked, on=_RECORD, how="left")
        .with_columns(
            pl.col("is_masked").fill_null(value=False), sample=pl.when(pl.col("subgrouping") == "key").then("subgroup_key")
        )
    )


def _subgroups(rows: pl.DataFrame) -> Spans:
    """Spans of the subgroups; rows are sorted by block and time."""
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in _BLOCK)
    is_first = rows.select(changed.alias("changed"))["changed"].to_numpy().copy()
    is_first[0] = True
    blocks = Spans.from_first(is_first)
    by_key = (rows["subgrouping"][blocks.starts] == "key").to_numpy()
    return consecutive(blocks, np.where(by_key, blocks.sizes, rows["size"][blocks.starts].to_numpy()))


def consecutive(blocks: Spans, size: Ints | int) -> Spans:
    """Spans of ``size`` rows that follow each other within a block; the last one of a block has the rows that are left.

    ``size``: rows of a span, at least 1, one for all blocks or one per block.

    >>> consecutive(Spans(np.array([0, 5]), 8), 2).starts.tolist()
    [0, 2, 4, 5, 7]
    """
    sizes = np.broadcast_to(size, blocks.starts.shape)
    count = -(-blocks.sizes // sizes)
    ends = np.cumsum(count)
    # the n-th span of all begins n sizes behind where its block would have begun had all before it the same size
    origin = np.repeat(blocks.starts - (ends - count) * sizes, count)
    starts = np.arange(len(origin), dtype=np.int64)
    starts *= size if np.ndim(size) == 0 else np.repeat(sizes, count)
    starts += origin
    return Spans(starts, blocks.rows)


STATISTICS = ("mean", "m2", "range", "s", "minimum", "maximum", "median")


def subgroup_statistics(
    value: Floats, kept: Flags | None, spans: Spans, names: Collection[str] = STATISTICS
) -> dict[str, Floats | Ints]:
    """Statistics of the values of each span, one array of ``len(spans.starts)`` per name, in the values' unit.

    ``value``: observed values, flat over all subgroups; ``kept``: false where a statistical rule masks the value;
    ``names``: those of ``STATISTICS`` that are wanted. Gives n_observed, mean, m2 (sum of squared deviations), range and
    s (NaN for one value), minimum, maximum, median, and unless ``kept`` is None n_masked, mean_unmasked and m2_unmasked
    of the kept values (NaN where none is). A subgroup's figures depend on its values and their order only, bit for bit,
    never on its neighbours nor on what else is asked for. Raises ``ContractError`` SPC-310 for a value that is not
    finite. Source: the corrected two-pass algorithm about the first value (Chan, Golub, LeVeque 1983), so that a large
    common offset costs no digits.

    >>> found = subgroup_statistics(np.array([1.0, 2.0, 6.0]), np.ones(3, dtype=bool), Spans(np.array([0]), 3))
    >>> [float(found[name].item()) for name in ("mean", "median", "m2", "range")]
    [3.0, 2.0, 14.0, 5.0]
    """
    value = np.ascontiguousarray(value, dtype=np.float64)
    n = spans.sizes
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named by its row afterwards
        moments = _moments(value, spans, names)
    found: dict[str, Floats | Ints] = {"n_observed": n, **{name: moments[name] for name in moments if name in names}}
    if "s" in names:
        found["s"] = np.sqrt(moments["m2"] / np.maximum(n - 1, 1))
    single = n == 1
    for name in _DISPERSIONS & found.keys() if single.any() else ():
        found[name][single] = np.nan
    if kept is None:
        return found
    if kept.all():
        return {**found, "n_masked": np.zeros_like(n), "mean_unmasked": moments["mean"], "m2_unmasked": moments["m2"]}
    masked = np.flatnonzero(~kept)
    span_of = np.searchsorted(spans.starts, masked, side="right") - 1
    n_masked: Ints = np.bincount(span_of, minlength=len(n)).astype(np.int64)
    return {**found, "n_masked": n_masked, **_unmasked(value, kept, spans, n_masked, moments)}


def _unmasked(value: Floats, kept: Flags, spans: Spans, n_masked: Ints, moments: dict[str, Floats]) -> dict[str, Floats]:
    """The moments again, without the masked values, of the subgroups that have any."""
    mean, m2 = moments["mean"].copy(), moments["m2"].copy()
    touched = np.flatnonzero(n_masked)
    n_kept = spans.sizes[touched] - n_masked[touched]
    mean[touched[n_kept == 0]] = m2[touched[n_kept == 0]] = np.nan
    touched, n_kept = touched[n_kept > 0], n_kept[n_kept > 0]
    if touched.size:
        chosen = np.zeros(len(n_masked), dtype=np.bool_)
        chosen[touched] = True
        rows = value[kept & np.repeat(chosen, spans.sizes)]
        again = _moments(rows, Spans(np.cumsum(n_kept) - n_kept, len(rows)), ())
        mean[touched], m2[touched] = again["mean"], again["m2"]
    return {"mean_unmasked": mean, "m2_unmasked": m2}


def _moments(value: Floats, spans: Spans, names: Collection[str]) -> dict[str, Floats]:
    """Mean and m2, and of minimum, maximum, range and median what is wanted; every size has one way to be computed."""
    n, wanted = spans.sizes, ["mean", *(name for name in ("minimum", "maximum", "median", "range") if name in names), "m2"]
    if len(n) == len(value):  # individuals: 0, and NaN of what is not finite
        found = {name: value - value if name in ("m2", "range") else value for name in wanted}
    else:
        found = {name: np.empty(len(n)) for name in wanted}
        narrow = n <= WIDEST_COLUMN
        for size in np.flatnonzero(np.bincount(n if narrow.all() else n[narrow])).tolist():
            at = np.flatnonzero(n == size)
            _narrow(value, spans.starts if len(at) == len(n) else spans.starts[at], size, at, found)
        _wide(value, spans, np.flatnonzero(~narrow), found)
    finite = np.isfinite(found["m2"])
    if not finite.all():
        bad = np.flatnonzero(~finite)
        first, size = int(spans.starts[bad[0]]), int(n[bad[0]])
        row = first + int(np.argmax(~(np.abs(value[first : first + size]) < _LARGEST)))
        raise ContractError(
            f"value {value[row]:g} in row {row} (subgroup {bad[0]}) is not a finite number below {_LARGEST:g}: an "
            "absent value has no statistics; leave such rows out and count them, or correct the unit",
            code="SPC-310",
        )
    return found


def _narrow(value: Floats, starts: Ints, size: int, at: Ints, found: dict[str, Floats]) -> None:
    """Subgroups of one small size, a block of them at a time: positions in the subgroup are rows of a matrix."""
    many = max(BLOCK_VALUES // size, 1)
    position = np.arange(size)[:, None]
    for low in range(0, len(starts), many):
        begin, to = starts[low : low + many], _slice(at[low : low + many])
        first, count = int(begin[0]), len(begin)
        if int(begin[-1]) - first == (count - 1) * size:
            block = np.array(value[first : first + count * size].reshape(count, size).T, order="C")
        else:
            block = value[begin[None, :] + position]
        origin = block[0].copy()
        deviation = block - origin
        mean = _sum_of_rows(deviation) / size
        found["mean"][to] = origin + mean
        deviation -= mean
        residue = _sum_of_rows(deviation)
        deviation *= deviation
        found["m2"][to] = np.maximum(_sum_of_rows(deviation) - residue * residue / size, 0.0)
        if "median" in found:
            _sort_rows(block)
            found["median"][to] = block[size // 2] if size % 2 else middle(block[size // 2 - 1], block[size // 2])
            _set_ends(found, to, block[0], block[-1])
        elif _ENDS & found.keys():
            _set_ends(found, to, *_ends_of_rows(block))


def _set_ends(found: dict[str, Floats], to: Ints | slice, low: Floats, high: Floats) -> None:
    """Put the smallest and the largest values, or their difference, where they are wanted."""
    for name in _ENDS & found.keys():
        found[name][to] = low if name == "minimum" else high if name == "maximum" else high - low


def _slice(at: Ints) -> Ints | slice:
    """Ascending places, as a slice where they follow each other without a gap."""
    first, last = int(at[0]), int(at[-1])
    return slice(first, last + 1) if last - first == len(at) - 1 else at


def _wide(value: Floats, spans: Spans, at: Ints, found: dict[str, Floats]) -> None:
    """Large subgroups, span by span of their own values."""
    if not at.size:
        return
    sizes = spans.sizes[at]
    own = Spans(np.cumsum(sizes) - sizes, int(sizes.sum()))
    rows = value if own.rows == len(value) else value[np.repeat(spans.starts[at] - own.starts, sizes) + np.arange(own.rows)]
    origin = rows[own.starts]
    deviation = rows - np.repeat(origin, sizes)
    mean = own.total(deviation) / sizes
    found["mean"][at] = origin + mean
    deviation -= np.repeat(mean, sizes)
    residue = own.total(deviation)
    deviation *= deviation
    found["m2"][at] = np.maximum(own.total(deviation) - residue * residue / sizes, 0.0)
    if _ENDS & found.keys():
        _set_ends(found, at, np.minimum.reduceat(rows, own.starts), np.maximum.reduceat(rows, own.starts))
    if "median" in found:
        found["median"][at] = own.median(rows)


def _sum_of_rows(block: Floats) -> Floats:
    """Sum of each column from first to last: a reduction by numpy has another order when there is but one column."""
    total: Floats = block[0].copy()
    for row in block[1:]:
        total += row
    return total


def _ends_of_rows(block: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest of each column."""
    low, high = block[0].copy(), block[0].copy()
    for row in block[1:]:
        np.minimum(low, row, out=low)
        np.maximum(high, row, out=high)
    return low, high


def _sort_rows(block: Floats) -> None:
    """Sort every column of (size, subgroups) in place: Batcher's odd-even merge sort, exchanges of whole rows."""
    low = np.empty(block.shape[1])
    for first, second in _exchanges(len(block)):
        np.minimum(block[first], block[second], out=low)
        np.maximum(block[first], block[second], out=block[second])
        block[first] = low


@lru_cache(maxsize=WIDEST_COLUMN)
def _exchanges(size: int) -> tuple[tuple[int, int], ...]:
    """The comparisons that sort ``size`` values (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M)."""
    pairs: list[tuple[int, int]] = []
    bits = max(size - 1, 1).bit_length()
    p = 1 << (bits - 1)
    while p > 0:
        q, r, d = 1 << (bits - 1), 0, p
        while True:
            pairs += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(pairs)
