//! The bodies of callbacks, pure: what an instance and a claim say, in the form that the app wants (`POSTERN_FORMAT`).
//!
//! [`encode`] is a function of its arguments and of nothing else, so every attempt of a delivery sends the same bytes: a
//! signature, an app's cache of what it has seen, and a person comparing two attempts can all rely on it.

use std::borrow::Cow;

use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::{Format, Instance};
use crate::event::{Event, Origin};
use crate::queue::Claim;

mod cloud_elements;
mod cloudevents;
mod nulls;

/// What is POSTed, apart from signatures and from what the operator adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Bytes,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Headers of the format itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Encoded {
    fn json(body: Vec<u8>) -> Self {
        Self { body: Bytes::from(body), content_type: JSON, headers: Vec::new() }
    }
}

const JSON: &str = "application/json";

/// The body and headers of a claim's callback.
///
/// Several events in a format that cannot batch come from a batch that was composed under another format, before a restart.
/// They are sent together in the nearest form that holds them all: a CloudEvents batch for binary mode, records for `sns`.
pub fn encode(format: Format, instance: &Instance, claim: &Claim) -> Encoded {
    match (format, claim.items.as_slice()) {
        (Format::CloudElements, _) => Encoded::json(cloud_elements::body(instance, claim)),
        (Format::CloudEventsBinary, [item]) => cloudevents::binary(instance, &item.event),
        (Format::CloudEvents, [item]) => cloudevents::structured(instance, &item.event),
        (Format::CloudEvents | Format::CloudEventsBinary, _) => cloudevents::batch(instance, claim),
        (Format::Sns, [item]) => sns(instance, &item.event),
        (Format::Raw, [item]) => Encoded::json(record(instance, &item.event).get().as_bytes().to_vec()),
        (Format::Raw | Format::Sns, _) => Encoded::json(to_json(&Records::of(instance, claim))),
    }
}

/// The notification as it came, with the headers by which SNS clients know one where a topic of SNS published it; MCS S3 has the
/// first of them too (`s3-dialects.md` 1.5), and no other store has any. What came in another way than by a notification (a
/// listing, or an event that was queued under another format) is its record alone.
fn sns(instance: &Instance, event: &Event) -> Encoded {
    let Some(notification) = &event.notification else {
        return Encoded::json(record(instance, event).get().as_bytes().to_vec());
    };
    let of_topic = event.topic.as_deref().is_some_and(|topic| topic.split(':').nth(2) == Some("sns"));
    let mut headers = Vec::new();
    if of_topic || event.origin == Origin::Mcs {
        headers.push((HeaderName::from_static("x-amz-sns-message-type"), HeaderValue::from_static("Notification")));
    }
    let named = [("x-amz-sns-message-id", &event.message_id), ("x-amz-sns-topic-arn", &event.topic)];
    for (name, value) in named.into_iter().filter(|_| of_topic) {
        if let Some(value) = value.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.push((HeaderName::from_static(name), value));
        }
    }
    Encoded { body: Bytes::copy_from_slice(notification.as_bytes()), content_type: JSON, headers }
}

/// `{"Records":[…]}`: the records of these events as they came.
#[derive(Serialize)]
struct Records<'a> {
    #[serde(rename = "Records")]
    records: Vec<Cow<'a, RawValue>>,
}

impl<'a> Records<'a> {
    fn of(instance: &Instance, claim: &'a Claim) -> Self {
        Self { records: claim.items.iter().map(|item| record(instance, &item.event)).collect() }
    }
}

/// The producer's record: its own bytes, unless `filter.response.nulls` was set to true (hard case 11).
fn record<'a>(instance: &Instance, event: &'a Event) -> Cow<'a, RawValue> {
    if instance.filter_nulls != Some(true) {
        return Cow::Borrowed(&event.raw);
    }
    // What is left of JSON is JSON; should it ever not be, the record goes as it came rather than not at all.
    RawValue::from_string(nulls::without_nulls(event.raw.get())).map_or(Cow::Borrowed(&*event.raw), Cow::Owned)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Serializing fails for maps with keys that are no text, for failing writers and for failing Serialize implementations.
    // The types of this module are derived structs of text, numbers and raw JSON, written to memory.
    serde_json::to_vec(value).expect("derived structs serialize to memory")
}

#[cfg(test)]
mod tests;
