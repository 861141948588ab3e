//! The sidecar's door as producers see it: its URL for each way in, and whether it opens from here.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::{Basic, CallbackUrl};
use crate::egress::{Call, Client};

/// The public URL with `path` behind it.
pub(super) fn url(public: &Url, path: &str) -> String {
    format!("{}{path}", public.as_str().trim_end_matches('/'))
}

/// The URL that SNS is given: with the credentials that it must send, as user information of RFC 3986.
pub(super) fn sns_endpoint(public: &Url, basic: Option<&Basic>) -> Result<String, String> {
    let mut url = Url::parse(&url(public, "/sns")).map_err(|error| format!("POSTERN_PUBLIC_URL: {error}"))?;
    if let Some(basic) = basic {
        // Both fail only for URLs without a host.
        let _ = url.set_username(&basic.username);
        let _ = url.set_password(Some(basic.password.expose()));
    }
    Ok(url.into())
}

/// Whether a subscription's endpoint leads to the same door as `ours`, with whatever credentials.
pub(super) fn is_same(listed: &str, ours: &str) -> bool {
    let parts = |text: &str| {
        let url = Url::parse(text).ok()?;
        let place = (url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default());
        Some((place, url.path().to_owned(), url.query().map(str::to_owned)))
    };
    parts(listed).is_some_and(|listed| Some(listed) == parts(ours))
}

/// Whether a subscription's endpoint has the user name that `ours` has. SNS masks the password.
pub(super) fn has_user_of(listed: &str, ours: &str) -> bool {
    // Encoded by us or by somebody else, so that only what it stands for can be compared.
    let user = |text: &str| Url::parse(text).map(|url| percent_decode_str(url.username()).collect::<Vec<u8>>()).ok();
    user(listed) == user(ours)
}

/// An endpoint of somebody else, for people: of a URL its origin, for what follows may be a secret.
pub(super) fn shown(endpoint: &str) -> String {
    match Url::parse(endpoint) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        Ok(_) | Err(_) => endpoint.chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

/// Whether a sidecar answers a probe at `url` from this machine; the text says what happened instead.
pub(super) async fn opens(client: &Client, url: &str) -> Result<(), String> {
    let target = CallbackUrl::parse(url).map_err(|(what, _)| what)?;
    let call = Call {
        method: Method::GET,
        url: &target,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(5),
        max_answer: 4096,
        refuse_longer: false,
    };
    match client.call(call).await {
        Ok(reply) if reply.status.is_success() => Ok(()),
        Ok(reply) => Err(format!("it answers {} where a sidecar answers 200", reply.status.as_u16())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn credentials_stand_in_the_url_as_user_information() {
        let public = Url::parse("https://hooks.example.com/in/").expect("a URL");
        let basic = Basic { username: "sns".to_owned(), password: Secret::new("p@ss:w/ord%") };
        let endpoint = sns_endpoint(&public, Some(&basic)).expect("an endpoint");
        assert_eq!(endpoint, "https://sns:p%40ss%3Aw%2Ford%@hooks.example.com/in/sns");
        assert_eq!(sns_endpoint(&public, None).as_deref(), Ok("https://hooks.example.com/in/sns"));
    }

    #[test]
    fn an_endpoint_is_known_again_behind_the_mask_of_its_password() {
        let ours = "https://sns:secret@hooks.example.com/sns";
        assert!(is_same("https://sns:****@hooks.example.com:443/sns", ours));
        assert!(is_same("https://hooks.example.com/sns", ours) && !has_user_of("https://hooks.example.com/sns", ours));
        assert!(has_user_of("https://sns:****@hooks.example.com/sns", ours));
        assert!(has_user_of("https://%73ns:****@hooks.example.com/sns", ours));
        for other in
            ["http://sns:****@hooks.example.com/sns", "https://sns:x@hooks.example.com/sns2", "arn:x", "me@example.com"]
        {
            assert!(!is_same(other, ours), "{other}");
        }
    }

    #[test]
    fn of_an_endpoint_of_somebody_else_only_the_origin_is_shown() {
        assert_eq!(shown("https://u:p@other.example.com/hush?key=hush"), "https://other.example.com");
        assert_eq!(shown("arn:aws:sqs:eu-central-1:1:q"), "arn:aws:sqs:eu-central-1:1:q");
        assert_eq!(shown("me@example.com"), "me@example.com");
    }
}
