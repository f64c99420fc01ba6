"""A real MQTT broker for tests: mosquitto in a folder of its own, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from spc_platform_tests.conftest import lacking

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


def _program() -> str:
    folders = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS))
    return shutil.which("mosquitto", path=folders) or lacking(
        "mosquitto is not installed; install it with the system's package manager to run this test"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """``with Broker(folder) as broker``. Sessions and queued messages survive ``stop`` and ``start``."""

    def __init__(self, folder: Path, *settings: str, max_inflight: int = 1000) -> None:
        self.folder, self.port = folder, _free_port()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            f"max_inflight_messages {max_inflight}",
            "max_queued_messages 0",
            *(settings or ("allow_anonymous true",)),
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._program = _program()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-v", "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=subprocess.STDOUT
            )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "mosquitto.log").read_text())

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it: SIGTERM writes what it keeps, SIGKILL does not."""
        if self._process is not None:
            self._process.send_signal(signal_number)
            self._process.wait(10)
            self._process = None

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()


class Publisher:
    """A device: publishes, and hears what is said to it."""

    def __init__(self, broker: Broker, *, listens: Iterable[str] = (), will: tuple[str, bytes] | None = None) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._said = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_inflight_messages_set(500)
        self._client.on_message = self._on_message
        if will is not None:
            self._client.will_set(*will, qos=1)
        ready = threading.Event()
        self._client.on_connect = lambda *_: ready.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert ready.wait(5)
        filters = list(listens)
        if filters:
            subscribed = threading.Event()
            self._client.on_subscribe = lambda *_: subscribed.set()
            self._client.subscribe([(each, 1) for each in filters])
            assert subscribed.wait(5)

    def _on_message(self, client: Client, _: Any, message: Any) -> None:
        with self._said:
            self.heard.append((message.topic, bytes(message.payload)))
            self._said.notify_all()

    def wait_heard(self, count: int, timeout: float = 10.0) -> list[tuple[str, bytes]]:
        with self._said:
            assert self._said.wait_for(lambda: len(self.heard) >= count, timeout), self.heard
            return list(self.heard)

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        """Publish and wait until the broker has it."""
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(10)

    def publish_all(self, messages: Iterable[tuple[str, bytes | str]]) -> None:
        """Publish with QoS 1; returns when the broker has all."""
        infos = [self._client.publish(topic, payload, qos=1) for topic, payload in messages]
        for info in infos:
            info.wait_for_publish(30)

    def vanish(self) -> None:
        """Cut the connection without a word: the broker publishes the will."""
        self._client.on_disconnect = None
        sock = self._client.socket()
        assert sock is not None
        self._client.loop_stop()
        sock.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
