"""Faults below HTTP and at the edges of values: rows of docs/reference/fault-matrix.md that no other test has."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.errors import LakeError, PermanentError, TransientError
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import REPOSITORY
from spc_platform.site.model import Resource
from spc_platform.site.scaffold import scaffold
from spc_platform.sources.decode import decode
from spc_platform_tests.unit.lake_plant import CONFIG, MONDAY, ScriptedSource, at, body, measurement, plant_site
from spc_platform_tests.unit.rest_server import Request, answer, serving
from spc_platform_tests.unit.test_rest import MEASUREMENTS, bodies, page, source

PAGE = REPOSITORY / "docs" / "reference" / "fault-matrix.md"
TESTS = REPOSITORY / "spc_platform_tests"
Peer = Callable[[socket.socket], None]


@contextmanager
def peers(*first: Peer, then: Peer) -> Iterator[str]:
    """A server that treats each connection, one after the other, as told; gives its host and port."""
    waiting = iter(first)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    next(waiting, then)(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Closes with RST instead of FIN: what has not been read is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says(content: bytes, *, and_resets: bool = False) -> Peer:
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(content)
        if and_resets:
            reset(connection)

    return speak


WHOLE = answer(page(1, 2))
BODY = json.dumps(page(1, 2)).encode()
OPEN_END = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(content: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:40], content[40:]))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(says(WHOLE[:200], and_resets=True), id="reset in mid-page"),
        pytest.param(reset, id="reset before an answer"),
        pytest.param(says(CHUNKED + chunks(BODY)), id="chunks without the last one"),
        pytest.param(says(CHUNKED + chunks(BODY)[:60]), id="a chunk cut in two"),
        pytest.param(says(CHUNKED + b"zz\r\n" + BODY), id="a chunk size that is none"),
        pytest.param(says(OPEN_END + BODY[:-40]), id="a body ended by closing, too early"),
        pytest.param(says(b"SSH-2.0-OpenSSH_9\r\n"), id="another protocol"),
    ],
)
def test_a_page_that_broke_below_http_is_asked_for_again_and_nothing_of_it_is_kept(tmp_path: Path, fault: Peer) -> None:
    with peers(fault, fault, then=says(WHOLE)) as where:
        assert [[each["id"] for each in data] for data in bodies(source(f"http://{where}", tmp_path))] == [["M1", "M2"]]


def test_a_whole_page_ended_by_closing_is_taken_since_json_carries_its_end(tmp_path: Path) -> None:
    with peers(then=says(OPEN_END + BODY)) as where:
        assert len(bodies(source(f"http://{where}", tmp_path))[0]) == 2


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://no-such-host.invalid", id="no such name"),
        pytest.param("https://{closing}", id="TLS handshake reset"),
        pytest.param("https://{plain}", id="no TLS behind the port"),
    ],
)
def test_a_source_that_cannot_be_connected_to_is_tried_again_and_its_watermark_stays(tmp_path: Path, url: str) -> None:
    with peers(then=reset) as closing, peers(then=says(WHOLE)) as plain:
        away = source(url.format(closing=closing, plain=plain), tmp_path, limits={"retries": 1})
        with pytest.raises(TransientError, match="gave up after 2 attempts"):
            bodies(away)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 504])
def test_a_status_that_may_pass_is_asked_again(tmp_path: Path, status: int) -> None:
    replies = iter([answer({}, status), answer({}, status)])
    with serving(lambda request: next(replies, WHOLE)) as mes:
        assert len(bodies(source(mes.url, tmp_path))) == 1
        assert len(mes.data_requests) == 3


def test_a_version_or_method_that_the_source_does_not_have_stops_at_once(tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 505)) as mes, pytest.raises(PermanentError, match="505"):
        bodies(source(mes.url, tmp_path))
    assert len(mes.data_requests) == 1


def test_a_date_in_retry_after_is_measured_by_the_clock_of_the_source(tmp_path: Path) -> None:
    """A source whose clock is two hours ahead asks for a wait of one second, not of two hours."""
    theirs = datetime.now(UTC) + timedelta(hours=2)
    busy = answer(
        {},
        429,
        Date=format_datetime(theirs, usegmt=True),
        Retry_After=format_datetime(theirs + timedelta(seconds=1), usegmt=True),
    )
    replies = iter([busy])
    with serving(lambda request: next(replies, WHOLE)) as mes:
        assert len(bodies(source(mes.url, tmp_path))) == 1


def test_an_empty_page_that_names_a_next_one_is_no_end_and_endless_ones_are_bounded(tmp_path: Path) -> None:
    said = {"0": page(0, cursor="1"), "1": page(cursor="2"), "2": page(2)}
    with serving(lambda request: answer(said[request.query.get("cursor", "0")])) as mes:
        assert [len(each) for each in bodies(source(mes.url, tmp_path))] == [1, 0, 1]
    endless = serving(lambda request: answer(page(cursor=str(int(request.query.get("cursor", "0")) + 1))))
    with endless as mes, pytest.raises(PermanentError, match=r"SPC-206.*max_pages = 20"):
        bodies(source(mes.url, tmp_path, limits={"max_pages": 20}))


def test_a_source_may_say_by_another_status_that_a_cursor_expired(tmp_path: Path) -> None:
    pages = {"0": answer(page(0, cursor="1")), "1": answer(page(1))}
    gone = iter([True])

    def reply(request: Request) -> bytes:
        number = request.query.get("cursor", "0")
        return answer({"error": "InvalidCursor"}, 400) if number == "1" and next(gone, False) else pages[number]

    with serving(reply) as mes:
        told = {"kind": "cursor", "next": "next_cursor", "expired_status": [400, 410]}
        assert [each[0]["id"] for each in bodies(source(mes.url, tmp_path, pagination=told))] == ["M0", "M0", "M1"]
    with serving(lambda request: answer({}, 400)) as mes, pytest.raises(PermanentError, match="400"):
        bodies(source(mes.url, tmp_path, pagination=told))
    assert len(mes.data_requests) == 1, "without a cursor it is a refusal as any other"


@pytest.mark.parametrize(
    ("field", "said", "reason"),
    [
        ("measured_at", "0000-01-01T00:00:00Z", "measured_at:TIMESTAMP_OUT_OF_RANGE"),
        ("measured_at", "10000-01-01T00:00:00Z", "measured_at:NOT_A_TIMESTAMP"),
        ("value", "Infinity", "value:NOT_A_NUMBER"),
        ("value", "", "value:NOT_A_NUMBER"),
    ],
)
def test_a_value_that_cannot_be_is_refused_alone(field: str, said: str, reason: str) -> None:
    good = {"id": "A", "measured_at": "2026-11-02T06:00:00Z", "value": 1.0}
    frame = decode(MEASUREMENTS, "raw_measurement", json.dumps({"data": [good, good | {"id": "B", field: said}]}).encode())
    assert frame["decode_error"].to_list() == [None, reason]


@pytest.mark.parametrize(
    "said", ["0001-01-01T00:00:00Z", "-0044-03-15T00:00:00Z", "9999-12-31T23:59:59Z", "+262142-12-31T23:59:59Z"]
)
def test_an_instant_that_no_calendar_holds_costs_its_own_record_alone(tmp_path: Path, said: str) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)
    impossible = measurement("a", said) | {"updated_at": at(MONDAY, 8)}
    source = ScriptedSource({"measurements": [body(impossible, measurement("b", at(MONDAY, 9)))]})
    assert land_source(source, plant_site(), landing, ledger).touched == (MONDAY,)
    rows = raw_partition("raw_measurement", MONDAY, plant_site(), landing, ledger).sort("record_id")
    assert rows["decode_error"].to_list() == ["measured_at:TIMESTAMP_OUT_OF_RANGE", None]
    assert rows["measured_at"].is_null().to_list() == [True, False]
    assert "us since 1970" in rows["raw_record"][0]


def test_an_end_in_the_year_9999_means_open_and_stays() -> None:
    states = Resource("states", ("raw_equipment_state",), "json_records", records="data")
    said = {"record_id": "A", "start_at": "2026-11-02T06:00:00Z", "end_at": "9999-12-31T23:59:59.999999Z"}
    frame = decode(states, "raw_equipment_state", json.dumps({"data": [said]}).encode())
    assert frame.select("end_at", "decode_error").row(0) == (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), None)


def test_digits_of_a_second_past_the_sixth_are_cut_off() -> None:
    said = {"id": "A", "measured_at": "2026-11-02T06:00:00.123456789Z", "value": 1.0}
    frame = decode(MEASUREMENTS, "raw_measurement", json.dumps({"data": [said]}).encode())
    assert frame["measured_at"].to_list() == [datetime(2026, 11, 2, 6, 0, 0, 123456, tzinfo=UTC)]


def test_a_field_that_nobody_mapped_costs_nothing_and_stays_in_the_landed_page(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)
    said = body(measurement("a", at(MONDAY, 8), colour="blue"))
    land_source(ScriptedSource({"measurements": [said]}), plant_site(), landing, ledger)
    rows = raw_partition("raw_measurement", MONDAY, plant_site(), landing, ledger)
    assert rows["decode_error"].to_list() == [None]
    assert b'"colour": "blue"' in landing.read(rows["page_sha256"].item())


def test_a_source_that_is_away_keeps_no_other_from_landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaffold(tmp_path / "site", "plant-1")
    sources = tmp_path / "site" / "sources.toml"
    text = sources.read_text().split("[source.auth]")[0] + "[source.limits]\nretries = 0\n\n[[source.resource]]\n"
    text += 'name = "measurements"\ntables = ["raw_measurement"]\nformat = "json_records"\nrecords = "data"\n'
    text += 'fields = { record_id = "id" }\n\n'
    sources.write_text(text.replace('"mes"', '"away"') + text.replace('"mes"', '"there"'))
    monkeypatch.setenv("SPC_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("SPC_DATA", str(tmp_path / "data"))
    with serving(lambda request: answer(page(1, 2))) as mes:
        monkeypatch.setenv("SPC_SOURCE_URL", json.dumps({"away": "http://127.0.0.1:1", "there": mes.url}))
        landed = CliRunner().invoke(app, ["land"])
    assert landed.exit_code == 2
    assert "away: [SPC-100]" in landed.stderr
    assert "there: 1 pages, 2 records" in landed.stdout


def _land_on_a_short_disk(folder: Path, said: Any) -> None:
    ledger = Ledger(folder / "ledger.sqlite")
    landing = Landing(folder / "landing", ledger)
    first = body(measurement("a", at(MONDAY, 8)))
    land_source(ScriptedSource({"measurements": [first]}), plant_site(), landing, ledger)
    before = ledger.watermark("mes", "measurements")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    noise = random.Random(20)
    large = body(*(measurement(noise.randbytes(500).hex(), at(MONDAY, 9)) for _ in range(4_000)))
    try:
        land_source(ScriptedSource({"measurements": [large]}), plant_site(), landing, ledger)
    except LakeError as error:
        left = [
            path.name for path in landing.root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
        ]
        said.put((str(error), ledger.watermark("mes", "measurements") == before, len(left)))
    else:
        said.put(("landed", False, 0))


def test_a_disk_that_is_full_while_a_page_lands_leaves_no_file_and_no_watermark(tmp_path: Path) -> None:
    """The operating system refuses to let a file grow, as a full disk does, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    process = context.Process(target=_land_on_a_short_disk, args=(tmp_path, said))
    process.start()
    error, is_unmoved, files = said.get(timeout=60)
    process.join(30)
    assert "free space" in error
    assert is_unmoved
    assert files == 1, "the page that landed before"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a'; DROP TABLE record; --", "a\nb", 'x"y', "*", "{a}", "-rf", "a\0b"])
