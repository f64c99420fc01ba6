"""Views and queries of a database: records since a watermark, read by a server-side cursor in Arrow batches.

``base_url`` is a SQLAlchemy URL without password, e.g. ``postgresql+psycopg://reader@mes-db/mes``, ``sqlite:////data/mes.db``,
``mssql+pyodbc://reader@host/db?driver=ODBC+Driver+18+for+SQL+Server``, ``oracle+oracledb://reader@host/?service_name=MES``.

``auth``
    ``kind = "none"``, or ``password`` with ``secret_env``, the variable that holds it, and ``user_env`` where the user is
    not in the URL. ``connect`` is a table of further arguments of the driver, such as ``sslmode = "verify-full"``.
``limits``
    ``rows = 5000`` of a page; ``statement_s = 60.0`` of a statement, after which and 5 s more a connection that is silent is
    cut; ``connect_s = 10.0``; ``retries = 3`` of connecting,
    spaced by ``backoff_s = 0.5`` to ``backoff_max_s = 10.0`` within ``deadline_s = 60.0``; ``breaker_failures = 5``,
    ``breaker_reset_s = 60.0``; ``future_s = 300.0``: a row later than now by more is landed, but moves no watermark.

Each resource reads ``path``, a view as ``schema.view``, or ``options.query``. Its further options:

- ``watermark``: column that grows with every write (time, number or row version); ``key``: columns that tell apart rows
  of one watermark, so that the order is whole. Without ``watermark`` every walk reads everything.
- ``epochs``: {column: unit} for times that are numbers since 1970 (s, ms, us, ns).
- ``settle_s``: rows younger than this are left for the next walk, since a transaction may still add to them.
- those of tables of text: ``constants``, ``filter``, ``number_formats`` (``tabular``).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pybreaker
from pydantic import SecretStr

from spc_platform.errors import PermanentError, SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.auth import secret_from_environment
from spc_platform.sources.base import Page
from spc_platform.sources.figures import each_timed, timed_request
from spc_platform.sources.http import redact
from spc_platform.sources.resilience import STATE_FILE, Backoff, Deadline, RetriableError, StateFile, circuit_breaker, retrying
from spc_platform.sources.rest_config import checked
from spc_platform.sources.sql_query import Value, as_said, earlier, is_later, query_of, watermark_text, watermark_value
from spc_platform.sources.sql_watchdog import Watchdog

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Result

logger = logging.getLogger(__name__)
_OPENING: ContextVar[Watchdog | None] = ContextVar("watchdog of the connection that is being opened", default=None)

AUTH: dict[str, Any] = {"kind": "none", "secret_env": "", "user_env": "", "connect": {}}
LIMITS: dict[str, Any] = {
    "rows": 5000,
    "statement_s": 60.0,
    "connect_s": 10.0,
    "retries": 3,
    "backoff_s": 0.5,
    "backoff_max_s": 10.0,
    "deadline_s": 60.0,
    "breaker_failures": 5,
    "breaker_reset_s": 60.0,
    "future_s": 300.0,
}
GRACE_S = 5.0
"""A server that ends a statement by itself has this long to tell us so before its connection is cut."""
_PLAIN = (str, int, float, bool, Decimal, datetime, date, bytes, type(None))
_REFUSED = ("28", "42", "0A", "3D", "3F")
"""Classes of SQLSTATE that trying again cannot help: authorisation, syntax or access, unsupported, no database, no schema."""
_REFUSED_TEXTS = ("no such table", "no such column", "syntax error", "login failed", "ora-00942", "ora-01017", "ora-00904")


class SqlSource:
    """A source that answers queries. Raises SiteError for options that are wrong or a driver that is not installed."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        self.config = config
        name = config.source_id
        auth = checked(name, "auth", config.auth, AUTH)
        self._limits = checked(name, "limits", config.limits, LIMITS)
        if self._limits["rows"] == 0:
            raise SiteError(f"source {name!r}: limits.rows is 0; it must be greater", code="SPC-440")
        if config.pagination:
            raise SiteError(f"source {name!r}: pagination does not belong to a database; remove it", code="SPC-440")
        self._queries = {resource.name: query_of(name, resource) for resource in config.resources}
        self._secrets: list[SecretStr] = []
        self._engine = self._make_engine(settings.source_url.get(name, config.base_url), auth)
        self._target = f"{name} at {self._engine.url.render_as_string(hide_password=True)}"
        state = StateFile(settings.data / STATE_FILE)
        failures = max(1, int(self._limits["breaker_failures"]))
        self._breaker = circuit_breaker(state, self._target, failures, self._limits["breaker_reset_s"], name)
        self._reached: dict[str, Value | None] = {}

    def __repr__(self) -> str:
        return f"SqlSource({self._target})"

    def close(self) -> None:
        """Closes idle connections."""
        self._engine.dispose()

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of all rows written since ``watermark`` less ``resource.overlap_s``, oldest first, in one snapshot.

        Raises TransientError when the database is away, PermanentError when it refuses us or the query.
        """
        self._reached[resource.name] = before = watermark_value(watermark)
        yield from self._pages(resource, earlier(before, resource.overlap_s))

    def walk_window(self, resource: Resource, since: datetime | None) -> Iterator[Page]:
        """Pages of all rows written since an instant, whatever was read before; of everything where watermarks are no times."""
        query = self._queries[resource.name]
        newest = None
        if since is not None and query.watermark is not None:
            with self._opened(resource) as connection:
                newest = self._newest(resource, connection, None)
        yield from self._pages(resource, as_said(newest, since, resource.zone) if since is not None else None)

    def next_watermark(self, resource: Resource) -> str | None:
        """The newest credible watermark of the last walk, or the one before it."""
        return watermark_text(self._reached.get(resource.name))

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """The newest watermark beyond the given one, or None. One short query, one attempt to connect."""
        query, before = self._queries[resource.name], watermark_value(watermark)
        if query.watermark is None:
            # Whatever it holds would be read anew; that it answers at all is still to be found out.
            with self._opened(resource, attempts=1):
                pass
            return f"unmarked:{datetime.now(UTC).isoformat()}"
        with self._opened(resource, attempts=1) as connection:
            newest = self._newest(resource, connection, before)
        latest = datetime.now(UTC) + timedelta(seconds=self._limits["future_s"])
        return None if newest is None or is_later(newest, latest, resource.zone) else watermark_text(newest)

    def _hidden(self) -> list[str]:
        """What no message may show."""
        return [each.get_secret_value() for each in self._secrets]

    def _pages(self, resource: Resource, since: Value | None) -> Iterator[Page]:
        query = self._queries[resource.name]
        with self._opened(resource) as connection:
            statement = query.rows(since, self._until(resource, connection))
            with self._bounded(resource, connection):
                streamed = connection.execution_options(stream_results=True, yield_per=int(self._limits["rows"]))
                result = streamed.execute(statement)
            names = list(result.keys())
            place = names.index(query.watermark) if query.watermark in names else None
            for number, rows in enumerate(each_timed(self._batches(resource, connection, result)), start=1):
                seen = [] if place is None else [row[place] for row in rows]
                yield Page(
                    source_id=self.config.source_id,
                    resource=resource.name,
                    body=arrow_body(names, rows),
                    origin=redact(f"{query.shown} since {since} page {number}", self._hidden()),
                    position=watermark_text(seen[-1] if seen else None) or str(number),
                    received_at=datetime.now(UTC),
                )
                # Reached only when the consumer asks on, so after it is done with the page.
                self._reach(resource, seen)

    def _batches(self, resource: Resource, connection: Connection, result: Result[Any]) -> Iterator[Sequence[Sequence[Any]]]:
        """What the cursor fetches, each within its time; the time that the consumer takes does not count."""
        batches = result.partitions()
        while True:
            with self._bounded(resource, connection):
                rows = next(batches, None)
            if rows is None:
                return
            yield rows

    def _newest(self, resource: Resource, connection: Connection, since: Value | None) -> Any:
        with self._bounded(resource, connection):
            return connection.execute(self._queries[resource.name].newest(since)).scalar()

    @contextmanager
    def _bounded(self, resource: Resource, connection: Connection) -> Iterator[None]:
        """Cuts the connection when the database stays silent. Raises TransientError then."""
        seconds = self._limits["statement_s"] + GRACE_S
        with Watchdog(seconds) as watchdog:
            watchdog.watch(connection.connection.driver_connection)
            try:
                yield
            except Exception:
                if not watchdog.has_fired:
                    raise
                raise TransientError(
                    f"{self._target}, resource {resource.name!r}: {_silent(seconds)}. Check the network between here and the"
                    " database, or raise limits.statement_s for a slow view",
                    code="SPC-140",
                ) from None

    def _reach(self, resource: Resource, seen: Sequence[Value | None]) -> None:
        latest = datetime.now(UTC) + timedelta(seconds=self._limits["future_s"])
        credible = [value for value in seen if value is not None and not is_later(value, latest, resource.zone)]
        reached = self._reached.get(resource.name)
        known: list[Any] = credible if reached is None else [*credible, reached]
        self._reached[resource.name] = max(known, default=None)

    def _until(self, resource: Resource, connection: Connection) -> Value | None:
        settle_s, query = float(resource.options.get("settle_s", 0.0)), self._queries[resource.name]
        if not settle_s or query.watermark is None:
            return None
        newest = self._newest(resource, connection, None)
        return as_said(newest, datetime.now(UTC) - timedelta(seconds=settle_s), resource.zone)

    def _make_engine(self, url: str, auth: dict[str, Any]) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        from sqlalchemy.pool import NullPool

        name = self.config.source_id
        try:
            target = make_url(url)
        except ArgumentError:
            raise SiteError(
                f"source {name!r}: base_url is no database URL; write it such as postgresql+psycopg://reader@host/database",
                code="SPC-441",
            ) from None
        if target.password:
            raise SiteError(f"source {name!r}: base_url holds a password; name its variable by auth.secret_env", code="SPC-441")
        if auth["kind"] not in ("none", "password"):
            raise SiteError(
                f"source {name!r}: auth.kind = {auth['kind']!r} is not known; one of: none, password", code="SPC-440"
            )
        if auth["user_env"]:
            target = target.set(username=secret_from_environment(name, "user_env", auth["user_env"]).get_secret_value())
        if auth["kind"] == "password":
            password = secret_from_environment(name, "secret_env", auth["secret_env"]).get_secret_value()
            self._secrets.append(SecretStr(password))
            target = target.set(password=password)
        try:
            engine = create_engine(
                target,
                poolclass=NullPool,
                connect_args=dict(auth["connect"]) | _connect_arguments(target.get_backend_name(), self._limits),
                hide_parameters=True,
            )
        except NoSuchModuleError:
            raise SiteError(f"source {name!r}: no database {target.get_backend_name()!r} is known", code="SPC-441") from None
        except ImportError as error:
            extra = {"postgresql": "postgresql", "mssql": "mssql", "oracle": "oracle"}.get(target.get_backend_name(), "")
            remedy = f"install the extra: spc_platform[{extra}]" if extra else "install its driver"
            raise SiteError(f"source {name!r}: {error}; {remedy}", code="SPC-442") from None
        # Before what SQLAlchemy asks of a new connection, which is to be watched too.
        event.listen(engine, "connect", self._watch_opening, insert=True)
        if target.get_backend_name() == "sqlite":
            event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
        return engine

    def _watch_opening(self, driver: Any, _: Any) -> None:
        watchdog = _OPENING.get()
        if watchdog is not None:
            watchdog.watch(driver)

    @contextmanager
    def _opened(self, resource: Resource, attempts: int | None = None) -> Iterator[Connection]:
        """A connection in a read-only snapshot; what the database says against us becomes one of our errors."""
        from sqlalchemy.exc import DBAPIError

        connection = self._connect(resource, 1 + int(self._limits["retries"]) if attempts is None else attempts)
        try:
            yield connection
        except DBAPIError as error:
            raise self._failure(resource, error) from None
        finally:
            # It has no more to say that would be missed, but the end of a transaction waits for an answer too.
            with suppress(DBAPIError, TransientError), self._closing(resource, connection):
                connection.close()

    @contextmanager
    def _closing(self, resource: Resource, connection: Connection) -> Iterator[None]:
        if connection.invalidated or connection.closed:
            yield
            return
        with self._bounded(resource, connection):
            yield

    def _connect(self, resource: Resource, attempts: int) -> Connection:
        limits = self._limits
        deadline = Deadline(limits["deadline_s"])
        backoff = Backoff(deadline, limits["backoff_s"], limits["backoff_max_s"], limits["backoff_max_s"])
        connection: Connection | None = None
        try:
            for attempt in retrying(backoff, attempts):
                with attempt:
                    connection = self._breaker.call(self._attempt, resource)
        except pybreaker.CircuitBreakerError:
            raise TransientError(
                f"{self._target}: circuit breaker open after {self._breaker.fail_max} failures in a row; a trial is made"
                f" {self._breaker.reset_timeout:g} s after the last one. Check that the database runs and is reachable",
                code="SPC-102",
            ) from None
        if connection is None:
            raise TransientError(f"{self._target}: no attempt was made", code="SPC-140")
        return connection

    def _attempt(self, resource: Resource) -> Connection:
        from sqlalchemy.exc import DBAPIError

        seconds = self._limits["connect_s"] + GRACE_S
        with Watchdog(seconds) as watchdog:
            before = _OPENING.set(watchdog)
            try:
                with timed_request():
                    connection = self._engine.connect()
                if self._engine.dialect.name == "postgresql":
                    connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                    connection.exec_driver_sql(f"SET statement_timeout = {int(self._limits['statement_s'] * 1000)}")
            except DBAPIError as error:
                if watchdog.has_fired:
                    raise RetriableError(f"{self._target}, resource {resource.name!r}: {_silent(seconds)}") from None
                raise self._failure(resource, error, is_retriable=True) from None
            finally:
                _OPENING.reset(before)
        return connection

    def _failure(self, resource: Resource, error: Any, *, is_retriable: bool = False) -> PermanentError | TransientError:
        text = redact(" ".join(str(error.orig).split()), self._hidden())[:300]
        where = f"{self._target}, resource {resource.name!r}: {text}"
        state = str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")
        lower = text.lower()
        if state.startswith("28") or "password authentication failed" in lower or "login failed" in lower:
            return PermanentError(f"{where}; correct user and password", code="SPC-250")
        if state[:2] in _REFUSED or any(known in lower for known in _REFUSED_TEXTS):
            return PermanentError(
                f"{where}; correct the resource's path, query or columns, or grant the user to read", code="SPC-251"
            )
        return RetriableError(where) if is_retriable else TransientError(where, code="SPC-140")


def _silent(seconds: float) -> str:
    return f"no answer within {seconds:g} s, so the connection was cut"


def arrow_body(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as an Arrow IPC stream of one batch. What has no Arrow type of its own is text; so is a column of several types."""
    columns = [_series(name, [row[place] for row in rows]) for place, name in enumerate(names)]
    body = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(body)
    return body.getvalue()


def _series(name: str, values: list[Any]) -> pl.Series:
    plain = [bytes(value) if isinstance(value, memoryview | bytearray) else value for value in values]
    if all(isinstance(value, _PLAIN) for value in plain):
        try:
            return pl.Series(name, plain)
        except (TypeError, pl.exceptions.PolarsError, OverflowError):
            pass
    return pl.Series(name, [None if value is None else str(value) for value in plain], dtype=pl.String)


def _connect_arguments(backend: str, limits: dict[str, Any]) -> dict[str, Any]:
    connect_s = limits["connect_s"]
    # Without, a network that swallows what it is given holds a walk for hours: the server's own limit does not reach us.
    alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
    return {
        "postgresql": {"connect_timeout": max(1, round(connect_s)), **alive},
        "sqlite": {"timeout": connect_s},
        "mssql": {"timeout": max(1, round(connect_s))},
        "oracle": {"tcp_connect_timeout": connect_s},
    }.get(backend, {})
