"""Files in a folder, and members of tar archives in it, as landed pages.

A page is one file or one archive member, byte for byte. Nothing is unpacked to disk and one member
at a time is held in memory, so a folder may be larger than the machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from spc_platform.errors import ContractError, PermanentError, SiteError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.file_options import FileOptions, problems
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page

MAX_PAGE_BYTES = 256 * 1024 * 1024
"""Largest page read unless the source's ``limits.max_page_bytes`` says otherwise: a bound against archive bombs."""

_CHUNK = 1024 * 1024
_NAMED_BY_FILE = ("dfq",)
"""Formats that name a record by its file: a copy of a file under another name would count its values twice."""

logger = logging.getLogger(__name__)


class FileSource:
    """Reads the files of a folder that match a resource's glob, in the order of their names.

    ``resource.path`` is a glob relative to the root. ``options.member`` is a glob for members: the
    files are then tar archives (compressed or not) whose matching members are the pages, in the
    archive's own order. ``options.required`` turns "no file matches" into an error.

    ``options.settle_s``, ``ready`` and ``ignore`` say when a file may be read (``site.file_options``). What was written to
    while it was read is not given; the next walk reads it. A file that cannot be read does not stop the others: the walk
    raises at its end. Nothing in the folder is ever changed.

    The watermark is a JSON object {relative path: mark}; a mark is the SHA-256 of the file, ``#n`` behind it for the n-th
    content under this name, ``?`` before it where it was refused and ``!`` behind it where the file has gone. An unchanged
    file gives no page, a changed file under its old name gives a new one, whose ``origin`` ends in ``#n``. A file enters it
    after its last page, so an archive of which a member did not land is read again. Each page's ``position`` is the name.
    """

    def __init__(self, config: SourceConfig, settings: Settings, now: Callable[[], datetime] | None = None) -> None:
        self.config = config
        self._root = folder(config, settings)
        self._now = now or (lambda: datetime.now(UTC))
        self._limit = int(config.limits.get("max_page_bytes", MAX_PAGE_BYTES))
        self._read: dict[str, dict[str, _Mark]] = {}
        self._refused: dict[tuple[str, str], SpcError] = {}

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of every file that is new or changed since ``watermark`` and may be read.

        Raises PermanentError for a missing folder, and at its end for what could not be read: links out of the folder,
        broken archives, files too large or not permitted, and refused pages. TransientError: reading failed this time.
        """
        marks = self._read[resource.name] = _marks(watermark)
        self._refused.clear()
        options, failures = self._options(resource), list[SpcError]()
        files = self._files(resource, options, failures)
        self._tell_gone(resource, marks, {self._name(path) for path in files})
        for path in files:
            try:
                yield from self._pages(path, resource, options, marks)
            except (PermanentError, ContractError) as error:
                failures.append(error)
        if failures:
            raise _together(failures)

    def refuse(self, page: Page, error: SpcError) -> None:
        """Take note that a page cannot be read: its file is no news until it changes, and the walk tells it at its end."""
        self._refused[page.resource, page.position] = error

    def next_watermark(self, resource: Resource) -> str | None:
        """What the last walk over the resource read whole, and what was read before; None when that is nothing."""
        marks = {name: str(mark) for name, mark in self._read.get(resource.name, {}).items()}
        return json.dumps(marks, sort_keys=True, separators=(",", ":")) if marks else None

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """Give a digest over the files that a walk would read and did not refuse before, or None when there are none."""
        marks, options = _marks(watermark), self._options(resource)
        unread = []
        for path in self._files(resource, options, []):
            name, state = self._name(path), self._settled(path, options)
            if state is not None and marks.get(name, _UNREAD).digest != (digest := _digest(path, *state)):
                unread.append(f"{name}={digest}")
        return hashlib.sha256("\n".join(unread).encode()).hexdigest() if unread else None

    def _options(self, resource: Resource) -> FileOptions:
        wrong = problems(resource.options)
        if wrong:
            what = "; ".join(f"{said}: {remedy}" for _, said, remedy in wrong)
            raise SiteError(f"source {self.config.source_id!r}, resource {resource.name!r}: options: {what}", code="SPC-445")
        return FileOptions.of(resource.options)

    def _files(self, resource: Resource, options: FileOptions, failures: list[SpcError]) -> list[Path]:
        """Files that match, in the order of their names; links out of the folder become failures."""
        require_folder(self.config, self._root)
        if not resource.path or Path(resource.path).is_absolute() or ".." in Path(resource.path).parts:
            raise PermanentError(
                f"source {self.config.source_id!r}, resource {resource.name!r}: path {resource.path!r} must be a glob "
                "relative to the source's root, without '..'. Correct it in the site's sources.",
                code="SPC-222",
            )
        found = sorted(path for path in self._root.glob(resource.path) if path.is_file())
        files = [path for path in found if not options.ignores(PurePosixPath(self._name(path)))]
        root = self._root.resolve()
        outside = [path for path in files if not path.resolve().is_relative_to(root)]
        failures.extend(
            PermanentError(
                f"source {self.config.source_id!r}: {self._name(path)} is a link to {path.resolve()}, outside the "
                f"source's folder {self._root}. Copy the file into the folder, or make its real place the root.",
                code="SPC-223",
            )
            for path in outside
        )
        if not files and resource.options.get("required"):
            raise PermanentError(
                f"source {self.config.source_id!r}, resource {resource.name!r}: no file matches {resource.path!r} in "
                f"{self._root}. Is it the right folder, and is the data set complete?",
                code="SPC-224",
            )
        return [path for path in files if path not in outside]

    def _pages(self, path: Path, resource: Resource, options: FileOptions, marks: dict[str, _Mark]) -> Iterator[Page]:
        """Pages of one file, unless it was read before or may not be read yet; enters its mark."""
        name, state = self._name(path), self._settled(path, options)
        if state is None:
            return
        digest, before = _digest(path, *state), marks.get(name, _UNREAD)
        if before.digest == digest and not before.refused:
            marks[name] = replace(before, gone=False)
            return
        mark = _Mark(digest, before.version + (before.digest != digest))
        twin = next((other for other, seen in marks.items() if other != name and seen.digest == digest), None)
        if twin is not None and resource.format in _NAMED_BY_FILE:
            logger.info("source %s: %s has the content of %s and is not read again", self.config.source_id, name, twin)
            marks[name] = mark
            return
        marks.pop(name, None)
        is_archive = "member" in resource.options
        for origin, body in self._bodies(path, name, resource):
            if not is_archive and hashlib.sha256(body).hexdigest() != digest:
                break
            versioned = f"{name}#{mark.version}" if not is_archive and mark.version > 1 else origin
            yield Page(self.config.source_id, resource.name, body, versioned, name, self._now())
        else:
            # Reached only when the consumer asks on, so after it is done with the last page of the file.
            error = self._refused.get((resource.name, name))
            if error is not None or _state(path) == state:
                marks[name] = replace(mark, refused=error is not None)
            if error is not None:
                raise error
        if name not in marks and before.digest:
            marks[name] = before

    def _settled(self, path: Path, options: FileOptions) -> _State | None:
        """The state of a file that may be read; None while it may not, or when it has just gone."""
        state = _state(path)
        if state is None:
            return None
        if options.ready:
            marks = (_state(path.with_name(marker)) for marker in options.markers(path.name))
            return state if any(mark is not None and mark.modified_ns >= state.modified_ns for mark in marks) else None
        return state if self._now().timestamp() - state.changed_ns / 1e9 >= options.settle_s or options.settle_s == 0 else None

    def _tell_gone(self, resource: Resource, marks: dict[str, _Mark], present: set[str]) -> None:
        for name, mark in marks.items():
            if name not in present and not mark.gone:
                marks[name] = replace(mark, gone=True)
                logger.warning(
                    "source %s, resource %s: %s is no longer in the folder; its records stay",
                    *(self.config.source_id, resource.name, name),
                )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _bodies(self, path: Path, name: str, resource: Resource) -> Iterator[tuple[str, bytes]]:
        pattern = resource.options.get("member")
        try:
            if pattern is None:
                with _opened(path) as file:
                    yield name, self._bounded(file, name)
                return
            with _opened(path) as packed, tarfile.open(fileobj=packed, mode="r|*") as archive:
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


class _State(NamedTuple):
    """What the file system says of a file: the key under which its digest is kept."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is known of a name in the folder: its last content, the how-manieth that is, and what became of it."""

    digest: str = ""
    version: int = 0
    refused: bool = False
    gone: bool = False

    @classmethod
    def of(cls, text: str) -> _Mark:
        digest, _, version = text.strip("?!").partition("#")
        return cls(digest, int(version) if version.isdigit() else 1, text.startswith("?"), text.endswith("!"))

    def __str__(self) -> str:
        version = f"#{self.version}" if self.version > 1 else ""
        return f"{'?' * self.refused}{self.digest}{version}{'!' * self.gone}"


