"""Production dates as Dagster partitions, and the windows of dates that steps need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import dagster as dg

from spc_platform.engine.step import Input
from spc_platform.site import Site


def daily_partitions(site: Site) -> dg.DailyPartitionsDefinition:
    """One partition per production date; a partition's window is the production day in the site's zone.

    Daily and nothing else: line and stream are columns sorted inside a file, so ten years are 3,650 partitions.
    """
    last = site.last_production_date
    starts_after_midnight = bool(site.day_start.hour or site.day_start.minute)
    return dg.DailyPartitionsDefinition(
        start_date=site.first_production_date.isoformat(),
        end_date=None if last is None else (last + timedelta(days=1 + starts_after_midnight)).isoformat(),
        timezone=site.zone,
        hour_offset=site.day_start.hour,
        minute_offset=site.day_start.minute,
        end_offset=1 if last is None else 0,
    )


def dependency(source: Input, site: Site, *, both_partitioned: bool) -> dg.AssetDep:
    """The dependency on an input, with the window of production dates that a partition reads."""
    back = source.days_back(site.policies)
    if not both_partitioned or (back == 0 and source.ahead == 0):
        return dg.AssetDep(source.table)
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=-back, end_offset=source.ahead, allow_nonexistent_upstream_partitions=True
    )
    return dg.AssetDep(source.table, partition_mapping=mapping)


def contiguous(dates: Iterable[date]) -> list[tuple[date, date]]:
    """First and last date of each run of consecutive dates.

    >>> contiguous([date(2026, 3, 2), date(2026, 3, 1), date(2026, 3, 5)])
    [(datetime.date(2026, 3, 1), datetime.date(2026, 3, 2)), (datetime.date(2026, 3, 5), datetime.date(2026, 3, 5))]
    """
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(dates)):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def range_tags(first: date, last: date) -> dict[str, str]:
    """Run tags that make one run cover all production dates from first to last."""
    return {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }


def as_dates(keys: Sequence[str]) -> list[date]:
    return [date.fromisoformat(key) for key in keys]
