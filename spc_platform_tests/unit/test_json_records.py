"""JSON records become typed rows; what cannot be read is named, kept and never guessed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.errors import ContractError, SiteError
from spc_platform.site.model import Resource
from spc_platform.sources.decode import decode

FIELDS = {
    "record_id": "id",
    "revision": "rev",
    "is_deleted": "deleted",
    "characteristic_id": "characteristic",
    "equipment_id": "station",
    "serial_number": "serial",
    "subgroup_key": "sample",
}
GOOD = {
    "id": "M1",
    "rev": 2,
    "updated_at": "2026-11-02T07:00:01.5+01:00",
    "deleted": False,
    "characteristic": "BORE",
    "station": "CNC1",
    "measured_at": "2026-11-02T06:00:00.123456Z",
    "value": 12.5,
    "unit": "mm",
    "serial": "S1",
    "sample": None,
    "operator": "ignored",
}
NAMES = ["page_row", "record_id", "revision", "updated_at", "is_deleted", "decode_error", "raw_record"]


def resource(**changes: Any) -> Resource:
    return Resource("measurements", ("raw_measurement",), "json_records", **({"records": "data", "fields": FIELDS} | changes))


def rows(*records: str, **changes: Any) -> pl.DataFrame:
    return decode(
        resource(**changes), "raw_measurement", b'{"data": [' + ", ".join(records).encode() + b'], "next_cursor": null}'
    )


def row(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


def with_token(field: str, token: str) -> str:
    """The good record with a bare token that no JSON writer would produce."""
    return row(**{field: "@"}).replace('"@"', token)


def test_a_good_record_is_read_in_full() -> None:
    frame = rows(row())
    assert frame.columns == [*NAMES, *(column.name for column in PAYLOAD["raw_measurement"]), "decode_note"]
    assert [frame.schema[column.name] for column in PAYLOAD["raw_measurement"]] == [
        column.dtype for column in PAYLOAD["raw_measurement"]
    ]
    assert frame.row(0, named=True) == {
        "page_row": 0,
        "record_id": "M1",
        "revision": 2,
        "updated_at": datetime(2026, 11, 2, 6, 0, 1, 500_000, tzinfo=UTC),
        "is_deleted": False,
        "decode_error": None,
        "raw_record": None,
        "characteristic_id": "BORE",
        "equipment_id": "CNC1",
        "measured_at": datetime(2026, 11, 2, 6, 0, 0, 123_456, tzinfo=UTC),
        "value": 12.5,
        "unit": "mm",
        "serial_number": "S1",
        "material_lot_id": None,
        "job_order_id": None,
        "subgroup_key": None,
        "decode_note": None,
    }


@pytest.mark.parametrize(
    ("record", "reason", "column"),
    [
        (with_token("value", "NaN"), "value:NOT_FINITE", "value"),
        (with_token("value", "-Infinity"), "value:NOT_FINITE", "value"),
        (with_token("value", "1e400"), "value:NOT_FINITE", "value"),
        (with_token("value", "1" + "0" * 400), "value:NOT_FINITE", "value"),
        (row(value="12,5"), "value:NOT_A_NUMBER", "value"),
        (row(value="12.5"), "value:NOT_A_NUMBER", "value"),
        (row(value=True), "value:NOT_A_NUMBER", "value"),
        (row(value=[1]), "value:NOT_A_NUMBER", "value"),
        (row(measured_at="2026-11-02T06:00:00"), "measured_at:TIMESTAMP_WITHOUT_ZONE", "measured_at"),
        (row(measured_at="2026-11-02 06:00:00.25"), "measured_at:TIMESTAMP_WITHOUT_ZONE", "measured_at"),
        (row(measured_at="yesterday"), "measured_at:NOT_A_TIMESTAMP", "measured_at"),
        (row(measured_at="2026-02-30T06:00:00Z"), "measured_at:NOT_A_TIMESTAMP", "measured_at"),
        (row(measured_at=1762063200), "measured_at:NOT_A_TIMESTAMP", "measured_at"),
        (row(measured_at=1.5), "measured_at:NOT_A_TIMESTAMP", "measured_at"),
        (row(measured_at=""), "measured_at:NOT_A_TIMESTAMP", "measured_at"),
        (row(unit={"name": "mm"}), "unit:NOT_A_TEXT", "unit"),
        (row(unit=True), "unit:NOT_A_TEXT", "unit"),
        (with_token("serial", '"\\ud800"'), "serial_number:NOT_UTF8", "serial_number"),
    ],
)
def test_a_field_that_cannot_be_read_is_null_with_its_reason(record: str, reason: str, column: str) -> None:
    frame = rows(row(id="M0"), record, row(id="M2"))
    bad = frame.row(1, named=True)
    assert bad["decode_error"] == reason
    assert bad[column] is None
    assert bad["record_id"] == "M1"
    assert bad["equipment_id"] == "CNC1"
    others = frame.filter(pl.col("page_row") != 1)
    assert others["decode_error"].null_count() == others["raw_record"].null_count() == 2
    assert others["value"].to_list() == [12.5, 12.5]


def test_the_text_of_a_bad_record_is_kept_as_it_was_sent() -> None:
    record = with_token("value", "1e400").replace(", ", " ,\t", 1)
    assert rows(row(id="M0"), record)["raw_record"].to_list() == [None, record]
    naive = row(measured_at="2026-11-02T06:00:00")
    assert rows(row(id="M0"), naive)["raw_record"].to_list() == [None, naive]


def test_every_reason_of_a_record_is_named_in_column_order() -> None:
    frame = rows(row(unit=5.5, value="x", rev="two", updated_at="never", deleted="no"))
    assert frame["decode_error"].to_list() == [
        "revision:NOT_AN_INTEGER;updated_at:NOT_A_TIMESTAMP;is_deleted:NOT_A_BOOLEAN;value:NOT_A_NUMBER;unit:NOT_A_TEXT"
    ]
    assert frame.select("revision", "updated_at", "is_deleted").row(0) == (1, None, False)


@pytest.mark.parametrize("digits", [30, 400, 401, 5000])
def test_an_integer_of_any_length_spoils_its_field_at_most(digits: int) -> None:
    """Python refuses to read integers of more than 4300 digits; polars those of more than 128 bits."""
    number = "7" * digits
    frame = rows(with_token("rev", number), row(id="M2", rev="@").replace('"@"', "2"), with_token("id", number))
    assert frame["decode_error"][0] == "revision:NOT_AN_INTEGER"
    assert frame["decode_error"][1] is None
    assert frame["record_id"][2] == number or frame["decode_error"][2] == "record_id:NOT_A_TEXT"
    value = rows(with_token("value", number))
    assert value["decode_error"].to_list() == ([None] if digits == 30 else ["value:NOT_FINITE"])


@pytest.mark.parametrize("record", ["5", '"text"', "null", "[1, 2]", "NaN"])
def test_a_record_that_is_no_object_is_named_by_its_content(record: str) -> None:
    body = b'{"data": [' + row().encode() + b", " + record.encode() + b"]}"
    frame = decode(resource(), "raw_measurement", body)
    bad = frame.row(1, named=True)
    assert bad["record_id"] == f"unnamed-{hashlib.sha256(json.dumps(json.loads(record)).encode()).hexdigest()[:24]}"
    assert (bad["decode_error"], bad["raw_record"]) == ("record:NOT_AN_OBJECT", record)
    assert frame["record_id"][0] == "M1"


@pytest.mark.parametrize("identity", [None, ""])
def test_a_record_without_identity_is_named_by_what_it_says(identity: str | None) -> None:
    frame = rows(row(id="M0"), row(id=identity))
    elsewhere = rows(row(id=identity), row(id=identity, value=3.0), row(id="M9", value="NaN").replace('"NaN"', "NaN"))
    assert frame["record_id"][1] == elsewhere["record_id"][0]
    assert frame["record_id"][1].startswith("unnamed-")
    assert frame["record_id"].n_unique() + elsewhere["record_id"].n_unique() == 5
    assert frame["decode_error"].to_list() == [None, "record_id:MISSING"]
    assert frame["value"].to_list() == [12.5, 12.5]


def test_a_missing_value_is_null_without_a_reason() -> None:
    record = {name: value for name, value in GOOD.items() if name not in ("value", "unit", "rev", "deleted", "updated_at")}
    frame = rows(json.dumps(record))
    expected = ("M1", 1, None, False, None, None, None)
    assert frame.select("record_id", "revision", "updated_at", "is_deleted", "value", "unit", "decode_error").row(0) == expected


def test_a_number_serves_as_identity_text() -> None:
    frame = rows(row(id=4711, serial=12), row(id="M2"))
    assert frame.select("record_id", "serial_number").rows() == [("4711", "12"), ("M2", "S1")]
    assert frame["decode_error"].null_count() == 2


def test_local_times_need_the_zone_that_the_site_declares() -> None:
    times = ["2026-11-02T07:00:00", "2026-10-25T02:30:00", "2026-03-29T02:30:00", "2026-11-02T07:00:00Z"]
    frame = rows(*(row(id=f"M{number}", measured_at=at) for number, at in enumerate(times)), zone="Europe/Berlin")
    assert frame["measured_at"].to_list() == [
        datetime(2026, 11, 2, 6, tzinfo=UTC),
        None,
        None,
        datetime(2026, 11, 2, 7, tzinfo=UTC),
    ]
    assert frame["decode_error"].to_list() == [
        None,
        "measured_at:AMBIGUOUS_LOCAL_TIME",
        "measured_at:NONEXISTENT_LOCAL_TIME",
        None,
    ]


def test_nan_on_one_record_leaves_the_strict_reading_of_the_others() -> None:
    frame = rows(with_token("value", "NaN"), row(value=True), row(value=7), row(rev=1.5))
    assert frame["decode_error"].to_list() == ["value:NOT_FINITE", "value:NOT_A_NUMBER", None, "revision:NOT_AN_INTEGER"]
    assert frame["value"].to_list() == [None, None, 7.0, 12.5]


def test_bytes_that_are_no_utf8_spoil_their_record_only() -> None:
    body = b'{"data": [' + row(id="M0").encode() + b", " + row(serial="@").encode().replace(b"@", b"\xfc1") + b"]}"
    frame = decode(resource(), "raw_measurement", body)
    assert frame["decode_error"].to_list() == [None, "serial_number:NOT_UTF8"]


def test_identifiers_with_letters_of_the_plant_are_read_on_both_paths() -> None:
    frame = rows(row(serial="Prüfstück-µ"), row(id="M2", serial="Prüfstück-µ", value="x"))
    assert frame["serial_number"].to_list() == ["Prüfstück-µ"] * 2


def test_records_may_lie_deeper_or_be_the_page_itself() -> None:
    nested = decode(resource(records="d.results"), "raw_measurement", b'{"d": {"results": [' + row().encode() + b"]}}")
    bare = decode(resource(records=""), "raw_measurement", b"\xef\xbb\xbf [" + row().encode() + b"]")
    assert nested["record_id"].to_list() == bare["record_id"].to_list() == ["M1"]
    assert rows().height == 0
    assert rows().schema == nested.schema


def test_one_field_may_feed_two_columns() -> None:
    orders = Resource(
        "work-orders",
        ("raw_work_order",),
        "json_records",
        records="data",
        fields={
            "record_id": "id",
            "job_order_id": "id",
            "work_center_id": "line",
            "planned_quantity": "planned",
            "start_at": "start",
        },
    )
    body = b'{"data": [{"id": "O1", "line": "L1", "planned": 500, "start": "2026-11-02T06:00:00Z"}]}'
    frame = decode(orders, "raw_work_order", body)
    assert frame.select("record_id", "job_order_id", "planned_quantity", "decode_error").row(0) == ("O1", "O1", 500, None)


@pytest.mark.parametrize("body", [b"", b'{"data": [', b"<html>", b'{"rows": []}', b"[" * 100_000])
def test_bytes_that_are_no_page_are_named_by_their_hash(body: bytes) -> None:
    with pytest.raises(ContractError, match=hashlib.sha256(body).hexdigest()):
        decode(resource(), "raw_measurement", body)


def test_a_field_map_to_no_column_is_an_error_of_the_site() -> None:
    with pytest.raises(SiteError, match="charakteristic_id"):
        rows(row(), fields={"charakteristic_id": "characteristic"})
    with pytest.raises(SiteError, match="raw_telemetry"):
        decode(resource(), "raw_telemetry", b"{}")
