"""`spc collect`: every subscription of a site in one process, each with a thread, a spool and a health of its own.

A source that is away, or whose configuration is wrong, never keeps the others from being collected. Landing runs in a
thread beside them; when it fails, records wait in the spool.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from spc_platform.collect.readings import Recorder, tags_of
from spc_platform.collect.sink import Backoff, Connector, Health, Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import LakeError, PermanentError, SiteError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import COLLECTED, Site, Source

logger = logging.getLogger(__name__)

CONNECTORS = MappingProxyType(
    {
        "opcua": "spc_platform.collect.opcua:OpcUaConnector",
        "mqtt": "spc_platform.collect.mqtt:MqttConnector",
        "mtconnect": "spc_platform.collect.mtconnect:MtConnectConnector",
        "modbus": "spc_platform.collect.modbus:ModbusConnector",
        "serial": "spc_platform.collect.serial_line:SerialConnector",
    }
)
STOP_S = 15.0
DISK_RETRY_S = 5.0
MakeConnector = Callable[[Source, Settings], Connector]


def make_connector(config: Source, settings: Settings) -> Connector:
    """The connector of a source's kind. Raises SiteError for options that are wrong and for a client that is not installed."""
    module, _, name = CONNECTORS[config.kind].partition(":")
    connector: Connector = getattr(importlib.import_module(module), name)(config, settings)
    return connector


@dataclass
class Subscription:
    """One source being collected."""

    config: Source
    site: Site
    settings: Settings
    make: MakeConnector
    health: Health = field(default_factory=Health)
    spool: Spool | None = None
    is_stopped: bool = False

    def run(self, stop: threading.Event) -> None:
        """Collect until ``stop``: connect again after whatever may pass, end at what starting again cannot help."""
        backoff = Backoff()
        while not stop.is_set():
            backoff.begin()
            try:
                self._collect(stop)
            except (PermanentError, SiteError) as error:
                self._end(f"stopped: {error}")
                return
            except TransientError as error:
                self._say(f"away: {error}")
            except LakeError as error:
                self._say(f"spool: {error}")
                stop.wait(DISK_RETRY_S)
            except Exception as error:
                logger.exception("source %s: its connector failed", self.config.source_id)
                self._say(f"failed: {type(error).__name__}")
            if not stop.is_set():
                backoff.wait(stop)

    def _collect(self, stop: threading.Event) -> None:
        tags = tags_of(self.site, self.config)
        connector = self.make(self.config, self.settings)
        if self.spool is None:
            self.spool = Spool(self.settings.spool_root, self.config.source_id)
        with Sink(Recorder(self.config, tags), self.spool, health=self.health) as sink:
            try:
                connector.run(sink, stop)
            finally:
                sink.disconnected("stopped" if stop.is_set() else self.health.detail)

    def _say(self, detail: str) -> None:
        if self.health.detail != detail:
            logger.warning("source %s: %s", self.config.source_id, detail)
        self.health.is_connected, self.health.detail = False, detail

    def _end(self, detail: str) -> None:
        self._say(detail)
        self.is_stopped = True


@dataclass
class Lander:
    """Lands what is spooled, again and again; ``land`` lands one source."""

    land: Callable[[Source], None]
    every_s: float
    last_success_at: dict[str, datetime] = field(default_factory=dict)
    last_error: dict[str, str] = field(default_factory=dict)

    def run(self, sources: tuple[Source, ...], stop: threading.Event) -> None:
        """Land every source in turn until ``stop``, then once more."""
        while not stop.wait(self.every_s):
            self.once(sources)

    def once(self, sources: tuple[Source, ...]) -> None:
        """Land every source; a failure is noted and leaves its records in the spool."""
        for source in sources:
            try:
                self.land(source)
            except SpcError as error:
                self._note(source, str(error))
            except Exception as error:
                logger.exception("landing source %s failed", source.source_id)
                self._note(source, type(error).__name__)
            else:
                self.last_error.pop(source.source_id, None)
                self.last_success_at[source.source_id] = datetime.now(UTC)

    def _note(self, source: Source, text: str) -> None:
        if self.last_error.get(source.source_id) != text:
            logger.warning("landing source %s: %s; its records wait in the spool", source.source_id, text)
        self.last_error[source.source_id] = text


