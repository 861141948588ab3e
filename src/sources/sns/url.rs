//! Which addresses belong to a topic: everything is rebuilt from the TopicArn and compared, nothing is taken from the message.
//!
//! One key signs for every account and classic region of a partition (`sns.md` 0.1), so none of this says who owns a topic; it says
//! that a certificate or confirmation address is the one of Amazon SNS in the topic's own region (`sns.md` 1.4).

use std::borrow::Cow;

use url::Url;

use super::refusal::{Reason, Refusal};
use crate::config::{Partition, is_acceptable_endpoint, topic_parts};

/// Regions whose SNS signs under a name of their own; the older commercial regions share one.
const OPT_IN_REGIONS: [&str; 19] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "eu-isoe-west-1",
];

/// The ARN of an SNS topic whose region exists in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicArn<'a> {
    text: Cow<'a, str>,
    partition: &'static Partition,
    region: std::ops::Range<usize>,
}

impl<'a> TopicArn<'a> {
    /// Reads `arn:<partition>:sns:<region>:<12 digits>:<name>`, exactly.
    ///
    /// # Errors
    /// `bad_topic_arn`.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, Refusal> {
        let text = text.into();
        match topic_parts(&text) {
            Ok((partition, region)) => {
                let start = "arn:".len() + partition.name.len() + ":sns:".len();
                let region = start..start + region.len();
                Ok(Self { text, partition, region })
            }
            Err(_) => {
                let excerpt: String = text.chars().take(96).collect();
                Err(Refusal::new(Reason::BadTopicArn, format!("{excerpt:?} is not the ARN of an SNS topic")))
            }
        }
    }

    /// The ARN as it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its region.
    pub fn region(&self) -> &str {
        &self.text[self.region.clone()]
    }

    /// The name of the topic.
    pub fn name(&self) -> &str {
        self.text.rsplit(':').next().unwrap_or_default()
    }

    /// The host of SNS in the topic's region, which alone serves its certificates and confirmations.
    pub fn sns_host(&self) -> String {
        format!("sns.{}.{}", self.region(), self.partition.suffix)
    }

    /// The DNS name that a certificate must hold to sign for this topic's region (`sns.md` 1.4). It is rarely the host.
    pub fn signing_name(&self) -> Cow<'static, str> {
        let (partition, region) = (self.partition, self.region());
        match partition.name {
            "aws-cn" => format!("sns-{region}.{}", partition.suffix).into(),
            "aws-us-gov" => "sns-us-gov-west-1.amazonaws.com".into(),
            "aws-iso" | "aws-iso-b" if region.ends_with("-east-1") => {
                format!("sns-{region}.{}", partition.suffix).into()
            }
            "aws-iso-f" => format!("sns-signing.{region}.{}", partition.suffix).into(),
            _ if OPT_IN_REGIONS.contains(&region) => format!("sns-signing.{region}.{}", partition.suffix).into(),
            "aws" => "sns.amazonaws.com".into(),
            _ => format!("sns.{}", partition.suffix).into(),
        }
    }
}

