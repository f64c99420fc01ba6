"""Reads a site folder into a validated ``Site``; every problem of the folder is reported at once.

What belongs here: which files a folder has and how they become a ``Site``. Reading with line numbers
lives in ``files``, the rules between tables in ``checks``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, time
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import polars as pl

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.errors import SiteError
from spc_platform.production.signals import RULES
from spc_platform.site import file_options
from spc_platform.site.checks import check_tables
from spc_platform.site.files import LINE, Problems, TomlFile, did_you_mean, read_csv, read_fields
from spc_platform.site.model import COLLECTED, BaselinePolicy, Policies, Resource, Site, Source
from spc_platform.site.profiles import COLLECTED_OPTIONS, PROFILES, with_profile

TOML_FILES = ("site.toml", "policies.toml", "sources.toml")
OPTIONAL_FILES = ("erp.toml",)
"""Files of other parts of the platform, which read them themselves."""
OPTIONAL_TABLES = (
    "energy_meters",
    "part_counters",
    "rules",
    "multivariate",
    "breaks",
    "calendar",
    "streams",
    "specifications",
    "reasons",
    "state_rules",
    "routings",
    "tags",
)
RECORD_FIELDS = ("record_id", "revision", "updated_at", "is_deleted")
SECRET_KEYS = ("client_secret", "password", "secret", "token", "api_key")


@cache
def _zones() -> frozenset[str]:
    """IANA zones of this machine; reading their index takes longer than reading a site."""
    return frozenset(available_timezones())


_IDENTITY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True)
class SiteFile:
    """The keys of site.toml."""

    site_id: str
    name: str
    zone: str
    day_start: time
    first_production_date: date
    last_production_date: date | None = None
    owner: str = "team:quality"


def load_site(folder: Path) -> Site:
    """Read and validate the site of a folder.

    Raises SiteError that lists every problem as ``file:line: what is wrong; what to do``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SiteError(
            f"site folder {folder} does not exist; create one with `spc init {folder}` or name another with SPC_SITE"
        )
    problems = Problems()
    _check_file_names(folder, problems)
    tomls = {name: TomlFile(folder / name, problems) for name in TOML_FILES if (folder / name).is_file()}
    tomls = {name: toml for name, toml in tomls.items() if toml.is_read}
    head = _site_file(tomls["site.toml"]) if "site.toml" in tomls else {}
    policies = _policies(tomls["policies.toml"]) if "policies.toml" in tomls else None
    sources = _sources(tomls["sources.toml"]) if "sources.toml" in tomls else ()
    zone = head.get("zone") if head.get("zone") in _zones() else None
    frames = {name: _table(folder, name, zone or "UTC", problems) for name in SITE_TABLES}
    check_tables(frames, head.get("day_start"), problems)
    if problems.found:
        listed = "\n".join(f"  {problem}" for problem in sorted({*problems.found}))
        count = len({*problems.found})
        raise SiteError(f"site folder {folder} has {count} problem{'s' if count > 1 else ''}:\n{listed}")
    tables = {name: SITE_TABLES[name].conform(frame) for name, frame in frames.items()}
    return Site(
        **{"last_production_date": None, **head}, folder=folder, tables=tables, sources=sources, policies=policies or Policies()
    )


def _check_file_names(folder: Path, problems: Problems) -> None:
    needed = [*TOML_FILES, *(f"{name}.csv" for name in SITE_TABLES)]
    known = [*needed, *OPTIONAL_FILES]
    for name in needed:
        if not (folder / name).is_file() and name.removesuffix(".csv") not in OPTIONAL_TABLES:
            problems.add(name, 0, "the file is missing", "write it; `spc init` in an empty folder shows how each file looks")
    for path in sorted(folder.iterdir()):
        if path.suffix in (".csv", ".toml") and path.name not in known:
            problems.add(
                path.name, 0, "is not a file of a site folder", f"{did_you_mean(path.name, known)} or move it elsewhere"
            )


def _table(folder: Path, name: str, zone: str, problems: Problems) -> pl.DataFrame:
    path = folder / f"{name}.csv"
    if path.is_file():
        return read_csv(path, SITE_TABLES[name], zone, problems)
    return SITE_TABLES[name].empty().with_columns(pl.Series(LINE, [], dtype=pl.Int64))


