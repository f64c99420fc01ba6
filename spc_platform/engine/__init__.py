"""What each table is made from: load inputs from the lake, call the core, commit.

Assets, backfills, sensors and the command line all run these steps, so a figure has one origin.
No dagster here.
"""

from spc_platform.engine.run import run_range
from spc_platform.engine.step import Check, Input, Outcome, Step
from spc_platform.engine.steps import STEPS, step
from spc_platform.engine.workspace import Workspace

__all__ = ["STEPS", "Check", "Input", "Outcome", "Step", "Workspace", "run_range", "step"]
