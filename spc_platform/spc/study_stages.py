"""What a study says of each stage: centre, sigma, limits, capability with its stability, fitness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS, LOCATION_PANELS, TIME_WEIGHTED
from spc_platform.contracts.fitness import SPC_CHART_FITNESS
from spc_platform.errors import ContractError
from spc_platform.spc.capability_study import capability_study, stability_of_study
from spc_platform.spc.charting import chart_parameters, starts
from spc_platform.spc.fitness import Samples, chart_fitness
from spc_platform.spc.residual_study import Models
from spc_platform.spc.rule_sets import Rule, allowed
from spc_platform.spc.sequence import Floats, Spans
from spc_platform.spc.sigma import between_sigma
from spc_platform.spc.stability import CHANCE, chance_of_spread_signals
from spc_platform.spc.study_plan import Plan
from spc_platform.spc.study_samples import observed_samples

_LINES = ("cl", "lcl", "ucl")

DEVIATIONS = ("dnom", "dnom_i_mr")
"""Charts of deviations from nominal; parts with several nominals have several specifications."""


def stage_results(
    frame: pl.DataFrame,
    samples: pl.DataFrame,
    parameters: pl.DataFrame,
    points: pl.DataFrame,
    signals: pl.DataFrame,
    plan: Plan,
    rules: Sequence[Rule],
    models: Models,
) -> list[dict[str, Any]]:
    """One dict per stage in order; a figure that does not exist is None and ``reason`` says why."""
    fitness = _fitness(points, plan)
    points = points.with_row_index("point").with_columns(pl.col("point").cast(pl.Int64))
    results = []
    is_only = samples["stage_number"].n_unique() == 1
    for (number,), rows in samples.group_by("stage_number", maintain_order=True):
        own = points.filter(pl.col("stage_number") == number)
        found = _centre_and_sigma(rows, parameters, number, plan)
        flagged = own_signals(points, signals, number)
        results.append(
            {
                "stage": rows["stage"][0],
                **found,
                "k": plan.k,
                "limits": _constant_limits(own),
                "n_signals": flagged.height,
                "capability": _capability(
                    frame.filter(pl.col("stage_number") == number), rows, own, flagged, plan, rules, is_only=is_only
                ),
                "fitness": fitness.get(number),
                **({"model": models[number]} if number in models else {}),
            }
        )
    return results


def own_signals(points: pl.DataFrame, signals: pl.DataFrame, number: object) -> pl.DataFrame:
    """Signals of one stage with their panel."""
    with_panel = signals.with_columns(points["panel"][signals["point"]], points["stage_number"][signals["point"]])
    return with_panel.filter(pl.col("stage_number") == number)


def _centre_and_sigma(rows: pl.DataFrame, parameters: pl.DataFrame, number: object, plan: Plan) -> dict[str, Any]:
    chart = CHARTS[plan.chart]
    result: dict[str, Any] = {
        "estimator": rows["estimator"][0],
        "n_subgroups": rows.filter(pl.col("included") & (pl.col("n_observed") > 0)).height,
        "n_values": int(rows.filter("included")["n_observed"].sum()),
        "centre": None,
        "sigma": None,
        "nu": None,
        "source": "estimated",
        "reason": None,
    }
    if chart.name == "z_mr":
        return result | {"centre": 0.0, "sigma": 1.0, "reason": _without_z(rows, parameters), "parts": _parts(rows, parameters)}
    own = parameters.filter(pl.col("stage_number") == number).row(0, named=True)
    mu, sigma = own["mu"], own["sigma"]
    result |= {"centre": mu, "sigma": sigma, "nu": own.get("nu"), "source": own["source"], "reason": _reason(mu, sigma, plan)}
    if chart.data == "counts":
        result |= _of_counts(rows, mu, sigma, chart.panels[0].statistic)
    elif chart.name == "g" and mu is not None:
        result["sigma"] = float(np.sqrt(mu * (mu + 1.0)))
    elif chart.name == "t":
        result |= {"centre": None, "sigma": None, "parameters": {"first": mu, "second": sigma}}
    elif sigma is not None and own.get("sigma_means") is not None and any(panel.name == "within" for panel in chart.panels):
        n = rows.filter(pl.col("included") & (pl.col("n_observed") > 0))["n_observed"].to_numpy()
        between = float(between_sigma(np.array(own["sigma_means"]), np.array(sigma), np.array(len(n) / np.sum(1.0 / n))))
        result |= {
            "sigma_within": sigma,
            "sigma_means": own["sigma_means"],
            "sigma_between": between,
            "sigma_between_within": float(np.hypot(between, sigma)),
        }
    return result


def _reason(mu: float | None, sigma: float | None, plan: Plan) -> str | None:
    if mu is None:
        return "no value enters the limits"
    if sigma is None:
        return "sigma cannot be estimated: no subgroup or pair of adjacent values carries dispersion"
    chart = CHARTS[plan.chart]
    if sigma == 0 and chart.data != "counts":
        return "sigma is 0: all values are equal, or the gauge does not resolve them; there is no z and no rule"
    if mu == 0 and chart.data in ("counts", "events"):
        return "the centre is 0: nothing was found, so the limits have no width; there is no z and no rule"
    if mu == 1 and chart.panels[0].statistic in ("p", "np"):
        return "the centre is 1: everything is defective, so the limits have no width; there is no z and no rule"
    return None


def _without_z(rows: pl.DataFrame, parameters: pl.DataFrame) -> str | None:
    """Which parts of a Z-MR chart have values and no sigma to standardize them."""
    named = rows.filter(pl.col("n_observed") > 0).join(parameters.select("number", "sigma"), on="number", how="left")
    parts = named.filter((pl.col("sigma") > 0).fill_null(value=False).not_())["part"].unique(maintain_order=True).to_list()
    if not parts:
        return None
    return f"no sigma of part {', '.join(parts[:5])}: no two neighbours of it differ, so its values have no z"


def _of_counts(rows: pl.DataFrame, mu: float | None, sigma_z: float | None, statistic: str) -> dict[str, Any]:
    if mu is None:
        return {"sigma": None, "sigma_z": sigma_z}
    one = float(np.sqrt(mu * (1.0 - mu) if statistic in ("p", "np") else mu))
    result: dict[str, Any] = {"sigma": None if sigma_z is None else one * sigma_z, "sigma_z": sigma_z}
    if statistic == "np":
        sizes = rows["size"].drop_nulls().unique()
        same = float(sizes[0]) if sizes.len() == 1 else None
        result |= {
            "proportion": mu,
            "centre": None if same is None else same * mu,
            "sigma": None if same is None or sigma_z is None else float(np.sqrt(same)) * result["sigma"],
        }
    return result


def _parts(rows: pl.DataFrame, parameters: pl.DataFrame) -> list[dict[str, Any]]:
    named = rows.select("number", "part").join(parameters, on="number", how="inner", maintain_order="left")
    return named.select("part", "mu", "sigma").unique(maintain_order=True).to_dicts()


def _constant_limits(points: pl.DataFrame) -> dict[str, dict[str, float | None] | None]:
    """Centre line and limits of each panel; None for a panel on which they vary from point to point."""
    found: dict[str, dict[str, float | None] | None] = {}
    for (panel,), rows in points.group_by("panel", maintain_order=True):
        lines = rows.select(_LINES).unique()
        found[str(panel)] = lines.row(0, named=True) if lines.height == 1 else None
    return found


def _fitness(points: pl.DataFrame, plan: Plan) -> dict[int, dict[str, Any]]:
    """Fitness of the chart of each stage, by its number; stages without a point have none."""
    location = points.filter(pl.col("panel").is_in(["location", "upper"]))
    if location.is_empty():
        return {}
    spans = Spans.from_first(starts(location, ["stage_number"]))
    chart = CHARTS[plan.chart]
    is_count = chart.data == "counts"
    if is_count and "size" not in location.columns:
        location = location.with_columns(size=pl.lit(1.0))
    # parts of one Z-MR chart are comparable only once they are standardized
    is_standardized = chart.name == "z_mr"
    value = location["value" if is_count or is_standardized or chart.data == "events" else "mean"]
    sigma = pl.lit(1.0) if is_standardized else pl.col("sigma").cast(pl.Float64).fill_null(np.nan)
    frame = chart_fitness(
        Samples(
            chart=[plan.chart] * len(spans.starts),
            spans=spans,
            value=value.cast(pl.Float64).fill_null(np.nan).to_numpy(),
            n=location["size" if is_count else "n_observed"].cast(pl.Float64).to_numpy(),
            is_first=starts(location, ["segment"]),
            sigma=location.with_columns(_sigma=sigma)["_sigma"].to_numpy()[spans.starts],
            m2=location["m2"].fill_null(np.nan).to_numpy() if "m2" in location.columns and not is_standardized else None,
            k=plan.k,
        )
    )
    published = [name for name in SPC_CHART_FITNESS.names if name in frame.columns]
    return dict(zip(location["stage_number"][spans.starts].to_list(), frame.select(published).to_dicts(), strict=True))


def _capability(
    frame: pl.DataFrame,
    rows: pl.DataFrame,
    points: pl.DataFrame,
    signals: pl.DataFrame,
    plan: Plan,
    rules: Sequence[Rule],
    *,
    is_only: bool,
) -> dict[str, Any] | None:
    """Capability of all observed values of the stage with its stability, sigma within by the plan's estimator.

    None without a specification limit, and for charts whose values have several specifications or none.
    """
    chart = CHARTS[plan.chart]
    if chart.data != "values" or (plan.lsl is None and plan.usl is None) or chart.name == "z_mr" or plan.residuals is not None:
        return None
    if chart.name in DEVIATIONS and frame["nominal"].n_unique() > 1:
        return None
    whole = chart_parameters(observed_samples(rows.drop("included")), ["stage_number"]).row(0, named=True)
    observed = rows.filter(pl.col("n_observed") > 0)
    centre = points.filter(pl.col("panel").is_in(list(LOCATION_PANELS)) & pl.col("z").is_not_null())
    flagged = signals.filter(pl.col("panel").is_in(list(LOCATION_PANELS)))["point"].unique()
    flagged_z = points.filter(pl.col("point").is_in(flagged.implode()))["z"].abs()
    found = _capability_of(
        frame["value"].drop_nulls().to_numpy(),
        plan,
        is_only=is_only,
        sigma_within=whole["sigma"],
        nu=whole["nu"],
        sizes=observed["n_observed"].to_numpy() if chart.sizes[1] != 1 else None,
        estimator=rows["estimator"][0],
    )
    stability = stability_of_study(
        centre["number"].n_unique(),
        flagged.len(),
        float(np.max(flagged_z.to_numpy(), initial=0.0)),
        allowed(rules, chart.panels[0].tests)[0],
        plan.k,
        individuals=int(np.max(observed["n_observed"].to_numpy(), initial=1)) == 1,
    )
    if chart.name in TIME_WEIGHTED and flagged.len():
        # points that carry on the past are not independent: chance has no share to compare with
        stability |= {"stability": "unstable", "expected_signal_share": None, "chance_of_signals": None}
    if _spread_is_unstable(points, signals, plan):
        stability["stability"] = "unstable"
    return {**stability, **found}


def _capability_of(values: Floats, plan: Plan, *, is_only: bool, **sigma: Any) -> dict[str, Any]:
    """Capability as the plan asks for it; one stage of several that carries no fit goes without, and says why."""
    limits: dict[str, Any] = {name: getattr(plan, name) for name in ("lsl", "target", "usl", "confidence")}
    asked: dict[str, Any] = {"distribution": plan.distribution, "box_cox": plan.box_cox}
    try:
        return capability_study(values, **limits, **asked, **sigma)
    except ContractError as error:
        if is_only or not any(asked.values()):
            raise
        found = capability_study(values, **limits, **sigma)
        return found | {"reason": "; ".join(filter(None, [found["reason"], str(error)]))}


def _spread_is_unstable(points: pl.DataFrame, signals: pl.DataFrame, plan: Plan) -> bool:
    """Whether chance does not explain the signals of a dispersion panel, at its usual n."""
    for panel in CHARTS[plan.chart].panels:
        own = points.filter((pl.col("panel") == panel.name) & pl.col("z").is_not_null())
        if panel.name in LOCATION_PANELS or own.is_empty():
            continue
        flagged = signals.filter(pl.col("panel") == panel.name)["point"].n_unique()
        size = np.median(own["n_observed"].to_numpy())
        if float(chance_of_spread_signals(panel.statistic, size, plan.k, own.height, flagged)) < CHANCE:
            return True
    return False
