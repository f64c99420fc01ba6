"""Files of `spc oee` to tables of a study, and the study to a document or a table of text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from spc_platform.cli.analyze import check_output, write
from spc_platform.cli.oee_signals import rows_of_counts, rows_of_states
from spc_platform.cli.study_file import StudyFile, read
from spc_platform.cli.study_plan import wrong_option
from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.signals import SIGNALS
from spc_platform.contracts.site import BREAKS, REASONS, SHIFTS, STATES
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError
from spc_platform.production.oee import oee_ratios
from spc_platform.production.signals import RULES
from spc_platform.production.state_study import DEFAULT_STATES, Plan, StateStudy, Tables, state_study
from spc_platform.production.study_rows import gaps

SCHEMA_VERSION = "1.0"
_SIGNAL_STATE = ["row", "equipment_id", "state", "start_at", "end_at", "rule", "absorbed", "absorbed_s"]
REJECTED = 3
"""Exit code of ``--fail-on-rejected`` where a row was refused."""
GROUPS = {
    "shift": "shift_id",
    "product": "material_definition_id",
    "unit": "equipment_id",
    "line": "work_center_id",
    "date": "production_date",
    "week": "week",
}
ELEMENTS = ("pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s")
COUNTS = ("pq", "gq", "sq", "rq")
_ISO = ("availability", "effectiveness", "quality", "oee", "nee")
_TPM = {"availability": "tpm_availability", "performance": "tpm_performance", "quality": "tpm_quality", "oee": "oee"}
_PARTS = ("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")

_UNIT = "unit"
_PRODUCT = "product"
ALIASES: dict[str, tuple[str, ...]] = {
    "equipment_id": ("equipment", "unit", "machine", "work_unit"),
    "state": ("status",),
    "start_at": ("start", "from"),
    "end_at": ("end", "to"),
    "reason_code": ("reason",),
    "material_definition_id": ("product", "material"),
    "counted_at": ("at", "time", "timestamp"),
    "good_quantity": ("good", "gq"),
    "scrap_quantity": ("scrap", "sq"),
    "rework_quantity": ("rework", "rq"),
    "pri_s": ("pri", "ideal_cycle_s"),
    "work_center_id": ("line", "work_center"),
    "shift_id": ("shift",),
    "at": ("occurred_at", "time", "timestamp"),
    "value": ("reading", "counter"),
}
"""Other names that the header of a file may use for a column."""

_TEXT, _TIME, _WHOLE, _NUMBER = "text", "time", "whole", "number"
_COLUMNS: dict[str, dict[str, str]] = {
    "states": {
        "equipment_id": _TEXT, "state": _TEXT, "start_at": _TIME, "end_at": _TIME, "reason_code": _TEXT,
        "material_definition_id": _TEXT, "record_id": _TEXT,
    },
    "counts": {
        "equipment_id": _TEXT, "counted_at": _TIME, "material_definition_id": _TEXT, "good_quantity": _WHOLE,
        "scrap_quantity": _WHOLE, "rework_quantity": _WHOLE, "reason_code": _TEXT, "record_id": _TEXT,
    },
    "calendar": {
        "equipment_id": _TEXT, "kind": _TEXT, "shift_id": _TEXT, "start_at": _TIME, "end_at": _TIME, "recorded_at": _TIME,
    },
    "products": {
        "material_definition_id": _TEXT, "equipment_id": _TEXT, "pri_s": _NUMBER, "effective_from": _TIME,
        "effective_to": _TIME,
    },
    "orders": {"equipment_id": _TEXT, "material_definition_id": _TEXT, "start_at": _TIME, "end_at": _TIME},
    "equipment": {"equipment_id": _TEXT, "work_center_id": _TEXT},
    "state_map": {"source_state": _TEXT, "state": _TEXT, "time_element": _TEXT, "priority": _WHOLE},
    "reasons": {"reason_code": _TEXT, "time_element": _TEXT, "loss_category": _TEXT, "description": _TEXT},
    "signals": {"equipment_id": _TEXT, "signal": _TEXT, "value": _TEXT, "at": _TIME},
    "rules": {
        "priority": _WHOLE, **dict.fromkeys(SIGNALS, _TEXT), "power_min": _NUMBER, "power_max": _NUMBER, "state": _TEXT,
    },
    "counters": {
        "equipment_id": _TEXT, "counted_at": _TIME, "value": _WHOLE, "kind": _TEXT, "material_definition_id": _TEXT,
    },
}  # fmt: skip
_NEEDED: dict[str, tuple[str, ...]] = {
    "states": ("state", "start_at"),
    "counts": ("counted_at",),
    "calendar": ("start_at", "end_at"),
    "products": ("material_definition_id", "pri_s"),
    "orders": ("material_definition_id", "start_at"),
    "equipment": ("equipment_id",),
    "state_map": ("source_state", "time_element"),
    "reasons": ("reason_code",),
    "signals": ("signal", "value", "at"),
    "rules": ("priority", "state"),
    "counters": ("counted_at", "value"),
}
_DTYPES: dict[str, Any] = {_TEXT: pl.String, _TIME: UTC, _WHOLE: pl.Int64, _NUMBER: pl.Float64}
_CLOCK = re.compile(r"^(?:(?P<name>[^=]+)=)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?:@(?P<days>[1-7]+))?$")
_HAS_ZONE = r"(?i)\d{2}:?\d{2}.*(z|[+-]\d{2}:?\d{2})$"
_LOCAL_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


@dataclass(frozen=True)
class Request:
    """The options of ``spc oee`` as they were written."""

    states: Path | None = None
    counts: Path | None = None
    calendar: Path | None = None
    products: Path | None = None
    orders: Path | None = None
    equipment: Path | None = None
    state_map: Path | None = None
    reasons: Path | None = None
    shifts: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    zone: str = "UTC"
    as_of: str | None = None
    pri: float | None = None
    micro_stop: float = 300.0
    by: tuple[str, ...] = ()
    signals: Path | None = None
    rules: str = "mtconnect"
    debounce: float = 0.0
    silence: float | None = None
    counters: Path | None = None
    counter_maximum: float | None = None

    def paths(self) -> dict[str, Path]:
        """The files to read, by their role."""
        given = {name: getattr(self, name) for name in _COLUMNS if name != "rules"}
        if self.signals is not None and self.rules not in RULES:
            given["rules"] = Path(self.rules)
        return {name: path for name, path in given.items() if path is not None}


def run_oee(request: Request, *, form: str, out: Path | None, fail_on_rejected: bool) -> int:
    """Writes elements and ratios of the files. Exit code 0, or 3 where a row was refused and that was asked for."""
    for path in request.paths().values():
        check_output(path, form, out, ("table", "json"))
    document = oee_document(request)
    write(_json(document) if form == "json" else oee_text(document), out)
    return REJECTED if fail_on_rejected and document["rejected"] else 0


def oee_document(request: Request) -> dict[str, Any]:
    """The document of a study, in the layout of docs/reference/oee.schema.json. Raises SPC-38x, SPC-419 to SPC-424."""
    from spc_platform.report.study import software

    _check_options(request)
    files = {name: read(path) for name, path in request.paths().items()}
    tables = {name: _frame(name, file, request.zone) for name, file in files.items()}
    shown_rules = _from_machines(request, tables)
    study = state_study(_tables(request, tables), _plan(request))
    elements = _with_groups(study.elements, tables.get("equipment"))
    columns = [GROUPS[name] for name in request.by]
    shown = [name for name in elements.columns if name not in ("as_of", "work_center_id", "week")]
    return {
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "files": [{"role": name, "name": file.name, "sha256": file.sha256, "rows": file.rows} for name, file in files.items()],
        "zone": request.zone,
        "as_of": _moment(study.as_of),
        "options": {
            "shifts": list(request.shifts),
            "breaks": list(request.breaks),
            "pri_s": request.pri,
            "micro_stop_s": request.micro_stop,
            "by": list(request.by),
        },
        "total": _rows(elements, [])[0],
        "groups": _rows(elements, columns) if columns else [],
        "elements": [_plain(row) for row in elements.select(shown).to_dicts()],
        "gaps": [_plain(row) for row in gaps(study.intervals).to_dicts()],
        "rejected": study.rejected.to_dicts(),
        "resolved": study.resolved.to_dicts(),
        "warnings": _warnings(request, study),
        **shown_rules,
    }


def _from_machines(request: Request, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Put states and counts made of signals and counters among the tables; what the document shows of how."""
    shown: dict[str, Any] = {}
    if "signals" in tables:
        said, rules = tables["signals"], tables.get("rules")
        missing = pl.any_horizontal(pl.col("equipment_id", "signal", "at").is_null())
        _refuse_rows("signals", said, missing, "a work unit, a signal and the time from which its value holds")
        if rules is not None:
            missing = pl.any_horizontal(pl.col("priority", "state").is_null())
            _refuse_rows("rules", rules, missing, "a priority and a state")
        states = rows_of_states(
            said,
            request.rules if rules is None else rules,
            debounce_s=request.debounce,
            silence_s=request.silence,
            as_of=_plan(request).as_of,
        )
        shown["signal_states"] = [_plain(row) for row in states.select(_SIGNAL_STATE).to_dicts()]
        schema = _schema("states")
        missing_columns = {name: pl.lit(None, dtype=dtype) for name, dtype in schema.items() if name not in states.columns}
        states = states.with_columns(**missing_columns)
        tables["states"] = states.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    if "counters" in tables:
        read_off = tables["counters"]
        missing = pl.any_horizontal(pl.col("equipment_id", "counted_at", "kind", "material_definition_id").is_null())
        _refuse_rows("counters", read_off, missing, "a work unit, a time, a whole reading or none, its kind and a product")
        counts, deltas = rows_of_counts(read_off, maximum=request.counter_maximum)
        shown["counter_deltas"] = [_plain(row) for row in deltas]
        tables["counts"] = counts.select(pl.col(name).cast(dtype) for name, dtype in _schema("counts").items())
    return shown


