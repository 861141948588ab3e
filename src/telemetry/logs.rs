//! Logs: `tracing` to standard error, as JSON or text.
//!
//! Field values come from strangers (object keys, answers of a callback). In JSON they cannot end a line; in text every
//! control character is escaped before it is written, so that a key with a line break in it forges no line and one with an
//! escape sequence does nothing to a terminal.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal as _, stderr};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt as _};

/// `POSTERN_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, with the fields beside `timestamp`, `level`, `target` and `message`.
    Json,
    /// For people; coloured on a terminal.
    Text,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Something else in this process logs already.
    #[error("logging was set up twice in one process")]
    AlreadySet,
    /// The filter is none.
    #[error(
        "POSTERN_LOG={filter:?} is no filter: {problem}; use error, warn, info, debug, trace or off, or name parts, such as info,postern::dispatch=debug"
    )]
    Filter {
        /// What was set.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The form that was asked for, or text on a terminal and JSON elsewhere.
pub fn format(asked: Option<crate::config::LogFormat>) -> LogFormat {
    match asked {
        Some(crate::config::LogFormat::Json) => LogFormat::Json,
        Some(crate::config::LogFormat::Text) => LogFormat::Text,
        None if stderr().is_terminal() => LogFormat::Text,
        None => LogFormat::Json,
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// [`LogsError`] when the filter is none, or when logging was started before.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogsError> {
    let ansi = stderr().is_terminal();
    subscriber(filter, format, stderr, ansi)?.try_init().map_err(|_| LogsError::AlreadySet)
}

fn subscriber<W>(
    filter: &str,
    format: LogFormat,
    writer: W,
    ansi: bool,
) -> Result<impl Subscriber + Send + Sync, LogsError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, quiet) = (parse(filter)?, quiet(filter));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
        LogFormat::Text => {
            let fields = debug_fn(|out, field, value| match field.name() {
                "message" => write!(Escaping(out), "{value:?}"),
                name => {
                    write!(out, "{name}=")?;
                    write!(Escaping(out), "{value:?}")
                }
            });
            layer.with_ansi(ansi).fmt_fields(fields.delimited(" ")).boxed()
        }
    };
    Ok(Registry::default().with(layer).with(filter).with(quiet))
}

/// Libraries that log below `info` what they carry: the AWS SDK whole requests and answers, with the tokens in them; the HTTP and TLS
/// libraries heads and frames, and one line for every byte that moves.
const TALKATIVE: [&str; 4] = ["aws_", "h2", "hyper", "rustls"];

/// Caps [`TALKATIVE`] libraries at `info`, so that `POSTERN_LOG=debug` shows what the sidecar does and no secret; only a directive
/// that names one of them, such as `aws_smithy_runtime=trace`, opens what it names.
fn quiet(filter: &str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + Send + Sync + 'static> {
    let is_talkative = |target: &str| TALKATIVE.iter().any(|library| target.starts_with(library));
    let named = filter.split(',').filter_map(|directive| directive.split(['[', '{', '=']).next()).map(str::trim);
    let opened: Vec<String> =
        named.filter(|target| is_talkative(target) || *target == "aws").map(str::to_owned).collect();
    FilterFn::new(move |metadata: &Metadata<'_>| {
        let target = metadata.target();
        *metadata.level() <= Level::INFO
            || !is_talkative(target)
            || opened.iter().any(|named| target.starts_with(named.as_str()))
    })
}

/// Reads a filter. A lone word must be a level: the library would take a misspelt one, such as `verbose`, for the name of a
/// part and log nothing at all.
fn parse(filter: &str) -> Result<EnvFilter, LogsError> {
    let error = |problem: String| LogsError::Filter { filter: filter.to_owned(), problem };
    for directive in filter.split(',').map(str::trim) {
        // An empty word is a level to the library: `error`.
        if !directive.contains('=') && (directive.is_empty() || directive.parse::<LevelFilter>().is_err()) {
            return Err(error(format!("{directive:?} is no level")));
        }
    }
    // The SDK warns of every place that has no credentials, of which all but one are meant to have none; what it finds is told by us.
    let own = filter == "off" || filter.contains("aws_config");
    let filter = if own { filter.to_owned() } else { format!("{filter},aws_config=error") };
    EnvFilter::builder().parse(&filter).map_err(|e| error(e.to_string()))
}

