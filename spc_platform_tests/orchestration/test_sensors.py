"""Sensors and schedules: which production dates are asked for, under which key, and when nothing is asked for."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest

from spc_platform.build import build_defs
from spc_platform.engine import Workspace, run_range, step
from spc_platform.lake.ledger import PendingDate
from spc_platform.orchestration.jobs import REFRESH_JOB, REFRESH_STEPS
from spc_platform.orchestration.partitions import daily_partitions
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.orchestration.sensors import CHANGE_TAG, LANDING_TAG, MAX_ATTEMPTS, plan_runs
from spc_platform.plant import Plant, PlantServer
from spc_platform.settings import Settings
from spc_platform.site.loader import load_site
from spc_platform_tests.orchestration.scripted_mes import SITE, land, measurement, state, workspace

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (date(2026, 3, day) for day in (23, 24, 25, 26))
BERLIN = ZoneInfo("Europe/Berlin")
MADE = [step(name) for name in REFRESH_STEPS]


def at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=BERLIN)


def pending(*days: tuple[date, str]) -> list[PendingDate]:
    return [PendingDate(day, digest, 1, 1) for day, digest in days]


def ranges(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    return [
        (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"])
        for request in requests
    ]


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(Settings(site=SITE))


def ask(defs: dg.Definitions, sensor: str, data: Path, instance: dg.DagsterInstance | None = None) -> Any:
    """What a sensor says of a workspace, as the daemon would ask it."""
    with dg.build_sensor_context(
        instance=instance or dg.DagsterInstance.ephemeral(),
        definitions=defs,
        resources={"workspace": WorkspaceResource.of(Settings(site=SITE, data=data))},
    ) as context:
        return defs.resolve_sensor_def(sensor).evaluate_tick(context)


def requested(defs: dg.Definitions, plant: Workspace) -> list[dg.RunRequest]:
    return list(ask(defs, "landed_batches", plant.settings.data).run_requests or [])


# --- the plan of runs


def test_consecutive_dates_are_one_run_and_a_hole_parts_them() -> None:
    requests = plan_runs(pending((THURSDAY, "d"), (MONDAY, "a"), (TUESDAY, "b")))
    assert ranges(requests) == [("2026-03-23", "2026-03-24"), ("2026-03-26", "2026-03-26")]


def test_nothing_pending_is_no_run() -> None:
    assert plan_runs([]) == []


def test_the_key_of_a_run_names_the_change_set_and_not_only_the_dates() -> None:
    keys = [
        [request.run_key for request in plan_runs(pending(*days))]
        for days in (
            [(MONDAY, "a"), (TUESDAY, "b")],
            [(TUESDAY, "b"), (MONDAY, "a")],
            [(MONDAY, "a"), (TUESDAY, "c")],
            [(MONDAY, "b"), (TUESDAY, "a")],
        )
    ]
    assert keys[0] == keys[1], "the same change-set in any order is asked for once"
    assert len({key[0] for key in keys}) == 3, "another change-set on the same dates is another run"


# --- what the ledger makes of landed pages

FIRST = [
    measurement("m1", at(MONDAY, 8)),
    measurement("m2", at(TUESDAY, 8)),
    measurement("m3", at(WEDNESDAY, 8)),
    measurement("m4", at(TUESDAY, 9)),
]


@pytest.fixture
def plant(tmp_path: Path) -> Workspace:
    """Three production dates, landed and made."""
    opened = workspace(tmp_path)
    land(opened, FIRST)
    run_range(opened, opened.production_dates(), steps=MADE)
    assert opened.pending() == []
    return opened


def test_the_first_batch_asks_for_its_dates_in_one_run(defs: dg.Definitions, tmp_path: Path) -> None:
    opened = workspace(tmp_path)
    assert "applied" in str(ask(defs, "landed_batches", tmp_path).skip_message)
    land(opened, FIRST)
    assert ranges(requested(defs, opened)) == [("2026-03-23", "2026-03-25")]


def test_a_late_record_asks_for_its_date_and_those_whose_states_read_it(defs: dg.Definitions, plant: Workspace) -> None:
    report = land(plant, [measurement("late", at(MONDAY, 22), updated_at="2026-03-26T12:00:00Z")])
    assert report.touched == (MONDAY,)
    assert [change.production_date for change in plant.pending()] == [MONDAY]
    assert ranges(requested(defs, plant)) == [("2026-03-23", "2026-03-25")]


def test_a_stop_that_is_later_known_to_last_into_the_next_date_changes_that_date_too(
    defs: dg.Definitions, plant: Workspace
) -> None:
    """The stop belongs to Monday's production date; its half hour after 06:00 belongs to Tuesday's early shift."""
    began, shift_start = at(TUESDAY, 5), at(TUESDAY, 6)
    land(plant, [state("s1", "STOP", began, shift_start)], resource="equipment-states")
    run_range(plant, plant.production_dates(), steps=MADE)
    assert stopped_seconds(plant, TUESDAY) == 0
    land(plant, [state("s1", "STOP", began, shift_start + timedelta(minutes=30), rev=2)], resource="equipment-states")
    assert [change.production_date for change in plant.pending()] == [MONDAY]
    (request,) = requested(defs, plant)
    first, last = (date.fromisoformat(day) for day in ranges([request])[0])
    assert first <= TUESDAY <= last
    run_range(plant, [first + timedelta(days=offset) for offset in range((last - first).days + 1)], steps=MADE)
    assert stopped_seconds(plant, TUESDAY) == 1800
    assert plant.pending() == []


def stopped_seconds(plant: Workspace, day: date) -> float:
    pieces = plant.lake.read("state_interval", day)
    return float(pieces.filter((pl.col("equipment_id") == "A10") & (pl.col("state") == "STOP"))["duration_s"].sum())


def test_a_change_that_stays_pending_is_asked_for_again_but_not_for_ever(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("m6", at(MONDAY, 10))])
    (request,) = requested(defs, plant)
    instance = dg.DagsterInstance.ephemeral()
    keys = {request.run_key}
    for _ in range(MAX_ATTEMPTS - 1):
        failed = dg.DagsterRun(
            job_name=REFRESH_JOB, status=dg.DagsterRunStatus.FAILURE, tags={CHANGE_TAG: request.tags[CHANGE_TAG]}
        )
        instance.add_run(failed)
        (again,) = ask(defs, "landed_batches", plant.settings.data, instance).run_requests
        keys.add(again.run_key)
    assert len(keys) == MAX_ATTEMPTS, "Dagster drops a key that it has seen"
    instance.add_run(dg.DagsterRun(job_name=REFRESH_JOB, status=dg.DagsterRunStatus.FAILURE, tags=failed.tags))
    answer = ask(defs, "landed_batches", plant.settings.data, instance)
    assert not answer.run_requests
    assert "mend the cause" in answer.skip_message


def test_no_second_refresh_while_one_is_under_way(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("m6", at(MONDAY, 10))])
    instance = dg.DagsterInstance.ephemeral()
    instance.add_run(dg.DagsterRun(job_name=REFRESH_JOB, status=dg.DagsterRunStatus.STARTED))
    answer = ask(defs, "landed_batches", plant.settings.data, instance)
    assert not answer.run_requests
    assert "under way" in answer.skip_message


def test_a_refresh_that_died_before_its_last_step_leaves_its_change_pending(plant: Workspace) -> None:
    land(plant, [measurement("m6", at(MONDAY, 10))])
    run_range(plant, [MONDAY], steps=MADE[:-1])
    assert [change.production_date for change in plant.pending()] == [MONDAY]
    run_range(plant, [MONDAY], steps=MADE)
    assert plant.pending() == []


def test_what_a_night_shift_makes_after_midnight_asks_for_the_date_on_which_it_began(plant: Workspace) -> None:
    land(plant, [measurement("night", at(WEDNESDAY, 5))])
    assert [change.production_date for change in plant.pending()] == [TUESDAY]


def test_a_moved_record_asks_for_both_dates(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("m3", at(MONDAY, 9), rev=2, updated_at="2026-03-26T12:00:00Z")])
    assert [change.production_date for change in plant.pending()] == [MONDAY, WEDNESDAY]
    assert ranges(requested(defs, plant)) == [("2026-03-23", "2026-03-25")]
    run_range(plant, [MONDAY, WEDNESDAY], steps=MADE)
    assert plant.lake.read("measurement", MONDAY)["record_id"].to_list() == ["m1", "m3"]
    assert plant.lake.read("measurement", WEDNESDAY).height == 0


def test_reading_the_overlap_again_asks_for_nothing(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, FIRST)
    land(plant, FIRST[2:], FIRST[:2])
    assert plant.pending() == []
    assert requested(defs, plant) == []


def test_the_overlap_with_one_new_record_asks_for_the_new_one_s_date(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [*FIRST, measurement("m5", at(WEDNESDAY, 9))])
    assert [change.production_date for change in plant.pending()] == [WEDNESDAY]
    assert ranges(requested(defs, plant)) == [("2026-03-24", "2026-03-25")]


def test_the_same_change_keeps_its_key_and_a_new_one_gets_another(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("m6", at(MONDAY, 10))])
    first, again = requested(defs, plant), requested(defs, plant)
    assert [request.run_key for request in first] == [request.run_key for request in again]
    land(plant, [measurement("m7", at(MONDAY, 11))])
    (second,) = requested(defs, plant)
    assert ranges([second]) == ranges(first)
    assert second.run_key != first[0].run_key


def test_a_date_that_was_made_is_not_asked_for_again(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("m6", at(MONDAY, 10))])
    run_range(plant, [MONDAY], steps=MADE)
    assert requested(defs, plant) == []


def test_a_date_far_from_the_site_s_range_is_landed_and_never_asked_for(defs: dg.Definitions, plant: Workspace) -> None:
    land(plant, [measurement("clock", datetime(2000, 1, 3, 12, tzinfo=UTC))])
    assert requested(defs, plant) == []
    assert date(2000, 1, 3) in plant.ledger.touched_dates()


# --- the sensor that asks the source


@pytest.fixture
def mes(monkeypatch: pytest.MonkeyPatch) -> Any:
    with PlantServer(plant=Plant(), now=at(MONDAY, 8)) as server:
        monkeypatch.setenv("SPC_SOURCE_URL", json.dumps({"mes": server.url}))
        yield server


def test_news_at_the_source_ask_for_a_landing_run(defs: dg.Definitions, mes: PlantServer, tmp_path: Path) -> None:
    answer = ask(defs, "mes_news", tmp_path)
    (request,) = answer.run_requests
    assert request.tags[LANDING_TAG] == "mes"
    assert "measurements" in request.tags["spc/news"]
    assert request.run_key is None, "a key would keep the next news from being landed"
    resources = load_site(SITE).source("mes").resources
    assert mes.mes.requests <= len(resources) == 8, "one short question per resource"


def test_no_news_ask_for_nothing_until_there_are_some(defs: dg.Definitions, mes: PlantServer, tmp_path: Path) -> None:
    from spc_platform.lake.landing import land_source
    from spc_platform.sources import open_source

    opened = Workspace.open(Settings(site=SITE, data=tmp_path))
    land_source(open_source(opened.site.source("mes"), opened.settings), opened.site, opened.landing, opened.ledger)
    answer = ask(defs, "mes_news", tmp_path)
    assert not answer.run_requests
    assert "nothing new at mes" in answer.skip_message
    mes.clock.advance(1)
    assert len(ask(defs, "mes_news", tmp_path).run_requests) == 1


def test_a_source_that_is_away_is_a_skip_with_the_reason(
    defs: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = PlantServer()
    monkeypatch.setenv("SPC_SOURCE_URL", json.dumps({"mes": server.url}))
    server.stop()
    answer = ask(defs, "mes_news", tmp_path)
    assert not answer.run_requests
    assert "source mes cannot be asked" in answer.skip_message
    assert "refused" in answer.skip_message


@pytest.mark.parametrize(
    ("status", "is_asked"),
    [
        (dg.DagsterRunStatus.STARTING, False),
        (dg.DagsterRunStatus.STARTED, False),
        (dg.DagsterRunStatus.FAILURE, True),
        (dg.DagsterRunStatus.SUCCESS, True),
    ],
)
def test_no_second_landing_run_while_one_is_under_way(
    defs: dg.Definitions, mes: PlantServer, tmp_path: Path, status: dg.DagsterRunStatus, is_asked: bool
) -> None:
    instance = dg.DagsterInstance.ephemeral()
    instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", status=status, tags={LANDING_TAG: "mes"}))
    answer = ask(defs, "mes_news", tmp_path, instance)
    assert bool(answer.run_requests) is is_asked
    assert is_asked or "under way" in answer.skip_message


# --- the daily schedule


@pytest.mark.parametrize(
    ("morning", "made"),
    [
        (date(2026, 3, 24), "2026-03-23"),
        (date(2026, 3, 29), "2026-03-28"),
        (date(2026, 3, 30), "2026-03-29"),
        (date(2026, 4, 20), "2026-04-19"),
        (date(2026, 3, 23), None),
        (date(2026, 4, 21), None),
    ],
)
def test_every_morning_the_date_that_has_ended_is_made(defs: dg.Definitions, morning: date, made: str | None) -> None:
    """The night of 2026-03-28 loses an hour in Berlin; a date outside the site's range is skipped with a word."""
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(morning.year, morning.month, morning.day, 6, 30, tzinfo=BERLIN),
        resources={"workspace": None},
    )
    answer = defs.resolve_schedule_def("daily_refresh").evaluate_tick(context)
    if made is None:
        assert not answer.run_requests
        assert "outside" in str(answer.skip_message)
        return
    (request,) = answer.run_requests
    assert ranges([request]) == [(made, made)]
    assert request.run_key == f"daily:{made}"


