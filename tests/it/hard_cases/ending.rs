//! How it ends when it is told to. (Hard case 18.)

use std::time::Duration;

use postern::simulator::receiver::{Behaviour, Listen};
use serde_json::Value;
use tokio::net::TcpStream;

use super::stand::{PATIENCE, Stand, app_at, attempts, created, get};
use crate::attacks::bench::free_port;

/// How long an app may take that is cut off.
const FOREVER: Duration = Duration::from_secs(600);

/// Hard case 18. Endpoints take time to leave: it is not ready at once, still takes what is sent to it, then no more, and delivers what
/// it owes before it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_terminate_it_leaves_first_still_accepts_then_closes_and_delivers_what_it_owes() {
    let mut stand = Stand::start(&[]).await;
    stand.app.script([Behaviour::Status(500)]);
    stand.create(&["before"]).await;
    stand.asked(1).await;
    stand.signal("TERM");
    let ready = get(stand.admin, "/ready").await;
    let mut status = ready.map_or(0, |reply| reply.status);
    for _ in 0..50 {
        if status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = get(stand.admin, "/ready").await.map_or(0, |reply| reply.status);
    }
    assert_eq!(status, 503, "{}", stand.log());
    assert_eq!(get(stand.admin, "/live").await.map(|reply| reply.status), Some(200));
    stand.create(&["after"]).await;
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
            let sent = tokio::time::timeout(Duration::from_secs(5), quiet_post(&stand, &envelope)).await;
            match sent {
                Ok(Some(200)) => last += 1,
                Ok(Some(503) | None) => {}
                other => panic!("{other:?}\n{}", stand.log()),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the intake closes");
    assert!(last > 0, "it accepts while it leaves");
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    assert!(stand.log().contains("nothing is owed"), "before the deadline: {}", stand.log());
    let late: Vec<String> = (0..last).map(|n| format!("late {n}")).collect();
    let keys: Vec<&str> = ["before", "after"].into_iter().chain(late.iter().map(String::as_str)).collect();
    stand.delivered(&keys).await;
    assert_eq!(stand.rows(&["--state", "owed"]).await, Vec::<Value>::new());
}

async fn quiet_post(stand: &Stand, envelope: &postern::simulator::sns::envelope::Envelope) -> Option<u16> {
    let url = format!("http://{}/sns", stand.intake).parse().expect("a URL");
    let target = postern::simulator::wire::Target::new(&url, None).expect("a target");
    let mut connection = postern::simulator::wire::Connection::new(std::sync::Arc::new(target));
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
            tokio::time::sleep(Duration::from_millis(300)).await;
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
