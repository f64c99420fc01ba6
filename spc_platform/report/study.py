"""A study as a document: what ``spc analyze`` writes as JSON, and what its tables and pages are made from.

The layout is published in docs/reference/study.schema.json. Missing numbers are null, never NaN, infinity or 0.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS
from spc_platform.spc.study_plan import Study

SCHEMA_VERSION = "1.0"
_OF_ONE_STAGE = ("centre", "sigma", "estimator", "capability", "fitness")


def study_document(
    study: Study, *, file: Mapping[str, Any], columns: Mapping[str, Any], warnings: list[str] | None = None
) -> dict[str, Any]:
    """The document of a study, plain data in the order of the schema.

    ``file``: name, sha256 and number of rows of what was read; ``columns``: role -> column of the file; ``warnings``: of
    the reading, put before those of the study. With several stages the shortcuts centre, sigma, estimator, capability and
    fitness are null, since each stage has its own.
    """
    chart = CHARTS[study.plan.chart]
    stages = [plain(stage) for stage in study.stages]
    only = stages[0] if len(stages) == 1 else {}
    subject = columns.get("value") or columns.get("count") or ""
    subject = subject if isinstance(subject, str) else ", ".join(subject)
    if study.plan.residuals is not None:
        subject = f"residuals of {subject} ({study.plan.residuals})"
    return {
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "file": dict(file),
        "chart": chart.name,
        "title": f"{chart.title} chart of {subject}",
        "panels": [
            {
                "panel": panel.name,
                "statistic": panel.statistic,
                "points": _records(study.points.filter(pl.col("panel") == panel.name).drop("panel", "statistic")),
            }
            for panel in chart.panels
        ],
        "stages": stages,
        **{name: only.get(name) for name in _OF_ONE_STAGE},
        "k": study.plan.k,
        "violations": _records(study.violations),
        "rules_left_out": list(study.left_out),
        "options": _options(study, columns),
        "warnings": [*(warnings or []), *study.warnings],
    }


@cache
def software() -> dict[str, str]:
    """Name and version of this package."""
    try:
        return {"name": "spc-platform", "version": version("spc-platform")}
    except PackageNotFoundError:
        return {"name": "spc-platform", "version": "unknown"}


def _options(study: Study, columns: Mapping[str, Any]) -> dict[str, Any]:
    options = {field.name: getattr(study.plan, field.name) for field in dataclasses.fields(study.plan)}
    custom = options.pop("custom_rules", None)
    options["custom_rules"] = None if custom is None else custom.to_dicts()
    return {"columns": dict(columns), **plain(options)}


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    floats = pl.selectors.float()
    return frame.with_columns(pl.when(floats.is_finite()).then(floats)).to_dicts()


def plain(value: Any) -> Any:
    """JSON-ready data: tuples and arrays as lists, records as objects, NaN and infinity as None.

    >>> plain({"cp": float("nan"), "window": (1, 2)})
    {'cp': None, 'window': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, pl.Series):
        return plain(value.to_list())
    if isinstance(value, pl.DataFrame):
        return _records(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(document: Mapping[str, Any]) -> str:
    """The document as text: one line per point and per violation, every digit of every number, no NaN.

    >>> print(to_json({"schema_version": "1.0", "violations": [{"z": 0.1}, {"z": 3.25}]}), end="")
    {
     "schema_version": "1.0",
     "violations": [
      {"z": 0.1},
      {"z": 3.25}
     ]
    }
    """
    return "{\n" + ",\n".join(f" {_json(key)}: {_laid_out(value, 1)}" for key, value in document.items()) + "\n}\n"


def _laid_out(value: Any, depth: int) -> str:
    """A list of objects has one object a line, however long the list; what is small stays on one line."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return _json(value)
    pad = " " * (depth + 1)
    return "[\n" + ",\n".join(pad + _object(item, depth + 1) for item in value) + "\n" + " " * depth + "]"


def _object(item: Mapping[str, Any], depth: int) -> str:
    nested = any(isinstance(value, list) and value and isinstance(value[0], dict) for value in item.values())
    if not nested:
        return _json(item)
    return "{" + ", ".join(f"{_json(key)}: {_laid_out(value, depth)}" for key, value in item.items()) + "}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
