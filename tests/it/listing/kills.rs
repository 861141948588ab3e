//! Kill -9 in the middle of walks, with an exact ledger: every change is told, and told as one event.
//!
//! `POSTERN_CRASH_ROUNDS` sets the number of kills (6), `POSTERN_CRASH_SEED` repeats the moments of a run.

use std::collections::BTreeMap;

use postern::simulator::dice::Dice;

use super::*;

const KEYS: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_as_one_event_whenever_the_poller_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("POSTERN_CRASH_ROUNDS").unwrap_or(6);
    let seed = number("POSTERN_CRASH_SEED").unwrap_or_else(|| Dice::new().throw() >> 1);
    println!("{rounds} rounds, POSTERN_CRASH_SEED={seed}");
    let mut dice = Dice::seeded(seed);

    let bench = Bench::polling().await.with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 20}"#);
    let key = |number: u64| format!("object {number:04}");
    let mut present: BTreeSet<u64> = (0..KEYS).filter(|number| number % 2 == 0).collect();
    for number in &present {
        bench.s3.put(&key(*number), "0", long_ago());
    }
    bench.start_with_baseline().await.kill();

    let mut expected: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for round in 1..=rounds {
        // Each object changes at most once a round, and each round ends with a walk that saw all of it: the ledger is exact.
        for number in 0..KEYS {
            let kind = match (present.contains(&number), dice.below(4)) {
                (true, 0) => {
                    present.remove(&number);
                    bench.s3.delete(&key(number));
                    "DELETED"
                }
                (true, 1) => {
                    bench.s3.put(&key(number), &round.to_string(), now());
                    "UPDATED"
                }
                (false, 0 | 1) => {
                    present.insert(number);
                    bench.s3.put(&key(number), &round.to_string(), now());
                    "CREATED"
                }
                _ => continue,
            };
            *expected.entry((key(number), kind)).or_default() += 1;
        }
        for _ in 0..3 {
            let before = bench.s3.requests();
            let pages = 1 + dice.below(20);
            let running = bench.start().await;
            // The moment is a number of requests and a little more, so that it falls between a page and its commit too.
            wait_until("some pages are listed", || async { (bench.s3.requests() >= before + pages).then_some(()) })
                .await;
            tokio::time::sleep(Duration::from_micros(dice.below(8000))).await;
            running.kill();
        }
        let mut running = bench.start().await;
        walks(&mut running, 2.0).await;
        running.kill();
    }

    let mut running = bench.start().await;
    let all: usize = expected.values().sum();
    wait_until("all is told", || async { (bench.told().len() >= all).then_some(()) }).await;
    more_walks(&mut running, 1.0).await;
    let mut told: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for (_, key, kind) in bench.told() {
        let kind = ["CREATED", "DELETED", "UPDATED"].into_iter().find(|known| *known == kind).expect("a kind");
        *told.entry((key, kind)).or_default() += 1;
    }
    println!("{all} changes, {} callbacks", bench.app.received().len());
    assert_eq!(told, expected);
}
