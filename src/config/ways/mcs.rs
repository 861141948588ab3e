//! MCS S3 webhooks: which buckets' are accepted, and at which URLs they arrive (`s3-dialects.md` 1, hard case 14).

use super::{CODINGS, is_short, secrets};
use crate::config::callback::http_url;
use crate::config::problem::quote;
use crate::config::text::{Wrong, choice, list, wrong};
use crate::config::values::Reader;
use crate::record::{Dialect, KeyCoding};
use crate::secret::Secret;

/// One URL at which MCS S3 webhooks arrive. Both parts hold the secret.
#[derive(Clone, Debug)]
pub struct McsEndpoint {
    /// The URL byte for byte as in the bucket's configuration: what a handshake's answer signs.
    pub url: Secret,
    /// Path and query of it as they come in a request line, such as `/mcs/<secret>`; `/` where the URL has none.
    pub target: Secret,
    /// The path of the URL where `target` is not that: a public URL has a path, which what leads to us may remove or hand on.
    pub whole: Option<Secret>,
    /// How keys are written in what arrives there (`POSTERN_MCS_KEY_CODING`): no page of MCS says it.
    pub key_coding: KeyCoding,
    /// Whether somebody could guess the URL, or read it on the way: nothing in it is a secret, or a short one, or it is plain HTTP.
    pub weak: bool,
}

/// The first two parts of an MCS TopicArn, `project|bucket|events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McsTopic {
    /// Project id, such as `mcs2883541269`; also the `ownerIdentity` of its records.
    pub project: String,
    /// The bucket's name.
    pub bucket: String,
}

const TOPICS: &str = "POSTERN_MCS_TOPICS";
const SECRET: &str = "POSTERN_MCS_SECRET";
const URL: &str = "POSTERN_MCS_URL";
const KEY_CODING: &str = "POSTERN_MCS_KEY_CODING";
const PUBLIC_URL: &str = "POSTERN_PUBLIC_URL";
/// As long as the URL of a callback may be.
const MAX_URL: usize = 2048;

/// Pairs of `POSTERN_MCS_TOPICS`.
pub(in crate::config) fn topics(reader: &mut Reader<'_>) -> Vec<McsTopic> {
    let topics = reader.read(TOPICS, |text| list(text).iter().map(|pair| topic(pair)).collect::<Result<Vec<_>, _>>());
    if topics.as_ref().is_some_and(Vec::is_empty) {
        reader.refuse(TOPICS, "holds no pair", "set project|bucket of its TopicArn");
    }
    topics.unwrap_or_default()
}

fn topic(pair: &str) -> Result<McsTopic, Wrong> {
    const ADVICE: &str = "use the first two parts of the MCS TopicArn, such as mcs2883541269|photos";
    let name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    match pair.split_once('|') {
        Some((project, bucket))
            if [project, bucket].iter().all(|part| !part.is_empty() && part.len() <= 255 && part.bytes().all(name)) =>
        {
            Ok(McsTopic { project: project.to_owned(), bucket: bucket.to_owned() })
        }
        _ => wrong(format!("{} is not project|bucket", quote(pair)), ADVICE),
    }
}

