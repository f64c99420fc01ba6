"""Genealogies worked by hand, and random ones against a search over sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from spc_platform.contracts.genealogy import LOT_GENEALOGY, LOT_GENEALOGY_REFUSED
from spc_platform.contracts.operations import MATERIAL_LINK_PAYLOAD, SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.raw import MEASUREMENT_PAYLOAD
from spc_platform.contracts.site import SPECIFICATIONS
from spc_platform.contracts.spc import SPC_POINTS, SPC_SUBGROUPS
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.production import genealogy as kernel
from spc_platform.production.genealogy import links_in_force, lot_genealogy
from spc_platform.production.traceability import Direction, Genealogy, recall, trace, trace_measurements, with_kinds

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
LINK = {
    "source_id": pl.String,
    "record_id": pl.String,
    "revision": pl.Int64,
    "updated_at": UTC_DTYPE,
    "is_deleted": pl.Boolean,
    **{column.name: column.dtype for column in MATERIAL_LINK_PAYLOAD},
}
EVENT = {column.name: column.dtype for column in SEGMENT_EVENT_PAYLOAD}
MEASURED = {
    "source_id": pl.String,
    "record_id": pl.String,
    **{column.name: column.dtype for column in MEASUREMENT_PAYLOAD},
    "specification_version": pl.Int64,
}
NO_EVENTS, NO_MEASUREMENTS = pl.DataFrame(schema=EVENT), pl.DataFrame(schema=MEASURED)


def link(
    parent: str | None, child: str | None, kind: str = "consumed", quantity: float | None = None, **other: Any
) -> dict[str, Any]:
    return {"parent_id": parent, "child_id": child, "link_type": kind, "quantity": quantity, **other}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    """Links an hour apart in the order of writing, named 1, 2, …"""
    common = {
        "source_id": "mes",
        "revision": 1,
        "updated_at": START,
        "is_deleted": False,
        "equipment_id": None,
        "job_order_id": None,
    }
    named = [
        {**common, "record_id": str(place + 1), "occurred_at": START + timedelta(hours=place), **row}
        for place, row in enumerate(rows)
    ]
    return pl.DataFrame(named, schema=LINK)


def genealogy(*rows: dict[str, Any]) -> Genealogy:
    return Genealogy.of(lot_genealogy(links_in_force(table(*rows))).edges)


def depths(found: Genealogy, item: str, *directions: Direction, depth: int | None = None) -> dict[str, int]:
    items = trace(found, item, directions, depth).items
    return dict(items.select("item_id", "depth").iter_rows())


DIAMOND = (
    link("RAW", "A", "split", 60),
    link("RAW", "B", "split", 40),
    link("A", "C", "merged", 30),
    link("B", "C", "merged", 40),
    link("A", "D", "consumed", 30),
)
"""100 kg split into 60 and 40; C is merged of half of A and all of B, D takes the other half of A."""


def test_a_diamond_is_traced_both_ways_and_its_merged_lot_is_reached_once() -> None:
    found = genealogy(*DIAMOND)
    assert depths(found, "RAW", "forward") == {"RAW": 0, "A": 1, "B": 1, "C": 2, "D": 2}
    assert depths(found, "C", "backward") == {"C": 0, "A": 1, "B": 1, "RAW": 2}
    assert depths(found, "A", "backward", "forward") == {"A": 0, "RAW": 1, "C": 1, "D": 1}
    assert depths(found, "RAW", "forward", depth=1) == {"RAW": 0, "A": 1, "B": 1}
    assert depths(found, "RAW", "forward", depth=0) == {"RAW": 0}


def test_a_trace_names_every_link_once_with_its_record() -> None:
    links = trace(genealogy(*DIAMOND), "RAW", ["forward"]).links
    assert links.select("depth", "parent_id", "child_id", "record_id").rows() == [
        (1, "RAW", "A", "1"),
        (1, "RAW", "B", "2"),
        (2, "A", "C", "3"),
        (2, "A", "D", "5"),
        (2, "B", "C", "4"),
    ]


def test_shares_of_a_split_and_merged_lot_are_exact_fractions_and_add_up_over_what_is_finished() -> None:
    """By hand: C holds 60/100 * 30/60 + 40/100 * 40/40 = 7/10 of RAW, D holds 60/100 * 30/60 = 3/10."""
    found = recall(genealogy(*DIAMOND), "RAW", NO_EVENTS, NO_MEASUREMENTS)
    share = dict(found.select("item_id", "share").iter_rows())
    assert {name: Fraction(value).limit_denominator(100) for name, value in share.items()} == {
        "A": Fraction(3, 5),
        "B": Fraction(2, 5),
        "C": Fraction(7, 10),
        "D": Fraction(3, 10),
    }
    finished = found.filter("is_finished")
    assert finished["item_id"].to_list() == ["C", "D"]
    assert finished["quantity"].to_list() == pytest.approx([70, 30], rel=1e-15)


def test_a_quantity_that_is_not_stated_leaves_the_share_empty_with_a_reason_and_the_item_on_the_list() -> None:
    found = recall(
        genealogy(link("RAW", "A", quantity=5), link("RAW", "B"), link("B", "S1", "assembled")),
        "RAW",
        NO_EVENTS,
        NO_MEASUREMENTS,
    )
    assert found.select("item_id", "share", "reason").sort("item_id").rows() == [
        ("A", None, "QUANTITY_NOT_STATED"),
        ("B", None, "QUANTITY_NOT_STATED"),
        ("S1", None, "QUANTITY_NOT_STATED"),
    ]


def test_the_only_link_of_a_lot_carries_all_of_it_whether_or_not_it_states_a_quantity() -> None:
    found = recall(
        genealogy(link("RAW", "A", quantity=5), link("RAW", "B", quantity=15), link("B", "S1", "assembled")),
        "RAW",
        NO_EVENTS,
        NO_MEASUREMENTS,
    )
    assert dict(found.filter("is_finished").select("item_id", "quantity").iter_rows()) == {"A": 5.0, "S1": 15.0}


def test_two_draws_of_a_lot_into_one_item_both_count() -> None:
    found = recall(
        genealogy(link("RAW", "A", quantity=1), link("RAW", "A", quantity=2), link("RAW", "B", quantity=1)),
        "RAW",
        NO_EVENTS,
        NO_MEASUREMENTS,
    )
    assert dict(found.select("item_id", "share").iter_rows()) == {"A": 0.75, "B": 0.25}


def test_a_recalled_part_is_where_its_last_operation_was_and_else_where_it_was_made() -> None:
    found = genealogy(link("RAW", "S1", equipment_id="PRESS", job_order_id="WO1"), link("RAW", "S2", equipment_id="PRESS"))
    event = {"item_kind": "serial", "quantity": 1.0, "job_order_id": "WO1", "material_definition_id": "P"}
    events = pl.DataFrame(
        [
            {
                **event,
                "item_id": "S1",
                "segment_id": "PACK",
                "equipment_id": "DOCK",
                "event_type": "moved",
                "occurred_at": START + timedelta(days=2),
            },
            {
                **event,
                "item_id": "S1",
                "segment_id": "TEST",
                "equipment_id": "BENCH",
                "event_type": "finished",
                "occurred_at": START + timedelta(days=1),
            },
        ],
        schema=EVENT,
    )
    rows = recall(found, "RAW", events, NO_MEASUREMENTS).select(
        "item_id", "item_kind", "segment_id", "equipment_id", "event_type"
    )
    assert rows.rows() == [("S1", "serial", "PACK", "DOCK", "moved"), ("S2", None, None, "PRESS", "consumed")]


# --- cycles


def test_the_link_that_closes_a_cycle_is_refused_with_its_items_and_records_and_the_rest_stays() -> None:
    found = lot_genealogy(links_in_force(table(link("A", "B"), link("B", "C"), link("C", "D"), link("C", "A"), link("A", "E"))))
    assert found.edges["record_id"].to_list() == ["1", "5", "2", "3"]
    assert found.refused.select("record_id", "reasons", "cycle_items", "cycle_records").rows() == [
        ("4", "child_id:CYCLE", "A>B>C>A", "mes:1;mes:2;mes:4")
    ]


def test_which_link_of_a_cycle_is_refused_follows_from_when_it_happened_and_not_from_the_order_of_delivery() -> None:
    rows = table(link("A", "B"), link("B", "A"))
    assert lot_genealogy(rows).refused["record_id"].to_list() == ["2"]
    turned = rows.with_columns(occurred_at=pl.col("occurred_at").reverse())
    assert lot_genealogy(turned).refused["record_id"].to_list() == ["1"]


def test_two_cycles_through_one_lot_cost_two_links() -> None:
    rows = table(link("A", "B"), link("B", "A"), link("A", "C"), link("C", "A"), link("B", "C"))
    found = lot_genealogy(rows)
    assert found.refused.select("record_id", "cycle_items").rows() == [("2", "A>B>A"), ("4", "A>C>A")]
    assert sorted(found.edges["record_id"]) == ["1", "3", "5"]


def test_rework_that_keeps_its_number_is_kept_and_is_no_cycle() -> None:
    found = genealogy(link("RAW", "S1"), link("S1", "S1", "reworked"), link("S1", "BOX", "assembled"))
    made = trace(found, "RAW", ["forward"])
    assert made.links["link_type"].to_list() == ["consumed", "assembled", "reworked"]
    assert depths(found, "BOX", "backward") == {"BOX": 0, "S1": 1, "RAW": 2}
    assert recall(found, "RAW", NO_EVENTS, NO_MEASUREMENTS).select("item_id", "share", "is_finished").rows() == [
        ("S1", 1.0, False),
        ("BOX", 1.0, True),
    ]


def test_rework_under_a_new_number_is_a_link_and_going_back_to_the_old_number_is_refused() -> None:
    found = lot_genealogy(links_in_force(table(link("S1", "S1/R1", "reworked"), link("S1/R1", "S1", "reworked"))))
    assert found.edges["child_id"].to_list() == ["S1/R1"]
    assert found.refused.select("record_id", "cycle_items").rows() == [("2", "S1>S1/R1>S1")]


def test_a_part_that_only_was_reworked_is_finished() -> None:
    made = trace(genealogy(link("RAW", "S1"), link("S1", "S1", "reworked")), "S1", ["forward"])
    assert made.items.select("item_id", "is_end").rows() == [("S1", True)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (link("A", "A", "split"), "child_id:SELF_LINK"),
        (link(None, "B"), "parent_id:MISSING"),
        (link("A", "B", "glued"), "link_type:NOT_ALLOWED"),
        (link("A", "B", quantity=0.0), "quantity:NOT_ABOVE_0"),
        (link("A", "B", quantity=float("nan")), "quantity:NOT_FINITE"),
        (link("A", "B", occurred_at=None), "occurred_at:MISSING"),
    ],
)
def test_a_link_that_breaks_the_contract_is_refused_with_its_reason(row: dict[str, Any], reason: str) -> None:
    found = lot_genealogy(links_in_force(table(row, link("X", "Y"))))
    assert found.refused["reasons"].to_list() == [reason]
    assert found.edges["parent_id"].to_list() == ["X"]


def test_beyond_the_bound_every_link_on_a_cycle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MAX_CLOSING", 1)
    rows = table(link("A", "B"), link("B", "A"), link("C", "D"), link("D", "C"), link("D", "E"))
    found = lot_genealogy(rows)
    assert sorted(found.refused["record_id"]) == ["2", "3", "4"]
    assert sorted(found.edges["record_id"]) == ["1", "5"]


# --- time and revisions


def test_a_lot_that_was_used_before_it_was_made_is_flagged_and_still_traced() -> None:
    rows = table(link("RAW", "A", occurred_at=START + timedelta(hours=2)), link("A", "B", occurred_at=START))
    found = lot_genealogy(rows)
    assert found.edges.select("parent_id", "time_issue", "parent_made_at").rows() == [
        ("A", "USED_BEFORE_MADE", START + timedelta(hours=2)),
        ("RAW", None, None),
    ]
    assert lot_genealogy(rows, tolerance_s=7200).edges["time_issue"].null_count() == 2
    assert set(depths(Genealogy.of(found.edges), "B", "backward")) == {"B", "A", "RAW"}


def test_a_lot_that_is_filled_while_it_is_drawn_from_is_no_issue_of_time() -> None:
    rows = table(link("RAW1", "TANK"), link("TANK", "P1"), link("RAW2", "TANK"))
    assert lot_genealogy(rows).edges["time_issue"].null_count() == 3


def test_the_latest_revision_wins_a_deleted_link_goes_and_what_was_known_earlier_can_be_asked() -> None:
    later, last = START + timedelta(days=1), START + timedelta(days=2)
    rows = table(
        link("A", "S1", record_id="r"),
        link("B", "S1", record_id="r", revision=2, updated_at=later),
        link("B", "S1", record_id="r", revision=3, updated_at=last, is_deleted=True),
    )
    assert links_in_force(rows).is_empty()
    assert links_in_force(rows, later)["parent_id"].to_list() == ["B"]
    assert links_in_force(rows, START)["parent_id"].to_list() == ["A"]
    assert links_in_force(rows, START - timedelta(seconds=1)).is_empty()


# --- laws


def random_links(seed: int, n: int, items: int, back: float = 0.0) -> pl.DataFrame:
    """Links from lower to higher numbers; a share of ``back`` of them turned round."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(0, items, (n, 2)), axis=1)
    ends = ends[ends[:, 0] != ends[:, 1]]
    turned = rng.random(len(ends)) < back
    ends[turned] = ends[turned][:, ::-1]
    return table(
        *(
            link(f"i{a:03d}", f"i{b:03d}", quantity=float(q))
            for (a, b), q in zip(ends, rng.integers(1, 9, len(ends)), strict=True)
        )
    )


