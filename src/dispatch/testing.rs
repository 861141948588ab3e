//! What the tests of delivery share: instances, events, and a queue in memory that keeps the contract as far as a dispatcher
//! can tell.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::clock::{Clock as _, SystemClock, UnixMillis};
use crate::config::{CallbackUrl, DispatchConfig, Format, Instance, ObjectFilter, RetrySchedule};
use crate::event::{Event, EventId, EventType, ObjectType, Origin};
use crate::queue::{
    Append, Appended, Attempt, Claim, Filter, InstanceStats, Outcome, Owed, Pending, Queue, QueueError, Row,
    Settlement, State, Stats, Want, memory_key,
};
use crate::secret::Secret;

pub(super) fn config() -> DispatchConfig {
    DispatchConfig {
        concurrency: 8,
        // Far beyond the length of a test: an attempt that ends by it on a slow machine would be taken for another failure.
        attempt_timeout: Duration::from_secs(300),
        retry: RetrySchedule::Exponential,
        max_age: Duration::from_secs(3600),
        max_attempts: 20,
        max_events_per_callback: 1,
        format: Format::Raw,
    }
}

pub(super) fn instance(name: &str, callback: &str) -> Instance {
    Instance {
        name: Arc::from(name),
        id: 1,
        account_id: 0,
        company_id: 0,
        user_id: 0,
        element_key: "amazons3".into(),
        mcs_element_key: "mcss3".into(),
        tags: Vec::new(),
        enabled: true,
        topics: Vec::new(),
        mcs_topics: Vec::new(),
        s3http: None,
        sqs: None,
        listing: None,
        callback: CallbackUrl::Http(callback.parse().expect("a URL")),
        signature_keys: vec![Secret::new("key")],
        headers: Vec::new(),
        basic: None,
        objects: ObjectFilter::default(),
        filter_nulls: None,
        validate: false,
        credentials: None,
        bucket: None,
        region: None,
        buckets: Vec::new(),
    }
}

