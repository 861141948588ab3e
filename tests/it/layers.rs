//! Imports go down only, and the pure core stays pure.
//!
//! Both rules are read off the sources: every path that begins at the crate's root, however it is spelled, is resolved to a top-level
//! module and compared with the order below. Code under `#[cfg(test)]` may import what it likes.

use std::path::Path;

use crate::support::{repository_root, source_files};

/// Top-level modules from the bottom up. A module may import those of lower rows and its own row.
const ROWS: [&[&str]; 6] = [
    &["clock", "secret", "event"],
    &["config", "health", "record", "shutdown", "telemetry"],
    &["aws", "egress", "normalize", "queue"],
    &["admin", "dispatch", "listener", "sources"],
    &["app", "simulator"],
    &["cli"],
];

/// Rows whose modules never import each other: services meet at the queue.
const STRANGERS: [usize; 2] = [3, 4];

/// The seam of the listener that sources implement; the only import between services.
const SEAM: [&str; 5] = ["Answer", "Intake", "MAX_BODY_BYTES", "Request", "Source"];

/// Modules without tokio, network, file, environment, clock or randomness, as file or folder under src.
const PURE: &[&str] = &[
    "aws/setup/known",
    "aws/setup/overlap",
    "aws/setup/policy",
    "aws/setup/wanted",
    "aws/setup/xml",
    "cli/redact",
    "dispatch/circuit",
    "dispatch/format",
    "dispatch/retry",
    "dispatch/sign",
    "event",
    "normalize",
    "queue/state",
    "record",
    "sources/changes",
    "sources/listing/merge",
    "sources/mcs/handshake",
    "sources/mcs/message",
    "sources/s3http/auth",
    "sources/s3http/body",
    "sources/sns/chain",
    "sources/sns/message",
    "sources/sns/url",
    "sources/sns/verify",
    "sources/sqs/pace",
    "sources/sqs/recognise",
];

/// What the pure core may not name. Addresses (`IpAddr`) are values, so `std::net` is judged by what opens a socket.
const IMPURE: [&str; 20] = [
    "tokio",
    "hyper_util",
    "rusqlite",
    "rustix",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::process",
    "std::thread",
    "File::open",
    "Path::exists",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "SystemTime::now",
    "Instant::now",
    "now_utc",
    "SystemRandom",
    "crate::egress",
];

#[test]
fn imports_go_down_only() {
    let mut problems = Vec::new();
    for file in source_files() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let name = relative(&file);
        problems
            .extend(upward_imports(&name, &text).into_iter().map(|(line, what)| format!("src/{name}:{line}: {what}")));
    }
    assert!(problems.is_empty(), "imports that do not go down:\n  {}", problems.join("\n  "));
}

#[test]
fn the_pure_core_touches_no_outside() {
    let mut problems = Vec::new();
    for file in source_files() {
        let name = relative(&file);
        if is_pure(&name) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            problems.extend(impurities(&text).into_iter().map(|(line, what)| {
                format!("src/{name}:{line}: {what} in the pure core; take what it gives as an argument")
            }));
        }
    }
    assert!(problems.is_empty(), "the pure core touches the outside:\n  {}", problems.join("\n  "));
}

#[test]
fn every_top_level_module_has_its_row() {
    let mut unknown = Vec::new();
    for entry in std::fs::read_dir(repository_root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let is_module = path.is_dir() || path.extension().is_some_and(|e| e == "rs");
        if is_module && module != "lib" && module != "main" && row(&module).is_none() {
            unknown.push(module);
        }
    }
    assert!(unknown.is_empty(), "give these modules a row in tests/it/layers.rs: {unknown:?}");
}

fn relative(file: &Path) -> String {
    file.strip_prefix(repository_root().join("src")).expect("under src").to_string_lossy().replace('\\', "/")
}

fn is_pure(file: &str) -> bool {
    PURE.iter().any(|p| file == format!("{p}.rs") || file.starts_with(&format!("{p}/")))
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Lines and reasons of the imports of `file` (relative to src) that do not go down.
fn upward_imports(file: &str, text: &str) -> Vec<(usize, String)> {
    let modules = module_path(file);
    let Some(own) = modules.first().filter(|own| **own != "lib" && **own != "main") else { return Vec::new() };
    let Some(own_row) = row(own) else { return Vec::new() };
    let code = without_tests_and_comments(text);
    let mut problems = Vec::new();
    for (line, path) in root_paths(&code, modules.len()) {
        let Some(other) = path.first().filter(|other| *other != own) else { continue };
        let Some(other_row) = row(other) else { continue };
        let seam = *own == "sources" && other == "listener" && path.get(1).is_some_and(|n| SEAM.contains(&n.as_str()));
        if other_row > own_row {
            problems.push((line, format!("{own} imports {}, which is above it", path.join("::"))));
        } else if other_row == own_row && STRANGERS.contains(&own_row) && !seam {
            problems.push((line, format!("{own} imports {}; the two never import each other", path.join("::"))));
        }
    }
    problems
}

/// Lines and words of what `text` names of the outside.
fn impurities(text: &str) -> Vec<(usize, &'static str)> {
    let code = without_tests_and_comments(text);
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for needle in IMPURE {
            let hit = line
                .match_indices(needle)
                .any(|(at, _)| !line[..at].ends_with(word) && !line[at + needle.len()..].starts_with(word));
            if hit {
                found.push((number + 1, needle));
            }
        }
        // `use std::{fs, ...}`: the group form of the same names.
        if let Some((_, group)) = line.split_once("std::{") {
            let names: Vec<_> = group.split(|c: char| !word(c)).collect();
            for (name, needle) in
                [("env", "std::env"), ("fs", "std::fs"), ("process", "std::process"), ("thread", "std::thread")]
            {
                if names.contains(&name) {
                    found.push((number + 1, needle));
                }
            }
        }
    }
    found
}

