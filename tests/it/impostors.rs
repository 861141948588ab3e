//! Other people's imitations of SNS, whose signatures are wrong in ways of their own: none of what they sign gets in.

use hyper::Method;
use hyper::StatusCode;

use crate::support::aws::{Aws, call_by_proxy};
use crate::support::process::{ToolServer, write};
use crate::support::receiver::{Received, Receiver};
use crate::support::sidecar::Sidecar;
use crate::support::tool;

/// The headers of a captured notification that the sidecar judges.
fn sns_headers(received: &Received) -> Vec<(&str, &str)> {
    ["content-type", "user-agent", "x-amz-sns-message-type", "x-amz-sns-message-id", "x-amz-sns-topic-arn"]
        .into_iter()
        .map(|name| (name, received.header(name)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_fake_is_no_signature() {
    if tool("the_word_fake_is_no_signature", "POSTERN_TEST_MINISTACK").is_none() {
        return;
    }
    let server = ToolServer::start("ministack", &[]);
    let aws = Aws::at(server.endpoint());
    let (capture, app) = (Receiver::start().await, Receiver::start().await);
    let topic = aws.create_topic("changes").await;
    aws.subscribe(&topic, &capture.url("/sns")).await;
    let confirmation =
        capture.wait_for("the confirmation arrives", |r| r.json()["Type"] == "SubscriptionConfirmation").await;
    let token = confirmation.json()["Token"].as_str().expect("a token").to_owned();
    aws.sns("ConfirmSubscription", &[("TopicArn", &topic), ("Token", &token)]).await;
    aws.create_announcing_bucket("photos", &topic).await;
    aws.s3(Method::PUT, "/photos/a.txt", &[], "hello").await;
    let notification = capture
        .wait_for("the change is announced", |r| {
            r.json()["Message"].as_str().is_some_and(|m| m.contains("ObjectCreated:Put"))
        })
        .await;
    assert_eq!(notification.json()["Signature"], "FAKE", "this counterpart was chosen for it");

    let sidecar = Sidecar::start(&topic, &app.url("/events"), &[]).await;
    for message in [&confirmation, &notification] {
        let reply = sidecar.post_sns(&sns_headers(message), message.body.clone()).await;
        assert!(
            reply.status == StatusCode::FORBIDDEN || reply.status == StatusCode::BAD_REQUEST,
            "{} for {}",
            reply.status,
            message.json()["Type"]
        );
    }
    assert_eq!(sidecar.metric("postern_intake_requests_total", &["status=\"200\""]).await, 0.0);
    assert!(app.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_leaves_the_subject_out_is_refused_and_one_without_a_subject_is_good() {
    let test = "a_signature_that_leaves_the_subject_out_is_refused_and_one_without_a_subject_is_good";
    if tool(test, "POSTERN_TEST_MOTO").is_none() {
        return;
    }
    let server = ToolServer::start("moto", &[]);
    let aws = Aws::at(server.endpoint());
    let (capture, app) = (Receiver::start().await, Receiver::start().await);
    let topic = aws.create_topic("changes").await;
    aws.subscribe(&topic, &capture.url("/sns")).await;
    let record = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-01-01T00:00:00.000Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":"a.txt","size":1,"eTag":"x"}}}]}"#;
    aws.publish(&topic, record, Some("A subject")).await;
    aws.publish(&topic, record, None).await;
    let with = capture.wait_for("a message with a Subject arrives", |r| r.json()["Subject"].is_string()).await;
    let without = capture.wait_for("a message without a Subject arrives", |r| !r.json()["Subject"].is_string()).await;

    // Its certificates stand under Amazon's real host names, which it answers for as a proxy. Each message has one of its own,
    // which names no host and leads to no root, so that nothing of it gets past Amazon's rules.
    let amazon = [
        ("HTTPS_PROXY", server.endpoint()),
        ("POSTERN_EGRESS_CA_FILE", server.answer("ca")),
        ("POSTERN_SNS_CHAIN", "off"),
    ];
    let sidecar = Sidecar::start(&topic, &app.url("/events"), &amazon).await;
    for message in [&with, &without] {
        let reply = sidecar.post_sns(&sns_headers(message), message.body.clone()).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(sidecar.metric("postern_intake_requests_total", &["reason=\"cert_name\""]).await, 2.0);

    // Told that this very certificate is the one to trust, only the signature is left to be judged.
    for (message, status, reason) in
        [(&with, StatusCode::FORBIDDEN, "reason=\"bad_signature\""), (&without, StatusCode::OK, "reason=\"accepted\"")]
    {
        assert!(app.received().is_empty());
        let url = message.json()["SigningCertURL"].as_str().expect("a URL").replacen("https://", "http://", 1);
        let certificate = call_by_proxy(server.endpoint(), &url).await.text();
        let anchor = write(server.folder(), "anchor.pem", &certificate);
        let settings = [
            ("HTTPS_PROXY", server.endpoint()),
            ("POSTERN_EGRESS_CA_FILE", server.answer("ca")),
            ("POSTERN_SNS_ENDPOINT_URL", "https://sns.us-east-1.amazonaws.com"),
            ("POSTERN_SNS_TRUST_ANCHOR_FILE", &anchor),
        ];
        let sidecar = Sidecar::start(&topic, &app.url("/events"), &settings).await;
        let reply = sidecar.post_sns(&sns_headers(message), message.body.clone()).await;
        assert_eq!(reply.status, status, "{}", message.json());
        assert_eq!(sidecar.metric("postern_intake_requests_total", &[reason]).await, 1.0);
        if status == StatusCode::OK {
            app.wait_for("the genuine one is delivered", |_| true).await;
        }
    }
}
