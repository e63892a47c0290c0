use futures::io::Cursor;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::*;
use crate::{
    content::{Block, Codec},
    limits::FETCH_IDS_MAX,
};

fn want(batch: u32) -> Ask {
    Ask::Want { batch, ids: vec![ContentId::of(Codec::Raw, &batch.to_be_bytes())] }
}

/// A batch was read, or there is no room for it.
fn read_of(batch: u32, has_room: bool) -> Notice {
    Notice::Read(Portion { batch, found: has_room.then(Vec::new) })
}

/// The batches that are written now.
fn written(giving: &mut Giving) -> Vec<u32> {
    let written: Vec<u32> = std::iter::from_fn(|| giving.ready()).map(|portion| portion.batch).collect();
    written.iter().for_each(|batch| giving.end(*batch));
    written
}

#[test]
fn a_stream_holds_no_more_wants_than_it_may() {
    for (ids, most) in [(1, FETCH_SERVED_PER_PEER_MAX), (FETCH_IDS_MAX, OPEN_IDS_MAX / FETCH_IDS_MAX)] {
        let mut giving = Giving::default();
        let mut asked = 0;
        while giving.has_room() {
            giving.wants(asked, ids).unwrap();
            asked += 1;
        }
        assert_eq!(asked as usize, most, "large batches count for what they are");
        giving.noticed(read_of(0, true));
        assert!(!giving.has_room(), "what was read is held too");
        assert_eq!(written(&mut giving), [0]);
        assert!(giving.has_room());
    }
}

#[test]
fn batches_are_written_as_they_are_read_and_those_that_wait_are_told_so_again() {
    let mut giving = Giving::default();
    (0..4).for_each(|batch| giving.wants(batch, 1).unwrap());
    for batch in [1, 2] {
        let told = giving.noticed(Notice::Waits(batch));
        assert_eq!(told, Some(protocol::Told::Waits.encode(batch, 0)));
    }
    assert_eq!(giving.waiting().collect::<Vec<_>>(), [1, 2]);
    giving.noticed(read_of(3, true));
    giving.noticed(read_of(1, false));
    assert_eq!(giving.waiting().collect::<Vec<_>>(), [2]);
    assert_eq!(written(&mut giving), [3, 1]);
}

#[test]
fn what_is_taken_back_is_over_once_it_is_known_whether_it_had_begun() {
    let mut giving = Giving::default();
    (0..3).for_each(|batch| giving.wants(batch, 1).unwrap());
    assert!(giving.cancel(0) && giving.is_cancelled(0));
    assert!(!giving.cancel(0) && !giving.cancel(99), "a flood of them costs nothing");
    assert!(giving.wants(0, 1).is_err(), "it is not over");
    assert_eq!(giving.noticed(Notice::Waits(0)), None);
    assert_eq!(giving.noticed(Notice::Dropped(0)), Some(protocol::Told::Over.encode(0, 0)));
    assert_eq!(giving.wants(0, 1), Ok(()));
    giving.noticed(read_of(1, true));
    assert!(!giving.cancel(1) && giving.is_cancelled(1), "the loop has done its part");
    assert_eq!(written(&mut giving), [1]);
    assert!(giving.cancel(2), "it may be being read");
    giving.noticed(read_of(2, true));
    assert!(giving.is_cancelled(2));
}

#[test]
fn a_batch_that_is_open_is_not_opened_again() {
    let mut giving = Giving::default();
    giving.wants(1, 1).unwrap();
    assert!(giving.wants(1, 1).is_err());
    giving.noticed(read_of(1, true));
    assert!(giving.wants(1, 1).is_err());
    written(&mut giving);
    assert_eq!(giving.wants(1, 1), Ok(()));
}

