"""OEE of a handful of tables: states, counts and a calendar become a plant in memory, judged by the functions of the assets.

What belongs here: which rows are refused or settled by a rule, and the site that the rest makes. Every row that is not
taken as it stands is listed with what was done and what to do. Elements come from ``state_intervals`` and
``oee_elements`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from spc_platform.contracts.core import EQUIPMENT_STATE, PRODUCTION_COUNT, WORK_ORDER
from spc_platform.contracts.production import OEE_ELEMENTS, STATE_INTERVAL
from spc_platform.contracts.site import BREAKS, CALENDAR, EQUIPMENT, PRODUCTS, REASONS, SHIFTS, SITE_TABLES, STATES
from spc_platform.contracts.table import UTC, Table
from spc_platform.errors import SiteError
from spc_platform.production.calendar import operation_time, shift_calendar, shift_dates
from spc_platform.production.oee import oee_elements, placed_counts
from spc_platform.production.states import state_intervals
from spc_platform.production.study_rows import (
    Findings,
    judged_counts,
    judged_entries,
    judged_products,
    judged_states,
    told_span,
)
from spc_platform.site.model import Policies, Site

LINE_OF = "line of "
"""Every work unit of a study is a line of its own, so that orders name the product of a unit."""
ANY = "*"

DEFAULT_STATES = pl.DataFrame(
    [
        ("RUN", "RUN", "APT", 10),
        ("IDLE", "IDLE", "ADOT", 5),
        ("SETUP", "SETUP", "AUST", 20),
        ("STOP", "STOP", "ADET", 30),
        ("UNKNOWN", "UNKNOWN", "UNKNOWN", 0),
    ],
    schema=STATES.schema,
    orient="row",
)
"""What the states of a file mean unless a table says otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC_ZONE)
_DAY = 24 * 60


@dataclass(frozen=True)
class Tables:
    """What a study is made of; every frame carries ``row``, the row of its file, and ``problem``, null or why it is unreadable.

    ``states``: equipment_id, state, start_at, end_at, reason_code, material_definition_id, record_id. ``counts``:
    PRODUCTION_COUNT_PAYLOAD and record_id. ``entries``: CALENDAR kinds and ``shift`` with equipment_id, kind, shift_id,
    start_at, end_at, recorded_at. ``orders``: equipment_id, material_definition_id, start_at, end_at. ``products``: the
    columns of PRODUCTS, equipment_id null for every unit. ``equipment``: equipment_id and perhaps work_center_id.
    """

    states: pl.DataFrame
    counts: pl.DataFrame
    shifts: pl.DataFrame = field(default_factory=SHIFTS.empty)
    breaks: pl.DataFrame = field(default_factory=BREAKS.empty)
    entries: pl.DataFrame | None = None
    products: pl.DataFrame | None = None
    orders: pl.DataFrame | None = None
    equipment: pl.DataFrame | None = None
    state_map: pl.DataFrame = field(default_factory=DEFAULT_STATES.clone)
    reasons: pl.DataFrame = field(default_factory=REASONS.empty)


@dataclass(frozen=True)
class Plan:
    """Zone of the clock, when the study looks, the length below which a stop is minor, one ideal cycle for every product."""

    zone: str = "UTC"
    as_of: datetime | None = None
    micro_stop_s: float = 300.0
    pri_s: float | None = None


@dataclass(frozen=True)
class StateStudy:
    """OEE_ELEMENTS and STATE_INTERVAL of all dates, until when, and the rows that were refused or settled by a rule."""

    elements: pl.DataFrame
    intervals: pl.DataFrame
    as_of: datetime
    rejected: pl.DataFrame
    resolved: pl.DataFrame
    warnings: tuple[str, ...]


