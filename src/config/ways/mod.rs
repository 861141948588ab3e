//! The ways in of an instance besides SNS: MCS S3 webhooks, bare S3 records, SQS, listings. What each is told, and its grammar.

mod listing;
mod mcs;
mod poller;
mod s3http;
mod sqs;

pub(super) use listing::{Asked, listing, remember_for};
pub use listing::{ListingConfig, ListingKind};
pub use mcs::{McsEndpoint, McsTopic};
pub(super) use mcs::{endpoints as mcs_endpoints, topics as mcs_topics};
pub(super) use s3http::s3http;
pub use s3http::{S3HttpAuth, S3HttpConfig};
pub use sqs::SqsConfig;
pub(super) use sqs::sqs;

use super::values::Reader;
use crate::record::KeyCoding;
use crate::secret::Secret;

/// How a producer may write keys.
const CODINGS: [(&str, KeyCoding); 3] =
    [("form", KeyCoding::Form), ("percent", KeyCoding::Percent), ("raw", KeyCoding::Raw)];

/// Below this a secret can be guessed by trying.
const MIN_SECRET: usize = 16;

/// Whether a secret can be guessed by trying.
fn is_short(secret: &Secret) -> bool {
    secret.expose().len() < MIN_SECRET
}

/// The secret path parts of a setting: one, or two during a rotation, one a line in a file or two in a document's list.
///
/// They stand in URLs that people copy between consoles, so only what no client and no proxy ever encodes is allowed.
fn secrets(reader: &mut Reader<'_>, name: &str, warnings: &mut Vec<String>) -> Vec<Secret> {
    let Some(given) = reader.values.get(name) else { return Vec::new() };
    let mut lines: Vec<&str> = Vec::new();
    let parts = if given.lines { given.text.lines().collect() } else { vec![given.text.as_str()] };
    for line in parts.into_iter().map(str::trim).filter(|line| !line.is_empty()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let unreserved = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
    if lines.iter().any(|line| !line.bytes().all(unreserved) || matches!(*line, "." | "..")) {
        reader.refuse(
            name,
            "the secret holds characters that cannot stand in the path of a URL as they are",
            "use letters, digits and - . _ ~ alone, such as the output of `openssl rand -hex 24`",
        );
        return Vec::new();
    }
    if lines.len() > 2 {
        reader.refuse(
            name,
            format!("there are {} secrets", lines.len()),
            "keep the new one and, during a rotation, the old one, one a line",
        );
        return Vec::new();
    }
    if lines.iter().any(|line| line.len() < MIN_SECRET) {
        warnings.push(format!(
            "{} is shorter than {MIN_SECRET} characters: whoever guesses it can hand in events",
            reader.values.label(name)
        ));
    }
    lines.into_iter().map(Secret::new).collect()
}
