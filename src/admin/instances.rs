//! `GET /instances` in the shape of Cloud Elements' call. No secret leaves: each that is set shows as `******`.

use serde_json::{Map, Value, json};

use super::State;
use crate::config::{CallbackUrl, Instance};

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
    put("event.vendor.type", "webhooks".to_owned());
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
    map
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
