//! Whether a topic's access policy lets S3 publish what one bucket announces. Pure: the policy's JSON goes in.
//!
//! This is no full reading of IAM's language. It knows what the statements that people write for S3 hold, and of any other it says
//! so instead of guessing: a condition that is not understood counts as one that S3 does not meet.

use serde_json::Value;

use crate::health::Checked;

const NAME: &str = "topic_policy";

/// What a statement says of our case.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    /// It is about something else.
    Nothing,
    /// It applies.
    Applies,
    /// It would apply, were it not for this condition.
    Excluded(String),
}

/// Judges the attribute `Policy` of `topic` for `bucket`.
pub fn judge(policy: Option<&str>, topic: &str, bucket: &str) -> Checked {
    let advice = "run `postern setup`, which adds the statement that lets this bucket publish";
    let Some(policy) = policy else {
        return Checked::fail(NAME, format!("topic {topic} has no access policy, so S3 may not publish to it"), advice);
    };
    let Ok(policy) = serde_json::from_str::<Value>(policy) else {
        return Checked::warn(NAME, format!("the access policy of topic {topic} is not JSON"), advice);
    };
    let source = format!("arn:{}:s3:::{bucket}", topic.split(':').nth(1).unwrap_or("aws"));
    let case = Case::publish(topic, &source);
    let (mut allowed, mut excluded) = (None, Vec::new());
    for statement in many(&policy["Statement"]) {
        let denies = text_is(&statement["Effect"], "Deny");
        match says(statement, &case) {
            Says::Applies if denies => {
                return Checked::fail(
                    NAME,
                    format!("{} of topic {topic} denies S3 to publish what bucket {bucket} announces", sid(statement)),
                    "remove or narrow that statement; a Deny wins over every Allow",
                );
            }
            Says::Applies if text_is(&statement["Effect"], "Allow") => {
                allowed = allowed.or_else(|| Some(sid(statement)))
            }
            Says::Excluded(why) if !denies => excluded.push(format!("{} {why}", sid(statement))),
            Says::Applies | Says::Excluded(_) | Says::Nothing => {}
        }
    }
    match allowed {
        Some(by) => Checked::ok(NAME, format!("{by} of topic {topic} lets bucket {bucket} publish")),
        None if excluded.is_empty() => {
            Checked::fail(NAME, format!("no statement of the policy of topic {topic} lets S3 publish"), advice)
        }
        None => Checked::fail(
            NAME,
            format!("the policy of topic {topic} does not let bucket {bucket} publish: {}", excluded.join("; ")),
            advice,
        ),
    }
}

/// A statement by which S3 may publish to `topic` for every bucket of everybody, if there is one.
pub fn lets_everybody(policy: &str, topic: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let limits = |statement: &Value| {
        let keys = statement["Condition"].as_object().into_iter().flatten();
        let mut keys = keys.flat_map(|(_, keys)| keys.as_object().into_iter().flatten());
        keys.any(|(key, _)| key.eq_ignore_ascii_case("aws:SourceAccount"))
    };
    // No bucket has this name, so that only what looks at no bucket lets it.
    let open = |statement: &&Value| {
        text_is(&statement["Effect"], "Allow")
            && !limits(statement)
            && says(statement, &Case::publish(topic, "arn:aws:s3:::.")) == Says::Applies
    };
    many(&policy["Statement"]).find(open).map(sid)
}

/// Whether `policy` lets SNS put into `queue` what it cannot deliver of `topic`.
pub(super) fn lets_send(policy: Option<&str>, queue: &str, topic: &str) -> bool {
    let policy: Value = policy.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let case = Case { service: "sns.amazonaws.com", action: "sqs:sendmessage", resource: queue, source: topic };
    let of = |effect: &str| {
        let mut all = many(&policy["Statement"]).filter(|statement| text_is(&statement["Effect"], effect));
        all.any(|statement| says(statement, &case) == Says::Applies)
    };
    of("Allow") && !of("Deny")
}

/// Who would do what, to what, and for what.
struct Case<'a> {
    service: &'a str,
    /// In small letters.
    action: &'a str,
    resource: &'a str,
    /// What the service sends as `aws:SourceArn`.
    source: &'a str,
}

impl<'a> Case<'a> {
    fn publish(topic: &'a str, source: &'a str) -> Self {
        Self { service: "s3.amazonaws.com", action: "sns:publish", resource: topic, source }
    }
}

