"""Chart fitness: whether a chart's assumptions hold on its own data, and which chart would suit instead.

A finding needs both significance and effect: with thousands of charts every test rejects somewhere, and a rejected
hypothesis that leaves the false alarms as they are is no reason to distrust a chart. Thresholds and the findings with
their words are data (``fitness_reasons``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS
from spc_platform.contracts.fitness import SPC_CHART_FITNESS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc import false_alarms
from spc_platform.spc.charting import chart_parameters
from spc_platform.spc.constants import d2, d3
from spc_platform.spc.diagnostics import (
    Members,
    autocorrelation,
    between_within,
    common_step,
    count_dispersion,
    hugging_share,
    shape,
)
from spc_platform.spc.fitness_reasons import judged
from spc_platform.spc.sequence import CHART, Flags, Floats, Ints, Spans, chart_order, first_of_segment

MOVING = ("i_mr", "dnom_i_mr", "z_mr", "i_mr_r", "i_mr_s", "laney_p", "laney_u")
"""Charts whose sigma comes from moving ranges of the charted statistic."""

BINOMIAL = ("p", "np", "laney_p")
POISSON = ("c", "u", "laney_u")
_PER_UNIT = ("p", "u", "laney_p", "laney_u")


@dataclass(frozen=True)
class Samples:
    """What lies behind the charts, flat over all of them, points in time order.

    Per chart: ``chart`` (a name of CHARTS) and ``sigma`` (within, in the unit of single values; NaN when unknown, unused
    by count charts). Per point: ``value`` (the charted location statistic: mean, individual, proportion, count; for
    EWMA, CUSUM and moving averages what enters them; NaN where nothing was observed), ``n`` (subgroup size, parts or
    area) and ``is_first`` (first point of a segment). ``spans`` gives each chart's points.
    Optional per point: ``m2`` (sum of squared deviations within the subgroup). Optional single values: ``values`` with
    ``value_chart``, the index of each one's chart in never decreasing order. Optional ``readings`` (with
    ``reading_chart``): other raw readings that show the gauge's step. Optional per chart: ``resolution`` (declared step,
    NaN unknown), ``masked_share``, ``imputed_share`` (0 to 1).
    """

    chart: Sequence[str]
    spans: Spans
    value: Floats
    n: Floats
    is_first: Flags
    sigma: Floats
    m2: Floats | None = None
    values: Floats | None = None
    value_chart: Ints | None = None
    readings: Floats | None = None
    reading_chart: Ints | None = None
    resolution: Floats | None = None
    masked_share: Floats | None = None
    imputed_share: Floats | None = None
    k: float = 3.0


def chart_fitness(samples: Samples) -> pl.DataFrame:
    """One row per chart of ``samples``, in its order: every diagnostic with its p, the implied rates, the verdict.

    Columns are those of SPC_CHART_FITNESS without the ids and times, and rate_* (false alarms of rule 1 that each
    diagnostic implies). Figures that a chart has too little data for are null. Raises ``ContractError``: SPC-370 for an
    infinite value, SPC-371 for arrays that do not fit together, SPC-372 for an unknown kind of chart, SPC-373 for
    counts that cannot be. Sources: ``spc.diagnostics``, ``spc.false_alarms`` and the thresholds' table.
    """
    _check(samples)
    if not len(samples.spans.starts):
        return judged(_measured(_none()), samples.k).clear()
    return judged(_measured(samples), samples.k)


def pipeline_fitness(
    subgroups: pl.DataFrame, limits: pl.DataFrame, site: Site, measurement: pl.DataFrame | None = None
) -> pl.DataFrame:
    """SPC_CHART_FITNESS of the site's charts from SPC_SUBGROUPS.

    ``limits``: SPC_LIMIT_ESTIMATES or SPC_LIMITS, whose newest sigma per chart is judged; a chart without one gets sigma
    estimated from its subgroups here. ``measurement``: MEASUREMENT of the same window; without it normality is judged
    on the charted statistic and ``inputs`` says so. Segments end at a change of specification version and at gaps
    above ``policies.rule_reset_gap_h``. Values never enter that were not observed. Raises as ``chart_fitness``.
    """
    ordered = chart_order(subgroups, site)
    if ordered.is_empty():
        return SPC_CHART_FITNESS.empty()
    gap_h = site.policies.rule_reset_gap_h
    is_first = first_of_segment(ordered, ["chart_index", "specification_version"], gap_h)
    index = ordered["chart_index"].to_numpy()
    spans = Spans.from_first(np.diff(index, prepend=-1) != 0)
    charts = ordered[spans.starts].select(*CHART, "chart")
    members = Members(np.repeat(np.arange(len(spans.starts)), spans.sizes), len(spans.starts))
    values, value_chart = _values(measurement, charts)
    frame = chart_fitness(
        Samples(
            chart=charts["chart"].to_list(),
            spans=spans,
            value=ordered.select(_charted(ordered)).to_series().to_numpy(),
            n=ordered.select(_size(ordered)).to_series().to_numpy(),
            is_first=is_first,
            sigma=_sigma(ordered, charts, limits, gap_h),
            m2=ordered["m2"].fill_null(np.nan).to_numpy(),
            values=values,
            value_chart=value_chart,
            readings=ordered.select(pl.concat_list("minimum", "maximum").explode(empty_as_null=False))["minimum"].to_numpy(),
            reading_chart=np.repeat(members.chart, 2),
            resolution=_resolution(charts, site),
            masked_share=spans.total(ordered["n_masked"].to_numpy()) / spans.total(ordered["n_observed"].to_numpy()),
            k=site.policies.baseline.k,
        )
    )
    return SPC_CHART_FITNESS.conform(
        frame.with_columns(
            charts["characteristic_id"],
            charts["equipment_id"],
            window_from=ordered["subgroup_at"][spans.starts],
            window_to=ordered["subgroup_end_at"][spans.ends],
        )
    )


def _charted(ordered: pl.DataFrame) -> pl.Expr:
    """What the location panel plots: the mean, or of np and c charts the count."""
    if "count" not in ordered.columns:
        return pl.col("mean")
    is_count = pl.col("chart").is_in([name for name in (*BINOMIAL, *POISSON) if name not in _PER_UNIT])
    return pl.when(is_count).then("count").otherwise("mean").cast(pl.Float64)


def _size(ordered: pl.DataFrame) -> pl.Expr:
    """Subgroup size, or of counts what was inspected."""
    n = pl.col("n_observed").cast(pl.Float64)
    if "size" not in ordered.columns:
        return n
    return pl.when(pl.col("chart").is_in([*BINOMIAL, *POISSON])).then("size").otherwise(n)


def _values(measurement: pl.DataFrame | None, charts: pl.DataFrame) -> tuple[Floats | None, Ints | None]:
    if measurement is None:
        return None, None
    index = charts.select(*CHART).with_row_index("index")
    rows = measurement.filter(pl.col("value").is_finite()).join(index, on=CHART, how="inner").sort("index", "value")
    return rows["value"].to_numpy(), rows["index"].to_numpy().astype(np.int64)


def _sigma(ordered: pl.DataFrame, charts: pl.DataFrame, limits: pl.DataFrame, gap_h: float) -> Floats:
    """Newest sigma of the limits, else what the subgroups give."""
    newest = limits.sort("limit_version") if "limit_version" in limits.columns else limits
    newest = newest.unique(CHART, keep="last", maintain_order=True).select(*CHART, given="sigma")
    segment = pl.Series(first_of_segment(ordered, ["chart_index"], gap_h)).cum_sum().cast(pl.Int64)
    own = chart_parameters(ordered.with_columns(segment=segment), ["chart_index"]).select(*CHART, own="sigma")
    joined = charts.join(newest, on=CHART, how="left", maintain_order="left").join(
        own, on=CHART, how="left", maintain_order="left"
    )
    return joined.select(pl.coalesce("given", "own").fill_null(np.nan).alias("sigma"))["sigma"].to_numpy()


def _resolution(charts: pl.DataFrame, site: Site) -> Floats:
    declared = site["specifications"].drop_nulls("resolution").sort("version").unique("characteristic_id", keep="last")
    joined = charts.join(
        declared.select("characteristic_id", "resolution"), on="characteristic_id", how="left", maintain_order="left"
    )
    return joined["resolution"].fill_null(np.nan).to_numpy()


def _none() -> Samples:
    """One chart of one point, whose columns an answer without charts takes."""
    one = np.ones(1)
    return Samples(["i_mr"], Spans(np.zeros(1, dtype=np.int64), 1), one, one, np.ones(1, dtype=np.bool_), one)


def _check(samples: Samples) -> None:
    unknown = sorted(set(samples.chart) - set(CHARTS))
    if unknown:
        raise ContractError(
            f"unknown kind of chart {', '.join(unknown)}; use one of {', '.join(CHARTS)} (contracts.charts)", code="SPC-372"
        )
    charts, rows = len(samples.spans.starts), samples.spans.rows
    lengths = {"value": rows, "n": rows, "is_first": rows, "m2": rows, "chart": charts, "sigma": charts}
    lengths |= {"resolution": charts, "masked_share": charts, "imputed_share": charts}
    for name, expected in lengths.items():
        given = getattr(samples, name)
        if given is not None and len(given) != expected:
            raise ContractError(f"{name} has {len(given)} entries, the spans ask for {expected}; pass one each", code="SPC-371")
    for name, of in (("values", "value_chart"), ("readings", "reading_chart")):
        values, index = getattr(samples, name), getattr(samples, of)
        if values is None:
            continue
        if index is None or len(index) != len(values) or np.any(np.diff(index) < 0) or not _within(index, charts):
            raise ContractError(
                f"{of} must hold, in never decreasing order, the chart of each of the {len(values)} {name}", code="SPC-371"
            )
    for name in ("value", "values", "readings"):
        values = getattr(samples, name)
        if values is not None and np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0])
            raise ContractError(f"{name}, row {row}, is infinite; correct it or pass NaN for not observed", code="SPC-370")
    _check_counts(samples)


def _within(index: Ints, charts: int) -> bool:
    return not len(index) or (index[0] >= 0 and index[-1] < charts)


def _check_counts(samples: Samples) -> None:
    binomial, poisson = (
        np.repeat(np.isin(np.asarray(samples.chart, dtype=object), names), samples.spans.sizes) for names in (BINOMIAL, POISSON)
    )
    per_unit = np.repeat(np.isin(np.asarray(samples.chart, dtype=object), _PER_UNIT), samples.spans.sizes)
    count = np.where(per_unit, samples.value * samples.n, samples.value)
    with np.errstate(invalid="ignore"):
        bad = (binomial | poisson) & ((count < 0) | ~(samples.n > 0))
        bad |= binomial & (count > samples.n * (1.0 + 1e-12))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ContractError(
            f"row {row}: {count[row]:g} events in a sample of {samples.n[row]:g} cannot be; a count is at least 0, a sample "
            "above 0, and a p or np chart has at most one event per part; correct the row or use a c or u chart",
            code="SPC-373",
        )


def _measured(samples: Samples) -> pl.DataFrame:
    """Every diagnostic of each chart; NaN where it does not apply."""
    charts = len(samples.spans.starts)
    members = Members(np.repeat(np.arange(charts), samples.spans.sizes), charts)
    seen = np.isfinite(samples.value)
    kept, value, n = members.kept(seen), samples.value[seen], samples.n[seen]
    names = np.asarray(samples.chart, dtype=object)
    n_subgroups = kept.sizes()
    largest, smallest = kept.extreme(n, largest=True), kept.extreme(n, largest=False)
    with np.errstate(invalid="ignore"):
        typical = np.where(n_subgroups > 0, kept.total(n) / np.maximum(n_subgroups, 1), np.nan)
    counted = np.isin(names, [*BINOMIAL, *POISSON])
    individual = ~counted & (largest <= 1)
    moving = np.isin(names, MOVING) | (individual & np.isin(names, _shaped()))
    columns: dict[str, object] = {
        "chart": samples.chart,
        "n_subgroups": n_subgroups,
        "n_values": np.round(kept.total(n)).astype(np.int64),
        "largest": largest,
        "smallest": smallest,
        "typical": typical,
        "counted": counted,
        "moving": moving,
        "individual": individual,
        "sigma": samples.sigma,
        "masked_share": samples.masked_share if samples.masked_share is not None else np.zeros(charts),
        "imputed_share": samples.imputed_share if samples.imputed_share is not None else np.zeros(charts),
    }
    counts = _counts(samples, kept, seen, names, counted)
    columns |= {name: counts[name] for name in ("overdispersion", "overdispersion_p", "expected", "zero_share", "rate_count")}
    columns |= _spread(samples, kept, value, n, seen)
    statistic = np.where(counted[members.chart], counts["z"], samples.value)
    lagged = autocorrelation(statistic, samples.is_first, members)
    columns |= {"autocorrelation_lag1": lagged.lag1, "autocorrelation_p": lagged.p}
    columns |= {"ljung_box": lagged.ljung_box, "ljung_box_p": lagged.ljung_box_p}
    columns |= _step(samples, kept, value, typical)
    columns |= _normality(samples, kept, value, typical, moving, np.isin(names, _shaped()))
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _shaped() -> list[str]:
    """Kinds whose limits suppose a normal statistic of single values."""
    return [name for name, chart in CHARTS.items() if chart.data == "values"]


def _counts(samples: Samples, kept: Members, seen: Flags, names: np.ndarray, counted: Flags) -> dict[str, Floats]:
    per_unit = np.isin(names, _PER_UNIT)[kept.chart]
    binomial = np.isin(names, BINOMIAL)
    value, n = samples.value[seen], samples.n[seen]
    size = np.where((names == "c")[kept.chart], 1.0, n)
    count = np.where(per_unit, value * n, value)
    relevant = counted[kept.chart]
    of_counts = kept.kept(relevant)
    count, size = count[relevant], size[relevant]
    dispersion = count_dispersion(count, size, of_counts, binomial=binomial)
    points = np.where(counted, of_counts.sizes(), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = of_counts.total(count) / of_counts.total(size)
        typical = of_counts.total(size) / points
        expected = typical * np.where(binomial, np.minimum(rate, 1.0 - rate), rate)
        zeros = of_counts.total((count == 0).astype(np.float64)) / points
        unit = size * (rate * np.where(binomial, 1.0 - rate, 1.0))[of_counts.chart]
        z = (count - size * rate[of_counts.chart]) / np.sqrt(unit)
    scores = np.full(len(seen), np.nan)
    scores[np.flatnonzero(seen)[relevant]] = np.where(np.isfinite(z), z, np.nan)
    return {
        "overdispersion": dispersion.ratio,
        "overdispersion_p": dispersion.p,
        "expected": expected,
        "zero_share": zeros,
        "rate_count": false_alarms.of_count(typical, np.where(counted, rate, np.nan), binomial, samples.k),
        "z": scores,
    }


def _spread(samples: Samples, kept: Members, value: Floats, n: Floats, seen: Flags) -> dict[str, Floats]:
    several = n > 1
    freedom = kept.total(np.where(several, n - 1.0, 0.0))
    if samples.m2 is None:
        variance = samples.sigma**2
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = kept.total(np.where(several, samples.m2[seen], 0.0)) / freedom
    of_values = np.isin(np.asarray(samples.chart, dtype=object), _shaped())
    ratio = between_within(value, n, kept, np.where(of_values, variance, np.nan), freedom)
    _, centre = kept.centred(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(samples.sigma > 0, samples.sigma, np.nan)[kept.chart] / np.sqrt(n)
    share = hugging_share((value - centre[kept.chart]) / error, kept)
    with np.errstate(invalid="ignore", divide="ignore"):
        # the chart's own sigma sets its limits; the test needs the pooled variance
        against_limits = ratio.ratio * variance / samples.sigma**2
    return {
        "rate_variance": false_alarms.of_variance_ratio(against_limits, samples.k),
        "variance_ratio": ratio.ratio,
        "variance_ratio_p": ratio.p,
        "hugging_share": np.where(of_values, share, np.nan),
    }


def _step(samples: Samples, kept: Members, value: Floats, typical: Floats) -> dict[str, object]:
    charts = kept.charts
    steps = np.full(charts, np.nan)
    single = np.isfinite(typical) & (typical == 1) & np.isin(np.asarray(samples.chart, dtype=object), _shaped())
    alone = single[kept.chart]
    sources = [(value[alone], kept.kept(alone))]
    for readings, index in ((samples.readings, samples.reading_chart), (samples.values, samples.value_chart)):
        if readings is not None and index is not None:
            finite = np.isfinite(readings)
            sources.append((readings[finite], Members(index[finite], charts)))
    for readings, members in sources:
        inferred = common_step(readings, members)
        steps = np.where(np.isfinite(inferred), inferred, steps)
    if samples.resolution is not None:
        steps = np.where(np.isfinite(samples.resolution), samples.resolution, steps)
    sigma = np.where(samples.sigma > 0, samples.sigma, np.nan)
    pair = np.maximum(np.round(np.nan_to_num(typical, nan=2.0)), 2.0)
    upper = (d2(pair) + samples.k * d3(pair)) * sigma
    with np.errstate(invalid="ignore"):
        possible = np.floor(upper / steps * (1.0 + 1e-9)) + 1.0
    size = np.maximum(np.round(np.nan_to_num(typical, nan=1.0)), 1.0).astype(np.int64)
    return {
        "resolution_ratio": steps / sigma,
        "distinct_ranges": pl.Series(np.where(np.isfinite(possible), possible, -1.0)).cast(pl.Int64).replace(-1, None),
        # averaged over where the mean lies, rounding leaves the mean range, so sigma, as it was
        "rate_step": false_alarms.of_step(steps / sigma, size, samples.k),
    }


def _normality(
    samples: Samples, kept: Members, value: Floats, typical: Floats, moving: Flags, shaped: Flags
) -> dict[str, object]:
    charts = kept.charts
    found = shape(value, kept)
    inputs = np.full(charts, "subgroup statistics", dtype=object)
    scale = np.ones(charts)
    if samples.values is not None and samples.value_chart is not None:
        finite = np.isfinite(samples.values)
        single = shape(samples.values[finite], Members(samples.value_chart[finite], charts))
        has = single.n > 0
        found_of = {name: np.where(has, getattr(single, name), getattr(found, name)) for name in _SHAPE}
        scale = np.where(has, np.maximum(np.nan_to_num(typical, nan=1.0), 1.0), 1.0)
        inputs[has] = "values"
    else:
        found_of = {name: getattr(found, name) for name in _SHAPE}
    # an individual is its own value
    inputs[typical == 1] = "values"
    of = {name: np.where(shaped, values, np.nan) for name, values in found_of.items()}
    return {
        "skewness": of["skewness"],
        "kurtosis_excess": of["kurtosis_excess"],
        "anderson_darling": of["anderson_darling"],
        "normality_p": of["p"],
        "rate_shape": false_alarms.of_shape(
            of["skewness"] / np.sqrt(scale), of["kurtosis_excess"] / scale, samples.k, moving=moving
        ),
        "inputs": pl.Series(inputs.tolist(), dtype=pl.String),
    }


_SHAPE = ("skewness", "kurtosis_excess", "anderson_darling", "p")
