//! The dispatcher over real sockets, with a queue in memory.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::testing::{self, MemoryQueue, carries};
use super::worker::{Dispatcher, Progress};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{DispatchConfig, Instance};
use crate::egress::receiver::{Act, Receiver};
use crate::egress::{Client, Options};
use crate::health::Health;
use crate::queue::{Queue as _, State};
use crate::shutdown::{self, Conductor, Phase};
use crate::telemetry::metrics::Metrics;

struct Running {
    queue: Arc<MemoryQueue>,
    health: Arc<Health>,
    conductor: Conductor,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: &DispatchConfig, instances: Vec<Instance>, queue: Arc<MemoryQueue>) -> Self {
        let health = Arc::new(Health::default());
        let client = Client::new(Options { idle_per_host: 8, ..Options::default() }).expect("usable options");
        let metrics = Metrics::register(&mut Registry::default());
        let instances: Vec<_> = instances.into_iter().map(Arc::new).collect();
        let dispatcher =
            Dispatcher::new(config, &instances, queue.clone(), client, Arc::new(SystemClock), metrics, health.clone());
        let (conductor, shutdown) = shutdown::channel();
        let progress = dispatcher.progress();
        let task = tokio::spawn(dispatcher.run(shutdown));
        Self { queue, health, conductor, progress, task }
    }

    fn one(config: &DispatchConfig, at: SocketAddr, keys: &[&str]) -> Self {
        let queue = Arc::new(MemoryQueue::default());
        for key in keys {
            queue.owe("a", key);
        }
        Self::start(config, vec![testing::instance("a", &format!("http://{at}/"))], queue)
    }

    fn is_paused(&self) -> bool {
        self.health.snapshot().get("callback a").is_some_and(|condition| !condition.ok)
    }

    async fn stop(self) -> Arc<MemoryQueue> {
        self.conductor.enter(Phase::Stopping);
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("it stops").expect("it does not panic");
        self.queue
    }
}

#[tokio::test]
async fn a_lane_goes_in_order_and_does_not_wait_for_another() {
    let (receiver, at) =
        Receiver::start(|seen| if carries(&seen.body, "stuck") { Act::Hang } else { Act::status("200 OK") }).await;
    let running = Running::one(&testing::config(), at, &["stuck", "b", "b", "stuck", "c", "b"]);
    running.queue.until(|queue| queue.count(State::Delivered) == 4).await;
    let ids = |key: &str| -> Vec<String> {
        let seen = receiver.seen().into_iter().filter(|seen| carries(&seen.body, key));
        seen.map(|seen| seen.head.lines().find(|l| l.starts_with("webhook-id")).expect("an id").to_owned()).collect()
    };
    let expected: Vec<String> =
        [2, 3, 6].iter().map(|seq| format!("webhook-id: {}", testing::event("b", *seq).id)).collect();
    assert_eq!(ids("b"), expected);
    assert_eq!(ids("stuck").len(), 1, "the second of a lane waits for the first");
    running.stop().await;
}

#[tokio::test]
async fn an_attempt_cut_off_by_the_end_is_handed_back_and_does_not_count() {
    let (receiver, at) = Receiver::start(|_| Act::Hang).await;
    let running = Running::one(&testing::config(), at, &["a", "b"]);
    running.queue.until(|_| receiver.seen().len() == 2).await;
    let queue = running.stop().await;
    assert_eq!(queue.settlements(), ["Release", "Release"]);
    assert_eq!((queue.count(State::Owed), queue.of_key("a").attempts), (2, 0));
}

