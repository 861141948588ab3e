//! A callback's URL as the two things a request needs: the URI that the pool and the connector know, and the Host header.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use hyper::Uri;
use hyper::header::HeaderValue;

use super::CallError;
use crate::config::CallbackUrl;

/// Scheme under which connections to a unix socket are pooled; the authority is the socket's path in hexadecimal.
const UNIX: &str = "unix";

pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) host: HeaderValue,
}

impl Target {
    pub(super) fn of(url: &CallbackUrl) -> Result<Self, CallError> {
        let (text, host) = match url {
            CallbackUrl::Http(url) => {
                // Put together anew, so that neither user info nor a fragment goes out.
                let mut authority = url.host_str().unwrap_or_default().to_owned();
                if let Some(port) = url.port() {
                    authority.push_str(&format!(":{port}"));
                }
                let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
                (format!("{}://{authority}{path}", url.scheme()), authority)
            }
            CallbackUrl::Unix { socket, path } => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                (format!("{UNIX}://{}{slash}{path}", hex(socket)), "localhost".to_owned())
            }
        };
        let unusable = |_| CallError::Connect("the URL cannot be the target of a request".to_owned());
        let uri = text.parse().map_err(unusable)?;
        let host = HeaderValue::from_str(&host)
            .map_err(|_| CallError::Connect("the URL's host cannot be a Host header".to_owned()))?;
        Ok(Self { uri, host })
    }
}

/// The socket that a URI made by [`Target::of`] stands for.
pub(super) fn socket_of(uri: &Uri) -> Option<PathBuf> {
    if uri.scheme_str() != Some(UNIX) {
        return None;
    }
    let digits = uri.host()?.as_bytes();
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes?)))
}

fn hex(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_and_fragment_stay_at_home() {
        let url = "http://user:pass@[::1]:8080/a?b=c#d".parse().expect("a URL");
        let target = Target::of(&CallbackUrl::Http(url)).expect("a target");
        assert_eq!(target.uri.to_string(), "http://[::1]:8080/a?b=c");
        assert_eq!(target.host, "[::1]:8080");
    }

    #[test]
    fn a_sockets_path_survives_the_way_through_a_uri() {
        let socket = PathBuf::from("/run/a b/Ärger.sock");
        let target =
            Target::of(&CallbackUrl::Unix { socket: socket.clone(), path: "/hook?x=1".into() }).expect("a target");
        assert_eq!(socket_of(&target.uri), Some(socket));
        assert_eq!(target.uri.path_and_query().map(|p| p.as_str()), Some("/hook?x=1"));
    }
}
