"""Every ready profile against the plant that speaks its dialect: the lake holds the plant's truth, version by version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import polars as pl
import pytest

from spc_platform.engine import Workspace
from spc_platform.lake.landing import land_source, raw_partition
from spc_platform.plant import Plant, PlantServer
from spc_platform.plant.clock import Clock
from spc_platform.plant.dialects import current, versions
from spc_platform.plant.process import FIRST_DATE
from spc_platform.settings import Settings
from spc_platform.sources import open_source
from spc_platform.sources.rest import RestSource
from spc_platform.sources.rest_paging import Pager
from spc_platform_tests.pipeline.conftest import SITE, morning_after

NOW = morning_after(FIRST_DATE).astimezone(UTC) - timedelta(hours=4)
HEAD = """
[[source]]
source_id = "mes"
kind = "rest"
base_url = "http://127.0.0.1:1"
profile = "{profile}"

[source.auth]
{auth}

[source.pagination]
{pagination}

[source.limits]
requests_per_s = 0
backoff_s = 0.01
backoff_max_s = 0.02
breaker_failures = 50

[[source.resource]]
name = "{name}"
path = "{path}"
tables = ["{table}"]
{resource}
"""
BASIC = 'user_env = "PLANT_USER"\nsecret_env = "PLANT_SECRET"'
OAUTH = 'client_id_env = "PLANT_USER"\nclient_secret_env = "PLANT_SECRET"'
MEASURED = """
[source.resource.fields]
revision = "rev"
characteristic_id = "characteristic"
equipment_id = "station"
serial_number = "serial"
material_lot_id = "lot"
job_order_id = "order"
subgroup_key = "sample"
"""
COMPARED = ("record_id", "revision", "updated_at", "value")


class Peer:
    """A plant, a site of one source that reads it, and what has landed."""

    def __init__(self, folder: Path, server: PlantServer, source: str) -> None:
        self.server = server
        site = copytree(SITE, folder / "site")
        (site / "sources.toml").write_text(source)
        self.workspace = Workspace.open(Settings(site=site, data=folder / "data", source_url={"mes": server.url}))
        self.table = self.workspace.site.sources[0].resources[0].tables[0]
        self.days: set[Any] = set()

    def land(self, advance_h: float = 0.0) -> int:
        """One walk with a fresh source; the clock moves by ``advance_h`` behind its first page."""
        w, pages = self.workspace, []

        def moved(name: str) -> None:
            if name == "page:durable":
                pages.append(name)
                if len(pages) == 1 and advance_h:
                    self.server.clock.advance(advance_h)

        source = open_source(w.site.source("mes"), w.settings)
        assert isinstance(source, RestSource)
        with source:
            report = land_source(source, w.site, w.landing, w.ledger, checkpoint=moved)
        self.days |= {*report.touched}
        return len(pages)

    def lake(self) -> pl.DataFrame:
        w = self.workspace
        frames = [raw_partition(self.table, day, w.site, w.landing, w.ledger) for day in sorted(self.days)]
        return pl.concat(frames).sort("record_id", "revision")


def as_landed(frame: pl.DataFrame) -> pl.DataFrame:
    """The plant's records in the lake's words."""
    at = pl.col("updated_at").str.to_datetime("%+", time_unit="us", time_zone="UTC")
    whole = frame.with_columns(at, record_id="id", revision=pl.col("rev").cast(pl.Int64))
    return whole.select(COMPARED).sort("record_id", "revision")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_USER", "spc-platform")
    monkeypatch.setenv("PLANT_SECRET", "demo-secret")


@pytest.fixture
def server(plant: Plant) -> Iterator[PlantServer]:
    with PlantServer(plant=plant, now=NOW, rate_limit_per_s=1e6) as running:
        yield running


def faults(resource: str, **more: int) -> dict[str, Any]:
    """What goes wrong in a walk; every kind must have been shown at its end."""
    return {
        "server_error": {"count": 2, "skip": 1, "resource": resource},
        "rate_limit": {"count": 1, "skip": 2, "resource": resource, "seconds": 0.01},
        "truncated_body": {"count": 1, "skip": 1, "resource": resource},
        "truncated_json": {"count": 1, "skip": 2, "resource": resource},
        **{kind: {"count": count, "skip": 1, "resource": resource} for kind, count in more.items()},
    }


def peer(folder: Path, server: PlantServer, **said: str) -> Peer:
    return Peer(folder, server, HEAD.format(**{"name": "measurements", "table": "raw_measurement"} | said))


def before_a_deletion(plant: Plant) -> datetime:
    """Half an hour before the plant withdraws its first record."""
    withdrawn = versions(plant, "measurements", NOW + timedelta(days=1)).filter("deleted")["_us"]
    return datetime.fromtimestamp(int(withdrawn[0]) / 1e6, UTC) - timedelta(minutes=30)


def test_odata_with_delta_links(tmp_path: Path, server: PlantServer) -> None:
    """The listing shows what is, the delta link what changed since the walk began, deletions included."""
    begun = before_a_deletion(server.plant)
    server.clock = server.mes.clock = Clock(begun)
    lake = peer(
        tmp_path,
        server,
        profile="odata_v4",
        auth='kind = "oauth2_client"\n' + OAUTH,
        pagination='delta = true\nheaders = { Prefer = "odata.track-changes,odata.maxpagesize=400" }',
        path="/odata/v4/measurements",
        resource=MEASURED,
    )
    server.faults.set(faults("measurements", expire_token=1, duplicate_page=1))
    assert lake.land(advance_h=0.1) > 5
    assert not server.faults.pending()
    assert str(lake.workspace.ledger.watermark("mes", "measurements")).startswith("delta:")
    listed = current(server.plant, "measurements", begun)
    lake.land()
    server.clock.advance(3.0)
    lake.land()
    now = server.clock.now()
    landed = lake.lake()
    gone = current(server.plant, "measurements", now).filter("deleted")
    before = listed.filter(~pl.col("deleted"))["id"]
    assert gone.filter(pl.col("id").is_in(before.implode())).height > 0, "something known was deleted meanwhile"
    assert (
        landed.select(COMPARED)
        .join(as_landed(versions(server.plant, "measurements", now)), on=COMPARED, how="anti", nulls_equal=True)
        .is_empty()
    )
    in_force = landed.filter(pl.col("is_current") & ~pl.col("is_deleted")).select(COMPARED)
    assert in_force.equals(as_landed(current(server.plant, "measurements", now).filter(~pl.col("deleted"))))
    assert lake.land() == 1, "a delta link without changes is one page"


def test_tulip_tables_that_change_while_they_are_read(tmp_path: Path, server: PlantServer) -> None:
    """A record that is updated moves to the end of the order: by offset its neighbours would be missed, by keyset not."""
    fields = MEASURED.replace('revision = "rev"\n', "")
    lake = peer(
        tmp_path,
        server,
        profile="tulip_tables",
        auth=BASIC,
        pagination="",
        path="/tulip/api/v3/tables/measurements/records",
        resource="overlap_s = 60\n" + fields,
    )
    server.faults.set(faults("measurements"))
    lake.land(advance_h=2.0)
    assert not server.faults.pending()
    lake.land()
    now = server.clock.now()
    landed = lake.lake().filter("is_current").select("record_id", "updated_at", "value")
    expected = as_landed(current(server.plant, "measurements", now)).select("record_id", "updated_at", "value")
    assert landed.height > 1000
    assert landed.equals(expected)


def test_pi_web_api_streamsets(tmp_path: Path, server: PlantServer) -> None:
    """Slices that are cut off are halved, bad values keep their reason, a point that does not exist is said."""
    truth = versions(server.plant, "telemetry", NOW + timedelta(hours=1))
    streams = sorted(truth["signal"].unique())[:3]
    start = (NOW - timedelta(hours=6)).astimezone().isoformat()
    lake = peer(
        tmp_path,
        server,
        profile="pi_web_api",
        auth=BASIC,
        pagination=f'start = "{start}"\npage_size = 200',
        name="telemetry",
        table="raw_telemetry",
        path="/piwebapi/streamsets/recorded",
        resource=f"""
