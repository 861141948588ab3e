//! `postern doctor`: checks everything that can be checked, and says what to do about what fails.
//!
//! It runs beside a running or a stopped sidecar with the same environment, and changes nothing there: the store is only read, and
//! the app is only connected to unless `--send-test-event` asks for more. Groups of checks run side by side, each within its own
//! bound of time, and what one finds keeps no other from looking: also a configuration with problems is looked through as far as
//! it can be read.

mod callback;
mod certificate;
mod clock;
#[cfg(feature = "aws")]
mod cloud;
mod disk;
mod handshake;
#[cfg(feature = "aws")]
pub(super) mod identity;
#[cfg(feature = "aws")]
mod mcs;
mod reach;
mod report;
mod settings;
mod sidecar;
mod sns;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::task::JoinSet;

use self::report::{Check, Redactor, Report};
use super::EXIT_USAGE;
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Environment, Problem, ProcessEnvironment};
use crate::health::Checked;
use crate::sources::sns::certs::Fetch;

/// Bound on a group: all of them run at once, so this is nearly that of the whole command.
const GROUP_TIMEOUT: Duration = Duration::from_secs(12);
/// Bound on one connection or question to somebody else.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Instances that are looked at side by side.
const AT_ONCE: usize = 16;

/// What to do.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// One JSON object: {"ok":…,"checks":[{"name","instance","status","found","advice"}]}
    #[arg(long)]
    json: bool,
    /// Only these checks, by the name that stands in the report; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// POST one signed event named postern:TestEvent to each callback and check its answer
    ///
    /// It is of type UNKNOWN, about the object `postern-doctor`, and made and signed as real ones are. Without this the callback is
    /// only connected to.
    #[arg(long)]
    send_test_event: bool,
}

/// Checks that share what they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Settings,
    Disk,
    Clock,
    Certificate,
    Reach,
    Callback,
    Sns,
    Cloud,
    Sidecar,
}

impl Group {
    const ALL: [Self; 9] = [
        Self::Settings,
        Self::Disk,
        Self::Clock,
        Self::Certificate,
        Self::Reach,
        Self::Callback,
        Self::Sns,
        Self::Cloud,
        Self::Sidecar,
    ];

    /// The names of its checks, in the order of the report.
    fn checks(self) -> &'static [&'static str] {
        match self {
            Self::Settings => &["settings", "files"],
            Self::Disk => &["data_dir", "disk_space", "disk_sync", "store"],
            Self::Clock => &["clock"],
            Self::Certificate => &["tls_files", "tls_expiry", "tls_names", "tls_chain"],
            Self::Reach => &["public_url", "public_certificate", "mcs_url", "s3http_url"],
            Self::Callback => &["signature", "callback"],
            Self::Sns => &["issuers", "sns_endpoint"],
            Self::Cloud => &[
                "credentials",
                "bucket",
                "bucket_region",
                "bucket_notification",
                "topic",
                "topic_policy",
                "subscription",
                "raw_delivery",
                "delivery_policy",
                "dead_letter_queue",
                "filter_policy",
                "queue",
                "queue_redrive",
                "listing",
                "mcs_webhook",
            ],
            Self::Sidecar => &["sidecar"],
        }
    }

    async fn run(self, context: &Arc<Context>, sink: &Sink) {
        match self {
            Self::Settings => blocking(context, sink, settings::run).await,
            Self::Disk => blocking(context, sink, disk::run).await,
            Self::Clock => clock::run(context, sink).await,
            Self::Certificate => blocking(context, sink, certificate::run).await,
            Self::Reach => reach::run(context, sink).await,
            Self::Callback => callback::run(context, sink).await,
            Self::Sns => sns::run(context, sink).await,
            #[cfg(feature = "aws")]
            Self::Cloud => cloud::run(context, sink).await,
            #[cfg(not(feature = "aws"))]
            Self::Cloud => sink.add(Checked::skip("credentials", "this build has no AWS client (feature aws)")),
            Self::Sidecar => sidecar::run(context, sink).await,
        }
    }
}

/// Looks at files. A network volume may hang: that holds a thread for blocking work and no other check.
async fn blocking(context: &Arc<Context>, sink: &Sink, look: fn(&Context, &Sink)) {
    let (context, sink) = (Arc::clone(context), sink.clone());
    if let Err(error) = tokio::task::spawn_blocking(move || look(&context, &sink)).await
        && error.is_panic()
    {
        // The group's own task tells of it.
        std::panic::resume_unwind(error.into_panic());
    }
}

/// What the checks look at.
struct Context {
    environment: Box<dyn Environment + Send + Sync>,
    config: Config,
    problems: Vec<Problem>,
    /// GETs through the proxies and with the authorities of the sidecar, or why there are none.
    fetch: Result<Arc<dyn Fetch>, String>,
    clock: SystemClock,
    /// For the words of those who were sent a secret.
    redactor: Redactor,
    send_test_event: bool,
}

impl Context {
    /// Whether a setting was refused, so that what the configuration holds in its place is only a default.
    fn refused(&self, setting: &str) -> bool {
        self.problems.iter().any(|problem| problem.name == setting)
    }

