"""Faults of the MES and of our own processes: what was landed and made afterwards is what an undisturbed run makes."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import polars as pl
import pytest
import zstandard

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import Workspace, run_range
from spc_platform.errors import PermanentError, SpcError, TransientError
from spc_platform.lake.landing import raw_partition
from spc_platform.plant import Plant, PlantServer
from spc_platform.plant.process import FIRST_DATE
from spc_platform_tests.pipeline.conftest import BERLIN, _settings, land, morning_after

NINE, NOON = (datetime(2026, 3, 23, hour, tzinfo=BERLIN) for hour in (9, 12))
MEASURED = ("clock_offset", "reconciliation")
"""Tables of what was measured when sources were asked: they follow from no page."""
RAW = [name for name in LAKE_TABLES if name.startswith("raw_")]
RESOURCES = (
    "measurements", "telemetry", "equipment-states", "production-counts", "work-orders", "order-events", "segment-events",
    "material-links",
)  # fmt: skip
Open = Callable[..., Workspace]
Rows = dict[str, pl.DataFrame]


def raw_rows(workspace: Workspace) -> Rows:
    """Raw rows of the first date by table. How the source cut its records into pages is left out."""
    return {
        table: raw_partition(table, FIRST_DATE, workspace.site, workspace.landing, workspace.ledger)
        .drop("page_sha256", "page_row")
        .sort("record_id", "revision")
        for table in RAW
    }


def assert_same_rows(found: Rows, expected: Rows) -> None:
    for table in RAW:
        assert found[table].equals(expected[table]), table


def watermarks(workspace: Workspace) -> dict[str, str | None]:
    return {resource: workspace.ledger.watermark("mes", resource) for resource in RESOURCES}


@pytest.fixture(scope="module")
def half_day() -> Plant:
    return Plant()


@pytest.fixture
def mes(half_day: Plant) -> Iterator[Callable[..., PlantServer]]:
    """Starts servers of the same plant; they are stopped at the end of the test."""
    servers: list[PlantServer] = []

    def start(now: datetime = NOON, **options: Any) -> PlantServer:
        servers.append(PlantServer(plant=half_day, now=now, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def undisturbed(half_day: Plant, brisk_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Half a day, landed and made without any fault."""
    with PlantServer(plant=half_day, now=NOON) as server:
        workspace = Workspace.open(_settings(tmp_path_factory.mktemp("undisturbed"), server.url, brisk_site))
        report = land(workspace)
    assert report.pages > 15
    run_range(workspace, workspace.production_dates())
    return workspace


@pytest.fixture(scope="module")
def expected(undisturbed: Workspace) -> Rows:
    return raw_rows(undisturbed)


PASSING: list[tuple[str, dict[str, Any]]] = [
    ("truncated_json", {"count": 2, "skip": 3}),
    ("truncated_body", {"count": 2, "skip": 3}),
    ("duplicate_page", {"count": 2}),
    ("expire_token", {"count": 1, "skip": 4}),
    ("rate_limit", {"count": 2, "skip": 2, "seconds": 1}),
    ("server_error", {"count": 4, "skip": 3, "status": 503}),
    ("server_error", {"count": 2, "skip": 6, "status": 502}),
    ("html_200", {"count": 2, "skip": 3}),
    ("slow", {"count": 2, "skip": 1, "seconds": 0.2}),
]


@pytest.mark.parametrize(("fault", "options"), PASSING, ids=[f"{fault}-{number}" for number, (fault, _) in enumerate(PASSING)])
def test_a_fault_that_passes_leaves_no_trace_in_the_records(
    mes: Any, opened: Open, expected: Rows, tmp_path: Path, fault: str, options: dict[str, Any]
) -> None:
    server = mes(faults={fault: options})
    workspace = opened(tmp_path, server.url)
    land(workspace)
    assert server.faults.pending() == {}, "the fault was shown"
    assert_same_rows(raw_rows(workspace), expected)
    assert None not in watermarks(workspace).values()


