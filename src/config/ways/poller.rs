//! `event.poller.configuration`: our keys, alone or within one resource as Cloud Elements nests theirs (`cloud-elements.md` 3).

use crate::config::buckets;
use crate::config::json::Json;
use crate::config::problem::{clean, quote};
use crate::config::text::{Wrong, wrong};
use crate::config::values::Reader;

pub(super) const CONFIGURATION: &str = "event.poller.configuration";

/// What is listed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Poller {
    /// Buckets; empty where none is named here.
    pub(super) buckets: Vec<String>,
    /// Key prefixes, none of which is a prefix of another; empty is the whole bucket.
    pub(super) prefixes: Vec<String>,
    /// Keys of one page.
    pub(super) page_size: u16,
}

/// Our keys.
const KEYS: [&str; 4] = ["bucket", "prefix", "prefixes", "pageSize"];

/// Keys of Cloud Elements that describe how an HTTP API is polled: a bucket's listing has no such things.
const THEIRS: [&str; 14] = [
    "createdCheckTolerance",
    "createdDateField",
    "createdDateFormat",
    "createdDateTimezone",
    "datesConfiguration",
    "filterByCurrentDate",
    "filterByUpdatedDate",
    "idField",
    "method",
    "pollDelay",
    "updatedDateField",
    "updatedDateFormat",
    "updatedDateTimezone",
    "url",
];

/// S3 itself allows no longer key.
const MAX_KEY: usize = 1024;
/// S3 lists a prefix at a time.
const MAX_PREFIXES: usize = 1000;

const ADVICE: &str = r#"use a JSON object such as {"bucket": "photos", "prefix": ["in/", "out/"], "pageSize": 1000}"#;

/// The setting; without it the whole bucket. `None` where something of it was refused.
pub(super) fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<Poller> {
    let mut found = Poller { buckets: Vec::new(), prefixes: Vec::new(), page_size: 1000 };
    let Some(text) = reader.text(CONFIGURATION) else {
        return (!reader.values.is_set(CONFIGURATION)).then_some(found);
    };
    let mut ignored = Vec::new();
    let members = match object(text) {
        Ok(members) => members,
        Err((what, advice)) => {
            reader.refuse(CONFIGURATION, what, advice);
            return None;
        }
    };
    let before = reader.problems.len();
    // Our keys may stand at the top or within one resource; in two places, one would have to win.
    let mut places = 0;
    let mut place = |members: &[(String, Json)], reader: &mut Reader<'_>| {
        places += usize::from(members.iter().any(|(key, _)| KEYS.contains(&key.as_str())));
        for (key, value) in members {
            match member(key, value, &mut found) {
                Ok(true) => {}
                Ok(false) => ignored.push(clean(key, 80)),
                Err((what, advice)) => reader.refuse(CONFIGURATION, what, advice),
            }
        }
    };
    let (resources, own): (Vec<_>, Vec<_>) = members.into_iter().partition(|(key, value)| {
        matches!(value, Json::Object(_)) && !KEYS.contains(&key.as_str()) && !THEIRS.contains(&key.as_str())
    });
    place(&own, reader);
    for (_, resource) in &resources {
        if let Json::Object(members) = resource {
            place(members, reader);
        }
    }
    if places > 1 {
        reader.refuse(CONFIGURATION, "names what is listed in more than one object", "put all of it into one");
    }
    if !ignored.is_empty() {
        ignored.sort();
        ignored.dedup();
        warnings.push(format!(
            "{}: {} has no meaning for a bucket's listing and is ignored",
            reader.values.label(CONFIGURATION),
            ignored.join(", ")
        ));
    }
    let merged = merge(&mut found.prefixes);
    if !merged.is_empty() {
        warnings.push(format!(
            "{}: {} is listed already by a shorter prefix",
            reader.values.label(CONFIGURATION),
            merged.iter().map(|prefix| quote(prefix)).collect::<Vec<_>>().join(", ")
        ));
    }
    (reader.problems.len() == before).then_some(found)
}

/// The members of the object, or of one within a string, as some exports write it.
fn object(text: &str) -> Result<Vec<(String, Json)>, Wrong> {
    let parse = |text: &str| Json::parse(text).map_err(|what| (what, ADVICE.to_owned()));
    let json = match parse(text)? {
        Json::Text(inner) => parse(&inner)?,
        json => json,
    };
    if let Some(key) = json.repeated_keys().first() {
        return wrong(format!("the key {} is there twice", quote(key)), "keep one of the two");
    }
    match json {
        Json::Object(members) => Ok(members),
        other => wrong(format!("is {} and not an object", other.kind()), ADVICE),
    }
}

