//! Why the queue refused.

/// Why the queue refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueueError {
    /// The store is closing.
    #[error("the queue is closed")]
    Closed,
    /// Dead letters are at their bound.
    #[error("dead letters are at their bound of {max_bytes} bytes (POSTERN_DEAD_MAX_BYTES): replay or discard some")]
    DeadFull {
        /// The bound.
        max_bytes: u64,
    },
    /// The disk is full.
    #[error("the disk of the data directory is full")]
    DiskFull,
    /// A write or sync failed; the store refuses until it was reopened.
    #[error("the store failed and is being reopened: {0}")]
    Failed(String),
    /// What is owed is at its bound, for this instance or in all.
    #[error("{owed_bytes} bytes are owed, the bound is {max_bytes} (POSTERN_QUEUE_MAX_BYTES)")]
    Full {
        /// What is owed.
        owed_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// Nothing is claimed under the token of a settlement: it was settled before. There is nothing left to settle.
    #[error("claim {token} is not known: it was settled before")]
    UnknownClaim {
        /// The token.
        token: u64,
    },
}

impl QueueError {
    /// A short label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::DeadFull { .. } => "dead_full",
            Self::DiskFull => "disk_full",
            Self::Failed(_) => "failed",
            Self::Full { .. } => "full",
            Self::UnknownClaim { .. } => "unknown_claim",
        }
    }
}
