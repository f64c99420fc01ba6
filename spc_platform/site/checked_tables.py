"""The site tables under check, how a broken row is told, and the rules of effective dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from spc_platform.site.files import LINE, Problems

FOREVER = pl.lit("9999-12-31").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
EVER = pl.lit("0001-01-01").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")


@dataclass(frozen=True, slots=True)
class CheckedTables:
    """The frames under check; each carries LINE."""

    frames: Mapping[str, pl.DataFrame]
    problems: Problems

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name]

    def refuse(self, name: str, bad: pl.Expr, wrong: pl.Expr, remedy: str) -> None:
        """Every row of table ``name`` for which ``bad`` holds is a problem."""
        rows = self.frames[name].filter(bad.fill_null(value=False))
        self.problems.add_rows(f"{name}.csv", rows, wrong, remedy)

    def refuse_rows(self, name: str, rows: pl.DataFrame, wrong: pl.Expr, remedy: str) -> None:
        self.problems.add_rows(f"{name}.csv", rows, wrong, remedy)

    def refer(self, name: str, column: str, known: pl.Series, what: str, remedy: str) -> None:
        """Every filled value of ``column`` must be among ``known``."""
        unknown = pl.col(column).is_not_null() & ~pl.col(column).is_in(known.drop_nulls().implode())
        self.refuse(name, unknown, pl.format('{} "{}" is not {}', pl.lit(column), pl.col(column), pl.lit(what)), remedy)


def check_window(tables: CheckedTables, name: str) -> None:
    """A row must end to be in force after it began."""
    wrong = pl.lit("effective_to is not after effective_from")
    tables.refuse(
        name, pl.col("effective_to") <= pl.col("effective_from"), wrong, "correct the dates (effective_to is exclusive)"
    )


def check_overlap(tables: CheckedTables, name: str, keys: list[str], remedy: str = "") -> None:
    """Windows [effective_from, effective_to) of the same key must not overlap; empty is since ever, or for ever."""
    begun = tables[name].with_columns(pl.col("effective_from").fill_null(EVER))
    ordered = begun.sort(*keys, "effective_from", nulls_last=True)
    end = pl.col("effective_to").fill_null(FOREVER)
    before, line = end.cum_max().shift().over(keys), pl.col(LINE).shift().over(keys)
    rows = ordered.with_columns(before=before, before_line=line).filter(pl.col("effective_from") < pl.col("before"))
    wrong = pl.format(
        "{} is in force at the same time as the row on line {}",
        pl.concat_str([pl.col(key).cast(pl.String) for key in keys], separator=" on "),
        "before_line",
    )
    tables.refuse_rows(name, rows, wrong, remedy or "end the earlier one: its effective_to is this effective_from")
