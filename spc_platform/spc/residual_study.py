"""A study of one-step residuals: each value less what its own past predicts, for streams with memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.charting import starts
from spc_platform.spc.residuals import autoregression_residuals, best_weight, ewma_forecast, fit_autoregression
from spc_platform.spc.sequence import Flags, Floats, Spans

RESIDUALS = ("autoregression", "ewma")
"""How the next value is predicted: AR(p) with the order chosen by BIC, or an EWMA with the weight of least squared error."""

RESIDUAL_CHARTS = ("i_mr", "ewma", "cusum", "moving_average")
"""Charts of single values; residuals are independent, so each of them holds (Montgomery, Introduction to SQC, 10.4)."""

Models = dict[object, dict[str, Any]]


def residual_samples(samples: pl.DataFrame, method: str) -> tuple[pl.DataFrame, Models]:
    """Samples whose ``mean`` is the residual of the value, and the model of each stage by its number.

    ``samples``: of single values (null: missing), with stage, stage_number, segment, first_row, included. The model of a
    stage is fitted to its included values and predicts all of them. A value without a predecessor has no residual: n 0.
    Models: method and order, mean, coefficients, sigma, n, stationary (autoregression), or weight (ewma). Raises
    ``ContractError`` SPC-391 for a stage too short or too flat to predict anything, SPC-392 for subgroups.
    Sources: ``spc.residuals``.
    """
    many = samples.filter(pl.col("n_observed") > 1)
    if many.height:
        raise ContractError(
            f"row {many['first_row'][0]}: residuals are of single values, and the subgroup has {many['n_observed'][0]}; "
            "leave subgroup and size out, or chart without residuals",
            code="SPC-392",
        )
    spans, first = Spans.from_first(starts(samples, ["stage_number"])), starts(samples, ["segment"])
    value = samples["mean"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    included = samples["included"].to_numpy() & np.isfinite(value)
    anchor = _anchors(value, spans)
    # residuals are small differences of values that may be large: about a value of the stage no digit is lost
    near = value - np.asarray(spans.expand(anchor), dtype=np.float64)
    residual, found = _PREDICTED[method](near, first, spans, included)
    models = dict(zip(samples["stage_number"][spans.starts].to_list(), found, strict=True))
    for model, start in zip(found, anchor.tolist(), strict=True):
        if model.get("mean") is not None:
            model["mean"] += start
    _refuse_unpredicted(samples, residual, spans)
    has = np.isfinite(residual)
    return (
        samples.with_columns(
            mean=pl.Series(residual, nan_to_null=True),
            median=pl.Series(residual, nan_to_null=True),
            n_observed=pl.Series(has.astype(np.int64)),
        ),
        models,
    )


def _anchors(value: Floats, spans: Spans) -> Floats:
    """First observed value of each stage; 0 where there is none."""
    seen = np.flatnonzero(np.isfinite(value))
    anchor = np.zeros(len(spans.starts))
    stage = np.searchsorted(spans.starts, seen, side="right") - 1
    # assigned from the last to the first: the first of each stage stays
    anchor[stage[::-1]] = value[seen[::-1]]
    return anchor


def _by_autoregression(value: Floats, first: Flags, spans: Spans, included: Flags) -> tuple[Floats, list[dict[str, Any]]]:
    model = fit_autoregression(value, first, spans, included=included)
    found = [{"method": "autoregression", **row} for row in model.frame().to_dicts()]
    return autoregression_residuals(value, first, spans, model), found


def _by_ewma(value: Floats, first: Flags, spans: Spans, included: Flags) -> tuple[Floats, list[dict[str, Any]]]:
    weight = best_weight(value, first, spans, included=included)
    forecast = ewma_forecast(value, first, spans, np.where(np.isfinite(weight), weight, 1.0))
    residual = np.where(np.isfinite(np.asarray(spans.expand(weight))), value - forecast, np.nan)
    found = [{"method": "ewma", "weight": float(each) if np.isfinite(each) else None} for each in weight]
    return residual, found


_PREDICTED = {"autoregression": _by_autoregression, "ewma": _by_ewma}


def _refuse_unpredicted(samples: pl.DataFrame, residual: Floats, spans: Spans) -> None:
    lacking = np.flatnonzero(spans.count(np.isfinite(residual)) == 0)
    if not lacking.size:
        return
    row = samples.row(int(spans.starts[lacking[0]]), named=True)
    stage = f"stage {row['stage']!r}, from row {row['first_row']} on" if len(spans.starts) > 1 else "the file"
    raise ContractError(
        f"{stage}: too few neighbouring values, or values without variation, to predict one from the ones before it; "
        "give more values, or chart them without residuals",
        code="SPC-391",
    )
