"""The Dagster code location."""

from spc_platform.build import build_defs

defs = build_defs()
