//! Every metric name, in one place. Labels come from bounded sets: configuration or words of the code, never from input.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Labels of what a source received.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Received {
    /// `sns`, `mcs`, ...
    pub source: &'static str,
    /// `accepted`, `duplicate`, or the word of the attack table.
    pub reason: &'static str,
    /// Status we answered.
    pub status: u16,
}

/// Labels of something that happened for an instance.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByInstance {
    /// Instance name.
    pub instance: String,
    /// What happened, a word of the code.
    pub outcome: &'static str,
}

/// Labels of a gauge of an instance.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfInstance {
    /// Instance name.
    pub instance: String,
}

/// Labels of something with an outcome only.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// What happened, a word of the code.
    pub outcome: &'static str,
}

/// Labels of a setting that weakens safety.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Setting {
    /// Name of the variable.
    pub setting: &'static str,
}

/// All metrics. Cheap to clone; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests at the intake, by source, answer and reason.
    pub received: Family<Received, Counter>,
    /// Time from the first byte of a request's body to its answer, in seconds.
    pub intake_seconds: Histogram,
    /// What became of events between verification and queue: `queued`, `duplicate`, `filtered`, `foreign_bucket`, `foreign_project`, `set_aside`, `test_event`.
    pub events: Family<ByInstance, Counter>,
    /// Ends of deliveries: `delivered`, `dead`, `superseded`, `discarded`.
    pub deliveries: Family<ByInstance, Counter>,
    /// Attempts by outcome.
    pub attempts: Family<ByInstance, Counter>,
    /// Length of attempts in seconds.
    pub attempt_seconds: Histogram,
    /// Time from acceptance to delivery in seconds.
    pub delivery_seconds: Histogram,
    /// 1 while a callback is paused.
    pub callback_paused: Family<OfInstance, Gauge>,
    /// Owed deliveries.
    pub owed: Family<OfInstance, Gauge>,
    /// Owed bytes.
    pub owed_bytes: Family<OfInstance, Gauge>,
    /// Age of the oldest owed delivery in seconds.
    pub oldest_owed_seconds: Family<OfInstance, Gauge>,
    /// Dead letters.
    pub dead: Family<OfInstance, Gauge>,
    /// Bytes of dead letters.
    pub dead_bytes: Family<OfInstance, Gauge>,
    /// Bytes that may be owed, `POSTERN_QUEUE_MAX_BYTES`.
    pub max_bytes: Gauge,
    /// Bytes of dead letters that may be kept, `POSTERN_DEAD_MAX_BYTES`.
    pub dead_max_bytes: Gauge,
    /// Bytes of the store's files.
    pub store_bytes: Gauge,
    /// 1 while the store refuses work.
    pub store_refusing: Gauge,
    /// Time of a durable commit in seconds.
    pub commit_seconds: Histogram,
    /// Operations in a commit.
    pub commit_operations: Histogram,
    /// Fetches of signing certificates and issuers.
    pub certificate_fetches: Family<Outcome, Counter>,
    /// Broken chains that `POSTERN_SNS_CHAIN=warn` let pass, and unknown issuers.
    pub chain_problems: Family<Outcome, Counter>,
    /// Subscription confirmations.
    pub confirmations: Family<Outcome, Counter>,
    /// UnsubscribeConfirmations of allowed topics: somebody ended a subscription.
    pub unsubscribed: Counter,
    /// Our clock minus the clocks of those we fetched from, in seconds.
    pub clock_skew_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    /// Open connections of the intake listener.
    pub connections: Gauge,
    /// Connections refused or cut, by reason.
    pub connections_cut: Family<Outcome, Counter>,
    /// Reloads of the listener's certificate.
    pub tls_reloads: Family<Outcome, Counter>,
    /// End of the listener's certificate, in Unix seconds.
    pub tls_not_after: Gauge,
    /// Settings that weaken safety: 1 for each that is on.
    pub weakened: Family<Setting, Gauge>,
    /// Problems with the data directory: `overlay`, `tmpfs`.
    pub volatile_data_dir: Gauge,
    /// Messages taken from SQS by what became of them, in the words of the intake.
    pub sqs_messages: Family<ByInstance, Counter>,
    /// Calls of SQS that failed, by a word: `throttled`, `denied`, `unreachable`, ...
    pub sqs_failures: Family<ByInstance, Counter>,
    /// Ended walks through a bucket by outcome: `complete`, or the word of what failed.
    pub listing_walks: Family<ByInstance, Counter>,
    /// Keys that listings returned.
    pub listing_keys: Family<OfInstance, Counter>,
    /// From the beginning of one walk to that of the next, in seconds, as it is configured.
    pub listing_interval: Family<OfInstance, Gauge>,
    /// When the last complete walk ended, in Unix seconds.
    pub listing_completed: Family<OfInstance, Gauge>,
    /// Length of a complete walk in seconds.
    pub listing_seconds: Histogram,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
}

fn long_seconds() -> Histogram {
    Histogram::new([0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0])
}

