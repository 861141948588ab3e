//! The listener's certificate: loaded at start, replaced while running.
//!
//! Certificates live shorter than pods, so the files are read again every few seconds and compared by content: that follows
//! renewals by hand as well as the symbolic links that Kubernetes swaps under mounted secrets. Open connections keep what
//! they agreed on; new handshakes see the new pair. A new pair that cannot work never replaces one that does.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::clock::{Clock, UnixMillis};
use crate::config::TlsFiles;
use crate::health::Health;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Outcome;

/// How often the files are looked at. The kubelet itself needs up to a minute to bring a new secret.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Validity below which an operator should hear of it. Issuers renew with weeks left; a week means that renewal is broken.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// A chain and a key are a few KiB; anything beyond is the wrong file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The condition's name.
const CONDITION: &str = "tls";

const CERT_VARIABLE: &str = "POSTERN_TLS_CERT_FILE";
const KEY_VARIABLE: &str = "POSTERN_TLS_KEY_FILE";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// TLS itself cannot be set up; a fault of this build.
    #[error("cannot set up TLS: {0}")]
    Crypto(#[from] rustls::Error),
    /// The pair's certificate is past its end while the present one is not.
    #[error("POSTERN_TLS_CERT_FILE={path}: the certificate expired at {not_after}; the one in use is still valid")]
    Expired {
        /// The chain's file.
        path: PathBuf,
        /// Its end.
        not_after: UnixMillis,
    },
    /// The key is no private key, or of a kind that is not supported.
    #[error("POSTERN_TLS_KEY_FILE={path}: {problem}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key is not the certificate's.
    #[error(
        "POSTERN_TLS_KEY_FILE={key} does not belong to the first certificate of POSTERN_TLS_CERT_FILE={certificate}: the leaf must stand first, and both files must be of one pair"
    )]
    Mismatch {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The pair's certificate is valid only later while the present one is now.
    #[error("POSTERN_TLS_CERT_FILE={path}: the certificate is valid from {not_before} on; the one in use is valid now")]
    Early {
        /// The chain's file.
        path: PathBuf,
        /// Its beginning.
        not_before: UnixMillis,
    },
    /// The chain has no certificate, or one that cannot be read.
    #[error("POSTERN_TLS_CERT_FILE={path}: {problem}")]
    Chain {
        /// The chain's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file cannot be read.
    #[error("{variable}={path} cannot be read: {cause}; check the path, the mount and the file's permissions")]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// What handshakes are made with. Cheap to clone; clones see the same certificate, also after a reload.
#[derive(Clone)]
pub struct TlsAcceptorHandle {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl std::fmt::Debug for TlsAcceptorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptorHandle")
    }
}

impl TlsAcceptorHandle {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// The pair in use, whatever name a client asks for (none at all included: A16).
#[derive(Debug)]
struct Current(ArcSwap<Pair>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    not_before: UnixMillis,
    not_after: UnixMillis,
    fingerprint: Fingerprint,
}

impl Pair {
    fn is_valid(&self, now: UnixMillis) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

type Fingerprint = [u8; 32];

/// Loads the pair at start.
///
/// # Errors
/// [`TlsError`] names the variable, the file and what is wrong with it.
pub fn load(files: &TlsFiles) -> Result<TlsAcceptorHandle, TlsError> {
    let pair = Contents::read(files)?.check(files)?;
    let current = Arc::new(Current(ArcSwap::from_pointee(pair)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(TlsAcceptorHandle { config: Arc::new(config), current })
}

/// Looks at the files every `interval` (usually [`RELOAD_INTERVAL`]) until the process stops, takes over a new pair that works, and keeps the condition
/// `tls` and the certificate's metrics true.
pub async fn watch(
    handle: TlsAcceptorHandle,
    files: TlsFiles,
    interval: Duration,
    health: Arc<Health>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) {
    let mut watcher = Watcher { current: handle.current, files, health, metrics, clock, failed: None };
    watcher.judge_validity();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.reached(Phase::Stopping) => return,
        }
        let files = watcher.files.clone();
        // A network volume may hang; that must not hold a worker thread of the intake.
        if let Ok(read) = tokio::task::spawn_blocking(move || Contents::read(&files)).await {
            watcher.look(read);
        }
    }
}

struct Watcher {
    current: Arc<Current>,
    files: TlsFiles,
    health: Arc<Health>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// What failed at the last look. A pair is often written one file after the other, so only what fails twice is reported.
    failed: Option<(Option<Fingerprint>, bool)>,
}

impl Watcher {
    fn look(&mut self, read: Result<Contents, TlsError>) {
        let fingerprint = read.as_ref().ok().map(Contents::fingerprint);
        if fingerprint == Some(self.current.0.load().fingerprint) {
            self.failed = None;
            self.judge_validity();
            return;
        }
        match read.and_then(|contents| contents.check(&self.files)).and_then(|pair| self.not_worse(pair)) {
            Ok(pair) => {
                self.current.0.store(Arc::new(pair));
                self.failed = None;
                self.count("reloaded");
                tracing::info!(not_after = %self.current.0.load().not_after, "the listener's certificate was replaced");
                self.judge_validity();
            }
            Err(error) => self.keep(fingerprint, &error),
        }
    }

    fn not_worse(&self, pair: Pair) -> Result<Pair, TlsError> {
        let now = self.clock.now();
        if !self.current.0.load().is_valid(now) {
            return Ok(pair);
        }
        let path = self.files.certificate.clone();
        if pair.not_after <= now {
            return Err(TlsError::Expired { path, not_after: pair.not_after });
        }
        // Judged again at each look, so it is taken over when its time has come.
        if pair.not_before > now {
            return Err(TlsError::Early { path, not_before: pair.not_before });
        }
        Ok(pair)
    }

    fn keep(&mut self, fingerprint: Option<Fingerprint>, error: &TlsError) {
        match self.failed {
            Some((before, reported)) if before == fingerprint => {
                if !reported {
                    self.count("failed");
                }
                self.failed = Some((fingerprint, true));
                self.health
                    .degraded(CONDITION, format!("a new certificate cannot be used and the old one stays: {error}"));
            }
            _ => self.failed = Some((fingerprint, false)),
        }
        self.gauge();
    }

    fn judge_validity(&self) {
        self.gauge();
        let (now, end) = (self.clock.now(), self.current.0.load().not_after);
        if end <= now {
            let reason = format!("the certificate expired at {end}: renew {CERT_VARIABLE} and {KEY_VARIABLE}");
            self.health.degraded(CONDITION, reason);
        } else if end <= now.plus(EXPIRES_SOON) {
            let reason =
                format!("the certificate expires at {end}, within 7 days: renew {CERT_VARIABLE} and {KEY_VARIABLE}");
            self.health.degraded(CONDITION, reason);
        } else {
            self.health.ok(CONDITION, format!("the certificate is valid until {end}"));
        }
    }

    fn gauge(&self) {
        self.metrics.tls_not_after.set(self.current.0.load().not_after.0.div_euclid(1000));
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.tls_reloads.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Both files as they were read.
struct Contents {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = read_bounded(CERT_VARIABLE, &files.certificate)?;
        Ok(Self { chain, key: read_bounded(KEY_VARIABLE, &files.key)? })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&(self.chain.len() as u64).to_be_bytes());
        context.update(&self.chain);
        context.update(&self.key);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Makes a pair that handshakes can be made with.
    fn check(&self, files: &TlsFiles) -> Result<Pair, TlsError> {
        let chain_error = |problem| TlsError::Chain { path: files.certificate.clone(), problem };
        let key_error = |problem| TlsError::Key { path: files.key.clone(), problem };
        let chain = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| chain_error("not valid PEM; the file must hold the chain, leaf first"))?;
        let leaf = chain.first().ok_or_else(|| chain_error("no BEGIN CERTIFICATE in it"))?;
        let (not_before, not_after) =
            validity_of(leaf).ok_or_else(|| chain_error("its first certificate cannot be read"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| key_error("no unencrypted PEM private key (PKCS #8, PKCS #1 or SEC1) in it"))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
            }
            rustls::Error::InvalidCertificate(_) => chain_error("its first certificate cannot be used by a server"),
            _ => key_error(
                "a key of this kind or size is not supported: use RSA of 2048 bits or more, or ECDSA P-256 or P-384",
            ),
        })?;
        Ok(Pair { certified: Arc::new(certified), not_before, not_after, fingerprint: self.fingerprint() })
    }
}

fn validity_of(leaf: &CertificateDer<'_>) -> Option<(UnixMillis, UnixMillis)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let millis = |time: x509_parser::time::ASN1Time| UnixMillis(time.timestamp().saturating_mul(1000));
    let validity = certificate.validity();
    Some((millis(validity.not_before), millis(validity.not_after)))
}

fn read_bounded(variable: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|cause| TlsError::Unreadable { variable, path: path.to_owned(), cause })?;
    Ok(bytes)
}
