"""Runs reference cases and compares what the core computes with what the source says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spc_platform.verification.case_files import Case, Expected

Status = Literal["passed", "failed", "not run"]

MOST_DIGITS = 16.0
"""Digits of a figure that equals the source's in every bit; an inexact one has at most 15."""

DATA_MISSING = "data folder missing"

# a printed half such as 0.125 at two places must not fail by the rounding of the comparison itself
_SLACK = 1e-9


@dataclass(frozen=True)
class Checked:
    """One figure compared: ``obtained`` is None where the computation gave none, ``digits`` the log relative error."""

    expected: Expected
    obtained: Any
    digits: float | None
    passed: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one case. ``reason``: why it did not run, or which error its computation raised."""

    case: Case
    status: Status
    figures: tuple[Checked, ...]
    reason: str | None = None


def run_cases(
    cases: Iterable[Case], data: Path | None, computations: Mapping[str, Callable[..., Mapping[str, Any]]] | None = None
) -> tuple[Outcome, ...]:
    """Outcome of each case in order.

    ``data``: folder of external data sets; cases that need a file of it are ``not run`` where it is missing, never passed.
    An exception of the core is a failure of its case, with its text as the reason: the other cases still run.
    """
    if computations is None:
        from spc_platform.verification.computations import COMPUTATIONS

        computations = COMPUTATIONS
    return tuple(_outcome(case, data, computations[case.compute]) for case in cases)


def _outcome(case: Case, data: Path | None, compute: Callable[..., Mapping[str, Any]]) -> Outcome:
    inputs = dict(case.inputs)
    if case.needs is not None:
        if data is None or not data.is_dir():
            return Outcome(case, "not run", (), DATA_MISSING)
        if not (data / case.needs).is_file():
            return Outcome(case, "not run", (), f"{case.needs} is missing in the data folder")
        inputs["file"] = data / case.needs
    try:
        found = compute(**inputs)
    except Exception as error:  # a broken function must fail its own cases and leave the report to be written
        failed = tuple(Checked(expected, None, None, passed=False) for expected in case.expected)
        return Outcome(case, "failed", failed, f"{type(error).__name__}: {error}")
    figures = tuple(_checked(expected, found) for expected in case.expected)
    return Outcome(case, "passed" if all(figure.passed for figure in figures) else "failed", figures)


def _checked(expected: Expected, found: Mapping[str, Any]) -> Checked:
    obtained = _looked_up(found, expected.name)
    if expected.printed is None:
        return Checked(expected, obtained, None, passed=obtained is not None and plain(obtained) == plain(expected.exact))
    if obtained is None or not math.isfinite(float(obtained)):
        return Checked(expected, None, None, passed=False)
    value, source = float(obtained), float(expected.printed)
    difference = abs(value - source)
    return Checked(expected, value, as_digits(difference, source), passed=difference <= expected.within * (1 + _SLACK))


def _looked_up(found: Mapping[str, Any], name: str) -> Any:
    """A figure by its name, ``name[3]`` being the third of a list."""
    if name in found:
        return found[name]
    stem, _, rest = name.rpartition("[")
    values = found.get(stem)
    if values is None or not rest.endswith("]") or not 1 <= (number := int(rest[:-1])) <= len(values):
        return None
    return values[number - 1]


def plain(value: Any) -> Any:
    """Lists and numbers without numpy, so that equal means equal."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def as_digits(difference: float, value: float) -> float:
    """Log relative error, NIST's measure of agreement: -log10 of the difference over the value (over 1 where that is 0).

    >>> as_digits(0.0, 2.0), round(as_digits(2e-5, 2.0), 6)
    (16.0, 5.0)
    """
    if difference == 0:
        return MOST_DIGITS
    return min(-math.log10(difference / (abs(value) or 1.0)), MOST_DIGITS - 1)
