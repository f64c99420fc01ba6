"""Studies of published data: the figures that R's qcc prints, and Montgomery's and NIST's examples.

Data and figures: R package qcc 2.7 (Scrucca, R News 4/1, 2004: pistonrings, orangejuice, circuit, dyedcloth), as printed by
``qcc()`` and repeated in mistat's comparison with R (Kenett, Zacks, Gedeck 2022); viscosity and antifreeze: Montgomery
p. 242, Wetherill and Brown (1991) p. 120; flow rate: NIST/SEMATECH e-Handbook 6.3.2.2, wafers 6.3.3.1.
"""

import numpy as np
import polars as pl
import pytest

from spc_platform.spc.study import Plan, study

PISTON_RINGS = """
74.030 74.002 74.019 73.992 74.008  73.995 73.992 74.001 74.011 74.004  73.988 74.024 74.021 74.005 74.002
74.002 73.996 73.993 74.015 74.009  73.992 74.007 74.015 73.989 74.014  74.009 73.994 73.997 73.985 73.993
73.995 74.006 73.994 74.000 74.005  73.985 74.003 73.993 74.015 73.988  74.008 73.995 74.009 74.005 74.004
73.998 74.000 73.990 74.007 73.995  73.994 73.998 73.994 73.995 73.990  74.004 74.000 74.007 74.000 73.996
73.983 74.002 73.998 73.997 74.012  74.006 73.967 73.994 74.000 73.984  74.012 74.014 73.998 73.999 74.007
74.000 73.984 74.005 73.998 73.996  73.994 74.012 73.986 74.005 74.007  74.006 74.010 74.018 74.003 74.000
73.984 74.002 74.003 74.005 73.997  74.000 74.010 74.013 74.020 74.003  73.988 74.001 74.009 74.005 73.996
74.004 73.999 73.990 74.006 74.009  74.010 73.989 73.990 74.009 74.014  74.015 74.008 73.993 74.000 74.010
73.982 73.984 73.995 74.017 74.013  74.012 74.015 74.030 73.986 74.000  73.995 74.010 73.990 74.015 74.001
73.987 73.999 73.985 74.000 73.990  74.008 74.010 74.003 73.991 74.006  74.003 74.000 74.001 73.986 73.997
73.994 74.003 74.015 74.020 74.004  74.008 74.002 74.018 73.995 74.005  74.001 74.004 73.990 73.996 73.998
74.015 74.000 74.016 74.025 74.000  74.030 74.005 74.000 74.016 74.012  74.001 73.990 73.995 74.010 74.024
74.015 74.020 74.024 74.005 74.019  74.035 74.010 74.012 74.015 74.026  74.017 74.013 74.036 74.025 74.026
74.010 74.005 74.029 74.000 74.020
"""
RINGS = [float(text) for text in PISTON_RINGS.split()]
ORANGE_JUICE = [12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13, 9, 6]
TABLED = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326, 6: 2.534, 7: 2.704, 8: 2.847, 9: 2.970}
D2 = {
    2: 1.1283791671,
    3: 1.6925687506,
    4: 2.0587507460,
    5: 2.3259289473,
    6: 2.5344127212,
    7: 2.7043567512,
    8: 2.8472006121,
    9: 2.9700263244,
}
"""qcc divides ranges by tables of three digits; its figures are compared after undoing that (exact d2: Harter 1960)."""
CIRCUIT = [21, 24, 16, 12, 15, 5, 28, 20, 31, 25, 20, 24, 16, 19, 10, 17, 13, 22, 18, 39, 30, 24, 16, 19, 17, 15]
VISCOSITY = [33.75, 33.05, 34, 33.81, 33.46, 34.02, 33.68, 33.27, 33.49, 33.20, 33.62, 33.00, 33.54, 33.12, 33.84]
ANTIFREEZE = [
    *(2.23, 2.53, 2.62, 2.63, 2.58, 2.44, 2.49, 2.34, 2.95, 2.54, 2.60, 2.45, 2.17, 2.58, 2.57, 2.44, 2.38),
    *(2.23, 2.23, 2.54, 2.66, 2.84, 2.81, 2.39, 2.56, 2.70, 3.00, 2.81, 2.77, 2.89, 2.54, 2.98, 2.35, 2.53),
]


