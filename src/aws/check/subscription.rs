//! Judging a topic's subscriptions and how they deliver. Pure: attributes as SNS gives them go in (`sns.md` 1.6 and 1.7).

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use crate::health::Checked;

/// A subscription as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Its ARN, or the words `PendingConfirmation` or `Deleted`.
    pub arn: String,
    /// `https`, `sqs`, ...
    pub protocol: String,
    /// Where it delivers; of a URL with a password SNS shows asterisks.
    pub endpoint: String,
}

/// Seconds over which a delivery policy keeps trying, below which an operator should hear of it: a redeployment can take as long.
const SHORT: u64 = 15 * 60;
const DELIVERY: &str = "delivery_policy";

/// Which of `subscriptions` is ours: that of `url`, compared without user information; without a URL those over HTTP. An ended one,
/// which SNS lists for days as `Deleted`, is none; those that may be confirmed come first.
pub(super) fn ours<'a>(subscriptions: &'a [Subscription], url: Option<&Url>) -> Vec<&'a Subscription> {
    let wanted = url.map(plain);
    let is_ours = |one: &&Subscription| {
        if !matches!(one.protocol.as_str(), "http" | "https") || one.arn == "Deleted" {
            return false;
        }
        wanted.as_ref().is_none_or(|wanted| Url::parse(&one.endpoint).is_ok_and(|url| plain(&url) == *wanted))
    };
    let mut ours: Vec<&Subscription> = subscriptions.iter().filter(is_ours).collect();
    ours.sort_by_key(|one| !one.arn.starts_with("arn:"));
    ours
}

/// What is wrong with the credentials that SNS sends for a subscription of `endpoint`, where the sidecar asks for those of `user`.
pub(super) fn credentials(endpoint: &str, user: Option<&str>) -> Option<Checked> {
    let user = user?;
    let listed = Url::parse(endpoint).ok()?;
    let mut ours = listed.clone();
    ours.set_username(user).ok()?;
    // In a URL it is encoded: here as little as the standard of URLs wants, by a console perhaps as much as it allows.
    let plain = |url: &Url| percent_decode_str(url.username()).collect::<Vec<u8>>();
    let found = match listed.username() {
        _ if plain(&listed) == plain(&ours) => return None,
        "" => "holds no user name",
        _ => "holds another user name than POSTERN_SNS_BASIC_USERNAME",
    };
    Some(Checked::fail(
        "subscription",
        format!("the subscription of {} {found}: SNS's messages are answered 401", shown(endpoint)),
        "run `postern setup`, which subscribes the URL anew with the credentials of these settings and ends the old subscription",
    ))
}

/// A URL without user information and trailing slash.
fn plain(url: &Url) -> String {
    let path = url[url::Position::BeforePath..url::Position::AfterQuery].trim_end_matches('/').to_owned();
    format!("{}{path}", url.origin().ascii_serialization())
}

/// A URL for people: its origin and path, without user information and query.
fn shown(endpoint: &str) -> String {
    Url::parse(endpoint).map_or_else(
        |_| "an address that is no URL".to_owned(),
        |url| format!("{}{}", url.origin().ascii_serialization(), url.path()),
    )
}

