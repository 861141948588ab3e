//! What the README and the examples say is what the code does.
//!
//! `POSTERN_UPDATE_README=1 cargo test --test it readme` writes the table of settings into the README.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
#[cfg(feature = "aws")]
use std::path::PathBuf;
use std::process::Command;

use postern::config::{self, Config, settings};
use postern::sources::sns::refusal::Reason;

use crate::support::repository_root;
use crate::support::sidecar::Sidecar;

const BEGIN: &str = "<!-- settings:begin -->\n";
const END: &str = "<!-- settings:end -->";

/// Pages that name metrics, commands and settings to people.
const PAGES: [&str; 15] = [
    "README.md",
    "CHANGELOG.md",
    "deploy/kubernetes/mcs.yaml",
    "deploy/kubernetes/network-policy.yaml",
    "deploy/kubernetes/setup.yaml",
    "deploy/kubernetes/sidecar.yaml",
    "deploy/kubernetes/worker.yaml",
    "deploy/prometheus/rules.test.yaml",
    "deploy/prometheus/rules.yaml",
    "deploy/recipes/listing.md",
    "deploy/recipes/setup.md",
    "deploy/recipes/sqs.md",
    "deploy/recipes/stores.md",
    "deploy/systemd/postern.service",
    "examples/env.sample",
];

