//! Draining SQS: from a stand-in of SQS on loopback to the store, durable, and deleted. Our own limit, without SQS's.
//!
//! `cargo bench --bench sqs [-- MESSAGES]`; the store is made in a temporary directory of the current disk. The stand-in runs in this
//! process, so the CPU is for both sides.

#[cfg(not(feature = "aws"))]
fn main() {
    println!("SQS needs the feature aws");
}

#[cfg(feature = "aws")]
fn main() {
    let messages = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(30_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("consumers  messages/s  CPU us/message  receives  deletes  handed out twice");
    for consumers in [1, 4, 16] {
        runtime.block_on(drain::measure(consumers, messages));
    }
}

#[cfg(feature = "aws")]
#[path = "../tests/it/support/drain.rs"]
mod stand;

#[cfg(feature = "aws")]
mod drain {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use postern::clock::{Clock as _, SystemClock};
    use postern::config::{Ordering, QueueConfig};
    use postern::queue::{Queue as _, embedded};
    use postern::shutdown::{self, Phase};
    use postern::simulator::dice::Dice;
    use postern::simulator::sns::records;
    use postern::simulator::sqs::{Options, Queue};
    use postern::sources::sqs;
    use postern::telemetry::metrics::Metrics;

    use super::stand;

    pub(super) async fn measure(consumers: usize, messages: u32) {
        let queue = Queue::start(Options::default()).await.expect("a queue");
        let mut dice = Dice::seeded(7);
        for order in 0..messages {
            let change = records::Change {
                event: "ObjectCreated:Put",
                bucket: "photos",
                key: &format!("in/{order:08}.jpg"),
                region: "us-east-1",
                time: SystemClock.now(),
                order,
            };
            queue.send(records::message(&[records::record(&change, &mut dice)]));
        }
        let dir = tempfile::Builder::new().prefix("sqs-bench").tempdir_in(".").expect("a directory");
        let (store, wanted) = (open(dir.path()), consumers.to_string());
        let setup = stand::setup(&queue, Arc::clone(&store) as Arc<_>, &[("POSTERN_SQS_CONSUMERS", wanted.as_str())]);
        let (conductor, shutdown) = shutdown::channel();
        let (cpu, begun) = (cpu_seconds(), Instant::now());
        let running = tokio::spawn(sqs::run(setup, shutdown));
        while queue.left() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        conductor.enter(Phase::Draining);
        running.await.expect("it ends");
        let owed = store.stats().instances.iter().map(|instance| instance.owed).sum::<u64>();
        assert_eq!(owed, u64::from(messages), "what was deleted is stored");
        store.close().await;
        let ledger = queue.ledger();
        println!(
            "{consumers:9}  {:10.0}  {:14.1}  {:8}  {:7}  {:16}",
            f64::from(messages) / took,
            cpu * 1e6 / f64::from(messages),
            ledger.receives,
            ledger.deletes,
            ledger.handed_out - u64::from(messages)
        );
    }

    fn open(dir: &std::path::Path) -> Arc<embedded::Embedded> {
        let bounds = QueueConfig {
            max_bytes: 4 << 30,
            dead_max_bytes: 1 << 30,
            dedupe_for: Duration::from_secs(86_400),
            ordering: Ordering::Key,
        };
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        Arc::new(embedded::open(dir, &bounds, &["drained".into()], Arc::new(SystemClock), metrics).expect("a store"))
    }

    /// CPU time of this process: user and system, in hundredths of a second.
    fn cpu_seconds() -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / 100.0
    }
}
