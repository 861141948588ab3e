//! The disk that forgets, and proof that it does: without that, a crash test under it would prove nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` into `folder`; `None`, with the reason printed, where there is no C compiler.
fn compile(source: &Path, output: &Path, flags: &[&str]) -> Option<PathBuf> {
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(output).arg(source).args(flags).output();
    match compiled {
        Err(error) => {
            println!("skipped: no C compiler to build the shim with (cc: {error})");
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
            Some(output.to_owned())
        }
    }
}

/// The shim, built into `folder`.
pub(crate) fn shim(folder: &Path) -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        println!("skipped: the shim is for Linux");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/lostwrites.c");
    compile(&source, &folder.join("lostwrites.so"), &["-shared", "-fPIC", "-ldl", "-lpthread"])
}

/// Writes, checks that it sees what it wrote, and dies.
const WRITER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define MUST(what) do { if (!(what)) _exit(__LINE__ % 200 + 1); } while (0)
int main(int count, char **arguments) {
    char seen[16] = {0};
    struct stat st;
    int fd = open(arguments[1], O_RDWR | O_CREAT, 0644);
    MUST(write(fd, "synced", 6) == 6 && !fdatasync(fd));
    MUST(pwrite(fd, "SYNCED+more", 11, 0) == 11);
    if (count > 2) MUST(!fsync(fd));
    close(fd);
    fd = open(arguments[1], O_RDWR);
    MUST(!fstat(fd, &st) && st.st_size == 11 && !stat(arguments[1], &st) && st.st_size == 11);
    MUST(lseek(fd, 0, SEEK_END) == 11 && !lseek(fd, 0, SEEK_SET));
    MUST(read(fd, seen, 6) == 6 && !memcmp(seen, "SYNCED", 6));
    MUST(pread(fd, seen, 16, 6) == 5 && !memcmp(seen, "+more", 5));
    MUST(!ftruncate(fd, 3) && !fstat(fd, &st) && st.st_size == 3 && pread(fd, seen, 16, 0) == 3);
    raise(SIGKILL);
}
"#;

#[test]
fn a_killed_writer_keeps_what_it_synced_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(shim) = shim(folder.path()) else { return };
    let source = folder.path().join("writer.c");
    std::fs::write(&source, WRITER).expect("a source");
    let Some(writer) = compile(&source, &folder.path().join("writer"), &["-w"]) else { return };
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).expect("a folder");

    let run = |file: &Path, arguments: &[&str]| {
        let mut command = Command::new(&writer);
        command.arg(file).args(arguments).env("LD_PRELOAD", &shim).env("LOSTWRITES_DIR", &inside);
        let status = command.status().expect("the writer");
        assert_eq!(status.code(), None, "the writer did not see its own writes: line {:?} of it", status.code());
        std::fs::read_to_string(file).expect("the file")
    };
    assert_eq!(run(&inside.join("unsynced"), &[]), "synced");
    assert_eq!(run(&inside.join("synced"), &["sync"]), "SYNCED+more");
    // Outside of the folder, and for what it leaves alone, it is an ordinary disk, which outlives a kill.
    assert_eq!(run(&folder.path().join("outside"), &[]), "SYN");
    assert_eq!(run(&inside.join("lock"), &[]), "SYN");
}
