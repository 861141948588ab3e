//! Stores that push bare S3 records, or their own JSON, over HTTP: how each of them writes (`s3-dialects.md` 1.5, 2 and 3.5).

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue, RANGE, USER_AGENT};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::clock::UnixMillis;
use crate::simulator::dice::Dice;
use crate::simulator::sns::records;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Backblaze B2.
    B2,
    /// Ceph RGW.
    Ceph,
    /// An API destination of Amazon EventBridge.
    EventBridge,
    /// MCS S3 (VK Cloud).
    Mcs,
    /// MinIO.
    Minio,
    /// NooBaa.
    Noobaa,
    /// RustFS.
    Rustfs,
    /// Amazon SNS with raw message delivery: S3's own records, and nothing signed.
    SnsRaw,
    /// versitygw.
    Versitygw,
}

/// The changes that every store tells of, in Amazon's words without `s3:`.
pub const EVENT_NAMES: [&str; 4] =
    ["ObjectCreated:Put", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete"];

/// One change of one object.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// One of [`EVENT_NAMES`].
    pub event: &'a str,
    /// Owner of the bucket: at MCS the project.
    pub owner: &'a str,
    /// Bucket.
    pub bucket: &'a str,
    /// The plain key.
    pub key: &'a str,
    /// When it happened.
    pub time: UnixMillis,
    /// Place in the order of changes.
    pub order: u32,
    /// The constant that a Ceph topic puts into every record.
    pub opaque_data: Option<&'a str>,
}

impl Store {
    /// Whether a request may tell of several changes.
    pub fn batches(self) -> bool {
        self != Self::EventBridge
    }

    /// The change as this store tells of it.
    pub fn record(self, change: &Change<'_>, dice: &mut Dice) -> Value {
        match self {
            Self::B2 => b2(change, dice),
            Self::EventBridge => eventbridge(change, dice),
            Self::SnsRaw => amazon(change, dice),
            _ => self.s3_record(change, dice),
        }
    }

