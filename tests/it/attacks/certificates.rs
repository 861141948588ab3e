//! A48 to A60: where the signing certificate comes from, and what it must be.

use postern::simulator::authority::{Authority, Leaf, SIGNING_KEY_PEM};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use time::{Duration, OffsetDateTime};

use super::amazon::Script;
use super::bench::{Bench, CERT_URL, HOST, Message, hex};

#[tokio::test]
async fn a48_a49_a_certificate_url_that_is_not_amazons_own_is_refused() {
    let bench = Bench::start().await;
    let name = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
    let urls = [
        format!("https://sns.us-east-1.amazonaws.com/{name}"),
        format!("http://sns.us-west-2.amazonaws.com/{name}"),
        format!("https://sns.us-west-2.amazonaws.com:443/{name}"),
        format!("https://sns.us-west-2.amazonaws.com.evil.example/{name}"),
        format!("https://sns.us-west-2.amazonaws.com@evil.example/{name}"),
        format!("https://evil.example/sns.us-west-2.amazonaws.com/{name}"),
        format!("https://sns.s3-us-west-2.amazonaws.com/{name}"),
        format!("https://sns.us-west-2.amazonaws.com.cn/{name}"),
        format!("https://SNS.us-west-2.amazonaws.com/{name}"),
        format!("https://sns.us-west-2.amazonaws.com./{name}"),
        format!("https://sns.us-west-2.amazonaws.com//{name}"),
        format!("https://sns.us-west-2.amazonaws.com/../{name}"),
        format!("{CERT_URL}?x=1"),
        format!("{CERT_URL}#x"),
        format!("{CERT_URL}\n"),
        CERT_URL.replace("cdef.pem", "CDEF.pem"),
        CERT_URL.replace("cdef.pem", "cde.pem"),
        format!("{HOST}/?Action=GetTopicAttributes&x=.pem"),
        "https://169.254.169.254/x.pem".to_owned(),
        "file:///etc/passwd.pem".to_owned(),
    ];
    for url in urls {
        let message = Message::created("a").with("SigningCertURL", url).signed(&bench);
        bench.refuses(&message.body(), &[], 403, "cert_url_untrusted").await;
    }
    bench.app_knows_only(&[]).await;
}

/// What the certificate's address answers, and what the sender is told; afterwards all is well again.
async fn fetched(script: Script, status: u16, reason: &str) {
    let bench = Bench::start().await;
    bench.amazon.script(CERT_URL, script);
    let reply = bench.post(&Message::created("a").signed(&bench).body()).await;
    assert_eq!(reply.status, status, "{reason}\n{}", bench.log());
    assert_eq!(bench.refusals(reason).await, 1, "{reason}\n{}", bench.log());
    assert!(status != 503 || reply.head.to_ascii_lowercase().contains("retry-after"), "{}", reply.head);
    assert!(bench.amazon.requests().iter().all(|url| !url.contains("evil")), "not followed");
    // Another address is not held against it.
    let other = CERT_URL.replace("0123456789abcdef.pem", "fedcba9876543210.pem");
    bench.amazon.script(&other, Script::Body(200, bench.authority.leaf_pem().into()));
    assert_eq!(bench.send(&Message::created("b").with("SigningCertURL", other).signed(&bench)).await, 200);
    bench.wait_for("b").await;
    assert!(!bench.app.objects.lock().expect("a lock").contains(&"a".to_owned()));
}

#[tokio::test]
async fn a50_a_redirect_of_the_certificate_is_not_followed() {
    fetched(Script::Redirect("https://evil.example/x.pem".into()), 503, "cert_fetch").await;
}

#[tokio::test]
async fn a51_a_certificate_that_cannot_be_fetched_is_trouble_of_ours() {
    fetched(Script::Body(500, Vec::new()), 503, "cert_fetch").await;
    fetched(Script::Silence, 503, "cert_fetch").await;
}

#[tokio::test]
async fn a52_a_certificate_that_is_not_there_is_the_messages_fault() {
    fetched(Script::Body(404, Vec::new()), 403, "cert_missing").await;
}

#[tokio::test]
async fn a53_what_is_not_exactly_one_certificate_is_refused() {
    let authority = Authority::new(&Leaf::named("sns.amazonaws.com", OffsetDateTime::now_utc())).expect("an authority");
    let leaf = authority.leaf_pem();
    for body in [
        "not a certificate".to_owned(),
        format!("hello\n{leaf}"),
        format!("{leaf}trailing"),
        format!("{leaf}{}", authority.root_pem()),
        SIGNING_KEY_PEM.to_owned(),
        format!("{leaf}{}", "\n".repeat(20_000)),
    ] {
        fetched(Script::Body(200, body.into_bytes()), 403, "cert_format").await;
    }
}

