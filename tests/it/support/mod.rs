//! What the integration tests share: files of the repository, processes that end with their test, and waiting with a deadline.
#![allow(dead_code, reason = "not every helper is used on every platform or by every feature set")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) mod aws;
#[cfg(feature = "aws")]
pub(crate) mod ceph;
#[cfg(feature = "aws")]
pub(crate) mod drain;
pub(crate) mod front;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod s3;
pub(crate) mod sidecar;
pub(crate) mod wait;

/// The folder of Cargo.toml.
pub(crate) fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under src, without the files that only tests include.
pub(crate) fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository_root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_tests {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_tests {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Says past the test harness's capture that `test` did not run, and why.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// [`skip`] for what a machine lacks; in CI, where nothing is skipped, a failure.
pub(crate) fn lacking(test: &str, what: &str) {
    let all = std::env::var_os("POSTERN_TEST_REQUIRE_ALL").is_some();
    assert!(!all, "{test}: {what}; nothing is skipped in CI");
    skip(test, what);
}

/// What `tests/run` installed and named in `variable`; `None`, said aloud, where it is not there. `tests/run` sets
/// POSTERN_TEST_REQUIRE_ALL in CI: nothing is skipped there.
pub(crate) fn tool(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        lacking(test, &format!("{variable} is not set; tests/run installs what it needs and sets it"));
    }
    path
}
