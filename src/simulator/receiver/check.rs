//! What an app checks: `Elements-Webhook-Signature` (`cloud-elements.md` section 2) and the Standard Webhooks headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use ring::hmac;

use crate::clock::UnixMillis;

/// Standard Webhooks' advice: a timestamp further from now than this is not accepted.
const TOLERANCE_S: i64 = 300;

/// What was found of the signatures of one callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// `Elements-Webhook-Signature`: absent, or whether it is right.
    pub elements: Option<bool>,
    /// `webhook-signature` with its id and timestamp: absent, or whether it is right.
    pub standard: Option<bool>,
}

impl Checked {
    /// Whether both are there and right.
    pub fn is_good(self) -> bool {
        self.elements == Some(true) && self.standard == Some(true)
    }
}

/// Checks the signatures over `body`, which is what came, byte for byte.
pub fn check(headers: &HeaderMap, body: &[u8], keys: &[String], now: UnixMillis) -> Checked {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let elements = text("elements-webhook-signature").map(|value| {
        value.strip_prefix("sha256=").is_some_and(|encoded| keys.iter().any(|key| is_mac(key, &[body], encoded)))
    });
    let standard = text("webhook-signature").map(|value| {
        let (Some(id), Some(timestamp)) = (text("webhook-id"), text("webhook-timestamp")) else { return false };
        let fresh = timestamp
            .parse::<i64>()
            .is_ok_and(|seconds| (now.0.div_euclid(1000)).abs_diff(seconds) <= TOLERANCE_S.unsigned_abs());
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        fresh
            && text("elements-webhook-id").is_none_or(|other| other == id)
            && value
                .split(' ')
                .filter_map(|entry| entry.strip_prefix("v1,"))
                .any(|encoded| keys.iter().any(|key| is_mac(key, &signed, encoded)))
    });
    Checked { elements, standard }
}

fn is_mac(key: &str, parts: &[&[u8]], encoded: &str) -> bool {
    let Ok(mac) = STANDARD.decode(encoded) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::verify(&key, &parts.concat(), &mac).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const KEY: &str = "MySecretEventSignatureKey";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn the_published_vectors_are_right_and_every_change_is_wrong() {
        let vectors = [
            ("<INSERT_EVENT_NOTIFICATION_RESPONSE_BODY>", "sha256=jHdbRx5EZAsOfTwAPJOGkNUzQMVVdu5VJlxcsk+G6jQ="),
            ("{}", "sha256=VCEjNAd+69UFD8GyBJHLTM9UoZnYx6WcvlKNmAG1gbU="),
            ("{\"k\":\"\u{e9}\"}", "sha256=49Wuqh5Fm7FFWPZ1vHFdYnZ41ztqajFhGzFCBDU9ttQ="),
        ];
        let elements = |value: &str, body: &str, key: &str| {
            let headers = headers(&[("elements-webhook-signature", value)]);
            check(&headers, body.as_bytes(), &[key.to_owned()], UnixMillis(0)).elements
        };
        for (body, value) in vectors {
            assert_eq!(elements(value, body, KEY), Some(true), "{body}");
            assert_eq!(elements(value, &format!("{body} "), KEY), Some(false));
            assert_eq!(elements(value, body, "another"), Some(false));
            assert_eq!(elements(&value.replace("sha256=", ""), body, KEY), Some(false));
            assert_eq!(elements(&value.replace("sha256=", "sha1="), body, KEY), Some(false));
        }
        assert_eq!(check(&HeaderMap::new(), b"{}", &[KEY.to_owned()], UnixMillis(0)), Checked::default());
    }

    #[test]
    fn what_the_standard_webhooks_library_signs_is_right_until_it_is_old_or_changed() {
        let library = standardwebhooks::Webhook::from_bytes(KEY.as_bytes().to_vec()).expect("a key");
        let signature = library.sign("id-1", 1_790_000_000, b"{}").expect("a signature");
        let both = format!("v1,AAAA {signature}");
        let mut headers = headers(&[
            ("webhook-id", "id-1"),
            ("webhook-timestamp", "1790000000"),
            ("webhook-signature", &both),
            ("elements-webhook-id", "id-1"),
        ]);
        let keys = ["other".to_owned(), KEY.to_owned()];
        let at = |seconds: i64, headers: &HeaderMap, body: &[u8]| {
            check(headers, body, &keys, UnixMillis(seconds * 1000)).standard
        };
        assert_eq!(at(1_790_000_300, &headers, b"{}"), Some(true));
        assert_eq!(at(1_790_000_301, &headers, b"{}"), Some(false));
        assert_eq!(at(1_790_000_000, &headers, b"{} "), Some(false));
        headers.insert("elements-webhook-id", HeaderValue::from_static("id-2"));
        assert_eq!(at(1_790_000_000, &headers, b"{}"), Some(false));
    }
}
