"""The log of everything that execution systems told, chained by hashes, and what changed a figure afterwards."""

from __future__ import annotations

from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

OPERATIONS_EVENT_TYPES = (
    "equipment_state",
    "production_count",
    "work_order",
    "work_order_event",
    "segment_event",
    "material_link",
    "signal_event",
)
CHANGE_CAUSES = ("event", "superseded", "elapsed", "indirect")

_DELTA_S = ("pot_s", "pdt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s")
_DELTA_N = ("pq", "gq", "sq", "rq")

OPERATIONS_EVENT = Table(
    name="operations_event",
    description="Every revision of every record of execution as one immutable event, in the order in which it was recorded, chained by SHA-256 within its production date.",
    columns=(
        text("event_id", "SHA-256 of the event's canonical JSON; the same for every landing of the same record revision."),
        code("event_type", "Kind of record.", OPERATIONS_EVENT_TYPES),
        identifier("source_id", "Source that delivered the record."),
        text("record_id", "The record's identity in its source."),
        count("revision", "Revision of the record; a correction is a further event."),
        identifier("equipment_id", "Work unit or line that it is about.", nullable=True),
        moment("effective_at", "When it happened; empty when the record's time could not be read.", nullable=True),
        moment("recorded_at", "When it was recorded: the source's updated_at, else when its page was received."),
        flag("is_deleted", "The source took the record back with this revision."),
        text(
            "payload",
            "The record's columns as canonical JSON: names in contract order, instants as ISO 8601 UTC with microseconds.",
        ),
        text("decode_error", "Why fields of the record could not be read.", nullable=True),
        count("sequence", "Place in the log of the production date, from 1.", ge=1),
        text("prev_hash", "chain_hash of the event before; of the first one the hash of the log's name and date."),
        text("chain_hash", "SHA-256 of prev_hash, sequence and event_id, separated by line feeds."),
        PRODUCTION_DATE,
    ),
    key=("production_date", "sequence"),
    sort=("production_date", "sequence"),
)

FIGURE_CHANGE = Table(
    name="figure_change",
    description="A figure of OEE as known at two times.",
    columns=(
        identifier("figure", "Element or ratio."),
        number("before", "As known at the earlier time; empty where undefined.", nullable=True),
        number("after", "As known at the later time; empty where undefined.", nullable=True),
        number("difference", "after - before; empty where one is undefined.", nullable=True),
    ),
    key=("figure",),
    sort=(),
    partitioned=False,
)

CONTRIBUTION = Table(
    name="contribution",
    description="What was recorded between two knowledge times and changed a figure: contributions add up to the difference of each element.",
    columns=(
        code(
            "cause",
            "event: by this event; superseded: a later event of the list replaced it; elapsed: time that passed since the "
            "earlier figure; indirect: an end or class that follows from other events.",
            CHANGE_CAUSES,
        ),
        code("event_type", "Kind of record.", OPERATIONS_EVENT_TYPES, nullable=True),
        identifier("source_id", "Source.", nullable=True),
        text("record_id", "Record.", nullable=True),
        count("revision", "Revision.", nullable=True),
        moment("effective_at", "When it happened.", nullable=True),
        moment("recorded_at", "When it was recorded.", nullable=True),
        flag("is_deleted", "The record was taken back."),
        *(number(name, f"Contribution to {name}.", unit="s") for name in _DELTA_S),
        *(count(name, f"Contribution to {name}.", ge=None) for name in _DELTA_N),
        text("payload", "The record as canonical JSON.", nullable=True),
    ),
    key=("recorded_at", "event_type", "source_id", "record_id", "revision", "cause"),
    sort=("recorded_at", "event_type", "source_id", "record_id", "revision", "cause"),
    partitioned=False,
)
