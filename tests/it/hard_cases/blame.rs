//! Whose fault a failed attempt is, and what follows. (Hard case 3.)

use std::time::Duration;

use postern::clock::{Clock as _, SystemClock};
use postern::simulator::receiver::{Behaviour, Listen};

use super::scripted::{Scripted, status};
use super::stand::{PATIENCE, Stand, app_at, attempts, calls, get, header};
use crate::attacks::bench::free_port;

/// Hard case 3. One attempt would be the last, but nobody listens: that is nobody's attempt, and the events go when the app is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_app_is_away_nothing_counts_and_everything_goes_when_it_is_back() {
    let nobody = free_port();
    let callback = format!("http://{nobody}/events");
    let stand = Stand::start(&[
        ("EVENT_NOTIFICATION_CALLBACK_URL", &callback),
        ("POSTERN_RETRY_MAX_ATTEMPTS", "1"),
        ("POSTERN_RETRY_MAX_AGE", "1s"),
    ])
    .await;
    stand.create(&["a", "b"]).await;
    // Until both were probed: the probe is another lane each time.
    let probed = async {
        loop {
            let rows = stand.rows(&["--state", "owed"]).await;
            assert_eq!(rows.len(), 2, "{rows:#?}");
            if rows.iter().all(|row| !attempts(row).is_empty()) && rows.iter().any(|row| attempts(row).len() > 1) {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let rows = tokio::time::timeout(PATIENCE, probed).await.expect("probes of both");
    for row in &rows {
        assert_eq!(row["attempts"], 0, "{row}");
        assert!(attempts(row).iter().all(|word| word == "connect_refused"), "{row}");
        assert!(row["log"].as_array().expect("a log").iter().all(|attempt| attempt["counted"] == false), "{row}");
    }
    let metrics = get(stand.admin, "/metrics").await.expect("metrics").body;
    assert!(metrics.contains("postern_callback_paused{instance=\"postern-demo\"} 1"), "{metrics}");
    let ready = get(stand.admin, "/ready").await.expect("an answer");
    assert_eq!(ready.status, 200, "an app that is away is no reason to lose notifications: {}", ready.body);

    let app = app_at(Listen::Tcp(nobody)).await;
    stand.delivered_to(&app, &["a", "b"]).await;
    assert_eq!(stand.wait_rows(&["--state", "delivered"], 2).await.len(), 2);
    assert!(app.ledger(|ledger| ledger.is_clean()));
}

/// Hard case 3. Two events that the app can never stomach: each is dead after its attempts, with every one of them on record, and
/// neither the other objects nor its own object's later changes wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_event_is_dead_after_its_attempts_and_stops_nobody() {
    let stand = Stand::start(&[("POSTERN_RETRY_MAX_ATTEMPTS", "2")]).await;
    stand.app.fail_key("broken", 500);
    stand.app.fail_key("refused", 400);
    stand.create(&["broken", "refused", "good"]).await;
    stand.delivered(&["good"]).await;
    let dead = stand.wait_rows(&["--state", "dead"], 2).await;
    for row in &dead {
        let expected = if row["key"] == "broken" { "500" } else { "400" };
        assert_eq!(attempts(row), [expected, expected], "{row}");
        assert_eq!(row["attempts"], 2, "{row}");
        assert!(row["reason"].as_str().is_some_and(|reason| reason.contains(expected)), "{row}");
    }
    // The lane goes on behind it.
    stand.app.fail_key("broken", 200);
    stand.create(&["broken"]).await;
    stand.delivered(&["broken"]).await;
}

/// Hard case 3. Under `POSTERN_RETRY_MAX_ATTEMPTS` = 20 a refusal is believed after 8 attempts. The delays between 8 attempts are
/// minutes, so this asks only that the first refusal is not the last; the number is tested where the decision is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refusal_is_not_yet_the_end() {
    let stand = Stand::start(&[]).await;
    stand.app.script([Behaviour::Status(400), Behaviour::Status(404)]);
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    let delivered = stand.wait_rows(&["--state", "delivered"], 1).await;
    assert_eq!(delivered[0]["attempts"], 2, "{delivered:#?}");
}

