"""Which rows of a file form a subgroup, which subgroups a baseline holds, and which of them are neighbours."""

from __future__ import annotations

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS
from spc_platform.errors import ContractError
from spc_platform.spc.charting import starts
from spc_platform.spc.study_plan import Plan


def sample_numbers(frame: pl.DataFrame, plan: Plan) -> pl.Series:
    """Number of the subgroup of each row: by its label within the stage in order of appearance, or every ``size`` rows."""
    if CHARTS[plan.chart].sizes[1] == 1 or (plan.size is None and frame["subgroup"].null_count() == frame.height):
        return pl.Series(np.arange(1, frame.height + 1))
    if plan.size is not None:
        within = pl.int_range(pl.len()).over("stage_number")
        changed = frame.select(first=(within % plan.size) == 0)["first"]
        return changed.cum_sum().cast(pl.Int64)
    lacking = frame.filter(pl.col("subgroup").is_null())
    if lacking.height:
        text = f"row {lacking['row'][0]}: the subgroup is empty; name it, or give --size for subgroups of consecutive rows"
        raise ContractError(text, code="SPC-392")
    label = frame.select(pl.struct("stage_number", "subgroup").rank("dense")).to_series().to_numpy()
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    return pl.Series(np.argsort(np.argsort(first))[place] + 1)


def checked_baseline(plan: Plan, samples: pl.DataFrame) -> tuple[int, int]:
    """First and last subgroup of each stage's baseline; ``ContractError`` SPC-390 where the longest stage has not so many."""
    if plan.baseline is None:
        return 1, samples.height
    first, last = plan.baseline
    sizes = samples.group_by("stage_number").agg(pl.len())["len"].to_numpy()
    if last > np.max(sizes):
        of = "of the file" if len(sizes) == 1 else "of the longest stage; a baseline counts within each stage"
        raise ContractError(
            f"baseline {first}:{last} reaches beyond the {np.max(sizes)} subgroups {of}; shorten it", code="SPC-390"
        )
    return first, last


def observed_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """Samples with a value; where one without lies between two of them, a segment ends: they are no neighbours."""
    found = samples.with_columns(_gap=(pl.col("n_observed") == 0).cum_sum()).filter(pl.col("n_observed") > 0)
    return found.with_columns(segment=pl.Series(starts(found, ["segment", "_gap"])).cum_sum().cast(pl.Int64)).drop("_gap")
