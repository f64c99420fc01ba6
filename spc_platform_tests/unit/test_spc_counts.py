"""Counted subgroups of a plant: shifts, events, and their way through limits and judgement."""

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.core import PRODUCTION_COUNT
from spc_platform.contracts.spc import SPC_LIMITS, SPC_SUBGROUPS
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.counts import form_count_subgroups, samples
from spc_platform.spc.limits import approve_baselines
from spc_platform.spc.points import judge
from spc_platform_tests.unit.spc_frames import DAY, START, make_site

P_CHART = {"chart": "p", "subgrouping": "shift", "counted": "scrap", "estimator": "binomial", "rule_set": "nelson"}
G_CHART = {"chart": "g", "subgrouping": "event", "counted": "scrap", "estimator": "geometric", "rule_set": "nelson"}


def counted(*rows, unit="L1-S1", start=START):
    """PRODUCTION_COUNT from (hours after start, good, scrap, rework, shift)."""
    filled = [
        {
            **dict.fromkeys(PRODUCTION_COUNT.names),
            "source_id": "mes",
            "record_id": f"{unit}-{(start - START).days}-{number:04d}",
            "revision": 1,
            "page_sha256": "0",
            "page_row": number,
            "production_date": start.date(),
            "equipment_id": unit,
            "counted_at": start + timedelta(hours=hours),
            "good_quantity": good,
            "scrap_quantity": scrap,
            "rework_quantity": rework,
            "shift_id": shift,
        }
        for number, (hours, good, scrap, rework, shift) in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=PRODUCTION_COUNT.schema)


MORNING = [(0, 40, 2, 1, "early"), (1, 50, 0, 3, "early"), (8, 30, 1, 0, "late"), (9, 0, 0, 0, "late")]


@pytest.mark.parametrize(("what", "found"), [("scrap", [2.0, 1.0]), ("rework", [4.0, 0.0]), ("nonconforming", [6.0, 1.0])])
def test_a_shift_is_a_subgroup_of_all_parts_made(what, found):
    frame = form_count_subgroups(counted(*MORNING), make_site({**P_CHART, "counted": what}))
    assert frame["size"].to_list() == [96.0, 31.0]
    assert frame["n_observed"].to_list() == [96, 31]
    assert frame["count"].to_list() == found
    assert frame["shift_id"].to_list() == ["early", "late"]
    assert frame["subgroup_at"].to_list() == [START, START + timedelta(hours=8)]
    assert frame["subgroup_end_at"].to_list() == [START + timedelta(hours=1), START + timedelta(hours=9)]


def test_a_shift_without_parts_has_no_subgroup():
    frame = form_count_subgroups(counted((0, 10, 1, 0, "early"), (8, 0, 0, 0, "late")), make_site(P_CHART))
    assert frame["shift_id"].to_list() == ["early"]


def test_counts_outside_every_shift_keep_together():
    frame = form_count_subgroups(counted((0, 10, 1, 0, None), (1, 20, 0, 0, None)), make_site(P_CHART))
    assert frame["size"].to_list() == [31.0]
    assert frame["shift_id"].to_list() == [None]


def test_units_without_a_count_chart_form_nothing():
    assert form_count_subgroups(counted(*MORNING, unit="L1-S2"), make_site(P_CHART)).is_empty()
    assert form_count_subgroups(counted(*MORNING), make_site()).is_empty()
    assert form_count_subgroups(counted(), make_site(P_CHART)).is_empty()


def test_good_parts_between_two_events():
    """A record with scrap ends an interval; the good parts of the same record lie before its scrap."""
    rows = [
        (0, 40, 0, 0, "early"),
        (1, 10, 1, 0, "early"),
        (2, 7, 2, 0, "early"),
        (3, 0, 1, 0, "early"),
        (4, 99, 0, 0, "early"),
    ]
    site = make_site(G_CHART)
    frame = form_count_subgroups(counted(*rows), site)
    assert frame["count"].to_list() == [1.0, 2.0, 1.0]
    assert frame["size"].to_list() == [51.0, 9.0, 1.0]
    between = samples(SPC_SUBGROUPS.empty(), frame, site)["mean"].to_list()
    assert between == [50.0, 7.0, 0.0]


