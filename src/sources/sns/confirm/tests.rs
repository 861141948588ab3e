use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::clock::ManualClock;
use crate::config::{self, ChainPolicy, QueueConfig};
use crate::queue::Pending;
use crate::queue::embedded::{self, Embedded};
use crate::simulator::authority::{Authority, Leaf};
use crate::sources::sns::chain::{self, Bench, Trust};
use crate::sources::sns::message::{self, Hints};
use crate::sources::sns::verify::{Verified, verify_signature};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:t";
const NOW: UnixMillis = UnixMillis(1_772_826_801_424);

#[test]
fn the_wait_doubles_to_five_minutes_and_keeps_half_of_itself() {
    assert_eq!(backoff(1, 1.0), Duration::from_secs(1));
    assert_eq!(backoff(3, 1.0), Duration::from_secs(4));
    assert_eq!(backoff(3, 0.0), Duration::from_secs(2));
    assert_eq!(backoff(400, 1.0), Duration::from_mins(5));
}

#[test]
fn the_key_of_an_intent_does_not_hold_its_token() {
    let key = key_of(TOPIC, "abcdef0123456789");
    assert!(!key.contains("abcdef0123456789"));
    assert_ne!(key, key_of(TOPIC, "abcdef0123456780"));
}

/// An SNS that takes every token, or answers nothing.
struct Sns {
    calls: AtomicUsize,
    answers: bool,
}

impl Caller for Sns {
    fn confirm<'a>(&'a self, topic: &'a str, _: &'a str) -> Pending<'a, Result<Confirmed, Failure>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if !self.answers {
                std::future::pending::<()>().await;
            }
            Ok(Confirmed { subscription_arn: format!("{topic}:{call}") })
        })
    }
}

/// Proven confirmations, each with a token of its own.
struct Post {
    authority: Authority,
    key: chain::SigningKey,
    sent: u64,
}

impl Post {
    fn new() -> Self {
        let authority = Authority::new(&Leaf::named("sns.amazonaws.com", NOW.to_utc())).expect("an authority");
        let trust = Trust::from_pem(authority.root_pem().as_bytes()).expect("a root");
        let bench = Bench { trust: &trust, issuers: &[], chain: ChainPolicy::Enforce, now: NOW };
        let judged = chain::judge(authority.leaf_pem().as_bytes(), "https://x/", "sns.amazonaws.com", &bench);
        Self { key: judged.expect("a good leaf").key, authority, sent: 0 }
    }

    fn confirmation(&mut self) -> VerifiedConfirmation {
        self.sent += 1;
        let mut message = json!({
            "Type": "SubscriptionConfirmation", "MessageId": "26858270-545e-5848-82a2-e05566af3dcf", "TopicArn": TOPIC,
            "Message": "m", "Timestamp": NOW.to_iso_millis(), "SignatureVersion": "2", "Signature": "",
            "SigningCertURL": "https://x/", "SubscribeURL": "https://x/", "Token": format!("{:064x}", self.sent),
        });
        let text = message.to_string();
        let canonical = message::parse(text.as_bytes(), &Hints::default()).expect("well-formed").canonical_string();
        message["Signature"] = self.authority.signer().sign(2, canonical.as_bytes()).into();
        let text = message.to_string();
        let envelope = message::parse(text.as_bytes(), &Hints::default()).expect("well-formed");
        match verify_signature(&envelope, &self.key) {
            Ok(Verified::SubscriptionConfirmation(confirmation)) => confirmation,
            other => panic!("not proven: {other:?}"),
        }
    }
}

fn store(dir: &Path, clock: &Arc<ManualClock>) -> Arc<Embedded> {
    let config = QueueConfig {
        max_bytes: 1 << 30,
        dead_max_bytes: 1 << 30,
        dedupe_for: Duration::from_hours(24),
        ordering: config::Ordering::Key,
    };
    let metrics = Metrics::register(&mut Registry::default());
    Arc::new(embedded::open(dir, &config, &[Arc::from("a")], Arc::clone(clock) as _, metrics).expect("a store"))
}

struct Bed {
    sns: Arc<Sns>,
    queue: Arc<Embedded>,
    clock: Arc<ManualClock>,
    health: Arc<Health>,
}

impl Bed {
    fn new(dir: &Path, answers: bool) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let sns = Arc::new(Sns { calls: AtomicUsize::new(0), answers });
        Self { sns, queue: store(dir, &clock), clock, health: Arc::default() }
    }

    async fn confirmer(&self, enabled: bool, unsubscribe: UnsubscribePolicy, topics: &[&str]) -> Arc<Confirmer> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let confirmer = Confirmer::new(
            Arc::clone(&self.queue) as _,
            Arc::clone(&self.sns) as _,
            enabled,
            unsubscribe,
            &topics,
            Arc::clone(&self.clock) as _,
            Metrics::register(&mut Registry::default()),
            Arc::clone(&self.health),
        );
        Arc::new(confirmer.await.expect("a readable store"))
    }

    fn calls(&self) -> usize {
        self.sns.calls.load(Ordering::SeqCst)
    }

    async fn notes(&self) -> usize {
        self.queue.notes(SPACE).await.expect("a readable store").len()
    }
}

