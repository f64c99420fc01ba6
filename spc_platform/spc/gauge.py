"""Gauge repeatability and reproducibility: how much of the variation seen is the measurement itself.

Sources: AIAG, Measurement Systems Analysis, 4th ed. (2010), chapter III; Burdick, Borror and Montgomery, Design and
Analysis of Gauge R&R Studies (SIAM 2005). Random effects, balanced designs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.constants import d2, d2_star
from spc_platform.spc.gauge_design import Cube, Labels, balanced
from spc_platform.spc.gauge_intervals import mls_interval
from spc_platform.spc.results import Interval, Record, confident, number
from spc_platform.spc.sequence import Floats

ACCEPTABLE_BELOW_PCT, UNACCEPTABLE_ABOVE_PCT, FEWEST_CATEGORIES = 10.0, 30.0, 5
"""AIAG's thresholds for the share of gauge variation and for the number of distinct categories."""

MANY_RANGES = 15
"""Above this number of ranges AIAG's K1 rests on d2; up to it on d2* of that number."""

NEGATIVE = "the estimate of {} is negative and taken as 0: its levels differ less than the variation within them explains"

PART, OPERATOR, INTERACTION, REPEATABILITY = "part", "operator", "part x operator", "repeatability"


@dataclass(frozen=True)
class AnovaLine(Record):
    """One line of an analysis of variance; F and p are NaN where there is none."""

    source: str
    df: int
    sum_of_squares: float
    mean_square: float = math.nan
    f: float = math.nan
    p_value: float = math.nan


@dataclass(frozen=True)
class Component(Record):
    """One source of variation: ``variance`` is never negative, ``variance_estimate`` is what the mean squares gave.

    ``study_variation`` = k sd, percentages of the total variance, of the total study variation, of the tolerance and of
    the historical process variation. NaN where not asked or not defined.
    """

    name: str
    variance: float
    variance_estimate: float
    is_negative: bool
    standard_deviation: float
    study_variation: float
    contribution_pct: float
    study_variation_pct: float
    tolerance_pct: float
    process_pct: float
    variance_interval: Interval | None


@dataclass(frozen=True)
class Scale(Record):
    """What gauge variation is compared with: k of the study variation, tolerance limits, historical sigma."""

    k: float = 6.0
    lsl: float | None = None
    usl: float | None = None
    tolerance: float | None = None
    process_sigma: float | None = None

    def checked(self) -> Scale:
        """The scale itself; ``ContractError`` SPC-365 for numbers that no scale can have, SPC-369 for LSL >= USL."""
        number(self.k, "k of the study variation", positive=True)
        for name, value in (("tolerance", self.tolerance), ("process sigma", self.process_sigma)):
            if value is not None:
                number(value, name, positive=True)
        for name, value in (("LSL", self.lsl), ("USL", self.usl)):
            if value is not None:
                number(value, name)
        if self.lsl is not None and self.usl is not None and self.lsl >= self.usl:
            raise ContractError(f"LSL {self.lsl} is not below USL {self.usl}; exchange or correct the limits", code="SPC-369")
        return self

    def span_per_sd(self, mean: float) -> tuple[float, float]:
        """Width to compare with, and how many standard deviations stand against it (one limit: half, from the mean)."""
        if self.tolerance is not None:
            return self.tolerance, self.k
        if self.lsl is not None and self.usl is not None:
            return self.usl - self.lsl, self.k
        if self.lsl is not None:
            return mean - self.lsl, self.k / 2.0
        return (self.usl - mean, self.k / 2.0) if self.usl is not None else (math.nan, math.nan)


@dataclass(frozen=True)
class GaugeStudy(Record):
    """Result of a gauge R&R study; components in the order repeatability ... total."""

    design: str
    method: str
    n_parts: int
    n_operators: int
    n_replicates: int
    mean: float
    scale: Scale
    confidence: float
    anova: tuple[AnovaLine, ...]
    anova_with_interaction: tuple[AnovaLine, ...]
    interaction_p_value: float
    interaction_alpha: float
    is_interaction_pooled: bool
    components: tuple[Component, ...]
    n_distinct_categories: int | None
    distinct_categories: float
    verdicts: dict[str, str]
    notes: tuple[str, ...]

    def component(self, name: str) -> Component:
        """The component of that name."""
        return next(component for component in self.components if component.name == name)


