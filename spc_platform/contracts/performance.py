"""Performance tables: rolled-up OEE, the six big losses, changeovers, scrap, reliability and flow along a line."""

from __future__ import annotations

from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.site import EQUIPMENT_LEVELS
from spc_platform.contracts.table import (
    PRODUCTION_DATE,
    Column,
    Table,
    code,
    count,
    flag,
    identifier,
    moment,
    number,
    text,
)

PERIODS = ("shift", "day", "week")
SCOPES = ("all", "product")
SIX_LOSSES = (
    "equipment_failure",
    "setup_and_adjustment",
    "idling_and_minor_stops",
    "reduced_speed",
    "process_defects",
    "reduced_yield",
)
"""Nakajima's six big losses: two of availability, two of performance, two of quality."""
LOSS_SYNONYMS = {
    "breakdown": "equipment_failure",
    "breakdowns": "equipment_failure",
    "setup": "setup_and_adjustment",
    "changeover": "setup_and_adjustment",
    "minor_stoppage": "idling_and_minor_stops",
    "minor_stoppages": "idling_and_minor_stops",
    "micro_stop": "idling_and_minor_stops",
    "rate_loss": "reduced_speed",
    "speed_loss": "reduced_speed",
    "defects": "process_defects",
    "startup_rejects": "reduced_yield",
    "startup_yield": "reduced_yield",
}
"""Other names under which sites keep the six losses in ``reasons.csv``."""
FLOW_STATES = ("starved", "blocked", "starved_and_blocked", "idle")

_EQUIPMENT = identifier("equipment_id", "Work unit.")
_WORK_CENTER = identifier("work_center_id", "Line of the work unit.")
_SHIFT = identifier("shift_id", "Shift.")
_PRODUCT = identifier("material_definition_id", "Product; empty for time without a work order.", nullable=True)
_AS_OF = moment("as_of", "Newest record known when the figure was made.")

SUMMED_ELEMENTS: tuple[Column, ...] = (
    number("pot_s", "Planned operation time.", unit="s", ge=0),
    number("pdt_s", "Planned downtime.", unit="s", ge=0),
    number("pbt_s", "Planned busy time, POT - PDT.", unit="s", ge=0),
    number("aubt_s", "Actual unit busy time, APT + AUST + ADET.", unit="s", ge=0),
    number("apt_s", "Actual production time.", unit="s", ge=0),
    number("aust_s", "Actual unit setup time.", unit="s", ge=0),
    number("adet_s", "Actual unit delay time, minor stoppages included.", unit="s", ge=0),
    number("minor_stop_s", "Of which minor stoppages.", unit="s", ge=0),
    number("adot_s", "Available without order.", unit="s", ge=0),
    number("unknown_s", "No state recorded.", unit="s", ge=0),
    count("pq", "Produced quantity, good + scrap + rework."),
    count("gq", "Good quantity at first pass."),
    count("sq", "Scrap quantity."),
    count("rq", "Rework quantity."),
    count("reworked_good", "Of the rework quantity, parts found good afterwards; empty when not known.", nullable=True),
    number("ideal_pq_s", "Sum of PRI x PQ; empty when a product made has no ideal cycle.", unit="s", nullable=True, ge=0),
    number("ideal_gq_s", "Sum of PRI x GQ, the value-adding time.", unit="s", nullable=True, ge=0),
)


def _ratio(name: str, description: str) -> Column:
    return number(name, description, unit="1", nullable=True, ge=0)


