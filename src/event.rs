//! The canonical event: the contract between whatever announced a change and the app that hears of it.
//!
//! A source turns what it received into [`Event`]s through `normalize`; the queue keeps them; a format of `dispatch` writes
//! them as the body of a callback. Nothing else crosses those borders.

use std::cmp::Ordering;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::UnixMillis;

/// The identity of one change: 15 bytes of a SHA-256, printed as 20 characters of base64url (hard case 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 15]);

impl EventId {
    /// Reads the 20-character form; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("an event id has 20 base64url characters"))
    }
}

/// What happened to the object, in the words of Cloud Elements (`cloud-elements.md` 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventType {
    /// The object was written; S3 itself cannot tell a new object from an overwritten one.
    Created,
    /// The object or a marker of it was removed.
    Deleted,
    /// Something that is not one of the others, such as an event name that did not exist when this was written.
    Unknown,
    /// The object stayed and something about it changed: tags, ACL, storage class.
    Updated,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Deleted => "DELETED",
            Self::Unknown => "UNKNOWN",
            Self::Updated => "UPDATED",
        }
    }
}

/// Object kinds of the documents hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectType {
    /// An object.
    File,
    /// An object whose key ends in `/`, as consoles make them.
    Folder,
}

impl ObjectType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
        }
    }
}

/// How we came to know of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// An MCS S3 webhook.
    Mcs,
    /// A listing of the bucket.
    Poll,
    /// A listing that found what push had missed.
    Reconcile,
    /// Bare S3 records over HTTP.
    S3http,
    /// Amazon SNS over HTTPS.
    Sns,
    /// Amazon SQS.
    Sqs,
}

impl Origin {
    /// Reads the word of [`Origin::as_str`]; `None` when it is not one.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Mcs, Self::Poll, Self::Reconcile, Self::S3http, Self::Sns, Self::Sqs]
            .into_iter()
            .find(|origin| origin.as_str() == word)
    }

    /// The word in logs, metrics and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mcs => "mcs",
            Self::Poll => "poll",
            Self::Reconcile => "reconcile",
            Self::S3http => "s3http",
            Self::Sns => "sns",
            Self::Sqs => "sqs",
        }
    }
}

/// A producer's order number within one key. Values of different kinds are never compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sequencer {
    /// Hexadecimal text as Amazon S3 sends it (`sns.md` 3.4).
    Aws(String),
    /// Hexadecimal text of a little-endian `{u32 seconds, u32 nanoseconds}`: Ceph RGW (`s3-dialects.md` 2.2).
    CephLe(String),
    /// A plain number: MCS S3.
    Integer(u64),
}

impl Sequencer {
    /// Which of two changes of the same key came first, or `None` where that is not provable.
    ///
    /// AWS documents two paddings for texts of different length; where they disagree the order is unknown (`sns.md` 3.4).
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Aws(a), Self::Aws(b)) => compare_hex(a, b),
            (Self::CephLe(a), Self::CephLe(b)) => Some(ceph_time(a)?.cmp(&ceph_time(b)?)),
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Longest sequencer that is compared; S3 sends 18 characters.
const MAX_SEQUENCER: usize = 64;

fn compare_hex(a: &str, b: &str) -> Option<Ordering> {
    let plain = |s: &str| !s.is_empty() && s.len() <= MAX_SEQUENCER && s.bytes().all(|c| c.is_ascii_hexdigit());
    if !plain(a) || !plain(b) {
        return None;
    }
    let (a, b) = (a.to_ascii_uppercase(), b.to_ascii_uppercase());
    let width = a.len().max(b.len());
    let right = format!("{a:0<width$}").cmp(&format!("{b:0<width$}"));
    let left = format!("{a:0>width$}").cmp(&format!("{b:0>width$}"));
    (right == left).then_some(right)
}

fn ceph_time(text: &str) -> Option<(u32, u32)> {
    if text.len() != 16 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let word = |s: &str| u32::from_str_radix(s, 16).ok().map(u32::swap_bytes);
    Some((word(&text[..8])?, word(&text[8..])?))
}

/// One change of one object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Deterministic identity (hard case 1).
    pub id: EventId,
    /// What happened, in Cloud Elements' words.
    pub event_type: EventType,
    /// `file` or `folder`.
    pub object_type: ObjectType,
    /// The bucket's name.
    pub bucket: String,
    /// The decoded key, or the key as sent where it cannot be decoded.
    pub key: String,
    /// The key as the producer sent it, where that differs from `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_key: Option<String>,
    /// The producer's event name without `s3:`, such as `ObjectCreated:Put`.
    pub event_name: String,
    /// Version of the object in a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Entity tag without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Size in bytes where the producer told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Order within the key, where the source's kind is comparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<Sequencer>,
    /// When it happened, by the producer's clock; when we received it where the producer does not say.
    pub time: UnixMillis,
    /// When the listing that found it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_date: Option<UnixMillis>,
    /// How we came to know of it.
    pub origin: Origin,
    /// Topic, queue or route by which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The producer's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Id of the notification that carried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The whole notification as it came; kept only for `POSTERN_FORMAT=sns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Box<str>>,
    /// The producer's record, byte for byte.
    pub raw: Box<RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(a: &str, b: &str) -> Option<Ordering> {
        Sequencer::Aws(a.into()).compare(&Sequencer::Aws(b.into()))
    }

    #[test]
    fn sequencers_of_equal_length_compare_as_text_in_any_case() {
        assert_eq!(aws("0055AED6DCD90281E5", "0055aed6dcd90281e5"), Some(Ordering::Equal));
        assert_eq!(aws("0066DB195BD59E3C47", "0066DB365A2BEC5530"), Some(Ordering::Less));
    }

    #[test]
    fn sequencers_whose_order_hangs_on_the_padding_are_ambiguous() {
        assert_eq!(aws("1", "02"), None);
        assert_eq!(aws("0055AED6DCD90281E5", "0055AED6DCD90281"), Some(Ordering::Greater));
    }

    #[test]
    fn what_is_no_sequencer_is_not_comparable() {
        assert_eq!(aws("", "00"), None);
        assert_eq!(aws("xyz", "00"), None);
        assert_eq!(Sequencer::Integer(1).compare(&Sequencer::Aws("02".into())), None);
    }

    #[test]
    fn ceph_sequencers_compare_by_their_little_endian_time() {
        // 2024-02-15 against 2019-11-22, from s3-dialects.md 2.2; plain text order says the opposite.
        let newer = Sequencer::CephLe("AFE8CD6506C2FD36".into());
        let older = Sequencer::CephLe("F7E6D75DC742D108".into());
        assert_eq!(newer.compare(&older), Some(Ordering::Greater));
    }

    #[test]
    fn an_event_id_reads_back_from_its_text() {
        let id = EventId([7; 15]);
        assert_eq!(id.to_string().len(), 20);
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(EventId::parse("short"), None);
    }
}
