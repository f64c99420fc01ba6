"""`spc limits`: trial limits of phase I, approval, a new version tried as a shadow, drift from the frozen limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spc_platform.errors import ContractError

if TYPE_CHECKING:
    import polars as pl

    from spc_platform.engine import Workspace

limits_app = typer.Typer(no_args_is_help=True, help="Control limits: trial limits, approval, shadow, drift.")

_Exclusions = Annotated[list[str] | None, typer.Option("--exclude", help="SUBGROUP_ID=CAUSE; may be repeated.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_Date = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
SHOWN = 40
"""Rows of a table on the console; --json has all of them."""


def _workspace() -> Workspace:
    from spc_platform.engine import Workspace
    from spc_platform.settings import Settings

    return Workspace.open(Settings())


def _causes(exclude: Sequence[str] | None) -> dict[str, str]:
    causes = dict(item.rpartition("=")[::2] for item in exclude or [])
    if "" in causes:
        raise typer.BadParameter("--exclude takes SUBGROUP_ID=CAUSE: a subgroup is left out only with its cause")
    return causes


def _samples(workspace: Workspace) -> pl.DataFrame:
    from spc_platform.engine.steps.spc import read_samples

    return read_samples(workspace)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _print_json(**frames: pl.DataFrame) -> None:
    rows = {
        name: [{key: _plain(cell) for key, cell in row.items()} for row in frame.to_dicts()] for name, frame in frames.items()
    }
    typer.echo(json.dumps(rows, indent=1))


def _print_table(frame: pl.DataFrame, columns: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in frame.select(columns).head(SHOWN).iter_rows():
        table.add_row(
            *(f"{cell:.6g}" if isinstance(cell, float) else "" if cell is None else str(_plain(cell)) for cell in row)
        )
    console = Console(highlight=False)
    console.print(table)
    if frame.height > SHOWN:
        console.print(f"… and {frame.height - SHOWN} more; --json lists all")


@limits_app.command()
def trial(
    characteristic: str,
    equipment: str,
    baseline_from: datetime,
    baseline_to: datetime,
    exclude: _Exclusions = None,
    as_json: _Json = False,
) -> None:
    """Trial limits of phase I (times in UTC): which subgroups signal, and what changes when those with a cause are left out."""
    from spc_platform.spc.phases import trial_limits

    workspace = _workspace()
    found = trial_limits(
        _samples(workspace),
        workspace.site,
        characteristic_id=characteristic,
        equipment_id=equipment,
        baseline_from=_utc(baseline_from),
        baseline_to=_utc(baseline_to),
        excluded=_causes(exclude),
    )
    if as_json:
        _print_json(limits=found.limits, rounds=found.rounds, signals=found.signals, explained=found.explained)
        return
    _print_table(found.rounds, found.rounds.columns, f"Trial limits of {characteristic} on {equipment}")
    if found.is_settled:
        typer.echo("no signal is left without a cause: the baseline can be approved (`spc limits approve`)")
    else:
        _print_table(found.signals, ["subgroup_id", "panel", "rule_text", "z"], "To look at: signals without an assigned cause")


@limits_app.command()
def approve(
    characteristic: str,
    equipment: str,
    baseline_from: datetime,
    baseline_to: datetime,
    approved_by: Annotated[str, typer.Option(help="Who answers for the version.")],
    reason: Annotated[str, typer.Option(help="Why it is made.")],
    exclude: _Exclusions = None,
) -> None:
    """Freeze new limits from a baseline (times in UTC); they judge from the end of the baseline on."""
    from spc_platform.spc.limits import approve as approve_limits

    causes = _causes(exclude)
    workspace = _workspace()
    with workspace.limits_locked():
        frame = approve_limits(
            workspace.lake.read_kept("spc_limits"),
            _samples(workspace),
            workspace.site,
            characteristic_id=characteristic,
            equipment_id=equipment,
            baseline_from=_utc(baseline_from),
            baseline_to=_utc(baseline_to),
            approved_by=approved_by,
            reason=reason,
            effective_from=_utc(baseline_to),
            excluded=causes,
        )
        workspace.lake.commit("spc_limits", frame)
    typer.echo(f"{characteristic} on {equipment}: new version; rematerialize spc_points to judge by it")


@limits_app.command("approve-vectors")
def approve_vectors(
    chart: str,
    baseline_from: datetime,
    baseline_to: datetime,
    approved_by: Annotated[str, typer.Option(help="Who answers for the version.")],
    reason: Annotated[str, typer.Option(help="Why it is made.")],
) -> None:
    """Freeze a new mean and covariance of a multivariate chart (times in UTC); they judge from the end of the baseline on."""
    from spc_platform.spc.vectors import approve_vectors as approve_version

    workspace = _workspace()
    with workspace.limits_locked():
        frame = approve_version(
            workspace.lake.read_kept("spc_vector_limits"),
            workspace.read_all("spc_vectors"),
            workspace.site,
            chart_id=chart,
            baseline_from=_utc(baseline_from),
            baseline_to=_utc(baseline_to),
            approved_by=approved_by,
            reason=reason,
        )
        workspace.lake.commit("spc_vector_limits", frame)
    typer.echo(f"{chart}: new version; rematerialize spc_vector_points to judge by it")


@limits_app.command()
def shadow(
    characteristic: str,
    equipment: str,
    mu: Annotated[float | None, typer.Option(help="Centre of the version to try; default: the running estimate's.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Sigma of the version to try; default: the running estimate's.")] = None,
    first: _Date = None,
    last: _Date = None,
    as_json: _Json = False,
) -> None:
    """Judge past data by a version that is not in force, and list what would have signalled differently. Writes nothing."""
    import polars as pl

    from spc_platform.spc.phases import running_candidates
    from spc_platform.spc.phases import shadow as shadow_signals

    workspace = _workspace()
    limits, chart = (
        workspace.lake.read("spc_limits"),
        pl.DataFrame({"characteristic_id": [characteristic], "equipment_id": [equipment]}),
    )
    candidate = running_candidates(limits, workspace.lake.read("spc_limit_estimates"), chart)
    if candidate.is_empty():
        raise ContractError(
            f"{characteristic} on {equipment} has no limit version or no running estimate to try; check the names, or run the "
            "steps up to spc_limits first",
            code="SPC-342",
        )
    given = {name: pl.lit(value) for name, value in (("mu", mu), ("sigma", sigma)) if value is not None}
    found = shadow_signals(
        _samples(workspace),
        limits,
        candidate.with_columns(**given),
        workspace.site,
        first.date() if first else None,
        last.date() if last else None,
    )
    if as_json:
        _print_json(candidate=candidate.with_columns(**given), signals=found)
        return
    counts = found.group_by("verdict").len().sort("verdict")
    _print_table(counts, ["verdict", "len"], f"Signals of {characteristic} on {equipment} under mu, sigma tried as a shadow")
    differing = found.filter(pl.col("verdict") != "both")
    _print_table(differing, ["subgroup_id", "panel", "rule", "verdict", "z_in_force", "z_shadow"], "Signals that differ")


@limits_app.command()
def drift(as_json: _Json = False) -> None:
    """How far the running estimates lie from the frozen limits, chart by chart, as last made by the step spc_limit_drift."""
    found = _workspace().lake.read("spc_limit_drift")
    if as_json:
        _print_json(drift=found)
        return
    columns = ["characteristic_id", "equipment_id", "limit_version", "verdict", "shift", "ratio", "explanation"]
    _print_table(found, columns, "Drift from the frozen limits")
