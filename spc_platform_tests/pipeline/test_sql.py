"""Databases as sources: a real PostgreSQL and SQLite, compared with what was written into them."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from spc_platform.errors import PermanentError, SiteError, TransientError
from spc_platform.lake.landing import Landing, LandingReport, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources import open_source, sql
from spc_platform.sources.sql import SqlSource, arrow_body
from spc_platform_tests.postgresql import PASSWORD, Server, server
from spc_platform_tests.unit.lake_plant import plant_site

FIELDS = {
    "record_id": "id",
    "revision": "rev",
    "updated_at": "updated_at",
    "is_deleted": "gone",
    "characteristic_id": "characteristic",
    "equipment_id": "station",
    "measured_at": "measured_at",
    "value": "value",
    "unit": "unit",
}
VIEW = Resource(
    "measurements",
    ("raw_measurement",),
    "arrow",
    path="public.v_measurement",
    fields=FIELDS,
    options={"watermark": "updated_at", "key": ["id"]},
)
BEGIN = datetime(2026, 3, 2, 6, tzinfo=UTC)
LIMITS = {"rows": 100, "retries": 0, "connect_s": 2.0, "deadline_s": 5.0}
CREATE = """CREATE TABLE measurement (id text PRIMARY KEY, rev int, updated_at timestamptz, gone bool, characteristic text,
 station text, measured_at timestamptz, value numeric(12,4), unit text, "odd name" text DEFAULT 'x');
CREATE VIEW v_measurement AS SELECT * FROM measurement; GRANT SELECT ON v_measurement TO reader"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def owner(postgresql: Server) -> sa.Engine:
    engine = sa.create_engine(postgresql.owner_url(), poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS measurement CASCADE")
        connection.exec_driver_sql(CREATE)
    return engine


def write(
    owner: sa.Engine, numbers: range, *, rev: int = 1, written: datetime = BEGIN, shift: float = 0.0, **other: Any
) -> None:
    rows = [
        {
            "id": f"m{number:04d}",
            "rev": rev,
            "updated_at": written + timedelta(seconds=number),
            "gone": False,
            "characteristic": "bore",
            "station": "CNC-1",
            "measured_at": BEGIN + timedelta(minutes=3 * number),
            "value": Decimal(number) / 1000 + Decimal(str(shift)),
            "unit": "mm",
            **other,
        }
        for number in numbers
    ]
    names = list(rows[0])
    statement = (
        f"INSERT INTO measurement ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)}) "
        f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in names[1:])}"
    )
    with owner.begin() as connection:
        connection.execute(sa.text(statement), rows)


class Lands:
    """Lands a database again and again, into one folder."""

    def __init__(self, folder: Path, url: str, *resources: Resource, auth: dict[str, Any] | None = None, **limits: Any) -> None:
        self.config = SourceConfig("db", "sql", resources or (VIEW,), base_url=url, auth=auth or {}, limits=LIMITS | limits)
        self.settings = Settings(data=folder)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.landing = Landing(folder / "landing", self.ledger)
        self.site = plant_site(self.config)

    def source(self) -> Any:
        return open_source(self.config, self.settings)

    def land(self) -> LandingReport:
        return land_source(self.source(), self.site, self.landing, self.ledger)

    def rows(self) -> pl.DataFrame:
        days = self.ledger.touched_dates()
        return pl.concat([raw_partition("raw_measurement", day, self.site, self.landing, self.ledger) for day in days])

    def in_force(self) -> dict[str, tuple[int, float, bool]]:
        rows = self.rows().filter("is_current")
        assert rows["record_id"].is_unique().all()
        return {row["record_id"]: (row["revision"], row["value"], row["is_deleted"]) for row in rows.iter_rows(named=True)}


