//! From a well-formed message to a proven one.
//!
//! [`precheck`] asks everything that needs no certificate; [`verify_signature`] is the only place where a [`Verified`] value is made.

use std::collections::HashSet;
use std::time::Duration;

use url::Url;

use super::chain::SigningKey;
use super::message::{Envelope, Kind};
use super::refusal::{Reason, Refusal};
use super::url::{TopicArn, certificate_url, check_subscribe_url, confirmation_url};
use crate::clock::UnixMillis;
use crate::config::ChainPolicy;

/// How far ahead of our clock a message may be (hard case 9).
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// What is accepted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Exact topic ARNs; none means that nothing is accepted.
    pub topics: HashSet<String>,
    /// Lowest accepted SignatureVersion, 1 or 2. The version itself is not signed, so only the receiver can insist on it.
    pub min_signature_version: u8,
    /// Replay window.
    pub max_age: Duration,
    /// What to do about chains that do not lead to a root.
    pub chain: ChainPolicy,
    /// An SNS other than Amazon's (hard case 8).
    pub endpoint: Option<Url>,
}

/// Judges all that needs no certificate, cheapest first (`sns.md` 2.4), and gives the address of the certificate.
///
/// # Errors
/// The first rule that the message breaks. Time refusals are `clock_off` while `clock_is_off`.
pub fn precheck(envelope: &Envelope<'_>, policy: &Policy, now: UnixMillis, clock_is_off: bool) -> Result<Url, Refusal> {
    let topic = envelope.topic();
    if !policy.topics.contains(topic.as_str()) {
        return Err(Refusal::new(Reason::TopicNotAllowed, format!("{} is not a configured topic", topic.as_str())));
    }
    let url = certificate_url(envelope.signing_cert_url(), topic, policy.endpoint.as_ref())?;
    if let (Some(subscribe_url), Some(token)) = (envelope.subscribe_url(), envelope.token()) {
        check_subscribe_url(subscribe_url, topic, token, policy.endpoint.as_ref())?;
    }
    let refuse_time = |reason, detail: String| {
        let reason = if clock_is_off { Reason::ClockOff } else { reason };
        Err(Refusal::new(reason, detail))
    };
    if envelope.timestamp() > now.plus(FUTURE_TOLERANCE) {
        return refuse_time(Reason::Future, format!("{} is ahead of our clock, {now}", envelope.timestamp_text()));
    }
    if now.since(envelope.timestamp()) > policy.max_age {
        let window = humantime::format_duration(policy.max_age);
        let detail = format!("{} is more than {window} before our clock, {now}", envelope.timestamp_text());
        return refuse_time(Reason::Stale, detail);
    }
    if envelope.signature_version() < policy.min_signature_version {
        let detail = format!(
            "SignatureVersion {} is below the configured {}",
            envelope.signature_version(),
            policy.min_signature_version
        );
        return Err(Refusal::new(Reason::SignatureVersionTooLow, detail));
    }
    envelope.signature()?;
    Ok(url)
}

/// Proves that the holder of `key` signed `envelope`.
///
/// # Errors
/// `bad_signature`, `bad_signature_encoding`.
pub fn verify_signature(envelope: &Envelope<'_>, key: &SigningKey) -> Result<Verified, Refusal> {
    let signature = envelope.signature()?;
    if !key.verify(envelope.signature_version(), envelope.canonical_string().as_bytes(), &signature) {
        return Err(Refusal::new(
            Reason::BadSignature,
            format!("version {} does not verify under the key of {}", envelope.signature_version(), key.url()),
        ));
    }
    let confirmation = || VerifiedConfirmation {
        message_id: envelope.message_id().to_owned(),
        topic_arn: envelope.topic().as_str().to_owned(),
        // Only a notification has no token, and it does not get here.
        token: envelope.token().unwrap_or_default().to_owned(),
        message: envelope.message().to_owned(),
        timestamp: envelope.timestamp(),
    };
    Ok(match envelope.kind() {
        Kind::Notification => Verified::Notification(VerifiedNotification {
            message_id: envelope.message_id().to_owned(),
            topic_arn: envelope.topic().as_str().to_owned(),
            subject: envelope.subject().map(str::to_owned),
            message: envelope.message().to_owned(),
            timestamp: envelope.timestamp(),
            timestamp_text: envelope.timestamp_text().to_owned(),
        }),
        Kind::SubscriptionConfirmation => Verified::SubscriptionConfirmation(confirmation()),
        Kind::UnsubscribeConfirmation => Verified::UnsubscribeConfirmation(confirmation()),
    })
}

