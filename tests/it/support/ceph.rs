//! A Ceph RGW: signed calls of S3 through the library that setup uses, whose signature it checks.

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
    s3: SignedS3,
}

impl Ceph {
    /// Starts one; it takes a quarter of a minute.
    pub(crate) fn start() -> Self {
        let server = ToolServer::start("ceph", &[]);
        let s3 = SignedS3 {
            client: Client::new(Options::default()).expect("a client"),
            keys: Keys { access_key: "test".to_owned(), secret_key: Secret::new("testsecret"), token: None },
            region: "us-east-1".to_owned(),
            endpoint: Url::parse(server.endpoint()).expect("a URL"),
            path_style: true,
        };
        Self { server, s3 }
    }

    /// Its origin.
    pub(crate) fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// A call on `path`, which stands in a URL as it is, that must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, query: &str, body: &str) -> Answered {
        let answered = self.s3.send(method.clone(), Some(path), query, "text/plain", body.to_owned()).await;
        let answered = answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!((200..300).contains(&answered.status), "{method} {path}: {answered:?}");
        answered
    }
}
