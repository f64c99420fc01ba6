"""Work orders as they stand, and where lots and parts were: derived from order events and segment events."""

from __future__ import annotations

from spc_platform.contracts.operations import ITEM_KINDS
from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

ORDER_STATES = ("unknown", "released", "running", "paused", "completed", "cancelled", "closed")
WIP_PLACES = ("queue", "in_process")

_AS_OF = moment("as_of", "Until when the plant is known; what is still going on is counted up to here.")
_SEGMENT = identifier("segment_id", "Operation (process segment).")
_WORK_CENTER = identifier("work_center_id", "Line of the operation; empty when no event names equipment.", nullable=True)
_ITEM = text("item_id", "Lot or serial number.")

WORK_ORDER_STATUS = Table(
    name="work_order_status",
    description="Work orders as their events tell them: state, times, quantities at the last operation, lateness.",
    columns=(
        identifier("job_order_id", "Work order."),
        identifier("work_center_id", "Line.", nullable=True),
        identifier("material_definition_id", "Product.", nullable=True),
        code("state", "State after the last event that counts.", ORDER_STATES),
        moment("released_at", "First release.", nullable=True),
        moment("started_at", "First start.", nullable=True),
        moment("completed_at", "Completion.", nullable=True),
        moment("closed_at", "Closing.", nullable=True),
        moment("cancelled_at", "Cancellation.", nullable=True),
        moment("due_at", "When the parts are due.", nullable=True),
        number("paused_s", "Time in state paused.", unit="s", ge=0),
        number(
            "wait_s", "From release to start, or to as_of while it waits; empty without a release.", unit="s", nullable=True
        ),
        number("run_s", "From start to end (or as_of) without pauses; empty without a start.", unit="s", nullable=True),
        number("stop_s", "Stops of the work unit of its last operation while it ran.", unit="s", ge=0),
        number("lead_time_s", "From release to completion, else closing; empty until then.", unit="s", nullable=True),
        number(
            "lateness_s",
            "Completion (else closing, else as_of) minus due; negative when early; empty without a due time or when cancelled.",
            unit="s",
            nullable=True,
        ),
        flag("is_late", "The lateness is positive."),
        number("planned_quantity", "Parts ordered.", unit="1", nullable=True, ge=0),
        count("produced", "Parts counted at the last operation: good + scrap + rework."),
        count("good", "Of which good at first pass."),
        count("scrap", "Of which scrapped."),
        count("rework", "Of which sent to rework."),
        count("upstream_scrap", "Parts scrapped at earlier operations; not part of produced."),
        number("yield_ratio", "good / produced; empty when nothing was produced.", unit="1", nullable=True, ge=0, le=1),
        number(
            "rolled_yield_ratio",
            "good / (produced + upstream_scrap); empty when both are 0.",
            unit="1",
            nullable=True,
            ge=0,
            le=1,
        ),
        count("n_events", "Events of the order up to as_of, repeats included."),
        text("data_quality", "What its events lack or contradict, as codes joined by ;.", nullable=True),
        _AS_OF,
    ),
    key=("job_order_id",),
    sort=("job_order_id",),
    partitioned=False,
)

WIP_INTERVAL = Table(
    name="wip_interval",
    description="Where each lot or part was: a constant quantity at a place of an operation over half-open [start_at, end_at).",
    columns=(
        _ITEM,
        code("item_kind", "Whether the item is a lot or a single part.", ITEM_KINDS),
        _SEGMENT,
        _WORK_CENTER,
        identifier("job_order_id", "Work order of the event that began the interval.", nullable=True),
        identifier("material_definition_id", "Product of the item.", nullable=True),
        code("place", "Waiting for the operation, or in it.", WIP_PLACES),
        number("quantity", "Parts there.", unit="1", gt=0),
        moment("entered_at", "Since when the item has been at the place without a break; its age counts from here."),
        moment("start_at", "Start of the interval."),
        moment("end_at", "End of the interval (exclusive); as_of while it lasts."),
        flag("is_open", "The quantity was still there at as_of."),
        flag("is_rework", "The item was sent to rework before."),
        _AS_OF,
        PRODUCTION_DATE,
    ),
    key=("item_id", "segment_id", "place", "start_at"),
    sort=("segment_id", "place", "start_at", "item_id"),
    partitioned=False,
)

WIP_FINDING = Table(
    name="wip_finding",
    description="Segment events that are missing, doubled or contradict the quantity that was there, and the rule that resolved them.",
    columns=(
        _ITEM,
        _SEGMENT,
        moment("occurred_at", "When the event that shows it happened."),
        identifier("event_type", "That event."),
        identifier("finding", "MISSING_START, MISSING_FINISH, DOUBLE_START, DOUBLE_FINISH, REPEATED or UNKNOWN_SCRAP."),
        number("quantity", "Parts concerned.", unit="1", gt=0),
        number("balance", "Parts that would have been left at the place without the rule; below 0.", unit="1", nullable=True),
        text("rule", "What was assumed."),
        PRODUCTION_DATE,
    ),
    key=("item_id", "segment_id", "occurred_at", "event_type", "finding"),
    sort=("occurred_at", "item_id"),
    partitioned=False,
)

WIP_AGE = Table(
    name="wip_age",
    description="Work in process at one instant per operation, place and age.",
    columns=(
        _WORK_CENTER,
        _SEGMENT,
        code("place", "Waiting for the operation, or in it.", WIP_PLACES),
        number("age_from_s", "Lower edge of the age.", unit="s", ge=0),
        number("age_to_s", "Upper edge of the age (exclusive); empty for the oldest.", unit="s", nullable=True),
        count("n_items", "Lots and parts."),
        number("quantity", "Parts.", unit="1", ge=0),
        number("oldest_s", "Age of the oldest of them.", unit="s", ge=0),
        _AS_OF,
    ),
    key=("segment_id", "place", "age_from_s", "work_center_id"),
    sort=("segment_id", "place", "age_from_s"),
    partitioned=False,
)

WIP_FLOW = Table(
    name="wip_flow",
    description="Little's law per line and period: time-average WIP = throughput x mean flow time + the stated terms of both edges.",
    columns=(
        _WORK_CENTER,
        moment("from_at", "Start of the period."),
        moment("to_at", "End of the period (exclusive)."),
        number("mean_wip", "Time-average number of parts on the line (L).", unit="1", ge=0),
        count("n_items", "Items that left the line in the period."),
        number("departed", "Parts of those items.", unit="1", ge=0),
        number("throughput_per_s", "departed / length of the period (lambda).", unit="1/s", ge=0),
        number(
            "mean_flow_time_s",
            "Part-seconds of those items on the line / departed (W); empty when none left.",
            unit="s",
            nullable=True,
        ),
        number("little_wip", "throughput x mean flow time.", unit="1", ge=0),
        number("before_wip", "Of which time before the period: part-seconds / length.", unit="1", ge=0),
        number(
            "unfinished_wip", "Part-seconds within the period of items that had not left at its end / length.", unit="1", ge=0
        ),
        number("residual", "mean_wip - (little_wip - before_wip + unfinished_wip): rounding only.", unit="1"),
    ),
    key=("work_center_id", "from_at"),
    sort=("work_center_id", "from_at"),
    partitioned=False,
)
