"""The rows of a landed page: decoded, dated, and as the ledger's index of records takes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl

from spc_platform.contracts.raw import DECODED_DTYPES, EVENT_TIME, PAYLOAD
from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.ledger import LandedPage
from spc_platform.lake.record_index import NEVER, RECORDS
from spc_platform.prepare.revisions import DELIVERED, RANK
from spc_platform.site.model import Resource, Site
from spc_platform.sources.base import Page
from spc_platform.sources.decode import DROPPED, decode

OWN_PAGE = "spc window comparison: "
"""Begins the origin of pages that comparing a window made (``window``), followed by the raw table that they belong to."""

_UTC = pl.Datetime("us", "UTC")
_SEED = 22400


def page_records(resource: Resource, page: LandedPage, body: bytes, site: Site) -> dict[str, pl.DataFrame]:
    """The records of a page per raw table, as the ledger's index takes them. Raises ContractError for another format."""
    return {
        table: _records(decoded_page(resource, table, body, page.origin, page.received_at), table, site, page.received_at)
        for table in resource.tables
    }


def decoded_page(resource: Resource, table: str, body: bytes, origin: str, received_at: datetime) -> pl.DataFrame:
    """The rows of a page of the source, or of one that comparing a window made."""
    if not origin.startswith(OWN_PAGE):
        return _ordered(
            _with_identity(_with_time_of_delivery(decode(resource, table, body, origin), resource, received_at)), resource
        )
    schema = own_page_schema(table)
    kept = DECODED_DTYPES | {"decode_note": pl.String} | {column.name: column.dtype for column in PAYLOAD[table]}
    rows = pl.read_ndjson(body, schema=schema) if origin == f"{OWN_PAGE}{table}" else pl.DataFrame(schema=schema)
    typed = rows.select(pl.col(name).cast(dtype) for name, dtype in kept.items())
    noticed = pl.col("updated_at") if _is_ordered_by_delivery(resource) else pl.lit(None, _UTC)
    return _ordered(typed.with_columns(noticed.alias(DELIVERED)), resource)


def _is_ordered_by_delivery(resource: Resource) -> bool:
    return bool(resource.options.get("order") == "delivery")


def _ordered(frame: pl.DataFrame, resource: Resource) -> pl.DataFrame:
    return frame.with_columns((pl.lit(0, pl.Int64) if _is_ordered_by_delivery(resource) else pl.col("revision")).alias(RANK))


def own_page_schema(table: str) -> dict[str, Any]:
    """Columns of a page of our own making, with times as microseconds since 1970."""
    dtypes = DECODED_DTYPES | {"decode_note": pl.String} | {column.name: column.dtype for column in PAYLOAD[table]}
    return {name: pl.Int64 if dtype == _UTC else dtype for name, dtype in dtypes.items()}


def typed_records(resource: Resource, table: str, page: Page, site: Site) -> pl.DataFrame:
    """The rows of a page with their production dates."""
    frame = decoded_page(resource, table, page.body, page.origin, page.received_at)
    return frame.with_columns(production_date=effective_date(table, site, page.received_at))


def _with_time_of_delivery(frame: pl.DataFrame, resource: Resource, received_at: datetime) -> pl.DataFrame:
    """Adds ``DELIVERED`` to named records of files that state neither revision nor time of update, and where ``order`` says so.

    What was delivered later corrects the earlier. It is no time of the source, so it is kept apart from ``updated_at``.
    """
    if _is_ordered_by_delivery(resource):
        # A page may tell of one record twice: rows count as a microsecond each, far less than landing one takes.
        at = pl.lit(received_at.astimezone(UTC), _UTC) + pl.duration(microseconds=pl.col("page_row"))
        return frame.with_columns(at.cast(_UTC).alias(DELIVERED))
    ordered = resource.format in DROPPED and not {"revision", "updated_at"} & resource.fields.keys()
    named = pl.col("record_id").str.contains("^(unnamed|page)-").not_() & pl.col("updated_at").is_null() & ordered
    return frame.with_columns(pl.when(named).then(pl.lit(received_at.astimezone(UTC), _UTC)).alias(DELIVERED))


def _with_identity(frame: pl.DataFrame) -> pl.DataFrame:
    """Decoded records with revision and deletion filled: what the source leaves out is revision 0, not deleted."""
    return frame.with_columns(pl.col("revision").fill_null(0), pl.col("is_deleted").fill_null(value=False))


def _effective_at(table: str, received_at: datetime) -> pl.Expr:
    received = pl.lit(received_at.astimezone(UTC), _UTC)
    return pl.coalesce(EVENT_TIME[table], "updated_at", received)


def effective_date(table: str, site: Site, received_at: datetime) -> pl.Expr:
    """Production date of the event; where its time is unreadable, of the update, else of the receipt."""
    return site.production_date(_effective_at(table, received_at))


def _records(frame: pl.DataFrame, table: str, site: Site, received_at: datetime) -> pl.DataFrame:
    """The page's records as the ledger's index takes them.

    The content hash covers all decoded columns but the row's place in its page. It is stable within one
    polars version; after an upgrade, records of the overlap count as new once, which changes no row.
    """
    if frame.height and frame["record_id"].has_nulls():
        raise ContractError(
            f"decoding gave {table} records without record_id; every record needs one to be told from the others"
        )
    content = frame.select(sorted(set(frame.columns) - {"page_row", "decode_note", RANK}))
    return frame.select(
        "record_id",
        pl.col(RANK).alias("revision"),
        content.hash_rows(seed=_SEED).reinterpret(signed=True).alias("content_hash"),
        pl.coalesce(DELIVERED, "updated_at").cast(_UTC).cast(pl.Int64).fill_null(NEVER).alias("updated_at"),
        pl.col("updated_at").cast(_UTC).cast(pl.Int64).fill_null(NEVER).alias("stated_at"),
        _effective_at(table, received_at).cast(_UTC).cast(pl.Int64).alias("event_at"),
        effective_date(table, site, received_at).cast(pl.Int32).alias("production_date"),
    ).cast(RECORDS)


def production_day(site: Site) -> str:
    """What a production day of the site is, as the ledger remembers it."""
    return f"{site.zone} from {site.day_start:%H:%M}"


def resource_of(site: Site, page: LandedPage) -> Resource:
    """The resource that gave a landed page. Raises LakeError when the site no longer declares it."""
    try:
        resources: Iterator[Resource] = iter(site.source(page.source_id).resources)
    except KeyError:
        resources = iter(())
    for resource in resources:
        if resource.name == page.resource:
            return resource
    raise LakeError(
        f"landed page {page.sha256} came from source {page.source_id!r}, resource {page.resource!r}, which site "
        f"{site.site_id!r} no longer declares, so it cannot be decoded; "
        "declare it again in the site's sources (polling may stay off)",
        code="SPC-505",
    )