    fn s3_record(self, change: &Change<'_>, dice: &mut Dice) -> Value {
        let gone = change.event.starts_with("ObjectRemoved");
        let mut object = json!({"key": self.key(change.key), "sequencer": self.sequencer(change)});
        if !gone || self == Self::Ceph {
            object["size"] = dice.below(1 << 24).into();
            object["eTag"] = dice.hex(32).into();
        }
        let prefix = if matches!(self, Self::Ceph | Self::Noobaa) { "" } else { "s3:" };
        let principal = if self == Self::Versitygw { "PrincipalId" } else { "principalId" };
        let (version, source) = match self {
            Self::Mcs => ("1.0", "aws:s3"),
            Self::Minio => ("2.0", "minio:s3"),
            Self::Rustfs => ("2.1", "rustfs:s3"),
            Self::Ceph => ("2.2", "ceph:s3"),
            Self::Noobaa => ("2.3", "noobaa:s3"),
            Self::B2 | Self::EventBridge | Self::SnsRaw | Self::Versitygw => ("2.2", "aws:s3"),
        };
        let mut record = json!({
            "eventVersion": version,
            "eventSource": source,
            "eventName": format!("{prefix}{}", change.event),
            "userIdentity": {principal: change.owner},
            "requestParameters": {"sourceIPAddress": "203.0.113.7"},
            "responseElements": {"x-amz-request-id": dice.hex(16).to_ascii_uppercase()},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "postern",
                "bucket": {"name": change.bucket, "ownerIdentity": {principal: change.owner},
                    "arn": format!("arn:aws:s3:::{}", change.bucket)},
                "object": object,
            },
        });
        if let Some(time) = self.time(change.time) {
            record["eventTime"] = time.into();
        }
        match self {
            Self::Mcs => {
                record["awsRegion"] = "ru-msk".into();
                record["responseElements"]["x-amz-request-id"] = dice.hex(16).into();
                record["s3"]["bucket"] = json!({"name": change.bucket, "ownerIdentity": {"principalId": change.owner}});
            }
            Self::Ceph => {
                record["s3"]["object"]["versionId"] = "".into();
                record["s3"]["object"]["metadata"] = json!([]);
                record["s3"]["object"]["tags"] = json!([]);
                record["opaqueData"] = change.opaque_data.unwrap_or_default().into();
            }
            Self::Versitygw => {
                record["s3"]["object"]["versionId"] = Value::Null;
                record["glacierEventData"] = json!({"restoreEventData": {}});
            }
            _ => {}
        }
        record
    }

    /// The key in this store's coding.
    fn key(self, key: &str) -> String {
        match self {
            // Nobody knows how MCS codes keys; as it imitates Amazon in everything else, so here.
            Self::Mcs => records::encode_key(key),
            Self::Minio | Self::Rustfs => form_urlencoded::byte_serialize(key.as_bytes()).collect(),
            Self::B2 | Self::Ceph | Self::EventBridge | Self::Noobaa | Self::SnsRaw | Self::Versitygw => key.to_owned(),
        }
    }

    fn sequencer(self, change: &Change<'_>) -> Value {
        let millis = change.time.0.unsigned_abs();
        let nanos = (millis % 1000) * 1_000_000 + u64::from(change.order % 1_000_000);
        let swapped = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0).swap_bytes();
        match self {
            Self::Mcs => (millis / 1000).into(),
            Self::Minio | Self::Rustfs => format!("{:016X}", millis / 1000 * 1_000_000_000 + nanos).into(),
            Self::Ceph => format!("{:08X}{:08X}", swapped(millis / 1000), swapped(nanos)).into(),
            Self::Noobaa => format!("{millis:X}").into(),
            Self::Versitygw => format!("{:X}", u64::from(change.order) + 1).into(),
            Self::B2 | Self::EventBridge | Self::SnsRaw => Value::Null,
        }
    }

    fn time(self, time: UnixMillis) -> Option<String> {
        match self {
            Self::Mcs => None,
            Self::Ceph => Some(time.to_iso_millis().replace('Z', "000Z")),
            Self::Versitygw => Some(time.to_iso_seconds().replace('Z', "+00:00")),
            _ => Some(time.to_iso_millis()),
        }
    }

    /// The body that tells of these records; of the first alone where [`Store::batches`] is false.
    pub fn body(self, records: &[Value], first_key: &str) -> String {
        match self {
            Self::B2 => json!({"events": records}).to_string(),
            Self::EventBridge => records.first().map(Value::to_string).unwrap_or_default(),
            Self::Minio | Self::Rustfs => {
                let of = |path| records.first().and_then(|record| record.pointer(path)).and_then(Value::as_str);
                let bucket = of("/s3/bucket/name").unwrap_or_default();
                json!({"EventName": of("/eventName"), "Key": format!("{bucket}/{first_key}"), "Records": records})
                    .to_string()
            }
            Self::Ceph | Self::Mcs | Self::Noobaa | Self::SnsRaw | Self::Versitygw => {
                json!({"Records": records}).to_string()
            }
        }
    }

    /// The headers that this store sends besides those that prove something.
    pub fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let content_type = match self {
            Self::Noobaa => None,
            Self::SnsRaw => Some("text/plain; charset=UTF-8"),
            Self::Versitygw | Self::EventBridge => Some("application/json; charset=utf-8"),
            Self::B2 | Self::Ceph | Self::Mcs | Self::Minio | Self::Rustfs => Some("application/json"),
        };
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        match self {
            Self::EventBridge => {
                headers.insert(USER_AGENT, HeaderValue::from_static("Amazon/EventBridge/ApiDestinations"));
                headers.insert(RANGE, HeaderValue::from_static("bytes=0-1048575"));
            }
            Self::Mcs => {
                headers.insert("x-amz-sns-message-type", HeaderValue::from_static("Notification"));
            }
            Self::SnsRaw => {
                headers.insert(USER_AGENT, HeaderValue::from_static("Amazon Simple Notification Service Agent"));
                headers.insert("x-amz-sns-message-type", HeaderValue::from_static("Notification"));
                headers.insert("x-amz-sns-rawdelivery", HeaderValue::from_static("true"));
            }
            _ => {}
        }
        headers
    }
}

/// The region that Amazon's stores are in here.
const REGION: &str = "us-east-1";

fn amazon(change: &Change<'_>, dice: &mut Dice) -> Value {
    let Change { event, bucket, key, time, order, .. } = *change;
    records::record(&records::Change { event, bucket, key, region: REGION, time, order }, dice)
}