/// A stream of a peer that has said this, and says that once something was written to it; and what is written to it. It takes so many
/// bytes at a time.
struct Peer {
    said: Cursor<Vec<u8>>,
    later: Cursor<Vec<u8>>,
    written: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    takes: usize,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.said).poll_read(cx, buffer);
        let is_written = !self.written.lock().unwrap().is_empty();
        let said = match said {
            Poll::Ready(Ok(0)) if is_written => Pin::new(&mut self.later).poll_read(cx, buffer),
            said => said,
        };
        if matches!(said, Poll::Ready(Ok(0))) { Poll::Pending } else { said }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = self.written.lock().unwrap();
        let taken = bytes.len().min(self.takes.saturating_sub(written.len()));
        written.extend(&bytes[..taken]);
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_block_ends_in_the_middle_where_it_is_taken_back_and_of_what_came_much_is_heard_once() {
    let block = Block::new(Codec::Raw, vec![7; 8 * PART_BYTES]);
    for is_taken_back in [false, true] {
        let mut said = Ask::Want { batch: 3, ids: vec![block.id()] }.encode();
        // More than was sent.
        said.extend(Ask::Came { bytes: 20_000 }.encode());
        if is_taken_back {
            said.extend(Ask::Cancel { batch: 3 }.encode());
        }
        let all = u32::try_from(block.bytes().len()).unwrap();
        let later = [77, 20_000, 20_001, 30_000, 20_000, all + 1, all - 1, all, all, 7];
        let later = later.into_iter().flat_map(|bytes| Ask::Came { bytes }.encode());
        let later = Cursor::new(later.collect());
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let stream = Peer { said: Cursor::new(said), later, written: written.clone(), takes: usize::MAX };
        let (tells, mut told) = mpsc::channel(16);
        let (notices, queue) = mpsc::channel(NOTICES_MAX);
        let who = (PeerId::random(), 5, None);
        let moved = Moved::new(Instant::now());
        let (stands_here, stands) = tokio::sync::oneshot::channel();
        let given = Given { notices: queue, moved, stands };
        let given = tokio::spawn(give(stream, who, given, tells, Trees::default()));
        assert!(matches!(told.recv().await, Some(Told::Wanted { stream: 5, batch: 3, .. })));
        if is_taken_back {
            assert!(matches!(told.recv().await, Some(Told::TakenBack { stream: 5, batch: 3 })));
        }
        let found = Some(vec![Found::Have(block.clone())]);
        notices.send(Notice::Read(Portion { batch: 3, found })).await.unwrap();
        let Some(Told::Gave { bytes, .. }) = told.recv().await else { panic!("nothing was given") };
        assert_eq!(bytes, if is_taken_back { 0 } else { block.bytes().len() as u64 });
        for expected in [20_000, all - 1, all].into_iter().filter(|_| !is_taken_back) {
            let heard = told.recv().await;
            assert!(matches!(heard, Some(Told::Came { stream: 5, bytes }) if bytes == expected), "{heard:?}");
        }
        let mut asking = protocol::Asking::default();
        (0..3).for_each(|_| drop(asking.ask(vec![ContentId::of(Codec::Raw, b"another")])));
        asking.ask(vec![block.id()]);
        let mut answered = Vec::new();
        asking.take(&written.lock().unwrap(), &mut answered).unwrap();
        let whole = (!is_taken_back).then(|| Found::Have(block.clone()));
        assert_eq!(answered[0].1.blocks, whole.into_iter().collect::<Vec<_>>());
        drop(notices);
        given.await.unwrap();
        assert!(matches!(told.recv().await, Some(Told::Ended { broke: None, .. })));
        drop(stands_here);
    }
}

