//! From environment variables to [`Config`]: every variable is read before anything is judged, and every problem is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::Problem;
use super::settings;
use super::values::{Reader, Values};
use super::{Config, QueueConfig, SnsConfig, instance, process, topic, ways};
use crate::secret::Secret;

/// Where variables come from.
pub trait Environment {
    /// All variables, in any order.
    fn vars(&self) -> Vec<(String, OsString)>;
}

/// The variables of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn vars(&self) -> Vec<(String, OsString)> {
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect()
    }
}

/// A map, for tests and for commands that put a configuration together.
impl Environment for BTreeMap<String, String> {
    fn vars(&self) -> Vec<(String, OsString)> {
        self.iter().map(|(name, value)| (name.clone(), OsString::from(value))).collect()
    }
}

/// Reads the whole configuration. Files are read only where a `…_FILE` variable or `POSTERN_INSTANCES` names them.
///
/// # Errors
/// All problems that there are, sorted by name, none of which holds a secret.
pub fn load(env: &dyn Environment) -> Result<Config, Vec<Problem>> {
    let (config, problems) = examine(env);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The same for a command that says what is wrong: as much of the configuration as can be made, with a default in the place of
/// each process setting that is refused and without the instances that are, beside all problems. Nothing is to be served by it.
pub fn examine(env: &dyn Environment) -> (Config, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let values = values(env, &mut problems);
    let mut config = process::read(&mut Reader { values: &values, problems: &mut problems }, &mut warnings);
    let instances = instance::all(&values, &mut problems, &mut warnings);
    let mut reader = Reader { values: &values, problems: &mut problems };
    config.mcs = ways::mcs_endpoints(&mut reader, &instances.mcs_topics, &mut warnings);
    process::remember_what_push_told(&mut reader, &mut config.queue, ways::remember_for(&instances.all));
    problems.sort_by(|a, b| (&a.name, &a.problem).cmp(&(&b.name, &b.problem)));
    problems.dedup();
    (Config { instances: instances.all, warnings, ..config }, problems)
}

/// Where the store is, for commands beside a sidecar; other settings are not looked at.
pub fn data_dir(env: &dyn Environment) -> PathBuf {
    let values = values(env, &mut Vec::new());
    process::data_dir(&Reader { values: &values, problems: &mut Vec::new() })
}

/// The topics that the environment accepts and how their messages are judged, for commands that judge one; other settings are not
/// looked at.
///
/// # Errors
/// What is wrong with these settings.
pub fn sns(env: &dyn Environment) -> Result<(Vec<String>, SnsConfig), Vec<Problem>> {
    let values = values(env, &mut Vec::new());
    let mut problems = Vec::new();
    let mut reader = Reader { values: &values, problems: &mut problems };
    let sns = process::sns(&mut reader, &mut Vec::new());
    let topics = reader.text("event.sns.topic.arn").map_or_else(|| Ok(Vec::new()), topic::topics);
    let topics = topics.unwrap_or_else(|wrong| {
        wrong.into_iter().for_each(|(what, advice)| reader.refuse("event.sns.topic.arn", what, advice));
        Vec::new()
    });
    if problems.is_empty() { Ok((topics, sns)) } else { Err(problems) }
}

/// Where a running sidecar's admin API is asked, and with which token; other settings are not looked at.
///
/// # Errors
/// What is wrong with the two settings.
pub fn admin(env: &dyn Environment) -> Result<(SocketAddr, Option<Secret>), Vec<Problem>> {
    let values = values(env, &mut Vec::new());
    let mut problems = Vec::new();
    let admin = process::admin(&mut Reader { values: &values, problems: &mut problems });
    if problems.is_empty() { Ok(admin) } else { Err(problems) }
}

/// Longer than any dedupe memory, and short enough to be counted in milliseconds.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The bounds of the queue, for commands that open the store themselves; other settings are not looked at.
///
/// For how long the sidecar remembers depends on settings that a shell need not have (the replay window, how often it reconciles, both
/// in documents too), and a store that is opened with a shorter span drops what is out of it. So these bounds forget nothing:
/// forgetting is the sidecar's work.
///
/// # Errors
/// What is wrong with these settings.
pub fn queue(env: &dyn Environment) -> Result<QueueConfig, Vec<Problem>> {
    let values = values(env, &mut Vec::new());
    let mut problems = Vec::new();
    let queue = process::queue(&mut Reader { values: &values, problems: &mut problems }, Duration::ZERO);
    if problems.is_empty() { Ok(QueueConfig { dedupe_for: FOREVER, ..queue }) } else { Err(problems) }
}

/// The files of authorities for outgoing TLS: `POSTERN_EGRESS_CA_FILE`, and the trust anchor where another SNS is named.
pub fn egress_files(env: &dyn Environment) -> [Option<PathBuf>; 2] {
    let values = values(env, &mut Vec::new());
    let file = |name: &str| values.get(name).map(|given| PathBuf::from(&given.text));
    let anchor = file("POSTERN_SNS_TRUST_ANCHOR_FILE").filter(|_| values.is_set("POSTERN_SNS_ENDPOINT_URL"));
    [file("POSTERN_EGRESS_CA_FILE"), anchor]
}

/// Every setting that the environment gives; unknown names of ours are problems.
pub(super) fn values(env: &dyn Environment, problems: &mut Vec<Problem>) -> Values {
    let mut direct: BTreeMap<&'static str, Vec<(String, String)>> = BTreeMap::new();
    let mut files: BTreeMap<&'static str, Vec<(String, String)>> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for (name, value) in env.vars() {
        let (setting, into) = match (settings::find(&name), name.strip_suffix("_FILE").and_then(settings::find)) {
            (Some(setting), _) => (setting, &mut direct),
            (None, Some(setting)) if setting.secret => (setting, &mut files),
            (None, Some(_)) => {
                problems.push(Problem::new(&name, "only secrets can come from a file", "set the value itself"));
                continue;
            }
            (None, None) => {
                if is_ours(&name)
                    && !is_service_link(&name, &value.to_string_lossy())
                    && !TEST_ONLY.contains(&name.as_str())
                {
                    problems.push(unknown(&name, &name));
                }
                continue;
            }
        };
        match value.into_string() {
            Ok(text) => into.entry(setting.name).or_default().push((name, text)),
            Err(_) => {
                problems.push(Problem::new(&name, "its value is not UTF-8", "set it again as plain text"));
                broken.insert(setting.name);
            }
        }
    }
    let mut values = Values::default();
    broken.into_iter().for_each(|name| values.mark_broken(name));
    for setting in settings::SETTINGS {
        let given = |of: &BTreeMap<&str, Vec<_>>| of.get(setting.name).cloned().unwrap_or_default();
        values.take(setting, &given(&direct), &given(&files), problems);
    }
    values
}

