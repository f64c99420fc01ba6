"""OEE: seconds and counts are stored, ratios are derived from their sums (ISO 22400-2; Nakajima's TPM beside it).

Both readings give the same OEE. ISO counts minor stoppages as lost availability, TPM as lost performance.
Ratios of lines, weeks and products come from summed elements, never from averaged ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from spc_platform.contracts.production import OEE_ELEMENTS
from spc_platform.contracts.table import UTC
from spc_platform.production.calendar import assign_shift, shift_calendar
from spc_platform.production.intervals import US_PER_S, in_seconds, seconds
from spc_platform.site.model import Site

EXCESS = 1e-9
"""Relative excess of ideal over actual time that is still rounding of the ideal cycle, not a wrong one."""

_TICK = pl.duration(microseconds=1)
_CELL = ["equipment_id", "work_center_id", "shift_id", "material_definition_id"]
_ELEMENT_COLUMNS = {
    "PDT": "pdt_s",
    "APT": "apt_s",
    "AUST": "aust_s",
    "ADET": "adet_s",
    "ADOT": "adot_s",
    "UNKNOWN": "unknown_s",
}
_SECONDS = ("pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s")
_IDEAL = ("ideal_pq_s", "ideal_gq_s")
_COUNTS = ("pq", "gq", "sq", "rq")


def oee_elements(
    intervals: pl.DataFrame, production_count: pl.DataFrame, site: Site, production_date: date, as_of: datetime
) -> pl.DataFrame:
    """Sum seconds and counts per work unit, shift and product of a production date: OEE_ELEMENTS.

    ``intervals`` is the STATE_INTERVAL frame of the date, ``production_count`` the core table with the
    rows of the date and of the date after it (others are ignored, counts after ``as_of`` too). A count
    tells of parts finished up to its instant, so on the border of two shifts it belongs to the one that
    ends, also where the border is that of two dates. Parts counted outside
    all shifts have no operation time to be set against: they are left out here and listed by
    ``counts_outside_shifts``. ``pri_s`` is the ideal cycle in force when the shift starts, else the first
    that comes into force during it. data_quality: COUNT_WITHOUT_RUN, NO_IDEAL_CYCLE, UNKNOWN_TIME,
    SUSPECT_IDEAL_CYCLE.
    """
    calendar = shift_calendar(site, production_date, production_date)
    times = _times(intervals.filter(pl.col("production_date") == production_date))
    counts = _quantities(placed_counts(production_count, site, production_date, as_of, calendar), site)
    cells = pl.concat([times, counts], how="diagonal").group_by(_CELL).agg(pl.col(*_SECONDS, *_COUNTS).sum())
    priced = _with_ideal_cycle(cells, site, calendar)
    return OEE_ELEMENTS.conform(
        priced.with_columns(
            data_quality=_data_quality(),
            as_of=pl.lit(as_of).cast(UTC),
            production_date=pl.lit(production_date, dtype=pl.Date),
        )
    )


def counts_outside_shifts(production_count: pl.DataFrame, site: Site, production_date: date, as_of: datetime) -> pl.DataFrame:
    """List the production counts of a date that no shift holds, in the columns of ``production_count``."""
    calendar = shift_calendar(site, production_date, production_date)
    placed = placed_counts(production_count, site, production_date, as_of, calendar)
    return placed.filter(pl.col("shift_id").is_null()).select(production_count.columns)


def oee_ratios(elements: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Sum OEE_ELEMENTS over the groups ``by`` and derive the ratios of ISO 22400-2 and of TPM from the sums.

    Columns: ``by``, the summed seconds and counts, ``ideal_pq_s`` = ΣPRI·PQ and ``ideal_gq_s`` = ΣPRI·GQ, then
    availability = APT/PBT, effectiveness = ΣPRI·PQ/APT, quality = ΣPRI·GQ/ΣPRI·PQ, oee = ΣPRI·GQ/PBT,
    nee = (APT+AUST)/PBT·E·Q, tpm_availability = (APT+minor)/PBT, tpm_performance = ΣPRI·PQ/(APT+minor),
    tpm_quality = quality; with ``aubt_s`` = APT+AUST+ADET technical_efficiency = APT/(APT+ADET),
    utilization_efficiency = APT/AUBT, allocation_efficiency = AUBT/PBT, setup_rate = AUST/(APT+AUST),
    throughput_per_h = 3600·PQ/AUBT, first_pass_yield = GQ/PQ, scrap_ratio = SQ/PQ, rework_ratio = RQ/PQ.
    Undefined ratios are null and ``reason`` says why, codes joined by ``;``:
    NO_BUSY_TIME (PBT = 0), COUNT_WITHOUT_RUN (APT = 0, PQ > 0), NOT_RUN (APT = 0, PQ = 0: OEE is 0),
    NOTHING_PRODUCED (PQ = 0: quality is null, OEE 0), NO_IDEAL_CYCLE (a product that was made has none).
    Effectiveness above 1 is kept and flagged ``suspect_ideal_cycle``. Without ``by`` there is one row.
    """
    made = pl.col("pq") > 0
    keys = list(by) or ["_all"]
    sums = (
        elements.sort("equipment_id", "production_date", "shift_id", "material_definition_id")
        .with_columns(
            ideal_pq_s=pl.when(made).then(pl.col("pri_s") * pl.col("pq")).otherwise(0.0),
            ideal_gq_s=pl.when(made).then(pl.col("pri_s") * pl.col("gq")).otherwise(0.0),
            _all=pl.lit(value=True),
        )
        .group_by(keys, maintain_order=True)
        .agg(
            *(in_seconds((pl.col(name) * US_PER_S).round().cast(pl.Int64).sum()).alias(name) for name in _SECONDS),
            pl.col(*_COUNTS).sum(),
            *(pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum()).alias(name) for name in _IDEAL),
        )
    )
    busy = sums.with_columns(aubt_s=_summed("apt_s", "aust_s", "adet_s"))
    return busy.with_columns(_ratios()).with_columns(_reason()).sort(keys, nulls_last=True).drop("_all", strict=False)


