//! Small grammars: booleans, durations, sizes and lists, as text. Each failure is `(what is wrong, what to do)`.

use std::time::Duration;

use super::problem::quote;

/// What is wrong with a value, and what to do about it.
pub(super) type Wrong = (String, String);

/// A failure in two parts.
pub(super) fn wrong<T>(what: impl Into<String>, advice: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), advice.into()))
}

/// `true` or `false`, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => wrong(format!("{} is neither true nor false", quote(text)), "use true or false"),
    }
}

/// One of the words of `choices`, in any case.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        return Ok(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    wrong(format!("{} is not a choice", quote(text)), format!("use {}", words.join(", ")))
}

/// A whole number from `min` to `max`.
pub(super) fn number(text: &str, min: u64, max: u64) -> Result<u64, Wrong> {
    match text.parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => wrong(
            format!("{} is not a whole number from {min} to {max}", quote(text)),
            format!("use a number from {min} to {max}"),
        ),
    }
}

/// Longer durations are mistakes, and sums with them could overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A duration with its units, such as `90m` or `1h 30m`. A bare number is refused, because its unit would be a guess; `0` needs none.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const ADVICE: &str = "use a number with its unit, such as 500ms, 10s, 90m or 72h";
    if text.bytes().all(|c| c == b'0') {
        return Ok(Duration::ZERO);
    }
    if text.bytes().all(|c| c.is_ascii_digit()) {
        return wrong(format!("{} has no unit", quote(text)), ADVICE);
    }
    match humantime::parse_duration(text) {
        Ok(value) if value <= MAX_DURATION => Ok(value),
        Ok(_) => wrong(format!("{} is longer than ten years", quote(text)), ADVICE),
        Err(_) => wrong(format!("{} is not a duration", quote(text)), ADVICE),
    }
}

/// A size in bytes: a plain number, or one with `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`, `TB` (of 1000).
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    const ADVICE: &str = "use bytes or a number with KiB, MiB or GiB, such as 512MiB";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kib" | "ki" => Some(1 << 10),
        "mib" | "mi" => Some(1 << 20),
        "gib" | "gi" => Some(1 << 30),
        "tib" | "ti" => Some(1 << 40),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "tb" => Some(1_000_000_000_000),
        _ => None,
    };
    // SQLite and the arithmetic on fill levels count in i64.
    let fits = |bytes: &u64| i64::try_from(*bytes).is_ok();
    let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f)).filter(fits);
    bytes.map_or_else(|| wrong(format!("{} is not a size", quote(text)), ADVICE), Ok)
}

/// The parts of a comma-separated list, trimmed, without empty ones and without repetitions.
pub(super) fn list(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if !parts.iter().any(|known| known == part) {
            parts.push(part.to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_their_unit_and_zero_does_not() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("72h"), Ok(Duration::from_secs(72 * 3600)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("90").is_err_and(|(what, advice)| what.contains("no unit") && advice.contains("90m")));
        for bad in ["-1s", "s", "10 parsecs", "99999999y", "9999999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_carry_a_binary_or_decimal_unit() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("512 MiB"), Ok(512 << 20));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for bad in
            ["", "GiB", "1.5GiB", "-1", "1 gigabyte", "99999999999999999999", "9223372036854775808", "99999999TiB"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_trimmed_and_hold_nothing_twice() {
        assert_eq!(list(" a, b ,,a,"), ["a", "b"]);
    }

    #[test]
    fn choices_and_booleans_are_read_in_any_case_and_failures_say_what_is_possible() {
        assert_eq!(boolean("True"), Ok(true));
        assert!(boolean("yes").is_err());
        let choices = [("on", true), ("off", false)];
        assert_eq!(choice("OFF", &choices), Ok(false));
        assert_eq!(choice("maybe", &choices), Err(("\"maybe\" is not a choice".into(), "use on, off".into())));
    }
}
