//! One command at a time changes a project.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::Error;

/// A project that no other command changes for as long as this lives.
///
/// The lock is on the directory itself: no file is left behind, and a process that is killed lets go of it.
#[derive(Debug)]
pub struct Guard {
    root: PathBuf,
    _handle: File,
}

impl Guard {
    /// Locks a directory, whatever is in it.
    ///
    /// # Errors
    /// [`Error::NoProject`] where there is no such directory, [`Error::Busy`] where another command holds it.
    pub fn lock(directory: &Path) -> Result<Self, Error> {
        Self::hold(directory, FlockOperation::NonBlockingLockExclusive)
    }

    /// Keeps other commands from changing a directory; others may look at it likewise.
    ///
    /// # Errors
    /// As [`Guard::lock`].
    pub fn share(directory: &Path) -> Result<Self, Error> {
        Self::hold(directory, FlockOperation::NonBlockingLockShared)
    }

    fn hold(directory: &Path, operation: FlockOperation) -> Result<Self, Error> {
        let no_project = || Error::NoProject { directory: directory.to_owned() };
        let root = directory.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => no_project(),
            _ => Error::io("read", directory, error),
        })?;
        let failed = |error| Error::io("lock", &root, error);
        let handle = File::open(&root).map_err(failed)?;
        if !handle.metadata().map_err(failed)?.is_dir() {
            return Err(no_project());
        }
        match flock(&handle, operation) {
            Ok(()) => Ok(Self { root, _handle: handle }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy { directory: root }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The directory, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_refused_until_the_first_one_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let first = Guard::lock(folder.path()).unwrap();
        assert!(matches!(Guard::lock(folder.path()), Err(Error::Busy { .. })));
        assert!(matches!(Guard::share(folder.path()), Err(Error::Busy { .. })));
        drop(first);
        let looks = [Guard::share(folder.path()).unwrap(), Guard::share(folder.path()).unwrap()];
        assert!(matches!(Guard::lock(folder.path()), Err(Error::Busy { .. })));
        drop(looks);
        Guard::lock(folder.path()).unwrap();
        assert!(matches!(Guard::lock(&folder.path().join("no")), Err(Error::NoProject { .. })));
    }
}
