//! The sidecar as a process of its own, to be started, killed and started again: for the demo, the benches and the crash tests.
//!
//! A process and not a task, because what is to be shown is what happens to a process: its memory, its CPU, and its end by SIGKILL.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::body::Bytes;
use url::Url;

use crate::simulator::ports;
use crate::simulator::sns::Simulator;
use crate::simulator::wire::{Connection, Target};

/// How the sidecar is run. Its environment is what is said here and nothing else.
#[derive(Clone, Debug)]
pub struct Sidecar {
    binary: PathBuf,
    intake: SocketAddr,
    admin: SocketAddr,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
    tls: bool,
}

/// How long an admin page may take on a machine that has much else to do; who watches one waits no longer.
const ASKING: Duration = Duration::from_secs(30);

/// A running sidecar; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    admin: Connection,
}

/// Why a sidecar is not running.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended by itself.
    #[error("the sidecar ended with {status}; it said:\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It cannot be started.
    #[error("cannot run {what}: {error}")]
    Io {
        /// What.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// It is not ready in time.
    #[error("the sidecar was not ready within {0:?}; it said:\n{1}")]
    NotReady(Duration, String),
}

impl Sidecar {
    /// `binary` with its store under `folder`, free ports on loopback, and no TLS.
    ///
    /// # Errors
    /// What the system says when there are no free ports.
    pub fn new(binary: &Path, folder: &Path) -> io::Result<Self> {
        let (intake, admin) = (ports::unused()?, ports::unused()?);
        let sidecar = Self {
            binary: binary.to_owned(),
            intake,
            admin,
            environment: Vec::new(),
            log: folder.join("sidecar.log"),
            tls: false,
        };
        Ok(sidecar
            .with("POSTERN_LISTEN", intake.to_string())
            .with("POSTERN_ADMIN_LISTEN", admin.to_string())
            .with("POSTERN_DATA_DIR", folder.join("store"))
            .with("POSTERN_TLS", "off")
            .with("POSTERN_LOG_FORMAT", "text"))
    }

    /// The same, set up to believe `simulator` (its anchor is written to `folder`) and to deliver to `callback`, signed with `key`.
    ///
    /// # Errors
    /// What the system says when there are no free ports or the anchor cannot be written.
    pub fn between(binary: &Path, folder: &Path, simulator: &Simulator, callback: &str, key: &str) -> io::Result<Self> {
        let anchor = folder.join("sns-anchor.pem");
        std::fs::write(&anchor, simulator.anchor_pem())?;
        Ok(Self::new(binary, folder)?
            .with("POSTERN_SNS_ENDPOINT_URL", simulator.endpoint_url().as_str().trim_end_matches('/'))
            .with("POSTERN_SNS_TRUST_ANCHOR_FILE", anchor)
            .with("EVENT_SNS_TOPIC_ARN", simulator.topic_arn())
            .with("EVENT_NOTIFICATION_CALLBACK_URL", callback)
            .with("EVENT_NOTIFICATION_SIGNATURE_KEY", key))
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Serves TLS with these PEM files.
    #[must_use]
    pub fn with_tls(mut self, certificate: &Path, key: &Path) -> Self {
        self.tls = true;
        self.with("POSTERN_TLS", "on").with("POSTERN_TLS_CERT_FILE", certificate).with("POSTERN_TLS_KEY_FILE", key)
    }

    /// The URL of `path` at its intake.
    ///
    /// # Panics
    /// When `path` cannot stand in a URL; callers write it down literally.
    pub fn url(&self, path: &str) -> Url {
        let scheme = if self.tls { "https" } else { "http" };
        // An address and a literal path always make a URL.
        Url::parse(&format!("{scheme}://{}{path}", self.intake)).expect("an address and a path make a URL")
    }

    /// The file that its output goes to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started.
    pub fn spawn(&self) -> Result<Running, ProcessError> {
        let failed = |what: &Path| {
            let what = what.display().to_string();
            move |error| ProcessError::Io { what, error }
        };
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed(&self.log))?;
        let errors = log.try_clone().map_err(failed(&self.log))?;
        let child = Command::new(&self.binary)
            .arg("serve")
            .env_clear()
            // Everything is on this machine: nobody is to wait for a cloud's metadata service.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(failed(&self.binary))?;
        let admin = Url::parse(&format!("http://{}/", self.admin)).ok().and_then(|url| Target::new(&url, None).ok());
        let Some(admin) = admin else {
            return Err(failed(&self.binary)(io::Error::other("no address to ask whether it is ready")));
        };
        Ok(Running { child, admin: Connection::new(Arc::new(admin)).with_timeout(ASKING) })
    }

    /// Starts it and waits until `/ready` answers 200; says how long that took.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started, ends, or is not ready within `patience`.
    pub async fn start(&self, patience: Duration) -> Result<(Running, Duration), ProcessError> {
        let begun = Instant::now();
        let mut running = self.spawn()?;
        loop {
            if running.is_ready().await {
                return Ok((running, begun.elapsed()));
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(ProcessError::Ended { status, log: self.log_tail() });
            }
            if begun.elapsed() > patience {
                return Err(ProcessError::NotReady(patience, self.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Running {
    /// Whether `/ready` answers 200 now.
    pub async fn is_ready(&mut self) -> bool {
        self.ask("/ready").await.is_some_and(|(status, _)| status == 200)
    }

    /// Status and body of an admin page; `None` when there is no answer.
    pub async fn ask(&mut self, path: &str) -> Option<(u16, String)> {
        let reply = self.admin.send(Method::GET, path, Default::default(), Bytes::new()).await.ok()?;
        Some((reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned()))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time, user and system, that it has used so far; `None` where the system does not tell.
    pub fn cpu(&self) -> Option<Duration> {
        cpu(self.id())
    }

    /// A memory figure of `/proc/<pid>/status` in bytes, such as `VmRSS` or `VmHWM`; `None` where the system does not tell.
    pub fn memory(&self, name: &str) -> Option<u64> {
        memory(self.id(), name)
    }
}

fn cpu(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold blanks; times are fields 14 and 15, in ticks of 1/100 s on every Linux.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

fn memory(id: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sidecar_that_ends_at_once_is_reported_with_what_it_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("postern");
        std::fs::write(&script, "#!/bin/sh\necho \"$1 is broken\"; exit 3\n").expect("a script");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
        let sidecar = Sidecar::new(&script, folder.path()).expect("ports");
        let error = sidecar.start(Duration::from_secs(60)).await.expect_err("it ended").to_string();
        assert!(error.contains("serve is broken") && error.contains("3"), "{error}");
    }

    #[test]
    fn the_figures_of_a_process_are_read() {
        let me = std::process::id();
        assert!(cpu(me).is_some());
        assert!(memory(me, "VmHWM").is_some_and(|bytes| bytes > 4096));
        assert_eq!(memory(me, "VmNothing"), None);
    }
}
