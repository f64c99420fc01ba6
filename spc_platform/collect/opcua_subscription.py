"""One OPC UA subscription: nothing is acknowledged before it is durable, and what is missing is found and fetched."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import BadMessageNotAvailable, UaStatusCodeError

from spc_platform.collect.opcua_config import Options
from spc_platform.collect.opcua_history import History, read_history, with_history
from spc_platform.collect.opcua_items import Items
from spc_platform.collect.opcua_values import Heard, heard, node_id
from spc_platform.collect.readings import Reading, iso
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Gap
from spc_platform.errors import PermanentError, TransientError

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 5.0
LAST_NUMBER = 2**32 - 1
PENDING, SUBSCRIPTION, SEQUENCE, AT = "pending", "subscription", "sequence", "at\x1f"
OVERFLOW = "the server's queue overflowed"
AWAY = "not subscribed"
NO_HISTORY = "the server has no history of it"
NOT_SO_FAR = "the server's history does not reach back so far"
MOST_VALUES, FEWEST_VALUES = 100_000, 10_000
Span = tuple[datetime, datetime]


class NodeSubscription:
    """The subscription of a session to the addresses of a sink: taken up again where it is durable, or made anew.

    ``failure`` is set once it cannot go on. ``heard_at`` is when the server was last heard.
    """

    def __init__(self, client: Client, options: Options, sink: Sink) -> None:
        self._session = client.uaclient.session
        self._options, self._sink = options, sink
        self.addresses = sink.addresses
        self._state = sink.state()
        self._nodes: dict[str, ua.NodeId] = {}
        self._at = {
            key.removeprefix(AT): datetime.fromisoformat(text) for key, text in self._state.items() if key.startswith(AT)
        }
        self._pending: dict[str, Span] = {
            address: (datetime.fromisoformat(start), datetime.fromisoformat(end))
            for address, (start, end) in json.loads(self._state.get(PENDING, "{}")).items()
            if address in self.addresses
        }
        self._id = 0
        self._sequence = 0
        self._handles = {address: handle for handle, address in enumerate(self.addresses)}
        self.items = Items()
        self._without_source_time: set[str] = set()
        self._released = asyncio.Event()
        self._to_fill = asyncio.Event()
        self._must_say_signals = True
        self._is_taking = False
        self._silence_s = options.timeout_s + 2 * KEEP_ALIVE_S
        self._heard = time.monotonic()
        self.heard_at = datetime.now(UTC)
        self._closed = asyncio.Event()
        self.failure: Exception | None = None

    def close(self) -> None:
        """The connection is gone: nothing can be acknowledged any more."""
        self._closed.set()
        self._released.set()

    @property
    def is_silent(self) -> bool:
        """Whether the server has sent neither values nor a sign of life for too long."""
        return not self._is_taking and time.monotonic() - self._heard > self._silence_s

    async def take_up(self, namespaces: Sequence[str]) -> bool:
        """Go on with the subscription that the server kept with our session: fetch what it sent into the void, then listen.

        False when there is none, or when other addresses or options are asked for now.
        """
        kept = json.loads(self._state.get(SUBSCRIPTION, "{}"))
        if not kept or kept["digest"] != self._digest():
            return False
        self._resolve(namespaces)
        mode = ua.SetPublishingModeParameters(PublishingEnabled=True, SubscriptionIds=[kept["id"]])
        if not (await self._session.set_publishing_mode(mode))[0].is_good():
            return False
        self._id, self._silence_s = kept["id"], kept["silence_s"]
        self.items = Items(kept["queues"], kept["missing"])
        self._sequence = int(self._state.get(SEQUENCE, "0"))
        while (message := await self._republished(_after(self._sequence))) is not None:
            await self._take(message)
        # asyncua offers no way to listen to a subscription that it did not make itself.
        self._session._subscription_callbacks[self._id] = self._published  # noqa: SLF001
        self._session.ensure_publish_loop()
        self._released.set()
        self._to_fill.set()
        return True

    async def subscribe(self, namespaces: Sequence[str]) -> None:
        """Subscribe anew, and fetch what was missed since the last durable reading before listening.

        Raises SiteError for an address that is no node id and PermanentError when no node can be subscribed.
        """
        self._resolve(namespaces)
        options = self._options
        count = max(1, math.ceil(KEEP_ALIVE_S * 1000 / options.publishing_ms))
        made = await self._session.create_subscription(
            ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=options.publishing_ms,
                RequestedLifetimeCount=max(3 * count, math.ceil(options.keep_s * 1000 / options.publishing_ms)),
                RequestedMaxKeepAliveCount=count,
                MaxNotificationsPerPublish=0,
                PublishingEnabled=True,
                Priority=0,
            ),
            self._published,
        )
        self._id = made.SubscriptionId
        self._silence_s = 2 * made.RevisedPublishingInterval * made.RevisedMaxKeepAliveCount / 1000 + options.timeout_s
        await self.items.add(self._session, self._id, options, self._nodes, self._handles)
        if not self.items.queues:
            address, status = next(iter(self.items.missing.items()))
            raise PermanentError(
                f"source {options.source_id!r}: {options.url} lets none of the {len(self.addresses)} nodes of tags.csv be "
                f"subscribed, {address} for one is {status}; correct the addresses, which `spc browse {options.source_id}` "
                "lists, or the user's rights",
                code="SPC-284",
            )
        await self._ask_since(self.items.queues)
        await self._put([], self._described() | {SEQUENCE: "0"})
        await self._fill()
        self._released.set()

    def _resolve(self, namespaces: Sequence[str]) -> None:
        self._nodes = {address: node_id(address, namespaces) for address in self.addresses}

    async def _ask_since(self, addresses: Iterable[str]) -> None:
        """Ask for what came behind the last durable reading of each."""
        now = await self.server_time()
        for address in addresses:
            if address in self._at:
                self._ask_for(address, self._at[address], max(now, self._at[address]))

    async def server_time(self) -> datetime:
        """The server's clock."""
        node = ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus_CurrentTime))
        said = (await self._session.read_attributes([node], AttributeIds.Value))[0]
        at = said.Value.Value if said.Value is not None else None
        return at if isinstance(at, datetime) else datetime.now(UTC)

    async def fill_when_needed(self) -> None:
        """Fetch what overflowing queues lost, for as long as the subscription lives."""
        while True:
            await self._to_fill.wait()
            self._to_fill.clear()
            await self._fill()

    async def look_for_missing(self) -> None:
        """Subscribe to nodes that the server did not have before."""
        missing = {address: self._nodes[address] for address in self.items.missing}
        if missing:
            await self.items.add(self._session, self._id, self._options, missing, self._handles)
            await self._ask_since(set(missing) - set(self.items.missing))
            await self._put([], self._described())
            self._to_fill.set()

    async def _published(self, result: ua.PublishResult) -> None:
        """Take one answer: asyncua acknowledges it when this returns, so it never returns from a failure."""
        if self._closed.is_set():
            return
        try:
            self._is_taking = True
            await self._released.wait()
            if not self._closed.is_set():
                await self._listen(result)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.failure = self.failure or error
            await self._closed.wait()
        finally:
            self._is_taking = False
            self._heard, self.heard_at = time.monotonic(), datetime.now(UTC)

    async def _listen(self, result: ua.PublishResult) -> None:
        message = result.NotificationMessage
        if message.NotificationData:
            expected = _after(self._sequence)
            if message.SequenceNumber != expected and not self._has_ended(message):
                await self._fetch_messages(expected, message.SequenceNumber)
            await self._take(message)
        if self._must_say_signals and not result.MoreNotifications:
            await self._say_signals()

    @staticmethod
    def _has_ended(message: ua.NotificationMessage) -> bool:
        return any(isinstance(each, ua.StatusChangeNotification) for each in message.NotificationData)

    async def _fetch_messages(self, first: int, behind: int) -> None:
        """Messages that never came: ask for each again, and for the history where the server has let go of one."""
        while first != behind:
            message = await self._republished(first)
            if message is None:
                await self._ask_since(self.items.queues)
                self._to_fill.set()
                return
            await self._take(message)
            first = _after(first)

    async def _republished(self, number: int) -> ua.NotificationMessage | None:
        try:
            message = await self._session.republish(self._id, number)
        except (BadMessageNotAvailable, UaStatusCodeError):
            return None
        # Some servers answer with an empty message instead of a fault.
        return message if message.NotificationData and message.SequenceNumber == number else None

    async def _take(self, message: ua.NotificationMessage) -> None:
        received_at = datetime.now(UTC)
        taken: list[Heard] = []
        for notification in message.NotificationData:
            if isinstance(notification, ua.DataChangeNotification):
                taken += [
                    heard(
                        self.addresses[item.ClientHandle],
                        item.Value,
                        received_at,
                        accept_uncertain=self._options.accept_uncertain,
                    )
                    for item in notification.MonitoredItems
                ]
            elif isinstance(notification, ua.StatusChangeNotification):
                raise TransientError(
                    f"source {self._options.source_id!r}: the server ended the subscription ({notification.Status.name})",
                    code="SPC-152",
                )
        self._find_overflows(taken)
        self._sequence = message.SequenceNumber
        await self._put([each.reading for each in taken], {SEQUENCE: str(self._sequence)})
        self._note_missing_times(taken)

    def _find_overflows(self, taken: Sequence[Heard]) -> None:
        """A value that says so follows upon lost ones, and a queue that was full may have lost some without saying so."""
        counts = Counter(each.reading.address for each in taken)
        full = {address for address, count in counts.items() if 1 < self.items.queues.get(address, 0) <= count}
        for address in full | {each.reading.address for each in taken if each.has_overflown}:
            times = [each.reading.observed_at for each in taken if each.reading.address == address]
            self._ask_for(address, self._at.get(address, min(times)), max(times))
            logger.warning("source %s: %s of %s", self._options.source_id, OVERFLOW, address)
            self._to_fill.set()

    def _note_missing_times(self, taken: Iterable[Heard]) -> None:
        new = {each.reading.address for each in taken if not each.has_source_time} - self._without_source_time
        if new:
            self._without_source_time |= new
            logger.warning("source %s: no source time, the server's is used: %s", self._options.source_id, sorted(new))

    async def _say_signals(self) -> None:
        """Signals became unavailable with the connection; those that did not change meanwhile are said anew, as of now."""
        self._must_say_signals = False
        wanted = {tag.address for tag in self._sink.recorder.tags if tag.record == "signal"}
        asked = [address for address in self.addresses if address in wanted and address in self._at]
        if not asked:
            return
        said = await self._session.read_attributes([self._nodes[address] for address in asked], AttributeIds.Value)
        now = max(await self.server_time(), self.heard_at)
        same = []
        for address, data in zip(asked, said, strict=True):
            reading = heard(address, data, now, accept_uncertain=self._options.accept_uncertain).reading
            # A newer value is on its way with the time of its own.
            if reading.observed_at <= self._at[address]:
                same.append(Reading(address, reading.value, max(now, reading.observed_at), reading.quality))
        await self._put(same, {}, moves_on=False)

    def _ask_for(self, address: str, start: datetime, end: datetime) -> None:
        before = self._pending.get(address, (start, end))
        self._pending[address] = (min(start, before[0]), max(end, before[1]))

    async def _fill(self) -> None:
        """Fetch the spans that are pending from the server's history, oldest first; a gap is noted for what it lacks."""
        if not self._pending:
            return
        await asyncio.sleep(self._options.history_delay_s if self._options.history else 0)
        wanted = dict(self._pending)
        nodes = {address: self._nodes[address] for address in wanted}
        per_request = self._options.nodes_per_request
        known = await with_history(self._session, nodes, per_request) if self._options.history else set()
        self._forget(set(wanted) - known, wanted)
        await self._put([], {}, [Gap(address, *wanted[address], NO_HISTORY) for address in sorted(set(wanted) - known)])
        span = self._options.history_span_s
        unseen = set(known)
        reached = min((wanted[address][0] for address in known), default=None)
        while reached is not None and known:
            until = datetime.fromtimestamp(reached.timestamp() + span, UTC)
            asked = {address: nodes[address] for address in known if wanted[address][0] <= until}
            # Less than a second is not divided further, however much there is.
            most = MOST_VALUES if span > 1.0 else sys.maxsize
            history = await read_history(self._session, asked, reached, until, per_request, most)
            if history is None:
                span /= 8
                continue
            n_values = await self._keep(history, wanted, unseen, until)
            known -= {address for address in known if wanted[address][1] <= until} | set(history.refused)
            reached = until
            if n_values < FEWEST_VALUES:
                span *= 2
            elif n_values > MOST_VALUES // 2:
                span /= 2

    async def _keep(self, history: History, wanted: dict[str, Span], unseen: set[str], until: datetime) -> int:
        """Make one span of the history durable, with the gaps that it shows and how far it reaches."""
        received_at = datetime.now(UTC)
        readings: list[Reading] = []
        gaps = [
            Gap(address, *wanted[address], f"the server refuses its history: {status}")
            for address, status in history.refused.items()
        ]
        for address, values in history.values.items():
            start, end = wanted[address]
            found = [
                heard(address, value, received_at, accept_uncertain=self._options.accept_uncertain).reading for value in values
            ]
            found = [each for each in found if start <= each.observed_at <= end]
            readings += found
            is_first = address in unseen and address not in history.refused
            unseen.discard(address)
            # The last reading before the gap must be there, else nobody knows what was between.
            if is_first and not any(each.observed_at <= start for each in found):
                gaps.append(Gap(address, start, min((each.observed_at for each in found), default=end), NOT_SO_FAR))
        done = {address for address, (_, end) in wanted.items() if address in history.values and end <= until}
        self._forget(done | set(history.refused), wanted)
        for address in set(history.values) & set(self._pending) - done:
            self._pending[address] = (max(self._pending[address][0], until), self._pending[address][1])
        if readings or gaps or done:
            await self._put(readings, {}, gaps)
        return len(readings)

    def _forget(self, addresses: Iterable[str], wanted: Mapping[str, Span]) -> None:
        """Strike what was asked for; what came to it in the meantime stays."""
        for address in addresses:
            if self._pending.get(address, wanted[address])[1] <= wanted[address][1]:
                self._pending.pop(address, None)

    async def _put(
        self, readings: Sequence[Reading], state: Mapping[str, str], gaps: Sequence[Gap] = (), *, moves_on: bool = True
    ) -> None:
        """Hand over to the sink and wait until it is durable."""
        moved = {}
        for reading in readings if moves_on else ():
            before = self._at.get(reading.address)
            if before is None or reading.observed_at > before:
                self._at[reading.address] = reading.observed_at
                moved[AT + reading.address] = iso(reading.observed_at)
        pending = {address: (iso(start), iso(end)) for address, (start, end) in self._pending.items()}
        text = json.dumps(pending, sort_keys=True)
        kept = {**state, **moved} | ({} if self._state.get(PENDING) == text else {PENDING: text})
        self._state[PENDING] = text
        durable = asyncio.Event()
        loop = asyncio.get_running_loop()

        def done() -> None:
            # The loop is gone when we were told to stop before the disk was done.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(durable.set)

        self._sink.put(readings, state=kept, gaps=gaps, done=done)
        await durable.wait()

    def _described(self) -> dict[str, str]:
        said = {
            "id": self._id,
            "digest": self._digest(),
            "queues": self.items.queues,
            "missing": self.items.missing,
            "silence_s": self._silence_s,
        }
        return {SUBSCRIPTION: json.dumps(said, sort_keys=True)}

    def _digest(self) -> str:
        options = self._options
        asked = (options.url, options.publishing_ms, options.sampling_ms, options.queue_size, options.discard_oldest)
        said = (asked, self.addresses, sorted(options.queue_sizes.items()), sorted(options.deadbands.items()))
        return hashlib.blake2b(repr(said).encode(), digest_size=12).hexdigest()


def _after(number: int) -> int:
    """The sequence number behind a number: 0 is never given.

    >>> _after(7), _after(2**32 - 1)
    (8, 1)
    """
    return 1 if number >= LAST_NUMBER else number + 1
