//! Pure: what a request must carry besides the secret of its path (`POSTERN_S3HTTP_AUTH`).
//!
//! Everything but Ceph's `opaqueData` is judged before anybody reads the body as JSON. Secrets are compared in constant time. A header
//! that stands twice is refused: which of the two a proxy before us looked at, nobody knows.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ring::hmac;

use super::body;
use crate::config::{S3HttpAuth, S3HttpConfig};
use crate::secret::Secret;

/// Where Backblaze B2 puts its proof (`s3-dialects.md` 2.7).
const B2_SIGNATURE: HeaderName = HeaderName::from_static("x-bz-event-notification-signature");

/// What lets a request in: one gate, or an old one besides while what stores carry is rotated.
pub struct Gates(Gate, Option<Gate>);

impl Gates {
    /// The gates of a source.
    pub fn new(config: &S3HttpConfig) -> Self {
        Self(Gate::new(config.auth.as_ref()), config.old_auth.as_ref().map(|old| Gate::new(Some(old))))
    }

    /// Whether a request passes one of the gates, each of which it may pass by itself alone.
    ///
    /// # Errors
    /// [`Refused`]: nothing more of the request is looked at.
    pub fn admit(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
        let Self(new, old) = self;
        let Err(refused) = new.admit(headers, body) else { return Ok(()) };
        match old.as_ref().map(|old| old.admit(headers, body)) {
            None | Some(Err(Refused::Wrong)) => Err(refused),
            Some(by_old) => by_old,
        }
    }
}

/// What a request must carry, ready to be compared.
pub enum Gate {
    /// The Authorization header: its scheme in any case, what follows exactly.
    Authorization {
        /// `Bearer`, `Basic`, or another; empty where there is but one word, all of which is the secret.
        scheme: String,
        /// What follows.
        credentials: Secret,
    },
    /// HMAC of Backblaze B2 over the body.
    B2(hmac::Key),
    /// A header with exactly this value.
    Header(HeaderName, Secret),
    /// The path's secret is all.
    Open,
    /// Every record carries one of these texts as its `opaqueData`: the body decides. A gateway (16.2) hands a blank of the topic's
    /// attribute on as `+` and every other character as it is.
    OpaqueData([Secret; 2]),
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Basic is asked and nothing came: some clients send their password only after a challenge.
    Challenge,
    /// What came is wrong, or stands twice, or nothing came.
    Wrong,
}

impl Gate {
    /// The gate that `auth` describes.
    pub fn new(auth: Option<&S3HttpAuth>) -> Self {
        match auth {
            None => Self::Open,
            Some(S3HttpAuth::Authorization(value)) => {
                let (scheme, credentials) = split(value.expose());
                Self::Authorization { scheme: scheme.to_owned(), credentials: Secret::new(credentials) }
            }
            Some(S3HttpAuth::Header(name, value)) => Self::Header(name.clone(), value.clone()),
            Some(S3HttpAuth::B2Signature(key)) => Self::B2(hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())),
            Some(S3HttpAuth::OpaqueData(value)) => {
                Self::OpaqueData([value.clone(), Secret::new(value.expose().replace(' ', "+"))])
            }
        }
    }

    /// Judges what a request carries.
    ///
    /// # Errors
    /// [`Refused`]: nothing more of the request is looked at.
    pub fn admit(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
        let passes = match self {
            Self::Authorization { scheme, credentials } => {
                if !headers.contains_key(AUTHORIZATION) && scheme.eq_ignore_ascii_case("basic") {
                    return Err(Refused::Challenge);
                }
                only(headers, &AUTHORIZATION)
                    .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
                    .map(split)
                    .is_some_and(|(name, rest)| {
                        name.eq_ignore_ascii_case(scheme) && credentials.matches(rest.as_bytes())
                    })
            }
            Self::B2(key) => only(headers, &B2_SIGNATURE)
                .and_then(|value| value.as_bytes().strip_prefix(b"v1="))
                .and_then(digest)
                .is_some_and(|tag| hmac::verify(key, body, &tag).is_ok()),
            Self::Header(name, value) => only(headers, name).is_some_and(|given| value.matches(given.as_bytes())),
            Self::OpaqueData(secrets) => std::str::from_utf8(body).is_ok_and(|text| body::carries(text, secrets)),
            Self::Open => true,
        };
        if passes { Ok(()) } else { Err(Refused::Wrong) }
    }
}

/// The scheme, and what follows it after blanks. One word alone is no scheme: it may be a secret.
fn split(value: &str) -> (&str, &str) {
    let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
    (scheme, rest.trim_start_matches(' '))
}

