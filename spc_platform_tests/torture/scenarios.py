"""What is tortured: a subscription that is spooled and landed, and a peer that is walked page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl

from spc_platform.collect.readings import Reading, Recorder, Tag
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Gap, Spool
from spc_platform.contracts import Table
from spc_platform.errors import LakeError
from spc_platform.lake import store
from spc_platform.lake.files import Checkpoint, file_sha256
from spc_platform.lake.landing import Landing, land_source, raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.store import Lake
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page
from spc_platform.sources.spooled import SpooledSource
from spc_platform_tests.torture.harness import Acknowledge
from spc_platform_tests.unit.lake_plant import MEASUREMENTS, MONDAY, at, body, measurement, plant_site

TABLE = "raw_measurement"
COMMIT_POINTS = (
    "parquet:half-written",
    "parquet:written",
    "parquet:synced",
    "parquet:renamed",
    "parquet:durable",
    "manifest:half-written",
    "manifest:synced",
    "manifest:renamed",
    "manifest:durable",
    "commit:noted",
)
PAGE_POINTS = ("page:half-written", "page:synced", "page:renamed", "page:durable", "page:entered", "page:landed")
WALK_POINTS = ("walk:landed", "walk:closed")
BEGIN = datetime(2026, 3, 2, 6, tzinfo=UTC)


class Kept:
    """What is made durable of a source, and how it is compared with what it said."""

    config: SourceConfig

    def __init__(self, make_ledger: type[Ledger] = Ledger, make_lake: type[Lake] = Lake) -> None:
        self.make_ledger, self.make_lake = make_ledger, make_lake

    def refresh(self, root: Path, checkpoint: Checkpoint) -> None:
        """Commit every production date that landed pages touch, as the platform's runs do."""
        ledger = self.make_ledger(root / "ledger.sqlite")
        landing, lake = Landing(root / "landing", ledger), self.make_lake(root / "lake", ledger, checkpoint=checkpoint)
        for change in ledger.pending():
            frame = raw_partition(TABLE, change.production_date, plant_site(self.config), landing, ledger)
            lake.commit(TABLE, frame, change.production_date)
            checkpoint("date:committed")
            ledger.mark_applied(change.production_date, change.digest)

    def partial_files(self, root: Path) -> list[str]:
        """Data files that a reader may open and that are not what they are named after, and partitions that cannot be read."""
        found = [f"{path.name} is partial" for path in (root / "lake").rglob("*.parquet") if file_sha256(path) != path.stem]
        try:
            self.rows(root)
        except LakeError as error:
            found.append(str(error))
        return found

    def rows(self, root: Path) -> pl.DataFrame:
        """Current rows of the lake."""
        lake = Lake(root / "lake")
        return lake.read_dates(TABLE, lake.dates(TABLE)).filter(pl.col("is_current") & ~pl.col("is_deleted"))

    def landed(self, root: Path) -> set[str]:
        """Record ids of every page that landed and whose bytes are whole."""
        ledger = Ledger(root / "ledger.sqlite")
        landing = Landing(root / "landing", ledger)
        digests = {page.sha256 for day in ledger.touched_dates() for page in ledger.pages(TABLE, day)}
        pages = [msgspec.json.decode(landing.read(digest)) for digest in digests]
        resource = self.config.resources[0]
        key = resource.fields.get("record_id", "record_id")
        return {record[key] for page in pages for record in page[resource.records]}

    def unapplied(self, root: Path) -> list[str]:
        return [f"{change.production_date} is pending" for change in Ledger(root / "ledger.sqlite").pending()]


COLLECTED = SourceConfig("line1", "mqtt", (Resource("measurements", (TABLE,), "json_records"),))
TAG = Tag("bore", "measurement", "bore", "CNC-1", unit="mm")


def readings(first: int, end: int) -> list[Reading]:
    """What the subscription says: reading ``n`` has the value n/1000, two minutes after the one before."""
    return [
        Reading("bore", number / 1000, BEGIN + timedelta(minutes=2 * number), sequence=str(number))
        for number in range(first, end)
    ]


