//! Requests for blocks: those of this node, and the answers to those of others. Pure: `now` is an argument.

use std::{collections::HashMap, hash::Hash, io};

use libp2p::{
    PeerId,
    request_response::{self, OutboundRequestId},
};
use tokio::sync::oneshot;

use super::{answering::Answering, driver::PENDING_MAX, logs::AnswerId, progress::is_silence};
use crate::{
    fetch::{RequestFailure, protocol::Answer},
    limits::FETCH_SERVED_PER_PEER_MAX,
};

/// Who waits for the answer of a peer.
pub(super) type Reply = oneshot::Sender<Result<Answer, RequestFailure>>;

/// The requests under way.
pub(super) struct Blocks<Asked = OutboundRequestId, Served = AnswerId> {
    asked: HashMap<Asked, (PeerId, Reply)>,
    /// Answers to others, of blocks and of logs: they share what room there is.
    pub(super) answering: Answering<Served>,
    bytes_sent: u64,
}

impl<Asked: Eq + Hash, Served: Ord> Blocks<Asked, Served> {
    pub(super) fn new() -> Self {
        Self { asked: HashMap::new(), answering: Answering::new(), bytes_sent: 0 }
    }

    /// Requests of this node under way.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whom this node asks.
    pub(super) fn asked_peers(&self) -> impl Iterator<Item = PeerId> {
        self.asked.values().map(|(peer, _)| *peer)
    }

    /// Whether a peer may be asked once more.
    pub(super) fn may_ask(&self, peer: &PeerId, is_connected: bool) -> Result<(), RequestFailure> {
        if self.asked.len() >= PENDING_MAX {
            return Err(RequestFailure::Own);
        }
        if !is_connected {
            return Err(RequestFailure::Unreachable);
        }
        // Several retrievals may ask one peer. What it would only call busy, or drop, is not sent.
        let of_peer = self.asked.values().filter(|(asked, _)| asked == peer).count();
        if of_peer >= FETCH_SERVED_PER_PEER_MAX { Err(RequestFailure::Own) } else { Ok(()) }
    }

    /// Notes that a peer was asked.
    pub(super) fn ask(&mut self, id: Asked, peer: PeerId, reply: Reply) {
        self.asked.insert(id, (peer, reply));
    }

    /// Hands an answer to who waits for it; tells whether it was waited for and has blocks, or says that they are missing.
    pub(super) fn answered(&mut self, id: &Asked, answer: Answer) -> bool {
        let Some((_, reply)) = self.asked.remove(id) else { return false };
        let says_something = !answer.blocks.is_empty();
        let _ = reply.send(Ok(answer));
        says_something
    }

    /// Tells who waits for an answer that there will be none.
    pub(super) fn failed(&mut self, id: &Asked, error: request_response::OutboundFailure) {
        if let Some((_, reply)) = self.asked.remove(id) {
            let _ = reply.send(Err(failure_of(error)));
        }
    }

    /// Notes that an answer has left: it held memory until now, whether its reader read or not. Yields its bytes of blocks.
    pub(super) fn sent(&mut self, id: &Served) -> u64 {
        let bytes = self.answering.end(id);
        self.bytes_sent = self.bytes_sent.saturating_add(bytes);
        bytes
    }

    /// Notes that bytes of a log were sent.
    pub(super) fn recited(&mut self, bytes: u64) {
        self.bytes_sent = self.bytes_sent.saturating_add(bytes);
    }

    /// Bytes of blocks and logs sent since the start.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }
}

/// Only what was read can break the protocol. The other errors are of the connection, or of somebody's bounds: an answer that ends
/// too early is one that the peer gave up, as it must where this side reads too slowly.
pub(super) fn failure_of(error: request_response::OutboundFailure) -> RequestFailure {
    use request_response::OutboundFailure as Failure;
    match error {
        Failure::DialFailure | Failure::UnsupportedProtocols => RequestFailure::Unreachable,
        Failure::Timeout => RequestFailure::Timeout,
        Failure::Io(error) if is_silence(&error) => RequestFailure::Timeout,
        Failure::ConnectionClosed => RequestFailure::Closed,
        Failure::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData => RequestFailure::Broken(error.to_string()),
            _ => RequestFailure::Closed,
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{fetch::protocol::Found, network::progress::Silence};

    #[test]
    fn a_peer_is_asked_no_more_at_once_than_it_answers() {
        let (mut blocks, peer) = (Blocks::<usize, usize>::new(), PeerId::random());
        assert_eq!(blocks.may_ask(&peer, false), Err(RequestFailure::Unreachable));
        let mut waiting = Vec::new();
        while blocks.may_ask(&peer, true).is_ok() {
            let (reply, answer) = oneshot::channel();
            blocks.ask(waiting.len(), peer, reply);
            waiting.push(answer);
        }
        assert_eq!((waiting.len(), blocks.asked()), (FETCH_SERVED_PER_PEER_MAX, FETCH_SERVED_PER_PEER_MAX));
        assert_eq!(blocks.may_ask(&PeerId::random(), true), Ok(()));
        blocks.failed(&0, request_response::OutboundFailure::Timeout);
        assert_eq!(waiting[0].try_recv().unwrap().unwrap_err(), RequestFailure::Timeout);
        assert_eq!(blocks.may_ask(&peer, true), Ok(()), "there is room again");
        assert!(!blocks.answered(&1, Answer::default()), "it is busy, and transferred nothing");
        assert!(waiting[1].try_recv().unwrap().is_ok());
        assert!(
            blocks.answered(&2, Answer { blocks: vec![Found::Missing] })
                && !blocks.answered(&2, Answer::default())
        );
    }

    #[test]
    fn requests_are_bounded_in_all_and_what_was_sent_is_counted() {
        let mut blocks = Blocks::<usize, usize>::new();
        for n in 0..PENDING_MAX {
            blocks.ask(n, PeerId::random(), oneshot::channel().0);
        }
        assert_eq!(blocks.may_ask(&PeerId::random(), true), Err(RequestFailure::Own));
        assert!(blocks.answering.begin(7, PeerId::random(), None, Instant::now()));
        blocks.answering.set_bytes(&7, 1_000);
        assert_eq!((blocks.sent(&7), blocks.sent(&7), blocks.bytes_sent()), (1_000, 0, 1_000));
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
}
