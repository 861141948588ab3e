//! SNS messages, byte for byte as they come over HTTP (`sns.md` 1.1), and their signatures (`sns.md` 1.2).

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use crate::simulator::authority::Signer;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was published.
    Notification,
    /// Somebody subscribed this endpoint.
    SubscriptionConfirmation,
    /// The subscription was deleted; the message offers to restore it.
    UnsubscribeConfirmation,
}

impl Kind {
    /// The value of `Type` and of `x-amz-sns-message-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }
}

/// One message. Its members may be changed after signing: that is how forgeries are made.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What it is.
    pub kind: Kind,
    /// The same on every retry.
    pub message_id: String,
    /// The topic.
    pub topic_arn: String,
    /// Only in notifications, and only when the publisher gave one.
    pub subject: Option<String>,
    /// The payload; for confirmations a sentence for people.
    pub message: String,
    /// `YYYY-MM-DDThh:mm:ss.mmmZ`.
    pub timestamp: String,
    /// Only in confirmations.
    pub token: Option<String>,
    /// Only in confirmations.
    pub subscribe_url: Option<String>,
    /// `1` (SHA-1) or `2` (SHA-256). Not signed.
    pub signature_version: u8,
    /// Base64.
    pub signature: String,
    /// Where the certificate is. Not signed.
    pub signing_cert_url: String,
    /// Only in notifications. Not signed.
    pub unsubscribe_url: Option<String>,
    /// Name, type and value of message attributes. Not signed.
    pub attributes: Vec<(String, String, String)>,
    /// The subscription, for the header; absent with a SubscriptionConfirmation.
    pub subscription_arn: Option<String>,
}

impl Envelope {
    /// The text that is signed: names in byte order, each name and value followed by a newline.
    pub fn canonical(&self) -> String {
        let mut members: Vec<(&str, &str)> =
            vec![("Message", &self.message), ("MessageId", &self.message_id), ("Timestamp", &self.timestamp)];
        members.extend([("TopicArn", self.topic_arn.as_str()), ("Type", self.kind.as_str())]);
        match self.kind {
            Kind::Notification => members.extend(self.subject.as_deref().map(|subject| ("Subject", subject))),
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation => {
                members.extend(self.subscribe_url.as_deref().map(|url| ("SubscribeURL", url)));
                members.extend(self.token.as_deref().map(|token| ("Token", token)));
            }
        }
        members.sort_unstable_by_key(|(name, _)| *name);
        members.into_iter().fold(String::new(), |text, (name, value)| text + name + "\n" + value + "\n")
    }

    /// Signs what it says now.
    pub fn sign(&mut self, signer: &Signer) {
        self.signature = signer.sign(self.signature_version, self.canonical().as_bytes());
    }

    /// The body of the request.
    pub fn to_body(&self) -> String {
        let version = self.signature_version.to_string();
        let mut members: Vec<(&str, Option<&str>)> =
            vec![("Type", Some(self.kind.as_str())), ("MessageId", Some(&self.message_id))];
        let tail = [
            ("Timestamp", Some(self.timestamp.as_str())),
            ("SignatureVersion", Some(&version)),
            ("Signature", Some(&self.signature)),
            ("SigningCertURL", Some(&self.signing_cert_url)),
        ];
        if self.kind == Kind::Notification {
            members.extend([("TopicArn", Some(self.topic_arn.as_str())), ("Subject", self.subject.as_deref())]);
            members.push(("Message", Some(&self.message)));
            members.extend(tail);
            members.push(("UnsubscribeURL", self.unsubscribe_url.as_deref()));
        } else {
            members.extend([("Token", self.token.as_deref()), ("TopicArn", Some(self.topic_arn.as_str()))]);
            members.extend([("Message", Some(self.message.as_str())), ("SubscribeURL", self.subscribe_url.as_deref())]);
            members.extend(tail);
        }
        let mut lines: Vec<String> = members
            .into_iter()
            .filter_map(|(name, value)| Some(format!("  {} : {}", quote(name), quote(value?))))
            .collect();
        if !self.attributes.is_empty() {
            let attributes: Vec<String> = self
                .attributes
                .iter()
                .map(|(name, kind, value)| {
                    format!("    {} : {{\"Type\":{},\"Value\":{}}}", quote(name), quote(kind), quote(value))
                })
                .collect();
            lines.push(format!("  \"MessageAttributes\" : {{\n{}\n  }}", attributes.join(",\n")));
        }
        format!("{{\n{}\n}}", lines.join(",\n"))
    }

