"""`spc demo`: one Dagster run over the whole graph, then a summary against what is known to be true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console

from spc_platform.errors import PermanentError
from spc_platform.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    import dagster as dg

DEMO_DATES = 14
PLANT_PORT = 8765
ERP_PORT = 8767
MOST_CHATTER = 4000
"""Characters of dbt's own words that are shown when a run fails."""
console = Console(stderr=True, highlight=False)


def demo_settings(site: str, data: Path | None, out: Path | None) -> Settings:
    """Settings of a demo run. The embedded plant writes to data/; any other site to data/<folder name>-lake/."""
    folder = {"demo": REPOSITORY / "data" / "site", "nist": REPOSITORY / "data" / "nist"}.get(site, Path(site))
    base = Settings()
    where = out or (base.data if site == "demo" else base.data / f"{folder.name}-lake")
    return base.model_copy(update={"site": folder, "data": where, "shared_data": data or base.shared_data})


def export(settings: Settings) -> None:
    """Puts the settings where Dagster's processes and dbt read them, and prepares DAGSTER_HOME."""
    home = settings.data / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        copyfile(REPOSITORY / "deploy" / "dagster.yaml", home / "dagster.yaml")
    os.environ.update(
        DAGSTER_HOME=str(home.resolve()),
        SPC_EVENT_LOG=str(home.resolve() / "history" / "runs"),
        DAGSTER_DISABLE_TELEMETRY="1",
        DO_NOT_TRACK="1",
        SPC_SITE=str(settings.site.resolve()),
        SPC_DATA=str(settings.data.resolve()),
        SPC_SHARED_DATA=str(settings.shared_data.resolve()),
    )
    bin_folder = str(Path(sys.executable).parent)
    if bin_folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = bin_folder + os.pathsep + os.environ.get("PATH", "")


def load_heavy_modules() -> None:
    """Imports what the run needs while the plant starts on the other core."""
    console.print("  0.0 s  loading Dagster")
    import spc_platform.build  # noqa: F401


@contextmanager
def running_plant(settings: Settings) -> Iterator[str]:
    """The embedded plant and its ERP in a process of their own on free loopback ports; yields the address of the admin port.

    Where the site has an ERP of its own, or SPC_SOURCE_URL names one, the summaries go there.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "spc_platform.plant", "--port", "0", "--admin-port", "0", "--erp-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        load_heavy_modules()
        announced = re.search(r"MES (\S+), admin (\S+), ERP (\S+),", process.stdout.readline() if process.stdout else "")
        if announced is None:
            raise PermanentError("the embedded plant did not start; run `spc plant` to see why")
        addresses = {**settings.source_url, "mes": announced[1]}
        if delivers_to_stub(settings):
            addresses["erp"] = announced[3]
            know_erp_token()
        os.environ["SPC_SOURCE_URL"] = json.dumps(addresses)
        yield announced[2]
    finally:
        process.terminate()
        process.wait(timeout=10)


def reads_plant(settings: Settings) -> bool:
    """Whether a source of the site, where SPC_SOURCE_URL left it, is at the embedded plant's address."""
    from spc_platform.site.loader import load_site
    from spc_platform.sources.rest_access import LOOPBACK

    sources = [source for source in load_site(settings.site).sources if source.kind == "rest"]
    addresses = [urlsplit(settings.source_url.get(source.source_id, source.base_url)) for source in sources]
    return any(each.hostname in LOOPBACK and each.netloc.endswith(f":{PLANT_PORT}") for each in addresses)


def know_erp_token() -> None:
    """Puts the stub ERP's token into the environment, unless one is there."""
    from spc_platform.plant.erp import TOKEN, TOKEN_VARIABLE

    os.environ.setdefault(TOKEN_VARIABLE, TOKEN)


