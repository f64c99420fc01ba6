"""`spc gauge` and `spc compare`: measurement systems, and groups or laboratories against each other, from one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from spc_platform.cli.analyze import check_output, with_file, write
from spc_platform.cli.study_file import StudyFile, read
from spc_platform.cli.study_plan import number_or_column, require_finite, wrong_option
from spc_platform.errors import ContractError

SCHEMA_VERSION = "1.0"
_FORMATS = ("table", "json", "html")
_TITLES = {"gauge_rr": "Gauge R&R", "bias": "Bias", "linearity": "Linearity"}
_METHODS = ("anova", "nested", "xbar_r")


@dataclass(frozen=True)
class GaugeRequest:
    """The options of ``spc gauge`` as they were written."""

    value: str
    part: str | None = None
    operator: str | None = None
    method: str = "anova"
    reference: str | None = None
    bias: bool = False
    linearity: bool = False
    lsl: float | None = None
    usl: float | None = None
    tolerance: float | None = None
    sigma: float | None = None
    k: float = 6.0
    interaction_alpha: float = 0.05
    confidence: float = 0.95


@dataclass(frozen=True)
class CompareRequest:
    """The options of ``spc compare`` as they were written."""

    value: Sequence[str] = ()
    group: str | None = None
    question: str = "means"
    paired: str | None = None
    count: str | None = None
    size: str | None = None
    laboratories: bool = False
    material: str | None = None
    null_value: float | None = None
    equal_variances: bool = False
    alternative: str = "two-sided"
    confidence: float = 0.95


def run_gauge(path: Path, request: GaugeRequest, *, form: str, out: Path | None, sheet: str | None) -> int:
    """Writes a gauge study of a file: R&R by parts and operators, or bias and linearity against a reference."""
    check_output(path, form, out, _FORMATS)
    require_finite(request)
    file = read(path, sheet)
    write(_rendered(gauge_document(file, request), form), out)
    return 0


def run_compare(path: Path, request: CompareRequest, *, form: str, out: Path | None, sheet: str | None) -> int:
    """Writes the answer to one question about groups or laboratories of a file."""
    check_output(path, form, out, _FORMATS)
    require_finite(request)
    file = read(path, sheet)
    write(_rendered(compare_document(file, request), form), out)
    return 0


def gauge_document(file: StudyFile, request: GaugeRequest) -> dict[str, Any]:
    """The document of a gauge study. Raises SPC-384 to SPC-387 and what the statistics raise, with the file's name."""
    if request.method not in _METHODS:
        raise wrong_option(f"--method {request.method!r}: choose {', '.join(_METHODS)}.")
    warnings: list[str] = []
    columns = {"value": request.value}
    _check_gauge_options(request)
    if request.bias or request.linearity:
        kind, result = _against_reference(file, request, columns, warnings)
    else:
        kind, result = _repeatability(file, request, columns, warnings)
    title = f"{_TITLES[kind]} of {request.value}"
    return _document(file, kind, title, {"result": result}, request, columns, warnings)


def _check_gauge_options(request: GaugeRequest) -> None:
    """An option that the asked study does not use is refused, not left aside."""
    against = request.bias or request.linearity
    unused = {
        "--reference": not against and request.reference is not None,
        "--part": against and request.part is not None,
        "--operator": against and request.operator is not None,
        "--method": against and request.method != "anova",
    }
    if named := [name for name, is_unused in unused.items() if is_unused]:
        study = "bias or linearity" if against else "a gauge R&R study"
        raise wrong_option(f"{', '.join(named)} has no use in {study}: leave it out, or ask for the other study.")


def _repeatability(
    file: StudyFile, request: GaugeRequest, columns: dict[str, str], warnings: list[str]
) -> tuple[str, dict[str, Any]]:
    from spc_platform.spc.gauge import Scale, gauge_crossed, gauge_nested, gauge_xbar_r

    if request.part is None or request.operator is None:
        raise wrong_option("a gauge R&R study needs --part and --operator (for bias or linearity: --reference).")
    columns |= {"part": request.part, "operator": request.operator}
    rows = _rows(file, {"value": request.value}, {"part": request.part, "operator": request.operator}, warnings)
    scale = Scale(request.k, request.lsl, request.usl, request.tolerance, request.sigma)
    data = rows["value"].to_numpy(), rows["part"].to_list(), rows["operator"].to_list()
    try:
        if request.method == "anova":
            study = gauge_crossed(
                *data, scale=scale, interaction_alpha=request.interaction_alpha, confidence=request.confidence
            )
        else:
            method = gauge_nested if request.method == "nested" else gauge_xbar_r
            study = method(*data, scale=scale, confidence=request.confidence)
    except ContractError as error:
        raise with_file(error, file) from error
    return "gauge_rr", study.to_dict()


