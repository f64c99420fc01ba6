"""Writers that kill themselves with SIGKILL at a named point.

``python -m spc_platform_tests.pipeline.lake_writer`` imports what it needs, then reads one line
``[writer, point, root]`` and runs that writer: it can be started ahead of its use.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl

from spc_platform.contracts import Table
from spc_platform.lake import files, store
from spc_platform.lake.files import Checkpoint
from spc_platform.lake.landing import Landing, LandingReport, land_source
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Commit, Lake, Manifest
from spc_platform.sources import json_records
from spc_platform_tests.unit.lake_plant import (
    MONDAY,
    TUESDAY,
    ScriptedSource,
    at,
    body,
    measurement,
    plant_site,
    raw_measurements,
)

assert json_records.decode  # imported ahead of its use
TABLE = "raw_measurement"
SITE = plant_site()
OLD_PAGES = [body(measurement("a", at(MONDAY, 8), 1.0), measurement("b", at(MONDAY, 9), 1.0))]
NEW_PAGES = [
    body(measurement("a", at(TUESDAY, 8), 2.0, rev=2), measurement("b", at(MONDAY, 9), 1.0)),
    body(measurement("c", at(TUESDAY, 10), 3.0)),
]


def commit(root: Path, checkpoint: Checkpoint = files.no_checkpoint, shift: float = 1.0) -> Commit:
    lake = Lake(root / "lake", Ledger(root / "ledger.sqlite"), checkpoint=checkpoint)
    return lake.commit(TABLE, raw_measurements(MONDAY, 50, shift), MONDAY)


def land(root: Path, checkpoint: Checkpoint = files.no_checkpoint, pages: list[bytes] = NEW_PAGES) -> LandingReport:
    ledger = Ledger(root / "ledger.sqlite")
    source = ScriptedSource({"measurements": list(pages)})
    return land_source(source, SITE, Landing(root / "landing", ledger), ledger, checkpoint=checkpoint)


class InPlaceLake(Lake):
    """Broken on purpose: writes under the final name, as plain Parquet writers do."""

    def _write_file(self, folder: Path, contract: Table, rows: pl.DataFrame) -> tuple[str, Path]:
        path = folder / Path(self.manifest(TABLE, MONDAY).file)  # type: ignore[union-attr]
        store._write_parquet(path, contract, rows, self._checkpoint)
        digest = files.file_sha256(path)
        return digest, path.rename(folder / f"{digest}.parquet")


class ManifestFirstLake(Lake):
    """Broken on purpose: the manifest names the file before it has its name."""

    def _write_file(self, folder: Path, contract: Table, rows: pl.DataFrame) -> tuple[str, Path]:
        digest, path = super()._write_file(folder, contract, rows)
        path.rename(folder / "later")
        before = self.manifest(TABLE, MONDAY)
        assert before is not None
        said = {name: getattr(before, name) for name in Manifest.__slots__}
        self._write_manifest(folder, Manifest(**{**said, "sha256": digest, "file": path.name}))
        self._checkpoint("named-too-early")
        return digest, (folder / "later").rename(path)


class WatermarkFirstLedger(Ledger):
    """Broken on purpose: the watermark moves when the walk begins, before a page is durable."""

    def open_batch(self, source_id: str, resource: str) -> int:
        batch = super().open_batch(source_id, resource)
        self.close_batch(batch, "2026-03-03T10:00:00.000000Z")
        return batch


def commit_in_place(root: Path, checkpoint: Checkpoint) -> None:
    InPlaceLake(root / "lake", checkpoint=checkpoint).commit(TABLE, raw_measurements(MONDAY, 50, 1.0), MONDAY)


def commit_manifest_first(root: Path, checkpoint: Checkpoint) -> None:
    ManifestFirstLake(root / "lake", checkpoint=checkpoint).commit(TABLE, raw_measurements(MONDAY, 50, 1.0), MONDAY)


def land_watermark_first(root: Path, checkpoint: Checkpoint) -> None:
    ledger = WatermarkFirstLedger(root / "ledger.sqlite")
    source = ScriptedSource({"measurements": list(NEW_PAGES)})
    land_source(source, SITE, Landing(root / "landing", ledger), ledger, checkpoint=checkpoint)


WRITERS: dict[str, Callable[[Path, Checkpoint], object]] = {
    function.__name__: function for function in (commit, land, commit_in_place, commit_manifest_first, land_watermark_first)
}


def killing(point: str) -> Checkpoint:
    def checkpoint(step: str) -> None:
        if step == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def main() -> None:
    writer, point, root = json.loads(sys.stdin.readline())
    WRITERS[writer](Path(root), killing(point))


if __name__ == "__main__":
    main()
