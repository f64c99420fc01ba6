"""Tables of a site folder: the plant as data. File ``<name>.csv`` of the folder holds table ``<name>``."""

from __future__ import annotations

from spc_platform.contracts.charts import CHARTS, ESTIMATORS
from spc_platform.contracts.energy import ENERGY_METER
from spc_platform.contracts.part_counts import PART_COUNTERS
from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.rules import RULES
from spc_platform.contracts.signals import STATE_RULES
from spc_platform.contracts.table import Table, code, count, identifier, moment, number, text

EQUIPMENT_LEVELS = ("site", "area", "work_center", "work_unit")
SUBGROUPINGS = ("consecutive", "key", "individual", "shift", "event")
VECTOR_CHARTS = ("t2", "mewma")
COUNTED = ("scrap", "rework", "nonconforming", "energy")
TAG_RECORDS = ("telemetry", "signal", "measurement", "context")
DISTRIBUTIONS = ("normal", "weibull", "lognormal", "gamma")
IMPUTATIONS = ("none", "state_median")
CALENDAR_KINDS = ("holiday", "planned_maintenance", "break", "no_production")


EQUIPMENT = Table(
    name="equipment",
    description="Equipment hierarchy (ISA-95): site, area, work centers (lines), work units (stations).",
    columns=(
        identifier("equipment_id", "Identity."),
        code("equipment_level", "Level in the hierarchy.", EQUIPMENT_LEVELS),
        identifier("parent_equipment_id", "Equipment of the next level up; empty for the site.", nullable=True),
        text("description", "What it is."),
    ),
    key=("equipment_id",),
    partitioned=False,
)

CHARACTERISTICS = Table(
    name="characteristics",
    description="What is measured, where, and how it is charted.",
    columns=(
        identifier("characteristic_id", "Identity."),
        identifier("equipment_id", "Work unit that determines it; a characteristic may have one row per work unit."),
        text("description", "What it is."),
        identifier("unit", "Unit of its values, limits and specifications (UCUM)."),
        code("chart", "Kind of chart.", tuple(CHARTS)),
        code(
            "subgrouping",
            "consecutive: n in time order; key: by the source's subgroup_key; individual: n = 1; shift: the counts of a shift; event: from one counted part to the next.",
            SUBGROUPINGS,
        ),
        count("subgroup_size", "Values per subgroup.", ge=1),
        code("estimator", "Estimator of sigma within.", ESTIMATORS),
        identifier("rule_set", "Run rules of the location panel."),
        code(
            "counted",
            "Of a count chart: which parts of production_count are counted; energy: kWh per good part of a shift, on charts of single values; empty for measured values.",
            COUNTED,
            nullable=True,
        ),
        number("weight", "Lambda of an EWMA (0.2 unless given).", unit="1", nullable=True, gt=0, le=1),
        count("span", "Samples in a moving range (2) or a moving average (3).", nullable=True, ge=2),
        number(
            "reference", "Reference value k of a CUSUM in standard errors (0.5 unless given).", unit="1", nullable=True, gt=0
        ),
        number(
            "decision", "Decision interval h of a CUSUM in standard errors (5 unless given).", unit="1", nullable=True, gt=0
        ),
        number(
            "head_start", "Head start (FIR) of a CUSUM as a share of h (0 unless given).", unit="1", nullable=True, ge=0, le=1
        ),
        code("distribution", "Distribution for capability by percentiles; empty: normal.", DISTRIBUTIONS, nullable=True),
        number("sensor_min", "Below this the sensor cannot read: the value is impossible.", unit="<unit>", nullable=True),
        number("sensor_max", "Above this the sensor cannot read.", unit="<unit>", nullable=True),
        number("iqr_multiplier", "Mask outside Q1 - m*IQR, Q3 + m*IQR; empty: no IQR mask.", unit="1", nullable=True, gt=0),
        count("hampel_window", "Values of the rolling window (odd); empty: no Hampel mask.", nullable=True, ge=3),
        number("hampel_multiplier", "Mask where |x - median| > m * 1.4826 * MAD.", unit="1", nullable=True, gt=0),
    ),
    key=("characteristic_id", "equipment_id"),
    partitioned=False,
)

