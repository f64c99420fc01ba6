"""Peak memory of landing by number of pages, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from spc_platform_tests.bench.folders import plant, scratch, settings
from spc_platform_tests.bench.result import Figures, Result, forget_peak_mb, number, peak_mb

PAGES = (10, 100, 400)
PAGE_SIZE = 1000


class _FirstPages:
    """A source that ends after its first pages."""

    def __init__(self, source: object, pages: int) -> None:
        self._source, self._pages = source, pages
        self.config = source.config  # type: ignore[attr-defined]

    def walk(self, resource: object, watermark: str | None) -> Iterator[object]:
        return islice(self._source.walk(resource, watermark), self._pages)  # type: ignore[attr-defined]


def land_and_measure(data: str, pages: str) -> None:
    """Runs in the child: lands that many pages of telemetry, prints pages, records, bytes, seconds, peak memory."""
    from spc_platform.engine import Workspace
    from spc_platform.lake.landing import land_source
    from spc_platform.sources import open_source

    workspace = Workspace.open(settings(Path(data)))
    config = workspace.site.source("mes")
    telemetry = tuple(each for each in config.resources if each.name == "telemetry")
    config = replace(config, resources=telemetry, pagination={**config.pagination, "page_size": PAGE_SIZE})
    source = _FirstPages(open_source(config, workspace.settings), int(pages))
    before = forget_peak_mb()
    report = land_source(source, workspace.site, workspace.landing, workspace.ledger)  # type: ignore[arg-type]
    said = {"pages": report.pages, "records": report.records, "bytes": report.bytes, "seconds": report.seconds}
    sys.stdout.write(json.dumps({**said, "before_mb": before, "peak_mb": peak_mb()}) + "\n")


def _child(pages: int) -> dict[str, float]:
    code = f"from {__name__} import land_and_measure; land_and_measure({str(scratch(f'memory-{pages}'))!r}, '{pages}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    measured: dict[str, float] = json.loads(done.stdout)
    assert measured["pages"] == pages, f"asked for {pages} pages, landed {measured['pages']}"
    return measured


def bench() -> Result:
    """Landing 10, 100 and 400 pages of equal size; the plant serves from another process."""
    with plant():
        measured = {pages: _child(pages) for pages in PAGES}
    rows = [
        (
            str(pages),
            number(each["records"]),
            number(each["bytes"] / 1e6),
            number(each["before_mb"]),
            number(each["peak_mb"]),
            number(each["peak_mb"] - each["before_mb"]),
            number(each["seconds"]),
        )
        for pages, each in measured.items()
    ]
    few, many = measured[PAGES[0]], measured[PAGES[-1]]
    growth = many["peak_mb"] - few["peak_mb"]
    return Result(
        "Memory of ingest",
        f"Telemetry of the embedded plant in pages of {PAGE_SIZE:,} records, landed (fetch, land, decode, index) by a fresh "
        "process each. Peak is the process's high-water mark of resident memory (VmHWM); 'before' is the same with "
        "everything imported and the workspace open.",
        [Figures("peak", ("pages", "records", "MB read", "before MB", "peak MB", "landing adds MB", "wall s"), rows)],
        f"{PAGES[-1] // PAGES[0]} times the pages ({(many['bytes'] - few['bytes']) / 1e6:.0f} MB more read) move the peak by "
        f"{growth:+.0f} MB.",
    )
