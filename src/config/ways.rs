//! The ways in of an instance besides SNS: MCS S3 webhooks, bare S3 records, SQS, listings.

use std::time::Duration;

use url::Url;

use super::callback::http_url;
use super::problem::quote;
use super::text::{Wrong, choice, duration, list, number, wrong};
use super::values::Reader;
use super::{ListingConfig, ListingKind, McsEndpoint, McsTopic, S3HttpAuth, S3HttpConfig, SqsConfig};
use crate::record::{Dialect, KeyCoding, SequencerKind};
use crate::secret::Secret;

/// The stores whose way of writing has a name (`POSTERN_S3HTTP_PRESET`).
const PRESETS: [(&str, Dialect); 10] = [
    ("aws", Dialect::AWS),
    ("b2", Dialect::B2),
    ("ceph", Dialect::CEPH),
    ("eventbridge", Dialect::EVENTBRIDGE),
    ("localstack", Dialect::LOCALSTACK),
    ("minio", Dialect::MINIO),
    ("noobaa", Dialect::NOOBAA),
    ("rustfs", Dialect::RUSTFS),
    ("sns-raw", Dialect::AWS),
    ("versitygw", Dialect::VERSITYGW),
];

/// Pairs of `POSTERN_MCS_TOPICS`.
pub(super) fn mcs_topics(reader: &mut Reader<'_>) -> Vec<McsTopic> {
    let pair = |text: &String| match text.split_once('|') {
        Some((project, bucket)) if !project.is_empty() && !bucket.is_empty() && !bucket.contains('|') => {
            Ok(McsTopic { project: project.to_owned(), bucket: bucket.to_owned() })
        }
        _ => wrong(format!("{} is not project|bucket", quote(text)), "use the first two parts of the MCS TopicArn"),
    };
    reader.read("POSTERN_MCS_TOPICS", |text| list(text).iter().map(pair).collect()).unwrap_or_default()
}

/// Where MCS S3 webhooks arrive (hard case 14).
pub(super) fn mcs(reader: &mut Reader<'_>, public_url: Option<&Url>, warnings: &mut Vec<String>) -> Vec<McsEndpoint> {
    let secrets = secrets(reader, "POSTERN_MCS_SECRET");
    if let Some(text) = reader.text("POSTERN_MCS_URL") {
        let Some(url) = reader.read("POSTERN_MCS_URL", http_url) else { return Vec::new() };
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        if !secrets.iter().any(|secret| target.contains(secret.expose())) {
            warnings.push(
                "POSTERN_MCS_URL holds no POSTERN_MCS_SECRET: whoever guesses the URL can hand in events".to_owned(),
            );
        }
        return vec![McsEndpoint { url: Secret::new(text), target: Secret::new(target) }];
    }
    let Some(public_url) = public_url else {
        if !secrets.is_empty() {
            reader.refuse(
                "POSTERN_PUBLIC_URL",
                "is not set, and neither is POSTERN_MCS_URL, but POSTERN_MCS_SECRET is",
                "set the URL by which MCS reaches this sidecar",
            );
        }
        return Vec::new();
    };
    let base = public_url.as_str().trim_end_matches('/');
    let endpoint = |secret: &Secret| {
        let url = format!("{base}/mcs/{}", secret.expose());
        McsEndpoint { url: Secret::new(url), target: Secret::new(format!("/mcs/{}", secret.expose())) }
    };
    secrets.iter().map(endpoint).collect()
}

