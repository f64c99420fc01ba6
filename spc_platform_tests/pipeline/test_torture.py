"""The harness of `make torture`, in small: points are killed, and what is broken on purpose is caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spc_platform_tests.torture.plug import pull_the_plug


def test_killed_workers_lose_nothing_and_what_is_broken_on_purpose_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "torture.md"
    # A process of its own: it forks, which is safe only where no library has started threads yet.
    command = [sys.executable, "-m", "spc_platform_tests.torture", "--kills", "25", "--events", "0", "--page", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 kills, 0 violations" in page.read_text()
    assert "**not found**" not in page.read_text()


def test_events_flow_through_a_pulled_plug_and_none_is_missing(tmp_path: Path) -> None:
    plugged = pull_the_plug(tmp_path, 20_000, 2)
    assert plugged.is_whole, plugged
