"""What a study says in words and tables, once: the terminal and the page show the same sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from spc_platform.report.study_chart import STATISTICS, limits_in_words

MOST_SIGNALS = 200
"""Signals that a terminal lists; a page and JSON have all of them."""
_INDICES = {
    "cp": "Cp", "cpk": "Cpk", "cpl": "Cpl", "cpu": "Cpu", "cpm": "Cpm", "pp": "Pp", "ppk": "Ppk", "ppl": "Ppl", "ppu": "Ppu",
    "cpk_unmasked": "Cpk without masked values", "ppk_unmasked": "Ppk without masked values", "z_bench": "Z.bench",
}  # fmt: skip
_FITNESS = (
    "verdict", "text", "suggested_chart", "autocorrelation_lag1", "autocorrelation_p", "resolution_ratio", "normality_p",
    "variance_ratio", "variance_ratio_p", "overdispersion", "overdispersion_p", "hugging_share", "implied_false_alarm_rate",
)  # fmt: skip
_SHOWN = {
    "components": (
        "name", "standard_deviation", "contribution_pct", "study_variation_pct", "tolerance_pct", "process_pct",
        "variance_interval",
    ),
}  # fmt: skip
"""Columns of lists that are too wide for a terminal; JSON has all."""
_ENDS = (("_ci_low", "_ci_high"), ("_low", "_high"))


@dataclass(frozen=True)
class Section:
    """A titled table; one without columns is a list of name and value. Cells are texts that are not yet escaped."""

    title: str
    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()
    note: str = ""


class Numbers:
    """Writes figures with as many digits as the spread of the data makes meaningful.

    >>> Numbers(1e9, 1e-3).text(1000000000.0012345), Numbers(10.0, 0.1).text(9.87654321), Numbers(0.0, 1.0).text(None)
    ('1000000000.001235', '9.87654', '-')
    """

    def __init__(self, centre: float | None, sigma: float | None) -> None:
        digits = 5
        if centre and sigma and sigma > 0:
            digits = math.floor(math.log10(abs(centre))) - math.floor(math.log10(sigma)) + 4
        self.digits = min(max(digits, 5), 17)

    def text(self, value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            return ", ".join(map(self.text, value))
        return f"{value:.{self.digits}g}" if isinstance(value, float) else str(value)


def words(name: str) -> str:
    """A name of the data as words.

    >>> words("autocorrelation_lag1"), words("cpk")
    ('autocorrelation lag1', 'Cpk')
    """
    return _INDICES.get(name, name.replace("_", " "))


def study_sections(document: Mapping[str, Any]) -> list[Section]:
    """The sections of a study or of a capability document, in the order in which a reader asks."""
    first: Mapping[str, Any] = next((stage for stage in document["stages"] if stage["sigma"] is not None), {})
    numbers = Numbers(first.get("centre"), first.get("sigma"))
    several = len(document["stages"]) > 1
    sections = [_summary(document), _parameters(document, numbers, several=several)]
    if "panels" in document:
        sections.append(_limits(document, numbers, several=several))
    sections.append(_signals(document))
    for stage in document["stages"]:
        of = f", stage {stage['stage'] or 'without name'}" if several else ""
        if stage.get("model"):
            sections += nested_sections(f"What predicts each value{of}", stage["model"])
        if stage.get("capability"):
            sections += nested_sections(f"Capability{of}", _stability_first(stage["capability"]))
        if stage.get("fitness"):
            sections.append(_fitness(f"Fitness of the chart{of}", stage["fitness"]))
    sections += [
        Section(title, [(text,) for text in document[name]], ("",))
        for title, name in (("Rules left out", "rules_left_out"), ("Warnings", "warnings"))
        if document[name]
    ]
    return sections


def _stability_first(capability: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict above the indices: those of an unstable process predict nothing."""
    return {"stability": capability.get("stability"), **capability}


def _summary(document: Mapping[str, Any]) -> Section:
    options = document["options"]
    rows = [
        ("file", f"{document['file']['name']}, {document['file']['rows']} rows"),
        ("columns", "; ".join(f"{role}: {_joined(column)}" for role, column in options["columns"].items())),
        ("rules", f"{options['rules']}; {limits_in_words(document)}"),
    ]
    if options.get("baseline"):
        rows.append(("limits rest on", "subgroups {} to {}{}".format(*options["baseline"], " of each stage")))
    if options.get("excluded"):
        rows.append(("excluded", "; ".join(f"{label}: {cause}" for label, cause in options["excluded"].items())))
    signalling = {(row["number"]) for row in document["violations"]}
    rows.append(("verdict", f"{len(signalling)} points signal" if signalling else "no point signals"))
    return Section(document["title"], rows)


def _joined(column: Any) -> str:
    return column if isinstance(column, str) else ", ".join(map(str, column))


def _parameters(document: Mapping[str, Any], numbers: Numbers, *, several: bool) -> Section:
    columns = [*(["stage"] if several else []), "centre", "sigma", "estimator", "df", "subgroups", "values", "source", "remark"]
    rows = [
        [
            *([stage["stage"] or ""] if several else []),
            numbers.text(stage["centre"]),
            numbers.text(stage["sigma"]),
            stage["estimator"] or "-",
            "-" if stage["nu"] is None else f"{stage['nu']:.5g}",
            str(stage["n_subgroups"]),
            str(stage["n_values"]),
            stage["source"] or "",
            stage["reason"] or "",
        ]
        for stage in document["stages"]
    ]
    return Section("Centre and sigma", *_without_empty(rows, columns))


