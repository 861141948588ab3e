//! `event.objects`: which events an instance wants.

use globset::{GlobBuilder, GlobMatcher};

use super::ObjectFilter;
use super::problem::quote;
use super::text::{Wrong, wrong};

/// More conditions, or longer ones, are a mistake; each costs time for each event.
const MAX_CONDITIONS: usize = 64;
const MAX_CONDITION: usize = 1024;

impl ObjectFilter {
    /// Reads a comma-separated list of object types (`file`, `folder`), event patterns (`s3:ObjectCreated:*`) and key globs
    /// (`key:images/**/*.png`). Commas within the braces of a glob do not separate; blanks around colons of an event are dropped
    /// (hard case 19).
    ///
    /// # Errors
    /// What is wrong with the first bad entry, and what to do.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let mut filter = Self::default();
        for entry in entries(text) {
            filter.add(entry)?;
        }
        if filter.types.len() + filter.events.len() + filter.keys.len() > MAX_CONDITIONS {
            return wrong(format!("there are more than {MAX_CONDITIONS} conditions"), "use fewer, wider patterns");
        }
        Ok(filter)
    }

    /// Whether an event passes: of each kind of condition that is present, one fits. `event_name` is with or without `s3:`.
    pub fn matches(&self, object_type: &str, event_name: &str, key: &str) -> bool {
        let event_name = event_name.strip_prefix("s3:").unwrap_or(event_name);
        (self.types.is_empty() || self.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(object_type)))
            && (self.events.is_empty() || self.events.iter().any(|pattern| event_fits(pattern, event_name)))
            && (self.keys.is_empty() || self.keys.iter().any(|glob| glob.is_match(key)))
    }

    fn add(&mut self, entry: &str) -> Result<(), Wrong> {
        if entry.len() > MAX_CONDITION {
            return wrong(format!("{} is longer than {MAX_CONDITION} bytes", quote(entry)), "use a shorter pattern");
        }
        if let Some(glob) = entry.strip_prefix("key:") {
            self.keys.push(key_glob(glob.trim())?);
        } else if entry.contains(':') {
            self.events.push(event_pattern(entry)?);
        } else {
            self.types.push(object_type(entry)?);
        }
        Ok(())
    }
}

/// The entries of a list whose commas inside `{}` and `[]` do not count.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|entry| !entry.is_empty())
}

fn object_type(entry: &str) -> Result<String, Wrong> {
    match entry.to_ascii_lowercase().as_str() {
        "file" | "files" => Ok("file".to_owned()),
        "folder" | "folders" => Ok("folder".to_owned()),
        _ => wrong(
            format!("{} is no object type, event pattern or key glob", quote(entry)),
            "use file, folder, an event such as s3:ObjectCreated:*, or a glob such as key:images/**",
        ),
    }
}

/// An event pattern without `s3:` and without blanks around its colons. Names stay open: Amazon adds new ones.
fn event_pattern(entry: &str) -> Result<String, Wrong> {
    let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
    let parts = if parts[0].eq_ignore_ascii_case("s3") { &parts[1..] } else { &parts[..] };
    let word = |part: &&str| part.bytes().all(|c| c.is_ascii_alphanumeric()) && !part.is_empty();
    let fits = parts.split_last().is_some_and(|(last, rest)| {
        let stem = last.strip_suffix('*').unwrap_or(last);
        rest.iter().all(word) && (*last == "*" || word(&stem))
    });
    if !fits {
        return wrong(
            format!("{} is not an event pattern", quote(entry)),
            "use a name such as s3:ObjectRemoved:Delete, with * only at its end",
        );
    }
    Ok(parts.join(":"))
}

fn event_fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |stem| name.starts_with(stem))
}

/// A glob over the decoded key: `*` stays within one folder, `**` does not.
fn key_glob(glob: &str) -> Result<GlobMatcher, Wrong> {
    if glob.is_empty() {
        return wrong("a key glob is empty", "write it after the colon, such as key:images/**");
    }
    match GlobBuilder::new(glob).literal_separator(true).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => wrong(format!("{} is not a glob: {}", quote(glob), error.kind()), "see the README for the forms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str, object_type: &str, event: &str, key: &str) -> bool {
        ObjectFilter::parse(filter).expect(filter).matches(object_type, event, key)
    }

    #[test]
    fn an_empty_filter_passes_everything() {
        assert!(passes("", "file", "ObjectCreated:Put", "a"));
        assert!(passes(" , ", "folder", "Anything", "a/"));
    }

    #[test]
    fn each_kind_of_condition_that_is_present_must_have_one_that_fits() {
        let filter = "file, s3:ObjectCreated:*, ObjectRemoved:Delete, key:images/**/*.png, key:docs/*";
        assert!(passes(filter, "file", "ObjectCreated:Put", "images/a/b/c.png"));
        assert!(passes(filter, "file", "s3:ObjectRemoved:Delete", "docs/a"));
        assert!(!passes(filter, "folder", "ObjectCreated:Put", "images/c.png"));
        assert!(!passes(filter, "file", "ObjectRemoved:DeleteMarkerCreated", "docs/a"));
        assert!(!passes(filter, "file", "ObjectCreated:Put", "docs/a/b"));
    }

    #[test]
    fn blanks_around_the_colons_of_an_event_do_not_count() {
        assert!(passes("s3: ObjectCreated: *", "file", "ObjectCreated:Copy", "a"));
        assert!(!passes("s3 : ObjectCreated : *", "file", "ObjectRemoved:Delete", "a"));
        assert!(passes("s3:*", "file", "Brand:New", "a"));
    }

    #[test]
    fn a_star_within_a_key_stays_within_its_folder_and_two_do_not() {
        assert!(passes("key:*.png", "file", "x", "a.png"));
        assert!(!passes("key:*.png", "file", "x", "b/a.png"));
        assert!(passes("key:**/*.png", "file", "x", "b/c/a.png"));
        assert!(passes("key:{a,b}/**", "file", "x", "b/c"));
        assert!(!passes("key:{a,b}/**", "file", "x", "c/b"));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_there_is() {
        for bad in [
            "Contact",
            "ObjectCreated*",
            "s3:",
            "s3::",
            "s3:Object*Created",
            ":*",
            "s3:a b:c",
            "key:",
            "key:[",
            "key:{a",
        ] {
            let (_, advice) = ObjectFilter::parse(bad).expect_err(bad);
            assert!(!advice.is_empty());
        }
        assert!(ObjectFilter::parse(&"key:a*,".repeat(65)).is_err());
    }
}
