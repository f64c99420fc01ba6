"""Writes characteristics.csv, specifications.csv, streams.csv and sources.toml of this site from the public data sets.

Run it again when a study is added: ``python data/nist/make_tables.py FOLDER_OF_DATA_SETS``. The tolerances
come from the QIF files, the times of the parts from the logs of their last operation.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from spc_platform.cli.fetch import ROUTE_LIST, route_list
from spc_platform.sources.mtconnect import adapter_lines
from spc_platform.sources.qif import specifications

HERE = Path(__file__).resolve().parent
PARTS = "nist-mtc-box-assembly"
TEST_BED = "nist-smstestbed-week-2017-05-01"
WEEK = "raw-8-machines-20170501-20170507.tar.gz"
SPECIFIED_FROM = "2017-01-01"
RESOLUTION = 0.001
"""Results are written with three decimals of a millimetre or a degree."""

HURCO = {"Feed_Rate": ("mm/s", "Path feed rate"), "Spindle_Speed": ("rpm", "Spindle speed")}
MAZAK = {
    "Fact": ("mm/s", "Path feed rate"),
    "Srpm": ("rpm", "Spindle speed"),
    "Xload": ("%", "Load of axis X"),
    "Zload": ("%", "Load of axis Z"),
    "Stemp": ("degC", "Temperature of the spindle"),
}
MACHINES: dict[str, tuple[str, dict[str, tuple[str, str]], float]] = {
    "GFAgie01": ("execution", {}, 10),
    "Hurco01": ("Program_Status", HURCO, 5),
    "Hurco02": ("Program_Status", {}, 5),
    "Hurco03": ("Program_Status", {}, 5),
    "Hurco04": ("Program_Status", HURCO, 5),
    "Hurco06": ("Program_Status", {}, 5),
    "Mazak01": ("execution", MAZAK, 10),
    "Mazak03": ("execution", MAZAK, 10),
}
"""Machine -> item of its state, streams (those that say anything that week), spacing of their grid in seconds."""


@dataclass(frozen=True)
class Study:
    """The results of one kind of part in one laboratory."""

    part: str
    laboratory: str
    file: str
    glob: str


STUDIES = (
    Study("plate", "mtc", "PlateResults_20_samples.QIF", "PlateResults_20_samples.QIF"),
    Study("cover", "mtc", "CoverResults_20_samples.QIF", "CoverResults_20_samples.QIF"),
    Study("plate", "fair", "7_11_2017 9_16_18 AM Plate_Results.qif", "7_11_2017*Plate_Results.qif"),
    Study("cover", "fair", "7_18_2017 9_24_30 AM Cover_Results.qif", "7_18_2017*Cover_Results.qif"),
)
HURCO_COUNTERS = {"Part_Count": ("1", "Parts counted by the control")}
MAZAK_COUNTERS = {
    "PartCountAct": ("1", "Parts counted by the control"),
    "total_time": ("s", "Seconds that the control was on"),
    "auto_time": ("s", "Seconds in automatic operation"),
    "cut_time": ("s", "Seconds of cutting"),
}
COUNTERS = {"Hurco01": HURCO_COUNTERS, "Mazak01": MAZAK_COUNTERS, "Mazak03": MAZAK_COUNTERS}
"""Cumulative counters of the week, where the machine gave more than one reading; they are held, never interpolated."""
SIGNALS = {"avail": "availability", "mode": "mode", "power": "power"}
"""Signals of every machine of the week beside its execution; a machine that has not got one is silent about it."""
LABORATORIES = {"mtc": "incoming inspection by The MTC", "fair": "first article inspection by NIST and Mitutoyo"}
LAST_OPERATION = {"plate": "Op2", "cover": "Op3"}
EVENTS = {
    "operation_starts": (["raw_segment_event", "raw_work_order_event"], "started", "first_active_utc"),
    "operation_finishes": (["raw_segment_event"], "finished", "last_completed_utc"),
    "order_completions": (["raw_work_order_event"], "completed", "last_completed_utc"),
}
"""Resource that reads the route list -> its tables, what happened, and the column that says when."""
REPORTS = {
    "plate": ("nist_mtc_crada_plate_*_MultiSPC-1.xlsx", "2017-03-07 10:53:08.950"),
    "cover": ("nist_mtc_crada_cover_*_MultiSPC-0.xlsx", "2017-03-20 11:54:50.120"),
}
FAIR_TIMES = {"plate": "2017-07-11T09:16:18-04:00", "cover": "2017-07-18T09:24:30-04:00"}


def main(data: Path) -> None:
    specified = pl.concat([_specified(study, data) for study in STUDIES])
    _write("characteristics", _characteristics(specified))
    _write("specifications", _specifications(specified))
    _write("streams", _streams())
    if not (data / PARTS / ROUTE_LIST).exists():
        route_list(data).write_csv(data / PARTS / ROUTE_LIST)
    text = _parts(data) + _test_bed()
    (HERE / "sources.toml").write_text(text, encoding="utf-8")


def _specified(study: Study, data: Path) -> pl.DataFrame:
    body = (data / PARTS / study.file).read_bytes()
    found = specifications(body, f"{study.part}.{study.laboratory}.").filter(
        ~pl.col("characteristic_id").str.ends_with("Part_Number")
    )
    kind = pl.col("kind").str.replace_all(r"([a-z])([A-Z])", "$1 $2").str.to_lowercase()
    name = pl.col("characteristic_id").str.strip_prefix(f"{study.part}.{study.laboratory}.")
    words = pl.format(f"{study.part.capitalize()}: {{}} {{}}, {LABORATORIES[study.laboratory]}", kind, name)
    return found.with_columns(
        description=words, unit=pl.when(pl.col("kind") == "Angle").then(pl.lit("deg")).otherwise(pl.lit("mm"))
    )


def _characteristics(specified: pl.DataFrame) -> pl.DataFrame:
    return specified.select(
        "characteristic_id",
        "description",
        "unit",
        equipment_id=pl.lit("Hurco04"),
        chart=pl.lit("i_mr"),
        subgrouping=pl.lit("individual"),
        subgroup_size=1,
        estimator=pl.lit("mr"),
        rule_set=pl.lit("western_electric"),
        iqr_multiplier=3.0,
    )


def _specifications(specified: pl.DataFrame) -> pl.DataFrame:
    two_sided = pl.col("lsl").is_not_null() & pl.col("usl").is_not_null()
    return specified.select(
        "characteristic_id",
        "lsl",
        "usl",
        "unit",
        target=pl.when(two_sided).then("target"),
        version=1,
        effective_from=pl.lit(SPECIFIED_FROM),
        effective_to=pl.lit(None, dtype=pl.String),
        resolution=RESOLUTION,
    ).select("characteristic_id", "version", "effective_from", "effective_to", "lsl", "target", "usl", "unit", "resolution")


def _streams() -> pl.DataFrame:
    rows = [
        {
            "stream_id": f"{machine}.{item}",
            "equipment_id": machine,
            "description": f"{words} of {machine}",
            "unit": unit,
            "grid_s": grid_s,
            "hold_below": round(300 / grid_s),
            "interpolate_up_to": 0,
            "imputation": "none",
            "clock_offset_s": 0.0,
            "join_tolerance_s": 60.0,
        }
        for machine, (_, items, grid_s) in MACHINES.items()
        for item, (unit, words) in (items | COUNTERS.get(machine, {})).items()
    ]
    return pl.DataFrame(rows)


def _completions(part: str, data: Path) -> list[str]:
    """When the last operation of each of the twenty parts said that its program was completed."""
    found: dict[str, str] = {}
    with tarfile.open(data / PARTS / f"Split-{part.capitalize()}-Hurco04.tar.gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if LAST_OPERATION[part] in member.name else None
            if content is not None:
                is_end = (pl.col("item") == "Program_Status") & (pl.col("value") == "PROGRAM_COMPLETED")
                at = adapter_lines(content.read()).filter(is_end)["at"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").max()
                found[member.name] = str(at)
    return [found[name] for name in sorted(found)]


def _parts(data: Path) -> str:
    text = (
        "# Written by make_tables.py. One source per data set; roots lie in the folder that SPC_SHARED_DATA names.\n"
        f'[[source]]\nsource_id = "nist_parts"\nkind = "files"\nroot = "{PARTS}"\npoll_s = 300\n'
    )
    for part in ("plate", "cover"):
        options = _machine_options("Hurco04") | {
            "member": "Split/*.txt",
            "required": True,
            "order_pattern": r"(?P<part>Plate|Cover)-Op(?P<operation>\d)-Hurco04-(?P<serial>\d\d)of20",
            "job_order": f"{part.upper()}-{{serial}}-OP{{operation}}",
            "product": f"{part.upper()}-OP{{operation}}",
            "work_center": "hurco04_cell",
            "completed_state": "PROGRAM_COMPLETED",
        }
        tables = ["raw_telemetry", "raw_equipment_state", "raw_work_order", "raw_production_count"]
        text += _resource(
            f"{part}_operations", tables, "mtconnect_adapter", f"Split-{part.capitalize()}-Hurco04.tar.gz", options
        )
    for name, (tables, event_type, column) in EVENTS.items():
        text += _events(name, tables, event_type, column)
    for study in STUDIES:
        text += _study(study, _completions(study.part, data))
    for part, (glob, reported_at) in REPORTS.items():
        text += _report(part, glob, reported_at, _completions(part, data))
    return text


def _events(name: str, tables: list[str], event_type: str, column: str) -> str:
    """Events of parts and orders: the program of an operation first ran, or last completed, on one part."""
    fields = {
        "record_id": f"{{part_type}}-{{serial}}-{{operation}}-{event_type}",
        "job_order_id": "{part_type}-{serial}-{operation}",
        "material_definition_id": "part_type",
        "occurred_at": column,
    }
    constants: dict[str, object] = {"event_type": event_type}
    if "raw_segment_event" in tables:
        fields |= {"item_id": "{part_type}-{serial}", "segment_id": "{part_type}-{operation}"}
        constants |= {"item_kind": "serial", "quantity": 1, "equipment_id": "Hurco04"}
    if "raw_work_order_event" in tables:
        constants |= {"work_center_id": "hurco04_cell", "planned_quantity": 1}
    options = {"number_formats": {"serial": "02d"}, "constants": constants}
    return _resource(name, tables, "csv", ROUTE_LIST, options, fields)


def _orders(part: str) -> list[str]:
    return [f"{part.upper()}-{serial:02d}-{LAST_OPERATION[part].upper()}" for serial in range(1, 21)]


def _study(study: Study, made_at: list[str]) -> str:
    options: dict[str, object] = {
        "required": True,
        "prefix": f"{study.part}.{study.laboratory}.",
        "equipment_id": "Hurco04",
        "serial_format": f"{study.part.upper()}-{{:02d}}",
        "made_at": made_at,
        "job_orders": _orders(study.part),
    }
    if study.laboratory == "mtc":
        # revision 2: the capability report prints the same results with fewer digits
        serials = [f"{study.part.upper()}-{serial:02d}" for serial in range(1, 21)]
        options |= {"serial_pattern": r"_RESULTS_A(\d+)_", "serials": serials, "revision": 2}
        return _resource(f"{study.part}_incoming", ["raw_measurement"], "qif", study.glob, options, zone="Europe/London")
    options |= {
        "serial_characteristic": "Part Number",
        "unit": "mm",
        "angular_unit": "deg",
        "reported_at": FAIR_TIMES[study.part],
    }
    return _resource(f"{study.part}_first_article", ["raw_measurement"], "qif", study.glob, options)


def _report(part: str, glob: str, reported_at: str, made_at: list[str]) -> str:
    prefix = f"{part}.mtc."
    options: dict[str, object] = {
        "required": True,
        "layout": "matrix",
        "sheet": "Sheet10",
        "header_cell": "Features",
        "sample_pattern": r"_RESULTS_A(\d+)_",
        "feature_only": "^DISTANCEBETWEEN",
        "constants": {"unit": "mm", "equipment_id": "Hurco04", "revision": 1, "updated_at": reported_at},
        "lists": {"measured_at": made_at, "job_order_id": _orders(part)},
    }
    fields = {
        "record_id": f"{prefix}{{sample}}:{{characteristic}}",
        "characteristic_id": f"{prefix}{{characteristic}}",
        "serial_number": f"{part.upper()}-{{serial}}",
        "value": "value",
    }
    return _resource(f"{part}_capability_report", ["raw_measurement"], "xlsx", glob, options, fields, zone="Europe/London")


def _test_bed() -> str:
    text = f'\n[[source]]\nsource_id = "nist_test_bed"\nkind = "files"\nroot = "{TEST_BED}"\npoll_s = 300\n'
    for machine, (_, streams, _) in MACHINES.items():
        options = _machine_options(machine, COUNTERS.get(machine, {})) | {
            "signals": {MACHINES[machine][0]: "execution"} | SIGNALS,
            "log_order": True,
            "member": f"{machine}-*.txt",
            "required": True,
            "window_pattern": r"-(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)-\d{8}\.txt$",
            "window_from_first_fresh": True,
        }
        tables = ["raw_telemetry", "raw_signal_event"] if streams else ["raw_signal_event"]
        text += _resource(f"{machine.lower()}_adapter", tables, "mtconnect_adapter", WEEK, options)
    return text


def _machine_options(machine: str, counters: Mapping[str, tuple[str, str]] | None = None) -> dict[str, object]:
    state_item, streams, _ = MACHINES[machine]
    streams = streams | dict(counters or {})
    options: dict[str, object] = {"equipment_id": machine, "state_item": state_item}
    if streams:
        options["streams"] = {item: f"{machine}.{item}" for item in streams}
        options["units"] = {item: unit for item, (unit, _) in streams.items()}
    return options


def _resource(
    name: str,
    tables: list[str],
    form: str,
    path: str,
    options: dict[str, object],
    fields: dict[str, str] | None = None,
    zone: str | None = None,
) -> str:
    keys = {"name": name, "tables": tables, "format": form, "path": path, "mutable": False}
    text = "\n[[source.resource]]\n" + _toml(keys | ({"zone": zone} if zone else {}))
    if fields:
        text += "\n[source.resource.fields]\n" + _toml(fields)
    return text + "\n[source.resource.options]\n" + _toml(options)


def _toml(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_literal(value)}\n" for key, value in values.items())


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'" if "\\" in value else f'"{value}"'
    if isinstance(value, list):
        items = [_literal(item) for item in value]
        return "[\n" + "".join(f"  {item},\n" for item in items) + "]" if len(items) > 4 else f"[{', '.join(items)}]"
    if isinstance(value, dict):
        return _inline(value)
    return str(value)


def _inline(values: Mapping[str, object]) -> str:
    lists = any(isinstance(value, list) for value in values.values())
    pairs = [f"{key} = {_literal(value) if not lists else _flat(value)}" for key, value in values.items()]
    return "{ " + ", ".join(pairs) + " }"


def _flat(value: object) -> str:
    return "[" + ", ".join(map(_literal, value)) + "]" if isinstance(value, list) else _literal(value)


def _write(name: str, frame: pl.DataFrame) -> None:
    frame.write_csv(HERE / f"{name}.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
