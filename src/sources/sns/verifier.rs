//! The whole way from a request to a [`Verified`] value, with clock, certificates and policy in one hand.

use std::sync::Arc;

use hyper::HeaderMap;
use url::Url;

use super::certs::CertificateStore;
use super::message::{self, Envelope, Hints};
use super::refusal::{Reason, Refusal};
use super::url::certificate_url;
use super::verify::{Policy, Verified, precheck, verify_signature};
use crate::clock::{Clock, ClockSkew, UnixMillis};

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
    pub fn new(policy: Policy, certificates: CertificateStore, clock: Arc<dyn Clock>, skew: Arc<ClockSkew>) -> Self {
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
        self.prove(&message::parse(body, &hints(headers))?, self.clock.now()).await
    }

    /// Proves a message that waited in a queue of our own (hard case 21): there is no replay window, and the certificate is judged at
    /// the message's time. A time ahead of our clock is refused as ever.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_queued(&self, body: &[u8]) -> Result<Verified, Refusal> {
        let envelope = message::parse(body, &Hints::default())?;
        self.prove(&envelope, envelope.timestamp().min(self.clock.now())).await
    }

    async fn prove(&self, envelope: &Envelope<'_>, now: UnixMillis) -> Result<Verified, Refusal> {
        let url = match precheck(envelope, &self.policy, now, self.skew.is_off()) {
            Err(refusal) if matches!(refusal.reason, Reason::Stale | Reason::Future) => {
                self.recheck_time(envelope, now, refusal).await?
            }
            judged => judged?,
        };
        let key = self.certificates.get(&url, &envelope.topic().signing_name(), now).await?;
        verify_signature(envelope, &key)
    }
}

impl Verifier {
    /// Refuses for the time only by a clock that was compared with another.
    async fn recheck_time(&self, envelope: &Envelope<'_>, now: UnixMillis, refusal: Refusal) -> Result<Url, Refusal> {
        let endpoint = self.policy.endpoint.as_ref();
        let url = certificate_url(envelope.signing_cert_url(), envelope.topic(), endpoint)?;
        if !self.certificates.clock_is_known(&url).await {
            return Err(Refusal { reason: Reason::ClockUnknown, ..refusal });
        }
        precheck(envelope, &self.policy, now, self.skew.is_off())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::ChainPolicy;
    use crate::health::Health;
    use crate::queue::Pending;
    use crate::simulator::authority::{Authority, Leaf, Signer};
    use crate::sources::sns::certs::{Fetch, FetchError, Fetched, Setup};
    use crate::sources::sns::chain::Trust;
    use crate::telemetry::Metrics;

    const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:t";
    const AT: &str = "2026-03-06T19:53:21.424Z";

    struct Origin {
        pem: String,
        calls: AtomicUsize,
    }

    impl Fetch for Origin {
        fn get<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> Pending<'a, Result<Fetched, FetchError>> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let body = self.pem.clone().into_bytes();
            Box::pin(async move { Ok(Fetched { status: 200, body, date: None }) })
        }
    }

