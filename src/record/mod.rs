//! S3 records as producers send them.
//!
//! [`parse`] reads the message that S3 and its imitators publish, `{"Records":[…]}` or a test event, as leniently as the
//! producers are different (`s3-dialects.md` 0.6, `sns.md` 3) and as strictly as their meaning needs: a record without a
//! bucket, a key or an event name is no record. It decides nothing about trust, types or identity; that is `normalize`.
//!
//! Everything borrows from the message, and each [`Record`] keeps its own text byte for byte. A message is bounded in
//! records and in depth before anything is built from it.

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use self::dialect::{Dialect, KeyCoding, SequencerKind, Shape};
pub use self::eventbridge::is_eventbridge;
pub use self::opaque::opaque_data;
use self::wire::{Entries, Entry, Message, Object, Scalar};

pub mod b2;
mod dialect;
pub mod eventbridge;
mod opaque;
pub(crate) mod wire;

/// Records in one message at most. S3 sends one; batching imitators send tens.
pub const MAX_RECORDS: usize = 1000;

/// Nesting of a message at most. S3's is 5 deep. Common JSON readers stop at 128, and a callback adds its own levels around
/// a record, so what passes here can also be read by the app.
pub const MAX_DEPTH: usize = 100;

/// What a message says.
#[derive(Debug)]
pub enum Body<'a> {
    /// Changes of objects, in the order in which they stood; what cannot be understood is told apart record by record. At
    /// least one of them is good, otherwise the message as a whole is [`Malformed`].
    Records(Vec<Result<Record<'a>, Malformed>>),
    /// "Notifications of this bucket arrive here": no change of anything.
    TestEvent(TestEvent),
}

/// S3's greeting after somebody saved a notification configuration (`sns.md` 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestEvent {
    /// The bucket whose configuration it was; empty where the producer does not say.
    pub bucket: String,
}

/// One change of one object, in its producer's words.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The event's name without `s3:`, such as `ObjectCreated:Put`; never empty.
    pub event_name: Cow<'a, str>,
    /// When it happened, as sent; MCS does not say.
    pub event_time: Option<Cow<'a, str>>,
    /// `awsRegion`.
    pub region: Option<Cow<'a, str>>,
    /// `x-amz-request-id` of the call that made the change.
    pub request_id: Option<Cow<'a, str>>,
    /// The bucket's name; never empty.
    pub bucket: Cow<'a, str>,
    /// `ownerIdentity.principalId` of the bucket: MCS S3 puts the project there.
    pub owner: Option<Cow<'a, str>>,
    /// The key as sent, in the producer's coding; never empty.
    pub key: Cow<'a, str>,
    /// The version; absent, null and empty are the same.
    pub version_id: Option<Cow<'a, str>>,
    /// The entity tag without quotes.
    pub e_tag: Option<Cow<'a, str>>,
    /// Bytes, where the producer said so in a form that is a whole number.
    pub size: Option<u64>,
    /// The order number as sent; what it means depends on the dialect.
    pub sequencer: Option<SentSequencer<'a>>,
    /// The record's own text.
    pub raw: &'a RawValue,
}

/// A sequencer in the JSON type in which it came. MCS sends a number, everybody else text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentSequencer<'a> {
    /// A JSON number.
    Integer(u64),
    /// A JSON string, not empty.
    Text(Cow<'a, str>),
}

/// Why a message or a record is not understood. Genuine all the same: it is set aside, never refused (hard case 10).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A record lacks what every record has, or has it in another type.
    #[error("Records[{index}]: {problem}")]
    BadRecord {
        /// Its place in the message.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// S3-shaped JSON that contradicts itself, such as a member that stands twice.
    #[error("the message is not a clear S3 event: {0}")]
    BadShape(String),
    /// `Records` is there and holds nothing.
    #[error("Records is empty")]
    NoRecords,
    /// No JSON object.
    #[error("the message is no JSON object: {0}")]
    NotJson(String),
    /// JSON without S3 records, such as an application's own message on the same topic.
    #[error("the message is no S3 event: {0}")]
    NotS3(String),
    /// Nested beyond [`MAX_DEPTH`].
    #[error("the message is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_RECORDS`].
    #[error("the message holds more than {MAX_RECORDS} records")]
    TooManyRecords,
    /// A major version of the record format that this program does not know (`sns.md` 3.2).
    #[error("Records[{index}]: eventVersion {version:?} is not supported, only 1.x and 2.x are")]
    UnsupportedVersion {
        /// Its place in the message.
        index: usize,
        /// What came, shortened.
        version: String,
    },
}

