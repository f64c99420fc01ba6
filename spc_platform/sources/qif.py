"""QIF 2.1 inspection results (ANSI/DMSC QIF, ISO 23952) to raw measurements and specifications."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import polars as pl
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from spc_platform.contracts.raw import DECODED_DTYPES, MEASUREMENT_PAYLOAD
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.local_time import place

UCUM = {"mm": "mm", "degree": "deg", "inch": "in", "m": "m", "radian": "rad"}
"""Names of units in QIF files -> UCUM."""

MAX_DEPTH = 64
"""Most elements within each other; QIF documents have about a dozen."""

_NS = "{http://qifstandards.org/xsd/qif2}"
_SCHEMA = DECODED_DTYPES | {column.name: column.dtype for column in MEASUREMENT_PAYLOAD}


@dataclass(frozen=True, slots=True)
class _Reading:
    """One measured characteristic of one part. ``sample`` is the part's place in the file, from 1."""

    sample: int
    serial: str | None
    name: str
    kind: str
    text: str | None
    identity: str


def decode(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """Measurements of a QIF results file, one row per part and characteristic.

    Options of the resource:

    - ``prefix``: set before the characteristic's name; names are ``FEATURE.ITEM``, or the item alone
      where the file binds it to no single feature. Spaces in names become underscores.
    - ``equipment_id``: the work unit that made the parts.
    - ``serial_pattern``: regular expression whose group 1 is the serial number within the file's text,
      and ``serial_format``: how the site writes it, e.g. ``PLATE-{:02d}``.
    - ``serials``: the serial numbers in the order of the file, for parts that the file leaves unnamed.
    - ``serial_characteristic``: a pseudo characteristic that holds the serial number (some writers have
      one); it is read as the serial where the file names none, and is no measurement.
    - ``unit`` and ``angular_unit``: used only where the file states no unit.
    - ``made_at``: the time of each part in the order of the file (ISO 8601 with zone), or ``measured_at``:
      one time for all. Without them the file's own time of creation, read in ``resource.zone``.
    - ``job_orders``: the work order of each part in the order of the file.
    - ``reported_at``: the time of the report where the file states none; ``revision``: 1 unless said.

    A part without a serial number stays, with an empty serial unless ``serials`` names it. Its records are
    named by its place in the file, as all are (``<prefix><sample>:<name>``), so another report of the same
    parts can revise them. A value that is no number is kept with ``decode_error``; a body that is no QIF is
    one such row.
    """
    if table != "raw_measurement":
        raise ContractError(
            f"resource {resource.name!r}: format qif feeds raw_measurement, not {table!r}. "
            "Correct the resource's tables in the site's sources.",
            code="SPC-331",
        )
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        return _unreadable(body, f"page:NOT_XML ({type(error).__name__})")
    if _nests_deeper(root, MAX_DEPTH):
        return _unreadable(body, f"page:NESTS_DEEPER_THAN_{MAX_DEPTH}")
    if root.tag != f"{_NS}QIFDocument":
        return _unreadable(body, f"page:NOT_QIF (root element {root.tag[:80]})")
    pseudo = str(resource.options.get("serial_characteristic", "")).replace(" ", "_") or None
    readings = [reading for reading in _readings(root, pseudo) if reading.name != pseudo]
    return _rows(readings, root, resource)


def specifications(body: bytes, prefix: str = "") -> pl.DataFrame:
    """Tolerances of a QIF results file: characteristic_id, kind, lsl, target, usl.

    Limits are absolute: a file may state them so (``DefinedAsLimit``) or as deviations from the target.
    A geometric tolerance (flatness, perpendicularity, position) is a zone's width: an upper limit only,
    whatever its sign in the file. Raises ContractError when the body is no QIF.

    Source: ANSI/DMSC QIF 2.1 part 5, CharacteristicDefinition, LinearTolerance.
    """
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        raise ContractError(f"not a QIF file: {error}. Export it again from the measuring software.", code="SPC-332") from error
    definitions = {element.get("id"): element for element in _children(root, "Characteristics/CharacteristicDefinitions")}
    nominals = {element.get("id"): element for element in _children(root, "Characteristics/CharacteristicNominals")}
    nominal_of = {item.get("id"): _text(item, "CharacteristicNominalId") for item in _items(root)}
    names, features = _item_names(root), _features(root)
    rows: dict[str, dict[str, Any]] = {}
    for result in root.iter(f"{_NS}MeasurementResults"):
        for actual in _actuals(result):
            item_id = _text(actual, "CharacteristicItemId")
            nominal = nominals.get(nominal_of.get(item_id or ""))
            definition = definitions.get(_text(nominal, "CharacteristicDefinitionId")) if nominal is not None else None
            name = _name(actual, names, features, result)
            if name and definition is not None and nominal is not None and name not in rows:
                rows[name] = {"characteristic_id": prefix + name, "kind": _kind(actual)} | _limits(definition, nominal)
        break
    schema = {"characteristic_id": pl.String, "kind": pl.String, "lsl": pl.Float64, "target": pl.Float64, "usl": pl.Float64}
    return pl.DataFrame(list(rows.values()), schema=schema)


def _nests_deeper(root: Element, depth: int) -> bool:
    level = [root]
    for _ in range(depth):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True


def _limits(definition: Element, nominal: Element) -> dict[str, float | None]:
    target = _number(_text(nominal, "TargetValue"))
    zone = _number(_text(definition, "ToleranceValue"))
    if zone is not None:
        return {"lsl": None, "target": target, "usl": abs(zone)}
    low, high = (_number(_text(definition, f"Tolerance/{name}")) for name in ("MinValue", "MaxValue"))
    if _text(definition, "Tolerance/DefinedAsLimit") != "true" and target is not None:
        low, high = (None if deviation is None else round(target + deviation, 9) for deviation in (low, high))
    return {"lsl": low, "target": None if target is None else round(target, 9), "usl": high}


def _readings(root: Element, serial_characteristic: str | None) -> Iterator[_Reading]:
    names, features = _item_names(root), _features(root)
    serials = {component.get("id"): _text(component, "SerialNumber") for component in root.iter(f"{_NS}ActualComponent")}
    for sample, result in enumerate(root.iter(f"{_NS}MeasurementResults"), start=1):
        found = [serials.get(identity.text) for identity in result.findall(f"{_NS}ActualComponentIds/{_NS}Id")]
        serial = next((text for text in found if text), None)
        read = [
            (_name(actual, names, features, result), _kind(actual), _text(actual, "Value"), f"id-{actual.get('id')}")
            for actual in _actuals(result)
        ]
        stated = next((text for name, _, text, _ in read if name == serial_characteristic), None)
        for name, kind, text, identity in read:
            yield _Reading(sample, serial or stated, name, kind, text, identity)


def _rows(readings: list[_Reading], root: Element, resource: Resource) -> pl.DataFrame:
    options = resource.options
    prefix = str(options.get("prefix", ""))
    reported_at = _moment(options.get("reported_at") or _text(root, "Version/TimeCreated"), resource)
    times = [_moment(text, replace(resource, zone=None)) for text in options.get("made_at", [])]
    fallback = _moment(options["measured_at"], resource) if "measured_at" in options else reported_at
    units = _units(root, options)
    orders: list[str] = options.get("job_orders", [])
    serials: list[str] = options.get("serials", [])
    frame = pl.DataFrame(
        {
            "record_id": [f"{prefix}{reading.sample:02d}:{reading.name or reading.identity}" for reading in readings],
            "characteristic_id": [prefix + reading.name if reading.name else None for reading in readings],
            "text": [reading.text for reading in readings],
            "unit": [units["angular" if reading.kind == "Angle" else "linear"] for reading in readings],
            "serial_number": [
                _serial(reading.serial, options) or _of_sample(serials, reading.sample, None) for reading in readings
            ],
            "measured_at": [_of_sample(times, reading.sample, fallback) for reading in readings],
            "job_order_id": [_of_sample(orders, reading.sample, None) for reading in readings],
        },
        schema={
            "record_id": pl.String,
            "characteristic_id": pl.String,
            "text": pl.String,
            "unit": pl.String,
            "serial_number": pl.String,
            "measured_at": UTC_DTYPE,
            "job_order_id": pl.String,
        },
    ).with_columns(value=pl.col("text").str.strip_chars().cast(pl.Float64, strict=False))
    problems = pl.concat_str(
        pl.when(pl.col("characteristic_id").is_null()).then(pl.lit("characteristic_id:NAMES_NO_ITEM")),
        pl.when(pl.col("value").is_null()).then(pl.lit("value:NOT_A_NUMBER")),
        pl.when(pl.col("unit").is_null()).then(pl.lit("unit:MISSING")),
        pl.when(pl.col("measured_at").is_null()).then(pl.lit("measured_at:NO_TIME_WITH_ZONE")),
        separator=";",
        ignore_nulls=True,
    )
    stated = frame.with_columns(
        pl.lit(options.get("equipment_id"), dtype=pl.String).alias("equipment_id"),
        pl.lit(int(options.get("revision", 1))).alias("revision"),
        pl.lit(reported_at, dtype=UTC_DTYPE).alias("updated_at"),
        decode_error=pl.when(problems != "").then(problems),
    ).with_columns(
        raw_record=pl.when(pl.col("decode_error").is_not_null()).then(
            pl.format("{} = {}", "record_id", pl.col("text").fill_null(""))
        )
    )
    return _conformed(stated)


def _conformed(frame: pl.DataFrame) -> pl.DataFrame:
    complete = frame.with_columns(page_row=pl.int_range(pl.len()), is_deleted=pl.lit(value=False))
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in _SCHEMA.items() if name not in complete.columns}
    return complete.with_columns(**missing).select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())


