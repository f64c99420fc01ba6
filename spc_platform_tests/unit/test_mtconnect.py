"""Adapter logs: times, states, snapshots, and lines that cannot be read."""

from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.mtconnect import TABLES, decode

LOG = b"""\
2017-01-23T18:33:25.767113Z|Feed_Rate|7.5
2017-04-27T18:45:15.303Z|system_cond|Unavailable||||
2017-04-27T18:45:15.303Z|execution|READY
2017-05-02T09:02:35.4531259Z|Feed_Rate|21.16667
2017-05-02T09:02:35.4531259Z|Feed_Rate|22
2017-05-02T09:02:36Z|execution|READY
2017-05-02T09:02:37.5Z|execution|ACTIVE
2017-05-02T09:02:37.5Z|Program_Name_Running| a|b
2017-05-02T09:02:37.25Z|execution|UNAVAILABLE
2017
2017-05-02T09:02:40Z|Feed_Rate|UNAVAILABLE
2017-05-02T09:02:41Z|Feed_Rate|
"""
WINDOW = r"-(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)-"


def resource(**options: object) -> Resource:
    defaults = {"equipment_id": "M1", "streams": {"Feed_Rate": "M1.feed"}, "units": {"Feed_Rate": "mm/s"}}
    return Resource("m1", ("raw_telemetry", "raw_equipment_state"), "mtconnect_adapter", options=defaults | options)


def test_values_of_declared_items_become_telemetry_with_microseconds() -> None:
    rows = decode(resource(), "raw_telemetry", LOG).filter(pl.col("decode_error").is_null())
    assert rows["stream_id"].to_list() == ["M1.feed"] * 3
    assert rows["value"].to_list() == [7.5, 21.16667, 22.0]
    assert rows["unit"].to_list() == ["mm/s"] * 3
    assert rows["observed_at"][1] == datetime(2017, 5, 2, 9, 2, 35, 453125, tzinfo=UTC)


def test_two_values_at_one_instant_are_two_records() -> None:
    rows = decode(resource(), "raw_telemetry", LOG)
    assert rows["record_id"].n_unique() == rows.height
    assert rows["record_id"][1:3].to_list() == [f"M1:2017-05-02T09:02:35.4531259Z:Feed_Rate:{k}" for k in (0, 1)]


def test_a_truncated_line_and_an_empty_value_are_kept_with_their_text() -> None:
    bad = decode(resource(), "raw_telemetry", LOG).filter(pl.col("decode_error").is_not_null())
    assert bad["decode_error"].to_list() == ["observed_at:NOT_A_TIME;item:MISSING", "value:NOT_A_NUMBER"]
    assert bad["raw_record"].to_list() == ["2017", "2017-05-02T09:02:41Z|Feed_Rate|"]
    assert bad["updated_at"][0] == datetime(2017, 5, 2, 9, 2, 37, 250000, tzinfo=UTC)


def test_a_line_that_no_table_can_read_is_kept_once() -> None:
    states = decode(resource(), "raw_equipment_state", LOG)
    assert states["decode_error"].null_count() == states.height


def test_equal_consecutive_states_are_one_event_and_time_may_run_backwards() -> None:
    states = decode(resource(), "raw_equipment_state", LOG)
    assert states["state"].to_list() == ["READY", "ACTIVE", "UNAVAILABLE"]
    assert states["equipment_id"].unique().to_list() == ["M1"]
    assert states["end_at"].null_count() == 3
    assert states["start_at"][2] < states["start_at"][1]


def test_the_snapshot_at_the_head_of_a_log_holds_from_the_start_of_its_window() -> None:
    start = datetime(2017, 5, 2, tzinfo=UTC)
    for options, origin in (({"window_pattern": WINDOW}, "M1-20170502-03.txt"), ({"window_from_first_fresh": True}, "")):
        states = decode(resource(**options), "raw_equipment_state", LOG, origin)
        assert states["start_at"][0] == start
        assert states["record_id"][0] == "M1:2017-04-27T18:45:15.303Z:execution:0@2017-05-02"
        telemetry = decode(resource(**options), "raw_telemetry", LOG, origin)
        assert telemetry["observed_at"][0] == start


def test_snapshots_of_two_idle_days_are_two_records() -> None:
    idle = b"2017-02-21T17:00:20.314824Z|execution|UNAVAILABLE\n"
    names = ("M1-20170501-02.txt", "M1-20170502-03.txt")
    days = [decode(resource(window_pattern=WINDOW), "raw_equipment_state", idle, name) for name in names]
    assert [day["start_at"][0].day for day in days] == [1, 2]
    assert days[0]["record_id"][0] != days[1]["record_id"][0]