def _warnings(request: Request, study: StateStudy) -> list[str]:
    found = [*study.warnings]
    late = study.intervals.filter(pl.col("is_open"))["equipment_id"].unique().sort().to_list()
    if late and request.as_of is None:
        found.append(
            f"states of {', '.join(late)} were still open and last until {_moment(study.as_of)}, the end of the newest shift; "
            "say with --as-of until when they are known."
        )
    return found


def _check_options(request: Request) -> None:
    if (request.states is None) == (request.signals is None):
        raise wrong_option("give either --states or --signals: states come from one of them.")
    if request.counts is not None and request.counters is not None:
        raise wrong_option("--counts and --counters both give parts: leave one out.")
    unknown = [name for name in request.by if name not in GROUPS]
    if unknown:
        raise wrong_option(f"--by {','.join(unknown)}: choose among {', '.join(GROUPS)}.")
    if "line" in request.by and request.equipment is None:
        raise wrong_option("--by line needs --equipment with the columns equipment_id and work_center_id.")
    if request.zone not in available_timezones():
        raise SiteError(
            f"--zone {request.zone!r} is no time zone. Write an IANA zone such as Europe/Berlin or America/New_York.",
            code="SPC-423",
        )
    if not 0 <= request.micro_stop < float("inf"):
        raise wrong_option(f"--micro-stop {request.micro_stop:g}: give a length in seconds, 0 or more.")
    if request.pri is not None and request.products is not None:
        raise wrong_option("--pri and --products both give ideal cycles: leave one out.")


