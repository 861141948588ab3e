//! Finding the key that signs: a bounded cache over disk and network.
//!
//! A stranger who knows a topic's ARN can name certificate addresses as he likes, so everything here is bounded: entries, fetches per
//! minute, bytes, time, and how long a failure is remembered. A certificate that was good once is exempt from that rationing, and no
//! failure drives it out. Only what was judged good is kept on disk, so that a restart without network still verifies.

mod compare;
mod disk;
mod fetch;
mod issuers;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::chain::{self, Bench, MAX_CERTIFICATE_BYTES, SigningKey, Trust};
use super::refusal::{Reason, Refusal};
use crate::clock::{Clock, ClockSkew, UnixMillis};
use crate::config::ChainPolicy;
use crate::health::Health;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Outcome;
use disk::Disk;
pub use fetch::{Fetch, FetchError, Fetched};
use issuers::Issuers;
pub use issuers::known as known_issuers;

/// Certificates kept in memory. Amazon has one or two at a time in each region.
const MAX_ENTRIES: usize = 16;
/// After this a certificate is fetched again, while the old one still serves: it bounds how long one that Amazon withdrew is used.
const FRESH_FOR: Duration = Duration::from_secs(24 * 3600);
/// How long a failure is remembered: SNS itself comes back after 20 s.
const FAILURE_FOR: Duration = Duration::from_secs(30);
/// Failures remembered; more than the budget can make in that time.
const MAX_FAILURES: usize = 64;
/// Fetches of addresses that were never good, in a minute. A rotation needs one for each region.
const BUDGET: usize = 20;
const BUDGET_WINDOW: Duration = Duration::from_secs(60);
/// One fetch, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A leaf and its issuer together; SNS hangs up after 15 s.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(12);

/// The condition that says whether signing certificates lead to a root.
const CONDITION: &str = "signing certificates";

/// What a store is made from.
pub struct Setup {
    /// How certificates are fetched.
    pub fetch: Arc<dyn Fetch>,
    /// Where chains must end.
    pub trust: Trust,
    /// `POSTERN_SNS_CHAIN`.
    pub chain: ChainPolicy,
    /// Where good certificates are kept, in a folder `certificates`; `None` keeps nothing.
    pub data_dir: Option<PathBuf>,
    /// Issuers that the operator vouches for.
    pub issuers: Vec<CertificateDer<'static>>,
    /// Our clock.
    pub clock: Arc<dyn Clock>,
    /// Where the clocks of others are noted.
    pub skew: Arc<ClockSkew>,
    /// Where the condition `issuers` is reported.
    pub health: Arc<Health>,
    /// Where fetches and chain problems are counted.
    pub metrics: Metrics,
}

/// The certificates that sign SNS messages. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct CertificateStore(Arc<Inner>);

struct Inner {
    fetch: Arc<dyn Fetch>,
    trust: Trust,
    chain: ChainPolicy,
    clock: Arc<dyn Clock>,
    skew: Arc<ClockSkew>,
    health: Arc<Health>,
    metrics: Metrics,
    disk: Disk,
    issuers: Issuers,
    state: Mutex<State>,
    /// When our clock was last compared with a server's.
    compared: Mutex<Option<Instant>>,
    /// Held while comparing; when that last failed.
    comparing: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    failures: VecDeque<Failure>,
    /// Fetches under way, by address and name. Bounded by the budget and by what is known to be good.
    flights: HashMap<(String, String), Flight>,
    /// When addresses that were never good were fetched, within the last minute.
    spent: VecDeque<Instant>,
    uses: u64,
}

type Flight = watch::Receiver<Option<Result<Arc<SigningKey>, Refusal>>>;

struct Entry {
    url: String,
    name: String,
    key: Arc<SigningKey>,
    fresh_until: Instant,
    used: u64,
}

struct Failure {
    url: String,
    name: String,
    until: Instant,
    refusal: Refusal,
}

enum Lookup {
    Done(Result<Arc<SigningKey>, Refusal>),
    Wait(Flight),
}

impl std::fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateStore")
    }
}

impl CertificateStore {
    /// Makes a store and reads the issuers that are on disk; what does not lead to a trusted root there is ignored.
    pub fn open(setup: Setup) -> Self {
        let disk = Disk::open(setup.data_dir.map(|dir| dir.join("certificates")));
        let issuers = Issuers::new(setup.issuers);
        if setup.trust.is_amazon() {
            issuers.load(&disk, &setup.trust, setup.clock.now());
        }
        Self(Arc::new(Inner {
            fetch: setup.fetch,
            trust: setup.trust,
            chain: setup.chain,
            clock: setup.clock,
            skew: setup.skew,
            health: setup.health,
            metrics: setup.metrics,
            disk,
            issuers,
            state: Mutex::default(),
            compared: Mutex::default(),
            comparing: tokio::sync::Mutex::default(),
        }))
    }

