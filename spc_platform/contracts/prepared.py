"""Prepared tables: aligned streams and mask flags. Observed values are never overwritten."""

from __future__ import annotations

from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

FILL_FLAGS = ("observed", "held", "interpolated", "imputed", "missing")
MASK_REASONS = ("none", "iqr", "hampel", "iqr+hampel")

TELEMETRY_ALIGNED = Table(
    name="telemetry_aligned",
    description="Station streams on the grid that the site declares. Only rows flagged observed are measurements; the rest never enter limits or capability.",
    columns=(
        identifier("stream_id", "Signal of a station."),
        identifier("equipment_id", "Work unit of the stream."),
        moment("grid_at", "Start of the grid cell, after the declared clock offset was removed."),
        number("value", "Mean of the observations in the cell, or the filled value.", unit="<stream unit>", nullable=True),
        code("fill_flag", "How the value came to be.", FILL_FLAGS),
        count("n_observed", "Observations in the cell."),
        PRODUCTION_DATE,
    ),
    key=("stream_id", "grid_at"),
    sort=("stream_id", "grid_at"),
)

MEASUREMENT_FLAGS = Table(
    name="measurement_flags",
    description="Statistical outlier masks beside the values, per station and characteristic. A mask hides nothing from the rules.",
    columns=(
        identifier("source_id", "Source of the measurement."),
        text("record_id", "Record of the measurement."),
        identifier("characteristic_id", "What was measured."),
        identifier("equipment_id", "Work unit."),
        moment("measured_at", "When it was measured."),
        number("value", "The measured value, unchanged.", unit="<characteristic unit>"),
        number("iqr_low", "Lower fence Q1 - m*IQR.", unit="<characteristic unit>", nullable=True),
        number("iqr_high", "Upper fence Q3 + m*IQR.", unit="<characteristic unit>", nullable=True),
        number("hampel_score", "|x - rolling median| / (1.4826 MAD).", unit="1", nullable=True),
        code("mask_reason", "Which declared rule masks the value.", MASK_REASONS),
        flag("is_masked", "True when any declared rule masks the value."),
        number("value_cleaned", "The value, or empty where it is masked.", unit="<characteristic unit>", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("source_id", "record_id"),
    sort=("characteristic_id", "measured_at"),
)

MEASUREMENT_PROCESS = Table(
    name="measurement_process",
    description="Each measurement with the process values of its station: as-of join to the aligned streams, offset and tolerance declared per stream.",
    columns=(
        identifier("source_id", "Source of the measurement."),
        text("record_id", "Record of the measurement."),
        identifier("characteristic_id", "What was measured."),
        moment("measured_at", "When it was measured."),
        identifier("stream_id", "Joined stream."),
        moment("grid_at", "Grid cell joined; empty when none lies within the tolerance.", nullable=True),
        number("process_value", "Value of the stream in that cell.", unit="<stream unit>", nullable=True),
        code("fill_flag", "How the stream's value came to be; missing when nothing was joined.", FILL_FLAGS),
        number("lag_s", "measured_at - grid_at.", unit="s", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("source_id", "record_id", "stream_id"),
    sort=("characteristic_id", "measured_at", "stream_id"),
)
