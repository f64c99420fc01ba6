"""Structured logs: one line an event, as text or JSON, without secrets.

Everything goes through the standard library's ``logging``, so libraries are covered too; structlog renders it. One
processor redacts the rendered event as a whole: message, extra fields and the text of exceptions.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import IO, Any

import structlog

from spc_platform.settings import Settings
from spc_platform.sources.http import known_secrets, redact, remember_secret

_SECRET_FIELD = ("password", "passwd", "secret", "token", "authorization", "api_key", "apikey", "cookie", "credential")
_HIDDEN = "***"


class _StandardError(logging.StreamHandler[IO[str]]):
    """Writes to what standard error is when a line is written: it may be replaced, and the former one closed."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(settings: Settings, *, logger: str | None = None, stream: IO[str] | None = None) -> None:
    """Write what ``logger`` (all of them unless given) says to ``stream`` (standard error), in the form of SPC_LOG_FORMAT.

    Called again, it replaces what it set before.
    """
    remember_secret(settings.mes_client_secret.get_secret_value())
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        _without_traces_of_other_handlers,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    line: Any = structlog.processors.JSONRenderer(ensure_ascii=False) if settings.log_format == "json" else _text_line
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redaction, line]
    )
    handler: logging.StreamHandler[IO[str]] = _StandardError() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.set_name("spc_platform")
    target = logging.getLogger(logger)
    for old in [each for each in target.handlers if each.get_name() == "spc_platform"]:
        target.removeHandler(old)
    target.addHandler(handler)
    target.setLevel(logging.INFO)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redaction(_: Any, __: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without secrets, in whatever field and however deep they lie."""
    secrets = known_secrets()
    return {redact(str(name), secrets): _without(name, value, secrets) for name, value in event.items()}


def _without_traces_of_other_handlers(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """A handler that came first leaves its rendering on the record; these names cannot be fields of a caller."""
    if "_record" in event:
        for name in ("message", "asctime"):
            event.pop(name, None)
    return event


def _without(name: object, value: Any, secrets: tuple[str, ...]) -> Any:
    if any(part in str(name).lower() for part in _SECRET_FIELD):
        return _HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key), secrets): _without(key, each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without("", each, secrets) for each in value]
    return redact(value if isinstance(value, str) else str(value), secrets)


def _text_line(_: Any, __: str, event: dict[str, Any]) -> str:
    """Time, level, logger, message, then further fields; an exception's text on the lines below."""
    fields = dict(event)
    head = [str(fields.pop(name, "")) for name in ("timestamp", "level", "logger", "event")]
    trace = fields.pop("exception", None)
    head[1] = head[1].upper()
    line = " ".join([*head, *(f"{name}={value}" for name, value in sorted(fields.items()))])
    return line if trace is None else f"{line}\n{trace}"
