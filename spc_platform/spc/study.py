"""A study of values that stand in one file: the same charts, rules, capability and fitness as the pipeline's, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Plan:
    """What is asked of a study. ``chart`` names a row of ``contracts.charts.CHARTS``.

    ``size``: values per subgroup in file order; None where the frame has a ``subgroup`` column or values are individual.
    ``estimator`` None: the chart's default. ``baseline``: first and last subgroup (from 1, within each stage) from which
    limits are estimated; None: all. ``mu``, ``sigma``: historical parameters, in the unit of the values (p, u: centre as a
    proportion or rate). ``rules``: as the command line writes them, e.g. ``nelson`` or ``nelson:1,2,5``. ``excluded``:
    subgroup label -> assigned cause. ``weight``: lambda of EWMA and MEWMA; ``span``: of moving ranges and moving averages
    (None: 2 and 3); ``reference``, ``decision``, ``head_start``: k, h and FIR share of h of a CUSUM in standard errors;
    ``phase``: of T² limits; ``alpha``: of T², default 2 Phi(-k).
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
    decision: float = 5.0
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
    custom_rules: pl.DataFrame | None = None


@dataclass(frozen=True)
class Study:
    """What a study found.

    ``stages``: one dict per stage in order: stage, centre, sigma, estimator, nu, n_subgroups, n_values, source (estimated
    or historical), reason, and capability and fitness (dicts or None). ``points``: one row per plotted point and panel:
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
