//! The callback of one place and what proves it: URL, signature keys, extra headers, Basic credentials.

use hyper::header::{HeaderName, HeaderValue};

use super::json::Json;
use super::process::basic;
use super::values::Reader;
use super::{Basic, CallbackUrl, callback};
use crate::secret::Secret;

pub(super) const CALLBACK: &str = "event.notification.callback.url";
pub(super) const SIGNATURE_KEY: &str = "event.notification.signature.key";
const HEADERS: &str = "event.notification.callback.headers";
const USERNAME: &str = "event.notification.basic.username";
const PASSWORD: &str = "event.notification.basic.password";

/// Where events go and how the callback is proven: one thing, because a document takes it from the environment whole or not at all.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) callback: CallbackUrl,
    pub(super) signature_keys: Vec<Secret>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) basic: Option<Basic>,
}

/// Reads the callback and its proof; what is not set comes from `inherited`.
pub(super) fn delivery(reader: &mut Reader<'_>, inherited: Option<&Delivery>) -> Option<Delivery> {
    let callback = reader.read(CALLBACK, CallbackUrl::parse);
    let keys = signature_keys(reader);
    let basic = basic(reader, USERNAME, PASSWORD).or_else(|| inherited.and_then(|from| from.basic.clone()));
    let own = headers(reader, basic.is_some());
    let headers = own.or_else(|| inherited.map(|from| from.headers.clone())).unwrap_or_default();
    // The environment's headers were checked against its own credentials, not against those of a document.
    if basic.is_some() && headers.iter().any(|(name, _)| name == hyper::header::AUTHORIZATION) {
        reader.refuse(
            USERNAME,
            "is set, but the environment's headers hold an Authorization already",
            "keep one of the two",
        );
    }
    Some(Delivery {
        callback: callback.or_else(|| inherited.map(|from| from.callback.clone()))?,
        signature_keys: keys.or_else(|| inherited.map(|from| from.signature_keys.clone())).unwrap_or_default(),
        headers,
        basic,
    })
}

/// One key, or two lines with one each in a file during a rotation (hard case 13).
fn signature_keys(reader: &mut Reader<'_>) -> Option<Vec<Secret>> {
    let given = reader.values.get(SIGNATURE_KEY)?;
    if !given.lines {
        return Some(vec![Secret::new(given.text.as_str())]);
    }
    let keys: Vec<&str> = given.text.lines().filter(|line| !line.is_empty()).collect();
    if keys.len() > 2 {
        reader.refuse(
            SIGNATURE_KEY,
            format!("there are {} keys", keys.len()),
            "keep the new one and, during a rotation, the old one, one a line",
        );
        return None;
    }
    Some(keys.into_iter().map(Secret::new).collect())
}

fn headers(reader: &mut Reader<'_>, basic: bool) -> Option<Vec<(HeaderName, HeaderValue)>> {
    const ADVICE: &str = r#"use a JSON object of strings, such as {"X-Team": "media"}"#;
    let json = reader.read(HEADERS, |text| Json::parse(text).map_err(|what| (what, ADVICE.to_owned())))?;
    let Json::Object(members) = &json else {
        reader.refuse(HEADERS, format!("is {} and not an object", json.kind()), ADVICE);
        return None;
    };
    let pairs = members.iter().map(|(name, value)| {
        let value = if let Json::Text(text) = value { Some(text.as_str()) } else { None };
        (name.as_str(), value)
    });
    match callback::headers(pairs, basic) {
        Ok(headers) => Some(headers),
        Err(problems) => {
            problems.into_iter().for_each(|(what, advice)| reader.refuse(HEADERS, what, advice));
            None
        }
    }
}
