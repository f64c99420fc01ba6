"""Options of the verbs that study one file. Nothing heavy is imported here: `spc --help` answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_DATA, _CHART, _SPEC, _OUT = "Data", "Chart", "Specification", "Output"


def _option(help_text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


File = Annotated[Path, typer.Argument(help="CSV, Parquet or XLSX file with a header line.")]
Sheet = Annotated[str | None, _option("Sheet of an XLSX file (the first).", _DATA)]
Value = Annotated[list[str] | None, _option("Column of values; repeat it for one subgroup a row, or for T².", _DATA)]
Subgroup = Annotated[str | None, _option("Column that names the subgroup (or the sample) of each row.", _DATA)]
Size = Annotated[
    str | None, _option("Values per subgroup, in file order; with --count the inspected units: column or number.", _DATA)
]
Stage = Annotated[str | None, _option("Column of stages: limits start anew where it changes.", _DATA)]
Part = Annotated[str | None, _option("Column of part types, for short runs (z_mr).", _DATA)]
Nominal = Annotated[str | None, _option("Column or number that is subtracted, for short runs (dnom).", _DATA)]
Chart = Annotated[
    str | None, _option("xbar_r, xbar_s, i_mr, p, c, ewma, cusum, t2 …; chosen from the data unless named.", _CHART)
]
Baseline = Annotated[str | None, _option("First and last subgroup that limits rest on, e.g. 1:25 (all).", _CHART)]
Rules = Annotated[str, _option("nelson, western_electric:1,4, … or @FILE with rules of your own.", _CHART)]
Width = Annotated[float, _option("Limits in standard errors.", _CHART, "--k")]
Estimator = Annotated[str | None, _option("Of sigma: rbar, sbar, pooled, mr, median_mr, mssd …", _CHART)]
Mu = Annotated[float | None, _option("Historical centre.", _CHART)]
Sigma = Annotated[float | None, _option("Historical sigma.", _CHART)]
Exclude = Annotated[list[str] | None, _option("LABEL=CAUSE of a subgroup that limits do not rest on; may be repeated.", _CHART)]
Lsl = Annotated[float | None, _option("Lower specification limit.", _SPEC)]
Usl = Annotated[float | None, _option("Upper specification limit.", _SPEC)]
Target = Annotated[float | None, _option("Target, for Cpm.", _SPEC)]
Confidence = Annotated[float, _option("Confidence of intervals.", _SPEC)]
Distribution = Annotated[str | None, _option("normal, lognormal, weibull, gamma, johnson or auto.", _SPEC)]
BoxCox = Annotated[str | None, _option("Power of a Box-Cox transformation, or auto.", _SPEC, "--box-cox")]
Out = Annotated[Path | None, _option("File to write (standard output).", _OUT)]


def analyze(
    file: File,
    chart: Chart = None,
    value: Value = None,
    subgroup: Subgroup = None,
    size: Size = None,
    count: Annotated[str | None, _option("Column of counts, for p, np, c, u and Laney charts.", _DATA)] = None,
    stage: Stage = None,
    part: Part = None,
    nominal: Nominal = None,
    sheet: Sheet = None,
    baseline: Baseline = None,
    rules: Rules = "nelson",
    k: Width = 3.0,
    estimator: Estimator = None,
    mu: Mu = None,
    sigma: Sigma = None,
    exclude: Exclude = None,
    weight: Annotated[float, _option("Weight of the newest point of EWMA and MEWMA.", _CHART, "--lambda")] = 0.2,
    span: Annotated[int | None, _option("Values of a moving range (2) or moving average (3).", _CHART)] = None,
    reference: Annotated[float, _option("k of a CUSUM in standard errors.", _CHART)] = 0.5,
    decision: Annotated[float | None, _option("h of a CUSUM in standard errors (5); limit of a MEWMA.", _CHART)] = None,
    fir: Annotated[float, _option("Head start of a CUSUM as a share of h, e.g. 0.5.", _CHART)] = 0.0,
    alpha: Annotated[float | None, _option("False-alarm rate of a T² chart (that of --k).", _CHART)] = None,
    phase: Annotated[int, _option("1: T² limits for the data they rest on; 2: for future data.", _CHART)] = 1,
    pooling: Annotated[str, _option("Sigma of a Z-MR chart: by_part, by_run, constant, relative.", _CHART)] = "by_part",
    limits: Annotated[str, _option("shewhart, or probability: exact quantiles on p, np, c, u, g.", _CHART)] = "shewhart",
    residuals: Annotated[
        str | None, _option("Chart what the past of each value does not predict: autoregression or ewma.", _CHART)
    ] = None,
    lsl: Lsl = None,
    usl: Usl = None,
    target: Target = None,
    confidence: Confidence = 0.95,
    distribution: Distribution = None,
    box_cox: BoxCox = None,
    form: Annotated[str, _option("table, json, html or png.", _OUT, "--format")] = "table",
    out: Out = None,
    fail_on_signal: Annotated[bool, _option("Exit with 3 when a point signals.", _OUT, "--fail-on-signal")] = False,
) -> None:
    """Control chart, run rules, capability and fitness of the values in one file."""
    from spc_platform.cli.analyze import run_analyze
    from spc_platform.cli.study_plan import Request

    request = Request(
        chart=chart, value=_all(value), subgroup=subgroup, size=size, count=count, stage=stage, part=part, nominal=nominal,
        baseline=baseline, rules=rules, k=k, weight=weight, span=span, reference=reference, decision=decision, fir=fir,
        alpha=alpha, phase=phase, estimator=estimator, lsl=lsl, target=target, usl=usl, mu=mu, sigma=sigma,
        confidence=confidence, distribution=distribution, box_cox=box_cox, exclude=_all(exclude), pooling=pooling,
        residuals=residuals, limits=limits,
    )  # fmt: skip
    raise typer.Exit(run_analyze(file, request, form=form, out=out, sheet=sheet, fail_on_signal=fail_on_signal))


def capability(
    file: File,
    value: Value = None,
    lsl: Lsl = None,
    usl: Usl = None,
    target: Target = None,
    subgroup: Subgroup = None,
    size: Size = None,
    stage: Stage = None,
    sheet: Sheet = None,
    chart: Chart = None,
    estimator: Estimator = None,
    baseline: Baseline = None,
    rules: Rules = "nelson",
    k: Width = 3.0,
    exclude: Exclude = None,
    confidence: Confidence = 0.95,
    distribution: Distribution = None,
    box_cox: BoxCox = None,
    form: Annotated[str, _option("table, json or html.", _OUT, "--format")] = "table",
    out: Out = None,
) -> None:
    """Capability of the values in one file against a specification, never without its stability verdict."""
    from spc_platform.cli.analyze import run_capability
    from spc_platform.cli.study_plan import Request

    request = Request(
        chart=chart, value=_all(value), subgroup=subgroup, size=size, stage=stage, baseline=baseline, rules=rules, k=k,
        estimator=estimator, lsl=lsl, target=target, usl=usl, confidence=confidence, distribution=distribution,
        box_cox=box_cox, exclude=_all(exclude),
    )  # fmt: skip
    raise typer.Exit(run_capability(file, request, form=form, out=out, sheet=sheet))


def gauge(
    file: File,
    value: Annotated[str, _option("Column of measured values.", _DATA)],
    part: Part = None,
    operator: Annotated[str | None, _option("Column of operators (or gauges).", _DATA)] = None,
    reference: Annotated[str | None, _option("Column or number of true values, for --bias and --linearity.", _DATA)] = None,
    sheet: Sheet = None,
    method: Annotated[str, _option("anova, nested or xbar_r.", _CHART)] = "anova",
    bias: Annotated[bool, _option("Bias against one reference.", _CHART, "--bias")] = False,
    linearity: Annotated[bool, _option("Linearity over several references.", _CHART, "--linearity")] = False,
    interaction_alpha: Annotated[float, _option("p above which the interaction is pooled.", _CHART)] = 0.05,
    lsl: Lsl = None,
    usl: Usl = None,
    tolerance: Annotated[float | None, _option("Width of the specification.", _SPEC)] = None,
    sigma: Annotated[float | None, _option("Sigma of the process that the gauge watches.", _SPEC)] = None,
    k: Annotated[float, _option("Standard deviations of study variation.", _SPEC, "--k")] = 6.0,
    confidence: Confidence = 0.95,
    form: Annotated[str, _option("table, json or html.", _OUT, "--format")] = "table",
    out: Out = None,
) -> None:
    """Measurement system: gauge R&R by parts and operators, or bias and linearity against reference values."""
    from spc_platform.cli.measurements import GaugeRequest, run_gauge

    request = GaugeRequest(
        value=value, part=part, operator=operator, method=method, reference=reference, bias=bias, linearity=linearity, lsl=lsl,
        usl=usl, tolerance=tolerance, sigma=sigma, k=k, interaction_alpha=interaction_alpha, confidence=confidence,
    )  # fmt: skip
    raise typer.Exit(run_gauge(file, request, form=form, out=out, sheet=sheet))


def compare(
    file: File,
    value: Annotated[list[str] | None, _option("Column of values; repeat it where each group has its column.", _DATA)] = None,
    group: Annotated[str | None, _option("Column of groups (or laboratories).", _DATA)] = None,
    paired: Annotated[str | None, _option("Column of items that were measured in both groups.", _DATA)] = None,
    count: Annotated[str | None, _option("Column of counts, for proportions and rates.", _DATA)] = None,
    size: Annotated[str | None, _option("Inspected units or exposure: column or number.", _DATA)] = None,
    material: Annotated[str | None, _option("Column of materials, for three or more laboratories.", _DATA)] = None,
    sheet: Sheet = None,
    question: Annotated[str, _option("means, paired, variances, medians, proportions, rates or normality.", _CHART)] = "means",
    laboratories: Annotated[bool, _option("Compare laboratories instead.", _CHART, "--laboratories")] = False,
    null_value: Annotated[float | None, _option("Hypothetical value (0; of ratios 1).", _CHART)] = None,
    equal_variances: Annotated[bool, _option("Suppose equal variances.", _CHART, "--equal-variances")] = False,
    alternative: Annotated[str, _option("two-sided, less or greater.", _CHART)] = "two-sided",
    confidence: Confidence = 0.95,
    form: Annotated[str, _option("table, json or html.", _OUT, "--format")] = "table",
    out: Out = None,
) -> None:
    """Groups or laboratories against each other: tests with effect sizes and intervals."""
    from spc_platform.cli.measurements import CompareRequest, run_compare

    request = CompareRequest(
        value=_all(value), group=group, question=question, paired=paired, count=count, size=size, laboratories=laboratories,
        material=material, null_value=null_value, equal_variances=equal_variances, alternative=alternative,
        confidence=confidence,
    )  # fmt: skip
    raise typer.Exit(run_compare(file, request, form=form, out=out, sheet=sheet))


def _all(texts: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(texts or ())


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    for verb in (analyze, capability, gauge, compare):
        app.command()(verb)
