//! Order within an object, with sequencers and signatures as Amazon's. (Hard case 2.)

use std::process::{Command, Stdio};
use std::time::Duration;

use postern::clock::{Clock as _, SystemClock, UnixMillis};
use postern::simulator::dice::Dice;
use postern::simulator::receiver::{Listen, Receiver};
use postern::simulator::sns::records::{self, Change};
use serde_json::Value;

use super::stand::{PATIENCE, app_at, body, calls, rows, run, stderr, stdout};
use crate::attacks::bench::{Bench, Message, free_port};

/// A change of `key`; sequencers follow `order`.
fn change(event: &str, key: &str, order: u32, at: UnixMillis) -> Value {
    let change = Change { event, bucket: "postern-bucket", key, region: "us-west-2", time: at, order };
    records::record(&change, &mut Dice::new())
}

async fn send(bench: &Bench, record: Value) {
    let message = Message::notification(&records::message(&[record])).signed(bench);
    assert_eq!(bench.send(&message).await, 200, "{}", bench.log());
}

/// Keys and places in the order of what the app was handed, the kind of event where it has no sequencer.
fn handed(app: &Receiver) -> Vec<(String, String)> {
    let taken = calls(app).into_iter().filter(|call| call.status == Some(200));
    taken
        .map(|call| {
            let record = body(&call)["message"]["raw"]["Records"][0].clone();
            let object = &record["s3"]["object"];
            let place = object["sequencer"].as_str().map_or("none", |text| text.split_at(10).1);
            (object["key"].as_str().expect("a key").to_owned(), place.trim_start_matches('0').to_owned())
        })
        .collect()
}

fn places(app: &Receiver, key: &str) -> Vec<String> {
    handed(app).into_iter().filter(|(known, _)| known == key).map(|(_, place)| place).collect()
}

/// The operator's commands on the bench's store.
fn postern(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).arg("--data-dir").arg(bench.dir.path().join("data"));
    command.env_clear().env("POSTERN_ADMIN_LISTEN", bench.admin.to_string()).env("POSTERN_ADMIN_TOKEN", TOKEN);
    command.stdin(Stdio::null());
    command
}

const TOKEN: &str = "a-token-that-is-long-enough";

/// Hard case 2. While the app is away the changes of one object arrive as 3, 1, 2; when it comes back it sees 1, 2, 3. What arrives
/// after that and is older than 3 is kept and not sent, before and after a crash, until the operator wants it. A tie and an event
/// without a sequencer go by arrival, and other objects do not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_changes_in_the_order_of_its_sequencers_and_what_is_older_is_superseded() {
    let nobody = free_port();
    let callback = format!("http://{nobody}/events");
    let mut bench =
        Bench::with(&[("EVENT_NOTIFICATION_CALLBACK_URL", &callback), ("POSTERN_ADMIN_TOKEN", TOKEN)]).await;
    let now = SystemClock.now();
    for order in [3, 1, 2] {
        send(&bench, change("ObjectCreated:Put", "a", order, now)).await;
    }
    send(&bench, change("ObjectCreated:Put", "b", 1, now.minus(Duration::from_secs(3600)))).await;

    let app = app_at(Listen::Tcp(nobody)).await;
    let all = app.wait_until(PATIENCE, |ledger| ledger.taken >= 4).await;
    assert!(all, "{}", bench.log());
    assert_eq!(places(&app, "a"), ["1", "2", "3"], "{}", bench.log());
    assert_eq!(places(&app, "b"), ["1"]);

    // A tie with the last one, and an event whose kind has no sequencer: by arrival, never superseded.
    send(&bench, change("ObjectRemoved:Delete", "a", 3, now)).await;
    send(&bench, change("ObjectTagging:Put", "a", 0, now)).await;
    assert!(app.wait_until(PATIENCE, |ledger| ledger.taken >= 6).await, "{}", bench.log());
    assert_eq!(places(&app, "a"), ["1", "2", "3", "3", "none"]);

    // Older than 3, after 3 was delivered; and once more after a crash.
    send(&bench, change("ObjectCreated:Copy", "a", 2, now)).await;
    bench.crash_and_restart().await;
    send(&bench, change("ObjectCreated:Copy", "a", 1, now)).await;
    send(&bench, change("ObjectCreated:Put", "a", 4, now)).await;
    assert!(app.wait_until(PATIENCE, |ledger| ledger.taken >= 7).await, "{}", bench.log());
    assert_eq!(places(&app, "a").last().map(String::as_str), Some("4"), "{:?}", handed(&app));

    let superseded = rows(postern(&bench, &["events", "--json", "--state", "superseded"])).await;
    assert_eq!(superseded.len(), 2, "{superseded:#?}\n{}", bench.log());
    for row in &superseded {
        assert_eq!((&row["key"], &row["state"]), (&"a".into(), &"superseded".into()));
        assert!(row["reason"].is_string(), "{row}");
    }

    // The operator wants one of them all the same.
    let id = superseded[0]["eventId"].as_str().expect("an id");
    let replayed = run(postern(&bench, &["replay", "--id", id])).await;
    assert_eq!(stdout(&replayed), "1 owed again\n", "{}", stderr(&replayed));
    let known = app.wait_until(PATIENCE, |ledger| ledger.events.contains_key(id)).await;
    assert!(known, "{}", bench.log());
}
