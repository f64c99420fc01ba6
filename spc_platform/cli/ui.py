"""`spc ui`: Dagster's webserver and daemon on loopback, with the embedded plant when the site reads from it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from spc_platform.cli.demo import ERP_PORT, PLANT_PORT, delivers_to_stub, export, know_erp_token, reads_plant
from spc_platform.errors import PermanentError
from spc_platform.settings import REPOSITORY, Settings

PLANT_ADMIN_PORT = 8766
console = Console(stderr=True, highlight=False)


def require_free(port: int, what: str, remedy: str) -> None:
    """Raises PermanentError when something already listens on the loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PermanentError(f"port {port} for {what} is taken ({error.strerror}); {remedy}", code="SPC-210") from error


def _commands(settings: Settings, port: int) -> dict[str, list[str]]:
    scripts = Path(sys.executable).parent
    workspace = str(REPOSITORY / "workspace.yaml")
    commands: dict[str, list[str]] = {}
    if reads_plant(settings):
        require_free(PLANT_PORT, "the embedded plant", "stop the process that holds it, or set SPC_SOURCE_URL to another MES")
        commands["plant"] = [
            sys.executable, "-m", "spc_platform.plant", "--port", str(PLANT_PORT), "--admin-port", str(PLANT_ADMIN_PORT),
        ]  # fmt: skip
        if delivers_to_stub(settings):
            remedy = "stop the process that holds it, or name another ERP with SPC_SOURCE_URL"
            require_free(ERP_PORT, "the stub ERP", remedy)
            commands["plant"] += ["--erp-port", str(ERP_PORT)]
    commands["daemon"] = [str(scripts / "dagster-daemon"), "run", "-w", workspace]
    commands["webserver"] = [str(scripts / "dagster-webserver"), "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
    return commands


def run_ui(port: int) -> int:
    """Runs until interrupted or until one of the processes ends; then stops the others. Exit code of the first to end."""
    require_free(port, "the webserver", "choose another with `spc ui --port`")
    settings = Settings()
    export(settings)
    commands = _commands(settings, port)
    if "--erp-port" in commands.get("plant", ()):
        know_erp_token()
    processes = {name: subprocess.Popen(command) for name, command in commands.items()}
    console.print(f"Dagster on http://127.0.0.1:{port} — sensors and schedules run; stop with Ctrl-C")
    if "plant" in processes:
        console.print(f"a new batch in the MES: curl -X POST 127.0.0.1:{PLANT_ADMIN_PORT}/admin/advance -d '{{\"hours\": 24}}'")
    interrupted: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: interrupted.append(received))
    try:
        while not interrupted:
            for name, process in processes.items():
                if process.poll() is not None:
                    console.print(f"{name} ended with exit code {process.returncode}")
                    return process.returncode or 1
            time.sleep(0.5)
        return 0
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
