//! The admin listener over real sockets, with a queue that remembers what it was asked.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::clock::{ManualClock, UnixMillis};
use crate::config::{Basic, CallbackUrl, ObjectFilter};
use crate::queue::{
    Append, Appended, Claim, Filter, InstanceStats, Pending, QueueError, Row, Settlement, State as Stand, Stats, Want,
};
use crate::shutdown::{Conductor, channel};

#[derive(Default)]
struct Ledger(Mutex<Vec<(&'static str, Filter)>>);

impl Ledger {
    fn note(&self, what: &'static str, filter: Filter) {
        self.0.lock().expect("not poisoned").push((what, filter));
    }
}

impl Queue for Ledger {
    fn append(&self, _: Append) -> Pending<'_, Result<Appended, QueueError>> {
        Box::pin(async { Err(QueueError::Closed) })
    }

    fn claim<'a>(&'a self, _: &'a str, _: Want) -> Pending<'a, Vec<Claim>> {
        Box::pin(std::future::pending())
    }

    fn settle(&self, _: Settlement) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async { Err(QueueError::Closed) })
    }

    fn list(&self, filter: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>> {
        let limit = filter.limit;
        self.note("list", filter);
        Box::pin(async move { Ok([9, 8].into_iter().take(limit).map(row).collect()) })
    }

    fn replay(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>> {
        self.note("replay", filter);
        Box::pin(async { Ok(3) })
    }

    fn discard(&self, filter: Filter) -> Pending<'_, Result<u64, QueueError>> {
        self.note("discard", filter);
        Box::pin(async { Err(QueueError::DiskFull) })
    }

    fn stats(&self) -> Stats {
        let one = InstanceStats {
            name: "orders \"x\"".into(),
            owed: 4,
            owed_bytes: 400,
            oldest_owed: Some(UnixMillis(1_000)),
            dead: 2,
            dead_bytes: 50,
        };
        Stats { instances: vec![one], store_bytes: 4096, refusing: Some(QueueError::DiskFull), ..Stats::default() }
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

fn row(seq: u64) -> Row {
    Row {
        seq,
        state: Stand::Dead,
        instance: "orders".into(),
        event_id: "AAAAAAAAAAAAAAAAAAAA".into(),
        bucket: "b".into(),
        key: "k".into(),
        event_name: "ObjectCreated:Put".into(),
        origin: Some(crate::event::Origin::Mcs),
        accepted_at: UnixMillis(1),
        ended_at: None,
        next_at: None,
        attempts: 20,
        reason: Some("status 500".into()),
        log: Vec::new(),
    }
}

fn instance() -> Arc<Instance> {
    Arc::new(Instance {
        name: "orders \"x\"".into(),
        id: 7,
        account_id: 1,
        company_id: 2,
        user_id: 0,
        element_key: "amazons3".into(),
        mcs_element_key: "mcss3".into(),
        tags: vec!["blue".into()],
        enabled: true,
        topics: vec!["arn:aws:sns:eu-central-1:123456789012:t".into()],
        mcs_topics: Vec::new(),
        s3http: None,
        sqs: None,
        listing: None,
        callback: CallbackUrl::Http("https://user:hunter2@app.example/in?key=hunter2".parse().expect("a URL")),
        signature_keys: vec![Secret::new("hunter2")],
        headers: vec![(hyper::header::HeaderName::from_static("x-key"), "hunter2".parse().expect("a value"))],
        basic: Some(Basic { username: "relay".into(), password: Secret::new("hunter2") }),
        objects: ObjectFilter::default(),
        filter_nulls: None,
        validate: false,
        credentials: None,
        bucket: Some("b".into()),
        region: None,
        buckets: Vec::new(),
    })
}

struct Rig {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    health: Arc<Health>,
    conductor: Conductor,
    task: tokio::task::JoinHandle<()>,
}

async fn rig(token: Option<&str>) -> Rig {
    let (parts, listener, admin, shutdown) = parts(token).await;
    let Parts { address, ledger, health, conductor } = parts;
    let task = tokio::spawn(listener.serve(admin, shutdown));
    Rig { address, ledger, health, conductor, task }
}

struct Parts {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    health: Arc<Health>,
    conductor: Conductor,
}

async fn parts(token: Option<&str>) -> (Parts, Listener, Admin, Shutdown) {
    let listener = bind(SocketAddr::from((IpAddr::from([127, 0, 0, 1]), 0))).await.expect("a free port");
    let address = listener.address();
    let (ledger, health) = (Arc::new(Ledger::default()), Arc::new(Health::default()));
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let admin = Admin {
        queue: Arc::clone(&ledger) as Arc<dyn Queue>,
        health: Arc::clone(&health),
        registry: Arc::new(registry),
        metrics,
        instances: vec![instance()],
        token: token.map(Secret::new),
        clock: Arc::new(ManualClock::at(UnixMillis(61_000))),
    };
    let (conductor, shutdown) = channel();
    (Parts { address, ledger, health, conductor }, listener, admin, shutdown)
}

impl Rig {
    async fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let length = body.len();
        let request = format!("{line} HTTP/1.1\r\nHost: p\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let _ = timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await.expect("it ends in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, head.to_owned(), body.to_owned())
    }
}

const TOKEN: &str = "Authorization: Bearer t0ken\r\n";

#[tokio::test]
async fn health_is_open_and_readiness_names_each_condition() {
    let rig = rig(None).await;
    assert_eq!(rig.ask("GET /live", "", "").await.0, 200);
    rig.health.degraded("subscription", "not confirmed yet");
    let (status, _, body) = rig.ask("GET /ready", "", "").await;
    assert_eq!(status, 200);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["ready"], &body["conditions"]["subscription"]["ok"]), (&true.into(), &false.into()));
    rig.health.blocked("store", "the disk is full");
    let (status, _, body) = rig.ask("GET /ready", "", "").await;
    assert_eq!(status, 503);
    assert!(body.contains("the disk is full") && body.contains("\"ready\":false"), "{body}");
}

