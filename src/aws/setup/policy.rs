//! Pure: access policies and the delivery policy, as SNS and SQS take them.

use serde_json::{Map, Value, json};

/// A policy after a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The whole policy, to be sent; empty when no statement is left.
    pub text: String,
    /// Whether it says something else than before.
    pub changed: bool,
}

/// Lets S3 publish to `topic` for `bucket` alone, and only while `account` owns that bucket: a name that was given up can be
/// somebody else's bucket tomorrow.
pub fn publish_statement(topic: &str, bucket: &str, account: &str) -> Value {
    json!({
        "Sid": format!("PosternPublish{}", fingerprint(bucket)),
        "Effect": "Allow",
        "Principal": { "Service": "s3.amazonaws.com" },
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {
            "ArnEquals": { "aws:SourceArn": format!("arn:{}:s3:::{bucket}", partition(topic)) },
            "StringEquals": { "aws:SourceAccount": account },
        },
    })
}

/// Lets SNS put what it could not deliver of `topic` into `queue`.
pub fn send_statement(queue: &str, topic: &str) -> Value {
    json!({
        "Sid": format!("PosternDeadLetters{}", fingerprint(topic)),
        "Effect": "Allow",
        "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
    })
}

/// The policy `existing` with `ours` in the place of the statement of its Sid, or at the end. Every other statement is kept.
///
/// # Errors
/// What keeps `existing` from being understood; it must then not be replaced.
pub fn merge(existing: Option<&str>, ours: &Value) -> Result<Merged, String> {
    let mut policy = read(existing)?;
    let statements = statements(&mut policy)?;
    let sid = ours.get("Sid");
    let before = statements.iter().filter(|statement| statement.get("Sid") == sid).count();
    let same = before == 1 && statements.iter().any(|statement| normal(statement) == normal(ours));
    if same {
        return Ok(Merged { text: existing.unwrap_or_default().to_owned(), changed: false });
    }
    statements.retain(|statement| statement.get("Sid") != sid);
    statements.push(ours.clone());
    Ok(Merged { text: Value::Object(policy).to_string(), changed: true })
}

/// The policy `existing` without the statement whose Sid `ours` has.
///
/// # Errors
/// As [`merge`].
pub fn without(existing: Option<&str>, ours: &Value) -> Result<Merged, String> {
    let mut policy = read(existing)?;
    let statements = statements(&mut policy)?;
    let before = statements.len();
    statements.retain(|statement| statement.get("Sid") != ours.get("Sid"));
    let changed = statements.len() != before;
    let text = if statements.is_empty() { String::new() } else { Value::Object(policy).to_string() };
    Ok(Merged { text, changed })
}

/// What SNS itself gives a new topic: its owner may do everything. For a topic whose last other statement was ours.
pub fn owner_policy(topic: &str, account: &str) -> String {
    let actions = ["GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic"]
        .into_iter()
        .chain(["Subscribe", "ListSubscriptionsByTopic", "Publish"])
        .map(|action| format!("SNS:{action}"));
    json!({
        "Version": "2008-10-17",
        "Id": "__default_policy_ID",
        "Statement": [{
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": { "AWS": "*" },
            "Action": actions.collect::<Vec<_>>(),
            "Resource": topic,
            "Condition": { "StringEquals": { "AWS:SourceOwner": account } },
        }],
    })
    .to_string()
}

/// Quick tries first, because most failures are short; then one a minute. There is no phase between the two, so that the sum is exact.
const QUICK: (u64, u64) = (12, 5);
const SLOW: (u64, u64) = (58, 60);

/// The seconds from the first failure to the last try. SNS refuses a policy above 3,600 s or 100 tries (`sns.md` 1.6); each try may
/// take another 15 s, and all of it stays within the replay window of 90 minutes.
pub const RETRY_SECONDS: u64 = QUICK.0 * QUICK.1 + SLOW.0 * SLOW.1;

/// How many tries follow the first.
pub const RETRIES: u64 = QUICK.0 + SLOW.0;

