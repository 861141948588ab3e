//! CloudEvents 1.0 over HTTP, with the attributes of the specification's own adapters for S3 and SNS.
//!
//! | attribute | value |
//! |---|---|
//! | `id` | our event id: the same on every attempt and for every announcement of the change, as deduplication needs it. (The adapter joins request id and host id, which several records of one call share.) |
//! | `source` | eventSource `.` awsRegion `.` bucket, such as `aws:s3.us-east-1.photos`; without awsRegion the two others |
//! | `type` | `com.amazonaws.s3.` and the event name |
//! | `subject` | the key |
//! | `time` | eventTime |
//! | `data` | the record as it came |
//!
//! A message that is no S3 event has `com.amazonaws.sns.notification`, its topic as source and its id as subject.
//!
//! Text attributes may hold no control characters. A key that does has them, and its percent signs, percent-encoded in
//! `subject`; `data` has the key as it was sent.

use std::borrow::Cow;

use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Encoded, JSON, record, to_json};
use crate::config::Instance;
use crate::event::Event;
use crate::queue::Claim;
use crate::record::wire::{Object, Scalar};

const SPEC_VERSION: &str = "1.0";

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    time: String,
    datacontenttype: &'static str,
    /// Absent where an application published a bare `null`: a null member would say no more.
    #[serde(skip_serializing_if = "is_null")]
    data: Cow<'a, RawValue>,
}

/// One event in structured mode.
pub(super) fn structured(instance: &Instance, event: &Event) -> Encoded {
    Encoded {
        body: Bytes::from(to_json(&describe(instance, event))),
        content_type: "application/cloudevents+json",
        headers: Vec::new(),
    }
}

/// Several events in batched mode.
pub(super) fn batch(instance: &Instance, claim: &Claim) -> Encoded {
    let events: Vec<CloudEvent<'_>> = claim.items.iter().map(|item| describe(instance, &item.event)).collect();
    Encoded {
        body: Bytes::from(to_json(&events)),
        content_type: "application/cloudevents-batch+json",
        headers: Vec::new(),
    }
}

/// One event in binary mode: attributes as headers, the record as body.
pub(super) fn binary(instance: &Instance, event: &Event) -> Encoded {
    let described = describe(instance, event);
    let mut headers = Vec::with_capacity(6);
    let mut add = |name: &'static str, value: &str| {
        let encoded = utf8_percent_encode(value, NOT_IN_HEADER).to_string();
        // Printable ASCII is always a header value.
        if let Ok(value) = HeaderValue::try_from(encoded) {
            headers.push((HeaderName::from_static(name), value));
        }
    };
    add("ce-specversion", described.specversion);
    add("ce-id", &described.id);
    add("ce-source", &described.source);
    add("ce-type", &described.r#type);
    if let Some(subject) = &described.subject {
        add("ce-subject", subject);
    }
    add("ce-time", &described.time);
    Encoded { body: Bytes::copy_from_slice(described.data.get().as_bytes()), content_type: JSON, headers }
}

fn describe<'a>(instance: &Instance, event: &'a Event) -> CloudEvent<'a> {
    let (source, kind) = if event.bucket.is_empty() {
        // A generic event; the topic is there whenever it came by a topic.
        (
            event.topic.clone().unwrap_or_else(|| event.origin.as_str().to_owned()),
            "com.amazonaws.sns.notification".to_owned(),
        )
    } else {
        (s3_source(event), format!("com.amazonaws.s3.{}", event.event_name))
    };
    CloudEvent {
        specversion: SPEC_VERSION,
        id: event.id.to_string(),
        source: utf8_percent_encode(&source, NOT_IN_URI).to_string(),
        r#type: plain(&kind).into_owned(),
        subject: (!event.key.is_empty()).then(|| plain(&event.key)),
        time: event.time.to_iso_millis(),
        datacontenttype: JSON,
        data: record(instance, event),
    }
}

fn is_null(data: &RawValue) -> bool {
    data.get() == "null"
}

fn s3_source(event: &Event) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named<'a> {
        #[serde(borrow, default)]
        event_source: Scalar<'a>,
    }
    let named: Option<Object<Named<'_>>> = serde_json::from_str(event.raw.get()).ok();
    let producer = named.and_then(|Object(named)| named.event_source.text()).unwrap_or(Cow::Borrowed("aws:s3"));
    match event.region.as_deref() {
        Some(region) => format!("{producer}.{region}.{}", event.bucket),
        None => format!("{producer}.{}", event.bucket),
    }
}

/// What the type `String` of CloudEvents forbids: C0, DEL and C1 controls, and noncharacters.
fn is_forbidden(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_forbidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut buffer = [0; 4];
    for c in text.chars() {
        if c == '%' || is_forbidden(c) {
            // Every byte of the character: NON_ALPHANUMERIC holds `%` and all controls, and non-ASCII is always encoded.
            out.extend(utf8_percent_encode(c.encode_utf8(&mut buffer), NON_ALPHANUMERIC));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// CloudEvents HTTP binding 3.1.3.2: all but printable ASCII, and space, quote and percent. (Non-ASCII is always encoded.)
const NOT_IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Whatever a URI reference may not hold as it is.
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'#')
    .add(b'?')
    .add(b'[')
    .add(b']');
