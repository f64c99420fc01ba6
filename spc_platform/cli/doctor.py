"""`spc doctor` and `spc status`: is the site right, do the sources answer, what is pending."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from spc_platform.collect.readings import tags_of
from spc_platform.collect.service import make_connector
from spc_platform.collect.waiting import unlanded
from spc_platform.engine import Workspace
from spc_platform.errors import SpcError
from spc_platform.settings import Settings
from spc_platform.site.description import describe
from spc_platform.site.model import COLLECTED

console = Console(highlight=False)


def run_doctor() -> int:
    """Exit code 0 when the site folder is valid and every source answers; 1 otherwise."""
    plant = Workspace.open(Settings())
    site = plant.site
    console.print(f"site {site.site_id}: {site.name}, {site.zone}, from {site.first_production_date}")
    for line in describe(site):
        console.print(f"  {line}")
    silent = 0
    for source in site.sources:
        try:
            if source.kind in COLLECTED:
                tags_of(site, source)
                make_connector(source, plant.settings)
            news = plant.resources_with_news(source.source_id)
        except SpcError as error:
            silent += 1
            console.print(f"  source {source.source_id}: [red]no answer[/red] {error}")
        else:
            answers = "collected by `spc collect`" if source.kind in COLLECTED else "answers"
            console.print(f"  source {source.source_id}: {answers}; news in {', '.join(news) or 'nothing'}")
    return 1 if silent else 0


def run_status() -> int:
    """Exit code 0 when nothing is pending and no check fails; 1 otherwise."""
    plant = Workspace.open(Settings())
    pending = plant.pending()
    failing = plant.verdicts.failed()
    for source in plant.ledger.status().iter_rows(named=True):
        console.print(
            f"source {source['source_id']}: {source['pages']} pages, {source['records']} records, "
            f"newest {source['newest_at']}, last success {source['last_success_at']}, "
            f"last error {source['last_error'] or 'none'}",
            markup=False,
            soft_wrap=True,
        )
    for line in _spooled(plant):
        console.print(line)
    for state in plant.source_states():
        if not state.is_reachable or state.failures:
            console.print(f"source {state.source_id}: {state.describe()}")
    console.print(f"pending production dates: {', '.join(str(change.production_date) for change in pending) or 'none'}")
    console.print(f"failing checks: {len(failing) or 'none'}")
    for table, check, day, description in failing:
        console.print(f"  {table} {day} {check}: {description}")
    console.print(f"published: {plant.serving.current() or 'nothing yet'}")
    return 1 if pending or failing else 0


def _spooled(plant: Workspace) -> Iterator[str]:
    """What the collector has made durable and landing has not fetched, and the times that are known to be missing."""
    for source in plant.site.sources:
        if source.kind not in COLLECTED:
            continue
        marks = {each.name: plant.ledger.watermark(source.source_id, each.name) or "" for each in source.resources}
        landed = {name: int(mark) for name, mark in marks.items() if mark.isdigit()}
        waiting, gaps = unlanded(plant.settings.spool_root, source.source_id, landed)
        if waiting:
            each = ", ".join(f"{name} {number}" for name, number in waiting.items())
            yield f"source {source.source_id}: {sum(waiting.values())} records wait in the spool ({each})"
        if gaps:
            yield f"source {source.source_id}: {gaps} gaps, times for which readings are known to be missing"