#[tokio::test]
async fn the_api_needs_the_token_and_says_so() {
    let closed = rig(None).await;
    let (status, _, body) = closed.ask("GET /deliveries", TOKEN, "").await;
    assert_eq!(status, 403);
    assert!(body.contains("POSTERN_ADMIN_TOKEN"));
    let rig = rig(Some("t0ken")).await;
    for path in
        ["GET /instances", "GET /deliveries", "GET /events", "POST /deliveries/replay", "POST /deliveries/discard"]
    {
        for wrong in
            ["", "Authorization: Bearer t0ke\r\n", "Authorization: Bearer\r\n", "Authorization: Basic t0ken\r\n"]
        {
            let (status, head, _) = rig.ask(path, wrong, "").await;
            assert_eq!(status, 401, "{path} {wrong}");
            assert!(head.contains("www-authenticate: Bearer"));
        }
    }
    assert_eq!(rig.ask("GET /deliveries", "authorization: bearer t0ken\r\n", "").await.0, 200);
    assert!(rig.ledger.0.lock().expect("not poisoned").iter().all(|(what, _)| *what == "list"));
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let rig = rig(Some("t0ken")).await;
    assert_eq!(rig.ask("GET /", TOKEN, "").await.0, 404);
    assert_eq!(rig.ask("POST /live", "", "").await.0, 405);
    let (status, head, _) = rig.ask("GET /deliveries/replay", TOKEN, "").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: POST"));
}

#[tokio::test]
async fn deliveries_come_in_pages() {
    let rig = rig(Some("t0ken")).await;
    let (status, _, body) = rig.ask("GET /deliveries?state=dead&limit=2&before=10", TOKEN, "").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, &body["next"], &body["deliveries"][0]["eventId"]),
        (200, &8.into(), &"AAAAAAAAAAAAAAAAAAAA".into())
    );
    assert!(rig.ask("GET /events", TOKEN, "").await.2.contains("\"next\":null"));
    assert_eq!(rig.ask("GET /deliveries?state=gone", TOKEN, "").await.0, 400);
}

#[tokio::test]
async fn replay_and_discard_take_a_filter_and_refuse_an_empty_one() {
    let rig = rig(Some("t0ken")).await;
    let (status, _, body) = rig.ask("POST /deliveries/replay", TOKEN, "{\"states\":[\"dead\"],\"key\":\"a/*\"}").await;
    assert_eq!((status, body.as_str()), (200, "{\"count\":3}"));
    assert_eq!(rig.ask("POST /deliveries/replay", TOKEN, "{}").await.0, 400);
    assert_eq!(rig.ask("POST /deliveries/replay", TOKEN, &"x".repeat(65 * 1024)).await.0, 413);
    let (status, _, body) = rig.ask("POST /deliveries/discard", TOKEN, "{\"all\":true}").await;
    assert_eq!(status, 503);
    assert!(body.contains("disk"), "{body}");
    let ledger = rig.ledger.0.lock().expect("not poisoned");
    assert_eq!(ledger.len(), 2);
    assert_eq!((ledger[0].0, ledger[0].1.key.as_deref()), ("replay", Some("a/*")));
}

