"""Landing: pages kept unchanged, production dates touched by what is new, raw partitions made from pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest

from spc_platform.contracts.raw import RAW_EQUIPMENT_STATE, RAW_MEASUREMENT
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError, LakeError, PermanentError, TransientError
from spc_platform.lake.files import locked, safe_name, sha256
from spc_platform.lake.landing import Landing, LandingReport, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import Settings
from spc_platform.site.model import Resource, Site
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page
from spc_platform.sources.files import FileSource
from spc_platform_tests.unit.lake_plant import (
    CONFIG,
    MEASUREMENTS,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    ScriptedSource,
    at,
    body,
    measurement,
    plant_site,
    telemetry,
)

SITE = plant_site()
CONTENT = [name for name in RAW_MEASUREMENT.names if name not in ("page_sha256", "page_row")]


class Plant:
    """A ledger and a landing folder, and what happens to them."""

    def __init__(self, root: Path) -> None:
        self.ledger = Ledger(root / "ledger.sqlite")
        self.landing = Landing(root / "landing", self.ledger)

    def land(self, *bodies: bytes | Exception, resource: str = "measurements") -> LandingReport:
        return land_source(ScriptedSource({resource: list(bodies)}), SITE, self.landing, self.ledger)

    def raw(self, production_date: date, table: str = "raw_measurement") -> pl.DataFrame:
        return raw_partition(table, production_date, SITE, self.landing, self.ledger)

    def apply_all(self) -> None:
        for pending in self.ledger.pending():
            self.ledger.mark_applied(pending.production_date, pending.digest)

    def pending_dates(self) -> list[date]:
        return [pending.production_date for pending in self.ledger.pending()]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_a_landed_page_is_what_the_source_said(plant: Plant) -> None:
    said = body(measurement("a", at(MONDAY, 8)), server_time="now")
    plant.land(said)
    [page] = plant.ledger.pages("raw_measurement", MONDAY)
    assert page.sha256 == sha256(said)
    assert plant.landing.read(page.sha256) == said


def test_a_night_shift_record_belongs_to_the_date_on_which_the_production_day_began(plant: Plant) -> None:
    # Berlin is UTC+1 in March: 04:59 UTC is 05:59 local, before day_start 06:00; 05:00 UTC is 06:00 local.
    report = plant.land(body(measurement("night", at(TUESDAY, 4, 59)), measurement("early", at(TUESDAY, 5))))
    assert report.touched == (MONDAY, TUESDAY)
    assert plant.raw(MONDAY)["record_id"].to_list() == ["night"]
    assert plant.raw(TUESDAY)["record_id"].to_list() == ["early"]


def test_an_unreadable_event_time_falls_back_to_the_update_and_then_to_the_receipt(plant: Plant) -> None:
    updated = measurement("u", None, updated_at=at(MONDAY, 9))
    received = measurement("r", "yesterday, I think", updated_at=None)
    plant.land(body(updated, received))
    assert plant.raw(MONDAY)["record_id"].to_list() == ["u"]
    raw = plant.raw(date(2026, 3, 5))
    assert raw["record_id"].to_list() == ["r"]
    assert "yesterday, I think" in raw["raw_record"][0]


def test_the_watermark_is_the_newest_update_seen_and_never_moves_back(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8)), measurement("b", at(TUESDAY, 9))), body(measurement("c", at(MONDAY, 7))))
    assert plant.ledger.watermark("mes", "measurements") == "2026-03-03T09:00:00.000000Z"
    plant.land(body(measurement("late", at(MONDAY, 10))))
    assert plant.ledger.watermark("mes", "measurements") == "2026-03-03T09:00:00.000000Z"


def test_an_error_in_mid_walk_keeps_landed_pages_and_leaves_the_watermark(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8))))
    with pytest.raises(TransientError):
        plant.land(body(measurement("b", at(TUESDAY, 8))), TransientError("503 for too long"))
    assert plant.ledger.watermark("mes", "measurements") == "2026-03-02T08:00:00.000000Z"
    assert plant.raw(TUESDAY)["record_id"].to_list() == ["b"]
    assert "503 for too long" in plant.ledger.status()["last_error"][0]


class _Overseen(ScriptedSource):
    """Notes at each request which of the pages before it have their bytes on disk, and which are entered."""

    def __init__(self, plant: Plant, bodies: list[bytes | Exception]) -> None:
        super().__init__({"measurements": bodies}, replace(CONFIG, resources=(MEASUREMENTS,)))
        self.plant, self.bodies = plant, bodies
        self.durable: list[int] = []
        self.entered: list[int] = []

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        pages = super().walk(resource, watermark)
        while True:
            digests = [sha256(said) for said in self.bodies if isinstance(said, bytes)]
            self.durable.append(sum(self.plant.landing.path("mes", digest).exists() for digest in digests))
            self.entered.append(sum(bool(self.plant.ledger.sources_of(digest)) for digest in digests))
            page = next(pages, None)
            if page is None:
                return
            yield page


def test_a_page_is_durable_before_the_next_request_and_entered_before_the_one_after(plant: Plant) -> None:
    source = _Overseen(plant, [body(measurement(f"m{n}", at(MONDAY, 8 + n))) for n in range(5)])
    land_source(source, SITE, plant.landing, plant.ledger)
    assert source.durable == [0, 1, 2, 3, 4, 5]
    assert all(entered >= asked - 1 for asked, entered in enumerate(source.entered))
    assert plant.ledger.status()["pages"].to_list() == [5]


def test_an_unreadable_page_ends_the_walk_and_the_page_fetched_meanwhile_lands_with_the_next(plant: Plant) -> None:
    good, after = body(measurement("m1", at(MONDAY, 8))), body(measurement("m2", at(TUESDAY, 8)))
    with pytest.raises(ContractError):
        plant.land(good, b"[]", after)
    assert plant.pending_dates() == [MONDAY]
    assert plant.land(good, after).new_records == 1
    assert plant.pending_dates() == [MONDAY, TUESDAY]


def test_a_page_is_entered_although_the_request_behind_it_fails(plant: Plant) -> None:
    with pytest.raises(TransientError):
        plant.land(body(measurement("m1", at(MONDAY, 8))), TransientError("away"))
    assert plant.pending_dates() == [MONDAY]


def test_a_permanent_failure_of_one_resource_does_not_keep_the_others_from_landing(plant: Plant) -> None:
    source = ScriptedSource({"measurements": [PermanentError("403")], "telemetry": [body(telemetry("t", at(MONDAY, 8)))]})
    with pytest.raises(PermanentError, match="403"):
        land_source(source, SITE, plant.landing, plant.ledger)
    assert plant.raw(MONDAY, "raw_telemetry").height == 1


@pytest.mark.parametrize("make", [measurement, telemetry])
def test_an_overlap_re_read_touches_nothing(plant: Plant, make: Callable[..., dict[str, object]]) -> None:
    resource = "measurements" if make is measurement else "telemetry"
    records = [make(f"r{n}", at(MONDAY, 8, n)) for n in range(20)]
    plant.land(body(*records[:12]), body(*records[12:]), resource=resource)
    plant.apply_all()
    again = plant.land(body(*records[5:], server_time="later"), resource=resource)
    assert (again.records, again.new_records, again.touched) == (15, 0, ())
    assert plant.pending_dates() == []


@pytest.mark.parametrize("make", [measurement, telemetry])
def test_one_late_record_among_known_ones_touches_its_date_alone(plant: Plant, make: Callable[..., dict[str, object]]) -> None:
    resource = "measurements" if make is measurement else "telemetry"
    known = [make("a", at(MONDAY, 8)), make("b", at(TUESDAY, 8))]
    plant.land(body(*known), resource=resource)
    plant.apply_all()
    again = plant.land(body(*known, make("late", at(MONDAY, 12))), resource=resource)
    assert (again.new_records, again.touched) == (1, (MONDAY,))
    assert plant.pending_dates() == [MONDAY]


@pytest.mark.parametrize("make", [measurement, telemetry])
def test_a_duplicate_page_adds_nothing_whether_the_request_is_the_same_or_not(
    plant: Plant, make: Callable[..., dict[str, object]]
) -> None:
    resource = "measurements" if make is measurement else "telemetry"
    said = body(make("a", at(MONDAY, 8)))
    report = plant.land(said, said, resource=resource)  # two requests of one walk
    assert (report.pages, report.new_records, report.touched) == (2, 1, (MONDAY,))
    plant.apply_all()
    before = plant.raw(MONDAY, f"raw_{resource.removesuffix('s')}")
    again = plant.land(said, said, resource=resource)  # both requests repeated
    assert (again.new_records, again.touched, plant.pending_dates()) == (0, (), [])
    assert plant.raw(MONDAY, f"raw_{resource.removesuffix('s')}").equals(before)
    assert before.height == 1
    assert plant.ledger.status()["pages"].to_list() == [2]


def test_an_overlap_re_read_of_a_record_without_identity_touches_nothing(plant: Plant) -> None:
    nameless = {name: value for name, value in measurement("", at(MONDAY, 8)).items() if name != "id"}
    plant.land(body(measurement("a", at(MONDAY, 7)), nameless, server_time="2026-03-02T08:00:01Z"))
    plant.apply_all()
    again = plant.land(body(nameless, server_time="2026-03-02T09:00:00Z"))
    assert (again.records, again.new_records, plant.pending_dates()) == (1, 0, [])
    corrected = plant.land(body({**nameless, "value": 2.0}))
    assert (corrected.new_records, corrected.touched) == (1, (MONDAY,))
    assert plant.raw(MONDAY)["decode_error"].to_list().count("record_id:MISSING") == 2


def adapter_plant(folder: Path, **options: object) -> tuple[FileSource, Site]:
    """A files source over the adapter logs in ``folder``, and the site of it."""
    tables = ("raw_equipment_state", "raw_work_order")
    settings = {"equipment_id": "M1", "state_item": "execution", **options}
    resource = Resource("logs", tables, "mtconnect_adapter", path="*.txt", mutable=False, options=settings)
    config = SourceConfig("logs", "files", (resource,), root=str(folder))
    return FileSource(config, Settings()), plant_site(config)


IDLE = b"2026-02-27T16:00:00.0000000Z|execution|READY\n"
DAY_IN_NAME = r"-(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)\.txt$"


def test_logs_of_two_idle_days_are_equal_in_content_and_both_count(plant: Plant, tmp_path: Path) -> None:
    """An idle machine's log is only the snapshot of an older state; which day it speaks of stands in its name."""
    drop = tmp_path / "drop"
    drop.mkdir()
    for name in ("M1-20260303.txt", "M1-20260304.txt"):
        (drop / name).write_bytes(IDLE)
    source, site = adapter_plant(drop, window_pattern=DAY_IN_NAME)
    report = land_source(source, site, plant.landing, plant.ledger)
    assert (report.pages, report.new_records) == (2, 2)
    # Midnight UTC is 01:00 in Berlin: the production day of the date before, which began at 06:00.
    assert report.touched == (MONDAY, TUESDAY)
    for day, midnight in ((MONDAY, datetime(2026, 3, 3, tzinfo=UTC)), (TUESDAY, datetime(2026, 3, 4, tzinfo=UTC))):
        raw = raw_partition("raw_equipment_state", day, site, plant.landing, plant.ledger)
        assert raw.select("state", "start_at", "is_current").rows() == [("READY", midnight, True)]
        assert rule_failures(RAW_EQUIPMENT_STATE, raw) == []
    assert report.resources[0].bytes == 2 * len(IDLE)
    assert len(list(plant.landing.root.rglob("*.zst"))) == 1
    plant.apply_all()
    again = land_source(source, site, plant.landing, plant.ledger)
    assert (again.pages, plant.pending_dates()) == (0, [])


