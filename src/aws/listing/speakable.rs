//! Pure: what XML 1.0 can hold. It has neither most control characters nor U+FFFE and U+FFFF, not even as `&#1;`; a key may have them.

/// Whether XML 1.0 can hold `key` as it is. Where it cannot, Ceph has no readable page that begins after it.
pub fn is_speakable(key: &str) -> bool {
    key.chars().all(speakable)
}

fn speakable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Whether `body` holds, as it is or by its number, what XML cannot; then that is why it cannot be read. A body that is cut off or is
/// something else altogether does not.
pub(super) fn holds_unspeakable(body: &[u8]) -> bool {
    let at = |at: usize| body.get(at..).unwrap_or_default();
    body.iter().enumerate().any(|(place, byte)| match byte {
        b'\t' | b'\n' | b'\r' => false,
        0..b' ' => true,
        0xef => matches!(at(place), [_, 0xbf, 0xbe | 0xbf, ..]),
        b'&' => at(place + 1).strip_prefix(b"#").is_some_and(|rest| !speakable_number(rest)),
        _ => false,
    })
}

/// Whether `reference`, from behind its sign on, is of a character that XML can hold, or is no whole reference.
fn speakable_number(reference: &[u8]) -> bool {
    let (radix, digits) = match reference.strip_prefix(b"x") {
        Some(digits) => (16, digits),
        None => (10, reference),
    };
    // Leading zeros may be many; what is longer than this bound is not what a store writes.
    let length = digits.iter().take(16).take_while(|digit| char::from(**digit).is_digit(radix)).count();
    if digits.get(length) != Some(&b';') {
        return true;
    }
    let number = std::str::from_utf8(&digits[..length]).ok().and_then(|digits| u32::from_str_radix(digits, radix).ok());
    number.is_none_or(|number| char::from_u32(number).is_some_and(speakable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_unspeakable() {
        assert!(["", "a b\t\r\n", "ü\u{ffee}\u{fffd}😀"].iter().all(|key| is_speakable(key)));
        assert!(!["\0", "a\u{1}", "\u{1f}b", "\u{fffe}", "\u{ffff}"].iter().any(|key| is_speakable(key)));
    }

    /// Whatever could not be read was asked for again with encoded keys, and LocalStack leaves keys out then.
    #[test]
    fn a_body_holds_the_unspeakable_as_it_is_or_by_its_number_and_not_because_it_is_broken() {
        for body in
            ["\0", "a\u{1}", "<Key>\u{1f}", "\u{fffe}", "ü\u{ffff}", "&#1;", "&#x1F;", "&#xB;", "&#xfffe;", "a&#00008;"]
        {
            assert!(holds_unspeakable(body.as_bytes()), "{body:?}");
        }
        for body in [
            "",
            "<html>\r\n\tü\u{ffee}\u{fffd}😀",
            "&amp;&lt;",
            "&#9;&#x0a;&#13;&#xFC;",
            "&#",
            "&#x",
            "&#1",
            "&#x1F",
            "&#;",
            "&",
        ] {
            assert!(!holds_unspeakable(body.as_bytes()), "{body:?}");
        }
        assert!(!holds_unspeakable(b"\xef\xbf"), "cut off in a character");
    }
}
