//! Whose credentials they are, by STS (`GetCallerIdentity`): a question that every identity may ask, whatever its policies say, and that
//! changes nothing. No SDK of ours speaks STS, so that the request is signed here.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use url::Url;

use super::setup::Keys;
use super::signature::Signed;
use super::{Aws, bounded};
use crate::config::{CallbackUrl, partition_of};
use crate::egress::{Call, Client};

const TIMEOUT: Duration = Duration::from_secs(4);
const MAX_ANSWER: usize = 64 * 1024;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const QUESTION: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account, 12 digits.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
}

/// Why it is not known whose credentials they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// STS refused them: what is wrong with them, and what to do.
    Refused {
        /// What is wrong, with the error code.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// STS did not answer, or not as STS does; this says nothing about the credentials.
    Unknown(String),
}

impl Aws {
    /// Asks STS, at `endpoint` where it is not Amazon's of the instance's region, whose credentials these are. Takes 4 s at most after the
    /// credentials themselves.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub async fn identity(&self, client: &Client, endpoint: Option<&Url>) -> Result<Identity, Unidentified> {
        let unknown = |what: String| Unidentified::Unknown(what);
        let keys = self.keys().await.ok_or_else(|| unknown("there are no credentials".to_owned()))?;
        let region = self.region.as_ref();
        let url = match endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Url::parse(&format!("https://sts.{region}.{}/", partition_of(region).suffix))
                .map_err(|error| unknown(format!("the region {region:?} makes no host ({error})")))?,
        };
        let place = url.origin().ascii_serialization();
        let signed = Signed { keys: &keys, region: scope(&url, region), service: "sts", content_type: FORM };
        let headers = signed.headers(&Method::POST, &url, QUESTION.as_bytes(), SystemTime::now());
        let mut headers = headers.map_err(unknown)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
        let call = Call {
            method: Method::POST,
            url: &CallbackUrl::Http(url),
            headers,
            body: Bytes::from_static(QUESTION.as_bytes()),
            timeout: TIMEOUT,
            max_answer: MAX_ANSWER,
            refuse_longer: true,
        };
        let reply = client.call(call).await.map_err(|error| unknown(format!("{place}: {error}")))?;
        judge(reply.status.as_u16(), &String::from_utf8_lossy(&reply.body), &keys)
            .map_err(|why| if let Unidentified::Unknown(why) = why { unknown(format!("{place}: {why}")) } else { why })
    }
}

