//! The few calls of S3 and SNS that the tests make, as plain HTTP: the counterparts route by the credential scope and check no
//! signature.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::wait::PATIENCE;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text between `<name>` and `</name>`.
    pub(crate) fn element(&self, name: &str) -> String {
        let text = self.text();
        let inside = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        inside.unwrap_or_else(|| panic!("no <{name}> in {text}")).0.replace("&amp;", "&")
    }
}

/// `GET url` by way of an HTTP proxy.
pub(crate) async fn call_by_proxy(proxy: &str, url: &str) -> Reply {
    let proxy = Url::parse(proxy).expect("the URL of a proxy");
    let authority = format!("{}:{}", proxy.host_str().expect("a host"), proxy.port().expect("a port"));
    let host = Url::parse(url).expect("a URL").host_str().expect("a host").to_owned();
    let request = Request::get(url).header("host", host).body(Full::new(Bytes::new())).expect("a request");
    exchange(&authority, request).await.unwrap_or_else(|| panic!("{authority} does not answer for {url}"))
}

/// One request on a connection of its own; `None` when nobody answers.
pub(crate) async fn try_call(method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Option<Reply> {
    let url = Url::parse(url).expect("a URL");
    let authority = format!("{}:{}", url.host_str().expect("a host"), url.port_or_known_default().expect("a port"));
    let mut target = url.path().to_owned();
    if let Some(query) = url.query() {
        target = format!("{target}?{query}");
    }
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", &authority);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    exchange(&authority, request.body(Full::new(body)).expect("a request")).await
}

async fn exchange(authority: &str, request: Request<Full<Bytes>>) -> Option<Reply> {
    let exchange = async {
        let stream = TcpStream::connect(authority).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        Some(Reply { status, body: response.into_body().collect().await.ok()?.to_bytes() })
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

/// Like [`try_call`], where an answer is expected.
pub(crate) async fn call(method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    try_call(method.clone(), url, headers, body.into()).await.unwrap_or_else(|| panic!("no answer to {method} {url}"))
}

/// An endpoint that speaks S3 and SNS.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    endpoint: String,
}

fn credentials(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

impl Aws {
    /// What is at `endpoint`.
    pub(crate) fn at(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned() }
    }

    /// An SNS action that must succeed.
    pub(crate) async fn sns(&self, action: &str, parameters: &[(&str, &str)]) -> Reply {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", "2010-03-31").extend_pairs(parameters);
        let authorization = credentials("sns");
        let headers = [
            ("host", "sns.us-east-1.amazonaws.com"),
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let reply = call(Method::POST, &format!("{}/", self.endpoint), &headers, form.finish()).await;
        assert!(reply.status.is_success(), "{action}: {} {}", reply.status, reply.text());
        reply
    }

    /// A call of S3, path style, that must succeed.
    pub(crate) async fn s3(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let authorization = credentials("s3");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        let reply = call(method.clone(), &format!("{}{path}", self.endpoint), &all, body.to_owned()).await;
        assert!(reply.status.is_success(), "{method} {path}: {} {}", reply.status, reply.text());
        reply
    }

    /// Makes a topic; its ARN.
    pub(crate) async fn create_topic(&self, name: &str) -> String {
        self.sns("CreateTopic", &[("Name", name)]).await.element("TopicArn")
    }

    /// Subscribes an HTTP endpoint.
    pub(crate) async fn subscribe(&self, topic: &str, endpoint: &str) {
        self.sns("Subscribe", &[("TopicArn", topic), ("Protocol", "http"), ("Endpoint", endpoint)]).await;
    }

    /// Whether the subscription of `topic` is confirmed. LocalStack lists one that is not with an ARN, so the list does not tell.
    pub(crate) async fn is_confirmed(&self, topic: &str) -> bool {
        let subscription = self.subscription(topic).await;
        if !subscription.starts_with(topic) {
            return false;
        }
        let attributes = self.sns("GetSubscriptionAttributes", &[("SubscriptionArn", &subscription)]).await.text();
        let pending = attributes.split_once("<key>PendingConfirmation</key>");
        let pending = pending.unwrap_or_else(|| panic!("no PendingConfirmation in {attributes}")).1;
        pending.trim_start().starts_with("<value>false</value>")
    }

    /// The ARN of the first subscription of `topic`.
    pub(crate) async fn subscription(&self, topic: &str) -> String {
        self.sns("ListSubscriptionsByTopic", &[("TopicArn", topic)]).await.element("SubscriptionArn")
    }

    /// Publishes; with a Subject and a string attribute if asked.
    pub(crate) async fn publish(&self, topic: &str, message: &str, subject: Option<&str>) {
        let mut parameters = vec![("TopicArn", topic), ("Message", message)];
        if let Some(subject) = subject {
            parameters.extend([
                ("Subject", subject),
                ("MessageAttributes.entry.1.Name", "origin"),
                ("MessageAttributes.entry.1.Value.DataType", "String"),
                ("MessageAttributes.entry.1.Value.StringValue", "a test"),
            ]);
        }
        self.sns("Publish", &parameters).await;
    }

    /// Makes a bucket that announces everything to `topic`.
    pub(crate) async fn create_announcing_bucket(&self, bucket: &str, topic: &str) {
        self.s3(Method::PUT, &format!("/{bucket}"), &[], "").await;
        let events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*"]
            .map(|event| format!("<Event>{event}</Event>"))
            .concat();
        let configuration = format!(
            "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TopicConfiguration>\
             <Id>all</Id><Topic>{topic}</Topic>{events}</TopicConfiguration></NotificationConfiguration>"
        );
        self.s3(Method::PUT, &format!("/{bucket}?notification"), &[], &configuration).await;
    }
}