fn says(statement: &Value, case: &Case<'_>) -> Says {
    let principal = &statement["Principal"];
    let service = strings(&principal["Service"]).any(|name| fits(name, case.service));
    let anybody = text_is(principal, "*") || strings(&principal["AWS"]).any(|name| name == "*");
    if !service && !anybody {
        return Says::Nothing;
    }
    let acts =
        strings(&statement["Action"]).any(|action| fits(&action.to_ascii_lowercase(), case.action) || action == "*");
    if !acts || !strings(&statement["Resource"]).any(|resource| fits(resource, case.resource)) {
        return Says::Nothing;
    }
    let Some(conditions) = statement["Condition"].as_object() else { return Says::Applies };
    for (operator, keys) in conditions {
        for (key, wanted) in keys.as_object().into_iter().flatten() {
            if let Err(why) = meets(operator, key, wanted, case.source) {
                return Says::Excluded(why);
            }
        }
    }
    Says::Applies
}

/// Whether what S3 sends along meets a condition.
fn meets(operator: &str, key: &str, wanted: &Value, source: &str) -> Result<(), String> {
    let plain = operator.strip_suffix("IfExists").unwrap_or(operator);
    let list = || strings(wanted).collect::<Vec<_>>().join(", ");
    match key.to_ascii_lowercase().as_str() {
        "aws:sourcearn" if matches!(plain, "ArnLike" | "ArnEquals" | "StringLike" | "StringEquals") => {
            // ARN operators compare part by part, and a bucket's ARN has no region and no account.
            let like = plain != "StringEquals";
            let met = strings(wanted).any(|pattern| if like { fits(pattern, source) } else { pattern == source });
            if met { Ok(()) } else { Err(format!("is only for {key} {}, and this bucket is {source}", list())) }
        }
        // The account that owns the bucket is not known here; setup and S3 itself check it.
        "aws:sourceaccount" if plain.starts_with("String") => Ok(()),
        "aws:securetransport" if plain == "Bool" => {
            if strings(wanted).any(|value| value == "true") || wanted == &Value::Bool(true) {
                Ok(())
            } else {
                Err("is only for plain HTTP (aws:SecureTransport false)".to_owned())
            }
        }
        "aws:sourceowner" => Err(format!("is only for {key} {}, which S3 does not send", list())),
        _ => Err(format!("has the condition {operator} {key}, which is not known to hold for S3")),
    }
}

/// The statement as a person finds it.
fn sid(statement: &Value) -> String {
    let clean = |sid: &str| sid.chars().filter(|c| c.is_ascii_graphic()).take(64).collect::<String>();
    statement["Sid"]
        .as_str()
        .map_or_else(|| "a statement without Sid".to_owned(), |sid| format!("statement {}", clean(sid)))
}

/// A member that may be one thing or a list of them.
fn many(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().map_or(&[] as &[Value], Vec::as_slice);
    list.iter().chain(Some(value).filter(|value| value.is_object() || value.is_string()))
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    many(value).filter_map(Value::as_str)
}

fn text_is(value: &Value, text: &str) -> bool {
    value.as_str() == Some(text)
}