    /// The key of the certificate at `url`, which must be valid at `now` and for `name`.
    ///
    /// # Errors
    /// What is wrong with the certificate, or `cert_fetch`, `cert_missing`, `cert_rate`. Needs a tokio runtime when it must fetch.
    pub async fn get(&self, url: &Url, name: &str, now: UnixMillis) -> Result<Arc<SigningKey>, Refusal> {
        let mut flight = match self.look_up(url, name, now) {
            Lookup::Done(result) => return result,
            Lookup::Wait(flight) => flight,
        };
        let lost = || Refusal::new(Reason::CertFetch, "fetching the certificate was given up");
        match flight.wait_for(Option::is_some).await {
            // The flight may have been another caller's, who asked about another time.
            Ok(result) => match result.clone().unwrap_or_else(|| Err(lost())) {
                Ok(key) if !key.is_valid_at(now) => Err(self.0.out_of_time(&key, now)),
                result => result,
            },
            Err(_) => Err(lost()),
        }
    }

    /// Whether our clock may be trusted to refuse a message for its time, asking the server of `url` where it was not compared
    /// lately: a sidecar whose certificates are all on disk fetches nothing, and would refuse everything for ever if its clock were
    /// wrong (hard case 9). `url` is one that [`super::verify::precheck`] passes. At most one question in 15 min, one in 30 s while there is no answer.
    pub async fn clock_is_known(&self, url: &Url) -> bool {
        self.0.clock_is_known(url).await
    }

    /// Reports the condition `issuers` where none of those that are needed is here yet; [`Self::prefetch_issuers`] fetches them. To be
    /// called before anybody can ask for readiness.
    pub fn expect_issuers(&self) {
        issuers::expect(&self.0);
    }

    /// Fetches Amazon's known issuers until all are here, reporting the condition `issuers`. Returns then, or at once where no
    /// issuers are needed: with a trust anchor file, or with `POSTERN_SNS_CHAIN=off`. May be dropped at any time.
    pub async fn prefetch_issuers(&self) {
        issuers::prefetch(&self.0).await;
    }