def _line(source: str, df: int, ss: float, over: AnovaLine | None = None) -> AnovaLine:
    mean_square = ss / df
    if over is None or not over.mean_square > 0:
        return AnovaLine(source, df, ss, mean_square)
    f = mean_square / over.mean_square
    return AnovaLine(source, df, ss, mean_square, f, float(stats.f.sf(f, df, over.df)))


def _crossed_tables(cube: Floats) -> tuple[tuple[AnovaLine, ...], tuple[AnovaLine, ...]]:
    """ANOVA with the interaction and with it pooled into repeatability."""
    p, o, r = cube.shape
    grand, cell = cube.mean(), cube.mean(axis=2)
    part, operator = cell.mean(axis=1), cell.mean(axis=0)
    ss_part = o * r * float(np.sum((part - grand) ** 2))
    ss_operator = p * r * float(np.sum((operator - grand) ** 2))
    ss_both = r * float(np.sum((cell - part[:, None] - operator[None, :] + grand) ** 2))
    ss_within = float(np.sum((cube - cell[:, :, None]) ** 2))
    total = AnovaLine("total", cube.size - 1, float(np.sum((cube - grand) ** 2)))
    within = _line(REPEATABILITY, p * o * (r - 1), ss_within)
    both = _line(INTERACTION, (p - 1) * (o - 1), ss_both, within)
    full = (_line(PART, p - 1, ss_part, both), _line(OPERATOR, o - 1, ss_operator, both), both, within, total)
    pooled = _line(REPEATABILITY, within.df + both.df, ss_within + ss_both)
    return full, (_line(PART, p - 1, ss_part, pooled), _line(OPERATOR, o - 1, ss_operator, pooled), pooled, total)


def _nested_table(cube: Floats) -> tuple[AnovaLine, ...]:
    p, o, r = cube.shape
    grand, cell = cube.mean(), cube.mean(axis=2)
    operator = cell.mean(axis=0)
    within = _line(REPEATABILITY, p * o * (r - 1), float(np.sum((cube - cell[:, :, None]) ** 2)))
    part = _line("part within operator", o * (p - 1), r * float(np.sum((cell - operator[None, :]) ** 2)), within)
    above = _line(OPERATOR, o - 1, p * r * float(np.sum((operator - grand) ** 2)), part)
    return above, part, within, AnovaLine("total", cube.size - 1, float(np.sum((cube - grand) ** 2)))


Weights = dict[str, Floats]


def _crossed_weights(p: int, o: int, r: int) -> Weights:
    """Coefficients of the mean squares (part, operator, interaction, repeatability) in each elementary component."""
    return {
        REPEATABILITY: np.array([0.0, 0.0, 0.0, 1.0]),
        OPERATOR: np.array([0.0, 1.0, -1.0, 0.0]) / (p * r),
        INTERACTION: np.array([0.0, 0.0, 1.0, -1.0]) / r,
        "part_to_part": np.array([1.0, 0.0, -1.0, 0.0]) / (o * r),
    }


def _pooled_weights(p: int, o: int, r: int) -> Weights:
    return {
        REPEATABILITY: np.array([0.0, 0.0, 1.0]),
        OPERATOR: np.array([0.0, 1.0, -1.0]) / (p * r),
        "part_to_part": np.array([1.0, 0.0, -1.0]) / (o * r),
    }


def _nested_weights(p: int, o: int, r: int) -> Weights:
    return {
        REPEATABILITY: np.array([0.0, 0.0, 1.0]),
        OPERATOR: np.array([1.0, -1.0, 0.0]) / (p * r),
        "part_to_part": np.array([0.0, 1.0, -1.0]) / r,
    }


SUMS = {
    "reproducibility": (OPERATOR, INTERACTION),
    "gauge_rr": (REPEATABILITY, OPERATOR, INTERACTION),
    "total": (REPEATABILITY, OPERATOR, INTERACTION, "part_to_part"),
}
SHOWN = (REPEATABILITY, OPERATOR, INTERACTION, "reproducibility", "gauge_rr", "part_to_part", "total")


