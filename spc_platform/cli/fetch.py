"""Brings the public NIST data sets that the site folder ``data/nist`` reads, each file checked by its SHA-256.

Source: NIST SMS Test Bed, github usnistgov/smstestbed at the commit below: the technical data package of a box
assembly (tdp/mtc) and raw adapter logs (raw/). Work of the US Government, public information; NIST asks for
credit ("NIST SMS Test Bed") and endorses nothing.

Upstream keeps the logs as single files. They are packed here, bytes unchanged, into the archives that the site
reads: 40 + 60 logs of operations and 56 logs of machines. The list of operations (``ROUTE_LIST``) is not upstream:
it follows from the logs and is made of them.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import polars as pl
import pooch
import requests

from spc_platform.errors import PermanentError, TransientError
from spc_platform.settings import REPOSITORY
from spc_platform.sources.mtconnect import adapter_lines

COMMIT = "968279f14ebe96c03c8877eeb1901cf6b4c8fbab"
UPSTREAM = f"https://raw.githubusercontent.com/usnistgov/smstestbed/{COMMIT}"
REGISTRY = REPOSITORY / "data" / "nist" / "registry.txt"
PARTS = "nist-mtc-box-assembly"
TEST_BED = "nist-smstestbed-week-2017-05-01"
ROUTE_LIST = "DERIVED_operation_events_plate_cover.csv"
TIMEOUT_S = 60
RETRIES = 2
CACHE = ".upstream"
"""Folder beside the data sets that keeps the downloaded files, so a second run downloads nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an upstream file goes: a file, or a member of an archive."""

    file: str
    member: str | None = None


def fetch(
    destination: Path, *, base_url: str | None = None, registry: Path | None = None, say: Callable[[str], None] | None = None
) -> list[Path]:
    """Download the data sets into ``destination`` and return the files that a site can read.

    ``base_url`` names a mirror of the upstream repository at the same commit; ``registry`` another list of
    ``sha256  path`` lines; ``say`` is told what happens. Afterwards ``SPC_SHARED_DATA=destination`` (or
    ``--data destination``) makes the site ``data/nist`` read them. Files that are there already are only
    checked. Raises PermanentError when a file does not have its checksum or is not there, TransientError
    when the network fails.
    """
    hashes = read_registry(registry or REGISTRY)
    base = (base_url or UPSTREAM).rstrip("/")
    logging.getLogger("pooch").setLevel(logging.ERROR)
    catalog = pooch.create(
        path=destination / CACHE,
        base_url=base + "/",
        registry={path: f"sha256:{digest}" for path, digest in hashes.items()},
        urls={path: f"{base}/{quote(path)}" for path in hashes},
        retry_if_failed=RETRIES,
    )
    report = say or (lambda _: None)
    report(f"{len(hashes)} files from {base}")
    found = {path: _download(catalog, path) for path in sorted(hashes)}
    placed = _place(found, destination, report)
    goal = destination / PARTS / ROUTE_LIST
    _write(goal, route_list(destination).write_csv().encode())
    report(f"{goal} (made from the logs of operations)")
    return sorted([*placed, goal])


def read_registry(path: Path) -> dict[str, str]:
    """Read the lines ``sha256  path`` of a registry: upstream path -> SHA-256."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name.strip(): digest for digest, _, name in (line.partition("  ") for line in lines)}


def target(upstream: str) -> Target:
    """Say where an upstream file belongs.

    >>> target("tdp/mtc/Split/Plate-Op1-Hurco04-01of20.txt")
    Target(file='nist-mtc-box-assembly/Split-Plate-Hurco04.tar.gz', member='Split/Plate-Op1-Hurco04-01of20.txt')
    >>> target("tdp/mtc/FAIR/7_11_2017 9_16_18 AM Plate_Results.qif").file
    'nist-mtc-box-assembly/7_11_2017 9_16_18 AM Plate_Results.qif'
    """
    name = PurePosixPath(upstream).name
    if upstream.startswith("tdp/mtc/Split/"):
        return Target(f"{PARTS}/Split-{name.split('-')[0]}-Hurco04.tar.gz", f"Split/{name}")
    if upstream.startswith("raw/"):
        return Target(f"{TEST_BED}/raw-8-machines-20170501-20170507.tar.gz", name)
    return Target(f"{PARTS}/{name}")


def route_list(data: Path) -> pl.DataFrame:
    """Part, operation, when its program first ran and when it last completed, of every log of an operation in ``data``.

    Columns: part_type, serial, operation, first_active_utc and last_completed_utc (ISO, microseconds).
    """
    rows = []
    for path in sorted((data / PARTS).glob("Split-*-Hurco04.tar.gz"), reverse=True):
        with tarfile.open(path) as archive:
            for member in archive:
                named = re.search(r"(\w+)-(Op\d)-Hurco04-(\d\d)of20\.txt$", member.name)
                content = archive.extractfile(member) if named else None
                if named is None or content is None:
                    continue
                said = adapter_lines(content.read()).filter(pl.col("item") == "Program_Status")
                at = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
                first, last = said.select(
                    at.filter(pl.col("value") == "ACTIVE").min().alias("first"),
                    at.filter(pl.col("value") == "PROGRAM_COMPLETED").max().alias("last"),
                ).row(0)
                rows.append((named[1].upper(), int(named[3]), named[2].upper(), first, last))
    names = ("part_type", "serial", "operation", "first_active_utc", "last_completed_utc")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String) | {"serial": pl.Int64}, orient="row")


def _download(catalog: pooch.Pooch, path: str) -> Path:
    try:
        return Path(catalog.fetch(path, downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S)))
    except ValueError as error:
        raise PermanentError(
            f"{catalog.get_url(path)} does not have the SHA-256 of the registry ({error}). The file was changed, or something "
            "between here and there answers in its place: do not use it. Try another network or a mirror (base_url).",
            code="SPC-231",
        ) from error
    except requests.HTTPError as error:
        raise PermanentError(
            f"{catalog.get_url(path)}: {error}. Is the mirror complete and at commit {COMMIT[:12]}?", code="SPC-232"
        ) from error
    except (requests.RequestException, OSError) as error:
        raise TransientError(
            f"downloading {catalog.get_url(path)} failed ({type(error).__name__}). Check the connection and run the command "
            "again: what has arrived is kept.",
            code="SPC-131",
        ) from error


def _place(found: dict[str, Path], destination: Path, report: Callable[[str], None]) -> list[Path]:
    members: dict[str, list[tuple[str, Path]]] = {}
    for upstream, path in found.items():
        at = target(upstream)
        members.setdefault(at.file, []).append((at.member or "", path))
    placed = []
    for name, parts in sorted(members.items()):
        goal = destination / name
        is_archive = bool(parts[0][0])
        _write(goal, _archive(parts) if is_archive else parts[0][1].read_bytes())
        report(f"{goal} ({len(parts)} logs)" if is_archive else str(goal))
        placed.append(goal)
    return placed


def _archive(members: list[tuple[str, Path]]) -> bytes:
    """Pack the members in order of their names; the same members give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, path in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(info, content)
    return buffer.getvalue()


def _write(goal: Path, body: bytes) -> None:
    if goal.is_file() and goal.read_bytes() == body:
        return
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_name(f".{goal.name}.part")
    part.write_bytes(body)
    part.replace(goal)