def values(numbers, **columns):
    return pl.DataFrame({"row": range(1, len(numbers) + 1), "value": pl.Series(numbers, dtype=pl.Float64), **columns})


def counts(found, size=None):
    sizes = {} if size is None else {"size": pl.Series(size, dtype=pl.Float64)}
    return pl.DataFrame({"row": range(1, len(found) + 1), "count": pl.Series(found, dtype=pl.Float64), **sizes})


def limits(result, panel="location"):
    found = result.stages[0]["limits"][panel]
    return found["cl"], found["lcl"], found["ucl"]


def printed(got, figures):
    """Equal as far as the figures were printed: half a unit of each one's last digit."""
    for value, figure in zip(got, figures, strict=True):
        digits = len(figure.partition(".")[2])
        assert abs(value - float(figure)) <= 0.5000001 * 10.0**-digits, (value, figure)


def test_piston_rings_by_range():
    result = study(values(RINGS), Plan("xbar_r", size=5, baseline=(1, 25)))
    printed([result.stages[0]["sigma"] * D2[5] / 2.326], ["0.009785039"])
    printed(limits(result), ["74.00118", "73.98805", "74.0143"])
    cl, lcl, ucl = limits(result, "dispersion")
    printed([cl, lcl], ["0.02276", "0.0"])
    # D4 of the book is 2.115, qcc's tables give 2.11447, exactly it is 2.1145
    assert ucl == pytest.approx(0.04812533, rel=2e-5)
    # qcc and Montgomery (fig. 5-9, 2nd ed.): phase I in control, the mean has left its limits from sample 37 on
    beyond = result.violations.filter(panel="location", rule="nelson_1")["number"].to_list()
    assert beyond == [37, 38, 39]


def test_piston_rings_at_two_standard_errors():
    result = study(values(RINGS[:125]), Plan("xbar_r", size=5, k=2.0, rules="limits_only"))
    printed(limits(result), ["74.00118", "73.99242", "74.00993"])
    assert result.violations.filter(panel="location")["number"].to_list() == [1, 14]


def test_piston_rings_by_standard_deviation():
    result = study(values(RINGS), Plan("xbar_s", size=5, baseline=(1, 25)))
    printed([result.stages[0]["sigma"]], ["0.009829977"])
    printed(limits(result, "dispersion"), ["0.009240037", "0.0", "0.01930242"])


def test_piston_rings_of_varying_size():
    """qcc averages R/d2 without weights, here the variance is smallest: its sigma is taken over, its limits must follow."""
    out = {9, 10, 30, 35, 45, 64, 65, 74, 75, 85, 99, 100}
    kept = [i for i in range(200) if i + 1 not in out]
    frame = values([RINGS[i] for i in kept], subgroup=[f"{i // 5}" for i in kept])
    result = study(frame, Plan("xbar_r", baseline=(1, 25), sigma=0.009856701))
    printed([result.stages[0]["centre"]], ["74.00075"])
    at = result.points.filter(panel="location").select("n", "lcl", "ucl").rows()
    assert [n for n, *_ in at[:3]] == [5.0, 3.0, 5.0]
    for (_, *got), figures in zip(at, [["73.98753", "74.01398"], ["73.98368", "74.01782"]], strict=False):
        printed(got, figures)


def test_piston_rings_cusum_and_ewma_find_the_shift():
    """Montgomery 8: both memories signal the drift of phase II; EWMA at lambda 0.2 has sigma of the mean sqrt(w/(2-w)/n)."""
    cusum = study(values(RINGS), Plan("cusum", size=5, baseline=(1, 25), reference=0.5, decision=5.0))
    upper = cusum.violations.filter(panel="upper")["number"].to_list()
    assert upper
    assert upper == list(range(upper[0], 41))
    assert cusum.violations.filter(panel="lower").is_empty()
    ewma = study(values(RINGS), Plan("ewma", size=5, baseline=(1, 25), weight=0.2))
    last = ewma.points.row(-1, named=True)
    assert last["standard_error"] == pytest.approx(
        0.009785039 * 2.326 / D2[5] * np.sqrt(0.2 / 1.8 / 5 * (1 - 0.8**80)), rel=1e-7
    )