def reached(pairs: set[tuple[str, str]], item: str) -> dict[str, int]:
    """Breadth-first search over sets: the oracle."""
    found, front, depth = {item: 0}, {item}, 0
    while front:
        depth += 1
        front = {child for parent, child in pairs if parent in front} - set(found)
        found |= dict.fromkeys(front, depth)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_random_genealogies_are_traced_as_a_search_over_sets_does(seed: int) -> None:
    rows = random_links(seed, 60, 40)
    found = genealogy(*rows.to_dicts())
    pairs = set(rows.select("parent_id", "child_id").iter_rows())
    for item in sorted({end for pair in pairs for end in pair}):
        assert depths(found, item, "forward") == reached(pairs, item)
        assert depths(found, item, "backward") == reached({(child, parent) for parent, child in pairs}, item)


@pytest.mark.parametrize("seed", range(4))
def test_the_start_is_among_the_descendants_of_each_of_its_ancestors(seed: int) -> None:
    found = genealogy(*random_links(seed, 50, 30).to_dicts())
    for item in found.nodes["item_id"]:
        for ancestor in set(depths(found, item, "backward")) - {item}:
            assert item in depths(found, ancestor, "forward")


@pytest.mark.parametrize("seed", range(4))
def test_what_left_a_lot_is_all_in_what_is_finished(seed: int) -> None:
    found = genealogy(*random_links(seed, 60, 30).to_dicts())
    for item in found.nodes.filter(pl.col("down") < pl.col("down_end"))["item_id"]:
        finished = recall(found, item, NO_EVENTS, NO_MEASUREMENTS).filter("is_finished")
        assert finished["share"].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_random_cycles_are_broken_as_one_link_after_the_other_would(seed: int) -> None:
    """Oracle: take links in the order in which they happened, leave out each whose child already leads to its parent."""
    rows = random_links(seed, 60, 15, back=0.2)
    pairs: set[tuple[str, str]] = set()
    refused = []
    for row in rows.sort("occurred_at").iter_rows(named=True):
        if row["parent_id"] in reached(pairs, row["child_id"]):
            refused.append(row["record_id"])
        else:
            pairs.add((row["parent_id"], row["child_id"]))
    found = lot_genealogy(rows)
    assert refused
    assert sorted(found.refused["record_id"]) == sorted(refused)
    for items in found.refused["cycle_items"]:
        way = items.split(">")
        assert way[0] == way[-1]
        assert set(pairwise(way[:-1])) <= pairs


