"""A connector that runs in a thread of its own, as the collector runs it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec

from spc_platform.collect.readings import Recorder
from spc_platform.collect.sink import Connector, Sink
from spc_platform.collect.spool import Spool
from spc_platform_tests.collect.test_service import until


class Running:
    """``with Running(connector, recorder, folder)``: connected, or ended with ``error``, when the block begins."""

    def __init__(self, connector: Connector, recorder: Recorder, folder: Path) -> None:
        self.spool = Spool(folder, "line1")
        self.sink = Sink(recorder, self.spool)
        self.error: Exception | None = None
        self._connector = connector
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with self.sink:
                self._connector.run(self.sink, self._stop)
        except Exception as error:
            self.error = error

    def __enter__(self) -> Running:
        self._thread.start()
        until(lambda: self.sink.health.is_connected or self.error is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def records(self, resource: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(body) for body in self.spool.after(resource, 0, 100_000)[0]]
