"""How the figures of the reference cases are obtained: each row calls public functions of the core and nothing else.

Constants are looked up in their module when a case runs, so that a case judges what the platform would use at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spc_platform.contracts.production import OEE_ELEMENTS
from spc_platform.spc import constants, distributions, gauge, hypothesis, indices, run_lengths, weighted_run_lengths
from spc_platform.spc.bias_linearity import linearity
from spc_platform.spc.rule_sets import RULE_SETS, select
from spc_platform.spc.rules import SIDES, evaluate
from spc_platform.spc.sequence import Spans, merge
from spc_platform.spc.subgroups import subgroup_statistics
from spc_platform.verification import strd
from spc_platform.verification.chart_studies import (
    handbook_study,
    handbook_vectors,
    mewma_of_known,
    study_figures,
    vector_study,
)

Figures = Mapping[str, Any]

_OF_SIZE = ("d2", "d3", "d4", "c4", "c5", "c4_mssd", "median_error")


def constants_of(n: float) -> Figures:
    """Constants of a subgroup size, and the factors of the published tables."""
    found = {name: float(getattr(constants, name)(n)) for name in _OF_SIZE if n < 10_000 or name in ("c4", "c5")}
    return found | (constants.factors(int(n)).row(0, named=True) if n < 10_000 else {})


def range_constants(m: int, g: Sequence[int]) -> Figures:
    """AIAG's d2* and degrees of freedom of mean ranges of ``m`` values over ``g`` subgroups."""
    return {"d2_star": constants.d2_star(m, g), "nu": constants.nu_range(m, g)}


def one_subgroup(data_set: str) -> Figures:
    """Mean and standard deviation of a StRD set as one subgroup."""
    values = strd.load(data_set).values
    found = subgroup_statistics(values, np.ones(len(values), dtype=np.bool_), Spans(np.array([0]), len(values)))
    return {"mean": found["mean"][0], "sd": found["s"][0]}


def merged_subgroups(data_set: str, size: int) -> Figures:
    """Mean and standard deviation of a StRD set behind subgroups of ``size``, the last one partial."""
    values = strd.load(data_set).values
    spans = Spans(np.arange(0, len(values), size), len(values))
    found = subgroup_statistics(values, np.ones(len(values), dtype=np.bool_), spans)
    whole = Spans(np.array([0]), len(spans.starts))
    each, centre, squares = (found[name].astype(np.float64) for name in ("n_observed", "mean", "m2"))
    n, mean, m2 = merge(each, centre, squares, whole)
    return {"mean": mean[0], "sd": np.sqrt(m2[0] / (n[0] - 1))}


def autocorrelation(data_set: str) -> Figures:
    """Lag 1 autocorrelation of a StRD set as the fitness of its individuals chart says it."""
    found = study_figures(columns={"value": strd.load(data_set).values.tolist()}, plan={"chart": "i_mr"})
    return {"autocorrelation": found["fitness.autocorrelation_lag1"]}


def one_way(data_set: str) -> Figures:
    """F of a StRD one-way analysis of variance by the hypothesis test, mean squares by the kernels of the charts."""
    certified = strd.load_anova(data_set)
    spans = Spans.from_first(np.diff(certified.treatment, prepend=0) != 0)
    groups = {str(i): part for i, part in enumerate(np.split(certified.values, spans.starts[1:]))}
    found = subgroup_statistics(certified.values, np.ones(spans.rows, dtype=np.bool_), spans)
    within = float(found["m2"].sum()) / (spans.rows - len(groups))
    return {"f": hypothesis.one_way_anova(groups).statistic, "residual_sd": within**0.5}


def signals(z: Sequence[float], rules: str, last_only: bool = False, **conventions: Any) -> Figures:
    """Signals of a sequence in standard errors as ``point rule side from first point`` (points from 1)."""
    values = np.asarray(z, dtype=np.float64)
    chosen = [replace(rule, **conventions) for rule in select(rules, RULE_SETS)]
    found = evaluate(values, np.arange(len(values)) == 0, chosen)
    rows = zip(found.point.tolist(), found.rule.tolist(), found.side.tolist(), found.window_first.tolist(), strict=True)
    texts = [
        f"{point + 1} {chosen[rule].name} {SIDES[side]} from {first + 1}"
        for point, rule, side, first in rows
        if not last_only or point == len(values) - 1
    ]
    return {"signals": sorted(texts)}


