//! Signatures of callbacks, pure (hard case 13, `cloud-elements.md` 2).
//!
//! Two schemes go side by side over the same bytes. `Elements-Webhook-Signature` is Cloud Elements' own: it covers the body
//! alone, so it cannot tell a replay. `webhook-signature` is Standard Webhooks': it also covers the id and the time of the
//! attempt, and lists one signature per key, so that a key can be rotated without a moment in which nothing verifies.
//!
//! A key is the UTF-8 bytes of the configured text, nothing decoded. Standard Webhooks' libraries want them as
//! `whsec_` and base64 of those bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderName, HeaderValue};
use ring::hmac;

use crate::event::EventId;
use crate::secret::Secret;

/// Cloud Elements' signature: `sha256=` and base64 of HMAC-SHA256 over the body, by the first key.
pub const ELEMENTS_SIGNATURE: HeaderName = HeaderName::from_static("elements-webhook-signature");
/// Cloud Elements' delivery id.
pub const ELEMENTS_ID: HeaderName = HeaderName::from_static("elements-webhook-id");
/// Standard Webhooks' id, the same value: what an app deduplicates by.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// Standard Webhooks' time of the attempt, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Standard Webhooks' signatures, one per key: `v1,<base64> v1,<base64>`.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The headers that identify and, with at least one key, prove a callback. `delivery_id` is the same on every attempt,
/// `timestamp_seconds` is that of the attempt, and `body` must be the very bytes that are sent.
///
/// The MAC keys are made anew for each callback: that is two blocks of SHA-256 beside the twenty or more of a body.
pub fn headers(
    keys: &[Secret],
    delivery_id: &EventId,
    timestamp_seconds: i64,
    body: &[u8],
) -> Vec<(HeaderName, HeaderValue)> {
    let id = delivery_id.to_string();
    let timestamp = timestamp_seconds.to_string();
    let keys: Vec<hmac::Key> =
        keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())).collect();

    let mut headers = Vec::with_capacity(5);
    // Base64, digits and the words around them are printable ASCII, so no value is ever refused.
    let mut add =
        |name: HeaderName, value: String| headers.extend(HeaderValue::try_from(value).ok().map(|v| (name, v)));
    if let Some(first) = keys.first() {
        add(ELEMENTS_SIGNATURE, format!("sha256={}", STANDARD.encode(hmac::sign(first, body))));
        let signatures: Vec<String> = keys.iter().map(|key| standard(key, &id, &timestamp, body)).collect();
        add(WEBHOOK_SIGNATURE, signatures.join(" "));
    }
    add(WEBHOOK_TIMESTAMP, timestamp);
    add(ELEMENTS_ID, id.clone());
    add(WEBHOOK_ID, id);
    headers
}

fn standard(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.sign()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ID: EventId = EventId([9; 15]);

    fn signed(keys: &[&str], timestamp: i64, body: &[u8]) -> HashMap<String, String> {
        let keys: Vec<Secret> = keys.iter().map(|&key| Secret::new(key)).collect();
        headers(&keys, &ID, timestamp, body)
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned()))
            .collect()
    }

    fn elements(key: &str, body: &str) -> String {
        signed(&[key], 0, body.as_bytes())["elements-webhook-signature"].clone()
    }

    #[test]
    fn the_published_and_the_computed_vectors_of_cloud_elements_hold() {
        let key = "MySecretEventSignatureKey";
        for (body, expected) in [
            ("<INSERT_EVENT_NOTIFICATION_RESPONSE_BODY>", "sha256=jHdbRx5EZAsOfTwAPJOGkNUzQMVVdu5VJlxcsk+G6jQ="),
            ("{}", "sha256=VCEjNAd+69UFD8GyBJHLTM9UoZnYx6WcvlKNmAG1gbU="),
            ("{\"k\":\"é\"}", "sha256=49Wuqh5Fm7FFWPZ1vHFdYnZ41ztqajFhGzFCBDU9ttQ="),
        ] {
            assert_eq!(elements(key, body), expected, "{body}");
        }
    }

    #[test]
    fn the_standard_webhooks_library_verifies_what_each_key_signed() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let body = "{\"k\":\"é\"}";
        let headers = headers(&[Secret::new("new key é"), Secret::new("old key")], &ID, now as i64, body.as_bytes());
        let map: hyper::HeaderMap = headers.into_iter().collect();
        for key in ["new key é", "old key"] {
            let library = standardwebhooks::Webhook::from_bytes(key.as_bytes().to_vec()).expect("a key");
            library.verify(body.as_bytes(), &map).expect("verifies");
            assert!(library.verify(b"{}", &map).is_err(), "another body");
        }
        let stranger = standardwebhooks::Webhook::from_bytes(b"stranger".to_vec()).expect("a key");
        assert!(stranger.verify(body.as_bytes(), &map).is_err());
    }

    #[test]
    fn the_first_key_alone_makes_the_elements_signature_and_all_make_the_standard_one() {
        let both = signed(&["new", "old"], 5, b"body");
        let new = signed(&["new"], 5, b"body");
        let old = signed(&["old"], 5, b"body");
        assert_eq!(both["elements-webhook-signature"], new["elements-webhook-signature"]);
        assert_eq!(both["webhook-signature"], format!("{} {}", new["webhook-signature"], old["webhook-signature"]));
        assert!(new["webhook-signature"].starts_with("v1,"));
    }

    #[test]
    fn the_time_is_signed_by_the_standard_scheme_and_not_by_the_other() {
        let (first, later) = (signed(&["k"], 5, b"body"), signed(&["k"], 6, b"body"));
        assert_eq!(first["elements-webhook-signature"], later["elements-webhook-signature"]);
        assert_ne!(first["webhook-signature"], later["webhook-signature"]);
        assert_eq!(later["webhook-timestamp"], "6");
    }

    #[test]
    fn without_keys_there_are_ids_and_no_signatures() {
        let headers = signed(&[], 5, b"body");
        assert_eq!(headers["webhook-id"], ID.to_string());
        assert_eq!(headers["elements-webhook-id"], ID.to_string());
        assert_eq!(headers.len(), 3, "{headers:?}");
    }
}
