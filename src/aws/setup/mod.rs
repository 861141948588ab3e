//! What `postern setup` asks of Amazon, call by call, and the pure parts of it.

mod buckets;
mod known;
pub mod overlap;
pub mod policy;
mod queues;
pub mod signed;
mod topics;
pub mod wanted;
pub mod xml;

use std::fmt;

use aws_sdk_sns::config::ProvideCredentials as _;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use url::Url;

pub use buckets::{Announcements, Wanted};
pub use queues::DeadLetterQueue;
pub use topics::{Attributes, Listed};

use super::{
    Aws, BadAuthorities, CREDENTIALS_TIMEOUT, HttpResponse, MetadataService, ProxyConfig, Region, came_back,
    http_client, is_amazons,
};
use crate::config::{S3Config, StaticCredentials};
use crate::secret::Secret;

/// The three services, in the topic's region.
pub struct Amazon {
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
}

impl fmt::Debug for Amazon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amazon").finish_non_exhaustive()
    }
}

/// A call that failed, for people: what was called, why it failed, and what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{action}: {text}")]
pub struct Trouble {
    /// The IAM action, such as `sns:SetTopicAttributes`.
    pub action: &'static str,
    /// The error code; empty where there was no answer.
    pub code: String,
    /// Why, and what to do.
    pub text: String,
}

impl Trouble {
    /// Whether SNS refused to subscribe an endpoint because it has that very one, password included, with other attributes.
    pub fn is_subscribed_already(&self) -> bool {
        self.action == "sns:Subscribe" && self.text.contains("already exists with different attributes")
    }
}

/// Keys for signing requests of one's own.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: Secret,
    /// Session token of temporary credentials.
    pub token: Option<Secret>,
}

impl Aws {
    /// The AWS that `postern setup` uses: `region` is the topic's, where it is known; without any, the environment's or profile's.
    ///
    /// # Errors
    /// [`BadAuthorities`] when `extra_ca_pem` holds something else than certificates.
    pub fn for_setup(
        credentials: Option<StaticCredentials>,
        region: &str,
        endpoint: Option<&Url>,
        extra_ca_pem: &[Vec<u8>],
    ) -> Result<Self, BadAuthorities> {
        super::check_authorities(extra_ca_pem)?;
        let region = Region::new(region.to_owned());
        Ok(Self {
            credentials,
            bucket_region: region.clone(),
            region,
            endpoint: endpoint.cloned(),
            http: http_client(extra_ca_pem.to_vec(), ProxyConfig::from_env),
            metadata: MetadataService {
                http: http_client(extra_ca_pem.to_vec(), ProxyConfig::disabled),
                endpoint: None,
            },
            provider: tokio::sync::OnceCell::new(),
        })
    }

    /// The clients of the three services. Another SNS's endpoint (`POSTERN_SNS_ENDPOINT_URL`) is its SQS's too.
    pub async fn amazon(&self, s3: &S3Config) -> Amazon {
        let shared = self.shared(self.region.clone()).await;
        let mut queues = aws_sdk_sqs::config::Builder::from(&shared);
        // An Amazon endpoint of SNS, such as a VPC's, is none of SQS.
        if let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| !is_amazons(endpoint)) {
            queues = queues.endpoint_url(endpoint.as_str());
        }
        Amazon {
            sns: self.sns(self.region.clone()).await,
            sqs: aws_sdk_sqs::Client::from_conf(queues.build()),
            s3: self.s3(s3).await,
        }
    }

    /// The credentials themselves; `None` where there are none.
    pub async fn keys(&self) -> Option<Keys> {
        let provider = self.provider().await;
        let found = tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await.ok()?.ok()?;
        Some(Keys {
            access_key: found.access_key_id().to_owned(),
            secret_key: Secret::new(found.secret_access_key()),
            token: found.session_token().map(Secret::new),
        })
    }
}

const REFUSED: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "AWS.SimpleQueueService.AccessDenied",
    "UnauthorizedOperation",
];

/// What S3 says where a bucket is in another region than the one that is asked.
const ELSEWHERE: [&str; 3] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];

/// What became of a call of `action`.
fn trouble<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let coded = error.as_service_error().and_then(|answered| Some((answered, answered.code()?)));
    let Some((answered, code)) = coded.filter(|(_, code)| !code.is_empty()) else {
        let text = match error.raw_response() {
            Some(raw) => format!(
                "the answer is not understood ({}); see whether POSTERN_S3_ENDPOINT_URL, POSTERN_SNS_ENDPOINT_URL and the proxy lead to the service, and whether that knows {action}",
                came_back(raw)
            ),
            None => format!("no answer ({}); check network, region and endpoint", clean(&super::causes(error))),
        };
        return Trouble { action, code: String::new(), text };
    };
    let code = code.to_owned();
    let message = clean(answered.message().unwrap_or("no message"));
    let text = if REFUSED.contains(&code.as_str()) {
        format!("not allowed ({message}); give the credentials the IAM action {action}")
    } else if ELSEWHERE.contains(&code.as_str()) {
        // S3 names the bucket's own region with every refusal that is about it.
        let own = error.raw_response().and_then(|raw| raw.headers().get("x-amz-bucket-region")).map(clean);
        let own = own.map_or_else(|| "another region".to_owned(), |region| format!("another region, {region}"));
        format!(
            "the bucket is in {own} ({code}), and S3 announces only to a topic of its own: make or name a topic there, and set filemanagement.provider.region_name to it"
        )
    } else if code == "NoSuchBucket" {
        format!("there is no such bucket ({code}); check filemanagement.provider.bucket_name and POSTERN_BUCKETS")
    } else if super::check::BAD_CREDENTIALS.contains(&code.as_str()) {
        format!("the credentials are refused ({code}); check them and the clock of this machine")
    } else {
        format!("{code}: {message}")
    };
    Trouble { action, code, text }
}

/// Text of a service for a terminal: bounded, without control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
