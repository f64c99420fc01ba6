"""The lake: partitions committed behind manifests, verified when read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from spc_platform.contracts import LAKE_TABLES, Table
from spc_platform.contracts.raw import RAW_MEASUREMENT
from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.files import locked
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Commit, Lake
from spc_platform_tests.unit.lake_plant import MONDAY, TUESDAY, WEDNESDAY, raw_measurements
from spc_platform_tests.unit.spc_frames import version

TABLE = "raw_measurement"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(lake: Lake, day: date = MONDAY, n: int = 10, shift: float = 0.0) -> Commit:
    return lake.commit(TABLE, raw_measurements(day, n, shift), day)


def test_what_was_committed_is_read_back(lake: Lake) -> None:
    rows = raw_measurements(MONDAY, 1000)
    done = lake.commit(TABLE, rows.sample(fraction=1.0, shuffle=True, seed=1), MONDAY, inputs={"page": "f0"})
    assert (done.rows, done.changed, done.path.name) == (1000, True, f"{done.sha256}.parquet")
    assert lake.read(TABLE, MONDAY).equals(rows)
    assert lake.read(TABLE, MONDAY).schema == RAW_MEASUREMENT.schema
    assert lake.scan(TABLE, [MONDAY]).collect().equals(rows)
    manifest = lake.manifest(TABLE, MONDAY)
    assert manifest is not None
    assert (manifest.sha256, manifest.rows, manifest.bytes) == (done.sha256, 1000, done.path.stat().st_size)
    assert (manifest.inputs, manifest.previous) == ({"page": "f0"}, "")


def test_the_same_rows_in_any_order_and_chunking_are_not_written_again(lake: Lake) -> None:
    first = commit(lake, n=500)
    manifest = first.path.parent / "manifest.json"
    before = (first.path.stat().st_mtime_ns, manifest.stat().st_mtime_ns)
    rows = raw_measurements(MONDAY, 500)
    again = lake.commit(TABLE, pl.concat([rows[300:], rows[:300]], rechunk=False), MONDAY)
    assert (again.changed, again.sha256) == (False, first.sha256)
    assert (first.path.stat().st_mtime_ns, manifest.stat().st_mtime_ns) == before


def test_equal_rows_from_other_inputs_keep_the_file_and_name_the_new_inputs(lake: Lake) -> None:
    lake.commit(TABLE, raw_measurements(MONDAY, 5), MONDAY, inputs={"page": "old"})
    assert not lake.commit(TABLE, raw_measurements(MONDAY, 5), MONDAY, inputs={"page": "new"}).changed
    manifest = lake.manifest(TABLE, MONDAY)
    assert manifest is not None
    assert (manifest.inputs, manifest.previous) == ({"page": "new"}, "")


def test_a_partition_that_was_never_committed_is_empty(lake: Lake) -> None:
    assert lake.read(TABLE, MONDAY).equals(RAW_MEASUREMENT.empty())
    assert lake.read(TABLE, MONDAY, columns=["value"]).columns == ["value"]
    assert lake.scan(TABLE).collect().schema == RAW_MEASUREMENT.schema
    assert (lake.paths(TABLE), lake.dates(TABLE), lake.has(TABLE, MONDAY)) == ([], [], False)
    assert lake.manifest(TABLE, MONDAY) is None


def test_a_partition_without_rows_was_committed_nevertheless(lake: Lake) -> None:
    assert lake.commit(TABLE, RAW_MEASUREMENT.empty(), MONDAY).changed
    assert lake.has(TABLE, MONDAY)
    assert lake.dates(TABLE) == [MONDAY]
    assert lake.read(TABLE, MONDAY).equals(RAW_MEASUREMENT.empty())


def test_dates_are_read_in_order_and_absent_ones_skipped(lake: Lake) -> None:
    commit(lake, WEDNESDAY, 3)
    commit(lake, MONDAY, 2)
    frame = lake.read_dates(TABLE, [WEDNESDAY, TUESDAY, MONDAY], columns=["production_date", "value"])
    assert frame["production_date"].to_list() == [MONDAY] * 2 + [WEDNESDAY] * 3
    assert lake.read(TABLE).height == lake.scan(TABLE).collect().height == 5
    assert lake.dates(TABLE) == [MONDAY, WEDNESDAY]


def test_an_unpartitioned_table_has_one_file(lake: Lake) -> None:
    empty = LAKE_TABLES["spc_limits"].empty()
    done = lake.commit("spc_limits", empty)
    assert done.path.parent.name == "all"
    assert lake.read("spc_limits").equals(empty)
    with pytest.raises(LakeError, match="no production dates"):
        lake.read("spc_limits", MONDAY)
    with pytest.raises(LakeError, match="needs a production date"):
        lake.commit(TABLE, raw_measurements(MONDAY, 1))


def test_rows_of_another_date_are_refused(lake: Lake) -> None:
    with pytest.raises(ContractError, match="2026, 3, 3"):
        lake.commit(TABLE, raw_measurements(TUESDAY, 2), MONDAY)
    with pytest.raises(ContractError, match="value"):
        lake.commit(TABLE, raw_measurements(MONDAY, 2).drop("value"), MONDAY)
    assert not lake.has(TABLE, MONDAY)


@pytest.mark.parametrize("table", ["../x", "raw_measurement/..", "'; drop table", "", "a*", "RAW_MEASUREMENT"])
def test_a_table_without_contract_has_no_place_in_the_lake(lake: Lake, table: str) -> None:
    with pytest.raises(LakeError, match="no table"):
        lake.commit(table, pl.DataFrame(), MONDAY)
    with pytest.raises(LakeError, match="no table"):
        lake.read(table, MONDAY)
    assert not lake.root.exists()


def test_every_flipped_byte_of_a_file_is_reported(lake: Lake) -> None:
    done = commit(lake)
    whole = done.path.read_bytes()
    for position in range(0, len(whole), len(whole) // 50):
        done.path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        for read in (lambda: lake.read(TABLE, MONDAY), lambda: lake.scan(TABLE)):
            with pytest.raises(LakeError, match=r"altered.*materialize raw_measurement of 2026-03-02 again"):
                read()
    assert len(lake.verify()) == 1


def test_a_missing_file_and_a_torn_manifest_are_reported_and_mended_by_a_commit(lake: Lake) -> None:
    done = commit(lake)
    done.path.unlink()
    with pytest.raises(LakeError, match="is missing"):
        lake.read(TABLE, MONDAY)
    assert not commit(lake).changed
    assert lake.verify() == []
    manifest = done.path.parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:40])
    with pytest.raises(LakeError, match="cannot be read"):
        lake.read(TABLE, MONDAY)
    assert "manifest.json" in lake.verify()[0]
    commit(lake)
    assert lake.verify() == []


def test_a_manifest_that_names_a_foreign_file_is_refused(lake: Lake, tmp_path: Path) -> None:
    done = commit(lake)
    foreign = tmp_path / "foreign.parquet"
    foreign.write_bytes(done.path.read_bytes())
    manifest = done.path.parent / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "file": "../../../foreign.parquet"}))
    with pytest.raises(LakeError, match="another partition's file"):
        lake.read(TABLE, MONDAY)


def test_a_partition_of_an_older_contract_is_named(lake: Lake) -> None:
    commit(lake)
    manifest = lake.root / TABLE / "production_date=2026-03-02" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "contract": "0" * 64}))
    with pytest.raises(LakeError, match="another contract"):
        Lake(lake.root).read(TABLE, MONDAY)


def test_the_replaced_file_stays_for_its_readers_until_the_sweep(lake: Lake) -> None:
    first = commit(lake)
    reader = lake.scan(TABLE, [MONDAY])
    second = commit(lake, shift=1.0)
    manifest = lake.manifest(TABLE, MONDAY)
    assert manifest is not None
    assert manifest.previous == first.sha256
    assert reader.select(pl.col("value").sum()).collect().item() == 45.0
    orphan = first.path.parent / ".tmp-1-dead"
    orphan.write_bytes(b"left by a killed run")
    assert lake.sweep(3600) == []
    assert sorted(lake.sweep(0)) == sorted([first.path, orphan])
    assert second.path.exists()
    assert lake.verify() == []


def test_an_old_file_is_safe_right_after_it_was_replaced(lake: Lake) -> None:
    first = commit(lake)
    os.utime(first.path, (0, 0))
    commit(lake, shift=1.0)
    assert lake.sweep(3600) == []
    assert first.path.exists()


def test_a_partition_that_returns_to_earlier_rows_uses_the_kept_file(lake: Lake) -> None:
    first = commit(lake)
    commit(lake, shift=1.0)
    third = commit(lake)
    assert (third.changed, third.path) == (True, first.path)
    assert lake.read(TABLE, MONDAY)["value"].sum() == 45.0


def test_a_second_writer_waits_and_then_names_the_holder(lake: Lake) -> None:
    folder = commit(lake).path.parent
    with locked(folder / ".lock", 0.0, "the test"), pytest.raises(LakeError, match=rf"\"pid\": {os.getpid()}"):
        Lake(lake.root, lock_timeout_s=0.1).commit(TABLE, raw_measurements(MONDAY, 1), MONDAY)
    assert commit(lake, n=1).changed


def test_two_processes_on_one_partition_serialize(lake: Lake) -> None:
    program = (
        "import sys; from pathlib import Path; from spc_platform_tests.unit.test_store import *\n"
        "lake = Lake(Path(sys.argv[1]))\n"
        "for n in range(12): commit(lake, shift=float(sys.argv[2]) + n)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(lake.root), base]) for base in ("0", "1000")]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        frame = lake.read(TABLE, MONDAY)
        seen.add(frame.height)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {0, 10}
    assert lake.verify() == []
    assert len(list(lake.root.rglob("*.parquet"))) == 24
    assert not list(lake.root.rglob(".tmp-*"))


def test_a_commit_is_noted_in_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    lake = Lake(tmp_path / "lake", ledger)
    done = commit(lake)
    commit(lake)
    assert ledger.commits(TABLE).select("production_date", "sha256", "rows").rows() == [(MONDAY, done.sha256, 10)]


def test_identifiers_are_dictionary_encoded_and_pages_carry_checksums(lake: Lake) -> None:
    done = commit(lake, n=2000)
    group = pq.read_metadata(done.path).row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "RLE_DICTIONARY" in encodings["equipment_id"]
    assert "RLE_DICTIONARY" not in encodings["record_id"]
    whole = bytearray(done.path.read_bytes())
    values = group.column(RAW_MEASUREMENT.names.index("value"))
    whole[values.data_page_offset + values.total_compressed_size // 2] ^= 1
    done.path.write_bytes(whole)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(done.path, page_checksum_verification=True)


def test_duckdb_reads_the_files_with_utc_instants(lake: Lake) -> None:
    done = commit(lake, n=3)
    query = f"SELECT count(*), epoch(min(measured_at)), typeof(min(equipment_id)) FROM read_parquet('{done.path}')"
    # 2026-03-02 08:00 UTC is 1772438400 s after 1970 (date -u -d 2026-03-02T08:00 +%s)
    assert duckdb.sql(query).fetchall() == [(3, 1772438400.0, "VARCHAR")]


def earlier_contract(*dropped: str) -> dict[str, Table]:
    """All contracts, with spc_limits as it was before columns were added to it."""
    grown = LAKE_TABLES["spc_limits"]
    columns = tuple(column for column in grown.columns if column.name not in dropped)
    return {**LAKE_TABLES, "spc_limits": replace(grown, columns=columns)}


def approved() -> pl.DataFrame:
    return version().with_columns(approved_by=pl.lit("A. Engineer"))


def test_approved_rows_outlive_a_contract_that_grew_by_nullable_columns(tmp_path: Path) -> None:
    Lake(tmp_path / "lake", contracts=earlier_contract("sigma_means")).commit("spc_limits", approved())
    lake = Lake(tmp_path / "lake")
    with pytest.raises(LakeError, match="SPC-506"):
        lake.read("spc_limits")
    kept = lake.read_kept("spc_limits")
    assert kept.schema == LAKE_TABLES["spc_limits"].schema
    assert kept.select("approved_by", "sigma_means").row(0) == ("A. Engineer", None)
    lake.commit("spc_limits", kept)
    assert lake.read("spc_limits").equals(kept)


def test_approved_rows_are_not_guessed_at_when_the_contract_changed_otherwise(tmp_path: Path) -> None:
    Lake(tmp_path / "lake", contracts=earlier_contract("mu")).commit("spc_limits", approved())
    with pytest.raises(LakeError, match="SPC-506"):
        Lake(tmp_path / "lake").read_kept("spc_limits")


def test_an_altered_file_of_an_earlier_contract_is_refused(tmp_path: Path) -> None:
    done = Lake(tmp_path / "lake", contracts=earlier_contract("sigma_means")).commit("spc_limits", approved())
    done.path.chmod(0o644)
    done.path.write_bytes(done.path.read_bytes()[:-1] + b"x")
    with pytest.raises(LakeError, match="SPC-502"):
        Lake(tmp_path / "lake").read_kept("spc_limits")
