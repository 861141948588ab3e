use super::*;

const TOPIC: &str = "arn:aws:sns:us-west-2:131990247566:dongie-standard-topic";
const HEX: &str = "7506a1e35b36ef5a444dd1a8e7cc3ed8";

fn topic(text: &str) -> TopicArn<'_> {
    TopicArn::parse(text).expect(text)
}

#[test]
fn arns_of_every_partition_name_their_host_and_their_signing_name() {
    for (arn, host, name) in [
        (TOPIC, "sns.us-west-2.amazonaws.com", "sns.amazonaws.com"),
        ("arn:aws:sns:ap-southeast-2:1:t", "sns.ap-southeast-2.amazonaws.com", "sns.amazonaws.com"),
        ("arn:aws:sns:af-south-1:1:t", "sns.af-south-1.amazonaws.com", "sns-signing.af-south-1.amazonaws.com"),
        (
            "arn:aws:sns:ap-southeast-7:1:t",
            "sns.ap-southeast-7.amazonaws.com",
            "sns-signing.ap-southeast-7.amazonaws.com",
        ),
        (
            "arn:aws-cn:sns:cn-northwest-1:1:t",
            "sns.cn-northwest-1.amazonaws.com.cn",
            "sns-cn-northwest-1.amazonaws.com.cn",
        ),
        ("arn:aws-us-gov:sns:us-gov-east-1:1:t", "sns.us-gov-east-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        ("arn:aws-iso:sns:us-iso-east-1:1:t", "sns.us-iso-east-1.c2s.ic.gov", "sns-us-iso-east-1.c2s.ic.gov"),
        (
            "arn:aws-iso-b:sns:us-isob-east-1:1:t",
            "sns.us-isob-east-1.sc2s.sgov.gov",
            "sns-us-isob-east-1.sc2s.sgov.gov",
        ),
        (
            "arn:aws-iso-f:sns:us-isof-south-1:1:t",
            "sns.us-isof-south-1.csp.hci.ic.gov",
            "sns-signing.us-isof-south-1.csp.hci.ic.gov",
        ),
        (
            "arn:aws-iso-e:sns:eu-isoe-west-1:1:t",
            "sns.eu-isoe-west-1.cloud.adc-e.uk",
            "sns-signing.eu-isoe-west-1.cloud.adc-e.uk",
        ),
        (
            "arn:aws-eusc:sns:eusc-de-east-1:1:t",
            "sns.eusc-de-east-1.amazonaws.eu",
            "sns-signing.eusc-de-east-1.amazonaws.eu",
        ),
    ] {
        let arn = arn.replace(":1:", ":123456789012:");
        assert_eq!(topic(&arn).sns_host(), host);
        assert_eq!(topic(&arn).signing_name(), name, "{arn}");
    }
}

#[test]
fn arns_that_cannot_exist_or_that_another_reader_could_misread_are_refused() {
    let long = format!("arn:aws:sns:us-east-1:123456789012:{}", "a".repeat(257));
    for arn in [
        "arn:aws-cn:sns:us-east-1:123456789012:t",
        "arn:aws:sns:cn-north-1:123456789012:t",
        "arn:aws:sns:us-gov-west-1:123456789012:t",
        "arn:aws:sqs:us-east-1:123456789012:t",
        "arn:aws:sns:us-east-1:12345678901:t",
        "arn:aws:sns:us-east-1:123456789012:",
        "arn:aws:sns:us-east-1:123456789012:.fifo",
        "arn:aws:sns:us-east-1:123456789012:t:b061e4fd-c468-458d-9736-91c8c0c18e29",
        "arn:aws:sns:us-east-1:123456789012:t\n",
        "arn:aws:sns:us-east-1:123456789012:t\nType\nNotification",
        "ARN:aws:sns:us-east-1:123456789012:t",
        "arn:aws:sns:us-east-1/../evil-1:123456789012:t",
        "arn:aws:sns:us-east.evil.com/-1:123456789012:t",
        "arn:aws:sns:s3-ap-southeast-2:123456789012:t",
        "arn:aws:sns:us--1:123456789012:t",
        "a|b|c",
        "",
        long.as_str(),
    ] {
        assert_eq!(TopicArn::parse(arn).map_err(|r| r.reason), Err(Reason::BadTopicArn), "{arn:?}");
    }
    assert_eq!(topic("arn:aws:sns:us-east-1:123456789012:orders.fifo").name(), "orders.fifo");
}

#[test]
fn only_the_certificate_address_of_the_topics_own_region_is_trusted() {
    let good = format!("https://sns.us-west-2.amazonaws.com/SimpleNotificationService-{HEX}.pem");
    assert_eq!(certificate_url(&good, &topic(TOPIC), None).expect("trusted").as_str(), good);
    let file = format!("SimpleNotificationService-{HEX}.pem");
    for bad in [
        format!("http://sns.us-west-2.amazonaws.com/{file}"),
        format!("https://sns.us-east-1.amazonaws.com/{file}"),
        format!("https://sns.us-west-2.amazonaws.com.evil.com/{file}"),
        format!("https://sns.us-west-2.amazonaws.com:443/{file}"),
        format!("https://sns.us-west-2.amazonaws.com@evil.com/{file}"),
        format!("https://user@sns.us-west-2.amazonaws.com/{file}"),
        format!("https://sns.s3-us-west-2.amazonaws.com/{file}"),
        format!("https://sns-fips.us-west-2.amazonaws.com/{file}"),
        format!("https://sns.us-west-2.amazonaws.com/{file}?x"),
        format!("https://sns.us-west-2.amazonaws.com/{file}#x"),
        format!("https://sns.us-west-2.amazonaws.com/{file}\n"),
        format!("https://sns.us-west-2.amazonaws.com//{file}"),
        format!("https://sns.us-west-2.amazonaws.com/x/../{file}"),
        format!("https://sns.us-west-2.amazonaws.com\\{file}"),
        format!("https://sns.us-west-2.amazonaws.com/%53imple{}", &file[6..]),
        format!("https://SNS.us-west-2.amazonaws.com/{file}"),
        format!(" https://sns.us-west-2.amazonaws.com/{file}"),
        format!("https://sns.us-west-2.amazonaws.com/{}", file.to_uppercase()),
        format!("https://sns.us-west-2.amazonaws.com/{}", file.replace("7506", "7506a")),
        format!("https://sns.us-west-2.amazonaws.com/?Action=GetTopicAttributes&x={file}"),
        "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-.pem".to_owned(),
        "file:///etc/ssl/cert.pem".to_owned(),
        String::new(),
    ] {
        let refused = certificate_url(&bad, &topic(TOPIC), None).map_err(|r| r.reason);
        assert_eq!(refused, Err(Reason::CertUrlUntrusted), "{bad:?}");
    }
}

#[test]
fn another_sns_is_its_whole_origin_and_nothing_beside_it() {
    let endpoint = Url::parse("http://127.0.0.1:4566").expect("a URL");
    let arn = topic("arn:aws:sns:us-east-1:000000000000:t");
    let ok = |url: &str| certificate_url(url, &arn, Some(&endpoint)).is_ok();
    assert!(ok("http://127.0.0.1:4566/_aws/sns/SimpleNotificationService-6c6f.pem"));
    assert!(!ok("http://127.0.0.1:4567/_aws/sns/a.pem"));
    assert!(!ok("https://127.0.0.1:4566/a.pem"));
    assert!(!ok("http://x@127.0.0.1:4566/a.pem"));
    assert!(!ok("http://@127.0.0.1:4566/a.pem"));
    assert!(!ok("http://127.0.0.1:4566/a.pem#b"));
    assert!(!ok(&format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{HEX}.pem")));
    let elsewhere = Url::parse("http://sns.internal:4566").expect("a URL");
    assert!(certificate_url("http://sns.internal:4566/a.pem", &arn, Some(&elsewhere)).is_err(), "http off loopback");
}

#[test]
fn a_subscribe_url_must_be_what_topic_and_token_make() {
    let token = "ab".repeat(32);
    let arn = topic(TOPIC);
    let good = confirmation_url(&arn, &token, None).expect("a URL");
    assert!(check_subscribe_url(good.as_str(), &arn, &token, None).is_ok());
    for bad in [
        good.as_str().replace("ConfirmSubscription", "Unsubscribe"),
        good.as_str().replace("https", "http"),
        format!("{good}&AuthenticateOnUnsubscribe=true"),
        good.as_str().replace("us-west-2.amazonaws", "us-east-1.amazonaws"),
        good.as_str().replace("https://", "https://user@"),
    ] {
        assert!(check_subscribe_url(&bad, &arn, &token, None).is_err(), "{bad}");
    }

    let endpoint = Url::parse("http://localhost:4566/").expect("a URL");
    let other = confirmation_url(&arn, &token, Some(&endpoint)).expect("a URL");
    let check = |url: &str| check_subscribe_url(url, &arn, &token, Some(&endpoint)).is_ok();
    assert!(check(other.as_str()));
    assert!(check(&format!("http://localhost:4566/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}")));
    assert!(!check(&format!("{other}&Token={token}")));
    assert!(!check(&format!("http://localhost:4566/?Action=ConfirmSubscription&TopicArn={TOPIC}")));
    assert!(!check(&format!("http://localhost:4566/?Action=ConfirmSubscription&TopicArn={TOPIC}x&Token={token}")));
    assert!(!check(good.as_str()));
}
