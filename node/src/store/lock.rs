//! One owner for a state folder.
//!
//! The lock is the system's (`flock` or its like) on an open file, so it ends with its process however that ends: a file
//! left by a crash, or a process id in use again by another program, means nothing.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::Error;

/// Name of the lock file inside the state folder.
const LOCK_NAME: &str = "lock";
/// Name of the control socket beside it, for the message.
const SOCKET_NAME: &str = "control.sock";
/// Digits of the largest process id, and then some.
const PID_TEXT_BYTES_MAX: u64 = 16;

/// The right to run a node on a state folder; given back when dropped.
#[derive(Debug)]
pub struct HomeLock {
    _held: LockFile,
}

impl HomeLock {
    /// Takes the folder, and makes it (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] with the process that has it; otherwise whatever keeps the lock file from being written.
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        make_private(folder).map_err(|error| Error::from(error).within(folder))?;
        Ok(Self { _held: acquire(folder, LOCK_NAME)? })
    }
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
pub(super) struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing would do, but for a program that another thread is starting just now: until it runs, it has the file too.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(error = %error, "lock not given back before the end of the process");
        }
    }
}

/// Makes a folder and those above it, for this user only.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Takes the lock file `name` in `folder` and writes the process id into it.
pub(super) fn acquire(folder: &Path, name: &str) -> Result<LockFile, Error> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let take = || -> Result<Option<File>, io::Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let mut file = options.open(folder.join(name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Some(file))
    };
    match take() {
        Ok(Some(file)) => Ok(LockFile(file)),
        Ok(None) => Err(Error::AlreadyRunning {
            pid: read_pid(&folder.join(name)),
            folder: folder.to_owned(),
            socket: folder.join(SOCKET_NAME),
        }),
        Err(error) => Err(Error::from(error).within(folder)),
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path).ok()?.take(PID_TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::code::Code;

    #[test]
    fn a_second_holder_is_told_who_has_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let held = HomeLock::acquire(home.path()).unwrap();
        let error = HomeLock::acquire(home.path()).unwrap_err();
        assert_eq!(error.code(), Code::AlreadyRunning);
        assert_eq!(error.code().exit_code(), 9);
        let expected = format!("already running (pid {}, socket ", std::process::id());
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(held);
        HomeLock::acquire(home.path()).unwrap();
    }

    #[test]
    fn a_lock_that_is_given_back_is_free_although_a_copy_of_its_file_is_open() {
        let home = tempfile::tempdir().unwrap();
        let held = HomeLock::acquire(home.path()).unwrap();
        let _copy = held._held.0.try_clone().unwrap();
        drop(held);
        HomeLock::acquire(home.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_crash_means_nothing() {
        let home = tempfile::tempdir().unwrap();
        // Process 1 lives, and never held this lock.
        std::fs::write(home.path().join(LOCK_NAME), "1\n\0garbage of an earlier life").unwrap();
        let _held = HomeLock::acquire(home.path()).unwrap();
        assert_eq!(read_pid(&home.path().join(LOCK_NAME)), Some(std::process::id()));
    }

    #[test]
    fn a_lock_file_with_nonsense_still_refuses_the_second_holder() {
        let home = tempfile::tempdir().unwrap();
        let _held = HomeLock::acquire(home.path()).unwrap();
        std::fs::write(home.path().join(LOCK_NAME), "x".repeat(1 << 20)).unwrap();
        let error = HomeLock::acquire(home.path()).unwrap_err();
        assert!(error.to_string().contains("pid unknown"), "{error}");
    }

    #[test]
    fn the_folder_is_made_for_its_owner_only() {
        let outer = tempfile::tempdir().unwrap();
        let home = outer.path().join("a").join("home");
        let _held = HomeLock::acquire(&home).unwrap();
        assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_symlink_in_place_of_the_lock_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, home.path().join(LOCK_NAME)).unwrap();
        HomeLock::acquire(home.path()).unwrap_err();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
}
