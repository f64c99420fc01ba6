"""Sources that nobody foresaw, by configuration alone: their paging, credentials, limits and hostile answers."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
import trustme

from spc_platform.errors import PermanentError, SiteError
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.site.model import Resource, Source
from spc_platform.site.profiles import PROFILES
from spc_platform.sources import open_source
from spc_platform.sources.decode import decode
from spc_platform.sources.json_shape import SHAPE
from spc_platform.sources.rest import RestSource
from spc_platform.sources.rest_config import AUTH, LIMITS, PAGINATION, RESOURCE
from spc_platform_tests.unit.rest_server import Request, answer, record, serving

QUICK = {"backoff_s": 0.01, "backoff_max_s": 0.02, "requests_per_s": 0, "deadline_s": 5.0, "breaker_failures": 50}
FIELDS = {"record_id": "id", "revision": "rev", "characteristic_id": "characteristic", "equipment_id": "station"}


def source(
    url: str,
    data: Path,
    pagination: dict[str, Any],
    *,
    auth: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **resource: Any,
) -> RestSource:
    what = {"path": "/api/m", "records": "data", "fields": FIELDS} | resource
    measured = Resource("m", ("raw_measurement",), "json_records", options=options or {}, **what)
    config = Source(
        "mes", "rest", (measured,), base_url=url, auth=auth or {}, pagination=pagination, limits=QUICK | (limits or {})
    )
    opened = open_source(config, Settings(data=data))
    assert isinstance(opened, RestSource)
    return opened


def ids(opened: RestSource, watermark: str | None = None) -> list[str]:
    measured = opened.config.resources[0]
    frames = [decode(measured, "raw_measurement", page.body) for page in opened.walk(measured, watermark)]
    return pl.concat(frames)["record_id"].to_list() if frames else []


ALL = [record(number) for number in range(25)]
NAMES = [each["id"] for each in ALL]


def sliced(request: Request, start: int, size: int = 10, **more: Any) -> bytes:
    return answer({"data": ALL[start : start + size], **more})


@pytest.mark.parametrize("more", [{}, {"total": "n"}, {"stop": "short"}, {"has_more": "more"}])
def test_pages_by_number(tmp_path: Path, more: dict[str, Any]) -> None:
    def reply(request: Request) -> bytes:
        number = int(request.query["seite"])
        return sliced(request, (number - 1) * 10, n=25, more=number < 3)

    paging = {"kind": "page", "page_param": "seite", "page_size": 10} | more
    with serving(reply) as mes:
        assert ids(source(mes.url, tmp_path, paging)) == NAMES
        assert len(mes.asked) == (4 if not more else 3)


def test_a_server_that_caps_its_pages_is_read_to_the_end(tmp_path: Path) -> None:
    """A hundred are asked for and ten come: a short page is no end unless the site says so."""
    with serving(lambda request: sliced(request, int(request.query["offset"]))) as mes:
        assert ids(source(mes.url, tmp_path, {"kind": "offset", "page_size": 100})) == NAMES


def test_a_server_that_knows_no_offset_is_no_endless_walk(tmp_path: Path) -> None:
    with serving(lambda request: sliced(request, 0)) as mes:
        with pytest.raises(PermanentError, match=r"SPC-206.*'offset'"):
            ids(source(mes.url, tmp_path, {"kind": "offset", "page_size": 10}))
        assert len(mes.asked) == 2


def test_records_that_move_under_an_offset_start_the_walk_again(tmp_path: Path) -> None:
    """The first record is updated behind the first page and moves to the end: without overlap the eleventh is missed."""
    order = list(ALL)

    def reply(request: Request) -> bytes:
        start = int(request.query["offset"])
        page = answer({"data": order[start : start + 10]})
        if start == 0 and order[0] is ALL[0]:
            order.append(order.pop(0))
        return page

    with serving(reply) as mes:
        found = ids(source(mes.url, tmp_path, {"kind": "offset", "page_size": 10, "overlap_rows": 1}))
    assert set(found) == {*NAMES}


def test_records_that_never_stand_still_are_given_up(tmp_path: Path) -> None:
    turns = iter(range(1000))

    def reply(request: Request) -> bytes:
        shift = next(turns)
        return answer({"data": [record((int(request.query["offset"]) + shift + n) % 60) for n in range(10)]})

    with serving(reply) as mes, pytest.raises(PermanentError, match="SPC-236"):
        ids(source(mes.url, tmp_path, {"kind": "offset", "page_size": 10, "overlap_rows": 2}))


def test_keyset_goes_on_by_the_last_record_also_through_ties(tmp_path: Path) -> None:
    same = [record(number, updated_at="2026-11-02T06:00:05Z") for number in range(100, 130)]
    whole = sorted([*ALL, *same], key=lambda each: (each["updated_at"], each["id"]))

    def reply(request: Request) -> bytes:
        behind = [each for each in whole if each["updated_at"] >= request.query.get("von", "")]
        start = int(request.query.get("offset", 0))
        return answer({"data": behind[start : start + 10]})

    with serving(reply) as mes:
        paging = {"kind": "keyset", "mark": "updated_at", "since_param": "von", "page_size": 10, "time_format": "iso_s"}
        assert {*ids(source(mes.url, tmp_path, paging))} == {each["id"] for each in whole}
        assert len(mes.asked) < 20


def test_a_tulip_table_that_is_written_to_with_every_request_is_read_to_an_end(tmp_path: Path) -> None:
    """By the empty page alone the walk would chase the table's end for ever, and its watermark would never move."""
    whole = [record(number, updated_at=f"2026-11-02T06:00:{number // 20:02d}.{number % 20:03d}Z") for number in range(250)]

    def reply(request: Request) -> bytes:
        number = len(whole)
        whole.append(record(number, updated_at=f"2026-11-02T07:00:00.{number:03d}Z"))
        filters = json.loads(request.query.get("filters", "[]"))
        behind = [each for each in whole if all(each["updated_at"] >= one["arg"] for one in filters)]
        start = int(request.query.get("offset", 0))
        return answer({"data": behind[start : start + 100]})

    with serving(reply) as mes:
        paging = PROFILES["tulip_tables"]["pagination"] | {"mark": "updated_at"}
        opened = source(mes.url, tmp_path, paging, limits={"max_pages": 50})
        assert {f"M{number}" for number in range(250)} <= {*ids(opened)}
        assert len(mes.asked) < 6


