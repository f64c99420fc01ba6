"""A watched drop folder: when a file is read, what a rewritten, copied, vanished or broken one does."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest

from spc_platform.errors import PermanentError, SiteError
from spc_platform.lake.landing import Landing, LandingReport, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.site.model import Resource, Source
from spc_platform.sources.files import FileSource
from spc_platform_tests.unit.lake_plant import MONDAY, plant_site

HEADER = "id,at,name,station,result,uom\n"
FIELDS = {"record_id": "id", "measured_at": "at", "characteristic_id": "name", "equipment_id": "station", "value": "result"}
CSV = Resource("lab", ("raw_measurement",), "csv", path="**/*.csv", fields=FIELDS | {"unit": "uom"})


def line(name: str, value: float) -> str:
    return f"{name},{MONDAY}T08:00:00Z,bore,CNC-1,{value},mm\n"


class Drop:
    """A drop folder and a lake; ``clock`` is the reader's time ahead of the wall clock."""

    def __init__(self, folder: Path, *resources: Resource) -> None:
        self.root = folder / "drop"
        self.root.mkdir()
        self.config = Source("drop", "files", resources or (CSV,), root=str(self.root))
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.landing = Landing(folder / "landing", self.ledger)
        self.clock = timedelta()

    def source(self) -> FileSource:
        return FileSource(self.config, Settings(), now=lambda: datetime.now(UTC) + self.clock)

    def land(self) -> LandingReport:
        return land_source(self.source(), plant_site(self.config), self.landing, self.ledger)

    def news(self) -> str | None:
        resource = self.config.resources[0]
        return self.source().has_news(resource, self.ledger.watermark("drop", resource.name))

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def values(self) -> dict[str, float]:
        rows = raw_partition("raw_measurement", MONDAY, plant_site(self.config), self.landing, self.ledger)
        return dict(rows.filter("is_current").sort("record_id").select("record_id", "value").iter_rows())


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(tmp_path)


def with_options(folder: Path, **options: object) -> Drop:
    return Drop(folder, replace(CSV, options=options))


def test_a_file_is_read_once_it_did_not_change_for_the_time_to_settle(tmp_path: Path) -> None:
    drop = with_options(tmp_path, settle_s=10)
    path = drop.write("a.csv", HEADER + line("m1", 1.0))
    os.utime(path, (0, 0))
    assert (drop.news(), drop.land().pages) == (None, 0), "a copy that keeps the time of its original is as young as it is"
    drop.clock = timedelta(seconds=11)
    assert drop.news() is not None
    assert drop.land().pages == 1


def test_a_half_written_file_with_a_marker_to_come_is_not_read(tmp_path: Path) -> None:
    drop = with_options(tmp_path, ready=[".done", ".ready"])
    drop.write("a.csv", HEADER)
    drop.write("b.csv", HEADER + line("b", 2.0))
    drop.write("b.ready", "")
    assert drop.land().pages == 1
    drop.write("a.csv", HEADER + line("a", 1.0))
    drop.write("a.csv.done", "")
    drop.land()
    assert drop.values() == {"a": 1.0, "b": 2.0}


def test_a_marker_older_than_its_file_says_nothing_of_it(tmp_path: Path) -> None:
    drop = with_options(tmp_path, ready=".done")
    marker = drop.write("a.csv.done", "")
    os.utime(marker, (time.time() - 60, time.time() - 60))
    drop.write("a.csv", HEADER + line("a", 1.0))
    assert drop.land().pages == 0
    os.utime(marker)
    assert drop.land().pages == 1


@pytest.mark.parametrize("name", ["~$a.csv", ".a.csv", ".sync/a.csv"])
def test_unfinished_files_are_known_by_their_names(drop: Drop, name: str) -> None:
    path = drop.write(name, HEADER + line("a", 1.0))
    assert (drop.news(), drop.land().pages) == (None, 0)
    path.rename(drop.root / "a.csv")
    assert drop.land().pages == 1


