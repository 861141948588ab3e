//! Connections: their bounds in time and number, and their end.

use super::*;
use crate::shutdown::Phase;

const SHORT: Duration = Duration::from_millis(150);

const REQUEST: &[u8] = b"POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\nhi";
const WAITING: &[u8] = b"POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\n\r\nwait";

/// Sends a byte every few milliseconds until the other side closes; answers what came back.
async fn trickle(mut stream: TcpStream, bytes: &[u8]) -> String {
    for byte in bytes.iter().cycle().take(4000) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let mut answer = [0; 1024];
        match timeout(Duration::from_millis(20), stream.read(&mut answer)).await {
            Ok(Ok(n)) => return String::from_utf8_lossy(&answer[..n]).into_owned(),
            Ok(Err(_)) => return String::new(),
            Err(_) => {}
        }
    }
    panic!("the connection was never closed");
}

#[tokio::test]
async fn a_slow_head_is_cut_however_steadily_it_trickles() {
    let rig = rig(Limits { head: SHORT, ..Limits::default() }).await;
    assert_eq!(trickle(rig.connect().await, b"X").await, "");
    assert_eq!(read_all(&mut rig.connect().await).await, "", "silence is a slow head too");
    let mut reused = rig.connect().await;
    reused.write_all(REQUEST).await.expect("sent");
    assert_eq!(status(&read_one(&mut reused).await), 200);
    assert_eq!(trickle(reused, b"P").await, "");
    rig.conductor.enter(Phase::Stopping);
    rig.task.await.expect("no panic");
    assert_eq!(rig.metrics.connections_cut.get_or_create(&Outcome { outcome: "slow_head" }).get(), 3);
    assert_eq!(rig.metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_slow_body_is_408_and_the_connection_ends() {
    let rig = rig(Limits { body: SHORT, ..Limits::default() }).await;
    let mut stream = rig.connect().await;
    stream.write_all(b"POST /sns HTTP/1.1\r\nHost: p\r\nContent-Length: 5000\r\n\r\n").await.expect("sent");
    let answer = trickle(stream, b"x").await;
    assert_eq!(status(&answer), 408);
    assert!(answer.contains("connection: close"));
    assert_eq!(rig.received("sns", "timeout", 408), 1);
}

#[tokio::test]
async fn a_source_that_never_answers_is_503() {
    let rig = rig(Limits { answer: SHORT, ..Limits::default() }).await;
    assert_eq!(status(&rig.post("", "wait").await), 503);
    assert_eq!(rig.received("sns", "timeout", 503), 1);
}

#[tokio::test]
async fn a_peer_that_hardly_reads_its_answers_is_cut() {
    let rig = rig(Limits { write: SHORT, ..Limits::default() }).await;
    // A bounded window, so that little has to be answered before nothing goes on; by itself the system would buffer megabytes.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 << 10).expect("a small buffer");
    let mut stream = socket.connect(rig.address).await.expect("a connection");
    let (mut reading, mut writing) = stream.split();
    let flood = b"GET / HTTP/1.1\r\nHost: p\r\n\r\n".repeat(1000);
    let sent = timeout(PATIENCE, async {
        tokio::select! {
            () = async { while writing.write_all(&flood).await.is_ok() {} } => {}
            // A sip now and then: of a peer that reads nothing at all the system drops, with answers for which it has no room, what they
            // acknowledge, and may stand still before anybody is slow.
            () = async {
                let mut little = [0; 1024];
                while reading.read(&mut little).await.is_ok_and(|n| n > 0) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            } => {}
        }
    })
    .await;
    assert!(sent.is_ok(), "the connection was never closed");
    // A connection is counted just after its peer sees the end.
    eventually(async || rig.cut("slow_reader") == 1).await;
}

#[tokio::test]
async fn a_kept_connection_is_reused_and_lives_longer_than_a_head_may_take() {
    let rig = rig(Limits { head: SHORT, ..Limits::default() }).await;
    let mut stream = rig.connect().await;
    for _ in 0..3 {
        stream.write_all(REQUEST).await.expect("sent");
        assert_eq!(status(&read_one(&mut stream).await), 200);
        tokio::time::sleep(SHORT * 2).await;
    }
    assert_eq!(rig.metrics.connections.get(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = rig(Limits::default()).await;
    let mut stream = rig.connect().await;
    stream.write_all(&[REQUEST, b"GET /nothing HTTP/1.1\r\nHost: p\r\n\r\n", REQUEST].concat()).await.expect("sent");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(status(&read_one(&mut stream).await));
    }
    assert_eq!(seen, [200, 404, 200]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let rig = rig(Limits { idle: SHORT, ..Limits::default() }).await;
    let mut stream = rig.connect().await;
    stream.write_all(REQUEST).await.expect("sent");
    assert_eq!(status(&read_one(&mut stream).await), 200);
    assert_eq!(read_all(&mut stream).await, "");
    eventually(async || rig.cut("idle") == 1).await;
}

#[tokio::test]
async fn at_the_limit_a_newcomer_waits_until_one_ends() {
    let rig = rig(Limits { connections: 1, crowded_head: PATIENCE, ..Limits::default() }).await;
    let mut first = rig.connect().await;
    first.write_all(WAITING).await.expect("sent");
    rig.script.entered.notified().await;
    let mut second = rig.connect().await;
    second.write_all(REQUEST).await.expect("sent");
    assert!(timeout(SHORT, second.read_u8()).await.is_err(), "the second was served beyond the limit");
    drop(first);
    assert!(
        timeout(SHORT, second.read_u8()).await.is_err(),
        "work that was begun keeps its place when its peer is gone"
    );
    rig.script.gate.add_permits(1);
    assert_eq!(status(&read_one(&mut second).await), 200);
}

#[tokio::test]
async fn idle_connections_make_room_when_connections_are_crowded() {
    let rig = rig(Limits { connections: 4, crowded_idle: SHORT, ..Limits::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = rig.connect().await;
        stream.write_all(REQUEST).await.expect("sent");
        assert_eq!(status(&read_one(&mut stream).await), 200);
        idle.push(stream);
    }
    let mut newcomer = rig.connect().await;
    newcomer.write_all(REQUEST).await.expect("sent");
    assert_eq!(status(&read_one(&mut newcomer).await), 200);
    eventually(async || rig.cut("idle") >= 1).await;
}

#[tokio::test]
async fn leaving_tells_kept_connections_to_go_elsewhere_and_still_accepts() {
    let rig = rig(Limits::default()).await;
    rig.conductor.enter(Phase::Leaving);
    let mut stream = rig.connect().await;
    stream.write_all(REQUEST).await.expect("sent");
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("connection: close"));
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_accepts_no_more() {
    let rig = rig(Limits::default()).await;
    let mut idle = rig.connect().await;
    idle.write_all(REQUEST).await.expect("sent");
    assert_eq!(status(&read_one(&mut idle).await), 200);
    let mut judged = rig.connect().await;
    judged.write_all(WAITING).await.expect("sent");
    rig.script.entered.notified().await;
    let mut sending = rig.connect().await;
    sending
        .write_all(b"POST /sns HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await
        .expect("sent");
    assert_eq!(status(&read_one(&mut sending).await), 100);

    rig.conductor.enter(Phase::Draining);
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed at once");
    assert!(TcpStream::connect(rig.address).await.is_err());
    sending.write_all(b"hi").await.expect("sent");
    assert_eq!(status(&read_all(&mut sending).await), 200);
    rig.script.gate.add_permits(1);
    let answer = read_all(&mut judged).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("connection: close"));
    timeout(PATIENCE, rig.task).await.expect("it ends in time").expect("no panic");
}

#[tokio::test]
async fn stopping_cuts_what_is_left() {
    let rig = rig(Limits::default()).await;
    let mut stream = rig.connect().await;
    stream.write_all(WAITING).await.expect("sent");
    rig.script.entered.notified().await;
    rig.conductor.enter(Phase::Stopping);
    assert_eq!(read_all(&mut stream).await, "");
    timeout(PATIENCE, rig.task).await.expect("it ends in time").expect("no panic");
    assert_eq!(rig.metrics.connections_cut.get_or_create(&Outcome { outcome: "stopping" }).get(), 1);
}

#[tokio::test]
async fn a_port_in_use_is_reported_by_the_name_of_its_variable() {
    let taken = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let error = bind(taken.address()).await.expect_err("the port is taken").to_string();
    assert!(error.contains("POSTERN_LISTEN") && error.contains("another process"), "{error}");
}
