"""Pages of a REST source: fetched, landed and made Parquet, beside what plain ``requests`` and short scripts take for them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import polars as pl
import requests

from spc_platform.engine import Workspace
from spc_platform.lake.landing import land_source, raw_partition
from spc_platform.lake.ledger import LandedPage
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources import open_source
from spc_platform.sources.decode import decode
from spc_platform.sources.rest import RestSource
from spc_platform_tests.bench.folders import SITE, scratch
from spc_platform_tests.bench.result import Figures, Result, Timing, forget_peak_mb, number, peak_mb, side_by_side

PAGES, RECORDS = 60, 5_000
REPETITIONS = 5
MEMORY_PAGES, MEMORY_RECORDS = (10, 100, 1_000, 10_000), 100
LIMITS = {"requests_per_s": 0}
FIELDS = {"record_id": "id", "revision": "rev", "characteristic_id": "characteristic", "equipment_id": "station"}
MEASURED = Resource("m", ("raw_measurement",), "json_records", path="m", records="data", fields=FIELDS)


def _page(number_: int, pages: int = PAGES, records: int = RECORDS) -> bytes:
    first = number_ * records
    day = f"2026-03-{23 + number_ * 7 // pages:02d}"
    rows = [
        {
            "id": f"M{first + n}",
            "rev": 1,
            "updated_at": f"{day}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.250Z",
            "characteristic": "A10.bore_diameter",
            "station": "A10",
            "measured_at": f"{day}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.125Z",
            "value": 12.0 + n / 7919,
            "unit": "mm",
            "serial": f"S{first + n}",
        }
        for n in range(records)
    ]
    return json.dumps({"data": rows, "next_cursor": str(number_ + 1) if number_ + 1 < pages else None}).encode()


def _serve(told: Connection, n_pages: int, records: int, *, held: bool) -> None:
    """Serves pages that it holds in memory, or makes each when it is asked for."""
    pages = [_page(each, n_pages, records) for each in range(n_pages)] if held else None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            number_ = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
            body = pages[number_] if pages is not None else _page(number_, n_pages, records)
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
def _peer(pages: int = PAGES, records: int = RECORDS, *, held: bool = True) -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(theirs, pages, records), kwargs={"held": held}, daemon=True)
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


def _payloads(url: str) -> Iterator[list[dict[str, Any]]]:
    with requests.Session() as session:
        for each in range(PAGES):
            yield session.get(f"{url}/m", params={"cursor": each}, timeout=30).json()["data"]


def _script(url: str) -> None:
    """What a script would do: every page as JSON, then one frame, then Parquet."""
    pl.DataFrame([row for rows in _payloads(url) for row in rows]).write_parquet(scratch("rest-script.parquet"))


def _pandas_script(url: str) -> None:
    """The same with pandas, a frame a page."""
    pd.concat([pd.DataFrame(rows) for rows in _payloads(url)]).to_parquet(scratch("rest-pandas.parquet"))


class _Side:
    """Our ways through the pages; each takes a workspace with an empty ledger that was opened before the clock started."""

    def __init__(self, url: str, n_calls: int) -> None:
        self._ready = [self._open(url, number_) for number_ in range(n_calls)]

    @staticmethod
    def _open(url: str, number_: int) -> tuple[Workspace, RestSource]:
        workspace = Workspace.open(Settings(site=SITE, data=scratch(f"rest-{number_}")))
        config = Source("bench", "rest", (MEASURED,), base_url=url, limits=LIMITS)
        source = open_source(config, workspace.settings)
        assert isinstance(source, RestSource)
        return replace(workspace, site=replace(workspace.site, sources=(config,))), source

    @contextmanager
    def _opened(self) -> Iterator[tuple[Workspace, RestSource]]:
        workspace, source = self._ready.pop()
        with source:
            yield workspace, source

    def walk(self) -> None:
        with self._opened() as (_, source):
            assert sum(1 for _ in source.walk(MEASURED, None)) == PAGES

    def keep(self) -> None:
        """Fetched, hashed, compressed, and durable with a row in the ledger; the records are not looked at."""
        with self._opened() as (workspace, source):
            batch = workspace.ledger.open_batch("bench", "m")
            for page in source.walk(MEASURED, None):
                digest = workspace.landing.write("bench", page.body)
                kept = LandedPage("bench", "m", digest, page.origin, page.position, len(page.body), page.received_at)
                workspace.ledger.land_page(batch, kept, {}, mutable=True)
            workspace.ledger.close_batch(batch, None)

    def land(self) -> None:
        with self._opened() as (workspace, source):
            land_source(source, workspace.site, workspace.landing, workspace.ledger)

    def typed(self) -> None:
        """Every page as a typed frame, all of them as one Parquet file; nothing is landed."""
        with self._opened() as (_, source):
            frames = [decode(MEASURED, "raw_measurement", page.body) for page in source.walk(MEASURED, None)]
        pl.concat(frames).write_parquet(scratch("rest-typed.parquet"))

    def lake(self) -> None:
        """Landed, and the raw partitions of all production dates committed to the lake."""
        with self._opened() as (workspace, source):
            report = land_source(source, workspace.site, workspace.landing, workspace.ledger)
            for day in report.touched:
                frame = raw_partition("raw_measurement", day, workspace.site, workspace.landing, workspace.ledger)
                workspace.lake.commit("raw_measurement", frame, day)

    def peak(self) -> tuple[float, float]:
        """(MB before landing, MB at the peak)."""
        with self._opened() as (workspace, source):
            before = forget_peak_mb()
            land_source(source, workspace.site, workspace.landing, workspace.ledger)
            return before, peak_mb()


def land_and_measure(url: str) -> None:
    """Runs in a child: lands everything that is served there and prints memory."""
    sys.stdout.write(json.dumps(_Side(url, 1).peak()))


def _memory() -> list[tuple[str, ...]]:
    rows = []
    for pages in MEMORY_PAGES:
        with _peer(pages, MEMORY_RECORDS, held=False) as url:
            code = f"from {__name__} import land_and_measure; land_and_measure({url!r})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        before, peak = json.loads(done.stdout)
        rows.append((number(pages), number(pages * MEMORY_RECORDS), *map(number, (before, peak, peak - before))))
    return rows


STAGES = {
    "plain": "baseline: `requests`, bytes thrown away",
    "walk": "walk: deadline, size and origin checked, envelope read",
    "keep": "fetched, hashed, compressed, durable with a row in the ledger",
    "land": "landed: also decoded, dated, every record in the ledger's index",
}
WAYS = {
    "script": 'a script: `pl.DataFrame(payload["data"])`, `write_parquet`; times stay text',
    "pandas": 'a script: `pd.DataFrame(payload["data"])`, `to_parquet`; times stay text',
    "typed": "walk, decode, typed Parquet; nothing landed",
    "lake": "landed durably, then typed raw partitions per production date, committed to the lake",
}


def _ratio(taken: dict[str, Timing], base: str, key: str) -> tuple[str, str]:
    return f"{taken[base].wall / taken[key].wall:.2f}", f"{taken[base].cpu / taken[key].cpu:.2f}"


def bench() -> Result:
    """Medians of five alternating repetitions; memory once per number of pages."""
    with _peer() as url:
        size = _plain(url)
        names = ("walk", "keep", "land", "typed", "lake")
        side = _Side(url, len(names) * REPETITIONS)
        ours = {name: getattr(side, name) for name in names}
        scripts = {"plain": lambda: _plain(url), "script": lambda: _script(url), "pandas": lambda: _pandas_script(url)}
        taken = side_by_side({**scripts, **ours}, REPETITIONS)
    stages = [
        (
            title,
            *taken[key].columns,
            number(PAGES / taken[key].wall),
            number(PAGES * RECORDS / taken[key].wall),
            number(size / 1e6 / taken[key].wall),
            *_ratio(taken, "plain", key),
        )
        for key, title in STAGES.items()
    ]
    ways = [
        (
            title,
            *taken[key].columns,
            number(PAGES * RECORDS / taken[key].wall),
            *_ratio(taken, "script", key),
            *_ratio(taken, "pandas", key),
        )
        for key, title in WAYS.items()
    ]
    memory = _memory()
    kept, landed = (taken["plain"].wall / taken[key].wall for key in ("keep", "land"))
    typed, lake = (taken["pandas"].cpu / taken[key].cpu for key in ("typed", "lake"))
    columns = ("stage", "wall s", "CPU s", "pages/s", "records/s", "MB/s", "rate / baseline", "the same in CPU")
    of_scripts = ("times polars script", "the same in CPU", "times pandas script", "the same in CPU")
    return Result(
        "REST pages",
        f"{PAGES} pages of {RECORDS:,} records ({size / PAGES / 1e6:.2f} MB each) over loopback, from a server in its own "
        "process that holds them in memory. Medians of five alternating repetitions; the CPU of the server is not counted, "
        f"but it takes from the same cores. Memory: pages of {MEMORY_RECORDS} records, each number of pages landed in full "
        "(fetch, land, decode, index) by a process of its own, once.",
        [
            Figures("one walk", columns, stages),
            Figures("end to end to Parquet", ("way", "wall s", "CPU s", "records/s", *of_scripts), ways),
            Figures("peak memory", ("pages", "records", "before MB", "peak MB", "landing adds MB"), memory),
        ],
        f"Fetched, hashed, compressed and durable with a ledger row runs at {kept:.0%} of plain `requests` (aim 60 %), with "
        f"every record decoded and indexed at {landed:.0%}: {number(PAGES * RECORDS / taken['land'].wall)} records a second. "
        f"To typed Parquet: {typed:.1f} times the pandas script in CPU, {lake:.1f} times with everything landed durably "
        "(aim 3).",
    )
