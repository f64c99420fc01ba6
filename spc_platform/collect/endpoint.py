"""What a running collector tells of itself over HTTP: `/health` for a supervisor, `/metrics` for Prometheus."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector as MetricsCollector

from spc_platform.collect.service import Collector, Subscription
from spc_platform.errors import PermanentError
from spc_platform.observe.metrics import SourceMetrics

_Figure = Callable[[Subscription], float]


class Endpoint:
    """Serves a collector's health and metrics on ``host:port``: ``with Endpoint(collector, port)``. Port 0 takes a free one.

    `/metrics` has the collector's figures, those of its site's sources and ``further`` ones. `/health` answers 200 when all
    is well and 503 when not, with the same JSON. Raises PermanentError when the port is taken.
    """

    def __init__(
        self, collector: Collector, port: int, host: str = "127.0.0.1", *, further: Iterable[MetricsCollector] = ()
    ) -> None:
        registry = CollectorRegistry()
        for each in (CollectorMetrics(collector), SourceMetrics(collector.site, collector.settings), *further):
            registry.register(each)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/health":
                    status = HTTPStatus.OK if collector.is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, "application/json", json.dumps(collector.report(), indent=1).encode())
                elif self.path == "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"known: /health, /metrics\n")

            def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Scrapes every few seconds are no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise PermanentError(
                f"port {port} for the collector's health is taken ({error.strerror}); choose another with --port",
                code="SPC-290",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class CollectorMetrics(MetricsCollector):
    """The metrics of a collector, read from its health at every scrape."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        """One family per figure, labelled by source."""
        each = self._collector.subscriptions
        yield _gauge("connected", "1 while the source is connected.", each, lambda s: s.health.is_connected)
        yield _gauge("stopped", "1 once an error ended the source's collection.", each, lambda s: s.is_stopped)
        yield _gauge("disk_full", "1 while the spool refuses records.", each, lambda s: s.health.is_full)
        yield _counter("connections", "Connections made.", each, lambda s: s.health.connections)
        yield _counter("readings", "Readings received.", each, lambda s: s.health.readings)
        yield _counter("bad_readings", "Readings of bad quality.", each, lambda s: s.health.bad)
        yield _counter("records", "Records made durable in the spool.", each, lambda s: s.health.records)
        yield _counter("gaps", "Gaps noted.", each, lambda s: s.health.gaps)
        yield self._times("last_reading", "When the newest reading was received.", "last_reading_at")
        yield self._times("last_observed", "The source's own time of the newest reading.", "last_observed_at")

    def _times(self, name: str, text: str, attribute: str) -> Metric:
        family = GaugeMetricFamily(f"spc_collect_{name}_timestamp_seconds", text, labels=["source"])
        for source in self._collector.subscriptions:
            at = getattr(source.health, attribute)
            if at is not None:
                family.add_metric([source.config.source_id], at.timestamp())
        return family


def _gauge(name: str, text: str, sources: Iterable[Subscription], value: _Figure) -> Metric:
    family = GaugeMetricFamily(f"spc_collect_{name}", text, labels=["source"])
    for source in sources:
        family.add_metric([source.config.source_id], float(value(source)))
    return family


def _counter(name: str, text: str, sources: Iterable[Subscription], value: _Figure) -> Metric:
    family = CounterMetricFamily(f"spc_collect_{name}", text, labels=["source"])
    for source in sources:
        family.add_metric([source.config.source_id], float(value(source)))
    return family


def tell_supervisor(state: str) -> None:
    """Tell systemd a state such as ``READY=1`` or ``WATCHDOG=1`` where it asked for it (``NOTIFY_SOCKET``)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.sendall(state.encode())
