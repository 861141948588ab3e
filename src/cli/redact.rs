//! Which secrets can be struck out of a text, and how. Pure.
//!
//! To search a text for a secret is a second line of defence: what a command says, it makes without secrets, or strikes them out where
//! it put them. A search for a short secret, or for a plain word, would strike out the command's own words, and the letters that
//! are missing would still tell the secret.

/// Shorter ones are not searched for: they are parts of words.
const SHORTEST: usize = 8;
/// From this length on nothing contains one by chance, so it is found within a longer run of letters too.
const UNMISTAKABLE: usize = 16;

/// Whether a whole text can be searched for `secret` without a loss of other words.
pub(super) fn is_searchable(secret: &str) -> bool {
    let is_word = secret.bytes().all(|c| c.is_ascii_lowercase());
    secret.len() >= UNMISTAKABLE || (secret.len() >= SHORTEST && !is_word)
}

/// Strikes `secret` out wherever it stands by itself; a long one also within other letters.
pub(super) fn search(text: &str, secret: &str, by: &str) -> String {
    if secret.len() >= UNMISTAKABLE { text.replace(secret, by) } else { strike(text, "", secret, by) }
}

/// Strikes `secret` out where it stands right behind `place`, such as the `:` before a URL's password, and ends there. Also the shortest
/// secret can be struck out so.
pub(super) fn strike(text: &str, place: &str, secret: &str, by: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    let needle = format!("{place}{secret}");
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(&needle) {
        let (before, after) = (&rest[..at], &rest[at + needle.len()..]);
        // A letter that only looks like the secret's end, or its beginning where no place tells it.
        let within = (secret.ends_with(goes_on) && after.starts_with(goes_on))
            || (place.is_empty()
                && secret.starts_with(goes_on)
                && (before.ends_with(goes_on) || (before.is_empty() && out.ends_with(goes_on))));
        if within {
            // The first character of what was found is passed over, and the search goes on behind it.
            let step = at + needle.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..step]);
            rest = &rest[step..];
        } else {
            out.push_str(before);
            out.push_str(place);
            out.push_str(by);
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_and_a_plain_word_are_not_searched_for() {
        for secret in ["", "k", "secret", "callback", "subscription", "Zq7-x"] {
            assert!(!is_searchable(secret), "{secret}");
        }
        for secret in ["p&ss w\"rd", "hunter2-long", "abcdefghijklmnop"] {
            assert!(is_searchable(secret), "{secret}");
        }
    }

    #[test]
    fn a_search_strikes_out_what_stands_by_itself() {
        assert_eq!(search("hunter2x hunter2xy /hunter2x/", "hunter2x", "*"), "* hunter2xy /*/");
        assert_eq!(search("xabcdefghijklmnopx", "abcdefghijklmnop", "*"), "x*x", "unmistakable");
        assert_eq!(search("ab-ab-abc-ab", "ab-ab", "*"), "*-abc-ab");
        assert_eq!(search("é-aaé-aa é-aa", "é-aa", "*"), "é-aaé-aa *", "within letters of more than a byte");
    }

    #[test]
    fn the_shortest_secret_is_struck_out_in_its_place_and_nowhere_else() {
        assert_eq!(
            strike("a bucket at https://a:a@a/s3/a and /s3/ab", "/s3/", "a", "*"),
            "a bucket at https://a:a@a/s3/* and /s3/ab"
        );
        assert_eq!(strike("https://me:a@host/a", "me:", "a", "*"), "https://me:*@host/a");
        assert_eq!(strike("text", "", "", "*"), "text");
    }
}
