"""Tables of the ledger. Dates are days, times microseconds since 1970; a stream is one raw table fed by one source."""

VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
  id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, resource TEXT NOT NULL, opened_at TEXT NOT NULL, closed_at TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS page (
  id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, source_id TEXT NOT NULL, resource TEXT NOT NULL, origin TEXT NOT NULL,
  position TEXT NOT NULL, n_records INTEGER NOT NULL, n_bytes INTEGER NOT NULL, received_at INTEGER NOT NULL,
  newest_updated_at INTEGER, batch_id INTEGER NOT NULL REFERENCES batch (id), error TEXT,
  UNIQUE (source_id, resource, sha256, origin));
CREATE INDEX IF NOT EXISTS page_sha256 ON page (sha256);
CREATE TABLE IF NOT EXISTS stream (
  id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, raw_table TEXT NOT NULL, UNIQUE (source_id, raw_table));
CREATE TABLE IF NOT EXISTS page_date (
  raw_table TEXT NOT NULL, production_date INTEGER NOT NULL, page_id INTEGER NOT NULL REFERENCES page (id),
  n_new INTEGER NOT NULL, n_moved INTEGER NOT NULL,
  PRIMARY KEY (raw_table, production_date, page_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS change (
  production_date INTEGER PRIMARY KEY, digest TEXT NOT NULL, n_pages INTEGER NOT NULL, n_records INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS applied (production_date INTEGER PRIMARY KEY, digest TEXT NOT NULL, applied_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS watermark (
  source_id TEXT NOT NULL, resource TEXT NOT NULL, value TEXT NOT NULL, batch_id INTEGER NOT NULL, moved_at TEXT NOT NULL,
  PRIMARY KEY (source_id, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partition_commit (
  id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, production_date TEXT NOT NULL, sha256 TEXT NOT NULL,
  n_rows INTEGER NOT NULL, committed_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS partition_commit_of ON partition_commit (table_name, production_date, id);
CREATE TABLE IF NOT EXISTS source (
  source_id TEXT PRIMARY KEY, newest_at INTEGER, last_success_at TEXT, last_error_at TEXT, last_error TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record (
  stream_id INTEGER NOT NULL, record_id TEXT NOT NULL, revision INTEGER NOT NULL, content_hash INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, production_date INTEGER NOT NULL,
  PRIMARY KEY (stream_id, record_id, revision, content_hash)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS superseded (
  stream_id INTEGER NOT NULL, production_date INTEGER NOT NULL, record_id TEXT NOT NULL, revision INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (stream_id, production_date, record_id, revision, updated_at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS page_hashes (
  stream_id INTEGER NOT NULL, page_id INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
  hashes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS page_hashes_span ON page_hashes (stream_id, last_at, first_at);
"""