@pytest.mark.parametrize("seed", range(4))
def test_rows_in_any_order_give_the_same_bytes(seed: int) -> None:
    rows = random_links(seed, 60, 15, back=0.2)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
    one, other = (lot_genealogy(links_in_force(frame)) for frame in (rows, shuffled))
    assert one.edges.write_json() == other.edges.write_json()
    assert one.refused.write_json() == other.refused.write_json()
    assert LOT_GENEALOGY.conform(one.edges).equals(one.edges)
    assert LOT_GENEALOGY_REFUSED.conform(one.refused).equals(one.refused)


def test_no_links_at_all_make_an_empty_genealogy() -> None:
    found = lot_genealogy(links_in_force(table()))
    empty = Genealogy.of(found.edges)
    assert found.refused.is_empty()
    assert depths(empty, "S1", "forward", "backward") == {"S1": 0}
    assert recall(empty, "S1", NO_EVENTS, NO_MEASUREMENTS).is_empty()


# --- measurements


def measured(
    record: str, value: float, *, serial: str | None = None, lot: str | None = None, minute: int = 0, version: int | None = 1
) -> dict[str, Any]:
    return {
        "source_id": "mes",
        "record_id": record,
        "characteristic_id": "bore",
        "equipment_id": "CNC-1",
        "measured_at": START + timedelta(minutes=minute),
        "value": value,
        "unit": "mm",
        "serial_number": serial,
        "material_lot_id": lot,
        "job_order_id": None,
        "subgroup_key": None,
        "specification_version": version,
    }


