//! A real S3, SNS and SQS (LocalStack), and a proxy that answers with AWS's own errors (microburst) before them.

use hyper::Method;

use super::{CREDENTIALS, bare};
use crate::hard_cases::stand::{BUCKET, Stand};
use crate::support::aws::{Aws, call};
use crate::support::process::{ToolServer, write};
use crate::support::tool;
use crate::support::wait::wait_until;

pub(super) const CERTIFICATE_PATH: &str = "/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem";

pub(super) struct Cloud {
    pub(super) server: ToolServer,
    pub(super) aws: Aws,
    pub(super) topic: String,
}

impl Cloud {
    async fn start() -> Self {
        let server = ToolServer::start("localstack", &[]);
        let aws = Aws::at(server.endpoint());
        let topic = aws.create_topic("changes").await;
        Self { server, aws, topic }
    }

    /// A call of SQS in its JSON protocol.
    async fn sqs(&self, action: &str, body: &serde_json::Value) -> serde_json::Value {
        let target = format!("AmazonSQS.{action}");
        let authorization =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=00";
        let headers = [
            ("x-amz-target", target.as_str()),
            ("content-type", "application/x-amz-json-1.0"),
            ("authorization", authorization),
        ];
        let reply = call(Method::POST, &format!("{}/", self.server.endpoint()), &headers, body.to_string()).await;
        assert!(reply.status.is_success(), "{action}: {} {}", reply.status, reply.text());
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// Makes a queue; its URL at this LocalStack, whatever LocalStack calls itself.
    async fn create_queue(&self, name: &str) -> String {
        // Short: a long poll of a killed sidecar lives on in LocalStack, and takes what comes during its 20 s.
        let attributes = serde_json::json!({"VisibilityTimeout": "10"});
        self.sqs("CreateQueue", &serde_json::json!({"QueueName": name, "Attributes": attributes})).await;
        format!("{}/000000000000/{name}", self.server.endpoint())
    }

    async fn send(&self, queue: &str, bodies: &[String]) {
        for (first, bodies) in bodies.chunks(10).enumerate() {
            let entries: Vec<_> = bodies
                .iter()
                .enumerate()
                .map(|(n, body)| serde_json::json!({"Id": format!("{first}-{n}"), "MessageBody": body}))
                .collect();
            self.sqs("SendMessageBatch", &serde_json::json!({"QueueUrl": queue, "Entries": entries})).await;
        }
    }

    /// Messages of the queue, hidden ones included.
    pub(super) async fn left(&self, queue: &str) -> u64 {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let asked = serde_json::json!({"QueueUrl": queue, "AttributeNames": names});
        let attributes = self.sqs("GetQueueAttributes", &asked).await;
        let number = |name: &str| attributes["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok());
        names.into_iter().map(|name| number(name).unwrap_or(1)).sum()
    }

    pub(super) async fn emptied(&self, queue: &str) {
        wait_until("LocalStack's queue is empty", || async { (self.left(queue).await == 0).then_some(()) }).await;
    }

    /// A sidecar that drains `queue` and believes this LocalStack.
    async fn draining(&self, queue: &str, verify: &str) -> Stand {
        let certificate = call(Method::GET, &format!("{}{CERTIFICATE_PATH}", self.server.endpoint()), &[], "").await;
        let anchor = write(self.server.folder(), "anchor.pem", &certificate.text());
        let mut settings = CREDENTIALS.to_vec();
        settings.extend([
            ("POSTERN_SNS_ENDPOINT_URL", self.server.endpoint()),
            ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str()),
            ("EVENT_SNS_TOPIC_ARN", self.topic.as_str()),
            ("POSTERN_SQS_QUEUE_URL", queue),
            ("POSTERN_SQS_VERIFY", verify),
        ]);
        Stand::start(&settings).await
    }

    async fn subscribe_queue(&self, queue: &str, raw: bool) {
        let name = queue.rsplit('/').next().expect("a name");
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
        let raw = if raw { "true" } else { "false" };
        let parameters = [
            ("TopicArn", self.topic.as_str()),
            ("Protocol", "sqs"),
            ("Endpoint", arn.as_str()),
            ("Attributes.entry.1.key", "RawMessageDelivery"),
            ("Attributes.entry.1.value", raw),
        ];
        self.aws.sns("Subscribe", &parameters).await;
    }

    pub(super) async fn put(&self, keys: &[&str]) {
        for key in keys {
            self.aws.s3(Method::PUT, &format!("/{BUCKET}/{key}"), &[], "hello").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_reaches_the_app_by_sqs_alone() {
    let test = "s3_reaches_the_app_by_sqs_alone";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let cloud = Cloud::start().await;
    let queue = cloud.create_queue("direct").await;
    cloud.aws.s3(Method::PUT, &format!("/{BUCKET}"), &[], "").await;
    let configuration = "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><QueueConfiguration><Id>all</Id>\
        <Queue>arn:aws:sqs:us-east-1:000000000000:direct</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration>\
        </NotificationConfiguration>";
    cloud.aws.s3(Method::PUT, &format!("/{BUCKET}?notification"), &[], configuration).await;
    let stand = cloud.draining(&queue, "off").await;
    cloud.put(&["a", "b", "c"]).await;
    stand.delivered(&["a", "b", "c"]).await;
    // S3's test event and three changes: all gone, each told once.
    cloud.emptied(&queue).await;
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (3, 0), "{}", stand.log());
    assert_eq!(super::trouble(&stand).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_reaches_the_app_by_sns_and_sqs_proven_unproven_and_raw() {
    let test = "s3_reaches_the_app_by_sns_and_sqs_proven_unproven_and_raw";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let cloud = Cloud::start().await;
    let (wrapped, checked, raw) =
        tokio::join!(cloud.create_queue("wrapped"), cloud.create_queue("checked"), cloud.create_queue("raw"));
    for (queue, raw) in [(&wrapped, false), (&checked, false), (&raw, true)] {
        cloud.subscribe_queue(queue, raw).await;
    }
    let proven = cloud.draining(&checked, "on").await;
    let others = [cloud.draining(&wrapped, "off").await, cloud.draining(&raw, "off").await];
    cloud.aws.create_announcing_bucket(BUCKET, &cloud.topic).await;
    cloud.put(&["first"]).await;
    let version = [("TopicArn", cloud.topic.as_str()), ("AttributeName", "SignatureVersion"), ("AttributeValue", "2")];
    cloud.aws.sns("SetTopicAttributes", &version).await;
    cloud.put(&["second"]).await;
    cloud.send(&checked, &[bare("unsigned")]).await;
    for stand in others.iter().chain([&proven]) {
        stand.delivered(&["first", "second"]).await;
    }
    for queue in [&wrapped, &checked, &raw] {
        cloud.emptied(queue).await;
    }
    for stand in others.iter().chain([&proven]) {
        assert_eq!(stand.app.ledger(|ledger| ledger.taken), 2, "{}", stand.log());
    }
    assert_eq!(super::dead_reasons(&proven).await, ["bad_type"]);
}

/// Hard case 21: what SNS gave up on lies in the subscription's dead-letter queue, and draining it is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_letter_queue_of_a_subscription_is_drained() {
    let test = "the_dead_letter_queue_of_a_subscription_is_drained";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let cloud = Cloud::start().await;
    let letters = cloud.create_queue("letters").await;
    let mut stand = cloud.draining(&letters, "on").await;
    let url = format!("http://{}/sns", stand.intake);
    cloud.aws.subscribe(&cloud.topic, &url).await;
    wait_until("the subscription is confirmed", || async { cloud.aws.is_confirmed(&cloud.topic).await.then_some(()) })
        .await;
    let subscription = cloud.aws.subscription(&cloud.topic).await;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:letters"}"#;
    let parameters =
        [("SubscriptionArn", subscription.as_str()), ("AttributeName", "RedrivePolicy"), ("AttributeValue", policy)];
    cloud.aws.sns("SetSubscriptionAttributes", &parameters).await;
    cloud.aws.create_announcing_bucket(BUCKET, &cloud.topic).await;
    cloud.put(&["by-https"]).await;
    stand.delivered(&["by-https"]).await;
    // The sidecar is away: LocalStack gives up at once.
    stand.kill();
    cloud.put(&["lost", "found"]).await;
    // The app may have had the first one before LocalStack heard the 200, which then lies there too: told twice, it is one event.
    wait_until("both lie in the dead-letter queue", || async { (cloud.left(&letters).await >= 2).then_some(()) }).await;
    stand.begin().await;
    stand.delivered(&["lost", "found"]).await;
    cloud.emptied(&letters).await;
    // Killed before it had noted that the app has it, the sidecar sends it again, as the same event.
    assert_eq!(stand.app.ledger(|ledger| ledger.taken - ledger.repeated), 3, "{}", stand.log());
    assert_eq!(super::dead_reasons(&stand).await, [""; 0], "{}", stand.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_refused_and_cut_off_by_a_proxy_nothing_is_lost_or_repeated() {
    let test = "throttled_refused_and_cut_off_by_a_proxy_nothing_is_lost_or_repeated";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() || tool(test, "POSTERN_TEST_MICROBURST").is_none() {
        return;
    }
    let cloud = Cloud::start().await;
    let queue = cloud.create_queue("unsteady").await;
    let proxy = ToolServer::start("microburst", &[cloud.server.endpoint()]);
    let rules = serde_json::json!([
        {"service": "sqs", "operation": "ReceiveMessage", "probability": 0.2, "error": {"code": "ThrottlingException", "status": 400}},
        {"service": "sqs", "operation": "ReceiveMessage", "probability": 0.1, "error": {"code": "ServiceUnavailable", "status": 503}},
        {"service": "sqs", "operation": "DeleteMessageBatch", "probability": 0.2, "error": {"code": "InternalError", "status": 500}},
        {"service": "sqs", "operation": "DeleteMessageBatch", "probability": 0.1, "reset": true},
    ]);
    let set = call(Method::POST, &format!("{}/_microburst/rules", proxy.endpoint()), &[], rules.to_string()).await;
    assert!(set.status.is_success(), "{} {}", set.status, set.text());
    let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    cloud.send(&queue, &keys.iter().map(|key| bare(key)).collect::<Vec<_>>()).await;
    let through = queue.replacen(cloud.server.endpoint(), proxy.endpoint(), 1);
    let stand = cloud.draining(&through, "off").await;
    stand.delivered(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    cloud.emptied(&queue).await;
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (300, 0), "{}", stand.log());
    let fired = call(Method::GET, &format!("{}/_microburst/fired", proxy.endpoint()), &[], "").await.text();
    assert!(fired.contains("ReceiveMessage"), "the proxy did something: {fired}");
}

/// How fast LocalStack lets itself be drained; printed, not asserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_drained() {
    let test = "a_full_queue_is_drained";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let cloud = Cloud::start().await;
    let queue = cloud.create_queue("full").await;
    let keys: Vec<String> = (0..2000).map(|n| format!("k{n}")).collect();
    cloud.send(&queue, &keys.iter().map(|key| bare(key)).collect::<Vec<_>>()).await;
    let stand = cloud.draining(&queue, "off").await;
    let begun = std::time::Instant::now();
    cloud.emptied(&queue).await;
    println!("{:.0} messages/s from LocalStack", 2000.0 / begun.elapsed().as_secs_f64());
    stand.delivered(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
