"""The alarm budget: how many false alarms the charts of a plant cost by their rules, and which signals stand out."""

from __future__ import annotations

from spc_platform.contracts.charts import CHARTS
from spc_platform.contracts.table import Table, code, count, flag, identifier, number

METHODS = ("exact", "simulated", "approximate")

SPC_ALARM_BUDGET = Table(
    name="spc_alarm_budget",
    description="Per chart: false alarms that its rules cost when nothing is wrong, alarms that it gave, whether they are more than chance over all charts, and the size of its shift.",
    columns=(
        identifier("characteristic_id", "Characteristic of the chart."),
        identifier("equipment_id", "Work unit of the chart (the stream)."),
        code("chart", "Kind of chart.", tuple(CHARTS)),
        identifier("rule_set", "Rule set that the site declares for the chart."),
        number("points_per_day", "Judged points per production date of the window.", unit="1/d", ge=0),
        number("arl0", "Points per false alarm over all panels, in control.", unit="1", nullable=True, ge=1),
        code(
            "method",
            "exact: chain, integral equation or distribution; simulated: seeded; approximate: normal theory of the run rules on counts.",
            METHODS,
        ),
        number("standard_error", "Of arl0; 0 unless simulated.", unit="1", nullable=True, ge=0),
        number("expected_false_alarms_per_day", "Alarms per production date that the rules cost in control.", unit="1/d", ge=0),
        number("observed_signals_per_day", "Alarms per production date; flagged points in a row are one.", unit="1/d", ge=0),
        number(
            "p_value_adjusted",
            "Of more or larger signals than chance gives, adjusted for the number of charts; empty without judged points.",
            unit="1",
            nullable=True,
            ge=0,
            le=1,
        ),
        flag("is_discovery", "The adjusted p is at most the plant's rate of false discoveries."),
        number(
            "shift_sigma",
            "Mean since the likeliest last change minus the centre line, in sigma of a value.",
            unit="1",
            nullable=True,
        ),
        number("shift_standard_error", "Of shift_sigma.", unit="1", nullable=True, ge=0),
        count("rank", "Discoveries first, then by size of shift.", ge=1),
    ),
    key=("characteristic_id", "equipment_id"),
    sort=("characteristic_id", "equipment_id"),
    partitioned=False,
)
