//! A stand-in for Amazon SNS that signs with an authority of its own: for `postern demo`, `postern simulate`, tests and benches.

pub mod authority;