def _without_empty(rows: list[list[str]], columns: list[str]) -> tuple[list[list[str]], list[str]]:
    """Rows and columns without the columns that say nothing."""
    kept = [index for index in range(len(columns)) if any(row[index] not in ("", "-") for row in rows)]
    return [[row[index] for index in kept] for row in rows], [columns[index] for index in kept]


def _limits(document: Mapping[str, Any], numbers: Numbers, *, several: bool) -> Section:
    rows = []
    for panel in document["panels"]:
        if not panel["points"]:
            continue
        points = _points(panel["points"])
        for (stage,), own in points.group_by("stage", maintain_order=True):
            lines = [_range(own[name], numbers) for name in ("lcl", "cl", "ucl")]
            signals = str(int((own["rules"].list.len() > 0).sum()))
            named = STATISTICS.get(panel["statistic"], panel["statistic"])
            rows.append(
                [*([str(stage or "")] if several else []), named, *lines, _range(own["n"], numbers), str(own.height), signals]
            )
    return Section("Limits", rows, [*(["stage"] if several else []), "panel", "LCL", "CL", "UCL", "n", "points", "signals"])


def _points(points: list[dict[str, Any]]) -> pl.DataFrame:
    types = {"stage": pl.String, "lcl": pl.Float64, "cl": pl.Float64, "ucl": pl.Float64, "rules": pl.List(pl.String)}
    frame = pl.DataFrame(points, infer_schema_length=None).select(*types, pl.col("n").cast(pl.Float64))
    return frame.cast(types).with_columns(pl.col("rules").fill_null([]))  # type: ignore[arg-type]


def _range(values: pl.Series, numbers: Numbers) -> str:
    """One number where the limit is constant, else the two between which it varies."""
    low, high = values.min(), values.max()
    return numbers.text(low) if low == high else f"{numbers.text(low)} to {numbers.text(high)}"


def _signals(document: Mapping[str, Any]) -> Section:
    statistics = {
        panel["panel"]: STATISTICS.get(panel["statistic"], panel["statistic"]) for panel in document.get("panels", ())
    }
    rows = [
        [
            str(row["number"]),
            "" if row["sample"] in (None, str(row["number"])) else str(row["sample"]),
            row["stage"] or "",
            statistics.get(row["panel"], row["panel"]),
            row["rule"],
            row["rule_text"],
            row["side"] or "",
            "-" if row["z"] is None else f"{row['z']:.3f}",
            _window(row["window"]),
        ]
        for row in document["violations"]
    ]
    columns = ["point", "sample", "stage", "panel", "rule", "which says", "side", "z", "window"]
    return Section("Signals", *(_without_empty(rows, columns) if rows else ([["no point signals"]], [""])))


def _window(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _fitness(title: str, fitness: Mapping[str, Any]) -> Section:
    shown = [(words(name), _told(fitness[name])) for name in _FITNESS if fitness.get(name) is not None]
    return Section(title, shown)


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return Numbers(None, None).text(value)


def nested_sections(title: str, facts: Mapping[str, Any]) -> list[Section]:
    """A record as tables: figures with their intervals in one, lists of records and records within in one each.

    The ends of an interval are the keys ``NAME_ci_low`` and ``NAME_ci_high``, or a record with ``low`` and ``high``.
    """
    ends = {
        name + end for name in facts for pair in _ENDS for end in pair if name + pair[0] in facts and name + pair[1] in facts
    }
    rows: list[Sequence[str]] = []
    inner: list[Section] = []
    for name, value in facts.items():
        if name in ends:
            continue
        pair = next((pair for pair in _ENDS if name + pair[0] in ends), None)
        if pair is not None:
            rows.append((words(name), f"{_told(value)}  [{_told(facts[name + pair[0]])}, {_told(facts[name + pair[1]])}]"))
        elif isinstance(value, Mapping) and {"low", "high"} <= set(value):
            rows.append((words(name), f"[{_told(value['low'])}, {_told(value['high'])}] {value.get('method', '')}".rstrip()))
        elif isinstance(value, Mapping):
            inner += nested_sections(f"{title}: {words(name)}", value) if value else []
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            inner.append(_records(f"{title}: {words(name)}", value))
        elif value is not None and value != []:
            rows.append((words(name), _told(value)))
    return [*([Section(title, rows)] if rows else []), *inner]


def _records(title: str, records: list[Mapping[str, Any]]) -> Section:
    shown = _SHOWN.get(title.rpartition(": ")[2], tuple(records[0]))
    names = [name for name in shown if any(record.get(name) not in (None, []) for record in records)]
    rows = [[_cell(record.get(name)) for name in names] for record in records]
    return Section(title, rows, [words(name) for name in names])


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        if {"low", "high"} <= set(value):
            return f"[{_told(value['low'])}, {_told(value['high'])}]"
        return ", ".join(f"{words(name)} {_cell(item)}" for name, item in value.items() if item is not None)
    return _told(value)
