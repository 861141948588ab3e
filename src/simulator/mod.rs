//! Stand-ins for the neighbours of the sidecar: an SNS that signs with an authority of its own, and an app that checks what it is
//! handed. For `postern demo`, `postern simulate`, tests and benches; nothing of the sidecar itself uses them.
//!
//! The stand-ins read the wire rules on their own (`sns.md`, `cloud-elements.md`) instead of borrowing the sidecar's code: a rule
//! that both sides misread in the same way would never be noticed.

pub mod authority;
pub mod dice;
pub mod load;
pub mod localstack;
pub mod mcs;
pub mod ports;
pub mod process;
pub mod proof;
pub mod receiver;
pub mod sns;
pub mod sqs;
pub mod stores;
pub mod wire;
