//! The data directory: whether the sidecar can keep there what it answers for, and what is kept there now.
//!
//! A running sidecar holds the store; it is then only read, as `postern events` reads it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Context, Sink};
use crate::clock::UnixMillis;
use crate::config::QueueConfig;
use crate::health::Checked;
use crate::queue::Stats;
use crate::queue::embedded::{self, OpenError, volatile_filesystem};

/// Below this the next checkpoint of the store may not fit.
const HARDLY_ANY: u64 = 32 << 20;
/// A commit waits for one sync; with this and more a burst waits visibly.
const SLOW_SYNC: Duration = Duration::from_millis(100);

pub(super) fn run(context: &Context, sink: &Sink) {
    let dir = &context.config.data_dir;
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            let found = format!("POSTERN_DATA_DIR {shown} is no directory");
            return sink.add(Checked::fail("data_dir", found, "name a directory that this user may write"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return missing(dir, sink),
        Err(error) => {
            let found = format!("POSTERN_DATA_DIR {shown} cannot be looked at: {error}");
            return sink.add(Checked::fail("data_dir", found, "name a directory that this user may write"));
        }
    }
    match sync(dir) {
        Ok(took) => {
            sink.add(directory(dir, volatile_filesystem(dir)));
            sink.add(judge_sync(took));
        }
        Err(error) => sink.add(Checked::fail(
            "data_dir",
            format!("POSTERN_DATA_DIR {shown} cannot be written: {error}"),
            "let the sidecar's user write there (securityContext.fsGroup), and look for a read-only or full volume",
        )),
    }
    let store = embedded::open_readonly(dir);
    let stats = store.as_ref().ok().map(|store| store.stats());
    if let Ok(file) = rustix::fs::statvfs(dir) {
        let free = file.f_bavail.saturating_mul(file.f_frsize);
        let used = stats.as_ref().and_then(|stats| stats.as_ref().ok()).map_or(0, |stats| stats.store_bytes);
        sink.add(judge_space(free, used, &context.config.queue));
    }
    let running = is_held(dir);
    sink.add(match (store, stats) {
        (_, Some(Ok(stats))) => judge_store(&stats, running, &context.config.queue, context.now()),
        (_, Some(Err(error))) => Checked::fail(
            "store",
            format!("the store cannot be read: {error}"),
            "run this as the sidecar's user, and look at the volume",
        ),
        (Err(OpenError::Missing { .. }), _) => Checked::ok("store", "there is no store yet; the first start makes one"),
        (Err(error), _) => Checked::fail("store", error.to_string(), "the text says what to do"),
        (Ok(_), None) => Checked::skip("store", "nothing was read"),
    });
}

fn missing(dir: &Path, sink: &Sink) {
    let parent = dir.ancestors().skip(1).find(|parent| parent.is_dir());
    let writable = parent.is_some_and(|parent| rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok());
    let found = format!("POSTERN_DATA_DIR {} does not exist", dir.display());
    sink.add(if writable {
        Checked::warn(
            "data_dir",
            found,
            "a start makes it; for the store to outlive the container, mount a volume there",
        )
    } else {
        Checked::fail("data_dir", found, "mount a volume there that the sidecar's user may write")
    });
}

fn directory(dir: &Path, volatile: Option<&str>) -> Checked {
    let shown = dir.display();
    match volatile {
        Some(kind) => Checked::warn(
            "data_dir",
            format!("POSTERN_DATA_DIR {shown} is on {kind}: what is owed does not outlive the container"),
            "mount a volume there",
        ),
        None => Checked::ok("data_dir", format!("POSTERN_DATA_DIR {shown} can be written")),
    }
}

/// Writes and syncs a file of its own there; how long the sync took.
fn sync(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".postern-doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        let began = Instant::now();
        file.sync_all()?;
        Ok(began.elapsed())
    });
    match fs::remove_file(&path) {
        Err(error) if written.is_ok() => Err(error),
        _ => written,
    }
}

fn judge_sync(took: Duration) -> Checked {
    let found = format!("a write is on the disk after {:.1} ms", took.as_secs_f64() * 1000.0);
    if took < SLOW_SYNC {
        return Checked::ok("disk_sync", found);
    }
    Checked::warn(
        "disk_sync",
        found,
        "each answer waits for such a write; use a faster volume (SSD, not a network file system)",
    )
}

/// `free` bytes beside the `used` of the store, against what may be kept in all.
fn judge_space(free: u64, used: u64, bounds: &QueueConfig) -> Checked {
    let wanted = bounds.max_bytes.saturating_add(bounds.dead_max_bytes);
    let found = format!("{} are free; the store has {} and may grow to {}", bytes(free), bytes(used), bytes(wanted));
    if free < HARDLY_ANY {
        return Checked::fail("disk_space", found, "make room or enlarge the volume: a full disk is answered with 503");
    }
    if free.saturating_add(used) < wanted {
        return Checked::warn(
            "disk_space",
            found,
            "enlarge the volume, or lower POSTERN_QUEUE_MAX_BYTES and POSTERN_DEAD_MAX_BYTES, so that the bound comes before the end of the disk",
        );
    }
    Checked::ok("disk_space", found)
}

