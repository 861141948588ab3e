//! `postern verify`: would this saved SNS message be accepted, and if not, which rule does it break?
//!
//! It answers with one line of JSON on standard output, by the same rules as the sidecar; only the agreement of headers with the body
//! cannot be judged, because a saved message has none.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use url::Url;

use crate::clock::{Clock, ClockSkew, ManualClock, UnixMillis};
use crate::config::{self, Environment};
use crate::health::Health;
use crate::listener::MAX_BODY_BYTES;
use crate::queue::Pending;
use crate::sources::sns::certs::{CertificateStore, Fetch, FetchError, Fetched, Setup};
use crate::sources::sns::chain::{self, Bench, MAX_CERTIFICATE_BYTES, Trust};
use crate::sources::sns::message::{self, Hints};
use crate::sources::sns::refusal::Refusal;
use crate::sources::sns::verify::{Policy, Verified, precheck, verify_signature};
use crate::telemetry::Metrics;

/// Says of a saved SNS message whether it would be accepted, and which rule it breaks.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// A topic that is accepted; may be repeated [default: EVENT_SNS_TOPIC_ARN; none denies all]
    #[arg(long = "topic", value_name = "ARN")]
    pub topics: Vec<String>,
    /// The time to judge at, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<UnixMillis>,
    /// The signing certificate in PEM; without it, it is fetched as the sidecar does
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Certificates between the signing certificate and a root, in PEM
    #[arg(long, value_name = "FILE")]
    pub intermediates: Option<PathBuf>,
    /// Trusted roots in PEM [default: POSTERN_SNS_TRUST_ANCHOR_FILE, or the bundled roots of Amazon]
    #[arg(long, value_name = "FILE")]
    pub roots: Option<PathBuf>,
    /// The message; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

/// What the command touches besides files.
pub struct Outside<'a> {
    /// Where settings come from.
    pub env: &'a dyn Environment,
    /// The machine's clock, where `--at` does not replace it.
    pub clock: &'a dyn Clock,
    /// How certificates are fetched.
    pub fetch: Arc<dyn Fetch>,
    /// Where a message of `-` comes from.
    pub stdin: &'a mut dyn Read,
    /// Where the one line goes.
    pub stdout: &'a mut dyn Write,
    /// Where complaints about the call go.
    pub stderr: &'a mut dyn Write,
}

const TRUST_ANCHOR: &str = "POSTERN_SNS_TRUST_ANCHOR_FILE";

/// Accepted.
pub const ACCEPTED: u8 = 0;
/// Rejected; the line says why.
pub const REJECTED: u8 = 1;
/// The command was called wrongly: nothing was judged.
pub const USAGE: u8 = 2;

#[derive(Serialize)]
struct Verdict<'a> {
    verdict: &'static str,
    status: u16,
    reason: &'a str,
    detail: &'a str,
}

/// Runs the command; gives the exit code.
pub async fn run(args: &Args, outside: Outside<'_>) -> u8 {
    let Outside { env, clock, fetch, stdin, stdout, stderr } = outside;
    let judged = match Case::read(args, env, clock, stdin) {
        Ok(case) => case.judge(fetch).await,
        Err(complaint) => {
            // Nobody is left to tell when standard error is gone too.
            let _ = writeln!(stderr, "postern verify: {complaint}");
            return USAGE;
        }
    };
    let (verdict, code) = match &judged {
        Ok(detail) => (Verdict { verdict: "accepted", status: 200, reason: "accepted", detail }, ACCEPTED),
        Err(Rejection { status, reason, detail }) => {
            (Verdict { verdict: "rejected", status: *status, reason, detail }, REJECTED)
        }
    };
    let line = serde_json::to_string(&verdict).unwrap_or_default();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        let _ = writeln!(stderr, "postern verify: cannot write the answer to standard output");
        return USAGE;
    }
    code
}

