//! The writer thread: it alone changes the file, in group commits, and reopens it after a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::mpsc;

use super::apply::Done;
use super::dedupe::Memory;
use super::files::{Held, OpenError};
use super::inspect::failed;
use super::ops::{Op, Sweep};
use super::rows::Sql;
use super::{Shared, files, schema};
use crate::clock::UnixMillis;
use crate::queue::state::{Item, Limits, State};
use crate::queue::{InstanceStats, QueueError, Stats};

/// Operations of one transaction.
const GROUP: usize = 256;
/// Rows of the slim history.
const HISTORY: u64 = 100_000;
/// Frames of the log beyond which the writer itself finishes a checkpoint, so that the log starts again: 16 MiB.
const LONG_LOG: i64 = 4096;
/// Operations after which a checkpoint is asked for.
const CHECKPOINT_AFTER: usize = 2048;
/// Sequence numbers reserved at a time; after a crash the rest of them is left out.
const RESERVE: u64 = 10_000;

/// Failures that a test makes.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Commits that fail, as a failed sync does.
    pub(super) commits: std::sync::atomic::AtomicUsize,
    /// Pages that the file may have; 0 is no bound.
    pub(super) max_pages: std::sync::atomic::AtomicI64,
}

/// Numbers of an instance, kept with the rows.
#[derive(Clone, Debug)]
pub(super) struct Count {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) slot: Option<usize>,
    pub(super) owed: u64,
    pub(super) owed_bytes: u64,
    pub(super) dead: u64,
    pub(super) dead_bytes: u64,
    /// When the delivery that is owed longest was accepted; at most a second out of date.
    pub(super) oldest: Option<UnixMillis>,
    pub(super) dirty: bool,
}

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
    /// What turned out superseded, and ends with the next transaction.
    pub(super) superseded: Vec<(usize, Item)>,
    /// First sequence number of the running transaction.
    pub(super) first_seq: u64,
    next_seq: u64,
    reserved: u64,
    /// Rows in the slim history; unknown until somebody has time to count.
    pub(super) ended: u64,
    ended_known: bool,
}

/// Why the loop over an open store ended.
enum Exit {
    Closed,
    Failed,
}

/// Operations that outlive a failure.
#[derive(Default)]
struct Kept {
    ops: Vec<Op>,
    closing: Vec<tokio::sync::oneshot::Sender<()>>,
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
    let (poke, poked) = std_mpsc::sync_channel(1);
    let keeper = Arc::clone(&shared);
    let keep = move || maintain(&keeper, &poked, &weak);
    std::thread::Builder::new().name("postern-keep".to_owned()).spawn(keep).map_err(unusable)?;
    let write = move || write(&shared, held, limits, ops, &poke, &opened);
    std::thread::Builder::new().name("postern-store".to_owned()).spawn(write).map_err(unusable)?;
    let lost = || OpenError::Store { dir: dir.clone(), message: "the writer ended".to_owned() };
    result.recv().map_err(|_| lost())?
}

