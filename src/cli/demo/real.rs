//! The demo with a real S3 and a real SNS: LocalStack, which `tests/tools/localstack` installs and starts.
//!
//! That script's contract: `start <state folder>` installs what is missing into a cache folder, starts LocalStack on a free loopback
//! port and prints one line `endpoint=http://127.0.0.1:<port>`; `stop <state folder>` ends it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use url::Url;

use super::{Args, PATIENCE, Stage, Story};
use crate::simulator::localstack::LocalStack;
use crate::simulator::process::Sidecar;
use crate::simulator::receiver::Behaviour;

const SCRIPT: &str = "tests/tools/localstack";
const BUCKET: &str = "demo-bucket";
const OWED: usize = 20;

/// How long LocalStack takes at most to send what was published; measured, it is under a second.
const SNS_DELAY: Duration = Duration::from_secs(3);

/// A LocalStack that is stopped when this is dropped.
#[derive(Debug)]
struct Started {
    script: PathBuf,
    state: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut stop = Command::new(&self.script);
        let _ = stop.arg("stop").arg(&self.state).stdin(Stdio::null()).stdout(Stdio::null()).status();
    }
}

/// Runs the script's `start`, whose progress goes to our standard error.
fn start(state: &Path) -> Result<(Started, Url), String> {
    let script = std::path::absolute(SCRIPT).unwrap_or_else(|_| PathBuf::from(SCRIPT));
    if !script.is_file() {
        return Err(format!(
            "{SCRIPT} is not here: --localstack needs a checkout of the project, run from its top folder. \
             Without --localstack the demo needs nothing"
        ));
    }
    std::fs::create_dir_all(state).map_err(|error| format!("cannot make {}: {error}", state.display()))?;
    let started = Started { script: script.clone(), state: state.to_owned() };
    let output = Command::new(&script).arg("start").arg(state).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {SCRIPT}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{SCRIPT} start ended with {}; what it says above tells why", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    endpoint_in(&said)
        .map(|endpoint| (started, endpoint))
        .ok_or_else(|| format!("{SCRIPT} start named no endpoint: {said}"))
}

fn endpoint_in(said: &str) -> Option<Url> {
    said.lines().find_map(|line| Url::parse(line.trim().strip_prefix("endpoint=")?).ok())
}

pub(super) async fn tell(args: &Args, story: &mut Story) -> Result<(), String> {
    let mut stage = Stage::set(args).await?;
    story.step("A real S3 and a real SNS on this machine (LocalStack)");
    story.line("Starting it; the first time it is installed, which takes a minute ...");
    let state = stage.scratch.path().join("localstack");
    let (_started, endpoint) = tokio::task::spawn_blocking(move || start(&state))
        .await
        .map_err(|error| format!("cannot start LocalStack: {error}"))??;
    let failed = |error: crate::simulator::localstack::CallError| error.to_string();
    let mut localstack = LocalStack::new(&endpoint).map_err(|error| error.to_string())?;
    let topic = localstack.create_topic(&format!("postern-{}", stage.dice.hex(6)), 2).await.map_err(failed)?;
    let anchor = stage.scratch.path().join("sns-anchor.pem");
    let certificate = localstack.signing_certificate().await.map_err(failed)?;
    std::fs::write(&anchor, certificate).map_err(|error| format!("cannot write {}: {error}", anchor.display()))?;
    let sidecar = Sidecar::new(&stage.binary, stage.scratch.path())
        .map_err(|error| format!("no free ports: {error}"))?
        .with("POSTERN_SNS_ENDPOINT_URL", endpoint.as_str().trim_end_matches('/'))
        .with("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor)
        .with("EVENT_SNS_TOPIC_ARN", topic.as_str())
        .with("EVENT_NOTIFICATION_CALLBACK_URL", stage.app.url())
        .with("EVENT_NOTIFICATION_SIGNATURE_KEY", stage.key.as_str());
    let (running, took) = sidecar.start(PATIENCE).await.map_err(|error| error.to_string())?;
    story.line(&format!("S3, SNS  {endpoint}  topic {topic}"));
    story.line(&format!("Postern  {}  ready after {} ms", sidecar.url("/sns"), took.as_millis()));
    story.line(&format!("App      {}  takes events and checks their signatures", stage.app.url()));

    story.step("The topic is subscribed; SNS asks for confirmation, Postern confirms");
    localstack.subscribe(&topic, &sidecar.url("/sns")).await.map_err(failed)?;
    let begun = Instant::now();
    let mut confirmed = false;
    while !confirmed && begun.elapsed() < PATIENCE {
        confirmed = localstack.is_confirmed(&topic).await.map_err(failed)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    story.check(confirmed, "SNS lists the subscription as confirmed");

    story.step("An object is written, tagged and deleted in S3");
    localstack.create_bucket(BUCKET, &topic).await.map_err(failed)?;
    let key = "orders/2026/first order.txt";
    // Each change is waited for, because LocalStack delivers side by side and its sequencer is a constant.
    localstack.put_object(BUCKET, key, "hello").await.map_err(failed)?;
    let created = stage.app.wait_until(PATIENCE, |app| app.events.len() == 1).await;
    story.check(created, "written: the app was told");
    localstack.tag_object(BUCKET, key).await.map_err(failed)?;
    let tagged = stage.app.wait_until(PATIENCE, |app| app.events.len() == 2).await;
    story.check(tagged, "tagged: the app was told");
    localstack.delete_object(BUCKET, key).await.map_err(failed)?;
    let deleted = stage.app.wait_until(PATIENCE, |app| app.events.len() == 3).await;
    story.check(deleted, "deleted: the app was told");
    stage.show_callback(story);

    story.step("The app is away, and the sidecar is killed");
    stage.app.always(Behaviour::Status(503));
    for number in 0..OWED {
        localstack.put_object(BUCKET, &format!("owed/object {number:02}.txt"), "x").await.map_err(failed)?;
    }
    story.line(&format!("{OWED} objects are written; S3 and SNS take a moment to say so ..."));
    // LocalStack sends in the background and only once: what is not accepted before the kill would never come again.
    tokio::time::sleep(SNS_DELAY).await;
    let running = stage.owed_over_a_kill(story, &sidecar, running, OWED).await?;

    story.step("The ledger");
    let (distinct, clean) = stage.app.ledger(|app| (app.objects.len(), app.is_clean()));
    story.line(&format!("{distinct:>5}  objects that the app knows of, of {} that were changed", OWED + 1));
    story.check(distinct == OWED + 1, "every change was delivered, and nothing else");
    story.check(clean, "every callback was signed rightly");
    story.end();
    drop(running);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_read_from_what_the_script_says() {
        let said = "installing ...\nendpoint=http://127.0.0.1:4566\n";
        assert_eq!(endpoint_in(said).map(String::from).as_deref(), Some("http://127.0.0.1:4566/"));
        assert_eq!(endpoint_in("nothing"), None);
    }
}