    /// The headers of the request, besides Host and framing.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
        headers.insert(USER_AGENT, HeaderValue::from_static("Amazon Simple Notification Service Agent"));
        let named = [
            ("x-amz-sns-message-type", Some(self.kind.as_str())),
            ("x-amz-sns-message-id", Some(&self.message_id)),
            ("x-amz-sns-topic-arn", Some(&self.topic_arn)),
            ("x-amz-sns-subscription-arn", self.subscription_arn.as_deref()),
        ];
        for (name, value) in named {
            // What no header can carry (a forged line break) is left out, as a client library would.
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

/// A JSON string in the manner of SNS: characters beyond the basic plane are written as surrogate escapes.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in serde_json::Value::from(text).to_string().chars() {
        if u32::from(c) < 0x1_0000 {
            quoted.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                quoted.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(kind: Kind) -> Envelope {
        let confirmation = kind != Kind::Notification;
        Envelope {
            kind,
            message_id: "11111111-2222-4333-8444-555555555555".into(),
            topic_arn: "arn:aws:sns:us-east-1:123456789012:t".into(),
            subject: (!confirmation).then(|| "S".into()),
            message: "a \"b\"\n\u{1f600}é".into(),
            timestamp: "2026-01-27T21:05:45.123Z".into(),
            token: confirmation.then(|| "0f".into()),
            subscribe_url: confirmation.then(|| "http://127.0.0.1/?x".into()),
            signature_version: 2,
            signature: "c2ln".into(),
            signing_cert_url: "http://127.0.0.1/c.pem".into(),
            unsubscribe_url: (!confirmation).then(|| "http://127.0.0.1/?u".into()),
            attributes: Vec::new(),
            subscription_arn: (!confirmation).then(|| "arn:aws:sns:us-east-1:123456789012:t:1".into()),
        }
    }

    #[test]
    fn a_notification_has_the_bytes_that_sns_sends() {
        let mut message = envelope(Kind::Notification);
        message.attributes.push(("store".into(), "String".into(), "x".into()));
        let expected = concat!(
            "{\n  \"Type\" : \"Notification\",\n  \"MessageId\" : \"11111111-2222-4333-8444-555555555555\",\n",
            "  \"TopicArn\" : \"arn:aws:sns:us-east-1:123456789012:t\",\n  \"Subject\" : \"S\",\n",
            "  \"Message\" : \"a \\\"b\\\"\\n\\ud83d\\ude00é\",\n  \"Timestamp\" : \"2026-01-27T21:05:45.123Z\",\n",
            "  \"SignatureVersion\" : \"2\",\n  \"Signature\" : \"c2ln\",\n",
            "  \"SigningCertURL\" : \"http://127.0.0.1/c.pem\",\n  \"UnsubscribeURL\" : \"http://127.0.0.1/?u\",\n",
            "  \"MessageAttributes\" : {\n    \"store\" : {\"Type\":\"String\",\"Value\":\"x\"}\n  }\n}"
        );
        assert_eq!(message.to_body(), expected);
        let read: serde_json::Value = serde_json::from_str(&message.to_body()).expect("JSON");
        assert_eq!(read["Message"], message.message.as_str());
    }

    #[test]
    fn a_confirmation_has_its_own_order_of_members_and_no_subscription_header() {
        let message = envelope(Kind::SubscriptionConfirmation);
        let body = message.to_body();
        let names: Vec<&str> = body
            .lines()
            .filter_map(|line| line.strip_prefix("  \"")?.split_once("\" : ").map(|(name, _)| name))
            .collect();
        assert_eq!(
            names,
            [
                "Type",
                "MessageId",
                "Token",
                "TopicArn",
                "Message",
                "SubscribeURL",
                "Timestamp",
                "SignatureVersion",
                "Signature",
                "SigningCertURL"
            ]
        );
        assert!(!message.headers().contains_key("x-amz-sns-subscription-arn"));
        assert_eq!(message.headers()["x-amz-sns-message-type"], "SubscriptionConfirmation");
    }

    #[test]
    fn the_canonical_text_is_that_of_the_two_kinds() {
        let tail = "TopicArn\narn:aws:sns:us-east-1:123456789012:t\nType\n";
        let head = "Message\na \"b\"\n\u{1f600}é\nMessageId\n11111111-2222-4333-8444-555555555555\n";
        assert_eq!(
            envelope(Kind::Notification).canonical(),
            format!("{head}Subject\nS\nTimestamp\n2026-01-27T21:05:45.123Z\n{tail}Notification\n")
        );
        assert_eq!(
            envelope(Kind::UnsubscribeConfirmation).canonical(),
            format!(
                "{head}SubscribeURL\nhttp://127.0.0.1/?x\nTimestamp\n2026-01-27T21:05:45.123Z\nToken\n0f\n{tail}\
                 UnsubscribeConfirmation\n"
            )
        );
        let mut without = envelope(Kind::Notification);
        without.subject = None;
        assert!(!without.canonical().contains("Subject"));
        assert!(!without.to_body().contains("Subject"));
    }
}
