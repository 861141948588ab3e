use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::simulator::authority::{Authority, Leaf};
use crate::sources::sns::chain::{self, Bench, Trust};
use crate::sources::sns::message::{self, Hints};

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:t";
const URL: &str = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem";
const AT: &str = "2026-03-06T19:53:21.424Z";

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).expect(text)
}

fn policy() -> Policy {
    Policy {
        topics: [TOPIC.to_owned()].into(),
        min_signature_version: 1,
        max_age: Duration::from_secs(90 * 60),
        chain: ChainPolicy::Enforce,
        endpoint: None,
    }
}

fn body(authority: &Authority, kind: &str, version: u8, change: impl Fn(&mut Value)) -> String {
    let token = "ab".repeat(32);
    let mut message = serde_json::json!({
        "Type": kind,
        "MessageId": "26858270-545e-5848-82a2-e05566af3dcf",
        "TopicArn": TOPIC,
        "Message": "hello\n",
        "Timestamp": AT,
        "SignatureVersion": version.to_string(),
        "Signature": "",
        "SigningCertURL": URL,
    });
    if kind != "Notification" {
        message["Token"] = token.as_str().into();
        message["SubscribeURL"] =
            format!("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}")
                .into();
    }
    let canonical = |message: &Value| {
        let text = message.to_string();
        message::parse(text.as_bytes(), &Hints::default()).expect("well-formed").canonical_string()
    };
    message["Signature"] = authority.signer().sign(version, canonical(&message).as_bytes()).into();
    change(&mut message);
    message.to_string()
}

fn authority() -> (Authority, SigningKey) {
    let leaf = Leaf::named("sns.amazonaws.com", at(AT).to_utc());
    let authority = Authority::new(&leaf).expect("an authority");
    let trust = Trust::from_pem(authority.root_pem().as_bytes()).expect("a root");
    let bench = Bench { trust: &trust, issuers: &[], chain: ChainPolicy::Enforce, now: at(AT) };
    let judged = chain::judge(authority.leaf_pem().as_bytes(), URL, "sns.amazonaws.com", &bench).expect("a good leaf");
    (authority, judged.key)
}

fn judge(body: &str, policy: &Policy, now: UnixMillis, off: bool, key: &SigningKey) -> Result<Verified, Reason> {
    let envelope = message::parse(body.as_bytes(), &Hints::default()).map_err(|r| r.reason)?;
    precheck(&envelope, policy, now, off).map_err(|r| r.reason)?;
    verify_signature(&envelope, key).map_err(|r| r.reason)
}

#[test]
fn both_signature_versions_prove_all_three_kinds() {
    let (authority, key) = authority();
    for version in [1, 2] {
        for kind in ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            let body = body(&authority, kind, version, |_| {});
            let verified = judge(&body, &policy(), at(AT), false, &key).expect("genuine");
            assert_eq!(verified.kind().as_str(), kind);
            assert_eq!(verified.topic_arn(), TOPIC);
            match verified {
                Verified::Notification(n) => {
                    assert_eq!((n.message(), n.subject(), n.timestamp_text()), ("hello\n", None, AT));
                }
                Verified::SubscriptionConfirmation(c) | Verified::UnsubscribeConfirmation(c) => {
                    let url = c.confirmation_url(None).expect("an address");
                    assert!(body.contains(url.as_str()) && !format!("{c:?}").contains(c.token()));
                }
            }
        }
    }
}

#[test]
fn whatever_is_changed_after_signing_is_found() {
    let (authority, key) = authority();
    for (name, value, reason) in [
        ("Message", "hello", Reason::BadSignature),
        ("MessageId", "26858270-545e-5848-82a2-e05566af3dce", Reason::BadSignature),
        ("Subject", "new", Reason::BadSignature),
        ("Timestamp", "2026-03-06T19:53:21.425Z", Reason::BadSignature),
        ("SignatureVersion", "1", Reason::BadSignature),
        ("Signature", "AA==", Reason::BadSignature),
        ("Signature", "AA=", Reason::BadSignatureEncoding),
        ("TopicArn", "arn:aws:sns:us-east-1:123456789012:tx", Reason::TopicNotAllowed),
        ("SigningCertURL", "https://evil.example/x.pem", Reason::CertUrlUntrusted),
    ] {
        let body = body(&authority, "Notification", 2, |message| message[name] = value.into());
        assert_eq!(judge(&body, &policy(), at(AT), false, &key), Err(reason), "{name}");
    }
    for bytes in [vec![0; 256], vec![0xff; 256], vec![1; 257]] {
        use base64::Engine as _;
        let signature = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let body = body(&authority, "Notification", 2, |message| message["Signature"] = signature.as_str().into());
        assert_eq!(judge(&body, &policy(), at(AT), false, &key), Err(Reason::BadSignature));
    }
}

