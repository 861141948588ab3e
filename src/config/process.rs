//! The settings of the whole process: listeners, queue, dispatch, trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::callback::http_url;
use super::network::is_acceptable_endpoint;
use super::problem::{quote, quote_url};
use super::text::{Wrong, boolean, choice, duration, list, number, size, wrong};
use super::values::Reader;
use super::{
    Basic, ChainPolicy, Cidr, Config, DispatchConfig, Format, LogConfig, LogFormat, NonS3, Ordering, QueueConfig,
    RetrySchedule, S3Config, SnsConfig, SnsEndpoint, TlsFiles, UnsubscribePolicy,
};
use crate::secret::Secret;

/// The bound under which a store is of no use: not even one event of a usual size fits.
const MIN_STORE: u64 = 4 << 10;
/// SNS retries for an hour at most (hard case 21), and clocks differ by up to five minutes (hard case 9).
const SNS_RETRIES: Duration = Duration::from_secs(65 * 60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads everything but the instances. Where a setting is refused, its default stands in; the caller drops the result then.
pub(super) fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Config {
    let sns = sns(reader, warnings);
    let dispatch = dispatch(reader);
    let drain_timeout = reader.read("POSTERN_DRAIN_TIMEOUT", duration).unwrap_or(Duration::from_secs(25));
    if drain_timeout < dispatch.attempt_timeout {
        warnings.push("POSTERN_DRAIN_TIMEOUT is shorter than POSTERN_ATTEMPT_TIMEOUT: slow callbacks are cut off at a stop and repeated later".to_owned());
    }
    let listen = reader.read("POSTERN_LISTEN", address).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 8443)));
    let admin_listen = admin_listen(reader);
    if listen == admin_listen && listen.port() != 0 {
        reader.refuse("POSTERN_ADMIN_LISTEN", "is the address of POSTERN_LISTEN", "use another port for one of them");
    }
    let public_url = reader.read("POSTERN_PUBLIC_URL", http_url);
    if public_url.as_ref().is_some_and(|url| url.path() != "/") {
        warnings.push(
            "POSTERN_PUBLIC_URL has a path: what leads to this sidecar must remove it, since the sidecar answers at /sns, /mcs/ and /s3/"
                .to_owned(),
        );
    }
    Config {
        listen,
        tls: tls(reader, warnings),
        // What instances accept decides about these; the caller knows.
        mcs: Vec::new(),
        public_url,
        trusted_proxies: reader.read("POSTERN_TRUSTED_PROXIES", ranges).unwrap_or_default(),
        admin_listen,
        admin_token: admin_token(reader, warnings),
        data_dir: data_dir(reader),
        queue: queue(reader, sns.max_age),
        dispatch,
        sns,
        s3: s3(reader, warnings),
        egress_ca_file: reader.text("POSTERN_EGRESS_CA_FILE").map(PathBuf::from),
        drain_timeout,
        log: log(reader),
        instances: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Where the store is.
pub(super) fn data_dir(reader: &Reader<'_>) -> PathBuf {
    reader.text("POSTERN_DATA_DIR").map_or_else(|| PathBuf::from("/var/lib/postern"), PathBuf::from)
}

/// Where the admin API is reached from this machine, and its token.
pub(super) fn admin(reader: &mut Reader<'_>) -> (SocketAddr, Option<Secret>) {
    let mut address = admin_listen(reader);
    // An address to listen on everywhere is no address to connect to everywhere.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    (address, admin_token(reader, &mut Vec::new()))
}

fn admin_listen(reader: &mut Reader<'_>) -> SocketAddr {
    reader.read("POSTERN_ADMIN_LISTEN", address).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 9465)))
}