/// Where MCS S3 webhooks arrive. `accepted` are the labels of the settings that name whose are accepted, over all instances.
pub(in crate::config) fn endpoints(
    reader: &mut Reader<'_>,
    accepted: &[String],
    warnings: &mut Vec<String>,
) -> Vec<McsEndpoint> {
    let secrets = secrets(reader, SECRET, warnings);
    let set = [SECRET, URL].into_iter().find(|name| reader.values.is_set(name));
    match (set, accepted.first()) {
        // A document that could not be read would perhaps have named some.
        (Some(_), None) if reader.values.is_set("POSTERN_INSTANCES") && !reader.problems.is_empty() => {}
        (Some(set), None) => {
            let label = reader.values.label(set);
            reader.refuse(
                TOPICS,
                format!(
                    "is not set, here or in an instance document, but {label} is: no MCS S3 webhook would be accepted"
                ),
                "set the project|bucket pairs to accept, or remove the other",
            );
        }
        (None, Some(label)) => reader.refuse(
            SECRET,
            format!("is not set, and neither is POSTERN_MCS_URL, but {label} is"),
            "set a secret of at least 16 letters and digits; the webhook's URL is then the public URL and /mcs/SECRET",
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let coding = reader.read(KEY_CODING, |text| choice(text, &CODINGS)).unwrap_or(Dialect::MCS.key_coding);
    if set.is_none() {
        warnings.extend(reader.values.idle(&[KEY_CODING], "no MCS S3 webhook is accepted"));
    }
    let mut endpoints =
        if reader.values.is_set(URL) { told(reader, &secrets, warnings) } else { made(reader, &secrets) };
    endpoints.iter_mut().for_each(|endpoint| endpoint.key_coding = coding);
    if endpoints.iter().any(|endpoint| is_weak(endpoint.url.expose(), &[])) {
        warnings
            .push("MCS S3 webhooks come over plain HTTP: their secret and events can be read on the way".to_owned());
    }
    endpoints
}

/// `POSTERN_MCS_URL`: one URL, or two lines with one each in a file while the bucket moves from one to the other.
fn told(reader: &mut Reader<'_>, secrets: &[Secret], warnings: &mut Vec<String>) -> Vec<McsEndpoint> {
    let Some(given) = reader.values.get(URL) else { return Vec::new() };
    let lines: Vec<&str> = if given.lines { given.text.lines().collect() } else { vec![given.text.as_str()] };
    let urls: Vec<&str> = lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect();
    if urls.len() > 2 {
        reader.refuse(URL, format!("there are {} URLs", urls.len()), "keep the new one and the old one, one a line");
        return Vec::new();
    }
    let mut endpoints: Vec<McsEndpoint> = Vec::new();
    for text in urls {
        match target(text) {
            Ok(target) if endpoints.iter().any(|known| known.target.expose() == target) => reader.refuse(
                URL,
                "the two URLs have the same path and query, so that a request would not tell which of them it came for",
                "give them different ones",
            ),
            Ok(target) => {
                if !holds_a_secret(&target, secrets) {
                    warnings.push(
                        "POSTERN_MCS_URL holds no secret in its path or query (POSTERN_MCS_SECRET, where that is set): \
                         whoever guesses the URL can hand in events"
                            .to_owned(),
                    );
                }
                let weak = !holds_a_secret(&target, secrets) || is_weak(text, secrets);
                endpoints.push(McsEndpoint {
                    url: Secret::new(text),
                    target: Secret::new(target),
                    whole: None,
                    key_coding: Dialect::MCS.key_coding,
                    weak,
                });
            }
            Err((what, advice)) => reader.refuse(URL, what, advice),
        }
    }
    endpoints
}

/// The default: the public URL as it was written, and `/mcs/<secret>`.
fn made(reader: &mut Reader<'_>, secrets: &[Secret]) -> Vec<McsEndpoint> {
    let Some(public_url) = reader.text(PUBLIC_URL) else {
        if !secrets.is_empty() && !reader.values.is_set(PUBLIC_URL) {
            reader.refuse(
                PUBLIC_URL,
                "is not set, and neither is POSTERN_MCS_URL, but POSTERN_MCS_SECRET is",
                "set the URL by which MCS reaches this sidecar, such as https://events.example.com",
            );
        }
        return Vec::new();
    };
    if !secrets.is_empty() && public_url.contains('?') {
        reader.refuse(PUBLIC_URL, "has a query, to which no path can be added", "remove what begins at ?");
    }
    let base = public_url.trim_end_matches('/');
    let endpoint = |secret: &Secret| {
        let url = format!("{base}/mcs/{}", secret.expose());
        let path = format!("/mcs/{}", secret.expose());
        let whole = target(&url).ok().filter(|whole| *whole != path).map(Secret::new);
        let weak = is_weak(base, std::slice::from_ref(secret));
        let key_coding = Dialect::MCS.key_coding;
        McsEndpoint { url: Secret::new(url), target: Secret::new(path), whole, key_coding, weak }
    };
    secrets.iter().map(endpoint).collect()
}

/// Whether the URL comes in the clear, or with a secret that can be guessed.
fn is_weak(url: &str, secrets: &[Secret]) -> bool {
    url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) || secrets.iter().any(is_short)
}

/// Path and query of a URL as they stand in a request line: as they are written, never normalized. No part of the URL is in a failure.
fn target(text: &str) -> Result<String, Wrong> {
    const ADVICE: &str =
        "set it byte for byte as in the bucket's configuration, such as https://events.example.com/mcs/SECRET";
    let ascii = text.len() <= MAX_URL && text.bytes().all(|c| c.is_ascii_graphic());
    if !ascii || http_url(text).is_err() {
        return wrong(
            format!(
                "is not an http or https URL of at most {MAX_URL} visible ASCII characters without user information and fragment"
            ),
            ADVICE,
        );
    }
    // `http_url` saw to the two slashes.
    let (_, rest) = text.split_once("//").unwrap_or_default();
    let rest = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    if target.parse::<hyper::http::uri::PathAndQuery>().is_err() {
        return wrong("its path or query holds characters that cannot stand in a request", ADVICE);
    }
    let path = target.split('?').next().unwrap_or_default();
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return wrong("its path holds . or .., which clients and proxies remove", "use a path without them");
    }
    if path == "/sns" || path == "/s3" || path.starts_with("/s3/") {
        return wrong("its path is one at which other messages arrive", "use another, such as /mcs/SECRET");
    }
    Ok(target)
}

