"""Laws of sums, losses and flow over states and counts of any kind, against minute-by-minute brute force."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from spc_platform.contracts.performance import RATIOS
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.production.flow import bottlenecks, flow_intervals, neighbours
from spc_platform.production.losses import LOSS_COLUMNS, oee_losses, scrap_reasons, six_losses
from spc_platform.production.oee import oee_elements
from spc_platform.production.rollup import oee_rollup
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, REASONS, counts, orders, site, states, utc

DAY = date(2026, 3, 28)  # its night shift loses an hour in Berlin
DAWN = utc(2026, 3, 28, 5)
AFTER = utc(2026, 4, 1)
PLANT = site(
    "Europe/Berlin",
    shifts=[EARLY, LATE, NIGHT],
    breaks=[("early", "*", "09:00", "09:20", "")],
    reasons=[*REASONS, ("adjust", "", None, "setup_and_adjustment"), ("warm_up", "", None, "reduced_yield")],
    products=[("shaft", "CNC", 45.1, utc(2026, 1, 1), None), ("gear", "CNC", 0.7, utc(2026, 1, 1), None)],
)
ORDERS = orders(
    ("A", "shaft", DAWN), ("B", "gear", DAWN + timedelta(minutes=300)), ("C", "shaft", DAWN + timedelta(minutes=700))
)
minute = st.integers(-100, 1400)
event = st.tuples(
    st.sampled_from(["RUN", "SETUP", "STOP", "IDLE"]),
    minute,
    st.integers(1, 400),
    st.sampled_from([None, "jam", "tool", "adjust"]),
)
made = st.tuples(
    st.sampled_from(["shaft", "gear"]),
    minute,
    st.integers(0, 999),
    st.integers(0, 99),
    st.integers(0, 99),
    st.sampled_from([None, "warm_up"]),
)
few = settings(max_examples=25, deadline=None)


def recorded(drawn: list[tuple[Any, ...]], produced: list[tuple[Any, ...]], seed: int):
    rows = [
        (state, DAWN + timedelta(minutes=at), DAWN + timedelta(minutes=at + length), why) for state, at, length, why in drawn
    ]
    records = states(*rows)
    parts = counts(*((row[0], DAWN + timedelta(minutes=row[1]), *row[2:5]) for row in produced)).with_columns(
        reason_code=pl.Series([row[5] for row in produced], dtype=pl.String)
    )
    records, parts = (frame.sample(fraction=1, shuffle=True, seed=seed) for frame in (records, parts))
    intervals = state_intervals(records, ORDERS, PLANT, DAY, AFTER)
    elements = oee_elements(intervals, parts, PLANT, DAY, AFTER)
    return intervals, elements, scrap_reasons(parts, elements, PLANT, DAY, AFTER)


def micro(value: float) -> int:
    exact = Fraction(value) * 1_000_000
    assert abs(exact - round(exact)) < Fraction(1, 1000), "seconds that are no whole microseconds"
    return round(exact)


@few
@given(st.lists(event, max_size=12), st.lists(made, max_size=6))
def test_losses_and_value_adding_time_share_out_the_planned_busy_time_to_the_microsecond(drawn, produced):
    intervals, elements, scrap = recorded(drawn, produced, 1)
    losses = oee_losses(elements, intervals, scrap, PLANT)
    for frame in (losses, six_losses(losses, ["equipment_id"]), six_losses(losses, [])):
        for row in frame.iter_rows(named=True):
            assert micro(row["pbt_s"]) == micro(row["value_adding_s"]) + sum(micro(row[name]) for name in LOSS_COLUMNS)
    again = oee_losses(*(frame.sample(fraction=1, shuffle=True, seed=8) for frame in (elements, intervals, scrap)), PLANT)
    assert again.equals(losses)


@few
@given(st.lists(event, max_size=12), st.lists(made, max_size=6))
def test_every_way_of_rolling_up_sums_to_the_same_whole_in_exact_fractions(drawn, produced):
    _, elements, _ = recorded(drawn, produced, 2)
    found = oee_rollup(elements, PLANT)
    assert oee_rollup(elements.sample(fraction=1, shuffle=True, seed=3), PLANT).equals(found)
    for key, rows in found.group_by("equipment_level", "period", "scope"):
        for name in ("pot_s", "pbt_s", "apt_s", "aubt_s", "minor_stop_s"):
            whole = elements.select(
                apt_s="apt_s",
                pot_s="pot_s",
                pbt_s="pbt_s",
                minor_stop_s="minor_stop_s",
                aubt_s=pl.col("apt_s") + pl.col("aust_s") + pl.col("adet_s"),
            )
            assert sum(map(micro, rows[name])) == sum(map(micro, whole[name])), (key, name)
        assert rows["pq"].sum() == elements["pq"].sum()
    day = found.filter(equipment_level="site", period="day", scope="all").row(0, named=True)
    price = {"shaft": Fraction("45.1"), "gear": Fraction("0.7"), None: Fraction(0)}
    rows = list(elements.iter_rows(named=True))
    good = sum(price[row["material_definition_id"]] * row["gq"] for row in rows)
    pbt = sum(Fraction(micro(row["pbt_s"]), 1_000_000) for row in rows)
    if day["oee"] is not None:
        assert abs(Fraction(day["oee"]) - good / pbt) <= Fraction(1, 10**12) * max(good / pbt, 1)
    assert {column.name for column in RATIOS} <= set(found.columns)


piece = st.tuples(st.integers(1, 9), st.sampled_from(["APT", "AUST", "ADET", "ADOT", "PDT"]))
line = st.lists(st.lists(piece, min_size=1, max_size=8), min_size=3, max_size=3)


def timelines(drawn: list[list[tuple[int, str]]]) -> tuple[pl.DataFrame, list[list[str]]]:
    """State intervals of M1, M2, M3 from consecutive pieces, and what each unit did minute by minute."""
    rows, by_minute = [], []
    for number, pieces in enumerate(drawn, 1):
        now, did = 0, []
        for length, element in pieces:
            rows.append(
                {
                    **dict.fromkeys(STATE_INTERVAL.names),
                    "equipment_id": f"M{number}",
                    "work_center_id": "M",
                    "shift_id": "early",
                }
                | {"time_element": element, "state": "x", "production_date": DAY}
                | {"start_at": DAWN + timedelta(minutes=now), "end_at": DAWN + timedelta(minutes=now + length)}
            )
            did += [element] * length
            now += length
        by_minute.append(did)
    return pl.DataFrame(rows, schema=STATE_INTERVAL.schema), by_minute


@few
@given(line)
def test_idle_minutes_are_explained_as_asking_every_neighbour_every_minute_would(drawn):
    frame, did = timelines(drawn)
    pairs = neighbours(
        pl.DataFrame({"material_definition_id": ["p"] * 3, "sequence": [1, 2, 3], "equipment_id": ["M1", "M2", "M3"]})
    )
    expected: Counter[tuple[str, str]] = Counter()
    for unit, elements in enumerate(did):
        for now, element in enumerate(elements):
            if element != "ADOT":
                continue
            down = {
                side: 0 <= unit + side < 3 and now < len(did[unit + side]) and did[unit + side][now] in ("ADET", "AUST")
                for side in (-1, 1)
            }
            words = [word for side, word in ((-1, "starved"), (1, "blocked")) if down[side]]
            expected[f"M{unit + 1}", "_and_".join(words) or "idle"] += 60
    found = flow_intervals(frame.sample(fraction=1, shuffle=True, seed=5), pairs)
    sums = found.group_by("equipment_id", "flow_state").agg(pl.col("duration_s").sum())
    assert {(unit, state): seconds for unit, state, seconds in sums.rows()} == dict(expected)


@few
@given(line)
def test_bottleneck_minutes_are_those_of_roser_counted_minute_by_minute(drawn):
    frame, did = timelines(drawn)
    periods = []
    for unit, elements in enumerate(did):
        start = None
        for now, element in enumerate([*elements, "ADOT"]):
            active = element in ("APT", "AUST", "ADET")
            if active and start is None:
                start = now
            if not active and start is not None:
                periods.append((now - start, -unit, start, now))
                start = None
    horizon = max(map(len, did))
    longest = [max((p for p in periods if p[2] <= now < p[3]), default=None) for now in range(horizon)]
    ever = {p for p in longest if p}
    expected = {f"M{unit + 1}": [0, 0, 0] for unit in range(3)}
    for now in range(horizon):
        held = [p for p in ever if p[2] <= now < p[3]]
        if longest[now]:
            expected[f"M{1 - longest[now][1]}"][0] += 60
        for p in held:
            expected[f"M{1 - p[1]}"][1 if len(held) == 1 else 2] += 60
    found = bottlenecks(frame.sample(fraction=1, shuffle=True, seed=6))
    assert {
        row[0]: list(row[1:]) for row in found.select("equipment_id", "momentary_s", "sole_s", "shifting_s").rows()
    } == expected
