//! The queue: what was answered with 200 is here, on disk, until the app has it.
//!
//! # The contract
//!
//! 1. **Append is durable.** [`Queue::append`] answers `Ok` only after everything it was given is on stable storage, as one
//!    transaction: all events of one notification, the memory of their ids and of the notification's id, or nothing.
//! 2. **Ids are remembered.** A notification id or an event id that was appended within the memory's span is not appended
//!    again; that is an `Ok` that says so. The memory outlives restarts and is written in the transaction of the events.
//! 3. **Bounds refuse, never drop.** Past its bounds, on a full disk or after a failed sync the queue refuses new work with an
//!    error that the caller turns into 503; what is owed stays owed. A failed sync stops acceptance until the store was
//!    reopened and found whole.
//! 4. **Order in a lane.** Of one lane at most one delivery (or batch) is claimed at a time, the earliest that is owed: by
//!    sequencer where that is provable, by arrival otherwise. The next is handed out only after the settlement of the one
//!    before is durable. A delivery that is provably older than the last delivered of its lane ends superseded and is
//!    never handed out.
//!    Which of a lane is provably the earliest is judged among its first rows (the embedded store: 32, by arrival). A stored
//!    batch goes before what arrives later for its lanes. A replayed delivery is never superseded.
//! 5. **A claim is a lease of this process.** A claim that was not settled when the process ends is owed again at the next
//!    start, with no attempt counted.
//! 6. **Settlement is durable** when [`Queue::settle`] answers. An end (delivered, dead, superseded, discarded) happens once,
//!    and the store counts it once in the metrics, when it is durable. What is set aside was never owed, and a dead letter that
//!    is discarded has ended before: neither is counted as an end.
//! 7. **Memory is bounded** whatever is owed: a window of deliveries is kept in memory, the rest stays on disk.
//! 8. **A state is told once.** Of each object that a [`Change`] names, what was told last is remembered as long as ids are, in
//!    the transaction of the event, and each change is judged by it ([`state::change::judge`], which every backend uses): what
//!    is covered is a duplicate and not stored; a push that is outdated by what a listing told is stored, ends superseded and
//!    is never handed out. Judged is what has a new id and only that: an event or notification that was appended before
//!    changes nothing that is known. The id of a covered push is remembered as that of a stored one.
//!
//! The embedded store ([`embedded`]) keeps this contract with SQLite; another backend must keep the same one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::event::{Event, EventId, Origin};

pub mod embedded;
mod error;
pub mod state;

pub use error::QueueError;

/// The future of a queue operation.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A backend of the queue; see the module's contract.
pub trait Queue: Send + Sync + 'static {
    /// Makes one notification durable. See contract 1 to 3.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was stored; the caller may offer the same again.
    fn append(&self, append: Append) -> Pending<'_, Result<Appended, QueueError>>;

    /// Waits until `instance` has something to attempt and hands out at most what `want` asks for, never nothing.
    /// Dropping the future hands out nothing.
    fn claim<'a>(&'a self, instance: &'a str, want: Want) -> Pending<'a, Vec<Claim>>;

    /// Says how an attempt ended. See contract 6.
    ///
    /// # Errors
    /// [`QueueError`] when it could not be made durable; the claim's deliveries are then owed again.
    /// [`QueueError::UnknownClaim`] when there is no such claim, and trying again would not help.
    fn settle(&self, settlement: Settlement) -> Pending<'_, Result<(), QueueError>>;

    /// Rows that fit `filter`, newest first.
    ///
    /// # Errors
    /// [`QueueError`] when the store cannot be read.
    fn list(&self, filter: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>>;

    /// Owes again what fits `filter` among dead and superseded deliveries (as new: first attempts, age from now); how many.
    /// It stops early where the queue's bound is reached. Here a limit of 0 is no limit.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was changed.
    fn replay(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>>;

    /// Gives up on purpose what fits `filter` among owed and dead deliveries, superseded ones where they are named; how many.
    /// What is being attempted at this moment is left alone. Here a limit of 0 is no limit.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was changed.
    fn discard(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>>;

    /// Numbers for metrics and readiness; cheap.
    fn stats(&self) -> Stats;

    /// Notes how long the callback of `instance` has been paused since the store was made (hard case 3: paused time does not
    /// count towards the age limit).
    ///
    /// # Errors
    /// [`QueueError`] when it could not be made durable.
    fn note_paused<'a>(&'a self, instance: &'a str, total: Duration) -> Pending<'a, Result<(), QueueError>>;

    /// What [`Queue::note_paused`] noted last.
    fn paused(&self, instance: &str) -> Duration;

    /// Durably keeps `value` under `key` in `space`, such as the intent to confirm a subscription.
    ///
    /// # Errors
    /// [`QueueError`] when it is not durable.
    fn put_note<'a>(&'a self, space: &'a str, key: &'a str, value: String) -> Pending<'a, Result<(), QueueError>>;

    /// All notes of `space` as (key, value).
    ///
    /// # Errors
    /// [`QueueError`] when the store cannot be read.
    fn notes<'a>(&'a self, space: &'a str) -> Pending<'a, Result<Vec<(String, String)>, QueueError>>;

    /// Forgets a note; one that is not there is no error.
    ///
    /// # Errors
    /// [`QueueError`] when it is not durable.
    fn remove_note<'a>(&'a self, space: &'a str, key: &'a str) -> Pending<'a, Result<(), QueueError>>;

    /// Stops taking work, finishes what was begun and closes the store.
    fn close(&self) -> Pending<'_, ()>;
}

