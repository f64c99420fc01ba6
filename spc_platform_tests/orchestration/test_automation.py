"""When limits, points, capability, OEE and marts are asked for: the conditions of the real graph, evaluated without a daemon.

Materializations and checks are reported to the instance instead of being run, so each test is a history that somebody can read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from spc_platform.build import build_defs
from spc_platform.engine.steps import STEPS
from spc_platform.orchestration.jobs import REFRESH_STEPS
from spc_platform.orchestration.partitions import daily_partitions, range_tags
from spc_platform.settings import Settings
from spc_platform.site.loader import load_site
from spc_platform_tests.orchestration.scripted_mes import SITE

DATA_VERSION = "dagster/data_version"
ALL_DATES = daily_partitions(load_site(SITE)).get_partition_keys()
KNOWN = ALL_DATES[:13]
LAST = KNOWN[-1]
OLD = ALL_DATES[5]
FOLLOWING = {name for step in STEPS if step.name not in REFRESH_STEPS for name in step.outputs}

PUBLISHED = {"serving_publication", "erp_delivery"}
"""The marts, and what is told to the ERP in the same run."""


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(Settings(site=SITE, data=tmp_path_factory.mktemp("data")))


class Plant:
    """A history of materializations and checks, and the ticks of the condition sensor over it."""

    def __init__(self, defs: dg.Definitions) -> None:
        self.defs = defs
        self.graph = defs.resolve_asset_graph()
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None
        self.made = 0

    def make(self, asset: str, dates: Iterable[str] | None = None, *, version: str | None = None) -> None:
        """The asset is made anew, with other content unless a version is given."""
        node = self.graph.get(dg.AssetKey(asset.split("/")))
        for day in (dates or KNOWN) if node.is_partitioned else [None]:
            self.made += 1
            said = version or hashlib.sha256(str(self.made).encode()).hexdigest()
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(node.key, partition=day, tags={DATA_VERSION: said})
            )

    def check(self, asset: str, name: str, *, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset), check_name=name, passed=passed, severity=dg.AssetCheckSeverity.ERROR, metadata={}
            )
        )

    def pass_checks(self) -> None:
        for key in self.graph.asset_check_keys:
            self.check(key.asset_key.to_user_string(), key.name, passed=True)

    def make_everything(self, dates: Iterable[str] = KNOWN) -> None:
        for node in self.graph.asset_nodes:
            if node.is_materializable:
                self.make(node.key.to_user_string(), list(dates), version="first")
        self.pass_checks()

    def tick(self) -> dict[str, set[str | None]]:
        """What the conditions ask for: asset -> partitions (None for an unpartitioned one)."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            node.key.to_user_string(): result.get_requested_partitions(node.key)
            for node in self.graph.asset_nodes
            if node.automation_condition is not None and result.get_num_requested(node.key)
        }

    def start_run(self, job: str, day: str) -> dg.DagsterRun:
        return self.instance.create_run_for_job(
            self.defs.resolve_job_def(job), tags=range_tags_of(day), status=dg.DagsterRunStatus.STARTED
        )

    def finish(self, run: dg.DagsterRun) -> None:
        """The run ends well: its checks have passed."""
        self.pass_checks()
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
        self.instance.report_dagster_event(event, run.run_id)


def range_tags_of(day: str) -> dict[str, str]:
    from datetime import date

    return range_tags(date.fromisoformat(day), date.fromisoformat(day))


@pytest.fixture
def plant(defs: dg.Definitions) -> Plant:
    """Everything is made and every check passed; the sensor has seen that."""
    history = Plant(defs)
    history.make_everything()
    history.tick()
    return history


def test_nothing_is_asked_for_once_everything_is_made(defs: dg.Definitions) -> None:
    history = Plant(defs)
    history.make_everything()
    assert history.tick() == {}
    assert history.tick() == {}


def test_the_figures_that_follow_are_those_that_the_sensor_does_not_ask_for(plant: Plant) -> None:
    conditioned = {node.key.to_user_string() for node in plant.graph.asset_nodes if node.automation_condition is not None}
    assert {name for name in conditioned if "/" not in name} == FOLLOWING | PUBLISHED


@pytest.mark.parametrize("day", [OLD, LAST])
def test_a_date_that_changes_is_followed_on_that_date_old_or_new(plant: Plant, day: str) -> None:
    plant.make("measurement", [day])
    plant.make("measurement_flags", [day])
    asked = plant.tick()
    assert asked["spc_subgroups"] == {day}
    assert "oee_elements" not in asked, "nothing that OEE rests on has changed"


def test_a_change_is_followed_once(plant: Plant) -> None:
    plant.make("measurement", [OLD])
    assert plant.tick()["spc_subgroups"] == {OLD}
    plant.make("spc_subgroups", [OLD], version="first")
    later = [set(plant.tick()) for _ in range(3)]
    assert later == [PUBLISHED, set(), set()], "the marts show measurements too; then there is rest"


def test_the_same_bytes_made_again_are_not_followed(plant: Plant) -> None:
    plant.make("measurement", [OLD], version="first")
    assert plant.tick() == {}


