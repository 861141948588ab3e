//! What was answered with 200 is not lost, and what cannot be kept is answered 503: nobody knows how often MCS tries again, but
//! nothing but 200 says that it need not.

use postern::simulator::receiver::Behaviour;

use super::{notify, path, post, record, stand};

fn created(key: &str) -> serde_json::Value {
    record("s3:ObjectCreated:Put", key, 1_577_453_615)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_outlives_a_kill() {
    let mut stand = stand(&[]).await;
    stand.app.always(Behaviour::Status(503));
    let keys: Vec<String> = (0..50).map(|number| format!("key {number:02}")).collect();
    for key in &keys {
        assert_eq!(notify(&stand, &[created(&key.replace(' ', "+"))]).await, 200);
    }
    stand.kill();
    stand.app.always(Behaviour::Status(200));
    stand.begin().await;
    // Sent again by a producer that did not hear us: still once each.
    for key in &keys {
        assert_eq!(notify(&stand, &[created(&key.replace(' ', "+"))]).await, 200);
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    stand.delivered(&keys).await;
    stand.app.ledger(|ledger| {
        assert_eq!(ledger.objects.len(), 50);
        assert!(ledger.objects.values().all(|object| object.events.len() == 1));
        assert!(ledger.is_clean());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_answers_503_and_opens_again() {
    let stand = stand(&[("POSTERN_QUEUE_MAX_BYTES", "16KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    let mut accepted = Vec::new();
    let refused = loop {
        let key = format!("k{}", accepted.len());
        let body = serde_json::json!({"Records": [created(&key)]}).to_string();
        let reply = post(&stand, &path(), &[], body.as_bytes()).await;
        if reply.status != 200 {
            break reply;
        }
        accepted.push(key);
        assert!(accepted.len() < 200, "16 KiB hold no 200 events");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    assert!(!accepted.is_empty());
    // Nothing of a handshake is kept: it is answered all the same.
    let asked = super::confirmation().to_string();
    assert_eq!(post(&stand, &path(), &[], asked.as_bytes()).await.status, 200);
    stand.app.always(Behaviour::Status(200));
    let accepted: Vec<&str> = accepted.iter().map(String::as_str).collect();
    stand.delivered(&accepted).await;
    stand.eventually("there is room again", async |stand| notify(stand, &[created("after")]).await == 200).await;
    stand.delivered(&["after"]).await;
}
