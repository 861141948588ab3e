//! The receivers of `examples/`, each as its own program: what is signed is heard once, and nothing else is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{HeaderName, HeaderValue};
use postern::dispatch::sign;
use postern::event::EventId;
use postern::secret::Secret;

const KEY: &str = "schlüssel with blanks";
const NEXT_KEY: &str = "the one after it";

/// How long a program may take to start on a busy machine. Not a measure of anything.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_python_receiver_hears_only_what_is_signed() {
    check("python3", &["--version"], || interpreted("python3", "receiver.py"));
}

#[test]
fn the_javascript_receiver_hears_only_what_is_signed() {
    check("node", &["--version"], || interpreted("node", "receiver.mjs"));
}

#[test]
fn the_java_receiver_hears_only_what_is_signed() {
    check("java", &["-version"], || {
        let mut command = interpreted("java", "Receiver.java");
        // Less to start: a small heap, and no optimizing compiler for a program that lives for a second.
        command.env("JDK_JAVA_OPTIONS", "-Xmx128m -XX:TieredStopAtLevel=1");
        command
    });
}

#[test]
fn the_rust_receiver_hears_only_what_is_signed() {
    // target/<profile>/deps/it-… is beside target/<profile>/examples/receiver.
    let this = std::env::current_exe().expect("this program");
    let program = this.parent().and_then(Path::parent).expect("a target folder").join("examples/receiver");
    if !program.exists() {
        let what = format!("{} is not built (cargo build --example receiver)", program.display());
        return crate::support::lacking("the_rust_receiver_hears_only_what_is_signed", &what);
    }
    hears_only_what_is_signed(Command::new(program));
}

fn check(program: &str, version: &[&str], command: impl FnOnce() -> Command) {
    let there = Command::new(program).args(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        hears_only_what_is_signed(command());
    } else {
        crate::support::lacking("a receiver of examples/", &format!("{program} does not run on this machine"));
    }
}

fn interpreted(program: &str, file: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(examples().join(file));
    command
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn hears_only_what_is_signed(command: Command) {
    let receiver = Running::start(command);
    let body = |id: &str| {
        format!(
            r#"{{"message":{{"eventId":"{id}","raw":{{"Records":[{{"n":1.5e3,"o":{{}},"a":[null]}}]}},"events":[{{"eventType":"CREATED","objectType":"file","objectId":"a \u00e9\n\"b\""}}]}}}}"#
        )
    };
    let first = EventId([1; 15]);
    let genuine = body("first");
    assert_eq!(receiver.post(&signed(KEY, first, 0, &genuine), &genuine), 200, "genuine");
    assert_eq!(receiver.post(&signed(KEY, first, 0, &genuine), &genuine), 200, "the same again");

    let other = EventId([2; 15]);
    let tampered = genuine.replace("CREATED", "DELETED");
    let without = |name: &str| {
        let mut headers = signed(KEY, other, 0, &genuine);
        headers.retain(|(header, _)| header != name);
        headers
    };
    assert_eq!(receiver.post(&signed(KEY, other, 0, &genuine), &tampered), 401, "another body");
    assert_eq!(receiver.post(&signed("other", other, 0, &genuine), &genuine), 401, "another key");
    assert_eq!(receiver.post(&signed(KEY, other, -400, &genuine), &genuine), 401, "an old attempt, replayed");
    assert_eq!(receiver.post(&signed(KEY, other, 400, &genuine), &genuine), 401, "an attempt of the future");
    assert_eq!(receiver.post(&[], &genuine), 401, "no signature at all");
    for name in ["elements-webhook-signature", "webhook-signature", "webhook-timestamp", "webhook-id"] {
        assert_eq!(receiver.post(&without(name), &genuine), 401, "without {name}");
    }
    let mut renewed = without("webhook-timestamp");
    renewed.push((sign::WEBHOOK_TIMESTAMP, HeaderValue::from(now() + 1)));
    assert_eq!(receiver.post(&renewed, &genuine), 401, "a time that was not signed");

    // During a rotation Postern may sign with two keys, and the receiver may know two.
    let keys = [Secret::new(KEY), Secret::new("other")];
    let second = body("second");
    let rotating = sign::headers(&keys, &other, now(), second.as_bytes());
    assert_eq!(receiver.post(&rotating, &second), 200, "two keys");
    let third = body("third");
    assert_eq!(receiver.post(&signed(NEXT_KEY, EventId([3; 15]), 0, &third), &third), 200, "the other known key");

    let lines = receiver.stop();
    assert_eq!(lines.len(), 3, "one line for each event, none for the repetition: {lines:?}");
    assert!(lines[0].starts_with("CREATED file \"a ") && lines[0].ends_with(" first"), "{lines:?}");
    assert!(lines[1].ends_with(" second") && lines[2].ends_with(" third"), "{lines:?}");
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

fn signed(key: &str, id: EventId, offset: i64, body: &str) -> Vec<(HeaderName, HeaderValue)> {
    sign::headers(&[Secret::new(key)], &id, now() + offset, body.as_bytes())
}

/// A receiver's process; killed when it is dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
    address: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command
            .env("PORT", "0")
            .env("EVENT_NOTIFICATION_SIGNATURE_KEY", format!("{KEY}\n{NEXT_KEY}\n"))
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a program that starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut running = Self { child, lines, address: String::new() };
        let line = running.lines.recv_timeout(PATIENCE).expect("a first line");
        running.address = line.strip_prefix("listening on http://").expect("an address").to_owned();
        running
    }

    fn post(&self, headers: &[(HeaderName, HeaderValue)], body: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = format!(
            "POST /events HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {}\r\n", value.to_str().expect("ASCII")));
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status: {answer:?}"))
    }

    /// Ends it; what it had printed after its first line.
    fn stop(mut self) -> Vec<String> {
        self.child.kill().expect("it can be ended");
        self.child.wait().expect("it ends");
        self.lines.iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended where the test came to its end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
