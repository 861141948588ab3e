//! `postern verify`: would this saved SNS message be accepted, and if not, which rule does it break?
//!
//! It answers with one line of JSON on standard output, by the same rules as the sidecar; only the agreement of headers with the body
//! cannot be judged, because a saved message has none.

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
use crate::config::ChainPolicy;
use crate::health::Health;
use crate::listener::MAX_BODY_BYTES;
use crate::queue::Pending;
use crate::sources::sns::certs::{CertificateStore, Fetch, FetchError, Fetched, Setup};
use crate::sources::sns::chain::{self, Bench, MAX_CERTIFICATE_BYTES, Trust};
use crate::sources::sns::message::{self, Hints};
use crate::sources::sns::refusal::Refusal;
use crate::sources::sns::url::is_acceptable_endpoint;
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
    /// An environment variable's value.
    pub env: &'a dyn Fn(&str) -> Option<String>,
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
    // An empty variable is an unset one, as everywhere.
    let env = &|name: &str| env(name).filter(|value| !value.is_empty());
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
    fn read(
        args: &Args,
        env: &dyn Fn(&str) -> Option<String>,
        clock: &dyn Clock,
        stdin: &mut dyn Read,
    ) -> Result<Self, String> {
        let now = args.at.unwrap_or_else(|| clock.now());
        let anchors = args.roots.clone().or_else(|| env("POSTERN_SNS_TRUST_ANCHOR_FILE").map(PathBuf::from));
        let trust = match &anchors {
            None => Trust::amazon(),
            Some(path) => Trust::from_pem(&read_file(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
        };
        let policy = policy(args, env, anchors.is_some())?;
        let certificate = args.certificate.as_deref().map(read_file).transpose()?;
        let issuers = match &args.intermediates {
            Some(path) => {
                let found = chain::pem_certificates(&read_file(path)?);
                let found = found.map_err(|why| format!("{}: {why}", path.display()))?;
                found.into_iter().map(CertificateDer::from).collect()
            }
            None => {
                let data_dir = env("POSTERN_DATA_DIR").unwrap_or_else(|| "/var/lib/postern".to_owned());
                CertificateStore::kept_issuers(Path::new(&data_dir), &trust, now)
            }
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
        let envelope = message::parse(&self.body, &Hints::default())?;
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

fn describe(verified: &Verified) -> String {
    format!("a genuine {} {} of {}", verified.kind().as_str(), verified.message_id(), verified.topic_arn())
}

/// The sidecar's settings as far as they judge a message.
fn policy(args: &Args, env: &dyn Fn(&str) -> Option<String>, has_anchor: bool) -> Result<Policy, String> {
    let topics = if args.topics.is_empty() {
        let listed = env("EVENT_SNS_TOPIC_ARN").or_else(|| env("event.sns.topic.arn")).unwrap_or_default();
        listed.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(str::to_owned).collect()
    } else {
        args.topics.iter().cloned().collect()
    };
    let wrong = |name: &str, text: &str, wanted: &str| format!("{name} is {text:?}; it must be {wanted}");
    let endpoint = match env("POSTERN_SNS_ENDPOINT_URL") {
        None => None,
        Some(text) => {
            let url = Url::parse(&text).ok().filter(is_acceptable_endpoint);
            let wanted = "an https URL, or an http URL of this machine's loopback";
            let url = url.ok_or_else(|| wrong("POSTERN_SNS_ENDPOINT_URL", &text, wanted))?;
            if !has_anchor {
                return Err(
                    "POSTERN_SNS_ENDPOINT_URL needs --roots or POSTERN_SNS_TRUST_ANCHOR_FILE beside it".to_owned()
                );
            }
            Some(url)
        }
    };
    let chain = match env("POSTERN_SNS_CHAIN").as_deref() {
        None | Some("enforce") => ChainPolicy::Enforce,
        Some("warn") => ChainPolicy::Warn,
        Some("off") => ChainPolicy::Off,
        Some(text) => return Err(wrong("POSTERN_SNS_CHAIN", text, "enforce, warn or off")),
    };
    let min_signature_version = match env("POSTERN_SNS_MIN_SIGNATURE_VERSION").as_deref() {
        None | Some("1") => 1,
        Some("2") => 2,
        Some(text) => return Err(wrong("POSTERN_SNS_MIN_SIGNATURE_VERSION", text, "1 or 2")),
    };
    let max_age = match env("POSTERN_SNS_MAX_AGE") {
        None => Duration::from_secs(90 * 60),
        Some(text) => humantime::parse_duration(&text)
            .map_err(|_| wrong("POSTERN_SNS_MAX_AGE", &text, "a duration with its unit, such as 90m"))?,
    };
    Ok(Policy { topics, min_signature_version, max_age, chain, endpoint })
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