def test_a_renamed_log_whose_day_is_the_same_adds_nothing(plant: Plant, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "M1-20260303.txt").write_bytes(IDLE)
    source, site = adapter_plant(drop, window_pattern=DAY_IN_NAME)
    land_source(source, site, plant.landing, plant.ledger)
    plant.apply_all()
    (drop / "M1-20260303.txt").rename(drop / "copy-of-M1-20260303.txt")
    again = land_source(source, site, plant.landing, plant.ledger)
    assert (again.pages, again.new_records, plant.pending_dates()) == (1, 0, [])


def test_work_orders_are_read_from_the_names_of_logs_of_equal_content(plant: Plant, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    for name in ("Plate-Op1-01.txt", "Plate-Op1-02.txt"):
        (drop / name).write_bytes(b"2026-03-03T07:00:00Z|execution|ACTIVE\n2026-03-03T07:10:00Z|execution|READY\n")
    order = {"job_order": "P-{serial}", "product": "PLATE", "work_center": "cell"}
    source, site = adapter_plant(drop, order_pattern=r"Plate-Op1-(?P<serial>\d\d)\.txt$", **order)
    land_source(source, site, plant.landing, plant.ledger)
    orders = raw_partition("raw_work_order", TUESDAY, site, plant.landing, plant.ledger)
    assert sorted(orders["job_order_id"]) == ["P-01", "P-02"]
    states = raw_partition("raw_equipment_state", TUESDAY, site, plant.landing, plant.ledger)
    assert states["state"].to_list() == ["ACTIVE", "READY"]


def test_an_update_far_in_the_future_is_landed_and_moves_no_watermark(plant: Plant) -> None:
    """The source's own time in the page bounds what its records can have been written at."""
    believable = datetime(2026, 3, 2, 8, 5, tzinfo=UTC)
    future = measurement("future", at(MONDAY, 8), updated_at="2999-01-01T00:00:00Z")
    source = ScriptedSource({"measurements": [body(measurement("a", at(MONDAY, 7)), future), body(future)]}, until=believable)
    for _ in range(2):  # the second walk lands pages that are known
        report = land_source(source, SITE, plant.landing, plant.ledger)
        assert plant.ledger.watermark("mes", "measurements") == "2026-03-02T07:00:00.000000Z"
        assert plant.ledger.newest() <= believable
    assert report.pages == 2
    assert plant.raw(MONDAY)["record_id"].to_list() == ["a", "future"]


def test_a_correction_touches_its_date_and_the_earlier_revision_stays(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8), 1.0)))
    plant.apply_all()
    plant.land(body(measurement("a", at(MONDAY, 8), 2.0, rev=2, updated_at=at(WEDNESDAY, 8))))
    assert plant.pending_dates() == [MONDAY]
    assert plant.raw(MONDAY).select("revision", "value", "is_current").rows() == [(1, 1.0, False), (2, 2.0, True)]


