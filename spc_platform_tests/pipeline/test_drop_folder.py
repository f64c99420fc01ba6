"""Files that the plant's measuring machines drop, with every fault of a folder, against what the plant says is true."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.plant import Plant
from spc_platform.plant.drop import COLUMNS, FAULTS, FORMS, MARKER, DropFolder
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources import open_source
from spc_platform_tests.unit.lake_plant import plant_site

DATES = (date(2026, 3, 25), date(2026, 3, 26))
DFQ_FIELDS = {"equipment_id": "K1001"}


def config(root: Path) -> Source:
    resources = tuple(
        Resource(
            form,
            ("raw_measurement",),
            form,  # type: ignore[arg-type]
            path=f"*.{form}",
            fields=DFQ_FIELDS if form == "dfq" else COLUMNS,
            zone="Europe/Berlin",
            options={"ready": MARKER},
        )
        for form in FORMS
    )
    return Source("drop", "files", resources, root=str(root))


def test_the_lake_holds_what_the_plant_says_whatever_went_wrong_in_the_folder(tmp_path: Path) -> None:
    plant = Plant()
    root = tmp_path / "drop"
    root.mkdir()
    source = config(root)
    site = plant_site(source)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing = Landing(tmp_path / "landing", ledger)

    def lake() -> pl.DataFrame:
        land_source(open_source(source, Settings()), site, landing, ledger)
        days = [raw_partition("raw_measurement", day, site, landing, ledger) for day in ledger.touched_dates()]
        rows = pl.concat(days).filter("is_current")
        assert rows["decode_error"].drop_nulls().to_list() == []
        return rows.select(*COLUMNS).sort("record_id")

    folders = [DropFolder(root, plant, day) for day in DATES]
    assert {file.fault for folder in folders for file in folder.files} == set(FAULTS)
    for step in ("begin", "finish"):
        truth = pl.concat([getattr(folder, step)() for folder in folders]).sort("record_id")
        assert truth.height > 1000
        assert_frame_equal(lake(), truth)
    assert_frame_equal(lake(), truth)
