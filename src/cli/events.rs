//! `postern events`, `replay` and `discard`: what is owed, delivered, dead; send again; give up on purpose.
//!
//! A listing reads the store beside a running sidecar. A change needs the store's owner: the running sidecar by its admin API, or
//! this command itself while none runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use prometheus_client::registry::Registry;

use super::{EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::config::{self, CallbackUrl, Problem, ProcessEnvironment};
use crate::egress::{Call, Client, Options};
use crate::queue::embedded::{self, OpenError};
use crate::queue::{Filter, InstanceStats, Queue, Row, State, Stats};
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// Which deliveries.
#[derive(Clone, Debug, ClapArgs)]
pub struct Selection {
    /// States, comma-separated: owed, delivered, dead, superseded, discarded
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    state: Vec<State>,
    /// Name of the instance
    #[arg(long)]
    instance: Option<String>,
    /// Bucket
    #[arg(long)]
    bucket: Option<String>,
    /// Key; a prefix where it ends in `*`
    #[arg(long, allow_hyphen_values = true)]
    key: Option<String>,
    /// Event id (20 characters)
    // One of 64 begins with a hyphen.
    #[arg(long, allow_hyphen_values = true)]
    id: Option<String>,
    /// Accepted at or after: a time such as 2026-02-21T16:00:00Z, or an age such as 2h
    #[arg(long, value_parser = parse_time)]
    since: Option<UnixMillis>,
    /// Accepted before: a time or an age
    #[arg(long, value_parser = parse_time)]
    until: Option<UnixMillis>,
    /// Directory of the store [default: POSTERN_DATA_DIR, else /var/lib/postern]
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// `postern events`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// Rows at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// One JSON object a line, with every attempt
    #[arg(long)]
    json: bool,
}

/// `postern replay` and `postern discard`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ChangeArgs {
    #[command(flatten)]
    selection: Selection,
    /// Everything that can be: needed where nothing narrows the selection
    #[arg(long)]
    all: bool,
}

fn parse_state(text: &str) -> Result<State, String> {
    [State::Owed, State::Delivered, State::Dead, State::Superseded, State::Discarded]
        .into_iter()
        .find(|state| state.as_str() == text.trim())
        .ok_or_else(|| "a state is one of owed, delivered, dead, superseded, discarded".to_owned())
}

fn parse_time(text: &str) -> Result<UnixMillis, String> {
    UnixMillis::parse_rfc3339(text)
        .or_else(|| Some(SystemClock.now().minus(humantime::parse_duration(text).ok()?)))
        .ok_or_else(|| "neither a time such as 2026-02-21T16:00:00Z nor an age such as 2h".to_owned())
}

impl Selection {
    fn filter(&self) -> Filter {
        Filter {
            states: self.state.clone(),
            instance: self.instance.clone(),
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            id: self.id.clone(),
            since: self.since,
            until: self.until,
            before_seq: None,
            limit: 0,
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| config::data_dir(&ProcessEnvironment))
    }
}