def test_a_moved_record_touches_its_old_and_its_new_date(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8)), measurement("b", at(MONDAY, 9))))
    plant.apply_all()
    report = plant.land(body(measurement("a", at(TUESDAY, 8), rev=2)))
    assert report.touched == (MONDAY, TUESDAY)
    assert plant.pending_dates() == [MONDAY, TUESDAY]
    assert plant.raw(MONDAY).select("record_id", "is_current").rows() == [("a", False), ("b", True)]
    assert plant.raw(TUESDAY).select("record_id", "is_current").rows() == [("a", True)]


def test_a_record_that_moves_there_and_back_is_current_once(plant: Plant) -> None:
    for rev, day in enumerate((MONDAY, TUESDAY, MONDAY), start=1):
        plant.land(body(measurement("a", at(day, 8), rev=rev)))
    both = pl.concat([plant.raw(MONDAY), plant.raw(TUESDAY)])
    assert both.filter("is_current").select("revision", "production_date").rows() == [(3, MONDAY)]
    assert both.height == 3


def test_an_older_revision_that_arrives_late_is_kept_and_not_current(plant: Plant) -> None:
    plant.land(body(measurement("a", at(TUESDAY, 8), rev=2)))
    report = plant.land(body(measurement("a", at(MONDAY, 8), rev=1)))
    assert report.touched == (MONDAY,)
    assert plant.raw(MONDAY)["is_current"].to_list() == [False]
    assert plant.raw(TUESDAY)["is_current"].to_list() == [True]


