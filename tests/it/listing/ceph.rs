//! Ceph RGW: its listings, and reconciliation beside its pushes, whose topic forgets what it cannot deliver.

use std::collections::BTreeMap;

use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;
use crate::support::ceph::Ceph;
use crate::support::tool;

const SECRET: &str = "hush-hush-hush-hush-hush";

/// What stays as it is in a path that is signed.
const SIGNED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Event names of each key in the order of their arrival, each event once.
type Ledger = BTreeMap<String, Vec<String>>;

fn ledger(app: &Receiver) -> Ledger {
    let mut seen = BTreeSet::new();
    let mut ledger = Ledger::new();
    for received in app.received() {
        let message = &received.json()["message"];
        if seen.insert(message["eventId"].to_string()) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
            let name = text(&message["raw"]["Records"][0]["eventName"]).trim_start_matches("s3:").to_owned();
            ledger.entry(text(&message["events"][0]["objectId"])).or_default().push(name);
        }
    }
    ledger
}

async fn hears(app: &Receiver, expected: &Ledger) {
    let all: usize = expected.values().map(Vec::len).sum();
    let heard = || ledger(app).values().map(Vec::len).sum::<usize>() >= all;
    let until = std::time::Instant::now() + PATIENCE;
    while !heard() && std::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(&ledger(app), expected);
}

fn path(key: &str) -> String {
    format!("photos/{}", utf8_percent_encode(key, SIGNED))
}

async fn multipart(ceph: &Ceph, key: &str) {
    let begun = ceph.call(Method::POST, &path(key), "uploads", "").await.body;
    let id = begun.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>")).expect("an id").0;
    ceph.call(Method::PUT, &path(key), &format!("partNumber=1&uploadId={id}"), "part").await;
    let listed = ceph.call(Method::GET, &path(key), &format!("uploadId={id}"), "").await.body;
    let tag = listed.split_once("<ETag>").and_then(|(_, rest)| rest.split_once("</ETag>")).expect("a part").0;
    let part = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    ceph.call(Method::POST, &path(key), &format!("uploadId={id}"), &part).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_is_polled_and_reconciled_with_odd_keys_while_its_pushes_are_missed() {
    let test = "ceph_is_polled_and_reconciled_with_odd_keys_while_its_pushes_are_missed";
    if tool(test, "POSTERN_TEST_CEPH").is_none() {
        return;
    }
    let ceph = Ceph::start();
    let (polled, reconciled) = (Receiver::start().await, Receiver::start().await);
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let poller = polling_sidecar(folders[0].path(), ceph.endpoint(), &polled)
        .with("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret")
        .with(
            "EVENT_POLLER_CONFIGURATION",
            r#"{"bucket": "photos", "prefixes": ["a b+", "d/", "folder/", "gone/", "k/", "m"], "pageSize": 2}"#,
        );
    let beside = listing_sidecar(folders[1].path(), ceph.endpoint(), &reconciled)
        .with("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret")
        .with("POSTERN_S3HTTP_PRESET", "ceph")
        .with("POSTERN_S3HTTP_SECRET", SECRET)
        .with("POSTERN_RECONCILE", "1s")
        .with("POSTERN_RECONCILE_GRACE", "3s");

    ceph.call(Method::PUT, "photos", "", "").await;
    for key in ["old", "gone/pushed", "gone/missed"] {
        ceph.call(Method::PUT, &path(key), "", "0").await;
    }
    let endpoint = beside.url(&format!("/s3/{SECRET}"));
    ceph.action(&[
        ("Action", "CreateTopic"),
        ("Name", "forgetful"),
        ("Attributes.entry.1.key", "push-endpoint"),
        ("Attributes.entry.1.value", endpoint.as_str()),
    ])
    .await;
    let arn = "arn:aws:sns:default::forgetful";
    let events = "<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>";
    let notification = format!(
        "<NotificationConfiguration><TopicConfiguration><Id>all</Id><Topic>{arn}</Topic>{events}</TopicConfiguration></NotificationConfiguration>"
    );
    ceph.call(Method::PUT, "photos", "notification", &notification).await;

    let (mut polling, _) = poller.start(PATIENCE).await.expect("the poller starts");
    let (mut running, _) = beside.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut polling, 6.0).await;
    walks(&mut running, 1.0).await;

    let long = format!("k/{}", "0123456789".repeat(99));
    let odd = ["a b+c%20ü.txt", "d//e", "folder/", "x&y<z>'\"", "😀", "\u{ffee}", "ctl\u{1}", &long];
    for key in odd {
        ceph.call(Method::PUT, &path(key), "", "1").await;
    }
    multipart(&ceph, "multi").await;
    ceph.call(Method::DELETE, &path("gone/pushed"), "", "").await;
    let entry = |key: &str, name: &str| (key.to_owned(), vec![name.to_owned()]);
    let mut pushed: Ledger = odd.iter().map(|key| entry(key, "ObjectCreated:Put")).collect();
    pushed.extend([
        entry("multi", "ObjectCreated:CompleteMultipartUpload"),
        entry("gone/pushed", "ObjectRemoved:Delete"),
    ]);
    hears(&reconciled, &pushed).await;
    // So much later that a listing would have told it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    more_walks(&mut running, 1.0).await;
    running.kill();

    // Nobody is there, and Ceph forgets.
    ceph.call(Method::PUT, &path("missed"), "", "1").await;
    ceph.call(Method::PUT, &path(odd[0]), "", "22").await;
    ceph.call(Method::PUT, &path("came and went"), "", "1").await;
    ceph.call(Method::DELETE, &path("came and went"), "", "").await;
    ceph.call(Method::DELETE, &path("gone/missed"), "", "").await;
    let (mut running, _) = beside.start(PATIENCE).await.expect("the sidecar starts");
    let mut expected = pushed.clone();
    expected.extend([entry("missed", "ObjectCreated:Listed"), entry("gone/missed", "ObjectRemoved:Unlisted")]);
    expected.get_mut(odd[0]).expect("a key").push("ObjectCreated:Overwritten".to_owned());
    hears(&reconciled, &expected).await;
    more_walks(&mut running, 3.0).await;
    hears(&reconciled, &expected).await;

    more_walks(&mut polling, 12.0).await;
    let created = ["d//e", "folder/", &long, "missed", "multi"];
    let mut expected: Ledger = created.iter().map(|key| entry(key, "ObjectCreated:Listed")).collect();
    expected.extend(["gone/missed", "gone/pushed"].map(|key| entry(key, "ObjectRemoved:Unlisted")));
    let both = ["ObjectCreated:Listed", "ObjectCreated:Overwritten"].map(str::to_owned);
    expected.insert(odd[0].to_owned(), both.to_vec());
    hears(&polled, &expected).await;
}
