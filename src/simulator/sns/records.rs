//! S3 event records as Amazon sends them (`sns.md` 3).

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::clock::UnixMillis;
use crate::simulator::dice::Dice;

/// Every concrete event name of `sns.md` 3.1, without `s3:`.
pub const EVENT_NAMES: [&str; 24] = [
    "ReducedRedundancyLostObject",
    "ObjectCreated:Put",
    "ObjectCreated:Post",
    "ObjectCreated:Copy",
    "ObjectCreated:CompleteMultipartUpload",
    "ObjectRemoved:Delete",
    "ObjectRemoved:DeleteMarkerCreated",
    "ObjectRestore:Post",
    "ObjectRestore:Completed",
    "ObjectRestore:Delete",
    "Replication:OperationFailedReplication",
    "Replication:OperationNotTracked",
    "Replication:OperationMissedThreshold",
    "Replication:OperationReplicatedAfterThreshold",
    "LifecycleTransition",
    "IntelligentTiering",
    "ObjectAcl:Put",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "ObjectTagging:Put",
    "ObjectTagging:Delete",
    "ObjectAnnotation:Put",
    "ObjectAnnotation:Delete",
    "ObjectRetention:Put",
];

/// Subject of all messages that S3 publishes.
pub const SUBJECT: &str = "Amazon S3 Notification";

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Event name without `s3:`; names that no S3 knows are fine.
    pub event: &'a str,
    /// Bucket.
    pub bucket: &'a str,
    /// The plain key; the record carries it form-encoded.
    pub key: &'a str,
    /// Region of the bucket.
    pub region: &'a str,
    /// When it happened.
    pub time: UnixMillis,
    /// Place in the order of changes; a later change has a greater number.
    pub order: u32,
}

/// The record of `change`. Ids and sizes come from `dice`.
pub fn record(change: &Change<'_>, dice: &mut Dice) -> Value {
    let event = change.event;
    let by_s3 = event.starts_with("Lifecycle") || event.starts_with("Replication:") || event == "IntelligentTiering";
    let principal = if by_s3 { "s3.amazonaws.com" } else { "AWS:AROAEXAMPLEID:app" };
    let source = if by_s3 { "s3.amazonaws.com" } else { "203.0.113.7" };
    let mut record = json!({
        "eventVersion": version(event),
        "eventSource": "aws:s3",
        "awsRegion": change.region,
        "eventTime": change.time.to_iso_millis(),
        "eventName": event,
        "userIdentity": {"principalId": principal},
        "requestParameters": {"sourceIPAddress": source},
        "responseElements": {
            "x-amz-request-id": dice.hex(16).to_ascii_uppercase(),
            "x-amz-id-2": dice.hex(76),
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "postern",
            "bucket": {
                "name": change.bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": format!("arn:aws:s3:::{}", change.bucket),
            },
            "object": object(change, dice),
        },
    });
    if let Some((name, data)) = particulars(event) {
        record[name] = data;
    }
    record
}

fn version(event: &str) -> &'static str {
    let family = event.split(':').next().unwrap_or(event);
    match family {
        "Replication" => "2.2",
        "LifecycleTransition" | "LifecycleExpiration" | "IntelligentTiering" | "ObjectAcl" | "ObjectTagging" => "2.3",
        "ObjectRestore" if event.ends_with(":Delete") => "2.3",
        "ObjectAnnotation" | "ObjectRetention" => "2.6",
        _ => "2.1",
    }
}

fn object(change: &Change<'_>, dice: &mut Dice) -> Value {
    let event = change.event;
    let mut object = Map::new();
    object.insert("key".into(), encode_key(change.key).into());
    let marker = event.ends_with(":DeleteMarkerCreated");
    let gone = matches!(event, "ObjectRemoved:Delete" | "LifecycleExpiration:Delete");
    if !gone && !marker {
        object.insert("size".into(), dice.below(1 << 24).into());
    }
    if !gone {
        let parts = if event.ends_with("CompleteMultipartUpload") { "-3" } else { "" };
        object.insert("eTag".into(), (dice.hex(32) + parts).into());
    }
    if marker {
        object.insert("versionId".into(), dice.hex(32).into());
    }
    let ordered = ["ObjectCreated:", "ObjectRemoved:", "LifecycleExpiration:"];
    if ordered.iter().any(|family| event.starts_with(family)) {
        object.insert("sequencer".into(), sequencer(change.time, change.order).into());
    }
    Value::Object(object)
}