def state_study(tables: Tables, plan: Plan) -> StateStudy:
    """Compute the OEE elements of the tables as ``state_intervals`` and ``oee_elements`` do for the assets.

    Production dates are those on which shifts begin (local date). Without ``plan.as_of`` the study looks from the end of
    the shift that holds the newest instant of the tables, else from that instant. Shifts count that lie between the first
    and the last instant of the rows; a state that is still open touches every shift until ``as_of``. A unit without orders and
    with one product makes that product all the time; with several, time is on no product and parts on theirs, so that
    sums over a shift are right. Raises SiteError SPC-419 (no shift), SPC-420 (no date, no row left), SPC-421 (ideal cycle).
    """
    if plan.pri_s is not None and not 0 < plan.pri_s < float("inf"):
        raise SiteError(
            f"the ideal cycle is {plan.pri_s:g} s: a part takes more than 0 s. Give the planned run time per item in seconds.",
            code="SPC-421",
        )
    found = Findings()
    known = None if tables.equipment is None else tables.equipment["equipment_id"].drop_nulls().unique()
    span = told_span(tables.states, tables.counts, plan.as_of)
    states = judged_states(tables.states, known, tables.state_map["source_state"], plan.as_of, found, span)
    counts = judged_counts(tables.counts, known, plan.as_of, found, span)
    units = (known if known is not None else pl.concat([states["equipment_id"], counts["equipment_id"]]).unique()).sort()
    if units.is_empty() or (states.is_empty() and counts.is_empty()):
        raise SiteError(
            f"no row of states or counts is left to compute from; {found.summary()} Correct the rows that the reasons name.",
            code="SPC-420",
        )
    entries = judged_entries(tables.entries, units, plan.zone, found)
    shifts = pl.concat([tables.shifts, _occurrences(entries, plan.zone)])
    if shifts.is_empty():
        refused = "" if tables.entries is None or tables.entries.is_empty() else f" Rows refused: {found.summary()}"
        raise SiteError(
            "there is no shift, so no time in which the units were meant to run. Give the shifts, e.g. 06:00-14:00, or rows "
            f"of kind shift in the calendar.{refused}",
            code="SPC-419",
        )
    products = judged_products(tables.products, found)
    site = _site(tables, plan, units, shifts, entries, _products(products, counts, units, plan))
    reach = _range(site, plan, states, counts, entries)
    # a state may have begun as long before its last effect as the study is long
    carried = (reach.as_of - reach.since).days + 2
    site = _with_policies(site, Policies(micro_stop_s=plan.micro_stop_s, state_carry_days=carried))
    found.counts_without_states(counts, states)
    return _computed(site, states, counts, _orders(tables.orders, states, counts, reach.as_of), reach, found)


def _computed(
    site: Site,
    states: pl.DataFrame,
    counts: pl.DataFrame,
    orders: pl.DataFrame,
    span: _Range,
    found: Findings,
) -> StateStudy:
    as_of = span.as_of
    core_states = _core(EQUIPMENT_STATE, states)
    core_counts = _core(PRODUCTION_COUNT, counts)
    core_orders = _core(WORK_ORDER, orders)
    elements: list[pl.DataFrame] = []
    intervals: list[pl.DataFrame] = []
    placed: list[pl.DataFrame] = []
    for day in (span.first + timedelta(days=offset) for offset in range((span.last - span.first).days + 1)):
        pieces = state_intervals(core_states, core_orders, site, day, as_of)
        cells = oee_elements(pieces, core_counts, site, day, as_of)
        touched = (pl.col("end_at") > span.since) & (pl.col("start_at") < span.until)
        calendar = shift_calendar(site, day, day)
        started = calendar.filter(touched).join(shift_dates(site, day, day), on=["equipment_id", "shift_id", "production_date"])
        started = started.select("equipment_id", "shift_id", "begins_on")
        held = placed_counts(core_counts, site, day, as_of, calendar).join(started, on=["equipment_id", "shift_id"], how="semi")
        placed.append(held.select("record_id"))
        for frame, kept in ((cells, elements), (pieces, intervals)):
            dated = frame.join(started, on=["equipment_id", "shift_id"])
            kept.append(dated.with_columns(production_date=pl.col("begins_on")).drop("begins_on"))
    found.resolve("counts", counts.join(pl.concat(placed), on="record_id", how="anti"), "OUTSIDE_SHIFTS")
    made = OEE_ELEMENTS.conform(pl.concat(elements))
    pieces = STATE_INTERVAL.conform(pl.concat(intervals))
    found.outside_shifts(states, operation_time(site, span.first, span.last), as_of)
    warnings = _warnings(made)
    return StateStudy(made, pieces, as_of, found.rejected_rows(), found.resolved_rows(), warnings)


def _warnings(elements: pl.DataFrame) -> tuple[str, ...]:
    several = elements.group_by("equipment_id", "production_date", "shift_id").agg(
        untimed=((pl.col("pq") > 0) & (pl.col("pot_s") == 0)).any(),
        unnamed=(pl.col("material_definition_id").is_null() & (pl.col("pot_s") > 0)).any(),
    )
    split = several.filter("untimed", "unnamed").height
    if not split:
        return ()
    told = (
        f"{split} shifts of units made several products and no order says when which: their time stands under no product, "
        "so ratios by product are not defined; sums over shifts, units and dates are."
    )
    return (told,)


