"""OEE of lines, areas, sites, days and weeks: elements are summed and the ratios derived anew.

No ratio is ever averaged: every row goes through ``oee_ratios``, the same function that the live figure, the
marts and the command line use. What happened to parts sent to rework comes from segment events, because a
count of produced parts cannot know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import product

import polars as pl

from spc_platform.contracts.performance import OEE_ROLLUP, PERIODS, SCOPES
from spc_platform.contracts.site import EQUIPMENT_LEVELS
from spc_platform.errors import ContractError
from spc_platform.production.calendar import assign_shift, shift_calendar
from spc_platform.production.oee import oee_ratios
from spc_platform.site.model import Site

CELL = ["equipment_id", "production_date", "shift_id", "material_definition_id"]
"""What one row of oee_elements stands for."""
_EVENT = [
    "item_id",
    "segment_id",
    "event_type",
    "occurred_at",
    "quantity",
    "equipment_id",
    "material_definition_id",
    "item_kind",
]
_OUTCOMES = ("finished", "scrapped", "sent_to_rework")


def oee_rollup(
    elements: pl.DataFrame,
    site: Site,
    reworked: pl.DataFrame | None = None,
    *,
    levels: Sequence[str] = EQUIPMENT_LEVELS,
    periods: Sequence[str] = PERIODS,
    scopes: Sequence[str] = SCOPES,
) -> pl.DataFrame:
    """Sum OEE_ELEMENTS for each equipment level, period and scope that is asked for: OEE_ROLLUP.

    ``elements`` may span any production dates; a week is the ISO week of the production date and holds the
    dates that are given, so Monday to today is the week to date. Scope ``all`` sums every product, scope
    ``product`` keeps them apart (the row without a product is time without an order). ``reworked`` is the
    frame of ``reworked_good``: with it, and wherever nothing was sent to rework, ``final_yield`` is
    (GQ + reworked good) / PQ; otherwise it is null and ``reason`` says REWORK_OUTCOME_UNKNOWN. Other reasons
    are those of ``oee_ratios``. A work unit without a line, area or site above it is missing at that level.
    Raises ContractError SPC-625 on rows that would be counted twice or belong to no work unit of the site.
    """
    _refuse_doubtful(elements, site)
    ready = _with_rework(elements, reworked).join(_levels(site), on="equipment_id").with_columns(_period_columns())
    frames = [_summed(ready, level, period, scope) for level, period, scope in product(levels, periods, scopes)]
    return OEE_ROLLUP.conform(pl.concat(frames, how="diagonal")) if frames else OEE_ROLLUP.empty()


def reworked_good(segment_event: pl.DataFrame, site: Site, material_link: pl.DataFrame | None = None) -> pl.DataFrame:
    """Count the parts that were sent to rework and found good afterwards, where and when they had been sent there.

    ``segment_event`` holds the columns of SEGMENT_EVENT_PAYLOAD, ``material_link`` those of MATERIAL_LINK_PAYLOAD.
    Parts are sent by an event ``sent_to_rework``, or by a link of type ``reworked`` that gives them another name
    (told in both ways at one instant, the link speaks). They were good in the end when the next outcome of the
    item at the same segment is ``finished``, neither ``scrapped`` nor sent again; of a lot, other parts of which
    may be scrapped meanwhile, scrap decides only when nothing of it is ever finished there. An item that
    never comes back to the segment is judged by its next outcome at any. At most what was sent counts.

    Gives equipment_id, production_date, shift_id, material_definition_id and reworked_good (whole parts): the
    cell in which the parts were sent to rework, so a final yield judges the parts of its own shift. Items still
    in rework are not good yet; what has no equipment or lies outside all shifts has no cell and is left out. An
    event that names no product takes its item's.
    """
    product = pl.col("material_definition_id")
    named = segment_event.with_columns(product.fill_null(product.drop_nulls().min().over("item_id")))
    outcomes = named.select(_EVENT).filter(pl.col("event_type").is_in(_OUTCOMES)).unique().sort(_EVENT)
    sent = outcomes.filter(pl.col("event_type") == "sent_to_rework")
    if material_link is not None:
        sent = _with_renamed(sent, named, material_link)
    numbered = sent.sort(_EVENT).with_row_index("_sent")
    later = outcomes.select("item_id", "segment_id", "item_kind", _at="occurred_at", _type="event_type", _quantity="quantity")
    lasting = later.filter((pl.col("item_kind") == "serial") | (pl.col("_type") != "scrapped"))
    asked = ((lasting, ["item_id", "segment_id"]), (later, ["item_id", "segment_id"]), (lasting, ["item_id"]))
    answers = [_next_outcome(numbered, events, by) for events, by in asked]
    judged = numbered.with_columns(
        pl.select(pl.coalesce(answer[name] for answer in answers).alias(name)).to_series() for name in ("_type", "_quantity")
    )
    good = judged.filter((pl.col("_type") == "finished") & pl.col("equipment_id").is_not_null()).with_columns(
        production_date=site.production_date(pl.col("occurred_at"))
    )
    return (
        _place(good, site)
        .filter(pl.col("shift_id").is_not_null())
        .group_by(CELL)
        .agg(reworked_good=pl.min_horizontal("quantity", "_quantity").sum().round().cast(pl.Int64))
        .sort(CELL, nulls_last=True)
    )


def _with_renamed(sent: pl.DataFrame, events: pl.DataFrame, material_link: pl.DataFrame) -> pl.DataFrame:
    """Events of parts sent to rework, with those that links of type reworked tell of under a new name."""
    made = events.group_by("item_id").agg(pl.col("material_definition_id").min(), pl.col("item_kind").min())
    renamed = material_link.filter(
        (pl.col("link_type") == "reworked") & (pl.col("parent_id") != pl.col("child_id")) & pl.col("quantity").is_not_null()
    )
    links = renamed.join(made, left_on="child_id", right_on="item_id").select(
        "item_kind",
        "occurred_at",
        "quantity",
        "equipment_id",
        "material_definition_id",
        item_id="child_id",
        segment_id=pl.lit(None, dtype=pl.String),
        event_type=pl.lit("sent_to_rework"),
    )
    told = renamed.select("equipment_id", "occurred_at", item_id="parent_id")
    alone = sent.join(told, on=["item_id", "equipment_id", "occurred_at"], how="anti")
    return pl.concat([alone, links.select(sent.columns).unique()])


def _next_outcome(sent: pl.DataFrame, later: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Find for each sent item the first outcome after it among the same ``by``, in the order of ``_sent``."""
    return (
        sent.select("_sent", *by, "occurred_at")
        .sort("occurred_at", "_sent")
        .join_asof(
            later.select(*by, "_at", "_type", "_quantity").sort("_at", "_type", "_quantity"),
            left_on="occurred_at",
            right_on="_at",
            by=by,
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .sort("_sent")
    )


def _place(events: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Add the shift of ``occurred_at`` and its date; a decision on a border belongs to the shift that ends, as counts do."""
    if events.is_empty():
        return events.with_columns(shift_id=pl.lit(None, dtype=pl.String))
    first, last = pl.select(events["production_date"].min()).item(), pl.select(events["production_date"].max()).item()
    calendar = shift_calendar(site, first - timedelta(days=1), last)
    begins = assign_shift(events, "occurred_at", calendar)
    before = events.with_columns(pl.col("occurred_at") - pl.duration(microseconds=1))
    ends = assign_shift(before, "occurred_at", calendar).select(
        "_sent", _ends="shift_id", _date=site.production_date(pl.col("occurred_at"))
    )
    ended = pl.col("_ends").is_not_null()
    return begins.join(ends, on="_sent", how="left").with_columns(
        shift_id=pl.coalesce("_ends", "shift_id"),
        production_date=pl.when(ended).then("_date").otherwise("production_date"),
    )


def _refuse_doubtful(elements: pl.DataFrame, site: Site) -> None:
    twice = elements.filter(pl.struct(CELL).is_duplicated())
    if twice.height:
        row = twice.sort(CELL, nulls_last=True).row(0, named=True)
        raise ContractError(
            f"oee_elements: {twice.height} rows share their key with another, first equipment_id={row['equipment_id']}, "
            f"production_date={row['production_date']}, shift_id={row['shift_id']}, product={row['material_definition_id']}; "
            "sums would count them twice: pass each production date once",
            code="SPC-625",
        )
    strange = elements.join(site.work_centers(), on="equipment_id", how="anti")
    if strange.height:
        raise ContractError(
            f"oee_elements: {strange.height} rows of {strange['equipment_id'].min()!r}, which is no work unit of site "
            f"{site.site_id}; sums of the site would leave them out: add it to equipment.csv",
            code="SPC-625",
        )


def _with_rework(elements: pl.DataFrame, reworked: pl.DataFrame | None) -> pl.DataFrame:
    """Elements with ``reworked_good``, null where parts were sent to rework and nobody asked what became of them."""
    if reworked is None:
        known = pl.when(pl.col("rq") == 0).then(pl.lit(0, dtype=pl.Int64))
        return elements.with_columns(reworked_good=known)
    found = reworked.select(*CELL, "reworked_good")
    joined = elements.join(found, on=CELL, how="left")
    return joined.with_columns(reworked_good=pl.min_horizontal(pl.col("reworked_good").fill_null(0), "rq"))


def _levels(site: Site) -> pl.DataFrame:
    """equipment_id of each work unit with the equipment of every level above it, in columns named ``_<level>``."""
    equipment = site["equipment"].select("equipment_id", "equipment_level", "parent_equipment_id")
    units = equipment.filter(pl.col("equipment_level") == "work_unit").select("equipment_id", _above="equipment_id")
    found = units.select("equipment_id", _level=pl.lit("work_unit"), _node="equipment_id")
    parents = equipment.select(_above="equipment_id", _parent="parent_equipment_id", _level="equipment_level")
    for _ in EQUIPMENT_LEVELS:
        step = units.join(parents, on="_above")
        found = pl.concat([found, step.select("equipment_id", "_level", _node="_above")])
        units = step.select("equipment_id", _above="_parent").drop_nulls()
    nodes = found.unique()
    return (
        nodes.select("equipment_id")
        .unique()
        .join(
            nodes.pivot("_level", index="equipment_id", values="_node", aggregate_function="min").rename(
                {level: f"_{level}" for level in nodes["_level"].unique()}
            ),
            on="equipment_id",
        )
    )


def _period_columns() -> list[pl.Expr]:
    at = pl.col("production_date")
    return [at.alias("_day"), (at - pl.duration(days=at.dt.weekday() - 1)).cast(pl.Date).alias("_week")]


def _summed(ready: pl.DataFrame, level: str, period: str, scope: str) -> pl.DataFrame:
    """One grouping set: sums, ratios, final yield and what the row stands for."""
    node = f"_{level}"
    if node not in ready.columns:
        return OEE_ROLLUP.empty()
    start = "_week" if period == "week" else "_day"
    finer = {"shift_id": period == "shift", "material_definition_id": scope == "product"}
    keys = [node, start, *(name for name, wanted in finer.items() if wanted)]
    rows = ready.filter(pl.col(node).is_not_null())
    extra = rows.group_by(keys).agg(
        reworked_good=pl.when(pl.col("reworked_good").is_not_null().all()).then(pl.col("reworked_good").sum()),
        data_quality=pl.col("data_quality").drop_nulls().str.split(";").explode().unique().sort().str.join(";"),
        as_of=pl.col("as_of").max(),
        production_date=pl.col("production_date").max(),
    )
    added = oee_ratios(rows, keys).join(extra, on=keys, nulls_equal=True)
    unknown = (pl.col("pq") > 0) & pl.col("reworked_good").is_null()
    final = pl.when(pl.col("pq") > 0).then((pl.col("gq") + pl.col("reworked_good")) / pl.col("pq"))
    absent = pl.lit(None, dtype=pl.String)
    return added.with_columns(
        equipment_level=pl.lit(level),
        equipment_id=pl.col(node),
        period=pl.lit(period),
        period_start=pl.col(start),
        iso_week=pl.col(start).dt.strftime("%G-W%V"),
        shift_id=pl.col("shift_id") if period == "shift" else absent,
        scope=pl.lit(scope),
        material_definition_id=pl.col("material_definition_id") if scope == "product" else absent,
        final_yield=final,
        data_quality=pl.when(pl.col("data_quality") != "").then("data_quality"),
        reason=_joined("reason", pl.when(unknown).then(pl.lit("REWORK_OUTCOME_UNKNOWN"))),
    ).select(OEE_ROLLUP.names)


def _joined(column: str, code: pl.Expr) -> pl.Expr:
    both = pl.concat_str([pl.col(column), code], separator=";", ignore_nulls=True)
    return pl.when(both != "").then(both)