struct Rejection {
    status: u16,
    reason: &'static str,
    detail: String,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), reason: refusal.reason.as_str(), detail: refusal.detail }
    }
}

/// All that is judged, read and checked.
struct Case {
    body: Vec<u8>,
    certificate: Option<Vec<u8>>,
    issuers: Vec<CertificateDer<'static>>,
    trust: Trust,
    policy: Policy,
    now: UnixMillis,
    is_now_given: bool,
}

impl Case {
    fn read(args: &Args, env: &dyn Environment, clock: &dyn Clock, stdin: &mut dyn Read) -> Result<Self, String> {
        let now = args.at.unwrap_or_else(|| clock.now());
        let env = &WithRoots { env, roots: args.roots.as_deref() };
        let (policy, anchors) = policy(args, env)?;
        let trust = match &anchors {
            None => Trust::amazon(),
            Some(path) => Trust::from_pem(&read_file(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
        };
        let certificate = args.certificate.as_deref().map(read_file).transpose()?;
        let issuers = match &args.intermediates {
            Some(path) => {
                let found = chain::pem_certificates(&read_file(path)?);
                let found = found.map_err(|why| format!("{}: {why}", path.display()))?;
                found.into_iter().map(CertificateDer::from).collect()
            }
            None => CertificateStore::kept_issuers(&config::data_dir(env), &trust, now),
        };
        let body = if args.file == Path::new("-") {
            read_bounded(stdin).map_err(|error| format!("cannot read standard input: {error}"))?
        } else {
            read_file(&args.file)?
        };
        Ok(Self { body, certificate, issuers, trust, policy, now, is_now_given: args.at.is_some() })
    }

    async fn judge(self, fetch: Arc<dyn Fetch>) -> Result<String, Rejection> {
        if self.body.len() > MAX_BODY_BYTES {
            let detail = format!("longer than {MAX_BODY_BYTES} bytes");
            return Err(Rejection { status: 413, reason: "too_large", detail });
        }
        let envelope = message::parse(&self.body, &Hints::default()).map_err(|refusal| self.told_apart(refusal))?;
        let url = precheck(&envelope, &self.policy, self.now, false)?;
        let name = envelope.topic().signing_name();
        let verified = if let Some(pem) = &self.certificate {
            let bench = Bench { trust: &self.trust, issuers: &self.issuers, chain: self.policy.chain, now: self.now };
            let judged = chain::judge(pem, url.as_str(), &name, &bench)?;
            verify_signature(&envelope, &judged.key)?
        } else {
            let store = CertificateStore::open(Setup {
                // A time that was given says nothing about our clock, so what servers say of theirs is left out.
                fetch: if self.is_now_given { Arc::new(Undated(fetch)) } else { fetch },
                trust: self.trust,
                chain: self.policy.chain,
                data_dir: None,
                issuers: self.issuers,
                clock: Arc::new(ManualClock::at(self.now)),
                skew: Arc::new(ClockSkew::default()),
                health: Arc::new(Health::default()),
                metrics: Metrics::register(&mut Registry::default()),
            });
            let key = store.get(&url, &name, self.now).await?;
            verify_signature(&envelope, &key)?
        };
        Ok(describe(&verified))
    }
}

impl Case {
    /// The refusal of what is no SNS message at all, with what it is instead where that can be told. Such bodies carry no proof by
    /// which a saved one could be judged: who sends them is proven by the request that brings them.
    fn told_apart(&self, refusal: Refusal) -> Rejection {
        let mut rejection = Rejection::from(refusal);
        if let Some(what) = other_than_sns(&self.body) {
            rejection.detail =
                format!("{}; this is {what}, and postern verify judges SNS messages alone", rejection.detail);
        }
        rejection
    }
}

/// What a body is that comes by another way than SNS, and what proves it there; `None` for everything else.
fn other_than_sns(body: &[u8]) -> Option<&'static str> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let has = |names: &[&str]| names.iter().all(|name| json.get(name).is_some());
    // An SNS message names its certificate; MCS imitates the rest of it (`s3-dialects.md` 1.2).
    if has(&["SigningCertURL"]) || has(&["SigningCertUrl"]) {
        return None;
    }
    if has(&["Token", "TopicArn", "Timestamp"]) && json["TopicArn"].as_str().is_some_and(|arn| arn.contains('|')) {
        return Some(
            "a handshake of MCS S3, which proves nothing of its sender (answered at /mcs/ for the pairs of POSTERN_MCS_TOPICS)",
        );
    }
    if has(&["detail", "detail-type", "source"]) {
        return Some("an event of EventBridge, which is not signed (taken from a queue, or at /s3/ with its secret)");
    }
    if json.get("events").is_some_and(|events| events.get(0).is_some_and(|event| event.get("eventType").is_some())) {
        return Some(
            "a message of Backblaze B2, whose HMAC stands in a header (checked at /s3/ with POSTERN_S3HTTP_PRESET=b2)",
        );
    }
    if json.get("Records").is_some_and(serde_json::Value::is_array) {
        return Some(
            "a body of bare S3 records, which is not signed (MCS S3 and other stores send it to /mcs/ and /s3/, where the secret in \
             the URL is the proof; SNS itself only with raw message delivery, which has to be off)",
        );
    }
    None
}

fn describe(verified: &Verified) -> String {
    format!("a genuine {} {} of {}", verified.kind().as_str(), verified.message_id(), verified.topic_arn())
}

/// The environment, with `--roots` in place of its trust anchor.
struct WithRoots<'a> {
    env: &'a dyn Environment,
    roots: Option<&'a Path>,
}