def _components(
    variances: dict[str, float], intervals: dict[str, Interval], mean: float, scale: Scale
) -> tuple[tuple[Component, ...], list[str]]:
    """Elementary estimates into shown components: negatives become 0 before they are added up."""
    kept = {name: max(value, 0.0) for name, value in variances.items()}
    notes = [NEGATIVE.format(name) for name, value in variances.items() if value < 0]
    for total, members in SUMS.items():
        kept[total] = math.fsum(kept[name] for name in members if name in kept)
    span, per_sd = scale.span_per_sd(mean)
    if span <= 0:
        notes.append("no percentage of the tolerance: the mean of the study lies beyond the only limit")
        span = math.nan
    whole = kept["total"]
    shown = []
    for name in SHOWN:
        if name not in kept:
            continue
        sd = math.sqrt(kept[name])
        shown.append(
            Component(
                name=name,
                variance=kept[name],
                variance_estimate=variances.get(name, kept[name]),
                is_negative=variances.get(name, 0.0) < 0,
                standard_deviation=sd,
                study_variation=scale.k * sd,
                contribution_pct=100.0 * kept[name] / whole if whole else math.nan,
                study_variation_pct=100.0 * sd / math.sqrt(whole) if whole else math.nan,
                tolerance_pct=100.0 * per_sd * sd / span,
                process_pct=100.0 * sd / scale.process_sigma if scale.process_sigma else math.nan,
                variance_interval=intervals.get(name),
            )
        )
    if not whole:
        notes.append("all values are equal: the gauge does not resolve the parts, no share can be computed")
    return tuple(shown), notes


def verdict(gauge_pct: float) -> str:
    """AIAG's word for a share of gauge variation in percent: acceptable < 10, conditional <= 30, else unacceptable.

    >>> [verdict(share) for share in (9.9, 10.0, 30.0, 30.1, float("nan"))]
    ['acceptable', 'conditional', 'conditional', 'unacceptable', 'unknown']
    """
    if math.isnan(gauge_pct):
        return "unknown"
    if gauge_pct < ACCEPTABLE_BELOW_PCT:
        return "acceptable"
    return "conditional" if gauge_pct <= UNACCEPTABLE_ABOVE_PCT else "unacceptable"


def _judged(components: tuple[Component, ...]) -> tuple[int | None, float, dict[str, str]]:
    """Number of distinct categories (floor of sqrt(2) PV / GRR, at least 1), its exact value, verdicts by basis."""
    by_name = {component.name: component for component in components}
    gauge, part = by_name["gauge_rr"], by_name["part_to_part"]
    exact = math.sqrt(2.0) * part.standard_deviation / gauge.standard_deviation if gauge.variance > 0 else math.nan
    categories = None if math.isnan(exact) else max(1, math.floor(exact))
    verdicts = {
        "study_variation": verdict(gauge.study_variation_pct),
        "tolerance": verdict(gauge.tolerance_pct),
        "process": verdict(gauge.process_pct),
        "distinct_categories": "unknown"
        if categories is None
        else ("acceptable" if categories >= FEWEST_CATEGORIES else "unacceptable"),
    }
    unasked = [basis for basis in ("tolerance", "process") if verdicts[basis] == "unknown"]
    return categories, exact, {basis: word for basis, word in verdicts.items() if basis not in unasked}


def _from_table(
    table: tuple[AnovaLine, ...], weights: Weights, mean: float, scale: Scale, confidence: float
) -> tuple[tuple[Component, ...], list[str]]:
    lines = [line for line in table if line.source != "total"]
    mean_squares, df = np.array([line.mean_square for line in lines]), np.array([float(line.df) for line in lines])
    every = dict(weights)
    for total, members in SUMS.items():
        every[total] = np.sum([weights[name] for name in members if name in weights], axis=0)
    variances = {name: float(np.sum(c * mean_squares)) for name, c in weights.items()}
    intervals = {name: mls_interval(c, mean_squares, df, confidence) for name, c in every.items()}
    return _components(variances, intervals, mean, scale)


