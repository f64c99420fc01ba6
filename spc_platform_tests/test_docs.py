"""The documentation names what there is: error codes, files, targets and verbs."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import typer

import spc_platform
from spc_platform.cli.main import app
from spc_platform.settings import REPOSITORY

PACKAGE = Path(spc_platform.__file__).parent
ERRORS = REPOSITORY / "docs" / "reference" / "errors.md"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTEXT.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PAGES += sorted((REPOSITORY / "data").glob("*/README.md"))
CODE = re.compile(r"SPC-\d{3}")
CLASS_DIGIT = {"TransientError": "1", "PermanentError": "2", "ContractError": "3", "SiteError": "4", "LakeError": "5"}
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
                    assert code[4] == CLASS_DIGIT[call.func.id], f"{path.name}:{call.lineno} raises {call.func.id} with {code}"
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
            known = {option for parameter in verb.params for option in parameter.opts}
            options = {word.lstrip("[").split("=")[0] for word in rest if word.lstrip("[").startswith("--")}
            assert options - known == set(), f"{name(page)}: `spc {words}`"


def test_the_pages_name_verbs_and_targets_at_all() -> None:
    """The three tests above look at something."""
    said = [command for page in PAGES for command in commands(page)]
    assert sum("spc " in command for command in said) > 10
    assert sum("make " in command for command in said) >= 4
