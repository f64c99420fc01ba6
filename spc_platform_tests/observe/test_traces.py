"""Spans where somebody asked for them, and nothing at all where nobody did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spc_platform.engine import run_range
from spc_platform.errors import PermanentError, TransientError
from spc_platform.observe.traces import each_spanned, span, tracer_of, tracing
from spc_platform_tests.conftest import lacking
from spc_platform_tests.orchestration.scripted_mes import land, measurement, workspace
from spc_platform_tests.orchestration.test_sensors import MADE, MONDAY, at
from spc_platform_tests.unit.rest_server import answer, record, serving
from spc_platform_tests.unit.test_rest import MEASUREMENTS
from spc_platform_tests.unit.test_source_state import rest_plant

try:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    if not IS_INSTALLED:
        lacking("OpenTelemetry is not installed; install the extra: spc_platform[traces]")
    exporter = InMemorySpanExporter()
    with tracing(tracer_of(SimpleSpanProcessor(exporter))):
        yield exporter


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in exporter.get_finished_spans() if each.name == name]


def test_landing_has_a_span_for_the_source_each_resource_page_and_request(
    exported: InMemorySpanExporter, tmp_path: Path
) -> None:
    pages = {"0": {"data": [record(1), record(2)], "next_cursor": "1", "next": None}}
    pages["1"] = {"data": [record(3)], "next_cursor": None, "next": None}
    with serving(lambda request: answer(pages[request.query.get("cursor", "0")])) as mes:
        rest_plant(tmp_path, mes.url, MEASUREMENTS).land()
    [of_source], [of_resource] = named(exported, "land source"), named(exported, "land resource")
    landed, requests = named(exported, "land page"), named(exported, "request")
    assert [(each.attributes or {})["spc.records"] for each in landed] == [2, 1]
    assert of_resource.attributes is not None
    assert {key: of_resource.attributes[f"spc.{key}"] for key in ("source", "resource", "pages", "records")} == {
        "source": "mes", "resource": "measurements", "pages": 2, "records": 3,
    }  # fmt: skip
    assert len(requests) == 2
    of = {each.context.span_id: each for each in exported.get_finished_spans() if each.context is not None}
    parents = {each.name: of[each.parent.span_id].name for each in of.values() if each.parent is not None}
    assert parents["land resource"] == "land source"
    assert parents["land page"] == "land resource"
    assert of_source.parent is None
    assert len({each.context.trace_id for each in of.values() if each.context is not None}) == 1


def test_a_failure_marks_the_spans_that_it_leaves_and_tells_no_text(exported: InMemorySpanExporter, tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 403)) as mes, pytest.raises(PermanentError):
        rest_plant(tmp_path, mes.url, MEASUREMENTS).land()
    [of_resource] = named(exported, "land resource")
    assert of_resource.status.is_ok is False
    assert of_resource.status.description == "SPC-205"
    assert (of_resource.attributes or {})["error.type"] == "PermanentError"
    assert "403" not in of_resource.to_json()


def test_a_retried_request_has_a_span_for_each_attempt(exported: InMemorySpanExporter, tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 503)) as mes, pytest.raises(TransientError):
        rest_plant(tmp_path, mes.url, MEASUREMENTS, retries=2, breaker_failures=9).land()
    assert len(named(exported, "request")) == 3


def test_each_table_that_is_made_has_a_span(exported: InMemorySpanExporter, tmp_path: Path) -> None:
    plant = workspace(tmp_path)
    land(plant, [measurement("m1", at(MONDAY, 8)), measurement("m2", at(MONDAY, 9))])
    exported.clear()
    outcomes = run_range(plant, [MONDAY], steps=MADE)
    made = [dict(each.attributes or {}) for each in named(exported, "make table")]
    assert [each["spc.table"] for each in made] == [outcome.table for outcome in outcomes]
    [of_measurement] = [each for each in made if each["spc.table"] == "measurement"]
    expected = {"spc.step": "measurement", "spc.table": "measurement", "spc.rows": 2, "spc.production_date": "2026-03-23"}
    assert of_measurement == expected


def test_items_come_in_order_and_the_end_makes_no_span(exported: InMemorySpanExporter) -> None:
    assert list(each_spanned("item", [1, 2, 3], lambda item: {"number": item})) == [1, 2, 3]
    assert [(each.attributes or {})["spc.number"] for each in named(exported, "item")] == [1, 2, 3]


def test_without_an_endpoint_nothing_is_imported_and_nothing_is_told() -> None:
    probe = (
        "import sys, spc_platform.lake.landing, spc_platform.engine.run\n"
        "from spc_platform.observe.traces import span\n"
        "with span('x', a=1) as told: told['b'] = 2\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_endpoint_without_the_extra_is_said_once_and_stops_nothing() -> None:
    probe = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from spc_platform.observe.traces import span\n"
        "for _ in range(3):\n    with span('x'): print('went on')"
    )
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    ran = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.count("went on") == 3
    assert ran.stderr.count("spc_platform[traces]") == 1


def test_a_span_that_nobody_wants_takes_what_is_put_into_it() -> None:
    with span("x", number=1) as told:
        told["further"] = 2
