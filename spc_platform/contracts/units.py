"""Units are checked, never guessed: the conversions that are registered, and nothing else."""

from __future__ import annotations

import polars as pl

CONVERSIONS: dict[tuple[str, str], tuple[float, float]] = {
    ("in", "mm"): (25.4, 0.0),
    ("um", "mm"): (0.001, 0.0),
    ("m", "mm"): (1000.0, 0.0),
    ("mm", "um"): (1000.0, 0.0),
    ("bar", "kPa"): (100.0, 0.0),
    ("mbar", "kPa"): (0.1, 0.0),
    ("kN", "N"): (1000.0, 0.0),
    ("N", "kN"): (0.001, 0.0),
    ("lbf.ft", "N.m"): (1.3558179483314004, 0.0),
    ("degF", "degC"): (5.0 / 9.0, -160.0 / 9.0),
    ("K", "degC"): (1.0, -273.15),
    ("min", "s"): (60.0, 0.0),
    ("ms", "s"): (0.001, 0.0),
}
"""(from, to) -> (factor, offset): value_to = value_from * factor + offset. Exact by definition of the units."""


def conversion_table() -> pl.DataFrame:
    """The registered conversions as a frame: unit_from, unit_to, factor, offset."""
    return pl.DataFrame(
        [(source, target, factor, offset) for (source, target), (factor, offset) in sorted(CONVERSIONS.items())],
        schema={"unit_from": pl.String, "unit_to": pl.String, "factor": pl.Float64, "offset": pl.Float64},
        orient="row",
    )