def test_link_headers_are_followed_and_hostile_ones_refused(tmp_path: Path) -> None:
    links = iter(['</api/m?p=2>; rel="next", </api/m?p=9>; rel="last"', '<http://127.0.0.2:1/api>; rel="next"'])
    with serving(lambda request: answer({"data": ALL[:1]}, Link=next(links))) as mes:
        with pytest.raises(PermanentError, match="SPC-203"):
            ids(source(mes.url, tmp_path, {"kind": "link_header"}))
        assert [request.query.get("p") for request in mes.asked] == [None, "2"]


def test_an_allowed_other_origin_is_asked_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", "canary-key")
    with (
        serving(lambda request: answer({"data": ALL[1:2]})) as other,
        serving(lambda request: answer({"data": ALL[:1], "next": f"{other.url}/export?sig=1"})) as mes,
    ):
        paging = {"kind": "next_link", "allow_origins": [other.url], "headers": {"X-Tenant": "canary-tenant"}}
        auth = {"kind": "bearer", "secret_env": "PLANT_SECRET", "headers_env": {"X-Key-Id": "PLANT_SECRET"}}
        assert ids(source(mes.url, tmp_path, paging, auth=auth)) == ["M0", "M1"]
    assert mes.asked[0].headers["x-key-id"] == "canary-key"
    assert "canary" not in str(other.asked), "nothing of ours leaves the origin"


