"""Files of `spc oee` to tables of a study, and the study to a document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from spc_platform.cli.analyze import check_output, write
from spc_platform.cli.oee_cells import COLUMNS, ONLY_UNIT, row_schema, typed_rows
from spc_platform.cli.oee_signals import rows_of_counts, rows_of_states
from spc_platform.cli.oee_text import GROUPS, document_json, group_rows, moment, oee_text, plain, with_groups
from spc_platform.cli.study_file import read
from spc_platform.cli.study_plan import wrong_option
from spc_platform.contracts.production import TIME_ELEMENTS
from spc_platform.contracts.site import BREAKS, REASONS, SHIFTS, STATES
from spc_platform.errors import SiteError
from spc_platform.production.signals import RULES
from spc_platform.production.state_study import DEFAULT_STATES, Plan, StateStudy, Tables, state_study
from spc_platform.production.study_rows import gaps

SCHEMA_VERSION = "1.0"
_SIGNAL_STATE = ["row", "equipment_id", "state", "start_at", "end_at", "rule", "absorbed", "absorbed_s"]
REJECTED = 3
"""Exit code of ``--fail-on-rejected`` where a row was refused."""
_CLOCK = re.compile(r"^(?:(?P<name>[^=]+)=)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?:@(?P<days>[1-7]+))?$")


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
        given = {name: getattr(self, name) for name in COLUMNS if name != "rules"}
        if self.signals is not None and self.rules not in RULES:
            given["rules"] = Path(self.rules)
        return {name: path for name, path in given.items() if path is not None}


def run_oee(request: Request, *, form: str, out: Path | None, fail_on_rejected: bool) -> int:
    """Writes elements and ratios of the files. Exit code 0, or 3 where a row was refused and that was asked for."""
    for path in request.paths().values():
        check_output(path, form, out, ("table", "json"))
    document = oee_document(request)
    write(document_json(document) if form == "json" else oee_text(document), out)
    return REJECTED if fail_on_rejected and document["rejected"] else 0


def oee_document(request: Request) -> dict[str, Any]:
    """The document of a study, in the layout of docs/reference/oee.schema.json. Raises SPC-38x, SPC-419 to SPC-424."""
    from spc_platform.report.study import software

    _check_options(request)
    files = {name: read(path, rows_needed=name in ("states", "signals")) for name, path in request.paths().items()}
    tables = {name: typed_rows(name, file, request.zone) for name, file in files.items()}
    shown_rules = _from_machines(request, tables)
    study = state_study(_tables(request, tables), _plan(request))
    elements = with_groups(study.elements, tables.get("equipment"))
    columns = [GROUPS[name] for name in request.by]
    shown = [name for name in elements.columns if name not in ("as_of", "work_center_id", "week")]
    return {
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "files": [{"role": name, "name": file.name, "sha256": file.sha256, "rows": file.rows} for name, file in files.items()],
        "zone": request.zone,
        "as_of": moment(study.as_of),
        "options": {
            "shifts": list(request.shifts),
            "breaks": list(request.breaks),
            "pri_s": request.pri,
            "micro_stop_s": request.micro_stop,
            "by": list(request.by),
        },
        "total": group_rows(elements, [])[0],
        "groups": group_rows(elements, columns) if columns else [],
        "elements": [plain(row) for row in elements.select(shown).to_dicts()],
        "gaps": [plain(row) for row in gaps(study.intervals).to_dicts()],
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
        shown["signal_states"] = [plain(row) for row in states.select(_SIGNAL_STATE).to_dicts()]
        schema = row_schema("states")
        missing_columns = {name: pl.lit(None, dtype=dtype) for name, dtype in schema.items() if name not in states.columns}
        states = states.with_columns(**missing_columns)
        tables["states"] = states.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    if "counters" in tables:
        read_off = tables["counters"]
        missing = pl.any_horizontal(pl.col("equipment_id", "counted_at", "kind", "material_definition_id").is_null())
        _refuse_rows("counters", read_off, missing, "a work unit, a time, a whole reading or none, its kind and a product")
        counts, deltas = rows_of_counts(read_off, maximum=request.counter_maximum)
        shown["counter_deltas"] = [plain(row) for row in deltas]
        tables["counts"] = counts.select(pl.col(name).cast(dtype) for name, dtype in row_schema("counts").items())
    return shown


def _warnings(request: Request, study: StateStudy) -> list[str]:
    found = [*study.warnings]
    late = study.intervals.filter(pl.col("is_open"))["equipment_id"].unique().sort().to_list()
    if late and request.as_of is None:
        found.append(
            f"states of {', '.join(late)} were still open and last until {moment(study.as_of)}, the end of the newest shift; "
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
    counts = tables.get("counts", pl.DataFrame(schema=row_schema("counts")))
    if "equipment_id" in counts.columns and "equipment" not in tables and _only_unit(tables["states"]):
        # a file without the column speaks of the one unit that the states name
        counts = counts.with_columns(pl.col("equipment_id").replace({ONLY_UNIT: tables["states"]["equipment_id"][0]}))
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
