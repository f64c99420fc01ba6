"""Durable files: the few primitives on which landing and lake stand.

A file appears under its name only when it is whole: it is written under a hidden temporary name in the
same folder, synced, renamed, and the folder is synced. A process killed at any point leaves either the
old state or the new one, and perhaps a temporary file that a later sweep removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from spc_platform.errors import LakeError

Checkpoint = Callable[[str], None]
"""Called with the name of each step that has just been done; tests kill the process there."""

TEMPORARY = ".tmp-"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_LONGEST = 120
_BLOCK = 1 << 20


def no_checkpoint(step: str) -> None:
    """The checkpoint of normal operation: nothing happens."""


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def safe_name(name: str) -> str:
    """A name from data as one path component; two different names never become the same one.

    Names of letters, digits, ``_``, ``.`` and ``-`` stay (no leading punctuation, no ``..``, at most 64
    characters); in any other, every byte that is not a letter, digit or ``_`` is percent-encoded.
    Raises LakeError for an empty name.

    >>> safe_name("mes-1"), safe_name("../etc"), safe_name("a*")
    ('mes-1', '%2E%2E%2Fetc', 'a%2A')
    """
    if not name:
        raise LakeError(
            "a source or table has an empty name, so no file can be named after it; give it a name in the site folder"
        )
    if _SAFE.fullmatch(name) and ".." not in name:
        return name
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass"))
    if len(encoded) <= _LONGEST:
        return encoded
    return f"{encoded[:48]}%-{sha256(name.encode('utf-8', 'surrogatepass'))}"


def below(root: Path, *names: str) -> Path:
    """The path ``root/name/…`` with every name made safe. Raises LakeError when it would leave ``root``."""
    path = root.joinpath(*(safe_name(name) for name in names))
    if not path.resolve().is_relative_to(root.resolve()):
        raise LakeError(f"{path} lies outside {root} (a symbolic link?); remove the link and run again")
    return path


def make_folder(folder: Path) -> None:
    """Create a folder and its parents so that they survive a power loss."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_path(folder: Path) -> Path:
    """A new name in the folder that no glob over data files matches."""
    return folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


def publish(temporary: Path, path: Path, checkpoint: Checkpoint = no_checkpoint, step: str = "file") -> None:
    """Give a whole temporary file its name, durably: sync, rename, sync the folder."""
    sync_file(temporary)
    checkpoint(f"{step}:synced")
    temporary.replace(path)
    checkpoint(f"{step}:renamed")
    sync_folder(path.parent)


def write_durably(path: Path, body: bytes, checkpoint: Checkpoint = no_checkpoint, step: str = "file") -> None:
    """Write a whole file under its name or leave what was there before."""
    temporary = temporary_path(path.parent)
    try:
        with temporary.open("xb") as file:
            half = len(body) // 2
            file.write(body[:half])
            file.flush()
            checkpoint(f"{step}:half-written")
            file.write(body[half:])
        publish(temporary, path, checkpoint, step)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LakeError(
            f"cannot write {path}: {error}; nothing was changed. Check free space and permissions, then run again"
        ) from error


def older_than(path: Path, seconds: float, now: float) -> bool:
    """True when the file was last written more than ``seconds`` before ``now``; False when it is gone."""
    try:
        return now - path.stat().st_mtime >= seconds
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, timeout_s: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the operating system releases it when the process dies.

    Raises LakeError naming the holder when the lock is not free within ``timeout_s`` seconds.
    """
    make_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _wait_for_lock(handle, timeout_s, what)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(handle, 400, 0).decode("utf-8", "replace") or "unknown"
                raise LakeError(
                    f"{what} is being written by another run (holder {holder}) and was not free within {timeout_s:g} s; "
                    "let that run finish, or end it, then run again",
                    code="SPC-503",
                ) from None
            time.sleep(0.02)
        else:
            return
