"""The process in which files from outside are parsed: bounded memory and CPU, no network, no programs, no files written.

It answers one page after the other over a socket pair, until the other end closes. It gets no environment but what it
needs to start, so no secret is in it.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import pickle
import platform
import resource as limits
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from spc_platform.errors import SpcError

REQUEST = struct.Struct(">QQ")
"""Lengths of the pickled call and of the page's body that follow."""
REPLY = struct.Struct(">cQ")
"""What follows (``FRAME`` or ``ERROR``) and how long it is."""
FRAME, ERROR = b"F", b"E"

_SYSCALLS = {
    "x86_64": (0xC000003E, 317, {"socket": 41, "connect": 42, "execve": 59, "kill": 62, "ptrace": 101, "execveat": 322}),
    "aarch64": (0xC00000B7, 277, {"socket": 198, "connect": 203, "execve": 221, "kill": 129, "ptrace": 117, "execveat": 281}),
}
"""Machine -> (audit architecture, number of seccomp, numbers of what is denied), of Linux."""
_X32_BIT = 0x40000000
_NO_NEW_PRIVILEGES = 38
_OPEN_FILES = 64


def exactly(connection: socket.socket, length: int) -> bytes:
    """The next bytes of a connection. Raises EOFError when it ends before, TimeoutError as the connection does."""
    taken = bytearray(length)
    view, at = memoryview(taken), 0
    while at < length:
        got = connection.recv_into(view[at:], min(length - at, 1 << 20))
        if not got:
            raise EOFError
        at += got
    return bytes(taken)


def main() -> None:
    """Answer calls until the other end closes."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    from spc_platform.sources.decode import decode_here, warm

    warm()
    baseline = int(Path("/proc/self/statm").read_text().split()[0]) * limits.getpagesize() if sys.platform == "linux" else 0
    _confine()
    connection.sendall(b"!")
    while True:
        try:
            n_call, n_body = REQUEST.unpack(exactly(connection, REQUEST.size))
        except EOFError:
            return
        call: dict[str, Any] = pickle.loads(exactly(connection, n_call))  # noqa: S301 (of the process that started this one)
        body = exactly(connection, n_body)
        _bound(baseline, call)
        try:
            frame = decode_here(call["resource"], call["table"], body, call["origin"])
            written = io.BytesIO()
            frame.write_ipc_stream(written, compat_level=None)
            answer = written.getvalue()
        except BaseException as error:
            # a parser in Rust panics past Exception; whatever it was, it is told, and this process ends
            code = error.code if isinstance(error, SpcError) else ""
            text = json.dumps({"kind": type(error).__name__, "code": code, "text": str(error)[:2000]})
            connection.sendall(REPLY.pack(ERROR, len(text)) + text.encode())
            if not code:
                return
            continue
        connection.sendall(REPLY.pack(FRAME, len(answer)))
        connection.sendall(answer)


def _bound(baseline: int, call: dict[str, Any]) -> None:
    """Limits of one page: memory above what the process needs itself, CPU seconds above what it has used."""
    if sys.platform == "linux":
        limits.setrlimit(limits.RLIMIT_AS, (baseline + call["memory"], limits.RLIM_INFINITY))
    used = limits.getrusage(limits.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + call["seconds"]) + 1
    limits.setrlimit(limits.RLIMIT_CPU, (seconds, limits.RLIM_INFINITY))


def _confine() -> None:
    limits.setrlimit(limits.RLIMIT_FSIZE, (0, 0))
    limits.setrlimit(limits.RLIMIT_CORE, (0, 0))
    limits.setrlimit(limits.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if sys.platform == "linux" and platform.machine() in _SYSCALLS:
        _deny(*_SYSCALLS[platform.machine()])
    sys.addaudithook(_audit)


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if event in (
        "socket.__new__",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
        "os.system",
        "os.fork",
        "os.exec",
    ):
        raise PermissionError(f"{event} is not allowed where files are parsed")


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter)))


def _deny(architecture: int, seccomp: int, denied: dict[str, int]) -> None:
    """Have the kernel refuse these calls to every thread, for good.

    Source: Linux, Documentation/userspace-api/seccomp_filter.rst; classic BPF over struct seccomp_data.
    """
    load, jump_equal, jump_greater, give = 0x20, 0x15, 0x35, 0x06
    numbers = list(denied.values())
    program = [_Filter(load, 0, 0, 4), _Filter(jump_equal, 0, len(numbers) + 3, architecture), _Filter(load, 0, 0, 0)]
    program.append(_Filter(jump_greater, len(numbers) + 1, 0, _X32_BIT))
    program += [_Filter(jump_equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [_Filter(give, 0, 0, 0x7FFF0000), _Filter(give, 0, 0, 0x00050000 | errno.EPERM)]
    array = (_Filter * len(program))(*program)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    every_thread = 1
    libc.syscall(seccomp, 1, every_thread, ctypes.byref(_Program(len(program), array)))


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        os._exit(0)
