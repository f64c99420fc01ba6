"""The variables of an OPC UA server, and a draft of the tags that would record them."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from spc_platform.collect.opcua_config import Options, read_options
from spc_platform.collect.opcua_security import UaError, open_session, translated
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.model import Source

from asyncua import ua  # isort: skip - the module above says what to install when it is missing
from asyncua.client.ua_session import UaSession  # isort: skip
from asyncua.ua.attribute_ids import AttributeIds  # isort: skip
from asyncua.ua.object_ids import ObjectIds  # isort: skip

from spc_platform.collect.opcua_history import HISTORY_READ
from spc_platform.collect.opcua_values import address_of, node_id

MOST_NODES = 100_000
NUMERIC = frozenset(
    [
        "SByte",
        "Byte",
        "Int16",
        "UInt16",
        "Int32",
        "UInt32",
        "Int64",
        "UInt64",
        "Float",
        "Double",
        "Number",
        "Integer",
        "UInteger",
    ]
)
_READ, _WRITE = 1 << 0, 1 << 1
_UNIT, _RANGE = "EngineeringUnits", "EURange"


@dataclass(slots=True)
class BrowsedNode:
    """A variable of the server: where it stands, what it holds, and whether it may be read, written and looked back upon."""

    address: str
    path: str
    data_type: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    access: str = ""
    has_history: bool = False
    is_single: bool = True

    @property
    def record(self) -> str:
        """What a draft makes of it: numbers are streams, everything else is a signal."""
        return "telemetry" if self.data_type in NUMERIC else "signal"


def browse(config: Source, settings: Settings, *, under: str = "", most: int = MOST_NODES) -> list[BrowsedNode]:
    """Every variable below ``under`` (an address; the Objects folder without the server's own nodes unless given), by path.

    Raises SiteError for a source that is not of kind opcua, else as the connector does.
    """
    if config.kind != "opcua":
        raise SiteError(
            f"source {config.source_id!r} is of kind {config.kind!r}; only sources of kind opcua can be browsed", code="SPC-464"
        )
    options = read_options(config, settings)
    return asyncio.run(_browse(options, under, most))


async def _browse(options: Options, under: str, most: int) -> list[BrowsedNode]:
    client, _ = await open_session(options)
    try:
        namespaces = await client.get_namespace_array()
        session = client.uaclient.session
        root = node_id(under, namespaces) if under else ua.NodeId(ua.Int32(ObjectIds.ObjectsFolder))
        walk = _Walk(session, namespaces, options.nodes_per_request, most)
        await walk.from_root(root)
        await walk.describe()
        return sorted(walk.found.values(), key=lambda node: node.path)
    except (UaError, OSError, TimeoutError) as error:
        raise translated(options, error) from None
    finally:
        await client.disconnect()


@dataclass
class _Walk:
    session: UaSession
    namespaces: Sequence[str]
    per_request: int
    most: int
    found: dict[ua.NodeId, BrowsedNode] = field(default_factory=dict)
    properties: dict[ua.NodeId, tuple[ua.NodeId, str]] = field(default_factory=dict)

    async def from_root(self, root: ua.NodeId) -> None:
        """Follow hierarchical references, level by level; a node that is reached twice is visited once."""
        seen = {root, ua.NodeId(ua.Int32(ObjectIds.Server))}
        level: dict[ua.NodeId, str] = {root: ""}
        own = (await self.session.read_attributes([root], AttributeIds.NodeClass))[0]
        if own.Value is not None and own.Value.Value == ua.NodeClass.Variable:
            self.found[root] = BrowsedNode(address_of(root, self.namespaces), root.to_string())
        while level and len(self.found) < self.most:
            below: dict[ua.NodeId, str] = {}
            for parent, children in (await self._children(list(level))).items():
                for child in children:
                    name = child.BrowseName.Name or ""
                    node = ua.NodeId(child.NodeId.Identifier, child.NodeId.NamespaceIndex, child.NodeId.NodeIdType)
                    if child.ReferenceTypeId.Identifier == ObjectIds.HasProperty:
                        if name in (_UNIT, _RANGE):
                            self.properties[node] = (parent, name)
                        continue
                    if node in seen:
                        continue
                    seen.add(node)
                    path = f"{level[parent]}/{name}" if level[parent] else name
                    below[node] = path
                    if child.NodeClass == ua.NodeClass.Variable:
                        self.found[node] = BrowsedNode(address_of(node, self.namespaces), path)
            level = below

    async def _children(self, parents: Sequence[ua.NodeId]) -> dict[ua.NodeId, list[ua.ReferenceDescription]]:
        children: dict[ua.NodeId, list[ua.ReferenceDescription]] = {parent: [] for parent in parents}
        for part in self._parts(parents):
            asked = ua.BrowseParameters(
                NodesToBrowse=[
                    ua.BrowseDescription(
                        NodeId=parent,
                        BrowseDirection=ua.BrowseDirection.Forward,
                        ReferenceTypeId=ua.NodeId(ua.Int32(ObjectIds.HierarchicalReferences)),
                        IncludeSubtypes=True,
                        NodeClassMask=ua.UInt32(int(ua.NodeClass.Object) | int(ua.NodeClass.Variable)),
                        ResultMask=ua.UInt32(int(ua.BrowseResultMask.All)),
                    )
                    for parent in part
                ]
            )
            results = dict(zip(part, await self.session.browse(asked), strict=True))
            while results:
                points = {}
                for parent, result in results.items():
                    children[parent] += result.References or []
                    if result.ContinuationPoint:
                        points[parent] = result.ContinuationPoint
                if not points:
                    break
                more = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=list(points.values()))
                results = dict(zip(points, await self.session.browse_next(more), strict=True))
        return children

    async def describe(self) -> None:
        """Read what the variables hold, and their units and ranges."""
        nodes = list(self.found)
        for node, said in (await self._read(nodes, AttributeIds.UserAccessLevel)).items():
            level = int(said or 0)
            letters = (("r", _READ), ("w", _WRITE), ("h", HISTORY_READ))
            self.found[node].access = "".join(letter for letter, bit in letters if level & bit)
            self.found[node].has_history = level & HISTORY_READ != 0
        for node, said in (await self._read(nodes, AttributeIds.ValueRank)).items():
            self.found[node].is_single = said is None or int(said) < 0
        types = {node: said for node, said in (await self._read(nodes, AttributeIds.DataType)).items() if said is not None}
        names = await self._read(list(set(types.values())), AttributeIds.BrowseName)
        for node, data_type in types.items():
            name = names.get(data_type)
            self.found[node].data_type = str(name.Name) if name is not None else data_type.to_string()
        for holder, said in (await self._read(list(self.properties), AttributeIds.Value)).items():
            node, name = self.properties[holder]
            if node in self.found:
                _describe_unit(self.found[node], name, said)

    async def _read(self, nodes: Sequence[ua.NodeId], attribute: AttributeIds) -> dict[ua.NodeId, Any]:
        found: dict[ua.NodeId, Any] = {}
        for part in self._parts(nodes):
            for node, data in zip(part, await self.session.read_attributes(part, attribute), strict=True):
                is_good = data.StatusCode is None or data.StatusCode.is_good()
                found[node] = data.Value.Value if is_good and data.Value is not None else None
        return found

    def _parts(self, nodes: Sequence[ua.NodeId]) -> list[list[ua.NodeId]]:
        return [list(nodes[first : first + self.per_request]) for first in range(0, len(nodes), self.per_request)]


def _describe_unit(node: BrowsedNode, name: str, said: Any) -> None:
    if name == _UNIT and isinstance(said, ua.EUInformation):
        node.unit = said.DisplayName.Text or ""
    elif name == _RANGE and isinstance(said, ua.Range):
        node.low, node.high = float(said.Low), float(said.High)


def draft_tags(source_id: str, nodes: Sequence[BrowsedNode], equipment_id: str) -> str:
    """A ``tags.csv`` of the nodes that can be read and hold one value, to be edited: the names are made of the paths."""
    columns = SITE_TABLES["tags"].names
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for node in nodes:
        if "r" in node.access and node.is_single:
            writer.writerow(_row(source_id, node, equipment_id))
    return text.getvalue()


def _row(source_id: str, node: BrowsedNode, equipment_id: str) -> Mapping[str, str]:
    unit = (node.unit or "1") if node.record == "telemetry" else ""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", node.path).strip("-")
    return {
        "source_id": source_id,
        "address": node.address,
        "record": node.record,
        "name": name,
        "equipment_id": equipment_id,
        "unit": unit,
    }