/// The subscription's delivery policy: ours for the retries; throttling and content type stay as `existing` has them.
///
/// # Errors
/// What keeps `existing` from being understood.
pub fn delivery_policy(existing: Option<&str>) -> Result<Merged, String> {
    let healthy = json!({
        "numRetries": RETRIES,
        "numNoDelayRetries": 0,
        "numMinDelayRetries": QUICK.0,
        "minDelayTarget": QUICK.1,
        "numMaxDelayRetries": SLOW.0,
        "maxDelayTarget": SLOW.1,
        "backoffFunction": "linear",
    });
    let mut policy = match existing.filter(|text| !text.trim().is_empty()) {
        None => Map::new(),
        Some(text) => object(text)?,
    };
    let changed = policy.get("healthyRetryPolicy") != Some(&healthy);
    policy.insert("healthyRetryPolicy".to_owned(), healthy);
    policy.retain(|_, value| !value.is_null());
    Ok(Merged { text: Value::Object(policy).to_string(), changed })
}

/// The queue that a subscription's RedrivePolicy names.
pub fn dead_letter_target(redrive: &str) -> Option<String> {
    object(redrive).ok()?.get("deadLetterTargetArn")?.as_str().map(str::to_owned)
}

/// The RedrivePolicy that names `queue`.
pub fn redrive_policy(queue: &str) -> String {
    json!({ "deadLetterTargetArn": queue }).to_string()
}

/// The partition of an ARN: `aws`, `aws-cn`, ...
pub fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or("aws")
}

/// The account of an ARN.
pub fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or("")
}

fn read(existing: Option<&str>) -> Result<Map<String, Value>, String> {
    match existing.filter(|text| !text.trim().is_empty()) {
        Some(text) => object(text),
        None => Ok(Map::from_iter([
            ("Version".to_owned(), json!("2012-10-17")),
            ("Statement".to_owned(), Value::Array(Vec::new())),
        ])),
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is not JSON ({error})")),
    }
}

/// The statements, of which one alone may stand there without a list around it.
fn statements(policy: &mut Map<String, Value>) -> Result<&mut Vec<Value>, String> {
    let statements = policy.entry("Statement").or_insert_with(|| Value::Array(Vec::new()));
    if statements.is_object() {
        *statements = Value::Array(vec![statements.take()]);
    }
    statements.as_array_mut().ok_or_else(|| "its Statement is neither a statement nor a list of them".to_owned())
}

/// A statement as the services may have rewritten it: a list of one is that one, actions and condition keys are without case.
fn normal(value: &Value) -> Value {
    fn without_list(value: &Value) -> Value {
        match value {
            Value::Array(items) if items.len() == 1 => without_list(&items[0]),
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.to_lowercase(), without_list(value))).collect())
            }
            other => other.clone(),
        }
    }
    let mut value = without_list(value);
    if let Some(Value::String(action)) = value.get_mut("action") {
        *action = action.to_lowercase();
    }
    value
}

