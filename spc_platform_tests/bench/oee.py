"""A month of OEE: state events of 200 work units to elements, day by day, beside DuckDB SQL with interval joins."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from spc_platform.contracts.core import EQUIPMENT_STATE, PRODUCTION_COUNT, WORK_ORDER
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.production.oee import oee_elements
from spc_platform.production.states import state_intervals
from spc_platform.site.model import Policies, Site
from spc_platform_tests.bench.folders import scratch
from spc_platform_tests.bench.result import Figures, Result, forget_peak_mb, number, peak_mb, side_by_side

UNITS, LINES, DAYS, EVENTS = 200, 20, 30, 50_000
FIRST = date(2026, 3, 2)
STATES = [("RUN", "RUN", "APT", 10), ("STOP", "STOP", "ADET", 30), ("IDLE", "IDLE", "ADOT", 5), ("SETUP", "SETUP", "AUST", 20)]
SHIFTS = [("early", "06:00", "14:00"), ("late", "14:00", "22:00"), ("night", "22:00", "06:00")]
AS_OF = datetime.combine(FIRST + timedelta(days=DAYS), time(6), tzinfo=UTC)


@cache
def plant() -> Site:
    """200 work units on 20 lines, three shifts, a break in each, one product."""
    lines = [f"line{line:02}" for line in range(LINES)]
    units = [(f"unit{unit:03}", lines[unit % LINES]) for unit in range(UNITS)]
    equipment = [("plant", "site", None, ""), *((line, "work_center", "plant", "") for line in lines)]
    equipment += [(unit, "work_unit", line, "") for unit, line in units]
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    rows = {
        "equipment": equipment,
        "states": STATES,
        "shifts": [(name, "*", start, end, "1234567", None, None) for name, start, end in SHIFTS],
        "breaks": [
            ("early", "*", "10:00", "10:30", ""),
            ("late", "*", "18:00", "18:30", ""),
            ("night", "*", "02:00", "02:30", ""),
        ],
        "products": [("shaft", unit, 30.0, long_ago, None) for unit, _ in units],
    }
    tables = {
        name: pl.DataFrame(rows[name], schema=table.schema, orient="row") if name in rows else table.empty()
        for name, table in SITE_TABLES.items()
    }
    return Site("bench", "bench", "UTC", time(6), FIRST, None, Path(), tables, (), Policies(state_carry_days=1))


def _core(table, frame: pl.DataFrame) -> pl.DataFrame:
    filled = frame.with_columns(source_id=pl.lit("mes"), revision=pl.lit(1))
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in table.schema.items() if name not in filled.columns}
    return table.conform(filled.with_columns(**missing))


def _day(day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    random = np.random.default_rng(day.toordinal())
    start = datetime.combine(day, time(6), tzinfo=UTC)
    after = np.sort(random.integers(0, 86_400_000_000, EVENTS))
    unit = random.integers(0, UNITS, EVENTS)
    state = random.choice([name for name, *_ in STATES], EVENTS, p=[0.5, 0.3, 0.1, 0.1])
    # every fifth event says its own end and overlaps what follows
    length = np.where(random.random(EVENTS) < 0.2, random.integers(1, 1_200_000_000, EVENTS), -1)
    at = pl.lit(start).cast(UTC_DTYPE) + pl.duration(microseconds=pl.col("after"))
    states = pl.DataFrame({"after": after, "unit": unit, "state": state, "length": length}).select(
        equipment_id=pl.lit("unit") + pl.col("unit").cast(pl.String).str.zfill(3),
        state="state",
        start_at=at,
        end_at=pl.when(pl.col("length") > 0).then(at + pl.duration(microseconds="length")),
        record_id=pl.lit(day.isoformat()) + pl.int_range(pl.len()).cast(pl.String).str.zfill(6),
        production_date=pl.lit(day),
    )
    counts = pl.DataFrame({"unit": np.repeat(np.arange(UNITS), 24), "hour": np.tile(np.arange(24), UNITS)}).select(
        equipment_id=pl.lit("unit") + pl.col("unit").cast(pl.String).str.zfill(3),
        material_definition_id=pl.lit("shaft"),
        counted_at=pl.lit(start).cast(UTC_DTYPE) + pl.duration(hours="hour", minutes=30),
        good_quantity=pl.lit(50),
        scrap_quantity=pl.lit(2),
        rework_quantity=pl.lit(1),
        record_id=pl.lit(day.isoformat()) + pl.int_range(pl.len()).cast(pl.String).str.zfill(6),
        production_date=pl.lit(day),
    )
    return _core(EQUIPMENT_STATE, states), _core(PRODUCTION_COUNT, counts)


@cache
def month() -> Path:
    """One file of states and one of counts for every day."""
    folder = scratch("oee-month")
    folder.mkdir()
    for day in days():
        states, counts = _day(day)
        states.write_parquet(folder / f"states-{day}.parquet")
        counts.write_parquet(folder / f"counts-{day}.parquet")
    return folder


def days(count: int = DAYS) -> list[date]:
    return [FIRST + timedelta(days=offset) for offset in range(count)]


@cache
def orders() -> pl.DataFrame:
    rows = pl.DataFrame({"work_center_id": [f"line{line:02}" for line in range(LINES)]})
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    return _core(
        WORK_ORDER,
        rows.with_columns(
            record_id="work_center_id",
            job_order_id="work_center_id",
            material_definition_id=pl.lit("shaft"),
            planned_quantity=pl.lit(1),
            start_at=pl.lit(begun),
        ),
    )


def platform(count: int = DAYS) -> pl.DataFrame:
    """Elements of every day as the assets make them: the day, the one before it and the one after it are in memory."""
    folder, site = month(), plant()
    made = []
    for day in days(count):
        states = pl.concat([pl.read_parquet(path) for path in _near(day)])
        pieces = state_intervals(states, orders(), site, day, AS_OF)
        made.append(oee_elements(pieces, pl.read_parquet(folder / f"counts-{day}.parquet"), site, day, AS_OF))
    return pl.concat(made)


SQL = """
with state as (select * from read_parquet({states})
), follower as (
    select equipment_id, start_at, lead(start_at) over (partition by equipment_id order by start_at) follows
    from (select distinct equipment_id, start_at from state)
), event as (
    select equipment_id unit, state, start_at s, record_id, coalesce(end_at, follows, timestamptz '{as_of}') e
    from state join follower using (equipment_id, start_at)
), ranked as (
    select event.*, least(e, timestamptz '{as_of}') f, epoch_us(least(e, timestamptz '{as_of}')) - epoch_us(s) len, m.element,
           row_number() over (order by m.priority, s, record_id) rank
    from event join (values {meanings}) m(state, element, priority) using (state) where e > s
), cal as (
    select unit, d, shift, d::timestamp + h * interval 1 hour s, d::timestamp + (h + 8) * interval 1 hour e
    from (select distinct unit from event),
         (select date '{day}' d),
         (values ('early', 6), ('late', 14), ('night', 22)) x(shift, h)
), pause as (select unit, d, shift, s + interval 4 hour s, s + interval 270 minute e from cal
), edge as (
    select unit, s at time zone 'UTC' t from ranked union select unit, f at time zone 'UTC' from ranked
    union select unit, s from cal union select unit, e from cal
    union select unit, s from pause union select unit, e from pause
), piece as (select unit, t s, lead(t) over (partition by unit order by t) e from edge
), placed as (
    select p.unit, p.s, p.e, c.d, c.shift, (b.s is not null) planned
    from piece p join cal c on c.unit = p.unit and p.s >= c.s and p.s < c.e
         left join pause b on b.unit = p.unit and p.s >= b.s and p.s < b.e
), judged as (
    select p.unit, p.d, p.shift, p.s, p.e, p.planned, max(r.rank) rank
    from placed p left join ranked r on r.unit = p.unit and r.s at time zone 'UTC' <= p.s and r.f at time zone 'UTC' > p.s
    group by all
), timed as (
    select j.unit, j.d, j.shift, epoch_us(j.e) - epoch_us(j.s) us,
           case when j.planned then 'PDT' else coalesce(r.element, 'UNKNOWN') end element, r.len
    from judged j left join ranked r using (rank)
), made as (
    select c.equipment_id unit, cal.d, cal.shift, sum(good_quantity) gq,
           sum(good_quantity + scrap_quantity + rework_quantity) pq
    from read_parquet('{counts}') c join cal on cal.unit = c.equipment_id
         and c.counted_at at time zone 'UTC' > cal.s and c.counted_at at time zone 'UTC' <= cal.e
    group by all
)
select t.unit, t.d, t.shift, sum(us) / 1e6 pot_s, sum(us) filter (element = 'APT') / 1e6 apt_s,
       sum(us) filter (element = 'ADET') / 1e6 adet_s,
       sum(us) filter (element = 'ADET' and len < 300e6) / 1e6 minor_stop_s,
       sum(us) filter (element = 'UNKNOWN') / 1e6 unknown_s, any_value(pq) pq, any_value(gq) gq
