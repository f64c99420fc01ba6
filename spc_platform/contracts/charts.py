"""Kinds of control charts as data: what each plots, which estimators and subgroup sizes it takes, which tests it allows.

A chart is a row of ``CHARTS``; the site's checks, the estimators, the judge and the command line read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Data = Literal["values", "counts", "events", "vectors"]

TESTS = ("limits", "run", "trend", "alternate", "zone", "within", "outside")
"""Kinds of tests: beyond the limits; m on one side; m rising or falling; m alternating; k of m beyond an inner zone on one
side; m within a zone; m outside a zone on either side (Nelson's 1, 2, 3, 4, 5-6, 7, 8)."""

LIMITS_ONLY = ("limits",)
ATTRIBUTE_TESTS = ("limits", "run", "trend", "alternate")
"""Zone tests suppose a normal statistic: a count's zones are not symmetric (Nelson 1984; Minitab allows tests 1 to 4)."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of a chart: its statistic, and the tests that hold for that statistic."""

    name: str
    statistic: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A kind of chart. ``estimators``: of sigma, the default first; ``sizes``: smallest and largest subgroup (None: any)."""

    name: str
    title: str
    data: Data
    panels: tuple[Panel, ...]
    estimators: tuple[str, ...]
    sizes: tuple[int, int | None]

    def panel(self, name: str) -> Panel:
        return next(panel for panel in self.panels if panel.name == name)


def _two(location: str, dispersion: str) -> tuple[Panel, ...]:
    # successive ranges and standard deviations are neither normal nor symmetric: only their limits are a test
    return Panel("location", location, TESTS), Panel("dispersion", dispersion, LIMITS_ONLY)


def _one(statistic: str, tests: tuple[str, ...]) -> tuple[Panel, ...]:
    return (Panel("location", statistic, tests),)


_SUBGROUPS = ("rbar", "sbar", "pooled")
_INDIVIDUALS = ("mr", "median_mr", "mssd")
_ANY = (*_SUBGROUPS, *_INDIVIDUALS)
_CUSUM = (Panel("upper", "cusum_upper", LIMITS_ONLY), Panel("lower", "cusum_lower", LIMITS_ONLY))


def _between_within(within: str) -> tuple[Panel, ...]:
    return (*_two("xbar", "mr"), Panel("within", within, LIMITS_ONLY))


CHARTS: dict[str, Chart] = {
    chart.name: chart
    for chart in (
        Chart("xbar_r", "X̄-R", "values", _two("xbar", "r"), _SUBGROUPS, (2, None)),
        Chart("xbar_s", "X̄-S", "values", _two("xbar", "s"), ("sbar", "rbar", "pooled"), (2, None)),
        Chart("median_r", "Median-R", "values", _two("median", "r"), _SUBGROUPS, (2, None)),
        Chart("i_mr", "I-MR", "values", _two("x", "mr"), _INDIVIDUALS, (1, 1)),
        Chart("i_mr_r", "I-MR-R (between/within)", "values", _between_within("r"), _SUBGROUPS, (2, None)),
        Chart("i_mr_s", "I-MR-S (between/within)", "values", _between_within("s"), ("sbar", "rbar", "pooled"), (2, None)),
        Chart("ewma", "EWMA", "values", _one("ewma", LIMITS_ONLY), _ANY, (1, None)),
        Chart("cusum", "CUSUM", "values", _CUSUM, _ANY, (1, None)),
        Chart("moving_average", "Moving average", "values", _one("moving_average", LIMITS_ONLY), _ANY, (1, None)),
        Chart("dnom", "Deviation from nominal, X̄-R", "values", _two("xbar", "r"), _SUBGROUPS, (2, None)),
        Chart("dnom_i_mr", "Deviation from nominal, I-MR", "values", _two("x", "mr"), _INDIVIDUALS, (1, 1)),
        Chart("z_mr", "Z-MR (short run)", "values", _two("z", "mr"), ("mr",), (1, 1)),
        Chart("p", "p", "counts", _one("p", ATTRIBUTE_TESTS), ("binomial",), (1, None)),
        Chart("np", "np", "counts", _one("np", ATTRIBUTE_TESTS), ("binomial",), (1, None)),
        Chart("laney_p", "Laney p′", "counts", _one("p", ATTRIBUTE_TESTS), ("laney",), (1, None)),
        Chart("c", "c", "counts", _one("c", ATTRIBUTE_TESTS), ("poisson",), (1, None)),
        Chart("u", "u", "counts", _one("u", ATTRIBUTE_TESTS), ("poisson",), (1, None)),
        Chart("laney_u", "Laney u′", "counts", _one("u", ATTRIBUTE_TESTS), ("laney",), (1, None)),
        Chart("g", "g (opportunities between events)", "events", _one("g", ATTRIBUTE_TESTS), ("geometric",), (1, 1)),
        Chart(
            "t", "t (time between events)", "events", _one("t", ATTRIBUTE_TESTS), ("nelson", "exponential", "weibull"), (1, 1)
        ),
        Chart("t2", "Hotelling T²", "vectors", _one("t2", LIMITS_ONLY), ("covariance", "successive_differences"), (1, None)),
        Chart("mewma", "MEWMA", "vectors", _one("mewma", LIMITS_ONLY), ("covariance", "successive_differences"), (1, None)),
    )
}
"""The kinds of charts by the name that a site writes into ``characteristics.chart``."""

PANELS = ("location", "dispersion", "within", "upper", "lower")
LOCATION_PANELS = ("location", "upper", "lower")
"""Panels that watch the centre of the process; the others watch its spread."""

STATISTICS = tuple(dict.fromkeys(panel.statistic for chart in CHARTS.values() for panel in chart.panels))
STATISTIC_NAMES: dict[str, str] = {
    "xbar": "X-bar",
    "x": "X",
    "median": "Median",
    "r": "R",
    "s": "S",
    "mr": "MR",
    "z": "Z",
    "ewma": "EWMA",
    "cusum_upper": "CUSUM +",
    "cusum_lower": "CUSUM -",
    "moving_average": "MA",
    "t2": "T²",
    "mewma": "MEWMA",
}
"""Names on axes; a statistic that is not in it is its own name."""

UNITLESS = ("z", "cusum_upper", "cusum_lower", "t2", "mewma")
"""Statistics that are not in the unit of the characteristic."""

ESTIMATORS = tuple(dict.fromkeys(name for chart in CHARTS.values() for name in chart.estimators))
TIME_WEIGHTED = ("ewma", "cusum", "moving_average")
"""Charts whose points remember the whole segment; a site restarts them so that a partition knows its past."""