/// Takes one member; `false` for one of Cloud Elements'.
fn member(key: &str, value: &Json, found: &mut Poller) -> Result<bool, Wrong> {
    match key {
        "bucket" => {
            let names = strings(key, value)?;
            if let Some(name) = names.iter().find(|name| buckets::check(name).is_err()) {
                return wrong(
                    format!("{} is not a bucket's name", quote(name)),
                    "use the name alone, without s3:// and path",
                );
            }
            found.buckets.extend(names);
            found.buckets.dedup();
        }
        "prefix" | "prefixes" => {
            let prefixes = strings(key, value)?;
            if prefixes.iter().any(|prefix| prefix.len() > MAX_KEY) {
                return wrong(
                    format!("a prefix is longer than {MAX_KEY} bytes, the most a key has"),
                    "use a shorter one",
                );
            }
            found.prefixes.extend(prefixes);
            if found.prefixes.len() > MAX_PREFIXES {
                return wrong(format!("there are more than {MAX_PREFIXES} prefixes"), "list a prefix that they share");
            }
        }
        "pageSize" => {
            let size = match value {
                Json::Number(text) | Json::Text(text) => text.parse::<u16>().ok(),
                _ => None,
            };
            match size.filter(|size| (1..=1000).contains(size)) {
                Some(size) => found.page_size = size,
                None => return wrong("pageSize is not a whole number from 1 to 1000", "use 1000, the most S3 gives"),
            }
        }
        _ if THEIRS.contains(&key) => return Ok(false),
        _ => {
            let nearest = KEYS
                .iter()
                .map(|known| (strsim::damerau_levenshtein(&key.to_lowercase(), &known.to_lowercase()), known));
            // Distance costs the product of the lengths, and a longer name is nobody's typing error.
            let nearest = if key.len() > 100 { None } else { nearest.min().filter(|(distance, _)| *distance <= 4) };
            let advice = nearest
                .map_or_else(|| format!("use {}", KEYS.join(", ")), |(_, known)| format!("did you mean {known}?"));
            return wrong(format!("there is no key {} here", quote(key)), advice);
        }
    }
    Ok(true)
}

/// One string or a list of some.
fn strings(key: &str, value: &Json) -> Result<Vec<String>, Wrong> {
    let one = |item: &Json| if let Json::Text(text) = item { Some(text.clone()) } else { None };
    let all = match value {
        Json::List(items) => items.iter().map(one).collect::<Option<Vec<_>>>(),
        other => one(other).map(|text| vec![text]),
    };
    all.map_or_else(|| wrong(format!("{key} is {} and not a string or a list of strings", value.kind()), ADVICE), Ok)
}

/// Leaves the shortest prefixes in order, and returns those that they hold. The empty prefix is the whole bucket, so no prefix at all.
fn merge(prefixes: &mut Vec<String>) -> Vec<String> {
    prefixes.sort();
    prefixes.dedup();
    // In order, what a prefix holds follows it at once.
    let mut merged = Vec::new();
    let mut kept: Vec<String> = Vec::new();
    for prefix in prefixes.drain(..) {
        match kept.last() {
            Some(last) if prefix.starts_with(last.as_str()) => merged.push(prefix),
            _ => kept.push(prefix),
        }
    }
    if kept.first().is_some_and(String::is_empty) {
        kept.clear();
    }
    *prefixes = kept;
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_within_another_is_merged_into_it() {
        let merged = |given: &[&str]| {
            let mut prefixes: Vec<String> = given.iter().map(|prefix| (*prefix).to_owned()).collect();
            let merged = merge(&mut prefixes);
            (prefixes, merged)
        };
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            merged(&["b/", "a/", "a/x", "a/y/z", "a"]),
            (strings(&["a", "b/"]), strings(&["a/", "a/x", "a/y/z"]))
        );
        assert_eq!(merged(&["", "a/"]), (strings(&[]), strings(&["a/"])));
        assert_eq!(merged(&["a/", "a/"]), (strings(&["a/"]), strings(&[])));
    }

    #[test]
    fn an_object_may_come_within_a_string() {
        assert_eq!(object(r#"{"bucket":"b"}"#), object(r#""{\"bucket\":\"b\"}""#));
        for bad in ["[]", "1", "\"\"", "{", r#""[]""#, r#"{"bucket":"a","bucket":"b"}"#, "null"] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }
}
