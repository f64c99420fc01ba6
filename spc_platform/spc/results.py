"""What studies and hypothesis tests share: checked samples, and results that turn into JSON without losing a digit."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Floats

Alternative = Literal["two-sided", "less", "greater"]
ALTERNATIVES = ("two-sided", "less", "greater")


@dataclass(frozen=True)
class Record:
    """A frozen dataclass that turns into plain data: tuples into lists, NaN and infinity into None."""

    def to_dict(self) -> dict[str, Any]:
        """Everything of the record as JSON-ready plain data; floats keep full precision, what is missing is None."""
        return {column.name: _plain(getattr(self, column.name)) for column in dataclasses.fields(self)}


def _plain(value: object) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Interval(Record):
    """Confidence interval; an end that is infinite or not defined is None in ``to_dict``."""

    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True)
class Effect(Record):
    """Size of an effect with its interval; ``name`` says which measure."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    method: str = ""


@dataclass(frozen=True)
class Sample(Record):
    """One group as it entered a test."""

    name: str
    n: int
    mean: float = math.nan
    standard_deviation: float = math.nan
    median: float = math.nan


@dataclass(frozen=True)
class Comparison(Record):
    """One pair of groups after a test of all: difference first - second, simultaneous interval, adjusted p."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class TestResult(Record):
    """Outcome of one hypothesis test.

    ``statistic`` follows the distribution named in ``distribution`` with ``df`` under the hypothesis; ``estimate`` is
    what ``estimate_name`` says, with its ``interval``; ``reason`` says why figures are missing (None in ``to_dict``).
    """

    __test__: ClassVar[bool] = False  # pytest takes every class named Test for a test

    test: str
    statistic_name: str
    statistic: float
    df: tuple[float, ...]
    p_value: float
    alternative: Alternative
    estimate_name: str
    estimate: float
    interval: Interval | None
    samples: tuple[Sample, ...]
    null_value: float = 0.0
    effects: tuple[Effect, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None
    details: dict[str, float] = field(default_factory=dict)


def sample(values: npt.ArrayLike, name: str, at_least: int, *, keep_order: bool = False) -> Floats:
    """Values of one group as float64, checked, and sorted so that no row order changes a digit (unless ``keep_order``).

    Raises ``ContractError`` SPC-360 (text, null, NaN or infinity, with its row) or SPC-361 (fewer than ``at_least``).

    >>> sample([1, 2.5], "A", 2).tolist()
    [1.0, 2.5]
    """
    try:
        data = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"group {name!r} holds something that is no number ({error}); correct the value or leave its row out",
            code="SPC-360",
        ) from error
    data = np.atleast_1d(data)
    if data.ndim != 1:
        raise ContractError(f"group {name!r} has {data.ndim} dimensions; give one value per row", code="SPC-360")
    bad = np.flatnonzero(~np.isfinite(data))
    if bad.size:
        raise ContractError(
            f"group {name!r}, row {bad[0] + 1}: {data[bad[0]]} is no finite number ({bad.size} such rows); "
            "correct the value or leave its row out, an unmeasured value must not enter a test",
            code="SPC-360",
        )
    if data.size < at_least:
        raise ContractError(
            f"group {name!r} has {data.size} values, this figure needs at least {at_least}; measure more",
            code="SPC-361",
        )
    return data if keep_order else np.sort(data)


def confident(confidence: float) -> float:
    """The confidence level itself; ``ContractError`` SPC-365 unless it lies strictly between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ContractError(
            f"confidence {confidence} is not between 0 and 1; give a share such as 0.95, not a percentage", code="SPC-365"
        )
    return confidence


def sided(alternative: str) -> Alternative:
    """The alternative itself; ``ContractError`` SPC-365 unless it is two-sided, less or greater."""
    if alternative not in ALTERNATIVES:
        raise ContractError(f"alternative {alternative!r} is unknown; use one of {', '.join(ALTERNATIVES)}", code="SPC-365")
    return alternative  # type: ignore[return-value]


def number(value: float, name: str, *, positive: bool = False) -> float:
    """The value as a float; ``ContractError`` SPC-365 unless it is finite (and above 0 when ``positive``)."""
    if not math.isfinite(value) or (positive and value <= 0):
        raise ContractError(f"{name} is {value}; give a finite number{' above 0' if positive else ''}", code="SPC-365")
    return float(value)


def centred(*groups: Floats) -> tuple[float, tuple[Floats, ...]]:
    """One shift taken off all groups, so that sums keep the digits in which the values differ.

    The shift is a value of the data itself: the differences to it are exact where values lie within a factor of two.
    """
    shift = float(groups[0][0])
    return shift, tuple(group - shift for group in groups)


def described(name: str, values: Floats) -> Sample:
    """Size, mean, standard deviation (n - 1) and median of a group."""
    shift, (parts,) = centred(values)
    return Sample(
        name,
        int(values.size),
        shift + float(parts.mean()),
        float(parts.std(ddof=1)) if values.size > 1 else math.nan,
        float(np.median(values)),
    )


def variance(values: Floats) -> float:
    """Sample variance (n - 1) in two passes around a value of the data."""
    _, (parts,) = centred(values)
    return float(parts.var(ddof=1))


def module(name: str) -> Any:
    """A statsmodels module, loaded when a figure of it is first asked: it costs about a second that most calls never need."""
    return importlib.import_module(f"statsmodels.stats.{name}")


def named_groups(groups: Mapping[str, npt.ArrayLike], at_least: int, fewest: int = 2) -> dict[str, Floats]:
    """All groups checked; ``ContractError`` SPC-361 for fewer than ``fewest`` groups."""
    if len(groups) < fewest:
        raise ContractError(
            f"{len(groups)} group(s) given ({', '.join(map(repr, groups)) or 'none'}), this test compares at least {fewest}; "
            "check the grouping column",
            code="SPC-361",
        )
    return {str(name): sample(values, str(name), at_least) for name, values in groups.items()}


def text_list(values: Sequence[Any] | npt.NDArray[Any], name: str, rows: int) -> npt.NDArray[np.str_]:
    """Labels of a column as text; ``ContractError`` SPC-364 for another length or a missing label."""
    labels = np.asarray(values, dtype=object)
    if labels.shape != (rows,):
        raise ContractError(
            f"column {name!r} has {labels.size} rows, the values have {rows}; give one label per value", code="SPC-364"
        )
    lost = [row for row, label in enumerate(labels.tolist()) if label is None or label != label or label == ""]
    if lost:
        raise ContractError(f"column {name!r}, row {lost[0] + 1}: no label; fill it in or leave the row out", code="SPC-364")
    return labels.astype(np.str_)
