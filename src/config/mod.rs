//! Configuration: what the operator said, as types.
//!
//! Environment variables and instance documents are read once, at start, into [`Config`]; nothing else in the crate reads the
//! environment. Every problem is found before any is reported, each by the name under which the operator set it, and no
//! secret is ever part of a message.

mod authorities;
mod buckets;
mod callback;
mod delivery;
mod document;
mod env;
mod filter;
mod identity;
mod instance;
mod json;
mod network;
mod problem;
mod process;
pub mod settings;
mod setup;
#[cfg(test)]
mod tests;
mod text;
mod topic;
mod values;
mod ways;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use authorities::{AUTHORITY_FILES, bad_authorities, extra_authorities};
pub use callback::is_reserved_header;
pub use env::{Environment, ProcessEnvironment, admin, data_dir, egress_files, examine, load, queue, sns};
pub use network::{is_acceptable_endpoint, sns_url};
pub use problem::Problem;
pub use setup::{SetupConfig, SetupInstance, setup};
#[cfg(feature = "aws")]
pub(crate) use topic::partition_of;
pub use topic::region_of as topic_region;
pub(crate) use topic::{Partition, parts as topic_parts};
pub use ways::{ListingConfig, ListingKind, McsEndpoint, McsTopic, S3HttpAuth, S3HttpConfig, SqsConfig};

use crate::secret::Secret;

/// Everything the sidecar is told at start.
#[derive(Debug)]
pub struct Config {
    /// The intake listener (`POSTERN_LISTEN`).
    pub listen: SocketAddr,
    /// PEM chain and key of the intake listener; `None` is plain HTTP (`POSTERN_TLS=off`).
    pub tls: Option<TlsFiles>,
    /// The URL by which producers reach us (`POSTERN_PUBLIC_URL`).
    pub public_url: Option<Url>,
    /// Proxies whose forwarded address is believed (`POSTERN_TRUSTED_PROXIES`).
    pub trusted_proxies: Vec<Cidr>,
    /// The admin listener (`POSTERN_ADMIN_LISTEN`).
    pub admin_listen: SocketAddr,
    /// Bearer token of the admin API; without one the API answers 403 (`POSTERN_ADMIN_TOKEN`).
    pub admin_token: Option<Secret>,
    /// Where the embedded store lives (`POSTERN_DATA_DIR`).
    pub data_dir: PathBuf,
    /// Bounds and retention of the queue.
    pub queue: QueueConfig,
    /// How deliveries are attempted and retried.
    pub dispatch: DispatchConfig,
    /// How SNS messages are judged.
    pub sns: SnsConfig,
    /// URLs at which MCS S3 webhooks arrive (hard case 14); empty: the source is off.
    pub mcs: Vec<McsEndpoint>,
    /// Which S3 is asked about buckets.
    pub s3: S3Config,
    /// Extra authority for outgoing TLS (`POSTERN_EGRESS_CA_FILE`).
    pub egress_ca_file: Option<PathBuf>,
    /// How long shutting down may take (`POSTERN_DRAIN_TIMEOUT`).
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The relays. At least one; their names and numbers are distinct.
    pub instances: Vec<Arc<Instance>>,
    /// Things that are allowed but that an operator should hear of at every start.
    pub warnings: Vec<String>,
}

/// `POSTERN_LOG` and `POSTERN_LOG_FORMAT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A tracing filter that is known to parse, such as `info` or `info,postern::dispatch=debug`.
    pub filter: String,
    /// The form of a line; unset is text on a terminal and JSON elsewhere.
    pub format: Option<LogFormat>,
}

/// `POSTERN_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// The files of the listener's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// An address range, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// First address of the range.
    pub base: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

/// Bounds and retention of the queue.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// What is owed at most, in bytes (`POSTERN_QUEUE_MAX_BYTES`).
    pub max_bytes: u64,
    /// Dead letters kept at most, in bytes (`POSTERN_DEAD_MAX_BYTES`).
    pub dead_max_bytes: u64,
    /// How long an event or message id is remembered (`POSTERN_DEDUPE_FOR`); never below the replay window.
    pub dedupe_for: Duration,
    /// Whether deliveries of one key go in order (`POSTERN_ORDERING`).
    pub ordering: Ordering,
}