impl Metrics {
    /// Makes all metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self {
            received: Family::default(),
            intake_seconds: seconds(),
            events: Family::default(),
            deliveries: Family::default(),
            attempts: Family::default(),
            attempt_seconds: seconds(),
            delivery_seconds: long_seconds(),
            callback_paused: Family::default(),
            owed: Family::default(),
            owed_bytes: Family::default(),
            oldest_owed_seconds: Family::default(),
            dead: Family::default(),
            dead_bytes: Family::default(),
            max_bytes: Gauge::default(),
            dead_max_bytes: Gauge::default(),
            store_bytes: Gauge::default(),
            store_refusing: Gauge::default(),
            commit_seconds: seconds(),
            commit_operations: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            certificate_fetches: Family::default(),
            chain_problems: Family::default(),
            confirmations: Family::default(),
            unsubscribed: Counter::default(),
            clock_skew_seconds: Gauge::default(),
            connections: Gauge::default(),
            connections_cut: Family::default(),
            tls_reloads: Family::default(),
            tls_not_after: Gauge::default(),
            weakened: Family::default(),
            volatile_data_dir: Gauge::default(),
            sqs_messages: Family::default(),
            sqs_failures: Family::default(),
            listing_walks: Family::default(),
            listing_keys: Family::default(),
            listing_interval: Family::default(),
            listing_completed: Family::default(),
            listing_seconds: long_seconds(),
        };
        let r = registry.sub_registry_with_prefix("postern");
        r.register("build", "Version of this build", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        r.register("intake_requests", "Requests at the intake by source, reason and status", m.received.clone());
        r.register("intake_duration_seconds", "Time to judge, store and answer a request", m.intake_seconds.clone());
        r.register("events", "Events between verification and queue by outcome", m.events.clone());
        r.register("deliveries", "Ended deliveries by outcome", m.deliveries.clone());
        r.register("attempts", "Delivery attempts by outcome", m.attempts.clone());
        r.register("attempt_duration_seconds", "Length of a delivery attempt", m.attempt_seconds.clone());
        r.register("delivery_latency_seconds", "Time from acceptance to delivery", m.delivery_seconds.clone());
        r.register("callback_paused", "Whether the callback is paused", m.callback_paused.clone());
        r.register("queue_owed", "Deliveries owed", m.owed.clone());
        r.register("queue_owed_bytes", "Bytes of deliveries owed", m.owed_bytes.clone());
        r.register("queue_oldest_owed_seconds", "Age of the oldest delivery owed", m.oldest_owed_seconds.clone());
        r.register("queue_dead", "Dead letters kept", m.dead.clone());
        r.register("queue_dead_bytes", "Bytes of dead letters kept", m.dead_bytes.clone());
        r.register("queue_max_bytes", "Bytes that may be owed", m.max_bytes.clone());
        r.register("queue_dead_max_bytes", "Bytes of dead letters that may be kept", m.dead_max_bytes.clone());
        r.register("store_bytes", "Bytes of the store's files", m.store_bytes.clone());
        r.register("store_refusing", "Whether the store refuses work", m.store_refusing.clone());
        r.register("store_commit_duration_seconds", "Time of a durable commit", m.commit_seconds.clone());
        r.register("store_commit_operations", "Operations carried by one commit", m.commit_operations.clone());
        r.register("certificate_fetches", "Fetches of signing certificates and issuers", m.certificate_fetches.clone());
        r.register("chain_problems", "Certificate chains that led nowhere we know", m.chain_problems.clone());
        r.register("confirmations", "Subscription confirmations by outcome", m.confirmations.clone());
        r.register("unsubscribed", "UnsubscribeConfirmations of allowed topics", m.unsubscribed.clone());
        r.register(
            "clock_skew_seconds",
            "Our clock minus the clocks of those we fetch from",
            m.clock_skew_seconds.clone(),
        );
        r.register("intake_connections", "Open connections of the intake", m.connections.clone());
        r.register("intake_connections_cut", "Connections refused or cut by reason", m.connections_cut.clone());
        r.register("tls_reloads", "Reloads of the intake's certificate by outcome", m.tls_reloads.clone());
        r.register("tls_not_after_timestamp_seconds", "End of the intake's certificate", m.tls_not_after.clone());
        r.register("weakened_setting", "Settings that weaken safety", m.weakened.clone());
        r.register(
            "data_dir_volatile",
            "Whether the data directory does not outlive the container",
            m.volatile_data_dir.clone(),
        );
        r.register("sqs_messages", "Messages taken from SQS by outcome", m.sqs_messages.clone());
        r.register("sqs_failures", "Calls of SQS that failed", m.sqs_failures.clone());
        r.register("listing_walks", "Ended walks through a bucket by outcome", m.listing_walks.clone());
        r.register("listing_keys", "Keys that listings returned", m.listing_keys.clone());
        r.register("listing_interval_seconds", "From one walk's beginning to the next", m.listing_interval.clone());
        r.register(
            "listing_completed_timestamp_seconds",
            "When the last complete walk ended",
            m.listing_completed.clone(),
        );
        r.register("listing_duration_seconds", "Length of a complete walk", m.listing_seconds.clone());
        m
    }

    /// Counts something that happened for `instance`.
    pub fn count(family: &Family<ByInstance, Counter>, instance: &str, outcome: &'static str, by: u64) {
        if by > 0 {
            family.get_or_create(&ByInstance { instance: instance.to_owned(), outcome }).inc_by(by);
        }
    }
}