@pytest.fixture
def lands(postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lands:
    monkeypatch.setenv("MES_DB_PASSWORD", PASSWORD)
    return Lands(tmp_path, postgresql.url(), auth={"kind": "password", "secret_env": "MES_DB_PASSWORD"})


def truth(owner: sa.Engine) -> dict[str, tuple[int, float, bool]]:
    with owner.connect() as connection:
        rows = connection.execute(sa.text("SELECT id, rev, value, gone FROM measurement")).all()
    return {row.id: (row.rev, float(row.value), row.gone) for row in rows}


def test_new_corrected_moved_and_deleted_rows_are_those_of_the_database(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(1000))
    report = lands.land()
    assert (report.pages, report.new_records) == (10, 1000)
    assert lands.in_force() == truth(owner)
    later = BEGIN + timedelta(days=5)
    write(owner, range(200, 230), rev=2, written=later, shift=0.5)
    write(owner, range(300, 310), rev=2, written=later, measured_at=BEGIN + timedelta(days=9))
    write(owner, range(400, 405), rev=2, written=later, gone=True)
    write(owner, range(1000, 1100), written=later)
    report = lands.land()
    assert report.new_records == 145
    assert lands.in_force() == truth(owner)
    assert lands.land().new_records == 0


def test_a_row_keeps_its_digits_and_instants(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(1), value=Decimal("25.0001"), measured_at=datetime(2026, 3, 2, 7, 0, 0, 123456, UTC))
    lands.land()
    row = lands.rows().row(0, named=True)
    assert (row["value"], row["measured_at"]) == (25.0001, datetime(2026, 3, 2, 7, 0, 0, 123456, UTC))


def test_a_late_commit_below_the_watermark_is_found_by_the_overlap(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(10, 20))
    lands.config = replace(lands.config, resources=(replace(VIEW, overlap_s=30.0),))
    lands.land()
    write(owner, range(5))
    assert lands.land().new_records == 5
    assert lands.in_force() == truth(owner)


def test_rows_that_are_too_young_wait(lands: Lands, owner: sa.Engine) -> None:
    lands.config = replace(lands.config, resources=(replace(VIEW, options={**VIEW.options, "settle_s": 60.0}),))
    write(owner, range(10), written=datetime.now(UTC) - timedelta(hours=1))
    write(owner, range(10, 20), written=datetime.now(UTC) - timedelta(seconds=20))
    assert lands.land().new_records == 10


def test_a_row_from_the_future_is_landed_and_moves_no_watermark(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(10))
    write(owner, range(10, 11), written=datetime(2099, 1, 1, tzinfo=UTC))
    lands.land()
    write(owner, range(11, 20))
    assert lands.land().new_records == 9
    assert lands.in_force() == truth(owner)
    assert lands.source().has_news(VIEW, lands.ledger.watermark("db", "measurements")) is None


def test_news_are_told_until_they_landed(lands: Lands, owner: sa.Engine) -> None:
    assert lands.source().has_news(VIEW, None) is None
    write(owner, range(3))
    assert lands.source().has_news(VIEW, None) == f"at:{(BEGIN + timedelta(seconds=2)).isoformat()}"
    lands.land()
    assert lands.source().has_news(VIEW, lands.ledger.watermark("db", "measurements")) is None


def test_a_connection_that_is_cut_within_a_walk_loses_nothing(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(1000))
    source = lands.source()
    walk = source.walk(VIEW, None)
    next(walk)
    with owner.begin() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
    with pytest.raises(TransientError):
        list(walk)
    lands.land()
    assert lands.in_force() == truth(owner)


def test_a_walk_sees_one_snapshot(lands: Lands, owner: sa.Engine) -> None:
    write(owner, range(500))
    walk = lands.source().walk(VIEW, None)
    first = next(walk)
    write(owner, range(500), rev=2, written=BEGIN - timedelta(days=1))
    pages = [first, *walk]
    rows = pl.concat([pl.read_ipc_stream(page.body) for page in pages])
    assert (rows.height, rows["rev"].unique().to_list()) == (500, [1])


def test_the_session_may_not_write(lands: Lands, owner: sa.Engine) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql("GRANT INSERT ON measurement TO reader")
    query = "WITH made AS (INSERT INTO measurement (id) VALUES ('z') RETURNING *) SELECT * FROM made"
    lands.config = replace(lands.config, resources=(replace(VIEW, path="", options={"query": query}),))
    with pytest.raises((PermanentError, TransientError)):
        lands.land()
    assert truth(owner) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"path": "public.no_such"}, "SPC-251"),
        ({"fields": FIELDS | {"value": "no_such"}}, "SPC-251"),
        ({"path": "public.measurement"}, "SPC-251"),
        ({"path": 'public.v_measurement"; DROP TABLE measurement; --'}, "SPC-251"),
    ],
    ids=["view", "column", "grant", "injection"],
)
def test_what_the_database_refuses_is_not_tried_again(
    lands: Lands, owner: sa.Engine, change: dict[str, Any], code: str
) -> None:
    write(owner, range(3))
    lands.config = replace(lands.config, resources=(replace(VIEW, **change),))
    with pytest.raises(PermanentError) as refused:
        lands.land()
    assert refused.value.code == code
    assert len(truth(owner)) == 3


