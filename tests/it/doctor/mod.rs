//! `postern doctor` as a process beside the sidecar, in its environment: all well, and each failure provoked.

mod cloud;
mod secrets;

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use hyper::Method;
use hyper::body::Bytes;
use postern::simulator::authority::{Authority, Leaf};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::hard_cases::stand::Stand;
use crate::support::aws::try_call;
use crate::support::process::{Process, free_port, write};
use crate::support::receiver::Receiver;
use crate::support::wait::wait_until;

const KEY: &str = "MySecretEventSignatureKey";

/// An environment for a sidecar, and for the doctor beside it.
struct Place {
    dir: TempDir,
    settings: BTreeMap<String, String>,
}

impl Place {
    /// Settings with which nothing is wrong as far as this machine goes; there is no topic and no network.
    fn new(callback: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = dir.path().join("store");
        std::fs::create_dir(&store).expect("a folder");
        let mut place = Self { dir, settings: BTreeMap::new() };
        for (name, value) in [
            ("POSTERN_TLS", "off"),
            ("POSTERN_DATA_DIR", store.to_str().expect("a path")),
            ("EVENT_NOTIFICATION_CALLBACK_URL", callback),
            ("EVENT_NOTIFICATION_SIGNATURE_KEY", KEY),
            ("POSTERN_INSTANCE_NAME", "photos"),
            ("POSTERN_S3HTTP_SECRET", "a-secret-path-part"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("NO_PROXY", "127.0.0.1,localhost"),
        ] {
            place.set(name, value);
        }
        place.set("POSTERN_LISTEN", &format!("127.0.0.1:{}", free_port()));
        place.set("POSTERN_ADMIN_LISTEN", &format!("127.0.0.1:{}", free_port()));
        place
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).env_clear().envs(&self.settings).stdin(Stdio::null());
        command
    }

    /// The doctor's output, off the runtime: it may talk to servers of the test.
    async fn doctor(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(&[&["doctor"], arguments].concat());
        tokio::task::spawn_blocking(move || command.output().expect("postern runs")).await.expect("no panic")
    }

    /// Its report for programs, and its exit code.
    async fn report(&self, arguments: &[&str]) -> (i32, Report) {
        let output = self.doctor(&[&["--json"], arguments].concat()).await;
        let text = String::from_utf8(output.stdout).expect("text");
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let code = output.status.code().expect("an exit code");
        assert_eq!(value["ok"], code == 0, "{text}");
        (code, Report(value))
    }

    /// Starts the sidecar and waits until it lives.
    async fn sidecar(&self) -> Process {
        let mut process = Process::spawn(self.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()));
        let live = format!("http://{}/live", self.settings["POSTERN_ADMIN_LISTEN"]);
        wait_until("the sidecar answers /live", || {
            assert!(process.ended().is_none(), "the sidecar ended at start");
            let live = live.clone();
            async move { try_call(Method::GET, &live, &[], Bytes::new()).await.filter(|reply| reply.status == 200) }
        })
        .await;
        process
    }
}

#[derive(Debug)]
struct Report(Value);

impl Report {
    /// Those of a name that say `words`, with their status.
    fn says(&self, name: &str, words: &str) -> &str {
        let all = self.0["checks"].as_array().expect("checks");
        let fits = |check: &&Value| check["name"] == name && check["found"].as_str().is_some_and(|f| f.contains(words));
        let found = all.iter().find(fits);
        found
            .and_then(|check| check["status"].as_str())
            .unwrap_or_else(|| panic!("no {name} with {words:?} in {self:#?}"))
    }

