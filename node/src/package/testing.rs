//! Packages in memory, for the tests of this module.

use std::{collections::HashMap, convert::Infallible, fs};

use super::{
    Gpack, Manifest, gpack,
    manifest::Preflight,
    pack::{Packed, pack},
    walk::walk,
};
use crate::{
    content::{Block, ContentId},
    identity::Publisher,
    time::Timestamp,
};

pub(super) type Blocks = HashMap<ContentId, Vec<u8>>;

pub(super) fn publisher(seed: u8) -> Publisher {
    Publisher::from_secret([seed; 32], Timestamp::from_secs(1_700_000_000))
}

pub(super) fn description() -> Gpack {
    gpack::parse(gpack::FILE_NAME.as_ref(), gpack::MINIMAL.as_bytes(), None).unwrap().gpack
}

/// Packs files that are first written to a folder; a path that ends in `.sh` may be executed.
pub(super) fn packed(files: &[(&str, &[u8])]) -> (Packed, Blocks) {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        let mode = if path.ends_with(".sh") { 0o755 } else { 0o644 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut blocks = Blocks::new();
    let mut sink = |block: Block| {
        blocks.insert(block.id(), block.into_bytes());
        Ok::<_, Infallible>(())
    };
    let packed = pack(&walk(folder.path()).unwrap(), &mut sink, &mut |_, _| ()).unwrap();
    (packed, blocks)
}

pub(super) fn package(files: &[(&str, &[u8])]) -> (Manifest, Blocks) {
    let (packed, blocks) = packed(files);
    let manifest = Manifest::new(publisher(1).id(), description(), Preflight::Passed, packed).unwrap();
    (manifest, blocks)
}
