"""Where a trace reads: the lake with the site's specifications, or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from spc_platform.contracts.core import MEASUREMENT, WORK_ORDER
from spc_platform.contracts.genealogy import LOT_GENEALOGY_REFUSED
from spc_platform.contracts.operations import SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.raw import MEASUREMENT_PAYLOAD
from spc_platform.contracts.site import SPECIFICATIONS
from spc_platform.contracts.spc import SPC_LIMITS, SPC_POINTS, SPC_SUBGROUPS, SPC_VIOLATIONS
from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.genealogy_index import GenealogyIndex
from spc_platform.lake.store import Lake
from spc_platform.production.genealogy import links_in_force, lot_genealogy
from spc_platform.production.traceability import Genealogy

if TYPE_CHECKING:
    from spc_platform.settings import Settings

NO_LINKS = "SPC-643"
_MEASURED = ["source_id", "record_id", *(column.name for column in MEASUREMENT_PAYLOAD), "specification_version"]
_EVENT = {column.name: column.dtype for column in SEGMENT_EVENT_PAYLOAD}
Chosen = Callable[[pl.Expr], pl.DataFrame]


@dataclass(frozen=True)
class Records:
    """What one trace reads. ``origin`` names where: mode (file or lake), name, and the hash of the links."""

    origin: dict[str, Any]
    genealogy: Genealogy
    refused: pl.DataFrame
    specifications: pl.DataFrame = field(default_factory=SPECIFICATIONS.empty)
    lake: Lake | None = None
    measurements: pl.DataFrame = field(default_factory=lambda: MEASUREMENT.empty())
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_EVENT))

    def measurement(self, items: pl.Series) -> pl.DataFrame:
        """Measurements whose serial number or lot is among the items."""
        wanted = pl.any_horizontal(pl.col(name).is_in(items.implode()) for name in ("serial_number", "material_lot_id"))
        if self.lake is None:
            return self.measurements.filter(wanted)
        return self.lake.scan("measurement").filter(wanted).select(*_MEASURED, "production_date").collect()

    def segment_event(self, items: pl.Series) -> pl.DataFrame:
        """Operations of the items."""
        wanted = pl.col("item_id").is_in(items.implode())
        if self.lake is None or not _has(self.lake, "segment_event"):
            return self.events.filter(wanted)
        return self.lake.scan("segment_event").filter(wanted).select(list(_EVENT)).collect()

    def work_orders(self, ids: pl.Series) -> pl.DataFrame:
        if self.lake is None:
            return WORK_ORDER.empty()
        return self.lake.scan("work_order").filter(pl.col("job_order_id").is_in(ids.implode())).collect().sort("job_order_id")

    def chart(self, measured: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Subgroups and points that may hold the measurements: of their production dates and the ones before."""
        if self.lake is None or measured.is_empty():
            return SPC_SUBGROUPS.empty(), SPC_POINTS.empty()
        dates = _with_day_before(measured["production_date"].unique().to_list())
        return self.lake.read_dates("spc_subgroups", dates), self.lake.read_dates("spc_points", dates)

    def violations(self, judged: pl.DataFrame) -> pl.DataFrame:
        """Violations of the subgroups that hold the measurements."""
        subgroups = judged.filter(pl.col("signals").is_not_null())["subgroup_id"].unique()
        if self.lake is None or subgroups.is_empty():
            return SPC_VIOLATIONS.empty()
        found = self.lake.scan("spc_violations").filter(pl.col("subgroup_id").is_in(subgroups.implode())).collect()
        return SPC_VIOLATIONS.conform(found)

    def limit_versions(self, judged: pl.DataFrame) -> pl.DataFrame:
        """Limit versions that judged the measurements."""
        key = ["characteristic_id", "equipment_id", "limit_version"]
        used = judged.select(key).drop_nulls().unique()
        if self.lake is None or used.is_empty():
            return SPC_LIMITS.empty()
        return SPC_LIMITS.conform(self.lake.read_kept("spc_limits").join(used, on=key, how="semi"))


def file_records(
    links: Path,
    measurements: Path | None,
    segment_events: Path | None,
    *,
    zone: str,
    index: Path | None,
    known_at: datetime | None,
) -> Records:
    """Records of files. With ``index`` the genealogy is kept there, under the hash of the file and what was asked."""

    def made() -> tuple[Genealogy, pl.DataFrame]:
        from spc_platform.cli.trace_file import read_links

        return _genealogy(read_links(links, zone)[1], known_at)

    digest = _sha256(links)
    if index is None:
        genealogy, refused = made()
    else:
        genealogy, refused = GenealogyIndex(index).open(f"{digest} {links.name} {zone} {known_at}", made)
    origin = {"mode": "file", "name": links.name, "links_sha256": digest}
    records = Records(origin, genealogy, refused)
    if measurements is not None:
        from spc_platform.cli.trace_file import read_measurements

        specified, measured = _specified(read_measurements(measurements, zone))
        records = replace(records, specifications=specified, measurements=measured)
    if segment_events is not None:
        from spc_platform.cli.trace_file import read_segment_events

        records = replace(records, events=read_segment_events(segment_events, zone).select(list(_EVENT)))
    return records