/// Whether a request's body carries the event of `key`.
pub(super) fn carries(body: &str, key: &str) -> bool {
    body.contains(&format!(r#""key":"{key}""#))
}

pub(super) fn event(key: &str, number: u64) -> Event {
    let digest = memory_key(&[key.as_bytes(), &number.to_be_bytes()]);
    let mut id = [0; 15];
    id.copy_from_slice(&digest[..15]);
    Event {
        id: EventId(id),
        event_type: EventType::Created,
        object_type: ObjectType::File,
        bucket: "bucket".into(),
        key: key.into(),
        raw_key: None,
        event_name: "ObjectCreated:Put".into(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: None,
        time: SystemClock.now(),
        poll_date: None,
        origin: Origin::Sns,
        topic: None,
        region: None,
        message_id: None,
        notification: None,
        raw: RawValue::from_string(format!(r#"{{"key":"{key}"}}"#)).expect("JSON"),
    }
}

/// A delivery as the queue in memory knows it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) instance: Arc<str>,
    pub(super) owed: Arc<Owed>,
    pub(super) attempts: u32,
    pub(super) state: State,
    pub(super) reason: String,
    pub(super) log: Vec<Attempt>,
    first_failed_at: Option<UnixMillis>,
    failed: bool,
    due: UnixMillis,
    claimed: Option<u64>,
    batch: Option<EventId>,
    /// It was in a batch that was split.
    single: bool,
}

#[derive(Default)]
struct Inside {
    kept: BTreeMap<u64, Kept>,
    tokens: u64,
    last_probed: String,
    paused: BTreeMap<String, Duration>,
    settlements: Vec<String>,
    failing_settlements: u32,
}

#[derive(Default)]
pub(super) struct MemoryQueue {
    inside: Mutex<Inside>,
    changed: Notify,
}

impl MemoryQueue {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no panic before")
    }

    pub(super) fn owe(&self, instance: &str, key: &str) {
        let mut inside = self.inside();
        let seq = inside.kept.len() as u64 + 1;
        let paused_at_accept = inside.paused.get(instance).copied().unwrap_or_default();
        let owed = Owed { seq, accepted_at: SystemClock.now(), paused_at_accept, event: event(key, seq) };
        let kept = Kept {
            instance: Arc::from(instance),
            owed: Arc::new(owed),
            attempts: 0,
            state: State::Owed,
            reason: String::new(),
            log: Vec::new(),
            first_failed_at: None,
            failed: false,
            due: UnixMillis(0),
            claimed: None,
            batch: None,
            single: false,
        };
        inside.kept.insert(seq, kept);
        drop(inside);
        self.changed.notify_waiters();
    }

    pub(super) fn fail_settlements(&self, times: u32) {
        self.inside().failing_settlements = times;
    }

    pub(super) fn settlements(&self) -> Vec<String> {
        self.inside().settlements.clone()
    }

    pub(super) fn of_key(&self, key: &str) -> Kept {
        self.inside().kept.values().find(|kept| kept.owed.event.key == key).expect("it was owed").clone()
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.inside().kept.values().filter(|kept| kept.state == state).count()
    }

    /// Waits until `done`, and fails the test when that takes unreasonably long.
    pub(super) async fn until(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut settled = self.settlements();
        settled.truncate(30);
        panic!("it did not come to that; settled: {settled:?}");
    }

    fn take(&self, instance: &str, want: Want) -> Vec<Claim> {
        let now = SystemClock.now();
        let mut inside = self.inside();
        let (mut retries, mut heads, mut busy) = (want.retries, Vec::new(), HashSet::new());
        for (seq, kept) in
            inside.kept.iter().filter(|(_, kept)| kept.state == State::Owed && *kept.instance == *instance)
        {
            let first = busy.insert(kept.owed.event.key.clone());
            let due = want.probe || (kept.due <= now && (!kept.failed || retries > 0));
            if first && kept.claimed.is_none() && due {
                retries -= usize::from(kept.failed && !want.probe);
                heads.push(*seq);
            }
        }
        if want.probe {
            let last = inside.last_probed.clone();
            heads.sort_by_key(|seq| inside.kept[seq].owed.event.key == last);
        }
        let mut claims = Vec::new();
        while let Some(seq) = heads.first().copied().filter(|_| claims.len() < want.claims) {
            let alone = |kept: &Kept| kept.failed || kept.single;
            let (batch, first_alone) = (inside.kept[&seq].batch, alone(&inside.kept[&seq]));
            let members: Vec<u64> = match batch {
                Some(_) => inside.kept.iter().filter(|(_, k)| k.batch == batch).map(|(seq, _)| *seq).collect(),
                None if first_alone || want.probe => vec![seq],
                None => heads.iter().copied().filter(|s| !alone(&inside.kept[s])).take(want.batch).collect(),
            };
            heads.retain(|seq| !members.contains(seq));
            inside.tokens += 1;
            let token = inside.tokens;
            let id = inside.kept[&members[0]].owed.event.id;
            let together = (members.len() > 1).then_some(id);
            let mut items = Vec::new();
            for member in &members {
                let kept = inside.kept.get_mut(member).expect("a member");
                kept.claimed = Some(token);
                kept.batch = together;
                items.push(kept.owed.clone());
            }
            let kept = &inside.kept[&members[0]];
            let (attempts, first_failed_at, key) = (kept.attempts, kept.first_failed_at, kept.owed.event.key.clone());
            if want.probe {
                inside.last_probed = key;
            }
            let instance = Arc::from(instance);
            claims.push(Claim { token, instance, delivery_id: id, items, attempts, first_failed_at });
        }
        claims
    }
}

impl Queue for MemoryQueue {
    fn append(&self, _: Append) -> Pending<'_, Result<Appended, QueueError>> {
        Box::pin(async { Ok(Appended::default()) })
    }

    fn claim<'a>(&'a self, instance: &'a str, want: Want) -> Pending<'a, Vec<Claim>> {
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let claims = self.take(instance, want);
                if !claims.is_empty() {
                    return claims;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        })
    }

    fn settle(&self, settlement: Settlement) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async move {
            let mut inside = self.inside();
            if inside.failing_settlements > 0 {
                inside.failing_settlements -= 1;
                return Err(QueueError::DiskFull);
            }
            inside.settlements.push(format!("{:?}", settlement.outcome));
            for kept in inside.kept.values_mut().filter(|kept| kept.claimed == Some(settlement.token)) {
                kept.claimed = None;
                if let Some(attempt) = &settlement.attempt {
                    kept.attempts += u32::from(attempt.counted);
                    if attempt.counted {
                        kept.first_failed_at.get_or_insert(settlement.at);
                    }
                    kept.log.push(attempt.clone());
                }
                match &settlement.outcome {
                    Outcome::Dead(reason) => {
                        kept.state = State::Dead;
                        kept.reason = reason.clone();
                    }
                    Outcome::Delivered => kept.state = State::Delivered,
                    Outcome::Release => {}
                    Outcome::Retry { at } => {
                        kept.failed = true;
                        kept.due = *at;
                    }
                    Outcome::Split => {
                        kept.batch = None;
                        kept.single = true;
                    }
                }
            }
            drop(inside);
            self.changed.notify_waiters();
            Ok(())
        })
    }

    fn list(&self, _: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn replay(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn discard(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn stats(&self) -> Stats {
        let mut by: BTreeMap<String, InstanceStats> = BTreeMap::new();
        for kept in self.inside().kept.values() {
            let name = kept.instance.to_string();
            let stats = by.entry(name.clone()).or_insert_with(|| InstanceStats { name, ..Default::default() });
            stats.owed += u64::from(kept.state == State::Owed);
        }
        Stats { instances: by.into_values().collect(), ..Default::default() }
    }

    fn note_paused<'a>(&'a self, instance: &'a str, total: Duration) -> Pending<'a, Result<(), QueueError>> {
        self.inside().paused.insert(instance.to_owned(), total);
        Box::pin(async { Ok(()) })
    }

    fn paused(&self, instance: &str) -> Duration {
        self.inside().paused.get(instance).copied().unwrap_or_default()
    }

    fn put_note<'a>(&'a self, _: &'a str, _: &'a str, _: String) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn notes<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Vec<(String, String)>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove_note<'a>(&'a self, _: &'a str, _: &'a str) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {})
    }
}
