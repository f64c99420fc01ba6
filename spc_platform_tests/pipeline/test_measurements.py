"""`spc gauge` and `spc compare` on real files, through the command as users run it."""

import random
import re
import statistics
from pathlib import Path

import pytest
from rich.cells import cell_len
from scipy import stats

from spc_platform_tests.pipeline.test_analyze import document, refused, spc


@pytest.fixture(scope="module")
def gauge_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = random.Random(4)
    rows = [f"{part},{who},{10 + 0.5 * part + dice.gauss(0, 0.05):.4f}" for part in range(8) for who in "ABC" for _ in range(2)]
    path = tmp_path_factory.mktemp("gauge") / "gauge.csv"
    path.write_text("part,operator,bore\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = random.Random(9)
    rows = [
        f"{machine},{item},{10 + 0.1 * item + shift + dice.gauss(0, 0.05):.4f},{dice.randint(0, 4)},50"
        for machine, shift in (("M1", 0.0), ("M2", 0.2))
        for item in range(10)
    ]
    path = tmp_path_factory.mktemp("machines") / "machines.csv"
    path.write_text("machine,item,bore,bad,inspected\n" + "\n".join(rows) + "\n")
    return path


def columns(path: Path, value: str, by: str) -> dict[str, list[float]]:
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row[header.index(by)], []).append(float(row[header.index(value)]))
    return groups


@pytest.mark.parametrize("method", ["anova", "nested", "xbar_r"])
def test_a_gauge_study_fits_its_schema(gauge_file: Path, method: str) -> None:
    words = (gauge_file, "--value", "bore", "--part", "part", "--operator", "operator", "--method", method, "--tolerance", "5")
    found = document("gauge", *words)
    shares = {row["name"]: row["contribution_pct"] for row in found["result"]["components"]}
    assert shares["total"] == pytest.approx(100)
    assert max(map(cell_len, spc("gauge", *words).splitlines())) <= 100


def test_repeatability_is_the_pooled_variance_of_the_cells_where_the_interaction_stays(gauge_file: Path) -> None:
    words = (gauge_file, "--value", "bore", "--part", "part", "--operator", "operator", "--interaction-alpha", "1")
    found = document("gauge", *words)
    cells: dict[tuple[str, str], list[float]] = {}
    for line in gauge_file.read_text().splitlines()[1:]:
        part, operator, value = line.split(",")
        cells.setdefault((part, operator), []).append(float(value))
    pooled = statistics.fmean(statistics.variance(values) for values in cells.values())
    assert found["result"]["components"][0]["variance"] == pytest.approx(pooled, rel=1e-9)


