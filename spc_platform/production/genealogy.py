"""Genealogy: links of lots and serial numbers in force, free of cycles, and the walk along them.

A lot and a serial number live in one space of identifiers, because a link names its ends by their identifier alone.
Rework either gives the part a new identifier (an ordinary link of type ``reworked``) or leaves it its own: that link
leads from the item to itself, is kept, and is no part of any cycle. No other link may lead to its own parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.contracts.genealogy import LOT_GENEALOGY, LOT_GENEALOGY_REFUSED
from spc_platform.contracts.operations import MATERIAL_LINK_PAYLOAD
from spc_platform.contracts.table import Table
from spc_platform.prepare.revisions import latest_revisions

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_CLOSING = 200
"""Links that close a cycle are told one by one up to this many; beyond, all links that lie on cycles are refused."""
MAX_WORK = 2_000_000
"""Likewise once the links on cycles times the links told reach this: every one that is told looks at all of them again."""

_RECORD = ["source_id", "record_id"]
_LINK = Table("material_link", "", MATERIAL_LINK_PAYLOAD, key=("parent_id",))
_CYCLE, _SELF = "child_id:CYCLE", "child_id:SELF_LINK"


@dataclass(frozen=True)
class Links:
    """``edges`` (LOT_GENEALOGY) that make up the genealogy, and ``refused`` ones (LOT_GENEALOGY_REFUSED)."""

    edges: pl.DataFrame
    refused: pl.DataFrame


def links_in_force(links: pl.DataFrame, known_at: datetime | None = None) -> pl.DataFrame:
    """The latest revision of every record, without deleted ones; with ``known_at`` as it was known then.

    ``links``: payload of material_link, source_id, record_id, revision, updated_at and is_deleted, any number of
    revisions each. A revision without ``updated_at`` counts as known from the beginning. Equal revisions with
    different content are resolved as everywhere: later ``updated_at``, then the larger content.
    """
    known = links if known_at is None else links.filter((pl.col("updated_at") <= known_at).fill_null(value=True))
    names = [*_RECORD, "revision", "updated_at", "is_deleted", *_LINK.names]
    placed = known.select(*names, page_sha256=pl.lit(""), page_row=pl.lit(0, pl.Int64))
    superseded = placed.clear().select(*_RECORD, "revision", "updated_at")
    current = latest_revisions(placed, superseded).filter(pl.col("is_current") & ~pl.col("is_deleted"))
    return current.select(*_RECORD, "revision", "updated_at", *_LINK.names)


def lot_genealogy(links: pl.DataFrame, tolerance_s: float = 0.0) -> Links:
    """Splits links in force into the edges of an acyclic genealogy and those that are refused, with reasons.

    ``links``: one row per record, as ``links_in_force`` gives them. Refused is a link that breaks the contract, that leads
    from an item to itself without being rework, or that closes a cycle: links are taken in the order in which they
    happened (then source, then record), and the one whose child already leads to its parent is refused. An edge that
    used its parent more than ``tolerance_s`` before the first link that made the parent is kept and flagged USED_BEFORE_MADE.

    >>> from datetime import UTC, datetime
    >>> links = pl.DataFrame({"source_id": "mes", "record_id": ["1", "2"], "revision": 1, "updated_at": None,
    ...     "parent_id": ["A", "B"], "child_id": ["B", "A"], "link_type": "consumed", "quantity": None,
    ...     "occurred_at": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)],
    ...     "equipment_id": None, "job_order_id": None})
    >>> found = lot_genealogy(links)
    >>> found.edges["record_id"].to_list(), found.refused.select("record_id", "cycle_items", "cycle_records").rows()
    (['1'], [('2', 'A>B>A', 'mes:1;mes:2')])
    """
    is_self = pl.col("parent_id") == pl.col("child_id")
    judged = _LINK.with_reasons(links, [(_SELF, is_self & (pl.col("link_type") != "reworked"))])
    broken = judged.filter(pl.col("reasons").is_not_null())
    sound = judged.filter(pl.col("reasons").is_null()).drop("reasons").sort(*LOT_GENEALOGY.sort, *_RECORD)
    cyclic = _cyclic(sound)
    refused = pl.concat([broken, cyclic], how="diagonal_relaxed") if cyclic.height else broken
    kept = sound.join(cyclic, on=_RECORD, how="anti", maintain_order="left") if cyclic.height else sound
    absent = [pl.lit(None, pl.String).alias(name) for name in ("cycle_items", "cycle_records") if name not in refused.columns]
    return Links(
        LOT_GENEALOGY.conform(_with_time_issues(kept, tolerance_s)), LOT_GENEALOGY_REFUSED.conform(refused.with_columns(absent))
    )


def _with_time_issues(edges: pl.DataFrame, tolerance_s: float) -> pl.DataFrame:
    made = (
        edges.filter(pl.col("parent_id") != pl.col("child_id"))
        .group_by("child_id")
        .agg(parent_made_at=pl.col("occurred_at").min())
    )
    early = pl.col("occurred_at") + pl.duration(microseconds=round(tolerance_s * 1e6)) < pl.col("parent_made_at")
    return edges.join(made, left_on="parent_id", right_on="child_id", how="left").with_columns(
        time_issue=pl.when(early).then(pl.lit("USED_BEFORE_MADE"))
    )


def numbered(edges: pl.DataFrame) -> tuple[pl.Series, Ints, Ints]:
    """Items in the order of their ids, and for every edge the places of its parent and of its child among them."""
    ends = pl.concat([edges["parent_id"], edges["child_id"]])
    items = ends.unique().sort().rename("item_id")
    places = ends.cast(pl.Enum(items)).to_physical().cast(pl.Int64).to_numpy() if items.len() else np.empty(0, np.int64)
    return items, places[: edges.height], places[edges.height :]


def _cyclic(edges: pl.DataFrame) -> pl.DataFrame:
    """The edges that close cycles, with reasons, cycle_items and cycle_records."""
    items, parent, child = numbered(edges)
    other = np.flatnonzero(parent != child)
    core = other[_on_cycles(parent[other], child[other], items.len())]
    if core.size == 0:
        return edges.clear()
    rows = edges[core].with_columns(_parent=parent[core], _child=child[core], _row=core).sort("occurred_at", *_RECORD)
    ends = np.unique(np.concatenate([parent[core], child[core]]))
    local = np.searchsorted(ends, rows["_parent"].to_numpy()), np.searchsorted(ends, rows["_child"].to_numpy())
    closing, loops = _closing(*local, ends.size)
    records = pl.concat_str("source_id", "record_id", separator=":")
    names, said = items[ends].to_list(), rows.select(records).to_series().to_list()
    told = [
        (int(edge), ">".join(names[node] for node in nodes), ";".join(said[link] for link in path))
        for edge, (nodes, path) in zip(closing, loops, strict=True)
    ]
    cycles = pl.DataFrame(told, schema={"_at": pl.UInt32, "cycle_items": pl.String, "cycle_records": pl.String}, orient="row")
    found = rows.drop("_parent", "_child", "_row").with_row_index("_at").join(cycles, on="_at", how="inner")
    return found.drop("_at").with_columns(reasons=pl.lit(_CYCLE))


def _on_cycles(parent: Ints, child: Ints, n: int) -> Flags:
    """Which edges may lie on a cycle: peeled level by level from both ends (Kahn 1962), then by strong components."""
    alive = np.ones(parent.size, dtype=bool)
    for tail, head in ((parent, child), (child, parent)):
        _peel(tail, head, n, alive)
    if alive.any():
        alive[alive] = _component(parent[alive], child[alive], n)
    return alive


def _peel(tail: Ints, head: Ints, n: int, alive: Flags) -> None:
    """Marks dead the edges of nodes that no living edge leads to, again until none is left, each edge once."""
    order = np.argsort(tail, kind="stable")
    start = np.searchsorted(tail[order], np.arange(n + 1))
    degree = np.bincount(head[alive], minlength=n)
    front = np.flatnonzero(degree == 0)
    while front.size:
        edges = order[ranges(start[front], start[front + 1])]
        edges = edges[alive[edges]]
        alive[edges] = False
        reached, lost = np.unique(head[edges], return_counts=True)
        degree[reached] -= lost
        front = reached[degree[reached] == 0]


def _component(parent: Ints, child: Ints, n: int) -> Flags:
    """True for an edge whose ends lie in one strong component."""
    # the import costs more than a whole genealogy without cycles
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(parent.size, dtype=np.int8), (parent, child)), shape=(n, n)).tocsr()
    _, labels = connected_components(graph, directed=True, connection="strong")
    return np.asarray(labels[parent] == labels[child])


def _closing(parent: Ints, child: Ints, n: int) -> tuple[Ints, list[tuple[list[int], list[int]]]]:
    """Edges, in their order, that close a cycle with kept edges before them; with each its cycle as nodes and edges.

    The longest prefix without a cycle is found by bisection, its successor is refused, and so on.
    """
    kept = np.ones(parent.size, dtype=bool)
    closing: list[int] = []
    loops: list[tuple[list[int], list[int]]] = []
    most = min(MAX_CLOSING, max(1, MAX_WORK // parent.size))
    while len(closing) < most and _component_any(parent, child, kept, n):
        low, high = (closing[-1] + 1 if closing else 0), parent.size
        while low < high:
            middle = (low + high) // 2
            if _component_any(parent, child, kept & (np.arange(parent.size) <= middle), n):
                high = middle
            else:
                low = middle + 1
        kept[low] = False
        closing.append(low)
        loops.append(_loop(parent, child, np.flatnonzero(kept[:low]), low))
    rest = np.flatnonzero(kept)
    tangled = rest[_component(parent[rest], child[rest], n)]
    return np.append(closing, tangled).astype(np.int64), loops + [([int(child[edge])], [int(edge)]) for edge in tangled]


def _component_any(parent: Ints, child: Ints, kept: Flags, n: int) -> bool:
    return bool(_component(parent[kept], child[kept], n).any())


def _loop(parent: Ints, child: Ints, before: Ints, edge: int) -> tuple[list[int], list[int]]:
    """The shortest way from the edge's child to its parent along ``before``, closed by the edge."""
    order = before[np.lexsort((before, parent[before]))]
    n = int(max(parent.max(), child.max())) + 1
    start = np.searchsorted(parent[order], np.arange(n + 1))
    came_by = np.full(n, -1)
    seen = np.zeros(n, dtype=bool)
    front = child[[edge]]
    seen[front] = True
    while not seen[parent[edge]]:
        found = order[ranges(start[front], start[front + 1])]
        found = found[~seen[child[found]]]
        front, first = np.unique(child[found], return_index=True)
        came_by[front] = found[first]
        seen[front] = True
    path: list[int] = [edge]
    while parent[path[-1]] != child[edge]:
        path.append(int(came_by[parent[path[-1]]]))
    ordered = [*path[:0:-1], edge]
    return [int(child[edge]), *(int(child[link]) for link in ordered)], ordered


def ranges(start: Ints, end: Ints) -> Ints:
    """The whole numbers of [start, end) of every pair, one after the other.

    >>> ranges(np.array([3, 9]), np.array([5, 12])).tolist()
    [3, 4, 9, 10, 11]
    """
    sizes = end - start
    before = np.cumsum(sizes) - sizes
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(start - before, sizes), dtype=np.int64)
