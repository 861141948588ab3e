//! What the writer is asked to do, and who hears how it ended.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Shared;
use crate::clock::UnixMillis;
use crate::event::Event;
use crate::queue::state::{Effect, LaneKey, Taken};
use crate::queue::{Appended, Change, Filter, QueueError, Settlement};

/// Where the answer to an operation goes; nobody may be waiting any more.
pub(super) type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// One operation.
pub(super) enum Op {
    Append(Box<Prepared>, Answer<Appended>),
    Close(oneshot::Sender<()>),
    Compose(Reserved, oneshot::Sender<Reserved>),
    Discard(Sweep),
    Load,
    Note(Note, Answer<()>),
    Replay(Sweep),
    Settle(Settlement, Answer<()>),
    Tick,
}

/// A small durable fact.
pub(super) enum Note {
    Paused { slot: usize, ms: u64 },
    Put { space: String, key: String, value: String },
    Remove { space: String, key: String },
}

/// A replay or discard on its way: done in bounded steps, so that appends go on between them.
pub(super) struct Sweep {
    pub(super) filter: Filter,
    /// Rows changed so far.
    pub(super) done: u64,
    /// The step goes on below this row.
    pub(super) before: Option<u64>,
    pub(super) answer: Answer<u64>,
}

/// An append, with all that can be computed outside the writer.
pub(super) struct Prepared {
    pub(super) message: Option<[u8; 16]>,
    pub(super) received_at: UnixMillis,
    pub(super) rows: Vec<NewRow>,
    pub(super) set_aside: Vec<NewRow>,
}

/// A row to be.
pub(super) struct NewRow {
    pub(super) slot: usize,
    pub(super) lane: LaneKey,
    /// The event's key in the dedupe memory.
    pub(super) seen: [u8; 16],
    /// What it says of its object's state.
    pub(super) change: Option<Change>,
    /// The event as it is stored.
    pub(super) json: String,
    /// Why it is dead already.
    pub(super) reason: Option<String>,
    /// Taken when the row is in the window.
    pub(super) event: Option<Event>,
}

/// A claim that was not handed out yet: dropped, its deliveries are owed as before. It travels with the operation and with
/// the answer, so that nothing is lost wherever the caller's future is dropped.
pub(super) struct Reserved {
    shared: Arc<Shared>,
    slot: usize,
    taken: Option<Taken>,
}

impl Reserved {
    pub(super) fn new(shared: Arc<Shared>, slot: usize, taken: Taken) -> Self {
        Self { shared, slot, taken: Some(taken) }
    }

    pub(super) fn get(&self) -> Option<&Taken> {
        self.taken.as_ref()
    }

    /// Hands it out.
    pub(super) fn into_taken(mut self) -> Option<Taken> {
        self.taken.take()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.shared.state().finish(taken.token, Effect::Released);
            self.shared.wake(self.slot);
        }
    }
}
