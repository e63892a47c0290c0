//! Turns the files of a directory into blocks.
//!
//! One file is read at a time and at most one chunk of it is held, however large it is. The ids are of the bytes that were
//! stored; a file that does not stay what it was when it was found is refused.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::{
    PackagePath, own,
    unixfs::{self, FileBuilder, FileRoot},
    walk::{self, Found, State},
};
use crate::{
    code::Code,
    content::{Block, ContentId},
    limits::CHUNK_BYTES,
};

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// Its path inside the package.
    pub path: PackagePath,
    /// Whether it may be executed: mode 755 rather than 644.
    pub executable: bool,
    /// Its graph.
    pub root: FileRoot,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// A directory as blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its files, sorted by path.
    pub files: Vec<PackedFile>,
    /// The content id of the tree.
    pub root: ContentId,
    /// Bytes of all files.
    pub size: u64,
    /// Blocks that were handed over; a block that occurs twice counts twice.
    pub blocks: u64,
}

/// Hands every block of the `found` files and of their directories to `sink`, children before their parents, and the root
/// last. `progress` hears of the bytes done and the bytes in all.
///
/// # Errors
/// [`Error::Read`] where a file cannot be read or changed, [`Error::Graph`], and whatever `sink` returns.
pub fn pack<E>(
    found: &[Found],
    sink: &mut dyn FnMut(Block) -> Result<(), E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Packed, Error<E>> {
    let total = found.iter().fold(0u64, |sum, found| sum.saturating_add(found.state.size));
    let mut blocks = 0;
    let mut counted = |block| {
        blocks += 1;
        sink(block)
    };
    let mut files = Vec::with_capacity(found.len());
    let mut done = 0;
    progress(done, total);
    let mut buffer = vec![0; CHUNK_BYTES];
    for found in found {
        let (root, sha256) = pack_file(found, &mut buffer, &mut counted, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
        files.push(PackedFile { path: found.path.clone(), executable: found.executable, root, sha256 });
    }
    let tree = unixfs::tree(files.iter().map(|file| (&file.path, file.root)))?;
    for block in tree.blocks {
        counted(block).map_err(Error::Sink)?;
    }
    Ok(Packed { files, root: tree.root, size: total, blocks })
}

fn pack_file<E>(
    found: &Found,
    buffer: &mut [u8],
    sink: &mut dyn FnMut(Block) -> Result<(), E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(FileRoot, [u8; 32]), Error<E>> {
    let failed = |source| walk::Error::Io { path: found.path.to_string(), source };
    let changed = || walk::Error::Changed { path: found.path.to_string() };
    let mut file = walk::open(&found.source).map_err(failed)?;
    if State::of(&file.metadata().map_err(failed)?) != found.state {
        return Err(changed().into());
    }
    let (mut builder, mut hash, mut left) = (FileBuilder::new(), Sha256::new(), found.state.size);
    let mut keys = Keys::default();
    loop {
        let len = match file.read(buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error).into()),
        };
        // A file that grows could be read for ever.
        left = left.checked_sub(len as u64).ok_or_else(changed)?;
        if keys.stand_in(&buffer[..len]) {
            return Err(walk::Error::OwnKey { path: found.path.to_string() }.into());
        }
        hash.update(&buffer[..len]);
        builder.push(&buffer[..len], sink).map_err(Error::Sink)?;
        progress(len as u64);
    }
    if left > 0 || State::of(&file.metadata().map_err(failed)?) != found.state {
        return Err(changed().into());
    }
    Ok((builder.finish(sink).map_err(Error::Sink)?, hash.finalize().into()))
}

/// Looks for key files of this program in bytes that come piece by piece: whatever checks were skipped, none is packed.
#[derive(Default)]
struct Keys {
    /// The last bytes that came, of which a key may go on in those that come next.
    last: Vec<u8>,
}

impl Keys {
    fn stand_in(&mut self, bytes: &[u8]) -> bool {
        self.last.extend(&bytes[..bytes.len().min(own::SPAN)]);
        let found = own::find(&self.last).or_else(|| own::find(bytes)).is_some();
        if bytes.len() >= own::SPAN {
            self.last.clear();
            self.last.extend(&bytes[bytes.len() - own::SPAN..]);
        } else {
            self.last.drain(..self.last.len().saturating_sub(own::SPAN));
        }
        found
    }
}

/// Why packing failed; `E` is the error of whoever takes the blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// A file could not be read, or changed.
    #[error(transparent)]
    Read(#[from] walk::Error),
    /// The directories could not be built.
    #[error(transparent)]
    Graph(#[from] unixfs::Error),
    /// A block was not taken.
    #[error("a block could not be stored: {0}")]
    Sink(E),
}

impl<E> Error<E> {
    /// The stable code of this error, with that of a block that was not taken from `sink`.
    pub fn code(&self, sink: impl FnOnce(&E) -> Code) -> Code {
        match self {
            Self::Read(error) => error.code(),
            // As in `walk`: the names are those of our own files.
            Self::Graph(error) => match error.code() {
                Code::Path => Code::PackageInvalid,
                other => other,
            },
            Self::Sink(error) => sink(error),
        }
    }

    /// What to do next; empty where only whoever takes the blocks can say.
    pub fn hint(&self) -> String {
        match self {
            Self::Read(error) => error.hint(),
            Self::Graph(_) => "Rename one of the two files.".to_owned(),
            Self::Sink(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::package::walk::walk;

    fn pack_all(found: &[Found]) -> Result<Packed, Error<Infallible>> {
        pack(found, &mut |_| Ok(()), &mut |_, _| ())
    }

    #[test]
    fn a_directory_becomes_the_tree_that_its_files_are() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.txt"), "hello\n").unwrap();
        let mut blocks = Vec::new();
        let mut steps = Vec::new();
        let packed = pack(
            &walk(directory.path()).unwrap(),
            &mut |block: Block| {
                blocks.push(block.id());
                Ok::<_, Infallible>(())
            },
            &mut |done, total| steps.push((done, total)),
        )
        .unwrap();
        assert_eq!(packed.root.to_string(), "bafybeihm2fwylxiush5wrtgc2kxhfwffodhjhfdickb6qc6zufwiu6uwty");
        assert_eq!((packed.size, packed.blocks, packed.files.len()), (6, 2, 1));
        assert_eq!(blocks, [packed.files[0].root.id, packed.root]);
        assert_eq!(packed.files[0].sha256, packed.files[0].root.id.digest());
        assert_eq!(steps, [(0, 6), (6, 6)]);
    }

    #[test]
    fn times_and_other_bits_of_the_mode_do_not_change_the_package() {
        let one = tempfile::tempdir().unwrap();
        let two = tempfile::tempdir().unwrap();
        for (directory, mode) in [(&one, 0o600), (&two, 0o664)] {
            let path = directory.path().join("a");
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (one, two) = (walk(one.path()).unwrap(), walk(two.path()).unwrap());
        assert_eq!(pack_all(&one).unwrap(), pack_all(&two).unwrap());
    }

    #[test]
    fn a_file_that_changed_since_it_was_found_is_refused() {
        for change in ["longer than before", "x", ""] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            fs::write(&path, "first").unwrap();
            let found = walk(directory.path()).unwrap();
            fs::write(&path, change).unwrap();
            let error = pack_all(&found).unwrap_err();
            assert!(matches!(error, Error::Read(walk::Error::Changed { .. })), "{error}");
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let longer: fn(&mut fs::File) = |file| drop(file.set_len(4 * CHUNK_BYTES as u64));
        let shorter: fn(&mut fs::File) = |file| drop(file.set_len(2 * CHUNK_BYTES as u64));
        let other: fn(&mut fs::File) = |file| drop(io::Write::write(file, b"other"));
        for change in [longer, shorter, other] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            fs::write(&path, vec![7; 3 * CHUNK_BYTES]).unwrap();
            let found = walk(directory.path()).unwrap();
            let mut change = Some(change);
            let mut progress = |done, _| {
                if done > 0
                    && let Some(change) = change.take()
                {
                    // File times are only as fine as the kernel's tick.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    change(&mut fs::OpenOptions::new().write(true).open(&path).unwrap());
                }
            };
            let result = pack(&found, &mut |_| Ok::<_, Infallible>(()), &mut progress);
            assert!(matches!(result, Err(Error::Read(walk::Error::Changed { .. }))), "{result:?}");
        }
    }

    #[test]
    fn a_link_put_in_the_place_of_a_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "x").unwrap();
        let found = walk(directory.path()).unwrap();
        fs::rename(&path, directory.path().join("b")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("b"), &path).unwrap();
        assert!(matches!(pack_all(&found), Err(Error::Read(walk::Error::Io { .. }))));
    }

    /// A gigabyte and a bit, of two levels of nodes; it is a hole, so that it costs no disk and one block of its chunks.
    #[test]
    fn a_file_of_more_than_a_gigabyte_is_packed_and_read_back_a_chunk_at_a_time() {
        const SIZE: u64 = (1 << 30) + 5;
        let directory = tempfile::tempdir().unwrap();
        fs::File::create(directory.path().join("large")).unwrap().set_len(SIZE).unwrap();
        let mut blocks = std::collections::HashMap::new();
        let mut sink = |block: Block| {
            assert!(block.bytes().len() <= CHUNK_BYTES);
            blocks.insert(block.id(), block.into_bytes());
            Ok::<_, Infallible>(())
        };
        let packed = pack(&walk(directory.path()).unwrap(), &mut sink, &mut |_, _| ()).unwrap();
        let file = packed.files[0].root;
        assert_eq!((packed.size, file.size), (SIZE, SIZE));
        // 1024 chunks and the rest, a full node, one over the rest, the root of both, and the directory.
        assert_eq!((packed.blocks, blocks.len()), (1024 + 1 + 3 + 1, 1 + 1 + 3 + 1));
        let mut open = vec![unixfs::FilePart::whole(file.id, file.size).unwrap()];
        let (mut chunks, mut bytes) = (0, 0);
        while let Some(part) = open.pop() {
            if part.is_leaf() {
                assert_eq!(blocks[&part.id].len() as u64, part.size);
                (chunks, bytes) = (chunks + 1, bytes + part.size);
            } else {
                open.extend(part.children(&blocks[&part.id]).unwrap());
            }
        }
        assert_eq!((chunks, bytes), (1025, SIZE));
    }

    #[test]
    fn names_that_cannot_stand_together_are_invalid_input() {
        let same = unixfs::Error::HashCollision { first: "a".to_owned(), second: "b".to_owned() };
        assert_eq!(Error::<Infallible>::Graph(same).code(|never| match *never {}), Code::PackageInvalid);
    }

    #[test]
    fn packing_ends_at_the_first_block_that_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let found = walk(directory.path()).unwrap();
        let error = pack(&found, &mut |_| Err("full"), &mut |_, _| ()).unwrap_err();
        assert_eq!(error.code(|_| Code::DiskFull), Code::DiskFull);
    }
}
