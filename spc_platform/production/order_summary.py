"""What a work order asked for and what became of it: the document that the ERP gets.

A document says nothing about when it was made, so the same figures are the same bytes and an unchanged order is
not sent again. Seconds and kilowatt hours are rounded to six decimals, since their last digits are float noise.
"""

from __future__ import annotations

from datetime import UTC as UTC_ZONE
from datetime import datetime
from typing import NamedTuple

import polars as pl

from spc_platform.contracts.order_summary import ORDER_SUMMARY, SUMMARY_VERSION
from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.table import UTC
from spc_platform.production.intervals import cover, cut, seconds
from spc_platform.production.work_orders import counting_points
from spc_platform.site.model import Site

DECIMALS = 6

_ORDER = "job_order_id"
_ELEMENTS = [name.lower() for name in sorted(TIME_ELEMENTS)]


class OrderRecords(NamedTuple):
    """What summaries are made from: core work_order, production_count and material_link, STATE_INTERVAL, ENERGY_INTERVAL."""

    orders: pl.DataFrame
    counts: pl.DataFrame
    links: pl.DataFrame
    states: pl.DataFrame
    energy: pl.DataFrame


def order_summaries(records: OrderRecords, site: Site) -> pl.DataFrame:
    """One canonical JSON document per work order: ORDER_SUMMARY.

    Quantities are those counted under the order at the last operation of its product's route (everywhere without a
    route). Time elements and energy are those of the work units of its lines while it was the order of the line: until
    its end, else until the next order begins; of two at once the later. An energy interval across the border of an
    order is shared by time. An order without a metered second has energy null. Consumed lots are the material links
    of type ``consumed`` that name the order; a lot with any unknown quantity has quantity null.
    """
    orders = records.orders.sort("start_at", "work_center_id", "source_id", "record_id")
    heads = orders.group_by(_ORDER).agg(
        material_definition_id=pl.col("material_definition_id").last(),
        work_center_ids=pl.col("work_center_id").unique().sort(),
        planned_quantity=pl.col("planned_quantity").max(),
        start_at=pl.col("start_at").min(),
        end_at=pl.when(pl.col("end_at").null_count() == 0).then(pl.col("end_at").max()),
    )
    joined = (
        heads.join(_quantities(records.counts, site), on=_ORDER, how="left")
        .join(_time_elements(records.states, _spans(orders, site)), on=_ORDER, how="left")
        .join(_energy(records.energy, _spans(orders, site)), on=_ORDER, how="left")
        .join(_consumed(records.links), on=_ORDER, how="left")
    )
    status = pl.when(pl.col("end_at").is_null()).then(pl.lit("running")).otherwise(pl.lit("ended"))
    documents = joined.with_columns(status=status).with_columns(document=_document(site.site_id).struct.json_encode())
    return ORDER_SUMMARY.conform(documents)


def _document(site_id: str) -> pl.Expr:
    quantities = {name: pl.col(f"{name}_quantity").fill_null(0) for name in ("good", "produced", "rework", "scrap")}
    elements = {name: pl.col(name).fill_null(0.0).round(DECIMALS) for name in _ELEMENTS}
    energy = {
        "estimated_kwh": pl.col("estimated_kwh").round(DECIMALS),
        "is_complete": pl.col("is_complete").fill_null(value=False),
        "kwh": pl.col("kwh").round(DECIMALS),
    }
    lot = pl.struct(lot_id=pl.lit("", pl.String), quantity=pl.lit(None, pl.Float64))
    fields = {
        "consumed_material_lots": pl.coalesce("consumed", pl.concat_list(lot).list.head(0)),
        "end_at": _instant("end_at"),
        "energy": _struct(energy),
        _ORDER: pl.col(_ORDER),
        "material_definition_id": pl.col("material_definition_id"),
        "planned_quantity": pl.col("planned_quantity"),
        "quantities": _struct(quantities),
        "schema_version": pl.lit(SUMMARY_VERSION),
        "site_id": pl.lit(site_id),
        "start_at": _instant("start_at"),
        "status": pl.col("status"),
        "time_elements_s": _struct(elements),
        "work_center_ids": pl.col("work_center_ids"),
    }
    return _struct(fields)


def _struct(fields: dict[str, pl.Expr]) -> pl.Expr:
    return pl.struct(*(fields[name].alias(name) for name in sorted(fields)))


def _instant(name: str) -> pl.Expr:
    return pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")


