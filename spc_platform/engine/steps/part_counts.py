"""Counts of parts by the MES and by counters of machines: whose are in force, and where they disagree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from spc_platform.engine.step import CheckSpec, Input, Outcome, Step
from spc_platform.engine.steps.common import dated, outcome, total
from spc_platform.engine.workspace import Workspace
from spc_platform.production.part_counts import REFUSED, part_counts

AGREE = CheckSpec(
    "counts_agree", "MES and counters produced the same in every shift of a work unit that both count.", blocking=False
)
READINGS = CheckSpec(
    "counter_readings", "No reading of a part counter was refused as impossible, a jump or backward.", blocking=False
)


def _part_count(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    site, back = workspace.site, workspace.site.policies.state_carry_days
    near = workspace.window(production_date, back=1, ahead=1)
    days = workspace.window(production_date, back=back, ahead=1)
    inputs: list[tuple[str, date | None]] = [("production_count", day) for day in near]
    inputs += [("state_interval", day) for day in near[:2]]
    streams = site["part_counters"]["stream_id"]
    columns = ("stream_id", "observed_at", "value")
    if streams.is_empty():
        telemetry = workspace.lake.read_dates("telemetry", []).select(columns)
    else:
        inputs += [("telemetry", day) for day in days]
        telemetry = (
            workspace.lake.scan("telemetry", days)
            .filter(pl.col("stream_id").is_in(streams.implode()))
            .select(columns)
            .collect()
        )
    found = part_counts(
        workspace.lake.read_dates("production_count", near),
        telemetry,
        workspace.lake.read_dates("state_interval", near[:2]),
        site,
        production_date,
        workspace.as_of(production_date),
    )
    differing = found.comparison.filter(~pl.col("agrees"))
    parts_off, shifts = total(differing["difference"].abs()), found.comparison.height
    agree = AGREE.verdict(
        passed=differing.is_empty(), description=f"{differing.height} of {shifts} shifts differ, by {parts_off:.0f} parts"
    )
    refused = found.deltas.filter(pl.col("rule").is_in(list(REFUSED))).height
    readings = READINGS.verdict(passed=refused == 0, description=f"{refused} of {found.deltas.height} readings count nothing")
    parts = total(found.deltas["parts"])
    yield outcome(
        workspace,
        "part_count",
        found.counts,
        production_date,
        inputs,
        figures={"counter_parts": int(parts)},
        checks=(readings,),
    )
    yield outcome(workspace, "part_counter_delta", found.deltas, production_date, inputs)
    yield outcome(workspace, "count_comparison", found.comparison, production_date, inputs, checks=(agree,))


COUNTS = Step(
    "part_count",
    "production",
    ("part_count", "part_counter_delta", "count_comparison"),
    (
        Input("production_count", back=1, ahead=1),
        Input("telemetry", back="state_carry_days", ahead=1, only_with="part_counters"),
        Input("state_interval", back=1),
    ),
    dated(_part_count),
    checks={"part_count": (READINGS,), "count_comparison": (AGREE,)},
)
