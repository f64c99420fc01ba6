"""The documentation names what there is: error codes, files, targets and verbs."""

from __future__ import annotations

import ast
import io
import itertools
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import typer

import spc_platform
from spc_platform.cli.main import app
from spc_platform.contracts.charts import ATTRIBUTE_TESTS, CHARTS, LIMITS_ONLY, TESTS
from spc_platform.contracts.rules import RULES
from spc_platform.settings import REPOSITORY
from spc_platform.spc.fitness_reasons import REASONS
from spc_platform.spc.rule_sets import RULE_SETS, custom_rules
from spc_platform.spc.sigma import ESTIMATORS as SIGMA_ESTIMATORS

PACKAGE = Path(spc_platform.__file__).parent
ERRORS = REPOSITORY / "docs" / "reference" / "errors.md"
CHARTS_PAGE = REPOSITORY / "docs" / "reference" / "charts.md"
HOW_TO = REPOSITORY / "docs" / "how-to" / "charts-and-limits.md"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTEXT.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PAGES += sorted((REPOSITORY / "data").glob("*/README.md"))
CODE = re.compile(r"SPC-\d{3}")
CLASS_DIGIT = {"TransientError": "1", "PermanentError": "2", "ContractError": "36", "SiteError": "4", "LakeError": "5"}
"""3 is data and statistics, 6 records of production."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def commands(page: Path) -> list[str]:
    """What stands in fenced blocks of shell or in code spans: the places where a page tells what to type."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    text = page.read_text()
    shell = [line for language, block in fenced.findall(text) if language == "sh" for line in block.splitlines()]
    return shell + re.findall(r"`([^`\n]+)`", fenced.sub("", text))


def used_codes() -> set[str]:
    return {code for path in PACKAGE.rglob("*.py") for code in CODE.findall(path.read_text())}


