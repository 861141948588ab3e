//! Whose credentials an instance has, by STS.

use url::Url;

use super::Context;
use crate::aws::{Aws, Identity, Unidentified, is_amazons};
use crate::config::{Environment, Instance};
use crate::egress::{Client, Options, ProxySettings};
use crate::health::Checked;

const NAME: &str = "credentials";

/// Asks STS; `None` where nothing of the instance is at Amazon, so that its keys are no business of STS.
pub(super) async fn ask(context: &Context, instance: &Instance, aws: &Aws) -> Option<Result<Identity, Unidentified>> {
    let config = &context.config;
    let elsewhere = config.s3.endpoint.is_some() || instance.element_key == "mcss3";
    if elsewhere && instance.topics.is_empty() && instance.sqs.is_none() {
        return None;
    }
    let sns = config.sns.endpoint.as_ref().map(|endpoint| &endpoint.url);
    let endpoint = endpoint(sns, &*context.environment);
    let options = Options {
        extra_ca_pem: super::cloud::authorities(context),
        idle_per_host: 0,
        proxy: ProxySettings::from_env(),
    };
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => return Some(Err(Unidentified::Unknown(error.to_string()))),
    };
    Some(aws.identity(&client, endpoint.as_ref()).await)
}

/// Where STS is asked, if not at Amazon's of the region: where `sns` is, because what stands in for Amazon does so at one address, and
/// else where the SDKs would ask it, by the variables that all of them know. An SNS of Amazon's own (a VPC or FIPS endpoint) is no STS.
pub(in crate::cli) fn endpoint(sns: Option<&Url>, environment: &dyn Environment) -> Option<Url> {
    if let Some(sns) = sns.filter(|sns| !is_amazons(sns)) {
        return Some(sns.clone());
    }
    let all = environment.vars();
    ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"].into_iter().find_map(|wanted| {
        let (_, value) = all.iter().find(|(name, value)| name == wanted && !value.is_empty())?;
        Url::parse(value.to_str()?).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    })
}

/// What STS said; `None` where that says nothing of the credentials.
pub(super) fn judge(who: &Result<Identity, Unidentified>, whose: &str) -> Option<Checked> {
    match who {
        Ok(Identity { account, arn }) => {
            Some(Checked::ok(NAME, format!("they are those of {arn}, account {account}: {whose}")))
        }
        Err(Unidentified::Refused { what, advice }) => Some(Checked::fail(NAME, format!("{whose}: {what}"), *advice)),
        Err(Unidentified::Unknown(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::health::Status;

    #[test]
    fn sts_is_asked_where_the_sdks_would_ask_it() {
        let of = |sns: Option<&str>, pairs: &[(&str, &str)]| {
            let sns = sns.map(|sns| Url::parse(sns).expect("a URL"));
            let environment: BTreeMap<String, String> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            endpoint(sns.as_ref(), &environment).map(String::from)
        };
        let all = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        assert_eq!(
            of(None, &[all, ("AWS_ENDPOINT_URL_STS", "https://sts.test")]).as_deref(),
            Some("https://sts.test/")
        );
        assert_eq!(of(None, &[all]).as_deref(), Some("http://127.0.0.1:1/"));
        assert_eq!(of(None, &[("AWS_ENDPOINT_URL_STS", "")]), None);
        assert_eq!(of(Some("http://localstack:4566"), &[all]).as_deref(), Some("http://localstack:4566/"));
        // Once an SNS behind a VPC endpoint was asked for STS's answers too.
        let vpc = "https://vpce-1-a.sns.eu-west-1.vpce.amazonaws.com";
        assert_eq!(of(Some(vpc), &[]), None);
        assert_eq!(of(Some(vpc), &[all]).as_deref(), Some("http://127.0.0.1:1/"));
    }

    #[test]
    fn a_silent_sts_is_no_fault_of_the_credentials() {
        let identity =
            Identity { account: "123456789012".to_owned(), arn: "arn:aws:iam::123456789012:user/a".to_owned() };
        let said = judge(&Ok(identity), "a profile").expect("a check");
        assert!(said.found.contains("user/a") && said.status == Status::Ok, "{said:?}");
        let refused = Unidentified::Refused { what: "the credentials have expired".to_owned(), advice: "renew" };
        assert_eq!(judge(&Err(refused), "a profile").map(|said| said.status), Some(Status::Fail));
        assert_eq!(judge(&Err(Unidentified::Unknown("no answer".to_owned())), "a profile"), None);
    }
}
