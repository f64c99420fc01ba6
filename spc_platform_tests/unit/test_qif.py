"""QIF results: names, serials, units and what cannot be read."""

from datetime import UTC, datetime

import pytest

from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.qif import decode, specifications

ITEMS = """
<Characteristics>
 <CharacteristicDefinitions>
  <DiameterCharacteristicDefinition id="1">
   <Tolerance><MaxValue>0.3</MaxValue><MinValue>-0.2</MinValue>
   <DefinedAsLimit>false</DefinedAsLimit></Tolerance></DiameterCharacteristicDefinition>
  <AngleCharacteristicDefinition id="2"><Tolerance><MaxValue>91</MaxValue><MinValue>89</MinValue>
   <DefinedAsLimit>true</DefinedAsLimit></Tolerance></AngleCharacteristicDefinition>
  <PerpendicularityCharacteristicDefinition id="3">
   <ToleranceValue>-0.13</ToleranceValue></PerpendicularityCharacteristicDefinition>
 </CharacteristicDefinitions>
 <CharacteristicNominals>
  <DiameterCharacteristicNominal id="11"><CharacteristicDefinitionId>1</CharacteristicDefinitionId>
   <TargetValue>4.5</TargetValue></DiameterCharacteristicNominal>
  <AngleCharacteristicNominal id="12"><CharacteristicDefinitionId>2</CharacteristicDefinitionId>
   <TargetValue>90</TargetValue></AngleCharacteristicNominal>
  <PerpendicularityCharacteristicNominal id="13">
   <CharacteristicDefinitionId>3</CharacteristicDefinitionId></PerpendicularityCharacteristicNominal>
 </CharacteristicNominals>
 <CharacteristicItems>
  <DiameterCharacteristicItem id="21"><Name>DIAMETER4</Name>
   <CharacteristicNominalId>11</CharacteristicNominalId></DiameterCharacteristicItem>
  <AngleCharacteristicItem id="22"><Name>Cone Angle 3</Name>
   <CharacteristicNominalId>12</CharacteristicNominalId></AngleCharacteristicItem>
  <PerpendicularityCharacteristicItem id="23"><Name>PERP1</Name>
   <CharacteristicNominalId>13</CharacteristicNominalId></PerpendicularityCharacteristicItem>
  <UserDefinedLinearCharacteristicItem id="24"><Name>Part Number</Name>
   <CharacteristicNominalId>14</CharacteristicNominalId></UserDefinedLinearCharacteristicItem>
 </CharacteristicItems>
</Characteristics>"""
FEATURES = """
<Features><FeatureItems>
 <CylinderFeatureItem id="31"><FeatureName>CYLINDER1</FeatureName></CylinderFeatureItem>
 <CylinderFeatureItem id="32"><FeatureName>CYLINDER2</FeatureName></CylinderFeatureItem>
</FeatureItems></Features>"""


def actual(kind: str, identity: int, item: int | None, value: str | None, feature: int | None = None) -> str:
    named = f"<CharacteristicItemId>{item}</CharacteristicItemId>" if item else ""
    bound = f"<FeatureActualIds><Id>{feature}</Id></FeatureActualIds>" if feature else ""
    said = f"<Value>{value}</Value>" if value is not None else ""
    return f'<{kind}CharacteristicActual id="{identity}">{named}{bound}{said}</{kind}CharacteristicActual>'


def part(component: int, actuals: str) -> str:
    features = "".join(
        f'<CylinderFeatureActual id="{4 + k}{component}"><FeatureItemId>{31 + k}</FeatureItemId></CylinderFeatureActual>'
        for k in (0, 1)
    )
    return (
        f"<MeasurementResults><MeasuredFeatures><FeatureActuals>{features}</FeatureActuals></MeasuredFeatures>"
        f"<MeasuredCharacteristics><CharacteristicActuals>{actuals}</CharacteristicActuals></MeasuredCharacteristics>"
        f"<ActualComponentIds><Id>{component}</Id></ActualComponentIds></MeasurementResults>"
    )


