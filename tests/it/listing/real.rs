//! Polling of real stores.

use hyper::Method;

use super::*;
use crate::support::aws::Aws;
use crate::support::process::ToolServer;
use crate::support::tool;

/// Puts, overwrites and deletes in the store at `endpoint`, and what the app is told of it.
async fn put_overwrite_delete(endpoint: &str) {
    let aws = Aws::at(endpoint);
    let app = Receiver::start().await;
    aws.s3(Method::PUT, "/photos", &[], "").await;
    for path in ["/photos/old.txt", "/photos/changed.txt", "/photos/gone.txt"] {
        aws.s3(Method::PUT, path, &[], "hello").await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Pages of two: the store's continuation tokens are used, and after the kill its start-after.
    let sidecar = polling_sidecar(folder.path(), endpoint, &app)
        .with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 2}"#);
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut running, 1.0).await;
    running.kill();
    aws.s3(Method::PUT, "/photos/new/a%20b%2Bc%25%C3%BC%26.txt", &[], "hello").await;
    aws.s3(Method::PUT, "/photos/%EF%BF%AE", &[], "hello").await;
    aws.s3(Method::PUT, "/photos/%F0%9F%98%80", &[], "hello").await;
    aws.s3(Method::PUT, "/photos/changed.txt", &[], "hello again").await;
    aws.s3(Method::DELETE, "/photos/gone.txt", &[], "").await;
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    let expected = [
        ("changed.txt", "UPDATED"),
        ("gone.txt", "DELETED"),
        ("new/a b+c%ü&.txt", "CREATED"),
        ("\u{ffee}", "CREATED"),
        ("😀", "CREATED"),
    ];
    is_told(&app, &expected).await;
    more_walks(&mut running, 2.0).await;
    is_told(&app, &expected).await;
    let (_, ready) = running.ask("/ready").await.expect("an answer");
    assert!(ready.contains("walks complete"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_localstack_are_polled() {
    if tool("changes_in_localstack_are_polled", "POSTERN_TEST_LOCALSTACK").is_some() {
        put_overwrite_delete(ToolServer::start("localstack", &[]).endpoint()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_ministack_are_polled() {
    if tool("changes_in_ministack_are_polled", "POSTERN_TEST_MINISTACK").is_some() {
        put_overwrite_delete(ToolServer::start("ministack", &[]).endpoint()).await;
    }
}
