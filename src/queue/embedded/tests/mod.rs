//! The contract of the queue on a real disk.

mod changes;
mod damaged;
mod failure;
mod refused;
mod upkeep;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::value::RawValue;

use super::{Embedded, OpenError, open, open_readonly};
use crate::clock::{ManualClock, UnixMillis};
use crate::config::{self, QueueConfig};
use crate::event::{Event, EventId, EventType, ObjectType, Origin, Sequencer};
use crate::queue::{
    Append, Attempt, Claim, Filter, NewDelivery, Outcome, Queue, QueueError, SetAside, Settlement, State, Want,
};
use crate::telemetry::metrics::{ByInstance, Metrics};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

struct Bed {
    queue: Embedded,
    clock: Arc<ManualClock>,
    metrics: Metrics,
}

impl Bed {
    /// Ends of deliveries to `instance` that the metrics tell of.
    fn ended(&self, instance: &str, outcome: &'static str) -> u64 {
        let of = ByInstance { instance: instance.into(), outcome };
        self.metrics.deliveries.get_or_create(&of).get()
    }
}

fn config() -> QueueConfig {
    QueueConfig {
        max_bytes: 1 << 30,
        dead_max_bytes: 1 << 30,
        dedupe_for: Duration::from_secs(86_400),
        ordering: config::Ordering::Key,
    }
}

fn start_with(dir: &Path, config: &QueueConfig, names: &[&str]) -> Result<Bed, OpenError> {
    let clock = Arc::new(ManualClock::at(NOW));
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    let metrics = Metrics::register(&mut Registry::default());
    let queue = open(dir, config, &names, Arc::clone(&clock) as _, metrics.clone())?;
    Ok(Bed { queue, clock, metrics })
}

fn start(dir: &Path) -> Bed {
    start_with(dir, &config(), &["a"]).expect("a fresh directory opens")
}

fn event(n: u32, key: &str, sequencer: Option<u64>) -> Event {
    let mut id = [0; 15];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Event {
        id: EventId(id),
        event_type: EventType::Created,
        object_type: ObjectType::File,
        bucket: "b".into(),
        key: key.into(),
        raw_key: None,
        event_name: "ObjectCreated:Put".into(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: sequencer.map(Sequencer::Integer),
        time: NOW,
        poll_date: None,
        origin: Origin::Sns,
        topic: None,
        region: None,
        message_id: None,
        notification: None,
        raw: RawValue::from_string(format!("{{\"n\":  {n}}}")).expect("JSON"),
    }
}

fn append_of(events: Vec<Event>) -> Append {
    append_to("a", events)
}

fn append_to(instance: &str, events: Vec<Event>) -> Append {
    let deliveries =
        events.into_iter().map(|event| NewDelivery { instance: instance.into(), event, change: None }).collect();
    Append { message: None, received_at: NOW, deliveries, set_aside: Vec::new() }
}

const WANT: Want = Want { claims: 64, retries: 64, batch: 1, probe: false };

async fn claim_within(bed: &Bed, want: Want) -> Vec<Claim> {
    tokio::time::timeout(PATIENCE, bed.queue.claim("a", want)).await.expect("something is owed")
}

async fn nothing_to_claim(bed: &Bed) -> bool {
    tokio::time::timeout(Duration::from_millis(100), bed.queue.claim("a", WANT)).await.is_err()
}

/// As long as a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(120);

async fn wait_until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it came about");
}

async fn settle(bed: &Bed, claim: &Claim, outcome: Outcome, counted: bool) {
    let attempt = Attempt { at: NOW, took_ms: 1, status: None, outcome: "test".into(), detail: String::new(), counted };
    let settlement = Settlement { token: claim.token, outcome, attempt: Some(attempt), at: NOW };
    bed.queue.settle(settlement).await.expect("settled");
}

/// What a kill at this moment would leave: the files as they are, in another directory.
fn crash(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["postern.db", "postern.db-wal"] {
        let _ = std::fs::copy(dir.join(name), copy.path().join(name));
    }
    copy
}

fn numbers(claims: &[Claim]) -> Vec<String> {
    claims.iter().flat_map(|claim| &claim.items).map(|owed| owed.event.raw.get().to_owned()).collect()
}

