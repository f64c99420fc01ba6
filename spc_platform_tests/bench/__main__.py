"""Runs benchmarks by name; all of them write docs/benchmarks.md anew, ``--keep`` the sections of those named."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version

from rich.console import Console

from spc_platform.settings import REPOSITORY
from spc_platform_tests.bench.result import Result

NAMES = (
    "orchestrated",
    "backfill",
    "memory",
    "ingest",
    "rest",
    "mqtt",
    "kernels",
    "statistics",
    "oee",
    "trace",
    "opcua",
    "demo",
)
PACKAGES = ("dagster", "polars", "duckdb", "pyarrow", "numpy", "pandas", "great-expectations", "dbt-core")
PAGE = REPOSITORY / "docs" / "benchmarks.md"

READING = """# Benchmarks

Made by `make bench`; `python -m spc_platform_tests.bench NAME` runs one of {names} and \
writes nothing, with `--keep` its section.

Measured {date} on {machine}; {versions}.

**How to read this.** The machine was shared with other work: wall seconds can double from one run to the next. Trust ratios \
more than seconds, and CPU ratios more than wall ratios: what is compared ran alternately in the same process. CPU seconds \
count all threads of the process. Where only one repetition was made, it is said.
"""

NOT_MEASURED = """## Not measured

- A remote MES: the plant answers on loopback and costs CPU on the same cores, so network latency is missing from the rates.
- Disks: fsync is as fast as this machine's file system makes it.
- Reading while another run writes, several runs at once, and the daemon with its sensors.
- `dbt build` by itself; its wall time stands among the demo's steps.
- Operating systems other than Linux.
"""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{cores}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _document(results: list[Result]) -> str:
    head = READING.format(
        names=", ".join(NAMES),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=_machine(),
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
    )
    return "\n".join([head, *(result.markdown() + "\n" for result in results), NOT_MEASURED])


def main(names: list[str]) -> int:
    """Exit code 0, or 2 for a name that is not known."""
    console = Console(highlight=False)
    is_kept, names = "--keep" in names, [name for name in names if name != "--keep"]
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        console.print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    results = []
    for name in names or NAMES:
        console.print(f"running {name}")
        run: Callable[[], Result] = import_module(f"spc_platform_tests.bench.{name}").bench
        results.append(run())
        results[-1].show(console)
    if is_kept or not names:
        text = _with_sections(PAGE.read_text(encoding="utf-8"), results) if names else _document(results)
        PAGE.write_text(text, encoding="utf-8")
        console.print(f"written: {PAGE.relative_to(REPOSITORY)}")
    return 0


def _with_sections(page: str, results: list[Result]) -> str:
    """The page with the sections of these results in place of those of the same title, or before the last one."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    for result in results:
        section = result.markdown().rstrip("\n") + f"\n\nMeasured {datetime.now(UTC):%Y-%m-%d}.\n\n"
        title = section.partition("\n")[0]
        place = next((index for index, known in enumerate(sections) if known.partition("\n")[0] == title), None)
        if place is None:
            sections.insert(len(sections) - 1, section)
        else:
            sections[place] = section
    return head + "".join(sections)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
