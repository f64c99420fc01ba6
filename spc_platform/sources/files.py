"""Files in a folder, and members of tar archives in it, as landed pages.

A page is one file or one archive member, byte for byte. Nothing is unpacked to disk and one member
at a time is held in memory, so a folder may be larger than the machine.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import IO

from spc_platform.errors import PermanentError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page

MAX_PAGE_BYTES = 256 * 1024 * 1024
"""Largest page read unless the source's ``limits.max_page_bytes`` says otherwise: a bound against archive bombs."""

_CHUNK = 1024 * 1024


class FileSource:
    """Reads the files of a folder that match a resource's glob, in the order of their names.

    ``resource.path`` is a glob relative to the root. ``options.member`` is a glob for members: the
    files are then tar archives (compressed or not) whose matching members are the pages, in the
    archive's own order. ``options.required`` turns "no file matches" into an error.

    The watermark is a JSON object {relative path: SHA-256 of the file}: an unchanged file gives no
    page, a changed file under its old name gives a new one. A file enters it after its last page, so
    an archive of which a member did not land is read again. Each page's ``position`` is the file's name.
    """

    def __init__(self, config: SourceConfig, settings: Settings, now: Callable[[], datetime] | None = None) -> None:
        self.config = config
        self._root = folder(config, settings)
        self._now = now or (lambda: datetime.now(UTC))
        self._limit = int(config.limits.get("max_page_bytes", MAX_PAGE_BYTES))
        self._read: dict[str, dict[str, str]] = {}

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of every file that is new or changed since ``watermark``.

        Raises PermanentError (missing folder, link out of the folder, broken archive, page too large)
        and TransientError (the file could not be read this time).
        """
        read = self._read[resource.name] = _marks(watermark)
        for path in self._files(resource):
            name = self._name(path)
            digest = _digest_of(path)
            if read.get(name) == digest:
                continue
            read.pop(name, None)
            for origin, body in self._bodies(path, name, resource):
                yield Page(self.config.source_id, resource.name, body, origin, name, self._now())
            # Reached only when the consumer asks on, so after it is done with the last page of the file.
            read[name] = digest

    def next_watermark(self, resource: Resource) -> str | None:
        """What the last walk over the resource read whole, and what was read before; None when that is nothing."""
        read = self._read.get(resource.name)
        return json.dumps(read, sort_keys=True, separators=(",", ":")) if read else None

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """Give a digest over the files that a walk would read, or None when there are none."""
        read = _marks(watermark)
        found = [(self._name(path), _digest_of(path)) for path in self._files(resource)]
        unread = [f"{name}={digest}" for name, digest in found if read.get(name) != digest]
        return hashlib.sha256("\n".join(unread).encode()).hexdigest() if unread else None

    def _files(self, resource: Resource) -> list[Path]:
        require_folder(self.config, self._root)
        if not resource.path or Path(resource.path).is_absolute() or ".." in Path(resource.path).parts:
            raise PermanentError(
                f"source {self.config.source_id!r}, resource {resource.name!r}: path {resource.path!r} must be a glob "
                "relative to the source's root, without '..'. Correct it in the site's sources.",
                code="SPC-222",
            )
        files = sorted(path for path in self._root.glob(resource.path) if path.is_file())
        for path in files:
            if not path.resolve().is_relative_to(self._root.resolve()):
                raise PermanentError(
                    f"source {self.config.source_id!r}: {self._name(path)} is a link to {path.resolve()}, outside the "
                    f"source's folder {self._root}. Copy the file into the folder, or make its real place the root.",
                    code="SPC-223",
                )
        if not files and resource.options.get("required"):
            raise PermanentError(
                f"source {self.config.source_id!r}, resource {resource.name!r}: no file matches {resource.path!r} in "
                f"{self._root}. Is it the right folder, and is the data set complete?",
                code="SPC-224",
            )
        return files

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _bodies(self, path: Path, name: str, resource: Resource) -> Iterator[tuple[str, bytes]]:
        pattern = resource.options.get("member")
        try:
            if pattern is None:
                with path.open("rb") as file:
                    yield name, self._bounded(file, name)
                return
            with tarfile.open(path, mode="r|*") as archive:
                for member in archive:
                    if not (member.isfile() and fnmatchcase(member.name, pattern)):
                        continue
                    origin = f"{name}!{member.name}"
                    content = archive.extractfile(member)
                    if content is not None:
                        yield origin, self._bounded(content, origin)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise PermanentError(
                f"source {self.config.source_id!r}: the archive {name} cannot be read to its end ({error}). If it was still "
                "being copied, the next walk reads it; otherwise replace it.",
                code="SPC-225",
            ) from error
        except PermissionError as error:
            raise PermanentError(
                f"source {self.config.source_id!r}: no permission to read {path}. Grant the platform's user read access.",
                code="SPC-226",
            ) from error
        except OSError as error:
            raise TransientError(
                f"source {self.config.source_id!r}: reading {path} failed ({error}). Is the share mounted?", code="SPC-121"
            ) from error

    def _bounded(self, file: IO[bytes], origin: str) -> bytes:
        body = file.read(self._limit + 1)
        if len(body) > self._limit:
            raise PermanentError(
                f"source {self.config.source_id!r}: {origin} is larger than {self._limit} bytes. "
                "Split the file, or raise limits.max_page_bytes of the source.",
                code="SPC-227",
            )
        return body


def folder(config: SourceConfig, settings: Settings) -> Path:
    """Locate the root of a files source: SPC_SOURCE_ROOT for it, else its root, relative ones inside SPC_SHARED_DATA."""
    override = settings.source_root.get(config.source_id)
    root = Path(override if override is not None else config.root).expanduser()
    return root if root.is_absolute() else settings.shared_data / root


def require_folder(config: SourceConfig, root: Path) -> None:
    """Raise PermanentError when the root of a files source does not exist, naming what sets it."""
    if not root.is_dir():
        raise PermanentError(
            f"source {config.source_id!r}: its folder {root} does not exist. Put the files there, or name "
            f'another folder with SPC_SOURCE_ROOT=\'{{"{config.source_id}": "/path"}}\' (or, for a relative root, '
            "the folder of external data sets with SPC_SHARED_DATA). `spc data fetch` downloads the public NIST files.",
            code="SPC-221",
        )


def _marks(watermark: str | None) -> dict[str, str]:
    """Read what was landed before; a watermark that this source did not write counts as nothing read."""
    try:
        marks = json.loads(watermark) if watermark else {}
    except json.JSONDecodeError:
        return {}
    return {str(name): str(digest) for name, digest in marks.items()} if isinstance(marks, dict) else {}


def _digest_of(path: Path) -> str:
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise TransientError(f"reading {path} failed ({error}). Is the share mounted?", code="SPC-121") from error


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified_ns: int) -> str:
    # size and time are the cache's key: an unchanged file is hashed once
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