#[tokio::test]
async fn what_was_answered_is_owed_after_a_kill_with_its_bytes_attempts_and_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let appended =
        bed.queue.append(append_of(vec![event(1, "x", Some(1)), event(2, "y", None)])).await.expect("stored");
    assert_eq!((appended.queued, appended.duplicates), (2, 0));
    let claims = claim_within(&bed, WANT).await;
    assert_eq!(claims.len(), 2);
    settle(&bed, &claims[0], Outcome::Retry { at: NOW }, true).await;
    bed.queue.put_note("s", "k", "v".into()).await.expect("kept");
    bed.queue.note_paused("a", Duration::from_secs(7)).await.expect("kept");

    let copy = crash(dir.path());
    let after = start(copy.path());
    let mut claims = claim_within(&after, WANT).await;
    if claims.len() == 1 {
        claims.extend(claim_within(&after, WANT).await);
    }
    claims.sort_by_key(|claim| claim.items[0].seq);
    assert_eq!(numbers(&claims), ["{\"n\":  1}", "{\"n\":  2}"]);
    assert_eq!((claims[0].attempts, claims[0].first_failed_at), (1, Some(NOW)));
    assert_eq!(claims[1].attempts, 0, "a claim that was not settled counts no attempt");
    let again = after.queue.append(append_of(vec![event(1, "x", Some(1))])).await.expect("answered");
    assert_eq!((again.queued, again.duplicates), (0, 1));
    assert_eq!(after.queue.notes("s").await.expect("read"), [("k".to_owned(), "v".to_owned())]);
    assert_eq!(after.queue.paused("a"), Duration::from_secs(7));
}

#[tokio::test]
async fn a_log_with_a_torn_tail_keeps_every_commit_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    let whole = std::fs::metadata(dir.path().join("postern.db-wal")).expect("a log").len();
    bed.queue.append(append_of(vec![event(2, "y", None)])).await.expect("stored");
    let copy = crash(dir.path());
    let log = std::fs::OpenOptions::new().write(true).open(copy.path().join("postern.db-wal")).expect("a log");
    log.set_len(whole + 100).expect("cut");
    let after = start(copy.path());
    assert_eq!(numbers(&claim_within(&after, WANT).await), ["{\"n\":  1}"]);
    let again = after.queue.append(append_of(vec![event(2, "y", None)])).await.expect("stored");
    assert_eq!(again.queued, 1, "the memory of the torn commit is gone with its events");
}

#[tokio::test]
async fn a_notification_is_appended_once_until_its_memory_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let again = |n| Append { message: Some([9; 16]), ..append_of(vec![event(n, "x", None)]) };
    assert_eq!(bed.queue.append(again(1)).await.expect("stored").queued, 1);
    assert!(bed.queue.append(again(2)).await.expect("answered").duplicate_message);
    bed.clock.advance(Duration::from_secs(86_399));
    assert!(bed.queue.append(again(3)).await.expect("answered").duplicate_message);
    bed.clock.advance(Duration::from_secs(86_400));
    assert_eq!(bed.queue.append(again(4)).await.expect("stored").queued, 1);
}

#[tokio::test]
async fn a_lane_goes_one_by_one_by_sequencer_and_what_is_older_than_delivered_ends_superseded() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let events = vec![event(5, "x", Some(5)), event(3, "x", Some(3)), event(4, "x", Some(4))];
    bed.queue.append(append_of(events)).await.expect("stored");
    for n in [3, 4, 5] {
        let claims = claim_within(&bed, WANT).await;
        assert_eq!(numbers(&claims), [format!("{{\"n\":  {n}}}")]);
        assert!(nothing_to_claim(&bed).await, "one of a lane at a time");
        settle(&bed, &claims[0], Outcome::Delivered, true).await;
    }
    bed.queue.append(append_of(vec![event(2, "x", Some(2))])).await.expect("stored");
    assert!(nothing_to_claim(&bed).await);
    // It ends with the transaction after the one that took it.
    wait_until(|| bed.ended("a", "superseded") == 1).await;
    let filter = Filter { states: vec![State::Superseded], ..Filter::default() };
    assert_eq!(bed.queue.list(filter.clone()).await.expect("read").len(), 1);
    // Also after a restart, when the lane is known from disk only.
    let after = start(crash(dir.path()).path());
    after.queue.append(append_of(vec![event(1, "x", Some(1))])).await.expect("stored");
    assert!(nothing_to_claim(&after).await);
    // A replay is delivered all the same.
    assert_eq!(bed.queue.replay(filter).await.expect("replayed"), 1);
    assert_eq!(numbers(&claim_within(&bed, WANT).await), ["{\"n\":  2}"]);
}

