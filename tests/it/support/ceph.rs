//! A Ceph RGW: signed calls of S3, whose signature it checks.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use hyper::Method;
use postern::aws::setup::Keys;
use postern::aws::setup::signed::{Answered, SignedS3};
use postern::egress::{Client, Options};
use postern::secret::Secret;
use url::Url;

use super::process::ToolServer;

/// A running Ceph.
#[derive(Debug)]
pub(crate) struct Ceph {
    server: ToolServer,
    signed: SignedS3,
    s3: aws_sdk_s3::Client,
}

impl Ceph {
    /// Starts one; it takes some seconds.
    pub(crate) async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| ToolServer::start("ceph", &[])).await.expect("Ceph starts");
        let signed = SignedS3 {
            client: Client::new(Options::default()).expect("a client"),
            keys: Keys { access_key: "test".to_owned(), secret_key: Secret::new("testsecret"), token: None },
            region: "us-east-1".to_owned(),
            endpoint: Url::parse(server.endpoint()).expect("a URL"),
            path_style: true,
        };
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new("test", "testsecret", None, None, "test"))
            .region(Region::new("us-east-1"))
            .endpoint_url(server.endpoint())
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        Self { server, signed, s3: aws_sdk_s3::Client::from_conf(config.build()) }
    }

    /// Its origin.
    pub(crate) fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// Amazon's client for it.
    pub(crate) fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    /// Makes a bucket.
    pub(crate) async fn bucket(&self, name: &str) {
        self.s3.create_bucket().bucket(name).send().await.expect("a bucket");
    }

    /// Writes an object; its eTag without quotes.
    pub(crate) async fn put(&self, bucket: &str, key: &str, content: &str) -> String {
        let content = ByteStream::from(content.as_bytes().to_vec());
        let put = self.s3.put_object().bucket(bucket).key(key).body(content).send().await;
        let put = put.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
        put.e_tag().expect("an eTag").trim_matches('"').to_owned()
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, bucket: &str, key: &str) {
        self.s3.delete_object().bucket(bucket).key(key).send().await.expect("deleted");
    }

    /// A call on `path`, which stands in a URL as it is, that must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, query: &str, body: &str) -> Answered {
        let answered = self.signed.send(method.clone(), Some(path), query, "text/plain", body.to_owned()).await;
        let answered = answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!((200..300).contains(&answered.status), "{method} {path}: {answered:?}");
        answered
    }
}