    /// The issuers kept under `data_dir` that lead to a root of `trust` at `now`; for commands that must not fetch.
    pub fn kept_issuers(data_dir: &Path, trust: &Trust, now: UnixMillis) -> Vec<CertificateDer<'static>> {
        let issuers = Issuers::new(Vec::new());
        issuers.load(&Disk::open(Some(data_dir.join("certificates"))), trust, now);
        issuers.known().to_vec()
    }

    /// Decides under the lock; the network is only ever touched by the task that a flight is.
    fn look_up(&self, url: &Url, name: &str, now: UnixMillis) -> Lookup {
        let instant = Instant::now();
        let mut state = self.0.lock();
        state.failures.retain(|failure| failure.until > instant);
        let failure = state.failures.iter().find(|f| f.url == url.as_str() && f.name == name);
        let failure = failure.map(|f| f.refusal.clone());

        state.uses += 1;
        let uses = state.uses;
        // One whose time is over may have been renewed at the same address; Amazon does not do that, others do.
        let present = self.0.clock.now();
        state.entries.retain(|entry| entry.key.is_valid_at(present) || entry.key.is_valid_at(now));
        if let Some(entry) = state.entries.iter_mut().find(|e| e.url == url.as_str() && e.name == name) {
            if !entry.key.is_valid_at(now) {
                return Lookup::Done(Err(self.0.out_of_time(&entry.key, now)));
            }
            entry.used = uses;
            let key = Arc::clone(&entry.key);
            if entry.fresh_until <= instant && failure.is_none() {
                self.take_off(&mut state, url, name, present, true);
            }
            return Lookup::Done(Ok(key));
        }
        if let Some(refusal) = failure {
            return Lookup::Done(Err(refusal));
        }
        let id = (url.as_str().to_owned(), name.to_owned());
        if let Some(flight) = state.flights.get(&id) {
            // A sender that is gone without an answer was a task that died; it must not block this address for ever.
            if flight.has_changed().is_ok() || flight.borrow().is_some() {
                return Lookup::Wait(flight.clone());
            }
            state.flights.remove(&id);
        }
        if !self.0.disk.has_leaf(url.as_str()) {
            while state.spent.front().is_some_and(|at| instant.duration_since(*at) >= BUDGET_WINDOW) {
                state.spent.pop_front();
            }
            if state.spent.len() >= BUDGET {
                self.0.count_fetch("rationed");
                let detail = format!("{url}: more than {BUDGET} certificates unknown so far in a minute");
                return Lookup::Done(Err(Refusal::new(Reason::CertRate, detail)));
            }
            state.spent.push_back(instant);
        }
        Lookup::Wait(self.take_off(&mut state, url, name, now, false))
    }

    /// Begins a flight, in a task of its own: a caller that hangs up must not end it for the others.
    fn take_off(&self, state: &mut State, url: &Url, name: &str, now: UnixMillis, refresh: bool) -> Flight {
        let id = (url.as_str().to_owned(), name.to_owned());
        if let Some(flight) = state.flights.get(&id).filter(|flight| flight.has_changed().is_ok()) {
            return flight.clone();
        }
        let (sender, receiver) = watch::channel(None);
        state.flights.insert(id.clone(), receiver.clone());
        let (inner, url) = (Arc::clone(&self.0), url.clone());
        tokio::spawn(async move {
            let (address, name) = &id;
            let result = tokio::time::timeout(FLIGHT_TIMEOUT, inner.obtain(&url, name, now, refresh)).await;
            let result = result.unwrap_or_else(|_| {
                Err(Refusal::new(Reason::CertFetch, format!("{url}: no certificate within {FLIGHT_TIMEOUT:?}")))
            });
            if let Err(refusal) = &result {
                tracing::warn!(reason = refusal.reason.as_str(), detail = refusal.detail, "no signing certificate");
            }
            let mut state = inner.lock();
            state.flights.remove(&id);
            state.land(address, name, result.as_ref());
            drop(state);
            sender.send_replace(Some(result.map(|(key, _)| key)));
        });
        receiver
    }
}

