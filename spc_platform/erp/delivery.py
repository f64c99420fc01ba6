"""Delivering the outbox: each summary by PUT under one idempotency key until the ERP acknowledges or refuses it.

Delivery is at least once, and the key (order, revision, digest) lets the ERP accept once. An answer counts as
acknowledgement only if it names the order, the revision and the digest that were sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import quote

import msgspec
import pybreaker

from spc_platform.erp.config import NAME, ErpConfig, token_url
from spc_platform.erp.outbox import Entry, Outbox
from spc_platform.errors import PermanentError, TransientError
from spc_platform.lake.files import Checkpoint, locked, no_checkpoint
from spc_platform.settings import Settings
from spc_platform.sources.auth import make_auth
from spc_platform.sources.http import Answer, Bounds, Transport, origin, redact
from spc_platform.sources.resilience import (
    Backoff,
    Deadline,
    RetriableError,
    StateFile,
    circuit_breaker,
    retry_after_seconds,
    retrying,
)
from spc_platform.sources.rest import RETRIED_STATUS

logger = logging.getLogger(__name__)

OURS_TO_MEND = {
    401: "the credential was refused twice; check the variables that auth names",
    403: "permission is missing; ask the owner of the ERP for write access",
    405: "nothing can be put there; check base_url and path",
}
"""Statuses that say nothing about a document: the run ends and every document stays."""
_SHOWN = 300


class RefusedError(Exception):
    """The ERP does not want this document, whatever we do."""


class _Acknowledgement(msgspec.Struct):
    job_order_id: str
    revision: int
    payload_sha256: str


@dataclass(slots=True)
class DeliveryReport:
    """What one run did: summaries acknowledged, refused and put off."""

    acknowledged: int = 0
    refused: int = 0
    postponed: int = 0


class Erp:
    """The ERP that ``config`` names. Raises SiteError when a named secret is not in the environment."""

    def __init__(self, config: ErpConfig, settings: Settings) -> None:
        limits = config.limits
        self.config, self.limits = config, limits
        bounds = Bounds(limits["connect_s"], limits["read_s"], int(limits["max_answer_bytes"]))
        self._transport = Transport(bounds, ca_file=config.auth["ca_file"] or None)
        at_tokens = token_url(config) if config.auth["kind"].startswith("oauth2") else ""
        self._auth = make_auth(NAME, config.base_url, config.auth, self._transport, at_tokens)
        scheme, host, port = origin(config.base_url)
        self.target = f"{NAME} at {scheme}://{host}:{port}"
        state = StateFile(settings.data / "state.sqlite")
        self._breaker = circuit_breaker(state, self.target, max(1, int(limits["breaker_failures"])), limits["breaker_reset_s"])

    def __repr__(self) -> str:
        return f"Erp({self.target})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close()

    def put(self, entry: Entry, deadline: Deadline) -> None:
        """Deliver one summary: returns when it is acknowledged.

        Raises RefusedError with the ERP's reason, RetriableError when attempts or time are used up,
        TransientError (SPC-102) while the breaker is open, PermanentError when the fault is ours for every document.
        """
        limits = self.limits
        within = deadline.sooner(limits["deadline_s"])
        backoff = Backoff(within, limits["backoff_s"], limits["backoff_max_s"], limits["retry_after_max_s"])
        for attempt in retrying(backoff, 1 + int(limits["retries"])):
            with attempt:
                self._guarded(entry, within)

    def shown(self, text: str) -> str:
        """The text without any secret, short enough for a row of the outbox."""
        return redact(text, self._auth.secrets())[:_SHOWN]

    def _guarded(self, entry: Entry, deadline: Deadline) -> None:
        try:
            self._breaker.call(self._attempt, entry, deadline)
        except pybreaker.CircuitBreakerError:
            raise TransientError(
                f"{self.target}: circuit breaker open after {self._breaker.fail_max} failures in a row; a trial is made"
                f" {self._breaker.reset_timeout:g} s after the last one. Check that the ERP runs and is reachable",
                code="SPC-102",
            ) from None

    def _attempt(self, entry: Entry, deadline: Deadline) -> None:
        within = deadline.sooner(self.limits["timeout_s"])
        answer = self._send(entry, within)
        if answer.status == 401 and self._auth.renew():
            answer = self._send(entry, within)
        self._judge(entry, answer)

    def _send(self, entry: Entry, deadline: Deadline) -> Answer:
        self._auth.ready(deadline)
        return self._transport.send(
            "PUT",
            self._url(entry),
            deadline,
            body=entry.payload,
            headers={"Content-Type": "application/json", "Idempotency-Key": entry.key},
            auth=self._auth,
            secrets=self._auth.secrets(),
        )

    def _url(self, entry: Entry) -> str:
        if entry.job_order_id in ("", ".", ".."):
            raise RefusedError(f"not sent: {entry.job_order_id!r} cannot name an order in a URL; correct it in the MES")
        path = self.config.path.replace("{order}", quote(entry.job_order_id, safe="")).lstrip("/")
        return f"{self.config.base_url}/{path}"

    def _judge(self, entry: Entry, answer: Answer) -> None:
        status, where = answer.status, f"{self.target}, order {entry.job_order_id!r} revision {entry.revision}"
        wait = retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
        if status in (200, 201):
            self._verify(entry, answer, where)
        elif status in RETRIED_STATUS or status >= 500 or (status == 409 and wait is not None):
            raise RetriableError(f"{where}: status {status}", retry_after=wait)
        elif status in OURS_TO_MEND or not 400 <= status < 500:
            remedy = OURS_TO_MEND.get(status, "redirects are not followed; correct base_url and path")
            raise PermanentError(f"{where}: status {status}, {remedy}", code="SPC-205" if status in (401, 403) else "SPC-200")
        else:
            said = " ".join(answer.body[: 4 * _SHOWN].decode("utf-8", "replace").split())
            raise RefusedError(f"status {status}: {said or 'no reason given'}")

    def _verify(self, entry: Entry, answer: Answer, where: str) -> None:
        """Raises RetriableError unless the answer names what was sent: a proxy's page says 200 as well."""
        try:
            said = msgspec.json.decode(answer.body, type=_Acknowledgement)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RetriableError(f"{where}: status {answer.status} without an acknowledgement") from None
        if (said.job_order_id, said.revision) != (entry.job_order_id, entry.revision):
            raise RetriableError(f"{where}: the acknowledgement is of {said.job_order_id!r} revision {said.revision}")
        if said.payload_sha256 != entry.payload_sha256:
            raise RetriableError(
                f"{where}: the acknowledgement names digest {said.payload_sha256[:12]!r}, sent was {entry.payload_sha256[:12]}"
            )


