//! End to end against a real S3 and SNS (LocalStack): bucket -> topic -> postern -> receiver, with the real binary.

use std::process::Command;

use hyper::Method;
use postern::simulator::authority::{Authority, Leaf, SIGNING_KEY_PEM};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256, SanType};
use time::OffsetDateTime;

use crate::support::aws::{Aws, call};
use crate::support::process::{ToolServer, write};
use crate::support::receiver::{Received, Receiver};
use crate::support::sidecar::{KEY, Sidecar};
use crate::support::tool;
use crate::support::wait::wait_until;

/// Where LocalStack serves the certificate of the key that it makes at its start.
const CERTIFICATE_PATH: &str = "/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem";

/// Whether a callback is about `event` of `key`.
fn is_about(received: &Received, event: &str, key: &str) -> bool {
    let body = received.json();
    let record = &body["message"]["raw"]["Records"][0];
    record["eventName"] == event && record["s3"]["object"]["key"] == key
}

/// Waits for the callback about `event` of `key`, and checks what every callback must be.
async fn delivered(receiver: &Receiver, event: &str, key: &str) -> serde_json::Value {
    let what = format!("{event} of {key} is delivered");
    let received = receiver.wait_for(&what, |received| is_about(received, event, key)).await;
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/events"));
    assert!(received.is_signed_with(KEY), "{event} of {key}: the signature is not of these bytes");
    assert!(!received.is_signed_with("another key"));
    let id = received.header("elements-webhook-id");
    assert!(!id.is_empty());
    assert_eq!(id, received.header("webhook-id"), "both names carry the delivery's id");
    let body = received.json();
    assert_eq!(body["message"]["eventId"].as_str().map(str::len), Some(20), "{body}");
    body
}

/// Starts a sidecar that trusts the certificate which LocalStack made for itself, and subscribes it.
async fn subscribed_sidecar(aws: &Aws, server: &ToolServer, receiver: &Receiver, topic: &str) -> Sidecar {
    let certificate = call(Method::GET, &format!("{}{CERTIFICATE_PATH}", server.endpoint()), &[], "").await;
    let anchor = write(server.folder(), "anchor.pem", &certificate.text());
    let settings =
        [("POSTERN_SNS_ENDPOINT_URL", server.endpoint()), ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str())];
    let sidecar = Sidecar::start(topic, &receiver.url("/events"), &settings).await;
    subscribe(aws, topic, &sidecar).await;
    sidecar
}

