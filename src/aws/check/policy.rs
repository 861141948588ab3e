//! Whether a topic's access policy lets S3 publish what one bucket announces. Pure: the policy's JSON goes in.
//!
//! This is no full reading of IAM's language. It knows what the statements that people write for S3 hold, and of any other it says
//! so instead of guessing: whether a condition is met that is not understood here is unknown, and nobody is said to be lost by it.

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
    /// It would apply, were it not for this condition, which is known not to hold.
    Excluded(String),
    /// It applies if this condition holds, which cannot be seen from here.
    Unclear(String),
}

/// Whether a policy lets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lets {
    Yes,
    No,
    /// It depends on this, which cannot be seen from here.
    Unclear(String),
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
    let (mut allowed, mut excluded, mut unclear) = (None, Vec::new(), Vec::new());
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
            Says::Unclear(why) if !denies => unclear.push(format!("{} {why}", sid(statement))),
            Says::Applies | Says::Excluded(_) | Says::Unclear(_) | Says::Nothing => {}
        }
    }
    match allowed {
        Some(by) => Checked::ok(NAME, format!("{by} of topic {topic} lets bucket {bucket} publish")),
        None if !unclear.is_empty() => Checked::warn(
            NAME,
            format!(
                "whether the policy of topic {topic} lets bucket {bucket} publish cannot be seen from here: {}",
                unclear.join("; ")
            ),
            "see that events arrive, or run `postern setup`, which adds the statement that lets this bucket publish",
        ),
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
pub(super) fn lets_send(policy: Option<&str>, queue: &str, topic: &str) -> Lets {
    let policy: Value = policy.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let case = Case {
        service: "sns.amazonaws.com",
        action: "sqs:sendmessage",
        resource: queue,
        source: topic,
        account: topic.split(':').nth(4),
    };
    let of = |effect: &str| {
        let mut found = Lets::No;
        for statement in many(&policy["Statement"]).filter(|statement| text_is(&statement["Effect"], effect)) {
            match says(statement, &case) {
                Says::Applies => return Lets::Yes,
                Says::Unclear(why) => found = Lets::Unclear(format!("{} {why}", sid(statement))),
                Says::Nothing | Says::Excluded(_) => {}
            }
        }
        found
    };
    match (of("Allow"), of("Deny")) {
        (Lets::No, _) | (_, Lets::Yes) => Lets::No,
        (allowed, Lets::No) => allowed,
        (_, unclear) => unclear,
    }
}

/// Who would do what, to what, and for what.
struct Case<'a> {
    service: &'a str,
    /// In small letters.
    action: &'a str,
    resource: &'a str,
    /// What the service sends as `aws:SourceArn`.
    source: &'a str,
    /// What it sends as `aws:SourceAccount`, where that is known.
    account: Option<&'a str>,
}

impl<'a> Case<'a> {
    fn publish(topic: &'a str, source: &'a str) -> Self {
        // The account that owns the bucket is not known here; setup and S3 itself check it.
        Self { service: "s3.amazonaws.com", action: "sns:publish", resource: topic, source, account: None }
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
    let mut said = Says::Applies;
    for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
        for (key, wanted) in keys.as_object().into_iter().flatten() {
            match meets(operator, key, wanted, case) {
                Says::Applies | Says::Nothing => {}
                // All of them must hold: one that does not decides.
                Says::Excluded(why) => return Says::Excluded(why),
                unclear @ Says::Unclear(_) => said = unclear,
            }
        }
    }
    said
}

/// What a condition makes of a statement, by what the service sends along.
fn meets(operator: &str, key: &str, wanted: &Value, case: &Case<'_>) -> Says {
    let bare = operator.strip_suffix("IfExists").unwrap_or(operator);
    let negated = bare.contains("Not");
    let plain = bare.replacen("Not", "", 1);
    let name = key.to_ascii_lowercase();
    let list = || strings(wanted).collect::<Vec<_>>().join(", ");
    let limits = if negated { "is not for" } else { "is only for" };
    let (known, like) = match plain.as_str() {
        // ARN operators compare part by part, and a bucket's ARN has no region and no account.
        "ArnLike" | "ArnEquals" => (name == "aws:sourcearn", true),
        "StringLike" => (true, true),
        "StringEquals" => (true, false),
        // Of digits only, cases make no difference.
        "StringEqualsIgnoreCase" => (name == "aws:sourceaccount", false),
        _ => (false, false),
    };
    let holds = |value: &str| strings(wanted).any(|one| if like { fits(one, value) } else { one == value }) != negated;
    match (name.as_str(), case.account) {
        ("aws:sourcearn", _) if known && holds(case.source) => Says::Applies,
        ("aws:sourcearn", _) if known => {
            Says::Excluded(format!("{limits} {key} {}, and this is {}", list(), case.source))
        }
        ("aws:sourceaccount", Some(account)) if known && holds(account) => Says::Applies,
        ("aws:sourceaccount", Some(account)) if known => {
            Says::Excluded(format!("{limits} {key} {}, and this is {account}", list()))
        }
        // Whoever names one account means the right one.
        ("aws:sourceaccount", None) if known && !negated => Says::Applies,
        ("aws:sourceowner", None) if known && plain == operator => {
            Says::Excluded(format!("is only for {key} {}, which {} does not send", list(), case.service))
        }
        ("aws:securetransport" | "aws:principalisawsservice", _) if plain == "Bool" => {
            if strings(wanted).any(|value| value.eq_ignore_ascii_case("true")) || wanted == &Value::Bool(true) {
                Says::Applies
            } else {
                Says::Excluded(format!("is only where {key} is false"))
            }
        }
        _ => Says::Unclear(format!(
            "has the condition {operator} {key}, of which it is not known whether {} meets it",
            case.service
        )),
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
#[path = "policy_tests.rs"]
mod tests;