def zone_run_length(rules: str, shifts: Sequence[float] = (0.0,)) -> Figures:
    """Exact average run lengths of rules of zones, one per shift."""
    chosen = select(rules, RULE_SETS)
    return {"arl": [run_lengths.average_run_length(chosen, shift) for shift in shifts]}


def pattern_run_length(rule: str, m: int, side: Any = "either") -> Figures:
    """Exact average run length of a trend or an alternation of ``m`` points alone."""
    (chosen,) = select(rule, RULE_SETS)
    return {"arl": run_lengths.pattern_run_length(replace(chosen, m=m, side=side))}


def cusum_run_length(
    reference: float, decision: float, shifts: Sequence[float], head_start: float = 0.0, one_sided: bool = False
) -> Figures:
    """Average run lengths of a CUSUM, one per shift."""
    of = weighted_run_lengths.cusum_run_length
    return {"arl": [of(reference, decision, shift, head_start, one_sided=one_sided) for shift in shifts]}


def cusum_decision(references: Sequence[float], arl0: float) -> Figures:
    """Decision intervals that give a CUSUM its in-control run length."""
    return {"h": [weighted_run_lengths.cusum_decision(reference, arl0) for reference in references]}


def ewma_run_length(weight: float, k: float, shifts: Sequence[float]) -> Figures:
    """Average run lengths of an EWMA with the asymptotic limits, one per shift."""
    of = weighted_run_lengths.ewma_run_length
    return {"arl": [of(weight, k, shift, asymptotic=True) for shift in shifts]}


def mewma_run_length(p: int, weight: float, limit: float, shifts: Sequence[float], arl0: float) -> Figures:
    """Average run lengths of a MEWMA, one per shift, and its limit for an in-control run length of ``arl0``."""
    of = weighted_run_lengths.mewma_run_length
    return {
        "arl": [of(p, weight, limit, shift) for shift in shifts],
        "limit": weighted_run_lengths.mewma_limit(p, weight, arl0),
    }


def interval_of_index(index: str, value: float, nu: float, n: float) -> Figures:
    """95 % interval of a capability index."""
    one, freedom = np.array(value), np.array(nu)
    low, high = (
        indices.interval_of_cp(one, freedom, 0.95)
        if index == "cp"
        else indices.interval_of_cpk(one, np.array(n), freedom, 0.95)
    )
    return {"low": low, "high": high}


def indices_of_summary(
    mean: float, sigma: float, n: float, nu: float, lsl: float, usl: float, target: float = float("nan")
) -> Figures:
    """All indices, intervals and expected defects of a process of which mean and sigma are known."""
    m, s, size, freedom, low, aim, high = (np.array([float(value)]) for value in (mean, sigma, n, nu, lsl, target, usl))
    found = indices.indices(m, s, s, size, freedom, low, aim, high)
    return {name: value[0] for name, value in found.items()}


def fitted(values: Sequence[float], distribution: str) -> Figures:
    """Parameters of a distribution fitted by maximum likelihood."""
    found = distributions.fit(values, distribution).parameters
    return found | {"log_scale": float(np.log(found["scale"]))}


def crossed_gauge(values: Sequence[Sequence[float]], appraisers: Sequence[str], method: str) -> Figures:
    """Gauge R&R of one row of values per part, the trials of each appraiser side by side."""
    cube = np.asarray(values, dtype=np.float64)
    trials = cube.shape[1] // len(appraisers)
    parts, operators = np.repeat(np.arange(len(cube)), cube.shape[1]), np.tile(np.repeat(appraisers, trials), len(cube))
    run: Callable[..., Any] = gauge.gauge_crossed if method == "anova" else gauge.gauge_xbar_r
    study = run(cube.ravel(), parts, operators)
    found: dict[str, Any] = {"n_distinct_categories": study.n_distinct_categories}
    for component in study.components:
        found[f"{component.name}.sd"] = component.standard_deviation
        found[f"{component.name}.contribution_pct"] = component.contribution_pct
        found[f"{component.name}.study_variation_pct"] = component.study_variation_pct
    return found | ({"interaction_p": study.interaction_p_value} if method == "anova" else {})


