//! The report: for people and for programs, and without any secret.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::cli::redact;
use crate::config::settings::SETTINGS;
use crate::config::{CallbackUrl, Config, Environment};
use crate::health::{Checked, Status};

/// One check, and the instance that it is about, if it is about one.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) instance: Option<String>,
    pub(super) checked: Checked,
}

/// All that was found, in order.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Whether nothing failed.
    pub(super) fn is_ok(&self) -> bool {
        !self.checks.iter().any(|check| check.checked.status == Status::Fail)
    }

    /// The same without anything that `redactor` knows.
    pub(super) fn redacted(mut self, redactor: &Redactor) -> Self {
        for check in &mut self.checks {
            check.checked.found = clean(&redactor.apply(&check.checked.found));
            check.checked.advice = clean(&redactor.apply(&check.checked.advice));
            check.instance = check.instance.as_deref().map(|name| clean(&redactor.apply(name)));
        }
        self
    }

    /// One object for programs.
    pub(super) fn json(&self) -> String {
        let check = |check: &Check| -> Value {
            let Checked { name, status, found, advice } = &check.checked;
            let mut value = json!({"name": name, "status": status.as_str(), "found": found, "advice": advice});
            if let (Some(instance), Some(object)) = (&check.instance, value.as_object_mut()) {
                object.insert("instance".to_owned(), instance.as_str().into());
            }
            value
        };
        let checks: Vec<Value> = self.checks.iter().map(check).collect();
        json!({"ok": self.is_ok(), "checks": checks}).to_string() + "\n"
    }

    /// Lines for a person: what is well first, what fails last, with what to do.
    pub(super) fn text(&self, colour: bool) -> String {
        let width = self.checks.iter().map(|check| check.checked.name.len()).max().unwrap_or(0);
        let instances: BTreeSet<&str> = self.checks.iter().filter_map(|check| check.instance.as_deref()).collect();
        let mut out = String::new();
        for status in [Status::Ok, Status::Skip, Status::Warn, Status::Fail] {
            for Check { instance, checked } in self.checks.iter().filter(|check| check.checked.status == status) {
                // One instance alone needs no name on every line.
                let of = instance.as_deref().filter(|_| instances.len() > 1);
                let of = of.map_or(String::new(), |name| format!("{name}: "));
                let word = paint(status, colour);
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{word}  {:<width$}  {of}{}", checked.name, checked.found);
                if !checked.advice.is_empty() {
                    let _ = writeln!(out, "{:6}{:width$}  -> {}", "", "", checked.advice);
                }
            }
        }
        let count = |status: Status| self.checks.iter().filter(|check| check.checked.status == status).count();
        let (ok, skip, warn, fail) = (count(Status::Ok), count(Status::Skip), count(Status::Warn), count(Status::Fail));
        let _ = writeln!(out, "\n{fail} failed, {warn} to look at, {ok} well, {skip} skipped");
        out
    }
}

fn paint(status: Status, colour: bool) -> String {
    let code = match status {
        Status::Ok => "32",
        Status::Skip => "2",
        Status::Warn => "33",
        Status::Fail => "31",
    };
    if colour { format!("\u{1b}[{code}m{:<4}\u{1b}[0m", status.as_str()) } else { format!("{:<4}", status.as_str()) }
}

/// Whether standard output is a terminal that wants colour.
pub(super) fn may_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes the report. A reader that has seen enough, as `head` has, is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("postern doctor: the report cannot be written: {error}");
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What comes from outside must neither command a terminal nor fill it.
fn clean(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            ' '
        } else {
            c
        }
    };
    text.chars().take(2000).map(plain).collect()
}

/// Stands where a secret stood. It has no letters, so that no other secret is found within it.
const STRUCK: &str = "[***]";

/// A second line of defence: no check puts a secret into what it says, and should somebody else's answer repeat one, it is struck
/// out here.
pub(super) struct Redactor(Vec<String>);

