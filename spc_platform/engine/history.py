"""Does the event log still hold what it said before? Compares logs with the append-only history of their heads."""

from __future__ import annotations

from datetime import date

import polars as pl

from spc_platform.engine.workspace import Workspace
from spc_platform.errors import ContractError
from spc_platform.lake.event_history import Head
from spc_platform.production.event_log import heads, verify_chain, verify_history

LOG = "operations_event"
PROBLEMS = pl.Schema({"production_date": pl.Date, "place": pl.String, "problem": pl.String})
"""``place``: the sequence in the log, the event_id, or the entry of the history that the problem is about."""


def lost_events(workspace: Workspace, production_date: date, log: pl.DataFrame, *, all_heads: bool = False) -> pl.DataFrame:
    """What the log of a date lost since its earlier commits (``verify_history``); events that moved to another date are kept.

    ``all_heads`` compares with every earlier head, else with the newest one.
    """
    history = workspace.event_history
    covered, entries = history.covered(production_date), history.heads(production_date)
    released = entries.filter(pl.col("reason") != "")["entry"].max()
    if isinstance(released, int):
        entries = entries.filter(pl.col("entry") >= released)
        covered = covered.with_columns(entry=pl.max_horizontal("entry", pl.lit(released)))
    found = verify_history(log, covered, entries if all_heads else entries.tail(1))
    gone = found.filter(pl.col("problem") == "LOST")
    if gone.is_empty():
        return found
    others = [day for day in workspace.lake.dates(LOG) if day != production_date]
    moved = workspace.lake.scan(LOG, others).join(gone.select("event_id").lazy(), on="event_id", how="semi")
    return found.join(moved.select("event_id").collect(), on="event_id", how="anti")


def note_head(workspace: Workspace, production_date: date, log: pl.DataFrame, reason: str = "") -> bool:
    """Append the head of a log that was committed to the history; False when it was noted before."""
    head = Head(production_date, log.height, heads(log).get(production_date, ""))
    return workspace.event_history.append(head, log["event_id"].to_list(), reason)


def verify_event_log(workspace: Workspace, dates: list[date] | None = None, *, expected: str | None = None) -> pl.DataFrame:
    """Every problem of the event log and of its history: PROBLEMS, no rows when all is as it was committed.

    Of the log as ``verify_chain``; LOST and HEAD as ``verify_history``; ENTRY: an entry of the history was altered;
    UNKNOWN_ENTRY: ``expected``, an entry_hash that was noted elsewhere, is not in the history.
    """
    found = [pl.DataFrame(schema=PROBLEMS)]
    history = workspace.event_history
    entries = history.heads()
    noted = set(entries["production_date"].to_list())
    for day in sorted({*workspace.lake.dates(LOG), *noted} if dates is None else dates):
        log = workspace.lake.read(LOG, day)
        chain = verify_chain(log).select("production_date", place=pl.col("sequence").cast(pl.String), problem="problem")
        lost = lost_events(workspace, day, log, all_heads=True).select(
            production_date=pl.lit(day), place=pl.coalesce("event_id", pl.col("entry").cast(pl.String)), problem="problem"
        )
        found += [chain, lost]
    altered = [(None, str(entry), "ENTRY") for entry in history.altered()]
    if expected is not None and expected not in entries["entry_hash"].to_list():
        altered.append((None, expected, "UNKNOWN_ENTRY"))
    found.append(pl.DataFrame(altered, schema=PROBLEMS, orient="row"))
    return pl.concat(found)


def accept_log(workspace: Workspace, production_date: date, reason: str) -> int:
    """Note the log of a date as it is now, releasing events that it lost; gives their number.

    For a change that is known and wanted, such as another mapping of a source's fields. Raises ContractError SPC-652
    without a reason or a loss.
    """
    log = workspace.lake.read(LOG, production_date)
    gone = lost_events(workspace, production_date, log)
    if not reason.strip() or gone.is_empty():
        said = "it lost no event" if reason.strip() else "no reason is given"
        raise ContractError(
            f"the event log of {production_date} is not accepted anew: {said}; accept only a loss that is known and wanted, "
            "and say why",
            code="SPC-652",
        )
    note_head(workspace, production_date, log, reason.strip())
    return gone.height