def test_the_schedule_ticks_after_the_production_day_has_ended_also_when_the_clock_changes(defs: dg.Definitions) -> None:
    schedule = defs.resolve_schedule_def("daily_refresh")
    partitions = daily_partitions(workspace_site())
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 6 * * *", "Europe/Berlin")
    for day in (date(2026, 3, 27), date(2026, 3, 28), date(2026, 3, 29)):
        window = partitions.time_window_for_partition_key(day.isoformat())
        tick = at(day + timedelta(days=1), 6) + timedelta(minutes=30)
        assert tick.timestamp() - window.end.timestamp() == 1800
    night = partitions.time_window_for_partition_key("2026-03-28")
    assert night.end.timestamp() - night.start.timestamp() == 23 * 3600


def workspace_site() -> Any:
    return load_site(SITE)


# --- a source that stays away: what waits, what the check says, and how it goes on by itself


def test_the_trial_of_an_open_breaker_lands_what_waited_and_the_check_tells_both(
    defs: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spc_platform.orchestration.source_checks import REACHABLE

    server = PlantServer()
    port = int(server.url.rsplit(":", 1)[1])
    server.stop()
    monkeypatch.setenv("SPC_SOURCE_URL", json.dumps({"mes": f"http://127.0.0.1:{port}"}))
    cursor, told = None, []

    def tick() -> Any:
        nonlocal cursor
        with dg.build_sensor_context(
            instance=dg.DagsterInstance.ephemeral(),
            cursor=cursor,
            definitions=defs,
            resources={"workspace": WorkspaceResource.of(Settings(site=SITE, data=tmp_path))},
        ) as context:
            answer = defs.resolve_sensor_def("mes_news").evaluate_tick(context)
        cursor = answer.cursor
        told.extend(answer.asset_events)
        return answer

    for _ in range(10):
        assert not tick().run_requests
    plant = Workspace.open(Settings(site=SITE, data=tmp_path))
    [state] = [each for each in plant.source_states() if each.source_id == "mes"]
    assert (state.breaker, len(state.pending), {each.polls for each in state.pending}) == ("open", 8, {3})
    assert [(each.check_name, each.passed) for each in told] == [(REACHABLE, False)], "an unchanged state is reported once"
    assert "waits from the beginning" in str(told[0].description)
    # A minute later the source is back: the tick is the trial, and asks for the run that reads what waited.
    plant.state.execute("UPDATE breaker SET opened_at = '2026-03-23T00:00:00+00:00'")
    with PlantServer(port=port, plant=Plant(), now=at(MONDAY, 8)):
        [request] = tick().run_requests
        assert request.tags["spc/news"].count(",") == 7
        own = build_defs(Settings(site=SITE, data=tmp_path)).resolve_implicit_global_asset_job_def()
        result = own.execute_in_process(asset_selection=[dg.AssetKey("landed_mes")])
        assert result.success
        [checked] = result.get_asset_check_evaluations()
        assert (checked.check_name, checked.passed) == (REACHABLE, True)
        assert plant.source_states()[0].is_reachable
        tick()
    assert [(each.check_name, each.passed) for each in told[-1:]] == [(REACHABLE, True)]
    assert told[-1].metadata["transitions_to_closed"].value == 1