SPECIFIED = SPECIFICATIONS.conform(
    pl.DataFrame(
        [
            {"characteristic_id": "bore", "version": 1, "lsl": 9.0, "usl": 11.0},
            {"characteristic_id": "bore", "version": 2, "lsl": 9.0, "usl": 10.0},
        ]
    ).with_columns(
        effective_from=pl.lit(START), effective_to=pl.lit(None), target=pl.lit(None), unit=pl.lit("mm"), resolution=pl.lit(None)
    )
)


def judged(
    item: str,
    rows: list[dict[str, Any]],
    *links: dict[str, Any],
    subgroups: pl.DataFrame | None = None,
    points: pl.DataFrame | None = None,
) -> pl.DataFrame:
    items = trace(genealogy(*links), item, ["backward", "forward"]).items
    frame = pl.DataFrame(rows, schema=MEASURED)
    return trace_measurements(
        items,
        frame,
        SPECIFIED,
        SPC_SUBGROUPS.empty() if subgroups is None else subgroups,
        SPC_POINTS.empty() if points is None else points,
    )


def test_each_value_is_judged_by_the_specification_version_of_its_own_time() -> None:
    rows = [
        measured("a", 10.5, serial="S1"),
        measured("b", 10.5, serial="S1", version=2, minute=1),
        measured("c", 9.0, serial="S1", minute=2),
        measured("d", 8.9, serial="S1", minute=3),
        measured("e", 5.0, serial="S1", version=None, minute=4),
    ]
    assert judged("S1", rows)["verdict"].to_list() == [
        "in_specification",
        "above_usl",
        "in_specification",
        "below_lsl",
        "no_specification",
    ]


