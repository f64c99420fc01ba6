"""Which revision of a record is in force: the highest, with ties resolved by content, never by order of arrival."""

from __future__ import annotations

import polars as pl

_RECORD = ("source_id", "record_id")
_LINEAGE = ("page_sha256", "page_row")
_ROW = "__row"
_ORDER = "__written_at"
DELIVERED = "_delivered_at"
"""Column that a frame may have: when a page brought the row, where that decides between revisions the source does not order."""
RANK = "_rank"
"""Column that a frame may have: what stands for the revision in the order; the same for all rows where delivery decides."""


def drop_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with one row per distinct content.

    Sources repeat themselves: overlapping reads, duplicate pages. Rows that agree in everything but the
    page they came in are one row; the lowest (page_sha256, page_row) is kept, whatever the row order, with
    the latest ``DELIVERED``.

    >>> rows = pl.DataFrame({"record_id": ["a", "a"], "page_sha256": ["f0", "0f"], "page_row": [0, 3]})
    >>> drop_repeats(rows).rows()
    [('a', '0f', 3)]
    """
    content = [name for name in frame.columns if name not in (*_LINEAGE, DELIVERED)]
    if DELIVERED in frame.columns and frame[DELIVERED].null_count() < frame.height:
        frame = frame.with_columns(pl.col(DELIVERED).max().over(content))
    return frame.sort(_LINEAGE, maintain_order=True).unique(content, keep="first", maintain_order=True)


def latest_revisions(frame: pl.DataFrame, superseded: pl.DataFrame) -> pl.DataFrame:
    """The frame with ``is_current``: true for the one revision of each record that is in force.

    ``frame`` holds rows of one raw table and production date. ``superseded`` (source_id, record_id,
    revision, updated_at) names rows of it that a revision on another production date replaces.

    In force is the highest revision. Equal revisions with different content are a conflict of the source:
    the higher ``updated_at`` wins (none is lowest), then the larger content, compared column by column in
    the order of the contract; of equal contents the lowest (page_sha256, page_row). No row is dropped.
    ``DELIVERED`` where there is one goes before ``updated_at``, and ``RANK`` before the revision (``superseded`` has them
    under those names); neither is given back.

    >>> rows = pl.DataFrame({"source_id": "mes", "record_id": "a", "revision": [1, 2], "updated_at": [None, None],
    ...     "page_sha256": "0f", "page_row": [0, 1], "value": [3.0, 4.0]})
    >>> latest_revisions(rows, rows.clear())["is_current"].to_list()
    [False, True]
    """
    written = pl.coalesce(DELIVERED, "updated_at") if DELIVERED in frame.columns else pl.col("updated_at")
    rank = pl.col(RANK if RANK in frame.columns else "revision").alias(RANK)
    rows = frame.drop("is_current", strict=False).with_row_index(_ROW).with_columns(written.alias(_ORDER), rank)
    several = rows.filter(pl.len().over(_RECORD) > 1)
    told = (*_RECORD, "revision", "updated_at", *_LINEAGE, _ROW, _ORDER, DELIVERED, RANK)
    order = [RANK, _ORDER, *(name for name in rows.columns if name not in told)]
    ranked = several.sort(
        [*order, *_LINEAGE],
        descending=[True] * len(order) + [False] * len(_LINEAGE),
        nulls_last=True,
    )
    losers = several.join(ranked.unique(_RECORD, keep="first", maintain_order=True), on=_ROW, how="anti")
    elsewhere = superseded.select(*_RECORD, pl.col("revision").alias(RANK), pl.col("updated_at").alias(_ORDER)).unique()
    replaced = rows.join(elsewhere, on=[*_RECORD, RANK, _ORDER], how="semi", nulls_equal=True)
    beaten = pl.concat([losers.get_column(_ROW), replaced.get_column(_ROW)]).unique()
    current = rows.with_columns(is_current=~pl.col(_ROW).is_in(beaten.implode()))
    return current.drop(_ROW, _ORDER, DELIVERED, RANK, strict=False)
