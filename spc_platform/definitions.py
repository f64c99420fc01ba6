"""The Dagster code location."""

from spc_platform.build import build_defs
from spc_platform.observe.logs import configure_logging
from spc_platform.settings import Settings

configure_logging(Settings(), logger="spc_platform")
defs = build_defs()
