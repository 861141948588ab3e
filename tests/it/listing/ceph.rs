//! Polling of Ceph RGW, and reconciliation beside its push.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, MetadataDirective, VersioningConfiguration,
};
use hyper::StatusCode;

use super::reconcile::heard;
use super::*;
use crate::setup::setup;
use crate::support::ceph::Ceph;
use crate::support::front::Front;
use crate::support::tool;

const SECRET: &str = "hush-hush-hush-hush-hush";

/// What stores and proxies are known to get wrong: blanks, coding signs, what XML escapes or cannot hold, the marks by which RGW
/// tells its own entries of a bucket's index from keys, UTF-8 whose order UTF-16 would change, and the longest that RGW takes.
fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        " blank",
        "a b",
        "a+b",
        "a%2Fb",
        "a%2fb",
        "a/b",
        "a//b",
        "100%",
        "a&b<c>\"d'",
        "_under",
        "__two",
        "_multipart_x",
        "_x_y",
        "tab\tline\nend",
        "control\u{1}",
        "folder/",
        "ü/é",
        "\u{ffee}",
        "😀",
        "~",
        "^caret",
        "`grave",
        "[1]",
        "a=b?c#d",
    ]
    .iter()
    .map(|key| (*key).to_owned())
    .collect();
    keys.push("long/".to_owned() + &"ü".repeat(500));
    keys
}

/// Writes `key` in two parts.
async fn upload(ceph: &Ceph, key: &str) {
    let s3 = ceph.s3();
    let begun = s3.create_multipart_upload().bucket("photos").key(key).send().await.expect("an upload");
    let id = begun.upload_id().expect("its id");
    let mut parts = CompletedMultipartUpload::builder();
    for number in 1..=2 {
        let content = ByteStream::from(vec![b'x'; 5 << 20]);
        let part = s3.upload_part().bucket("photos").key(key).upload_id(id).part_number(number).body(content);
        let part = part.send().await.expect("a part");
        parts = parts.parts(CompletedPart::builder().part_number(number).e_tag(part.e_tag().expect("an eTag")).build());
    }
    let call = s3.complete_multipart_upload().bucket("photos").key(key).upload_id(id);
    call.multipart_upload(parts.build()).send().await.expect("completed");
}

async fn copy(ceph: &Ceph, from: &str, to: &str) {
    let call = ceph.s3().copy_object().bucket("photos").copy_source(format!("photos/{from}")).key(to);
    call.metadata_directive(MetadataDirective::Replace).metadata("a", "b").send().await.expect("copied");
}

