use std::collections::BTreeMap;

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::simulator::authority::{Authority, Leaf};

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:t";
const AT: &str = "2026-03-06T19:53:21.424Z";

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A network that only ever serves one leaf.
struct Origin(Option<Vec<u8>>);

impl Fetch for Origin {
    fn get<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> Pending<'a, Result<Fetched, FetchError>> {
        let body = self.0.clone();
        Box::pin(async move {
            let date = Some(UnixMillis(0));
            body.map(|body| Fetched { status: 200, body, date })
                .ok_or_else(|| FetchError::Failed("no route".to_owned()))
        })
    }
}

struct Desk {
    dir: tempfile::TempDir,
    authority: Authority,
    message: String,
}

impl Desk {
    fn new() -> Self {
        let now = UnixMillis::parse_rfc3339(AT).expect("a time").to_utc();
        let authority = Authority::new(&Leaf::named("sns.amazonaws.com", now)).expect("an authority");
        let mut message = json!({
            "Type": "Notification", "MessageId": "26858270-545e-5848-82a2-e05566af3dcf", "TopicArn": TOPIC, "Message": "m",
            "Timestamp": AT, "SignatureVersion": "2", "Signature": "",
            "SigningCertURL": format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{}.pem", "a".repeat(32)),
        });
        let text = message.to_string();
        let canonical = message::parse(text.as_bytes(), &Hints::default()).expect("well-formed").canonical_string();
        message["Signature"] = authority.signer().sign(2, canonical.as_bytes()).into();
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("root.pem"), authority.root_pem()).expect("written");
        std::fs::write(dir.path().join("leaf.pem"), authority.leaf_pem()).expect("written");
        Self { dir, authority, message: message.to_string() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn run(
        &self,
        line: &[&str],
        env: &[(&str, &str)],
        stdin: &str,
        origin: Option<Vec<u8>>,
    ) -> (u8, Value, String) {
        let args = Line::try_parse_from([&["verify"], line].concat()).expect("a command line").args;
        let mut env: BTreeMap<_, _> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.entry("POSTERN_DATA_DIR".to_owned()).or_insert_with(|| self.path("data"));
        let clock = ManualClock::at(UnixMillis::parse_rfc3339(AT).expect("a time"));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = run(
            &args,
            Outside {
                env: &env,
                clock: &clock,
                fetch: Arc::new(Origin(origin)),
                stdin: &mut stdin.as_bytes(),
                stdout: &mut stdout,
                stderr: &mut stderr,
            },
        )
        .await;
        assert!(stdout.iter().filter(|byte| **byte == b'\n').count() <= 1);
        let line = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        (code, line, String::from_utf8(stderr).expect("text"))
    }
}

#[tokio::test]
async fn a_genuine_message_is_accepted_from_file_and_from_standard_input() {
    let desk = Desk::new();
    let (roots, leaf) = (desk.path("root.pem"), desk.path("leaf.pem"));
    std::fs::write(desk.path("message.json"), &desk.message).expect("written");
    for file in [desk.path("message.json"), "-".to_owned()] {
        let line = ["--topic", TOPIC, "--certificate", &leaf, "--roots", &roots, &file];
        let (code, verdict, _) = desk.run(&line, &[], &desk.message, None).await;
        assert_eq!((code, &verdict["verdict"], &verdict["status"]), (0, &json!("accepted"), &json!(200)));
    }
    let line = ["--roots", &roots];
    let origin = Some(desk.authority.leaf_pem().as_bytes().to_vec());
    let (code, verdict, _) = desk.run(&line, &[("EVENT_SNS_TOPIC_ARN", TOPIC)], &desk.message, origin).await;
    assert_eq!((code, &verdict["reason"]), (0, &json!("accepted")));
}

#[tokio::test]
async fn a_rejection_has_the_status_and_the_word_of_the_sidecar() {
    let desk = Desk::new();
    let (roots, leaf) = (desk.path("root.pem"), desk.path("leaf.pem"));
    let with = ["--topic", TOPIC, "--certificate", &leaf, "--roots", &roots];
    let forged = desk.message.replace("\"m\"", "\"n\"");
    let long = " ".repeat(MAX_BODY_BYTES + 1);
    type Call<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let cases: [Call<'_>; 9] = [
        (&[], &[], &desk.message, 403, "topic_not_allowed"),
        (&with, &[], &forged, 403, "bad_signature"),
        (&with, &[], "{}", 400, "bad_type"),
        (&with, &[], &long, 413, "too_large"),
        (&[&with[..], &["--at", "2026-03-06T22:00:00Z"]].concat(), &[], &desk.message, 403, "stale"),
        (
            &[&with[..], &["--at", "2030-03-06T22:00:00Z"]].concat(),
            &[("POSTERN_SNS_MAX_AGE", "3000days")],
            &desk.message,
            403,
            "cert_not_valid_now",
        ),
        (&with[..4], &[], &desk.message, 503, "cert_issuer_unknown"),
        (&["--topic", TOPIC], &[], &desk.message, 503, "cert_fetch"),
        (&with, &[("POSTERN_SNS_ENDPOINT_URL", "https://sns.test")], &desk.message, 403, "cert_url_untrusted"),
    ];
    for (line, env, message, status, reason) in cases {
        let (code, verdict, _) = desk.run(line, env, message, None).await;
        assert_eq!((code, &verdict["verdict"]), (1, &json!("rejected")), "{reason}");
        assert_eq!((&verdict["status"], &verdict["reason"]), (&json!(status), &json!(reason)));
    }
}

#[tokio::test]
async fn the_sidecars_settings_hold_here_too() {
    let desk = Desk::new();
    let leaf = desk.path("leaf.pem");
    let line = ["--topic", TOPIC, "--certificate", &leaf];
    let root = desk.path("root.pem");
    let anchor = ("POSTERN_SNS_TRUST_ANCHOR_FILE", root.as_str());
    assert_eq!(desk.run(&line, &[anchor], &desk.message, None).await.0, 0);
    assert_eq!(desk.run(&line, &[("POSTERN_SNS_CHAIN", "off")], &desk.message, None).await.0, 0);
    assert_eq!(desk.run(&line, &[("POSTERN_SNS_CHAIN", "warn")], &desk.message, None).await.0, 0);
    assert_eq!(desk.run(&line, &[anchor, ("POSTERN_SNS_MIN_SIGNATURE_VERSION", "2")], &desk.message, None).await.0, 0);
}

#[tokio::test]
async fn a_wrong_call_is_told_in_words_and_judges_nothing() {
    let desk = Desk::new();
    for (line, env, word) in [
        (vec!["--certificate", "/nonexistent.pem"], vec![], "/nonexistent.pem"),
        (vec!["/nonexistent.json"], vec![], "/nonexistent.json"),
        (vec![], vec![("POSTERN_SNS_CHAIN", "maybe")], "POSTERN_SNS_CHAIN"),
        (vec![], vec![("POSTERN_SNS_MAX_AGE", "90")], "POSTERN_SNS_MAX_AGE"),
        (vec![], vec![("POSTERN_SNS_ENDPOINT_URL", "http://sns.test")], "POSTERN_SNS_ENDPOINT_URL"),
        (vec![], vec![("POSTERN_SNS_ENDPOINT_URL", "https://sns.test")], "--roots"),
    ] {
        let (code, verdict, complaint) = desk.run(&line, &env, &desk.message, None).await;
        assert_eq!((code, verdict), (2, Value::Null));
        assert!(complaint.contains(word), "{complaint}");
    }
    assert!(Line::try_parse_from(["verify", "--at", "yesterday"]).is_err());
}

#[tokio::test]
async fn a_really_signed_message_is_judged_by_the_files_that_are_given() {
    let Some(real) = std::env::var_os("POSTERN_REAL_SNS_DIR").map(PathBuf::from) else {
        eprintln!("skipped: POSTERN_REAL_SNS_DIR does not name a folder of really signed SNS messages");
        return;
    };
    let path = |name: &str| real.join(name).display().to_string();
    let certificate = path("certs/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem");
    let (intermediates, root) = (path("chain/AmazonRSA2048M01.pem"), path("chain/AmazonRootCA1.pem"));
    let message = path("messages/2026-03-06-26858270-notif-v1.json");
    let topic = "arn:aws:sns:us-west-2:131990247566:dongie-standard-topic";
    let base = ["--topic", topic, "--at", "2026-03-06T19:53:23Z", "--certificate", &certificate];
    let desk = Desk::new();
    let bundled = [&base[..], &["--intermediates", &intermediates, &message]].concat();
    assert_eq!(desk.run(&bundled, &[], "", None).await.0, ACCEPTED);
    let given = [&base[..], &["--intermediates", &intermediates, "--roots", &root, &message]].concat();
    assert_eq!(desk.run(&given, &[], "", None).await.0, ACCEPTED);
    let (code, verdict, _) = desk.run(&[&base[..], &[&message]].concat(), &[], "", None).await;
    assert_eq!((code, &verdict["reason"]), (REJECTED, &json!("cert_issuer_unknown")));
}

/// Of what is not SNS's, `postern verify` once said only which member was missing.
#[tokio::test]
async fn a_body_that_is_not_of_sns_is_told_apart() {
    let desk = Desk::new();
    for (body, words) in [
        (r#"{"Records":[{"eventSource":"aws:s3"}]}"#, "bare S3 records"),
        (r#"{"EventName":"s3:ObjectCreated:Put","Key":"b/k","Records":[]}"#, "bare S3 records"),
        (
            r#"{"Type":"SubscriptionConfirmation","TopicArn":"mcs1|b|s3:ObjectCreated:*","Token":"t","Timestamp":"2019-12-26T19:29:12+03:00","SignatureVersion":1,"Message":"m"}"#,
            "a handshake of MCS S3",
        ),
        (r#"{"source":"aws.s3","detail-type":"Object Created","detail":{}}"#, "an event of EventBridge"),
        (r#"{"events":[{"eventType":"b2:ObjectCreated:Upload"}]}"#, "Backblaze B2"),
    ] {
        let (code, verdict, _) = desk.run(&["--topic", TOPIC], &[], body, None).await;
        let detail = verdict["detail"].as_str().unwrap_or_default();
        assert_eq!((code, &verdict["verdict"]), (REJECTED, &json!("rejected")), "{body}");
        assert!(detail.contains(words) && detail.contains("judges SNS messages alone"), "{detail}");
    }
    let (_, verdict, _) = desk.run(&["--topic", TOPIC], &[], r#"{"a":1}"#, None).await;
    assert!(!verdict["detail"].as_str().expect("a detail").contains("alone"), "{verdict}");
}
