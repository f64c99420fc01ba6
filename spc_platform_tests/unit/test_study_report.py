"""The document, the picture and the tables of a study that was made by hand, so that every number is known."""

import json
import math
import re
from typing import Any

import polars as pl
import pytest
from rich.cells import cell_len

from spc_platform.cli.study_table import study_text
from spc_platform.report.sections import Numbers, Section, study_sections
from spc_platform.report.study import study_document, to_json
from spc_platform.report.study_chart import study_chart, study_svg
from spc_platform.report.study_page import study_page
from spc_platform.spc.study_plan import Plan, Study

FILE = {"name": "bore.csv", "sha256": "0" * 64, "rows": 150}


def point(panel: str, statistic: str, number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "panel": panel, "statistic": statistic, "number": number, "sample": f"L{number}", "first_row": 5 * number - 4,
        "last_row": 5 * number, "stage": None, "n": 5.0, "value": 10.0 + 0.1 * (number % 3), "cl": 10.0, "lcl": 9.0,
        "ucl": 11.0, "standard_error": 1 / 3, "z": 0.3 * (number % 3), "rules": [], "is_baseline": True, "is_excluded": False,
    }  # fmt: skip
    return plain | changes


def stage(name: str | None = None, **changes: Any) -> dict[str, Any]:
    plain = {
        "stage": name, "centre": 10.0, "sigma": 0.7453559924999299, "estimator": "rbar", "nu": 108.4, "n_subgroups": 30,
        "n_values": 150, "source": "estimated", "reason": None, "capability": None, "fitness": None,
    }  # fmt: skip
    return plain | changes


def study(points: list[dict[str, Any]], stages: list[dict[str, Any]] | None = None, chart: str = "xbar_r") -> Study:
    frame = pl.DataFrame(points, infer_schema_length=None, schema_overrides={"rules": pl.List(pl.String), "stage": pl.String})
    kept = ["panel", "number", "sample", "stage", "z"]
    flagged = frame.filter(pl.col("rules").list.len() > 0).select(
        *kept,
        rule_set=pl.lit("nelson"),
        rule=pl.col("rules").list.first(),
        rule_text=pl.lit("1 point beyond the control limits"),
        side=pl.lit("above"),
        window=pl.concat_list("number"),
        window_samples=pl.concat_list("sample"),
    )
    return Study(Plan(chart), stages or [stage()], frame, flagged, [], ["few subgroups"])


def two_panels(changes: dict[int, dict[str, Any]] | None = None, count: int = 30) -> list[dict[str, Any]]:
    """Points of X̄ and R; ``changes`` of the X̄ panel by number."""
    return [
        *(point("location", "xbar", number, **(changes or {}).get(number, {})) for number in range(1, count + 1)),
        *(point("dispersion", "r", number, value=1.5, cl=1.7, lcl=0.0, ucl=3.6) for number in range(1, count + 1)),
    ]


def made(found: Study) -> dict[str, Any]:
    return study_document(found, file=FILE, columns={"value": "bore"}, warnings=["read with care"])


def layers(document: dict[str, Any], panel: int = 0) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = study_chart(document)["vconcat"][panel]["layer"]
    return drawn


def rows_of(layer: dict[str, Any]) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = layer["data"]["values"]
    return values


def steps(document: dict[str, Any], colour: str) -> list[list[tuple[float, float]]]:
    lines = [layer for layer in layers(document) if layer["mark"].get("color") == colour and layer["mark"]["type"] == "line"]
    return [[(row["number"], row["limit"]) for row in rows_of(line)] for line in lines]


def test_what_is_missing_is_null_and_never_a_number() -> None:
    found = made(study(two_panels({4: {"z": math.nan, "lcl": math.nan, "ucl": math.inf}}), [stage(nu=math.nan)]))
    text = to_json(found)
    fourth = json.loads(text)["panels"][0]["points"][3]
    assert fourth["z"] is fourth["lcl"] is fourth["ucl"] is None
    assert found["stages"][0]["nu"] is None
    assert not re.search(r"NaN|Infinity", text)


