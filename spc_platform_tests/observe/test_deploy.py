"""The dashboard and the alerts use figures that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prometheus_client.core import Metric

from spc_platform.collect.endpoint import CollectorMetrics
from spc_platform.collect.service import Collector
from spc_platform.observe.metrics import LakeMetrics, SourceMetrics
from spc_platform.settings import REPOSITORY
from spc_platform_tests.orchestration.scripted_mes import workspace

DASHBOARD = json.loads((REPOSITORY / "deploy" / "grafana-dashboard.json").read_text())
ALERTS = yaml.safe_load((REPOSITORY / "deploy" / "prometheus-alerts.yml").read_text())
HOW_TO = (REPOSITORY / "docs" / "how-to" / "monitor.md").read_text()
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
NAME = re.compile(r"\bspc_[a-z_]+[a-z]")


def names(families: Iterable[Metric]) -> Iterator[str]:
    for family in families:
        yield from (family.name + suffix for suffix in SUFFIXES[family.type])


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    plant = workspace(tmp_path_factory.mktemp("plant"))
    collector = cast("Collector", SimpleNamespace(subscriptions=()))
    collected: list[Metric] = []
    for each in (SourceMetrics(plant.site, plant.settings), LakeMetrics(plant), CollectorMetrics(collector)):
        collected.extend(each.collect())
    return collected


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def test_every_figure_of_the_dashboard_exists(families: list[Metric]) -> None:
    asked = {name for panel in panels() for target in panel["targets"] for name in NAME.findall(target["expr"])}
    asked |= {name for variable in DASHBOARD["templating"]["list"] for name in NAME.findall(variable["definition"])}
    assert len(asked) > 20
    assert asked - set(names(families)) == set()


def test_every_figure_of_an_alert_exists(families: list[Metric]) -> None:
    for rule in rules():
        asked = set(NAME.findall(rule["expr"]))
        assert asked, rule["alert"]
        assert asked - set(names(families)) == set()


def test_labels_that_are_asked_for_are_labels_of_the_figure(families: list[Metric]) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in rules()]
    labels = {name: family._labelnames for family in families for name in names([family])}  # type: ignore[attr-defined]
    seen = 0
    for expression in expressions:
        for name, selector in re.findall(r"(spc_[a-z_]+)\{([^}]*)\}", expression):
            for label in re.findall(r"(\w+)=~?\"", selector):
                assert label in labels[name], expression
                seen += 1
    assert seen > 10


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert DASHBOARD["id"] is None
    assert {each["name"] for each in DASHBOARD["__inputs"]} == {"DS_PROMETHEUS"}
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${DS_PROMETHEUS}"}
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        area = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not area & cells, panel["title"]
        cells |= area


def test_alerts_say_what_and_what_to_do() -> None:
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
    said = [rule["alert"] for rule in rules()]
    assert len(said) == len(set(said))


def test_the_how_to_names_every_figure_of_sources_and_lake(families: list[Metric]) -> None:
    told = set(NAME.findall(HOW_TO))
    own = {name for name in names(families) if not re.search("_(bucket|sum|count)$", name)} - {
        name for name in names(families) if name.startswith("spc_collect_")
    }
    assert own - told == set()
    assert {name for name in told if not name.startswith("spc_platform")} <= {
        *names(families), "spc_source_request_duration_seconds",
    }  # fmt: skip


def test_files_named_in_alerts_exist() -> None:
    text = (REPOSITORY / "deploy" / "prometheus-alerts.yml").read_text()
    pages = re.findall(r"docs/[\w/-]+\.md", text)
    assert pages
    assert [page for page in pages if not Path(REPOSITORY / page).exists()] == []
