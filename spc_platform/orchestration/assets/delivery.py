"""Delivery of production summaries to the ERP, after every publication and, while something waits, every hour."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from spc_platform.engine import Workspace
from spc_platform.erp.config import FILE
from spc_platform.erp.orders import deliver_orders, outbox_path
from spc_platform.erp.outbox import Outbox
from spc_platform.errors import SpcError, TransientError
from spc_platform.orchestration.automation import follows_new_data
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site

DELIVERY = "erp_delivery"
_REFUSED = dg.AssetCheckSpec(
    "nothing_refused",
    asset=DELIVERY,
    blocking=False,
    description="The ERP refused the newest summary of no order. `spc erp deliver --refused` sends refused ones once more.",
)
_WAITING = dg.AssetCheckSpec(
    "nothing_waits",
    asset=DELIVERY,
    blocking=False,
    description="Every summary of an ended order has reached the ERP. What waits is tried again by the next delivery.",
)


def delivers(site: Site) -> bool:
    """Whether the site has an ERP to deliver to."""
    return (site.folder / FILE).is_file()


def delivery_assets(site: Site) -> list[Any]:
    """The delivery of the site's ended orders; nothing where the site has no ``erp.toml``.

    An ERP that is away fails no run, since the figures are right and the outbox keeps what is owed: it fails a
    check. A wrong ``erp.toml`` or credential fails the step.
    """
    if not delivers(site):
        return []

    @dg.asset(
        name=DELIVERY,
        deps=["serving_publication"],
        group_name="delivery",
        owners=[site.owner],
        kinds={"rest"},
        check_specs=[_REFUSED, _WAITING],
        pool="erp",
        automation_condition=follows_new_data(partitioned=False),
        description="Production summaries of ended orders whose production dates are complete, put to the ERP until it "
        "acknowledges or refuses each; what changed is a new revision, what did not is not sent again.",
    )
    def delivery(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        plant = workspace.open()
        away, metadata = "", {}
        try:
            done = deliver_orders(plant, ended=True)
            report = done.report
            metadata = {"entered": done.entered, "held": done.held}
            metadata |= {"acknowledged": report.acknowledged, "put_off": report.postponed}
        except TransientError as error:
            away = str(error)
            context.log.warning(away)
        except SpcError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        newest = _newest(plant)
        counted = dict(newest["state"].value_counts().iter_rows())
        return dg.MaterializeResult(
            metadata={**metadata, "orders": newest.height, **{f"orders_{state}": n for state, n in counted.items()}},
            check_results=[
                _verdict(newest, "nothing_refused", ["refused"]),
                _verdict(newest, "nothing_waits", ["pending", "sent"], away),
            ],
        )

    return [delivery]


def waiting(plant: Workspace) -> bool:
    """Whether the outbox holds a summary that is due."""
    path = outbox_path(plant.settings)
    return path.is_file() and Outbox(path).next_due(datetime.now(UTC)) is not None


def _newest(plant: Workspace) -> pl.DataFrame:
    """The newest revision of every order in the outbox."""
    return Outbox(outbox_path(plant.settings)).status().group_by("job_order_id", maintain_order=True).last()


def _verdict(newest: pl.DataFrame, name: str, bad: list[str], away: str = "") -> dg.AssetCheckResult:
    """A warning that names the first orders in one of the ``bad`` states, and why."""
    found = newest.filter(newest["state"].is_in(bad))
    named = [
        f"{order} revision {revision}: {why or 'not sent yet'}"
        for order, revision, why in found.select("job_order_id", "revision", "last_error").head(5).iter_rows()
    ]
    return dg.AssetCheckResult(
        asset_key=DELIVERY,
        check_name=name,
        passed=not named and not away,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join([*([away] if away else []), *named]) or "None.",
        metadata={"orders": found.height},
    )
