//! What proving one SNS message costs once its certificate is known: `cargo bench --bench verify`.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postern::clock::UnixMillis;
use postern::config::ChainPolicy;
use postern::simulator::authority::{Authority, Leaf};
use postern::sources::sns::chain::{self, Bench, SigningKey, Trust};
use postern::sources::sns::message::{self, Hints};
use postern::sources::sns::verify::{Policy, precheck, verify_signature};

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:uploads";
const AT: &str = "2026-03-06T19:53:21.424Z";
/// How long each operation is repeated.
const RUN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verify: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let now = UnixMillis::parse_rfc3339(AT).ok_or("not a time")?;
    let authority = Authority::new(&Leaf::named("sns.amazonaws.com", now.to_utc()))?;
    let trust = Trust::from_pem(authority.root_pem().as_bytes())?;
    let url = format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{}.pem", "a".repeat(32));
    let bench = Bench { trust: &trust, issuers: &[], chain: ChainPolicy::Enforce, now };
    let key = chain::judge(authority.leaf_pem().as_bytes(), &url, "sns.amazonaws.com", &bench)?.key;
    let policy = Policy {
        topics: [TOPIC.to_owned()].into(),
        min_signature_version: 1,
        max_age: Duration::from_secs(5400),
        chain: ChainPolicy::Enforce,
        endpoint: None,
    };

    let (one, two) = (signed(&authority, &url, 1)?, signed(&authority, &url, 2)?);
    println!("a notification of {} bytes", two.len());
    measure("parse", || {
        black_box(message::parse(black_box(two.as_bytes()), &Hints::default()).is_ok());
    });
    let envelope = message::parse(two.as_bytes(), &Hints::default())?;
    measure("canonical string", || {
        black_box(black_box(&envelope).canonical_string());
    });
    measure("precheck", || {
        black_box(precheck(black_box(&envelope), &policy, now, false).is_ok());
    });
    measure("all, version 1", || whole(&one, &policy, &key, now));
    measure("all, version 2", || whole(&two, &policy, &key, now));
    measure("judge a certificate", || {
        black_box(chain::judge(authority.leaf_pem().as_bytes(), &url, "sns.amazonaws.com", &bench).is_ok());
    });
    Ok(())
}

/// What a request costs between its last byte and the queue.
fn whole(body: &str, policy: &Policy, key: &SigningKey, now: UnixMillis) {
    let verified = message::parse(black_box(body.as_bytes()), &Hints::default()).and_then(|envelope| {
        precheck(&envelope, policy, now, false)?;
        verify_signature(&envelope, key)
    });
    assert!(black_box(verified).is_ok(), "the message must be genuine, or something else is measured");
}

fn measure(name: &str, operation: impl Fn()) {
    for _ in 0..100 {
        operation();
    }
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < RUN {
        for _ in 0..100 {
            operation();
        }
        count += 100;
    }
    let each = begun.elapsed() / count;
    println!("{name:<20} {:>8} ns  {:>9.0} /s", each.as_nanos(), 1.0 / each.as_secs_f64());
}

fn signed(authority: &Authority, url: &str, version: u8) -> Result<String, Box<dyn std::error::Error>> {
    let record = serde_json::json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": AT,
        "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "198.51.100.7"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "uploads",
            "bucket": {"name": "uploads", "ownerIdentity": {"principalId": "A3NL1KOZZKExample"}, "arn": "arn:aws:s3:::uploads"},
            "object": {"key": "2026/03/06/photo.jpg", "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}},
    }]});
    let mut message = serde_json::json!({
        "Type": "Notification", "MessageId": "26858270-545e-5848-82a2-e05566af3dcf", "TopicArn": TOPIC,
        "Subject": "Amazon S3 Notification", "Message": record.to_string(), "Timestamp": AT,
        "SignatureVersion": version.to_string(), "Signature": "", "SigningCertURL": url,
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
    });
    let text = message.to_string();
    let canonical = message::parse(text.as_bytes(), &Hints::default())?.canonical_string();
    message["Signature"] = authority.signer().sign(version, canonical.as_bytes()).into();
    Ok(message.to_string())
}
