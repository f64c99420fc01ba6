"""The plant as one object: records and truth of each production date, generated once and kept."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.plant.events import EVENT_MAKERS, order_lifecycle
from spc_platform.plant.measuring import NAN_TOKEN, NOT_A_NUMBER_REASON
from spc_platform.plant.process import DEFAULT_NOW, DEFAULT_SEED, FIRST_DATE, LAST_DATE
from spc_platform.plant.records import RESOURCES, DayRecords, day_records
from spc_platform.plant.schedule import DaySchedule, day_bounds, day_schedule
from spc_platform.plant.truth import OEE_SCHEMA, oee_elements, special_causes

TRUTHS: dict[str, tuple[str, str]] = {
    "special_cause_measurements": ("measurements", "measured_at"),
    "sensor_outliers": ("measurements", "measured_at"),
    "bad_records": ("measurements", "measured_at"),
    "corrections": ("measurements", "updated_at"),
    "late_records": ("measurements", "updated_at"),
    "telemetry_gaps": ("telemetry", "gap_to"),
    "energy_kwh": ("telemetry", "until"),
    "lost_readings": ("telemetry", "grid_at"),
    "order_events": ("order-events", "occurred_at"),
    "segment_visits": ("segment-events", "finished_at"),
    "wip_at": ("segment-events", "at"),
    "genealogy_edges": ("material-links", "occurred_at"),
}
"""Truths that are kept per date: the resource with which they come to be, and when each has happened."""


class Plant:
    """Records and truth of a plant that is fully determined by ``seed``; ``now`` is its virtual time (aware).

    With ``nan_tokens`` values that are no numbers are sent as bare NaN instead of null.
    A production date's records never depend on which other dates were asked for, nor in which order.
    """

    def __init__(self, seed: int = DEFAULT_SEED, now: datetime | None = None, *, nan_tokens: bool = False) -> None:
        self.seed = seed
        self.now = now or DEFAULT_NOW
        self.nan_tokens = nan_tokens
        self._schedules: dict[date, DaySchedule] = {}
        self._records: dict[tuple[str, date], DayRecords] = {}
        self._oee: dict[date, pl.DataFrame] = {}
        self._lock = threading.RLock()

    def production_dates(self, now: datetime | None = None) -> list[date]:
        """Production dates that have begun at ``now`` (the plant's own when it is None)."""
        days = ((LAST_DATE - FIRST_DATE).days) + 1
        dates = [FIRST_DATE + timedelta(days=number) for number in range(days)]
        return [each for each in dates if day_bounds(each)[0] <= (now or self.now)]

    def schedule(self, production_date: date) -> DaySchedule:
        """Tell what happened on a production date, second by second."""
        with self._lock:
            if production_date not in self._schedules:
                self._schedules[production_date] = day_schedule(self.seed, production_date)
            return self._schedules[production_date]

    def day(self, resource: str, production_date: date) -> DayRecords:
        """Give the records as kept for sending, and their truth, whether or not they are visible already."""
        with self._lock:
            key = (resource, production_date)
            if key not in self._records:
                self._records[key] = day_records(resource, self.seed, self.schedule(production_date))
            return self._records[key]

    def records(self, resource: str, production_date: date) -> pl.DataFrame:
        """Give the records of a resource written for a production date and visible now, ordered by (updated_at, id).

        Columns are the record's fields, times as text as they are sent. Raises ValueError for an
        unknown resource.
        """
        if resource not in RESOURCES:
            raise ValueError(f"the plant has no resource {resource!r}; it has: {', '.join(RESOURCES)}")
        frame = self.day(resource, production_date).frame
        visible = frame.filter(pl.col("_us") <= int(self.now.timestamp() * 1e6)).drop("_us")
        if "value" in visible.columns:
            visible = visible.with_columns(value=pl.when(pl.col("value") != NAN_TOKEN).then("value"))
        return visible

    def truth(self, name: str) -> pl.DataFrame:
        """Tell what has happened until now; ``oee_elements`` of the production dates that are complete.

        Names: special_causes, special_cause_measurements, sensor_outliers, telemetry_gaps, bad_records,
        corrections, late_records, oee_elements, order_events, order_lifecycle, segment_visits, wip_at,
        genealogy_edges, event_defects (late, corrected, withdrawn and impossible records of the last three
        resources), energy_kwh (of complete dates) and lost_readings of meters. Raises ValueError for another name.
        """
        if name == "special_causes":
            return special_causes(self.truth("special_cause_measurements"))
        if name == "order_lifecycle":
            return order_lifecycle(self.truth("order_events"))
        if name == "event_defects":
            made = [self.day(resource, each).truth[name] for each in self.production_dates() for resource in EVENT_MAKERS]
            return pl.concat(made).filter(pl.col("updated_at") <= self.now.astimezone(UTC))
        if name == "oee_elements":
            complete = [each for each in self.production_dates() if day_bounds(each)[1] <= self.now]
            frames = [self._oee_of(each) for each in complete]
            return pl.concat(frames) if frames else pl.DataFrame(schema=OEE_SCHEMA)
        if name not in TRUTHS:
            known = ", ".join(sorted([*TRUTHS, "special_causes", "oee_elements", "order_lifecycle", "event_defects"]))
            raise ValueError(f"the plant knows no truth {name!r}; it knows: {known}")
        resource, happened = TRUTHS[name]
        begun = pl.concat([self.day(resource, each).truth[name] for each in self.production_dates()])
        if name == "bad_records" and self.nan_tokens:
            token = pl.when(pl.col("kind") == "nan").then(pl.lit(NOT_A_NUMBER_REASON)).otherwise("expected_reason")
            begun = begun.with_columns(expected_reason=token)
        return begun.filter(pl.col(happened) <= self.now.astimezone(UTC))

    def _oee_of(self, production_date: date) -> pl.DataFrame:
        with self._lock:
            if production_date not in self._oee:
                self._oee[production_date] = oee_elements(self.seed, self.schedule(production_date))
            return self._oee[production_date]
