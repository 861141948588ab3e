//! Trouble of SQS's, and of our own.

use std::time::{Duration, Instant};

use postern::simulator::receiver::Behaviour;
use postern::simulator::sqs::{Call, Fault, Options};

use super::{bare, draining, emptied, queue, sample, trouble};
use crate::hard_cases::stand::Stand;

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("k{n:04}")).collect()
}

async fn delivered(stand: &Stand, keys: &[String]) {
    stand.delivered(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_errors_cut_connections_and_half_failed_batches_lose_nothing_and_repeat_nothing() {
    let queue = queue(Options::default()).await;
    queue.fail(Call::Receive, Fault::Throttled, 6);
    queue.fail(Call::Delete, Fault::Partial, 8);
    let stand = draining(&queue, &[]).await;
    let keys = keys(200);
    for (n, key) in keys.iter().enumerate() {
        queue.send(bare(key));
        match n {
            50 => queue.fail(Call::Receive, Fault::Status(503), 3),
            100 => queue.fail(Call::Delete, Fault::Reset, 3),
            150 => queue.fail(Call::Receive, Fault::Reset, 3),
            180 => queue.fail(Call::Receive, Fault::Half, 2),
            190 => queue.fail(Call::Delete, Fault::Half, 2),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    delivered(&stand, &keys).await;
    emptied(&stand, &queue).await;
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (200, 0), "{}", stand.log());
    assert_eq!(queue.ledger().handed_out, 200, "deletions are repeated, not left to the visibility timeout");
    assert!(sample(&stand, &["sqs_failures_total{"]).await > 0.0);
    // A cut connection was once taken for missing credentials, and waited for as long as a person takes.
    assert_eq!(sample(&stand, &["sqs_failures", "credentials"]).await, 0.0);
    // And half an answer for a call that SQS does not take.
    assert_eq!(sample(&stand, &["sqs_failures", "rejected"]).await, 0.0);
    stand.eventually("no trouble is left", async |stand| trouble(stand).await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_is_told_with_what_to_allow_never_blocks_and_recovers_by_itself() {
    let queue = queue(Options::default()).await;
    queue.fail(Call::Receive, Fault::Denied, u32::MAX);
    // Without this right all goes on, with a time of our own.
    queue.fail(Call::Attributes, Fault::Denied, u32::MAX);
    let begun = Instant::now();
    let stand = draining(&queue, &[]).await;
    queue.send(bare("late"));
    stand.eventually("the condition is told", async |stand| trouble(stand).await.is_some()).await;
    let told = trouble(&stand).await.expect("a trouble");
    for word in ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"] {
        assert!(told.contains(word), "{told}");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Tried again after 15 to 30 s.
    let (receives, most) = (queue.ledger().receives, 1 + begun.elapsed().as_secs() / 15);
    assert!(
        (1..=most).contains(&receives),
        "one consumer alone finds out, and not in a hot loop: {receives} of {most}"
    );
    queue.fail(Call::Receive, Fault::Denied, 0);
    emptied(&stand, &queue).await;
    stand.eventually("no trouble is left", async |stand| trouble(stand).await.is_none()).await;
    assert_eq!(queue.ledger().wished, Some(30));
}

/// The store takes nothing for longer than the queue hides a message: it is not handed out twice, not asked for more, and what was not
/// stored is not deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_refuses_what_is_held_stays_hidden_and_nothing_is_deleted() {
    // A heartbeat may be late by half of it on a busy machine.
    let queue = queue(Options { visibility: Duration::from_secs(20), ..Options::default() }).await;
    let stand = draining(&queue, &[("POSTERN_QUEUE_MAX_BYTES", "64KiB"), ("POSTERN_SQS_CONSUMERS", "4")]).await;
    stand.app.always(Behaviour::Status(503));
    let keys = keys(300);
    for key in &keys {
        queue.send(bare(key));
    }
    stand.eventually("the store is full", async |stand| trouble(stand).await.is_some()).await;
    assert!(
        trouble(&stand).await.expect("a trouble").contains("POSTERN_QUEUE_MAX_BYTES"),
        "{:?}",
        trouble(&stand).await
    );
    tokio::time::sleep(Duration::from_secs(22)).await;
    let owed = stand.rows(&["--state", "owed", "--limit", "1000"]).await.len();
    assert!(owed < 300);
    let ledger = queue.ledger();
    assert_eq!(ledger.deleted.len(), owed, "deleted is what is durable, and nothing else");
    assert!(ledger.handed_out <= 120 + owed as u64, "held is bounded: {} of {owed} owed", ledger.handed_out);
    assert!(!ledger.visibility.is_empty(), "the heartbeat");
    stand.app.always(Behaviour::Status(200));
    delivered(&stand, &keys).await;
    emptied(&stand, &queue).await;
    assert_eq!(queue.ledger().handed_out, 300, "no message came twice\n{}", stand.log());
    stand.eventually("no trouble is left", async |stand| trouble(stand).await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_fifo_queue_a_group_is_taken_and_deleted_in_order_whatever_fails() {
    let queue = queue(Options { fifo: true, ..Options::default() }).await;
    queue.fail(Call::Delete, Fault::Partial, 10);
    let stand = draining(&queue, &[]).await;
    let mut groups = [const { Vec::new() }; 3];
    for n in 0..60 {
        groups[n % 3].push(queue.send_in(&format!("g{}", n % 3), bare(&format!("k{n:04}"))));
    }
    emptied(&stand, &queue).await;
    delivered(&stand, &keys(60)).await;
    let deleted = queue.ledger().deleted;
    for group in groups {
        let of_group: Vec<_> = deleted.iter().copied().filter(|number| group.contains(number)).collect();
        assert_eq!(of_group, group, "deleted in the order of the group");
    }
    let accepted: Vec<_> = stand.rows(&["--limit", "1000"]).await;
    for group in 0..3 {
        let of_group = |n: &usize| n % 3 == group;
        let keys: Vec<usize> = accepted
            .iter()
            .rev()
            .map(|row| row["key"].as_str().expect("a key")[1..].parse().expect("a number"))
            .filter(of_group)
            .collect();
        assert!(keys.is_sorted(), "accepted in the order of the group: {keys:?}");
    }
}

/// A heartbeat that failed was told until the next one, and none is needed while nothing is held for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_heartbeat_and_a_deletion_met_is_over_when_nothing_is_held_any_more() {
    let queue = queue(Options { visibility: Duration::from_secs(10), ..Options::default() }).await;
    let stand = draining(&queue, &[("POSTERN_QUEUE_MAX_BYTES", "64KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    queue.fail(Call::ChangeVisibility, Fault::Unknown, u32::MAX);
    let keys = keys(150);
    for key in &keys {
        queue.send(bare(key));
    }
    let told = |word: &'static str| {
        let stand = &stand;
        async move { trouble(stand).await.is_some_and(|text| text.contains(word)) }
    };
    stand.eventually("the heartbeat is told", async |_| told("ChangeMessageVisibility").await).await;
    stand.app.always(Behaviour::Status(200));
    delivered(&stand, &keys).await;
    emptied(&stand, &queue).await;
    stand.eventually("no trouble is left", async |stand| trouble(stand).await.is_none()).await;
}

/// Hard case 18. The long poll does not hold the end up, and what is in hand and cannot be stored goes back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_leaves_nothing_hidden_behind() {
    let idle = queue(Options::default()).await;
    let mut stand = draining(&idle, &[]).await;
    stand.eventually("it polls", async |_| idle.ledger().receives > 0).await;
    stand.signal("INT");
    stand.ended().await;
    stand.eventually("a long poll of 20 s was hung up and not waited for", async |_| idle.ledger().hung_up > 0).await;

    let full = queue(Options::default()).await;
    let mut stand = draining(&full, &[("POSTERN_QUEUE_MAX_BYTES", "64KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    for key in keys(200) {
        full.send(bare(&key));
    }
    stand.eventually("the store is full", async |stand| trouble(stand).await.is_some()).await;
    stand.eventually("some are held", async |_| full.in_flight() > 0).await;
    stand.signal("TERM");
    stand.ended().await;
    assert_eq!(full.in_flight(), 0, "a replica gets them at once\n{}", stand.log());
    let owed = stand.rows(&["--state", "owed", "--limit", "1000"]).await.len();
    assert_eq!(full.ledger().deleted.len(), owed, "{}", stand.log());
}

/// A server notices late that a long poll was hung up. What goes back before it has noticed is handed to nobody, and stays hidden for the
/// queue's whole visibility timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_back_at_the_end_is_not_caught_by_a_long_poll_that_was_hung_up() {
    // The server is to notice after 150 ms. A busy machine lets it notice later than anybody can wait, but not each time: without the
    // wait everything that goes back is caught.
    for _ in 0..10 {
        if hidden_by_hung_up_polls().await == 0 {
            return;
        }
    }
    panic!("a replica gets them at once, and of ten times not once");
}

/// How many messages are hidden by nobody after an end that gave some back.
async fn hidden_by_hung_up_polls() -> usize {
    let queue = queue(Options { lingering: Duration::from_millis(150), ..Options::default() }).await;
    let mut stand = super::prepared(&queue, &[("POSTERN_DEAD_MAX_BYTES", "4KiB")]).await;
    // The letters are full after a few: the others are held, and wait. Nothing else is there for the long polls.
    for n in 0..10 {
        queue.send(format!("poison {n} {}", "x".repeat(900)));
    }
    stand.begin().await;
    stand.eventually("the store refuses", async |stand| trouble(stand).await.is_some()).await;
    stand.eventually("some are held", async |_| queue.in_flight() > 4).await;
    stand.signal("INT");
    stand.ended().await;
    // Until the last of the long polls has been given up by the server too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(queue.left() > 4);
    queue.in_flight()
}

/// A server that answers at once, with nothing, or with no answer of SQS's at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_waits_is_not_asked_in_a_hot_loop() {
    let queue = queue(Options::default()).await;
    queue.fail(Call::Receive, Fault::Status(200), u32::MAX);
    let begun = Instant::now();
    let stand = draining(&queue, &[]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stand.eventually("it goes on asking", async |_| queue.ledger().receives > 1).await;
    let (asked, most) = (queue.ledger().receives, 8 * begun.elapsed().as_secs());
    assert!(asked <= most, "{asked} in {:?}", begun.elapsed());
    queue.heal();
    queue.send(bare("at last"));
    stand.delivered(&["at last"]).await;
    emptied(&stand, &queue).await;
}

/// One message that is too large for the bounds of the store stopped receiving for five minutes, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_the_store_stops_nothing_else() {
    let queue = queue(Options::default()).await;
    let stand = draining(&queue, &[("POSTERN_DEAD_MAX_BYTES", "16KiB"), ("POSTERN_QUEUE_MAX_BYTES", "4KiB")]).await;
    let stays = queue.send("x".repeat(20_000));
    let mut record = crate::hard_cases::stand::created("huge");
    record["padding"] = "x".repeat(5000).into();
    queue.send(postern::simulator::sns::records::message(&[record]));
    stand
        .eventually("it is told", async |stand| trouble(stand).await.is_some_and(|t| t.contains("stays in the queue")))
        .await;
    let keys = keys(40);
    for key in &keys {
        queue.send(bare(key));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    delivered(&stand, &keys).await;
    stand.eventually("one is left", async |_| queue.left() == 1).await;
    assert!(trouble(&stand).await.expect("a trouble").contains("POSTERN_DEAD_MAX_BYTES"), "it stays told");
    assert!(queue.ledger().visibility.iter().all(|(number, _)| *number == stays), "{:?}", queue.ledger().visibility);
    assert_eq!(super::dead_reasons(&stand).await, ["too_large"], "{}", stand.log());
}