def test_states_are_followed_by_oee_and_by_charts_of_energy_alone(plant: Plant) -> None:
    """Energy is put to the states of its date and of those beside it; subgroups hold the energy per good part."""
    plant.make("state_interval", [OLD])
    asked = plant.tick()
    assert asked["oee_elements"] == {OLD}
    assert asked["energy_per_part"] == asked["spc_subgroups"] == set(ALL_DATES[4:7])
    assert "spc_count_subgroups" not in asked


@pytest.mark.parametrize("check", ["contract", "conservation", "great_expectations"])
def test_figures_do_not_follow_past_a_failed_blocking_check_and_do_once_it_is_mended(plant: Plant, check: str) -> None:
    plant.make("measurement", [OLD])
    plant.check("measurement", check, passed=False)
    assert plant.tick() == {}
    assert plant.tick() == {}
    plant.make("measurement", [OLD])
    plant.check("measurement", check, passed=True)
    asked = plant.tick()
    assert asked["spc_subgroups"] == {OLD}


def test_a_check_that_only_warns_holds_nothing_back(plant: Plant) -> None:
    plant.make("measurement", [OLD])
    plant.check("measurement", "rejected_share", passed=False)
    assert plant.tick()["spc_subgroups"] == {OLD}


def test_points_are_judged_anew_on_every_date_whose_carry_window_holds_the_change(plant: Plant) -> None:
    """Run windows reach back carry_days = 7: subgroups of one date enter the points of that date and the seven after it."""
    plant.make("spc_subgroups", [OLD])
    plant.make("spc_limit_estimates")
    first = plant.tick()
    assert first["spc_points"] == set(ALL_DATES[5:13])


def test_limits_wait_for_no_coming_date(defs: dg.Definitions) -> None:
    """Half of the dates are still to come: unpartitioned figures rest on those that exist."""
    history = Plant(defs)
    history.make_everything()
    history.tick()
    history.make("measurement", [LAST])
    assert history.tick()["spc_subgroups"] == {LAST}
    history.make("spc_subgroups", [LAST])
    assert "spc_limit_estimates" in history.tick()


def test_a_new_date_goes_all_the_way_to_the_publication_and_then_there_is_rest(defs: dg.Definitions) -> None:
    """As the daemon would: what a tick asks for is made before the next; the marts are built once, last."""
    history = Plant(defs)
    history.make_everything()
    history.tick()
    new = ALL_DATES[13]
    for name in (name for step in STEPS if step.name in REFRESH_STEPS for name in step.outputs):
        history.make(name, [new])
    ticks: list[set[str]] = []
    for _ in range(10):
        asked = history.tick()
        ticks.append(set(asked))
        for name, partitions in asked.items():
            history.make(name, sorted(day for day in partitions if day is not None) or None)
    made = [ticks.index(names) for names in ticks if names]
    assert set().union(*ticks) >= FOLLOWING
    assert ticks[max(made)] == PUBLISHED, ticks
    assert sum("serving_publication" in names for names in ticks) == 1, "one build of the marts per change"
    assert not ticks[-1], "at rest"


def test_one_request_makes_the_publication_and_all_marts(plant: Plant) -> None:
    node = plant.graph.get(dg.AssetKey("serving_publication"))
    together = {key.to_user_string() for key in node.execution_set_entity_keys if isinstance(key, dg.AssetKey)}
    marts = {each.key.to_user_string() for each in plant.graph.asset_nodes if each.key.path[0] == "marts"}
    assert len(marts) >= 15
    assert together == marts | {"serving_publication"}


def test_marts_wait_while_a_run_upstream_is_under_way(plant: Plant) -> None:
    plant.make("spc_capability")
    run = plant.start_run("refresh_production_dates", OLD)
    assert plant.tick() == {}
    plant.finish(run)
    assert set(plant.tick()) == PUBLISHED


def test_figures_wait_while_what_they_rest_on_is_being_made(plant: Plant) -> None:
    plant.make("measurement", [OLD])
    run = plant.start_run("refresh_production_dates", OLD)
    assert "spc_subgroups" not in plant.tick()
    plant.finish(run)
    assert plant.tick()["spc_subgroups"] == {OLD}


def test_a_refresh_that_was_cancelled_leaves_checks_without_a_verdict_and_figures_wait(plant: Plant) -> None:
    plant.make("measurement", [OLD])
    run = plant.start_run("refresh_production_dates", OLD)
    plant.tick()
    plant.instance.report_run_canceled(run)
    assert plant.tick() == {}
    plant.pass_checks()
    assert plant.tick()["spc_subgroups"] == {OLD}


def test_a_failed_run_of_a_figure_is_not_launched_again_by_itself(plant: Plant) -> None:
    plant.make("measurement", [OLD])
    assert plant.tick()["spc_subgroups"] == {OLD}
    later = [set(plant.tick()) for _ in range(3)]
    assert later == [PUBLISHED, set(), set()], "what came to nothing is not asked for again; a level would for ever"
    plant.make("measurement", [OLD])
    assert plant.tick()["spc_subgroups"] == {OLD}


def test_the_history_of_a_test_is_its_own(defs: dg.Definitions, tmp_path: Path) -> None:
    assert Plant(defs).tick() == {}
    assert not list(tmp_path.iterdir())