def test_redirects_within_the_source_are_followed_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", "canary-key")
    auth = {"kind": "header", "header": "X-Key", "prefix": "Key ", "secret_env": "PLANT_SECRET"}

    def reply(request: Request) -> bytes:
        if request.path == "/api/m":
            return answer({}, 307, Location="/api/v2/m")
        return answer({}, 302, Location="http://127.0.0.2:1/") if "bad" in request.query else answer({"data": ALL[:1]})

    with serving(reply) as mes:
        assert ids(source(mes.url, tmp_path, {"kind": "none"}, auth=auth, limits={"redirects": 1})) == ["M0"]
        assert mes.asked[-1].headers["x-key"] == "Key canary-key"
        with pytest.raises(PermanentError, match="SPC-203"):
            ids(
                source(
                    mes.url,
                    tmp_path,
                    {"kind": "none"},
                    auth=auth,
                    limits={"redirects": 3},
                    options={"params": {"bad": 1}},
                    path="x",
                )
            )


def test_a_slice_that_is_as_long_as_answers_may_be_is_halved(tmp_path: Path) -> None:
    def reply(request: Request) -> bytes:
        begin, end = (datetime.fromtimestamp(int(request.query[name]) / 1e3, UTC) for name in ("a", "b"))
        found = [each for each in ALL if begin <= datetime.fromisoformat(each["updated_at"]) < end]
        return answer({"data": found[:4]})

    start = "2026-11-02T06:00:00Z"
    paging = {"kind": "time_slice", "since_param": "a", "until_param": "b", "time_format": "epoch_ms", "slice_s": 1e8}
    with serving(reply) as mes:
        assert ids(source(mes.url, tmp_path, paging | {"start": start, "page_size": 4})) == NAMES
        with pytest.raises(PermanentError, match="SPC-234"):
            ids(source(mes.url, tmp_path, paging | {"start": start, "page_size": 4, "smallest_slice_s": 600}))
        with pytest.raises(SiteError, match=r"SPC-433.*pagination\.start"):
            ids(source(mes.url, tmp_path, paging))


def test_tokens_outlive_a_poll_and_a_password_s_refresh_token_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANT_USER", "u")
    monkeypatch.setenv("PLANT_SECRET", "canary-password")
    asked: list[dict[str, list[str]]] = []

    def reply(request: Request) -> bytes:
        if request.path == "/login":
            asked.append(parse_qs(request.body))
            number = len(asked)
            return answer({"session": {"jwt": f"canary-T{number}"}, "expires_in": "3600", "refresh_token": f"canary-R{number}"})
        ok = request.headers["authorization"] == f"Bearer canary-T{len(asked)}" and (
            len(asked) > 1 or "again" not in request.query
        )
        return answer({"data": ALL[:1]} if ok else {}, 200 if ok else 401)

    auth = {
        "kind": "oauth2_password",
        "token_path": "/login",
        "token_field": "session.jwt",
        "token_params": {"audience": "plant"},
        "user_env": "PLANT_USER",
        "secret_env": "PLANT_SECRET",
    }
    with serving(reply) as mes:
        for _ in range(2):
            ids(source(mes.url, tmp_path, {"kind": "none"}, auth=auth))
        assert asked == [
            {"grant_type": ["password"], "username": ["u"], "password": ["canary-password"], "audience": ["plant"]}
        ], "a new poll of this process asks for no new token"
        opened = source(mes.url, tmp_path, {"kind": "none"}, auth=auth, options={"params": {"again": 1}})
        ids(opened)
    assert asked[1]["grant_type"] == ["refresh_token"]
    assert asked[1]["refresh_token"] == ["canary-R1"]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary" not in written
    assert "canary" not in caplog.text + repr(opened._auth)