def delivers_to_stub(settings: Settings) -> bool:
    """Whether the site's ERP, where SPC_SOURCE_URL left it, is at the stub's address. Raises SiteError for a wrong erp.toml."""
    from spc_platform.erp.config import FILE, read_erp_config
    from spc_platform.sources.rest_access import LOOPBACK

    if not (settings.site / FILE).is_file():
        return False
    address = urlsplit(read_erp_config(settings).base_url)
    return address.hostname in LOOPBACK and address.port == ERP_PORT


def run_demo(site: str, data: Path | None, out: Path | None) -> int:
    """Exit code 0 when every step and blocking check passed."""
    started = time.monotonic()
    settings = demo_settings(site, data, out)
    export(settings)
    _require_folders(settings)
    embedded = reads_plant(settings)
    with running_plant(settings) if embedded else nullcontext() as admin_url:
        succeeded = _materialize(Settings())
        console.print(f"{time.monotonic() - started:5.1f} s  done")
        if not succeeded:
            console.print("The run failed; the messages above name the step. `spc status` shows checks and sources.")
            return 1
        from spc_platform.cli.summary import print_summary

        print_summary(Settings(), admin_url, site)
        _print_delivery(Settings())
    return 0


def _print_delivery(settings: Settings) -> None:
    """Says what became of the summaries of the ended orders; nothing where there is no outbox."""
    from spc_platform.erp.orders import outbox_path
    from spc_platform.erp.outbox import Outbox

    path = outbox_path(settings)
    if path.is_file():
        newest = Outbox(path).status().group_by("job_order_id").last()
        counted = sorted(newest["state"].value_counts().iter_rows())
        console.print(f"ERP: summaries of {newest.height} ended orders, {', '.join(f'{n} {state}' for state, n in counted)}")


def _require_folders(settings: Settings) -> None:
    """Raises PermanentError before anything heavy is loaded when a source's folder is missing."""
    from spc_platform.site.loader import load_site
    from spc_platform.sources.files import folder, require_folder

    for source in load_site(settings.site).sources:
        if source.kind == "files":
            require_folder(source, folder(source, settings))


def _dates(settings: Settings) -> tuple[date, date]:
    from spc_platform.site.loader import load_site

    site = load_site(settings.site)
    last = site.last_production_date
    end = site.first_production_date + timedelta(days=DEMO_DATES - 1)
    if any(source.kind == "files" for source in site.sources) and last is not None:
        return site.first_production_date, last
    return site.first_production_date, min(end, last or end)


def _materialize(settings: Settings) -> bool:
    import dagster as dg

    from spc_platform.build import build_defs
    from spc_platform.orchestration.partitions import range_tags

    first, last = _dates(settings)
    job = build_defs(settings).resolve_job_def("everything")
    run_id = str(uuid.uuid4())
    # dbt writes a line for each model to standard output, which belongs to the summary.
    with dg.DagsterInstance.get() as instance, _progress(instance, run_id), redirect_stdout(StringIO()) as chatter:
        console.print(f"         one run over production dates {first} .. {last}")
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            tags={**range_tags(first, last), "spc/demo": "true"},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        _print_failures(result)
        if not result.success:
            console.print(chatter.getvalue()[-MOST_CHATTER:])
        return result.success


def _print_failures(result: dg.ExecuteInProcessResult) -> None:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            error = error.cause if error and error.cause else error
            console.print(f"FAILED {event.step_key}: {error.message.strip() if error else 'no message'}")
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            console.print(f"         check {check.asset_key.to_user_string()}.{check.check_name}: {check.description}")


@contextmanager
def _progress(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Prints each finished step with the seconds since the start, by polling the event log."""
    import dagster as dg

    stop = threading.Event()
    started = time.monotonic()
    seen: set[str] = set()

    def report() -> None:
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS):
            key = entry.step_key or ""
            if key not in seen:
                seen.add(key)
                console.print(f"{time.monotonic() - started:5.1f} s  {key}")

    def watch() -> None:
        while not stop.wait(0.5):
            report()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report()