def rows() -> list[list[str]]:
    lines = [line for line in ERRORS.read_text().splitlines() if line.startswith("| `SPC-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_error_code_has_exactly_one_row_and_no_row_is_stale() -> None:
    documented = Counter(row[0].strip("`") for row in rows())
    assert documented == Counter(used_codes())
    assert list(documented) == sorted(documented)
    assert all(len(row) == 4 and all(row) for row in rows())


def test_only_transient_errors_are_said_to_be_retried() -> None:
    assert {row[0]: row[1] for row in rows()} == {row[0]: "yes" if row[0].startswith("`SPC-1") else "no" for row in rows()}


def test_every_error_is_raised_with_a_code_of_its_class() -> None:
    raised = 0
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CLASS_DIGIT:
                given = " ".join(ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "code")
                for code in CODE.findall(given):
                    raised += 1
                    assert code[4] in CLASS_DIGIT[call.func.id], f"{path.name}:{call.lineno} raises {call.func.id} with {code}"
    assert raised > 20


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_to_files(page: Path) -> None:
    goals = [goal.split("#")[0] for goal in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:|#", goal)]
    assert [goal for goal in goals if not (page.parent / goal).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    named = {target for command in commands(page) for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", command)}
    assert named - targets == set()


def test_the_targets_that_make_help_is_said_to_list_exist() -> None:
    (sentence,) = re.findall(r"`make help` lists the rest: (.*)", (REPOSITORY / "README.md").read_text())
    shown = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    listed = set(re.findall(r"`([a-z-]+)`", sentence))
    assert listed
    assert listed - shown == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_spc_verbs_exist_with_their_options(page: Path) -> None:
    root = typer.main.get_command(app)
    for command in commands(page):
        for words in re.findall(r"(?:^|[\s/])spc ([a-z](?:[^\s#;|&]+ ?)+)", command):
            verb, rest = root, words.split()
            while rest and hasattr(verb, "commands"):
                assert rest[0] in verb.commands, f"{name(page)}: `spc {words}` names no verb {rest[0]}"
                verb, rest = verb.commands[rest[0]], rest[1:]
            known = {option for parameter in verb.params for option in (*parameter.opts, *parameter.secondary_opts)}
            options = {word.lstrip("[").split("=")[0] for word in rest if word.lstrip("[").startswith("--")}
            assert options - known == set(), f"{name(page)}: `spc {words}`"


def test_the_pages_name_verbs_and_targets_at_all() -> None:
    """The three tests above look at something."""
    said = [command for page in PAGES for command in commands(page)]
    assert sum("spc " in command for command in said) > 10
    assert sum("make " in command for command in said) >= 4


def table_under(page: Path, heading: str) -> list[list[str]]:
    """Rows of the first table below a heading, cell by cell."""
    below = page.read_text().split(f"\n{heading}\n", 1)[1].splitlines()
    rows = itertools.takewhile(
        lambda line: line.startswith("|"), itertools.dropwhile(lambda line: not line.startswith("|"), below)
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows][2:]


def csv_blocks(page: Path) -> list[pl.DataFrame]:
    blocks = re.findall(r"^```csv\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [pl.read_csv(io.StringIO(block), infer_schema=False) for block in blocks]


def test_the_page_of_charts_says_what_the_code_does() -> None:
    """Panels, estimators, sizes and tests of every chart, in the order of the code."""
    tests = {TESTS: "all", ATTRIBUTE_TESTS: ", ".join(ATTRIBUTE_TESTS), LIMITS_ONLY: "limits"}
    expected = [
        [
            f"`{chart.name}`",
            chart.title,
            "; ".join(f"{panel.name} `{panel.statistic}`" for panel in chart.panels),
            ", ".join(f"`{name}`" for name in chart.estimators),
            "1" if chart.sizes == (1, 1) else f"{chart.sizes[0]} or more",
            tests[chart.panels[0].tests],
        ]
        for chart in CHARTS.values()
    ]
    assert table_under(CHARTS_PAGE, "## Every chart") == expected
    others = [panel.tests for chart in CHARTS.values() for panel in chart.panels[1:]]
    assert set(others) == {LIMITS_ONLY}


def test_every_rule_set_and_finding_is_explained() -> None:
    sets = [row[0].strip("`") for row in table_under(CHARTS_PAGE, "## Run rules")]
    assert sorted(sets) == sorted(RULE_SETS)
    told = {code for row in table_under(CHARTS_PAGE, "## Chart fitness") for code in re.findall(r"`(\w+)`", row[0])}
    assert told == {reason.code for reason in REASONS}


def test_every_kind_of_limit_and_estimator_is_explained() -> None:
    told = {name for row in table_under(CHARTS_PAGE, "### Estimators of sigma") for name in re.findall(r"^`(\w+)`", row[0])}
    assert told == set(SIGMA_ESTIMATORS)
    text = CHARTS_PAGE.read_text()
    assert [name for name in CHARTS if text.count(f"`{name}`") < 2] == []


def test_the_worked_rules_are_a_set_that_the_evaluator_takes() -> None:
    (frame,) = [block for block in csv_blocks(HOW_TO) if "rule_set" in block.columns and "kind" in block.columns]
    types = {column.name: column.dtype for column in RULES.columns if column.name in ("k", "m", "zone")}
    (rules,) = custom_rules(frame.cast(types)).values()
    assert [rule.name for rule in rules] == ["plant_1", "plant_2", "plant_3", "plant_4"]
    assert (rules[1].flag, rules[2].side, rules[2].ties, rules[3].on_centre) == ("window", "above", "ignore", "skip")


@pytest.mark.parametrize("table", ["characteristics", "multivariate"])
def test_the_worked_rows_of_a_site_are_those_of_the_embedded_plant(table: str) -> None:
    """So that they pass every check of a site: what the page leaves out are masks, sensor ranges and longer descriptions."""
    site = pl.read_csv(REPOSITORY / "data" / "site" / f"{table}.csv", infer_schema=False)
    key = [name for name in ("chart_id", "characteristic_id", "equipment_id") if name in site.columns]
    told = next(
        block for block in csv_blocks(HOW_TO) if set(key) <= set(block.columns) and set(block.columns) <= set(site.columns)
    )
    told = told.drop("description", strict=False)
    assert told.height >= 4
    assert told.join(site, on=told.columns, how="anti", nulls_equal=True).rows() == []
