"""A study of values that stand in one file: the same charts, rules, capability and fitness as the pipeline's, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS, Chart
from spc_platform.errors import ContractError
from spc_platform.spc.attribute import Statistic, check_counts
from spc_platform.spc.charting import SETTINGS, chart_parameters, chart_points, chart_signals, starts, window_members
from spc_platform.spc.limits import MINIMUM_INDIVIDUALS, MINIMUM_SUBGROUPS
from spc_platform.spc.rare_events import check_counts_between, check_times
from spc_platform.spc.residual_study import Models, residual_samples
from spc_platform.spc.rule_sets import RULE_SETS, Rule, allowed, custom_rules, select
from spc_platform.spc.sequence import Spans
from spc_platform.spc.short_run import Pooling, z_mr_parameters, z_values
from spc_platform.spc.study_plan import Plan, Study, check_plan
from spc_platform.spc.study_samples import checked_baseline, observed_samples, sample_numbers
from spc_platform.spc.study_stages import DEVIATIONS, stage_results
from spc_platform.spc.subgroups import subgroup_statistics

__all__ = ["Plan", "Study", "study"]

BAD_VALUES = "SPC-391"
BAD_SIZES = "SPC-392"
LARGEST_RANGE_SUBGROUP = 10
"""Above this size the range wastes most of the values (Montgomery 6.3): an S panel is advised."""

_POINT_COLUMNS = ["panel", "statistic", "number", "sample", "first_row", "last_row", "stage", "n", "value", "cl", "lcl", "ucl"]
_JUDGED_COLUMNS = ["standard_error", "z", "rules", "is_baseline", "is_excluded"]


def study(frame: pl.DataFrame, plan: Plan) -> Study:
    """Chart, rules, capability and fitness of the values of one file.

    ``frame``: ``row`` (Int64, the number of the data row, for messages), ``stage`` and ``subgroup`` (String or null), and
    ``value`` (null: missing); for charts of counts ``count`` and ``size``; for z_mr ``part``; for deviations ``nominal``; for
    vectors one column ``v:NAME`` per variable. Rows are in the order in which they are charted. A stage ends where its label
    changes. Limits of a stage come from its own baseline, or from ``plan.mu`` and ``plan.sigma``. Raises ``ContractError``
    SPC-390 (the plan), SPC-391 (values), SPC-392 (subgroup sizes), and what the chart's kernels raise.
    """
    check_plan(plan)
    chart = CHARTS[plan.chart]
    if frame.is_empty():
        raise ContractError("the file has no data row; nothing can be charted", code=BAD_VALUES)
    frame = _staged(frame)
    if chart.data == "vectors":
        from spc_platform.spc.vector_study import vector_study

        return vector_study(frame, plan)
    samples = _MAKERS[chart.data](frame, plan, chart)
    samples = _entering(samples, plan)
    models: Models = {}
    if plan.residuals is not None:
        samples, models = residual_samples(samples, plan.residuals)
    parameters = _parameters(samples, plan, chart)
    charted = samples.join(parameters, on=_parameter_key(chart), how="left", maintain_order="left")
    if "standardized" in charted.columns:
        charted = charted.with_columns(mean="standardized", mu=pl.lit(0.0), sigma=pl.lit(1.0))
    points = chart_points(charted)
    rules, left_out = rules_of(plan, chart)
    signals = plan_signals(points, plan, rules)
    return Study(
        plan=plan,
        stages=stage_results(frame, samples, parameters, points, signals, plan, rules, models),
        points=_published(points, signals),
        violations=_violations(points, signals),
        left_out=left_out,
        warnings=_warnings(frame, samples, plan, chart),
    )


def _staged(frame: pl.DataFrame) -> pl.DataFrame:
    if "stage" not in frame.columns:
        frame = frame.with_columns(stage=pl.lit(None, dtype=pl.String))
    if "subgroup" not in frame.columns:
        frame = frame.with_columns(subgroup=pl.lit(None, dtype=pl.String))
    return frame.with_columns(stage_number=pl.Series(starts(frame, ["stage"])).cum_sum().cast(pl.Int64))


def _refuse_unfinite(frame: pl.DataFrame, column: str) -> None:
    bad = frame.filter(pl.col(column).is_not_null() & ~pl.col(column).is_finite())
    if bad.height:
        text = f"row {bad['row'][0]}: {column} is {bad[column][0]}; correct it, or leave the cell empty if nothing was measured"
        raise ContractError(text, code=BAD_VALUES)


def _of_values(frame: pl.DataFrame, plan: Plan, chart: Chart) -> pl.DataFrame:
    """Samples of a chart of values, one row per subgroup in order; a subgroup without values has n 0."""
    _refuse_unfinite(frame, "value")
    if frame["value"].null_count() == frame.height:
        raise ContractError("there is no value in any row; nothing can be charted", code=BAD_VALUES)
    if plan.chart in DEVIATIONS:
        frame = _deviations(frame)
    frame = frame.with_columns(sample_number=sample_numbers(frame, plan)).sort("sample_number", maintain_order=True)
    first = frame.group_by("sample_number", maintain_order=True).agg(
        sample=pl.col("subgroup").first(),
        stage=pl.col("stage").first(),
        stage_number=pl.col("stage_number").first(),
        first_row=pl.col("row").min(),
        last_row=pl.col("row").max(),
        n_observed=pl.col("value").count().cast(pl.Int64),
        **({"part": pl.col("part").first()} if "part" in frame.columns else {}),
    )
    observed = frame.drop_nulls("value")
    spans = Spans.from_first(starts(observed, ["sample_number"]))
    found = subgroup_statistics(observed["value"].to_numpy(), np.ones(observed.height, dtype=np.bool_), spans)
    statistics = pl.DataFrame({name: pl.Series(values) for name, values in found.items() if name != "n_observed"})
    statistics = statistics.with_columns(
        pl.col(pl.Float64).fill_nan(None), sample_number=observed["sample_number"][spans.starts]
    )
    samples = first.join(statistics, on="sample_number", how="left", maintain_order="left")
    _check_sizes(samples, plan, chart)
    return _labelled(samples, plan, chart)


def _deviations(frame: pl.DataFrame) -> pl.DataFrame:
    if "nominal" not in frame.columns:
        raise ContractError("a chart of deviations needs the nominal of each row; name its column or value", code=BAD_VALUES)
    _refuse_unfinite(frame, "nominal")
    lacking = frame.filter(pl.col("nominal").is_null())
    if lacking.height:
        raise ContractError(f"row {lacking['row'][0]}: nominal is empty; fill it in", code=BAD_VALUES)
    return frame.with_columns(value=pl.col("value") - pl.col("nominal"))


def _check_sizes(samples: pl.DataFrame, plan: Plan, chart: Chart) -> None:
    largest, smallest = int(np.max(samples["n_observed"].to_numpy())), chart.sizes[0]
    if smallest > 1 and largest < smallest:
        text = (
            f"row {samples['first_row'][0]}: every subgroup has one value, and a {chart.title} chart needs at least "
            f"{smallest}; name a subgroup column or a size, or use chart i_mr"
        )
        raise ContractError(text, code=BAD_SIZES)
    if chart.sizes[1] == 1 and plan.size is not None and plan.size > 1:
        raise ContractError(
            f"a {chart.title} chart takes single values, not subgroups of {plan.size}; leave the size out, or use chart xbar_r",
            code=BAD_SIZES,
        )


def _labelled(samples: pl.DataFrame, plan: Plan, chart: Chart) -> pl.DataFrame:
    """Samples with number, label, chart, estimator, segment and the settings of the plan."""
    segment = ["stage_number"] if "segment_break" not in samples.columns else ["stage_number", "segment_break"]
    single = int(samples["n_observed"].max() or 1) <= 1  # type: ignore[arg-type]
    estimator = plan.estimator or (next((name for name in chart.estimators if name == "mr"), None) if single else None)
    samples = samples.with_columns(
        number=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        chart=pl.lit(plan.chart),
        estimator=pl.lit(estimator or chart.estimators[0]),
        segment=pl.Series(starts(samples, segment)).cum_sum().cast(pl.Int64),
        **{name: pl.lit(float(getattr(plan, name) or otherwise)) for name, otherwise in SETTINGS.items()},
        span=pl.lit(plan.span, dtype=pl.Int64),
        limits=pl.lit(plan.limits),
    )
    return samples.with_columns(sample=pl.coalesce("sample", pl.col("number").cast(pl.String)))


def _of_counts(frame: pl.DataFrame, plan: Plan, chart: Chart) -> pl.DataFrame:
    statistic = chart.panels[0].statistic
    if "size" not in frame.columns:
        if statistic != "c":
            text = f"a {chart.title} chart needs what was inspected in each row; name its column or number with --size"
            raise ContractError(text, code=BAD_SIZES)
        frame = frame.with_columns(size=pl.lit(1.0))
    for column in ("count", "size"):
        _refuse_unfinite(frame, column)
    given = frame.drop_nulls(["count", "size"])
    if given.is_empty():
        raise ContractError("there is no count in any row; nothing can be charted", code=BAD_VALUES)
    check_counts(given["count"].to_numpy(), given["size"].to_numpy(), cast("Statistic", statistic), given["row"].to_numpy())
    samples = frame.with_columns(
        sample=pl.col("subgroup"),
        first_row=pl.col("row"),
        last_row=pl.col("row"),
        n_observed=pl.col("size").fill_null(0).ceil().cast(pl.Int64),
        mean=pl.when(pl.col("size") > 0).then(pl.col("count") / pl.col("size")),
    )
    return _labelled(samples, plan, chart)


def _of_events(frame: pl.DataFrame, plan: Plan, chart: Chart) -> pl.DataFrame:
    given = frame.drop_nulls("value")
    if given.is_empty():
        raise ContractError("there is no value in any row; nothing can be charted", code=BAD_VALUES)
    check = check_counts_between if plan.chart == "g" else check_times
    check(given["value"].to_numpy(), given["row"].to_numpy())
    one = pl.when(pl.col("value").is_not_null()).then(1).otherwise(0).cast(pl.Int64)
    samples = frame.with_columns(
        sample=pl.col("subgroup"), first_row=pl.col("row"), last_row=pl.col("row"), n_observed=one, mean=pl.col("value")
    )
    return _labelled(samples, plan, chart)


_MAKERS = {"values": _of_values, "counts": _of_counts, "events": _of_events}


def _entering(samples: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Samples with ``is_baseline`` (the window), ``is_excluded`` and ``included`` (both hold)."""
    unknown = sorted(set(plan.excluded) - set(samples["sample"]))
    if unknown:
        raise ContractError(f"no subgroup {', '.join(unknown)} to exclude; name subgroups of the file", code="SPC-390")
    position = pl.int_range(1, pl.len() + 1).over("stage_number")
    first, last = checked_baseline(plan, samples)
    samples = samples.with_columns(
        is_baseline=position.is_between(first, last), is_excluded=pl.col("sample").is_in(list(plan.excluded))
    )
    return samples.with_columns(included=pl.col("is_baseline") & ~pl.col("is_excluded"))


