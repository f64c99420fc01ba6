"""Monitored items: what a subscription asks of each node, and what the server made of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds

from spc_platform.collect.opcua_config import Options

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Items:
    """Addresses with the size of their queue in the server, and those that it refused with its word for why."""

    queues: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    async def add(
        self,
        session: UaSession,
        subscription_id: int,
        options: Options,
        nodes: Mapping[str, ua.NodeId],
        handles: Mapping[str, int],
    ) -> None:
        """Create an item for each of ``nodes``; a filter that the server does not know is left away and that is told."""
        wanted, size = list(nodes), options.nodes_per_request
        for first in range(0, len(wanted), size):
            part = wanted[first : first + size]
            for has_deadband, has_filter in ((True, True), (False, True), (False, False)):
                if part:
                    requests = [
                        _item(options, address, nodes[address], handles[address], has_deadband, has_filter) for address in part
                    ]
                    part = await self._create(session, subscription_id, options, dict(zip(part, requests, strict=True)))
                    if part:
                        logger.warning(
                            "source %s: the server refuses the %s of %s",
                            options.source_id,
                            "deadband" if has_deadband and has_filter else "trigger by time stamp (equal values are lost)",
                            part,
                        )
        newly = {address: status for address, status in self.missing.items() if address in nodes}
        if newly:
            logger.warning("source %s: %d nodes are not subscribed: %s", options.source_id, len(newly), newly)

    async def _create(
        self,
        session: UaSession,
        subscription_id: int,
        options: Options,
        requests: Mapping[str, ua.MonitoredItemCreateRequest],
    ) -> list[str]:
        """Gives the addresses whose filter was refused."""
        asked = ua.CreateMonitoredItemsParameters(
            SubscriptionId=subscription_id,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToCreate=list(requests.values()),
        )
        refused = []
        for address, result in zip(requests, await session.create_monitored_items(asked), strict=True):
            status = result.StatusCode.name
            if result.StatusCode.is_good():
                self.missing.pop(address, None)
                self.queues[address] = int(result.RevisedQueueSize)
                if result.RevisedQueueSize == 1:
                    logger.warning("source %s: the server queues one value of %s only", options.source_id, address)
            elif "Filter" in status or "Deadband" in status:
                refused.append(address)
                self.missing[address] = status
            else:
                self.missing[address] = status
        return refused


def _item(
    options: Options,
    address: str,
    node: ua.NodeId,
    handle: int,
    has_deadband: bool,
    has_filter: bool,
) -> ua.MonitoredItemCreateRequest:
    deadband = options.deadbands.get(address, 0.0) if has_deadband else 0.0
    parameters = ua.MonitoringParameters(
        ClientHandle=handle,
        SamplingInterval=options.sampling_ms,
        QueueSize=options.queue_sizes.get(address, options.queue_size),
        DiscardOldest=options.discard_oldest,
    )
    if has_filter:
        # By default a server sends equal values in a row once: two parts that measure the same would be one.
        parameters.Filter = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValueTimestamp,
            DeadbandType=int(ua.DeadbandType.Absolute if deadband else ua.DeadbandType.None_),
            DeadbandValue=deadband,
        )
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=parameters,
    )
