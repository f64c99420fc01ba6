"""How a table's contract is written down.

A contract is the only place where a column is first named. From it follow the polars schema, the
pandera schema, the Parquet encoding, the column documentation in Dagster and the comments in the marts.
This module holds the notation; the sibling modules hold the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import pandera.polars as pa

UTC = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, polars dtype, meaning, unit and the rules that each value obeys.

    ``unit`` is the unit of the value; it is empty for identifiers, texts and flags, and names
    another column in angle brackets (``<unit>``) where each row states its own.
    ``dictionary`` asks for dictionary encoding in Parquet (identifiers and codes).
    """

    name: str
    dtype: Any
    description: str
    unit: str = ""
    nullable: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    isin: tuple[str, ...] = ()
    finite: bool = True
    dictionary: bool = False

    def violation_rules(self) -> list[tuple[str, pl.Expr]]:
        """(reason code, expression that is true for a bad row) for each rule of the column."""
        value = pl.col(self.name)
        rules: list[tuple[str, pl.Expr]] = []
        if not self.nullable:
            rules.append((f"{self.name}:MISSING", value.is_null()))
        if self.finite and self.dtype in (pl.Float64, pl.Float32):
            rules.append((f"{self.name}:NOT_FINITE", value.is_not_null() & ~value.is_finite()))
        if self.ge is not None:
            rules.append((f"{self.name}:BELOW_{self.ge:g}", value < self.ge))
        if self.gt is not None:
            rules.append((f"{self.name}:NOT_ABOVE_{self.gt:g}", value <= self.gt))
        if self.le is not None:
            rules.append((f"{self.name}:ABOVE_{self.le:g}", value > self.le))
        if self.isin:
            rules.append((f"{self.name}:NOT_ALLOWED", value.is_not_null() & ~value.is_in(list(self.isin))))
        return rules


@dataclass(frozen=True)
class Table:
    """A table's contract: columns in order, natural key, sort order and what a row means.

    ``partitioned`` tables hold one file per production date and carry ``production_date``.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort: tuple[str, ...] = ()
    partitioned: bool = True
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        duplicated = {name for name in names if names.count(name) > 1}
        unknown = {*self.key, *self.sort} - set(names)
        if duplicated or unknown:
            raise ValueError(f"contract {self.name}: duplicated {duplicated}, unknown in key or sort {unknown}")
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})

    @cached_property
    def schema(self) -> pl.Schema:
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @cached_property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def empty(self) -> pl.DataFrame:
        """A frame of this contract without rows."""
        return pl.DataFrame(schema=self.schema)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with exactly the contract's columns, dtypes and row order.

        A missing column raises ``polars.exceptions.ColumnNotFoundError``; a value that does not fit
        its dtype raises ``polars.exceptions.InvalidOperationError``. Ties in ``sort`` are broken by
        the key, so any row order gives the same result.
        """
        order = [*self.sort, *(name for name in self.key if name not in self.sort)]
        return frame.select(pl.col(name).cast(dtype) for name, dtype in self.schema.items()).sort(
            order, nulls_last=True, maintain_order=True
        )

    def with_reasons(self, frame: pl.DataFrame, extra: Sequence[tuple[str, pl.Expr]] = ()) -> pl.DataFrame:
        """The frame plus ``reasons``: every broken rule of a row, joined by ``;``, or null for a good row."""
        rules = [rule for column in self.columns if column.name in frame.columns for rule in column.violation_rules()]
        broken = [pl.when(bad.fill_null(value=False)).then(pl.lit(code)) for code, bad in [*rules, *extra]]
        joined = pl.concat_str(broken, separator=";", ignore_nulls=True)
        return frame.with_columns(reasons=pl.when(joined != "").then(joined))

    def pandera_schema(self) -> pa.DataFrameSchema:
        """The same rules as a pandera schema, for eager frames (a LazyFrame is checked for schema only)."""
        import pandera.polars as pa

        columns = {}
        for column in self.columns:
            checks: list[pa.Check] = []
            if column.ge is not None:
                checks.append(pa.Check.ge(column.ge))
            if column.gt is not None:
                checks.append(pa.Check.gt(column.gt))
            if column.le is not None:
                checks.append(pa.Check.le(column.le))
            if column.isin:
                checks.append(pa.Check.isin(list(column.isin)))
            if column.finite and column.dtype in (pl.Float64, pl.Float32):
                checks.append(
                    pa.Check(
                        lambda data: data.lazyframe.select(pl.col(data.key).is_finite()),
                        name="finite",
                        error="finite",
                    )
                )
            columns[column.name] = pa.Column(
                column.dtype, checks=checks, nullable=column.nullable, description=column.description
            )
        return pa.DataFrameSchema(columns, name=self.name, strict=True, ordered=True, unique=list(self.key))


def identifier(name: str, description: str, *, nullable: bool = False) -> Column:
    """A text column that names a thing of the plant; dictionary encoded."""
    return Column(name, pl.String, description, nullable=nullable, dictionary=True)


def text(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, pl.String, description, nullable=nullable)


def code(name: str, description: str, allowed: Sequence[str], *, nullable: bool = False) -> Column:
    """A text column with a closed set of values."""
    return Column(name, pl.String, description, nullable=nullable, isin=tuple(allowed), dictionary=True)


def moment(name: str, description: str, *, nullable: bool = False) -> Column:
    """An instant in UTC, microseconds."""
    return Column(name, UTC, description, nullable=nullable)


def number(
    name: str,
    description: str,
    *,
    unit: str = "",
    nullable: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
) -> Column:
    return Column(name, pl.Float64, description, unit=unit, nullable=nullable, ge=ge, gt=gt, le=le)


def count(name: str, description: str, *, nullable: bool = False, ge: float | None = 0) -> Column:
    return Column(name, pl.Int64, description, unit="1", nullable=nullable, ge=ge)


def flag(name: str, description: str) -> Column:
    return Column(name, pl.Boolean, description)


PRODUCTION_DATE = Column("production_date", pl.Date, "Business date: the local date on which the shift started.")
