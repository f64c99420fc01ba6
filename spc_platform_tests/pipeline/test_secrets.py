"""Secrets of every kind of source, and every byte that was written while sources took, refused or repeated them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from urllib.parse import quote, quote_plus

import polars as pl
import pytest
import trustme
import zstandard

from spc_platform.site.scaffold import scaffold
from spc_platform_tests.collect.broker import Broker
from spc_platform_tests.collect.opcua.collection import free_port
from spc_platform_tests.collect.opcua.peer import NAMESPACE, Peer
from spc_platform_tests.conftest import need
from spc_platform_tests.postgresql import server as postgresql
from spc_platform_tests.unit.rest_server import Request, answer, record, serving

USER = "Pl4nt-user"
SECRETS = {
    f"SPC_T_{name.upper()}": f"K4n/{name}+&='%s-{number:02d}c9f1"
    for number, name in enumerate(
        (
            "basic",
            "header",
            "bearer",
            "client",
            "password",
            "query",
            "refused",
            "further",
            "database",
            "broker",
            "opcua",
            "agent",
        )
    )
}
TOKEN = "T0ken-K4n-3fd9a1"
SOURCE = """
[[source]]
source_id = "{name}"
kind = "rest"
base_url = "{url}"
auth = {{ {auth} }}
pagination = {{ kind = "cursor", next = "next_cursor" }}
limits = {{ retries = 0, requests_per_s = 0, deadline_s = 5.0, connect_s = 1.0 }}
[[source.resource]]
name = "measurements"
tables = ["raw_measurement"]
format = "json_records"
path = "/measurements"
records = "data"
fields = {{ record_id = "id", revision = "rev", characteristic_id = "characteristic", equipment_id = "station" }}
"""
OTHERS = """
[[source]]
source_id = "database"
kind = "sql"
base_url = "postgresql+psycopg://reader@127.0.0.1:{database}/mes"
auth = {{ kind = "password", secret_env = "SPC_T_DATABASE" }}
limits = {{ retries = 0 }}
[[source.resource]]
name = "measurements"
tables = ["raw_measurement"]
format = "arrow"
path = "public.v_measurement"

[[source]]
source_id = "broker"
kind = "mqtt"
base_url = "mqtt://127.0.0.1:{broker}"
auth = {{ user_env = "SPC_T_USER", secret_env = "SPC_T_BROKER" }}
[[source.options.payloads]]
timestamp = "ts"
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false

[[source]]
source_id = "stranger"
kind = "mqtt"
base_url = "mqtt://127.0.0.1:{broker}"
auth = {{ user_env = "SPC_T_USER", secret_env = "SPC_T_REFUSED" }}
[[source.options.payloads]]
timestamp = "ts"
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false

[[source]]
source_id = "server"
kind = "opcua"
base_url = "opc.tcp://127.0.0.1:{server}/line1"
[source.auth]
security = "None"
identity = "user"
user_env = "SPC_T_USER"
secret_env = "SPC_T_OPCUA"
allow_plain_password = true
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false

[[source]]
source_id = "agent"
kind = "mtconnect"
base_url = "{agent}"
auth = {{ kind = "basic", user_env = "SPC_T_USER", secret_env = "SPC_T_AGENT" }}
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false
"""
TAGS = f"""\
source_id,address,record,name,equipment_id,unit,scale,offset,deadband,interval_s,trigger
broker,l1/temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
stranger,l1/temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
server,nsu={NAMESPACE};s=temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
agent,temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
"""
COMMAND = "from spc_platform.cli.main import main; main()"
LAND = """
import logging
from spc_platform.engine import Workspace
from spc_platform.errors import SpcError
from spc_platform.lake.landing import land_source
from spc_platform.settings import Settings
from spc_platform.sources import open_source
from spc_platform.observe.logs import configure_logging
plant = Workspace.open(Settings())
configure_logging(plant.settings)
logging.getLogger().setLevel(logging.DEBUG)
for config in plant.site.sources:
    try:
        source = open_source(config, plant.settings)
        print(config.source_id, repr(source), repr(vars(source)))
        print("landed", land_source(source, plant.site, plant.landing, plant.ledger).pages)
    except SpcError:
        logging.exception("landing %s failed", config.source_id)
