"""Two views of one table side by side: which rows and cells differ, and which events that were recorded late belong to them."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.table import UTC, Table

ASIDE = ("as_of", "page_sha256", "page_row")
"""Columns that are not compared: until when each view knows the plant, and which of several equal pages a row names."""
CELL_CHANGE = pl.Schema(
    {"row": pl.Int64, "change": pl.String, "column": pl.String, "known": pl.String, "present": pl.String},
)
"""``row`` numbers the changed rows in the order of the table's key; ``change`` is added, removed or changed since then."""
_ISO = "%Y-%m-%dT%H:%M:%S%.6fZ"
_SIDES = ("known", "present")
_MATCHED_BY: tuple[tuple[str, ...], ...] = (
    ("source_id", "record_id"),
    ("item_id",),
    ("job_order_id",),
    ("equipment_id", "work_center_id"),
)


def row_changes(known: pl.DataFrame, present: pl.DataFrame, contract: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows that differ between an earlier view and the present one, their cells as CELL_CHANGE).

    Rows are the present ones, where a row is gone those known then, in the order of the table's key, with ``row`` and
    ``change``. A row that was added or removed has no cells listed. Columns of ``ASIDE`` do not count as a difference.
    """
    key = list(contract.key)
    compared = [name for name in contract.names if name not in (*key, *ASIDE)]
    sides = {
        name: frame.select(*key, pl.struct(contract.names).alias(name))
        for name, frame in zip(_SIDES, (known, present), strict=True)
    }
    joined = sides["known"].join(sides["present"], on=key, how="full", coalesce=True, nulls_equal=True)
    differing = {name: _of("known", name).ne_missing(_of("present", name)) for name in compared}
    change = (
        pl.when(pl.col("known").is_null())
        .then(pl.lit("added"))
        .when(pl.col("present").is_null())
        .then(pl.lit("removed"))
        .when(pl.any_horizontal(differing.values()) if differing else pl.lit(value=False))
        .then(pl.lit("changed"))
    )
    found = (
        joined.with_columns(change=change)
        .drop_nulls("change")
        .sort(key, nulls_last=True)
        .with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64))
    )
    both = found.filter(pl.col("change") == "changed")
    cells = [
        both.filter(differs).select(
            "row",
            "change",
            pl.lit(name).alias("column"),
            *(_as_text(_of(side, name), contract.schema[name]).alias(side) for side in _SIDES),
        )
        for name, differs in differing.items()
    ]
    cells.append(found.filter(pl.col("change") != "changed").select("row", "change", **_no_cell()))
    order = {name: number for number, name in enumerate(contract.names)}
    listed = pl.concat(cells).cast(CELL_CHANGE).sort("row", pl.col("column").replace_strict(order, default=-1))
    rows = found.select("row", "change", pl.coalesce("present", "known").alias("_row")).unnest("_row")
    return rows, listed


def _of(side: str, name: str) -> pl.Expr:
    return pl.col(side).struct.field(name)


def _no_cell() -> dict[str, pl.Expr]:
    return {name: pl.lit(None, pl.String) for name in ("column", *_SIDES)}


def _as_text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return value.dt.strftime(_ISO) if dtype == UTC else value.cast(pl.String)


def events_of_rows(rows: pl.DataFrame, events: pl.DataFrame, names: pl.DataFrame, equipment: pl.DataFrame) -> pl.DataFrame:
    """The events that belong to changed rows, each once, with ``n_rows``, the number of rows that share a name with it.

    ``rows`` as ``row_changes`` gives them; ``events`` carry ``_event`` (a number), ``names`` is (``_event``, ``column``,
    ``name``) for the identifiers in their records; ``equipment`` is the site's hierarchy. Records belong together by the
    first of record, item, order and equipment that the rows have; equipment also when one contains the other.
    """
    group = next((group for group in _MATCHED_BY if set(group) <= set(rows.columns)), _MATCHED_BY[-1])
    columns = [name for name in group if name in rows.columns]
    if "record_id" in columns:
        wanted = rows.select("row", name=pl.concat_str("source_id", pl.lit(":"), "record_id"))
        told = events.select("_event", name=pl.concat_str("source_id", pl.lit(":"), "record_id"))
    else:
        wanted = pl.concat([rows.select("row", pl.col(name).cast(pl.String).alias("name")) for name in columns]).drop_nulls()
        same = ("parent_id", "child_id") if "item_id" in columns else ()
        told = names.filter(pl.col("column").is_in([*columns, *same])).select("_event", "name")
    pairs = [wanted.join(told, on="name")]
    if "equipment_id" in columns:
        above = _ancestors(equipment)
        lower = wanted.join(above, on="name").select("row", name="above")
        pairs.append(lower.join(told, on="name"))
        upper = told.join(above, on="name").select("_event", name="above")
        pairs.append(wanted.join(upper, on="name"))
    matched = pl.concat([pair.select("row", "_event") for pair in pairs]).unique()
    counted = matched.group_by("_event").agg(n_rows=pl.len().cast(pl.Int64))
    return events.join(counted, on="_event", maintain_order="left")


def _ancestors(equipment: pl.DataFrame) -> pl.DataFrame:
    """(name, above) for every equipment and each that contains it; the hierarchy has four levels."""
    parents = equipment.select(name="equipment_id", above="parent_equipment_id").drop_nulls()
    found = [parents]
    while found[-1].height and len(found) < equipment.height:
        found.append(
            found[-1].join(parents.rename({"name": "above", "above": "_next"}), on="above").select("name", above="_next")
        )
    return pl.concat(found).unique()