impl Malformed {
    /// The word for logs, metrics and dead letters (attack table A77, A78).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRecord { .. }
            | Self::BadShape(_)
            | Self::NoRecords
            | Self::NotJson(_)
            | Self::NotS3(_)
            | Self::TooDeep
            | Self::TooManyRecords => "bad_payload",
            Self::UnsupportedVersion { .. } => "unsupported_version",
        }
    }

    /// Whether the message was never meant as an S3 event, so that `POSTERN_NON_S3=relay` may send it on as it is. A broken
    /// S3 event is not foreign: the app would take it for something else.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotJson(_) | Self::NotS3(_))
    }
}

/// Reads a message of the given shape.
///
/// # Errors
/// As [`parse`].
pub fn parse_as(shape: Shape, message: &str) -> Result<Body<'_>, Malformed> {
    match shape {
        Shape::B2 => b2::parse(message),
        Shape::EventBridge => eventbridge::parse(message),
        Shape::Records => parse(message),
    }
}

/// Reads a message.
///
/// # Errors
/// [`Malformed`] when it holds no record that can be understood; the first record's trouble where every record has some.
pub fn parse(message: &str) -> Result<Body<'_>, Malformed> {
    let message: Message<'_> = object(message)?;
    let Some(entries) = message.records else {
        return if is_test_name(&message.event) {
            Ok(Body::TestEvent(TestEvent { bucket: message.bucket.text().unwrap_or_default().into_owned() }))
        } else {
            Err(Malformed::NotS3("there is no Records member".to_owned()))
        };
    };
    collect(entries, record)
}

/// The top level of a message of any shape, bounded in depth before anything is built.
fn object<'a, T: serde::Deserialize<'a>>(message: &'a str) -> Result<T, Malformed> {
    if !message.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Malformed::NotJson("it does not begin with a brace".to_owned()));
    }
    if wire::is_deeper_than(message, MAX_DEPTH) {
        return Err(Malformed::TooDeep);
    }
    match serde_json::from_str::<Object<T>>(message) {
        Ok(Object(message)) => Ok(message),
        Err(error) if error.is_data() => Err(Malformed::BadShape(shown(&error))),
        Err(error) => Err(Malformed::NotJson(shown(&error))),
    }
}

/// The records of a list, each read by `read`; a test event among them is one only where nothing else is.
fn collect<'a>(
    entries: Entries<'a>,
    read: impl Fn(usize, &'a RawValue) -> Result<Parsed<'a>, Malformed>,
) -> Result<Body<'a>, Malformed> {
    if entries.truncated {
        return Err(Malformed::TooManyRecords);
    }
    let mut records = Vec::with_capacity(entries.raw.len());
    let mut test = None;
    for (index, raw) in entries.raw.into_iter().enumerate() {
        match read(index, raw) {
            Ok(Parsed::Record(record)) => records.push(Ok(record)),
            Ok(Parsed::TestEvent(bucket)) => test = Some(TestEvent { bucket }),
            Err(malformed) => records.push(Err(malformed)),
        }
    }
    if records.iter().any(Result::is_ok) {
        return Ok(Body::Records(records));
    }
    match (records.into_iter().find_map(Result::err), test) {
        (Some(malformed), _) => Err(malformed),
        (None, Some(test)) => Ok(Body::TestEvent(test)),
        (None, None) => Err(Malformed::NoRecords),
    }
}

#[expect(clippy::large_enum_variant, reason = "it lives between two lines; a box would cost each record an allocation")]
enum Parsed<'a> {
    Record(Record<'a>),
    TestEvent(String),
}