def test_a_longer_delivery_of_the_same_log_repeats_the_same_records() -> None:
    lines = LOG.splitlines(keepends=True)
    again = [*lines, b"2017\n", b"2017-05-02T09:03:00Z|Feed_Rate|1\n", b"2017\n"]
    short, whole = (decode(resource(), "raw_telemetry", b"".join(part)) for part in (lines, again))
    assert short["decode_error"].null_count() == short.height - 2
    assert short.equals(whole.head(short.height))
    assert whole["record_id"].n_unique() == whole.height == short.height + 3


def test_a_log_of_one_operation_is_a_work_order_and_a_counted_part() -> None:
    log = b"""\
2017-02-06T12:57:29.1875000Z|Program_Status|ACTIVE
2017-02-06T12:58:22.1250000Z|Program_Status|PROGRAM_COMPLETED
2017-02-06T12:58:22.2343750Z|Feed_Rate|0
"""
    of = resource(
        state_item="Program_Status",
        order_pattern=r"(?P<part>\w+)-Op(?P<operation>\d)-Hurco04-(?P<serial>\d\d)of20",
        job_order="PLATE-{serial}-OP{operation}",
        product="PLATE-OP{operation}",
        work_center="cell",
    )
    origin = "Split.tar.gz!Split/Plate-Op2-Hurco04-03of20.txt"
    order = decode(of, "raw_work_order", log, origin).row(0, named=True)
    assert (order["job_order_id"], order["material_definition_id"], order["work_center_id"]) == (
        "PLATE-03-OP2",
        "PLATE-OP2",
        "cell",
    )
    assert order["planned_quantity"] == 1
    assert order["end_at"] == datetime(2017, 2, 6, 12, 58, 22, 234375, tzinfo=UTC)
    count = decode(of, "raw_production_count", log, origin).row(0, named=True)
    assert (count["job_order_id"], count["good_quantity"], count["scrap_quantity"]) == ("PLATE-03-OP2", 1, 0)
    assert count["counted_at"] == datetime(2017, 2, 6, 12, 58, 22, 125000, tzinfo=UTC)
    assert decode(of, "raw_work_order", log, "another.txt").is_empty()
    unfinished = log.replace(b"PROGRAM_COMPLETED", b"PROGRAM_STOPPED")
    assert decode(of, "raw_production_count", unfinished, origin).is_empty()


@pytest.mark.parametrize("body", [b"", b"\n\n", LOG, LOG.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + LOG, b"\xff\xfe|x|y\n"])
def test_every_body_gives_rows_of_the_contract(body: bytes) -> None:
    for table in TABLES:
        rows = decode(resource(), table, body)
        assert {name: rows.schema[name] for name in (column.name for column in PAYLOAD[table])} == {
            column.name: column.dtype for column in PAYLOAD[table]
        }
        assert rows["record_id"].null_count() == 0


def test_carriage_returns_and_a_byte_order_mark_change_nothing() -> None:
    plain = decode(resource(), "raw_equipment_state", LOG)
    for body in (LOG.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + LOG):
        assert decode(resource(), "raw_equipment_state", body).equals(plain)


def test_states_alternate_whatever_the_log_repeats() -> None:
    log = b"".join(b"2017-05-02T09:02:%02dZ|execution|%s\n" % (k, b"ACTIVE" if k // 3 % 2 else b"READY") for k in range(30))
    states = decode(resource(), "raw_equipment_state", log)["state"].to_list()
    assert len(states) == 10
    assert all(before != after for before, after in pairwise(states))


def test_a_table_that_the_format_does_not_feed_is_refused() -> None:
    with pytest.raises(ContractError, match="raw_measurement"):
        decode(resource(), "raw_measurement", LOG)


def test_changes_of_declared_signals_become_signal_events() -> None:
    machine = Resource(
        "m1", ("raw_signal_event",), "mtconnect_adapter", options={"equipment_id": "M1", "signals": {"execution": "execution"}}
    )
    rows = decode(machine, "raw_signal_event", LOG).filter(pl.col("decode_error").is_null())
    # READY is said twice and changes nothing the second time; of the items only execution is a signal here
    assert rows["value"].to_list() == ["READY", "ACTIVE", "UNAVAILABLE"]
    assert rows["signal"].unique().to_list() == ["execution"]
    assert rows["occurred_at"][1] == datetime(2017, 5, 2, 9, 2, 37, 500000, tzinfo=UTC)