def test_a_wrong_password_is_refused_without_showing_it(
    lands: Lands, owner: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MES_DB_PASSWORD", "wrong-canary-99")
    with pytest.raises(PermanentError) as refused:
        lands.land()
    assert refused.value.code == "SPC-250"
    assert "canary" not in str(refused.value) + repr(lands.source())
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_database_that_is_away_opens_the_breaker(tmp_path: Path) -> None:
    lands = Lands(tmp_path, "postgresql+psycopg://reader@127.0.0.1:1/mes", breaker_failures=2)
    for expected in ("SPC-101", "SPC-101", "SPC-102"):
        with pytest.raises(TransientError) as away:
            lands.land()
        assert away.value.code == expected


def test_a_statement_that_takes_too_long_is_ended(lands: Lands, owner: sa.Engine) -> None:
    lands.config = replace(
        lands.config,
        resources=(replace(VIEW, path="", options={"query": "SELECT *, pg_sleep(5) FROM v_measurement"}),),
        limits=LIMITS | {"statement_s": 0.2},
    )
    write(owner, range(1))
    with pytest.raises(TransientError, match="statement timeout"):
        lands.land()


# --- SQLite: a query, local times as text, a historian's epochs


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mes.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE m (id INTEGER, changed TEXT, part TEXT, val REAL)")
        rows = [(n, f"2026-03-02 08:00:{n:02d}", f"P{n}", n / 10) for n in range(10)]
        connection.executemany("INSERT INTO m VALUES (?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE sqlt_data_1 (tagid INTEGER, floatvalue REAL, dataintegrity INTEGER, t_stamp INTEGER)")
        history = [(7, 20.5 + n, 192, 1_772_438_400_000 + 1000 * n) for n in range(10)]
        connection.executemany("INSERT INTO sqlt_data_1 VALUES (?, ?, ?, ?)", history)
    return path


def test_a_row_version_that_shows_after_a_later_one_is_read_again(owner: sa.Engine, lands: Lands) -> None:
    """A transaction draws its number at once and shows it when it ends; seconds say nothing of numbers."""
    view = replace(VIEW, options={"watermark": "rev", "key": ["id"], "overlap": 10})
    lands.config = replace(lands.config, resources=(view,))
    write(owner, range(5), rev=100)
    with owner.connect() as slow:
        slow.exec_driver_sql(
            "INSERT INTO measurement SELECT 'late', 105, updated_at, gone, characteristic, station,"
            " measured_at, value, unit FROM measurement WHERE id = 'm0000'"
        )
        write(owner, range(5, 8), rev=110)
        lands.land()
        assert "late" not in lands.in_force()
        slow.commit()
    lands.land()
    assert lands.in_force()["late"][0] == 105


def test_a_connection_over_a_network_that_swallows_packets_ends_by_itself(lands: Lands) -> None:
    """The kernel gives such a connection up within half a minute; by default it would wait for two hours."""
    with (
        lands.source()._engine.connect() as connection,
        socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno())) as ours,
    ):
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


