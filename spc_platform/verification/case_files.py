"""The reference cases as data: read from the TOML files of ``cases/``, checked, and identified by their sha256."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from spc_platform.errors import ContractError

BAD_CASE = "SPC-395"

_KEYS = {"id", "title", "source", "compute", "input", "expected", "needs"}
_EXPECTED_KEYS = {"value", "digits", "within", "units", "exact", "note"}


@dataclass(frozen=True)
class Expected:
    """One figure of a source.

    ``printed``: as the source prints it (None for an ``exact`` list, e.g. the points that signal). ``within``: largest
    difference that still agrees with it. ``required_digits``: the same as a log relative error. ``note``: why a figure is
    asked for fewer digits than it has, where that is so.
    """

    name: str
    printed: str | None
    exact: Any
    within: float
    required_digits: float | None
    note: str | None


@dataclass(frozen=True)
class Case:
    """One comparison: ``compute`` is a row of ``computations.COMPUTATIONS`` and gets ``inputs``.

    ``needs``: file below the folder of external data without which the case cannot run, or None.
    """

    subject: str
    subject_title: str
    case_id: str
    title: str
    source: str
    compute: str
    inputs: Mapping[str, Any]
    expected: tuple[Expected, ...]
    needs: str | None


def load_cases() -> tuple[Case, ...]:
    """All cases in the order of their files. Raises ``ContractError`` SPC-395 for a case that says nothing checkable.

    >>> len(load_cases()) >= 50
    True
    """
    cases = tuple(case for _, text in _definitions() for case in _of_file(tomllib.loads(text)))
    ids = [case.case_id for case in cases]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ContractError(f"reference case {twice[0]} is defined twice; give each its own id", code=BAD_CASE)
    return cases


def definitions_sha256() -> str:
    """Sha256 of every file of this package that defines cases, their data or their computation, in order of name."""
    digest = hashlib.sha256()
    for path, content in sorted(_walk(files("spc_platform.verification"), "")):
        digest.update(f"{path}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _definitions() -> list[tuple[str, str]]:
    folder = files("spc_platform.verification") / "cases"
    return sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.is_file() and entry.name.endswith((".py", ".toml", ".txt")):
            # a checkout with other line ends is the same definition
            yield f"{prefix}{entry.name}", entry.read_bytes().replace(b"\r\n", b"\n")


def _of_file(document: Mapping[str, Any]) -> Iterator[Case]:
    data = document.get("data", {})
    for entry in document["case"]:
        name = entry.get("id", "without id")
        if unknown := sorted(set(entry) - _KEYS):
            raise ContractError(f"reference case {name}: unknown {', '.join(unknown)}; correct the spelling", code=BAD_CASE)
        if not entry.get("source", "").strip() or not entry.get("expected"):
            raise ContractError(f"reference case {name} names no source or expects nothing; complete it", code=BAD_CASE)
        yield Case(
            subject=document["subject"],
            subject_title=document["title"],
            case_id=entry["id"],
            title=entry["title"],
            source=" ".join(entry["source"].split()),
            compute=entry["compute"],
            inputs=_with_data(entry.get("input", {}), data, name),
            expected=tuple(_expected(name, entry["expected"])),
            needs=entry.get("needs"),
        )


def _with_data(value: Any, data: Mapping[str, Any], name: str) -> Any:
    """Input in which ``"@NAME"`` stands for a row of the file's table ``data``."""
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in data:
            raise ContractError(f"reference case {name}: no data {value[1:]!r} in its file; add it under [data]", code=BAD_CASE)
        return data[value[1:]]
    if isinstance(value, dict):
        return {key: _with_data(part, data, name) for key, part in value.items()}
    return [_with_data(part, data, name) for part in value] if isinstance(value, list) else value


def _expected(name: str, expected: Mapping[str, Any]) -> Iterator[Expected]:
    for figure, given in expected.items():
        row = given if isinstance(given, dict) else {"value": given}
        if set(row) - _EXPECTED_KEYS or ("value" in row) == ("exact" in row):
            raise ContractError(f"reference case {name}: {figure} needs a value or an exact list, once", code=BAD_CASE)
        if "exact" in row:
            yield Expected(figure, None, row["exact"], 0.0, None, row.get("note"))
        elif isinstance(row["value"], list):
            for number, printed in enumerate(row["value"], start=1):
                yield _numeric(f"{figure}[{number}]", printed, row)
        else:
            yield _numeric(figure, row["value"], row)


def _numeric(figure: str, printed: str, row: Mapping[str, Any]) -> Expected:
    """A printed figure agrees within half a unit of its last place, unless the row asks for digits, a difference or units."""
    from spc_platform.verification.judging import as_digits

    value = float(printed)
    if "digits" in row:
        within = abs(value) * 10.0 ** -float(row["digits"]) if value else 10.0 ** -float(row["digits"])
    else:
        within = float(row.get("within", 2 * float(row.get("units", 0.5)) * half_of_last_place(printed)))
    return Expected(figure, printed, None, within, as_digits(within, value), row.get("note"))


def half_of_last_place(printed: str) -> float:
    """Half a unit of the last place that a source prints.

    >>> half_of_last_place("0.2313"), half_of_last_place("465"), half_of_last_place("1.5E-3")
    (5e-05, 0.5, 5e-05)
    """
    mantissa, _, exponent = printed.lower().partition("e")
    places = len(mantissa.partition(".")[2])
    return float(f"5e{int(exponent or 0) - places - 1}")
