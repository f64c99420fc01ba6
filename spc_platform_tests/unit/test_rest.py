"""Pages from a MES over HTTP: every fault of the network and of the other side, against real sockets."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import logging
import multiprocessing
import socket
import time
import traceback
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spc_platform.errors import PermanentError, SiteError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources import open_source
from spc_platform.sources.http import resolve_next
from spc_platform.sources.rest import RestSource
from spc_platform_tests.unit.rest_server import SECRET, Mes, Reply, Request, answer, record, serving

FIELDS = {
    "record_id": "id",
    "revision": "rev",
    "is_deleted": "deleted",
    "characteristic_id": "characteristic",
    "equipment_id": "station",
}
MEASUREMENTS = Resource(
    "measurements",
    ("raw_measurement",),
    "json_records",
    path="/api/v1/measurements",
    records="data",
    fields=FIELDS,
    overlap_s=60.0,
)
QUICK = {"backoff_s": 0.01, "backoff_max_s": 0.02, "requests_per_s": 0, "deadline_s": 5.0, "breaker_failures": 50}
OAUTH = {"kind": "oauth2_client"}


def source(url: str, data: Path, *, limits: dict[str, Any] | None = None, **config: Any) -> RestSource:
    settings = Settings(data=data, source_url={"mes": url}, mes_client_secret=SECRET)
    described = Source("mes", "rest", (MEASUREMENTS,), base_url="http://127.0.0.1:1", limits=QUICK | (limits or {}), **config)
    opened = open_source(described, settings)
    assert isinstance(opened, RestSource)
    return opened


def page(*numbers: int, cursor: str | None = None, link: str | None = None) -> dict[str, Any]:
    return {"data": [record(number) for number in numbers], "next_cursor": cursor, "next": link}


def bodies(opened: RestSource, watermark: str | None = None) -> list[Any]:
    return [json.loads(landed.body)["data"] for landed in opened.walk(MEASUREMENTS, watermark)]


def faulty(*first: Reply, then: bytes | None = None) -> Any:
    """Replies with the given faults, one a request, then with a good page for ever."""
    replies = iter(first)
    good = then or answer(page(1))
    return lambda request: next(replies, good)


def three_pages(request: Request) -> bytes:
    number = int(request.query.get("cursor", "0"))
    return answer(page(number, cursor=str(number + 1) if number < 2 else None))


def test_pages_come_in_order_unchanged_and_name_their_request(tmp_path: Path) -> None:
    with serving(three_pages) as mes:
        landed = list(source(mes.url, tmp_path, auth=OAUTH).walk(MEASUREMENTS, None))
    assert [json.loads(each.body)["data"][0]["id"] for each in landed] == ["M0", "M1", "M2"]
    assert landed[1].body == json.dumps(page(1, cursor="2")).encode()
    assert landed[1].origin == f"GET {mes.url}/api/v1/measurements?limit=5000&cursor=1"
    assert [each.position for each in landed] == ["", "1", "2"]
    assert [request.headers["authorization"] for request in mes.data_requests] == ["Bearer T1-canary-token"] * 3
    assert mes.tokens == 1


def test_the_walk_asks_from_the_watermark_less_the_overlap(tmp_path: Path) -> None:
    with serving(three_pages) as mes:
        bodies(source(mes.url, tmp_path), "2026-11-02T07:00:30+01:00")
    assert {request.query["updated_since"] for request in mes.data_requests} == {"2026-11-02T05:59:30.000000Z"}


def test_an_update_later_than_the_page_s_own_time_is_no_news_and_bounds_nothing(tmp_path: Path) -> None:
    """A record dated 2999 stays first after any watermark: it must neither be news for ever nor hide the next one."""
    future = record(9, updated_at="2999-01-01T00:00:00Z")
    said = {"data": [future], "next_cursor": None, "server_time": "2026-11-02T07:00:00+01:00"}
    after = "2026-11-02T05:00:00Z"
    with serving(lambda request: answer(said)) as mes:
        opened = source(mes.url, tmp_path, pagination={"limit_param": ""})
        assert opened.has_news(MEASUREMENTS, after) is None
        [landed] = opened.walk(MEASUREMENTS, after)
        assert landed.credible_until == datetime(2026, 11, 2, 6, 5, tzinfo=UTC)
        said["data"] = [record(1), future]
        assert opened.has_news(MEASUREMENTS, after) == "2026-11-02T06:00:01.000000Z"
        wide = source(mes.url, tmp_path, limits={"future_s": 60.0})
        assert next(wide.walk(MEASUREMENTS, after)).credible_until == datetime(2026, 11, 2, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("said", [None, "", "noon", "2026-11-02T07:00:00", 17, "9999-12-31T23:59:59Z", {}])
def test_a_page_that_does_not_say_its_time_as_an_instant_bounds_no_update(tmp_path: Path, said: Any) -> None:
    with serving(lambda request: answer({**page(1), "server_time": said})) as mes:
        [landed] = source(mes.url, tmp_path).walk(MEASUREMENTS, None)
    assert landed.credible_until is None


def test_next_links_of_the_source_are_followed(tmp_path: Path) -> None:
    def reply(request: Request) -> bytes:
        second = "cursor" in request.query
        return answer(page(int(second), link=None if second else "/api/v1/measurements?cursor=b&limit=5000"))

    with serving(reply) as mes:
        assert len(bodies(source(mes.url, tmp_path, pagination={"kind": "next_link"}))) == 2


def test_a_next_link_to_another_host_is_refused_and_no_token_reaches_it(tmp_path: Path) -> None:
    with (
        serving(lambda request: answer(page(2))) as thief,
        serving(lambda request: answer(page(1, link=f"{thief.url}/api"))) as mes,
    ):
        opened = source(mes.url, tmp_path, auth=OAUTH, pagination={"kind": "next_link"})
        walk = opened.walk(MEASUREMENTS, None)
        next(walk)
        with pytest.raises(PermanentError, match="leaves the configured scheme, host or port"):
            next(walk)
        # Even a caller that got past the check attaches nothing.
        with pytest.raises(PermanentError, match="left the configured origin"):
            opened._transport.send("GET", thief.url, _deadline(), auth=opened._auth)
    assert thief.asked == []
    assert mes.data_requests[0].headers["authorization"].startswith("Bearer")


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with serving(lambda request: answer(page(2))) as thief:
        with serving(lambda request: answer(b"", 302, Location=thief.url)) as mes, pytest.raises(PermanentError, match="302"):
            bodies(source(mes.url, tmp_path, auth=OAUTH))
        assert thief.asked == []


@pytest.mark.parametrize(
    "link",
    [
        "https://mes.plant:8443/api/v1/x",
        "http://mes.plant:8443.evil.example/api/v1/x",
        "//evil.example/api/v1/x",
        "http://mes.plant:8443@evil.example/api/v1/x",
        "http://user@mes.plant:8443/api/v1/x",
        "http://mes.plant:80/api/v1/x",
        "/admin/faults",
        "/api/v10/x",
        "/api/v1/../../admin",
        "/api/v1/%2e%2e/admin",
        "/api/v1/..\\admin",
        "http:\\\\evil.example",
        "/api/v1/x\r\nHost: evil",
        "http://[bad",
        "javascript:alert(1)",
    ],
)
def test_links_that_leave_the_base_are_refused(link: str) -> None:
    with pytest.raises(PermanentError, match="next link"):
        resolve_next("http://mes.plant:8443/api/v1", "http://mes.plant:8443/api/v1/measurements?limit=5", link)


def test_a_link_may_be_relative_to_the_page() -> None:
    base = "http://mes.plant:8443/api/v1"
    assert resolve_next(base, base + "/measurements?limit=5", "?cursor=a") == base + "/measurements?cursor=a"


@pytest.mark.parametrize("cycle", [1, 2, 3, 7])
def test_a_repeated_cursor_ends_the_walk(tmp_path: Path, cycle: int) -> None:
    counter = itertools.count()
    with serving(lambda request: answer(page(1, cursor=f"c{next(counter) % cycle}"))) as mes:
        with pytest.raises(PermanentError, match="pagination loop"):
            bodies(source(mes.url, tmp_path))
        assert len(mes.data_requests) <= 4 * cycle + 2


def test_endless_new_cursors_end_at_max_pages(tmp_path: Path) -> None:
    counter = itertools.count()
    with serving(lambda request: answer(page(1, cursor=f"c{next(counter)}"))) as mes:
        with pytest.raises(PermanentError, match="max_pages = 9"):
            bodies(source(mes.url, tmp_path, limits={"max_pages": 9}))
        assert len(mes.data_requests) == 9


def test_a_page_that_comes_twice_is_yielded_twice_and_the_walk_goes_on(tmp_path: Path) -> None:
    """The lake removes duplicates by record key; the source reports what it was told."""

    def reply(request: Request) -> bytes:
        number = int(request.query.get("cursor", "0"))
        return answer(page(5, cursor=str(number + 1) if number < 2 else None))

    with serving(reply) as mes:
        assert [each[0]["id"] for each in bodies(source(mes.url, tmp_path))] == ["M5", "M5", "M5"]


WHOLE = answer(page(1))
TRUNCATED_JSON = answer(json.dumps(page(1, 2)).encode()[:-30])
LOGIN = answer(b"<!DOCTYPE html><form>sign in</form>", Content_Type="text/html")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(TRUNCATED_JSON, id="truncated JSON"),
        pytest.param(WHOLE[:-40], id="body shorter than Content-Length"),
        pytest.param(WHOLE[:30], id="connection lost in the headers"),
        pytest.param(b"", id="connection closed without an answer"),
        pytest.param(answer(b""), id="empty body"),
        pytest.param(answer({"message": "busy"}), id="no records"),
        pytest.param(answer({"data": {"a": 1}}), id="records that are no array"),
        pytest.param(answer({}, 503), id="503"),
        pytest.param(answer({}, 429, Retry_After="0.05"), id="429 with Retry-After"),
        pytest.param(answer({}, 429, Retry_After="-5"), id="429 with a negative Retry-After"),
        pytest.param(answer({}, 500, Retry_After="soon"), id="500 with garbage in Retry-After"),
        pytest.param(LOGIN, id="HTML with 200"),
        pytest.param(answer(b"x" * 50, Content_Encoding="gzip"), id="gzip that is none"),
    ],
)
def test_a_passing_fault_is_retried_and_nothing_of_it_is_kept(tmp_path: Path, fault: bytes) -> None:
    with serving(faulty(fault, fault)) as mes:
        assert [[each["id"] for each in data] for data in bodies(source(mes.url, tmp_path, auth=OAUTH))] == [["M1"]]
    assert len(mes.data_requests) == 3


def test_an_answer_that_nests_too_deeply_is_refused_at_once(tmp_path: Path) -> None:
    deep = answer(b"[" * 100_000 + b"]" * 100_000)
    with serving(lambda request: deep) as mes, pytest.raises(PermanentError, match="SPC-237"):
        bodies(source(mes.url, tmp_path))
    assert len(mes.asked) == 1


def test_a_small_answer_that_grows_out_of_proportion_is_refused(tmp_path: Path) -> None:
    bomb = answer(gzip.compress(json.dumps(page(1)).encode() + b" " * (8 << 20)), Content_Encoding="gzip")
    with serving(lambda request: bomb) as mes:
        with pytest.raises(PermanentError, match=r"SPC-233.*max_ratio"):
            bodies(source(mes.url, tmp_path))
        assert bodies(source(mes.url, tmp_path, limits={"max_ratio": 2000.0})), "the same within the bound"


def test_a_page_that_stays_broken_is_named_by_its_hash_and_start(tmp_path: Path) -> None:
    broken = b'{"data": [{"id": "M1", "access_token": "T1-canary-token"}'
    with serving(lambda request: answer(broken)) as mes, pytest.raises(TransientError) as caught:
        bodies(source(mes.url, tmp_path, auth=OAUTH, limits={"retries": 2}))
    text = str(caught.value)
    assert hashlib.sha256(broken).hexdigest() in text
    assert '{"data": [{"id": "M1"' in text
    assert "gave up after 3 attempts" in text
    assert "canary" not in text


def test_html_with_200_renews_the_credential_once(tmp_path: Path) -> None:
    with serving(lambda request: LOGIN) as mes, pytest.raises(TransientError, match="HTML where JSON was expected"):
        bodies(source(mes.url, tmp_path, auth=OAUTH, limits={"retries": 2}))
    assert mes.tokens == 2
    assert len(mes.data_requests) == 4


def test_a_401_in_mid_run_renews_the_token_and_loses_no_page(tmp_path: Path) -> None:
    def reply(request: Request) -> bytes:
        if request.query.get("cursor") == "1" and request.headers["authorization"] == "Bearer T1-canary-token":
            return answer({"error": "expired"}, 401)
        return three_pages(request)

    with serving(reply) as mes:
        assert len(bodies(source(mes.url, tmp_path, auth=OAUTH))) == 3
    assert mes.tokens == 2


def test_a_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    def reply(request: Request) -> list[bytes | float]:
        return [0.12, three_pages(request)]

    with serving(reply, expires_in=0.2) as mes:
        assert len(bodies(source(mes.url, tmp_path, auth=OAUTH))) == 3
    assert mes.tokens >= 2


def test_401_twice_stops_at_once(tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 401)) as mes, pytest.raises(PermanentError, match="refused twice"):
        bodies(source(mes.url, tmp_path, auth=OAUTH))
    assert len(mes.data_requests) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 422, 501])
def test_a_refusal_is_not_retried(tmp_path: Path, status: int) -> None:
    with serving(lambda request: answer({}, status)) as mes, pytest.raises(PermanentError, match=str(status)):
        bodies(source(mes.url, tmp_path, limits={"breaker_failures": 1}))
    assert len(mes.data_requests) == 1


def test_a_wrong_client_secret_stops_with_the_name_of_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", "wrong-canary")
    with serving(three_pages) as mes, pytest.raises(PermanentError, match="client_secret_env") as caught:
        bodies(source(mes.url, tmp_path, auth=OAUTH | {"client_secret_env": "PLANT_SECRET"}))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"kind": "bearer", "secret_env": "PLANT_SECRET"}, "authorization", "Bearer canary-key"),
        ({"kind": "header", "secret_env": "PLANT_SECRET", "header": "X-Plant-Key"}, "x-plant-key", "canary-key"),
        ({"kind": "basic", "secret_env": "PLANT_SECRET", "user_env": "PLANT_USER"}, "authorization", "Basic dTpjYW5hcnkta2V5"),
        (OAUTH | {"client_auth": "basic"}, "authorization", "Bearer T1-canary-token"),
        ({"kind": "none"}, "authorization", None),
    ],
)
def test_each_kind_of_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: dict[str, Any], header: str, value: str | None
) -> None:
    monkeypatch.setenv("PLANT_SECRET", "canary-key")
    monkeypatch.setenv("PLANT_USER", "u")
    with serving(three_pages) as mes:
        opened = source(mes.url, tmp_path, auth=auth)
        assert len(bodies(opened)) == 3
    assert {request.headers.get(header) for request in mes.data_requests} == {value}
    assert "canary" not in repr(opened._auth)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="PLANT_SECRET_THAT_IS_NOT_SET"):
        source("http://127.0.0.1:1", tmp_path, auth={"kind": "bearer", "secret_env": "PLANT_SECRET_THAT_IS_NOT_SET"})


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    with serving(faulty(answer({}, 429, Retry_After="0.4"))) as mes:
        started = time.monotonic()
        bodies(source(mes.url, tmp_path))
    assert time.monotonic() - started >= 0.4


def test_a_retry_after_past_the_deadline_gives_up_at_once(tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 429, Retry_After="60")) as mes:
        started = time.monotonic()
        with pytest.raises(TransientError, match="status 429"):
            bodies(source(mes.url, tmp_path))
    assert time.monotonic() - started < 2
    assert len(mes.data_requests) == 1


def test_an_expired_cursor_starts_the_walk_again_once(tmp_path: Path) -> None:
    gone = iter([True])

    def reply(request: Request) -> bytes:
        return answer({}, 410) if request.query.get("cursor") == "1" and next(gone, False) else three_pages(request)

    with serving(reply) as mes:
        assert [each[0]["id"] for each in bodies(source(mes.url, tmp_path))] == ["M0", "M0", "M1", "M2"]
    for_ever = serving(lambda request: answer({}, 410) if "cursor" in request.query else answer(page(0, cursor="1")))
    with for_ever as mes, pytest.raises(PermanentError, match="410"):
        bodies(source(mes.url, tmp_path))


def _deadline() -> Any:
    from spc_platform.sources.resilience import Deadline

    return Deadline(5.0)


@pytest.mark.parametrize("slow_part", ["headers", "body", "chunked body"])
def test_a_source_that_drips_bytes_meets_the_total_deadline(tmp_path: Path, slow_part: str) -> None:
    whole = {
        "headers": WHOLE,
        "body": WHOLE,
        "chunked body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n{\r\n" * 400,
    }[slow_part]
    quick = 0 if slow_part == "headers" else whole.index(b"\r\n\r\n") + 4
    drip: list[bytes | float] = [whole[:quick]]
    for byte in whole[quick:]:
        drip += [0.1, bytes([byte])]
    with serving(lambda request: drip) as mes:
        started = time.monotonic()
        with pytest.raises(TransientError, match="total deadline"):
            bodies(source(mes.url, tmp_path, limits={"deadline_s": 0.8, "read_s": 0.5}))
    assert 0.7 <= time.monotonic() - started < 1.4


def test_a_source_that_says_nothing_meets_the_read_timeout(tmp_path: Path) -> None:
    with serving(faulty([3.0])) as mes:
        started = time.monotonic()
        assert len(bodies(source(mes.url, tmp_path, limits={"read_s": 0.3}))) == 1
    assert time.monotonic() - started < 1.5


def test_a_gzip_bomb_is_refused_by_its_decoded_size(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 100_000
    with serving(lambda request: answer(bomb, Content_Encoding="gzip")) as mes:
        opened = source(mes.url, tmp_path, limits={"max_page_bytes": 1 << 20})
        tracemalloc.start()
        with pytest.raises(PermanentError, match="larger than 1048576 bytes"):
            bodies(opened)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20
    assert len(mes.data_requests) == 1


def test_a_gzipped_page_lands_decoded(tmp_path: Path) -> None:
    plain = json.dumps(page(1)).encode()
    with serving(lambda request: answer(gzip.compress(plain), Content_Encoding="gzip")) as mes:
        assert next(source(mes.url, tmp_path).walk(MEASUREMENTS, None)).body == plain


def test_nan_in_a_record_does_not_refuse_the_page(tmp_path: Path) -> None:
    body = b'{"data": [{"id": "M1", "value": NaN}], "next_cursor": null}'
    with serving(lambda request: answer(body)) as mes:
        assert next(source(mes.url, tmp_path).walk(MEASUREMENTS, None)).body == body


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _state_in_another_process(url: str, data: Path, said: Any) -> None:
    try:
        bodies(source(url, data))
    except SpcError as error:
        said.put(error.code)


def test_the_breaker_opens_for_every_process_and_closes_after_a_good_trial(tmp_path: Path) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    limits = {"retries": 2, "breaker_failures": 3, "breaker_reset_s": 2.5}
    with pytest.raises(TransientError, match="refused"):
        bodies(source(url, tmp_path, limits=limits))
    with serving(three_pages, port=port) as mes:
        with pytest.raises(TransientError, match="circuit breaker open"):
            bodies(source(url, tmp_path, limits=limits))
        with pytest.raises(TransientError, match="circuit breaker open"):
            source(url, tmp_path, limits=limits).has_news(MEASUREMENTS, None)
        context = multiprocessing.get_context("spawn")
        said = context.Queue()
        child = context.Process(target=_state_in_another_process, args=(url, tmp_path, said))
        child.start()
        code = said.get(timeout=20)
        child.join()
        assert code == "SPC-102"
        assert mes.asked == []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                pages = bodies(source(url, tmp_path, limits=limits))
                break
            except TransientError:
                time.sleep(0.1)
        assert len(pages) == 3


def test_a_failed_trial_opens_the_breaker_again(tmp_path: Path) -> None:
    limits = {"retries": 0, "breaker_failures": 2, "breaker_reset_s": 0.2}
    with serving(lambda request: answer({}, 503)) as mes:
        opened = source(mes.url, tmp_path, limits=limits)
        codes = []
        for wait in (0, 0, 0, 0.3, 0):
            time.sleep(wait)
            with pytest.raises(TransientError) as caught:
                bodies(opened)
            codes.append(caught.value.code)
    assert codes == ["SPC-100", "SPC-100", "SPC-102", "SPC-100", "SPC-102"]
    assert len(mes.data_requests) == 3


@pytest.mark.parametrize(
    "fault",
    [answer({}, 403), answer({}, 503), TRUNCATED_JSON, LOGIN, WHOLE[:-40], answer({}, 401), answer(page(1, cursor="c"))],
)
def test_no_secret_in_errors_logs_reprs_or_pages(tmp_path: Path, fault: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(lambda request: fault) as mes:
        opened = source(mes.url, tmp_path, auth=OAUTH, limits={"retries": 1})
        landed: list[Any] = []
        with pytest.raises(SpcError) as caught:
            landed.extend(opened.walk(MEASUREMENTS, None))
    assert mes.tokens >= 1
    shown = [repr(landed), repr(opened), repr(opened._auth), str(vars(opened)), caplog.text]
    shown += [repr(caught.value), *traceback.format_exception(caught.value)]
    assert "canary" not in "".join(shown)


@pytest.mark.parametrize(
    ("section", "value", "key"),
    [
        ("limits", {"retrys": 3}, "limits.retrys"),
        ("limits", {"retries": "many"}, "limits.retries"),
        ("limits", {"retries": True}, "limits.retries"),
        ("limits", {"deadline_s": -1}, "limits.deadline_s"),
        ("pagination", {"kind": "offsets"}, "pagination.kind"),
        ("pagination", {"pagesize": 5}, 'did you mean "page_size"'),
        ("auth", {"client_secret": "x"}, "auth.client_secret"),
        ("auth", {"ca_file": "nowhere.pem"}, "auth.ca_file"),
        ("kind", "ftp", "unknown kind 'ftp'"),
        ("base_url", "mes.plant:80", "base_url"),
    ],
)
def test_a_wrong_key_of_the_site_folder_is_named(tmp_path: Path, section: str, value: Any, key: str) -> None:
    described = replace(Source("mes", "rest", (MEASUREMENTS,), base_url="http://127.0.0.1:1"), **{section: value})
    with pytest.raises(SiteError, match=key):
        open_source(described, Settings(data=tmp_path))


def test_credentials_do_not_travel_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="plain HTTP"):
        source("http://mes.plant.example", tmp_path, auth=OAUTH)


@pytest.mark.parametrize("token_path", ["http://login.plant.example/token", "HTTP://login.plant.example/token"])
@pytest.mark.parametrize("base_url", ["https://mes.plant.example", "http://127.0.0.1:1"])
def test_the_client_secret_does_not_travel_in_the_clear_to_another_token_server(
    tmp_path: Path, base_url: str, token_path: str
) -> None:
    oauth = OAUTH | {"token_path": token_path}
    with pytest.raises(SiteError, match=r"auth\.token_path sends credentials over plain HTTP to login\.plant\.example"):
        source(base_url, tmp_path, auth=oauth)
    source(base_url, tmp_path, auth=oauth | {"allow_http": True})


def test_a_token_path_without_host_scheme_is_that_of_the_source(tmp_path: Path) -> None:
    """``//host/path`` keeps the scheme and leaves the host: plain from a plain loopback source, encrypted from an https one."""
    oauth = OAUTH | {"token_path": "//login.plant.example/token"}
    with pytest.raises(SiteError, match="plain HTTP"):
        source("http://127.0.0.1:1", tmp_path, auth=oauth)
    source("https://mes.plant.example", tmp_path, auth=oauth)
    source("https://mes.plant.example", tmp_path, auth=OAUTH | {"token_path": "http://localhost:9/token"})


