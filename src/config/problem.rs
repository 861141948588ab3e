//! What is wrong with the configuration, in words that name the setting and never a secret.

use std::fmt;

/// One thing that keeps the sidecar from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting as the operator spelt it; for an instance document the file and the key.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
}

impl Problem {
    /// A problem of the setting `name`. Names may come from outside, so they are cleaned and cut here.
    pub(super) fn new(name: &str, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: clean(name, MAX_NAME), problem: problem.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.name, self.problem, self.advice)
    }
}

impl std::error::Error for Problem {}

/// Longest name in a message: a path and a key.
const MAX_NAME: usize = 300;
/// Longest value in a message.
const MAX_VALUE: usize = 80;

/// A value for a message: in quotes, at most 80 characters, without control characters. Never for a secret.
pub(super) fn quote(value: &str) -> String {
    format!("\"{}\"", clean(value, MAX_VALUE))
}

/// A URL for a message. What may hold a secret is left out: everything from the query on, and a URL with user information whole.
pub(super) fn quote_url(value: &str) -> String {
    if value.contains('@') {
        return "the URL".to_owned();
    }
    match value.find(['?', '#']) {
        Some(at) => format!("{}…", quote(&value[..at])),
        None => quote(value),
    }
}

/// `text` without control characters and of bounded length, for messages and warnings.
pub(super) fn clean(text: &str, max: usize) -> String {
    let printable = |c: char| if c.is_control() || is_direction(c) { '\u{fffd}' } else { c };
    let mut cleaned: String = text.chars().take(max).map(printable).collect();
    if text.chars().nth(max).is_some() {
        cleaned.push('…');
    }
    cleaned
}

/// Characters that change the direction of text, with which a value could disguise the message around it.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_name_then_what_then_advice() {
        let problem = Problem::new("POSTERN_TLS", "\"maybe\" is not a choice", "use on or off");
        assert_eq!(problem.to_string(), "POSTERN_TLS: \"maybe\" is not a choice; use on or off");
    }

    #[test]
    fn a_quoted_value_is_bounded_and_holds_no_control_characters() {
        assert_eq!(quote(&"x".repeat(81)), format!("\"{}…\"", "x".repeat(80)));
        assert_eq!(quote(&"x".repeat(80)), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(quote("a\u{1b}[31m\nb\u{202e}"), "\"a\u{fffd}[31m\u{fffd}b\u{fffd}\"");
    }

    #[test]
    fn a_quoted_url_shows_neither_user_information_nor_query() {
        assert_eq!(quote_url("https://me:hunter2@app/"), "the URL");
        assert_eq!(quote_url("gopher://app/x?token=hunter2"), "\"gopher://app/x\"…");
    }
}
