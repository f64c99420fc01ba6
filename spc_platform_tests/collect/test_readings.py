"""Readings become records by the site's tags."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from spc_platform.collect.readings import Reading, Record, Recorder
from spc_platform.errors import SiteError

T0 = datetime(2026, 3, 10, 6, tzinfo=UTC)
TEMP = {"address": "temp", "record": "telemetry", "name": "L1-LATHE-TEMP", "unit": "degC"}
DIAMETER = {"address": "dia", "record": "measurement", "name": "SHAFT-DIA", "unit": "mm"}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def said(records: list[Record], name: str) -> list[object]:
    return [record.fields[name] for record in records]


def test_a_stream_is_thinned_by_deadband_and_by_interval(recorder: Callable[..., Recorder]) -> None:
    by_band = recorder(TEMP | {"deadband": 0.5})
    values = [20.0, 20.4, 20.5, 20.9, 19.9, 20.1]
    found = by_band.records([Reading("temp", value, at(n)) for n, value in enumerate(values)], T0)
    assert said(found, "value") == [20.0, 20.5, 19.9]
    by_time = recorder(TEMP | {"interval_s": 2.0})
    found = by_time.records([Reading("temp", value, at(n)) for n, value in enumerate(values)], T0)
    assert said(found, "observed_at") == [f"2026-03-10T06:00:0{n}.000000Z" for n in (0, 2, 4)]
    assert {record.resource for record in found} == {"telemetry"}


def test_values_are_scaled_and_a_value_without_scale_is_not_touched(recorder: Callable[..., Recorder]) -> None:
    scaled = recorder(TEMP | {"scale": 0.1, "offset": -40.0})
    assert said(scaled.records([Reading("temp", 601, T0)], T0), "value") == [601 * 0.1 - 40.0]
    plain = recorder(TEMP)
    assert said(plain.records([Reading("temp", 0.1 + 0.2, T0)], T0), "value") == [0.1 + 0.2]


def test_a_signal_is_recorded_when_it_changes_and_lost_when_the_connection_is(recorder: Callable[..., Recorder]) -> None:
    run = recorder({"address": "run", "record": "signal", "name": "execution"})
    found = run.records([Reading("run", value, at(n)) for n, value in enumerate([True, True, False, False, True])], T0)
    assert said(found, "value") == ["true", "false", "true"]
    assert said(run.lost(at(9)), "value") == ["UNAVAILABLE"]
    assert run.lost(at(10)) == []
    assert said(run.records([Reading("run", True, at(11))], T0), "value") == ["true"]


def test_a_trigger_completes_measurements_with_the_context_of_that_moment(recorder: Callable[..., Recorder]) -> None:
    measured = recorder(
        DIAMETER | {"trigger": "part"},
        {"address": "serial", "record": "context", "name": "serial_number"},
    )
    readings = [
        Reading("part", 7, at(0)),
        Reading("dia", 25.01, at(1)),
        Reading("serial", "A-1", at(1)),
        Reading("part", 8, at(2)),
        Reading("dia", 25.02, at(3)),
        Reading("dia", 25.03, at(4)),
        Reading("serial", "A-2", at(4)),
        Reading("part", 9, at(4)),
        Reading("part", 9, at(5)),
    ]
    found = measured.records(reversed(readings), T0)
    assert said(found, "value") == [25.01, 25.03]
    assert said(found, "serial_number") == ["A-1", "A-2"]
    assert said(found, "measured_at") == ["2026-03-10T06:00:02.000000Z", "2026-03-10T06:00:04.000000Z"]


def test_every_reading_without_a_trigger_is_a_measurement_and_a_redelivered_one_has_the_same_identity(
    recorder: Callable[..., Recorder],
) -> None:
    measured = recorder(DIAMETER)
    same_value = [Reading("dia", 25.0, at(0)), Reading("dia", 25.0, at(1))]
    first, again = measured.records(same_value, T0), measured.records(same_value, at(60))
    assert len(set(said(first, "record_id"))) == 2
    assert said(first, "record_id") == said(again, "record_id")
    numbered = [Reading("dia", 25.0, T0, sequence="1"), Reading("dia", 25.0, T0, sequence="2")]
    assert len(set(said(measured.records(numbered, T0), "record_id"))) == 2


def test_a_bad_value_is_recorded_without_a_value_and_with_its_quality(recorder: Callable[..., Recorder]) -> None:
    found = recorder(TEMP).records([Reading("temp", 21.5, T0, "BadSensorFailure")], T0)
    assert (found[0].fields["value"], found[0].fields["quality"]) == (None, "BadSensorFailure")
    signal = recorder({"address": "run", "record": "signal", "name": "execution"})
    (unavailable,) = signal.records([Reading("run", True, T0, "BadNoCommunication")], T0)
    assert (unavailable.fields["value"], unavailable.fields["unavailable"]) == ("UNAVAILABLE", "BadNoCommunication")
    assert "quality" not in unavailable.fields, "the record is no bad one: it says truly that nothing is known"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TEMP | {"name": "NO-SUCH"}, "no stream 'NO-SUCH' in streams.csv"),
        (TEMP | {"unit": None}, "has no unit"),
        (TEMP | {"trigger": "part"}, "a trigger belongs to a measurement"),
        (DIAMETER | {"trigger": "dia"}, "is its own trigger"),
        (DIAMETER | {"deadband": 0.1}, "thin out streams only"),
        ({"address": "x", "record": "context", "name": "value"}, "no column 'value'"),
    ],
)
def test_a_tag_that_cannot_be_recorded_is_named(
    recorder: Callable[..., Recorder], row: dict[str, object], message: str
) -> None:
    with pytest.raises(SiteError, match=message):
        recorder(row)


def test_a_subscription_without_tags_is_refused(recorder: Callable[..., Recorder]) -> None:
    with pytest.raises(SiteError, match="records nothing"):
        recorder()


TRIGGERED = (DIAMETER | {"trigger": "part"}, {"address": "serial", "record": "context", "name": "serial_number"})


def test_a_trigger_that_changed_across_a_restart_still_completes_its_measurement(recorder: Callable[..., Recorder]) -> None:
    before = recorder(*TRIGGERED)
    before.records([Reading("part", 7, at(0)), Reading("serial", "A-7", at(0)), Reading("dia", 25.01, at(1))], T0)
    after = recorder(*TRIGGERED)
    after.recall(before.remembered())
    found = after.records([Reading("part", 8, at(2))], T0)
    assert (said(found, "value"), said(found, "serial_number")) == ([25.01], ["A-7"])
    forgetful = recorder(*TRIGGERED)
    assert forgetful.records([Reading("part", 8, at(2))], T0) == []
    assert before.remembered() == {}


def test_a_signal_said_before_a_restart_is_not_said_again(recorder: Callable[..., Recorder]) -> None:
    row = {"address": "run", "record": "signal", "name": "execution"}
    before, after = recorder(row), recorder(row)
    before.records([Reading("run", "ACTIVE", at(0))], T0)
    after.recall(before.remembered())
    found = after.records([Reading("run", "ACTIVE", at(5)), Reading("run", "STOPPED", at(6))], T0)
    assert said(found, "value") == ["STOPPED"]


def test_a_redelivered_trigger_makes_no_second_measurement_and_a_late_one_is_named(recorder: Callable[..., Recorder]) -> None:
    measured = recorder(*TRIGGERED)
    parts = [Reading("part", number, at(10 * number)) for number in range(4)]
    values = [Reading("dia", 25.0 + number / 100, at(10 * number - 1)) for number in range(4)]
    found = measured.records([*parts[:3], *values[:3]], T0)
    assert said(found, "value") == [25.01, 25.02]
    assert measured.records([parts[1], parts[2]], T0) == []
    assert measured.late == []
    assert measured.records([Reading("part", 9, at(15))], T0) == []
    assert [reading.value for reading in measured.late] == [9]
    assert said(measured.records([values[3], parts[3]], T0), "value") == [25.03]


def test_a_redelivery_gives_the_same_bytes_and_a_fast_clock_is_shown(recorder: Callable[..., Recorder]) -> None:
    measured = recorder(DIAMETER)
    reading = Reading("dia", 25.0, at(0))
    assert measured.records([reading], at(1)) == measured.records([reading], at(3600))
    ahead = measured.records([Reading("dia", 25.0, at(90))], at(1))
    assert said(ahead, "updated_at") == ["2026-03-10T06:00:01.000000Z"]
