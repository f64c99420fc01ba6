"""One connection to a broker: what its callbacks hear, what is put into the sink, what is acknowledged and when."""

from __future__ import annotations

import contextlib
import logging
import queue
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from spc_platform.collect.mqtt_config import Options
from spc_platform.collect.mqtt_inbox import ALIVE, CONNECTION, FILTERS, Arrival, Inbox
from spc_platform.collect.sink import Sink
from spc_platform.collect.sparkplug import NAMESPACE, Key, rebirth_request
from spc_platform.collect.spool import Gap
from spc_platform.errors import LakeError, PermanentError, SpcError, TransientError

logger = logging.getLogger(__name__)

AT_ONCE = 500
"""Messages that are put into the sink together."""
IDLE_S = 0.2
FLUSH_S = 5.0
TAKEN_OVER = 0x8E
PASSING = frozenset({0x80, 0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F})
"""Refusals of a CONNECT that may pass: unspecified, unavailable, busy, quota, other server, rate."""


class Session:
    """A connection from CONNECT to its end. Used once."""

    def __init__(self, options: Options, sink: Sink, stop: threading.Event) -> None:
        self._options, self._sink, self._stop = options, sink, stop
        self._before = sink.state()
        self._inbox = Inbox(options, sink.recorder.tags, sink.addresses, self._before)
        # Of QoS 1 the broker sends no more than it may, so that only messages of QoS 0 ever find no room.
        self._arrivals: queue.Queue[Arrival] = queue.Queue(options.waiting + options.receive_maximum)
        self._ended: SpcError | None = None
        self._over = threading.Event()
        self._subscribed = threading.Event()
        self._dropping = threading.Lock()
        self._dropped = 0
        self._dropped_from: datetime | None = None
        self._client = self._make()

    def _make(self) -> Client:
        options = self._options
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if options.is_v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if options.is_v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = options.connect_s
        if options.user is not None:
            password = options.password
            client.username_pw_set(options.user.get_secret_value(), None if password is None else password.get_secret_value())
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def run(self) -> None:
        """Connect, subscribe, hand over messages until ``stop`` or the connection ends."""
        self._connect()
        self._client.loop_start()
        patience, has_begun = time.monotonic() + self._options.connect_s, False
        try:
            while not self._stop.is_set():
                if not self._subscribed.is_set() and time.monotonic() > patience:
                    self._end(TransientError(f"{self._options.broker} does not answer", code="SPC-155"))
                if self._subscribed.is_set() and not has_begun:
                    has_begun = True
                    self._ask_rebirths(self._inbox.host.begin(datetime.now(UTC)))
                arrivals = self._waiting()
                drops = self._drops()
                if arrivals or drops:
                    self._put(arrivals, drops)
                elif self._over.is_set():
                    # Everything that came has been put: messages of QoS 0 are not sent again.
                    break
        finally:
            self._close()
        if self._ended is not None and not self._stop.is_set():
            raise self._ended

    def _connect(self) -> None:
        options, properties = self._options, None
        if options.is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = min(options.session_expiry_s, 0xFFFFFFFF)
            properties.ReceiveMaximum = options.receive_maximum
        try:
            self._client.connect(
                options.host,
                options.port,
                keepalive=options.keepalive_s,
                clean_start=False if options.is_v5 else MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(
                f"{options.broker}: its certificate is not trusted ({error.verify_message}); name the plant's CA in"
                " auth.ca_file and the host as the certificate does",
                code="SPC-285",
            ) from None
        except ssl.SSLError as error:
            raise _tls_error(options.broker, error) from None
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TransientError(f"{options.broker} cannot be reached: {what}", code="SPC-155") from None

    def _waiting(self) -> list[Arrival]:
        """What waits, up to a batch; empty after a while without anything."""
        arrivals: list[Arrival] = []
        with contextlib.suppress(queue.Empty):
            arrivals.append(self._arrivals.get(timeout=IDLE_S))
            while len(arrivals) < AT_ONCE:
                arrivals.append(self._arrivals.get_nowait())
        return arrivals

    def _put(self, arrivals: Sequence[Arrival], drops: Sequence[Gap]) -> None:
        parcel = self._inbox.take(arrivals)
        if parcel.malformed:
            logger.warning("%s: %d malformed payloads were quarantined", self._options.source_id, parcel.malformed)
        mids = [arrival.mid for arrival in arrivals if arrival.qos > 0]
        self._sink.put(
            parcel.readings,
            state=parcel.state,
            gaps=[*parcel.gaps, *drops],
            done=lambda: self._acknowledge(mids),
            received_at=arrivals[-1].received_at if arrivals else None,
        )
        self._ask_rebirths(parcel.rebirths)

    def _acknowledge(self, mids: Sequence[int]) -> None:
        """Called by the writer once the records of the messages are durable."""
        if self._over.is_set():
            return
        for mid in mids:
            self._client.ack(mid, 1)

    def _drops(self) -> list[Gap]:
        """What was dropped, once there is room again."""
        if not self._dropped or self._arrivals.qsize() >= self._options.waiting:
            return []
        with self._dropping:
            count, since, self._dropped = self._dropped, self._dropped_from, 0
        why = f"{count} messages of QoS 0 found no room; publish with QoS 1, or make room for the spool"
        return [Gap(self._options.broker, since, datetime.now(UTC), why)]

    def _ask_rebirths(self, nodes: Sequence[Key]) -> None:
        if not self._options.rebirth:
            return
        for group, edge in nodes:
            self._client.publish(f"{NAMESPACE}/{group}/NCMD/{edge}", rebirth_request(datetime.now(UTC)), qos=0)

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end(_refusal(self._options.broker, reason))
            return
        self._note_session(is_present=flags.session_present)
        if self._options.is_v5:
            wanted = [(each, SubscribeOptions(qos=1)) for each in self._inbox.filters]
            client.subscribe(wanted)
        else:
            client.subscribe([(each, 1) for each in self._inbox.filters])
        left = sorted(set(msgspec.json.decode(self._before.get(FILTERS, "[]"))) - set(self._inbox.filters))
        if left and flags.session_present:
            client.unsubscribe(left)

    def _note_session(self, *, is_present: bool) -> None:
        """Make durable that a connection began, and note what cannot have been kept for us since the last one."""
        now = datetime.now(UTC)
        alive = self._before.get(ALIVE)
        gaps = []
        if alive is not None:
            since = datetime.fromisoformat(alive)
            if not is_present:
                why = "the broker had no session of ours any more; what was published in the meantime is missing"
                gaps.append(Gap(self._options.broker, since, now, why))
            elif self._inbox.host.filters:
                why = "not connected; Sparkplug data of that time are not sent again, the rebirth tells what holds now"
                gaps.append(Gap(self._options.broker, since, now, why))
        state = {CONNECTION: str(self._inbox.connection), ALIVE: alive or now.isoformat()}
        self._sink.put((), state=state, gaps=gaps)

    def _on_subscribe(self, client: Client, _: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None) -> None:
        filters = self._inbox.filters
        refused = [topic for topic, reason in zip(filters, reasons, strict=False) if reason.is_failure]
        if refused:
            self._end(
                PermanentError(
                    f"{self._options.broker} refuses to subscribe us to {', '.join(refused)}; allow reading them to the client"
                    f" {self._options.client_id!r} at the broker",
                    code="SPC-287",
                )
            )
            return
        self._subscribed.set()
        lesser = [topic for topic, reason in zip(filters, reasons, strict=False) if reason.value == 0]
        detail = f"connected to {self._options.broker}"
        if lesser:
            detail += f"; the broker grants QoS 0 only for {', '.join(lesser)}: messages can be lost"
            logger.warning("%s: %s", self._options.source_id, detail)
        self._sink.put((), state={FILTERS: msgspec.json.encode(filters).decode()})
        self._sink.connected(detail)

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        arrival = Arrival(
            message.topic,
            bytes(message.payload),
            datetime.now(UTC),
            message.qos,
            message.mid,
            is_retained=message.retain,
            is_redelivered=message.dup,
        )
        if message.qos == 0 and self._arrivals.qsize() >= self._options.waiting:
            with self._dropping:
                self._dropped_from = self._dropped_from if self._dropped else arrival.received_at
                self._dropped += 1
            return
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._arrivals.put(arrival, timeout=IDLE_S)
                return

    def _on_disconnect(
        self, client: Client, _: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.value == TAKEN_OVER and flags.is_disconnect_packet_from_server:
            self._end(
                PermanentError(
                    f"{self._options.broker}: another client connected as {self._options.client_id!r}; run one collector, or"
                    " give each its own options.client_id",
                    code="SPC-288",
                )
            )
        elif self._subscribed.is_set():
            self._end(TransientError(f"{self._options.broker}: the connection ended ({reason})", code="SPC-155"))
        else:
            self._end(
                TransientError(
                    f"{self._options.broker} closed the connection before it answered ({reason}); does it demand a certificate,"
                    " or another port?",
                    code="SPC-155",
                )
            )

    def _end(self, error: SpcError) -> None:
        if self._ended is None:
            self._ended = error
        self._over.set()

    def _close(self) -> None:
        """Acknowledge what becomes durable soon, then leave; the broker keeps the session and the rest."""
        if not self._over.is_set():
            with contextlib.suppress(LakeError):
                self._sink.flush(FLUSH_S)
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()
        self._over.set()


def _tls_error(broker: str, error: ssl.SSLError) -> SpcError:
    reason = error.reason or type(error).__name__
    if "ALERT" in reason:
        return PermanentError(
            f"{broker} refuses TLS with us ({reason}); give a client certificate that it trusts in auth.certificate",
            code="SPC-285",
        )
    return TransientError(f"{broker}: TLS failed ({reason}); is this the port of mqtts?", code="SPC-155")


def _refusal(broker: str, reason: ReasonCode) -> SpcError:
    if reason.value in PASSING:
        return TransientError(f"{broker} refuses the connection for now: {reason}", code="SPC-156")
    return PermanentError(
        f"{broker} refuses the connection: {reason}; check user, password and options.client_id at the broker", code="SPC-286"
    )