def _sha256(path: Path) -> str:
    from spc_platform.lake.files import file_sha256

    try:
        return file_sha256(path)
    except OSError as error:
        text = f"{path}: the file cannot be read ({error.strerror}). Check its name and permissions."
        raise ContractError(text, code="SPC-380") from error


def _specified(measured: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Specifications that rows of a file state, versions numbered by their limits where the file has none."""
    numbered = measured.with_columns(
        pl.coalesce(
            "specification_version",
            pl.when(pl.any_horizontal(pl.col("lsl", "usl").is_not_null())).then(
                pl.struct(pl.col("lsl", "usl").fill_null(float("nan"))).rank("dense").over("characteristic_id").cast(pl.Int64)
            ),
        ).alias("specification_version")
    )
    stated = numbered.filter(pl.col("specification_version").is_not_null()).select(
        "characteristic_id", "lsl", "usl", "unit", version="specification_version"
    )
    several = stated.unique().filter(pl.struct("characteristic_id", "version").is_duplicated())
    if several.height:
        one = several.sort("characteristic_id", "version").row(0, named=True)
        raise ContractError(
            f"measurements: {one['characteristic_id']!r} has several limits or units under specification version "
            f"{one['version']}. Give every version its own number.",
            code="SPC-644",
        )
    absent = [pl.lit(None, dtype=c.dtype).alias(c.name) for c in SPECIFICATIONS.columns if c.name not in stated.columns]
    return SPECIFICATIONS.conform(stated.unique().with_columns(absent)), numbered.drop("lsl", "usl")


def lake_records(settings: Settings, known_at: datetime | None, lake: Lake | None = None) -> Records:
    """Records of the lake. Without ``known_at`` its lot_genealogy, mapped into memory; with it all revisions of the links.

    Raises SPC-643 when the lake holds no links of materials.
    """
    from spc_platform.site.loader import load_site

    store = Lake(settings.lake_root) if lake is None else lake
    specifications = load_site(settings.site)["specifications"]
    if known_at is None and _has(store, "lot_genealogy") and (manifest := store.manifest("lot_genealogy")) is not None:
        digest = manifest.sha256

        def made() -> tuple[Genealogy, pl.DataFrame]:
            return Genealogy.of(store.read("lot_genealogy")), store.read("lot_genealogy_refused")

        refused = store.manifest("lot_genealogy_refused")
        key = f"{digest} {'' if refused is None else refused.sha256}"
        genealogy, refused_links = GenealogyIndex(settings.data / "genealogy").open(key, made)
        refused_links = pl.concat([refused_links, _rejected(store)])
    else:
        links, digest = _links(store, known_at)
        genealogy, refused_links = _genealogy(links, known_at)
    origin = {"mode": "lake", "name": "lake", "links_sha256": digest}
    return Records(origin, genealogy, refused_links, specifications, store)


def _rejected(lake: Lake) -> pl.DataFrame:
    """Links that entered no genealogy because their record breaks a rule: LOT_GENEALOGY_REFUSED.

    A record that could not be read has no identity of its own: the page and row that hold it name it.
    """
    table = "material_link_rejected"
    if not _has(lake, table) or not lake.dates(table):
        return LOT_GENEALOGY_REFUSED.empty()
    page = pl.concat_str(pl.lit("page "), pl.col("page_sha256").str.slice(0, 12), pl.lit(" row "), "page_row")
    rows = lake.scan(table).with_columns(
        record_id=pl.coalesce("record_id", page), cycle_items=pl.lit(None, pl.String), cycle_records=pl.lit(None, pl.String)
    )
    return LOT_GENEALOGY_REFUSED.conform(rows.select(LOT_GENEALOGY_REFUSED.names).collect())


def _links(lake: Lake, known_at: datetime | None) -> tuple[pl.DataFrame, str]:
    """Links with every revision that is kept, and the hash of the files that hold them."""
    from spc_platform.lake.files import sha256

    tables = ("raw_material_link", "material_link") if known_at is not None else ("material_link", "raw_material_link")
    table = next((name for name in tables if _has(lake, name) and lake.dates(name)), None)
    if table is None:
        raise ContractError(
            "the lake holds no links of materials. Land a source that states them and `spc run`, or name a file with --links.",
            code=NO_LINKS,
        )
    frame = lake.read(table)
    manifests = (lake.manifest(table, day) for day in lake.dates(table))
    digest = sha256("\n".join(manifest.sha256 for manifest in manifests if manifest is not None).encode())
    return frame if "is_deleted" in frame.columns else frame.with_columns(is_deleted=pl.lit(value=False)), digest


def _has(lake: Lake, table: str) -> bool:
    """Whether the lake has such a table, with or without rows."""
    try:
        lake.dates(table)
    except LakeError:
        return False
    return True


def _genealogy(links: pl.DataFrame, known_at: datetime | None) -> tuple[Genealogy, pl.DataFrame]:
    found = lot_genealogy(links_in_force(links, known_at))
    return Genealogy.of(found.edges), found.refused


def _with_day_before(days: Sequence[date]) -> list[date]:
    return sorted({*days, *(day - timedelta(days=1) for day in days)})
