//! Pure: what a listing of a bucket found, as an event.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Difference, identity};
use crate::clock::UnixMillis;
use crate::event::{Event, EventType, ObjectType, Origin};

/// What the comparison of a listing with what is remembered of the one before says about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It is there, and was not.
    Appeared,
    /// It is another object than before under the same key.
    Overwritten,
    /// It is not there any more.
    Vanished,
}

impl Finding {
    /// The event's name. The first parts are Amazon's, so that patterns such as `s3:ObjectCreated:*` hold; the second are ours, as a
    /// listing cannot tell a PUT from a copy.
    pub fn event_name(self) -> &'static str {
        match self {
            Self::Appeared => "ObjectCreated:Listed",
            Self::Overwritten => "ObjectCreated:Overwritten",
            Self::Vanished => "ObjectRemoved:Unlisted",
        }
    }
}

/// One object that a listing found changed.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// What happened to it.
    pub finding: Finding,
    /// The instance's number as decimal text.
    pub instance_id: &'a str,
    /// [`Origin::Poll`] or [`Origin::Reconcile`].
    pub origin: Origin,
    /// The bucket's name.
    pub bucket: &'a str,
    /// The bucket's region, where it is configured.
    pub region: Option<&'a str>,
    /// The decoded key.
    pub key: &'a str,
    /// Entity tag; of what vanished, the last one seen.
    pub e_tag: &'a str,
    /// Bytes; of what vanished, the last size seen.
    pub size: u64,
    /// When it was written, by the store's clock; of what vanished, as last seen.
    pub last_modified: Option<UnixMillis>,
    /// When the walk began that saw the change first.
    pub seen: UnixMillis,
    /// When the walk began that tells of it.
    pub began: UnixMillis,
}

/// The event. Its record is made here in the shape of S3's, as no producer made one; `eventSource` is `postern:listing`, and there is no
/// sequencer, as a listing has none: it is delivered by arrival and never superseded.
pub fn listed(listed: &Listed<'_>) -> Event {
    let vanished = listed.finding == Finding::Vanished;
    let name = listed.finding.event_name();
    let time = listed.last_modified.filter(|_| !vanished).unwrap_or(listed.seen);
    let modified = listed.last_modified.map(|time| time.0.to_string()).unwrap_or_default();
    let id = identity(
        [listed.instance_id, listed.bucket, listed.key, "", name, listed.e_tag],
        &Difference::Listing(&modified, &listed.seen.0.to_string()),
    );
    let sent_key = form_encoded(listed.key);
    let raw = raw(&Record {
        event_version: "2.1",
        event_source: "postern:listing",
        aws_region: listed.region,
        event_time: time.to_iso_millis(),
        event_name: name,
        s3: S3 {
            s3_schema_version: "1.0",
            bucket: Bucket { name: listed.bucket },
            object: Object {
                key: &sent_key,
                size: (!vanished).then_some(listed.size),
                e_tag: (!vanished && !listed.e_tag.is_empty()).then_some(listed.e_tag),
            },
        },
    });
    Event {
        id,
        // Beside push an overwritten object is what push would have said; S3 announces one as created.
        event_type: match (listed.finding, listed.origin) {
            (Finding::Vanished, _) => EventType::Deleted,
            (Finding::Overwritten, Origin::Poll) => EventType::Updated,
            (Finding::Overwritten | Finding::Appeared, _) => EventType::Created,
        },
        object_type: if listed.key.ends_with('/') { ObjectType::Folder } else { ObjectType::File },
        bucket: listed.bucket.to_owned(),
        key: listed.key.to_owned(),
        raw_key: (sent_key != listed.key).then_some(sent_key),
        event_name: name.to_owned(),
        version_id: None,
        e_tag: (!vanished && !listed.e_tag.is_empty()).then(|| listed.e_tag.to_owned()),
        size: (!vanished).then_some(listed.size),
        sequencer: None,
        time,
        // Only polling has it (`cloud-elements.md` 1.2): reconciliation stands in for a push and looks like one.
        poll_date: (listed.origin == Origin::Poll).then_some(listed.began),
        origin: listed.origin,
        topic: None,
        region: listed.region.map(str::to_owned),
        message_id: None,
        notification: None,
        raw,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    event_version: &'static str,
    event_source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_region: Option<&'a str>,
    event_time: String,
    event_name: &'static str,
    s3: S3<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct S3<'a> {
    s3_schema_version: &'static str,
    bucket: Bucket<'a>,
    object: Object<'a>,
}

#[derive(Serialize)]
struct Bucket<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e_tag: Option<&'a str>,
}

