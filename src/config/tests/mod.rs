//! Tests of whole configurations.

mod document;
mod environment;
mod fetching;
mod secrets;
mod ways;

use std::collections::BTreeMap;

use super::*;

const ARN: &str = "arn:aws:sns:us-east-1:123456789012:uploads";
const ARN2: &str = "arn:aws:sns:eu-central-1:123456789012:scans";

type Map = BTreeMap<String, String>;

/// `pairs` as an environment.
fn bare(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// `pairs` on top of the least that starts.
fn env(pairs: &[(&str, &str)]) -> Map {
    let mut map = bare(&[
        ("POSTERN_TLS", "off"),
        ("EVENT_SNS_TOPIC_ARN", ARN),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost:3000/events"),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "0123456789abcdef"),
    ]);
    map.extend(bare(pairs));
    map
}

/// `pairs` with one document file and without an instance of the environment's own.
fn with_document(json: &str, pairs: &[(&str, &str)]) -> (tempfile::TempDir, Map) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.json"), json).expect("a file");
    let mut map = bare(&[("POSTERN_TLS", "off")]);
    map.insert("POSTERN_INSTANCES".into(), folder.path().to_str().expect("a path").to_owned());
    map.extend(bare(pairs));
    (folder, map)
}

#[track_caller]
fn good(map: &Map) -> Config {
    load(map).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

#[track_caller]
fn bad(map: &Map) -> Vec<Problem> {
    load(map).expect_err("problems")
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The only problem there is.
#[track_caller]
fn one(map: &Map) -> Problem {
    let problems = bad(map);
    assert_eq!(problems.len(), 1, "{}", lines(&problems));
    problems[0].clone()
}

fn warns(config: &Config, what: &str) -> bool {
    config.warnings.iter().any(|warning| warning.contains(what))
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let path = file.path().to_str().expect("a path").to_owned();
    (file, path)
}

/// What a document without a callback of its own needs.
const CALLBACK: (&str, &str) = ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost:3000/");

/// An enabled document with a topic, and `extra` at the end of its configuration.
fn document(extra: &str) -> String {
    format!(
        r#"{{"name": "n", "configuration": {{"event.notification.enabled": "true", "event.sns.topic.arn": "{ARN}"{extra}}}}}"#
    )
}
