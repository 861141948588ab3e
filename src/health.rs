//! Conditions: what readiness is made of.
//!
//! Each part of the sidecar reports its own conditions by name; `/ready` is the conjunction of those that block.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// One named condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Whether all is well.
    pub ok: bool,
    /// Whether the sidecar is not ready while it is not; otherwise it is only degraded.
    pub blocks: bool,
    /// What is wrong and what to do, or what is right. Never a secret.
    pub reason: String,
}

/// How something that was looked at once is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Not looked at; what was found says why.
    Skip,
    /// It works, or may work, and an operator should hear of it.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at once: by `postern doctor`, and by `validate.instance` at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its stable name, such as `topic_policy`.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found. Never a secret.
    pub found: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

impl Checked {
    /// All is well with `name`.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: String::new() }
    }

    /// `name` was not looked at, and why.
    pub fn skip(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Skip, found: found.into(), advice: String::new() }
    }

    /// An operator should hear of `name`.
    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), advice: advice.into() }
    }

    /// `name` does not work.
    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), advice: advice.into() }
    }
}

/// All conditions.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<String, Condition>>);

impl Health {
    /// Reports that `name` is well.
    pub fn ok(&self, name: &str, reason: impl Into<String>) {
        self.set(name, Condition { ok: true, blocks: false, reason: reason.into() });
    }

    /// Reports that `name` is not well, without making the sidecar not ready.
    pub fn degraded(&self, name: &str, reason: impl Into<String>) {
        self.set(name, Condition { ok: false, blocks: false, reason: reason.into() });
    }

    /// Reports that `name` is not well, which makes the sidecar not ready.
    pub fn blocked(&self, name: &str, reason: impl Into<String>) {
        self.set(name, Condition { ok: false, blocks: true, reason: reason.into() });
    }

    fn set(&self, name: &str, condition: Condition) {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = conditions.insert(name.to_owned(), condition.clone());
        drop(conditions);
        if before.as_ref() != Some(&condition) {
            let recovered = before.is_some_and(|before| !before.ok);
            if condition.ok && recovered {
                // Whoever read of the trouble wants to read of its end.
                tracing::info!(condition = name, reason = condition.reason, "condition is well again");
            } else if condition.ok {
                tracing::debug!(condition = name, reason = condition.reason, "condition is well");
            } else {
                tracing::warn!(
                    condition = name,
                    blocks = condition.blocks,
                    reason = condition.reason,
                    "condition is not well"
                );
            }
        }
    }

    /// Whether nothing blocks.
    pub fn is_ready(&self) -> bool {
        self.snapshot().values().all(|c| c.ok || !c.blocks)
    }

    /// All conditions by name.
    pub fn snapshot(&self) -> BTreeMap<String, Condition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_blocking_condition_makes_it_not_ready() {
        let health = Health::default();
        assert!(health.is_ready());
        health.degraded("subscription", "not confirmed yet");
        assert!(health.is_ready());
        health.blocked("store", "disk full");
        assert!(!health.is_ready());
        health.ok("store", "");
        assert!(health.is_ready());
    }
}
