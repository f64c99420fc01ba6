"""Which processes `spc ui` starts: the embedded plant only where the site's source is the embedded plant."""

from __future__ import annotations

import socket

import pytest

from spc_platform.cli import demo, ui
from spc_platform.errors import PermanentError
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
    assert commands["plant"][1:] == ["-m", "spc_platform.plant", "--port", "8765", "--admin-port", "8766"]
    assert required == [8765]


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
