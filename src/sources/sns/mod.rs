//! Amazon SNS over HTTPS.

pub mod certs;
pub mod chain;
pub mod confirm;
pub mod message;
pub mod source;
pub mod url;
pub mod verifier;
pub mod verify;
