"""The working database of the marts: what dbt reads, and what is left of it once dbt is done.

Before the build, ``register_lake`` puts a schema ``lake`` of views over exactly the Parquet files that
the manifests name, a schema ``site`` with the plant as data, and a schema ``erp`` with the outbox, into a fresh
DuckDB file. After the build, ``drop_lake`` takes them away, so that the published file stands alone. What a mart contains is
decided in the dbt project, not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from spc_platform.contracts import LAKE_TABLES, Table
from spc_platform.contracts.order_summary import ERP_OUTBOX
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.errors import LakeError

STORAGE_VERSION = "v1.2.0"
"""Storage format of every database that we write: the oldest that BI tools embed (DuckDB 1.2)."""

CATALOG = "spc"
LAKE_SCHEMA, SITE_SCHEMA, ERP_SCHEMA, STAGING_SCHEMA, MARTS_SCHEMA = "lake", "site", "erp", "staging", "marts"

_SQL_TYPE: dict[object, str] = {
    pl.String: "VARCHAR",
    pl.Int64: "BIGINT",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.Date: "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}


def sql_type(dtype: object) -> str:
    """Return the DuckDB type of a contract's dtype.

    >>> sql_type(pl.Datetime("us", "UTC"))
    'TIMESTAMP WITH TIME ZONE'
    """
    try:
        return _SQL_TYPE[dtype]
    except KeyError:
        raise LakeError(f"no SQL type for contract dtype {dtype}: add it to spc_platform.lake.marts") from None


def register_lake(
    database: Path,
    files: Mapping[str, Sequence[Path]],
    site_tables: Mapping[str, pl.DataFrame],
    outbox: pl.DataFrame | None = None,
) -> None:
    """Create a fresh DuckDB file with the views and tables that the dbt project reads.

    Args:
        database: file to create; its name must be ``spc.duckdb``, because the catalog is named after it.
        files: lake table -> its Parquet files, as the manifests name them. Tables that are not named, or
            have no files, become empty tables with the types of their contract.
        site_tables: site table -> frame by its contract in ``contracts.site``.
        outbox: what became of the summaries for the ERP, ERP_OUTBOX; none where the site has no ERP.

    Raises:
        LakeError: the file exists, is misnamed, a Parquet file is missing, or a table has no contract.

    """
    _check(database, files, site_tables)
    database.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH {_text(str(database))} AS {CATALOG} (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.execute("BEGIN")
        connection.execute(f"CREATE SCHEMA {CATALOG}.{LAKE_SCHEMA}")
        connection.execute(f"CREATE SCHEMA {CATALOG}.{SITE_SCHEMA}")
        for table in LAKE_TABLES.values():
            connection.execute(_lake_relation(table, files.get(table.name, ())))
        for table in SITE_TABLES.values():
            _keep(connection, f"{SITE_SCHEMA}.{table.name}", table, site_tables.get(table.name, table.empty()))
        connection.execute(f"CREATE SCHEMA {CATALOG}.{ERP_SCHEMA}")
        _keep(connection, f"{ERP_SCHEMA}.outbox", ERP_OUTBOX, ERP_OUTBOX.empty() if outbox is None else outbox)
        connection.execute("COMMIT")
        connection.execute(f"DETACH {CATALOG}")


def _keep(connection: duckdb.DuckDBPyConnection, name: str, table: Table, frame: pl.DataFrame) -> None:
    connection.register("kept_frame", frame.select(table.names).to_arrow())
    connection.execute(f"CREATE TABLE {CATALOG}.{name} AS SELECT {_casts(table)} FROM kept_frame")
    connection.unregister("kept_frame")


def drop_lake(database: Path) -> None:
    """Drop the schemas lake, site, erp and staging from a built database, and fold its log into the file.

    Raises:
        LakeError: the file is missing, or a view is left in the marts (it would die with the lake).

    """
    with _opened(database) as connection:
        for schema in (STAGING_SCHEMA, LAKE_SCHEMA, SITE_SCHEMA, ERP_SCHEMA):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        left = connection.execute("SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        if left:
            raise LakeError(
                f"{database}: views are left after the lake was dropped: {', '.join(row[0] for row in left)}; "
                "materialize them as tables, so that the published file stands alone"
            )
        connection.execute("CHECKPOINT")


def mart_row_counts(database: Path) -> dict[str, int]:
    """Rows of each mart by name, read from the file itself."""
    with _opened(database, read_only=True) as connection:
        return {name: _scalar(connection, f'SELECT count(*) FROM {MARTS_SCHEMA}."{name}"') for name in _mart_names(connection)}


def export_parquet(database: Path, folder: Path) -> list[Path]:
    """Write each mart as ``<name>.parquet`` into the folder, for tools that do not read DuckDB."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with _opened(database, read_only=True) as connection:
        for name in _mart_names(connection):
            path = folder / f"{name}.parquet"
            connection.execute(f'COPY (FROM {MARTS_SCHEMA}."{name}") TO {_text(str(path))} (FORMAT parquet, COMPRESSION zstd)')
            paths.append(path)
    return paths


