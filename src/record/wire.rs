//! The JSON of a message, borrowed. Only what is needed is named; everything else is skipped without being built.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_RECORDS;

/// The top level: AWS, MinIO's wrapper with more members, or a bare test event.
#[derive(serde::Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default, rename = "Records")]
    pub(super) records: Option<Entries<'a>>,
    #[serde(borrow, default, rename = "Event")]
    pub(super) event: Scalar<'a>,
    #[serde(borrow, default, rename = "Bucket")]
    pub(super) bucket: Scalar<'a>,
}

/// A member of `Records`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow, default)]
    pub(super) event_version: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) event_name: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) event_time: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) aws_region: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) response_elements: Option<Object<ResponseElements<'a>>>,
    #[serde(borrow, default)]
    pub(super) s3: Option<Object<S3<'a>>>,
    /// Only of a test event.
    #[serde(borrow, default, rename = "Event")]
    pub(super) event: Scalar<'a>,
    /// Only of a test event.
    #[serde(borrow, default, rename = "Bucket")]
    pub(super) bucket: Scalar<'a>,
}

#[derive(serde::Deserialize)]
pub(super) struct ResponseElements<'a> {
    #[serde(borrow, default, rename = "x-amz-request-id")]
    pub(super) request_id: Scalar<'a>,
}

#[derive(serde::Deserialize)]
pub(super) struct S3<'a> {
    #[serde(borrow, default)]
    pub(super) bucket: Option<Object<Bucket<'a>>>,
    #[serde(borrow, default)]
    pub(super) object: Option<Object<S3Object<'a>>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Bucket<'a> {
    #[serde(borrow, default)]
    pub(super) name: Scalar<'a>,
    #[serde(borrow, default, rename = "ownerIdentity")]
    pub(super) owner: Option<Object<Owner<'a>>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Owner<'a> {
    #[serde(borrow, default, rename = "principalId")]
    pub(super) principal_id: Scalar<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct S3Object<'a> {
    #[serde(borrow, default)]
    pub(super) key: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) size: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) e_tag: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) version_id: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) sequencer: Scalar<'a>,
}

/// A JSON object and nothing else. A derived struct would also take an array, member by member.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapOnly<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(MapOnly(PhantomData))
    }
}

/// The texts of the records, no more than are allowed.
pub(super) struct Entries<'a> {
    pub(super) raw: Vec<&'a RawValue>,
    pub(super) truncated: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of records")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut raw = Vec::new();
                while raw.len() < MAX_RECORDS {
                    match seq.next_element()? {
                        Some(entry) => raw.push(entry),
                        None => return Ok(Entries { raw, truncated: false }),
                    }
                }
                let mut truncated = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    truncated = true;
                }
                Ok(Entries { raw, truncated })
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

/// A member whose JSON type differs between producers.
#[derive(Default)]
pub(crate) enum Scalar<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A whole number that is not negative.
    Integer(u64),
    /// Something that no known producer sends here; its text stays in the raw record.
    Other,
    /// Text.
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// The text, if there is any: empty is the same as absent in every place where this is asked.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Absent | Self::Integer(_) | Self::Other | Self::Text(_) => None,
        }
    }

    /// A whole number as number or as digits.
    pub(super) fn whole_number(self) -> Option<u64> {
        match self {
            Self::Integer(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            Self::Absent | Self::Other => None,
        }
    }

    /// A bounded form for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Other => "neither text nor a whole number".to_owned(),
            Self::Text(text) => text.chars().take(32).collect(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(u64::try_from(number).map_or(Scalar::Other, Scalar::Integer))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Absent)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether brackets outside strings nest deeper than `limit`. Right for JSON, and harmless for what is none.
pub(crate) fn is_deeper_than(text: &str, limit: usize) -> bool {
    let mut depth = 0usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}
