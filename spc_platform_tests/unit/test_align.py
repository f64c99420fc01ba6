"""Streams on the declared grid: hold gaps under 3, interpolate up to 5, leave the rest missing (DOMAIN 6, issue text)."""

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.prepared import TELEMETRY_ALIGNED
from spc_platform.prepare.align import align_streams
from spc_platform.site.model import Site
from spc_platform_tests.unit.prepare_frames import DAY, SIX, site_with

UTC = pl.Datetime("us", "UTC")
NO_STATES = pl.DataFrame(schema={"equipment_id": pl.String, "state": pl.String, "start_at": UTC, "end_at": UTC})


def stream(**changes: Any) -> Site:
    """A stream on a grid of 1 s that holds gaps of 1 or 2 cells and interpolates gaps of 3 to 5."""
    return site_with(streams=[{"grid_s": 1.0, "hold_below": 3, "interpolate_up_to": 5, **changes}])


def observations(seconds: dict[float, float], stream_id: str = "L1-LATHE-TEMP") -> pl.DataFrame:
    times = [SIX + timedelta(seconds=second) for second in seconds]
    return pl.DataFrame(
        {"stream_id": stream_id, "observed_at": pl.Series(times, dtype=UTC), "value": list(seconds.values())},
        schema_overrides={"stream_id": pl.String, "value": pl.Float64},
    )


def align(seconds: dict[float, float], cells: int, site: Site | None = None, states: pl.DataFrame = NO_STATES) -> pl.DataFrame:
    return align_streams(observations(seconds), site or stream(), states, SIX, SIX + timedelta(seconds=cells))


FLAGS = {"o": "observed", "h": "held", "i": "interpolated", "m": "missing", "x": "imputed"}


def flags(frame: pl.DataFrame) -> str:
    short = {long: letter for letter, long in FLAGS.items()}
    return "".join(short[flag] for flag in frame["fill_flag"])


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(0, "oo"), (1, "oho"), (2, "ohho"), (3, "oiiio"), (4, "oiiiio"), (5, "oiiiiio"), (6, "ommmmmmo"), (9, "ommmmmmmmmo")],
)
def test_the_length_of_a_gap_decides_how_it_is_filled(gap: int, expected: str) -> None:
    assert flags(align({0: 10.0, gap + 1: 20.0}, gap + 2)) == expected


def test_held_values_repeat_and_interpolated_ones_lie_on_the_line() -> None:
    assert align({0: 10.0, 3: 20.0}, 4)["value"].to_list() == [10.0, 10.0, 10.0, 20.0]
    assert align({0: 10.0, 4: 20.0}, 5)["value"].to_list() == [10.0, 12.5, 15.0, 17.5, 20.0]
    assert align({0: 10.0, 7: 20.0}, 8)["value"].to_list() == [10.0, *[None] * 6, 20.0]


def test_a_cell_is_the_mean_of_its_observations_and_counts_them() -> None:
    frame = align({0.0: 1.0, 0.25: 2.0, 0.999999: 6.0, 1.0: 5.0}, 2)
    assert frame["value"].to_list() == [3.0, 5.0]
    assert frame["n_observed"].to_list() == [3, 1]
    assert frame["grid_at"].to_list() == [SIX, SIX + timedelta(seconds=1)]


def test_nothing_is_filled_backwards_before_the_first_observation() -> None:
    assert flags(align({2: 1.0, 3: 1.0}, 4)) == "mmoo"


@pytest.mark.parametrize(("cells", "expected"), [(2, "oh"), (3, "ohh"), (4, "ommm"), (5, "ommmm")])
def test_a_short_run_after_the_last_observation_is_held_and_never_interpolated(cells: int, expected: str) -> None:
    assert flags(align({0: 1.0}, cells)) == expected


def test_the_declared_clock_offset_is_removed_before_aligning() -> None:
    frame = align({2.0: 7.0, -0.5: 9.0}, 3, stream(clock_offset_s=1.5, hold_below=0, interpolate_up_to=0))
    # Station clock minus reference is 1.5 s: 2.0 becomes 0.5, and -0.5 falls out of the window.
    assert frame["value"].to_list() == [7.0, None, None]


def test_observations_outside_the_window_make_no_cells() -> None:
    frame = align({-1.0: 1.0, 0.0: 2.0, 2.0: 3.0}, 2, stream(hold_below=0, interpolate_up_to=0))
    assert frame["value"].to_list() == [2.0, None]