def _parameter_key(chart: Chart) -> list[str]:
    return ["number"] if chart.name == "z_mr" else ["stage_number"]


def _parameters(samples: pl.DataFrame, plan: Plan, chart: Chart) -> pl.DataFrame:
    """Centre and sigma per stage (z_mr: per sample), estimated from what is included or as the plan says."""
    if chart.name == "z_mr":
        return _of_parts(samples, plan)
    found = chart_parameters(observed_samples(samples), ["stage_number"]).drop("estimator")
    if "sigma_means" not in found.columns:
        found = found.with_columns(sigma_means=pl.lit(None, dtype=pl.Float64))
    stages = samples.select("stage_number").unique(maintain_order=True)
    found = stages.join(found, on="stage_number", how="left", maintain_order="left")
    if plan.residuals is not None:
        # a residual is an error of prediction: what it should be is known
        found = found.with_columns(mu=pl.lit(0.0))
    historical = {name: pl.lit(float(value)) for name in ("mu", "sigma") if (value := getattr(plan, name)) is not None}
    # the sigma of the means has no historical value of its own
    whole = len(historical) == 2 and not any(panel.name == "within" for panel in chart.panels)
    source = "historical" if whole else "historical and estimated" if historical else "estimated"
    return found.with_columns(**historical, source=pl.lit(source))


