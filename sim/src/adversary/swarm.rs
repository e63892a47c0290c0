//! The libp2p peer that an adversary is: it speaks every protocol of a node, with frames that may hold anything.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ggen_marketplace::{
    content::ContentId,
    fetch::protocol::{self as blocks, ASK_BYTES, Ask},
    limits::{GOSSIP_BYTES_MAX, HEADS_PAGE_BYTES_MAX},
    network::{KAD_PROTOCOL, PROTOCOL_VERSION, Spawner, streams, transport::Base},
    sync,
};
use libp2p::{
    PeerId, Stream, StreamProtocol, Swarm, Transport,
    core::upgrade::Version,
    gossipsub, identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    noise, ping, relay,
    request_response::{self, ProtocolSupport},
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
    yamux,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    false_relay,
    gossip::{self, Message, Spouting},
    stranger,
};
use crate::scenario::ScriptKind;

/// How long a request that is never answered stays open on this side: longer than any honest node waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    /// None for whoever gossips by hand: a node reads one stream of gossip from each peer.
    pub(super) gossip: Toggle<gossipsub::Behaviour>,
    pub(super) spouts: Toggle<request_response::Behaviour<Spouting>>,
    pub(super) blocks: streams::Behaviour,
    pub(super) heads: request_response::Behaviour<Frames>,
    relay: Toggle<relay::Behaviour>,
}

/// Messages with their length before them, whatever they hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frames;

impl request_response::Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > HEADS_PAGE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read_request(protocol, io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        io.write_all(&length.to_be_bytes()).await?;
        io.write_all(&bytes).await
    }

    async fn write_response<T>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.write_request(protocol, io, bytes).await
    }
}

/// A batch of blocks that somebody wants. Where nothing is replied, it is never answered.
pub(super) struct Wanted {
    pub(super) peer: PeerId,
    pub(super) batch: u32,
    pub(super) ids: Vec<ContentId>,
    /// The trees that it wants to be told of over the same stream.
    pub(super) follows: Vec<u32>,
    pub(super) reply: oneshot::Sender<Vec<u8>>,
}

/// Hands on what is asked over a stream, and writes whatever is replied.
pub(super) async fn read_wants(peer: PeerId, stream: Stream, wanted: mpsc::Sender<Wanted>) -> io::Result<()> {
    let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
    let (mut reader, mut writer) = stream.split();
    let mut follows = Vec::new();
    loop {
        let mut head = [0; ASK_BYTES];
        reader.read_exact(&mut head).await?;
        let mut rest = vec![0; Ask::rest_bytes(&head).map_err(broken)?];
        reader.read_exact(&mut rest).await?;
        let (batch, ids) = match Ask::decode(&head, &rest).map_err(broken)? {
            Ask::Want { batch, ids } => (batch, ids),
            Ask::Follow { follow, .. } => {
                follows.push(follow);
                continue;
            }
            Ask::Leave { follow } => {
                follows.retain(|it| *it != follow);
                continue;
            }
            Ask::Cancel { .. } | Ask::Came { .. } => continue,
        };
        let (reply, answer) = oneshot::channel();
        let follows = follows.clone();
        if wanted.send(Wanted { peer, batch, ids, follows, reply }).await.is_err() {
            return Ok(());
        }
        if let Ok(answer) = answer.await {
            writer.write_all(&answer).await?;
            writer.flush().await?;
        }
    }
}

/// The swarm of an adversary with this script, with a node's key and on a node's base transport. Where it gossips by hand,
/// `overheard` is told what it hears.
pub(super) fn swarm(
    (base, spawner): (Base, Spawner),
    key: &Keypair,
    kind: ScriptKind,
    overheard: mpsc::Sender<Message>,
) -> Result<Swarm<Behaviour>, Box<dyn std::error::Error>> {
    let id = key.public().to_peer_id();
    let transport = base
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .boxed();
    let mut config = kad::Config::new(StreamProtocol::new(KAD_PROTOCOL));
    if kind == ScriptKind::Eclipse {
        // It keeps what it wants to keep, and knows whom it wants to know.
        config.set_record_filtering(kad::StoreInserts::FilterBoth);
        config.set_kbucket_inserts(kad::BucketInserts::Manual);
    }
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
    kad.set_mode(Some(kad::Mode::Server));
    let by_hand = matches!(kind, ScriptKind::FloodGossip | ScriptKind::WrapSequences | ScriptKind::Impostor);
    let version = if kind == ScriptKind::AnotherMajor { stranger::VERSION } else { PROTOCOL_VERSION };
    // Messages are told apart by their author's numbers, not by content, and for a second only: so the same one can be sent
    // again and again, and does not go round among several adversaries without end.
    let gossip_config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .duplicate_cache_time(Duration::from_secs(1))
        .build()?;
    let protocol = |name| [(StreamProtocol::new(name), ProtocolSupport::Full)];
    let requests = || request_response::Config::default().with_request_timeout(REQUEST_TIMEOUT);
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    let gossip = (!by_hand).then(|| gossipsub::Behaviour::new(signed, gossip_config)).transpose()?;
    let spouts = by_hand.then(|| {
        let codec = Spouting::new(overheard);
        request_response::Behaviour::with_codec(codec, protocol(gossip::PROTOCOL), requests())
    });
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify::Config::new(version.to_owned(), key.public())),
        ping: ping::Behaviour::default(),
        kad,
        gossip: gossip.into(),
        spouts: spouts.into(),
        blocks: streams::Behaviour::new(StreamProtocol::new(blocks::PROTOCOL)),
        heads: request_response::Behaviour::new(protocol(sync::protocol::PROTOCOL), requests()),
        relay: (kind == ScriptKind::FalseRelay).then(|| false_relay::relay(id)).into(),
    };
    let config =
        swarm::Config::with_executor(spawner).with_idle_connection_timeout(Duration::from_secs(24 * 3600));
    let mut swarm = Swarm::new(transport, behaviour, id, config);
    if kind == ScriptKind::FalseRelay {
        swarm.add_external_address(false_relay::ELSEWHERE.parse()?);
    }
    Ok(swarm)
}
