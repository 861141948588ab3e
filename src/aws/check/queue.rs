//! Judging an SQS queue by its attributes. Pure.

use std::collections::HashMap;

use serde_json::Value;

use crate::health::Checked;

const NAME: &str = "queue";

/// Below this a slow append, or a consumer that is being restarted, makes SQS hand out a message twice.
const SHORT: u64 = 10;
/// Beyond this a consumer that died keeps its messages hidden for longer than anybody expects.
const LONG: u64 = 60 * 60;

/// Judges the queue at `url`, whose attributes were read. `dead_letters` are the ARNs of queues that get what a subscription of ours
/// gives up on.
pub(super) fn judge(url: &str, attributes: &HashMap<String, String>, dead_letters: &[String]) -> Vec<Checked> {
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
        None if is_last(url, attributes, dead_letters) => Checked::ok(
            "queue_redrive",
            format!("{url} is a dead-letter queue itself: what cannot be stored waits there until it expires"),
        ),
        None => Checked::warn(
            "queue_redrive",
            format!("queue {url} has no redrive policy"),
            "give it a dead-letter queue (RedrivePolicy): a message that can never be stored would otherwise come back until it expires",
        ),
    };
    vec![visible, redrive]
}

/// Whether a queue is where dead letters end: by its name, by whom it lets send them there, or because ours go there.
fn is_last(url: &str, attributes: &HashMap<String, String>, dead_letters: &[String]) -> bool {
    let name = url.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let lets = attributes.get("RedriveAllowPolicy").and_then(|text| serde_json::from_str::<Value>(text).ok());
    name.strip_suffix(".fifo").unwrap_or(&name).ends_with("-dlq")
        || lets.is_some_and(|policy| policy["redrivePermission"].as_str().is_some_and(|who| who != "denyAll"))
        || attributes.get("QueueArn").is_some_and(|arn| dead_letters.contains(arn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn judged(entries: &[(&str, &str)]) -> Vec<Checked> {
        of("https://sqs/1/q", entries)
    }

    fn of(url: &str, entries: &[(&str, &str)]) -> Vec<Checked> {
        let attributes = entries.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        judge(url, &attributes, &["arn:aws:sqs:eu-central-1:1:graves".to_owned()])
    }

    /// Once the queue that `postern setup` makes, and that the sidecar drains, was said to lack a dead-letter queue.
    #[test]
    fn a_dead_letter_queue_needs_none_of_its_own() {
        for (url, name, value) in [
            ("https://sqs/1/uploads-postern-dlq", "", ""),
            ("https://sqs/1/Uploads-DLQ.fifo", "", ""),
            ("https://sqs/1/q", "RedriveAllowPolicy", r#"{"redrivePermission":"allowAll"}"#),
            ("https://sqs/1/q", "QueueArn", "arn:aws:sqs:eu-central-1:1:graves"),
        ] {
            assert_eq!(of(url, &[(name, value)])[1].status, Status::Ok, "{url} {name}");
        }
        for (url, name, value) in [
            ("https://sqs/1/dlq-of-none", "", ""),
            ("https://sqs/1/q", "RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#),
            ("https://sqs/1/q", "QueueArn", "arn:aws:sqs:eu-central-1:1:q"),
        ] {
            assert_eq!(of(url, &[(name, value)])[1].status, Status::Warn, "{url} {name}");
        }
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
