"""What the Dagster UI shows of a table: columns with units, lineage of columns, figures that plot."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from spc_platform.contracts import LAKE_TABLES, Table
from spc_platform.engine.step import Outcome, Step

_STATE: dict[str, tuple[tuple[str, str], ...]] = {
    "event_id": (("equipment_state", "record_id"), ("signal_event", "equipment_id"), ("signal_event", "occurred_at")),
    "state": (("equipment_state", "state"), ("signal_event", "signal"), ("signal_event", "value")),
    "reason_code": (("equipment_state", "reason_code"), ("signal_event", "signal"), ("signal_event", "value")),
    "time_element": (
        ("equipment_state", "state"),
        ("equipment_state", "reason_code"),
        ("signal_event", "signal"),
        ("signal_event", "value"),
    ),
    **dict.fromkeys(
        ("start_at", "end_at", "duration_s", "event_duration_s", "stop_class", "is_open"),
        (
            ("equipment_state", "start_at"),
            ("equipment_state", "end_at"),
            ("equipment_state_rejected", "start_at"),
            ("signal_event", "occurred_at"),
        ),
    ),
}
"""States are recorded or made from signals; either way their time decides where they are cut and classed. A refused record
ends the state before it."""

COMPUTED_FROM: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "measurement": {
        "specification_version": (("raw_measurement", "measured_at"),),
        "shift_id": (("shift_calendar", "shift_id"), ("raw_measurement", "measured_at")),
        "unit_conversion": (("raw_measurement", "unit"),),
    },
    "telemetry_aligned": {
        "grid_at": (("telemetry", "observed_at"),),
        "fill_flag": (("telemetry", "observed_at"), ("state_interval", "state")),
        "n_observed": (("telemetry", "observed_at"),),
    },
    "measurement_flags": dict.fromkeys(
        ("iqr_low", "iqr_high", "hampel_score", "mask_reason", "is_masked", "value_cleaned"), (("measurement", "value"),)
    ),
    "measurement_process": {
        "process_value": (("telemetry_aligned", "value"),),
        "lag_s": (("measurement", "measured_at"), ("telemetry_aligned", "grid_at")),
    },
    "spc_subgroups": {
        **dict.fromkeys(("n_observed", "mean", "m2", "range", "s", "minimum", "maximum"), (("measurement", "value"),)),
        **dict.fromkeys(
            ("n_masked", "mean_unmasked", "m2_unmasked"), (("measurement_flags", "is_masked"), ("measurement", "value"))
        ),
        "subgroup_id": (("measurement", "record_id"),),
        "subgroup_at": (("measurement", "measured_at"),),
        "subgroup_end_at": (("measurement", "measured_at"),),
    },
    "spc_limit_estimates": {
        "mu": (("spc_subgroups", "mean"), ("spc_subgroups", "n_observed")),
        "sigma": (("spc_subgroups", "range"), ("spc_subgroups", "s"), ("spc_subgroups", "m2"), ("spc_subgroups", "mean")),
    },
    "spc_limits": {
        "mu": (("spc_subgroups", "mean"),),
        "sigma": (("spc_subgroups", "range"), ("spc_subgroups", "s"), ("spc_subgroups", "m2"), ("spc_subgroups", "mean")),
    },
    "spc_points": {
        "value": (("spc_subgroups", "mean"), ("spc_subgroups", "range"), ("spc_subgroups", "s")),
        "cl": (("spc_limits", "mu"), ("spc_limits", "sigma")),
        "lcl": (("spc_limits", "mu"), ("spc_limits", "sigma"), ("spc_limits", "k")),
        "ucl": (("spc_limits", "mu"), ("spc_limits", "sigma"), ("spc_limits", "k")),
        "z": (("spc_subgroups", "mean"), ("spc_limits", "mu"), ("spc_limits", "sigma")),
        "rules": (("spc_subgroups", "mean"), ("spc_limits", "mu"), ("spc_limits", "sigma")),
    },
    "spc_violations": {"rule": (("spc_subgroups", "mean"), ("spc_limits", "mu"), ("spc_limits", "sigma"))},
    "spc_capability": {
        **dict.fromkeys(("pp", "ppk", "sigma_overall"), (("spc_subgroups", "mean"), ("spc_subgroups", "m2"))),
        **dict.fromkeys(("cp", "cpk", "sigma_within"), (("spc_subgroups", "range"), ("spc_subgroups", "s"))),
        "stability": (("spc_violations", "rule"),),
    },
    "signal_event_rejected": {
        "reasons": tuple(("raw_signal_event", name) for name in ("equipment_id", "signal", "value", "occurred_at")),
    },
    "state_interval": {
        **_STATE,
        "unknown_reason": (("equipment_state_rejected", "reasons"),),
        "material_definition_id": (("work_order", "material_definition_id"), ("work_order", "start_at")),
        "shift_id": (("shift_calendar", "shift_id"), *_STATE["start_at"]),
    },
    "downtime_event": {**_STATE, "shift_id": (("shift_calendar", "shift_id"), *_STATE["start_at"])},
    "oee_elements": {
        **dict.fromkeys(
            ("pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s"),
            (("state_interval", "duration_s"), ("state_interval", "time_element")),
        ),
        "minor_stop_s": (("state_interval", "duration_s"), ("state_interval", "stop_class")),
        "gq": (("part_count", "good_quantity"),),
        "sq": (("part_count", "scrap_quantity"),),
        "rq": (("part_count", "rework_quantity"),),
        "pq": tuple(("part_count", name) for name in ("good_quantity", "scrap_quantity", "rework_quantity")),
    },
}
"""Columns that are computed, with the columns they rest on. A column that keeps its name needs no entry."""


def column_schema(table: Table) -> dg.TableSchema:
    """The contract as Dagster's table schema; the unit is a column tag."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.dtype),
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=table.key == (column.name,)),
                tags={"unit": column.unit} if column.unit else {},
            )
            for column in table.columns
        ]
    )