    fn verifier(anchor: &str, leaf: &str, endpoint: Option<&str>) -> (Verifier, Arc<Origin>) {
        let clock = Arc::new(ManualClock::at(UnixMillis::parse_rfc3339(AT).expect("a time")));
        let skew = Arc::new(ClockSkew::default());
        let origin = Arc::new(Origin { pem: leaf.to_owned(), calls: AtomicUsize::new(0) });
        let certificates = CertificateStore::open(Setup {
            fetch: Arc::clone(&origin) as Arc<dyn Fetch>,
            trust: Trust::from_pem(anchor.as_bytes()).expect("an anchor"),
            chain: ChainPolicy::Enforce,
            data_dir: None,
            issuers: Vec::new(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            skew: Arc::clone(&skew),
            health: Arc::new(Health::default()),
            metrics: Metrics::register(&mut Registry::default()),
        });
        let policy = Policy {
            topics: [TOPIC.to_owned()].into(),
            min_signature_version: 1,
            max_age: Duration::from_secs(5400),
            chain: ChainPolicy::Enforce,
            endpoint: endpoint.map(|url| Url::parse(url).expect("a URL")),
        };
        (Verifier::new(policy, certificates, clock, skew), origin)
    }

    fn message(signer: &Signer, topic: &str, certificate: &str) -> String {
        let mut message = serde_json::json!({
            "Type": "Notification", "MessageId": "26858270-545e-5848-82a2-e05566af3dcf", "TopicArn": topic, "Message": "m",
            "Timestamp": AT, "SignatureVersion": "1", "Signature": "", "SigningCertURL": certificate,
        });
        let text = message.to_string();
        let canonical = message::parse(text.as_bytes(), &Hints::default()).expect("well-formed").canonical_string();
        message["Signature"] = signer.sign(1, canonical.as_bytes()).into();
        message.to_string()
    }

    fn authority() -> Authority {
        let now = UnixMillis::parse_rfc3339(AT).expect("a time").to_utc();
        Authority::new(&Leaf::named("sns.amazonaws.com", now)).expect("an authority")
    }

    fn certificate_url() -> String {
        format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{}.pem", "a".repeat(32))
    }

    #[tokio::test]
    async fn nothing_is_fetched_for_a_foreign_topic_and_once_for_our_own() {
        let authority = authority();
        let (verifier, origin) = verifier(authority.root_pem(), authority.leaf_pem(), None);
        let foreign = message(authority.signer(), "arn:aws:sns:us-east-1:000000000001:t", &certificate_url());
        let refused = verifier.verify(&HeaderMap::new(), foreign.as_bytes()).await.map_err(|r| r.reason);
        assert_eq!((refused, origin.calls.load(Ordering::SeqCst)), (Err(Reason::TopicNotAllowed), 0));
        let own = message(authority.signer(), TOPIC, &certificate_url());
        for _ in 0..3 {
            verifier.verify(&HeaderMap::new(), own.as_bytes()).await.expect("genuine");
        }
        assert_eq!(origin.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_message_from_our_own_queue_is_judged_at_its_own_time() {
        let authority = authority();
        let (mut verifier, _) = verifier(authority.root_pem(), authority.leaf_pem(), None);
        let body = message(authority.signer(), TOPIC, &certificate_url());
        let sent = UnixMillis::parse_rfc3339(AT).expect("a time");
        let year = Duration::from_secs(500 * 86_400);
        for (clock, result) in [(sent.plus(year), None), (sent.minus(year), Some(Reason::Future))] {
            verifier.clock = Arc::new(ManualClock::at(clock));
            assert_eq!(verifier.verify_queued(body.as_bytes()).await.err().map(|refusal| refusal.reason), result);
            assert!(verifier.verify(&HeaderMap::new(), body.as_bytes()).await.is_err());
        }
    }

    #[tokio::test]
    async fn another_sns_signs_with_the_very_certificate_that_the_operator_gave() {
        let authority = authority();
        let certificate = "http://127.0.0.1:4566/_aws/sns/SimpleNotificationService-6c6f63616c.pem";
        let body = message(authority.signer(), TOPIC, certificate);
        let (other, _) = verifier(authority.leaf_pem(), authority.leaf_pem(), Some("http://127.0.0.1:4566"));
        assert!(other.verify(&HeaderMap::new(), body.as_bytes()).await.is_ok());
        // Then Amazon's own address is a stranger's, and without the setting that one's is.
        let amazon = message(authority.signer(), TOPIC, &certificate_url());
        let refused = other.verify(&HeaderMap::new(), amazon.as_bytes()).await.map_err(|r| r.reason);
        assert_eq!(refused, Err(Reason::CertUrlUntrusted));
        let (plain, _) = verifier(authority.leaf_pem(), authority.leaf_pem(), None);
        let refused = plain.verify(&HeaderMap::new(), body.as_bytes()).await.map_err(|r| r.reason);
        assert_eq!(refused, Err(Reason::CertUrlUntrusted));
    }

    #[tokio::test]
    async fn headers_that_disagree_occur_twice_or_say_raw_refuse() {
        let authority = authority();
        let (verifier, _) = verifier(authority.root_pem(), authority.leaf_pem(), None);
        let body = message(authority.signer(), TOPIC, &certificate_url());
        for (headers, reason) in [
            (&[("x-amz-sns-message-type", "Notification"), ("x-amz-sns-topic-arn", TOPIC)][..], None),
            (&[("x-amz-sns-rawdelivery", "false")], None),
            (&[("x-amz-sns-rawdelivery", "true")], Some(Reason::RawDelivery)),
            (&[("x-amz-sns-message-type", "UnsubscribeConfirmation")], Some(Reason::TypeHeaderMismatch)),
            (
                &[("x-amz-sns-message-type", "Notification"), ("x-amz-sns-message-type", "Notification")],
                Some(Reason::TypeHeaderMismatch),
            ),
            (&[("x-amz-sns-topic-arn", "arn:aws:sns:us-east-1:000000000000:tx")], Some(Reason::TopicHeaderMismatch)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a value"));
            }
            let got = verifier.verify(&map, body.as_bytes()).await.err().map(|refusal| refusal.reason);
            assert_eq!(got, reason, "{headers:?}");
        }
    }
}
