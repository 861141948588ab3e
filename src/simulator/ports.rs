//! Ports for servers that are told their address before they start.
//!
//! A port that the system chose and that was given back is soon somebody else's: the next connection that anybody makes may get
//! it. So these come from below the range of which the system hands out its own, each one once in a process. Processes that run
//! side by side share them by blocks: who listens on the first port of a block, for as long as it lives, has the others of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// First port and how many; Linux hands out its own from 32768.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// Ports of a block, the one that is its lock included.
const BLOCK: u16 = 100;

/// What this process has taken.
struct Taken {
    /// The locks of the blocks, which are never accepted from.
    locks: Vec<TcpListener>,
    /// What is left of the last of them.
    rest: Range<u16>,
}

/// A loopback address on which nobody listens, not given out before by this process, nor by another one that lives.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when all are taken.
pub fn unused() -> io::Result<SocketAddr> {
    static TAKEN: Mutex<Taken> = Mutex::new(Taken { locks: Vec::new(), rest: 0..0 });
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // A stranger may sit on any of them.
        if let Some((_, address)) = taken.rest.by_ref().find_map(|port| Some((listen(port)?, at(port)))) {
            return Ok(address);
        }
        let (lock, first) = lock_a_block()?;
        taken.locks.push(lock);
        taken.rest = first + 1..first + BLOCK;
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(at(port)).ok()
}

/// A block that nobody has, and its first port.
fn lock_a_block() -> io::Result<(TcpListener, u16)> {
    let blocks = u32::from(COUNT / BLOCK);
    // Processes begin at different places, so that what one has just given up is not at once another's.
    let begin = std::process::id().wrapping_mul(37);
    let firsts = (0..blocks).map(|nth| {
        // Below COUNT, which is a u16.
        let offset = u16::try_from(begin.wrapping_add(nth) % blocks).unwrap_or(0) * BLOCK;
        FIRST + offset
    });
    let free = firsts.into_iter().find_map(|first| Some((listen(first)?, first)));
    free.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "every port from 10000 to 19999 is taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice_nor_taken_from_the_systems_own() {
        let ports: std::collections::BTreeSet<u16> = (0..250).map(|_| unused().expect("a port").port()).collect();
        assert_eq!(ports.len(), 250);
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)));
    }

    /// Two test runs on one machine once looked at the same ports: each could give out what the other had given out and not yet
    /// bound, and a test that counted on nobody listening met the other's server.
    #[test]
    fn a_block_that_another_process_has_is_left_to_it() {
        let (lock, first) = lock_a_block().expect("a block");
        let (other, next) = lock_a_block().expect("another block");
        assert_ne!(first, next);
        drop((lock, other));
        assert!(first.is_multiple_of(BLOCK) && next.is_multiple_of(BLOCK));
    }
}
