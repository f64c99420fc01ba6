"""Files that measuring machines of the plant drop: CSV, XLSX, Parquet and DFQ, with what goes wrong in folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl

from spc_platform.plant.process import ZONE
from spc_platform.plant.simulation import Plant

FORMS = {"csv": ("A10", "B10"), "xlsx": ("A20", "B20"), "parquet": ("A30", "B30"), "dfq": ("A40", "B40")}
"""Format -> stations whose measurements come in it."""
FAULTS = ("half_written", "renamed", "rewritten", "copied")
"""One for each file in turn; ``DropFolder`` says what each does."""
MARKER = ".done"
COLUMNS = {
    "record_id": "id",
    "characteristic_id": "characteristic",
    "equipment_id": "station",
    "measured_at": "measured_at",
    "value": "value",
    "unit": "unit",
    "serial_number": "serial",
    "material_lot_id": "lot",
    "job_order_id": "order",
}
"""Canonical column -> column of the tables. A DFQ names its records by file and place, and has no order."""

_WRONG_BY = 1.0
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A station's file of one production date. ``earlier`` is what it held before its first value was corrected."""

    name: str
    form: str
    fault: str
    records: pl.DataFrame
    earlier_records: pl.DataFrame

    @property
    def body(self) -> bytes:
        return _WRITERS[self.form](self.records)

    @property
    def earlier(self) -> bytes:
        return _WRITERS[self.form](self.earlier_records)


