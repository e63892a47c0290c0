//! libp2p's own behaviours, configured and joined.

use std::{collections::HashSet, num::NonZeroUsize, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, allow_block_list, gossipsub, identify,
    identity::Keypair,
    kad, ping, relay, request_response,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use sha2::{Digest, Sha256};

use super::{
    Metrics, Settings, admission,
    codec::Cbor,
    gossip,
    handshakes::Latest,
    identification, kademlia, logs,
    reach::{candidates, dial_back, punching, relaying},
    records::{self, Records},
    streams,
};
use crate::{
    config::{Reach, Role},
    fetch, hello,
    limits::{
        DIAL_BACK_BYTES_MAX, FETCH_TIMEOUT_MAX, GOSSIP_BYTES_MAX, HEADS_PAGE_BYTES_MAX,
        HEADS_REQUEST_BYTES_MAX, HELLO_BYTES_MAX, LOGS_ASKED_PER_PEER_MAX,
    },
    peers::limits::{
        ESTABLISHED_PER_PEER_MAX, PENDING_INCOMING_MAX, PENDING_INCOMING_PER_ADDRESS_MAX,
        PENDING_OUTGOING_MAX, RELAYED_PER_PEER_MAX,
    },
    sync,
};

/// The protocol family and version that Identify tells.
pub const PROTOCOL_VERSION: &str = "/ggen/1.0.0";
/// The Kademlia protocol id.
pub const KAD_PROTOCOL: &str = "/ggen/kad/1.0.0";

/// How long one node may take at least to answer a request of a lookup: a round trip of four seconds. Not much more, since a lookup
/// waits so long for each dead node whose connection still stands.
const DHT_ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Disjoint paths of a lookup: the most that S/Kademlia found to help. libp2p has as many questions of a lookup in progress at once, and
/// asks no more nodes for it. Where half of a network has just died, only dead ones among three at a time, twice in a row, are not
/// rare, and take longer than a lookup has.
const DHT_PATHS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
/// After how long all buckets of the routing table are refreshed, as in go-libp2p. It costs a node in a network of a hundred 300
/// questions and 60 connections each time.
const ROUTING_REFRESH: Duration = Duration::from_secs(10 * 60);
/// Which part of the time of a lookup one answer may take. Whoever has links of five seconds for a round trip, by satellite or with
/// full buffers, gives lookups a minute (`query_timeout_secs`), and so twelve seconds to each answer.
const DHT_ANSWER_SHARE: u32 = 5;

/// Streams of one connection for greetings.
const HELLO_STREAMS_MAX: usize = 4;
/// Streams of one connection for questions whether this node gets through: an honest peer has one open.
const DIAL_BACK_STREAMS_MAX: usize = 2;
/// Streams of one connection for logs: as many each way as one peer is asked for at once, and what has just ended.
const LOGS_STREAMS_MAX: usize = 2 * LOGS_ASKED_PER_PEER_MAX + 2;
/// Streams of one connection for heads.
const HEADS_STREAMS_MAX: usize = 12;

/// Everything a node speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First, so that it sees the end of whatever it admitted.
    pub(super) admission: admission::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) identify: identification::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) kad: kademlia::Behaviour,
    pub(super) gossip: gossip::Behaviour,
    pub(super) blocks: streams::Behaviour,
    pub(super) logs: request_response::Behaviour<logs::Codec>,
    pub(super) heads: request_response::Behaviour<Cbor<sync::protocol::Request, sync::protocol::Answer>>,
    pub(super) hello: request_response::Behaviour<Cbor<hello::Hello, hello::Hello>>,
    pub(super) dial_back: request_response::Behaviour<Cbor<dial_back::Ask, dial_back::Answer>>,
    pub(super) relay_client: relay::client::Behaviour,
    pub(super) relay: Toggle<relaying::Behaviour>,
    pub(super) punching: punching::Behaviour,
    pub(super) candidates: candidates::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        key: &Keypair,
        settings: &Settings,
        latest: Latest,
        relay_client: relay::client::Behaviour,
        metrics: &Metrics,
    ) -> Result<Self, super::Error> {
        let id = key.public().to_peer_id();
        let bounds = admission::Bounds {
            pending_outgoing: PENDING_OUTGOING_MAX,
            pending_incoming: PENDING_INCOMING_MAX,
            pending_incoming_per_address: PENDING_INCOMING_PER_ADDRESS_MAX,
            established: settings.connections_max as usize,
            trimmed_above: settings.connections.high,
            established_per_peer: ESTABLISHED_PER_PEER_MAX,
            relayed_per_peer: RELAYED_PER_PEER_MAX,
        };
        Ok(Self {
            admission: admission::Behaviour::new(bounds, latest),
            blocked: allow_block_list::Behaviour::default(),
            identify: identification::Behaviour::new(
                identify::Behaviour::new(described(key)),
                // Who finds out that it is behind a NAT goes on telling its neighbours where they can find it.
                settings.reach == Reach::Relay,
            ),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(Duration::from_secs(15))
                    // With the interval it says how long a cut cable goes unnoticed: 54 seconds at most, since libp2p tells of the
                    // third ping in a row that is lost.
                    .with_timeout(Duration::from_secs(13)),
            ),
            kad: kademlia::Behaviour::new(dht(id, settings)),
            gossip: gossip::Behaviour::new(gossipsub(key, settings, metrics)?),
            blocks: streams::Behaviour::new(StreamProtocol::new(fetch::protocol::PROTOCOL)),
            logs: request_response::Behaviour::with_codec(
                logs::Codec::limited(settings.line.clone()),
                [(
                    StreamProtocol::new(fetch::log::protocol::PROTOCOL),
                    request_response::ProtocolSupport::Full,
                )],
                request_response::Config::default()
                    // The codec gives up much earlier where nothing moves.
                    .with_request_timeout(FETCH_TIMEOUT_MAX)
                    .with_max_concurrent_streams(LOGS_STREAMS_MAX),
            ),
            heads: request_response::Behaviour::with_codec(
                Cbor::new(HEADS_REQUEST_BYTES_MAX, HEADS_PAGE_BYTES_MAX),
                [(StreamProtocol::new(sync::protocol::PROTOCOL), request_response::ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(Duration::from_secs(20))
                    .with_max_concurrent_streams(HEADS_STREAMS_MAX),
            ),
            hello: request_response::Behaviour::with_codec(
                Cbor::new(HELLO_BYTES_MAX, HELLO_BYTES_MAX),
                [(StreamProtocol::new(hello::PROTOCOL), request_response::ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(Duration::from_secs(20))
                    .with_max_concurrent_streams(HELLO_STREAMS_MAX),
            ),
            dial_back: request_response::Behaviour::with_codec(
                Cbor::new(DIAL_BACK_BYTES_MAX, DIAL_BACK_BYTES_MAX),
                [(StreamProtocol::new(dial_back::PROTOCOL), request_response::ProtocolSupport::Full)],
                request_response::Config::default()
                    // A dial takes ten seconds at most.
                    .with_request_timeout(Duration::from_secs(20))
                    .with_max_concurrent_streams(DIAL_BACK_STREAMS_MAX),
            ),
            relay_client,
            relay: settings.relay_server.then(|| relaying::server(id, settings.role)).into(),
            punching: punching::Behaviour::new(id),
            candidates: candidates::Behaviour::default(),
        })
    }
}

/// What this node tells of itself, and what becomes of what others tell.
fn described(key: &Keypair) -> identify::Config {
    identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
        .with_agent_version(format!("ggen/{}", env!("CARGO_PKG_VERSION")))
        .with_push_listen_addr_updates(true)
        // It would dial what peers tell as it stands. What is acceptable of it goes to the address book.
        .with_cache_size(0)
}

/// Kademlia ([paper](https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf)) with disjoint lookup paths, as
/// [S/Kademlia](https://doi.org/10.1109/ICPADS.2007.4447808) has them, and with every inbound record validated by us.
fn dht(id: PeerId, settings: &Settings) -> kad::Behaviour<Records> {
    let mut config = kad::Config::new(StreamProtocol::new(KAD_PROTOCOL));
    config
        .disjoint_query_paths(true)
        .set_parallelism(DHT_PATHS)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_query_timeout(settings.query_timeout)
        .set_record_ttl(Some(records::LEASE))
        .set_replication_factor(NonZeroUsize::new(20).expect("not zero"))
        // What is held for others is given on and renewed by this node's own rules: see `heads::moves`.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .set_max_packet_size(16 * 1024)
        .set_substreams_timeout(answer_timeout(settings))
        .set_periodic_bootstrap_interval(Some(ROUTING_REFRESH));
    let mut kad = kad::Behaviour::with_config(id, Records::new(id), config);
    kad.set_mode(Some(if settings.dht_server { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}

/// How long a node may take to answer a request of a lookup.
pub(super) fn answer_timeout(settings: &Settings) -> Duration {
    DHT_ANSWER_TIMEOUT.max(settings.query_timeout / DHT_ANSWER_SHARE)
}

/// Gossipsub ([specification](https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md)): strictly
/// signed, scored, forwarded only after our validation, and identified by [`message_id`].
fn gossipsub(
    key: &Keypair,
    settings: &Settings,
    metrics: &Metrics,
) -> Result<gossipsub::Behaviour, super::Error> {
    let config = gossipsub::ConfigBuilder::default()
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .gossip_factor(told_of_messages(settings.role))
        .message_id_fn(message_id)
        .build()
        .map_err(|error| super::Error::Setup(error.to_string()))?;
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    let silent = || {
        gossipsub::Behaviour::new(signed.clone(), config.clone())
            .map_err(|error| super::Error::Setup(error.to_owned()))
    };
    let mut gossip = match metrics
        .register("gossip", |registry| silent().map(|it| it.with_metrics(registry, Default::default())))
    {
        Some(counted) => counted?,
        None => silent()?,
    };
    // Addresses shared by many peers are punished only beyond what a loopback or an office network looks like.
    let parameters = gossipsub::PeerScoreParams {
        ip_colocation_factor_threshold: 32.0,
        ip_colocation_factor_whitelist: HashSet::from([
            std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::Ipv6Addr::LOCALHOST.into(),
        ]),
        ..gossipsub::PeerScoreParams::default()
    };
    gossip
        .with_peer_score(parameters, gossipsub::PeerScoreThresholds::default())
        .map_err(super::Error::Setup)?;
    Ok(gossip)
}

/// The share of those outside its mesh that a node tells, in each heartbeat, which messages it has.
///
/// A hub's mesh has room for a dozen. Its spokes know hubs only, so that whoever is told by none of them hears of a package only
/// when heads are exchanged again, a minute later: a hub tells all of them. Announcements are rare, and an id has 32 bytes.
fn told_of_messages(role: Role) -> f64 {
    if role == Role::Hub { 1.0 } else { 0.25 }
}

/// What counts as the same message: topic, author and content, and not the sequence number, under which an author could repeat
/// itself. The author counts because what is over its budget is passed over: were the content alone to count, whoever has no
/// budget left could sign what others announce, and the honest message would be known already where it arrives second.
fn message_id(message: &gossipsub::Message) -> gossipsub::MessageId {
    let author = message.source.map(|author| author.to_bytes()).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [message.topic.as_str().as_bytes(), &author] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(&message.data);
    gossipsub::MessageId::from(hash.finalize().to_vec())
}

/// How invalid announcements of one topic count against the peer that sent them.
///
/// Mesh delivery rates are not scored: packages are announced rarely, and silence is no fault.
pub(super) fn topic_score() -> gossipsub::TopicScoreParams {
    gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_cap: 20.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.9,
        ..gossipsub::TopicScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_tell_of_themselves_is_dialled_by_nobody_unseen() {
        assert_eq!(described(&Keypair::generate_ed25519()).cache_size(), 0);
    }

    #[test]
    fn the_same_content_of_another_author_is_another_message() {
        let topic = gossipsub::IdentTopic::new("heads").hash();
        let message = |author: PeerId, sequence: u64| gossipsub::Message {
            source: Some(author),
            data: b"a head".to_vec(),
            sequence_number: Some(sequence),
            topic: topic.clone(),
        };
        let (honest, other) = (PeerId::random(), PeerId::random());
        assert_eq!(
            message_id(&message(honest, 1)),
            message_id(&message(honest, 2)),
            "a repetition is no news"
        );
        assert_ne!(message_id(&message(honest, 1)), message_id(&message(other, 1)));
    }
}
