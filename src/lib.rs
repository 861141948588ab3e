//! Postern: an event sidecar. S3 says that an object changed; Postern proves it, writes it down, and carries it to the app.
//!
//! # The life of one event
//!
//! 1. **It knocks.** Amazon SNS POSTs a notification to the [`listener`], which owns every bound on connections, bytes and time.
//!    The path chooses the source, here [`sources::sns`].
//! 2. **It is proven.** [`sources::sns::message`] parses it by a grammar that leaves one reading, [`sources::sns::verify`]
//!    checks topic, addresses, time and RSA signature under a certificate that [`sources::sns::certs`] fetched and
//!    [`sources::sns::chain`] traced to a root. Only a [`sources::sns::verify::Verified`] goes on, and it cannot be made
//!    in any other way.
//! 3. **It is normalized.** [`sources::intake`] takes the S3 [`record`]s out of it; [`normalize`] turns each into the canonical
//!    [`event::Event`], whose id is a function of the change, not of the message.
//! 4. **It is written down.** [`queue`] appends all events of the notification, and the memory of their ids, in one
//!    transaction. After its sync, and not before, SNS gets its 200.
//! 5. **It is delivered.** [`dispatch`] claims it when its lane (instance, bucket, key) is free, encodes and signs it, and POSTs it
//!    to the callback until the app has it, or its attempts or age are over and it is kept among the dead letters.
//! 6. **It is remembered.** Its id, so that it is not delivered twice; its lane's last sequencer, so that nothing provably
//!    older follows it; its row, so that an operator can ask what became of it ([`admin`], `postern events`).
//!
//! # The map
//!
//! Imports go down only: `main`, [`cli`], [`app`] (the only wiring), [`config`]. The services [`listener`], [`sources`], [`dispatch`]
//! and [`admin`] meet at [`queue`]. The pure core ([`record`], [`normalize`], the checks of [`sources::sns`], [`queue::state`],
//! and retry, circuit, signature and format of [`dispatch`]) touches no network, file, environment or clock: time and randomness are arguments.

pub mod admin;
pub mod app;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod egress;
pub mod event;
pub mod health;
pub mod listener;
pub mod normalize;
pub mod queue;
pub mod record;
pub mod secret;
pub mod shutdown;
pub mod simulator;
pub mod sources;
pub mod telemetry;
