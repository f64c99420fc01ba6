"""Measurements meet the process values of their station, never later ones and never too old ones."""

from datetime import timedelta
from typing import Any

import polars as pl

from spc_platform.contracts.prepared import MEASUREMENT_PROCESS, TELEMETRY_ALIGNED
from spc_platform.prepare.join import measurement_process
from spc_platform_tests.unit.prepare_frames import DAY, SIX, site_with

UTC = pl.Datetime("us", "UTC")


def measured(*seconds: float, equipment_id: str = "L1-LATHE") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "source_id": "mes",
            "record_id": [f"r{index}" for index in range(len(seconds))],
            "characteristic_id": "SHAFT-DIA",
            "equipment_id": equipment_id,
            "measured_at": pl.Series([SIX + timedelta(seconds=second) for second in seconds], dtype=UTC),
            "production_date": DAY,
        }
    )


def aligned(*cells: tuple[str, float, float | None, str]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "stream_id": stream_id,
            "equipment_id": "L1-LATHE",
            "grid_at": SIX + timedelta(seconds=second),
            "value": value,
            "fill_flag": flag,
            "n_observed": int(flag == "observed"),
            "production_date": DAY,
        }
        for stream_id, second, value, flag in cells
    ]
    return TELEMETRY_ALIGNED.conform(pl.DataFrame(rows, schema=TELEMETRY_ALIGNED.schema))


SITE = site_with(
    streams=[{"stream_id": "A", "join_tolerance_s": 10.0}, {"stream_id": "B", "join_tolerance_s": 60.0}],
)
COLUMNS = ("stream_id", "process_value", "fill_flag", "lag_s")


def joined(*seconds: float, cells: pl.DataFrame) -> list[tuple[Any, ...]]:
    frame = measurement_process(measured(*seconds), cells, SITE)
    MEASUREMENT_PROCESS.pandera_schema().validate(frame)
    return frame.select(COLUMNS).rows()


def test_each_measurement_meets_each_stream_of_its_station() -> None:
    cells = aligned(("A", 0, 1.0, "observed"), ("A", 5, 2.0, "held"), ("B", 0, 7.0, "interpolated"))
    assert joined(5.0, 9.0, cells=cells) == [
        ("A", 2.0, "held", 0.0),
        ("B", 7.0, "interpolated", 5.0),
        ("A", 2.0, "held", 4.0),
        ("B", 7.0, "interpolated", 9.0),
    ]


def test_each_stream_has_its_own_tolerance() -> None:
    cells = aligned(("A", 0, 1.0, "observed"), ("B", 0, 7.0, "observed"))
    assert joined(10.0, 10.5, cells=cells) == [
        ("A", 1.0, "observed", 10.0),
        ("B", 7.0, "observed", 10.0),
        ("A", None, "missing", None),
        ("B", 7.0, "observed", 10.5),
    ]


def test_a_later_cell_is_never_joined() -> None:
    assert joined(4.0, cells=aligned(("A", 5, 1.0, "observed"))) == [("A", None, "missing", None), ("B", None, "missing", None)]


def test_a_missing_cell_is_passed_over_within_the_tolerance() -> None:
    cells = aligned(("A", 0, 1.0, "observed"), ("A", 5, None, "missing"))
    assert joined(6.0, 12.0, cells=cells)[::2] == [("A", 1.0, "observed", 6.0), ("A", None, "missing", None)]


def test_a_station_without_streams_joins_nothing() -> None:
    assert measurement_process(measured(1.0, equipment_id="L1-MILL"), aligned(), SITE).is_empty()


def test_no_row_is_lost_when_there_is_no_telemetry() -> None:
    frame = measurement_process(measured(1.0, 2.0), aligned(), SITE)
    assert frame.height == 4
    assert frame.select("grid_at", "process_value", "lag_s").null_count().row(0) == (4, 4, 4)
