//! Backblaze B2's own JSON as records (`s3-dialects.md` 2.7): `{"events":[…]}`, up to 50 of them in one request.
//!
//! Its names become those of S3, so that `event.objects`, the types and the app know one vocabulary. B2 calls each version of a
//! file a file, and what S3 calls a delete marker a hide marker: for whoever lists the bucket, the file is gone then.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::wire::{Entries, Object, Scalar};
use super::{Body, Malformed, Parsed, Record, TestEvent, collect, object, shown};
use crate::clock::UnixMillis;

/// The name of the event that the rule's "Test" button sends; it names no object.
const TEST: &str = "b2:TestEvent";

/// The last millisecond of the year 9999, beyond which no RFC 3339 time can be written.
const LAST_MILLIS: i64 = 253_402_300_799_999;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default)]
    events: Option<Entries<'a>>,
    /// Only of a test event, should one come without a list around it.
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
    #[serde(borrow, default)]
    bucket_name: Scalar<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    account_id: Scalar<'a>,
    #[serde(borrow, default)]
    bucket_name: Scalar<'a>,
    #[serde(borrow, default)]
    event_id: Scalar<'a>,
    #[serde(borrow, default)]
    event_timestamp: Scalar<'a>,
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
    #[serde(borrow, default)]
    event_version: Scalar<'a>,
    #[serde(borrow, default)]
    object_name: Scalar<'a>,
    #[serde(borrow, default)]
    object_size: Scalar<'a>,
    #[serde(borrow, default)]
    object_version_id: Scalar<'a>,
}

/// Reads a message. `eventId`, which B2 repeats when it sends again, stands in the place of the request id and so in the
/// event's identity.
///
/// # Errors
/// As [`super::parse`]; [`Malformed::NotS3`] for a list of other events, such as those of Tigris.
pub fn parse(message: &str) -> Result<Body<'_>, Malformed> {
    let message: Message<'_> = object(message)?;
    match message.events {
        Some(events) => collect(events, event),
        None if message.event_type.text().as_deref() == Some(TEST) => {
            Ok(Body::TestEvent(TestEvent { bucket: message.bucket_name.text().unwrap_or_default().into_owned() }))
        }
        None => Err(Malformed::NotS3("there is no events member".to_owned())),
    }
}

fn event(index: usize, raw: &RawValue) -> Result<Parsed<'_>, Malformed> {
    let bad = |problem: String| Malformed::BadRecord { index, problem };
    let Object(entry): Object<Entry<'_>> = serde_json::from_str(raw.get()).map_err(|e| bad(shown(&e)))?;
    let Some(kind) = entry.event_type.text().filter(|kind| kind.starts_with("b2:")) else {
        return Err(Malformed::NotS3(format!("events[{index}] has no eventType of Backblaze B2")));
    };
    let bucket = entry.bucket_name.text();
    if kind == TEST {
        return Ok(Parsed::TestEvent(bucket.unwrap_or_default().into_owned()));
    }
    if !matches!(entry.event_version, Scalar::Absent | Scalar::Integer(1)) {
        return Err(bad(format!(
            "eventVersion {} of Backblaze B2 is not supported, only 1 is",
            entry.event_version.shown()
        )));
    }
    let (Some(bucket), Some(key)) = (bucket, entry.object_name.text()) else {
        return Err(bad("bucketName or objectName of an event of Backblaze B2 is missing or empty".to_owned()));
    };
    Ok(Parsed::Record(Record {
        event_name: event_name(kind),
        event_time: entry.event_timestamp.whole_number().and_then(rfc3339).map(Cow::Owned),
        region: None,
        request_id: entry.event_id.text(),
        bucket,
        owner: entry.account_id.text(),
        key,
        version_id: entry.object_version_id.text(),
        e_tag: None,
        size: entry.object_size.whole_number(),
        sequencer: None,
        raw,
    }))
}

/// Milliseconds as the text that the other producers send.
fn rfc3339(millis: u64) -> Option<String> {
    let millis = i64::try_from(millis).ok().filter(|millis| *millis <= LAST_MILLIS)?;
    Some(UnixMillis(millis).to_iso_millis())
}

/// The name that S3's notification of such a change has. B2 says that new ones will come: those of a known group keep their
/// text behind S3's name of the group, all others keep it whole and are of no known type.
fn event_name(kind: Cow<'_, str>) -> Cow<'_, str> {
    let mut parts = kind.splitn(3, ':').skip(1);
    let (group, action) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let named = |group: &str| Cow::Owned(format!("{group}:{action}"));
    match (group, action) {
        ("ObjectCreated", "Upload") => "ObjectCreated:Put".into(),
        ("ObjectCreated", "MultipartUpload") => "ObjectCreated:CompleteMultipartUpload".into(),
        // Some descriptions file hiding under creation: a hide marker is created.
        ("ObjectCreated", "Hide") => "ObjectRemoved:DeleteMarkerCreated".into(),
        // Copy is S3's own word; of Replica and MultipartReplica S3 has no equal.
        ("ObjectCreated", _) => named("ObjectCreated"),
        ("HideMarkerCreated", "LifecycleRule") => "LifecycleExpiration:DeleteMarkerCreated".into(),
        ("HideMarkerCreated", _) => "ObjectRemoved:DeleteMarkerCreated".into(),
        ("ObjectDeleted", "LifecycleRule") => "LifecycleExpiration:Delete".into(),
        ("ObjectDeleted", _) => named("ObjectRemoved"),
        _ => kind,
    }
}

#[cfg(test)]
mod tests;
