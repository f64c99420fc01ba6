"""`spc browse` lists what a server has, and its draft can be loaded."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.collect.opcua_browse import BrowsedNode, browse, draft_tags
from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.opcua.collection import DIA, PLAIN
from spc_platform_tests.collect.opcua.peer import NAMESPACE, Peer

SOURCE = """
[[source]]
source_id = "line1"
kind = "opcua"
base_url = "{url}"
[source.auth]
security = "None"
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false
"""


def test_variables_are_listed_with_type_unit_range_access_and_history(peer: Callable[..., Peer], tmp_path: Path) -> None:
    server = peer(history=["dia"])
    config = subscription(base_url=server.url, auth=PLAIN, limits={"nodes_per_request": 2})
    nodes = {node.path: node for node in browse(config, Settings(data=tmp_path))}
    assert nodes["line1/dia"] == BrowsedNode(DIA, "line1/dia", "Double", "mm", 24.0, 26.0, "rh", has_history=True)
    assert nodes["line1/run"] == BrowsedNode(f"nsu={NAMESPACE};s=run", "line1/run", "String", access="r")
    assert not nodes["line1/list"].is_single
    assert not [path for path in nodes if path.startswith("Server")]
    below = browse(config, Settings(data=tmp_path), under="ns=2;s=line1")
    assert [node.path for node in below] == ["dia", "done", "list", "run", "temp"]


def test_a_draft_holds_what_can_be_recorded(peer: Callable[..., Peer], tmp_path: Path) -> None:
    config = subscription(base_url=peer().url, auth=PLAIN)
    nodes = browse(config, Settings(data=tmp_path), under="ns=2;s=line1")
    rows = list(csv.DictReader(StringIO(draft_tags("line1", nodes, "L1-LATHE"))))
    said = [(row["address"].rpartition("=")[2], row["record"], row["name"], row["unit"]) for row in rows]
    assert said == [
        ("dia", "telemetry", "dia", "mm"),
        ("done", "signal", "done", ""),
        ("run", "signal", "run", ""),
        ("temp", "telemetry", "temp", "1"),
    ]


def test_the_command_lists_and_writes_a_draft_but_replaces_no_file(
    peer: Callable[..., Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaffold(tmp_path / "site", "plain")
    with (tmp_path / "site" / "sources.toml").open("a") as file:
        file.write(SOURCE.format(url=peer().url))
    monkeypatch.setenv("SPC_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("SPC_DATA", str(tmp_path / "data"))
    draft = tmp_path / "draft.csv"
    command = ["browse", "line1", "--under", "ns=2;s=line1", "--tags", str(draft), "--equipment", "L1-LATHE"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"{DIA}\tdia\tDouble\tmm\t24..26\tr" in done.output
    assert len(draft.read_text().splitlines()) == 5
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, SiteError)
    assert "replaces no file" in str(again.exception)
    other = CliRunner().invoke(app, ["browse", "line9"])
    assert "of kind opcua it has: line1" in str(other.exception)


def test_a_source_of_another_kind_is_refused() -> None:
    with pytest.raises(SiteError, match="SPC-464"):
        browse(subscription("mqtt"), Settings())


@pytest.mark.parametrize("module", ["opcua", "opcua_browse"])
def test_a_client_that_is_not_installed_is_named_with_its_extra(module: str) -> None:
    code = f"""
import sys
sys.modules["asyncua"] = None
from spc_platform.errors import SiteError
try:
    import spc_platform.collect.{module}
except SiteError as error:
    assert "[SPC-464]" in str(error) and "spc-platform[opcua]" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
