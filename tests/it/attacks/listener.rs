//! Attacks on the listener itself: framing, odd requests, crowds, slow peers, TLS and its files.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::bench::{Bench, Message, OPEN_FILES, read_reply};
use crate::support::wait::PATIENCE;

/// Sends bytes, ends the sending side if asked, and answers all statuses that come before the end.
async fn statuses(bench: &Bench, bytes: &[u8], half_close: bool) -> Vec<u16> {
    let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
    let _ = stream.write_all(bytes).await;
    if half_close {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection never ended: {:?}", String::from_utf8_lossy(bytes));
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split("HTTP/1.").skip(1).map(|a| a[2..5].parse().expect("a status")).collect()
}

#[tokio::test]
async fn odd_requests_get_one_clear_answer_each_and_none_reaches_the_queue() {
    let bench = Bench::start().await;
    let body = String::from_utf8(Message::created("smuggled").signed(&bench).body()).expect("text");
    let length = body.len();
    let smuggled = format!("POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let close = "host: x\r\nconnection: close\r\n";
    let many = format!("GET / HTTP/1.1\r\n{close}{}\r\n", "a: b\r\n".repeat(10_000));
    let huge = format!("GET / HTTP/1.1\r\n{close}a: {}\r\n\r\n", "x".repeat(1_000_000));
    let long = format!("GET /{} HTTP/1.1\r\n{close}\r\n", "x".repeat(100_000));
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("10,000 headers", many, &[431]),
        ("a huge header", huge, &[431]),
        ("a long path", long, &[431]),
        ("a header without a value", format!("GET / HTTP/1.1\r\n{close}x-a:\r\n\r\n"), &[200]),
        ("a header without a colon", format!("GET / HTTP/1.1\r\n{close}x-a\r\n\r\n"), &[400]),
        ("a header without a name", format!("GET / HTTP/1.1\r\n{close}: a\r\n\r\n"), &[400]),
        ("HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n".into(), &[200]),
        ("NUL in a header", format!("GET / HTTP/1.1\r\n{close}x-a: \0\r\n\r\n"), &[400]),
        ("NUL in the path", format!("GET /\0 HTTP/1.1\r\n{close}\r\n"), &[400]),
        ("NUL in a name", format!("GET / HTTP/1.1\r\n{close}content-length\0: 1\r\n\r\n"), &[400]),
        ("a bare carriage return", format!("GET / HTTP/1.1\r\n{close}x-a: a\rcontent-length: 5\r\n\r\n"), &[400]),
        ("bare line feeds", "GET / HTTP/1.1\nhost: x\nconnection: close\n\n".into(), &[400]),
        ("an absolute target", format!("GET http://x/ HTTP/1.1\r\n{close}\r\n"), &[200]),
        ("an absolute target elsewhere", format!("POST http://evil/nothing HTTP/1.1\r\n{close}\r\n"), &[404]),
        ("an authority target", format!("GET x:443 HTTP/1.1\r\n{close}\r\n"), &[404]),
        ("CONNECT", format!("CONNECT x:443 HTTP/1.1\r\n{close}\r\n{smuggled}"), &[404]),
        ("an asterisk", format!("OPTIONS * HTTP/1.1\r\n{close}\r\n"), &[404]),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".into(), &[]),
        ("HTTP/3.0", format!("GET / HTTP/3.0\r\n{close}\r\n"), &[400]),
        ("HTTP/0.9", "GET /\r\n".into(), &[400]),
        ("an upgrade", format!("GET / HTTP/1.1\r\n{close}upgrade: h2c\r\nconnection: upgrade\r\n\r\n"), &[200]),
        (
            "a websocket",
            format!("POST /sns HTTP/1.1\r\n{close}upgrade: websocket\r\ncontent-length: 0\r\n\r\n{smuggled}"),
            &[400],
        ),
        (
            "a GET with a request as its body",
            format!("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len()),
            &[200],
        ),
        ("an unknown method", format!("SUBSCRIBE /sns HTTP/1.1\r\n{close}\r\n"), &[405]),
        ("no words at all", "\0\x01\x02\x03\r\n\r\n".into(), &[400]),
        ("a TLS hello", "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03".to_owned() + &"\r\n".repeat(4), &[400]),
        (
            "a huge chunk extension",
            format!(
                "POST /sns HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\n1;{}\r\nx\r\n0\r\n\r\n",
                "e".repeat(100_000)
            ),
            &[400],
        ),
        (
            "a huge trailer",
            format!(
                "POST /sns HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: {}\r\n\r\n",
                "e".repeat(100_000)
            ),
            &[400],
        ),
        (
            "10,000 trailers",
            format!(
                "POST /sns HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{}\r\n",
                "a: b\r\n".repeat(10_000)
            ),
            &[400],
        ),
        (
            "a chunk of 2^64 bytes",
            format!("POST /sns HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\nffffffffffffffff0\r\nx"),
            &[400],
        ),
        (
            "a chunk of 2^64 - 1 bytes",
            format!("POST /sns HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
            &[400],
        ),
        (
            "a length of 2^64 - 1",
            format!("POST /sns HTTP/1.1\r\n{close}content-length: 18446744073709551615\r\n\r\n"),
            &[431],
        ),
        (
            "lengths twice",
            format!("POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n{smuggled}"),
            &[400],
        ),
        (
            "a body of requests that nobody reads",
            format!("POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{smuggled}"),
            &[404],
        ),
        ("expectations of another kind", format!("GET / HTTP/1.1\r\n{close}expect: 200-ok\r\n\r\n"), &[200]),
        (
            "half a body",
            format!("POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", length + 1),
            &[400],
        ),
        ("half a head", "POST /sns HTTP/1.1\r\nhost: x\r\ncontent-le".into(), &[]),
    ];
    let mut wrong = Vec::new();
    for (what, request, expected) in &cases {
        let found = statuses(&bench, request.as_bytes(), true).await;
        if found != *expected {
            wrong.push(format!("{what}: {found:?} and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), bench.log());
    bench.app_knows_only(&[]).await;
    assert!(!bench.log().contains("panic"), "{}", bench.log());
}

fn genuine(bench: &Bench, key: &str) -> Vec<u8> {
    let body = Message::created(key).signed(bench).body();
    let head = format!("POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

/// It was once dropped unanswered, and what was under way with it.
#[tokio::test]
async fn a_sender_that_ends_its_side_after_the_request_is_answered() {
    let bench = Bench::start().await;
    assert_eq!(statuses(&bench, &genuine(&bench, "half closed"), true).await, [200]);
    assert_eq!(statuses(&bench, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", true).await, [200]);
    let pipelined = [genuine(&bench, "first"), genuine(&bench, "second")].concat();
    assert_eq!(statuses(&bench, &pipelined, true).await, [200, 200]);
    bench.app_knows_only(&["first", "half closed", "second"]).await;
}

#[tokio::test]
async fn a_genuine_message_gets_through_a_crowd_of_2000_silent_connections() {
    let bench = Bench::start().await;
    let mut crowd = Vec::new();
    for at in 0..2000 {
        // Past what it serves at once the others wait in line, and at last nobody gets into the line any more.
        let enough = if crowd.len() > 1024 { Duration::from_secs(5) } else { PATIENCE };
        let Ok(Ok(mut stream)) = timeout(enough, TcpStream::connect(bench.intake)).await else { break };
        let start: &[u8] = if at % 2 == 0 { b"" } else { b"POST /sns HTTP/1.1\r\nhost: x\r\ncontent-" };
        stream.write_all(start).await.expect("sent");
        crowd.push(stream);
    }
    assert!(crowd.len() > 1024, "only {}", crowd.len());
    let answered = timeout(PATIENCE, bench.send(&Message::created("through").signed(&bench))).await;
    assert_eq!(answered.expect("an answer in time"), 200);
    assert_eq!(bench.admin_get("/live").await.status, 200);
    drop(crowd);
    bench.app_knows_only(&["through"]).await;
}

/// The listener took every file that the process may open: nothing could be delivered, and accepting failed over and over.
#[tokio::test]
async fn a_crowd_never_takes_the_open_files_that_delivering_needs() {
    let bench = Bench::with(&[(OPEN_FILES, "256")]).await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(bench.intake).await.expect("a connection"));
    }
    let answered = timeout(PATIENCE, bench.send(&Message::created("through").signed(&bench))).await;
    assert_eq!(answered.expect("an answer in time"), 200);
    bench.wait_for("through").await;
    assert_eq!(bench.metric("outcome=\"accept_error\"").await, 0, "{}", bench.log());
    assert!(bench.log().contains("LimitNOFILE"), "the operator is told\n{}", bench.log());
}

/// A connection for which the system buffers less than the megabytes of answers that it would by itself: to make them all for each of
/// many peers takes a slow machine longer than a minute.
async fn bounded(to: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 << 10).expect("a small buffer");
    socket.connect(to).await.expect("a connection")
}

/// Reads as slowly as can be. A peer that reads nothing at all while it sends can make the system itself stand still in both directions:
/// it has no room for the small segments of the answers, drops them, and with them what they acknowledge. Then no request arrives any
/// more, nobody is a slow reader, and this test failed.
async fn sip(from: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut little = [0; 1024];
    while from.read(&mut little).await.is_ok_and(|n| n > 0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn peers_that_read_slowly_hold_up_nobody_else_and_are_cut() {
    let bench = Bench::start().await;
    let probes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (intake, probes) = (bench.intake, probes.clone());
        slow.spawn(async move {
            let mut stream = bounded(intake).await;
            let (mut reading, mut writing) = stream.split();
            // Until the other side has had enough.
            let flood = async { while writing.write_all(&probes).await.is_ok() {} };
            timeout(PATIENCE * 2, async {
                tokio::select! { () = flood => {}, () = sip(&mut reading) => {} }
            })
            .await
            .is_ok()
        });
    }
    for key in ["one", "two", "three"] {
        let answered = timeout(PATIENCE, bench.send(&Message::created(key).signed(&bench))).await;
        assert_eq!(answered.expect("an answer in time"), 200);
    }
    bench.app_knows_only(&["one", "three", "two"]).await;
    assert!(slow.join_all().await.into_iter().all(|cut| cut), "every slow reader is cut");
    // A connection is counted just after its peer sees the end.
    bench.eventually("all are counted", async |b| b.metric("outcome=\"slow_reader\"").await == 8).await;
}

#[tokio::test]
async fn thousands_of_pipelined_requests_on_one_connection_are_answered_in_order() {
    let bench = Bench::start().await;
    let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
    let (mut reading, mut writing) = stream.split();
    let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(5000);
    let send = async {
        writing.write_all(&requests).await.expect("sent");
        writing.shutdown().await.expect("ended");
    };
    let mut answers = Vec::new();
    let (_, read) = tokio::join!(send, timeout(PATIENCE, reading.read_to_end(&mut answers)));
    read.expect("it ends in time").expect("read");
    let text = String::from_utf8_lossy(&answers);
    let found: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(found.len(), 10_000);
    assert!(found.chunks(2).all(|pair| pair == ["200", "404"]));
}

#[tokio::test]
async fn whatever_is_thrown_at_the_tls_port_the_next_handshake_works() {
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
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let connect = async || {
        let tcp = TcpStream::connect(bench.intake).await.expect("a connection");
        let name = rustls::pki_types::ServerName::try_from("hooks.example.com").expect("a name");
        connector.connect(name, tcp).await.expect("a handshake")
    };

    let hello = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let huge_hello = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![0; 200_000]].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        hello.clone(),
        [hello.clone(), hello.clone()].concat(),
        huge_hello,
        vec![0x17, 3, 3, 0, 1, 0],
        vec![0x15, 3, 3, 0, 2, 2, 40],
        vec![0x80, 0x2e, 1, 0, 2],
    ] {
        let found = statuses(&bench, &garbage, true).await;
        assert!(found.is_empty(), "no HTTP is spoken in the clear: {found:?}");
    }
    // After a genuine handshake: another hello in the clear, then a record that nobody encrypted.
    for garbage in [hello.clone(), vec![0x17, 3, 3, 0, 32].into_iter().chain([9; 32]).collect()] {
        let (mut tcp, _session) = connect().await.into_inner();
        tcp.write_all(&garbage).await.expect("sent");
        let mut end = Vec::new();
        let _ = timeout(PATIENCE, tcp.read_to_end(&mut end)).await.expect("the connection ends");
        assert!(!String::from_utf8_lossy(&end).contains("HTTP/1.1"));
    }
    let mut stream = connect().await;
    stream.write_all(&genuine(&bench, "over tls")).await.expect("sent");
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
    bench.wait_for("over tls").await;
    assert!(!bench.log().contains("panic"), "{}", bench.log());
}

/// The answer was given before the request was read; it must survive a sender that goes on sending for a while.
#[tokio::test]
async fn an_early_refusal_reaches_a_sender_that_is_still_sending() {
    let bench = Bench::start().await;
    for head in [
        "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\n\r\n",
        "POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\ncontent-length: 400000\r\n\r\n",
        "POST /sns HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 400000\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(bench.intake).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let _ = stream.write_all(&[b'x'; 400_000]).await;
        let reply = read_reply(&mut stream).await.expect("an answer");
        assert!((400..=415).contains(&reply.status), "{head}: {reply:?}");
    }
}
