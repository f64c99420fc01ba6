"""What walks over the resources of a source brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from spc_platform.lake.ledger import PageOutcome
from spc_platform.sources.base import Page


@dataclass(frozen=True, slots=True)
class ResourceLanding:
    """What one walk over one resource brought. ``new_records`` were not known before in this revision."""

    resource: str
    batch_id: int
    pages: int
    records: int
    new_records: int
    bytes: int
    touched: tuple[date, ...]
    watermark: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class LandingReport:
    """What landing a source brought, in sum and per resource."""

    source_id: str
    resources: tuple[ResourceLanding, ...]

    @property
    def batch_id(self) -> int:
        """The newest batch; each resource has its own."""
        return max((resource.batch_id for resource in self.resources), default=0)

    @property
    def pages(self) -> int:
        return sum(resource.pages for resource in self.resources)

    @property
    def records(self) -> int:
        return sum(resource.records for resource in self.resources)

    @property
    def new_records(self) -> int:
        return sum(resource.new_records for resource in self.resources)

    @property
    def bytes(self) -> int:
        return sum(resource.bytes for resource in self.resources)

    @property
    def seconds(self) -> float:
        return sum(resource.seconds for resource in self.resources)

    @property
    def touched(self) -> tuple[date, ...]:
        """Production dates whose raw rows changed, oldest first."""
        return tuple(sorted({day for resource in self.resources for day in resource.touched}))


@dataclass
class WalkSums:
    """Running sums of one walk."""

    pages: int = 0
    records: int = 0
    new_records: int = 0
    bytes: int = 0
    touched: set[date] = field(default_factory=set)
    newest: datetime | None = None
    position: str | None = None

    def add(self, page: Page, outcome: PageOutcome) -> None:
        self.pages += 1
        self.records += outcome.n_records
        self.new_records += outcome.n_new
        self.bytes += len(page.body)
        self.touched.update(outcome.touched)
        self.position = page.position or self.position
        if outcome.newest_updated_at is not None:
            self.newest = max(outcome.newest_updated_at, self.newest or outcome.newest_updated_at)
