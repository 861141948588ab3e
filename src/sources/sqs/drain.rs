//! Draining one queue: consumers receive, each message is a task of its own, and only what is durable is deleted.
//!
//! Receiving waits neither for appends nor for deletions; both are bounded by permits that a consumer takes before it asks for
//! messages. So a store that refuses, or deletions that fail, stop receiving by themselves, while the heartbeat keeps what is held
//! hidden from others. In a FIFO queue the messages of one group are one task, and the next is judged only after the one before it
//! is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::batches::Batches;
use super::held::{Held, Hold};
use super::judge::{Judge, Verdict};
use super::pace;
use super::report::{Aspect, Report};
use super::room::{Crew, Place, Room, Weight};
use super::waiting::Waiting;
use crate::aws::sqs::{SqsMessage, SqsProblem, SqsQueue};
use crate::queue::QueueError;
use crate::shutdown::{Phase, Shutdown};

/// How long a message waits for a store that refuses. Then it goes back, so that a replica with room gets it.
const WAIT_FOR_STORE: Duration = Duration::from_secs(300);

/// How long a deletion is tried. Then the message comes again and is a duplicate.
const TRY_TO_DELETE: Duration = Duration::from_secs(3600);

/// A message over which the judge has panicked is set aside when it was received so often, and tried again before.
const POISON: u32 = 5;

/// An answer without messages that comes sooner than this was no long poll; the next question waits as long.
const TOO_SOON: Duration = Duration::from_millis(250);

/// How long a receive that is under way may still answer once draining ends: what SQS has handed out by then is on its way, and would
/// stay hidden for the queue's whole visibility timeout if nobody took it.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// One queue being drained.
pub(super) struct Drain {
    pub(super) queue: Arc<SqsQueue>,
    /// What it is called in logs and conditions.
    pub(super) name: String,
    pub(super) is_fifo: bool,
    pub(super) judge: Judge,
    pub(super) held: Arc<Held>,
    pub(super) deletes: Batches,
    pub(super) returns: Batches,
    pub(super) report: Arc<Report>,
    pub(super) tasks: TaskTracker,
    pub(super) room: Room,
    /// Whether the store takes what it is given.
    pub(super) store_takes: watch::Sender<bool>,
    /// Whether nothing more is received; shared by all queues of the instance.
    pub(super) closed: watch::Sender<bool>,
    /// What could not be proven for a reason of our own.
    pub(super) unproven: Waiting,
    /// What is too large for the store.
    pub(super) too_large: Waiting,
    /// Messages that wait for the store.
    pub(super) waiting: AtomicUsize,
    /// How many consumers ask.
    pub(super) crew: Crew,
    /// Deletions in a row that failed.
    pub(super) undeleted: AtomicU32,
}

/// A message in hand.
struct Taken {
    message: SqsMessage,
    receipt: Arc<str>,
    place: Place,
    weight: Weight,
    hold: Hold,
}

