//! Good certificates on disk, so that a restart without network still verifies.
//!
//! What is read back is judged again as if it had been fetched: the folder is a cache, not a trust store.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::UnixMillis;
use crate::sources::sns::chain::MAX_CERTIFICATE_BYTES;

/// Leafs kept: a few regions over several rotations.
const MAX_LEAFS: usize = 32;
/// Issuers read at start.
const MAX_ISSUERS: usize = 32;

/// The folder. Cheap to clone.
#[derive(Clone)]
pub(super) struct Disk(Option<Arc<Folder>>);

struct Folder {
    path: PathBuf,
    /// File names of leafs, so that an address never seen costs no look at the disk.
    leafs: Mutex<HashSet<String>>,
}

impl Disk {
    /// The folder at `path`, made when something is first kept.
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        Self(path.map(|path| {
            let leafs = names(&path, "leaf-", ".pem").into_iter().take(MAX_LEAFS * 2).collect();
            Arc::new(Folder { path, leafs: Mutex::new(leafs) })
        }))
    }

    /// Whether the certificate of `url` was good once.
    pub(super) fn has_leaf(&self, url: &str) -> bool {
        self.0.as_ref().is_some_and(|folder| folder.lock().contains(&leaf_name(url)))
    }

    /// The certificate of `url` and how long ago it was fetched.
    pub(super) async fn load_leaf(&self, url: &str, now: UnixMillis) -> Option<(Vec<u8>, Duration)> {
        let folder = Arc::clone(self.0.as_ref()?);
        let name = leaf_name(url);
        if !folder.lock().contains(&name) {
            return None;
        }
        blocking(move || {
            let path = folder.path.join(name);
            let pem = read(&path)?;
            let since = fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let fetched = UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            Ok((pem, now.since(fetched)))
        })
        .await
    }

    /// Keeps the certificate of `url`.
    pub(super) async fn store_leaf(&self, url: &str, pem: Vec<u8>) {
        let Some(folder) = self.0.clone() else { return };
        let name = leaf_name(url);
        blocking(move || {
            write(&folder.path, &name, &pem)?;
            let mut leafs = folder.lock();
            leafs.insert(name);
            if leafs.len() > MAX_LEAFS {
                let age = |name: &String| fs::metadata(folder.path.join(name)).and_then(|found| found.modified()).ok();
                if let Some(oldest) = leafs.iter().min_by_key(|name| age(name)).cloned() {
                    leafs.remove(&oldest);
                    fs::remove_file(folder.path.join(oldest))?;
                }
            }
            Ok(())
        })
        .await;
    }

    /// Forgets the certificate of `url`.
    pub(super) async fn remove_leaf(&self, url: &str) {
        let Some(folder) = self.0.clone() else { return };
        let name = leaf_name(url);
        if folder.lock().remove(&name) {
            blocking(move || fs::remove_file(folder.path.join(name))).await;
        }
    }

    /// All issuers, at start.
    pub(super) fn issuers(&self) -> Vec<Vec<u8>> {
        let Some(folder) = &self.0 else { return Vec::new() };
        let names = names(&folder.path, "issuer-", ".der");
        names.iter().take(MAX_ISSUERS).filter_map(|name| read(&folder.path.join(name)).ok()).collect()
    }

    /// Keeps an issuer.
    pub(super) async fn store_issuer(&self, der: Vec<u8>) {
        let Some(folder) = self.0.clone() else { return };
        blocking(move || write(&folder.path, &format!("issuer-{}.der", fingerprint(&der)), &der)).await;
    }
}

impl Folder {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.leafs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does file work off the runtime's threads. Failing is worth a log line and no more: the network still has the certificate.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot use the folder of certificates in the data directory");
            None
        }
        Err(_) => None,
    }
}

fn names(folder: &Path, prefix: &str, suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix) && name.ends_with(suffix)).collect()
}

fn leaf_name(url: &str) -> String {
    format!("leaf-{}.pem", fingerprint(url.as_bytes()))
}

fn fingerprint(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CERTIFICATE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes beside and renames, so that nobody ever reads half a file.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, folder.join(name))
}