def test_identifiers_of_records_are_values_and_never_a_path_or_a_statement(tmp_path: Path, name: str) -> None:
    """Through landing, ledger, lake and a DuckDB over its files: what came in stands in the rows, and nothing else happened."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)
    hostile = measurement(name, at(MONDAY, 8), characteristic=name, station=name, serial=name, lot=name)
    for _ in range(2):
        report = land_source(
            ScriptedSource({"measurements": [body(hostile), body(measurement("b", at(MONDAY, 9)))]}, CONFIG),
            plant_site(),
            landing,
            ledger,
        )
    assert report.new_records == 0
    rows = raw_partition("raw_measurement", MONDAY, plant_site(), landing, ledger).sort("measured_at")
    assert rows.select("record_id", "characteristic_id", "equipment_id", "serial_number").row(0) == (name,) * 4
    assert rows.height == 2
    stray = [path for path in tmp_path.rglob("*") if path.is_file() and not re.fullmatch(r"[0-9a-z.\-]+", path.name)]
    assert stray == []


# --- the page


def rows_of_the_page() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| Fault")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_row_of_the_matrix_names_a_test_that_exists() -> None:
    rows = rows_of_the_page()
    assert len(rows) >= 45
    for row in rows:
        assert len(row) == 4, row
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[3])
        assert named, f"no test is named for: {row[0]}"
        for file, test in named:
            assert re.search(rf"^def {test}\(", (TESTS / file).read_text(), flags=re.MULTILINE), f"{file}::{test}"
