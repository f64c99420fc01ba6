"""Which revision is in force, whatever the order of rows."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from spc_platform.prepare.revisions import drop_repeats, latest_revisions

EARLY, LATE = datetime(2026, 3, 2, 8, tzinfo=UTC), datetime(2026, 3, 2, 9, tzinfo=UTC)


def revisions(*rows: tuple[str, int, datetime | None, float | None]) -> pl.DataFrame:
    schema = {"record_id": pl.String, "revision": pl.Int64, "updated_at": pl.Datetime("us", "UTC"), "value": pl.Float64}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
    return frame.with_columns(
        source_id=pl.lit("mes"), page_sha256=pl.lit("0f"), page_row=pl.int_range(pl.len(), dtype=pl.Int64)
    )


def superseded(*rows: tuple[str, str, int, datetime | None]) -> pl.DataFrame:
    schema = {"source_id": pl.String, "record_id": pl.String, "revision": pl.Int64, "updated_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def current(frame: pl.DataFrame, elsewhere: pl.DataFrame | None = None) -> list[tuple[object, ...]]:
    judged = latest_revisions(frame, superseded() if elsewhere is None else elsewhere)
    assert judged.height == frame.height
    return sorted(judged.filter("is_current").select("record_id", "revision", "value").rows())


def test_the_highest_revision_is_in_force_though_it_was_written_earlier() -> None:
    assert current(revisions(("a", 2, EARLY, 2.0), ("a", 1, LATE, 1.0), ("b", 1, EARLY, 3.0))) == [("a", 2, 2.0), ("b", 1, 3.0)]


def test_of_equal_revisions_the_later_update_is_in_force_and_no_update_is_lowest() -> None:
    assert current(revisions(("a", 1, LATE, 1.0), ("a", 1, EARLY, 9.0), ("a", 1, None, 10.0))) == [("a", 1, 1.0)]


def test_of_equal_updates_the_larger_content_is_in_force() -> None:
    assert current(revisions(("a", 1, EARLY, 1.0), ("a", 1, EARLY, 2.0), ("a", 1, EARLY, None))) == [("a", 1, 2.0)]


def test_equal_rows_leave_exactly_one_in_force() -> None:
    assert current(revisions(("a", 1, EARLY, 1.0), ("a", 1, EARLY, 1.0))) == [("a", 1, 1.0)]


def test_the_same_record_id_of_two_sources_is_two_records() -> None:
    frame = revisions(("a", 1, EARLY, 1.0), ("a", 2, EARLY, 2.0)).with_columns(source_id=pl.Series(["mes", "erp"]))
    assert current(frame) == [("a", 1, 1.0), ("a", 2, 2.0)]


def test_a_revision_on_another_date_takes_the_record_away() -> None:
    frame = revisions(("a", 1, EARLY, 1.0), ("b", 1, None, 2.0), ("c", 1, EARLY, 3.0))
    elsewhere = superseded(("mes", "a", 1, EARLY), ("mes", "b", 1, None), ("erp", "c", 1, EARLY))
    assert current(frame, elsewhere) == [("c", 1, 3.0)]


def test_another_content_of_the_superseded_revision_with_a_later_update_stays_in_force() -> None:
    frame = revisions(("a", 1, EARLY, 1.0), ("a", 1, LATE, 2.0))
    assert current(frame, superseded(("mes", "a", 1, EARLY))) == [("a", 1, 2.0)]


@pytest.mark.parametrize("seed", range(8))
def test_any_row_order_gives_the_same_rows(seed: int) -> None:
    frame = revisions(*((f"r{n % 7}", n % 3, EARLY if n % 2 else None, float(n % 4)) for n in range(60)))
    expected = latest_revisions(drop_repeats(frame), superseded()).sort("record_id", "revision", "updated_at", "value")
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    judged = latest_revisions(drop_repeats(shuffled), superseded()).sort("record_id", "revision", "updated_at", "value")
    assert judged.equals(expected)
    assert judged.filter("is_current").height == 7


def test_no_rows_are_no_rows() -> None:
    assert current(revisions()) == []


def test_a_repeat_is_content_that_differs_in_its_page_alone() -> None:
    rows = revisions(("a", 1, EARLY, 1.0), ("a", 1, EARLY, 1.0), ("a", 1, EARLY, 2.0))
    assert drop_repeats(rows).select("page_row", "value").sort("page_row").rows() == [(0, 1.0), (2, 2.0)]
