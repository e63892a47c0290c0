//! Segment files: where the larger blocks are.
//!
//! A segment holds the blocks of one batch, one record after another. It is written under a `.tmp` name, fsynced and
//! renamed once; its rows in the database are committed after that. Afterwards nothing is written to it; stretches that no row names any
//! more become holes, which read as zeros. Each record says what
//! it holds, so that the rows can be made again from the files alone:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic, `ggb` and the format's number 1 |
//! | 4 | codec, little-endian |
//! | 4 | length of the block, little-endian |
//! | 32 | SHA-256 of the block |
//! | 4 | the first bytes of the SHA-256 of the 44 above |
//! | length | the block |
//!
//! Where the file system can share, zeros go before the header of a larger block, so that the block begins with a page (`share.rs`).
//!
//! This module knows files and nothing of the database. It trusts no byte that it reads: a block is one only when its
//! bytes hash to its id.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::Error;
use crate::{
    content::{Block, Codec, ContentId},
    limits::{BLOCK_BYTES_MAX, SHARED_BYTES_MIN, SHARED_PAGE_BYTES},
};

const MAGIC: [u8; 4] = *b"ggb\x01";
/// Bytes before the block in a record.
pub(super) const HEADER_BYTES: u64 = 48;
/// Bytes of the header that its own check covers.
const CHECKED_BYTES: usize = 44;
/// Bytes that a writer gathers before it writes.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes that a search for the next record reads at once.
const SEARCH_BYTES: usize = 64 << 10;
/// Magics without a record behind them before a damaged segment is given up: a block may be made of them.
const FALSE_STARTS_MAX: u32 = 4096;

/// What a segment is called once it is whole.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.seg"))
}

/// What a segment is called while it is being written.
pub(super) fn temporary_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.tmp"))
}

/// A file that the store may find in its block folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// A whole segment.
    Whole(u64),
    /// One that was being written.
    Temporary(u64),
}

/// Reads the name of a file in the block folder; `None` for one that is not ours.
pub(super) fn parse_name(name: &str) -> Option<Name> {
    let (number, kind) = name.split_once('.')?;
    // One spelling a number, so that two files cannot claim the same one.
    let parsed = number.parse::<u64>().ok().filter(|parsed| parsed.to_string() == number)?;
    match kind {
        "seg" => Some(Name::Whole(parsed)),
        "tmp" => Some(Name::Temporary(parsed)),
        _ => None,
    }
}

fn header(block: &Block) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    let length = u32::try_from(block.bytes().len()).expect("a block is at most 1 MiB");
    let codec = block.id().codec() as u64 as u32;
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&codec.to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..44].copy_from_slice(&block.id().digest());
    let check = Sha256::digest(&header[..CHECKED_BYTES]);
    header[44..].copy_from_slice(&check[..4]);
    header
}

/// The id and length that a header promises; `None` where it is not one.
fn parse_header(header: &[u8; HEADER_BYTES as usize]) -> Option<(ContentId, usize)> {
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let whole = header[..4] == MAGIC && header[44..] == Sha256::digest(&header[..CHECKED_BYTES])[..4];
    let codec =
        [Codec::Raw, Codec::DagPb, Codec::DagCbor].into_iter().find(|c| *c as u64 == u64::from(word(4)));
    let length = usize::try_from(word(8)).ok().filter(|length| *length <= BLOCK_BYTES_MAX);
    match (whole, codec, length) {
        (true, Some(codec), Some(length)) => {
            let digest = header[12..44].try_into().expect("32 bytes");
            Some((ContentId::from_digest(codec, digest), length))
        }
        _ => None,
    }
}

