//! Instance documents: the JSON of Cloud Elements' `/instances` call as it is, or its `configuration` alone (hard case 19).

use std::path::{Path, PathBuf};

use super::env::unknown;
use super::instance::Draft;
use super::json::Json;
use super::problem::{Problem, clean, quote};
use super::settings;
use super::text::list;
use super::values::{Given, Values, read_bounded};

/// Documents are a few hundred bytes; a file may hold many.
const MAX_FILE: u64 = 4 << 20;
/// A folder with more is the wrong folder.
const MAX_FILES: usize = 1000;
/// Keys of the document around the configuration.
const AROUND: [&str; 4] = ["configuration", "element", "name", "tags"];

/// All documents of the file or folder that `POSTERN_INSTANCES` names. Settings of `unread` are left out with the files that they name,
/// for whoever does without them.
pub(super) fn read(
    given: &Given,
    unread: &[&str],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Vec<Draft> {
    let files = match files(Path::new(&given.text)) {
        Ok(files) => files,
        Err(what) => {
            problems.push(Problem::new(&given.label, what, "name a JSON file, or a folder with some"));
            return Vec::new();
        }
    };
    let mut drafts = Vec::new();
    for path in files {
        let shown = clean(&path.to_string_lossy(), 200);
        match read_bounded(&path, MAX_FILE).and_then(|text| Json::parse(&text)) {
            Ok(json) => file(&shown, json, unread, &mut drafts, problems, warnings),
            Err(what) => {
                problems.push(Problem::new(&shown, what, "repair the file, or take it out of POSTERN_INSTANCES"))
            }
        }
    }
    drafts
}

/// The files to read: the path itself, or the `*.json` of a folder by name. Names that begin with a dot are skipped, which leaves out
/// the `..data` machinery of a mounted ConfigMap; links to files, of which such a mount consists, are followed.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = clean(&path.to_string_lossy(), 200);
    let failed = |error: std::io::Error| format!("{shown} cannot be read: {}", error.kind());
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        let candidate = path.join(&name);
        if !text.starts_with('.') && text.ends_with(".json") && !candidate.is_dir() {
            files.push(candidate);
        }
        if files.len() > MAX_FILES {
            return Err(format!("{shown} holds more than {MAX_FILES} files"));
        }
    }
    if files.is_empty() {
        return Err(format!("{shown} holds no *.json"));
    }
    files.sort();
    Ok(files)
}

/// One file: a document, or a list of them.
fn file(
    shown: &str,
    json: Json,
    unread: &[&str],
    drafts: &mut Vec<Draft>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    match json {
        Json::List(items) if items.is_empty() => {
            problems.push(Problem::new(
                shown,
                "the list of documents is empty",
                "put a document into it, or remove the file",
            ));
        }
        Json::List(items) => {
            for (at, item) in items.iter().enumerate() {
                let place = format!("{shown} (document {})", at + 1);
                drafts.extend(document(&place, item, unread, problems, warnings));
            }
        }
        other => drafts.extend(document(shown, &other, unread, problems, warnings)),
    }
}