/// Runs `postern events`.
pub fn list(args: &ListArgs) -> ExitCode {
    let dir = args.selection.data_dir();
    let filter = Filter { limit: args.limit, ..args.selection.filter() };
    let read = embedded::open_readonly(&dir)
        .map_err(|error| error.to_string())
        .and_then(|store| store.list(&filter).and_then(|rows| Ok((rows, store.stats()?))).map_err(|e| e.to_string()));
    let (rows, stats) = match read {
        Ok(read) => read,
        Err(error) => {
            eprintln!("postern events: {error}");
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    let text = if args.json { lines(&rows) } else { summary(&stats, SystemClock.now()) + &table(&rows) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("postern events: the listing cannot be written: {error}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Rows for a program: one JSON object a line.
fn lines(rows: &[Row]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).unwrap_or_default() + "\n").collect()
}

/// What is owed and dead in all, a line for each instance.
fn summary(stats: &Stats, now: UnixMillis) -> String {
    let line = |instance: &InstanceStats| {
        // Whole seconds are enough for an age.
        let age = |at| humantime::format_duration(Duration::from_secs(now.since(at).as_secs()));
        let oldest = instance.oldest_owed.map_or(String::new(), |at| format!(", the oldest for {}", age(at)));
        format!("{}: {} owed{oldest}; {} dead\n", clean(&instance.name), instance.owed, instance.dead)
    };
    let lines: String = stats.instances.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

/// Rows for a person: one line each, with the attempts that failed and count, and the last of them beneath what is not delivered.
fn table(rows: &[Row]) -> String {
    use std::fmt::Write as _;
    if rows.is_empty() {
        return "nothing fits\n".to_owned();
    }
    let mut out = String::new();
    let _ = writeln!(out, "{:<11} {:<20} {:<20} {:<8} OBJECT", "STATE", "ACCEPTED", "EVENT ID", "FAILED");
    for row in rows {
        let _ = writeln!(
            out,
            "{:<11} {:<20} {:<20} {:<8} {} {} ({}{})",
            row.state.as_str(),
            row.accepted_at.to_iso_seconds(),
            row.event_id,
            row.attempts,
            clean(&row.event_name),
            clean(&format!("{}/{}", row.bucket, row.key)),
            clean(&row.instance),
            row.origin.map_or(String::new(), |origin| format!(", {}", origin.as_str())),
        );
        if let Some(reason) = &row.reason {
            let _ = writeln!(out, "            why: {}", clean(reason));
        }
        if let (State::Owed | State::Dead, Some(last)) = (row.state, row.log.last()) {
            let status = last.status.map_or(String::new(), |s| format!(" {s}"));
            let _ = writeln!(out, "            last: {} {}{status} {}", last.at, last.outcome, clean(&last.detail));
        }
        if let Some(at) = row.next_at {
            let _ = writeln!(out, "            next: {at}");
        }
    }
    out
}

/// Keys are anybody's text: control characters must not reach a terminal.
fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Runs `postern replay`.
pub fn replay(args: &ChangeArgs) -> ExitCode {
    change(args, "replay", "owed again", "only dead and superseded events are sent again")
}

/// Runs `postern discard`.
pub fn discard(args: &ChangeArgs) -> ExitCode {
    change(
        args,
        "discard",
        "discarded",
        "only owed and dead events are given up, and superseded ones where --state names them",
    )
}

fn change(args: &ChangeArgs, what: &'static str, done: &str, limits: &str) -> ExitCode {
    let filter = args.selection.filter();
    if filter == Filter::default() && !args.all {
        eprintln!("postern {what}: nothing narrows the selection; name an --id, --state, --instance, ... or say --all");
        return ExitCode::from(EXIT_USAGE);
    }
    let result = super::runtime()
        .map_err(|error| Failure::Unavailable(error.to_string()))
        .and_then(|runtime| runtime.block_on(change_store(&args.selection, filter, args.all, what)));
    let (error, code) = match result {
        Ok(0) => {
            println!("0 {done}");
            eprintln!("postern {what}: nothing fits; {limits}");
            return ExitCode::SUCCESS;
        }
        Ok(count) => {
            println!("{count} {done}");
            return ExitCode::SUCCESS;
        }
        Err(Failure::Settings(error)) => (error, EXIT_USAGE),
        Err(Failure::Unavailable(error)) => (error, EXIT_UNAVAILABLE),
    };
    eprintln!("postern {what}: {error}");
    ExitCode::from(code)
}

/// Why nothing was changed.
enum Failure {
    /// The operator's settings are wrong or missing: trying again does not help.
    Settings(String),
    /// Something else stands in the way.
    Unavailable(String),
}

fn settings(problems: Vec<Problem>) -> Failure {
    Failure::Settings(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self::Unavailable(error)
    }
}

async fn change_store(selection: &Selection, filter: Filter, all: bool, what: &'static str) -> Result<u64, Failure> {
    let metrics = Metrics::register(&mut Registry::default());
    let dir = selection.data_dir();
    let bounds = config::queue(&ProcessEnvironment).map_err(settings)?;
    match embedded::open(&dir, &bounds, &[], Arc::new(SystemClock), metrics) {
        Ok(store) => {
            let count = match what {
                "replay" => store.replay(filter).await,
                _ => store.discard(filter).await,
            };
            store.close().await;
            count.map_err(|error| error.to_string().into())
        }
        // A sidecar is running: it alone may write.
        Err(OpenError::InUse { .. }) => ask_sidecar(filter, all, what).await,
        Err(error) => Err(error.to_string().into()),
    }
}

async fn ask_sidecar(filter: Filter, all: bool, what: &str) -> Result<u64, Failure> {
    let (address, token) = config::admin(&ProcessEnvironment).map_err(settings)?;
    let token: Secret = token.ok_or_else(|| {
        let what = "a sidecar is running on this store and only it may change it: set POSTERN_ADMIN_TOKEN here, as the sidecar has it, so that it can be asked";
        Failure::Settings(what.to_owned())
    })?;
    let url = CallbackUrl::parse(&format!("http://{}/deliveries/{what}", address)).map_err(|(problem, _)| problem)?;
    let mut body = serde_json::to_value(&filter).map_err(|error| error.to_string())?;
    if let (true, Some(object)) = (all, body.as_object_mut()) {
        object.insert("all".to_owned(), true.into());
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| Failure::Settings("POSTERN_ADMIN_TOKEN holds characters that no header can carry".to_owned()))?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    let client = Client::new(Options::default()).map_err(|error| error.to_string())?;
    let reply = client
        .call(Call {
            method: Method::POST,
            url: &url,
            headers,
            body: Bytes::from(body.to_string()),
            timeout: Duration::from_mins(5),
            max_answer: 64 * 1024,
            refuse_longer: true,
        })
        .await
        .map_err(|error| format!("the sidecar's admin API at {} cannot be asked: {error}", address))?;
    if reply.status != StatusCode::OK {
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let why = match (reply.status, answer["error"].as_str()) {
            (StatusCode::UNAUTHORIZED, _) => "POSTERN_ADMIN_TOKEN is not the sidecar's",
            (StatusCode::FORBIDDEN, _) => "the sidecar has no POSTERN_ADMIN_TOKEN: set one there and restart it",
            (_, Some(why)) => why,
            (_, None) => "without a reason; is POSTERN_ADMIN_LISTEN here the sidecar's?",
        };
        return Err(format!("the sidecar answered {}: {}", reply.status, clean(why)).into());
    }
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
    answer["count"].as_u64().ok_or_else(|| "the sidecar's answer has no count".to_owned().into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ChangeArgs,
    }

    /// One id of 64 begins with a hyphen, and `replay --id` took it for an option.
    #[test]
    fn an_id_and_a_key_may_begin_with_a_hyphen() {
        let line = Line::try_parse_from(["replay", "--id", "-l4Gm0cYv8dTn2qWxZ1K", "--key", "-a", "--all"]);
        let args = line.expect("they are values").args;
        assert_eq!(args.selection.id.as_deref(), Some("-l4Gm0cYv8dTn2qWxZ1K"));
        assert!(args.selection.key.as_deref() == Some("-a") && args.all);
    }

    #[test]
    fn a_key_cannot_write_to_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn the_summary_says_what_each_instance_is_owed_and_for_how_long() {
        let instance = InstanceStats {
            name: "photos".into(),
            owed: 3,
            oldest_owed: Some(UnixMillis(0)),
            dead: 1,
            ..InstanceStats::default()
        };
        let stats = Stats { instances: vec![instance], ..Stats::default() };
        assert_eq!(summary(&stats, UnixMillis(90_500)), "photos: 3 owed, the oldest for 1m 30s; 1 dead\n\n");
        assert_eq!(summary(&Stats::default(), UnixMillis(0)), "");
    }

    #[test]
    fn times_are_read_as_times_or_ages() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(UnixMillis(1000)));
        assert!(parse_time("2h").is_ok_and(|at| at < SystemClock.now()));
        assert!(parse_time("soon").is_err());
    }
}