RATIOS: tuple[Column, ...] = (
    _ratio("availability", "ISO 22400-2: APT / PBT."),
    _ratio("effectiveness", "ISO 22400-2: sum of PRI x PQ / APT; above 1 is kept."),
    _ratio("quality", "Sum of PRI x GQ / sum of PRI x PQ."),
    _ratio("oee", "Sum of PRI x GQ / PBT."),
    _ratio("nee", "Net equipment effectiveness: (APT + AUST) / PBT x effectiveness x quality."),
    _ratio("tpm_availability", "TPM: (APT + minor stoppages) / PBT."),
    _ratio("tpm_performance", "TPM: sum of PRI x PQ / (APT + minor stoppages)."),
    _ratio("tpm_quality", "TPM: the same as quality."),
    _ratio("technical_efficiency", "APT / (APT + ADET)."),
    _ratio("utilization_efficiency", "APT / AUBT."),
    _ratio("allocation_efficiency", "AUBT / PBT."),
    _ratio("setup_rate", "AUST / (APT + AUST)."),
    number("throughput_per_h", "PQ / AUBT: parts per hour of busy time.", unit="1/h", nullable=True, ge=0),
    _ratio("first_pass_yield", "GQ / PQ."),
    _ratio("final_yield", "(GQ + reworked good) / PQ; empty while the outcome of rework is not known."),
    _ratio("scrap_ratio", "SQ / PQ."),
    _ratio("rework_ratio", "RQ / PQ."),
)

OEE_ROLLUP = Table(
    name="oee_rollup",
    description="OEE of work units, lines, areas and the site per shift, day and ISO week, over all products and by product: from summed elements, never from averaged ratios.",
    columns=(
        code("equipment_level", "Level of the equipment (ISA-95).", EQUIPMENT_LEVELS),
        identifier("equipment_id", "Work unit, line, area or site."),
        code("period", "What the row spans.", PERIODS),
        Column("period_start", PRODUCTION_DATE.dtype, "First production date of the period; a week's Monday."),
        text("iso_week", "ISO week of the production date, e.g. 2026-W11."),
        identifier("shift_id", "Shift; empty for days and weeks.", nullable=True),
        code("scope", "all: every product together; product: one of them.", SCOPES),
        identifier("material_definition_id", "Product; empty for all, and for time without a work order.", nullable=True),
        *SUMMED_ELEMENTS,
        *RATIOS,
        flag("suspect_ideal_cycle", "Effectiveness is above 1: the ideal cycle is doubtful."),
        text("reason", "Why ratios are empty, codes joined by ;.", nullable=True),
        text("data_quality", "Known defects of the figures, joined by ;.", nullable=True),
        _AS_OF,
        Column("production_date", PRODUCTION_DATE.dtype, "Newest production date summed; a week is the week to date."),
    ),
    key=(
        "equipment_level",
        "equipment_id",
        "period",
        "period_start",
        "shift_id",
        "scope",
        "material_definition_id",
        "production_date",
    ),
    sort=("equipment_level", "equipment_id", "period", "period_start", "shift_id", "scope", "material_definition_id"),
)

OEE_LOSS = Table(
    name="oee_loss",
    description="The six big losses per work unit, shift and product. With no_order_s and unknown_s, which are nobody's loss, they add up to PBT - value_adding_s exactly.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        _PRODUCT,
        number("pbt_s", "Planned busy time.", unit="s", ge=0),
        number("equipment_failure_s", "Breakdowns.", unit="s", ge=0),
        number("setup_and_adjustment_s", "Setup and adjustment.", unit="s", ge=0),
        number("idling_and_minor_stops_s", "Stops whose whole length is below the policy's micro stop.", unit="s", ge=0),
        number(
            "reduced_speed_s",
            "Rate loss, APT - sum of PRI x PQ; negative where parts were made faster.",
            unit="s",
            nullable=True,
        ),
        number(
            "process_defects_s", "Ideal time of parts scrapped or reworked in steady production.", unit="s", nullable=True, ge=0
        ),
        number("reduced_yield_s", "Ideal time of parts lost at start-up, by their reason.", unit="s", nullable=True, ge=0),
        number("no_order_s", "Available without order.", unit="s", ge=0),
        number("unknown_s", "No state recorded.", unit="s", ge=0),
        number("value_adding_s", "Ideal time of the good parts.", unit="s", nullable=True, ge=0),
        _AS_OF,
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id", "material_definition_id"),
    sort=("equipment_id", "production_date", "shift_id", "material_definition_id"),
)