/// Whether nobody guesses the target: it holds a known secret or, where none is set, a part that looks like one.
fn holds_a_secret(target: &str, secrets: &[Secret]) -> bool {
    let random = |part: &str| {
        part.len() >= super::MIN_SECRET
            && part.bytes().any(|c| c.is_ascii_digit())
            && part.bytes().any(|c| c.is_ascii_alphabetic())
    };
    if secrets.is_empty() {
        return target.split(['/', '?', '&', '=']).any(random);
    }
    secrets.iter().any(|secret| target.contains(secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_url_behind_its_authority_as_it_was_written() {
        for (url, expected) in [
            ("http://test.com", "/"),
            ("http://test.com/", "/"),
            ("http://89.208.199.220/webhook", "/webhook"),
            ("HTTPS://Hooks.Example.com:443/mcs/s3?src=a", "/mcs/s3?src=a"),
            ("http://[::1]:8443?x=1", "/?x=1"),
            ("https://h/%7Ea//b/?u=http://x/y", "/%7Ea//b/?u=http://x/y"),
            ("https://h/snsx", "/snsx"),
        ] {
            assert_eq!(target(url).as_deref(), Ok(expected), "{url}");
        }
        for bad in [
            "test.com",
            "ftp://h/hunter2",
            "https://u:hunter2@h/",
            "https://h/#hunter2",
            "https://h/hunter2 x",
            "https://h/é",
            "https://h/a/../hunter2",
            "https://h/sns",
            "https://h/sns?hunter2",
            "https://h/s3/hunter2",
            "https://h/s3",
            "https:/h/x",
        ] {
            let (what, advice) = target(bad).expect_err(bad);
            assert!(!format!("{what}{advice}").contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn pairs_have_a_project_and_a_bucket_without_blanks() {
        assert_eq!(topic("mcs1|b.c"), Ok(McsTopic { project: "mcs1".into(), bucket: "b.c".into() }));
        for bad in ["mcs1", "mcs1|", "|b", "mcs1|b|s3:ObjectCreated:*", "mcs 1|b", "mcs1|b c", "mcs1 |b"] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }
}