    fn now(&self) -> crate::clock::UnixMillis {
        self.clock.now()
    }
}

/// Where a group puts what it found, so that what took too long takes nothing else with it.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Check>>>);

impl Sink {
    fn add(&self, checked: Checked) {
        self.push(Check { instance: None, checked });
    }

    fn add_for(&self, instance: &str, checked: Checked) {
        self.push(Check { instance: Some(instance.to_owned()), checked });
    }

    fn push(&self, check: Check) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    fn take(&self) -> Vec<Check> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    let known = || Group::ALL.iter().flat_map(|group| group.checks()).copied();
    if let Some(unknown) = args.only.iter().find(|name| !known().any(|known| known == name.as_str())) {
        eprintln!(
            "postern doctor: there is no check {unknown:?}; there are {}",
            known().collect::<Vec<_>>().join(", ")
        );
        return ExitCode::from(EXIT_USAGE);
    }
    let environment = ProcessEnvironment;
    let (config, problems) = config::examine(&environment);
    let redactor = Redactor::of(&environment, &config);
    let context = Arc::new(Context {
        environment: Box::new(environment),
        fetch: app::outgoing(&environment).map_err(|error| error.to_string()),
        config,
        problems,
        clock: SystemClock,
        redactor,
        send_test_event: args.send_test_event,
    });
    let report = Report { checks: look(&context, &args.only).await }.redacted(&context.redactor);
    let text = if args.json { report.json() } else { report.text(report::may_colour()) };
    if report::print(&text).is_err() || !report.is_ok() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs the groups that hold a wanted check, side by side.
async fn look(context: &Arc<Context>, only: &[String]) -> Vec<Check> {
    let only: Arc<[String]> = only.into();
    let wanted = |name: &str| is_wanted(&only, name);
    let mut running = JoinSet::new();
    for (place, group) in
        Group::ALL.into_iter().enumerate().filter(|(_, group)| group.checks().iter().any(|n| wanted(n)))
    {
        let (context, only) = (Arc::clone(context), Arc::clone(&only));
        running.spawn(async move {
            let sink = Sink::default();
            let (inside, theirs) = (sink.clone(), Arc::clone(&context));
            // A task of its own: a bug in one group is told, and takes no other with it.
            let mut task = tokio::spawn(async move { group.run(&theirs, &inside).await });
            let ended = tokio::time::timeout(GROUP_TIMEOUT, &mut task).await;
            task.abort();
            let mut checks = sink.take();
            if let Some(trouble) = unfinished(group, &ended.map(|joined| joined.is_ok()), &checks, &only) {
                checks.push(trouble);
            }
            (place, checks)
        });
    }
    let mut found = Vec::new();
    while let Some(joined) = running.join_next().await {
        found.extend(joined.ok());
    }
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().flat_map(|(_, checks)| checks).filter(|check| wanted(check.checked.name)).collect()
}

fn is_wanted(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|one| one == name)
}

/// What is said of a group that did not end well, under the name of a check that was asked for.
fn unfinished(
    group: Group,
    ended: &Result<bool, tokio::time::error::Elapsed>,
    found: &[Check],
    only: &[String],
) -> Option<Check> {
    let asked = || group.checks().iter().copied().filter(|name| is_wanted(only, name));
    let missing = || asked().filter(|name| !found.iter().any(|check| check.checked.name == *name));
    let name = missing().next().or_else(|| asked().next())?;
    let list = missing().collect::<Vec<_>>().join(", ");
    let checked = match ended {
        Ok(true) => return None,
        Ok(false) => Checked::fail(name, "the check itself broke", "report this as a bug of postern"),
        // A fault as much as a refusal: a hung disk or a swallowed packet is why somebody asks.
        Err(_) => Checked::fail(
            name,
            format!("not done within {} s: {list}", GROUP_TIMEOUT.as_secs()),
            "somebody does not answer: look at network policy, proxy and DNS, then run this check with --only",
        ),
    };
    Some(Check { instance: None, checked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    /// Once such a group was told under the name of its first check, which `--only` then left out: exit code 0 for a hung store.
    #[tokio::test(start_paused = true)]
    async fn a_group_that_hangs_fails_under_a_name_that_was_asked_for() {
        let never = std::future::pending::<bool>();
        let hung = tokio::time::timeout(GROUP_TIMEOUT, never).await;
        let told = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            unfinished(Group::Cloud, &hung, &[], &only).map(|check| (check.checked.name, check.checked.status))
        };
        assert_eq!(told(&["bucket"]), Some(("bucket", Status::Fail)));
        assert_eq!(told(&[]), Some(("credentials", Status::Fail)));
        let found = [Check { instance: None, checked: Checked::ok("bucket", "well") }];
        let only = ["bucket".to_owned()];
        let name = unfinished(Group::Cloud, &hung, &found, &only).map(|check| check.checked.name);
        assert_eq!(name, Some("bucket"), "another bucket may be missing");
    }
}
