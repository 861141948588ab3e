use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::registry::Registry;

use super::*;
use crate::clock::ManualClock;
use crate::queue::Pending;
use crate::simulator::authority::{Authority, Leaf};
use crate::sources::sns::chain::tests::{ca, der, issued_at, leaf, now};

const NAME: &str = "sns.amazonaws.com";

type Serve = Box<dyn Fn(&str) -> Result<Fetched, FetchError> + Send + Sync>;

/// A network in memory: counts, takes its time, and serves what the test says.
struct Network {
    serve: Mutex<Serve>,
    calls: AtomicUsize,
    delay: Duration,
}

impl Network {
    fn serving(serve: impl Fn(&str) -> Result<Fetched, FetchError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            serve: Mutex::new(Box::new(serve)),
            calls: AtomicUsize::new(0),
            delay: Duration::from_millis(50),
        })
    }

    fn become_(&self, serve: impl Fn(&str) -> Result<Fetched, FetchError> + Send + Sync + 'static) {
        *self.serve.lock().expect("not poisoned") = Box::new(serve);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Fetch for Network {
    fn get<'a>(&'a self, url: &'a Url, _: usize, _: Duration) -> Pending<'a, Result<Fetched, FetchError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            (self.serve.lock().expect("not poisoned"))(url.as_str())
        })
    }
}

fn ok(body: impl Into<Vec<u8>>) -> Result<Fetched, FetchError> {
    Ok(Fetched { status: 200, body: body.into(), date: None })
}

fn status(status: u16) -> Result<Fetched, FetchError> {
    Ok(Fetched { status, body: Vec::new(), date: None })
}

fn gone() -> Result<Fetched, FetchError> {
    Err(FetchError::Failed("no route".to_owned()))
}

struct Bed {
    network: Arc<Network>,
    clock: Arc<ManualClock>,
    skew: Arc<ClockSkew>,
    health: Arc<Health>,
    dir: tempfile::TempDir,
    trust: Trust,
    chain: ChainPolicy,
}

impl Bed {
    fn new(trust: Trust, network: Arc<Network>) -> Self {
        Self {
            network,
            clock: Arc::new(ManualClock::at(now())),
            skew: Arc::default(),
            health: Arc::default(),
            dir: tempfile::tempdir().expect("a folder"),
            trust,
            chain: ChainPolicy::Enforce,
        }
    }

