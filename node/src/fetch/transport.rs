//! What a retrieval needs of the network.
//!
//! The network's handle is one; tests have one in memory.

use std::{future::Future, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{
    log,
    protocol::{Answer, Arrived, Request},
    swarm::{News, Share},
};
use crate::content::ContentId;

/// Reaches peers, and asks them.
///
/// Everything ends within bounds of its own, whatever the peer does. Dropping a future gives up what it waits for.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Connects to a peer, under these addresses and those that the network knows; false where it was not reached in time.
    fn reach(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        within: Duration,
    ) -> impl Future<Output = bool> + Send;

    /// Asks a connected peer for blocks.
    fn ask(
        &self,
        peer: PeerId,
        request: Request,
    ) -> impl Future<Output = Result<Answer, RequestFailure>> + Send;

    /// This node.
    fn own(&self) -> PeerId;

    /// Whether a peer is on the local network, so that what comes from it costs no line to elsewhere.
    fn is_near(&self, _peer: &PeerId) -> bool {
        false
    }

    /// Has a connected peer tell of a tree, for as long as somebody takes it; [`News::Ended`] says that it does not, or no longer.
    fn follow(&self, peer: PeerId, tree: ContentId, news: mpsc::Sender<(PeerId, News)>);

    /// Says to those who ask here that this node fetches a tree, and what of it is here; nothing where there is no room.
    fn share(&self, tree: ContentId) -> Option<Share>;

    /// Asks a connected peer for entries of a log. What comes goes to `frames`, one at a time as they are taken; `arrived` is
    /// told every byte. Ends after the last frame; where the receiver is dropped, the rest is given up.
    fn read_log(
        &self,
        peer: PeerId,
        request: log::Request,
        frames: mpsc::Sender<log::Frame>,
        arrived: Arrived,
    ) -> impl Future<Output = Result<(), RequestFailure>> + Send;

    /// Notes that a peer sent something that was asked for and that was verified: its connection is worth more for a while.
    fn credit(&self, peer: PeerId);
}

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// The peer cannot be reached, or does not speak the protocol.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection closed before the answer.
    #[error("the connection closed before the answer")]
    Closed,
    /// The answer breaks the protocol.
    #[error("the answer breaks the protocol: {0}")]
    Broken(String),
    /// This node is stopping, is overloaded, or has too many requests in progress.
    #[error("this node has no room for the request")]
    Own,
}