def test_bias_is_the_mean_minus_the_reference(gauge_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("x\n5.8\n5.7\n5.9\n6.1\n")
    found = document("gauge", path, "--value", "x", "--bias", "--reference", "6")
    assert found["result"]["bias"] == pytest.approx(-0.125, rel=1e-12)
    assert "[SPC-386]" in refused("gauge", gauge_file, "--value", "bore", "--bias", "--reference", "part")


def test_bias_with_a_tolerance_says_whether_the_gauge_is_capable(tmp_path: Path) -> None:
    values = [9.99, 10.01, 10.0, 10.02, 9.98] * 5
    path = tmp_path / "reference.csv"
    path.write_text("x\n" + "\n".join(map(str, values)) + "\n")
    words = (path, "--value", "x", "--bias", "--reference", "10.005")
    found = document("gauge", *words, "--lsl", "9.5", "--usl", "10.5")["result"]["type_one"]
    spread = 6 * statistics.stdev(values)
    # Cg = 0.2 T / 6 s, Cgk = (0.1 T - |bias|) / 3 s (Minitab, type 1 gauge study)
    assert found["cg"] == pytest.approx(0.2 / spread, rel=1e-9)
    assert found["cgk"] == pytest.approx((0.1 - 0.005) / (spread / 2), rel=1e-9)
    assert "type_one" not in document("gauge", *words)["result"]


def test_linearity_is_the_slope_of_bias_on_reference(tmp_path: Path) -> None:
    dice = random.Random(2)
    pairs = [(reference, reference * 1.01 + dice.gauss(0, 0.05)) for reference in (2.0, 4.0, 6.0, 8.0) for _ in range(5)]
    path = tmp_path / "linearity.csv"
    path.write_text("true;x\n" + "\n".join(f"{a};{b!r}" for a, b in pairs))
    found = document("gauge", path, "--value", "x", "--linearity", "--reference", "true")
    slope = stats.linregress([a for a, _ in pairs], [b - a for a, b in pairs]).slope
    assert found["result"]["slope"]["value"] == pytest.approx(slope, rel=1e-9)


def test_a_missing_operator_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "gauge.csv"
    path.write_text("part,operator,x\n1,A,1\n1,,2\n")
    message = refused("gauge", path, "--value", "x", "--part", "part", "--operator", "operator")
    assert re.search(r"SPC-387.*row 2, column 'operator'", message)


def test_means_are_compared_by_welch(two_machines: Path) -> None:
    found = document("compare", two_machines, "--value", "bore", "--group", "machine")
    groups = columns(two_machines, "bore", "machine")
    expected = stats.ttest_ind(groups["M1"], groups["M2"], equal_var=False)
    assert found["results"][0]["statistic"] == pytest.approx(expected.statistic, rel=1e-9)
    assert found["results"][0]["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)


def test_pairs_are_joined_by_item_in_any_order_of_rows(two_machines: Path, tmp_path: Path) -> None:
    header, *rows = two_machines.read_text().splitlines()
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([header, *random.Random(1).sample(rows, len(rows))]))
    words = ("--value", "bore", "--group", "machine", "--paired", "item")
    found, again = document("compare", two_machines, *words), document("compare", shuffled, *words)
    groups = columns(two_machines, "bore", "machine")
    assert found["results"] == again["results"]
    assert found["results"][0]["statistic"] == pytest.approx(stats.ttest_rel(groups["M1"], groups["M2"]).statistic, rel=1e-9)


def test_an_item_without_a_partner_is_left_out_and_said(two_machines: Path, tmp_path: Path) -> None:
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(two_machines.read_text().splitlines()[:-1]))
    found = document("compare", path, "--value", "bore", "--group", "machine", "--paired", "item")
    assert any("1 items without a value in every group" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    "words",
    [
        ("--question", "variances", "--value", "bore", "--group", "machine"),
        ("--question", "medians", "--value", "bore", "--group", "machine"),
        ("--question", "normality", "--value", "bore", "--group", "machine"),
        ("--question", "proportions", "--count", "bad", "--size", "inspected", "--group", "machine"),
        ("--question", "rates", "--count", "bad", "--size", "50", "--group", "machine"),
        ("--value", "bore", "--group", "machine", "--paired", "item", "--laboratories"),
    ],
)
def test_every_question_fits_the_schema_and_100_columns(two_machines: Path, words: tuple[str, ...]) -> None:
    document("compare", two_machines, *words)
    assert max(map(cell_len, spc("compare", two_machines, *words).splitlines())) <= 100
    assert "<script" not in spc("compare", two_machines, *words, "--format", "html")


def test_proportions_are_those_of_the_summed_counts(two_machines: Path) -> None:
    found = document(
        "compare", two_machines, "--question", "proportions", "--count", "bad", "--size", "inspected", "--group", "machine"
    )
    bad = {name: sum(values) for name, values in columns(two_machines, "bad", "machine").items()}
    assert found["results"][0]["estimate"] == pytest.approx((bad["M1"] - bad["M2"]) / 500, rel=1e-12)


def test_laboratories_of_several_materials(tmp_path: Path) -> None:
    dice = random.Random(3)
    rows = [f"{lab},{m},{5 + m + dice.gauss(0, 0.1):.4f}" for lab in "ABCD" for m in (1, 2) for _ in range(2)]
    path = tmp_path / "round.csv"
    path.write_text("laboratory,material,x\n" + "\n".join(rows))
    found = document("compare", path, "--value", "x", "--group", "laboratory", "--material", "material", "--laboratories")
    assert found["kind"] == "interlaboratory"
    assert [row["material"] for row in found["result"]["materials"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--value", "bore", "--group", "machine", "--question", "luck"), "SPC-366"),
        (("--question", "proportions", "--count", "bad", "--group", "machine"), "--size"),
        (("--group", "machine"), "--value"),
        (("--value", "bore", "--group", "machine", "--question", "paired"), "--paired"),
        (("--value", "bore", "--group", "station"), "SPC-384"),
    ],
)
def test_a_question_that_cannot_be_asked_says_why(two_machines: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused("compare", two_machines, *words)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--part", "part", "--operator", "operator", "--reference", "10"), "--reference has no use in a gauge R&R study"),
        (("--bias", "--reference", "10", "--part", "part", "--method", "nested"), "--part, --method has no use in bias"),
    ],
)
def test_an_option_that_the_study_does_not_use_is_refused(gauge_file: Path, options: tuple[str, ...], told: str) -> None:
    assert told in refused("gauge", gauge_file, "--value", "bore", *options)
