//! What lies where in the repository, and what may not lie anywhere in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository_root;

/// Everything that is to be seen at the top; files that begin with a dot are settings of tools. Cargo.lock goes with Cargo.toml.
const TOP_LEVEL: [&str; 11] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "deploy",
    "examples",
    "src",
    "tests",
];

/// Lines of a source file; past this, look for the second concept inside.
const MAX_LINES: usize = 450;

/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Files of the repository: what git tracks or would track, so that builds and caches do not count. Outside of a git work tree
/// (a source archive) there is nothing to ask, and `None` says so.
fn tracked() -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository_root())
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files = names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from);
    Some(files.filter(|f| repository_root().join(f).exists()).collect())
}

fn read(file: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(repository_root().join(file)).expect("a tracked file can be read")).ok()
}

#[test]
fn the_visible_top_level_is_what_the_design_lists() {
    let Some(files) = tracked() else {
        crate::support::skip("the_visible_top_level_is_what_the_design_lists", "this is no git work tree");
        return;
    };
    let mut top: Vec<_> = files
        .iter()
        .filter_map(|f| f.components().next()?.as_os_str().to_str())
        .filter(|name| !name.starts_with('.'))
        .collect();
    top.sort_unstable();
    top.dedup();
    assert_eq!(top, TOP_LEVEL, "the visible top level (left) is not what the design lists (right)");
}

#[test]
fn no_file_holds_a_path_of_a_machine_or_a_registry_host() {
    // Put together at run time, so that this file does not match itself.
    let paths: Vec<String> = [["/ho", "me/"], ["/ro", "ot/"], ["/Use", "rs/"], ["/wo", "rk/"], ["/tmp/", "target"]]
        .map(|parts| parts.concat())
        .to_vec();
    let hosts: Vec<String> = [
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["files.pythonhosted", ".org"],
        ["pypi", ".org/simple"],
        ["registry.npmjs", ".org"],
        ["proxy.golang", ".org"],
        ["deb.debian", ".org"],
    ]
    .map(|parts| parts.concat())
    .to_vec();
    // A path begins where no longer word or address goes on: `https://example.com/docs/...` is none.
    let begins = |line: &str, at: usize| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | ')' | '*' | '$'))
    };
    let matches = |line: &str| {
        let path = paths.iter().find(|p| line.match_indices(p.as_str()).any(|(at, _)| begins(line, at)));
        path.or_else(|| hosts.iter().find(|h| line.contains(h.as_str()))).cloned()
    };
    let Some(files) = tracked() else {
        crate::support::skip("no_file_holds_a_path_of_a_machine_or_a_registry_host", "this is no git work tree");
        return;
    };
    let mut found = Vec::new();
    for file in &files {
        let Some(text) = read(file) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(pattern) = matches(line) {
                found.push(format!("{}:{}: {pattern}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "these belong to one machine:\n  {}", found.join("\n  "));
}

#[test]
fn no_source_file_is_longer_than_one_concept_needs() {
    let mut long = Vec::new();
    for file in crate::support::source_files() {
        let name = file.strip_prefix(repository_root()).expect("under the root").display().to_string();
        let lines = std::fs::read_to_string(&file).expect("a source file").lines().count();
        let excused = LONGER.iter().any(|(excused, _reason)| *excused == name);
        if lines > MAX_LINES && !excused {
            long.push(format!(
                "{name}: {lines} lines; look for the second concept inside, or excuse it in LONGER with a reason"
            ));
        }
        if lines <= MAX_LINES && excused {
            long.push(format!("{name}: no longer needs its excuse in LONGER"));
        }
    }
    assert!(long.is_empty(), "longer than {MAX_LINES} lines:\n  {}", long.join("\n  "));
}

/// Once a cache that was reached by another spelling of its path was installed anew, and by the first spelling again.
#[test]
fn a_cache_behind_a_symbolic_link_is_installed_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::create_dir(&real).expect("a folder");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    // A Python that only makes what the script looks for, and writes down that it was asked to.
    let python = folder.path().join("python");
    let script = format!(
        "#!/bin/sh\ncase \"$1$2\" in\n-mvenv) mkdir -p \"$3/bin\"; cp \"$0\" \"$3/bin/python\"; echo made >>{}/made ;;\n\
         -cimport*) echo 3.11.0 ;;\nesac\n",
        folder.path().display()
    );
    std::fs::write(&python, script).expect("a script");
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let install = repository_root().join("tests/tools/install.sh");
    for cache in [&link, &real, &link] {
        let run = format!(
            ". '{}' && find_python() {{ echo '{}'; }} && install_venv moto",
            install.display(),
            python.display()
        );
        let output = Command::new("bash").args(["-c", &run]).env("POSTERN_CACHE", cache).output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let printed = String::from_utf8(output.stdout).expect("text");
        let there = real.canonicalize().expect("a path").join("moto");
        assert_eq!(Path::new(printed.trim()), there, "{said}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("made")).expect("a file"), "made\n", "once");
}
