"""Ready profiles of REST sources: named defaults that ``profile = "..."`` of a source picks and its own keys override.

A profile is what a site folder could write itself, no more: docs/reference/rest.md shows each in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.errors import SiteError
from spc_platform.site.files import did_you_mean

_COLUMN_OPTIONS = ("unwrap", "types", "constants", "maps", "linear")
_RECORD_COLUMNS = ("record_id", "revision", "updated_at", "is_deleted")

PROFILES: dict[str, dict[str, Any]] = {
    "cursor": {
        "pagination": {"kind": "cursor", "next": "next_cursor", "cursor_param": "cursor", "since_param": "updated_since"},
        "resource": {"records": "data"},
    },
    "odata_v4": {
        "pagination": {
            "kind": "odata",
            "next": "@odata.nextLink",
            "since_param": "$filter",
            "since_template": "ModifiedAt ge {since}",
            "time_format": "iso_ms",
            "limit_param": "",
            "headers": {"Prefer": "odata.maxpagesize=5000", "OData-MaxVersion": "4.0"},
            "server_time": "",
        },
        "resource": {
            "records": "value",
            "fields": {"record_id": "Id", "updated_at": "ModifiedAt"},
            "options": {"params": {"$orderby": "ModifiedAt,Id"}, "deleted": {"path": "@removed", "id": ["@id", "@odata.id"]}},
        },
    },
    "tulip_tables": {
        "auth": {"kind": "basic"},
        "pagination": {
            "kind": "keyset",
            "mark": "_updatedAt",
            "since_param": "filters",
            "since_template": '[{"field":"_updatedAt","functionType":"greaterThanOrEqual","arg":"{since}"}]',
            "time_format": "iso_ms",
            "page_size": 100,
            # Without, a walk over a table that is written to faster than it is asked would never end.
            "stop": "short",
            "server_time": "",
        },
        "limits": {"requests_per_s": 40},
        "resource": {
            "records": "",
            "fields": {"record_id": "id", "revision": "_updatedAt", "updated_at": "_updatedAt"},
            "options": {
                "params": {"sortOptions": '[{"sortBy":"_updatedAt","sortDir":"asc"}]'},
                "types": {"revision": "instant", "value": "decimal"},
            },
        },
    },
    "pi_web_api": {
        "auth": {"kind": "basic"},
        "pagination": {
            "kind": "time_slice",
            "since_param": "startTime",
            "until_param": "endTime",
            "time_format": "iso",
            "limit_param": "maxCount",
            "page_size": 1000,
            "slice_s": 3600.0,
            "settle_s": 10.0,
            "server_time": "",
        },
        "resource": {
            "mutable": False,
            "records": "Items",
            "fields": {"updated_at": "Timestamp", "value": "Value", "unit": "UnitsAbbreviation"},
            "options": {
                "params": {"boundaryType": "Inside"},
                "explode": ["Items"],
                "key": ["^WebId", "Timestamp"],
                "unwrap": {"value": "Value"},
                "errors": "Errors",
                "quality": [
                    {"path": "Good", "bad": [False]},
                    {"path": "Questionable", "bad": [True], "reason": "QUESTIONABLE"},
                ],
            },
        },
    },
    "machinemetrics": {
        "auth": {"kind": "bearer"},
        "pagination": {
            "kind": "time_slice",
            "within": "offset",
            "method": "POST",
            "params_in": "body",
            "since_param": "start",
            "until_param": "end",
            "time_format": "iso_ms",
            "page_size": 1000,
            "slice_s": 86_400.0,
            "total": "total",
            "server_time": "",
        },
        "resource": {"records": "items", "fields": {"record_id": "id", "updated_at": "updatedAt"}},
    },
}
COLLECTED_OPTIONS: dict[str, Any] = {"quality": [{"path": "quality", "named": True}]}
"""What the collector spools without a good value carries its quality beside it."""


def with_profile(values: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a source with the defaults of its ``profile`` beneath. Raises SiteError for an unknown name."""
    own = {key: value for key, value in values.items() if key != "profile"}
    name = values.get("profile")
    if name is None:
        return own
    if name not in PROFILES:
        raise SiteError(f"no profile {name!r}; {did_you_mean(str(name), PROFILES)}", code="SPC-435")
    defaults = PROFILES[name]
    merged = {**own}
    for section in ("auth", "pagination", "limits"):
        if isinstance(own.get(section, {}), dict) and defaults.get(section):
            merged[section] = {**defaults[section], **own.get(section, {})}
    listed = own.get("resource")
    if isinstance(listed, list):
        merged["resource"] = [_resource(each, defaults["resource"]) if isinstance(each, dict) else each for each in listed]
    return merged


def _resource(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A resource over the profile's; defaults for columns that its tables do not have fall away."""
    named = values.get("tables")
    tables = [PAYLOAD[each] for each in named if each in PAYLOAD] if isinstance(named, list) else []
    columns = {*_RECORD_COLUMNS, *(column.name for table in tables for column in table)}
    merged = {"format": "json_records", **defaults, **values}
    for section in ("fields", "options"):
        beneath, above = defaults.get(section, {}), values.get(section, {})
        if isinstance(above, dict):
            fitting = {name: what for name, what in beneath.items() if section == "options" or name in columns}
            merged[section] = {**fitting, **above}
    options = merged.get("options", {})
    for key in _COLUMN_OPTIONS:
        if key in defaults.get("options", {}) and key not in values.get("options", {}):
            options[key] = {column: what for column, what in options[key].items() if column in columns}
    given = values.get("options", {})
    if "params" in given and isinstance(given["params"], dict):
        options["params"] = {**defaults.get("options", {}).get("params", {}), **given["params"]}
    return merged
