"""Files from outside are parsed apart: a parser that crashes, hangs, eats memory or calls out costs one page."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources import sandbox
from spc_platform.sources.decode import decode, decode_here
from spc_platform.sources.sandbox import Sandbox
from spc_platform_tests.unit.test_drop_folder import CSV, HEADER, Drop, line

HOSTILE = """
import ctypes, os, socket, subprocess, threading, time
from dataclasses import replace
from spc_platform.sources import tabular

def decode(resource, table, body, origin=""):
    what = body.decode()
    if what == "segfault":
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "loop":
        while True:
            pass
    if what == "sleep":
        time.sleep(60)
    if what == "memory":
        bytearray(8 << 30)
    if what == "panic":
        raise SystemExit("bailed out")
    said = what
    try:
        if what == "socket":
            socket.create_connection(("127.0.0.1", 9), 1)
        if what == "raw socket":
            if ctypes.CDLL(None, use_errno=True).socket(2, 1, 0) < 0:
                said = f"errno {ctypes.get_errno()}"
        if what == "program":
            subprocess.run(["true"])
        if what == "kill":
            os.kill(os.getppid(), 15)
        if what == "write":
            with open("/tmp/written-by-a-parser", "w") as file:
                file.write("x")
        if what == "environment":
            said = ",".join(sorted(os.environ))
        if what == "pid":
            said = str(os.getpid())
    except OSError as error:
        said = type(error).__name__
    plain = replace(resource, format="csv", fields={"serial_number": "serial"}, options={"separator": chr(1)})
    return tabular.decode(plain, table, ("serial" + chr(10) + said).encode(), origin)
"""


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox whose parser of ``qif`` does what a page tells it to."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    (tmp_path / "sitecustomize.py").write_text("import spc_platform.sources.decode as d\nd.DECODERS['qif'] = 'hostile'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sandboxed = Sandbox()
    yield sandboxed
    sandboxed.close()


def page(options: dict[str, object] | None = None) -> Resource:
    return Resource("cmm", ("raw_measurement",), "qif", options=options or {})


def said(apart: Sandbox, what: str, **options: object) -> str:
    rows = apart.decode(page(options), "raw_measurement", what.encode(), "a.qif")
    return str(rows["serial_number"].item())


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("segfault", r"SPC-337.*a\.qif \(8 bytes\) cannot be parsed as qif.*SIGSEGV"),
        ("exit", r"SPC-337.*exit code 3"),
        ("panic", r"SPC-337.*SystemExit: bailed out"),
        ("memory", r"SPC-339.*more than 2048 MiB.*parse_memory_mib"),
    ],
)
def test_a_parser_that_ends_costs_its_page_and_the_next_one_is_read(apart: Sandbox, what: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        said(apart, what)
    assert said(apart, "hello") == "hello"


@pytest.mark.parametrize(("what", "reason"), [("loop", "SPC-338"), ("sleep", r"SPC-338.*no answer within 3 s.*parse_s")])
def test_a_parser_that_hangs_is_ended(apart: Sandbox, what: str, reason: str) -> None:
    assert said(apart, "hello") == "hello"
    begun = time.monotonic()
    with pytest.raises(ContractError, match=reason):
        said(apart, what, parse_s=1)
    assert time.monotonic() - begun < 10
    assert said(apart, "hello") == "hello"


def test_a_small_file_that_becomes_a_large_table_is_refused() -> None:
    bomb = io.BytesIO()
    pq.write_table(pa.table({"result": pa.array(np.zeros(20_000_000))}), bomb)
    assert len(bomb.getvalue()) < 1_000_000
    found = Resource("lab", ("raw_measurement",), "parquet", fields={"value": "result"}, options={"parse_memory_mib": 256})
    with pytest.raises(ContractError, match=r"SPC-339.*256 MiB.*parse_memory_mib"):
        decode(found, "raw_measurement", bomb.getvalue(), "bomb.parquet")


def test_one_process_serves_all_pages(apart: Sandbox) -> None:
    pids = {said(apart, "pid") for _ in range(5)}
    assert len(pids) == 1
    assert pids != {str(os.getpid())}


def test_a_parser_reaches_no_network_no_program_no_other_process_and_writes_nothing(apart: Sandbox) -> None:
    assert [said(apart, what) for what in ("socket", "program", "kill")] == ["PermissionError"] * 3
    assert said(apart, "raw socket") == "errno 1", "the kernel refuses it, past Python"
    assert said(apart, "write") == "OSError"
    Path("/tmp/written-by-a-parser").unlink(missing_ok=True)


def test_the_process_knows_no_secret(apart: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_MES_CLIENT_SECRET", "canary")
    assert "SPC_MES_CLIENT_SECRET" not in said(apart, "environment")


def test_rows_are_those_that_parsing_here_gives() -> None:
    body = (HEADER + "".join(line(f"m{number}", number / 7) for number in range(200))).encode() + b"x,never,bore,C,not,mm\n"
    assert decode(CSV, "raw_measurement", body, "a.csv").equals(decode_here(CSV, "raw_measurement", body, "a.csv"))


def test_a_wrong_option_is_told_as_if_it_were_read_here() -> None:
    wrong = Resource("cmm", ("raw_measurement",), "csv", options={"layout": "upside down"})
    with pytest.raises(ContractError, match=r"^\[SPC-333\] resource 'cmm': layout 'upside down'"):
        decode(wrong, "raw_measurement", b"a,b\n1,2\n")


def test_a_file_that_breaks_its_parser_is_refused_in_the_ledger_and_the_others_land(
    apart: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sandbox, "SANDBOX", apart)
    folder = tmp_path / "lake"
    folder.mkdir()
    drop = Drop(folder, Resource("cmm", ("raw_measurement",), "qif", path="*.qif"))
    for name, text in {"a": "one", "b": "segfault", "c": "three"}.items():
        drop.write(f"{name}.qif", text)
    with pytest.raises(ContractError, match=r"SPC-337.*b\.qif"):
        drop.land()
    assert "SPC-337" in drop.ledger.status()["last_error"].item()
    assert drop.news() is None
    drop.write("b.qif", "two")
    drop.land()
    rows = [drop.landing.decoded(each, drop.config.resources[0], "raw_measurement") for each in landed(drop)]
    assert sorted(pl.concat(rows)["serial_number"]) == ["one", "three", "two"]


def landed(drop: Drop) -> list:  # type: ignore[type-arg]
    return [each for day in drop.ledger.touched_dates() for each in drop.ledger.pages("raw_measurement", day)]
