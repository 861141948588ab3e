//! A secret has its own type: it cannot be printed, and it is wiped when dropped.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A key, password or token. `Debug` and `Display` print `[redacted]`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the secret's text as it is: nothing is trimmed or decoded.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Each caller shows by this name that it handles a secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `candidate` is this secret, in time that depends on the lengths alone.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        // Comparing MACs under a fresh key is constant-time whatever the library does about slices.
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"postern secret comparison");
        let tag = ring::hmac::sign(&key, self.expose().as_bytes());
        ring::hmac::verify(&key, candidate, tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_be_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
    }

    #[test]
    fn a_secret_matches_only_itself() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter"));
        assert!(!secret.matches(b"hunter22"));
        assert!(!secret.matches(b""));
    }
}
