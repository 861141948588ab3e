//! A70 to A75: too old, too new, and twice.

use super::bench::{Bench, Message, timestamp, uuid};

#[tokio::test]
async fn a70_a71_a72_the_window_refuses_replays_and_passes_sns_own_retries() {
    let bench = Bench::start().await;
    // Before the first refusal for its time, the clock is compared once with SNS's own (hard case 9); here that is done already.
    assert_eq!(bench.send(&Message::created("marker-of-the-clock").signed(&bench)).await, 200);
    let at = |key: &str, seconds: i64| Message::created(key).with("Timestamp", timestamp(seconds)).signed(&bench);
    bench.refuses(&at("stale", -2 * 3600).body(), &[], 403, "stale").await;
    bench.refuses(&at("future", 600).body(), &[], 403, "future").await;
    assert_eq!(bench.send(&at("65-minutes", -65 * 60)).await, 200);
    assert_eq!(bench.send(&at("4-minutes-ahead", 4 * 60)).await, 200);
    bench.app_knows_only(&["4-minutes-ahead", "65-minutes"]).await;
}

#[tokio::test]
async fn a73_a_message_that_comes_twice_is_queued_once_also_across_a_crash() {
    let mut bench = Bench::start().await;
    let message = Message::created("once").signed(&bench);
    assert_eq!(bench.send(&message).await, 200);
    assert_eq!(bench.send(&message).await, 200);
    bench.wait_settled("once").await;
    bench.crash_and_restart().await;
    assert_eq!(bench.send(&message).await, 200);
    assert_eq!(bench.refusals("duplicate").await, 1, "after the restart");
    bench.app_knows_only(&["once"]).await;
}

#[tokio::test]
async fn the_same_change_in_another_message_is_the_same_event() {
    let bench = Bench::start().await;
    let first = Message::created("once").signed(&bench);
    let again = first.clone().with("MessageId", uuid()).signed(&bench);
    assert_eq!(bench.send(&first).await, 200);
    assert_eq!(bench.send(&again).await, 200);
    bench.app_knows_only(&["once"]).await;
}

#[tokio::test]
async fn a74_a_message_that_comes_many_times_at_once_is_queued_once() {
    let bench = Bench::start().await;
    let message = Message::created("once").signed(&bench);
    let body = message.body();
    let answers = futures_join(&bench, &body, 16).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    bench.app_knows_only(&["once"]).await;
}

async fn futures_join(bench: &Bench, body: &[u8], count: usize) -> Vec<u16> {
    let mut tasks = tokio::task::JoinSet::new();
    let head = format!("POST /sns HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let bytes = [head.as_bytes(), body].concat();
    for _ in 0..count {
        let (bytes, intake) = (bytes.clone(), bench.intake);
        tasks.spawn(async move { super::bench::exchange(intake, &bytes).await.map_or(0, |reply| reply.status) });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn a75_what_was_answered_with_200_outlives_a_crash_before_its_delivery() {
    // Nobody listens at the callback until after the crash.
    let app = super::bench::free_port();
    let mut bench = Bench::with(&[("EVENT_NOTIFICATION_CALLBACK_URL", &format!("http://{app}/events"))]).await;
    assert_eq!(bench.send(&Message::created("kept").signed(&bench)).await, 200);
    bench.crash_and_restart().await;
    bench.eventually("still owed", async |b| b.metric("postern_queue_owed{").await == 1).await;
}
