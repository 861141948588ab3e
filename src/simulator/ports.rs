//! Ports for servers that are told their address before they start.
//!
//! A port that the system chose and that was given back is soon somebody else's: the next connection that anybody makes may get
//! it. So these come from below the range of which the system hands out its own, each one once in a process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// First port and how many; Linux hands out its own from 32768.
const FIRST: u16 = 20_000;
const COUNT: u32 = 12_000;

/// A loopback address on which nobody listens, not given out before by this process.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when all are taken.
pub fn unused() -> io::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes begin at different places, so that two test runs seldom look at the same port.
        let nth = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97)) % COUNT;
        // Below 32,000 by the two constants.
        let port = FIRST + u16::try_from(nth).unwrap_or(0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "every port from 20000 to 31999 is taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice_nor_taken_from_the_systems_own() {
        let ports: std::collections::BTreeSet<u16> = (0..200).map(|_| unused().expect("a port").port()).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
    }
}
