//! What one place says, before it is judged: the values of the environment or of a document, and how they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::problem::{Problem, clean};
use super::settings::{self, Setting};
use super::text::Wrong;

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

    /// Which of the settings are set to no purpose, as a warning; one that says no more than its default is none.
    pub(super) fn idle(&self, names: &[&str], why: &str) -> Option<String> {
        let said = names.iter().filter_map(|name| self.given.get(name).map(|given| (name, given)));
        let default = |name: &str| settings::find(name).map_or("", |setting| setting.default);
        let idle: Vec<&str> = said
            .filter(|(name, given)| !given.text.eq_ignore_ascii_case(default(name)))
            .map(|(_, given)| given.label.as_str())
            .collect();
        (!idle.is_empty()).then(|| format!("{} has no effect: {why}", idle.join(", ")))
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

/// Secrets are short; more is a wrong path.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// A secret's text, without the one line break at its end that editors leave.
fn secret_file(path: &Path) -> Result<String, Wrong> {
    // Somebody may have put the secret itself where its path belongs: only what looks like a real place is shown.
    let in_folder = path.parent().is_some_and(|folder| folder.parent().is_some() && folder.is_dir());
    if !(path.exists() || path.is_absolute() && in_folder) {
        let advice = "name an existing file that holds the secret, not the secret itself";
        return Err(("the file that it names does not exist".to_owned(), advice.to_owned()));
    }
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
