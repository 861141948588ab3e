//! The file format: tables, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The database's name in the data directory.
pub(super) const FILE: &str = "postern.db";

/// Written to `user_version`; a store with a higher one was written by a later Postern and is refused.
///
/// | version | since | what it added |
/// |---|---|---|
/// | 1 | part 1 | |
/// | 2 | part 2 | beside each `seen_` table an `object_` table: what was told of each object's state; `ended.origin` |
pub(super) const VERSION: i64 = 2;

/// `owed` is the hot table, with three indexes: one finds what to load (never failed, by arrival; failed, by its time), one
/// what is owed longest, one a lane. What has ended leaves it in the same transaction: with its payload to `dead` where it may be replayed, slim
/// to `ended` otherwise.
const TABLES: &str = "
CREATE TABLE instances (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  owed INTEGER NOT NULL DEFAULT 0, owed_bytes INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0, dead_bytes INTEGER NOT NULL DEFAULT 0,
  paused_ms INTEGER NOT NULL DEFAULT 0);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (space TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE TABLE owed (seq INTEGER PRIMARY KEY, instance INTEGER NOT NULL, lane BLOB NOT NULL, accepted_at INTEGER NOT NULL,
  paused_ms INTEGER NOT NULL, size INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, first_failed_at INTEGER,
  next_at INTEGER, batch INTEGER, replayed INTEGER NOT NULL DEFAULT 0, log TEXT, event TEXT NOT NULL);
CREATE INDEX owed_due ON owed (instance, next_at, seq);
CREATE INDEX owed_age ON owed (instance, accepted_at);
CREATE INDEX owed_lane ON owed (lane, seq);
CREATE INDEX owed_batch ON owed (batch) WHERE batch IS NOT NULL;
CREATE TABLE dead (seq INTEGER PRIMARY KEY, instance INTEGER NOT NULL, lane BLOB NOT NULL, accepted_at INTEGER NOT NULL,
  paused_ms INTEGER NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL, ended_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
  reason TEXT, log TEXT, event TEXT NOT NULL);
CREATE TABLE ended (seq INTEGER PRIMARY KEY, instance INTEGER NOT NULL, state TEXT NOT NULL, accepted_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT, log TEXT, event_id TEXT NOT NULL, bucket TEXT NOT NULL,
  key TEXT NOT NULL, event_name TEXT NOT NULL, origin TEXT);
";

/// Opens the connection of the writer and makes the tables where there are none.
///
/// # Errors
/// The version found, where it is not ours, or what SQLite says.
pub(super) fn open_writer(dir: &Path) -> Result<Result<Connection, i64>, rusqlite::Error> {
    let path = dir.join(FILE);
    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Space is given back in steps; this must be said before the first table.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL syncs the log at every commit: that is what a 200 promises.
    conn.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints run on a connection of their own, so that no append waits for one.
    conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    conn.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    tune(&conn, 2048)?;
    let version = version(&conn)?;
    if version == 0 {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
    } else if version == 1 {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {} PRAGMA user_version = {VERSION}; COMMIT;", from_1(&conn)?))?;
    } else if version != VERSION {
        return Ok(Err(version));
    }
    Ok(Ok(conn))
}

/// The version of the store's format; 0 where there are no tables yet.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The table of what was told of objects' states, in the part of the memory that begins at `start`.
pub(super) fn object_table(start: i64) -> String {
    format!(
        "CREATE TABLE object_{start} (object BLOB PRIMARY KEY, state BLOB NOT NULL, at INTEGER, by_listing INTEGER NOT NULL,
         listed_state BLOB, modified_at INTEGER, listed_at INTEGER) WITHOUT ROWID;"
    )
}

/// What makes a store of version 1 one of version 2.
fn from_1(conn: &Connection) -> rusqlite::Result<String> {
    let tables: String = memory_parts(conn)?.into_iter().map(object_table).collect();
    // Of what has ended before, nobody noted by which way it came.
    Ok(format!("{tables} ALTER TABLE ended ADD COLUMN origin TEXT;"))
}

/// The beginnings of the memory's parts, by which their tables are named; in no order.
pub(super) fn memory_parts(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT substr(name, 6) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'seen_[0-9]*'";
    let found = conn.prepare(sql)?.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.iter().filter_map(|start| start.parse().ok()).collect())
}

/// Opens a connection for reading; it sees the last commit and disturbs no writer.
pub(super) fn open_reader(dir: &Path) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    tune(&conn, 512)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// Opens the connection of a checkpoint.
pub(super) fn open_checkpointer(dir: &Path) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    tune(&conn, 256)?;
    Ok(conn)
}

/// Small caches and no mapping: the process is to stay within 20 MB, and the page cache of the system does the rest.
fn tune(conn: &Connection, cache_kib: i64) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.query_row("PRAGMA mmap_size = 0", [], |_| Ok(())).or_else(|e| match e {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    })?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.busy_timeout(Duration::from_secs(5))
}
