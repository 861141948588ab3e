//! Whether a bucket announces its changes to where an instance listens. Pure.

use crate::health::Checked;

const NAME: &str = "bucket_notification";

/// One entry of a bucket's notification configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// ARN of a topic, queue or function; `EventBridge` where all goes there.
    pub target: String,
    /// Events, such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// Prefix and suffix rules, for people; empty where there are none.
    pub filter: String,
}

/// What the instance needs to be told of.
const NEEDED: [(&str, &str); 2] = [("ObjectCreated", "new and changed objects"), ("ObjectRemoved", "deleted objects")];

/// Judges the announcements of `bucket`. `targets` are the ARNs of the instance's topics and queues; `wanted` are the event patterns
/// of `event.objects` without `s3:`, empty for all.
pub(super) fn judge(bucket: &str, all: &[Announcement], targets: &[String], wanted: &[String]) -> Checked {
    let advice = "run `postern setup`, which adds it to what the bucket announces already";
    // An EventBridge rule stands between; only its target would tell.
    let bridged = all.iter().any(|one| one.target == "EventBridge");
    let ours: Vec<&Announcement> = all.iter().filter(|one| targets.contains(&one.target)).collect();
    if ours.is_empty() {
        let to = targets.join(" or ");
        if bridged {
            return Checked::warn(
                NAME,
                format!("bucket {bucket} announces to EventBridge and not to {to}"),
                "make sure that a rule there leads to a queue or API destination of this sidecar",
            );
        }
        let others: Vec<&str> = all.iter().map(|one| one.target.as_str()).collect();
        let others = if others.is_empty() { "to nobody".to_owned() } else { format!("only to {}", others.join(", ")) };
        return Checked::fail(NAME, format!("bucket {bucket} does not announce to {to} but {others}"), advice);
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(family, _)| wanted.is_empty() || wanted.iter().any(|pattern| overlaps(pattern, family)))
        .filter(|(family, _)| !ours.iter().any(|one| one.events.iter().any(|event| whole(event, family, wanted))))
        .map(|(_, what)| *what)
        .collect();
    if !missing.is_empty() {
        let found = format!("bucket {bucket} does not announce all {} to the instance", missing.join(" and "));
        return Checked::warn(NAME, found, "add s3:ObjectCreated:* and s3:ObjectRemoved:*, as `postern setup` does");
    }
    let filters: Vec<&str> = ours.iter().map(|one| one.filter.as_str()).filter(|filter| !filter.is_empty()).collect();
    if filters.len() == ours.len() {
        return Checked::warn(
            NAME,
            format!("bucket {bucket} announces only keys with {}", filters.join("; ")),
            "remove the filter unless it is meant; event.objects can choose by key as well",
        );
    }
    let to: Vec<&str> = ours.iter().map(|one| one.target.as_str()).collect();
    Checked::ok(NAME, format!("bucket {bucket} announces to {}", to.join(", ")))
}

/// Whether a wanted pattern is about a family of events.
fn overlaps(pattern: &str, family: &str) -> bool {
    pattern == "*" || pattern.split(':').next() == Some(family)
}

/// Whether an announced event covers what is wanted of a family: all of it, or all of the single events that were asked for.
fn whole(event: &str, family: &str, wanted: &[String]) -> bool {
    let event = event.strip_prefix("s3:").unwrap_or(event);
    let Some(rest) = event.strip_prefix(family).and_then(|rest| rest.strip_prefix(':')) else { return false };
    rest == "*" || (!wanted.is_empty() && wanted.iter().any(|pattern| pattern == event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:1:uploads";

    fn to(target: &str, events: &[&str]) -> Announcement {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Announcement { target: target.to_owned(), events, filter: String::new() }
    }

    fn judged(all: &[Announcement], wanted: &[&str]) -> Checked {
        let wanted: Vec<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        judge("photos", all, &[TOPIC.to_owned()], &wanted)
    }

    #[test]
    fn a_bucket_that_announces_all_to_the_topic_is_well() {
        let all = to(TOPIC, &["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
        assert_eq!(judged(&[to("arn:other", &["s3:ObjectCreated:*"]), all], &[]).status, Status::Ok);
        let two = [to(TOPIC, &["s3:ObjectCreated:*"]), to(TOPIC, &["s3:ObjectRemoved:*"])];
        assert_eq!(judged(&two, &[]).status, Status::Ok);
    }

    #[test]
    fn a_bucket_that_announces_elsewhere_or_nothing_fails() {
        assert!(judged(&[], &[]).found.contains("to nobody"));
        let other = judged(&[to("arn:other", &["s3:ObjectCreated:*"])], &[]);
        assert_eq!(other.status, Status::Fail);
        assert!(other.found.contains("only to arn:other"), "{other:?}");
        assert_eq!(judged(&[to("EventBridge", &[])], &[]).status, Status::Warn);
    }

    #[test]
    fn events_that_are_wanted_and_not_announced_are_told() {
        let created = [to(TOPIC, &["s3:ObjectCreated:*"])];
        assert!(judged(&created, &[]).found.contains("deleted objects"));
        assert_eq!(judged(&created, &["ObjectCreated:*"]).status, Status::Ok, "deletions are not wanted");
        let single = [to(TOPIC, &["s3:ObjectCreated:Put"])];
        assert_eq!(judged(&single, &["ObjectCreated:Put"]).status, Status::Ok);
        assert_eq!(judged(&single, &["ObjectCreated:*"]).status, Status::Warn);
    }

    #[test]
    fn a_filter_is_told_unless_something_else_covers_all() {
        let mut one = to(TOPIC, &["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
        one.filter = "prefix images/".to_owned();
        assert!(judged(&[one], &[]).found.contains("prefix images/"));
    }
}