def storage_number(database: Path) -> int:
    """Storage format number in the file's header; 65 is what DuckDB 1.2 writes, and newer ones read.

    The header is an 8-byte checksum, the letters DUCK and the number as 64 bits, little endian.
    """
    with database.open("rb") as file:
        header = file.read(20)
    if header[8:12] != b"DUCK":
        raise LakeError(f"{database} is not a DuckDB file: build it again with a run of the marts")
    return int.from_bytes(header[12:20], "little")


def _check(database: Path, files: Mapping[str, Sequence[Path]], site_tables: Mapping[str, pl.DataFrame]) -> None:
    if database.name != f"{CATALOG}.duckdb":
        raise LakeError(f"{database}: the marts must be built in a file named {CATALOG}.duckdb; readers know the catalog by it")
    for path in (database, database.with_name(f"{database.name}.wal")):
        if path.exists():
            raise LakeError(f"{path} exists: the marts are built in a fresh directory; take one from Serving.build_path")
    unknown = sorted({*files} - {*LAKE_TABLES}) + sorted({*site_tables} - {*SITE_TABLES})
    if unknown:
        raise LakeError(f"no contract for {', '.join(unknown)}: tables are declared in spc_platform.contracts")
    missing = [path for paths in files.values() for path in paths if not path.is_file()]
    if missing:
        raise LakeError(
            f"{len(missing)} files of the lake are missing, the first is {missing[0]}: "
            "materialize its partition again, then the marts"
        )


def _lake_relation(table: Table, paths: Sequence[Path]) -> str:
    name = f"{CATALOG}.{LAKE_SCHEMA}.{table.name}"
    if not paths:
        columns = ", ".join(f'"{column.name}" {sql_type(column.dtype)}' for column in table.columns)
        return f"CREATE TABLE {name} ({columns})"
    listed = ", ".join(_text(str(path.resolve())) for path in sorted(paths))
    return f"CREATE VIEW {name} AS SELECT {_casts(table)} FROM read_parquet([{listed}], hive_partitioning = false)"


def _casts(table: Table) -> str:
    """Columns by name and with the contract's types: a file of another shape fails here, not in a chart."""
    return ", ".join(f'CAST("{column.name}" AS {sql_type(column.dtype)}) AS "{column.name}"' for column in table.columns)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _mart_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    query = "SELECT table_name FROM duckdb_tables() WHERE schema_name = ? ORDER BY table_name"
    return [row[0] for row in connection.execute(query, [MARTS_SCHEMA]).fetchall()]


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _opened(database: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    if not database.is_file():
        raise LakeError(f"{database} is missing: register the lake and run dbt build before")
    with duckdb.connect(database, read_only=read_only) as connection:
        yield connection
