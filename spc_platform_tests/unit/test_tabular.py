"""CSV and XLSX: column maps, layouts, and cells or pages that cannot be read."""

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.parquet import TooLargeError, parquet_cells
from spc_platform.sources.tabular import decode
from spc_platform.sources.workbook import read_sheet

LONG = b"""\
at,station,name,result,serial
2026-03-02T06:00:00Z,S1,bore,41.99,1
2026-03-02T07:00:00+01:00,S1,bore,42.01,2
"""
FIELDS = {"measured_at": "at", "equipment_id": "station", "characteristic_id": "{station}.{name}", "value": "result"}


def resource(
    fields: dict[str, str] | None = None, form: Literal["csv", "xlsx"] = "csv", zone: str | None = None, **options: object
) -> Resource:
    fields = FIELDS if fields is None else fields
    return Resource("t", ("raw_measurement",), form, fields=fields, zone=zone, options=options)


def workbook(rows: list[list[str | None]]) -> bytes:
    """The smallest XLSX that holds texts."""

    def cell(column: int, row: int, text: str | None) -> str:
        return "" if text is None else f'<c r="{chr(65 + column)}{row}" t="inlineStr"><is><t>{text}</t></is></c>'

    lines = "".join(
        f'<row r="{number}">{"".join(cell(column, number, text) for column, text in enumerate(row))}</row>'
        for number, row in enumerate(rows, start=1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/s.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        '<sheet name="Results" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/worksheet" Target="s.xml"/></Relationships>',
        "xl/s.xml": f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>',
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def with_row(cells: str, header: Sequence[str] = ("result", "part")) -> bytes:
    """A workbook whose second row has the given XML cells, as spreadsheets store numbers and failed formulas."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook([[*header]]))) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).decode().replace("</sheetData>", f'<row r="2">{cells}</row></sheetData>'))
    return written.getvalue()


def test_columns_are_mapped_filled_and_typed() -> None:
    rows = decode(resource(constants={"unit": "mm"}, record_id="x"), "raw_measurement", LONG)
    assert rows["characteristic_id"].to_list() == ["S1.bore", "S1.bore"]
    assert rows["measured_at"].to_list() == [datetime(2026, 3, 2, 6, tzinfo=UTC)] * 2
    assert rows["value"].to_list() == [41.99, 42.01]
    assert rows["unit"].to_list() == ["mm", "mm"]
    assert rows["record_id"].n_unique() == 2
    assert rows["decode_error"].null_count() == 2


def test_a_file_that_grew_repeats_its_rows_under_their_names_and_equal_rows_stay_apart() -> None:
    twice = LONG + LONG.splitlines(keepends=True)[-1]
    before, after = (decode(resource(), "raw_measurement", body) for body in (twice, twice + b"2026-03-03,S1,bore,42,9\n"))
    assert before["record_id"].n_unique() == 3
    assert after.head(3).equals(before)
    assert after["record_id"].n_unique() == 4


def test_an_empty_cell_where_the_identity_stands_is_named_and_costs_no_other_row() -> None:
    fields = FIELDS | {"record_id": "result"}
    rows = decode(resource(fields), "raw_measurement", LONG.replace(b"41.99", b""))
    assert rows["decode_error"].to_list() == ["record_id:MISSING", None]
    assert rows["record_id"][0].startswith("unnamed-")
    assert rows["record_id"][1] == "42.01"


def test_a_time_without_zone_is_read_in_the_declared_zone_or_named() -> None:
    local = LONG.replace(b"2026-03-02T06:00:00Z", b"2026-03-29T02:30:00").replace(b"07:00:00+01:00", b"07:00:00.5")
    without = decode(resource(), "raw_measurement", local)
    assert without["decode_error"].to_list() == ["measured_at:NO_ZONE"] * 2
    rows = decode(resource(zone="Europe/Berlin"), "raw_measurement", local)
    assert rows["measured_at"][1] == datetime(2026, 3, 2, 6, 0, 0, 500000, tzinfo=UTC)
    assert rows["decode_error"].to_list() == ["measured_at:NONEXISTENT_LOCAL_TIME", None]


def test_a_cell_that_does_not_fit_is_empty_named_and_kept_with_its_row() -> None:
    body = LONG.replace(b"41.99", b"41,99".replace(b",", b";"))
    row = decode(resource(), "raw_measurement", body).row(0, named=True)
    assert (row["value"], row["decode_error"]) == (None, "value:NOT_A_NUMBER")
    assert row["raw_record"] == "2026-03-02T06:00:00Z|S1|bore|41;99|1"


def test_one_row_with_too_many_cells_does_not_cost_the_others() -> None:
    rows = decode(resource(), "raw_measurement", LONG + b"2026-03-02T08:00:00Z,S1,bore,42.02,3,extra\n")
    assert rows["decode_error"].to_list() == [None, None, "row:HAS_6_CELLS_NOT_5"]
    assert rows["value"].to_list() == [41.99, 42.01, 42.02]


def test_a_page_that_lacks_a_column_is_one_row_that_says_so() -> None:
    row = decode(resource(), "raw_measurement", b"at,station\n2026-03-02T06:00:00Z,S1\n").row(0, named=True)
    assert row["decode_error"] == "page:MISSING_COLUMN (name; the page has at, station)"


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_body_that_is_no_table_is_one_row_that_says_so(form: Literal["csv", "xlsx"]) -> None:
    row = decode(resource(form=form), "raw_measurement", b"").row(0, named=True)
    assert row["decode_error"].startswith(f"page:NOT_{form.upper()}")


def test_a_wide_table_gives_one_row_per_characteristic_that_has_a_value() -> None:
    body = b"at,serial,bore,width\n2026-03-02T06:00:00Z,7,41.99,3.2\n2026-03-02T06:05:00Z,8,,3.1\n"
    fields = {"measured_at": "at", "serial_number": "serial", "characteristic_id": "{characteristic}", "value": "value"}
    rows = decode(resource(fields, layout="wide", id_columns=["at", "serial"]), "raw_measurement", body)
    assert sorted(rows.select("serial_number", "characteristic_id", "value").rows()) == [
        ("7", "bore", 41.99),
        ("7", "width", 3.2),
        ("8", "width", 3.1),
    ]


def test_rows_of_other_resources_are_filtered_and_numbers_padded() -> None:
    body = LONG + b"2026-03-02T08:00:00Z,S2,bore,42.02,3\n"
    fields = FIELDS | {"serial_number": "P-{serial}"}
    rows = decode(resource(fields, filter={"station": "S2"}, number_formats={"serial": "03d"}), "raw_measurement", body)
    assert rows["serial_number"].to_list() == ["P-003"]


REPORT: list[list[str | None]] = [
    [None, "Example report"],
    ["Features", "PART_A01_X", "PART_A02_X", "Nominal", "Pp"],
    ["CYLINDER1", " ", " ", " ", " "],
    ["DIAMETER4", "4.486", "4.493", "4.5", "13.8"],
    ["ROUNDNESS", "0.01", "bad", "0", "2"],
    ["DS002", " ", " ", " ", " "],
    ["DISTANCE3", "18.27", "18.28", "18.27", "36"],
]


def test_a_report_matrix_gives_each_part_its_characteristics() -> None:
    fields = {
        "characteristic_id": "p.{characteristic}",
        "record_id": "{sample}:{characteristic}",
        "serial_number": "P-{serial}",
        "value": "value",
    }
    options = {
        "layout": "matrix",
        "sheet": "Results",
        "header_cell": "Features",
        "sample_pattern": r"_A(\d+)_",
        "feature_only": "^DISTANCE",
        "lists": {"measured_at": ["2017-02-06T12:44:53Z", "2017-02-06T12:53:36Z"]},
    }
    rows = decode(resource(fields, "xlsx", **options), "raw_measurement", workbook(REPORT))
    assert rows.select("record_id", "serial_number", "value").rows() == [
        ("01:CYLINDER1.DIAMETER4", "P-01", 4.486),
        ("01:CYLINDER1.ROUNDNESS", "P-01", 0.01),
        ("01:DS002", "P-01", 18.27),
        ("02:CYLINDER1.DIAMETER4", "P-02", 4.493),
        ("02:CYLINDER1.ROUNDNESS", "P-02", None),
        ("02:DS002", "P-02", 18.28),
    ]
    assert rows["decode_error"].to_list() == [None, None, None, None, "value:NOT_A_NUMBER", None]
    assert rows["measured_at"][3] == datetime(2017, 2, 6, 12, 53, 36, tzinfo=UTC)


@pytest.mark.parametrize("text", ["0.30000000000000004", "1e-12", "1000000000.001"])
def test_a_workbook_keeps_every_digit_of_its_numbers(text: str) -> None:
    rows = decode(resource({"value": "result"}, "xlsx"), "raw_measurement", with_row(f'<c r="A2"><v>{text}</v></c>'))
    assert rows["value"].to_list() == [float(text)]
    assert rows["decode_error"].to_list() == [None]


@pytest.mark.parametrize("attributes", ['r="A2" t="e"', 's="3" r="A2" t="e"', 't="e" r="A2" s="3"'])
def test_a_failed_formula_is_no_empty_cell(attributes: str) -> None:
    body = with_row(f'<c {attributes}><f>1/0</f><v>#DIV/0!</v></c><c r="B2" t="inlineStr"><is><t>A</t></is></c>')
    rows = decode(resource({"value": "result", "serial_number": "part"}, "xlsx"), "raw_measurement", body)
    assert rows.select("value", "serial_number", "decode_error").row(0) == (None, "A", "value:NOT_A_NUMBER")
    assert "#DIV/0!" in rows["raw_record"][0]
    assert read_sheet(body).failed == [("A2", "#DIV/0!")]


def test_a_report_without_its_header_is_one_row_that_says_so() -> None:
    options = {"layout": "matrix", "header_cell": "Merkmale", "sample_pattern": r"_A(\d+)_"}
    row = decode(resource({}, "xlsx", **options), "raw_measurement", workbook(REPORT)).row(0, named=True)
    assert row["decode_error"] == "page:MISSING_COLUMN (Merkmale)"


def test_whole_numbers_and_flags_are_read_for_other_tables() -> None:
    body = (
        b"order,line,product,planned,start,void\nO-1,L1,HSG,10,2026-03-02T06:00:00Z,Yes\nO-2,L1,HSG,1.5,2026-03-02T06:00:00Z,\n"
    )
    fields = {"job_order_id": "order", "planned_quantity": "planned", "start_at": "start", "is_deleted": "void"}
    rows = decode(Resource("o", ("raw_work_order",), "csv", fields=fields), "raw_work_order", body)
    assert rows["planned_quantity"].to_list() == [10, None]
    assert rows["decode_error"].to_list() == [None, "planned_quantity:NOT_A_WHOLE_NUMBER"]
    assert rows["is_deleted"].to_list() == [True, False]
    assert rows["end_at"].dtype == pl.Datetime("us", "UTC")


def test_an_unknown_layout_is_a_mistake_of_the_site() -> None:
    with pytest.raises(ContractError, match="layout 'tall' is none of long, wide, matrix"):
        decode(resource(layout="tall"), "raw_measurement", LONG)


def test_a_parquet_file_is_read_row_group_by_row_group_with_every_digit() -> None:
    body = io.BytesIO()
    at = [datetime(2026, 3, 2, 7, minute, 0, 123456, tzinfo=UTC) for minute in range(3)]
    frame = pl.DataFrame({"part": ["a", "b", "c"], "at": at, "result": [0.1, 1 / 3, None]})
    frame.write_parquet(body, row_group_size=1)
    found = Resource(
        "lab", ("raw_measurement",), "parquet", fields={"record_id": "part", "measured_at": "at", "value": "result"}
    )
    rows = decode(found, "raw_measurement", body.getvalue())
    assert rows["value"].to_list() == [0.1, 1 / 3, None]
    assert rows["measured_at"].to_list() == at
    assert rows["record_id"].to_list() == ["a", "b", "c"]


def test_a_damaged_parquet_file_is_one_row_that_says_so() -> None:
    table = pa.table({"result": pa.array(range(1000), pa.float64())})
    written = io.BytesIO()
    pq.write_table(table, written, write_page_checksum=True, compression="none", use_dictionary=False)
    body = bytearray(written.getvalue())
    body[4000] ^= 1
    found = Resource("lab", ("raw_measurement",), "parquet", fields={"value": "result"})
    for damaged in (bytes(body), written.getvalue()[:-20]):
        rows = decode(found, "raw_measurement", damaged)
        assert rows.height == 1
        assert rows["decode_error"][0].startswith("page:NOT_PARQUET")


def test_a_parquet_file_that_unpacks_to_too_much_is_not_read() -> None:
    body = io.BytesIO()
    pl.DataFrame({"result": [0.0] * 10_000}).write_parquet(body)
    with pytest.raises(TooLargeError, match="more than 1000"):
        parquet_cells(body.getvalue(), limit=1000)


def test_a_workbook_that_unpacks_to_far_more_than_it_is_is_not_unpacked() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (100 << 20))
    rows = decode(resource(FIELDS, "xlsx"), "raw_measurement", bomb.getvalue())
    assert rows["decode_error"][0].startswith("page:NOT_XLSX (TooLargeError: ")