    fn failed(&self) -> Vec<&str> {
        let all = self.0["checks"].as_array().expect("checks").iter();
        all.filter(|check| check["status"] == "fail").filter_map(|check| check["name"].as_str()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_on_which_all_is_well_gets_0_and_the_app_hears_nothing() {
    let app = Receiver::start().await;
    let mut place = Place::new(&app.url("/events?token=in-the-query"));
    let public = format!("http://{}", place.settings["POSTERN_LISTEN"]);
    place.set("POSTERN_PUBLIC_URL", &public);
    let _sidecar = place.sidecar().await;
    let (code, report) = place.report(&[]).await;
    assert_eq!(report.failed(), [""; 0], "{report:#?}");
    assert_eq!(code, 0);
    assert_eq!(report.says("callback", "can be connected to"), "ok");
    assert_eq!(report.says("signature", "verifies"), "ok");
    assert_eq!(report.says("store", "a running sidecar holds the store: 0 owed"), "ok");
    assert_eq!(report.says("public_url", "answers as a postern does"), "ok");
    assert_eq!(report.says("s3http_url", "/s3/<secret> answers as a postern does"), "ok");
    // Once a sidecar without an SNS topic waited for Amazon's issuers all the same, and without a way to them was never ready.
    assert_eq!(report.says("sidecar", "the running sidecar is ready"), "ok");
    assert!(app.received().is_empty(), "it was only connected to");
    // For a person: no colour off a terminal, what fails would come last, and a sum.
    let text = String::from_utf8(place.doctor(&[]).await.stdout).expect("text");
    assert!(text.starts_with("ok ") && text.contains("0 failed") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_is_signed_marked_and_sent_only_when_asked_for() {
    let app = Receiver::start().await;
    let place = Place::new(&app.url("/events"));
    let (_, report) = place.report(&["--send-test-event", "--only", "callback"]).await;
    assert_eq!(report.says("callback", "took the test event with status 200"), "ok");
    let received = app.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].is_signed_with(KEY));
    let event = &received[0].json()["message"];
    assert_eq!(event["raw"]["Records"][0]["eventName"], "postern:TestEvent");
    assert_eq!(
        (&event["events"][0]["objectId"], &event["events"][0]["eventType"]),
        (&"postern-doctor".into(), &"UNKNOWN".into())
    );
    app.answer(hyper::StatusCode::FORBIDDEN);
    let (code, report) = place.report(&["--send-test-event", "--only", "callback"]).await;
    assert_eq!((code, report.says("callback", "refused the test event with status 403")), (1, "fail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_this_machine_is_named_with_what_to_do() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::new(&Leaf::named("events.example.com", now)).expect("an authority");
    let mut place = Place::new(&format!("http://127.0.0.1:{}/events", free_port()));
    let file = |place: &Place, name: &str, text: &str| write(place.dir.path(), name, text);

    let (code, report) = place.report(&["--only", "callback"]).await;
    assert_eq!((code, report.says("callback", "Connection refused")), (1, "fail"));

    // A certificate that has expired, for its own key; then one that is not of the key.
    let expired = Leaf {
        not_before: now - time::Duration::days(90),
        not_after: now - time::Duration::days(1),
        ..Leaf::named("events.example.com", now)
    };
    let certificate = file(&place, "tls.pem", &authority.reissue(&expired).expect("a certificate"));
    let key = file(&place, "key.pem", postern::simulator::authority::SIGNING_KEY_PEM);
    place.set("POSTERN_TLS", "on");
    place.set("POSTERN_TLS_CERT_FILE", &certificate);
    place.set("POSTERN_TLS_KEY_FILE", &key);
    place.set("POSTERN_PUBLIC_URL", "https://other.example.invalid");
    let tls = ["--only", "tls_files,tls_expiry,tls_names,tls_chain,files,public_url"];
    let (_, report) = place.report(&tls).await;
    assert_eq!(report.says("tls_files", "are a pair"), "ok");
    assert_eq!(report.says("tls_expiry", "expired at"), "fail");
    assert_eq!(report.says("tls_names", "not for other.example.invalid"), "fail");
    assert_eq!(report.says("tls_chain", "stands alone"), "warn");
    assert_eq!(report.says("files", "POSTERN_TLS_KEY_FILE"), "warn");
    assert_eq!(report.says("public_url", "cannot be reached from here"), "warn");
    let (other, _) = authority.server_certificate(&["other.example.invalid"], now).expect("a certificate");
    file(&place, "tls.pem", &other);
    let (_, report) = place.report(&tls).await;
    assert_eq!(report.says("tls_files", "does not belong to"), "fail");
    assert_eq!(report.says("tls_names", "is for other.example.invalid"), "ok");

    // A data directory that cannot be one, whoever runs this.
    place.set("POSTERN_DATA_DIR", &certificate);
    let (code, report) = place.report(&["--only", "data_dir"]).await;
    assert_eq!((code, report.says("data_dir", "is no directory")), (1, "fail"));
    place.set("POSTERN_DATA_DIR", "/proc/postern");
    let (_, report) = place.report(&["--only", "data_dir"]).await;
    assert!(matches!(report.says("data_dir", "does not exist"), "fail" | "warn"));
}

/// Once each of them said `POSTERN_EGRESS_CA_FILE`, whichever file it was, and the doctor's look at files found nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_authorities_without_any_is_named_by_its_own_setting_everywhere() {
    for (name, other) in [
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", "POSTERN_EGRESS_CA_FILE"),
        ("POSTERN_EGRESS_CA_FILE", "POSTERN_SNS_TRUST_ANCHOR_FILE"),
    ] {
        let mut place = Place::new("http://127.0.0.1:9/events");
        place.set("EVENT_SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:changes");
        place.set("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos");
        if name == "POSTERN_SNS_TRUST_ANCHOR_FILE" {
            place.set("POSTERN_SNS_ENDPOINT_URL", "http://127.0.0.1:9");
        }
        place.set(name, &write(place.dir.path(), "authorities.pem", "-----BEGIN NOTHING-----\n"));
        let (code, report) = place.report(&["--only", "files"]).await;
        assert_eq!((code, report.says("files", &format!("{name}="))), (1, "fail"));
        assert!(!format!("{report:?}").contains(other), "{report:#?}");
        for command in ["serve", "setup"] {
            let mut command = place.command(&[command]);
            let output =
                tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
            assert!(!output.status.success() && said.contains(name) && !said.contains(other), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_problems_is_named_whole_and_the_other_checks_still_run() {
    let mut place = Place::new("");
    place.set("POSTERN_TLS", "perhaps");
    place.set("POSTERN_LISTN", "0.0.0.0:1");
    let (code, report) = place.report(&[]).await;
    assert_eq!(code, 1);
    for (name, what) in [
        ("POSTERN_TLS", "is not a choice"),
        ("POSTERN_LISTN", "no such setting"),
        ("event.notification.callback.url", "is not set"),
    ] {
        assert_eq!(report.says("settings", &format!("{name}: ")), "fail");
        assert_eq!(report.says("settings", what), "fail");
    }
    assert_eq!(report.says("data_dir", "can be written"), "ok");
    assert_eq!(report.says("sidecar", "no sidecar answers"), "skip");
    assert_eq!(place.doctor(&["--only", "nothing"]).await.status.code(), Some(64));
    assert_eq!(place.doctor(&["--nothing"]).await.status.code(), Some(64));
}

/// An SNS that only tells the time, and tells it wrongly.
async fn wrong_clock(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_by_the_date_of_another() {
    let mut stand = Stand::prepare(&[("AWS_EC2_METADATA_DISABLED", "true")]).await;
    let good = String::from_utf8(stand.cli(&["doctor", "--only", "clock"]).await.stdout).expect("text");
    assert!(good.contains("our clock agrees with that of 127.0.0.1"), "{good}");
    stand.set("POSTERN_SNS_ENDPOINT_URL", &wrong_clock("Sun, 06 Nov 1994 08:49:37 GMT").await);
    let output = stand.cli(&["doctor", "--only", "clock"]).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ahead of that of 127.0.0.1") && text.contains("NTP"), "{text}");
}