class Collector:
    """All subscriptions of a site (or those named in ``only``) and their landing.

    Raises SiteError when the site has no such source. ``land`` lands one source; None collects only.
    """

    def __init__(
        self,
        site: Site,
        settings: Settings,
        *,
        only: tuple[str, ...] = (),
        land: Callable[[Source], None] | None = None,
        land_every_s: float = 10.0,
        make: MakeConnector = make_connector,
    ) -> None:
        collected = {source.source_id: source for source in site.sources if source.kind in COLLECTED}
        unknown = sorted(set(only) - set(collected))
        if unknown or not collected:
            has = ", ".join(sorted(collected)) or "none"
            wanted = f"no source {', '.join(unknown)} that is collected" if unknown else "nothing to collect"
            raise SiteError(
                f"{site.folder / 'sources.toml'}: {wanted}; of the kinds {', '.join(COLLECTED)} it has: {has}", code="SPC-469"
            )
        chosen = [source for source_id, source in collected.items() if not only or source_id in only]
        self.subscriptions = tuple(Subscription(source, site, settings, make) for source in chosen)
        self.site, self.settings = site, settings
        self.lander = None if land is None else Lander(land, land_every_s)
        self.started_at = datetime.now(UTC)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Collector:
        runs: dict[str, Callable[[], None]] = {
            f"collect-{each.config.source_id}": lambda each=each: each.run(self._stop)  # type: ignore[misc]
            for each in self.subscriptions
        }
        if self.lander is not None:
            lander, sources = self.lander, tuple(each.config for each in self.subscriptions)
            runs["land"] = lambda: lander.run(sources, self._stop)
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every connector, let the spools finish, land once more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=STOP_S)
        if self.lander is not None:
            self.lander.once(tuple(each.config for each in self.subscriptions))
        for each in self.subscriptions:
            if each.spool is not None:
                each.spool.close()

    @property
    def is_healthy(self) -> bool:
        """Whether every source is connected, every spool takes records and the last landing of each succeeded."""
        has_room = not any(each.health.is_full for each in self.subscriptions)
        lands = self.lander is None or not self.lander.last_error
        return has_room and lands and all(each.health.is_connected for each in self.subscriptions)

    @property
    def has_ended(self) -> bool:
        """Whether no source is collected any more: each stopped at an error that starting again cannot help."""
        return all(each.is_stopped for each in self.subscriptions)

    def report(self) -> Mapping[str, object]:
        """What `/health` says: whether all is well, and each source in turn. Times in UTC, counts since the start."""
        return {
            "healthy": self.is_healthy,
            "started_at": self.started_at.isoformat(),
            "sources": {each.config.source_id: self._source(each) for each in self.subscriptions},
        }

    def _source(self, each: Subscription) -> Mapping[str, object]:
        health, source_id = each.health, each.config.source_id
        landed = None if self.lander is None else self.lander.last_success_at.get(source_id)
        return {
            "kind": each.config.kind,
            "connected": health.is_connected,
            "detail": health.detail,
            "since": health.since.isoformat(),
            "connections": health.connections,
            "readings": health.readings,
            "bad_readings": health.bad,
            "records": health.records,
            "gaps": health.gaps,
            "last_reading_at": _iso(health.last_reading_at),
            "last_observed_at": _iso(health.last_observed_at),
            "disk_full": health.is_full,
            "spool_depth": {} if each.spool is None else each.spool.depth(),
            "last_landed_at": _iso(landed),
            "landing_error": None if self.lander is None else self.lander.last_error.get(source_id),
        }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
