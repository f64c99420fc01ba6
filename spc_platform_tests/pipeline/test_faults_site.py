"""Mistakes at the desk: a typo in the site folder, a folder that is not there, a port that is taken. What the command says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from spc_platform.cli.main import main
from spc_platform.settings import REPOSITORY
from spc_platform_tests.pipeline.conftest import SITE

Spc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def quick_spc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spc:
    """The command in this process: its entry point with its arguments, for what neither serves nor forks."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        for name, value in {"SPC_DATA": str(tmp_path / "data"), **settings}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["spc", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def spc(tmp_path: Path) -> Spc:
    """Runs the command in a process of its own, with its data in the test's folder."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPC_")}
        environment |= {"SPC_DATA": str(tmp_path / "data"), "COLUMNS": "400", **settings}
        command = [sys.executable, "-c", "from spc_platform.cli.main import main; main()", *arguments]
        return subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return Path(copytree(SITE, tmp_path / "site"))


def no_traceback(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr + result.stdout
    return result.stderr + result.stdout


def edit(path: Path, old: str, new: str) -> int:
    """Replaces the first occurrence; gives its line."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


TYPOS = [
    ("characteristics.csv", ",xbar_s,consecutive,6,sbar,", ",xbar_x,consecutive,6,sbar,", "xbar_x"),
    ("specifications.csv", "A20.press_depth,1,", "A20.pres_depth,1,", "A20.pres_depth"),
    ("streams.csv", "A40.motor_current,A40,", "A40.motor_current,A44,", "A44"),
    ("shifts.csv", "late,line_b,14:00,", "late,line_b,14:77,", "14:77"),
    ("policies.toml", "micro_stop_s", "micro_stops", "micro_stops"),
    ("site.toml", "Europe/Berlin", "Europe/Berlni", "Europe/Berlni"),
]


@pytest.mark.parametrize(("file", "old", "new", "named"), TYPOS, ids=[typo[0] for typo in TYPOS])
def test_a_typo_in_the_site_folder_is_named_with_file_and_line(
    quick_spc: Spc, site: Path, file: str, old: str, new: str, named: str
) -> None:
    line = edit(site / file, old, new)
    result = quick_spc("doctor", SPC_SITE=str(site))
    said = no_traceback(result)
    assert result.returncode == 2
    assert "[SPC-400]" in said
    assert f"{file}:{line}" in said
    assert named in said


def test_every_mistake_is_named_at_once(quick_spc: Spc, site: Path) -> None:
    lines = {file: edit(site / file, old, new) for file, old, new, _ in TYPOS[:3]}
    said = no_traceback(quick_spc("doctor", SPC_SITE=str(site)))
    assert all(f"{file}:{line}" in said for file, line in lines.items())


def test_a_site_folder_that_is_not_there(quick_spc: Spc, tmp_path: Path) -> None:
    result = quick_spc("doctor", SPC_SITE=str(tmp_path / "nowhere"))
    assert result.returncode == 2
    assert str(tmp_path / "nowhere") in no_traceback(result)


def test_a_source_that_does_not_answer_fails_the_doctor(spc: Spc) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    result = spc("doctor", SPC_SOURCE_URL=f'{{"mes": "http://127.0.0.1:{port}"}}')
    assert result.returncode == 1
    assert "source mes: no answer" in no_traceback(result)


def test_a_data_folder_that_is_not_there_is_named_with_what_to_do(quick_spc: Spc, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-data"
    result = quick_spc("land", SPC_SITE=str(REPOSITORY / "data" / "nist"), SPC_SHARED_DATA=str(missing))
    said = no_traceback(result)
    assert result.returncode == 2
    assert str(missing) in said
    assert "spc data fetch" in said or "SPC_SHARED_DATA" in said


def test_a_data_folder_that_is_not_there_fails_the_doctor(spc: Spc, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-data"
    result = spc("doctor", SPC_SITE=str(REPOSITORY / "data" / "nist"), SPC_SHARED_DATA=str(missing))
    assert result.returncode != 0
    assert str(missing) in no_traceback(result)


def test_a_place_to_write_that_cannot_be_made_is_named(quick_spc: Spc, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = quick_spc("status", SPC_DATA=str(tmp_path / "file" / "data"))
    assert result.returncode != 0
    assert str(tmp_path / "file") in no_traceback(result)


@pytest.mark.parametrize(
    ("arguments", "remedy", "code"),
    [
        (("ui", "--port", "{port}"), "spc ui --port", 2),
        (("plant", "--port", "{port}", "--admin-port", "0"), "--port and a free port", 1),
        (("plant", "--port", "0", "--admin-port", "{port}"), "--admin-port and a free port", 1),
        (("plant", "--port", "0", "--admin-port", "0", "--erp-port", "{port}"), "--erp-port and a free port", 1),
    ],
    ids=["ui", "plant", "plant-admin", "plant-erp"],
)
def test_a_port_that_is_taken_is_named_with_what_to_do(spc: Spc, arguments: tuple[str, ...], remedy: str, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        result = spc(*(argument.format(port=port) for argument in arguments))
    said = no_traceback(result)
    assert result.returncode == code
    assert port in said
    assert "taken" in said
    assert remedy in said


def test_a_new_site_is_valid_as_written(spc: Spc, tmp_path: Path) -> None:
    folder = tmp_path / "my site"
    made = spc("init", str(folder), "--site-id", "plant_7")
    assert made.returncode == 0, made.stderr
    assert "wrote" in made.stdout
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    result = spc("doctor", SPC_SITE=str(folder), SPC_SOURCE_URL=f'{{"mes": "http://127.0.0.1:{port}"}}')
    said = no_traceback(result)
    assert "site plant_7" in said
    assert "SPC-400" not in said
    assert result.returncode in (0, 1), "1: its source does not exist yet"


def test_init_never_writes_over_a_site(quick_spc: Spc, site: Path) -> None:
    before = {path.name: path.read_bytes() for path in site.iterdir()}
    result = quick_spc("init", str(site))
    assert result.returncode == 2
    no_traceback(result)
    assert {path.name: path.read_bytes() for path in site.iterdir()} == before
