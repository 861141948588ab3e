//! The real binary, configured by environment variables alone, as in a pod.

use std::process::{Command, Stdio};

use hyper::Method;
use hyper::body::Bytes;

use super::aws::{Reply, call, try_call};
use super::process::{Process, free_port};
use super::wait::wait_until;

/// The signing key of every sidecar that the tests start.
pub(crate) const KEY: &str = "MySecretEventSignatureKey";

/// A running postern with a data directory of its own.
#[derive(Debug)]
pub(crate) struct Sidecar {
    _process: Process,
    _data: tempfile::TempDir,
    intake: u16,
    admin: u16,
}

impl Sidecar {
    /// Starts one for `topic` that delivers to `callback`, with `settings` besides, and waits until it lives.
    pub(crate) async fn start(topic: &str, callback: &str, settings: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let (intake, admin) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command
            .env_clear()
            .env("POSTERN_TLS", "off")
            .env("POSTERN_LISTEN", format!("127.0.0.1:{intake}"))
            .env("POSTERN_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("POSTERN_DATA_DIR", data.path())
            .env("POSTERN_DRAIN_TIMEOUT", "6s")
            .env("EVENT_SNS_TOPIC_ARN", topic)
            .env("EVENT_SNS_TOPIC_NAME", topic.rsplit(':').next().expect("an ARN has a name"))
            .env("EVENT_NOTIFICATION_CALLBACK_URL", callback)
            .env("EVENT_NOTIFICATION_SIGNATURE_KEY", KEY)
            .env("NO_PROXY", "127.0.0.1")
            .envs(settings.iter().copied())
            .stdout(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let live = format!("http://127.0.0.1:{admin}/live");
        wait_until("the sidecar answers /live", || {
            assert!(process.ended().is_none(), "the sidecar ended at start; its words are above");
            let live = live.clone();
            async move { try_call(Method::GET, &live, &[], Bytes::new()).await.filter(|reply| reply.status == 200) }
        })
        .await;
        Self { _process: process, _data: data, intake, admin }
    }

    /// The URL that a producer is given.
    pub(crate) fn sns_url(&self) -> String {
        format!("http://127.0.0.1:{}/sns", self.intake)
    }

    /// Hands in a message as a producer would.
    pub(crate) async fn post_sns(&self, headers: &[(&str, &str)], body: Bytes) -> Reply {
        call(Method::POST, &self.sns_url(), headers, body).await
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        call(Method::GET, &format!("http://127.0.0.1:{}/metrics", self.admin), &[], "").await.text()
    }

    /// The names of the conditions of `/ready`.
    pub(crate) async fn conditions(&self) -> Vec<String> {
        let ready = call(Method::GET, &format!("http://127.0.0.1:{}/ready", self.admin), &[], "").await.text();
        let ready: serde_json::Value =
            serde_json::from_str(&ready).unwrap_or_else(|error| panic!("{error} in {ready}"));
        ready["conditions"].as_object().expect("conditions").keys().cloned().collect()
    }

    /// The sum of the samples of `name` whose labels hold all of `labels` (`reason="raw_delivery"`).
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = |line: &str| -> Option<f64> {
            let (sample, value) = line.rsplit_once(' ')?;
            let of = sample.split('{').next()?;
            (of == name && labels.iter().all(|label| sample.contains(label))).then(|| value.parse().ok())?
        };
        self.metrics().await.lines().filter_map(samples).sum()
    }

    /// Waits until [`Sidecar::metric`] is at least `least`.
    pub(crate) async fn wait_for_metric(&self, name: &str, labels: &[&str], least: f64) {
        wait_until(&format!("{name}{labels:?} is at least {least}"), || async {
            (self.metric(name, labels).await >= least).then_some(())
        })
        .await;
    }
}
