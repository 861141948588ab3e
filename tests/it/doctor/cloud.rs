//! What it says of a cloud: LocalStack's, and one that cannot be asked.

use hyper::Method;

use super::Place;
use crate::support::aws::{Aws, call};
use crate::support::process::{ToolServer, write};
use crate::support::receiver::Receiver;
use crate::support::tool;
use crate::support::wait::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn the_way_from_a_real_bucket_is_judged_well_and_each_break_in_it_is_found() {
    let test = "the_way_from_a_real_bucket_is_judged_well_and_each_break_in_it_is_found";
    if cfg!(not(feature = "aws")) || tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let app = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    aws.create_announcing_bucket("photos", &topic).await;
    let pem = call(
        Method::GET,
        &format!("{}/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem", server.endpoint()),
        &[],
        "",
    )
    .await;
    let mut place = Place::new(&app.url("/events"));
    let public = format!("http://{}", place.settings["POSTERN_LISTEN"]);
    for (name, value) in [
        ("EVENT_SNS_TOPIC_ARN", topic.as_str()),
        ("POSTERN_SNS_ENDPOINT_URL", server.endpoint()),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", &write(server.folder(), "anchor.pem", &pem.text())),
        ("POSTERN_S3_ENDPOINT_URL", server.endpoint()),
        ("POSTERN_S3_PATH_STYLE", "true"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-east-1"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
        ("VALIDATE_INSTANCE", "true"),
    ] {
        place.set(name, value);
    }
    let _sidecar = place.sidecar().await;
    let (_, report) = place.report(&[]).await;
    assert_eq!(report.says("subscription", "has no subscription"), "fail");
    // The policy that a topic is made with lets only its owner publish.
    assert_eq!(report.says("topic_policy", "does not let bucket photos publish"), "fail");

    aws.subscribe(&topic, &format!("{public}/sns")).await;
    wait_until("the subscription is confirmed", || async { aws.is_confirmed(&topic).await.then_some(()) }).await;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"s3","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"sns:Publish",
        "Resource":"{topic}","Condition":{{"ArnLike":{{"aws:SourceArn":"arn:aws:s3:::photos"}}}}}}]}}"#
    );
    aws.sns("SetTopicAttributes", &[("TopicArn", &topic), ("AttributeName", "Policy"), ("AttributeValue", &policy)])
        .await;
    let (code, report) = place.report(&[]).await;
    assert_eq!(report.failed(), [""; 0], "{report:#?}");
    assert_eq!(code, 0);
    assert_eq!(report.says("topic_policy", "statement s3"), "ok");
    assert_eq!(report.says("bucket_notification", "announces to"), "ok");
    assert_eq!(report.says("bucket", "can be listed"), "ok");
    assert_eq!(report.says("raw_delivery", "off"), "ok");
    assert_eq!(report.says("delivery_policy", "SNS's default"), "warn");
    assert_eq!(report.says("dead_letter_queue", "no dead-letter queue"), "warn");
    assert_eq!(report.says("clock", "agrees"), "ok");
    assert_eq!(report.says("credentials", "arn:aws:iam::000000000000:root, account 000000000000"), "ok");

    let subscription = aws.subscription(&topic).await;
    let set = async |name: &str, value: &str| {
        let of = [("SubscriptionArn", subscription.as_str()), ("AttributeName", name), ("AttributeValue", value)];
        aws.sns("SetSubscriptionAttributes", &of).await;
    };
    set("RawMessageDelivery", "true").await;
    set("DeliveryPolicy", r#"{"healthyRetryPolicy":{"minDelayTarget":20,"maxDelayTarget":600,"numRetries":10,"backoffFunction":"linear"}}"#).await;
    set("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:graves"}"#).await;
    aws.s3(Method::PUT, "/photos?notification", &[], "<NotificationConfiguration/>").await;
    let (code, report) = place.report(&[]).await;
    assert_eq!(code, 1);
    assert_eq!(report.says("raw_delivery", "refused with 403"), "fail");
    assert_eq!(report.says("delivery_policy", "51 min"), "ok");
    assert_eq!(report.says("bucket_notification", "to nobody"), "fail");
    assert_eq!(report.says("dead_letter_queue", "graves does not exist"), "fail");
    place.set("POSTERN_SNS_BASIC_USERNAME", "sns");
    place.set("POSTERN_SNS_BASIC_PASSWORD", "hush-hush");
    let (_, report) = place.report(&["--only", "subscription"]).await;
    assert_eq!(report.says("subscription", "holds no user name"), "fail");

    // The sidecar's own word of the same, which never makes it not ready (hard case 4).
    let ready = call(Method::GET, &format!("http://{}/ready", place.settings["POSTERN_ADMIN_LISTEN"]), &[], "").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.text().contains("instance photos: source"), "{}", ready.text());

    // A queue as its makers leave it, one that is not there, and a listing.
    let create = "Action=CreateQueue&Version=2012-11-05&QueueName=changes";
    let scope =
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=00";
    let headers = [("authorization", scope), ("content-type", "application/x-www-form-urlencoded")];
    let made = call(Method::POST, &format!("{}/", server.endpoint()), &headers, create).await;
    assert!(made.status.is_success(), "{}", made.text());
    let queue = |name: &str| format!("{}/000000000000/{name}", server.endpoint());
    place.set("POSTERN_SQS_QUEUE_URL", &format!("{},{}", queue("changes"), queue("nowhere")));
    place.set("POSTERN_RECONCILE", "1h");
    let (_, report) = place.report(&["--only", "queue,queue_redrive,listing"]).await;
    assert_eq!(report.says("queue", "/changes holds 0 messages"), "ok");
    assert_eq!(report.says("queue_redrive", "no redrive policy"), "warn");
    assert_eq!(report.says("queue", "/nowhere (sqs:GetQueueAttributes) does not exist"), "fail");
    assert_eq!(report.says("listing", "bucket photos can be listed"), "ok");

    place.set("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "another");
    let (_, report) = place.report(&[]).await;
    assert_eq!(report.says("bucket", "bucket another does not exist"), "fail");
}

/// Once `--only mcs_webhook` then said nothing at all, and ended with 0.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_mcs_that_cannot_be_asked_for_are_skipped_aloud() {
    if cfg!(not(feature = "aws")) {
        return;
    }
    let mut place = Place::new("http://127.0.0.1:9/events");
    place.set("POSTERN_MCS_SECRET", "a-secret-of-mcs-webhooks");
    place.set("POSTERN_MCS_TOPICS", "mcs1|photos");
    place.set("POSTERN_S3_ENDPOINT_URL", "http://127.0.0.1:9");
    let (_, report) = place.report(&["--only", "mcs_webhook"]).await;
    assert_eq!(report.says("mcs_webhook", "no keys"), "skip");
    place.set("POSTERN_S3_ENDPOINT_URL", "");
    place.set("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDEXAMPLE");
    place.set("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hush");
    let (_, report) = place.report(&["--only", "mcs_webhook"]).await;
    assert_eq!(report.says("mcs_webhook", "POSTERN_S3_ENDPOINT_URL"), "skip");
}
