//! Proxies for outgoing requests, in the words of the usual variables (hard case 22).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::OptionsError;
use super::connector::Io;
use super::failure::Failure;

/// The proxy variables as they were set; empty is unset. They may hold a password, so they are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `ALL_PROXY`: where the two below are not set.
    pub all: String,
    /// `HTTP_PROXY`: for `http` URLs.
    pub http: String,
    /// `HTTPS_PROXY`: for `https` URLs, which are tunnelled through it.
    pub https: String,
    /// `NO_PROXY`: names, domains, addresses and networks to reach directly, comma-separated, or `*`.
    pub no: String,
}

impl ProxySettings {
    /// Reads `ALL_PROXY`, `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper or else lower case. For `config` alone.
    pub fn from_env() -> Self {
        let read =
            |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).unwrap_or_default();
        Self { all: read("ALL_PROXY"), http: read("HTTP_PROXY"), https: read("HTTPS_PROXY"), no: read("NO_PROXY") }
    }

    /// Whether requests to `url` go through a proxy; for what connects without a [`Client`](super::Client). Settings that are not
    /// usable lead nowhere.
    pub fn covers(&self, url: &url::Url) -> bool {
        let uri = format!("{}/", url.origin().ascii_serialization()).parse::<Uri>();
        Proxies::new(self).is_ok_and(|proxies| uri.is_ok_and(|uri| proxies.intercept(&uri).is_some()))
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |value: &str| if value.is_empty() { "unset" } else { "set" };
        f.debug_struct("ProxySettings")
            .field("all", &set(&self.all))
            .field("http", &set(&self.http))
            .field("https", &set(&self.https))
            .field("no", &self.no)
            .finish()
    }
}

/// Which proxy a request takes.
#[derive(Clone)]
pub(super) struct Proxies(Arc<Matcher>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Proxies {
    pub(super) fn new(settings: &ProxySettings) -> Result<Self, OptionsError> {
        let named = [("ALL_PROXY", &settings.all), ("HTTP_PROXY", &settings.http), ("HTTPS_PROXY", &settings.https)];
        for (variable, value) in named {
            if !value.is_empty() && !is_http_proxy(value) {
                return Err(OptionsError::Proxy { variable });
            }
        }
        let matcher = Matcher::builder()
            .all(settings.all.as_str())
            .http(settings.http.as_str())
            .https(settings.https.as_str())
            .no(settings.no.as_str())
            .build();
        Ok(Self(Arc::new(matcher)))
    }

    /// The proxy for `uri`. This machine is never reached through one: the app beside us is not the proxy's neighbour.
    pub(super) fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?.trim_matches(['[', ']']);
        let here = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if here { None } else { self.0.intercept(uri) }
    }

    /// What a request that a proxy itself reads must carry; for a tunnel the CONNECT carries it.
    pub(super) fn plain_authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.intercept(uri)?.basic_auth().cloned()
    }
}

fn is_http_proxy(value: &str) -> bool {
    let Ok(uri) = value.parse::<Uri>() else { return false };
    uri.authority().is_some() && matches!(uri.scheme_str(), None | Some("http" | "https"))
}

/// Longest head of an answer to CONNECT.
const MAX_CONNECT_HEAD: usize = 8 * 1024;

/// Asks the proxy at the other end of `io` for a tunnel to the host of `uri`.
pub(super) async fn tunnel(
    mut io: Box<dyn Io>,
    uri: &Uri,
    authorization: Option<&HeaderValue>,
) -> Result<Box<dyn Io>, Failure> {
    let broke = |error: std::io::Error| Failure::Connect(format!("the proxy broke the connection: {error}"));
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(443);
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    io.write_all(&request).await.map_err(broke)?;

    let mut head = Vec::with_capacity(512);
    // Byte by byte, so that nothing behind the head is taken from the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_CONNECT_HEAD {
            return Err(Failure::Connect("the proxy's answer to CONNECT is too long".to_owned()));
        }
        head.push(io.read_u8().await.map_err(broke)?);
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok());
    match status {
        Some(status) if status.starts_with('2') => Ok(io),
        Some("407") => Err(Failure::Connect("the proxy wants other credentials (407): see HTTPS_PROXY".to_owned())),
        Some(status) if status.bytes().all(|c| c.is_ascii_digit()) => {
            Err(Failure::Connect(format!("the proxy refused a tunnel to {host}:{port} with status {status}")))
        }
        _ => Err(Failure::Connect("the proxy's answer to CONNECT is not HTTP".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no: &str) -> Proxies {
        let settings =
            ProxySettings { all: "http://user:secret@proxy:3128".into(), no: no.into(), ..Default::default() };
        assert!(!format!("{settings:?}").contains("secret"));
        Proxies::new(&settings).expect("usable settings")
    }

    #[test]
    fn this_machine_and_what_no_proxy_names_are_reached_directly() {
        let proxies = proxies("example.com, 10.0.0.0/8");
        for (url, through) in [
            ("http://app.test/", true),
            ("https://app.test/", true),
            ("http://localhost:8080/", false),
            ("https://127.0.0.1:8443/", false),
            ("http://[::1]/", false),
            ("http://a.example.com/", false),
            ("http://10.1.2.3/", false),
            ("unix://2f61/", false),
        ] {
            let uri = url.parse().expect("a URI");
            assert_eq!(proxies.intercept(&uri).is_some(), through, "{url}");
        }
        assert!(!format!("{proxies:?}").contains("secret"));
    }

    #[test]
    fn a_proxy_that_speaks_another_protocol_is_an_error_that_hides_its_value() {
        let settings = ProxySettings { https: "socks5://user:secret@proxy".into(), ..Default::default() };
        let error = Proxies::new(&settings).expect_err("not supported").to_string();
        assert!(error.starts_with("HTTPS_PROXY") && !error.contains("secret"), "{error}");
    }
}