fn record(index: usize, raw: &RawValue) -> Result<Parsed<'_>, Malformed> {
    let bad = |problem: String| Malformed::BadRecord { index, problem };
    let Object(entry): Object<Entry<'_>> = serde_json::from_str(raw.get()).map_err(|e| bad(shown(&e)))?;
    // NooBaa puts its test event among the records (s3-dialects.md 2.4). What MCS sends is known by its name alone (1.6): with an
    // `s3` member or without, an event of that name changes nothing.
    if is_test_name(&entry.event_name) || (entry.s3.is_none() && is_test_name(&entry.event)) {
        let named = entry.s3.and_then(|Object(s3)| s3.bucket).and_then(|Object(bucket)| bucket.name.text());
        let bucket = entry.bucket.text().or(named).unwrap_or_default();
        return Ok(Parsed::TestEvent(bucket.into_owned()));
    }
    let Some(Object(s3)) = entry.s3 else {
        // What a Lambda function is given by SNS or SQS also begins with Records (s3-dialects.md 3.4).
        return Err(Malformed::NotS3(format!("Records[{index}] has no s3 member")));
    };
    if !is_supported(&entry.event_version) {
        let version = entry.event_version.shown();
        return Err(Malformed::UnsupportedVersion { index, version });
    }
    let event_name = entry.event_name.text().map(without_prefix).filter(|name| !name.is_empty());
    let (bucket, owner) = match s3.bucket {
        Some(Object(bucket)) => (bucket.name.text(), bucket.owner.and_then(|Object(owner)| owner.principal_id.text())),
        None => (None, None),
    };
    let object = s3.object.map(|Object(object)| object);
    let (Some(event_name), Some(bucket), Some(object)) = (event_name, bucket, object) else {
        return Err(bad("eventName, s3.bucket.name or s3.object is missing".to_owned()));
    };
    let Some(key) = object.key.text() else {
        return Err(bad("s3.object.key is missing or empty".to_owned()));
    };
    Ok(Parsed::Record(Record {
        event_name,
        event_time: entry.event_time.text(),
        region: entry.aws_region.text(),
        request_id: entry.response_elements.and_then(|Object(elements)| elements.request_id.text()),
        bucket,
        owner,
        key,
        version_id: object.version_id.text(),
        e_tag: object.e_tag.text().map(without_quotes).filter(|tag| !tag.is_empty()),
        size: object.size.whole_number(),
        sequencer: match object.sequencer {
            Scalar::Integer(number) => Some(SentSequencer::Integer(number)),
            other => other.text().map(SentSequencer::Text),
        },
        raw,
    }))
}

/// An error may quote the text that it complains of, escaped and however long that is.
fn shown(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Characters of an error that are kept.
const MAX_DETAIL: usize = 200;

/// Whether an event of this name is S3's greeting. MCS lists it without the prefix (`s3-dialects.md` 1.1).
pub(crate) fn is_test_name(name: &Scalar<'_>) -> bool {
    matches!(name, Scalar::Text(text) if matches!(text.as_ref(), "s3:TestEvent" | "TestEvent"))
}

/// AWS's own rule is: equal major, any minor, unknown fields ignored (`sns.md` 3.2). MCS says 1.0. Absent is accepted,
/// because nothing else in a record depends on it.
fn is_supported(version: &Scalar<'_>) -> bool {
    match version {
        Scalar::Absent => true,
        Scalar::Text(text) => text.split_once('.').is_some_and(|(major, minor)| {
            matches!(major, "1" | "2") && !minor.is_empty() && minor.bytes().all(|c| c.is_ascii_digit())
        }),
        Scalar::Integer(_) | Scalar::Other => false,
    }
}

fn without_prefix(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.strip_prefix("s3:").unwrap_or(name)),
        Cow::Owned(name) => Cow::Owned(name.strip_prefix("s3:").map(str::to_owned).unwrap_or(name)),
    }
}

fn without_quotes(tag: Cow<'_, str>) -> Cow<'_, str> {
    match tag {
        Cow::Borrowed(tag) => Cow::Borrowed(tag.trim_matches('"')),
        Cow::Owned(tag) => Cow::Owned(tag.trim_matches('"').to_owned()),
    }
}

#[cfg(test)]
mod tests;
