//! The certificates between leafs and roots.
//!
//! They come from `crt.*.amazontrust.com` over plain HTTP, so each is accepted only when its signature leads to a bundled root.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use url::Url;

use super::disk::Disk;
use super::{FAILURE_FOR, Inner};
use crate::clock::UnixMillis;
use crate::config::ChainPolicy;
use crate::sources::sns::chain::{self, Bench, Trust};
use crate::sources::sns::refusal::{Reason, Refusal};

/// Amazon's issuers of 2048-bit RSA leafs, by common name, and where Amazon publishes them.
const AMAZON: [(&str, &str); 4] = [
    ("Amazon RSA 2048 M01", "http://crt.r2m01.amazontrust.com/r2m01.cer"),
    ("Amazon RSA 2048 M02", "http://crt.r2m02.amazontrust.com/r2m02.cer"),
    ("Amazon RSA 2048 M03", "http://crt.r2m03.amazontrust.com/r2m03.cer"),
    ("Amazon RSA 2048 M04", "http://crt.r2m04.amazontrust.com/r2m04.cer"),
];
/// The issuers that are fetched at start, by common name, and where Amazon publishes them.
pub fn known() -> &'static [(&'static str, &'static str)] {
    &AMAZON
}

/// Issuers kept. Each leads to a bundled root, so there are as many as Amazon makes.
const MAX_KNOWN: usize = 32;
const CONDITION: &str = "issuers";
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(60);

pub(super) struct Issuers {
    known: Mutex<Arc<Vec<CertificateDer<'static>>>>,
    /// Held while fetching: one issuer at a time, and nobody fetches what the one before has just fetched.
    recent: tokio::sync::Mutex<VecDeque<Recent>>,
}

struct Recent {
    url: String,
    until: Instant,
    result: Result<(), Refusal>,
}

/// Whether what happened in the last 30 s counts as an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Recent,
    None,
}

impl Issuers {
    pub(super) fn new(given: Vec<CertificateDer<'static>>) -> Self {
        Self { known: Mutex::new(Arc::new(given)), recent: tokio::sync::Mutex::default() }
    }

    /// Reads those on disk and keeps the ones that still lead to a root.
    pub(super) fn load(&self, disk: &Disk, trust: &Trust, now: UnixMillis) {
        for der in disk.issuers() {
            let known = self.known();
            let bench = Bench { trust, issuers: &known, chain: ChainPolicy::Enforce, now };
            match chain::accept_issuer(&der, &bench) {
                Ok(issuer) => self.add(issuer),
                Err(refusal) => tracing::info!(%refusal, "an issuer on disk is not usable any more"),
            }
        }
    }

    pub(super) fn known(&self) -> Arc<Vec<CertificateDer<'static>>> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, issuer: CertificateDer<'static>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&issuer) {
            return;
        }
        let list = Arc::make_mut(&mut known);
        if list.len() >= MAX_KNOWN {
            list.remove(0);
        }
        list.push(issuer);
    }
}

/// Fetches the issuer at `url`, which must be Amazon's, and adds it.
pub(super) async fn fetch(inner: &Inner, url: &Url, memory: Memory) -> Result<(), Refusal> {
    let mut recent = inner.issuers.recent.lock().await;
    let now = Instant::now();
    recent.retain(|r| r.until > now && (memory == Memory::Recent || r.url != url.as_str()));
    if let Some(found) = recent.iter().find(|r| r.url == url.as_str()) {
        return found.result.clone();
    }
    let result = fetch_once(inner, url).await;
    if recent.len() >= 2 * AMAZON.len() {
        recent.pop_front();
    }
    recent.push_back(Recent { url: url.to_string(), until: Instant::now() + FAILURE_FOR, result: result.clone() });
    result
}

async fn fetch_once(inner: &Inner, url: &Url) -> Result<(), Refusal> {
    let bytes = inner.fetch(url).await.map_err(|refusal| Refusal { reason: Reason::CertFetch, ..refusal })?;
    let known = inner.issuers.known();
    let bench = Bench { trust: &inner.trust, issuers: &known, chain: ChainPolicy::Enforce, now: inner.clock.now() };
    let issuer = chain::accept_issuer(&bytes, &bench)?;
    inner.disk.store_issuer(issuer.to_vec()).await;
    tracing::info!(%url, name = chain::common_name(&issuer), "got an issuer of signing certificates");
    inner.issuers.add(issuer);
    Ok(())
}

/// Whether issuers are asked for at all.
fn are_needed(inner: &Inner) -> bool {
    inner.trust.is_amazon() && inner.chain != ChainPolicy::Off
}

/// See [`super::CertificateStore::expect_issuers`].
pub(super) fn expect(inner: &Inner) {
    if are_needed(inner) && missing(inner).len() == AMAZON.len() {
        report(inner, "fetching them from crt.*.amazontrust.com");
    }
}

/// See [`super::CertificateStore::prefetch_issuers`].
pub(super) async fn prefetch(inner: &Inner) {
    if !are_needed(inner) {
        return;
    }
    let mut delay = FIRST_DELAY;
    expect(inner);
    loop {
        let mut failure = None;
        for (_, url) in missing(inner) {
            let Ok(url) = Url::parse(url) else { continue };
            if let Err(refusal) = fetch(inner, &url, Memory::None).await {
                failure = Some(refusal);
            }
        }
        let Some(refusal) = failure else {
            inner.health.ok(CONDITION, "all known issuers of SNS signing certificates are here");
            return;
        };
        report(inner, &format!("{}; allow outgoing HTTP to crt.*.amazontrust.com port 80", refusal.detail));
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LAST_DELAY);
    }
}

/// Without any issuer no message can be proven, so the sidecar must not take the place of one that has some.
fn report(inner: &Inner, why: &str) {
    let now = inner.clock.now();
    let none = !inner.issuers.known().iter().any(|der| chain::is_valid_at(der, now));
    if none && inner.chain == ChainPolicy::Enforce {
        inner.health.blocked(CONDITION, format!("no issuer of SNS signing certificates is known: {why}"));
    } else {
        inner.health.degraded(CONDITION, format!("not all issuers of SNS signing certificates are known: {why}"));
    }
}

/// The known issuers that are not here, or whose time is over.
fn missing(inner: &Inner) -> Vec<(&'static str, &'static str)> {
    let (known, now) = (inner.issuers.known(), inner.clock.now());
    let names: Vec<_> =
        known.iter().filter(|der| chain::is_valid_at(der, now)).filter_map(|der| chain::common_name(der)).collect();
    AMAZON.into_iter().filter(|(name, _)| !names.iter().any(|known| known == name)).collect()
}