def test_orange_juice():
    result = study(counts(ORANGE_JUICE, [50] * 30), Plan("p", rules="limits_only"))
    printed(limits(result), ["0.2313333", "0.05242755", "0.4102391"])
    printed([result.stages[0]["sigma"]], ["0.421685"])
    assert result.violations["number"].to_list() == [15, 23]
    excluded = {"15": "new batch of cardboard", "23": "inexperienced operator"}
    again = study(counts(ORANGE_JUICE, [50] * 30), Plan("p", rules="limits_only", excluded=excluded))
    printed(limits(again), ["0.215", "0.04070284", "0.3892972"])
    assert again.violations["number"].to_list() == [15, 21, 23]


def test_orange_juice_as_numbers():
    result = study(counts(ORANGE_JUICE, [50] * 30), Plan("np", rules="limits_only"))
    printed(limits(result), ["11.56667", "2.62138", "20.51196"])


def test_circuit():
    result = study(counts(CIRCUIT), Plan("c", rules="limits_only"))
    printed(limits(result), ["19.84615", "6.481447", "33.21086"])
    assert result.violations.select("number", "side").rows() == [(6, "below"), (20, "above")]


def test_dyed_cloth():
    """Montgomery ex. 6-4 (u chart): u 1.4037 over 109 units."""
    found, size = [14, 12, 20, 11, 7, 10, 21, 16, 19, 23], [10, 8, 13, 10, 10, 10, 12, 11, 12, 13]
    result = study(counts(found, size), Plan("u"))
    centre = 153 / 109
    assert result.stages[0]["centre"] == pytest.approx(centre, rel=1e-14)
    for row, n in zip(result.points.iter_rows(named=True), size, strict=True):
        assert row["ucl"] == pytest.approx(centre + 3 * np.sqrt(centre / n), rel=1e-14)


def test_viscosity():
    result = study(values(VISCOSITY), Plan("i_mr"))
    sigma = result.stages[0]["sigma"] * D2[2] / 1.128
    printed([sigma], ["0.4261651"])
    cl = limits(result)[0]
    printed([cl - 3 * sigma, cl, cl + 3 * sigma], ["32.24484", "33.52333", "34.80183"])


def test_antifreeze_by_spans_of_the_moving_range():
    """sigma of qcc's ``sd.xbar.one(x, k = 2, 3, ...)``."""
    result = study(values(ANTIFREEZE), Plan("i_mr", rules="limits_only", mu=2.569706, sigma=0.1794541))
    printed(limits(result), ["2.569706", "2.031344", "3.108068"])
    published = ["0.1794541", "0.1897519", "0.1955224", "0.2019203", "0.2022154", "0.2041948", "0.2072357", "0.2121212"]
    for span, figure in enumerate(published, start=2):
        sigma = study(values(ANTIFREEZE), Plan("i_mr", span=span)).stages[0]["sigma"]
        printed([sigma * D2[span] / TABLED[span]], [figure])


def test_flow_rate():
    flow = [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]
    result = study(values(flow), Plan("i_mr"))
    # the handbook divides by 1.128, not by 1.1283791671: its limits end in ...041 and ...159
    cl, lcl, ucl = limits(result)
    assert (cl, lcl, ucl) == (pytest.approx(50.81), pytest.approx(45.8159, rel=5e-5), pytest.approx(55.8041, rel=5e-5))


def test_wafers():
    found = [16, 14, 28, 16, 12, 20, 10, 12, 10, 17, 19, 17, 14, 16, 15, 13, 14, 16, 11, 20, 11, 19, 16, 31, 13]
    result = study(counts(found), Plan("c", rules="limits_only"))
    printed(limits(result), ["16.0", "4.0", "28.0"])
    # 28 lies on the limit, not beyond it
    assert result.violations["number"].to_list() == [24]