async fn versioned(ceph: &Ceph) {
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let call = ceph.s3().put_bucket_versioning().bucket("photos").versioning_configuration(versioning);
    call.send().await.expect("versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_ceph_are_polled_whatever_the_keys() {
    if tool("changes_in_ceph_are_polled_whatever_the_keys", "POSTERN_TEST_CEPH").is_none() {
        return;
    }
    let (ceph, app) = (Ceph::start().await, Receiver::start().await);
    ceph.bucket("photos").await;
    let keys = odd_keys();
    for key in &keys {
        ceph.put("photos", key, "1").await;
    }
    ceph.put("photos", "gone", "1").await;
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = polling_sidecar(folder.path(), ceph.endpoint(), &app)
        .with("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret")
        .with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 3}"#);
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut running, 1.0).await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(told(&app).len(), 0, "the first walk is silent, and so are unchanged ones");

    // Every key is overwritten, and every other one is deleted then; while nobody looks.
    running.kill();
    let mut expected: Vec<(String, &str)> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        ceph.put("photos", key, "two").await;
        if at % 2 == 0 {
            ceph.delete("photos", key).await;
        }
        expected.push((key.clone(), if at % 2 == 0 { "DELETED" } else { "UPDATED" }));
        let new = format!("{key} new");
        if new.len() <= 1024 {
            ceph.put("photos", &new, "new").await;
            expected.push((new, "CREATED"));
        }
    }
    ceph.delete("photos", "gone").await;
    upload(&ceph, "parts").await;
    copy(&ceph, "parts", "copy").await;
    expected
        .extend([("gone", "DELETED"), ("parts", "CREATED"), ("copy", "CREATED")].map(|(key, kind)| (key.into(), kind)));
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    is_told(&app, &pairs(&expected)).await;

    // The same content and eTag, written again; and versions.
    copy(&ceph, "parts", "parts").await;
    versioned(&ceph).await;
    ceph.put("photos", "copy", "another version").await;
    ceph.put("photos", "versions", "1").await;
    expected.extend(
        [("parts", "UPDATED"), ("copy", "UPDATED"), ("versions", "CREATED")].map(|(key, kind)| (key.into(), kind)),
    );
    is_told(&app, &pairs(&expected)).await;
    let marker = ceph.s3().delete_object().bucket("photos").key("versions").send().await.expect("a delete marker");
    expected.push(("versions".to_owned(), "DELETED"));
    is_told(&app, &pairs(&expected)).await;
    let call = ceph.s3().delete_object().bucket("photos").key("versions");
    call.version_id(marker.version_id().expect("its version")).send().await.expect("the marker is gone");
    expected.push(("versions".to_owned(), "CREATED"));
    is_told(&app, &pairs(&expected)).await;

    more_walks(&mut running, 2.0).await;
    is_told(&app, &pairs(&expected)).await;
    for received in app.received() {
        let event = &received.json()["message"]["events"][0];
        assert!(event["pollDate"].as_str().and_then(UnixMillis::parse_rfc3339).is_some(), "{event}");
    }
    let (_, ready) = running.ask("/ready").await.expect("an answer");
    assert!(ready.contains("walks complete"), "{ready}");
}

fn pairs<'a>(expected: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    expected.iter().map(|(key, kind)| (key.as_str(), *kind)).collect()
}

/// The names of the records that the app was given about `key`, in order and each event once.
fn names(app: &Receiver, key: &str) -> Vec<String> {
    heard(app, key).into_iter().map(|(name, _)| name).collect()
}

