//! Amazon's side, against a real S3, SNS and SQS (LocalStack).

use hyper::Method;

use super::{Said, setup};
use crate::support::aws::{Aws, call};
use crate::support::process::{ToolServer, free_port, write};
use crate::support::receiver::Receiver;
use crate::support::sidecar::{KEY, Sidecar};
use crate::support::tool;

const CERTIFICATE_PATH: &str = "/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem";
const ARN: &str = "arn:aws:sns:us-east-1:000000000000:changes";

/// The settings of a laptop: of the sidecar's only what setup needs.
fn settings<'a>(endpoint: &'a str, public: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("EVENT_SNS_TOPIC_NAME", "changes"),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-east-1"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hush-hush"),
        ("POSTERN_SNS_ENDPOINT_URL", endpoint),
        ("POSTERN_S3_ENDPOINT_URL", endpoint),
        ("POSTERN_S3_PATH_STYLE", "true"),
        ("POSTERN_PUBLIC_URL", public),
    ]
}

/// A bucket that announces tags to a queue of somebody else.
async fn bucket_of_others(aws: &Aws) {
    aws.s3(Method::PUT, "/photos", &[], "").await;
    aws.create_topic("theirs").await;
    let theirs = "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TopicConfiguration><Id>theirs</Id>\
        <Topic>arn:aws:sns:us-east-1:000000000000:theirs</Topic><Event>s3:ReducedRedundancyLostObject</Event></TopicConfiguration>\
        <EventBridgeConfiguration/></NotificationConfiguration>";
    aws.s3(Method::PUT, "/photos?notification", &[], theirs).await;
}

async fn notifications(aws: &Aws) -> String {
    aws.s3(Method::GET, "/photos?notification", &[], "").await.text()
}

