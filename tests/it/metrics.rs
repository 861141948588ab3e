//! What a scrape of the running sidecar says is accepted by Prometheus' own checker.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::attacks::bench::{Bench, Message};
#[cfg(feature = "aws")]
use crate::support::process::free_port;
#[cfg(feature = "aws")]
use crate::support::sidecar::Sidecar;
use crate::support::tool;

/// `promtool check metrics` parses the text format and lints names, help texts and units; no lint is accepted.
#[tokio::test]
async fn promtool_accepts_a_scrape_without_a_lint() {
    let Some(promtool) = tool("promtool_accepts_a_scrape_without_a_lint", "POSTERN_TEST_PROMTOOL") else { return };
    let bench = Bench::start().await;
    for key in ["one", "two", "three"] {
        assert_eq!(bench.send(&Message::created(key).signed(&bench)).await, 200);
        bench.wait_for(key).await;
    }
    assert_eq!(bench.send(&Message::created("forged").signed(&bench).with("Subject", "other")).await, 403);
    assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200);
    bench.eventually("a confirmation is counted", async |b| b.metric("postern_confirmations_total{").await > 0).await;

    let scrape = bench.admin_get("/metrics").await.body;
    has_samples(&scrape, &["intake_requests_total", "events_total", "attempts_total", "confirmations_total"]);
    lint(&promtool, &scrape);
}

/// The families of what is fetched, which need an instance that fetches: here from where nobody is.
#[cfg(feature = "aws")]
#[tokio::test]
async fn promtool_accepts_a_scrape_of_what_is_fetched() {
    let Some(promtool) = tool("promtool_accepts_a_scrape_of_what_is_fetched", "POSTERN_TEST_PROMTOOL") else { return };
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let queue = format!("{nobody}/000000000000/q");
    let settings = [
        ("POSTERN_SQS_QUEUE_URL", queue.as_str()),
        ("POSTERN_RECONCILE", "1h"),
        ("POSTERN_BUCKETS", "photos"),
        ("POSTERN_S3_ENDPOINT_URL", nobody.as_str()),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "not-a-secret"),
        ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "eu-west-1"),
    ];
    let sidecar = Sidecar::start("arn:aws:sns:eu-west-1:123456789012:photos", "http://127.0.0.1:9/", &settings).await;
    sidecar.wait_for_metric("postern_sqs_failures_total", &["instance=\"photos\""], 1.0).await;
    sidecar.wait_for_metric("postern_listing_walks_total", &["outcome=\"unreachable\""], 1.0).await;
    // What the alerts on late listings compare with.
    assert_eq!(sidecar.metric("postern_listing_interval_seconds", &["instance=\"photos\""]).await, 3600.0);
    assert_eq!(sidecar.metric("postern_weakened_setting", &["setting=\"POSTERN_SQS_VERIFY\""]).await, 1.0);
    let scrape = sidecar.metrics().await;
    has_samples(&scrape, &["sqs_failures_total", "listing_walks_total"]);
    lint(&promtool, &scrape);
}

fn has_samples(scrape: &str, counters: &[&str]) {
    for family in counters {
        assert!(scrape.contains(&format!("# TYPE postern_{family} counter\n")), "{family} has samples: {scrape}");
    }
}

fn lint(promtool: &Path, scrape: &str) {
    let mut checker = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", promtool.display()));
    // Dropped at the end of the statement, which ends what the checker reads.
    checker.stdin.take().expect("its input").write_all(scrape.as_bytes()).expect("it reads");
    let output = checker.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{scrape}", String::from_utf8_lossy(&said));
}
