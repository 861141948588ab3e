//! Reconciliation beside push: what push missed is told, and nothing twice.

use std::sync::Arc;

use postern::simulator::dice::Dice;
use postern::simulator::sns::{self, Simulator, records};
use postern::simulator::wire::{Connection, Target};

use super::*;

const GRACE: &str = "3s";

struct Push {
    simulator: Simulator,
    connection: Connection,
    dice: Dice,
    order: u32,
}

impl Push {
    /// Announces what happened to an object at `time`, as S3 does.
    async fn announce(&mut self, event: &str, key: &str, e_tag: Option<&str>, time: UnixMillis) {
        self.order += 1;
        let change = records::Change { event, bucket: "photos", key, region: "us-east-1", time, order: self.order };
        let mut record = records::record(&change, &mut self.dice);
        if let Some(e_tag) = e_tag {
            record["s3"]["object"]["eTag"] = e_tag.into();
        }
        let envelope = self.simulator.s3_notification(&[record], &mut self.dice);
        let reply = self.connection.post(envelope.headers(), envelope.to_body().into()).await.expect("an answer");
        assert_eq!(reply.status.as_u16(), 200);
    }
}

/// The records that the app was given about `key`, as (event name, eTag), in order and each event once.
pub(super) fn heard(app: &Receiver, key: &str) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut heard = Vec::new();
    for received in app.received() {
        let body = received.json();
        let message = &body["message"];
        if message["events"][0]["objectId"] == key && seen.insert(message["eventId"].to_string()) {
            let record = &message["raw"]["Records"][0];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
            heard.push((text(&record["eventName"]), text(&record["s3"]["object"]["eTag"])));
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn what_push_missed_is_told_and_nothing_twice_also_when_push_is_late() {
    let (s3, app) = (S3::start().await, Receiver::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let simulator = Simulator::start(sns::Options::default()).await.expect("a simulator");
    let anchor = folder.path().join("anchor.pem");
    std::fs::write(&anchor, simulator.anchor_pem()).expect("written");
    let sidecar = listing_sidecar(folder.path(), &s3.endpoint(), &app)
        .with("POSTERN_SNS_ENDPOINT_URL", simulator.endpoint_url().as_str().trim_end_matches('/'))
        .with("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor)
        .with("EVENT_SNS_TOPIC_ARN", simulator.topic_arn())
        .with("POSTERN_RECONCILE", "1s")
        .with("POSTERN_RECONCILE_GRACE", GRACE);
    for key in ["old", "gone, pushed", "gone, missed", "twice"] {
        s3.put(key, "0", long_ago());
    }
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut running, 1.0).await;
    let target = Arc::new(Target::new(&sidecar.url("/sns"), None).expect("a target"));
    let mut push = Push { simulator, connection: Connection::new(target), dice: Dice::seeded(7), order: 0 };

    // No listing sees a part of this: on a slow machine push would then be later than the grace, and rightly told twice.
    let world = s3.hold().await;
    let at = now();
    for key in ["pushed", "missed", "late"] {
        s3.put(key, "1", at);
    }
    push.announce("ObjectCreated:Put", "pushed", Some("1"), at).await;
    // Overwritten twice: push tells the first, and nobody the second.
    s3.put("twice", "1", at);
    push.announce("ObjectCreated:Put", "twice", Some("1"), at).await;
    s3.put("twice", "2", now());
    for key in ["gone, pushed", "gone, missed"] {
        s3.delete(key);
    }
    push.announce("ObjectRemoved:Delete", "gone, pushed", None, at).await;
    drop(world);

    for (key, name) in [
        ("missed", "ObjectCreated:Listed"),
        ("late", "ObjectCreated:Listed"),
        ("twice", "ObjectCreated:Overwritten"),
        ("gone, missed", "ObjectRemoved:Unlisted"),
    ] {
        let told = || heard(&app, key).into_iter().any(|(heard, _)| heard == name);
        wait_until(&format!("{name} of {key} is told"), || async { told().then_some(()) }).await;
    }
    // What was late comes after all.
    push.announce("ObjectCreated:Put", "late", Some("1"), at).await;
    more_walks(&mut running, 5.0).await;

    let text = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, tag)| ((*name).to_owned(), (*tag).to_owned())).collect()
    };
    assert_eq!(heard(&app, "old"), []);
    assert_eq!(heard(&app, "pushed"), text(&[("ObjectCreated:Put", "1")]));
    assert_eq!(heard(&app, "missed"), text(&[("ObjectCreated:Listed", "1")]));
    assert_eq!(heard(&app, "late"), text(&[("ObjectCreated:Listed", "1")]));
    assert_eq!(heard(&app, "twice"), text(&[("ObjectCreated:Put", "1"), ("ObjectCreated:Overwritten", "2")]));
    assert_eq!(heard(&app, "gone, pushed"), text(&[("ObjectRemoved:Delete", "")]));
    assert_eq!(heard(&app, "gone, missed"), text(&[("ObjectRemoved:Unlisted", "")]));
    for received in app.received() {
        let event = &received.json()["message"]["events"][0];
        assert!(event["pollDate"].is_null(), "only polling has it: {event}");
        assert!(["CREATED", "DELETED"].contains(&event["eventType"].as_str().expect("a type")), "as push says it");
    }
}