/// Whether `text` fits `pattern`, where `*` is any text and `?` any one byte. In time of at most the product of the lengths.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:uploads-postern-dlq";

    #[test]
    fn a_queue_takes_dead_letters_only_where_its_policy_lets_sns_for_this_topic() {
        let topic = "arn:aws:sns:eu-central-1:123456789012:uploads";
        let statement = |effect: &str, source: &str| {
            serde_json::json!({ "Effect": effect, "Principal": { "Service": "sns.amazonaws.com" }, "Action": "SQS:SendMessage",
                "Resource": QUEUE, "Condition": { "ArnEquals": { "aws:SourceArn": source } } })
        };
        let lets = |statements: Value| {
            lets_send(Some(&serde_json::json!({ "Statement": statements }).to_string()), QUEUE, topic)
        };
        assert!(lets(serde_json::json!([statement("Allow", topic)])));
        assert!(!lets(serde_json::json!([statement("Allow", "arn:aws:sns:eu-central-1:123456789012:other")])));
        assert!(!lets(serde_json::json!([statement("Allow", topic), statement("Deny", topic)])));
        assert!(!lets_send(None, QUEUE, topic) && !lets_send(Some("{"), QUEUE, topic));
    }

    #[test]
    fn a_statement_for_every_bucket_of_everybody_is_told() {
        let topic = "arn:aws:sns:eu-central-1:123456789012:uploads";
        let policy = |condition: Value| {
            serde_json::json!({ "Statement": [{ "Sid": "open", "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" },
                "Action": "SNS:Publish", "Resource": topic, "Condition": condition }] })
            .to_string()
        };
        assert_eq!(lets_everybody(&policy(Value::Null), topic).as_deref(), Some("statement open"));
        let like = serde_json::json!({ "ArnLike": { "aws:SourceArn": "arn:aws:s3:::*" } });
        assert!(lets_everybody(&policy(like), topic).is_some());
        for narrow in [
            serde_json::json!({ "ArnLike": { "aws:SourceArn": "arn:aws:s3:::photos" } }),
            serde_json::json!({ "StringEquals": { "aws:SourceAccount": "123456789012" } }),
        ] {
            assert_eq!(lets_everybody(&policy(narrow), topic), None);
        }
    }
    use crate::health::Status;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:uploads";

    fn judged(statements: &str) -> Checked {
        judge(Some(&format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)), TOPIC, "photos")
    }

    fn s3(condition: &str) -> String {
        format!(
            r#"{{"Sid":"s3","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"SNS:Publish","Resource":"{TOPIC}"{condition}}}"#
        )
    }

    #[test]
    fn the_statements_that_people_write_for_s3_allow() {
        for condition in [
            "",
            r#","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:s3:*:*:photos"},"StringEquals":{"aws:SourceAccount":"123456789012"}}"#,
            r#","Condition":{"ArnEquals":{"AWS:SourceArn":["arn:aws:s3:::other","arn:aws:s3:::photos"]}}"#,
            r#","Condition":{"StringEquals":{"aws:SourceArn":"arn:aws:s3:::photos"},"Bool":{"aws:SecureTransport":"true"}}"#,
        ] {
            let one = judged(&s3(condition));
            assert_eq!(one.status, Status::Ok, "{condition}: {one:?}");
            assert_eq!(judged(&format!("[{}]", s3(condition))).status, Status::Ok);
        }
        let anybody = r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["sns:*"],"Resource":"*"}"#;
        assert_eq!(judged(anybody).status, Status::Ok);
    }

    #[test]
    fn a_condition_that_excludes_the_bucket_is_explained() {
        let other = judged(&s3(r#","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:s3:*:*:other"}}"#));
        assert_eq!(other.status, Status::Fail);
        assert!(
            other.found.contains("arn:aws:s3:*:*:other") && other.found.contains("arn:aws:s3:::photos"),
            "{other:?}"
        );
        let unknown = judged(&s3(r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#));
        assert!(unknown.found.contains("aws:PrincipalOrgID"), "{unknown:?}");
    }

    #[test]
    fn the_policy_that_a_new_topic_has_does_not_let_s3_publish() {
        let default = format!(
            r#"[{{"Sid":"__default_statement_ID","Effect":"Allow","Principal":{{"AWS":"*"}},"Action":["SNS:GetTopicAttributes","SNS:Publish"],
            "Resource":"{TOPIC}","Condition":{{"StringEquals":{{"AWS:SourceOwner":"123456789012"}}}}}}]"#
        );
        let found = judged(&default);
        assert_eq!(found.status, Status::Fail);
        assert!(found.found.contains("__default_statement_ID is only for AWS:SourceOwner"), "{found:?}");
        assert!(found.advice.contains("postern setup"));
    }

    #[test]
    fn a_deny_wins_and_other_statements_say_nothing() {
        let deny = s3("").replace("Allow", "Deny");
        assert_eq!(judged(&format!("[{},{deny}]", s3(""))).status, Status::Fail);
        for about_else in [
            s3("").replace("SNS:Publish", "SNS:Subscribe"),
            s3("").replace("uploads", "downloads"),
            s3("").replace("s3.amazonaws.com", "events.amazonaws.com"),
        ] {
            assert!(judged(&about_else).found.contains("no statement"), "{about_else}");
        }
        assert_eq!(judge(None, TOPIC, "photos").status, Status::Fail);
        assert_eq!(judge(Some("{"), TOPIC, "photos").status, Status::Warn);
    }

    #[test]
    fn patterns_fit_as_globs_and_end() {
        for (pattern, text) in [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("**", "x"), ("a*b*c", "aXbYbc")] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", ""), ("a?c", "ac"), ("a*c", "abcd"), ("", "x")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        assert!(!fits(&"*a".repeat(200), &"b".repeat(2000)));
    }
}
