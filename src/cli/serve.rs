//! `postern serve`: the sidecar.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::signal::unix::{SignalKind, signal};

use super::{EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::app::{self, Ending};
use crate::config::{self, Config, ProcessEnvironment};
use crate::telemetry::logs;

/// No flags: the environment says everything, so that a pod's specification is the whole truth.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Args {}

/// The settings, for `--help`.
pub(super) fn settings_help() -> String {
    config::settings::help()
}

/// Runs the sidecar until SIGTERM or SIGINT.
pub fn run(_args: &Args) -> ExitCode {
    let config = match config::load(&ProcessEnvironment) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("postern cannot start: {} to settle in its settings.", count(problems.len()));
            for problem in &problems {
                eprintln!("  {problem}");
            }
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Err(problem) = logs::init(&config.log.filter, logs::format(config.log.format)) {
        eprintln!("postern cannot start: {problem}");
        return ExitCode::from(EXIT_USAGE);
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("postern cannot start: the system gives no threads ({error})");
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    let code = runtime.block_on(serve(config));
    // Blocking reads of a store that hangs must not hold the exit.
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}

async fn serve(config: Config) -> ExitCode {
    let app = match app::bind(config).await {
        Ok(app) => app,
        Err(error) => {
            eprintln!("postern cannot start: {error}");
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("postern cannot start: it cannot listen for signals ({error})");
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    match app.run(ends(terminate, interrupt)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped because a part of the sidecar failed");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM is Kubernetes taking the pod down: endpoints need time to leave. SIGINT is a person at a terminal, who does not.
/// A second signal means at once.
fn ends(
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
) -> tokio::sync::mpsc::Receiver<Ending> {
    let (tx, rx) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let ending = tokio::select! {
                _ = terminate.recv() => Ending::Graceful,
                _ = interrupt.recv() => Ending::Prompt,
            };
            seen += 1;
            let ending = if seen > 1 { Ending::AtOnce } else { ending };
            if tx.send(ending).await.is_err() {
                return;
            }
        }
    });
    rx
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}