/// A leaf in place of the good one.
async fn leaf(pem: String, status: u16, reason: &str) {
    let bench = Bench::start().await;
    bench.amazon.script(CERT_URL, Script::Body(200, pem.into_bytes()));
    let status_seen = bench.send(&Message::created("a").signed(&bench)).await;
    assert_eq!(status_seen, status, "{reason}\n{}", bench.log());
    assert_eq!(bench.refusals(reason).await, 1, "{reason}\n{}", bench.log());
}

async fn leaf_of_bench(make: impl FnOnce(&Bench) -> String, status: u16, reason: &str) {
    let bench = Bench::start().await;
    let pem = make(&bench);
    bench.amazon.script(CERT_URL, Script::Body(200, pem.into_bytes()));
    let status_seen = bench.send(&Message::created("a").signed(&bench)).await;
    assert_eq!(status_seen, status, "{reason}\n{}", bench.log());
    assert_eq!(bench.refusals(reason).await, 1, "{reason}\n{}", bench.log());
}

#[tokio::test]
async fn a54_a_certificate_of_nobody_we_trust_is_refused() {
    let now = OffsetDateTime::now_utc();
    let stranger = Authority::new(&Leaf::named("sns.amazonaws.com", now)).expect("an authority");
    // Same issuer name as our anchor, other key: a wrong issuer, not an unknown one (hard case 9).
    leaf(stranger.leaf_pem().to_owned(), 403, "cert_chain").await;
    let mut params = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, "sns.amazonaws.com");
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(1);
    let key = KeyPair::from_pem_and_sign_algo(SIGNING_KEY_PEM, &PKCS_RSA_SHA256).expect("a key");
    let self_signed = params.self_signed(&key).expect("a certificate").pem();
    leaf(self_signed, 403, "cert_chain").await;
}

#[tokio::test]
async fn a55_a59_a_certificate_of_another_name_is_refused() {
    for name in
        ["sns.amazonaws.com.evil.example", "sns-signing.af-south-1.amazonaws.com", "sns.us-west-2.amazonaws.com"]
    {
        let other = Leaf::named(name, OffsetDateTime::now_utc());
        leaf_of_bench(|bench| bench.authority.reissue(&other).expect("a leaf"), 403, "cert_name").await;
    }
}

#[tokio::test]
async fn a56_a_certificate_outside_its_time_is_refused() {
    let now = OffsetDateTime::now_utc();
    let named = Leaf::named("sns.amazonaws.com", now);
    let expired = Leaf { not_before: now - Duration::days(400), not_after: now - Duration::days(1), ..named.clone() };
    let unborn = Leaf { not_before: now + Duration::days(1), ..named };
    for other in [expired, unborn] {
        leaf_of_bench(|bench| bench.authority.reissue(&other).expect("a leaf"), 403, "cert_not_valid_now").await;
    }
}

#[tokio::test]
async fn a57_a_certificate_without_an_rsa_key_is_refused() {
    leaf_of_bench(
        |bench| {
            let now = OffsetDateTime::now_utc();
            let mut params = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()]).expect("parameters");
            params.not_before = now - Duration::days(1);
            params.not_after = now + Duration::days(1);
            let key = KeyPair::generate().expect("a P-256 key");
            params.signed_by(&key, bench.authority.issuer()).expect("a certificate").pem()
        },
        403,
        "cert_key",
    )
    .await;
}

#[tokio::test]
async fn a58_a_ca_certificate_is_no_leaf() {
    let ca = Leaf { is_ca: true, ..Leaf::named("sns.amazonaws.com", OffsetDateTime::now_utc()) };
    leaf_of_bench(|bench| bench.authority.reissue(&ca).expect("a leaf"), 403, "cert_is_ca").await;
}

#[tokio::test]
async fn a60_a_flood_of_certificate_urls_is_rationed_and_evicts_nothing_good() {
    let bench = Bench::start().await;
    assert_eq!(bench.send(&Message::created("before").signed(&bench)).await, 200);
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..300 {
        let url = format!("{HOST}/SimpleNotificationService-{}.pem", hex(32));
        let status = bench.send(&Message::created("x").with("SigningCertURL", url).signed(&bench)).await;
        *statuses.entry(status).or_default() += 1;
    }
    assert!(statuses.keys().all(|status| matches!(status, 403 | 503)), "{statuses:?}");
    assert!(bench.amazon.requests().len() < 100, "fetches are rationed: {}", bench.amazon.requests().len());
    assert_eq!(bench.send(&Message::created("after").signed(&bench)).await, 200, "the good one is still known");
    assert_eq!(bench.amazon.requests().iter().filter(|url| *url == CERT_URL).count(), 1, "and was fetched once");
    bench.app_knows_only(&["after", "before"]).await;
}