def test_a_declared_stream_without_observations_is_missing_in_every_cell() -> None:
    site = site_with(streams=[{"stream_id": "A", "grid_s": 1.0}, {"stream_id": "B", "grid_s": 1.0}])
    frame = align_streams(observations({1: 1.0}, "A"), site, NO_STATES, SIX, SIX + timedelta(seconds=3))
    assert flags(frame.filter(stream_id="B")) == "mmm"


def test_a_window_in_which_no_stream_was_observed_has_no_grid() -> None:
    # The second observation is a second late, the third of a stream that the site does not declare.
    outside = pl.concat([observations({-1: 1.0, 3: 2.0}), observations({1: 1.0}, "no such stream")])
    frame = align_streams(outside, stream(), NO_STATES, SIX, SIX + timedelta(seconds=3))
    assert_frame_equal(frame, TELEMETRY_ALIGNED.empty())


def test_a_gap_never_reaches_into_another_stream() -> None:
    site = site_with(
        streams=[
            {"stream_id": "A", "grid_s": 1.0, "hold_below": 3, "interpolate_up_to": 5},
            {"stream_id": "B", "grid_s": 1.0, "hold_below": 3, "interpolate_up_to": 5},
        ]
    )
    telemetry = pl.concat([observations({0: 1.0}, "A"), observations({3: 9.0}, "B")])
    frame = align_streams(telemetry, site, NO_STATES, SIX, SIX + timedelta(seconds=4))
    assert flags(frame.filter(stream_id="A")) == "ommm"
    assert flags(frame.filter(stream_id="B")) == "mmmo"


def test_grids_of_different_spacing_stand_side_by_side() -> None:
    site = site_with(streams=[{"stream_id": "A", "grid_s": 1.0}, {"stream_id": "B", "grid_s": 2.5}])
    frame = align_streams(observations({0: 1.0}, "A"), site, NO_STATES, SIX, SIX + timedelta(seconds=6))
    assert frame.group_by("stream_id").len().sort("stream_id").rows() == [("A", 6), ("B", 3)]


def states(*spans: tuple[str, float, float | None]) -> pl.DataFrame:
    rows = [
        ("L1-LATHE", name, SIX + timedelta(seconds=start), None if end is None else SIX + timedelta(seconds=end))
        for name, start, end in spans
    ]
    return pl.DataFrame(rows, schema=NO_STATES.schema, orient="row")


def test_state_median_imputes_long_gaps_by_the_state_of_the_unit_and_says_so() -> None:
    site = stream(imputation="state_median", hold_below=0, interpolate_up_to=0)
    seen = {0: 1.0, 1: 2.0, 2: 9.0, 6: 50.0, 8: 70.0}
    frame = align(seen, 12, site, states(("RUN", 0, 6), ("STOP", 6, 10), ("SETUP", 10, None)))
    assert flags(frame) == "oooxxxoxoxmm"
    # Median of 1, 2, 9 is 2; of 50 and 70 is 60; nothing was observed in SETUP.
    assert frame["value"].to_list() == [1.0, 2.0, 9.0, 2.0, 2.0, 2.0, 50.0, 60.0, 70.0, 60.0, None, None]
    assert frame.filter(fill_flag="imputed")["n_observed"].sum() == 0


def test_without_the_declared_option_nothing_is_imputed() -> None:
    site = stream(imputation="none", hold_below=0, interpolate_up_to=0)
    assert flags(align({0: 1.0}, 3, site, states(("RUN", 0, None)))) == "omm"


def test_a_cell_outside_every_known_state_stays_missing() -> None:
    site = stream(imputation="state_median", hold_below=0, interpolate_up_to=0)
    assert flags(align({0: 1.0}, 4, site, states(("RUN", 0, 2)))) == "oxmm"


def test_the_frame_conforms_and_carries_the_production_date() -> None:
    frame = align({0: 1.0}, 3)
    TELEMETRY_ALIGNED.pandera_schema().validate(frame)
    assert frame["production_date"].unique().to_list() == [DAY]


@pytest.mark.parametrize("last", [SIX, SIX - timedelta(hours=1)])
def test_an_empty_window_has_no_cells(last: datetime) -> None:
    assert align_streams(observations({0: 1.0}), stream(), NO_STATES, SIX, last).is_empty()


def test_the_order_of_rows_does_not_change_a_bit() -> None:
    telemetry = observations({index / 10: 0.1 * index for index in range(50)})
    shuffled = telemetry.sample(fraction=1.0, shuffle=True, seed=4)
    last = SIX + timedelta(seconds=5)
    expected = align_streams(telemetry, stream(), NO_STATES, SIX, last)
    assert_frame_equal(align_streams(shuffled, stream(), NO_STATES, SIX, last), expected, check_exact=True)
