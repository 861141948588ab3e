//! How it ends: named phases with a deadline (hard case 18).

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::RunError;
use crate::dispatch::worker::Progress;
use crate::health::Health;
use crate::shutdown::{Conductor, Phase};

/// How long endpoints get to leave before intake stops.
const LEAVING: Duration = Duration::from_secs(5);

/// How long tasks get to notice that all is over, after the deadline.
const STOPPING: Duration = Duration::from_secs(2);

/// How urgently to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Now: attempts in flight are cut off, not counted, and owed again at the next start.
    AtOnce,
    /// Kubernetes takes the pod down: first wait until nobody sends here any more.
    Graceful,
    /// Nobody is being routed here: drain without waiting.
    Prompt,
}

/// Waits for the end and goes through the phases up to the end of draining.
pub(super) async fn conduct(
    conductor: &Conductor,
    mut endings: mpsc::Receiver<Ending>,
    parts: &mut JoinSet<&'static str>,
    mut progress: watch::Receiver<Progress>,
    health: &Health,
    drain: Duration,
) -> Result<(), RunError> {
    let ending = tokio::select! {
        ending = endings.recv() => ending.unwrap_or(Ending::Prompt),
        ended = parts.join_next() => {
            let name = ended.and_then(Result::ok).unwrap_or("a part of the sidecar");
            tracing::error!(part = name, "a part of the sidecar ended by itself; shutting down");
            return Err(RunError(name));
        }
    };
    let deadline = Instant::now() + drain;
    if ending == Ending::AtOnce {
        return Ok(());
    }
    health.blocked("phase", "leaving: shutting down");
    conductor.enter(Phase::Leaving);
    if ending == Ending::Graceful {
        tracing::info!(
            phase = Phase::Leaving.as_str(),
            seconds = LEAVING.as_secs(),
            "not ready any more, still accepting"
        );
        tokio::select! {
            () = sleep_until((Instant::now() + LEAVING).min(deadline)) => {}
            _ = endings.recv() => return Ok(()),
        }
    }
    conductor.enter(Phase::Draining);
    tracing::info!(phase = Phase::Draining.as_str(), "no more intake; delivering what is owed until the deadline");
    // What was seen before may be from before the last notification; only what is seen from here on tells that nothing is owed.
    progress.mark_unchanged();
    let drained = async {
        loop {
            if progress.changed().await.is_err() {
                return "dispatch ended";
            }
            let now = *progress.borrow_and_update();
            if now.owed == 0 && now.in_flight == 0 {
                return "nothing is owed";
            }
            if now.all_paused_by_connect && now.in_flight == 0 {
                return "the app is gone; what is owed is kept for the next start";
            }
        }
    };
    let why = tokio::select! {
        why = drained => why,
        () = sleep_until(deadline) => "the deadline (POSTERN_DRAIN_TIMEOUT); what is owed is kept for the next start",
        _ = endings.recv() => "told again",
    };
    tracing::info!(phase = Phase::Stopping.as_str(), why, "stopping");
    Ok(())
}

/// Gives the parts a moment to end, then cuts them off.
pub(super) async fn join(mut parts: JoinSet<&'static str>) {
    let ended = async { while parts.join_next().await.is_some() {} };
    if timeout(STOPPING, ended).await.is_err() {
        tracing::warn!("some work did not end in time and was cut off");
    }
    parts.shutdown().await;
}
