"""Pages of a REST source: fetched, walked and landed, beside what plain ``requests`` takes for the same bytes."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import requests

from spc_platform.engine import Workspace
from spc_platform.lake.landing import land_source
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources import open_source
from spc_platform.sources.rest import RestSource
from spc_platform_tests.bench.folders import SITE, scratch
from spc_platform_tests.bench.result import Figures, Result, number, side_by_side

PAGES, RECORDS = 60, 5_000
LIMITS = {"requests_per_s": 0}
FIELDS = {"record_id": "id", "revision": "rev", "characteristic_id": "characteristic", "equipment_id": "station"}
MEASURED = Resource("m", ("raw_measurement",), "json_records", path="m", records="data", fields=FIELDS)


def _page(number_: int) -> bytes:
    first = number_ * RECORDS
    rows = [
        {
            "id": f"M{first + n}",
            "rev": 1,
            "updated_at": f"2026-03-{23 + number_ * 7 // PAGES:02d}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.250Z",
            "characteristic": "A10.bore_diameter",
            "station": "A10",
            "measured_at": f"2026-03-{23 + number_ * 7 // PAGES:02d}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.125Z",
            "value": 12.0 + n / 7919,
            "unit": "mm",
            "serial": f"S{first + n}",
        }
        for n in range(RECORDS)
    ]
    return json.dumps({"data": rows, "next_cursor": str(number_ + 1) if number_ + 1 < PAGES else None}).encode()


def _serve(told: Connection) -> None:
    pages = [_page(each) for each in range(PAGES)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = pages[int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Silent: it would be measured."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.send(f"http://127.0.0.1:{server.server_address[1]}")
        server.serve_forever()


@contextmanager
def _peer() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _plain(url: str) -> int:
    """Every page with ``requests``, nothing looked at; gives the bytes."""
    with requests.Session() as session:
        return sum(len(session.get(f"{url}/m", params={"cursor": each}, timeout=30).content) for each in range(PAGES))


def _frames(url: str) -> None:
    """What a script would do: every page as JSON, then a frame, then Parquet."""
    with requests.Session() as session:
        rows = [r for n in range(PAGES) for r in session.get(f"{url}/m", params={"cursor": n}, timeout=30).json()["data"]]
    pl.DataFrame(rows).write_parquet(scratch("rest-script.parquet"))


def _source(url: str, name: str) -> tuple[Workspace, RestSource]:
    workspace = Workspace.open(Settings(site=SITE, data=scratch(name)))
    config = Source("bench", "rest", (MEASURED,), base_url=url, limits=LIMITS)
    source = open_source(config, workspace.settings)
    assert isinstance(source, RestSource)
    return workspace, source


def bench() -> Result:
    """Medians of three alternating repetitions; each landing begins with an empty ledger."""
    fresh = iter(range(1000))

    def walk() -> None:
        _, source = _source(url, f"rest-{next(fresh)}")
        with source:
            for _ in source.walk(MEASURED, None):
                pass

    def land() -> None:
        workspace, source = _source(url, f"rest-{next(fresh)}")
        site = replace(workspace.site, sources=(source.config,))
        with source:
            land_source(source, site, workspace.landing, workspace.ledger)

    with _peer() as url:
        size = _plain(url)
        calls = {"plain": lambda: _plain(url), "walk": walk, "land": land, "script": lambda: _frames(url)}
        taken = side_by_side(calls, 3)
    names = {
        "plain": "baseline: `requests`, bytes thrown away",
        "walk": "walk: deadline, size and origin checked, envelope read",
        "land": "land: also decoded, hashed, compressed, fsynced, every record in the ledger",
        "script": "a script: `response.json()`, `pl.DataFrame`, `write_parquet`",
    }
    rows = [
        (
            names[key],
            *taken[key].columns,
            number(PAGES / taken[key].wall),
            number(PAGES * RECORDS / taken[key].wall),
            number(size / 1e6 / taken[key].wall),
            f"{taken['plain'].wall / taken[key].wall:.2f}",
        )
        for key in names
    ]
    share = taken["plain"].wall / taken["walk"].wall
    return Result(
        "REST pages",
        f"{PAGES} pages of {RECORDS:,} records ({size / PAGES / 1e6:.2f} MB each) over loopback, from a server in its own "
        "process that holds them in memory. Medians of three alternating repetitions.",
        [Figures("one walk", ("stage", "wall s", "CPU s", "pages/s", "records/s", "MB/s", "rate / baseline"), rows)],
        f"Walking runs at {share:.0%} of plain `requests`; {number(PAGES * RECORDS / taken['land'].wall)} records a second are"
        " landed durably.",
    )
