"""Tests of normality: Anderson-Darling and Shapiro-Wilk."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import log_ndtr

from spc_platform.spc import goodness_of_fit
from spc_platform.spc.results import TestResult, centred, described, sample
from spc_platform.spc.sequence import Spans

FLAT = "no statistic: all values are equal; measure with a finer resolution"
TIES = "{} of {} values are distinct: rounding alone makes this test reject"


def anderson_darling(values: npt.ArrayLike, *, name: str = "values") -> TestResult:
    """Test whether values are normal, with weight on the tails; statistic: A squared (``details``: adjusted for n).

    ``values``: 8 or more. The tails are taken as logarithms, so an outlier at 40 sigma costs no digits. Equal values give
    no statistic, with a reason. Errors: SPC-360, 361. Source: D'Agostino and Stephens, Goodness-of-Fit Techniques (1986).
    """
    data = sample(values, name, 8)
    _, (parts,) = centred(data)
    spread = float(parts.std(ddof=1))
    n = data.size
    statistic = math.nan
    if spread > 0:
        z = (parts - parts.mean()) / spread
        statistic = float(goodness_of_fit.anderson_darling(log_ndtr(z), log_ndtr(-z), Spans(np.array([0]), n))[0])
    adjusted = statistic * (1.0 + 0.75 / n + 2.25 / n**2)
    p_value = float(goodness_of_fit.p_of_normal(np.array([statistic]), np.array([float(n)]))[0])
    result = _result("Anderson-Darling", "A squared", statistic, p_value, data, name, spread)
    result.details["adjusted"] = adjusted
    return result


def shapiro_wilk(values: npt.ArrayLike, *, name: str = "values") -> TestResult:
    """Test whether values are normal, the most powerful for small samples; statistic: W (Royston 1995).

    ``values``: 3 to 5,000 (beyond, no statistic, with a reason). Equal values give no statistic, with a reason. Errors:
    SPC-360, 361.
    """
    data = sample(values, name, 3)
    _, (parts,) = centred(data)
    spread = float(parts.std(ddof=1))
    statistic, p_value = map(float, stats.shapiro(parts / spread)) if spread > 0 and data.size <= 5000 else (math.nan, math.nan)
    result = _result("Shapiro-Wilk", "W", statistic, p_value, data, name, spread)
    if data.size > 5000:
        return TestResult(
            **{**vars(result), "reason": "no W beyond 5,000 values: its p-value is not calibrated; use Anderson-Darling"}
        )
    return result


def _result(
    test: str, statistic_name: str, statistic: float, p_value: float, data: npt.NDArray[np.float64], name: str, spread: float
) -> TestResult:
    distinct = int(np.unique(data).size)
    notes: tuple[str, ...] = ("values independent; a small p-value rejects normality, a large one does not prove it",)
    if distinct < data.size / 3:
        notes += (TIES.format(distinct, data.size),)
    return TestResult(
        test=test,
        statistic_name=statistic_name,
        statistic=statistic,
        df=(),
        p_value=p_value,
        alternative="two-sided",
        estimate_name="skewness",
        estimate=float(stats.skew((data - data[0]) / spread, bias=False)) if spread > 0 else math.nan,
        interval=None,
        samples=(described(name, data),),
        notes=notes,
        reason=None if spread > 0 else FLAT,
    )
