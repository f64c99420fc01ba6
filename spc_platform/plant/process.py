"""What the plant is and does to its parts: lines, stations, characteristics, streams and special causes.

The customer's and the engineer's view (specifications, limits, grids) is the site folder ``data/site``;
this module is nature's side of it: true means, true sigmas, true causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Berlin")
DAY_START_HOUR = 6
FIRST_DATE = date(2026, 3, 23)
LAST_DATE = date(2026, 4, 19)
DEFAULT_NOW = datetime(2026, 4, 6, 6, 30, tzinfo=ZONE)
"""All 14 production dates 2026-03-23 to 2026-04-05 are complete and no record of them is outstanding."""
DEFAULT_SEED = 20260323
MICRO_STOP_S = 300
"""A stop shorter than this is a minor stoppage (``policies.micro_stop_s`` of the site)."""


def local(text: str) -> datetime:
    """Read an instant from a wall-clock time of the plant, ``YYYY-MM-DD HH:MM[:SS]``.

    >>> local("2026-03-29 05:00").utcoffset().total_seconds()
    7200.0
    """
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


@dataclass(frozen=True, slots=True)
class Station:
    """A work unit. ``lag_s`` is when a part reaches it after it entered the line, ``run_rate`` its true speed / ideal speed."""

    station: str
    line: str
    lag_s: int
    run_rate: float


@dataclass(frozen=True, slots=True)
class Line:
    """A work center: products in turn, shifts as (shift, start hour, weekdays 1-7), tact of sampled parts."""

    line: str
    letter: str
    products: tuple[str, str]
    shifts: tuple[tuple[str, int, str], ...]
    breaks: tuple[tuple[str, str, int], ...]
    sample_every_s: int


@dataclass(frozen=True, slots=True)
class Characteristic:
    """True mean and sigma of a characteristic, what its sensor can read, and the size of a stated sample (0: none)."""

    characteristic: str
    station: str
    unit: str
    mean: float
    sigma: float
    resolution: float
    sensor_min: float
    sensor_max: float
    sample_size: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """A signal: true level while running, stopped, idle and in setup, noise, grid and clock offset in s."""

    signal: str
    station: str
    unit: str
    grid_s: int
    levels: tuple[float, float, float, float]
    noise: float
    clock_offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpecialCause:
    """A disturbance of the process of stated size (in true sigmas), start and end.

    shift: the mean moves by ``size``; drift: it moves from 0 to ``size`` over the window; variance: sigma
    is multiplied by ``size``; spike: the first part at or after ``start`` moves by ``size``.
    """

    cause: str
    characteristic: str
    kind: Literal["shift", "drift", "variance", "spike"]
    size: float
    start: datetime
    end: datetime


_BREAKS = (("early", "09:00", 15), ("early", "12:00", 30), ("late", "18:00", 30), ("night", "00:30", 30))
LINES = (
    Line(
        "line_a",
        "A",
        ("HSG-100", "HSG-200"),
        (("early", 6, "123456"), ("late", 14, "12345"), ("night", 22, "123456")),
        (*_BREAKS, ("night", "04:00", 15)),
        210,
    ),
    Line(
        "line_b",
        "B",
        ("VLV-10", "VLV-20"),
        (("early", 6, "123457"), ("late", 14, "12345"), ("night", 22, "12345")),
        _BREAKS,
        210,
    ),
)
SHIFTS = ("early", "late", "night")

STATIONS = (
    Station("A10", "line_a", 0, 0.94),
    Station("A20", "line_a", 50, 0.90),
    Station("A30", "line_a", 100, 0.88),
    Station("A40", "line_a", 150, 0.92),
    Station("B10", "line_b", 20, 0.95),
    Station("B20", "line_b", 80, 0.87),
    Station("B30", "line_b", 140, 0.91),
    Station("B40", "line_b", 200, 0.86),
)

SEGMENTS: dict[str, tuple[str, ...]] = {
    "line_a": ("turning", "pressing", "inspection", "fastening"),
    "line_b": ("milling", "welding", "leak_test", "final_test"),
}
"""Operations of the products of a line, one at each of its stations in their order."""

PRI_S: dict[tuple[str, str], int] = {
    **dict(zip([("HSG-100", s) for s in ("A10", "A20", "A30", "A40")], (48, 44, 40, 46), strict=True)),
    **dict(zip([("HSG-200", s) for s in ("A10", "A20", "A30", "A40")], (52, 47, 42, 50), strict=True)),
    **dict(zip([("VLV-10", s) for s in ("B10", "B20", "B30", "B40")], (60, 55, 58, 50), strict=True)),
    **dict(zip([("VLV-20", s) for s in ("B10", "B20", "B30", "B40")], (66, 60, 62, 54), strict=True)),
}
"""Planned run time per item in s by product and station."""

CHARACTERISTICS = (
    Characteristic("A10.bore_diameter", "A10", "mm", 42.0, 0.004, 0.0001, 41.5, 42.5),
    Characteristic("A10.outer_diameter", "A10", "mm", 60.001, 0.006, 0.0001, 59.5, 60.5),
    Characteristic("A10.surface_roughness", "A10", "um", 0.8, 0.05, 0.001, 0.0, 5.0),
    Characteristic("A20.press_force", "A20", "kN", 25.0, 0.32, 0.01, 0.0, 50.0),
    Characteristic("A20.press_depth", "A20", "mm", 12.5, 0.01, 0.0001, 12.0, 13.0),
    Characteristic("A20.pull_out_force", "A20", "N", 900.0, 25.0, 0.1, 0.0, 2000.0),
    Characteristic("A30.edge_distance", "A30", "mm", 5.2, 0.008, 0.0001, 4.8, 5.6, 8),
    Characteristic("A30.hole_pitch", "A30", "mm", 30.0, 0.007, 0.0001, 29.5, 30.5, 5),
    Characteristic("A30.contour_deviation", "A30", "um", 18.0, 1.8, 0.01, -20.0, 100.0),
    Characteristic("A40.tightening_torque", "A40", "N.m", 12.0, 0.18, 0.001, 0.0, 25.0),
    Characteristic("A40.tightening_angle", "A40", "deg", 95.2, 2.2, 0.01, 0.0, 360.0),
    Characteristic("A40.seating_torque", "A40", "N.m", 4.5, 0.12, 0.001, 0.0, 25.0),
    Characteristic("B10.seat_depth", "B10", "mm", 8.0, 0.006, 0.0001, 7.5, 8.5),
    Characteristic("B10.port_width", "B10", "mm", 14.0, 0.005, 0.0001, 13.5, 14.5),
    Characteristic("B10.flatness", "B10", "um", 9.0, 0.8, 0.01, -10.0, 60.0),
    Characteristic("B20.weld_depth", "B20", "mm", 1.6, 0.03, 0.001, 0.0, 4.0),
    Characteristic("B20.seam_width", "B20", "mm", 0.9, 0.02, 0.0001, 0.0, 2.5),
    Characteristic("B20.melt_temperature", "B20", "degC", 1480.0, 6.0, 0.1, 1000.0, 2000.0),
    Characteristic("B30.test_pressure", "B30", "kPa", 600.0, 2.5, 0.01, 0.0, 1000.0),
    Characteristic("B30.leak_rate", "B30", "ml/min", 1.2, 0.11, 0.001, -2.0, 10.0),
    Characteristic("B30.fill_time", "B30", "s", 2.4, 0.05, 0.001, 0.0, 10.0),
    Characteristic("B40.opening_pressure", "B40", "kPa", 320.0, 3.0, 0.01, 0.0, 800.0),
    Characteristic("B40.stroke", "B40", "mm", 3.2, 0.012, 0.0001, 2.5, 4.0, 5),
    Characteristic("B40.response_time", "B40", "ms", 18.0, 0.9, 0.01, 0.0, 100.0),
)

STREAMS = (
    Stream("A10.spindle_load", "A10", "%", 2, (62.0, 4.0, 8.0, 15.0), 2.5),
    Stream("A10.coolant_temperature", "A10", "degC", 30, (23.0, 21.5, 21.0, 22.0), 0.15),
    Stream("A20.hydraulic_pressure", "A20", "kPa", 30, (18000.0, 12000.0, 9000.0, 12500.0), 120.0),
    Stream("A30.light_level", "A30", "%", 30, (85.0, 85.0, 40.0, 85.0), 0.4),
    Stream("A40.motor_current", "A40", "A", 30, (6.5, 0.4, 0.3, 1.2), 0.2),
    Stream("B10.spindle_load", "B10", "%", 30, (55.0, 3.5, 7.0, 12.0), 2.0),
    Stream("B20.laser_power", "B20", "W", 20, (1500.0, 20.0, 10.0, 200.0), 8.0, 7.0),
    Stream("B30.supply_pressure", "B30", "kPa", 30, (720.0, 735.0, 740.0, 730.0), 4.0),
    Stream("B40.chamber_temperature", "B40", "degC", 30, (25.0, 24.6, 24.2, 24.8), 0.12),
)
"""``levels`` follow the order of ``STATES``."""


@dataclass(frozen=True, slots=True)
class Meter:
    """An electricity meter: power in W while running, stopped, idle and in setup, and its first reading in kWh.

    It starts anew from 0 at ``METER_ROLLOVER_KWH``, and at ``reset``, when it is exchanged. Outside shifts it stands still.
    """

    signal: str
    station: str
    power_w: tuple[int, int, int, int]
    first_kwh: int
    reset: datetime | None = None


METER_GRID_S = 300
METER_ROLLOVER_KWH = 10_000
METERS = (
    Meter("A10.energy", "A10", (11_500, 2_600, 1_900, 3_800), 9_100),
    Meter("A20.energy", "A20", (7_400, 2_100, 1_200, 2_500), 312),
    Meter("A30.energy", "A30", (1_300, 900, 420, 950), 58),
    Meter("A40.energy", "A40", (2_200, 640, 380, 900), 1_204),
    Meter("B10.energy", "B10", (12_800, 2_900, 2_000, 4_100), 640),
    Meter("B20.energy", "B20", (18_500, 3_300, 1_500, 5_200), 1_075, local("2026-04-01 10:15")),
    Meter("B30.energy", "B30", (3_100, 1_450, 700, 1_500), 417),
    Meter("B40.energy", "B40", (4_600, 2_300, 1_100, 2_400), 96),
)
"""``power_w`` follows the order of ``STATES``; in a shift without a recorded state the station draws what it draws stopped."""

STATES = ("RUN", "STOP", "IDLE", "SETUP")
RUN, STOP, IDLE, SETUP = range(4)
MINOR_REASONS = ("jam", "sensor_blocked", "operator_reset")
BREAKDOWN_REASONS = ("tool_breakage", "drive_fault", "control_fault", "material_missing")
SCRAP_REASONS = ("dimension", "surface", "contamination")

HOLIDAYS: tuple[tuple[str, date], ...] = (("line_b", date(2026, 4, 3)),)
"""Good Friday: line B does not work."""


@dataclass(frozen=True, slots=True)
class FixedEvent:
    """Something that happens to a station at a stated time; ``planned_from`` is when it counts as planned downtime."""

    station: str
    state: int | None
    reason: str | None
    start: datetime
    end: datetime
    planned_from: datetime | None = None


def _maintenance(station: str, start: str, end: str, recorded: str) -> FixedEvent:
    first, last = local(start), local(end)
    planned = max(first, local(recorded))
    return FixedEvent(station, STOP, "maintenance", first, last, planned if planned < last else None)


FIXED_EVENTS = (
    _maintenance("B10", "2026-03-26 10:00", "2026-03-26 11:30", "2026-03-20 08:00"),
    _maintenance("A10", "2026-03-31 19:00", "2026-03-31 20:15", "2026-03-27 16:00"),
    _maintenance("A20", "2026-04-01 15:00", "2026-04-01 16:30", "2026-04-01 15:40"),
    _maintenance("B40", "2026-04-02 07:00", "2026-04-02 07:45", "2026-04-03 09:00"),
    FixedEvent("A30", STOP, "drive_fault", local("2026-03-24 13:40"), local("2026-03-24 14:20")),
    FixedEvent("B30", STOP, "jam", local("2026-03-25 21:58:00"), local("2026-03-25 22:02:30")),
    FixedEvent("B20", STOP, "control_fault", local("2026-03-26 05:50"), local("2026-03-26 06:10")),
    FixedEvent("A40", STOP, "sensor_blocked", local("2026-04-01 05:58:30"), local("2026-04-01 06:01:30")),
    FixedEvent("B30", None, None, local("2026-03-25 10:12:00"), local("2026-03-25 10:16:20")),
)
"""Maintenance as in the site's calendar; stops across the edges of shifts and of production dates; a gap nobody recorded."""

