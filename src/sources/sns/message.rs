//! Reading an SNS message: strict JSON, required strings, and one grammar for each member (`sns.md` 1.1 and 0.3).
//!
//! The string that SNS signs joins values with line feeds, without lengths (`sns.md` 1.2). What makes it unambiguous is the grammar:
//! every member but `Message` is one line of a fixed shape, so read from its end the string has one meaning (`sns.md` 2.3).
//! Whatever SNS does not sign and we do not need (UnsubscribeURL, MessageAttributes, unknown members) is checked to be JSON and dropped.

mod json;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::refusal::{Reason, Refusal};
use super::url::TopicArn;
use crate::clock::UnixMillis;
use json::{Member, Members};

/// What the request's headers say of the message. They are not signed: they can make us refuse, never accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'h> {
    /// `x-amz-sns-message-type`.
    pub message_type: Option<&'h str>,
    /// `x-amz-sns-topic-arn`.
    pub topic_arn: Option<&'h str>,
    /// `x-amz-sns-rawdelivery: true`.
    pub raw_delivery: bool,
}

/// `Type` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was published.
    Notification,
    /// Somebody subscribed us.
    SubscriptionConfirmation,
    /// Somebody ended our subscription.
    UnsubscribeConfirmation,
}

impl Kind {
    /// The word in the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Notification, Self::SubscriptionConfirmation, Self::UnsubscribeConfirmation]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A well-formed message. Nothing in it is proven yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    kind: Kind,
    message_id: Cow<'a, str>,
    topic: TopicArn<'a>,
    subject: Option<Cow<'a, str>>,
    message: Cow<'a, str>,
    timestamp_text: Cow<'a, str>,
    timestamp: UnixMillis,
    signature_version: u8,
    signature: Cow<'a, str>,
    signing_cert_url: Cow<'a, str>,
    confirmation: Option<Confirmation<'a>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Confirmation<'a> {
    token: Cow<'a, str>,
    subscribe_url: Cow<'a, str>,
}

/// Reads `body`.
///
/// # Errors
/// The first rule that the message breaks, in the order of `sns.md` 2.4.
pub fn parse<'a>(body: &'a [u8], hints: &Hints<'_>) -> Result<Envelope<'a>, Refusal> {
    if hints.raw_delivery {
        return Err(Refusal::new(Reason::RawDelivery, "raw delivery is not signed: turn it off for this subscription"));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Refusal::new(Reason::NotUtf8, format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let members = json::read(text)?;
    Envelope::from_members(members, hints)
}

impl<'a> Envelope<'a> {
    fn from_members(mut members: Members<'a>, hints: &Hints<'_>) -> Result<Self, Refusal> {
        let kind = match members.take(Member::Type) {
            json::Value::Text(text) => Kind::parse(&text).ok_or_else(|| {
                Refusal::new(Reason::BadType, format!("Type is {:?}, which SNS does not send", json::excerpt(&text)))
            })?,
            json::Value::Absent => return Err(Refusal::new(Reason::BadType, "Type is absent: not an SNS message")),
            json::Value::Null | json::Value::Other => {
                return Err(Refusal::new(Reason::NotStringType, "Type is not a string"));
            }
        };
        if let Some(hint) = hints.message_type.filter(|hint| *hint != kind.as_str()) {
            let detail = format!("the header says {:?}, the body {}", json::excerpt(hint), kind.as_str());
            return Err(Refusal::new(Reason::TypeHeaderMismatch, detail));
        }

        let message_id = members.text(Member::MessageId)?;
        let topic_arn = members.text(Member::TopicArn)?;
        let message = members.text(Member::Message)?;
        let timestamp_text = members.text(Member::Timestamp)?;
        let version = members.text(Member::SignatureVersion)?;
        let signature = members.text(Member::Signature)?;
        let signing_cert_url = members.text(Member::SigningCertUrl)?;
        let (subject, confirmation) = match kind {
            Kind::Notification => (members.optional_text(Member::Subject)?, None),
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation => {
                let token = members.text(Member::Token)?;
                let subscribe_url = members.text(Member::SubscribeUrl)?;
                (None, Some(Confirmation { token, subscribe_url }))
            }
        };

        if !is_message_id(&message_id) {
            return Err(Refusal::new(Reason::BadMessageId, "MessageId is not a lower-case UUID"));
        }
        let topic = TopicArn::parse(topic_arn)?;
        if subject.as_deref().is_some_and(|s| s.is_empty() || s.chars().any(char::is_control)) {
            return Err(Refusal::new(
                Reason::BadSubject,
                "Subject is empty or holds a line break or control character",
            ));
        }
        let timestamp = parse_timestamp(&timestamp_text).ok_or_else(|| {
            Refusal::new(Reason::BadTimestamp, "Timestamp is not a moment in the form 2026-03-06T19:53:21.424Z")
        })?;
        let signature_version = match &*version {
            "1" => 1,
            "2" => 2,
            _ => return Err(Refusal::new(Reason::BadSignatureVersion, "SignatureVersion is neither \"1\" nor \"2\"")),
        };
        if let Some(confirmation) = &confirmation {
            if !is_token(&confirmation.token) {
                return Err(Refusal::new(Reason::BadToken, "Token is not 32 to 1024 lower-case hexadecimal digits"));
            }
            if !is_line(&confirmation.subscribe_url) {
                return Err(Refusal::new(Reason::SubscribeUrlUntrusted, "SubscribeURL is not a URL"));
            }
        }
        if let Some(hint) = hints.topic_arn.filter(|hint| *hint != topic.as_str()) {
            let detail = format!("the header says {:?}, the body {}", json::excerpt(hint), topic.as_str());
            return Err(Refusal::new(Reason::TopicHeaderMismatch, detail));
        }
        Ok(Self {
            kind,
            message_id,
            topic,
            subject,
            message,
            timestamp_text,
            timestamp,
            signature_version,
            signature,
            signing_cert_url,
            confirmation,
        })
    }

    /// `Type`.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `MessageId`, a lower-case UUID; the same on every retry.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// `TopicArn`.
    pub fn topic(&self) -> &TopicArn<'a> {
        &self.topic
    }

    /// `Subject` of a notification that has one.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `Message`, decoded.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `Timestamp` as a time.
    pub fn timestamp(&self) -> UnixMillis {
        self.timestamp
    }

    /// `Timestamp` as it came, which is what is signed.
    pub fn timestamp_text(&self) -> &str {
        &self.timestamp_text
    }

    /// `SignatureVersion`: 1 (SHA-1) or 2 (SHA-256). Not signed itself.
    pub fn signature_version(&self) -> u8 {
        self.signature_version
    }

    /// `SigningCertURL`. Not signed.
    pub fn signing_cert_url(&self) -> &str {
        &self.signing_cert_url
    }

    /// `Token` of a confirmation. A secret: whoever has it can confirm.
    pub fn token(&self) -> Option<&str> {
        self.confirmation.as_ref().map(|c| &*c.token)
    }

    /// `SubscribeURL` of a confirmation. Never to be visited: it is rebuilt from what is verified.
    pub fn subscribe_url(&self) -> Option<&str> {
        self.confirmation.as_ref().map(|c| &*c.subscribe_url)
    }

    /// The signature's bytes: standard base64, padded, without trailing bits or blanks.
    ///
    /// # Errors
    /// `bad_signature_encoding`.
    pub fn signature(&self) -> Result<Vec<u8>, Refusal> {
        let refuse = || Refusal::new(Reason::BadSignatureEncoding, "Signature is not padded standard base64");
        let bytes = STANDARD.decode(self.signature.as_bytes()).map_err(|_| refuse())?;
        if bytes.is_empty() { Err(refuse()) } else { Ok(bytes) }
    }

    /// The string that SNS signs: each signed member's name and decoded value on a line of its own, in byte order of the names
    /// (`sns.md` 1.2). From two different accepted messages never the same string.
    pub fn canonical_string(&self) -> String {
        let mut out = String::with_capacity(self.message.len() + 1024);
        let mut line = |name: &str, value: &str| {
            out.push_str(name);
            out.push('\n');
            out.push_str(value);
            out.push('\n');
        };
        line("Message", &self.message);
        line("MessageId", &self.message_id);
        if let Some(subject) = &self.subject {
            line("Subject", subject);
        }
        if let Some(confirmation) = &self.confirmation {
            line("SubscribeURL", &confirmation.subscribe_url);
        }
        line("Timestamp", &self.timestamp_text);
        if let Some(confirmation) = &self.confirmation {
            line("Token", &confirmation.token);
        }
        line("TopicArn", self.topic.as_str());
        line("Type", self.kind.as_str());
        out
    }
}

/// Shows what a log may show: no token, signature or content.
impl std::fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("kind", &self.kind)
            .field("message_id", &self.message_id)
            .field("topic", &self.topic.as_str())
            .field("timestamp", &self.timestamp_text)
            .finish_non_exhaustive()
    }
}

fn is_message_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => is_hex(b),
        })
}

fn is_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

/// Amazon's tokens have 224 or 256 digits so far; other implementations (hard case 8) other lengths.
fn is_token(text: &str) -> bool {
    (32..=1024).contains(&text.len()) && text.bytes().all(is_hex)
}

/// Printable ASCII without blanks, as a URL is; the URL rules proper need the policy.
fn is_line(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// Exactly `YYYY-MM-DDThh:mm:ss.mmmZ`, and a moment that exists. Leap seconds do not occur in SNS's times.
fn parse_timestamp(text: &str) -> Option<UnixMillis> {
    let b = text.as_bytes();
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if b.len() != 24 || punctuation.iter().any(|(at, mark)| b[*at] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        b[from..to].iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, millis) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = i64::from(date.to_julian_day()) - i64::from(time::macros::date!(1970 - 01 - 01).to_julian_day());
    Some(UnixMillis(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis))
}

#[cfg(test)]
mod tests;
