"""What BI tools read: immutable versions of the marts, and a link to the one in force.

    serving/versions/<version>/spc.duckdb       mode 0444, no .wal beside it
                              /manifest.json    sha256 and size of every file, rows of every mart
                              /parquet/*.parquet  the same marts for other engines
    serving/current -> versions/<version>

A version is built in a hidden directory, renamed when it is whole, and never touched again. The link is
replaced atomically. A reader that connects through it gets one whole version, the newest at that moment;
a reader that holds a connection keeps the version it has opened. Renaming a new file over an old one
would serve stale data instead (DuckDB keeps one instance per path and process), and rewriting one in
place would lock readers out; so neither is done.

Systems without symbolic links (Windows, SMB shares) are not served by this module.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from spc_platform.errors import LakeError
from spc_platform.lake import marts
from spc_platform.lake.files import file_sha256, locked, make_folder, sync_file, sync_folder, write_durably

DATABASE = f"{marts.CATALOG}.duckdb"
MANIFEST = "manifest.json"
STORAGE_NUMBER = 65
"""Header number of storage format v1.2.0."""

_BUILD, _TRASH = ".build-", ".trash-"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Publication:
    """One published version. ``rows`` holds the row count of each mart, ``manifest`` all that is recorded."""

    version: str
    database: Path
    published_at: datetime
    rows: dict[str, int]
    manifest: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.database.parent


class Serving:
    """The serving directory: the only place that BI tools are pointed at, and the only writer of it."""

    def __init__(self, root: Path, lock_timeout_s: float = 30.0) -> None:
        """Take the directory as it is; it is created by the first build."""
        self.root = root
        self._versions = root / "versions"
        self._link = root / "current"
        self._lock_timeout_s = lock_timeout_s

    def build_path(self, version: str) -> Path:
        """Return the database file to build for a version, in a fresh directory that readers never see.

        What a killed build of the same version left behind is removed. Raises LakeError when the version is
        already published, or its name could not be a directory's.
        """
        self._refuse_existing(version)
        folder = self._build_folder(version)
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        return folder / DATABASE

    def publish(self, version: str, manifest: Mapping[str, Any]) -> Publication:
        """Seal the built version, rename it into place and point ``current`` at it.

        ``manifest`` is recorded as it is (run, commit, inputs, ...). Every other file of the build directory,
        such as report pages, is sealed and hashed with the database.

        Raises:
            LakeError: nothing was built, a ``.wal`` is left, the file has another storage format or says that
                it is another version. Readers keep the version they had.

        """
        with self._writing():
            self._refuse_existing(version)
            folder = self._build_folder(version)
            database = folder / DATABASE
            rows = _accepted(database, version)
            marts.export_parquet(database, folder / "parquet")
            _refuse_log(database)
            record = {
                **manifest,
                "version": version,
                "published_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "storage_version": marts.STORAGE_VERSION,
                "rows": rows,
                "files": _hashed(folder),
            }
            write_durably(folder / MANIFEST, json.dumps(record, indent=2, sort_keys=True).encode())
            _seal(folder)
            target = self._versions / version
            folder.rename(target)
            sync_folder(self._versions)
            self._point(version)
        return self._publication(version)

    def current(self) -> Path | None:
        """Return the database through the link, the path that readers are given; None before the first publication."""
        database = self._link / DATABASE
        return database if database.is_file() else None

    def current_version(self) -> str | None:
        """Return the name of the version that the link points at."""
        return self._link.readlink().name if self.current() else None

    def versions(self) -> list[str]:
        """List the published versions, the oldest publication first."""
        if not self._versions.is_dir():
            return []
        found = [path.parent.name for path in self._versions.glob(f"*/{MANIFEST}") if _VERSION.fullmatch(path.parent.name)]
        return sorted(found, key=lambda version: (self._publication(version).published_at, version))

    def rollback(self, version: str) -> Publication:
        """Point ``current`` at a version published before, after its files have been verified.

        The file's time of change is renewed, because some tools reopen a database only when it grows.
        """
        with self._writing():
            publication = self.verify(version)
            os.utime(publication.database)
            self._point(version)
        return publication

    def prune(self, keep: int, min_age_s: float, now: float | None = None) -> list[str]:
        """Remove all but the ``keep`` newest versions and return the names of the removed ones.

        Never the version in force, nor one whose database was published or rolled back to less than
        ``min_age_s`` seconds before ``now`` (seconds since the epoch; the clock by default). Builds that were
        given up are removed by the same age.
        """
        if keep < 1:
            raise LakeError(f"keep={keep}: at least one version must be kept; set keep_versions to 1 or more")
        at = time.time() if now is None else now
        with self._writing():
            current = self.current_version()
            old = [version for version in self.versions()[:-keep] if version != current]
            removed = [version for version in old if at - (self._versions / version / DATABASE).stat().st_mtime >= min_age_s]
            for version in removed:
                # Renamed first: a removal that is cut short leaves no version with half of its files.
                (self._versions / version).rename(self._versions / f"{_TRASH}{version}")
            for path in self._versions.glob(".*"):
                if path.name.startswith(_TRASH) or (path.name.startswith(_BUILD) and at - _last_change(path) >= min_age_s):
                    shutil.rmtree(path, ignore_errors=True)
        return removed

    def verify(self, version: str) -> Publication:
        """Hash every file of a version again and compare with its manifest.

        Raises:
            LakeError: the version is unknown, or a file is missing, altered or was added.

        """
        publication = self._publication(version)
        recorded, found = publication.manifest["files"], _hashed(publication.folder)
        problems = [
            *(f"{name} is missing" for name in sorted(recorded.keys() - found.keys())),
            *(f"{name} was added" for name in sorted(found.keys() - recorded.keys())),
            *(f"{name} was altered" for name in sorted(recorded.keys() & found.keys()) if recorded[name] != found[name]),
        ]
        if problems:
            raise LakeError(
                f"serving version {version} is not what was published: {'; '.join(problems)}. "
                "Roll back to another version, then build the marts again",
                code="SPC-502",
            )
        return publication

    def _point(self, version: str) -> None:
        if self._link.exists() and not self._link.is_symlink():
            raise LakeError(f"{self._link} is not a symbolic link: move it away, then publish again")
        fresh = self.root / f".current-{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("versions") / version, target_is_directory=True)
        fresh.replace(self._link)
        sync_folder(self.root)

    def _publication(self, version: str) -> Publication:
        folder = self._versions / _checked(version)
        try:
            record = json.loads((folder / MANIFEST).read_bytes())
            return Publication(
                version, folder / DATABASE, datetime.fromisoformat(record["published_at"]), dict(record["rows"]), record
            )
        except FileNotFoundError:
            known = ", ".join(path.parent.name for path in sorted(self._versions.glob(f"*/{MANIFEST}"))) or "none"
            raise LakeError(f"no serving version {version!r} in {self._versions}; published: {known}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(
                f"{folder / MANIFEST} cannot be read ({error!r}): move {folder} away, roll back to another version "
                "and build the marts again",
                code="SPC-502",
            ) from error

    def _build_folder(self, version: str) -> Path:
        return self._versions / f"{_BUILD}{_checked(version)}"

    def _refuse_existing(self, version: str) -> None:
        if (self._versions / _checked(version)).exists():
            raise LakeError(f"serving version {version} is published already and is never changed: publish under a new name")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with locked(self.root / ".lock", self._lock_timeout_s, f"the serving directory {self.root}"):
            make_folder(self._versions)
            yield


def _checked(version: str) -> str:
    if not _VERSION.fullmatch(version) or ".." in version:
        raise LakeError(
            f"{version!r} cannot name a serving version: letters, digits, '_', '.' and '-' only, at most 100, "
            "for example 20261120T101500Z-1a2b3c4d"
        )
    return version


def _accepted(database: Path, version: str) -> dict[str, int]:
    """Rows of each mart of a built database that may be published."""
    if not database.is_file():
        raise LakeError(f"nothing was built at {database}: take the path from build_path, register the lake and run dbt build")
    _refuse_log(database)
    number = marts.storage_number(database)
    if number != STORAGE_NUMBER:
        raise LakeError(
            f"{database} has storage format {number}, but BI tools need {STORAGE_NUMBER} ({marts.STORAGE_VERSION}): "
            "create the file with register_lake before dbt opens it"
        )
    rows = marts.mart_row_counts(database)
    if not rows:
        raise LakeError(f"{database} holds no table in schema {marts.MARTS_SCHEMA}: run dbt build before publishing")
    with duckdb.connect(database, read_only=True) as connection:
        schemas = {
            row[0] for row in connection.execute("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal").fetchall()
        }
        stated = (
            connection.execute(f"SELECT published_version FROM {marts.MARTS_SCHEMA}.meta_publication").fetchall()
            if "meta_publication" in rows
            else [(version,)]
        )
    if marts.LAKE_SCHEMA in schemas:
        raise LakeError(
            f"{database} still holds the schema {marts.LAKE_SCHEMA}: its build failed or is not finished. "
            "See why dbt build stopped, then build the marts again"
        )
    if stated != [(version,)]:
        raise LakeError(
            f"{database} says that it is version {stated}, not {version}: set SPC_PUBLISHED_VERSION={version} for dbt build"
        )
    return rows


def _refuse_log(database: Path) -> None:
    log = database.with_name(f"{database.name}.wal")
    if log.exists():
        raise LakeError(
            f"{log} was left by a build that did not close the database; readers would replay it. "
            "Build the version again from the start",
            code="SPC-501",
        )


def _hashed(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and bytes of every file below a folder, but for the manifest, by its path within it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in files}


def _seal(folder: Path) -> None:
    """Make all files read-only and durable, changed now; folders after what they hold."""
    paths = sorted(folder.rglob("*"), reverse=True)
    for path in paths:
        if path.is_dir():
            sync_folder(path)
            continue
        path.chmod(0o444)
        os.utime(path)
        sync_file(path)
    sync_folder(folder)


def _last_change(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
