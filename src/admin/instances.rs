//! `GET /instances` in the shape of Cloud Elements' call. No secret leaves: each that is set shows as `******`.

use serde_json::{Map, Value, json};

use super::State;
use crate::config::{CallbackUrl, Instance, ListingConfig, ListingKind, S3HttpConfig};

const HIDDEN: &str = "******";

pub(super) fn list(state: &State) -> Value {
    let stats = state.admin.queue.stats();
    let one = |instance: &Instance| {
        let numbers = stats.instances.iter().find(|s| *s.name == *instance.name).cloned().unwrap_or_default();
        json!({
            "id": instance.id,
            "name": instance.name.as_ref(),
            "element": { "key": instance.element_key },
            "elementKey": instance.element_key,
            "tags": instance.tags,
            "disabled": false,
            "eventsEnabled": instance.enabled,
            "topics": instance.topics,
            "configuration": configuration(instance),
            "deliveries": {
                "owed": numbers.owed,
                "owedBytes": numbers.owed_bytes,
                "oldestOwed": numbers.oldest_owed,
                "dead": numbers.dead,
                "deadBytes": numbers.dead_bytes,
            },
        })
    };
    Value::Array(state.admin.instances.iter().map(|i| one(i)).collect())
}

/// Only keys that are set, all as strings, as theirs are.
fn configuration(instance: &Instance) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            map.insert(key.to_owned(), Value::String(value));
        }
    };
    let hidden = |is_set: bool| if is_set { HIDDEN.to_owned() } else { String::new() };
    put("event.notification.enabled", instance.enabled.to_string());
    let polls = instance.listing.as_ref().is_some_and(|listing| listing.kind == ListingKind::Poll);
    put("event.vendor.type", if polls { "polling" } else { "webhooks" }.to_owned());
    put("event.sns.topic.arn", instance.topics.join(","));
    put("event.notification.callback.url", callback(&instance.callback));
    put("event.notification.signature.key", hidden(!instance.signature_keys.is_empty()));
    put("event.notification.callback.headers", hidden(!instance.headers.is_empty()));
    put("event.notification.basic.username", instance.basic.as_ref().map_or_else(String::new, |b| b.username.clone()));
    put("event.notification.basic.password", hidden(instance.basic.is_some()));
    put("filemanagement.provider.access_key", hidden(instance.credentials.is_some()));
    put("filemanagement.provider.secret_key", hidden(instance.credentials.is_some()));
    put("filemanagement.provider.bucket_name", instance.bucket.clone().unwrap_or_default());
    put("filemanagement.provider.region_name", instance.region.clone().unwrap_or_default());
    put("filter.response.nulls", instance.filter_nulls.map_or_else(String::new, |b| b.to_string()));
    put("validate.instance", instance.validate.to_string());
    put("POSTERN_BUCKETS", instance.buckets.join(","));
    let pairs: Vec<String> = instance.mcs_topics.iter().map(|t| format!("{}|{}", t.project, t.bucket)).collect();
    put("POSTERN_MCS_TOPICS", pairs.join(","));
    if let Some(s3http) = &instance.s3http {
        bare(s3http, &mut put);
    }
    if let Some(sqs) = &instance.sqs {
        let shown = |url: &url::Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
        put("POSTERN_SQS_QUEUE_URL", sqs.queues.iter().map(shown).collect::<Vec<_>>().join(","));
        put("POSTERN_SQS_VERIFY", if sqs.verify { "on" } else { "off" }.to_owned());
        put("POSTERN_SQS_CONSUMERS", sqs.consumers.to_string());
    }
    if let Some(config) = &instance.listing {
        listing(config, &mut put);
    }
    map
}

/// Bare S3 records over HTTP. What the preset says of keys and sequencers shows as well: it is what holds.
fn bare(s3http: &S3HttpConfig, put: &mut impl FnMut(&str, String)) {
    put("POSTERN_S3HTTP_SECRET", HIDDEN.to_owned());
    put("POSTERN_S3HTTP_AUTH", if s3http.auth.is_some() { HIDDEN.to_owned() } else { String::new() });
    put("POSTERN_S3HTTP_PRESET", s3http.preset.to_owned());
    put("POSTERN_S3HTTP_KEY_CODING", s3http.dialect.key_coding.as_str().to_owned());
    put("POSTERN_S3HTTP_SEQUENCER", s3http.dialect.sequencer.as_str().to_owned());
}

