//! Hard case 21 from its beginning: the dead-letter queue that `postern setup` makes holds what SNS gave up on, and draining it brings
//! that to the app.

use hyper::Method;

use super::CREDENTIALS;
use super::counterparts::{CERTIFICATE_PATH, Cloud};
use crate::hard_cases::stand::{BUCKET, Stand};
use crate::setup::setup;
use crate::support::aws::{Aws, call};
use crate::support::process::{ToolServer, write};
use crate::support::tool;
use crate::support::wait::wait_until;

const ARN: &str = "arn:aws:sns:us-east-1:000000000000:uploads";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_letter_queue_that_setup_makes_brings_what_sns_gave_up_on() {
    let test = "the_dead_letter_queue_that_setup_makes_brings_what_sns_gave_up_on";
    if tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let cloud = Cloud { server, aws, topic: ARN.to_owned() };
    let endpoint = cloud.server.endpoint();
    cloud.aws.s3(Method::PUT, &format!("/{BUCKET}"), &[], "").await;
    // Only an SNS that was asked something has a certificate.
    cloud.aws.sns("ListTopics", &[]).await;
    let certificate = call(Method::GET, &format!("{endpoint}{CERTIFICATE_PATH}"), &[], "").await;
    let anchor = write(cloud.server.folder(), "anchor.pem", &certificate.text());
    let mut settings = CREDENTIALS.to_vec();
    settings.extend([
        ("POSTERN_SNS_ENDPOINT_URL", endpoint),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor.as_str()),
        ("EVENT_SNS_TOPIC_ARN", cloud.topic.as_str()),
    ]);
    let mut stand = Stand::start(&settings).await;
    let public = format!("http://{}", stand.intake);
    let said = setup(
        &[
            ("EVENT_SNS_TOPIC_NAME", "uploads"),
            ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", BUCKET),
            ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-east-1"),
            ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
            ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hush-hush"),
            ("POSTERN_SNS_ENDPOINT_URL", endpoint),
            ("POSTERN_S3_ENDPOINT_URL", endpoint),
            ("POSTERN_S3_PATH_STYLE", "true"),
            ("POSTERN_PUBLIC_URL", public.as_str()),
        ],
        &[],
    )
    .await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    cloud.put(&["by-https"]).await;
    stand.delivered(&["by-https"]).await;

    stand.signal("TERM");
    stand.ended().await;
    // LocalStack gives up at once.
    cloud.put(&["lost", "found"]).await;
    let letters = format!("{endpoint}/000000000000/uploads-postern-dlq");
    wait_until("both lie in the dead-letter queue", || async { (cloud.left(&letters).await == 2).then_some(()) }).await;

    stand.set("POSTERN_SQS_QUEUE_URL", &letters);
    stand.set("POSTERN_SQS_VERIFY", "on");
    stand.begin().await;
    stand.delivered(&["by-https", "lost", "found"]).await;
    cloud.emptied(&letters).await;
    // The HTTPS way is open beside it.
    cloud.put(&["after"]).await;
    stand.delivered(&["after"]).await;
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (4, 0), "{}", stand.log());
    assert_eq!(super::dead_reasons(&stand).await, [""; 0], "{}", stand.log());
}
