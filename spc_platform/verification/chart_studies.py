"""Chart studies of reference cases, end to end by ``spc.study.study``: the path of the assets and of `spc analyze`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spc_platform.spc.multivariate import known_parameters, mewma_panel
from spc_platform.spc.sequence import Spans
from spc_platform.spc.study import Plan, study

_LINES = ("value", "cl", "lcl", "ucl", "z")
_STAGE = ("centre", "sigma", "nu", "sigma_within", "sigma_means", "sigma_between", "sigma_z", "proportion")


def study_figures(columns: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a study of ``columns`` (lists, or one value for all rows; ``""`` is missing), by name.

    ``centre``, ``sigma`` ... of the first stage; ``PANEL.value``, ``.cl``, ``.lcl``, ``.ucl``, ``.z`` as lists by point;
    lines that do not vary as ``PANEL.constant_ucl`` and so on; ``PANEL.signals``: numbers of
    the points with a violation; ``fitness.*`` and ``capability.*``.
    """
    rows = max(len(values) for values in columns.values() if isinstance(values, list))
    series = {name: values if isinstance(values, list) else [values] * rows for name, values in columns.items()}
    frame = pl.DataFrame({"row": range(1, rows + 1), **{name: _series(name, values) for name, values in series.items()}})
    baseline = {"baseline": tuple(plan["baseline"])} if "baseline" in plan else {}
    found = study(frame, Plan(**{**plan, **baseline}))
    first = found.stages[0]
    figures: dict[str, Any] = {name: first.get(name) for name in _STAGE}
    for (panel,), points in found.points.group_by("panel", maintain_order=True):
        figures |= {f"{panel}.{line}": points[line].to_list() for line in _LINES}
        for line, value in ((first.get("limits") or {}).get(panel) or {}).items():
            figures[f"{panel}.constant_{line}"] = value
    for panel in found.points["panel"].unique():
        flagged = found.violations.filter(pl.col("panel") == panel)["number"]
        figures[f"{panel}.signals"] = flagged.unique().sort().to_list()
    for part in ("fitness", "capability"):
        figures |= {f"{part}.{name}": value for name, value in (first.get(part) or {}).items()}
    return figures


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    if name in ("stage", "subgroup", "part"):
        return pl.Series([None if value == "" else str(value) for value in values], dtype=pl.String)
    return pl.Series([None if value == "" else float(value) for value in values], dtype=pl.Float64)


def handbook_rows(file: Path) -> list[list[float]]:
    """The rows of numbers below the ruled line of a Dataplot file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rule = next(number for number, line in enumerate(lines) if set(line.strip()) == {"-"})
    return [[float(word) for word in line.split()] for line in lines[rule + 1 :] if line.strip() and line[:3] != "END"]


def handbook_study(
    file: Path,
    columns: Mapping[str, int],
    plan: Mapping[str, Any],
    constant: Mapping[str, Any] | None = None,
    times: float = 1.0,
) -> dict[str, Any]:
    """Figures of a study of columns (from 1) of a Dataplot file; ``times`` turns shares of a constant size into counts."""
    rows = handbook_rows(file)
    values: dict[str, Any] = {name: [row[column - 1] for row in rows] for name, column in columns.items()}
    if times != 1.0:
        values["count"] = [float(round(value * times)) for value in values["count"]]
    return study_figures({**values, **(constant or {})}, plan)


def mewma_of_known(vectors: Sequence[float], variables: int, weight: float, limit: float) -> dict[str, Any]:
    """MEWMA points about zero with the covariance of the vectors themselves, and the points above the limit."""
    x = np.asarray(vectors, dtype=np.float64).reshape(-1, variables)
    known = known_parameters(np.zeros((1, variables)), np.cov(x.T)[None])
    points = mewma_panel(x, np.arange(len(x)) == 0, Spans(np.array([0]), len(x)), known, weight, limit)
    return {"value": points.value, "signals": (np.flatnonzero(points.value > points.ucl) + 1).tolist()}


def vector_study(vectors: Sequence[Sequence[float]], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a T² or MEWMA study of vectors, one list of variables per row."""
    return study_figures({f"v:{number}": list(values) for number, values in enumerate(zip(*vectors, strict=True))}, plan)


def handbook_vectors(file: Path, columns: Sequence[int], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a study of vectors in the columns (from 1) of a Dataplot file."""
    return vector_study([[row[column - 1] for column in columns] for row in handbook_rows(file)], plan)
