"""NIST/MTC box assembly: where 20 plates and 20 covers were, and how long they took, against figures worked by hand.

Source: NIST SMS Test Bed, technical data package of the box assembly (github usnistgov/smstestbed, tdp/mtc), work of the
US Government. The figures come from the list of the operations by subtraction and counting: an operation starts when its
program is first ACTIVE and finishes with its last PROGRAM_COMPLETED.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from spc_platform.cli.fetch import route_list
from spc_platform.contracts.orders import WIP_FLOW, WIP_INTERVAL, WORK_ORDER_STATUS
from spc_platform.contracts.production import DOWNTIME_EVENT
from spc_platform.production.wip import WorkInProcess, wip_at, wip_flow, wip_over_time, work_in_process
from spc_platform.production.work_orders import counting_points, work_order_status
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.site.model import Site
from spc_platform.sources import mtconnect, tabular
from spc_platform.sources.files import FileSource
from spc_platform_tests.conftest import lacking

NIST = REPOSITORY / "data" / "nist"
PARTS = "nist-mtc-box-assembly"
ROUTE_LIST = "DERIVED_operation_events_plate_cover.csv"
AS_OF = datetime(2017, 2, 11, tzinfo=UTC)
ROUTES = {"PLATE": ("OP1", "OP2"), "COVER": ("OP1", "OP2", "OP3")}


@pytest.fixture(scope="module")
def data(shared_data: Path) -> Path:
    if not (shared_data / PARTS / ROUTE_LIST).is_file():
        lacking(f"no {ROUTE_LIST}: `spc data fetch FOLDER` makes it from the logs of the box assembly")
    return shared_data


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(NIST)


def decoded(site: Site, data: Path, table: str) -> pl.DataFrame:
    """Every record of a table that the site's own configuration reads out of the parts' files."""
    source = FileSource(site.source("nist_parts"), Settings(shared_data=data))
    decoders = {"csv": tabular.decode, "mtconnect_adapter": mtconnect.decode}
    frames = [
        decoders[resource.format](resource, table, page.body, page.origin)
        for resource in source.config.resources
        if table in resource.tables
        for page in source.walk(resource, None)
    ]
    return pl.concat(frames)


@pytest.fixture(scope="module")
def events(site: Site, data: Path) -> pl.DataFrame:
    return decoded(site, data, "raw_segment_event")


@pytest.fixture(scope="module")
def work(events: pl.DataFrame, site: Site) -> WorkInProcess:
    return work_in_process(events, site, AS_OF)


@pytest.fixture(scope="module")
def orders(site: Site, data: Path) -> pl.DataFrame:
    counts = decoded(site, data, "raw_production_count")
    return work_order_status(
        decoded(site, data, "raw_work_order_event"), counts, DOWNTIME_EVENT.empty(), counting_points(site, AS_OF), AS_OF
    )


def at(text: str) -> datetime:
    """An instant of February 2017 in UTC: day, hour, minute and second."""
    return datetime.strptime(f"2017-02-{text}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def parts_at(events: pl.DataFrame, site: Site, instant: datetime) -> dict[tuple[str, str], int]:
    here = wip_at(events, site, instant).group_by("segment_id", "place").agg(pl.col("quantity").sum())
    return {(segment, place): int(quantity) for segment, place, quantity in here.iter_rows()}


# --- the records


def test_the_site_s_configuration_makes_an_event_of_every_start_and_finish(events: pl.DataFrame, data: Path) -> None:
    assert events["decode_error"].null_count() == events.height == 200
    assert events["record_id"].n_unique() == 200
    rows = list(csv.DictReader((data / PARTS / ROUTE_LIST).open()))
    said = {
        (f"{row['part_type']}-{int(row['serial']):02d}", f"{row['part_type']}-{row['operation']}", event): row[column][:26]
        for row in rows
        for event, column in (("started", "first_active_utc"), ("finished", "last_completed_utc"))
    }
    found = events.select("item_id", "segment_id", "event_type", pl.col("occurred_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f"))
    assert {tuple(row[:3]): row[3] for row in found.iter_rows()} == said


def test_the_list_of_operations_follows_from_the_logs(data: Path) -> None:
    """Whoever has only the logs makes the same list of them."""
    made = route_list(data)
    listed = pl.read_csv(data / PARTS / ROUTE_LIST, infer_schema=False).select(made.columns)
    instants = [pl.col(name).str.slice(0, 26).str.strip_suffix("Z") for name in ("first_active_utc", "last_completed_utc")]
    cells = pl.col("serial").cast(pl.Int64)
    keys = ["part_type", "operation", "serial"]
    assert made.with_columns(instants).sort(keys).equals(listed.with_columns(cells, *instants).sort(keys))


# --- where the parts were


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        pytest.param("01 13:00:00", {}, id="before the first plate"),
        pytest.param("01 14:10:00", {("PLATE-OP1", "in_process"): 1}, id="plate 1 is being made"),
        # plates 1 to 9 were made on 1 February, 10 to 15 on the 2nd
        pytest.param("01 21:00:00", {("PLATE-OP2", "queue"): 9}, id="first evening"),
        pytest.param("04 12:00:00", {("PLATE-OP2", "queue"): 15}, id="over the weekend"),
        # 16, 17 and 18 are through (11:11:16), 19 runs from 11:17:05 to 11:54:43
        pytest.param("06 11:30:00", {("PLATE-OP1", "in_process"): 1, ("PLATE-OP2", "queue"): 18}, id="plate 19"),
        # OP2 of plate 3 completed at 12:58:22, plate 4 starts at 13:00:08
        pytest.param("06 13:00:00", {("PLATE-OP2", "queue"): 17}, id="between plates 3 and 4"),
        # plate 9 runs from 13:15:50 to 13:16:42
        pytest.param("06 13:16:00", {("PLATE-OP2", "in_process"): 1, ("PLATE-OP2", "queue"): 11}, id="plate 9"),
        pytest.param("06 14:31:00", {}, id="all plates are made, covers not begun"),
        # cover 11 completed at 11:27:26, cover 12 runs from 11:58:51 to 12:29:57
        pytest.param("08 12:00:00", {("COVER-OP1", "in_process"): 1, ("COVER-OP2", "queue"): 11}, id="cover 12"),
        # the log of cover 1 opens on the evening before, its program runs only on the 10th at 10:07:42
        pytest.param("09 12:00:00", {("COVER-OP2", "queue"): 20}, id="the day without work"),
        # cover 10 completed OP2 at 13:48:30, cover 11 runs from 13:55:45 to 14:11:51
        pytest.param(
            "10 14:00:00",
            {("COVER-OP2", "in_process"): 1, ("COVER-OP2", "queue"): 9, ("COVER-OP3", "queue"): 10},
            id="cover 11",
        ),
        pytest.param("10 18:00:00", {("COVER-OP3", "queue"): 20}, id="before the last operation"),
        pytest.param("10 20:00:00", {}, id="all covers are made"),
    ],
)
def test_parts_at_each_operation(events: pl.DataFrame, site: Site, instant: str, expected: dict[tuple[str, str], int]) -> None:
    assert parts_at(events, site, at(instant)) == expected


def test_nothing_had_to_be_assumed_and_nothing_is_left(work: WorkInProcess) -> None:
    """20 plates pass OP1, a queue and OP2; 20 covers pass three operations with two queues between: 60 + 100 stays."""
    WIP_INTERVAL.pandera_schema().validate(work.intervals)
    assert work.findings.is_empty()
    assert work.intervals.height == 20 * 3 + 20 * 5
    assert not work.intervals["is_open"].any()
    assert set(work.intervals["work_center_id"]) == {"hurco04_cell"}


def test_the_machine_never_makes_two_parts_at_once(work: WorkInProcess) -> None:
    """The log windows of OP1 of plates 8 and 9 overlap by 36 s; their programs do not."""
    running = work.intervals.filter(pl.col("place") == "in_process").with_columns(segment_id=pl.lit("any"))
    assert running.height == 100
    assert wip_over_time(running)["quantity"].max() == 1


# --- how long they took


@pytest.mark.parametrize(
    ("part", "lead_s"),
    [
        ("PLATE-01", 427518.281250),  # 1 Feb 13:59:35.171875 to 6 Feb 12:44:53.453125: 4 d 22 h 45 min 18.281250 s
        ("PLATE-20", 9102.562500),  # 6 Feb 11:58:51.125 to 14:30:33.687500
        ("COVER-01", 268302.028750),  # 7 Feb 16:02:39.25 to 10 Feb 18:34:21.278750: 3 d 2 h 31 min 42.028750 s
        ("COVER-20", 186010.591250),  # 8 Feb 15:47:33.484375 to 10 Feb 19:27:44.075625: 2 d 3 h 40 min 10.591250 s
    ],
)
def test_lead_time_of_a_part(work: WorkInProcess, part: str, lead_s: float) -> None:
    stays = work.intervals.filter(pl.col("item_id") == part)
    assert (stays["end_at"].max() - stays["start_at"].min()).total_seconds() == lead_s  # type: ignore[operator]


def test_a_plate_waits_and_is_worked_on_without_a_gap(work: WorkInProcess) -> None:
    """Plate 20: OP1 947.234375 s, queue 8103.218750 s (12:14:38.359375 to 14:29:41.578125), OP2 52.109375 s: 9102.5625 s."""
    stays = work.intervals.filter(pl.col("item_id") == "PLATE-20").sort("start_at")
    length = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds() / 1e6
    assert stays.select("segment_id", "place", length.alias("s")).rows() == [
        ("PLATE-OP1", "in_process", 947.234375),
        ("PLATE-OP2", "queue", 8103.218750),
        ("PLATE-OP2", "in_process", 52.109375),
    ]
    assert stays["start_at"].to_list()[1:] == stays["end_at"].to_list()[:-1]


def test_almost_all_of_the_lead_time_is_queue(work: WorkInProcess, data: Path) -> None:
    """The parts were made in batches, all of an operation before the next: sums over the list, part by part."""
    spans: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for row in csv.DictReader((data / PARTS / ROUTE_LIST).open()):
        first, last = (datetime.fromisoformat(row[name][:26] + "+00:00") for name in ("first_active_utc", "last_completed_utc"))
        spans[f"{row['part_type']}-{int(row['serial']):02d}", row["operation"]] = (first, last)
    length = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds() / 1e6
    for product, route in ROUTES.items():
        parts = [f"{product}-{serial:02d}" for serial in range(1, 21)]
        worked = sum((spans[part, op][1] - spans[part, op][0] for part in parts for op in route), timedelta())
        whole = sum((spans[part, route[-1]][1] - spans[part, route[0]][0] for part in parts), timedelta())
        stays = work.intervals.filter(pl.col("material_definition_id") == product)
        found = dict(stays.group_by("place").agg(length.sum()).iter_rows())
        assert found["in_process"] == pytest.approx(worked.total_seconds(), abs=1e-6)
        assert found["queue"] == pytest.approx((whole - worked).total_seconds(), abs=1e-6)
        assert found["queue"] / whole.total_seconds() > 0.98


def test_little_s_law_holds_exactly_over_the_ten_days(work: WorkInProcess) -> None:
    """The line begins and ends empty: L = lambda W without edge terms; 40 parts in 10 days."""
    flow = wip_flow(work.intervals, datetime(2017, 2, 1, tzinfo=UTC), AS_OF)
    WIP_FLOW.pandera_schema().validate(flow)
    row = flow.row(0, named=True)
    assert (row["work_center_id"], row["n_items"], row["departed"]) == ("hurco04_cell", 40, 40.0)
    assert row["throughput_per_s"] == pytest.approx(40 / 864000)
    assert (row["before_wip"], row["unfinished_wip"]) == (0.0, 0.0)
    assert row["mean_wip"] == pytest.approx(row["throughput_per_s"] * row["mean_flow_time_s"], rel=1e-12)


# --- work orders


def test_every_operation_on_a_part_is_a_completed_order_of_one_good_part(orders: pl.DataFrame) -> None:
    WORK_ORDER_STATUS.pandera_schema().validate(orders)
    assert orders.height == 100
    same = orders.select("state", "planned_quantity", "produced", "good", "scrap", "data_quality").unique()
    # nobody wrote down when an order was released or due: the lead time from release and the lateness are unknown
    assert same.rows() == [("completed", 1.0, 1, 1, 0, "MISSING:released;NO_DUE")]
    assert orders.select("lead_time_s", "lateness_s", "wait_s").null_count().row(0) == (100, 100, 100)


@pytest.mark.parametrize(
    ("order", "run_s"),
    [
        ("PLATE-01-OP1", 1186.031250),  # 13:59:35.171875 to 14:19:21.203125
        ("PLATE-09-OP1", 1332.281250),  # 19:48:42.140625 to 20:10:54.421875; the log opens 7 minutes earlier
        ("COVER-01-OP2", 1103.578125),  # 10:07:42.919375 to 10:26:06.497500; the log opens 38 hours earlier
        ("COVER-02-OP1", 3453.968750),  # 16:26:34.125 to 17:24:08.093750, the last of three completions
    ],
)
def test_run_time_of_an_order(orders: pl.DataFrame, order: str, run_s: float) -> None:
    row = orders.filter(pl.col("job_order_id") == order).row(0, named=True)
    assert row["run_s"] == run_s
    assert row["completed_at"] - row["started_at"] == timedelta(seconds=run_s)


# --- faults


def test_a_lost_finish_is_named_and_moves_that_part_only(events: pl.DataFrame, work: WorkInProcess, site: Site) -> None:
    """Without its finish plate 5 is in OP1 until it turns up at OP2, on 6 February at 13:03:11.671875."""
    lost = events.filter(pl.col("record_id") != "PLATE-05-OP1-finished")
    found = work_in_process(lost, site, AS_OF)
    assert found.findings.select("item_id", "segment_id", "finding").rows() == [("PLATE-05", "PLATE-OP1", "MISSING_FINISH")]
    others = pl.col("item_id") != "PLATE-05"
    assert found.intervals.filter(others).equals(work.intervals.filter(others))
    assert parts_at(lost, site, at("04 12:00:00")) == {("PLATE-OP1", "in_process"): 1, ("PLATE-OP2", "queue"): 14}


def test_a_list_delivered_backwards_gives_the_same_places(events: pl.DataFrame, work: WorkInProcess, site: Site) -> None:
    found = work_in_process(events.reverse(), site, AS_OF)
    assert found.intervals.equals(work.intervals)
