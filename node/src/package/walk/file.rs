//! Opening a file so that nothing else is read in its place.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// What a file looked like from outside; another state means other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Bytes.
    pub size: u64,
    modified: (i64, i64),
    file: (u64, u64),
}

impl State {
    pub(in crate::package) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What a thing is that is no regular file.
pub(super) fn irregular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device or folder")
    }
}

/// Opens a regular file for reading: never through a link, never waiting for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with_metadata(path).map(|(file, _)| file)
}

pub(in crate::package) fn open_with_metadata(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Reads all of a file that was just opened; nothing where it is not in this state any more.
pub(in crate::package) fn read_whole(mut file: &File, state: State) -> io::Result<Option<Vec<u8>>> {
    let size = usize::try_from(state.size).unwrap_or(usize::MAX);
    let (mut bytes, mut filled) = (vec![0; size], 0);
    while filled < size {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(None),
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // It grew, or was written to, where this is another one.
    Ok((State::of(&file.metadata()?) == state).then_some(bytes))
}