/// What one notification adds.
#[derive(Debug)]
pub struct Append {
    /// Identity of the notification for dedupe, if it has one: topic and MessageId, already hashed by [`memory_key`].
    pub message: Option<[u8; 16]>,
    /// When it was received.
    pub received_at: UnixMillis,
    /// Events to deliver, in the order in which they stood.
    pub deliveries: Vec<NewDelivery>,
    /// What is kept among the dead at once, with the reason.
    pub set_aside: Vec<SetAside>,
}

/// An event owed to an instance's callback.
#[derive(Debug)]
pub struct NewDelivery {
    /// The instance's name.
    pub instance: Arc<str>,
    /// The event.
    pub event: Event,
    /// What it says of the object's present state; only where listings reconcile what push missed (hard case 20).
    pub change: Option<Change>,
}

/// What one event says of the state of one object, so that push and listings recognise each other's news (hard case 20).
///
/// Of each object the queue remembers the last such state, for at least [`QueueConfig::dedupe_for`](crate::config::QueueConfig), in
/// the transaction of the event. A listing's change is a duplicate when the remembered state covers it: the same state,
/// and not written again since. A push's change is a duplicate when a listing told the same state and the push is not
/// provably of a later change than that listing saw. [`state::change`] has the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Instance, bucket and key, hashed by [`memory_key`].
    pub object: [u8; 16],
    /// The state: its eTag, or that it is gone; hashed by [`memory_key`]. A listing tells no version.
    pub state: [u8; 16],
    /// When the object came into this state, where that is known: a push's eventTime, a listing's LastModified.
    pub at: Option<UnixMillis>,
    /// When the page of the listing that showed it was asked for, or at least when the walk began; `None` for what was pushed.
    pub listed_at: Option<UnixMillis>,
    /// Of an object that a listing misses, when the walk began that missed it first.
    pub missing_since: Option<UnixMillis>,
}

/// Something genuine that cannot be delivered.
#[derive(Debug)]
pub struct SetAside {
    /// The instance's name.
    pub instance: Arc<str>,
    /// Why, in a word of the attack table such as `bad_payload`.
    pub reason: &'static str,
    /// What a person should know.
    pub detail: String,
    /// The event, as far as there is one: its `raw` holds what came.
    pub event: Event,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// The notification had been appended before: nothing of it was stored now.
    pub duplicate_message: bool,
    /// Events stored; those among them that a listing outdated have ended superseded.
    pub queued: usize,
    /// Events that had been stored before, or whose change had been told before.
    pub duplicates: usize,
    /// Things set aside.
    pub set_aside: usize,
}

/// How much a dispatcher can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Claims at most.
    pub claims: usize,
    /// Of those, deliveries that have failed before (hard case 16).
    pub retries: usize,
    /// Events in one claim at most.
    pub batch: usize,
    /// A probe of a paused callback: one claim of one event or stored batch, from a lane other than the last one probed
    /// where there is one, also when its own retry is not due yet.
    pub probe: bool,
}

/// One delivery or batch to attempt.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Names the claim in a [`Settlement`].
    pub token: u64,
    /// The instance's name.
    pub instance: Arc<str>,
    /// The delivery's id, the same on every attempt: the event's id, or for a batch one derived from its members.
    pub delivery_id: EventId,
    /// What is delivered, in order; never empty.
    pub items: Vec<Arc<Owed>>,
    /// Counted attempts that failed before.
    pub attempts: u32,
    /// When the first of them failed.
    pub first_failed_at: Option<UnixMillis>,
}

