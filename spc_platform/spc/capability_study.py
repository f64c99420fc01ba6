"""Capability of the values of one study: the columns of SPC_CAPABILITY as one dict, with fits and transformation on request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.box_cox import BoxCox, box_cox, find_power
from spc_platform.spc.distributions import HIGH, LOW, MIDDLE, Fit, best_fit, checked, fit
from spc_platform.spc.indices import PER_MILLION, Bounds, check_confidence, check_specification, with_indices
from spc_platform.spc.johnson import FEWEST
from spc_platform.spc.percentiles import empirical_percentiles, percentile_indices, z_score_ppk
from spc_platform.spc.rules import RULE_SETS, Rule
from spc_platform.spc.sequence import Floats, Ints, Spans
from spc_platform.spc.sigma import within_sigma
from spc_platform.spc.stability import chance_of_signals, is_unstable, signals_by_chance
from spc_platform.spc.subgroups import subgroup_statistics

_BASELINE = {True: 100, False: 25}
_REJECTED = 0.05


def capability_study(
    values: npt.ArrayLike,
    *,
    mean: float | None = None,
    sigma_within: float | None = None,
    nu: float | None = None,
    lsl: float | None = None,
    target: float | None = None,
    usl: float | None = None,
    confidence: float = 0.95,
    bounds: Bounds = "two_sided",
    distribution: str | None = None,
    threshold: bool = False,
    box_cox: float | str | None = None,
    sizes: Ints | None = None,
    estimator: str | None = None,
) -> dict[str, Any]:
    """Indices, intervals, expected and observed defects of the values of one study, as JSON-ready plain data.

    ``values`` in time order. ``mean`` and ``sigma_within`` with its degrees of freedom ``nu`` as the chart estimates them;
    a missing mean is that of the values, a missing sigma gives null indices with a reason. ``distribution``: normal,
    lognormal, weibull, gamma, johnson, empirical (percentiles of the values), or auto (smallest Anderson-Darling statistic,
    johnson only where the others are rejected at 5 %); no percentile indices without.
    ``box_cox``: auto, auto_pooled_sd, or a power; all indices are then those of transformed values and limits, with
    sigma within from ``sizes`` (of the subgroups in order; None: moving ranges of single values) by ``estimator``.
    What is missing is None and ``reason`` says why. Raises ``ContractError`` SPC-345 (LSL >= USL), SPC-346 (confidence),
    SPC-347 to SPC-349 (values that do not allow the fit or transformation), SPC-355 to SPC-359 (see the modules).

    >>> found = capability_study([9.0, 10.0, 11.0], sigma_within=1.0, nu=2.0, lsl=7.0, usl=13.0)
    >>> found["cp"], found["cpk"], found["pp"], found["cpm"], found["reason"]
    (1.0, 1.0, 1.0, None, 'no target: no Cpm')
    """
    data = _numbers(values)
    low, aim, high = (math.nan if each is None else float(each) for each in (lsl, target, usl))
    check_specification(low, high)
    check_confidence(confidence)
    facts: dict[str, Any] = {"lsl": lsl, "target": target, "usl": usl, "transformation": None}
    facts |= _observed(data, low, high)
    if box_cox is None:
        judged = _described(data, mean, sigma_within, nu, low, aim, high)
    else:
        power = _power(data, box_cox, sizes, confidence)
        facts["transformation"] = _published(power)
        judged = _transformed(data, power.rounded, (low, aim, high), sizes, estimator)
    frame = with_indices(pl.DataFrame([judged]).with_columns(pl.col(pl.Float64).fill_nan(None)), confidence, bounds)
    indices = {name: value for name, value in frame.row(0, named=True).items() if name not in facts}
    return {**facts, **indices, **_by_percentiles(data, distribution, threshold, low, high)}


def stability_of_study(
    n_points: int,
    n_signals: int,
    largest_z: float,
    rules: Sequence[Rule] = RULE_SETS["western_electric"],
    k: float = 3.0,
    *,
    individuals: bool = False,
    fewest: int | None = None,
) -> dict[str, Any]:
    """Verdict on one chart in the words of SPC_CAPABILITY: stability, signal shares, and the chance of the signals.

    ``n_signals``: points of the location panel that trigger a rule; ``largest_z``: their largest |z|, 0 without;
    ``fewest``: points below which a quiet chart proves nothing (25 subgroups or 100 individuals by default).

    >>> stability_of_study(50, 1, 9.0)["stability"], stability_of_study(50, 0, 0.0)["stability"]
    ('unstable', 'stable')
    """
    share, spread = signals_by_chance(tuple(rules), k)
    enough = _BASELINE[individuals] if fewest is None else fewest
    quiet = "too_few_points" if n_points < enough else "stable"
    unstable = bool(is_unstable(n_points, n_signals, largest_z, rules, k))
    return {
        "stability": "no_limits" if n_points == 0 else "unstable" if unstable else quiet,
        "n_violation_points": n_signals,
        "signal_share": n_signals / n_points if n_points else None,
        "expected_signal_share": share,
        "chance_of_signals": float(chance_of_signals(n_points, n_signals, largest_z, share, spread)) if n_points else None,
    }


def _numbers(values: npt.ArrayLike) -> Floats:
    data = np.asarray(values, dtype=np.float64).ravel()
    bad = np.flatnonzero(~np.isfinite(data))
    if bad.size or not data.size:
        where = f"row {bad[0] + 1}: value {data[bad[0]]} is missing or infinite" if bad.size else "there is no value"
        raise ContractError(f"{where}; capability needs measured values, leave other rows out", code="SPC-347")
    return data


def _described(
    data: Floats, mean: float | None, sigma: float | None, nu: float | None, low: float, aim: float, high: float
) -> dict[str, Any]:
    # about the first value: a common offset costs no digits
    away = data - data[0]
    centre, s = float(data[0] + away.mean()), float(away.std(ddof=1)) if len(data) > 1 else math.nan
    return {
        "n_observed": len(data),
        "mean": centre if mean is None else float(mean),
        "sigma_within": math.nan if sigma is None else float(sigma),
        "sigma_overall": s,
        "nu": math.nan if nu is None else float(nu),
        "lsl": low,
        "target": aim,
        "usl": high,
    }


def _observed(data: Floats, low: float, high: float) -> dict[str, Any]:
    below = None if math.isnan(low) else PER_MILLION * float(np.mean(data < low))
    above = None if math.isnan(high) else PER_MILLION * float(np.mean(data > high))
    total = None if below is None and above is None else (below or 0.0) + (above or 0.0)
    return {"observed_ppm_below_lsl": below, "observed_ppm_above_usl": above, "observed_ppm_total": total}


def _power(data: Floats, asked: float | str, sizes: Ints | None, confidence: float) -> BoxCox:
    if asked == "auto":
        return find_power(data, confidence=confidence)
    if asked == "auto_pooled_sd":
        return find_power(data, sizes, "pooled_sd", confidence)
    if isinstance(asked, str) or not math.isfinite(asked):
        raise ContractError(f"no Box-Cox power {asked!r}; give auto, auto_pooled_sd or a number such as 0.5", code="SPC-359")
    checked(data, "a Box-Cox transformation", positive=True)
    return BoxCox(float(asked), math.nan, math.nan, float(asked), "mle", confidence)


def _published(power: BoxCox) -> dict[str, Any]:
    low, high = (None if math.isnan(end) else end for end in (power.low, power.high))
    return {
        "name": "box_cox",
        "power": power.power,
        "power_ci_low": low,
        "power_ci_high": high,
        "power_used": power.rounded,
        "criterion": power.criterion,
    }


def _transformed(
    data: Floats, power: float, limits: tuple[float, float, float], sizes: Ints | None, estimator: str | None
) -> dict[str, Any]:
    low, aim, high = limits
    if low <= 0 or high <= 0:
        raise ContractError(
            f"limit {low if low <= 0 else high:g} is not positive and has no Box-Cox transform; leave a lower limit of 0 out "
            "if no value can be below it, or add an offset to values and limits",
            code="SPC-359",
        )
    w = box_cox(data, power)
    # the transform of a missing limit is missing, and a target at or below 0 has none
    ends = box_cox([low, aim, high], power)
    sigma, nu = _sigma_within(w, sizes, estimator)
    return _described(w, None, sigma, nu, *(float(end) for end in ends))


def _sigma_within(w: Floats, sizes: Ints | None, estimator: str | None) -> tuple[float, float]:
    n = np.ones(len(w), dtype=np.int64) if sizes is None else np.asarray(sizes, dtype=np.int64)
    if int(n.sum()) != len(w) or int(n.min()) < 1:
        raise ContractError(
            f"subgroup sizes sum to {int(n.sum())}, there are {len(w)} values; give the size of each subgroup in order",
            code="SPC-357",
        )
    spans = Spans(np.cumsum(n) - n, len(w))
    found = subgroup_statistics(w, np.ones(len(w), dtype=np.bool_), spans)
    frame = pl.DataFrame({name: pl.Series(column) for name, column in found.items()}).with_columns(
        pl.col(pl.Float64).fill_nan(None),
        study=pl.lit(0),
        segment=pl.lit(0),
        estimator=pl.lit(estimator or ("mr" if int(n.max()) == 1 else "pooled")),
    )
    row = within_sigma(frame, ["study"]).row(0, named=True)
    return tuple(math.nan if row[name] is None else float(row[name]) for name in ("sigma_within", "nu"))  # type: ignore[return-value]


def _by_percentiles(data: Floats, distribution: str | None, threshold: bool, low: float, high: float) -> dict[str, Any]:
    if distribution is None:
        return {"distribution": None, "fit": None}
    if distribution == "empirical":
        ordered = checked(data, "percentiles", positive=False)
        percentiles = empirical_percentiles(ordered, Spans(np.array([0]), len(ordered)))
        shares = [float(percentile[0]) for percentile in percentiles[:3]]
        return {"distribution": distribution, "fit": None, **_percentile_columns(shares, low, high, bool(percentiles[3][0]))}
    found = _best(data) if distribution == "auto" else fit(data, distribution, threshold=threshold)
    shares = [found.quantile(share) for share in (LOW, MIDDLE, HIGH)]
    below = math.nan if math.isnan(low) else found.below(low)
    above = math.nan if math.isnan(high) else found.above(high)
    ends = [None if math.isnan(each) else PER_MILLION * each for each in (below, above)]
    total = None if ends == [None, None] else sum(each for each in ends if each is not None)
    ppk = float(z_score_ppk(np.array(below), np.array(above)))
    return {
        "distribution": found.distribution,
        "fit": {
            "parameters": found.parameters,
            "n": found.n,
            "log_likelihood": found.log_likelihood,
            "aic": found.aic,
            "p_value_source": found.p_value_source,
        },
        "fit_statistic": found.anderson_darling,
        "fit_p_value": found.p_value,
        **_percentile_columns(shares, low, high, found.is_extrapolated),
        "expected_ppm_below_lsl_fitted": ends[0],
        "expected_ppm_above_usl_fitted": ends[1],
        "expected_ppm_total_fitted": total,
        "ppk_z_score": ppk if math.isfinite(ppk) else None,
    }


def _best(data: Floats) -> Fit:
    """The best of the simple distributions; Johnson's only where they are all rejected at 5 %."""
    found = best_fit(data)[0]
    if found.p_value is not None and found.p_value < _REJECTED and len(data) >= FEWEST:
        return min(found, fit(data, "johnson"), key=lambda each: each.anderson_darling)
    return found


def _percentile_columns(shares: list[float], low: float, high: float, is_extrapolated: bool) -> dict[str, Any]:
    found = percentile_indices(*(np.array([each]) for each in (*shares, low, high)))
    indices = {name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()}
    return {"is_extrapolated": is_extrapolated, **dict(zip(("x_00135", "x_50", "x_99865"), shares, strict=True)), **indices}
