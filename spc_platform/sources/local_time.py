"""Times of sources as instants: local times by the source's zone and policy, leap seconds by rule, nothing by guess.

When clocks go back, an hour of local times happens twice. What a source means by them is declared per resource as
``ambiguous``:

- ``reject``: the time is not read (``AMBIGUOUS_LOCAL_TIME``).
- ``earliest``, ``latest``: the first or the second of the two.
- ``by_order``: records stand in the order in which they happened. Where the local times of a page step back once within
  the repeated hour, what stands before the step is the first pass and what follows the second. Without a step, or with
  several, the order says nothing and the time is not read: for sources whose page is a whole file.

A time that clocks skipped never existed and is never read (``NONEXISTENT_LOCAL_TIME``). A leap second (23:59:60 UTC at
the end of a month) is read as 23:59:59.999999, because instants here have none. What was assumed is said beside the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from spc_platform.contracts.table import UTC

AMBIGUOUS = "AMBIGUOUS_LOCAL_TIME"
NONEXISTENT = "NONEXISTENT_LOCAL_TIME"
LEAP_SECOND_NOTE = "LEAP_SECOND_READ_AS_59.999999"
_LEAP = r"(\d{2}:\d{2}):60(?:\.\d+)?"
_LEAP_READ_AS = "${1}:59.999999"


@dataclass(frozen=True, slots=True)
class Placed:
    """Instants in UTC with, row by row, why one is missing and what was assumed; both null where nothing was."""

    at: pl.Series
    reason: pl.Series
    assumption: pl.Series


def without_leap_seconds(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """(texts with second 60 written as 59.999999, which of them were). Check the instants with ``may_be_leap_second``.

    >>> without_leap_seconds(pl.Series(["2016-12-31T23:59:60Z", None]))[0].to_list()
    ['2016-12-31T23:59:59.999999Z', None]
    """
    leap = text.str.contains(":60", literal=True).fill_null(value=False)
    if leap.any():
        leap = text.str.contains(_LEAP).fill_null(value=False)
        text = text.str.replace(_LEAP, _LEAP_READ_AS)
    return text, leap


def may_be_leap_second(at: pl.Series) -> pl.Series:
    """Which instants are the last microsecond of a month in UTC: the only place of leap seconds (ITU-R TF.460-6)."""
    after = at.dt.offset_by("1us")
    return (after.dt.truncate("1mo") == after).fill_null(value=False)


def place(local: pl.Series, zone: str, ambiguous: str = "reject") -> Placed:
    """Instants of local times (no zone, microseconds) on the clock of ``zone``, in the order of the page.

    >>> from datetime import datetime
    >>> twice = pl.Series([datetime(2026, 10, 25, 2, 50), datetime(2026, 10, 25, 2, 10)])
    >>> place(twice, "Europe/Berlin", "by_order").at.dt.to_string("%H:%M").to_list()
    ['00:50', '01:10']
    """
    first = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    last = local.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.convert_time_zone("UTC")
    twice = (first != last).fill_null(value=False)
    skipped = local.is_not_null() & first.is_null()
    if ambiguous == "by_order":
        at = _by_order(local, first, last, twice)
    else:
        at = first if ambiguous == "earliest" else last if ambiguous == "latest" else first.set(twice, None)
    at = at.cast(UTC)
    frame = pl.DataFrame({"twice": twice, "skipped": skipped, "read": at.is_not_null()})
    reason = (
        pl.when(pl.col("skipped")).then(pl.lit(NONEXISTENT)).when(pl.col("twice") & ~pl.col("read")).then(pl.lit(AMBIGUOUS))
    )
    assumed = pl.when(pl.col("twice") & pl.col("read")).then(pl.lit(f"AMBIGUOUS_LOCAL_TIME_READ_{_WORDS[ambiguous]}"))
    return Placed(at, frame.select(reason.alias("r"))["r"], frame.select(assumed.alias("a"))["a"])


_WORDS = {"reject": "", "earliest": "AS_EARLIEST", "latest": "AS_LATEST", "by_order": "BY_ORDER"}


def _by_order(local: pl.Series, first: pl.Series, last: pl.Series, twice: pl.Series) -> pl.Series:
    """Instants with each repeated hour told apart by its one step back; null where the order does not say."""
    rows = pl.DataFrame({"local": local, "first": first, "last": last, "twice": twice})
    hour = pl.col("local").dt.date()
    stepped = (pl.col("local") < pl.col("local").shift(1)).fill_null(value=False)
    told = (
        rows.with_row_index("row")
        .filter("twice")
        .with_columns(steps=stepped.cum_sum().over(hour))
        .with_columns(all_steps=pl.col("steps").max().over(hour))
        .select(
            "row",
            told=pl.when(pl.col("all_steps") == 1).then(pl.when(pl.col("steps") == 0).then("first").otherwise("last")),
        )
    )
    joined = rows.with_row_index("row").join(told, on="row", how="left", maintain_order="left")
    return joined.select(at=pl.when("twice").then("told").otherwise("first"))["at"]


def read_instants(text: pl.Series, zone: str | None, ambiguous: str = "reject") -> Placed:
    """Instants of ISO 8601 texts; those without an offset are local times of ``zone``.

    Reasons: ``NOT_A_TIMESTAMP``, ``TIMESTAMP_WITHOUT_ZONE`` and those of ``place``.

    >>> read_instants(pl.Series(["2016-12-31T23:59:60Z", "2016-12-31T22:59:60Z"]), None).reason.to_list()
    [None, 'NOT_A_TIMESTAMP']
    """
    # The parser takes second 60 for the next minute without a word, so it must not see one.
    said, leap = without_leap_seconds(text)
    zoned = said.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    nothing = pl.Series(text.name, [None], dtype=pl.String).new_from_index(0, text.len())
    if not leap.any() and zoned.null_count() == text.null_count():
        return Placed(zoned, nothing, nothing)
    local = said.str.replace(" ", "T", literal=True).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    naive = zoned.is_null() & local.is_not_null()
    if zone is None:
        placed = Placed(zoned, nothing.set(naive, "TIMESTAMP_WITHOUT_ZONE"), nothing)
    else:
        placed = place(local.set(~naive, None), zone, ambiguous)
    at = zoned.zip_with(~naive, placed.at)
    false_leap = leap & at.is_not_null() & ~may_be_leap_second(at)
    unread = (text.is_not_null() & ~naive & zoned.is_null()) | false_leap
    return Placed(
        at.set(false_leap, None),
        placed.reason.set(unread, "NOT_A_TIMESTAMP"),
        placed.assumption.set(leap & ~unread & at.is_not_null(), LEAP_SECOND_NOTE),
    )
