"""Part counters of work units: which streams they are, what they counted, and which count is in force."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.signals import DELTA_RULES
from spc_platform.contracts.table import PRODUCTION_DATE, Column, Table, code, count, flag, identifier, moment, number, text

COUNTS = ("good", "total", "scrap")
IN_FORCE = ("counter", "mes", "mes_else_counter")
COUNT_SOURCES = ("mes", "counter")

_STREAM = identifier("stream_id", "Stream of the counter's readings.")
_EQUIPMENT = identifier("equipment_id", "Work unit.")
_WORK_CENTER = identifier("work_center_id", "Line of the work unit.", nullable=True)
_COUNTS = code("counts", "What the counter counts.", COUNTS)

PART_COUNTERS = Table(
    name="part_counters",
    description="Which streams are part counters of work units, how their readings are read, and whose count is in force.",
    columns=(
        _STREAM,
        _EQUIPMENT,
        code("counts", "What it counts: good parts, all parts, or scrap; at most two of them per work unit.", COUNTS),
        code(
            "in_force",
            "counter: the counter's parts enter OEE; mes: those of production_count; mes_else_counter: those of production_count in a shift of which it has any, else the counter's. The same for all counters of a work unit.",
            IN_FORCE,
        ),
        number("maximum", "Largest reading shown; the next one is 0. Empty: it never rolls over.", nullable=True, gt=0),
        count("parts_per_count", "Parts that one count means; 1 unless given.", nullable=True, ge=1),
        number(
            "shortest_cycle_s",
            "No count takes less: a faster rise is a jump and counts nothing. Empty: any rise counts.",
            unit="s",
            nullable=True,
            gt=0,
        ),
        number("max_gap_s", "Longest time between two readings that is no gap; empty: none is.", unit="s", nullable=True, gt=0),
        identifier("material_definition_id", "Product where no work order names one.", nullable=True),
    ),
    key=("stream_id",),
    sort=("stream_id",),
    partitioned=False,
)

PART_COUNTER_DELTA = Table(
    name="part_counter_delta",
    description="What each part counter counted from reading to reading, with the rule that says so, on the date of the later one.",
    columns=(
        _STREAM,
        _EQUIPMENT,
        _COUNTS,
        moment("start_at", "Reading before; empty at the first.", nullable=True),
        moment("end_at", "This reading."),
        number("before", "Reading before.", nullable=True),
        Column("reading", pl.Float64, "This reading.", nullable=True, finite=False),
        number("delta", "Counted in between; empty where nothing can be said.", nullable=True, ge=0),
        count("parts", "Parts that were counted."),
        code("rule", "How the delta was found.", DELTA_RULES),
        flag(
            "across_gap", "Longer than max_gap_s, or a reading is missing, in between: when the parts were made is not known."
        ),
        PRODUCTION_DATE,
    ),
    key=("stream_id", "end_at"),
    sort=("stream_id", "end_at"),
)

PART_COUNT = Table(
    name="part_count",
    description="Counts of parts by the MES and by the counters of machines; those in force enter OEE, the others are kept beside them.",
    columns=(
        identifier("source_id", "Source of the record; part_counters for what counters counted."),
        text("record_id", "The record's identity in its source; work unit and instant for counters."),
        _EQUIPMENT,
        _WORK_CENTER,
        identifier("shift_id", "Shift that contains the instant; empty outside all shifts.", nullable=True),
        identifier("job_order_id", "Work order, where the source names one.", nullable=True),
        identifier("material_definition_id", "Product; of the order then in force, for counters.", nullable=True),
        moment("counted_at", "When the parts were counted."),
        count("good_quantity", "Parts good at first pass."),
        count("scrap_quantity", "Parts scrapped."),
        count("rework_quantity", "Parts sent to rework."),
        identifier("reason_code", "Reason for scrap or rework.", nullable=True),
        code("count_source", "Who counted.", COUNT_SOURCES),
        flag("in_force", "The count enters OEE."),
        text("rules", "How counters found it, as stream:rule joined by ;, with :across_gap.", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("source_id", "record_id"),
    sort=("equipment_id", "counted_at"),
)

COUNT_COMPARISON = Table(
    name="count_comparison",
    description="Parts of the MES against those of the machine's counters, per work unit with a counter and shift.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        identifier("shift_id", "Shift in which they were counted."),
        code("in_force", "Whose counts enter OEE.", COUNT_SOURCES),
        count("mes_good", "Good at first pass, by the MES."),
        count("mes_scrap", "Scrap, by the MES."),
        count("mes_rework", "Rework, by the MES."),
        count("counter_good", "Good, by the counters."),
        count("counter_scrap", "Scrap, by the counters."),
        Column("difference", pl.Int64, "Produced by the counters minus produced by the MES.", unit="1"),
        flag("agrees", "Produced is the same by both, or only one of them counts this work unit at all."),
        count("across_gap", "Of the counters' parts, those whose time is not known."),
        count("refused", "Readings that count nothing because they cannot be right: jumps, impossible and backward ones."),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id"),
    sort=("equipment_id", "shift_id"),
)
