"""The verb `oee`: OEE from files of states, counts and a calendar. Heavy imports happen inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_FILES = "Files (CSV, Parquet or XLSX)"
_CALENDAR = "Calendar"
_RULES = "Rules"
_OUT = "Output"


def _option(text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


def oee(
    states: Annotated[
        Path | None, _option("States: equipment_id, state, start_at, end_at, reason_code, product.", _FILES)
    ] = None,
    counts: Annotated[Path | None, _option("Counts: equipment_id, counted_at, good, scrap, rework, product.", _FILES)] = None,
    signals: Annotated[
        Path | None, _option("Instead of states, what machines say: equipment_id, signal, value, at.", _FILES)
    ] = None,
    counters: Annotated[
        Path | None,
        _option("Instead of counts, readings of cumulative counters: equipment_id, at, value, kind, product.", _FILES),
    ] = None,
    calendar: Annotated[
        Path | None,
        _option("Dated shifts, breaks, holidays, planned maintenance: kind, shift_id, start_at, end_at, recorded_at.", _FILES),
    ] = None,
    products: Annotated[
        Path | None, _option("Ideal cycles: product, pri_s, perhaps equipment_id, effective_from.", _FILES)
    ] = None,
    orders: Annotated[Path | None, _option("Which product when: equipment_id, product, start_at, end_at.", _FILES)] = None,
    equipment: Annotated[Path | None, _option("Work units that exist: equipment_id, perhaps work_center_id.", _FILES)] = None,
    state_map: Annotated[
        Path | None, _option("What states mean: source_state, state, time_element, priority.", _FILES, "--state-map")
    ] = None,
    reasons: Annotated[Path | None, _option("What reasons mean: reason_code, time_element.", _FILES)] = None,
    shift: Annotated[
        list[str] | None, _option("[NAME=]06:00-14:00\\[@12345] on the clock of --zone; may be repeated.", _CALENDAR, "--shift")
    ] = None,
    pause: Annotated[
        list[str] | None, _option("[SHIFT=]10:00-10:30, a planned break; may be repeated.", _CALENDAR, "--break")
    ] = None,
    zone: Annotated[str, _option("IANA zone of shifts, dates and times without offset.", _CALENDAR)] = "UTC",
    as_of: Annotated[
        str | None, _option("When the study looks (end of the shift with the newest row).", _CALENDAR, "--as-of")
    ] = None,
    pri: Annotated[float | None, _option("Ideal cycle of every product in seconds.", _RULES)] = None,
    micro_stop: Annotated[float, _option("A shorter stop is a minor stoppage, in seconds.", _RULES, "--micro-stop")] = 300.0,
    rules: Annotated[str, _option("How signals make states: mtconnect, opc_40001, or a file of rules.", _RULES)] = "mtconnect",
    debounce: Annotated[float, _option("A state from signals that lasts less is merged, in seconds.", _RULES)] = 0.0,
    silence: Annotated[float | None, _option("After that many seconds without a word a unit is UNKNOWN.", _RULES)] = None,
    counter_maximum: Annotated[
        float | None, _option("The largest reading of the counters, after which they show 0.", _RULES, "--counter-maximum")
    ] = None,
    by: Annotated[str, _option("Groups: shift, product, unit, line, date, week; comma separated.", _OUT)] = "",
    form: Annotated[str, _option("table or json.", _OUT, "--format")] = "table",
    out: Annotated[Path | None, _option("File to write (standard output).", _OUT)] = None,
    fail_on_rejected: Annotated[bool, _option("Exit with 3 when a row was refused.", _OUT, "--fail-on-rejected")] = False,
) -> None:
    """Time elements and OEE (ISO 22400-2 and TPM) from states, counts and a calendar in files."""
    from spc_platform.cli.oee_file import Request, run_oee

    request = Request(
        states=states, counts=counts, calendar=calendar, products=products, orders=orders, equipment=equipment,
        state_map=state_map, reasons=reasons, shifts=tuple(shift or ()), breaks=tuple(pause or ()), zone=zone, as_of=as_of,
        pri=pri, micro_stop=micro_stop, by=tuple(name.strip() for name in by.split(",") if name.strip()),
        signals=signals, rules=rules, debounce=debounce, silence=silence, counters=counters, counter_maximum=counter_maximum,
    )  # fmt: skip
    raise typer.Exit(run_oee(request, form=form, out=out, fail_on_rejected=fail_on_rejected))


def register(app: typer.Typer) -> None:
    """Adds the verb to the command."""
    app.command()(oee)
