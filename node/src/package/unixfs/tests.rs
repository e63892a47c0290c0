//! Golden ids, made by `tests/js/unixfs-root.js` with another implementation, and properties of the layout.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use proptest::prelude::*;

use super::*;
use crate::{
    content::{Block, Codec, ContentId},
    limits::{BLOCK_BYTES_MAX, CHUNK_BYTES, LINKS_MAX},
    package::PackagePath,
};

const MIB: usize = 1 << 20;

type Blocks = HashMap<ContentId, Vec<u8>>;

fn build(bytes: &[u8], pieces: usize) -> (FileRoot, Blocks) {
    let mut blocks = Blocks::new();
    let mut sink = |block: Block| {
        blocks.insert(block.id(), block.into_bytes());
        Ok::<_, Infallible>(())
    };
    let mut builder = FileBuilder::new();
    for piece in bytes.chunks(pieces) {
        builder.push(piece, &mut sink).unwrap();
    }
    let root = builder.finish(&mut sink).unwrap();
    (root, blocks)
}

fn file(bytes: &[u8]) -> FileRoot {
    build(bytes, MIB).0
}

/// Bytes 0, 1, … 250, 0, 1, …
fn pattern(len: usize) -> Vec<u8> {
    (0..251u8).cycle().take(len).collect()
}

fn root_of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> String {
    let files: BTreeMap<PackagePath, FileRoot> =
        files.into_iter().map(|(path, bytes)| (path.parse().unwrap(), file(&bytes))).collect();
    let tree = tree(files.iter().map(|(path, file)| (path, *file))).unwrap();
    assert_eq!(tree.blocks.last().unwrap().id(), tree.root);
    assert_eq!(tree_root(files.iter().map(|(path, file)| (path, *file))).unwrap(), tree.root);
    assert!(tree.blocks.iter().all(|block| block.bytes().len() <= BLOCK_BYTES_MAX));
    tree.root.to_string()
}

fn root_of_few(files: &[(&str, &[u8])]) -> String {
    root_of(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())))
}

/// Reads a file back from its root.
fn read_back(root: &FileRoot, blocks: &Blocks) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut open = vec![FilePart::whole(root.id, root.size).unwrap()];
    while let Some(part) = open.pop() {
        let block = blocks[&part.id].clone();
        if part.is_leaf() {
            bytes.extend(part.leaf(&Block::verified(part.id, block).unwrap()).unwrap());
        } else {
            open.extend(part.children(&block).unwrap().into_iter().rev());
        }
    }
    bytes
}

#[test]
fn small_trees_have_the_ids_that_other_implementations_give_them() {
    assert_eq!(
        root_of_few(&[("a.txt", b"hello\n")]),
        "bafybeihm2fwylxiush5wrtgc2kxhfwffodhjhfdickb6qc6zufwiu6uwty"
    );
    assert_eq!(root_of_few(&[("empty", b"")]), "bafybeigalvxqcgqiogiv6bimmxedgxbhu7cikwhwha2c2iqzdbnabewjai");
    assert_eq!(
        root_of_few(&[
            ("README.md", b"# nested\n"),
            ("src/lib.rs", b"fn main() {}\n"),
            ("src/deep/er/x.txt", b"x"),
            ("src-a", b"beside"),
            ("a/b", b"1"),
            ("a-b", b"2"),
        ]),
        "bafybeib64rwamajbykdsmr3ohdjp3nxi2chwozxkghatbmmni6v5idp3im"
    );
    assert_eq!(
        root_of_few(&[
            ("päckchen/日本語.txt", "ü".as_bytes()),
            ("a b/c d.txt", b"spaces"),
            ("😀", b"emoji"),
            ("Ünder/x", b""),
        ]),
        "bafybeifnd2t5ffbagncaz5wv4viycwlktt75e4ugsn7t4m75lexa3xsbyq"
    );
}

