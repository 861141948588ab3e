//! The writer thread: it alone changes the file, in group commits, and reopens it after a failure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::mpsc;

use super::Shared;
use super::apply::{Done, Ending};
use super::counts::Count;
use super::dedupe::Memory;
use super::failure::{Kept, keep_or_refuse, refuse, reopen, rest};
use super::files::{Held, OpenError};
use super::inspect::failed;
use super::ops::Op;
use super::refused::is_refusal;
use super::rows::Sql;
use super::upkeep::Keeper;
use crate::clock::UnixMillis;
use crate::queue::QueueError;
use crate::queue::state::{Limits, State};

/// Operations of one transaction.
const GROUP: usize = 256;
/// Rows of the slim history.
const HISTORY: u64 = 100_000;
/// How long a full disk is left alone before it is tried again.
const FULL_REST: Duration = Duration::from_millis(200);
/// Sequence numbers reserved at a time; after a crash the rest of them is left out.
const RESERVE: u64 = 10_000;

/// An open store, on the writer's connection.
pub(super) struct Store<'c> {
    pub(super) conn: &'c Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) sql: Sql<'c>,
    pub(super) memory: Memory<'c>,
    pub(super) limits: Limits,
    pub(super) counts: Vec<Count>,
    /// By slot, where its counts are.
    pub(super) ids: Vec<usize>,
    /// What ends with the next transaction without an attempt.
    pub(super) ending: Vec<Ending>,
    /// Rows that cannot be changed and so are not handed out, and whose instance's slot they are (`refused`).
    pub(super) parked: HashMap<u64, usize>,
    /// First sequence number of the running transaction.
    pub(super) first_seq: u64,
    next_seq: u64,
    reserved: u64,
    /// Rows in the slim history; unknown until somebody has time to count.
    pub(super) ended: u64,
    pub(super) ended_known: bool,
    /// The running transaction rotates the dedupe memory.
    rotated: bool,
    /// Something was carried out since the last tick.
    pub(super) busy: bool,
    pub(super) ticked: Instant,
    /// See [`Store::bound_log`].
    pub(super) finish_log_at: i64,
}

/// Why the loop over an open store ended.
enum Exit {
    Closed,
    Failed,
}

/// Opens the store and starts its threads.
pub(super) fn start(
    shared: Arc<Shared>,
    held: Held,
    limits: Limits,
    ops: mpsc::Receiver<Op>,
    weak: mpsc::WeakSender<Op>,
) -> Result<(), OpenError> {
    let (opened, result) = std_mpsc::sync_channel(1);
    let dir = shared.dir.clone();
    let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
    let keeper = Keeper::start(Arc::clone(&shared), weak).map_err(unusable)?;
    let write = move || write(&shared, held, limits, ops, &keeper, &opened);
    std::thread::Builder::new().name("postern-store".to_owned()).spawn(write).map_err(unusable)?;
    let lost = || OpenError::Store { dir: dir.clone(), message: "the writer ended".to_owned() };
    result.recv().map_err(|_| lost())?
}

fn write(
    shared: &Arc<Shared>,
    held: Held,
    limits: Limits,
    mut ops: mpsc::Receiver<Op>,
    keeper: &Keeper,
    opened: &std_mpsc::SyncSender<Result<(), OpenError>>,
) {
    let mut kept = Kept::default();
    let mut first = true;
    let mut wait = Duration::from_secs(1);
    loop {
        let exit = match reopen(shared, !first) {
            Err(error) if first => {
                let _ = opened.send(Err(error));
                return;
            }
            Err(error) => {
                refuse(shared, Some(QueueError::Failed(error.to_string())));
                Ok(Exit::Failed)
            }
            Ok(conn) => match Store::open(&conn, shared, limits, first) {
                Ok(mut store) => {
                    if std::mem::take(&mut first) {
                        let _ = opened.send(Ok(()));
                    }
                    refuse(shared, None);
                    wait = Duration::from_secs(1);
                    let exit = store.run(&mut ops, &mut kept, keeper);
                    drop(store);
                    if matches!(exit, Exit::Closed) {
                        let _ = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    }
                    Ok(exit)
                }
                Err(error) if first => Err(error),
                Err(error) => {
                    refuse(shared, Some(failed(error)));
                    Ok(Exit::Failed)
                }
            },
        };
        match exit {
            Err(error) => {
                let dir = shared.dir.clone();
                let _ = opened.send(Err(OpenError::Store { dir, message: error.to_string() }));
                return;
            }
            Ok(Exit::Closed) => break,
            Ok(Exit::Failed) => {
                if rest(shared, &mut ops, &mut kept, wait) {
                    break;
                }
                wait = (wait * 2).min(Duration::from_secs(30));
            }
        }
    }
    shared.closed.store(true, Ordering::Release);
    drop(held);
    for answer in kept.closing {
        let _ = answer.send(());
    }
}

