//! What `validate.instance` and `postern doctor` ask of AWS (hard case 4): do the credentials fit, are bucket and topic there, and
//! is everything between them as it must be for changes to arrive?
//!
//! The calls are in `look`; what their answers mean is judged by the pure files beside it.

mod look;
mod notification;
mod policy;
mod queue;
mod subscription;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use url::Url;

use super::{Aws, HttpResponse, bounded, came_back, causes};
use crate::config::S3Config;
use crate::health::Checked;

pub use look::Pushed;
pub use policy::{judge as judge_topic_policy, lets_everybody};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be; the text says what was found.
    Right(String),
    /// The credentials are genuine and may not look; whether it is as it should be stays open.
    Unseen(String),
    /// It could not be checked, for a reason that says nothing about what was to be checked.
    Unknown(String),
    /// It could not be checked: something answers, and not as the service does.
    Strange(String),
    /// Provably not as it should be; the text says what to do.
    Wrong(String),
}

impl Finding {
    /// As the check `name` of a report.
    pub fn checked(self, name: &'static str) -> Checked {
        match self {
            Self::Right(found) => Checked::ok(name, found),
            Self::Unseen(found) => Checked::warn(
                name,
                found,
                "allow the call if you want it checked; it needs no right to change anything",
            ),
            Self::Unknown(found) => Checked::fail(
                name,
                found,
                "let this pod reach it: look at network policy, proxy (HTTPS_PROXY, NO_PROXY) and endpoint settings",
            ),
            Self::Strange(found) => Checked::fail(
                name,
                found,
                "see what answers there: correct the endpoint settings (POSTERN_S3_ENDPOINT_URL, POSTERN_SNS_ENDPOINT_URL) or the proxy; a store that does not know this call cannot be checked so; if it is only overloaded, try again",
            ),
            Self::Wrong(found) => {
                Checked::fail(name, found, "correct it; the sidecar stays not ready with validate.instance until then")
            }
        }
    }
}

/// Error codes that say: the credentials themselves are wrong.
pub(super) const BAD_CREDENTIALS: [&str; 8] = [
    "AuthFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

impl Aws {
    /// Whether `bucket` is there and these credentials may list it.
    pub async fn check_bucket(&self, bucket: &str, s3: &S3Config) -> Finding {
        let client = self.s3(s3).await;
        // A listing says why it is refused; HeadBucket has no body to say it in.
        match client.list_objects_v2().bucket(bucket).max_keys(1).send().await {
            Ok(_) => Finding::Right(format!("bucket {bucket} can be listed")),
            Err(error) => {
                // S3 names the bucket's own region with every refusal that is about it.
                let own = error.raw_response().and_then(|raw| raw.headers().get("x-amz-bucket-region"));
                let own = own.map(|region| format!(", {}", region.chars().take(40).collect::<String>()));
                judge(&error, &format!("bucket {bucket}"), s3.endpoint.as_ref(), &own.unwrap_or_default())
            }
        }
    }

    /// Whether `topic` is there, and how many subscriptions it has.
    pub async fn check_topic(&self, topic: &str) -> Finding {
        let client = self.sns(self.region_of(topic)).await;
        match client.get_topic_attributes().topic_arn(topic).send().await {
            Ok(answer) => {
                let count = |name: &str| answer.attributes().and_then(|a| a.get(name)).map_or("?", String::as_str);
                Finding::Right(format!(
                    "topic {topic} has {} confirmed and {} pending subscriptions",
                    count("SubscriptionsConfirmed"),
                    count("SubscriptionsPending")
                ))
            }
            Err(error) => judge(&error, &format!("topic {topic}"), self.endpoint.as_ref(), ""),
        }
    }
}

fn judge<E: ProvideErrorMetadata + std::error::Error + 'static>(
    error: &SdkError<E, HttpResponse>,
    what: &str,
    endpoint: Option<&Url>,
    region: &str,
) -> Finding {
    let at = endpoint.map_or(String::new(), |url| format!(" at {url}"));
    let Some(code) = error.as_service_error().and_then(ProvideErrorMetadata::code).filter(|code| !code.is_empty())
    else {
        return match error.raw_response() {
            Some(raw) => Finding::Strange(format!(
                "{what} cannot be checked{at}: the answer is not understood ({})",
                came_back(raw)
            )),
            None => {
                let text = bounded(&causes(error), "");
                Finding::Unknown(format!("{what} cannot be asked about{at}: {text}"))
            }
        };
    };
    match code {
        _ if BAD_CREDENTIALS.contains(&code) => Finding::Wrong(format!(
            "the AWS credentials are refused ({code}): check filemanagement.provider.access_key and .secret_key, or the pod's role"
        )),
        "NoSuchBucket"
        | "NotFound"
        | "NotFoundException"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue" => {
            Finding::Wrong(format!("{what} does not exist{at} ({code}): check its name and region"))
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Finding::Wrong(format!(
                "{what} is in another region{region} ({code}): set filemanagement.provider.region_name to the bucket's own"
            ))
        }
        // The credentials are genuine; whether the thing is there stays open.
        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" | "AllAccessDisabled" => {
            Finding::Unseen(format!(
                "{what} could not be looked at ({code}): allow s3:ListBucket and sns:GetTopicAttributes to have it checked"
            ))
        }
        code => {
            let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or("no message");
            let text = bounded(&format!("{code}: {message}"), "");
            Finding::Strange(format!("{what} cannot be checked{at}: {text}"))
        }
    }
}
