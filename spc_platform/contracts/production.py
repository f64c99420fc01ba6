"""Production tables: shifts as they were, state intervals, downtime events and OEE elements."""

from __future__ import annotations

from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

TIME_ELEMENTS = ("PDT", "APT", "AUST", "ADET", "ADOT", "UNKNOWN")
"""ISO 22400-2 elements that partition planned operation time (POT): planned downtime, actual production
time, actual unit setup time, actual unit delay time, available without order, and what nobody recorded."""
STOP_CLASSES = ("micro_stop", "breakdown", "setup", "planned", "no_order", "unknown")

_EQUIPMENT = identifier("equipment_id", "Work unit.")
_WORK_CENTER = identifier("work_center_id", "Line of the work unit.")
_SHIFT = identifier("shift_id", "Shift.")
_AS_OF = moment("as_of", "Newest record known when the figure was made; an open state is clipped here.")

SHIFT_CALENDAR = Table(
    name="shift_calendar",
    description="Shifts of each work unit as they fell on the clock: local rules expanded in the site's zone, so a DST shift lasts 7 or 9 hours.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        moment("start_at", "Start of the shift."),
        moment("end_at", "End of the shift (exclusive)."),
        number("duration_s", "Length of the shift.", unit="s", ge=0),
        number("planned_down_s", "Breaks and planned downtime within it.", unit="s", ge=0),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id"),
    sort=("equipment_id", "start_at"),
)

STATE_INTERVAL = Table(
    name="state_interval",
    description="Planned operation time of each work unit, partitioned exactly into states: half-open intervals split at shift, calendar and product edges, classified on the whole event.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        identifier("material_definition_id", "Product being made; empty without a work order.", nullable=True),
        text("event_id", "The state event (source:record); the same on every piece of it.", nullable=True),
        identifier("state", "State in the site's terms; UNKNOWN where nobody recorded one."),
        identifier("reason_code", "Reason for the state.", nullable=True),
        code("time_element", "ISO 22400-2 element that the piece counts to.", TIME_ELEMENTS),
        code(
            "stop_class", "Class of the stop, judged on its whole length; empty while producing.", STOP_CLASSES, nullable=True
        ),
        moment("start_at", "Start of the piece."),
        moment("end_at", "End of the piece (exclusive)."),
        number("duration_s", "Length of the piece.", unit="s", ge=0),
        number("event_duration_s", "Length of the whole event.", unit="s", nullable=True, ge=0),
        flag("is_open", "The event had not ended at as_of."),
        text(
            "unknown_reason",
            "Rules that a refused record broke, as column:REASON joined by ;, where it leaves the state UNKNOWN.",
            nullable=True,
        ),
        _AS_OF,
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "start_at"),
    sort=("equipment_id", "start_at"),
)

DOWNTIME_EVENT = Table(
    name="downtime_event",
    description="Stops of work units, one row per event, on the production date on which they began.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        identifier("shift_id", "Shift in which the stop began.", nullable=True),
        text("event_id", "The state event (source:record)."),
        identifier("state", "State in the site's terms."),
        identifier("reason_code", "Reason.", nullable=True),
        identifier("loss_category", "One of the six big losses, from the reason.", nullable=True),
        code("time_element", "ISO 22400-2 element of the state and reason.", TIME_ELEMENTS),
        code("stop_class", "Class of the stop, judged on its whole length.", STOP_CLASSES),
        moment("start_at", "Start of the stop."),
        moment("end_at", "End of the stop, clipped at as_of while it lasts."),
        number("duration_s", "Length of the stop.", unit="s", ge=0),
        flag("is_open", "The stop had not ended at as_of."),
        _AS_OF,
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "event_id"),
    sort=("equipment_id", "start_at"),
)

OEE_ELEMENTS = Table(
    name="oee_elements",
    description="Seconds and counts per work unit, shift and product; every ratio is derived from their sums.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        identifier("material_definition_id", "Product; empty for time without a work order.", nullable=True),
        number("pot_s", "Planned operation time.", unit="s", ge=0),
        number("pdt_s", "Planned downtime: calendar entries recorded before the fact.", unit="s", ge=0),
        number("pbt_s", "Planned busy time, POT - PDT.", unit="s", ge=0),
        number("apt_s", "Actual production time.", unit="s", ge=0),
        number("aust_s", "Actual unit setup time.", unit="s", ge=0),
        number("adet_s", "Actual unit delay time, minor stoppages included.", unit="s", ge=0),
        number("minor_stop_s", "Of which minor stoppages (TPM counts them as performance loss).", unit="s", ge=0),
        number("adot_s", "Available without order.", unit="s", ge=0),
        number("unknown_s", "No state recorded.", unit="s", ge=0),
        number("pri_s", "Planned run time per item.", unit="s/unit", nullable=True, gt=0),
        count("pq", "Produced quantity, good + scrap + rework."),
        count("gq", "Good quantity at first pass."),
        count("sq", "Scrap quantity."),
        count("rq", "Rework quantity."),
        text("data_quality", "Known defects of the figures, joined by ;.", nullable=True),
        _AS_OF,
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id", "material_definition_id"),
    sort=("equipment_id", "production_date", "shift_id", "material_definition_id"),
)