impl Redactor {
    /// Knows every secret of the environment, its files and its instance documents.
    pub(super) fn of(env: &dyn Environment, config: &Config) -> Self {
        let mut known = BTreeSet::new();
        let mut add = |text: &str| {
            for line in std::iter::once(text).chain(text.lines()).map(str::trim).filter(|line| !line.is_empty()) {
                known.insert(line.to_owned());
            }
        };
        for (name, value) in env.vars() {
            let value = value.to_string_lossy();
            let is = |name: &str| SETTINGS.iter().any(|of| of.secret && (of.name == name || of.shell_name() == name));
            if is(&name) {
                add(&value);
            } else if name.strip_suffix("_FILE").is_some_and(is)
                && let Ok(text) = std::fs::read_to_string(&*value)
            {
                add(&text);
            }
        }
        config
            .admin_token
            .iter()
            .chain(config.sns.basic.iter().map(|basic| &basic.password))
            .for_each(|s| add(s.expose()));
        for endpoint in &config.mcs {
            add(endpoint.url.expose());
            add(endpoint.target.expose());
            endpoint.whole.iter().for_each(|whole| add(whole.expose()));
        }
        for instance in &config.instances {
            instance.signature_keys.iter().for_each(|key| add(key.expose()));
            instance.basic.iter().for_each(|basic| add(basic.password.expose()));
            instance.headers.iter().filter_map(|(_, value)| value.to_str().ok()).for_each(&mut add);
            if let Some(keys) = &instance.credentials {
                add(&keys.access_key);
                add(keys.secret_key.expose());
            }
            if let Some(s3http) = &instance.s3http {
                s3http.secrets.iter().for_each(|secret| add(secret.expose()));
                s3http.auth_secrets().for_each(|secret| add(secret.expose()));
            }
            if let CallbackUrl::Http(url) = &instance.callback {
                url.query().into_iter().for_each(&mut add);
            }
        }
        // The longer first: a secret may hold another.
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(known)
    }

    /// Strikes out of a whole report what can be searched for in the doctor's own words.
    fn apply(&self, text: &str) -> String {
        let searched = self.0.iter().filter(|secret| redact::is_searchable(secret));
        searched.fold(text.to_owned(), |text, secret| redact::search(&text, secret, STRUCK))
    }

    /// What somebody says who was sent secrets. None of them stays in it, however short: what that garbles is not our own words.
    pub(super) fn strict(&self, theirs: &str) -> String {
        self.0.iter().fold(theirs.to_owned(), |text, secret| text.replace(secret.as_str(), STRUCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let check = |instance: Option<&str>, checked| Check { instance: instance.map(str::to_owned), checked };
        Report {
            checks: vec![
                check(None, Checked::fail("settings", "one problem", "solve it")),
                check(Some("photos"), Checked::ok("callback", "answers")),
                check(None, Checked::warn("clock", "off", "set it")),
            ],
        }
    }

    #[test]
    fn failures_come_last_with_what_to_do_and_nothing_is_coloured_off_a_terminal() {
        let text = report().text(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok    callback  answers");
        assert_eq!(lines[3], "fail  settings  one problem");
        assert_eq!(lines[4], "                -> solve it");
        assert_eq!(lines[6], "1 failed, 1 to look at, 1 well, 0 skipped");
        assert!(!text.contains('\u{1b}') && report().text(true).contains("\u{1b}[31mfail"));
    }

    #[test]
    fn a_program_reads_one_object() {
        let value: Value = serde_json::from_str(&report().json()).expect("JSON");
        assert_eq!(value["ok"], false);
        assert_eq!(
            value["checks"][1],
            json!({"name":"callback","instance":"photos","status":"ok","found":"answers","advice":""})
        );
    }

    #[test]
    fn what_repeats_a_secret_or_commands_a_terminal_is_struck_out() {
        let redactor = Redactor(vec!["hunter2-long".into(), "hunter2!".into()]);
        let mut report = report();
        report.checks[0].checked.found = "said hunter2-long and hunter2!\u{1b}[2J".into();
        assert_eq!(report.redacted(&redactor).checks[0].checked.found, "said [***] and [***] [2J");
    }

    /// Once the key `secret` struck out the doctor's own `/s3/<secret>`, and one of a letter every such letter.
    #[test]
    fn a_short_key_leaves_our_own_words_and_is_struck_out_of_those_of_others() {
        let redactor = Redactor(vec!["secret".into(), "e".into()]);
        let mut report = report();
        report.checks[0].checked.found = "/s3/<secret> answers".into();
        assert_eq!(report.redacted(&redactor).checks[0].checked.found, "/s3/<secret> answers");
        assert_eq!(redactor.strict("the secret is e"), "th[***] [***] is [***]");
    }
}