def document(parts: str, serials: dict[int, str | None], units: bool = True) -> bytes:
    components = "".join(
        f'<ActualComponent id="{component}">{f"<SerialNumber>{serial}</SerialNumber>" if serial else ""}</ActualComponent>'
        for component, serial in serials.items()
    )
    stated = (
        "<FileUnits><PrimaryUnits><AngularUnit><UnitName>degree</UnitName></AngularUnit>"
        "<LinearUnit><UnitName>mm</UnitName></LinearUnit></PrimaryUnits></FileUnits>"
    )
    return (
        '<?xml version="1.0"?><QIFDocument xmlns="http://qifstandards.org/xsd/qif2">'
        f"<Version><TimeCreated>2017-03-07T10:39:11</TimeCreated></Version>{stated if units else ''}{FEATURES}{ITEMS}"
        f"<MeasurementsResults><MeasurementResultsSet>{parts}</MeasurementResultsSet>"
        f"<ActualComponentSets><ActualComponentSet>{components}</ActualComponentSet></ActualComponentSets>"
        "</MeasurementsResults></QIFDocument>"
    ).encode()


def resource(zone: str | None = "Europe/London", **options: object) -> Resource:
    return Resource("cmm", ("raw_measurement",), "qif", zone=zone, options={"prefix": "p.", "equipment_id": "M1"} | options)


TWO_PARTS = document(
    part(1, actual("Diameter", 51, 21, "4.486", 41) + actual("Diameter", 52, 21, "4.481", 51) + actual("Angle", 53, 22, "89.5"))
    + part(2, actual("Diameter", 61, 21, "4.4", 42)),
    {1: "PLATE_RESULTS_A01_NIST", 2: None},
)


def test_one_item_on_two_features_is_two_characteristics() -> None:
    rows = decode(resource(), "raw_measurement", TWO_PARTS)
    assert rows["characteristic_id"].to_list() == [
        "p.CYLINDER1.DIAMETER4",
        "p.CYLINDER2.DIAMETER4",
        "p.Cone_Angle_3",
        "p.CYLINDER1.DIAMETER4",
    ]
    assert rows["value"].to_list() == [4.486, 4.481, 89.5, 4.4]
    assert rows["unit"].to_list() == ["mm", "mm", "deg", "mm"]
    assert rows["decode_error"].null_count() == 4


def test_a_part_without_serial_number_stays_and_is_named_by_its_place() -> None:
    options = {"serial_pattern": r"_A(\d+)_", "serial_format": "PLATE-{:02d}"}
    rows = decode(resource(**options), "raw_measurement", TWO_PARTS)
    assert rows["serial_number"].to_list() == ["PLATE-01"] * 3 + [None]
    assert rows["record_id"][3] == "p.02:CYLINDER1.DIAMETER4"


def test_the_times_of_the_parts_come_from_the_site_and_the_reports_time_is_kept() -> None:
    made_at = ["2017-02-06T12:44:53.453125Z", "2017-02-06T12:53:36Z"]
    rows = decode(resource(made_at=made_at, job_orders=["O-1", "O-2"]), "raw_measurement", TWO_PARTS)
    assert rows["measured_at"][0] == datetime(2017, 2, 6, 12, 44, 53, 453125, tzinfo=UTC)
    assert rows["measured_at"][3] == datetime(2017, 2, 6, 12, 53, 36, tzinfo=UTC)
    assert rows["job_order_id"].to_list() == ["O-1"] * 3 + ["O-2"]
    assert rows["updated_at"].unique().to_list() == [datetime(2017, 3, 7, 10, 39, 11, tzinfo=UTC)]


def test_a_time_without_zone_is_not_guessed() -> None:
    rows = decode(resource(zone=None), "raw_measurement", TWO_PARTS)
    assert rows["measured_at"].null_count() == 4
    assert rows["decode_error"].to_list() == ["measured_at:NO_TIME_WITH_ZONE"] * 4
    summer = decode(resource(measured_at="2017-07-11T09:16:18"), "raw_measurement", TWO_PARTS)
    assert summer["measured_at"][0] == datetime(2017, 7, 11, 8, 16, 18, tzinfo=UTC)


