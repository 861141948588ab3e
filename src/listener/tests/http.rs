//! What one request is answered: the transport rows of the attack table.

use super::*;

fn head_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(head, _)| head)
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn a_post_reaches_its_source_with_headers_body_and_peer() {
    let rig = rig(Limits::default()).await;
    let answer = rig.post("X-Amz-Sns-Message-Type: Notification\r\n", "hello").await;
    assert_eq!(status(&answer), 200);
    assert!(!answer.contains("server:"));
    let seen = rig.script.seen.lock().expect("not poisoned");
    assert_eq!(seen[0].body.as_ref(), b"hello");
    assert_eq!(seen[0].headers["x-amz-sns-message-type"], "Notification");
    assert!(seen[0].peer.is_loopback());
    assert_eq!(rig.received("sns", "accepted", 200), 1);
}

#[tokio::test]
async fn probes_are_200_without_content_and_other_methods_405() {
    let rig = rig(Limits::default()).await;
    for (request, expected, allow) in [
        ("GET / HTTP/1.1", 200, ""),
        ("HEAD / HTTP/1.1", 200, ""),
        ("GET /sns HTTP/1.1", 200, ""),
        ("HEAD /sns?x=1 HTTP/1.1", 200, ""),
        ("POST / HTTP/1.1", 405, "allow: GET, HEAD\r"),
        ("PUT /sns HTTP/1.1", 405, "allow: GET, HEAD, POST\r"),
        ("OPTIONS /sns HTTP/1.1", 405, "allow: GET, HEAD, POST\r"),
        ("OPTIONS * HTTP/1.1", 404, ""),
        ("CONNECT a:1 HTTP/1.1", 404, ""),
        ("GET /sns/ HTTP/1.1", 404, ""),
        ("POST /SNS HTTP/1.1", 404, ""),
        ("POST /%73ns HTTP/1.1", 404, ""),
    ] {
        let answer = rig.exchange(format!("{request}\r\nHost: p\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(status(&answer), expected, "{request}: {answer}");
        assert!(answer.contains(allow), "{request}: {answer}");
        assert!(expected != 200 || body_of(&answer).is_empty(), "{request}: {answer}");
    }
    assert_eq!(rig.seen(), 0);
}

#[tokio::test]
async fn a_query_is_allowed_and_http_1_0_is_served() {
    let rig = rig(Limits::default()).await;
    let answer = rig.exchange(b"POST /sns?token=1 HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(status(&answer), 200);
    assert_eq!(rig.seen(), 1);
}

#[tokio::test]
async fn an_unknown_path_is_answered_like_a_refusal_before_its_body_is_read() {
    let rig = rig(Limits::default()).await;
    let unknown = rig.exchange(b"POST /nothing HTTP/1.1\r\nHost: p\r\nContent-Length: 100000\r\n\r\n").await;
    let refused = rig.post("", "forged").await;
    assert_eq!((status(&unknown), status(&refused)), (404, 403));
    assert_eq!(body_of(&unknown), "{\"error\":\"refused\"}");
    assert_eq!(body_of(&unknown), body_of(&refused));
    assert!(!refused.contains("bad_signature"));
    assert_eq!(rig.received("listener", "not_found", 404), 1);
    assert_eq!(rig.received("sns", "bad_signature", 403), 1);
}

#[tokio::test]
async fn a_declared_length_beyond_the_limit_is_413_before_a_byte_of_it() {
    let rig = rig(Limits::default()).await;
    let request = format!("POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: {}\r\n\r\n", 512 * 1024 + 1);
    let answer = rig.exchange(request.as_bytes()).await;
    assert_eq!(status(&answer), 413);
    assert!(head_of(&answer).contains("connection: close"));
    assert_eq!(rig.seen(), 0);
}

#[tokio::test]
async fn a_client_that_sends_it_all_the_same_still_reads_its_413() {
    let rig = rig(Limits::default()).await;
    let mut request = format!("POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: {}\r\n\r\n", 600 * 1024).into_bytes();
    request.resize(request.len() + 600 * 1024, b'x');
    assert_eq!(status(&rig.exchange(&request).await), 413);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read_and_an_endless_chunked_one_stops_there() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let rig = rig(limits).await;
    assert_eq!(status(&rig.post("", &"x".repeat(1000)).await), 200);
    let head = "POST /sns HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    let fits = format!("{head}{}0\r\n\r\n", chunk.repeat(10)).replace("Host: p", "Host: p\r\nConnection: close");
    assert_eq!(status(&rig.exchange(fits.as_bytes()).await), 200);
    let endless = format!("{head}{}1\r\nx\r\n", chunk.repeat(10));
    let answer = rig.exchange(endless.as_bytes()).await;
    assert_eq!(status(&answer), 413);
    assert!(head_of(&answer).contains("connection: close"));
    assert_eq!(rig.seen(), 2);
}

#[tokio::test]
async fn bodies_that_would_not_fit_in_memory_together_are_503() {
    let rig = rig(Limits { bodies_bytes: 1000, ..Limits::default() }).await;
    let answer = rig.post("", &"x".repeat(1001)).await;
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("retry-after: "));
    assert_eq!(status(&rig.post("", &"x".repeat(1000)).await), 200);
    assert_eq!(status(&rig.post("", &"x".repeat(1000)).await), 200, "the bytes are given back");
}

#[tokio::test]
async fn an_encoded_body_is_415_and_identity_is_none() {
    let rig = rig(Limits::default()).await;
    assert_eq!(status(&rig.post("Content-Encoding: gzip\r\n", "x").await), 415);
    assert_eq!(status(&rig.post("Content-Encoding: identity\r\nContent-Encoding: br\r\n", "x").await), 415);
    assert_eq!(status(&rig.post("Content-Encoding: Identity\r\n", "x").await), 200);
    for content_type in ["", "Content-Type: text/csv\r\n", "Content-Type: application/json\r\n"] {
        assert_eq!(status(&rig.post(content_type, "x").await), 200);
    }
}

#[tokio::test]
async fn ambiguous_framing_is_400_and_the_connection_ends() {
    let rig = rig(Limits::default()).await;
    for (headers, body) in [
        ("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"),
        ("Content-Length: +2\r\n", "ab"),
        ("Content-Length: 2, 3\r\n", "abc"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\n", "x"),
        ("X-A: b\r\n folded\r\nContent-Length: 1\r\n", "x"),
        ("Content-Length : 1\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n", "zz\r\n"),
    ] {
        let smuggled = "GET / HTTP/1.1\r\nHost: p\r\n\r\n";
        let answer =
            rig.exchange(format!("POST /sns HTTP/1.1\r\nHost: p\r\n{headers}\r\n{body}{smuggled}").as_bytes()).await;
        assert_eq!(status(&answer), 400, "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
    }
    assert_eq!(rig.seen(), 0);
}

/// The HTTP library reads such messages by their Transfer-Encoding, or as if there were one length, and shows neither to the
/// service, as RFC 9112 6.3 allows. A proxy before us may have read them otherwise (A07).
#[tokio::test]
async fn a_body_framed_twice_is_400_and_the_connection_ends() {
    let rig = rig(Limits::default()).await;
    let headers = [
        "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n",
        "tRANSFER-eNCODING: chunked\r\nX-A: b\r\ncONTENT-lENGTH: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nX-A: b\r\ncontent-length: 6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "X-A: b\nTransfer-Encoding: chunked\r\n",
    ];
    for headers in headers {
        let smuggled = "POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 8\r\n\r\nsmuggled";
        let request = format!("POST /sns HTTP/1.1\r\nHost: p\r\n{headers}\r\n1\r\nx\r\n0\r\n\r\n{smuggled}");
        let answer = rig.exchange(request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{headers}: {answer}");
        assert!(head_of(&answer).contains("connection: close"), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
    }
    assert_eq!(rig.seen(), 0, "no source was asked");
    // The blank before a colon is refused by the HTTP library itself.
    assert_eq!(rig.received("listener", "smuggling", 400), headers.len() as u64 - 1);
}

#[tokio::test]
async fn headers_in_a_body_are_a_body_and_kept_connections_go_on() {
    let rig = rig(Limits::default()).await;
    let body = "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let length = body.len();
    let plain = format!("POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: {length}\r\n\r\n{body}");
    let chunked = format!(
        "POST /sns HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n{length:x};a=b\r\n{body}\r\n0\r\nContent-Length: 5\r\n\r\n"
    );
    let mut stream = rig.connect().await;
    for request in [&plain, &chunked, &plain, &format!("{chunked}{plain}{chunked}")] {
        stream.write_all(request.as_bytes()).await.expect("sent");
        assert_eq!(status(&read_one(&mut stream).await), 200, "{request}");
    }
    for _ in 0..2 {
        assert_eq!(status(&read_one(&mut stream).await), 200);
    }
    for byte in chunked.bytes() {
        stream.write_u8(byte).await.expect("sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&read_one(&mut stream).await), 200);
    assert!(rig.script.seen.lock().expect("not poisoned").iter().all(|r| r.body.as_ref() == body.as_bytes()));
    assert_eq!(rig.seen(), 7);
}

/// A 400 to the next request would lose a genuine message: its sender is told to come again on another connection.
#[tokio::test]
async fn after_a_body_whose_end_is_unclear_the_connection_ends_with_its_answer() {
    let rig = rig(Limits::default()).await;
    let zeros = "0".repeat(40);
    let odd = format!("POST /sns HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n{zeros}2\r\nhi\r\n0\r\n\r\n");
    let next = "POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\nhi";
    for request in [odd.clone(), format!("{odd}{next}")] {
        let answer = rig.exchange(request.as_bytes()).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(head_of(&answer).contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(rig.seen(), 2);
}

#[tokio::test]
async fn a_later_request_on_a_kept_connection_is_looked_at_like_the_first() {
    let rig = rig(Limits::default()).await;
    let good = "POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\nhi";
    let twice = "POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi";
    let mut stream = rig.connect().await;
    stream.write_all(good.as_bytes()).await.expect("sent");
    assert_eq!(status(&read_one(&mut stream).await), 200);
    stream.write_all(twice.as_bytes()).await.expect("sent");
    assert_eq!(status(&read_all(&mut stream).await), 400);

    let answers = rig.exchange(format!("{good}{good}{twice}{good}{good}").as_bytes()).await;
    let statuses: Vec<u16> = answers.split("HTTP/1.1").skip(1).map(|a| status(&format!("HTTP/1.1{a}"))).collect();
    assert_eq!(statuses, [200, 200, 400]);
    assert_eq!(rig.seen(), 3);
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_431() {
    let rig = rig(Limits::default()).await;
    let long = format!("GET / HTTP/1.1\r\nHost: p\r\nX-A: {}\r\n\r\n", "x".repeat(17 * 1024));
    assert_eq!(status(&rig.exchange(long.as_bytes()).await), 431);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(status(&rig.exchange(many.as_bytes()).await), 431);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_and_not_at_all_for_what_is_refused() {
    let rig = rig(Limits::default()).await;
    let mut stream = rig.connect().await;
    stream
        .write_all(b"POST /sns HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await
        .expect("sent");
    assert_eq!(status(&read_one(&mut stream).await), 100);
    stream.write_all(b"hi").await.expect("sent");
    assert_eq!(status(&read_one(&mut stream).await), 200);
    let refused = b"POST /sns HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 900000\r\n\r\n";
    assert_eq!(status(&rig.exchange(refused).await), 413);
}

#[tokio::test]
async fn trouble_of_our_own_is_503_with_retry_after() {
    let rig = rig(Limits::default()).await;
    let full = rig.post("", "full").await;
    assert_eq!(status(&full), 503);
    assert!(full.contains("retry-after: 7\r\n"));
    assert_eq!(body_of(&full), "{\"error\":\"unavailable\"}");
    let panicked = rig.post("", "panic").await;
    assert_eq!(status(&panicked), 503);
    assert_eq!(rig.received("sns", "panic", 503), 1);
    rig.script.refusing.store(true, Ordering::SeqCst);
    assert_eq!(status(&rig.post("", "x").await), 503);
    assert_eq!(rig.received("sns", "closing", 503), 1);
}

#[tokio::test]
async fn a_challenge_names_its_realm_and_a_handshake_has_its_body() {
    let rig = rig(Limits::default()).await;
    let challenge = rig.post("", "challenge").await;
    assert_eq!(status(&challenge), 401);
    assert!(challenge.contains("www-authenticate: Basic realm=\"postern\"\r\n"));
    let handshake = rig.post("", "handshake").await;
    assert!(handshake.contains("content-type: application/json\r\n"));
    assert_eq!(body_of(&handshake), "{\"signature\":\"ab\"}");
}

fn loopback() -> Vec<Cidr> {
    vec![Cidr { base: "127.0.0.0".parse().expect("an address"), prefix: 8 }]
}

#[tokio::test]
async fn a_forger_behind_a_trusted_proxy_gets_429_and_its_neighbours_do_not() {
    let rig = rig_with(Limits::default(), None, loopback()).await;
    let forge = "POST /sns HTTP/1.1\r\nHost: p\r\nX-Forwarded-For: 203.0.113.5\r\nContent-Length: 6\r\n\r\nforged";
    let mut stream = rig.connect().await;
    let mut last = String::new();
    for _ in 0..2000 {
        stream.write_all(forge.as_bytes()).await.expect("sent");
        last = read_one(&mut stream).await;
        if status(&last) != 403 {
            break;
        }
    }
    assert_eq!(status(&last), 429);
    assert!(last.contains("retry-after: "));
    assert_eq!(status(&rig.post("X-Forwarded-For: 203.0.113.6\r\n", "x").await), 200);
}

#[tokio::test]
async fn without_trusted_proxies_nobody_is_limited() {
    let rig = rig(Limits::default()).await;
    let mut stream = rig.connect().await;
    for _ in 0..700 {
        stream.write_all(b"POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 6\r\n\r\nforged").await.expect("sent");
        assert_eq!(status(&read_one(&mut stream).await), 403);
    }
}

#[tokio::test]
async fn challenges_that_sns_asks_for_are_no_refusals() {
    let rig = rig_with(Limits::default(), None, loopback()).await;
    let request = "POST /sns HTTP/1.1\r\nHost: p\r\nX-Forwarded-For: 203.0.113.5\r\nContent-Length: 9\r\n\r\nchallenge";
    let mut stream = rig.connect().await;
    for _ in 0..700 {
        stream.write_all(request.as_bytes()).await.expect("sent");
        assert_eq!(status(&read_one(&mut stream).await), 401);
    }
}
