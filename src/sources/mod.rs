//! How notifications arrive: one folder or file for each way, all ending in the same [`intake::Desk`].

pub mod answers;
mod audit;
pub mod changes;
pub mod intake;
#[cfg(feature = "aws")]
pub mod listing;
pub mod mcs;
pub mod s3http;
pub mod sns;
#[cfg(feature = "aws")]
pub mod sqs;
