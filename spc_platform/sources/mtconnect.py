"""MTConnect adapter logs (``timestampZ|item|value``) to raw telemetry, states, and orders of a part's operation.

Times stay the source's own. Agent and machine clocks of one log may differ, so times may run backwards
by seconds; lines are neither reordered nor corrected here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import polars as pl

from spc_platform.contracts.raw import DECODED_DTYPES, PAYLOAD
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.identity import content_names

NO_VALUE = "UNAVAILABLE"
"""What MTConnect reports for an item whose value is not known."""

TABLES = ("raw_telemetry", "raw_equipment_state", "raw_work_order", "raw_production_count", "raw_signal_event")
_TIME = "%Y-%m-%dT%H:%M:%S%.fZ"
_KEPT_TEXT = 500


def decode(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """Rows of one adapter log for one of the tables ``TABLES``.

    Options of the resource:

    - ``equipment_id``: the machine of the log.
    - ``streams``: {item: stream_id}, the numeric items that become telemetry; ``units``: {item: unit}.
    - ``state_item``: the item whose changes are the machine's states, e.g. ``execution``.
    - ``signals``: {item: signal}, the items whose changes become signal events, e.g. ``execution = "execution"``,
      ``mode = "mode"``, ``avail = "availability"``; states are made of them by rules.
    - ``log_order``: true: a signal holds no earlier than what the log said before it, and a microsecond after what the
      same item said at that instant. Agent and machine write one log by two clocks; by time alone the loss of a
      connection would come after its return and hide it. Telemetry keeps its times.
    - ``window_pattern``: regular expression with the groups ``year``, ``month``, ``day``: the UTC day that
      the log covers, found in ``origin``. Without a match, and with ``window_from_first_fresh``, it is the
      UTC day of the newest line. Logs open with a snapshot of last known values under old times: what it
      says holds when the window begins, so these lines get the window's start as their time (and the
      window in their ``record_id``, so that each log's snapshot is a record of its own).
      ``decode_note`` of a signal says ``occurred_at:SNAPSHOT`` or ``occurred_at:LOG_ORDER`` with the time that was written.
    - ``order_pattern``: regular expression for ``origin`` of a log that holds one operation on one part;
      its named groups fill ``job_order``, ``product`` and ``work_center`` (format strings). Such a log is a
      work order for one part, from its first to its last line, and one counted part when the state item
      last said ``completed_state``. Whether the part is good is for its measurements to say; it counts
      as good here because the log knows of no scrap.

    A line that cannot be read (no item, no time) is kept with its text and ``decode_error`` in the first
    table that the resource feeds; its ``updated_at`` is the time of the readable line before it, as a log is
    written in order. ``UNAVAILABLE`` is a state; for telemetry it is no row, it says that
    nothing was observed. Items that the site does not declare are left in the landed page. Equal times
    keep 7-digit fractions down to the microsecond.
    """
    if table not in TABLES:
        raise ContractError(
            f"resource {resource.name!r}: format mtconnect_adapter feeds {', '.join(TABLES)}, not {table!r}. "
            "Correct the resource's tables in the site's sources.",
            code="SPC-331",
        )
    lines = adapter_lines(body)
    malformed = lines.with_columns(updated_at=pl.col("at").forward_fill()).filter(pl.col("problem").is_not_null())
    sound = _at_window_start(lines.filter(pl.col("problem").is_null()), resource.options, origin)
    rows = _READERS[table](sound, resource.options, origin)
    if table == resource.tables[0]:
        rows = pl.concat([rows, _unreadable(malformed, resource.options)], how="diagonal")
    return _conformed(rows, resource, table)


def adapter_lines(body: bytes) -> pl.DataFrame:
    r"""Split every line of an adapter log: page_row, line, source_time, item, value, at, problem.

    >>> adapter_lines(b"2017-02-01T14:59:08.8437500Z|Feed_Rate|21.2\n2017\n")["problem"].to_list()
    [None, 'observed_at:NOT_A_TIME;item:MISSING']
    """
    text = body.decode("utf-8-sig", errors="replace")
    line = pl.col("line")
    fields = pl.col("line").str.splitn("|", 3).struct.rename_fields(["source_time", "item", "value"]).alias("fields")
    frame = (
        pl.DataFrame({"line": [text]}, schema={"line": pl.String})
        .select(line.str.split("\n").explode())
        .with_columns(line.str.strip_chars_end("\r"))
        .with_row_index("page_row")
        .filter(line.str.strip_chars() != "")
        .with_columns(fields, pl.col("page_row").cast(pl.Int64))
        .unnest("fields")
    )
    problems = [
        pl.when(pl.col("at").is_null()).then(pl.lit("observed_at:NOT_A_TIME")),
        pl.when(pl.col("item").is_null() | (pl.col("item") == "")).then(pl.lit("item:MISSING")),
        pl.when(pl.col("item").is_not_null() & pl.col("value").is_null()).then(pl.lit("value:MISSING")),
    ]
    joined = pl.concat_str(problems, separator=";", ignore_nulls=True)
    return frame.with_columns(
        at=pl.col("source_time").str.to_datetime(_TIME, time_unit="us", time_zone="UTC", strict=False)
    ).with_columns(problem=pl.when(joined != "").then(joined))


def window_start(options: dict[str, Any], origin: str, newest: datetime | None) -> datetime | None:
    r"""Say when the log's window begins: midnight UTC of the day in its name, else of its newest line; None: unknown.

    >>> window_start({"window_pattern": r"-(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)-"}, "M1-20170502-03.txt", None)
    datetime.datetime(2017, 5, 2, 0, 0, tzinfo=datetime.timezone.utc)
    """
    pattern = options.get("window_pattern")
    found = re.search(pattern, origin) if pattern else None
    if found:
        return datetime(int(found["year"]), int(found["month"]), int(found["day"]), tzinfo=UTC)
    if options.get("window_from_first_fresh") and newest is not None:
        return newest.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return None


def _at_window_start(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    newest = lines["at"].max()
    start = window_start(options, origin, newest if isinstance(newest, datetime) else None)
    occurrence = pl.int_range(pl.len()).over("source_time", "item").cast(pl.String)
    identity = pl.concat_str(pl.lit(str(options["equipment_id"])), "source_time", "item", occurrence, separator=":")
    if start is None:
        return lines.with_columns(record_id=identity, is_snapshot=pl.lit(value=False))
    is_snapshot = pl.col("at") < start
    window = pl.concat_str(identity, pl.lit(start.strftime("@%Y-%m-%d")))
    return lines.with_columns(
        record_id=pl.when(is_snapshot).then(window).otherwise(identity),
        is_snapshot=is_snapshot,
        at=pl.when(is_snapshot).then(pl.lit(start).cast(UTC_DTYPE)).otherwise(pl.col("at")),
    )


def _telemetry(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    streams: dict[str, str] = options.get("streams", {})
    units: dict[str, str] = options.get("units", {})
    declared = lines.filter(pl.col("item").is_in(list(streams)) & (pl.col("value") != NO_VALUE))
    number = pl.col("value").str.strip_chars().cast(pl.Float64, strict=False)
    unreadable = number.is_null()
    return declared.select(
        "page_row",
        "record_id",
        stream_id=pl.col("item").replace_strict(streams, default=None, return_dtype=pl.String),
        observed_at="at",
        value=number,
        unit=pl.col("item").replace_strict(units, default=None, return_dtype=pl.String),
        decode_error=pl.when(unreadable).then(pl.lit("value:NOT_A_NUMBER")),
        raw_record=pl.when(unreadable).then(pl.col("line").str.slice(0, _KEPT_TEXT)),
    )


def _states(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    of_item = lines.filter(pl.col("item") == options.get("state_item", "execution"))
    state = pl.col("value").str.strip_chars()
    return of_item.filter(state.ne_missing(state.shift(1)) | (pl.int_range(pl.len()) == 0)).select(
        "page_row",
        "record_id",
        state=state,
        start_at="at",
        equipment_id=pl.lit(str(options["equipment_id"])),
    )


def _signals(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    signals: dict[str, str] = options.get("signals", {})
    value = pl.col("value").str.strip_chars()
    before = value.shift(1).over("item", order_by="page_row")
    held = _in_log_order(lines) if options.get("log_order") else lines.with_columns(held_at="at")
    moved = pl.when("is_snapshot").then(pl.lit("SNAPSHOT")).when(pl.col("held_at") != pl.col("at")).then(pl.lit("LOG_ORDER"))
    return held.filter(pl.col("item").is_in(list(signals)) & value.ne_missing(before)).select(
        "page_row",
        "record_id",
        equipment_id=pl.lit(str(options["equipment_id"])),
        signal=pl.col("item").replace_strict(signals, default=None, return_dtype=pl.String),
        value=value,
        occurred_at="held_at",
        decode_note=pl.concat_str(pl.lit("occurred_at:"), moved, pl.lit(" from "), "source_time"),
    )


def _in_log_order(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines with ``held_at``: the latest time up to the line, and one that rises by a microsecond at least within an item."""
    latest = lines.sort("page_row").with_columns(_us=pl.col("at").dt.epoch("us").cum_max())
    place = pl.int_range(pl.len()).over("item", order_by="page_row")
    rising = (pl.col("_us") - place).cum_max().over("item", order_by="page_row") + place
    return latest.with_columns(held_at=rising.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")).drop("_us")


def _order(options: dict[str, Any], origin: str) -> dict[str, str] | None:
    """Give job_order_id, material_definition_id and work_center_id of the operation that ``origin`` names."""
    pattern = options.get("order_pattern")
    found = re.search(pattern, origin) if pattern else None
    if found is None:
        return None
    named = {"job_order_id": "job_order", "material_definition_id": "product", "work_center_id": "work_center"}
    return {column: str(options[option]).format(**found.groupdict()) for column, option in named.items()}


def _work_orders(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    order = _order(options, origin)
    if order is None or lines.is_empty():
        return _NO_ROWS
    return lines.select(
        page_row=pl.col("page_row").first(),
        record_id=pl.lit(order["job_order_id"]),
        planned_quantity=pl.lit(1),
        start_at=pl.col("at").min(),
        end_at=pl.col("at").max(),
        **{column: pl.lit(text) for column, text in order.items()},
    )


def _counts(lines: pl.DataFrame, options: dict[str, Any], origin: str) -> pl.DataFrame:
    order = _order(options, origin)
    is_state = pl.col("item") == options.get("state_item", "execution")
    completed = lines.filter(is_state & (pl.col("value") == options.get("completed_state", "PROGRAM_COMPLETED"))).tail(1)
    if order is None or completed.is_empty():
        return _NO_ROWS
    return completed.select(
        "page_row",
        record_id=pl.lit(order["job_order_id"]),
        equipment_id=pl.lit(str(options["equipment_id"])),
        counted_at="at",
        good_quantity=pl.lit(1),
        scrap_quantity=pl.lit(0),
        rework_quantity=pl.lit(0),
        **{column: pl.lit(order[column]) for column in ("job_order_id", "material_definition_id")},
    )


_NO_ROWS = pl.DataFrame(schema={"page_row": pl.Int64, "record_id": pl.String})
_READERS = {
    "raw_telemetry": _telemetry,
    "raw_equipment_state": _states,
    "raw_work_order": _work_orders,
    "raw_production_count": _counts,
    "raw_signal_event": _signals,
}


def _unreadable(lines: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    place = pl.col("updated_at").dt.to_string("iso").fill_null("")
    said = lines.select(pl.concat_str(pl.lit(str(options["equipment_id"])), place, "line", separator=":")).to_series()
    return lines.select(
        "page_row",
        record_id=content_names(said),
        updated_at="updated_at",
        decode_error="problem",
        raw_record=pl.col("line").str.slice(0, _KEPT_TEXT),
    )


def _conformed(rows: pl.DataFrame, resource: Resource, table: str) -> pl.DataFrame:
    schema = DECODED_DTYPES | {column.name: column.dtype for column in PAYLOAD[table]}
    schema |= {"decode_note": pl.String} if "decode_note" in rows.columns else {}
    filled = rows.with_columns(revision=pl.lit(1), is_deleted=pl.lit(value=False))
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in schema.items() if name not in filled.columns}
    return filled.with_columns(**missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort("page_row")