def test_a_deleted_record_touches_its_date(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8))))
    plant.apply_all()
    plant.land(body({"id": "a", "rev": 2, "updated_at": at(WEDNESDAY, 8), "deleted": True}))
    assert plant.pending_dates() == [MONDAY, WEDNESDAY]
    assert plant.raw(MONDAY)["is_current"].to_list() == [False]
    assert plant.raw(WEDNESDAY).select("is_current", "is_deleted").rows() == [(True, True)]


PAGES = (
    body(measurement("a", at(MONDAY, 8), 1.0), measurement("b", at(MONDAY, 9), 1.0)),
    body(measurement("b", at(MONDAY, 9), 1.0), measurement("c", at(MONDAY, 10), 1.0)),
    body(measurement("a", at(TUESDAY, 8), 2.0, rev=2), measurement("c", at(MONDAY, 10), 3.0, rev=2)),
    body(measurement("c", at(MONDAY, 10), 4.0, rev=2), measurement("d", None, updated_at=at(MONDAY, 11))),
)


@pytest.mark.parametrize("order", list(permutations(range(4)))[1::4])
def test_page_order_does_not_matter(tmp_path: Path, order: tuple[int, ...]) -> None:
    straight, shuffled = Plant(tmp_path / "straight"), Plant(tmp_path / "shuffled")
    straight.land(*PAGES)
    for number in order:
        shuffled.land(PAGES[number])
    for day in (MONDAY, TUESDAY):
        assert shuffled.raw(day).equals(straight.raw(day))
        assert shuffled.ledger.change_digest(day) == straight.ledger.change_digest(day)