/// Bare S3 records over HTTP.
pub(super) fn s3http(reader: &mut Reader<'_>) -> Option<S3HttpConfig> {
    let secrets = secrets(reader, "POSTERN_S3HTTP_SECRET");
    let names = PRESETS.map(|(name, _)| (name, name));
    let preset = reader.read("POSTERN_S3HTTP_PRESET", |text| choice(text, &names)).unwrap_or_default();
    let generic = Dialect { sequencer: SequencerKind::None, ..Dialect::AWS };
    let mut dialect = PRESETS.iter().find(|(name, _)| *name == preset).map_or(generic, |(_, dialect)| *dialect);
    let codings = [("form", KeyCoding::Form), ("percent", KeyCoding::Percent), ("raw", KeyCoding::Raw)];
    if let Some(coding) = reader.read("POSTERN_S3HTTP_KEY_CODING", |text| choice(text, &codings)) {
        dialect.key_coding = coding;
    }
    let kinds = [
        ("aws", SequencerKind::Aws),
        ("ceph-le", SequencerKind::CephLe),
        ("integer", SequencerKind::Integer),
        ("none", SequencerKind::None),
    ];
    if let Some(kind) = reader.read("POSTERN_S3HTTP_SEQUENCER", |text| choice(text, &kinds)) {
        dialect.sequencer = kind;
    }
    let auth = reader.read("POSTERN_S3HTTP_AUTH", |text| auth(text, preset));
    (!secrets.is_empty()).then_some(S3HttpConfig { secrets, auth, dialect, preset })
}

/// What a request must carry besides the path.
fn auth(text: &str, preset: &str) -> Result<S3HttpAuth, Wrong> {
    if preset == "b2" {
        return Ok(S3HttpAuth::B2Signature(Secret::new(text)));
    }
    if let Some(value) = text.strip_prefix("opaqueData=") {
        return Ok(S3HttpAuth::OpaqueData(Secret::new(value)));
    }
    Ok(S3HttpAuth::Authorization(Secret::new(match text.split_once(' ') {
        None => format!("Bearer {text}"),
        Some(_) => text.to_owned(),
    })))
}

/// Queues to drain.
pub(super) fn sqs(reader: &mut Reader<'_>) -> Option<SqsConfig> {
    let queues = reader.read("POSTERN_SQS_QUEUE_URL", |text| {
        list(text).iter().map(|url| http_url(url)).collect::<Result<Vec<_>, _>>()
    });
    let verify =
        reader.read("POSTERN_SQS_VERIFY", |text| choice(text, &[("on", true), ("off", false)])).unwrap_or(false);
    let consumers = reader.read("POSTERN_SQS_CONSUMERS", |text| number(text, 1, 64)).unwrap_or(4);
    Some(SqsConfig {
        queues: queues.filter(|queues| !queues.is_empty())?,
        verify,
        consumers: usize::try_from(consumers).unwrap_or(4),
    })
}

/// Listings: polling, or reconciliation beside push.
pub(super) fn listing(reader: &mut Reader<'_>, polling: bool, buckets: &[String]) -> Option<ListingConfig> {
    let minutes = reader.read("event.poller.refresh_interval", |text| number(text, 1, 7 * 24 * 60)).unwrap_or(15);
    let reconcile = reader.read("POSTERN_RECONCILE", duration);
    let emit = [("emit", true), ("silent", false)];
    let emit_initial = reader.read("POSTERN_POLL_INITIAL", |text| choice(text, &emit)).unwrap_or(false);
    let grace = reader.read("POSTERN_RECONCILE_GRACE", duration).unwrap_or(Duration::from_secs(15 * 60));
    let (kind, every, grace) = match (polling, reconcile) {
        (true, _) => (ListingKind::Poll, Duration::from_secs(minutes * 60), Duration::ZERO),
        (false, Some(every)) => (ListingKind::Reconcile, every, grace),
        (false, None) => return None,
    };
    Some(ListingConfig {
        kind,
        buckets: buckets.to_vec(),
        every,
        prefixes: Vec::new(),
        page_size: 1000,
        emit_initial,
        grace,
    })
}

/// One secret path part, or two during a rotation.
fn secrets(reader: &mut Reader<'_>, name: &str) -> Vec<Secret> {
    let Some(given) = reader.values.get(name) else { return Vec::new() };
    given.text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::new).collect()
}
