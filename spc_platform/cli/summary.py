"""The summary of a demo run: what was found, against the plant's truth where it is known."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import requests
from rich.console import Console
from rich.table import Table

from spc_platform.engine import Workspace
from spc_platform.production.oee import oee_ratios
from spc_platform.settings import Settings

console = Console(highlight=False, soft_wrap=True, width=110)


@dataclass(frozen=True)
class Truth:
    """What the plant says that it did, by table."""

    special_causes: pl.DataFrame
    sensor_outliers: pl.DataFrame
    bad_records: pl.DataFrame
    oee_elements: pl.DataFrame

    @classmethod
    def fetch(cls, admin_url: str) -> Truth:
        return cls(*(_truth(admin_url, name) for name in ("special_causes", "sensor_outliers", "bad_records", "oee_elements")))


def _truth(admin_url: str, name: str) -> pl.DataFrame:
    answer = requests.get(f"{admin_url}/admin/truth/{name}", timeout=60)
    answer.raise_for_status()
    frame = pl.read_json(answer.content, infer_schema_length=None)
    times = [column for column in frame.columns if column.endswith("_at")]
    return frame.with_columns(
        *(pl.col(column).str.to_datetime(time_unit="us", time_zone="UTC") for column in times),
        pl.col("production_date").str.to_date(),
    )


def found_causes(causes: pl.DataFrame, violations: pl.DataFrame) -> pl.DataFrame:
    """The special causes plus ``found``: a point beyond the control limit that the cause moves towards, within its window.

    Rule 1 of either rule set only: the rules of runs look back to before the start, and chance meets them more often.
    A variance must show above the upper limit of the R, S or MR panel, any other cause on the location panel.
    """
    is_variance = pl.col("kind") == "variance"
    moved = causes.select(
        "cause_id",
        "characteristic_id",
        "equipment_id",
        "start_at",
        "end_at",
        panel=pl.when(is_variance).then(pl.lit("dispersion")).otherwise(pl.lit("location")),
        side=pl.when(is_variance | (pl.col("size_sigma") > 0)).then(pl.lit("above")).otherwise(pl.lit("below")),
    )
    beyond = violations.filter(pl.col("rule").str.ends_with("_1"))
    hits = moved.join(beyond, on=["characteristic_id", "equipment_id", "panel", "side"]).filter(
        pl.col("subgroup_at").is_between("start_at", "end_at")
    )
    return causes.with_columns(found=pl.col("cause_id").is_in(hits["cause_id"].unique().implode()))


def equal_elements(truth: pl.DataFrame, elements: pl.DataFrame) -> int:
    """How many rows of the plant's OEE elements the platform has, equal in every second and every count."""
    key = ["equipment_id", "production_date", "shift_id", "material_definition_id"]
    figures = ["pot_s", "pdt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s", "pq", "gq", "sq", "rq"]
    typed = elements.select(*key, *(pl.col(name).cast(pl.Float64) for name in figures))
    return (
        truth.select(*key, *(pl.col(name).cast(pl.Float64) for name in figures))
        .join(typed, on=[*key, *figures], how="semi", nulls_equal=True)
        .height
    )


def print_summary(settings: Settings, admin_url: str | None, site: str) -> None:
    """Prints charts, signals, capability, OEE per line, where the files lie and what to try next."""
    plant = Workspace.open(settings)
    points = plant.read_all("spc_points")
    violations = plant.read_all("spc_violations")
    elements = plant.read_all("oee_elements")
    console.rule(f"{plant.site.name}")
    _print_charts(plant, points, violations)
    if admin_url is not None:
        _print_truth(plant, Truth.fetch(admin_url), violations, elements)
    _print_capability(plant.lake.read("spc_capability"))
    _print_oee(elements)
    _print_paths(plant, site)


