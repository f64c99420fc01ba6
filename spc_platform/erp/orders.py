"""From the lake to the ERP: summaries of the plant's work orders, entered into the outbox and delivered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from spc_platform.contracts import core
from spc_platform.contracts.energy import ENERGY_INTERVAL
from spc_platform.contracts.order_summary import ERP_OUTBOX
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.contracts.table import UTC as UTC_TIME
from spc_platform.contracts.table import Table
from spc_platform.engine import Workspace
from spc_platform.erp.config import read_erp_config
from spc_platform.erp.delivery import DeliveryReport, Erp, deliver
from spc_platform.erp.outbox import Outbox
from spc_platform.production.order_summary import OrderRecords, order_summaries
from spc_platform.settings import Settings

OUTBOX = "erp_outbox.sqlite"
DAYS = 31


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one delivery did.

    Summaries that were new or had changed, refused ones that were reopened, ended orders that wait for the rest of their
    production dates, and the sending.
    """

    entered: int
    reopened: int
    held: int
    report: DeliveryReport


def outbox_path(settings: Settings) -> Path:
    """Where the outbox lies: in the data folder, beside the ledger."""
    return settings.data / OUTBOX


def deliver_orders(workspace: Workspace, *, days: int = DAYS, ended: bool = False, refused: bool = False) -> Delivered:
    """Enter the summaries that changed into the outbox and deliver what is due; ``refused`` sends refused ones once more.

    Raises SiteError for a site without a usable ``erp.toml``, and what ``deliver`` raises; what was not
    acknowledged stays in the outbox.
    """
    settings = workspace.settings
    config = read_erp_config(settings)
    outbox, now = Outbox(outbox_path(settings)), datetime.now(UTC)
    made = summaries(workspace, days, ended=ended)
    waiting = unsettled(workspace, made) if ended and config.release == "complete" else set()
    entered = outbox.enter({order: document for order, document in made.items() if order not in waiting}, now)
    reopened = outbox.reopen(now) if refused else 0
    with Erp(config, settings) as erp:
        return Delivered(len(entered), reopened, len(waiting), deliver(outbox, erp))


def unsettled(workspace: Workspace, wanted: Iterable[str]) -> set[str]:
    """Those of the orders whose states and counts may still grow: a production date from their start to their end is open.

    A date is complete when records newer than its end have landed, its tables are made, and no change of it waits to
    be applied. What comes later all the same is another revision of the summary.
    """
    orders = workspace.read_all(core.WORK_ORDER.name).filter(pl.col("job_order_id").is_in(list(wanted)))
    if orders.is_empty():
        return set()
    end = pl.max_horizontal(pl.col("end_at") - pl.duration(microseconds=1), "start_at")
    spans = orders.group_by("job_order_id").agg(
        first=workspace.site.production_date(pl.col("start_at")).min(), last=workspace.site.production_date(end).max()
    )
    first, last = spans.select(pl.col("first").min(), pl.col("last").max()).row(0)
    pending = {change.production_date for change in workspace.pending()}
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    still_open = [day for day in days if day in pending or not _is_made(workspace, day)]
    touched = spans.join_where(
        pl.DataFrame({"day": still_open}, schema={"day": pl.Date}),
        pl.col("day") >= pl.col("first"),
        pl.col("day") <= pl.col("last"),
    )
    return set(touched["job_order_id"])


def _is_made(workspace: Workspace, day: date) -> bool:
    is_over = workspace.as_of(day) >= workspace.day_bounds(day)[1]
    return is_over and workspace.lake.has(STATE_INTERVAL.name, day)


def outbox_rows(settings: Settings) -> pl.DataFrame:
    """Every revision of every summary and what became of it: ERP_OUTBOX; no rows where nothing was ever delivered."""
    path = outbox_path(settings)
    if not path.is_file():
        return ERP_OUTBOX.empty()
    rows = Outbox(path).status()
    moments = [column.name for column in ERP_OUTBOX.columns if column.dtype == UTC_TIME]
    return ERP_OUTBOX.conform(
        rows.with_columns(
            pl.col(*moments).str.to_datetime(time_unit="us", time_zone="UTC"),
            is_newest=pl.col("revision") == pl.col("revision").max().over("job_order_id"),
        )
    )


def summaries(workspace: Workspace, days: int, *, ended: bool = False) -> dict[str, bytes]:
    """The summaries of orders that began on the last ``days`` production dates of the lake.

    An order that began before is left out whole: its figures would be those of a part of it.
    """
    dates = workspace.lake.dates(core.WORK_ORDER.name)
    if not dates:
        return {}
    first = dates[-1] - timedelta(days=days - 1)

    def rows(contract: Table) -> pl.DataFrame:
        return _since(workspace, contract, first)

    orders = rows(core.WORK_ORDER)
    links = rows(core.MATERIAL_LINK)
    records = OrderRecords(orders, rows(core.PRODUCTION_COUNT), links, rows(STATE_INTERVAL), rows(ENERGY_INTERVAL))
    made = order_summaries(records, workspace.site)
    wanted = made.filter(pl.col("status") == "ended") if ended else made
    return {order: document.encode() for order, document in wanted.select("job_order_id", "document").iter_rows()}


def _since(workspace: Workspace, contract: Table, first: date) -> pl.DataFrame:
    wanted = [day for day in workspace.lake.dates(contract.name) if day >= first]
    return workspace.lake.read_dates(contract.name, wanted)
