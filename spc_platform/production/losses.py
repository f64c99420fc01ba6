"""Where planned busy time went: the six big losses, the stops behind them, changeovers and lost parts.

The six losses (Nakajima) and the value-adding time share out the planned busy time, beside time without an
order and time that nobody recorded, which are no loss of the equipment:

    PBT - value-adding = failures + setup + minor stops + reduced speed + defects + reduced yield + no order + unknown

exactly, because each piece of time and each part has one category. How a stop is sorted:

* a delay whose whole event is below the policy's micro stop is a minor stop, whatever its reason says, so
  the sum is the ``minor_stop_s`` of the elements and TPM performance agrees with it;
* any other delay or setup goes to equipment failure or setup and adjustment by its reason's category, and
  without such a category by its element: ADET is failure, AUST is setup. Both are losses of availability.

A scrapped or reworked part costs its ideal time: reduced yield where its reason says so (start-up), else a
process defect. Reduced speed (rate loss) is what remains of production time, APT - ΣPRI·PQ; it is negative where
parts were made faster than the ideal cycle, which the elements flag.

Sums run in whole microseconds. The ideal time of parts is one too for every ideal cycle that is stated to
the microsecond; another (10/3 s) is carried as a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from spc_platform.contracts.performance import CHANGEOVER, LOSS_SYNONYMS, OEE_LOSS, SCRAP_REASON, SIX_LOSSES
from spc_platform.errors import ContractError
from spc_platform.production.calendar import shift_calendar
from spc_platform.production.intervals import US_PER_S, in_seconds
from spc_platform.production.oee import placed_counts
from spc_platform.site.model import Site

_CELL = ["equipment_id", "production_date", "shift_id", "material_definition_id"]
_LOSS_CLASSES = ("micro_stop", "breakdown", "setup")
"""Stop classes that cost planned busy time; planned stops and time without an order cost none."""
_SNAP_US = 1e-3
"""A sum this near to a whole microsecond is one: what float seconds carry of it is far less."""
ADDS_UP_WITHIN_S = 1e-6
LOSS_COLUMNS = tuple(f"{loss}_s" for loss in (*SIX_LOSSES, "no_order", "unknown"))
"""Columns of OEE_LOSS that add up to ``pbt_s - value_adding_s``."""


def reason_losses(site: Site) -> pl.DataFrame:
    """Give each reason of the site its big loss: reason_code, loss (one of SIX_LOSSES, or null).

    Case, blanks and hyphens do not matter, and the synonyms of ``LOSS_SYNONYMS`` are understood. A category
    that is none of the six is null here, so the stop's own class decides; ``unmapped_reasons`` lists them.
    """
    name = pl.col("loss_category").str.strip_chars().str.to_lowercase().str.replace_all(r"[\s\-]+", "_").replace(LOSS_SYNONYMS)
    return site["reasons"].select("reason_code", loss=pl.when(name.is_in(SIX_LOSSES)).then(name))


def unmapped_reasons(site: Site) -> pl.DataFrame:
    """List the reasons whose loss_category is none of the six big losses: reason_code, loss_category."""
    unknown = reason_losses(site).filter(pl.col("loss").is_null()).select("reason_code")
    named = site["reasons"].select("reason_code", "loss_category").drop_nulls()
    return named.join(unknown, on="reason_code").sort("reason_code")


def scrap_reasons(
    production_count: pl.DataFrame, elements: pl.DataFrame, site: Site, production_date: date, as_of: datetime
) -> pl.DataFrame:
    """Sum the scrapped and reworked parts of a production date by reason: SCRAP_REASON.

    Counts belong to shifts as ``oee_elements`` says, and ``elements`` is its frame: it gives the ideal cycle.
    ``loss_category`` is reduced_yield where the reason says so, else process_defects.
    """
    calendar = shift_calendar(site, production_date, production_date)
    placed = placed_counts(production_count, site, production_date, as_of, calendar).drop("work_center_id", strict=False)
    lost = pl.col("scrap_quantity") + pl.col("rework_quantity")
    cycles = elements.select(*_CELL, "pri_s").filter(pl.col("production_date") == production_date)
    return SCRAP_REASON.conform(
        placed.filter(pl.col("shift_id").is_not_null() & (lost > 0))
        .join(site.work_centers(), on="equipment_id")
        .group_by("equipment_id", "work_center_id", "shift_id", "material_definition_id", "reason_code")
        .agg(pl.col("scrap_quantity", "rework_quantity").sum())
        .with_columns(production_date=pl.lit(production_date, dtype=pl.Date))
        .join(reason_losses(site), on="reason_code", how="left")
        .join(cycles, on=_CELL, how="left")
        .with_columns(
            loss_category=pl.when(pl.col("loss") == "reduced_yield").then("loss").otherwise(pl.lit("process_defects")),
            ideal_s=_ideal_us(lost) / US_PER_S,
        )
    )


def oee_losses(elements: pl.DataFrame, intervals: pl.DataFrame, scrap: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Share out the planned busy time of each work unit, shift and product into the six big losses: OEE_LOSS.

    ``elements`` is an OEE_ELEMENTS frame of any production dates, ``intervals`` the STATE_INTERVAL frame and
    ``scrap`` the SCRAP_REASON frame of the same dates. What depends on an ideal cycle is null where parts
    were made without one. Raises ContractError SPC-626 when intervals or scrap are not those of the elements:
    the parts would then not add up to the whole.
    """
    joined = elements.join(_stop_times(intervals, site), on=_CELL, how="left", nulls_equal=True).join(
        _yield_parts(scrap), on=_CELL, how="left", nulls_equal=True
    )
    filled = joined.with_columns(pl.col("_failure", "_setup", "_minor", "_yield", "_lost").fill_null(0))
    _refuse_mismatch(filled)
    value_adding, speed = _ideal_us(pl.col("gq")), _us("apt_s") - _ideal_us(pl.col("pq"))
    defects = pl.col("sq") + pl.col("rq") - pl.col("_yield")
    return OEE_LOSS.conform(
        filled.with_columns(
            equipment_failure_s=in_seconds(pl.col("_failure")),
            setup_and_adjustment_s=in_seconds(pl.col("_setup")),
            idling_and_minor_stops_s=in_seconds(pl.col("_minor")),
            reduced_speed_s=speed / US_PER_S,
            process_defects_s=_ideal_us(defects) / US_PER_S,
            reduced_yield_s=_ideal_us(pl.col("_yield")) / US_PER_S,
            no_order_s="adot_s",
            value_adding_s=value_adding / US_PER_S,
        )
    )


