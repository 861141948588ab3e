//! How much an address may be refused (hard case 22, A83 of the attack table): forgeries cost us parsing and at worst a
//! signature check each, so an address that sends little else is answered 429 before its body is read.
//!
//! Only refusals count; a genuine sender has none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Refusals a second that are tolerated for as long as one likes.
const PER_SECOND: f64 = 50.0;
/// Refusals tolerated at once: ten seconds' worth.
const BURST: f64 = 500.0;
/// Addresses remembered, in two halves.
const ADDRESSES: usize = 4096;

/// Leaky buckets per address, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct RefusalBudget(Mutex<Generations>);

/// New entries go to `young`; when it holds half of the bound, it becomes `old` and what was old is forgotten. So the memory
/// is bounded and every step is constant time, also under a flood of addresses.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<IpAddr, Bucket>,
    old: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        (self.level - now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND).max(0.0)
    }
}

impl RefusalBudget {
    /// Whether `address` has used up its refusals.
    pub(super) fn is_spent(&self, address: IpAddr, now: Instant) -> bool {
        let key = group(address);
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = generations.young.get(&key).or_else(|| generations.old.get(&key));
        bucket.is_some_and(|b| b.level(now) > BURST - 1.0)
    }

    /// Counts one refusal of `address`.
    pub(super) fn refused(&self, address: IpAddr, now: Instant) {
        let key = group(address);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = generations.young.get(&key).or_else(|| generations.old.get(&key));
        let level = known.map_or(0.0, |b| b.level(now));
        if generations.young.len() >= ADDRESSES / 2 && !generations.young.contains_key(&key) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, Bucket { level: (level + 1.0).min(BURST), at: now });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.len() + generations.old.len()
    }
}

/// A customer has a whole /64 of IPv6, so that is what counts as one address.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn more_than_fifty_refusals_a_second_over_ten_seconds_spend_the_budget_and_time_gives_it_back() {
        let (budget, start) = (RefusalBudget::default(), Instant::now());
        let (forger, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..499 {
            budget.refused(forger, start);
        }
        assert!(!budget.is_spent(forger, start));
        budget.refused(forger, start);
        assert!(budget.is_spent(forger, start));
        assert!(!budget.is_spent(other, start));
        assert!(!budget.is_spent(forger, start + Duration::from_secs(1)));
    }

    #[test]
    fn a_steady_rate_below_the_limit_never_spends_the_budget() {
        let (budget, start) = (RefusalBudget::default(), Instant::now());
        let address = IpAddr::from([192, 0, 2, 1]);
        for n in 0..5000_u32 {
            let now = start + Duration::from_millis(25) * n;
            assert!(!budget.is_spent(address, now));
            budget.refused(address, now);
        }
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_memory_nor_frees_the_one_that_keeps_on() {
        let (budget, start) = (RefusalBudget::default(), Instant::now());
        let forger = IpAddr::from([192, 0, 2, 1]);
        for n in 0..20_000_u32 {
            budget.refused(forger, start);
            budget.refused(IpAddr::from(n.to_be_bytes()), start);
        }
        assert!(budget.is_spent(forger, start));
        assert!(budget.len() <= ADDRESSES);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_budget() {
        let (budget, start) = (RefusalBudget::default(), Instant::now());
        for n in 0..600_u128 {
            budget.refused(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n)), start);
        }
        assert!(budget.is_spent(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96)), start));
    }
}
