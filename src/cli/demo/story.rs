//! What the demo says, and whether all of it was true.

use std::io::Write as _;

/// The teller: numbered steps, checks, quotations.
#[derive(Debug, Default)]
pub(super) struct Story {
    step: u32,
    failed: Vec<String>,
}

impl Story {
    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        out(&format!("\n{}. {title}\n", self.step));
    }

    pub(super) fn line(&mut self, text: &str) {
        out(&format!("   {text}"));
    }

    /// A line of something that is shown as it is.
    pub(super) fn quote(&mut self, text: &str) {
        out(&format!("     | {text}"));
    }

    /// Says whether something holds, and remembers when it does not.
    pub(super) fn check(&mut self, holds: bool, what: &str) {
        out(&format!("   {} {what}", if holds { "[ok]    " } else { "[NOT OK]" }));
        if !holds {
            self.failed.push(what.to_owned());
        }
    }

    pub(super) fn is_well(&self) -> bool {
        self.failed.is_empty()
    }

    /// The last words.
    pub(super) fn end(&mut self) {
        if self.failed.is_empty() {
            out("\nEverything was as it should be.");
        } else {
            out(&format!("\nNOT as it should be:\n  {}", self.failed.join("\n  ")));
        }
    }

    pub(super) fn complain(&self, why: &str) {
        let _ = writeln!(std::io::stderr(), "postern demo: {why}");
    }
}

fn out(text: &str) {
    // Whoever closes our output does not want the rest; the exit code still tells how it went.
    let _ = writeln!(std::io::stdout(), "{text}");
}