fn page(name: &str) -> String {
    std::fs::read_to_string(repository_root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands between `before` and `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before:?} is missing"));
    rest.split_once(after).unwrap_or_else(|| panic!("{after:?} is missing behind {before:?}")).0
}

#[test]
fn the_readme_shows_the_settings_that_there_are() {
    let readme = page("README.md");
    let (shown, table) = (between(&readme, BEGIN, END), settings::markdown());
    if std::env::var_os("POSTERN_UPDATE_README").is_some() {
        let updated = readme.replace(&format!("{BEGIN}{shown}{END}"), &format!("{BEGIN}{table}{END}"));
        std::fs::write(repository_root().join("README.md"), updated).expect("the README can be written");
        return;
    }
    assert!(
        shown == table,
        "the README's table of settings is old: POSTERN_UPDATE_README=1 cargo test --test it readme"
    );
}

#[test]
fn the_sample_environment_names_every_setting_with_its_default() {
    let mut missing: BTreeMap<String, &settings::Setting> =
        settings::SETTINGS.iter().filter(|s| s.available).map(|s| (s.shell_name(), s)).collect();
    for (name, value) in assignments(&page("examples/env.sample"), true) {
        let known = missing.remove(&name).or_else(|| {
            let setting = missing.remove(name.strip_suffix("_FILE")?)?;
            assert!(setting.secret, "{name} cannot come from a file");
            Some(setting)
        });
        let setting =
            known.unwrap_or_else(|| panic!("examples/env.sample: {name} is no setting, or stands there twice"));
        // A default in words, such as "the topic's name", is none that could stand there.
        if !setting.default.is_empty() && !setting.default.contains(' ') {
            assert_eq!(value, setting.default, "examples/env.sample: the default of {name}");
        }
    }
    assert!(missing.is_empty(), "examples/env.sample lacks {:?}", missing.keys());
}

/// `NAME=value` lines; with `examples`, also those behind a `#`.
fn assignments(text: &str, examples: bool) -> Vec<(String, String)> {
    let line = |line: &str| {
        let line = if examples { line.strip_prefix('#').unwrap_or(line) } else { line };
        let (name, value) = line.split_once('=')?;
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        is_name.then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Loads settings whose files are said to be under /etc/postern, from a folder that has such files.
fn load(settings: &[(String, String)]) -> Config {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etc = folder.path().to_str().expect("a UTF-8 path").to_owned();
    let mut env = BTreeMap::new();
    for (name, value) in settings {
        let value = value.replace("/etc/postern", &etc);
        if value.starts_with(&etc) {
            let path = Path::new(&value);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            if name == "POSTERN_INSTANCES" {
                std::fs::create_dir_all(path).expect("a folder");
                let document = config_map_document().replace("/etc/postern", &etc);
                std::fs::write(path.join("photos.json"), document).expect("a document");
                std::fs::create_dir_all(format!("{etc}/secret")).expect("a folder");
                std::fs::write(format!("{etc}/secret/signature-key"), "replace-me\n").expect("a key");
            } else {
                std::fs::write(path, "one-secret-without-blanks\n").expect("a file");
            }
        }
        env.insert(name.clone(), value);
    }
    config::load(&env).unwrap_or_else(|problems| panic!("{env:?}: {problems:?}"))
}

// Without the feature, listings and queues are refused.
#[cfg(feature = "aws")]
#[test]
fn the_sample_environment_can_be_used_as_it_is_and_with_everything_in_it_turned_on() {
    let sample = page("examples/env.sample");
    assert_eq!(load(&assignments(&sample, false)).instances.len(), 1);
    let everything = load(&assignments(&sample, true));
    // The sample's own instance, and that of the documents.
    assert_eq!(everything.instances.len(), 2);
}

// Without the feature, listings and queues are refused.
#[cfg(feature = "aws")]
#[test]
fn the_instance_documents_load() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for document in documents() {
        let mut env = BTreeMap::from([
            ("POSTERN_TLS".to_owned(), "off".to_owned()),
            ("POSTERN_INSTANCES".to_owned(), document.to_str().expect("a UTF-8 path").to_owned()),
        ]);
        // The webhooks' URL is the whole process's, and refused where no instance accepts any.
        if std::fs::read_to_string(&document).expect("a document").contains("POSTERN_MCS_TOPICS") {
            env.insert("POSTERN_PUBLIC_URL".to_owned(), "https://events.example.com".to_owned());
            env.insert("POSTERN_MCS_SECRET".to_owned(), "one-secret-without-blanks".to_owned());
        }
        let config = config::load(&env).unwrap_or_else(|problems| panic!("{}: {problems:?}", document.display()));
        assert_eq!(config.instances.len(), 1, "{}", document.display());
        assert!(config.instances[0].enabled && !config.instances[0].signature_keys.is_empty());
    }
    drop(folder);
}

#[cfg(feature = "aws")]
fn documents() -> Vec<PathBuf> {
    let folder = repository_root().join("examples/instances");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    assert!(!files.is_empty(), "no document in {}", folder.display());
    files
}

/// The instance document in the ConfigMap of the Kubernetes example, without its indentation.
fn config_map_document() -> String {
    let yaml = page("deploy/kubernetes/sidecar.yaml");
    let block = between(&yaml, "  photos.json: |\n", "---\n");
    block.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

/// `{ name: NAME, value: VALUE }` of a container's environment.
fn container_environment(yaml: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let (name, value) = line.trim().strip_prefix("- { name: ")?.strip_suffix(" }")?.split_once(", value: ")?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    yaml.lines().filter_map(entry).collect()
}

#[test]
fn the_environments_of_the_kubernetes_examples_load() {
    let readme = page("README.md");
    let quick_start = container_environment(between(&readme, "```yaml\n", "```"));
    assert!(quick_start.len() > 4, "{quick_start:?}");
    assert_eq!(&*load(&quick_start).instances[0].name, "photos");

    let whole = container_environment(&page("deploy/kubernetes/sidecar.yaml"));
    let config = load(&whole);
    assert_eq!((&*config.instances[0].name, config.instances[0].enabled), ("photos", true));
    assert_eq!(config.instances[0].signature_keys.len(), 1);
}

#[tokio::test]
async fn every_metric_reason_and_condition_that_a_page_names_exists() {
    let source = page("src/telemetry/metrics.rs");
    let names: BTreeSet<String> = crate::deploy::exposed_names(&source).into_iter().collect();
    assert!(names.len() > 20, "{names:?}");
    let sidecar = Sidecar::start("arn:aws:sns:eu-central-1:123456789012:photos", "http://127.0.0.1:9/", &[]).await;
    // What was read off the source is what a scrape has.
    for line in sidecar.metrics().await.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        assert!(names.contains(name) || name == "postern_build_info", "{name} is scraped and not in metrics.rs");
    }
    let mut unknown = BTreeSet::new();
    for file in PAGES {
        let text = page(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        unknown
            .extend(words.filter(|w| w.starts_with("postern_") && !names.contains(*w)).map(|w| format!("{file}: {w}")));
        for reason in text.split("reason=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if !Reason::ALL.iter().any(|known| known.as_str() == reason) {
                unknown.insert(format!("{file}: reason {reason}"));
            }
        }
    }
    assert!(unknown.is_empty(), "these exist on paper only: {unknown:?}");

    let readme = page("README.md");
    let table = between(&readme, "<!-- conditions:begin -->", "<!-- conditions:end -->");
    for condition in sidecar.conditions().await {
        // `callback photos`: the first word is the kind.
        let kind = condition.split(' ').next().unwrap_or_default();
        assert!(table.contains(&format!("| `{kind}")), "/ready has {condition:?}, which the README does not explain");
    }
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_postern")).args(arguments).arg("--help").output();
    let output = output.unwrap_or_else(|error| panic!("postern {arguments:?}: {error}"));
    assert!(output.status.success(), "postern {arguments:?} --help: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_command_that_a_page_names_exists_and_the_readme_names_them_all() {
    let commands: BTreeMap<String, String> = between(&help(&[]), "Commands:\n", "\n\n")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
        .filter(|name| *name != "help")
        .map(|name| (name.to_owned(), help(&[name])))
        .collect();
    assert!(commands.contains_key("serve") && commands.len() > 5, "{commands:?}");
    let mut named = BTreeSet::new();
    for file in PAGES {
        for quoted in page(file).split('`').filter_map(|quoted| quoted.strip_prefix("postern ")) {
            let mut words = quoted.split_whitespace();
            let command = words.next().unwrap_or_default();
            let help = commands.get(command).unwrap_or_else(|| panic!("{file}: there is no `postern {command}`"));
            for flag in words.filter(|word| word.starts_with("--") && *word != "--help") {
                let flag = flag.split('=').next().unwrap_or(flag);
                assert!(help.contains(flag), "{file}: `postern {command}` has no {flag}");
            }
            if file == "README.md" {
                named.insert(command.to_owned());
            }
        }
    }
    let unnamed: Vec<_> = commands.keys().filter(|command| !named.contains(*command)).collect();
    assert!(unnamed.is_empty(), "the README does not say what these commands are for: {unnamed:?}");
}

#[test]
fn the_snippets_of_the_readme_stand_word_by_word_in_receivers_that_are_tested() {
    let readme = page("README.md");
    for (language, file) in [
        ("rust", "examples/receiver.rs"),
        ("python", "examples/receiver.py"),
        ("js", "examples/receiver.mjs"),
        ("java", "examples/Receiver.java"),
    ] {
        let snippet = between(&readme, &format!("```{language}\n"), "```");
        let source = page(file);
        // A method is quoted without the indentation of its class.
        let source: Vec<&str> =
            source.lines().map(|l| if language == "java" { l.strip_prefix("    ").unwrap_or(l) } else { l }).collect();
        assert!(snippet.lines().count() > 2, "{language}: {snippet:?}");
        assert!(
            source.join("\n").contains(snippet.trim_end()),
            "the README's snippet for {language} does not stand in {file}"
        );
    }
}

#[test]
fn the_known_answer_of_the_readme_is_what_we_sign() {
    let readme = page("README.md");
    let line = between(&readme, "A known answer to test with: ", ".\n");
    let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let [key, body, header] = quoted[..] else { panic!("key, body and header: {quoted:?}") };
    let id = postern::event::EventId([0; 15]);
    let signed = postern::dispatch::sign::headers(&[postern::secret::Secret::new(key)], &id, 0, body.as_bytes());
    assert!(signed.iter().any(|(_, value)| value.to_str().is_ok_and(|value| value == header)), "{signed:?}");
}
