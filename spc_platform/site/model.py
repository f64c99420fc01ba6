"""The plant as data: what a site folder says, once it has been read and validated.

Tables follow ``spc_platform.contracts.site``; everything here is immutable. Loading lives in ``loader``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import polars as pl

COLLECTED = ("opcua", "mqtt", "mtconnect", "modbus", "serial")
"""Kinds of sources that `spc collect` subscribes to; the platform reads what it spooled."""

_YEARS = range(1970, 2101)


@lru_cache
def _changes_at(zone: str, day_start: time) -> bool:
    """Whether the clock of the zone ever shows the time twice or skips it."""
    days = (date(year, 1, 1) + timedelta(days=offset) for year in _YEARS for offset in range(366))
    clock = (datetime.combine(day, day_start, ZoneInfo(zone)) for day in days)
    return any(at.utcoffset() != at.replace(fold=1).utcoffset() for at in clock)


Ambiguous = Literal["reject", "earliest", "latest", "by_order"]
"""Which of its two instants a local time means that happened twice, as clocks went back; ``sources.local_time`` explains."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of record of a source and the raw table(s) it feeds.

    ``fields`` maps canonical column -> name in the source. ``options`` belong to the format. ``deletions = "window"``: the
    source does not flag what it deletes, so what is absent from a window read in full counts as deleted, unless less than
    ``least_window_share`` of the known records are there.
    """

    name: str
    tables: tuple[str, ...]
    format: Literal["json_records", "arrow", "csv", "xlsx", "parquet", "qif", "dfq", "mtconnect_adapter"]
    path: str = ""
    records: str = "records"
    fields: dict[str, str] = field(default_factory=dict)
    mutable: bool = True
    overlap_s: float = 0.0
    zone: str | None = None
    ambiguous: Ambiguous = "reject"
    deletions: Literal["flag", "window"] = "flag"
    least_window_share: float = 0.8
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A configured source. Secrets are named by environment variable, never written in the folder.

    ``zone`` and ``ambiguous`` hold for every resource that does not state its own. ``options`` belong to the kinds that
    are collected.
    """

    source_id: str
    kind: Literal["rest", "files", "sql", "opcua", "mqtt", "mtconnect", "modbus", "serial"]
    resources: tuple[Resource, ...]
    poll_s: float = 30.0
    base_url: str = ""
    root: str = ""
    zone: str | None = None
    ambiguous: Ambiguous = "reject"
    auth: dict[str, Any] = field(default_factory=dict)
    pagination: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaselinePolicy:
    """How limits become versions: the first ``subgroups`` of a chart are frozen, in the policy's name."""

    subgroups: int = 25
    individuals: int = 100
    k: float = 3.0
    approved_by: str = "site policy"
    reason: str = "first complete baseline of the chart"
    estimate_window_days: int = 30


@dataclass(frozen=True, slots=True)
class Policies:
    """Numbers that are decisions of the plant, not of the code."""

    micro_stop_s: float = 300.0
    carry_days: int = 7
    rule_reset_gap_h: float = 72.0
    state_carry_days: int = 3
    confidence: float = 0.95
    clock_skew_s: float = 300.0
    horizon_days: int = 3650
    reconcile_days: int = 7
    state_rules_set: str = "mtconnect"
    debounce_s: float = 0.0
    silence_s: float | None = None
    baseline: BaselinePolicy = field(default_factory=BaselinePolicy)


@dataclass(frozen=True, eq=False)
class Site:
    """A validated site folder. ``tables`` holds one frame per contract of ``contracts.site``. Equal only to itself."""

    site_id: str
    name: str
    zone: str
    day_start: time
    first_production_date: date
    last_production_date: date | None
    folder: Path
    tables: dict[str, pl.DataFrame]
    sources: tuple[Source, ...]
    policies: Policies
    owner: str = "team:quality"

    @property
    def zone_info(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def __getitem__(self, table: str) -> pl.DataFrame:
        return self.tables[table]

    def source(self, source_id: str) -> Source:
        for source in self.sources:
            if source.source_id == source_id:
                return source
        known = ", ".join(sorted(source.source_id for source in self.sources))
        raise KeyError(f"no source {source_id!r} in site {self.site_id!r}; it has: {known}")

    def work_centers(self) -> pl.DataFrame:
        """equipment_id -> work_center_id of every work unit."""
        equipment = self.tables["equipment"]
        return equipment.filter(pl.col("equipment_level") == "work_unit").select(
            "equipment_id", work_center_id=pl.col("parent_equipment_id")
        )

    def routings_at(self, at: datetime) -> pl.DataFrame:
        """Operations of each product in force at an instant (aware)."""
        moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
        begun = (pl.col("effective_from") <= moment).fill_null(value=True)
        lasts = (pl.col("effective_to") > moment).fill_null(value=True)
        return self.tables["routings"].filter(begun & lasts)

    def production_date(self, at: pl.Expr) -> pl.Expr:
        """Production date of UTC instants: the local date of the production day that contains them.

        The production day runs from ``day_start`` to ``day_start`` on the wall clock of the site's
        zone, so a night shift belongs to the date on which it started and a DST day has 23 or 25 hours.
        A ``day_start`` that the clock shows twice means its first time; one that it skips comes as if the
        clock had not yet been changed.
        """
        start = pl.duration(hours=self.day_start.hour, minutes=self.day_start.minute)
        shown = (at.dt.convert_time_zone(self.zone).dt.replace_time_zone(None) - start).dt.date()
        if not _changes_at(self.zone, self.day_start):
            return shown
        a_day = pl.duration(days=1)

        def begins(day: pl.Expr) -> pl.Expr:
            local = day.cast(pl.Datetime("us")) + start
            first = local.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")
            skipped = (local - a_day).dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null") + a_day
            return pl.coalesce(first, skipped).dt.convert_time_zone("UTC")

        following = shown + a_day
        return pl.when(begins(following) <= at).then(following).when(begins(shown) > at).then(shown - a_day).otherwise(shown)
