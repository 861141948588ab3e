//! What is said at every start: which ways in are open, what weakens them, and never a secret.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{
    ChainPolicy, Config, Instance, ListingConfig, ListingKind, S3HttpAuth, S3HttpConfig, is_acceptable_endpoint,
};
use crate::health::Health;
use crate::queue::embedded::Embedded;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{OfInstance, Setting};

/// Says at every start what is open, and what an operator should know about it.
pub(super) fn announce(
    config: &Config,
    intake: SocketAddr,
    admin: SocketAddr,
    metrics: &Metrics,
    health: &Health,
    queue: &Embedded,
) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for (setting, is) in weakened(config) {
        metrics.weakened.get_or_create(&Setting { setting }).set(i64::from(is));
    }
    if let Some(kind) = queue.volatile_filesystem() {
        metrics.volatile_data_dir.set(1);
        let reason = format!(
            "POSTERN_DATA_DIR {} is on {kind}: what is owed does not outlive the container; mount a volume there",
            config.data_dir.display()
        );
        health.degraded("data directory", reason);
    }
    for instance in &config.instances {
        let ways = Ways::of(instance);
        // A way that is not there is no field.
        tracing::info!(
            instance = &*instance.name,
            id = instance.id,
            enabled = instance.enabled,
            element = instance.element_key,
            topics = ways.topics,
            mcs = ways.mcs,
            s3http = ways.s3http,
            sqs = ways.sqs,
            polling = ways.polling,
            reconcile = ways.reconcile,
            callback = %instance.callback,
            "instance"
        );
        if let Some(listing) = instance.listing.as_ref().filter(|_| instance.enabled) {
            let labels = OfInstance { instance: instance.name.to_string() };
            let seconds = i64::try_from(listing.every.as_secs()).unwrap_or(i64::MAX);
            metrics.listing_interval.get_or_create(&labels).set(seconds);
        }
        #[cfg(not(feature = "aws"))]
        if instance.validate {
            let reason =
                "validate.instance is true, and this build has no AWS SDK to check anything with (feature aws)";
            health.degraded(&format!("instance {}", instance.name), reason);
        }
    }
    tracing::info!(
        intake = %intake,
        routes = routes(config),
        tls = config.tls.is_some(),
        admin = %admin,
        data_dir = %config.data_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "postern is open"
    );
}

