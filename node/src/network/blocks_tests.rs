use std::io;

use tokio::time::Instant;

use super::*;
use crate::{
    content::{Codec, ContentId},
    network::progress::Silence,
};

fn request() -> Request {
    Request::new(vec![ContentId::of(Codec::Raw, b"a block")])
}

/// Asks, and yields who waits.
fn ask(blocks: &mut Blocks, peer: PeerId) -> (bool, oneshot::Receiver<Result<Answer, RequestFailure>>) {
    let (reply, answer) = oneshot::channel();
    (blocks.ask(peer, true, request(), reply), answer)
}

#[test]
fn a_peer_is_asked_no_more_at_once_than_it_reads() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let (reply, mut answer) = oneshot::channel();
    assert!(!blocks.ask(peer, false, request(), reply));
    assert_eq!(answer.try_recv().unwrap(), Err(RequestFailure::Unreachable));
    let mut waiting: Vec<_> = (0..FETCH_SERVED_PER_PEER_MAX).map(|_| ask(&mut blocks, peer)).collect();
    let opens: Vec<bool> = waiting.iter().map(|(opens, _)| *opens).collect();
    assert_eq!(opens.iter().position(|opens| *opens), Some(0));
    assert_eq!(opens.iter().filter(|opens| **opens).count(), 1, "one stream for all of them");
    assert_eq!(ask(&mut blocks, peer).1.try_recv().unwrap(), Err(RequestFailure::Own));
    assert_eq!(blocks.asked(), FETCH_SERVED_PER_PEER_MAX);
    let (_, mut orders) = blocks.opened(peer, ConnectionId::new_unchecked(0));
    let Task::Ask(order) = orders.queue.try_recv().unwrap() else { panic!("another task") };
    let _ = order.reply.send(Ok(Answer::default()));
    drop(order.open);
    assert!(waiting[0].1.try_recv().unwrap().is_ok());
    assert!(ask(&mut blocks, peer).1.try_recv().is_err(), "there is room again");
}

#[test]
fn what_a_stream_did_not_ask_is_asked_on_the_next_one() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let (opens, mut answer) = ask(&mut blocks, peer);
    assert!(opens);
    let (stream, mut orders) = blocks.opened(peer, ConnectionId::new_unchecked(0));
    orders.queue.close();
    let order = orders.queue.try_recv().unwrap();
    drop(orders);
    let (opens, mut second) = ask(&mut blocks, peer);
    assert!(opens, "the stream is ending");
    blocks.unasked(&peer, stream);
    assert!(!blocks.returned(peer, true, order), "one is being opened");
    let (_, mut orders) = blocks.opened(peer, ConnectionId::new_unchecked(0));
    let asked: Vec<Task> = std::iter::from_fn(|| orders.queue.try_recv().ok()).collect();
    assert_eq!(asked.len(), 2);
    assert!(answer.try_recv().is_err() && second.try_recv().is_err(), "both still wait");
}

#[test]
fn who_waits_for_a_stream_that_does_not_open_is_told() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let (_, mut answer) = ask(&mut blocks, peer);
    blocks.not_opened(&peer);
    assert_eq!(answer.try_recv().unwrap(), Err(RequestFailure::Closed));
    assert_eq!((blocks.asked(), blocks.asked_peers().count(), blocks.asked.len()), (0, 0, 0));
}

#[test]
fn requests_are_bounded_in_all() {
    let mut blocks = Blocks::new(Trees::default());
    let mut waiting = Vec::new();
    for _ in 0..PENDING_MAX {
        waiting.push(ask(&mut blocks, PeerId::random()));
    }
    assert_eq!(ask(&mut blocks, PeerId::random()).1.try_recv().unwrap(), Err(RequestFailure::Own));
}

#[test]
fn a_peer_has_a_few_streams_and_what_is_answered_there_ends_with_them() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let streams: Vec<_> =
        std::iter::from_fn(|| blocks.accepted(peer, ConnectionId::new_unchecked(0))).collect();
    assert_eq!(streams.len(), STREAMS_PER_PEER_MAX);
    assert!(blocks.accepted(PeerId::random(), ConnectionId::new_unchecked(0)).is_some());
    let stream = streams[0].0;
    for batch in 0..2 {
        assert!(blocks.answering.begin(
            AnswerId::Blocks(stream, batch),
            peer,
            None,
            usize::MAX,
            Instant::now()
        ));
        blocks.begun(stream, batch);
        blocks.answering.set_bytes(&AnswerId::Blocks(stream, batch), 1_000);
    }
    assert!(blocks.gave(stream, 0, 700).is_some());
    assert_eq!(blocks.bytes_sent(), 700, "what was taken back was not sent");
    assert_eq!(blocks.answering.len(), 1);
    blocks.give(stream, Portion { batch: 1, found: Some(Vec::new()) });
    assert_eq!(blocks.answering.len(), 1, "it was not sent yet");
    blocks.ended(stream);
    assert_eq!(blocks.answering.len(), 0);
    assert!(blocks.accepted(peer, ConnectionId::new_unchecked(0)).is_some(), "there is room again");
    // It was read after the stream had ended.
    assert!(blocks.answering.begin(AnswerId::Blocks(stream, 9), peer, None, usize::MAX, Instant::now()));
    blocks.give(stream, Portion { batch: 9, found: Some(Vec::new()) });
    assert_eq!(blocks.answering.len(), 0);
}

