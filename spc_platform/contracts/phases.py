"""Between phase I and phase II: frozen limits against the running estimate, and a new version tried on past data."""

from __future__ import annotations

from spc_platform.contracts.charts import CHARTS, ESTIMATORS, PANELS
from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, identifier, moment, number, text

DRIFT_VERDICTS = ("stable", "shifted", "wider", "narrower", "no_version", "no_estimate")
SHADOW_VERDICTS = ("only_in_force", "only_shadow", "both")

_CHARACTERISTIC = identifier("characteristic_id", "Characteristic of the chart.")
_EQUIPMENT = identifier("equipment_id", "Work unit of the chart.")
_UNITLESS = "1"

SPC_LIMIT_DRIFT = Table(
    name="spc_limit_drift",
    description="How far the running estimate of each chart lies from its newest limit version. A finding, never a change: new limits need an approver.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        code("chart", "Kind of chart.", tuple(CHARTS)),
        count("limit_version", "Newest version; empty when the chart has none.", nullable=True, ge=1),
        code("estimator", "How the running sigma was estimated.", ESTIMATORS, nullable=True),
        code(
            "verdict",
            "stable: neither interval leaves its bounds; shifted: the centre moved; wider, narrower: sigma changed; no_version: nothing to compare with; no_estimate: nothing to compare.",
            DRIFT_VERDICTS,
        ),
        number("shift", "(running mu - frozen mu) / frozen sigma.", unit=_UNITLESS, nullable=True),
        number(
            "shift_standard_error",
            "Standard error of the shift; both centres are estimates.",
            unit=_UNITLESS,
            nullable=True,
            ge=0,
        ),
        number("shift_ci_low", "Lower end of the confidence interval of the shift.", unit=_UNITLESS, nullable=True),
        number("shift_ci_high", "Upper end of the confidence interval of the shift.", unit=_UNITLESS, nullable=True),
        number("ratio", "Running sigma / frozen sigma.", unit=_UNITLESS, nullable=True, ge=0),
        number("ratio_ci_low", "Lower end of the confidence interval of the ratio.", unit=_UNITLESS, nullable=True, ge=0),
        number("ratio_ci_high", "Upper end of the confidence interval of the ratio.", unit=_UNITLESS, nullable=True, ge=0),
        number("nu_frozen", "Degrees of freedom of the frozen sigma.", unit=_UNITLESS, nullable=True, gt=0),
        number("nu_estimate", "Degrees of freedom of the running sigma.", unit=_UNITLESS, nullable=True, gt=0),
        number("confidence", "Confidence level of each interval.", unit=_UNITLESS, gt=0, le=1),
        moment("window_from", "First subgroup of the running estimate.", nullable=True),
        moment("window_to", "Last subgroup of the running estimate.", nullable=True),
        text("explanation", "The verdict in words, or why there is none."),
    ),
    key=("characteristic_id", "equipment_id"),
    sort=("characteristic_id", "equipment_id"),
    partitioned=False,
)

SPC_SHADOW = Table(
    name="spc_shadow",
    description="Rules that past subgroups trigger under the limits in force then, under a new version tried as a shadow, or under both.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        text("subgroup_id", "Identity of the subgroup."),
        moment("subgroup_at", "Time of the flagged point."),
        code("panel", "Which panel of the chart.", PANELS),
        identifier("rule_set", "Rule set of the chart."),
        identifier("rule", "Rule of the set."),
        text("rule_text", "The rule in words."),
        code("verdict", "Under which limits the point triggers the rule.", SHADOW_VERDICTS),
        count("limit_version", "Version in force at the time; empty when none was.", nullable=True, ge=1),
        count("shadow_version", "Version tried as a shadow.", ge=1),
        number("z_in_force", "Standardized value under the limits in force.", unit=_UNITLESS, nullable=True),
        number("z_shadow", "Standardized value under the shadow.", unit=_UNITLESS, nullable=True),
        PRODUCTION_DATE,
    ),
    key=("subgroup_id", "panel", "rule", "shadow_version"),
    sort=("characteristic_id", "equipment_id", "subgroup_at", "panel", "rule"),
    partitioned=False,
)
