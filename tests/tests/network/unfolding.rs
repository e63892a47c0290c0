//! A publisher whose manifest is signed by name only: a tree of nodes without end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ggen_marketplace::{
    code::Code,
    content::{Block, Codec, ContentId},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release},
    sync::protocol::{self as sync, Page},
    time::Timestamp,
};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use crate::{
    node::{DAY, publisher, start},
    raw::{Raw, Script, Sent, Want, cbor},
};

const CHUNK: u64 = 1 << 20;
const LINKS: u64 = 1024;

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    number(out, tag, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, tag: u8, mut number: u64) {
    out.push(tag);
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A UnixFS file node over as many parts of `size` and cumulative size `tsize` as there are ids.
fn node(ids: &[ContentId], size: u64, tsize: u64) -> Block {
    let (mut out, mut data) = (Vec::new(), Vec::new());
    number(&mut data, 0x08, 2);
    number(&mut data, 0x18, size * ids.len() as u64);
    for id in ids {
        let mut link = Vec::new();
        field(&mut link, 0x0a, &id.to_bytes());
        field(&mut link, 0x12, b"");
        number(&mut link, 0x18, tsize);
        field(&mut out, 0x12, &link);
        number(&mut data, 0x20, size);
    }
    field(&mut out, 0x0a, &data);
    Block::new(Codec::DagPb, out)
}

/// A root over 1024 nodes over 1024 leaves each, which nobody has.
fn endless() -> (ContentId, BTreeMap<ContentId, Vec<u8>>) {
    let below: Vec<Block> = (0..LINKS)
        .map(|n| {
            let leaf = |at: u64| ContentId::of(Codec::Raw, &[n.to_be_bytes(), at.to_be_bytes()].concat());
            node(&(0..LINKS).map(leaf).collect::<Vec<_>>(), CHUNK, CHUNK)
        })
        .collect();
    let size = CHUNK * LINKS;
    let ids: Vec<ContentId> = below.iter().map(Block::id).collect();
    let root = node(&ids, size, size + below[0].bytes().len() as u64);
    let id = root.id();
    (id, below.into_iter().chain([root]).map(|block| (block.id(), block.into_bytes())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_unfolds_without_end_is_refused_at_its_first_block() {
    let (manifest, blocks) = endless();
    let publisher = publisher(9);
    let release = Release {
        version: "1.0.0".parse().unwrap(),
        manifest,
        root: ContentId::of(Codec::DagPb, b"a tree"),
        size: 1,
        files: 1,
    };
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "endless".parse().unwrap() });
    log.push(log.next(Kind::Release(release), &publisher, Timestamp::now().minus(DAY)).unwrap()).unwrap();
    let labels = Labels {
        description: "It never ends".to_owned(),
        license: None,
        tags: Vec::new(),
        categories: Vec::new(),
        preflight_skipped: false,
        secrets_allowed: false,
    };
    let head = Head::of(&log, labels, &publisher).unwrap().sign(&publisher).unwrap();
    let page = Page { epoch: 1, next: 1, done: true, heads: vec![ByteBuf::from(head.bytes().to_vec())] };
    let page = sync::Answer::Page(page);

    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let fetch = move |want: Want| {
        noted.lock().unwrap().extend(want.ids.clone());
        // As much as fits.
        let mut left = 1 << 20;
        let found = |id: &ContentId| match blocks.get(id) {
            Some(bytes) if bytes.len() > left => Sent::Later,
            Some(bytes) => {
                left -= bytes.len();
                Sent::Bytes(bytes.clone())
            }
            None => Sent::Missing,
        };
        Some(want.answer(want.ids.iter().map(found)))
    };
    let script =
        Script { fetch: Box::new(fetch), heads: Box::new(move |_| Some(cbor(&page))), ..Script::default() };
    let rogue = Raw::start(script).await;
    let reader = start(&[]).await;
    rogue.connect(&reader.address()).await;
    reader.knows(rogue.peer).await;
    reader.finds("endless").await;

    let place = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let error = reader.install("endless", &place.path().join("t"), 60).await.unwrap_err();
    assert_eq!((error.code, error.exit_code()), (Code::Size, 6), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(
        *asked.lock().unwrap(),
        [manifest],
        "the parts of a node that is too large are nobody's business"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing was written");
    assert_eq!(reader.counters(rogue.peer).await, (0, 0), "whoever serves what was signed is not to blame");
}
