"""Every step from landed pages to figures, in the order in which they can run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.validate import pandera_failures, rule_failures
from spc_platform.engine.step import Check, Input, Outcome, Step
from spc_platform.engine.workspace import Workspace
from spc_platform.lake.landing import raw_partition
from spc_platform.prepare.align import align_streams
from spc_platform.prepare.join import measurement_process
from spc_platform.prepare.mask import measurement_flags
from spc_platform.prepare.quarantine import accept
from spc_platform.production.calendar import shift_calendar
from spc_platform.production.oee import oee_elements
from spc_platform.production.states import downtime_events, state_intervals
from spc_platform.spc.capability import capability
from spc_platform.spc.limits import approve_baselines, limit_estimates
from spc_platform.spc.points import judge
from spc_platform.spc.subgroups import form_subgroups

CORE = ("measurement", "telemetry", "equipment_state", "production_count", "work_order")
RAW = tuple(f"raw_{name}" for name in CORE)

CONTRACT_CHECK = ("contract", "Every row keeps the table's contract: columns, types, missing values, ranges, key.", True)
CONSERVATION_CHECK = ("conservation", "Current raw rows = accepted + rejected rows: none was lost.", True)
REJECTED_CHECK = ("rejected_share", "At most 5 % of the rows were refused.", False)
PARTITION_CHECK = ("time_partition", "PDT + APT + AUST + ADET + ADOT + UNKNOWN = POT for every work unit and shift.", True)
UNKNOWN_CHECK = ("unknown_time", "At most 5 % of planned operation time has no recorded state.", False)
QUANTITY_CHECK = ("quantities", "good + scrap + rework = produced for every row.", True)
LIMIT_ORDER_CHECK = ("limit_order", "lcl <= cl <= ucl for every judged point.", True)
APPEND_ONLY_CHECK = ("append_only", "No earlier limit version was altered or dropped.", True)
REJECTED_SHARE_WARNING = 0.05


def _outcome(
    workspace: Workspace,
    table: str,
    frame: pl.DataFrame,
    production_date: date | None,
    inputs: Iterable[tuple[str, date | None]],
    *,
    figures: dict[str, float | int] | None = None,
    checks: Iterable[Check] = (),
) -> Outcome:
    contract = LAKE_TABLES[table]
    conformed = contract.conform(frame)
    failures = (pandera_failures if table in CORE else rule_failures)(contract, conformed)
    contract_check = Check(*CONTRACT_CHECK[:1], not failures, "; ".join(failures) or CONTRACT_CHECK[1])
    commit = workspace.lake.commit(table, conformed, production_date, inputs=workspace.fingerprint(inputs))
    return Outcome(commit, figures or {}, (contract_check, *checks))


def _raw(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    digest = workspace.ledger.change_digest(production_date)
    for table in RAW:
        frame = raw_partition(table, production_date, workspace.site, workspace.landing, workspace.ledger)
        figures = {
            "rows_superseded": frame.height - frame["is_current"].sum(),
            "rows_unreadable": frame["decode_error"].is_not_null().sum(),
        }
        yield _outcome(workspace, table, frame, production_date, [], figures=figures)
    workspace.ledger.mark_applied(production_date, digest)


def _calendar(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    frame = shift_calendar(workspace.site, production_date, production_date)
    yield _outcome(workspace, "shift_calendar", frame, production_date, [])


def _core(name: str) -> Callable[[Workspace, date | None], Iterator[Outcome]]:
    def run(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
        inputs = [(f"raw_{name}", production_date), ("shift_calendar", production_date)]
        raw, calendar = (workspace.lake.read(table, day) for table, day in inputs)
        accepted, rejected = accept(name, raw, workspace.site, calendar)
        current = raw.filter(pl.col("is_current") & ~pl.col("is_deleted")).height
        share = rejected.height / current if current else 0.0
        yield _outcome(
            workspace,
            name,
            accepted,
            production_date,
            inputs,
            figures={"rows_rejected": rejected.height, "rejected_share": share},
            checks=(
                Check(
                    CONSERVATION_CHECK[0],
                    current == accepted.height + rejected.height,
                    f"{current} current raw rows, {accepted.height} accepted, {rejected.height} rejected",
                ),
                Check(
                    REJECTED_CHECK[0],
                    share <= REJECTED_SHARE_WARNING,
                    f"{rejected.height} of {current} rows refused ({share:.2%}); see {name}_rejected for the reasons",
                    blocking=False,
                    figures={"rejected_share": share},
                ),
            ),
        )
        yield _outcome(workspace, f"{name}_rejected", rejected, production_date, inputs)

    return run


def _state_interval(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    back = workspace.site.policies.state_carry_days
    events = workspace.read_window("equipment_state", production_date, back=back, ahead=1)
    orders = workspace.read_window("work_order", production_date, back=back, ahead=1)
    as_of = workspace.as_of(production_date)
    frame = state_intervals(events, orders, workspace.site, production_date, as_of)
    total = frame["duration_s"].sum()
    unknown = frame.filter(pl.col("time_element") == "UNKNOWN")["duration_s"].sum()
    share = unknown / total if total else 0.0
    days = workspace.window(production_date, back=back, ahead=1)
    inputs = [(table, day) for table in ("equipment_state", "work_order") for day in days]
    yield _outcome(
        workspace,
        "state_interval",
        frame,
        production_date,
        inputs,
        figures={"unknown_share": share},
        checks=(
            Check(
                UNKNOWN_CHECK[0],
                share <= REJECTED_SHARE_WARNING,
                f"{unknown:.0f} s of {total:.0f} s without a recorded state",
                blocking=False,
                figures={"unknown_share": share},
            ),
        ),
    )
    yield _outcome(
        workspace, "downtime_event", downtime_events(events, workspace.site, production_date, as_of), production_date, inputs
    )


def _oee(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    inputs = [("state_interval", production_date), ("production_count", production_date)]
    intervals, counts = (workspace.lake.read(table, day) for table, day in inputs)
    frame = oee_elements(intervals, counts, workspace.site, production_date, workspace.as_of(production_date))
    parts = pl.sum_horizontal("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")
    off = frame.filter((parts - pl.col("pot_s")).abs() > 1e-6).height
    wrong = frame.filter(pl.col("gq") + pl.col("sq") + pl.col("rq") != pl.col("pq")).height
    yield _outcome(
        workspace,
        "oee_elements",
        frame,
        production_date,
        inputs,
        figures={
            "apt_share_of_pbt": frame["apt_s"].sum() / frame["pbt_s"].sum() if frame["pbt_s"].sum() else 0.0,
            "produced": int(frame["pq"].sum()),
        },
        checks=(
            Check(PARTITION_CHECK[0], off == 0, f"{off} rows whose elements do not add up to POT"),
            Check(QUANTITY_CHECK[0], wrong == 0, f"{wrong} rows whose quantities do not add up"),
        ),
    )


def _aligned(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    inputs = [("telemetry", production_date), ("state_interval", production_date)]
    telemetry, states = (workspace.lake.read(table, day) for table, day in inputs)
    first, last = workspace.day_bounds(production_date)
    newest = workspace.as_of(production_date)
    frame = align_streams(telemetry, workspace.site, states, first, max(first, min(last, newest)))
    observed = (frame["fill_flag"] == "observed").mean()
    yield _outcome(
        workspace,
        "telemetry_aligned",
        frame,
        production_date,
        inputs,
        figures={"observed_share": float(observed) if isinstance(observed, float) else 0.0},
    )


def _flags(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    inputs = [("measurement", production_date)]
    frame = measurement_flags(workspace.lake.read("measurement", production_date), workspace.site)
    masked = int(frame["is_masked"].sum())
    share = masked / frame.height if frame.height else 0.0
    yield _outcome(
        workspace, "measurement_flags", frame, production_date, inputs, figures={"masked": masked, "masked_share": share}
    )


def _process(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    inputs = [("measurement", production_date), ("telemetry_aligned", production_date)]
    measurement, aligned = (workspace.lake.read(table, day) for table, day in inputs)
    yield _outcome(
        workspace, "measurement_process", measurement_process(measurement, aligned, workspace.site), production_date, inputs
    )


def _subgroups(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    inputs = [("measurement", production_date), ("measurement_flags", production_date)]
    measurement, flags = (workspace.lake.read(table, day) for table, day in inputs)
    yield _outcome(workspace, "spc_subgroups", form_subgroups(measurement, flags, workspace.site), production_date, inputs)


def _estimates(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    frame = limit_estimates(workspace.read_all("spc_subgroups"), workspace.site)
    inputs = [("spc_subgroups", day) for day in workspace.lake.dates("spc_subgroups")]
    yield _outcome(workspace, "spc_limit_estimates", frame, None, inputs, figures={"charts": frame.height})


def _limits(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    before = workspace.lake.read("spc_limits")
    frame = approve_baselines(before, workspace.read_all("spc_subgroups"), workspace.site)
    frozen = [name for name in LAKE_TABLES["spc_limits"].names if name != "effective_to"]
    altered = before.select(frozen).join(frame.select(frozen), on=frozen, how="anti", nulls_equal=True).height
    inputs = [("spc_subgroups", day) for day in workspace.lake.dates("spc_subgroups")]
    yield _outcome(
        workspace,
        "spc_limits",
        frame,
        None,
        inputs,
        figures={"charts": frame.select("characteristic_id", "equipment_id").n_unique(), "versions": frame.height},
        checks=(
            Check(APPEND_ONLY_CHECK[0], altered == 0, f"{altered} of {before.height} earlier versions altered or dropped"),
        ),
    )


def _points(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
    assert production_date is not None
    back = workspace.site.policies.carry_days
    subgroups = workspace.read_window("spc_subgroups", production_date, back=back)
    points, violations = judge(subgroups, workspace.lake.read("spc_limits"), workspace.site, production_date)
    inputs: list[tuple[str, date | None]] = [("spc_subgroups", day) for day in workspace.window(production_date, back=back)]
    inputs.append(("spc_limits", None))
    disordered = points.filter((pl.col("lcl") > pl.col("cl")) | (pl.col("cl") > pl.col("ucl"))).height
    signals = points["rules"].is_not_null().sum()
    yield _outcome(
        workspace,
        "spc_points",
        points,
        production_date,
        inputs,
        figures={"points_with_signal": signals, "signal_share": signals / points.height if points.height else 0.0},
        checks=(Check(LIMIT_ORDER_CHECK[0], disordered == 0, f"{disordered} points whose limits are out of order"),),
    )
    yield _outcome(workspace, "spc_violations", violations, production_date, inputs)


def _capability(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    frame = capability(
        workspace.read_all("spc_subgroups"),
        workspace.read_all("spc_violations"),
        workspace.lake.read("spc_limits"),
        workspace.site,
    )
    inputs: list[tuple[str, date | None]] = [
        (table, day) for table in ("spc_subgroups", "spc_violations") for day in workspace.lake.dates(table)
    ]
    lowest = frame["cpk"].min()
    yield _outcome(
        workspace,
        "spc_capability",
        frame,
        None,
        [*inputs, ("spc_limits", None)],
        figures={
            "lowest_cpk": float(lowest) if isinstance(lowest, float) else 0.0,
            "below_1_33": frame.filter(pl.col("cpk") < 1.33).height,
            "unstable": frame.filter(pl.col("stability") == "unstable").height,
        },
    )


def _own(*tables: str) -> tuple[Input, ...]:
    return tuple(Input(table) for table in tables)


STEPS: tuple[Step, ...] = (
    Step("raw", "raw", RAW, (), _raw),
    Step("shift_calendar", "production", ("shift_calendar",), (), _calendar),
    *(
        Step(
            name,
            "core",
            (name, f"{name}_rejected"),
            _own(f"raw_{name}", "shift_calendar"),
            _core(name),
            checks={name: (CONSERVATION_CHECK, REJECTED_CHECK)},
        )
        for name in CORE
    ),
    Step(
        "state_interval",
        "production",
        ("state_interval", "downtime_event"),
        (
            Input("equipment_state", back="state_carry_days", ahead=1),
            Input("work_order", back="state_carry_days", ahead=1),
            Input("shift_calendar"),
        ),
        _state_interval,
        checks={"state_interval": (UNKNOWN_CHECK,)},
    ),
    Step("telemetry_aligned", "prepared", ("telemetry_aligned",), _own("telemetry", "state_interval"), _aligned),
    Step("measurement_flags", "prepared", ("measurement_flags",), _own("measurement"), _flags),
    Step("measurement_process", "prepared", ("measurement_process",), _own("measurement", "telemetry_aligned"), _process),
    Step("spc_subgroups", "spc", ("spc_subgroups",), _own("measurement", "measurement_flags"), _subgroups),
    Step("spc_limit_estimates", "spc", ("spc_limit_estimates",), _own("spc_subgroups"), _estimates),
    Step(
        "spc_limits",
        "spc",
        ("spc_limits",),
        _own("spc_subgroups", "spc_limit_estimates"),
        _limits,
        {"spc_limits": (APPEND_ONLY_CHECK,)},
    ),
    Step(
        "spc_points",
        "spc",
        ("spc_points", "spc_violations"),
        (Input("spc_subgroups", back="carry_days"), Input("spc_limits")),
        _points,
        checks={"spc_points": (LIMIT_ORDER_CHECK,)},
    ),
    Step("spc_capability", "spc", ("spc_capability",), _own("spc_subgroups", "spc_violations", "spc_limits"), _capability),
    Step(
        "oee_elements",
        "production",
        ("oee_elements",),
        _own("state_interval", "production_count"),
        _oee,
        checks={"oee_elements": (PARTITION_CHECK, QUANTITY_CHECK)},
    ),
)


def step(name: str) -> Step:
    """The step of that name, or the one that makes the table of that name. KeyError with the known names otherwise."""
    for candidate in STEPS:
        if name == candidate.name or name in candidate.outputs:
            return candidate
    raise KeyError(f"no step {name!r}; there are: {', '.join(candidate.name for candidate in STEPS)}")
