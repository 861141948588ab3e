//! Bounds that refuse and never drop, and what is remembered. (Hard cases 16 and 17.)

use postern::simulator::receiver::Behaviour;

use super::stand::{Stand, created, get};

/// Hard case 16. Dead letters have a bound of their own; at it nothing more is taken, because it might have to be kept dead as well.
/// There is an alarm before (once there was none at all), and discarding makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_at_their_bound_close_the_intake_until_there_is_room() {
    let token = "a-token-that-is-long-enough";
    let stand = Stand::start(&[
        ("POSTERN_DEAD_MAX_BYTES", "8KiB"),
        ("POSTERN_RETRY_MAX_ATTEMPTS", "1"),
        ("POSTERN_ADMIN_TOKEN", token),
    ])
    .await;
    stand.app.always(Behaviour::Status(500));
    let mut accepted = 0;
    let refused = loop {
        match stand.notify(&[created(&format!("k{accepted}"))]).await {
            200 => accepted += 1,
            status => break status,
        }
        stand.asked(accepted).await;
        // One at a time, so that the callback is not paused for five failures in a row before each is dead.
        if accepted % 4 == 0 {
            stand.app.script([Behaviour::Status(200)]);
            stand.create(&[&format!("good {accepted}")]).await;
            stand.delivered(&[&format!("good {accepted}")]).await;
            accepted += 1;
        }
        assert!(accepted < 100, "8 KiB hold no 100 dead letters\n{}", stand.log());
    };
    assert_eq!(refused, 503, "{}", stand.log());
    let dead = stand.rows(&["--state", "dead", "--limit", "1000"]).await.len();
    assert!(dead > 2, "{dead}");
    // The operator is told, and what is owed goes on: it stays ready.
    stand
        .eventually("an alarm", async |stand| {
            let ready = get(stand.admin, "/ready").await.expect("an answer");
            ready.status == 200 && ready.body.contains("POSTERN_DEAD_MAX_BYTES")
        })
        .await;

    stand.app.always(Behaviour::Status(200));
    let discarded = stand.cli(&["discard", "--state", "dead"]).await;
    assert!(discarded.status.success(), "{}", super::stand::stderr(&discarded));
    let accepted = async |stand: &Stand| stand.notify(&[created("after")]).await == 200;
    stand.eventually("room for an event", accepted).await;
    stand.delivered(&["after"]).await;
}

/// Hard case 16. The alarm rings before what is owed reaches its bound (once it was silent until everything was refused), and the
/// bounds stand beside the numbers in the metrics, so that an alert needs no copy of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_nears_its_bound_with_an_alarm_while_it_is_still_taken() {
    let stand = Stand::start(&[("POSTERN_QUEUE_MAX_BYTES", "16KiB"), ("POSTERN_DEAD_MAX_BYTES", "32KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    let metrics = get(stand.admin, "/metrics").await.expect("an answer").body;
    for line in ["postern_queue_max_bytes 16384", "postern_queue_dead_max_bytes 32768"] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let degraded = async |stand: &Stand| {
        let ready = get(stand.admin, "/ready").await.expect("an answer");
        ready.status == 200 && ready.body.contains("more than 80 % of POSTERN_QUEUE_MAX_BYTES")
    };
    assert!(!degraded(&stand).await);
    let mut accepted = 0;
    while stand.notify(&[created(&format!("k{accepted}"))]).await == 200 {
        accepted += 1;
        assert!(accepted < 100, "16 KiB hold no 100 events\n{}", stand.log());
    }
    stand.eventually("an alarm", degraded).await;
    stand.app.always(Behaviour::Status(200));
    stand.eventually("the end of it", async |stand| !degraded(stand).await).await;
}

/// Hard case 17. What was seen is remembered over a crash: neither the same message nor the same event in another message comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_is_remembered_after_a_crash() {
    let mut stand = Stand::start(&[]).await;
    let record = created("a");
    let message = stand.envelope(std::slice::from_ref(&record));
    assert_eq!(stand.post(&message).await, 200, "{}", stand.log());
    stand.delivered(&["a"]).await;
    stand.wait_rows(&["--state", "delivered"], 1).await;
    stand.kill();
    stand.begin().await;
    // SNS sends it again because our answer was lost; S3 publishes it again because that is allowed.
    assert_eq!(stand.post(&message).await, 200, "{}", stand.log());
    assert_eq!(stand.notify(std::slice::from_ref(&record)).await, 200, "{}", stand.log());
    // Of a message that is new the part that is new goes on.
    assert_eq!(stand.notify(&[record, created("b")]).await, 200, "{}", stand.log());
    stand.delivered(&["b"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 2);
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (2, 0));
}

/// What was answered with 200 before the app was ever reached is there after a crash, each event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_with_200_is_delivered_after_a_crash() {
    let mut stand = Stand::start(&[]).await;
    stand.app.always(Behaviour::Status(503));
    stand.create(&["a", "b", "c"]).await;
    stand.kill();
    stand.app.always(Behaviour::Status(200));
    stand.begin().await;
    stand.delivered(&["a", "b", "c"]).await;
    assert_eq!(stand.app.ledger(|ledger| ledger.repeated), 0);
}
