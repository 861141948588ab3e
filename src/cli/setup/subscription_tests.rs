//! Against an SNS on port 0 that says of no subscription whether it is the one that was asked for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::Args;
use super::*;
use crate::aws::Aws;
use crate::config::{self, SetupConfig, StaticCredentials};
use crate::egress::{Client, Options, ProxySettings};
use crate::secret::Secret;

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:uploads";
const ENDPOINT: &str = "https://sns:hush-hush@127.0.0.1:1/sns";
const REFUSED: &str = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
    <Code>InvalidParameter</Code><Message>Invalid parameter: Attributes Reason: Subscription already exists with different \
    attributes</Message></Error><RequestId>r</RequestId></ErrorResponse>";
const DONE: &str = "<SetSubscriptionAttributesResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ResponseMetadata>\
    <RequestId>r</RequestId></ResponseMetadata></SetSubscriptionAttributesResponse>";

/// An SNS that refuses every `Subscribe`, also the one without attributes; and what it was asked.
async fn stubborn() -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}", listener.local_addr().expect("an address"))).expect("a URL");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let head = head.to_ascii_lowercase();
                    let length =
                        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break body.to_owned();
                    }
                }
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break text;
                }
            };
            let (status, answer) = if body.contains("Action=Subscribe&") { (400, REFUSED) } else { (200, DONE) };
            all.lock().expect("a lock").push(body);
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn one(arn: &str, user: &str, pending: bool) -> One {
    let attributes = [("PendingConfirmation", pending.to_string()), ("RawMessageDelivery", "true".to_owned())];
    One {
        arn: arn.to_owned(),
        endpoint: format!("https://{user}:****@127.0.0.1:1/sns"),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// Runs the step with these; gives what it said, what is left to wait for, and the ARNs that were changed.
async fn run(all: Vec<One>) -> (String, Option<Pending>, Vec<String>) {
    let (endpoint, asked) = stubborn().await;
    let environment = std::collections::BTreeMap::<String, String>::new();
    let config: SetupConfig = config::setup(&environment).expect("a configuration");
    let args = Args {
        kind: None,
        instance: None,
        dry_run: false,
        remove: false,
        remove_topic: false,
        no_dlq: true,
        account: None,
        wait: Duration::from_secs(1),
        show_secrets: false,
        json: false,
    };
    let options = Options { extra_ca_pem: Vec::new(), idle_per_host: 0, proxy: ProxySettings::default() };
    let client = Client::new(options).expect("a client");
    let context = Context { args: &args, config: &config, extra_ca_pem: &[], client, sts: None };
    let keys = StaticCredentials { access_key: "AKIDEXAMPLE".to_owned(), secret_key: Secret::new("hunter2") };
    let aws = Aws::for_setup(Some(keys), "eu-central-1", Some(&endpoint), &[]).expect("a client");
    let amazon = aws.amazon(&config.s3).await;
    let public = Url::parse("https://127.0.0.1:1").expect("a URL");
    let basic = Basic { username: "sns".to_owned(), password: Secret::new("hush-hush") };
    let place = Place { topic: TOPIC, endpoint: ENDPOINT, public: &public, basic: Some(&basic) };
    let mut out = Vec::new();
    let mut report = Report::new(&mut out, false, false);
    report.hide("hush-hush");
    let ours = Ours { all, nameless: false };
    let pending = subscribe(&context, &amazon, place, ours, None, &mut report).await.expect("it succeeds");
    report.end();
    let mut changed: Vec<String> = Vec::new();
    for body in asked.lock().expect("a lock").iter().filter(|body| body.contains("Action=SetSubscriptionAttributes")) {
        let form: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        changed.extend(form.into_iter().find(|(name, _)| name == "SubscriptionArn").map(|(_, arn)| arn));
    }
    changed.dedup();
    (String::from_utf8(out).expect("text"), pending, changed)
}

/// Once the first that was confirmed was taken for ours, and the advice was to unsubscribe the other: the good one, where a run that
/// changed the password had ended before the sidecar confirmed.
#[tokio::test]
async fn where_sns_does_not_say_which_is_ours_all_are_repaired_and_none_is_named_to_be_ended() {
    let (said, pending, changed) = run(vec![one("arn:a", "sns", false), one("arn:b", "sns", false)]).await;
    assert!(said.contains("2 subscriptions of this endpoint") && said.contains("unknown"), "{said}");
    assert!(!said.contains("unsubscribe") && !said.contains("arn:a") && !said.contains("arn:b"), "{said}");
    assert_eq!(changed, ["arn:a", "arn:b"]);
    assert!(pending.is_none(), "both are confirmed");
    let (_, pending, _) = run(vec![one("arn:a", "sns", false), one("arn:b", "sns", true)]).await;
    let pending = pending.expect("one is not confirmed");
    assert_eq!((pending.arn.as_deref(), pending.instead_of.len()), (Some("arn:b"), 0));
}

#[tokio::test]
async fn the_only_one_with_our_user_name_is_ours() {
    let (said, pending, changed) = run(vec![one("arn:a", "old", false), one("arn:b", "sns", false)]).await;
    assert!(said.contains("unsubscribe arn:a") && !said.contains("unknown"), "{said}");
    assert_eq!((changed.as_slice(), pending.is_none()), (&["arn:b".to_owned()][..], true));
}
