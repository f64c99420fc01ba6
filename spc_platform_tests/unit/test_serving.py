"""Serving versions: readers never meet a lock, a stale or a torn read; nothing half-built is published."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from spc_platform.errors import LakeError
from spc_platform.lake.marts import STORAGE_VERSION, storage_number
from spc_platform.lake.serving import Serving

TABLES = ("first", "second")


def build(database: Path, version: str, number: int, storage: str = STORAGE_VERSION) -> None:
    """A database whose every table says which publication it belongs to."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{database}' AS spc (STORAGE_VERSION '{storage}')")
        connection.execute("CREATE SCHEMA spc.marts")
        for table in TABLES:
            connection.execute(f"CREATE TABLE spc.marts.{table} AS SELECT {number} AS number FROM range(500)")
        connection.execute(f"CREATE TABLE spc.marts.meta_publication AS SELECT '{version}' AS published_version")
        connection.execute("DETACH spc")


def publish(serving: Serving, number: int, **manifest: object) -> str:
    version = f"v{number:04d}"
    build(serving.build_path(version), version, number)
    serving.publish(version, manifest)
    return version


def read(path: Path) -> tuple[set[int], str]:
    """The publications that the tables say they belong to, each read by its own query, and the stated version."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        numbers = {connection.execute(f"SELECT max(number) FROM marts.{table}").fetchone()[0] for table in TABLES}
        return numbers, connection.execute("SELECT published_version FROM marts.meta_publication").fetchone()[0]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path / "serving")


def test_a_publication_is_sealed_hashed_and_current(serving: Serving) -> None:
    version = "20261120T101500Z-1a2b3c4d"
    database = serving.build_path(version)
    build(database, version, 7)
    (database.parent / "report").mkdir()
    (database.parent / "report" / "index.html").write_text("<p>report</p>")
    publication = serving.publish(version, {"run_id": "r-1", "inputs": {"measurement": "abc"}})

    assert read(serving.current()) == ({7}, version)
    assert serving.current() == serving.root / "current" / "spc.duckdb"
    assert serving.current_version() == version
    assert publication.rows == {"first": 500, "second": 500, "meta_publication": 1}
    manifest = json.loads((publication.folder / "manifest.json").read_text())
    assert manifest["run_id"] == "r-1"
    assert manifest["inputs"] == {"measurement": "abc"}
    assert set(manifest["files"]) == {
        "spc.duckdb",
        "report/index.html",
        "parquet/first.parquet",
        "parquet/second.parquet",
        "parquet/meta_publication.parquet",
    }
    assert pl.read_parquet(publication.folder / "parquet" / "first.parquet")["number"].unique().to_list() == [7]
    files = [path for path in publication.folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
    assert not list(serving.root.rglob("*.wal"))
    assert not list((serving.root / "versions").glob(".build-*"))


def test_the_file_has_the_storage_format_of_duckdb_1_2(serving: Serving) -> None:
    publish(serving, 1)
    # 64 is 0.10 to 1.1, 65 is 1.2, 67 is 1.4, 69 is 2.0: DuckDB's storage version table.
    assert storage_number(serving.current()) == 65


def test_a_file_that_1_x_clients_cannot_open_is_refused(serving: Serving) -> None:
    build(serving.build_path("v1"), "v1", 1, storage="latest")
    with pytest.raises(LakeError, match="storage format"):
        serving.publish("v1", {})
    assert serving.current() is None


def test_readers_during_thirty_publications_meet_no_error_no_stale_and_no_torn_read(serving: Serving) -> None:
    publish(serving, 0)
    published = 0
    done = threading.Event()
    reads, faults = [0] * 4, []

    def reader(slot: int) -> None:
        while not done.is_set():
            at_least = published
            try:
                numbers, version = read(serving.current())
            except Exception as error:
                faults.append(f"error {error!r}")
                return
            if len(numbers) != 1 or version != f"v{max(numbers):04d}":
                faults.append(f"torn: {numbers}, {version}")
            if min(numbers) < at_least:
                faults.append(f"stale: {numbers} after {at_least} was published")
            reads[slot] += 1
            time.sleep(0.005)  # leaves the publisher its share of two cores

    threads = [threading.Thread(target=reader, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 31):
            publish(serving, number)
            published = number
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert faults == []
    assert min(reads) > 0
    assert sum(reads) >= 60, "too few reads to have met a publication"
    assert read(serving.current())[0] == {30}


def test_renaming_over_the_file_would_serve_stale_data(tmp_path: Path) -> None:
    """The negative control of the test above: what the link is there to avoid."""
    path = tmp_path / "spc.duckdb"
    build(path, "v1", 1)
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as held:
        held.execute("SELECT 1")
        (tmp_path / "next").mkdir()
        build(tmp_path / "next" / "spc.duckdb", "v2", 2)
        (tmp_path / "next" / "spc.duckdb").replace(path)
        assert read(path)[0] == {1}, "a new connection gets the old version while any connection is open"


def test_a_held_connection_keeps_its_version_and_a_new_one_gets_the_new(serving: Serving) -> None:
    publish(serving, 1)
    with duckdb.connect(serving.current(), read_only=True, config={"threads": 1}) as held:
        publish(serving, 2)
        assert held.execute("SELECT max(number) FROM marts.first").fetchone() == (1,)
        assert read(serving.current()) == ({2}, "v0002")
        assert held.execute("SELECT max(number) FROM marts.second").fetchone() == (1,)


def test_a_planted_wal_refuses_the_publication_and_readers_keep_what_they_had(serving: Serving) -> None:
    publish(serving, 1)
    database = serving.build_path("v0002")
    build(database, "v0002", 2)
    database.with_name("spc.duckdb.wal").write_bytes(b"left over")
    with pytest.raises(LakeError, match=r"SPC-501.*\.wal"):
        serving.publish("v0002", {})
    assert read(serving.current()) == ({1}, "v0001")
    assert serving.versions() == ["v0001"]
    build_again = serving.build_path("v0002")
    assert not list(build_again.parent.iterdir()), "a build starts in a fresh directory"


def test_a_file_that_says_it_is_another_version_is_refused(serving: Serving) -> None:
    build(serving.build_path("v2"), "v1", 1)
    with pytest.raises(LakeError, match="SPC_PUBLISHED_VERSION=v2"):
        serving.publish("v2", {})


def test_a_build_that_stopped_half_way_is_refused(serving: Serving) -> None:
    """drop_lake runs only after dbt has succeeded: with the lake still in it, the file is not a result."""
    publish(serving, 1)
    database = serving.build_path("v0002")
    build(database, "v0002", 2)
    with duckdb.connect(database) as connection:
        connection.execute("CREATE SCHEMA lake")
    with pytest.raises(LakeError, match="failed or is not finished"):
        serving.publish("v0002", {})
    assert serving.current_version() == "v0001"


def test_an_empty_or_missing_build_is_refused(serving: Serving) -> None:
    database = serving.build_path("v1")
    with pytest.raises(LakeError, match="nothing was built"):
        serving.publish("v1", {})
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{database}' AS spc (STORAGE_VERSION '{STORAGE_VERSION}')")
    with pytest.raises(LakeError, match="no table in schema marts"):
        serving.publish("v1", {})
    database.write_bytes(b"not a database at all, but long enough")
    with pytest.raises(LakeError, match="not a DuckDB file"):
        serving.publish("v1", {})


def test_a_published_version_is_never_written_again(serving: Serving) -> None:
    publish(serving, 1)
    with pytest.raises(LakeError, match="published already"):
        serving.build_path("v0001")


@pytest.mark.parametrize("version", ["", "..", "../v1", "a/b", ".build-x", "v1\n", "a..b", "x" * 101])
def test_a_version_name_cannot_leave_the_directory(serving: Serving, version: str) -> None:
    with pytest.raises(LakeError, match="cannot name a serving version"):
        serving.build_path(version)


def test_a_publication_killed_before_the_link_leaves_readers_in_peace(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(serving, 1)

    def killed(self: Serving, version: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Serving, "_point", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(serving, 2)
    assert read(serving.current()) == ({1}, "v0001")
    publish(serving, 3)
    assert read(serving.current()) == ({3}, "v0003")
    assert serving.versions() == ["v0001", "v0002", "v0003"]


def test_rollback_points_back_renews_the_time_and_forward_again(serving: Serving) -> None:
    publish(serving, 1)
    publish(serving, 2)
    newest = serving.current().stat().st_mtime_ns
    time.sleep(0.01)
    serving.rollback("v0001")
    assert read(serving.current()) == ({1}, "v0001")
    assert serving.current().stat().st_mtime_ns > newest, "tools that watch the time of change reopen the file"
    serving.rollback("v0002")
    assert read(serving.current()) == ({2}, "v0002")
    with pytest.raises(LakeError, match="published: v0001, v0002"):
        serving.rollback("v0009")


def test_verify_finds_an_altered_a_missing_and_an_added_file(serving: Serving) -> None:
    publish(serving, 1)
    publish(serving, 2)
    folder = serving.verify("v0001").folder
    database = folder / "spc.duckdb"
    body = bytearray(database.read_bytes())
    body[-1] ^= 1
    database.chmod(0o644)
    database.write_bytes(body)
    (folder / "parquet" / "first.parquet").unlink()
    (folder / "stray").write_text("x")
    with pytest.raises(LakeError, match=r"SPC-502.*first.parquet is missing; stray was added; spc.duckdb was altered"):
        serving.verify("v0001")
    with pytest.raises(LakeError, match="SPC-502"):
        serving.rollback("v0001")
    assert serving.current_version() == "v0002"
    (serving.root / "versions" / "v0002" / "manifest.json").chmod(0o644)
    (serving.root / "versions" / "v0002" / "manifest.json").write_text("{")
    with pytest.raises(LakeError, match="cannot be read"):
        serving.verify("v0002")


def test_prune_keeps_the_newest_the_young_and_always_the_current(serving: Serving) -> None:
    for number in range(1, 7):
        publish(serving, number)
    serving.rollback("v0001")
    now = time.time()
    old, young = now - 1000, now - 10
    for version, changed in (("v0001", old), ("v0002", old), ("v0003", young), ("v0004", old)):
        database = serving.root / "versions" / version / "spc.duckdb"
        os.utime(database, (changed, changed))
    abandoned = serving.build_path("v0099").parent
    os.utime(abandoned, (old, old))
    serving.build_path("v0100")
    assert serving.prune(keep=2, min_age_s=100, now=now) == ["v0002", "v0004"]
    assert serving.versions() == ["v0001", "v0003", "v0005", "v0006"]
    assert read(serving.current()) == ({1}, "v0001")
    assert not abandoned.exists()
    assert (serving.root / "versions" / ".build-v0100").is_dir(), "a build under way is left alone"
    with pytest.raises(LakeError, match="keep=0"):
        serving.prune(keep=0, min_age_s=0)


def test_something_else_in_place_of_the_link_is_left_alone(serving: Serving) -> None:
    (serving.root / "current").mkdir(parents=True)
    (serving.root / "current" / "mine.txt").write_text("x")
    with pytest.raises(LakeError, match="not a symbolic link"):
        publish(serving, 1)
    assert (serving.root / "current" / "mine.txt").read_text() == "x"


def test_an_empty_serving_directory_has_no_current_and_no_versions(serving: Serving) -> None:
    assert serving.current() is None
    assert serving.current_version() is None
    assert serving.versions() == []