class Subscription(Kept):
    """A peer that sends again whatever was not acknowledged: spooled, landed, committed."""

    name = "subscription"
    config = COLLECTED
    points = ("spool:written", "spool:durable", *PAGE_POINTS, *WALK_POINTS, *COMMIT_POINTS, "date:committed")

    def __init__(
        self,
        make_ledger: type[Ledger] = Ledger,
        make_lake: type[Lake] = Lake,
        *,
        make_spool: type[Spool] = Spool,
        make_sink: type[Sink] = Sink,
        make_source: type[SpooledSource] = SpooledSource,
        name: str = "subscription",
        points: tuple[str, ...] = points,
    ) -> None:
        super().__init__(make_ledger, make_lake)
        self.points = points
        self.make_spool, self.make_sink, self.make_source, self.name = make_spool, make_sink, make_source, name

    def work(self, root: Path, acknowledged: int, offered: int, acknowledge: Acknowledge, checkpoint: Checkpoint) -> None:
        spool = self.make_spool(root / "spool", "line1", min_free_bytes=0, checkpoint=checkpoint)
        with self.make_sink(Recorder(self.config, (TAG,)), spool, now=lambda: BEGIN + timedelta(days=30)) as sink:
            for first in range(acknowledged, offered, 5):
                end = min(first + 5, offered)
                sink.put(readings(first, end), done=lambda end=end: acknowledge(end))  # type: ignore[misc]
                sink.flush()
        ledger = self.make_ledger(root / "ledger.sqlite")
        source = self.make_source(self.config, Settings(data=root))
        land_source(source, plant_site(self.config), Landing(root / "landing", ledger), ledger, checkpoint=checkpoint)
        self.refresh(root, checkpoint)

    def violations(self, root: Path, acknowledged: int) -> list[str]:
        spooled, _ = Spool(root / "spool", "line1").after("measurements", 0, 1_000_000)
        kept = {msgspec.json.decode(record)["record_id"] for record in spooled} | self.landed(root)
        said = {record_id: number for number, record_id in enumerate(self.identities(acknowledged))}
        lost = sorted(said[record_id] for record_id in set(said) - kept)
        return self.partial_files(root) + [f"acknowledged reading {number} is lost" for number in lost]

    def differences(self, root: Path, offered: int) -> list[str]:
        truth = Counter((record_id, number / 1000) for number, record_id in enumerate(self.identities(offered)))
        found = Counter(self.rows(root).select("record_id", "value").iter_rows())
        return [
            *self.unapplied(root),
            *(f"missing {each}" for each in truth - found),
            *(f"too many {each}" for each in found - truth),
        ]

    def identities(self, count: int) -> list[str]:
        records = Recorder(self.config, (TAG,)).records(readings(0, count), BEGIN + timedelta(days=30))
        return [record.fields["record_id"] for record in records]


def version(number: int) -> tuple[str, int]:
    """Record and revision of the peer's version ``number``: 60 records, corrected over and over, moved between days."""
    return f"r{(number * 7) % 60:02d}", number // 60 + 1


def record(number: int) -> dict[str, object]:
    name, revision = version(number)
    day = MONDAY + timedelta(days=(number * 13 + revision) % 3)
    updated = (BEGIN + timedelta(days=5, seconds=number)).isoformat().replace("+00:00", "Z")
    return measurement(name, at(day, 8 + number % 10), number / 1000, rev=revision) | {"updated_at": updated}


class PeerSource:
    """Serves the newest version of every record written since the watermark, ten a page."""

    config = SourceConfig("mes", "rest", (MEASUREMENTS,))

    def __init__(self, offered: int) -> None:
        self.newest = {version(number)[0]: number for number in range(offered)}

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        records = [record(number) for number in sorted(self.newest.values())]
        since = [each for each in records if str(each["updated_at"]) >= (watermark or "").replace(".000000Z", "Z")]
        for first in range(0, len(since), 10):
            yield Page("mes", resource.name, body(*since[first : first + 10]), f"page {first}", "", datetime.now(UTC))

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        return None