#[tokio::test]
async fn a_batch_keeps_its_members_and_its_id_over_retry_and_restart_until_it_is_split() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let events = (1..=5).map(|n| event(n, if n % 2 == 0 { "x" } else { "y" }, None)).collect();
    bed.queue.append(append_of(events)).await.expect("stored");
    let batching = Want { claims: 1, batch: 3, ..WANT };
    let first = claim_within(&bed, batching).await.remove(0);
    assert_eq!(first.items.len(), 3);
    settle(&bed, &first, Outcome::Retry { at: NOW }, true).await;
    let after = start(crash(dir.path()).path());
    // The two that were never tried may come first, here or after the split.
    let tried = async || loop {
        let claim = claim_within(&after, Want { batch: 20, ..batching }).await.remove(0);
        if claim.attempts > 0 {
            return claim;
        }
    };
    let again = tried().await;
    let seqs = |claim: &Claim| claim.items.iter().map(|owed| owed.seq).collect::<Vec<_>>();
    assert_eq!((again.delivery_id, seqs(&again), again.attempts), (first.delivery_id, seqs(&first), 1));
    settle(&after, &again, Outcome::Split, true).await;
    let single = tried().await;
    assert_eq!(single.attempts, 2);
    assert_eq!((single.items.len(), single.delivery_id), (1, single.items[0].event.id));
}

#[tokio::test]
async fn a_dropped_claim_hands_out_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    loop {
        // Polled once: the composition is on its way to the writer when the future is dropped. On a busy machine it may have
        // been there and back within the poll.
        let mut claim = bed.queue.claim("a", Want { batch: 5, ..WANT });
        tokio::select! {
            biased;
            claims = &mut claim => settle(&bed, &claims[0], Outcome::Release, false).await,
            () = std::future::ready(()) => break,
        }
    }
    while bed.queue.shared.state().claims() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(claim_within(&bed, Want { batch: 5, ..WANT }).await.len(), 1);
}

#[tokio::test]
async fn bounds_refuse_and_no_instance_takes_more_than_half() {
    let dir = tempfile::tempdir().expect("a directory");
    let size = serde_json::to_string(&event(1, "x", None)).expect("JSON").len() as u64;
    let small = QueueConfig { max_bytes: size * 4, dead_max_bytes: size, ..config() };
    let bed = start_with(dir.path(), &small, &["a", "b"]).expect("opened");
    for n in 1..=2 {
        bed.queue.append(append_to("a", vec![event(n, "x", None)])).await.expect("stored");
    }
    let refused = bed.queue.append(append_to("a", vec![event(3, "x", None)])).await;
    assert_eq!(refused, Err(QueueError::Full { owed_bytes: size * 2, max_bytes: size * 2 }));
    bed.queue.append(append_to("b", vec![event(4, "x", None)])).await.expect("the other half is free");
    let claim = claim_within(&bed, WANT).await.remove(0);
    settle(&bed, &claim, Outcome::Dead("because".into()), true).await;
    let refused = bed.queue.append(append_to("b", vec![event(5, "x", None)])).await;
    assert_eq!(refused, Err(QueueError::DeadFull { max_bytes: size }));
    let dead = Filter { states: vec![State::Dead], ..Filter::default() };
    let rows = bed.queue.list(dead.clone()).await.expect("read");
    assert_eq!((rows[0].reason.as_deref(), rows[0].attempts, rows[0].log.len()), (Some("because"), 1, 1));
    assert_eq!(bed.queue.discard(dead).await.expect("discarded"), 1);
    bed.queue.append(append_to("b", vec![event(5, "x", None)])).await.expect("there is room again");
}

