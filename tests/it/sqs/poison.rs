//! A message over which the program fails: no source of SQS's can make it, so the store of this test does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern::aws::Aws;
use postern::clock::{Clock, ClockSkew, SystemClock};
use postern::config::{self, ChainPolicy, Format, NonS3};
use postern::health::Health;
use postern::queue::{Append, Appended, Claim, Filter, Pending, Queue, QueueError, Row, Settlement, Stats, Want};
use postern::shutdown::{self, Phase};
use postern::simulator::authority::{Authority, Leaf};
use postern::simulator::sqs::{Options, Queue as Sqs};
use postern::sources::intake::Desk;
use postern::sources::sns::certs::{self, CertificateStore, Fetch, FetchError, Fetched};
use postern::sources::sns::chain::Trust;
use postern::sources::sns::verifier::Verifier;
use postern::sources::sns::verify::Policy;
use postern::sources::sqs;
use postern::telemetry::metrics::Metrics;
use url::Url;

use super::bare;

/// A store that keeps keys and reasons, and fails whenever it is to keep an event of an object called `poison`.
#[derive(Debug, Default)]
struct Brittle {
    keys: Mutex<Vec<String>>,
    aside: Mutex<Vec<(&'static str, String)>>,
}

impl Queue for Brittle {
    fn append(&self, append: Append) -> Pending<'_, Result<Appended, QueueError>> {
        Box::pin(async move {
            assert!(append.deliveries.iter().all(|delivery| delivery.event.key != "poison"), "on purpose");
            let appended =
                Appended { queued: append.deliveries.len(), set_aside: append.set_aside.len(), ..Appended::default() };
            self.keys.lock().expect("no panic").extend(append.deliveries.into_iter().map(|one| one.event.key));
            self.aside
                .lock()
                .expect("no panic")
                .extend(append.set_aside.into_iter().map(|one| (one.reason, one.detail)));
            Ok(appended)
        })
    }

    fn claim<'a>(&'a self, _: &'a str, _: Want) -> Pending<'a, Vec<Claim>> {
        Box::pin(std::future::pending())
    }

    fn settle(&self, _: Settlement) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self, _: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn replay(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn discard(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn note_paused<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn paused(&self, _: &str) -> Duration {
        Duration::ZERO
    }

    fn put_note<'a>(&'a self, _: &'a str, _: &'a str, _: String) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn notes<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Vec<(String, String)>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove_note<'a>(&'a self, _: &'a str, _: &'a str) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {})
    }
}

struct Nobody;

impl Fetch for Nobody {
    fn get<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> Pending<'a, Result<Fetched, FetchError>> {
        Box::pin(async { Ok(Fetched { status: 404, body: Vec::new(), date: None }) })
    }
}

/// One that is never asked: nothing here is signed.
fn verifier(clock: &Arc<dyn Clock>, health: &Arc<Health>, metrics: &Metrics) -> Verifier {
    let authority = Authority::new(&Leaf::named("sns.amazonaws.com", clock.now().to_utc())).expect("an authority");
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

fn setup(queue: &Sqs, store: &Arc<Brittle>) -> sqs::Setup {
    let url = queue.url().to_string();
    let settings = [
        ("POSTERN_TLS", "off"),
        ("POSTERN_INSTANCE_NAME", "brittle"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
        ("POSTERN_SQS_QUEUE_URL", url.as_str()),
    ];
    let env: BTreeMap<String, String> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let instance = Arc::clone(&config::load(&env).expect("a configuration").instances[0]);
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Arc::new(Health::default());
    let desk = Desk::new(Arc::clone(store) as Arc<_>, metrics.clone(), NonS3::SetAside, Format::CloudElements);
    sqs::Setup {
        config: instance.sqs.clone().expect("a queue"),
        aws: Arc::new(Aws::new(&instance, None, &[]).expect("no authorities")),
        verifier: Arc::new(verifier(&clock, &health, &metrics)),
        sns_endpoint: None,
        desk: Arc::new(desk),
        instance,
        clock,
        metrics,
        health,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_the_program_fail_goes_back_a_few_times_and_is_then_set_aside_and_the_others_go_on() {
    let queue = Sqs::start(Options::default()).await.expect("a queue");
    let first = queue.send(bare("poison"));
    // Received for the fifth time, after it has failed four times elsewhere.
    let last = queue.send_again(4, bare("poison"));
    for n in 0..20 {
        queue.send(bare(&format!("k{n}")));
    }
    let store = Arc::new(Brittle::default());
    let (conductor, shutdown) = shutdown::channel();
    let running = tokio::spawn(sqs::run(setup(&queue, &store), shutdown));
    let ended = async {
        // The first comes again after seconds, and fails again.
        while queue.ledger().visibility.len() < 2 || queue.left() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::wait::PATIENCE, ended)
        .await
        .expect("the others are deleted, and one goes back");
    conductor.enter(Phase::Draining);
    running.await.expect("it ends");
    let ledger = queue.ledger();
    assert!(ledger.deleted.contains(&last) && !ledger.deleted.contains(&first), "{ledger:?}");
    assert!(ledger.visibility.iter().all(|(number, seconds)| *number == first && *seconds >= 2), "{ledger:?}");
    assert_eq!(store.keys.lock().expect("no panic").len(), 20);
    let aside = store.aside.lock().expect("no panic").clone();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(aside[0].0 == "poison" && aside[0].1.contains("received 5 times"), "{aside:?}");
}