"""
DAGSTER = """
import dagster as dg
from spc_platform.build import build_defs
from spc_platform.orchestration.partitions import range_tags
from datetime import date
job = build_defs().resolve_job_def("everything")
with dg.DagsterInstance.get() as instance:
    for name in ("basic", "header", "refused", "database"):
        result = job.execute_in_process(instance=instance, tags=range_tags(date(2026, 11, 2), date(2026, 11, 2)),
                                        asset_selection=[dg.AssetKey(f"landed_{name}")], raise_on_error=False)
        print("run of", name, "succeeded" if result.success else "failed")
"""


def forms(secret: str) -> list[bytes]:
    """How a secret might be written: plain, escaped, encoded, and in base64 at any place of a longer text."""
    plain = secret.encode()
    texts = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], plain.hex()]
    within = []
    for before in range(3):
        # Leaves out the characters that the neighbours share.
        encoded = base64.b64encode(b"\0" * before + plain)
        whole = encoded[(before * 8 + 5) // 6 : (before + len(plain)) * 8 // 6]
        within += [whole, whole.replace(b"+", b"-").replace(b"/", b"_")]
    return [*(text.encode() for text in texts), *within, secret.encode("utf-16-le")]


def content_of(path: Path) -> bytes:
    """The bytes of a file; what is compressed is unpacked, and Parquet read as text, beside them."""
    content = path.read_bytes()
    if path.suffix == ".zst":
        content += zstandard.ZstdDecompressor().decompressobj().decompress(content)
    if path.suffix == ".parquet":
        texts = pl.read_parquet(path).select(pl.selectors.string() | pl.selectors.categorical() | pl.selectors.enum())
        content += "\n".join(str(text) for column in texts for text in column.cast(pl.String).unique()).encode()
    return content


def leaks(folder: Path, secrets: dict[str, str]) -> list[tuple[str, str]]:
    """(file, secret's name) for every secret in every file below a folder."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = content_of(path)
        found += [(str(path.relative_to(folder)), name) for name, ways in wanted.items() if any(way in content for way in ways)]
    return found


@pytest.mark.parametrize(
    "written",
    [
        "x{}x",
        "user:{}",
        "a=b&p={}",
    ],
)
def test_the_search_finds_a_secret_in_every_form_and_kind_of_file(tmp_path: Path, written: str) -> None:
    secret = SECRETS["SPC_T_BASIC"]
    text = written.format(secret)
    (tmp_path / "a.log").write_text(text)
    (tmp_path / "b.json").write_text(json.dumps({"header": "Basic " + base64.b64encode(text.encode()).decode()}))
    (tmp_path / "c.url").write_text("?p=" + quote_plus(text))
    (tmp_path / "d.zst").write_bytes(zstandard.ZstdCompressor().compress(text.encode()))
    pl.DataFrame({"a": [text] * 100}).write_parquet(tmp_path / "e.parquet")
    (tmp_path / "f.txt").write_text("nothing")
    assert [file for file, _ in leaks(tmp_path, {"BASIC": secret})] == ["a.log", "b.json", "c.url", "d.zst", "e.parquet"]


def echoing(request: Request) -> bytes:
    """A page, a refusal or a broken page by the source's path, each of which repeats every secret that came with it."""
    came = {name: request.headers[name] for name in ("authorization", "x-api-key", "x-further") if name in request.headers}
    told = {**came, "query": request.query, "form": request.body, "bare": came.get("authorization", "").rpartition(" ")[2]}
    if request.path.endswith("/token"):
        if request.path.startswith("/client"):
            return answer(told, 401)
        return answer({"access_token": TOKEN, "expires_in": 3600, "echo": told})
    if request.path.startswith("/basic"):
        return answer({"data": [record(1)], "next_cursor": None})
    if request.path.startswith("/header"):
        return answer(told, 401, **{"WWW-Authenticate": request.headers.get("x-api-key", "")})
    if request.path.startswith(("/password", "/broken")):
        return answer((json.dumps(told) + '{"data": [').encode())
    if request.path.startswith("/query"):
        return answer(b"<html>" + json.dumps(told).encode() + b"</html>", Content_Type="text/html")
    return answer({}, 302, Location="http://elsewhere.invalid/?key=" + quote(request.headers.get("authorization", "")))


class Refuses(BaseHTTPRequestHandler):
    """An agent that refuses and repeats what it was told."""

    def do_GET(self) -> None:
        self.send_response(401)
        body = str(self.headers).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Peers:
    sources: str


@pytest.fixture
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """One peer behind every kind of credential; each takes, refuses, repeats or cannot be reached."""
    folder = tmp_path_factory.mktemp("peers")
    with ExitStack() as stack:
        mes = stack.enter_context(serving(echoing))
        context = SSLContext(PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        secure = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Refuses))
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        agent = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Refuses))
        for each in (secure, agent):
            each.daemon_threads = True
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            stack.callback(each.shutdown)
        database = stack.enter_context(postgresql())
        (folder / "passwords").write_text(f"{USER}:{SECRETS['SPC_T_BROKER']}\n")
        subprocess.run([need("mosquitto_passwd"), "-U", folder / "passwords"], check=True, capture_output=True)
        (folder / "passwords").chmod(0o644)
        access = ("allow_anonymous false", f"password_file {folder}/passwords")
        broker = stack.enter_context(Broker(folder / "broker", *access))
        server = Peer(free_port(), users=True).start()
        stack.callback(server.kill)
        user = 'user_env = "SPC_T_USER"'
        client = 'client_id_env = "SPC_T_USER", client_secret_env = "SPC_T_CLIENT"'
        rest = {
            "basic": (mes.url, f'kind = "basic", {user}, secret_env = "SPC_T_BASIC"'),
            "header": (mes.url, 'kind = "header", secret_env = "SPC_T_HEADER", headers_env = { X-Further = "SPC_T_FURTHER" }'),
            "bearer": (f"https://127.0.0.1:{secure.server_address[1]}", 'kind = "bearer", secret_env = "SPC_T_BEARER"'),
            "client": (mes.url, f'kind = "oauth2_client", token_path = "/client/token", {client}'),
            "password": (
                mes.url,
                f'kind = "oauth2_password", token_path = "/password/token", {user}, {client}, secret_env = "SPC_T_PASSWORD"',
            ),
            "query": (mes.url, 'kind = "query", secret_env = "SPC_T_QUERY"'),
            "refused": (mes.url, f'kind = "basic", {user}, secret_env = "SPC_T_REFUSED"'),
            "broken": (mes.url, f'kind = "basic", {user}, secret_env = "SPC_T_REFUSED"'),
            "away": (f"http://127.0.0.1:{free_port()}", 'kind = "query", secret_env = "SPC_T_QUERY"'),
        }
        text = "".join(SOURCE.format(name=name, url=f"{url}/{name}", auth=auth) for name, (url, auth) in rest.items())
        agent_url = f"http://127.0.0.1:{agent.server_address[1]}"
        ports = {"database": database.port, "broker": broker.port, "server": server.port, "agent": agent_url}
        yield Peers(text + OTHERS.format(**ports))


