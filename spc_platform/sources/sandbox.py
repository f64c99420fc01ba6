"""Pages of files from outside, parsed in a process of their own: what a parser does there costs one page, never a run.

One process serves all pages, so its start is paid once. It has a bound of memory, CPU and time for each page, and no
network (``sandbox_child``). A page that ends it is refused with the reason, and the next page gets a new process. Where
the process had served others before, the page is tried once more in a new one, so that no page pays for its predecessors.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import polars as pl

from spc_platform import errors
from spc_platform.errors import ContractError, SpcError, TransientError
from spc_platform.site.model import Resource
from spc_platform.sources.sandbox_child import FRAME, REPLY, REQUEST, exactly

PARSE_S = 60.0
"""CPU seconds for one page, unless ``options.parse_s`` of the resource says otherwise."""
WALL_FACTOR = 3.0
"""How much longer a page may take by the clock: a busy machine must not refuse what an idle one reads."""
PARSE_MEMORY_MIB = 2048
"""Memory for one page, unless ``options.parse_memory_mib`` says otherwise."""

_START_S = 60.0
_CODES = {"crashed": "SPC-337", "slow": "SPC-338", "memory": "SPC-339"}


class _RefusedError(Exception):
    """A page was not parsed: ``why`` is a key of ``_CODES``; ``spent``: the process served other pages before."""

    def __init__(self, why: str, text: str, *, spent: bool) -> None:
        super().__init__(text)
        self.why = why
        self.spent = spent


class _Child:
    """A running process. Raises TransientError when it does not start."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        kept = ("PATH", "SYSTEMROOT", "LANG", "TZDIR", "PYTHONTZPATH", "LD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "POLARS_MAX_THREADS": str(min(os.cpu_count() or 1, 4)),
        }
        self.pages = 0
        self.connection = ours
        try:
            self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-P", "-m", "spc_platform.sources.sandbox_child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            ours.settimeout(_START_S)
            exactly(ours, 1)
        except (OSError, EOFError) as error:
            self.close()
            raise TransientError(
                f"the process that parses files did not start ({type(error).__name__}: {error}). Is memory short?",
                code="SPC-145",
            ) from error

    def call(self, resource: Resource, table: str, body: bytes, origin: str) -> pl.DataFrame:
        """Rows of a page. Raises what decoding raised, or _RefusedError; then the process is no longer usable."""
        seconds = float(resource.options.get("parse_s", PARSE_S))
        memory = int(resource.options.get("parse_memory_mib", PARSE_MEMORY_MIB)) << 20
        call = {"resource": resource, "table": table, "origin": origin, "seconds": seconds, "memory": memory}
        spent, self.pages = self.pages > 0, self.pages + 1
        try:
            return self._answer(pickle.dumps(call), body, WALL_FACTOR * seconds)
        except TimeoutError:
            raise _RefusedError("slow", f"no answer within {WALL_FACTOR * seconds:g} s", spent=False) from None
        except (EOFError, ConnectionError):
            code = self._ended()
            if code == -signal.SIGXCPU:
                raise _RefusedError("slow", f"more than {seconds:g} s of CPU", spent=False) from None
            if code == -signal.SIGABRT:
                text = f"the parser ended by SIGABRT, as it does where memory ends ({memory >> 20} MiB)"
                raise _RefusedError("memory", text, spent=spent) from None
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise _RefusedError("crashed", f"the parser ended by {name}", spent=spent) from None
        except MemoryError:
            raise _RefusedError("memory", f"more than {memory >> 20} MiB of memory", spent=spent) from None

    def _answer(self, call: bytes, body: bytes, seconds: float) -> pl.DataFrame:
        deadline = time.monotonic() + seconds
        self.connection.settimeout(seconds)
        self.connection.sendall(REQUEST.pack(len(call), len(body)) + call)
        self.connection.sendall(body)
        kind, length = REPLY.unpack(self._within(deadline, REPLY.size))
        answer = self._within(deadline, length)
        if kind == FRAME:
            return pl.read_ipc_stream(io.BytesIO(answer))
        said = json.loads(answer)
        if said["kind"].endswith("MemoryError"):
            raise MemoryError
        if not said["code"]:
            raise _RefusedError("crashed", f"{said['kind']}: {said['text'][:200]}", spent=self.pages > 1)
        known: type[SpcError] = getattr(errors, said["kind"], ContractError)
        raise known(said["text"].removeprefix(f"[{said['code']}] "), code=said["code"])

    def _within(self, deadline: float, length: int) -> bytes:
        self.connection.settimeout(max(deadline - time.monotonic(), 0.001))
        return exactly(self.connection, length)

    def _ended(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(5)
        self.process.kill()
        return self.process.wait()

    def close(self) -> None:
        self.connection.close()
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()


class Sandbox:
    """Starts the process when the first page comes and again when one ended it. Threads wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._owner = os.getpid()

    def decode(self, resource: Resource, table: str, body: bytes, origin: str) -> pl.DataFrame:
        """As ``decode.decode_here``, in the process. Raises ContractError for a page that is not parsed within its bounds."""
        with self._lock:
            try:
                try:
                    return self._call(resource, table, body, origin)
                except _RefusedError as error:
                    if not error.spent:
                        raise
                    return self._call(resource, table, body, origin)
            except _RefusedError as error:
                raise self._refusal(error, resource, body, origin) from None

    def close(self) -> None:
        """End the process; the next page starts another."""
        if self._child is not None and self._owner == os.getpid():
            self._child.close()
        self._child = None

    def _call(self, *page: Any) -> pl.DataFrame:
        if self._child is None or self._owner != os.getpid():
            self._child, self._owner = _Child(), os.getpid()
        try:
            return self._child.call(*page)
        except BaseException as error:
            # What is left in the connection belongs to this page; only an error that was told in full leaves it clean.
            if not isinstance(error, SpcError):
                self.close()
            raise

    def _refusal(self, error: _RefusedError, resource: Resource, body: bytes, origin: str) -> ContractError:
        remedy = {
            "crashed": "The file is damaged or made to do harm; get it anew from its source.",
            "slow": "Split the file, or raise options.parse_s of the resource if the machine was merely busy.",
            "memory": "Split the file, or raise options.parse_memory_mib of the resource.",
        }[error.why]
        return ContractError(
            f"resource {resource.name!r}: {origin or 'a page'} ({len(body)} bytes) cannot be parsed as {resource.format}: "
            f"{error}. {remedy}",
            code=_CODES[error.why],
        )


SANDBOX = Sandbox()
"""The one of this process."""
atexit.register(SANDBOX.close)
