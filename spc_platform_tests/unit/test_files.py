"""Files and archive members as pages: order, watermarks and every refusal."""

import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spc_platform.errors import ContractError, PermanentError
from spc_platform.lake.landing import Landing, LandingReport, land_source
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources.files import FileSource, folder
from spc_platform_tests.unit.lake_plant import MEASUREMENTS, MONDAY, at, body, measurement, plant_site

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def source(root: Path, **limits: int) -> FileSource:
    return FileSource(Source("logs", "files", (), root=str(root), limits=limits), Settings(), now=lambda: NOW)


def resource(path: str, **options: object) -> Resource:
    return Resource("machine", ("raw_telemetry",), "mtconnect_adapter", path=path, options=options)


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))


def drop_folder(tmp_path: Path) -> tuple[Path, Ledger, Callable[[], LandingReport]]:
    """An empty folder of JSON pages, a ledger, and how a fresh source lands the one in the other."""
    root = tmp_path / "drop"
    root.mkdir()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    config = Source("drop", "files", (replace(MEASUREMENTS, path="*.json"),), root=str(root))

    def land() -> LandingReport:
        return land_source(FileSource(config, Settings()), plant_site(config), Landing(tmp_path / "landing", ledger), ledger)

    return root, ledger, land


def test_files_come_as_pages_in_the_order_of_their_names_with_unchanged_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbftwo\r\n")
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "c.csv").write_bytes(b"not wanted")
    pages = list(source(tmp_path).walk(resource("*.txt"), None))
    assert [(page.origin, page.body) for page in pages] == [("a.txt", b"one"), ("b.txt", b"\xef\xbb\xbftwo\r\n")]
    assert {page.received_at for page in pages} == {NOW}


