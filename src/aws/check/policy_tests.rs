use super::*;
use crate::health::Status;

const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:uploads-postern-dlq";

#[test]
fn a_queue_takes_dead_letters_only_where_its_policy_lets_sns_for_this_topic() {
    let topic = "arn:aws:sns:eu-central-1:123456789012:uploads";
    let statement = |effect: &str, source: &str| {
        serde_json::json!({ "Effect": effect, "Principal": { "Service": "sns.amazonaws.com" }, "Action": "SQS:SendMessage",
            "Resource": QUEUE, "Condition": { "ArnEquals": { "aws:SourceArn": source } } })
    };
    let other = "arn:aws:sns:eu-central-1:123456789012:other";
    assert_eq!(lets(&[statement("Allow", topic)]), Lets::Yes);
    assert_eq!(lets(&[statement("Allow", other)]), Lets::No);
    assert_eq!(lets(&[statement("Allow", topic), statement("Deny", topic)]), Lets::No);
    assert_eq!(lets(&[statement("Allow", topic), statement("Deny", other)]), Lets::Yes);
    assert_eq!((lets_send(None, QUEUE, topic), lets_send(Some("{"), QUEUE, topic)), (Lets::No, Lets::No));
}

fn lets(statements: &[Value]) -> Lets {
    let policy = serde_json::json!({ "Statement": statements }).to_string();
    lets_send(Some(&policy), QUEUE, "arn:aws:sns:eu-central-1:123456789012:uploads")
}

fn sends(effect: &str, condition: Value) -> Value {
    serde_json::json!({ "Sid": "one", "Effect": effect, "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": condition })
}

/// Once every condition that is not understood here was one by which "what SNS gives up on is lost".
#[test]
fn of_a_queue_with_a_condition_that_cannot_be_seen_through_nobody_says_that_it_refuses() {
    for key in ["aws:PrincipalOrgID", "aws:SourceOrgID", "aws:SourceOrgPaths", "aws:SourceVpce"] {
        let condition = serde_json::json!({ "StringEquals": { key: "o-1" } });
        let found = lets(&[sends("Allow", condition.clone())]);
        assert!(
            matches!(&found, Lets::Unclear(why) if why.contains("statement one") && why.contains(key)),
            "{found:?}"
        );
        let beside = [sends("Allow", condition.clone()), sends("Allow", Value::Null)];
        assert_eq!(lets(&beside), Lets::Yes, "another statement lets it");
        let denied = lets(&[sends("Allow", Value::Null), sends("Deny", condition.clone())]);
        assert!(matches!(&denied, Lets::Unclear(why) if why.contains(key)), "{denied:?}");
        let two =
            serde_json::json!({ "StringEquals": { key: "o-1" }, "ArnEquals": { "aws:SourceArn": "arn:aws:sns:::x" } });
        assert_eq!(lets(&[sends("Allow", two)]), Lets::No, "the other condition decides");
    }
}

#[test]
fn what_sns_sends_along_is_compared_also_where_a_condition_says_not() {
    let allows = |condition: Value| lets(&[sends("Allow", condition)]);
    for (condition, wanted) in [
        (serde_json::json!({ "StringEquals": { "aws:SourceAccount": "123456789012" } }), Lets::Yes),
        (serde_json::json!({ "StringEquals": { "aws:SourceAccount": ["210987654321"] } }), Lets::No),
        (serde_json::json!({ "StringNotEquals": { "aws:SourceAccount": "123456789012" } }), Lets::No),
        (serde_json::json!({ "ArnNotLike": { "aws:SourceArn": "arn:aws:sns:*:*:other" } }), Lets::Yes),
        (serde_json::json!({ "ArnNotEqualsIfExists": { "aws:SourceArn": "arn:aws:sns:*:123456789012:*" } }), Lets::No),
        (serde_json::json!({ "Bool": { "aws:PrincipalIsAWSService": "false" } }), Lets::No),
    ] {
        assert_eq!(allows(condition.clone()), wanted, "{condition}");
    }
    // The usual fence around an account, which leaves out the cloud's own services.
    let fence = serde_json::json!({ "StringNotEqualsIfExists": { "aws:PrincipalOrgID": "o-1" }, "BoolIfExists": { "aws:PrincipalIsAWSService": "false" } });
    assert_eq!(lets(&[sends("Allow", Value::Null), sends("Deny", fence)]), Lets::Yes);
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
    assert!(other.found.contains("arn:aws:s3:*:*:other") && other.found.contains("arn:aws:s3:::photos"), "{other:?}");
    let unknown = judged(&s3(r#","Condition":{"StringEquals":{"aws:SourceOrgID":"o-1"}}"#));
    assert!(
        unknown.found.contains("cannot be seen from here") && unknown.found.contains("aws:SourceOrgID"),
        "{unknown:?}"
    );
    assert_eq!(unknown.status, Status::Warn);
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
