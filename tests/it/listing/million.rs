//! A million keys: memory stays where it was, and an unchanged walk tells and writes nothing.

use std::time::Instant;

use super::*;

const KEYS: u64 = 1_000_000;

/// The bar: resident memory above that of an idle sidecar.
const ABOVE_IDLE: u64 = 30 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_keys_are_polled_in_flat_memory_and_an_unchanged_walk_tells_and_writes_nothing() {
    let bench = Bench::polling().await;
    let day = |number: u64| number % 365;
    for number in 0..KEYS {
        let key = format!("archive/2024/{:03}/customer-{:05}/document-{number:09}.pdf", day(number), number % 9973);
        bench.s3.put(&key, &format!("{:032x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15), long_ago());
    }
    let mut running = bench.start().await;
    let resident = |running: &Running| running.memory("VmRSS").expect("Linux tells");
    let idle = resident(&running);
    let files = || {
        let size = |name: &str| std::fs::metadata(bench.folder.path().join("store").join(name)).map_or(0, |m| m.len());
        size("listing.db") + size("listing.db-wal")
    };
    let begun = Instant::now();
    walks(&mut running, 1.0).await;
    println!(
        "first walk: {:?}, {} MiB idle, {} MiB after, {} MiB on disk",
        begun.elapsed(),
        idle >> 20,
        resident(&running) >> 20,
        files() >> 20
    );

    let (requests, before) = (bench.s3.requests(), files());
    let begun = Instant::now();
    walks(&mut running, 2.0).await;
    println!("second walk: {:?}, {} requests", begun.elapsed(), bench.s3.requests() - requests);
    assert_eq!(files(), before, "an unchanged walk writes no object");
    assert!(bench.told().is_empty());
    bench.s3.put("archive/2024/180/new.pdf", "1", now());
    bench.is_told(&[("archive/2024/180/new.pdf", "CREATED")]).await;
    let peak = running.memory("VmHWM").expect("Linux tells");
    println!("peak {} MiB, now {} MiB", peak >> 20, resident(&running) >> 20);
    assert!(peak.saturating_sub(idle) < ABOVE_IDLE, "{idle} bytes idle, {peak} at the peak");
    assert_eq!(metric(&mut running, "postern_events_total", "queued").await, 1.0);
}
