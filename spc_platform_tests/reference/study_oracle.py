"""Control charts a second time, as a textbook writes them: plain loops over lists, exact sums, constants by quadrature.

Nothing of ``spc_platform`` is imported. Sums of values are exact (fractions), so a common offset costs nothing here.
Formulas: Montgomery, Introduction to Statistical Quality Control; weights for unequal n: minimum-variance linear unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import optimize, stats
from scipy.integrate import quad

Point = tuple[float, float, float | None, float | None, float | None, float | None]
"""value, cl, lcl, ucl, standard error, z."""


@dataclass(frozen=True)
class Sample:
    """A subgroup (``values``) or a count of ``size`` inspected, in its place in the file."""

    number: int
    stage: int
    values: tuple[float, ...] = ()
    count: float | None = None
    size: float | None = None
    part: str = ""
    included: bool = True

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> Fraction:
        return sum(map(Fraction, self.values), Fraction(0)) / self.n

    @property
    def range(self) -> float:
        return float(Fraction(max(self.values)) - Fraction(min(self.values)))

    @property
    def m2(self) -> Fraction:
        return sum(((Fraction(v) - self.mean) ** 2 for v in self.values), Fraction(0))

    @property
    def s(self) -> float:
        return root(self.m2 / (self.n - 1))

    @property
    def median(self) -> Fraction:
        ordered = [Fraction(v) for v in sorted(self.values)]
        half = self.n // 2
        return ordered[half] if self.n % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True)
class Asked:
    """Settings of a chart as ``Plan`` names them; ``head`` is the head start."""

    k: float = 3.0
    estimator: str | None = None
    span: int | None = None
    mu: float | None = None
    sigma: float | None = None
    weight: float = 0.2
    reference: float = 0.5
    decision: float = 5.0
    head: float = 0.0
    pooling: str = "by_part"


@dataclass
class Found:
    """centre and sigma by stage, points by panel and number."""

    centre: dict[int, float | None] = field(default_factory=dict)
    sigma: dict[int, float | None] = field(default_factory=dict)
    nu: dict[int, float | None] = field(default_factory=dict)
    points: dict[str, dict[int, Point]] = field(default_factory=dict)

    def add(self, panel: str, sample: Sample, point: Point) -> None:
        self.points.setdefault(panel, {})[sample.number] = point


def root(value: Fraction) -> float:
    """Square root of an exact number, of values as small as 1e-24 too."""
    return math.sqrt(value.numerator / value.denominator)


# constants


def phi(x: Any) -> Any:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@cache
def d2(n: int) -> float:
    return 2 * quad(lambda x: 1 - stats.norm.sf(x) ** n - stats.norm.cdf(x) ** n, 0, 12, epsabs=1e-13, epsrel=1e-13)[0]


_X = np.arange(-10, 10, 0.04)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_R, _RW = 7.5 * (_NODES + 1), 7.5 * _WEIGHTS


def _over_pairs(density: Any) -> float:
    """Integral over x and r >= 0: trapezoids in x (exponentially exact), Gauss-Legendre in r."""
    x, r = _X[:, None], _R[None, :]
    return float(np.sum(density(x, r) * _RW[None, :]) * 0.04)


@cache
def d3(n: int) -> float:
    cdf = stats.norm.cdf
    second = _over_pairs(lambda x, r: r**2 * n * (n - 1) * phi(x) * phi(x + r) * (cdf(x + r) - cdf(x)) ** (n - 2))
    return math.sqrt(second - d2(n) ** 2)


@cache
def d4(n: int) -> float:
    """Median of the range of n."""

    def excess(r: float) -> float:
        at = lambda x: n * phi(x) * (stats.norm.cdf(x + r) - stats.norm.cdf(x)) ** (n - 1)  # noqa: E731
        return quad(at, -10, 10, epsabs=1e-13, epsrel=1e-13, points=[0.0])[0] - 0.5

    return optimize.brentq(excess, 0.1, 6, xtol=1e-13)


@cache
def c4(n: int) -> float:
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


@cache
def median_error(n: int) -> float:
    """Standard error of the median of n standard normal values."""
    cdf, sf = stats.norm.cdf, stats.norm.sf
    if n % 2:
        h = n // 2
        c = math.factorial(n) / math.factorial(h) ** 2
        return math.sqrt(float(np.sum(c * _X**2 * phi(_X) * (cdf(_X) * sf(_X)) ** h)) * 0.04)
    m = n // 2
    c = math.factorial(n) / math.factorial(m - 1) ** 2
    return math.sqrt(
        _over_pairs(lambda x, r: c * (x + r / 2) ** 2 * phi(x) * phi(x + r) * cdf(x) ** (m - 1) * sf(x + r) ** (m - 1))
    )


@cache
def mssd_mean(runs: tuple[int, ...]) -> float:
    """E of root(sum of squared successive differences / 2 pairs) of standard normal runs of these lengths.

    The sum is that of chi-squared values times 2 - 2 cos(pi i / m); E root Q = 1/sqrt(pi) int (1 - E exp(-u^2 Q)) / u^2 du.
    """
    eigen = np.array([2 - 2 * math.cos(math.pi * i / m) for m in runs for i in range(1, m)])
    lost = lambda u: -math.expm1(-0.5 * float(np.sum(np.log1p(2 * eigen * u * u)))) / (u * u)  # noqa: E731
    whole = quad(lost, 1e-9, 1, epsabs=1e-12, epsrel=1e-12, limit=200)[0] + 1e-9 * float(eigen.sum())
    # u = 1/v on the tail
    whole += quad(lambda v: lost(1 / v) / (v * v), 1e-12, 1, epsabs=1e-12, epsrel=1e-12, limit=200)[0] + 1e-12
    return whole / math.sqrt(math.pi) / math.sqrt(2 * len(eigen))


# estimators


def adjacent(a: Sample, b: Sample) -> bool:
    """Two plotted neighbours of one stage with nothing missing or left out between them."""
    return b.number == a.number + 1 and a.stage == b.stage


def windows(samples: list[Sample], span: int) -> list[list[Sample]]:
    found = [samples[i - span + 1 : i + 1] for i in range(span - 1, len(samples))]
    return [w for w in found if all(adjacent(a, b) for a, b in pairwise(w))]


def spread_of(values: list[Fraction]) -> float:
    return float(max(values) - min(values))


def sigma_of(samples: list[Sample], estimator: str, span: int) -> tuple[float | None, float]:
    """Sigma within and its degrees of freedom from samples that all enter."""
    several = [s for s in samples if s.n > 1]
    if estimator in ("rbar", "sbar", "pooled"):
        if not several:
            return None, 0.0
        nu = float(sum(s.n - 1 for s in several))
        if estimator == "pooled":
            return root(sum((s.m2 for s in several), Fraction(0)) / int(nu)) / c4(int(nu) + 1), nu
        if estimator == "rbar":
            f = [(d2(s.n) / d3(s.n)) ** 2 for s in several]
            each = [s.range / d2(s.n) for s in several]
            return math.fsum(a * b for a, b in zip(f, each, strict=True)) / math.fsum(f), 0.9 * nu
        h = [c4(s.n) ** 2 / (1 - c4(s.n) ** 2) for s in several]
        each = [s.s / c4(s.n) for s in several]
        return math.fsum(a * b for a, b in zip(h, each, strict=True)) / math.fsum(h), math.nan
    single = [s for s in samples if s.n == 1]
    if estimator == "mssd":
        steps = [(a, b) for a, b in pairwise(single) if adjacent(a, b)]
        if not steps:
            return None, 0.0
        runs, length = [], 1
        for a, b in pairwise(single):
            length = length + 1 if adjacent(a, b) else (runs.append(length) or 1)
        runs.append(length)
        squares = sum(((b.mean - a.mean) ** 2 for a, b in steps), Fraction(0))
        return root(squares / (2 * len(steps))) / mssd_mean(tuple(r for r in runs if r > 1)), float(len(steps))
    moving = [spread_of([s.mean for s in w]) for w in windows(single, span)]
    if not moving:
        return None, 0.0
    if estimator == "median_mr":
        return float(np.median(moving)) / d4(span), float(len(moving))
    return math.fsum(moving) / len(moving) / d2(span), float(len(moving))


DEFAULT = {"xbar_s": "sbar", "i_mr_s": "sbar", "i_mr": "mr", "dnom_i_mr": "mr"}


def charted(chart: str, samples: list[Sample], asked: Asked) -> Found:
    """Every point of every panel; samples without values are left out of the list."""
    found = Found()
    for stage in dict.fromkeys(s.stage for s in samples):
        own = [s for s in samples if s.stage == stage]
        if chart in ("p", "np", "c", "u", "laney_p", "laney_u"):
            _counted(chart, own, asked, found)
        elif chart == "g":
            _g(own, asked, found)
        elif chart == "t":
            _t(own, asked, found)
        elif chart == "z_mr":
            _z_mr(own, asked, found)
        else:
            _values(chart, own, asked, found)
    return found


def point(value: Fraction | float, cl: Fraction | float, se: float, k: float, low: float | None = None) -> Point:
    lcl = float(cl) - k * se
    z = float(Fraction(value) - Fraction(cl)) / se if se > 0 else None
    return float(value), float(cl), lcl if low is None else max(lcl, low), float(cl) + k * se, se, z


def _values(chart: str, own: list[Sample], asked: Asked, found: Found) -> None:
    k, stage = asked.k, own[0].stage
    entering = [s for s in own if s.included]
    single = max(s.n for s in own) == 1
    estimator = asked.estimator or ("mr" if single else DEFAULT.get(chart, "rbar"))
    mr_span = asked.span or 2 if chart != "moving_average" else 2
    estimated, nu = sigma_of(entering, estimator, mr_span)
    sigma = asked.sigma if asked.sigma is not None else estimated
    total = sum(s.n for s in entering)
    mu: Fraction = sum((sum(map(Fraction, s.values), Fraction(0)) for s in entering), Fraction(0)) / total
    if chart == "median_r":
        weights = [Fraction(median_error(s.n) ** -2) for s in entering]
        mu = sum((w * s.median for w, s in zip(weights, entering, strict=True)), Fraction(0)) / sum(weights)
    if asked.mu is not None:
        mu = Fraction(asked.mu)
    found.centre[stage], found.sigma[stage], found.nu[stage] = float(mu), sigma, nu
    if sigma is None:
        return
    if chart in ("ewma", "cusum", "moving_average"):
        _with_memory(chart, own, mu, sigma, asked, found)
        return
    individuals, of_mr = sigma, sigma
    if chart in ("i_mr_r", "i_mr_s"):
        pairs = [spread_of([a.mean, b.mean]) for a, b in pairwise(entering) if adjacent(a, b)]
        individuals = of_mr = math.fsum(pairs) / len(pairs) / d2(2)
    for s in own:
        error = {
            "median_r": lambda n: sigma * median_error(n),
            "i_mr_r": lambda n: individuals,
            "i_mr_s": lambda n: individuals,
        }
        at = s.median if chart == "median_r" else s.mean
        found.add("location", s, point(at, mu, error.get(chart, lambda n: sigma / math.sqrt(n))(s.n), k))
        if s.n > 1:
            _within(chart, s, sigma, k, found)
    if chart in ("i_mr", "dnom_i_mr", "i_mr_r", "i_mr_s"):
        for w in windows(own, mr_span):
            value = spread_of([s.mean for s in w])
            found.add("dispersion", w[-1], point(value, d2(mr_span) * of_mr, d3(mr_span) * of_mr, k, 0.0))


def _within(chart: str, s: Sample, sigma: float, k: float, found: Found) -> None:
    panel = "within" if chart.startswith("i_mr_") else "dispersion"
    if chart in ("xbar_r", "median_r", "dnom", "i_mr_r"):
        found.add(panel, s, point(s.range, d2(s.n) * sigma, d3(s.n) * sigma, k, 0.0))
    if chart in ("xbar_s", "i_mr_s"):
        found.add(panel, s, point(s.s, c4(s.n) * sigma, math.sqrt(1 - c4(s.n) ** 2) * sigma, k, 0.0))


def _with_memory(chart: str, own: list[Sample], mu: Fraction, sigma: float, asked: Asked, found: Found) -> None:
    w = asked.weight
    level, variance = mu, 0.0
    upper = lower = asked.head * asked.decision
    for i, s in enumerate(own):
        if chart == "ewma":
            level = Fraction(w) * s.mean + (1 - Fraction(w)) * level
            variance = (1 - w) ** 2 * variance + w * w / s.n
            found.add("location", s, point(level, mu, sigma * math.sqrt(variance), asked.k))
        elif chart == "moving_average":
            last = own[max(0, i - (asked.span or 3) + 1) : i + 1]
            value = sum((t.mean for t in last), Fraction(0)) / len(last)
            se = sigma * math.sqrt(math.fsum(1 / t.n for t in last)) / len(last)
            found.add("location", s, point(value, mu, se, asked.k))
        else:
            y = float(s.mean - mu) / (sigma / math.sqrt(s.n))
            upper, lower = max(0.0, y - asked.reference + upper), max(0.0, -y - asked.reference + lower)
            found.add("upper", s, (upper, 0.0, None, asked.decision, 1.0, upper))
            found.add("lower", s, (-lower, 0.0, -asked.decision, None, 1.0, -lower))


def _counted(chart: str, own: list[Sample], asked: Asked, found: Found) -> None:
    statistic, stage = chart.removeprefix("laney_"), own[0].stage
    entering = [s for s in own if s.included]
    total = math.fsum(s.count or 0.0 for s in entering)
    per = len(entering) if statistic == "c" else math.fsum(s.size or 0.0 for s in entering)
    centre = asked.mu if asked.mu is not None else total / per

    def plotted(s: Sample) -> tuple[float, float, float, float]:
        count, n = s.count or 0.0, s.size or 1.0
        if statistic == "p":
            return count / n, centre, math.sqrt(centre * (1 - centre) / n), 1.0
        if statistic == "np":
            return count, n * centre, math.sqrt(n * centre * (1 - centre)), n
        if statistic == "c":
            return count, centre, math.sqrt(centre), math.inf
        return count / n, centre, math.sqrt(centre / n), math.inf

    sigma_z = 1.0
    if chart.startswith("laney"):
        z = {s.number: (plotted(s)[0] - centre) / plotted(s)[2] for s in entering}
        moving = [abs(z[b.number] - z[a.number]) for a, b in pairwise(entering) if adjacent(a, b)]
        sigma_z = math.fsum(moving) / len(moving) / d2(2)
    found.centre[stage] = centre
    for s in own:
        value, cl, se, largest = plotted(s)
        se *= sigma_z
        found.add(
            "location", s, (value, cl, max(cl - asked.k * se, 0.0), min(cl + asked.k * se, largest), se, (value - cl) / se)
        )


def _g(own: list[Sample], asked: Asked, found: Found) -> None:
    entering = [s for s in own if s.included]
    mean = math.fsum(s.values[0] for s in entering) / len(entering)
    found.centre[own[0].stage] = mean
    for s in own:
        found.add("location", s, point(s.values[0], mean, math.sqrt(mean * (mean + 1)), asked.k, 0.0))


def _t(own: list[Sample], asked: Asked, found: Found) -> None:
    entering = [s for s in own if s.included]
    times = np.array([s.values[0] for s in entering])
    if (asked.estimator or "nelson") == "nelson":
        y = {s.number: s.values[0] ** (1 / 3.6) for s in own}
        mean = math.fsum(y[s.number] for s in entering) / len(entering)
        moving = [abs(y[b.number] - y[a.number]) for a, b in pairwise(entering) if adjacent(a, b)]
        sigma = math.fsum(moving) / len(moving) / d2(2)
        for s in own:
            lcl, cl, ucl = (max(mean + step * sigma, 0.0) ** 3.6 for step in (-asked.k, 0, asked.k))
            found.add("location", s, (s.values[0], cl, lcl, ucl, None, (y[s.number] - mean) / sigma))
        return
    shape, scale = 1.0, float(times.mean())
    if asked.estimator == "weibull":
        logs = np.log(times)
        score = lambda b: float(np.sum(times**b * logs) / np.sum(times**b) - 1 / b - logs.mean())  # noqa: E731
        shape = optimize.brentq(score, 0.05, 50, xtol=1e-14, rtol=1e-14)
        scale = float(np.mean(times**shape)) ** (1 / shape)
    law = stats.weibull_min(shape, scale=scale)
    tail = float(stats.norm.sf(asked.k))
    for s in own:
        t = s.values[0]
        z = float(stats.norm.ppf(law.cdf(t)) if t < law.median() else stats.norm.isf(law.sf(t)))
        found.add("location", s, (t, float(law.median()), float(law.ppf(tail)), float(law.isf(tail)), None, z))


def _z_mr(own: list[Sample], asked: Asked, found: Found) -> None:
    scale = {s.number: Fraction(math.log(s.values[0])) if asked.pooling == "relative" else s.mean for s in own}
    run, of_run = 0, {}
    for before, s in zip([None, *own], own, strict=False):
        run += before is None or before.part != s.part
        of_run[s.number] = run
    entering = [s for s in own if s.included]
    moving = [
        (a, abs(float(scale[b.number] - scale[a.number])))
        for a, b in pairwise(entering)
        if adjacent(a, b) and of_run[a.number] == of_run[b.number]
    ]
    z = {}
    for s in own:
        same = [
            t for t in entering if (of_run[t.number] == of_run[s.number] if asked.pooling == "by_run" else t.part == s.part)
        ]
        pool = [
            m
            for a, m in moving
            if asked.pooling in ("constant", "relative")
            or (a.part == s.part if asked.pooling == "by_part" else of_run[a.number] == of_run[s.number])
        ]
        mu = sum((scale[t.number] for t in same), Fraction(0)) / len(same)
        z[s.number] = float(scale[s.number] - mu) / (math.fsum(pool) / len(pool) / d2(2))
        found.add("location", s, (z[s.number], 0.0, -asked.k, asked.k, 1.0, z[s.number]))
    span = asked.span or 2
    for w in windows(own, span):
        value = max(z[s.number] for s in w) - min(z[s.number] for s in w)
        found.add("dispersion", w[-1], point(value, d2(span), d3(span), asked.k, 0.0))


# run rules, each as a question about a window of z that ends at the point

Z = list[float]


def _same_side(k: int, m: int, zone: float) -> Any:
    def rule(z: Z, width: float) -> list[tuple[str, int]]:
        last = z[-m:]
        high, low = sum(v > zone for v in last), sum(v < -zone for v in last)
        found = [("above", len(last))] if high >= k and z[-1] > zone else []
        return found + ([("below", len(last))] if low >= k and z[-1] < -zone else [])

    return rule


def _limit(z: Z, width: float) -> list[tuple[str, int]]:
    return [("above", 1)] if z[-1] > width else [("below", 1)] if z[-1] < -width else []


def _trend(m: int) -> Any:
    def rule(z: Z, width: float) -> list[tuple[str, int]]:
        last = z[-m:]
        if len(last) < m:
            return []
        up = all(b > a for a, b in pairwise(last))
        return [("above", m)] if up else [("below", m)] if all(b < a for a, b in pairwise(last)) else []

    return rule


def _alternating(m: int) -> Any:
    def rule(z: Z, width: float) -> list[tuple[str, int]]:
        last = z[-m:]
        steps = [b - a for a, b in pairwise(last)]
        return [("both", m)] if len(last) == m and all(a * b < 0 for a, b in pairwise(steps)) else []

    return rule


def _all(m: int, test: Any) -> Any:
    return lambda z, width: [("both", m)] if len(z) >= m and all(test(v) for v in z[-m:]) else []


_WITHIN, _OUTSIDE = _all(15, lambda v: abs(v) <= 1), _all(8, lambda v: abs(v) > 1)
_ZONES = _same_side(2, 3, 2.0), _same_side(4, 5, 1.0)
SETS: dict[str, list[tuple[str, Any]]] = {
    # Western Electric (1956); the kind decides on which charts a rule may act
    "western_electric": [("limits", _limit), ("zone", _ZONES[0]), ("zone", _ZONES[1]), ("run", _same_side(8, 8, 0.0))],
    "nelson": [
        ("limits", _limit),
        ("run", _same_side(9, 9, 0.0)),
        ("trend", _trend(6)),
        ("alternate", _alternating(14)),
        ("zone", _ZONES[0]),
        ("zone", _ZONES[1]),
        ("within", _WITHIN),
        ("outside", _OUTSIDE),
    ],
    "aiag": [
        ("limits", _limit),
        ("run", _same_side(7, 7, 0.0)),
        ("trend", _trend(6)),
        ("alternate", _alternating(14)),
        ("zone", _ZONES[0]),
        ("zone", _ZONES[1]),
        ("within", _WITHIN),
        ("outside", _OUTSIDE),
    ],
    "montgomery": [
        ("limits", _limit),
        ("zone", _ZONES[0]),
        ("zone", _ZONES[1]),
        ("run", _same_side(8, 8, 0.0)),
        ("trend", _trend(6)),
        ("within", _WITHIN),
        ("alternate", _alternating(14)),
        ("outside", _OUTSIDE),
    ],
}
_ATTRIBUTE = ("limits", "run", "trend", "alternate")
_COUNTED = ("p", "np", "c", "u", "laney_p", "laney_u", "g", "t")
_LIMITS_ONLY = ("ewma", "cusum", "moving_average", "t2", "mewma")


def violations(chart: str, found: Found, stage_of: dict[int, int], rule_set: str, width: float) -> set[tuple[Any, ...]]:
    """{(panel, number, rule, side, window)} by brute force."""
    result = set()
    for panel, points in found.points.items():
        plotted = [(number, p[5]) for number, p in sorted(points.items()) if p[5] is not None]
        allowed = _ATTRIBUTE if chart in _COUNTED else ("limits",) if chart in _LIMITS_ONLY or panel != "location" else None
        for i, (number, _) in enumerate(plotted):
            seen = [(m, z) for m, z in plotted[: i + 1] if stage_of[m] == stage_of[number]]
            for position, (kind, rule) in enumerate(SETS[rule_set], start=1):
                if allowed is None or kind in allowed:
                    for side, length in rule([z for _, z in seen], width):
                        result.add((panel, number, f"{rule_set}_{position}", side, tuple(m for m, _ in seen[-length:])))
    return result


def shifted(samples: list[Sample], by: float) -> list[Sample]:
    """The samples with ``by`` taken from every value (deviations from nominal)."""
    return [replace(s, values=tuple(v - by for v in s.values)) for s in samples]