/// A message that Amazon SNS (or the configured other SNS) sent for a configured topic. Made only by [`verify_signature`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Something was published.
    Notification(VerifiedNotification),
    /// Somebody subscribed us to a configured topic.
    SubscriptionConfirmation(VerifiedConfirmation),
    /// Somebody ended our subscription. Confirming it would begin it again.
    UnsubscribeConfirmation(VerifiedConfirmation),
}

impl Verified {
    /// `MessageId`: the same on every retry, so the key of deduplication.
    pub fn message_id(&self) -> &str {
        match self {
            Self::Notification(n) => &n.message_id,
            Self::SubscriptionConfirmation(c) | Self::UnsubscribeConfirmation(c) => &c.message_id,
        }
    }

    /// `TopicArn`.
    pub fn topic_arn(&self) -> &str {
        match self {
            Self::Notification(n) => &n.topic_arn,
            Self::SubscriptionConfirmation(c) | Self::UnsubscribeConfirmation(c) => &c.topic_arn,
        }
    }

    /// `Type`.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Notification(_) => Kind::Notification,
            Self::SubscriptionConfirmation(_) => Kind::SubscriptionConfirmation,
            Self::UnsubscribeConfirmation(_) => Kind::UnsubscribeConfirmation,
        }
    }
}

/// A proven notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedNotification {
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    timestamp: UnixMillis,
    timestamp_text: String,
}

impl VerifiedNotification {
    /// `MessageId`, a lower-case UUID.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// `TopicArn`, one of those configured.
    pub fn topic_arn(&self) -> &str {
        &self.topic_arn
    }

    /// `Subject`, when it has one.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `Message`, decoded: what was published.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `Timestamp` as a time.
    pub fn timestamp(&self) -> UnixMillis {
        self.timestamp
    }

    /// `Timestamp` as it came.
    pub fn timestamp_text(&self) -> &str {
        &self.timestamp_text
    }
}

/// A proven confirmation of either kind.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedConfirmation {
    message_id: String,
    topic_arn: String,
    token: String,
    message: String,
    timestamp: UnixMillis,
}

impl VerifiedConfirmation {
    /// `MessageId`, a lower-case UUID.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// `TopicArn`, one of those configured.
    pub fn topic_arn(&self) -> &str {
        &self.topic_arn
    }

    /// `Token`. A secret: whoever has it can confirm.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// `Message`: SNS's own words about what happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `Timestamp` as a time. The token lives for 48 hours from here (`sns.md` 1.3).
    pub fn timestamp(&self) -> UnixMillis {
        self.timestamp
    }

    /// The address that confirms, built from topic and token, never taken from the message.
    ///
    /// `endpoint` is that of the other SNS, if there is one (hard case 8). `None` cannot be for Amazon's.
    pub fn confirmation_url(&self, endpoint: Option<&Url>) -> Option<Url> {
        confirmation_url(&TopicArn::parse(self.topic_arn.as_str()).ok()?, &self.token, endpoint)
    }
}

/// Without the token.
impl std::fmt::Debug for VerifiedConfirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedConfirmation")
            .field("message_id", &self.message_id)
            .field("topic_arn", &self.topic_arn)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