#[tokio::test]
async fn instances_show_numbers_and_never_a_secret() {
    let rig = rig(Some("t0ken")).await;
    let (status, _, body) = rig.ask("GET /instances", TOKEN, "").await;
    assert_eq!(status, 200);
    assert!(!body.contains("hunter2"), "{body}");
    let list: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let configuration = &list[0]["configuration"];
    assert_eq!(configuration["event.notification.callback.url"], "https://app.example/in?******");
    assert_eq!(configuration["event.notification.signature.key"], "******");
    assert_eq!((&list[0]["deliveries"]["owed"], &list[0]["elementKey"]), (&4.into(), &"amazons3".into()));
}

#[tokio::test]
async fn a_scrape_is_openmetrics_with_the_queues_numbers() {
    let rig = rig(None).await;
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let (status, head, body) = rig.ask("GET /metrics", prometheus, "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(body.ends_with("# EOF\n"));
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        assert!(name.starts_with("postern_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for line in [
        "postern_queue_owed{instance=\"orders \\\"x\\\"\"} 4",
        "postern_queue_oldest_owed_seconds{instance=\"orders \\\"x\\\"\"} 60",
        "postern_store_bytes 4096",
        "postern_store_refusing 1",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} in {body}");
    }
}

#[tokio::test]
async fn a_scrape_of_those_who_do_not_ask_for_openmetrics_is_the_older_text() {
    let rig = rig(None).await;
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4\r\n"] {
        let (status, head, body) = rig.ask("GET /metrics", accept, "").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        for lines in [
            "# HELP postern_unsubscribed_total UnsubscribeConfirmations of allowed topics.\n# TYPE postern_unsubscribed_total counter\npostern_unsubscribed_total 0\n",
            "# TYPE postern_build_info gauge\npostern_build_info{version=",
            "# TYPE postern_intake_duration_seconds histogram\npostern_intake_duration_seconds_sum 0.0\n",
            "postern_queue_owed{instance=\"orders \\\"x\\\"\"} 4\n",
        ] {
            assert!(body.contains(lines), "{lines} in {body}");
        }
        assert!(!body.contains("# EOF") && !body.contains("# UNIT") && !body.contains(" info\n"), "{body}");
    }
}

#[tokio::test]
async fn it_answers_while_draining_and_ends_at_stopping_whatever_hangs_on_it() {
    let rig = rig(None).await;
    rig.conductor.enter(Phase::Draining);
    assert_eq!(rig.ask("GET /live", "", "").await.0, 200);
    let _silent = TcpStream::connect(rig.address).await.expect("a connection");
    rig.conductor.enter(Phase::Stopping);
    timeout(Duration::from_secs(60), rig.task).await.expect("it ends in time").expect("no panic");
}

/// Asks on a blocking socket, from outside of every runtime.
fn ask_blocking(address: SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: p\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    answer
}

#[test]
fn probes_and_scrapes_are_answered_while_every_thread_of_the_data_plane_is_blocked() {
    let data_plane = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (parts, listener, admin, shutdown) = data_plane.block_on(parts(None));
    let served = data_plane.spawn(listener.serve_apart(admin, shutdown));
    assert!(ask_blocking(parts.address, "/live").starts_with("HTTP/1.1 200"));

    let (blocked, is_blocked) = std::sync::mpsc::channel();
    let gate = Arc::new(std::sync::Barrier::new(3));
    for _ in 0..2 {
        let (blocked, gate) = (blocked.clone(), Arc::clone(&gate));
        data_plane.spawn(async move {
            blocked.send(()).expect("somebody waits");
            gate.wait();
        });
    }
    for _ in 0..2 {
        is_blocked.recv_timeout(Duration::from_secs(60)).expect("both threads are taken");
    }
    assert!(ask_blocking(parts.address, "/live").starts_with("HTTP/1.1 200"));
    assert!(ask_blocking(parts.address, "/metrics").contains("postern_queue_owed"));
    gate.wait();

    parts.conductor.enter(Phase::Stopping);
    let ended = data_plane.block_on(async { timeout(Duration::from_secs(60), served).await });
    ended.expect("it ends in time").expect("no panic");
}
