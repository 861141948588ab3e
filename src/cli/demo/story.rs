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

/// `json` with line breaks and indentation, its members in their own order and everything else as it came.
pub(super) fn indented(json: &str) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    let mut characters = json.chars().peekable();
    while let Some(c) = characters.next() {
        if quoted {
            text.push(c);
            (quoted, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            continue;
        }
        match c {
            '{' | '[' if characters.peek().is_some_and(|next| matches!(next, '}' | ']')) => text.push(c),
            '{' | '[' => {
                depth += 1;
                text.push(c);
                text.push('\n');
                text.push_str(&"  ".repeat(depth));
            }
            '}' | ']' => {
                if !text.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    text.push('\n');
                    text.push_str(&"  ".repeat(depth));
                }
                text.push(c);
            }
            ',' => {
                text.push_str(",\n");
                text.push_str(&"  ".repeat(depth));
            }
            ':' => text.push_str(": "),
            _ if c.is_whitespace() => {}
            _ => {
                quoted = c == '"';
                text.push(c);
            }
        }
    }
    text
}

fn out(text: &str) {
    // Whoever closes our output does not want the rest; the exit code still tells how it went.
    let _ = writeln!(std::io::stdout(), "{text}");
}
