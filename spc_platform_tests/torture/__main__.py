"""``python -m spc_platform_tests.torture``: kills workers, catches what is broken on purpose, writes docs/torture.md."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spc_platform_tests.torture.harness import Outcome, torture
from spc_platform_tests.torture.scenarios import BROKEN, SOUND

if TYPE_CHECKING:
    from spc_platform_tests.torture.plug import PluggedOut

PAGE = Path(__file__).resolve().parents[2] / "docs" / "torture.md"
SEED = 20261121
CATCH_WITHIN = 60
"""Kills within which a broken variant must be caught."""
INTRODUCTION = """# Torture

`make torture` kills (SIGKILL) a worker that collects or fetches, lands and commits, at a named point, looks at what it left,
and starts the next one; from time to time one may finish, and the lake is compared with what the peer said, record by record.

- After every kill: nothing acknowledged is lost, no watermark passed what never landed, no reader finds a partial file.
- After every worker that finished: each record of the peer once, in its newest revision, and no date pending.

The same harness must catch variants that are broken on purpose. It ends processes; it says nothing about a loss of power."""


def main() -> int:
    """Exit code 0 when no sound variant was violated and every broken one was caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600, help="of each sound scenario")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the result is written")
    parser.add_argument("--events", type=int, default=1_000_000, help="through a pulled plug; 0 leaves it out")
    parser.add_argument("--unplugged", type=int, default=20, help="kills of `spc collect` while they flow")
    given = parser.parse_args()
    started = time.monotonic()
    sound = [torture(scenario, given.kills, SEED + number) for number, scenario in enumerate(SOUND)]
    for outcome in sound:
        _say(f"{outcome.scenario}: {outcome.kills.total()} kills, {len(outcome.violations)} violations")
        for violation in outcome.violations[:20]:
            _say(f"  {violation}")
    broken = [torture(scenario, max(given.kills, CATCH_WITHIN), SEED, until_caught=True) for scenario in BROKEN]
    for outcome in broken:
        first = outcome.violations[0] if outcome.violations else "NOT CAUGHT"
        _say(f"broken on purpose, {outcome.scenario}: {outcome.kills.total()} kills, {first}")
    seconds = time.monotonic() - started
    # Imported only now: its imports start threads, which must not exist where the harness forks.
    from spc_platform_tests.torture.plug import pull_the_plug

    with tempfile.TemporaryDirectory(prefix="plug-") as folder:
        plugged = pull_the_plug(Path(folder), given.events, given.unplugged, SEED) if given.events else None
    _say(str(plugged))
    given.page.write_text(page(sound, broken, seconds, plugged))
    is_sound = not any(outcome.violations for outcome in sound) and (plugged is None or plugged.is_whole)
    return 0 if is_sound and all(outcome.violations for outcome in broken) else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def page(sound: list[Outcome], broken: list[Outcome], seconds: float, plugged: PluggedOut | None) -> str:
    """The kept result as Markdown."""
    total = sum(outcome.kills.total() for outcome in sound)
    violations = sum(len(outcome.violations) for outcome in sound)
    summary = (
        f"{total} kills, {violations} violations, {seconds:.0f} s, Python {platform.python_version()}. Seeds {SEED} and on."
    )
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        summary,
        "",
        "| scenario | kills | finished | records | violations |",
        "|---|---|---|---|---|",
        *(f"| {o.scenario} | {o.kills.total()} | {o.rounds} | {o.records} | {len(o.violations)} |" for o in sound),
        "",
        "| point | " + " | ".join(f"kills, {o.scenario}" for o in sound) + " |",
        "|---|" + "---|" * len(sound),
        *(f"| `{point}` | " + " | ".join(str(o.kills.get(point, "")) for o in sound) + " |" for point in sound[0].kills),
        "",
        "| broken on purpose | found |",
        "|---|---|",
        *(f"| {o.scenario} | {_short(o)} |" for o in broken),
        "",
    ]
    if plugged is not None:
        counted = (plugged.events, plugged.kills, plugged.missing, plugged.twice, plugged.wrong)
        figures = [*counted, round(plugged.seconds), round(plugged.events / plugged.seconds)]
        lines += [
            "## A million events through a pulled plug",
            "",
            "A device publishes to mosquitto with QoS 1; `spc collect` is killed at random moments, started again, and lands",
            "every 2 s. The rows of the lake are then compared with what was published.",
            "",
            "| events | kills | missing | more than once | wrong value | seconds | events per second |",
            "|---|---|---|---|---|---|---|",
            f"| {' | '.join(map(str, figures))} |",
            "",
        ]
    return "\n".join(lines)


def _short(outcome: Outcome) -> str:
    return f"after {outcome.kills.total()} kills" if outcome.violations else "**not found**"


if __name__ == "__main__":
    sys.exit(main())
