"""A real OPC UA server in a process of its own, told by lines of JSON what to write: `python -m …opcua_peer '{…}'`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.user_managers import CertificateUserManager

NAMESPACE = "http://plant.example/line1"
T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
NODES = {"dia": 0.0, "temp": 20.0, "run": "STOPPED", "done": False, "list": [1.0, 2.0]}


class Users:
    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("collector", "s3cret-canary") else None


def full_queue_says_so(self: InternalSubscription) -> Any:
    """A queue as the specification has it with discardOldest false: the newest gives way, and its successor says so."""

    async def enqueue(mid: int, event: Any, size: int, queue: dict[int, list[Any]]) -> None:
        waiting = queue.setdefault(mid, [])
        if size and len(waiting) >= size:
            waiting.pop()
            status = ua.StatusCode(ua.UInt32(int(event.Value.StatusCode.value) | 0x0480))
            event.Value = dataclasses.replace(event.Value, StatusCode=status)
        waiting.append(event)

    return enqueue


async def serve(options: dict[str, Any]) -> None:
    if options.get("tells_overflow"):

        async def enqueue(self: InternalSubscription, mid: int, event: Any, size: int, queue: dict[int, list[Any]]) -> None:
            await full_queue_says_so(self)(mid, event, size, queue)

        InternalSubscription._enqueue_event = enqueue  # type: ignore[method-assign]
    manager: Any = Users() if options.get("users") else None
    if "user_certificate" in options:
        manager = CertificateUserManager()
        await manager.add_user(Path(options["user_certificate"]), "collector")
    server = Server(user_manager=manager)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options['port']}/line1")
    await server.set_application_uri("urn:plant:line1")
    policies = [ua.SecurityPolicyType.NoSecurity]
    if "certificate" in options:
        policies = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        await server.load_certificate(options["certificate"])
        await server.load_private_key(options["private_key"])
        if "trusted" in options:
            store = TrustStore([Path(options["trusted"])], [])
            await store.load()
            checks = CertificateValidatorOptions.TRUSTED_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
            server.set_certificate_validator(CertificateValidator(checks, store))
    server.set_security_policy(policies)
    if options.get("users"):
        server.set_identity_tokens([ua.UserNameIdentityToken])
    index = await server.register_namespace(NAMESPACE)
    line = await server.nodes.objects.add_object(ua.NodeId("line1", index), ua.QualifiedName("line1", index))
    nodes = {}
    for name, value in NODES.items():
        if name not in options.get("without", ()):
            nodes[name] = await line.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), value)
            first = ua.DataValue(ua.Variant(value), SourceTimestamp=T0 - timedelta(hours=1))
            await server.write_attribute_value(nodes[name].nodeid, first)
    unit = ua.EUInformation(DisplayName=ua.LocalizedText("mm"), Description=ua.LocalizedText("millimetre"))
    await nodes["dia"].add_property(ua.NodeId("dia.eu", index), ua.QualifiedName("EngineeringUnits", 0), unit)
    await nodes["dia"].add_property(ua.NodeId("dia.range", index), ua.QualifiedName("EURange", 0), ua.Range(24.0, 26.0))
    async with server:
        if options.get("history"):
            await server.historize_node_data_change([nodes[name] for name in options["history"]], period=None)
        await answer(server, nodes, index)


async def answer(server: Server, nodes: dict[str, Any], index: int) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say("ready")
    while line := await reader.readline():
        told = json.loads(line)
        if "add" in told:
            line1 = server.get_node(ua.NodeId("line1", index))
            name = told["add"]
            nodes[name] = await line1.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), NODES[name])
        for name, value, second, status in told.get("write", ()):
            await write(server, nodes[name], value, second, status)
        if "blast" in told:
            name, first, count, pause_s = told["blast"]
            for number in range(first, first + count):
                await write(server, nodes[name], float(number), number * 0.001, 0)
                await asyncio.sleep(pause_s)
        say("done")


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def write(server: Server, node: Any, value: Any, second: float | None, status: int) -> None:
    at = None if second is None else T0 + timedelta(seconds=second)
    data = ua.DataValue(ua.Variant(value), ua.StatusCode(ua.UInt32(status)), SourceTimestamp=at, ServerTimestamp=T0)
    await server.write_attribute_value(node.nodeid, data)


class Peer:
    """The server's process, as tests see it."""

    def __init__(self, port: int, **options: Any) -> None:
        self.port, self.options = port, options
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/line1"

    def start(self) -> Peer:
        said = json.dumps({"port": self.port, **self.options})
        command = [sys.executable, "-m", __name__, said]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._wait("ready")
        return self

    def tell(self, **told: Any) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        self._wait("done")

    def write(self, name: str, *values: Any, at: float = 0.0, status: int = 0, step: float = 1.0) -> None:
        """Values one after the other, their source times ``step`` seconds apart."""
        self.tell(write=[(name, value, at + number * step, status) for number, value in enumerate(values)])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
        self.process = None

    def _wait(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said == word, f"the server said {said!r}, not {word!r}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(serve(json.loads(sys.argv[1])))
