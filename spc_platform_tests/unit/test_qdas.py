"""Q-DAS DFQ files written by hand, in both notations, and what must not be read from them."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.decode import decode
from spc_platform.sources.qdas import specifications

DC4, SI = "\x14", "\x0f"
HEADER = """K0100 2
K1001/1 HSG-100
K1002/1 Housing
K2001/1 BORE
K2002/1 Ø of the bore
K2142/0 mm
K2110/1 9,95
K2111/1 10,05
K2001/2 LENGTH
"""


def read(
    text: str | bytes, *, zone: str | None = "Europe/Berlin", fields: dict[str, str] | None = None, **options: object
) -> pl.DataFrame:
    body = text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode()
    resource = Resource("cmm", ("raw_measurement",), "dfq", fields=fields or {}, zone=zone, options=options)
    return decode(resource, "raw_measurement", body, "cell/day.dfq")


def condensed(*values: tuple[str, ...]) -> str:
    return SI.join(DC4.join(fields) for fields in values)


def test_a_condensed_line_holds_one_value_of_every_characteristic() -> None:
    rows = read(HEADER + condensed(("10,013", "0", "23.03.2026/08:05:07", "", "L7"), ("20.5", "0", "23.3.26/8:05")) + "\n")
    assert rows.select("characteristic_id", "value", "unit", "material_lot_id", "page_row", "decode_error").rows() == [
        ("BORE", 10.013, "mm", "L7", 0, None),
        ("LENGTH", 20.5, "mm", None, 1, None),
    ]
    assert rows["measured_at"].to_list() == [
        datetime(2026, 3, 23, 7, 5, 7, tzinfo=UTC),
        datetime(2026, 3, 23, 7, 5, tzinfo=UTC),
    ]
    assert rows["record_id"].to_list() == ["cell/day.dfq:1:1", "cell/day.dfq:2:1"]


def test_k_fields_give_the_same_as_the_condensed_notation() -> None:
    spelled = """K0001/1 10.013
