use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::receiver::{Act, Receiver};
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::authority::{Authority, Leaf, SIGNING_KEY_PEM};

const PATIENCE: Duration = Duration::from_secs(60);

fn client(options: Options) -> Client {
    Client::new(Options { idle_per_host: 8, ..options }).expect("usable options")
}

fn http(url: &str) -> CallbackUrl {
    CallbackUrl::Http(url.parse().expect("a URL"))
}

fn post(url: &CallbackUrl) -> Call<'_> {
    Call {
        method: Method::POST,
        url,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"hello"),
        timeout: PATIENCE,
        max_answer: 1024,
        refuse_longer: false,
    }
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let (receiver, at) = Receiver::start(|_| Act::with("200 OK", "", "fine")).await;
    let (client, url) = (client(Options::default()), http(&format!("http://{at}/hook?a=b")));
    for _ in 0..5 {
        let reply = client.call(post(&url)).await.expect("an answer");
        assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"fine"[..]));
    }
    assert_eq!((receiver.connections(), receiver.seen().len()), (1, 5));
    let seen = &receiver.seen()[0];
    assert!(seen.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.body, "hello");
}

#[tokio::test]
async fn a_connection_that_went_stale_is_no_failure() {
    // The second request on the first connection is read and then dropped: what a server does that closes idle connections
    // at the wrong moment.
    let (receiver, at) = Receiver::start(|seen| match (seen.connection, seen.request) {
        (0, 1) => Act::Close,
        _ => Act::status("200 OK"),
    })
    .await;
    let (client, url) = (client(Options::default()), http(&format!("http://{at}/")));
    for _ in 0..2 {
        client.call(post(&url)).await.expect("an answer");
    }
    assert_eq!((receiver.connections(), receiver.seen().len()), (2, 3));
}

#[tokio::test]
async fn a_connection_that_was_new_and_broke_is_a_failure() {
    let (receiver, at) = Receiver::start(|_| Act::Close).await;
    let url = http(&format!("http://{at}/"));
    let error = client(Options::default()).call(post(&url)).await.expect_err("no answer");
    assert!(matches!(error, CallError::Reset(_)), "{error:?}");
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (receiver, at) = Receiver::start(|_| Act::with("302 Found", "Location: /elsewhere\r\n", "")).await;
    let url = http(&format!("http://{at}/"));
    let reply = client(Options::default()).call(post(&url)).await.expect("an answer");
    assert_eq!((reply.status, receiver.seen().len()), (StatusCode::FOUND, 1));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (_receiver, at) = Receiver::start(|_| Act::Hang).await;
    let url = http(&format!("http://{at}/"));
    let call = Call { timeout: Duration::from_millis(100), ..post(&url) };
    let error = client(Options::default()).call(call).await.expect_err("no answer");
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_longer_than_asked_for_is_cut_or_refused() {
    let (receiver, at) = Receiver::start(|_| Act::with("200 OK", "", &"x".repeat(100_000))).await;
    let (client, url) = (client(Options::default()), http(&format!("http://{at}/")));
    assert_eq!(client.call(post(&url)).await.expect("an answer").body.len(), 1024);
    let error = client.call(Call { refuse_longer: true, ..post(&url) }).await.expect_err("too long");
    assert!(matches!(error, CallError::AnswerTooLarge(1024)), "{error:?}");
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn the_head_is_there_before_a_body_that_never_ends() {
    let (_receiver, at) =
        Receiver::start(|_| Act::Drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into())).await;
    let url = http(&format!("http://{at}/"));
    let answer = client(Options::default()).send(post(&url)).await.expect("a head");
    assert_eq!(answer.status, StatusCode::OK);
    let read = answer.read(1 << 20, Instant::now() + Duration::from_millis(50)).await;
    assert!(matches!(read, Err(CallError::Timeout(_))));
}

#[tokio::test]
async fn a_port_where_nobody_listens_and_a_name_that_does_not_resolve_are_told_apart() {
    let at = crate::simulator::ports::unused().expect("a port");
    let client = client(Options::default());
    let error = client.call(post(&http(&format!("http://{at}/")))).await.expect_err("nobody");
    assert!(matches!(error, CallError::Connect(_)), "{error:?}");
    let error = client.call(post(&http("http://no-such-host.invalid/"))).await.expect_err("no name");
    assert!(matches!(&error, CallError::Dns(text) if text.contains("no-such-host.invalid")), "{error:?}");
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_a_port() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("app.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let receiver = Receiver::new(|_| Act::status("204 No Content"));
    let serving = receiver.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serving.clone().serve(io));
        }
    });
    let (client, url) =
        (client(Options::default()), CallbackUrl::Unix { socket: socket.clone(), path: "/hook".into() });
    for _ in 0..2 {
        assert_eq!(client.call(post(&url)).await.expect("an answer").status, StatusCode::NO_CONTENT);
    }
    assert_eq!(receiver.connections(), 1);
    let head = &receiver.seen()[0].head;
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n") && head.contains("host: localhost\r\n"), "{head}");

    let url = CallbackUrl::Unix { socket: dir.path().join("none.sock"), path: "/".into() };
    let error = client.call(post(&url)).await.expect_err("no socket");
    assert!(matches!(&error, CallError::Connect(text) if text.contains("none.sock")), "{error:?}");
}

