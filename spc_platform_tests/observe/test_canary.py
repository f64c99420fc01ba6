"""A source that knows our secret and says it wherever it can: nothing that observes the platform repeats it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from spc_platform.errors import SpcError
from spc_platform.observe.logs import configure_logging
from spc_platform.observe.traces import tracer_of, tracing
from spc_platform.orchestration.source_checks import reachable_evaluation
from spc_platform.settings import Settings
from spc_platform.site.model import Source as SourceConfig
from spc_platform_tests.observe.test_metrics import of_sources
from spc_platform_tests.unit.rest_server import answer, record, serving
from spc_platform_tests.unit.test_rest import MEASUREMENTS, QUICK
from spc_platform_tests.unit.test_source_state import Plant

CANARY = "c4n4ry+plant/secret=="
LIMITS = QUICK | {"retries": 1, "breaker_failures": 2, "breaker_reset_s": 60.0}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream=stream)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _spans(stack: ExitStack) -> Any:
    try:
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError:
        return None
    exporter = InMemorySpanExporter()
    stack.enter_context(tracing(tracer_of(SimpleSpanProcessor(exporter))))
    return exporter


@pytest.mark.parametrize(
    "auth", [{"kind": "bearer"}, {"kind": "query", "param": "key"}, {"kind": "basic", "user_env": "PLANT_USER"}], ids=str
)
def test_no_secret_in_metrics_logs_spans_checks_or_the_state_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, auth: dict[str, Any]
) -> None:
    monkeypatch.setenv("PLANT_SECRET", CANARY)
    monkeypatch.setenv("PLANT_USER", "reader")
    shown = [{"data": [record(1, serial=CANARY)], "next_cursor": CANARY, "next": None}, {"error": f"bad key {CANARY}"}]
    replies = [answer(shown[0]), answer(shown[1]), answer(shown[1], 503, X_Echo=CANARY), answer({"data": CANARY}, 503)]
    with ExitStack() as stack:
        exporter = _spans(stack)
        mes = stack.enter_context(serving(lambda request: replies.pop(0) if replies else answer(shown[1], 503)))
        config = SourceConfig(
            "mes", "rest", (MEASUREMENTS,), base_url=mes.url, limits=LIMITS, auth=auth | {"secret_env": "PLANT_SECRET"}
        )
        plant = Plant(tmp_path, config)
        for _ in range(3):
            with pytest.raises(SpcError) as caught:
                plant.land()
            logging.getLogger("spc_platform.test").error("landing failed", exc_info=caught.value, extra={"source": config})
        spans = "" if exporter is None else "".join(each.to_json() for each in exporter.get_finished_spans())
    state = plant.state
    assert state.breaker == "open"
    event = reachable_evaluation(state)
    outputs = {
        "metrics": str(of_sources(plant)),
        "log": log.getvalue(),
        "spans": spans,
        "check": f"{event} {event.description} {event.metadata}",
        "status": state.describe(),
        "state file": (tmp_path / "state.sqlite").read_bytes().decode("latin-1"),
    }
    assert "landing failed" in outputs["log"]
    assert exporter is None or "land resource" in spans
    assert [name for name, text in outputs.items() if CANARY in text or "c4n4ry" in text] == []
