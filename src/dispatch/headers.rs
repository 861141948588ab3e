//! Headers of a callback's POST: the operator's extra ones first, then ours over them (hard case 13).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use super::format::Encoded;
use crate::config::{Basic, Instance, is_reserved_header};

/// What goes out with every request that is not made for somebody else.
const AGENT: &str = concat!("Postern/", env!("CARGO_PKG_VERSION"));

/// The headers that are the same on every attempt of `instance`. Made once. What the configuration should have refused stays out.
pub fn standing(instance: &Instance) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &instance.headers {
        if !is_reserved_header(name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(value) = instance.basic.as_ref().and_then(authorization) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// The headers of one attempt: `standing`, those of the body, and the signatures, the later over the earlier.
pub fn of_attempt(standing: &HeaderMap, encoded: &Encoded, signatures: Vec<(HeaderName, HeaderValue)>) -> HeaderMap {
    let mut headers = standing.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(encoded.content_type));
    for (name, value) in encoded.headers.iter().cloned().chain(signatures) {
        headers.insert(name, value);
    }
    headers
}

fn authorization(basic: &Basic) -> Option<HeaderValue> {
    let pair = format!("{}:{}", basic.username, basic.password.expose());
    // Base64 is always a valid header value.
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;
    use crate::dispatch::testing;
    use crate::secret::Secret;

    fn header(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[test]
    fn extra_headers_add_to_ours_and_never_override_them() {
        let mut instance = testing::instance("a", "http://127.0.0.1/");
        instance.basic = Some(Basic { username: "Aladdin".into(), password: Secret::new("open sesame") });
        instance.headers = vec![
            header("x-tenant", "7"),
            header("user-agent", "theirs"),
            header("content-type", "text/plain"),
            header("webhook-id", "forged"),
            header("elements-webhook-signature", "forged"),
            header("transfer-encoding", "chunked"),
            header("host", "elsewhere"),
            header("ce-id", "forged"),
        ];
        let encoded =
            Encoded { body: Bytes::new(), content_type: "application/json", headers: vec![header("ce-id", "genuine")] };
        let headers = of_attempt(&standing(&instance), &encoded, vec![header("webhook-id", "genuine")]);
        for (name, value) in [
            ("x-tenant", Some("7")),
            ("user-agent", Some(AGENT)),
            ("content-type", Some("application/json")),
            ("webhook-id", Some("genuine")),
            ("elements-webhook-signature", None),
            ("transfer-encoding", None),
            ("host", None),
            ("ce-id", Some("genuine")),
            ("authorization", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ] {
            assert_eq!(headers.get(name).map(|v| v.to_str().expect("text")), value, "{name}");
        }
        assert!(!format!("{headers:?}").contains("QWxh"));
    }
}
