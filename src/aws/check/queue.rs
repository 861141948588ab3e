//! Judging an SQS queue by its attributes. Pure.

use std::collections::HashMap;

use serde_json::Value;

use crate::health::Checked;

const NAME: &str = "queue";

/// Below this a slow append, or a consumer that is being restarted, makes SQS hand out a message twice.
const SHORT: u64 = 10;
/// Beyond this a consumer that died keeps its messages hidden for longer than anybody expects.
const LONG: u64 = 60 * 60;

/// Judges the queue at `url`, whose attributes were read.
pub(super) fn judge(url: &str, attributes: &HashMap<String, String>) -> Vec<Checked> {
    let number = |name: &str| attributes.get(name).and_then(|text| text.parse::<u64>().ok());
    let count = |name: &str| number(name).map_or_else(|| "?".to_owned(), |count| count.to_string());
    let found = format!(
        "queue {url} holds {} messages, {} of them in flight",
        count("ApproximateNumberOfMessages"),
        count("ApproximateNumberOfMessagesNotVisible")
    );
    let visible = match number("VisibilityTimeout") {
        Some(seconds) if seconds < SHORT => Checked::warn(
            NAME,
            format!("{found}; its visibility timeout is only {seconds} s"),
            "raise it to 30 s or more: below that messages are handed out again while they are still being stored",
        ),
        Some(seconds) if seconds > LONG => Checked::warn(
            NAME,
            format!("{found}; its visibility timeout is {} min", seconds / 60),
            "lower it to a few minutes: for that long the messages of a consumer that died stay hidden",
        ),
        _ => Checked::ok(NAME, found),
    };
    let policy = attributes.get("RedrivePolicy").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let redrive = match policy.as_ref().and_then(|policy| policy["deadLetterTargetArn"].as_str()) {
        Some(arn) => {
            let arn: String = arn.chars().filter(|c| c.is_ascii_graphic()).take(200).collect();
            Checked::ok("queue_redrive", format!("what is received too often goes from {url} to {arn}"))
        }
        None => Checked::warn(
            "queue_redrive",
            format!("queue {url} has no redrive policy"),
            "give it a dead-letter queue (RedrivePolicy): a message that can never be stored would otherwise come back until it expires",
        ),
    };
    vec![visible, redrive]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn judged(entries: &[(&str, &str)]) -> Vec<Checked> {
        judge("https://q", &entries.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_visibility_timeout_is_judged_and_what_waits_is_told() {
        let good = judged(&[
            ("VisibilityTimeout", "30"),
            ("ApproximateNumberOfMessages", "7"),
            ("ApproximateNumberOfMessagesNotVisible", "2"),
            ("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:dead","maxReceiveCount":5}"#),
        ]);
        assert!(good.iter().all(|one| one.status == Status::Ok), "{good:?}");
        assert!(good[0].found.contains("7 messages, 2 of them"), "{good:?}");
        assert!(judged(&[("VisibilityTimeout", "0")])[0].found.contains("only 0 s"));
        assert!(judged(&[("VisibilityTimeout", "43200")])[0].found.contains("720 min"));
        assert_eq!(judged(&[("RedrivePolicy", "{")])[1].status, Status::Warn);
    }
}
