//! Writes a package into its staging folder while its blocks still come, in whatever order they do.
//!
//! Each block goes to all the places where it stands. What did not come, because it was here already, is taken from elsewhere at the
//! end. A file is hashed as far as it is there from its beginning; what came before its turn is read again from the staging
//! folder. Where the file system can have files share bytes with the store, larger leaves that come in turn are only hashed, and are shared
//! at the end, when they are in the store. Any failure ends the attempt ([`Early::take`] does nothing any more): the blocks are stored too, so that the package can
//! still be written from those.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{Error, Staging, Supply, check_target};
use crate::{
    content::{Block, ContentId},
    limits::{CHUNK_BYTES, SHARED_BYTES_MIN, SHARED_PAGE_BYTES},
    package::{Manifest, manifest::FileEntry, unixfs::FilePart},
};

/// A package that is being written.
pub struct Early {
    staging: Staging,
    is_there: bool,
    manifest: Arc<Manifest>,
    /// Where the blocks stand that are not written yet.
    open: BTreeMap<ContentId, Vec<Place>>,
    files: Vec<State>,
    /// Whether leaves are shared with the store.
    shares: bool,
    /// The leaves that are shared at the end.
    shared: Vec<Place>,
    written: u64,
    failed: bool,
}

/// One place of a block: in which file, at which byte, and as what.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    at: u64,
    part: FilePart,
}

/// How far a file has come.
#[derive(Default)]
struct State {
    is_made: bool,
    written: u64,
    hashed: u64,
    /// None for a file of one leaf, which is named by the hash of the file. Apart, because most files are so.
    hash: Option<Box<Sha256>>,
    /// Where chunks begin that were written and not hashed yet.
    ahead: BTreeSet<u64>,
}

impl Early {
    /// Begins to write the package of `manifest` for `target`, which must not exist or be an empty folder; `source` is what the rest
    /// will come from.
    ///
    /// # Errors
    /// As [`unpack`](super::unpack).
    pub fn begin<E>(
        manifest: Arc<Manifest>,
        target: &Path,
        source: &dyn Supply<E>,
    ) -> Result<Self, Error<E>> {
        let is_there = check_target(target)?;
        let staging = Staging::beside(target)?;
        staging.check_space(manifest.size())?;
        let mut open = BTreeMap::<_, Vec<_>>::new();
        let mut files = Vec::with_capacity(manifest.files().len());
        for (file, entry) in manifest.files().iter().enumerate() {
            let part = entry.whole();
            open.entry(part.id).or_default().push(Place { file, at: 0, part });
            files.push(State { hash: (!part.is_leaf()).then(Box::default), ..State::default() });
        }
        let shares = source.can_share(&staging.handle);
        let (shared, written, failed) = (Vec::new(), 0, false);
        Ok(Self { staging, is_there, manifest, open, files, shares, shared, written, failed })
    }

    /// Writes a block wherever it stands.
    pub fn take(&mut self, block: &Block) {
        if !self.failed && self.place(block).is_err() {
            self.failed = true;
        }
    }

