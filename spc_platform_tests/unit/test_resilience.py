"""Waiting, giving up and leaving alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pybreaker
import pytest

from spc_platform.errors import PermanentError, TransientError
from spc_platform.sources.http import redact
from spc_platform.sources.resilience import (
    Backoff,
    Deadline,
    Pace,
    RetriableError,
    StateFile,
    circuit_breaker,
    retry_after_seconds,
    retrying,
)

NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        (None, None),
        ("Mon, 02 Nov 2026 06:00:30 GMT", 30.0),
        ("Mon, 02 Nov 2026 05:00:00 GMT", 0.0),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_waits_double_up_to_their_cap_with_jitter() -> None:
    backoff = Backoff(Deadline(1000.0), initial_s=1.0, max_s=5.0, retry_after_max_s=60.0)
    waits = [float(backoff(RetriableError("x"))) for _ in range(5)]
    for wait, full in zip(waits, (1.0, 2.0, 4.0, 5.0, 5.0), strict=True):
        assert full / 2 <= wait <= full


def test_retry_after_replaces_the_backoff_and_is_capped() -> None:
    backoff = Backoff(Deadline(1000.0), initial_s=1.0, max_s=5.0, retry_after_max_s=60.0)
    assert backoff(RetriableError("x", retry_after=17.0)) == 17.0
    assert backoff(RetriableError("x", retry_after=86_400.0)) == 60.0


def _try(backoff: Backoff, attempts: int, call: Callable[[], None]) -> None:
    for attempt in retrying(backoff, attempts):
        with attempt:
            call()


def _fail() -> None:
    raise RetriableError("down")


def _refuse() -> None:
    raise PermanentError("403")


def test_only_retriable_errors_are_tried_again() -> None:
    refused, failed = (Backoff(Deadline(5.0), 0.001, 0.001, 1.0) for _ in range(2))
    with pytest.raises(PermanentError):
        _try(refused, 5, _refuse)
    with pytest.raises(RetriableError):
        _try(failed, 5, _fail)
    assert (refused.failures, failed.failures) == (1, 5)


def test_attempts_end_when_the_next_wait_would_pass_the_deadline() -> None:
    backoff, started = Backoff(Deadline(0.3), 0.1, 0.1, 1.0), time.monotonic()
    with pytest.raises(RetriableError):
        _try(backoff, 1000, _fail)
    # Waits of 50 to 100 ms within 300 ms.
    assert 2 <= backoff.failures <= 7
    assert time.monotonic() - started < 0.6


def test_refusals_do_not_open_the_breaker_and_a_success_resets_the_count(tmp_path: Path) -> None:
    breaker = circuit_breaker(StateFile(tmp_path / "state.sqlite"), "mes", failures=2, reset_s=60.0)
    for call, error in [(_refuse, PermanentError)] * 3 + [
        (_fail, RetriableError),
        (lambda: None, None),
        (_fail, RetriableError),
    ]:
        if error is None:
            breaker.call(call)
        else:
            with pytest.raises(error):
                breaker.call(call)
    assert breaker.current_state == pybreaker.STATE_CLOSED
    with pytest.raises(RetriableError):
        breaker.call(_fail)
    assert breaker.current_state == pybreaker.STATE_OPEN


def test_breakers_of_two_sources_are_apart_and_one_name_is_shared(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.sqlite")
    with pytest.raises(RetriableError):
        circuit_breaker(file, "mes", failures=1, reset_s=60.0).call(_fail)
    again = circuit_breaker(StateFile(tmp_path / "state.sqlite"), "mes", failures=1, reset_s=60.0)
    with pytest.raises(pybreaker.CircuitBreakerError):
        again.call(lambda: None)
    assert circuit_breaker(file, "scada", failures=1, reset_s=60.0).call(lambda: 7) == 7


def test_concurrent_callers_get_slots_of_their_own(tmp_path: Path) -> None:
    path, step = tmp_path / "state.sqlite", 0.01
    first = time.time() + 0.3
    StateFile(path).execute("INSERT INTO pace VALUES ('mes', ?)", first)

    def five_slots(_: int) -> None:
        pace = Pace(StateFile(path), "mes", 1 / step)
        for _ in range(5):
            pace.wait(Deadline(30.0))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(five_slots, range(8)))
    row = StateFile(path).execute("SELECT next_at FROM pace WHERE name = 'mes'")
    assert row is not None
    # 40 slots were given out behind one another; a slot given out twice would leave the end earlier.
    assert row[0] >= first + 40 * step - 1e-6
    assert time.time() >= first + 39 * step


def test_a_slot_past_the_deadline_is_said_and_not_slept(tmp_path: Path) -> None:
    pace = Pace(StateFile(tmp_path / "state.sqlite"), "mes", 0.1)
    pace.wait(Deadline(1.0))
    started = time.monotonic()
    with pytest.raises(TransientError, match="requests_per_s"):
        pace.wait(Deadline(1.0))
    assert time.monotonic() - started < 0.5


def test_a_clock_set_back_does_not_stop_the_pace(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.sqlite")
    file.execute("INSERT INTO pace VALUES ('mes', ?)", time.time() + 86_400)
    Pace(file, "mes", 100.0).wait(Deadline(1.0))


@pytest.mark.parametrize(
    "text",
    [
        "GET https://mes/api?api_key=canary&limit=5",
        "GET https://user:canary@mes/api",
        "Authorization: Bearer canary.canary",
        "Authorization: Basic canary==",
        '{"access_token": "canary", "expires_in": 5}',
        "{'access_token': 'canary', 'expires_in': 5}",
        "client_secret=canary&grant_type=x",
        "https://blob/x?sig=canary&se=1",
        "eyJhbGciOi.canary.canary",
        "the value c4n4ry itself canary",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    assert "canary" not in redact(text, ["c4n4ry itself canary"])


@pytest.mark.parametrize("text", ["GET /a?cursor=c4n%2Fry+%2B1", "GET /a?cursor=c4n/ry%20%2B1", "c4n%2Fry%20%2B1", "c4n/ry +1"])
def test_a_secret_is_hidden_in_a_url_too(text: str) -> None:
    assert "c4n" not in redact(text, ["c4n/ry +1"])


def test_a_short_secret_is_hidden_as_a_word_and_not_within_words() -> None:
    assert redact("session of es refused, id=es&x=1 'es' es", ["es"]) == "session of *** refused, id=***&x=1 '***' ***"
    assert redact("a%2Fes b", ["es"]) == "a%2F*** b"
    assert redact("xa!b? a!", ["a!"]) == "xa!b? ***"


def test_ordinary_text_survives_redaction() -> None:
    text = "GET https://mes/api/v1/measurements?updated_since=2026-11-02T06:00:00Z&cursor=abc&limit=5: status 503"
    assert redact(text) == text
