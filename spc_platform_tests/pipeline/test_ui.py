"""The Dagster UI as a person sees it: the real webserver, a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from spc_platform.settings import REPOSITORY

BROWSER_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000",
)  # fmt: skip


@pytest.fixture(scope="module")
def webserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("dagster_home")
    shutil.copyfile(REPOSITORY / "deploy" / "dagster.yaml", home / "dagster.yaml")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "SPC_EVENT_LOG": str(home / "history" / "runs"),
        "SPC_DATA": str(tmp_path_factory.mktemp("data")),
    }
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-w", str(REPOSITORY / "workspace.yaml")]
    process = subprocess.Popen([*command, "-h", "127.0.0.1", "-p", str(port)], env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                requests.get(f"{address}/server_info", timeout=2).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def rendered(chromium: str, address: str, profile: Path) -> str:
    """The page's text content after its scripts have run."""
    result = subprocess.run(
        [chromium, *BROWSER_FLAGS, f"--user-data-dir={profile}", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stdout


@pytest.mark.system
def test_the_asset_graph_shows_the_groups_of_the_way(webserver: str, chromium: str, tmp_path: Path) -> None:
    page = rendered(chromium, f"{webserver}/asset-groups", tmp_path)
    for group in ("landing", "raw", "core", "prepared", "spc", "production", "marts"):
        assert f">{group}<" in page, f"group {group} is not on the page"


@pytest.mark.system
def test_an_assets_page_shows_columns_with_units_owner_condition_and_checks(
    webserver: str, chromium: str, tmp_path: Path
) -> None:
    page = rendered(chromium, f"{webserver}/assets/spc_points?view=overview", tmp_path)
    for shown in ("One row per plotted point and panel", "standard_error", "unit: 1", "quality", "follows_new_data", "Parquet"):
        assert shown in page, f"{shown!r} is not on the page"
