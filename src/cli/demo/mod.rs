//! `postern demo`: the whole path on this machine, told step by step: a signing SNS, the sidecar, and an app that checks signatures;
//! and in short the second system that comes in by the same door, MCS S3.
//!
//! The sidecar is a process of its own, because part of what is shown is what outlives its SIGKILL.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::simulator::dice::Dice;
use crate::simulator::process::{ProcessError, Running, Sidecar};
use crate::simulator::receiver::{self, Behaviour, Receiver};

mod real;
mod scratch;
mod second;
mod simulated;
mod story;

use scratch::Scratch;
use story::Story;

/// Show what Postern does, on this machine alone: no account, no network, no settings.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Use a real S3 and a real SNS (LocalStack) instead of the simulator; needs a checkout of the project, installs on first use
    #[arg(long)]
    pub localstack: bool,

    /// The sidecar to run, instead of this very program
    #[arg(long, value_name = "FILE", hide = true)]
    pub binary: Option<PathBuf>,
}

/// How long a step may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command: 0 when everything was as told, 1 when anything was off, 2 when it could not begin.
pub async fn run(args: Args) -> ExitCode {
    let mut story = Story::default();
    let told =
        if args.localstack { real::tell(&args, &mut story).await } else { simulated::tell(&args, &mut story).await };
    match told {
        Ok(()) if story.is_well() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        Err(why) => {
            story.complain(&why);
            ExitCode::from(2)
        }
    }
}

/// The parts that both stories share.
struct Stage {
    scratch: Scratch,
    binary: PathBuf,
    key: String,
    app: Receiver,
    dice: Dice,
}

impl Stage {
    async fn set(args: &Args) -> Result<Self, String> {
        let binary = match &args.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe().map_err(|error| format!("cannot tell which program this is: {error}"))?,
        };
        let mut dice = Dice::new();
        let scratch = Scratch::new(&mut dice).map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let key = format!("demo-{}", dice.hex(32));
        let options = receiver::Options { keys: vec![key.clone()], ..receiver::Options::default() };
        let app = Receiver::start(options).await.map_err(|error| format!("the app cannot listen: {error}"))?;
        Ok(Self { scratch, binary, key, app, dice })
    }

    /// The app is away while `during` hands events over; the sidecar is killed with what it owes and started again.
    async fn owed_over_a_kill(
        &self,
        story: &mut Story,
        sidecar: &Sidecar,
        running: Running,
        owed: usize,
    ) -> Result<Running, String> {
        let before = self.app.ledger(|app| app.events.len());
        story.line(&format!(
            "The sidecar now owes {owed} events. It is killed with SIGKILL, without a chance to tidy up ..."
        ));
        running.kill();
        self.app.always(Behaviour::Status(200));
        let (running, took) = sidecar.start(PATIENCE).await.map_err(|error: ProcessError| error.to_string())?;
        story.line(&format!("... and started again on the same folder: ready after {} ms.", took.as_millis()));
        let all = self.app.wait_until(PATIENCE, |app| app.events.len() >= before + owed).await;
        let got = self.app.ledger(|app| app.events.len()) - before;
        story.check(all, &format!("{got} of {owed} events came out of the store and reached the app"));
        Ok(running)
    }

    /// Shows the last callback as it came and what the app found when it checked it.
    fn show_callback(&self, story: &mut Story) {
        let Some(callback) = self.app.ledger(|app| app.last.back().cloned()) else { return };
        story.line("One of these callbacks, as the app received it:\n");
        for name in ["elements-webhook-id", "elements-webhook-signature", "webhook-timestamp", "webhook-signature"] {
            if let Some(value) = callback.headers.get(name).and_then(|value| value.to_str().ok()) {
                story.quote(&format!("{name}: {value}"));
            }
        }
        story.quote("");
        let body = String::from_utf8_lossy(&callback.body);
        story::indented(&body).lines().for_each(|line| story.quote(line));
        story.line("");
        let checked = callback.checked.unwrap_or_default();
        story.check(checked.elements == Some(true), "Elements-Webhook-Signature is the HMAC of exactly this body");
        story.check(checked.standard == Some(true), "the Standard Webhooks signature fits as well");
    }
}

fn word(status: Option<u16>) -> String {
    status.map_or_else(|| "nothing at all".to_owned(), |status| status.to_string())
}

#[cfg(test)]
mod tests;
