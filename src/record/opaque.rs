//! `opaqueData`, the only thing in a record by which Ceph RGW can show who set its topic up (`s3-dialects.md` 2.2).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::object;
use super::wire::{Message, Object, Scalar};

#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default, rename = "opaqueData")]
    opaque_data: Scalar<'a>,
}

/// The `opaqueData` of each entry of `Records`, good record or not, in their order; `None` for an entry that has none, has an
/// empty one, or has it twice. `None` for a message that has no list of records, or more of them than are read.
pub fn opaque_data(message: &str) -> Option<Vec<Option<Cow<'_, str>>>> {
    let message: Message<'_> = object(message).ok()?;
    let entries = message.records.filter(|entries| !entries.truncated)?;
    Some(entries.raw.into_iter().map(of_entry).collect())
}

fn of_entry(raw: &RawValue) -> Option<Cow<'_, str>> {
    let Object(entry): Object<Entry<'_>> = serde_json::from_str(raw.get()).ok()?;
    entry.opaque_data.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_says_its_own() {
        let text = r#"{"Records":[{"opaqueData":"a\u0062"},{"s3":{"opaqueData":"ab"}},{"opaqueData":""},{"opaqueData":7},
            {"opaqueData":"ab","opaqueData":"ab"},7,{"opaqueData":"c"}]}"#;
        let found = opaque_data(text).expect("records");
        let found: Vec<_> = found.iter().map(Option::as_deref).collect();
        assert_eq!(found, [Some("ab"), None, None, None, None, None, Some("c")]);
    }

    #[test]
    fn what_has_no_clear_list_of_records_says_nothing() {
        let many = format!(r#"{{"Records":[{}]}}"#, vec![r#"{"opaqueData":"x"}"#; 1001].join(","));
        for text in ["", "[]", "{}", r#"{"opaqueData":"x"}"#, r#"{"Records":[],"Records":[]}"#, &many] {
            assert_eq!(opaque_data(text), None);
        }
        assert_eq!(opaque_data(r#"{"Records":[]}"#), Some(Vec::new()));
    }
}
