//! Kill -9 under load, with an exact ledger: what was answered with 200 reaches the app, whatever moment the kill found.
//!
//! `POSTERN_CRASH_ROUNDS` sets the number of kills (3), `POSTERN_CRASH_SEED` repeats the moments of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use postern::clock::{Clock as _, SystemClock};
use postern::simulator::dice::Dice;
use postern::simulator::load::{self, Load, Shot};
use postern::simulator::process::Sidecar;
use postern::simulator::receiver::{self, Behaviour, Receiver};
use postern::simulator::sns::{self, Simulator, records};
use postern::simulator::wire::Target;

use crate::support::wait::PATIENCE;

const KEY: &str = "the key of the crash tests";

/// New messages in each round; enough that a kill always finds some in flight.
const MESSAGES_PER_ROUND: u64 = 400;

/// What was sent, and what of it was answered with 200.
#[derive(Default)]
struct Ledger {
    /// Messages without a 200 so far, by number.
    pending: BTreeMap<u64, Shot>,
    /// Numbers with a 200.
    acknowledged: BTreeSet<u64>,
    /// Answers that no genuine message should get, and the number of the message.
    refused: Vec<(u64, u16)>,
}

fn object_of(number: u64) -> String {
    format!("crash/object {number:06}.txt")
}

/// A signed message about an object of its own.
fn message(simulator: &Simulator, number: u64, dice: &mut Dice) -> Shot {
    let change = records::Change {
        event: "ObjectCreated:Put",
        bucket: "crash",
        key: &object_of(number),
        region: "us-east-1",
        time: SystemClock.now(),
        order: u32::try_from(number).expect("a small number"),
    };
    let envelope = simulator.s3_notification(&[records::record(&change, dice)], dice);
    Shot { tag: number, headers: envelope.headers(), body: Bytes::from(envelope.to_body()) }
}

/// Sends all that is pending and notes the answers; what has none stays pending, as SNS would send it again.
async fn send_pending(target: &Arc<Target>, ledger: &Arc<Mutex<Ledger>>, connections: usize) {
    let shots: Vec<Shot> = ledger.lock().expect("a lock").pending.values().cloned().collect();
    let (sender, receiver) = mpsc::channel(shots.len().max(1));
    for shot in shots {
        sender.try_send(shot).expect("room for all");
    }
    drop(sender);
    let noted = Arc::clone(ledger);
    let load = Load { target: Arc::clone(target), connections, rate: None };
    load::drive(&load, receiver, move |number, reply, _| {
        let mut ledger = noted.lock().expect("a lock");
        match reply.map(|reply| reply.status.as_u16()) {
            Ok(200) => {
                ledger.pending.remove(&number);
                ledger.acknowledged.insert(number);
            }
            // Our own trouble, such as shutting down: SNS tries again.
            Ok(503) | Err(_) => {}
            Ok(status) => ledger.refused.push((number, status)),
        }
    })
    .await;
}

async fn survive(folder: &Path, preload: Option<PathBuf>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("POSTERN_CRASH_ROUNDS").unwrap_or(3);
    let seed = number("POSTERN_CRASH_SEED").unwrap_or_else(|| Dice::new().throw() >> 1);
    println!("{rounds} rounds, POSTERN_CRASH_SEED={seed}");
    let mut dice = Dice::seeded(seed);

    let simulator = Arc::new(Simulator::start(sns::Options::default()).await.expect("a simulator"));
    let app = receiver::Options { keys: vec![KEY.to_owned()], ..receiver::Options::default() };
    let app = Receiver::start(app).await.expect("a receiver");
    let store = folder.join("store");
    std::fs::create_dir(&store).expect("a folder");
    let binary = Path::new(env!("CARGO_BIN_EXE_postern"));
    let mut sidecar = Sidecar::between(binary, folder, &simulator, &app.url(), KEY).expect("a sidecar");
    if let Some(shim) = preload {
        sidecar = sidecar.with("LD_PRELOAD", shim).with("LOSTWRITES_DIR", &store);
    }
    let target = Arc::new(Target::new(&sidecar.url("/sns"), None).expect("a target"));
    let ledger = Arc::new(Mutex::new(Ledger::default()));

    for round in 0..rounds {
        let first = round * MESSAGES_PER_ROUND;
        let (signing, mut own) = (Arc::clone(&simulator), Dice::seeded(dice.throw()));
        let fresh = tokio::task::spawn_blocking(move || {
            (first..first + MESSAGES_PER_ROUND)
                .map(|number| (number, message(&signing, number, &mut own)))
                .collect::<Vec<_>>()
        });
        let fresh = fresh.await.expect("signed messages");
        ledger.lock().expect("a lock").pending.extend(fresh);
        let (running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts again after a kill");
        // Every other round the app is away for a while, so that the kill finds events that are owed and not delivered.
        app.always(Behaviour::Status(if round % 2 == 1 { 503 } else { 200 }));
        // The moment is a number of answers and not a time: whatever the speed, the kill finds messages in flight.
        let before = ledger.lock().expect("a lock").acknowledged.len();
        let moment = 1 + usize::try_from(dice.below(MESSAGES_PER_ROUND * 9 / 10)).expect("a small number");
        let watched = Arc::clone(&ledger);
        tokio::join!(send_pending(&target, &ledger, 16), async {
            let reached = async {
                while watched.lock().expect("a lock").acknowledged.len() < before + moment {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            // Past its patience it kills all the same; what is missing is found at the end.
            let _ = tokio::time::timeout(PATIENCE, reached).await;
            running.kill();
        });
        let ledger = ledger.lock().expect("a lock");
        println!(
            "round {round}: killed after {moment} answers, {} acknowledged in all, {} to be sent again",
            ledger.acknowledged.len(),
            ledger.pending.len()
        );
    }

    app.always(Behaviour::Status(200));
    let (_running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts after the last kill");
    for _ in 0..50 {
        send_pending(&target, &ledger, 16).await;
        if ledger.lock().expect("a lock").pending.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (refused, pending, acknowledged) = {
        let mut ledger = ledger.lock().expect("a lock");
        (std::mem::take(&mut ledger.refused), ledger.pending.len(), std::mem::take(&mut ledger.acknowledged))
    };
    assert_eq!(refused, [], "genuine messages were refused: {}", sidecar.log_tail());
    assert_eq!(pending, 0, "some messages are never acknowledged: {}", sidecar.log_tail());

    let expected: BTreeSet<String> = acknowledged.into_iter().map(object_of).collect();
    let complete = app.wait_until(PATIENCE, |app| app.objects.len() >= expected.len()).await;
    app.ledger(|app| {
        let received: BTreeSet<String> = app.objects.keys().cloned().collect();
        let lost: Vec<_> = expected.difference(&received).take(5).collect();
        let unknown: Vec<_> = received.difference(&expected).take(5).collect();
        println!(
            "{} acknowledged, {} received, {} of them more than once",
            expected.len(),
            received.len(),
            app.repeated
        );
        assert!(complete && lost.is_empty(), "acknowledged and lost, such as {lost:?}: {}", sidecar.log_tail());
        assert!(unknown.is_empty(), "received and never sent: {unknown:?}");
        assert!(app.is_clean(), "{} bad signatures, {} unsigned", app.bad_signatures, app.unsigned);
        assert!(app.objects.values().all(|object| object.events.len() == 1), "a change has two event ids");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_kills_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    survive(folder.path(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_kills_that_also_lose_every_write_not_yet_synced() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(shim) = crate::lostwrites::shim(folder.path()) else { return };
    survive(folder.path(), Some(shim)).await;
}