/// Does what `run` does once, and waits for what it began.
async fn settle(confirmer: &Arc<Confirmer>) {
    loop {
        confirmer.begin_due().await;
        if confirmer.board().in_flight.is_empty() {
            return;
        }
        while !confirmer.board().in_flight.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The bound of 32 once counted ended intents too: after 32 genuine subscriptions in four days the next one was answered 429.
#[tokio::test]
async fn ended_intents_do_not_refuse_new_ones_and_do_not_pile_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await;
    for _ in 0..ENDED_PER_TOPIC + 3 {
        bed.clock.advance(Duration::from_secs(1));
        let taken = confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("stored");
        assert_eq!(taken, "confirmation_accepted");
        settle(&confirmer).await;
    }
    assert_eq!(bed.calls(), ENDED_PER_TOPIC + 3);
    assert_eq!(bed.notes().await, ENDED_PER_TOPIC);
    bed.clock.advance(KEPT_FOR + Duration::from_secs(1));
    settle(&confirmer).await;
    assert_eq!(bed.notes().await, 0);
}

#[tokio::test]
async fn pending_intents_are_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), false), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await;
    for _ in 0..PENDING_PER_TOPIC {
        let taken = confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("stored");
        assert_eq!(taken, "confirmation_accepted");
    }
    assert_eq!(confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("judged"), "rate_limited");
}

/// An intent outlived a restart with its topic disabled, or with POSTERN_SNS_CONFIRM=never, and was confirmed nevertheless.
#[tokio::test]
async fn a_kept_intent_is_left_alone_once_its_topic_or_confirming_is_turned_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await;
    confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("stored");
    for (enabled, topics) in [(true, &[][..]), (false, &[TOPIC][..])] {
        settle(&bed.confirmer(enabled, UnsubscribePolicy::Alarm, topics).await).await;
        assert_eq!((bed.calls(), bed.notes().await), (0, 1));
    }
    settle(&bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await).await;
    assert_eq!(bed.calls(), 1, "turned on again within the token's life");
}

/// A repeated UnsubscribeConfirmation raised its alarm again after the subscription had been restored.
#[tokio::test]
async fn a_repeated_end_of_a_subscription_is_no_news() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Resubscribe, &[TOPIC]).await;
    let message = post.confirmation();
    let taken = confirmer.intend(&message, Intent::Unsubscribed).await.expect("stored");
    assert_eq!(taken, "confirmation_accepted");
    settle(&confirmer).await;
    let taken = confirmer.intend(&message, Intent::Unsubscribed).await.expect("judged");
    assert_eq!((taken, bed.calls(), confirmer.metrics.unsubscribed.get()), ("confirmation_duplicate", 1, 1));
    assert!(bed.health.snapshot()[&condition(TOPIC)].ok);
}

#[tokio::test]
async fn never_confirming_holds_for_restoring_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(false, UnsubscribePolicy::Resubscribe, &[TOPIC]).await;
    let taken = confirmer.intend(&post.confirmation(), Intent::Unsubscribed).await.expect("judged");
    settle(&confirmer).await;
    assert_eq!((taken, bed.calls(), bed.notes().await), ("unsubscribed", 0, 0));
}

/// An intent noted by a clock that ran ahead waited until that time came.
#[tokio::test]
async fn a_clock_that_is_put_back_does_not_put_off_what_is_pending() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await;
    bed.clock.advance(Duration::from_hours(24 * 365));
    confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("stored");
    bed.clock.set(NOW);
    settle(&confirmer).await;
    assert_eq!(bed.calls(), 1);
}

/// A subscription's ARN is all that its UnsubscribeURL holds; `/ready` is open to all.
#[tokio::test]
async fn readiness_does_not_name_the_subscription() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bed, mut post) = (Bed::new(dir.path(), true), Post::new());
    let confirmer = bed.confirmer(true, UnsubscribePolicy::Alarm, &[TOPIC]).await;
    confirmer.intend(&post.confirmation(), Intent::Subscribe).await.expect("stored");
    settle(&confirmer).await;
    let condition = bed.health.snapshot()[&condition(TOPIC)].clone();
    assert!(condition.ok && !condition.reason.contains(TOPIC), "{condition:?}");
}
