//! The embedded store: SQLite in the data directory, one writer thread, group commit.
//!
//! A caller prepares what it can by itself (JSON, hashes) and sends an operation to the writer (`writer`), which carries out
//! all that wait, up to 256, in one transaction, and answers them after the commit has been synced; there is no artificial
//! wait, as the next group forms while the last one is being synced. What may be attempted is decided in memory by
//! [`state`](super::state): claims read no table. The writer alone changes what is resident there, always after the commit.
//!
//! A full disk refuses appends and keeps settlements until there is space. Any other failed write closes the store: appends
//! are refused, settlements are kept, and the file is opened anew, checkpointed and checked before anything is accepted. What SQL
//! refuses of one row (`refused`) keeps nothing else from being written.

mod answers;
mod append;
mod apply;
mod counts;
mod dedupe;
mod failure;
mod files;
mod inspect;
mod load;
mod ops;
mod refused;
mod rows;
mod schema;
mod sweep;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::state::{LaneKey, Limits, State, Taken};
use super::{
    Append, Appended, Change, Claim, Filter, Pending, Queue, QueueError, Row, Settlement, Stats, Want, memory_key,
};
use crate::clock::Clock;
use crate::config::{self, QueueConfig};
use crate::event::{Event, EventId};
use crate::telemetry::metrics::Metrics;
use ops::{NewRow, Note, Op, Prepared, Reserved, Sweep};

pub use files::{OpenError, volatile_filesystem};
pub use inspect::ReadOnly;

/// Operations that may wait for the writer; beyond, callers wait to be let in.
const WAITING: usize = 1024;

/// The embedded queue.
pub struct Embedded {
    shared: Arc<Shared>,
    ops: mpsc::Sender<Op>,
    volatile: Option<&'static str>,
}

/// What the writer and the callers share.
pub(super) struct Shared {
    dir: PathBuf,
    config: QueueConfig,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    names: Vec<Arc<str>>,
    slots: HashMap<Arc<str>, usize>,
    state: Mutex<State>,
    wakes: Vec<Notify>,
    paused_ms: Vec<AtomicU64>,
    stats: Mutex<Stats>,
    /// A load was asked for and has not begun.
    load_asked: AtomicBool,
    /// Held during a checkpoint: two at a time cannot be.
    checkpoint: Mutex<()>,
    closed: AtomicBool,
    #[cfg(test)]
    faults: failure::Faults,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug in pure code; the state is rebuilt from disk when it matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self, slot: usize) {
        if let Some(notify) = self.wakes.get(slot) {
            notify.notify_waiters();
        }
    }

    fn lane(&self, instance: &str, event: &Event) -> LaneKey {
        LaneKey(match self.config.ordering {
            config::Ordering::Key => memory_key(&[instance.as_bytes(), event.bucket.as_bytes(), event.key.as_bytes()]),
            config::Ordering::None => memory_key(&[b"", instance.as_bytes(), &event.id.0]),
        })
    }
}

