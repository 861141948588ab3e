//! The settings themselves, and the files that they name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Context, Sink};
use crate::config::settings::SETTINGS;
use crate::config::{AUTHORITY_FILES, bad_authorities};
use crate::health::Checked;

/// Settings that name a file which is no secret.
const FILES: [&str; 4] =
    ["POSTERN_TLS_CERT_FILE", "POSTERN_SNS_TRUST_ANCHOR_FILE", "POSTERN_EGRESS_CA_FILE", "POSTERN_INSTANCES"];

/// Bytes of a file of authorities; all that a system trusts have a quarter of it.
const MAX_AUTHORITIES: u64 = 1 << 20;

pub(super) fn run(context: &Context, sink: &Sink) {
    for problem in &context.problems {
        sink.add(Checked::fail("settings", format!("{}: {}", problem.name, problem.problem), problem.advice.clone()));
    }
    for warning in &context.config.warnings {
        sink.add(Checked::warn("settings", warning.clone(), ""));
    }
    if context.problems.is_empty() {
        let instances = &context.config.instances;
        let names: Vec<&str> = instances.iter().take(20).map(|instance| &*instance.name).collect();
        let more = if instances.len() > names.len() { ", ..." } else { "" };
        let found = format!("all settings can be used; {} instance(s): {}{more}", instances.len(), names.join(", "));
        sink.add(Checked::ok("settings", found));
    }
    files(context, sink);
}

fn files(context: &Context, sink: &Sink) {
    let variables: BTreeMap<String, _> = context.environment.vars().into_iter().collect();
    let (mut named, mut complaints) = (0, 0);
    let mut judge = |name: &str, secret: bool| {
        let Some(path) = variables.get(name).filter(|path| !path.is_empty()) else { return };
        named += 1;
        if let Some(complaint) = judge(name, Path::new(path), secret) {
            complaints += 1;
            sink.add(complaint);
        }
    };
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        judge(&format!("{}_FILE", setting.name), true);
        if setting.is_instance_key() {
            judge(&format!("{}_FILE", setting.shell_name()), true);
        }
    }
    judge("POSTERN_TLS_KEY_FILE", true);
    for name in FILES {
        judge(name, false);
    }
    let found = match named {
        0 => "no setting names a file".to_owned(),
        1 => "the one file that a setting names was looked at".to_owned(),
        n => format!("the {n} files that settings name were looked at"),
    };
    if complaints == 0 {
        sink.add(Checked::ok("files", found));
    }
}

/// What is wrong with a file, if anything is.
fn judge(name: &str, path: &Path, secret: bool) -> Option<Checked> {
    const NAME: &str = "files";
    let shown = path.display();
    // Of a folder a look is enough, and of a file a byte: it may be a pipe's end or very long.
    let read = fs::metadata(path).and_then(|meta| {
        if meta.is_dir() {
            fs::read_dir(path).map(drop)?
        } else {
            File::open(path)?.read(&mut [0]).map(drop)?
        }
        Ok(meta)
    });
    let meta = match read {
        Ok(meta) => meta,
        Err(error) => {
            return Some(Checked::fail(
                NAME,
                format!("{name}={shown} cannot be read: {error}"),
                "check the path, the mount and the file's permissions for the user that the sidecar runs as",
            ));
        }
    };
    if AUTHORITY_FILES.contains(&name)
        && let Some(problem) = authorities(path, &meta)
    {
        return Some(Checked::fail(
            NAME,
            format!("{name}={shown} {problem}"),
            "correct the file, or remove the setting",
        ));
    }
    let mode = meta.permissions().mode();
    (secret && mode & 0o004 != 0).then(|| {
        Checked::warn(
            NAME,
            format!(
                "{name}={shown} holds a secret and everybody on this machine may read it (mode {:o})",
                mode & 0o777
            ),
            "chmod o-r; for a mounted Kubernetes secret set defaultMode: 0440 with an fsGroup",
        )
    })
}

/// What is wrong with a file of authorities by what it holds.
fn authorities(path: &Path, meta: &fs::Metadata) -> Option<&'static str> {
    if !meta.is_file() || meta.len() > MAX_AUTHORITIES {
        return Some("is no file of a few certificates; use PEM with one or more CA certificates");
    }
    // That it can be read has been seen.
    bad_authorities(&fs::read(path).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn a_secret_that_everybody_may_read_and_a_file_that_is_not_there_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "very secret").expect("a file");
        let with = |mode: u32, secret: bool| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            judge("POSTERN_ADMIN_TOKEN_FILE", &path, secret)
        };
        let open = with(0o644, true).expect("a warning");
        assert_eq!(open.status, Status::Warn);
        assert!(open.found.contains("mode 644") && !open.found.contains("very secret"), "{open:?}");
        assert_eq!(with(0o640, true), None);
        assert_eq!(with(0o644, false), None, "no secret");
        assert_eq!(judge("POSTERN_INSTANCES", folder.path(), false), None, "a folder is fine");
        fs::write(&path, "no certificate").expect("a file");
        assert_eq!(judge("POSTERN_TLS_CERT_FILE", &path, false), None, "judged with its key");
        for name in AUTHORITY_FILES {
            let bad = judge(name, &path, false).expect("a failure");
            assert_eq!(bad.status, Status::Fail);
            assert!(bad.found.starts_with(name) && bad.found.contains("holds no certificate"), "{bad:?}");
        }
        let missing = judge("POSTERN_ADMIN_TOKEN_FILE", &folder.path().join("other"), true).expect("a failure");
        assert_eq!(missing.status, Status::Fail);
    }
}
