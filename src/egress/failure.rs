//! What went wrong, out of the chains of errors that several libraries wrap around it.

use std::error::Error;
use std::io;

use super::CallError;

/// Why the connector made no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Dns(String),
    #[error("{0}")]
    Tls(String),
}

/// The class of an error of the client.
pub(super) fn classify(error: &hyper_util::client::legacy::Error) -> CallError {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(this) = cause {
        match this.downcast_ref::<Failure>() {
            Some(Failure::Connect(text)) => return CallError::Connect(text.clone()),
            Some(Failure::Dns(text)) => return CallError::Dns(text.clone()),
            Some(Failure::Tls(text)) => return CallError::Tls(text.clone()),
            None => cause = this.source(),
        }
    }
    broken(error)
}

/// The class of an error on a connection that stood: with TLS 1.3 a peer refuses us only after its handshake.
pub(super) fn broken(error: &(dyn Error + 'static)) -> CallError {
    let mut cause = Some(error);
    while let Some(this) = cause {
        // The source of an io::Error is its inner error's source, so the inner error itself must be asked for.
        let inner = this.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| this.downcast_ref());
        if let Some(tls) = tls {
            return CallError::Tls(tls.to_string());
        }
        cause = this.source();
    }
    CallError::Reset(chain(error))
}

/// An error and its causes in one line, without repeating what a cause already said.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let more = this.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = this.source();
    }
    text
}
