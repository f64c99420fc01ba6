"""From the lake to the ERP: summaries of the plant's work orders, entered into the outbox and delivered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from spc_platform.contracts import core
from spc_platform.contracts.energy import ENERGY_INTERVAL
from spc_platform.contracts.production import STATE_INTERVAL
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
    """What one delivery did: summaries that were new or had changed, refused ones that were reopened, and the sending."""

    entered: int
    reopened: int
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
    entered = outbox.enter(summaries(workspace, days, ended=ended), now)
    reopened = outbox.reopen(now) if refused else 0
    with Erp(config, settings) as erp:
        return Delivered(len(entered), reopened, deliver(outbox, erp))


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
