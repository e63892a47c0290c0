//! Signed heads for the tests.

use std::time::Duration;

use rusqlite::{Connection, Transaction};
use serde_bytes::ByteBuf;

use super::{Outcome, SCHEMA, Source, after, discard, insert};
use crate::{
    content::{Codec, ContentId},
    identity::Publisher,
    release::{Head, Release, Sequence, VerifiedHead, head},
    time::Timestamp,
};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(super) fn later(secs: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(secs))
}

pub(super) const DAY: u64 = 24 * 3600;

pub(super) fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    for _ in 0..2 {
        conn.execute_batch(SCHEMA).unwrap();
        conn.execute_batch(super::COUNTS_SCHEMA).unwrap();
        conn.execute_batch(super::CONFIRMED_SCHEMA).unwrap();
    }
    conn
}

pub(super) fn publisher(n: u8) -> Publisher {
    Publisher::from_secret([n; 32], NOW.minus(Duration::from_secs(DAY)))
}

pub(super) fn entry(n: u64) -> ContentId {
    ContentId::of(Codec::DagCbor, &n.to_be_bytes())
}

/// A head at sequence 0 made at [`NOW`]; tests change what they are about.
pub(super) fn blank(publisher: &Publisher, name: &str) -> Head {
    Head {
        version: head::VERSION,
        publisher: publisher.id(),
        name: name.parse().unwrap(),
        keys: publisher.key_log().documents().map(ByteBuf::from).collect(),
        key_log: publisher.key_log().tip(),
        sequence: Sequence::new(0),
        entry: entry(0),
        log: entry(0),
        latest: None,
        resolved: ByteBuf::new(),
        yanked: Vec::new(),
        deprecated: None,
        description: String::new(),
        license: None,
        tags: Vec::new(),
        categories: Vec::new(),
        preflight_skipped: false,
        secrets_allowed: false,
        released_at: NOW,
        latest_released_at: None,
    }
}

/// A head at `sequence` whose newest entry is number `branch` of those possible there.
pub(super) fn at(publisher: &Publisher, name: &str, sequence: u64, branch: u64) -> VerifiedHead {
    let entry = if sequence == 0 && branch == 0 { entry(0) } else { entry(sequence * 1_000 + branch) };
    let log = if sequence == 0 { entry } else { self::entry(0) };
    Head { sequence: Sequence::new(sequence), entry, log, ..blank(publisher, name) }.sign(publisher).unwrap()
}

/// A head with something to install.
pub(super) fn offering(publisher: &Publisher, name: &str) -> VerifiedHead {
    let latest = Release {
        version: "1.0.0".parse().unwrap(),
        manifest: ContentId::of(Codec::Raw, name.as_bytes()),
        root: ContentId::of(Codec::DagPb, name.as_bytes()),
        size: 1,
        files: 1,
    };
    Head { latest: Some(latest), ..blank(publisher, name) }.sign(publisher).unwrap()
}

/// Takes out every head that `goes`; what was seen of the packages stays.
pub(super) fn evict(conn: &mut Connection, goes: impl Fn(&Head) -> bool) -> usize {
    within(conn, |tx| {
        let listed = after(tx, 0, usize::MAX, usize::MAX).unwrap().heads;
        let gone =
            listed.into_iter().filter(|bytes| goes(VerifiedHead::verify_stored(bytes).unwrap().head()));
        gone.filter(|bytes| discard(tx, 0, bytes).unwrap()).count()
    })
}

pub(super) fn within<T>(conn: &mut Connection, change: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let tx = conn.transaction().unwrap();
    let result = change(&tx);
    tx.commit().unwrap();
    result
}

pub(super) fn put(conn: &mut Connection, head: &VerifiedHead, now: Timestamp) -> Outcome {
    put_from(conn, head, 1, now)
}

/// Takes a head that peer number `peer` told of.
pub(super) fn put_from(conn: &mut Connection, head: &VerifiedHead, peer: u8, now: Timestamp) -> Outcome {
    within(conn, |tx| insert(tx, head, &source(peer), now).unwrap())
}

pub(super) fn source(peer: u8) -> Source {
    Source::stored(vec![peer; 2])
}