/// That our subscription is there and confirmed. `attributes` are those of the one at hand, where they could be read.
pub(super) fn state(
    topic: &str,
    ours: &[&Subscription],
    url: Option<&Url>,
    attributes: Option<&HashMap<String, String>>,
) -> Checked {
    const NAME: &str = "subscription";
    let at = url.map_or_else(|| "over HTTP".to_owned(), |url| format!("of {}", shown(url.as_str())));
    let Some(one) = ours.first() else {
        return Checked::fail(
            NAME,
            format!("topic {topic} has no subscription {at}"),
            "run `postern setup`, or subscribe the URL; the sidecar confirms it by itself while it runs",
        );
    };
    let pending = attributes.and_then(|of| of.get("PendingConfirmation")).map(String::as_str);
    if !one.arn.starts_with("arn:") || pending == Some("true") {
        return Checked::warn(
            NAME,
            format!("the subscription {at} to topic {topic} is not confirmed yet"),
            "while the sidecar runs and the URL reaches it, it confirms by itself; a token lives two days: then subscribe again",
        );
    }
    if ours.len() > 1 {
        return Checked::warn(
            NAME,
            format!("topic {topic} has {} subscriptions {at}: each change may arrive as often", ours.len()),
            "keep one of them; set POSTERN_PUBLIC_URL so that ours can be told",
        );
    }
    if url.is_some_and(|url| url.scheme() == "http") || one.protocol == "http" {
        return Checked::warn(
            NAME,
            format!("the subscription of {} to topic {topic} is confirmed, over plain HTTP", shown(&one.endpoint)),
            "subscribe an https URL: anybody between can read events and withhold them",
        );
    }
    Checked::ok(NAME, format!("the subscription of {} to topic {topic} is confirmed", shown(&one.endpoint)))
}

/// That messages come with their signature.
pub(super) fn raw(attributes: &HashMap<String, String>) -> Checked {
    const NAME: &str = "raw_delivery";
    match attributes.get("RawMessageDelivery").map(String::as_str) {
        Some("true") => Checked::fail(
            NAME,
            "raw message delivery is on: messages come without a signature and are refused with 403",
            "turn RawMessageDelivery off for this subscription",
        ),
        _ => Checked::ok(NAME, "raw message delivery is off, so that messages are signed"),
    }
}

/// That nothing is filtered away before it arrives.
pub(super) fn filter(attributes: &HashMap<String, String>) -> Checked {
    const NAME: &str = "filter_policy";
    match attributes.get("FilterPolicy").filter(|policy| !policy.is_empty() && policy.trim() != "{}") {
        Some(_) => Checked::warn(
            NAME,
            "the subscription has a FilterPolicy: SNS sends only what passes it",
            "S3's messages carry no attributes; remove the policy unless it is meant, and choose with event.objects instead",
        ),
        None => Checked::ok(NAME, "the subscription filters nothing"),
    }
}

/// ARN of the queue that gets what SNS gives up on.
pub(super) fn dead_letter_target(attributes: &HashMap<String, String>) -> Option<String> {
    let policy = attributes.get("RedrivePolicy").and_then(|text| serde_json::from_str::<Value>(text).ok())?;
    policy["deadLetterTargetArn"].as_str().map(str::to_owned)
}

/// The queue that gets what SNS gives up on, as far as it could be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeadLetters {
    /// It is there and takes what SNS sends.
    Taking,
    /// It is there, and its policy does not let SNS send.
    Refusing,
    /// It is there, and whether its policy lets SNS send depends on this.
    Unclear(String),
    /// It is not there.
    Missing,
    /// It could not be looked at.
    Unseen,
}

/// That what SNS gives up on is kept.
pub(super) fn dead_letters(attributes: &HashMap<String, String>, queue: DeadLetters) -> Checked {
    const NAME: &str = "dead_letter_queue";
    match dead_letter_target(attributes).map(|arn| (clean(&arn), queue)) {
        Some((arn, DeadLetters::Taking)) => Checked::ok(NAME, format!("what SNS gives up on goes to {arn}")),
        Some((arn, DeadLetters::Unseen)) => {
            Checked::ok(NAME, format!("what SNS gives up on goes to {arn}, which could not be looked at"))
        }
        Some((arn, DeadLetters::Unclear(why))) => Checked::warn(
            NAME,
            format!(
                "what SNS gives up on goes to {arn}; whether its policy lets SNS send cannot be seen from here: {}",
                clean(&why)
            ),
            "see that the condition holds for sns.amazonaws.com and this topic, or run `postern setup`, which adds a statement that surely does",
        ),
        Some((arn, DeadLetters::Missing)) => Checked::fail(
            NAME,
            format!("what SNS gives up on is lost: {arn} does not exist"),
            "run `postern setup`, which puts a queue in its place",
        ),
        Some((arn, DeadLetters::Refusing)) => Checked::fail(
            NAME,
            format!("what SNS gives up on is lost: the policy of {arn} does not let SNS send for this topic"),
            "run `postern setup`, which adds that statement",
        ),
        None => Checked::warn(
            NAME,
            "the subscription has no dead-letter queue: what SNS gives up on is lost",
            "run `postern setup`, which makes one, and drain it with POSTERN_SQS_QUEUE_URL",
        ),
    }
}