class Walk(Kept):
    """A peer that is asked for what changed since the watermark: corrections, and records that move to another date."""

    name = "walk"
    config = PeerSource.config
    points = (*PAGE_POINTS, *WALK_POINTS, *COMMIT_POINTS, "date:committed")

    def __init__(
        self,
        make_ledger: type[Ledger] = Ledger,
        make_lake: type[Lake] = Lake,
        name: str = "walk",
        points: tuple[str, ...] = points,
    ) -> None:
        super().__init__(make_ledger, make_lake)
        self.name, self.points = name, points

    def work(self, root: Path, acknowledged: int, offered: int, acknowledge: Acknowledge, checkpoint: Checkpoint) -> None:
        ledger = self.make_ledger(root / "ledger.sqlite")
        land_source(
            PeerSource(offered), plant_site(self.config), Landing(root / "landing", ledger), ledger, checkpoint=checkpoint
        )
        acknowledge(offered)
        self.refresh(root, checkpoint)

    def violations(self, root: Path, acknowledged: int) -> list[str]:
        """The watermark passed what never landed, in the newest version that was there when it moved."""
        watermark = Ledger(root / "ledger.sqlite").watermark("mes", "measurements") or ""
        passed = {version(n)[0] for n in range(2_000) if str(record(n)["updated_at"]) <= watermark.replace(".000000Z", "Z")}
        lost = passed - self.landed(root)
        return self.partial_files(root) + [f"the watermark passed {name}, which never landed" for name in sorted(lost)]

    def differences(self, root: Path, offered: int) -> list[str]:
        newest = PeerSource(offered).newest
        truth = Counter((name, version(number)[1], number / 1000) for name, number in newest.items())
        found = Counter(self.rows(root).select("record_id", "revision", "value").iter_rows())
        return [
            *self.unapplied(root),
            *(f"missing {each}" for each in truth - found),
            *(f"too many {each}" for each in found - truth),
        ]


# --- broken on purpose: the harness must catch each


class EarlySink(Sink):
    """Broken on purpose: acknowledges what is queued and not yet durable."""

    def put(
        self,
        readings: Sequence[Reading],
        *,
        state: Mapping[str, str] | None = None,
        gaps: Sequence[Gap] = (),
        done: Callable[[], None] | None = None,
        received_at: datetime | None = None,
    ) -> None:
        if done is not None:
            done()
        super().put(readings, state=state, gaps=gaps, received_at=received_at)


class EagerSource(SpooledSource):
    """Broken on purpose: removes records from the spool as soon as they were read, before they landed."""

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        for page in super().walk(resource, watermark):
            self._spool.drop(resource.name, int(page.position))
            yield page


class InPlaceLake(Lake):
    """Broken on purpose: writes over the file that readers have open, as plain Parquet writers do."""

    def _write_file(self, folder: Path, contract: Table, rows: pl.DataFrame) -> tuple[str, Path]:
        manifest = self.manifest(contract.name, rows["production_date"][0])
        path = folder / (manifest.file if manifest else "first.parquet")
        store._write_parquet(path, contract, rows, self._checkpoint)
        digest = file_sha256(path)
        return digest, path.rename(folder / f"{digest}.parquet")


class ForgetfulLedger(Ledger):
    """Broken on purpose: a date counts as applied before its partition is committed."""

    def pending(self) -> list:  # type: ignore[type-arg]
        changes = super().pending()
        for change in changes:
            self.mark_applied(change.production_date, change.digest)
        return changes


class WatermarkFirstLedger(Ledger):
    """Broken on purpose: the watermark moves to the peer's newest version when the walk begins."""

    def open_batch(self, source_id: str, resource: str) -> int:
        batch = super().open_batch(source_id, resource)
        before = self.watermark(source_id, resource)
        seconds = 0 if before is None else int((datetime.fromisoformat(before) - BEGIN - timedelta(days=5)).total_seconds())
        moved = (BEGIN + timedelta(days=5, seconds=seconds + 12)).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self.close_batch(batch, moved)
        return batch


SOUND = (Subscription(), Walk())
_COMMITTING = COMMIT_POINTS[:5]
BROKEN = (
    Subscription(make_sink=EarlySink, name="acknowledged before it was durable", points=("spool:written",)),
    Subscription(make_source=EagerSource, name="left the spool before it had landed", points=PAGE_POINTS),
    Subscription(ForgetfulLedger, name="applied before it was committed", points=_COMMITTING),
    Walk(WatermarkFirstLedger, name="watermark moved first", points=PAGE_POINTS),
    Walk(make_lake=InPlaceLake, name="written in place", points=_COMMITTING),
)
"""Each is killed where its defect shows."""