def _site_file(toml: TomlFile) -> dict[str, Any]:
    head = read_fields(SiteFile, toml.values, toml, ())
    if "site_id" in head and not _IDENTITY.match(head["site_id"]):
        toml.problem(("site_id",), f"site_id is {head['site_id']!r}", "use letters, digits, dot, dash and underscore")
    if "zone" in head and head["zone"] not in _zones():
        remedy = f"write an IANA zone such as Europe/Berlin; {did_you_mean(head['zone'], _zones())}"
        near = remedy if len(remedy) < 200 else "write an IANA zone such as Europe/Berlin"
        toml.problem(("zone",), f"no time zone {head['zone']!r}", near)
    start = head.get("day_start")
    if start is not None and (start.second or start.microsecond):
        toml.problem(("day_start",), f"day_start is {start}", "use whole minutes, HH:MM")
    first, last = head.get("first_production_date"), head.get("last_production_date")
    if first and last and last < first:
        toml.problem(
            ("last_production_date",), f"last_production_date {last} is before the first, {first}", "swap or correct them"
        )
    return head


_POSITIVE: tuple[str, Callable[[Any], bool]] = ("greater than 0", lambda value: value > 0)
_NOT_NEGATIVE: tuple[str, Callable[[Any], bool]] = ("0 or greater", lambda value: value >= 0)
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "micro_stop_s": _NOT_NEGATIVE,
    "carry_days": ("1 or greater", lambda value: value >= 1),
    "rule_reset_gap_h": _POSITIVE,
    "state_carry_days": ("1 or greater", lambda value: value >= 1),
    "confidence": ("between 0 and 1, both excluded", lambda value: 0 < value < 1),
    "clock_skew_s": _NOT_NEGATIVE,
    "horizon_days": _NOT_NEGATIVE,
    "state_rules_set": (f"one of {', '.join(RULES)}", lambda value: value in RULES),
    "debounce_s": _NOT_NEGATIVE,
    "silence_s": _POSITIVE,
    "subgroups": ("2 or greater", lambda value: value >= 2),
    "individuals": ("2 or greater", lambda value: value >= 2),
    "k": _POSITIVE,
    "estimate_window_days": ("1 or greater", lambda value: value >= 1),
    "poll_s": _POSITIVE,
    "overlap_s": _NOT_NEGATIVE,
    "least_window_share": ("between 0 and 1", lambda value: 0 <= value <= 1),
    "reconcile_days": ("1 or greater", lambda value: value >= 1),
}


def _check_ranges(read: dict[str, Any], toml: TomlFile, path: tuple[str | int, ...]) -> None:
    for key, value in read.items():
        expected, holds = _RANGES.get(key, ("", lambda _: True))
        if not holds(value):
            toml.problem((*path, key), f'"{key}" is {value!r}', f"it must be {expected}")


def _policies(toml: TomlFile) -> Policies:
    read = read_fields(Policies, toml.values, toml, (), nested=("baseline",))
    _check_ranges(read, toml, ())
    given = toml.values.get("baseline", {})
    if not isinstance(given, dict):
        toml.problem(("baseline",), f"baseline is {given!r}", "write it as a table, [baseline]")
        given = {}
    baseline = read_fields(BaselinePolicy, given, toml, ("baseline",))
    _check_ranges(baseline, toml, ("baseline",))
    return Policies(**read, baseline=BaselinePolicy(**baseline))


def _sources(toml: TomlFile) -> tuple[Source, ...]:
    for key in toml.values:
        if key != "source":
            toml.problem((key,), f'unknown table "{key}"', did_you_mean(key, ["source"]))
    listed = _tables_in(toml, toml.values, "source", ())
    sources = [_source(toml, values, ("source", index)) for index, values in enumerate(listed)]
    names = [values.get("source_id") for values in listed]
    for index, name in enumerate(names):
        if name in names[:index]:
            toml.problem(("source", index, "source_id"), f"source {name!r} stands twice", "give each source its own source_id")
    return tuple(source for source in sources if source is not None)


def _tables_in(toml: TomlFile, values: dict[str, Any], key: str, path: tuple[str | int, ...]) -> list[dict[str, Any]]:
    listed = values.get(key, [])
    if isinstance(listed, list) and all(isinstance(item, dict) for item in listed):
        return listed
    toml.problem((*path, key), f'"{key}" is not a list of tables', f"write it as [[{'.'.join([*map(str, path[:1]), key])}]]")
    return []