def deliver(
    outbox: Outbox,
    erp: Erp,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    checkpoint: Checkpoint = no_checkpoint,
) -> DeliveryReport:
    """Send what is due until nothing is, or the total deadline passed; one run at a time.

    A summary that could not be delivered is put off and its order with it; other orders go on. Raises
    TransientError while the breaker is open and PermanentError when the fault is ours; what was not
    acknowledged stays and is sent by the next run, under the same key.
    """
    report = DeliveryReport()
    deadline = Deadline(erp.limits["total_deadline_s"])
    with locked(outbox.path.with_suffix(".lock"), erp.limits["connect_s"], "the ERP outbox"), outbox.held():
        began = clock()
        while deadline.remaining > 0 and (entry := outbox.next_due(began)) is not None:
            outbox.mark_sent(entry)
            try:
                erp.put(entry, deadline)
            except RefusedError as error:
                outbox.refuse(entry, erp.shown(str(error)), clock())
                report.refused += 1
            except (TransientError, PermanentError) as error:
                _postpone(outbox, erp, entry, error, began)
                report.postponed += 1
                if not isinstance(error, RetriableError):
                    raise
            else:
                checkpoint("delivery:answered")
                outbox.acknowledge(entry, clock())
                report.acknowledged += 1
    return report


def _postpone(outbox: Outbox, erp: Erp, entry: Entry, error: Exception, began: datetime) -> None:
    """Put a summary off past this run; a fault of ours costs no wait, since mending it is what is waited for."""
    wait = min(erp.limits["later_max_s"], erp.limits["later_s"] * 2.0 ** min(entry.attempts, 30))
    step = timedelta(seconds=wait) if isinstance(error, RetriableError) else timedelta()
    outbox.postpone(entry, erp.shown(str(error)), began + max(step, timedelta(microseconds=1)))
    logger.warning("summary put off: %s", erp.shown(str(error)))
