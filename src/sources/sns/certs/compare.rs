//! Whether our clock was compared with a server's lately.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::{FAILURE_FOR, Inner};
use crate::sources::sns::refusal::Reason;

/// How long a comparison of our clock with a server's holds before a message is refused for its time.
const COMPARED_FOR: Duration = Duration::from_secs(15 * 60);

impl Inner {
    /// See [`super::CertificateStore::clock_is_known`].
    pub(super) async fn clock_is_known(&self, url: &Url) -> bool {
        let is_compared = || {
            let compared = *self.compared.lock().unwrap_or_else(PoisonError::into_inner);
            compared.is_some_and(|at| at.elapsed() < COMPARED_FOR)
        };
        if is_compared() {
            return true;
        }
        let mut failed = self.comparing.lock().await;
        if is_compared() {
            return true;
        }
        if failed.is_some_and(|at| at.elapsed() < FAILURE_FOR) {
            return false;
        }
        // What it answers does not matter: every answer has a date.
        let answered = !matches!(self.fetch(url).await, Err(refusal) if refusal.reason == Reason::CertFetch);
        *failed = Some(Instant::now());
        if answered {
            // A server without a clock of its own leaves us with ours.
            *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        is_compared()
    }
}
