//! Requests to an S3 that is not Amazon's, signed with SigV4 by ourselves: what MCS and Ceph need is in no SDK.

use std::fmt;
use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use url::Url;

use super::xml::MAX_XML;
use super::{Keys, clean};
use crate::aws::signature::Signed;
use crate::config::CallbackUrl;
use crate::egress::{Call, Client};

/// A PUT at MCS is answered only after its handshake with the sidecar.
const TIMEOUT: Duration = Duration::from_secs(70);

/// An S3 by its endpoint.
pub struct SignedS3 {
    /// How requests go out.
    pub client: Client,
    /// Who signs.
    pub keys: Keys,
    /// The region in the signature.
    pub region: String,
    /// Where it is.
    pub endpoint: Url,
    /// Whether the bucket stands in the path and not in the host name.
    pub path_style: bool,
}

impl fmt::Debug for SignedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedS3").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Answered {
    /// The body of a success; for a failure what it says.
    ///
    /// # Errors
    /// Status, and code and message where the answer is one of S3's errors.
    pub fn success(self) -> Result<String, String> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(self.complaint()) }
    }

    /// The code of an S3 error; empty where there is none.
    pub fn code(&self) -> String {
        self.element("Code")
    }

    fn complaint(&self) -> String {
        let (code, message) = (self.code(), self.element("Message"));
        let advice = match code.as_str() {
            "AccessDenied" => "; give these credentials the right to read and write the bucket's notifications",
            "SignatureDoesNotMatch" | "InvalidAccessKeyId" => {
                "; check filemanagement.provider.access_key, .secret_key and .region_name"
            }
            "RequestTimeTooSkewed" => "; set the clock of this machine right",
            "NoSuchBucket" => "; check the bucket's name, POSTERN_S3_ENDPOINT_URL and POSTERN_S3_PATH_STYLE",
            _ => "",
        };
        clean(format!("{} {code} {message}", self.status).trim()) + advice
    }

    fn element(&self, name: &str) -> String {
        let document = roxmltree::Document::parse(&self.body);
        let found = document.ok().and_then(|document| {
            let node = document.descendants().find(|node| node.tag_name().name() == name)?;
            node.text().map(str::to_owned)
        });
        found.unwrap_or_default()
    }
}

impl SignedS3 {
    /// The URL of a bucket, or of the service, with a query as it is.
    fn url(&self, bucket: Option<&str>, query: &str) -> Result<Url, String> {
        let mut url = self.endpoint.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        match bucket {
            Some(bucket) if self.path_style => url.set_path(&format!("{base}/{bucket}")),
            Some(bucket) => {
                let host = url.host_str().unwrap_or_default().to_owned();
                url.set_host(Some(&format!("{bucket}.{host}"))).map_err(|_| {
                    format!("{bucket} cannot stand before {host} as a name; set POSTERN_S3_PATH_STYLE=true")
                })?;
                url.set_path(&format!("{base}/"));
            }
            None => url.set_path(&format!("{base}/")),
        }
        url.set_query((!query.is_empty()).then_some(query));
        Ok(url)
    }

    /// Sends a signed request.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        method: Method,
        bucket: Option<&str>,
        query: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<Answered, String> {
        let url = self.url(bucket, query)?;
        let signed = Signed { keys: &self.keys, region: &self.region, service: "s3", content_type };
        let mut headers = signed.headers(&method, &url, body.as_bytes(), SystemTime::now())?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let call = Call {
            method,
            url: &CallbackUrl::Http(url),
            headers,
            body: Bytes::from(body),
            timeout: TIMEOUT,
            max_answer: MAX_XML,
            refuse_longer: true,
        };
        let reply = self.client.call(call).await.map_err(|error| format!("{}: {error}", self.endpoint))?;
        let body = String::from_utf8(reply.body.to_vec()).map_err(|_| "the answer is not UTF-8".to_owned())?;
        Ok(Answered { status: reply.status.as_u16(), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Options;
    use crate::secret::Secret;

    fn s3(endpoint: &str, path_style: bool) -> SignedS3 {
        SignedS3 {
            client: Client::new(Options::default()).expect("a client"),
            keys: Keys {
                access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                token: None,
            },
            region: "us-east-1".to_owned(),
            endpoint: Url::parse(endpoint).expect("a URL"),
            path_style,
        }
    }

    #[test]
    fn a_bucket_stands_in_the_host_name_or_in_the_path() {
        let url = |endpoint, path_style| s3(endpoint, path_style).url(Some("photos"), "notification").map(String::from);
        assert_eq!(url("https://s3.example.com", false).as_deref(), Ok("https://photos.s3.example.com/?notification"));
        assert_eq!(
            url("https://s3.example.com/base/", true).as_deref(),
            Ok("https://s3.example.com/base/photos?notification")
        );
        assert!(url("http://127.0.0.1:1", false).is_err(), "an address has no names before it");
    }

    /// "GET Bucket Lifecycle" of Amazon's "Signature Calculations for the Authorization Header" has this shape of request: a bucket in
    /// the host name and a query without a value.
    #[test]
    fn the_signature_is_that_of_amazons_documented_example() {
        let s3 = s3("https://s3.amazonaws.com", false);
        let url = s3.url(Some("examplebucket"), "lifecycle").expect("a URL");
        // 20130524T000000Z.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let signed = Signed { keys: &s3.keys, region: &s3.region, service: "s3", content_type: "" };
        let headers = signed.headers(&Method::GET, &url, b"", time).expect("signed");
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(header("x-amz-content-sha256"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(header("x-amz-date"), "20130524T000000Z");
        let authorization = header("authorization");
        assert!(authorization.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date"), "{authorization}");
        assert!(
            authorization.ends_with("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{authorization}"
        );
    }
}