    /// Writes what did not come, from `source`, checks the files, and gives the folder its name; `progress` hears of the bytes
    /// written and the bytes in all.
    ///
    /// # Errors
    /// Nothing is left then, neither the target nor a staging folder. Where it says nothing of why, the package may still be written from
    /// the store, which finds out.
    pub fn finish<E>(
        mut self,
        source: &dyn Supply<E>,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Option<Error<E>>> {
        if self.failed {
            return Err(None);
        }
        let manifest = self.manifest.clone();
        progress(self.written, manifest.size());
        // Ends: what a block has below it is smaller than itself.
        while !self.open.is_empty() {
            // In the order of the files, so that they are hashed as they are written.
            let first =
                |(id, places): (&ContentId, &Vec<Place>)| (places.first().map(|it| (it.file, it.at)), *id);
            let mut rest: Vec<_> = self.open.iter().map(first).collect();
            rest.sort_unstable();
            for (_, id) in rest {
                let block = source.block(&id).map_err(|error| Some(Error::Source(error)))?;
                self.place(&block).map_err(|_| None)?;
                progress(self.written, manifest.size());
            }
        }
        self.share(source)?;
        for (file, entry) in manifest.files().iter().enumerate() {
            self.check(file, entry).map_err(Some)?;
        }
        self.staging.publish(target, self.is_there, source).map_err(Some)
    }

    /// Writes a block wherever it stands. What is wrong with it is found again, and named, where the package is written from the store.
    fn place(&mut self, block: &Block) -> io::Result<()> {
        let manifest = self.manifest.clone();
        let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
        for Place { file, at, part } in self.open.remove(&block.id()).unwrap_or_default() {
            if part.is_leaf() {
                let bytes = part.leaf(block).map_err(broken)?;
                // What comes before its turn is written too: its file is hashed from there.
                let is_all = bytes.len() == block.bytes().len() && bytes.len() >= SHARED_BYTES_MIN;
                let is_shared = self.shares && is_all;
                let waits = is_shared && self.files[file].is_in_turn(at);
                self.write(file, &manifest.files()[file], at, (bytes, waits))?;
                if is_shared {
                    self.shared.push(Place { file, at, part });
                }
                continue;
            }
            let mut at = at;
            for part in part.children(block.bytes()).map_err(broken)? {
                self.open.entry(part.id).or_default().push(Place { file, at, part });
                at += part.size;
            }
        }
        Ok(())
    }

    /// Has the files share the leaves that are in the store by now. One that is not there any more is written, or missed.
    fn share<E>(&mut self, source: &dyn Supply<E>) -> Result<(), Option<Error<E>>> {
        let mut leaves = std::mem::take(&mut self.shared);
        leaves.sort_unstable_by_key(|leaf| (leaf.file, leaf.at));
        let manifest = self.manifest.clone();
        for leaves in leaves.chunk_by(|one, other| one.file == other.file) {
            let path = self.staging.path_of(&manifest.files()[leaves[0].file]);
            let handle = opened(&path, false).map_err(|_| None)?;
            for Place { at, part, .. } in leaves {
                let pages = part.size - part.size % SHARED_PAGE_BYTES as u64;
                let shared = source.share(&part.id, &handle, *at, part.size);
                if shared < pages {
                    let block = source.block(&part.id).map_err(|error| Some(Error::Source(error)))?;
                    let bytes = part.leaf(&block).map_err(|_| None)?;
                    handle.write_all_at(bytes, *at).map_err(|_| None)?;
                }
            }
        }
        Ok(())
    }

    /// Writes bytes into a file, or only hashes those that wait to be shared.
    fn write(
        &mut self,
        file: usize,
        entry: &FileEntry,
        at: u64,
        (bytes, waits): (&[u8], bool),
    ) -> io::Result<()> {
        let state = &mut self.files[file];
        let path = if state.is_made {
            self.staging.path_of(entry)
        } else {
            self.staging.make_way::<()>(entry).map_err(|_| io::Error::other("no folder for a file"))?
        };
        // Never over anything: where a file system takes two of the names for one, this fails.
        let handle = opened(&path, !state.is_made)?;
        state.is_made = true;
        // What is behind its last whole page cannot be shared.
        let from = if waits { bytes.len() - bytes.len() % SHARED_PAGE_BYTES } else { 0 };
        handle.write_all_at(&bytes[from..], at + from as u64)?;
        state.written += bytes.len() as u64;
        self.written += bytes.len() as u64;
        if let Some(hash) = &mut state.hash {
            if state.hashed == at {
                hash.update(bytes);
                state.hashed += bytes.len() as u64;
                catch_up(state, &handle, entry.size)?;
            } else {
                state.ahead.insert(at);
            }
        }
        if state.written == entry.size {
            let mode = if entry.executable { 0o755 } else { 0o644 };
            handle.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn check<E>(&mut self, file: usize, entry: &FileEntry) -> Result<(), Error<E>> {
        let state = std::mem::take(&mut self.files[file]);
        if state.written != entry.size || (state.hash.is_some() && state.hashed != entry.size) {
            return Err(Error::Size { path: entry.path.to_string(), expected: entry.size });
        }
        let sha256 = state.hash.map_or(entry.id.digest(), |hash| hash.finalize().into());
        if sha256 == entry.sha256 { Ok(()) } else { Err(Error::Sha256 { path: entry.path.to_string() }) }
    }
}

/// Opens a file of the staging folder, or makes it.
fn opened(path: &Path, is_new: bool) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(nofollow).create_new(is_new).open(path)
}

impl State {
    /// Whether the file is hashed up to here.
    fn is_in_turn(&self, at: u64) -> bool {
        self.hash.is_none() || self.hashed == at
    }
}

/// Hashes what came before its turn and whose turn it is now.
fn catch_up(state: &mut State, file: &File, size: u64) -> io::Result<()> {
    let Some(hash) = &mut state.hash else { return Ok(()) };
    let mut buffer = Vec::new();
    while state.ahead.remove(&state.hashed) {
        let bytes = (size - state.hashed).min(CHUNK_BYTES as u64);
        buffer.resize(usize::try_from(bytes).unwrap_or(CHUNK_BYTES), 0);
        file.read_exact_at(&mut buffer, state.hashed)?;
        hash.update(&buffer);
        state.hashed += bytes;
    }
    Ok(())
}

#[cfg(test)]
#[path = "early_tests.rs"]
mod tests;
