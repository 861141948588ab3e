//! A01 to A08, A14 to A16: what the listener does before anybody reads the message.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bench::{Bench, Message, read_reply};
use crate::support::wait::PATIENCE;

fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a01_other_methods_are_not_allowed_and_probes_are_answered() {
    let bench = Bench::start().await;
    for (line, status) in [
        ("OPTIONS /sns", 405),
        ("PUT /sns", 405),
        ("DELETE /", 405),
        ("GET /", 200),
        ("HEAD /", 200),
        ("GET /sns", 200),
    ] {
        let reply = bench.raw(&request(line, "content-length: 0\r\n", "")).await;
        assert_eq!(reply.status, status, "{line}");
        assert!(status != 200 || reply.body.is_empty(), "{line}: a probe gets no content");
    }
}

#[tokio::test]
async fn a02_an_unknown_path_is_not_found() {
    let bench = Bench::start().await;
    for path in ["/snS", "/sns/", "/mcs/x", "/s3/x", "/../sns", "//sns", "/%73ns"] {
        let body = Message::created("a").signed(&bench).body();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let reply = bench.raw(&[head.as_bytes(), &body].concat()).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a03_a_length_above_the_limit_is_refused_before_the_body_is_read() {
    let bench = Bench::start().await;
    let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
    stream.write_all(b"POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: 524289\r\n\r\n").await.expect("written");
    let reply = read_reply(&mut stream).await.expect("an answer without a byte of the body");
    assert_eq!(reply.status, 413);
}

#[tokio::test]
async fn a04_a_chunked_body_that_never_ends_is_cut_at_the_limit() {
    let bench = Bench::start().await;
    let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
    stream.write_all(b"POST /sns HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.expect("written");
    let chunk = [b"8000\r\n".as_slice(), &vec![b'a'; 0x8000], b"\r\n"].concat();
    let (mut sent, begun) = (0, Instant::now());
    while stream.write_all(&chunk).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it goes on reading");
        sent += 1;
        // Once refused, further writes meet a closed connection.
        if sent > 17 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let reply = read_reply(&mut stream).await;
    assert!(reply.as_ref().map_or(true, |reply| reply.status == 413), "{reply:?}");
}

#[tokio::test]
async fn a05_slow_headers_and_slow_bodies_are_cut() {
    let bench = Bench::start().await;
    let mut headers = TcpStream::connect(bench.intake).await.expect("a connection");
    headers.write_all(b"POST /sns HTTP/1.1\r\nhost").await.expect("written");
    let mut body = TcpStream::connect(bench.intake).await.expect("a connection");
    body.write_all(b"POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.expect("written");
    let (headers, body) = tokio::join!(read_reply(&mut headers), read_reply(&mut body));
    assert!(headers.map_or(true, |reply| reply.status == 408), "slow headers");
    assert!(body.map_or(true, |reply| reply.status == 408), "slow body");
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a06_an_encoded_body_is_never_decompressed() {
    let bench = Bench::start().await;
    let body = Message::created("a").signed(&bench).body();
    let reply = bench.post_with(&body, &[("content-encoding", "gzip")]).await;
    assert_eq!(reply.status, 415);
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a07_ambiguous_framing_is_refused_and_the_connection_closed() {
    let bench = Bench::start().await;
    for headers in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "x-a: b\r\n c\r\ncontent-length: 0\r\n",
    ] {
        let bytes = format!("POST /sns HTTP/1.1\r\nhost: x\r\n{headers}\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("written");
        let reply = read_reply(&mut stream).await.expect("an answer");
        assert_eq!(reply.status, 400, "{headers:?}");
        let next = read_reply(&mut stream).await;
        assert!(next.is_err(), "{headers:?}: the connection is not used again: {next:?}");
    }
}

#[tokio::test]
async fn a08_any_content_type_is_accepted() {
    let bench = Bench::start().await;
    for (key, content_type) in [("json", Some("application/json")), ("csv", Some("text/csv")), ("none", None)] {
        let body = Message::created(key).signed(&bench).body();
        let kind = content_type.map_or(String::new(), |t| format!("content-type: {t}\r\n"));
        let head = format!(
            "POST /sns HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}content-length: {}\r\n\r\n",
            body.len()
        );
        assert_eq!(bench.raw(&[head.as_bytes(), &body].concat()).await.status, 200, "{content_type:?}");
    }
    bench.app_knows_only(&["csv", "json", "none"]).await;
}

#[tokio::test]
async fn a14_a15_basic_authentication_challenges_then_compares() {
    let bench =
        Bench::with(&[("POSTERN_SNS_BASIC_USERNAME", "sns"), ("POSTERN_SNS_BASIC_PASSWORD", "pass word")]).await;
    let body = Message::created("a").signed(&bench).body();
    let reply = bench.post(&body).await;
    assert_eq!(reply.status, 401);
    assert!(reply.head.to_ascii_lowercase().contains("www-authenticate: basic realm="), "{}", reply.head);
    // base64 of "sns:wrong" and of "sns:pass word"
    assert_eq!(bench.post_with(&body, &[("authorization", "Basic c25zOndyb25n")]).await.status, 401);
    assert_eq!(bench.post_with(&body, &[("authorization", "Basic c25zOnBhc3Mgd29yZA==")]).await.status, 200);
    bench.wait_for("a").await;
}

#[tokio::test]
async fn a16_only_tls_1_2_and_later_are_spoken_and_no_name_is_needed() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["hooks.example.com".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, private) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&chain, certificate.pem()).expect("written");
    std::fs::write(&private, key.serialize_pem()).expect("written");
    let bench = Bench::with(&[
        ("POSTERN_TLS", "on"),
        ("POSTERN_TLS_CERT_FILE", chain.to_str().expect("a path")),
        ("POSTERN_TLS_KEY_FILE", private.to_str().expect("a path")),
    ])
    .await;
    // A ClientHello of TLS 1.0 (record 3.1, hello 3.1) with one cipher suite and no extensions, so no name either.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
    stream.write_all(&hello).await.expect("written");
    let mut alert = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut alert).await;
    assert_eq!(alert.first(), Some(&0x15), "an alert ends the handshake: {alert:02x?}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let mut config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = false;
    let tcp = TcpStream::connect(bench.intake).await.expect("a connection");
    let name = rustls::pki_types::ServerName::try_from("hooks.example.com").expect("a name");
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await;
    assert!(tls.is_ok(), "a client that sends no name gets the certificate: {:?}", tls.err());
}