SPECIFICATIONS = Table(
    name="specifications",
    description="Specification limits, effective-dated: a part is judged by the one in force when it was made.",
    columns=(
        identifier("characteristic_id", "Characteristic."),
        count("version", "Version, from 1.", ge=1),
        moment("effective_from", "In force from (inclusive). A local date or time in the file is read in the site's zone."),
        moment("effective_to", "In force until (exclusive).", nullable=True),
        number("lsl", "Lower limit; empty for one-sided.", unit="<unit>", nullable=True),
        number("target", "Target.", unit="<unit>", nullable=True),
        number("usl", "Upper limit; empty for one-sided.", unit="<unit>", nullable=True),
        identifier("unit", "Unit of the limits; must equal the characteristic's."),
        number("resolution", "Smallest step of the gauge.", unit="<unit>", nullable=True, gt=0),
    ),
    key=("characteristic_id", "version"),
    partitioned=False,
)

STREAMS = Table(
    name="streams",
    description="Signals of stations and the grid on which they are aligned.",
    columns=(
        identifier("stream_id", "Identity."),
        identifier("equipment_id", "Work unit."),
        text("description", "What it is."),
        identifier("unit", "Unit of its values."),
        number("grid_s", "Spacing of the grid.", unit="s", gt=0),
        count("hold_below", "Gaps of fewer cells are held at the last value (3: gaps of 1 or 2).", ge=0),
        count("interpolate_up_to", "Longer gaps of up to this many cells are interpolated (5: gaps of 3 to 5).", ge=0),
        code(
            "imputation",
            "What fills longer gaps: none, or the median of the stream in the unit's state at that time.",
            IMPUTATIONS,
        ),
        number("clock_offset_s", "Station clock minus reference; removed before aligning.", unit="s"),
        identifier(
            "clock_id",
            "Clock that stamps the stream's times, as clock_offset names it: a station or a source; empty: the work unit's own.",
            nullable=True,
        ),
        number("join_tolerance_s", "Oldest grid cell that a measurement may be joined to.", unit="s", gt=0),
        number("sensor_min", "Below this the sensor cannot read.", unit="<unit>", nullable=True),
        number("sensor_max", "Above this the sensor cannot read.", unit="<unit>", nullable=True),
    ),
    key=("stream_id",),
    partitioned=False,
)

PRODUCTS = Table(
    name="products",
    description="Ideal cycle time of each product on each work unit, effective-dated.",
    columns=(
        identifier("material_definition_id", "Product."),
        identifier("equipment_id", "Work unit."),
        number("pri_s", "Planned run time per item.", unit="s/unit", gt=0),
        moment("effective_from", "In force from (inclusive)."),
        moment("effective_to", "In force until (exclusive).", nullable=True),
    ),
    key=("material_definition_id", "equipment_id", "effective_from"),
    partitioned=False,
)

ROUTINGS = Table(
    name="routings",
    description="Operations (process segments) of each product in the order in which its parts pass them.",
    columns=(
        identifier("material_definition_id", "Product."),
        identifier("segment_id", "Operation."),
        count("sequence", "Place of the operation in the route, from 1; the lowest is the first.", ge=1),
        identifier("equipment_id", "Work unit that does it."),
        text("description", "What is done.", nullable=True),
        moment("effective_from", "In force from (inclusive); empty: since ever.", nullable=True),
        moment("effective_to", "In force until (exclusive).", nullable=True),
    ),
    key=("material_definition_id", "segment_id", "effective_from"),
    sort=("material_definition_id", "sequence"),
    partitioned=False,
)

STATES = Table(
    name="states",
    description="States of sources mapped to the site's states and ISO time elements.",
    columns=(
        identifier("source_state", "State as the source names it."),
        identifier("state", "State in the site's terms: RUN, STOP, IDLE, SETUP, UNKNOWN."),
        code("time_element", "ISO 22400-2 element of the state; a reason may override it.", TIME_ELEMENTS),
        count("priority", "Which of two overlapping states is in force: the higher.", ge=0),
    ),
    key=("source_state",),
    partitioned=False,
)

REASONS = Table(
    name="reasons",
    description="Reason codes of stops and scrap.",
    columns=(
        identifier("reason_code", "Identity."),
        text("description", "In words."),
        code("time_element", "Overrides the state's element; empty: the state's own.", TIME_ELEMENTS, nullable=True),
        identifier("loss_category", "One of the six big losses.", nullable=True),
    ),
    key=("reason_code",),
    partitioned=False,
)