#[tokio::test]
async fn streams_of_a_connection_that_has_closed_end_and_leave_their_places() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    for n in 0..10 {
        let connection = ConnectionId::new_unchecked(n);
        let (_, Given { notices: mut portions, .. }) =
            blocks.accepted(peer, connection).expect("those that are gone take no place");
        let (other, Given { notices: mut others, .. }) =
            blocks.accepted(peer, ConnectionId::new_unchecked(100)).unwrap();
        blocks.closed(connection);
        assert!(portions.recv().await.is_none(), "whoever gives there is told");
        assert!(others.try_recv().is_err_and(|it| it == mpsc::error::TryRecvError::Empty));
        blocks.ended(other);
    }
}

#[test]
fn who_is_turned_out_leaves_its_places_at_once() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let mut given = Vec::new();
    for n in 0..2 {
        let (stream, it) = blocks.accepted(peer, ConnectionId::new_unchecked(n)).unwrap();
        let id = AnswerId::Blocks(stream, 0);
        assert!(blocks.answering.begin(id, peer, None, usize::MAX, Instant::now()));
        blocks.begun(stream, 0);
        blocks.answering.set_bytes(&id, 1_000);
        blocks.give(stream, Portion { batch: 0, found: Some(Vec::new()) });
        given.push(it);
    }
    let now = Instant::now();
    assert_eq!((blocks.in_the_way(2, now), blocks.in_the_way(3, now)), (None, None));
    let later = now + std::time::Duration::from_secs(16);
    assert_eq!((blocks.in_the_way(2, later), blocks.in_the_way(3, later)), (Some(peer), None));
    blocks.turn_out(&peer);
    assert_eq!((blocks.answering.len(), blocks.in_the_way(2, later)), (0, None));
    assert!(
        given
            .iter_mut()
            .all(|it| it.stands.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Closed))
    );
}

#[test]
fn what_is_still_to_be_read_keeps_its_room_when_its_stream_has_ended() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let mut begun = Vec::new();
    // A peer that opens a stream, asks, and ends it, again and again.
    for _ in 0..100 {
        let (stream, _portions) = blocks.accepted(peer, ConnectionId::new_unchecked(0)).unwrap();
        if blocks.answering.begin(AnswerId::Blocks(stream, 0), peer, None, usize::MAX, Instant::now()) {
            blocks.begun(stream, 0);
            begun.push(stream);
        }
        blocks.ended(stream);
    }
    assert_eq!(begun.len(), FETCH_SERVED_PER_PEER_MAX, "no more is read for it than for one that waits");
    for stream in begun {
        blocks.give(stream, Portion { batch: 0, found: Some(Vec::new()) });
    }
    assert_eq!(blocks.answering.len(), 0);
}

#[test]
fn only_what_a_peer_sent_breaks_the_protocol() {
    let of = |error| failure_of(request_response::OutboundFailure::Io(error));
    let sent = io::Error::new(io::ErrorKind::InvalidData, "over the cap");
    assert!(matches!(of(sent), RequestFailure::Broken(_)));
    // It gave its answer up, where this side reads too slowly.
    assert_eq!(of(io::ErrorKind::UnexpectedEof.into()), RequestFailure::Closed);
    // What the multiplexer says where this side has as many streams open as it may.
    assert_eq!(of(io::Error::other("max sub-streams reached")), RequestFailure::Closed);
    assert_eq!(of(io::ErrorKind::ConnectionReset.into()), RequestFailure::Closed);
    // What the network says, and what the peer did.
    assert_eq!(of(io::ErrorKind::TimedOut.into()), RequestFailure::Closed);
    assert_eq!(of(io::Error::new(io::ErrorKind::TimedOut, Silence)), RequestFailure::Timeout);
}

#[test]
fn who_wants_to_be_told_of_a_tree_hears_when_nobody_tells() {
    let (mut blocks, peer) = (Blocks::new(Trees::default()), PeerId::random());
    let (news, mut heard) = mpsc::channel(4 * TASKS_MAX);
    let interest = || Interest { tree: ContentId::of(Codec::DagPb, b"tree"), news: news.clone() };
    assert!(!blocks.follow(peer, false, interest()));
    assert_eq!(heard.try_recv().unwrap(), (peer, News::Ended), "it is not connected");
    assert!(blocks.follow(peer, true, interest()) && heard.try_recv().is_err());
    assert!(!ask(&mut blocks, peer).0, "over the same stream");
    (0..2 * TASKS_MAX).for_each(|_| assert!(!blocks.follow(peer, true, interest())));
    let too_many = std::iter::from_fn(|| heard.try_recv().ok()).count();
    assert_eq!(too_many, TASKS_MAX + 2, "no more wait than fit");
    blocks.not_opened(&peer);
    assert_eq!(std::iter::from_fn(|| heard.try_recv().ok()).count(), TASKS_MAX - 1);
}
