"""One plant's workspace: its site, its landed pages and its lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import polars as pl

from spc_platform.errors import LakeError, TransientError
from spc_platform.lake.event_history import EventHistory
from spc_platform.lake.files import locked
from spc_platform.lake.landing import Landing
from spc_platform.lake.ledger import Ledger, PendingDate
from spc_platform.lake.serving import Serving
from spc_platform.lake.store import Lake
from spc_platform.lake.verdicts import Verdicts
from spc_platform.settings import Settings
from spc_platform.site import Site
from spc_platform.site.loader import load_site
from spc_platform.sources import open_source
from spc_platform.sources.resilience import STATE_FILE, StateFile
from spc_platform.sources.source_state import SourceState, pending_resources, queue_windows, source_states


@dataclass(frozen=True)
class Workspace:
    """Everything that a step reads or writes."""

    settings: Settings
    site: Site
    ledger: Ledger
    landing: Landing
    lake: Lake
    verdicts: Verdicts

    @classmethod
    def open(cls, settings: Settings) -> Workspace:
        """Opens (and creates where missing) the workspace. Raises SiteError when the site folder is wrong."""
        site = load_site(settings.site)
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(
                f"data folder {settings.data} cannot be made: {error.strerror}; set SPC_DATA to a folder that may be written"
            ) from error
        ledger = Ledger(settings.ledger_path)
        return cls(
            settings,
            site,
            ledger,
            Landing(settings.landing_root, ledger),
            Lake(settings.lake_root, ledger),
            Verdicts(settings.data / "verdicts.sqlite"),
        )

    @cached_property
    def serving(self) -> Serving:
        return Serving(self.settings.serving_root)

    @cached_property
    def event_history(self) -> EventHistory:
        return EventHistory(self.settings.data / "event_history.sqlite")

    def day_bounds(self, production_date: date) -> tuple[datetime, datetime]:
        """Start and end of a production day in UTC; 23 or 25 hours apart on a DST day."""
        start, end = (
            datetime.combine(day, self.site.day_start, tzinfo=self.site.zone_info).astimezone(UTC)
            for day in (production_date, production_date + timedelta(days=1))
        )
        return start, end

    def as_of(self, production_date: date) -> datetime:
        """Until when the plant is known for figures of this date: the newest landed record, at most one day past its end."""
        end = self.day_bounds(production_date)[1] + timedelta(days=1)
        newest = self.ledger.newest()
        return end if newest is None else min(end, newest)

    def known_until(self) -> datetime:
        """The newest landed record's time: until when tables that span all dates know the plant; the epoch without any."""
        return self.ledger.newest() or datetime.fromtimestamp(0, UTC)

    def window(self, production_date: date, *, back: int = 0, ahead: int = 0) -> list[date]:
        return [production_date + timedelta(days=offset) for offset in range(-back, ahead + 1)]

    def read_window(self, table: str, production_date: date, *, back: int = 0, ahead: int = 0) -> pl.DataFrame:
        return self.lake.read_dates(table, self.window(production_date, back=back, ahead=ahead))

    def read_all(self, table: str) -> pl.DataFrame:
        """All partitions of a small table (statistics, never measurements)."""
        return self.lake.read_dates(table, self.lake.dates(table))

    def fingerprint(self, inputs: Iterable[tuple[str, date | None]]) -> dict[str, str]:
        """Table (and date) -> sha256 of what a step read, for the manifest."""
        found = {}
        for table, production_date in inputs:
            manifest = self.lake.manifest(table, production_date)
            if manifest is not None:
                found[table if production_date is None else f"{table}/{production_date}"] = manifest.sha256
        return found

    def _keeps(self, production_date: date) -> bool:
        last = self.site.last_production_date
        return production_date >= self.site.first_production_date and (last is None or production_date <= last)

    def production_dates(self) -> list[date]:
        """Dates that any landed record touches, within the site's range."""
        return [day for day in self.ledger.touched_dates() if self._keeps(day)]

    def pending(self) -> list[PendingDate]:
        """Changes not yet applied, on dates that the site keeps; others (say, a clock in the year 2000) stay landed only."""
        return [change for change in self.ledger.pending() if self._keeps(change.production_date)]

    def unmade(self) -> list[date]:
        """Dates between the first and the last touched one that no run has made: they exist as empty once made."""
        touched = self.production_dates()
        if not touched:
            return []
        span = (touched[-1] - touched[0]).days
        between = (touched[0] + timedelta(days=offset) for offset in range(span + 1))
        return [day for day in between if not self.lake.has("measurement", day)]

    def reached(self, changed: Iterable[date]) -> list[date]:
        """Dates made earlier whose state intervals read one of the changed dates: the one before, and those that carry it.

        A stop that ends on the next date, or a state that was open when a date was made, changes that date too.
        """
        changed = set(changed)
        around = range(-1, self.site.policies.state_carry_days + 1)
        near = {day + timedelta(days=offset) for day in changed for offset in around} - changed
        return sorted(day for day in near if self._keeps(day) and self.lake.has("state_interval", day))

    @contextmanager
    def limits_locked(self) -> Iterator[None]:
        """Limit versions are read, extended and committed by one process at a time, so that none is lost."""
        with locked(self.settings.data / "limits.lock", 120.0, "control limits"):
            yield

    @cached_property
    def state(self) -> StateFile:
        """What processes share of the sources: breakers, pace, pending windows."""
        return StateFile(self.settings.data / STATE_FILE)

    def source_states(self) -> list[SourceState]:
        """The breaker and the pending windows of every source of the site."""
        return source_states(self.state, [source.source_id for source in self.site.sources])

    def resources_with_news(self, source_id: str) -> list[str]:
        """Names of the source's resources that have something newer than their watermark, or a window that waits to be read.

        Raises SpcError when it is away; while its breaker is not closed, the windows that were asked for are queued.
        """
        config = self.site.source(source_id)
        source = open_source(config, self.settings)
        waiting = pending_resources(self.state, source_id)
        watermarks = {each.name: self.ledger.watermark(source_id, each.name) for each in config.resources}
        try:
            return [
                resource.name
                for resource in config.resources
                if source.has_news(resource, watermarks[resource.name]) is not None or resource.name in waiting
            ]
        except TransientError:
            queue_windows(self.state, source_id, watermarks)
            raise
