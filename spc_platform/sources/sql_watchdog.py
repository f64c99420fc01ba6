"""A limit on our side of how long a database may keep a walk waiting.

The server's own limit of a statement does not reach us when a network device acknowledges every packet and passes none on;
the kernel sees a connection that lives. So the connection is cut from here.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Watchdog:
    """A context in which a driver's connection is cut ``seconds`` after ``watch``; ``has_fired`` says whether it was.

    A connection with a file descriptor (PostgreSQL) has its socket shut down, which ends any wait for it. Of another, the
    call under way is interrupted (SQLite) or cancelled (Oracle); a driver that offers neither keeps to its own timeout.
    """

    def __init__(self, seconds: float) -> None:
        self.has_fired = False
        self._lock = threading.Lock()
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._driver: Any = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._driver = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def watch(self, driver: Any) -> None:
        """Cut this connection when the time from now is over; called once."""
        with self._lock:
            self._driver = driver
            with suppress(Exception):
                # A descriptor of our own: the driver may close its one, and the number may go to another file.
                self._socket = socket.socket(fileno=os.dup(driver.fileno()))
        self._timer = threading.Timer(self._seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        with self._lock:
            if self._driver is None:
                return
            self.has_fired = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
            stop = getattr(self._driver, "interrupt", None) or getattr(self._driver, "cancel", None)
        if stop is not None:
            with suppress(Exception):
                stop()