fn fine(said: &Said) {
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_signed_callback_and_back_without_touching_what_others_made() {
    let test = "from_nothing_to_a_signed_callback_and_back_without_touching_what_others_made";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    bucket_of_others(&aws).await;
    let before = notifications(&aws).await;
    let receiver = Receiver::start().await;
    let certificate = call(Method::GET, &format!("{}{CERTIFICATE_PATH}", server.endpoint()), &[], "").await;
    let anchor = write(server.folder(), "anchor.pem", &certificate.text());
    let sidecar = Sidecar::start(
        ARN,
        &receiver.url("/events"),
        &[("POSTERN_SNS_ENDPOINT_URL", server.endpoint()), ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str())],
    )
    .await;
    let sns_url = sidecar.sns_url();
    let public = sns_url.strip_suffix("/sns").expect("the route");
    let settings = settings(server.endpoint(), public);

    // The plan changes nothing.
    let said = setup(&settings, &["--dry-run"]).await;
    fine(&said);
    for shown in
        ["would create", "aws:SourceArn", "healthyRetryPolicy", "\"TopicConfigurations\"", "arn:aws:s3:::photos"]
    {
        assert!(said.out.contains(shown), "{shown} is not in {}", said.out);
    }
    assert_eq!(notifications(&aws).await, before);
    assert!(!aws.sns("ListTopics", &[]).await.text().contains("changes"));

    // All of it, and again: nothing is left to do.
    let said = setup(&settings, &[]).await;
    fine(&said);
    assert_eq!(said.verdicts("create").len(), 4, "topic, queue, subscription, notification: {}", said.out);
    assert!(said.out.contains("the sidecar has confirmed the subscription"), "{}", said.out);
    let said = setup(&settings, &[]).await;
    fine(&said);
    assert_eq!(said.verdicts("ok").len(), 6, "{}", said.out);
    assert_eq!((said.verdicts("create").len(), said.verdicts("change").len()), (0, 0), "{}", said.out);
    let listed = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", ARN)]).await.text();
    assert_eq!(listed.matches("<Endpoint>").count(), 1, "no second subscription: {listed}");
    let subscription = aws.subscription(ARN).await;
    let attributes = aws.sns("GetSubscriptionAttributes", &[("SubscriptionArn", &subscription)]).await.text();
    assert!(attributes.contains("changes-postern-dlq") && attributes.contains("maxDelayTarget"), "{attributes}");

    // It works.
    aws.s3(Method::PUT, "/photos/a.txt", &[], "hello").await;
    let is_first = |received: &crate::support::receiver::Received| {
        received.json()["message"]["raw"]["Records"][0]["s3"]["object"]["key"] == "a.txt"
    };
    let received = receiver.wait_for("the change is delivered", is_first).await;
    assert!(received.is_signed_with(KEY));

    // What somebody broke is repaired, and only that.
    let raw = [
        ("SubscriptionArn", subscription.as_str()),
        ("AttributeName", "RawMessageDelivery"),
        ("AttributeValue", "true"),
    ];
    aws.sns("SetSubscriptionAttributes", &raw).await;
    let said = setup(&settings, &[]).await;
    fine(&said);
    assert_eq!(said.verdicts("change").len(), 1, "{}", said.out);
    assert!(said.out.contains("(RawMessageDelivery)"), "{}", said.out);
    let all = notifications(&aws).await;
    assert!(all.contains(">theirs<") && all.contains("EventBridge") && all.contains(">postern-changes<"), "{all}");

    // And back, twice.
    let said = setup(&settings, &["--remove", "--dry-run"]).await;
    fine(&said);
    assert_eq!(notifications(&aws).await, all);
    let said = setup(&settings, &["--remove", "--remove-topic"]).await;
    fine(&said);
    assert!(!notifications(&aws).await.contains("postern"));
    assert!(notifications(&aws).await.contains(">theirs<") && notifications(&aws).await.contains("EventBridge"));
    let topics = aws.sns("ListTopics", &[]).await.text();
    assert!(!topics.contains("changes") && topics.contains("theirs"), "{topics}");
    let said = setup(&settings, &["--remove", "--remove-topic"]).await;
    fine(&said);
    assert_eq!(said.verdicts("remove").len(), 0, "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_at_the_public_url_it_says_what_remains_and_a_later_run_finishes() {
    let test = "with_nobody_at_the_public_url_it_says_what_remains_and_a_later_run_finishes";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    aws.s3(Method::PUT, "/photos", &[], "").await;
    let public = format!("http://127.0.0.1:{}", free_port());
    let mut settings = settings(server.endpoint(), &public);
    settings.extend([("POSTERN_SNS_BASIC_USERNAME", "sns"), ("POSTERN_SNS_BASIC_PASSWORD", "hush:@word")]);
    let said = setup(&settings, &["--wait", "1s", "--no-dlq"]).await;
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("cannot be reached from here") && said.out.contains("run this again"), "{}", said.out);
    assert!(said.out.contains("sns:[secret]@127.0.0.1"), "{}", said.out);
    let listed = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", ARN)]).await.text();
    assert!(listed.contains("sns:hush%3A%40word@127.0.0.1"), "{listed}");
    let said = setup(&settings, &["--wait", "1s", "--no-dlq", "--json"]).await;
    assert_eq!(said.code, 1, "{}", said.out);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON object");
    assert_eq!(json["done"], false);
    let listed = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", ARN)]).await.text();
    assert_eq!(listed.matches("<Endpoint>").count(), 1, "no second pending subscription: {listed}");
}

