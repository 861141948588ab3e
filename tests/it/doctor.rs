//! `postern doctor` as a process beside the sidecar, in its environment: all well, and each failure provoked.

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
use crate::support::aws::{Aws, call, try_call};
use crate::support::process::{Process, ToolServer, free_port, write};
use crate::support::receiver::Receiver;
use crate::support::tool;
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

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_configuration_is_in_either_report() {
    let secrets = [
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "secret-signature-key"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "secret-basic-password"),
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"x-token":"secret-header-value"}"#),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "SECRETACCESSKEYID"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "secret-access-key"),
        ("POSTERN_ADMIN_TOKEN", "secret-admin-token"),
        ("POSTERN_MCS_SECRET", "secret-mcs-part"),
        ("POSTERN_S3HTTP_SECRET", "secret-s3-part"),
        ("POSTERN_S3HTTP_AUTH", "Bearer secret-s3http-auth"),
        ("POSTERN_SNS_BASIC_PASSWORD", "secret-sns-password"),
    ];
    let app = Receiver::start().await;
    let mut place = Place::new(&app.url("/events?token=secret-callback-query"));
    let public = format!("http://{}", place.settings["POSTERN_LISTEN"]);
    for (name, value) in secrets.into_iter().chain([
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "me"),
        ("POSTERN_SNS_BASIC_USERNAME", "me"),
        ("POSTERN_MCS_TOPICS", "mcs1|photos"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("POSTERN_S3_ENDPOINT_URL", app.url("").as_str()),
    ]) {
        place.set(name, value);
    }
    for down in [false, true] {
        if down {
            place.set("EVENT_NOTIFICATION_CALLBACK_URL", "http://127.0.0.1:9/events?token=secret-callback-query");
            // And a configuration with a problem in it.
            place.set("POSTERN_FORMAT", "nonsense");
        }
        for arguments in [&["--json"][..], &[], &["--send-test-event"]] {
            let output = place.doctor(arguments).await;
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
            assert!(said.contains("callback"), "{said}");
            for secret in ["secret-", "SECRETACCESSKEYID"] {
                assert!(!said.contains(secret), "{secret} in {said}");
            }
        }
    }
}

