use std::{pin::Pin, sync::Arc, task::Context};

use futures::{StreamExt, channel::mpsc as pipes};
use tokio::sync::oneshot;

use super::*;
use crate::{
    content::{Block, Codec},
    fetch::protocol::{self, Found, Request},
};

/// One end of a stream in memory.
struct Pipe {
    from: pipes::UnboundedReceiver<Vec<u8>>,
    rest: Vec<u8>,
    to: pipes::UnboundedSender<Vec<u8>>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.rest.is_empty() {
            match self.from.poll_next_unpin(cx) {
                Poll::Ready(Some(bytes)) => self.rest = bytes,
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let bytes = buffer.len().min(self.rest.len());
        buffer[..bytes].copy_from_slice(&self.rest[..bytes]);
        self.rest.drain(..bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let sent = self.to.unbounded_send(buffer.to_vec());
        Poll::Ready(sent.map(|()| buffer.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that is asked over, and the end of it that a peer has.
struct Stage {
    orders: mpsc::Sender<Task>,
    stands: oneshot::Sender<std::convert::Infallible>,
    told: mpsc::Receiver<Told>,
    peer: Pipe,
    open: Arc<()>,
}

fn stage() -> Stage {
    let ((to, theirs), (theirs_to, from)) = (pipes::unbounded(), pipes::unbounded());
    let (tells, told) = mpsc::channel(64);
    let (orders, queue) = mpsc::channel(FETCH_SERVED_PER_PEER_MAX);
    let own = Pipe { from, rest: Vec::new(), to };
    let origin = Origin::Peer(policy::Scope::Loopback);
    let (stands, ends) = oneshot::channel();
    tokio::spawn(ask(own, (PeerId::random(), 7, origin), Tasks { queue, stands: ends }, tells));
    let peer = Pipe { from: theirs, rest: Vec::new(), to: theirs_to };
    Stage { orders, stands, told, peer, open: Arc::default() }
}

type Answers = oneshot::Receiver<Result<Answer, RequestFailure>>;

impl Stage {
    async fn want(&self, block: &Block) -> (Answers, Arrived) {
        let (reply, answers) = oneshot::channel();
        let request = Request::new(vec![block.id()]);
        let arrived = request.arrived.clone();
        self.orders.send(Task::Ask(Order { request, reply, open: self.open.clone() })).await.unwrap();
        (answers, arrived)
    }

    /// What the peer is asked next.
    async fn asked(&mut self) -> protocol::Ask {
        let mut head = [0; protocol::ASK_BYTES];
        self.peer.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; protocol::Ask::rest_bytes(&head).unwrap()];
        self.peer.read_exact(&mut rest).await.unwrap();
        protocol::Ask::decode(&head, &rest).unwrap()
    }

    async fn say(&mut self, told: protocol::Told, batch: u32, bytes: &[u8]) {
        self.peer.write_all(&told.encode(batch, 0)).await.unwrap();
        self.peer.write_all(bytes).await.unwrap();
    }
}

fn block(n: u32) -> Block {
    Block::new(Codec::Raw, n.to_be_bytes().to_vec())
}

#[tokio::test]
async fn what_is_asked_goes_out_at_once_and_each_answer_finds_who_waits_for_it() {
    let mut stage = stage();
    let (one, arrived) = stage.want(&block(1)).await;
    let (other, _) = stage.want(&block(2)).await;
    for (batch, n) in [(0, 1), (1, 2)] {
        assert_eq!(stage.asked().await, protocol::Ask::Want { batch, ids: vec![block(n).id()] });
    }
    stage.say(protocol::Told::Block(4), 1, block(2).bytes()).await;
    assert_eq!(other.await.unwrap().unwrap().blocks, [Found::Have(block(2))]);
    assert_eq!(arrived.bytes(), 0, "about the first one the peer is silent");
    stage.say(protocol::Told::Missing, 0, &[]).await;
    assert_eq!(one.await.unwrap().unwrap().blocks, [Found::Missing]);
    assert!(matches!(stage.told.recv().await, Some(Told::Answered { brings_blocks: true, .. })));
    let (again, _) = stage.want(&block(3)).await;
    assert!(matches!(stage.asked().await, protocol::Ask::Want { batch: 2, .. }));
    stage.say(protocol::Told::Busy(250), 2, &[]).await;
    assert_eq!(again.await.unwrap().unwrap().busy, Some(Duration::from_millis(250)));
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_taken_back() {
    let mut stage = stage();
    let (gone, _) = stage.want(&block(1)).await;
    let (kept, _) = stage.want(&block(2)).await;
    stage.asked().await;
    stage.asked().await;
    drop(gone);
    assert_eq!(stage.asked().await, protocol::Ask::Cancel { batch: 0 });
    stage.say(protocol::Told::Over, 0, &[]).await;
    stage.say(protocol::Told::Block(4), 1, block(2).bytes()).await;
    assert_eq!(kept.await.unwrap().unwrap().blocks, [Found::Have(block(2))]);
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_fails_what_is_open_and_the_rest_goes_back() {
    let mut stage = stage();
    let mut open = Vec::new();
    for n in 0..FETCH_SERVED_PER_PEER_MAX as u32 + 3 {
        open.push(stage.want(&block(n)).await.0);
    }
    stage.say(protocol::Told::Missing, 99, &[]).await;
    for answer in open.drain(..FETCH_SERVED_PER_PEER_MAX) {
        assert!(matches!(answer.await.unwrap(), Err(RequestFailure::Broken(_))));
    }
    assert!(matches!(stage.told.recv().await, Some(Told::Unasked { stream: 7, .. })));
    for _ in 0..3 {
        assert!(matches!(stage.told.recv().await, Some(Told::Returned { .. })));
    }
    assert!(stage.told.recv().await.is_none());
}

#[tokio::test]
async fn a_stream_that_closes_fails_what_is_open_as_a_connection_does() {
    let mut stage = stage();
    let (answer, _) = stage.want(&block(1)).await;
    stage.asked().await;
    let Stage { peer, mut told, .. } = stage;
    drop(peer);
    assert_eq!(answer.await.unwrap(), Err(RequestFailure::Closed));
    assert!(matches!(told.recv().await, Some(Told::Unasked { .. })));
}

#[tokio::test]
async fn a_forged_block_is_told_although_the_stream_breaks_after_it() {
    let mut stage = stage();
    let (answer, _) = stage.want(&block(1)).await;
    stage.asked().await;
    stage.say(protocol::Told::Block(4), 0, block(2).bytes()).await;
    assert_eq!(answer.await.unwrap().unwrap().blocks, [Found::Forged]);
}

#[tokio::test]
async fn what_waits_is_known_to_and_what_has_come_is_said_now_and_then() {
    let mut stage = stage();
    let large = Block::new(Codec::Raw, vec![7; 300_000]);
    let (answer, arrived) = stage.want(&large).await;
    stage.asked().await;
    stage.say(protocol::Told::Waits, 0, &[]).await;
    while !arrived.waits() {
        tokio::task::yield_now().await;
    }
    assert_eq!(arrived.own_bytes(), 0);
    let bytes = protocol::encode_block(0, 0, large.bytes());
    let first = protocol::TOLD_BYTES + protocol::PART_BYTES;
    stage.peer.write_all(&bytes[..first]).await.unwrap();
    let (mut said, mut times) = (0, 0);
    let mut say = async |stage: &mut Stage| {
        let protocol::Ask::Came { bytes } = stage.asked().await else { panic!("something else") };
        assert!(bytes >= said + CAME_BYTES as u32, "{bytes} after {said}");
        (said, times) = (bytes, times + 1);
    };
    say(&mut stage).await;
    stage.peer.write_all(&bytes[first..]).await.unwrap();
    say(&mut stage).await;
    assert!(said > 300_000 - CAME_BYTES as u32, "{said}");
    assert_eq!(answer.await.unwrap().unwrap().blocks, [Found::Have(large)]);
}

#[test]
fn silence_is_counted_from_the_last_few_kilobytes_and_a_batch_takes_no_longer_than_it_may() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let mut wanting = Wanting::new(Origin::User, start);
    assert_eq!(wanting.due(), start + IDLE);
    assert!(matches!(wanting.end(start + IDLE), End::Idle));
    let ask = |wanting: &mut Wanting, now| {
        let order = Order {
            request: Request::new(vec![block(1).id()]),
            reply: oneshot::channel().0,
            open: Arc::default(),
        };
        wanting.order(order, now);
    };
    let asked = start + IDLE / 2;
    ask(&mut wanting, asked);
    assert_eq!(wanting.due(), asked + FETCH_TIMEOUT, "it was idle before");
    // Bytes drip.
    (1..=10).for_each(|n| wanting.came(0, FETCH_PROGRESS_BYTES / 16, asked + second * n));
    assert_eq!(wanting.due(), asked + FETCH_TIMEOUT);
    assert!(matches!(wanting.end(asked + FETCH_TIMEOUT), End::Failed(RequestFailure::Timeout)));
    // Those of a later batch are no answer to an earlier one, and those of an earlier one come before a later one.
    ask(&mut wanting, asked);
    wanting.came(1, FETCH_PROGRESS_BYTES, asked + second * 11);
    assert_eq!(wanting.due(), asked + FETCH_TIMEOUT);
    wanting.came(0, FETCH_PROGRESS_BYTES, asked + second * 12);
    assert_eq!(wanting.due(), asked + second * 12 + FETCH_TIMEOUT);
    // They flow, and do not end.
    let most = u32::try_from(FETCH_TIMEOUT_MAX.as_secs()).unwrap();
    // One that waits for its turn is waited for as long as the others of its peer come.
    wanting.sent.get_mut(&0).unwrap().waits = true;
    wanting.came(1, FETCH_PROGRESS_BYTES, asked + second * 12 + second / 2);
    assert_eq!(wanting.due(), asked + second * 12 + second / 2 + FETCH_TIMEOUT);
    (13..most).for_each(|n| wanting.came(0, FETCH_PROGRESS_BYTES, asked + second * n));
    assert_eq!(wanting.due(), asked + FETCH_TIMEOUT_MAX);
    assert!(matches!(wanting.end(asked + FETCH_TIMEOUT_MAX), End::Failed(RequestFailure::Closed)));
}

#[test]
fn a_peer_that_does_not_speak_the_protocol_is_told_from_one_that_is_gone() {
    assert_eq!(closed(Err(NegotiationError::Failed.into())), RequestFailure::Unreachable);
    assert_eq!(closed(Err(io::ErrorKind::ConnectionReset.into())), RequestFailure::Closed);
    assert_eq!(closed(Ok(0)), RequestFailure::Closed);
}

#[tokio::test]
async fn whoever_waits_is_told_that_the_connection_has_closed() {
    let mut stage = stage();
    let mut waiting = Vec::new();
    for n in 0..FETCH_SERVED_PER_PEER_MAX as u32 {
        waiting.push(stage.want(&block(n)).await.0);
        stage.asked().await;
    }
    drop(stage.stands);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), Err(RequestFailure::Closed));
    }
}