    fn open(&self) -> CertificateStore {
        CertificateStore::open(Setup {
            fetch: Arc::clone(&self.network) as Arc<dyn Fetch>,
            trust: self.trust.clone(),
            chain: self.chain,
            data_dir: Some(self.dir.path().to_owned()),
            issuers: Vec::new(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            skew: Arc::clone(&self.skew),
            health: Arc::clone(&self.health),
            metrics: Metrics::register(&mut Registry::default()),
        })
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("certificates")) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// A root's bed whose network serves its one good leaf everywhere.
fn good_bed() -> (Bed, String) {
    let authority = Authority::new(&Leaf::named(NAME, now().to_utc())).expect("an authority");
    let pem = authority.leaf_pem().to_owned();
    let served = pem.clone();
    let trust = Trust::from_pem(authority.root_pem().as_bytes()).expect("a root");
    (Bed::new(trust, Network::serving(move |_| ok(served.clone()))), pem)
}

fn url(n: usize) -> Url {
    let text = format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{n:032x}.pem");
    Url::parse(&text).expect("a URL")
}

async fn reason(store: &CertificateStore, n: usize) -> &'static str {
    store.get(&url(n), NAME, now()).await.map_or_else(|r| r.reason.as_str(), |_| "ok")
}

#[tokio::test(start_paused = true)]
async fn many_at_once_make_one_fetch_and_later_ones_none() {
    let (bed, _) = good_bed();
    let store = bed.open();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { reason(&store, 1).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), "ok");
    }
    assert_eq!(reason(&store, 1).await, "ok");
    assert_eq!(bed.network.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_does_not_end_the_fetch_for_others() {
    let (bed, _) = good_bed();
    let store = bed.open();
    let impatient = tokio::time::timeout(Duration::from_millis(10), reason(&store, 1)).await;
    assert!(impatient.is_err());
    assert_eq!(reason(&store, 1).await, "ok");
    assert_eq!(bed.network.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_way_of_failing_has_its_word() {
    let (bed, pem) = good_bed();
    let store = bed.open();
    let cases: Vec<(Result<Fetched, FetchError>, &str)> = vec![
        (status(301), "cert_fetch"),
        (status(500), "cert_fetch"),
        (status(403), "cert_fetch"),
        (gone(), "cert_fetch"),
        (status(404), "cert_missing"),
        (Err(FetchError::TooLarge), "cert_format"),
        (ok(vec![b' '; MAX_CERTIFICATE_BYTES + 1]), "cert_format"),
        (ok("<html></html>"), "cert_format"),
        (ok(format!("{pem}{pem}")), "cert_format"),
        (ok(leaf(None, |_| {})), "cert_chain"),
    ];
    for (n, (answer, word)) in cases.into_iter().enumerate() {
        bed.network.become_(move |_| answer.clone());
        assert_eq!(reason(&store, n).await, word);
    }
    assert!(bed.files().is_empty(), "nothing bad is kept");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_ends_is_given_up_after_five_seconds() {
    let (bed, pem) = good_bed();
    let slow = Network {
        delay: Duration::from_secs(3600),
        serve: Mutex::new(Box::new(move |_| ok(pem.clone()))),
        calls: AtomicUsize::new(0),
    };
    let bed = Bed { network: Arc::new(slow), ..bed };
    let store = bed.open();
    let begun = Instant::now();
    assert_eq!(reason(&store, 1).await, "cert_fetch");
    assert_eq!(begun.elapsed().as_secs(), FETCH_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_remembered_for_thirty_seconds_and_not_longer() {
    let (bed, pem) = good_bed();
    let store = bed.open();
    bed.network.become_(|_| gone());
    assert_eq!(reason(&store, 1).await, "cert_fetch");
    bed.network.become_(move |_| ok(pem.clone()));
    assert_eq!(reason(&store, 1).await, "cert_fetch");
    assert_eq!(bed.network.calls(), 1);
    tokio::time::advance(FAILURE_FOR).await;
    assert_eq!(reason(&store, 1).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_invented_addresses_is_rationed_and_the_good_one_goes_on() {
    let (bed, pem) = good_bed();
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    bed.network.become_(|_| status(404));
    let mut rationed = 0;
    for n in 2..10_000 {
        match reason(&store, n).await {
            "cert_missing" => {}
            "cert_rate" => rationed += 1,
            other => panic!("{other}"),
        }
        if n % 100 == 0 {
            assert_eq!(reason(&store, 1).await, "ok");
        }
    }
    assert!(bed.network.calls() <= BUDGET, "{}", bed.network.calls());
    assert!(rationed > 9_900);
    {
        let state = store.0.lock();
        assert!(state.failures.len() <= MAX_FAILURES && state.flights.is_empty() && state.spent.len() <= BUDGET);
    }
    // A good one is exempt, also after it has left the memory.
    let restarted = bed.open();
    for n in 20_000..20_000 + BUDGET {
        assert_eq!(reason(&restarted, n).await, "cert_missing");
    }
    assert_eq!(reason(&restarted, 30_000).await, "cert_rate");
    assert_eq!(reason(&restarted, 1).await, "ok");
    bed.network.become_(move |_| ok(pem.clone()));
    tokio::time::advance(BUDGET_WINDOW).await;
    assert_eq!(reason(&restarted, 30_000).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn memory_holds_sixteen_and_drops_the_one_unused_for_longest() {
    let (bed, _) = good_bed();
    let store = bed.open();
    for n in 0..=MAX_ENTRIES {
        assert_eq!(reason(&store, n).await, "ok");
        assert_eq!(reason(&store, 0).await, "ok");
    }
    let state = store.0.lock();
    assert_eq!(state.entries.len(), MAX_ENTRIES);
    assert!(state.entries.iter().any(|entry| entry.url == url(0).as_str()));
    assert!(!state.entries.iter().any(|entry| entry.url == url(1).as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_network_still_verifies_from_private_files() {
    let (bed, _) = good_bed();
    assert_eq!(reason(&bed.open(), 1).await, "ok");
    bed.network.become_(|_| gone());
    assert_eq!(reason(&bed.open(), 1).await, "ok");
    assert_eq!(bed.network.calls(), 1);
    let files = bed.files();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::metadata(&files[0]).expect("a file").permissions().mode() & 0o777, 0o600);
    // What is on disk is judged again: another certificate there, or another root here, is not believed.
    let mut strict = bed;
    strict.trust = Trust::amazon();
    assert_eq!(reason(&strict.open(), 1).await, "cert_fetch");
    std::fs::write(&files[0], leaf(None, |_| {})).expect("written");
    assert_eq!(reason(&strict.open(), 1).await, "cert_fetch");
}

#[tokio::test(start_paused = true)]
async fn after_a_day_the_old_certificate_serves_while_it_is_fetched_again() {
    let (bed, _) = good_bed();
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    tokio::time::advance(FRESH_FOR).await;
    bed.network.become_(|_| gone());
    assert_eq!(reason(&store, 1).await, "ok");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.network.calls(), 2);
    // The failure is remembered, so it is not tried with every message, and the good one stays.
    assert_eq!(reason(&store, 1).await, "ok");
    assert_eq!(bed.network.calls(), 2);
    tokio::time::advance(FAILURE_FOR).await;
    // Its own server says that it is withdrawn.
    bed.network.become_(|_| status(404));
    assert_eq!(reason(&store, 1).await, "ok");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reason(&store, 1).await, "cert_missing");
    assert!(bed.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_leaves_the_memory_when_its_time_is_over() {
    let (bed, _) = good_bed();
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    let later = now().plus(Duration::from_secs(400 * 86_400));
    bed.clock.set(later);
    let refused = store.get(&url(1), NAME, later).await.map_err(|r| r.reason).map(|_| ());
    assert_eq!(refused, Err(Reason::CertNotValidNow));
}

#[tokio::test(start_paused = true)]
async fn asking_about_another_time_neither_uses_nor_drops_what_is_valid_now() {
    let (bed, _) = good_bed();
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    let long_ago = now().minus(Duration::from_secs(400 * 86_400));
    let refused = store.get(&url(1), NAME, long_ago).await.map_err(|r| r.reason).map(|_| ());
    assert_eq!(refused, Err(Reason::CertNotValidNow));
    assert_eq!(reason(&store, 1).await, "ok");
    assert_eq!(bed.network.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_address_under_another_name_is_judged_again() {
    let (bed, _) = good_bed();
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    let other =
        store.get(&url(1), "sns-signing.af-south-1.amazonaws.com", now()).await.map_err(|r| r.reason).map(|_| ());
    assert_eq!(other, Err(Reason::CertName));
    assert_eq!(reason(&store, 1).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_clock_known_to_be_off_makes_validity_our_own_fault() {
    let (bed, pem) = good_bed();
    let later = now().plus(Duration::from_secs(400 * 86_400));
    bed.clock.set(later);
    bed.network.become_(move |_| Ok(Fetched { status: 200, body: pem.clone().into_bytes(), date: Some(now()) }));
    let refused = bed.open().get(&url(1), NAME, later).await.map_err(|r| (r.reason, r.status())).map(|_| ());
    assert_eq!(refused, Err((Reason::ClockOff, 503)));
    assert!(bed.skew.is_off());
}

// === issuers ===

const AIA: &str = "http://crt.r2m01.amazontrust.com/r2m01.cer";

/// A bed with a root taken for Amazon's, an issuer under it, and a leaf that says where the issuer is.
fn amazon_bed() -> (Bed, String, String) {
    let (root_pem, root) = ca("Amazon Root CA 9", None);
    let (issuer_pem, issuer) = ca("Amazon RSA 2048 M01", Some(&root));
    let pem = leaf(Some(&issuer), |params| params.custom_extensions = vec![issued_at(AIA)]);
    let bed = Bed::new(Trust::as_amazon(&root_pem), Network::serving(|_| gone()));
    (bed, issuer_pem, pem)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_issuer_is_fetched_once_where_the_leaf_says_and_kept() {
    let (bed, issuer, pem) = amazon_bed();
    let issuer = der(&issuer).to_vec();
    bed.network.become_(move |url| if url == AIA { ok(issuer.clone()) } else { ok(pem.clone()) });
    let store = bed.open();
    assert_eq!(reason(&store, 1).await, "ok");
    assert_eq!(reason(&store, 2).await, "ok");
    assert_eq!(bed.network.calls(), 3, "two leafs, one issuer");
    bed.network.become_(|_| gone());
    assert_eq!(reason(&bed.open(), 1).await, "ok");
    assert_eq!(CertificateStore::kept_issuers(bed.dir.path(), &bed.trust, now()).len(), 1);
    assert_eq!(CertificateStore::kept_issuers(bed.dir.path(), &Trust::amazon(), now()).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_cannot_be_had_or_is_forged_is_our_own_ignorance() {
    let (bed, issuer, pem) = amazon_bed();
    let (_, stranger) = ca("Amazon Root CA 9", None);
    let (forged, _) = ca("Amazon RSA 2048 M01", Some(&stranger));
    for answer in [gone(), status(404), ok(der(&forged).to_vec()), ok("x")] {
        let pem = pem.clone();
        bed.network.become_(move |url| if url == AIA { answer.clone() } else { ok(pem.clone()) });
        let refused = bed.open().get(&url(1), NAME, now()).await.map_err(|r| (r.reason, r.status())).map(|_| ());
        assert_eq!(refused, Err((Reason::CertIssuerUnknown, 503)));
    }
    // A forged issuer seen before does not stand in the way of the genuine one.
    let issuer = der(&issuer).to_vec();
    bed.network.become_(move |url| if url == AIA { ok(issuer.clone()) } else { ok(pem.clone()) });
    assert_eq!(reason(&bed.open(), 1).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_cannot_be_had_is_not_asked_for_with_every_certificate() {
    let (bed, _, pem) = amazon_bed();
    bed.network.become_(move |url| if url == AIA { gone() } else { ok(pem.clone()) });
    let store = bed.open();
    for n in 1..=3 {
        assert_eq!(reason(&store, n).await, "cert_issuer_unknown");
    }
    assert_eq!(bed.network.calls(), 4, "three leafs, one issuer");
    tokio::time::advance(FAILURE_FOR).await;
    assert_eq!(reason(&store, 1).await, "cert_issuer_unknown");
    assert_eq!(bed.network.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_the_first_issuer_and_no_longer() {
    let (root_pem, root) = ca("Amazon Root CA 9", None);
    let pems: Vec<_> = (1..=4).map(|n| ca(&format!("Amazon RSA 2048 M0{n}"), Some(&root)).0).collect();
    let serve = move |limit: usize| {
        let pems = pems.clone();
        move |url: &str| {
            let n: usize =
                url.trim_end_matches(".cer").chars().next_back().and_then(|c| c.to_digit(10)).expect("a digit")
                    as usize;
            if n <= limit { ok(pems[n - 1].clone()) } else { gone() }
        }
    };
    let bed = Bed::new(Trust::as_amazon(&root_pem), Network::serving(|_| gone()));
    let store = bed.open();
    let fetching = tokio::spawn(async move { store.prefetch_issuers().await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!bed.health.is_ready());
    assert!(bed.health.snapshot()["issuers"].reason.contains("crt.*.amazontrust.com"));

    bed.network.become_(serve(1));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(bed.health.is_ready() && !bed.health.snapshot()["issuers"].ok, "degraded");

    bed.network.become_(serve(4));
    fetching.await.expect("ends when all are here");
    assert!(bed.health.snapshot()["issuers"].ok);

    // With all on disk, a start without network is well at once.
    bed.network.become_(|_| gone());
    let calls = bed.network.calls();
    bed.open().prefetch_issuers().await;
    assert!(bed.health.snapshot()["issuers"].ok);
    assert_eq!(bed.network.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn no_issuers_are_fetched_with_a_trust_anchor_file_or_without_chains() {
    let (anchored, _) = good_bed();
    anchored.open().prefetch_issuers().await;
    let (mut off, _, _) = amazon_bed();
    off.chain = ChainPolicy::Off;
    off.open().prefetch_issuers().await;
    for bed in [anchored, off] {
        assert_eq!(bed.network.calls(), 0);
        assert!(bed.health.snapshot().is_empty());
    }
}