def _unreadable(body: bytes, problem: str) -> pl.DataFrame:
    return _conformed(
        pl.DataFrame(
            {
                "record_id": [f"page-{hashlib.sha256(body).hexdigest()[:16]}"],
                "revision": [1],
                "decode_error": [problem],
                "raw_record": [body[:500].decode("utf-8", errors="replace")],
            }
        )
    )


def _of_sample(values: list[Any], sample: int, otherwise: Any) -> Any:
    return values[sample - 1] if sample <= len(values) else otherwise


def _serial(text: str | None, options: dict[str, Any]) -> str | None:
    if text is None:
        return None
    found = re.search(options.get("serial_pattern", r"^\s*(.*?)\s*$"), text)
    serial = found[1] if found else text
    form = options.get("serial_format")
    return str(form).format(int(serial)) if form and serial.isdigit() else serial


def _units(root: Element, options: dict[str, Any]) -> dict[str, str | None]:
    linear = _text(root, "FileUnits/PrimaryUnits/LinearUnit/UnitName")
    angular = _text(root, "FileUnits/PrimaryUnits/AngularUnit/UnitName")
    return {
        "linear": UCUM.get(linear, linear) if linear else options.get("unit"),
        "angular": UCUM.get(angular, angular) if angular else options.get("angular_unit"),
    }


