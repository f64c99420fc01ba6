"""SPC tables: mergeable subgroup statistics, limit estimates and versions, points, violations, capability."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.charts import CHARTS, ESTIMATORS, PANELS, STATISTICS
from spc_platform.contracts.table import PRODUCTION_DATE, Column, Table, code, count, flag, identifier, moment, number, text

STABILITY = ("stable", "unstable", "too_few_points", "no_limits")

_CHARACTERISTIC = identifier("characteristic_id", "Characteristic of the chart; one chart per characteristic and work unit.")
_EQUIPMENT = identifier("equipment_id", "Work unit of the chart (the stream).")
_CHART = code("chart", "Kind of chart.", tuple(CHARTS))
_UNIT = "<characteristic unit>"
_SUBGROUP_ID = text("subgroup_id", "Identity of the subgroup: characteristic, work unit and its first record.")
_LIMIT_VERSION = count("limit_version", "Version of the limits, from 1 per chart.", ge=1)

SPC_SUBGROUPS = Table(
    name="spc_subgroups",
    description="Rational subgroups of observed measurements: the small, mergeable statistics from which every figure of SPC follows.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _SUBGROUP_ID,
        moment("subgroup_at", "First measurement of the subgroup."),
        moment("subgroup_end_at", "Last measurement of the subgroup."),
        identifier("shift_id", "Shift of the first measurement.", nullable=True),
        identifier("material_lot_id", "Lot of the first measurement.", nullable=True),
        identifier("job_order_id", "Work order of the first measurement.", nullable=True),
        count("specification_version", "Specification in force; a subgroup never spans two.", nullable=True, ge=None),
        count("n_observed", "Observed values.", ge=1),
        number("mean", "Mean of the observed values.", unit=_UNIT),
        number("median", "Median of the observed values.", unit=_UNIT, nullable=True),
        number("m2", "Sum of squared deviations from the mean.", unit=f"{_UNIT}^2", ge=0),
        number("range", "Largest minus smallest; empty for one value.", unit=_UNIT, nullable=True, ge=0),
        number("s", "Sample standard deviation, n-1; empty for one value.", unit=_UNIT, nullable=True, ge=0),
        number("minimum", "Smallest value.", unit=_UNIT),
        number("maximum", "Largest value.", unit=_UNIT),
        count("n_masked", "Values masked by a statistical rule (they stay in the statistics above)."),
        number("mean_unmasked", "Mean without the masked values.", unit=_UNIT, nullable=True),
        number("m2_unmasked", "Sum of squared deviations without the masked values.", unit=f"{_UNIT}^2", nullable=True, ge=0),
        PRODUCTION_DATE,
    ),
    key=("subgroup_id",),
    sort=("characteristic_id", "equipment_id", "subgroup_at"),
)

SPC_COUNT_SUBGROUPS = Table(
    name="spc_count_subgroups",
    description="Counted subgroups of attribute charts: how many parts were inspected and how many of them, or how many defects, were found.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _SUBGROUP_ID,
        moment("subgroup_at", "First count of the subgroup."),
        moment("subgroup_end_at", "Last count of the subgroup."),
        identifier("shift_id", "Shift of the first count.", nullable=True),
        identifier("job_order_id", "Work order of the first count.", nullable=True),
        count("n_observed", "Parts inspected; of a g chart the parts between two events."),
        number("count", "Nonconforming parts or defects found.", unit="1", ge=0),
        number("size", "What was inspected: parts; on a t chart the hours since the event before.", unit="1", ge=0),
        PRODUCTION_DATE,
    ),
    key=("subgroup_id",),
    sort=("characteristic_id", "equipment_id", "subgroup_at"),
)

SPC_LIMIT_ESTIMATES = Table(
    name="spc_limit_estimates",
    description="What the limits would be if they were estimated now, from the window that the policy declares. Rematerialized on every change; judges nothing.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _CHART,
        code("estimator", "How sigma within was estimated.", ESTIMATORS),
        count("n_subgroups", "Subgroups in the window.", ge=1),
        count("n_observed", "Values in the window.", ge=1),
        number("mu", "Grand mean, weighted by n.", unit=_UNIT),
        number("sigma", "Sigma within; empty when it cannot be estimated.", unit=_UNIT, nullable=True, ge=0),
        number(
            "sigma_means",
            "Sigma of subgroup means by their moving ranges; between/within charts only.",
            unit=_UNIT,
            nullable=True,
            ge=0,
        ),
        moment("window_from", "First subgroup of the window."),
        moment("window_to", "Last subgroup of the window."),
        text("warning", "What a reader must know, e.g. fewer than 25 subgroups.", nullable=True),
        identifier("inputs_hash", "SHA-256 over the subgroups that entered."),
    ),
    key=("characteristic_id", "equipment_id"),
    sort=("characteristic_id", "equipment_id"),
    partitioned=False,
)

SPC_LIMITS = Table(
    name="spc_limits",
    description="Versioned control limits: mu, sigma and the rule for n, from which limits are derived. Append-only; each point is judged by the version in force at its time.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _LIMIT_VERSION,
        _CHART,
        number("mu", "Centre of the process.", unit=_UNIT),
        number(
            "sigma",
            "Sigma within; of counts the width relative to a binomial or Poisson count (Laney's sigma z, else 1).",
            unit=_UNIT,
            ge=0,
        ),
        number(
            "sigma_means",
            "Sigma of subgroup means by their moving ranges; between/within charts only.",
            unit=_UNIT,
            nullable=True,
            ge=0,
        ),
        code("estimator", "How sigma was estimated.", ESTIMATORS),
        number("k", "Width of the limits in standard errors.", unit="1", gt=0),
        count("subgroup_size", "Declared subgroup size; limits follow the observed n of each point.", ge=1),
        moment("baseline_from", "First subgroup of the baseline."),
        moment("baseline_to", "Last subgroup of the baseline."),
        count("n_subgroups", "Subgroups that entered.", ge=1),
        text("excluded_subgroup_ids", "Subgroups left out, joined by ;.", nullable=True),
        text("exclusion_cause", "The assigned cause of the exclusion.", nullable=True),
        text("approved_by", "Person or policy that approved the version."),
        text("reason", "Why the version was made."),
        count("supersedes", "Version that this one replaces.", nullable=True, ge=1),
        identifier("inputs_hash", "SHA-256 over the subgroups that entered."),
        moment("effective_from", "In force from (inclusive)."),
        moment("effective_to", "In force until (exclusive); empty for the newest.", nullable=True),
        text("warning", "What a reader must know, e.g. fewer than 25 subgroups.", nullable=True),
    ),
    key=("characteristic_id", "equipment_id", "limit_version"),
    sort=("characteristic_id", "equipment_id", "limit_version"),
    partitioned=False,
)

SPC_POINTS = Table(
    name="spc_points",
    description="One row per plotted point and panel, judged by the limits in force at its time.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _SUBGROUP_ID,
        moment("subgroup_at", "Time of the point."),
        _CHART,
        code("panel", "Which panel of the chart.", PANELS),
        code("statistic", "What is plotted.", STATISTICS),
        number("value", "The plotted value.", unit=_UNIT),
        count("n_observed", "Values behind the point.", ge=1),
        count("n_masked", "Of which masked by a statistical rule."),
        number("cl", "Centre line at this n.", unit=_UNIT, nullable=True),
        number("lcl", "Lower control limit at this n.", unit=_UNIT, nullable=True),
        number("ucl", "Upper control limit at this n.", unit=_UNIT, nullable=True),
        number("standard_error", "Standard error of the statistic at this n.", unit=_UNIT, nullable=True, ge=0),
        number("z", "(value - cl) / standard error.", unit="1", nullable=True),
        count("limit_version", "Version that judged the point; empty when none was in force.", nullable=True, ge=1),
        flag("is_baseline", "The point lies in the baseline of the version that judges it (phase I)."),
        text("rules", "Rules that this point triggers, joined by ;.", nullable=True),
        PRODUCTION_DATE,
    ),
    key=("subgroup_id", "panel"),
    sort=("characteristic_id", "equipment_id", "panel", "subgroup_at"),
)

SPC_VIOLATIONS = Table(
    name="spc_violations",
    description="One row per rule that a point triggers, with the whole window of points.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        _SUBGROUP_ID,
        moment("subgroup_at", "Time of the flagged point (the last of the window)."),
        code("panel", "Which panel of the chart.", PANELS),
        identifier("rule_set", "Rule set that the site declares for the chart."),
        identifier("rule", "Rule of the set, e.g. western_electric_2."),
        text("rule_text", "The rule in words."),
        code(
            "side",
            "On which side of the centre line; a rising trend is above, a falling one below, and rules that mix sides are both.",
            ("above", "below", "both"),
        ),
        number("z", "Standardized value of the flagged point.", unit="1"),
        text("window_subgroup_ids", "Subgroups of the window in time order, joined by ;."),
        _LIMIT_VERSION,
        PRODUCTION_DATE,
    ),
    key=("subgroup_id", "panel", "rule"),
    sort=("characteristic_id", "equipment_id", "subgroup_at", "panel", "rule"),
)

_INDICES = (
    ("cp", "Cp, sigma within; empty for a one-sided specification"),
    ("cpl", "CpL, sigma within; empty without LSL"),
    ("cpu", "CpU, sigma within; empty without USL"),
    ("cpk", "Cpk, sigma within (CpU or CpL for a one-sided specification)"),
    ("pp", "Pp, overall s; empty for a one-sided specification"),
    ("ppl", "PpL, overall s; empty without LSL"),
    ("ppu", "PpU, overall s; empty without USL"),
    ("ppk", "Ppk, overall s (PpU or PpL for a one-sided specification)"),
    ("cpm", "Cpm, overall s about the target; empty without a target or for a one-sided specification"),
)

SPC_CAPABILITY = Table(
    name="spc_capability",
    description="Capability and performance of parts per chart and specification version. Never across a change of specification, never without its stability verdict.",
    columns=(
        _CHARACTERISTIC,
        _EQUIPMENT,
        count("specification_version", "Specification that judged the parts.", ge=None),
        number("lsl", "Lower specification limit.", unit=_UNIT, nullable=True),
        number("target", "Target value.", unit=_UNIT, nullable=True),
        number("usl", "Upper specification limit.", unit=_UNIT, nullable=True),
        moment("window_from", "First measurement."),
        moment("window_to", "Last measurement."),
        count("n_observed", "Values.", ge=1),
        count("n_subgroups", "Subgroups.", ge=1),
        number("mean", "Mean of the values.", unit=_UNIT),
        number("sigma_within", "Sigma within subgroups.", unit=_UNIT, nullable=True, ge=0),
        number("sigma_overall", "Overall sample standard deviation, n-1.", unit=_UNIT, nullable=True, ge=0),
        code("estimator", "How sigma within was estimated.", ESTIMATORS),
        number("nu", "Degrees of freedom of sigma within.", unit="1", nullable=True, ge=0),
        *(
            number(name, text_, unit="1", nullable=True)
            for name, text_ in (
                *(
                    (f"{index}{end}", f"{title}{what}")
                    for index, title in _INDICES
                    for end, what in (
                        ("", "."),
                        ("_ci_low", ": lower end of the confidence interval."),
                        ("_ci_high", ": upper end of the confidence interval."),
                    )
                ),
                ("z_bench_within", "Z.bench: normal quantile of the expected defects in total, sigma within."),
                ("z_bench_overall", "Z.bench, overall s."),
                ("pp_unmasked", "Pp with statistically masked values left out, for comparison only."),
                ("ppk_unmasked", "Ppk with statistically masked values left out, for comparison only."),
            )
        ),
        *(
            number(f"{kind}_ppm_{side}{sigma}", f"{title}, {where}{of}.", unit="ppm", nullable=True, ge=0)
            for kind, title, sigmas in (
                (
                    "expected",
                    "Expected defects per million of a normal process",
                    (("_within", ", sigma within"), ("_overall", ", overall s")),
                ),
                ("observed", "Observed defects per million", (("", ""),)),
            )
            for sigma, of in sigmas
            for side, where in (("below_lsl", "below LSL"), ("above_usl", "above USL"), ("total", "in total"))
        ),
        code(
            "distribution",
            "Declared distribution of the parts; empty: normal.",
            ("normal", "weibull", "lognormal", "gamma"),
            nullable=True,
        ),
        number("fit_statistic", "Anderson-Darling statistic of the fitted distribution.", unit="1", nullable=True),
        number("fit_p_value", "p-value of the fit.", unit="1", nullable=True, ge=0, le=1),
        Column(
            "is_extrapolated",
            pl.Boolean,
            "A tail percentile lies outside the values, or fewer than 2,000 values support it.",
            nullable=True,
        ),
        *(
            number(name, text_, unit=unit, nullable=True)
            for name, text_, unit in (
                ("x_00135", "0.135 percentile of the fitted distribution.", _UNIT),
                ("x_50", "Median of the fitted distribution.", _UNIT),
                ("x_99865", "99.865 percentile of the fitted distribution.", _UNIT),
                ("pp_percentile", "Pp by percentiles of the fitted distribution (ISO 22514).", "1"),
                ("ppl_percentile", "PpL by percentiles.", "1"),
                ("ppu_percentile", "PpU by percentiles.", "1"),
                ("ppk_percentile", "Ppk by percentiles.", "1"),
                ("expected_ppm_total_fitted", "Expected defects per million of the fitted distribution, in total.", "ppm"),
            )
        ),
        number("confidence", "Confidence level of the intervals.", unit="1", gt=0, le=1),
        count("n_masked", "Values masked by a statistical rule (they are in every index but pp_unmasked and ppk_unmasked)."),
        count("n_violation_points", "Points of the location panel that trigger a rule."),
        number("signal_share", "Share of the points that trigger a rule.", unit="1", ge=0, le=1),
        number(
            "expected_signal_share",
            "Share that triggers a rule by chance on a stable process.",
            unit="1",
            nullable=True,
            ge=0,
            le=1,
        ),
        code("stability", "Verdict on the chart over the window.", STABILITY),
        text("reason", "Why an index is empty.", nullable=True),
    ),
    key=("characteristic_id", "equipment_id", "specification_version"),
    sort=("characteristic_id", "equipment_id", "specification_version"),
    partitioned=False,
)