#[test]
fn the_checks_go_from_topic_to_certificate_address_to_time() {
    let (authority, key) = authority();
    let all_wrong = body(&authority, "SubscriptionConfirmation", 1, |message| {
        message["SigningCertURL"] = "https://evil.example/".into();
        message["SubscribeURL"] = "https://evil.example/".into();
        message["Signature"] = "!".into();
    });
    let (mut policy, late) = (policy(), at(AT).plus(Duration::from_secs(9000)));
    policy.min_signature_version = 2;
    let mut seen = Vec::new();
    for fix in [None, Some("topic"), Some("SigningCertURL"), Some("SubscribeURL"), Some("time"), Some("version")] {
        static GOOD: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
        let good = GOOD.get_or_init(|| {
            serde_json::from_str(&body(&authority, "SubscriptionConfirmation", 1, |_| {})).expect("JSON")
        });
        seen.push(fix);
        let mut message: Value = serde_json::from_str(&all_wrong).expect("JSON");
        let has = |name: &str| seen.contains(&Some(name));
        for name in ["SigningCertURL", "SubscribeURL"] {
            if has(name) {
                message[name] = good[name].clone();
            }
        }
        let mut policy = policy.clone();
        if !has("topic") {
            policy.topics.clear();
        }
        if has("version") {
            policy.min_signature_version = 1;
        }
        let now = if has("time") { at(AT) } else { late };
        let expected = match fix {
            None => Reason::TopicNotAllowed,
            Some("topic") => Reason::CertUrlUntrusted,
            Some("SigningCertURL") => Reason::SubscribeUrlUntrusted,
            Some("SubscribeURL") => Reason::Stale,
            Some("time") => Reason::SignatureVersionTooLow,
            _ => Reason::BadSignatureEncoding,
        };
        assert_eq!(judge(&message.to_string(), &policy, now, false, &key), Err(expected), "{fix:?}");
    }
}

#[test]
fn time_refusals_are_our_own_fault_while_our_clock_is_off() {
    let (authority, key) = authority();
    let body = body(&authority, "Notification", 2, |_| {});
    let judge = |offset: i64, off| {
        let now = UnixMillis(at(AT).0 + offset * 1000);
        judge(&body, &policy(), now, off, &key).map(|_| ()).map_err(|reason| (reason, reason.status()))
    };
    assert_eq!(judge(65 * 60, false), Ok(()));
    assert_eq!(judge(-5 * 60, false), Ok(()));
    assert_eq!(judge(-5 * 60 - 1, false), Err((Reason::Future, 403)));
    assert_eq!(judge(2 * 3600, false), Err((Reason::Stale, 403)));
    assert_eq!(judge(2 * 3600, true), Err((Reason::ClockOff, 503)));
    assert_eq!(judge(-600, true), Err((Reason::ClockOff, 503)));
    assert_eq!(judge(60, true), Ok(()));
}

#[test]
fn a_downgrade_is_refused_where_version_2_is_asked_for() {
    let (authority, key) = authority();
    let body = body(&authority, "Notification", 1, |_| {});
    let strict = Policy { min_signature_version: 2, ..policy() };
    assert_eq!(judge(&body, &strict, at(AT), false, &key), Err(Reason::SignatureVersionTooLow));
}

// === really signed messages ===

