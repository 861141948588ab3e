//! The whole way from a request to a [`Verified`] value, with clock, certificates and policy in one hand.

use std::sync::Arc;

use hyper::HeaderMap;

use super::certs::CertificateStore;
use super::message::{self, Hints};
use super::refusal::Refusal;
use super::verify::{Policy, Verified, precheck, verify_signature};
use crate::clock::{Clock, ClockSkew};

/// Proves SNS messages.
pub struct Verifier {
    policy: Policy,
    certificates: CertificateStore,
    clock: Arc<dyn Clock>,
    skew: Arc<ClockSkew>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier; `skew` is the one that `certificates` observes.
    pub fn new(
        policy: Policy,
        certificates: CertificateStore,
        clock: Arc<dyn Clock>,
        skew: Arc<ClockSkew>,
    ) -> Self {
        Self { policy, certificates, clock, skew }
    }

    /// What is accepted.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The certificates, for fetching issuers in the background.
    pub fn certificates(&self) -> &CertificateStore {
        &self.certificates
    }

    /// Proves a request's body. Does no IO while its certificate is cached.
    ///
    /// # Errors
    /// The first rule that the message breaks, in the order of `sns.md` 2.4.
    pub async fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Verified, Refusal> {
        let envelope = message::parse(body, &hints(headers))?;
        let now = self.clock.now();
        let url = precheck(&envelope, &self.policy, now, self.skew.is_off())?;
        let key = self.certificates.get(&url, &envelope.topic().signing_name(), now).await?;
        verify_signature(&envelope, &key)
    }
}

/// What the headers say. A header that occurs twice, or is not text, can agree with nothing.
pub fn hints(headers: &HeaderMap) -> Hints<'_> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
    };
    Hints {
        message_type: one("x-amz-sns-message-type"),
        topic_arn: one("x-amz-sns-topic-arn"),
        raw_delivery: headers
            .get_all("x-amz-sns-rawdelivery")
            .iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"false")),
    }
}
