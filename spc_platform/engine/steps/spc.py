"""Subgroups, limit estimates and versions, judged points, capability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine.step import CheckSpec, Input, Outcome, Step
from spc_platform.engine.steps.common import dated, outcome, own, share, total
from spc_platform.engine.workspace import Workspace
from spc_platform.production.energy import energy_values
from spc_platform.site import Site
from spc_platform.spc.capability import capability
from spc_platform.spc.counts import form_count_subgroups, samples
from spc_platform.spc.limits import approve_baselines, limit_estimates
from spc_platform.spc.points import judge
from spc_platform.spc.subgroups import form_subgroups, ungrouped

GROUPED = CheckSpec("grouped", "Every measurement has a chart and, where its subgroups need one, a key.", blocking=False)
APPEND_ONLY = CheckSpec("append_only", "No earlier limit version was altered or dropped.")
LIMIT_ORDER = CheckSpec("limit_order", "lcl <= cl <= ucl for every judged point.")
COMMON_CAPABILITY_GOAL = 1.33
SAMPLES = ("spc_subgroups", "spc_count_subgroups")
"""What charts are made of: subgroups of measured values and of counts."""


def with_energy(measurement: pl.DataFrame, energy_per_part: pl.DataFrame, site: Site) -> pl.DataFrame:
    """MEASUREMENT with the kWh per good part of each shift as values of the characteristics that count energy.

    Charts, rules and fitness treat them as any measured value; they have no specification and no record of their own.
    """
    charted = site["characteristics"].filter(pl.col("counted") == "energy")
    if charted.is_empty() or energy_per_part.is_empty():
        return measurement
    wanted = charted.select("characteristic_id", "equipment_id", material_definition_id=pl.lit(None, dtype=pl.String))
    shift = energy_per_part.select("equipment_id", "shift_id", "production_date", measured_at="end_at").unique()
    values = energy_values(energy_per_part, wanted).join(shift, on=["equipment_id", "measured_at"], how="left")
    return pl.concat([measurement, values.with_columns(source_id=pl.lit("energy"))], how="diagonal_relaxed")


def _all_dates(workspace: Workspace, *tables: str) -> list[tuple[str, date | None]]:
    return [(table, day) for table in tables for day in workspace.lake.dates(table)]


def _subgroups(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    inputs = [(name, production_date) for name in ("measurement", "measurement_flags", "energy_per_part")]
    measurement, flags, energy = (workspace.lake.read(table, day) for table, day in inputs)
    measurement = with_energy(measurement, energy, workspace.site)
    frame = form_subgroups(measurement, flags, workspace.site)
    left_out = int(total(ungrouped(measurement, workspace.site)["n"]))
    check = GROUPED.verdict(passed=left_out == 0, description=f"{left_out} of {measurement.height} values form no subgroup")
    figures = {"values_without_subgroup": left_out}
    yield outcome(workspace, "spc_subgroups", frame, production_date, inputs, figures=figures, checks=(check,))


def _count_subgroups(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    frame = form_count_subgroups(workspace.lake.read("part_count", production_date).filter("in_force"), workspace.site)
    inputs = [("part_count", production_date)]
    figures = {"counted": total(frame["count"]), "inspected": total(frame["size"])}
    yield outcome(workspace, "spc_count_subgroups", frame, production_date, inputs, figures=figures)


def read_samples(workspace: Workspace, dates: Iterable[date] | None = None) -> pl.DataFrame:
    """Measured and counted subgroups of the dates, or all of them."""
    days = None if dates is None else list(dates)
    measured, counted = (
        workspace.read_all(table) if days is None else workspace.lake.read_dates(table, days) for table in SAMPLES
    )
    return samples(measured, counted, workspace.site)


def _estimates(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    frame = limit_estimates(read_samples(workspace), workspace.site)
    inputs = _all_dates(workspace, *SAMPLES)
    yield outcome(workspace, "spc_limit_estimates", frame, None, inputs, figures={"charts": frame.height})


def _limits(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    with workspace.limits_locked():
        yield _approved(workspace)


def _approved(workspace: Workspace) -> Outcome:
    before = workspace.lake.read_kept("spc_limits")
    frame = approve_baselines(before, read_samples(workspace), workspace.site)
    frozen = [name for name in LAKE_TABLES["spc_limits"].names if name != "effective_to"]
    altered = before.select(frozen).join(frame.select(frozen), on=frozen, how="anti", nulls_equal=True).height
    check = APPEND_ONLY.verdict(passed=altered == 0, description=f"{altered} of {before.height} versions altered or dropped")
    charts = frame.select("characteristic_id", "equipment_id").n_unique()
    figures = {"charts": charts, "versions": frame.height}
    inputs = _all_dates(workspace, *SAMPLES)
    return outcome(workspace, "spc_limits", frame, None, inputs, figures=figures, checks=(check,))


def _points(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    back = workspace.site.policies.carry_days
    days = workspace.window(production_date, back=back)
    judged = read_samples(workspace, days)
    points, violations = judge(judged, workspace.lake.read("spc_limits"), workspace.site, production_date)
    inputs: list[tuple[str, date | None]] = [(table, day) for table in SAMPLES for day in days]
    inputs.append(("spc_limits", None))
    disordered = points.filter((pl.col("lcl") > pl.col("cl")) | (pl.col("cl") > pl.col("ucl"))).height
    check = LIMIT_ORDER.verdict(passed=disordered == 0, description=f"{disordered} points whose limits are out of order")
    signals = int(points["rules"].is_not_null().sum())
    figures = {"points_with_signal": signals, "signal_share": share(signals, points.height)}
    yield outcome(workspace, "spc_points", points, production_date, inputs, figures=figures, checks=(check,))
    yield outcome(workspace, "spc_violations", violations, production_date, inputs)


def _capability(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    subgroups, violations = (workspace.read_all(table) for table in ("spc_subgroups", "spc_violations"))
    values = workspace.lake.scan("measurement").select(
        "characteristic_id", "equipment_id", "specification_version", "subgroup_key", "value"
    )
    frame = capability(subgroups, violations, workspace.lake.read("spc_limits"), workspace.site, values)
    figures: dict[str, float | int] = {
        "below_1_33": frame.filter(pl.col("cpk") < COMMON_CAPABILITY_GOAL).height,
        "unstable": frame.filter(pl.col("stability") == "unstable").height,
    }
    lowest = frame["cpk"].min()
    if isinstance(lowest, float):
        figures["lowest_cpk"] = lowest
    inputs = [*_all_dates(workspace, "spc_subgroups", "spc_violations", "measurement"), ("spc_limits", None)]
    yield outcome(workspace, "spc_capability", frame, None, inputs, figures=figures)


STEPS: tuple[Step, ...] = (
    Step(
        "spc_subgroups",
        "spc",
        ("spc_subgroups",),
        own("measurement", "measurement_flags", "energy_per_part"),
        dated(_subgroups),
        checks={"spc_subgroups": (GROUPED,)},
    ),
    Step("spc_count_subgroups", "spc", ("spc_count_subgroups",), own("part_count"), dated(_count_subgroups)),
    Step("spc_limit_estimates", "spc", ("spc_limit_estimates",), own(*SAMPLES), _estimates),
    Step(
        "spc_limits",
        "spc",
        ("spc_limits",),
        own(*SAMPLES, "spc_limit_estimates"),
        _limits,
        checks={"spc_limits": (APPEND_ONLY,)},
    ),
    Step(
        "spc_points",
        "spc",
        ("spc_points", "spc_violations"),
        (*(Input(table, back="carry_days") for table in SAMPLES), Input("spc_limits")),
        dated(_points),
        checks={"spc_points": (LIMIT_ORDER,)},
    ),
    Step(
        "spc_capability",
        "spc",
        ("spc_capability",),
        own("spc_subgroups", "spc_violations", "spc_limits", "measurement"),
        _capability,
    ),
)