/// Opens the store in `data_dir`, making it where there is none, and starts its writer. `instances` are the configured names;
/// what the store owes to others is kept and shown.
///
/// # Errors
/// [`OpenError`], which says what to do.
pub fn open(
    data_dir: &Path,
    config: &QueueConfig,
    instances: &[Arc<str>],
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Embedded, OpenError> {
    let held = files::hold(data_dir)?;
    let names = instances.to_vec();
    // The window is the larger part of our memory: 4 MiB for each instance, less when there are many.
    let share = (16_u64 << 20) / (names.len().max(1) as u64);
    let limits = Limits { deliveries: 1024, bytes: share.clamp(256 << 10, 4 << 20), lane: 32 };
    let shared = Arc::new(Shared {
        dir: data_dir.to_owned(),
        config: config.clone(),
        clock,
        metrics,
        slots: names.iter().enumerate().map(|(slot, name)| (Arc::clone(name), slot)).collect(),
        state: Mutex::new(State::new(&vec![0; names.len()], limits)),
        wakes: names.iter().map(|_| Notify::new()).collect(),
        paused_ms: names.iter().map(|_| AtomicU64::new(0)).collect(),
        names,
        stats: Mutex::new(Stats::default()),
        load_asked: AtomicBool::new(false),
        checkpoint: Mutex::new(()),
        closed: AtomicBool::new(false),
        #[cfg(test)]
        faults: failure::Faults::default(),
    });
    let bounds =
        [(&shared.metrics.max_bytes, config.max_bytes), (&shared.metrics.dead_max_bytes, config.dead_max_bytes)];
    for (gauge, bytes) in bounds {
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    writer::start(Arc::clone(&shared), held, limits, receiver, sender.downgrade())?;
    let volatile = volatile_filesystem(data_dir);
    Ok(Embedded { shared, ops: sender, volatile })
}

/// Opens the store in `data_dir` for looking only, also while another process owns it.
///
/// # Errors
/// [`OpenError`], which says what to do.
pub fn open_readonly(data_dir: &Path) -> Result<ReadOnly, OpenError> {
    inspect::open(data_dir)
}

impl Embedded {
    /// The kind of file system of the data directory, where it forgets with the container: `overlay` or `tmpfs`.
    pub fn volatile_filesystem(&self) -> Option<&'static str> {
        self.volatile
    }

    async fn ask<T>(&self, op: impl FnOnce(ops::Answer<T>) -> Op) -> Result<T, QueueError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(QueueError::Closed);
        }
        let (answer, answered) = oneshot::channel();
        self.ops.send(op(answer)).await.map_err(|_| QueueError::Closed)?;
        answered.await.unwrap_or(Err(QueueError::Closed))
    }

    fn prepare(&self, append: Append) -> Result<Prepared, QueueError> {
        let row = |instance: &Arc<str>, event: Event, change: Option<Change>, reason: Option<String>| {
            let slot = self.shared.slots.get(instance).copied();
            let slot =
                slot.ok_or_else(|| QueueError::Failed(format!("the store was opened without instance {instance}")))?;
            let json = serde_json::to_string(&event)
                .map_err(|e| QueueError::Failed(format!("an event has no JSON form: {e}")))?;
            Ok(NewRow {
                slot,
                lane: self.shared.lane(instance, &event),
                seen: memory_key(&[b"e", instance.as_bytes(), &event.id.0]),
                change,
                json,
                reason,
                event: Some(event),
            })
        };
        let new = append.deliveries.into_iter();
        let rows = new.map(|new| row(&new.instance, new.event, new.change, None)).collect::<Result<_, _>>()?;
        let aside = append.set_aside.into_iter().map(|aside| {
            let reason = match aside.detail.as_str() {
                "" => aside.reason.to_owned(),
                detail => format!("{}: {detail}", aside.reason),
            };
            row(&aside.instance, aside.event, None, Some(reason))
        });
        let set_aside = aside.collect::<Result<_, _>>()?;
        Ok(Prepared { message: append.message, received_at: append.received_at, rows, set_aside })
    }

    async fn claim_in(&self, slot: usize, want: Want) -> Vec<Claim> {
        loop {
            let woken = self.shared.wakes[slot].notified();
            tokio::pin!(woken);
            // From here on a wake-up is not missed, so what is not there now will be told.
            woken.as_mut().enable();
            let now = self.shared.clock.now();
            let (taken, due) = self.take(slot, want);
            if !taken.is_empty() {
                let claims = self.hand_out(slot, taken).await;
                if !claims.is_empty() {
                    return claims;
                }
                continue;
            }
            match due {
                Some(at) => {
                    let wait = at.since(now).max(Duration::from_millis(1));
                    // A wall clock may be moved; it is asked again at least once a minute.
                    let _ = tokio::time::timeout(wait.min(Duration::from_secs(60)), woken).await;
                }
                None => woken.await,
            }
        }
    }

    /// What can be handed out now, and otherwise when to look again.
    fn take(&self, slot: usize, want: Want) -> (Vec<Reserved>, Option<crate::clock::UnixMillis>) {
        if self.shared.closed.load(Ordering::Acquire) {
            return (Vec::new(), None);
        }
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let taken = state.take(slot, want, now);
        let mut due = None;
        if let Some(window) = state.window(slot) {
            due = window.next_due();
            if (taken.len() < want.claims && !window.plan(now).is_empty())
                && !self.shared.load_asked.swap(true, Ordering::AcqRel)
                && self.ops.try_send(Op::Load).is_err()
            {
                // The writer is busy, and loads after every commit by itself.
                self.shared.load_asked.store(false, Ordering::Release);
            }
            // What is due and was not taken waits for room or for a quota, and a wake-up tells of those.
            due = due.filter(|at| *at > now);
        }
        drop(state);
        let reserve = |taken| Reserved::new(Arc::clone(&self.shared), slot, taken);
        (taken.into_iter().map(reserve).collect(), due)
    }

    /// Makes compositions durable where they have to be, then hands out.
    async fn hand_out(&self, slot: usize, reserved: Vec<Reserved>) -> Vec<Claim> {
        let mut waits = Vec::new();
        let mut ready = Vec::new();
        for claim in reserved {
            if !claim.get().is_some_and(|taken| taken.compose) {
                ready.push(claim);
                continue;
            }
            let (answer, answered) = oneshot::channel();
            if self.ops.send(Op::Compose(claim, answer)).await.is_ok() {
                waits.push(answered);
            }
        }
        for answered in waits {
            // A composition that could not be stored released itself.
            ready.extend(answered.await.ok());
        }
        ready.into_iter().filter_map(Reserved::into_taken).map(|taken| self.claim_of(slot, taken)).collect()
    }

    fn claim_of(&self, slot: usize, taken: Taken) -> Claim {
        let first = &taken.items[0];
        Claim {
            token: taken.token,
            instance: Arc::clone(&self.shared.names[slot]),
            delivery_id: delivery_id(&taken),
            attempts: first.attempts,
            first_failed_at: first.first_failed_at,
            items: taken.items.iter().map(|item| Arc::clone(&item.owed)).collect(),
        }
    }
}

