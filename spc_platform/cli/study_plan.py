"""From options of the command line to what ``spc.study`` takes: a frame with the columns of its kind of data, and a plan."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from spc_platform.cli.rules_file import rules_named
from spc_platform.cli.study_file import StudyFile
from spc_platform.contracts.charts import CHARTS, Chart
from spc_platform.errors import ContractError
from spc_platform.spc.study_plan import Plan

LARGEST_RANGE = 8
"""Subgroup size up to which a range is nearly as good as s; above it the X̄-S chart is chosen."""

_ALIASES = {
    "xr": "xbar_r", "xbar": "xbar_r", "xs": "xbar_s", "xbars": "xbar_s", "median": "median_r", "i": "i_mr", "xmr": "i_mr",
    "individuals": "i_mr", "imrrs": "i_mr_r", "ma": "moving_average", "shortrun": "dnom", "pprime": "laney_p",
    "residualimr": "i_mr",
    "uprime": "laney_u", "laneypprime": "laney_p", "laneyuprime": "laney_u", "hotelling": "t2", "hotellingt2": "t2",
}  # fmt: skip
_RESIDUALS = {"residualimr": "autoregression", "ar": "autoregression"}
"""What the fitness of a chart suggests for values with memory, and a short form."""
_WITHOUT_SUBGROUPS = {"dnom": "dnom_i_mr"}


@dataclass(frozen=True)
class Request:
    """The options of ``spc analyze`` and ``spc capability`` as they were written."""

    chart: str | None = None
    value: Sequence[str] = ()
    subgroup: str | None = None
    size: str | None = None
    count: str | None = None
    stage: str | None = None
    part: str | None = None
    nominal: str | None = None
    baseline: str | None = None
    rules: str = "nelson"
    k: float = 3.0
    weight: float = 0.2
    span: int | None = None
    reference: float = 0.5
    decision: float | None = None
    fir: float = 0.0
    alpha: float | None = None
    phase: int = 1
    estimator: str | None = None
    lsl: float | None = None
    target: float | None = None
    usl: float | None = None
    mu: float | None = None
    sigma: float | None = None
    confidence: float = 0.95
    distribution: str | None = None
    box_cox: str | None = None
    exclude: Sequence[str] = ()
    pooling: str = "by_part"
    residuals: str | None = None
    limits: str = "shewhart"


@dataclass(frozen=True)
class Prepared:
    """``frame`` and ``plan`` for ``spc.study.study``; ``columns``: role -> column of the file; ``warnings``: of the reading."""

    frame: pl.DataFrame
    plan: Plan
    columns: dict[str, str | list[str]]
    warnings: list[str] = field(default_factory=list)


def wrong_option(message: str) -> ContractError:
    """The error of options that cannot be used, or not together."""
    return ContractError(message, code="SPC-386")


def chart_named(text: str) -> str:
    """Name of a row of ``CHARTS`` for what people write.

    >>> [chart_named(text) for text in ("X̄-R", "xbar-s", "I-MR", "imr", "p'", "Laney u′", "T²", "I-MR-R/S")]
    ['xbar_r', 'xbar_s', 'i_mr', 'i_mr', 'laney_p', 'laney_u', 't2', 'i_mr_r']
    """
    marked = text.replace("x̄", "xbar").replace("X̄", "xbar").replace("'", "prime").replace("’", "prime").replace("′", "prime")
    plain = re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", marked).lower())
    known = {name.replace("_", ""): name for name in CHARTS} | _ALIASES
    if plain not in known:
        raise wrong_option(f"--chart {text!r} is no chart; these are: {', '.join(CHARTS)}.")
    return known[plain]


def prepare(file: StudyFile, request: Request) -> Prepared:
    """The normalized file and the plan of a study. Raises SPC-384 to SPC-388: the file or an option does not fit."""
    require_finite(request)
    said: list[str] = []
    value = _value_columns(file, request, said)
    chart = CHARTS[chart_named(request.chart) if request.chart else _default_chart(file, request, value, said)]
    size = _whole_size(request, chart)
    if chart.name in _WITHOUT_SUBGROUPS and not (request.subgroup or size or len(value) > 1):
        chart = CHARTS[_WITHOUT_SUBGROUPS[chart.name]]
        said.append(f"no --subgroup and no --size: every value is judged by itself ({chart.title}).")
    columns, roles = _of_kind(file, request, chart, value, size)
    frame = pl.DataFrame([pl.Series("row", range(1, file.rows + 1), dtype=pl.Int64), *columns])
    for role in ("stage", "part"):
        name = getattr(request, role)
        frame = frame.with_columns(
            (file.labels(name) if name else pl.repeat(None, file.rows, eager=True)).cast(pl.String).alias(role)
        )
        if name:
            roles[role] = name
    if request.nominal is not None:
        frame = frame.with_columns(number_or_column(file, request.nominal, "--nominal").alias("nominal"))
        roles["nominal"] = request.nominal
    if chart.data == "values" and len(value) > 1:
        frame = _stacked(frame, len(value))
    elif chart.data == "values":
        frame = frame.rename({"value_1": "value"})
    said += _missing(file, roles)
    return Prepared(frame, _plan(request, chart, size if chart.data != "counts" else None), roles, said)


def require_finite(request: object) -> None:
    """Raises SPC-386 when an option of a request is NaN or infinite."""
    for name, value in vars(request).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong_option(f"--{name.replace('_', '-')} {value} is not a finite number.")


def _value_columns(file: StudyFile, request: Request, said: list[str]) -> list[str]:
    if request.count is not None:
        if request.value:
            raise wrong_option("--value and --count exclude each other: a chart shows measured values or counts.")
        return []
    if request.value:
        names = [part for text in request.value for part in _split(file, text)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise wrong_option(f"--value {twice!r} is named twice; name each column once.")
        return [file.require(name) for name in names]
    other = {request.subgroup, request.stage, request.part, request.nominal, request.size}
    numbers = [name for name in file.number_columns() if name not in other]
    almost = [name for name in file.almost_number_columns() if name not in other]
    if almost and not numbers:
        # the one column that can be meant has a wrong cell: its row is the answer, not the lack of an option
        file.numbers(almost[0])
    if len(numbers) != 1 or almost:
        numbers += almost
        listed = ", ".join(map(repr, numbers)) or "none"
        raise wrong_option(
            f"{file.name}: name the column of values with --value, or of counts with --count; of numbers: {listed}."
        )
    said.append(f"values: column {numbers[0]!r}, the only one with numbers.")
    return numbers


def _split(file: StudyFile, text: str) -> list[str]:
    """A list with commas is several columns, unless a column has that very name."""
    parts = [part.strip() for part in text.split(",")]
    return parts if text not in file.cells.columns and all(part in file.cells.columns for part in parts) else [text]


def _default_chart(file: StudyFile, request: Request, value: list[str], said: list[str]) -> str:
    if request.count is not None:
        chart, why = ("p", "counts of inspected units") if request.size else ("c", "counts without --size")
    elif request.part or request.nominal:
        chart, why = "dnom", "values with --part or --nominal"
    elif request.subgroup is None and request.size is None and len(value) == 1:
        chart, why = "i_mr", "no --subgroup and no --size"
    else:
        n = _largest_subgroup(file, request, value)
        chart = "i_mr" if n == 1 else "xbar_r" if n <= LARGEST_RANGE else "xbar_s"
        why = f"subgroups of up to {n}"
    said.append(f"chart: {CHARTS[chart].title}, chosen for {why}; name another with --chart.")
    return chart


def _largest_subgroup(file: StudyFile, request: Request, value: list[str]) -> int:
    if len(value) > 1:
        return len(value)
    if request.size is not None:
        return _whole(request.size, "--size")
    labels = file.labels(request.subgroup) if request.subgroup else pl.Series([None])
    lengths: list[int] = labels.rle().struct.field("len").to_list()
    return max(lengths)


def _whole(text: str, option: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text.strip()):
        raise wrong_option(f"{option} {text!r}: give the number of values in a subgroup as a whole number from 1.")
    return int(text)


def _whole_size(request: Request, chart: Chart) -> int | None:
    if request.size is None or chart.data == "counts":
        return None
    if request.subgroup is not None:
        raise wrong_option("--size and --subgroup exclude each other: subgroups are counted off or named by a column.")
    if chart.data == "events":
        raise wrong_option(f"--size does not fit the {chart.title} chart: each of its points is one event.")
    size = _whole(request.size, "--size")
    return None if size == 1 and chart.sizes[0] == 1 else size


def _of_kind(
    file: StudyFile, request: Request, chart: Chart, value: list[str], size: int | None
) -> tuple[list[pl.Series], dict[str, str | list[str]]]:
    """Columns of the frame for the kind of data that the chart takes, and the columns of the file that they came from."""
    roles: dict[str, str | list[str]] = {}
    columns: list[pl.Series] = []
    if (chart.data == "counts") != (request.count is not None):
        wanted = (
            "counts: name their column with --count" if chart.data == "counts" else "values: name their column with --value"
        )
        raise wrong_option(f"the {chart.title} chart shows {wanted}.")
    if chart.data == "counts":
        columns += [file.numbers(str(request.count)).alias("count"), _inspected(file, request, chart).alias("size")]
        roles |= {"count": str(request.count), **({"size": request.size} if request.size is not None else {})}
    elif chart.data == "vectors":
        if len(value) < 2:
            raise wrong_option(f"the {chart.title} chart judges several variables together: repeat --value for each column.")
        columns += [file.numbers(name).alias(f"v:{name}") for name in value]
        roles["value"] = value
    elif chart.data == "events" and len(value) > 1:
        raise wrong_option(f"the {chart.title} chart takes one column of values; {len(value)} were named.")
    else:
        if len(value) > 1 and (chart.sizes[1] == 1 or size is not None):
            raise wrong_option(f"{len(value)} columns of values are one subgroup a row: leave out --size, or choose xbar_r.")
        names = [f"value_{number}" for number in range(1, len(value) + 1)] if chart.data == "values" else ["value"]
        columns += [file.numbers(name).alias(alias) for name, alias in zip(value, names, strict=True)]
        roles["value"] = value if len(value) > 1 else value[0]
    labels = file.labels(request.subgroup) if request.subgroup else pl.repeat(None, file.rows, dtype=pl.String, eager=True)
    if request.subgroup is not None:
        roles["subgroup"] = request.subgroup
        _require_labels(file, request.subgroup, labels, columns)
    elif chart.data == "values" and len(value) > 1:
        labels = pl.Series(range(1, file.rows + 1), dtype=pl.Int64).cast(pl.String)
    return [*columns, labels.alias("subgroup")], roles


def _require_labels(file: StudyFile, column: str, labels: pl.Series, columns: list[pl.Series]) -> None:
    filled = pl.DataFrame(columns).select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    lacking = labels.is_null() & filled
    if lacking.any():
        row = int(lacking.arg_true()[0]) + 1
        raise ContractError(
            f"{file.name}, row {row}, column {column!r}: the cell is empty, so the subgroup of the row is not known. "
            "Name the subgroup in every row that has a value.",
            code="SPC-387",
        )


def _inspected(file: StudyFile, request: Request, chart: Chart) -> pl.Series:
    """Inspected units or area of opportunity of each row; 1 where none is named and the chart needs none."""
    if request.size is None:
        if chart.name != "c":
            raise wrong_option(
                f"the {chart.title} chart divides counts by inspected units: name their column, or their number, with --size."
            )
        return pl.repeat(1.0, file.rows, dtype=pl.Float64, eager=True)
    return number_or_column(file, request.size, "--size")


def number_or_column(file: StudyFile, text: str, option: str) -> pl.Series:
    """The column of the file, or the number in every row. Raises SPC-384 where it is neither."""
    if text in file.cells.columns:
        return file.numbers(text)
    return pl.repeat(_constant(file, text, option), file.rows, dtype=pl.Float64, eager=True)


def _constant(file: StudyFile, text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        file.require(text)
        raise
    if not math.isfinite(value):
        raise wrong_option(f"{option} {text}: give a column of the file or a finite number.")
    return value


def _stacked(frame: pl.DataFrame, width: int) -> pl.DataFrame:
    """One row per value, the values of a row of the file one below the other."""
    names = [f"value_{number}" for number in range(1, width + 1)]
    kept = [name for name in frame.columns if name not in names]
    return frame.with_columns(value=pl.concat_list(names)).drop(names).explode("value").select(*kept, "value")


def _missing(file: StudyFile, roles: dict[str, str | list[str]]) -> list[str]:
    said = []
    if file.blank_rows:
        said.append(f"{file.blank_rows} blank rows between rows of data were left out; they are not missing values.")
    named = [name for role in ("value", "count", "size", "nominal") if (given := roles.get(role)) for name in _listed(given)]
    for name in named:
        if name in file.cells.columns and (empty := file.numbers(name).is_null()).any():
            first = int(empty.arg_true()[0]) + 1
            said.append(f"column {name!r}: {empty.sum()} of {file.rows} cells are empty (first: row {first}); missing, not 0.")
    return said


def _listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _plan(request: Request, chart: Chart, size: int | None) -> Plan:
    rules, custom = rules_named(request.rules)
    return Plan(
        chart=chart.name,
        size=size,
        k=request.k,
        rules=rules,
        estimator=request.estimator,
        baseline=_baseline(request.baseline),
        mu=request.mu,
        sigma=request.sigma,
        weight=request.weight,
        span=request.span,
        reference=request.reference,
        decision=request.decision,
        head_start=request.fir,
        phase=request.phase,
        alpha=request.alpha,
        lsl=request.lsl,
        target=request.target,
        usl=request.usl,
        confidence=request.confidence,
        distribution=request.distribution,
        box_cox=_power(request.box_cox),
        excluded=_causes(request.exclude),
        pooling=request.pooling,
        residuals=_residuals(request),
        limits=request.limits,
        custom_rules=custom,
    )


def _residuals(request: Request) -> str | None:
    if request.residuals is not None:
        return _RESIDUALS.get(request.residuals, request.residuals)
    return _RESIDUALS.get(re.sub(r"[^a-z0-9]", "", (request.chart or "").lower()))


def _baseline(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+)\s*[:-]\s*(\d+)\s*", text)
    if found is None:
        raise wrong_option(f"--baseline {text!r}: give the first and last subgroup, e.g. 1:25.")
    return int(found[1]), int(found[2])


def _power(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        power = float(text)
    except ValueError:
        power = math.nan
    if not math.isfinite(power):
        raise wrong_option(f"--box-cox {text!r}: give auto or a number, e.g. 0 for the logarithm.")
    return power


def _causes(texts: Sequence[str]) -> dict[str, str]:
    causes = {}
    for text in texts:
        label, _, cause = text.partition("=")
        if not label.strip() or not cause.strip():
            raise wrong_option(f"--exclude {text!r}: give LABEL=CAUSE; a subgroup is left out only with its assigned cause.")
        if label.strip() in causes:
            raise wrong_option(f"--exclude names subgroup {label.strip()!r} twice; give one cause.")
        causes[label.strip()] = cause.strip()
    return causes
