"""Collects from an OPC UA server: one session and one subscription, kept by the server while we are away for a while."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from spc_platform.collect.clock import record_server_time
from spc_platform.collect.opcua_config import read_options
from spc_platform.collect.opcua_security import CONNECTED, Client, UaError, open_session, translated
from spc_platform.collect.opcua_subscription import NodeSubscription
from spc_platform.collect.sink import Backoff, Sink
from spc_platform.errors import LakeError, TransientError
from spc_platform.lake.files import below, make_folder
from spc_platform.settings import Settings
from spc_platform.site.model import Source

logger = logging.getLogger(__name__)

LOOK_S = 0.1
EXCHANGES = 256
_T = TypeVar("_T")
_AWAY = (UaError, OSError, TimeoutError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class ClockSample:
    """The server's clock between two looks at ours; all times are aware."""

    t_send: datetime
    server_time: datetime
    t_receive: datetime


class OpcUaConnector:
    """Subscribes to the tags of an ``opcua`` source; see ``opcua_config`` for its options.

    What was read last is known by the spool: after a gap the server's history is asked, and where it has none, the gap is
    noted. Raises SiteError for options that are wrong.
    """

    def __init__(self, config: Source, settings: Settings) -> None:
        self.options = read_options(config, settings)
        self._settings = settings
        self.clock: deque[ClockSample] = deque(maxlen=EXCHANGES)
        self._sessions = self.options.pki / "sessions"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscription: NodeSubscription | None = None

    def __repr__(self) -> str:
        return f"OpcUaConnector({self.options.source_id!r}, {self.options.url!r})"

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Collect until ``stop``. A connection that breaks is taken up again for ``patience_s`` before it counts as lost.

        Raises TransientError, PermanentError and SiteError as `Connector` says.
        """
        lost_at: datetime | None = None
        give_up_at = 0.0
        backoff = Backoff(0.2, 5.0)
        while not stop.is_set():
            backoff.begin()
            try:
                asyncio.run(self._collect(sink, stop, lost_at))
            except TransientError as error:
                if self._subscription is not None:
                    lost_at = self._subscription.heard_at
                    give_up_at = time.monotonic() + self.options.patience_s
                self._subscription = self._loop = None
                if lost_at is None or time.monotonic() >= give_up_at:
                    sink.disconnected(str(error), at=lost_at)
                    raise
                logger.warning("%s", error)
                sink.health.detail = str(error)
                backoff.wait(stop)
            finally:
                self._subscription = self._loop = None

    def clock_exchange(self) -> ClockSample:
        """Ask the server for its time now; may be called from any thread. Raises TransientError while not connected."""
        subscription, loop = self._subscription, self._loop
        if subscription is None or loop is None:
            raise TransientError(
                f"source {self.options.source_id!r}: its clock cannot be asked while it is not connected; ask again later",
                code="SPC-154",
            )
        work = self._exchange(subscription)
        try:
            return asyncio.run_coroutine_threadsafe(work, loop).result(self.options.timeout_s)
        except (*_AWAY, RuntimeError, CancelledError) as error:
            work.close()
            raise TransientError(
                f"source {self.options.source_id!r}: its clock gave no answer ({type(error).__name__}); ask again later",
                code="SPC-154",
            ) from None

    async def _exchange(self, subscription: NodeSubscription) -> ClockSample:
        # The wall clock may be set between two looks; the monotonic one measures what passed.
        t_send, began = datetime.now(UTC), time.monotonic()
        server_time = await subscription.server_time()
        passed = time.monotonic() - began
        exchange = ClockSample(t_send, server_time, datetime.fromtimestamp(t_send.timestamp() + passed, UTC))
        self.clock.append(exchange)
        return exchange

    async def _record_clock(self, subscription: NodeSubscription) -> None:
        """Keep an exchange for the published clock offsets; collecting goes on when that file cannot be written."""
        said = await self._exchange(subscription)
        times = (said.t_send, said.server_time, said.t_receive)
        try:
            await asyncio.to_thread(record_server_time, self._settings, self.options.source_id, *times)
        except LakeError as error:
            logger.warning("source %s: its clock is not recorded: %s", self.options.source_id, error)

    async def _collect(self, sink: Sink, stop: threading.Event, lost_at: datetime | None) -> None:
        """One connection, from its session to its end."""
        clients: list[Client] = []
        subscriptions: list[NodeSubscription] = []

        async def connect() -> tuple[Client, bool]:
            client, is_same = await _unless(stop, open_session(self.options, session_file))
            clients.append(client)
            return client, is_same

        make_folder(self._sessions)
        self._sessions.chmod(0o700)
        session_file = below(self._sessions, self.options.source_id).with_suffix(".json")
        try:
            client, is_same_session = await connect()
            subscription = NodeSubscription(client, self.options, sink)
            subscriptions.append(subscription)
            namespaces = await client.get_namespace_array()
            is_same = is_same_session and await _unless(stop, subscription.take_up(namespaces))
            if is_same_session and not is_same:
                # Whatever else the old session subscribed to would come for ever.
                await client.disconnect()
                client, _ = await connect()
                subscription = NodeSubscription(client, self.options, sink)
                subscriptions.append(subscription)
            if not is_same:
                if lost_at is not None:
                    sink.disconnected("the server let go of the session", at=lost_at)
                await _unless(stop, subscription.subscribe(namespaces))
            self._subscription, self._loop = subscription, asyncio.get_running_loop()
            missing = f", {len(subscription.items.missing)} of them missing" if subscription.items.missing else ""
            sink.connected(
                f"{'taken up again' if is_same else 'subscribed'}: {len(subscription.addresses)} nodes{missing}, "
                f"{self.options.security}"
            )
            await self._attend(client, subscription, stop)
        except _Stopped:
            return
        except _AWAY as error:
            raise translated(self.options, error) from None
        finally:
            for each in subscriptions:
                each.close()
            for client in clients:
                # Without a word to the server: it keeps the session and queues values until we are back.
                client.disconnect_socket()

    async def _attend(self, client: Client, subscription: NodeSubscription, stop: threading.Event) -> None:
        await self._record_clock(subscription)
        tasks = [
            asyncio.create_task(subscription.fill_when_needed()),
            asyncio.create_task(_repeated(self.options.clock_s, lambda: self._record_clock(subscription))),
            asyncio.create_task(_repeated(self.options.retry_missing_s, subscription.look_for_missing)),
        ]
        while not stop.is_set():
            await asyncio.sleep(LOOK_S)
            if client.state is not CONNECTED:
                raise TransientError(
                    f"source {self.options.source_id!r}: the connection to {self.options.url} broke; it is taken up again",
                    code="SPC-151",
                )
            if subscription.failure is not None:
                raise subscription.failure
            if subscription.is_silent:
                raise TransientError(
                    f"source {self.options.source_id!r}: {self.options.url} sends no sign of life; it is subscribed again",
                    code="SPC-152",
                )
            for task in tasks:
                if task.done():
                    task.result()


class _Stopped(Exception):  # noqa: N818
    """Told to stop before the connection was there."""


async def _unless(stop: threading.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """What the work gives, unless told to stop before."""
    task = asyncio.create_task(work)
    while not (await asyncio.wait([task], timeout=LOOK_S))[0]:
        if stop.is_set():
            task.cancel()
            raise _Stopped
    return task.result()


async def _repeated(every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(every_s)
        await work()
