//! A real S3 (LocalStack) behind a proxy that answers in its place with S3's own errors, cuts answers off and breaks connections
//! (microburst), while objects change.

use std::collections::BTreeMap;

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;
use crate::support::aws::{Aws, call};
use crate::support::process::ToolServer;
use crate::support::tool;

const OBJECTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn throttled_cut_off_and_broken_listings_tell_each_change_once_and_nothing_else() {
    let test = "throttled_cut_off_and_broken_listings_tell_each_change_once_and_nothing_else";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() || tool(test, "POSTERN_TEST_MICROBURST").is_none() {
        return;
    }
    let store = ToolServer::start("localstack", &[]);
    let proxy = ToolServer::start("microburst", &[store.endpoint()]);
    let (aws, app) = (Aws::at(store.endpoint()), Receiver::start().await);
    // A third each has what encodings differ in; `ü` is after every other key, and its code is before them.
    let key = |number: usize| format!("{}{number:03}", ["object-", "a b+c ", "ü "][number / 4 % 3]);
    let path = |number: usize| format!("/photos/{}", utf8_percent_encode(&key(number), NON_ALPHANUMERIC));
    aws.s3(Method::PUT, "/photos", &[], "").await;
    for number in (0..OBJECTS).filter(|number| number % 4 != 0) {
        aws.s3(Method::PUT, &path(number), &[], "0").await;
    }
    let listing = |probability: f64, what: serde_json::Value| {
        let mut rule = serde_json::json!({"service": "s3", "operation": "ListObjectsV2", "probability": probability});
        let fields = what.as_object().expect("an object").clone();
        rule.as_object_mut().expect("an object").extend(fields);
        rule
    };
    let rules = serde_json::json!([
        listing(0.2, serde_json::json!({"error": {"code": "SlowDown", "status": 503}})),
        listing(0.1, serde_json::json!({"error": {"code": "InternalError", "status": 500}})),
        listing(0.1, serde_json::json!({"reset": true})),
        // Half an answer, once with a length that says that it is whole.
        listing(0.1, serde_json::json!({"response": {"truncate_frac": 0.5}})),
        listing(0.1, serde_json::json!({"response": {"abort_frac": 0.5}})),
    ]);
    let set = call(Method::POST, &format!("{}/_microburst/rules", proxy.endpoint()), &[], rules.to_string()).await;
    assert!(set.status.is_success(), "{} {}", set.status, set.text());

    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = polling_sidecar(folder.path(), proxy.endpoint(), &app)
        .with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 12}"#);
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut running, 1.0).await;

    // Each object changes at most once a round, and a round is over when it is told: the ledger is exact.
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    for round in 1..=3 {
        for number in 0..OBJECTS {
            let (kind, method) = match (number % 4, round) {
                (0, 1) => ("CREATED", Method::PUT),
                (0 | 1, _) => ("UPDATED", Method::PUT),
                (2, 2) => ("DELETED", Method::DELETE),
                _ => continue,
            };
            let body = if method == Method::PUT { format!("round {round}") } else { String::new() };
            aws.s3(method, &path(number), &[], &body).await;
            *expected.entry((key(number), kind.to_owned())).or_default() += 1;
        }
        let all: usize = expected.values().sum();
        wait_until(&format!("all of round {round} is told"), || async { (told(&app).len() >= all).then_some(()) })
            .await;
    }
    // It throws dice: walks go on until each fault was thrown.
    let fired = format!("{}/_microburst/fired", proxy.endpoint());
    wait_until("the proxy did everything that it was told", || async {
        let fired = call(Method::GET, &fired, &[], "").await.text();
        ["SlowDown", "InternalError", "reset", "truncate", "abort"]
            .iter()
            .all(|fault| fired.contains(fault))
            .then_some(())
    })
    .await;
    more_walks(&mut running, 2.0).await;

    let mut heard: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (_, key, kind) in told(&app) {
        *heard.entry((key, kind)).or_default() += 1;
    }
    assert_eq!(heard, expected);
    assert_eq!(app.received().len(), expected.values().sum::<usize>(), "each event came once");
}
