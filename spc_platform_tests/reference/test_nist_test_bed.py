"""SMS Test Bed, 2017-05-01 to 07: every line of eight machines' raw adapter logs is accounted for.

Source: NIST SMS Test Bed (github usnistgov/smstestbed, raw/), US Government work.
"""

import tarfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from spc_platform.production.signals import RULES
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.site.model import Site
from spc_platform.sources.files import FileSource
from spc_platform.sources.mtconnect import adapter_lines, decode
from spc_platform_tests.conftest import lacking

LINES = 297_911
"""Lines of the week, as its provenance note counts them."""


@pytest.fixture(scope="module")
def data(shared_data: Path) -> Path:
    folder = shared_data / "nist-smstestbed-week-2017-05-01"
    if not folder.is_dir():
        lacking(f"no test bed week at {folder}; set SPC_SHARED_DATA or run `spc data fetch`")
    return folder


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(REPOSITORY / "data" / "nist")


@pytest.fixture(scope="module")
def week(site: Site, data: Path) -> dict[str, dict[str, pl.DataFrame]]:
    """Resource -> telemetry, states, lines; telemetry and states with the page they came from."""
    source = FileSource(site.source("nist_test_bed"), Settings(shared_data=data.parent))
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for resource in source.config.resources:
        pages = list(source.walk(resource, None))
        assert len(pages) == 7
        found[resource.name] = {
            table: pl.concat(
                [decode(resource, table, page.body, page.origin).with_columns(origin=pl.lit(page.origin)) for page in pages]
            )
            for table in resource.tables
        }
        found[resource.name]["lines"] = pl.concat(
            [adapter_lines(page.body).with_columns(origin=pl.lit(page.origin)) for page in pages]
        )
    return found


def test_every_line_is_a_row_or_of_an_undeclared_item_or_says_nothing(
    week: dict[str, dict[str, pl.DataFrame]], site: Site, data: Path
) -> None:
    totals: Counter[str] = Counter()
    for resource in site.source("nist_test_bed").resources:
        lines = week[resource.name]["lines"]
        streams, signals = list(resource.options.get("streams", {})), list(resource.options["signals"])
        item = pl.col("item")
        totals["malformed"] += lines.filter(pl.col("problem").is_not_null()).height
        totals["signals"] += lines.filter(item.is_in(signals)).height
        totals["no observation"] += lines.filter(item.is_in(streams) & (pl.col("value") == "UNAVAILABLE")).height
        totals["undeclared"] += lines.filter(item.is_in([*streams, *signals]).not_()).height
        if streams:
            totals["telemetry"] += week[resource.name]["raw_telemetry"].height
    assert totals["malformed"] == 0
    assert sum(totals.values()) == LINES
    with tarfile.open(data / "raw-8-machines-20170501-20170507.tar.gz") as archive:
        counted = sum(archive.extractfile(member).read().count(b"\n") for member in archive.getmembers())  # type: ignore[union-attr]
    assert counted == LINES


def test_signals_change_from_row_to_row_of_a_log(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    for tables in week.values():
        said = tables["raw_signal_event"]
        repeated = (pl.col("value") == pl.col("value").shift(1)).over("origin", "signal")
        assert said.filter(repeated).is_empty()
        assert said["record_id"].n_unique() == said.height


def test_a_signal_never_holds_before_what_its_log_said_earlier(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    """No signal of a log speaks twice at one instant, and each of them in the order of the log."""
    for tables in week.values():
        steps = tables["raw_signal_event"].select(
            step=pl.col("occurred_at").diff().over("origin", "signal", order_by="page_row")
        )
        assert steps["step"].min() is None or steps["step"].min() > timedelta(0)


def test_every_signal_that_the_machines_give_is_one_that_the_rules_know(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    said = pl.concat([tables["raw_signal_event"] for tables in week.values()])
    cells = [cell.split("|") for cell in RULES["mtconnect"]["execution"] if cell]
    known = {value for values in cells for value in values}
    assert set(said.filter(pl.col("signal") == "execution")["value"]) <= known
    assert "ACTIVE" in set(said["value"])


def test_an_idle_day_says_what_is_in_force_from_its_midnight_utc(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    idle = week["hurco06_adapter"]["raw_signal_event"]
    assert idle["occurred_at"].unique().sort().to_list() == [datetime(2017, 5, day, tzinfo=UTC) for day in range(1, 8)]
    assert idle["value"].unique().to_list() == ["UNAVAILABLE"]
    assert idle["decode_note"].str.starts_with("occurred_at:SNAPSHOT from ").all()


def test_no_row_lies_outside_the_week(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    week_start, week_end = datetime(2017, 5, 1, tzinfo=UTC), datetime(2017, 5, 8, tzinfo=UTC)
    for tables in week.values():
        assert tables["raw_signal_event"]["occurred_at"].is_between(week_start, week_end, closed="left").all()
        if "raw_telemetry" in tables:
            assert tables["raw_telemetry"]["observed_at"].is_between(week_start, week_end, closed="left").all()


def test_clocks_that_run_backwards_keep_their_times(week: dict[str, dict[str, pl.DataFrame]]) -> None:
    """Agent and machine clocks of Mazak03 differ: lines with an earlier time than the newest before them, per log."""
    lines = week["mazak03_adapter"]["lines"]
    backwards = lines.filter((pl.col("at") < pl.col("at").cum_max()).over("origin"))
    counted = dict(backwards.group_by("origin").len().iter_rows())
    archive = "raw-8-machines-20170501-20170507.tar.gz!"
    assert counted[f"{archive}Mazak03-20170501-20170502.txt"] == 1083
    assert counted[f"{archive}Mazak03-20170502-20170503.txt"] == 1026