/// Whether an endpoint is Amazon's: that of one service then is that of no other.
pub fn is_amazons(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    ["amazonaws.com", "amazonaws.com.cn"]
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// The region that STS at `url` wants a signature to be for: the one in an Amazon host's name (`sts.REGION.…`, `….sts.REGION.vpce.…`),
/// for the global `sts.amazonaws.com` us-east-1, and elsewhere `own`.
fn scope<'a>(url: &'a Url, own: &'a str) -> &'a str {
    if !is_amazons(url) {
        return own;
    }
    let mut labels = url.host_str().unwrap_or_default().split('.');
    match labels.find(|label| matches!(*label, "sts" | "sts-fips")).and_then(|_| labels.next()) {
        Some("amazonaws") => "us-east-1",
        Some(region) => region,
        None => own,
    }
}

/// What STS answered.
fn judge(status: u16, body: &str, keys: &Keys) -> Result<Identity, Unidentified> {
    let document = roxmltree::Document::parse(body.trim_start());
    let element = |name: &str| -> String {
        let found = document.as_ref().ok().and_then(|document| {
            let node = document.descendants().find(|node| node.tag_name().name() == name)?;
            node.text().map(|text| bounded(text.trim(), ""))
        });
        found.unwrap_or_default()
    };
    let (account, arn) = (element("Account"), element("Arn"));
    if status == 200 && arn.starts_with("arn:") && !account.is_empty() {
        return Ok(Identity { account, arn });
    }
    let (code, message) = (element("Code"), element("Message"));
    if code.is_empty() {
        return Err(Unidentified::Unknown(format!("status {status}, and not the answer of an STS")));
    }
    match refused(&code, &message, keys) {
        Some((what, advice)) => Err(Unidentified::Refused { what, advice }),
        None => Err(Unidentified::Unknown(format!("status {status} {code}: {message}"))),
    }
}

/// What a refusal says of the credentials; `None` where it says nothing of them.
fn refused(code: &str, message: &str, keys: &Keys) -> Option<(String, &'static str)> {
    let key = &keys.access_key;
    // "Signature expired: 20260101T000000Z is now earlier than ..." and "Signature not yet current: ..."
    let skewed = message.contains("Signature expired") || message.contains("not yet current");
    Some(match code {
        "ExpiredToken" | "ExpiredTokenException" => (
            format!("the credentials have expired ({code})"),
            "temporary credentials are not renewed by themselves: give new ones, or a role (IRSA, pod identity, instance profile), which is",
        ),
        "RequestExpired" | "RequestTimeTooSkewed" => {
            (format!("the signature's time is refused ({code})"), "set this machine's clock right (NTP)")
        }
        "SignatureDoesNotMatch" if skewed => {
            (format!("the signature's time is refused ({code}: {message})"), "set this machine's clock right (NTP)")
        }
        // "Credential should be scoped to a valid region" and "... to correct service": the secret was not looked at.
        "SignatureDoesNotMatch" | "IncompleteSignature" if message.contains("scoped") => return None,
        "SignatureDoesNotMatch" | "IncompleteSignature" => (
            format!("the secret key is not that of access key {key} ({code})"),
            "copy the secret key again, without blanks or a line's end; a lost one cannot be read back: make a new pair",
        ),
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId"
            if keys.token.is_none() && key.starts_with("ASIA") =>
        {
            (
                format!("the access key {key} is a temporary one and comes without its session token ({code})"),
                "set AWS_SESSION_TOKEN with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: filemanagement.provider.* holds lasting keys only",
            )
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "InvalidToken" => (
            format!("the access key {key} is not known ({code})"),
            "it was deleted, deactivated or mistyped, or belongs to another partition (China, GovCloud)",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys(access_key: &str) -> Keys {
        Keys { access_key: access_key.to_owned(), secret_key: Secret::new("hush"), token: None }
    }

    fn error(code: &str, message: &str) -> String {
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
            <Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        )
    }

    #[test]
    fn an_answer_names_account_and_arn() {
        let body = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
            <Arn>arn:aws:sts::123456789012:assumed-role/app/pod</Arn><UserId>AROA:pod</UserId><Account>123456789012</Account>\
            </GetCallerIdentityResult></GetCallerIdentityResponse>";
        let identity = judge(200, body, &keys("AKIA1")).expect("an identity");
        assert_eq!(identity.account, "123456789012");
        assert_eq!(identity.arn, "arn:aws:sts::123456789012:assumed-role/app/pod");
    }

    #[test]
    fn expired_unknown_and_wrong_credentials_are_told_apart_from_a_wrong_clock() {
        let said = |key: &str, code: &str, message: &str| match judge(403, &error(code, message), &keys(key)) {
            Err(Unidentified::Refused { what, advice }) => format!("{what}; {advice}"),
            other => panic!("{other:?}"),
        };
        assert!(
            said("ASIA1", "ExpiredToken", "The security token included in the request is expired")
                .contains("have expired")
        );
        assert!(said("AKIA1", "InvalidClientTokenId", "invalid").contains("AKIA1 is not known"));
        assert!(said("ASIA1", "InvalidClientTokenId", "invalid").contains("AWS_SESSION_TOKEN"));
        assert!(
            said("AKIA1", "SignatureDoesNotMatch", "The request signature we calculated")
                .contains("secret key is not that")
        );
        let late =
            "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z (20260101T011500Z - 15 min.)";
        assert!(said("AKIA1", "SignatureDoesNotMatch", late).contains("clock"));
    }

    /// Once right keys were said to be wrong where `AWS_ENDPOINT_URL_STS` named the global endpoint, or SNS a VPC endpoint.
    #[test]
    fn a_signature_for_another_region_or_service_says_nothing_of_the_secret() {
        for scoped in [
            "Credential should be scoped to a valid region.",
            "Credential should be scoped to correct service: 'sns'. ",
        ] {
            let judged = judge(403, &error("SignatureDoesNotMatch", scoped), &keys("AKIA1"));
            assert!(matches!(&judged, Err(Unidentified::Unknown(what)) if what.contains("scoped")), "{judged:?}");
        }
    }

    #[test]
    fn a_signature_is_for_the_region_of_the_sts_that_is_asked() {
        for (endpoint, region) in [
            ("https://sts.amazonaws.com", "us-east-1"),
            ("https://sts.eu-west-1.amazonaws.com/", "eu-west-1"),
            ("https://sts-fips.us-west-2.amazonaws.com", "us-west-2"),
            ("https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("https://vpce-1-a.sts.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
            ("https://other.amazonaws.com", "eu-central-1"),
            ("https://sts.example.com", "eu-central-1"),
            ("http://127.0.0.1:4566", "eu-central-1"),
        ] {
            let url = Url::parse(endpoint).expect("a URL");
            assert_eq!(scope(&url, "eu-central-1"), region, "{endpoint}");
        }
    }

    #[test]
    fn amazons_endpoints_are_known_by_their_domain() {
        let is = |text: &str| is_amazons(&Url::parse(text).expect("a URL"));
        assert!(is("https://vpce-1.sns.eu-west-1.vpce.amazonaws.com") && is("https://sns.cn-north-1.amazonaws.com.cn"));
        assert!(!is("https://notamazonaws.com") && !is("https://amazonaws.com.example") && !is("http://[::1]:1"));
    }

    #[test]
    fn an_answer_of_somebody_else_says_nothing_of_the_credentials() {
        for (status, body) in [(200, "<html/>"), (502, ""), (403, "no XML"), (200, "<Arn>arn:x</Arn>")] {
            assert!(matches!(judge(status, body, &keys("AKIA1")), Err(Unidentified::Unknown(_))), "{status} {body}");
        }
        let disabled = judge(403, &error("RegionDisabledException", "STS is not activated"), &keys("AKIA1"));
        assert!(matches!(disabled, Err(Unidentified::Unknown(what)) if what.contains("RegionDisabled")));
    }
}
