"""OpenTelemetry spans around landing and the steps of the engine, where somebody asked for them.

Spans are made when OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra ``traces`` is installed. Otherwise ``span`` does nothing
and OpenTelemetry is not imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

ENDPOINT = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
Attribute = str | int | float | bool
_DROPPED = "dropped"
_INJECTED: list[Tracer] = []
_Item = TypeVar("_Item")
_NOTHING = nullcontext(dict[str, Attribute]())


def span(name: str, **attributes: Attribute) -> AbstractContextManager[dict[str, Attribute]]:
    """A span with attributes ``spc.<name>``; what is put into the dictionary it gives is added at its end.

    An error that leaves it sets its status; only the class and code of the error are told, since its text may be long.
    """
    tracer = _tracer()
    return _NOTHING if tracer is None else _spanned(tracer, name, attributes)


def each_spanned(
    name: str, items: Iterable[_Item], describe: Callable[[_Item], Mapping[str, Attribute]], **attributes: Attribute
) -> Iterator[_Item]:
    """The items, each with a span that lasts as long as it takes to get it; ``describe`` gives attributes of an item."""
    tracer = _tracer()
    if tracer is None:
        yield from items
        return
    iterator = iter(items)
    while True:
        with _spanned(tracer, name, attributes) as told:
            item = next(iterator, None)
            if item is None:
                told[_DROPPED] = True
                break
            told.update(describe(item))
        yield item


@contextmanager
def _spanned(tracer: Tracer, name: str, attributes: dict[str, Attribute]) -> Iterator[dict[str, Attribute]]:
    from opentelemetry.trace import Status, StatusCode, use_span

    further: dict[str, Attribute] = {}
    current = tracer.start_span(name, attributes={f"spc.{key}": value for key, value in attributes.items()})
    with use_span(current, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        try:
            yield further
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(Status(StatusCode.ERROR, str(getattr(error, "code", ""))))
            raise
        finally:
            if _DROPPED not in further:
                current.set_attributes({f"spc.{key}": value for key, value in further.items()})
                current.end()


def _tracer() -> Tracer | None:
    return _INJECTED[-1] if _INJECTED else _tracer_of_environment()


@lru_cache(maxsize=1)
def _tracer_of_environment() -> Tracer | None:
    if not any(os.environ.get(name) for name in ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("%s is set, but %s: no traces are sent; install the extra: spc_platform[traces]", ENDPOINT[1], error)
        return None
    return tracer_of(BatchSpanProcessor(OTLPSpanExporter()))


def tracer_of(processor: SpanProcessor) -> Tracer:
    """A tracer of its own provider, whose spans go to one processor; what waits is sent when the interpreter ends."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "spc-platform")}))
    provider.add_span_processor(processor)
    return provider.get_tracer("spc_platform")


@contextmanager
def tracing(tracer: Tracer) -> Iterator[None]:
    """Spans go to ``tracer`` while the context lasts, whatever the environment says."""
    _INJECTED.append(tracer)
    try:
        yield
    finally:
        _INJECTED.remove(tracer)
