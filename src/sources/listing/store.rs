//! What is remembered of buckets between walks: `listing.db` in the data directory, one file for all instances.
//!
//! # Layout
//!
//! `ranges` has a row for each (instance, bucket, prefix) that is listed: whether its first walk is complete, and the walk that is
//! under way, as its beginning and the last key that is done. `objects` has a row for each object of a range, by key in byte order,
//! which is S3's. Both change in one transaction, and every transaction is synced: what a walk has told is not told again after a
//! power cut.
//!
//! # Damage
//!
//! A file that SQLite calls damaged is moved aside and a new one is begun. Every range then has its silent first walk again, so what
//! changed since the last walk is not told; a sidecar that stands still would tell nothing at all.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::merge::{Row, Write};
use crate::clock::UnixMillis;

mod rows;

/// The database's name in the data directory.
pub(super) const FILE: &str = "listing.db";

/// What a damaged one is called from then on; an older one of that name is replaced.
const DAMAGED: &str = "listing.db.damaged";

/// Written to `user_version`; a higher one was written by a later Postern.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE ranges (id INTEGER PRIMARY KEY AUTOINCREMENT, instance TEXT NOT NULL, bucket TEXT NOT NULL, prefix BLOB NOT NULL,
  baselined INTEGER NOT NULL DEFAULT 0, began INTEGER, position BLOB NOT NULL DEFAULT x'', UNIQUE (instance, bucket, prefix));
CREATE TABLE objects (range INTEGER NOT NULL, key BLOB NOT NULL, e_tag TEXT NOT NULL, size INTEGER NOT NULL, modified INTEGER,
  missing_since INTEGER, PRIMARY KEY (range, key)) WITHOUT ROWID;
CREATE INDEX objects_missing ON objects (range, missing_since) WHERE missing_since IS NOT NULL;
";

/// Rows that are held in memory at once, and changed in one transaction.
pub(super) const STRETCH: usize = 1000;

/// The memory of all listings. Nothing is opened before the first use.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: Option<Connection>,
    /// Which file it is: each that was moved aside makes the next.
    epoch: u64,
}

/// A range of keys that is listed, and how far its walk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    id: i64,
    epoch: u64,
    /// The bucket's name.
    pub(super) bucket: String,
    /// What its keys begin with; empty is all.
    pub(super) prefix: String,
    /// Whether its first walk is complete.
    pub(super) baselined: bool,
    /// When the walk began that is under way.
    pub(super) began: Option<UnixMillis>,
    /// Whether that is durable.
    pub(super) noted: bool,
    /// Whether that walk has listed any key since the program was started.
    pub(super) listed: bool,
    /// Whether that walk has been at the range's end since then and saw no key.
    pub(super) emptied: bool,
    /// The last key that is done.
    pub(super) position: String,
}

/// Why the memory cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum StoreError {
    /// It was damaged and is new now.
    #[error(
        "{FILE} was damaged and is now {DAMAGED}: each bucket has a silent first walk again, and what changed since the last one is not told"
    )]
    Damaged,
    /// The disk, or SQLite.
    #[error("{FILE} in the data directory cannot be used: {0}")]
    Failed(String),
    /// A later version wrote it.
    #[error(
        "{FILE} has format {0}, this postern knows up to {VERSION}: run the newer one, or remove the file to begin anew"
    )]
    Newer(i64),
    /// Another instance found damage; the range must be looked up again.
    #[error("{FILE} was begun anew")]
    Stale,
}

