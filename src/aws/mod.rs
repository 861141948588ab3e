//! AWS through its SDK: the operator's credentials, and `ConfirmSubscription` with them.
//!
//! The SDK brings no HTTP client of its own here: it is handed one on ring, so that the whole program has a single crypto provider.
//! Like every outgoing call it honours `HTTPS_PROXY`, `NO_PROXY` and `POSTERN_EGRESS_CA_FILE` (hard case 22).

mod bound;
mod check;
mod identity;
pub mod listing;
pub mod setup;
mod signature;
pub mod sqs;

use std::fmt;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, imds};
use aws_sdk_sns::config::http::HttpResponse;
use aws_sdk_sns::config::{Credentials, ProvideCredentials as _, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_sns::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sns::operation::confirm_subscription::ConfirmSubscriptionError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use tokio::sync::OnceCell;
use url::Url;

use crate::config::{Instance, S3Config, StaticCredentials, bad_authorities, topic_region};

/// Off EC2 the metadata service is an address that never answers; nobody waits longer than this for it.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// Bound on finding credentials at all, which may take a call to STS.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on one confirmation with its two attempts; the caller repeats it until the token ends.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What of an error's text is passed on.
const MAX_REASON: usize = 200;

use check::BAD_CREDENTIALS;
pub use check::{Finding, Pushed, judge_topic_policy, lets_everybody};
pub use identity::{Identity, Unidentified, is_amazons};

/// The AWS of one instance: its static credentials, or the default chain (IRSA, pod identity, profile, metadata service).
pub struct Aws {
    credentials: Option<StaticCredentials>,
    region: Region,
    /// Region of the instance's bucket: S3 publishes only to topics of its own region, so the topic's tells it too.
    bucket_region: Region,
    endpoint: Option<Url>,
    http: SharedHttpClient,
    metadata: MetadataService,
    provider: OnceCell<SharedCredentialsProvider>,
}

/// Where the metadata service is asked.
struct MetadataService {
    /// Its own client: a link-local address is never behind a proxy.
    http: SharedHttpClient,
    /// Another address than the well-known one.
    endpoint: Option<String>,
}

/// One of the files of authorities does not hold what it should. Whoever reads them knows which, and says so before
/// ([`extra_authorities`](crate::config::extra_authorities)).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a file of authorities (POSTERN_EGRESS_CA_FILE, POSTERN_SNS_TRUST_ANCHOR_FILE) {0}")]
pub struct BadAuthorities(&'static str);

/// Why a subscription was not confirmed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfirmError {
    /// SNS will not take this token: it is invalid or its two days are over. Asking again does not help.
    #[error("SNS refused the token: {0}")]
    Rejected(String),
    /// SNS did not answer, or our credentials do not allow the call. The same token may work later, or by its URL.
    #[error("SNS could not confirm: {0}")]
    Unavailable(String),
}

impl Aws {
    /// The AWS of `instance`. `endpoint` is `POSTERN_SNS_ENDPOINT_URL`; `extra_ca_pem` holds what the system does not trust but
    /// we do: the bytes of `POSTERN_EGRESS_CA_FILE`, and of the trust anchor of another SNS. Nothing is asked or connected before the first use.
    ///
    /// # Errors
    /// [`BadAuthorities`] when `extra_ca_pem` holds something else than certificates.
    pub fn new(instance: &Instance, endpoint: Option<&Url>, extra_ca_pem: &[Vec<u8>]) -> Result<Self, BadAuthorities> {
        check_authorities(extra_ca_pem)?;
        let region = instance.topics.first().and_then(|arn| topic_region(arn)).or(instance.region.as_deref());
        Ok(Self {
            credentials: instance.credentials.clone(),
            // Only STS is asked there; SNS itself is asked in the region of the topic at hand.
            region: Region::new(region.unwrap_or("us-east-1").to_owned()),
            bucket_region: Region::new(instance.region.as_deref().or(region).unwrap_or("us-east-1").to_owned()),
            endpoint: endpoint.cloned(),
            http: http_client(extra_ca_pem.to_vec(), ProxyConfig::from_env),
            metadata: MetadataService {
                http: http_client(extra_ca_pem.to_vec(), ProxyConfig::disabled),
                endpoint: None,
            },
            provider: OnceCell::new(),
        })
    }

    /// Whether there are credentials. A missing metadata service costs a second.
    pub async fn has_credentials(&self) -> bool {
        let provider = self.provider().await;
        let found = tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await;
        matches!(found, Ok(Ok(_)))
    }

    /// Confirms the subscription of `topic_arn` with the token that SNS sent, and returns the subscription's ARN. With
    /// `authenticate_on_unsubscribe` nobody can end the subscription without credentials of its owner.
    ///
    /// # Errors
    /// [`ConfirmError`]; its text holds neither the token nor a credential.
    pub async fn confirm_subscription(
        &self,
        topic_arn: &str,
        token: &str,
        authenticate_on_unsubscribe: bool,
    ) -> Result<String, ConfirmError> {
        let client = self.sns(self.region_of(topic_arn)).await;
        let call = client
            .confirm_subscription()
            .topic_arn(topic_arn)
            .token(token)
            .set_authenticate_on_unsubscribe(authenticate_on_unsubscribe.then(|| "true".to_owned()));
        let answer = call.send().await.map_err(|error| judge(&error, token))?;
        match answer.subscription_arn() {
            // An answer about something else is not a confirmation, whoever gave it (attack table, A44).
            Some(arn) if arn.strip_prefix(topic_arn).is_some_and(|rest| rest.starts_with(':')) => Ok(arn.to_owned()),
            _ => Err(ConfirmError::Unavailable("the answer names no subscription of the topic".to_owned())),
        }
    }

    /// SNS is asked in the region of the topic at hand.
    fn region_of(&self, topic_arn: &str) -> Region {
        topic_region(topic_arn).map_or_else(|| self.region.clone(), |region| Region::new(region.to_owned()))
    }

    async fn shared(&self, region: Region) -> aws_config::SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(CONFIRM_TIMEOUT / 2)
            .operation_timeout(CONFIRM_TIMEOUT)
            .build();
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .region(region)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts);
        // A provider that finds nothing fails every call, also those that need no credentials.
        let loader = if self.has_credentials().await {
            loader.credentials_provider(self.provider().await.clone())
        } else {
            loader.no_credentials()
        };
        loader.load().await
    }

    /// S3 in the region of the instance's bucket, with the bounds on time and attempts of every call here.
    pub async fn s3(&self, s3: &S3Config) -> aws_sdk_s3::Client {
        let shared = self.shared(self.bucket_region.clone()).await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(s3.path_style);
        if let Some(endpoint) = &s3.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        aws_sdk_s3::Client::from_conf(config.build())
    }

    async fn sns(&self, region: Region) -> aws_sdk_sns::Client {
        let shared = self.shared(region).await;
        // Confirming needs no permission: without credentials the call goes out unsigned (`deps.md` section 1, item 3).
        let mut config = aws_sdk_sns::config::Builder::from(&shared).allow_no_auth();
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        aws_sdk_sns::Client::from_conf(config.build())
    }

    async fn provider(&self) -> &SharedCredentialsProvider {
        self.provider.get_or_init(|| self.new_provider()).await
    }

    async fn new_provider(&self) -> SharedCredentialsProvider {
        if let Some(StaticCredentials { access_key, secret_key }) = &self.credentials {
            return SharedCredentialsProvider::new(Credentials::new(
                access_key,
                secret_key.expose(),
                None,
                None,
                "postern",
            ));
        }
        let config = ProviderConfig::without_region().with_region(Some(self.region.clone()));
        let mut metadata = imds::Client::builder()
            .configure(&config.clone().with_http_client(self.metadata.http.clone()))
            .max_attempts(1)
            .connect_timeout(METADATA_TIMEOUT / 2)
            .read_timeout(METADATA_TIMEOUT / 2)
            .operation_timeout(METADATA_TIMEOUT);
        if let Some(endpoint) = &self.metadata.endpoint {
            // An address that is none leaves the well-known one.
            metadata = metadata.endpoint(endpoint).unwrap_or_else(|_| imds::Client::builder());
        }
        let chain = DefaultCredentialsChain::builder()
            .configure(config.with_http_client(self.http.clone()))
            .region(self.region.clone())
            .imds_client(metadata.build())
            .build()
            .await;
        SharedCredentialsProvider::new(chain)
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws")
            .field("region", &self.region)
            .field("static", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

/// The SDK takes a broken certificate as a reason to panic, later; it is found here instead.
fn check_authorities(pems: &[Vec<u8>]) -> Result<(), BadAuthorities> {
    pems.iter().find_map(|pem| bad_authorities(pem)).map_or(Ok(()), |problem| Err(BadAuthorities(problem)))
}

/// An HTTP client of the SDK on ring. Trust and proxy are looked up when the first connection is made.
fn http_client(extra_ca_pem: Vec<Vec<u8>>, proxy: fn() -> ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        // The SDK insists on at least one system root where it is told to use them; an image from scratch has none.
        let system = !rustls_native_certs::load_native_certs().certs.is_empty();
        let mut trust = tls::TrustStore::default().with_native_roots(system);
        for pem in &extra_ca_pem {
            trust.add_pem_certificate(pem.as_slice());
        }
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        let connector =
            connector.proxy_config(proxy()).tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        match tls::TlsContext::builder().with_trust_store(trust).build() {
            Ok(context) => connector.tls_context(context).build(),
            // The builder has no reason to fail for rustls; without the context only the system's authorities are trusted.
            Err(_) => connector.build(),
        }
    })
}