@pytest.mark.parametrize("token_path", ["ftp://login.plant.example/token", "https://user:canary@login.plant.example/token"])
def test_a_token_path_that_is_no_http_address_is_refused(tmp_path: Path, token_path: str) -> None:
    with pytest.raises(SiteError, match=r"auth\.token_path") as caught:
        source("https://mes.plant.example", tmp_path, auth=OAUTH | {"token_path": token_path})
    assert "canary" not in str(caught.value)


def test_a_source_closes_its_connections_when_its_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    with source("http://127.0.0.1:1", tmp_path) as opened:
        monkeypatch.setattr(opened._transport, "close", lambda: closed.append(True))
        assert not closed
    assert closed == [True]


def test_processes_share_one_request_rate(tmp_path: Path) -> None:
    with serving(three_pages) as mes:
        pair = [source(mes.url, tmp_path, limits={"requests_per_s": 20}) for _ in range(2)]
        started = time.monotonic()
        for opened in pair:
            bodies(opened)
        # Six requests at 20/s: the last starts five steps of 50 ms after the first.
        assert 0.24 <= time.monotonic() - started < 1.5


def news(mes: Mes, data: Path, watermark: str | None) -> str | None:
    return source(mes.url, data).has_news(MEASUREMENTS, watermark)


def test_news_are_records_later_than_the_watermark(tmp_path: Path) -> None:
    def reply(request: Request) -> bytes:
        since = request.query.get("updated_since", "")
        found = [
            each
            for each in (record(1), record(2), record(2), record(2), record(3))
            if each["updated_at"] >= since.replace("000000Z", "Z")
        ]
        return answer(
            {"data": [each for each in found if each["updated_at"][:19] + ".000000Z" >= since][: int(request.query["limit"])]}
        )

    with serving(reply) as mes:
        assert news(mes, tmp_path, None) == "2026-11-02T06:00:02.000000Z"
        # Three records carry the watermark itself; they must not hide the later one.
        assert news(mes, tmp_path, "2026-11-02T06:00:02Z") == "2026-11-02T06:00:03.000000Z"
        assert news(mes, tmp_path, "2026-11-02T06:00:03Z") is None
    assert {request.query["limit"] for request in mes.data_requests} == {"2"}


def test_an_absent_source_gives_no_news_but_a_transient_error_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TransientError):
        source(f"http://127.0.0.1:{unused_port()}", tmp_path).has_news(MEASUREMENTS, None)
    with serving(lambda request: answer({}, 503)) as mes, pytest.raises(TransientError, match="503"):
        news(mes, tmp_path, None)
    assert len(mes.data_requests) == 1
    assert time.monotonic() - started < 2


def test_memory_does_not_grow_with_the_number_of_pages(tmp_path: Path) -> None:
    filler = json.dumps([record(number) for number in range(2000)]).encode()

    def reply(request: Request) -> bytes:
        number = int(request.query.get("cursor", "0"))
        return answer(b'{"data": %s, "next_cursor": %s}' % (filler, b'"%d"' % (number + 1) if number < 40 else b"null"))

    with serving(reply) as mes:
        tracemalloc.start()
        size, peaks = 0, []
        for landed in source(mes.url, tmp_path).walk(MEASUREMENTS, None):
            size = len(landed.body)
            peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert len(peaks) == 41
    assert size > 400_000
    # 35 further pages would be 35 times the size of one, were they kept; the server's own copies are in the count too.
    assert peaks[-1] - peaks[5] < 4 * size
