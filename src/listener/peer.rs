//! Whom a request comes from: the socket's other end, or what a trusted proxy says of it (hard case 22).

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::config::Cidr;

/// Entries of `X-Forwarded-For` that are looked at, from the right. Real chains have two or three.
const MAX_HOPS: usize = 16;

/// The caller's address, and whether it can be told from other callers' (and so may be limited).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    pub(super) limited: bool,
}

/// Takes the rightmost untrusted address of `X-Forwarded-For` when `socket` is a trusted proxy, and `socket` otherwise.
///
/// Without trusted proxies nothing is limited: we may stand behind an ingress that we know nothing of, whose one address
/// carries everybody. The same holds for a trusted proxy that says nothing usable.
pub(super) fn caller(socket: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> Caller {
    let socket = socket.to_canonical();
    if !is_trusted(socket, trusted) {
        return Caller { address: socket, limited: !trusted.is_empty() };
    }
    // Several header lines are one list in the order of the lines.
    let lines = headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>();
    let entries = lines.iter().rev().filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    for entry in entries.take(MAX_HOPS) {
        match parse(entry) {
            Some(address) if is_trusted(address, trusted) => {}
            Some(address) => return Caller { address, limited: true },
            // Whatever stands left of something unreadable was not written by a trusted proxy.
            None => break,
        }
    }
    Caller { address: socket, limited: false }
}

fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| contains(range, address))
}

fn contains(range: &Cidr, address: IpAddr) -> bool {
    match (range.base, address) {
        (IpAddr::V4(base), IpAddr::V4(a)) => same_prefix(base.to_bits().into(), a.to_bits().into(), 32, range.prefix),
        (IpAddr::V6(base), IpAddr::V6(a)) => same_prefix(base.to_bits(), a.to_bits(), 128, range.prefix),
        _ => false,
    }
}

fn same_prefix(a: u128, b: u128, width: u32, prefix: u8) -> bool {
    // A prefix longer than the address is a host; one of zero bits is everybody, which a shift could not express.
    let ignored = width.saturating_sub(u32::from(prefix));
    (a ^ b).checked_shr(ignored).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Cidr {
        let (base, prefix) = text.split_once('/').expect("a range");
        Cidr { base: base.parse().expect("an address"), prefix: prefix.parse().expect("a number") }
    }

    fn check(socket: &str, forwarded: &[&str], trusted: &[&str], address: &str, limited: bool) {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header value"));
        }
        let trusted = trusted.iter().map(|t| range(t)).collect::<Vec<_>>();
        let found = caller(socket.parse().expect("an address"), &headers, &trusted);
        assert_eq!(found, Caller { address: address.parse().expect("an address"), limited });
    }

    #[test]
    fn a_forwarded_address_is_believed_from_trusted_proxies_only() {
        check("192.0.2.9", &["203.0.113.5"], &[], "192.0.2.9", false);
        check("192.0.2.9", &["203.0.113.5"], &["10.0.0.0/8"], "192.0.2.9", true);
        check("10.1.2.3", &["203.0.113.5"], &["10.0.0.0/8"], "203.0.113.5", true);
        check("::ffff:10.1.2.3", &["203.0.113.5:4711"], &["10.0.0.0/8"], "203.0.113.5", true);
        check("fd00::1", &["[2001:db8::7]:443"], &["fd00::/8"], "2001:db8::7", true);
        check("fd00::1", &["[2001:db8::7]"], &["fd00::/8"], "2001:db8::7", true);
    }

    #[test]
    fn the_rightmost_untrusted_address_counts_whatever_a_caller_wrote_left_of_it() {
        check("10.0.0.1", &["1.1.1.1, 203.0.113.5, 10.0.0.7"], &["10.0.0.0/8"], "203.0.113.5", true);
        check("10.0.0.1", &["1.1.1.1", "203.0.113.5"], &["10.0.0.0/8"], "203.0.113.5", true);
    }

    #[test]
    fn a_proxy_that_says_nothing_usable_is_not_limited() {
        check("10.0.0.1", &[], &["10.0.0.0/8"], "10.0.0.1", false);
        check("10.0.0.1", &["203.0.113.5, unknown"], &["10.0.0.0/8"], "10.0.0.1", false);
        check("10.0.0.1", &["10.0.0.2"], &["10.0.0.0/8"], "10.0.0.1", false);
    }

    #[test]
    fn ranges_of_every_length_fit() {
        check("10.0.0.1", &["203.0.113.5"], &["10.0.0.1/32"], "203.0.113.5", true);
        check("10.0.0.2", &["203.0.113.5"], &["10.0.0.1/32"], "10.0.0.2", true);
        check("10.0.0.2", &["203.0.113.5"], &["0.0.0.0/0"], "10.0.0.2", false);
    }
}
