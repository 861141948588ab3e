//! Null members out of JSON text.

/// `json` without the members of objects that are null, at any depth, and without blanks between tokens. Elements of arrays
/// stay, as their place is their meaning. Text is copied, not read and written again, so numbers keep all their digits,
/// strings their escapes and members their order.
///
/// `json` must be valid; it may be nested to any depth.
pub(super) fn without_nulls(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    // Where the member began that is being read, for each open object; `None` for arrays.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let (token, tail) = rest.split_at(token_length(rest, first));
        rest = tail;
        match first {
            '{' => {
                out.push('{');
                open.push(Some(out.len()));
            }
            '[' => {
                out.push('[');
                open.push(None);
            }
            '}' | ']' => {
                open.pop();
                out.push(first);
            }
            ',' => match open.last_mut() {
                Some(Some(member)) => {
                    // After a member that was removed, the comma before it still stands, or there never was one.
                    if !out.ends_with(['{', ',']) {
                        out.push(',');
                    }
                    *member = out.len();
                }
                _ => out.push(','),
            },
            ' ' | '\t' | '\r' | '\n' => continue,
            'n' if out.ends_with(':') => match open.last() {
                Some(Some(member)) => out.truncate(*member),
                _ => out.push_str(token),
            },
            _ => out.push_str(token),
        }
        if first == '}' {
            drop_trailing_comma(&mut out);
        }
    }
    out
}

/// A last member that was removed leaves its comma before the brace that was just written.
fn drop_trailing_comma(out: &mut String) {
    if out.ends_with(",}") {
        out.truncate(out.len() - 2);
        out.push('}');
    }
}

fn token_length(rest: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut escaped = false;
            for (at, byte) in rest.bytes().enumerate().skip(1) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => return at + 1,
                    _ => {}
                }
            }
            rest.len()
        }
        '{' | '}' | '[' | ']' | ',' | ':' => 1,
        ' ' | '\t' | '\r' | '\n' => 1,
        _ => rest.find([',', ':', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(rest.len()).max(first.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn null_members_go_and_everything_else_stays_as_it_is_written() {
        for (json, expected) in [
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":null,"b":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"b":null}"#, r#"{"a":1}"#),
            (r#"{"a":1,"b":null,"c":2}"#, r#"{"a":1,"c":2}"#),
            (r#"{"a":null,"b":null,"c":null}"#, "{}"),
            (r#"{ "a" : null , "b" : { "c" : null } , "d" : [ null , { "e" : null } ] }"#, r#"{"b":{},"d":[null,{}]}"#),
            (
                r#"{"z":1e999999,"a":10000000000000000000000000,"é":"\ud800 , null }"}"#,
                r#"{"z":1e999999,"a":10000000000000000000000000,"é":"\ud800 , null }"}"#,
            ),
            (r#"{"a:":"null","b\"":null,"null":"x:","c":null}"#, r#"{"a:":"null","null":"x:"}"#),
            (r#"{"a":"x,","b":null}"#, r#"{"a":"x,"}"#),
            ("null", "null"),
            ("[null]", "[null]"),
            (r#""{\"a\":null}""#, r#""{\"a\":null}""#),
            (" 1 ", "1"),
        ] {
            assert_eq!(without_nulls(json), expected, "{json}");
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let json = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(without_nulls(&json), json);
    }

    fn filtered(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, filtered(v))).collect()
            }
            Value::Array(items) => items.into_iter().map(filtered).collect(),
            other => other,
        }
    }

    proptest! {
        #[test]
        fn the_text_filter_agrees_with_a_filter_of_values(value in crate::normalize::tests::arbitrary_json()) {
            let read: Value = serde_json::from_str(&without_nulls(&value.to_string())).expect("still JSON");
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(without_nulls(&pretty), without_nulls(&value.to_string()));
            let expected: Value = serde_json::from_str(&filtered(value).to_string()).expect("JSON");
            prop_assert_eq!(read, expected);
        }
    }
}