/// Polling, or reconciliation. An interval of whole minutes shows as Cloud Elements writes it.
fn listing(config: &ListingConfig, put: &mut impl FnMut(&str, String)) {
    let text = |pause| humantime::format_duration(pause).to_string();
    match config.kind {
        ListingKind::Poll => {
            let seconds = config.every.as_secs();
            let every = if seconds.is_multiple_of(60) { (seconds / 60).to_string() } else { text(config.every) };
            put("event.poller.refresh_interval", every);
            let what = json!({ "bucket": config.buckets, "prefix": config.prefixes, "pageSize": config.page_size });
            put("event.poller.configuration", what.to_string());
        }
        ListingKind::Reconcile => {
            put("POSTERN_RECONCILE", text(config.every));
            put("POSTERN_RECONCILE_GRACE", text(config.grace));
        }
    }
    put("POSTERN_POLL_INITIAL", if config.emit_initial { "emit" } else { "silent" }.to_owned());
}

/// Where events go, without user, password and query: all three are places where people keep secrets.
fn callback(url: &CallbackUrl) -> String {
    match url {
        CallbackUrl::Http(url) => {
            let query = if url.query().is_some() { format!("?{HIDDEN}") } else { String::new() };
            format!("{}{}{query}", url.origin().ascii_serialization(), url.path())
        }
        CallbackUrl::Unix { socket, path } => {
            let (path, query) = path.split_once('?').map_or((path.as_str(), None), |(p, q)| (p, Some(q)));
            let query = if query.is_some() { format!("?{HIDDEN}") } else { String::new() };
            format!("unix:{}:{path}{query}", socket.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shown(pairs: &[(&str, &str)]) -> Map<String, Value> {
        let least = [
            ("POSTERN_TLS", "off"),
            ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
            ("EVENT_NOTIFICATION_SIGNATURE_KEY", "hunter2-the-key"),
        ];
        let env: BTreeMap<String, String> =
            [&least[..], pairs].concat().iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let config = crate::config::load(&env).unwrap_or_else(|problems| panic!("{problems:?}"));
        let map = configuration(&config.instances[0]);
        assert!(!Value::Object(map.clone()).to_string().contains("hunter2"), "{map:?}");
        map
    }

    #[test]
    fn ways_in_are_shown_as_they_are_configured_and_their_secrets_as_stars() {
        let map = shown(&[
            ("POSTERN_MCS_TOPICS", "mcs1|a,mcs2|b"),
            ("POSTERN_PUBLIC_URL", "https://events.example.com"),
            ("POSTERN_MCS_SECRET", "hunter2-hunter2-hunter2"),
            ("POSTERN_S3HTTP_SECRET", "hunter2-hunter2-hunter2"),
            ("POSTERN_S3HTTP_PRESET", "ceph"),
            ("POSTERN_S3HTTP_AUTH", "opaqueData=hunter2"),
        ]);
        for (key, value) in [
            ("event.vendor.type", "webhooks"),
            ("POSTERN_MCS_TOPICS", "mcs1|a,mcs2|b"),
            ("POSTERN_S3HTTP_SECRET", HIDDEN),
            ("POSTERN_S3HTTP_AUTH", HIDDEN),
            ("POSTERN_S3HTTP_PRESET", "ceph"),
            ("POSTERN_S3HTTP_KEY_CODING", "raw"),
            ("POSTERN_S3HTTP_SEQUENCER", "ceph-le"),
        ] {
            assert_eq!(map[key], value, "{key}");
        }
        assert!(map.keys().all(|key| !key.contains("SQS") && !key.contains("poller") && !key.contains("RECONCILE")));
    }

    #[cfg(feature = "aws")]
    #[test]
    fn what_is_fetched_is_shown_too() {
        let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/q";
        let fetched = [("POSTERN_SQS_QUEUE_URL", queue), ("POSTERN_BUCKETS", "a"), ("POSTERN_RECONCILE", "1h")];
        let map = shown(&fetched);
        for (key, value) in [
            ("POSTERN_SQS_QUEUE_URL", queue),
            ("POSTERN_SQS_VERIFY", "off"),
            ("POSTERN_SQS_CONSUMERS", "8"),
            ("POSTERN_BUCKETS", "a"),
            ("POSTERN_RECONCILE", "1h"),
            ("POSTERN_RECONCILE_GRACE", "15m"),
        ] {
            assert_eq!(map[key], value, "{key}");
        }
        // What is shown can be read again.
        let polled = shown(&[("EVENT_VENDOR_TYPE", "polling"), ("filemanagement.provider.bucket_name", "b")]);
        let again: Vec<(&str, &str)> = polled
            .iter()
            .filter(|(key, _)| key.starts_with("event.poller.") || *key == "event.vendor.type")
            .map(|(key, value)| (key.as_str(), value.as_str().expect("a string")))
            .collect();
        assert_eq!((again.len(), &polled["event.poller.refresh_interval"]), (3, &Value::from("15")));
        assert_eq!(shown(&again)["event.poller.configuration"], polled["event.poller.configuration"]);
    }
}