fn real_messages() -> Option<PathBuf> {
    let dir = std::env::var_os("POSTERN_REAL_SNS_DIR").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: POSTERN_REAL_SNS_DIR does not name a folder of really signed SNS messages");
    }
    dir
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the sidecar would answer: status and reason.
fn answer(
    dir: &Path,
    body: &[u8],
    hints: &Hints<'_>,
    cert: &str,
    topics: &[&str],
    now: UnixMillis,
    chain: ChainPolicy,
) -> (u16, String) {
    let policy = Policy { topics: topics.iter().map(|t| (*t).to_owned()).collect(), chain, ..policy() };
    let issuers: Vec<_> = ["AmazonRSA2048M01.pem", "AmazonServerCA1B.pem"]
        .iter()
        .flat_map(|name| chain::pem_certificates(&read(&dir.join("chain").join(name))).expect("PEM"))
        .map(Into::into)
        .collect();
    let trust = Trust::amazon();
    let bench = Bench { trust: &trust, issuers: &issuers, chain, now };
    let result = (|| {
        let envelope = message::parse(body, hints)?;
        let url = precheck(&envelope, &policy, now, false)?;
        let pem = read(&dir.join(cert));
        let judged = chain::judge(&pem, url.as_str(), &envelope.topic().signing_name(), &bench)?;
        verify_signature(&envelope, &judged.key)
    })();
    result.map_or_else(|r| (r.status(), r.reason.as_str().to_owned()), |_| (200, "ok".to_owned()))
}

#[test]
fn real_messages_of_amazon_verify_at_their_own_time() {
    let Some(dir) = real_messages() else { return };
    let index: Vec<Value> = serde_json::from_slice(&read(&dir.join("index.json"))).expect("JSON");
    assert!(!index.is_empty());
    for entry in &index {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let body = read(&dir.join(text("file")));
        let now = at(text("timestamp")).plus(Duration::from_secs(2));
        let topics = [text("topic_arn")];
        let hints = Hints { message_type: Some(text("type")), topic_arn: Some(topics[0]), raw_delivery: false };
        let canonical = message::parse(&body, &hints).expect("well-formed").canonical_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, text("canonical_sha256"), "{}", text("file"));

        let judged = |chain| answer(&dir, &body, &hints, text("cert"), &topics, now, chain);
        let year: u32 = text("timestamp")[..4].parse().expect("a year");
        // The key of 2010 to 2013 has 1024 bits; the authorities of 2013 to 2017 are long gone, which is our ignorance.
        let (enforced, off) = match year {
            ..2014 => ((403, "cert_key"), (403, "cert_key")),
            2014..2018 => ((503, "cert_issuer_unknown"), (200, "ok")),
            _ => ((200, "ok"), (200, "ok")),
        };
        assert_eq!(judged(ChainPolicy::Enforce), (enforced.0, enforced.1.to_owned()), "{}", text("file"));
        assert_eq!(judged(ChainPolicy::Off), (off.0, off.1.to_owned()), "{}", text("file"));
        let late = now.plus(Duration::from_secs(2 * 3600));
        assert_eq!(answer(&dir, &body, &hints, text("cert"), &topics, late, ChainPolicy::Off).1, "stale");
        assert_eq!(answer(&dir, &body, &hints, text("cert"), &[], now, ChainPolicy::Off).1, "topic_not_allowed");
    }
}

#[test]
fn changed_real_messages_get_the_answer_that_they_deserve() {
    let Some(dir) = real_messages() else { return };
    for file in ["cases/forgeries.json", "cases/mutations.json"] {
        let cases: Value = serde_json::from_slice(&read(&dir.join(file))).expect("JSON");
        let cases = cases["cases"].as_array().expect("cases");
        assert!(!cases.is_empty());
        for case in cases {
            let text = |name: &str| case[name].as_str();
            let topics: Vec<_> =
                case["allow_topics"].as_array().expect("topics").iter().filter_map(Value::as_str).collect();
            let hints = Hints { message_type: text("header_type"), ..Hints::default() };
            let body = text("body").expect("a body");
            let cert = text("cert").expect("a certificate");
            let now = at(text("clock").expect("a clock"));
            let got = answer(&dir, body.as_bytes(), &hints, cert, &topics, now, ChainPolicy::Enforce);
            let wanted = case["expect"]["status"].as_u64().expect("a status");
            assert_eq!(u64::from(got.0), wanted, "{}: {}, wanted {}", case["id"], got.1, case["expect"]["reason"]);
            assert_eq!(Some(got.1.as_str()), case["expect"]["reason"].as_str(), "{}", case["id"]);
        }
    }
}

#[test]
fn time_is_judged_in_whole_windows() {
    // The clamp of an absurd clock must not wrap into acceptance.
    let (authority, key) = authority();
    let body = body(&authority, "Notification", 2, |_| {});
    for now in [UnixMillis(i64::MAX), UnixMillis(i64::MIN), UnixMillis(0)] {
        assert!(judge(&body, &policy(), now, false, &key).is_err());
    }
}
