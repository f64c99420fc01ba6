"""Energy tables: the meters of the plant, what they counted between two readings, per state and per good part."""

from __future__ import annotations

from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

METER_KINDS = ("counter", "power")
ENERGY_QUALITY = ("OK", "ROLLOVER", "BACKWARDS", "GAP", "RESET", "ABOVE_MAX_POWER", "NO_READING")
"""How a figure came to be. ABOVE_MAX_POWER, NO_READING and the GAP of a power signal have no energy.
RESET is what the counter shows since it began anew: at least that was used."""
APPORTIONMENTS = ("WHOLE_READING", "SHARE_IN_TIME", "INTEGRATED_POWER")
"""How the energy between two readings came to a part. A share in time takes power to be the same on both sides of a border:
nothing between two readings of a counter says where it changed."""
NO_RATIO = ("NO_GOOD_PART", "NO_READING")

_METER = identifier("stream_id", "Signal of the meter.")
_EQUIPMENT = identifier("equipment_id", "Work unit that the meter feeds.")
_WORK_CENTER = identifier(
    "work_center_id", "Line of the work unit; empty for what is not metered per work unit.", nullable=True
)
_SHIFT = identifier("shift_id", "Shift; empty outside all shifts.", nullable=True)
_PRODUCT = identifier("material_definition_id", "Product being made; empty without a work order.", nullable=True)
_STATE = identifier("state", "State in the site's terms; empty outside planned operation time.", nullable=True)
_ELEMENT = code("time_element", "ISO 22400-2 element of the state.", TIME_ELEMENTS, nullable=True)

ENERGY_METER = Table(
    name="energy_meters",
    description="Which streams are energy meters, and how their values are read.",
    columns=(
        _METER,
        _EQUIPMENT,
        code("kind", "counter: cumulative energy; power: momentary power.", METER_KINDS),
        number("rollover_at", "Value at which the counter starts again at 0, in the stream's unit.", nullable=True, gt=0),
        number("max_gap_s", "Longest time between two readings that is no gap.", unit="s", gt=0),
        number("max_power_kw", "More than this cannot be drawn; a faster counter is wrong.", unit="kW", nullable=True, gt=0),
    ),
    key=("stream_id",),
    sort=("stream_id",),
    partitioned=False,
)

ENERGY_INTERVAL = Table(
    name="energy_interval",
    description="Energy between two readings of a meter, split at the borders of states by share in time (a counter) or along the line between its readings (power); parts of a reading add up to it.",
    columns=(
        _METER,
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        _PRODUCT,
        text("event_id", "State event during which it was used.", nullable=True),
        _STATE,
        _ELEMENT,
        moment("start_at", "Start of the part."),
        moment("end_at", "End of the part (exclusive)."),
        number("duration_s", "Length of the part.", unit="s", gt=0),
        number("energy_kwh", "Energy of the part; empty where nothing is known.", unit="kW.h", nullable=True),
        code("quality", "How the figure came to be.", ENERGY_QUALITY),
        code(
            "apportionment",
            "WHOLE_READING: no border lies between the readings; SHARE_IN_TIME: the part's share in the time between two readings of a counter; INTEGRATED_POWER: the straight line between two readings of power, over the part. Empty without energy.",
            APPORTIONMENTS,
            nullable=True,
        ),
        flag(
            "is_estimated",
            "The part is a share in time of a longer reading, integrated from momentary power, or counted across a gap or a reset.",
        ),
        moment("reading_start_at", "Earlier reading; empty before the first one.", nullable=True),
        moment("reading_end_at", "Later reading; empty after the last one.", nullable=True),
        number("reading_kwh", "Energy between the two readings.", unit="kW.h", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("stream_id", "start_at"),
    sort=("equipment_id", "stream_id", "start_at"),
)

_SUMS = (
    number("energy_kwh", "Energy; empty when none of the time was metered.", unit="kW.h", nullable=True),
    number("estimated_kwh", "Of which estimated (see energy_interval).", unit="kW.h"),
    number("gap_kwh", "Of which counted across a gap: the sum is right, its place in time is not known.", unit="kW.h"),
    number("metered_s", "Time with known energy, added over meters.", unit="s", ge=0),
    number("unmetered_s", "Time without, added over meters.", unit="s", ge=0),
)

ENERGY_BY_STATE = Table(
    name="energy_by_state",
    description="Energy per work unit, shift, product and state; idle energy is what is not used in APT.",
    columns=(_EQUIPMENT, _WORK_CENTER, _SHIFT, _PRODUCT, _STATE, _ELEMENT, *_SUMS, PRODUCTION_DATE),
    key=("equipment_id", "production_date", "shift_id", "material_definition_id", "state", "time_element"),
    sort=("equipment_id", "production_date", "shift_id", "material_definition_id", "state", "time_element"),
)

ENERGY_PER_PART = Table(
    name="energy_per_part",
    description="Energy per work unit, shift and product beside its good parts.",
    columns=(
        _EQUIPMENT,
        _WORK_CENTER,
        _SHIFT,
        _PRODUCT,
        *_SUMS,
        number("productive_kwh", "Energy during actual production time (APT).", unit="kW.h"),
        number("idle_kwh", "Energy during all other time.", unit="kW.h"),
        count("gq", "Parts good at first pass."),
        number("kwh_per_good_part", "Energy per good part, idle energy included.", unit="kW.h/unit", nullable=True),
        code("no_ratio_reason", "Why there is no energy per part.", NO_RATIO, nullable=True),
        flag("is_complete", "All of the time was metered."),
        moment("end_at", "End of the last metered part of time."),
        PRODUCTION_DATE,
    ),
    key=("equipment_id", "production_date", "shift_id", "material_definition_id"),
    sort=("equipment_id", "production_date", "shift_id", "material_definition_id"),
)
