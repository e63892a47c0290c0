//! One place on the disk for a block and for the file that it was written to, where the file system can (Btrfs, XFS, bcachefs).
//!
//! Such a file system keeps one copy of what two files share, and copies what is written to one of them. So no change of an
//! installed file changes a block, and no hole in a segment changes a file. It shares whole pages alone: larger blocks begin at
//! the beginning of one in their segment (`segment::Writer`), and what a block has behind its last whole page is written as ever.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rusqlite::Connection;

use super::{Place, Store, blocks, segment};
use crate::{
    content::ContentId,
    limits::{SHARED_BYTES_MIN, SHARED_PAGE_BYTES},
};

/// Whether, and on which device, files may share their bytes with segments.
#[derive(Debug)]
pub(super) struct Sharing {
    device: Option<u64>,
    is_off: AtomicBool,
}

impl Sharing {
    /// Asks the file system of the block folder.
    pub(super) fn within(folder: &Path) -> Self {
        let device = File::open(folder).and_then(|folder| {
            let device = folder.metadata()?.dev();
            Ok(can_share(&folder).then_some(device))
        });
        Self { device: device.ok().flatten(), is_off: AtomicBool::new(false) }
    }

    /// Nothing is shared.
    pub(super) fn none() -> Self {
        Self { device: None, is_off: AtomicBool::new(true) }
    }

    /// Whether anything can be shared at all, so that blocks are aligned for it.
    pub(super) fn is_on(&self) -> bool {
        self.device.is_some() && !self.is_off.load(Ordering::Relaxed)
    }

    fn is_with(&self, file: &File) -> bool {
        self.is_on() && file.metadata().is_ok_and(|file| Some(file.dev()) == self.device)
    }
}

/// Whether the file system keeps one copy of what two of its files share.
#[cfg(target_os = "linux")]
fn can_share(folder: &File) -> bool {
    /// What `statfs` calls Btrfs, XFS and bcachefs (`linux/magic.h`).
    const SHARING: [u64; 3] = [0x9123_683e, 0x5846_5342, 0xca45_1a4e];
    // The type of this field differs from machine to machine; all of them hold 32 bits.
    rustix::fs::fstatfs(folder).is_ok_and(|state| SHARING.contains(&((state.f_type as u64) & 0xffff_ffff)))
}

/// Nothing is shared: what to call differs from system to system.
#[cfg(not(target_os = "linux"))]
fn can_share(_: &File) -> bool {
    false
}

const PAGE_BYTES: u64 = SHARED_PAGE_BYTES as u64;

impl Store {
    /// Shares nothing from now on: for a disk that is simulated, where no byte may pass by what watches it.
    pub fn keep_apart(&self) {
        if let Place::Disk(disk) = &self.shared.place {
            disk.sharing.is_off.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a file, or a folder and the files in it, may share bytes with blocks.
    pub fn can_share(&self, file: &File) -> bool {
        matches!(&self.shared.place, Place::Disk(disk) if disk.sharing.is_with(file))
    }

    /// Has `file` share the bytes of a block, which has so many, from its byte `at` on; returns how many of its first bytes stand there now.
    ///
    /// The block is not looked at: it is the caller's to know that it is whole. What this leaves out is to be written.
    pub fn share(&self, id: &ContentId, file: &File, at: u64, bytes: u64) -> u64 {
        let Place::Disk(disk) = &self.shared.place else { return 0 };
        if !at.is_multiple_of(PAGE_BYTES) || !disk.sharing.is_with(file) {
            return 0;
        }
        let find = |connection: &Connection| blocks::place_of(connection, id);
        let Ok(Some((number, place, size))) = self.read(find) else { return 0 };
        if size != bytes || size < SHARED_BYTES_MIN as u64 || !place.is_multiple_of(PAGE_BYTES) {
            return 0;
        }
        let Ok(segment) = segment::open(&disk.blocks, number) else { return 0 };
        copy_range(&segment, place, file, at, size - size % PAGE_BYTES)
    }
}

/// Copies within the kernel, which shares what it can; returns how many bytes.
#[cfg(target_os = "linux")]
fn copy_range(from: &File, mut place: u64, to: &File, mut at: u64, bytes: u64) -> u64 {
    let mut done = 0;
    while done < bytes {
        let rest = usize::try_from(bytes - done).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut place), to, Some(&mut at), rest) {
            Ok(0) | Err(_) => break,
            Ok(copied) => done += copied as u64,
        }
    }
    done
}

#[cfg(not(target_os = "linux"))]
fn copy_range(_: &File, _: u64, _: &File, _: u64, _: u64) -> u64 {
    0
}