/// Names that only our own tests set.
const TEST_ONLY: [&str; 1] = ["POSTERN_REAL_SNS_DIR"];

/// Prefixes under which an unknown name is a mistake. `EVENT_` alone would be too wide: it is a common word.
const OURS: [&str; 8] = [
    "EVENT_NOTIFICATION_",
    "EVENT_OBJECTS",
    "EVENT_POLLER_",
    "EVENT_SNS_",
    "EVENT_VENDOR_",
    "FILEMANAGEMENT_PROVIDER_",
    "event.",
    "filemanagement.",
];

fn is_ours(name: &str) -> bool {
    let postern = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("POSTERN_"));
    postern || OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// The problem of a name that is not in the table; `label` is how the operator finds it.
pub(super) fn unknown(label: &str, name: &str) -> Problem {
    let advice = settings::nearest(name).map_or_else(
        || "remove it, or see `postern serve --help` for the names".to_owned(),
        |known| format!("did you mean {known}?"),
    );
    Problem::new(label, "there is no such setting", advice)
}

/// Whether Kubernetes made this variable for a Service called `postern` or `postern-something` (hard case 5).
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("POSTERN_").map(|rest| format!("_{rest}")) else { return false };
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    // `…_PORT` is also what somebody might guess for a setting of ours; a link's value has a form that tells them apart.
    if rest.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)) {
        return true;
    }
    let link = |tail: &str| {
        let mut parts = tail.split('_');
        let port = parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()));
        let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
        let part = matches!(parts.next(), None | Some("ADDR" | "PORT" | "PROTO"));
        port && protocol && part && parts.next().is_none()
    };
    rest.match_indices("_PORT_").any(|(at, word)| link(&rest[at + word.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_of_kubernetes_are_recognised_and_guesses_are_not() {
        for (name, value) in [
            ("POSTERN_SERVICE_HOST", "10.0.0.1"),
            ("POSTERN_SERVICE_PORT", "8443"),
            ("POSTERN_SERVICE_PORT_HTTPS", "8443"),
            ("POSTERN_PORT", "tcp://10.0.0.1:8443"),
            ("POSTERN_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
            ("POSTERN_PORT_8443_TCP_ADDR", "10.0.0.1"),
            ("POSTERN_PORT_8443_TCP_PORT", "8443"),
            ("POSTERN_PORT_8443_TCP_PROTO", "tcp"),
            ("POSTERN_FOO_SERVICE_HOST", "10.0.0.1"),
            ("POSTERN_FOO_BAR_PORT", "udp://10.0.0.1:53"),
            ("POSTERN_FOO_PORT_53_UDP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [
            ("POSTERN_PORT", "8443"),
            ("POSTERN_ADMIN_PORT", "9465"),
            ("POSTERN_PORT_X_TCP", "1"),
            ("POSTERN_PORT_1_TCP_HOST", "1"),
            ("POSTERN_LISTN", "1"),
        ] {
            assert!(!is_service_link(name, value), "{name}");
        }
    }

    #[test]
    fn unrelated_variables_are_left_alone() {
        for name in ["EVENT_LOOP", "PATH", "VALIDATE_ALL", "event", "EVENTS", "POSTERN", "tags", "é".repeat(9).as_str()]
        {
            assert!(!is_ours(name), "{name}");
        }
        for name in ["event.foo", "EVENT_SNS_TOPIC", "POSTERN_X", "postern_listen"] {
            assert!(is_ours(name), "{name}");
        }
    }
}
