"""Fetching the public data sets, from a real HTTP server on loopback."""

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from spc_platform.cli import fetch as module
from spc_platform.cli.fetch import fetch, read_registry, target
from spc_platform.errors import PermanentError, TransientError
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.sources.files import FileSource
from spc_platform_tests.conftest import lacking

UPSTREAM = {
    "tdp/mtc/Split/Plate-Op1-Hurco04-02of20.txt": b"2017-02-01T14:59:08.84Z|Feed_Rate|2\n",
    "tdp/mtc/Split/Plate-Op1-Hurco04-01of20.txt": b"2017-02-01T13:59:35.09Z|Feed_Rate|1\n",
    "tdp/mtc/FAIR/7_11_2017 9_16_18 AM Plate_Results.qif": b"<QIFDocument/>",
    "raw/Hurco01/Hurco01-20170501-20170502.txt": b"2017-05-01T10:28:33.39Z|Program_Status|READY\n",
}


class Quiet(SimpleHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "upstream"
    for path, body in UPSTREAM.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    Quiet.requests.clear()
    yield f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRIES", 0)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "registry.txt"
    lines = [f"{hashlib.sha256(body).hexdigest()}  {name}" for name, body in UPSTREAM.items()]
    path.write_text("# test\n" + "\n".join(lines) + "\n")
    return path


def test_files_arrive_where_the_site_reads_them_and_logs_are_packed_unchanged(
    upstream: tuple[str, Path], registry: Path, tmp_path: Path
) -> None:
    placed = fetch(tmp_path / "data", base_url=upstream[0], registry=registry)
    names = [path.relative_to(tmp_path / "data").as_posix() for path in placed]
    assert names == [
        "nist-mtc-box-assembly/7_11_2017 9_16_18 AM Plate_Results.qif",
        "nist-mtc-box-assembly/DERIVED_operation_events_plate_cover.csv",
        "nist-mtc-box-assembly/Split-Plate-Hurco04.tar.gz",
        "nist-smstestbed-week-2017-05-01/raw-8-machines-20170501-20170507.tar.gz",
    ]
    with tarfile.open(placed[2]) as archive:
        assert archive.getnames() == ["Split/Plate-Op1-Hurco04-01of20.txt", "Split/Plate-Op1-Hurco04-02of20.txt"]
    site = load_site(REPOSITORY / "data" / "nist")
    operations = site.source("nist_parts").resources[0]
    source = FileSource(site.source("nist_parts"), Settings(shared_data=tmp_path / "data"))
    assert [page.body for page in source.walk(operations, None)] == [
        UPSTREAM["tdp/mtc/Split/Plate-Op1-Hurco04-01of20.txt"],
        UPSTREAM["tdp/mtc/Split/Plate-Op1-Hurco04-02of20.txt"],
    ]


def test_a_second_fetch_downloads_nothing_and_changes_no_byte(
    upstream: tuple[str, Path], registry: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in fetch(tmp_path / "data", base_url=upstream[0], registry=registry)}
    assert len(Quiet.requests) == len(UPSTREAM)
    again = fetch(tmp_path / "data", base_url=upstream[0], registry=registry)
    assert len(Quiet.requests) == len(UPSTREAM)
    assert {path: path.read_bytes() for path in again} == before


def test_a_file_with_another_checksum_is_refused_and_nothing_is_placed(
    upstream: tuple[str, Path], registry: Path, tmp_path: Path
) -> None:
    (upstream[1] / "raw/Hurco01/Hurco01-20170501-20170502.txt").write_bytes(b"<html>Sign in</html>")
    with pytest.raises(PermanentError, match=r"Hurco01-20170501-20170502\.txt does not have the SHA-256.*do not use it"):
        fetch(tmp_path / "data", base_url=upstream[0], registry=registry)
    assert not (tmp_path / "data" / "nist-smstestbed-week-2017-05-01").exists()


def test_a_missing_file_is_named(upstream: tuple[str, Path], registry: Path, tmp_path: Path) -> None:
    (upstream[1] / "raw/Hurco01/Hurco01-20170501-20170502.txt").unlink()
    with pytest.raises(PermanentError, match=r"404.*Is the mirror complete"):
        fetch(tmp_path / "data", base_url=upstream[0], registry=registry)


def test_a_dead_network_is_transient(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"Check the connection and run the command again"):
        fetch(tmp_path / "data", base_url="http://127.0.0.1:9", registry=registry)


def test_the_registry_covers_every_file_that_the_site_requires() -> None:
    places = [target(path) for path in read_registry(module.REGISTRY)]
    assert len(places) == 40 + 60 + 56 + 6
    places.append(module.Target(f"{module.PARTS}/{module.ROUTE_LIST}"))
    for source in load_site(REPOSITORY / "data" / "nist").sources:
        for resource in source.resources:
            goals = [place for place in places if Path(place.file).match(f"{source.root}/{resource.path}")]
            assert goals, resource.name
            member = resource.options.get("member")
            assert member is None or any(Path(str(place.member)).match(member) for place in goals)


def test_the_registry_is_that_of_the_copies_at_hand(shared_data: Path) -> None:
    found = 0
    for path, digest in read_registry(module.REGISTRY).items():
        place = target(path)
        if not (shared_data / place.file).is_file():
            lacking(f"no {place.file} in {shared_data}; run `spc data fetch`")
        if place.member is None:
            assert hashlib.sha256((shared_data / place.file).read_bytes()).hexdigest() == digest
            found += 1
    assert found == 6