_UNREAD = _Mark()


def _marks(watermark: str | None) -> dict[str, _Mark]:
    """Read what was landed before; a watermark that this source did not write counts as nothing read."""
    try:
        marks = json.loads(watermark) if watermark else {}
    except json.JSONDecodeError:
        return {}
    return {str(name): _Mark.of(str(mark)) for name, mark in marks.items()} if isinstance(marks, dict) else {}


def _together(failures: list[SpcError]) -> SpcError:
    """The first failure, with the others as notes."""
    for further in dict.fromkeys(map(str, failures[1:])):
        if further != str(failures[0]):
            failures[0].add_note(f"and: {further}")
    return failures[0]


def _state(path: Path) -> _State | None:
    """None when the file is gone."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unread(path, error) from error
    # A copy may carry the time at which its original was modified; the time of the change of status is the copy's own.
    changed = state.st_mtime_ns if os.name == "nt" else state.st_ctime_ns
    return _State(state.st_size, state.st_mtime_ns, changed, state.st_ino)


def _opened(path: Path) -> IO[bytes]:
    """A regular file, opened without following a link that was put in its place meanwhile."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path.resolve(), flags), "rb")


def _unread(path: Path, error: OSError) -> TransientError:
    return TransientError(f"reading {path} failed ({error}). Is the share mounted?", code="SPC-121")


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified_ns: int, changed_ns: int, inode: int) -> str:
    # all but the path is the cache's key: an unchanged file is hashed once
    digest = hashlib.sha256()
    try:
        with _opened(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _unread(path, error) from error
    return digest.hexdigest()
