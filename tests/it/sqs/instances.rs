//! Several instances, each with queues of its own.

use postern::simulator::sqs::Options;
use serde_json::json;

use super::{emptied, queue};
use crate::hard_cases::stand::{KEY, Stand, app, created};

/// Both queues are subscribed to one topic: what SNS publishes lies in each under the same MessageId, and is one event for each app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_with_queues_of_one_topic_each_get_everything_once() {
    let (first, second) = (queue(Options::default()).await, queue(Options::default()).await);
    let mut stand = Stand::prepare(&[
        ("EVENT_SNS_TOPIC_ARN", ""),
        ("EVENT_NOTIFICATION_CALLBACK_URL", ""),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
    .await;
    let other = app().await;
    for (name, url, queue) in [("first", stand.app.url(), &first), ("second", other.url(), &second)] {
        let document = json!({"name": name, "element": {"key": "amazons3"}, "configuration": {
            "event.notification.enabled": true, "event.vendor.type": "webhooks",
            "event.sns.topic.arn": stand.simulator.topic_arn(),
            "event.notification.callback.url": url, "event.notification.signature.key": KEY,
            "filemanagement.provider.access_key": "test", "filemanagement.provider.secret_key": "test",
            "POSTERN_SQS_QUEUE_URL": queue.url().to_string(), "POSTERN_SQS_VERIFY": "on",
        }});
        stand.file(&format!("instances/{name}.json"), &document.to_string());
    }
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    stand.begin().await;

    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    for key in &keys {
        let body = stand.envelope(&[created(key)]).to_body();
        for queue in [&first, &second] {
            queue.send(body.clone());
        }
        // SQS delivers at least once.
        second.send(body);
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    stand.delivered(&keys).await;
    stand.delivered_to(&other, &keys).await;
    for queue in [&first, &second] {
        emptied(&stand, queue).await;
    }
    for app in [&stand.app, &other] {
        assert_eq!(app.ledger(|ledger| (ledger.taken, ledger.repeated)), (50, 0), "{}", stand.log());
        assert!(app.ledger(|ledger| ledger.is_clean() && ledger.objects.values().all(|o| o.events.len() == 1)));
    }
}
