"""What a study of a file is asked, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from spc_platform.contracts.charts import CHARTS, Chart
from spc_platform.errors import ContractError
from spc_platform.spc.residual_study import RESIDUAL_CHARTS, RESIDUALS

BAD_PLAN = "SPC-390"
LIMITS = ("shewhart", "probability")
PROBABILITY_CHARTS = ("p", "np", "c", "u", "g")


@dataclass(frozen=True)
class Plan:
    """What is asked of a study. ``chart`` names a row of ``contracts.charts.CHARTS``.

    ``size``: values per subgroup in file order; None where the frame has a ``subgroup`` column or values are individual.
    ``estimator`` None: the chart's default. ``baseline``: first and last subgroup (from 1, within each stage) from which
    limits are estimated; None: all. ``mu``, ``sigma``: historical parameters, in the unit of the values (p, u: centre as a
    proportion or rate). ``rules``: as the command line writes them, e.g. ``nelson`` or ``nelson:1,2,5``. ``excluded``:
    subgroup label -> assigned cause. ``weight``: lambda of EWMA and MEWMA; ``span``: of moving ranges and moving averages
    (None: 2 and 3); ``reference``, ``decision``, ``head_start``: k, h (None: 5) and FIR share of h of a CUSUM in
    standard errors; ``decision`` is also the limit of a MEWMA (None: that of the in-control run length of limits at k);
    ``phase``: of T² limits; ``alpha``: of T², default 2 Phi(-k);
    ``limits``: shewhart, k standard errors, or on counts and g probability, the quantiles of the count's own distribution at
    Phi(-k) and Phi(k); ``pooling``: how a z_mr chart finds sigma (constant, relative, by_part, by_run); ``residuals``: chart
    what is left of each value once its past has predicted it (autoregression or ewma; ``spc.residual_study``), None: the
    values.
    """

    chart: str
    size: int | None = None
    k: float = 3.0
    rules: str = "nelson"
    estimator: str | None = None
    baseline: tuple[int, int] | None = None
    mu: float | None = None
    sigma: float | None = None
    weight: float = 0.2
    span: int | None = None
    reference: float = 0.5
    decision: float | None = None
    head_start: float = 0.0
    phase: int = 1
    alpha: float | None = None
    lsl: float | None = None
    target: float | None = None
    usl: float | None = None
    confidence: float = 0.95
    distribution: str | None = None
    box_cox: float | str | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)
    pooling: str = "by_part"
    limits: str = "shewhart"
    residuals: str | None = None
    custom_rules: pl.DataFrame | None = None


@dataclass(frozen=True)
class Study:
    """What a study found.

    ``stages``: one dict per stage in order: stage, centre, sigma, estimator, nu, n_subgroups, n_values, source (estimated
    or historical), reason, and capability and fitness (dicts or None); of residuals also model, what predicts them.
    ``points``: one row per plotted point and panel:
    panel, statistic, number (from 1), sample, first_row, last_row, stage, n, value, cl, lcl, ucl, standard_error, z, rules
    (list), is_baseline, is_excluded. ``violations``: panel, number, sample, stage, rule_set, rule, rule_text, side, z,
    window (list of numbers), window_samples (list of labels). ``left_out``: tests of the rule set that the chart does not
    allow, with the reason. ``warnings``: what a reader must know.
    """

    plan: Plan
    stages: list[dict[str, Any]]
    points: pl.DataFrame
    violations: pl.DataFrame
    left_out: list[str]
    warnings: list[str]


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "size": (lambda value: value >= 1, "1 or more"),
    "k": (lambda value: value > 0, "above 0"),
    "sigma": (lambda value: value > 0, "above 0"),
    "weight": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "span": (lambda value: value >= 2, "2 or more"),
    "reference": (lambda value: value > 0, "above 0"),
    "decision": (lambda value: value > 0, "above 0"),
    "head_start": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "alpha": (lambda value: 0 < value < 1, "between 0 and 1"),
    "confidence": (lambda value: 0 < value < 1, "between 0 and 1"),
}


_NUMBERS = ("k", "mu", "sigma", "weight", "reference", "decision", "head_start", "lsl", "target", "usl")


def check_plan(plan: Plan) -> None:
    """Raise ``ContractError`` SPC-390 that names the first thing in the plan that no study can follow, and the remedy."""
    if plan.chart not in CHARTS:
        raise ContractError(f"no chart {plan.chart!r}; use one of {', '.join(CHARTS)}", code=BAD_PLAN)
    chart = CHARTS[plan.chart]
    if plan.estimator is not None and plan.estimator not in chart.estimators:
        text = f"estimator {plan.estimator!r} does not fit a {chart.title} chart; use one of {', '.join(chart.estimators)}"
        raise ContractError(text, code=BAD_PLAN)
    for name in _NUMBERS:
        value = getattr(plan, name)
        if value is not None and not math.isfinite(value):
            raise ContractError(f"{name} is {value}; give a finite number, or leave it out", code=BAD_PLAN)
    for name, (holds, expected) in _RANGES.items():
        value = getattr(plan, name)
        if value is not None and not holds(value):
            raise ContractError(f"{name} is {value:g}; it must be {expected}", code=BAD_PLAN)
    _check_historical(plan)
    _check_limits(plan, chart)
    _check_residuals(plan)
    if plan.baseline is not None and not 1 <= plan.baseline[0] <= plan.baseline[1]:
        first, last = plan.baseline
        raise ContractError(
            f"baseline {first}:{last} is no range; write the first and the last subgroup, e.g. 1:25", code=BAD_PLAN
        )
    if plan.lsl is not None and plan.usl is not None and plan.lsl >= plan.usl:
        raise ContractError(f"LSL {plan.lsl:g} is not below USL {plan.usl:g}; correct the limits", code=BAD_PLAN)
    if plan.phase not in (1, 2):
        raise ContractError(f"phase is {plan.phase}; it must be 1 or 2", code=BAD_PLAN)
    without = [label for label, cause in plan.excluded.items() if not cause.strip()]
    if without:
        raise ContractError(
            f"excluded without an assigned cause: {', '.join(without)}; name the cause or keep them", code=BAD_PLAN
        )


def _check_residuals(plan: Plan) -> None:
    if plan.residuals is None:
        return
    if plan.residuals not in RESIDUALS:
        raise ContractError(f"no residuals by {plan.residuals!r}; use {' or '.join(RESIDUALS)}", code=BAD_PLAN)
    if plan.chart not in RESIDUAL_CHARTS:
        what = f"a {CHARTS[plan.chart].title} chart takes no residuals"
        raise ContractError(f"{what}; use one of {', '.join(RESIDUAL_CHARTS)}", code=BAD_PLAN)
    if plan.mu is not None or plan.sigma is not None:
        raise ContractError(
            "residuals vary about 0 by a model of the file; leave mu and sigma out, or name a baseline", code=BAD_PLAN
        )


def _check_limits(plan: Plan, chart: Chart) -> None:
    if plan.limits not in LIMITS:
        raise ContractError(f"limits {plan.limits!r} are unknown; use one of {', '.join(LIMITS)}", code=BAD_PLAN)
    if plan.limits == "probability" and chart.name not in PROBABILITY_CHARTS:
        text = f"a {chart.title} chart has no probability limits; only {', '.join(PROBABILITY_CHARTS)} charts have"
        raise ContractError(f"{text}; leave limits out", code=BAD_PLAN)
    if chart.data != "vectors":
        return
    if plan.size is not None and plan.size > 1 and plan.estimator == "successive_differences":
        text = "subgroups have their covariance within; successive differences are for single vectors: leave the estimator out"
        raise ContractError(text, code=BAD_PLAN)
    if chart.name == "mewma" and plan.alpha is not None:
        raise ContractError("alpha is that of a T² chart; give a MEWMA its k or its decision", code=BAD_PLAN)
    if ":" in plan.rules:
        text = f"rules {plan.rules!r}: a {chart.title} chart has its upper limit as its only test; leave the rules out"
        raise ContractError(text, code=BAD_PLAN)


def _check_historical(plan: Plan) -> None:
    """Refuse historical parameters that the chart has not: they would be left aside in silence."""
    chart = CHARTS[plan.chart]
    given = [name for name in ("mu", "sigma") if getattr(plan, name) is not None]
    refused = [name for name in given if chart.data == "vectors" or plan.chart in ("t", "z_mr")]
    if refused:
        what = f"a {chart.title} chart takes no historical {' or '.join(refused)}: it estimates its parameters from the file"
        raise ContractError(f"{what}; leave it out, or name a baseline", code=BAD_PLAN)
    if plan.sigma is not None and chart.data in ("counts", "events"):
        text = f"sigma of a {chart.title} chart follows from its centre and from what was inspected; leave sigma out, give mu"
        raise ContractError(text, code=BAD_PLAN)
    if plan.mu is None or chart.data not in ("counts", "events"):
        return
    largest = 1.0 if chart.panels[0].statistic in ("p", "np") else math.inf
    if not 0.0 < plan.mu < largest:
        expected = "a share between 0 and 1" if largest == 1.0 else "above 0"
        raise ContractError(f"mu is {plan.mu:g}; the centre of a {chart.title} chart must be {expected}", code=BAD_PLAN)