impl<'c> Store<'c> {
    fn open(conn: &'c Connection, shared: &Arc<Shared>, limits: Limits, first: bool) -> rusqlite::Result<Self> {
        for name in &shared.names {
            conn.execute("INSERT OR IGNORE INTO instances (name) VALUES (?1)", [&**name])?;
        }
        let mut counts = Vec::new();
        let mut found =
            conn.prepare("SELECT id, name, owed, owed_bytes, dead, dead_bytes, paused_ms FROM instances")?;
        let mut found = found.query([])?;
        while let Some(row) = found.next()? {
            let name: String = row.get(1)?;
            let slot = shared.slots.get(name.as_str()).copied();
            let n = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            if let Some(slot) = slot {
                shared.paused_ms[slot].store(n(6)?, Ordering::Release);
            }
            let (owed, owed_bytes, dead, dead_bytes) = (n(2)?, n(3)?, n(4)?, n(5)?);
            counts.push(Count {
                id: row.get(0)?,
                name,
                slot,
                owed,
                owed_bytes,
                dead,
                dead_bytes,
                oldest: None,
                dirty: false,
            });
        }
        let place = |slot| counts.iter().position(|count: &Count| count.slot == Some(slot)).unwrap_or_default();
        let ids: Vec<usize> = (0..shared.names.len()).map(place).collect();
        let next_seq = conn
            .query_row("SELECT value FROM meta WHERE key = 'next_seq'", [], |row| row.get::<_, i64>(0))
            .map_or(1, i64::cast_unsigned);
        let mut store = Self {
            conn,
            shared: Arc::clone(shared),
            sql: Sql::prepare(conn)?,
            memory: Memory::open(conn, shared.config.dedupe_for)?,
            limits,
            counts,
            ids,
            ending: Vec::new(),
            parked: HashMap::new(),
            first_seq: next_seq,
            next_seq,
            reserved: next_seq,
            ended: 0,
            ended_known: false,
            rotated: false,
            busy: true,
            ticked: Instant::now(),
            finish_log_at: 0,
        };
        if first {
            let owed: Vec<u64> = store.ids.iter().map(|id| store.counts[*id].owed).collect();
            *shared.state() = State::new(&owed, limits);
        } else {
            store.reset_windows(&(0..store.ids.len()).collect::<Vec<_>>())?;
        }
        store.find_oldest()?;
        store.publish();
        Ok(store)
    }