def test_a_429_is_waited_for_as_long_as_the_server_says(mes: Any, opened: Open, tmp_path: Path) -> None:
    server = mes(faults={"rate_limit": {"count": 1, "seconds": 2}})
    started = time.monotonic()
    land(opened(tmp_path, server.url))
    assert time.monotonic() - started >= 2.0


STOPPING: list[tuple[str, dict[str, Any], type[SpcError], str, str]] = [
    ("repeated_cursor", {"count": 1}, PermanentError, "SPC-206", "pagination loop"),
    ("foreign_next_link", {"count": 1}, PermanentError, "SPC-203", "leaves the configured scheme, host or port"),
    ("expire_token", {"count": 99, "skip": 1}, PermanentError, "SPC-205", "the credential was refused twice"),
    ("truncated_json", {"count": 99, "skip": 1}, TransientError, "SPC-100", "not a page"),
    ("truncated_body", {"count": 99, "skip": 1}, TransientError, "SPC-100", "gave up after 6 attempts"),
    ("server_error", {"count": 99, "skip": 1, "status": 503}, TransientError, "SPC-100", "status 503"),
    ("html_200", {"count": 99, "skip": 1}, TransientError, "SPC-100", "HTML where JSON was expected"),
]


@pytest.mark.parametrize(("fault", "options", "kind", "code", "said"), STOPPING, ids=[each[0] for each in STOPPING])
def test_a_fault_that_stays_stops_the_walk_and_the_next_one_recovers(
    mes: Any,
    opened: Open,
    expected: Rows,
    tmp_path: Path,
    fault: str,
    options: dict[str, Any],
    kind: type[SpcError],
    code: str,
    said: str,
) -> None:
    server = mes(NINE)
    workspace = opened(tmp_path, server.url)
    land(workspace)
    before = watermarks(workspace)
    server.clock.advance(3)
    server.faults.set({fault: {**options, "resource": "measurements"}})
    with pytest.raises(kind, match=said) as caught:
        land(workspace)
    assert caught.value.code == code
    after = watermarks(workspace)
    assert after["measurements"] == before["measurements"], "the watermark of the failed walk stays"
    if kind is PermanentError:
        later = ("telemetry", "equipment-states", "production-counts")
        assert all(after[name] > before[name] for name in later), "the other resources land all the same"
    status = workspace.ledger.status().row(0, named=True)
    assert said in status["last_error"]
    server.faults.set({fault: 0})
    land(workspace)
    assert_same_rows(raw_rows(workspace), expected)