def _plan(request: Request) -> Plan:
    if request.as_of is None:
        return Plan(request.zone, None, request.micro_stop, request.pri)
    try:
        at = datetime.fromisoformat(request.as_of)
    except ValueError as error:
        raise wrong_option(f"--as-of {request.as_of!r}: write a time such as 2026-03-10T14:00:00Z.") from error
    aware = at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(request.zone))
    return Plan(request.zone, aware, request.micro_stop, request.pri)


def _tables(request: Request, tables: dict[str, pl.DataFrame]) -> Tables:
    counts = tables.get("counts", pl.DataFrame(schema=_schema("counts")))
    if "equipment_id" in counts.columns and "equipment" not in tables and _only_unit(tables["states"]):
        # a file without the column speaks of the one unit that the states name
        counts = counts.with_columns(pl.col("equipment_id").replace({_UNIT: tables["states"]["equipment_id"][0]}))
    states, state_map = tables["states"], DEFAULT_STATES
    if "state_map" in tables:
        state_map = _state_map(tables["state_map"])
    else:
        states = states.with_columns(pl.col("state").str.to_uppercase())
    return Tables(
        states=states,
        counts=counts,
        shifts=_shift_rules(request.shifts),
        breaks=_break_rules(request.breaks, request.shifts),
        entries=tables.get("calendar"),
        products=tables.get("products"),
        orders=_orders(tables.get("orders")),
        equipment=tables.get("equipment"),
        state_map=state_map,
        reasons=REASONS.empty() if "reasons" not in tables else _reasons(tables["reasons"]),
    )


