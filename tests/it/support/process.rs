//! Child processes that end with the test that started them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::repository_root;

/// A child that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("the state of a child of ours")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that one of the scripts of `tests/tools` runs; it is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct ToolServer {
    script: PathBuf,
    state: tempfile::TempDir,
    answers: BTreeMap<String, String>,
}

impl ToolServer {
    /// `tests/tools/NAME start STATE_DIR ARGUMENTS`.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let script = repository_root().join("tests/tools").join(name);
        let state = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { script, state, answers: BTreeMap::new() };
        server.run(arguments);
        server
    }

    /// Stops it and starts it with other arguments.
    pub(crate) fn restart(&mut self, arguments: &[&str]) {
        self.stop();
        self.run(arguments);
    }

    /// Its origin, such as `http://127.0.0.1:4566`.
    pub(crate) fn endpoint(&self) -> &str {
        self.answer("endpoint")
    }

    /// The port of its endpoint.
    pub(crate) fn port(&self) -> &str {
        self.endpoint().rsplit(':').next().expect("an endpoint has a port")
    }

    /// A folder that lives as long as the server, for files of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.state.path()
    }

    /// Something else that it printed as `NAME=value`.
    pub(crate) fn answer(&self, name: &str) -> &str {
        self.answers.get(name).unwrap_or_else(|| panic!("{} did not print {name}=", self.script.display()))
    }

    fn run(&mut self, arguments: &[&str]) {
        // One for each time that the script tries: nobody else is given them, neither here nor in another test run.
        let ports = [(); 3].map(|()| free_port().to_string()).join(" ");
        let mut command = Command::new(&self.script);
        command.arg("start").arg(self.state.path()).args(arguments).env("POSTERN_TEST_PORTS", ports);
        // A test run that is killed takes its servers with it.
        command.env("POSTERN_TEST_OWNER", std::process::id().to_string());
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", self.script.display()));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} start {arguments:?}: {errors}", self.script.display());
        self.answers = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    }

    fn stop(&self) {
        let _ = Command::new(&self.script).arg("stop").arg(self.state.path()).status();
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A loopback port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    postern::simulator::ports::unused().expect("a free port").port()
}

/// Writes a file and returns its path as text.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file in a temporary folder");
    path.to_str().expect("a UTF-8 path").to_owned()
}