def _against_reference(
    file: StudyFile, request: GaugeRequest, columns: dict[str, str], warnings: list[str]
) -> tuple[str, dict[str, Any]]:
    from spc_platform.spc.bias_linearity import bias, linearity, type_one_study

    if request.reference is None:
        raise wrong_option("bias and linearity need the true value of each row: name its column or number with --reference.")
    columns["reference"] = request.reference
    reference = number_or_column(file, request.reference, "--reference")
    rows = _complete(file, pl.DataFrame([file.numbers(request.value).alias("value"), reference.alias("reference")]), warnings)
    spread = None if request.sigma is None else request.k * request.sigma
    try:
        if request.linearity:
            line = linearity(
                rows["value"].to_numpy(), rows["reference"].to_numpy(), process_variation=spread, confidence=request.confidence
            )
            return "linearity", line.to_dict()
        levels = rows["reference"].unique()
        if levels.len() != 1:
            raise wrong_option(f"--bias takes one reference value; {request.reference!r} has {levels.len()}: use --linearity.")
        values, tolerance = rows["value"].to_numpy(), _tolerance(request)
        told = bias(values, levels[0], process_variation=spread, confidence=request.confidence).to_dict()
        if tolerance is not None:
            type_one = type_one_study(values, levels[0], tolerance, k=request.k, confidence=request.confidence).to_dict()
            told["type_one"] = {name: figure for name, figure in type_one.items() if name != "bias"}
    except ContractError as error:
        raise with_file(error, file) from error
    return "bias", told


def _tolerance(request: GaugeRequest) -> float | None:
    """Width of the specification as it was given, if it was."""
    if request.tolerance is None and request.lsl is not None and request.usl is not None:
        return request.usl - request.lsl
    return request.tolerance


def compare_document(file: StudyFile, request: CompareRequest) -> dict[str, Any]:
    """The document of a comparison. Raises SPC-384 to SPC-387 and what the tests raise, with the file's name."""
    from spc_platform.spc.hypothesis import compare
    from spc_platform.spc.laboratories import compare_two_laboratories, interlaboratory

    warnings: list[str] = []
    columns = {
        name: value for name in ("value", "group", "paired", "count", "size", "material") if (value := getattr(request, name))
    }
    try:
        if request.laboratories and request.material is not None:
            value, group = _one_value(request), _needed(request.group, "--group, the laboratory")
            rows = _rows(file, {"value": value}, {"group": group, "material": request.material}, warnings)
            found = interlaboratory(rows["value"].to_numpy(), rows["group"].to_list(), rows["material"].to_list())
            return _document(
                file, "interlaboratory", "Interlaboratory study", {"result": found.to_dict()}, request, columns, warnings
            )
        groups = _groups(file, request, warnings)
        if request.laboratories:
            if len(groups) != 2:
                raise wrong_option(f"two laboratories are compared item by item; here are {len(groups)}: add --material.")
            (one, first), (other, second) = groups.items()
            pair = compare_two_laboratories(first, second, names=(one, other), confidence=request.confidence)
            title = f"Laboratories {one} and {other}"
            return _document(file, "two_laboratories", title, {"result": pair.to_dict()}, request, columns, warnings)
        question = "paired" if request.paired is not None and request.question == "means" else request.question
        results = compare(
            groups,
            question,
            null_value=request.null_value,
            equal_variances=request.equal_variances,
            alternative=request.alternative,
            confidence=request.confidence,
        )
    except ContractError as error:
        raise with_file(error, file) from error
    title = f"Comparison: {question}"
    told = {"question": question, "results": [result.to_dict() for result in results]}
    return _document(file, "comparison", title, told, request, columns, warnings)


def _groups(file: StudyFile, request: CompareRequest, warnings: list[str]) -> dict[str, Any]:
    """Groups by name, in the order of their labels; of pairs, in the order of the items."""
    if request.question in ("proportions", "rates"):
        return _counted(file, request, warnings)
    is_paired = request.paired is not None or request.question == "paired" or request.laboratories
    if request.group is None:
        if not request.value:
            raise wrong_option("name the column of values with --value and that of groups with --group.")
        frame = pl.DataFrame([file.numbers(name) for name in request.value])
        if is_paired:
            frame = _complete(file, frame, warnings)
            return {name: frame[name].to_numpy() for name in request.value}
        return {name: frame[name].drop_nulls().to_numpy() for name in request.value}
    labels = {"group": request.group} | ({"item": request.paired} if request.paired is not None else {})
    rows = _rows(file, {"value": _one_value(request)}, labels, warnings)
    if not is_paired:
        return {
            str(name): group["value"].to_numpy()
            for (name,), group in sorted(rows.group_by("group"), key=lambda pair: str(pair[0]))
        }
    if request.paired is None:
        raise wrong_option("pairs need the column of the items: name it with --paired.")
    return _pairs(file, rows, request.paired, warnings)