/// A topic that two sidecars share, a console's configuration and a queue of somebody's own: setup adds what is missing and takes
/// only that away again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_console_or_another_sidecar_made_is_used_and_left() {
    let test = "what_a_console_or_another_sidecar_made_is_used_and_left";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    aws.s3(Method::PUT, "/photos", &[], "").await;
    aws.create_topic("changes").await;
    let console = format!(
        "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TopicConfiguration><Id>console</Id>\
        <Topic>{ARN}</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>"
    );
    aws.s3(Method::PUT, "/photos?notification", &[], &console).await;
    let (one, other) = (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let (one, other) = (settings(server.endpoint(), &one), settings(server.endpoint(), &other));

    // Nobody is there to confirm, and that is all that fails.
    let said = setup(&one, &["--wait", "1s"]).await;
    assert_eq!(said.verdicts("FAILED").len(), 1, "{}", said.out);
    assert!(said.out.contains("by console") && said.out.contains("FAILED        confirmation"), "{}", said.out);
    let both = notifications(&aws).await;
    assert_eq!(both.matches("ObjectCreated").count(), 1, "S3 refuses the same event twice: {both}");
    assert!(both.contains("ObjectRemoved"), "{both}");
    let said = setup(&other, &["--wait", "1s"]).await;
    assert!(said.out.contains("ok            bucket notification"), "{}", said.out);

    // The other sidecar still has the queue, and the console's configuration still publishes.
    let said = setup(&one, &["--remove"]).await;
    fine(&said);
    assert!(said.out.contains("kept: 1 other subscriptions"), "{}", said.out);
    assert!(said.out.contains("may still publish for photos"), "{}", said.out);
    assert!(notifications(&aws).await.contains(">console<"));
    let policy = aws.sns("GetTopicAttributes", &[("TopicArn", ARN)]).await.text();
    assert!(policy.contains("PosternPublish"), "{policy}");

    // What S3 would refuse is said before anything is made.
    let theirs = console.replace("ObjectCreated:*", "ObjectRemoved:Delete").replace(":changes<", ":theirs<");
    aws.create_topic("theirs").await;
    aws.s3(Method::PUT, "/photos?notification", &[], &theirs).await;
    let said = setup(&one, &["--dry-run"]).await;
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("configuration console (to arn:aws:sns:us-east-1:000000000000:theirs)"), "{}", said.out);
    assert!(said.out.contains("s3:ObjectRemoved:Delete too"), "{}", said.out);
}

/// SNS masks the password of a subscription. Once a new one was not noticed, and every message was answered 401.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_basic_password_is_subscribed_anew_and_the_old_subscription_ended() {
    let test = "a_new_basic_password_is_subscribed_anew_and_the_old_subscription_ended";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    aws.s3(Method::PUT, "/photos", &[], "").await;
    // Its certificate is there once SNS was asked for anything.
    aws.create_topic("changes").await;
    let receiver = Receiver::start().await;
    let certificate = call(Method::GET, &format!("{}{CERTIFICATE_PATH}", server.endpoint()), &[], "").await;
    let anchor = write(server.folder(), "anchor.pem", &certificate.text());
    // LocalStack answers no challenge, so that the sidecar here asks for nothing; what SNS is told is what matters.
    let sidecar = Sidecar::start(
        ARN,
        &receiver.url("/events"),
        &[("POSTERN_SNS_ENDPOINT_URL", server.endpoint()), ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str())],
    )
    .await;
    let sns_url = sidecar.sns_url();
    let public = sns_url.strip_suffix("/sns").expect("the route");
    let with = |password: &'static str| {
        let mut all = settings(server.endpoint(), public);
        all.extend([("POSTERN_SNS_BASIC_USERNAME", "sns"), ("POSTERN_SNS_BASIC_PASSWORD", password)]);
        all
    };
    fine(&setup(&settings(server.endpoint(), public), &[]).await);
    // From none to some, then another: each time one subscription is left, and it is the new one.
    for password in ["hush-hush-1", "hush-hush-2"] {
        let said = setup(&with(password), &[]).await;
        fine(&said);
        assert_eq!(said.verdicts("remove").len(), 1, "{}", said.out);
        let listed = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", ARN)]).await.text();
        assert_eq!(listed.matches("<Endpoint>").count(), 1, "{listed}");
        assert!(listed.contains(&format!("sns:{password}@")), "{listed}");
        assert!(aws.is_confirmed(ARN).await);
        let subscription = aws.subscription(ARN).await;
        let attributes = aws.sns("GetSubscriptionAttributes", &[("SubscriptionArn", &subscription)]).await.text();
        assert!(attributes.contains("changes-postern-dlq") && attributes.contains("maxDelayTarget"), "{attributes}");
        let said = setup(&with(password), &[]).await;
        fine(&said);
        assert_eq!(said.verdicts("ok").len(), 6, "nothing is left to do: {}", said.out);
    }
    let said = setup(&with("hush-hush-2"), &["--dry-run"]).await;
    assert!(said.out.contains("SNS masks its password"), "{}", said.out);
    fine(&setup(&with("hush-hush-2"), &["--remove"]).await);
    let listed = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", ARN)]).await.text();
    assert_eq!(listed.matches("<Endpoint>").count(), 0, "{listed}");
}
