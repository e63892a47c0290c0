//! The log of a package in one answer, over real sockets, from peers of every kind.

use std::time::Duration;

use ggen_marketplace::{
    code::Code,
    control::api::Failure,
    fetch::log::{Frame, Request, Then},
    release::{Log, SignedEntry},
    sync::protocol::{self, Page},
    time::Timestamp,
};
use serde_bytes::ByteBuf;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    node::{Node, draft, log, publisher, start},
    raw::{Raw, Script, cbor, frame},
};

/// Versions of the package: more than fit into one frame.
const VERSIONS: usize = 300;

/// A reader that knows the head of a package with many versions, and peers that answer requests for its log.
struct Stage {
    temp: TempDir,
    reader: Node,
    peers: Vec<Raw>,
}

type Answer = Box<dyn FnMut(Vec<u8>) -> Option<Vec<u8>> + Send>;

/// Starts a peer for each answer; they are asked in this order.
async fn stage(answers: Vec<Answer>) -> Stage {
    let author = publisher(41);
    // Made when its newest entry was, as the log says.
    let head = draft(&author, "annals", &versions(), Timestamp::from_secs(1_700_000_000));
    let head = head.sign(&author).unwrap().bytes().to_vec();
    let page = Page { epoch: 1, next: 1, done: true, heads: vec![ByteBuf::from(head)] };
    let page = protocol::Answer::Page(page);
    let mut scripts: Vec<Script> = answers.iter().map(|_| Script::default()).collect();
    // Among peers of the same record the lower id is asked first.
    scripts.sort_by_key(|script| script.key.public().to_peer_id());
    let reader = start(&[]).await;
    let mut peers = Vec::new();
    for (script, log) in scripts.into_iter().zip(answers) {
        let page = page.clone();
        let peer = Raw::start(Script { log, heads: Box::new(move |_| Some(cbor(&page))), ..script }).await;
        peer.connect(&reader.address()).await;
        reader.knows(peer.peer).await;
        peers.push(peer);
    }
    reader.finds("annals").await;
    Stage { temp: tempfile::tempdir().unwrap(), reader, peers }
}

impl Stage {
    /// Asks for a version that there is not: whether that is so, only the log can say.
    async fn install(&self, secs: u64) -> Failure {
        self.reader.install("annals@9.0.0", &self.temp.path().join("target"), secs).await.unwrap_err()
    }

    /// Whether the log was read, from whomever.
    async fn assert_read(&self) {
        let error = self.install(60).await;
        assert_eq!(error.code, Code::NotFound, "{error:?}");
        assert!(error.hint.contains("1.0.0, 1.0.1"), "{error:?}");
    }
}

fn versions() -> Vec<&'static str> {
    (0..VERSIONS).map(|n| &*format!("1.0.{n}").leak()).collect()
}

fn annals() -> Log {
    log(&publisher(41), "annals", &versions())
}

/// What an honest peer answers, so many entries a frame.
fn frames(request: &[u8], a_frame: usize) -> Vec<Frame> {
    let request: Request = serde_ipld_dagcbor::from_slice(request).unwrap();
    let log = annals();
    let from = log.entries().iter().position(|entry| entry.id() == request.newest).unwrap();
    let bytes = |entry: &SignedEntry| ByteBuf::from(entry.block().bytes().to_vec());
    let entries: Vec<_> = log.entries()[..=from].iter().rev().map(bytes).collect();
    let mut frames: Vec<_> = entries
        .chunks(a_frame)
        .map(|part| Frame { entries: part.to_vec(), ..Frame::last(Then::More) })
        .collect();
    frames.last_mut().unwrap().then = Then::Done;
    frames
}

fn wire(frames: &[Frame]) -> Option<Vec<u8>> {
    Some(frames.iter().flat_map(cbor).collect())
}

fn honest() -> Answer {
    Box::new(|request| wire(&frames(&request, 50)))
}

