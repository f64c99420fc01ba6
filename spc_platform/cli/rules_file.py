"""Run rules of one's own for a study: the table of ``contracts.rules`` in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from spc_platform.cli.study_file import StudyFile, read
from spc_platform.contracts.rules import RULES
from spc_platform.errors import ContractError


def rules_named(text: str) -> tuple[str, pl.DataFrame | None]:
    """Names of rules, and the table of the site's own rules where the text is ``@FILE`` or ``@FILE:NAMES``."""
    if not text.startswith("@"):
        return text, None
    path, _, chosen = text[1:].partition(":") if not Path(text[1:]).exists() else (text[1:], "", "")
    file = read(Path(path))
    if "rule_set" not in file.cells.columns:
        file = replace(file, cells=file.cells.with_columns(rule_set=pl.lit("custom")))
    unknown = set(file.cells.columns) - set(RULES.names)
    if unknown:
        raise ContractError(
            f"{file.name}: a table of rules has no column {sorted(unknown)[0]!r}; its columns are {', '.join(RULES.names)}.",
            code="SPC-388",
        )
    frame = pl.DataFrame([_of_type(file, name, RULES.schema[name]) for name in RULES.names if name in file.cells.columns])
    return chosen or ",".join(frame["rule_set"].unique(maintain_order=True).drop_nulls()), frame


def _of_type(file: StudyFile, name: str, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Boolean:
        flags = file.labels(name).str.to_lowercase()
        known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        wrong = flags.is_not_null() & ~flags.is_in(list(known))
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise ContractError(f"{file.name}, row {row + 1}, column {name!r}: write true or false.", code="SPC-388")
        return flags.replace_strict(known, return_dtype=pl.Boolean)
    if not dtype.is_numeric():
        return file.labels(name)
    numbers = file.numbers(name)
    if dtype.is_integer() and (broken := numbers.is_not_null() & (numbers != numbers.round())).any():
        row = int(broken.arg_true()[0])
        raise ContractError(f"{file.name}, row {row + 1}, column {name!r}: {numbers[row]} is no whole number.", code="SPC-388")
    return numbers.cast(dtype)