def _pairs(file: StudyFile, rows: pl.DataFrame, item: str, warnings: list[str]) -> dict[str, Any]:
    twice = rows.filter(pl.struct("group", "item").is_duplicated())
    if twice.height:
        label, row = twice.row(0, named=True)["item"], twice["row"][0]
        raise ContractError(
            f"{file.name}, row {row}, column {item!r}: item {label!r} has several values in one group. Keep one of each pair.",
            code="SPC-387",
        )
    wide = rows.pivot("group", index="item", values="value", sort_columns=True).sort("item")
    alone = wide.filter(pl.any_horizontal(pl.all().is_null()))
    if alone.height:
        warnings.append(f"{alone.height} items without a value in every group were left out (first: {alone['item'][0]!r}).")
    complete = wide.drop_nulls()
    return {name: complete[name].to_numpy() for name in complete.columns if name != "item"}


def _counted(file: StudyFile, request: CompareRequest, warnings: list[str]) -> dict[str, Any]:
    count = _needed(request.count, "--count, the column of counts")
    size = number_or_column(file, _needed(request.size, "--size, the inspected units: a column or a number"), "--size")
    frame = pl.DataFrame([file.numbers(count).alias("count"), size.alias("size")])
    label = file.labels(request.group) if request.group else pl.repeat("all", file.rows, eager=True)
    rows = _complete(file, frame.with_columns(label.alias("group")), warnings)
    sums = rows.group_by("group").agg(pl.col("count", "size").sum()).sort("group")
    return {name: (_whole(total), _whole(n)) for name, total, n in sums.iter_rows()}


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _one_value(request: CompareRequest) -> str:
    if len(request.value) != 1:
        raise wrong_option(f"with --group there is one column of values; {len(request.value)} were named with --value.")
    return request.value[0]


def _needed(value: str | None, what: str) -> str:
    if value is None:
        raise wrong_option(f"this comparison needs {what}.")
    return value


def _rows(file: StudyFile, numbers: Mapping[str, str], labels: Mapping[str, str], warnings: list[str]) -> pl.DataFrame:
    """Rows that have every number, with their labels; a missing label of such a row is refused with the row."""
    frame = pl.DataFrame([file.numbers(column).alias(role) for role, column in numbers.items()])
    rows = _complete(file, frame, warnings, *(file.labels(column).alias(role) for role, column in labels.items()))
    for role, column in labels.items():
        lacking = rows.filter(pl.col(role).is_null())
        if lacking.height:
            raise ContractError(
                f"{file.name}, row {lacking['row'][0]}, column {column!r}: the cell is empty. Name the {role} of every value.",
                code="SPC-387",
            )
    return rows


def _complete(file: StudyFile, frame: pl.DataFrame, warnings: list[str], *labels: pl.Series) -> pl.DataFrame:
    rows = pl.DataFrame([pl.Series("row", range(1, file.rows + 1), dtype=pl.Int64), *frame.get_columns(), *labels])
    kept = rows.drop_nulls(frame.columns)
    if kept.height < rows.height:
        first = rows.join(kept, on="row", how="anti")["row"][0]
        warnings.append(f"{rows.height - kept.height} of {rows.height} rows have an empty cell (first: row {first}); left out.")
    return kept


def _document(
    file: StudyFile,
    kind: str,
    title: str,
    found: Mapping[str, Any],
    request: GaugeRequest | CompareRequest,
    columns: Mapping[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    from spc_platform.report.study import plain, software

    return {
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "file": {"name": file.name, "sha256": file.sha256, "rows": file.rows},
        "kind": kind,
        "title": title,
        **found,
        "options": plain({**vars(request), "columns": columns}),
        "warnings": warnings,
    }


def _rendered(document: Mapping[str, Any], form: str) -> str:
    from spc_platform.report.sections import Section, nested_sections

    if form == "json":
        from spc_platform.report.study import to_json

        return to_json(document)
    facts = [("file", f"{document['file']['name']}, {document['file']['rows']} rows")]
    sections = [Section(document["title"], facts)]
    for result in document.get("results", [document.get("result")]):
        sections += nested_sections(str(result.get("test") or "Result"), result)
    if document["warnings"]:
        sections.append(Section("Warnings", [(text,) for text in document["warnings"]], ("",)))
    if form == "html":
        from spc_platform.report.study_page import page

        return page(document, sections)
    from spc_platform.cli.study_table import sections_text

    return sections_text(sections)
