"""Log lines: one JSON object an event, and no secret in any part of it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from spc_platform.errors import SiteError
from spc_platform.observe.logs import configure_logging
from spc_platform.settings import Settings
from spc_platform.sources.auth import secret_from_environment
from spc_platform.sources.http import known_secrets

CANARY = "c4n4ry-Value_of/the+plant"


def _fail() -> None:
    raise ValueError(f"outer {CANARY}") from SiteError(f"password=canary-7 {CANARY}")


@pytest.fixture
def clean() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def said(form: str) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    configure_logging(Settings(log_format=form), stream=stream)
    return stream, logging.getLogger("plant.library")


@pytest.mark.usefixtures("clean")
def test_an_event_is_one_json_object_with_time_level_logger_message_and_fields() -> None:
    stream, logger = said("json")
    logger.warning("source %s is away", "mes", extra={"polls": 3, "resources": ["measurements"]})
    [line] = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "warning", "logger": "plant.library", "event": "source mes is away", "polls": 3, "resources": ["measurements"],
    }  # fmt: skip


@pytest.mark.usefixtures("clean")
def test_a_text_line_reads_from_left_to_right() -> None:
    stream, logger = said("text")
    logger.info("landed %d pages", 3, extra={"source": "mes"})
    logger.debug("too quiet to be written")
    [line] = stream.getvalue().splitlines()
    assert line.split(" ", 1)[1] == "INFO plant.library landed 3 pages source=mes"


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_part_of_an_event_shows_a_secret(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", CANARY)
    secret_from_environment("mes", "secret_env", "PLANT_SECRET")
    assert CANARY in known_secrets()
    stream, logger = said(form)
    hidden: dict[str, Any] = {
        "answer": {"list": [f"a {CANARY}"], CANARY: 1},
        "password": "canary-2",
        "header": "Authorization: Bearer canary.3",
        "thing": ValueError(f"canary_token=canary-4 {CANARY}"),
    }
    logger.error("%s refused", CANARY, extra=hidden)
    logger.error("https://user:canary-5@mes/api?api_key=canary-6&limit=5")
    try:
        _fail()
    except ValueError:
        logger.exception("failed with %r", {"token": "canary-8"})
    structlog.get_logger("plant").info("bound", client_secret="canary-9", where=f"{CANARY}")
    text = stream.getvalue()
    assert "canary-" not in text
    assert "canary." not in text
    assert CANARY not in text
    # What is no secret is still told.
    assert "limit=5" in text
    assert "Traceback" in text
    assert "***" in text


@pytest.mark.usefixtures("clean")
def test_configuring_again_does_not_write_every_line_twice() -> None:
    said("json")
    stream, logger = said("json")
    logger.warning("once")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.usefixtures("clean")
def test_the_form_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_LOG_FORMAT", "json")
    assert Settings().log_format == "json"
