use serde_ipld_dagcbor::to_vec;

use super::*;
use crate::{
    content::Codec,
    identity::{Context, Envelope, Publisher, SecretKey},
    limits::DIRECTORIES_MAX,
    package::{
        pack::PackedFile,
        testing::{self, description, packed, publisher},
        unixfs::read_file,
    },
    time::Timestamp,
};

const FILES: &[(&str, &[u8])] =
    &[("README.md", b"hi"), ("bin/run.sh", b"#!/bin/sh\n"), ("empty", b""), ("src/lib.rs", b"fn f() {}")];

fn manifest() -> Manifest {
    testing::package(FILES).0
}

impl From<&Manifest> for Wire {
    fn from(manifest: &Manifest) -> Self {
        let gpack = manifest.gpack.clone();
        let file = |file: &FileEntry| WireFile {
            path: file.path.as_str().to_owned(),
            executable: file.executable,
            size: file.size,
            cid: file.id,
            sha256: ByteArray::new(file.sha256),
        };
        Self {
            _version: VERSION,
            publisher: manifest.publisher,
            name: gpack.name,
            release: gpack.version.to_string(),
            description: gpack.description,
            license: gpack.license,
            tags: gpack.tags,
            categories: gpack.categories,
            authors: gpack.authors,
            repository: gpack.repository,
            dependencies: gpack
                .dependencies
                .iter()
                .map(|(id, requirement)| (id.to_string(), requirement.to_string()))
                .collect(),
            preflight: manifest.preflight,
            root: manifest.root,
            size: manifest.size,
            files: manifest.files.iter().map(file).collect(),
        }
    }
}

/// The payload after `change`, encoded canonically: wrong in what it says only.
fn changed(change: impl FnOnce(&mut Wire)) -> Vec<u8> {
    let mut wire = Wire::from(&manifest());
    change(&mut wire);
    to_vec(&wire).unwrap()
}

fn clone_file(file: &WireFile) -> WireFile {
    WireFile {
        path: file.path.clone(),
        executable: file.executable,
        size: file.size,
        cid: file.cid,
        sha256: file.sha256,
    }
}

fn refused(change: impl FnOnce(&mut Wire)) -> Code {
    Manifest::from_payload(&changed(change)).unwrap_err().code()
}

#[test]
fn a_manifest_survives_its_encoding() {
    let manifest = manifest();
    let payload = manifest.payload().unwrap();
    assert_eq!(Manifest::from_payload(&payload).unwrap(), manifest);
    assert_eq!(manifest.payload().unwrap(), payload, "the same manifest, the same bytes");
    assert_eq!(manifest.id().to_string(), format!("{}/my-package", publisher(1).id()));
    assert_eq!(manifest.files().iter().filter(|file| file.executable).count(), 1);
    assert_eq!(manifest.directories().last().unwrap().id(), manifest.root());
}

#[test]
fn what_is_written_part_by_part_is_the_one_encoding_and_takes_no_more_room_than_that() {
    let many: Vec<(String, Vec<u8>)> = (0..300).map(|n| (format!("file-{n}"), vec![7; n])).collect();
    let many: Vec<(&str, &[u8])> =
        many.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    for manifest in [manifest(), testing::package(&many).0] {
        let payload = manifest.payload().unwrap();
        assert_eq!(payload, to_vec(&Wire::from(&manifest)).unwrap());
        assert_eq!(payload.capacity(), payload.len());
        let signed = publisher(1).seal(Context::Manifest, payload).encode();
        assert_eq!(signed.capacity(), signed.len());
    }
}

#[test]
fn the_wire_form_is_fixed() {
    let (packed, _) = packed(&[("a.txt", b"hello\n")]);
    let manifest = Manifest::new(publisher(7).id(), description(), Preflight::Skipped, packed).unwrap();
    let id = ContentId::of(Codec::DagCbor, &manifest.payload().unwrap());
    assert_eq!(id.to_string(), "bafyreidw57yymtyizcqf3qyttk4j4vitvjqnhao4naf6rkgkoxw26q34ke");
}

#[test]
fn an_empty_package_and_empty_files_are_packages() {
    for files in [&[][..], &[("a", b"" as &[u8])]] {
        let (manifest, _) = testing::package(files);
        assert_eq!(Manifest::from_payload(&manifest.payload().unwrap()).unwrap(), manifest);
        assert_eq!(manifest.size(), 0);
    }
}

