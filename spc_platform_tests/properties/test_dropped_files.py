"""Whatever bytes a file holds, reading it gives rows, and what it reads of them does not depend on how they are written."""

from __future__ import annotations

from typing import Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spc_platform.site.model import Resource
from spc_platform.sources.decode import decode_here

Form = Literal["csv", "dfq", "parquet", "qif", "xlsx"]
FORMS: tuple[Form, ...] = ("csv", "dfq", "parquet", "qif", "xlsx")
DFQ = (
    b"K0100 2\r\nK1001/1 HSG\r\nK2001/1 BORE\r\nK2142/0 mm\r\nK2001/2 LENGTH\r\n"
    b"10,01\x140\x1423.03.2026/08:05:07\x0f20.5\x14255\x1423.03.2026/08:05:08\r\nK0014/0 S1\r\n"
    b"K0001/1 10.03\r\nK0002/1 0\r\nK0004/1 23.03.2026/08:06:00\r\nK0014/1/2 S2\r\n"
)


def rows(form: Form, body: bytes) -> pl.DataFrame:
    fields = {} if form == "dfq" else {"value": "value"}
    return decode_here(
        Resource("r", ("raw_measurement",), form, fields=fields, zone="Europe/Berlin"), "raw_measurement", body, "f"
    )


@given(body=st.binary(max_size=400), form=st.sampled_from(FORMS))
def test_any_bytes_give_rows_with_names_and_never_an_error(body: bytes, form: Form) -> None:
    found = rows(form, body)
    assert found["record_id"].null_count() == 0


@given(at=st.integers(0, len(DFQ) - 1), cut=st.integers(0, 30), put=st.binary(max_size=6))
def test_a_damaged_dfq_gives_rows_and_never_an_error(at: int, cut: int, put: bytes) -> None:
    found = rows("dfq", DFQ[:at] + put + DFQ[at + cut :])
    assert found["record_id"].null_count() == 0


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), comma=st.booleans())
@pytest.mark.parametrize("condensed", [True, False])
def test_every_digit_of_a_value_survives(condensed: bool, values: list[float], comma: bool) -> None:
    texts = [repr(value).replace(".", ",") if comma else repr(value) for value in values]
    lines = [text + "\x140" if condensed else f"K0001/1 {text}" for text in texts]
    body = "\r\n".join(["K0100 1", "K2001/1 BORE", "K2142/1 mm", *lines]).encode()
    assert rows("dfq", body)["value"].to_list() == values
