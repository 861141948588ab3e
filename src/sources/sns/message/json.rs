//! The JSON of a message, strictly: one object, no member twice, every escape checked, also in members that nobody reads.
//!
//! serde_json's own `IgnoredAny` skips strings without looking at their escapes, so that a lone surrogate passes; a message
//! that another parser reads differently than we do is not one to accept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::sources::sns::refusal::{Reason, Refusal};

/// Members of an object that are kept in mind to find duplicates. SNS sends at most 11.
const MAX_MEMBERS: usize = 64;

/// The members that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Message,
    MessageId,
    Signature,
    SignatureVersion,
    SigningCertUrl,
    Subject,
    SubscribeUrl,
    Timestamp,
    Token,
    TopicArn,
    Type,
}

const KNOWN: usize = 11;

impl Member {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Message" => Self::Message,
            "MessageId" => Self::MessageId,
            "Signature" => Self::Signature,
            "SignatureVersion" => Self::SignatureVersion,
            "SigningCertURL" => Self::SigningCertUrl,
            "Subject" => Self::Subject,
            "SubscribeURL" => Self::SubscribeUrl,
            "Timestamp" => Self::Timestamp,
            "Token" => Self::Token,
            "TopicArn" => Self::TopicArn,
            "Type" => Self::Type,
            _ => return None,
        })
    }

    fn missing(self) -> Reason {
        match self {
            Self::Message => Reason::MissingMessage,
            Self::MessageId => Reason::MissingMessageId,
            Self::Signature => Reason::MissingSignature,
            Self::SignatureVersion => Reason::MissingSignatureVersion,
            Self::SigningCertUrl => Reason::MissingSigningCertUrl,
            // Optional, so never missing.
            Self::Subject => Reason::BadSubject,
            Self::SubscribeUrl => Reason::MissingSubscribeUrl,
            Self::Timestamp => Reason::MissingTimestamp,
            Self::Token => Reason::MissingToken,
            Self::TopicArn => Reason::MissingTopicArn,
            Self::Type => Reason::BadType,
        }
    }

    fn not_string(self) -> Reason {
        match self {
            Self::Message => Reason::NotStringMessage,
            Self::MessageId => Reason::NotStringMessageId,
            Self::Signature => Reason::NotStringSignature,
            Self::SignatureVersion => Reason::NotStringSignatureVersion,
            Self::SigningCertUrl => Reason::NotStringSigningCertUrl,
            Self::Subject => Reason::NotStringSubject,
            Self::SubscribeUrl => Reason::NotStringSubscribeUrl,
            Self::Timestamp => Reason::NotStringTimestamp,
            Self::Token => Reason::NotStringToken,
            Self::TopicArn => Reason::NotStringTopicArn,
            Self::Type => Reason::NotStringType,
        }
    }
}

/// A member's value, as far as it matters.
#[derive(Debug, Default)]
pub(super) enum Value<'a> {
    #[default]
    Absent,
    Null,
    Text(Cow<'a, str>),
    Other,
}

/// The members of a message.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    known: [Value<'a>; KNOWN],
    unknown: Vec<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    /// Takes the value of `member` out.
    pub(super) fn take(&mut self, member: Member) -> Value<'a> {
        std::mem::take(&mut self.known[member as usize])
    }

    /// Takes a string out that must be there.
    pub(super) fn text(&mut self, member: Member) -> Result<Cow<'a, str>, Refusal> {
        match self.take(member) {
            Value::Text(text) => Ok(text),
            Value::Absent => Err(Refusal::new(member.missing(), "a required member is absent")),
            Value::Null | Value::Other => Err(Refusal::new(member.not_string(), "a required member is not a string")),
        }
    }

    /// Takes a string out that may be absent or null.
    pub(super) fn optional_text(&mut self, member: Member) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.take(member) {
            Value::Text(text) => Ok(Some(text)),
            Value::Absent | Value::Null => Ok(None),
            Value::Other => Err(Refusal::new(member.not_string(), "a member is neither a string nor null")),
        }
    }

    /// The form in which SNS hands messages to Lambda functions writes `Url`; over HTTP it is a sign of confusion or worse.
    fn refuse_lambda_spelling(&self) -> Result<(), Refusal> {
        for name in &self.unknown {
            let (present, missing) = match &**name {
                "SigningCertUrl" => (Some(Member::SigningCertUrl), Reason::MissingSigningCertUrl),
                "SubscribeUrl" => (Some(Member::SubscribeUrl), Reason::MissingSubscribeUrl),
                "UnsubscribeUrl" => (None, Reason::BadJson),
                _ => continue,
            };
            let both = present.is_some_and(|member| !matches!(self.known[member as usize], Value::Absent));
            let reason = if both { Reason::DuplicateKey } else { missing };
            return Err(Refusal::new(reason, format!("{name} is not how SNS spells this member over HTTP")));
        }
        Ok(())
    }
}

/// The first characters of a text that somebody else wrote, for a detail.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads the one object that `text` must be.
pub(super) fn read(text: &str) -> Result<Members<'_>, Refusal> {
    let mut duplicate = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer
        .deserialize_map(Object { duplicate: &mut duplicate })
        .and_then(|members| deserializer.end().map(|()| members));
    match (members, duplicate) {
        (Ok(members), _) => {
            members.refuse_lambda_spelling()?;
            Ok(members)
        }
        (Err(_), Some(name)) => {
            Err(Refusal::new(Reason::DuplicateKey, format!("the member {:?} occurs twice", excerpt(&name))))
        }
        // serde_json's own words may quote the input; its position says enough.
        (Err(error), None) => Err(Refusal::new(
            Reason::BadJson,
            format!(
                "not one strict JSON object: {} at line {} column {}",
                category(&error),
                error.line(),
                error.column()
            ),
        )),
    }
}

fn category(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "a syntax error",
        serde_json::error::Category::Data => "not an object, or too many members",
        serde_json::error::Category::Eof => "ends too early",
    }
}

struct Object<'s> {
    duplicate: &'s mut Option<String>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if let Some(member) = Member::named(&name) {
                if !matches!(members.known[member as usize], Value::Absent) {
                    *self.duplicate = Some(name.into_owned());
                    return Err(de::Error::custom("duplicate member"));
                }
                members.known[member as usize] = map.next_value_seed(Keep)?;
            } else {
                if members.unknown.contains(&name) {
                    *self.duplicate = Some(name.into_owned());
                    return Err(de::Error::custom("duplicate member"));
                }
                if members.unknown.len() == MAX_MEMBERS {
                    return Err(de::Error::custom("too many members"));
                }
                members.unknown.push(name);
                map.next_value::<Checked>()?;
            }
        }
        Ok(members)
    }
}

/// A string that borrows from the body where it holds no escape; serde's own `Cow` always copies.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// Keeps a string or null, checks and drops anything else.
struct Keep;

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! visit_scalars {
    ($value:expr) => {
        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<Checked>()?.is_some() {}
            Ok($value)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<Checked, Checked>()?.is_some() {}
            Ok($value)
        }
    };
}

impl<'de> Visitor<'de> for Keep {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    visit_scalars!(Value::Other);
}

/// Any value, read with all its escapes checked and its depth bounded by serde_json (128), and dropped.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Checked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Checked)
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Checked)
            }

            visit_scalars!(Checked);
        }
        deserializer.deserialize_any(Look)
    }
}
