"""A summary of a valid site for ``spc doctor``."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from spc_platform.contracts.site import SITE_TABLES
from spc_platform.site.model import Site


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the summary of a site: ``level`` is info or warning."""

    level: str
    text: str

    def __str__(self) -> str:
        return self.text if self.level == "info" else f"{self.level}: {self.text}"


def describe(site: Site) -> list[Finding]:
    """Summarise a valid site: rows per table, sources, and what is allowed but looks forgotten."""
    counts = [Finding("info", f"{name}: {site[name].height} rows") for name in SITE_TABLES]
    sources = [
        Finding("info", f"source {source.source_id}: {source.kind}, {', '.join(item.name for item in source.resources)}")
        for source in site.sources
    ]
    characteristics, specifications = site["characteristics"], site["specifications"]
    units = site.work_centers()["equipment_id"]
    gaps = {
        "characteristic without specification (no capability)": _missing(
            characteristics["characteristic_id"], specifications["characteristic_id"]
        ),
        "work unit without characteristic": _missing(units, characteristics["equipment_id"]),
        "work unit without product (no OEE effectiveness)": _missing(units, site["products"]["equipment_id"]),
    }
    warnings = [Finding("warning", f"{what}: {', '.join(names)}") for what, names in gaps.items() if names]
    if not site.sources:
        warnings.append(Finding("warning", "sources.toml names no source: nothing will be ingested"))
    return [*counts, *sources, *warnings]


def _missing(wanted: pl.Series, given: pl.Series) -> list[str]:
    return sorted({*wanted.to_list()} - {*given.to_list()})
