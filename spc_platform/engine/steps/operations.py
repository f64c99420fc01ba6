"""What an MES owes a plant: orders, work in process, losses, reliability, flow, energy, genealogy, the event log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime

import polars as pl

from spc_platform.contracts.events import OPERATIONS_EVENT_TYPES
from spc_platform.engine.history import lost_events, note_head
from spc_platform.engine.knowledge import raw_with_receipts
from spc_platform.engine.step import CheckSpec, Input, Outcome, Step
from spc_platform.engine.steps.common import dated, outcome, own, total
from spc_platform.engine.workspace import Workspace
from spc_platform.production.energy import energy_by_state, energy_intervals, energy_per_part
from spc_platform.production.event_log import operations_events, verify_chain
from spc_platform.production.flow import bottlenecks, flow_intervals, neighbours
from spc_platform.production.genealogy import links_in_force, lot_genealogy
from spc_platform.production.losses import changeovers, not_adding_up, oee_losses, scrap_reasons
from spc_platform.production.reliability import reliability
from spc_platform.production.rollup import oee_rollup, reworked_good
from spc_platform.production.wip import work_in_process
from spc_platform.production.work_orders import counting_points, work_order_status

CHAIN = CheckSpec("chain", "Every event of the log holds the hash of the one before it.")
KEPT = CheckSpec("history_kept", "Every event that the log ever held is still in it.", blocking=False)
LOSSES = CheckSpec("losses", "The six big losses and value-adding time add up to planned busy time in every row.")
WIP = CheckSpec("wip_not_negative", "Nothing leaves an operation that did not come to it.")
ACYCLIC = CheckSpec("acyclic", "No way along the links leads from an item back to itself.")
LINKS = CheckSpec("links_refused", "No link was refused: each closes a cycle or breaks the contract.", blocking=False)

Inputs = list[tuple[str, date | None]]


def _all(workspace: Workspace, *tables: str) -> Inputs:
    return [(table, day) for table in tables for day in workspace.lake.dates(table)]


def _of(days: Iterable[date], *tables: str) -> Inputs:
    chosen = list(days)
    return [(table, day) for table in tables for day in chosen]


def _log(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    raw: dict[str, pl.DataFrame] = {}
    received: dict[str, datetime] = {}
    for name in OPERATIONS_EVENT_TYPES:
        rows, pages = raw_with_receipts(workspace, f"raw_{name}", [production_date])
        raw[f"raw_{name}"] = rows.filter(pl.col("production_date") == production_date)
        received |= pages
    frame = operations_events(raw, received)
    broken = verify_chain(frame)
    check = CHAIN.verdict(passed=broken.is_empty(), description=f"{broken.height} places of {frame.height} events are broken")
    lost = lost_events(workspace, production_date, frame)
    kept = KEPT.verdict(passed=lost.is_empty(), description=f"{lost.height} events of earlier logs of the date are gone")
    inputs, figures = _of([production_date], *raw), {"events": frame.height}
    yield outcome(
        workspace, "operations_event", frame, production_date, inputs, figures=figures, checks=(check, kept)
    )  # fmt: skip
    if lost.is_empty():
        note_head(workspace, production_date, frame)


def _orders(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    names = ("work_order_event", "production_count", "downtime_event")
    events, counts, downtime = (workspace.read_all(name) for name in names)
    as_of = workspace.known_until()
    frame = work_order_status(events, counts, downtime, counting_points(workspace.site, as_of), as_of)
    figures = {"orders": frame.height, "late": int(frame["is_late"].sum())}
    yield outcome(workspace, "work_order_status", frame, None, _all(workspace, *names), figures=figures)


def _wip(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    found = work_in_process(workspace.read_all("segment_event"), workspace.site, workspace.known_until())
    negative = found.intervals.filter(pl.col("quantity") <= 0).height
    check = WIP.verdict(
        passed=negative == 0, description=f"{negative} of {found.intervals.height} intervals hold nothing or less"
    )
    inputs = _all(workspace, "segment_event")
    open_ = found.intervals.filter("is_open")
    figures = {"in_process": total(open_["quantity"]), "findings": found.findings.height}
    yield outcome(workspace, "wip_interval", found.intervals, None, inputs, figures=figures, checks=(check,))
    yield outcome(workspace, "wip_finding", found.findings, None, inputs)


def _rollup(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    back = production_date.weekday()
    days = workspace.window(production_date, back=back)
    # What was sent to rework at the end of a date is found good on the next one.
    around = workspace.window(production_date, back=back, ahead=1)
    elements, events = workspace.lake.read_dates("oee_elements", days), workspace.lake.read_dates("segment_event", around)
    frame = oee_rollup(elements, workspace.site, reworked_good(events, workspace.site))
    frame = frame.filter(pl.col("production_date") == production_date)
    inputs = [*_of(days, "oee_elements"), *_of(around, "segment_event")]
    yield outcome(workspace, "oee_rollup", frame, production_date, inputs)


def _losses(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    site, around = workspace.site, workspace.window(production_date, back=1, ahead=1)
    elements, own_states = (workspace.lake.read(table, production_date) for table in ("oee_elements", "state_interval"))
    counting = workspace.window(production_date, ahead=1)
    counts = workspace.lake.read_dates("part_count", counting).filter("in_force")
    near = workspace.lake.read_dates("state_interval", around)
    scrap = scrap_reasons(counts, elements, site, production_date, workspace.as_of(production_date))
    losses = oee_losses(elements, own_states, scrap, site)
    off = not_adding_up(losses, elements).height
    check = LOSSES.verdict(passed=off == 0, description=f"{off} of {losses.height} rows do not add up")
    inputs = [
        *_of([production_date], "oee_elements"), *_of(counting, "part_count"), *_of(around, "state_interval")
    ]  # fmt: skip
    today = pl.col("production_date") == production_date
    yield outcome(workspace, "oee_loss", losses, production_date, inputs, checks=(check,))
    yield outcome(workspace, "scrap_reason", scrap, production_date, inputs)
    yield outcome(workspace, "changeover", changeovers(near).filter(today), production_date, inputs)
    flow = flow_intervals(own_states, neighbours(site.routings_at(workspace.day_bounds(production_date)[0])))
    yield outcome(workspace, "flow_interval", flow, production_date, inputs)
    yield outcome(workspace, "bottleneck", bottlenecks(near).filter(today), production_date, inputs)


def _reliability(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    days = workspace.window(production_date, back=workspace.site.policies.carry_days)
    downtime, intervals = (workspace.lake.read_dates(table, days) for table in ("downtime_event", "state_interval"))
    frame = reliability(downtime, intervals, workspace.site, days[0], days[-1])
    yield outcome(workspace, "reliability", frame, production_date, _of(days, "downtime_event", "state_interval"))


def _energy(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    site, days = workspace.site, workspace.window(production_date, back=1, ahead=1)
    meters = site["energy_meters"]
    read = workspace.lake.scan("telemetry", days).filter(pl.col("stream_id").is_in(meters["stream_id"].implode()))
    telemetry = read.select("stream_id", "observed_at", "value", "unit").collect()
    states = workspace.lake.read_dates("state_interval", days)
    frame = energy_intervals(telemetry, meters, states, site, production_date, workspace.as_of(production_date))
    inputs = _of(days, "telemetry", "state_interval")
    yield outcome(workspace, "energy_interval", frame, production_date, inputs, figures={"kwh": total(frame["energy_kwh"])})
    elements = workspace.lake.read("oee_elements", production_date)
    inputs += _of([production_date], "oee_elements")
    yield outcome(workspace, "energy_by_state", energy_by_state(frame), production_date, inputs)
    yield outcome(workspace, "energy_per_part", energy_per_part(frame, elements), production_date, inputs)


def _genealogy(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    links = lot_genealogy(links_in_force(workspace.read_all("material_link").with_columns(is_deleted=pl.lit(value=False))))
    inputs = _all(workspace, "material_link")
    refused = links.refused.height
    cycles = lot_genealogy(links.edges).refused.height
    checks = (
        ACYCLIC.verdict(passed=cycles == 0, description=f"{cycles} of {links.edges.height} links lie on a cycle"),
        LINKS.verdict(passed=refused == 0, description=f"{refused} links are refused; lot_genealogy_refused names the reasons"),
    )
    figures = {"edges": links.edges.height, "refused": refused}
    yield outcome(workspace, "lot_genealogy", links.edges, None, inputs, figures=figures, checks=checks)
    yield outcome(workspace, "lot_genealogy_refused", links.refused, None, inputs)


_AROUND = (Input("state_interval", back=1, ahead=1),)
_WEEK = 6
"""Dates of the week before its last one."""

STEPS: tuple[Step, ...] = (
    Step(
        "operations_event",
        "production",
        ("operations_event",),
        own(*(f"raw_{name}" for name in OPERATIONS_EVENT_TYPES)),
        dated(_log),
        checks={"operations_event": (CHAIN, KEPT)},
    ),
    Step(
        "work_order_status",
        "production",
        ("work_order_status",),
        own("work_order_event", "production_count", "downtime_event"),
        _orders,
    ),
    Step("wip", "production", ("wip_interval", "wip_finding"), own("segment_event"), _wip, checks={"wip_interval": (WIP,)}),
    Step(
        "oee_rollup",
        "production",
        ("oee_rollup",),
        (Input("oee_elements", back=_WEEK), Input("segment_event", back=_WEEK, ahead=1)),
        dated(_rollup),
    ),
    Step(
        "oee_loss",
        "production",
        ("oee_loss", "scrap_reason", "changeover", "flow_interval", "bottleneck"),
        (Input("oee_elements"), Input("part_count", ahead=1), *_AROUND),
        dated(_losses),
        checks={"oee_loss": (LOSSES,)},
    ),
    Step(
        "reliability",
        "production",
        ("reliability",),
        (Input("downtime_event", back="carry_days"), Input("state_interval", back="carry_days")),
        dated(_reliability),
    ),
    Step(
        "energy",
        "production",
        ("energy_interval", "energy_by_state", "energy_per_part"),
        (Input("telemetry", back=1, ahead=1), *_AROUND, Input("oee_elements")),
        dated(_energy),
        version="2",
    ),
    Step(
        "lot_genealogy",
        "production",
        ("lot_genealogy", "lot_genealogy_refused"),
        own("material_link"),
        _genealogy,
        checks={"lot_genealogy": (ACYCLIC, LINKS)},
    ),
)