fn b2(change: &Change<'_>, dice: &mut Dice) -> Value {
    let kind = match change.event {
        "ObjectCreated:Copy" => "b2:ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload" => "b2:ObjectCreated:MultipartUpload",
        "ObjectRemoved:Delete" => "b2:ObjectDeleted:Delete",
        _ => "b2:ObjectCreated:Upload",
    };
    json!({
        "accountId": change.owner, "bucketId": "b1", "bucketName": change.bucket, "eventId": dice.hex(32),
        "eventTimestamp": change.time.0, "eventType": kind, "eventVersion": 1, "matchedRuleName": "postern",
        "objectName": change.key, "objectSize": dice.below(1 << 24), "objectVersionId": dice.hex(24),
    })
}

fn eventbridge(change: &Change<'_>, dice: &mut Dice) -> Value {
    let sequencer = records::sequencer(change.time, change.order).to_ascii_lowercase();
    let mut event = json!({
        "version": "0", "id": dice.uuid(), "detail-type": "Object Created", "source": "aws.s3", "account": "111122223333",
        "time": change.time.to_iso_seconds(), "region": REGION,
        "resources": [format!("arn:aws:s3:::{}", change.bucket)],
        "detail": {"version": "0", "bucket": {"name": change.bucket},
            "object": {"key": change.key, "sequencer": sequencer},
            "request-id": dice.hex(16).to_ascii_uppercase(), "requester": "111122223333", "source-ip-address": "203.0.113.7"},
    });
    let detail = &mut event["detail"];
    detail["reason"] = match change.event {
        "ObjectCreated:Copy" => "CopyObject",
        "ObjectCreated:CompleteMultipartUpload" => "CompleteMultipartUpload",
        "ObjectRemoved:Delete" => "DeleteObject",
        _ => "PutObject",
    }
    .into();
    if change.event.starts_with("ObjectRemoved") {
        detail["deletion-type"] = "Permanently Deleted".into();
        event["detail-type"] = "Object Deleted".into();
    } else {
        detail["object"]["size"] = dice.below(1 << 24).into();
        detail["object"]["etag"] = dice.hex(32).into();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change<'static> {
        let time = UnixMillis::parse_rfc3339("2024-02-15T10:34:23.904Z").expect("a time");
        let (event, owner, bucket, key) = ("ObjectCreated:Put", "mcs1", "b", "a b/c+d");
        Change { event, owner, bucket, key, time, order: 7, opaque_data: Some("iamopaque") }
    }

    fn object(store: Store, name: &str) -> Value {
        store.record(&change(), &mut Dice::seeded(1))["s3"]["object"][name].clone()
    }

    #[test]
    fn each_store_codes_keys_and_order_in_its_own_way() {
        for (store, key, sequencer) in [
            (Store::Mcs, "a+b/c%2Bd", json!(1_707_993_263)),
            (Store::Minio, "a+b%2Fc%2Bd", json!("17B402D2FDC20807")),
            (Store::Rustfs, "a+b%2Fc%2Bd", json!("17B402D2FDC20807")),
            (Store::Ceph, "a b/c+d", json!("AFE8CD6507F2E135")),
            (Store::Noobaa, "a b/c+d", json!("18DAC54EF20")),
            (Store::Versitygw, "a b/c+d", json!("8")),
        ] {
            assert_eq!(object(store, "key"), key, "{store:?}");
            assert_eq!(object(store, "sequencer"), sequencer, "{store:?}");
        }
    }

    #[test]
    fn mcs_says_no_time_and_stores_without_the_prefix_leave_it_out() {
        let of = |store: Store| store.record(&change(), &mut Dice::seeded(1));
        assert!(of(Store::Mcs).get("eventTime").is_none());
        assert_eq!(of(Store::Mcs)["s3"]["bucket"]["ownerIdentity"]["principalId"], "mcs1");
        assert_eq!(of(Store::Ceph)["eventTime"], "2024-02-15T10:34:23.904000Z");
        assert_eq!(
            (of(Store::Ceph)["eventName"].as_str(), of(Store::Ceph)["opaqueData"].as_str()),
            (Some("ObjectCreated:Put"), Some("iamopaque"))
        );
        assert_eq!(of(Store::Minio)["eventName"], "s3:ObjectCreated:Put");
        assert_eq!(of(Store::SnsRaw)["eventName"], "ObjectCreated:Put");
        assert_eq!(of(Store::SnsRaw)["s3"]["object"]["key"], "a+b/c%2Bd");
        assert_eq!(Store::SnsRaw.headers()["x-amz-sns-rawdelivery"], "true");
        assert_eq!(of(Store::Versitygw)["userIdentity"]["PrincipalId"], "mcs1");
    }
}