#[test]
fn paths_that_are_not_allowed_are_refused_as_such() {
    for path in
        ["../../etc/x", "/abs", "a/../../b", "C:\\x", "\\\\srv\\x", "a\0b", "a//b", ".", "", ".git/config"]
    {
        assert_eq!(refused(|wire| wire.files[0].path = path.to_owned()), Code::Path, "{path:?}");
    }
    assert_eq!(refused(|wire| wire.files[0].path = "p".repeat(5_000)), Code::Limit);
    assert_eq!(refused(|wire| wire.files[0].path = "d/".repeat(500) + "f"), Code::Limit);
    // Fifty directories for each file, of which there are few.
    let deep = |n: usize| format!("{n:07}/{}f", "d/".repeat(49));
    let many = |wire: &mut Wire| {
        let file = || wire.files.last().map(clone_file).unwrap();
        wire.files = (0..=DIRECTORIES_MAX / 50).map(|n| WireFile { path: deep(n), ..file() }).collect();
    };
    assert_eq!(refused(many), Code::Limit);
    assert_eq!(refused(|wire| wire.files.swap(0, 1)), Code::Path, "out of order");
    assert_eq!(refused(|wire| wire.files[2].path = "bin".to_owned()), Code::Path, "a file that is a folder");
    assert_eq!(refused(|wire| wire.files[0].path = "EMPTY".to_owned()), Code::Path, "a collision");
}

#[test]
fn sizes_and_ids_must_agree() {
    assert_eq!(refused(|wire| wire.size += 1), Code::Size);
    assert_eq!(refused(|wire| wire.files[0].size += 1), Code::Size);
    let both = |wire: &mut Wire, by: u64| {
        wire.files[0].size = wire.files[0].size.wrapping_add(by);
        wire.size = wire.size.wrapping_add(by);
    };
    // The id of a raw block cannot be that of a file of two chunks.
    assert_eq!(refused(|wire| both(wire, 2 << 20)), Code::Malformed);
    // Cumulative sizes are in the directories, so that another size is another root.
    assert_eq!(refused(|wire| both(wire, 1)), Code::HashMismatch);
    assert_eq!(refused(|wire| both(wire, FILE_BYTES_MAX)), Code::Limit);
    assert_eq!(refused(|wire| wire.files[0].size = u64::MAX), Code::Limit);
    assert_eq!(refused(|wire| wire.files[0].sha256 = ByteArray::new([0; 32])), Code::Malformed);
    assert_eq!(refused(|wire| wire.root = ContentId::of(Codec::DagPb, b"")), Code::HashMismatch);
    assert_eq!(refused(|wire| wire.files[1].path = "bin/ran.sh".to_owned()), Code::HashMismatch);
    assert_eq!(refused(|wire| drop(wire.files.pop())), Code::Size);
    assert_eq!(refused(|wire| drop(wire.files.remove(2))), Code::HashMismatch);
}

#[test]
fn fields_keep_the_rules_of_the_description() {
    assert_eq!(refused(|wire| wire._version = 2), Code::Malformed);
    assert_eq!(refused(|wire| wire._version = 0), Code::Malformed);
    assert_eq!(refused(|wire| wire.release = "1.0".to_owned()), Code::Malformed);
    assert_eq!(refused(|wire| wire.release = "1.0.0+x".to_owned()), Code::Malformed);
    assert_eq!(refused(|wire| wire.description = String::new()), Code::Malformed);
    assert_eq!(refused(|wire| wire.description = "\u{1b}[31m".to_owned()), Code::Malformed);
    assert_eq!(refused(|wire| wire.description = "x".repeat(10_000)), Code::Malformed);
    assert_eq!(refused(|wire| wire.tags = vec!["t".to_owned(); 17]), Code::Malformed);
    assert_eq!(refused(|wire| wire.tags = vec!["a,b".to_owned()]), Code::Malformed);
    assert_eq!(refused(|wire| wire.authors = vec!["a".to_owned(); 33]), Code::Malformed);
    assert_eq!(refused(|wire| wire.repository = Some(" ".to_owned())), Code::Malformed);
    assert_eq!(refused(|wire| drop(wire.dependencies.insert("bare".into(), "1".into()))), Code::Malformed);
    let other = format!("{}/other", publisher(2).id());
    assert_eq!(refused(|wire| drop(wire.dependencies.insert(other.clone(), "x".into()))), Code::Malformed);
    let own = manifest().id().to_string();
    assert_eq!(refused(|wire| drop(wire.dependencies.insert(own, "1".into()))), Code::Malformed, "on itself");
    let good = changed(|wire| drop(wire.dependencies.insert(other, "^1".into())));
    assert_eq!(Manifest::from_payload(&good).unwrap().gpack().dependencies.len(), 1);
    // A requirement has one spelling on the wire.
    let loose = format!("{}/other", publisher(2).id());
    assert_eq!(refused(|wire| drop(wire.dependencies.insert(loose, "1".into()))), Code::Malformed);
}

#[test]
fn bytes_that_are_no_manifest_are_refused() {
    let payload = manifest().payload().unwrap();
    for end in 0..payload.len() {
        assert!(Manifest::from_payload(&payload[..end]).is_err(), "cut off at {end}");
    }
    assert!(Manifest::from_payload(&[payload.clone(), vec![0]].concat()).is_err());
    assert!(Manifest::from_payload(&vec![0x81; 1 << 20]).is_err(), "nested without end");
    assert_eq!(Manifest::from_payload(&vec![0; MANIFEST_BYTES_MAX + 1]).unwrap_err().code(), Code::Limit);
    assert!(Manifest::from_payload(b"\xa1fextra\x01").is_err());
}