class DropFolder:
    """A folder into which the files of a production date come in two steps. A marker beside a file says that it is whole.

    ``half_written``: half of the bytes under the final name, the marker only when the rest is there. ``renamed``: the whole
    under a name that ends in ``.tmp``, renamed later. ``rewritten``: one wrong value, corrected under the same name later.
    ``copied``: the whole, and once more under another name.
    """

    def __init__(self, folder: Path, plant: Plant, production_date: date) -> None:
        self.folder = folder
        self.files = dropped_files(plant, production_date)

    def begin(self) -> pl.DataFrame:
        """Write the first step; gives the records that may be read now."""
        for file in self.files:
            body = file.body
            if file.fault == "half_written":
                (self.folder / file.name).write_bytes(body[: len(body) // 2])
            elif file.fault == "renamed":
                (self.folder / f"{file.name}.tmp").write_bytes(body)
            elif file.fault == "rewritten":
                self._whole(file.name, file.earlier)
            else:
                self._whole(file.name, body)
                self._whole(f"copy of {file.name}", body)
        return _truth([(file, file.earlier_records) for file in self.files if file.fault in ("rewritten", "copied")])

    def finish(self) -> pl.DataFrame:
        """Write the rest; gives the records that are true."""
        for file in self.files:
            if file.fault == "renamed":
                (self.folder / f"{file.name}.tmp").rename(self.folder / file.name)
                (self.folder / f"{file.name}{MARKER}").touch()
            elif file.fault != "copied":
                self._whole(file.name, file.body)
        return _truth([(file, file.records) for file in self.files])

    def _whole(self, name: str, body: bytes) -> None:
        (self.folder / name).write_bytes(body)
        (self.folder / f"{name}{MARKER}").touch()


def dropped_files(plant: Plant, production_date: date) -> list[DroppedFile]:
    """Files of every station, in the order of their names; which fault each shows changes from date to date."""
    records = plant.records("measurements", production_date).sort("id", "rev").unique("id", keep="last", maintain_order=True)
    bad = plant.day("measurements", production_date).truth["bad_records"]["record_id"]
    told = records.filter(~pl.col("id").is_in(bad.implode()) & ~pl.col("deleted")).select(COLUMNS.values())
    files = []
    for number, (form, station) in enumerate((form, each) for form, stations in FORMS.items() for each in stations):
        own = told.filter(pl.col("station") == station).sort("measured_at", "id")
        fault = FAULTS[(number + production_date.toordinal()) % len(FAULTS)]
        first = pl.int_range(pl.len()) == 0
        wrong = own.with_columns(value=pl.when(first).then(pl.col("value") + _WRONG_BY).otherwise("value"))
        earlier = wrong if fault == "rewritten" else own
        files.append(DroppedFile(f"{station}-{production_date:%Y%m%d}.{form}", form, fault, own, earlier))
    return sorted(files, key=lambda file: file.name)


def _truth(files: list[tuple[DroppedFile, pl.DataFrame]]) -> pl.DataFrame:
    """Records as the lake should have them: ``COLUMNS`` by their canonical names, times in UTC."""
    frames = []
    for file, records in files:
        renamed = records.rename({own: name for name, own in COLUMNS.items()})
        if file.form == "dfq":
            named = pl.format(
                "{}:{}:{}", pl.lit(file.name), _index(records), pl.int_range(1, pl.len() + 1).over("characteristic_id")
            )
            renamed = renamed.with_columns(record_id=named, job_order_id=pl.lit(None, pl.String))
        frames.append(renamed.select(*COLUMNS))
    return (
        pl.concat(frames).with_columns(pl.col("measured_at").str.to_datetime(time_unit="us", time_zone="UTC")).sort("record_id")
    )


def _index(records: pl.DataFrame) -> pl.Series:
    """Place of each record's characteristic among those of the file, from 1."""
    names = records["characteristic"].unique().sort()
    return records["characteristic"].replace_strict(names, pl.Series(range(1, names.len() + 1)), return_dtype=pl.Int64)


def _csv(records: pl.DataFrame) -> bytes:
    return records.write_csv().encode()


def _parquet(records: pl.DataFrame) -> bytes:
    body = io.BytesIO()
    records.with_columns(pl.col("measured_at").str.to_datetime(time_unit="us", time_zone="UTC")).write_parquet(
        body, row_group_size=100
    )
    return body.getvalue()


def _dfq(records: pl.DataFrame) -> bytes:
    """Odd values as K-fields, even ones in condensed lines, with decimal commas and the plant's local times."""
    names = records.group_by("characteristic").agg(pl.col("unit").first()).sort("characteristic")
    lines = [f"K0100 {names.height}", f"K1001/1 {records['station'][0]}"]
    for index, (name, unit) in enumerate(names.iter_rows(), start=1):
        lines += [f"K2001/{index} {name}", f"K2142/{index} {unit}"]
    local = records["measured_at"].str.to_datetime(time_zone="UTC").dt.convert_time_zone(str(ZONE))
    times, places = local.dt.strftime("%d.%m.%Y/%H:%M:%S%.3f"), _index(records)
    values = zip(places, records["value"], times, records["lot"], records["serial"], strict=True)
    for number, (place, value, at, lot, serial) in enumerate(values):
        text = str(value).replace(".", ",")
        if number % 2:
            lines += [f"K0001/{place} {text}", f"K0002/{place} 0", f"K0004/{place} {at}", f"K0006/{place} {lot}"]
        else:
            groups = [""] * names.height
            groups[place - 1] = f"{text}\x140\x14{at}\x14\x14{lot}"
            lines.append("\x0f".join(groups))
        lines.append(f"K0014/{place} {serial}")
    return "\r\n".join([*lines, ""]).encode("cp1252")


def _xlsx(records: pl.DataFrame) -> bytes:
    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"<c><v>{value!r}</v></c>"
        return "<c/>" if value is None else f'<c t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'

    rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in [tuple(records.columns), *records.iter_rows()])
    sheet = f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>'
    kind, document = f"{_PACKAGE}/content-types", "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{kind}"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{document}.sheet.main+xml"/>'
        f'<Override PartName="/xl/sheet.xml" ContentType="{document}.worksheet+xml"/></Types>',
        "_rels/.rels": _relation("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="Results" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation("worksheet", "sheet.xml"),
        "xl/sheet.xml": sheet,
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return body.getvalue()


def _relation(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{_OFFICE}/{kind}" Target="{target}"/></Relationships>'
    )


_WRITERS: dict[str, Callable[[pl.DataFrame], bytes]] = {"csv": _csv, "dfq": _dfq, "parquet": _parquet, "xlsx": _xlsx}
