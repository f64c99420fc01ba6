"""The demo as a user starts it: a process of its own, from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from spc_platform_tests.bench.folders import scratch
from spc_platform_tests.bench.result import Figures, Result, number

LIMIT_S = 60.0
_PROGRESS = re.compile(r"^\s*(\d+\.\d) s  (\S.*)$", re.MULTILINE)


def bench() -> Result:
    """Wall seconds of `spc demo`, and of its steps from its own progress lines."""
    command = [str(Path(sys.executable).with_name("spc")), "demo", "--out", str(scratch("demo"))]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-2000:]
    return _result(wall, _steps(done.stderr))


def _steps(progress: str) -> list[tuple[str, float, float]]:
    """Step, seconds since the run started when it was done, seconds since the line before."""
    found = [(float(at), name) for at, name in _PROGRESS.findall(progress) if name not in ("loading Dagster", "done")]
    before = [0.0, *(at for at, _ in found)]
    return [(name, at, at - earlier) for (at, name), earlier in zip(found, before, strict=False)]


def _result(wall: float, steps: list[tuple[str, float, float]]) -> Result:
    run = steps[-1][1]
    rows = [(name, number(at), f"{took:.1f}") for name, at, took in steps if took >= 0.3]
    rows.append(("outside the run: imports, definitions, plant's start, summary", "", f"{wall - run:.1f}"))
    verdict = "within" if wall <= LIMIT_S else "above"
    return Result(
        "The demo",
        "`spc demo` from an empty folder: plant started, all landed, 14 production dates, checks, marts, publication, summary. "
        "One repetition. Steps as its progress lines show them, read every half second; those under 0.3 s are left out.",
        [Figures("steps", ("step", "done at s", "took s"), rows)],
        f"{wall:.1f} s in all, {verdict} the aim of {LIMIT_S:.0f} s, at a load average of {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores. Above one process per core the aim is not tested: measure again on a quiet machine.",
    )
