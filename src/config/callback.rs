//! Where events go: the callback's URL and the headers that may be added to its POST.

use std::fmt;
use std::path::PathBuf;

use hyper::header::{HeaderName, HeaderValue};
use url::Url;

use super::CallbackUrl;
use super::problem::{quote, quote_url};
use super::text::{Wrong, wrong};

/// `sun_path` of Linux holds 108 bytes with the final zero.
const MAX_SOCKET_PATH: usize = 107;
/// As long as Cloud Elements' own field for it, with room.
const MAX_URL: usize = 2048;

impl CallbackUrl {
    /// Reads `http://…`, `https://…` or `unix:/path.sock:/http/path`.
    ///
    /// User information and fragments are refused. What is printed of a URL afterwards stops before its query, which may hold a token.
    ///
    /// # Errors
    /// What is wrong and what to do, without anything that may be secret.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        if text.len() > MAX_URL {
            return wrong(format!("the URL is longer than {MAX_URL} bytes"), "use a shorter one");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong(
                format!("{} holds a blank or control character", quote_url(text)),
                "percent-encode what is part of the URL and remove the rest",
            );
        }
        text.strip_prefix("unix:").map_or_else(|| http_url(text).map(Self::Http), unix)
    }

    /// Whether requests to it leave this machine unencrypted.
    pub(super) fn is_exposed(&self) -> bool {
        matches!(self, Self::Http(url) if url.scheme() == "http" && !super::network::is_loopback(url))
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => {
                write!(f, "{}{}", url.origin().ascii_serialization(), url.path())?;
                if url.query().is_some() { f.write_str("?…") } else { Ok(()) }
            }
            Self::Unix { socket, path } => {
                let (path, query) = path.split_once('?').map_or((path.as_str(), ""), |(path, _)| (path, "?…"));
                write!(f, "unix:{}:{path}{query}", socket.display())
            }
        }
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An `http` or `https` URL with a host and without user information and fragment.
pub(super) fn http_url(text: &str) -> Result<Url, Wrong> {
    const ADVICE: &str = "use http://host/path or https://host/path";
    // The parser would repair `http:app` and `http:\\app` as browsers do; what an operator means should not be guessed.
    let whole = text.split_once(':').is_some_and(|(_, rest)| rest.starts_with("//")) && !text.contains('\\');
    let Some(url) = Url::parse(text).ok().filter(|_| whole) else {
        return wrong(format!("{} is not a URL", quote_url(text)), ADVICE);
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong(format!("{} has the scheme {}", quote_url(text), quote(url.scheme())), ADVICE);
    }
    if !url.has_host() {
        return wrong(format!("{} names no host", quote_url(text)), ADVICE);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "the URL holds user information",
            "move it to a basic username and password setting, where it is kept secret",
        );
    }
    if url.fragment().is_some() {
        return wrong("the URL has a fragment, which is never sent", "remove what begins at #");
    }
    Ok(url)
}

fn unix(rest: &str) -> Result<CallbackUrl, Wrong> {
    const ADVICE: &str = "use unix:/path/to.sock:/http/path";
    let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
    if !socket.starts_with('/') || socket.len() < 2 {
        return wrong("the socket's path is not absolute", ADVICE);
    }
    if socket.len() > MAX_SOCKET_PATH {
        return wrong(format!("the socket's path is longer than {MAX_SOCKET_PATH} bytes"), "move the socket up");
    }
    if path.contains('#') || path.parse::<hyper::http::uri::PathAndQuery>().is_err() || !path.starts_with('/') {
        return wrong("what follows the socket is not an HTTP path", ADVICE);
    }
    Ok(CallbackUrl::Unix { socket: PathBuf::from(socket), path: path.to_owned() })
}

/// Headers that are the message's own: what frames it, what we say of it, and what proves it. None can be overridden (hard case 13).
const RESERVED: [&str; 15] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
/// Families of the same.
const RESERVED_PREFIXES: [&str; 3] = ["ce-", "elements-webhook-", "webhook-"];
/// Whether a header frames a message or belongs to one hop, so that it says nothing of who sent it.
pub(super) fn is_framing(lower_name: &str) -> bool {
    RESERVED.contains(&lower_name)
}

/// More would be a mistake, and servers refuse heads beyond some 8 KiB.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_BYTES: usize = 4096;

