"""Dialects of JSON by configuration: nested, keyed, tabular, with words, numbers and times of their own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from spc_platform.errors import ContractError, SiteError
from spc_platform.site.model import Resource
from spc_platform.site.profiles import PROFILES
from spc_platform.sources.decode import decode
from spc_platform.sources.json_names import duplicated
from spc_platform.sources.json_shape import FINAL

AT = datetime(2026, 3, 20, 9, 46, 40, 250_000, tzinfo=UTC)
ISO = "2026-03-20T09:46:40.25Z"


def telemetry(
    page: Any, fields: dict[str, str], records: str = "data", zone: str | None = None, **options: Any
) -> pl.DataFrame:
    resource = Resource("r", ("raw_telemetry",), "json_records", records=records, fields=fields, zone=zone, options=options)
    return decode(resource, "raw_telemetry", page if isinstance(page, bytes) else json.dumps(page).encode())


NAMED = {"record_id": "id", "observed_at": "at", "stream_id": "tag"}


def one(record: dict[str, Any], fields: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    whole = {"id": "1", "at": ISO, "tag": "T", "value": 1.5, "unit": "mm"} | record
    return telemetry({"data": [whole]}, NAMED | (fields or {}), **options).row(0, named=True)


def test_streamsets_are_exploded_and_their_parents_are_named() -> None:
    page = {
        "Items": [
            {
                "WebId": "W1",
                "Items": [
                    {"Timestamp": ISO, "Value": 1.5, "Good": True, "UnitsAbbreviation": "mm"},
                    {"Timestamp": ISO, "Value": {"Name": "Bad", "Value": 307, "IsSystem": True}, "Good": False},
                    {"Timestamp": ISO, "Value": {"Name": "Run", "Value": 4}, "Good": True, "UnitsAbbreviation": "mm"},
                    {"Timestamp": ISO, "Value": 9.5, "Good": True, "Questionable": True},
                ],
            },
            {"WebId": "W2", "Errors": ["PI Point not found"]},
        ]
    }
    frame = telemetry(
        page,
        {"stream_id": "^WebId", "observed_at": "Timestamp", "value": "Value", "unit": "UnitsAbbreviation"},
        records="Items",
        explode=["Items"],
        key=["^WebId", "Timestamp"],
        unwrap={"value": "Value"},
        maps={"stream_id": {"W1": "A10.temp"}},
        constants={"unit": "mm"},
        errors="Errors",
        quality=[{"path": "Good", "bad": [False]}, {"path": "Questionable", "bad": [True], "reason": "QUESTIONABLE"}],
    )
    assert frame["value"].to_list() == [1.5, None, 4.0, None, None]
    assert frame["decode_error"].to_list() == [None, "value:BAD_QUALITY", None, "value:QUESTIONABLE", "record:SOURCE_ERROR"]
    assert frame["stream_id"].to_list()[:4] == ["A10.temp"] * 4
    assert frame["record_id"].to_list()[:4] == [f"W1|{ISO}"] * 4
    assert frame["observed_at"].to_list()[:4] == [AT] * 4
    assert json.loads(frame["raw_record"][1])["Value"]["Value"] == 307, "what was refused is kept as it was said"


def test_a_collected_record_of_bad_quality_lands_without_its_value_and_says_why() -> None:
    assert (
        one({"value": None, "quality": "Bad_SensorFailure"}, quality=[{"path": "quality"}])["decode_error"]
        == "value:BAD_QUALITY"
    )
    assert one({}, quality=[{"path": "quality"}])["decode_error"] is None
    named = one({"value": 3.0, "quality": "BadSensorFailure"}, quality=[{"path": "quality", "named": True}])
    assert (named["value"], named["decode_error"]) == (None, "value:BAD_QUALITY_BADSENSORFAILURE")
    hostile = one({"value": 3.0, "quality": "a;value:X'\n" + "b" * 99}, quality=[{"path": "quality", "named": True}])
    assert hostile["decode_error"] == "value:BAD_QUALITY_A_VALUE_X_" + "B" * 30
    stays = one({"value": 3.0, "quality": "Bad"}, quality={"path": "quality"})
    assert (stays["value"], stays["decode_error"]) == (None, "value:BAD_QUALITY")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (1773999999.75 + 0.5, "epoch_s"),
        (1_774_000_000_250, "epoch_ms"),
        (1_774_000_000_250_000_000, "epoch_ns"),
        ("1774000000250000", "epoch_us"),
        ("/Date(1774000000250)/", "odata_v2"),
        ("20.03.2026 10:46:40.250 +0100", "%d.%m.%Y %H:%M:%S%.f %z"),
    ],
)
def test_instants_in_the_source_s_own_writing(said: Any, kind: str) -> None:
    assert one({"at": said}, types={"observed_at": kind})["observed_at"] == AT


def test_local_times_with_a_pattern_follow_the_zone_and_its_doubtful_hour() -> None:
    page = {"data": [{"id": "1", "at": "20.03.2026 10:46:40.250"}, {"id": "2", "at": "25.10.2026 02:30:00.000"}]}
    frame = telemetry(page, NAMED, zone="Europe/Berlin", types={"observed_at": "%d.%m.%Y %H:%M:%S%.f"})
    assert frame["observed_at"].to_list() == [AT, None]
    assert frame["decode_error"].to_list() == [None, "observed_at:AMBIGUOUS_LOCAL_TIME"]


@pytest.mark.parametrize("said", ["soon", True, [1], "12:00", 1e300])
def test_what_is_no_instant_is_refused(said: Any) -> None:
    assert one({"at": said}, types={"observed_at": "epoch_s"})["decode_error"] == "observed_at:NOT_A_TIMESTAMP"


@pytest.mark.parametrize(
    ("said", "kind", "value"), [("12.50", "decimal", 12.5), ("1.234,5", "decimal_comma", 1234.5), ("-3", "decimal", -3.0)]
)
def test_numbers_as_text(said: str, kind: str, value: float) -> None:
    assert one({"value": said}, types={"value": kind})["value"] == value


@pytest.mark.parametrize("said", ["1,5", "NaN", "0x10", "1_000", "١"])
def test_text_that_is_no_number_is_refused_not_guessed(said: str) -> None:
    assert one({"value": said}, types={"value": "decimal"})["decode_error"] == "value:NOT_A_NUMBER"


def test_null_tokens_scaling_words_and_constants() -> None:
    assert one({"value": -9999}, null_tokens=[-9999])["value"] is None
    assert one({"value": True}, null_tokens=[1])["decode_error"] == "value:NOT_A_NUMBER", "true is no 1"
    assert one({"value": 212}, linear={"value": [0.5, -6.0]})["value"] == 100.0
    assert one({"unit": "Grad"}, maps={"unit": {"Grad": "degC"}})["unit"] == "degC"
    assert one({"unit": None}, constants={"unit": "bar"})["unit"] == "bar"


@pytest.mark.parametrize(
    ("removed", "identity"),
    [
        ({"@id": "https://mes.example/odata/Results(4f1c-77)"}, "4f1c-77"),
        ({"@odata.id": "Results('O''Hara%20%282%29')"}, "O'Hara (2)"),
        ({"@id": "Results(Plant='P1',No=7)"}, "P1|7"),
        ({"@id": "Results(4)", "ResultId": "5"}, "5"),
    ],
)
def test_a_removed_entity_is_known_by_its_address(removed: dict[str, Any], identity: str) -> None:
    """OData 4.01 lets a service name what it removed by ``@id`` alone."""
    deleted = PROFILES["odata_v4"]["resource"]["options"]["deleted"]
    fields = {"record_id": "ResultId"}
    gone = one({"@removed": {"reason": "deleted"}, **removed}, fields, deleted=deleted)
    assert (gone["record_id"], gone["is_deleted"], gone["decode_error"]) == (identity, True, None)
    stays = one({"@id": "Results(4)"}, fields, deleted=deleted)
    assert stays["decode_error"] == "record_id:MISSING", "what is not deleted says itself what it is"


def test_a_deletion_in_the_manner_of_odata_4_0_names_its_id() -> None:
    said = {"@odata.context": "$metadata#Results/$deletedEntity", "id": "Results(12)", "reason": "deleted"}
    gone = one(said, {"record_id": "ResultId"}, deleted={"path": "reason", "id": ["id"]})
    assert (gone["record_id"], gone["is_deleted"]) == ("12", True)
    with pytest.raises(SiteError, match="list of paths"):
        one(said, deleted={"path": "reason", "id": "id"})


def test_a_deletion_that_names_no_revision_is_final() -> None:
    gone = one({"@removed": {"reason": "deleted"}, "value": None}, {"revision": "rev"}, deleted={"path": "@removed"})
    assert (gone["is_deleted"], gone["revision"]) == (True, FINAL)
    stays = one({"state": "OPEN"}, deleted={"path": "state", "values": ["VOID"]})
    assert (stays["is_deleted"], stays["revision"]) == (False, 1)
    assert one({"state": "VOID", "rev": 3}, {"revision": "rev"}, deleted={"path": "state", "values": ["VOID"]})["revision"] == 3


def test_a_revision_may_be_an_instant() -> None:
    row = one({"upd": ISO}, {"revision": "upd", "updated_at": "upd"}, types={"revision": "instant"})
    assert (row["revision"], row["updated_at"]) == (1_774_000_000_250_000, AT)


@pytest.mark.parametrize(
    ("page", "options"),
    [
        ({"data": {"1": {"at": ISO, "tag": "T", "value": 2}}}, {"layout": "keyed"}),
        ({"data": [["1", ISO, "T", 2]]}, {"layout": "rows", "columns": ["@key", "at", "tag", "value"]}),
        (
            {"data": [["1", ISO, "T", 2]], "cols": [{"name": "@key"}, {"name": "at"}, {"name": "tag"}, {"name": "value"}]},
            {"layout": "rows", "columns": "cols"},
        ),
        ({"data": {"@key": ["1"], "at": [ISO], "tag": ["T"], "value": [2]}}, {"layout": "columns"}),
    ],
)
def test_layouts(page: Any, options: dict[str, Any]) -> None:
    row = telemetry(page, NAMED | {"record_id": "@key"}, **options).row(0, named=True)
    assert (row["record_id"], row["observed_at"], row["stream_id"], row["value"]) == ("1", AT, "T", 2.0)


def test_a_short_row_spoils_itself_only() -> None:
    frame = telemetry({"data": [["1", ISO], ["2"]]}, NAMED, layout="rows", columns=["id", "at"])
    assert frame["decode_error"].to_list() == [None, "record:NOT_AN_OBJECT"]


def test_a_page_of_another_layout_is_refused_as_a_whole() -> None:
    with pytest.raises(ContractError, match="no array of rows"):
        telemetry({"data": {}}, NAMED, layout="rows", columns=["id"])


TWICE = b'{"data": [{"id": "0", "value": 1}, {"id": "1", "value": 1, "value": 2}, {"id": "2", "value": 3}]}'


@pytest.mark.parametrize("options", [{}, {"null_tokens": ["-"]}])
def test_a_record_with_a_name_twice_is_refused_and_kept(options: dict[str, Any]) -> None:
    frame = telemetry(TWICE, NAMED, **options)
    assert frame["decode_error"].to_list() == [None, "record:DUPLICATE_KEY", None]
    assert frame["value"].to_list() == [1.0, None, 3.0]
    ignored = telemetry(TWICE, NAMED, duplicate_keys="ignore", **options)
    assert ignored["value"].to_list() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":1,"a":2}', True),
        (b'{"a" :1, "b\\":":2}', False),
        (b'{"a":1,"\\u0061":2}', True),
        (b'[{"a":{"b":1,"b":1}}]', True),
        (b'[{"a":1},{"a":1}]', False),
        (b'{"a":NaN,"a":1}', True),
    ],
)
def test_names_that_stand_twice_are_found(text: bytes, expected: bool) -> None:
    assert duplicated(text) is expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layout": "recods"}, 'did you mean "records"'),
        ({"types": {"value": "decimals"}}, 'did you mean "decimal"'),
        ({"types": {"valeu": "decimal"}}, 'did you mean "value"'),
        ({"quality": [{"pathh": "x"}]}, 'did you mean "path"'),
        ({"linear": {"value": [1]}}, "factor, summand"),
        ({"layout": "rows"}, "name the cells"),
        ({"explode": "Items"}, "not a list"),
    ],
)
def test_a_wrong_option_is_named_with_a_remedy(options: dict[str, Any], named: str) -> None:
    with pytest.raises(SiteError, match=named):
        telemetry({"data": []}, NAMED, **options)


INFLUX: dict[str, Any] = {
    "fields": {"stream_id": "^tags.machine", "observed_at": "time", "value": "value"},
    "layout": "rows",
    "columns": "^columns",
    "key": ["^tags.machine", "time"],
    "types": {"observed_at": "epoch_ns"},
    "constants": {"unit": "degC"},
    "errors": "error",
    "records_optional": True,
}
SERIES = {
    "name": "temp",
    "tags": {"machine": "L1"},
    "columns": ["time", "value", "st"],
    "values": [[1774000000250000123, 24.5, "ok"], [1774000003000000000, None, "ok"], [1774000004000000000, 25.0]],
}
EXPLODED = [("results", ["series", "values"]), ("results.0.series", ["values"])]


@pytest.mark.parametrize(("records", "explode"), EXPLODED)
def test_rows_within_series_are_named_by_the_columns_of_their_series(records: str, explode: list[str]) -> None:
    turned = {"tags": {"machine": "L2"}, "columns": ["value", "time"], "values": [[7.5, 1774000000250000000]]}
    page = {"results": [{"statement_id": 0, "series": [SERIES, turned]}]}
    frame = telemetry(page, records=records, explode=explode, **INFLUX)
    assert frame["stream_id"].to_list() == ["L1", "L1", None, "L2"]
    assert frame["value"].to_list() == [24.5, None, None, 7.5]
    at = datetime(2026, 3, 20, 9, 46, 40, 250_000, tzinfo=UTC)
    assert (frame["observed_at"][0], frame["observed_at"][3], frame["unit"][0]) == (at, at, "degC")
    assert frame["decode_error"].to_list() == [None, None, "record:NOT_AN_OBJECT", None], "a short row spoils itself only"


@pytest.mark.parametrize(("records", "explode"), EXPLODED)
def test_a_slice_without_series_is_an_empty_page(records: str, explode: list[str]) -> None:
    page = {"results": [{"statement_id": 0}]}
    assert telemetry(page, records=records, explode=explode, **INFLUX).is_empty()
    if records != "results":
        with pytest.raises(ContractError, match="no array"):
            telemetry(page, records=records, explode=explode, **(INFLUX | {"records_optional": False}))


def test_what_a_page_without_series_says_of_an_error_is_no_empty_page() -> None:
    said = {"results": [{"statement_id": 0, "error": "measurement not found"}]}
    frame = telemetry(said, records="results", explode=["series", "values"], **INFLUX)
    assert frame["decode_error"].to_list() == ["record:SOURCE_ERROR"]
    for page in ({"error": "timeout"}, {}):
        with pytest.raises(ContractError, match="no array"):
            telemetry(page, records="results.0.series", explode=["values"], **INFLUX)
    with pytest.raises(ContractError, match="no array"):
        telemetry({"error": "timeout"}, records="results", explode=["series", "values"], **INFLUX)


@pytest.mark.parametrize(
    ("said", "revision", "error"),
    [
        ("3", 3, None),
        ("x3", 1, "revision:NOT_AN_INTEGER"),
        ("3.0", 1, "revision:NOT_AN_INTEGER"),
        ("٣", 1, "revision:NOT_AN_INTEGER"),
    ],
)
def test_a_revision_may_be_digits_as_text(said: str, revision: int, error: str | None) -> None:
    plain = one({"rev": said}, {"revision": "rev"})
    nested = one({"m": {"rev": said}}, {"revision": "m.rev"})
    assert [(row["revision"], row["decode_error"]) for row in (plain, nested)] == [(revision, error)] * 2