impl Environment for WithRoots<'_> {
    fn vars(&self) -> Vec<(String, OsString)> {
        let mut vars = self.env.vars();
        if let Some(roots) = self.roots {
            vars.retain(|(name, _)| name != TRUST_ANCHOR);
            vars.push((TRUST_ANCHOR.to_owned(), roots.as_os_str().to_owned()));
        }
        vars
    }
}

/// The sidecar's settings as far as they judge a message, and the file of trusted roots.
fn policy(args: &Args, env: &dyn Environment) -> Result<(Policy, Option<PathBuf>), String> {
    let (topics, sns) = config::sns(env).map_err(|problems| {
        let told = problems.iter().map(|problem| {
            let roots = if problem.name == TRUST_ANCHOR { " (or use --roots)" } else { "" };
            format!("{problem}{roots}")
        });
        told.collect::<Vec<_>>().join("; ")
    })?;
    let topics = if args.topics.is_empty() { topics } else { args.topics.clone() };
    let policy = Policy {
        topics: topics.into_iter().collect(),
        min_signature_version: sns.min_signature_version,
        max_age: sns.max_age,
        chain: sns.chain,
        endpoint: sns.endpoint.map(|endpoint| endpoint.url),
    };
    Ok((policy, sns.trust_anchor_file))
}

fn parse_time(text: &str) -> Result<UnixMillis, String> {
    UnixMillis::parse_rfc3339(text).ok_or_else(|| "it must be a time such as 2026-03-06T19:53:21Z".to_owned())
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    File::open(path)
        .and_then(|mut file| read_bounded(&mut file))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// One byte more than the sidecar would read shows that it is too much.
fn read_bounded(from: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    const { assert!(MAX_BODY_BYTES > MAX_CERTIFICATE_BYTES) };
    let mut bytes = Vec::new();
    from.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Undated(Arc<dyn Fetch>);

impl Fetch for Undated {
    fn get<'a>(
        &'a self,
        url: &'a Url,
        max_bytes: usize,
        timeout: Duration,
    ) -> Pending<'a, Result<Fetched, FetchError>> {
        Box::pin(async move { self.0.get(url, max_bytes, timeout).await.map(|got| Fetched { date: None, ..got }) })
    }
}

#[cfg(test)]
mod tests;