#[tokio::test]
async fn a_store_has_one_owner_private_files_and_a_format() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let second = start_with(dir.path(), &config(), &["a"]).err().expect("refused");
    assert!(second.to_string().contains("in use by another postern"), "{second}");
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    for name in ["postern.db", "postern.db-wal", "postern.lock"] {
        let mode = std::fs::metadata(dir.path().join(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(open_readonly(dir.path()).expect("opened").list(&Filter::default()).expect("read").len(), 1);
    bed.queue.close().await;
    assert_eq!(bed.queue.append(append_of(vec![event(2, "x", None)])).await, Err(QueueError::Closed));
    rusqlite::Connection::open(dir.path().join("postern.db"))
        .and_then(|c| c.pragma_update(None, "user_version", 9))
        .expect("set");
    assert!(matches!(start_with(dir.path(), &config(), &["a"]), Err(OpenError::Newer { found: 9, .. })));
}

#[tokio::test]
async fn what_is_set_aside_is_dead_at_once_and_can_be_replayed() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let aside = SetAside {
        instance: "a".into(),
        reason: "bad_payload",
        detail: "no records".into(),
        event: event(1, "x", None),
    };
    let append = Append { message: None, received_at: NOW, deliveries: Vec::new(), set_aside: vec![aside] };
    assert_eq!(bed.queue.append(append).await.expect("stored").set_aside, 1);
    assert_eq!(
        bed.queue.list(Filter::default()).await.expect("read")[0].reason.as_deref(),
        Some("bad_payload: no records")
    );
    assert_eq!(bed.queue.replay(Filter::default()).await.expect("replayed"), 1);
    assert_eq!(numbers(&claim_within(&bed, WANT).await), ["{\"n\":  1}"]);
}

#[tokio::test]
async fn without_ordering_events_of_one_object_go_side_by_side_and_none_is_superseded() {
    let dir = tempfile::tempdir().expect("a directory");
    let unordered = QueueConfig { ordering: config::Ordering::None, ..config() };
    let bed = start_with(dir.path(), &unordered, &["a"]).expect("opened");
    let events = [3, 1, 2].map(|n| event(n, "x", Some(u64::from(n)))).into();
    bed.queue.append(append_of(events)).await.expect("stored");
    let claims = claim_within(&bed, WANT).await;
    assert_eq!(numbers(&claims), ["{\"n\":  3}", "{\"n\":  1}", "{\"n\":  2}"], "by arrival, all at once");
    for claim in &claims {
        settle(&bed, claim, Outcome::Delivered, true).await;
    }
    bed.queue.append(append_of(vec![event(4, "x", Some(0))])).await.expect("stored");
    assert_eq!(claim_within(&bed, WANT).await.len(), 1, "older than what was delivered, and delivered all the same");
}

#[tokio::test]
async fn a_claim_that_is_not_known_is_told_as_such_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    let claim = claim_within(&bed, WANT).await.remove(0);
    settle(&bed, &claim, Outcome::Delivered, true).await;
    for token in [claim.token, 999] {
        let again = Settlement { token, outcome: Outcome::Dead("no".into()), attempt: None, at: NOW };
        let refused = bed.queue.settle(again).await.expect_err("unknown");
        assert_eq!((refused.label(), &refused), ("unknown_claim", &QueueError::UnknownClaim { token }));
    }
    assert_eq!((bed.ended("a", "delivered"), bed.ended("a", "dead")), (1, 0));
}

#[tokio::test]
async fn every_end_is_counted_once_and_what_was_set_aside_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let aside =
        SetAside { instance: "a".into(), reason: "bad_payload", detail: String::new(), event: event(9, "z", None) };
    let events = vec![event(1, "x", Some(5)), event(2, "y", None), event(3, "w", None)];
    let append = Append { set_aside: vec![aside], ..append_of(events) };
    bed.queue.append(append).await.expect("stored");
    let mut claims = claim_within(&bed, WANT).await;
    claims.sort_by_key(|claim| claim.items[0].seq);
    settle(&bed, &claims[0], Outcome::Delivered, true).await;
    settle(&bed, &claims[1], Outcome::Dead("because".into()), true).await;
    settle(&bed, &claims[2], Outcome::Retry { at: UnixMillis(NOW.0 + 60_000) }, true).await;
    bed.queue.append(append_of(vec![event(4, "x", Some(1))])).await.expect("stored");
    assert!(nothing_to_claim(&bed).await);
    let ends = || ["delivered", "dead", "superseded", "discarded"].map(|outcome| bed.ended("a", outcome));
    wait_until(|| bed.ended("a", "superseded") == 1).await;
    assert_eq!(ends(), [1, 1, 1, 0]);
    assert_eq!(bed.queue.discard(Filter::default()).await.expect("discarded"), 3, "one owed, one dead, one set aside");
    assert_eq!(ends(), [1, 1, 1, 1], "what was dead had ended before");
}