def _only_unit(states: pl.DataFrame) -> bool:
    return states["equipment_id"].drop_nulls().n_unique() == 1


def _orders(rows: pl.DataFrame | None) -> pl.DataFrame | None:
    if rows is None:
        return None
    broken = pl.col("start_at").is_null() | pl.col("material_definition_id").is_null() | (pl.col("end_at") < pl.col("start_at"))
    _refuse_rows("orders", rows, broken, "a product, a start and an end not before it, or no end while it runs")
    return rows


def _state_map(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.with_columns(
        pl.coalesce("state", "source_state").alias("state"),
        pl.col("priority").fill_null(10),
        pl.col("time_element").str.to_uppercase(),
    )
    broken = pl.col("source_state").is_null() | ~pl.col("time_element").is_in(list(TIME_ELEMENTS)).fill_null(value=False)
    _refuse_rows("state-map", rows, broken, f"a source_state once and one of {', '.join(TIME_ELEMENTS)}")
    # every source state stays a state of its own, so that the element of each is its own
    return (
        rows.unique("source_state", keep="first", maintain_order=True)
        .select("source_state", state="source_state", time_element="time_element", priority="priority")
        .select(STATES.names)
    )


def _reasons(rows: pl.DataFrame) -> pl.DataFrame:
    broken = pl.col("reason_code").is_null() | ~pl.col("time_element").is_in(list(TIME_ELEMENTS)).fill_null(value=True)
    _refuse_rows("reasons", rows, broken, f"a reason_code and, perhaps, one of {', '.join(TIME_ELEMENTS)}")
    return (
        rows.unique("reason_code", keep="first", maintain_order=True)
        .with_columns(pl.col("description").fill_null(""))
        .select(REASONS.names)
    )


def _refuse_rows(table: str, rows: pl.DataFrame, broken: pl.Expr, wanted: str) -> None:
    wrong = rows.filter(broken.fill_null(value=False) | pl.col("problem").is_not_null())
    if wrong.height:
        row = wrong.row(0, named=True)
        why = f" ({row['problem']})" if row["problem"] else ""
        raise SiteError(
            f"--{table}, row {row['row']}: {wrong.height} rows cannot be used{why}. Each row needs {wanted}.", code="SPC-424"
        )


def _clock(option: str, text: str) -> re.Match[str]:
    found = _CLOCK.match(text.strip().replace("-24:00", "-00:00"))
    if found is None or any(int(found[name][:2]) > 23 or int(found[name][3:]) > 59 for name in ("start", "end")):
        raise wrong_option(f"{option} {text!r}: write [NAME=]HH:MM-HH:MM, e.g. early=06:00-14:00 (midnight is 00:00).")
    return found


def _shift_rules(texts: tuple[str, ...]) -> pl.DataFrame:
    rows = []
    for text in texts:
        found = _clock("--shift", text)
        name = found["name"] or f"{found['start']}-{found['end']}"
        rows.append((name, "*", found["start"], found["end"], found["days"] or "1234567", None, None))
    return pl.DataFrame(rows, schema=SHIFTS.schema, orient="row")


def _break_rules(texts: tuple[str, ...], shifts: tuple[str, ...]) -> pl.DataFrame:
    rules = _shift_rules(shifts).to_dicts()
    rows = []
    for text in texts:
        found = _clock("--break", text)
        named = [rule["shift_id"] for rule in rules if found["name"] in (None, rule["shift_id"]) and _within(found, rule)]
        if not named:
            raise wrong_option(f"--break {text!r} lies in no --shift. Give a break that begins and ends within a shift.")
        rows += [(shift, "*", found["start"], found["end"], "") for shift in dict.fromkeys(named)]
    return pl.DataFrame(rows, schema=BREAKS.schema, orient="row")


def _within(pause: re.Match[str], shift: Mapping[str, Any]) -> bool:
    minutes = [
        int(text[:2]) * 60 + int(text[3:]) for text in (shift["start_local"], shift["end_local"], pause["start"], pause["end"])
    ]
    start, end, first, last = minutes
    length = (end - start - 1) % 1440 + 1
    return (first - start) % 1440 + (last - first - 1) % 1440 + 1 <= length


def _schema(name: str) -> dict[str, Any]:
    return {"row": pl.Int64, **{column: _DTYPES[kind] for column, kind in _COLUMNS[name].items()}, "problem": pl.String}


def _frame(name: str, file: StudyFile, zone: str) -> pl.DataFrame:
    """The known columns of a file, typed; a cell that cannot be read is null and told in ``problem``."""
    columns = {column: _header(file, column) for column in _COLUMNS[name]}
    for column in _NEEDED[name]:
        if columns[column] is None:
            file.require(column)
    found: dict[str, pl.Series] = {}
    problems: list[pl.Series] = []
    for column, kind in _COLUMNS[name].items():
        header = columns[column]
        if header is None:
            found[column] = pl.repeat(_default(name, column), file.rows, dtype=_DTYPES[kind], eager=True)
            continue
        values, problem = _typed(file, header, kind, zone)
        found[column] = values
        problems.append(problem)
    told = pl.DataFrame({str(index): problem for index, problem in enumerate(problems)})
    joined = told.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)).to_series()
    frame = pl.DataFrame({"row": pl.int_range(1, file.rows + 1, eager=True), **found, "problem": joined})
    every = {"*": None, "": None}
    if name in ("calendar", "products"):
        frame = frame.with_columns(pl.col("equipment_id").replace(every))
    return frame.with_columns(problem=pl.when(pl.col("problem") != "").then("problem")).cast(_schema(name))  # type: ignore[arg-type]