def test_the_cut_into_pages_changes_lineage_only(tmp_path: Path) -> None:
    records = [measurement(f"r{n}", at(MONDAY, 8, n), float(n)) for n in range(9)]
    one, many = Plant(tmp_path / "one"), Plant(tmp_path / "many")
    one.land(body(*records))
    many.land(*(body(*records[n : n + 4]) for n in range(0, 9, 3)))
    assert many.raw(MONDAY).select(CONTENT).equals(one.raw(MONDAY).select(CONTENT))
    assert not many.raw(MONDAY)["page_sha256"].equals(one.raw(MONDAY)["page_sha256"])


def test_equal_revisions_with_other_content_are_both_kept_and_one_is_current(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8), 5.0)), body(measurement("a", at(MONDAY, 8), 7.0)))
    raw = plant.raw(MONDAY)
    assert sorted(raw.select("value", "is_current").rows()) == [(5.0, False), (7.0, True)]


def test_a_flipped_bit_in_a_landed_page_never_gives_other_bytes(plant: Plant) -> None:
    said = body(*(measurement(f"r{n}", at(MONDAY, 8, n)) for n in range(50)))
    plant.land(said)
    path = plant.landing.path("mes", sha256(said))
    whole = path.read_bytes()
    reported = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            assert plant.landing.read(sha256(said)) == said  # a flip in the frame's own trailer leaves the body whole
        except LakeError:
            reported += 1
    assert reported >= len(whole) - 6


def test_a_missing_landed_page_is_reported_with_its_remedy(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8))))
    [page] = plant.ledger.pages("raw_measurement", MONDAY)
    path = plant.landing.path("mes", page.sha256)
    path.unlink()
    with pytest.raises(LakeError, match="missing") as caught:
        plant.raw(MONDAY)
    assert str(path) in str(caught.value)
    assert "backup" in str(caught.value)


def test_a_page_that_cannot_be_decoded_is_kept_and_refused_each_time(plant: Plant) -> None:
    truncated = body(measurement("a", at(MONDAY, 8)))[:-20]
    for _ in range(2):
        with pytest.raises(ContractError):
            plant.land(truncated)
        assert plant.ledger.watermark("mes", "measurements") is None
    assert plant.landing.read(sha256(truncated)) == truncated
    assert plant.ledger.status()["unreadable_pages"].to_list() == [1]


