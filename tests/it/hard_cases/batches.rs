//! Several events in one callback. (Hard case 12.)

use std::collections::BTreeMap;

use postern::simulator::receiver::{Behaviour, Callback};

use super::stand::{PATIENCE, Stand, attempts, calls, created, header, objects, record};

const BATCHES: (&str, &str) = ("POSTERN_MAX_EVENTS_PER_CALLBACK", "5");

/// Callbacks by their id: every one of an id must be the same.
fn by_id(calls: &[Callback]) -> BTreeMap<String, Vec<Callback>> {
    let mut found: BTreeMap<String, Vec<Callback>> = BTreeMap::new();
    for call in calls {
        found.entry(header(call, "webhook-id")).or_default().push(call.clone());
    }
    found
}

/// Hard case 12. A batch is composed once: on every attempt, also after a crash and beside newer events, it has the same id and bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_the_same_on_every_attempt_and_after_a_crash() {
    let mut stand = Stand::start(&[BATCHES, ("POSTERN_CONCURRENCY", "1")]).await;
    stand.app.script([Behaviour::Status(500), Behaviour::Reset, Behaviour::Status(500)]);
    let keys: Vec<String> = (0..7).map(|n| format!("k{n}")).collect();
    let records: Vec<_> = keys.iter().map(|key| created(key)).collect();
    assert_eq!(stand.notify(&records).await, 200, "{}", stand.log());
    stand.asked(2).await;
    stand.kill();
    let before = by_id(&calls(&stand.app));
    stand.begin().await;
    stand.create(&["later 1", "later 2"]).await;
    let mut all: Vec<&str> = keys.iter().map(String::as_str).collect();
    all.extend(["later 1", "later 2"]);
    stand.delivered(&all).await;

    let after = by_id(&calls(&stand.app));
    assert!(before.keys().all(|id| after.contains_key(id)), "the ids are kept: {before:?} {after:?}");
    let mut repeated = 0;
    for calls in after.values() {
        repeated += usize::from(calls.len() > 1);
        assert!(calls.iter().all(|call| call.body == calls[0].body), "{calls:?}");
        assert!(objects(&calls[0]).len() <= 5);
    }
    assert!(repeated > 0 && after.values().any(|calls| objects(&calls[0]).len() == 5), "{after:?}");
    assert!(stand.app.ledger(|ledger| ledger.is_clean() && ledger.repeated == 0));
    for row in stand.wait_rows(&["--state", "delivered"], 9).await {
        assert_eq!(row["state"], "delivered");
    }
}

/// Hard case 12. One event that the app refuses for good takes nobody down with it: the batch is split, the others are delivered
/// singly, and only that one is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_is_split_and_only_the_poison_is_dead() {
    let stand = Stand::start(&[BATCHES, ("POSTERN_RETRY_MAX_ATTEMPTS", "1"), ("POSTERN_CONCURRENCY", "1")]).await;
    stand.app.fail_key("poison", 422);
    let records = ["a", "b", "poison", "c", "d"].map(created);
    assert_eq!(stand.notify(&records).await, 200, "{}", stand.log());
    stand.delivered(&["a", "b", "c", "d"]).await;
    let dead = stand.wait_rows(&["--state", "dead"], 1).await;
    assert_eq!(dead[0]["key"], "poison");
    // The refusal of the batch is on record, and was nobody's attempt.
    assert_eq!((attempts(&dead[0]), &dead[0]["attempts"]), (vec!["422".to_owned(); 2], &1.into()), "{:#?}", dead[0]);
    let calls = calls(&stand.app);
    assert_eq!(objects(&calls[0]), ["a", "b", "poison", "c", "d"]);
    assert!(calls[1..].iter().all(|call| objects(call).len() == 1), "singly from then on");
    // Single again, each goes under the id of its event.
    let rows = stand.wait_rows(&["--state", "delivered"], 4).await;
    for row in rows {
        let id = row["eventId"].as_str().expect("an id");
        assert!(
            calls
                .iter()
                .any(|call| header(call, "webhook-id") == id && objects(call) == [row["key"].as_str().expect("a key")])
        );
    }
}

/// Hard case 12. A failure that is not a refusal leaves the batch whole, and it dies whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_fails_without_a_refusal_stays_whole() {
    let stand = Stand::start(&[BATCHES, ("POSTERN_RETRY_MAX_ATTEMPTS", "2")]).await;
    stand.app.always(Behaviour::Status(500));
    assert_eq!(stand.notify(&["a", "b", "c"].map(created)).await, 200, "{}", stand.log());
    for row in stand.wait_rows(&["--state", "dead"], 3).await {
        assert_eq!(attempts(&row), ["500", "500"], "{row}");
    }
    let calls = calls(&stand.app);
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| objects(call) == ["a", "b", "c"] && call.body == calls[0].body));
}

/// Hard case 12. Changes of one object stay in their order, in one batch or in several that follow each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_key_stay_in_order_across_batches() {
    let stand = Stand::start(&[BATCHES]).await;
    stand.app.script([Behaviour::Status(500)]);
    let order = |n: u32| record("ObjectCreated:Put", if n.is_multiple_of(4) { "other" } else { "same" }, n);
    let records: Vec<_> = (1..=12).map(order).collect();
    assert_eq!(stand.notify(&records).await, 200, "{}", stand.log());
    let sequence = || -> Vec<String> {
        let taken = calls(&stand.app).into_iter().filter(|call| call.status == Some(200));
        let raw = taken.flat_map(|call| {
            super::stand::body(&call)["message"]["raw"]["Records"].as_array().cloned().unwrap_or_default()
        });
        raw.filter(|record| record["s3"]["object"]["key"] == "same")
            .map(|record| record["s3"]["object"]["sequencer"].as_str().expect("one").split_at(10).1.to_owned())
            .collect()
    };
    stand.wait_rows(&["--state", "delivered"], 12).await;
    let sequence = sequence();
    assert_eq!(sequence.len(), 9, "{sequence:?}");
    assert!(sequence.is_sorted(), "{sequence:?}");
    assert!(stand.app.wait_until(PATIENCE, |ledger| ledger.repeated == 0).await);
}