def _default(name: str, column: str) -> str | None:
    if column == "equipment_id" and name in ("states", "counts", "orders", "signals", "counters"):
        return _UNIT
    if column == "material_definition_id" and name in ("counts", "counters"):
        return _PRODUCT
    return {"calendar": "shift", "counters": "good"}[name] if column == "kind" else None


def _header(file: StudyFile, column: str) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(file.cells.columns)}
    return next((lower[name] for name in (column, *ALIASES.get(column, ())) if name in lower), None)


def _typed(file: StudyFile, header: str, kind: str, zone: str) -> tuple[pl.Series, pl.Series]:
    if kind == _TIME:
        return _times(file, header, zone)
    cells = file.labels(header)
    none = pl.repeat(None, file.rows, dtype=pl.String, eager=True)
    if kind == _TEXT:
        return cells, none
    numbers = cells.str.replace(",", ".", literal=True) if file.decimal_comma else cells
    values = numbers.cast(pl.Float64, strict=False)
    bad = cells.is_not_null() & (values.is_null() | ~values.is_finite().fill_null(value=False))
    if kind == _WHOLE:
        bad |= (values != values.round()).fill_null(value=False)
    word = "a whole number" if kind == _WHOLE else "a finite number"
    values = values.set(bad, None)
    return values.cast(_DTYPES[kind], strict=False), _told(header, cells, bad, f"is not {word}")