SHIFTS = Table(
    name="shifts",
    description="Shifts as local wall-clock rules. A shift that ends at or before its start ends on the next day; its production date is its start date.",
    columns=(
        identifier("shift_id", "Identity."),
        identifier("work_center_id", "Line; * for every line."),
        text("start_local", "Start, HH:MM on the site's clock."),
        text("end_local", "End, HH:MM on the site's clock."),
        text("weekdays", "Weekdays on which it starts, 1 = Monday, e.g. 12345."),
        moment("effective_from", "In force from (inclusive).", nullable=True),
        moment("effective_to", "In force until (exclusive).", nullable=True),
    ),
    key=("shift_id", "work_center_id"),
    partitioned=False,
)

BREAKS = Table(
    name="breaks",
    description="Planned breaks inside shifts, local wall clock.",
    columns=(
        identifier("shift_id", "Shift."),
        identifier("work_center_id", "Line; * for every line."),
        text("start_local", "Start, HH:MM."),
        text("end_local", "End, HH:MM."),
        text("description", "What for."),
    ),
    key=("shift_id", "work_center_id", "start_local"),
    partitioned=False,
)

CALENDAR = Table(
    name="calendar",
    description="Dated entries: holidays and planned downtime. An entry recorded after its start counts only from its recording on.",
    columns=(
        identifier("entry_id", "Identity."),
        identifier("equipment_id", "Site, line or work unit concerned."),
        code("kind", "What it is.", CALENDAR_KINDS),
        moment("start_at", "Start."),
        moment("end_at", "End (exclusive)."),
        moment("recorded_at", "When the entry was made."),
        text("description", "What for."),
    ),
    key=("entry_id",),
    partitioned=False,
)

MULTIVARIATE = Table(
    name="multivariate",
    description="Multivariate charts: which characteristics of a work unit are judged together, part by part.",
    columns=(
        identifier("chart_id", "Identity of the chart."),
        identifier("equipment_id", "Work unit."),
        identifier("characteristic_id", "One of its characteristics; a chart has one row per characteristic, at least two."),
        code("chart", "Kind of chart.", VECTOR_CHARTS),
        count("baseline", "Parts of the baseline from which mean and covariance are frozen.", ge=3),
        number("weight", "Lambda of a MEWMA (0.1 unless given).", unit="1", nullable=True, gt=0, le=1),
    ),
    key=("chart_id", "characteristic_id"),
    partitioned=False,
)

TAGS = Table(
    name="tags",
    description="What the collector records of a subscription: one row per tag of an OPC UA, MQTT, MTConnect, Modbus or serial source.",
    columns=(
        identifier("source_id", "Source of sources.toml."),
        text("address", "Where the source has it: a node id, a topic and path, a data item, a register, a field."),
        code(
            "record",
            "What a reading becomes: a value of a stream, a change of a signal, a measurement, or context of measurements.",
            TAG_RECORDS,
        ),
        identifier(
            "name",
            "The stream, signal, characteristic, or column of measurement that it fills (serial_number, material_lot_id, job_order_id, subgroup_key).",
        ),
        identifier("equipment_id", "Work unit."),
        identifier("unit", "Unit of its values after scaling; empty for signals and context.", nullable=True),
        number("scale", "Recorded value = raw value * scale + offset; 1 unless given.", unit="1", nullable=True),
        number("offset", "Added after scaling; 0 unless given.", unit="<unit>", nullable=True),
        number(
            "deadband", "A value of a stream is recorded when it moved by at least this.", unit="<unit>", nullable=True, gt=0
        ),
        number("interval_s", "At most one value of a stream is recorded in this time.", unit="s", nullable=True, gt=0),
        text(
            "trigger", "Address whose change says that the measurement is complete; empty: every reading is one.", nullable=True
        ),
    ),
    key=("source_id", "address", "record", "name"),
    partitioned=False,
)

SITE_TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EQUIPMENT,
        CHARACTERISTICS,
        MULTIVARIATE,
        SPECIFICATIONS,
        RULES,
        STREAMS,
        PRODUCTS,
        ROUTINGS,
        STATES,
        STATE_RULES,
        REASONS,
        SHIFTS,
        BREAKS,
        CALENDAR,
        ENERGY_METER,
        PART_COUNTERS,
        TAGS,
    )
}
