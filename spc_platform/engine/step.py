"""The notation of a step: which tables it makes, from what, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Literal

from spc_platform.contracts import LAKE_TABLES
from spc_platform.lake.store import Commit
from spc_platform.site import Policies, Site

if TYPE_CHECKING:
    from spc_platform.engine.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Input:
    """A table that a step reads: its own production date, and the dates around it that it needs.

    ``back`` counts dates before or names the policy that says how many; ``ahead`` counts dates after. ``only_with`` names
    the site's table without whose rows the input is not read.
    """

    table: str
    back: int | Literal["carry_days", "state_carry_days"] = 0
    ahead: int = 0
    only_with: str | None = None

    def is_read(self, site: Site) -> bool:
        return self.only_with is None or not site[self.only_with].is_empty()

    def days_back(self, policies: Policies) -> int:
        return self.back if isinstance(self.back, int) else int(getattr(policies, self.back))


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict of one check on one table. ``blocking`` checks hold back whatever follows."""

    name: str
    passed: bool
    description: str
    blocking: bool = True
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A check that a step reports on one of its tables."""

    name: str
    description: str
    blocking: bool = True

    def verdict(self, *, passed: bool, description: str = "", figures: Mapping[str, float | int | str] | None = None) -> Check:
        return Check(self.name, passed, description or self.description, self.blocking, figures or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did to one table: the commit, figures worth plotting and verdicts."""

    commit: Commit
    figures: Mapping[str, float | int] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    @property
    def table(self) -> str:
        return self.commit.table


@dataclass(frozen=True)
class Step:
    """One step of the way from landed pages to figures.

    ``checks`` names every check that ``run`` reports, by table; ``version`` changes when the mathematics does.
    """

    name: str
    group: str
    outputs: tuple[str, ...]
    inputs: tuple[Input, ...]
    run: Callable[[Workspace, date | None], Iterable[Outcome]]
    checks: Mapping[str, tuple[CheckSpec, ...]] = field(default_factory=dict)
    version: str = "1"
    kinds: frozenset[str] = frozenset({"polars", "parquet"})

    @property
    def partitioned(self) -> bool:
        return LAKE_TABLES[self.outputs[0]].partitioned
