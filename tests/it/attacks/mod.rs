//! The 83 rows of the attack table (`sns.md` 2.5), each over a real socket against the real sidecar. Where the design's hard cases say
//! otherwise, they win, and the test says so.

pub(crate) mod amazon;
mod app;
pub(crate) mod bench;
mod certificates;
#[cfg(feature = "aws")]
mod credentials;
mod endpoint;
mod fields;
mod flood;
mod issuers;
mod listener;
mod payload;
mod subscription;
mod time_window;
mod transport;
#[cfg(feature = "aws")]
mod validate;
