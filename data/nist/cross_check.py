"""Writes two tables into this site's README: the week of the eight machines, and its seconds against their own counters.

Run it after the week was made: ``SPC_SITE=data/nist SPC_DATA=FOLDER python data/nist/cross_check.py``. Every figure comes
from the lake: ``oee_elements``, ``signal_event`` and ``telemetry``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from spc_platform.engine import Workspace
from spc_platform.production.counters import counter_deltas
from spc_platform.production.oee import oee_ratios
from spc_platform.production.signals import RULES, signal_states
from spc_platform.settings import Settings

README = Path(__file__).resolve().parent / "README.md"
WEEK = [date(2017, 4, 30) + timedelta(days=number) for number in range(8)]
"""Production dates of the week: its first log begins at 20:00 in New York on the eve."""
END = datetime(2017, 5, 8, tzinfo=UTC)
COUNTING = ("Mazak01", "Mazak03")
AUTOMATIC = ("ACTIVE", "FEED_HOLD", "INTERRUPTED")
"""Executions during which auto_time runs."""
LOST = "UNAVAILABLE"
KNOWN = "state known"
IN_AUTOMATIC = "ACTIVE, FEED_HOLD, INTERRUPTED"
COMPARED = {"total_time": KNOWN, "auto_time": IN_AUTOMATIC, "cut_time": IN_AUTOMATIC}


def by_machine(workspace: Workspace) -> pl.DataFrame:
    """Seconds of the planned time of the week by element, availability and counted parts of each machine."""
    elements = workspace.lake.read_dates("oee_elements", WEEK)
    columns = ("pbt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s", "availability", "pq")
    return oee_ratios(elements, ["equipment_id"]).sort("equipment_id").select("equipment_id", *columns)


def against_counters(workspace: Workspace) -> pl.DataFrame:
    """One row per machine and counter: its seconds, those of the states, and what the difference is made of."""
    signals = workspace.lake.read_dates("signal_event", WEEK).cast({pl.Categorical: pl.String})
    telemetry = workspace.lake.read_dates("telemetry", WEEK).cast({pl.Categorical: pl.String})
    rows = [
        _compared(machine, counter, signals.filter(equipment_id=machine), telemetry.filter(equipment_id=machine))
        for machine in COUNTING
        for counter in COMPARED
    ]
    return pl.DataFrame(rows)


def _compared(machine: str, counter: str, signals: pl.DataFrame, telemetry: pl.DataFrame) -> dict[str, object]:
    said = signals.filter(signal="execution").select("value", at="occurred_at").sort("at")
    read = telemetry.filter(stream_id=f"{machine}.{counter}").select("stream_id", "value", at="observed_at")
    rose = counter_deltas(read).filter(pl.col("delta") > 0).sort("end_at")
    during = rose.join_asof(said, left_on="end_at", right_on="at", allow_exact_matches=False)
    intervals = _seconds(signals, counter)
    unseen = _total(during.filter(value=LOST)["delta"])
    late = _noticed_late(said, telemetry.filter(stream_id=f"{machine}.total_time"), counter)
    counted = _total(rose["delta"])
    return {
        "equipment_id": machine,
        "counter": counter,
        "counter_s": counted,
        "states": COMPARED[counter],
        "states_s": intervals,
        "difference_s": intervals - counted,
        "lost_s": -unseen,
        "late_s": late,
        "rest_s": intervals - counted + unseen - late,
        "rest_share": (intervals - counted + unseen - late) / counted,
    }


def _seconds(signals: pl.DataFrame, counter: str) -> float:
    """Seconds in which the machine's state was known, or in which it was in automatic operation."""
    events = signals.select("equipment_id", "signal", "value", at="occurred_at")
    if COMPARED[counter] == IN_AUTOMATIC:
        same = pl.col("value").replace(dict.fromkeys(AUTOMATIC, "ACTIVE"))
        events = events.filter(signal="execution").with_columns(value=same)
    states = signal_states(events, RULES["mtconnect"])
    states = states.filter(pl.col("state") == "RUN" if COMPARED[counter] == IN_AUTOMATIC else pl.col("state") != "UNKNOWN")
    end = pl.col("end_at").fill_null(END)
    return _total(states.select((end - pl.col("start_at")).dt.total_microseconds() / 1e6).to_series())


def _noticed_late(said: pl.DataFrame, readings: pl.DataFrame, counter: str) -> float:
    """Seconds from the last reading of a connection to the agent's word that it was lost, while the state went on."""
    before = pl.col("value").shift(1)
    lost = said.filter((pl.col("value") == LOST) & (before != LOST)).with_columns(was=pl.lit(None, pl.String))
    was = said.with_columns(was=before).select("at", "was")
    last = (
        lost.drop("was")
        .join(was, on="at")
        .join_asof(readings.select(last="observed_at").sort("last"), left_on="at", right_on="last")
    )
    counts = pl.col("was").is_in(list(AUTOMATIC)) if COMPARED[counter] == IN_AUTOMATIC else pl.lit(value=True)
    return _total(last.filter(counts).select((pl.col("at") - pl.col("last")).dt.total_microseconds() / 1e6).to_series())


def _total(series: pl.Series) -> float:
    return float(series.sum())


def written(workspace: Workspace) -> dict[str, str]:
    """Name of a table in the README -> its lines."""
    machines = (
        [
            row["equipment_id"],
            *(f"{row[name]:,.3f}" for name in ("apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")),
            f"{row['availability']:.2%}",
            str(row["pq"]),
        ]
        for row in by_machine(workspace).iter_rows(named=True)
    )
    counters = (
        [
            row["equipment_id"],
            f"`{row['counter']}`",
            f"{row['counter_s']:,.0f}",
            row["states"],
            f"{row['states_s']:,.3f}",
            *(f"{row[name]:+,.3f}" for name in ("difference_s", "lost_s", "late_s", "rest_s")),
            f"{row['rest_share']:+.3%}",
        ]
        for row in against_counters(workspace).iter_rows(named=True)
    )
    return {
        "machines": _table("machine|production s|setup s|delay s|available s|unknown s|availability|parts", machines),
        "counters": _table(
            "machine|counter|counted s|states|states s|difference s|lost s|noticed late s|rest s|rest / counted", counters
        ),
    }


def _table(head: str, rows: Iterable[list[str]]) -> str:
    names = head.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    for name, table in written(Workspace.open(Settings())).items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = before + mark + table + "\n" + end + after
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
