//! What the wiring makes from the configuration, piece by piece.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::clock::{Clock, ClockSkew, UnixMillis};
use crate::config::{CallbackUrl, Config, McsEndpoint, QueueConfig, extra_authorities};
use crate::egress::{Call, CallError, Client, Options, ProxySettings};
use crate::health::Health;
use crate::listener::{Intake, Source};
use crate::queue::embedded::Embedded;
use crate::queue::{Pending, Queue};
use crate::record::Dialect;
use crate::secret::Secret;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::sources::mcs::McsSource;
use crate::sources::s3http::S3HttpSource;
use crate::sources::sns::certs::{CertificateStore, Fetch, FetchError, Fetched, Setup};
use crate::sources::sns::chain::Trust;
use crate::sources::sns::confirm::SnsCaller;
use crate::sources::sns::source::SnsSource;
use crate::sources::sns::verify::Policy;
use crate::telemetry::Metrics;

fn read(variable: &'static str, path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|cause| StartError::File { variable, path: path.display().to_string(), cause })
}

/// Outgoing HTTP as the configuration says.
pub(super) fn egress_options(config: &Config) -> Result<Options, StartError> {
    let anchor = config.sns.endpoint.as_ref().and_then(|_| config.sns.trust_anchor_file.clone());
    options([config.egress_ca_file.clone(), anchor])
}

/// Outgoing HTTP to callbacks, which keeps as many idle connections as attempts may be in flight.
pub(super) fn callback_options(config: &Config) -> Result<Options, StartError> {
    let mut options = options([config.egress_ca_file.clone(), None])?;
    options.idle_per_host = config.dispatch.concurrency;
    Ok(options)
}

/// Outgoing HTTP that also trusts the authorities in `POSTERN_EGRESS_CA_FILE` and, for TLS to another SNS, in its trust anchor.
pub(super) fn options(files: [Option<PathBuf>; 2]) -> Result<Options, StartError> {
    let extra_ca_pem = extra_authorities(files).map_err(StartError::AuthorityFile)?;
    Ok(Options { extra_ca_pem, idle_per_host: 1, proxy: ProxySettings::from_env() })
}

/// The store of signing certificates.
pub(super) fn certificates(
    config: &Config,
    client: &Client,
    clock: &Arc<dyn Clock>,
    skew: &Arc<ClockSkew>,
    metrics: &Metrics,
    health: &Arc<Health>,
) -> Result<CertificateStore, StartError> {
    let trust = match &config.sns.trust_anchor_file {
        Some(path) => {
            Trust::from_pem(&read("POSTERN_SNS_TRUST_ANCHOR_FILE", path)?).map_err(StartError::TrustAnchor)?
        }
        None => Trust::amazon(),
    };
    Ok(CertificateStore::open(Setup {
        fetch: Arc::new(EgressFetch(client.clone())),
        trust,
        chain: config.sns.chain,
        data_dir: Some(config.data_dir.clone()),
        issuers: Vec::new(),
        clock: Arc::clone(clock),
        skew: Arc::clone(skew),
        health: Arc::clone(health),
        metrics: metrics.clone(),
    }))
}

/// Certificates and issuers come through the one outgoing client.
pub(super) struct EgressFetch(pub(super) Client);

impl Fetch for EgressFetch {
    fn get<'a>(
        &'a self,
        url: &'a url::Url,
        max_bytes: usize,
        timeout: Duration,
    ) -> Pending<'a, Result<Fetched, FetchError>> {
        Box::pin(async move {
            let target = CallbackUrl::Http(url.clone());
            let reply = self
                .0
                .call(Call {
                    method: hyper::Method::GET,
                    url: &target,
                    headers: hyper::HeaderMap::new(),
                    body: hyper::body::Bytes::new(),
                    timeout,
                    max_answer: max_bytes,
                    refuse_longer: true,
                })
                .await
                .map_err(|error| match error {
                    CallError::AnswerTooLarge(_) => FetchError::TooLarge,
                    other => FetchError::Failed(other.to_string()),
                })?;
            let date = left_its_server(&reply.headers);
            Ok(Fetched { status: reply.status.as_u16(), body: reply.body.to_vec(), date })
        })
    }
}

/// When an answer left its server: `Date`, plus `Age` where a cache on the way added one (RFC 9111, 5.1).
fn left_its_server(headers: &hyper::HeaderMap) -> Option<UnixMillis> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = UnixMillis::parse_http_date(text(hyper::header::DATE)?)?;
    let age = text(hyper::header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(date.plus(Duration::from_secs(age)))
}

/// Whether any message of SNS will be verified: one that is posted, or one that is taken from a queue.
pub(super) fn verifies_sns(config: &Config) -> bool {
    config
        .instances
        .iter()
        .filter(|instance| instance.enabled)
        .any(|instance| !instance.topics.is_empty() || instance.sqs.as_ref().is_some_and(|queues| queues.verify))
}

/// What verification demands.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        topics: config.instances.iter().filter(|i| i.enabled).flat_map(|i| i.topics.iter().cloned()).collect(),
        min_signature_version: config.sns.min_signature_version,
        max_age: config.sns.max_age,
        chain: config.sns.chain,
        endpoint: config.sns.endpoint.as_ref().map(|endpoint| endpoint.url.clone()),
    }
}

