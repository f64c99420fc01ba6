"""Limits, rules and capability of many charts from one sorted Parquet file, by the kernels that assets and studies use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS
from spc_platform.spc.charting import chart_parameters, starts
from spc_platform.spc.indices import with_indices
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.rules import RULE_SETS, Signals, evaluate
from spc_platform.spc.sequence import Spans
from spc_platform.spc.shewhart import shewhart_panel
from spc_platform.spc.sigma import ESTIMATORS
from spc_platform.spc.subgroups import consecutive, subgroup_statistics
from spc_platform_tests.bench.folders import scratch

ROWS = 10_000_000
PART = 1 << 19
SIZE = 5
NEEDED = ["chart_index", "value"]
LSL, TARGET, USL = 6.0, 10.0, 14.0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Limits:
    """What a chart of means and ranges shows; ``samples`` has one row per subgroup, ``parameters`` one per chart."""

    samples: pl.DataFrame
    parameters: pl.DataFrame
    means: PanelPoints
    ranges: PanelPoints


@cache
def file_of(charts: int) -> Path:
    """10 million normal values of that many charts, sorted by chart; row groups of 128,000, zstd."""
    path = scratch(f"charts-{charts}.parquet")
    value = np.random.default_rng(4).normal(10.0, 1.0, ROWS)
    chart = np.repeat(np.arange(charts, dtype=np.uint32), ROWS // charts)
    frame = pl.DataFrame({"chart_index": chart, "value": value})
    frame.write_parquet(path, row_group_size=128_000, compression="zstd", compression_level=1)
    return path


def whole_charts(path: Path) -> Iterator[pl.DataFrame]:
    """The file in parts of about half a million rows, none of which ends within a chart."""
    rest = pl.DataFrame()
    for batch in pl.scan_parquet(path).select(NEEDED).collect_batches(chunk_size=PART, maintain_order=True):
        rows = pl.concat([rest, batch]) if rest.height else batch
        of_last = rows["chart_index"].search_sorted(rows["chart_index"][-1])
        rest = rows.slice(of_last)
        if of_last:
            yield rows.head(of_last)
    yield rest


def limits(path: Path) -> Iterator[Limits]:
    """From the file to centre, sigma and limits of every subgroup on both panels, part by part."""
    return map(limits_of, whole_charts(path))


def limits_of(frame: pl.DataFrame) -> Limits:
    """Limits of the charts of one part."""
    chart = frame["chart_index"].to_numpy()
    charts = Spans.from_first(np.append(True, chart[1:] != chart[:-1]))
    subgroups = consecutive(charts, SIZE)
    found = subgroup_statistics(frame["value"].to_numpy(), None, subgroups, ("mean", "m2", "range"))
    index = pl.Series(chart[subgroups.starts])
    samples = pl.DataFrame(found | {"chart_index": index, "segment": index}).with_columns(
        chart=pl.lit("xbar_r", pl.Enum(list(CHARTS))), estimator=pl.lit("rbar", pl.Enum(list(ESTIMATORS)))
    )
    parameters = chart_parameters(samples, ["chart_index"])
    of_chart = parameters["n_subgroups"].to_numpy()
    mu, sigma = (np.repeat(parameters[name].to_numpy(), of_chart) for name in ("mu", "sigma"))
    n = subgroups.sizes
    means = shewhart_panel("xbar", samples["mean"].to_numpy(), n, mu, sigma, 3.0)
    return Limits(samples, parameters, means, shewhart_panel("r", samples["range"].to_numpy(), n, mu, sigma, 3.0))


def rules(made: list[Limits]) -> list[Signals]:
    """All eight Nelson rules on the means of every chart."""
    return [evaluate(part.means.z, starts(part.samples, ["chart_index"]), RULE_SETS["nelson"]) for part in made]


def capability(made: list[Limits]) -> pl.DataFrame:
    """All indices of every chart with their intervals, from the statistics of its subgroups."""
    parameters = pl.concat([chart_parameters(part.samples, ["chart_index"]) for part in made])
    study = parameters.with_columns(lsl=pl.lit(LSL), target=pl.lit(TARGET), usl=pl.lit(USL))
    return with_indices(study, CONFIDENCE)
