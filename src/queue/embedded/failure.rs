//! When a write fails: what is refused, what is kept, and how the file is believed again.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::files::OpenError;
use super::ops::{Op, Sweep};
use super::writer::Store;
use super::{Shared, schema};
use crate::queue::QueueError;

/// Operations that outlive a failure.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) ops: Vec<Op>,
    pub(super) closing: Vec<tokio::sync::oneshot::Sender<()>>,
}

impl Kept {
    /// Whether somebody asked for the end and nothing is left to do before it.
    pub(super) fn may_close(&self) -> bool {
        !self.closing.is_empty() && self.ops.is_empty()
    }
}

/// Says whether the store accepts work, and if not why.
pub(super) fn refuse(shared: &Shared, why: Option<QueueError>) {
    shared.metrics.store_refusing.set(i64::from(why.is_some()));
    let mut stats = shared.stats();
    if stats.refusing != why {
        match &why {
            Some(error) => tracing::error!(%error, "the store refuses new work"),
            None => tracing::info!("the store accepts work"),
        }
    }
    stats.refusing = why;
}

/// Opens the file. After a failure it is not believed: what the log holds is written and synced anew, and the whole is checked.
pub(super) fn reopen(shared: &Shared, check: bool) -> Result<Connection, OpenError> {
    let dir = || shared.dir.clone();
    let store = |error: rusqlite::Error| OpenError::Store { dir: dir(), message: error.to_string() };
    let conn = match schema::open_writer(&shared.dir).map_err(store)? {
        Ok(conn) => conn,
        Err(found) => return Err(OpenError::Newer { dir: dir(), found, known: schema::VERSION }),
    };
    if check {
        #[cfg(test)]
        shared.faults.reopened.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _turn = shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(store)?;
        let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(store)?;
        if busy != 0 || found != "ok" {
            let message = if busy != 0 { "a checkpoint could not finish".to_owned() } else { found };
            return Err(OpenError::Store { dir: dir(), message });
        }
    }
    Ok(conn)
}

/// Waits before the store is tried again: appends are answered at once, what is kept waits. Whether to end. The keeper's tick
/// ends a wait in which nobody asks for anything.
pub(super) fn rest(shared: &Shared, ops: &mut mpsc::Receiver<Op>, kept: &mut Kept, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    let why = shared.stats().refusing.clone().unwrap_or_else(|| QueueError::Failed("unknown".to_owned()));
    while Instant::now() < until {
        match ops.blocking_recv() {
            Some(op) => keep_or_refuse(op, &why, kept),
            None => return true,
        }
        if !kept.closing.is_empty() {
            return true;
        }
    }
    false
}

/// A settlement waits for better times: refused, its delivery would be made again and again. So does a composition: handed
/// back, it would be claimed and sent here again at once, in a circle. Both are bounded by the windows. A discard may be what
/// makes room.
pub(super) fn keep_or_refuse(op: Op, why: &QueueError, kept: &mut Kept) {
    match op {
        Op::Append(_, answer) => drop(answer.send(Err(why.clone()))),
        Op::Replay(Sweep { answer, .. }) => drop(answer.send(Err(why.clone()))),
        Op::Note(_, answer) => drop(answer.send(Err(why.clone()))),
        Op::Close(answer) => kept.closing.push(answer),
        Op::Compose(..) | Op::Discard(_) | Op::Settle(..) => kept.ops.push(op),
        Op::Load | Op::Tick => {}
    }
}

impl Store<'_> {
    /// Whether the disk has space again: 64 KiB are written and given up. A settlement that went through says nothing about it.
    pub(super) fn find_space(&mut self) -> rusqlite::Result<()> {
        #[cfg(test)]
        self.fault()?;
        self.conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('space', zeroblob(65536))", [])?;
        self.conn.execute("DELETE FROM meta WHERE key = 'space'", []).map(drop)
    }
}

/// Failures that a test makes.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Commits that fail, as a failed sync does.
    pub(super) commits: std::sync::atomic::AtomicUsize,
    /// Commits that find the disk full.
    pub(super) full_commits: std::sync::atomic::AtomicUsize,
    /// Pages that the file may have; 0 is no bound.
    pub(super) max_pages: std::sync::atomic::AtomicI64,
    /// How often the file was opened again.
    pub(super) reopened: std::sync::atomic::AtomicUsize,
}

#[cfg(test)]
impl Store<'_> {
    pub(super) fn fault(&self) -> rusqlite::Result<()> {
        let pages = self.shared.faults.max_pages.load(std::sync::atomic::Ordering::SeqCst);
        let pages = if pages == 0 { i64::from(u32::MAX) - 1 } else { pages };
        self.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    pub(super) fn fault_at_commit(&self) -> rusqlite::Result<()> {
        use rusqlite::ffi::{Error, SQLITE_FULL, SQLITE_IOERR_FSYNC};
        use std::sync::atomic::Ordering::SeqCst;
        let faults = &self.shared.faults;
        for (left, code) in [(&faults.commits, SQLITE_IOERR_FSYNC), (&faults.full_commits, SQLITE_FULL)] {
            if left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
                return Err(rusqlite::Error::SqliteFailure(Error::new(code), None));
            }
        }
        Ok(())
    }
}
