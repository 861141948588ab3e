//! From environment variables to [`Config`]: every variable is read before anything is judged, and every problem is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::problem::{Problem, clean};
use super::settings::{self, Setting};
use super::text::Wrong;
use super::{Config, instance, process};

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
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let values = Values::from_environment(env, &mut problems);
    let config = process::read(&mut Reader { values: &values, problems: &mut problems }, &mut warnings);
    let instances = instance::all(&values, &mut problems, &mut warnings);
    if problems.is_empty() {
        return Ok(Config { instances, warnings, ..config });
    }
    problems.sort_by(|a, b| (&a.name, &a.problem).cmp(&(&b.name, &b.problem)));
    problems.dedup();
    Err(problems)
}

/// One value that the operator gave.
#[derive(Clone)]
pub(super) struct Given {
    /// The setting as the operator spelt it.
    pub(super) label: String,
    /// Its text, trimmed unless it is secret.
    pub(super) text: String,
    /// Whether it may hold several lines with one value each: a file, or a list in a document.
    pub(super) lines: bool,
}

/// Everything that one place says: the environment, or one instance document.
#[derive(Clone, Default)]
pub(super) struct Values {
    /// What stands before a key in messages: empty for the environment, file and colon for a document.
    pub(super) place: String,
    given: BTreeMap<&'static str, Given>,
    /// Settings that were given but could not be taken; reported already, so that nobody also reports them as missing.
    broken: BTreeSet<&'static str>,
}

impl Values {
    /// An empty place.
    pub(super) fn at(place: String) -> Self {
        Self { place, ..Self::default() }
    }

    /// The value of a setting, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// Whether the operator gave it, even if in a form that was refused.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name) || self.broken.contains(name)
    }

    /// The setting as the operator spelt it, or as it would be spelt here.
    pub(super) fn label(&self, name: &str) -> String {
        self.given.get(name).map_or_else(|| format!("{}{name}", self.place), |given| given.label.clone())
    }

    /// Takes a value that came directly or, with `file`, by the path of a file that holds it. Empty text is unset.
    pub(super) fn take(
        &mut self,
        setting: &'static Setting,
        direct: &[(String, String)],
        files: &[(String, String)],
        problems: &mut Vec<Problem>,
    ) {
        let filled = |given: &&(String, String)| !given.1.trim().is_empty();
        let direct: Vec<_> = direct.iter().filter(filled).collect();
        let files: Vec<_> = files.iter().filter(filled).collect();
        let all: Vec<&str> = direct.iter().chain(&files).map(|(label, _)| label.as_str()).collect();
        let Some(first) = all.first() else { return };
        let mut refuse = |name: &str, what: &str, advice: &str| {
            problems.push(Problem::new(name, what, advice));
            self.broken.insert(setting.name);
        };
        if !setting.available {
            return refuse(first, "is not available in this version yet", "remove it");
        }
        let differ = |of: &[&(String, String)]| of.iter().any(|(_, text)| text.trim() != of[0].1.trim());
        if !direct.is_empty() && !files.is_empty() {
            return refuse(&all.join(" and "), "the value is given both directly and by a file", "keep one of them");
        }
        if differ(&direct) || differ(&files) {
            return refuse(
                &all.join(" and "),
                "the two spellings of one setting have different values",
                "keep one of them",
            );
        }
        let text = match (direct.first(), files.first()) {
            (Some((_, text)), _) => text.clone(),
            (None, Some((label, path))) => match secret_file(Path::new(path.trim())) {
                Ok(text) => text,
                Err((what, advice)) => return refuse(label, &what, &advice),
            },
            (None, None) => return,
        };
        let text = if setting.secret { text } else { text.trim().to_owned() };
        self.given.insert(setting.name, Given { label: (*first).to_owned(), text, lines: !files.is_empty() });
    }

    /// Marks a value as one that may hold several lines.
    pub(super) fn as_lines(&mut self, name: &str) {
        if let Some(given) = self.given.get_mut(name) {
            given.lines = true;
        }
    }

    /// Marks a setting as given but refused.
    pub(super) fn mark_broken(&mut self, name: &'static str) {
        self.broken.insert(name);
    }

    fn from_environment(env: &dyn Environment, problems: &mut Vec<Problem>) -> Self {
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
        let mut values = Self { broken, ..Self::default() };
        for setting in settings::SETTINGS {
            let given = |of: &BTreeMap<&str, Vec<_>>| of.get(setting.name).cloned().unwrap_or_default();
            values.take(setting, &given(&direct), &given(&files), problems);
        }
        values
    }
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

/// Secrets are short; more is a wrong path.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// A secret's text, without the one line break at its end that editors leave.
fn secret_file(path: &Path) -> Result<String, Wrong> {
    let shown = clean(&path.to_string_lossy(), 200);
    let text = read_bounded(path, MAX_SECRET_FILE).map_err(|what| (what, "check the path and the mount".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.trim().is_empty() {
        return Err((
            format!("the file {shown} is empty"),
            "write the secret into it, or remove the setting".to_owned(),
        ));
    }
    Ok(text.to_owned())
}

/// The text of a regular file of at most `max` bytes; a failure says what is wrong, with the path.
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<String, String> {
    let shown = clean(&path.to_string_lossy(), 200);
    // A pipe or a device would be waited for, perhaps for ever.
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(format!("{shown} is not a file")),
        Ok(_) => {}
        Err(error) => return Err(format!("the file {shown} cannot be read: {}", error.kind())),
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(format!("the file {shown} cannot be read: {}", error.kind()));
    }
    if bytes.len() as u64 > max {
        return Err(format!("the file {shown} is longer than {max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| format!("the file {shown} is not UTF-8"))
}

/// Reads settings of one place and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) values: &'a Values,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// The text of a setting as it is.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|given| given.text.as_str())
    }

    /// A setting through its grammar; `None` when it is unset or was refused, which is noted.
    pub(super) fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        match parse(self.text(name)?) {
            Ok(value) => Some(value),
            Err((what, advice)) => {
                self.refuse(name, what, advice);
                None
            }
        }
    }

    /// Notes a problem of a setting.
    pub(super) fn refuse(&mut self, name: &str, what: impl Into<String>, advice: impl Into<String>) {
        self.problems.push(Problem::new(&self.values.label(name), what, advice));
    }

    /// Of two settings that need each other, notes the one that is missing.
    pub(super) fn together(&mut self, one: &str, other: &str) {
        for (set, unset) in [(one, other), (other, one)] {
            if self.values.is_set(set) && !self.values.is_set(unset) {
                let label = self.values.label(set);
                self.refuse(unset, format!("is not set, but {label} is"), "set both or none");
            }
        }
    }
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
