"""The lake: tables as immutable, hash-named Parquet files that a manifest names.

``<root>/<table>/production_date=YYYY-MM-DD/`` (or ``<root>/<table>/all/``) holds ``manifest.json`` and the file
that it names. A partition is committed, not written: file first, manifest by rename second, so a reader sees the
old partition or the new one. The same rows give the same bytes, and an unchanged partition is not written again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import spc_platform
from spc_platform.contracts import LAKE_TABLES, Table
from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.files import (
    TEMPORARY,
    Checkpoint,
    below,
    file_sha256,
    locked,
    make_folder,
    no_checkpoint,
    older_than,
    publish,
    sha256,
    sync_folder,
    temporary_path,
    write_durably,
)
from spc_platform.lake.ledger import Ledger

MANIFEST = "manifest.json"
ROW_GROUP_ROWS = 100_000
_LOCK = ".lock"
_PARTITION = re.compile(r"production_date=(\d{4}-\d{2}-\d{2})")
_UNPARTITIONED = "all"
_READ_TRIES = 3


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a partition holds: the one file, and what it was made from.

    ``contract`` is the fingerprint of the columns and dtypes, ``inputs`` the sha256 of each input by name,
    ``previous`` the sha256 that the partition had before (empty for the first).
    """

    table: str
    production_date: date | None
    file: str
    sha256: str
    rows: int
    bytes: int
    contract: str
    inputs: dict[str, str]
    writer: dict[str, str]
    previous: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of a commit: ``changed`` is False when the partition held these rows already."""

    table: str
    production_date: date | None
    sha256: str
    rows: int
    bytes: int
    changed: bool
    path: Path


class Lake:
    """Tables under ``root``, by their contracts. With a ``ledger`` every commit is noted there as well."""

    def __init__(
        self,
        root: Path,
        ledger: Ledger | None = None,
        *,
        contracts: Mapping[str, Table] = LAKE_TABLES,
        lock_timeout_s: float = 600.0,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.root = Path(root)
        self._ledger = ledger
        self._contracts = contracts
        self._lock_timeout_s = lock_timeout_s
        self._checkpoint = checkpoint
        self._verified: dict[Path, tuple[int, int, str]] = {}

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})"

    # --- writing

    def commit(
        self, table: str, frame: pl.DataFrame, production_date: date | None = None, inputs: Mapping[str, str] | None = None
    ) -> Commit:
        """Make ``frame`` the whole content of a partition, atomically and durably.

        The frame is brought into the contract's columns, dtypes and order first. The file that was there
        stays until ``sweep``. Raises ContractError when the frame does not fit the contract or holds rows of
        another production date, LakeError when another run holds the partition too long or the disk refuses.
        """
        contract = self._contract(table)
        folder = self._folder(table, production_date)
        rows = _conformed(contract, frame, production_date)
        make_folder(folder)
        with locked(folder / _LOCK, self._lock_timeout_s, f"partition {_name(table, production_date)}"):
            before = self._manifest_to_replace(folder, table, production_date)
            digest, path = self._write_file(folder, contract, rows)
            changed = before is None or before.sha256 != digest
            after = Manifest(
                table=table,
                production_date=production_date,
                file=path.name,
                sha256=digest,
                rows=rows.height,
                bytes=path.stat().st_size,
                contract=fingerprint(contract),
                inputs=dict(sorted((inputs or {}).items())),
                writer={"polars": pl.__version__, "pyarrow": pa.__version__, "spc_platform": spc_platform.__version__},
                previous="" if before is None else before.sha256 if changed else before.previous,
            )
            if after != before:
                self._write_manifest(folder, after)
            if self._ledger is not None:
                self._ledger.record_commit(table, production_date, digest, rows.height)
                self._checkpoint("commit:noted")
        return Commit(table, production_date, digest, after.rows, after.bytes, changed, path)

    def _manifest_to_replace(self, folder: Path, table: str, production_date: date | None) -> Manifest | None:
        """The manifest before a commit; an unreadable one counts as none, since the commit mends it."""
        try:
            return self._read_manifest(folder, table, production_date)
        except LakeError:
            return None

    def _write_file(self, folder: Path, contract: Table, rows: pl.DataFrame) -> tuple[str, Path]:
        """Write the rows under the name of their hash; a file that is there and whole is kept."""
        temporary = temporary_path(folder)
        try:
            _write_parquet(temporary, contract, rows, self._checkpoint)
            digest = file_sha256(temporary)
            path = folder / f"{digest}.parquet"
            if path.exists() and file_sha256(path) == digest:
                temporary.unlink()
            else:
                publish(temporary, path, self._checkpoint, "parquet")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise LakeError(
                f"cannot write into {folder}: {error}; the partition is unchanged. "
                "Check free space and permissions, then run again"
            ) from error
        self._checkpoint("parquet:durable")
        return digest, path

    def _write_manifest(self, folder: Path, manifest: Manifest) -> None:
        write_durably(folder / MANIFEST, _manifest_body(manifest), self._checkpoint, "manifest")
        self._checkpoint("manifest:durable")

    def sweep(self, older_than_s: float) -> list[Path]:
        """Remove files that no manifest names and temporary files, once nobody can still be reading them.

        A replaced file goes when both it and its partition's manifest are older than ``older_than_s``;
        a partition that is being written is left for the next time.
        """
        swept = []
        now = time.time()
        for folder in sorted(path for path in self.root.glob("*/*") if path.is_dir()):
            try:
                with locked(folder / _LOCK, 0.0, f"partition {folder}"):
                    swept.extend(_sweep_folder(folder, older_than_s, now))
            except LakeError:
                continue
        return swept

    # --- reading

    def read(self, table: str, production_date: date | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of a partition; of an unpartitioned table, or of all dates, when no date is given.

        A partition that was never committed gives the contract's empty frame. Raises LakeError when the file
        is missing or altered.
        """
        if production_date is None and self._contract(table).partitioned:
            return self.read_dates(table, self.dates(table), columns)
        return self._collect(table, [self._folder_and_date(table, production_date)], columns)

    def read_kept(self, table: str) -> pl.DataFrame:
        """The rows of an append-only table, also those written under an earlier contract that lacked nullable columns.

        Approved rows cannot be made again, so a contract that only grew must not lock them out: the new columns are null.
        Raises LakeError SPC-506 when the file differs in any other way.
        """
        contract = self._contract(table)
        folder = self._folder(table, None)
        manifest = self._read_manifest(folder, table, None)
        if manifest is None or manifest.contract == fingerprint(contract):
            return self.read(table)
        path = folder / manifest.file
        if file_sha256(path) != manifest.sha256:
            raise LakeError(f"{path} was altered: {_remedy(table, None)}", code="SPC-502")
        frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
        added = [column for column in contract.columns if column.name not in frame.columns]
        same = all(frame.schema[name] == contract.schema[name] for name in frame.columns if name in contract.by_name)
        if not same or not all(column.nullable for column in added) or not set(frame.columns) <= set(contract.names):
            raise _another_contract(table, None)
        return contract.conform(frame.with_columns(pl.lit(None, dtype=column.dtype).alias(column.name) for column in added))

    def read_dates(self, table: str, dates: Iterable[date], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of several production dates in date order; dates never committed have no rows."""
        return self._collect(table, [self._folder_and_date(table, day) for day in sorted(set(dates))], columns)

    def scan(self, table: str, dates: Iterable[date] | None = None) -> pl.LazyFrame:
        """A lazy frame over the verified files of the dates (all when None); no rows where nothing was committed."""
        contract = self._contract(table)
        paths = self.paths(table, dates)
        if not paths:
            return contract.empty().lazy()
        return pl.scan_parquet(paths, hive_partitioning=False, glob=False, schema=contract.schema)

    def paths(self, table: str, dates: Iterable[date] | None = None) -> list[Path]:
        """The verified files of the dates (all when None), in date order; [] where nothing was committed."""
        if self._contract(table).partitioned:
            days: list[date | None] = [*(self.dates(table) if dates is None else sorted(set(dates)))]
        else:
            days = [None]
        found = (self._current(table, day) for day in days)
        return [path for path in found if path is not None]

    def dates(self, table: str) -> list[date]:
        """Production dates of the table that were committed, oldest first."""
        self._contract(table)
        folders = below(self.root, table).glob("production_date=*")
        matches = (_PARTITION.fullmatch(folder.name) for folder in folders if (folder / MANIFEST).exists())
        return sorted(date.fromisoformat(match[1]) for match in matches if match)

    def has(self, table: str, production_date: date | None = None) -> bool:
        """True when the partition was committed, were it without rows."""
        return (self._folder(table, production_date) / MANIFEST).exists()

    def manifest(self, table: str, production_date: date | None = None) -> Manifest | None:
        """The partition's manifest, or None when it was never committed. Raises LakeError when it cannot be read."""
        return self._read_manifest(self._folder(table, production_date), table, production_date)

    def verify(self) -> list[str]:
        """Hash every file that a manifest names; gives one sentence per problem, none when the lake is whole."""
        self._verified.clear()
        problems = []
        for table, contract in self._contracts.items():
            days: list[date | None] = [*self.dates(table)] if contract.partitioned else [None]
            for day in days:
                try:
                    self._current(table, day)
                except LakeError as error:
                    problems.append(str(error))
        return problems

    def _collect(
        self, table: str, partitions: Iterable[tuple[Path, date | None]], columns: Sequence[str] | None
    ) -> pl.DataFrame:
        contract = self._contract(table)
        names = contract.names if columns is None else list(columns)
        paths = [path for _, day in partitions if (path := self._current(table, day)) is not None]
        if not paths:
            return contract.empty().select(names)
        return pl.read_parquet(paths, columns=names, hive_partitioning=False, glob=False).select(
            pl.col(name).cast(contract.schema[name]) for name in names
        )

    def _current(self, table: str, production_date: date | None) -> Path | None:
        """The partition's file, verified against its manifest; None when it was never committed."""
        folder = self._folder(table, production_date)
        for attempt in range(_READ_TRIES):
            manifest = self._read_manifest(folder, table, production_date)
            if manifest is None:
                return None
            path = folder / manifest.file
            try:
                self._verify_file(path, manifest)
            except FileNotFoundError as error:
                if attempt + 1 == _READ_TRIES:
                    raise LakeError(f"{path} is missing: {_remedy(table, production_date)}", code="SPC-501") from error
            else:
                return path
        return None

    def _verify_file(self, path: Path, manifest: Manifest) -> None:
        """Hash the file unless this process did since it was last modified."""
        if manifest.contract != fingerprint(self._contracts[manifest.table]):
            raise _another_contract(manifest.table, manifest.production_date)
        state = path.stat()
        seen = (state.st_size, state.st_mtime_ns, manifest.sha256)
        if self._verified.get(path) == seen:
            return
        if file_sha256(path) != manifest.sha256:
            raise LakeError(f"{path} was altered: {_remedy(manifest.table, manifest.production_date)}", code="SPC-502")
        self._verified[path] = seen

    def _read_manifest(self, folder: Path, table: str, production_date: date | None) -> Manifest | None:
        path = folder / MANIFEST
        try:
            manifest = _manifest(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{path} cannot be read ({error}): {_remedy(table, production_date)}", code="SPC-502") from error
        is_own = (manifest.table, manifest.production_date, manifest.file) == (
            table,
            production_date,
            f"{manifest.sha256}.parquet",
        )
        if not is_own or not re.fullmatch("[0-9a-f]{64}", manifest.sha256):
            raise LakeError(f"{path} names another partition's file: {_remedy(table, production_date)}", code="SPC-502")
        return manifest

    # --- places

    def _contract(self, table: str) -> Table:
        try:
            return self._contracts[table]
        except KeyError:
            known = ", ".join(sorted(self._contracts))
            raise LakeError(f"the lake has no table {table!r}; its tables are {known}", code="SPC-507") from None

    def _folder(self, table: str, production_date: date | None) -> Path:
        contract = self._contract(table)
        if contract.partitioned != (production_date is not None):
            said = "needs a production date" if contract.partitioned else "has no production dates"
            raise LakeError(f"table {table!r} {said}, got {production_date}", code="SPC-507")
        if production_date is None:
            return below(self.root, table, _UNPARTITIONED)
        return below(self.root, table) / f"production_date={production_date.isoformat()}"

    def _folder_and_date(self, table: str, production_date: date | None) -> tuple[Path, date | None]:
        return self._folder(table, production_date), production_date


def _another_contract(table: str, production_date: date | None) -> LakeError:
    name = _name(table, production_date)
    text = f"{name} was written under another contract of {table!r}: materialize the partition again"
    return LakeError(text, code="SPC-506")


def fingerprint(contract: Table) -> str:
    """SHA-256 over the contract's column names and dtypes."""
    return sha256("\n".join(f"{name} {dtype!r}" for name, dtype in contract.schema.items()).encode())


def _conformed(contract: Table, frame: pl.DataFrame, production_date: date | None) -> pl.DataFrame:
    try:
        rows = contract.conform(frame)
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{_name(contract.name, production_date)} does not fit its contract: {error}") from error
    if production_date is not None and not (rows["production_date"] == production_date).all():
        others = rows.filter(pl.col("production_date") != production_date)["production_date"].unique().sort().to_list()
        raise ContractError(
            f"{_name(contract.name, production_date)} was given rows of {others[:5] or 'no date'}; "
            "commit each date's rows alone"
        )
    return rows


def _write_parquet(path: Path, contract: Table, rows: pl.DataFrame, checkpoint: Checkpoint) -> None:
    """Write Parquet that depends on the rows alone: no times, no paths, chunks joined, dictionaries in order of appearance."""
    content = rows.rechunk().to_arrow().combine_chunks()
    dictionary = [column.name for column in contract.columns if column.dictionary]
    delta = {column.name: "DELTA_BINARY_PACKED" for column in contract.columns if isinstance(column.dtype, pl.Datetime)}
    writer = pq.ParquetWriter(
        path,
        content.schema,
        version="2.6",
        compression="zstd",
        compression_level=1,
        use_dictionary=dictionary,
        column_encoding=delta,
        store_schema=False,
        write_page_checksum=True,
    )
    with writer:
        writer.write_table(content, row_group_size=ROW_GROUP_ROWS)
        checkpoint("parquet:half-written")
    checkpoint("parquet:written")


def _sweep_folder(folder: Path, older_than_s: float, now: float) -> list[Path]:
    manifest = folder / MANIFEST
    if manifest.exists() and not older_than(manifest, older_than_s, now):
        return []
    try:
        current = _manifest(manifest.read_bytes()).file if manifest.exists() else ""
    except (ValueError, KeyError, TypeError):
        return []
    swept = []
    for path in sorted(folder.iterdir()):
        is_file = path.suffix == ".parquet" or path.name.startswith(TEMPORARY)
        if is_file and path.name != current and older_than(path, older_than_s, now):
            path.unlink()
            swept.append(path)
    if swept:
        sync_folder(folder)
    return swept


def _manifest_body(manifest: Manifest) -> bytes:
    day = None if manifest.production_date is None else manifest.production_date.isoformat()
    return json.dumps({**asdict(manifest), "production_date": day}, indent=1, sort_keys=True).encode() + b"\n"


def _manifest(body: bytes) -> Manifest:
    """Raises ValueError, KeyError or TypeError when the body is no manifest."""
    said = json.loads(body)
    day = said["production_date"]
    return Manifest(**{**said, "production_date": None if day is None else date.fromisoformat(day)})


def _name(table: str, production_date: date | None) -> str:
    return table if production_date is None else f"{table} of {production_date.isoformat()}"


def _remedy(table: str, production_date: date | None) -> str:
    return f"materialize {_name(table, production_date)} again (its inputs are kept), or restore the file from a backup"
