//! Pure: record to event.
//!
//! One [`Record`] in its producer's words, and what is known about how it came, become one canonical [`Event`]. Nothing is
//! dropped here and nothing fails: what a record does not say stays unsaid, and its own text goes along.
//!
//! # Identity
//!
//! The id (hard case 1) is the first 15 bytes of a SHA-256 over these fields, one after another. Each field is its length in
//! bytes as a 32-bit big-endian number, then its bytes; an absent field is one of length 0.
//!
//! | # | field |
//! |---|---|
//! | 1 | instance id, decimal |
//! | 2 | bucket |
//! | 3 | key, decoded; as sent where it cannot be decoded |
//! | 4 | versionId |
//! | 5 | eventName without `s3:` |
//! | 6 | eTag without quotes |
//! | 7 | one letter, telling which of the following comes: what tells this change from the next of the same object |
//! | `S` | sequencer, as sent: where the dialect's kind is `aws` and one came |
//! | `T` | eventTime and x-amz-request-id, as sent, two fields: otherwise, where there is at least one of them |
//! | `N` | eventTime and sequencer, as sent, two fields: instead of `T` where there is a sequencer that no order can be told from, and no x-amz-request-id |
//! | `L` | last-modified time and the beginning of the walk that saw the change first, both in decimal milliseconds, two fields: what a listing found |
//! | `R` | the raw record: otherwise |
//!
//! The same change, announced again in another notification, has the same id; two changes that could be two have two ids. The
//! lengths make the fields unambiguous whatever bytes they hold.
//!
//! What a listing finds has the walk in its id because an object can come back as it was: written, deleted and written again with
//! the same content within the one second that LastModified resolves, or missing from one answer of a store that is eventually
//! consistent. A page that is walked again after a crash belongs to the same walk, so its events have the same ids.

mod listed;

use std::time::Duration;

use ring::digest;
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::event::{Event, EventId, EventType, ObjectType, Origin, Sequencer};
use crate::record::wire::is_deeper_than;
use crate::record::{Dialect, MAX_DEPTH, Record, SentSequencer};

pub use listed::{Finding, Listed, listed};

/// What is known about a record besides what it says.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The instance's number as decimal text. Part of the identity: each instance hears of a change once.
    pub instance_id: &'a str,
    /// How it came.
    pub origin: Origin,
    /// How its producer writes.
    pub dialect: Dialect,
    /// Topic, queue or route by which it came.
    pub topic: Option<&'a str>,
    /// Id of the notification that carried it.
    pub message_id: Option<&'a str>,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// The whole notification, where `POSTERN_FORMAT=sns` will need it.
    pub notification: Option<&'a str>,
}

/// The event name of a message that is no S3 event.
pub const GENERIC_EVENT_NAME: &str = "Notification";

/// The event of a record.
pub fn event(record: &Record<'_>, context: &Context<'_>) -> Event {
    let decoded = context.dialect.key_coding.decode(&record.key);
    let sequencer = record.sequencer.as_ref().and_then(|sent| context.dialect.sequencer.read(sent));
    let key = decoded.as_deref().unwrap_or(&record.key);
    let difference = match &sequencer {
        Some(Sequencer::Aws(sequencer)) => Difference::Sequencer(sequencer),
        // versitygw's time has whole seconds, in which an object can be written, removed, and written again as it was. Its counter
        // orders nothing over a restart, but tells these apart.
        _ if let (Some(time), None, Some(SentSequencer::Text(counter))) =
            (&record.event_time, &record.request_id, &record.sequencer) =>
        {
            Difference::TimeAndCounter(time, counter)
        }
        _ if record.event_time.is_some() || record.request_id.is_some() => Difference::TimeAndRequest(
            record.event_time.as_deref().unwrap_or_default(),
            record.request_id.as_deref().unwrap_or_default(),
        ),
        _ => Difference::Raw(record.raw.get()),
    };
    let id = identity(
        [
            context.instance_id,
            &record.bucket,
            key,
            record.version_id.as_deref().unwrap_or_default(),
            &record.event_name,
            record.e_tag.as_deref().unwrap_or_default(),
        ],
        &difference,
    );
    let ordered_at = sequencer.as_ref().and_then(|sequencer| time_of(sequencer, context.received_at));
    Event {
        id,
        event_type: event_type(&record.event_name),
        object_type: if key.ends_with('/') { ObjectType::Folder } else { ObjectType::File },
        bucket: record.bucket.as_ref().to_owned(),
        key: key.to_owned(),
        raw_key: (key != record.key).then(|| record.key.as_ref().to_owned()),
        event_name: record.event_name.as_ref().to_owned(),
        version_id: record.version_id.as_deref().map(str::to_owned),
        e_tag: record.e_tag.as_deref().map(str::to_owned),
        size: record.size,
        // A key as sent may read like another object's decoded key, and they would then share a lane. Without a sequencer
        // neither can make the other superseded.
        sequencer: decoded.as_ref().and(sequencer),
        time: record
            .event_time
            .as_deref()
            .and_then(UnixMillis::parse_rfc3339)
            .or(ordered_at)
            .unwrap_or(context.received_at),
        poll_date: None,
        origin: context.origin,
        topic: context.topic.map(str::to_owned),
        region: record.region.as_deref().map(str::to_owned),
        message_id: context.message_id.map(str::to_owned),
        notification: context.notification.map(Box::from),
        raw: record.raw.to_owned(),
    }
}