K0002/1 0
K0004/1 23.03.2026/08:05:07
K0006/1 L7
K0001/2 20.5
K0004/2 23.03.2026/08:05:09
"""
    short = condensed(("10.013", "0", "23.03.2026/08:05:07", "", "L7"), ("20.5", "", "23.03.2026/08:05:09")) + "\n"
    assert read(HEADER + spelled).equals(read(HEADER + short))


def test_index_0_stands_for_the_last_value_of_every_characteristic_and_a_second_index_for_the_nth() -> None:
    at = "23.03.2026/08:05:07"
    line = condensed(("10.0", "0", at), ("20.0", "0", at)) + "\n"
    rows = read(HEADER + line + "K0014/0 S1\n" + line + "K0014/1/2 S2\nK0014/2 S3\n")
    assert rows["serial_number"].to_list() == ["S1", "S1", "S2", "S3"]


@pytest.mark.parametrize("attribute", ["255", "256", "7"])
def test_a_value_that_its_attribute_calls_invalid_is_kept_and_refused_with_the_reason(attribute: str) -> None:
    line = condensed(("10.0", attribute, "23.03.2026/08:05:07"), ("20.0", "0", "23.03.2026/08:05:07"))
    rows = read(HEADER + line)
    assert rows["decode_error"].to_list() == [f"value:ATTRIBUTE_{attribute}", None]
    assert "10.0" in rows["raw_record"][0]
    assert read(HEADER + line, valid_attributes=[int(attribute)])["decode_error"].to_list() == [None, None]


def test_a_line_cut_short_gives_no_value() -> None:
    rows = read(HEADER + condensed(("10.0", "0", "23.03.2026/08:05:07"), ("20.0",)) + "\n10.")
    assert rows["decode_error"].to_list()[-1].startswith("row:HAS_1_OF_2_CHARACTERISTICS")


def test_a_field_stated_twice_of_one_value_is_refused() -> None:
    rows = read(HEADER + "K0001/1 10.0\nK0001/1 11.0\nK0014/1 S1\nK0014/1 S2\n")
    assert "K0014:STATED_TWICE" in rows["decode_error"][1]


def test_a_field_before_any_value_is_no_guess() -> None:
    assert "states K0014 before any value" in read(HEADER + "K0014/1 S1\nK0001/1 10.0\n")["decode_error"][0]


def test_the_number_of_characteristics_must_be_the_stated_one() -> None:
    rows = read(HEADER.replace("K0100 2", "K0100 3"))
    assert rows["decode_error"].to_list() == [
        "page:NOT_DFQ (NotDfqError: K0100 states 3 characteristics, the file has 2: is it whole?)"
    ]
    assert read("value;unit\n1;mm\n")["decode_error"][0].startswith("page:NOT_DFQ")


def test_values_of_an_attribute_characteristic_are_no_measurements() -> None:
    line = condensed(("50", "2", "", "0", "23.03.2026/08:05:07"), ("20.0", "0", "23.03.2026/08:05:07"))
    rows = read(HEADER + "K2004/1 1\n" + line)
    assert rows["decode_error"].to_list() == ["value:OF_AN_ATTRIBUTE_CHARACTERISTIC", None]
    assert rows["value"].to_list() == [None, 20.0]


def test_slashes_in_a_date_are_read_in_the_declared_order_only() -> None:
    line = condensed(("10.0", "0", "03/04/2026/08:05:07"), ("20.0", "0", "2026-03-04/08:05:07"))
    assert read(HEADER + line)["decode_error"].to_list() == ["measured_at:NOT_A_TIME", None]
    assert [at.month for at in read(HEADER + line, slash_dates="mdy")["measured_at"]] == [3, 3]
    assert [at.month for at in read(HEADER + line, slash_dates="dmy")["measured_at"]] == [4, 3]
    with pytest.raises(ContractError, match=r"SPC-336.*slash_dates.*'ymd'"):
        read(HEADER + line, slash_dates="ymd")


def test_local_times_need_a_zone_and_the_repeated_hour_is_not_guessed() -> None:
    line = condensed(("10.0", "0", "25.10.2026/02:30:00"), ("20.0", "0", "25.10.2026/01:30:00"))
    assert read(HEADER + line, zone=None)["decode_error"].to_list() == ["measured_at:NO_ZONE"] * 2
    assert read(HEADER + line)["decode_error"].to_list() == ["measured_at:AMBIGUOUS_LOCAL_TIME", None]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_encoding_of_the_file(encoding: str) -> None:
    body = (HEADER + "K0001/1 10.0\n").encode(encoding)
    assert read(body, fields={"characteristic_id": "{K1001}.{K2002}"})["characteristic_id"].to_list() == [
        "HSG-100.Ø of the bore"
    ]


def test_characteristics_belong_to_the_part_before_them() -> None:
    text = "K0100 2\nK1002/0 Kit\nK1001/1 A\nK2001/1 X\nK1001/2 B\nK2001/2 X\nK0001/1 1\nK0001/2 2\n"
    rows = read(text, fields={"characteristic_id": "{K1002}.{K1001}.{K2001}"})
    assert rows.select("characteristic_id", "value").rows() == [("Kit.A.X", 1.0), ("Kit.B.X", 2.0)]


def test_a_file_that_grew_repeats_its_records() -> None:
    first = read(HEADER + "K0001/1 10.0\n")
    longer = read(HEADER + "K0001/1 10.0\nK0001/1 11.0\n")
    assert longer["record_id"].to_list()[:1] == first["record_id"].to_list()
    assert longer["record_id"].n_unique() == 2


def test_a_field_that_the_file_lacks_is_empty() -> None:
    assert read(HEADER + "K0001/1 10.0\n", fields={"job_order_id": "K0061"})["job_order_id"].to_list() == [None]


def test_limits_are_told_and_taken_over_by_nobody() -> None:
    assert specifications(HEADER.encode()).rows() == [
        ("HSG-100", "BORE", "Ø of the bore", 9.95, 10.05, "mm"),
        ("HSG-100", "LENGTH", None, None, None, "mm"),
    ]
    with pytest.raises(ContractError, match="SPC-335"):
        specifications(b"<xml/>")


def test_a_field_without_index_stands_for_the_first() -> None:
    rows = read("K0100 1\nK1001 P\nK2001 BORE\nK2142 mm\nK0001 1.5\nK0004 2.3.2026/08:00:00\nK0014 S1\n")
    assert rows.select("characteristic_id", "value", "serial_number", "decode_error").rows() == [("BORE", 1.5, "S1", None)]