    fn run(&mut self, ops: &mut mpsc::Receiver<Op>, kept: &mut Kept, keeper: &Keeper) -> Exit {
        let mut group: Vec<Op> = Vec::new();
        let mut continuing: Vec<Op> = Vec::new();
        let mut loading = true;
        loop {
            group.append(&mut kept.ops);
            group.append(&mut continuing);
            if group.is_empty() && !loading && self.ending.is_empty() {
                match ops.blocking_recv() {
                    Some(op) => group.push(op),
                    None => return Exit::Closed,
                }
            }
            // On a full disk an append must not keep settlements from being made durable, so what was kept goes alone.
            let alone = !group.is_empty() && self.shared.stats().refusing.is_some();
            while !alone
                && group.len() < GROUP
                && let Ok(op) = ops.try_recv()
            {
                group.push(op);
            }
            let mut ticks = false;
            group.retain(|op| match op {
                Op::Load => {
                    self.shared.load_asked.store(false, Ordering::Release);
                    false
                }
                Op::Tick => {
                    ticks = true;
                    false
                }
                _ => true,
            });
            match self.step(&mut group, ticks, kept, &mut continuing, keeper) {
                Ok(more) => loading = more,
                Err(error) => {
                    let why = failed(error);
                    refuse(&self.shared, Some(why.clone()));
                    group.drain(..).chain(continuing.drain(..)).for_each(|op| keep_or_refuse(op, &why, kept));
                    if why != QueueError::DiskFull {
                        return Exit::Failed;
                    }
                    if rest(&self.shared, ops, kept, FULL_REST) {
                        return Exit::Closed;
                    }
                }
            }
            if ops.is_empty() && kept.may_close() && continuing.is_empty() {
                let _ = self.conn.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('next_seq', ?1)",
                    [self.next_seq.cast_signed()],
                );
                return Exit::Closed;
            }
        }
    }

    /// One group, and what follows from it.
    fn step(
        &mut self,
        group: &mut Vec<Op>,
        ticks: bool,
        kept: &mut Kept,
        continuing: &mut Vec<Op>,
        keeper: &Keeper,
    ) -> rusqlite::Result<bool> {
        let refusing = self.shared.stats().refusing.is_some();
        let count = group.len() + self.ending.len();
        if count > 0 {
            self.busy = true;
            let started = Instant::now();
            let done = match self.transact(group) {
                Err(error) if is_refusal(&error) => {
                    tracing::warn!(%error, "the store refuses a change and makes those that wait one by one");
                    self.one_by_one(group, kept, continuing)?;
                    Vec::new()
                }
                done => done?,
            };
            self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            self.shared.metrics.commit_operations.observe(count as f64);
            // Whoever hears an answer finds it in the numbers.
            self.publish();
            self.finish(group.drain(..).zip(done), kept, continuing);
        }
        if refusing && (count > 0 || ticks) {
            self.find_space()?;
            refuse(&self.shared, None);
        }
        // What ends without an attempt does so first, so that a load does not find it again; a discard is carried out before a load
        // brings in what it takes away.
        let sweeping = continuing.iter().any(|op| matches!(op, Op::Discard(_)));
        let loading = !sweeping && self.ending.is_empty() && self.load(self.shared.clock.now())?;
        self.keep_up(ticks, keeper)?;
        Ok(loading)
    }

    /// Carries out a group in one transaction. An error leaves everything as it was before.
    pub(super) fn transact(&mut self, group: &[Op]) -> rusqlite::Result<Vec<Done>> {
        let now = self.shared.clock.now();
        let ending = self.ending.clone();
        #[cfg(test)]
        self.fault()?;
        let result = self.or_as_before(|store| store.transaction(group, now));
        if result.is_err() {
            self.ending = ending;
            // A table of the memory that was made or dropped in this transaction was not.
            if std::mem::take(&mut self.rotated) {
                self.memory = Memory::open(self.conn, self.shared.config.dedupe_for)?;
            }
        }
        result
    }

    /// Makes one change in a transaction of its own.
    pub(super) fn alone<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.or_as_before(|store| {
            store.sql.begin.execute([])?;
            let done = work(store)?;
            store.write_counts()?;
            store.sql.commit.execute([])?;
            Ok(done)
        })
    }

    /// After an error the numbers and the file are as before.
    fn or_as_before<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let before = (self.counts.clone(), self.reserved, self.ended);
        let result = work(self);
        if result.is_err() {
            (self.counts, self.reserved, self.ended) = before;
            if !self.conn.is_autocommit() {
                self.conn.execute_batch("ROLLBACK")?;
            }
        }
        result
    }

    fn write_counts(&mut self) -> rusqlite::Result<()> {
        for count in self.counts.iter_mut().filter(|count| count.dirty) {
            let n = [count.owed, count.owed_bytes, count.dead, count.dead_bytes].map(u64::cast_signed);
            self.sql.counts.execute(params![count.id, n[0], n[1], n[2], n[3]])?;
            count.dirty = false;
        }
        Ok(())
    }

    fn transaction(&mut self, group: &[Op], now: UnixMillis) -> rusqlite::Result<Vec<Done>> {
        self.sql.begin.execute([])?;
        self.first_seq = self.next_seq;
        self.rotated = self.memory.is_stale(now);
        if self.rotated {
            self.memory.rotate(now)?;
        }
        let ending = std::mem::take(&mut self.ending);
        let mut ends = Vec::new();
        for one in &ending {
            ends.extend(self.end_unattempted(one, now)?);
        }
        let done = group.iter().map(|op| self.apply(op, now)).collect::<rusqlite::Result<Vec<_>>>()?;
        if self.ended_known && self.ended > HISTORY + 256 {
            let n = self
                .conn
                .execute("DELETE FROM ended WHERE seq IN (SELECT seq FROM ended ORDER BY seq LIMIT 256)", [])?;
            self.ended -= n as u64;
        }
        self.write_counts()?;
        #[cfg(test)]
        self.fault_at_commit()?;
        self.sql.commit.execute([])?;
        self.rotated = false;
        for one in ending {
            if let Some(window) = self.shared.state().window(one.slot) {
                window.ended_outside();
            }
        }
        self.count_ends(&ends);
        Ok(done)
    }

    pub(super) fn next_seq(&mut self) -> rusqlite::Result<u64> {
        if self.next_seq >= self.reserved {
            let reserved = self.next_seq + RESERVE;
            let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('next_seq', ?1)";
            self.conn.execute(sql, [reserved.cast_signed()])?;
            self.reserved = reserved;
        }
        self.next_seq += 1;
        Ok(self.next_seq - 1)
    }

    /// The highest sequence number that was given.
    pub(super) fn highest(&self) -> u64 {
        self.next_seq - 1
    }
}
