"""Clock offsets: what an exchange can tell, what the quickest of many tell, and joins that would ask more of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.contracts.clock import CLOCK_EXCHANGE, CLOCK_OFFSET
from spc_platform.errors import ContractError
from spc_platform.lake.clock_log import ClockLog
from spc_platform.lake.landing import Landing, land_source
from spc_platform.lake.ledger import Ledger
from spc_platform.prepare.align import align_streams
from spc_platform.prepare.clock import QUICKEST, ClockExchange, clock_offsets, offsets_in_force
from spc_platform.prepare.join import measurement_process
from spc_platform.settings import Settings
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.rest import RestSource
from spc_platform_tests.unit.lake_plant import MEASUREMENTS, plant_site
from spc_platform_tests.unit.prepare_frames import SIX, site_with
from spc_platform_tests.unit.rest_server import Request, answer, record, serving
from spc_platform_tests.unit.test_align import NO_STATES, observations
from spc_platform_tests.unit.test_join import aligned, measured

few = settings(max_examples=80, deadline=None, derandomize=True)
WAY = st.floats(0.0, 0.5)


def frame(*exchanges: ClockExchange) -> pl.DataFrame:
    return CLOCK_EXCHANGE.conform(pl.DataFrame(list(exchanges), schema=CLOCK_EXCHANGE.schema))


def asked(second: float, offset: float, there: float, back: float, step: float = 0.0, clock: str = "CNC-1") -> ClockExchange:
    """An exchange at ``SIX`` + second with a clock that is ``offset`` s ahead and says its time in steps."""
    said = second + there + offset
    cut = SIX + timedelta(seconds=said // step * step if step else said)
    sent, received = SIX + timedelta(seconds=second), SIX + timedelta(seconds=second + there + back)
    return ClockExchange(clock, "http_date" if step else "exchange", sent, cut, cut, received, step)


def offsets(*rows: dict[str, Any]) -> pl.DataFrame:
    given = {"measured_at": SIX, "method": "exchange", "samples": 1, "round_trip_s": 0.0, "clock_id": "L1-LATHE"}
    return CLOCK_OFFSET.conform(pl.DataFrame([{**given, **row} for row in rows], schema=CLOCK_OFFSET.schema))


@few
@given(
    offset=st.floats(-4000, 4000),
    step=st.sampled_from([0.0, 1.0]),
    ways=st.lists(st.tuples(WAY, WAY, WAY), min_size=1, max_size=30),
)
def test_the_true_offset_lies_within_the_stated_uncertainty(
    offset: float, step: float, ways: list[tuple[float, float, float]]
) -> None:
    found = clock_offsets(
        frame(*(asked(10.0 * n + late, offset, there, back, step) for n, (late, there, back) in enumerate(ways)))
    )
    assert abs(found["offset_s"].item() - offset) <= found["uncertainty_s"].item() + 1e-5
    assert found["samples"].item() == len(ways)


def test_an_http_date_of_whole_seconds_is_never_surer_than_half_a_second() -> None:
    exchanges = [asked(n + n / 100, 12.3, 0.0001, 0.0001, step=1.0) for n in range(100)]
    found = clock_offsets(frame(*exchanges)).row(0, named=True)
    assert found["uncertainty_s"] == pytest.approx(0.5001)
    assert abs(found["offset_s"] - 12.3) <= found["uncertainty_s"]


def test_the_quickest_exchanges_decide_and_one_slow_way_back_moves_nothing() -> None:
    quick = [asked(n, 5.0, 0.001, 0.001) for n in range(QUICKEST)]
    slow = [asked(100.0 + n, 5.0, 0.001, 3.0) for n in range(50)]
    found = clock_offsets(frame(*slow, *quick)).row(0, named=True)
    assert found["offset_s"] == pytest.approx(5.0)
    assert found["uncertainty_s"] == pytest.approx(0.001)
    assert found["samples"] == 58


def test_a_clock_that_was_set_during_the_day_is_as_unsure_as_the_step() -> None:
    found = clock_offsets(frame(*(asked(n, 0.0 if n < 4 else 60.0, 0.01, 0.01) for n in range(8)))).row(0, named=True)
    for offset in (0.0, 60.0):
        assert abs(found["offset_s"] - offset) <= found["uncertainty_s"]


def test_an_answer_before_its_question_says_nothing() -> None:
    assert clock_offsets(frame(asked(0, 5.0, 0.1, -0.3))).is_empty()


def test_every_order_of_exchanges_gives_the_same_offsets() -> None:
    exchanges = [asked(n, 1.0, n % 7 / 100, n % 5 / 100, clock=f"C{n % 2}") for n in range(30)]
    assert clock_offsets(frame(*exchanges)).equals(clock_offsets(frame(*reversed(exchanges))))


def test_a_date_is_judged_by_the_surest_offset_of_the_day_before_it() -> None:
    day = timedelta(days=1)
    known = offsets(
        {"measured_at": SIX - 3 * day, "offset_s": 1.0, "uncertainty_s": 0.001},
        {"measured_at": SIX - day / 2, "offset_s": 2.0, "uncertainty_s": 0.1},
        {"measured_at": SIX - day / 4, "offset_s": 3.0, "uncertainty_s": 0.5},
        {"measured_at": SIX + day, "offset_s": 4.0, "uncertainty_s": 0.01},
    )
    assert offsets_in_force(known, SIX).row(0) == ("L1-LATHE", 2.0, 0.1)
    assert offsets_in_force(known, SIX - 9 * day).row(0) == ("L1-LATHE", 1.0, 0.001)


STREAM = {"stream_id": "A", "join_tolerance_s": 2.0, "clock_offset_s": 10.0}


def align(clocks: pl.DataFrame, **changes: Any) -> pl.DataFrame:
    site = site_with(streams=[{**STREAM, **changes}])
    return align_streams(observations({0.0: 1.0}), site, NO_STATES, SIX, SIX + timedelta(seconds=60), clocks)


def join(clocks: pl.DataFrame, **changes: Any) -> pl.DataFrame:
    site = site_with(streams=[{**STREAM, **changes}])
    return measurement_process(measured(5.0), aligned(("A", 4, 1.0, "observed")), site, clocks)


def run_both(clocks: pl.DataFrame, **changes: Any) -> list[pl.DataFrame]:
    return [align(clocks, **changes), join(clocks, **changes)]


@pytest.mark.parametrize("step", [align, join])
def test_a_tolerance_below_the_uncertainty_of_the_offset_is_refused_with_both_figures(step: Any) -> None:
    clocks = offsets({"offset_s": 10.0, "uncertainty_s": 2.5})
    with pytest.raises(ContractError, match=r"SPC-670\] A: join_tolerance_s 2 s is below the uncertainty 2.5 s .*L1-LATHE"):
        step(clocks)


def test_a_clock_that_is_further_off_than_declared_is_refused() -> None:
    clocks = offsets({"offset_s": 13.0, "uncertainty_s": 0.5})
    with pytest.raises(ContractError, match=r"SPC-671\].*below 3.5 s.*measured 13 s ± 0.5 s, declared 10 s"):
        run_both(clocks)
    assert len(run_both(clocks, clock_offset_s=13.0)) == 2


def test_a_tolerance_above_what_is_unknown_joins_as_without_a_measured_clock() -> None:
    with_clock = run_both(offsets({"offset_s": 10.1, "uncertainty_s": 1.9}))
    without = run_both(offsets())
    assert all(one.equals(other) for one, other in zip(with_clock, without, strict=True))


def test_the_clock_of_another_station_or_of_a_source_counts_only_where_the_stream_names_it() -> None:
    clocks = offsets({"clock_id": "mes", "offset_s": 0.0, "uncertainty_s": 99.0})
    assert len(run_both(clocks)) == 2
    with pytest.raises(ContractError, match="SPC-670"):
        run_both(clocks, clock_id="mes")


@pytest.mark.parametrize(("headers", "samples"), [({}, 3), ({"Age": "30"}, 0)])
def test_landing_a_rest_source_measures_its_clock_by_the_date_of_its_answers(
    tmp_path: Path, headers: dict[str, str], samples: int
) -> None:
    ahead = timedelta(seconds=90)

    def reply(request: Request) -> bytes:
        number = int(request.query.get("cursor", "0"))
        page = {"data": [record(number)], "next_cursor": str(number + 1) if number < 2 else None}
        return answer(page, Date=format_datetime(datetime.now(UTC) + ahead, usegmt=True), **headers)

    with serving(reply) as mes:
        config = SourceConfig("mes", "rest", (MEASUREMENTS,), base_url=mes.url)
        ledger = Ledger(tmp_path / "ledger.sqlite")
        with RestSource(config, Settings(data=tmp_path)) as source:
            land_source(source, plant_site(config), Landing(tmp_path / "landing", ledger), ledger)
    found = clock_offsets(ClockLog(tmp_path).exchanges())
    assert found["samples"].sum() == samples
    if samples:
        row = found.row(0, named=True)
        assert (row["clock_id"], row["method"]) == ("mes", "http_date")
        assert abs(row["offset_s"] - 90.0) <= row["uncertainty_s"]
        assert 0.5 <= row["uncertainty_s"] < 1.5


def test_an_exchange_entered_by_hand_is_shown_with_its_uncertainty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_DATA", str(tmp_path))
    times = ["--sent", "2026-03-02T06:00:00Z", "--said", "2026-03-02T06:00:07.1Z", "--received", "2026-03-02T06:00:00.2Z"]
    entered = CliRunner().invoke(app, ["clock", "add", "--clock", "CNC-1", *times])
    assert entered.exit_code == 0, entered.output
    shown = CliRunner().invoke(app, ["clock", "show"])
    assert "CNC-1: +7.000 s ± 0.100 s (exchange, 1 exchanges" in shown.output
    wrong = CliRunner().invoke(app, ["clock", "add", "--clock", "CNC-1", *times[:-1], "2026-03-02T06:00:00.2"])
    assert isinstance(wrong.exception, ContractError)
    assert "SPC-672" in str(wrong.exception)