/// Checkpoints when asked, and a tick every second.
fn maintain(shared: &Shared, poked: &std_mpsc::Receiver<()>, ops: &mpsc::WeakSender<Op>) {
    loop {
        match poked.recv_timeout(Duration::from_secs(1)) {
            Ok(()) => {
                // A checkpoint that fails is tried again; the writer finds out for itself whether the disk is at fault.
                let checkpoint = schema::open_checkpointer(&shared.dir)
                    .and_then(|conn| conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
                if let Err(error) = checkpoint {
                    tracing::debug!(%error, "a checkpoint of the store did not finish");
                }
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let Some(ops) = ops.upgrade() else { return };
        let _ = ops.try_send(Op::Tick);
    }
}

fn write(
    shared: &Arc<Shared>,
    held: Held,
    limits: Limits,
    mut ops: mpsc::Receiver<Op>,
    poke: &std_mpsc::SyncSender<()>,
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
                    let exit = store.run(&mut ops, &mut kept, poke);
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

fn refuse(shared: &Shared, why: Option<QueueError>) {
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
fn reopen(shared: &Shared, check: bool) -> Result<Connection, OpenError> {
    let dir = || shared.dir.clone();
    let store = |error: rusqlite::Error| OpenError::Store { dir: dir(), message: error.to_string() };
    let conn = match schema::open_writer(&shared.dir).map_err(store)? {
        Ok(conn) => conn,
        Err(found) => return Err(OpenError::Newer { dir: dir(), found, known: schema::VERSION }),
    };
    if check {
        let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(store)?;
        let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(store)?;
        if busy != 0 || found != "ok" {
            let message = if busy != 0 { "a checkpoint could not finish".to_owned() } else { found };
            return Err(OpenError::Store { dir: dir(), message });
        }
    }
    Ok(conn)
}

/// Waits before the store is opened again: appends are refused, settlements are kept. Whether to end.
fn rest(shared: &Shared, ops: &mut mpsc::Receiver<Op>, kept: &mut Kept, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    let why = shared.stats().refusing.clone().unwrap_or_else(|| QueueError::Failed("unknown".to_owned()));
    while Instant::now() < until {
        match ops.try_recv() {
            Ok(op) => keep_or_refuse(op, &why, kept),
            Err(mpsc::error::TryRecvError::Disconnected) => return true,
            Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(5)),
        }
        if !kept.closing.is_empty() {
            return true;
        }
    }
    false
}

/// A settlement waits for better times: refused, its delivery would be made again and again.
fn keep_or_refuse(op: Op, why: &QueueError, kept: &mut Kept) {
    match op {
        Op::Append(_, answer) => drop(answer.send(Err(why.clone()))),
        Op::Discard(Sweep { answer, .. }) | Op::Replay(Sweep { answer, .. }) => drop(answer.send(Err(why.clone()))),
        Op::Note(_, answer) => drop(answer.send(Err(why.clone()))),
        Op::Close(answer) => kept.closing.push(answer),
        Op::Settle(..) => kept.ops.push(op),
        Op::Compose(..) | Op::Load | Op::Tick => {}
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
            superseded: Vec::new(),
            first_seq: next_seq,
            next_seq,
            reserved: next_seq,
            ended: 0,
            ended_known: false,
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

    fn run(&mut self, ops: &mut mpsc::Receiver<Op>, kept: &mut Kept, poke: &std_mpsc::SyncSender<()>) -> Exit {
        let mut group: Vec<Op> = Vec::new();
        let mut continuing: Vec<Op> = Vec::new();
        let mut since_checkpoint = 0;
        let mut loading = true;
        let mut idle = true;
        loop {
            group.append(&mut kept.ops);
            group.append(&mut continuing);
            if group.is_empty() && !loading && self.superseded.is_empty() {
                match ops.blocking_recv() {
                    Some(op) => group.push(op),
                    None => return Exit::Closed,
                }
            }
            while group.len() < GROUP
                && let Ok(op) = ops.try_recv()
            {
                group.push(op);
            }
            let ticks = group.iter().any(|op| matches!(op, Op::Tick));
            group.retain(|op| !matches!(op, Op::Tick));
            if group.iter().any(|op| matches!(op, Op::Load)) {
                self.shared.load_asked.store(false, Ordering::Release);
                group.retain(|op| !matches!(op, Op::Load));
            }
            let count = group.len() + self.superseded.len();
            let refusing = self.shared.stats().refusing.is_some();
            if count > 0 || (ticks && refusing) {
                idle = false;
                let started = Instant::now();
                match self.transact(&group) {
                    Ok(done) => {
                        self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                        self.shared.metrics.commit_operations.observe(count as f64);
                        if refusing {
                            refuse(&self.shared, None);
                        }
                        self.finish(group.drain(..).zip(done), kept, &mut continuing);
                        since_checkpoint += count;
                    }
                    Err(error) => {
                        if !self.conn.is_autocommit() {
                            let _ = self.conn.execute_batch("ROLLBACK");
                        }
                        let why = failed(error);
                        refuse(&self.shared, Some(why.clone()));
                        group.drain(..).for_each(|op| keep_or_refuse(op, &why, kept));
                        if why != QueueError::DiskFull {
                            return Exit::Failed;
                        }
                        if rest(&self.shared, ops, kept, Duration::from_millis(200)) {
                            return Exit::Closed;
                        }
                        continue;
                    }
                }
            }
            if !kept.closing.is_empty() && ops.is_empty() && kept.ops.is_empty() && continuing.is_empty() {
                let _ = self.conn.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('next_seq', ?1)",
                    [self.next_seq.cast_signed()],
                );
                return Exit::Closed;
            }
            let sweeping = continuing.iter().any(|op| matches!(op, Op::Discard(_)));
            // What ends superseded does so first, so that a load does not find it again.
            let wait = sweeping || !self.superseded.is_empty();
            loading = match if wait { Ok(false) } else { self.load(self.shared.clock.now()) } {
                Ok(loading) => loading,
                Err(error) => {
                    refuse(&self.shared, Some(failed(error)));
                    return Exit::Failed;
                }
            };
            if since_checkpoint >= CHECKPOINT_AFTER || (ticks && since_checkpoint > 0) {
                since_checkpoint = 0;
                let _ = poke.try_send(());
            }
            if ticks && let Err(error) = self.tick(std::mem::replace(&mut idle, true)) {
                refuse(&self.shared, Some(failed(error)));
                return Exit::Failed;
            }
            self.publish();
        }
    }

    fn transact(&mut self, group: &[Op]) -> rusqlite::Result<Vec<Done>> {
        let now = self.shared.clock.now();
        let before = (self.counts.clone(), self.reserved, self.ended, self.superseded.clone());
        #[cfg(test)]
        self.fault()?;
        let result = self.transaction(group, now);
        if result.is_err() {
            (self.counts, self.reserved, self.ended, self.superseded) = before;
        }
        result
    }

    fn transaction(&mut self, group: &[Op], now: UnixMillis) -> rusqlite::Result<Vec<Done>> {
        self.sql.begin.execute([])?;
        self.first_seq = self.next_seq;
        if self.memory.is_stale(now) {
            self.memory.rotate(now)?;
        }
        let superseded = std::mem::take(&mut self.superseded);
        let mut ends = Vec::new();
        for (slot, item) in &superseded {
            let reason = "a newer event of the same object was delivered";
            if self.bury(*slot, item, crate::queue::State::Superseded, now, item.attempts, reason, None)? {
                ends.push((*slot, crate::queue::State::Superseded.as_str(), 1));
            }
        }
        let done = group.iter().map(|op| self.apply(op, now)).collect::<rusqlite::Result<Vec<_>>>()?;
        if self.ended_known && self.ended > HISTORY + 256 {
            let n = self
                .conn
                .execute("DELETE FROM ended WHERE seq IN (SELECT seq FROM ended ORDER BY seq LIMIT 256)", [])?;
            self.ended -= n as u64;
        }
        for count in self.counts.iter_mut().filter(|count| count.dirty) {
            let n = [count.owed, count.owed_bytes, count.dead, count.dead_bytes].map(u64::cast_signed);
            self.sql.counts.execute(params![count.id, n[0], n[1], n[2], n[3]])?;
            count.dirty = false;
        }
        #[cfg(test)]
        self.fault_at_commit()?;
        self.sql.commit.execute([])?;
        for (slot, _) in superseded {
            if let Some(window) = self.shared.state().window(slot) {
                window.ended_outside();
            }
        }
        self.count_ends(&ends);
        Ok(done)
    }

    /// What follows from a commit: the window first, appends before settlements, then the answers.
    fn finish(&mut self, done: impl Iterator<Item = (Op, Done)>, kept: &mut Kept, continuing: &mut Vec<Op>) {
        let mut woken = Vec::new();
        let mut rest = Vec::new();
        for (op, done) in done {
            match (op, done) {
                (Op::Append(mut append, answer), Done::Appended(result, items)) => {
                    self.enter(&mut append, items, &mut woken);
                    let _ = answer.send(result);
                }
                other => rest.push(other),
            }
        }
        for (op, done) in rest {
            match (op, done) {
                (Op::Settle(settlement, answer), Done::Settled(effect, ends)) => {
                    let mut state = self.shared.state();
                    let slot = state.claimed(settlement.token).map(|(slot, _)| slot);
                    let superseded = state.finish(settlement.token, effect);
                    drop(state);
                    if let Some(slot) = slot {
                        self.superseded.extend(superseded.into_iter().map(|item| (slot, item)));
                        if !woken.contains(&slot) {
                            woken.push(slot);
                        }
                    }
                    self.count_ends(&ends);
                    let _ = answer.send(Ok(()));
                }
                (Op::Settle(settlement, answer), _) => {
                    let why = format!("claim {} is not known; it was settled before", settlement.token);
                    let _ = answer.send(Err(QueueError::Failed(why)));
                }
                (Op::Compose(reserved, answer), _) => {
                    if let Some(taken) = reserved.get() {
                        self.shared.state().composed(taken.token);
                    }
                    let _ = answer.send(reserved);
                }
                (Op::Note(note, answer), _) => {
                    if let super::Note::Paused { slot, ms } = note {
                        self.shared.paused_ms[slot].store(ms, Ordering::Release);
                    }
                    let _ = answer.send(Ok(()));
                }
                (Op::Replay(sweep), Done::Swept(done, next, slots)) => {
                    self.swept(sweep, done, next, &slots, true, &mut woken, continuing);
                }
                (Op::Discard(sweep), Done::Swept(done, next, slots)) => {
                    self.swept(sweep, done, next, &slots, false, &mut woken, continuing);
                }
                (Op::Close(answer), _) => kept.closing.push(answer),
                _ => {}
            }
        }
        for slot in woken {
            self.shared.wake(slot);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn swept(
        &mut self,
        mut sweep: Sweep,
        done: u64,
        next: Option<u64>,
        slots: &[usize],
        replay: bool,
        woken: &mut Vec<usize>,
        continuing: &mut Vec<Op>,
    ) {
        sweep.done += done;
        let reset = self.reset_windows(slots);
        woken.extend(slots);
        if let Err(error) = reset {
            let _ = sweep.answer.send(Err(failed(error)));
            return;
        }
        let finished = sweep.filter.limit > 0 && sweep.done >= sweep.filter.limit as u64;
        match next.filter(|_| !finished) {
            Some(before) => {
                sweep.before = Some(before);
                continuing.push(if replay { Op::Replay(sweep) } else { Op::Discard(sweep) });
            }
            None => drop(sweep.answer.send(Ok(sweep.done))),
        }
    }

    /// Fills windows from disk again. Claims stay; those whose row is gone are still counted until they are settled.
    fn reset_windows(&mut self, slots: &[usize]) -> rusqlite::Result<()> {
        for &slot in slots {
            let claimed = self.shared.state().claimed_rows(slot);
            let mut owed = self.counts[self.ids[slot]].owed;
            for seq in claimed {
                owed += u64::from(!self.sql.is_owed.exists([seq.cast_signed()])?);
            }
            self.superseded.retain(|(other, _)| *other != slot);
            if let Some(window) = self.shared.state().window(slot) {
                window.reset(owed);
            }
        }
        Ok(())
    }

    /// Once a second: what nobody should wait for.
    fn tick(&mut self, idle: bool) -> rusqlite::Result<()> {
        self.find_oldest()?;
        self.shared.stats().store_bytes = files::size(&self.shared.dir);
        let mut astray = Vec::new();
        for slot in 0..self.ids.len() {
            if self.superseded.is_empty() && self.shared.state().window(slot).is_some_and(|window| window.is_astray()) {
                tracing::warn!(instance = %self.shared.names[slot], "the window lost sight of rows and is filled again");
                astray.push(slot);
            }
        }
        self.reset_windows(&astray)?;
        if !self.ended_known {
            self.ended =
                self.conn.query_row("SELECT count(*) FROM ended", [], |row| row.get::<_, i64>(0))?.cast_unsigned();
            self.ended_known = true;
        }
        let pages = |name| self.conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let (free, all) = (pages("freelist_count")?, pages("page_count")?);
        if free > 256 && (idle || free > all / 2) {
            let step = if idle { 2048 } else { 128 };
            let mut vacuum = self.conn.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        let (log, written) = self
            .conn
            .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        if log > LONG_LOG && written > 0 {
            self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// What is owed longest of each instance: one step down an index, whatever is owed.
    fn find_oldest(&mut self) -> rusqlite::Result<()> {
        for count in &mut self.counts {
            let at: Option<i64> = self.sql.oldest.query_row([count.id], |row| row.get(0))?;
            count.oldest = at.map(UnixMillis);
        }
        Ok(())
    }

    fn publish(&self) {
        let mut stats = self.shared.stats();
        let (refusing, store_bytes) = (stats.refusing.clone(), stats.store_bytes);
        *stats = Stats {
            instances: self.counts.iter().map(Count::stats).collect(),
            owed_bytes: self.counts.iter().map(|count| count.owed_bytes).sum(),
            dead_bytes: self.counts.iter().map(|count| count.dead_bytes).sum(),
            store_bytes,
            refusing,
        };
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

    #[cfg(test)]
    fn fault(&self) -> rusqlite::Result<()> {
        let pages = self.shared.faults.max_pages.load(Ordering::SeqCst);
        let pages = if pages == 0 { i64::from(u32::MAX) - 1 } else { pages };
        self.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    #[cfg(test)]
    fn fault_at_commit(&self) -> rusqlite::Result<()> {
        let due = self.shared.faults.commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match due {
            Ok(_) => {
                Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None))
            }
            Err(_) => Ok(()),
        }
    }
}

impl Count {
    fn stats(&self) -> InstanceStats {
        InstanceStats {
            name: self.name.clone(),
            owed: self.owed,
            owed_bytes: self.owed_bytes,
            oldest_owed: self.oldest.filter(|_| self.owed > 0),
            dead: self.dead,
            dead_bytes: self.dead_bytes,
        }
    }
}