def _source(toml: TomlFile, values: dict[str, Any], path: tuple[str | int, ...]) -> Source | None:
    try:
        values = with_profile(values)
    except SiteError:
        toml.problem((*path, "profile"), f"no profile {values['profile']!r}", did_you_mean(str(values["profile"]), PROFILES))
        values = {key: value for key, value in values.items() if key != "profile"}
    given = {key: value for key, value in values.items() if key != "resource"}
    read = read_fields(Source, given, toml, path, nested=("resources",))
    if "resources" in given:
        toml.problem((*path, "resources"), 'unknown key "resources"', "write each as a table, [[source.resource]]")
    _check_ranges(read, toml, path)
    if "source_id" in read and not _IDENTITY.match(read["source_id"]):
        toml.problem(
            (*path, "source_id"), f"source_id is {read['source_id']!r}", "use letters, digits, dot, dash and underscore"
        )
    for key in SECRET_KEYS:
        if key in read.get("auth", {}):
            toml.problem(
                (*path, "auth", key),
                f'"{key}" stands in the site folder',
                f'remove it and name its variable: {key}_env = "SPC_…"',
            )
    _check_zone(toml, read, path)
    clock = {key: read[key] for key in ("zone", "ambiguous") if key in read}
    if read.get("options") and read.get("kind") not in COLLECTED:
        toml.problem(
            (*path, "options"),
            f"a source of kind {read.get('kind')!r} has no options",
            f"remove it; options belong to the kinds {', '.join(COLLECTED)}",
        )
    listed = _tables_in(toml, values, "resource", path)
    resources = [_resource(toml, item, (*path, "resource", index), clock) for index, item in enumerate(listed)]
    _check_files(toml, resources if read.get("kind") == "files" else [], path)
    if not listed:
        toml.problem(path, "the source has no resource", "add a table [[source.resource]]")
    names = [item.get("name") for item in listed]
    for index, name in enumerate(names):
        if name in names[:index]:
            toml.problem(
                (*path, "resource", index, "name"), f"resource {name!r} stands twice", "give each resource its own name"
            )
    if not {"source_id", "kind"} <= read.keys():
        return None
    beneath = _implied(read)
    if beneath:
        resources = [each and replace(each, options={**beneath, **each.options}) for each in resources]
    return Source(**read, resources=tuple(resource for resource in resources if resource is not None))


def _implied(source: dict[str, Any]) -> dict[str, Any]:
    """Options of every resource that the source implies."""
    if source["kind"] in COLLECTED:
        return COLLECTED_OPTIONS
    tracks_changes = source["kind"] == "rest" and source.get("pagination", {}).get("delta") is True
    return {"order": "delivery"} if tracks_changes else {}


def _check_files(toml: TomlFile, resources: list[Resource | None], path: tuple[str | int, ...]) -> None:
    for index, resource in enumerate(resources):
        for key, what, remedy in file_options.problems(resource.options) if resource else ():
            toml.problem((*path, "resource", index, "options", key), what, remedy)


def _check_zone(toml: TomlFile, read: dict[str, Any], path: tuple[str | int, ...]) -> None:
    if read.get("zone") is not None and read["zone"] not in _zones():
        toml.problem((*path, "zone"), f"no time zone {read['zone']!r}", "write an IANA zone such as Europe/Berlin")


def _resource(toml: TomlFile, values: dict[str, Any], path: tuple[str | int, ...], clock: dict[str, Any]) -> Resource | None:
    """``clock`` is what the source says of zone and ambiguous times, for a resource that says nothing of its own."""
    read = read_fields(Resource, values, toml, path)
    _check_ranges(read, toml, path)
    if "tables" in read and not read["tables"]:
        toml.problem((*path, "tables"), "the resource feeds no table", f"name at least one of {', '.join(PAYLOAD)}")
    tables = [name for name in read.get("tables", ()) if name in PAYLOAD]
    for name in read.get("tables", ()):
        if name not in PAYLOAD:
            toml.problem((*path, "tables"), f"no raw table {name!r}", did_you_mean(name, PAYLOAD))
    canonical = {*RECORD_FIELDS, *(column.name for name in tables for column in PAYLOAD[name])}
    for name in read.get("fields", {}):
        if tables and name not in canonical:
            toml.problem(
                (*path, "fields", name), f'fields: no column "{name}" in {", ".join(tables)}', did_you_mean(name, canonical)
            )
    _check_zone(toml, read, path)
    if read.get("deletions") == "window" and read.get("mutable") is False:
        toml.problem(
            (*path, "deletions"),
            "records of an append-only resource cannot be deleted",
            'set mutable = true, or deletions = "flag"',
        )
    if not {"name", "tables", "format"} <= read.keys():
        return None
    return Resource(**{**clock, **read})