/// Writes control characters as `\u{..}`.
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (clean, tail) = rest.split_at(at);
            self.0.write_str(clean)?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(self.0, "{}", c.escape_unicode())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, and what makes text run backwards or break lines in terminals that know Unicode.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(filter, format, move || writer.clone(), false).expect("a filter");
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    const NASTY: &str = "a\nINFO forged\r\u{1b}[2J\u{9b}2J\u{202e}b";

    #[test]
    fn strangers_words_forge_no_line_and_move_no_cursor_in_text() {
        let text = logged("info", LogFormat::Text, || {
            let span = tracing::info_span!("span", inside = %NASTY);
            let _entered = span.enter();
            tracing::info!(key = %NASTY, quoted = NASTY, debug = ?NASTY, "about {NASTY}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(is_unsafe), "{text:?}");
        assert!(text.contains("INFO") && text.contains("key=a\\u{a}INFO forged"), "{text:?}");
    }

    #[test]
    fn json_is_one_flat_object_a_line_with_an_utc_time() {
        let text = logged("info", LogFormat::Json, || tracing::warn!(key = %NASTY, count = 3, "hello"));
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((line["message"].as_str(), line["level"].as_str()), (Some("hello"), Some("WARN")));
        assert_eq!((line["key"].as_str(), line["count"].as_u64()), (Some(NASTY), Some(3)));
        let time = line["timestamp"].as_str().expect("a time");
        assert!(crate::clock::UnixMillis::parse_rfc3339(time).is_some() && time.ends_with('Z'));
    }

    /// Without an AWS role every confirmation put a page of text about a missing metadata service into the log.
    #[test]
    fn the_sdk_looking_for_credentials_in_vain_is_no_warning_unless_asked_for() {
        let log = || tracing::warn!(target: "aws_config::meta::credentials::chain", "provider failed");
        assert_eq!(logged("debug", LogFormat::Text, log), "");
        assert!(logged("info,aws_config=warn", LogFormat::Text, log).contains("provider failed"));
    }

    #[test]
    fn the_filter_decides_and_a_wrong_one_is_named() {
        assert_eq!(logged("warn", LogFormat::Text, || tracing::info!("hidden")), "");
        assert!(!logged("warn,postern::telemetry=debug", LogFormat::Text, || tracing::debug!("shown")).is_empty());
        for wrong in ["verbose", "info,nonsense", "postern=loud", "", "a=b=c"] {
            let error = parse(wrong).expect_err("no filter").to_string();
            assert!(error.contains("POSTERN_LOG"), "{error}");
        }
    }
    fn libraries() {
        tracing::trace!(target: "aws_smithy_runtime::client::orchestrator", "sdk trace: Token=secret");
        tracing::debug!(target: "aws_sdk_sns::operation", "sdk debug");
        tracing::debug!(target: "hyper::proto::h1", "http debug");
        tracing::debug!(target: "hyper_util::client", "pool debug");
        tracing::trace!(target: "rustls::server::hs", "tls trace");
        tracing::debug!(target: "h2::codec", "frame debug");
    }

    #[test]
    fn libraries_that_log_what_they_carry_are_capped_at_info_unless_named() {
        for filter in ["debug", "trace", "postern=debug,trace", "trace,[{message}]=trace", "trace,a=trace"] {
            assert_eq!(logged(filter, LogFormat::Text, libraries), "", "{filter}");
            let ours = logged(filter, LogFormat::Text, || tracing::debug!("ours"));
            assert!(ours.contains("ours"), "{filter}");
        }
        let info = || tracing::info!(target: "hyper::server", "library info");
        assert!(logged("trace", LogFormat::Text, info).contains("library info"));
        assert_eq!(logged("warn", LogFormat::Text, info), "", "a cap raises nothing");

        let one = logged("debug,aws_smithy_runtime=trace", LogFormat::Text, libraries);
        assert!(one.contains("sdk trace") && one.lines().count() == 1, "{one}");
        let families = logged("info,aws=trace,hyper=debug", LogFormat::Text, libraries);
        assert_eq!(families.lines().count(), 4, "{families}");
    }
}
