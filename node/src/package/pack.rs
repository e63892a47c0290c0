//! Turns the files of a directory into blocks.
//!
//! Each file is read once. Of a large one a few chunks are held at most, however large it is. The ids are of the bytes that were
//! stored; a file that does not stay what it was when it was found is refused.

use std::{
    io::{self, Read},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use sha2::{Digest, Sha256};

use super::{
    PackagePath,
    own::{self, OwnSecrets},
    unixfs::{self, FileBuilder, FileRoot},
    walk::{self, Found, State},
};
use crate::{
    code::Code,
    content::{Block, Codec, ContentId},
    limits::CHUNK_BYTES,
};

/// Blocks of small files that wait to be taken.
const READY_BLOCKS_MAX: usize = 16;
/// Chunks of a large file that wait to be hashed.
const READY_CHUNKS_MAX: usize = 4;

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
/// last. `progress` hears of the bytes done and the bytes in all. A file that holds a key file of this program is refused.
///
/// # Errors
/// [`Error::Read`] where a file cannot be read or changed, [`Error::Graph`], and whatever `sink` returns.
pub fn pack<E>(
    found: &[Found],
    sink: &mut dyn FnMut(Block) -> Result<(), E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Packed, Error<E>> {
    pack_on(found, 0, &OwnSecrets::default(), sink, progress)
}

/// As [`pack`], and also refuses a file that holds one of the secrets in `own`, whatever was searched before.
///
/// With `workers`, so many threads read and hash beside the one that calls, which hears of every block and of every step. In
/// which order the files come is not said then; what comes of it is the same.
///
/// # Errors
/// As there.
pub(crate) fn pack_on<E>(
    found: &[Found],
    workers: usize,
    own: &OwnSecrets,
    sink: &mut dyn FnMut(Block) -> Result<(), E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Packed, Error<E>> {
    let total = found.iter().fold(0u64, |sum, found| sum.saturating_add(found.state.size));
    let mut blocks = 0;
    let mut counted = |block| {
        blocks += 1;
        sink(block)
    };
    let (mut done, mut roots) = (0, vec![None; found.len()]);
    progress(done, total);
    let mut told = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let (small, large): (Vec<usize>, Vec<usize>) =
        (0..found.len()).partition(|at| found[*at].state.size <= CHUNK_BYTES as u64);
    each_small(found, &small, (workers, own), &mut |at, block| {
        let (id, size) = (block.id(), block.bytes().len() as u64);
        counted(block).map_err(Error::Sink)?;
        roots[at] = Some((FileRoot { id, size, tsize: size }, id.digest()));
        told(size);
        Ok(())
    })?;
    for at in large {
        roots[at] = Some(pack_large(&found[at], (workers, own), &mut counted, &mut told)?);
    }
    let packed = found.iter().zip(roots).filter_map(|(found, root)| {
        let (root, sha256) = root?;
        Some(PackedFile { path: found.path.clone(), executable: found.executable, root, sha256 })
    });
    // As many as there are, and no more room: they may be many.
    let mut files = Vec::with_capacity(found.len());
    files.extend(packed);
    let tree = unixfs::tree(files.iter().map(|file| (&file.path, file.root)))?;
    for block in tree.blocks {
        counted(block).map_err(Error::Sink)?;
    }
    Ok(Packed { files, root: tree.root, size: total, blocks })
}

/// Hands the one block of each small file to `take`, with the file's place among all.
fn each_small<E>(
    found: &[Found],
    small: &[usize],
    (workers, own): (usize, &OwnSecrets),
    take: &mut dyn FnMut(usize, Block) -> Result<(), Error<E>>,
) -> Result<(), Error<E>> {
    if workers == 0 {
        return small.iter().try_for_each(|at| take(*at, small_block(&found[*at], own)?));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(READY_BLOCKS_MAX);
        for _ in 0..workers.min(small.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(at) = small.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody waits for the rest once something failed.
                    if sender.send((*at, small_block(&found[*at], own))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().try_for_each(|(at, block)| take(at, block?))
    })
}

/// The one block of a file of at most one chunk.
fn small_block(found: &Found, own: &OwnSecrets) -> Result<Block, walk::Error> {
    let changed = || walk::Error::Changed { path: found.path.to_string() };
    let bytes = match &found.held {
        Some(held) if found.is_same() => held.to_vec(),
        Some(_) => return Err(changed()),
        None => {
            let failed = |source| walk::Error::Io { path: found.path.to_string(), source };
            let (file, metadata) = walk::open_with_metadata(&found.source).map_err(failed)?;
            if State::of(&metadata) != found.state {
                return Err(changed());
            }
            walk::read_whole(&file, found.state).map_err(failed)?.ok_or_else(changed)?
        }
    };
    if own::find(&bytes).or_else(|| own.find(&bytes)).is_some() {
        return Err(walk::Error::OwnKey { path: found.path.to_string() });
    }
    Ok(Block::new(Codec::Raw, bytes))
}

/// Cuts a file of several chunks. With workers, one of them reads and hashes the file as a whole while this thread hashes and hands over
/// its chunks.
fn pack_large<E>(
    found: &Found,
    (workers, own): (usize, &OwnSecrets),
    sink: &mut dyn FnMut(Block) -> Result<(), E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(FileRoot, [u8; 32]), Error<E>> {
    let mut builder = FileBuilder::new();
    let mut take = |chunk: Vec<u8>| {
        let bytes = chunk.len() as u64;
        builder.push_chunk(chunk, sink).map_err(Error::Sink)?;
        progress(bytes);
        Ok::<(), Error<E>>(())
    };
    let sha256 = if workers == 0 {
        let mut failed = None;
        let read = read_chunks(found, own, &mut |chunk| match take(chunk) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        read?
    } else {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(READY_CHUNKS_MAX);
            let reader =
                scope.spawn(move || read_chunks(found, own, &mut |chunk| sender.send(chunk).is_ok()));
            receiver.into_iter().try_for_each(&mut take)?;
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, Error<E>>(read?)
        })?
    };
    Ok((builder.finish(sink).map_err(Error::Sink)?, sha256))
}

/// Reads a file chunk by chunk until `take` wants no more, and yields the hash of all of it.
fn read_chunks(
    found: &Found,
    own: &OwnSecrets,
    take: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<[u8; 32], walk::Error> {
    let failed = |source| walk::Error::Io { path: found.path.to_string(), source };
    let changed = || walk::Error::Changed { path: found.path.to_string() };
    let (mut file, metadata) = walk::open_with_metadata(&found.source).map_err(failed)?;
    if State::of(&metadata) != found.state {
        return Err(changed());
    }
    let (mut hash, mut keys, mut left) = (Sha256::new(), Keys { own, last: Vec::new() }, found.state.size);
    while left > 0 {
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
        match file.read_exact(&mut chunk) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            Err(error) => return Err(failed(error)),
        }
        left -= chunk.len() as u64;
        if keys.stand_in(&chunk) {
            return Err(walk::Error::OwnKey { path: found.path.to_string() });
        }
        hash.update(&chunk);
        if !take(chunk) {
            break;
        }
    }
    // One that grew is no longer what it was, too.
    if State::of(&file.metadata().map_err(failed)?) != found.state {
        return Err(changed());
    }
    Ok(hash.finalize().into())
}

/// Looks for key files of this program in bytes that come piece by piece: whatever checks were skipped, none is packed.
struct Keys<'a> {
    own: &'a OwnSecrets,
    /// The last bytes that came, of which a key may go on in those that come next.
    last: Vec<u8>,
}

impl Keys<'_> {
    fn stand_in(&mut self, bytes: &[u8]) -> bool {
        self.last.extend(&bytes[..bytes.len().min(own::SPAN)]);
        let is_in = |bytes: &[u8]| own::find(bytes).or_else(|| self.own.find(bytes)).is_some();
        let found = is_in(&self.last) || is_in(bytes);
        if bytes.len() >= own::SPAN {
            self.last.clear();
            self.last.extend(&bytes[bytes.len() - own::SPAN..]);
        } else {
            self.last.drain(..self.last.len().saturating_sub(own::SPAN));
        }
        found
    }
}

/// Why packing failed; `E` is the error of what takes the blocks.
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

    /// What to do next; empty where only what takes the blocks can say.
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
    fn what_is_packed_on_several_threads_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        for (at, size) in
            [0, 1, 500, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES, 300_000].into_iter().enumerate()
        {
            fs::write(directory.path().join(format!("file-{at}")), vec![at as u8; size]).unwrap();
        }
        for at in 0..100 {
            fs::write(directory.path().join(format!("small-{at}")), format!("file {at}")).unwrap();
        }
        let found = walk(directory.path()).unwrap();
        let packed = |workers| {
            let (mut blocks, mut last) = (Vec::new(), 0);
            let mut sink = |block: Block| {
                blocks.push(block.id());
                Ok::<_, Infallible>(())
            };
            let packed =
                pack_on(&found, workers, &OwnSecrets::default(), &mut sink, &mut |done, _| last = done)
                    .unwrap();
            assert_eq!((last, blocks.last()), (packed.size, Some(&packed.root)), "the root comes last");
            blocks.sort();
            (packed, blocks)
        };
        let alone = packed(0);
        assert_eq!([packed(1), packed(4)], [alone.clone(), alone]);
        // A sink that takes no more ends all of it.
        let mut taken = 0;
        let mut full = |_| {
            taken += 1;
            if taken > 20 { Err("full") } else { Ok(()) }
        };
        assert!(matches!(
            pack_on(&found, 3, &OwnSecrets::default(), &mut full, &mut |_, _| ()),
            Err(Error::Sink("full"))
        ));
    }

    #[test]
    fn what_changes_is_noticed_on_every_thread() {
        for (size, workers) in [(10, 0), (10, 2), (500_000, 2), (3 * CHUNK_BYTES, 0), (3 * CHUNK_BYTES, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            fs::write(&path, vec![1; size]).unwrap();
            let found = walk(directory.path()).unwrap();
            // File times are only as fine as the kernel's tick.
            std::thread::sleep(std::time::Duration::from_millis(20));
            fs::write(&path, vec![2; size]).unwrap();
            let result = pack_on(
                &found,
                workers,
                &OwnSecrets::default(),
                &mut |_| Ok::<_, Infallible>(()),
                &mut |_, _| (),
            );
            assert!(
                matches!(result, Err(Error::Read(walk::Error::Changed { .. }))),
                "{size} {workers} {result:?}"
            );
        }
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
        assert!(matches!(pack_all(&found), Err(Error::Read(walk::Error::Changed { .. }))));
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