#[tokio::test]
async fn a_stream_ends_at_once_where_it_is_to_end_although_its_peer_reads_nothing() {
    let block = Block::new(Codec::Raw, vec![7; 8 * PART_BYTES]);
    let said = Ask::Want { batch: 3, ids: vec![block.id()] }.encode();
    let stream =
        Peer { said: Cursor::new(said), later: Cursor::default(), written: Default::default(), takes: 99 };
    let (tells, mut told) = mpsc::channel(16);
    let (notices, queue) = mpsc::channel(NOTICES_MAX);
    let (stands_here, stands) = tokio::sync::oneshot::channel();
    let given = Given { notices: queue, moved: Moved::new(Instant::now()), stands };
    let given = tokio::spawn(give(stream, (PeerId::random(), 5, None), given, tells, Trees::default()));
    assert!(matches!(told.recv().await, Some(Told::Wanted { .. })));
    let found = Some(vec![Found::Have(block)]);
    notices.send(Notice::Read(Portion { batch: 3, found })).await.unwrap();
    tokio::task::yield_now().await;
    drop(stands_here);
    assert!(matches!(told.recv().await, Some(Told::Ended { broke: None, .. })));
    given.await.unwrap();
}

#[tokio::test]
async fn messages_are_read_one_after_another_and_no_further_than_their_bounds() {
    let mut wire = Vec::new();
    (0..3).for_each(|batch| wire.extend(want(batch).encode()));
    wire.extend(Ask::Cancel { batch: 1 }.encode());
    let (mut reader, busy) = (Cursor::new(wire.clone()), AtomicBool::new(false));
    for batch in 0..3 {
        assert_eq!(read(&mut reader, &busy).await.unwrap(), Some(want(batch)));
    }
    assert_eq!(read(&mut reader, &busy).await.unwrap(), Some(Ask::Cancel { batch: 1 }));
    assert_eq!(read(&mut reader, &busy).await.unwrap(), None);
    assert!(read(&mut Cursor::new(&wire[..20]), &busy).await.is_err(), "cut short");
    let too_many = [&[1, 0][..], &(FETCH_IDS_MAX as u16 + 1).to_be_bytes(), &[0; 4]].concat();
    assert!(read(&mut Cursor::new(too_many), &busy).await.is_err());
}

#[test]
fn a_peer_follows_a_bounded_number_of_trees_each_once_and_is_told_of_them_until_it_leaves() {
    let (trees, tree) = (Trees::default(), ContentId::of(Codec::DagPb, b"tree"));
    let now = Instant::now();
    let mut following = Following::new((PeerId::random(), None), trees.clone(), now);
    assert_eq!(following.told(&Ask::Follow { follow: 1, tree }, now), Ok(Some(tree)));
    assert!(following.told(&Ask::Follow { follow: 1, tree }, now).is_err(), "under one name");
    let mut out = Vec::new();
    following.tell(&mut out, GATHER_BYTES);
    assert!(out.is_empty(), "nothing is known of it");
    let share = trees.share(tree).unwrap();
    share.has(&[tree]);
    following.tell(&mut out, GATHER_BYTES);
    assert_eq!(out.len(), TOLD_BYTES + 8);
    following.told(&Ask::Leave { follow: 1 }, now).unwrap();
    assert!(!share.is_followed());
    let other = |n: u32| if n == 0 { tree } else { ContentId::of(Codec::DagPb, &n.to_be_bytes()) };
    let most =
        (0..1_000).find(|n| following.told(&Ask::Follow { follow: *n, tree: other(*n) }, now).is_err());
    assert_eq!(most, Some(u32::try_from(SWARM_FOLLOWED_MAX).unwrap()));
    // Whoever begins and leaves again and again has nobody woken each time.
    let mut again = Following::new((PeerId::random(), None), trees.clone(), now);
    let begun = (0..10 * SWARM_FOLLOWS_MAX).filter(|_| {
        let begun = again.told(&Ask::Follow { follow: 1, tree }, now).unwrap().is_some();
        again.told(&Ask::Leave { follow: 1 }, now).unwrap();
        begun
    });
    assert_eq!(begun.count(), SWARM_FOLLOWS_MAX as usize);
    assert!(again.told(&Ask::Follow { follow: 1, tree }, now + SWARM_FOLLOWS_REFILL).unwrap().is_some());
    drop(again);
    drop(following);
    assert!(!share.is_followed(), "it ends with the stream");
}
