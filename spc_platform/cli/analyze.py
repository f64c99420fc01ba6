"""`spc analyze` and `spc capability`: one file, one study, as a table, JSON, a page or a picture."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spc_platform.cli.study_file import StudyFile, read
from spc_platform.cli.study_plan import Prepared, Request, prepare, wrong_option
from spc_platform.errors import ContractError

SIGNALLED = 3
"""Exit code of ``--fail-on-signal`` where a point signals."""
_FORMATS = ("table", "json", "html", "png")


def run_analyze(
    path: Path,
    request: Request,
    *,
    form: str = "table",
    out: Path | None = None,
    sheet: str | None = None,
    fail_on_signal: bool,
) -> int:
    """Writes the study of a file. Exit code 0, or 3 where a point signals and that was asked for."""
    check_output(path, form, out, _FORMATS)
    file = read(path, sheet)
    document = studied(file, prepare(file, request))
    write(_rendered(document, form), out)
    return SIGNALLED if fail_on_signal and document["violations"] else 0


def run_capability(
    path: Path, request: Request, *, form: str = "table", out: Path | None = None, sheet: str | None = None
) -> int:
    """Writes the capability of a file with its stability and fitness, from the very study that `spc analyze` makes."""
    from spc_platform.contracts.charts import CHARTS

    check_output(path, form, out, ("table", "json", "html"))
    if request.lsl is None and request.usl is None:
        raise wrong_option("capability is measured against a specification: give --lsl, --usl or both.")
    file = read(path, sheet)
    prepared = prepare(file, request)
    if CHARTS[prepared.plan.chart].data != "values":
        raise wrong_option(f"capability needs measured values; the {CHARTS[prepared.plan.chart].title} chart has none.")
    document = capability_document(studied(file, prepared))
    write(_rendered(document, form), out)
    return 0


def studied(file: StudyFile, prepared: Prepared) -> dict[str, Any]:
    """The document of the study of a file that was read."""
    from spc_platform.report.study import study_document
    from spc_platform.spc.study import study

    try:
        found = study(prepared.frame, prepared.plan)
    except ContractError as error:
        raise with_file(error, file) from error
    facts = {"name": file.name, "sha256": file.sha256, "rows": file.rows}
    return study_document(found, file=facts, columns=prepared.columns, warnings=prepared.warnings)


def with_file(error: ContractError, file: StudyFile) -> ContractError:
    """The error of the statistics, which know rows but no file, with the name of the file."""
    text = str(error).removeprefix(f"[{error.code}] ")
    return ContractError(text if text.startswith(file.name) else f"{file.name}: {text}", code=error.code)


def capability_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a study's document that bears on capability; points and their limits are left out, the signals stay."""
    return {name: value for name, value in document.items() if name != "panels"}


def _rendered(document: Mapping[str, Any], form: str) -> str | bytes:
    if form == "json":
        from spc_platform.report.study import to_json

        return to_json(document)
    if form == "html":
        from spc_platform.report.study_page import study_page

        return study_page(document)
    if form == "png":
        from spc_platform.report.study_chart import study_png

        return study_png(document)
    from spc_platform.cli.study_table import study_text

    return study_text(document)


def check_output(path: Path, form: str, out: Path | None, forms: tuple[str, ...]) -> None:
    """Raises SPC-386 or SPC-389 before anything is read when the result could not be written as asked."""
    if form not in forms:
        raise wrong_option(f"--format {form!r}: choose {', '.join(forms)}.")
    if out is None:
        if form == "png" and sys.stdout.isatty():
            raise ContractError("a picture does not go to a terminal: name a file with --out, or redirect.", code="SPC-389")
        return
    if not out.parent.is_dir():
        raise ContractError(f"--out {out}: there is no folder {out.parent}. Make it, or choose another.", code="SPC-389")
    if out.is_dir():
        raise ContractError(f"--out {out} is a folder. Name a file in it.", code="SPC-389")
    if out.exists() and path.exists() and out.samefile(path):
        raise ContractError(f"--out {out} is the file of the data, which is never written. Name another.", code="SPC-389")


def write(content: str | bytes, out: Path | None) -> None:
    """To standard output, or to a file that appears whole or not at all. Raises SPC-389 where the folder refuses it."""
    body = content.encode() if isinstance(content, str) else content
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        with os.fdopen(handle, "wb") as target:
            target.write(body)
        Path(name).chmod(0o644)
        Path(name).replace(out)
    except OSError as error:
        raise ContractError(
            f"--out {out}: {error.strerror}. Choose a folder that can be written to.", code="SPC-389"
        ) from error
