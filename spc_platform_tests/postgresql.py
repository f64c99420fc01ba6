"""A PostgreSQL server of the machine's own binaries, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from spc_platform_tests.conftest import lacking

PASSWORD = "canary-4711-pg"


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def url(self, user: str = "reader") -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/mes"

    def owner_url(self) -> str:
        return f"postgresql+psycopg://owner:{PASSWORD}@127.0.0.1:{self.port}/mes"


def binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    known = shutil.which("initdb")
    if not found and known is None:
        lacking("PostgreSQL is not installed; install it with the system's package manager to run this test")
    return found[-1].parent if found else Path(str(known)).parent


@contextmanager
def server() -> Iterator[Server]:
    """Start, give and stop a server with the database ``mes`` and the roles ``owner`` and ``reader``."""
    programs = binaries()
    folder = Path(mkdtemp(prefix="pg-"))
    user = None
    if os.getuid() == 0:
        # The server refuses to run as root.
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if user:
        os.chown(secret, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments], check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=120
        )

    run("initdb", "-D", "data", "-U", "owner", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
    try:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        sql = f"CREATE DATABASE mes; CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"
        for statement in sql.split(";"):
            subprocess.run(
                [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "owner", "-d", "postgres", "-c", statement],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
                timeout=60,
            )
        yield Server(port, folder)
    finally:
        run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