impl Default for QueueConfig {
    /// The defaults of the settings.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            dead_max_bytes: 1 << 30,
            dedupe_for: Duration::from_hours(24),
            ordering: Ordering::Key,
        }
    }
}

/// `POSTERN_ORDERING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Deliveries of one instance, bucket and key go one after another.
    Key,
    /// No lanes.
    None,
}

/// How deliveries are attempted and retried.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// Attempts in flight over all instances (`POSTERN_CONCURRENCY`).
    pub concurrency: usize,
    /// Connect, send and read a bounded answer (`POSTERN_ATTEMPT_TIMEOUT`).
    pub attempt_timeout: Duration,
    /// The retry schedule (`POSTERN_RETRY`).
    pub retry: RetrySchedule,
    /// Age at which a failing delivery is dead (`POSTERN_RETRY_MAX_AGE`).
    pub max_age: Duration,
    /// Attempts after which a failing delivery is dead (`POSTERN_RETRY_MAX_ATTEMPTS`).
    pub max_attempts: u32,
    /// Events in one callback at most, 1 to 20 (`POSTERN_MAX_EVENTS_PER_CALLBACK`).
    pub max_events_per_callback: usize,
    /// What the body of a callback looks like (`POSTERN_FORMAT`).
    pub format: Format,
}

/// `POSTERN_RETRY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetrySchedule {
    /// 8, 64, 512, 4096 and 32768 seconds after the first failure, then dead.
    CloudElements,
    /// 1 s doubling to 10 min, with full jitter.
    Exponential,
}

/// `POSTERN_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Cloud Elements notification envelope.
    CloudElements,
    /// CloudEvents 1.0, structured JSON mode.
    CloudEvents,
    /// CloudEvents 1.0, binary mode.
    CloudEventsBinary,
    /// The producer's record alone.
    Raw,
    /// The verified SNS notification as it came.
    Sns,
}

impl Format {
    /// Events in one callback at most: formats that describe one thing per request cannot batch, the others go as far as
    /// Cloud Elements does (`cloud-elements.md` 4).
    pub fn max_events(self) -> usize {
        match self {
            Self::CloudElements | Self::CloudEvents | Self::Raw => 20,
            Self::CloudEventsBinary | Self::Sns => 1,
        }
    }
}

/// How SNS messages are judged.
#[derive(Clone, Debug)]
pub struct SnsConfig {
    /// An SNS other than Amazon's, with its trust anchor (`POSTERN_SNS_ENDPOINT_URL`, hard case 8).
    pub endpoint: Option<SnsEndpoint>,
    /// PEM file that replaces the bundled Amazon roots (`POSTERN_SNS_TRUST_ANCHOR_FILE`).
    pub trust_anchor_file: Option<PathBuf>,
    /// What to do about a chain that does not lead to a root (`POSTERN_SNS_CHAIN`).
    pub chain: ChainPolicy,
    /// Lowest accepted SignatureVersion, 1 or 2 (`POSTERN_SNS_MIN_SIGNATURE_VERSION`).
    pub min_signature_version: u8,
    /// Replay window (`POSTERN_SNS_MAX_AGE`).
    pub max_age: Duration,
    /// Whether genuine confirmations of allowed topics are confirmed (`POSTERN_SNS_CONFIRM`).
    pub confirm: bool,
    /// What follows an UnsubscribeConfirmation (`POSTERN_SNS_UNSUBSCRIBE`).
    pub unsubscribe: UnsubscribePolicy,
    /// Credentials that SNS sends after a 401 (`POSTERN_SNS_BASIC_USERNAME`, `_PASSWORD`).
    pub basic: Option<Basic>,
    /// What becomes of signed messages that hold no S3 event (`POSTERN_NON_S3`).
    pub non_s3: NonS3,
}

/// Which S3 is asked about buckets.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// An S3 other than Amazon's (`POSTERN_S3_ENDPOINT_URL`).
    pub endpoint: Option<Url>,
    /// Whether the bucket stands in the path and not in the host name (`POSTERN_S3_PATH_STYLE`).
    pub path_style: bool,
}

/// An SNS other than Amazon's.
#[derive(Clone, Debug)]
pub struct SnsEndpoint {
    /// Its origin; http only on loopback.
    pub url: Url,
}

