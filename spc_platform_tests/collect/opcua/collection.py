"""A collection from an OPC UA server as the service runs it, and a network that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spc_platform.collect.opcua import OpcUaConnector
from spc_platform.collect.readings import Recorder
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import SpcError
from spc_platform_tests.collect.opcua.peer import NAMESPACE
from spc_platform_tests.collect.test_service import until

DIA, TEMP = f"nsu={NAMESPACE};s=dia", f"nsu={NAMESPACE};s=temp"
RUN, DONE = "ns=2;s=run", "ns=2;s=done"
DIAMETER = {"address": DIA, "record": "measurement", "name": "SHAFT-DIA", "unit": "mm"}
TEMPERATURE = {"address": TEMP, "record": "telemetry", "name": "L1-LATHE-TEMP", "unit": "degC"}
EXECUTION = {"address": RUN, "record": "signal", "name": "execution"}
PLAIN = {"security": "None"}
FAST = {"publishing_ms": 20.0, "history_delay_s": 0.1, "timeout_s": 2.0, "patience_s": 5.0}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A TCP proxy that can be cut: connections break and new ones are refused."""

    def __init__(self, port: int) -> None:
        self.to, self.port = port, free_port()
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            _shut(each)
        self._open.clear()

    def swallow(self) -> None:
        """From now on nothing of the open connections arrives, and nobody is told; new connections are well."""
        self._silent |= set(self._open)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while body := source.recv(65536):
                if source not in self._silent:
                    target.sendall(body)
        _shut(source)
        _shut(target)


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@dataclass
class Collection:
    """A connector at work on a spool, as the service runs it, until it is left."""

    connector: OpcUaConnector
    recorder: Recorder
    spool: Spool
    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    sink: Sink | None = None

    def __enter__(self) -> Collection:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def _run(self) -> None:
        with Sink(self.recorder, self.spool) as self.sink:
            try:
                self.connector.run(self.sink, self.stop)
            except BaseException as error:
                self.error = error
            finally:
                self.sink.disconnected("ended")

    @property
    def connections(self) -> int:
        return 0 if self.sink is None else self.sink.health.connections

    def connected(self, times: int = 1) -> Collection:
        until(lambda: self.connections >= times or self.error is not None, 20)
        assert self.error is None, self.error
        return self

    def failed(self) -> SpcError:
        until(lambda: self.error is not None, 20)
        assert isinstance(self.error, SpcError), self.error
        return self.error

    def records(self, resource: str = "measurements") -> list[dict[str, Any]]:
        """What is in the spool, a record that was delivered twice once, by time."""
        bodies = [msgspec.json.decode(body) for body in self.spool.after(resource, 0, 100_000)[0]]
        found = {body["record_id"]: body for body in bodies}
        return sorted(
            found.values(), key=lambda body: body.get("measured_at") or body.get("occurred_at") or body["observed_at"]
        )

    def values(self, resource: str = "measurements") -> list[Any]:
        return [record["value"] for record in self.records(resource)]

    def has(self, *values: Any, resource: str = "measurements") -> None:
        try:
            until(lambda: self.values(resource) == list(values), 15)
        except AssertionError:
            assert self.values(resource) == list(values)