def test_a_next_link_to_another_host_is_not_asked_for_anything(mes: Any, opened: Open, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        elsewhere = f"http://127.0.0.1:{stranger.getsockname()[1]}/api/v1/measurements?cursor=x"
        server = mes(faults={"foreign_next_link": {"count": 1, "resource": "measurements", "url": elsewhere}})
        with pytest.raises(PermanentError, match="no credential was sent"):
            land(opened(tmp_path, server.url))
        with pytest.raises(TimeoutError):
            stranger.accept()


def test_wrong_credentials_stop_at_once(mes: Any, opened: Open, tmp_path: Path) -> None:
    server = mes(client_secret="another")
    workspace = opened(tmp_path, server.url)
    with pytest.raises(PermanentError):
        land(workspace)
    assert set(watermarks(workspace).values()) == {None}
    assert server.mes.requests == 0, "no page was asked for without a token"


def test_a_server_that_is_away_is_a_transient_error(opened: Open, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    workspace = opened(tmp_path, f"http://127.0.0.1:{port}")
    with pytest.raises(TransientError, match="Connection refused"):
        land(workspace)
    assert set(watermarks(workspace).values()) == {None}


def test_bare_nan_is_landed_and_only_its_record_is_refused(opened: Open, tmp_path: Path) -> None:
    plant = Plant(nan_tokens=True)
    with PlantServer(plant=plant, now=morning_after(FIRST_DATE)) as server:
        workspace = opened(tmp_path, server.url)
        land(workspace)
    run_range(workspace, [FIRST_DATE], steps=_steps("raw", "shift_calendar", "measurement"))
    nan = plant.truth("bad_records").filter(kind="nan").sort("record_id")
    raw = workspace.lake.read("raw_measurement", FIRST_DATE)
    assert nan.height == 2
    assert set(raw["record_id"]) >= set(plant.records("measurements", FIRST_DATE)["id"])
    rejected = nan.join(workspace.lake.read("measurement_rejected", FIRST_DATE), on="record_id").sort("record_id")
    assert rejected["reasons"].to_list() == ["value:NOT_FINITE"] * 2
    assert nan["expected_reason"].to_list() == ["value:NOT_FINITE"] * 2


def _steps(*names: str) -> list[Any]:
    from spc_platform.engine import step

    return [step(name) for name in names]


# --- our own processes


def process(verb: str, data: Path, site: Path, url: str = "") -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "spc_platform_tests.pipeline.plant_writer",
        verb,
        str(data),
        str(site),
        *([url] if url else []),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_after(process: subprocess.Popen[str], line: str, times: int = 1, delay_s: float = 0.0) -> None:
    """SIGKILL once ``line`` was announced that many times and ``delay_s`` more have passed."""
    assert process.stdout is not None
    for said in process.stdout:
        times -= said.strip() == line
        if not times:
            break
    else:
        pytest.fail(f"the process ended before {line!r}: {process.communicate()[1]}")
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def contents(workspace: Workspace) -> dict[str, str]:
    """sha256 of every partition of every table that follows from landed pages."""
    found = {}
    for name, table in LAKE_TABLES.items():
        if name in MEASURED:
            continue
        for day in workspace.lake.dates(name) if table.partitioned else [None]:
            manifest = workspace.lake.manifest(name, day)
            assert manifest is not None, (name, day)
            found[f"{name}/{day}"] = manifest.sha256
    return found


def test_a_landing_killed_in_the_middle_converges(
    mes: Any, opened: Open, undisturbed: Workspace, brisk_site: Path, tmp_path: Path
) -> None:
    server = mes()
    kill_after(process("land", tmp_path, brisk_site, server.url), "page:landed", times=2)
    kill_after(process("land", tmp_path, brisk_site, server.url), "page:durable", times=9)
    workspace = opened(tmp_path, server.url)
    landed = workspace.ledger.status()["pages"].sum()
    assert 2 <= landed < undisturbed.ledger.status()["pages"].sum()
    assert watermarks(workspace)["work-orders"] is None
    land(workspace)
    assert watermarks(workspace) == watermarks(undisturbed)
    for table in RAW:
        pages = [[page.sha256 for page in each.ledger.pages(table, FIRST_DATE)] for each in (workspace, undisturbed)]
        assert pages[0] == pages[1], table
    run_range(workspace, workspace.production_dates())
    assert contents(workspace) == contents(undisturbed)


@pytest.fixture
def landed(undisturbed: Workspace, tmp_path: Path) -> Path:
    """The undisturbed landing, nothing made of it yet."""
    copytree(undisturbed.settings.landing_root, tmp_path / "landing")
    for suffix in ("", "-wal", "-shm"):
        source = undisturbed.settings.ledger_path.with_name(f"ledger.sqlite{suffix}")
        if source.exists():
            (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path


def test_a_run_killed_in_the_middle_converges(landed: Path, undisturbed: Workspace, brisk_site: Path, opened: Open) -> None:
    for step, delay_s in (("raw", 0.1), ("spc_subgroups", 0.02)):
        kill_after(process("run", landed, brisk_site), step, delay_s=delay_s)
    workspace = opened(landed, "http://127.0.0.1:9")
    assert not workspace.lake.has("spc_capability", None)
    assert list(workspace.lake.verify()) == []
    run_range(workspace, workspace.production_dates())
    assert contents(workspace) == contents(undisturbed)


def test_two_runs_on_the_same_date_at_once_make_what_one_makes(
    landed: Path, undisturbed: Workspace, brisk_site: Path, opened: Open
) -> None:
    both = [process("run", landed, brisk_site) for _ in range(2)]
    for each in both:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors
    workspace = opened(landed, "http://127.0.0.1:9")
    assert contents(workspace) == contents(undisturbed)
    assert list(workspace.lake.verify()) == []
    assert not list(landed.rglob(".tmp-*"))


# --- the secret

CANARY = "canary5f1e0b7c9d2a4e68"
RUN = """
import sys
import dagster as dg
from spc_platform.build import build_defs
from spc_platform.engine.steps.common import RAW
from spc_platform.orchestration.partitions import range_tags
from spc_platform.plant.process import FIRST_DATE
job = build_defs().resolve_job_def("everything")
keys = [dg.AssetKey(name) for name in ("landed_mes", *RAW, "shift_calendar", "measurement", "measurement_rejected")]
with dg.DagsterInstance.get() as instance:
    result = job.execute_in_process(instance=instance, tags=range_tags(FIRST_DATE, FIRST_DATE), asset_selection=keys,
                                    raise_on_error=False)
sys.exit(0 if result.success else 3)
"""


@dataclass(frozen=True)
class Forms:
    """How a secret might be written."""

    secret: str

    def within(self, content: bytes) -> bool:
        pair = f"spc-platform:{self.secret}".encode()
        return any(form in content for form in (self.secret.encode(), base64.b64encode(pair), self.secret.encode("utf-16-le")))


def leaks(folder: Path, forms: Forms) -> list[str]:
    """Files that hold the secret; compressed pages are unpacked and Parquet is read as text."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path).select(pl.selectors.string() | pl.selectors.categorical() | pl.selectors.enum())
            content += "\n".join(str(text) for column in texts for text in column.cast(pl.String).unique()).encode()
        if forms.within(content):
            found.append(str(path.relative_to(folder)))
    return found


def test_the_search_for_the_secret_finds_it_in_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor().compress(f"x{CANARY}x".encode()))
    pl.DataFrame({"a": [f"token={CANARY}"] * 1000}).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.log").write_text("Authorization: Basic " + base64.b64encode(f"spc-platform:{CANARY}".encode()).decode())
    (tmp_path / "d.txt").write_text("nothing")
    assert leaks(tmp_path, Forms(CANARY)) == ["a.zst", "b.parquet", "c.log"]


@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused"])
def test_the_secret_is_in_no_file_and_no_log(mes: Any, tmp_path: Path, brisk_site: Path, *, refused: bool) -> None:
    """Of a Dagster run that lands and makes tables, with a token that expires, and of one whose secret is refused."""
    server = mes(
        client_secret="another" if refused else CANARY,
        faults={"expire_token": {"count": 1, "skip": 2}, "html_200": {"count": 1}},
    )
    home = tmp_path / "dagster_home"
    home.mkdir()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "SPC_MES_CLIENT_SECRET": CANARY,
        "SPC_SITE": str(brisk_site),
        "SPC_DATA": str(tmp_path / "data"),
        "SPC_SOURCE_URL": f'{{"mes": "{server.url}"}}',
    }
    result = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, check=False, timeout=180)
    assert result.returncode == (3 if refused else 0), result.stderr[-3000:].decode()
    (tmp_path / "captured.log").write_bytes(result.stdout + result.stderr)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".zst" for path in written) is not refused
    assert any("dagster_home" in path.parts and path.suffix == ".db" for path in written)
    assert leaks(tmp_path, Forms(CANARY)) == []