@contextmanager
def mutual_tls(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """An https server that wants a certificate of the plant's CA: its URL, the CA and a client's certificate and key."""
    ca = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server_context)
    ca.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"data": ALL[:1]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = server_context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        ca.issue_cert("platform.plant").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
        (folder / "client.pem").chmod(0o600)
        yield f"https://127.0.0.1:{server.server_address[1]}", folder / "ca.pem", folder / "client.pem"
        server.shutdown()


def test_a_private_ca_and_a_client_certificate(tmp_path: Path) -> None:
    with mutual_tls(tmp_path) as (url, ca, client):
        tls = {"ca_file": str(ca), "cert_file": str(client)}
        assert ids(source(url, tmp_path, {"kind": "none"}, auth=tls)) == ["M0"]
        with pytest.raises(Exception, match=r"SPC-(100|101)"):
            ids(source(url, tmp_path, {"kind": "none"}, auth={"ca_file": str(ca)}, limits={"retries": 0}))
        with pytest.raises(PermanentError, match="SPC-202"):
            ids(source(url, tmp_path, {"kind": "none"}, auth={"cert_file": str(client)}))
        client.chmod(0o644)
        with pytest.raises(SiteError, match=r"SPC-434.*key_file"):
            source(url, tmp_path, {"kind": "none"}, auth=tls)