/// Error codes that speak of our credentials and not of the token. They come with 4xx as well.
const CREDENTIAL_CODES: [&str; 11] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

fn judge(error: &SdkError<ConfirmSubscriptionError>, token: &str) -> ConfirmError {
    let SdkError::ServiceError(answered) = error else {
        return ConfirmError::Unavailable(bounded(&causes(error), token));
    };
    let status = answered.raw().status().as_u16();
    let code = answered.err().code().unwrap_or("no error code");
    let text = format!("{status} {code}: {}", answered.err().message().unwrap_or("no message"));
    let ours =
        status == 401 || status == 403 || status == 429 || CREDENTIAL_CODES.contains(&code) || code.contains("Throttl");
    if (400..500).contains(&status) && !ours {
        ConfirmError::Rejected(bounded(&text, token))
    } else {
        ConfirmError::Unavailable(bounded(&text, token))
    }
}

/// What came back that the SDK made nothing of, for people: its status, and how its body begins.
fn came_back(raw: &HttpResponse) -> String {
    let status = raw.status().as_u16();
    let body = raw.body().bytes().map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_REASON)]));
    match body.map(|text| bounded(text.trim(), "")).filter(|text| !text.is_empty()) {
        Some(text) => format!("status {status}, {text}"),
        None => format!("status {status} and no text"),
    }
}

/// An error's text for a log: without the token, which still confirms, without control characters, and not long.
fn bounded(text: &str, token: &str) -> String {
    let text = if token.is_empty() { text.to_owned() } else { text.replace(token, "[token]") };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

/// An error with all that caused it. The SDK's own `DisplayErrorContext` adds its `Debug` form, which says nothing to an operator.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

#[cfg(test)]
mod tests;
