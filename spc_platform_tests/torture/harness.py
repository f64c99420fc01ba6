"""Kills workers at named points and compares what is left with the peer's truth.

The parent only forks: every worker and every check runs in a child, so no lock or thread of a library is ever copied
into another. Points and seeds are drawn from one seeded generator; the least killed points are drawn most often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spc_platform.lake.files import Checkpoint

ATTEMPTS = (1, 1, 2, 3, 8, 30)
"""How often a worker is killed before one may finish, and the lake is compared with the truth."""
OFFERED = 12
"""Records that the peer has to offer more after every kill."""
FAILED = 70
Acknowledge = Callable[[int], None]


class Scenario(Protocol):
    """A peer, the work to be killed, and what must hold of what it leaves."""

    name: str
    points: tuple[str, ...]

    def work(self, root: Path, acknowledged: int, offered: int, acknowledge: Acknowledge, checkpoint: Checkpoint) -> None:
        """Collect or fetch what lies between, land it, commit it."""

    def violations(self, root: Path, acknowledged: int) -> list[str]:
        """What must never be seen, whenever the worker was killed."""

    def differences(self, root: Path, offered: int) -> list[str]:
        """Where the lake is not the peer's truth, after a worker that nobody killed."""


@dataclass
class Outcome:
    """What a torture came to: kills by point, and the violations in the order in which they were seen."""

    scenario: str
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    records: int = 0
    violations: list[str] = field(default_factory=list)


def torture(scenario: Scenario, kills: int, seed: int, *, until_caught: bool = False) -> Outcome:
    """Kill until there were ``kills`` of them; with ``until_caught`` end at the first violation."""
    chance = random.Random(seed)
    outcome = Outcome(scenario.name, seed, Counter(dict.fromkeys(scenario.points, 0)))
    while outcome.kills.total() < kills and not (until_caught and outcome.violations):
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            _round(scenario, Path(folder), chance, outcome, kills, until_caught=until_caught)
        outcome.rounds += 1
    return outcome


def _round(scenario: Scenario, root: Path, chance: random.Random, outcome: Outcome, kills: int, *, until_caught: bool) -> None:
    offered = acknowledged = 0
    for _ in range(chance.choice(ATTEMPTS)):
        if outcome.kills.total() >= kills:
            break
        offered += OFFERED
        point, nth = _draw(outcome.kills, chance), chance.randint(1, 2)
        was_killed, acknowledged = _work(scenario, root, acknowledged, offered, (point, nth))
        outcome.kills[point] += was_killed
        outcome.violations += _look(lambda now=acknowledged: scenario.violations(root, now))  # type: ignore[misc]
        if until_caught and outcome.violations:
            return
    _work(scenario, root, acknowledged, offered, None)
    outcome.violations += _look(lambda: scenario.differences(root, offered))
    outcome.records += offered


def _draw(kills: Counter[str], chance: random.Random) -> str:
    rarest = sorted(kills, key=lambda point: (kills[point], point))
    return chance.choice(rarest[: max(3, len(rarest) // 3)])


def _work(scenario: Scenario, root: Path, acknowledged: int, offered: int, kill: tuple[str, int] | None) -> tuple[bool, int]:
    """Run the worker in a child; gives whether it was killed, and up to where it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def work() -> None:
            scenario.work(
                root, acknowledged, offered, lambda number: _send(writing, number), _killing(*kill) if kill else lambda _: None
            )

        _end(work)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"{scenario.name}: the worker failed by itself; its traceback stands above")
    numbers = [number for (number,) in struct.iter_unpack("<q", told)]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, max([acknowledged, *numbers])


def _look(check: Callable[[], list[str]]) -> list[str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def look() -> None:
            with os.fdopen(writing, "w") as pipe:
                json.dump(check(), pipe)

        _end(look)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("a check failed by itself; its traceback stands above")
    found: list[str] = json.loads(told)
    return found


def _end(work: Callable[[], None]) -> None:
    """Run something as the whole life of a child."""
    status = 0
    try:
        work()
    except BaseException:
        traceback.print_exc()
        status = FAILED
    os._exit(status)


def _send(pipe: int, number: int) -> None:
    os.write(pipe, struct.pack("<q", number))


def _killing(point: str, nth: int) -> Checkpoint:
    left = nth

    def checkpoint(step: str) -> None:
        nonlocal left
        if step == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint
