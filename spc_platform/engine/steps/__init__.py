"""Every step from landed pages to figures, in the order in which they can run."""

from spc_platform.engine.step import Step
from spc_platform.engine.steps import charts, landed, operations, part_counts, prepared, production, spc
from spc_platform.engine.steps.common import CONTRACT, CORE, RAW

STEPS: tuple[Step, ...] = (
    *landed.STEPS,
    prepared.CLOCKS,
    production.STATES,
    *prepared.STEPS,
    part_counts.COUNTS,
    production.OEE,
    *operations.STEPS,
    *spc.STEPS,
    *charts.STEPS,
)


def step(name: str) -> Step:
    """The step of that name, or the one that makes the table of that name. KeyError with the known names otherwise."""
    for candidate in STEPS:
        if name == candidate.name or name in candidate.outputs:
            return candidate
    raise KeyError(f"no step {name!r}; there are: {', '.join(candidate.name for candidate in STEPS)}")


__all__ = ["CONTRACT", "CORE", "RAW", "STEPS", "step"]