impl State {
    fn land(&mut self, url: &str, name: &str, result: Result<&(Arc<SigningKey>, Duration), &Refusal>) {
        let now = Instant::now();
        match result {
            Ok((key, fresh_for)) => {
                self.entries.retain(|entry| entry.url != url || entry.name != name);
                if self.entries.len() >= MAX_ENTRIES {
                    let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(at, _)| at);
                    oldest.map(|at| self.entries.swap_remove(at));
                }
                self.entries.push(Entry {
                    url: url.to_owned(),
                    name: name.to_owned(),
                    key: Arc::clone(key),
                    fresh_until: now + *fresh_for,
                    used: self.uses,
                });
            }
            Err(refusal) => {
                // Its own server says that it is gone: the one failure that ends a good certificate.
                if refusal.reason == Reason::CertMissing {
                    self.entries.retain(|entry| entry.url != url);
                }
                if self.failures.len() >= MAX_FAILURES {
                    self.failures.pop_front();
                }
                self.failures.push_back(Failure {
                    url: url.to_owned(),
                    name: name.to_owned(),
                    until: now + FAILURE_FOR,
                    refusal: refusal.clone(),
                });
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A judged key from disk or network, and for how long it is fresh.
    async fn obtain(
        &self,
        url: &Url,
        name: &str,
        now: UnixMillis,
        refresh: bool,
    ) -> Result<(Arc<SigningKey>, Duration), Refusal> {
        if !refresh && let Some((pem, age)) = self.disk.load_leaf(url.as_str(), self.clock.now()).await {
            match self.judge(&pem, url, name, now).await {
                Ok(key) => return Ok((key, FRESH_FOR.saturating_sub(age))),
                Err(refusal) => tracing::info!(%refusal, "a certificate on disk is not usable any more"),
            }
        }
        let fetched = self.fetch(url).await;
        if matches!(&fetched, Err(refusal) if refusal.reason == Reason::CertMissing) {
            self.disk.remove_leaf(url.as_str()).await;
        }
        let pem = fetched?;
        let key = self.judge(&pem, url, name, now).await?;
        self.disk.store_leaf(url.as_str(), pem).await;
        Ok((key, FRESH_FOR))
    }

    /// Judges a leaf, fetching its issuer once where that is what is missing.
    async fn judge(&self, pem: &[u8], url: &Url, name: &str, now: UnixMillis) -> Result<Arc<SigningKey>, Refusal> {
        let mut judged = self.judge_with_known(pem, url, name, now);
        let unknown = match &judged {
            Ok(judged) => judged.problem.as_ref().is_some_and(|p| p.reason == Reason::CertIssuerUnknown),
            Err(refusal) => refusal.reason == Reason::CertIssuerUnknown,
        };
        if unknown
            && self.trust.is_amazon()
            && let Some(issuer) = chain::issuer_url(pem)
        {
            match issuers::fetch(self, &issuer, issuers::Memory::Recent).await {
                Ok(()) => judged = self.judge_with_known(pem, url, name, now),
                Err(refusal) => tracing::warn!(%refusal, %issuer, "cannot get the issuer of a signing certificate"),
            }
        }
        // It came from SNS's own host, so this is either our ignorance or SNS's host gone wrong; a stranger cannot cause it.
        let problem = match &judged {
            Ok(judged) => judged.problem.as_ref(),
            Err(refusal) => Some(refusal).filter(|r| matches!(r.reason, Reason::CertChain | Reason::CertIssuerUnknown)),
        };
        if let Some(problem) = problem {
            self.metrics.chain_problems.get_or_create(&Outcome { outcome: problem.reason.as_str() }).inc();
            tracing::warn!(refused = judged.is_err(), %problem, "a signing certificate leads to no trusted root");
            let reason = format!("{problem}; see POSTERN_SNS_TRUST_ANCHOR_FILE and POSTERN_SNS_CHAIN");
            self.health.degraded(CONDITION, reason);
        } else if judged.is_ok() {
            self.health.ok(CONDITION, "the last signing certificate leads to a trusted root");
        }
        match judged {
            Ok(judged) => Ok(Arc::new(judged.key)),
            Err(refusal) if refusal.reason == Reason::CertNotValidNow && self.skew.is_off() => {
                Err(Refusal { reason: Reason::ClockOff, ..refusal })
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn judge_with_known(&self, pem: &[u8], url: &Url, name: &str, now: UnixMillis) -> Result<chain::Judged, Refusal> {
        let issuers = self.issuers.known();
        let bench = Bench { trust: &self.trust, issuers: &issuers, chain: self.chain, now };
        chain::judge(pem, url.as_str(), name, &bench)
    }

    /// One GET, with its status judged and the server's clock noted.
    async fn fetch(&self, url: &Url) -> Result<Vec<u8>, Refusal> {
        let fetched = self.fetch.get(url, MAX_CERTIFICATE_BYTES, FETCH_TIMEOUT);
        // The bound holds whatever the implementation does.
        let fetched = match tokio::time::timeout(FETCH_TIMEOUT, fetched).await {
            Ok(Ok(fetched)) if fetched.body.len() > MAX_CERTIFICATE_BYTES => Err(FetchError::TooLarge),
            Ok(result) => result,
            Err(_) => Err(FetchError::Failed(format!("no answer within {FETCH_TIMEOUT:?}"))),
        };
        if let Ok(Fetched { date: Some(date), .. }) = fetched {
            self.skew.observe(date, self.clock.now());
            *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.metrics.clock_skew_seconds.set(self.skew.millis() as f64 / 1000.0);
        }
        let (outcome, result) = match fetched {
            Ok(Fetched { status: 200, body, .. }) => ("ok", Ok(body)),
            Ok(Fetched { status: 404, .. }) => {
                ("missing", Err(Refusal::new(Reason::CertMissing, format!("{url}: there is no such certificate"))))
            }
            Ok(Fetched { status, .. }) => {
                ("failed", Err(Refusal::new(Reason::CertFetch, format!("{url}: answered with status {status}"))))
            }
            Err(FetchError::TooLarge) => {
                ("too_large", Err(Refusal::new(Reason::CertFormat, format!("{url}: longer than 16 KiB"))))
            }
            Err(FetchError::Failed(why)) => ("failed", Err(Refusal::new(Reason::CertFetch, format!("{url}: {why}")))),
        };
        self.count_fetch(outcome);
        result
    }

    fn out_of_time(&self, key: &SigningKey, now: UnixMillis) -> Refusal {
        let reason = if self.skew.is_off() { Reason::ClockOff } else { Reason::CertNotValidNow };
        Refusal::new(reason, format!("{}: valid until {}, asked about {now}", key.url(), key.not_after()))
    }

    fn count_fetch(&self, outcome: &'static str) {
        self.metrics.certificate_fetches.get_or_create(&Outcome { outcome }).inc();
    }
}

#[cfg(test)]
mod tests;
