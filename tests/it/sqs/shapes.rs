//! What a message may be, and what becomes of each.

use postern::clock::{Clock as _, SystemClock};
use postern::simulator::sns::forge::Forgery;
use postern::simulator::sns::records;
use postern::simulator::sqs::{Options, Queue};
use serde_json::{Value, json};

use super::{bare, dead_reasons, dice, draining, emptied, queue, sample, trouble};
use crate::hard_cases::stand::{BUCKET, Stand, calls, created};

fn event_bridge(key: &str) -> String {
    json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Created", "source": "aws.s3",
        "account": "111122223333", "time": "2026-01-12T00:00:00Z", "region": "us-east-1", "resources": [],
        "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 5, "etag": "b1",
            "sequencer": "617f08299329d189"}, "request-id": "N4N7GDK58NMKJ12R", "requester": "1", "reason": "PutObject"}
    })
    .to_string()
}

/// An envelope that nobody signed, of `topic`.
fn envelope(topic: &str, message: &str) -> String {
    json!({
        "Type": "Notification", "MessageId": dice().uuid(), "TopicArn": topic, "Message": message,
        "Timestamp": "2026-01-12T00:00:00.000Z", "SequenceNumber": "1",
    })
    .to_string()
}

async fn raws(stand: &Stand) -> Vec<Value> {
    let body = |call: &_| crate::hard_cases::stand::body(call);
    calls(&stand.app).iter().map(body).map(|body| body["message"]["raw"]["Records"][0].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_shape_is_recognised_by_itself_and_what_is_none_is_set_aside_and_gone() {
    let queue = queue(Options::default()).await;
    let stand = draining(&queue, &[("POSTERN_ADMIN_TOKEN", "a-token-that-is-long-enough")]).await;
    let topic = stand.simulator.topic_arn().to_owned();
    queue.send(bare("bare"));
    queue.send(envelope(&topic, &bare("enveloped")));
    queue.send(event_bridge("bridged"));
    queue.send(envelope(&topic, &event_bridge("bridged and enveloped")));
    queue.send(stand.envelope(&[created("signed")]).to_body());
    queue.send(records::test_event(BUCKET, SystemClock.now(), &mut dice()));
    queue.send(stand.simulator.subscription_confirmation(&mut dice()).to_body());
    queue.send(
        json!({"Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:us-east-1:999999999999:foreign", "Token": "00",
            "Message": "You have chosen to subscribe", "SubscribeURL": "https://example.com/"})
        .to_string(),
    );
    queue.send("no JSON at all");
    queue.send(json!({"Records": [{"messageId": "a Lambda's", "body": "x"}]}).to_string());
    queue.send(envelope("arn:aws:sns:us-east-1:999999999999:foreign", &bare("foreign")));

    stand.delivered(&["bare", "enveloped", "bridged", "bridged and enveloped", "signed"]).await;
    emptied(&stand, &queue).await;
    assert_eq!(dead_reasons(&stand).await, ["bad_payload", "bad_payload", "topic_not_allowed", "topic_not_allowed"]);
    assert_eq!(stand.app.ledger(|ledger| ledger.taken), 5, "nothing else reached the app");
    assert_eq!(queue.ledger().handed_out, 11, "none came twice");
    assert_eq!(sample(&stand, &["sqs_messages", "accepted"]).await, 5.0);
    assert_eq!(sample(&stand, &["sqs_messages", "confirmation"]).await, 1.0);
    assert_eq!(sample(&stand, &["sqs_messages", "test_event"]).await, 1.0);
    assert_eq!(trouble(&stand).await, None);
    // A replay of what was refused is sent, and cannot be taken for a record of S3.
    let replayed = stand.cli(&["replay", "--state", "dead"]).await;
    assert!(replayed.status.success(), "{}", crate::hard_cases::stand::stderr(&replayed));
    stand.eventually("the replay is delivered", async |stand| stand.app.ledger(|ledger| ledger.requests) >= 9).await;
    let refused: Vec<_> = raws(&stand).await.into_iter().filter(|raw| raw["refused"] == "topic_not_allowed").collect();
    assert_eq!(refused.len(), 2);
    assert!(refused[0]["s3"].is_null() && refused[0]["body"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_verification_only_what_sns_signed_for_our_topic_is_taken_however_old_it_is() {
    let queue = queue(Options::default()).await;
    let stand = draining(&queue, &[("POSTERN_SQS_VERIFY", "on")]).await;
    let genuine = stand.envelope(&[created("genuine")]);
    queue.send(genuine.to_body());
    let forge = |forgery, key: &str| stand.simulator.forge(forgery, &stand.envelope(&[created(key)]), &mut dice()).1;
    // Three hours old: a replay by HTTPS, and an ordinary letter in a dead-letter queue (hard case 21).
    queue.send(forge(Forgery::Replay, "old"));
    queue.send(forge(Forgery::AlteredMessage, "altered"));
    queue.send(forge(Forgery::ForeignCertificate, "foreign certificate"));
    queue.send(forge(Forgery::ForeignTopic, "foreign topic"));
    queue.send(bare("bare"));
    queue.send(event_bridge("bridged"));
    queue.send(envelope(stand.simulator.topic_arn(), &bare("unsigned")));

    stand.delivered(&["genuine", "old"]).await;
    emptied(&stand, &queue).await;
    let reasons = dead_reasons(&stand).await;
    let expected = [
        "bad_signature",
        "bad_type",
        "bad_type",
        "cert_url_untrusted",
        "missing_SignatureVersion",
        "topic_not_allowed",
    ];
    assert_eq!(reasons, expected, "{}", stand.log());
    assert_eq!(stand.app.ledger(|ledger| ledger.taken), 2);
}

/// Hard case 9. A certificate that cannot be fetched says nothing about the message: it is neither taken nor set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_proven_for_a_reason_of_our_own_goes_back_to_the_queue() {
    let queue = queue(Options::default()).await;
    let nobody = format!("http://127.0.0.1:{}", crate::support::process::free_port());
    let settings = [("POSTERN_SQS_VERIFY", "on"), ("POSTERN_SNS_ENDPOINT_URL", nobody.as_str())];
    let stand = draining(&queue, &settings).await;
    let mut genuine = stand.envelope(&[created("genuine")]);
    let path = genuine.signing_cert_url.rsplit_once('/').expect("a path").1.to_owned();
    genuine.signing_cert_url = format!("{nobody}/{path}");
    let number = queue.send(genuine.to_body());
    stand.eventually("the trouble is told", async |stand| trouble(stand).await.is_some()).await;
    assert!(trouble(&stand).await.expect("a trouble").contains("a signature cannot be checked now"));
    stand.eventually("it is hidden for a while", async |_| !queue.ledger().visibility.is_empty()).await;
    assert!(queue.ledger().visibility.iter().all(|(of, seconds)| *of == number && *seconds >= 1));
    assert_eq!((queue.left(), queue.ledger().deleted.len()), (1, 0));
    assert_eq!(dead_reasons(&stand).await, [""; 0]);
    assert_eq!(stand.app.ledger(|ledger| ledger.requests), 0);
}

/// Hard case 21. What SNS gave up on and what it delivered after all meet here, and the app hears of it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_by_https_is_a_duplicate_when_the_dead_letter_queue_brings_it_too() {
    for verify in ["on", "off"] {
        let queue = queue(Options::default()).await;
        let stand = draining(&queue, &[("POSTERN_SQS_VERIFY", verify)]).await;
        let both = stand.envelope(&[created("both")]);
        assert_eq!(stand.post(&both).await, 200);
        queue.send(both.to_body());
        // And the other way round.
        let first = stand.envelope(&[created("queue first")]);
        queue.send(first.to_body());
        stand.delivered(&["both", "queue first"]).await;
        emptied(&stand, &queue).await;
        assert_eq!(stand.post(&first).await, 200);
        // A duplicate from SQS itself.
        queue.send(first.to_body());
        emptied(&stand, &queue).await;
        assert_eq!(sample(&stand, &["sqs_messages", "duplicate"]).await, 2.0);
        stand.create(&["last"]).await;
        stand.delivered(&["last"]).await;
        assert_eq!(stand.app.ledger(|ledger| ledger.taken), 3, "verify {verify}: {}", stand.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_at_their_bound_leave_poison_in_the_queue() {
    let queue: Queue = queue(Options::default()).await;
    let stand = draining(&queue, &[("POSTERN_DEAD_MAX_BYTES", "4KiB")]).await;
    for n in 0..20 {
        queue.send(format!("poison {n} {}", "x".repeat(500)));
    }
    stand.eventually("the store refuses", async |stand| trouble(stand).await.is_some()).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let kept = async |stand: &Stand| stand.rows(&["--state", "dead", "--limit", "1000"]).await.len();
    stand.eventually("what is kept is deleted", async |stand| kept(stand).await + queue.left() == 20).await;
    let kept = kept(&stand).await;
    assert!((2..20).contains(&kept), "{kept}");
    assert!(trouble(&stand).await.expect("a trouble").contains("POSTERN_DEAD_MAX_BYTES"));
}
