"""Great Expectations suites of the core tables, made from the contracts and the site.

Importing Great Expectations takes seconds, so this module is imported only when a suite runs. It knows no
polars: a batch is a pandas frame of the columns that the suite looks at.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read by the library while it is imported

import great_expectations as gx
import great_expectations.expectations as gxe
import polars as pl

from spc_platform.contracts.core import CORE_TABLES
from spc_platform.site import Site


def _site_expectations(table: str, site: Site) -> list[gxe.Expectation]:
    """What only this plant knows: its identities, units and sensor ranges."""
    if table == "measurement":
        characteristics = site["characteristics"]
        known = [
            gxe.ExpectColumnValuesToBeInSet(
                column="characteristic_id", value_set=characteristics["characteristic_id"].unique().sort().to_list()
            ),
            gxe.ExpectColumnValuesToBeInSet(column="unit", value_set=characteristics["unit"].unique().sort().to_list()),
        ]
        low, high = characteristics["sensor_min"], characteristics["sensor_max"]
        if low.null_count() == 0 and high.null_count() == 0:
            known.append(gxe.ExpectColumnValuesToBeBetween(column="value", min_value=low.min(), max_value=high.max()))
        return known
    if table == "telemetry":
        return [
            gxe.ExpectColumnValuesToBeInSet(column="stream_id", value_set=site["streams"]["stream_id"].sort().to_list()),
            gxe.ExpectColumnValuesToBeInSet(column="unit", value_set=site["streams"]["unit"].unique().sort().to_list()),
        ]
    if table == "equipment_state":
        return [gxe.ExpectColumnValuesToBeInSet(column="state", value_set=site["states"]["state"].unique().sort().to_list())]
    if table == "production_count":
        return [
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0)
            for name in ("good_quantity", "scrap_quantity", "rework_quantity")
        ]
    if table == "work_order":
        return [gxe.ExpectColumnValuesToBeUnique(column="job_order_id")]
    closed = [column for column in CORE_TABLES[table].columns if column.isin]
    return [gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.isin)) for column in closed]


def suite(table: str, site: Site) -> gx.ExpectationSuite:
    """The suite of a core table: required columns are filled, the natural key is unique, and what the site knows."""
    contract = CORE_TABLES[table]
    required = [column.name for column in contract.columns if not column.nullable]
    expectations: list[gxe.Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(column=name) for name in required if name not in contract.key
    ]
    expectations.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(contract.key)))
    return gx.ExpectationSuite(name=table, expectations=[*expectations, *_site_expectations(table, site)])


def validate(table: str, frame: pl.DataFrame, site: Site) -> list[str]:
    """Failed expectations as text; empty when all hold. No telemetry: the context is ephemeral, analytics are off."""
    context = _context()
    chosen = suite(table, site)
    columns = {name for expectation in chosen.expectations for name in _columns_of(expectation)}
    batch = context.data_sources.pandas_default.read_dataframe(frame.select(sorted(columns)).to_pandas())
    result = batch.validate(chosen, result_format="SUMMARY")
    return [
        f"{outcome.expectation_config.type} {outcome.expectation_config.kwargs.get('column', '')}: "
        f"{outcome.result.get('unexpected_count', '?')} unexpected"
        for outcome in result.results
        if not outcome.success
    ]


def _columns_of(expectation: gxe.Expectation) -> list[str]:
    return list(getattr(expectation, "column_list", None) or [expectation.column])


def _context() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context