def _told(header: str, cells: pl.Series, bad: pl.Series, what: str) -> pl.Series:
    text = pl.DataFrame({"cell": cells.cast(pl.String)}).select(
        pl.concat_str(pl.lit(f"{header} '"), pl.col("cell").fill_null(""), pl.lit(f"' {what}"))
    )
    return text.to_series().set(~bad, None)


def _times(file: StudyFile, header: str, zone: str) -> tuple[pl.Series, pl.Series]:
    """Instants in UTC. Texts without offset are read on the zone's clock; a time that it shows twice or never is refused."""
    cells = file.cells[header]
    if cells.dtype == pl.Date:
        cells = cells.cast(pl.Datetime("us"))
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is not None:
            return cells.cast(UTC), pl.repeat(None, file.rows, dtype=pl.String, eager=True)
        return _localized(header, cells.cast(pl.Datetime("us")), cells, None, zone)
    texts = file.labels(header)
    plain = texts.str.replace("T", " ", literal=True).str.replace("t", " ", literal=True)
    offset = texts.str.contains(_HAS_ZONE).fill_null(value=False)
    zoned_text = plain.set(~offset, None).str.replace(r"(?i)\s*z$", "+00:00")
    zoned = (
        pl.DataFrame({"at": zoned_text})
        .select(
            pl.coalesce(
                pl.col("at").str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
                for form in ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
            )
        )
        .to_series()
    )
    local = (
        pl.DataFrame({"at": plain.set(offset, None)})
        .select(pl.coalesce(pl.col("at").str.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL_FORMATS))
        .to_series()
    )
    return _localized(header, local, texts, zoned, zone)


def _localized(
    header: str, local: pl.Series, cells: pl.Series, zoned: pl.Series | None, zone: str
) -> tuple[pl.Series, pl.Series]:
    clock = pl.DataFrame({"at": local}).select(
        first=pl.col("at").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null"),
        last=pl.col("at").dt.replace_time_zone(zone, ambiguous="latest", non_existent="null"),
    )
    twice = (clock["first"] != clock["last"]).fill_null(value=False)
    never = local.is_not_null() & clock["first"].is_null()
    instants = clock["first"].dt.convert_time_zone("UTC").set(twice, None)
    given = instants if zoned is None else pl.DataFrame({"a": zoned, "b": instants}).select(pl.coalesce("a", "b")).to_series()
    problem = _told(header, cells, twice, f"is shown twice by the clock of {zone}: write it with its offset")
    skipped = _told(header, cells, never, f"is skipped by the clock of {zone}: write it with its offset")
    unread = cells.is_not_null() & given.is_null() & ~twice & ~never
    unreadable = _told(header, cells, unread, "is no time: write 2026-03-10T06:00:00Z or 2026-03-10 06:00:00")
    told = pl.DataFrame({"a": problem, "b": skipped, "c": unreadable}).select(pl.coalesce("a", "b", "c")).to_series()
    return given.cast(UTC), told


def _with_groups(elements: pl.DataFrame, equipment: pl.DataFrame | None) -> pl.DataFrame:
    week = pl.concat_str(
        pl.col("production_date").dt.iso_year().cast(pl.String),
        pl.lit("-W"),
        pl.col("production_date").dt.week().cast(pl.String).str.zfill(2),
    )
    rows = elements.drop("work_center_id").with_columns(week=week)
    if equipment is None:
        return rows.with_columns(work_center_id=pl.lit(None, dtype=pl.String))
    lines = equipment.select("equipment_id", "work_center_id").unique("equipment_id", keep="first", maintain_order=True)
    return rows.join(lines, on="equipment_id", how="left", maintain_order="left")


