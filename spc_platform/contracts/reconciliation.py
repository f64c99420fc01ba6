"""Reconciliation: what a source holds of a production date against what the lake holds of it."""

from __future__ import annotations

from spc_platform.contracts.table import PRODUCTION_DATE, Table, code, count, flag, identifier, moment, text

METHODS = ("counts", "window")
VERDICTS = ("equal", "pending", "differs")

RECONCILIATION = Table(
    name="reconciliation",
    description="Records in force per source, raw table and production date, counted and summed up at the source and in the lake; the newest comparison of each.",
    columns=(
        identifier("source_id", "Source."),
        identifier("resource", "Resource of the source."),
        identifier("raw_table", "Raw table that it feeds."),
        PRODUCTION_DATE,
        moment("reconciled_at", "When the source was asked."),
        code("method", "counts: the source counted; window: its records were read again.", METHODS),
        count("n_source", "Records that the source holds."),
        count("n_lake", "Records in force in the lake."),
        text("checksum_source", "XOR of the hashes of the source's records; empty when it only counted.", nullable=True),
        text("checksum_lake", "The same of the lake's records.", nullable=True),
        count("n_missing", "Records of the source that the lake did not have."),
        count("n_extra", "Records in force in the lake that the source does not hold."),
        count("n_different", "Records that say something else."),
        text("record_ids", "The first of them: + missing, - extra, ~ different.", nullable=True),
        flag("is_deletion_applied", "Extra records were marked as deleted, as the resource declares."),
        code("verdict", "pending: landed pages of the date were not applied yet, so a difference says nothing.", VERDICTS),
    ),
    key=("source_id", "resource", "raw_table", "production_date"),
    sort=("production_date", "source_id", "resource", "raw_table"),
    partitioned=False,
)