/// `sources/sns/mod.rs` -> `[sources, sns]`.
fn module_path(file: &str) -> Vec<&str> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    stem.split('/').filter(|part| *part != "mod").collect()
}

/// The text with the same lines, where comments, what is behind `//`, and modules under `#[cfg(test)]` are blank.
fn without_tests_and_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = Vec::with_capacity(lines.len());
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "#[cfg(test)]" {
            let indent = lines[at].len() - lines[at].trim_start().len();
            // The item that follows ends at the first line of the same indent that closes it, as rustfmt writes it.
            let closes = |line: &&str| {
                let own = line.len() - line.trim_start().len();
                own == indent && (line.trim_end().ends_with(';') || line.trim_start().starts_with('}'))
            };
            let item = lines[at + 1..].iter().position(closes).map_or(lines.len(), |offset| at + 1 + offset);
            kept.extend(std::iter::repeat_n("", (item + 1).min(lines.len()) - at));
            at = item + 1;
            continue;
        }
        let line = lines[at];
        let comment = if line.trim_start().starts_with("//") { Some(0) } else { line.find(" // ") };
        kept.push(comment.map_or(line, |end| &line[..end]));
        at += 1;
    }
    kept.join("\n")
}

/// Every path from the crate's root with the line it stands in: `crate::a::b`, `crate::{a, b::c}`, and `super::` chains that lead
/// to the root from a module `depth` levels below it.
fn root_paths(code: &str, depth: usize) -> Vec<(usize, Vec<String>)> {
    let mut starts: Vec<(usize, usize)> =
        code.match_indices("crate::").map(|(at, word)| (at, at + word.len())).collect();
    let up = "super::".repeat(depth);
    starts.extend(code.match_indices(up.as_str()).map(|(at, word)| (at, at + word.len())));
    let mut paths = Vec::new();
    for (at, end) in starts {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut rest = &code[end..];
        let mut found = Vec::new();
        tree(&mut rest, &mut Vec::new(), &mut found);
        paths.extend(found.into_iter().map(|path| (line, path)));
    }
    paths.sort();
    paths
}

/// Reads one use tree from the front of `rest` and adds its paths, each below `prefix`.
fn tree(rest: &mut &str, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let depth = prefix.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            *rest = inside;
            loop {
                tree(rest, prefix, paths);
                *rest = rest.trim_start();
                if let Some(more) = rest.strip_prefix(',') {
                    *rest = more;
                } else {
                    *rest = rest.strip_prefix('}').unwrap_or("");
                    break;
                }
            }
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        *rest = after;
        if !name.is_empty() {
            prefix.push(name.to_owned());
        }
        if let Some(deeper) = rest.strip_prefix("::") {
            *rest = deeper;
            continue;
        }
        if !name.is_empty() {
            paths.push(prefix.clone());
        }
        // `a as b`: the new name changes nothing.
        if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
            let end = renamed.find([',', '}', ';']).unwrap_or(renamed.len());
            *rest = &renamed[end..];
        }
        break;
    }
    prefix.truncate(depth);
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    let lines =
        |file: &str, text: &str| upward_imports(file, text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(lines("queue/mod.rs", "use crate::event::Event;\nuse crate::dispatch::sign;\n"), [2]);
    assert_eq!(lines("queue/mod.rs", "use crate::{\n    event::{Event, EventId},\n    app,\n};\n"), [1]);
    assert_eq!(lines("config/env.rs", "fn f() {\n    crate::queue::memory_key(&[]);\n}\n"), [2]);
    assert_eq!(lines("config/env.rs", "use super::super::queue::memory_key;\n"), [1]);
    assert_eq!(lines("config/mod.rs", "use super::queue::memory_key;\n"), [1]);
    assert_eq!(lines("config/env.rs", "use super::queue::names;\n"), [0; 0], "config::queue is its own");
    assert_eq!(lines("dispatch/mod.rs", "use crate::sources::sns;\n"), [1], "services are strangers");
    assert_eq!(lines("sources/sns/source.rs", "use crate::listener::{Answer, Request, Source};\n"), [0; 0]);
    assert_eq!(lines("sources/sns/source.rs", "use crate::listener::{Answer, tls};\n"), [1], "only the seam");
    assert_eq!(lines("cli/serve.rs", "use crate::app;\nuse crate::config::Config as Settings;\n"), [0; 0]);
    assert_eq!(lines("app.rs", "use crate::cli::serve;\n"), [1]);
}

#[test]
fn tests_and_comments_are_not_imports() {
    let text = "// use crate::app;\nlet a = 1; // crate::app\n#[cfg(test)]\nmod tests {\n    use crate::app;\n}\nuse crate::cli;\n";
    assert_eq!(upward_imports("queue/mod.rs", text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [7]);
}

#[test]
fn what_is_impure_is_found_by_whole_words() {
    let lines = |text: &str| impurities(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(lines("use std::net::IpAddr;\nlet asynchronous = 1;\n"), [0; 0]);
    assert_eq!(lines("use tokio::sync::mpsc;\n"), [1]);
    assert_eq!(lines("\nlet now = std::time::SystemTime::now();\n"), [2]);
    assert_eq!(lines("use std::{collections::BTreeMap, fs};\n"), [1]);
    assert!(is_pure("sources/sns/verify.rs") && is_pure("sources/sns/verify/window.rs") && is_pure("record/aws.rs"));
    assert!(!is_pure("sources/sns/certs.rs") && !is_pure("queue/stated.rs"));
}
