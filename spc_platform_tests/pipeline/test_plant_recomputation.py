"""Figures computed a second time from the landed pages with json, datetime and numpy only, and compared with the lake's.

Nothing of the platform computes here: it only hands over the bytes of the pages and the figures to be compared. What a
quality engineer would do with a calculator is written out; constants are integrals over the normal density.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from math import erf, gamma, pi, sqrt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from spc_platform_tests.pipeline.conftest import FOURTEEN_DATES, SITE, Finished

BERLIN = ZoneInfo("Europe/Berlin")
Record = dict[str, Any]
FACTORS = {("bar", "kPa"): 100.0, ("um", "mm"): 0.001, ("kN", "N"): 1000.0}
CLOSE = 1e-9


def table_of(file: str) -> list[dict[str, str]]:
    with (SITE / file).open(newline="") as text:
        return list(csv.DictReader(text))


CHARACTERISTICS = {row["characteristic_id"]: row for row in table_of("characteristics.csv")}


@pytest.fixture(scope="module")
def pages(finished: Finished) -> dict[str, list[Record]]:
    """Newest revision of every record by resource, deleted ones left out, from the bytes of the pages."""
    landing, ledger = finished.workspace.landing, finished.workspace.ledger
    newest: dict[str, dict[str, Record]] = defaultdict(dict)
    for table in ("raw_measurement", "raw_equipment_state", "raw_production_count", "raw_work_order"):
        digests = {(page.resource, page.sha256) for day in ledger.touched_dates() for page in ledger.pages(table, day)}
        for resource, digest in sorted(digests):
            for record in json.loads(landing.read(digest))["data"]:
                known = newest[resource].get(record["id"])
                if known is None or record["rev"] > known["rev"]:
                    newest[resource][record["id"]] = record
    return {resource: [each for each in records.values() if not each["deleted"]] for resource, records in newest.items()}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def production_date(at: datetime) -> date:
    return (at.astimezone(BERLIN).replace(tzinfo=None) - timedelta(hours=6)).date()


@pytest.fixture(scope="module")
def values(pages: dict[str, list[Record]]) -> dict[str, list[tuple[datetime, float, str, str | None]]]:
    """(measured_at, value, id, sample) of every usable measurement by characteristic, in time order."""
    found = defaultdict(list)
    for record in pages["measurements"]:
        rules = CHARACTERISTICS.get(record["characteristic"])
        has_zone = record["measured_at"].endswith("Z") or "+" in record["measured_at"]
        if rules is None or not has_zone or record["value"] is None or record["unit"] is None:
            continue
        value, unit = record["value"], record["unit"]
        if unit != rules["unit"]:
            if (unit, rules["unit"]) not in FACTORS:
                continue
            value *= FACTORS[unit, rules["unit"]]
        if float(rules["sensor_min"]) <= value <= float(rules["sensor_max"]):
            found[record["characteristic"]].append((moment(record["measured_at"]), value, record["id"], record["sample"]))
    return {name: sorted(rows, key=lambda row: (row[0], row[2])) for name, rows in found.items()}


def consecutive(rows: list[Any], size: int) -> Iterator[list[Any]]:
    """Subgroups of ``size`` in time order within a production date; the last of a date may be smaller."""
    by_date = defaultdict(list)
    for row in rows:
        by_date[production_date(row[0])].append(row)
    for day in sorted(by_date):
        for first in range(0, len(by_date[day]), size):
            yield by_date[day][first : first + size]


# --- constants of the normal distribution


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1.0 + erf(each / sqrt(2.0))) for each in x])


def d2_of(n: int) -> float:
    """Mean range of n standard normal values: the integral of 1 - (1 - F)^n - F^n."""
    x = np.linspace(-9.0, 9.0, 20_001)
    cdf = normal_cdf(x)
    return float(np.trapezoid(1.0 - (1.0 - cdf) ** n - cdf**n, x))


def d3_of(n: int) -> float:
    """Standard deviation of that range, from its second moment by the joint law of smallest and largest."""
    x = np.linspace(-8.0, 8.0, 1601)
    cdf, density, step = normal_cdf(x), np.exp(-x * x / 2) / sqrt(2 * pi), x[1] - x[0]
    spread = x[None, :] - x[:, None]
    between = np.clip(cdf[None, :] - cdf[:, None], 0.0, None)
    joint = n * (n - 1) * between ** (n - 2) * density[None, :] * density[:, None]
    return sqrt(float((spread**2 * joint)[spread > 0].sum() * step * step) - d2_of(n) ** 2)


def c4_of(n: int) -> float:
    return sqrt(2.0 / (n - 1)) * gamma(n / 2) / gamma((n - 1) / 2)


def test_the_constants_are_those_of_the_literature() -> None:
    """Montgomery, appendix VI, and DOMAIN oracles to ten digits."""
    assert d2_of(5) == pytest.approx(2.3259289473, rel=1e-9)
    assert d2_of(2) == pytest.approx(1.1283791671, rel=1e-9)
    assert d3_of(5) == pytest.approx(0.8640819411, rel=1e-6)
    assert c4_of(5) == pytest.approx(0.9399856030, rel=1e-9)


# --- limits


def limits_of(finished: Finished, characteristic: str) -> dict[str, Any]:
    return finished.workspace.lake.read("spc_limits").filter(characteristic_id=characteristic).row(0, named=True)


def test_limits_of_an_xbar_r_chart(finished: Finished, values: Any) -> None:
    subgroups = list(consecutive(values["A10.bore_diameter"], 5))[:25]
    assert {len(each) for each in subgroups} == {5}
    ranges = [max(row[1] for row in each) - min(row[1] for row in each) for each in subgroups]
    found = limits_of(finished, "A10.bore_diameter")
    assert found["mu"] == pytest.approx(np.mean([row[1] for each in subgroups for row in each]), rel=CLOSE)
    assert found["sigma"] == pytest.approx(np.mean(ranges) / d2_of(5), rel=CLOSE)
    assert (found["chart"], found["n_subgroups"], found["k"]) == ("xbar_r", 25, 3.0)
    assert found["baseline_from"] == subgroups[0][0][0]


def test_limits_of_an_xbar_s_chart(finished: Finished, values: Any) -> None:
    subgroups = list(consecutive(values["A20.press_force"], 6))[:25]
    assert {len(each) for each in subgroups} == {6}
    deviations = [np.std([row[1] for row in each], ddof=1) for each in subgroups]
    found = limits_of(finished, "A20.press_force")
    assert found["mu"] == pytest.approx(np.mean([row[1] for each in subgroups for row in each]), rel=CLOSE)
    assert found["sigma"] == pytest.approx(np.mean(deviations) / c4_of(6), rel=CLOSE)
    assert (found["chart"], found["n_subgroups"]) == ("xbar_s", 25)


def test_limits_of_an_i_mr_chart(finished: Finished, values: Any) -> None:
    individuals = np.array([row[1] for row in values["A20.press_depth"][:100]])
    found = limits_of(finished, "A20.press_depth")
    assert found["mu"] == pytest.approx(individuals.mean(), rel=CLOSE)
    assert found["sigma"] == pytest.approx(np.abs(np.diff(individuals)).mean() * sqrt(pi) / 2.0, rel=CLOSE)
    assert (found["chart"], found["n_subgroups"]) == ("i_mr", 100)


# --- subgroups, points, violations


@pytest.mark.parametrize("name", ["A10.bore_diameter", "A20.press_force", "B30.fill_time"])
def test_every_mean_range_and_deviation_of_a_chart(finished: Finished, values: Any, name: str) -> None:
    size = int(CHARACTERISTICS[name]["subgroup_size"])
    mine = [
        [row[1] for row in each] for each in consecutive(values[name], size) if production_date(each[0][0]) in FOURTEEN_DATES
    ]
    table = finished.table("spc_subgroups").filter(characteristic_id=name).sort("subgroup_at", "subgroup_id")
    assert table["n_observed"].to_list() == [len(each) for each in mine]
    assert len(mine) > 500
    np.testing.assert_allclose(table["mean"].to_numpy(), [np.mean(each) for each in mine], rtol=CLOSE)
    np.testing.assert_allclose(table["range"].fill_null(0.0).to_numpy(), [max(each) - min(each) for each in mine], rtol=CLOSE)
    deviations = [np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in mine]
    np.testing.assert_allclose(table["s"].fill_null(0.0).to_numpy(), deviations, rtol=1e-7, atol=1e-12)


def test_subgroups_by_the_key_that_the_source_gives(finished: Finished, values: Any) -> None:
    mine: dict[Any, list[float]] = defaultdict(list)
    for at, value, _, sample in values["A30.hole_pitch"]:
        if production_date(at) in FOURTEEN_DATES:
            mine[production_date(at), sample].append(value)
    table = finished.table("spc_subgroups").filter(characteristic_id="A30.hole_pitch")
    assert len(mine) > 500
    assert sorted(table["n_observed"]) == sorted(len(each) for each in mine.values())
    np.testing.assert_allclose(
        np.sort(table["mean"].to_numpy()), np.sort([np.mean(each) for each in mine.values()]), rtol=CLOSE
    )


def test_the_points_beyond_the_limits_of_one_day(finished: Finished, values: Any) -> None:
    """2026-03-25, on which A10.bore_diameter was 3 sigma too large from 09:20 to 13:00."""
    day = date(2026, 3, 25)
    subgroups = list(consecutive(values["A10.bore_diameter"], 5))
    baseline = subgroups[:25]
    mu = np.mean([row[1] for each in baseline for row in each])
    sigma = np.mean([max(row[1] for row in each) - min(row[1] for row in each) for each in baseline]) / d2_of(5)
    beyond = {
        each[0][0]: (np.mean([row[1] for row in each]) - mu) / (sigma / sqrt(len(each)))
        for each in subgroups
        if production_date(each[0][0]) == day and abs(np.mean([row[1] for row in each]) - mu) > 3 * sigma / sqrt(len(each))
    }
    assert len(beyond) >= 7
    violations = finished.table("spc_violations").filter(
        (pl.col("characteristic_id") == "A10.bore_diameter")
        & (pl.col("production_date") == day)
        & (pl.col("panel") == "location")
        & (pl.col("rule") == "western_electric_1")
    )
    assert violations["subgroup_at"].to_list() == sorted(beyond)
    np.testing.assert_allclose(violations["z"].to_numpy(), [beyond[at] for at in sorted(beyond)], rtol=1e-8)


# --- capability


def test_capability_of_one_characteristic(finished: Finished, values: Any) -> None:
    """B30.fill_time, 2.2 to 2.6 s, X-bar and R with n = 4; unequal n enter R-bar by their own (d2 / d3)^2 and d2."""
    subgroups = [
        [row[1] for row in each]
        for each in consecutive(values["B30.fill_time"], 4)
        if production_date(each[0][0]) in FOURTEEN_DATES
    ]
    every = np.array([value for each in subgroups for value in each])
    weights = {n: (d2_of(n) / d3_of(n)) ** 2 for n in {len(each) for each in subgroups} if n > 1}
    weighted = [(weights[len(each)], (max(each) - min(each)) / d2_of(len(each))) for each in subgroups if len(each) > 1]
    within = sum(weight * sigma for weight, sigma in weighted) / sum(weight for weight, _ in weighted)
    overall = every.std(ddof=1)
    nearer = min(2.6 - every.mean(), every.mean() - 2.2)
    found = finished.workspace.lake.read("spc_capability").filter(characteristic_id="B30.fill_time").row(0, named=True)
    assert found["n_observed"] == len(every)
    assert found["mean"] == pytest.approx(every.mean(), rel=CLOSE)
    assert found["pp"] == pytest.approx(0.4 / (6 * overall), rel=CLOSE)
    assert found["ppk"] == pytest.approx(nearer / (3 * overall), rel=CLOSE)
    # d3 above is a sum over a grid, good to 1e-7, and only weighs the few subgroups of another size
    assert found["cp"] == pytest.approx(0.4 / (6 * within), rel=1e-8)
    assert found["cpk"] == pytest.approx(nearer / (3 * within), rel=1e-8)


# --- OEE and calendar


def local(day: date, clock: str) -> datetime:
    """The instant of a wall-clock time within a production date."""
    at = time.fromisoformat(clock)
    return datetime.combine(day + timedelta(days=at.hour < 6), at, tzinfo=BERLIN).astimezone(UTC)


def seconds_within(start: datetime, end: datetime, first: datetime, last: datetime) -> int:
    return max(0, round((min(end, last) - max(start, first)).total_seconds()))


@pytest.mark.parametrize(("unit", "line", "day", "shift"), [
    ("B10", "line_b", date(2026, 3, 26), "early"),
    ("A40", "line_a", date(2026, 3, 28), "night"),
    ("A10", "line_a", date(2026, 3, 31), "late"),
])  # fmt: skip
def test_oee_of_one_work_unit_and_shift(
    finished: Finished, pages: dict[str, list[Record]], unit: str, line: str, day: date, shift: str
) -> None:
    """Every second of the shift is put into its element by hand: breaks and calendar, then the state in force.

    With planned maintenance recorded in time (B10, A10), and the night in which the clock changes (A40).
    """
    (rule,) = [row for row in table_of("shifts.csv") if row["shift_id"] == shift and row["work_center_id"] == line]
    start, end = local(day, rule["start_local"]), local(day + timedelta(days=rule["end_local"] == "06:00"), rule["end_local"])
    if rule["end_local"] == "06:00":
        end = datetime.combine(day + timedelta(days=1), time(6), tzinfo=BERLIN).astimezone(UTC)
    length = round((end - start).total_seconds())
    planned = np.zeros(length, dtype=bool)
    for row in table_of("breaks.csv"):
        if row["shift_id"] == shift and row["work_center_id"] in ("*", line):
            planned[offset(local(day, row["start_local"]), start) : offset(local(day, row["end_local"]), start)] = True
    for row in table_of("calendar.csv"):
        if row["equipment_id"] in (unit, line):
            begins, ends, known = (
                moment(row[name]).replace(tzinfo=BERLIN).astimezone(UTC) for name in ("start_at", "end_at", "recorded_at")
            )
            planned[offset(max(begins, known), start) : max(offset(ends, start), 0)] = True
    state = np.full(length, "", dtype=object)
    for record in sorted(pages["equipment-states"], key=lambda each: each["start"]):
        if record["station"] == unit and record["end"] is not None:
            state[offset(moment(record["start"]), start) : max(offset(moment(record["end"]), start), 0)] = record["state"]
    expected = {"pot_s": length, "pdt_s": int(planned.sum())} | {
        column: int(((state == name) & ~planned).sum())
        for column, name in (("apt_s", "RUN"), ("aust_s", "SETUP"), ("adet_s", "STOP"), ("adot_s", "IDLE"), ("unknown_s", ""))
    }
    for column, name in (("gq", "good"), ("sq", "scrap"), ("rq", "rework")):
        expected[column] = sum(
            record[name]
            for record in pages["production-counts"]
            if record["station"] == unit and start <= moment(record["counted_at"]) < end
        )
    expected["pq"] = expected["gq"] + expected["sq"] + expected["rq"]
    found = finished.table("oee_elements").filter(equipment_id=unit, production_date=day, shift_id=shift)
    assert expected["apt_s"] > 3600
    assert expected["gq"] > 100
    assert {name: found[name].sum() for name in expected} == expected
    ideal = {row["material_definition_id"]: row["pri_s"] for row in found.iter_rows(named=True)}
    products = {
        each["product"]
        for each in pages["production-counts"]
        if each["station"] == unit and start <= moment(each["counted_at"]) < end
    }
    good_seconds = sum(ideal[product] * _good(pages, unit, product, start, end) for product in products)
    oee = good_seconds / (expected["pot_s"] - expected["pdt_s"])
    assert 0.3 < oee < 1.0
    assert (found["pri_s"].fill_null(0.0) * found["gq"]).sum() / found["pbt_s"].sum() == pytest.approx(oee, rel=CLOSE)


def _good(pages: dict[str, list[Record]], unit: str, product: str, start: datetime, end: datetime) -> int:
    return sum(
        record["good"]
        for record in pages["production-counts"]
        if record["station"] == unit and record["product"] == product and start <= moment(record["counted_at"]) < end
    )


def offset(at: datetime, start: datetime) -> int:
    """Whole seconds after the start of the shift; not before it."""
    return max(0, round((at - start).total_seconds()))


def test_the_night_of_the_clock_change_is_recomputed_as_seven_hours() -> None:
    start, end = local(date(2026, 3, 28), "22:00"), datetime(2026, 3, 29, 6, tzinfo=BERLIN).astimezone(UTC)
    assert (end - start).total_seconds() == 7 * 3600


def test_counts_of_the_landed_records(finished: Finished, pages: dict[str, list[Record]]) -> None:
    names = {"equipment-states": "equipment_state", "production-counts": "production_count", "work-orders": "work_order"}
    event = {"equipment-states": "start", "production-counts": "counted_at", "work-orders": "start"}
    for resource, table in names.items():
        mine: dict[date, int] = defaultdict(int)
        for record in pages[resource]:
            mine[production_date(moment(record[event[resource]]))] += 1
        for day in FOURTEEN_DATES:
            assert finished.workspace.lake.read(table, day).height == mine[day], (table, day)
