//! The operations on files that a change of a project consists of.
//!
//! All of them go through one value, so that a test can let them end after any one of them, as a kill does.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Changes files.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Operations until all of them fail; as many as there are where it is none.
    left: Option<u64>,
    /// Whether only one of them fails.
    heals: bool,
}

impl Disk {
    /// All operations fail after so many of them: a process that is killed does nothing more.
    #[cfg(test)]
    pub(super) fn killed_after(operations: u64) -> Self {
        Self { left: Some(operations), heals: false }
    }

    /// One operation fails after so many of them.
    #[cfg(test)]
    pub(super) fn failing_once_after(operations: u64) -> Self {
        Self { left: Some(operations), heals: true }
    }

    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => {
                if self.heals {
                    self.left = None;
                }
                Err(io::Error::other("killed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)
    }

    /// Writes a new file in the place of the one that may be there, and brings it to the disk. A link is replaced, not followed.
    pub(super) fn write(&mut self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.step()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Makes a folder, and those above it.
    pub(super) fn make_folder(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        self.step()?;
        DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    /// Removes a file or a folder with all that is in it; whether it was there makes no difference.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Brings the names in a folder to the disk.
    pub(super) fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        File::open(path)?.sync_all()
    }
}

/// Whether anything has this name, a link that leads nowhere too.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
