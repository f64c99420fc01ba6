"""Landing: pages of sources kept unchanged, and the raw partitions that are made from them.

The bytes of a page are durable before the next one is asked for. Its records are decoded and entered, in one transaction,
while the next page is on its way, and before the one after that is asked for; where a source goes on by what landing says
of a page (``Refuser``), before the next one. A resource's watermark moves only after its last page is entered. Whatever stops
a walk, the next one converges: pages that landed are recognised by their sha256, records by what the ledger knows of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from datetime import UTC, date
from pathlib import Path
from typing import Any

import polars as pl
import zstandard

from spc_platform.contracts import LAKE_TABLES
from spc_platform.errors import ContractError, LakeError, PermanentError, SpcError, TransientError
from spc_platform.lake.clock_log import ClockLog, quickest
from spc_platform.lake.files import (
    TEMPORARY,
    Checkpoint,
    below,
    locked,
    make_folder,
    no_checkpoint,
    older_than,
    sha256,
    write_durably,
)
from spc_platform.lake.landing_report import LandingReport, ResourceLanding, WalkSums
from spc_platform.lake.ledger import LandedPage, Ledger, PageOutcome
from spc_platform.lake.page_rows import decoded_page, effective_date, page_records, production_day, resource_of
from spc_platform.observe.traces import each_spanned, span
from spc_platform.prepare.clock import ClockExchange
from spc_platform.prepare.revisions import DELIVERED, RANK, drop_repeats, latest_revisions
from spc_platform.site.model import Resource, Site
from spc_platform.sources.base import Page, Refuser, Source, WatermarkKeeper
from spc_platform.sources.figures import WalkFigures, add_figures, walking
from spc_platform.sources.resilience import STATE_FILE, StateFile
from spc_platform.sources.source_state import queue_windows, window_read

__all__ = ["Landing", "LandingReport", "ResourceLanding", "land_page", "land_source", "raw_partition", "source_locked"]

_SUFFIX = ".zst"
_LOCK = ".lock"
_DECODED_BYTES = 256 << 20


class Landing:
    """The bytes of landed pages under ``root``, zstd-compressed, named by the sha256 of what the source said."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root = Path(root)
        self.ledger = ledger
        self._decoded: OrderedDict[tuple[str, ...], pl.DataFrame] = OrderedDict()

    def __repr__(self) -> str:
        return f"Landing({str(self.root)!r})"

    def path(self, source_id: str, digest: str) -> Path:
        """Where the page of a source lies, or would lie."""
        return below(self.root, source_id, digest[:2]) / f"{digest}{_SUFFIX}"

    def write(self, source_id: str, body: bytes, checkpoint: Checkpoint = no_checkpoint) -> str:
        """Make a page's bytes durable; gives their sha256. A page that lies there already is verified."""
        digest = sha256(body)
        path = self.path(source_id, digest)
        if path.exists() and _body(path, len(body)) == body:
            return digest
        make_folder(path.parent)
        write_durably(path, zstandard.ZstdCompressor(level=3, write_checksum=True).compress(body), checkpoint, "page")
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes of a landed page, exactly as the source gave them. Raises LakeError when missing or altered."""
        found = self.ledger.sources_of(digest)
        problems = []
        for source_id, size in found:
            path = self.path(source_id, digest)
            body = _body(path, size)
            if body is not None and sha256(body) == digest:
                return body
            problems.append(f"{path} is {'missing' if not path.exists() else 'altered'}")
        if not found:
            problems.append(f"the ledger {self.ledger.path} knows no page {digest}")
        raise LakeError(
            f"landed page {digest}: {'; '.join(problems)}. Restore the file from a backup; if there is none, delete it "
            "and its row in the ledger's table page, reset the resource's watermark and land the source again",
            code="SPC-501",
        )

    def decoded(self, page: LandedPage, resource: Resource, table: str) -> pl.DataFrame:
        """The records of a landed page that belong to one raw table. Recently used pages are kept, within 256 MiB."""
        key = (page.source_id, repr(resource), page.sha256, page.origin, table)
        frame = self._decoded.pop(key, None)
        if frame is None:
            frame = decoded_page(resource, table, self.read(page.sha256), page.origin, page.received_at)
        self._decoded[key] = frame
        size = sum(kept.estimated_size() for kept in self._decoded.values())
        while size > _DECODED_BYTES and len(self._decoded) > 1:
            size -= self._decoded.popitem(last=False)[1].estimated_size()
        return frame

    def sweep(self, older_than_s: float) -> list[Path]:
        """Remove what a killed walk left: temporary files and pages without a ledger row, once they are old enough.

        A source that is being landed is left for the next time.
        """
        swept: list[Path] = []
        now = time.time()
        for folder in sorted(path for path in self.root.glob("*") if path.is_dir()):
            try:
                with locked(folder / _LOCK, 0.0, f"landing in {folder}"):
                    swept.extend(path for path in sorted(folder.glob("*/*")) if self._remove_orphan(path, older_than_s, now))
            except LakeError:
                continue
        return swept

    def _remove_orphan(self, path: Path, older_than_s: float, now: float) -> bool:
        is_orphan = path.name.startswith(TEMPORARY) or not self.ledger.sources_of(path.name.removesuffix(_SUFFIX))
        if not is_orphan or not older_than(path, older_than_s, now):
            return False
        path.unlink()
        return True


def land_source(
    source: Source,
    site: Site,
    landing: Landing,
    ledger: Ledger,
    *,
    checkpoint: Checkpoint = no_checkpoint,
    lock_timeout_s: float = 600.0,
) -> LandingReport:
    """Walk every resource of a source and land its pages; one page is in memory at a time.

    A permanent or contract failure of one resource does not keep the others from landing and is raised at the
    end; a transient one ends the walk, since the other side is down. Pages that landed stay, the resource's
    watermark does not move. Raises LakeError when another run lands the same source for ``lock_timeout_s``.
    """
    source_id = source.config.source_id
    reports = []
    failures: list[SpcError] = []
    ledger.check_production_day(production_day(site))
    state = StateFile(ledger.path.parent / STATE_FILE)
    with span("land source", source=source_id), source_locked(landing, source_id, lock_timeout_s):
        for number, resource in enumerate(source.config.resources):
            try:
                reports.append(_land_resource(source, resource, site, landing, ledger, checkpoint, state))
            except (PermanentError, ContractError) as error:
                failures.append(error)
            except TransientError:
                unread = source.config.resources[number:]
                queue_windows(state, source_id, {each.name: ledger.watermark(source_id, each.name) for each in unread})
                raise
            window_read(state, source_id, resource.name)
    if failures:
        for further in dict.fromkeys(map(str, failures[1:])):
            if further != str(failures[0]):
                failures[0].add_note(f"and: {further}")
        raise failures[0]
    return LandingReport(source_id, tuple(reports))


def source_locked(landing: Landing, source_id: str, timeout_s: float) -> AbstractContextManager[None]:
    """Nobody else lands pages of the source meanwhile. Raises LakeError when another run does for ``timeout_s``."""
    return locked(below(landing.root, source_id) / _LOCK, timeout_s, f"landing of source {source_id!r}")


def raw_partition(table: str, production_date: date, site: Site, landing: Landing, ledger: Ledger) -> pl.DataFrame:
    """The rows of one raw table and production date, from every landed page that brought records of it.

    Conforms to the RAW contract of ``table``. Every revision is kept; ``is_current`` marks the one in force,
    also against revisions on other production dates. Repeats of the same content are one row, of the page
    with the lowest (sha256, row). The order in which pages landed does not matter; which page a row names
    depends on how the source cut its records into pages: a page whose every record had landed before is not
    read, so it is named only where it came before the page that holds more. Values never depend on it.

    Raises LakeError when a page is missing or altered, or its source or resource left the site folder.
    """
    contract = LAKE_TABLES[table]
    ledger.check_production_day(production_day(site))
    frames = []
    for page in ledger.pages(table, production_date):
        frame = landing.decoded(page, resource_of(site, page), table)
        day = effective_date(table, site, page.received_at)
        frames.append(
            frame.filter(day == production_date).with_columns(
                source_id=pl.lit(page.source_id),
                page_sha256=pl.lit(page.sha256),
                production_date=pl.lit(production_date, pl.Date),
                is_current=pl.lit(value=True),
            )
        )
    if not frames:
        return contract.empty()
    rows = pl.concat([frame.select(*contract.names, DELIVERED, RANK) for frame in frames])
    return contract.conform(latest_revisions(drop_repeats(rows), ledger.superseded(table, production_date)))


def _land_resource(
    source: Source,
    resource: Resource,
    site: Site,
    landing: Landing,
    ledger: Ledger,
    checkpoint: Checkpoint,
    state: StateFile,
) -> ResourceLanding:
    """One walk, and its figures in the shared state file, however it ends."""
    with span("land resource", source=source.config.source_id, resource=resource.name) as told, walking() as figures:
        try:
            landed = _walk(source, resource, site, landing, ledger, checkpoint, figures)
        except Exception:
            figures.end(is_success=False)
            add_figures(state, source.config.source_id, resource.name, figures)
            raise
        figures.end(is_success=True)
        add_figures(state, source.config.source_id, resource.name, figures)
        told.update(pages=landed.pages, records=landed.records, new_records=landed.new_records, bytes=landed.bytes)
    return landed


def _walk(
    source: Source,
    resource: Resource,
    site: Site,
    landing: Landing,
    ledger: Ledger,
    checkpoint: Checkpoint,
    figures: WalkFigures,
) -> ResourceLanding:
    source_id = source.config.source_id
    started = time.monotonic()
    before = ledger.watermark(source_id, resource.name)
    batch_id = ledger.open_batch(source_id, resource.name)
    walk = WalkSums()
    clocks: list[ClockExchange] = []
    unread: SpcError | None = None
    try:
        pages = source.walk(resource, before)
        landed = _landed(source, pages, resource, site, landing, ledger, batch_id, checkpoint)
        for page, outcome in each_spanned("land page", landed, _shown):
            walk.add(page, outcome)
            figures.page(len(page.body), outcome.n_records, outcome.n_new, page.received_at, outcome.newest_updated_at)
            clocks = quickest([*clocks, page.clock]) if page.clock is not None else clocks
    except Exception as error:
        if not (isinstance(source, Refuser) and isinstance(error, PermanentError | ContractError)):
            ledger.close_batch(batch_id, None, error=_told(error))
            raise
        unread = error
    ClockLog(ledger.path.parent).record(clocks)
    after = _watermark_after(source, resource, before, walk)
    checkpoint("walk:landed")
    ledger.close_batch(batch_id, after)
    checkpoint("walk:closed")
    if unread is not None:
        ledger.close_batch(batch_id, None, error=_told(unread))
        raise unread
    return ResourceLanding(
        resource=resource.name,
        batch_id=batch_id,
        pages=walk.pages,
        records=walk.records,
        new_records=walk.new_records,
        bytes=walk.bytes,
        touched=tuple(sorted(walk.touched)),
        watermark=after,
        seconds=time.monotonic() - started,
    )


def _landed(source: Source, pages: Iterator[Page], *where: Any) -> Iterator[tuple[Page, PageOutcome]]:
    """Pages as they land, with what they brought. ``where``: as ``land_page`` takes it."""
    if not isinstance(source, Refuser):
        yield from _landed_overlapped(pages, *where)
        return
    for page in pages:
        try:
            yield page, land_page(page, *where)
        except ContractError as error:
            source.refuse(page, error)


def _landed_overlapped(
    pages: Iterator[Page],
    resource: Resource,
    site: Site,
    landing: Landing,
    ledger: Ledger,
    batch_id: int,
    checkpoint: Checkpoint,
) -> Iterator[tuple[Page, PageOutcome]]:
    """Each page is made durable, then entered by a thread of its own while the next one is fetched and made durable."""
    entering: tuple[Page, Future[PageOutcome]] | None = None
    with ThreadPoolExecutor(1, "landing") as executor:
        try:
            for page in pages:
                digest = _make_durable(page, landing, checkpoint)
                before, entering = entering, None
                if before is not None:
                    yield before[0], before[1].result()
                entering = (
                    page,
                    executor.submit(copy_context().run, _enter, page, digest, resource, site, ledger, batch_id, checkpoint),
                )
        except Exception:
            if entering is not None:
                yield entering[0], entering[1].result()
            raise
        finally:
            executor.submit(ledger.disconnect)
        if entering is not None:
            yield entering[0], entering[1].result()


def _told(error: Exception) -> str:
    """An error with its notes, as the ledger keeps it."""
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])[:500]


def _shown(landed: tuple[Page, PageOutcome]) -> dict[str, int]:
    return {"bytes": len(landed[0].body), "records": landed[1].n_records, "new_records": landed[1].n_new}


def land_page(
    page: Page,
    resource: Resource,
    site: Site,
    landing: Landing,
    ledger: Ledger,
    batch_id: int,
    checkpoint: Checkpoint = no_checkpoint,
) -> PageOutcome:
    """Make a page durable and enter it. Raises ContractError when it is not of its format; it is kept all the same."""
    digest = _make_durable(page, landing, checkpoint)
    return _enter(page, digest, resource, site, ledger, batch_id, checkpoint)


def _make_durable(page: Page, landing: Landing, checkpoint: Checkpoint) -> str:
    digest = landing.write(page.source_id, page.body, checkpoint)
    checkpoint("page:durable")
    return digest


def _enter(
    page: Page, digest: str, resource: Resource, site: Site, ledger: Ledger, batch_id: int, checkpoint: Checkpoint
) -> PageOutcome:
    landed = LandedPage(
        page.source_id,
        page.resource,
        digest,
        page.origin,
        page.position,
        len(page.body),
        page.received_at,
        page.credible_until,
    )
    known = ledger.known_page(landed)
    if known is not None:
        return known
    try:
        contents = page_records(resource, landed, page.body, site)
    except ContractError as error:
        ledger.refuse_page(batch_id, landed, str(error)[:500])
        raise
    return ledger.land_page(batch_id, landed, contents, mutable=resource.mutable, checkpoint=checkpoint)


def _watermark_after(source: Source, resource: Resource, before: str | None, walk: WalkSums) -> str | None:
    """Where the next walk begins: what the source says, else for REST the newest credible update, else the last position."""
    if isinstance(source, WatermarkKeeper):
        return source.next_watermark(resource)
    if source.config.kind != "rest":
        return walk.position
    if walk.newest is None:
        return None
    after = walk.newest.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return max(after, before or "")


def _body(path: Path, size: int) -> bytes | None:
    """The decompressed bytes, or None when the file is missing, is no zstd frame or holds more than ``size`` bytes."""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            body = reader.read(size + 1)
    except (FileNotFoundError, zstandard.ZstdError):
        return None
    return body if len(body) <= size else None