def test_json_keeps_every_digit_and_has_one_point_a_line() -> None:
    text = to_json(made(study(two_panels({1: {"value": 0.1 + 0.2}}))))
    assert '"value": 0.30000000000000004,' in text
    assert sum(line.strip().startswith('{"number"') for line in text.splitlines()) == 60


def test_shortcuts_are_those_of_the_only_stage() -> None:
    assert made(study(two_panels()))["centre"] == 10.0
    assert made(study(two_panels(), [stage("A"), stage("B", centre=11.0)]))["centre"] is None


def test_warnings_of_the_reading_come_first() -> None:
    assert made(study(two_panels()))["warnings"] == ["read with care", "few subgroups"]


def test_constant_limits_are_two_ends_and_varying_limits_are_steps() -> None:
    assert steps(made(study(two_panels())), "#b03a2e") == [[(0.5, 9.0), (30.5, 9.0)], [(0.5, 11.0), (30.5, 11.0)]]
    wider = made(study(two_panels({7: {"n": 2.0, "ucl": 11.5}})))
    assert steps(wider, "#b03a2e")[1] == [(0.5, 11.0), (6.5, 11.0), (6.5, 11.5), (7.5, 11.5), (7.5, 11.0), (30.5, 11.0)]


def test_stages_are_lines_apart_with_their_names() -> None:
    changes = {number: {"stage": "new" if number > 20 else "old", "cl": 10.0} for number in range(1, 31)}
    document = made(study(two_panels(changes), [stage("old"), stage("new")]))
    centre = next(layer for layer in layers(document) if layer["mark"].get("color") == "#1f4e79")
    assert len({row["line"] for row in rows_of(centre)}) == 2
    texts = [
        row["text"] for layer in layers(document) if layer["mark"]["type"] == "text" for row in rows_of(layer) if "text" in row
    ]
    assert {"old", "new"} <= set(texts)


def test_signals_differ_in_colour_and_shape_and_carry_the_number_of_their_rule() -> None:
    changes = {
        12: {"value": 11.4, "rules": ["nelson_1", "nelson_5"]},
        20: {"is_excluded": True},
        25: {"rules": ["x"], "is_excluded": True},
    }
    document = made(study(two_panels(changes)))
    marks = next(layer for layer in layers(document) if layer["mark"]["type"] == "point")
    told = {row["number"]: row["status"] for row in rows_of(marks)}
    assert (told[12], told[20], told[25], told[1]) == ("signal", "excluded", "excluded, signal", "no signal")
    colours, shapes = marks["encoding"]["color"]["scale"]["range"], marks["encoding"]["shape"]["scale"]["range"]
    assert len(set(zip(colours, shapes, strict=True))) == 4
    texts = [
        row["rule"] for layer in layers(document) if layer["mark"]["type"] == "text" for row in rows_of(layer) if "rule" in row
    ]
    assert "1,5" in texts


def test_the_baseline_is_a_band_unless_it_is_everything() -> None:
    changes = {number: {"is_baseline": number <= 20} for number in range(1, 31)}
    bands = [layer for layer in layers(made(study(two_panels(changes)))) if layer["mark"]["type"] == "rect"]
    assert [(row["start"], row["end"]) for row in rows_of(bands[0])] == [(0.5, 20.5)]
    assert not [layer for layer in layers(made(study(two_panels()))) if layer["mark"]["type"] == "rect"]


@pytest.mark.parametrize("count", [3, 61, 400])
def test_every_point_is_in_the_picture(count: int) -> None:
    """Each mark is one symbol of the SVG; the two panels have ``count`` each."""
    svg = study_svg(made(study(two_panels({2: {"rules": ["nelson_1"], "value": 12.0}}, count))))
    assert len(re.findall(r'aria-roledescription="(?:point|circle|square)"', svg)) == 2 * count