/// Every setting that can weaken what proves an event, and whether it does.
///
/// A secret path without `POSTERN_S3HTTP_AUTH` is not among them: it is what DESIGN asks of records that carry no proof. One that
/// can be guessed or read on the way is.
fn weakened(config: &Config) -> [(&'static str, bool); 8] {
    let any = |is: fn(&Instance) -> bool| config.instances.iter().any(|instance| instance.enabled && is(instance));
    let unverified = |i: &Instance| !i.topics.is_empty() && i.sqs.as_ref().is_some_and(|queues| !queues.verify);
    [
        ("POSTERN_SNS_ENDPOINT_URL", config.sns.endpoint.is_some()),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", config.sns.trust_anchor_file.is_some()),
        ("POSTERN_SNS_CHAIN", config.sns.chain != ChainPolicy::Enforce),
        ("POSTERN_TLS", config.tls.is_none()),
        ("POSTERN_MCS_URL", config.mcs.iter().any(|endpoint| endpoint.weak)),
        ("POSTERN_S3HTTP_SECRET", any(|i| i.s3http.as_ref().is_some_and(S3HttpConfig::is_weak))),
        ("POSTERN_SQS_VERIFY", any(unverified)),
        ("POSTERN_S3_ENDPOINT_URL", config.s3.endpoint.as_ref().is_some_and(|url| !is_acceptable_endpoint(url))),
    ]
}

/// The ways in of one instance in words; `None` for those that it does not have.
#[derive(Debug, Default)]
struct Ways {
    topics: Option<String>,
    mcs: Option<String>,
    s3http: Option<String>,
    sqs: Option<String>,
    polling: Option<String>,
    reconcile: Option<String>,
}

impl Ways {
    fn of(instance: &Instance) -> Self {
        let listing = |kind| instance.listing.as_ref().filter(|listing| listing.kind == kind).map(listed);
        let mcs: Vec<String> = instance.mcs_topics.iter().map(|t| format!("{}|{}", t.project, t.bucket)).collect();
        Self {
            topics: some(instance.topics.join(",")),
            mcs: some(mcs.join(",")),
            s3http: instance.s3http.as_ref().map(proven_by),
            sqs: instance.sqs.as_ref().map(|queues| {
                // Neither user information nor a query is accepted in a queue's URL; here they would not be shown either.
                let shown = |url: &url::Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
                let urls: Vec<String> = queues.queues.iter().map(shown).collect();
                let proof = if queues.verify { "SNS signatures checked" } else { "whoever may send to it is believed" };
                format!("{}; {proof}", urls.join(","))
            }),
            polling: listing(ListingKind::Poll),
            reconcile: listing(ListingKind::Reconcile),
        }
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Who sends bare records, and what proves it.
fn proven_by(s3http: &S3HttpConfig) -> String {
    let sender = if s3http.preset.is_empty() { "generic" } else { s3http.preset };
    let secret = if s3http.secrets.len() > 1 { "one of two secrets in the URL" } else { "the secret in the URL" };
    let besides = match &s3http.auth {
        None => " alone".to_owned(),
        Some(S3HttpAuth::Authorization(_)) => " and the Authorization header".to_owned(),
        Some(S3HttpAuth::B2Signature(_)) => " and B2's signature".to_owned(),
        Some(S3HttpAuth::Header(name, _)) => format!(" and the header {name}"),
        Some(S3HttpAuth::OpaqueData(_)) => " and opaqueData".to_owned(),
    };
    let rotated = if s3http.old_auth.is_some() { ", the new or the old one" } else { "" };
    format!("{sender}, proven by {secret}{besides}{rotated}")
}

/// Which buckets are listed, and when.
fn listed(listing: &ListingConfig) -> String {
    let every = |pause: Duration| humantime::format_duration(pause).to_string();
    let prefixes = match listing.prefixes.len() {
        0 => String::new(),
        1 => " (1 prefix)".to_owned(),
        count => format!(" ({count} prefixes)"),
    };
    let initial = if listing.emit_initial { ", the first walk too" } else { "" };
    let grace = match listing.kind {
        ListingKind::Poll => String::new(),
        ListingKind::Reconcile => format!(", what is older than {}", every(listing.grace)),
    };
    format!("{}{prefixes} every {}{grace}{initial}", listing.buckets.join(","), every(listing.every))
}

/// The routes that are open for events, with dots in the place of secrets.
fn routes(config: &Config) -> String {
    let enabled = || config.instances.iter().filter(|instance| instance.enabled);
    let mut routes = Vec::new();
    if enabled().any(|instance| !instance.topics.is_empty()) {
        routes.push("/sns");
    }
    if enabled().any(|instance| !instance.mcs_topics.is_empty()) {
        for endpoint in &config.mcs {
            // Elsewhere any part of the path may be the secret.
            let usual = endpoint.target.expose().starts_with("/mcs/");
            routes.push(if usual { "/mcs/…" } else { "the path of POSTERN_MCS_URL" });
        }
    }
    if enabled().any(|instance| instance.s3http.is_some()) {
        routes.push("/s3/…");
    }
    routes.dedup();
    match routes.is_empty() {
        false => routes.join(", "),
        true if enabled().next().is_none() => "none: every instance is disabled".to_owned(),
        true => "none: events are fetched".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let least = [("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"), ("POSTERN_INSTANCE_NAME", "n")];
        let tls = [("POSTERN_TLS_CERT_FILE", "/c"), ("POSTERN_TLS_KEY_FILE", "/k")];
        let env: BTreeMap<String, String> =
            [&least[..], &tls, pairs].concat().iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        crate::config::load(&env).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn weak(pairs: &[(&str, &str)]) -> Vec<&'static str> {
        weakened(&config(pairs)).into_iter().filter(|(_, is)| *is).map(|(setting, _)| setting).collect()
    }

    const TOPIC: (&str, &str) = ("EVENT_SNS_TOPIC_ARN", "arn:aws:sns:eu-west-1:123456789012:t");
    const MCS: (&str, &str) = ("POSTERN_MCS_TOPICS", "mcs1|a, mcs2|b");
    const PUBLIC: (&str, &str) = ("POSTERN_PUBLIC_URL", "https://events.example.com");

    #[test]
    fn an_instance_says_which_ways_in_it_has_and_no_secret_of_them() {
        let pairs = [
            TOPIC,
            MCS,
            PUBLIC,
            ("POSTERN_MCS_SECRET", "hunter2-hunter2-hunter2"),
            ("POSTERN_S3HTTP_SECRET", "hunter2-hunter2-hunter2"),
            ("POSTERN_S3HTTP_PRESET", "minio"),
            ("POSTERN_S3HTTP_AUTH", "Basic relay:hunter2"),
        ];
        let config = config(&pairs);
        let ways = Ways::of(&config.instances[0]);
        assert_eq!(ways.topics.as_deref(), Some(TOPIC.1));
        assert_eq!(ways.mcs.as_deref(), Some("mcs1|a,mcs2|b"));
        assert_eq!(ways.s3http.as_deref(), Some("minio, proven by the secret in the URL and the Authorization header"));
        assert_eq!((&ways.sqs, &ways.polling, &ways.reconcile), (&None, &None, &None));
        assert!(!format!("{ways:?}").contains("hunter2"), "{ways:?}");
        assert_eq!(routes(&config), "/sns, /mcs/…, /s3/…");
    }

    #[cfg(feature = "aws")]
    #[test]
    fn what_is_fetched_is_named_with_its_interval() {
        let queue = ("POSTERN_SQS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/q");
        let fetched = config(&[queue, ("POSTERN_BUCKETS", "a,b"), ("POSTERN_RECONCILE", "1h")]);
        let ways = Ways::of(&fetched.instances[0]);
        assert_eq!(
            ways.sqs.as_deref(),
            Some("https://sqs.eu-west-1.amazonaws.com/123456789012/q; whoever may send to it is believed")
        );
        assert_eq!(ways.reconcile.as_deref(), Some("a,b every 1h, what is older than 15m"));
        assert_eq!(routes(&fetched), "none: events are fetched");

        let polled = config(&[
            ("EVENT_VENDOR_TYPE", "polling"),
            ("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "c", "prefix": ["in/", "out/"]}"#),
            ("POSTERN_POLL_INITIAL", "emit"),
        ]);
        let ways = Ways::of(&polled.instances[0]);
        assert_eq!(ways.polling.as_deref(), Some("c (2 prefixes) every 15m, the first walk too"));
    }

    #[test]
    fn a_path_of_the_operators_own_is_not_shown_and_a_disabled_instance_opens_nothing() {
        let own = config(&[MCS, ("POSTERN_MCS_URL", "https://events.example.com/hooks/hunter2hunter2hunter2")]);
        assert_eq!(routes(&own), "the path of POSTERN_MCS_URL");
        let off = config(&[TOPIC, ("EVENT_NOTIFICATION_ENABLED", "false")]);
        assert_eq!(routes(&off), "none: every instance is disabled");
    }

    #[test]
    fn what_can_be_guessed_or_read_on_the_way_is_shown_as_weaker() {
        let secret = ("POSTERN_MCS_SECRET", "one-secret-without-blanks");
        assert_eq!(weak(&[TOPIC]), [""; 0]);
        assert_eq!(weak(&[MCS, PUBLIC, secret]), [""; 0]);
        assert_eq!(weak(&[MCS, PUBLIC, ("POSTERN_MCS_SECRET", "short")]), ["POSTERN_MCS_URL"]);
        assert_eq!(weak(&[MCS, ("POSTERN_MCS_URL", "https://events.example.com/webhook")]), ["POSTERN_MCS_URL"]);
        assert_eq!(weak(&[MCS, secret, ("POSTERN_PUBLIC_URL", "HTTP://events.example.com")]), ["POSTERN_MCS_URL"]);
        let s3http = |secret| ("POSTERN_S3HTTP_SECRET", secret);
        assert_eq!(weak(&[s3http("one-secret-without-blanks")]), [""; 0], "the secret is the proof");
        assert_eq!(weak(&[s3http("short")]), ["POSTERN_S3HTTP_SECRET"]);
        assert_eq!(weak(&[s3http("short"), ("POSTERN_S3HTTP_AUTH", "Bearer a-long-token")]), [""; 0]);
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_queue_beside_topics_that_is_not_verified_is_weaker_than_they_are() {
        let queue = ("POSTERN_SQS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/q");
        assert_eq!(weak(&[TOPIC, queue]), ["POSTERN_SQS_VERIFY"]);
        assert_eq!(weak(&[TOPIC, queue, ("POSTERN_SQS_VERIFY", "on")]), [""; 0]);
        assert_eq!(weak(&[queue]), [""; 0], "S3 sends to it, and nobody signs");
    }
}