def test_a_part_does_not_inherit_the_measurements_of_other_parts_of_its_lot() -> None:
    links = (link("L1", "S1"), link("L1", "S2"))
    rows = [
        measured("own", 10, serial="S1", lot="L1"),
        measured("other", 10, serial="S2", lot="L1"),
        measured("lot", 10, lot="L1"),
        measured("foreign", 10, serial="S9", lot="L9"),
    ]
    assert sorted(judged("S1", rows, *links).select("record_id", "item_id").rows()) == [("lot", "L1"), ("own", "S1")]
    of_lot = judged("L1", rows, *links).select("record_id", "item_id", "matched_by").rows()
    assert sorted(of_lot) == [
        ("lot", "L1", "material_lot_id"),
        ("other", "L1", "material_lot_id"),
        ("other", "S2", "serial_number"),
        ("own", "L1", "material_lot_id"),
        ("own", "S1", "serial_number"),
    ]


def test_a_value_carries_limit_version_and_signals_of_the_subgroup_that_holds_it() -> None:
    subgroups = SPC_SUBGROUPS.conform(
        pl.DataFrame(
            [
                {"subgroup_id": "g1", "subgroup_at": START, "subgroup_end_at": START + timedelta(minutes=4)},
                {
                    "subgroup_id": "g2",
                    "subgroup_at": START + timedelta(minutes=10),
                    "subgroup_end_at": START + timedelta(minutes=14),
                },
            ]
        )
        .with_columns(
            pl.lit(None).alias(name)
            for name in SPC_SUBGROUPS.names
            if name not in ("subgroup_id", "subgroup_at", "subgroup_end_at")
        )
        .with_columns(characteristic_id=pl.lit("bore"), equipment_id=pl.lit("CNC-1"))
    )
    points = SPC_POINTS.conform(
        pl.DataFrame(
            [
                {
                    "subgroup_id": "g1",
                    "panel": "location",
                    "limit_version": 3,
                    "cl": 10.0,
                    "lcl": 9.5,
                    "ucl": 10.5,
                    "rules": "nelson_1;nelson_2",
                },
                {
                    "subgroup_id": "g1",
                    "panel": "dispersion",
                    "limit_version": 3,
                    "cl": 1.0,
                    "lcl": 0.0,
                    "ucl": 2.0,
                    "rules": "nelson_1",
                },
                {
                    "subgroup_id": "g2",
                    "panel": "location",
                    "limit_version": 3,
                    "cl": 10.0,
                    "lcl": 9.5,
                    "ucl": 10.5,
                    "rules": None,
                },
            ]
        ).with_columns(
            pl.lit(None).alias(name)
            for name in SPC_POINTS.names
            if name not in ("subgroup_id", "panel", "limit_version", "cl", "lcl", "ucl", "rules")
        )
    )
    rows = [
        measured(name, 10, serial="S1", minute=minute)
        for name, minute in (("in", 4), ("between", 5), ("quiet", 10), ("after", 15))
    ]
    found = judged("S1", rows, subgroups=subgroups, points=points).select(
        "record_id", "subgroup_id", "limit_version", "ucl", "signals"
    )
    assert found.rows() == [
        ("in", "g1", 3, 10.5, "dispersion:nelson_1;location:nelson_1;location:nelson_2"),
        ("between", None, None, None, None),
        ("quiet", "g2", 3, 10.5, None),
        ("after", None, None, None, None),
    ]


def test_the_kind_of_an_item_is_what_records_say_and_empty_where_they_contradict() -> None:
    frame = pl.DataFrame([measured("a", 1, serial="X", lot="L1"), measured("b", 1, lot="X")], schema=MEASURED)
    items = pl.DataFrame({"item_id": ["L1", "X", "Y"], "item_kind": pl.Series([None, None, None], dtype=pl.String)})
    assert with_kinds(items, frame, NO_EVENTS).rows() == [("L1", "lot"), ("X", None), ("Y", None)]
