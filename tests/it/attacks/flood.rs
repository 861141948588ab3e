//! A82, A83: too much.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::bench::{Bench, Message, free_port};
use crate::support::wait::PATIENCE;

#[tokio::test]
async fn a82_a_full_queue_answers_503_and_loses_nothing_that_it_accepted() {
    let app = free_port();
    let bench = Bench::with(&[
        ("POSTERN_QUEUE_MAX_BYTES", "64KiB"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", &format!("http://{app}/events")),
    ])
    .await;
    let mut accepted = 0;
    let mut refused = None;
    for at in 0..400 {
        let reply = bench.post(&Message::created(&format!("k{at}")).signed(&bench).body()).await;
        match reply.status {
            200 => accepted += 1,
            _ => {
                refused = Some(reply);
                break;
            }
        }
    }
    let refused = refused.expect("the bound is reached");
    assert_eq!(refused.status, 503);
    assert!(refused.head.to_ascii_lowercase().contains("retry-after:"), "{}", refused.head);
    assert!(accepted > 5);
    assert_eq!(bench.metric("postern_queue_owed{").await, accepted);
}

#[tokio::test]
async fn a82_a_sidecar_that_leaves_still_accepts_and_then_answers_no_more() {
    for _ in 0..10 {
        let bench = Bench::start().await;
        let told_at = Instant::now();
        bench.terminate();
        bench.eventually("not ready", async |b| b.is_not_ready().await).await;
        let sent = bench.try_send(&Message::created("late").signed(&bench)).await;
        // Leaving lasts five seconds: nothing can be said where this machine slept for most of them.
        if told_at.elapsed() < Duration::from_secs(4) {
            assert_eq!(sent, Some(200), "still accepting durably\n{}", bench.log());
            bench.wait_for("late").await;
            bench.eventually("gone", async |b| TcpStream::connect(b.intake).await.is_err()).await;
            return;
        }
    }
    panic!("of ten times the door was shut each time before there was time to knock");
}

#[tokio::test]
async fn a83_forgeries_are_refused_cheaply_and_never_slow_the_genuine() {
    let bench = Bench::start().await;
    assert_eq!(bench.send(&Message::created("first").signed(&bench)).await, 200);
    let mut forged = Message::created("forged").signed(&bench).with("MessageId", super::bench::uuid()).body();
    let head =
        format!("POST /sns HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", forged.len());
    let mut bytes = head.into_bytes();
    bytes.append(&mut forged);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (bytes, intake) = (bytes.clone(), bench.intake);
        tasks.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..100 {
                statuses.push(super::bench::exchange(intake, &bytes).await.map_or(0, |reply| reply.status));
            }
            statuses
        });
    }
    let second = Message::created("second").signed(&bench);
    let genuine = tokio::time::timeout(PATIENCE, bench.send(&second));
    assert_eq!(genuine.await.expect("an answer amid the flood"), 200);
    let statuses: Vec<u16> = tasks.join_all().await.concat();
    assert!(statuses.iter().all(|status| matches!(status, 403 | 429)), "{statuses:?}");
    bench.app_knows_only(&["first", "second"]).await;
}