def gauge_crossed(
    values: npt.ArrayLike,
    parts: Labels,
    operators: Labels,
    *,
    scale: Scale | None = None,
    interaction_alpha: float = 0.05,
    confidence: float = 0.95,
) -> GaugeStudy:
    """Gauge R&R by analysis of variance where every operator measures every part the same number of times.

    ``values``, ``parts``, ``operators``: one entry per measurement, any order; 2 or more of each and of replicates.
    The interaction is pooled into repeatability when its p-value exceeds ``interaction_alpha`` (0.05 as Minitab does;
    AIAG uses 0.25; 0 always pools, 1 never). Variance intervals: MLS, per component. Errors: SPC-360, 361, 363 (cell),
    364, 365, 369. Source: AIAG MSA 4th ed., appendix A; F of part and operator over the interaction (random effects).
    """
    scale, confidence = (scale or Scale()).checked(), confident(confidence)
    if not 0.0 <= interaction_alpha <= 1.0:
        raise ContractError(
            f"alpha {interaction_alpha} of the interaction is not between 0 and 1; give a share", code="SPC-365"
        )
    cube = balanced(values, parts, operators, nested=False)
    full, additive = _crossed_tables(cube.values)
    p_value = full[2].p_value
    pool = bool(p_value > interaction_alpha)
    make: Callable[[int, int, int], Weights] = _pooled_weights if pool else _crossed_weights
    table = additive if pool else full
    components, notes = _from_table(table, make(*cube.values.shape), cube.mean, scale, confidence)
    if pool:
        notes.append(f"part x operator is pooled into repeatability: its p-value {p_value:.4g} exceeds {interaction_alpha:g}")
    return _study(
        "crossed", "anova", cube, scale, confidence, table, full, (p_value, interaction_alpha, pool), components, notes
    )


def gauge_nested(
    values: npt.ArrayLike, parts: Labels, operators: Labels, *, scale: Scale | None = None, confidence: float = 0.95
) -> GaugeStudy:
    """Gauge R&R by analysis of variance where each operator measures parts of his own (destructive tests).

    A part label belongs to its operator: part 1 of A and part 1 of B are two parts. Same number of parts per operator and
    of replicates per part; errors as ``gauge_crossed``. Source: Burdick, Borror and Montgomery (2005), chapter 5.
    """
    scale, confidence = (scale or Scale()).checked(), confident(confidence)
    cube = balanced(values, parts, operators, nested=True)
    table = _nested_table(cube.values)
    components, notes = _from_table(table, _nested_weights(*cube.values.shape), cube.mean, scale, confidence)
    return _study("nested", "anova", cube, scale, confidence, table, (), (math.nan, math.nan, False), components, notes)


def gauge_xbar_r(
    values: npt.ArrayLike, parts: Labels, operators: Labels, *, scale: Scale | None = None, confidence: float = 0.95
) -> GaugeStudy:
    """Gauge R&R by averages and ranges, AIAG's hand method, with exact constants in place of its 4-digit K factors.

    EV = R-bar / d2 (d2* of the number of ranges when there are 15 or fewer), AV^2 = (X-diff / d2*(o, 1))^2 - EV^2 / (p r),
    PV = R_p / d2*(p, 1), TV^2 = GRR^2 + PV^2. It cannot see an interaction. Inputs and errors as ``gauge_crossed``.
    Source: AIAG MSA 4th ed., chapter III, section B.
    """
    scale, confidence = (scale or Scale()).checked(), confident(confidence)
    cube = balanced(values, parts, operators, nested=False)
    p, o, r = cube.values.shape
    cell = cube.values.mean(axis=2)
    mean_range = float(np.ptp(cube.values, axis=2).mean())
    repeatability = (mean_range / float(d2(r) if p * o > MANY_RANGES else d2_star(r, p * o))) ** 2
    between = (float(np.ptp(cell.mean(axis=0))) / float(d2_star(o, 1))) ** 2
    variances = {
        REPEATABILITY: repeatability,
        OPERATOR: between - repeatability / (p * r),
        "part_to_part": (float(np.ptp(cell.mean(axis=1))) / float(d2_star(p, 1))) ** 2,
    }
    components, notes = _components(variances, {}, cube.mean, scale)
    notes.append("averages and ranges cannot show a part x operator interaction and give no intervals; prefer the ANOVA")
    return _study("crossed", "xbar_r", cube, scale, confidence, (), (), (math.nan, math.nan, False), components, notes)


def _study(
    design: str,
    method: str,
    cube: Cube,
    scale: Scale,
    confidence: float,
    table: tuple[AnovaLine, ...],
    full: tuple[AnovaLine, ...],
    interaction: tuple[float, float, bool],
    components: tuple[Component, ...],
    notes: list[str],
) -> GaugeStudy:
    categories, exact, verdicts = _judged(components)
    p, o, r = cube.values.shape
    p_value, alpha, pooled = interaction
    return GaugeStudy(
        design, method, p, o, r, cube.mean, scale, confidence, table, full, p_value, alpha, pooled,
        components, categories, exact, verdicts, tuple(notes),
    )  # fmt: skip
