"""Counted subgroups: what was inspected and what was found, from the production counts of a plant."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.spc import SPC_COUNT_SUBGROUPS
from spc_platform.site.model import Site
from spc_platform.spc.sequence import CHART

_COUNTED: dict[str, tuple[str, ...]] = {
    "scrap": ("scrap_quantity",),
    "rework": ("rework_quantity",),
    "nonconforming": ("scrap_quantity", "rework_quantity"),
}


def form_count_subgroups(production_count: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Subgroups of the site's attribute charts from PRODUCTION_COUNT of one or more dates: SPC_COUNT_SUBGROUPS.

    A characteristic with ``counted`` (scrap, rework, nonconforming) and subgrouping ``shift`` has one subgroup per shift of its
    work unit: ``size`` parts made, ``count`` of them counted. With subgrouping ``event`` each record with a counted part ends a
    subgroup that began after the record before it with one, within the production date: of a g chart all parts made since,
    of a t chart ``size`` hours (the first event of a date has no time before it). What follows the last event of a date
    belongs to no subgroup. Shifts without parts have none.
    """
    charts = (
        site["characteristics"]
        .filter(pl.col("counted").is_in(list(_COUNTED)))
        .select(*CHART, "chart", "counted", "subgrouping")
    )
    made = pl.col("good_quantity") + pl.col("scrap_quantity") + pl.col("rework_quantity")
    found = pl.coalesce(
        pl.when(pl.col("counted") == name).then(pl.sum_horizontal(columns)) for name, columns in _COUNTED.items()
    )
    rows = production_count.join(charts, on="equipment_id").with_columns(_made=made, _found=found)
    rows = rows.sort(*CHART, "counted_at", "source_id", "record_id")
    subgroups = pl.concat([_by_shift(rows.filter(pl.col("subgrouping") == "shift")), _by_event(rows)])
    return SPC_COUNT_SUBGROUPS.conform(subgroups)


def _by_shift(rows: pl.DataFrame) -> pl.DataFrame:
    grouped = rows.group_by(*CHART, "production_date", "shift_id", maintain_order=True).agg(
        subgroup_at=pl.col("counted_at").min(),
        subgroup_end_at=pl.col("counted_at").max(),
        job_order_id=pl.col("job_order_id").first(),
        n_observed=pl.col("_made").sum(),
        count=pl.col("_found").sum().cast(pl.Float64),
        size=pl.col("_made").sum().cast(pl.Float64),
    )
    key = pl.concat_str(*CHART, "production_date", pl.col("shift_id").fill_null("none"), separator="|")
    return _in_order(grouped.filter(pl.col("n_observed") > 0).with_columns(subgroup_id=key))


def _by_event(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per record with a counted part: what was made, or on a t chart the time, since the record before it with one."""
    day = [*CHART, "production_date"]
    events = rows.filter(pl.col("subgrouping") == "event").with_columns(
        _good=(pl.col("_made") - pl.col("_found")).cum_sum().over(day)
    )
    events = events.filter(pl.col("_found") > 0).with_columns(
        between=pl.col("_good") - pl.col("_good").shift(fill_value=0).over(day),
        hours=(pl.col("counted_at") - pl.col("counted_at").shift().over(day)).dt.total_microseconds() / 3.6e9,
    )
    is_time = pl.col("chart") == "t"
    made = pl.col("between") + pl.col("_found")
    return _in_order(
        events.filter(~is_time | (pl.col("hours") > 0)).with_columns(
            subgroup_id=pl.concat_str(*CHART, pl.concat_str("source_id", "record_id", separator=":"), separator="|"),
            subgroup_at=pl.col("counted_at"),
            subgroup_end_at=pl.col("counted_at"),
            n_observed=made,
            count=pl.col("_found").cast(pl.Float64),
            size=pl.when(is_time).then("hours").otherwise(made.cast(pl.Float64)),
        )
    )


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(SPC_COUNT_SUBGROUPS.names)


def samples(subgroups: pl.DataFrame, counts: pl.DataFrame, site: Site) -> pl.DataFrame:
    """SPC_SUBGROUPS and SPC_COUNT_SUBGROUPS as one frame of samples for limits and judgement.

    A counted subgroup has count, size and, as ``mean``, the share that was counted, or between events the number of parts
    (g chart) or the hours (t chart) between two; nothing is masked, and its other statistics of values are null.
    """
    if counts.is_empty():
        return subgroups
    events = site["characteristics"].filter(pl.col("subgrouping") == "event").select(*CHART, _between="chart")
    found, size = pl.col("count"), pl.col("size")
    counted = counts.join(events, on=CHART, how="left", maintain_order="left").with_columns(
        mean=pl.when(pl.col("_between") == "t")
        .then(size)
        .when(pl.col("_between") == "g")
        .then(size - found)
        .when(size > 0)
        .then(found / size),
        n_masked=pl.lit(0, dtype=pl.Int64),
        specification_version=pl.lit(None, dtype=pl.Int64),
    )
    return pl.concat([subgroups, counted.drop("_between")], how="diagonal_relaxed")