async fn is_heard(app: &Receiver, key: &str, name: &str) {
    wait_until(&format!("{name} of {key} is told"), || async {
        names(app, key).iter().any(|heard| heard == name).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cephs_push_told_is_not_told_by_reconciliation_and_what_it_missed_is_told_once() {
    let test = "what_cephs_push_told_is_not_told_by_reconciliation_and_what_it_missed_is_told_once";
    if tool(test, "POSTERN_TEST_CEPH").is_none() {
        return;
    }
    let (ceph, app, front) = (Ceph::start().await, Receiver::start().await, Front::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    ceph.bucket("photos").await;
    for key in ["old", "twice", "gone, missed", "gone, pushed", "same"] {
        ceph.put("photos", key, "0").await;
    }
    let public = front.origin();
    let ours = [
        ("POSTERN_S3HTTP_PRESET", "ceph"),
        ("POSTERN_S3HTTP_SECRET", SECRET),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("POSTERN_S3_ENDPOINT_URL", ceph.endpoint()),
        ("POSTERN_S3_PATH_STYLE", "true"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret"),
    ];
    let mut sidecar = listing_sidecar(folder.path(), ceph.endpoint(), &app)
        .with("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret")
        .with("POSTERN_RECONCILE", "1s")
        // What is pushed later than the grace is told by a listing, and the gateway may be slow.
        .with("POSTERN_RECONCILE_GRACE", "40s")
        .with("EVENT_POLLER_CONFIGURATION", r#"{"pageSize": 3}"#);
    for (name, value) in &ours[..2] {
        sidecar = sidecar.with(name, *value);
    }
    front.lead_to(Some(&sidecar.url("").origin().ascii_serialization()));
    let (mut running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    walks(&mut running, 1.0).await;

    // Before there is a notification, push misses everything.
    ceph.put("photos", "missed, ü+ %2F", "1").await;
    ceph.put("photos", "twice", "1").await;
    upload(&ceph, "missed, parts").await;
    ceph.delete("photos", "gone, missed").await;
    let said = setup(&ours, &[]).await;
    assert_eq!((said.code, said.verdicts("create").len()), (0, 2), "{}{}", said.out, said.err);
    ceph.put("photos", "probe", "1").await;
    front.wait_for(StatusCode::OK, 1).await;
    for (key, name) in [
        ("missed, ü+ %2F", "ObjectCreated:Listed"),
        ("missed, parts", "ObjectCreated:Listed"),
        ("twice", "ObjectCreated:Overwritten"),
        ("gone, missed", "ObjectRemoved:Unlisted"),
    ] {
        is_heard(&app, key, name).await;
    }

    // The gateway has found the topic, so that push comes at once.
    ceph.put("photos", "pushed, ü+ %2F", "1").await;
    ceph.put("photos", "twice", "2").await;
    upload(&ceph, "pushed, parts").await;
    copy(&ceph, "old", "copy").await;
    copy(&ceph, "same", "same").await;
    ceph.delete("photos", "gone, pushed").await;
    ceph.put("photos", "back", "1").await;
    is_heard(&app, "back", "ObjectCreated:Put").await;
    ceph.delete("photos", "back").await;
    is_heard(&app, "back", "ObjectRemoved:Delete").await;
    ceph.put("photos", "back", "1").await;
    versioned(&ceph).await;
    ceph.put("photos", "versions", "1").await;
    is_heard(&app, "versions", "ObjectCreated:Put").await;
    ceph.delete("photos", "versions").await;
    is_heard(&app, "versions", "ObjectRemoved:DeleteMarkerCreated").await;
    ceph.put("photos", "versions", "2").await;

    // And now it does not come, until the listing has told.
    wait_until("all that was pushed is told", || async { (names(&app, "versions").len() == 3).then_some(()) }).await;
    front.lead_to(None);
    ceph.put("photos", "late", "1").await;
    ceph.put("photos", "old", "1").await;
    ceph.delete("photos", "same").await;
    for (key, name) in
        [("late", "ObjectCreated:Listed"), ("old", "ObjectCreated:Overwritten"), ("same", "ObjectRemoved:Unlisted")]
    {
        is_heard(&app, key, name).await;
    }
    let before = front.answered(StatusCode::OK).len();
    front.lead_to(Some(&sidecar.url("").origin().ascii_serialization()));
    front.wait_for(StatusCode::OK, before + 3).await;
    // Longer than the grace: what push told has become old enough to be told by a listing, if it were not known.
    more_walks(&mut running, 42.0).await;

    for (key, expected) in [
        ("missed, ü+ %2F", &["ObjectCreated:Listed"][..]),
        ("missed, parts", &["ObjectCreated:Listed"]),
        ("gone, missed", &["ObjectRemoved:Unlisted"]),
        ("twice", &["ObjectCreated:Overwritten", "ObjectCreated:Put"]),
        ("pushed, ü+ %2F", &["ObjectCreated:Put"]),
        ("pushed, parts", &["ObjectCreated:CompleteMultipartUpload"]),
        ("copy", &["ObjectCreated:Copy"]),
        ("same", &["ObjectCreated:Copy", "ObjectRemoved:Unlisted"]),
        ("gone, pushed", &["ObjectRemoved:Delete"]),
        ("back", &["ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectCreated:Put"]),
        ("versions", &["ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated", "ObjectCreated:Put"]),
        ("late", &["ObjectCreated:Listed"]),
        ("old", &["ObjectCreated:Overwritten"]),
    ] {
        assert_eq!(names(&app, key), expected, "{key}");
    }
    assert_eq!(names(&app, "probe").len(), 1, "whoever was first");
}
