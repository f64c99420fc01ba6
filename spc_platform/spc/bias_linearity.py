"""How true a gauge measures: type 1 study, bias against a reference, linearity over the range of use.

Sources: AIAG, Measurement Systems Analysis, 4th ed. (2010), chapter III; type 1 study as Bosch booklet 10 and
VDA 5 describe it. Whether bias stays as it is (stability) is read from a control chart of a master part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.results import Interval, Record, centred, confident, number, sample
from spc_platform.spc.sequence import Floats

CAPABLE_FROM = 1.33
"""Cg and Cgk from which a gauge counts as capable."""


@dataclass(frozen=True)
class Bias(Record):
    """Mean deviation from a reference with its t test; ``bias_pct`` is of the process variation where one is given."""

    reference: float
    n: int
    mean: float
    bias: float
    standard_deviation: float
    t: float
    df: float
    p_value: float
    interval: Interval
    bias_pct: float
    reason: str | None = None


@dataclass(frozen=True)
class TypeOneStudy(Record):
    """One operator, one reference part: Cg rests on repeatability alone, Cgk also on the bias."""

    bias: Bias
    tolerance: float
    tolerance_share: float
    k: float
    study_variation: float
    cg: float
    cgk: float
    repeatability_pct: float
    repeatability_and_bias_pct: float
    resolution_pct: float
    is_capable: bool | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Coefficient(Record):
    """One coefficient of the line of bias on the reference value."""

    value: float
    standard_error: float
    t: float
    p_value: float
    interval: Interval


@dataclass(frozen=True)
class LinearityStudy(Record):
    """Line of bias on reference value, bias per reference, linearity |slope| x process variation and its percentage."""

    n: int
    slope: Coefficient
    intercept: Coefficient
    residual_sd: float
    r_squared: float
    r_squared_adjusted: float
    df: int
    process_variation: float
    linearity: float
    linearity_pct: float
    average_bias: Bias
    by_reference: tuple[Bias, ...]
    lack_of_fit_f: float
    lack_of_fit_p_value: float
    notes: tuple[str, ...]


def bias(values: npt.ArrayLike, reference: float, *, process_variation: float | None = None, confidence: float = 0.95) -> Bias:
    """Bias of repeated measurements of one reference part: mean minus ``reference``, t test against 0, interval.

    ``values``: 2 or more, same unit as ``reference`` and ``process_variation`` (k sigma of the process). Errors: SPC-360,
    361, 365. Equal values give t and p as NaN with a reason. Source: AIAG MSA 4th ed., III.B, independent sample method.

    >>> found = bias([5.8, 5.7, 5.9, 6.1], 6.0)
    >>> round(found.bias, 3), round(found.t, 4)
    (-0.125, -1.4639)
    """
    measured = sample(values, f"reference {reference}", 2)
    return _bias(measured - number(reference, "the reference value"), float(reference), process_variation, confidence)


def _bias(
    deviations: Floats,
    reference: float,
    process_variation: float | None,
    confidence: float,
    pooled: tuple[float, int] | None = None,
) -> Bias:
    shift, (parts,) = centred(np.sort(deviations))
    n, mean = int(parts.size), shift + float(parts.mean())
    sd = float(parts.std(ddof=1)) if n > 1 else math.nan
    spread, df = pooled or (sd, n - 1)
    error = spread / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + confident(confidence) / 2.0, df)) * error
    t = mean / error if error > 0 else math.nan
    share = (
        100.0 * abs(mean) / number(process_variation, "the process variation", positive=True) if process_variation else math.nan
    )
    return Bias(
        reference=reference,
        n=n,
        mean=reference + mean,
        bias=mean,
        standard_deviation=sd,
        t=t,
        df=float(df),
        p_value=float(2.0 * stats.t.sf(abs(t), df)),
        interval=Interval(mean - half, mean + half, confidence, "t"),
        bias_pct=share,
        reason=None if error > 0 else "no t: all deviations are equal, the resolution hides the repeatability",
    )


def type_one_study(
    values: npt.ArrayLike,
    reference: float,
    tolerance: float,
    *,
    tolerance_share: float = 0.2,
    k: float = 6.0,
    resolution: float | None = None,
    confidence: float = 0.95,
) -> TypeOneStudy:
    """Type 1 gauge study: Cg = K T / (k s), Cgk = (K T / 2 - |bias|) / (k s / 2), with K = ``tolerance_share``.

    ``values``: repeated measurements of one part of known ``reference`` (10 or more; 25 to 50 advised); ``tolerance`` =
    USL - LSL. The shares in percent are K / Cg and K / Cgk as Minitab prints them. A spread of 0 gives Cg as NaN with a
    note. Errors: SPC-360, 361 (fewer than 10), 365, 369 (tolerance).

    >>> study = type_one_study([9.99, 10.01] * 10, 10.0, 1.0)
    >>> round(study.cg, 4), round(study.cgk, 4)
    (3.2489, 3.2489)
    """
    measured = sample(values, "type 1 study", 10)
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ContractError(f"tolerance {tolerance} is not above 0; give USL - LSL in the unit of the values", code="SPC-369")
    if not 0.0 < tolerance_share <= 1.0:
        raise ContractError(f"tolerance share {tolerance_share} is not in (0, 1]; 0.2 is usual", code="SPC-365")
    number(k, "k of the study variation", positive=True)
    found = bias(measured, reference, confidence=confidence)
    spread = found.standard_deviation
    notes = []
    if measured.size < 25:
        notes.append(f"{measured.size} measurements: 25 to 50 are advised")
    if not spread > 0:
        notes.append("no Cg: all values are equal, the resolution hides the repeatability")
    cg = tolerance_share * tolerance / (k * spread) if spread > 0 else math.nan
    cgk = (tolerance_share * tolerance / 2.0 - abs(found.bias)) / (k * spread / 2.0) if spread > 0 else math.nan
    if cgk <= 0:
        notes.append("the bias alone uses up its share of the tolerance: no share in percent with bias")
    return TypeOneStudy(
        bias=found,
        tolerance=tolerance,
        tolerance_share=tolerance_share,
        k=k,
        study_variation=k * spread,
        cg=cg,
        cgk=cgk,
        repeatability_pct=100.0 * tolerance_share / cg if cg > 0 else math.nan,
        repeatability_and_bias_pct=100.0 * tolerance_share / cgk if cgk > 0 else math.nan,
        resolution_pct=100.0 * number(resolution, "the resolution", positive=True) / tolerance if resolution else math.nan,
        is_capable=bool(cg >= CAPABLE_FROM and cgk >= CAPABLE_FROM) if spread > 0 else None,
        notes=tuple(notes),
    )


def linearity(
    values: npt.ArrayLike,
    references: npt.ArrayLike,
    *,
    process_variation: float | None = None,
    pooled: bool = True,
    confidence: float = 0.95,
) -> LinearityStudy:
    """Least-squares line of bias on reference value, with bias and its t test at each reference.

    ``values``, ``references``: one entry per measurement, same unit, 2 or more distinct references and 2 or more values at
    each. ``process_variation``: k sigma of the process; linearity = |slope| times it. ``pooled``: the t test at each
    reference uses the repeatability pooled over all references (AIAG 4th ed.); False: each its own (Minitab).
    ``lack_of_fit``: F of the reference means about the line, for whether a line describes the bias. Errors: SPC-360, 361,
    362 (one reference only), 364, 365. Source: AIAG MSA 4th ed., III.B, guidelines for determining linearity.
    """
    measured = sample(values, "measured values", 3, keep_order=True)
    reference = sample(references, "reference values", 3, keep_order=True)
    if measured.size != reference.size:
        raise ContractError(
            f"{measured.size} values but {reference.size} references; give one reference per value", code="SPC-364"
        )
    levels, index, counts = np.unique(reference, return_inverse=True, return_counts=True)
    if levels.size < 2:
        raise ContractError("all values belong to one reference; linearity needs 2 or more, use a bias study", code="SPC-362")
    if counts.min() < 2:
        raise ContractError(f"reference {levels[counts.argmin()]} was measured once; measure it again", code="SPC-361")
    order = np.lexsort((measured, reference))
    x, y, index = reference[order], (measured - reference)[order], index[order]
    groups = [y[index == level] for level in range(levels.size)]
    within = math.fsum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    within_df = int(y.size - levels.size)
    repeatability = math.sqrt(within / within_df)
    pool = (repeatability, within_df) if pooled else None
    slope, intercept, residual_ss, total_ss = _line(x, y, confidence)
    lack_df, lack_ss = levels.size - 2, max(residual_ss - within, 0.0)
    lack = (lack_ss / lack_df) / (within / within_df) if lack_df > 0 and within > 0 else math.nan
    share = 100.0 * abs(slope.value)
    notes = [] if process_variation else ["no linearity in units: give the process variation (6 sigma of the process)"]
    return LinearityStudy(
        n=int(y.size),
        slope=slope,
        intercept=intercept,
        residual_sd=math.sqrt(residual_ss / (y.size - 2)),
        r_squared=1.0 - residual_ss / total_ss if total_ss > 0 else math.nan,
        r_squared_adjusted=1.0 - residual_ss / total_ss * (y.size - 1) / (y.size - 2) if total_ss > 0 else math.nan,
        df=int(y.size - 2),
        process_variation=process_variation or math.nan,
        linearity=abs(slope.value) * process_variation if process_variation else math.nan,
        linearity_pct=share if process_variation else math.nan,
        average_bias=_bias(y, float(x.mean()), process_variation, confidence, pool),
        by_reference=tuple(
            _bias(group, float(level), process_variation, confidence, pool) for level, group in zip(levels, groups, strict=True)
        ),
        lack_of_fit_f=lack,
        lack_of_fit_p_value=float(stats.f.sf(lack, lack_df, within_df)) if lack_df > 0 else math.nan,
        notes=tuple(notes),
    )


def _line(x: Floats, y: Floats, confidence: float) -> tuple[Coefficient, Coefficient, float, float]:
    """Slope, intercept, residual and total sum of squares of y on x."""
    middle, level = float(x.mean()), float(y.mean())
    across = float(np.sum((x - middle) ** 2))
    slope = float(np.sum((x - middle) * (y - level))) / across
    residual = float(np.sum((y - level - slope * (x - middle)) ** 2))
    df = y.size - 2
    spread = math.sqrt(residual / df)
    quantile = float(stats.t.ppf(0.5 + confident(confidence) / 2.0, df))

    def coefficient(value: float, error: float) -> Coefficient:
        t = value / error if error > 0 else math.nan
        ends = Interval(value - quantile * error, value + quantile * error, confidence, "t")
        return Coefficient(value, error, t, float(2.0 * stats.t.sf(abs(t), df)), ends)

    at_zero = spread * math.sqrt(1.0 / y.size + middle**2 / across)
    total = float(np.sum((y - level) ** 2))
    return coefficient(slope, spread / math.sqrt(across)), coefficient(level - slope * middle, at_zero), residual, total