/// `POSTERN_SNS_CHAIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainPolicy {
    /// A certificate must lead to a root.
    Enforce,
    /// The chain is not looked at; name, validity and signature still are.
    Off,
    /// A broken chain is logged and counted, and the message goes on.
    Warn,
}

/// `POSTERN_SNS_UNSUBSCRIBE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsubscribePolicy {
    /// Log and count.
    Alarm,
    /// Also confirm again with the token that came.
    Resubscribe,
}

/// `POSTERN_NON_S3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonS3 {
    /// Sent on as a generic event.
    Relay,
    /// Kept among the dead letters.
    SetAside,
}

/// HTTP Basic credentials.
#[derive(Clone, Debug)]
pub struct Basic {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// One configured relay.
#[derive(Debug)]
pub struct Instance {
    /// Its name; distinct among the instances, and how the store knows it.
    pub name: Arc<str>,
    /// The number in the envelope's `instanceId` (hard case 11).
    pub id: u32,
    /// The envelope's `accountId`.
    pub account_id: u64,
    /// The envelope's `companyId`.
    pub company_id: u64,
    /// The envelope's `userId`.
    pub user_id: u64,
    /// Element key, such as `amazons3`.
    pub element_key: String,
    /// Element key of what MCS S3 webhooks bring: `mcss3` unless one is set, also where Amazon's events come beside them.
    pub mcs_element_key: String,
    /// Carried into `instanceTags`.
    pub tags: Vec<String>,
    /// Whether it accepts anything; what it owes is delivered either way.
    pub enabled: bool,
    /// Exact topic ARNs that it accepts.
    pub topics: Vec<String>,
    /// `project|bucket` pairs whose MCS S3 webhooks it accepts (`POSTERN_MCS_TOPICS`).
    pub mcs_topics: Vec<McsTopic>,
    /// Bare S3 records over HTTP (`POSTERN_S3HTTP_…`).
    pub s3http: Option<S3HttpConfig>,
    /// Queues that it drains (`POSTERN_SQS_…`).
    pub sqs: Option<SqsConfig>,
    /// Listings of its buckets (`event.vendor.type=polling`, `POSTERN_RECONCILE`).
    pub listing: Option<ListingConfig>,
    /// Where its events go.
    pub callback: CallbackUrl,
    /// Signing keys: the first alone signs `Elements-Webhook-Signature`, all sign `webhook-signature` (hard case 13).
    pub signature_keys: Vec<Secret>,
    /// Extra headers of the POST, checked: none of ours, of framing or Host.
    pub headers: Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>,
    /// Basic authentication of the POST.
    pub basic: Option<Basic>,
    /// Which events are wanted (`event.objects`).
    pub objects: ObjectFilter,
    /// `filter.response.nulls` where it was set; unset leaves the producer's record as it came.
    pub filter_nulls: Option<bool>,
    /// `validate.instance`.
    pub validate: bool,
    /// Static AWS credentials; without them the default chain.
    pub credentials: Option<StaticCredentials>,
    /// The bucket it is about.
    pub bucket: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Buckets that it accepts; empty is any.
    pub buckets: Vec<String>,
}

/// `filemanagement.provider.access_key` and `.secret_key`. `Debug` shows neither.
#[derive(Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: Secret,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticCredentials([redacted])")
    }
}

/// Where events go. `Debug` and `Display` leave out what may be secret: see [`CallbackUrl::parse`].
#[derive(Clone, PartialEq, Eq)]
pub enum CallbackUrl {
    /// `http://` or `https://`.
    Http(Url),
    /// `unix:/path.sock:/http/path`.
    Unix {
        /// The socket's path in the file system.
        socket: PathBuf,
        /// Path and query of the request.
        path: String,
    },
}

/// `event.objects`: an event passes when each kind of condition that is present has one that fits.
#[derive(Clone, Debug, Default)]
pub struct ObjectFilter {
    /// Object types, lower case; empty is all.
    pub types: Vec<String>,
    /// Event patterns without `s3:`, such as `ObjectCreated:*`; empty is all.
    pub events: Vec<String>,
    /// Key globs; empty is all.
    pub keys: Vec<globset::GlobMatcher>,
}
