//! Pure: what an answer to `ConfirmSubscription` says.

/// The subscription's ARN in `xml`, if it is one of `topic`.
///
/// The answer is a flat document of one element of interest (`sns.md` 1.3). It is searched as text on purpose: no parser, so no
/// entities, no document types and nothing to blow up (attack A44).
pub(super) fn subscription_arn(xml: &str, topic: &str) -> Option<String> {
    const OPEN: &str = "<SubscriptionArn>";
    let (_, rest) = xml.split_once(OPEN)?;
    let (arn, rest) = rest.split_once("</SubscriptionArn>")?;
    if rest.contains(OPEN) {
        return None;
    }
    let id = arn.strip_prefix(topic)?.strip_prefix(':')?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(plain)).then(|| arn.to_owned())
}

/// Whether the error in `xml` only asks for patience: AWS throttles with status 400 and a code such as `Throttling`.
pub(super) fn is_throttled(xml: &str) -> bool {
    let code = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.is_some_and(|(code, _)| code.contains("Throttl") || code == "RequestLimitExceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_that_throttles_asks_for_patience() {
        let error = |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
        assert!(is_throttled(&error("Throttling")) && is_throttled(&error("ThrottledException")));
        assert!(!is_throttled(&error("InvalidParameter")) && !is_throttled("Throttling"));
    }

    const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";

    fn answer(inner: &str) -> String {
        format!(
            "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ConfirmSubscriptionResult>\
             {inner}</ConfirmSubscriptionResult></ConfirmSubscriptionResponse>"
        )
    }

    #[test]
    fn the_arn_of_our_topic_is_read() {
        let arn = format!("{TOPIC}:6b0e71bd-7e97-4d97-80ce-4a0994e55286");
        assert_eq!(subscription_arn(&answer(&format!("<SubscriptionArn>{arn}</SubscriptionArn>")), TOPIC), Some(arn));
    }

    #[test]
    fn an_arn_of_another_topic_or_two_or_none_is_no_confirmation() {
        let other = "arn:aws:sns:us-west-2:123456789012:MyTopic2:6b0e71bd-7e97-4d97-80ce-4a0994e55286";
        assert_eq!(subscription_arn(&answer(&format!("<SubscriptionArn>{other}</SubscriptionArn>")), TOPIC), None);
        let twice = format!("<SubscriptionArn>{TOPIC}:a</SubscriptionArn>").repeat(2);
        assert_eq!(subscription_arn(&answer(&twice), TOPIC), None);
        assert_eq!(subscription_arn(&answer("<SubscriptionArn>pending</SubscriptionArn>"), TOPIC), None);
        assert_eq!(subscription_arn("<html>hello</html>", TOPIC), None);
        assert_eq!(subscription_arn(&answer(&format!("<SubscriptionArn>{TOPIC}:</SubscriptionArn>")), TOPIC), None);
    }
}
