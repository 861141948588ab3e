//! The data directory: one owner, private files, and whether it outlives the container.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::schema;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error("the data directory {} cannot be used: {source}; POSTERN_DATA_DIR must name a directory that this user may write", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the data directory {} is in use by another postern: stop that one, or give this one its own POSTERN_DATA_DIR", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no store.
    #[error("there is no store in {}: has postern run with this POSTERN_DATA_DIR?", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A later version wrote it.
    #[error("the store in {} has format {found}, this postern knows up to {known}: run the newer postern that wrote it", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: i64,
        /// The newest format known.
        known: i64,
    },
    /// SQLite refused it.
    #[error("the store in {} cannot be opened: {message}; restore it or move it away to begin with an empty one", dir.display())]
    Store {
        /// The directory.
        dir: PathBuf,
        /// What SQLite said.
        message: String,
    },
}

/// The held directory: dropping it gives it up.
#[derive(Debug)]
pub(super) struct Held {
    _lock: File,
}

/// Makes and locks the directory, and makes the store's file private before SQLite writes to it.
pub(super) fn hold(dir: &Path) -> Result<Held, OpenError> {
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(unusable)?;
    let private = |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // SQLite gives its log and its index the mode of the database.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    };
    let lock = private(&dir.join("postern.lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    private(&dir.join(schema::FILE)).map_err(unusable)?;
    Ok(Held { _lock: lock })
}

/// The kind of file system that forgets with the container: `overlay` or `tmpfs` (hard case 6).
pub fn volatile_filesystem(dir: &Path) -> Option<&'static str> {
    const OVERLAY: u64 = 0x794c_7630;
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    #[cfg(target_os = "linux")]
    {
        let kind = rustix::fs::statfs(dir).ok()?.f_type;
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "the type of f_type differs between platforms"
        )]
        match kind as u64 & 0xffff_ffff {
            OVERLAY => Some("overlay"),
            TMPFS | RAMFS => Some("tmpfs"),
            _ => None,
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (dir, OVERLAY, TMPFS, RAMFS);
        None
    }
}

/// Bytes of the store's files.
pub(super) fn size(dir: &Path) -> u64 {
    let name = |suffix: &str| dir.join(format!("{}{suffix}", schema::FILE));
    ["", "-wal"].iter().filter_map(|suffix| fs::metadata(name(suffix)).ok()).map(|meta| meta.len()).sum()
}
