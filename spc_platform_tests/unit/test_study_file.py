"""Files of a study: what is read, and that each thing that is wrong names its place and its remedy."""

import math
from pathlib import Path

import polars as pl
import pytest

from spc_platform.cli.study_file import StudyFile, read
from spc_platform.errors import ContractError
from spc_platform_tests.unit.test_tabular import with_row, workbook


def written(folder: Path, content: str | bytes, suffix: str = ".csv") -> Path:
    path = folder / f"parts{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def text_read(folder: Path, content: str | bytes, suffix: str = ".csv") -> StudyFile:
    return read(written(folder, content, suffix))


def refused(folder: Path, content: str | bytes, column: str | None = None, suffix: str = ".csv") -> str:
    try:
        file = text_read(folder, content, suffix)
        if column is not None:
            file.numbers(column)
    except ContractError as error:
        return str(error)
    pytest.fail("nothing was refused")


def typed_workbook(cells: str) -> bytes:
    return with_row(cells, ("length", "lot"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    file = text_read(tmp_path, f"length{separator}lot\n1.5{separator}A\n2{separator}B\n")
    assert file.numbers("length").to_list() == [1.5, 2.0]
    assert file.labels("lot").to_list() == ["A", "B"]


def test_a_comma_in_a_header_does_not_hide_the_semicolons(tmp_path: Path) -> None:
    file = text_read(tmp_path, "length, mm;width, mm\n1,5;2,25\n3;4\n")
    assert file.numbers("length, mm").to_list() == [1.5, 3.0]
    assert file.numbers("width, mm").to_list() == [2.25, 4.0]


def test_every_digit_of_a_number_is_read(tmp_path: Path) -> None:
    texts = ["0.30000000000000004", "1000000000.001", "1e-12", "-.5", "+7.", "2.2250738585072014e-308"]
    assert text_read(tmp_path, "x\n" + "\n".join(texts)).numbers("x").to_list() == [float(text) for text in texts]


def test_a_workbook_keeps_every_digit_of_its_numbers(tmp_path: Path) -> None:
    for text in ("0.30000000000000004", "1e-12", "1000000000.001"):
        file = text_read(tmp_path, typed_workbook(f'<c r="A2"><v>{text}</v></c>'), ".xlsx")
        assert file.numbers("length").to_list() == [float(text)]


def test_a_label_of_a_workbook_that_looks_like_a_number_stays_as_written(tmp_path: Path) -> None:
    file = text_read(tmp_path, workbook([["length", "lot"], ["1", "007"]]), ".xlsx")
    assert file.labels("lot").to_list() == ["007"]


def test_a_formula_error_is_not_an_empty_cell(tmp_path: Path) -> None:
    body = typed_workbook('<c r="A2" t="e"><v>#DIV/0!</v></c><c r="B2" t="inlineStr"><is><t>A</t></is></c>')
    message = refused(tmp_path, body, suffix=".xlsx")
    assert "SPC-385" in message
    assert "cell A2" in message
    assert "#DIV/0!" in message


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, workbook([["x"], ["1"]]), ".xlsx")
    assert read(path, "Results").rows == 1
    with pytest.raises(ContractError, match=r"SPC-380.*no sheet 'Other'; its sheets are 'Results'"):
        read(path, "Other")


def test_parquet_keeps_types_and_names_a_nan(tmp_path: Path) -> None:
    path = tmp_path / "parts.parquet"
    pl.DataFrame({"x": [1.0, None, 3.0], "lot": [1.0, 2.0, None], "day": [1, 2, 3]}).write_parquet(path)
    file = read(path)
    assert file.numbers("x").to_list() == [1.0, None, 3.0]
    assert file.labels("lot").to_list() == ["1", "2", None]
    assert file.number_columns() == ["x", "lot", "day"]
    for bad in (math.nan, math.inf):
        pl.DataFrame({"x": [1.0, bad]}).write_parquet(path)
        with pytest.raises(ContractError, match=r"SPC-385.*row 2, column 'x'"):
            read(path).numbers("x")


def test_blank_rows_are_no_rows_but_empty_cells_are_missing(tmp_path: Path) -> None:
    file = text_read(tmp_path, 'x,lot\n1,A\n\n"",B\n3,C\n\n')
    assert file.numbers("x").to_list() == [1.0, None, 3.0]
    assert file.blank_rows == 1


@pytest.mark.parametrize(
    ("content", "column", "code", "words"),
    [
        ("x,lot\n1,A\n1.2.3,B\n", "x", "SPC-385", ("parts.csv", "row 2", "'x'", "'1.2.3'", "Correct the cell")),
        ("x\n1\nNaN\n", "x", "SPC-385", ("row 2", "'NaN'", "Leave the cell empty")),
        ("x\n-inf\n", "x", "SPC-385", ("row 1", "'-inf'")),
        ("x\n1e999\n", "x", "SPC-385", ("row 1", "'1e999'")),
        ('x,y\n"1,000",2\n', "x", "SPC-385", ("'1,000'", "between thousands")),
        ("x;y\n1,5;2\n2.5;3\n", "x", "SPC-385", ("row 1", "row 2", "same decimal sign")),
        ("x,y\n1,2\n3,4,5\n", None, "SPC-383", ("row 2", "3 cells", "header has 2", "'5'")),
        ("x,x\n1,2\n", None, "SPC-382", ("columns 1 and 2", "'x'")),
        ("length,lot\n1,A\n", "lenght", "SPC-384", ("'length', 'lot'", "Did you mean 'length'?")),
        ("", None, "SPC-381", ("empty",)),
        (" \n\n", None, "SPC-381", ("empty",)),
        ("x,y\n", None, "SPC-381", ("no row of data",)),
        (b"x,y\n1,2\n\xb5,3\n", None, "SPC-380", ("line 3", "0xb5", "CSV UTF-8")),
        ('x,y\n1,"2\n3,4\n', None, "SPC-380", ("quotation mark",)),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_remedy(
    tmp_path: Path, content: str | bytes, column: str | None, code: str, words: tuple[str, ...]
) -> None:
    message = refused(tmp_path, content, column)
    assert message.startswith(f"[{code}]")
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", [".xls", ".json", ""])
def test_another_kind_of_file_is_refused_with_what_is_read(tmp_path: Path, suffix: str) -> None:
    assert "Save the data as .csv, .parquet or .xlsx" in refused(tmp_path, "x\n1\n", suffix=suffix)


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    assert refused(tmp_path, b"PAR1 no table", suffix=suffix).startswith("[SPC-380]")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"SPC-380.*absent\.csv"):
        read(tmp_path / "absent.csv")
