//! One instance's deliveries: claimed, attempted side by side, judged and settled.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::SecureRandom as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::attempt::{Attempter, Report};
use super::circuit::{Cause, Change, Circuit, Ended, Ending, Trouble};
use super::retry::{self, Decision, Failure};
use super::worker::Shared;
use crate::event::EventId;
use crate::queue::{Attempt, Claim, Outcome, QueueError, Settlement, Want, memory_key};
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::{Metrics, OfInstance};

/// How often the length of a pause is made durable while it lasts.
const NOTE_PAUSE: Duration = Duration::from_secs(30);

/// Deliveries remembered for their 429s.
const MAX_THROTTLED: usize = 1024;

/// First wait before a settlement is tried again, and the longest.
const SETTLE_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One instance.
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) attempter: Attempter,
    /// With several instances none holds more than half of the concurrency (hard case 16).
    pub(super) own: Arc<Semaphore>,
    pub(super) own_at_most: usize,
    pub(super) gate: Mutex<Gate>,
    /// The callback was paused, resumed, or a probe ended. Only the instance's loop waits for it.
    pub(super) changed: Notify,
}

/// What is known of the callback.
pub(super) struct Gate {
    circuit: Circuit,
    probing: bool,
    /// How long it has been paused before the present pause.
    paused_before: Duration,
    /// Failures that did not count, of deliveries that are throttled on their own: their delay grows all the same.
    throttled: HashMap<EventId, u32>,
}

impl Gate {
    pub(super) fn new(paused_before: Duration) -> Self {
        Self { circuit: Circuit::default(), probing: false, paused_before, throttled: HashMap::new() }
    }

    fn paused(&self, now: Instant) -> Duration {
        self.paused_before.saturating_add(self.circuit.paused_for(now.into_std()))
    }

    /// Notes the end of an attempt at `claim`; the number of throttled failures right before it.
    fn throttle(&mut self, claim: &Claim, ending: Ending, probe: bool) -> u32 {
        let id = claim.delivery_id;
        if probe || ending != Ending::Wide(Trouble::TooManyRequests) {
            return self.throttled.remove(&id).unwrap_or(0);
        }
        if self.throttled.len() >= MAX_THROTTLED && !self.throttled.contains_key(&id) {
            // Whoever is throttled that much is throttled as a whole, and pauses; forgetting only shortens some delays.
            self.throttled.clear();
        }
        let times = self.throttled.entry(id).or_default();
        *times += 1;
        *times - 1
    }
}

/// Whether a claim is a retry, and its place among the retries in flight.
enum Retry {
    No,
    NoPlace,
    Placed(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit),
}

/// What the loop does next.
enum Next {
    Claimed(Vec<Claim>, bool),
    LookAgain,
    NotePause,
}

impl Relay {
    /// Claims and attempts until [`Phase::Stopping`].
    pub(super) async fn run(self: Arc<Self>, tasks: TaskTracker, shutdown: Shutdown) {
        let mut stopping = shutdown.clone();
        let mut noted = self.paused();
        let mut note_at = Instant::now() + NOTE_PAUSE;
        loop {
            let next = tokio::select! {
                biased;
                () = stopping.reached(Phase::Stopping) => break,
                next = self.next(note_at) => next,
            };
            let mut due = self.cause().is_none();
            match next {
                Next::Claimed(claims, probe) => {
                    for claim in claims {
                        // The loop alone takes these permits and claimed no more than it saw, so this does not wait.
                        let Ok(own) = self.own.clone().acquire_owned().await else { return };
                        let retry = self.place_for_retry(&claim, probe);
                        self.shared.in_flight.fetch_add(1, Ordering::SeqCst);
                        tasks.spawn(self.clone().deliver(claim, probe, retry, own, shutdown.clone()));
                    }
                }
                Next::LookAgain => {}
                Next::NotePause => due = true,
            }
            let paused = self.paused();
            if due {
                note_at = Instant::now() + NOTE_PAUSE;
            }
            if due && paused != noted {
                noted = paused;
                let this = self.clone();
                tasks.spawn(async move { this.note_paused(paused).await });
            }
        }
        if self.paused() != noted {
            self.note_paused(self.paused()).await;
        }
    }

    async fn next(&self, note_at: Instant) -> Next {
        let (next_probe, probing) = {
            let gate = self.gate();
            (gate.circuit.next_probe(), gate.probing)
        };
        match next_probe {
            None => self.claim_open().await,
            Some(at) => tokio::select! {
                biased;
                () = self.changed.notified() => Next::LookAgain,
                claims = self.claim_probe(at.into(), probing) => {
                    self.gate().probing = true;
                    Next::Claimed(claims, true)
                }
                () = tokio::time::sleep_until(note_at) => Next::NotePause,
            },
        }
    }

