//! `postern setup`: all that the console steps do, at Amazon, MCS S3 and Ceph.
//!
//! Each step looks, compares, and changes only what differs; a second run changes nothing. Settings are those of the sidecar.

#[cfg(feature = "aws")]
mod amazon;
#[cfg(feature = "aws")]
mod announce;
#[cfg(feature = "aws")]
mod ceph;
#[cfg(feature = "aws")]
mod confirm;
#[cfg(feature = "aws")]
mod dead_letters;
#[cfg(feature = "aws")]
mod door;
#[cfg(feature = "aws")]
mod kinds;
#[cfg(feature = "aws")]
mod mcs;
#[cfg(feature = "aws")]
mod report;
#[cfg(feature = "aws")]
mod subscription;
#[cfg(feature = "aws")]
mod unmake;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Amazon S3 and SNS
    Aws,
    /// MCS S3 (VK Cloud) webhooks
    Mcs,
    /// Ceph RGW bucket notifications
    Ceph,
}

/// What to do.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Which store [default: what the settings name: a topic is aws, POSTERN_MCS_TOPICS mcs, POSTERN_S3HTTP_PRESET=ceph ceph]
    #[arg(long = "for", value_name = "STORE")]
    pub kind: Option<Kind>,
    /// Only the instance of this name
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Show the plan and exactly what would be sent; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Undo what setup made, and only that
    #[arg(long)]
    pub remove: bool,
    /// With --remove: delete the topic too, if nobody else subscribes to it
    #[arg(long, requires = "remove")]
    pub remove_topic: bool,
    /// No dead-letter queue behind the subscription
    #[arg(long)]
    pub no_dlq: bool,
    /// The account that owns the bucket, 12 digits [default: the topic's]
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    pub account: Option<String>,
    /// How long to wait for the sidecar to confirm the subscription
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// Print secrets in what --dry-run shows
    #[arg(long, requires = "dry_run")]
    pub show_secrets: bool,
    /// One JSON object: {"done":…,"dry_run":…,"steps":[{"store","instance","step","verdict","text"} or {"store","instance","would_send","body"}]}
    #[arg(long)]
    pub json: bool,
}

fn account(text: &str) -> Result<String, String> {
    let fits = text.len() == 12 && text.bytes().all(|c| c.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("an account has 12 digits".to_owned()) }
}

/// Runs the command.
#[cfg(feature = "aws")]
pub async fn run(args: Args) -> ExitCode {
    kinds::run(&args, &crate::config::ProcessEnvironment, &mut std::io::stdout(), &mut std::io::stderr()).await
}

/// Runs the command.
#[cfg(not(feature = "aws"))]
pub async fn run(_args: Args) -> ExitCode {
    eprintln!("postern setup: this build has no AWS client; use one with the feature `aws`");
    ExitCode::from(super::EXIT_USAGE)
}
