//! Amazon SNS over HTTPS.
//!
//! A request becomes a [`verify::Verified`] value or a [`refusal::Refusal`]; there is no third way. The order is `sns.md` 2.4, cheap
//! and un-networked first: [`message`] reads the bytes, [`verify::precheck`] asks who may send what and when, [`certs`] finds the
//! certificate (judged by [`chain`]), [`verify::verify_signature`] makes the proof. [`verifier`] ties them together.

pub mod certs;
pub mod chain;
pub mod confirm;
pub mod message;
pub mod refusal;
pub mod source;
pub mod url;
pub mod verifier;
pub mod verify;
