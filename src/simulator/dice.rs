//! Random numbers for the stand-ins: fast, seedable, and never used for anything secret.

use ring::rand::SecureRandom as _;

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator that always throws the same for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator seeded by the system.
    pub fn new() -> Self {
        let mut seed = [0; 8];
        // Without system randomness a fixed seed still simulates; only the ids would repeat from run to run.
        let _ = ring::rand::SystemRandom::new().fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    /// The next 64 bits.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0. The tiny bias of the remainder does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.throw().checked_rem(bound).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// `length` lower-case hexadecimal digits.
    pub fn hex(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            text.push_str(&format!("{:016x}", self.throw()));
        }
        text.truncate(length);
        text
    }

    /// A lower-case UUID of version 4, as SNS makes its MessageIds.
    pub fn uuid(&mut self) -> String {
        let (a, b) = (self.throw(), self.throw());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            (b >> 48) & 0x3fff | 0x8000,
            b & 0xffff_ffff_ffff
        )
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_form_of_a_message_id() {
        let id = Dice::seeded(7).uuid();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(id.bytes().all(|c| c == b'-' || c.is_ascii_digit() || (b'a'..=b'f').contains(&c)), "{id}");
        assert_eq!(id.as_bytes()[14], b'4');
    }

    #[test]
    fn the_same_seed_throws_the_same() {
        assert_eq!(Dice::seeded(1).hex(40), Dice::seeded(1).hex(40));
        assert_ne!(Dice::seeded(1).hex(40), Dice::seeded(2).hex(40));
    }
}