def test_a_pseudo_characteristic_gives_the_serial_number_and_is_no_measurement() -> None:
    body = document(part(1, actual("UserDefinedLinear", 51, 24, "7") + actual("Diameter", 52, 21, "4.5", 41)), {1: None})
    options = {"serial_characteristic": "Part Number", "serial_format": "PLATE-{:02d}"}
    rows = decode(resource(**options), "raw_measurement", body)
    assert rows.select("characteristic_id", "serial_number").rows() == [("p.CYLINDER1.DIAMETER4", "PLATE-07")]


def test_a_missing_unit_is_not_guessed_unless_the_site_states_it() -> None:
    body = document(part(1, actual("Diameter", 51, 21, "4.5", 41)), {1: "1"}, units=False)
    row = decode(resource(), "raw_measurement", body).row(0, named=True)
    assert (row["unit"], row["decode_error"]) == (None, "unit:MISSING")
    assert decode(resource(unit="mm"), "raw_measurement", body)["unit"].to_list() == ["mm"]


def test_values_that_cannot_be_read_are_kept_with_their_text() -> None:
    broken = (
        actual("Diameter", 51, 21, "n/a", 41) + actual("Diameter", 52, None, "0") + actual("Perpendicularity", 53, 23, None)
    )
    rows = decode(resource(), "raw_measurement", document(part(1, broken), {1: "1"}))
    assert rows["decode_error"].to_list() == ["value:NOT_A_NUMBER", "characteristic_id:NAMES_NO_ITEM", "value:NOT_A_NUMBER"]
    assert rows["raw_record"].to_list() == ["p.01:CYLINDER1.DIAMETER4 = n/a", "p.01:id-52 = 0", "p.01:PERP1 = "]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TWO_PARTS[:-200], "page:NOT_XML"),
        (b"", "page:NOT_XML"),
        (b"<html><body>Service unavailable</body></html>", "page:NOT_QIF"),
        (b'<!DOCTYPE x [<!ENTITY a "aa">]><QIFDocument/>', "page:NOT_XML"),
    ],
)
def test_a_body_that_is_no_qif_is_one_row_with_its_reason(body: bytes, reason: str) -> None:
    row = decode(resource(), "raw_measurement", body).row(0, named=True)
    assert row["decode_error"].startswith(reason)
    assert row["raw_record"] == body[:500].decode()


def test_a_byte_order_mark_changes_nothing() -> None:
    assert decode(resource(), "raw_measurement", b"\xef\xbb\xbf" + TWO_PARTS).equals(
        decode(resource(), "raw_measurement", TWO_PARTS)
    )


def test_deviations_become_limits_and_a_geometric_tolerance_is_an_upper_limit_whatever_its_sign() -> None:
    body = document(
        part(
            1,
            actual("Diameter", 51, 21, "4.5", 41) + actual("Angle", 52, 22, "90") + actual("Perpendicularity", 53, 23, "0.01"),
        ),
        {1: "1"},
    )
    assert specifications(body, "p.").rows() == [
        ("p.CYLINDER1.DIAMETER4", "Diameter", 4.3, 4.5, 4.8),
        ("p.Cone_Angle_3", "Angle", 89.0, 90.0, 91.0),
        ("p.PERP1", "Perpendicularity", None, None, 0.13),
    ]


def test_other_tables_and_other_files_are_refused() -> None:
    with pytest.raises(ContractError, match="raw_telemetry"):
        decode(resource(), "raw_telemetry", TWO_PARTS)
    with pytest.raises(ContractError, match="not a QIF file"):
        specifications(b"<half")


def test_a_document_that_nests_too_deep_is_refused_as_a_whole() -> None:
    deep = 100_000
    body = b"<a>" * deep + b"</a>" * deep
    assert decode(resource(), "raw_measurement", body)["decode_error"].to_list() == ["page:NESTS_DEEPER_THAN_64"]
