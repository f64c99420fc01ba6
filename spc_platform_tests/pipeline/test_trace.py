"""`spc trace` over a lake: genealogy, measurements with what judged them, the index, and what was known earlier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest

from spc_platform.cli.trace import document_json, trace_document
from spc_platform.cli.trace_records import lake_records
from spc_platform.contracts import LAKE_TABLES, Table
from spc_platform.contracts.core import MEASUREMENT, WORK_ORDER
from spc_platform.contracts.genealogy import LOT_GENEALOGY, LOT_GENEALOGY_REFUSED
from spc_platform.contracts.operations import MATERIAL_LINK_PAYLOAD, SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.raw import LINEAGE
from spc_platform.contracts.spc import SPC_LIMITS, SPC_POINTS, SPC_SUBGROUPS, SPC_VIOLATIONS
from spc_platform.errors import ContractError
from spc_platform.lake.store import Lake
from spc_platform.production.genealogy import links_in_force, lot_genealogy
from spc_platform.settings import REPOSITORY, Settings

DAY = date(2026, 1, 6)
START = datetime(2026, 1, 6, 9, tzinfo=UTC)
REJECTED = LAKE_TABLES["material_link_rejected"]
MATERIAL_LINK = Table("material_link", "", (*LINEAGE, *MATERIAL_LINK_PAYLOAD), key=("source_id", "record_id"))
SEGMENT_EVENT = Table("segment_event", "", (*LINEAGE, *SEGMENT_EVENT_PAYLOAD), key=("source_id", "record_id"))
CONTRACTS: Mapping[str, Table] = {
    table.name: table for table in (MATERIAL_LINK, SEGMENT_EVENT, LOT_GENEALOGY, LOT_GENEALOGY_REFUSED)
} | LAKE_TABLES
CHART = {"characteristic_id": "A10.bore_diameter", "equipment_id": "A10"}


def frame(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of a table; what is not said is null, and every row lies on the one production date."""
    lineage = {
        "source_id": "mes",
        "revision": 1,
        "updated_at": START,
        "page_sha256": "0",
        "page_row": 0,
        "production_date": DAY,
    }
    said = [{name: row.get(name, lineage.get(name)) for name in table.names} for row in rows]
    return pl.DataFrame(said, schema=table.schema)


