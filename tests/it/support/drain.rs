//! Draining a queue within this process: the SQS source by itself, before a store of the caller's. The benchmark uses it too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postern::aws::Aws;
use postern::clock::{Clock, ClockSkew, SystemClock};
use postern::config::{self, ChainPolicy, Format, NonS3};
use postern::health::Health;
use postern::queue::{Pending, Queue as Store};
use postern::simulator::authority::{Authority, Leaf};
use postern::simulator::sqs::Queue;
use postern::sources::intake::Desk;
use postern::sources::sns::certs::{self, CertificateStore, Fetch, FetchError, Fetched};
use postern::sources::sns::chain::Trust;
use postern::sources::sns::verifier::Verifier;
use postern::sources::sns::verify::Policy;
use postern::sources::sqs;
use postern::telemetry::metrics::Metrics;
use url::Url;

/// The source before `queue`, with `settings` besides those that it needs; its instance is called `drained`.
pub(crate) fn setup(queue: &Queue, store: Arc<dyn Store>, settings: &[(&str, &str)]) -> sqs::Setup {
    let url = queue.url().to_string();
    let own = [
        ("POSTERN_TLS", "off"),
        ("POSTERN_INSTANCE_NAME", "drained"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
        ("POSTERN_SQS_QUEUE_URL", url.as_str()),
    ];
    let all = own.iter().chain(settings);
    let env: BTreeMap<String, String> = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let instance = Arc::clone(&config::load(&env).expect("a configuration").instances[0]);
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Arc::new(Health::default());
    sqs::Setup {
        config: instance.sqs.clone().expect("a queue"),
        aws: Arc::new(Aws::new(&instance, None, &[]).expect("no authorities")),
        verifier: Arc::new(verifier(&clock, &health, &metrics)),
        sns_endpoint: None,
        desk: Arc::new(Desk::new(store, metrics.clone(), NonS3::SetAside, Format::CloudElements)),
        instance,
        clock,
        metrics,
        health,
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
