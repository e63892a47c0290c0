//! Files: a balanced tree of nodes over chunks.

use super::{
    Error,
    encoding::{self, Link, Reader, link_len},
};
use crate::{
    content::{Block, Codec, ContentId},
    limits::{BLOCK_BYTES_MAX, CHUNK_BYTES, LINKS_MAX},
};

const CHUNK: u64 = CHUNK_BYTES as u64;
const LINKS: u64 = LINKS_MAX as u64;

/// The finished graph of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoot {
    /// The id of the whole file: a raw block for at most one chunk, a node else.
    pub id: ContentId,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of all blocks of the graph, each counted as often as it is linked.
    pub tsize: u64,
}

/// A finished part of a file that is being built.
#[derive(Debug, Clone, Copy)]
struct Part {
    id: ContentId,
    size: u64,
    tsize: u64,
}

/// Cuts a file into chunks and joins them into nodes, while the bytes come in.
///
/// Blocks leave as soon as they are complete, children before their parents; what is kept is one chunk and the links of
/// the nodes that are not full.
#[derive(Debug, Default)]
pub struct FileBuilder {
    chunk: Vec<u8>,
    /// Parts without a parent, leaves first.
    levels: Vec<Vec<Part>>,
    size: u64,
}

impl FileBuilder {
    /// Starts an empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next `bytes` of the file.
    ///
    /// # Errors
    /// Whatever `sink` returns.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(Block) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            // A full chunk is cut only when more follows, so that a file of one chunk stays a single block.
            if self.chunk.len() == CHUNK_BYTES {
                self.cut(sink)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            self.size = self.size.saturating_add(now.len() as u64);
            bytes = later;
        }
        Ok(())
    }

    /// As [`FileBuilder::push`], without a copy where `bytes` are one whole chunk and all before them were.
    ///
    /// # Errors
    /// Whatever `sink` returns.
    pub fn push_chunk<E>(
        &mut self,
        bytes: Vec<u8>,
        sink: &mut dyn FnMut(Block) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.chunk.len() == CHUNK_BYTES {
            self.cut(sink)?;
        }
        if !self.chunk.is_empty() || bytes.len() > CHUNK_BYTES {
            return self.push(&bytes, sink);
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.chunk = bytes;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Whatever `sink` returns.
    pub fn finish<E>(mut self, sink: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<FileRoot, E> {
        self.cut(sink)?;
        let mut level = 0;
        loop {
            if let (true, [root]) = (level + 1 == self.levels.len(), self.levels[level].as_slice()) {
                return Ok(FileRoot { id: root.id, size: root.size, tsize: root.tsize });
            }
            self.join(level, sink)?;
            level += 1;
        }
    }

    fn cut<E>(&mut self, sink: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<(), E> {
        let block = Block::new(Codec::Raw, std::mem::take(&mut self.chunk));
        let size = block.bytes().len() as u64;
        let leaf = Part { id: block.id(), size, tsize: size };
        sink(block)?;
        self.add(0, leaf, sink)
    }

    /// Puts a part under the level's open node; where that is full, closes it first.
    fn add<E>(
        &mut self,
        mut level: usize,
        mut part: Part,
        sink: &mut dyn FnMut(Block) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            if self.levels[level].len() < LINKS_MAX {
                self.levels[level].push(part);
                return Ok(());
            }
            let full = std::mem::replace(&mut self.levels[level], vec![part]);
            part = join(&full, sink)?;
            level += 1;
        }
    }

    /// Closes the open node of a level and puts it into the level above.
    fn join<E>(&mut self, level: usize, sink: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<(), E> {
        let parts = std::mem::take(&mut self.levels[level]);
        if parts.is_empty() {
            return Ok(());
        }
        let node = join(&parts, sink)?;
        self.add(level + 1, node, sink)
    }
}

fn join<E>(parts: &[Part], sink: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<Part, E> {
    let links: Vec<Link> =
        parts.iter().map(|part| Link { name: String::new(), id: part.id, tsize: part.tsize }).collect();
    let sizes: Vec<u64> = parts.iter().map(|part| part.size).collect();
    let block = Block::new(Codec::DagPb, encoding::node(&links, &encoding::file_data(&sizes)));
    let node = Part {
        id: block.id(),
        size: sizes.iter().sum(),
        tsize: parts.iter().map(|part| part.tsize).sum::<u64>() + block.bytes().len() as u64,
    };
    sink(block)?;
    Ok(node)
}

/// The cumulative size of a file of `size` bytes: it follows from the layout alone.
pub fn file_tsize(size: u64) -> u64 {
    part_tsize(size, levels(size))
}

/// Levels of nodes above the leaves of a file of `size` bytes; zero where the file is a single block.
fn levels(size: u64) -> u32 {
    (0..).find(|level| size <= capacity(*level)).unwrap_or(u32::MAX)
}

/// Bytes of a full part that stands `level` levels above the leaves.
fn capacity(level: u32) -> u64 {
    LINKS.checked_pow(level).and_then(|leaves| leaves.checked_mul(CHUNK)).unwrap_or(u64::MAX)
}

/// The cumulative size of a part of `size` bytes that stands `level` levels above the leaves.
fn part_tsize(size: u64, level: u32) -> u64 {
    // From the leaves up: the size of a full part, and that of the last part of this file, on each level.
    let (mut full, mut last) = (CHUNK, last_part(size, 0));
    for level in 1..=level {
        let below = capacity(level - 1);
        let end = last_part(size, level);
        // Children of the last part: full ones, and the last one of the level below where it is not full.
        let rest = end % below;
        let rest_tsize = if rest > 0 { last } else { 0 };
        last = node_tsize(end / below, below, full, rest, rest_tsize);
        full = node_tsize(LINKS, below, full, 0, 0);
    }
    last
}

/// Bytes of the last part of a level: the remainder, or a full part where there is none.
fn last_part(size: u64, level: u32) -> u64 {
    match size % capacity(level) {
        0 if size > 0 => capacity(level),
        rest => rest,
    }
}

/// The cumulative size of a node over `count` equal parts and, where it is not empty, a shorter one.
fn node_tsize(count: u64, size: u64, tsize: u64, rest: u64, rest_tsize: u64) -> u64 {
    let rest_link = if rest > 0 { link_len(0, rest_tsize) } else { 0 };
    let links = (count as usize).saturating_mul(link_len(0, tsize)).saturating_add(rest_link);
    let block = links + encoding::data_len(encoding::file_data_len(count, size, rest));
    count.saturating_mul(tsize).saturating_add(rest_tsize).saturating_add(block as u64)
}

/// A place in the graph of a file: which block stands there, and which bytes it stands for.
///
/// Walk a file from [`FilePart::whole`] down through [`FilePart::children`]; the depth is fixed by the size, so that no peer
/// can make the walk longer than the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    /// The block that stands here.
    pub id: ContentId,
    /// Bytes of the file that it stands for.
    pub size: u64,
    /// Levels of nodes from here down to the leaves.
    level: u32,
}

impl FilePart {
    /// The root of a file of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the id is of another kind than a file of that size has.
    pub fn whole(id: ContentId, size: u64) -> Result<Self, Error> {
        let part = Self { id, size, level: levels(size) };
        if id.codec() == part.codec() {
            Ok(part)
        } else {
            Err(malformed("the id is not of a file of that size"))
        }
    }

    /// The root of a file whose size is not known, from the bytes of the block that `id` names.
    ///
    /// # Errors
    /// [`Error::Content`] for other bytes, [`Error::Malformed`] where they are no file, and [`Error::Size`] where the file has
    /// more than `size_max` bytes.
    pub fn from_root(id: ContentId, bytes: &[u8], size_max: u64) -> Result<Self, Error> {
        if !id.names(bytes) {
            return Err(crate::content::Error::Mismatch { id }.into());
        }
        let size = if id.codec() == Codec::Raw { bytes.len() as u64 } else { read(bytes)?.size };
        if size > size_max {
            return Err(Error::Size { expected: size_max, found: size });
        }
        Self::whole(id, size)
    }

    /// Whether the block holds the bytes themselves.
    pub fn is_leaf(&self) -> bool {
        self.level == 0
    }

    fn codec(&self) -> Codec {
        if self.is_leaf() { Codec::Raw } else { Codec::DagPb }
    }

    /// The bytes of the leaf that stands here, from its block: as many as promised. The block was hashed where it came from.
    ///
    /// # Errors
    /// [`Error::Size`] for more or fewer bytes, [`Error::Content`] for another block.
    pub fn leaf<'a>(&self, block: &'a Block) -> Result<&'a [u8], Error> {
        if !self.is_leaf() {
            return Err(malformed("a node stands where a leaf is expected"));
        }
        if block.bytes().len() as u64 != self.size {
            return Err(Error::Size { expected: self.size, found: block.bytes().len() as u64 });
        }
        if block.id() != self.id {
            return Err(crate::content::Error::Mismatch { id: self.id }.into());
        }
        Ok(block.bytes())
    }

    /// Reads the parts of the node that stands here, in the order of the file.
    ///
    /// # Errors
    /// [`Error::Content`] for bytes of another block; [`Error::Size`] and [`Error::Malformed`] where the node is not the one
    /// that a file of this size has here.
    pub fn children(&self, bytes: &[u8]) -> Result<Vec<Self>, Error> {
        if self.is_leaf() {
            return Err(malformed("a leaf has no parts"));
        }
        let node = read(bytes)?;
        if !self.id.names(bytes) {
            return Err(crate::content::Error::Mismatch { id: self.id }.into());
        }
        if node.size != self.size {
            return Err(Error::Size { expected: self.size, found: node.size });
        }
        let (level, unit) = (self.level - 1, capacity(self.level - 1));
        let count = node.parts.len() as u64;
        if count != self.size.div_ceil(unit) {
            return Err(malformed("a node has too few or too many parts for its size"));
        }
        let mut rest = self.size;
        let mut children = Vec::with_capacity(node.parts.len());
        for (id, size, tsize) in node.parts {
            let child = Self { id, size, level };
            if size != rest.min(unit) || tsize != part_tsize(size, level) || id.codec() != child.codec() {
                return Err(malformed("a part is not the one that the layout has at its place"));
            }
            rest -= size;
            children.push(child);
        }
        Ok(children)
    }
}

/// A node over parts of the given ids, sizes and cumulative sizes, whatever they are.
#[cfg(test)]
pub(crate) fn any_file_node(parts: &[(ContentId, u64, u64)]) -> Block {
    let link = |(id, _, tsize): &(ContentId, u64, u64)| Link { name: String::new(), id: *id, tsize: *tsize };
    let links: Vec<Link> = parts.iter().map(link).collect();
    let sizes: Vec<u64> = parts.iter().map(|(_, size, _)| *size).collect();
    Block::new(Codec::DagPb, encoding::node(&links, &encoding::file_data(&sizes)))
}

/// Reads any file node, wherever it stands: the ids of its parts and the bytes that each stands for.
///
/// Prefer [`FilePart::children`], which also knows what must stand at the place.
///
/// # Errors
/// [`Error::Malformed`] for anything but a canonical file node within the limits.
pub fn parse_file_node(bytes: &[u8]) -> Result<Vec<(ContentId, u64)>, Error> {
    Ok(read(bytes)?.parts.into_iter().map(|(id, size, _)| (id, size)).collect())
}

/// Reads a file of at most `size_max` bytes into memory, taking its blocks from `source`.
///
/// # Errors
/// [`ReadError::Source`] where a block cannot be had, [`ReadError::Graph`] where one is not what it must be.
pub fn read_file<E>(
    id: ContentId,
    size_max: u64,
    source: &dyn Fn(&ContentId) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, ReadError<E>> {
    let root = source(&id).map_err(ReadError::Source)?;
    let whole = FilePart::from_root(id, &root, size_max)?;
    let mut bytes = Vec::with_capacity(usize::try_from(whole.size).unwrap_or_default());
    let mut open = vec![whole];
    let mut first = Some(root);
    while let Some(part) = open.pop() {
        let block = match first.take() {
            Some(root) => root,
            None => source(&part.id).map_err(ReadError::Source)?,
        };
        if part.is_leaf() {
            bytes.extend_from_slice(part.leaf(&Block::verified(part.id, block).map_err(Error::from)?)?);
        } else {
            open.extend(part.children(&block)?.into_iter().rev());
        }
    }
    Ok(bytes)
}

/// Why a file could not be read; `E` is the error of what gives the blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// A block is not what it must be.
    #[error(transparent)]
    Graph(#[from] Error),
    /// A block could not be had.
    #[error("a block could not be read: {0}")]
    Source(E),
}

struct Node {
    size: u64,
    /// Id, size and cumulative size.
    parts: Vec<(ContentId, u64, u64)>,
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { why }
}

fn read(bytes: &[u8]) -> Result<Node, Error> {
    if bytes.len() > BLOCK_BYTES_MAX {
        return Err(malformed("it is larger than a block may be"));
    }
    let mut reader = Reader::new(bytes);
    let mut links = Vec::new();
    while let Some(link) = reader.file_link().map_err(|()| malformed("a link is malformed"))? {
        if links.len() == LINKS_MAX {
            return Err(malformed("it has more than 1024 links"));
        }
        links.push(link);
    }
    let (size, sizes) = reader.file_data(LINKS_MAX).ok_or(malformed("its data is malformed"))?;
    if !reader.is_empty() {
        return Err(malformed("something follows its data"));
    }
    if links.is_empty() || links.len() != sizes.len() {
        return Err(malformed("links and sizes do not match"));
    }
    if sizes.contains(&0) || sizes.iter().try_fold(0u64, |sum, part| sum.checked_add(*part)) != Some(size) {
        return Err(malformed("the sizes of its parts are not its size"));
    }
    if links.iter().zip(&sizes).any(|((id, tsize), size)| match id.codec() {
        Codec::Raw => *size > CHUNK || tsize != size,
        Codec::DagPb => tsize < size,
        Codec::DagCbor => true,
    }) {
        return Err(malformed("a part cannot have its size"));
    }
    let parts = links.into_iter().zip(sizes).map(|((id, tsize), size)| (id, size, tsize)).collect();
    Ok(Node { size, parts })
}
