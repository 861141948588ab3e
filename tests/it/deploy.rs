//! What `deploy/` holds is accepted by the tools that will read it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use postern::config::{self, Config};
#[cfg(feature = "aws")]
use postern::config::{Instance, ListingKind};

use crate::support::{repository_root, tool};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = repository_root().join("deploy").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} in {}", folder.display());
    files
}

fn check(program: &Path, arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new(program).args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{} {arguments:?}:\n{}{}",
        program.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_kubernetes_examples_are_valid() {
    let variable = "POSTERN_TEST_KUBERNETES_VALIDATE";
    if let Some(program) = tool("the_kubernetes_examples_are_valid", variable) {
        check(&program, &["--strict"], &files("kubernetes", "yaml"));
    }
}

/// What the containers called postern or setup of these examples would load: their environments, the instance documents of their
/// ConfigMaps, and a file for each secret.
fn loaded(environment: &str, documents: &str) -> Config {
    let read = |name: &str| {
        let path = repository_root().join("deploy/kubernetes").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etc = folder.path().to_str().expect("a UTF-8 path");
    for folder in ["instances", "secret", "tls"] {
        std::fs::create_dir(format!("{etc}/{folder}")).expect("a folder");
    }
    let yaml = read(documents);
    let mut document: Option<(&str, String)> = None;
    for line in yaml.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("    ")
            && let Some((_, json)) = &mut document
        {
            *json += &text.replace("/etc/postern", etc);
            continue;
        }
        if let Some((name, json)) = document.take() {
            std::fs::write(format!("{etc}/instances/{name}"), json).expect("a document");
        }
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(": |"));
        document = name.map(|name| (name, String::new()));
        // `stringData`: a file each, as the volume has it.
        if let Some((key @ ("signature-key" | "mcs-secret"), value)) = line.trim().split_once(": ") {
            std::fs::write(format!("{etc}/secret/{key}"), value).expect("a secret");
        }
    }
    let variables: BTreeMap<String, String> = read(environment)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { name: ")?.strip_suffix(" }")?.split_once(", value: "))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').replace("/etc/postern", etc)))
        .collect();
    config::load(&variables).unwrap_or_else(|problems| panic!("{environment}: {problems:?}"))
}

#[test]
fn the_kubernetes_example_of_mcs_takes_webhooks_behind_an_ingress() {
    let config = loaded("mcs.yaml", "mcs.yaml");
    let [endpoint] = &config.mcs[..] else { panic!("{:?}", config.mcs) };
    assert_eq!(endpoint.url.expose(), "https://events.example.com/mcs/replace-me-with-48-characters");
    assert!(!endpoint.weak && config.tls.is_none() && !config.trusted_proxies.is_empty());
    let [uploads] = &config.instances[..] else { panic!("{:?}", config.instances) };
    assert_eq!((&*uploads.name, &*uploads.element_key, uploads.mcs_topics.len()), ("uploads", "mcss3", 1));
    assert!(uploads.enabled && uploads.topics.is_empty() && uploads.signature_keys.len() == 1);
    only_tls_is_warned_of(&config);
}

#[cfg(feature = "aws")]
#[test]
fn the_kubernetes_example_of_a_worker_fetches_and_lets_nobody_in() {
    let config = loaded("worker.yaml", "worker.yaml");
    assert!(config.listen.ip().is_loopback() && config.tls.is_none());
    let mut instances: Vec<_> = config.instances.iter().collect();
    instances.sort_by_key(|instance| &*instance.name);
    let [archive, uploads] = instances[..] else { panic!("{instances:?}") };
    let kind = |instance: &Instance| instance.listing.as_ref().map(|listing| listing.kind);
    assert_eq!((kind(archive), archive.sqs.is_some()), (Some(ListingKind::Poll), false));
    assert_eq!((kind(uploads), uploads.sqs.is_some()), (Some(ListingKind::Reconcile), true));
    assert!(
        instances.iter().all(|i| i.enabled && i.topics.is_empty() && i.mcs_topics.is_empty() && i.s3http.is_none())
    );
    only_tls_is_warned_of(&config);
}

/// Jobs and sidecars of one name are one set of documents.
#[test]
fn the_kubernetes_example_of_setup_is_about_the_sidecars_instance() {
    let config = loaded("setup.yaml", "sidecar.yaml");
    assert_eq!(config.public_url.map(String::from).as_deref(), Some("https://events.example.com/"));
    assert_eq!((config.instances.len(), config.instances[0].topics.len()), (1, 1));
    // Once no document named a bucket, and the Job failed at its first step.
    assert_eq!(config.instances[0].bucket.as_deref(), Some("example-photos"));
}