def _rows(elements: pl.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    ratios = oee_ratios(elements, columns).to_dicts()
    names = {column: name for name, column in GROUPS.items()}
    return [
        {
            "group": {names[column]: _plain_value(row[column]) for column in columns},
            "elements": {name: row[name] for name in ELEMENTS},
            "partition_error_s": round(sum(round(row[name] * 1e6) for name in _PARTS) - round(row["pot_s"] * 1e6)) / 1e6,
            "counts": {name: row[name] for name in COUNTS},
            "ideal_s": {"pq": row["ideal_pq_s"], "gq": row["ideal_gq_s"]},
            "iso_22400": {name: row[name] for name in _ISO},
            "tpm": {name: row[column] for name, column in _TPM.items()},
            "reason": row["reason"],
            "suspect_ideal_cycle": row["suspect_ideal_cycle"],
        }
        for row in ratios
    ]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, datetime):
        return _moment(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _moment(at: datetime) -> str:
    return at.astimezone(ZoneInfo("UTC")).isoformat().replace("+00:00", "Z")


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def oee_text(document: Mapping[str, Any]) -> str:
    """The document for a terminal: ratios and elements of every group and of all, then rows that need a look."""
    import io

    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=140)
    by = list(document["options"]["by"])
    keys = [*by] or ["total"]
    lines = [*document["groups"], document["total"]]
    told = [[str(line["group"][name]) for name in by] if line["group"] else ["all", *[""] * (len(keys) - 1)] for line in lines]
    ratios = Table(*keys, *_ISO, "TPM A", "TPM P", "why", title="OEE: ISO 22400-2, and availability and performance of TPM")
    elements = Table(*keys, *ELEMENTS, *COUNTS, title="Elements")
    for names, line in zip(told, lines, strict=True):
        suspect = "SUSPECT_IDEAL_CYCLE" if line["suspect_ideal_cycle"] else ""
        why = ";".join(text for text in (line["reason"], suspect) if text)
        shown = [*(line["iso_22400"][name] for name in _ISO), line["tpm"]["availability"], line["tpm"]["performance"]]
        ratios.add_row(*names, *("-" if value is None else f"{value:.4f}" for value in shown), why)
        elements.add_row(
            *names, *(f"{line['elements'][name]:.10g}" for name in ELEMENTS), *(str(line["counts"][name]) for name in COUNTS)
        )
    console.print(ratios)
    console.print(elements)
    console.print(f"as of {document['as_of']}, zone {document['zone']}", highlight=False)
    for kind in ("rejected", "resolved"):
        for row in document[kind]:
            detail = f" ({row['detail']})" if row["detail"] else ""
            text = f"{kind}: {row['table']} row {row['row']}: {row['code']}: {row['why']}{detail}; {row['remedy']}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    for row in document["gaps"]:
        text = f"no state: {row['equipment_id']} {row['start_at']} to {row['end_at']} ({row['duration_s']:.10g} s)"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for row in document.get("counter_deltas", []):
        if row["rule"] not in ("step", "unchanged"):
            counted = "nothing" if row["delta"] is None else f"{row['delta']:.10g}"
            text = f"counter: row {row['row']}: {row['equipment_id']} {row['kind']}: {row['rule']}: {counted} counted"
            console.print(f"{text} until {row['end_at']}", highlight=False, markup=False, soft_wrap=True)
    for row in document.get("signal_states", []):
        if row["absorbed"]:
            text = f"signals: {row['equipment_id']} {row['state']} from {row['start_at']}: {row['absorbed']} shorter states"
            console.print(f"{text} merged ({row['absorbed_s']:.10g} s)", highlight=False, markup=False, soft_wrap=True)
    for text in document["warnings"]:
        console.print(f"warning: {text}", highlight=False, markup=False, soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]
