"""Landed pages, the ledger, partitioned Parquet tables and the serving copies: the only writer of files."""
