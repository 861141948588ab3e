//! What setup says: one line a step, or one JSON object at the end; secrets as `[secret]`.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::redact;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as it should be; nothing was sent.
    Ok,
    /// It was not there.
    Create,
    /// It said something else.
    Change,
    /// It was taken away.
    Remove,
    /// Something to know; nobody's fault.
    Note,
    /// It remains to be done.
    Open,
    /// It failed.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
            Self::Note => "note",
            Self::Open => "open",
            Self::Failed => "FAILED",
        }
    }
}

/// A step that failed: which, why, and what has not been done because of it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) step: &'static str,
    pub(super) what: String,
    pub(super) remains: Vec<&'static str>,
}

/// A secret in one of its spellings, and what it stands behind; anywhere where that is empty.
#[derive(PartialEq, Eq)]
struct Hidden {
    place: String,
    spelling: String,
}

/// Collects and prints.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    json: bool,
    dry_run: bool,
    /// What is shown as `[secret]`, longest first.
    secrets: Vec<Hidden>,
    /// Store and instance that the next steps are about.
    about: (String, String),
    steps: Vec<Value>,
    failed: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool, dry_run: bool) -> Self {
        Self { out, json, dry_run, secrets: Vec::new(), about: Default::default(), steps: Vec::new(), failed: false }
    }

    /// From now on `secret` is struck out wherever it stands, if it is one that can be searched for.
    pub(super) fn hide(&mut self, secret: &str) {
        if redact::is_searchable(secret) {
            self.hide_at("", secret);
        }
    }

    /// From now on `secret` is never printed behind `place`, in any of the spellings that it may have inside a URL, XML or JSON;
    /// however short it is. Where setup puts a secret, it names the place.
    pub(super) fn hide_at(&mut self, place: &str, secret: &str) {
        let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
        let json = |text: &str| Value::from(text).to_string().trim_matches('"').to_owned();
        let xml =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        for (place, spelling) in [
            (place.to_owned(), secret.to_owned()),
            (place.to_owned(), encoded),
            (json(place), json(secret)),
            (xml(place), xml(secret)),
        ] {
            let hidden = Hidden { place, spelling };
            if !hidden.spelling.is_empty() && !self.secrets.contains(&hidden) {
                self.secrets.push(hidden);
            }
        }
        // The longer first, for one may hold another; of the same one, the named place first.
        self.secrets.sort_by_key(|one| std::cmp::Reverse((one.spelling.len(), one.place.len())));
    }

    /// From here on it is about this store of this instance.
    pub(super) fn heading(&mut self, store: &str, instance: &str) {
        self.about = (store.to_owned(), self.masked(instance));
        if !self.json {
            let text = format!("{store}: instance {}", self.about.1);
            self.line(&text);
        }
    }

    /// An entry of the JSON object, with what it is about.
    fn entry(&mut self, mut entry: Value) {
        let (store, instance) = &self.about;
        entry["store"] = store.as_str().into();
        entry["instance"] = instance.as_str().into();
        self.steps.push(entry);
    }

    /// A step is done, or would be.
    pub(super) fn step(&mut self, verdict: Verdict, step: &str, text: &str) {
        self.failed |= verdict == Verdict::Failed;
        let text = self.masked(text);
        if self.json {
            self.entry(json!({ "step": step, "verdict": verdict.word(), "text": text }));
        } else {
            let would = self.dry_run && matches!(verdict, Verdict::Create | Verdict::Change | Verdict::Remove);
            let word = if would { format!("would {}", verdict.word()) } else { verdict.word().to_owned() };
            self.line(&format!("  {word:<12}  {step}: {text}"));
        }
    }

    /// Exactly what would be sent; only a dry run shows it.
    pub(super) fn exact(&mut self, what: &str, body: &str) {
        if !self.dry_run {
            return;
        }
        let body = self.masked(body);
        if self.json {
            self.entry(json!({ "would_send": what, "body": body }));
        } else {
            self.line(&format!("      {what}:"));
            for line in body.lines() {
                self.line(&format!("        {line}"));
            }
        }
    }

    /// A step failed, and so the steps after it are not done.
    pub(super) fn failure(&mut self, failed: &Failed) {
        self.step(Verdict::Failed, failed.step, &failed.what);
        if !failed.remains.is_empty() {
            let remains =
                format!("not done because of that: {}; run this again when it is settled", failed.remains.join(", "));
            self.step(Verdict::Open, "what remains", &remains);
        }
    }

    /// Prints the JSON object, if it was asked for; whether every step went well.
    pub(super) fn end(mut self) -> bool {
        if self.json {
            let whole = json!({ "done": !self.failed, "dry_run": self.dry_run, "steps": self.steps });
            let text = format!("{whole:#}");
            self.line(&text);
        }
        !self.failed
    }

    fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, Hidden { place, spelling }| match place.as_str() {
            "" => redact::search(&text, spelling, "[secret]"),
            place => redact::strike(&text, place, spelling, "[secret]"),
        })
    }

    fn line(&mut self, text: &str) {
        // Nobody is left to tell when standard output is gone; what was asked for is done nevertheless.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_spelling_also_in_json() {
        for json in [false, true] {
            let mut out = Vec::new();
            let mut report = Report::new(&mut out, json, true);
            report.hide("p&ss w\"rd");
            report.step(Verdict::Create, "subscription", "https://me:p%26ss%20w%22rd@host/ and p&ss w\"rd");
            report.exact("XML", "<Url>p&amp;ss w&quot;rd</Url> {\"x\":\"p&ss w\\\"rd\"}");
            assert!(report.end());
            let text = String::from_utf8(out).expect("UTF-8");
            assert_eq!(text.matches("[secret]").count(), 4, "{text}");
            assert!(!text.contains("ss w"), "{text}");
        }
    }

    /// Once every letter of the output that was the key's was struck out.
    #[test]
    fn a_key_of_one_letter_or_of_a_plain_word_garbles_nothing_and_is_not_printed() {
        for secret in ["a", "subscription", "s3"] {
            let mut out = Vec::new();
            let mut report = Report::new(&mut out, false, true);
            report.hide(secret);
            report.hide_at("/s3/", secret);
            report.hide_at(".value=", secret);
            let ours = "a subscription at https://host/s3/";
            report.step(Verdict::Create, "subscription", &format!("{ours}{secret} and more"));
            report.exact("POST", &format!("Attributes.entry.1.value={secret}\n<Url>https://host/s3/{secret}</Url>"));
            assert!(report.end());
            let text = String::from_utf8(out).expect("UTF-8");
            assert!(text.contains(&format!("subscription: {ours}[secret] and more")), "{text}");
            assert!(
                text.contains(".value=[secret]\n") && text.contains("<Url>https://host/s3/[secret]</Url>"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_program_learns_of_each_step_which_store_and_instance_it_is_about() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, true, true);
        for instance in ["one", "two"] {
            report.heading("MCS S3", instance);
            report.step(Verdict::Ok, "webhook", "there");
        }
        report.exact("PUT", "<x/>");
        assert!(report.end());
        let whole: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((&whole["done"], &whole["dry_run"]), (&json!(true), &json!(true)));
        let step = json!({ "store": "MCS S3", "instance": "two", "step": "webhook", "verdict": "ok", "text": "there" });
        assert_eq!(whole["steps"][1], step);
        assert_eq!(whole["steps"][2]["would_send"], "PUT");
    }

    #[test]
    fn a_failure_says_what_remains_and_ends_badly() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, false, false);
        report.failure(&Failed {
            step: "topic",
            what: "no".to_owned(),
            remains: vec!["access policy", "subscription"],
        });
        assert!(!report.end());
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains("FAILED") && text.contains("access policy, subscription"), "{text}");
    }
}
