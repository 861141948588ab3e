//! What `deploy/` holds is accepted by the tools that will read it.

use std::path::{Path, PathBuf};
use std::process::Command;

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