@pytest.mark.parametrize(
    ("pagination", "options", "named"),
    [
        ({"kind": "keyset"}, {}, "pagination.mark"),
        ({"kind": "time_slice", "since_param": ""}, {}, "since_param"),
        ({"params_in": "body"}, {}, "method = 'POST'"),
        ({"headers": {"Authorization": "x"}}, {}, "headers_env"),
        ({}, {"headers": {"X": "a\nb"}}, "no line of text"),
        ({}, {"parms": {}}, 'did you mean "params"'),
        ({}, {"pagination": {"knd": "page"}}, 'did you mean "kind"'),
        ({}, {"layout": "rowz"}, 'did you mean "rows"'),
    ],
)
def test_a_wrong_key_is_named_when_the_source_is_opened(
    tmp_path: Path, pagination: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(SiteError, match=named):
        source("http://127.0.0.1:1", tmp_path, pagination, options=options)


ODD = """
[[source]]
source_id = "mes"
kind = "rest"
base_url = "{url}/anlage/7"

[source.auth]
kind = "header"
header = "Authorization"
prefix = "Werk "
secret_env = "PLANT_SECRET"
headers_env = {{ X-Mandant = "PLANT_USER" }}

[source.pagination]
kind = "cursor"
method = "POST"
params_in = "body"
cursor_param = "suche.weiter"
since_param = "suche.ab"
time_format = "%d.%m.%Y %H:%M:%S"
time_zone = "Europe/Berlin"
limit_param = "suche.zeilen"
page_size = 4
next = "kopf.weiter"
has_more = "kopf.rest"
server_time = ""

[source.limits]
requests_per_s = 0
backoff_s = 0.01

[[source.resource]]
name = "messwerte"
path = "abfrage"
tables = ["raw_measurement"]
format = "json_records"
records = "koerper.zeilen"
zone = "Europe/Berlin"
overlap_s = 60

[source.resource.fields]
record_id = "lfd"
updated_at = "stand"
measured_at = "zeit"
characteristic_id = "merkmal"
equipment_id = "^kopf.station"
value = "wert"

[source.resource.options]
layout = "rows"
columns = "koerper.spalten"
body = {{ suche = {{ art = "Messung" }} }}
null_tokens = ["---"]
types = {{ value = "decimal_comma", measured_at = "%d.%m.%Y %H:%M:%S%.f", updated_at = "epoch_ms" }}
linear = {{ value = [0.001, 0.0] }}
constants = {{ unit = "mm" }}
maps = {{ characteristic_id = {{ "12" = "BORE" }} }}
deleted = {{ path = "storno", values = ["J"] }}
quality = [{{ path = "guete", good = ["i.O."], reason = "NOT_OK" }}]
"""


def test_a_dialect_that_nobody_foresaw_works_by_configuration_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """POST bodies with nested keys, rows under column names, local times, decimal commas in micrometres, words of its own."""
    monkeypatch.setenv("PLANT_SECRET", "canary-key")
    monkeypatch.setenv("PLANT_USER", "4711")
    stand = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
    rows = [
        [
            n,
            int((stand + timedelta(minutes=n)).timestamp() * 1e3),
            f"02.11.2026 07:{n:02d}:00.5",
            12,
            f"1.{n:03d},5",
            "i.O.",
            "N",
        ]
        for n in range(10)
    ]
    rows[3][4], rows[4][5], rows[5][6] = "---", "Fehler", "J"
    asked: list[dict[str, Any]] = []

    def reply(request: Request) -> bytes:
        assert (request.method, request.path) == ("POST", "/anlage/7/abfrage")
        assert request.headers["authorization"] == "Werk canary-key"
        assert request.headers["x-mandant"] == "4711"
        asked.append(json.loads(request.body)["suche"])
        start = int(asked[-1].get("weiter", 0))
        page = {
            "kopf": {"weiter": start + 4, "rest": start + 4 < len(rows), "station": "CNC1"},
            "koerper": {
                "spalten": [{"name": each} for each in ("lfd", "stand", "zeit", "merkmal", "wert", "guete", "storno")],
                "zeilen": rows[start : start + 4],
            },
        }
        return answer(page)

    with serving(reply) as mes:
        folder = tmp_path / "site"
        folder.mkdir()
        for path in (REPOSITORY / "data" / "site").iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / "sources.toml").write_text(ODD.format(url=mes.url))
        site = load_site(folder)
        opened = open_source(site.source("mes"), Settings(data=tmp_path, site=folder))
        measured = opened.config.resources[0]
        pages = list(opened.walk(measured, "2026-11-02T06:01:00Z"))
    frame = pl.concat([decode(measured, "raw_measurement", page.body) for page in pages])
    assert [each.get("weiter") for each in asked] == [None, 4, 8]
    assert {(each["art"], each["zeilen"], each["ab"]) for each in asked} == {("Messung", 4, "02.11.2026 07:00:00")}
    assert frame["record_id"].to_list() == [str(n) for n in range(10)]
    assert frame["value"].to_list() == [None if n in (3, 4) else pytest.approx(1.0005 + n * 1e-3) for n in range(10)]
    assert frame["measured_at"].to_list() == [stand + timedelta(minutes=n, seconds=0.5) for n in range(10)]
    assert frame["updated_at"].to_list() == [stand + timedelta(minutes=n) for n in range(10)]
    assert frame["decode_error"].drop_nulls().to_list() == ["value:NOT_OK"]
    assert frame.filter("is_deleted")["record_id"].to_list() == ["5"]
    assert set(frame.select("characteristic_id", "equipment_id", "unit").rows()) == {("BORE", "CNC1", "mm")}


def test_an_unknown_profile_is_a_problem_of_its_line(tmp_path: Path) -> None:
    for path in (REPOSITORY / "data" / "site").iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "sources.toml").read_text().replace('kind = "rest"', 'kind = "rest"\nprofile = "odata_v5"', 1)
    (tmp_path / "sources.toml").write_text(text)
    with pytest.raises(SiteError, match=r'sources.toml:5: no profile .odata_v5.; did you mean "odata_v4"'):
        load_site(tmp_path)


def test_the_reference_names_every_key_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "reference" / "rest.md").read_text()
    for section in (AUTH, PAGINATION, LIMITS, SHAPE, RESOURCE):
        for key, default in section.items():
            found = [line.split("|") for line in page.splitlines() if line.startswith("|") and f"`{key}`" in line.split("|")[1]]
            shown = "" if isinstance(default, (dict, list)) else json.dumps(default)
            assert any(section is RESOURCE or shown in cells[2] for cells in found), f"{key} = {shown}"
    assert all(f"| `{name}` |" in page for name in PROFILES)
