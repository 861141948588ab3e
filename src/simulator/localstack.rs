//! The few S3 and SNS calls that a demo against LocalStack needs, as plain HTTP (`counterparts.md` section 1).
//!
//! LocalStack does not check signatures; it reads of the Authorization header only which service is meant.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method};
use url::{Url, form_urlencoded};

use crate::simulator::sns::records::encode_key;
use crate::simulator::wire::{Connection, Target, WireError};

/// Where LocalStack serves the certificate that it signs with.
const CERTIFICATE_PATH: &str = "/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem";

/// A LocalStack.
#[derive(Debug)]
pub struct LocalStack {
    connection: Connection,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered with something else than success.
    #[error("{call}: LocalStack answered {status}: {body}")]
    Refused {
        /// Which call.
        call: String,
        /// Status.
        status: u16,
        /// The start of the answer.
        body: String,
    },
    /// There was no answer.
    #[error("{call}: {error}")]
    Wire {
        /// Which call.
        call: String,
        /// Why.
        error: WireError,
    },
}

impl LocalStack {
    /// The LocalStack at `endpoint`, such as `http://127.0.0.1:4566`.
    ///
    /// # Errors
    /// [`WireError::Url`] when the URL cannot be used.
    pub fn new(endpoint: &Url) -> Result<Self, WireError> {
        Ok(Self { connection: Connection::new(Arc::new(Target::new(endpoint, None)?)) })
    }

    /// The certificate that it signs with; self-signed, so it is its own trust anchor.
    ///
    /// # Errors
    /// [`CallError`], as of every call here.
    pub async fn signing_certificate(&mut self) -> Result<String, CallError> {
        self.call("certificate", Method::GET, CERTIFICATE_PATH, "sns", Bytes::new()).await
    }

    /// Makes a topic and gives its ARN.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_topic(&mut self, name: &str, signature_version: u8) -> Result<String, CallError> {
        let version = signature_version.to_string();
        let attributes = [
            ("Name", name),
            ("Attributes.entry.1.key", "SignatureVersion"),
            ("Attributes.entry.1.value", version.as_str()),
        ];
        let answer = self.sns("CreateTopic", &attributes).await?;
        element(&answer, "TopicArn").ok_or_else(|| refused("CreateTopic", 200, &answer))
    }

    /// Subscribes an HTTP endpoint; LocalStack asks it for confirmation at once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn subscribe(&mut self, topic_arn: &str, endpoint: &Url) -> Result<(), CallError> {
        let parameters = [("TopicArn", topic_arn), ("Protocol", endpoint.scheme()), ("Endpoint", endpoint.as_str())];
        self.sns("Subscribe", &parameters).await.map(drop)
    }

    /// Whether the topic has a subscription that was confirmed.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn is_confirmed(&mut self, topic_arn: &str) -> Result<bool, CallError> {
        let answer = self.sns("ListSubscriptionsByTopic", &[("TopicArn", topic_arn)]).await?;
        Ok(element(&answer, "SubscriptionArn").is_some_and(|arn| arn.starts_with(topic_arn)))
    }

    /// Makes a bucket whose changes go to `topic_arn`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_bucket(&mut self, bucket: &str, topic_arn: &str) -> Result<(), CallError> {
        self.call("CreateBucket", Method::PUT, &format!("/{bucket}"), "s3", Bytes::new()).await?;
        let events =
            ["ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:*"].map(|name| format!("<Event>s3:{name}</Event>"));
        let configuration = format!(
            "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TopicConfiguration><Id>postern</Id>\
             <Topic>{topic_arn}</Topic>{}</TopicConfiguration></NotificationConfiguration>",
            events.concat()
        );
        let path = format!("/{bucket}?notification");
        self.call("PutBucketNotificationConfiguration", Method::PUT, &path, "s3", configuration.into()).await.map(drop)
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_object(&mut self, bucket: &str, key: &str, body: &str) -> Result<(), CallError> {
        let body = Bytes::from(body.to_owned());
        self.call("PutObject", Method::PUT, &object_path(bucket, key), "s3", body).await.map(drop)
    }

    /// Tags an object, which is a change that leaves its content.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tag_object(&mut self, bucket: &str, key: &str) -> Result<(), CallError> {
        let path = format!("{}?tagging", object_path(bucket, key));
        let tags = "<Tagging><TagSet><Tag><Key>seen</Key><Value>yes</Value></Tag></TagSet></Tagging>";
        self.call("PutObjectTagging", Method::PUT, &path, "s3", Bytes::from_static(tags.as_bytes())).await.map(drop)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete_object(&mut self, bucket: &str, key: &str) -> Result<(), CallError> {
        self.call("DeleteObject", Method::DELETE, &object_path(bucket, key), "s3", Bytes::new()).await.map(drop)
    }

    async fn sns(&mut self, action: &str, parameters: &[(&str, &str)]) -> Result<String, CallError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", "2010-03-31").extend_pairs(parameters);
        self.call(action, Method::POST, "/", "sns", form.finish().into()).await
    }

    async fn call(
        &mut self,
        call: &str,
        method: Method,
        path: &str,
        service: &str,
        body: Bytes,
    ) -> Result<String, CallError> {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut headers = HeaderMap::new();
        if let Ok(scope) = HeaderValue::from_str(&scope) {
            headers.insert(AUTHORIZATION, scope);
        }
        if service == "sns" {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
        }
        let reply = self.connection.send(method, path, headers, body).await;
        let reply = reply.map_err(|error| CallError::Wire { call: call.to_owned(), error })?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status.is_success() { Ok(text) } else { Err(refused(call, reply.status.as_u16(), &text)) }
    }
}

fn refused(call: &str, status: u16, body: &str) -> CallError {
    CallError::Refused { call: call.to_owned(), status, body: body.chars().take(500).collect() }
}

/// In a path a blank is `%20`, whatever it is in a form.
fn object_path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encode_key(key).replace('+', "%20"))
}

/// The text of the first element of that name in an answer that LocalStack made; not a parser for anything else.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_a_path_with_its_slashes_and_percent_signs() {
        assert_eq!(object_path("b", "a b/c+d%.txt"), "/b/a%20b/c%2Bd%25.txt");
    }

    #[test]
    fn an_element_is_read_by_its_name() {
        assert_eq!(element("<a><TopicArn>arn:x</TopicArn></a>", "TopicArn").as_deref(), Some("arn:x"));
        assert_eq!(element("<a/>", "TopicArn"), None);
    }
}