    async fn claim_open(&self) -> Next {
        let shared = &self.shared;
        let mut freed = std::pin::pin!(shared.freed.notified());
        // From here on nothing is missed that is given back while we look.
        freed.as_mut().enable();
        let room = self.own.available_permits().min(shared.attempts.available_permits());
        let retries = room.min(shared.retries.available_permits());
        let all = room == self.own_at_most && retries == room.min(shared.retries_at_most);
        let want = Want { claims: room, retries, batch: shared.batch, probe: false };
        tokio::select! {
            biased;
            claims = shared.queue.claim(&self.name, want), if room > 0 => Next::Claimed(claims, false),
            () = self.changed.notified() => Next::LookAgain,
            () = freed, if !all => Next::LookAgain,
        }
    }

    async fn claim_probe(&self, at: Instant, probing: bool) -> Vec<Claim> {
        if probing {
            // Its end is a change.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(at).await;
        let want = Want { claims: 1, retries: 1, batch: self.shared.batch, probe: true };
        self.shared.queue.claim(&self.name, want).await
    }

    /// Takes a retry's place among the retries, if `claim` is one. Another instance may have taken the last since we looked; to
    /// wait for one would keep first attempts out, so the claim is handed back.
    fn place_for_retry(&self, claim: &Claim, probe: bool) -> Retry {
        if probe || (claim.attempts == 0 && claim.first_failed_at.is_none()) {
            return Retry::No;
        }
        self.shared.retries.clone().try_acquire_owned().map_or(Retry::NoPlace, Retry::Placed)
    }

    async fn deliver(
        self: Arc<Self>,
        claim: Claim,
        probe: bool,
        retry: Retry,
        own: OwnedSemaphorePermit,
        mut shutdown: Shutdown,
    ) {
        let shared = self.shared.clone();
        let phase = shutdown.clone();
        let attempted = {
            let attempting = async {
                if matches!(retry, Retry::NoPlace) {
                    return (None, None);
                }
                // This semaphore is never closed.
                let attempt = shared.attempts.acquire().await.ok();
                if phase.phase() >= Phase::Stopping || (!probe && self.cause().is_some()) {
                    return (attempt, None);
                }
                (attempt, Some(self.attempter.attempt(&claim, &*shared.clock).await))
            };
            tokio::select! {
                biased;
                // An answer that is there when we are told to stop still counts: the app has the event.
                attempted = attempting => Some(attempted),
                () = shutdown.reached(Phase::Stopping) => None,
            }
        };
        let (permit, report) = attempted.unwrap_or((None, None));
        let (outcome, attempt) = match report {
            Some(report) => self.judge(&claim, probe, report),
            None => {
                if probe {
                    self.gate().probing = false;
                    self.changed.notify_one();
                }
                (Outcome::Release, None)
            }
        };
        let settling = tokio::select! {
            biased;
            settling = shared.settling.acquire() => settling.ok(),
            () = shutdown.reached(Phase::Stopping) => None,
        };
        drop((permit, retry, own));
        shared.freed.notify_waiters();
        self.settle(&claim, outcome, attempt, &mut shutdown).await;
        drop(settling);
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// What becomes of the delivery after `report`, and of the callback.
    fn judge(&self, claim: &Claim, probe: bool, report: Report) -> (Outcome, Option<Attempt>) {
        let shared = &self.shared;
        Metrics::count(&shared.metrics.attempts, &self.name, report.word, 1);
        shared.metrics.attempt_seconds.observe(report.took.as_secs_f64());
        let ended = Ended { ending: report.ending, lane: lane(claim), probe, retry_after: report.retry_after };
        let now = Instant::now();
        let mut gate = self.gate();
        let verdict = gate.circuit.ended(&ended, now.into_std(), self.random());
        let uncounted_before = gate.throttle(claim, report.ending, probe);
        match verdict.change {
            Change::None => {}
            Change::Paused(cause) => self.show_paused(cause, &report),
            Change::Resumed(lasted) => {
                gate.paused_before = gate.paused_before.saturating_add(lasted);
                self.show_open();
                tracing::info!(instance = &*self.name, paused_ms = lasted.as_millis(), "callback resumed");
            }
        }
        gate.probing &= !probe;
        let paused = gate.paused(now);
        drop(gate);
        if probe || verdict.change != Change::None {
            self.changed.notify_one();
        }

        let mut record = report.record;
        if report.ending == Ending::Delivered {
            return (Outcome::Delivered, Some(record));
        }
        if report.refused && claim.items.len() > 1 {
            // The refusal was of the batch; it is no attempt of any one event (hard case 12).
            return (Outcome::Split, Some(record));
        }
        record.counted = verdict.counted;
        let youngest = claim.items.iter().max_by_key(|item| item.accepted_at);
        let failure = Failure {
            now: shared.clock.now(),
            counted: verdict.counted,
            counted_before: claim.attempts,
            uncounted_before,
            first_failed_at: claim.first_failed_at,
            accepted_at: youngest.map_or(record.at, |item| item.accepted_at),
            paused: youngest.map_or(Duration::ZERO, |item| paused.saturating_sub(item.paused_at_accept)),
            refused: report.refused,
            retry_after: report.retry_after,
        };
        let outcome = match retry::decide(&shared.policy, &failure, self.random()) {
            Decision::Retry(at) => Outcome::Retry { at },
            Decision::Dead(reason) => {
                let last = record.status.map_or_else(|| report.word.to_owned(), |status| format!("status {status}"));
                Outcome::Dead(format!("{reason}, the last with {last}"))
            }
        };
        (outcome, Some(record))
    }

    /// Makes the outcome durable. A store that refuses is asked again: the outcome is known, and asking the app again is dearer.
    async fn settle(&self, claim: &Claim, outcome: Outcome, attempt: Option<Attempt>, shutdown: &mut Shutdown) {
        let (mut wait, longest) = SETTLE_AGAIN;
        loop {
            let last = shutdown.phase() >= Phase::Stopping;
            let at = self.shared.clock.now();
            let (token, outcome, attempt) = (claim.token, outcome.clone(), attempt.clone());
            match self.shared.queue.settle(Settlement { token, outcome, attempt, at }).await {
                Ok(()) => break,
                Err(error @ QueueError::UnknownClaim { .. }) => {
                    tracing::warn!(instance = &*self.name, %error, "nothing is left to settle");
                    return;
                }
                Err(error) if last || error == QueueError::Closed => {
                    tracing::debug!(instance = &*self.name, %error, "an outcome is lost; the delivery is owed again");
                    return;
                }
                Err(error) => tracing::debug!(instance = &*self.name, %error, "an outcome waits for the store"),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.reached(Phase::Stopping) => {}
            }
            wait = (wait * 2).min(longest);
        }
        self.show_end(claim, &outcome);
    }

    /// The end is counted by the store, where it happens.
    fn show_end(&self, claim: &Claim, outcome: &Outcome) {
        let metrics = &self.shared.metrics;
        match outcome {
            Outcome::Delivered => {
                let now = self.shared.clock.now();
                for item in &claim.items {
                    metrics.delivery_seconds.observe(now.since(item.accepted_at).as_secs_f64());
                }
            }
            Outcome::Dead(reason) => {
                for event in claim.items.iter().map(|item| &item.event) {
                    tracing::warn!(
                        instance = &*self.name,
                        event = %event.id,
                        bucket = event.bucket,
                        key = event.key,
                        reason,
                        "a delivery is dead; `postern replay` sends it again"
                    );
                }
            }
            Outcome::Release | Outcome::Retry { .. } | Outcome::Split => {}
        }
    }

    pub(super) fn show_open(&self) {
        self.paused_gauge(0);
        self.shared.health.ok(&self.condition(), "open");
    }

    fn show_paused(&self, cause: Cause, report: &Report) {
        self.paused_gauge(1);
        let detail = &report.record.detail;
        let told = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        // Health logs it, once: the reason stays the same as long as the pause lasts.
        self.shared.health.degraded(&self.condition(), format!("paused: {}{told}", cause.explain()));
    }

    fn paused_gauge(&self, value: i64) {
        let of = OfInstance { instance: self.name.to_string() };
        self.shared.metrics.callback_paused.get_or_create(&of).set(value);
    }

    fn condition(&self) -> String {
        format!("callback {}", self.name)
    }

    async fn note_paused(&self, total: Duration) {
        if let Err(error) = self.shared.queue.note_paused(&self.name, total).await {
            // The next note says it all again: it is a total.
            tracing::debug!(instance = &*self.name, %error, "the length of a pause could not be noted");
        }
    }

    /// Whether nobody listens at the callback.
    pub(super) fn is_gone(&self) -> bool {
        self.cause() == Some(Cause::Trouble(Trouble::Connect))
    }

    fn cause(&self) -> Option<Cause> {
        self.gate().circuit.paused()
    }

    fn paused(&self) -> Duration {
        self.gate().paused(Instant::now())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without randomness there is no jitter, and no harm.
        let _ = self.shared.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The lane of a claim: of a batch, that of its first event.
fn lane(claim: &Claim) -> [u8; 16] {
    claim.items.first().map_or([0; 16], |item| memory_key(&[item.event.bucket.as_bytes(), item.event.key.as_bytes()]))
}
