"""Genealogy tables: which lot or serial number went into which, and the links that cannot be right."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from spc_platform.contracts.operations import ITEM_KINDS, MATERIAL_LINK_PAYLOAD
from spc_platform.contracts.table import Column, Table, code, count, flag, identifier, moment, number, text

TIME_ISSUES = ("USED_BEFORE_MADE",)
RELATIONS = ("start", "ancestor", "descendant")
VERDICTS = ("in_specification", "below_lsl", "above_usl", "no_specification")
MATCHED_BY = ("serial_number", "material_lot_id")

_RECORD: tuple[Column, ...] = (
    identifier("source_id", "Source of the record that states the link."),
    text("record_id", "Record that states the link."),
    count("revision", "Revision in force."),
    moment("updated_at", "When the source wrote the revision.", nullable=True),
)
_KEY = ("source_id", "record_id")

LOT_GENEALOGY = Table(
    name="lot_genealogy",
    description="Links of materials in force, free of cycles: the edges from a lot or serial number to what came of it. A part that was reworked and kept its number is a link to itself.",
    columns=(
        *_RECORD,
        *MATERIAL_LINK_PAYLOAD,
        moment("parent_made_at", "First link that made the parent; empty for a parent that nothing made.", nullable=True),
        code(
            "time_issue", "Why the link cannot have happened when it says; it counts all the same.", TIME_ISSUES, nullable=True
        ),
    ),
    key=_KEY,
    sort=("parent_id", "child_id", "occurred_at"),
    partitioned=False,
)

LOT_GENEALOGY_REFUSED = Table(
    name="lot_genealogy_refused",
    description="Links of materials that no genealogy can hold, with every reason: they close a cycle, link an item to itself, or break the contract.",
    columns=(
        *_RECORD,
        *(replace(column, nullable=True, gt=None, isin=(), finite=False) for column in MATERIAL_LINK_PAYLOAD),
        text("reasons", "Every rule that the link breaks, as column:REASON joined by ;."),
        text(
            "cycle_items",
            "Items round which the link would lead, from its child back to its child, joined by >.",
            nullable=True,
        ),
        text("cycle_records", "Records that made the cycle, source:record in the same order, joined by ;.", nullable=True),
    ),
    key=_KEY,
    sort=("parent_id", "child_id", "occurred_at"),
    partitioned=False,
)

_ITEM = text("item_id", "Lot or serial number.")
_KIND = code("item_kind", "Whether it is a lot or a single part; empty where no record says.", ITEM_KINDS, nullable=True)
_DEPTH = count("depth", "Links between the item and the start, by the shortest way.")
_UNIT = "<characteristic unit>"

TRACE_ITEM = Table(
    name="trace_item",
    description="Items of one trace.",
    columns=(
        _ITEM,
        _KIND,
        code("relation", "Start, ancestor (went into it) or descendant (came of it).", RELATIONS),
        _DEPTH,
        flag("is_end", "Nothing further is linked in that direction."),
    ),
    key=("item_id",),
    sort=("relation", "depth", "item_id"),
    partitioned=False,
)

TRACE_LINK = Table(
    name="trace_link",
    description="Links of one trace, each with the number of links from the start to its far end by the shortest way over it.",
    columns=(code("relation", "Direction in which the link was followed.", RELATIONS[1:]), _DEPTH, *LOT_GENEALOGY.columns),
    key=("relation", *_KEY),
    sort=("relation", "depth", "parent_id", "child_id", "occurred_at"),
    partitioned=False,
)

RECALL = Table(
    name="recall",
    description="What contains a suspect item, how much of it, and where that is now.",
    columns=(
        _ITEM,
        _KIND,
        _DEPTH,
        flag("is_finished", "Nothing was made of it: it is where a recall has to reach for it."),
        number("share", "Share of what left the suspect item that is in this one.", unit="1", nullable=True, ge=0),
        number(
            "quantity",
            "Amount of the suspect item in it, in the unit of the suspect item.",
            unit="<parent unit>",
            nullable=True,
            ge=0,
        ),
        text("reason", "Why share or quantity is empty.", nullable=True),
        identifier("segment_id", "Operation at which it was seen last.", nullable=True),
        identifier("equipment_id", "Work unit at which it was seen last.", nullable=True),
        identifier("event_type", "What happened to it last.", nullable=True),
        moment("seen_at", "When that was.", nullable=True),
        identifier("job_order_id", "Work order of that event.", nullable=True),
    ),
    key=("item_id",),
    sort=("is_finished", "depth", "item_id"),
    partitioned=False,
)

RECALL_IN_DOUBT = Table(
    name="recall_in_doubt",
    description="What would be on the recall list too if refused links were right, each with the refused link that leads to it.",
    columns=(
        _ITEM,
        identifier("source_id", "Source of the refused link."),
        text("record_id", "Record of the refused link."),
        text("reasons", "Why the link is refused."),
    ),
    key=("item_id",),
    sort=("item_id",),
    partitioned=False,
)

TRACE_MEASUREMENT = Table(
    name="trace_measurement",
    description="Measurements of the items of one trace, each with what judged it: specification version, limit version, signals.",
    columns=(
        _ITEM,
        code("matched_by", "Column of the measurement that names the item.", MATCHED_BY),
        code("relation", "Start, ancestor or descendant.", RELATIONS),
        _DEPTH,
        identifier("source_id", "Source of the measurement."),
        text("record_id", "Record of the measurement."),
        text("serial_number", "Serial number of the part.", nullable=True),
        identifier("material_lot_id", "Lot of the part.", nullable=True),
        identifier("characteristic_id", "What was measured."),
        identifier("equipment_id", "Work unit that made the part."),
        moment("measured_at", "When it was measured."),
        number("value", "The measured value.", unit=_UNIT),
        identifier("unit", "Unit of the value."),
        identifier("job_order_id", "Work order.", nullable=True),
        count("specification_version", "Specification in force when it was measured.", nullable=True, ge=None),
        number("lsl", "Its lower limit.", unit=_UNIT, nullable=True),
        number("usl", "Its upper limit.", unit=_UNIT, nullable=True),
        code("verdict", "The value against that specification; a value on a limit is within.", VERDICTS),
        text("subgroup_id", "Subgroup that holds the value; empty when it entered no chart.", nullable=True),
        count("limit_version", "Limits that judged the subgroup; empty when none were in force.", nullable=True, ge=1),
        number("cl", "Centre line of the location panel.", unit=_UNIT, nullable=True),
        number("lcl", "Lower control limit of the location panel.", unit=_UNIT, nullable=True),
        number("ucl", "Upper control limit of the location panel.", unit=_UNIT, nullable=True),
        text("signals", "Rules that the subgroup's points trigger, panel:rule joined by ;.", nullable=True),
    ),
    key=("item_id", *_KEY),
    sort=("measured_at", "characteristic_id", "item_id"),
    partitioned=False,
)

NODE = pl.Schema({"item_id": pl.String, "down": pl.Int64, "down_end": pl.Int64, "up": pl.Int64, "up_end": pl.Int64})
"""Items in the order of their ids; links down are rows [down, down_end) of the edges, links up of ``by_child``."""