overlap_s = 3600
[source.resource.fields]
stream_id = "^Name"
observed_at = "Timestamp"
[source.resource.options]
params = {{ webId = {[*streams, "nowhere"]} }}
""",
    )
    server.faults.set(faults("telemetry"))
    with _stand_still(NOW):
        lake.land()
    assert not server.faults.pending()
    server.clock.advance(1.0)
    with _stand_still(NOW + timedelta(hours=1)):
        lake.land()
    landed = lake.lake()
    at = pl.col("at").str.to_datetime("%+", time_unit="us", time_zone="UTC")
    told = truth.with_columns(at).filter(pl.col("signal").is_in(streams) & (pl.col("at") >= NOW - timedelta(hours=6)))
    told = told.filter(pl.col("at") <= NOW + timedelta(hours=1) - timedelta(seconds=10))
    expected = told.select(stream_id="signal", observed_at="at", value="value").unique().sort("stream_id", "observed_at")
    found = landed.filter(pl.col("stream_id").is_in(streams) & pl.col("is_current"))
    assert found.height > 1000
    assert found.select("stream_id", "observed_at", "value").sort("stream_id", "observed_at").equals(expected)
    assert found.filter(
        pl.col("value").is_null() != pl.col("decode_error").eq("value:BAD_QUALITY").fill_null(value=False)
    ).is_empty()
    assert "record:SOURCE_ERROR" in set(landed["decode_error"])


@contextmanager
def _stand_still(now: datetime) -> Iterator[None]:
    """Slices end at the plant's virtual time, not at the machine's."""
    real = Pager.windows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pager, "windows", lambda self, since, _: real(self, since, now))
        yield


def test_machine_reports_by_post_in_slices(tmp_path: Path, server: PlantServer) -> None:
    lake = peer(
        tmp_path,
        server,
        profile="machinemetrics",
        auth='secret_env = "PLANT_SECRET"',
        pagination=f'start = "{(NOW - timedelta(days=2)).astimezone().isoformat()}"\npage_size = 300\nslice_s = 14400',
        path="/machinemetrics/reports/measurements",
        resource="overlap_s = 300\n" + MEASURED,
    )
    server.faults.set(faults("measurements"))
    with _stand_still(NOW):
        assert lake.land(advance_h=2.0) > 5
    assert not server.faults.pending()
    with _stand_still(NOW + timedelta(hours=2, seconds=1)):
        lake.land()
    expected = as_landed(versions(server.plant, "measurements", server.clock.now()))
    assert lake.lake().select(COMPARED).equals(expected)


def test_a_cursor(tmp_path: Path, server: PlantServer) -> None:
    lake = peer(
        tmp_path,
        server,
        profile="cursor",
        auth='kind = "oauth2_password"\nuser_env = "PLANT_USER"\nsecret_env = "PLANT_SECRET"',
        pagination="page_size = 400",
        path="/api/v1/measurements",
        resource='overlap_s = 300\n[source.resource.fields]\nrecord_id = "id"\n'
        + MEASURED.split("]", 1)[1].lstrip()
        + 'is_deleted = "deleted"\n',
    )
    server.faults.set(faults("measurements", expire_token=1, duplicate_page=1))
    assert lake.land(advance_h=2.0) > 5
    assert not server.faults.pending()
    lake.land()
    expected = as_landed(versions(server.plant, "measurements", server.clock.now()))
    assert lake.lake().select(COMPARED).equals(expected)