class Swallower:
    """Passes bytes on; what a server says after ``silent`` was set, or after so many bytes, is acknowledged and lost."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.silent = threading.Event()
        self.silent_after = 10**9
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = [self._listener]
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, origin: socket.socket, target: socket.socket, is_answer: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := origin.recv(4096):
                passed += len(data)
                if not is_answer or (passed < self.silent_after and not self.silent.is_set()):
                    target.sendall(data)

    def close(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def swallower(port: int) -> Iterator[Swallower]:
    proxy = Swallower(port)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(sql, "GRACE_S", 0.5)
    return 1.0


def through(lands: Lands, proxy: Swallower, statement_s: float) -> str:
    """Puts the proxy before the database; gives the URL without it."""
    healthy = lands.config.base_url
    url = f"postgresql+psycopg://reader@127.0.0.1:{proxy.port}/mes?sslmode=disable"
    lands.config = replace(lands.config, base_url=url, limits=LIMITS | {"statement_s": statement_s, "connect_s": statement_s})
    return healthy


def test_a_database_that_falls_silent_within_a_walk_is_given_up_in_time(
    lands: Lands, owner: sa.Engine, postgresql: Server, short: float
) -> None:
    write(owner, range(1000))
    with swallower(postgresql.port) as proxy:
        healthy = through(lands, proxy, short)
        walk = lands.source().walk(VIEW, None)
        assert pl.read_ipc_stream(next(walk).body).height == 100
        proxy.silent.set()
        began = time.monotonic()
        with pytest.raises(TransientError, match=r"no answer within 1\.5 s") as silent:
            list(walk)
        assert time.monotonic() - began < 3.0
        assert silent.value.code == "SPC-140"
    lands.config = replace(lands.config, base_url=healthy)
    lands.land()
    assert lands.in_force() == truth(owner)


@pytest.mark.parametrize("silent_after", [2_200, 6_000, 20_000])
def test_landing_a_database_that_falls_silent_ends_and_the_next_one_converges(
    lands: Lands, owner: sa.Engine, postgresql: Server, short: float, silent_after: int
) -> None:
    """Silent while the connection is made ready, within the first batch, or after some of them."""
    write(owner, range(1000))
    with swallower(postgresql.port) as proxy:
        healthy = through(lands, proxy, short)
        proxy.silent_after = silent_after
        began = time.monotonic()
        with pytest.raises(TransientError):
            lands.land()
        assert time.monotonic() - began < 5.0
    lands.config = replace(lands.config, base_url=healthy)
    lands.land()
    assert lands.in_force() == truth(owner)


def test_a_walk_that_is_given_up_does_not_wait_for_a_silent_database(
    lands: Lands, owner: sa.Engine, postgresql: Server, short: float
) -> None:
    write(owner, range(1000))
    with swallower(postgresql.port) as proxy:
        through(lands, proxy, short)
        walk = lands.source().walk(VIEW, None)
        next(walk)
        proxy.silent.set()
        began = time.monotonic()
        walk.close()
        assert time.monotonic() - began < 3.0


def test_a_slow_consumer_keeps_its_connection(lands: Lands, owner: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "GRACE_S", 0.1)
    lands.config = replace(lands.config, limits=LIMITS | {"statement_s": 0.3})
    write(owner, range(200))
    walk = lands.source().walk(VIEW, None)
    pages = [next(walk)]
    time.sleep(0.6)
    assert len([*pages, *walk]) == 2


def test_a_statement_of_sqlite_that_takes_too_long_is_interrupted(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "GRACE_S", 0.2)
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT max(id) AS id FROM n"
    resource = replace(VIEW, path="", fields={"record_id": "id"}, options={"query": endless})
    lands = Lands(tmp_path / "data", f"sqlite:///{database}", resource, statement_s=0.2)
    with pytest.raises(TransientError, match="no answer within") as ended:
        lands.land()
    assert ended.value.code == "SPC-140"


def test_whether_there_are_news_is_asked_once(lands: Lands, caplog: pytest.LogCaptureFixture) -> None:
    lands.config = replace(
        lands.config, base_url="postgresql+psycopg://reader@127.0.0.1:1/mes", limits=LIMITS | {"retries": 3, "backoff_s": 0.01}
    )
    source = lands.source()
    asked = []
    source._engine.dialect.connect, connect = (
        lambda *a, **k: (asked.append(1), connect(*a, **k))[1],
        source._engine.dialect.connect,
    )
    with pytest.raises(TransientError):
        source.has_news(VIEW, None)
    assert len(asked) == 1
    with pytest.raises(TransientError):
        list(source.walk(VIEW, None))
    assert len(asked) == 5


def test_local_times_of_sqlite_are_read_in_the_sources_zone(tmp_path: Path, database: Path) -> None:
    resource = Resource(
        "measurements",
        ("raw_measurement",),
        "arrow",
        fields={"record_id": "{part}-{id}", "measured_at": "changed", "updated_at": "changed", "value": "val"},
        zone="Europe/Berlin",
        overlap_s=3.0,
        options={
            "query": "SELECT id, changed, part, val FROM m WHERE val >= 0;",
            "watermark": "changed",
            "key": ["id"],
            "constants": {"characteristic_id": "bore", "equipment_id": "CNC-1", "unit": "mm"},
        },
    )
    lands = Lands(tmp_path / "data", f"sqlite:///{database}", resource, rows=4)
    assert lands.land().pages == 3
    row = lands.rows().filter(pl.col("record_id") == "P3-3").row(0, named=True)
    assert (row["measured_at"], row["value"], row["unit"]) == (datetime(2026, 3, 2, 7, 0, 3, tzinfo=UTC), 0.3, "mm")
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO m VALUES (99, '2026-03-02 08:00:07', 'P99', 9.9)")
    assert lands.land().new_records == 1
    assert lands.ledger.watermark("db", "measurements") == "str:2026-03-02 08:00:09"


def test_a_historian_over_sql_keeps_its_epochs(tmp_path: Path, database: Path) -> None:
    resource = Resource(
        "history",
        ("raw_telemetry",),
        "arrow",
        path="sqlt_data_1",
        fields={"record_id": "{tagid}-{t_stamp}", "stream_id": "tagid", "observed_at": "t_stamp", "value": "floatvalue"},
        mutable=False,
        options={
            "watermark": "t_stamp",
            "epochs": {"t_stamp": "ms"},
            "filter": {"dataintegrity": "192"},
            "constants": {"unit": "degC"},
        },
    )
    lands = Lands(tmp_path / "data", f"sqlite:///{database}", resource)
    lands.land()
    (day,) = lands.ledger.touched_dates()
    rows = raw_partition("raw_telemetry", day, lands.site, lands.landing, lands.ledger).sort("observed_at")
    assert rows["observed_at"][0] == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert rows["value"].to_list() == [20.5 + n for n in range(10)]
    assert lands.ledger.watermark("db", "history") == "int:1772438409000"


@pytest.mark.parametrize(
    ("given", "resource", "message"),
    [
        ({"base_url": "not a url"}, {}, "no database URL"),
        ({"base_url": "postgresql+psycopg://u:canary@h/d"}, {}, "holds a password"),
        ({"base_url": "nodb://h/d"}, {}, "no database 'nodb'"),
        ({"base_url": "mssql+pyodbc://u@h/d"}, {}, r"spc_platform\[mssql\]"),
        ({"base_url": "oracle+oracledb://u@h/d"}, {}, r"spc_platform\[oracle\]"),
        ({"limits": {"row": 5}}, {}, "unknown key limits.row"),
        ({"pagination": {"kind": "cursor"}}, {}, "pagination does not belong"),
        ({}, {"options": {"watermrk": "x"}}, "unknown key"),
        ({}, {"path": "", "options": {}}, "one of them"),
        ({}, {"path": "", "options": {"query": "SELECT 1; DROP TABLE m"}}, "several statements"),
        ({}, {"format": "json_records"}, "landed as Arrow"),
        ({}, {"options": {"key": ["id"]}}, "name options.watermark too"),
    ],
)
def test_options_that_are_wrong_are_refused(
    tmp_path: Path, given: dict[str, Any], resource: dict[str, Any], message: str
) -> None:
    config = SourceConfig("db", "sql", (replace(VIEW, **resource),), **{"base_url": "sqlite://", **given})
    with pytest.raises(SiteError, match=message) as refused:
        SqlSource(config, Settings(data=tmp_path))
    assert "canary" not in str(refused.value)


def test_values_without_an_arrow_type_are_text() -> None:
    body = arrow_body(["a", "b"], [(Decimal("1.50"), {"x": 1}), (None, "text"), (Decimal("2"), 3)])
    frame = pl.read_ipc_stream(body)
    assert frame["b"].to_list() == ["{'x': 1}", "text", "3"]
    assert frame["a"].to_list() == [Decimal("1.50"), None, Decimal("2.00")]