def test_own_patterns_of_unfinished_names_replace_the_usual_ones(tmp_path: Path) -> None:
    drop = with_options(tmp_path, ignore=["wip_*"])
    drop.write("wip_a.csv", HEADER + line("a", 1.0))
    drop.write("~$b.csv", HEADER + line("b", 1.0))
    drop.land()
    assert list(drop.values()) == ["b"]


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_walk(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop.write("a.csv", HEADER + line("a", 1.0))
    bounded = FileSource._bounded

    def torn(self: FileSource, file: object, origin: str) -> bytes:
        path.write_text(HEADER + line("a", 2.0))
        return bounded(self, file, origin)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(FileSource, "_bounded", torn)
        assert drop.land().pages == 0
    assert drop.land().pages == 1
    assert drop.values() == {"a": 2.0}


def test_new_content_under_the_old_name_corrects_the_records_and_old_content_corrects_them_back(drop: Drop) -> None:
    for n, value in enumerate([9.0, 1.0, 9.0], start=1):
        drop.clock = timedelta(seconds=n)
        drop.write("a.csv", HEADER + line("a", value) + line("b", 5.0))
        assert drop.land().pages == 1
        assert drop.values() == {"a": value, "b": 5.0}
    assert json.loads(drop.ledger.watermark("drop", "lab") or "")["a.csv"].endswith("#3")


def test_a_copy_of_a_file_whose_records_are_named_by_it_counts_nothing_twice(tmp_path: Path) -> None:
    drop = Drop(tmp_path, Resource("cmm", ("raw_measurement",), "dfq", path="*.dfq", zone="UTC"))
    text = "K0100 1\nK1001 P\nK2001 BORE\nK2142 mm\nK0001 1.5\nK0004 2.3.2026/08:00:00\n"
    drop.write("a.dfq", text)
    drop.write("copy of a.dfq", text)
    assert drop.land().records == 1
    drop.write("copy of a.dfq", text.replace("1.5", "1.6"))
    assert drop.land().new_records == 1


def test_a_file_that_disappears_is_told_once_and_its_records_stay(drop: Drop, caplog: pytest.LogCaptureFixture) -> None:
    path = drop.write("a.csv", HEADER + line("a", 1.0))
    drop.land()
    path.unlink()
    with caplog.at_level(logging.WARNING, "spc_platform.sources.files"):
        drop.land()
        drop.land()
    assert [record.getMessage() for record in caplog.records] == [
        "source drop, resource lab: a.csv is no longer in the folder; its records stay"
    ]
    assert drop.values() == {"a": 1.0}
    drop.write("a.csv", HEADER + line("a", 1.0))
    assert (drop.news(), drop.land().pages) == (None, 0), "the same content has come back"


def test_what_cannot_be_read_stops_nothing_else_and_is_told_at_the_end(drop: Drop, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(HEADER + line("secret", 1.0))
    (drop.root / "a.csv").symlink_to(tmp_path / "secret.csv")
    drop.config = replace(drop.config, limits={"max_page_bytes": 200})
    drop.write("b.csv", "x" * 300)
    drop.write("c.csv", HEADER + line("c", 1.0))
    with pytest.raises(PermanentError, match=r"SPC-223.*a\.csv is a link") as raised:
        drop.land()
    assert any("SPC-227" in note and "b.csv" in note for note in raised.value.__notes__)
    assert drop.values() == {"c": 1.0}
    assert "c.csv" in json.loads(drop.ledger.watermark("drop", "lab") or "")
    assert "SPC-227" in drop.ledger.status()["last_error"].item()


def test_a_page_that_is_no_table_is_a_refused_record_and_the_others_land(drop: Drop) -> None:
    drop.write("a.csv", "value\n1\n")
    drop.write("b.csv", HEADER + line("b", 1.0))
    assert drop.land().pages == 2
    day = drop.land().touched or tuple(drop.ledger.touched_dates())
    site = plant_site(drop.config)
    rows = pl.concat(raw_partition("raw_measurement", each, site, drop.landing, drop.ledger) for each in day)
    assert rows["decode_error"].drop_nulls().str.starts_with("page:MISSING_COLUMN").to_list() == [True]


def test_a_refused_file_is_no_news_until_it_changes(tmp_path: Path) -> None:
    drop = Drop(tmp_path, Resource("json", ("raw_measurement",), "json_records", path="*.json", records="data"))
    drop.write("a.json", "{")
    with pytest.raises(Exception, match="SPC-3"):
        drop.land()
    assert drop.news() is None
    drop.write("a.json", '{"data": []}')
    assert drop.news() is not None
    drop.land()
    assert drop.news() is None


def test_the_folder_is_left_as_it_was(drop: Drop) -> None:
    drop.write("a.csv", HEADER + line("a", 1.0))
    drop.write("b.csv", "no table")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in drop.root.rglob("*")}
    drop.land()
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in drop.root.rglob("*")} == before


def test_wrong_options_are_named_with_what_to_write(tmp_path: Path) -> None:
    drop = with_options(tmp_path, settle_s="soon", ready="done", ignore="*.tmp")
    with pytest.raises(SiteError, match=r"SPC-445.*settle_s is 'soon'.*ready is 'done'.*ignore is '\*\.tmp': write a list"):
        drop.land()


def test_the_site_folder_names_wrong_options_with_their_line(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    copytree(REPOSITORY / "data" / "site", folder)
    with (folder / "sources.toml").open("a") as sources:
        sources.write(
            '\n[[source]]\nsource_id = "drop"\nkind = "files"\nroot = "drop"\n\n[[source.resource]]\nname = "lab"\n'
            'tables = ["raw_measurement"]\nformat = "csv"\npath = "*.csv"\noptions = { settle_s = -1 }\n'
        )
    with pytest.raises(SiteError, match=r"sources\.toml.*settle_s is -1.*0 or greater"):
        load_site(folder)


def test_a_folder_that_is_a_link_to_elsewhere_is_refused(drop: Drop, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.csv").write_text(HEADER + line("secret", 1.0))
    (drop.root / "link").symlink_to(tmp_path / "elsewhere")
    drop.config = replace(drop.config, resources=(replace(CSV, path="*/*.csv"),))
    with pytest.raises(PermanentError, match="SPC-223"):
        drop.land()
    assert drop.ledger.touched_dates() == []


def test_a_renamed_file_and_one_that_came_back_are_read_once(drop: Drop) -> None:
    path = drop.write("a.csv", HEADER + line("a", 1.0))
    drop.land()
    path.rename(drop.root / "b.csv")
    drop.land()
    assert drop.values() == {"a": 1.0}
    (drop.root / "b.csv").rename(path)
    assert drop.land().pages == 0