/// The time in a sequencer that counts seconds, as that of MCS S3 does, which writes no other time (`s3-dialects.md` 1.5). Nothing
/// documents that it does: a number is a time only where it lies between 2015, which is before that storage, and a day from now.
fn time_of(sequencer: &Sequencer, received_at: UnixMillis) -> Option<UnixMillis> {
    let Sequencer::Integer(seconds) = sequencer else { return None };
    let time = UnixMillis(i64::try_from(*seconds).ok()?.checked_mul(1000)?);
    let earliest = UnixMillis(time::macros::datetime!(2015-01-01 00:00 UTC).unix_timestamp() * 1000);
    (earliest..=received_at.plus(Duration::from_hours(24))).contains(&time).then_some(time)
}

/// The event of a genuine message that is no S3 event, or is a broken one: no bucket, the notification's id for a key, and
/// the message itself as `raw` (as JSON where it is JSON that an app can read, else as a JSON string).
pub fn generic(message: &str, context: &Context<'_>) -> Event {
    let key = context.message_id.unwrap_or_default();
    let id = identity([context.instance_id, "", key, "", GENERIC_EVENT_NAME, ""], &Difference::Raw(message));
    Event {
        id,
        event_type: EventType::Unknown,
        object_type: ObjectType::File,
        bucket: String::new(),
        key: key.to_owned(),
        raw_key: None,
        event_name: GENERIC_EVENT_NAME.to_owned(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: None,
        time: context.received_at,
        poll_date: None,
        origin: context.origin,
        topic: context.topic.map(str::to_owned),
        region: None,
        message_id: context.message_id.map(str::to_owned),
        notification: context.notification.map(Box::from),
        raw: as_json(message),
    }
}

/// What happened, in Cloud Elements' words: our declared mapping, as theirs is not published (`cloud-elements.md` 5).
fn event_type(name: &str) -> EventType {
    let (group, action) = name.split_once(':').unwrap_or((name, ""));
    match group {
        // MinIO files changes of an existing object's properties under ObjectCreated (s3-dialects.md 2.1).
        "ObjectCreated" if matches!(action, "PutTagging" | "DeleteTagging" | "PutRetention" | "PutLegalHold") => {
            EventType::Updated
        }
        "ObjectCreated" => EventType::Created,
        // A delete marker hides the object: for whoever reads the bucket it is gone. Ceph says ObjectLifecycle:Expiration:*.
        // MinIO's LifecycleDelMarkerExpiration removes a delete marker with all versions behind it.
        "ObjectRemoved" | "LifecycleExpiration" | "LifecycleDelMarkerExpiration" => EventType::Deleted,
        "ObjectLifecycle" if action.starts_with("Expiration") => EventType::Deleted,
        // ObjectRestore:Delete ends the temporary copy of an archived object, not the object.
        "IntelligentTiering"
        | "LifecycleTransition"
        | "ObjectAcl"
        | "ObjectAnnotation"
        | "ObjectRestore"
        | "ObjectRetention"
        | "ObjectTagging"
        | "ObjectTransition"
        | "Replication" => EventType::Updated,
        "ObjectLifecycle" if action.starts_with("Transition") => EventType::Updated,
        // ReducedRedundancyLostObject among them. Nobody removed that object: its key is still listed and S3 lost its data.
        // An app that mirrors a bucket answers DELETED by deleting its own copy, the only one left to restore it from.
        _ => EventType::Unknown,
    }
}

/// What tells a change from the next one of the same object and kind.
enum Difference<'a> {
    Listing(&'a str, &'a str),
    Raw(&'a str),
    Sequencer(&'a str),
    TimeAndCounter(&'a str, &'a str),
    TimeAndRequest(&'a str, &'a str),
}

/// See the module's table.
fn identity(common: [&str; 6], difference: &Difference<'_>) -> EventId {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut field = |text: &str| {
        // A notification is far below 4 GiB; a longer field would only have its length written wrong.
        hash.update(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    };
    common.into_iter().for_each(&mut field);
    match difference {
        Difference::Listing(modified, seen) => ["L", modified, seen].into_iter().for_each(field),
        Difference::Raw(raw) => ["R", raw].into_iter().for_each(field),
        Difference::Sequencer(sequencer) => ["S", sequencer].into_iter().for_each(field),
        Difference::TimeAndCounter(time, counter) => ["N", time, counter].into_iter().for_each(field),
        Difference::TimeAndRequest(time, request) => ["T", time, request].into_iter().for_each(field),
    }
    let mut id = [0; 15];
    id.copy_from_slice(&hash.finish().as_ref()[..15]);
    EventId(id)
}

fn as_json(message: &str) -> Box<RawValue> {
    if !is_deeper_than(message, MAX_DEPTH)
        && let Ok(raw) = RawValue::from_string(message.to_owned())
    {
        return raw;
    }
    // A string is always JSON, and null stands where serde_json should ever think otherwise.
    serde_json::value::to_raw_value(message).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