def test_an_unchanged_file_gives_no_page_and_a_changed_one_under_its_old_name_a_new_page(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.txt").write_bytes(b"two")
    logs, wanted = source(tmp_path), resource("*.txt")
    assert len(list(logs.walk(wanted, None))) == 2
    watermark = logs.next_watermark(wanted)
    assert list(logs.walk(wanted, watermark)) == []
    assert logs.has_news(wanted, watermark) is None
    (tmp_path / "a.txt").write_bytes(b"one and a half")
    news = logs.has_news(wanted, watermark)
    assert news is not None
    assert news == logs.has_news(wanted, watermark)
    changed = list(logs.walk(wanted, watermark))
    assert [page.body for page in changed] == [b"one and a half"]
    assert logs.has_news(wanted, logs.next_watermark(wanted)) is None


def test_a_file_counts_as_read_once_the_walk_went_past_its_last_page(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.txt").write_bytes(b"two")
    logs, wanted = source(tmp_path), resource("*.txt")
    assert logs.next_watermark(wanted) is None
    walk = logs.walk(wanted, None)
    next(walk)
    assert logs.next_watermark(wanted) is None, "the page of a.txt may not have landed yet"
    next(walk)
    assert [page.origin for page in logs.walk(wanted, logs.next_watermark(wanted))] == ["b.txt"]


def test_the_watermark_holds_what_was_read_before_and_every_resource_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    logs, wanted = source(tmp_path), resource("*.txt")
    list(logs.walk(wanted, None))
    before = logs.next_watermark(wanted)
    (tmp_path / "b.txt").write_bytes(b"two")
    later = source(tmp_path)
    assert [page.origin for page in later.walk(wanted, before)] == ["b.txt"]
    list(later.walk(replace(wanted, name="other", path="*.csv"), None))
    assert list(json.loads(later.next_watermark(wanted) or "")) == ["a.txt", "b.txt"]


def test_what_the_ledger_keeps_of_a_page_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    root, ledger, land = drop_folder(tmp_path)
    names = [f"{number:02}.json" for number in range(30)]
    for number, name in enumerate(names):
        (root / name).write_bytes(body(measurement(name, at(MONDAY, 8, number))))
    assert land().pages == 30
    with closing(sqlite3.connect(ledger.path)) as connection:
        assert [kept for (kept,) in connection.execute("SELECT position FROM page ORDER BY id")] == names
    assert list(json.loads(ledger.watermark("drop", "measurements") or "")) == names
    assert land().pages == 0


def test_a_file_that_cannot_be_decoded_stays_unread_until_it_is_replaced(tmp_path: Path) -> None:
    root, ledger, land = drop_folder(tmp_path)
    (root / "a.json").write_bytes(body(measurement("a", at(MONDAY, 8))))
    (root / "b.json").write_bytes(body(measurement("b", at(MONDAY, 9)))[:-20])
    for _ in range(2):
        with pytest.raises(ContractError):
            land()
        marks = json.loads(ledger.watermark("drop", "measurements") or "")
        assert (marks["a.json"][0] != "?", marks["b.json"][0]) == (True, "?")
    (root / "b.json").write_bytes(body(measurement("b", at(MONDAY, 9))))
    assert land().new_records == 1, "a.json landed with the first walk"
    assert land().pages == 0


def test_a_foreign_watermark_counts_as_nothing_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    for watermark in ("2026-01-01T00:00:00Z", "[1]", ""):
        assert len(list(source(tmp_path).walk(resource("*.txt"), watermark))) == 1


def test_members_of_an_archive_are_pages_and_the_archive_counts_as_read_with_its_last_member(tmp_path: Path) -> None:
    pack(tmp_path / "week.tar.gz", {"M1-1.txt": b"1", "M2-1.txt": b"2", "M1-2.txt": b"3"})
    logs, wanted = source(tmp_path), resource("week.tar.gz", member="M1-*.txt")
    pages = list(logs.walk(wanted, None))
    assert [(page.origin, page.body) for page in pages] == [("week.tar.gz!M1-1.txt", b"1"), ("week.tar.gz!M1-2.txt", b"3")]
    assert {page.position for page in pages} == {"week.tar.gz"}
    assert list(logs.walk(wanted, logs.next_watermark(wanted))) == []
    walk = logs.walk(wanted, None)
    next(walk)
    next(walk)
    assert logs.next_watermark(wanted) is None, "a walk that ended within the archive leaves it unread"


def test_an_archive_without_a_wanted_member_is_no_news_once_it_was_read(tmp_path: Path) -> None:
    pack(tmp_path / "week.tar.gz", {"M2-1.txt": b"2"})
    logs, wanted = source(tmp_path), resource("week.tar.gz", member="M1-*.txt")
    assert list(logs.walk(wanted, None)) == []
    assert logs.has_news(wanted, logs.next_watermark(wanted)) is None


def test_one_member_at_a_time_is_held(tmp_path: Path) -> None:
    pack(tmp_path / "week.tar.gz", {"a.txt": b"1" * 10, "b.txt": b"2" * 10, "c.txt": b"3" * 100})
    pages = source(tmp_path, max_page_bytes=50).walk(resource("week.tar.gz", member="*.txt"), None)
    assert next(pages).body == b"1" * 10
    with pytest.raises(PermanentError, match=r"c\.txt is larger than 50 bytes.*max_page_bytes"):
        list(pages)


def test_a_missing_folder_is_named_with_the_setting_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"nowhere does not exist.*SPC_SOURCE_ROOT.*SPC_SHARED_DATA.*spc data fetch"):
        list(source(tmp_path / "nowhere").walk(resource("*.txt"), None))
    with pytest.raises(PermanentError, match=r"SPC-221"):
        source(tmp_path / "nowhere").has_news(resource("*.txt"), None)


def test_a_root_is_resolved_against_the_data_sets_unless_overridden(tmp_path: Path) -> None:
    config = Source("logs", "files", (), root="nist")
    assert folder(config, Settings(shared_data=tmp_path)) == tmp_path / "nist"
    assert folder(config, Settings(shared_data=tmp_path, source_root={"logs": "/else"})) == Path("/else")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(PermanentError, match=r"a\.txt is a link to .*outside"):
        list(source(root).walk(resource("*.txt"), None))


@pytest.mark.parametrize("path", ["../*.txt", "/etc/passwd", ""])
def test_a_glob_that_leaves_the_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(PermanentError, match="SPC-222"):
        list(source(tmp_path).walk(resource(path), None))


def test_a_required_file_that_is_missing_is_an_error_and_an_empty_drop_folder_is_not(tmp_path: Path) -> None:
    assert list(source(tmp_path).walk(resource("*.txt"), None)) == []
    with pytest.raises(PermanentError, match=r"no file matches '\*\.txt'"):
        list(source(tmp_path).walk(resource("*.txt", required=True), None))


def test_a_truncated_archive_gives_its_whole_members_and_then_an_error(tmp_path: Path) -> None:
    pack(tmp_path / "whole.tar.gz", {f"{index}.txt": os.urandom(20_000) for index in range(5)})
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:60_000])
    pages = source(tmp_path).walk(resource("cut.tar.gz", member="*.txt"), None)
    assert len(next(pages).body) == 20_000
    with pytest.raises(PermanentError, match=r"SPC-225.*cut\.tar\.gz cannot be read to its end"):
        list(pages)