impl Drain {
    /// One consumer: asks for messages until [`Phase::Draining`]. The first always asks, any other only while there is much to do.
    pub(super) async fn consume(self: Arc<Self>, is_first: bool, mut shutdown: Shutdown) {
        let mut failures = 0;
        let ending = shutdown.clone();
        let mut came = 0;
        loop {
            if came == 0 && !is_first {
                tokio::select! {
                    biased;
                    () = shutdown.reached(Phase::Draining) => return,
                    () = self.crew.called() => {}
                }
            }
            let pause;
            (came, pause) = {
                let receive = self.receive(&mut failures, &ending);
                tokio::pin!(receive);
                tokio::select! {
                    biased;
                    () = shutdown.reached(Phase::Draining) => {
                        let _ = tokio::time::timeout(LAST_ANSWER, receive).await;
                        return;
                    }
                    received = &mut receive => received,
                }
            };
            self.crew.brought(came);
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Draining) => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One receive, once there is room; how many messages came, and how long to wait before the next. Dropping it ends the long poll.
    async fn receive(self: &Arc<Self>, failures: &mut u32, shutdown: &Shutdown) -> (usize, Duration) {
        let mut store_takes = self.store_takes.subscribe();
        // The sender lives as long as `self`.
        let _ = store_takes.wait_for(|takes| *takes).await;
        let Some(room) = self.room.take().await else { return (0, TOO_SOON) };
        if shutdown.phase() >= Phase::Draining {
            return (0, TOO_SOON);
        }
        let asked_at = Instant::now();
        match self.queue.receive(self.held.wish()).await {
            Ok(messages) => {
                *failures = 0;
                self.report.well(&self.name, Aspect::Receive);
                let came = messages.len();
                let too_soon = came == 0 && asked_at.elapsed() < TOO_SOON;
                self.take(messages, room, shutdown);
                let pause = match self.unproven.in_a_row() {
                    0 if too_soon => TOO_SOON,
                    0 => Duration::ZERO,
                    unproven => pace::backoff(unproven, random()),
                };
                (came, pause)
            }
            Err(error) => {
                *failures += 1;
                self.report.failed(&self.name, Aspect::Receive, &error, *failures);
                let needs_a_person = error.problem.needs_a_person();
                (0, if needs_a_person { pace::slow(random()) } else { pace::backoff(*failures, random()) })
            }
        }
    }

    /// Puts received messages in hand: each by itself, or in a FIFO queue each group by itself.
    fn take(self: &Arc<Self>, messages: Vec<SqsMessage>, mut room: Place, shutdown: &Shutdown) {
        let mut lines: BTreeMap<String, Vec<Taken>> = BTreeMap::new();
        for (index, message) in messages.into_iter().enumerate() {
            let receipt: Arc<str> = message.receipt.as_str().into();
            let hold = self.held.hold(&receipt);
            // SQS sends no more than were asked for; what it sends all the same is left to come again.
            let (Some(body), Some(hand)) = (room.body.split(1), room.hand.split(1)) else { continue };
            let line = match &message.group {
                Some(group) if self.is_fifo => format!("group {group}"),
                _ => format!("single {index}"),
            };
            let weight = self.room.weigh(message.body.len());
            let taken = Taken { message, receipt, place: Place { body, hand }, weight, hold };
            lines.entry(line).or_default().push(taken);
        }
        for line in lines.into_values() {
            self.tasks.spawn(Arc::clone(self).work(line, shutdown.clone()));
        }
    }

    /// Works a line off, from its first message to its last; what comes after one that goes back goes back with it.
    async fn work(self: Arc<Self>, line: Vec<Taken>, mut shutdown: Shutdown) {
        let mut back = None;
        for taken in line {
            let Taken { message, receipt, place, weight, hold } = taken;
            if back.is_none() {
                back = self.settle(message, &receipt, (place, weight), &mut shutdown).await.err();
            }
            if let Some(visible_in) = back {
                // Let go first: a heartbeat must not hide again what goes back.
                drop(hold);
                self.report.message("returned");
                // Without it the message comes again all the same, later.
                let _ = self.returns.call(&receipt, visible_in).await;
            }
        }
    }

    /// Sees one message to its end.
    ///
    /// # Errors
    /// After how many seconds it is to come again, where it had no end.
    async fn settle(
        self: &Arc<Self>,
        message: SqsMessage,
        receipt: &Arc<str>,
        (place, weight): (Place, Weight),
        shutdown: &mut Shutdown,
    ) -> Result<(), i32> {
        let message = Arc::new(message);
        let give_up_at = Instant::now() + WAIT_FOR_STORE;
        let mut refusals = 0;
        let mut waits = None;
        let back = |waiting: &Waiting| {
            let seconds = pace::hidden_for(message.receives, random());
            waiting.went_back(&message.id, seconds);
            seconds
        };
        let outcome = loop {
            match self.judged(&message).await {
                Some(Verdict::Done(outcome)) => break outcome,
                // It alone asks for more than the store has to give: others fit, and do not wait for it.
                Some(Verdict::Refused(error)) if is_large(&message, &error, 4) => {
                    self.report.message("too_large");
                    let text = format!(
                        "message {} has {} bytes and stays in the queue: {error}; raise the bound, or take it out of the queue",
                        message.id,
                        message.body.len()
                    );
                    self.report.trouble(&self.name, Aspect::Size, "too_large", &text);
                    return Err(back(&self.too_large));
                }
                Some(Verdict::Refused(error)) => {
                    waits.get_or_insert_with(|| Waits::begin(self));
                    self.store_refuses(&error);
                    refusals += 1;
                    let pause = pace::backoff(refusals, random());
                    if Instant::now() + pause > give_up_at {
                        // Somebody has to find out whether the store takes again.
                        self.store_takes.send_replace(true);
                        return Err(pace::hidden_for(3, random()));
                    }
                    tokio::select! {
                        biased;
                        // A replica may have room.
                        () = self.nobody_receives() => return Err(0),
                        () = self.store_takes_again() => sleep(pace::backoff(1, random())).await,
                        () = sleep(pause) => {}
                    }
                }
                Some(Verdict::Unproven(refusal)) => {
                    self.report.message(refusal.reason.as_str());
                    let text = format!("a signature cannot be checked now ({refusal}); its message stays in the queue");
                    self.report.trouble(&self.name, Aspect::Proof, refusal.reason.as_str(), &text);
                    return Err(back(&self.unproven));
                }
                None => return Err(pace::hidden_for(message.receives, random())),
            }
        };
        // These say nothing of the store: it was not asked.
        if !matches!(outcome, "confirmation" | "dropped" | "test_event") {
            self.store_takes.send_if_modified(|takes| !std::mem::replace(takes, true));
            drop(waits);
            // At its bound a store takes one and refuses the next: the trouble is over when nothing waits for it.
            if self.waiting.load(Ordering::SeqCst) == 0 {
                self.report.well(&self.name, Aspect::Store);
            }
        }
        // A confirmation is not proven.
        if outcome != "confirmation" && self.unproven.ended(&message.id) {
            self.report.well(&self.name, Aspect::Proof);
        }
        if self.too_large.ended(&message.id) {
            self.report.well(&self.name, Aspect::Size);
        }
        self.report.message(outcome);
        drop(message);
        drop((place.body, weight));
        self.delete(receipt, shutdown).await;
        drop(place.hand);
        Ok(())
    }

    /// The judge's word; `None` when it panicked and the message may be tried once more.
    async fn judged(self: &Arc<Self>, message: &Arc<SqsMessage>) -> Option<Verdict> {
        let (drain, given) = (Arc::clone(self), Arc::clone(message));
        let judging = AbortOnDropHandle::new(tokio::spawn(async move { drain.judge.judge(&given).await }));
        match judging.await {
            // Trying again would be of no use, and the letters have a bound of their own.
            Ok(Verdict::Refused(error @ QueueError::Full { .. })) if is_large(message, &error, 1) => {
                let why = format!("it is larger than all that may be owed: {error}");
                Some(self.judge.refuse(message, "too_large", &why).await)
            }
            Ok(verdict) => Some(verdict),
            Err(_) if message.receives >= POISON => {
                let why = "this program fails whenever it reads the message; please report it";
                Some(self.judge.refuse(message, "poison", why).await)
            }
            Err(error) => {
                tracing::error!(queue = self.name, message_id = message.id, %error, "a message made its task fail");
                None
            }
        }
    }

    /// Waits until all consumers have ended: what goes back while one of them still asks would come to it, and be hidden by nobody.
    async fn nobody_receives(&self) {
        // The sender lives as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Waits until the store takes what another message says: then there is room, perhaps for this one too.
    async fn store_takes_again(&self) {
        // The sender lives as long as `self`.
        let _ = self.store_takes.subscribe().wait_for(|takes| *takes).await;
    }

    fn store_refuses(&self, error: &QueueError) {
        self.store_takes.send_if_modified(|takes| std::mem::replace(takes, false));
        self.report.message(error.label());
        self.report.trouble(
            &self.name,
            Aspect::Store,
            error.label(),
            &format!("nothing is received while the store refuses: {error}"),
        );
    }

    fn deletes_well(&self) {
        if self.undeleted.swap(0, Ordering::Relaxed) > 0 {
            self.report.well(&self.name, Aspect::Delete);
        }
    }

    /// Deletes what is durable, again and again until it is gone, or until the end.
    async fn delete(&self, receipt: &Arc<str>, shutdown: &mut Shutdown) {
        let give_up_at = Instant::now() + TRY_TO_DELETE;
        let mut failures = 0;
        loop {
            match self.deletes.call(receipt, 0).await {
                Ok(()) => return self.deletes_well(),
                // It became visible in spite of us, or somebody else deleted it. If it comes again, it is a duplicate.
                Err(error) if error.problem == SqsProblem::Gone => {
                    self.report.message("expired");
                    return self.deletes_well();
                }
                Err(error) => {
                    failures += 1;
                    self.undeleted.fetch_add(1, Ordering::Relaxed);
                    self.report.failed(&self.name, Aspect::Delete, &error, failures);
                    let pause = match error.problem.needs_a_person() {
                        true => pace::slow(random()),
                        false => pace::backoff(failures, random()),
                    };
                    if Instant::now() + pause > give_up_at {
                        return;
                    }
                    let leaving = shutdown.phase() >= Phase::Draining;
                    // There is no time left for patience then.
                    let pause = if leaving { pause.min(Duration::from_millis(500)) } else { pause };
                    tokio::select! {
                        biased;
                        () = shutdown.reached(Phase::Stopping) => return,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }
}

/// One message that waits for the store, until this is dropped. While any waits, it finds out when the store takes again; the last that
/// ends, whatever way, leaves that to what is received next.
struct Waits<'a>(&'a Drain);

impl<'a> Waits<'a> {
    fn begin(drain: &'a Drain) -> Self {
        drain.waiting.fetch_add(1, Ordering::SeqCst);
        Self(drain)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.store_takes.send_if_modified(|takes| !std::mem::replace(takes, true));
            // Something is received again, if only to be refused; where a replica empties the queue, nothing ever tells otherwise.
            self.0.report.well(&self.0.name, Aspect::Store);
        }
    }
}

/// Whether a message that was refused for its size has more than one `part` of the bound.
fn is_large(message: &SqsMessage, error: &QueueError, part: u64) -> bool {
    let (QueueError::Full { max_bytes, .. } | QueueError::DeadFull { max_bytes }) = error else { return false };
    (message.body.len() as u64).saturating_mul(part) > *max_bytes
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness there is no jitter, and every wait is the shortest.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u64::from_ne_bytes(bytes)
}
