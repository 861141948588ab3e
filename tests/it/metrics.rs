//! What a scrape of the running sidecar says is accepted by Prometheus' own checker.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::attacks::bench::{Bench, Message};
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
    for family in ["intake_requests_total", "events_total", "attempts_total", "confirmations_total"] {
        assert!(scrape.contains(&format!("# TYPE postern_{family} counter\n")), "{family} has samples: {scrape}");
    }
    let mut checker = Command::new(&promtool)
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