CHANGEOVER = Table(
    name="changeover",
    description="Setups between two products: one row per uninterrupted change, on the production date on which it began.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        identifier("from_material_definition_id", "Product made before."),
        identifier("to_material_definition_id", "Product made after."),
        moment("start_at", "End of the last production of the old product."),
        moment("end_at", "Start of the first production of the new product."),
        number("setup_s", "Setup time within it (AUST).", unit="s", ge=0),
        number("duration_s", "Planned busy time from last to first production.", unit="s", ge=0),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "start_at"),
    sort=("equipment_id", "start_at"),
)

SCRAP_REASON = Table(
    name="scrap_reason",
    description="Scrapped and reworked parts per work unit, shift, product and reason.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        identifier("material_definition_id", "Product."),
        identifier("reason_code", "Reason; empty when none was given.", nullable=True),
        identifier("loss_category", "process_defects or reduced_yield."),
        count("scrap_quantity", "Parts scrapped."),
        count("rework_quantity", "Parts sent to rework."),
        number("ideal_s", "Ideal time of these parts; empty without an ideal cycle.", unit="s", nullable=True, ge=0),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id", "material_definition_id", "reason_code"),
    sort=("equipment_id", "production_date", "shift_id", "material_definition_id", "reason_code"),
)

RELIABILITY = Table(
    name="reliability",
    description="Mean times between, to and of repair of failures per work unit over a window of production dates. A failure is a breakdown, counted once however many shifts it lasts.",
    columns=(
        _EQUIPMENT,
        Column("window_start", PRODUCTION_DATE.dtype, "First production date of the window."),
        number("operating_s", "Actual production time (APT) of the window.", unit="s", ge=0),
        count("failures", "Breakdowns that began in the window."),
        count("open_failures", "Of which not ended at as_of; they count as failures, not as repairs."),
        number("repair_s", "Length of the ended breakdowns.", unit="s", ge=0),
        number("mtbf_s", "Mean operating time between failures: operating time / failures.", unit="s", nullable=True, ge=0),
        number("mtbf_low_s", "Lower confidence limit of mtbf_s; given without failures too.", unit="s", nullable=True, ge=0),
        number("mtbf_high_s", "Upper confidence limit of mtbf_s.", unit="s", nullable=True, ge=0),
        number(
            "mttf_s", "Mean time to failure: operating time before the last failure / failures.", unit="s", nullable=True, ge=0
        ),
        number("mttr_s", "Mean time to repair: repair_s / ended failures.", unit="s", nullable=True, ge=0),
        number("mttr_low_s", "Lower confidence limit of mttr_s.", unit="s", nullable=True, ge=0),
        number("mttr_high_s", "Upper confidence limit of mttr_s.", unit="s", nullable=True, ge=0),
        number("availability", "MTBF / (MTBF + MTTR).", unit="1", nullable=True, ge=0, le=1),
        number("confidence", "Confidence of the limits, both sides together.", unit="1", gt=0, le=1),
        text("reason", "Why figures are empty, codes joined by ;.", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date"),
    sort=("equipment_id", "production_date"),
)

FLOW_INTERVAL = Table(
    name="flow_interval",
    description="Idle time of work units explained by their neighbours on the line: starved while everything upstream is down, blocked while everything downstream is.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        code("flow_state", "Why the unit was idle; idle when no neighbour explains it.", FLOW_STATES),
        code("time_element", "Element of the idle time.", TIME_ELEMENTS),
        moment("start_at", "Start."),
        moment("end_at", "End (exclusive)."),
        number("duration_s", "Length.", unit="s", ge=0),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "start_at"),
    sort=("equipment_id", "start_at"),
)

BOTTLENECK = Table(
    name="bottleneck",
    description="Shifting bottleneck per work unit and shift (longest uninterrupted active period, Roser, Nakano and Tanaka 2001).",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        number("active_s", "Producing, setting up or under repair.", unit="s", ge=0),
        number("momentary_s", "Time in which its active period was the longest of the line.", unit="s", ge=0),
        number("sole_s", "Time in which it alone was the bottleneck.", unit="s", ge=0),
        number("shifting_s", "Time in which the bottleneck was shifting to or from it.", unit="s", ge=0),
        flag("is_bottleneck", "The unit of the line that was the bottleneck longest in the shift."),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id"),
    sort=("work_center_id", "production_date", "shift_id", "equipment_id"),
)
