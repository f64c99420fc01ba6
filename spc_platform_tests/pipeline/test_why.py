"""A figure as known in the night and now, from the embedded plant's late counts and open states, and why it changed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from shutil import copytree
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.knowledge import raw_with_receipts
from spc_platform.errors import ContractError
from spc_platform.plant import Plant, PlantServer
from spc_platform.plant.process import FIRST_DATE
from spc_platform.production.event_log import new_events, operations_events, verify_chain
from spc_platform.production.explanation import TABLES, figures_as_known
from spc_platform.production.wip import wip_at
from spc_platform.production.work_orders import counting_points, work_order_status
from spc_platform.settings import Settings
from spc_platform_tests.pipeline.conftest import SITE, land

NIGHT = datetime(2026, 3, 24, 0, 30, tzinfo=UTC)
"""Half past one in the night of the first production date: the late shift is over, the night shift runs."""
HOURS = 30.0
FIGURES = [
    "raw",
    "shift_calendar",
    "equipment_state",
    "production_count",
    "work_order",
    "work_order_event",
    "segment_event",
    "state_interval",
]
NEEDED = [
    step for step in STEPS if step.name in (*FIGURES, "oee_elements") or {"part_count", "count_comparison"} & set(step.outputs)
]
RAW = [f"raw_{name}" for name in TABLES]


@dataclass(frozen=True)
class Twice:
    """One workspace, and what it held in the night before the rest landed."""

    workspace: Workspace
    elements: pl.DataFrame
    as_of: datetime
    log: pl.DataFrame
    true_orders: pl.DataFrame


def events_of(workspace: Workspace) -> pl.DataFrame:
    read = {table: raw_with_receipts(workspace, table, [FIRST_DATE]) for table in RAW}
    return operations_events(
        {table: rows for table, (rows, _) in read.items()}, {k: v for _, r in read.values() for k, v in r.items()}
    )


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, plant: Plant) -> Twice:
    """Landed and made in the night, then again thirty hours later. Measurements and telemetry stay at the source."""
    folder = tmp_path_factory.mktemp("why")
    copytree(SITE, folder / "site")
    sources = folder / "site" / "sources.toml"
    head, *resources = sources.read_text().split("[[source.resource]]")
    kept = [each for each in resources if not re.search(r'name = "(measurements|telemetry)"', each)]
    sources.write_text("[[source.resource]]".join([head, *kept]))
    with PlantServer(plant=plant, now=NIGHT) as server:
        settings = Settings(site=folder / "site", data=folder / "data", source_url={"mes": server.url})
        workspace = Workspace.open(settings)
        land(workspace)
        run_range(workspace, [FIRST_DATE], steps=NEEDED)
        elements, as_of, log = (
            workspace.lake.read("oee_elements", FIRST_DATE),
            workspace.as_of(FIRST_DATE),
            events_of(workspace),
        )
        server.clock.advance(HOURS)
        land(workspace)
        run_range(workspace, [FIRST_DATE, FIRST_DATE + timedelta(days=1)], steps=NEEDED)
        server.plant.now = server.clock.now()
        true_orders = server.plant.truth("order_lifecycle")
    return Twice(workspace, elements, as_of, log, true_orders)


def known(twice: Twice, at: datetime, as_of: datetime) -> pl.DataFrame:
    raw: dict[str, pl.DataFrame] = {}
    received: dict[str, datetime] = {}
    for table in RAW:
        raw[table], pages = raw_with_receipts(twice.workspace, table, twice.workspace.window(FIRST_DATE, back=3, ahead=1))
        received |= pages
    return figures_as_known(raw, received, twice.workspace.site, FIRST_DATE, at, as_of).elements


def test_the_figures_of_the_night_come_back_exactly_from_what_landed_later(twice: Twice) -> None:
    """Made in the night from what had landed then, and now from everything, as known in the night."""
    assert known(twice, NIGHT, twice.as_of).equals(twice.elements)
    assert twice.elements.filter(pl.col("pq") > 0).height > 10


def test_known_now_is_what_the_lake_holds(twice: Twice) -> None:
    now = twice.workspace.as_of(FIRST_DATE)
    held = twice.workspace.lake.read("oee_elements", FIRST_DATE)
    assert known(twice, now + timedelta(days=9), now).equals(held)
    assert not held.equals(twice.elements)


def test_the_log_only_grows(twice: Twice) -> None:
    log = events_of(twice.workspace)
    added, lost = new_events(twice.log, log)
    assert lost.is_empty()
    assert added.height == log.height - twice.log.height > 500
    assert added["recorded_at"].min() > NIGHT  # type: ignore[operator]
    assert log.head(twice.log.height).equals(twice.log)
    assert verify_chain(log).is_empty()


def spc(monkeypatch: pytest.MonkeyPatch, twice: Twice, *words: str) -> str:
    settings = twice.workspace.settings
    monkeypatch.setenv("SPC_SITE", str(settings.site))
    monkeypatch.setenv("SPC_DATA", str(settings.data))
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def late_counts(plant: Plant, day: date, station: str, first: datetime, last: datetime) -> pl.DataFrame:
    """Counts of a station between two instants that the plant wrote after the night's question."""
    counted = pl.col("counted_at").str.to_datetime(time_zone="UTC")
    frame = plant.day("production-counts", day).frame
    written = pl.from_epoch("_us", "us").dt.replace_time_zone("UTC")
    return frame.filter((pl.col("station") == station) & counted.is_between(first, last) & (written > NIGHT))