/// One document. What it holds is collected even when something is refused, so that the rest is judged as well.
fn document(
    place: &str,
    json: &Json,
    unread: &[&str],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<Draft> {
    const SHAPE: &str = "use the JSON of the /instances call, or its configuration object";
    let Json::Object(members) = json else {
        problems.push(Problem::new(place, format!("the document is {} and not an object", json.kind()), SHAPE));
        return None;
    };
    for key in json.repeated_keys() {
        problems.push(Problem::new(place, format!("the key {} is there twice", quote(&key)), "keep one of the two"));
    }
    let mut draft = Draft {
        values: Values::at(format!("{place}: ")),
        name: None,
        tags: Vec::new(),
        enabled_by_default: false,
        id: None,
    };
    let wrapped = members.iter().find(|(key, _)| key == "configuration").map(|(_, value)| value);
    let mut keys: Vec<&(String, Json)> = members.iter().filter(|(key, _)| !AROUND.contains(&key.as_str())).collect();
    match wrapped {
        Some(Json::Object(configuration)) => {
            for (key, _) in keys.drain(..) {
                let label = format!("{place}: {key}");
                if is_ours(key) || settings::find(key).is_some() {
                    problems.push(Problem::new(
                        &label,
                        "stands beside the configuration",
                        "move it into the configuration object",
                    ));
                } else {
                    warnings.push(format!("{} has no meaning here and is ignored", clean(&label, 300)));
                }
            }
            keys.extend(configuration);
        }
        Some(other) => {
            problems.push(Problem::new(
                &format!("{place}: configuration"),
                format!("is {} and not an object", other.kind()),
                SHAPE,
            ));
            return None;
        }
        None if !keys.iter().any(|(key, _)| key.contains('.') || settings::find(key).is_some()) => {
            problems.push(Problem::new(place, "the document has no configuration", SHAPE));
            return None;
        }
        None => {}
    }
    around(place, members, &mut draft, problems);
    configuration(place, &keys, unread, &mut draft.values, problems, warnings);
    Some(draft)
}

/// Name, tags and element, which stand around the configuration.
fn around(place: &str, members: &[(String, Json)], draft: &mut Draft, problems: &mut Vec<Problem>) {
    for (key, value) in members {
        let label = format!("{place}: {key}");
        let mut refuse = |wanted: &str| {
            problems.push(Problem::new(
                &label,
                format!("is {} and not {wanted}", value.kind()),
                format!("use {wanted}"),
            ));
        };
        match (key.as_str(), value) {
            ("name", Json::Text(text)) => draft.name = Some(text.trim().to_owned()).filter(|name| !name.is_empty()),
            ("name", Json::Number(text)) => draft.name = Some(text.clone()),
            ("tags", Json::Text(text)) => draft.tags = list(text),
            ("tags", Json::List(items)) if items.iter().all(|item| matches!(item, Json::Text(_) | Json::Number(_))) => {
                draft.tags = items.iter().filter_map(Json::as_setting).collect();
            }
            ("element", Json::Object(element)) => {
                let Some((_, key)) = element.iter().find(|(key, _)| key == "key") else { continue };
                match key {
                    Json::Text(text) => {
                        take(&mut draft.values, "element.key", format!("{label}.key"), text.clone(), problems)
                    }
                    _ => refuse("an object with the string key"),
                }
            }
            ("name" | "tags" | "element", Json::Null) => {}
            ("name", _) => refuse("a string"),
            ("tags", _) => refuse("a string or a list of strings"),
            ("element", _) => refuse("an object with the string key"),
            _ => {}
        }
    }
}

/// The keys of the configuration: ours are taken, unknown ones of ours refused, those of other families ignored aloud.
fn configuration(
    place: &str,
    keys: &[&(String, Json)],
    unread: &[&str],
    values: &mut Values,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let webhooks = !keys.iter().any(|(key, value)| {
        key == "event.vendor.type" && matches!(value, Json::Text(text) if text.trim().eq_ignore_ascii_case("polling"))
    });
    for setting in settings::SETTINGS.iter().filter(|setting| setting.is_per_instance()) {
        let ignored = webhooks && setting.name.starts_with("event.poller.");
        if ignored || unread.contains(&setting.name) {
            continue;
        }
        let file_key = format!("{}_FILE", setting.name);
        let mut direct = Vec::new();
        let mut files = Vec::new();
        for (key, value) in keys {
            let label = format!("{place}: {key}");
            // A repeated key is reported already.
            if key == setting.name && direct.is_empty() {
                match plain(setting.name, value) {
                    Ok(text) => direct.extend(text.map(|text| (label, text))),
                    Err(what) => {
                        problems.push(Problem::new(&label, what, "use a single value"));
                        values.mark_broken(setting.name);
                    }
                }
            } else if setting.secret && *key == file_key {
                files.extend(value.as_setting().map(|text| (label, text)));
            }
        }
        values.take(setting, &direct, &files, problems);
        if keys.iter().any(|(key, value)| key == setting.name && matches!(value, Json::List(_))) {
            values.as_lines(setting.name);
        }
    }
    for (key, _) in keys {
        let label = format!("{place}: {key}");
        let stem = key.strip_suffix("_FILE").unwrap_or(key);
        let mut ignore = || warnings.push(format!("{} has no meaning here and is ignored", clean(&label, 300)));
        match settings::find(key).or_else(|| settings::find(stem).filter(|setting| setting.secret)) {
            _ if webhooks && key.starts_with("event.poller.") => ignore(),
            _ if settings::WITHOUT_MEANING.contains(&key.as_str()) => ignore(),
            Some(setting) if setting.is_per_instance() && stem == setting.name => {}
            Some(setting) if setting.is_instance_key() => {
                let advice = format!("write {}", setting.name);
                problems.push(Problem::new(&label, "documents use the dotted spelling", advice));
            }
            Some(_) => problems.push(Problem::new(&label, "holds for the whole process", "set it in the environment")),
            None if is_ours(key) => problems.push(unknown(&label, key)),
            None => ignore(),
        }
    }
}

/// A value as text. Only headers and what is polled may be an object, and only keys, secrets and lists of names may be a list.
fn plain(name: &str, value: &Json) -> Result<Option<String>, String> {
    match (name, value) {
        ("event.notification.callback.headers" | "event.poller.configuration", Json::Object(_)) => {
            Ok(value.as_setting())
        }
        ("event.notification.signature.key" | "POSTERN_S3HTTP_AUTH" | "POSTERN_S3HTTP_SECRET", Json::List(items)) => {
            joined(items, "\n")
        }
        (
            "event.sns.topic.arn"
            | "event.sns.topic.name"
            | "event.objects"
            | "POSTERN_BUCKETS"
            | "POSTERN_MCS_TOPICS"
            | "POSTERN_SQS_QUEUE_URL",
            Json::List(items),
        ) => joined(items, ","),
        (_, Json::Object(_) | Json::List(_)) => Err(format!("is {}", value.kind())),
        _ => Ok(value.as_setting()),
    }
}

fn joined(items: &[Json], separator: &str) -> Result<Option<String>, String> {
    let texts: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Json::Text(text) if !text.contains('\n') => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts
        .map(|texts| Some(texts.join(separator)))
        .ok_or_else(|| "is a list that holds more than strings of one line".to_owned())
}

fn take(values: &mut Values, name: &str, label: String, text: String, problems: &mut Vec<Problem>) {
    if let Some(setting) = settings::find(name) {
        values.take(setting, &[(label, text)], &[], problems);
    }
}

/// Whether an unknown key of this name is a mistake rather than a key of some other part of Cloud Elements.
fn is_ours(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    lower.starts_with("event.") || lower.starts_with("event_") || lower.starts_with("postern")
}
