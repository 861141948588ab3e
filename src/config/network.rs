//! Address ranges, and what counts as this machine.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::Cidr;

impl Cidr {
    /// Reads `10.0.0.0/8`, `fd00::/8` or one address; `None` when it is neither. Bits beyond the prefix are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|c| c.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        // Addresses are compared in their IPv4 form where they have one, so that a range of mapped ones is kept in it too.
        if let (IpAddr::V4(v4), true, 96..=128) = (address.to_canonical(), address.is_ipv6(), prefix) {
            let prefix = prefix - 96;
            return Some(Self { base: mask(v4.into(), prefix), prefix });
        }
        (prefix <= width).then(|| Self { base: mask(address, prefix), prefix })
    }

    /// Whether `address` lies in the range. An IPv4 address that arrived over an IPv6 socket (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && mask(address, self.prefix) == mask(self.base, self.prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// The leading `prefix` bits of `address`.
fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    // A shift by the whole width would overflow; `checked_shl` makes it no bits at all.
    match address {
        IpAddr::V4(v4) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & bits).into())
        }
        IpAddr::V6(v6) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & bits).into())
        }
    }
}

/// Whether the URL's host is this machine by name or address: there, plain HTTP crosses no network.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether an SNS other than Amazon's may be spoken to at `url`: https, or http on this machine's own loopback (hard case 8).
pub fn is_acceptable_endpoint(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// The URL at which a topic is subscribed, where producers reach us by `public`: its path `/sns`, which may stand there already.
pub fn sns_url(public: &Url) -> Url {
    let mut url = public.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with("/sns") {
        url.set_path(&format!("{path}/sns"));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        Cidr::parse(range).expect("a range").contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.168.1.7", "192.168.1.7"));
        assert!(!holds("192.168.1.7", "192.168.1.8"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("fd00::/8", "fdff::1"));
        assert!(!holds("fd00::/8", "fe00::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("10.1.2.3/8", "10.9.9.9"));
        assert!(holds("::ffff:10.0.0.0/104", "10.9.9.9"));
        assert!(!holds("::ffff:10.0.0.0/104", "11.9.9.9"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in
            ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0", "::/129", "a/8", "10.0.0.0/8/8"]
        {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_topics_url_is_the_public_one_with_its_path() {
        for (public, expected) in [
            ("https://a.example", "https://a.example/sns"),
            ("https://a.example/", "https://a.example/sns"),
            ("https://a.example/in/", "https://a.example/in/sns"),
            ("https://a.example/sns", "https://a.example/sns"),
        ] {
            assert_eq!(sns_url(&Url::parse(public).expect("a URL")).as_str(), expected);
        }
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for yes in ["http://localhost:1/", "http://LOCALHOST/", "http://127.8.8.8/", "http://[::1]:4566/"] {
            assert!(is_loopback(&Url::parse(yes).expect("a URL")), "{yes}");
        }
        for no in ["http://localhost.example/", "http://10.0.0.1/", "http://localstack:4566/", "http://[::2]/"] {
            assert!(!is_loopback(&Url::parse(no).expect("a URL")), "{no}");
        }
    }
}
