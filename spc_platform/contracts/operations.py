"""What an MES records beside states and counts: order events, segment events, links between materials."""

from __future__ import annotations

from spc_platform.contracts.signals import SIGNALS
from spc_platform.contracts.table import Column, code, identifier, moment, number, text

ORDER_EVENTS = ("released", "started", "paused", "resumed", "completed", "closed", "cancelled")
SEGMENT_EVENTS = ("queued", "started", "finished", "scrapped", "sent_to_rework", "moved")
ITEM_KINDS = ("lot", "serial")
LINK_TYPES = ("consumed", "assembled", "split", "merged", "reworked")

WORK_ORDER_EVENT_PAYLOAD: tuple[Column, ...] = (
    identifier("job_order_id", "Work order."),
    code("event_type", "What happened to the order.", ORDER_EVENTS),
    moment("occurred_at", "When it happened."),
    identifier("work_center_id", "Line on which the order runs.", nullable=True),
    identifier("material_definition_id", "Product; stated when the order is released.", nullable=True),
    number("planned_quantity", "Parts ordered; stated when the order is released.", unit="1", nullable=True, ge=0),
    moment("due_at", "When the parts are due; stated when the order is released.", nullable=True),
    identifier("reason_code", "Reason for a pause or a cancellation.", nullable=True),
)

SEGMENT_EVENT_PAYLOAD: tuple[Column, ...] = (
    text("item_id", "Lot or serial number that moves."),
    code("item_kind", "Whether the item is a lot or a single part.", ITEM_KINDS),
    identifier("segment_id", "Operation (process segment) of the route."),
    identifier("equipment_id", "Work unit at which it happened; empty in a queue.", nullable=True),
    code("event_type", "What happened to the item at the operation.", SEGMENT_EVENTS),
    moment("occurred_at", "When it happened."),
    number("quantity", "Parts concerned (1 for a serial number).", unit="1", gt=0),
    identifier("job_order_id", "Work order.", nullable=True),
    identifier("material_definition_id", "Product.", nullable=True),
)

SIGNAL_EVENT_PAYLOAD: tuple[Column, ...] = (
    identifier("equipment_id", "Work unit."),
    code("signal", "Which signal of the work unit.", SIGNALS),
    text("value", "What the signal says from then on; UNAVAILABLE where the machine does not know it."),
    moment("occurred_at", "From when on it holds."),
)

MATERIAL_LINK_PAYLOAD: tuple[Column, ...] = (
    text("parent_id", "Lot or serial number that was used."),
    text("child_id", "Lot or serial number that came of it."),
    code("link_type", "How the child came of the parent.", LINK_TYPES),
    number(
        "quantity",
        "Amount of the parent that went into the child, in the parent's unit.",
        unit="<parent unit>",
        nullable=True,
        gt=0,
    ),
    moment("occurred_at", "When it happened."),
    identifier("equipment_id", "Work unit at which it happened.", nullable=True),
    identifier("job_order_id", "Work order.", nullable=True),
)