/// Eighteen hexadecimal digits: the seconds, then the place in the order (`sns.md` 3.4).
pub fn sequencer(time: UnixMillis, order: u32) -> String {
    format!("00{:08X}{order:08X}", time.0.div_euclid(1000) & 0xffff_ffff)
}

fn particulars(event: &str) -> Option<(&'static str, Value)> {
    let data = match event {
        "ObjectRestore:Completed" => (
            "glacierEventData",
            json!({"restoreEventData": {
                "lifecycleRestorationExpiryTime": "2030-01-01T00:00:00.000Z", "lifecycleRestoreStorageClass": "GLACIER"}}),
        ),
        "LifecycleTransition" => {
            ("lifecycleEventData", json!({"transitionEventData": {"destinationStorageClass": "GLACIER"}}))
        }
        "IntelligentTiering" => ("intelligentTieringEventData", json!({"destinationAccessTier": "ARCHIVE_ACCESS"})),
        _ if event.starts_with("Replication:") => (
            "replicationEventData",
            json!({"replicationRuleId": "rule", "destinationBucket": "arn:aws:s3:::copy", "s3Operation": "OBJECT_PUT",
                "requestTime": "2030-01-01T00:00:00.000Z", "failureReason": "AssumeRoleNotPermitted"}),
        ),
        _ => return None,
    };
    Some(data)
}

/// A key as records carry it: form-encoded, with its slashes.
pub fn encode_key(key: &str) -> String {
    let parts: Vec<String> =
        key.split('/').map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect()).collect();
    parts.join("/")
}

/// The `Message` that holds `records`.
pub fn message(records: &[Value]) -> String {
    json!({ "Records": records }).to_string()
}

/// The `Message` that S3 publishes when a notification configuration is saved.
pub fn test_event(bucket: &str, time: UnixMillis, dice: &mut Dice) -> String {
    json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": time.to_iso_millis(), "Bucket": bucket,
        "RequestId": dice.hex(16).to_ascii_uppercase(), "HostId": dice.hex(76)})
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(event: &str, order: u32) -> Value {
        let change = Change {
            event,
            bucket: "b",
            key: "dir a/k\u{e9}y+b&c.txt",
            region: "us-east-1",
            time: UnixMillis(1_769_547_945_123),
            order,
        };
        record(&change, &mut Dice::seeded(1))
    }

    #[test]
    fn keys_are_form_encoded_and_keep_their_slashes() {
        assert_eq!(made("ObjectCreated:Put", 0)["s3"]["object"]["key"], "dir+a/k%C3%A9y%2Bb%26c.txt");
    }

    #[test]
    fn a_delete_has_no_size_and_no_etag_and_a_marker_has_a_version() {
        let deleted = &made("ObjectRemoved:Delete", 0)["s3"]["object"];
        assert!(deleted.get("size").is_none() && deleted.get("eTag").is_none() && deleted.get("sequencer").is_some());
        let marker = &made("ObjectRemoved:DeleteMarkerCreated", 0)["s3"]["object"];
        assert!(marker.get("size").is_none() && marker.get("eTag").is_some() && marker.get("versionId").is_some());
    }

    #[test]
    fn sequencers_increase_and_are_absent_outside_puts_and_deletes() {
        let text = |order| made("ObjectCreated:Put", order)["s3"]["object"]["sequencer"].as_str().map(str::to_owned);
        let (a, b) = (text(1).expect("one"), text(2).expect("one"));
        assert_eq!(a.len(), 18);
        assert!(a.starts_with("00697928A9") && a < b, "{a} {b}");
        assert!(made("ObjectTagging:Put", 1)["s3"]["object"].get("sequencer").is_none());
    }

    #[test]
    fn every_event_type_makes_a_record_and_those_with_particulars_carry_them() {
        let with: Vec<&str> = EVENT_NAMES
            .into_iter()
            .filter(|event| {
                made(event, 0).as_object().expect("an object").keys().any(|name| name.ends_with("EventData"))
            })
            .collect();
        assert_eq!(with.len(), 7, "{with:?}");
        assert_eq!(made("Replication:OperationNotTracked", 0)["eventVersion"], "2.2");
    }
}
