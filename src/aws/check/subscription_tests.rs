use super::*;
use crate::health::Status;

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:uploads";

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

fn one(arn: &str, protocol: &str, endpoint: &str) -> Subscription {
    Subscription { arn: arn.into(), protocol: protocol.into(), endpoint: endpoint.into() }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn ours_is_the_subscription_of_our_url_whatever_password_stands_in_it() {
    let all = [
        one("arn:1", "https", "https://me:****@events.example.com/sns"),
        one("arn:2", "https", "https://other.example.com/sns"),
        one("arn:3", "sqs", "arn:aws:sqs:eu-central-1:1:q"),
    ];
    let found = ours(&all, Some(&url("https://events.example.com/sns/")));
    assert_eq!(found, [&all[0]]);
    assert_eq!(ours(&all, None).len(), 2, "without a URL those over HTTP");
    let said = state(TOPIC, &found, Some(&url("https://me:hunter2@events.example.com/sns")), None);
    assert_eq!(said.status, Status::Ok);
    assert!(!said.found.contains("****") && !said.found.contains("hunter2"), "{said:?}");
}

#[test]
fn a_missing_a_pending_and_a_doubled_subscription_are_told() {
    let at = url("https://events.example.com/sns");
    assert_eq!(state(TOPIC, &[], Some(&at), None).status, Status::Fail);
    let pending = one("PendingConfirmation", "https", at.as_str());
    assert_eq!(state(TOPIC, &[&pending], Some(&at), None).status, Status::Warn);
    let listed = one("arn:aws:sns:1", "https", at.as_str());
    let attributes = map(&[("PendingConfirmation", "true")]);
    assert!(state(TOPIC, &[&listed], Some(&at), Some(&attributes)).found.contains("not confirmed"));
    assert!(state(TOPIC, &[&listed, &listed], Some(&at), None).found.contains("2 subscriptions"));
    let plain = one("arn:aws:sns:1", "http", "http://events.example.com/sns");
    assert!(state(TOPIC, &[&plain], None, None).found.contains("plain HTTP"));
}

#[test]
fn raw_delivery_fails_and_a_filter_or_no_dead_letter_queue_warns() {
    assert_eq!(raw(&map(&[("RawMessageDelivery", "true")])).status, Status::Fail);
    assert_eq!(raw(&map(&[("RawMessageDelivery", "false")])).status, Status::Ok);
    assert_eq!(filter(&map(&[("FilterPolicy", r#"{"a":["b"]}"#)])).status, Status::Warn);
    assert_eq!(filter(&map(&[("FilterPolicy", "{}")])).status, Status::Ok);
    assert_eq!(dead_letters(&map(&[]), DeadLetters::Unseen).status, Status::Warn);
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:1:dead"}"#;
    assert!(dead_letters(&map(&[("RedrivePolicy", policy)]), DeadLetters::Taking).found.contains(":dead"));
}

#[test]
fn the_default_delivery_policy_is_told_from_one_that_lasts() {
    let default = r#"{"healthyRetryPolicy":{"minDelayTarget":20,"maxDelayTarget":20,"numRetries":3,"numMaxDelayRetries":0,
        "numNoDelayRetries":0,"numMinDelayRetries":0,"backoffFunction":"linear"},"guaranteed":false}"#;
    for attributes in [map(&[("EffectiveDeliveryPolicy", default)]), map(&[])] {
        let found = delivery(&attributes, &map(&[]));
        assert_eq!(found.status, Status::Warn);
        assert!(found.found.contains("default: SNS tries 3 times again, over about 60 s"), "{found:?}");
        assert!(found.advice.contains("postern setup"));
    }
    let long = r#"{"healthyRetryPolicy":{"minDelayTarget":5,"maxDelayTarget":300,"numRetries":20,"numMaxDelayRetries":8,"numMinDelayRetries":2,"backoffFunction":"exponential"}}"#;
    let found = delivery(&map(&[("DeliveryPolicy", long)]), &map(&[]));
    assert_eq!(found.status, Status::Ok, "{found:?}");
    assert!(found.found.contains("46 min"), "{found:?}");
    let short = r#"{"healthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":60,"numRetries":5}}"#;
    assert!(delivery(&map(&[("DeliveryPolicy", short)]), &map(&[])).found.contains("short"));
}

#[test]
fn a_topics_policy_counts_where_the_subscription_has_none_and_nonsense_is_no_panic() {
    let topic = map(&[(
        "EffectiveDeliveryPolicy",
        r#"{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":60,"maxDelayTarget":60,"numRetries":50},"disableSubscriptionOverrides":false}}"#,
    )]);
    assert_eq!(delivery(&map(&[]), &topic).status, Status::Ok);
    for nonsense in
        ["{", "[]", r#"{"healthyRetryPolicy":{"numRetries":-1}}"#, r#"{"healthyRetryPolicy":{"numRetries":1e30}}"#]
    {
        delivery(&map(&[("EffectiveDeliveryPolicy", nonsense)]), &map(&[("DeliveryPolicy", nonsense)]));
    }
}

/// SNS lists what was ended as "Deleted" for days; once that passed for a subscription that waits for its confirmation.
#[test]
fn an_ended_subscription_is_none_and_a_confirmed_one_comes_first() {
    let at = url("https://events.example.com/sns");
    let all = [
        one("Deleted", "https", at.as_str()),
        one("PendingConfirmation", "https", at.as_str()),
        one("arn:aws:sns:1", "https", at.as_str()),
    ];
    assert_eq!(ours(&all, Some(&at)), [&all[2], &all[1]]);
    assert!(ours(&all[..1], Some(&at)).is_empty());
}

#[test]
fn a_dead_letter_queue_that_is_gone_or_closed_fails() {
    let attributes = map(&[("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:1:graves"}"#)]);
    assert_eq!(dead_letters(&attributes, DeadLetters::Taking).status, Status::Ok);
    assert!(dead_letters(&attributes, DeadLetters::Missing).found.contains("graves does not exist"));
    assert!(dead_letters(&attributes, DeadLetters::Refusing).found.contains("does not let SNS"));
    let unclear = dead_letters(&attributes, DeadLetters::Unclear("statement a has aws:PrincipalOrgID".to_owned()));
    assert_eq!(unclear.status, Status::Warn);
    assert!(unclear.found.contains("aws:PrincipalOrgID") && !unclear.found.contains("lost"), "{unclear:?}");
}

#[test]
fn a_subscription_without_the_credentials_that_we_ask_for_fails() {
    let said = |endpoint: &str, user: Option<&str>| credentials(endpoint, user).map(|checked| checked.found);
    assert_eq!(said("https://sns:****@events.example.com/sns", Some("sns")), None);
    assert_eq!(said("https://events.example.com/sns", None), None);
    assert_eq!(said("https://a%40b:****@events.example.com/sns", Some("a@b")), None);
    // Once only the least encoding was taken for ours: a console or a tool may encode more, and in small letters.
    assert_eq!(said("https://sns%2Duser%2a%5f:****@events.example.com/sns", Some("sns-user*_")), None);
    assert!(said("https://events.example.com/sns", Some("sns")).expect("wrong").contains("no user name"));
    assert!(said("https://old:****@events.example.com/sns", Some("sns")).expect("wrong").contains("another user name"));
}
