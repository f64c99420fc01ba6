"""The plant's records as other systems tell them: OData v4, Tulip tables, PI Web API, MachineMetrics reports.

Each dialect tells the same truth as ``/api/v1``. OData and Tulip show the records as they are now, one row per record,
as such tables do; reports hold every revision; PI shows the values of telemetry at their time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import polars as pl

from spc_platform.plant.measuring import NAN_TOKEN
from spc_platform.plant.records import RESOURCES
from spc_platform.plant.simulation import Plant

ODATA, TULIP, PI, REPORTS = "/odata/v4/", "/tulip/api/v3/tables/", "/piwebapi/streamsets/recorded", "/machinemetrics/reports/"
MOST_ODATA, MOST_TULIP, MOST_PI = 5_000, 100, 150_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a dialect: its path, parameters (each a list), body and headers in lower case, and the plant's time."""

    path: str
    query: Mapping[str, list[str]]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    now: datetime
    host: str
    repeats: Callable[[], bool]

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a dialect is addressed, which credential it wants and how it answers."""

    prefix: str
    credential: str
    resource: Callable[[str], str]
    answer: Callable[[Plant, str, Asked], tuple[int, Any]]


def versions(plant: Plant, resource: str, now: datetime) -> pl.DataFrame:
    """Every revision that was written until ``now``, in the order (``_us``, ``id``); values that are no numbers are null."""
    frames = [plant.day(resource, each).frame for each in plant.production_dates(now)]
    whole = pl.concat(frames).filter(pl.col("_us") <= int(now.timestamp() * 1e6)).sort("_us", "id")
    if "value" in whole.columns:
        whole = whole.with_columns(value=pl.when(pl.col("value") != NAN_TOKEN).then("value"))
    return whole


def current(plant: Plant, resource: str, now: datetime) -> pl.DataFrame:
    """The records as they are at ``now``: the last revision of each, in the order (``_us``, ``id``)."""
    return versions(plant, resource, now).unique("id", keep="last", maintain_order=True).sort("_us", "id")


def _us(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return round(at.astimezone(UTC).timestamp() * 1e6)


def _behind(frame: pl.DataFrame, us: int, record_id: str) -> pl.DataFrame:
    return frame.filter((pl.col("_us") > us) | ((pl.col("_us") == us) & (pl.col("id") > record_id)))


def _odata(plant: Plant, resource: str, asked: Asked) -> tuple[int, Any]:
    """Pages by ``$skiptoken``; the last page has a delta link that shows what was written since the walk began."""
    begun = int(asked.now.timestamp() * 1e6)
    frame, delta, link = current(plant, resource, asked.now), asked.one("$deltatoken"), asked.path
    if token := asked.one("$skiptoken"):
        us, record_id, started, delta = token.split("|")
        frame, begun = _behind(frame, int(us), record_id), int(started)
    elif delta:
        frame = frame.filter(pl.col("_us") > int(delta))
    elif condition := asked.one("$filter"):
        name, _, at = condition.partition(" ge ")
        if name != "ModifiedAt":
            raise ValueError(f"$filter {condition!r}: only ModifiedAt ge is known")
        frame = frame.filter(pl.col("_us") >= _us(at))
    if not delta:
        # A table does not list what was deleted; only its changes do.
        frame = frame.filter(~pl.col("deleted")) if "deleted" in frame.columns else frame
    size = MOST_ODATA
    for preference in asked.headers.get("prefer", "").split(","):
        name, _, wanted = preference.strip().partition("=")
        size = min(size, int(wanted)) if name == "odata.maxpagesize" else size
    chosen = frame.head(size)
    page: dict[str, Any] = {"@odata.context": f"{ODATA}$metadata#{resource}", "value": [_entity(r) for r in chosen.to_dicts()]}
    if frame.height > size:
        last = chosen.row(-1, named=True)
        us, record_id = (last["_us"], last["id"])
        if asked.repeats():
            us, record_id = chosen["_us"][0], ""
        token = f"{us}|{record_id}|{begun}|{delta}"
        page["@odata.nextLink"] = f"{asked.host}{link}?{urlencode({'$skiptoken': token})}"
    else:
        page["@odata.deltaLink"] = f"{asked.host}{link}?{urlencode({'$deltatoken': begun})}"
    return 200, page


def _entity(record: dict[str, Any]) -> dict[str, Any]:
    removed = {"@removed": {"reason": "deleted"}} if record.pop("deleted", False) else {}
    record.pop("_us")
    return {**removed, "Id": record.pop("id"), "ModifiedAt": record.pop("updated_at"), **record}


def _tulip(plant: Plant, resource: str, asked: Asked) -> tuple[int, Any]:
    frame = current(plant, resource, asked.now)
    for condition in json.loads(asked.one("filters", "[]")):
        if condition["field"] != "_updatedAt" or condition["functionType"] != "greaterThanOrEqual":
            raise ValueError(f"filter {condition} is not known")
        frame = frame.filter(pl.col("_us") >= _us(condition["arg"]))
    sorting = json.loads(asked.one("sortOptions", "[]"))
    if sorting != [{"sortBy": "_updatedAt", "sortDir": "asc"}]:
        frame = frame.sort("id")
    limit, offset = min(MOST_TULIP, int(asked.one("limit", "10"))), int(asked.one("offset", "0"))
    return 200, [
        {**{name: value for name, value in row.items() if name not in ("_us", "updated_at")}, "_updatedAt": row["updated_at"]}
        for row in frame.slice(offset, limit).to_dicts()
    ]


def _pi(plant: Plant, _: str, asked: Asked) -> tuple[int, Any]:
    """Recorded values between two times, both included; per stream at most ``maxCount``, the rest is silently left out."""
    begin, end = _us(asked.one("startTime")), _us(asked.one("endTime"))
    most = min(MOST_PI, int(asked.one("maxCount", "1000")))
    told = versions(plant, "telemetry", asked.now).with_columns(
        _at=pl.col("at").str.to_datetime("%+", time_unit="us", time_zone="UTC").cast(pl.Int64)
    )
    known = set(told["signal"].unique())
    told = told.filter(pl.col("_at").is_between(begin, end)).sort("_at", "_us")
    items: list[dict[str, Any]] = []
    for web_id in asked.query.get("webId", []):
        if web_id not in known:
            items.append({"WebId": web_id, "Errors": [f"PI Point {web_id} was not found"]})
            continue
        rows = told.filter(pl.col("signal") == web_id).head(most).to_dicts()
        items.append({"WebId": web_id, "Name": web_id, "Items": [_recorded(row) for row in rows]})
    return (207 if any("Errors" in item for item in items) else 200), {"Links": {}, "Items": items}


def _recorded(row: dict[str, Any]) -> dict[str, Any]:
    value, is_good = row["value"], row["value"] is not None
    state = {"Name": "Bad Input", "Value": 255, "IsSystem": True}
    told = {"Timestamp": row["at"], "Value": value if is_good else state, "UnitsAbbreviation": row["unit"], "Good": is_good}
    return told | {"Questionable": False, "Substituted": False}


def _report(plant: Plant, resource: str, asked: Asked) -> tuple[int, Any]:
    begin, end = _us(str(asked.body["start"])), _us(str(asked.body["end"]))
    frame = versions(plant, resource, asked.now).filter(pl.col("_us").is_between(begin, end, closed="left"))
    offset, limit = int(asked.body.get("offset", 0)), int(asked.body.get("limit", 100))
    rows = frame.slice(offset, limit).drop("_us").rename({"updated_at": "updatedAt"}).to_dicts()
    return 200, {"items": rows, "total": frame.height}


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


DIALECTS = (
    Dialect(ODATA, "token", _last, _odata),
    Dialect(TULIP, "basic", lambda path: _last(path.removesuffix("/records")), _tulip),
    Dialect(PI, "basic", lambda _: "telemetry", _pi),
    Dialect(REPORTS, "key", _last, _report),
)


def dialect_of(path: str) -> Dialect | None:
    """The dialect in which a path is asked for, if any, and only for a resource that the plant has."""
    found = next((each for each in DIALECTS if path.startswith(each.prefix)), None)
    return found if found is not None and found.resource(path) in RESOURCES else None
