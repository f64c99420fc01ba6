"""Capability indices with confidence intervals and expected defects, for any number of charts at once.

The formulas for normal values. Cp, Cpk and their relatives take sigma within, Pp, Ppk and theirs the overall s; an index
never mixes the two. The intervals: chi-square for Cp and Pp (Kane 1986), Bissell's normal approximation for the one-sided
indices and their minimum (1990), both as Minitab and R's qcc have them; Boyles' chi-square for Cpm (1991), of which qcc
takes other degrees of freedom.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Floats

Bounds = Literal["two_sided", "lower", "upper"]
PER_MILLION = 1e6


def interval_of_cp(cp: Floats, nu: Floats, confidence: float, bounds: Bounds = "two_sided") -> tuple[Floats, Floats]:
    """Confidence interval of Cp, Pp or Cpm with ``nu`` degrees of freedom: Cp sqrt(chi2 / nu).

    NaN where cp is NaN or nu is not positive; with one-sided ``bounds`` the other end is NaN.
    Source: Kane, J. Quality Technology 18 (1986) 41.

    >>> [round(float(end), 5) for end in interval_of_cp(np.array(1.33), np.array(124.0), 0.95)]
    [1.16456, 1.49518]
    """
    known = np.where(nu > 0, nu, np.nan)
    low, high = (np.asarray(cp * np.sqrt(special.chdtri(known, 1.0 - tail) / known)) for tail in _tails(confidence, bounds))
    return low, high


def interval_of_cpk(
    cpk: Floats, n: Floats, nu: Floats, confidence: float, bounds: Bounds = "two_sided"
) -> tuple[Floats, Floats]:
    """Confidence interval of Cpk, Cpl, Cpu (or Ppk, Ppl, Ppu): Cpk -+ z sqrt(1 / (9 N) + Cpk^2 / (2 nu)).

    ``n``: number of values; NaN where nu is not positive; with one-sided ``bounds`` the other end is NaN.
    Source: Bissell, Applied Statistics 39 (1990) 331.

    >>> ends = interval_of_cpk(np.array(1.2), np.array(125.0), np.array(124.0), 0.95)
    >>> [round(float(end), 5) for end in ends]
    [1.03963, 1.36037]
    """
    known = np.where(nu > 0, nu, np.nan)
    error = np.sqrt(1.0 / (9.0 * n) + cpk * cpk / (2.0 * known))
    low, high = (np.asarray(cpk + special.ndtri(tail) * error) for tail in _tails(confidence, bounds))
    return low, high


def freedom_of_cpm(mean: Floats, s: Floats, n: Floats, target: Floats) -> Floats:
    """Degrees of freedom of Cpm: N (1 + a^2)^2 / (1 + 2 a^2) with a = (mean - target) / s.

    Source: Boyles, J. Quality Technology 23 (1991) 17; the interval is then that of Cp with these degrees.
    """
    about = ((mean - target) / np.where(s > 0, s, np.nan)) ** 2
    return np.asarray(n * (1.0 + about) ** 2 / (1.0 + 2.0 * about), dtype=np.float64)


def expected_ppm(mean: Floats, sigma: Floats, lsl: Floats, usl: Floats) -> tuple[Floats, Floats, Floats]:
    """Expected defects per million of a normal process: below LSL, above USL, total.

    A missing limit (NaN) has no defects of its own and counts as none in the total; without both, and where sigma is
    not positive, all three are NaN. Each tail is the normal distribution's own, so a tail of 1e-20 keeps its digits.

    >>> below, above, total = expected_ppm(np.array(0.0), np.array(1.0), np.array(-3.0), np.array(np.nan))
    >>> round(float(below), 4), float(above), round(float(total), 4)
    (1349.898, nan, 1349.898)
    """
    known = np.where(sigma > 0, sigma, np.nan)
    below = PER_MILLION * special.ndtr((lsl - mean) / known)
    above = PER_MILLION * special.ndtr((mean - usl) / known)
    return below, above, _sum_of_sides(below, above)


def z_bench(ppm: Floats) -> Floats:
    """Z.bench: the z beyond which one tail of the standard normal holds the total ``ppm``; NaN where ppm is 0 or NaN.

    >>> round(float(z_bench(np.array(1349.898))), 4)
    3.0
    """
    share = np.where(ppm > 0, ppm, np.nan) / PER_MILLION
    return np.asarray(-special.ndtri(share), dtype=np.float64)


def check_specification(lsl: npt.ArrayLike, usl: npt.ArrayLike) -> None:
    """Refuse limits that cannot judge a part: LSL at or above USL, or an infinite limit.

    Raises ``ContractError`` SPC-345 that names the first bad row (1-based).
    """
    low, high = np.atleast_1d(np.asarray(lsl, dtype=np.float64)), np.atleast_1d(np.asarray(usl, dtype=np.float64))
    bad = np.flatnonzero((low >= high) | np.isinf(low) | np.isinf(high))
    if bad.size:
        row = int(bad[0])
        raise ContractError(
            f"specification of row {row + 1}: LSL {low[row]:g} is not below USL {high[row]:g}, or a limit is infinite, so no "
            "part can be judged; correct the limits (exchange them if they are swapped), and leave a missing limit empty",
            code="SPC-345",
        )


def check_confidence(confidence: float) -> None:
    """Refuse a confidence level that is not strictly between 0 and 1: ``ContractError`` SPC-346.

    >>> check_confidence(0.95)
    """
    if not 0.0 < confidence < 1.0:
        raise ContractError(
            f"confidence level {confidence:g} is not between 0 and 1; give it as a share, e.g. 0.95 for 95 %", code="SPC-346"
        )


def indices(
    mean: Floats,
    sigma_within: Floats,
    sigma_overall: Floats,
    n: Floats,
    nu: Floats,
    lsl: Floats,
    target: Floats,
    usl: Floats,
    confidence: float = 0.95,
    bounds: Bounds = "two_sided",
) -> dict[str, Floats]:
    """All indices, their intervals and expected ppm of each chart; NaN where a figure is not defined.

    One entry per chart in every array, NaN for what is missing. ``n``: values; ``nu``: degrees of freedom of sigma
    within (pooled sum(n_i - 1); moving range k - 1; R-bar 0.9 k (n - 1); S-bar f k (n - 1)). Keys: cp, cpl, cpu, cpk,
    pp, ppl, ppu, ppk, cpm, each with ``_ci_low`` and ``_ci_high``; expected_ppm_below_lsl, _above_usl, _total and
    z_bench, each ``_within`` and ``_overall``. A one-sided specification has no Cp, Pp, Cpm; sigma 0 gives NaN.
    Cpm = (USL - LSL) / (6 sqrt(s^2 + (mean - target)^2)). Raises ``ContractError`` SPC-345 for LSL >= USL and
    SPC-346 for an impossible confidence.
    """
    check_specification(lsl, usl)
    check_confidence(confidence)
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for names, sigma, freedom, what in (
            (("cp", "cpl", "cpu", "cpk"), sigma_within, nu, "within"),
            (("pp", "ppl", "ppu", "ppk"), sigma_overall, n - 1.0, "overall"),
        ):
            known = np.where(sigma > 0, sigma, np.nan)
            lower, upper = (mean - lsl) / (3.0 * known), (usl - mean) / (3.0 * known)
            values = ((usl - lsl) / (6.0 * known), lower, upper, np.fmin(lower, upper))
            found |= dict(zip(names, values, strict=True))
            ends = [interval_of_cp(values[0], freedom, confidence, bounds)]
            ends += [interval_of_cpk(value, n, freedom, confidence, bounds) for value in values[1:]]
            found |= _ends(names, ends)
            below, above, total = expected_ppm(mean, sigma, lsl, usl)
            found |= {f"expected_ppm_below_lsl_{what}": below, f"expected_ppm_above_usl_{what}": above}
            found |= {f"expected_ppm_total_{what}": total, f"z_bench_{what}": z_bench(total)}
        spread = np.hypot(sigma_overall, mean - target)
        found["cpm"] = (usl - lsl) / (6.0 * np.where(spread > 0, spread, np.nan))
        freedom = freedom_of_cpm(mean, sigma_overall, n, target)
        found |= _ends(["cpm"], [interval_of_cp(found["cpm"], freedom, confidence, bounds)])
    return found


def with_indices(study: pl.DataFrame, confidence: float, bounds: Bounds = "two_sided") -> pl.DataFrame:
    """The frame with the columns of ``indices`` and ``reason``: why an index is empty.

    ``study``: mean, sigma_within, sigma_overall, n_observed, nu, lsl, target, usl; null where unknown.
    """
    names = ("mean", "sigma_within", "sigma_overall", "n_observed", "nu", "lsl", "target", "usl")
    mean, within, overall, n, nu, lsl, target, usl = (
        study[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names
    )
    found = indices(mean, within, overall, n, nu, lsl, target, usl, confidence, bounds)
    columns = [
        pl.Series(name, np.where(np.isfinite(values), values, np.nan), nan_to_null=True) for name, values in found.items()
    ]
    return study.with_columns(reason=reasons(), confidence=pl.lit(confidence)).with_columns(columns)


def reasons(more: tuple[tuple[pl.Expr, str], ...] = (), is_known: pl.Expr | None = None) -> pl.Expr:
    """Why indices are empty, joined by ``; ``; null when none is.

    ``more``: further (condition, text) pairs, put first; ``is_known``: where there is a specification at all.
    """
    lower, upper = pl.col("lsl").is_not_null(), pl.col("usl").is_not_null()
    causes = (
        *more,
        (~lower & ~upper & (pl.lit(value=True) if is_known is None else is_known), "the specification has no limits"),
        (lower ^ upper, "one-sided specification: no Cp, Pp, Cpm"),
        (lower & upper & pl.col("target").is_null(), "no target: no Cpm"),
        (pl.col("sigma_within").is_null(), "sigma within cannot be estimated: no subgroup carries dispersion"),
        (pl.col("sigma_within") == 0, "sigma within is 0"),
        (pl.col("sigma_overall").is_null(), "one value has no overall s"),
        (pl.col("sigma_overall") == 0, "overall s is 0"),
    )
    parts = [pl.when(condition).then(pl.lit(text)) for condition, text in causes]
    joined = pl.concat_str(parts, separator="; ", ignore_nulls=True)
    return pl.when(joined != "").then(joined)


def _tails(confidence: float, bounds: Bounds) -> tuple[float, float]:
    """Lower-tail probabilities of the two ends."""
    if bounds == "two_sided":
        return (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0
    return (1.0 - confidence, np.nan) if bounds == "lower" else (np.nan, confidence)


def _ends(names: tuple[str, ...] | list[str], ends: list[tuple[Floats, Floats]]) -> dict[str, Floats]:
    pairs = zip(names, ends, strict=True)
    return {f"{name}_ci_{end}": value for name, both in pairs for end, value in zip(("low", "high"), both, strict=True)}


def _sum_of_sides(below: Floats, above: Floats) -> Floats:
    total = np.nan_to_num(below) + np.nan_to_num(above)
    return np.asarray(np.where(np.isnan(below) & np.isnan(above), np.nan, total), dtype=np.float64)
