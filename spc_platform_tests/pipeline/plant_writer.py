"""Processes of their own for tests that kill them or let two of them meet.

``python -m spc_platform_tests.pipeline.plant_writer land|run DATA SITE [URL]`` lands what is new, or makes every touched date;
each step is announced on standard output before it begins.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spc_platform.engine import Workspace, run_range
from spc_platform.lake.landing import land_source
from spc_platform.settings import Settings
from spc_platform.sources import open_source


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(verb: str, data: str, site: str, url: str = "http://127.0.0.1:9") -> None:
    workspace = Workspace.open(Settings(site=Path(site), data=Path(data), source_url={"mes": url}))
    say("open")
    if verb == "run":
        run_range(workspace, workspace.production_dates(), progress=say)
        return
    source = open_source(workspace.site.source("mes"), workspace.settings)
    land_source(source, workspace.site, workspace.landing, workspace.ledger, checkpoint=say)


if __name__ == "__main__":
    main(*sys.argv[1:])
