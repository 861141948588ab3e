//! Where a queue is and what it is called, read off its URL.

use url::Url;

/// Where a queue is, as its URL tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePlace {
    /// The region in an Amazon host.
    pub region: Option<String>,
    /// Where calls go when not to the region's well-known endpoint: a VPC endpoint, or a server that is not Amazon's.
    pub endpoint: Option<Url>,
    /// The queue's ARN where host and path tell it, else its URL without user, query and fragment.
    pub name: String,
    /// Whether it is Amazon's.
    pub is_amazon: bool,
    /// Whether messages of a group are to be taken in order (`.fifo`).
    pub is_fifo: bool,
}

impl QueuePlace {
    /// Reads a queue URL such as `https://sqs.eu-west-1.amazonaws.com/123456789012/uploads`.
    pub fn of(url: &Url) -> Self {
        let mut origin = url.clone();
        // Neither fails for http and https, which are all that the configuration lets pass.
        let _ = (origin.set_username(""), origin.set_password(None));
        origin.set_query(None);
        origin.set_fragment(None);
        let plain = origin.to_string();
        origin.set_path("");
        let is_fifo = url.path().ends_with(".fifo");
        let amazon = url.host_str().and_then(amazon_region);
        let Some((region, well_known)) = amazon else {
            return Self { region: None, endpoint: Some(origin), name: plain, is_amazon: false, is_fifo };
        };
        let mut path = url.path().trim_matches('/').split('/');
        let name = match (path.next(), path.next(), path.next()) {
            (Some(account), Some(queue), None) if !account.is_empty() && !queue.is_empty() => {
                format!("arn:{}:sqs:{region}:{account}:{queue}", partition(region))
            }
            _ => plain,
        };
        let endpoint = (!well_known).then_some(origin);
        Self { region: Some(region.to_owned()), endpoint, name, is_amazon: true, is_fifo }
    }
}

/// The region in a host of Amazon's, and whether that host is the region's well-known endpoint or the legacy name of it.
fn amazon_region(host: &str) -> Option<(&str, bool)> {
    let labels: Vec<&str> = host.split('.').collect();
    let (labels, suffix) = match labels.as_slice() {
        [labels @ .., "amazonaws", "com"] | [labels @ .., "amazonaws", "com", "cn"] => (labels, "amazonaws"),
        [labels @ .., "api", "aws"] => (labels, "api"),
        _ => return None,
    };
    let (region, well_known) = match (labels, suffix) {
        (["sqs", region], "amazonaws") | ([region, "queue"], "amazonaws") => (*region, true),
        (["queue"], "amazonaws") => ("us-east-1", true),
        (["sqs-fips", region], _) | (["sqs", region], _) => (*region, false),
        ([vpce, .., "sqs", region, "vpce"], "amazonaws") if vpce.starts_with("vpce-") => (*region, false),
        _ => return None,
    };
    let is_region = !region.is_empty() && region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    is_region.then_some((region, well_known))
}

fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> QueuePlace {
        QueuePlace::of(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn the_host_of_a_queue_tells_region_and_endpoint() {
        for (host, region, endpoint) in [
            ("sqs.eu-west-1.amazonaws.com", "eu-west-1", false),
            ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1", false),
            ("eu-west-1.queue.amazonaws.com", "eu-west-1", false),
            ("queue.amazonaws.com", "us-east-1", false),
            ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", true),
            ("sqs.eu-west-1.api.aws", "eu-west-1", true),
            ("vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com", "eu-west-1", true),
            ("vpce-0a1b-2c3d-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com", "eu-west-1", true),
        ] {
            let place = place(&format!("https://{host}/123456789012/uploads"));
            assert_eq!(place.region.as_deref(), Some(region), "{host}");
            assert!(place.is_amazon && !place.is_fifo, "{host}");
            let expected = endpoint.then(|| format!("https://{host}/"));
            assert_eq!(place.endpoint.map(|url| url.to_string()), expected, "{host}");
        }
    }

    #[test]
    fn any_other_host_is_the_endpoint_itself() {
        for host in [
            "http://127.0.0.1:4566",
            "http://sqs.us-east-1.localhost:4566",
            "https://sqs.eu-west-1.amazonaws.com.evil.example",
            "https://sqs.eu-west-1.evil.com",
            "https://s3.eu-west-1.amazonaws.com",
            "https://x.sqs.eu-west-1.amazonaws.com",
        ] {
            let place = place(&format!("{host}/000000000000/uploads.fifo"));
            assert_eq!(place.endpoint.map(|url| url.to_string()), Some(format!("{host}/")));
            assert!(place.region.is_none() && !place.is_amazon && place.is_fifo, "{host}");
        }
    }

    #[test]
    fn a_queue_is_called_by_its_arn_or_by_its_url_without_secrets() {
        let name = |url: &str| place(url).name;
        assert_eq!(name("https://sqs.eu-west-1.amazonaws.com/123/q"), "arn:aws:sqs:eu-west-1:123:q");
        assert_eq!(name("https://sqs.cn-north-1.amazonaws.com.cn/123/q"), "arn:aws-cn:sqs:cn-north-1:123:q");
        assert_eq!(name("https://sqs.us-gov-west-1.amazonaws.com/1/q"), "arn:aws-us-gov:sqs:us-gov-west-1:1:q");
        assert_eq!(name("http://user:hunter2@127.0.0.1:1/0/q?token=hunter2#hunter2"), "http://127.0.0.1:1/0/q");
    }
}
