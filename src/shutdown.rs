//! The phases of shutting down (hard case 18), as one value that every long-lived part is given.
//!
//! `Running` -> `Leaving`: not ready any more, still accepting, because endpoints take time to leave -> `Draining`: no more
//! intake, deliveries go on until the deadline -> `Stopping`: attempts in flight are cut off, the store closes.

use tokio::sync::watch;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All is open.
    Running,
    /// Not ready, still accepting durably.
    Leaving,
    /// No intake; delivering what is owed.
    Draining,
    /// Nothing new is begun.
    Stopping,
}

impl Phase {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// The side that moves the phase on.
#[derive(Debug)]
pub struct Conductor(watch::Sender<Phase>);

/// The side that is told.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// A new life, in `Running`.
pub fn channel() -> (Conductor, Shutdown) {
    let (tx, rx) = watch::channel(Phase::Running);
    (Conductor(tx), Shutdown(rx))
}

impl Conductor {
    /// Moves on to `phase`; never back.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let moved = *now < phase;
            if moved {
                *now = phase;
            }
            moved
        });
    }
}

impl Shutdown {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one. A conductor that is gone counts as [`Phase::Stopping`].
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_is_never_left_backwards() {
        let (conductor, mut shutdown) = channel();
        conductor.enter(Phase::Draining);
        conductor.enter(Phase::Leaving);
        shutdown.reached(Phase::Leaving).await;
        assert_eq!(shutdown.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn a_conductor_that_is_gone_ends_the_wait() {
        let (conductor, mut shutdown) = channel();
        drop(conductor);
        shutdown.reached(Phase::Stopping).await;
    }
}