#[test]
fn an_empty_package_is_the_empty_directory() {
    assert_eq!(root_of_few(&[]), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
}

#[test]
fn files_around_the_size_of_a_chunk_have_the_ids_of_other_implementations() {
    for (len, golden) in [
        (MIB, "bafybeigtafswwaidygmmwwlqzohwggxyp6ztawaddlmtchgk3mgbcnhbp4"),
        (MIB + 1, "bafybeihuwj5edhlexh3r6aqvqibiik2na35e5szhnluev2y4cv3ff5hyje"),
        (5 * MIB + 3, "bafybeiheuydlnyos7c4z3djqcrxzkhivex5f22ne543zguu2hzg56xh7dm"),
    ] {
        assert_eq!(root_of([("f".to_owned(), pattern(len))]), golden, "{len} bytes");
    }
}

#[test]
fn large_directories_are_sharded_as_by_other_implementations() {
    let many = (0..6000).map(|n| (format!("file-{n:05}.txt"), format!("{n}\n").into_bytes()));
    assert_eq!(root_of(many), "bafybeic33aabhtls2h5cpnf4ibvxtvt6jhfrgl3faeuimlxl6kffm5lquy");
    let deep = (0..3000usize)
        .map(|n| (format!("a/big/{}-{n:04}", "n".repeat(60)), b"z".repeat(n % 7)))
        .chain([("a/small".to_owned(), b"s".to_vec()), ("README".to_owned(), b"r".to_vec())]);
    assert_eq!(root_of(deep), "bafybeihchboafmly2x6mmt4wgoo2ys7j47qv7zhkehxclyl573nhu4l5ue");
}

#[test]
fn a_directory_is_sharded_from_the_first_byte_over_the_limit() {
    let directory = |last: usize| {
        (0..2113).map(|n| format!("{n:080}")).chain(["y".repeat(last)]).map(|name| (name, b"x".to_vec()))
    };
    assert_eq!(root_of(directory(84)), "bafybeidk3qx74o74rudgxefa4tb2roawepav7sqkq2nuw7csvbxnn4v3zq");
    assert_eq!(root_of(directory(85)), "bafybeiabho2prxempl5ah5rafecfavhb3h5cfco6ftttdde5toyspzagmm");
}

/// Over 1024 chunks: a tree of two levels, the last node of which has a single link.
#[test]
fn a_file_of_two_levels_has_the_id_of_other_implementations() {
    let zeros = vec![0; MIB];
    let mut nodes = Vec::new();
    let mut sink = |block: Block| {
        if block.id().codec() == Codec::DagPb {
            nodes.push(block);
        }
        Ok::<_, Infallible>(())
    };
    let mut builder = FileBuilder::new();
    for _ in 0..=LINKS_MAX {
        builder.push(&zeros, &mut sink).unwrap();
    }
    builder.push(&zeros[..5], &mut sink).unwrap();
    let root = builder.finish(&mut sink).unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(root.tsize, file_tsize(root.size));
    let path: PackagePath = "zeros".parse().unwrap();
    let tree = tree([(&path, root)]).unwrap();
    assert_eq!(tree.root.to_string(), "bafybeiecup2jgrgkyk7n7ylp5aehut3ae52r7fp33hprganzrnt4ew5mwu");

    let whole = FilePart::whole(root.id, root.size).unwrap();
    let parts = whole.children(nodes[2].bytes()).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[1].children(nodes[1].bytes()).unwrap().len(), 2);
    assert!(parts[0].children(nodes[1].bytes()).is_err(), "another node at its place");
}

#[test]
fn the_depth_of_a_file_is_fixed_by_its_size() {
    // A node with one link to itself cannot exist, but a chain of single links can; it is cut off at the first.
    let (root, blocks) = build(&pattern(MIB + 1), MIB);
    assert!(FilePart::whole(root.id, 1).is_err(), "a small file is a raw block");
    assert!(FilePart::whole(ContentId::of(Codec::Raw, b"x"), MIB as u64 + 1).is_err());
    let larger = FilePart::whole(root.id, MIB as u64 + 2).unwrap();
    assert!(matches!(larger.children(&blocks[&root.id]), Err(Error::Size { .. })));
}

