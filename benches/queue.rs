//! The embedded queue alone: appends and settlements by concurrent producers, CPU per event and the time to a durable answer.
//!
//! `cargo bench --bench queue [-- SECONDS]`; the store is made in a temporary directory of the current disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern::clock::{Clock, SystemClock};
use postern::config::{self, QueueConfig};
use postern::event::{Event, EventId, EventType, ObjectType, Origin, Sequencer};
use postern::queue::{Append, NewDelivery, Outcome, Queue, Settlement, Want, embedded, memory_key};
use postern::telemetry::metrics::Metrics;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("producers  events/s  CPU us/event  ack p50 ms  p99 ms  max ms");
    for producers in [1, 16, 64, 256] {
        runtime.block_on(measure(producers, Duration::from_secs(seconds)));
    }
}

async fn measure(producers: u64, length: Duration) {
    let dir = tempfile::Builder::new().prefix("queue-bench").tempdir_in(".").expect("a directory");
    let queue = Arc::new(open(dir.path()));
    let next = Arc::new(AtomicU64::new(0));
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let drain = tokio::spawn(drain(Arc::clone(&queue)));
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let (queue, next) = (Arc::clone(&queue), Arc::clone(&next));
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < length {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let began = Instant::now();
                    queue.append(append(n)).await.expect("stored");
                    waits.push(began.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("no panic"));
    }
    while queue.stats().instances[0].owed > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    drain.abort();
    queue.close().await;
    waits.sort_unstable();
    let n = waits.len();
    let ms = |at: usize| waits[at.min(n - 1)].as_secs_f64() * 1e3;
    println!(
        "{producers:9}  {:8.0}  {:12.1}  {:10.2}  {:6.2}  {:6.2}",
        n as f64 / took,
        cpu * 1e6 / n as f64,
        ms(n / 2),
        ms(n * 99 / 100),
        ms(n - 1)
    );
}

/// Takes and settles everything, 64 at a time side by side.
async fn drain(queue: Arc<embedded::Embedded>) {
    let permits = Arc::new(tokio::sync::Semaphore::new(64));
    loop {
        let free = permits.available_permits().max(1);
        let claims = queue.claim("bench", Want { claims: free, retries: free, batch: 1, probe: false }).await;
        for claim in claims {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("open");
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let at = SystemClock.now();
                let settlement = Settlement { token: claim.token, outcome: Outcome::Delivered, attempt: None, at };
                queue.settle(settlement).await.expect("settled");
                drop(permit);
            });
        }
    }
}

fn open(dir: &Path) -> embedded::Embedded {
    let config = QueueConfig {
        max_bytes: 4 << 30,
        dead_max_bytes: 1 << 30,
        dedupe_for: Duration::from_secs(86_400),
        ordering: config::Ordering::Key,
    };
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    embedded::open(dir, &config, &["bench".into()], Arc::new(SystemClock), metrics).expect("opened")
}

fn append(n: u64) -> Append {
    let hash = memory_key(&[&n.to_be_bytes()]);
    let mut id = [0; 15];
    id.copy_from_slice(&hash[..15]);
    let raw = format!("{{\"eventVersion\":\"2.1\",\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(700));
    let event = Event {
        id: EventId(id),
        event_type: EventType::Created,
        object_type: ObjectType::File,
        bucket: "photos".into(),
        key: format!("in/{:08}.jpg", n % 50_000),
        raw_key: None,
        event_name: "ObjectCreated:Put".into(),
        version_id: None,
        e_tag: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
        size: Some(n),
        sequencer: Some(Sequencer::Aws(format!("{n:018X}"))),
        time: SystemClock.now(),
        poll_date: None,
        origin: Origin::Sns,
        topic: Some("arn:aws:sns:eu-west-1:123456789012:photos".into()),
        region: Some("eu-west-1".into()),
        message_id: None,
        notification: None,
        raw: serde_json::value::RawValue::from_string(raw).expect("JSON"),
    };
    let deliveries = vec![NewDelivery { instance: "bench".into(), event, change: None }];
    Append { message: Some(hash), received_at: SystemClock.now(), deliveries, set_aside: Vec::new() }
}

/// CPU time of this process: user and system, in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