/// Whether a header, in lower case, is the message's own, so that no setting can override it (hard case 13).
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Checks `event.notification.callback.headers`. Values never occur in a failure: they are tokens more often than not.
pub(super) fn headers<'a>(
    pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    basic: bool,
) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<Wrong>> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut problems: Vec<Wrong> = Vec::new();
    let mut bytes = 0;
    for (name, value) in pairs {
        bytes += name.len() + value.map_or(0, str::len);
        let mut refuse = |what: String, advice: &str| problems.push((what, advice.to_owned()));
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            refuse(format!("{} is not a header name", quote(name)), "use letters, digits and hyphens");
            continue;
        };
        let lower = parsed.as_str();
        if is_reserved_header(lower) {
            refuse(format!("the header {} is set by postern itself", quote(name)), "remove it");
            continue;
        }
        if basic && lower == "authorization" {
            refuse(
                "the header Authorization is also made from the basic username and password".to_owned(),
                "keep one of the two",
            );
            continue;
        }
        if headers.iter().any(|(known, _)| *known == parsed) {
            refuse(format!("the header {} is given twice", quote(name)), "keep one");
            continue;
        }
        let Some(Ok(mut value)) = value.map(HeaderValue::from_str) else {
            refuse(
                format!("the value of the header {} is not visible text", quote(name)),
                "use a string without control characters",
            );
            continue;
        };
        value.set_sensitive(true);
        headers.push((parsed, value));
    }
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        problems.push((
            format!("there are more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"),
            "keep what the callback needs".to_owned(),
        ));
    }
    if problems.is_empty() { Ok(headers) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_urls_are_http_https_or_a_unix_socket_with_a_path() {
        assert!(matches!(CallbackUrl::parse("http://app:3000/events?x=1"), Ok(CallbackUrl::Http(_))));
        let unix = |socket: &str, path: &str| CallbackUrl::Unix { socket: socket.into(), path: path.into() };
        assert_eq!(CallbackUrl::parse("unix:/run/app.sock:/events?x=1"), Ok(unix("/run/app.sock", "/events?x=1")));
        assert_eq!(CallbackUrl::parse("unix:/run/app.sock"), Ok(unix("/run/app.sock", "/")));
    }

    #[test]
    fn other_callback_urls_are_refused() {
        let long = format!("unix:/{}", "s".repeat(107));
        for bad in [
            "",
            "app",
            "/events",
            "ftp://app/",
            "http://",
            "http:app",
            "http:/app",
            "http:\\\\app",
            "https://me@app/",
            "https://me:hunter2@app/",
            "http://app/#x",
            "http://app/a b",
            "http://app/\n",
            "unix:",
            "unix:run.sock",
            "unix:/run.sock:events",
            "unix:/run.sock:/a#b",
            "unix:/:/x",
            &long,
            &format!("http://app/{}", "x".repeat(2048)),
        ] {
            let refused = CallbackUrl::parse(bad).expect_err(bad);
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn an_at_sign_in_a_path_is_no_user_information() {
        assert!(CallbackUrl::parse("https://app/@events").is_ok());
    }

    #[test]
    fn a_printed_callback_stops_before_its_query() {
        for url in ["https://app:8443/events?token=hunter2", "unix:/run/app.sock:/events?token=hunter2"] {
            let callback = CallbackUrl::parse(url).expect(url);
            assert!(!format!("{callback} {callback:?}").contains("hunter2"));
            assert!(callback.to_string().ends_with("/events?…"), "{callback}");
        }
    }

    #[test]
    fn headers_of_ours_of_framing_and_of_the_proof_cannot_be_set() {
        let refused = |name: &str, basic| headers([(name, Some("v"))].into_iter(), basic).is_err();
        for name in [
            "Host",
            "content-LENGTH",
            "Transfer-Encoding",
            "Connection",
            "Content-Type",
            "Elements-Webhook-Signature",
            "WEBHOOK-id",
            "ce-id",
            "User-Agent",
            "bad name",
            "",
            "x:y",
        ] {
            assert!(refused(name, false), "{name}");
        }
        assert!(refused("Authorization", true));
        assert!(!refused("Authorization", false));
        assert!(!refused("X-Team", true));
    }

    #[test]
    fn header_values_are_marked_sensitive_and_never_part_of_a_failure() {
        let good = headers([("X-Token", Some("hunter2"))].into_iter(), false).expect("a header");
        assert!(!format!("{good:?}").contains("hunter2"));
        let bad =
            headers([("X-Token", Some("hunter2\n")), ("X-Other", None)].into_iter(), false).expect_err("a line break");
        assert_eq!(bad.len(), 2);
        assert!(!format!("{bad:?}").contains("hunter2"));
    }

    #[test]
    fn a_header_given_twice_in_different_case_is_refused() {
        assert!(headers([("X-A", Some("1")), ("x-a", Some("2"))].into_iter(), false).is_err());
    }
}
