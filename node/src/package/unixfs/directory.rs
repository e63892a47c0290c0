//! Directories, from the files up to the root of a package.

use super::{
    Error, FileRoot,
    encoding::{self, Link, data_len, link_len},
    hamt,
};
use crate::{
    content::{Block, Codec, ContentId},
    limits::DIRECTORY_BYTES_MAX,
    package::PackagePath,
};

/// The directories of a package.
#[derive(Debug)]
pub struct Tree {
    /// The content id of the package.
    pub root: ContentId,
    /// The blocks of all directories, children before their parents; the root is the last.
    pub blocks: Vec<Block>,
}

/// A directory whose children are still being collected.
struct Open<'a> {
    name: &'a str,
    links: Vec<Link>,
}

/// Builds the directories over `files`, which must be sorted by path, as [`check_list`](super::super::path::check_list) has it.
///
/// # Errors
/// [`Error::HashCollision`] for names made to break the sharding of large directories.
pub fn tree<'a>(files: impl IntoIterator<Item = (&'a PackagePath, FileRoot)>) -> Result<Tree, Error> {
    let mut blocks = Vec::new();
    let root = build(files, &mut |block| blocks.push(block))?;
    Ok(Tree { root, blocks })
}

/// The content id of the tree that [`tree`] would build, without keeping its blocks.
///
/// # Errors
/// As [`tree`].
pub fn tree_root<'a>(
    files: impl IntoIterator<Item = (&'a PackagePath, FileRoot)>,
) -> Result<ContentId, Error> {
    build(files, &mut drop)
}

/// Hands the blocks to `sink`, children before their parents, and yields the id of the last.
fn build<'a>(
    files: impl IntoIterator<Item = (&'a PackagePath, FileRoot)>,
    sink: &mut dyn FnMut(Block),
) -> Result<ContentId, Error> {
    let mut open = vec![Open { name: "", links: Vec::new() }];
    for (path, file) in files {
        let directories = || path.components().rev().skip(1).collect::<Vec<_>>().into_iter().rev();
        let shared =
            open[1..].iter().zip(directories()).take_while(|(open, name)| open.name == *name).count();
        close_down_to(shared, &mut open, sink)?;
        open.extend(directories().skip(shared).map(|name| Open { name, links: Vec::new() }));
        let link = Link { name: path.file_name().to_owned(), id: file.id, tsize: file.tsize };
        open.last_mut().expect("the root stays open").links.push(link);
    }
    close_down_to(0, &mut open, sink)?;
    let root = open.pop().expect("the root stays open");
    Ok(close(root, sink)?.id)
}

/// Closes all open directories that are deeper than `depth`.
fn close_down_to(depth: usize, open: &mut Vec<Open<'_>>, sink: &mut dyn FnMut(Block)) -> Result<(), Error> {
    while open.len() > depth + 1 {
        let directory = open.pop().expect("checked by the loop");
        let link = close(directory, sink)?;
        open.last_mut().expect("the root stays open").links.push(link);
    }
    Ok(())
}

/// Turns a complete directory into its blocks and the link to it.
fn close(mut directory: Open<'_>, sink: &mut dyn FnMut(Block)) -> Result<Link, Error> {
    let name = directory.name.to_owned();
    let data = encoding::directory_data();
    let links: usize = directory.links.iter().map(|link| link_len(link.name.len(), link.tsize)).sum();
    if links + data_len(data.len()) > DIRECTORY_BYTES_MAX {
        return Ok(Link { name, ..hamt::shards(directory.links, sink)? });
    }
    directory.links.sort_by(|left, right| left.name.cmp(&right.name));
    let block = Block::new(Codec::DagPb, encoding::node(&directory.links, &data));
    let tsize =
        directory.links.iter().fold(block.bytes().len() as u64, |sum, link| sum.saturating_add(link.tsize));
    let link = Link { name, id: block.id(), tsize };
    sink(block);
    Ok(link)
}
