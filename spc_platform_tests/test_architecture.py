"""Imports run downwards only, and the core does no I/O and knows no orchestrator."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "spc_platform"
CORE = ("contracts", "site", "prepare", "spc", "production")
FORBIDDEN_IN_CORE = {"dagster", "dagster_dbt", "dagster_duckdb", "requests", "sqlite3", "duckdb", "subprocess", "socket", "os"}
EDGES = ("sources", "collect", "lake", "report", "plant", "engine", "erp")
READS_FOLDERS = {"site/loader.py", "site/files.py", "site/scaffold.py"}
ARGUED = {("contracts/expectations.py", "os")}
"""Great Expectations reads its opt-out of analytics from the environment while it is imported."""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PACKAGE / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules(*CORE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_imports_no_dagster_and_does_no_io(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    roots = {module.split(".")[0] for module in imports(path)}
    wrong = {root for root in roots & FORBIDDEN_IN_CORE if (name, root) not in ARGUED}
    assert not wrong, f"{name} imports {wrong}"
    layers = {module.split(".")[1] for module in imports(path) if module.startswith("spc_platform.") and module.count(".")}
    assert layers <= {*CORE, "errors"}, f"{name} imports upwards: {layers - {*CORE, 'errors'}}"


@pytest.mark.parametrize("path", modules(*CORE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_site_loader_opens_files(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in READS_FOLDERS:
        return
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not calls & {
        "open",
        "read_text",
        "write_text",
        "read_bytes",
        "write_bytes",
        "read_parquet",
        "write_parquet",
        "read_csv",
    }


@pytest.mark.parametrize("path", modules(*EDGES), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_edges_import_no_dagster(path: Path) -> None:
    assert not {module for module in imports(path) if module.split(".")[0].startswith("dagster")}


def test_the_plant_knows_its_truth_without_the_code_that_is_judged_by_it() -> None:
    for path in modules("plant"):
        layers = {module.split(".")[1] for module in imports(path) if module.startswith("spc_platform.") and module.count(".")}
        assert not layers & {"spc", "production", "prepare", "engine", "lake"}, path


@pytest.mark.parametrize("path", modules("verification"), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_reference_cases_judge_the_core_and_nothing_above_it(path: Path) -> None:
    names = imports(path)
    layers = {module.split(".")[1] for module in names if module.startswith("spc_platform.") and module.count(".")}
    assert layers <= {*CORE, "errors", "verification"}, path
    assert not {module.split(".")[0] for module in names} & FORBIDDEN_IN_CORE, path


def test_the_core_does_not_know_its_reference_cases() -> None:
    for path in modules(*CORE):
        assert not {module for module in imports(path) if module.startswith("spc_platform.verification")}, path
