"""Multivariate charts of a site: vectors of parts, their frozen parameters, points date by date."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from spc_platform.contracts.site import SITE_TABLES
from spc_platform.contracts.vectors import SPC_VECTOR_LIMITS
from spc_platform.errors import ContractError
from spc_platform.spc.vectors import approve_vector_baselines, approve_vectors, form_vectors, judge_vectors
from spc_platform_tests.unit.spc_frames import DAY, START, make_site, measurements

NONE = SPC_VECTOR_LIMITS.empty()
NAMES = ("bore", "depth", "width")


def vector_site(*charts, **policies):
    """Charts from (chart_id, equipment_id, kind, names, baseline, weight)."""
    site = make_site(**policies)
    rows = [
        {
            "chart_id": chart,
            "equipment_id": unit,
            "characteristic_id": name,
            "chart": kind,
            "baseline": baseline,
            "weight": weight,
        }
        for chart, unit, kind, names, baseline, weight in charts
        for name in names
    ]
    site.tables["multivariate"] = pl.DataFrame(rows, schema=SITE_TABLES["multivariate"].schema)
    return site


def parts(x, *, start=START, unit="L1-S1", names=NAMES, first=0, site=None):
    """MEASUREMENT of parts p0, p1, ... with one value per name; NaN: not measured."""
    frames = []
    for column, name in enumerate(names):
        frame = measurements(
            x[:, column].tolist(), start=start, characteristic_id=name, equipment_id=unit, source_id=f"cmm-{unit}-{name}",
            first_record=first, every_s=60.0, site=site,
        ).with_columns(serial_number=pl.Series([f"p{first + row}" for row in range(len(x))]))  # fmt: skip
        frames.append(frame.filter(pl.col("value").is_not_nan()))
    return pl.concat(frames)


def draw(seed, rows, p=3):
    rng = np.random.default_rng(seed)
    return 10 + rng.standard_normal((rows, p)) @ (np.eye(p) + 0.5)


T2 = ("geometry", "L1-S1", "t2", NAMES, 30, None)
MEWMA = ("small-shifts", "L1-S1", "mewma", NAMES, 30, 0.2)


def test_a_part_is_a_vector_of_all_its_characteristics():
    x = draw(1, 4)
    frame = form_vectors(parts(x), vector_site(T2))
    assert frame.height == 12
    for row, (_, own) in enumerate(frame.group_by("serial_number", maintain_order=True)):
        assert dict(zip(own["characteristic_id"], own["value"], strict=True)) == dict(zip(NAMES, x[row], strict=True))


def test_a_part_that_lacks_a_characteristic_or_its_serial_number_is_no_vector():
    x = draw(2, 5)
    x[1, 2] = np.nan
    frame = parts(x).with_columns(serial_number=pl.when(pl.col("serial_number") != "p3").then("serial_number"))
    assert form_vectors(frame, vector_site(T2))["serial_number"].unique().sort().to_list() == ["p0", "p2", "p4"]


def test_of_two_measurements_of_a_part_the_newest_counts():
    x = draw(3, 2)
    again = parts(x[:1] + 100.0, start=START + timedelta(hours=1)).filter(characteristic_id="depth")
    again = again.with_columns(record_id=pl.lit("later"))
    frame = form_vectors(pl.concat([again, parts(x)]), vector_site(T2))
    first = frame.filter(serial_number="p0")
    assert first.filter(characteristic_id="depth")["value"].item() == x[0, 1] + 100.0
    assert first["vector_at"].unique().to_list() == [START + timedelta(hours=1)]


def test_values_of_another_station_form_no_vector():
    frame = pl.concat([parts(draw(4, 3)).filter(pl.col("characteristic_id") != "bore"), parts(draw(4, 3), unit="L1-S2")])
    assert form_vectors(frame, vector_site(T2)).is_empty()


def frozen(x, site, **more):
    vectors = form_vectors(parts(x, **more), site)
    return vectors, approve_vector_baselines(NONE, vectors, site)


def test_the_first_parts_are_frozen_with_mean_and_covariance():
    x = draw(5, 40)
    site = vector_site(T2)
    vectors, limits = frozen(x, site)
    covariance = np.cov(x[:30].T)
    assert limits.height == 9
    for row in limits.iter_rows(named=True):
        i, j = NAMES.index(row["characteristic_id"]), NAMES.index(row["other_characteristic_id"])
        assert row["mean"] == pytest.approx(x[:30, i].mean(), rel=1e-12)
        assert row["covariance"] == pytest.approx(covariance[i, j], rel=1e-10)
        assert (row["n_vectors"], row["limit_version"]) == (30, 1)
    assert_frame_equal(limits, approve_vector_baselines(NONE, form_vectors(parts(x[:30]), site), site), check_exact=True)
    # append-only: an existing version comes back unchanged, whatever came since
    assert_frame_equal(limits, approve_vector_baselines(limits, vectors, site), check_exact=True)


def test_too_few_parts_get_no_limits():
    vectors, limits = frozen(draw(6, 29), site := vector_site(T2))
    assert limits.is_empty()
    assert judge_vectors(vectors, limits, site, DAY).is_empty()


def test_a_covariance_that_cannot_be_inverted_gets_no_limits():
    x = draw(7, 40)
    x[:, 2] = 2 * x[:, 0] - x[:, 1]
    _, limits = frozen(x, vector_site(T2))
    assert limits.is_empty()
    x[:, 2] = 5.0
    _, limits = frozen(x, vector_site(T2))
    assert limits.is_empty()


def test_a_singular_chart_does_not_stop_its_neighbour():
    other = ("other", "L1-S2", "t2", NAMES, 30, None)
    site = vector_site(T2, other)
    bad = draw(8, 40)
    bad[:, 2] = bad[:, 1]
    both = pl.concat([parts(bad), parts(good := draw(9, 40), unit="L1-S2")])
    limits = approve_vector_baselines(NONE, form_vectors(both, site), site)
    assert limits["chart_id"].unique().to_list() == ["other"]
    diagonal = limits.filter(pl.col("characteristic_id") == pl.col("other_characteristic_id")).sort("characteristic_id")
    np.testing.assert_allclose(diagonal["mean"].to_numpy(), good[:30].mean(axis=0), rtol=1e-12)
    points = judge_vectors(form_vectors(both, site), limits, site, DAY)
    assert points["chart_id"].unique().to_list() == ["other"]


def test_t2_points_have_beta_limits_in_the_baseline_and_f_limits_behind_it():
    x, m, p = draw(10, 40), 30, 3
    x[35] += np.array([8.0, 0.0, 0.0])
    site = vector_site(T2)
    vectors, limits = frozen(x, site)
    points = judge_vectors(vectors, limits, site, DAY).sort("vector_at")
    mean, inverse = x[:30].mean(axis=0), np.linalg.inv(np.cov(x[:30].T))
    expected = [float((row - mean) @ inverse @ (row - mean)) for row in x]
    np.testing.assert_allclose(points["value"].to_numpy(), expected, rtol=1e-9)
    alpha = 2 * stats.norm.sf(3.0)
    beta = (m - 1) ** 2 / m * stats.beta.isf(alpha, p / 2, (m - p - 1) / 2)
    f = p * (m + 1) * (m - 1) / (m * (m - p)) * stats.f.isf(alpha, p, m - p)
    np.testing.assert_allclose(points["ucl"].to_numpy(), [beta] * 30 + [f] * 10, rtol=1e-9)
    assert points["is_baseline"].to_list() == [True] * 30 + [False] * 10
    assert points.filter("is_signal")["serial_number"].to_list() == ["p35"]
    assert points.filter("is_signal")["largest_contribution"].to_list() == ["bore"]
    d = x[35] - mean
    without = np.linalg.inv(np.cov(x[:30, 1:].T))
    fall = d @ inverse @ d - d[1:] @ without @ d[1:]
    assert points.filter("is_signal")["contribution"].item() == pytest.approx(fall, rel=1e-9)


@pytest.mark.parametrize("chart", [T2, MEWMA])
def test_date_by_date_equals_one_run_and_no_order_matters(chart):
    """A MEWMA starts anew every carry_days dates: each date is judged from itself and the dates before it alone."""
    carry, days = 2, 5
    site = vector_site(chart, carry_days=carry)
    frames = [parts(draw(20 + day, 12), start=START + timedelta(days=day), first=12 * day, site=site) for day in range(days)]
    vectors = form_vectors(pl.concat(frames), site)
    limits = approve_vector_baselines(NONE, vectors, site)
    assert limits.height == 9
    for day in range(days):
        date = DAY + timedelta(days=day)
        whole = judge_vectors(vectors, limits, site, date)
        assert whole.height == 12
        window = vectors.filter(pl.col("production_date").is_between(date - timedelta(days=carry), date))
        assert_frame_equal(whole, judge_vectors(window, limits, site, date), check_exact=True)
        shuffled = vectors.sample(fraction=1.0, shuffle=True, seed=day)
        assert_frame_equal(whole, judge_vectors(shuffled, limits, site, date), check_exact=True)
    assert_frame_equal(limits, approve_vector_baselines(NONE, vectors.sample(fraction=1.0, shuffle=True, seed=9), site))


def test_mewma_points_follow_the_recursion_from_each_restart():
    site = vector_site(MEWMA, carry_days=2)
    x = draw(11, 60)
    frames = [parts(x[20 * d : 20 * d + 20], start=START + timedelta(days=d), first=20 * d, site=site) for d in range(3)]
    vectors = form_vectors(pl.concat(frames), site)
    limits = approve_vector_baselines(NONE, vectors, site)
    mean, covariance = x[:30].mean(axis=0), np.cov(x[:30].T)
    for day, begin in ((1, 0), (2, 40)):
        points = judge_vectors(vectors, limits, site, DAY + timedelta(days=day)).sort("vector_at")
        w, expected = np.zeros(3), []
        for i, row in enumerate(x[begin : 20 * day + 20], start=1):
            w = 0.2 * (row - mean) + 0.8 * w
            expected.append(float(w @ np.linalg.solve(0.2 / 1.8 * (1 - 0.8 ** (2 * i)) * covariance, w)))
        np.testing.assert_allclose(points["value"].to_numpy(), expected[-20:], rtol=1e-9)
        assert (points["is_signal"] == (points["value"] > points["ucl"])).all()


def test_a_site_without_multivariate_charts_has_no_vectors():
    site = vector_site()
    vectors = form_vectors(parts(draw(12, 5)), site)
    assert vectors.is_empty()
    limits = approve_vector_baselines(NONE, vectors, site)
    assert limits.is_empty()
    assert judge_vectors(vectors, limits, site, DAY).is_empty()


def test_charts_of_two_and_three_characteristics_side_by_side():
    pair = ("pair", "L1-S1", "t2", NAMES[:2], 30, None)
    site = vector_site(T2, pair)
    x = draw(13, 40)
    vectors, limits = frozen(x, site)
    points = judge_vectors(vectors, limits, site, DAY).filter(chart_id="pair").sort("vector_at")
    inverse = np.linalg.inv(np.cov(x[:30, :2].T))
    d = x[:, :2] - x[:30, :2].mean(axis=0)
    np.testing.assert_allclose(points["value"].to_numpy(), np.einsum("ij,jk,ik->i", d, inverse, d), rtol=1e-9)


def later(minutes):
    return START + timedelta(minutes=minutes)


def second_version(site, vectors, limits, **changes):
    given = {
        "baseline_from": later(40),
        "baseline_to": later(79),
        "approved_by": "A. Engineer",
        "reason": "new fixture",
    } | changes
    return approve_vectors(limits, vectors, site, chart_id="geometry", **given)


def test_a_part_is_judged_by_the_version_in_force_at_its_time():
    site, x = vector_site(T2), np.vstack([draw(3, 40), 12.0 + draw(4, 60)])
    vectors = form_vectors(parts(x), site)
    first = approve_vector_baselines(NONE, vectors, site)
    both = second_version(site, vectors, first)
    assert both.filter(limit_version=1).equals(first)
    points = judge_vectors(vectors, both, site, DAY)
    assert points["limit_version"].to_list() == [1] * 79 + [2] * 21
    new = points.filter(limit_version=2, is_baseline=False)
    inverse = np.linalg.inv(np.cov(x[40:80], rowvar=False))
    off = x[80:] - x[40:80].mean(axis=0)
    assert new["value"].to_list() == pytest.approx(np.einsum("ij,jk,ik->i", off, inverse, off).tolist(), rel=1e-9)
    assert points.filter(limit_version=1, is_baseline=False)["is_signal"].mean() > 0.5
    assert new["is_signal"].mean() < 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"approved_by": " "}, "approved_by and reason"),
        ({"reason": ""}, "approved_by and reason"),
        ({"baseline_from": later(900), "baseline_to": later(999)}, "widen it"),
        ({"baseline_to": START}, "must end after"),
        ({"baseline_from": later(77)}, "geometry: .*observations"),
    ],
)
def test_an_approval_of_vectors_that_could_mislead_is_refused(changes, message):
    site = vector_site(T2)
    vectors = form_vectors(parts(draw(3, 100)), site)
    with pytest.raises(ContractError, match=message):
        second_version(site, vectors, approve_vector_baselines(NONE, vectors, site), **changes)
