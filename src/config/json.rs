//! JSON of an operator: it keeps repeated keys, so that they can be refused by name instead of the last one winning in silence.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. Numbers are kept as text: where a number is meant, text is read anyway.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Bool(bool),
    List(Vec<Self>),
    Null,
    Number(String),
    Object(Vec<(String, Self)>),
    Text(String),
}

impl Json {
    /// Reads one JSON text. A failure says where it is, and nothing of what stands there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Editors on Windows begin files with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        serde_json::from_str(text).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "the JSON ends too early",
                _ => "the JSON is broken",
            };
            format!("{what} at line {}, column {}", error.line(), error.column())
        })
    }

    /// The value as a setting's text: a string as it is, other scalars as JSON writes them, objects and lists as JSON; `null` is unset.
    pub(super) fn as_setting(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The keys that occur twice within one object, with the path to it.
    pub(super) fn repeated_keys(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_repeated("", &mut found);
        found
    }

    fn collect_repeated(&self, path: &str, found: &mut Vec<String>) {
        match self {
            Self::Object(members) => {
                let mut seen = BTreeSet::new();
                for (key, value) in members {
                    if !seen.insert(key.as_str()) {
                        found.push(format!("{path}{key}"));
                    }
                    value.collect_repeated(&format!("{path}{key} → "), found);
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.collect_repeated(path, found)),
            Self::Bool(_) | Self::Null | Self::Number(_) | Self::Text(_) => {}
        }
    }

    /// What kind of value it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Null => "null",
            Self::Number(_) => "a number",
            Self::Object(_) => "an object",
            Self::Text(_) => "a string",
        }
    }
}

/// Compact JSON.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let string = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Null => f.write_str("null"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => f.write_str(&string(text)),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{value}", if at == 0 { "" } else { "," }, string(key))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(serde_json::Value::from(value).to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_and_writes_back_with_repeated_keys() {
        let text = r#"{"a":[1,-2,true,null,"\n\""],"b":{"c":1,"c":2},"a":0}"#;
        let json = Json::parse(text).expect("JSON");
        assert_eq!(json.to_string(), text);
        assert_eq!(json.repeated_keys(), ["b → c", "a"]);
    }

    #[test]
    fn broken_json_is_named_by_its_line_and_not_by_its_content() {
        let broken = Json::parse("{\n  \"key\": hunter2\n}").expect_err("broken");
        assert!(broken.contains("line 2") && !broken.contains("hunter"), "{broken}");
        assert!(Json::parse(&"[".repeat(10_000)).is_err());
        assert!(Json::parse("{\"a\": 1").expect_err("cut off").contains("too early"));
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_json() {
        assert_eq!(Json::parse("\u{feff}null"), Ok(Json::Null));
    }
}