#[test]
fn one_file_too_many_is_refused_while_parsing() {
    let payload = changed(|wire| {
        let file = |n: usize| WireFile {
            path: format!("{n:07}"),
            executable: false,
            size: 0,
            cid: ContentId::of(Codec::Raw, b""),
            sha256: ByteArray::new(ContentId::of(Codec::Raw, b"").digest()),
        };
        wire.files = (0..=FILES_MAX).map(file).collect();
    });
    assert!(payload.len() < MANIFEST_BYTES_MAX);
    let error = Manifest::from_payload(&payload).unwrap_err().to_string();
    assert!(error.contains("at most 100000 files"), "{error}");
}

#[test]
fn a_signed_manifest_survives_its_blocks() {
    let signed = SignedManifest::sign(manifest(), &publisher(1)).unwrap();
    let (root, blocks) = signed.to_blocks();
    let source = |id: &ContentId| {
        blocks.iter().find(|block| block.id() == *id).map(|block| block.bytes().to_vec()).ok_or("not here")
    };
    let bytes = read_file(root.id, SignedManifest::BYTES_MAX as u64, &source).unwrap();
    assert_eq!(bytes, signed.bytes());
    let keys = publisher(1);
    assert_eq!(SignedManifest::decode_and_verify(bytes.clone(), keys.key_log()).unwrap(), signed);
    assert!(read_file(root.id, 10, &source).is_err(), "larger than asked for");
}

#[test]
fn a_large_signed_manifest_is_cut_into_blocks() {
    let (mut packed, _) = packed(&[("empty", b"")]);
    let empty = packed.files.remove(0);
    let file = |n: usize| PackedFile {
        path: format!("{n:06}-{}", "x".repeat(60)).parse().unwrap(),
        ..empty.clone()
    };
    packed.files = (0..12_000).map(file).collect();
    packed.root = unixfs::tree(packed.files.iter().map(|file| (&file.path, file.root))).unwrap().root;
    let manifest = Manifest::new(publisher(1).id(), description(), Preflight::Passed, packed).unwrap();
    let signed = SignedManifest::sign(manifest, &publisher(1)).unwrap();
    let (root, blocks) = signed.to_blocks();
    assert!(blocks.len() > 2, "{} bytes", signed.bytes().len());
    assert_eq!(root.size, signed.bytes().len() as u64);
    let keys = publisher(1);
    assert!(SignedManifest::decode_and_verify(signed.bytes().to_vec(), keys.key_log()).is_ok());
}

#[test]
fn only_its_publisher_signs_a_manifest() {
    let (one, two) = (publisher(1), publisher(2));
    assert!(matches!(SignedManifest::sign(manifest(), &two), Err(Error::Publisher { .. })));
    let signed = SignedManifest::sign(manifest(), &one).unwrap();
    let by_other = SignedManifest::decode_and_verify(signed.bytes().to_vec(), two.key_log()).unwrap_err();
    assert_eq!(by_other.code(), Code::Signature);
    // The other publisher signs a manifest that names the first.
    let payload = manifest().payload().unwrap();
    let forged = two.seal(Context::Manifest, payload.clone()).encode();
    assert!(matches!(
        SignedManifest::decode_and_verify(forged.clone(), two.key_log()),
        Err(Error::Publisher { .. })
    ));
    assert_eq!(
        SignedManifest::decode_and_verify(forged.clone(), one.key_log()).unwrap_err().code(),
        Code::Signature
    );
    let unsigned = Envelope::seal(Context::Manifest, payload.clone(), &[]).encode();
    assert_eq!(
        SignedManifest::decode_and_verify(unsigned.clone(), one.key_log()).unwrap_err().code(),
        Code::Signature
    );
    let as_head = one.seal(Context::Head, payload).encode();
    assert_eq!(
        SignedManifest::decode_and_verify(as_head.clone(), one.key_log()).unwrap_err().code(),
        Code::Signature
    );
    let mut flipped = signed.bytes().to_vec();
    for at in (0..flipped.len()).step_by(7) {
        flipped[at] ^= 1;
        assert!(SignedManifest::decode_and_verify(flipped.clone(), one.key_log()).is_err(), "byte {at}");
        flipped[at] ^= 1;
    }
}

#[test]
fn an_earlier_key_still_proves_an_old_manifest() {
    let old: Publisher = publisher(1);
    let signed = SignedManifest::sign(manifest(), &old).unwrap();
    let new = old.rotated(SecretKey::from_bytes(&[9; 32]), Timestamp::from_secs(1_700_000_001)).unwrap();
    assert_eq!(new.id(), old.id());
    assert!(SignedManifest::decode_and_verify(signed.bytes().to_vec(), new.key_log()).is_ok());
}
