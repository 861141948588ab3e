//! Subscriptions: confirmed by what we build, never by what a message says (hard case 7).
//!
//! A genuine SubscriptionConfirmation of an allowed topic is first written down as an intent, then answered with 200, then
//! confirmed in the background until SNS took it or the token's life is over. The intent survives a restart; a token is
//! confirmed once; of one topic at most one confirmation is in flight. An UnsubscribeConfirmation is an alarm: the link in it
//! subscribes again, so it is never followed, and its token is used only where the operator asked for that.

mod answer;
mod call;
mod caller;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use call::{Caller, Confirmed, Failure};
pub use caller::{Account, Accounts, SnsCaller};

use super::verify::VerifiedConfirmation;
use crate::clock::{Clock, UnixMillis};
use crate::config::UnsubscribePolicy;
use crate::health::Health;
use crate::queue::{Queue, QueueError};
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Outcome;

/// The space of the queue's notes that holds intents.
const SPACE: &str = "confirm";

/// A token's life: "valid for two days" (`sns.md` 1.3).
const TOKEN_LIFE: Duration = Duration::from_hours(48);

/// Ended intents are kept this long, so that a repeated message of the same token is recognised.
const KEPT_FOR: Duration = Duration::from_hours(96);

/// Pending intents of one topic at most; tokens come from SNS alone, but anybody may ask it for one.
const PENDING_PER_TOPIC: usize = 32;

/// Ended intents of one topic that are remembered at most. A forgotten token that is sent again is confirmed once more, which SNS
/// answers alike; a bound that counted these would refuse genuine subscriptions for days.
const ENDED_PER_TOPIC: usize = 64;

/// First and longest wait between attempts of one intent.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// How long nothing is looked at when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);

/// Why a confirmation message was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Somebody subscribed our URL.
    Subscribe,
    /// Somebody ended a subscription of ours.
    Unsubscribed,
}

/// One token's story, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    topic: String,
    /// Gone once the intent ended: it is of no use any more.
    token: Option<String>,
    received_at: UnixMillis,
    attempts: u32,
    next_at: UnixMillis,
    state: Standing,
    ended_at: Option<UnixMillis>,
    outcome: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Pending,
    Confirmed,
    Failed,
}

#[derive(Default)]
struct Board {
    records: HashMap<String, Record>,
    in_flight: HashSet<String>,
    /// Topics that have sent a genuine notification since the start.
    heard: HashSet<String>,
}

/// Confirms subscriptions.
pub struct Confirmer {
    queue: Arc<dyn Queue>,
    caller: Arc<dyn Caller>,
    enabled: bool,
    unsubscribe: UnsubscribePolicy,
    /// The topics of enabled instances. The store may hold intents of others, from before a change of the configuration.
    topics: HashSet<String>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Arc<Health>,
    board: Mutex<Board>,
    /// Held while an intent is checked and written, so that a token is taken once.
    taking: tokio::sync::Mutex<()>,
    wake: Notify,
}

impl Confirmer {
    /// A confirmer that remembers what `queue` holds.
    ///
    /// # Errors
    /// [`QueueError`] when the store cannot be read.
    #[allow(clippy::too_many_arguments, reason = "the wiring is called once, from app")]
    pub async fn new(
        queue: Arc<dyn Queue>,
        caller: Arc<dyn Caller>,
        enabled: bool,
        unsubscribe: UnsubscribePolicy,
        topics: &[String],
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        health: Arc<Health>,
    ) -> Result<Self, QueueError> {
        let mut board = Board::default();
        for (key, value) in queue.notes(SPACE).await? {
            match serde_json::from_str::<Record>(&value) {
                Ok(record) => {
                    board.records.insert(key, record);
                }
                // Without serde's words: they may quote what they read, and that may be a token.
                Err(_) => tracing::warn!("an unreadable confirmation intent in the store is left alone"),
            }
        }
        for topic in topics {
            let confirmed = board.records.values().any(|r| r.topic == *topic && r.state == Standing::Confirmed);
            if confirmed {
                health.ok(&condition(topic), "confirmed before this start");
            } else {
                health
                    .degraded(&condition(topic), "no subscription seen yet: subscribe this sidecar's URL to the topic");
            }
        }
        Ok(Self {
            queue,
            caller,
            enabled,
            unsubscribe,
            topics: topics.iter().cloned().collect(),
            clock,
            metrics,
            health,
            board: Mutex::new(board),
            taking: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
        })
    }