def link(record: str, parent: str, child: str, quantity: float | None = None, **other: Any) -> dict[str, Any]:
    return {
        "record_id": record,
        "parent_id": parent,
        "child_id": child,
        "link_type": "consumed",
        "quantity": quantity,
        "occurred_at": START,
        **other,
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """RAW went into S1 and S2; S1 was measured out of specification in a subgroup that signals."""
    store = Lake(settings.lake_root, contracts=CONTRACTS)
    links = frame(
        MATERIAL_LINK,
        link("1", "RAW", "S1", 3, job_order_id="WO1"),
        link("2", "RAW", "S2", 1),
        link("3", "S2", "RAW", 1, occurred_at=START + timedelta(1)),
    )
    found = lot_genealogy(links_in_force(links.with_columns(is_deleted=pl.lit(value=False))))
    store.commit("material_link", links, DAY)
    store.commit("lot_genealogy", found.edges)
    store.commit("lot_genealogy_refused", found.refused)
    value = {
        **CHART,
        "record_id": "m1",
        "measured_at": START,
        "value": 99.0,
        "unit": "mm",
        "work_center_id": "A",
        "specification_version": 1,
    }
    store.commit(
        "measurement",
        frame(MEASUREMENT, {**value, "serial_number": "S1"}, {**value, "record_id": "m2", "serial_number": "S9"}),
        DAY,
    )
    event = {
        "item_kind": "serial",
        "segment_id": "A20",
        "event_type": "finished",
        "quantity": 1.0,
        "occurred_at": START + timedelta(hours=2),
    }
    store.commit(
        "segment_event", frame(SEGMENT_EVENT, {**event, "record_id": "e1", "item_id": "S1", "equipment_id": "A20"}), DAY
    )
    store.commit(
        "work_order",
        frame(
            WORK_ORDER,
            {
                "record_id": "w1",
                "job_order_id": "WO1",
                "work_center_id": "A",
                "material_definition_id": "P",
                "planned_quantity": 4,
                "start_at": START,
            },
        ),
        DAY,
    )
    spanned = {"subgroup_id": "g1", "subgroup_at": START, "subgroup_end_at": START + timedelta(minutes=5)}
    store.commit("spc_subgroups", frame(SPC_SUBGROUPS, {**CHART, **spanned}), DAY)
    point = {
        **CHART,
        "subgroup_id": "g1",
        "subgroup_at": START,
        "panel": "location",
        "limit_version": 2,
        "cl": 25.0,
        "lcl": 24.0,
        "ucl": 26.0,
    }
    store.commit("spc_points", frame(SPC_POINTS, {**point, "rules": "western_electric_1"}), DAY)
    store.commit(
        "spc_violations",
        frame(
            SPC_VIOLATIONS,
            {**CHART, "subgroup_id": "g1", "subgroup_at": START, "panel": "location", "rule": "western_electric_1"},
        ),
        DAY,
    )
    store.commit("spc_limits", frame(SPC_LIMITS, *({**CHART, "limit_version": version, "mu": 25.0} for version in (1, 2))))
    return store


def traced(settings: Settings, lake: Lake, item: str, kind: str = "serial", known_at: datetime | None = None) -> dict[str, Any]:
    document = trace_document(lake_records(settings, known_at, lake), item, kind, ("backward", "forward"), None, {})
    found: dict[str, Any] = json.loads(document_json(document))
    return found


def test_the_trace_of_a_part_tells_value_specification_limits_signals_and_order(settings: Settings, lake: Lake) -> None:
    found = traced(settings, lake, "S1")
    (value,) = found["measurements"]
    assert (value["record_id"], value["value"], value["specification_version"], value["verdict"]) == (
        "m1",
        99.0,
        1,
        "above_usl",
    )
    assert (value["limit_version"], value["ucl"], value["signals"]) == (2, 26.0, "location:western_electric_1")
    assert [row["limit_version"] for row in found["limit_versions"]] == [2]
    assert [row["rule"] for row in found["violations"]] == ["western_electric_1"]
    assert [row["version"] for row in found["specifications"]] == [1]
    assert [row["job_order_id"] for row in found["work_orders"]] == ["WO1"]


def test_the_recall_list_of_a_raw_lot_says_how_much_is_where(settings: Settings, lake: Lake) -> None:
    found = traced(settings, lake, "RAW", "lot")
    rows = [(row["item_id"], row["share"], row["quantity"], row["equipment_id"]) for row in found["recall"]]
    assert rows == [("S1", 0.75, 3.0, "A20"), ("S2", 0.25, 1.0, None)]
    assert [row["cycle_records"] for row in found["refused_links"]] == ["mes:2;mes:3"]


def test_links_that_the_lake_rejected_are_told_beside_the_trace(settings: Settings, lake: Lake) -> None:
    kept = {"is_current": True, "is_deleted": False}
    wrong = {**link("7", "S1", "S8", -1), **kept, "reasons": "quantity:NOT_ABOVE_0"}
    unread = {**kept, "page_sha256": "ab" * 32, "page_row": 4, "reasons": "UNREADABLE"}
    lake.commit("material_link_rejected", frame(REJECTED, wrong, unread), DAY)
    found = traced(settings, lake, "RAW", "lot")
    told = [(row["record_id"], row["reasons"].partition(":")[0]) for row in found["refused_links"]]
    assert sorted(told) == [("3", "child_id"), ("7", "quantity")]
    assert [(row["item_id"], row["record_id"]) for row in found["recall_in_doubt"]] == [("S8", "7")]
    assert (found["summary"]["links_refused_in_all"], found["summary"]["links_without_ends"]) == (3, 1)
    schema = json.loads((REPOSITORY / "docs" / "reference" / "trace.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    rejected = lake_records(settings, None, lake).refused.filter(pl.col("reasons") == "UNREADABLE")
    assert rejected["record_id"].to_list() == ["page abababababab row 4"]


def test_a_changed_genealogy_is_indexed_anew(settings: Settings, lake: Lake) -> None:
    assert traced(settings, lake, "RAW", "lot")["summary"]["descendants"] == 2
    grown = pl.concat([lake.read("lot_genealogy"), frame(LOT_GENEALOGY, link("4", "RAW", "S3", 4))])
    lake.commit("lot_genealogy", grown)
    assert traced(settings, lake, "RAW", "lot")["summary"]["descendants"] == 3
    assert len(list((settings.data / "genealogy").iterdir())) == 1


def test_links_that_the_source_wrote_later_were_not_known_before(settings: Settings, lake: Lake) -> None:
    later = frame(MATERIAL_LINK, link("1", "RAW", "S1", 3), link("2", "RAW", "S2", 1, updated_at=START + timedelta(hours=5)))
    lake.commit("material_link", later, DAY)
    found = traced(settings, lake, "RAW", "lot", START + timedelta(hours=1))
    assert [row["item_id"] for row in found["recall"]] == ["S1"]


def test_earlier_knowledge_comes_from_every_revision_that_was_landed(settings: Settings, lake: Lake) -> None:
    raw = LAKE_TABLES["raw_material_link"]
    kept = {"is_current": False, "is_deleted": False}
    corrected = link("1", "RAW2", "S1", revision=2, updated_at=START + timedelta(hours=3), **kept)
    lake.commit("raw_material_link", frame(raw, link("1", "RAW", "S1", **kept), corrected), DAY)
    for hours, raw_lot in ((1, "RAW"), (3, "RAW2")):
        found = traced(settings, lake, "S1", known_at=START + timedelta(hours=hours))
        assert [row["item_id"] for row in found["items"] if row["relation"] == "ancestor"] == [raw_lot]


def test_a_part_that_no_link_names_is_traced_by_its_measurements(settings: Settings, lake: Lake) -> None:
    found = traced(settings, lake, "S9")
    assert [row["record_id"] for row in found["measurements"]] == ["m2"]
    assert found["recall"] == []


def test_a_lake_without_links_says_so(settings: Settings) -> None:
    with pytest.raises(ContractError) as caught:
        lake_records(settings, None, Lake(settings.lake_root, contracts=CONTRACTS))
    assert caught.value.code == "SPC-643"


def test_the_document_keeps_its_published_schema(settings: Settings, lake: Lake) -> None:
    schema = json.loads((REPOSITORY / "docs" / "reference" / "trace.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for item, kind in (("S1", "serial"), ("RAW", "lot"), ("S9", "serial")):
        jsonschema.Draft202012Validator(schema).validate(traced(settings, lake, item, kind))
    backward = trace_document(lake_records(settings, None, lake), "S1", "serial", ("backward",), 0, {})
    jsonschema.Draft202012Validator(schema).validate(json.loads(document_json(backward)))