/// One owed event.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Sequence number in the store: arrival order, never reused, the envelope's `id`.
    pub seq: u64,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// [`Queue::paused`] of its instance when it was accepted.
    pub paused_at_accept: Duration,
    /// The event.
    pub event: Event,
}

/// One attempt's outcome, as kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: UnixMillis,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A word for what happened, such as `delivered`, `connect_refused`, `timeout`, `status`.
    pub outcome: String,
    /// A bounded start of the answer or of the error, cleaned of control characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Whether it counts towards the attempt limit.
    pub counted: bool,
}

/// How a claim ended.
#[derive(Debug)]
pub struct Settlement {
    /// [`Claim::token`].
    pub token: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// The attempt, if there was one worth keeping.
    pub attempt: Option<Attempt>,
    /// When.
    pub at: UnixMillis,
}

/// What becomes of a claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Given up, kept among the dead with the reason.
    Dead(String),
    /// The app has it.
    Delivered,
    /// Handed back: no attempt is counted, it goes behind the other lanes and is due at once.
    Release,
    /// To be tried again. The attempt is counted when [`Attempt::counted`] says so.
    Retry {
        /// When it is due.
        at: UnixMillis,
    },
    /// The batch is dissolved; its events are owed singly and due at once, with the attempts so far (hard case 12).
    Split,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Given up; kept, replayable.
    Dead,
    /// The app has it.
    Delivered,
    /// Given up on purpose.
    Discarded,
    /// Still to be delivered.
    Owed,
    /// Not delivered, because the app has a provably newer one of the same object; kept, replayable.
    Superseded,
}

impl State {
    /// The word in listings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Discarded => "discarded",
            Self::Owed => "owed",
            Self::Superseded => "superseded",
        }
    }
}

/// Which rows a listing, replay or discard is about. Absent members do not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// States; empty is all.
    pub states: Vec<State>,
    /// Instance name.
    pub instance: Option<String>,
    /// Bucket.
    pub bucket: Option<String>,
    /// Key, exact, or a prefix where it ends in `*`.
    pub key: Option<String>,
    /// Event id (20 characters).
    pub id: Option<String>,
    /// Accepted at or after.
    pub since: Option<UnixMillis>,
    /// Accepted before.
    pub until: Option<UnixMillis>,
    /// Rows with a sequence number below this: the next page.
    pub before_seq: Option<u64>,
    /// Rows at most; 0 is 100.
    pub limit: usize,
}

/// One row of a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Sequence number.
    pub seq: u64,
    /// Where it stands.
    pub state: State,
    /// Instance name.
    pub instance: String,
    /// Event id.
    pub event_id: String,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Event name.
    pub event_name: String,
    /// How we came to know of it; absent for what ended before stores noted it, and for a damaged row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// When it ended, for what has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMillis>,
    /// When it is due next, for what is owed and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<UnixMillis>,
    /// Counted attempts.
    pub attempts: u32,
    /// Why it is dead, superseded or discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempts that are remembered, oldest first.
    pub log: Vec<Attempt>,
}

/// Numbers for metrics and readiness.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// By instance name; also instances that are no longer configured.
    pub instances: Vec<InstanceStats>,
    /// Owed bytes in all.
    pub owed_bytes: u64,
    /// Bytes of dead letters in all.
    pub dead_bytes: u64,
    /// Bytes of the store's files.
    pub store_bytes: u64,
    /// Why the store accepts nothing, if it does not.
    pub refusing: Option<QueueError>,
}

/// Numbers of one instance.
#[derive(Clone, Debug, Default)]
pub struct InstanceStats {
    /// Name.
    pub name: String,
    /// Deliveries owed.
    pub owed: u64,
    /// Their bytes.
    pub owed_bytes: u64,
    /// Acceptance time of the oldest owed delivery.
    pub oldest_owed: Option<UnixMillis>,
    /// Dead letters.
    pub dead: u64,
    /// Their bytes.
    pub dead_bytes: u64,
}

/// The dedupe key of something that several fields name together: 16 bytes of a SHA-256 over the length-prefixed parts.
pub fn memory_key(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&context.finish().as_ref()[..16]);
    key
}
