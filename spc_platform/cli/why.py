"""`spc why`: what changed a figure since it was first known; `spc wip`: what is where. Both read the lake and write nothing."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spc_platform.errors import ContractError

if TYPE_CHECKING:
    from spc_platform.engine import Workspace
    from spc_platform.production.explanation import Explanation

SCHEMA_VERSION = "1.0"
FORMATS = ("table", "json")
CLOCKS = ("source", "receipt")

_Format = Annotated[str, typer.Option("--format", help="table or json.")]


def why(
    day: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="Production date.")],
    equipment: Annotated[str, typer.Option(help="Work unit.")],
    shift: Annotated[str | None, typer.Option(help="Shift (all of the date).")] = None,
    known_at: Annotated[
        str | None, typer.Option("--known-at", help="Earlier time, ISO 8601; without a zone in the site's (end of the date).")
    ] = None,
    later: Annotated[str | None, typer.Option("--and", help="Later time (now: the newest record).")] = None,
    clock: Annotated[
        str, typer.Option(help="source: when the source wrote a record; receipt: when its page was received.")
    ] = "source",
    form: _Format = "table",
) -> None:
    """OEE of a work unit as known at two times, and the late or corrected events that made the difference."""
    from spc_platform.engine import Workspace
    from spc_platform.settings import Settings

    one_of("--format", form, FORMATS)
    one_of("--clock", clock, CLOCKS)
    plant = Workspace.open(Settings())
    found = explained(plant, day.date(), equipment, shift, known_at, later, clock)
    document = why_document(found, clock)
    typer.echo(json.dumps(document, indent=2) if form == "json" else _why_text(document))


def wip(
    at: Annotated[
        str | None, typer.Option("--at", help="Instant, ISO 8601; without a zone in the site's (newest record).")
    ] = None,
    equipment: Annotated[str | None, typer.Option(help="Line.")] = None,
    form: _Format = "table",
) -> None:
    """Lots and parts at each operation and in its queue at one instant, with their ages."""
    from spc_platform.engine import Workspace
    from spc_platform.settings import Settings

    one_of("--format", form, FORMATS)
    plant = Workspace.open(Settings())
    document = wip_document(plant, instant(plant, "--at", at) or _newest(plant), equipment)
    typer.echo(json.dumps(document, indent=2) if form == "json" else _wip_text(document))


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    for verb in (why, wip):
        app.command()(verb)


def explained(
    plant: Workspace, day: date, equipment: str, shift: str | None, known_at: str | None, later: str | None, clock: str
) -> Explanation:
    """The explanation of a figure from the lake's raw tables. Raises SPC-632 to SPC-635, SPC-660."""
    import polars as pl

    from spc_platform.engine.knowledge import as_of_known_at, raw_with_receipts
    from spc_platform.production.explanation import TABLES, Cell, explain

    by_counter = plant.site["part_counters"].filter((pl.col("equipment_id") == equipment) & (pl.col("in_force") != "mes"))
    if by_counter.height:
        raise ContractError(
            f"parts of {equipment} are counted by {', '.join(by_counter['stream_id'])}, which no record of the MES explains; "
            f"`spc known --table part_counter_delta --date {day} --at {known_at or 'TIME'} --diff` shows which counts between "
            "readings changed since and the late readings; --table oee_elements the figures and the events of its time",
            code="SPC-660",
        )
    after = instant(plant, "--and", later) or _newest(plant)
    before = instant(plant, "--known-at", known_at) or min(plant.day_bounds(day)[1], after)
    if not plant.lake.has("raw_equipment_state", day):
        raise ContractError(
            f"production date {day} was never made in {plant.lake.root}: there is no figure to explain; run it first "
            "(`spc run`) or name another date",
            code="SPC-635",
        )
    back = plant.site.policies.state_carry_days
    raw: dict[str, Any] = {}
    received: dict[str, datetime] = {}
    for table in TABLES:
        dates = plant.window(day, back=0 if table == "production_count" else back, ahead=1)
        raw[f"raw_{table}"], pages = raw_with_receipts(plant, f"raw_{table}", dates, by=clock)
        received |= pages
    known = [(at, as_of_known_at(plant, day, at, clock)) for at in (before, after)]
    return explain(raw, received, plant.site, Cell(equipment, day, shift), known[0], known[1], by=clock)


def why_document(found: Explanation, clock: str) -> dict[str, Any]:
    """The explanation as plain data: instants as ISO 8601 UTC, undefined ratios null, figures in the order of ``FIGURES``."""
    from spc_platform.production.explanation import FIGURES

    figures = {row["figure"]: row for row in found.figures.iter_rows(named=True)}
    return {
        "schema_version": SCHEMA_VERSION,
        "production_date": found.cell.production_date.isoformat(),
        "equipment_id": found.cell.equipment_id,
        "shift_id": found.cell.shift_id,
        "clock": clock,
        "before": {"known_at": iso(found.before.at), "as_of": iso(found.before.as_of)},
        "after": {"known_at": iso(found.after.at), "as_of": iso(found.after.as_of)},
        "figures": [figures[name] for name in FIGURES],
        "contributions": [
            {name: iso(value) if isinstance(value, datetime) else value for name, value in row.items()}
            for row in found.contributions.iter_rows(named=True)
        ],
    }