def test_a_source_may_say_its_own_watermark_and_files_give_their_last_position(plant: Plant) -> None:
    files = SourceConfig("drop", "files", (replace(MEASUREMENTS),))
    source = ScriptedSource({"measurements": [body(), body(measurement("a", at(MONDAY, 8)))]}, files)
    land_source(source, plant_site(files), plant.landing, plant.ledger)
    assert plant.ledger.watermark("drop", "measurements") == "1"
    source.next_watermark = lambda resource: f"after {resource.name}"  # type: ignore[attr-defined]
    land_source(source, plant_site(files), plant.landing, plant.ledger)
    land_source(source, plant_site(files), plant.landing, plant.ledger)
    assert source.watermarks == [None, "1", "after measurements"]


@pytest.mark.parametrize("name", ["../../etc", "a/b", "a\nb", "..", ".", "*", "ä" * 200, "con\0", "-rf", "%2E"])
def test_a_hostile_source_name_stays_inside_the_landing_folder(plant: Plant, name: str) -> None:
    config = SourceConfig(name, "rest", CONFIG.resources)
    source = ScriptedSource({"measurements": [body(measurement("a", at(MONDAY, 8)))]}, config)
    land_source(source, plant_site(config), plant.landing, plant.ledger)
    raw = raw_partition("raw_measurement", MONDAY, plant_site(config), plant.landing, plant.ledger)
    assert raw["source_id"].to_list() == [name]
    [page] = plant.landing.root.rglob("*.zst")
    assert page.resolve().is_relative_to(plant.landing.root.resolve())
    assert page.relative_to(plant.landing.root).parts[0] == safe_name(name) != name


def test_two_names_never_share_a_folder() -> None:
    names = ["a/b", "a%2Fb", "a_2Fb", "A/b", "ä" * 200, "ä" * 201, "..", "%2E%2E"]
    assert len({safe_name(name) for name in names}) == len(names)


def test_a_page_of_a_source_that_left_the_site_is_named(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8))))
    other = plant_site(SourceConfig("erp", "rest", CONFIG.resources))
    with pytest.raises(LakeError, match=r"'mes', resource 'measurements'.*declare it again"):
        raw_partition("raw_measurement", MONDAY, other, plant.landing, plant.ledger)


def test_the_newest_time_is_that_of_the_source(plant: Plant) -> None:
    assert plant.ledger.newest() is None
    plant.land(body(measurement("a", at(MONDAY, 8), updated_at=at(TUESDAY, 8))))
    assert plant.ledger.newest() == plant.ledger.newest("mes") == datetime(2026, 3, 3, 8, tzinfo=UTC)
    assert plant.ledger.newest("other") is None


def test_a_sweep_removes_only_what_no_ledger_row_names(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8))))
    plant.landing.write("mes", b"said, but never entered")
    assert plant.landing.sweep(3600) == []
    with locked(plant.landing.root / "mes" / ".lock", 0.0, "a walk"):
        assert plant.landing.sweep(0) == []
    [swept] = plant.landing.sweep(0)
    assert swept == plant.landing.path("mes", sha256(b"said, but never entered"))
    assert plant.raw(MONDAY).height == 1


def test_two_contents_of_one_revision_keep_the_raw_contract(plant: Plant) -> None:
    plant.land(body(measurement("a", at(MONDAY, 8), 5.0), measurement("a", at(MONDAY, 8), 7.0)))
    assert plant.raw(MONDAY).height == 2
    assert rule_failures(RAW_MEASUREMENT, plant.raw(MONDAY)) == []


def test_a_failure_that_all_resources_share_is_said_once(plant: Plant) -> None:
    away = PermanentError("no such folder")
    source = ScriptedSource({"measurements": [away], "telemetry": [PermanentError("no such folder")]})
    with pytest.raises(PermanentError) as caught:
        land_source(source, SITE, plant.landing, plant.ledger)
    assert getattr(caught.value, "__notes__", []) == []
    other = ScriptedSource({"measurements": [away], "telemetry": [PermanentError("403")]})
    with pytest.raises(PermanentError) as caught:
        land_source(other, SITE, plant.landing, plant.ledger)
    assert [note for note in caught.value.__notes__ if "403" in note]
