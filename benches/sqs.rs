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
mod drain {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use postern::aws::Aws;
    use postern::clock::{Clock, ClockSkew, SystemClock};
    use postern::config::{self, ChainPolicy, Format, NonS3, Ordering, QueueConfig};
    use postern::health::Health;
    use postern::queue::{Pending, Queue as _, embedded};
    use postern::shutdown::{self, Phase};
    use postern::simulator::authority::{Authority, Leaf};
    use postern::simulator::dice::Dice;
    use postern::simulator::sns::records;
    use postern::simulator::sqs::{Options, Queue};
    use postern::sources::intake::Desk;
    use postern::sources::sns::certs::{self, CertificateStore, Fetch, FetchError, Fetched};
    use postern::sources::sns::chain::Trust;
    use postern::sources::sns::verifier::Verifier;
    use postern::sources::sns::verify::Policy;
    use postern::sources::sqs;
    use postern::telemetry::metrics::Metrics;
    use url::Url;

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
        let (setup, store) = setup(&queue, consumers, dir.path());
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

    fn setup(queue: &Queue, consumers: usize, dir: &std::path::Path) -> (sqs::Setup, Arc<embedded::Embedded>) {
        let url = queue.url().to_string();
        let consumers = consumers.to_string();
        let settings = [
            ("POSTERN_TLS", "off"),
            ("POSTERN_INSTANCE_NAME", "bench"),
            ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
            ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
            ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
            ("POSTERN_SQS_QUEUE_URL", url.as_str()),
            ("POSTERN_SQS_CONSUMERS", consumers.as_str()),
        ];
        let env: BTreeMap<String, String> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = config::load(&env).expect("a configuration");
        let instance = Arc::clone(&config.instances[0]);
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bounds = QueueConfig {
            max_bytes: 4 << 30,
            dead_max_bytes: 1 << 30,
            dedupe_for: Duration::from_secs(86_400),
            ordering: Ordering::Key,
        };
        let names = [Arc::clone(&instance.name)];
        let store = embedded::open(dir, &bounds, &names, Arc::clone(&clock), metrics.clone()).expect("a store");
        let store = Arc::new(store);
        let health = Arc::new(Health::default());
        let setup = sqs::Setup {
            config: instance.sqs.clone().expect("a queue"),
            aws: Arc::new(Aws::new(&instance, None, &[]).expect("no authorities")),
            verifier: Arc::new(verifier(&clock, &health, &metrics)),
            sns_endpoint: None,
            desk: Arc::new(Desk::new(
                Arc::clone(&store) as Arc<_>,
                metrics.clone(),
                NonS3::SetAside,
                Format::CloudElements,
            )),
            instance,
            clock,
            metrics,
            health,
        };
        (setup, store)
    }

    struct Nobody;

    impl Fetch for Nobody {
        fn get<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> Pending<'a, Result<Fetched, FetchError>> {
            Box::pin(async { Ok(Fetched { status: 404, body: Vec::new(), date: None }) })
        }
    }

    /// One that is never asked: what is drained is not signed.
    fn verifier(clock: &Arc<dyn Clock>, health: &Arc<Health>, metrics: &Metrics) -> Verifier {
        let leaf = Leaf::named("sns.amazonaws.com", clock.now().to_utc());
        let authority = Authority::new(&leaf).expect("an authority");
        let skew = Arc::new(ClockSkew::default());
        let certificates = CertificateStore::open(certs::Setup {
            fetch: Arc::new(Nobody),
            trust: Trust::from_pem(authority.root_pem().as_bytes()).expect("an anchor"),
            chain: ChainPolicy::Enforce,
            data_dir: None,
            issuers: Vec::new(),
            clock: Arc::clone(clock),
            skew: Arc::clone(&skew),
            health: Arc::clone(health),
            metrics: metrics.clone(),
        });
        let policy = Policy {
            topics: Default::default(),
            min_signature_version: 1,
            max_age: Duration::from_secs(5400),
            chain: ChainPolicy::Enforce,
            endpoint: None,
        };
        Verifier::new(policy, certificates, Arc::clone(clock), skew)
    }

    /// CPU time of this process: user and system, in hundredths of a second.
    fn cpu_seconds() -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / 100.0
    }
}