def column_lineage(step: Step, table: Table) -> dg.TableColumnLineage:
    """For each column the columns of the step's inputs that it rests on."""
    computed = COMPUTED_FROM.get(table.name, {})
    inputs = [LAKE_TABLES[source.table] for source in step.inputs]
    lineage = {}
    for column in table.names:
        sources = computed.get(column) or tuple((source.name, column) for source in inputs if column in source.by_name)
        lineage[column] = [dg.TableColumnDep(asset_key=dg.AssetKey(name), column_name=origin) for name, origin in sources]
    return dg.TableColumnLineage(deps_by_column={name: deps for name, deps in lineage.items() if deps})


def definition_metadata(step: Step, table: Table) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(table),
        "natural_key": ", ".join(table.key),
        "sorted_by": ", ".join(table.sort or table.key),
    }
    lineage = column_lineage(step, table)
    if lineage.deps_by_column:
        metadata["dagster/column_lineage"] = lineage
    return metadata


def run_metadata(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of all partitions of one table in a run: row counts are summed, shares weighted by rows."""
    rows = sum(outcome.commit.rows for outcome in outcomes)
    metadata: dict[str, Any] = {
        "dagster/row_count": rows,
        "size_bytes": sum(outcome.commit.bytes for outcome in outcomes),
        "partitions_changed": sum(outcome.commit.changed for outcome in outcomes),
        "path": dg.MetadataValue.path(str(outcomes[-1].commit.path)),
    }
    figures: defaultdict[str, list[tuple[float | int, int]]] = defaultdict(list)
    for outcome in outcomes:
        for name, value in outcome.figures.items():
            figures[name].append((value, outcome.commit.rows))
    for name, values in figures.items():
        metadata[name] = _summary(name, values)
    return metadata


def _summary(name: str, values: Sequence[tuple[float | int, int]]) -> float | int:
    if not name.endswith(("_share", "share_of_pbt")):
        return sum(value for value, _ in values)
    weight = sum(rows for _, rows in values)
    return sum(value * rows for value, rows in values) / weight if weight else 0.0


def partition_metadata(outcome: Outcome) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": outcome.commit.rows,
        "sha256": outcome.commit.sha256,
        **dict(outcome.figures),
    }


def data_version(outcomes: Sequence[Outcome]) -> dg.DataVersion:
    """The content of the run's partitions: the same bytes give the same version."""
    if len(outcomes) == 1:
        return dg.DataVersion(outcomes[0].commit.sha256)
    digest = hashlib.sha256()
    for outcome in sorted(outcomes, key=lambda outcome: str(outcome.commit.production_date)):
        digest.update(f"{outcome.commit.production_date}:{outcome.commit.sha256};".encode())
    return dg.DataVersion(digest.hexdigest())


def check_metadata(figures: Mapping[str, float | int | str]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if not isinstance(value, float) or value == value}