def test_intervals_between_events_do_not_cross_a_production_date():
    one = counted((0, 40, 1, 0, "early"), (1, 30, 0, 0, "early"))
    two = counted((0, 25, 1, 0, "early"), start=START + timedelta(days=1))
    site = make_site(G_CHART)
    both = form_count_subgroups(pl.concat([one, two]), site)
    assert both["size"].to_list() == [41.0, 26.0]
    # so a date can be formed by itself
    assert_frame_equal(both, pl.concat([form_count_subgroups(one, site), form_count_subgroups(two, site)]))


def test_the_order_of_records_changes_nothing():
    rows = [(hour, 20 + hour, hour % 3, hour % 2, "early" if hour < 8 else "late") for hour in range(16)]
    for chart in (P_CHART, G_CHART):
        site = make_site(chart)
        frame = counted(*rows)
        again = form_count_subgroups(frame.sample(fraction=1.0, shuffle=True, seed=3), site)
        assert_frame_equal(form_count_subgroups(frame, site), again, check_exact=True)


def plant(days, chart, scrap=2):
    """Three shifts a day of 100 parts; scrap of the last shift of the last day is 20."""
    frames = []
    for offset in range(days):
        last = offset == days - 1
        rows = [
            (hours, 100 - scrap - number, scrap + number, 0, shift)
            for number, (hours, shift) in enumerate([(0, "early"), (8, "late")])
        ]
        rows.append((15, 80, 20, 0, "night") if last else (15, 97, 3, 0, "night"))
        frames.append(counted(*rows, start=START + timedelta(days=offset)))
    return pl.concat(frames)


@pytest.mark.parametrize("chart", ["p", "laney_p", "np", "c", "u"])
def test_a_shift_with_many_defects_signals(chart):
    given = {
        **P_CHART,
        "chart": chart,
        "estimator": "laney" if chart.startswith("laney") else "poisson" if chart in "cu" else "binomial",
    }
    site = make_site(given, baseline=BaselinePolicy(subgroups=15))
    formed = form_count_subgroups(plant(8, given), site)
    frame = samples(SPC_SUBGROUPS.empty(), formed, site)
    limits = approve_baselines(SPC_LIMITS.empty(), frame, site)
    first = formed.sort("subgroup_at").head(15)
    expected = first["count"].mean() if chart == "c" else first["count"].sum() / first["size"].sum()
    assert limits["mu"].item() == pytest.approx(expected, rel=1e-12)
    points, violations = judge(frame, limits, site, DAY + timedelta(days=7))
    assert points.height == 3
    flagged = violations.filter(rule="nelson_1")
    assert flagged["subgroup_id"].to_list() == [points.sort("subgroup_at")["subgroup_id"][-1]]
    assert flagged["side"].to_list() == ["above"]
    assert set(violations["rule"]) <= {f"nelson_{number}" for number in (1, 2, 3, 4)}


def test_a_run_of_shifts_reaches_into_the_dates_before():
    """Every shift is above the centre of its version, so the ninth of them completes a run over three dates."""
    site = make_site(P_CHART, baseline=BaselinePolicy(subgroups=4), carry_days=3)
    rows = [form_count_subgroups(plant(5, P_CHART), site)]
    frame = samples(SPC_SUBGROUPS.empty(), pl.concat(rows), site)
    limits = approve_baselines(SPC_LIMITS.empty(), frame, site).with_columns(mu=pl.lit(0.01))
    _, violations = judge(frame, limits, site, DAY + timedelta(days=3))
    runs = violations.filter(rule="nelson_2")
    assert runs.height == 3
    assert all(len(ids.split(";")) == 9 for ids in runs["window_subgroup_ids"])


def test_counts_without_a_count_chart_leave_the_subgroups_as_they_are():
    site = make_site()
    empty = form_count_subgroups(counted(), site)
    assert samples(SPC_SUBGROUPS.empty(), empty, site).equals(SPC_SUBGROUPS.empty())


def test_hours_between_two_events_of_a_t_chart():
    """The first event of a date has no time before it; a second record at the same time is no interval of its own."""
    site = make_site({**G_CHART, "chart": "t", "estimator": "nelson"})
    rows = [
        (0.0, 40, 0, 0, "early"),
        (1.0, 10, 1, 0, "early"),
        (3.5, 7, 2, 0, "early"),
        (3.5, 7, 1, 0, "early"),
        (5.0, 9, 1, 0, "early"),
    ]
    frame = form_count_subgroups(counted(*rows), site)
    assert frame["size"].to_list() == [2.5, 1.5]
    assert samples(SPC_SUBGROUPS.empty(), frame, site)["mean"].to_list() == [2.5, 1.5]
