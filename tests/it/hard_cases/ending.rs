//! How it ends when it is told to. (Hard case 18.)

use std::time::{Duration, Instant};

use postern::simulator::receiver::{Behaviour, Listen};
use serde_json::Value;
use tokio::net::TcpStream;

use super::stand::{PATIENCE, Stand, app_at, attempts, created, get};
use crate::attacks::bench::free_port;

/// How long an app may take that is cut off.
const FOREVER: Duration = Duration::from_secs(600);

/// Of the five seconds of leaving; after it the door may close at any moment.
const MOST_OF_LEAVING: Duration = Duration::from_secs(4);

/// How often a test of those five seconds is tried, on a machine that may sleep for most of them.
const TRIES: usize = 10;

/// Hard case 18. Endpoints take time to leave: it is not ready at once, still takes what is sent to it, then no more, and delivers what
/// it owes before it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_terminate_it_leaves_first_still_accepts_then_closes_and_delivers_what_it_owes() {
    for _ in 0..TRIES {
        if leaves_and_drains().await.is_some() {
            return;
        }
    }
    panic!("of {TRIES} times the door was shut each time before there was time to knock");
}

/// Leaving lasts five seconds; `None` when this machine slept for so many of them that nothing can be said.
async fn leaves_and_drains() -> Option<()> {
    let mut stand = Stand::start(&[]).await;
    stand.app.script([Behaviour::Status(500)]);
    stand.create(&["before"]).await;
    stand.asked(1).await;
    let told_at = Instant::now();
    let in_time = || (told_at.elapsed() < MOST_OF_LEAVING).then_some(());
    stand.signal("TERM");
    not_ready(&stand).await;
    in_time()?;
    assert_eq!(get(stand.admin, "/live").await.map(|reply| reply.status), Some(200));
    let after = stand.notify(&[created("after")]).await;
    in_time()?;
    assert_eq!(after, 200, "{}", stand.log());
    // What came last is owed still when the door closes.
    stand.app.always(Behaviour::Slow(Duration::from_millis(1500)));
    let mut last = 0;
    let closed = async {
        loop {
            let envelope = stand.envelope(&[created(&format!("late {last}"))]);
            if TcpStream::connect(stand.intake).await.is_err() {
                return;
            }
            // Between the look and the answer the door may close.
            match quiet_post(&stand, &envelope).await {
                Some(200) => last += 1,
                Some(503) | None => {}
                other => panic!("{other:?}\n{}", stand.log()),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the intake closes");
    // Each of them was accepted while it left; one is needed for what follows.
    (last > 0).then_some(())?;
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    assert!(stand.log().contains("nothing is owed"), "before the deadline: {}", stand.log());
    let late: Vec<String> = (0..last).map(|n| format!("late {n}")).collect();
    let keys: Vec<&str> = ["before", "after"].into_iter().chain(late.iter().map(String::as_str)).collect();
    stand.delivered(&keys).await;
    assert_eq!(stand.rows(&["--state", "owed"]).await, Vec::<Value>::new());
    Some(())
}

/// Waits until a signal has been heard.
async fn not_ready(stand: &Stand) {
    let status = async |stand: &Stand| get(stand.admin, "/ready").await.map(|reply| reply.status);
    stand.eventually("not ready", async |stand| matches!(status(stand).await, Some(503) | None)).await;
}

async fn quiet_post(stand: &Stand, envelope: &postern::simulator::sns::envelope::Envelope) -> Option<u16> {
    let url = format!("http://{}/sns", stand.intake).parse().expect("a URL");
    let target = postern::simulator::wire::Target::new(&url, None).expect("a target");
    let mut connection = postern::simulator::wire::Connection::new(std::sync::Arc::new(target)).with_timeout(PATIENCE);
    let sent = connection.post(envelope.headers(), envelope.to_body().into()).await;
    sent.ok().map(|reply| reply.status.as_u16())
}

/// Hard case 18. A native sidecar is told after its app has gone: there is nobody to wait for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_early_when_the_app_has_gone_and_delivers_at_the_next_start() {
    let nobody = free_port();
    let callback = format!("http://{nobody}/events");
    let mut stand =
        Stand::start(&[("EVENT_NOTIFICATION_CALLBACK_URL", &callback), ("POSTERN_DRAIN_TIMEOUT", "5m")]).await;
    stand.create(&["a"]).await;
    stand.signal("INT");
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    assert!(stand.log().contains("the app is gone"), "{}", stand.log());
    let owed = stand.rows(&["--state", "owed"]).await;
    assert_eq!((owed.len(), &owed[0]["attempts"]), (1, &0.into()), "{owed:#?}");
    let app = app_at(Listen::Tcp(nobody)).await;
    stand.begin().await;
    stand.delivered_to(&app, &["a"]).await;
}

/// Hard case 18. A person at a terminal routes nobody here: no five seconds of leaving, but what is in flight is waited for. It once
/// was not: without the wait of leaving, the first look at what is owed was the one taken at start, when nothing was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_drains_without_leaving_first() {
    let mut stand = Stand::start(&[]).await;
    stand.app.script([Behaviour::Slow(Duration::from_millis(700))]);
    stand.create(&["a"]).await;
    stand.signal("INT");
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    assert!(!stand.log().contains("still accepting"), "{}", stand.log());
    assert!(stand.log().contains("nothing is owed"), "{}", stand.log());
    assert!(stand.app.ledger(|ledger| ledger.objects.contains_key("a")));
    assert_eq!(stand.rows(&["--state", "delivered"]).await.len(), 1);
}

/// Hard case 18. An attempt that is cut off is no attempt: with one to spare the event is still owed, and goes at the next start.
async fn cut_off(extra: &[(&str, &str)], signals: &[&str], why: &str) {
    let mut settings = vec![("POSTERN_RETRY_MAX_ATTEMPTS", "1"), ("POSTERN_ATTEMPT_TIMEOUT", "10m")];
    settings.extend(extra);
    let mut stand = Stand::start(&settings).await;
    stand.app.script([Behaviour::Slow(FOREVER)]);
    stand.create(&["a"]).await;
    // In flight: the app enters a slow request only when it is over, so the sidecar is asked.
    let claimed = async {
        while !get(stand.admin, "/metrics").await.is_some_and(|reply| {
            reply.body.lines().any(|line| line.starts_with("postern_queue_owed{") && line.ends_with(" 1"))
        }) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::time::timeout(PATIENCE, claimed).await.expect("it is owed");
    for (n, signal) in signals.iter().enumerate() {
        if n > 0 {
            // The first has been heard: of two that a busy process has still to hear, the system keeps one.
            not_ready(&stand).await;
        }
        stand.signal(signal);
    }
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    assert!(stand.log().contains(why), "{}", stand.log());
    let owed = stand.rows(&["--state", "owed"]).await;
    assert_eq!(owed.len(), 1, "{}", stand.log());
    assert_eq!((&owed[0]["attempts"], attempts(&owed[0])), (&0.into(), Vec::<String>::new()), "{owed:#?}");
    stand.begin().await;
    stand.delivered(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_an_attempt_cut_off_is_not_counted() {
    cut_off(&[("POSTERN_DRAIN_TIMEOUT", "10m")], &["TERM", "TERM"], "the store is closed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_ends_a_drain_at_once() {
    cut_off(&[("POSTERN_DRAIN_TIMEOUT", "10m")], &["INT", "INT"], "told again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_a_drain_and_an_attempt_cut_off_is_not_counted() {
    cut_off(&[("POSTERN_DRAIN_TIMEOUT", "1s")], &["INT"], "the deadline (POSTERN_DRAIN_TIMEOUT)").await;
}
