//! Probes, garbage, bounds, and a death right after the answer.

use std::time::Duration;

use postern::simulator::receiver::Behaviour;
use serde_json::json;
use tokio::net::TcpStream;

use super::{body, created, metric, path, post, record, send, stand};
use crate::attacks::bench::exchange;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_of_stores_are_answered_and_alarm_nobody() {
    let stand = stand(&[("POSTERN_S3HTTP_AUTH", "Bearer s3cret")]).await;
    for line in ["HEAD /", "GET /", &format!("HEAD {}", path()), &format!("GET {}", path())] {
        for auth in ["", "authorization: Bearer s3cret\r\n", "authorization: Bearer wrong\r\n"] {
            let request = format!("{line} HTTP/1.1\r\nhost: x\r\n{auth}connection: close\r\n\r\n");
            let reply = exchange(stand.intake, request.as_bytes()).await.expect("an answer");
            assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{line} {auth}");
        }
    }
    // Newer MinIO only knocks: a connection without a byte.
    for _ in 0..20 {
        drop(TcpStream::connect(stand.intake).await.expect("a connection"));
    }
    assert_eq!(send(&stand, &["authorization: Bearer s3cret"], &created("a")).await, 200);
    stand.delivered(&["a"]).await;
    let log = stand.log();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(!log.lines().any(|line| line.contains("WARN") && line.contains("connection")), "{log}");
    let put = format!("PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", path());
    assert_eq!(exchange(stand.intake, put.as_bytes()).await.expect("an answer").status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_notification_of_the_store_is_refused_and_not_kept() {
    let stand = stand(&[("POSTERN_NON_S3", "relay")]).await;
    let deep = |levels: usize| format!("{{\"Records\":[{}{}]}}", "[".repeat(levels), "]".repeat(levels));
    let many =
        json!({"Records": [{"messageId": "m", "body": "{\"Records\":[]}", "eventSource": "aws:sqs"}]}).to_string();
    let lambda =
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Type": "Notification", "Message": "{}"}}]}).to_string();
    let bridge = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "k"}}});
    for (text, reason) in [
        (String::new(), "bad_json"),
        ("hello".to_owned(), "bad_json"),
        ("{\"Records\":".to_owned(), "bad_json"),
        (deep(200), "bad_json"),
        (deep(200_000), "bad_json"),
        ("{}".to_owned(), "not_s3"),
        (many, "not_s3"),
        (lambda, "not_s3"),
        (bridge.to_string(), "not_s3"),
        (r#"{"Records":{}}"#.to_owned(), "bad_shape"),
        (r#"{"Records":[],"Records":[]}"#.to_owned(), "bad_shape"),
    ] {
        let labels = ["\"s3http\"", &format!("\"{reason}\"")];
        let before = metric(&stand, &labels).await;
        let reply = post(&stand, &path(), &[], text.as_bytes()).await;
        assert_eq!(reply.status, 400, "{}", &text[..text.len().min(80)]);
        assert_eq!(metric(&stand, &labels).await, before + 1, "{reason}: {}", &text[..text.len().min(80)]);
    }
    assert_eq!(post(&stand, &path(), &[], b"{\"a\":\"\xff\"}").await.status, 400, "no UTF-8");
    let huge = format!(r#"{{"Records":[],"x":"{}"}}"#, "a".repeat(600 * 1024));
    assert_eq!(post(&stand, &path(), &[], huge.as_bytes()).await.status, 413);
    assert!(stand.rows(&[]).await.is_empty(), "nothing unproven is kept");
    assert_eq!(send(&stand, &[], &created("a")).await, 200, "{}", stand.log());
    stand.delivered(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_broken_records_is_kept_once() {
    let stand = stand(&[]).await;
    let broken = json!({"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "images"}, "object": {}}});
    assert_eq!(send(&stand, &[], &body(&vec![broken; 50])).await, 200);
    let dead = stand.wait_rows(&["--state", "dead", "--limit", "100"], 1).await;
    assert_eq!(dead[0]["state"], "dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_with_200_outlives_a_kill() {
    let mut stand = stand(&[]).await;
    stand.app.always(Behaviour::Status(503));
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    for key in &keys {
        assert_eq!(send(&stand, &[], &created(key)).await, 200);
    }
    stand.kill();
    stand.app.always(Behaviour::Status(200));
    stand.begin().await;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    stand.delivered(&keys).await;
    assert_eq!(send(&stand, &[], &created("k0")).await, 200, "sent again by a store that saw no answer");
    assert_eq!(stand.rows(&["--limit", "1000"]).await.len(), 100);
    super::assert_signed(&stand);
}

/// Our own trouble is 503 with `Retry-After`, which EventBridge honours and MinIO, RustFS and Ceph with a queue of their own outwait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_told_as_our_trouble() {
    let stand = stand(&[("POSTERN_QUEUE_MAX_BYTES", "64KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    let mut sent = 0;
    let refused = loop {
        let records: Vec<_> =
            (0..20).map(|n| record("s3:ObjectCreated:Put", "images", &format!("{sent}-{n}"), "01")).collect();
        let reply = post(&stand, &path(), &[], body(&records).to_string().as_bytes()).await;
        if reply.status != 200 {
            break reply;
        }
        sent += 1;
        assert!(sent < 200, "64 KiB hold no 4000 events\n{}", stand.log());
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(refused.status, 503);
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
}