def not_adding_up(losses: pl.DataFrame, elements: pl.DataFrame) -> pl.DataFrame:
    """Rows of OEE_LOSS whose parts differ from planned busy time by more than a microsecond.

    Where no ideal cycle splits the production time (APT of ``elements``, the frame of the same rows), it counts as a whole.
    """
    split = ["reduced_speed_s", "process_defects_s", "reduced_yield_s", "value_adding_s"]
    others = [name for name in LOSS_COLUMNS if name not in split]
    running = pl.when(pl.all_horizontal(pl.col(split).is_not_null())).then(pl.sum_horizontal(split)).otherwise("apt_s")
    joined = losses.join(elements.select(*_CELL, "apt_s"), on=_CELL, how="left", nulls_equal=True, maintain_order="left")
    off = (pl.sum_horizontal(others) + running - pl.col("pbt_s")).abs() > ADDS_UP_WITHIN_S
    return joined.filter(off.fill_null(value=True)).drop("apt_s")


def six_losses(losses: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Sum OEE_LOSS over the groups ``by``: its seconds, and ``<loss>_share``, each loss in shares of PBT.

    A sum is null where one of its rows is (a product without ideal cycle); shares are null where PBT is 0.
    """
    names = ["pbt_s", *LOSS_COLUMNS, "value_adding_s"]
    summed = (
        losses.sort(OEE_LOSS.sort, nulls_last=True)
        .group_by(list(by) or pl.lit(value=True).alias("_all"), maintain_order=True)
        .agg(pl.when(pl.col(name).is_not_null().all()).then(_us(name).sum() / US_PER_S).alias(name) for name in names)
    )
    shares = [
        pl.when(pl.col("pbt_s") > 0).then(pl.col(name) / pl.col("pbt_s")).alias(f"{name.removesuffix('_s')}_share")
        for name in LOSS_COLUMNS
    ]
    return summed.with_columns(shares).drop("_all", strict=False).sort(list(by), nulls_last=True)


def latest_events(downtime: pl.DataFrame) -> pl.DataFrame:
    """Keep each stop of DOWNTIME_EVENT once, as last known: a stop seen open and later ended is one event."""
    order = ["equipment_id", "event_id", "as_of", "end_at", "production_date"]
    return downtime.sort(order, nulls_last=True).unique(["equipment_id", "event_id"], keep="last", maintain_order=True)


def downtime_pareto(downtime: pl.DataFrame, by: Sequence[str] = ("reason_code",), within: Sequence[str] = ()) -> pl.DataFrame:
    """Rank what stops production by the time it takes, largest first.

    ``downtime`` is a DOWNTIME_EVENT frame, ``by`` what is ranked (reason_code, equipment_id, loss_category …),
    ``within`` the groups that have a ranking of their own. Planned stops and time without an order are no
    losses and are left out; a stop counts once. Columns: ``within``, ``by``, ``pareto_rank`` (from 1),
    ``n_stops``, ``n_micro_stops``, ``n_open``, ``duration_s``, ``mean_stop_s``, ``longest_stop_s``, ``share`` and
    ``cumulative_share`` of the duration in the group. Ties are ranked by ``by``.
    """
    stops = latest_events(downtime).filter(pl.col("stop_class").is_in(_LOSS_CLASSES))
    keys = [*within, *by]
    groups: list[pl.Expr] = [pl.col(name) for name in within] or [pl.lit(1)]
    duration = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()
    summed = (
        stops.group_by(keys)
        .agg(
            n_stops=pl.len().cast(pl.Int64),
            n_micro_stops=(pl.col("stop_class") == "micro_stop").sum().cast(pl.Int64),
            n_open=pl.col("is_open").sum().cast(pl.Int64),
            _us=duration.sum(),
            longest_stop_s=in_seconds(duration.max()),
        )
        .sort(*within, "_us", *by, descending=[*[False] * len(within), True, *[False] * len(by)], nulls_last=True)
    )
    total = pl.col("_us").sum().over(groups)
    return summed.select(
        *keys,
        pareto_rank=pl.int_range(1, pl.len() + 1).over(groups),
        n_stops="n_stops",
        n_micro_stops="n_micro_stops",
        n_open="n_open",
        duration_s=in_seconds(pl.col("_us")),
        mean_stop_s=pl.col("_us") / pl.col("n_stops") / US_PER_S,
        longest_stop_s="longest_stop_s",
        share=pl.when(total > 0).then(pl.col("_us") / total),
        cumulative_share=pl.when(total > 0).then(pl.col("_us").cum_sum().over(groups) / total),
    )


def changeovers(intervals: pl.DataFrame) -> pl.DataFrame:
    """List the changes from one product to another, from the last part of the old to the first of the new: CHANGEOVER.

    ``intervals`` is a STATE_INTERVAL frame; pass the dates after the one of interest too, for a change may end
    on a later date. It carries the shift and date in which the old product ended. ``setup_s`` counts the AUST
    within it whatever else happened, ``duration_s`` all planned busy time; breaks and closed hours are not
    in it. A change without setup time is listed with 0. A last product that nothing follows is no change.
    """
    span = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()
    element, unit = pl.col("time_element"), "equipment_id"
    timed = intervals.sort(unit, "start_at").with_columns(
        _setup=pl.when(element == "AUST").then(span).otherwise(0).cum_sum().over(unit),
        _busy=pl.when(element != "PDT").then(span).otherwise(0).cum_sum().over(unit),
        _own=span,
    )
    made = timed.filter((element == "APT") & pl.col("material_definition_id").is_not_null())
    following = made.with_columns(
        to_material_definition_id=pl.col("material_definition_id").shift(-1).over(unit),
        _next=pl.col("start_at").shift(-1).over(unit),
        setup_s=in_seconds(pl.col("_setup").shift(-1).over(unit) - pl.col("_setup")),
        duration_s=in_seconds((pl.col("_busy") - pl.col("_own")).shift(-1).over(unit) - pl.col("_busy")),
    )
    return CHANGEOVER.conform(
        following.filter(pl.col("to_material_definition_id") != pl.col("material_definition_id")).with_columns(
            from_material_definition_id="material_definition_id", start_at="end_at", end_at="_next"
        )
    )


def _us(column: str) -> pl.Expr:
    """Seconds as microseconds, whole where they are whole."""
    exact = pl.col(column) * US_PER_S
    return pl.when((exact - exact.round()).abs() < _SNAP_US).then(exact.round()).otherwise(exact)


def _ideal_us(parts: pl.Expr) -> pl.Expr:
    """Ideal time of parts in microseconds; 0 for no parts, null without an ideal cycle."""
    return pl.when(parts == 0).then(0.0).otherwise(_us("pri_s") * parts)


def _stop_times(intervals: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Microseconds of failure, setup and minor stops per cell, with the delay and setup that they share out."""
    span = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()
    element, loss = pl.col("time_element"), pl.col("loss")
    minor = (element == "ADET") & (pl.col("stop_class") == "micro_stop")
    by_element = pl.when(element == "AUST").then(pl.lit("setup_and_adjustment")).otherwise(pl.lit("equipment_failure"))
    availability = pl.when(loss.is_in(SIX_LOSSES[:2])).then(loss).otherwise(by_element)
    stops = (
        intervals.filter(element.is_in(["ADET", "AUST"]))
        .join(reason_losses(site), on="reason_code", how="left")
        .with_columns(_span=span, _loss=pl.when(minor).then(pl.lit("minor")).otherwise(availability))
    )
    return stops.group_by(_CELL).agg(
        _failure=pl.col("_span").filter(pl.col("_loss") == "equipment_failure").sum(),
        _setup=pl.col("_span").filter(pl.col("_loss") == "setup_and_adjustment").sum(),
        _minor=pl.col("_span").filter(pl.col("_loss") == "minor").sum(),
    )


def _yield_parts(scrap: pl.DataFrame) -> pl.DataFrame:
    lost = pl.col("scrap_quantity") + pl.col("rework_quantity")
    return scrap.group_by(_CELL).agg(_yield=lost.filter(pl.col("loss_category") == "reduced_yield").sum(), _lost=lost.sum())


def _refuse_mismatch(filled: pl.DataFrame) -> None:
    stopped = pl.col("_failure") + pl.col("_setup") + pl.col("_minor")
    wrong = filled.filter(
        (stopped != _us("adet_s") + _us("aust_s"))
        | (pl.col("_minor") != _us("minor_stop_s"))
        | (pl.col("_lost") != pl.col("sq") + pl.col("rq"))
    )
    if wrong.height:
        row = wrong.sort(_CELL, nulls_last=True).row(0, named=True)
        raise ContractError(
            f"oee_losses: state intervals or scrap reasons disagree with {wrong.height} rows of oee_elements, first "
            f"equipment_id={row['equipment_id']}, production_date={row['production_date']}, shift_id={row['shift_id']} "
            f"(delay and setup {row['adet_s'] + row['aust_s']} s, scrap and rework {row['sq'] + row['rq']}); "
            "pass those of the same dates and as_of",
            code="SPC-626",
        )
