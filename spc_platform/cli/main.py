"""The `spc` command. Heavy imports happen inside the verbs, so `spc --help` answers at once."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from spc_platform.cli import browse, collect, known, metrics, oee, reconcile, study_verbs, trace, why
from spc_platform.cli.clock import clock_app
from spc_platform.cli.erp import erp_app
from spc_platform.cli.events import events_app
from spc_platform.cli.ledger import ledger_app
from spc_platform.cli.limits import limits_app
from spc_platform.errors import SpcError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="External data sets.")
app.add_typer(data_app, name="data")
app.add_typer(limits_app, name="limits")
app.add_typer(erp_app, name="erp")
app.add_typer(events_app, name="events")
app.add_typer(ledger_app, name="ledger")
app.add_typer(clock_app, name="clock")
study_verbs.register(app)
trace.register(app)
oee.register(app)
why.register(app)
reconcile.register(app)
known.register(app)
collect.register(app)
browse.register(app)
metrics.register(app)

_Date = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]


@app.command()
def demo(
    site: Annotated[str, typer.Option(help="`demo` (the embedded plant), `nist`, or a site folder.")] = "demo",
    data: Annotated[Path | None, typer.Option(help="Folder of external data sets, for sites that read files.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the lake is written (default: data/, or data/<site>-lake/ for another site).")
    ] = None,
) -> None:
    """Run the whole graph in one Dagster run and print what was found."""
    from spc_platform.cli.demo import run_demo

    raise typer.Exit(run_demo(site, data, out))


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the webserver.")] = 3000) -> None:
    """Dagster's webserver and daemon on 127.0.0.1, with the embedded plant when the site reads from it."""
    from spc_platform.cli.ui import run_ui

    raise typer.Exit(run_ui(port))


@app.command()
def init(folder: Path, site_id: Annotated[str, typer.Option(help="Identity of the site.")] = "my_plant") -> None:
    """Write a small, valid site folder to start from."""
    from spc_platform.site.scaffold import scaffold

    for path in scaffold(folder, site_id):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: edit the files, then `SPC_SITE={folder} spc doctor`")


@app.command()
def doctor() -> None:
    """Check the site folder and ask each source whether it answers."""
    from spc_platform.cli.doctor import run_doctor

    raise typer.Exit(run_doctor())


@app.command()
def land() -> None:
    """Land what is new at every source, without Dagster; one that fails keeps no other from landing. Exits 2 when one did."""
    from spc_platform.engine import Workspace
    from spc_platform.lake.landing import land_source
    from spc_platform.observe.logs import configure_logging
    from spc_platform.observe.metrics import refresh_textfile
    from spc_platform.settings import Settings
    from spc_platform.sources import open_source

    settings = Settings()
    configure_logging(settings)
    plant = Workspace.open(settings)
    failed = False
    try:
        for source in plant.site.sources:
            try:
                report = land_source(open_source(source, plant.settings), plant.site, plant.landing, plant.ledger)
            except SpcError as error:
                failed = True
                typer.echo(f"{source.source_id}: {error}", err=True)
                continue
            counted = f"{report.pages} pages, {report.records} records, {len(report.touched)} production dates"
            typer.echo(f"{source.source_id}: {counted}")
    finally:
        refresh_textfile(plant)
    if failed:
        raise typer.Exit(2)


@app.command()
def run(first: _Date = None, last: _Date = None) -> None:
    """Make every table from landed pages for a range of production dates, without Dagster. Default: all touched dates."""
    from spc_platform.engine import Workspace, run_range
    from spc_platform.settings import Settings

    plant = Workspace.open(Settings())
    dates = [
        day
        for day in plant.production_dates()
        if (first is None or day >= first.date()) and (last is None or day <= last.date())
    ]
    outcomes = run_range(plant, dates, progress=lambda name: typer.echo(f"  {name}", err=True))
    changed = sum(outcome.commit.changed for outcome in outcomes)
    typer.echo(f"{len(dates)} production dates, {len(outcomes)} partitions, {changed} changed")


@app.command()
def status() -> None:
    """Sources, pending production dates, failing checks and the published version."""
    from spc_platform.cli.doctor import run_status

    raise typer.Exit(run_status())


@app.command()
def verify(
    only: Annotated[str | None, typer.Option(help="`statistics` or `files`; both unless given.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of report.json and report.html.")] = Path("verification-report"),
    data: Annotated[Path | None, typer.Option(help="Folder of external data sets, for the cases that read files.")] = None,
    date: Annotated[str | None, typer.Option(help="Date of the report, ISO 8601 (now).")] = None,
) -> None:
    """Run the reference cases and re-hash every file of the lake, and write a verification report to sign."""
    from spc_platform.cli.verify import run_verify

    raise typer.Exit(run_verify(only, out, data, date))


@app.command()
def rollback(version: str) -> None:
    """Point BI readers at an earlier published version."""
    from spc_platform.lake.serving import Serving
    from spc_platform.settings import Settings

    Serving(Settings().serving_root).rollback(version)
    typer.echo(f"current -> {version}")


@app.command()
def plant(
    port: Annotated[int, typer.Option(help="Port of the MES.")] = 8765,
    admin_port: Annotated[int, typer.Option(help="Port of the plant's clock, faults and truth.")] = 8766,
    erp_port: Annotated[int | None, typer.Option(help="Port of the stub ERP (8767; none when that is taken).")] = None,
) -> None:
    """Run the embedded plant's MES and stub ERP on loopback."""
    from spc_platform.plant.__main__ import main as plant_main

    ports = ["--port", str(port), "--admin-port", str(admin_port)]
    raise typer.Exit(plant_main(ports if erp_port is None else [*ports, "--erp-port", str(erp_port)]))


@data_app.command()
def fetch(destination: Path) -> None:
    """Download the NIST data sets with their checksums (needs the internet)."""
    from spc_platform.cli.fetch import fetch as fetch_data

    fetch_data(destination)


def main() -> None:
    """Entry point: an SpcError is printed without a traceback and exits 2."""
    try:
        app()
    except SpcError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
