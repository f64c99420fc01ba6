"""`spc analyze` and `spc capability` on real files, through the command as users run it."""

import itertools
import json
import math
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.errors import ContractError
from spc_platform.settings import REPOSITORY
from spc_platform_tests.conftest import lacking

REFERENCE = REPOSITORY / "docs" / "reference"
SCHEMAS = {verb: json.loads((REFERENCE / f"{name}.schema.json").read_text()) for verb, name in (
    ("analyze", "study"), ("capability", "capability"), ("gauge", "gauge"), ("compare", "compare"),
)}  # fmt: skip
D2_OF_2 = 2 / math.sqrt(math.pi)


def spc(*words: object) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def refused(*words: object) -> str:
    with pytest.raises(ContractError) as caught:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return str(caught.value)


def strict(text: str) -> dict[str, Any]:
    """The document; NaN and Infinity, which are no JSON, are refused."""

    def not_json(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=not_json)
    return document


def document(verb: str, *words: object) -> dict[str, Any]:
    found = strict(spc(verb, *words, "--format", "json"))
    jsonschema.Draft202012Validator(SCHEMAS[verb]).validate(found)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def lengths(folder: Path) -> Path:
    """30 lots of 4 lengths with a shift of five sigma of means in lot 12, in two stages."""
    dice = random.Random(11)
    rows = [
        f"L{lot:02d},{'old' if lot <= 15 else 'new'},{10 + dice.gauss(0, 0.1) + (0.25 if lot == 12 else 0):.4f}"
        for lot in range(1, 31)
        for _ in range(4)
    ]
    path = folder / "lengths.csv"
    path.write_text("lot,stage,length\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def defects(folder: Path) -> Path:
    dice = random.Random(5)
    rows = [f"{day},{dice.randint(3, 12)},{dice.choice([80, 100, 150])}" for day in range(1, 26)]
    path = folder / "defects.csv"
    path.write_text("day,bad,inspected\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("table", list(SCHEMAS))
def test_the_published_schemas_are_json_schema_2020_12(table: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[table])


def test_the_capability_schema_is_that_of_a_study_without_its_points() -> None:
    study, own = SCHEMAS["analyze"], SCHEMAS["capability"]
    assert own["properties"] == {name: value for name, value in study["properties"].items() if name != "panels"}
    assert own["$defs"] == {name: value for name, value in study["$defs"].items() if name != "point"}


def test_individuals_have_the_limits_of_the_textbook(folder: Path) -> None:
    """Mean and mean moving range / d2(2) by hand."""
    values = [9.1, 10.4, 9.8, 10.9, 10.2, 9.5, 10.0, 10.3]
    path = folder / "individuals.csv"
    path.write_text("x\n" + "\n".join(map(str, values)))
    found = document("analyze", path)
    sigma = statistics.fmean(abs(b - a) for a, b in itertools.pairwise(values)) / D2_OF_2
    assert found["chart"] == "i_mr"
    assert any("chosen for no --subgroup" in warning for warning in found["warnings"])
    assert found["sigma"] == pytest.approx(sigma, rel=1e-12)
    point = found["panels"][0]["points"][3]
    assert point["value"] == 10.9
    assert point["ucl"] == pytest.approx(statistics.fmean(values) + 3 * sigma, rel=1e-12)
    assert point["z"] == pytest.approx((10.9 - statistics.fmean(values)) / sigma, rel=1e-12)
    assert point["first_row"] == point["last_row"] == 4


def test_a_signal_carries_its_rule_and_window(lengths: Path) -> None:
    found = document("analyze", lengths, "--value", "length", "--subgroup", "lot", "--rules", "nelson:1")
    assert found["chart"] == "xbar_r"
    (violation,) = [row for row in found["violations"] if row["panel"] == "location"]
    assert violation["sample"] == "L12"
    assert violation["window_samples"] == ["L12"]
    assert violation["rule"] == "nelson_1"
    assert found["panels"][0]["points"][11]["rules"] == ["nelson_1"]


def test_stages_have_their_own_limits_and_no_shortcut(lengths: Path) -> None:
    found = document("analyze", lengths, "--value", "length", "--subgroup", "lot", "--stage", "stage")
    assert [stage["stage"] for stage in found["stages"]] == ["old", "new"]
    assert found["centre"] is found["sigma"] is found["capability"] is None
    assert found["panels"][0]["points"][0]["cl"] != found["panels"][0]["points"][-1]["cl"]


def test_the_same_file_gives_the_same_bytes(lengths: Path) -> None:
    words = ("analyze", lengths, "--value", "length", "--subgroup", "lot")
    for form in ("json", "html", "table"):
        assert spc(*words, "--format", form) == spc(*words, "--format", form)


def test_csv_parquet_and_workbook_layouts_give_the_same_study(folder: Path, lengths: Path) -> None:
    """One value a row, and one subgroup a row, are two ways to write the same data."""
    frame = pl.read_csv(lengths, schema_overrides={"length": pl.Float64})
    wide = frame.group_by("lot", maintain_order=True).agg(
        pl.col("length").gather([place]).first().alias(f"x{place}") for place in range(4)
    )
    wide.write_parquet(folder / "wide.parquet")
    one = document("analyze", lengths, "--value", "length", "--subgroup", "lot")
    other = document("analyze", folder / "wide.parquet", "--value", "x0,x1,x2,x3", "--subgroup", "lot")
    for ours, theirs in zip(one["panels"], other["panels"], strict=True):
        assert [point["value"] for point in ours["points"]] == [point["value"] for point in theirs["points"]]
    assert one["sigma"] == other["sigma"]
    assert other["panels"][0]["points"][2]["first_row"] == 3


@pytest.mark.parametrize(
    ("words", "chart"),
    [
        (("--count", "bad", "--size", "inspected"), "p"),
        (("--count", "bad"), "c"),
        (("--count", "bad", "--size", "inspected", "--chart", "p'"), "laney_p"),
        (("--count", "bad", "--size", "100", "--chart", "np"), "np"),
        (("--count", "bad", "--size", "inspected", "--chart", "u"), "u"),
        (("--value", "bad", "--chart", "EWMA"), "ewma"),
        (("--value", "bad", "--chart", "cusum", "--fir", "0.5"), "cusum"),
        (("--value", "bad", "--size", "5"), "xbar_r"),
        (("--value", "bad", "--size", "9"), "xbar_s"),
        (("--value", "bad", "--size", "5", "--chart", "I-MR-R/S"), "i_mr_r"),
        (("--value", "bad", "--chart", "g"), "g"),
        (("--value", "bad", "--chart", "t"), "t"),
        (("--value", "bad,inspected", "--chart", "T²"), "t2"),
        (("--value", "bad,inspected", "--chart", "mewma"), "mewma"),
        (("--value", "bad", "--nominal", "5"), "dnom_i_mr"),
    ],
)
def test_every_kind_of_chart_fits_the_schema_and_is_drawn(
    defects: Path, tmp_path: Path, words: tuple[str, ...], chart: str
) -> None:
    found = document("analyze", defects, *words)
    assert found["chart"] == chart
    assert all(panel["points"] for panel in found["panels"])
    picture = tmp_path / "chart.png"
    spc("analyze", defects, *words, "--format", "png", "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_p_limits_vary_with_what_was_inspected(defects: Path) -> None:
    """p-bar +- 3 sqrt(p-bar (1 - p-bar) / n), Montgomery 7.2."""
    found = document("analyze", defects, "--count", "bad", "--size", "inspected")
    frame = pl.read_csv(defects)
    centre = frame["bad"].sum() / frame["inspected"].sum()
    for point, n in zip(found["panels"][0]["points"], frame["inspected"], strict=True):
        assert point["ucl"] == pytest.approx(centre + 3 * math.sqrt(centre * (1 - centre) / n), rel=1e-12)
        assert point["n"] == n


def test_nist_subgroups_of_silicon_thickness(folder: Path, shared_data: Path) -> None:
    """CCXBAR.DAT of NIST Dataplot: 20 values in days; grand mean and mean range by hand from the file."""
    source = shared_data / "nist-handbook-spc" / "CCXBAR.DAT"
    if not source.is_file():
        lacking(f"no {source}; set SPC_SHARED_DATA to a folder that has the data of NIST's handbook")
    cells = [line.split() for line in source.read_text().splitlines()]
    rows = [(float(row[0]), row[1]) for row in cells if len(row) == 2 and re.fullmatch(r"\d+\.\d+", row[0])]
    path = folder / "silicon.csv"
    path.write_text("day;thickness\n" + "\n".join(f"{day};{str(value).replace('.', ',')}" for value, day in rows))
    found = document("analyze", path, "--value", "thickness", "--subgroup", "day", "--rules", "nelson:1")
    days: dict[str, list[float]] = {}
    for value, day in rows:
        days.setdefault(day, []).append(value)
    assert len({len(values) for values in days.values()}) == 1
    assert found["centre"] == pytest.approx(statistics.fmean(map(statistics.fmean, days.values())), rel=1e-12)
    ranges = [max(values) - min(values) for values in days.values()]
    assert found["panels"][1]["points"][0]["cl"] == pytest.approx(statistics.fmean(ranges), rel=1e-9)


def test_a_page_stands_alone_and_escapes_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "<b>x.csv"
    path.write_text("<script>alert(1)</script>,lot\n" + "\n".join(f"{value},<i>{value}" for value in (1, 3, 2, 4, 3, 5)))
    out = tmp_path / "page.html"
    spc(
        "analyze",
        path,
        "--subgroup",
        "lot",
        "--chart",
        "i_mr",
        "--value",
        "<script>alert(1)</script>",
        "--format",
        "html",
        "--out",
        out,
    )
    page = out.read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 1
    named = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert {address for address in named if not address.startswith("http://www.w3.org/")} == set()
    assert not re.search(r"<link|@import|\burl\((?!#)|\bsrc=", page)


def test_the_table_fits_100_columns(lengths: Path) -> None:
    text = spc("analyze", lengths, "--value", "length", "--subgroup", "lot", "--lsl", "9.5", "--usl", "10.5")
    assert max(map(cell_len, text.splitlines())) <= 100
    for words in ("X̄-R chart of length", "nelson_1", "Cpk", "stab", "verdict"):
        assert words in text


def test_capability_never_comes_without_stability(lengths: Path) -> None:
    words = (lengths, "--value", "length", "--subgroup", "lot", "--lsl", "9.5", "--usl", "10.5", "--target", "10")
    found = document("capability", *words)
    capability = found["capability"]
    assert "panels" not in found
    assert capability["cp"] == pytest.approx(1.0 / (6 * found["sigma"]), rel=1e-12)
    assert capability["stability"] == "unstable"
    assert found["violations"]
    assert document("analyze", *words)["capability"] == capability
    assert "unstable" in spc("capability", *words)


def test_a_signal_fails_only_where_that_is_asked_for(lengths: Path) -> None:
    words = ["analyze", str(lengths), "--value", "length", "--subgroup", "lot", "--rules", "nelson:1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--fail-on-signal"]).exit_code == 3


def test_an_excluded_lot_is_judged_but_not_in_the_limits(lengths: Path) -> None:
    words = (lengths, "--value", "length", "--subgroup", "lot")
    found = document("analyze", *words, "--exclude", "L12=worn tool")
    assert found["panels"][0]["points"][11]["is_excluded"]
    assert "nelson_1" in found["panels"][0]["points"][11]["rules"]
    assert found["centre"] < document("analyze", *words)["centre"]


def test_limits_from_a_baseline_are_those_of_the_first_rows_alone(lengths: Path, tmp_path: Path) -> None:
    head = tmp_path / "first.csv"
    head.write_text("\n".join(lengths.read_text().splitlines()[: 1 + 10 * 4]))
    words = ("--value", "length", "--subgroup", "lot")
    whole, first = document("analyze", lengths, *words, "--baseline", "1:10"), document("analyze", head, *words)
    assert (whole["centre"], whole["sigma"]) == (first["centre"], first["sigma"])


def test_rules_of_ones_own_come_from_a_file(lengths: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.csv"
    rules.write_text("rule,kind,k,m,zone\n1,beyond,1,1,2.5\n")
    found = document("analyze", lengths, "--value", "length", "--subgroup", "lot", "--rules", f"@{rules}")
    assert {row["rule"] for row in found["violations"]} == {"custom_1"}
    rules.write_text("rule,kind,k,m,zone,colour\n1,beyond,1,1,2.5,red\n")
    assert "[SPC-388]" in refused("analyze", lengths, "--value", "length", "--rules", f"@{rules}")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--chart", "pareto", "--value", "length"), "SPC-386", "xbar_r, xbar_s"),
        (("--value", "width"), "SPC-384", "'length'"),
        (("--value", "lot"), "SPC-385", "'L01'"),
        (("--value", "length", "--count", "lot"), "SPC-386", "exclude each other"),
        (("--chart", "p", "--value", "length"), "SPC-386", "--count"),
        (("--chart", "t2", "--value", "length"), "SPC-386", "repeat --value"),
        (("--value", "length", "--size", "four"), "SPC-386", "whole number"),
        (("--value", "length", "--size", "4", "--subgroup", "lot"), "SPC-386", "exclude each other"),
        (("--value", "length", "--baseline", "first"), "SPC-386", "1:25"),
        (("--value", "length", "--lsl", "nan"), "SPC-386", "--lsl"),
        (("--value", "length", "--lsl", "11", "--usl", "10"), "SPC-390", "LSL 11"),
        (("--value", "length", "--exclude", "L12"), "SPC-386", "LABEL=CAUSE"),
        (("--value", "length", "--box-cox", "lots"), "SPC-386", "auto"),
        (("--value", "length", "--format", "pdf"), "SPC-386", "table, json, html, png"),
        (("--value", "length", "--out", "/nowhere/at/all.json"), "SPC-389", "no folder"),
        (("--value", "length", "--nominal", "middle"), "SPC-384", "'middle'"),
    ],
)
def test_options_that_do_not_fit_say_so(lengths: Path, words: tuple[str, ...], code: str, said: str) -> None:
    message = refused("analyze", lengths, *words)
    assert message.startswith(f"[{code}]")
    assert said in message


def test_a_value_without_its_subgroup_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "lots.csv"
    path.write_text("lot,x\nA,1\nA,2\n,3\nB,4\n")
    assert re.search(r"SPC-387.*row 3, column 'lot'", refused("analyze", path, "--value", "x", "--subgroup", "lot"))


@pytest.mark.parametrize("cell", ["abc", "nan", "-inf", "1,234.5"])
def test_a_wrong_cell_of_the_only_column_names_its_row_without_an_option(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "one.csv"
    path.write_text(f'x\n1\n2\n"{cell}"\n4\n')
    assert f"[SPC-385] one.csv, row 3, column 'x': {cell!r}" in refused("analyze", path)


def test_a_column_with_a_wrong_cell_is_not_passed_over_for_the_one_without(tmp_path: Path) -> None:
    path = tmp_path / "numbered.csv"
    path.write_text("number,x\n1,5\n2,7\n3,abc\n4,6\n")
    assert "name the column of values with --value" in refused("analyze", path)
    path.write_text("lot,x\n1A,5\n2,7\nB3,6\n")
    assert document("analyze", path)["options"]["columns"] == {"value": "x"}


def test_a_moving_range_longer_than_the_file_gives_no_sigma_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("x\n1\n2\n4\n3\n")
    found = document("analyze", path, "--span", "5")
    assert found["sigma"] is None
    assert "sigma cannot be estimated" in found["stages"][0]["reason"]
    assert [len(panel["points"]) for panel in found["panels"]] == [4, 0]


def test_the_limit_of_a_mewma_follows_the_width_of_the_limits_and_t2_of_one_subgroup_has_none(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\n1,2\n2,1\n3,7\n4,8\n5,1\n6,1\n")
    # weight 1 remembers nothing: the limit is the chi-square quantile at 2 Phi(-k)
    found = document("analyze", path, "--chart", "mewma", "--value", "a,b", "--lambda", 1, "--k", 2)
    (limit,) = {point["ucl"] for point in found["panels"][0]["points"]}
    assert limit == pytest.approx(-2 * math.log(2 * statistics.NormalDist().cdf(-2)), rel=1e-9)
    alone = document("analyze", path, "--chart", "t2", "--value", "a,b", "--size", 6)
    assert "a single subgroup has no limit of phase I" in alone["stages"][0]["reason"]


def test_the_file_of_the_data_is_never_overwritten(lengths: Path) -> None:
    before = lengths.read_bytes()
    assert "[SPC-389]" in refused("analyze", lengths, "--value", "length", "--out", lengths)
    assert lengths.read_bytes() == before


def test_missing_values_are_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("x,y\n1,a\n,b\n3,c\n2,d\n4,e\n")
    found = document("analyze", path, "--value", "x")
    assert any("missing, not 0" in warning and "row 2" in warning for warning in found["warnings"])
    assert [point["first_row"] for point in found["panels"][0]["points"]] == [1, 3, 4, 5]


def test_an_error_of_the_command_has_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("x\n1\ntwo\n")
    found = subprocess.run(
        [sys.executable, "-c", "from spc_platform.cli.main import main; main()", "analyze", path, "--value", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("[SPC-385] bad.csv, row 2, column 'x': 'two'")
    assert "Traceback" not in found.stderr


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; import spc_platform.cli.main; print({'polars', 'numpy', 'scipy', 'altair', 'dagster'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_two_points_beyond_2_are_2_of_3_before_a_third_was_observed(tmp_path: Path) -> None:
    # Champ and Woodall (1987) begin their chains without history: the second point signals, with a window of two
    path = tmp_path / "start.csv"
    path.write_text("x\n2.5\n2.6\n0.1\n-0.2\n")
    found = document("analyze", path, "--mu", 0, "--sigma", 1, "--rules", "western_electric:2")
    located = [violation for violation in found["violations"] if violation["panel"] == "location"]
    assert [(violation["number"], violation["window"]) for violation in located] == [(2, [1, 2])]


def test_a_historical_share_does_not_change_the_overdispersion_of_a_laney_chart(tmp_path: Path) -> None:
    counts, size, share = [30, 55, 41, 72, 38, 60], 1000, 0.03
    path = tmp_path / "laney.csv"
    path.write_text("d\n" + "\n".join(map(str, counts)) + "\n")
    point = document("analyze", path, "--count", "d", "--size", size, "--chart", "laney_p", "--mu", share)["panels"][0][
        "points"
    ][0]
    mean = sum(counts) / len(counts) / size
    ranges = [abs(a - b) / size for a, b in itertools.pairwise(counts)]
    sigma_z = sum(ranges) / len(ranges) / math.sqrt(mean * (1 - mean) / size) / D2_OF_2  # Laney 2002, at the share of the data
    assert point["cl"] == share
    assert point["ucl"] == pytest.approx(share + 3 * sigma_z * math.sqrt(share * (1 - share) / size), rel=1e-12)