def _core(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a study as rows of a core table; lineage that a file does not have is empty."""
    filled = rows.with_columns(source_id=pl.lit("file"), revision=pl.lit(1))
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in table.schema.items() if name not in filled.columns}
    return table.conform(filled.with_columns(**missing))


def _site(
    tables: Tables, plan: Plan, units: pl.Series, shifts: pl.DataFrame, entries: pl.DataFrame, products: pl.DataFrame
) -> Site:
    plant = "(plant)"
    rows: list[tuple[str, str, str | None, str]] = [(plant, "site", None, "")]
    rows += [(LINE_OF + unit, "work_center", plant, "") for unit in units]
    rows += [(unit, "work_unit", LINE_OF + unit, "") for unit in units]
    downs = entries.filter(pl.col("kind") != "shift").select(
        entry_id=pl.int_range(pl.len()).cast(pl.String),
        equipment_id=pl.col("equipment_id").fill_null(plant),
        kind="kind",
        start_at="start_at",
        end_at="end_at",
        recorded_at=pl.coalesce("recorded_at", "start_at"),
        description=pl.lit(""),
    )
    frames = {name: table.empty() for name, table in SITE_TABLES.items()}
    frames |= {
        "equipment": pl.DataFrame(rows, schema=EQUIPMENT.schema, orient="row"),
        "states": STATES.conform(tables.state_map),
        "reasons": REASONS.conform(tables.reasons),
        "shifts": SHIFTS.conform(shifts),
        "breaks": BREAKS.conform(tables.breaks),
        "calendar": CALENDAR.conform(downs),
        "products": PRODUCTS.conform(products),
    }
    far = date(1970, 1, 1)
    return Site("study", "study", plan.zone, _day_start(shifts), far, None, Path(), frames, (), Policies())


def _with_policies(site: Site, policies: Policies) -> Site:
    head = (site.site_id, site.name, site.zone, site.day_start, site.first_production_date, site.last_production_date)
    return Site(*head, site.folder, site.tables, site.sources, policies)


def _minutes(column: str) -> pl.Expr:
    parts = pl.col(column).str.split(":")
    return parts.list.get(0).cast(pl.Int64) * 60 + parts.list.get(1).cast(pl.Int64)


def _day_start(shifts: pl.DataFrame) -> time:
    """Earliest start of a shift that no other shift spans, so that no shift is cut by the border of two dates."""
    clock = shifts.select(_from=_minutes("start_local"), _to=_minutes("end_local")).unique()
    clock = clock.with_columns(_length=(pl.col("_to") - pl.col("_from") - 1) % _DAY + 1)
    starts = clock.select(_at="_from").unique()
    cut = starts.join(clock, how="cross").with_columns(_into=(pl.col("_at") - pl.col("_from")) % _DAY)
    whole = cut.group_by("_at").agg(((pl.col("_into") > 0) & (pl.col("_into") < pl.col("_length"))).any().alias("_cut"))
    free = whole.filter(~pl.col("_cut"))["_at"].sort()
    if free.is_empty():
        raise SiteError(
            "the shifts span every minute at which one of them begins, so no production day begins between two shifts. "
            "Give shifts that leave one such minute, or study them apart.",
            code="SPC-419",
        )
    return time(int(free[0]) // 60, int(free[0]) % 60)


def _occurrences(entries: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Shifts that are written with their dates, each as a rule that is in force at its own start only."""
    local = {name: pl.col(name).dt.convert_time_zone(zone) for name in ("start_at", "end_at")}
    return SHIFTS.conform(
        entries.filter(pl.col("kind") == "shift").select(
            shift_id=pl.col("shift_id").fill_null("shift"),
            work_center_id=pl.when(pl.col("equipment_id").is_null())
            .then(pl.lit(ANY))
            .otherwise(pl.lit(LINE_OF) + pl.col("equipment_id")),
            start_local=local["start_at"].dt.strftime("%H:%M"),
            end_local=local["end_at"].dt.strftime("%H:%M"),
            weekdays=pl.lit("1234567"),
            effective_from=pl.col("start_at"),
            effective_to=pl.col("start_at") + pl.duration(microseconds=1),
        )
    )


def _products(products: pl.DataFrame, counts: pl.DataFrame, units: pl.Series, plan: Plan) -> pl.DataFrame:
    everywhere = pl.DataFrame({"equipment_id": units})
    if plan.pri_s is not None:
        made = counts.select("material_definition_id").drop_nulls().unique()
        return made.join(everywhere, how="cross").with_columns(
            pri_s=pl.lit(plan.pri_s), effective_from=pl.lit(_EPOCH).cast(UTC), effective_to=pl.lit(None, dtype=UTC)
        )
    general = products.filter(pl.col("equipment_id").is_null()).drop("equipment_id").join(everywhere, how="cross")
    own = products.filter(pl.col("equipment_id").is_not_null())
    general = general.join(own, on=["material_definition_id", "equipment_id"], how="anti")
    listed = pl.concat([own.select(PRODUCTS.names), general.select(PRODUCTS.names)])
    return listed.with_columns(pl.col("effective_from").fill_null(pl.lit(_EPOCH).cast(UTC)))


@dataclass(frozen=True)
class _Range:
    """Production dates, and the instants between which shifts count, of a study that looks from ``as_of``."""

    first: date
    last: date
    since: datetime
    until: datetime
    as_of: datetime


def _range(site: Site, plan: Plan, states: pl.DataFrame, counts: pl.DataFrame, entries: pl.DataFrame) -> _Range:
    """Find what the rows touch: from the first instant in them to the last; an open state touches all until as_of."""
    listed = entries.filter(pl.col("kind") == "shift")
    ends = pl.concat([states["end_at"], counts["counted_at"]])
    newest: datetime = pl.concat([states["start_at"], ends]).max()  # type: ignore[assignment]
    as_of = plan.as_of or max(
        [_end_of_shift(site, states["start_at"].max(), ends.max(), newest), *listed["end_at"].to_list()]  # type: ignore[arg-type]
    )
    last_ends = states.sort("start_at", "record_id").group_by("equipment_id").agg(pl.col("end_at").last())["end_at"]
    tick = timedelta(microseconds=1)
    until = as_of if last_ends.is_null().any() else min(newest + tick, as_of)
    until = max([until, *(min(at + tick, as_of) for at in listed["start_at"])])
    begun = pl.concat([states["start_at"], counts["counted_at"] - tick, listed["start_at"]])
    since: datetime = begun.min()  # type: ignore[assignment]
    days = pl.DataFrame({"at": [since, until]}, schema={"at": UTC}).select(site.production_date(pl.col("at"))).to_series()
    calendar = shift_calendar(site, days[0] - timedelta(days=1), days[1] + timedelta(days=1))
    touched = calendar.filter((pl.col("end_at") > since) & (pl.col("start_at") < until))["production_date"]
    if touched.is_empty():
        raise SiteError(
            f"no shift lies between {since:%Y-%m-%dT%H:%M:%SZ} and {until:%Y-%m-%dT%H:%M:%SZ}, where the rows are, so there "
            "is no planned time to compute from. Give the shifts of these dates; check the zone, as_of and the calendar's "
            "holidays.",
            code="SPC-419",
        )
    return _Range(touched.min(), touched.max(), since, until, as_of)  # type: ignore[arg-type]


def _end_of_shift(site: Site, begun: datetime | None, ended: datetime | None, newest: datetime) -> datetime:
    """End of the shift in which the last state began or the last thing ended; ``newest`` where no shift holds them."""
    day: date = pl.select(site.production_date(pl.lit(newest).cast(UTC))).item()
    shifts = shift_calendar(site, day - timedelta(days=1), day + timedelta(days=1))
    start, end = pl.col("start_at"), pl.col("end_at")
    # a state begins in the shift that begins with it, a part belongs to the shift that ends with it
    last = pl.lit(begun).cast(UTC), pl.lit(ended).cast(UTC)
    holds = ((start <= last[0]) & (last[0] < end)).fill_null(value=False) | ((start < last[1]) & (last[1] <= end)).fill_null(
        value=False
    )
    holding = shifts.filter(holds)["end_at"]
    return newest if holding.is_empty() else max(newest, holding.max())  # type: ignore[type-var, return-value]


def _orders(orders: pl.DataFrame | None, states: pl.DataFrame, counts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Which product each unit made when: from orders, else from the states' products, else from the only product counted."""
    columns = ["equipment_id", "material_definition_id", "start_at", "end_at"]
    following = pl.col("start_at").shift(-1).over("equipment_id", order_by="start_at")
    if orders is not None:
        rows = orders.select(columns)
    elif states["material_definition_id"].is_not_null().any():
        rows = states.sort("equipment_id", "start_at", "record_id").with_columns(end_at=pl.coalesce("end_at", following))
        rows = rows.filter(pl.col("material_definition_id").is_not_null()).select(columns)
    else:
        rows = (
            counts.group_by("equipment_id")
            .agg(pl.col("material_definition_id").unique())
            .filter(pl.col("material_definition_id").list.len() == 1)
            .select(
                "equipment_id",
                pl.col("material_definition_id").list.first(),
                start_at=pl.lit(_EPOCH).cast(UTC),
                end_at=pl.lit(as_of).cast(UTC),
            )
        )
    return rows.sort(columns).select(
        pl.int_range(pl.len()).cast(pl.String).str.zfill(9).alias("record_id"),
        job_order_id=pl.int_range(pl.len()).cast(pl.String).str.zfill(9),
        work_center_id=pl.lit(LINE_OF) + pl.col("equipment_id"),
        material_definition_id="material_definition_id",
        planned_quantity=pl.lit(0),
        start_at="start_at",
        end_at="end_at",
    )