def wip_document(plant: Workspace, at: datetime, line: str | None) -> dict[str, Any]:
    """Work in process at an instant as plain data: ages per operation and place, items, and what had to be assumed."""
    import polars as pl

    from spc_platform.contracts.table import UTC
    from spc_platform.production.wip import wip_ages, wip_at, work_in_process

    until = _production_date(plant, at) + timedelta(days=1)
    days = [day for day in plant.lake.dates("segment_event") if day <= until]
    events = plant.lake.read_dates("segment_event", days)
    here = wip_at(events, plant.site, at)
    findings = work_in_process(events, plant.site, at).findings
    if line is not None:
        here = here.filter(pl.col("work_center_id") == line)
    ages = wip_ages(here, at).drop("as_of")
    items = here.select(
        "item_id", "segment_id", "work_center_id", "place", "quantity", "job_order_id", "is_rework", "entered_at", "age_s"
    )
    found = findings.filter(pl.col("occurred_at") <= pl.lit(at).cast(UTC)).group_by("finding").len().sort("finding")
    return {
        "schema_version": SCHEMA_VERSION,
        "at": iso(at),
        "work_center_id": line,
        "ages": ages.to_dicts(),
        "items": [row | {"entered_at": iso(row["entered_at"])} for row in items.iter_rows(named=True)],
        "findings": dict(found.iter_rows()),
    }


def _production_date(plant: Workspace, at: datetime) -> date:
    import polars as pl

    from spc_platform.contracts.table import UTC

    found: date = pl.select(plant.site.production_date(pl.lit(at).cast(UTC))).item()
    return found


def _newest(plant: Workspace) -> datetime:
    newest = plant.ledger.newest()
    if newest is None:
        raise ContractError(
            f"nothing has landed in {plant.settings.data}: there is no newest record; land the sources first (`spc land`)",
            code="SPC-635",
        )
    return newest


def instant(plant: Workspace, option: str, text: str | None) -> datetime | None:
    """The instant that an option names, None without one; without an offset in the site's zone. Raises SPC-634."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ContractError(
            f"{option} {text!r} is no instant: write it as ISO 8601, e.g. 2026-03-17T06:00+01:00", code="SPC-634"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=plant.site.zone_info)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is none of the allowed ones: SPC-634."""
    if value not in allowed:
        raise ContractError(f"{option} {value!r}: choose {' or '.join(allowed)}", code="SPC-634")


def iso(at: datetime) -> str:
    """An instant as ISO 8601 UTC with microseconds."""
    from datetime import UTC

    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}" if abs(value) < 1 else f"{value:,.10g}".replace(",", "")


def _why_text(document: dict[str, Any]) -> str:
    from spc_platform.cli.study_table import sections_text
    from spc_platform.report.sections import Section

    facts = [
        ("production date", document["production_date"]),
        ("work unit", document["equipment_id"]),
        ("shift", document["shift_id"] or "all"),
        *((f"{side}, known at", document[side]["known_at"]) for side in ("before", "after")),
        *((f"{side}, as of", document[side]["as_of"]) for side in ("before", "after")),
    ]
    figures = [
        (row["figure"], *(_number(row[name]) for name in ("before", "after", "difference"))) for row in document["figures"]
    ]
    events = [
        (
            row["recorded_at"] or "",
            row["event_type"] or row["cause"],
            f"{row['record_id']} r{row['revision']}" if row["record_id"] else "",
            "" if row["event_type"] is None or row["cause"] == "event" else row["cause"],
            ", ".join(f"{name} {row[name]:+g}" for name in row if (name.endswith("_s") or name in _PARTS) and row[name]),
        )
        for row in document["contributions"]
    ]
    return sections_text(
        [
            Section("Why the figure changed", facts),
            Section("Figures", figures, ("figure", "before", "after", "difference")),
            Section("What was recorded in between", events, ("recorded at", "what", "record", "remark", "contribution")),
        ]
    )


_PARTS = ("pq", "gq", "sq", "rq")


def _wip_text(document: dict[str, Any]) -> str:
    from spc_platform.cli.study_table import sections_text
    from spc_platform.report.sections import Section

    rows = [
        (
            row["work_center_id"] or "-",
            row["segment_id"],
            row["place"],
            f"{row['age_from_s'] / 3600:g} h and more"
            if row["age_to_s"] is None
            else f"{row['age_from_s'] / 3600:g} to {row['age_to_s'] / 3600:g} h",
            str(row["n_items"]),
            f"{row['quantity']:g}",
            f"{row['oldest_s'] / 3600:.2f} h",
        )
        for row in document["ages"]
    ]
    assumed = [(name, str(number)) for name, number in document["findings"].items()]
    sections = [
        Section(f"Work in process at {document['at']}", rows, ("line", "operation", "place", "age", "items", "parts", "oldest"))
    ]
    if assumed:
        sections.append(Section("Events that had to be resolved until then", assumed))
    return sections_text(sections)