/// Amazon's dialect; an SNS other than Amazon's has no sequencer to rely on (hard case 1).
pub(super) fn dialect(config: &Config) -> Dialect {
    match config.sns.endpoint {
        Some(_) => Dialect::LOCALSTACK,
        None => Dialect::AWS,
    }
}

/// The one who confirms subscriptions.
pub(super) fn caller(config: &Config, client: &Client) -> Result<SnsCaller, StartError> {
    let endpoint = config.sns.endpoint.as_ref().map(|endpoint| endpoint.url.clone());
    #[cfg(feature = "aws")]
    let accounts = super::accounts::of(config, &egress_options(config)?.extra_ca_pem)?;
    #[cfg(not(feature = "aws"))]
    let accounts = Vec::new();
    Ok(SnsCaller::new(client.clone(), endpoint, accounts))
}

/// The routes of the intake (DESIGN, Routes).
pub(super) struct Routes {
    sns: Option<Arc<dyn Source>>,
    /// Paths that hold a secret, with what is behind them.
    secret: Vec<(Secret, Arc<dyn Source>)>,
    shutdown: Shutdown,
}

impl Routes {
    pub(super) fn new(sns: Option<Arc<SnsSource>>, secret: Vec<(Secret, Arc<dyn Source>)>, shutdown: Shutdown) -> Self {
        Self { sns: sns.map(|source| source as Arc<dyn Source>), secret, shutdown }
    }
}

impl Intake for Routes {
    fn route(&self, path: &str) -> Option<Arc<dyn Source>> {
        if path == "/sns" {
            return self.sns.clone();
        }
        // Each path is compared to its end, and all of them are: how long it takes tells nothing of a secret.
        let mut found = None;
        for (secret, source) in &self.secret {
            if secret.matches(path.as_bytes()) {
                found = Some(source);
            }
        }
        found.cloned()
    }

    fn refusing(&self) -> Option<&'static str> {
        (self.shutdown.phase() >= Phase::Draining).then_some("shutting_down")
    }
}

/// The sources behind secret paths, with those paths.
pub(super) fn secret_routes(
    config: &Config,
    desk: &Arc<Desk>,
    clock: &Arc<dyn Clock>,
    sns: Option<&Arc<SnsSource>>,
) -> Vec<(Secret, Arc<dyn Source>)> {
    let mut routes: Vec<(Secret, Arc<dyn Source>)> = Vec::new();
    // Two URLs during a move may differ in their query alone, and then one source has both.
    let path_of = |endpoint: &McsEndpoint| endpoint.target.expose().split('?').next().unwrap_or_default().to_owned();
    for (at, endpoint) in config.mcs.iter().enumerate() {
        let path = path_of(endpoint);
        if config.mcs[..at].iter().any(|earlier| path_of(earlier) == path) {
            continue;
        }
        let endpoints = config.mcs.iter().filter(|other| path_of(other) == path).cloned().collect();
        let source = McsSource::new(endpoints, &config.instances, Arc::clone(desk), Arc::clone(clock));
        let source: Arc<dyn Source> = Arc::new(source);
        routes.extend(endpoint.whole.clone().map(|whole| (whole, Arc::clone(&source))));
        routes.push((Secret::new(path), source));
    }
    for instance in &config.instances {
        let Some(s3http) = &instance.s3http else { continue };
        let mut source = S3HttpSource::new(s3http.clone(), Arc::clone(instance), Arc::clone(desk), Arc::clone(clock));
        if let Some(sns) = sns {
            source = source.confirmed_by(Arc::clone(sns) as Arc<dyn Source>);
        }
        let source: Arc<dyn Source> = Arc::new(source);
        for secret in &s3http.secrets {
            routes.push((Secret::new(format!("/s3/{}", secret.expose())), Arc::clone(&source)));
        }
    }
    routes
}

/// Keeps the conditions `store`, `queue` and `dead letters` true.
pub(super) async fn watch_store(
    queue: Arc<Embedded>,
    bounds: QueueConfig,
    health: Arc<Health>,
    mut shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.reached(Phase::Stopping) => return,
        }
        let stats = queue.stats();
        match stats.refusing {
            None => health.ok("store", "accepts"),
            Some(error) => health.blocked("store", error.to_string()),
        }
        // Refusing keeps nobody from delivering what is owed, and SNS tries again: the sidecar stays ready.
        match filling(stats.owed_bytes, bounds.max_bytes, "POSTERN_QUEUE_MAX_BYTES") {
            None => health.ok("queue", "there is room"),
            Some(full) => health.degraded("queue", format!("{full}: see what keeps the callback from taking events")),
        }
        match filling(stats.dead_bytes, bounds.dead_max_bytes, "POSTERN_DEAD_MAX_BYTES") {
            None => health.ok("dead letters", "there is room"),
            Some(full) => health.degraded("dead letters", format!("{full}: replay or discard some")),
        }
    }
}

/// That `bytes` come near a bound, in words that stay the same while they do (hard case 16: alarm at 80 %).
fn filling(bytes: u64, bound: u64, setting: &str) -> Option<String> {
    (bytes >= bound / 5 * 4)
        .then(|| format!("more than 80 % of {setting} ({bound} bytes) is used; full, all is refused with 503"))
}
