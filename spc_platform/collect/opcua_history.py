"""What a server's history says of a span of time, for many nodes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds

HISTORY_READ = 1 << 2
"""Bit of AccessLevel: the values of the node are in the server's history."""


@dataclass(slots=True)
class History:
    """Data values per address, oldest first, and the status of the addresses that the server refused."""

    values: dict[str, list[ua.DataValue]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


async def with_history(session: UaSession, nodes: Mapping[str, ua.NodeId], per_request: int) -> set[str]:
    """The addresses whose nodes have a history that we may read."""
    found: set[str] = set()
    for part in _parts(nodes, per_request):
        levels = await session.read_attributes(list(part.values()), AttributeIds.UserAccessLevel)
        for address, level in zip(part, levels, strict=True):
            if level.StatusCode is not None and level.StatusCode.is_good() and level.Value is not None:
                found |= {address} if int(level.Value.Value or 0) & HISTORY_READ else set()
    return found


async def read_history(
    session: UaSession, nodes: Mapping[str, ua.NodeId], start: datetime, end: datetime, per_request: int, most: int
) -> History | None:
    """Raw values from ``start`` to ``end``, every continuation followed to its end; None when there are more than ``most``."""
    history = History(values={address: [] for address in nodes})
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False, StartTime=start, EndTime=end, NumValuesPerNode=0, ReturnBounds=False
    )
    for part in _parts(nodes, per_request):
        following: dict[str, bytes | None] = dict.fromkeys(part)
        while following:
            following = await _page(session, part, details, following, history)
            if following and sum(len(values) for values in history.values.values()) > most:
                return None
    return history


async def _page(
    session: UaSession,
    nodes: Mapping[str, ua.NodeId],
    details: ua.ReadRawModifiedDetails,
    following: Mapping[str, bytes | None],
    history: History,
) -> dict[str, bytes | None]:
    """One answer for the addresses in ``following``; gives those that go on, with their continuation."""
    request = ua.HistoryReadParameters(
        HistoryReadDetails=details,
        TimestampsToReturn=ua.TimestampsToReturn.Both,
        ReleaseContinuationPoints=False,
        NodesToRead=[
            ua.HistoryReadValueId(NodeId=nodes[address], IndexRange="", ContinuationPoint=point)
            for address, point in following.items()
        ],
    )
    more: dict[str, bytes | None] = {}
    for address, result in zip(following, await session.history_read(request), strict=True):
        if not result.StatusCode.is_good():
            history.refused[address] = result.StatusCode.name
            continue
        values = getattr(result.HistoryData, "DataValues", None) or []
        history.values[address] += values
        # A server that gives the same continuation again would be asked for ever.
        if result.ContinuationPoint and result.ContinuationPoint != following[address]:
            more[address] = result.ContinuationPoint
    return more


def _parts(nodes: Mapping[str, ua.NodeId], size: int) -> list[dict[str, ua.NodeId]]:
    items = iter(nodes.items())
    return list(iter(lambda: dict(islice(items, size)), {}))