from timed t left join made using (unit, d, shift) group by t.unit, t.d, t.shift
"""


def _near(day: date) -> list[Path]:
    """The files of states of the day, of the one before it and of the one after it."""
    paths = (month() / f"states-{day + timedelta(days=offset)}.parquet" for offset in (-1, 0, 1))
    return [path for path in paths if path.exists()]


def in_sql(count: int = DAYS) -> pl.DataFrame:
    """The same elements from the same files, day by day: pieces between edges, joined to the events that cover them."""
    meanings = ", ".join(f"('{state}', '{element}', {priority})" for _, state, element, priority in STATES)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        made = []
        for day in days(count):
            files = [str(path) for path in _near(day)]
            counts = month() / f"counts-{day}.parquet"
            query = SQL.format(states=files, counts=counts, as_of=AS_OF.isoformat(), day=day, meanings=meanings)
            made.append(connection.sql(query).pl())
    return pl.concat(made)


def agree() -> bool:
    """Whether both give the same seconds and counts for every unit, date and shift."""
    named = {"equipment_id": "unit", "production_date": "d", "shift_id": "shift"}
    columns = ("pot_s", "apt_s", "adet_s", "minor_stop_s", "unknown_s", "pq", "gq")
    ours = platform().rename(named).select(*named.values(), *columns).sort("unit", "d", "shift")
    theirs = in_sql().select(*named.values(), *columns).sort("unit", "d", "shift")
    if ours.height != theirs.height:
        return False
    apart = [(ours[name].cast(pl.Float64) - theirs[name].cast(pl.Float64).fill_null(0.0)).abs().max() for name in columns]
    return all(isinstance(gap, float) and gap < 1e-6 for gap in apart)


def peak(count: int) -> float:
    """Peak memory in MB above what the program held, of that many days."""
    before = forget_peak_mb()
    platform(count)
    return peak_mb() - before


def bench() -> Result:
    month()
    same = agree()
    taken = side_by_side({"spc_platform, day by day": platform, "DuckDB SQL, day by day": in_sql}, repetitions=1)
    peak(1)
    memory = [(f"{count} days", number(peak(count))) for count in (3, 10, DAYS)]
    ours, theirs = taken.values()
    return Result(
        "OEE of a month",
        f"{UNITS} work units, {DAYS} days of {EVENTS:,} state events, three shifts with breaks, overlaps by priority; from "
        "Parquet to time elements and counts of every unit, date and shift.",
        [
            Figures("Seconds", ("way", "wall", "cpu"), [(name, *timing.columns) for name, timing in taken.items()]),
            Figures("Memory above the start, MB", ("of", "peak"), memory),
        ],
        f"Both give the same figures: {same}. {theirs.wall / ours.wall:.1f} times the speed of the query.",
    )