fn spoilt(spoil: impl Fn(&mut Vec<Frame>) + Send + 'static) -> Answer {
    Box::new(move |request| {
        let mut frames = frames(&request, 50);
        spoil(&mut frames);
        wire(&frames)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_behind_a_peer_that_never_answers_is_read_in_seconds() {
    let stage = stage(vec![Box::new(|_| None), honest()]).await;
    let started = Instant::now();
    stage.assert_read().await;
    let took = started.elapsed();
    assert_eq!(stage.peers[0].seen().log_requests, 1, "it was asked first");
    assert_eq!(stage.peers[1].seen().log_requests, 1, "one answer has all of it");
    assert!(took < Duration::from_secs(12), "it took {took:?}");
    assert_eq!(stage.reader.counters(stage.peers[0].peer).await, (0, 0), "silence proves nothing");
    // It is here now, and nobody is asked again.
    stage.assert_read().await;
    assert_eq!(stage.peers[1].seen().log_requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_of_logs_is_charged_once_and_the_log_is_read_from_others() {
    let too_long = |_: Vec<u8>| Some(u32::MAX.to_be_bytes().to_vec());
    let garbage = |_: Vec<u8>| Some(frame(b"this is not CBOR"));
    let flip = |frames: &mut Vec<Frame>| frames[1].entries[0][9] ^= 1;
    let swap = |frames: &mut Vec<Frame>| frames[0].entries.swap(3, 4);
    let twice = |frames: &mut Vec<Frame>| {
        let again = frames[0].clone();
        frames.insert(1, again);
    };
    let endless = |frames: &mut Vec<Frame>| {
        frames.truncate(1);
        frames.extend(std::iter::repeat_n(Frame::last(Then::More), 1_000));
    };
    let too_many = |frames: &mut Vec<Frame>| {
        let last = frames.last_mut().unwrap();
        last.then = Then::More;
        let more = last.clone();
        frames.extend(std::iter::repeat_n(more, 100));
    };
    let too_early = |frames: &mut Vec<Frame>| frames[0].then = Then::Done;
    let rogues: Vec<(&str, Answer, bool)> = vec![
        ("a length over the cap", Box::new(too_long), false),
        ("no CBOR", Box::new(garbage), false),
        ("a flipped bit", spoilt(flip), true),
        ("out of order", spoilt(swap), true),
        ("the same frame twice", spoilt(twice), true),
        ("frames without end", spoilt(endless), false),
        ("more than there is", spoilt(too_many), false),
        ("done too early", spoilt(too_early), false),
    ];
    for (what, rogue, is_forger) in rogues {
        let stage = stage(vec![rogue, honest()]).await;
        stage.assert_read().await;
        let [rogue, other] = [0, 1].map(|at| stage.peers[at].peer);
        assert_eq!(stage.peers[0].seen().log_requests, 1, "{what}");
        // A forged entry is a ban, as a forged block is; a retrieval of blocks it is not, to be counted among those.
        assert_eq!(stage.reader.counters(rogue).await, (0, u64::from(!is_forger)), "{what}");
        assert_eq!(stage.reader.details(rogue).await.peer.banned, is_forger, "{what}");
        assert_eq!(stage.reader.counters(other).await, (0, 0), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_early_is_continued_elsewhere_and_charged_to_nobody() {
    let missing = |frames: &mut Vec<Frame>| {
        frames.truncate(2);
        frames[1].then = Then::Missing;
    };
    let busy = |frames: &mut Vec<Frame>| *frames = vec![Frame::last(Then::Busy)];
    let cut = |frames: &mut Vec<Frame>| frames.truncate(2);
    for early in [spoilt(missing), spoilt(busy), spoilt(cut)] {
        let stage = stage(vec![early, honest()]).await;
        stage.assert_read().await;
        for peer in &stage.peers {
            assert_eq!(stage.reader.counters(peer.peer).await, (0, 0));
        }
    }
}