/// What is too short to be searched for in the report must not come into it: no check says a secret, and an app's own words that
/// repeat one are struck out.
#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_secret_is_not_printed_and_garbles_nothing() {
    let app = Receiver::start().await;
    app.answer(hyper::StatusCode::FORBIDDEN);
    let mut place = Place::new(&app.url("/events?token=Qz5"));
    for (name, value) in [
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "Qz0"),
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "me"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "Qz1"),
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"x-token":"Qz2"}"#),
        ("POSTERN_ADMIN_TOKEN", "Qz3"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "me"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "Qz4"),
    ] {
        place.set(name, value);
    }
    for arguments in [&["--json"][..], &["--send-test-event"]] {
        let output = place.doctor(arguments).await;
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(said.contains("callback") && !said.contains("Qz"), "{said}");
    }
    // A key of one letter, or of a word that the doctor uses itself.
    for key in ["e", "secret"] {
        place.set("EVENT_NOTIFICATION_SIGNATURE_KEY", key);
        let output = place.doctor(&[]).await;
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.contains("what is signed with 1 key(s) verifies") && !said.contains("[***]"), "{said}");
        assert!(said.contains("/s3/<secret>") || !said.contains("/s3/"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_from_a_real_bucket_is_judged_well_and_each_break_in_it_is_found() {
    let test = "the_way_from_a_real_bucket_is_judged_well_and_each_break_in_it_is_found";
    if cfg!(not(feature = "aws")) || tool(test, "POSTERN_TEST_LOCALSTACK").is_none() {
        return;
    }
    let server = ToolServer::start("localstack", &[]);
    let aws = Aws::at(server.endpoint());
    let app = Receiver::start().await;
    let topic = aws.create_topic("changes").await;
    aws.create_announcing_bucket("photos", &topic).await;
    let pem = call(
        Method::GET,
        &format!("{}/_aws/sns/SimpleNotificationService-6c6f63616c737461636b69736e696365.pem", server.endpoint()),
        &[],
        "",
    )
    .await;
    let mut place = Place::new(&app.url("/events"));
    let public = format!("http://{}", place.settings["POSTERN_LISTEN"]);
    for (name, value) in [
        ("EVENT_SNS_TOPIC_ARN", topic.as_str()),
        ("POSTERN_SNS_ENDPOINT_URL", server.endpoint()),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", &write(server.folder(), "anchor.pem", &pem.text())),
        ("POSTERN_S3_ENDPOINT_URL", server.endpoint()),
        ("POSTERN_S3_PATH_STYLE", "true"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-east-1"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
        ("VALIDATE_INSTANCE", "true"),
    ] {
        place.set(name, value);
    }
    let _sidecar = place.sidecar().await;
    let (_, report) = place.report(&[]).await;
    assert_eq!(report.says("subscription", "has no subscription"), "fail");
    // The policy that a topic is made with lets only its owner publish.
    assert_eq!(report.says("topic_policy", "does not let bucket photos publish"), "fail");

    aws.subscribe(&topic, &format!("{public}/sns")).await;
    wait_until("the subscription is confirmed", || async { aws.is_confirmed(&topic).await.then_some(()) }).await;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"s3","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"sns:Publish",
        "Resource":"{topic}","Condition":{{"ArnLike":{{"aws:SourceArn":"arn:aws:s3:::photos"}}}}}}]}}"#
    );
    aws.sns("SetTopicAttributes", &[("TopicArn", &topic), ("AttributeName", "Policy"), ("AttributeValue", &policy)])
        .await;
    let (code, report) = place.report(&[]).await;
    assert_eq!(report.failed(), [""; 0], "{report:#?}");
    assert_eq!(code, 0);
    assert_eq!(report.says("topic_policy", "statement s3"), "ok");
    assert_eq!(report.says("bucket_notification", "announces to"), "ok");
    assert_eq!(report.says("bucket", "can be listed"), "ok");
    assert_eq!(report.says("raw_delivery", "off"), "ok");
    assert_eq!(report.says("delivery_policy", "SNS's default"), "warn");
    assert_eq!(report.says("dead_letter_queue", "no dead-letter queue"), "warn");
    assert_eq!(report.says("clock", "agrees"), "ok");
    assert_eq!(report.says("credentials", "arn:aws:iam::000000000000:root, account 000000000000"), "ok");

    let subscription = aws.subscription(&topic).await;
    let set = async |name: &str, value: &str| {
        let of = [("SubscriptionArn", subscription.as_str()), ("AttributeName", name), ("AttributeValue", value)];
        aws.sns("SetSubscriptionAttributes", &of).await;
    };
    set("RawMessageDelivery", "true").await;
    set("DeliveryPolicy", r#"{"healthyRetryPolicy":{"minDelayTarget":20,"maxDelayTarget":600,"numRetries":10,"backoffFunction":"linear"}}"#).await;
    set("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:graves"}"#).await;
    aws.s3(Method::PUT, "/photos?notification", &[], "<NotificationConfiguration/>").await;
    let (code, report) = place.report(&[]).await;
    assert_eq!(code, 1);
    assert_eq!(report.says("raw_delivery", "refused with 403"), "fail");
    assert_eq!(report.says("delivery_policy", "51 min"), "ok");
    assert_eq!(report.says("bucket_notification", "to nobody"), "fail");
    assert_eq!(report.says("dead_letter_queue", "graves does not exist"), "fail");
    place.set("POSTERN_SNS_BASIC_USERNAME", "sns");
    place.set("POSTERN_SNS_BASIC_PASSWORD", "hush-hush");
    let (_, report) = place.report(&["--only", "subscription"]).await;
    assert_eq!(report.says("subscription", "holds no user name"), "fail");

    // The sidecar's own word of the same, which never makes it not ready (hard case 4).
    let ready = call(Method::GET, &format!("http://{}/ready", place.settings["POSTERN_ADMIN_LISTEN"]), &[], "").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.text().contains("instance photos: source"), "{}", ready.text());

    // A queue as its makers leave it, one that is not there, and a listing.
    let create = "Action=CreateQueue&Version=2012-11-05&QueueName=changes";
    let scope =
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=00";
    let headers = [("authorization", scope), ("content-type", "application/x-www-form-urlencoded")];
    let made = call(Method::POST, &format!("{}/", server.endpoint()), &headers, create).await;
    assert!(made.status.is_success(), "{}", made.text());
    let queue = |name: &str| format!("{}/000000000000/{name}", server.endpoint());
    place.set("POSTERN_SQS_QUEUE_URL", &format!("{},{}", queue("changes"), queue("nowhere")));
    place.set("POSTERN_RECONCILE", "1h");
    let (_, report) = place.report(&["--only", "queue,queue_redrive,listing"]).await;
    assert_eq!(report.says("queue", "/changes holds 0 messages"), "ok");
    assert_eq!(report.says("queue_redrive", "no redrive policy"), "warn");
    assert_eq!(report.says("queue", "/nowhere (sqs:GetQueueAttributes) does not exist"), "fail");
    assert_eq!(report.says("listing", "bucket photos can be listed"), "ok");

    place.set("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "another");
    let (_, report) = place.report(&[]).await;
    assert_eq!(report.says("bucket", "bucket another does not exist"), "fail");
}
