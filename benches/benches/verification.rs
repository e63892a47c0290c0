//! What it costs to check one announcement: the head that it brings, which this node does within its budgets, and before that the
//! signature of the message, which libp2p does for every one that comes.

use std::hint::black_box;

use criterion::Criterion;
use ggen_marketplace::{
    content::{Codec, ContentId},
    identity::Publisher,
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    time::Timestamp,
};
use libp2p::identity::{Keypair, PublicKey};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let head = head();
    assert!(VerifiedHead::verify(&head, NOW).is_ok());
    criterion.bench_function("verification/head", |bencher| {
        bencher.iter(|| VerifiedHead::verify(black_box(&head), NOW));
    });
    let author = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key");
    let signature = author.sign(&head).expect("such a key can sign");
    let key = author.public().encode_protobuf();
    let is_valid = || {
        let key = PublicKey::try_decode_protobuf(black_box(&key));
        key.is_ok_and(|key| key.verify(black_box(&head), &signature))
    };
    assert!(is_valid());
    criterion.bench_function("verification/message", |bencher| bencher.iter(is_valid));
    criterion.final_summary();
}

/// A head as most are: of a publisher with one key document.
fn head() -> Vec<u8> {
    let publisher = Publisher::from_secret([1; 32], NOW);
    let name = "announced".parse().expect("a valid name");
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name });
    let release = Release {
        version: "1.0.0".parse().expect("a valid version"),
        manifest: ContentId::of(Codec::Raw, b"manifest"),
        root: ContentId::of(Codec::DagPb, b"root"),
        size: 1,
        files: 1,
    };
    let entry = log.next(Kind::Release(release), &publisher, NOW).expect("a log can begin");
    log.push(entry).expect("its own next entry");
    let labels = Labels { description: "What an announcement says of it".to_owned(), ..Labels::default() };
    let head = Head::of(&log, labels, &publisher).expect("the log has an entry");
    head.sign(&publisher).expect("a valid head").bytes().to_vec()
}