#[test]
fn every_part_must_be_the_one_of_its_place() {
    let id = ContentId::of(Codec::DagPb, b"x");
    let (full, last) = ((MIB * LINKS_MAX) as u64, 5);
    let children = |id: ContentId, sizes: [u64; 2], tsizes: [u64; 2]| {
        let links = tsizes.map(|tsize| encoding::Link { name: String::new(), id, tsize });
        let bytes = encoding::node(&links, &encoding::file_data(&sizes));
        FilePart::whole(ContentId::of(Codec::DagPb, &bytes), full + last).unwrap().children(&bytes)
    };
    // The last part is a node over a single leaf: its block is larger than the leaf.
    let of_last = last
        + encoding::node(
            &[encoding::Link { name: String::new(), id, tsize: last }],
            &encoding::file_data(&[last]),
        )
        .len() as u64;
    let right = [file_tsize(full), of_last];
    assert!(children(id, [full, last], right).is_ok());
    assert!(children(id, [full, last], [right[0] + 1, right[1]]).is_err(), "another cumulative size");
    assert!(children(id, [full, last], [right[0], right[1] - 1]).is_err(), "another cumulative size");
    assert!(children(id, [full - 1, last + 1], right).is_err(), "a part that is not full before the last");
    assert!(
        children(ContentId::of(Codec::Raw, b"x"), [full, last], right).is_err(),
        "leaves in the place of nodes"
    );
}

#[test]
fn a_leaf_of_another_size_or_with_other_bytes_is_refused() {
    let root = file(b"hello");
    let part = FilePart::whole(root.id, 5).unwrap();
    let leaf = |bytes: &[u8]| Block::new(Codec::Raw, bytes.to_vec());
    assert!(matches!(part.leaf(&leaf(b"hell")), Err(Error::Size { .. })));
    assert!(matches!(part.leaf(&leaf(b"hello!")), Err(Error::Size { .. })));
    assert!(matches!(part.leaf(&leaf(b"hellO")), Err(Error::Content(_))));
}