/// Hard case 3. 503 is the word of a whole app, and so it pauses the callback; but one object that always gets it neither keeps the
/// others from being delivered nor lives for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_always_gets_503_does_not_stop_the_others() {
    let stand = Stand::start(&[("POSTERN_RETRY_MAX_ATTEMPTS", "2")]).await;
    stand.app.fail_key("poison", 503);
    stand.create(&["poison", "a", "b", "c"]).await;
    stand.delivered(&["a", "b", "c"]).await;
    // Whatever is paused, each probe is another lane: later events go as well.
    stand.create(&["d"]).await;
    stand.delivered(&["d"]).await;
    // Alone with an open callback it comes to its end: 503 while the callback is open counts.
    let begun = tokio::time::Instant::now();
    for n in 0.. {
        let dead = stand.rows(&["--state", "dead"]).await;
        if let Some(row) = dead.first() {
            assert_eq!((row["key"].as_str(), row["attempts"].as_u64()), (Some("poison"), Some(2)), "{row}");
            assert!(attempts(row).iter().all(|word| word == "503"), "{row}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", stand.log());
        stand.create(&[&format!("good {n}")]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Hard case 3. Seconds, of an event's own failure and of a whole app's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_in_seconds_is_honoured() {
    let stand = Stand::start(&[]).await;
    stand.app.script([Behaviour::StatusRetryAfter(500, 2), Behaviour::StatusRetryAfter(503, 2)]);
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    let calls = calls(&stand.app);
    let seconds: Vec<i64> =
        calls.iter().map(|call| header(call, "webhook-timestamp").parse().expect("seconds")).collect();
    assert_eq!(seconds.len(), 3);
    assert!(seconds[1] - seconds[0] >= 2 && seconds[2] - seconds[1] >= 2, "{seconds:?}");
}

/// Hard case 3. A date, which a proxy in front of the app might send; 429 is the word of a whole app too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_as_a_date_is_honoured() {
    let app = Scripted::start(|number| match number {
        0 => {
            let then = time::OffsetDateTime::now_utc() + time::Duration::seconds(3);
            let format = time::macros::format_description!(
                "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
            );
            let date = then.format(format).expect("a date");
            status("429 Too Many Requests", &format!("retry-after: {date}\r\n"))
        }
        _ => status("200 OK", ""),
    })
    .await;
    let callback = format!("http://{}/events", app.address);
    let stand = Stand::start(&[("EVENT_NOTIFICATION_CALLBACK_URL", &callback)]).await;
    stand.create(&["a"]).await;
    stand.wait_rows(&["--state", "delivered"], 1).await;
    let asked = app.asked();
    assert_eq!(asked.len(), 2);
    // The date has whole seconds: of three, at least two are left.
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(2), "{asked:?}");
}

/// Hard cases 3 and 22. A redirect is an answer and no success: what is signed for one address is not sent to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let elsewhere = Scripted::start(|_| status("200 OK", "")).await;
    let stand = Stand::start(&[("POSTERN_RETRY_MAX_ATTEMPTS", "1")]).await;
    stand.app.always(Behaviour::Redirect(format!("http://{}/", elsewhere.address)));
    stand.create(&["a"]).await;
    let dead = stand.wait_rows(&["--state", "dead"], 1).await;
    assert_eq!(attempts(&dead[0]), ["302"]);
    let detail = dead[0]["log"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("redirects are not followed"), "{detail}");
    assert!(elsewhere.asked().is_empty());
}

/// Hard case 3. An app that answers 200 and then drips a body for ever has taken the event; it holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_ends_blocks_nobody() {
    let stand = Stand::start(&[("POSTERN_CONCURRENCY", "1")]).await;
    stand.app.always(Behaviour::Drip);
    stand.create(&["a", "b"]).await;
    let delivered = stand.wait_rows(&["--state", "delivered"], 2).await;
    assert!(delivered.iter().all(|row| row["attempts"] == 0), "{delivered:#?}");
}

/// Hard case 3. A broken connection, and an answer that comes too late, are attempts; all of them are on record with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_and_a_slow_answer_are_attempts_that_are_kept_on_record() {
    // So long that no slow machine makes a timeout of the other two, as it once did.
    let stand = Stand::start(&[("POSTERN_ATTEMPT_TIMEOUT", "8s"), ("POSTERN_RETRY_MAX_ATTEMPTS", "3")]).await;
    stand.app.script([Behaviour::Reset, Behaviour::Slow(Duration::from_secs(600)), Behaviour::Status(418)]);
    stand.create(&["a"]).await;
    let dead = stand.wait_rows(&["--state", "dead"], 1).await;
    assert_eq!(attempts(&dead[0]), ["reset", "timeout", "418"], "{:#?}", dead[0]);
    let log = dead[0]["log"].as_array().expect("a log");
    assert!(log.iter().all(|attempt| attempt["counted"] == true), "{log:#?}");
    let before = SystemClock.now().0;
    let times: Vec<i64> = log.iter().filter_map(|attempt| attempt["at"].as_i64()).collect();
    assert!(times.len() == 3 && times.is_sorted() && times[2] <= before, "{log:#?}");
}
