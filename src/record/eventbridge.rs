//! Amazon EventBridge's own JSON as records (`s3-dialects.md` 3.5): one event about one object, with hyphenated names and its
//! kind told by `detail-type`, `reason` and `deletion-type` together.
//!
//! Its names become those of S3's own notifications, so that `event.objects`, the types and the app know one vocabulary.
//! Nothing more is made alike: EventBridge tells neither the configuration nor the identities, and the same change announced by
//! SNS as well may be another event.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::wire::{Object, Scalar};
use super::{Body, Malformed, Record, SentSequencer, is_supported, object, shown, without_quotes};

/// What Amazon S3 calls itself there.
const SOURCE: &str = "aws.s3";

/// The event around `detail`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    source: Scalar<'a>,
    #[serde(borrow, default)]
    detail_type: Scalar<'a>,
    #[serde(borrow, default)]
    time: Scalar<'a>,
    #[serde(borrow, default)]
    region: Scalar<'a>,
    #[serde(borrow, default)]
    id: Scalar<'a>,
    /// Read only of an event of S3: another service may write there what it likes.
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail<'a> {
    #[serde(borrow, default)]
    event_version: Scalar<'a>,
    #[serde(borrow, default)]
    bucket: Option<Object<Bucket<'a>>>,
    #[serde(borrow, default)]
    object: Option<Object<S3Object<'a>>>,
    #[serde(borrow, default)]
    request_id: Scalar<'a>,
    #[serde(borrow, default)]
    reason: Scalar<'a>,
    #[serde(borrow, default)]
    deletion_type: Scalar<'a>,
}

#[derive(serde::Deserialize)]
struct Bucket<'a> {
    #[serde(borrow, default)]
    name: Scalar<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct S3Object<'a> {
    #[serde(borrow, default)]
    key: Scalar<'a>,
    #[serde(borrow, default)]
    size: Scalar<'a>,
    #[serde(borrow, default)]
    etag: Scalar<'a>,
    #[serde(borrow, default)]
    version_id: Scalar<'a>,
    #[serde(borrow, default)]
    sequencer: Scalar<'a>,
}

/// Reads an event: always one record, whose own text is the whole event.
///
/// # Errors
/// As [`super::parse`]; [`Malformed::NotS3`] for an event of another service.
pub fn parse(message: &str) -> Result<Body<'_>, Malformed> {
    let envelope: Envelope<'_> = object(message)?;
    let source = envelope.source.text().unwrap_or_default();
    if source != SOURCE {
        return Err(Malformed::NotS3("it is no EventBridge event whose source is aws.s3".to_owned()));
    }
    let Some(detail) = envelope.detail else { return Err(missing("detail")) };
    let Object(detail): Object<Detail<'_>> =
        serde_json::from_str(detail.get()).map_err(|e| bad(format!("detail: {}", shown(&e))))?;
    if !is_supported(&detail.event_version) {
        return Err(Malformed::UnsupportedVersion { index: 0, version: detail.event_version.shown() });
    }

    let Some(kind) = envelope.detail_type.text() else { return Err(missing("detail-type")) };
    let Some(bucket) = detail.bucket.and_then(|Object(bucket)| bucket.name.text()) else {
        return Err(missing("detail.bucket.name"));
    };
    let Some(Object(s3)) = detail.object else { return Err(missing("detail.object")) };
    let Some(key) = s3.key.text() else { return Err(missing("detail.object.key")) };
    let record = Record {
        event_name: event_name(&kind, detail.reason.text(), detail.deletion_type.text()),
        event_time: envelope.time.text(),
        region: envelope.region.text(),
        request_id: detail.request_id.text(),
        bucket,
        owner: None,
        key,
        version_id: s3.version_id.text(),
        e_tag: s3.etag.text().map(without_quotes).filter(|tag| !tag.is_empty()),
        size: s3.size.whole_number(),
        sequencer: match s3.sequencer {
            Scalar::Integer(number) => Some(SentSequencer::Integer(number)),
            other => other.text().map(SentSequencer::Text),
        },
        raw: serde_json::from_str(message).map_err(|e| Malformed::NotJson(shown(&e)))?,
    };
    Ok(Body::Records(vec![Ok(record)]))
}

/// Whether a message is an event of S3 that EventBridge forwarded, for a source that may be given those beside S3's own
/// notifications, as a queue of SQS is. It tells a shape and proves nothing: only for a source that is already chosen by
/// configuration and whose sender is already authenticated.
pub fn is_eventbridge(message: &str) -> bool {
    object::<Envelope<'_>>(message).is_ok_and(|envelope| {
        envelope.source.text().as_deref() == Some(SOURCE)
            && envelope.detail.is_some_and(|detail| detail.get().starts_with('{'))
    })
}

/// `id` of the event: what EventBridge repeats when it sends again, so that a repetition can be told.
pub fn id(message: &str) -> Option<Cow<'_, str>> {
    object::<Envelope<'_>>(message).ok()?.id.text()
}

fn bad(problem: String) -> Malformed {
    Malformed::BadRecord { index: 0, problem }
}

fn missing(member: &str) -> Malformed {
    bad(format!("{member} is missing from the EventBridge event, or is empty or of another type"))
}

/// The name that S3's own notification of the same change has. A reason that is new keeps its text behind the known group; a
/// `detail-type` that is new keeps its text behind a group that no type is known for.
fn event_name(kind: &str, reason: Option<Cow<'_, str>>, deletion: Option<Cow<'_, str>>) -> Cow<'static, str> {
    let group = |group: &str, action: &str| Cow::Owned(format!("{group}:{action}"));
    match kind {
        "Object Created" => match reason.as_deref() {
            Some("PutObject") => "ObjectCreated:Put".into(),
            Some("POST Object") => "ObjectCreated:Post".into(),
            Some("CopyObject") => "ObjectCreated:Copy".into(),
            Some("CompleteMultipartUpload") => "ObjectCreated:CompleteMultipartUpload".into(),
            // Not a plain `ObjectCreated`: a filter for `ObjectCreated:*` must match it.
            other => group("ObjectCreated", other.unwrap_or("Unknown")),
        },
        "Object Deleted" => {
            let expired = reason.as_deref() == Some("Lifecycle Expiration");
            let removed = if expired { "LifecycleExpiration" } else { "ObjectRemoved" };
            match deletion.as_deref() {
                Some("Permanently Deleted") | None => group(removed, "Delete"),
                Some("Delete Marker Created") => group(removed, "DeleteMarkerCreated"),
                Some(other) => group(removed, other),
            }
        }
        "Object Restore Initiated" => "ObjectRestore:Post".into(),
        "Object Restore Completed" => "ObjectRestore:Completed".into(),
        "Object Restore Expired" => "ObjectRestore:Delete".into(),
        "Object Storage Class Changed" => "LifecycleTransition".into(),
        "Object Access Tier Changed" => "IntelligentTiering".into(),
        "Object Tags Added" => "ObjectTagging:Put".into(),
        "Object Tags Deleted" => "ObjectTagging:Delete".into(),
        "Object ACL Updated" => "ObjectAcl:Put".into(),
        other => group("EventBridge", other),
    }
}

#[cfg(test)]
mod tests;