def _of_parts(samples: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    if "part" not in samples.columns or samples["part"].null_count():
        raise ContractError("a Z-MR chart needs the part of each row; name its column", code=BAD_VALUES)
    rows = samples
    found = z_mr_parameters(
        rows["mean"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
        rows["part"].rank("dense").cast(pl.Int64).to_numpy(),
        starts(rows, ["segment", "part"]),
        Spans.from_first(starts(rows, ["stage_number"])),
        cast("Pooling", plan.pooling),
        rows["included"].to_numpy(),
        rows["first_row"].to_numpy(),
    )
    frame = rows.select("number", "stage_number", "part").with_columns(
        mu=pl.Series(found.mu, nan_to_null=True),
        sigma=pl.Series(found.sigma, nan_to_null=True),
        standardized=pl.Series(z_values(found), nan_to_null=True),
        source=pl.lit("estimated"),
    )
    return frame.drop("stage_number", "part")


def rules_of(plan: Plan, chart: Chart) -> tuple[tuple[Rule, ...], list[str]]:
    """Rules of the plan, and in words those that no panel of the chart allows.

    A rule asked for by itself (``nelson:2``) that the chart does not allow raises ``ContractError`` SPC-390.
    """
    sets = _rule_sets(plan)
    rules = select(plan.rules, sets)
    main = chart.panels[0]
    kept, refused = allowed(rules, main.tests)
    if refused and plan.rules not in sets:
        names = ", ".join(rule.name for rule in refused)
        text = f"{names} cannot be asked of a {chart.title} chart: it allows tests of kind {', '.join(main.tests)} only"
        raise ContractError(f"{text}; leave the rule out", code="SPC-390")
    why = "points are not independent" if main.tests == ("limits",) else "the zones of a count are not symmetric"
    left_out = [f"{rule.name} ({rule.text}): not used on a {chart.title} chart, {why}" for rule in refused]
    if len(chart.panels) > 1 and len(kept) > 1:
        left_out.append("on dispersion panels only the control limits are a test")
    return rules, left_out


def plan_signals(points: pl.DataFrame, plan: Plan, rules: tuple[Rule, ...]) -> pl.DataFrame:
    """Signals of the plan's rules, each with the name of the set that it comes from."""
    set_of = {rule.name: name for name, rules_of_set in _rule_sets(plan).items() for rule in rules_of_set}
    signals = chart_signals(points.with_columns(rule_set=pl.lit("plan")), {"plan": rules})
    return signals.with_columns(rule_set=pl.col("rule").replace_strict(set_of, return_dtype=pl.String))


def _rule_sets(plan: Plan) -> Mapping[str, tuple[Rule, ...]]:
    return RULE_SETS if plan.custom_rules is None else RULE_SETS | custom_rules(plan.custom_rules)


def _published(points: pl.DataFrame, signals: pl.DataFrame) -> pl.DataFrame:
    """Points as a study shows them, with the names of the rules that each triggers."""
    triggered = signals.group_by("point", maintain_order=True).agg(rules=pl.col("rule"))
    n = pl.col("n_observed").cast(pl.Float64)
    if "size" in points.columns:
        n = pl.when(pl.col("chart").is_in(_COUNT_CHARTS)).then("size").otherwise(n)
    frame = points.with_row_index("point").with_columns(pl.col("point").cast(pl.Int64), n=n)
    frame = frame.join(triggered, on="point", how="left", maintain_order="left")
    return frame.with_columns(rules=pl.col("rules").fill_null([])).select(*_POINT_COLUMNS, *_JUDGED_COLUMNS)


_COUNT_CHARTS = [name for name, chart in CHARTS.items() if chart.data == "counts"]


def _violations(points: pl.DataFrame, signals: pl.DataFrame) -> pl.DataFrame:
    flagged = points.select("panel", "number", "sample", "stage", "z")[signals["point"]]
    named = signals.select("rule_set", "rule", "rule_text", "side")
    windows = pl.DataFrame(
        {
            "window": window_members(signals, points["number"]),
            "window_samples": window_members(signals, points["sample"]),
        }
    )
    return pl.concat([flagged, named, windows], how="horizontal")


def _warnings(frame: pl.DataFrame, samples: pl.DataFrame, plan: Plan, chart: Chart) -> list[str]:
    found = []
    entering = samples.filter(pl.col("included") & (pl.col("n_observed") > 0))
    column = "count" if chart.data == "counts" else "value"
    if missing := frame[column].null_count():
        found.append(f"{missing} of {frame.height} rows have no value; they are missing, not 0")
    is_individual = chart.data == "values" and int(np.max(samples["n_observed"].to_numpy(), initial=0)) <= 1
    advised = MINIMUM_INDIVIDUALS if is_individual else MINIMUM_SUBGROUPS
    if plan.mu is None and entering.height < advised:
        found.append(f"limits rest on {entering.height} subgroups, {advised} are advised")
    if plan.chart in DEVIATIONS and frame["nominal"].n_unique() > 1 and (plan.lsl is not None or plan.usl is not None):
        found.append("no capability: LSL and USL hold for one nominal, the file has several; judge each part by itself")
    if plan.residuals is not None and (plan.lsl is not None or plan.usl is not None):
        found.append("no capability: the points are residuals; capability is of the values, chart them without residuals")
    if empty := samples.filter(pl.col("n_observed") == 0)["sample"].to_list():
        found.append(f"without a value and without a point: {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}")
    sizes = samples.filter(pl.col("n_observed") > 0)["n_observed"]
    if chart.data == "values" and chart.sizes[0] > 1:
        if single := int((sizes == 1).sum()):
            found.append(f"{single} subgroups have one value: they have no point on a dispersion panel and do not enter sigma")
        if plan.size is not None and sizes.len() and sizes[-1] < plan.size:
            found.append(f"the last subgroup has {sizes[-1]} of {plan.size} values; it is judged with its own limits")
        largest = int(np.max(sizes.to_numpy(), initial=0))
        if largest > LARGEST_RANGE_SUBGROUP and any(panel.statistic == "r" for panel in chart.panels):
            found.append(f"subgroups of up to {largest} values: a range uses two of them, an S panel all (chart xbar_s)")
    if plan.excluded:
        found.append(
            f"excluded from the limits, still judged: {', '.join(f'{name} ({cause})' for name, cause in plan.excluded.items())}"
        )
    return found
