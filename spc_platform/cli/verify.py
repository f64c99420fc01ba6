"""`spc verify`: reference cases and the files of the lake on this machine, and a report that can be signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spc_platform.errors import ContractError, LakeError, SpcError
from spc_platform.settings import Settings
from spc_platform.verification.case_files import load_cases
from spc_platform.verification.judging import run_cases
from spc_platform.verification.page import verification_page
from spc_platform.verification.qualification import NOT_ASKED, qualification

PARTS = ("statistics", "files")
BAD_OPTION = "SPC-396"
NO_LAKE = "SPC-508"
CANNOT_WRITE = "SPC-398"

console = Console(highlight=False, soft_wrap=True)


def run_verify(
    only: str | None = None, out: Path = Path("verification-report"), data: Path | None = None, date: str | None = None
) -> int:
    """Writes report.json and report.html to ``out``; exit code 0 when nothing that ran failed, 1 otherwise.

    ``only``: statistics or files; both by default, the files where a lake exists. ``data``: folder of external data sets
    (default: SPC_SHARED_DATA). ``date``: of the report, ISO 8601 (default: now, UTC). Raises ``ContractError`` SPC-396 for
    another ``only`` or date, and SPC-398 when the report cannot be written; ``LakeError`` SPC-508 when only the files are
    asked for and there is no lake.
    """
    settings = Settings()
    when = _date(date)
    if only is not None and only not in PARTS:
        raise ContractError(f"--only {only}: it is {' or '.join(PARTS)}; leave it out for both", code=BAD_OPTION)
    if only == "files" and not settings.lake_root.is_dir():
        raise LakeError(f"no lake at {settings.lake_root}; set SPC_DATA to the folder that holds it", code=NO_LAKE)
    folder = data or settings.shared_data
    outcomes = None if only == "files" else run_cases(load_cases(), folder)
    lake = _not_asked() if only == "statistics" else _lake(settings)
    report = qualification(outcomes, lake, when, folder if folder.is_dir() else None)
    _print(report)
    _write(report, out)
    console.print(f"[bold]{report['verdict']}[/bold]; report: {out / 'report.html'}, {out / 'report.json'}")
    return 1 if report["verdict"] == "failed" else 0


def _date(given: str | None) -> str:
    if given is None:
        return datetime.now(UTC).isoformat(timespec="seconds")
    try:
        datetime.fromisoformat(given)
    except ValueError as error:
        text = f"--date {given}: it is no date; write it like 2026-11-21 or 2026-11-21T14:30+01:00"
        raise ContractError(text, code=BAD_OPTION) from error
    return given


def _not_asked() -> dict[str, Any]:
    return {"status": "not run", "reason": NOT_ASKED, "root": None, "published": None, "problems": []}


def _lake(settings: Settings) -> dict[str, Any]:
    """Every file of the lake and of the published version against its committed sha256."""
    found = _not_asked() | {"root": str(settings.lake_root)}
    if not settings.lake_root.is_dir():
        return found | {"reason": f"no lake at {settings.lake_root}"}
    from spc_platform.engine import Workspace

    published: str | None = None
    problems: list[str] = []
    try:
        workspace = Workspace.open(settings)
        problems += [str(problem) for problem in workspace.lake.verify()]
        published = workspace.serving.current_version()
        if published is not None:
            workspace.serving.verify(published)
    except SpcError as error:
        problems.append(str(error))
    status = "failed" if problems else "passed"
    return found | {"status": status, "reason": None, "published": published, "problems": problems}


def _print(report: Mapping[str, Any]) -> None:
    statistics, lake = report["statistics"], report["files"]
    if statistics["results"]:
        table = Table("subject", "cases", "passed", "failed", "not run", "figures", "agree")
        for row in statistics["subjects"]:
            counts = (row[name] for name in ("cases", "passed", "failed", "not_run", "figures", "figures_passed"))
            table.add_row(row["title"], *(str(count) for count in counts))
        console.print(table)
        for result in statistics["results"]:
            _print_failure(result)
        missing = [result for result in statistics["results"] if result["status"] == "not run"]
        for reason in dict.fromkeys(result["reason"] for result in missing):
            names = ", ".join(result["id"] for result in missing if result["reason"] == reason)
            console.print(f"not run: {reason}: {names}")
        cases, figures = statistics["cases"], statistics["figures"]
        counted = f"{cases['passed']} cases passed, {cases['failed']} failed, {cases['not_run']} not run"
        console.print(
            f"statistics: {statistics['status']}: {counted}; {figures['passed']} figures agree, {figures['failed']} do not"
        )
    console.print(f"files: {lake['status']}{': ' + lake['reason'] if lake['reason'] else ''}")
    if lake["status"] == "passed":
        console.print("every file is as it was committed")
    for problem in lake["problems"]:
        console.print(problem, markup=False)


def _print_failure(result: Mapping[str, Any]) -> None:
    if result["status"] != "failed":
        return
    console.print(f"FAILED {result['id']}: {result['title']}; source: {result['source']}", style="red", markup=False)
    if result["reason"]:
        console.print(f"  {result['reason']}", markup=False)
    for figure in result["figures"]:
        if not figure["passed"]:
            digits = "" if figure["achieved_digits"] is None else f", {figure['achieved_digits']:.1f} digits"
            needed = "exactly" if figure["required_digits"] is None else f"to {figure['required_digits']:.1f}"
            text = f"  {figure['name']}: expected {figure['expected']} {needed}, obtained {figure['obtained']}{digits}"
            console.print(text, markup=False)


def _write(report: Mapping[str, Any], out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(
            json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        (out / "report.html").write_text(verification_page(report), encoding="utf-8")
    except OSError as error:
        text = f"the report cannot be written to {out} ({error.strerror}); give another folder with --out"
        raise ContractError(text, code=CANNOT_WRITE) from error