def test_a_missing_value_breaks_the_line_and_has_no_mark() -> None:
    document = made(study(two_panels({5: {"value": None}})))
    marks = next(layer for layer in layers(document) if layer["mark"]["type"] == "point")
    assert 5 not in {row["number"] for row in rows_of(marks)}
    series = next(layer for layer in layers(document) if layer["mark"].get("color") == "#a9b4bd")
    assert (rows_of(series)[4]["number"], rows_of(series)[4]["value"]) == (5, None)


def test_both_sums_of_a_cusum_share_a_panel_the_lower_below_zero() -> None:
    points = [
        *(point("upper", "cusum_upper", number, value=1.0, cl=0.0, lcl=None, ucl=5.0) for number in (1, 2)),
        *(point("lower", "cusum_lower", number, value=-2.0, cl=0.0, lcl=-5.0, ucl=None) for number in (1, 2)),
    ]
    document = made(study(points, chart="cusum"))
    assert len(study_chart(document)["vconcat"]) == 1
    marks = next(layer for layer in layers(document) if layer["mark"]["type"] == "point")
    assert sorted(row["value"] for row in rows_of(marks)) == [-2.0, -2.0, 1.0, 1.0]
    assert steps(document, "#b03a2e")[0][-1] == (2.5, -5.0)


def test_the_panels_of_a_chart_share_their_range_of_numbers() -> None:
    points = [row for row in two_panels() if row["panel"] == "location" or row["number"] > 1]
    for panel in study_chart(made(study(points)))["vconcat"]:
        domains = {
            tuple(layer["encoding"]["x"]["scale"]["domain"]) for layer in panel["layer"] if "scale" in layer["encoding"]["x"]
        }
        assert domains == {(0.5, 30.5)}


def section(document: dict[str, Any], title: str) -> Section:
    return next(section for section in study_sections(document) if section.title == title)


def test_limits_are_one_number_or_the_range_in_which_they_vary() -> None:
    limits = section(made(study(two_panels({7: {"ucl": 11.5, "n": 2.0}}))), "Limits")
    assert limits.rows[0] == ["X̄", "9", "10", "11 to 11.5", "2 to 5", "30", "0"]


def test_a_sigma_that_is_missing_has_its_reason_in_the_table() -> None:
    document = made(study(two_panels(), [stage(sigma=None, nu=None, reason="all values are equal")]))
    text = study_text(document)
    assert "all values are equal" in text
    assert section(document, "Centre and sigma").rows[0][0] == "10"


def test_capability_stands_with_its_interval_and_stability() -> None:
    capability = {"cpk": 1.2, "cpk_ci_low": 1.04, "cpk_ci_high": 1.36, "stability": "unstable"}
    rows = section(made(study(two_panels(), [stage(capability=capability)])), "Capability").rows
    assert list(rows) == [("stability", "unstable"), ("Cpk", "1.2  [1.04, 1.36]")]


def test_the_terminal_reads_no_markup_from_a_file() -> None:
    document = made(study(two_panels({3: {"rules": ["nelson_1"], "sample": "[red]L3[/red]"}})))
    assert "[red]L3[/red]" in study_text(document)
    assert max(map(cell_len, study_text(document).splitlines())) <= 100


def test_a_page_escapes_labels_in_tables_and_picture() -> None:
    document = made(study(two_panels({3: {"rules": ["nelson_1"], "sample": '</text><script>"x"'}})))
    page = study_page(document)
    assert "<script" not in page
    assert page.count("<svg") == page.count("</svg>") == 1
    assert page.count("<details>") == 2


def test_digits_follow_the_spread_of_the_data() -> None:
    assert Numbers(1e9, 1e-3).text(1000000000.0012345) == "1000000000.001235"
    assert Numbers(1e-12, 1e-14).text(1.23456789e-12) == "1.23457e-12"
