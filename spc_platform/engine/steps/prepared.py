"""Streams on the grid, masks beside values, measurements with the process values of their station."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from spc_platform.engine.step import Outcome, Step
from spc_platform.engine.steps.common import LANDED, dated, outcome, own, share
from spc_platform.engine.workspace import Workspace
from spc_platform.lake.clock_log import ClockLog
from spc_platform.prepare.align import align_streams
from spc_platform.prepare.clock import clock_offsets
from spc_platform.prepare.join import measurement_process
from spc_platform.prepare.mask import measurement_flags


def _clocks(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    frame = clock_offsets(ClockLog(workspace.ledger.path.parent).exchanges())
    yield outcome(workspace, "clock_offset", frame, None, [], figures={"clocks": frame["clock_id"].n_unique()})


def _aligned(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    inputs = [("telemetry", production_date), ("state_interval", production_date), ("clock_offset", None)]
    telemetry, states, clocks = (workspace.lake.read(table, day) for table, day in inputs)
    first, end = workspace.day_bounds(production_date)
    last = max(first, min(end, workspace.as_of(production_date)))
    frame = align_streams(telemetry, workspace.site, states, first, last, clocks)
    observed = int((frame["fill_flag"] == "observed").sum())
    figures = {"observed_share": share(observed, frame.height)}
    yield outcome(workspace, "telemetry_aligned", frame, production_date, inputs, figures=figures)


def _flags(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    inputs = [("measurement", production_date)]
    frame = measurement_flags(workspace.lake.read("measurement", production_date), workspace.site)
    masked = int(frame["is_masked"].sum())
    figures = {"masked": masked, "masked_share": share(masked, frame.height)}
    yield outcome(workspace, "measurement_flags", frame, production_date, inputs, figures=figures)


def _process(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    inputs = [("measurement", production_date), ("telemetry_aligned", production_date), ("clock_offset", None)]
    measurement, aligned, clocks = (workspace.lake.read(table, day) for table, day in inputs)
    # a cumulative meter says nothing about the moment of a measurement
    meters = workspace.site["energy_meters"]["stream_id"]
    momentary = aligned.filter(~pl.col("stream_id").is_in(meters.implode()))
    frame = measurement_process(measurement, momentary, workspace.site, clocks)
    yield outcome(workspace, "measurement_process", frame, production_date, inputs)
    _note_applied(workspace, production_date)


def _note_applied(workspace: Workspace, production_date: date) -> None:
    """The last step of a refresh: only now is the date's change-set applied, so a run that died before is asked for again."""
    manifest = workspace.lake.manifest("raw_measurement", production_date)
    if manifest is not None and LANDED in manifest.inputs:
        workspace.ledger.mark_applied(production_date, manifest.inputs[LANDED])


CLOCKS = Step("clock_offset", "prepared", ("clock_offset",), (), _clocks)

STEPS: tuple[Step, ...] = (
    Step(
        "telemetry_aligned",
        "prepared",
        ("telemetry_aligned",),
        own("telemetry", "state_interval", "clock_offset"),
        dated(_aligned),
    ),
    Step("measurement_flags", "prepared", ("measurement_flags",), own("measurement"), dated(_flags)),
    Step(
        "measurement_process",
        "prepared",
        ("measurement_process",),
        own("measurement", "telemetry_aligned", "clock_offset"),
        dated(_process),
    ),
)