def _print_charts(plant: Workspace, points: pl.DataFrame, violations: pl.DataFrame) -> None:
    limits = plant.lake.read("spc_limits")
    location = points.filter(pl.col("panel") == "location")
    console.print(
        f"Charts: {limits.select('characteristic_id', 'equipment_id').n_unique()} with limits, "
        f"{location.height} subgroups plotted, {location['rules'].is_not_null().sum()} of them signal"
    )
    by_rule = violations.group_by("rule").len().sort("len", descending=True)
    console.print("Signals by rule: " + ", ".join(f"{rule} {count}" for rule, count in by_rule.iter_rows()))


def _print_truth(plant: Workspace, truth: Truth, violations: pl.DataFrame, elements: pl.DataFrame) -> None:
    dates = pl.Series(plant.lake.dates("oee_elements"))
    causes, outliers, bad, oee = (
        frame.filter(pl.col("production_date").is_in(dates.implode()))
        for frame in (truth.special_causes, truth.sensor_outliers, truth.bad_records, truth.oee_elements)
    )
    found = found_causes(causes, violations)
    masked = plant.read_all("measurement_flags").filter("is_masked").select("record_id")
    rejected = plant.read_all("measurement_rejected").select("record_id", "reasons")
    refused = bad.filter(pl.col("expected") == "rejected").join(rejected, on="record_id")
    right = refused.filter(pl.col("reasons").str.contains(pl.col("expected_reason"), literal=True)).height
    table = Table("Against the plant's truth", "found", "of")
    table.add_row("special causes signalled by rule 1 in their own window", str(found["found"].sum()), str(causes.height))
    table.add_row(
        "sensor outliers that are masked", str(outliers.join(masked, on="record_id", how="semi").height), str(outliers.height)
    )
    table.add_row(
        "bad records quarantined for the right reason", str(right), str(bad.filter(pl.col("expected") == "rejected").height)
    )
    table.add_row("OEE rows equal to the second and the part", str(equal_elements(oee, elements)), str(oee.height))
    console.print(table)
    for cause in found.filter(~pl.col("found")).iter_rows(named=True):
        console.print(
            f"  not found: {cause['cause_id']} {cause['kind']} of {cause['size_sigma']} sigma on {cause['characteristic_id']}"
        )


def _print_capability(capability: pl.DataFrame) -> None:
    table = Table("Lowest capability", "unit", "spec", "n", "Cpk [95 %]", "Ppk", "stability")
    for row in capability.filter(pl.col("cpk").is_not_null()).sort("cpk").head(6).iter_rows(named=True):
        table.add_row(
            row["characteristic_id"],
            row["equipment_id"],
            f"v{row['specification_version']}",
            str(row["n_observed"]),
            f"{row['cpk']:.2f} [{row['cpk_ci_low']:.2f}, {row['cpk_ci_high']:.2f}]",
            f"{row['ppk']:.2f}",
            row["stability"],
        )
    console.print(table)


def _print_oee(elements: pl.DataFrame) -> None:
    if elements.is_empty():
        return
    table = Table("OEE by line", "availability", "effectiveness", "quality", "OEE", "busy h")
    for row in oee_ratios(elements, by=["work_center_id"]).iter_rows(named=True):
        counted = row["pq"] > 0
        ratios = [row["availability"], *(row[name] if counted else None for name in ("effectiveness", "quality", "oee"))]
        shown = ["-" if ratio is None else f"{ratio:.1%}" for ratio in ratios]
        table.add_row(row["work_center_id"], *shown, f"{row['pbt_s'] / 3600:.1f}")
    console.print(table)


def _print_paths(plant: Workspace, site: str) -> None:
    data = plant.settings.data
    console.print(
        f"Files: landed pages {data / 'landing'}, lake {data / 'lake'}, "
        f"marts for BI {plant.serving.root / 'current' / 'spc.duckdb'}"
    )
    console.print("Next:")
    console.print("  make ui             the graph, checks and control charts in the browser, with the plant running")
    console.print(
        "  .venv/bin/spc status   sources, pending production dates, failing checks"
        if site == "demo"
        else "  make demo           the embedded plant, with known truth"
    )
    console.print("  docs/how-to/query-the-marts.md   SQL for limits, violations, OEE by shift and downtime")