/// The Rust source beneath a folder of `src`.
fn source_of(folder: &str) -> String {
    let entries = std::fs::read_dir(repository_root().join("src").join(folder)).expect("a folder");
    let files = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    files.map(|file| std::fs::read_to_string(file).expect("source")).collect()
}

/// What setup asks of Amazon stands, action by action, in the recipe and in the example whose role must be given it.
#[test]
fn the_pages_name_every_action_that_setup_takes() {
    let source = source_of("aws/setup");
    let actions: BTreeSet<&str> =
        source.split('"').filter(|text| ["s3:", "sns:", "sqs:"].iter().any(|at| text.starts_with(at))).collect();
    // A failed call is named as the IAM action that it takes; other texts are events and conditions.
    let named = |action: &&&str| source.contains(&format!("trouble(\"{action}\""));
    let actions: Vec<&str> = actions.iter().filter(named).copied().collect();
    assert!(actions.len() > 15 && actions.contains(&"sns:Unsubscribe"), "{actions:?}");
    for page in ["deploy/recipes/setup.md", "deploy/kubernetes/setup.yaml"] {
        let text = std::fs::read_to_string(repository_root().join(page)).expect("a page");
        for action in &actions {
            assert!(text.contains(action), "{page} does not name {action}");
        }
    }
}

/// The same of doctor, whose list stands in the README.
#[test]
fn the_readme_names_every_action_that_doctor_takes() {
    let readme = std::fs::read_to_string(repository_root().join("README.md")).expect("the README");
    let source = source_of("aws/check");
    let calls: BTreeSet<&str> = source
        .split(['.', ' ', '\n'])
        .filter_map(|word| word.split_once("()").map(|(name, _)| name))
        .filter(|name| ["get_", "list_", "head_"].iter().any(|verb| name.starts_with(verb)))
        .collect();
    let action = |call: &str| match call {
        "head_bucket" | "list_objects_v2" => "s3:ListBucket".to_owned(),
        "get_bucket_notification_configuration" => "s3:GetBucketNotification".to_owned(),
        call => {
            let service = if call.contains("queue") { "sqs" } else { "sns" };
            let words = call.split('_').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]));
            format!("{service}:{}", words.collect::<String>())
        }
    };
    assert!(calls.len() >= 7, "{calls:?}");
    for call in calls {
        assert!(readme.contains(&format!("`{}`", action(call))), "the README does not name {}", action(call));
    }
}

/// An example is not to bring a warning that its reader has to learn to overlook.
fn only_tls_is_warned_of(config: &Config) {
    assert!(config.warnings.iter().all(|warning| warning.starts_with("POSTERN_TLS is off")), "{:?}", config.warnings);
}

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    if let Some(program) = tool("the_alert_rules_are_valid_and_fire_when_they_should", "POSTERN_TEST_PROMTOOL") {
        check(&program, &["check", "rules"], &[repository_root().join("deploy/prometheus/rules.yaml")]);
        check(&program, &["test", "rules"], &[repository_root().join("deploy/prometheus/rules.test.yaml")]);
    }
}

/// Names as Prometheus sees them, read off the source because a family without a sample is not exposed: counters end in `_total`,
/// histograms come in three.
pub(crate) fn exposed_names(source: &str) -> Vec<String> {
    let kind = |field: &str| {
        let declaration = source.split_once(&format!("pub {field}: ")).expect("every metric is a public field").1;
        declaration.lines().next().unwrap_or_default().to_owned()
    };
    let mut names = Vec::new();
    for call in source.split("r.register(").skip(1) {
        let name = call.split('"').nth(1).expect("a metric has a name");
        let Some(field) =
            call.split_once("m.").and_then(|(_, rest)| rest.split_once(".clone()")).map(|(field, _)| field)
        else {
            continue;
        };
        let kind = kind(field);
        if kind.contains("Histogram") {
            names.extend(["_bucket", "_sum", "_count"].iter().map(|suffix| format!("postern_{name}{suffix}")));
        } else {
            names.push(format!("postern_{name}{}", if kind.contains("Counter") { "_total" } else { "" }));
        }
    }
    names
}

#[test]
fn the_systemd_unit_is_valid() {
    let unit = repository_root().join("deploy/systemd/postern.service");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        crate::support::lacking("the_systemd_unit_is_valid", "there is no systemd-analyze");
        return;
    };
    assert!(found.status.success());
    // The binary that the unit names is not installed here; any executable stands in for it.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("postern.service");
    std::fs::write(&copy, text.replace("/usr/local/bin/postern", "/bin/true")).expect("a copy");
    check(Path::new("systemd-analyze"), &["verify", "--man=no"], &[copy]);
}
