//! The settings by which a sidecar believes the simulator, so that a shell can be given them as they are printed.

use std::borrow::Cow;

/// What is printed: a line for each setting, as a POSIX shell assigns it.
pub(super) fn shown(settings: &[(&str, &str)]) -> String {
    let lines: Vec<_> = settings.iter().map(|(name, value)| format!("  {name}={}\n", quoted(value))).collect();
    format!("The sidecar needs these settings to believe this simulator:\n\n{}", lines.concat())
}

/// `value` as one word of a shell: as it is where no character of it means anything to one, else between single quotes.
fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+".contains(c);
    if value.chars().all(plain) { value.into() } else { format!("'{}'", value.replace('\'', r"'\''")).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` of an MCS pair was a pipe, and `<as --auth>` a redirection.
    #[test]
    fn a_shell_reads_every_value_as_it_was_meant() {
        for value in [
            "mcs2883541269|bucketA",
            "http://127.0.0.1:8443/in?key=a-secret&other=~x",
            "<as --auth>",
            "it's $HOME `id` \\ \"quoted\" * # ; ! end",
            "/tmp/a folder/anchor.pem",
            "two\nlines",
            "",
        ] {
            let script =
                format!("{}printf %s \"$VALUE\"", shown(&[("VALUE", value)]).split_once("\n\n").expect("two").1);
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            assert!(output.status.success() && output.stderr.is_empty(), "{script}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), value, "{script}");
        }
    }

    #[test]
    fn what_means_nothing_to_a_shell_is_not_quoted() {
        for plain in ["http://127.0.0.1:9911", "arn:aws:sns:us-east-1:123456789012:postern-demo", "minio", "a,b"] {
            assert_eq!(quoted(plain), plain);
        }
    }
}
