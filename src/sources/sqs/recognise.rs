//! Pure: what a message of a queue is (`s3-dialects.md` 3.4 and 4.1). Recognising decides nothing about trust.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::record::Shape;

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// What SNS wraps what was published in, not proven to be of SNS.
    Envelope(Envelope<'a>),
    /// SNS asks, or tells, about a subscription. In a queue it arrives only by way of the dead-letter queue of a subscription whose
    /// endpoint did not take it.
    Confirmation {
        /// `TopicArn`.
        topic: Cow<'a, str>,
    },
    /// What S3, EventBridge or an application sent as it is.
    Plain,
}

/// The members of an SNS envelope that matter once it is taken at its word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// `TopicArn`.
    pub(super) topic: Cow<'a, str>,
    /// `MessageId`.
    pub(super) message_id: Option<Cow<'a, str>>,
    /// `Message`: what was published.
    pub(super) message: Cow<'a, str>,
}

/// The members by which bodies are told apart. One that stands twice makes the body none of the known ones.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(rename = "Type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(rename = "TopicArn", borrow)]
    topic: Option<&'a RawValue>,
    #[serde(rename = "MessageId", borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(rename = "Message", borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw?.get()).ok().map(|Text(text)| text)
}

/// Looks at a message's body.
pub(super) fn recognise(body: &str) -> Kind<'_> {
    let Ok(outline) = serde_json::from_str::<Outline<'_>>(body) else { return Kind::Plain };
    let (Some(kind), Some(topic), Some(message)) = (text(outline.kind), text(outline.topic), text(outline.message))
    else {
        return Kind::Plain;
    };
    match kind.as_ref() {
        "Notification" => Kind::Envelope(Envelope { topic, message_id: text(outline.message_id), message }),
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => Kind::Confirmation { topic },
        _ => Kind::Plain,
    }
}

/// The shape of what S3 or EventBridge sent, and EventBridge's own id of it.
pub(super) fn shape(message: &str) -> (Shape, Option<Cow<'_, str>>) {
    let Ok(outline) = serde_json::from_str::<Outline<'_>>(message) else { return (Shape::Records, None) };
    if outline.detail.is_some() && text(outline.source).is_some_and(|source| source == "aws.s3") {
        return (Shape::EventBridge, text(outline.id));
    }
    (Shape::Records, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_one_by_three_members_and_says_what_was_published() {
        let body =
            r#"{"Type":"Notification","MessageId":"m","TopicArn":"t","Message":"{\"Records\":[]}","Other":{"Type":1}}"#;
        let Kind::Envelope(envelope) = recognise(body) else { panic!("no envelope") };
        assert_eq!((envelope.topic.as_ref(), envelope.message_id.as_deref()), ("t", Some("m")));
        assert_eq!(envelope.message, r#"{"Records":[]}"#);
    }

    #[test]
    fn a_confirmation_is_recognised_in_both_kinds() {
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            let body = format!(r#"{{"Type":"{kind}","TopicArn":"t","Message":"You have chosen","Token":"x"}}"#);
            assert_eq!(recognise(&body), Kind::Confirmation { topic: "t".into() });
        }
    }

    #[test]
    fn everything_else_is_taken_as_it_is() {
        for body in [
            "",
            "no JSON",
            "[]",
            "7",
            "{}",
            r#"{"Records":[{"s3":{}}]}"#,
            r#"{"Type":"Notification","TopicArn":"t"}"#,
            r#"{"Type":"Notification","TopicArn":"t","Message":{"Records":[]}}"#,
            r#"{"Type":"Notification","Type":"Notification","TopicArn":"t","Message":"m"}"#,
            r#"{"Type":"Something","TopicArn":"t","Message":"m"}"#,
            r#"{"Type":"Notification","TopicArn":"t","Message":"m"} {}"#,
        ] {
            assert_eq!(recognise(body), Kind::Plain, "{body}");
        }
    }

    #[test]
    fn an_event_of_s3_on_eventbridge_is_told_by_source_and_detail() {
        let (shape_of, id) = shape(r#"{"version":"0","id":"e1","source":"aws.s3","detail":{"bucket":{}}}"#);
        assert_eq!((shape_of, id.as_deref()), (Shape::EventBridge, Some("e1")));
        for message in [r#"{"source":"aws.ec2","detail":{}}"#, r#"{"source":"aws.s3"}"#, r#"{"Records":[]}"#, "x"] {
            assert_eq!(shape(message), (Shape::Records, None), "{message}");
        }
    }
}
