"""States from signals: rules as data, debouncing, silence, and any order of delivery."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spc_platform.contracts.core import SIGNAL_EVENT as CORE_SIGNAL_EVENT
from spc_platform.contracts.core import WORK_ORDER
from spc_platform.contracts.signals import SIGNAL_EVENT, SIGNAL_STATE, STATE_RULES
from spc_platform.errors import SiteError
from spc_platform.production.signals import RULES, in_log_order, signal_states, states_with_signals
from spc_platform.production.states import state_intervals
from spc_platform.site.model import Policies
from spc_platform_tests.unit.production_site import EARLY, site, states, utc

START = utc(2026, 3, 10, 6)
MTCONNECT = RULES["mtconnect"]
OPC = RULES["opc_40001"]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def said(*rows, unit="CNC", **more) -> pl.DataFrame:
    """Events from (signal, value, seconds after START)."""
    columns = {"equipment_id": unit, **more}
    frame = pl.DataFrame(
        [{"equipment_id": unit, "signal": signal, "value": value, "at": at(s)} for signal, value, s in rows],
        schema=SIGNAL_EVENT.schema,
    )
    return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items() if name != "equipment_id"})


def found(events, rules=MTCONNECT, **options) -> list[tuple[str, float, float | None]]:
    frame = signal_states(events, rules, **options)
    SIGNAL_STATE.pandera_schema().validate(frame)
    return [
        (state, (start - START).total_seconds(), None if end is None else (end - START).total_seconds())
        for state, start, end in frame.select("state", "start_at", "end_at").iter_rows()
    ]


@pytest.mark.parametrize(
    ("execution", "mode", "state"),
    [
        ("ACTIVE", "AUTOMATIC", "RUN"),
        ("ACTIVE", "SEMI_AUTOMATIC", "RUN"),
        ("ACTIVE", "MANUAL_DATA_INPUT", "SETUP"),
        ("INTERRUPTED", "AUTOMATIC", "STOP"),
        ("FEED_HOLD", "AUTOMATIC", "STOP"),
        ("STOPPED", "MANUAL", "SETUP"),
        ("READY", "MANUAL", "IDLE"),
        ("PROGRAM_COMPLETED", "AUTOMATIC", "IDLE"),
        ("UNAVAILABLE", "AUTOMATIC", "UNKNOWN"),
        ("A_WORD_OF_ITS_OWN", "AUTOMATIC", "UNKNOWN"),
    ],
)
def test_execution_and_mode_of_mtconnect(execution, mode, state):
    assert found(said(("execution", execution, 0), ("mode", mode, 0))) == [(state, 0, None)]


@pytest.mark.parametrize(
    ("item", "mode", "state"),
    [
        ("Executing", "Processing", "RUN"),
        ("NotExecuting", "Processing", "IDLE"),
        ("Executing", "Setup", "SETUP"),
        ("NotExecuting", "Setup", "SETUP"),
        ("Executing", "Maintenance", "STOP"),
        ("OutOfService", "Processing", "STOP"),
        ("NotAvailable", "Processing", "UNKNOWN"),
        ("Executing", "None", "RUN"),
    ],
)
def test_item_state_and_operation_mode_of_opc_40001(item, mode, state):
    assert found(said(("execution", item, 0), ("mode", mode, 0)), OPC) == [(state, 0, None)]


def test_a_signal_holds_until_it_speaks_again():
    events = said(("mode", "AUTOMATIC", 0), ("execution", "ACTIVE", 10), ("mode", "MANUAL", 20), ("execution", "READY", 30))
    assert found(events) == [("UNKNOWN", 0, 10), ("RUN", 10, 20), ("SETUP", 20, 30), ("IDLE", 30, None)]


def test_an_alarm_stops_a_machine_that_says_it_is_active_and_names_the_reason():
    events = said(("execution", "ACTIVE", 0), ("alarm", "FAULT", 10), ("alarm", "NORMAL", 20))
    assert found(events) == [("RUN", 0, 10), ("STOP", 10, 20), ("RUN", 20, None)]
    assert signal_states(events, MTCONNECT)["reason_code"].to_list() == [None, "FAULT", None]


def test_a_machine_that_is_not_available_is_unknown_whatever_its_execution_last_said():
    events = said(("execution", "ACTIVE", 0), ("availability", "UNAVAILABLE", 10), ("availability", "AVAILABLE", 20))
    assert found(events) == [("RUN", 0, 10), ("UNKNOWN", 10, 20), ("RUN", 20, None)]


def test_power_alone_can_tell_the_state():
    rules = STATE_RULES.conform(
        pl.DataFrame(
            [
                dict.fromkeys(STATE_RULES.names) | {"priority": 3, "power_min": 5.0, "state": "RUN"},
                dict.fromkeys(STATE_RULES.names) | {"priority": 2, "power_min": 0.5, "power_max": 5.0, "state": "IDLE"},
                dict.fromkeys(STATE_RULES.names) | {"priority": 1, "power_max": 0.5, "state": "STOP"},
            ],
            schema=STATE_RULES.schema,
        )
    )
    events = said(
        ("power", "7.5", 0), ("power", "5", 10), ("power", "4.99", 20), ("power", "0", 30), ("power", "UNAVAILABLE", 40)
    )
    assert found(events, rules) == [("RUN", 0, 20), ("IDLE", 20, 30), ("STOP", 30, 40), ("UNKNOWN", 40, None)]


def test_short_states_are_merged_into_the_last_that_lasted_and_counted():
    events = said(
        ("execution", "ACTIVE", 0),
        ("execution", "FEED_HOLD", 100),
        ("execution", "READY", 101),
        ("execution", "ACTIVE", 103),
        ("execution", "FEED_HOLD", 200),
    )
    frame = signal_states(events, MTCONNECT, debounce_s=5)
    assert found(events, debounce_s=5) == [("RUN", 0, 200), ("STOP", 200, None)]
    assert frame.select("absorbed", "absorbed_s").rows() == [(2, 3.0), (0, 0.0)]
    # exactly as long as the threshold is long enough
    assert found(events, debounce_s=2) == [("RUN", 0, 101), ("IDLE", 101, 103), ("RUN", 103, 200), ("STOP", 200, None)]


def test_the_first_and_the_open_state_are_never_merged():
    events = said(("execution", "READY", 0), ("execution", "ACTIVE", 1), ("execution", "STOPPED", 100))
    assert found(events, debounce_s=60) == [("IDLE", 0, 1), ("RUN", 1, 100), ("STOP", 100, None)]


def test_silence_makes_a_machine_unknown_until_it_speaks_again():
    events = said(("execution", "ACTIVE", 0), ("mode", "AUTOMATIC", 50), ("execution", "ACTIVE", 500))
    assert found(events, silence_s=60, as_of=at(520)) == [("RUN", 0, 110), ("UNKNOWN", 110, 500), ("RUN", 500, None)]


def test_what_happens_after_as_of_is_not_known():
    events = said(("execution", "ACTIVE", 0), ("execution", "READY", 100))
    assert found(events, as_of=at(99)) == [("RUN", 0, None)]


def test_a_value_beats_unavailable_at_the_same_instant_unless_the_log_says_otherwise():
    both = [("execution", "ACTIVE", 0), ("execution", "UNAVAILABLE", 0)]
    assert found(said(*both)) == [("RUN", 0, None)]
    assert found(said(*both, sequence=[1, 2])) == [("UNKNOWN", 0, None)]


def test_lines_of_a_log_hold_no_earlier_than_those_before_them():
    log = said(("execution", "ACTIVE", 0), ("execution", "UNAVAILABLE", 30), ("execution", "ACTIVE", 20), sequence=[1, 2, 3])
    assert found(log) == [("RUN", 0, 30), ("UNKNOWN", 30, None)]
    assert found(in_log_order(log)) == [("RUN", 0, None)]


def test_the_states_partition_a_shift_as_states_of_an_mes_do():
    events = said(("execution", "ACTIVE", 0), ("execution", "STOPPED", 3600), ("execution", "UNAVAILABLE", 7200))
    made = signal_states(events, MTCONNECT)
    pieces = state_intervals(made, WORK_ORDER.empty(), site(shifts=[EARLY]), date(2026, 3, 10), utc(2026, 3, 11))
    cnc = pieces.filter(pl.col("equipment_id") == "CNC")
    assert cnc.select("time_element", "duration_s").rows() == [("APT", 3600), ("ADET", 3600), ("UNKNOWN", 21600)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]),
            st.sampled_from(["execution", "mode", "availability", "alarm"]),
            st.sampled_from(["ACTIVE", "READY", "STOPPED", "MANUAL", "AUTOMATIC", "UNAVAILABLE", "AVAILABLE", "FAULT"]),
            st.integers(0, 50),
        ),
        min_size=1,
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_of_events_change_nothing(rows, shuffler):
    def frame(order):
        return pl.DataFrame([(u, s, v, at(t)) for u, s, v, t in order], schema=SIGNAL_EVENT.schema, orient="row")

    again = [*rows, *rows[: len(rows) // 2]]
    shuffler.shuffle(again)
    first = signal_states(frame(rows), MTCONNECT, debounce_s=3, silence_s=20)
    assert signal_states(frame(again), MTCONNECT, debounce_s=3, silence_s=20).equals(first)
    for _, unit in first.group_by("equipment_id"):
        assert unit["end_at"].to_list()[:-1] == unit["start_at"].to_list()[1:]
        assert unit["end_at"].null_count() == 1
        assert not (unit["state"] == unit["state"].shift(1)).any()


def test_rules_that_are_no_rules_are_refused():
    wrong = MTCONNECT.with_columns(state=pl.lit("WORKING"), priority=pl.lit(1))
    with pytest.raises(SiteError, match=r"SPC-415.*WORKING.*priority 1 stands twice"):
        signal_states(said(("execution", "ACTIVE", 0)), wrong)
    with pytest.raises(SiteError, match="SPC-416"):
        signal_states(said(("execution", "ACTIVE", 0)), MTCONNECT, debounce_s=-1)


def statements(*rows) -> pl.DataFrame:
    """Core signal events from (signal, value, seconds after START)."""
    lineage = {"source_id": "agent", "revision": 1, "page_sha256": "0", "page_row": 0, "production_date": date(2026, 3, 10)}
    events = [
        {**dict.fromkeys(CORE_SIGNAL_EVENT.names), **lineage, "equipment_id": "CNC", "record_id": str(number)}
        | {"signal": signal, "value": value, "occurred_at": at(s)}
        for number, (signal, value, s) in enumerate(rows)
    ]
    return CORE_SIGNAL_EVENT.conform(pl.DataFrame(events, schema=CORE_SIGNAL_EVENT.schema))


def of_the_shift(recorded, signals, **policies) -> list[tuple[str, float]]:
    """What CNC did in the early shift of 8 h: (time element, seconds)."""
    plant = site(shifts=[EARLY], policies=Policies(**policies))
    events = states_with_signals(recorded, signals, plant, utc(2026, 3, 10, 14))
    pieces = state_intervals(events, WORK_ORDER.empty(), plant, date(2026, 3, 10), utc(2026, 3, 10, 14))
    return pieces.filter(pl.col("equipment_id") == "CNC").select("time_element", "duration_s").rows()


SPOKEN = (("execution", "ACTIVE", 0), ("execution", "STOPPED", 3600), ("execution", "ACTIVE", 7200))


def test_a_unit_without_recorded_states_has_those_of_its_signals():
    assert of_the_shift(states(), statements(*SPOKEN)) == [("APT", 3600), ("ADET", 3600), ("APT", 21600)]


def test_recorded_states_of_a_site_without_signals_are_given_back_as_they_are():
    recorded = states(("RUN", at(0)))
    assert states_with_signals(recorded, statements(), site(), at(9)) is recorded


def test_a_recorded_stop_is_in_force_over_a_running_signal_only_while_it_lasts():
    # the open state of the signals goes on after the record: STOP has the higher priority, not the last word
    stop = states(("STOP", at(9000), at(9600)))
    assert of_the_shift(stop, statements(*SPOKEN)) == [
        ("APT", 3600),
        ("ADET", 3600),
        ("APT", 1800),
        ("ADET", 600),
        ("APT", 28800 - 9600),
    ]


def test_the_sites_own_rules_speak_instead_of_the_built_in_set():
    own = {"priority": 1, "execution": "STOPPED", "state": "SETUP"}
    plant = site(state_rules=[dict.fromkeys(STATE_RULES.names) | own])
    made = states_with_signals(states(), statements(*SPOKEN), plant, at(9000))
    assert made["state"].to_list() == ["UNKNOWN", "SETUP", "UNKNOWN"]


def test_policies_name_the_set_the_debouncing_and_the_silence():
    recorded, said_of = states(), statements(*SPOKEN)
    assert of_the_shift(recorded, said_of, debounce_s=3601.0) == [("APT", 28800)]
    silent = of_the_shift(recorded, said_of, silence_s=7200.0)
    assert silent == [("APT", 3600), ("ADET", 3600), ("APT", 7200), ("UNKNOWN", 14400)]
    assert of_the_shift(recorded, said_of, state_rules_set="opc_40001") == [("UNKNOWN", 28800)]  # no word of OPC 40001
    with pytest.raises(SiteError, match="built-in set of rules") as refused:
        of_the_shift(recorded, said_of, state_rules_set="opc")
    assert refused.value.code == "SPC-415"