def gauge_linearity(references: Sequence[float], values: Sequence[Sequence[float]], process_variation: float) -> Figures:
    """Bias and linearity of a gauge, each reference with its own spread."""
    reference = np.repeat(np.asarray(references, dtype=np.float64), len(values[0]))
    study = linearity(np.concatenate(values), reference, process_variation=process_variation, pooled=False)
    return {
        "slope": study.slope.value,
        "slope_se": study.slope.standard_error,
        "slope_t": study.slope.t,
        "intercept": study.intercept.value,
        "intercept_se": study.intercept.standard_error,
        "residual_sd": study.residual_sd,
        "r_squared": study.r_squared,
        "linearity": study.linearity,
        "linearity_pct": study.linearity_pct,
        "bias": [line.bias for line in study.by_reference],
        "average_bias": study.average_bias.bias,
    }


_TESTS: dict[str, Callable[..., Any]] = {
    "welch": hypothesis.two_sample_t,
    "paired": hypothesis.paired_t,
    "mann_whitney": hypothesis.mann_whitney,
    "kruskal_wallis": hypothesis.kruskal_wallis,
    "one_proportion": hypothesis.one_proportion,
    "two_proportions": hypothesis.two_proportions,
    "two_rates": hypothesis.two_rates,
    "levene": hypothesis.levene,
    "bartlett": hypothesis.bartlett,
}


def hypothesis_test(test: str, arguments: Sequence[Any] = (), groups: Any = None, file: Any = None, **options: Any) -> Figures:
    """A hypothesis test of samples, of named groups, or of a Dataplot file of values and groups."""
    if file is not None:
        from spc_platform.verification.chart_studies import handbook_rows

        rows = handbook_rows(file)
        groups = {str(batch): [value for value, own in rows if own == batch] for batch in sorted({row[1] for row in rows})}
    given = (groups,) if groups is not None else tuple(arguments)
    result = _TESTS[test](*given, **options)
    found = {"statistic": result.statistic, "df": list(result.df), "p": result.p_value, "estimate": result.estimate}
    if result.interval is not None:
        found |= {"low": result.interval.low, "high": result.interval.high}
    return found | {effect.name: effect.value for effect in result.effects}


def oee(elements: Sequence[Mapping[str, float]]) -> Figures:
    """Ratios of the sum of rows of OEE elements (seconds and counts)."""
    import polars as pl

    from spc_platform.production.oee import oee_ratios

    empty = dict.fromkeys(OEE_ELEMENTS.schema)
    rows = [empty | dict(row) for row in elements]
    return oee_ratios(pl.DataFrame(rows, schema=dict(OEE_ELEMENTS.schema)), []).row(0, named=True)


COMPUTATIONS: dict[str, Callable[..., Figures]] = {
    "constants": constants_of,
    "range_constants": range_constants,
    "one_subgroup": one_subgroup,
    "merged_subgroups": merged_subgroups,
    "autocorrelation": autocorrelation,
    "one_way": one_way,
    "study": study_figures,
    "handbook_study": handbook_study,
    "vector_study": vector_study,
    "handbook_vectors": handbook_vectors,
    "mewma_of_known": mewma_of_known,
    "signals": signals,
    "zone_run_length": zone_run_length,
    "pattern_run_length": pattern_run_length,
    "cusum_run_length": cusum_run_length,
    "cusum_decision": cusum_decision,
    "ewma_run_length": ewma_run_length,
    "mewma_run_length": mewma_run_length,
    "interval_of_index": interval_of_index,
    "indices_of_summary": indices_of_summary,
    "fitted": fitted,
    "crossed_gauge": crossed_gauge,
    "gauge_linearity": gauge_linearity,
    "hypothesis_test": hypothesis_test,
    "oee": oee,
}
"""What a case may name under ``compute``."""
