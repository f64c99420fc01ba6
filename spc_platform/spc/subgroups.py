"""Rational subgroups: from single measurements to the small statistics that every figure of SPC rests on.

Only observed values enter. A masked value is a value: it stays in every statistic, and the statistics
without it stand beside them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from spc_platform.contracts.spc import SPC_SUBGROUPS
from spc_platform.site.model import Site
from spc_platform.spc.sequence import CHART, Flags, Floats, Ints, Spans

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
    spans = Spans.from_first(_first_of_subgroup(rows))
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
    return SPC_SUBGROUPS.conform(frame.with_columns(**_statistics(rows, spans)))


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


def _first_of_subgroup(rows: pl.DataFrame) -> Flags:
    """Flag the first value of each subgroup; rows are sorted by block and time."""
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in _BLOCK)
    is_first = rows.select(changed.alias("changed"))["changed"].to_numpy().copy()
    is_first[0] = True
    blocks = Spans.from_first(is_first)
    position: Ints = np.arange(blocks.rows) - np.repeat(blocks.starts, blocks.sizes)
    full: Flags = (position % rows["size"].to_numpy() == 0) & (rows["subgrouping"] != "key").to_numpy()
    return is_first | full


def _statistics(rows: pl.DataFrame, spans: Spans) -> dict[str, pl.Series]:
    value: Floats = rows["value"].to_numpy()
    kept = (~rows["is_masked"]).to_numpy()
    n = spans.sizes
    n_kept = spans.count(kept)
    # the first value of a subgroup as origin: a large common offset then costs no digits
    origin = value[spans.starts]
    deviation = value - np.repeat(origin, n)
    mean, m2 = _mean_and_m2(deviation, np.ones_like(deviation), spans)
    mean_kept, m2_kept = _mean_and_m2(deviation, kept.astype(np.float64), spans)
    low, high = np.minimum.reduceat(value, spans.starts), np.maximum.reduceat(value, spans.starts)
    several = pl.Series(n > 1)
    return {
        "n_observed": pl.Series(n),
        "mean": pl.Series(origin + mean),
        "m2": pl.Series(m2),
        "range": _where(several, high - low),
        "s": _where(several, np.sqrt(m2 / np.maximum(n - 1, 1))),
        "minimum": pl.Series(low),
        "maximum": pl.Series(high),
        "n_masked": pl.Series(n - n_kept),
        "mean_unmasked": _where(pl.Series(n_kept > 0), origin + mean_kept),
        "m2_unmasked": _where(pl.Series(n_kept > 0), m2_kept),
    }


def _mean_and_m2(deviation: Floats, weight: Floats, spans: Spans) -> tuple[Floats, Floats]:
    """Mean and sum of squared deviations per span by the corrected two-pass algorithm (Chan et al. 1983)."""
    total = np.maximum(spans.total(weight), 1.0)
    mean = spans.total(deviation * weight) / total
    about = (deviation - np.repeat(mean, spans.sizes)) * weight
    return mean, np.maximum(spans.total(about * about) - spans.total(about) ** 2 / total, 0.0)


def _where(condition: pl.Series, values: Floats) -> pl.Series:
    return pl.select(pl.when(condition).then(pl.Series(values))).to_series()
