"""What a benchmark gives back, and how it is shown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figures:
    """One table of figures."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Result:
    """A section: what was compared, the figures, and the sentence that they come to."""

    name: str
    compared: str
    figures: list[Figures]
    finding: str

    def show(self, console: Console) -> None:
        console.rule(self.name)
        for figures in self.figures:
            table = Table(*figures.columns, title=figures.title, title_justify="left")
            for row in figures.rows:
                table.add_row(*row)
            console.print(table)
        console.print(self.finding)

    def markdown(self) -> str:
        parts = [f"## {self.name}", self.compared]
        for figures in self.figures:
            lines = [figures.columns, ("---", *("---:" for _ in figures.columns[1:])), *figures.rows]
            parts.append(f"**{figures.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        return "\n\n".join([*parts, self.finding])


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians of wall and CPU seconds of this process (all its threads)."""

    wall: float
    cpu: float

    @property
    def columns(self) -> tuple[str, str]:
        return number(self.wall), number(self.cpu)


def timed(call: Callable[[], object]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def median(timings: Sequence[Timing]) -> Timing:
    return Timing(statistics.median(each.wall for each in timings), statistics.median(each.cpu for each in timings))


def side_by_side(calls: dict[str, Callable[[], object]], repetitions: int = 3) -> dict[str, Timing]:
    """Medians of each call. They alternate, and every second round runs backwards, so that a slow minute hits all."""
    taken: dict[str, list[Timing]] = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name in list(calls)[:: -1 if repetition % 2 else 1]:
            taken[name].append(timed(calls[name]))
    return {name: median(timings) for name, timings in taken.items()}


def forget_peak_mb() -> float:
    """Forget the high-water mark of resident memory so far; gives what the program holds now, in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_mb()


def peak_mb() -> float:
    """Peak resident memory of this program. ru_maxrss would also count what its parent held when it was forked."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def number(value: float) -> str:
    """Three significant digits.

    >>> number(0.01234), number(12.34), number(1234567.0)
    ('0.0123', '12.3', '1,234,567')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