/// The value of a header that stands exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// 64 lower-case hexadecimal digits, as B2 writes them.
fn digest(hex: &[u8]) -> Option<[u8; 32]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of `s3-dialects.md` 2.7.
    const B2_KEY: &str = "super-secret-signing-key-from-b2";
    const B2_BODY: &[u8] = br#"{"events":[{"accountId":"acct123","bucketId":"b1","bucketName":"my-bucket","eventId":"evt-1","eventTimestamp":1700000000000,"eventType":"b2:ObjectCreated:Upload","eventVersion":1,"matchedRuleName":"upload-rule","objectName":"photos/dog.jpg","objectSize":4096,"objectVersionId":"v-1"}]}"#;
    const B2_HEX: &str = "c16863fa075492853d6fe17abce6793634f7dbff7285f7373bb838b3217ba358";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    fn asks(auth: S3HttpAuth, lines: &[(&'static str, &str)]) -> Result<(), Refused> {
        Gate::new(Some(&auth)).admit(&headers(lines), B2_BODY)
    }

    #[test]
    fn an_authorization_is_compared_exactly_but_for_the_case_of_its_scheme() {
        let bearer =
            |lines: &[(&'static str, &str)]| asks(S3HttpAuth::Authorization(Secret::new("Bearer t0ken x")), lines);
        for good in ["Bearer t0ken x", "bearer t0ken x", "BEARER  t0ken x"] {
            assert_eq!(bearer(&[("authorization", good)]), Ok(()), "{good}");
        }
        for bad in [
            "Bearer t0ken",
            "Bearer T0KEN X",
            "Bearer t0ken x y",
            "Basic t0ken x",
            "t0ken x",
            "Bearer",
            "",
            "Bearert0ken x",
        ] {
            assert_eq!(bearer(&[("authorization", bad)]), Err(Refused::Wrong), "{bad}");
        }
        assert_eq!(bearer(&[]), Err(Refused::Wrong));
        let twice = [("authorization", "Bearer t0ken x"), ("authorization", "Bearer t0ken x")];
        assert_eq!(bearer(&twice), Err(Refused::Wrong));
        assert_eq!(bearer(&[("x-authorization", "Bearer t0ken x")]), Err(Refused::Wrong));
    }

    #[test]
    fn only_missing_basic_credentials_are_asked_for() {
        let basic =
            |lines: &[(&'static str, &str)]| asks(S3HttpAuth::Authorization(Secret::new("Basic bWluaW86cHc=")), lines);
        assert_eq!(basic(&[]), Err(Refused::Challenge));
        assert_eq!(basic(&[("authorization", "basic bWluaW86cHc=")]), Ok(()));
        assert_eq!(basic(&[("authorization", "Basic bWluaW86cHg=")]), Err(Refused::Wrong));
        assert_eq!(basic(&[("authorization", "Bearer x")]), Err(Refused::Wrong));
    }

    #[test]
    fn another_scheme_and_one_without_credentials_are_compared_too() {
        let splunk = S3HttpAuth::Authorization(Secret::new("Splunk a-b-c"));
        assert_eq!(asks(splunk.clone(), &[("authorization", "Splunk a-b-c")]), Ok(()));
        assert_eq!(asks(splunk, &[("authorization", "Splunk")]), Err(Refused::Wrong));
        let bare = S3HttpAuth::Authorization(Secret::new("opensesame"));
        assert_eq!(asks(bare.clone(), &[("authorization", "opensesame")]), Ok(()));
        for bad in ["opensesame x", "OpenSesame", "Bearer opensesame", "opensesam"] {
            assert_eq!(asks(bare.clone(), &[("authorization", bad)]), Err(Refused::Wrong), "{bad}");
        }
    }

    #[test]
    fn a_header_of_ones_own_stands_once_with_exactly_its_value() {
        let key = |lines: &[(&'static str, &str)]| {
            asks(S3HttpAuth::Header(HeaderName::from_static("x-api-key"), Secret::new("k3y")), lines)
        };
        assert_eq!(key(&[("x-api-key", "k3y")]), Ok(()));
        for bad in [
            vec![],
            vec![("x-api-key", "K3Y")],
            vec![("x-api-key", "")],
            vec![("x-api-key", "k3y"), ("x-api-key", "k3y")],
        ] {
            assert_eq!(key(&bad), Err(Refused::Wrong), "{bad:?}");
        }
    }

    #[test]
    fn b2_signs_the_raw_body_in_one_form_alone() {
        let with = |lines: &[(&'static str, &str)]| asks(S3HttpAuth::B2Signature(Secret::new(B2_KEY)), lines);
        let good = format!("v1={B2_HEX}");
        assert_eq!(with(&[("x-bz-event-notification-signature", &good)]), Ok(()));
        for bad in [
            B2_HEX.to_owned(),
            format!("v2={B2_HEX}"),
            format!("V1={B2_HEX}"),
            format!("v1={}", B2_HEX.to_uppercase()),
            format!("v1={}", &B2_HEX[..62]),
            format!("v1={B2_HEX}00"),
            format!("v1={good}"),
            format!("{good},{good}"),
            format!("v1={}", B2_HEX.replace("c1", "c2")),
            "v1=".to_owned(),
        ] {
            assert_eq!(with(&[("x-bz-event-notification-signature", &bad)]), Err(Refused::Wrong), "{bad}");
        }
        assert_eq!(with(&[]), Err(Refused::Wrong));
        let twice =
            [("x-bz-event-notification-signature", good.as_str()), ("x-bz-event-notification-signature", &good)];
        assert_eq!(with(&twice), Err(Refused::Wrong));
        let gate = Gate::new(Some(&S3HttpAuth::B2Signature(Secret::new(B2_KEY))));
        let signed = headers(&[("x-bz-event-notification-signature", &good)]);
        assert_eq!(gate.admit(&signed, &[B2_BODY, b" "].concat()), Err(Refused::Wrong), "every byte counts");
        let other = Gate::new(Some(&S3HttpAuth::B2Signature(Secret::new("another key"))));
        assert_eq!(other.admit(&signed, B2_BODY), Err(Refused::Wrong));
    }

    #[test]
    fn without_a_demand_the_path_is_all() {
        assert_eq!(Gate::new(None).admit(&HeaderMap::new(), b""), Ok(()));
    }
}
