//! Listing, replaying and discarding deliveries.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::State;
use super::routes::Refusal;
use crate::clock::UnixMillis;
use crate::queue::{self, Filter, QueueError};

/// Rows of a page unless asked otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// `{"deliveries":[...],"next":seq|null}`; `next` goes into `before` of the next page.
pub(super) async fn deliveries(state: &State, query: &str) -> Result<Value, Refusal> {
    let filter = parse_query(query).map_err(bad_request)?;
    let limit = filter.limit;
    let rows = state.admin.queue.list(filter).await.map_err(refused)?;
    let next = if rows.len() >= limit { rows.last().map(|row| row.seq) } else { None };
    Ok(json!({ "deliveries": rows, "next": next }))
}

/// Replays or discards what fits the filter in `body`; `{"count":n}`.
///
/// A filter that narrows nothing would be about everything there is, mostly by mistake: it is refused unless it says
/// `"all":true`.
pub(super) async fn change(state: &State, body: &[u8], replay: bool) -> Result<Value, Refusal> {
    let filter = parse_filter(body).map_err(bad_request)?;
    let (action, changed) = if replay {
        ("replay", state.admin.queue.replay(filter.clone()).await)
    } else {
        ("discard", state.admin.queue.discard(filter.clone()).await)
    };
    let count = changed.map_err(refused)?;
    tracing::info!(action, count, ?filter, "deliveries were changed through the API");
    Ok(json!({ "count": count }))
}

fn bad_request(what: String) -> Refusal {
    (StatusCode::BAD_REQUEST, what)
}

fn refused(error: QueueError) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn parse_query(query: &str) -> Result<Filter, String> {
    let mut filter = Filter { limit: PAGE, ..Filter::default() };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        // A form sends every field, also those left empty.
        if value.is_empty() {
            continue;
        }
        match name.as_ref() {
            "state" => {
                for word in value.split(',') {
                    filter.states.push(state(word.trim())?);
                }
            }
            "instance" => filter.instance = Some(value.into_owned()),
            "bucket" => filter.bucket = Some(value.into_owned()),
            "key" => filter.key = Some(value.into_owned()),
            "id" => filter.id = Some(value.into_owned()),
            "since" => filter.since = Some(time("since", &value)?),
            "until" => filter.until = Some(time("until", &value)?),
            "limit" => filter.limit = number::<usize>("limit", &value)?.clamp(1, MAX_PAGE),
            "before" => filter.before_seq = Some(number("before", &value)?),
            other => {
                return Err(format!(
                    "{other:?} is no parameter: use state, instance, bucket, key, id, since, until, limit, before"
                ));
            }
        }
    }
    Ok(filter)
}

fn state(word: &str) -> Result<queue::State, String> {
    serde_json::from_value(Value::from(word))
        .map_err(|_| format!("{word:?} is no state: use owed, delivered, dead, superseded, discarded"))
}

fn time(name: &str, value: &str) -> Result<UnixMillis, String> {
    // An unescaped `+` of an offset arrives as a blank.
    let value: Cow<'_, str> = if value.contains(' ') { value.replace(' ', "+").into() } else { value.into() };
    let millis = || value.parse().ok().map(UnixMillis);
    UnixMillis::parse_rfc3339(&value).or_else(millis).ok_or_else(|| {
        format!("{name} is no time: use RFC 3339, such as 2026-02-21T16:43:41Z, or milliseconds since 1970")
    })
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} is no number"))
}

fn parse_filter(body: &[u8]) -> Result<Filter, String> {
    let what = "the body must be a JSON filter, such as {\"states\":[\"dead\"],\"instance\":\"name\"}";
    let mut map: Map<String, Value> = serde_json::from_slice(body).map_err(|e| format!("{what}: {e}"))?;
    let all = match map.remove("all") {
        None => false,
        Some(Value::Bool(all)) => all,
        Some(_) => return Err("all must be true or false".into()),
    };
    for name in ["since", "until"] {
        if let Some(Value::String(text)) = map.get(name) {
            let millis = time(name, text)?;
            map.insert(name.into(), Value::from(millis.0));
        }
    }
    let filter: Filter = serde_json::from_value(Value::Object(map)).map_err(|e| format!("{what}: {e}"))?;
    let Filter { states, instance, bucket, key, id, since, until, before_seq: _, limit: _ } = &filter;
    let narrows = !states.is_empty()
        || [instance, bucket, key, id].into_iter().any(Option::is_some)
        || since.is_some()
        || until.is_some();
    if !narrows && !all {
        return Err("this filter is about every delivery: narrow it, or say \"all\":true".into());
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_filter_and_what_is_wrong_is_named() {
        let filter = parse_query("state=dead,owed&key=a%2F*&since=2026-02-21T16:43:41Z&limit=5000&before=7&id=")
            .expect("a filter");
        assert_eq!(filter.states, [queue::State::Dead, queue::State::Owed]);
        assert_eq!(
            (filter.key.as_deref(), filter.limit, filter.before_seq, filter.id),
            (Some("a/*"), 1000, Some(7), None)
        );
        assert_eq!(filter.since, UnixMillis::parse_rfc3339("2026-02-21T16:43:41Z"));
        for (wrong, name) in [("state=gone", "gone"), ("sinse=1", "sinse"), ("until=x", "until"), ("limit=-1", "limit")]
        {
            assert!(parse_query(wrong).expect_err("wrong").contains(name), "{wrong}");
        }
    }

    #[test]
    fn a_filter_about_everything_must_say_so() {
        for empty in ["{}", "{\"limit\":5}", "{\"states\":[]}", "{\"all\":false}"] {
            assert!(parse_filter(empty.as_bytes()).expect_err("refused").contains("all"), "{empty}");
        }
        assert!(parse_filter(b"{\"all\":true}").is_ok());
        assert!(parse_filter(b"{\"states\":[\"dead\"],\"until\":\"2026-02-21T16:43:41Z\"}").is_ok());
        for wrong in ["", "[]", "{\"state\":\"dead\"}", "{\"all\":1}", "{\"states\":[\"gone\"]}"] {
            assert!(parse_filter(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