/// A receiver behind TLS for `name`, and the authority that issued its certificate.
async fn tls_receiver(name: &str) -> (Receiver, std::net::SocketAddr, Authority) {
    let authority = Authority::new(&Leaf::named(name, SystemClock.now().to_utc())).expect("an authority");
    let leaf = CertificateDer::from_pem_slice(authority.leaf_pem().as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(SIGNING_KEY_PEM.as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let receiver = Receiver::new(|_| Act::status("200 OK"));
    let serving = receiver.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let (serving, acceptor) = (serving.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(io) = acceptor.accept(io).await {
                    serving.serve(io).await;
                }
            });
        }
    });
    (receiver, at, authority)
}

#[tokio::test]
async fn an_extra_authority_is_trusted_and_a_stranger_is_not() {
    let (receiver, at, authority) = tls_receiver("localhost").await;
    let url = http(&format!("https://localhost:{}/", at.port()));
    let extra = vec![authority.root_pem().as_bytes().to_vec()];
    let trusting = client(Options { extra_ca_pem: extra, ..Options::default() });
    for _ in 0..2 {
        trusting.call(post(&url)).await.expect("an answer");
    }
    assert_eq!(receiver.connections(), 1);
    let error = client(Options::default()).call(post(&url)).await.expect_err("a stranger");
    assert!(matches!(&error, CallError::Tls(text) if text.contains("UnknownIssuer")), "{error:?}");
    let error =
        trusting.call(post(&http(&format!("https://127.0.0.1:{}/", at.port())))).await.expect_err("another name");
    assert!(matches!(error, CallError::Tls(_)), "{error:?}");
}

#[test]
fn an_authority_file_without_a_certificate_is_an_error() {
    for pem in [&b"nothing"[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error =
            Client::new(Options { extra_ca_pem: vec![pem.to_vec()], ..Options::default() }).expect_err("no good");
        assert!(error.to_string().contains("POSTERN_EGRESS_CA_FILE"), "{error}");
    }
}

/// A proxy that answers CONNECT with `answer` and then leads to `to`, whatever was asked for; and what it was asked.
async fn tunnel_to(to: std::net::SocketAddr, answer: &'static str) -> (String, Arc<std::sync::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let asked = Arc::new(std::sync::Mutex::new(String::new()));
    let noting = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(io.read_u8().await.expect("a head"));
            }
            *noting.lock().expect("no panic before") = String::from_utf8(head).expect("text");
            io.write_all(answer.as_bytes()).await.expect("written");
            if answer.contains(" 200 ") {
                tokio::spawn(async move {
                    let mut inner = TcpStream::connect(to).await.expect("connected");
                    let _ = tokio::io::copy_bidirectional(&mut io, &mut inner).await;
                });
            }
        }
    });
    (format!("http://user:pass@{at}"), asked)
}

#[tokio::test]
async fn https_is_tunnelled_through_a_proxy() {
    let (receiver, at, authority) = tls_receiver("app.test").await;
    let (proxy, asked) = tunnel_to(at, "HTTP/1.1 200 Connection established\r\n\r\n").await;
    let client = client(Options {
        extra_ca_pem: vec![authority.root_pem().as_bytes().to_vec()],
        proxy: ProxySettings { https: proxy, ..ProxySettings::default() },
        ..Options::default()
    });
    client.call(post(&http("https://app.test/hook"))).await.expect("an answer");
    let asked = asked.lock().expect("no panic before").clone();
    assert!(asked.starts_with("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n"), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{asked}");
    let head = &receiver.seen()[0].head;
    assert!(head.starts_with("POST /hook HTTP/1.1") && !head.to_ascii_lowercase().contains("proxy-auth"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_says_so_in_the_error() {
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    for (answer, told) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502"),
        ("SSH-2.0-whatever\r\n\r\n", "not HTTP"),
    ] {
        let (proxy, _) = tunnel_to(nowhere, answer).await;
        let client =
            client(Options { proxy: ProxySettings { https: proxy, ..Default::default() }, ..Options::default() });
        let error = client.call(post(&http("https://app.test/"))).await.expect_err("refused");
        assert!(matches!(&error, CallError::Connect(text) if text.contains(told)), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url_of_plain_http() {
    let (receiver, at) = Receiver::start(|_| Act::status("200 OK")).await;
    let proxy = ProxySettings { http: format!("http://user:pass@{at}"), ..ProxySettings::default() };
    let client = client(Options { proxy, ..Options::default() });
    client.call(post(&http("http://app.test:8080/hook?x"))).await.expect("an answer");
    let head = receiver.seen()[0].head.clone();
    assert!(head.starts_with("POST http://app.test:8080/hook?x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
}

#[test]
fn what_goes_through_a_proxy_can_be_told_beforehand() {
    let settings =
        ProxySettings { https: "http://proxy:3128".into(), no: "inside.example".into(), ..ProxySettings::default() };
    let covers = |url: &str| settings.covers(&url.parse().expect("a URL"));
    assert!(covers("https://events.example.com:8443/x"));
    for direct in ["http://events.example.com/", "https://inside.example/", "https://127.0.0.1/", "https://[::1]:1/"] {
        assert!(!covers(direct), "{direct}");
    }
    assert!(!ProxySettings { https: "nonsense://".into(), ..settings }.covers(&"https://a.b/".parse().expect("a URL")));
}