/// The event's own id, or for a batch the first bytes of a SHA-256 over its members' ids.
fn delivery_id(taken: &Taken) -> EventId {
    if let [only] = taken.items.as_slice() {
        return only.owed.event.id;
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for item in &taken.items {
        context.update(&item.owed.event.id.0);
    }
    let mut id = [0; 15];
    id.copy_from_slice(&context.finish().as_ref()[..15]);
    EventId(id)
}

impl Queue for Embedded {
    fn append(&self, append: Append) -> Pending<'_, Result<Appended, QueueError>> {
        Box::pin(async move {
            let prepared = Box::new(self.prepare(append)?);
            self.ask(|answer| Op::Append(prepared, answer)).await
        })
    }

    fn claim<'a>(&'a self, instance: &'a str, want: Want) -> Pending<'a, Vec<Claim>> {
        Box::pin(async move {
            match self.shared.slots.get(instance) {
                Some(&slot) if want.claims > 0 => self.claim_in(slot, want).await,
                // Never nothing: there never will be anything.
                _ => std::future::pending().await,
            }
        })
    }

    fn settle(&self, settlement: Settlement) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(self.ask(|answer| Op::Settle(settlement, answer)))
    }

    fn list(&self, filter: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>> {
        let dir = self.shared.dir.clone();
        Box::pin(inspect::blocking(move || inspect::list(&schema::open_reader(&dir)?, &filter)))
    }

    fn replay(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(self.ask(|answer| Op::Replay(Sweep { before: filter.before_seq, filter, done: 0, answer })))
    }

    fn discard(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(self.ask(|answer| Op::Discard(Sweep { before: filter.before_seq, filter, done: 0, answer })))
    }

    fn stats(&self) -> Stats {
        self.shared.stats().clone()
    }

    fn note_paused<'a>(&'a self, instance: &'a str, total: Duration) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async move {
            let Some(&slot) = self.shared.slots.get(instance) else { return Ok(()) };
            let ms = u64::try_from(total.as_millis()).unwrap_or(u64::MAX);
            self.ask(|answer| Op::Note(Note::Paused { slot, ms }, answer)).await
        })
    }

    fn paused(&self, instance: &str) -> Duration {
        let slot = self.shared.slots.get(instance).copied();
        let ms = slot.and_then(|slot| self.shared.paused_ms.get(slot)).map_or(0, |ms| ms.load(Ordering::Acquire));
        Duration::from_millis(ms)
    }

    fn put_note<'a>(&'a self, space: &'a str, key: &'a str, value: String) -> Pending<'a, Result<(), QueueError>> {
        let note = Note::Put { space: space.to_owned(), key: key.to_owned(), value };
        Box::pin(self.ask(|answer| Op::Note(note, answer)))
    }

    fn notes<'a>(&'a self, space: &'a str) -> Pending<'a, Result<Vec<(String, String)>, QueueError>> {
        let (dir, space) = (self.shared.dir.clone(), space.to_owned());
        Box::pin(inspect::blocking(move || inspect::notes(&schema::open_reader(&dir)?, &space)))
    }

    fn remove_note<'a>(&'a self, space: &'a str, key: &'a str) -> Pending<'a, Result<(), QueueError>> {
        let note = Note::Remove { space: space.to_owned(), key: key.to_owned() };
        Box::pin(self.ask(|answer| Op::Note(note, answer)))
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.shared.closed.store(true, Ordering::Release);
            let (answer, answered) = oneshot::channel();
            if self.ops.send(Op::Close(answer)).await.is_ok() {
                let _ = answered.await;
            }
        })
    }
}
