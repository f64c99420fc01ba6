"""Which processes `spc ui` starts: the embedded plant only where the site's source is the embedded plant."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from spc_platform.cli import demo, ui
from spc_platform.cli.main import app
from spc_platform.erp.config import read_erp_config
from spc_platform.errors import PermanentError
from spc_platform.plant import __main__ as plant
from spc_platform.plant import erp
from spc_platform.plant.erp import ErpServer
from spc_platform.settings import REPOSITORY, Settings

SITE = REPOSITORY / "data" / "site"


@pytest.fixture
def required(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports that were required to be free; none is really bound, so the machine's own do not matter."""
    ports: list[int] = []
    monkeypatch.setattr(ui, "require_free", lambda port, what, remedy: ports.append(port))
    return ports


@pytest.mark.parametrize(
    "source_url",
    [
        {},
        {"another": "http://mes.plant.example:8080"},
        {"mes": "http://127.0.0.1:8765/"},
        {"mes": "http://localhost:8765"},
    ],
)
def test_the_plant_runs_beside_dagster_where_the_source_is_at_its_address(
    required: list[int], source_url: dict[str, str]
) -> None:
    commands = ui._commands(Settings(site=SITE, source_url=source_url), 3000)
    assert list(commands) == ["plant", "daemon", "webserver"]
    ports = ["--port", "8765", "--admin-port", "8766", "--erp-port", "8767"]
    assert commands["plant"][1:] == ["-m", "spc_platform.plant", *ports]
    assert required == [8765, 8767]


def test_a_site_whose_erp_is_elsewhere_needs_no_port_of_the_stub(required: list[int], tmp_path: Path) -> None:
    elsewhere = Settings(site=SITE, source_url={"erp": "https://erp.example/api"})
    assert "--erp-port" not in ui._commands(elsewhere, 3000)["plant"]
    copytree(SITE, tmp_path / "site")
    (tmp_path / "site" / "erp.toml").unlink()
    assert "--erp-port" not in ui._commands(Settings(site=tmp_path / "site"), 3000)["plant"]
    assert required == [8765, 8765]


def test_the_plant_runs_without_its_erp_when_only_that_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ErpServer() as held:
        port = int(held.admin_url.rpartition(":")[2])
        monkeypatch.setattr(plant, "ERP_PORT", port)
        assert plant._erp(None) is None
        told = capsys.readouterr().err
        assert "without the stub ERP" in told
        assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in told
        with pytest.raises(PermanentError, match=r"--erp-port and a free port.*erp.*PORT/api/v1"):
            plant._erp(port)


@pytest.mark.parametrize(("options", "wanted"), [([], None), (["--erp-port", "9123"], 9123), (["--erp-port", "0"], 0)])
def test_the_plant_is_told_the_port_of_its_erp(monkeypatch: pytest.MonkeyPatch, options: list[str], wanted: int | None) -> None:
    asked: list[str] = []
    monkeypatch.setattr(plant, "main", lambda arguments: asked.extend(arguments) or 0)
    assert CliRunner().invoke(app, ["plant", "--port", "0", *options]).exit_code == 0
    assert plant._parser().parse_args(asked).erp_port == wanted


def test_the_ports_and_the_token_of_the_stub_are_those_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_erp_config(Settings(site=SITE))
    assert config.base_url == f"http://127.0.0.1:{erp.PORT}/api/v1"
    assert demo.ERP_PORT == erp.PORT
    assert config.auth["secret_env"] == erp.TOKEN_VARIABLE
    monkeypatch.setenv(erp.TOKEN_VARIABLE, "own")
    demo.know_erp_token()
    assert os.environ[erp.TOKEN_VARIABLE] == "own"
    monkeypatch.delenv(erp.TOKEN_VARIABLE)
    demo.know_erp_token()
    assert os.environ[erp.TOKEN_VARIABLE] == erp.TOKEN


@pytest.mark.parametrize(
    "url",
    ["https://mes.plant.example", "http://mes.plant.example:8765", "http://127.0.0.1:9000", "http://127.0.0.1:9000/to:8765"],
)
def test_a_source_at_another_address_starts_no_plant_and_needs_no_port_of_it(required: list[int], url: str) -> None:
    assert list(ui._commands(Settings(site=SITE, source_url={"mes": url}), 3000)) == ["daemon", "webserver"]
    assert required == []


def test_a_site_of_files_starts_no_plant(required: list[int]) -> None:
    assert list(ui._commands(Settings(site=REPOSITORY / "data" / "nist"), 3000)) == ["daemon", "webserver"]
    assert required == []


def test_a_taken_port_stops_the_start_only_where_the_plant_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        monkeypatch.setattr(ui, "PLANT_PORT", port)
        monkeypatch.setattr(demo, "PLANT_PORT", port)
        own = Settings(site=SITE, source_url={"mes": f"http://127.0.0.1:{port}"})
        with pytest.raises(PermanentError, match=f"port {port} for the embedded plant is taken.*SPC_SOURCE_URL"):
            ui._commands(own, 3000)
        other = Settings(site=SITE, source_url={"mes": "https://mes.plant.example"})
        assert "plant" not in ui._commands(other, 3000)