/// Sids are letters and digits, and a bucket's name may be longer than one: eight digits of its hash tell them apart.
fn fingerprint(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPIC: &str = "arn:aws-cn:sns:cn-north-1:123456789012:uploads";

    #[test]
    fn the_retries_come_close_to_the_hour_and_never_above_a_limit_of_sns() {
        let policy: Value = serde_json::from_str(&delivery_policy(None).expect("new").text).expect("JSON");
        let number = |name: &str| policy["healthyRetryPolicy"][name].as_u64().expect(name);
        let phases = number("numNoDelayRetries") + number("numMinDelayRetries") + number("numMaxDelayRetries");
        assert_eq!(number("numRetries"), phases, "a backoff phase would make the sum a guess");
        let total = number("numMinDelayRetries") * number("minDelayTarget")
            + number("numMaxDelayRetries") * number("maxDelayTarget");
        // 12 x 5 s + 58 x 60 s = 60 s + 3,480 s = 3,540 s.
        assert_eq!((total, RETRY_SECONDS), (3540, 3540));
        assert!((3_500..=3_600).contains(&total) && number("numRetries") <= 100);
        assert!(number("minDelayTarget") >= 1 && number("minDelayTarget") <= number("maxDelayTarget"));
        // With 15 s for each try the last one still lies within the default replay window.
        assert!(total + (number("numRetries") + 1) * 15 < 90 * 60);
    }

    #[test]
    fn a_delivery_policy_keeps_what_is_not_about_retries() {
        let theirs = r#"{"healthyRetryPolicy":{"numRetries":3,"minDelayTarget":20,"maxDelayTarget":20},"sicklyRetryPolicy":null,
            "throttlePolicy":{"maxReceivesPerSecond":7},"requestPolicy":{"headerContentType":"application/json"}}"#;
        let merged = delivery_policy(Some(theirs)).expect("merged");
        assert!(merged.changed);
        let value: Value = serde_json::from_str(&merged.text).expect("JSON");
        assert_eq!(value["throttlePolicy"]["maxReceivesPerSecond"], 7);
        assert_eq!(value["requestPolicy"]["headerContentType"], "application/json");
        assert!(value.get("sicklyRetryPolicy").is_none());
        assert!(!delivery_policy(Some(&merged.text)).expect("again").changed, "a second run changes nothing");
    }

    #[test]
    fn only_this_bucket_of_this_account_may_publish() {
        let statement = publish_statement(TOPIC, "photos", "210987654321");
        assert_eq!(statement["Principal"], json!({ "Service": "s3.amazonaws.com" }));
        assert_eq!(statement["Condition"]["ArnEquals"]["aws:SourceArn"], "arn:aws-cn:s3:::photos");
        assert_eq!(statement["Condition"]["StringEquals"]["aws:SourceAccount"], "210987654321");
        assert_ne!(statement["Sid"], publish_statement(TOPIC, "photos2", "210987654321")["Sid"]);
        assert!(statement["Sid"].as_str().is_some_and(|sid| sid.bytes().all(|c| c.is_ascii_alphanumeric())));
    }

    #[test]
    fn other_statements_are_kept_and_a_second_merge_changes_nothing() {
        let theirs = json!({ "Version": "2008-10-17", "Id": "x", "Statement": { "Sid": "theirs", "Effect": "Deny", "Principal": "*" } });
        let ours = publish_statement(TOPIC, "photos", "123456789012");
        let merged = merge(Some(&theirs.to_string()), &ours).expect("merged");
        assert!(merged.changed);
        let value: Value = serde_json::from_str(&merged.text).expect("JSON");
        assert_eq!(value["Statement"], json!([theirs["Statement"], ours]));
        assert_eq!((&value["Version"], &value["Id"]), (&theirs["Version"], &theirs["Id"]));
        assert_eq!(merge(Some(&merged.text), &ours).expect("again"), Merged { changed: false, ..merged.clone() });
        // As SNS may give it back.
        let rewritten = merged.text.replace("\"sns:Publish\"", "[\"SNS:Publish\"]");
        assert!(!merge(Some(&rewritten), &ours).expect("rewritten").changed);
        let removed = without(Some(&merged.text), &ours).expect("removed");
        let value: Value = serde_json::from_str(&removed.text).expect("JSON");
        assert_eq!(value["Statement"], json!([theirs["Statement"]]));
        assert!(!without(Some(&removed.text), &ours).expect("again").changed);
    }

    #[test]
    fn a_statement_of_our_sid_that_says_something_else_is_replaced() {
        let ours = publish_statement(TOPIC, "photos", "123456789012");
        let mut open = ours.clone();
        open["Condition"] = Value::Null;
        let merged = merge(Some(&json!({ "Statement": [open] }).to_string()), &ours).expect("merged");
        assert!(merged.changed);
        assert_eq!(serde_json::from_str::<Value>(&merged.text).expect("JSON")["Statement"], json!([ours]));
    }

    #[test]
    fn what_is_not_understood_is_never_replaced() {
        let ours = publish_statement(TOPIC, "photos", "123456789012");
        for bad in ["[]", "{", "\"x\"", "{\"Statement\":7}"] {
            assert!(merge(Some(bad), &ours).is_err() && without(Some(bad), &ours).is_err(), "{bad}");
        }
        assert!(delivery_policy(Some("[]")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_merged_or_refused_and_a_merge_is_stable(text in ".{0,60}") {
            let ours = send_statement("arn:q", TOPIC);
            if let Ok(merged) = merge(Some(&text), &ours) {
                prop_assert!(!merge(Some(&merged.text), &ours).expect("a policy of ours").changed);
            }
        }
    }
}