fn raw(record: &Record<'_>) -> Box<RawValue> {
    // Texts and numbers in derived structs always serialize; null stands where serde_json should ever think otherwise.
    to_raw_value(record).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// What Amazon leaves as it is in the key of a record.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*').remove(b'/').remove(b' ');

/// A key as Amazon writes it in a record: `+` for a space, `%XX` for what is not plain.
fn form_encoded(key: &str) -> String {
    utf8_percent_encode(key, ENCODED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{self, Body, Dialect};

    const BASE: Listed<'static> = Listed {
        finding: Finding::Appeared,
        instance_id: "7",
        origin: Origin::Poll,
        bucket: "photos",
        region: Some("eu-west-1"),
        key: "a b/ü+1.txt",
        e_tag: "9b2cf535f27731c974343645a3985328",
        size: 6,
        last_modified: Some(UnixMillis(1_725_634_800_000)),
        seen: UnixMillis(1_725_635_700_000),
        began: UnixMillis(1_725_635_700_000),
    };

    #[test]
    fn a_record_is_shaped_as_amazons_and_says_who_made_it() {
        let event = listed(&BASE);
        assert_eq!(
            event.raw.get(),
            r#"{"eventVersion":"2.1","eventSource":"postern:listing","awsRegion":"eu-west-1","eventTime":"2024-09-06T15:00:00.000Z","eventName":"ObjectCreated:Listed","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"photos"},"object":{"key":"a+b/%C3%BC%2B1.txt","size":6,"eTag":"9b2cf535f27731c974343645a3985328"}}}"#
        );
        assert_eq!((event.time, event.poll_date), (BASE.last_modified.expect("set"), Some(BASE.began)));
        assert_eq!(event.raw_key.as_deref(), Some("a+b/%C3%BC%2B1.txt"));
    }

    #[test]
    fn what_vanished_is_dated_by_the_walk_that_missed_it_and_has_no_size() {
        let event = listed(&Listed { finding: Finding::Vanished, seen: UnixMillis(1_725_635_000_000), ..BASE });
        assert_eq!(
            event.raw.get(),
            r#"{"eventVersion":"2.1","eventSource":"postern:listing","awsRegion":"eu-west-1","eventTime":"2024-09-06T15:03:20.000Z","eventName":"ObjectRemoved:Unlisted","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"photos"},"object":{"key":"a+b/%C3%BC%2B1.txt"}}}"#
        );
        assert_eq!((event.event_type, event.e_tag, event.size), (EventType::Deleted, None, None));
        assert_eq!((event.time, event.poll_date), (UnixMillis(1_725_635_000_000), Some(BASE.began)));
    }

    #[test]
    fn polling_says_updated_of_what_reconciliation_says_as_push_would() {
        let poll = Listed { finding: Finding::Overwritten, ..BASE };
        let reconcile = Listed { origin: Origin::Reconcile, ..poll };
        assert_eq!((listed(&poll).event_type, listed(&reconcile).event_type), (EventType::Updated, EventType::Created));
        assert_eq!(listed(&reconcile).poll_date, None);
    }

    #[test]
    fn a_finding_told_again_is_the_same_event_and_each_part_of_it_tells_events_apart() {
        assert_eq!(listed(&BASE).id, listed(&Listed { began: UnixMillis(1), size: 9, region: None, ..BASE }).id);
        let mut ids = vec![
            listed(&BASE).id,
            listed(&Listed { finding: Finding::Overwritten, ..BASE }).id,
            listed(&Listed { finding: Finding::Vanished, ..BASE }).id,
            listed(&Listed { instance_id: "8", ..BASE }).id,
            listed(&Listed { bucket: "other", ..BASE }).id,
            listed(&Listed { key: "other", ..BASE }).id,
            listed(&Listed { e_tag: "other", ..BASE }).id,
            listed(&Listed { last_modified: None, ..BASE }).id,
            listed(&Listed { seen: UnixMillis(1), ..BASE }).id,
        ];
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    proptest! {
        #[test]
        fn the_key_of_a_record_decodes_as_amazons_does(key in "\\PC{1,20}|[\\x00-\\x7f]{1,20}") {
            let event = listed(&Listed { key: &key, ..BASE });
            let message = format!("{{\"Records\":[{}]}}", event.raw.get());
            let Ok(Body::Records(records)) = record::parse(&message) else { panic!("{message}") };
            let record = records[0].as_ref().expect("a record");
            let decoded = Dialect::AWS.key_coding.decode(&record.key);
            prop_assert_eq!(decoded.as_deref(), Some(key.as_str()));
            prop_assert!(record.key.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
