"""Local times, clock changes and leap seconds: what a source declared, what it meant, and what the row says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from spc_platform.errors import SiteError
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.site.loader import load_site
from spc_platform.site.model import Ambiguous, Resource
from spc_platform.site.scaffold import scaffold
from spc_platform.sources.decode import decode
from spc_platform.sources.local_time import place
from spc_platform_tests.unit.lake_plant import CONFIG, MEASUREMENTS, ScriptedSource, measurement, plant_site

FIRST_PASS, SECOND_PASS = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
TWICE, NEVER = "2026-10-25T02:30:00", "2026-03-29T02:30:00"


def json_resource(ambiguous: Ambiguous = "reject", zone: str | None = "Europe/Berlin") -> Resource:
    return replace(MEASUREMENTS, zone=zone, ambiguous=ambiguous)


def read_json(resource: Resource, *times: str) -> pl.DataFrame:
    records = [measurement(f"r{n}", time, updated_at="2026-11-01T00:00:00Z") for n, time in enumerate(times)]
    return decode(resource, "raw_measurement", json.dumps({"data": records}).encode())


def read_csv(ambiguous: Ambiguous, *times: str, zone: str | None = "Europe/Berlin") -> pl.DataFrame:
    fields = {"measured_at": "at", "value": "value"}
    resource = Resource("gauge", ("raw_measurement",), "csv", zone=zone, ambiguous=ambiguous, fields=fields)
    rows = "\n".join(f"{time},{n}" for n, time in enumerate(times))
    return decode(resource, "raw_measurement", f"at,value\n{rows}\n".encode())


@pytest.mark.parametrize(("ambiguous", "at"), [("earliest", FIRST_PASS), ("latest", SECOND_PASS)])
def test_the_declared_policy_decides_which_of_two_equal_local_times_is_meant_and_the_row_says_so(
    ambiguous: Ambiguous, at: datetime
) -> None:
    note = f"measured_at:AMBIGUOUS_LOCAL_TIME_READ_AS_{ambiguous.upper()}"
    for rows in (
        read_json(json_resource(ambiguous), TWICE, "2026-10-25T04:00:00"),
        read_csv(ambiguous, TWICE, "2026-10-25 04:00"),
    ):
        assert rows["measured_at"].to_list() == [at, datetime(2026, 10, 25, 3, tzinfo=UTC)]
        assert rows["decode_note"].to_list() == [note, None]
        assert rows["decode_error"].null_count() == 2


def test_an_ambiguous_local_time_is_refused_unless_a_policy_is_declared() -> None:
    for rows in (read_json(json_resource(), TWICE), read_csv("reject", TWICE)):
        assert rows["measured_at"].to_list() == [None]
        assert rows["decode_error"].to_list() == ["measured_at:AMBIGUOUS_LOCAL_TIME"]
        assert rows["raw_record"].str.contains("02:30").all()


@pytest.mark.parametrize("ambiguous", ["reject", "earliest", "latest", "by_order"])
def test_a_local_time_that_clocks_skipped_is_refused_under_every_policy(ambiguous: Ambiguous) -> None:
    for rows in (read_json(json_resource(ambiguous), NEVER), read_csv(ambiguous, NEVER)):
        assert rows["decode_error"].to_list() == ["measured_at:NONEXISTENT_LOCAL_TIME"]


def test_the_order_of_records_tells_the_two_passes_of_the_repeated_hour_apart() -> None:
    local = ("2026-10-25T01:50:00", "2026-10-25T02:10:00", "2026-10-25T02:50:00", "2026-10-25T02:05:00", "2026-10-25T03:01:00")
    expected = [f"2026-10-{day}" for day in ("24 23:50", "25 00:10", "25 00:50", "25 01:05", "25 02:01")]
    for rows in (read_json(json_resource("by_order"), *local), read_csv("by_order", *local)):
        assert rows["measured_at"].dt.to_string("%Y-%m-%d %H:%M").to_list() == expected
        assert rows["decode_note"].is_not_null().to_list() == [False, True, True, True, False]


@pytest.mark.parametrize("minutes", [(10, 50), (50, 10, 40, 20)])
def test_an_order_without_one_step_back_says_nothing(minutes: tuple[int, ...]) -> None:
    rows = read_csv("by_order", *(f"2026-10-25 02:{minute}" for minute in minutes))
    assert set(rows["decode_error"]) == {"measured_at:AMBIGUOUS_LOCAL_TIME"}


def test_two_years_of_clock_changes_in_one_page_are_told_apart_each_by_its_own_step() -> None:
    local = ["2025-10-26 02:40", "2025-10-26 02:20", "2026-10-25 02:05", "2026-10-25 02:00"]
    at = place(pl.Series(local).str.to_datetime(time_unit="us"), "Europe/Berlin", "by_order").at
    assert at.dt.hour().to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize("said", ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60.5+01:00", "2017-01-01T00:59:60"])
def test_a_leap_second_is_read_as_the_last_microsecond_before_it_and_flagged(said: str) -> None:
    for rows in (read_json(json_resource(), said), read_csv("reject", said)):
        assert rows["measured_at"].to_list() == [datetime(2016, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
        assert rows["decode_note"].to_list() == ["measured_at:LEAP_SECOND_READ_AS_59.999999"]
        assert rows["decode_error"].to_list() == [None]


@pytest.mark.parametrize(
    "said", ["2016-12-30T23:59:60Z", "2016-12-31T22:59:60Z", "2016-12-31T12:30:60", "2016-12-31T23:59:61Z"]
)
def test_a_second_60_anywhere_else_is_no_time(said: str) -> None:
    assert read_json(json_resource(), said)["decode_error"].to_list() == ["measured_at:NOT_A_TIMESTAMP"]
    assert read_csv("reject", said)["decode_error"].to_list() == ["measured_at:NOT_A_TIME"]


def test_without_a_declared_zone_a_local_time_is_not_guessed() -> None:
    assert read_json(json_resource(zone=None), TWICE)["decode_error"].to_list() == ["measured_at:TIMESTAMP_WITHOUT_ZONE"]
    assert read_csv("latest", TWICE, zone=None)["decode_error"].to_list() == ["measured_at:NO_ZONE"]


def test_the_assumption_stands_in_the_raw_table(tmp_path: Path) -> None:
    config = replace(CONFIG, resources=(json_resource("latest"),))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    landing, site = Landing(tmp_path / "landing", ledger), plant_site(config)
    record = measurement("r", TWICE, updated_at="2026-10-25T05:00:00Z")
    said = json.dumps({"data": [record]}).encode()
    report = land_source(ScriptedSource({"measurements": [said]}, config), site, landing, ledger)
    [day] = report.touched
    raw = raw_partition("raw_measurement", day, site, landing, ledger)
    assert raw.select("measured_at", "decode_note").rows() == [(SECOND_PASS, "measured_at:AMBIGUOUS_LOCAL_TIME_READ_AS_LATEST")]


def test_the_zone_of_a_source_holds_for_its_resources_unless_they_state_their_own(tmp_path: Path) -> None:
    scaffold(tmp_path / "site", "plant-1")
    toml = tmp_path / "site" / "sources.toml"
    head, resource = toml.read_text().split("[[source.resource]]", 1)
    second = resource.replace('name = "', 'zone = "Asia/Tokyo"\nname = "other-', 1)
    clock = 'zone = "Europe/Berlin"\nambiguous = "latest"\n'
    first, rest = head.split('kind = "', 1)
    toml.write_text(f'{first}{clock}kind = "{rest}[[source.resource]]{resource}\n[[source.resource]]{second}')
    [source] = load_site(tmp_path / "site").sources
    assert [(each.zone, each.ambiguous) for each in source.resources] == [("Europe/Berlin", "latest"), ("Asia/Tokyo", "latest")]
    toml.write_text(toml.read_text().replace('"latest"', '"guess"'))
    with pytest.raises(SiteError, match="'earliest', 'latest', 'by_order'"):
        load_site(tmp_path / "site")
