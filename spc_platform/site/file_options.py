"""When a file of a drop folder may be read, and what reading it may cost: options of resources of ``files`` sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

IGNORED = ("*.tmp", "*.part", "*.partial", "*.filepart", "*.crdownload", "~$*", ".*")
"""Names under which programs write files that are not finished."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """When a file of a folder may be read.

    ``settle_s``: seconds without a change before a file is read. ``ready``: endings of the marker that says a file is whole,
    e.g. ``.done``; with it, time does not count. ``ignore``: patterns of names that are not read, nor anything below them.
    """

    settle_s: float = 0.0
    ready: tuple[str, ...] = ()
    ignore: tuple[str, ...] = field(default=IGNORED)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> FileOptions:
        """The options of a resource that ``problems`` finds nothing wrong with."""
        ready = options.get("ready", ())
        return cls(
            settle_s=float(options.get("settle_s", 0.0)),
            ready=(ready,) if isinstance(ready, str) else tuple(ready),
            ignore=tuple(options.get("ignore", IGNORED)),
        )

    def ignores(self, name: PurePosixPath) -> bool:
        """Whether a file, by its path below the folder, is not meant to be read: an unfinished one, or a marker.

        >>> FileOptions().ignores(PurePosixPath("day/.sync/a.csv")), FileOptions().ignores(PurePosixPath("day/a.csv"))
        (True, False)
        """
        return name.suffix in self.ready or any(fnmatchcase(part, pattern) for part in name.parts for pattern in self.ignore)

    def markers(self, name: str) -> Iterator[str]:
        """Names of the markers that would say that a file of this name is whole.

        >>> list(FileOptions(ready=(".done",)).markers("a.csv"))
        ['a.csv.done', 'a.done']
        """
        for ending in self.ready:
            yield name + ending
            yield PurePosixPath(name).with_suffix(ending).name


def problems(options: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is wrong with the options: (key, what it is, what to write)."""
    found = []
    for key, least in (("settle_s", 0), ("parse_s", 0.001), ("parse_memory_mib", 64)):
        value = options.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            found.append((key, f"{key} is {value!r}", f"write a number, {least:g} or greater"))
    ready = options.get("ready", [])
    if not all(
        isinstance(one, str) and one.startswith(".") and len(one) > 1 for one in ([ready] if isinstance(ready, str) else ready)
    ):
        found.append(("ready", f"ready is {ready!r}", 'write endings of marker files, such as [".done"]'))
    ignore = options.get("ignore", [])
    if not isinstance(ignore, list | tuple) or not all(isinstance(one, str) and one for one in ignore):
        found.append(("ignore", f"ignore is {ignore!r}", 'write a list of patterns of names, such as ["*.tmp", "~$*"]'))
    return found