SPECIAL_CAUSES = (
    SpecialCause("SC01", "A10.bore_diameter", "shift", 3.0, local("2026-03-25 09:20"), local("2026-03-25 13:00")),
    SpecialCause("SC02", "B20.melt_temperature", "drift", 4.0, local("2026-03-26 06:30"), local("2026-03-26 13:30")),
    SpecialCause("SC03", "A40.tightening_torque", "shift", -3.0, local("2026-03-27 15:00"), local("2026-03-27 19:00")),
    SpecialCause("SC04", "A30.edge_distance", "variance", 3.0, local("2026-03-28 22:30"), local("2026-03-29 05:30")),
    SpecialCause("SC05", "B30.test_pressure", "variance", 3.0, local("2026-03-30 07:00"), local("2026-03-30 13:00")),
    SpecialCause("SC06", "A30.contour_deviation", "spike", 6.0, local("2026-03-31 08:00"), local("2026-03-31 10:00")),
    SpecialCause("SC07", "B10.seat_depth", "drift", -4.0, local("2026-03-31 14:30"), local("2026-03-31 21:30")),
    SpecialCause("SC08", "A20.press_depth", "shift", 3.0, local("2026-04-01 22:30"), local("2026-04-02 02:00")),
    SpecialCause("SC09", "B40.response_time", "spike", 6.0, local("2026-04-02 10:00"), local("2026-04-02 12:00")),
    SpecialCause("SC10", "B40.opening_pressure", "shift", 3.0, local("2026-04-05 07:00"), local("2026-04-05 11:00")),
    SpecialCause("SC11", "A10.outer_diameter", "shift", 3.0, local("2026-04-06 08:00"), local("2026-04-06 12:00")),
    SpecialCause("SC12", "B20.seam_width", "shift", -3.0, local("2026-04-08 07:00"), local("2026-04-08 11:00")),
)
