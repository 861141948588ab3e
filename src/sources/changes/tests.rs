use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::event::Origin;
use crate::normalize::{self, Context};
use crate::record::{self, Body, Dialect};

const RECEIVED: UnixMillis = UnixMillis(1_700_000_000_000);
const WRITTEN: &str = "2023-11-14T22:00:00.000Z";

fn instance(reconciles: bool) -> Arc<Instance> {
    let mut env = BTreeMap::from(
        [
            ("POSTERN_TLS", "off"),
            ("EVENT_SNS_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:uploads"),
            ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
            ("POSTERN_BUCKETS", "b"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    if reconciles {
        env.insert("POSTERN_RECONCILE".into(), "1h".into());
    }
    Arc::clone(&crate::config::load(&env).expect("a configuration").instances[0])
}

/// The event of a record as S3 sends it.
fn event(name: &str, time: Option<&str>, object: &str) -> Event {
    let time = time.map(|time| format!("\"eventTime\":\"{time}\",")).unwrap_or_default();
    let message = format!(
        "{{\"Records\":[{{{time}\"eventName\":\"{name}\",\"s3\":{{\"bucket\":{{\"name\":\"b\"}},\"object\":{object}}}}}]}}"
    );
    let Ok(Body::Records(records)) = record::parse(&message) else { panic!("{message}") };
    let context = Context {
        instance_id: "1",
        origin: Origin::Sns,
        dialect: Dialect::AWS,
        topic: None,
        message_id: None,
        received_at: RECEIVED,
        notification: None,
    };
    normalize::event(records[0].as_ref().expect("a record"), &context)
}

fn push(name: &str, object: &str) -> Option<Change> {
    pushed(&instance(true), &event(name, Some(WRITTEN), object), RECEIVED)
}

#[test]
fn a_push_and_a_listing_of_the_same_object_name_the_same_state() {
    let instance = instance(true);
    let written = UnixMillis::parse_rfc3339(WRITTEN);
    let pushed = push("s3:ObjectCreated:Put", r#"{"key":"a+b%2Fc","eTag":"0aF","versionId":"v1"}"#).expect("a state");
    let listed = listed(&instance, "b", "a b/c", Some("\"0aF\""), written, RECEIVED);
    assert_eq!((pushed.object, pushed.state, pushed.at), (listed.object, listed.state, listed.at));
    assert_eq!((pushed.listed_at, listed.listed_at), (None, Some(RECEIVED)));
    let others = [("c", "a b/c", "0aF"), ("b", "a b/d", "0aF"), ("b", "a b/c", "0AF")];
    for (bucket, key, e_tag) in others {
        let other = super::listed(&instance, bucket, key, Some(e_tag), written, RECEIVED);
        assert_ne!((other.object, other.state), (pushed.object, pushed.state), "{bucket} {key} {e_tag}");
    }
}

#[test]
fn what_is_removed_for_whoever_reads_the_bucket_is_gone_and_one_version_tells_nothing() {
    let gone = listed(&instance(true), "b", "k", None, Some(RECEIVED), RECEIVED);
    assert_eq!((gone.at, gone.missing_since), (None, Some(RECEIVED)));
    for (name, object) in [
        ("ObjectRemoved:Delete", r#"{"key":"k"}"#),
        ("ObjectRemoved:Delete", r#"{"key":"k","versionId":""}"#),
        (
            "ObjectRemoved:DeleteMarkerCreated",
            r#"{"key":"k","versionId":"v2","eTag":"d41d8cd98f00b204e9800998ecf8427e"}"#,
        ),
        ("LifecycleExpiration:Delete", r#"{"key":"k"}"#),
        ("LifecycleExpiration:DeleteMarkerCreated", r#"{"key":"k","versionId":"v2"}"#),
        ("ObjectLifecycle:Expiration:Current", r#"{"key":"k","versionId":"v2"}"#),
        ("s3:ObjectRemoved:DeleteAllVersions", r#"{"key":"k","versionId":"v2"}"#),
    ] {
        let change = push(name, object).unwrap_or_else(|| panic!("{name} {object}"));
        assert_eq!((change.object, change.state), (gone.object, gone.state), "{name} {object}");
    }
    for (name, object) in [
        ("ObjectRemoved:Delete", r#"{"key":"k","versionId":"v1"}"#),
        ("LifecycleExpiration:Delete", r#"{"key":"k","versionId":"v1"}"#),
        ("ObjectLifecycle:Expiration:NonCurrent", r#"{"key":"k"}"#),
        ("ObjectLifecycle:Expiration:AbortMultipartUpload", r#"{"key":"k"}"#),
        ("ObjectTagging:Put", r#"{"key":"k","eTag":"a"}"#),
        ("ObjectCreated:PutTagging", r#"{"key":"k","eTag":"a"}"#),
        ("ObjectCreated:Copy", r#"{"key":"k"}"#),
        ("ObjectCreated:Copy", r#"{"key":"k","eTag":"\"\""}"#),
        ("ReducedRedundancyLostObject", r#"{"key":"k","eTag":"a"}"#),
    ] {
        assert_eq!(push(name, object), None, "{name} {object}");
    }
}

#[test]
fn the_time_of_a_change_is_its_producers_or_none() {
    let object = r#"{"key":"k","eTag":"a"}"#;
    let told = |time| pushed(&instance(true), &event("ObjectCreated:Put", time, object), RECEIVED).expect("a state").at;
    assert_eq!(told(Some(WRITTEN)), UnixMillis::parse_rfc3339(WRITTEN));
    assert_eq!(told(None), None, "MCS tells none, and when it arrived says nothing of when it happened");
}

#[test]
fn without_reconciliation_nothing_is_remembered() {
    let event = event("ObjectCreated:Put", Some(WRITTEN), r#"{"key":"k","eTag":"a"}"#);
    assert_eq!(pushed(&instance(false), &event, RECEIVED), None);
}