def _spans(orders: pl.DataFrame, site: Site) -> pl.DataFrame:
    """When each order was the order of a work unit; ``_order`` decides overlaps. An open one ends where the next begins."""
    begins = orders.select("work_center_id", "start_at").unique()
    begins = begins.with_columns(_next=pl.col("start_at").shift(-1).over("work_center_id", order_by="start_at"))
    end_of_time = pl.lit(None, dtype=UTC).fill_null(pl.datetime(9999, 1, 1, time_zone="UTC", time_unit="us"))
    return (
        orders.join(begins, on=["work_center_id", "start_at"], how="left")
        .with_columns(end_at=pl.coalesce("end_at", "_next", end_of_time))
        .filter(pl.col("end_at") > pl.col("start_at"))
        .join(site.work_centers(), on="work_center_id")
        .sort("start_at", _ORDER, "record_id", "source_id", "equipment_id")
        .with_row_index("_order")
        .select("_order", "equipment_id", "start_at", "end_at", _ORDER)
    )


def _quantities(counts: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Parts of each order at the last work unit of its product's route; a product without one counts wherever it was made."""
    kinds = ("good", "scrap", "rework")
    last = counts["counted_at"].max()
    points = counting_points(site, last if isinstance(last, datetime) else datetime.fromtimestamp(0, UTC_ZONE))
    placed = counts.join(points.rename({"equipment_id": "_point"}), on="material_definition_id", how="left")
    here = pl.col("_point").is_null() | (pl.col("_point") == pl.col("equipment_id"))
    return (
        placed.filter(pl.col(_ORDER).is_not_null() & here)
        .group_by(_ORDER)
        .agg(pl.col(f"{kind}_quantity").sum() for kind in kinds)
        .with_columns(produced_quantity=pl.sum_horizontal(f"{kind}_quantity" for kind in kinds))
    )


def _time_elements(states: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    pieces = states.select("equipment_id", "start_at", "end_at", "time_element")
    owned = cover(cut(pieces, spans), spans, "_order", [_ORDER]).filter(pl.col(_ORDER).is_not_null())
    span, element = pl.col("end_at") - pl.col("start_at"), pl.col("time_element").str.to_lowercase()
    return owned.group_by(_ORDER).agg(seconds(span.filter(element == name).sum()).alias(name) for name in _ELEMENTS)


def _energy(intervals: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    meters = intervals.select("stream_id", "equipment_id").unique()
    # Intervals of intervals.py belong to an equipment_id; here each meter has its own, for a unit may have two.
    during = spans.join(meters, on="equipment_id").drop("equipment_id", "_order").rename({"stream_id": "equipment_id"})
    during = during.sort("start_at", _ORDER, "equipment_id").with_row_index("_order")
    pieces = intervals.select(
        "start_at",
        "end_at",
        "energy_kwh",
        "is_estimated",
        equipment_id="stream_id",
        _whole=pl.col("end_at") - pl.col("start_at"),
    )
    owned = cover(cut(pieces, during), during, "_order", [_ORDER]).filter(pl.col(_ORDER).is_not_null())
    span = pl.col("end_at") - pl.col("start_at")
    share = span.dt.total_microseconds() / pl.col("_whole").dt.total_microseconds()
    parts = owned.with_columns(_kwh=pl.col("energy_kwh") * share, _split=pl.col("is_estimated") | (span < pl.col("_whole")))
    known = pl.col("_kwh").is_not_null()
    return (
        parts.sort("equipment_id", "start_at")
        .group_by(_ORDER, maintain_order=True)
        .agg(
            kwh=pl.when(known.any()).then(pl.col("_kwh").sum()),
            estimated_kwh=pl.when(known.any()).then(pl.col("_kwh").filter("_split").sum()),
            is_complete=known.all(),
        )
    )


def _consumed(links: pl.DataFrame) -> pl.DataFrame:
    quantity = pl.col("quantity")
    lots = (
        links.filter((pl.col("link_type") == "consumed") & pl.col(_ORDER).is_not_null())
        .sort("parent_id", "occurred_at", "child_id", "quantity")
        .group_by(_ORDER, "parent_id", maintain_order=True)
        .agg(quantity=pl.when(quantity.null_count() == 0).then(quantity.sum().round(DECIMALS)))
    )
    lot = pl.struct(lot_id=pl.col("parent_id"), quantity=pl.col("quantity"))
    return lots.sort(_ORDER, "parent_id").group_by(_ORDER, maintain_order=True).agg(consumed=lot)
