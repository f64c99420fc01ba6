"""Traces along a genealogy: what went into an item, what came of it, what to recall, what was measured on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.contracts.genealogy import (
    LOT_GENEALOGY,
    NODE,
    RECALL,
    RECALL_IN_DOUBT,
    TRACE_ITEM,
    TRACE_LINK,
    TRACE_MEASUREMENT,
)
from spc_platform.production.genealogy import Ints, numbered, ranges

Direction = Literal["forward", "backward"]
Floats = npt.NDArray[np.float64]

_RELATION: dict[Direction, str] = {"forward": "descendant", "backward": "ancestor"}
_CHART = ["characteristic_id", "equipment_id"]
_NOT_STATED = "QUANTITY_NOT_STATED"


@dataclass(frozen=True)
class Genealogy:
    """The edges of LOT_GENEALOGY as adjacency in both directions; made to be kept in files and mapped into memory.

    ``nodes``: NODE, sorted by item_id. ``edges``: LOT_GENEALOGY sorted by parent, plus ``parent`` and ``child``, the places
    of the ends among the nodes. ``by_child``: the rows of the edges, sorted by child.
    """

    nodes: pl.DataFrame
    edges: pl.DataFrame
    by_child: pl.Series

    @classmethod
    def of(cls, edges: pl.DataFrame) -> Genealogy:
        """The genealogy of frames of LOT_GENEALOGY; any row order gives the same."""
        rows = LOT_GENEALOGY.conform(edges)
        items, parent, child = numbered(rows)
        by_child = np.argsort(child, kind="stable")
        bounds = np.arange(items.len() + 1)
        down, up = np.searchsorted(parent, bounds), np.searchsorted(child[by_child], bounds)
        nodes = pl.DataFrame(
            {"item_id": items, "down": down[:-1], "down_end": down[1:], "up": up[:-1], "up_end": up[1:]}, schema=NODE
        )
        return cls(
            nodes,
            rows.with_columns(parent=pl.Series(parent), child=pl.Series(child)),
            pl.Series("by_child", by_child, pl.Int64),
        )

    def place(self, item_id: str) -> int | None:
        """Place of an item among the nodes, by bisection; None when no link names it."""
        ids = self.nodes["item_id"]
        low, high = 0, ids.len()
        while low < high:
            middle = (low + high) // 2
            if ids[middle] < item_id:
                low = middle + 1
            else:
                high = middle
        return low if low < ids.len() and ids[low] == item_id else None

    def walk(self, start: int, direction: Direction, depth: int | None = None) -> Walk:
        """Everything reached from a node within ``depth`` links, breadth first, whole levels at a time."""
        first, last = ("down", "down_end") if direction == "forward" else ("up", "up_end")
        begin, end = self.nodes[first].to_numpy(), self.nodes[last].to_numpy()
        far = self.edges["child" if direction == "forward" else "parent"].to_numpy()
        by_child = self.by_child.to_numpy()
        seen = np.zeros(self.nodes.height, dtype=bool)
        seen[start] = True
        front = np.array([start], dtype=np.int64)
        nodes, links, level = [front], [np.empty(0, np.int64)], 0
        while front.size and level != depth:
            found = ranges(begin[front], end[front])
            found = found if direction == "forward" else by_child[found]
            links.append(found)
            reached = np.unique(far[found])
            front = reached[~seen[reached]]
            seen[front] = True
            nodes.append(front)
            level += 1
        sizes = [[part.size for part in parts] for parts in (nodes, links)]
        return Walk(
            direction,
            np.concatenate(nodes),
            np.repeat(np.arange(len(nodes)), sizes[0]),
            np.concatenate(links),
            np.repeat(np.arange(len(links)), sizes[1]),
        )


@dataclass(frozen=True)
class Walk:
    """Nodes reached (the start first, at depth 0) and rows of the edges that were followed, each with its depth."""

    direction: Direction
    nodes: Ints
    depths: Ints
    links: Ints
    link_depths: Ints


@dataclass(frozen=True)
class Trace:
    """One trace: ``items`` (TRACE_ITEM), ``links`` (TRACE_LINK)."""

    items: pl.DataFrame
    links: pl.DataFrame


def trace(genealogy: Genealogy, item_id: str, directions: Sequence[Direction], depth: int | None = None) -> Trace:
    """Items and links within ``depth`` links of an item (no bound when None), in the directions asked for.

    An item that no link names is a trace of itself alone. Kinds of items are empty here: see ``with_kinds``.
    """
    place = genealogy.place(item_id)
    start = pl.DataFrame({"item_id": [item_id], "relation": ["start"], "depth": [0]})
    if place is None:
        return Trace(_items(start.with_columns(is_end=pl.lit(value=True))), TRACE_LINK.empty())
    walks = [genealogy.walk(place, direction, depth) for direction in directions]
    items = [start.with_columns(is_end=pl.lit(value=all(walk.nodes.size == 1 for walk in walks)))]
    items += [_reached(genealogy, walk) for walk in walks]
    links = [
        genealogy.edges[walk.links].with_columns(relation=pl.lit(_RELATION[walk.direction]), depth=pl.Series(walk.link_depths))
        for walk in walks
    ]
    return Trace(_items(pl.concat(items)), TRACE_LINK.conform(pl.concat(links)))


def _items(items: pl.DataFrame) -> pl.DataFrame:
    return TRACE_ITEM.conform(items.with_columns(item_kind=pl.lit(None, dtype=pl.String)))


def _reached(genealogy: Genealogy, walk: Walk) -> pl.DataFrame:
    nodes = genealogy.nodes[walk.nodes[1:]]
    return nodes.select(
        "item_id",
        relation=pl.lit(_RELATION[walk.direction]),
        depth=pl.Series(walk.depths[1:]),
        is_end=pl.Series(~_goes_on(genealogy, walk.nodes[1:], walk.direction)),
    )


def _goes_on(genealogy: Genealogy, nodes: Ints, direction: Direction) -> npt.NDArray[np.bool_]:
    """Whether a link to another item leads on from each node; rework that kept its number does not."""
    first, last = ("down", "down_end") if direction == "forward" else ("up", "up_end")
    begin, end = (genealogy.nodes[nodes][name].to_numpy() for name in (first, last))
    found = ranges(begin, end)
    links = found if direction == "forward" else genealogy.by_child.to_numpy()[found]
    loops = genealogy.edges["parent"].to_numpy()[links] == genealogy.edges["child"].to_numpy()[links]
    owner = np.repeat(np.arange(nodes.size), end - begin)
    return np.asarray(np.bincount(owner[~loops], minlength=nodes.size) > 0)


def with_kinds(items: pl.DataFrame, measurement: pl.DataFrame, segment_event: pl.DataFrame) -> pl.DataFrame:
    """The items with ``item_kind`` as records of operations, then of measurements, say it; a contradiction stays empty.

    ``items`` has item_id and item_kind (TRACE_ITEM, RECALL); the other frames their payload.
    """
    said = pl.concat(
        [
            segment_event.select("item_id", "item_kind", rank=pl.lit(0)),
            measurement.select(item_id="serial_number", item_kind=pl.lit("serial"), rank=pl.lit(1)),
            measurement.select(item_id="material_lot_id", item_kind=pl.lit("lot"), rank=pl.lit(1)),
        ]
    ).filter(pl.col("item_id").is_in(items["item_id"].implode()))
    best = said.filter(pl.col("rank") == pl.col("rank").min().over("item_id")).unique(["item_id", "item_kind"])
    clear = best.filter(pl.len().over("item_id") == 1).select("item_id", _kind="item_kind")
    return (
        items.join(clear, on="item_id", how="left", maintain_order="left")
        .with_columns(item_kind=pl.coalesce("item_kind", "_kind"))
        .drop("_kind")
    )


def recall(genealogy: Genealogy, item_id: str, segment_event: pl.DataFrame, measurement: pl.DataFrame) -> pl.DataFrame:
    """Everything that contains a suspect item, how much of it, and where it was seen last: RECALL.

    What left an item divides over its links in proportion to their quantities (one link alone carries all of it), so
    shares over the finished items add up to 1. Where a quantity that matters is not stated the share is empty with a
    reason. ``segment_event`` and ``measurement``: payloads; an item without events was seen last where it was made.
    """
    place = genealogy.place(item_id)
    if place is None:
        return RECALL.empty()
    walk = genealogy.walk(place, "forward")
    nodes, order = np.sort(walk.nodes), np.argsort(walk.nodes)
    links = np.sort(walk.links)
    parent, child = (genealogy.edges[name].to_numpy()[links] for name in ("parent", "child"))
    links, parent, child = (values[parent != child] for values in (links, parent, child))
    rows = genealogy.edges[links]
    local = np.searchsorted(nodes, parent), np.searchsorted(nodes, child)
    quantity = rows["quantity"].to_numpy().astype(np.float64)
    start = int(np.searchsorted(nodes, place))
    share = _shares(*local, quantity, nodes.size, start)
    left = float(quantity[local[0] == start].sum()) if (local[0] == start).any() else np.nan
    found = pl.DataFrame(
        {
            "item_id": genealogy.nodes["item_id"][nodes],
            "item_kind": pl.Series([None] * nodes.size, dtype=pl.String),
            "depth": walk.depths[order],
            "is_finished": np.bincount(local[0], minlength=nodes.size) == 0,
            "share": share,
            "quantity": share * left,
        }
    ).with_columns(pl.col("share", "quantity").fill_nan(None))
    found = found.filter(pl.col("item_id") != item_id).with_columns(
        reason=pl.when(pl.any_horizontal(pl.col("share", "quantity").is_null())).then(pl.lit(_NOT_STATED))
    )
    seen = _last_seen(found["item_id"], segment_event, rows)
    return RECALL.conform(with_kinds(found, measurement, segment_event).join(seen, on="item_id", how="left"))


def recall_in_doubt(genealogy: Genealogy, reached: pl.Series, refused: pl.DataFrame) -> pl.DataFrame:
    """What would be on the recall list too if the refused links were right: RECALL_IN_DOUBT.

    ``reached``: the suspect item and everything that came of it. ``refused``: LOT_GENEALOGY_REFUSED; a link that does not
    say both ends leads nowhere. Of several refused links that lead to an item, the nearest names it, then source and record.
    """
    leads = refused.filter(pl.col("parent_id").is_not_null() & pl.col("child_id").is_not_null())
    leads = leads.select("parent_id", "child_id", "source_id", "record_id", "reasons").sort(
        "source_id", "record_id", "child_id"
    )
    known = reached
    found = [RECALL_IN_DOUBT.empty()]
    while True:
        into = pl.col("parent_id").is_in(known.implode()) & ~pl.col("child_id").is_in(known.implode())
        front = leads.filter(into).unique("child_id", keep="first", maintain_order=True)
        if front.is_empty():
            return RECALL_IN_DOUBT.conform(pl.concat(found))
        behind = pl.concat(
            pl.DataFrame({"item_id": _downstream(genealogy, child)}).with_columns(
                source_id=pl.lit(source), record_id=pl.lit(record), reasons=pl.lit(reasons)
            )
            for _, child, source, record, reasons in front.iter_rows()
        )
        behind = behind.filter(~pl.col("item_id").is_in(known.implode()))
        found.append(behind.unique("item_id", keep="first", maintain_order=True).select(RECALL_IN_DOUBT.names))
        known = pl.concat([known, found[-1]["item_id"]])


def _downstream(genealogy: Genealogy, item_id: str) -> pl.Series:
    """An item and everything that came of it by links in force."""
    place = genealogy.place(item_id)
    if place is None:
        return pl.Series("item_id", [item_id])
    return genealogy.nodes["item_id"][genealogy.walk(place, "forward").nodes]


def _shares(parent: Ints, child: Ints, quantity: Floats, n: int, start: int) -> Floats:
    """Share of the start that is in every node; NaN where a quantity on the way is not stated."""
    out = np.bincount(parent, weights=quantity, minlength=n)
    alone = np.bincount(parent, minlength=n) == 1
    weight = np.where(alone[parent], 1.0, quantity / out[parent])
    share = np.zeros(n)
    share[start] = 1.0
    begin = np.searchsorted(parent, np.arange(n + 1))
    waits = np.bincount(child, minlength=n)
    front = np.flatnonzero(waits == 0)
    while front.size:
        links = ranges(begin[front], begin[front + 1])
        np.add.at(share, child[links], share[parent[links]] * weight[links])
        reached, come = np.unique(child[links], return_counts=True)
        waits[reached] -= come
        front = reached[waits[reached] == 0]
    return share


def _last_seen(items: pl.Series, segment_event: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """The last event of every item, and where there is none the last link that made it."""
    columns = ["item_id", "segment_id", "equipment_id", "event_type", "seen_at", "job_order_id"]
    events = segment_event.rename({"occurred_at": "seen_at"}).select(columns).with_columns(_rank=pl.lit(1))
    links = made.select(
        item_id="child_id",
        segment_id=pl.lit(None, pl.String),
        equipment_id="equipment_id",
        event_type="link_type",
        seen_at="occurred_at",
        job_order_id="job_order_id",
        _rank=pl.lit(0),
    )
    both = pl.concat([events, links], how="vertical_relaxed").filter(pl.col("item_id").is_in(items.implode()))
    ordered = both.sort("item_id", "_rank", "seen_at", *columns[1:4], "job_order_id", nulls_last=False)
    return ordered.unique("item_id", keep="last", maintain_order=True).select(columns)


def trace_measurements(
    items: pl.DataFrame,
    measurement: pl.DataFrame,
    specifications: pl.DataFrame,
    subgroups: pl.DataFrame,
    points: pl.DataFrame,
) -> pl.DataFrame:
    """Measurements of the items with value, specification version, verdict, limit version and signals: TRACE_MEASUREMENT.

    ``items``: TRACE_ITEM; the others are frames of measurement, specifications, spc_subgroups and spc_points, which
    may hold more than is needed. A measurement belongs to the item that its serial number names. It belongs to the lot
    that it names as well where the lot is the start, came of it, or where it has no serial number: the other parts of a
    lot that went into the start say nothing about the start.
    """
    matched = _matched(items, measurement)
    limits = specifications.select("characteristic_id", "lsl", "usl", specification_version="version")
    judged = matched.join(limits, on=["characteristic_id", "specification_version"], how="left").with_columns(
        verdict=pl.when(pl.col("lsl").is_null() & pl.col("usl").is_null())
        .then(pl.lit("no_specification"))
        .when((pl.col("value") < pl.col("lsl")).fill_null(value=False))
        .then(pl.lit("below_lsl"))
        .when((pl.col("value") > pl.col("usl")).fill_null(value=False))
        .then(pl.lit("above_usl"))
        .otherwise(pl.lit("in_specification"))
    )
    return TRACE_MEASUREMENT.conform(_with_signals(_with_subgroup(judged, subgroups), points))


def _matched(items: pl.DataFrame, measurement: pl.DataFrame) -> pl.DataFrame:
    known = items.select("item_id", "relation", "depth")
    serial, lot = (
        measurement.join(known, left_on=name, right_on="item_id").with_columns(item_id=pl.col(name), matched_by=pl.lit(name))
        for name in ("serial_number", "material_lot_id")
    )
    own = lot.filter(pl.col("serial_number").is_null() | (pl.col("relation") != "ancestor"))
    columns = [name for name in TRACE_MEASUREMENT.names if name in serial.columns]
    twice = own.join(serial, on=["source_id", "record_id", "item_id"], how="anti")
    return pl.concat([serial.select(columns), twice.select(columns)])


def _with_subgroup(measured: pl.DataFrame, subgroups: pl.DataFrame) -> pl.DataFrame:
    """The subgroup of the chart whose time from first to last value holds the measurement."""
    spans = subgroups.select(*_CHART, "subgroup_id", "subgroup_at", "subgroup_end_at").sort("subgroup_at", "subgroup_id")
    joined = measured.sort("measured_at").join_asof(
        spans, left_on="measured_at", right_on="subgroup_at", by=_CHART, strategy="backward", check_sortedness=False
    )
    within = pl.col("measured_at") <= pl.col("subgroup_end_at")
    return joined.with_columns(subgroup_id=pl.when(within).then(pl.col("subgroup_id")))


def _with_signals(measured: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    wanted = points.filter(pl.col("subgroup_id").is_in(measured["subgroup_id"].drop_nulls().unique().implode()))
    location = wanted.filter(pl.col("panel") == "location").select("subgroup_id", "limit_version", "cl", "lcl", "ucl")
    signals = (
        wanted.filter(pl.col("rules").is_not_null())
        .select("subgroup_id", "panel", pl.col("rules").str.split(";"))
        .explode("rules")
        .sort("subgroup_id", "panel", "rules")
        .group_by("subgroup_id", maintain_order=True)
        .agg(signals=pl.concat_str("panel", "rules", separator=":").str.join(";"))
    )
    return measured.join(location, on="subgroup_id", how="left").join(signals, on="subgroup_id", how="left")
