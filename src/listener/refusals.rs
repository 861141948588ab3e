//! The log of refusals: enough to see what goes on, never more than a flood deserves.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

/// Lines in each second; what comes on top is summed up in the next line.
const LINES_PER_SECOND: u32 = 10;

/// Decides which refusals are logged.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl RefusalLog {
    /// Logs one refusal, or counts it as suppressed. Never the body, path or headers: they are the stranger's words.
    pub(super) fn note(&self, source: &'static str, reason: &'static str, status: StatusCode, peer: IpAddr) {
        let Some(suppressed) = self.admit(Instant::now()) else { return };
        if suppressed > 0 {
            tracing::info!(suppressed, "{suppressed} more refusals were not logged");
        }
        tracing::info!(source, reason, status = status.as_u16(), %peer, "refused a request");
    }

    /// `None` when this line is suppressed, else how many were since the last line.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES_PER_SECOND {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_second_and_then_their_sum() {
        let (log, start) = (RefusalLog::default(), Instant::now());
        let shown = (0..1000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(shown, 10);
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(990));
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(0));
    }
}
