//! Pure: what a body at an MCS URL is. Its `Type` decides and no header does: their names and values differ between the
//! provider's own pages (`s3-dialects.md` 1.2).
//!
//! Nothing here is signed, so nothing is forgiven that no genuine sender does: a member that stands twice, a Type that is no text, a
//! message of Amazon SNS. What Amazon SNS sends is told apart by members that MCS does not have, and is never answered as if it
//! were MCS (`s3-dialects.md` 0.1 and 0.4).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::record::wire::{Object, Scalar, is_deeper_than};
use crate::record::{MAX_DEPTH, is_test_name};

/// Bytes of a Token or a Timestamp at most; MCS sends 48 and 25.
const MAX_SHORT: usize = 1024;
/// Bytes of a TopicArn at most: a project, a bucket of 63 characters, and every event name that there is.
const MAX_TOPIC: usize = 4096;

/// A well-formed body. Nothing in it is proven: the URL's secret speaks for its sender, and nothing else does.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// `Records` is there and empty: nothing happened.
    Empty,
    /// A request to prove the URL.
    Handshake(Handshake<'a>),
    /// Records or a test event, for the desk to read.
    Notification(&'a str),
}

/// What is asked when somebody saves a webhook.
#[derive(PartialEq, Eq)]
pub struct Handshake<'a> {
    /// `Token`, the key of the chain; not empty.
    pub token: Cow<'a, str>,
    /// `Timestamp` as it came: read and written again it would be another message.
    pub timestamp: Cow<'a, str>,
    /// `TopicArn`.
    pub topic: Topic<'a>,
}

/// Shows what a log may show.
impl fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// `project|bucket|event[,event…]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The whole text, which is what is signed.
    pub arn: Cow<'a, str>,
    /// Where the project and where the bucket ends.
    bars: (usize, usize),
}

impl<'a> Topic<'a> {
    /// Splits at the first two bars; `None` where one of the three parts is missing or empty.
    pub fn parse(arn: Cow<'a, str>) -> Option<Self> {
        let (project, rest) = arn.split_once('|')?;
        let (bucket, events) = rest.split_once('|')?;
        if project.is_empty() || bucket.is_empty() || events.is_empty() {
            return None;
        }
        let bars = (project.len(), project.len() + 1 + bucket.len());
        Some(Self { arn, bars })
    }

    /// The project's id, such as `mcs2883541269`.
    pub fn project(&self) -> &str {
        &self.arn[..self.bars.0]
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.arn[self.bars.0 + 1..self.bars.1]
    }

    /// The events, comma-separated, wildcards as they were saved.
    pub fn events(&self) -> &str {
        &self.arn[self.bars.1 + 1..]
    }
}

/// Why a body is refused. The variant is the word for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A message of Amazon SNS: 403, whatever it asks.
    AmazonSns,
    /// A handshake without a Token, Timestamp or TopicArn that could be signed: 400.
    BadHandshake,
    /// No JSON object, too deep, or a member stands twice: 400.
    BadJson,
    /// JSON that is neither a handshake nor a notification: 400.
    NoRecords,
}

impl Refused {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AmazonSns => "sns_message",
            Self::BadHandshake => "bad_handshake",
            Self::BadJson => "bad_json",
            Self::NoRecords => "no_records",
        }
    }

    /// The answer's status.
    pub fn status(self) -> u16 {
        match self {
            Self::AmazonSns => 403,
            Self::BadHandshake | Self::BadJson | Self::NoRecords => 400,
        }
    }
}

/// Tells what `body` is.
///
/// # Errors
/// [`Refused`] for what MCS S3 does not send.
pub fn read(body: &[u8]) -> Result<Message<'_>, Refused> {
    let text = std::str::from_utf8(body).map_err(|_| Refused::BadJson)?;
    if is_deeper_than(text, MAX_DEPTH) {
        return Err(Refused::BadJson);
    }
    let Object(members): Object<Members<'_>> = serde_json::from_str(text).map_err(|_| Refused::BadJson)?;
    members.judge(text)
}

/// The members that tell one message from another; serde refuses a second one of the same name.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow, default)]
    r#type: Scalar<'a>,
    #[serde(borrow, default)]
    token: Scalar<'a>,
    #[serde(borrow, default)]
    timestamp: Scalar<'a>,
    #[serde(borrow, default)]
    topic_arn: Scalar<'a>,
    #[serde(borrow, default)]
    signature_version: Scalar<'a>,
    #[serde(borrow, default)]
    event: Scalar<'a>,
    #[serde(default)]
    records: Records,
    /// Only Amazon SNS has the following.
    #[serde(default)]
    message_id: Present,
    #[serde(default)]
    signature: Present,
    #[serde(default, rename = "SigningCertURL", alias = "SigningCertUrl")]
    signing_cert_url: Present,
    #[serde(default, rename = "SubscribeURL", alias = "SubscribeUrl")]
    subscribe_url: Present,
    #[serde(default, rename = "UnsubscribeURL", alias = "UnsubscribeUrl")]
    unsubscribe_url: Present,
}

impl<'a> Members<'a> {
    fn judge(self, text: &'a str) -> Result<Message<'a>, Refused> {
        let amazons =
            [self.message_id, self.signature, self.signing_cert_url, self.subscribe_url, self.unsubscribe_url];
        if amazons.iter().any(|Present(present)| *present) {
            return Err(Refused::AmazonSns);
        }
        let kind = match &self.r#type {
            Scalar::Absent => None,
            Scalar::Text(kind) => Some(&**kind),
            Scalar::Integer(_) | Scalar::Other => return Err(Refused::BadJson),
        };
        if kind == Some("SubscriptionConfirmation") {
            // Both at once would be two answers to one request.
            if self.records != Records::Absent {
                return Err(Refused::BadHandshake);
            }
            return self.handshake().map(Message::Handshake).ok_or(Refused::BadHandshake);
        }
        match self.records {
            Records::Some => Ok(Message::Notification(text)),
            Records::Empty => Ok(Message::Empty),
            Records::NoArray => Err(Refused::NoRecords),
            Records::Absent if is_test_name(&self.event) => Ok(Message::Notification(text)),
            Records::Absent => match kind {
                // Their bodies are an envelope with the records in a text: so speaks SNS, whatever else is missing.
                Some("Notification" | "UnsubscribeConfirmation") => Err(Refused::AmazonSns),
                _ => Err(Refused::NoRecords),
            },
        }
    }

    fn handshake(self) -> Option<Handshake<'a>> {
        // MCS writes a number. There is one chain so far; another version would be another one, and this answer a wrong one.
        let known = match &self.signature_version {
            Scalar::Absent | Scalar::Integer(1) => true,
            Scalar::Text(version) => version == "1",
            Scalar::Integer(_) | Scalar::Other => false,
        };
        let bounded = |member: Scalar<'a>, most: usize| member.text().filter(|text| text.len() <= most);
        let token = bounded(self.token, MAX_SHORT)?;
        let timestamp = bounded(self.timestamp, MAX_SHORT)?;
        let topic = Topic::parse(bounded(self.topic_arn, MAX_TOPIC)?)?;
        known.then_some(Handshake { token, timestamp, topic })
    }
}

/// Whether a member is there, null included.
#[derive(Clone, Copy, Default)]
struct Present(bool);

impl<'de> serde::Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// What `Records` is, without building it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Records {
    #[default]
    Absent,
    Empty,
    NoArray,
    Some,
}

impl<'de> serde::Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Records;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut found = Records::Empty;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    found = Records::Some;
                }
                Ok(found)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Records::NoArray)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Records::NoArray)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[cfg(test)]
mod tests;
