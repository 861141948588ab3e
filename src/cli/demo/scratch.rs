//! A folder that is gone when the demo is.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::simulator::dice::Dice;

/// A new folder under the system's temporary one, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(dice: &mut Dice) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("postern-demo-{}", dice.hex(12)));
        // Never an existing folder, and nobody else's to look into.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