def test_why_names_the_late_count_of_a_finished_shift(twice: Twice, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The late shift of A10 ended at 21:00 UTC; the plant knows which of its counts it wrote after half past midnight."""
    text = spc(
        monkeypatch,
        twice,
        "why",
        "--date",
        "2026-03-23",
        "--equipment",
        "A10",
        "--shift",
        "late",
        "--known-at",
        NIGHT.isoformat(),
        "--format",
        "json",
    )
    document = json.loads(text)
    late = late_counts(plant, FIRST_DATE, "A10", datetime(2026, 3, 23, 13, tzinfo=UTC), datetime(2026, 3, 23, 21, tzinfo=UTC))
    assert late.height == 1
    figures = {row["figure"]: row for row in document["figures"]}
    assert figures["gq"]["difference"] == late["good"].sum() == 5
    assert figures["sq"]["difference"] == late["scrap"].sum()
    assert figures["pbt_s"]["difference"] == 0
    assert figures["oee"]["difference"] > 0
    changing = [row for row in document["contributions"] if row["gq"]]
    assert [(row["record_id"], row["gq"], row["cause"]) for row in changing] == [(late["id"][0], 5, "event")]
    assert document["before"] == {"known_at": "2026-03-24T00:30:00.000000Z", "as_of": "2026-03-24T00:30:00.000000Z"}


@pytest.mark.parametrize("unit", ["A10", "A20", "B30"])
def test_contributions_add_up_to_the_difference_of_a_running_night(
    twice: Twice, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    document = json.loads(
        spc(
            monkeypatch,
            twice,
            "why",
            "--date",
            "2026-03-23",
            "--equipment",
            unit,
            "--known-at",
            "2026-03-24T01:30",
            "--format",
            "json",
        )
    )
    figures = {row["figure"]: row["difference"] for row in document["figures"]}
    assert figures["pot_s"] == 4.5 * 3600
    for name in ("pot_s", "pdt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s", "pq", "gq", "sq", "rq"):
        assert sum(row[name] for row in document["contributions"]) == pytest.approx(figures[name], abs=1e-6), name
    explained = sum(row["apt_s"] for row in document["contributions"] if row["cause"] == "event")
    assert explained > 0.5 * figures["apt_s"] > 0


def test_by_receipt_nothing_changes_between_two_receipts(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages were received today: before that nothing was known, afterwards nothing changed."""
    today = max(page.received_at for page in twice.workspace.ledger.pages("raw_production_count", FIRST_DATE))
    words = (
        "why",
        "--date",
        "2026-03-23",
        "--equipment",
        "A10",
        "--clock",
        "receipt",
        "--and",
        (today + timedelta(hours=1)).isoformat(),
        "--format",
        "json",
        "--known-at",
    )
    nothing = json.loads(spc(monkeypatch, twice, *words, (today - timedelta(days=1)).isoformat()))
    figures = {row["figure"]: row for row in nothing["figures"]}
    assert figures["pq"]["before"] == 0
    assert figures["unknown_s"]["before"] + figures["pdt_s"]["before"] == figures["pot_s"]["before"]
    all_of_it: dict[str, Any] = json.loads(spc(monkeypatch, twice, *words, (today + timedelta(minutes=1)).isoformat()))
    assert all_of_it["contributions"] == []


def test_why_as_a_table(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    text = spc(
        monkeypatch,
        twice,
        "why",
        "--date",
        "2026-03-23",
        "--equipment",
        "A10",
        "--shift",
        "late",
        "--known-at",
        NIGHT.isoformat(),
    )
    assert re.search(r"gq\s+\d+\s+\d+\s+5\b", text), text
    assert "production_count" in text


def test_what_is_where_agrees_with_the_plant(twice: Twice, plant: Plant) -> None:
    """Every two hours of the first date, items and parts of each operation and its queue, with late and corrected events."""
    truth = plant.day("segment-events", FIRST_DATE).truth["wip_at"]
    events = twice.workspace.lake.read("segment_event")
    places = ("queue", "in_process")
    names = [f"{place}_{kind}" for place in places for kind in ("items", "quantity")]
    for (at,), expected in truth.sort("segment_id").group_by("at", maintain_order=True):
        assert isinstance(at, datetime)
        here = wip_at(events, twice.workspace.site, at)
        sums = here.group_by("segment_id").agg(
            *(pl.col("item_id").filter(pl.col("place") == place).n_unique().alias(f"{place}_items") for place in places),
            *(pl.col("quantity").filter(pl.col("place") == place).sum().alias(f"{place}_quantity") for place in places),
        )
        mine = expected.select("segment_id").join(sums, on="segment_id", how="left", maintain_order="left").fill_null(0)
        assert mine.select(pl.col(names).cast(pl.Int64)).rows() == expected.select(names).rows(), at
    assert truth["in_process_quantity"].sum() > 1000


def test_orders_agree_with_the_plant(twice: Twice) -> None:
    lake, site = twice.workspace.lake, twice.workspace.site
    as_of = twice.workspace.ledger.newest()
    assert as_of is not None
    status = work_order_status(
        lake.read("work_order_event"),
        lake.read("production_count"),
        lake.read("downtime_event"),
        counting_points(site, as_of),
        as_of,
    )
    names = ["job_order_id", "planned_quantity", "due_at", "released_at", "started_at", "completed_at", "closed_at", "paused_s"]
    truth = twice.true_orders.join(status, on="job_order_id", how="semi").sort("job_order_id")
    assert status.height == truth.height > 5
    casts = [pl.col("planned_quantity").cast(pl.Float64), pl.col("paused_s").cast(pl.Float64)]
    assert status.select(names).equals(truth.select(names).with_columns(casts))
    done = status.drop_nulls("completed_at").join(truth, on="job_order_id", suffix="_true")
    assert done["lateness_s"].to_list() == done["lateness_s_true"].to_list()
    assert status["paused_s"].sum() > 0


def test_work_in_process_on_the_command_line(twice: Twice, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(spc(monkeypatch, twice, "wip", "--at", "2026-03-23T12:00", "--format", "json"))
    truth = plant.day("segment-events", FIRST_DATE).truth["wip_at"].filter(at=datetime(2026, 3, 23, 11, tzinfo=UTC))
    assert document["at"] == "2026-03-23T11:00:00.000000Z"
    assert (
        sum(row["quantity"] for row in document["items"])
        == truth.select(pl.sum("queue_quantity", "in_process_quantity")).sum_horizontal()[0]
        > 300
    )
    assert sum(row["n_items"] for row in document["ages"]) == len(document["items"])
    only = json.loads(spc(monkeypatch, twice, "wip", "--at", "2026-03-23T12:00", "--equipment", "line_a", "--format", "json"))
    assert 0 < len(only["items"]) < len(document["items"])
    assert "Work in process at" in spc(monkeypatch, twice, "wip", "--at", "2026-03-23T12:00")


@pytest.mark.parametrize(("words", "code"), [
    (["--known-at", "yesterday"], "SPC-634"),
    (["--clock", "station"], "SPC-634"),
    (["--format", "html"], "SPC-634"),
    (["--known-at", "2027-01-01T00:00"], "SPC-632"),
    (["--shift", "lunch"], "SPC-633"),
])  # fmt: skip
def test_questions_that_cannot_be_answered(twice: Twice, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str) -> None:
    with pytest.raises(ContractError, match=code):
        spc(monkeypatch, twice, "why", "--date", "2026-03-23", "--equipment", "A10", *words)


def test_a_date_that_was_never_made(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError, match="SPC-635"):
        spc(monkeypatch, twice, "why", "--date", "2026-05-01", "--equipment", "A10")
