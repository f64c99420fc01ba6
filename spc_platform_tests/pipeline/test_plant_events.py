"""Events of orders, operations and materials over the whole path, against the plant's truth."""

from __future__ import annotations

import polars as pl
import pytest

from spc_platform_tests.pipeline.conftest import FOURTEEN_DATES, Finished

TABLES = {
    "work_order_event": ("order-events", "order_events", ["job_order_id", "event_type", "occurred_at"]),
    "material_link": ("material-links", "genealogy_edges", ["parent_id", "child_id", "link_type", "quantity", "occurred_at"]),
}


def of_dates(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("production_date").is_in(FOURTEEN_DATES))


@pytest.mark.parametrize("table", TABLES)
def test_the_accepted_events_are_the_true_ones(finished: Finished, table: str) -> None:
    """Late, corrected and withdrawn records leave no trace: what is in force is what happened."""
    _, truth, columns = TABLES[table]
    accepted = finished.table(table).select(columns).cast({pl.Categorical: pl.String})
    true = of_dates(finished.truth(truth)).select(columns).cast(accepted.schema)  # type: ignore[arg-type]
    assert accepted.height > 200
    assert accepted.sort(columns).equals(true.sort(columns))


def test_every_true_visit_of_a_lot_is_in_the_accepted_segment_events(finished: Finished) -> None:
    events = finished.table("segment_event").cast({pl.Categorical: pl.String})
    finishes = events.filter(event_type="finished").select("item_id", "segment_id", "occurred_at", "quantity")
    visits = of_dates(finished.truth("segment_visits")).select(
        "item_id", "segment_id", occurred_at="finished_at", quantity=pl.col("finished_quantity").cast(pl.Float64)
    )
    assert finishes.sort(pl.all()).rows() == visits.sort(pl.all()).rows()
    scrapped = events.filter(event_type="scrapped")["quantity"].sum()
    assert scrapped == of_dates(finished.truth("segment_visits"))["scrapped_quantity"].sum()


@pytest.mark.parametrize(("table", "resource"), [("segment_event", "segment-events"), ("material_link", "material-links")])
def test_impossible_events_are_refused_with_the_expected_reason(finished: Finished, table: str, resource: str) -> None:
    refused = finished.table(f"{table}_rejected").select("record_id", "reasons").sort("record_id")
    defects = finished.truth("event_defects").filter(pl.col("expected_reason").is_not_null(), resource=resource)
    expected = of_dates(defects).select("record_id", reasons="expected_reason").sort("record_id")
    assert refused.height > 15
    assert refused.rows() == expected.rows()