fn tls(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<TlsFiles> {
    const FILES: [&str; 2] = ["POSTERN_TLS_CERT_FILE", "POSTERN_TLS_KEY_FILE"];
    let on = match reader.text("POSTERN_TLS") {
        None => true,
        Some(_) => reader.read("POSTERN_TLS", |text| choice(text, &[("on", true), ("off", false)]))?,
    };
    if !on {
        warnings.push(
            "POSTERN_TLS is off: the intake speaks plain HTTP; let only an ingress that ends TLS reach it".to_owned(),
        );
        if FILES.iter().any(|name| reader.values.is_set(name)) {
            warnings.push(
                "POSTERN_TLS_CERT_FILE and POSTERN_TLS_KEY_FILE have no effect while POSTERN_TLS is off".to_owned(),
            );
        }
        return None;
    }
    for name in FILES {
        if !reader.values.is_set(name) {
            reader.refuse(
                name,
                "is not set while POSTERN_TLS is on",
                "name the PEM file, or set POSTERN_TLS=off behind an ingress",
            );
        }
    }
    let [certificate, key] = FILES.map(|name| reader.text(name).map(PathBuf::from));
    Some(TlsFiles { certificate: certificate?, key: key? })
}

fn admin_token(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<Secret> {
    let token = reader.read("POSTERN_ADMIN_TOKEN", |text| {
        if text.bytes().all(|c| c.is_ascii_graphic()) {
            Ok(text.to_owned())
        } else {
            wrong(
                "the token holds characters that cannot stand in an Authorization header",
                "use letters, digits and signs without blanks",
            )
        }
    })?;
    if token.len() < 16 {
        warnings.push("POSTERN_ADMIN_TOKEN is shorter than 16 characters: it can be guessed".to_owned());
    }
    Some(Secret::new(token))
}

fn log(reader: &mut Reader<'_>) -> LogConfig {
    let filter = reader.read("POSTERN_LOG", |text| {
        if tracing_subscriber::EnvFilter::builder().parse(text).is_ok() {
            return Ok(text.to_owned());
        }
        wrong(format!("{} is not a tracing filter", quote(text)), "use a level such as info, or target=level pairs")
    });
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    LogConfig {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        format: reader.read("POSTERN_LOG_FORMAT", |text| choice(text, &formats)),
    }
}

/// The bounds and memory of the queue; `max_age` is the replay window.
pub(super) fn queue(reader: &mut Reader<'_>, max_age: Duration) -> QueueConfig {
    reader.read("POSTERN_QUEUE", |text| match text {
        "embedded" => Ok(()),
        _ if text.starts_with("jetstream:") => {
            wrong("JetStream is not available in this version yet", "use embedded, or remove it")
        }
        _ => wrong(format!("{} is not a kind of queue", quote_url(text)), "use embedded, or remove it"),
    });
    let store = |text: &str| {
        size(text).and_then(|bytes| {
            if bytes >= MIN_STORE {
                Ok(bytes)
            } else {
                wrong(format!("{} is too little to hold a notification", quote(text)), "use at least 1MiB")
            }
        })
    };
    // Unset, it follows a longer replay window; set, it is the operator's contradiction to solve (hard case 17).
    let dedupe_for = reader.read("POSTERN_DEDUPE_FOR", duration);
    if dedupe_for.is_some_and(|remembered| remembered < max_age) {
        reader.refuse(
            "POSTERN_DEDUPE_FOR",
            "is shorter than the replay window POSTERN_SNS_MAX_AGE, so that a repeated message would be taken for a new one",
            "raise it, or lower the window",
        );
    }
    QueueConfig {
        max_bytes: reader.read("POSTERN_QUEUE_MAX_BYTES", store).unwrap_or(1 << 30),
        dead_max_bytes: reader.read("POSTERN_DEAD_MAX_BYTES", store).unwrap_or(1 << 30),
        dedupe_for: dedupe_for.unwrap_or_else(|| DAY.max(max_age)),
        ordering: reader
            .read("POSTERN_ORDERING", |text| choice(text, &[("key", Ordering::Key), ("none", Ordering::None)]))
            .unwrap_or(Ordering::Key),
    }
}

/// Raises an unset `POSTERN_DEDUPE_FOR` to what reconciliation needs; one that is set too low is the operator's to solve.
pub(super) fn remember_what_push_told(reader: &mut Reader<'_>, queue: &mut QueueConfig, needed: Duration) {
    const NAME: &str = "POSTERN_DEDUPE_FOR";
    if reader.text(NAME).is_none() {
        queue.dedupe_for = queue.dedupe_for.max(needed);
    } else if queue.dedupe_for < needed {
        reader.refuse(
            NAME,
            "is shorter than twice POSTERN_RECONCILE with POSTERN_RECONCILE_GRACE, so that a listing would take for missed what push has told",
            format!("set it to at least {}, remove it, or reconcile more often", humantime::format_duration(needed)),
        );
    }
}

/// Which S3 is asked about buckets.
fn s3(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> S3Config {
    const NAME: &str = "POSTERN_S3_ENDPOINT_URL";
    let endpoint = reader.read(NAME, |text| {
        let url = http_url(text)?;
        if url.query().is_some() {
            return wrong(format!("{} has a query", quote_url(text)), "remove what begins at ?");
        }
        Ok(url)
    });
    if let Some(url) = endpoint.as_ref().filter(|url| !is_acceptable_endpoint(url)) {
        warnings.push(format!(
            "{NAME}: {} is plain HTTP to another machine, which anybody between can read and answer",
            url.origin().ascii_serialization()
        ));
    }
    S3Config { endpoint, path_style: reader.read("POSTERN_S3_PATH_STYLE", boolean).unwrap_or(false) }
}

fn dispatch(reader: &mut Reader<'_>) -> DispatchConfig {
    let schedules = [("exponential", RetrySchedule::Exponential), ("cloud-elements", RetrySchedule::CloudElements)];
    let formats = [
        ("cloud-elements", Format::CloudElements),
        ("cloudevents", Format::CloudEvents),
        ("cloudevents-binary", Format::CloudEventsBinary),
        ("raw", Format::Raw),
        ("sns", Format::Sns),
    ];
    // The bounds keep each number within u32 and usize on every platform.
    let mut count = |name: &str, max: u32, default: u32| {
        let number = reader.read(name, |text| number(text, 1, max.into()));
        number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    let concurrency = count("POSTERN_CONCURRENCY", 10_000, 64) as usize;
    let max_attempts = count("POSTERN_RETRY_MAX_ATTEMPTS", 10_000, 20);
    let max_events_per_callback = count("POSTERN_MAX_EVENTS_PER_CALLBACK", 20, 1) as usize;
    let format = reader.read("POSTERN_FORMAT", |text| choice(text, &formats)).unwrap_or(Format::CloudElements);
    if max_events_per_callback > format.max_events() {
        reader.refuse(
            "POSTERN_MAX_EVENTS_PER_CALLBACK",
            "is above 1, and POSTERN_FORMAT is one that holds one event",
            "set it to 1, or choose cloud-elements, cloudevents or raw",
        );
    }
    DispatchConfig {
        concurrency,
        attempt_timeout: reader.read("POSTERN_ATTEMPT_TIMEOUT", positive).unwrap_or(Duration::from_secs(10)),
        retry: reader.read("POSTERN_RETRY", |text| choice(text, &schedules)).unwrap_or(RetrySchedule::Exponential),
        max_age: reader.read("POSTERN_RETRY_MAX_AGE", positive).unwrap_or(3 * DAY),
        max_attempts,
        max_events_per_callback,
        format,
    }
}

/// How SNS messages are judged.
pub(super) fn sns(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> SnsConfig {
    let endpoint = sns_endpoint(reader, warnings);
    let chains = [("enforce", ChainPolicy::Enforce), ("warn", ChainPolicy::Warn), ("off", ChainPolicy::Off)];
    let chain = reader.read("POSTERN_SNS_CHAIN", |text| choice(text, &chains)).unwrap_or(ChainPolicy::Enforce);
    if chain != ChainPolicy::Enforce {
        warnings
            .push("POSTERN_SNS_CHAIN is not enforce: a signing certificate need not lead to a trusted root".to_owned());
    }
    let max_age = reader.read("POSTERN_SNS_MAX_AGE", positive).unwrap_or(Duration::from_secs(90 * 60));
    if max_age < SNS_RETRIES {
        warnings.push("POSTERN_SNS_MAX_AGE is below 65m: SNS retries for up to an hour, and what comes later than this is refused".to_owned());
    }
    let confirm =
        reader.read("POSTERN_SNS_CONFIRM", |text| choice(text, &[("always", true), ("never", false)])).unwrap_or(true);
    if !confirm {
        warnings.push("POSTERN_SNS_CONFIRM is never: new subscriptions stay unconfirmed".to_owned());
    }
    let policies = [("alarm", UnsubscribePolicy::Alarm), ("resubscribe", UnsubscribePolicy::Resubscribe)];
    SnsConfig {
        endpoint,
        trust_anchor_file: reader.text("POSTERN_SNS_TRUST_ANCHOR_FILE").map(PathBuf::from),
        chain,
        min_signature_version: reader
            .read("POSTERN_SNS_MIN_SIGNATURE_VERSION", |text| choice(text, &[("1", 1), ("2", 2)]))
            .unwrap_or(1),
        max_age,
        confirm,
        unsubscribe: reader
            .read("POSTERN_SNS_UNSUBSCRIBE", |text| choice(text, &policies))
            .unwrap_or(UnsubscribePolicy::Alarm),
        basic: basic(reader, "POSTERN_SNS_BASIC_USERNAME", "POSTERN_SNS_BASIC_PASSWORD"),
        non_s3: reader
            .read("POSTERN_NON_S3", |text| choice(text, &[("set-aside", NonS3::SetAside), ("relay", NonS3::Relay)]))
            .unwrap_or(NonS3::SetAside),
    }
}

/// Another SNS than Amazon's (hard case 8).
fn sns_endpoint(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<SnsEndpoint> {
    const NAME: &str = "POSTERN_SNS_ENDPOINT_URL";
    if reader.values.is_set(NAME) && !reader.values.is_set("POSTERN_SNS_TRUST_ANCHOR_FILE") {
        reader.refuse(
            "POSTERN_SNS_TRUST_ANCHOR_FILE",
            "is not set, but POSTERN_SNS_ENDPOINT_URL is",
            "name the PEM file with the certificate of that SNS",
        );
    }
    let url = reader.read(NAME, |text| {
        let url = http_url(text)?;
        if !is_acceptable_endpoint(&url) {
            return wrong(
                format!("{} is plain HTTP to another machine, which anybody between could answer", quote_url(text)),
                "use https, or a loopback host such as localhost",
            );
        }
        if url.query().is_some() {
            return wrong(format!("{} has a query", quote_url(text)), "remove what begins at ?");
        }
        Ok(url)
    })?;
    warnings.push(format!(
        "POSTERN_SNS_ENDPOINT_URL: messages are proven by {} and not by Amazon",
        url.origin().ascii_serialization()
    ));
    Some(SnsEndpoint { url })
}

/// A user name and its password; both or none.
pub(super) fn basic(reader: &mut Reader<'_>, username: &str, password: &str) -> Option<Basic> {
    reader.together(username, password);
    let name = reader.read(username, |text| {
        if text.contains(':') || text.chars().any(char::is_control) {
            return wrong("the user name holds a colon or control character", "Basic authentication allows neither");
        }
        Ok(text.to_owned())
    });
    let secret = reader.read(password, |text| {
        if text.chars().any(char::is_control) {
            return wrong("the password holds a control character", "remove line breaks within it");
        }
        Ok(Secret::new(text))
    });
    Some(Basic { username: name?, password: secret? })
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().or_else(|_| {
        wrong(format!("{} is not an address with a port", quote(text)), "use one such as 0.0.0.0:8443 or [::]:8443")
    })
}

fn ranges(text: &str) -> Result<Vec<Cidr>, Wrong> {
    list(text)
        .iter()
        .map(|part| {
            Cidr::parse(part).map_or_else(
                || wrong(format!("{} is not an address range", quote(part)), "use one such as 10.0.0.0/8 or fd00::/8"),
                Ok,
            )
        })
        .collect()
}

fn positive(text: &str) -> Result<Duration, Wrong> {
    let value = duration(text)?;
    if value.is_zero() { wrong("must not be zero", "use a duration such as 10s") } else { Ok(value) }
}

/// `true` or `false` for the callers that read instances.
pub(super) fn flag(reader: &mut Reader<'_>, name: &str) -> Option<bool> {
    reader.read(name, boolean)
}
