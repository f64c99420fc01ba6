"""The verification report as one JSON-ready dict: what was compared, with which source, to how many digits, on which machine.

The layout is published in docs/reference/verification.schema.json. Nothing in it depends on the clock but ``date``.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spc_platform.verification.case_files import definitions_sha256
from spc_platform.verification.judging import Checked, Outcome, plain

SCHEMA_VERSION = "1.0"

LIBRARIES = ("numpy", "scipy", "polars", "statsmodels", "duckdb", "pyarrow")

NOT_ASKED = "not asked for"


def qualification(outcomes: Sequence[Outcome] | None, lake: Mapping[str, Any], date: str, data: Path | None) -> dict[str, Any]:
    """Report of ``outcomes`` (None: statistics were not asked for) and of the files of the lake.

    ``lake``: status (passed, failed, not run), reason, root, published, problems. ``date``: ISO 8601, as the caller says.
    """
    ran = outcomes or ()
    figures = [figure for outcome in ran for figure in outcome.figures]
    by_status = Counter(outcome.status for outcome in ran)
    statistics = {
        "status": "not run" if outcomes is None else "failed" if by_status["failed"] else "passed",
        "reason": NOT_ASKED if outcomes is None else None,
        "definitions_sha256": definitions_sha256(),
        "data_folder": None if data is None else str(data),
        "cases": {"passed": by_status["passed"], "failed": by_status["failed"], "not_run": by_status["not run"]},
        "figures": {"passed": sum(figure.passed for figure in figures), "failed": sum(not figure.passed for figure in figures)},
        "subjects": _subjects(ran),
        "results": [_case(outcome) for outcome in ran],
    }
    failed = "failed" in (statistics["status"], lake["status"])
    return {
        "schema_version": SCHEMA_VERSION,
        "title": "Verification report of spc-platform",
        "date": date,
        "verdict": "failed" if failed else "passed",
        "software": {"spc-platform": _version("spc-platform"), **{name: _version(name) for name in LIBRARIES}},
        "package_sha256": package_sha256(),
        "machine": {
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "platform": platform.platform(),
            "architecture": platform.machine(),
            "float": f"{sys.float_info.mant_dig} binary digits",
        },
        "statistics": statistics,
        "files": dict(lake),
    }


def package_sha256() -> str:
    """Sha256 of all Python files of the installed package, in order of path: which code was verified."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _subjects(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Counts per subject, in the order of the cases."""
    found = []
    for subject in dict.fromkeys(outcome.case.subject for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.case.subject == subject]
        status = Counter(outcome.status for outcome in own)
        figures = [figure for outcome in own for figure in outcome.figures]
        found.append(
            {
                "subject": subject,
                "title": own[0].case.subject_title,
                "cases": len(own),
                "passed": status["passed"],
                "failed": status["failed"],
                "not_run": status["not run"],
                "figures": len(figures),
                "figures_passed": sum(figure.passed for figure in figures),
            }
        )
    return found


def _case(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    return {
        "id": case.case_id,
        "subject": case.subject,
        "title": case.title,
        "source": case.source,
        "needs": case.needs,
        "status": outcome.status,
        "reason": outcome.reason,
        "figures": [_figure(figure) for figure in outcome.figures],
    }


def _figure(figure: Checked) -> dict[str, Any]:
    expected = figure.expected
    return {
        "name": expected.name,
        "expected": expected.exact if expected.printed is None else expected.printed,
        "obtained": plain(figure.obtained),
        "within": expected.within,
        "required_digits": None if expected.required_digits is None else round(expected.required_digits, 2),
        "achieved_digits": None if figure.digits is None else round(figure.digits, 2),
        "note": expected.note,
        "passed": figure.passed,
    }
