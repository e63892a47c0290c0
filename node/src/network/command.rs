//! What the loop is asked to do.

use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Error,
    blocks::Interest,
    dialling::DialFailure,
    handle::{Answers, Provider},
    logs::Question,
    snapshot::Snapshot,
};
use crate::{
    content::ContentId,
    fetch::{
        RequestFailure,
        protocol::{Answer, Request},
    },
    heads::lookup::Ended,
    identity::PublisherId,
    package::PackageId,
    peers::trim::Marks,
    release::{VerifiedConfirmation, head::VerifiedHead},
    time::Timestamp,
};

/// A command, and where its answer goes.
pub(super) enum Command {
    Listen(Multiaddr, oneshot::Sender<Result<Vec<Multiaddr>, Error>>),
    Subscribe(oneshot::Sender<bool>),
    Dial(Target, oneshot::Sender<Result<PeerId, DialFailure>>),
    Bootstrap(oneshot::Sender<bool>),
    PutRecord([u8; 32], Vec<u8>, oneshot::Sender<usize>),
    Stored(Vec<u8>, oneshot::Sender<usize>),
    GetConfirmation(PublisherId, Instant, oneshot::Sender<(Vec<VerifiedConfirmation>, Ended)>),
    GetHead(PackageId, Instant, oneshot::Sender<Sought>),
    Announce(Vec<u8>, oneshot::Sender<usize>),
    Provide(ContentId, oneshot::Sender<usize>),
    StopProviding(ContentId),
    Providers(ContentId, Instant, mpsc::Sender<Provider>),
    FindPeer(PeerId, Instant, oneshot::Sender<(Vec<Multiaddr>, Ended)>),
    Fetch(PeerId, Request, oneshot::Sender<Result<Answer, RequestFailure>>),
    Follow(PeerId, Interest),
    Log(PeerId, Question, oneshot::Sender<Result<(), RequestFailure>>),
    Credit(PeerId),
    Refresh(oneshot::Sender<()>),
    Reread(oneshot::Sender<()>),
    Reconfigure { topic: String, connections_max: u32, connections: Marks },
    Snapshot(oneshot::Sender<Box<Snapshot>>),
    Disconnect(PeerId, oneshot::Sender<usize>),
    LookAround,
    Greet,
    Block(PeerId, String),
    Unblock(PeerId),
    Stop(oneshot::Sender<()>),
}

/// Whom to dial.
pub(super) enum Target {
    Address(Multiaddr),
    Peer(PeerId, Vec<Multiaddr>),
}

/// What a lookup of a head came to.
#[derive(Debug)]
pub(super) enum Sought {
    /// The newest one.
    Found(Box<VerifiedHead>, Answers),
    /// Only one from ahead of this node's clock, made at this time: it is there, and cannot be taken.
    Early(Timestamp),
    /// Nobody had one that counts, of all that are nearest and live.
    Nothing,
    /// None was found by those who answered, so many, before the time ran out.
    CutOff(u32),
    /// Nobody answered, so that nothing is known.
    Unanswered,
    /// Some that contradict each other.
    Contradiction,
}
