//! Hard case 9: what is our own ignorance is answered with 503, which SNS repeats.
//!
//! That an issuer is fetched from amazontrust.com and then leads to Amazon's root cannot be shown here: it takes a certificate that
//! Amazon issued. The unit tests of `certs` show it with a root in Amazon's place.

use postern::simulator::authority::SIGNING_KEY_PEM;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use time::{Duration, OffsetDateTime};

use super::amazon::Script;
use super::bench::{Bench, CERT_URL, Message, timestamp};

/// A leaf of an authority that nobody here knows, for the key that signs.
fn unknown_leaf() -> String {
    let now = OffsetDateTime::now_utc();
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "An issuer of tomorrow");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, KeyPair::generate().expect("a key"));
    let mut leaf = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()]).expect("parameters");
    leaf.not_before = now - Duration::days(1);
    leaf.not_after = now + Duration::days(1);
    leaf.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::from_pem_and_sign_algo(SIGNING_KEY_PEM, &PKCS_RSA_SHA256).expect("a key");
    leaf.signed_by(&key, &issuer).expect("a certificate").pem()
}

#[tokio::test]
async fn an_issuer_that_we_do_not_have_is_our_trouble_and_an_alarm() {
    let bench = Bench::start().await;
    bench.amazon.script(CERT_URL, Script::Body(200, unknown_leaf().into_bytes()));
    let reply = bench.post(&Message::created("a").signed(&bench).body()).await;
    assert_eq!(reply.status, 503, "{}", bench.log());
    assert!(reply.head.to_ascii_lowercase().contains("retry-after"), "{}", reply.head);
    assert_eq!(bench.refusals("cert_issuer_unknown").await, 1);
    assert_eq!(bench.metric("postern_chain_problems_total{outcome=\"cert_issuer_unknown\"}").await, 1);
    let ready = bench.admin_get("/ready").await;
    assert!(
        ready.body.contains("signing certificates") && ready.body.contains("cert_issuer_unknown"),
        "{}",
        ready.body
    );
    // A certificate that leads to the anchor ends the alarm.
    let other = CERT_URL.replace("0123456789abcdef.pem", "fedcba9876543210.pem");
    bench.amazon.script(&other, Script::Body(200, bench.authority.leaf_pem().into()));
    assert_eq!(bench.send(&Message::created("b").with("SigningCertURL", other).signed(&bench)).await, 200);
    assert!(!bench.admin_get("/ready").await.body.contains("cert_issuer_unknown"));
    bench.wait_for("b").await;
    assert!(!bench.app.objects.lock().expect("a lock").contains(&"a".to_owned()));
}

#[tokio::test]
async fn a_chain_that_is_only_watched_or_not_looked_at_lets_an_unknown_issuer_pass_and_says_so() {
    for (policy, problems) in [("warn", 1), ("off", 0)] {
        let bench = Bench::with(&[("POSTERN_SNS_CHAIN", policy)]).await;
        bench.amazon.script(CERT_URL, Script::Body(200, unknown_leaf().into_bytes()));
        assert_eq!(bench.send(&Message::created("a").signed(&bench)).await, 200, "{policy}\n{}", bench.log());
        bench.wait_for("a").await;
        assert_eq!(bench.metric("postern_chain_problems_total{").await, problems, "{policy}");
        assert_eq!(bench.metric("postern_weakened_setting{setting=\"POSTERN_SNS_CHAIN\"}").await, 1, "{policy}");
        let forged = Message::created("forged").signed(&bench).with("Subject", "x");
        assert_eq!(bench.send(&forged).await, 403, "the signature is proven all the same");
    }
}

#[tokio::test]
async fn a_message_out_of_time_is_our_trouble_while_our_clock_is_off() {
    let bench = Bench::start().await;
    bench.amazon.set_ahead(600);
    for seconds in [-2 * 3600, 600] {
        let message = Message::created("a").with("Timestamp", timestamp(seconds)).signed(&bench);
        assert_eq!(bench.send(&message).await, 503, "{}", bench.log());
    }
    assert_eq!(bench.refusals("clock_off").await, 2);
}

/// With all certificates on disk nothing was fetched, so a wrong clock was never noticed and every message was refused for good.
#[tokio::test]
async fn after_a_restart_from_disk_the_clock_is_compared_before_a_message_is_refused_for_its_time() {
    let mut bench = Bench::start().await;
    assert_eq!(bench.send(&Message::created("before").signed(&bench)).await, 200);
    bench.crash_and_restart().await;
    bench.amazon.set_ahead(-600);
    let stale = Message::created("a").with("Timestamp", timestamp(-2 * 3600)).signed(&bench);
    assert_eq!(bench.send(&stale).await, 503, "{}", bench.log());
    assert_eq!(bench.refusals("clock_off").await, 1);
    let asked = bench.amazon.requests().len();
    assert_eq!(bench.send(&stale).await, 503);
    assert_eq!(bench.amazon.requests().len(), asked, "a flood of stale messages asks once");
}

#[tokio::test]
async fn without_network_a_restart_verifies_by_what_is_on_disk() {
    let mut bench = Bench::start().await;
    assert_eq!(bench.send(&Message::created("before").signed(&bench)).await, 200);
    bench.wait_settled("before").await;
    bench.amazon.go_away();
    bench.crash_and_restart().await;
    assert_eq!(bench.send(&Message::created("after").signed(&bench)).await, 200, "{}", bench.log());
    let stale = Message::created("stale").with("Timestamp", timestamp(-2 * 3600)).signed(&bench);
    assert_eq!(bench.send(&stale).await, 503, "nobody can tell us whose clock is wrong");
    assert_eq!(bench.refusals("clock_unknown").await, 1);
    let other = CERT_URL.replace("0123456789abcdef.pem", "fedcba9876543210.pem");
    let unknown = Message::created("unknown").with("SigningCertURL", other).signed(&bench);
    assert_eq!(bench.send(&unknown).await, 503, "a certificate that cannot be fetched");
    bench.app_knows_only(&["after", "before"]).await;
}