/// Whether a running sidecar holds the store. Our own lock is a shared one and held for no longer than the question takes.
fn is_held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("postern.lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn judge_store(stats: &Stats, running: bool, bounds: &QueueConfig, now: UnixMillis) -> Checked {
    let owed: u64 = stats.instances.iter().map(|one| one.owed).sum();
    let dead: u64 = stats.instances.iter().map(|one| one.dead).sum();
    let oldest = stats.instances.iter().filter_map(|one| one.oldest_owed).min();
    let age = oldest.map_or(String::new(), |at| {
        format!(", the oldest for {}", humantime::format_duration(Duration::from_secs(now.since(at).as_secs())))
    });
    let who = if running { "a running sidecar holds the store" } else { "no sidecar holds the store" };
    let found = format!("{who}: {owed} owed{age}; {dead} dead");
    for (held, bound, setting, what) in [
        (
            stats.owed_bytes,
            bounds.max_bytes,
            "POSTERN_QUEUE_MAX_BYTES",
            "the callback does not keep up: look at `postern events --state owed`",
        ),
        (
            stats.dead_bytes,
            bounds.dead_max_bytes,
            "POSTERN_DEAD_MAX_BYTES",
            "`postern replay` or `postern discard` dead events",
        ),
    ] {
        if held >= bound / 5 * 4 {
            return Checked::warn("store", format!("{found}; more than 80 % of {setting} is used"), what);
        }
    }
    if dead > 0 {
        return Checked::warn(
            "store",
            found,
            "see why with `postern events --state dead`, then `postern replay` or `postern discard` them",
        );
    }
    Checked::ok("store", found)
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if count >> shift > 0 {
            return format!("{}.{} {unit}", count >> shift, ((count >> (shift - 10)) & 1023) * 10 / 1024);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;
    use crate::queue::InstanceStats;

    #[test]
    fn space_is_judged_against_what_the_store_may_become() {
        let bounds = QueueConfig::default();
        assert_eq!(judge_space(3 << 30, 0, &bounds).status, Status::Ok);
        assert_eq!(judge_space(1 << 30, 1 << 30, &bounds).status, Status::Ok, "what the store has is room too");
        let short = judge_space(1 << 30, 0, &bounds);
        assert_eq!(short.status, Status::Warn);
        assert_eq!(short.found, "1.0 GiB are free; the store has 0 B and may grow to 2.0 GiB");
        assert_eq!(judge_space(1 << 20, 5 << 30, &bounds).status, Status::Fail);
    }

    #[test]
    fn what_is_owed_and_dead_is_told_with_its_age() {
        let one = InstanceStats { owed: 3, dead: 0, oldest_owed: Some(UnixMillis(0)), ..InstanceStats::default() };
        let mut stats = Stats { instances: vec![one], ..Stats::default() };
        let bounds = QueueConfig::default();
        let found = judge_store(&stats, true, &bounds, UnixMillis(90_000));
        assert_eq!(found.found, "a running sidecar holds the store: 3 owed, the oldest for 1m 30s; 0 dead");
        assert_eq!(found.status, Status::Ok);
        stats.instances[0].dead = 1;
        assert!(judge_store(&stats, false, &bounds, UnixMillis(0)).advice.contains("--state dead"));
        stats.owed_bytes = 1 << 30;
        assert!(judge_store(&stats, false, &bounds, UnixMillis(0)).found.contains("80 % of POSTERN_QUEUE_MAX_BYTES"));
    }

    #[test]
    fn a_volatile_or_slow_disk_is_told() {
        assert_eq!(directory(Path::new("/d"), Some("tmpfs")).status, Status::Warn);
        assert_eq!(directory(Path::new("/d"), None).status, Status::Ok);
        assert_eq!(judge_sync(Duration::from_millis(3)).found, "a write is on the disk after 3.0 ms");
        assert_eq!(judge_sync(Duration::from_millis(300)).status, Status::Warn);
    }

    #[test]
    fn looking_leaves_nothing_behind_and_sees_who_holds_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        sync(folder.path()).expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        assert!(!is_held(folder.path()));
        let lock = File::create(folder.path().join("postern.lock")).expect("a file");
        assert!(!is_held(folder.path()));
        lock.lock().expect("a lock");
        assert!(is_held(folder.path()));
        assert!(sync(&folder.path().join("postern.lock")).is_err(), "no directory");
    }
}