def _moment(text: str | None, resource: Resource) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    if moment.tzinfo is None:
        return _placed(moment, resource) if resource.zone else None
    return moment.astimezone(UTC)


def _placed(local: datetime, resource: Resource) -> datetime | None:
    """The instant of one local time; None where the clock showed it never, or twice and the source says no more."""
    found: datetime | None = place(pl.Series([local]), resource.zone or "UTC", resource.ambiguous).at.item()
    return found


def _children(root: Element, path: str) -> list[Element]:
    found = root.find("/".join(_NS + step for step in path.split("/")))
    return [] if found is None else list(found)


def _items(root: Element) -> list[Element]:
    return _children(root, "Characteristics/CharacteristicItems")


def _item_names(root: Element) -> dict[str | None, str]:
    return {item.get("id"): _text(item, "Name") or "" for item in _items(root)}


def _features(root: Element) -> dict[str | None, str]:
    return {item.get("id"): _text(item, "FeatureName") or "" for item in _children(root, "Features/FeatureItems")}


def _actuals(result: Element) -> list[Element]:
    return _children(result, "MeasuredCharacteristics/CharacteristicActuals")


def _name(actual: Element, names: dict[str | None, str], features: dict[str | None, str], result: Element) -> str:
    """Name the characteristic FEATURE.ITEM, or the item alone; empty where the value names no item of the file."""
    item = names.get(_text(actual, "CharacteristicItemId"), "").strip().replace(" ", "_")
    if not item:
        return ""
    bound = actual.findall(f"{_NS}FeatureActualIds/{_NS}Id")
    if len(bound) != 1:
        return item
    feature_items = {
        feature.get("id"): _text(feature, "FeatureItemId") for feature in _children(result, "MeasuredFeatures/FeatureActuals")
    }
    feature = features.get(feature_items.get(bound[0].text), "")
    return f"{feature.strip().replace(' ', '_')}.{item}" if feature else item


def _kind(actual: Element) -> str:
    return actual.tag.removeprefix(_NS).removesuffix("CharacteristicActual")


def _text(element: Element | None, path: str) -> str | None:
    return None if element is None else element.findtext("/".join(_NS + step for step in path.split("/")))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
