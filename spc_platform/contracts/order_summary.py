"""What leaves the platform for the ERP: one document per work order."""

from __future__ import annotations

from spc_platform.contracts.table import Table, code, identifier, text

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