/// Subscribes the sidecar, which confirms the subscription by itself.
async fn subscribe(aws: &Aws, topic: &str, sidecar: &Sidecar) {
    aws.subscribe(topic, &sidecar.sns_url()).await;
    wait_until("the sidecar has confirmed the subscription", || async { aws.is_confirmed(topic).await.then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_changes_reach_the_app_as_signed_events_under_both_signature_versions() {
    let test = "s3_changes_reach_the_app_as_signed_events_under_both_signature_versions";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let receiver = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    let sidecar = subscribed_sidecar(&aws, &server, &receiver, &topic).await;
    aws.create_announcing_bucket("photos", &topic).await;

    aws.s3(Method::PUT, "/photos/a.txt", &[], "hello").await;
    let body = delivered(&receiver, "ObjectCreated:Put", "a.txt").await;
    assert_eq!(body["message"]["events"][0]["eventType"], "CREATED");
    assert_eq!(body["message"]["events"][0]["objectType"], "file");
    assert_eq!(body["message"]["instanceId"], body["message"]["instance_id"]);

    aws.s3(Method::PUT, "/photos/b.txt", &[("x-amz-copy-source", "/photos/a.txt")], "").await;
    delivered(&receiver, "ObjectCreated:Copy", "b.txt").await;

    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    aws.s3(Method::PUT, "/photos/a.txt?tagging", &[], tags).await;
    let body = delivered(&receiver, "ObjectTagging:Put", "a.txt").await;
    assert_eq!(body["message"]["events"][0]["eventType"], "UPDATED");

    aws.s3(Method::DELETE, "/photos/b.txt", &[], "").await;
    let body = delivered(&receiver, "ObjectRemoved:Delete", "b.txt").await;
    assert_eq!(body["message"]["events"][0]["eventType"], "DELETED");

    // Version 2: the same path with SHA-256.
    let version = [("TopicArn", topic.as_str()), ("AttributeName", "SignatureVersion"), ("AttributeValue", "2")];
    aws.sns("SetTopicAttributes", &version).await;
    aws.s3(Method::PUT, "/photos/second.txt", &[], "hello").await;
    delivered(&receiver, "ObjectCreated:Put", "second.txt").await;

    assert_eq!(sidecar.metric("postern_intake_requests_total", &["status=\"403\""]).await, 0.0);
    // Each change came once: this bucket's five, and nothing of the test event that S3 sends first.
    assert_eq!(receiver.received().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_and_attributes_verify_and_what_is_no_s3_event_is_set_aside() {
    let test = "a_subject_and_attributes_verify_and_what_is_no_s3_event_is_set_aside";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let receiver = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    let sidecar = subscribed_sidecar(&aws, &server, &receiver, &topic).await;

    let record = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-01-01T00:00:00.000Z",
        "eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":"spoken.txt","size":1,"eTag":"x"}}}]}"#;
    for version in ["1", "2"] {
        let attribute =
            [("TopicArn", topic.as_str()), ("AttributeName", "SignatureVersion"), ("AttributeValue", version)];
        aws.sns("SetTopicAttributes", &attribute).await;
        let message = record.replace("spoken.txt", &format!("spoken-{version}.txt"));
        aws.publish(&topic, &message, Some("A subject, with punctuation: yes")).await;
        delivered(&receiver, "ObjectCreated:Put", &format!("spoken-{version}.txt")).await;
        aws.publish(&topic, &format!("no S3 event, version {version}"), Some("hello")).await;
    }

    sidecar.wait_for_metric("postern_queue_dead", &[], 2.0).await;
    assert_eq!(receiver.received().len(), 2, "what is no S3 event is kept, not delivered");
    assert_eq!(sidecar.metric("postern_intake_requests_total", &["status=\"403\""]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_delivery_carries_no_proof_and_is_refused() {
    let test = "raw_delivery_carries_no_proof_and_is_refused";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let receiver = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    let sidecar = subscribed_sidecar(&aws, &server, &receiver, &topic).await;
    let subscription = aws.subscription(&topic).await;
    let raw = [
        ("SubscriptionArn", subscription.as_str()),
        ("AttributeName", "RawMessageDelivery"),
        ("AttributeValue", "true"),
    ];
    aws.sns("SetSubscriptionAttributes", &raw).await;

    aws.publish(&topic, r#"{"Records":[]}"#, None).await;

    let refused = ["source=\"sns\"", "reason=\"raw_delivery\"", "status=\"403\""];
    sidecar.wait_for_metric("postern_intake_requests_total", &refused, 1.0).await;
    assert!(receiver.received().is_empty(), "nothing unproven gets in");
}

/// Another RSA key, made by the library that LocalStack brings; the crypto provider here makes none.
fn new_rsa_key(venv: &std::path::Path) -> String {
    let program = "from cryptography.hazmat.primitives import serialization as s\n\
        from cryptography.hazmat.primitives.asymmetric import rsa\n\
        key = rsa.generate_private_key(65537, 2048)\n\
        print(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode(), end='')";
    let output =
        Command::new(venv.join("bin/python")).args(["-c", program]).output().expect("the environment's python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("PEM")
}

/// A leaf of `authority` for another key than the simulator's.
fn leaf_for(authority: &Authority, key_pem: &str, now: OffsetDateTime) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "sns.amazonaws.com");
    params.subject_alt_names = vec![SanType::DnsName("sns.amazonaws.com".try_into().expect("a name"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(30);
    let key = KeyPair::from_pem_and_sign_algo(key_pem, &PKCS_RSA_SHA256).expect("an RSA key");
    params.signed_by(&key, authority.issuer()).expect("a certificate").pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_to_the_anchor_is_followed_through_rotation_and_another_authority_is_refused() {
    let test = "a_chain_to_the_anchor_is_followed_through_rotation_and_another_authority_is_refused";
    let Some(venv) = tool(test, "POSTERN_TEST_LOCALSTACK") else { return };
    let now = OffsetDateTime::now_utc();
    let leaf = Leaf::named("sns.amazonaws.com", now);
    let (ours, strangers) =
        (Authority::new(&leaf).expect("an authority"), Authority::new(&leaf).expect("an authority"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, content: &str| write(folder.path(), name, content);
    let anchor = file("root.pem", ours.root_pem());
    let (key, certificate) = (file("key.pem", SIGNING_KEY_PEM), file("leaf.pem", ours.leaf_pem()));
    let second_key_pem = new_rsa_key(&venv);
    let second_key = file("key-2.pem", &second_key_pem);
    let second_certificate = file("leaf-2.pem", &leaf_for(&ours, &second_key_pem, now));
    let foreign_certificate = file("leaf-3.pem", strangers.leaf_pem());

    let path = |digit: &str| format!("/SimpleNotificationService-{}.pem", digit.repeat(32));
    let mut server = ToolServer::start("localstack", &["--signed", &key, &certificate, &path("1")]);
    let (port, endpoint) = (server.port().to_owned(), server.endpoint().to_owned());
    let aws = Aws::at(&endpoint);
    let receiver = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    let settings =
        [("POSTERN_SNS_ENDPOINT_URL", endpoint.as_str()), ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str())];
    let sidecar = Sidecar::start(&topic, &receiver.url("/events"), &settings).await;
    subscribe(&aws, &topic, &sidecar).await;
    aws.create_announcing_bucket("photos", &topic).await;
    aws.s3(Method::PUT, "/photos/first.txt", &[], "hello").await;
    delivered(&receiver, "ObjectCreated:Put", "first.txt").await;

    // Another key behind another certificate at another URL, as Amazon rotates; this SNS forgets its topics with its key, so that
    // the subscription is made, and confirmed, once more.
    server.restart(&["--port", &port, "--signed", &second_key, &second_certificate, &path("2")]);
    assert_eq!(aws.create_topic("changes").await, topic);
    subscribe(&aws, &topic, &sidecar).await;
    aws.create_announcing_bucket("photos", &topic).await;
    aws.s3(Method::PUT, "/photos/rotated.txt", &[], "hello").await;
    delivered(&receiver, "ObjectCreated:Put", "rotated.txt").await;
    assert_eq!(sidecar.metric("postern_intake_requests_total", &["status=\"403\""]).await, 0.0);

    // The same key under a certificate of an authority that the sidecar does not trust.
    server.restart(&["--port", &port, "--signed", &key, &foreign_certificate, &path("3")]);
    assert_eq!(aws.create_topic("changes").await, topic);
    aws.subscribe(&topic, &sidecar.sns_url()).await;
    wait_until("the stranger's confirmation is refused", || async {
        let all = sidecar.metric("postern_intake_requests_total", &["reason=\"cert_"]).await;
        (all >= 1.0).then_some(())
    })
    .await;
    assert!(!aws.is_confirmed(&topic).await, "a stranger's subscription must stay unconfirmed");
    assert_eq!(receiver.received().len(), 2);
}
