//! Writes a package into its staging folder while its blocks still come, in whatever order they do.
//!
//! Each block goes to all the places where it stands. What did not come, because it was here already, is taken from elsewhere at the
//! end. A file is hashed as far as it is there from its beginning; what came before its turn is read again from the staging
//! folder. Any failure ends the attempt ([`Early::take`] does nothing any more): the blocks are stored too, so that the package can
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

use super::{Error, Staging, check_target};
use crate::{
    content::{Block, ContentId},
    limits::CHUNK_BYTES,
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
    /// None for a file of one leaf, which is named by the hash of the file.
    hash: Option<Sha256>,
    /// Where chunks begin that were written and not hashed yet.
    ahead: BTreeSet<u64>,
}

impl Early {
    /// Begins to write the package of `manifest` for `target`, which must not exist or be an empty folder.
    ///
    /// # Errors
    /// As [`unpack`](super::unpack).
    pub fn begin<E>(manifest: Arc<Manifest>, target: &Path) -> Result<Self, Error<E>> {
        let is_there = check_target(target)?;
        let staging = Staging::beside(target)?;
        staging.check_space(manifest.size())?;
        let mut open = BTreeMap::<_, Vec<_>>::new();
        let mut files = Vec::with_capacity(manifest.files().len());
        for (file, entry) in manifest.files().iter().enumerate() {
            let part = entry.whole();
            open.entry(part.id).or_default().push(Place { file, at: 0, part });
            files.push(State { hash: (!part.is_leaf()).then(Sha256::new), ..State::default() });
        }
        Ok(Self { staging, is_there, manifest, open, files, written: 0, failed: false })
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
        source: &dyn Fn(&ContentId) -> Result<Block, E>,
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
                let block = source(&id).map_err(|error| Some(Error::Source(error)))?;
                self.place(&block).map_err(|_| None)?;
                progress(self.written, manifest.size());
            }
        }
        for (file, entry) in manifest.files().iter().enumerate() {
            self.check(file, entry).map_err(Some)?;
        }
        self.staging.publish(target, self.is_there).map_err(Some)
    }

    /// Writes a block wherever it stands. What is wrong with it is found again, and named, where the package is written from the store.
    fn place(&mut self, block: &Block) -> io::Result<()> {
        let manifest = self.manifest.clone();
        let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
        for Place { file, at, part } in self.open.remove(&block.id()).unwrap_or_default() {
            if part.is_leaf() {
                let bytes = part.leaf(block).map_err(broken)?;
                self.write(file, &manifest.files()[file], at, bytes)?;
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

    fn write(&mut self, file: usize, entry: &FileEntry, at: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut self.files[file];
        let path = if state.is_made {
            self.staging.path_of(entry)
        } else {
            self.staging.make_way::<()>(entry).map_err(|_| io::Error::other("no folder for a file"))?
        };
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(nofollow);
        // Never over anything: where a file system takes two of the names for one, this fails.
        let handle = options.create_new(!state.is_made).open(path)?;
        state.is_made = true;
        handle.write_all_at(bytes, at)?;
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