def _ratios() -> list[pl.Expr]:
    """Derive the ratios, null where a denominator is 0 or parts were made in no production time."""
    pbt, apt, pq = pl.col("pbt_s"), pl.col("apt_s"), pl.col("pq")
    ideal_pq, ideal_gq = pl.col("ideal_pq_s"), pl.col("ideal_gq_s")
    running = apt + pl.col("minor_stop_s")
    sensible = (apt > 0) | (pq == 0)
    effectiveness = pl.when(apt > 0).then(ideal_pq / apt)
    quality = pl.when(pq > 0).then(ideal_gq / ideal_pq)
    over_busy = pl.when((pbt > 0) & sensible)
    nee = pl.when(apt > 0).then((apt + pl.col("aust_s")) / pbt * (ideal_gq / apt)).otherwise(0.0)
    return [
        pl.when(pbt > 0).then(apt / pbt).alias("availability"),
        effectiveness.alias("effectiveness"),
        quality.alias("quality"),
        over_busy.then(ideal_gq / pbt).alias("oee"),
        over_busy.then(nee).alias("nee"),
        pl.when(pbt > 0).then(running / pbt).alias("tpm_availability"),
        pl.when((running > 0) & sensible).then(ideal_pq / running).alias("tpm_performance"),
        quality.alias("tpm_quality"),
        *(pl.when(below > 0).then(above / below).alias(name) for name, (above, below) in _PLAIN_RATIOS.items()),
        _exceeds(ideal_pq).alias("suspect_ideal_cycle"),
    ]


def _summed(*names: str) -> pl.Expr:
    """Sum columns of seconds as whole microseconds."""
    return in_seconds(pl.sum_horizontal((pl.col(name) * US_PER_S).round().cast(pl.Int64) for name in names))


_PLAIN_RATIOS = {
    "technical_efficiency": (pl.col("apt_s"), _summed("apt_s", "adet_s")),
    "utilization_efficiency": (pl.col("apt_s"), pl.col("aubt_s")),
    "allocation_efficiency": (pl.col("aubt_s"), pl.col("pbt_s")),
    "setup_rate": (pl.col("aust_s"), _summed("apt_s", "aust_s")),
    "throughput_per_h": (pl.col("pq") * 3600, pl.col("aubt_s")),
    "first_pass_yield": (pl.col("gq"), pl.col("pq")),
    "scrap_ratio": (pl.col("sq"), pl.col("pq")),
    "rework_ratio": (pl.col("rq"), pl.col("pq")),
}
"""Ratios of ISO 22400-2 that are null only where their denominator is 0: name -> (above, below)."""


def _exceeds(ideal: pl.Expr) -> pl.Expr:
    """Whether the ideal time of the parts exceeds the production time that there was."""
    apt = pl.col("apt_s")
    return ((apt > 0) & (ideal > apt * (1 + EXCESS))).fill_null(value=False)


def _codes(codes: dict[str, pl.Expr]) -> pl.Expr:
    joined = pl.concat_str(
        [pl.when(holds).then(pl.lit(code)) for code, holds in codes.items()], separator=";", ignore_nulls=True
    )
    return pl.when(joined != "").then(joined)


