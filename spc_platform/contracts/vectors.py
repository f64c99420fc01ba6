"""Multivariate charts: parts as vectors of their characteristics, frozen means and covariances, judged points."""

from __future__ import annotations

from spc_platform.contracts.site import VECTOR_CHARTS
from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, number, text

_CHART_ID = identifier("chart_id", "Multivariate chart of the site.")
_EQUIPMENT = identifier("equipment_id", "Work unit of the chart.")
_VECTOR_ID = text("vector_id", "Identity of the vector: chart and serial number of the part.")
_CHARACTERISTIC = identifier("characteristic_id", "One characteristic of the chart.")

SPC_VECTORS = Table(
    name="spc_vectors",
    description="Parts that carry a value of every characteristic of a multivariate chart, one row per part and characteristic.",
    columns=(
        _CHART_ID,
        _EQUIPMENT,
        _VECTOR_ID,
        text("serial_number", "Part."),
        moment("vector_at", "Last measurement of the part on this chart."),
        _CHARACTERISTIC,
        number("value", "Observed value; the newest where a part was measured twice.", unit="<characteristic unit>"),
        PRODUCTION_DATE,
    ),
    key=("vector_id", "characteristic_id"),
    sort=("chart_id", "vector_at", "vector_id", "characteristic_id"),
)

SPC_VECTOR_LIMITS = Table(
    name="spc_vector_limits",
    description="Frozen means and covariances of multivariate charts, one row per pair of characteristics. Append-only.",
    columns=(
        _CHART_ID,
        _EQUIPMENT,
        count("limit_version", "Version of the limits, from 1 per chart.", ge=1),
        code("chart", "Kind of chart.", VECTOR_CHARTS),
        _CHARACTERISTIC,
        identifier("other_characteristic_id", "The other characteristic of the pair; itself on the diagonal."),
        number("mean", "Mean of the characteristic.", unit="<characteristic unit>"),
        number("covariance", "Covariance of the pair.", unit="<product of both units>"),
        number("k", "The false-alarm rate of a point is 2 Phi(-k).", unit="1", gt=0),
        count("n_vectors", "Parts of the baseline.", ge=3),
        moment("baseline_from", "First part of the baseline."),
        moment("baseline_to", "Last part of the baseline."),
        text("approved_by", "Person or policy that approved the version."),
        text("reason", "Why the version was made."),
        identifier("inputs_hash", "SHA-256 over the values that entered."),
        moment("effective_from", "In force from (inclusive)."),
    ),
    key=("chart_id", "limit_version", "characteristic_id", "other_characteristic_id"),
    sort=("chart_id", "limit_version", "characteristic_id", "other_characteristic_id"),
    partitioned=False,
)

SPC_VECTOR_POINTS = Table(
    name="spc_vector_points",
    description="Points of T² and MEWMA charts, each judged by the version in force, with the characteristic that contributes most.",
    columns=(
        _CHART_ID,
        _EQUIPMENT,
        _VECTOR_ID,
        text("serial_number", "Part."),
        moment("vector_at", "Time of the point."),
        code("chart", "Kind of chart.", VECTOR_CHARTS),
        number("value", "T² of the part, or the MEWMA statistic.", unit="1", ge=0),
        number("cl", "Median of the statistic in control; 0 on a MEWMA chart.", unit="1", nullable=True),
        number("ucl", "Upper limit.", unit="1", nullable=True, ge=0),
        number("z", "Normal score of the point: above k exactly where the point is above the limit.", unit="1", nullable=True),
        flag("is_signal", "The point lies above its limit."),
        flag("is_baseline", "The part belongs to the baseline of the version that judges it (phase I limits)."),
        identifier("largest_contribution", "Characteristic without which T² would fall most."),
        number("contribution", "By how much T² would fall without it.", unit="1"),
        count("limit_version", "Version that judged the point.", ge=1),
        PRODUCTION_DATE,
    ),
    key=("vector_id",),
    sort=("chart_id", "vector_at", "vector_id"),
)
