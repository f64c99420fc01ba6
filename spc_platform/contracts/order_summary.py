"""What leaves the platform for the ERP: one document per work order."""

from __future__ import annotations

from spc_platform.contracts.table import Table, code, count, flag, identifier, moment, text

SUMMARY_VERSION = "1.0"
"""Version of the document's schema, docs/reference/erp-summary.schema.json."""

ORDER_SUMMARY = Table(
    name="order_summary",
    description="Production summary of each work order as a canonical JSON document; the same figures give the same bytes.",
    columns=(
        identifier("job_order_id", "Work order."),
        code("status", "ended when every record of the order has an end.", ("running", "ended")),
        text("document", "The summary: JSON with keys in order, without blanks, instants in UTC."),
    ),
    key=("job_order_id",),
    sort=("job_order_id",),
    partitioned=False,
)

OUTBOX_STATES = ("pending", "sent", "acknowledged", "refused")

ERP_OUTBOX = Table(
    name="erp_outbox",
    description="Revisions of the production summaries of work orders, and what the ERP said to each.",
    columns=(
        identifier("job_order_id", "Work order."),
        count("revision", "1 for the first summary of the order; a summary that changed is the next.", ge=1),
        flag("is_newest", "No later revision was entered."),
        code("state", "sent: the ERP may have it; acknowledged: it named order, revision and digest.", OUTBOX_STATES),
        identifier("payload_sha256", "SHA-256 of the document; with order and revision its idempotency key."),
        count("attempts", "Times that it was sent."),
        moment("entered_at", "When it was entered into the outbox."),
        moment("settled_at", "When it was acknowledged or refused.", nullable=True),
        moment("next_attempt_at", "Not sent before this time; of no meaning once it is settled."),
        text("last_error", "Why it was refused or put off.", nullable=True),
    ),
    key=("job_order_id", "revision"),
    sort=("job_order_id", "revision"),
    partitioned=False,
)
