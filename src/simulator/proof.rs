//! What a store sends so that it is believed, in the grammar of `POSTERN_S3HTTP_AUTH`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::simulator::mcs::hmac_sha256;
use crate::simulator::stores::Store;

/// Where Backblaze puts its HMAC.
const B2_SIGNATURE: &str = "x-bz-event-notification-signature";

/// What goes with each request.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// HMAC of the body under this key (`s3-dialects.md` 2.7).
    B2(String),
    /// A header.
    Header(HeaderName, HeaderValue),
    /// Nothing.
    None,
    /// A constant in every record (`s3-dialects.md` 2.2).
    OpaqueData(String),
}

/// Shows none of it.
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof([redacted])")
    }
}

impl Proof {
    /// Reads `TOKEN`, `Bearer TOKEN`, `Basic USER:PASSWORD`, `SCHEME VALUE`, `Header-Name: value` or `opaqueData=VALUE`; with B2 the
    /// signing secret.
    ///
    /// # Errors
    /// Why it can be in no header.
    pub fn parse(text: &str, store: Store) -> Result<Self, String> {
        let text = text.trim();
        // What a shell leaves of `Bearer $TOKEN` without a token: the sidecar refuses it at its start.
        let is_header = text.ends_with(':') && !text.contains(' ');
        let is_scheme = ["bearer", "basic", "opaquedata="].iter().any(|part| text.eq_ignore_ascii_case(part));
        if text.is_empty() || store != Store::B2 && (is_header || is_scheme) {
            return Err("--auth: there is no value in it; use one of the forms of POSTERN_S3HTTP_AUTH".to_owned());
        }
        if store == Store::B2 {
            return Ok(Self::B2(text.to_owned()));
        }
        if let Some(value) = text.strip_prefix("opaqueData=") {
            return match store {
                Store::EventBridge => Err("--auth: EventBridge sends no opaqueData; use Basic or a header".to_owned()),
                _ => Ok(Self::OpaqueData(value.to_owned())),
            };
        }
        let (name, value) = match text.split_once(' ') {
            None => (AUTHORIZATION, format!("Bearer {text}")),
            Some((first, rest)) => match first.strip_suffix(':') {
                Some(name) => {
                    let name = name.parse().map_err(|_| format!("--auth: {name} is not the name of a header"))?;
                    (name, rest.trim().to_owned())
                }
                None if first.eq_ignore_ascii_case("basic") && rest.contains(':') => {
                    (AUTHORIZATION, format!("Basic {}", STANDARD.encode(rest.trim())))
                }
                None => (AUTHORIZATION, text.to_owned()),
            },
        };
        let value = HeaderValue::from_str(&value).map_err(|_| "--auth: no header can carry this value".to_owned())?;
        Ok(Self::Header(name, value))
    }

    /// What every record carries.
    pub fn opaque_data(&self) -> Option<&str> {
        match self {
            Self::OpaqueData(value) => Some(value),
            Self::B2(_) | Self::Header(..) | Self::None => None,
        }
    }

    /// Adds to the headers of a request with this body what proves it.
    pub fn put(&self, headers: &mut HeaderMap, body: &str) {
        match self {
            Self::B2(key) => {
                let tag = hmac_sha256(body.as_bytes(), key.as_bytes());
                let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
                if let Ok(value) = HeaderValue::from_str(&format!("v1={hex}")) {
                    headers.insert(B2_SIGNATURE, value);
                }
            }
            Self::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            Self::None | Self::OpaqueData(_) => {}
        }
    }

    /// The same kind of proof by somebody who does not know the secret.
    #[must_use]
    pub fn wrong(&self) -> Self {
        match self {
            Self::B2(key) => Self::B2(format!("{key}x")),
            Self::Header(name, value) => {
                let wrong = [value.as_bytes(), b"x"].concat();
                Self::Header(name.clone(), HeaderValue::from_bytes(&wrong).unwrap_or_else(|_| value.clone()))
            }
            Self::None => Self::None,
            Self::OpaqueData(value) => Self::OpaqueData(format!("{value}x")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str, store: Store, body: &str) -> String {
        let mut headers = HeaderMap::new();
        Proof::parse(text, store).expect(text).put(&mut headers, body);
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect()
    }

    #[test]
    fn every_form_is_sent_as_its_store_would() {
        for (text, expected) in [
            ("token", "authorization=Bearer token"),
            ("Bearer token", "authorization=Bearer token"),
            ("Basic user:pass", "authorization=Basic dXNlcjpwYXNz"),
            ("Splunk xyz", "authorization=Splunk xyz"),
            ("X-Token: a b", "x-token=a b"),
            ("opaqueData=x", ""),
        ] {
            assert_eq!(header(text, Store::Minio, "{}"), expected, "{text}");
        }
    }

    #[test]
    fn the_captured_body_of_b2_has_the_captured_signature() {
        let body = r#"{"events":[{"accountId":"acct123","bucketId":"b1","bucketName":"my-bucket","eventId":"evt-1","eventTimestamp":1700000000000,"eventType":"b2:ObjectCreated:Upload","eventVersion":1,"matchedRuleName":"upload-rule","objectName":"photos/dog.jpg","objectSize":4096,"objectVersionId":"v-1"}]}"#;
        let sent = header("super-secret-signing-key-from-b2", Store::B2, body);
        assert_eq!(
            sent,
            "x-bz-event-notification-signature=v1=c16863fa075492853d6fe17abce6793634f7dbff7285f7373bb838b3217ba358"
        );
        assert_ne!(Proof::B2("a".into()), Proof::B2("a".into()).wrong());
    }
}
