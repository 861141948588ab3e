//! Real calls through the SDK to servers on port 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::simulator::authority::{Authority, Leaf, SIGNING_KEY_PEM};

const ARN: &str = "arn:aws:sns:eu-central-1:123456789012:uploads";
const CONFIRMED: &str = "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ConfirmSubscriptionResult>\
    <SubscriptionArn>arn:aws:sns:eu-central-1:123456789012:uploads:1-2-3</SubscriptionArn></ConfirmSubscriptionResult>\
    <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></ConfirmSubscriptionResponse>";

fn instance(credentials: bool) -> Arc<Instance> {
    let keys =
        [("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDEXAMPLE"), ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hunter2")];
    let mut settings = vec![("EVENT_SNS_TOPIC_ARN", ARN)];
    settings.extend(keys.iter().filter(|_| credentials));
    instance_of(&settings)
}

fn instance_of(settings: &[(&str, &str)]) -> Arc<Instance> {
    let always = [("POSTERN_TLS", "off"), ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/")];
    let env: BTreeMap<String, String> =
        always.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    crate::config::load(&env).expect("a configuration").instances[0].clone()
}

fn error(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>about t0ken</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

/// Reads one request and answers it; returns its head and body.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16, body: &str) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, received)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if received.len() >= length.unwrap_or(0) {
                break;
            }
        }
        assert_ne!(stream.read_buf(&mut request).await.expect("a request"), 0, "cut off: {text}");
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("an answer");
    let _ = stream.shutdown().await;
    String::from_utf8(request).expect("text")
}

/// An SNS on port 0 that gives each request the same answer, and what it was asked first.
async fn sns(status: u16, body: String) -> (Url, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/some/path", listener.local_addr().expect("an address"))).expect("a URL");
    let (asked, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = asked.send(answer(stream, status, &body).await).await;
        }
    });
    (url, receiver)
}

#[tokio::test]
async fn a_subscription_is_confirmed_with_the_instances_credentials() {
    let (url, mut asked) = sns(200, CONFIRMED.to_owned()).await;
    let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
    assert!(aws.has_credentials().await);
    assert_eq!(aws.confirm_subscription(ARN, "t0ken", true).await, Ok(format!("{ARN}:1-2-3")));
    let request = asked.recv().await.expect("a request");
    for part in [
        "POST /some/path",
        "Action=ConfirmSubscription",
        "Token=t0ken",
        "AuthenticateOnUnsubscribe=true",
        "AKIDEXAMPLE/",
        "/eu-central-1/sns/",
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
    assert!(!request.contains("hunter2") && !format!("{aws:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_refused_token_is_told_from_trouble_that_may_pass() {
    for (status, code, rejected) in [
        (400, "InvalidParameter", true),
        (404, "NotFound", true),
        (403, "AuthorizationError", false),
        (400, "Throttling", false),
        (403, "InvalidClientTokenId", false),
        (500, "InternalError", false),
    ] {
        let (url, _asked) = sns(status, error(code)).await;
        let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
        let failed = aws.confirm_subscription(ARN, "t0ken", false).await.expect_err("refused");
        assert_eq!(matches!(failed, ConfirmError::Rejected(_)), rejected, "{failed}");
        assert!(failed.to_string().contains(code) && !failed.to_string().contains("t0ken"), "{failed}");
    }
}

#[tokio::test]
async fn an_answer_about_another_topic_and_no_answer_are_no_confirmation() {
    let (url, _asked) = sns(200, CONFIRMED.replace("uploads", "uploads2")).await;
    let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
    assert!(matches!(aws.confirm_subscription(ARN, "t", true).await, Err(ConfirmError::Unavailable(_))));
    let closed = crate::simulator::ports::unused().expect("a port");
    let url = Url::parse(&format!("http://{closed}/")).expect("a URL");
    let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
    assert!(matches!(aws.confirm_subscription(ARN, "t", true).await, Err(ConfirmError::Unavailable(_))));
}

#[tokio::test]
async fn tls_goes_through_ring_and_trusts_the_extra_authority_only_when_told() {
    let authority = Authority::new(&Leaf::named("localhost", OffsetDateTime::now_utc())).expect("an authority");
    let leaf = CertificateDer::from_pem_slice(authority.leaf_pem().as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(SIGNING_KEY_PEM.as_bytes()).expect("a key");
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![leaf], key))
        .expect("a TLS server");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us ends the handshake.
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, 200, CONFIRMED).await;
            }
        }
    });
    let url = Url::parse(&format!("https://localhost:{port}/")).expect("a URL");
    let pem = authority.root_pem().as_bytes().to_vec();
    let trusting = Aws::new(&instance(true), Some(&url), &[pem]).expect("an AWS");
    assert_eq!(trusting.confirm_subscription(ARN, "t", true).await, Ok(format!("{ARN}:1-2-3")));
    let stranger = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
    assert!(matches!(stranger.confirm_subscription(ARN, "t", true).await, Err(ConfirmError::Unavailable(_))));
}