/// Checks that `url` is where the topic's certificates are, and gives it back as an address to fetch.
///
/// Amazon's is exactly `https://<host>/SimpleNotificationService-<32 hex>.pem`. Another SNS (hard case 8) may use any path of its origin.
///
/// # Errors
/// `cert_url_untrusted`.
pub fn certificate_url(url: &str, topic: &TopicArn<'_>, endpoint: Option<&Url>) -> Result<Url, Refusal> {
    let refuse = |why: &str| Err(Refusal::new(Reason::CertUrlUntrusted, why));
    let Some(endpoint) = endpoint else {
        let host = topic.sns_host();
        let fits = url
            .strip_prefix("https://")
            .and_then(|rest| rest.strip_prefix(host.as_str()))
            .and_then(|rest| rest.strip_prefix("/SimpleNotificationService-"))
            .and_then(|rest| rest.strip_suffix(".pem"))
            .is_some_and(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        return match Url::parse(url) {
            Ok(parsed) if fits && parsed.as_str() == url => Ok(parsed),
            _ => refuse(&format!("SigningCertURL is not a certificate of https://{host}/")),
        };
    };
    match parse_plain(url) {
        Some(parsed) if is_of(&parsed, endpoint) && parsed.query().is_none() => Ok(parsed),
        Some(parsed) if parsed.origin() != endpoint.origin() => refuse(&elsewhere("SigningCertURL", &parsed, endpoint)),
        _ => refuse(&format!("SigningCertURL is not a path of {}", endpoint.origin().ascii_serialization())),
    }
}

/// Checks that a confirmation's `SubscribeURL` is the one that its topic and token make.
///
/// # Errors
/// `subscribe_url_untrusted`.
pub fn check_subscribe_url(
    url: &str,
    topic: &TopicArn<'_>,
    token: &str,
    endpoint: Option<&Url>,
) -> Result<(), Refusal> {
    let fits = match endpoint {
        None => url == amazon_confirmation(topic, token),
        Some(endpoint) => parse_plain(url).is_some_and(|parsed| {
            let mut wanted =
                [("Action", "ConfirmSubscription"), ("TopicArn", topic.as_str()), ("Token", token)].to_vec();
            is_of(&parsed, endpoint)
                && parsed.query_pairs().all(|(name, value)| {
                    let found = wanted.iter().position(|pair| *pair == (&*name, &*value));
                    found.map(|at| wanted.swap_remove(at)).is_some()
                })
                && wanted.is_empty()
        }),
    };
    if fits {
        return Ok(());
    }
    let why = match (endpoint, parse_plain(url)) {
        (Some(endpoint), Some(parsed)) if parsed.origin() != endpoint.origin() => {
            elsewhere("SubscribeURL", &parsed, endpoint)
        }
        _ => "SubscribeURL is not the one that TopicArn and Token make".to_owned(),
    };
    Err(Refusal::new(Reason::SubscribeUrlUntrusted, why))
}

/// What an operator needs who configured the right SNS by another name than the one that it calls itself.
fn elsewhere(member: &str, url: &Url, endpoint: &Url) -> String {
    format!(
        "{member} is at {}, not at {}; if both are the same SNS, set POSTERN_SNS_ENDPOINT_URL to the former, or have it call itself by the latter",
        url.origin().ascii_serialization(),
        endpoint.origin().ascii_serialization()
    )
}

/// The address that confirms a subscription, built by us. `None` only when `endpoint` cannot carry a path.
///
/// The caller holds a verified topic and token; the address is a secret, because it holds the token.
pub fn confirmation_url(topic: &TopicArn<'_>, token: &str, endpoint: Option<&Url>) -> Option<Url> {
    match endpoint {
        None => Url::parse(&amazon_confirmation(topic, token)).ok(),
        Some(endpoint) => {
            let mut url = endpoint.join("/").ok()?;
            url.query_pairs_mut()
                .append_pair("Action", "ConfirmSubscription")
                .append_pair("TopicArn", topic.as_str())
                .append_pair("Token", token);
            Some(url)
        }
    }
}

fn amazon_confirmation(topic: &TopicArn<'_>, token: &str) -> String {
    format!("https://{}/?Action=ConfirmSubscription&TopicArn={}&Token={token}", topic.sns_host(), topic.as_str())
}

fn is_of(url: &Url, endpoint: &Url) -> bool {
    is_acceptable_endpoint(endpoint) && url.origin() == endpoint.origin()
}

/// A URL without anything that parsers disagree about: blanks, control characters, backslashes, user names, fragments.
fn parse_plain(text: &str) -> Option<Url> {
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let authority_ends = text.find("://").map(|at| text[at + 3..].split(['/', '?', '#']).next().unwrap_or_default());
    (url.fragment().is_none() && authority_ends.is_some_and(|authority| !authority.contains('@'))).then_some(url)
}

#[cfg(test)]
mod tests;
