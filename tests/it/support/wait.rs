//! Waiting for something to become so, with a deadline that fails the test and says what was waited for.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: a slow machine makes a test slower, not red.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub(crate) async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