/// That SNS tries for long enough: by default it gives up after a minute (hard case 21).
pub(super) fn delivery(subscription: &HashMap<String, String>, topic: &HashMap<String, String>) -> Checked {
    let Some(policy) = Retries::of(subscription, topic) else {
        return Checked::warn(DELIVERY, "the delivery policy cannot be read", "run `postern setup`, which sets one");
    };
    let found = format!("SNS tries {} times again, over about {}", policy.retries, span(policy.seconds()));
    if policy.is_default() {
        return Checked::warn(
            DELIVERY,
            format!("the delivery policy is SNS's default: {found}; then the message is gone"),
            "run `postern setup`, which stretches it to nearly the hour that SNS allows",
        );
    }
    if policy.seconds() < SHORT {
        let advice = "stretch it: SNS allows an hour in all, and `postern setup` sets that";
        return Checked::warn(DELIVERY, format!("the delivery policy is short: {found}"), advice);
    }
    Checked::ok(DELIVERY, found)
}

/// The numbers of a `healthyRetryPolicy`.
#[derive(Debug, PartialEq, Eq)]
struct Retries {
    min: u64,
    max: u64,
    retries: u64,
    at_once: u64,
    at_min: u64,
    at_max: u64,
    geometric: bool,
}

impl Retries {
    /// The one in force: the subscription's effective one, else its own, else the topic's, else SNS's default.
    fn of(subscription: &HashMap<String, String>, topic: &HashMap<String, String>) -> Option<Self> {
        let read = |of: &HashMap<String, String>, name: &str| -> Option<Value> {
            serde_json::from_str(of.get(name).filter(|text| !text.trim().is_empty())?).ok()
        };
        let own = ["EffectiveDeliveryPolicy", "DeliveryPolicy"]
            .into_iter()
            .filter_map(|name| read(subscription, name))
            .map(|policy| policy["healthyRetryPolicy"].clone());
        let inherited = ["EffectiveDeliveryPolicy", "DeliveryPolicy"]
            .into_iter()
            .filter_map(|name| read(topic, name))
            .map(|policy| policy["http"]["defaultHealthyRetryPolicy"].clone());
        let policy = own.chain(inherited).find(Value::is_object).unwrap_or(Value::Null);
        let number = |name: &str, default: u64| match &policy[name] {
            Value::Null => Some(default),
            value => value.as_u64().filter(|number| *number <= 3600),
        };
        Some(Self {
            min: number("minDelayTarget", 20)?,
            max: number("maxDelayTarget", 20)?,
            retries: number("numRetries", 3)?,
            at_once: number("numNoDelayRetries", 0)?,
            at_min: number("numMinDelayRetries", 0)?,
            at_max: number("numMaxDelayRetries", 0)?,
            geometric: matches!(policy["backoffFunction"].as_str(), Some("geometric" | "exponential")),
        })
    }

    fn is_default(&self) -> bool {
        self.retries <= 3 && self.max <= 20
    }

    /// About how long it lasts; SNS's jitter and the time of the attempts themselves are left out. An hour is the hard limit.
    fn seconds(&self) -> u64 {
        let backoff = self.retries.saturating_sub(self.at_once + self.at_min + self.at_max);
        // Between the two ends the linear functions average in the middle; those that grow by a factor stay lower.
        let mean = if self.geometric { (self.min * self.max).isqrt() } else { self.min.midpoint(self.max) };
        (self.at_min * self.min + backoff * mean + self.at_max * self.max).min(3600)
    }
}

fn span(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