#[test]
fn hostile_nodes_are_refused() {
    let (root, blocks) = build(&pattern(2 * MIB + 1), MIB);
    let good = blocks[&root.id].clone();
    assert_eq!(parse_file_node(&good).unwrap().iter().map(|(_, size)| size).sum::<u64>(), root.size);
    for end in 0..good.len() {
        assert!(parse_file_node(&good[..end]).is_err(), "cut off at {end}");
    }
    assert!(parse_file_node(&[good.clone(), vec![0]].concat()).is_err(), "something follows");
    assert!(parse_file_node(&vec![0; BLOCK_BYTES_MAX + 1]).is_err());
    let id = ContentId::of(Codec::Raw, b"x");
    let node = |count: usize, tsize: u64, sizes: &[u64]| {
        let link = encoding::Link { name: String::new(), id, tsize };
        encoding::node(&vec![link; count], &encoding::file_data(sizes))
    };
    assert!(parse_file_node(&node(1, 1, &[1])).is_ok());
    assert!(parse_file_node(&node(LINKS_MAX + 1, 1, &vec![1; LINKS_MAX + 1])).is_err(), "too many links");
    assert!(parse_file_node(&node(1, 1, &vec![1; LINKS_MAX + 1])).is_err(), "too many sizes");
    assert!(parse_file_node(&node(2, 1, &[1])).is_err(), "sizes are missing");
    assert!(parse_file_node(&node(0, 0, &[])).is_err(), "no parts");
    assert!(parse_file_node(&node(1, 0, &[0])).is_err(), "an empty part");
    assert!(parse_file_node(&node(1, 2, &[1])).is_err(), "a leaf is as large as it is");
    assert!(parse_file_node(&node(2, u64::MAX, &[u64::MAX, u64::MAX])).is_err(), "an overflow");
    let named = encoding::Link { name: "a".to_owned(), id, tsize: 1 };
    assert!(parse_file_node(&encoding::node(&[named], &encoding::file_data(&[1]))).is_err(), "a name");
    assert!(parse_file_node(&encoding::node(&[], &encoding::directory_data())).is_err(), "a directory");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_file_is_the_same_in_whatever_pieces_it_comes(
        len in prop_oneof![0..100usize, CHUNK_BYTES - 2..CHUNK_BYTES + 3, 2 * CHUNK_BYTES - 1..2 * CHUNK_BYTES + 2, 0..4 * CHUNK_BYTES],
        pieces in 1000..3 * CHUNK_BYTES,
    ) {
        let bytes = pattern(len);
        let (root, blocks) = build(&bytes, pieces);
        prop_assert_eq!(root, file(&bytes));
        prop_assert_eq!(root.size, len as u64);
        prop_assert_eq!(root.tsize, file_tsize(root.size));
        prop_assert!(blocks.values().all(|block| block.len() <= BLOCK_BYTES_MAX));
        prop_assert_eq!(read_back(&root, &blocks), bytes);
    }

    #[test]
    fn random_bytes_are_no_node_and_no_panic(bytes: Vec<u8>) {
        prop_assert!(parse_file_node(&bytes).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_node_is_noticed(bit in 0usize..800) {
        let (root, blocks) = build(&pattern(2 * MIB), MIB);
        let mut bytes = blocks[&root.id].clone();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FilePart::whole(root.id, root.size).unwrap().children(&bytes).is_err());
    }

    #[test]
    fn the_same_tree_has_the_same_root_and_another_has_another(
        files in prop::collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}){0,3}", prop::collection::vec(any::<u8>(), 0..3), 1..20),
    ) {
        let files: BTreeMap<PackagePath, FileRoot> = files
            .into_iter()
            .map(|(path, bytes)| (path.parse().unwrap(), file(&bytes)))
            .collect();
        prop_assume!(crate::package::path::check_list(files.keys()).is_ok());
        let root = |files: &BTreeMap<PackagePath, FileRoot>| {
            tree(files.iter().map(|(path, file)| (path, *file))).unwrap().root
        };
        prop_assert_eq!(root(&files), root(&files));
        let mut other = files.clone();
        let first = other.values_mut().next().unwrap();
        *first = file(b"something else");
        prop_assert_ne!(root(&files), root(&other));
    }

    #[test]
    fn cumulative_sizes_follow_from_the_size_at_every_depth(size in 0u64..1 << 45) {
        // Against the recursive definition: a part is as large as its block and all below it.
        fn slow(size: u64, level: u32) -> u64 {
            if level == 0 {
                return size;
            }
            let unit = CHUNK_BYTES as u64 * (LINKS_MAX as u64).pow(level - 1);
            let sizes: Vec<u64> = (0..size.div_ceil(unit)).map(|n| unit.min(size - n * unit)).collect();
            let (last, others) = sizes.split_last().unwrap();
            let full = if others.is_empty() { 0 } else { slow(unit, level - 1) };
            let tsizes: Vec<u64> = others.iter().map(|_| full).chain([slow(*last, level - 1)]).collect();
            let links: usize = tsizes.iter().map(|tsize| encoding::link_len(0, *tsize)).sum();
            let block = links + encoding::data_len(encoding::file_data(&sizes).len());
            block as u64 + tsizes.iter().sum::<u64>()
        }
        let mut level = 0;
        while size > CHUNK_BYTES as u64 * (LINKS_MAX as u64).pow(level) {
            level += 1;
        }
        prop_assert_eq!(file_tsize(size), slow(size, level));
    }
}
