//! Hard cases 8 and 15: an SNS other than Amazon's, and topics of several instances.

use postern::simulator::dice::Dice;
use postern::simulator::sns::{Options, Simulator};

use super::bench::{Bench, Message, TOPIC, record};
use crate::support::wait::PATIENCE;

async fn simulator() -> Simulator {
    Simulator::start(Options { topic_arn: TOPIC.to_owned(), ..Options::default() }).await.expect("a simulator")
}

async fn bench_at(sns: &Simulator, endpoint: &str) -> (Bench, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let anchor = dir.path().join("simulator.pem");
    std::fs::write(&anchor, sns.anchor_pem()).expect("a file");
    let bench = Bench::with(&[
        ("POSTERN_SNS_ENDPOINT_URL", endpoint),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.to_str().expect("a path")),
        ("POSTERN_LOG", "info,postern::sources=debug"),
    ])
    .await;
    (bench, dir)
}

#[tokio::test]
async fn another_sns_confirms_and_notifies_and_amazons_is_then_refused() {
    let (sns, mut dice) = (simulator().await, Dice::new());
    let (bench, _dir) = bench_at(&sns, sns.endpoint_url().as_str()).await;
    let confirmation = sns.subscription_confirmation(&mut dice);
    assert_eq!(bench.post(confirmation.to_body().as_ref()).await.status, 200, "{}", bench.log());
    assert!(sns.wait_confirmed(PATIENCE).await, "{}", bench.log());
    let notification = sns.notification(Some("Amazon S3 Notification"), record("of-the-other"), &mut dice);
    assert_eq!(bench.post(notification.to_body().as_ref()).await.status, 200, "{}", bench.log());
    bench.wait_for("of-the-other").await;

    // Nothing of Amazon's is asked, and its messages are none of this SNS.
    assert_eq!(bench.send(&Message::created("of-amazon").signed(&bench)).await, 403);
    assert_eq!(bench.refusals("cert_url_untrusted").await, 1);
    assert!(bench.amazon.requests().is_empty(), "{:?}", bench.amazon.requests());
    assert!(!bench.app.objects.lock().expect("a lock").contains(&"of-amazon".to_owned()));
}

/// LocalStack calls itself by another name than the one by which it is reached.
#[tokio::test]
async fn an_sns_that_calls_itself_otherwise_is_refused_with_what_to_set() {
    let (sns, mut dice) = (simulator().await, Dice::new());
    let port = sns.endpoint_url().port().expect("a port");
    let (bench, _dir) = bench_at(&sns, &format!("http://localhost:{port}")).await;
    let notification = sns.notification(None, record("x"), &mut dice);
    assert_eq!(bench.post(notification.to_body().as_ref()).await.status, 403);
    let log = bench.log();
    let told = format!("SigningCertURL is at http://127.0.0.1:{port}, not at http://localhost:{port}");
    assert!(log.contains(&told) && log.contains("set POSTERN_SNS_ENDPOINT_URL"), "{log}");
}

/// A folder of instance documents, each `(name, enabled, object filter)`, on one topic.
fn documents(instances: &[(&str, bool)], callback: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, enabled) in instances {
        let document = serde_json::json!({
            "name": name,
            "element": {"key": "amazons3"},
            "configuration": {
                "event.notification.enabled": enabled,
                "event.sns.topic.arn": TOPIC,
                "event.notification.callback.url": callback,
                "event.notification.signature.key": "test key",
            }
        });
        std::fs::write(dir.path().join(format!("{name}.json")), document.to_string()).expect("a file");
    }
    dir
}

async fn bench_of(instances: &[(&str, bool)]) -> (Bench, tempfile::TempDir) {
    let callback = super::bench::free_port();
    let dir = documents(instances, &format!("http://{callback}/events"));
    let bench = Bench::with(&[
        ("POSTERN_INSTANCES", dir.path().to_str().expect("a path")),
        ("EVENT_SNS_TOPIC_ARN", ""),
        ("EVENT_SNS_TOPIC_NAME", ""),
        ("EVENT_NOTIFICATION_CALLBACK_URL", ""),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""),
    ])
    .await;
    (bench, dir)
}

#[tokio::test]
async fn a_topic_of_several_instances_goes_to_each_that_is_enabled() {
    let (bench, _dir) = bench_of(&[("one", true), ("two", true), ("three", false)]).await;
    assert_eq!(bench.send(&Message::created("x").signed(&bench)).await, 200, "{}", bench.log());
    for (name, owed) in [("one", 1), ("two", 1), ("three", 0)] {
        let label = format!("postern_events_total{{instance=\"{name}\",outcome=\"queued\"}}");
        assert_eq!(bench.metric(&label).await, owed, "{name}\n{}", bench.admin_get("/metrics").await.body);
    }
}

#[tokio::test]
async fn a_topic_of_a_disabled_instance_alone_is_refused_and_not_confirmed() {
    let (bench, _dir) = bench_of(&[("off", false)]).await;
    bench.refuses(&Message::created("x").signed(&bench).body(), &[], 403, "topic_not_allowed").await;
    let confirmation = Message::confirmation("SubscriptionConfirmation").signed(&bench);
    bench.refuses(&confirmation.body(), &[], 403, "topic_not_allowed").await;
}