def test_no_secret_of_any_source_is_in_anything_the_platform_wrote(peers: Peers, tmp_path: Path) -> None:
    """Checked, landed, collected, asked for and materialized; taken, refused, repeated, unverified and out of reach."""
    site, home = tmp_path / "site", tmp_path / "dagster_home"
    scaffold(site, "plant-1")
    home.mkdir()
    (site / "sources.toml").write_text(peers.sources)
    (site / "tags.csv").write_text(TAGS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPC_", "DAGSTER_"))}
    given = {"SPC_SITE": str(site), "SPC_DATA": str(tmp_path / "data"), "SPC_T_USER": USER, **SECRETS, "COLUMNS": "400"}
    environment = kept | given | {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}

    def run(name: str, script: str, *arguments: str) -> str:
        command = [sys.executable, "-c", script, *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=240)
        (tmp_path / f"{name}.log").write_bytes(result.stdout + b"\n" + result.stderr)
        return (result.stdout + result.stderr).decode()

    doctor = run("doctor", COMMAND, "doctor")
    for name in ("header", "bearer", "client", "password", "query", "refused", "broken", "away", "database"):
        assert f"source {name}: no answer" in doctor, f"{name} was to fail"
    assert "source basic: answers" in doctor
    landed = run("land", LAND)
    assert landed.count("landed 1") == 1
    assert landed.count("Traceback") >= 8
    collected = run("collect", COMMAND, "collect", "--max-seconds", "5", "--port", "0")
    for name in ("stranger", "server", "agent"):
        assert f"source {name}: " in collected, f"{name} was to be refused"
    assert "source broker: " not in collected, "broker was to be taken"
    materialized = run("dagster", DAGSTER)
    assert "run of basic succeeded" in materialized
    assert [name for name in ("header", "refused", "database") if f"run of {name} failed" not in materialized] == []
    run("status", COMMAND, "status")

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    for suffix in (".zst", ".sqlite", ".db"):
        assert any(path.suffix == suffix for path in written), f"nothing of kind {suffix} was written"
    assert leaks(tmp_path, SECRETS | {"TOKEN": TOKEN}) == []