    /// Notes that a genuine notification came by `topic`, which shows that its subscription stands.
    pub fn heard(&self, topic: &str) {
        let mut board = self.board();
        if !board.heard.contains(topic) {
            board.heard.insert(topic.to_owned());
            drop(board);
            self.health.ok(&condition(topic), "notifications arrive");
        }
    }

    /// Takes a genuine confirmation message; durable when it answers. The word is for logs and metrics.
    ///
    /// # Errors
    /// [`QueueError`] when the intent could not be stored: the caller answers 503 and SNS sends it again.
    pub async fn intend(&self, message: &VerifiedConfirmation, intent: Intent) -> Result<&'static str, QueueError> {
        let topic = message.topic_arn();
        let key = key_of(topic, message.token());
        let _taking = self.taking.lock().await;
        if let Some(known) = self.board().records.get(&key) {
            return Ok(match known.state {
                Standing::Pending => "confirmation_pending",
                Standing::Confirmed | Standing::Failed => "confirmation_duplicate",
            });
        }
        if intent == Intent::Unsubscribed {
            self.alarm_unsubscribed(topic);
            if self.unsubscribe == UnsubscribePolicy::Alarm || !self.enabled {
                return Ok("unsubscribed");
            }
        } else if !self.enabled {
            tracing::warn!(topic, "a genuine subscription confirmation is left alone (POSTERN_SNS_CONFIRM=never)");
            return Ok("unexpected_confirmation");
        }
        let Some(surplus) = self.board().make_room(topic) else { return Ok("rate_limited") };
        if let Some(oldest) = surplus {
            self.queue.remove_note(SPACE, &oldest).await?;
            self.board().records.remove(&oldest);
        }
        let now = self.clock.now();
        let record = Record {
            topic: topic.to_owned(),
            token: Some(message.token().to_owned()),
            received_at: now,
            attempts: 0,
            next_at: now,
            state: Standing::Pending,
            ended_at: None,
            outcome: String::new(),
        };
        self.store(&key, &record).await?;
        self.board().records.insert(key, record);
        self.health.degraded(&condition(topic), "a confirmation is under way");
        tracing::info!(topic, "a subscription asks to be confirmed");
        self.wake.notify_one();
        Ok("confirmation_accepted")
    }

    /// Confirms what is due until the sidecar stops.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            let next = self.begin_due().await;
            // Bounded, so that a clock that is put right is noticed.
            let wait = next.map_or(LONGEST_SLEEP, |at| at.since(self.clock.now()).min(LONGEST_SLEEP));
            tokio::select! {
                () = shutdown.reached(Phase::Draining) => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
            }
        }
    }

    /// Starts an attempt for each topic that has one due; says when the next is due.
    async fn begin_due(self: &Arc<Self>) -> Option<UnixMillis> {
        let now = self.clock.now();
        self.forget_old(now).await;
        let mut due = Vec::new();
        let mut next = None;
        {
            let mut board = self.board();
            let mut pending: Vec<(String, Record)> = board
                .records
                .iter()
                .filter(|(_, r)| r.state == Standing::Pending && self.enabled && self.topics.contains(&r.topic))
                .map(|(key, r)| (key.clone(), r.clone()))
                .collect();
            pending.sort_by_key(|(_, r)| r.next_at);
            for (key, record) in pending {
                if board.in_flight.contains(&record.topic) {
                    continue;
                }
                // Further ahead than any wait: our clock was put back since then.
                if record.next_at <= now || record.next_at > now.plus(BACKOFF.1) {
                    board.in_flight.insert(record.topic.clone());
                    due.push((key, record));
                } else {
                    next = Some(next.map_or(record.next_at, |n: UnixMillis| n.min(record.next_at)));
                }
            }
        }
        for (key, record) in due {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let topic = record.topic.clone();
                this.attempt(key, record).await;
                this.board().in_flight.remove(&topic);
                this.wake.notify_one();
            });
        }
        next
    }

    async fn attempt(&self, key: String, mut record: Record) {
        let topic = record.topic.clone();
        let Some(token) = record.token.clone() else { return };
        let result = self.caller.confirm(&topic, &token).await;
        let now = self.clock.now();
        record.attempts += 1;
        let (label, alarm) = match result {
            Ok(Confirmed { subscription_arn }) => {
                record.end(Standing::Confirmed, now, subscription_arn);
                // Not the subscription's ARN: it is all that an UnsubscribeURL holds, and `/ready` is open (`sns.md` 1.3).
                tracing::info!(topic, "subscription confirmed");
                self.health.ok(&condition(&topic), format!("confirmed at {now}"));
                ("confirmed", None)
            }
            Err(Failure::Rejected(why)) => {
                record.end(Standing::Failed, now, why.clone());
                ("confirm_rejected", Some(format!("SNS refused the confirmation: {why}; subscribe again")))
            }
            Err(failure) if now.since(record.received_at) >= TOKEN_LIFE => {
                record.end(Standing::Failed, now, failure.to_string());
                ("confirm_expired", Some(format!("the token's two days are over ({failure}); subscribe again")))
            }
            Err(failure) => {
                let wait = backoff(record.attempts, jitter());
                record.next_at = now.plus(wait);
                record.outcome = failure.to_string();
                (failure.label(), Some(format!("{failure}; tried {} times, trying again", record.attempts)))
            }
        };
        self.metrics.confirmations.get_or_create(&Outcome { outcome: label }).inc();
        if let Some(alarm) = alarm {
            tracing::warn!(
                topic,
                attempts = record.attempts,
                outcome = label,
                detail = alarm,
                "subscription is not confirmed"
            );
            self.health.degraded(&condition(&topic), alarm);
        }
        // Not durable is no loss: at worst the token is confirmed once more after a restart, which SNS answers alike.
        if let Err(error) = self.store(&key, &record).await {
            tracing::warn!(topic, %error, "the outcome of a confirmation could not be written down");
        }
        self.board().records.insert(key, record);
    }

    fn alarm_unsubscribed(&self, topic: &str) {
        self.metrics.unsubscribed.inc();
        self.board().heard.remove(topic);
        tracing::error!(
            topic,
            "somebody ended our subscription; nothing more arrives by this topic until it is subscribed again"
        );
        self.health.degraded(&condition(topic), "somebody ended the subscription: subscribe again if that was not you");
    }

    async fn forget_old(&self, now: UnixMillis) {
        let old: Vec<String> = self
            .board()
            .records
            .iter()
            // A pending one has no end while its topic is not configured; its token's life is over all the same.
            .filter(|(_, r)| now.since(r.ended_at.unwrap_or(r.received_at)) > KEPT_FOR)
            .filter(|(_, r)| r.state != Standing::Pending || !self.enabled || !self.topics.contains(&r.topic))
            .map(|(key, _)| key.clone())
            .collect();
        for key in old {
            if self.queue.remove_note(SPACE, &key).await.is_ok() {
                self.board().records.remove(&key);
            }
        }
    }

    async fn store(&self, key: &str, record: &Record) -> Result<(), QueueError> {
        let value = serde_json::to_string(record).map_err(|error| QueueError::Failed(error.to_string()))?;
        self.queue.put_note(SPACE, key, value).await
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// Whether one more intent of `topic` may be kept, and the key of the one that goes for it, if one must.
    fn make_room(&self, topic: &str) -> Option<Option<String>> {
        let of_topic = || self.records.iter().filter(|(_, r)| r.topic == topic);
        if of_topic().filter(|(_, r)| r.state == Standing::Pending).count() >= PENDING_PER_TOPIC {
            return None;
        }
        let ended = || of_topic().filter_map(|(key, r)| Some((r.ended_at?, key)));
        Some(if ended().count() >= ENDED_PER_TOPIC { ended().min().map(|(_, key)| key.clone()) } else { None })
    }
}

impl Record {
    fn end(&mut self, state: Standing, at: UnixMillis, outcome: String) {
        self.state = state;
        self.ended_at = Some(at);
        self.outcome = outcome;
        self.token = None;
    }
}

fn condition(topic: &str) -> String {
    format!("subscription {topic}")
}

/// The topic and a digest of the token: a token is a credential, so it is no key of anything that is listed.
fn key_of(topic: &str, token: &str) -> String {
    let digest = crate::queue::memory_key(&[topic.as_bytes(), token.as_bytes()]);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{topic} {hex}")
}

/// Doubling from the first wait to the longest, of which `random` picks between a half and the whole.
fn backoff(attempts: u32, random: f64) -> Duration {
    let doubled = BACKOFF.0.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF.1);
    doubled.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5))
}

fn jitter() -> f64 {
    let mut byte = [0; 1];
    // Without randomness the wait is merely regular.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