def _reason() -> pl.Expr:
    pq, idle = pl.col("pq"), pl.col("apt_s") == 0
    return _codes(
        {
            "NO_BUSY_TIME": pl.col("pbt_s") == 0,
            "COUNT_WITHOUT_RUN": idle & (pq > 0),
            "NOT_RUN": idle & (pq == 0),
            "NOTHING_PRODUCED": pq == 0,
            "NO_IDEAL_CYCLE": pl.col("ideal_pq_s").is_null(),
        }
    ).alias("reason")


def _data_quality() -> pl.Expr:
    pq, apt, pri = pl.col("pq"), pl.col("apt_s"), pl.col("pri_s")
    return _codes(
        {
            "COUNT_WITHOUT_RUN": (apt == 0) & (pq > 0),
            "NO_IDEAL_CYCLE": pri.is_null() & (pq > 0),
            "SUSPECT_IDEAL_CYCLE": _exceeds(pri * pq),
            "UNKNOWN_TIME": pl.col("unknown_s") > 0,
        }
    )


def _times(intervals: pl.DataFrame) -> pl.DataFrame:
    """Seconds of each element per cell, summed as whole microseconds."""
    span = pl.col("end_at") - pl.col("start_at")
    element = pl.col("time_element")
    minor = (element == "ADET") & (pl.col("stop_class") == "micro_stop")
    return intervals.group_by(_CELL).agg(
        seconds(span.sum()).alias("pot_s"),
        seconds(span.filter(element != "PDT").sum()).alias("pbt_s"),
        seconds(span.filter(minor).sum()).alias("minor_stop_s"),
        *(seconds(span.filter(element == code).sum()).alias(name) for code, name in _ELEMENT_COLUMNS.items()),
    )


def placed_counts(
    production_count: pl.DataFrame, site: Site, production_date: date, as_of: datetime, calendar: pl.DataFrame
) -> pl.DataFrame:
    """Give the counts of the date the shift that they belong to (``oee_elements`` says which), null outside all shifts.

    ``calendar`` is the SHIFT_CALENDAR frame of the date; counts after ``as_of`` are left out. A count at the very end
    of the date is one of its counts when a shift ends there, and else one of the date that begins.
    """
    at = pl.col("counted_at")
    begins, ends = site.production_date(at), site.production_date(at - _TICK)
    counts = production_count.filter(
        (at <= pl.lit(as_of).cast(UTC)) & ((begins == production_date) | (ends == production_date))
    ).with_columns(_begins=begins == production_date, _ends=ends == production_date)
    ending = _just_before(counts, calendar)
    eve = production_date - timedelta(days=1)
    of_the_eve = ~pl.col("_ends") & _just_before(counts, shift_calendar(site, eve, eve)).is_not_null()
    placed = assign_shift(counts, "counted_at", calendar).with_columns(shift_id=pl.coalesce(ending, "shift_id"))
    return placed.filter(pl.when("_begins").then(~of_the_eve).otherwise(ending.is_not_null())).drop("_begins", "_ends")


def _just_before(counts: pl.DataFrame, calendar: pl.DataFrame) -> pl.Series:
    """Shift that holds the last microsecond before each count."""
    return assign_shift(counts.with_columns(pl.col("counted_at") - _TICK), "counted_at", calendar)["shift_id"]


def _quantities(placed: pl.DataFrame, site: Site) -> pl.DataFrame:
    good, scrap, rework = (pl.col(f"{kind}_quantity") for kind in ("good", "scrap", "rework"))
    return (
        placed.drop("work_center_id", strict=False)
        .filter(pl.col("shift_id").is_not_null())
        .join(site.work_centers(), on="equipment_id")
        .group_by(_CELL)
        .agg(pq=(good + scrap + rework).sum(), gq=good.sum(), sq=scrap.sum(), rq=rework.sum())
    )


def _with_ideal_cycle(cells: pl.DataFrame, site: Site, calendar: pl.DataFrame) -> pl.DataFrame:
    """Cells with ``pri_s``, the first ideal cycle in force during the shift."""
    shifts = calendar.select("equipment_id", "shift_id", _from="start_at", _to="end_at")
    cycles = (
        cells.select("equipment_id", "shift_id", "material_definition_id")
        .join(shifts, on=["equipment_id", "shift_id"])
        .join(site["products"], on=["equipment_id", "material_definition_id"])
        .filter(
            (pl.col("effective_from") < pl.col("_to"))
            & (pl.col("effective_to").is_null() | (pl.col("effective_to") > pl.col("_from")))
        )
        .sort("effective_from")
        .group_by("equipment_id", "shift_id", "material_definition_id")
        .agg(pl.col("pri_s").first())
    )
    return cells.join(cycles, on=["equipment_id", "shift_id", "material_definition_id"], how="left")