#[tokio::test]
async fn a_redirect_is_a_failure_that_says_what_to_do() {
    let (receiver, at) =
        Receiver::start(|_| Act::with("302 Found", "Location: http://127.0.0.1/\x09new\r\n", "")).await;
    let config = DispatchConfig { max_attempts: 1, ..testing::config() };
    let running = Running::one(&config, at, &["a"]);
    running.queue.until(|queue| queue.count(State::Dead) == 1).await;
    let dead = running.queue.of_key("a");
    assert_eq!(dead.reason, "failed in 1 attempts, the last with status 302");
    assert_eq!(dead.log[0].outcome, "redirect");
    assert!(dead.log[0].detail.contains("not followed") && dead.log[0].detail.contains("127.0.0.1/ new"));
    assert_eq!(receiver.seen().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_good_status_delivers_though_its_body_drips_for_ever() {
    let (_receiver, at) =
        Receiver::start(|_| Act::Drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into())).await;
    let running = Running::one(&testing::config(), at, &["a"]);
    running.queue.until(|queue| queue.count(State::Delivered) == 1).await;
    assert_eq!(running.queue.of_key("a").log.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_event_that_always_answers_503_ends_dead_and_stops_no_other() {
    let (receiver, at) = Receiver::start(|seen| {
        if carries(&seen.body, "poison") { Act::status("503 Service Unavailable") } else { Act::status("200 OK") }
    })
    .await;
    let config = DispatchConfig { max_attempts: 2, ..testing::config() };
    let running = Running::one(&config, at, &["poison", "b", "c", "d"]);
    let mut more = 0;
    while running.queue.count(State::Dead) == 0 {
        assert!(more < 600, "it never ends: {:?}", running.queue.of_key("poison"));
        // New events keep coming; each shows that the callback is well.
        more += 1;
        running.queue.owe("a", &format!("more {more}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.queue.until(|queue| queue.count(State::Owed) == 0).await;
    let poison = running.queue.of_key("poison");
    assert_eq!((poison.attempts, poison.reason.as_str()), (2, "failed in 2 attempts, the last with status 503"));
    // The last 503 pauses the callback, and the others may all have been delivered before it: one more shows that it is well.
    running.queue.owe("a", "the last");
    running.queue.until(|queue| queue.count(State::Owed) == 0).await;
    assert_eq!(running.queue.count(State::Delivered), 3 + more + 1);
    assert!(!running.is_paused());
    drop(receiver);
    running.stop().await;
}

#[tokio::test]
async fn while_nobody_listens_nothing_counts_and_all_is_delivered_afterwards() {
    let at = crate::simulator::ports::unused().expect("a port");
    let config = DispatchConfig { max_attempts: 1, max_age: Duration::from_millis(1), ..testing::config() };
    let mut running = Running::one(&config, at, &["a", "b", "c"]);
    running.conductor.enter(Phase::Draining);
    running.progress.wait_for(Progress::is_over).await.expect("it is noticed that the app has gone");
    assert!(running.is_paused());
    assert_eq!((running.queue.count(State::Owed), running.queue.of_key("a").attempts), (3, 0));

    let listener = TcpListener::bind(at).await.expect("the same port");
    let receiver = Receiver::new(|_| Act::status("200 OK"));
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(receiver.clone().serve(io));
        }
    });
    running.queue.until(|queue| queue.count(State::Delivered) == 3).await;
    running.progress.wait_for(|progress| progress.owed == 0 && progress.is_over()).await.expect("nothing is owed");
    assert!(!running.is_paused());
    assert!(running.queue.paused("a") > Duration::from_millis(400), "{:?}", running.queue.paused("a"));
    running.stop().await;
}

/// How long a callback is left alone that answers 503 with `retry_after` once.
async fn left_alone(retry_after: String) -> Duration {
    let (receiver, at) = Receiver::start(move |seen| match seen.request {
        0 => Act::with("503 Service Unavailable", &format!("Retry-After: {retry_after}\r\n"), "full"),
        _ => Act::status("200 OK"),
    })
    .await;
    let began = std::time::Instant::now();
    let running = Running::one(&testing::config(), at, &["a"]);
    running.queue.until(|queue| queue.count(State::Delivered) == 1).await;
    assert_eq!(receiver.seen().len(), 2);
    assert_eq!(running.queue.of_key("a").log[0].detail, "full");
    running.stop().await;
    began.elapsed()
}

#[tokio::test]
async fn retry_after_in_seconds_keeps_a_callback_paused_for_that_long() {
    assert!(left_alone("2".into()).await >= Duration::from_secs(2));
}

#[tokio::test]
async fn retry_after_as_a_date_keeps_a_callback_paused_until_then() {
    let until = SystemClock.now().plus(Duration::from_secs(3)).to_utc();
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    // The date has whole seconds, so up to one of the three is lost.
    assert!(left_alone(until.format(&form).expect("a date")).await >= Duration::from_millis(1900));
}

#[tokio::test]
async fn five_lanes_in_a_row_pause_the_callback_and_one_success_opens_it() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let (_receiver, at) = Receiver::start(move |_| {
        Act::status(if is_well.load(Ordering::SeqCst) { "200 OK" } else { "500 Internal Server Error" })
    })
    .await;
    let running = Running::one(&testing::config(), at, &["a", "b", "c", "d", "e"]);
    running.queue.until(|_| running.is_paused()).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let attempts: u32 = ["a", "b", "c", "d", "e"].iter().map(|key| running.queue.of_key(key).attempts).sum();
    assert!(attempts <= 10, "probes do not count: {attempts}");
    well.store(true, Ordering::SeqCst);
    running.queue.until(|queue| queue.count(State::Delivered) == 5).await;
    assert!(!running.is_paused());
    running.stop().await;
}

#[tokio::test]
async fn a_refused_batch_is_split_and_only_the_bad_event_fails() {
    let (receiver, at) = Receiver::start(|seen| {
        if carries(&seen.body, "bad") { Act::with("422 Unprocessable", "", "no") } else { Act::status("200 OK") }
    })
    .await;
    let config = DispatchConfig { max_events_per_callback: 20, max_attempts: 1, ..testing::config() };
    let running = Running::one(&config, at, &["a", "bad", "c"]);
    running.queue.until(|queue| queue.count(State::Owed) == 0).await;
    let first = receiver.seen()[0].body.clone();
    assert!(["a", "bad", "c"].iter().all(|key| carries(&first, key)), "{first}");
    assert_eq!(running.queue.settlements()[0], "Split");
    assert_eq!((running.queue.count(State::Delivered), running.queue.count(State::Dead)), (2, 1));
    assert_eq!(running.queue.of_key("bad").reason, "refused in 1 attempts, the last with status 422");
    assert_eq!(running.queue.of_key("bad").log[0].detail, "no");
    running.stop().await;
}

#[tokio::test]
async fn an_outcome_waits_for_a_store_that_refuses_and_the_app_is_not_asked_twice() {
    let (receiver, at) = Receiver::start(|_| Act::status("200 OK")).await;
    let queue = Arc::new(MemoryQueue::default());
    queue.fail_settlements(3);
    queue.owe("a", "key");
    let instances = vec![testing::instance("a", &format!("http://{at}/"))];
    let running = Running::start(&testing::config(), instances, queue);
    running.queue.until(|queue| queue.count(State::Delivered) == 1).await;
    assert_eq!(receiver.seen().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn of_two_instances_none_takes_more_than_half() {
    let stuck = Arc::new(AtomicUsize::new(0));
    let counting = stuck.clone();
    let (_hanging, hanging) = Receiver::start(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        Act::Hang
    })
    .await;
    let (_fine, fine) = Receiver::start(|_| Act::status("200 OK")).await;
    let queue = Arc::new(MemoryQueue::default());
    for number in 0..20 {
        queue.owe("a", &format!("a{number}"));
        queue.owe("b", &format!("b{number}"));
    }
    let mut off = testing::instance("b", &format!("http://{fine}/"));
    // What it owes is delivered though it accepts nothing any more.
    off.enabled = false;
    let instances = vec![testing::instance("a", &format!("http://{hanging}/")), off];
    let running = Running::start(&DispatchConfig { concurrency: 8, ..testing::config() }, instances, queue);
    running.queue.until(|queue| queue.count(State::Delivered) == 20).await;
    assert_eq!(stuck.load(Ordering::SeqCst), 4);
    running.stop().await;
}

#[tokio::test]
async fn retries_leave_the_last_quarter_to_first_attempts() {
    let tried = Arc::new(std::sync::Mutex::new(HashSet::new()));
    let hanging = Arc::new(AtomicUsize::new(0));
    let counting = hanging.clone();
    let (_receiver, at) = Receiver::start(move |seen| {
        if carries(&seen.body, "new") {
            Act::status("200 OK")
        } else if tried.lock().expect("no panic before").insert(seen.body.clone()) {
            Act::status("500 Internal Server Error")
        } else {
            counting.fetch_add(1, Ordering::SeqCst);
            Act::Hang
        }
    })
    .await;
    // Four lanes do not pause the callback; three retries are three quarters of the concurrency.
    let running = Running::one(&DispatchConfig { concurrency: 4, ..testing::config() }, at, &["a", "b", "c", "d"]);
    running.queue.until(|_| hanging.load(Ordering::SeqCst) == 3).await;
    // By now the fourth is due as well: its first delay is a second at most.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    running.queue.owe("a", "new");
    running.queue.until(|queue| queue.count(State::Delivered) == 1).await;
    assert_eq!(hanging.load(Ordering::SeqCst), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_settles_nothing_stops_attempts_before_they_pile_up() {
    let (receiver, at) = Receiver::start(|_| Act::status("200 OK")).await;
    let queue = Arc::new(MemoryQueue::default());
    queue.fail_settlements(u32::MAX);
    for number in 0..400 {
        queue.owe("a", &format!("key {number}"));
    }
    let instances = vec![testing::instance("a", &format!("http://{at}/"))];
    let running = Running::start(&testing::config(), instances, queue);
    // 256 outcomes wait for the store, and 8 attempts for a place among them.
    running.queue.until(|_| receiver.seen().len() >= 264).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.seen().len(), 264);
    running.queue.fail_settlements(0);
    running.queue.until(|queue| queue.count(State::Delivered) == 400).await;
    assert_eq!(receiver.seen().len(), 400);
    running.stop().await;
}