impl Snapshots {
    /// The memory in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), inner: Mutex::default() }
    }

    /// The ranges of `instance`, made where they are new. What is remembered of its other ranges is forgotten, and nothing is told of
    /// that: nobody asked to have them watched any more.
    pub(super) async fn ranges(
        self: &Arc<Self>,
        instance: Arc<str>,
        wanted: Vec<(String, String)>,
    ) -> Result<Vec<Range>, StoreError> {
        self.with(None, move |conn, epoch| rows::ranges(conn, epoch, &instance, &wanted)).await
    }

    /// Forgets what is remembered for all instances but these. Nothing is made where there is no file.
    pub(super) async fn keep(self: &Arc<Self>, instances: Vec<Arc<str>>) -> Result<(), StoreError> {
        if !self.dir.join(FILE).exists() {
            return Ok(());
        }
        self.with(None, move |conn, _| rows::keep(conn, &instances)).await
    }

    /// One bounded step of taking out what was forgotten and giving its space back; whether there is more to do.
    pub(super) async fn tidy(self: &Arc<Self>) -> Result<bool, StoreError> {
        if !self.dir.join(FILE).exists() {
            return Ok(false);
        }
        self.with(None, |conn, _| rows::tidy(conn)).await
    }

    /// Remembered objects after `range.position` and up to `end`, at most [`STRETCH`].
    pub(super) async fn rows(self: &Arc<Self>, range: &Range, end: Option<String>) -> Result<Vec<Row>, StoreError> {
        let (id, after) = (range.id, range.position.clone());
        self.with(Some(range.epoch), move |conn, _| rows::stretch(conn, id, &after, end.as_deref())).await
    }

    /// Makes `writes` and how far the walk of `range` is durable together.
    pub(super) async fn commit(self: &Arc<Self>, range: &Range, writes: Vec<Write>) -> Result<(), StoreError> {
        let (id, began, position) = (range.id, range.began, range.position.clone());
        self.with(Some(range.epoch), move |conn, _| rows::commit(conn, id, began, &position, &writes)).await
    }

    /// Objects that are missing since `until` or longer, at most [`STRETCH`].
    pub(super) async fn missing(self: &Arc<Self>, range: &Range, until: UnixMillis) -> Result<Vec<Row>, StoreError> {
        let id = range.id;
        self.with(Some(range.epoch), move |conn, _| rows::missing(conn, id, until)).await
    }

    /// Forgets objects.
    pub(super) async fn forget(self: &Arc<Self>, range: &Range, keys: Vec<String>) -> Result<(), StoreError> {
        let id = range.id;
        self.with(Some(range.epoch), move |conn, _| rows::forget(conn, id, &keys)).await
    }

    /// Notes that the walk of `range` is complete.
    pub(super) async fn finish(self: &Arc<Self>, range: &Range) -> Result<(), StoreError> {
        let id = range.id;
        self.with(Some(range.epoch), move |conn, _| rows::finish(conn, id)).await
    }

    /// Runs `work` where blocking is allowed, one at a time; with `epoch`, only on that file.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        epoch: Option<u64>,
        work: impl FnOnce(&mut Connection, u64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || shared.blocking(epoch, work)).await;
        done.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
    }

    fn blocking<T>(
        &self,
        epoch: Option<u64>,
        work: impl FnOnce(&mut Connection, u64) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        // A panic under the lock leaves a connection whose transaction is rolled back when it is next used.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch.is_some_and(|epoch| epoch != inner.epoch) {
            return Err(StoreError::Stale);
        }
        let now = inner.epoch;
        let result = match &mut inner.open {
            Some(conn) => work(conn, now),
            none => match open(&self.dir) {
                Ok(Ok(conn)) => work(none.insert(conn), now),
                Ok(Err(newer)) => return Err(StoreError::Newer(newer)),
                Err(error) => Err(error),
            },
        };
        result.map_err(|error| {
            if !is_damage(&error) {
                return StoreError::Failed(error.to_string());
            }
            inner.open = None;
            inner.epoch += 1;
            match set_aside(&self.dir) {
                Ok(()) => {
                    tracing::error!(%error, file = FILE, moved_to = DAMAGED, "the memory of listings is damaged; beginning anew");
                    StoreError::Damaged
                }
                Err(cause) => StoreError::Failed(format!("it is damaged ({error}) and cannot be moved aside: {cause}")),
            }
        })
    }
}

/// The connection, or the version of a file that is not ours.
fn open(dir: &Path) -> rusqlite::Result<Result<Connection, i64>> {
    let path = dir.join(FILE);
    // SQLite gives its log and its index the mode of the database. That the file cannot be made is told by the next line.
    let _ = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Space is given back in steps; this must be said before the first table.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.query_row("PRAGMA journal_size_limit = 4194304", [], |_| Ok(()))?;
    // A walk goes through the file once and in order: a cache would only be memory.
    conn.pragma_update(None, "cache_size", -1024)?;
    conn.query_row("PRAGMA mmap_size = 0", [], |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    })?;
    // The image has nowhere but the data directory to write to: what SQLite wants to put aside, it keeps.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.busy_timeout(Duration::from_secs(5))?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
    } else if version != VERSION {
        return Ok(Err(version));
    }
    Ok(Ok(conn))
}

/// Whether the file is not what we wrote.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // Statements and types are ours: a file in which they do not fit has lost its tables or holds something else in them.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// The log belongs to the database: left behind, it would be played into the next one.
fn set_aside(dir: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(dir.join(format!("{FILE}{suffix}")), dir.join(format!("{DAMAGED}{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