/// By the runtime's clock, which goes on only when nothing is left to do: a slow machine gives up after the same time.
#[tokio::test(start_paused = true)]
async fn a_metadata_service_that_never_answers_is_given_up() {
    // Bound and never accepted from: connections are made by the kernel, and nothing is ever answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut aws = Aws::new(&instance(false), None, &[]).expect("an AWS");
    aws.metadata.endpoint = Some(format!("http://{}", silent.local_addr().expect("an address")));
    if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        eprintln!("skipped: this environment sets AWS variables of its own");
        return;
    }
    let answered = tokio::time::timeout(CREDENTIALS_TIMEOUT - METADATA_TIMEOUT, aws.has_credentials()).await;
    assert_eq!(answered, Ok(false), "it gave up before the bound on everything");
}

#[tokio::test]
async fn without_credentials_the_confirmation_goes_out_unsigned() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (url, mut asked) = sns(200, CONFIRMED.to_owned()).await;
    let mut aws = Aws::new(&instance(false), Some(&url), &[]).expect("an AWS");
    aws.metadata.endpoint = Some(format!("http://{}", silent.local_addr().expect("an address")));
    if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        eprintln!("skipped: this environment sets AWS variables of its own");
        return;
    }
    assert_eq!(aws.confirm_subscription(ARN, "t0ken", false).await, Ok(format!("{ARN}:1-2-3")));
    let request = asked.recv().await.expect("a request").to_lowercase();
    assert!(!request.contains("authorization:") && !request.contains("authenticateonunsubscribe"), "{request}");
}

#[test]
fn authorities_that_are_none_are_refused_before_the_sdk_sees_them() {
    let bad = |pem: &str| Aws::new(&instance(true), None, &[pem.as_bytes().to_vec()]).is_err();
    assert!(bad("oops"));
    assert!(bad("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    assert!(bad("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"));
}

/// Once the doctor failed a MinIO or Garage that is only listed, or whose changes come by a queue: it knows no such configuration.
#[tokio::test]
async fn a_store_that_is_not_amazons_is_asked_for_its_announcements_only_where_there_is_a_topic() {
    let (url, mut asked) = sns(501, String::new()).await;
    let s3 = S3Config { endpoint: Some(url.clone()), path_style: true };
    let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
    for way in [
        ("POSTERN_S3HTTP_SECRET", "a-secret-path-part"),
        ("POSTERN_SQS_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/123456789012/q"),
    ] {
        let of = instance_of(&[way, ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos")]);
        let found = aws.check_push(Pushed { instance: &of, s3: &s3, url: None, user: None }).await;
        let found = found.iter().find(|one| one.name == "bucket_notification").expect("the check");
        assert_eq!(found.status, crate::health::Status::Skip, "{found:?}");
    }
    assert!(asked.try_recv().is_err(), "it was not asked");
}

/// Once `postern setup` said `s3:GetBucketNotification: : no message` of such an answer, and the doctor advised to look at network
/// policy.
#[tokio::test]
async fn an_answer_that_is_not_understood_is_shown_with_where_to_look() {
    for (status, body, shown) in [
        (200, "<html>\u{1b}[2Jnobody's</bucket>".to_owned(), "(status 200, <html> [2Jnobody's</bucket>)"),
        (200, format!("<{}", "x".repeat(5000)), "xxx"),
        (502, String::new(), "(status 502 and no text)"),
    ] {
        let (url, _asked) = sns(status, body).await;
        let s3 = S3Config { endpoint: Some(url.clone()), path_style: true };
        let aws = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS");
        let failed = aws.amazon(&s3).await.announcements("photos", "").await.expect_err("no configuration");
        let told = failed.to_string();
        assert!(told.starts_with("s3:GetBucketNotification: the answer is not understood (status "), "{told}");
        assert!(told.contains(shown) && told.contains("POSTERN_S3_ENDPOINT_URL") && told.len() < 700, "{told}");
        let of = instance_of(&[("EVENT_SNS_TOPIC_ARN", ARN), ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos")]);
        let found = aws.check_push(Pushed { instance: &of, s3: &s3, url: None, user: None }).await;
        let found = found.iter().find(|one| one.name == "bucket_notification").expect("the check");
        assert!(found.found.contains("is not understood (status ") && found.found.contains(shown), "{found:?}");
        assert!(found.advice.contains("POSTERN_S3_ENDPOINT_URL") && !found.advice.contains("network"), "{found:?}");
    }
}

/// Once what this SDK's types do not have was read away, and gone from the bucket with the next PUT.
#[tokio::test]
async fn a_configuration_with_an_element_that_is_not_known_is_never_replaced() {
    let body = "<NotificationConfiguration><PipeConfiguration><Pipe>arn:p</Pipe></PipeConfiguration></NotificationConfiguration>";
    let (url, mut asked) = sns(200, body.to_owned()).await;
    let s3 = S3Config { endpoint: Some(url.clone()), path_style: true };
    let amazon = Aws::new(&instance(true), Some(&url), &[]).expect("an AWS").amazon(&s3).await;
    let found = amazon.announcements("photos", "").await.expect("what the bucket announces");
    assert_eq!(found.others(""), 0, "the SDK does not see it");
    let refused = amazon.announce("photos", "", found.without("postern-x")).await.expect_err("refused");
    assert!(refused.text.contains("/NotificationConfiguration/PipeConfiguration"), "{refused}");
    assert!(asked.recv().await.is_some_and(|request| request.starts_with("GET ")));
    assert!(asked.try_recv().is_err(), "nothing was sent");
}