/// A segment that is being written; the file is removed when this is dropped unfinished.
#[derive(Debug)]
pub(super) struct Writer {
    number: u64,
    bytes: u64,
    /// Whether larger blocks begin with a page.
    is_aligned: bool,
    temporary: PathBuf,
    target: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl Writer {
    /// Begins segment `number` in `folder`; `is_aligned` has larger blocks begin with a page.
    pub(super) fn create(folder: &Path, number: u64, is_aligned: bool) -> io::Result<Self> {
        let temporary = temporary_path(folder, number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self {
            number,
            bytes: 0,
            is_aligned,
            temporary,
            target: path(folder, number),
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            finished: false,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a block and returns where its bytes begin.
    pub(super) fn append(&mut self, block: &Block) -> io::Result<u64> {
        if self.is_aligned && block.bytes().len() >= SHARED_BYTES_MIN {
            let begin = self.bytes + HEADER_BYTES;
            let zeros = begin.next_multiple_of(SHARED_PAGE_BYTES as u64) - begin;
            io::copy(&mut io::repeat(0).take(zeros), &mut self.file)?;
            self.bytes += zeros;
        }
        self.file.write_all(&header(block))?;
        self.file.write_all(block.bytes())?;
        let place = self.bytes + HEADER_BYTES;
        self.bytes = place + block.bytes().len() as u64;
        Ok(place)
    }

    /// Brings everything to the disk under the final name: two fsyncs, of the file and of its folder.
    pub(super) fn finish(mut self) -> Result<PathBuf, Unfinished> {
        self.file.flush().map_err(|error| Unfinished::Failed(error.into()))?;
        self.file.get_ref().sync_all().map_err(Unfinished::NotSynced)?;
        // Numbers are given out once, so nothing stands there; a rename would not say if it did.
        if self.target.exists() {
            let taken = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Unfinished::Failed(taken.into()));
        }
        std::fs::rename(&self.temporary, &self.target).map_err(|error| Unfinished::Failed(error.into()))?;
        self.finished = true;
        sync_folder(&self.target).map_err(Unfinished::NotSynced)?;
        Ok(self.target.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is swept at the next start.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Why a segment did not get its final name.
pub(super) enum Unfinished {
    /// It could not be written; another one may well work.
    Failed(Error),
    /// The system could not say whether the data reached the disk.
    NotSynced(io::Error),
}

/// Fsyncs the folder that `path` is in, so that its name survives a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        // The folder of a bare name is the one that the process is in.
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens a whole segment for reading.
pub(super) fn open(folder: &Path, number: u64) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(nofollow).open(path(folder, number))
}

/// Opens a whole segment, to give some of its bytes back.
pub(super) fn open_to_free(folder: &Path, number: u64) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(nofollow).open(path(folder, number))
}

/// Gives bytes of a segment back to the file system; they read as zeros from now on, and its length stays.
#[cfg(target_os = "linux")]
pub(super) fn free(file: &File, at: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, at, length) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        freed => Ok(freed?),
    }
}

/// Gives nothing back: what to call differs from system to system.
#[cfg(not(target_os = "linux"))]
pub(super) fn free(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads the bytes of a block.
pub(super) fn read(file: &File, place: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

/// Reads every record of a segment in order and hands over each verified block with the place of its bytes.
///
/// Returns how many records, or stretches between records, were damaged or could not be read, and were passed over; holes are none.
/// Memory stays at one block.
pub(super) fn scan(
    file: &File,
    mut found: impl FnMut(Block, u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    let end = file.metadata()?.len();
    let (mut at, mut damaged, mut false_starts, mut astray) = (0, 0, 0, false);
    while at < end {
        // What the disk does not give back is damaged too; there may be more behind it.
        let promised = (end - at >= HEADER_BYTES).then(|| read_header(file, at).ok()).flatten().flatten();
        let is_hole = promised.is_none() && !astray;
        let zeros = if is_hole { zeros_from(file, at, end).unwrap_or_default() } else { 0 };
        if zeros > 0 {
            // A hole, where a block was that went.
            at += zeros;
            continue;
        }
        let Some((id, length)) = promised else {
            damaged += u64::from(!astray);
            false_starts += u32::from(astray);
            astray = true;
            match next_magic(file, at + 1, end) {
                Some(next) if false_starts < FALSE_STARTS_MAX => at = next,
                _ => break,
            }
            continue;
        };
        astray = false;
        let place = at + HEADER_BYTES;
        at = place + length as u64;
        if at > end {
            // The last record is torn; nothing can follow it.
            damaged += 1;
            break;
        }
        match read(file, place, length).map(|bytes| Block::verified(id, bytes)) {
            Ok(Ok(block)) => found(block, place)?,
            Ok(Err(_)) | Err(_) => damaged += 1,
        }
    }
    Ok(damaged)
}

fn read_header(file: &File, at: u64) -> io::Result<Option<(ContentId, usize)>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(parse_header(&bytes))
}

/// How many bytes from `from` on are zero.
fn zeros_from(file: &File, from: u64, end: u64) -> io::Result<u64> {
    let (mut buffer, mut at) = (vec![0; SEARCH_BYTES], from);
    while at < end {
        let length = usize::try_from(end - at).map_or(SEARCH_BYTES, |rest| rest.min(SEARCH_BYTES));
        let window = &mut buffer[..length];
        file.read_exact_at(window, at)?;
        let zeros = window.iter().take_while(|byte| **byte == 0).count();
        at += zeros as u64;
        if zeros < length {
            break;
        }
    }
    Ok(at - from)
}

/// The first place from `from` on where a record may begin, in what the disk gives back.
fn next_magic(file: &File, mut from: u64, end: u64) -> Option<u64> {
    let mut buffer = vec![0; SEARCH_BYTES];
    while end.saturating_sub(from) >= HEADER_BYTES {
        let length = usize::try_from(end - from).map_or(SEARCH_BYTES, |rest| rest.min(SEARCH_BYTES));
        let window = &mut buffer[..length];
        if file.read_exact_at(window, from).is_err() {
            from += length as u64;
            continue;
        }
        if let Some(offset) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
            return Some(from + offset as u64);
        }
        // A magic may lie across two windows.
        from += (length - (MAGIC.len() - 1)) as u64;
    }
    None
}
