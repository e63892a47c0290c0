//! Misbehaving nodes: whole libp2p peers with a node's key, that speak a node's protocols and follow a script.
//!
//! Until its time has come an adversary is the shipped node; then that is shut down, and a `Stage` takes its place under the
//! same key, at the same address, with the same store. What it does to others it tells to the ledger as a [`Bite`]: a
//! script that never bites has shown nothing.

mod blocks;
mod double;
mod eclipse;
mod false_relay;
mod flood;
mod forge;
mod gossip;
mod heads;
mod identity;
mod impostor;
mod reading;
mod records;
mod replay;
mod stranger;
mod swarm;
mod whitewash;
mod wrap;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt;
use ggen_harness::transport::Tap;
use ggen_marketplace::{
    catalog,
    content::ContentId,
    fetch::{
        protocol::{Told, encode_block, encode_news},
        swarm::{Mark, News},
    },
    network::streams,
    package::PackageId,
    release::VerifiedHead,
    store::Store,
    sync::protocol::{self as sync, Page},
    time::Timestamp,
};
use libp2p::{
    Multiaddr, PeerId, Swarm, gossipsub, identify, identity::Keypair, kad, multiaddr::Protocol, relay,
    request_response, swarm::SwarmEvent,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::swarm::{Behaviour, BehaviourEvent, Wanted};
use crate::{
    engine::Seat,
    ledger::Shared,
    names::Names,
    scenario::{Flood, ScriptKind},
    weather::Weather,
};

/// Batches of wants that a script has not looked at yet.
const WANTS_QUEUED_MAX: usize = 64;
/// How often a script gets its turn.
const TURN: Duration = Duration::from_millis(500);
/// Turns in a second.
const TURNS_PER_SECOND: u64 = 2;
/// How many turns lie between two looks at whom it has lost.
const DIAL_TURNS: u64 = 10;
/// Heads of one package that are remembered.
const HEADS_KEPT_MAX: usize = 16;

/// What an adversary did to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bite {
    /// It sent other bytes in the place of a block.
    WrongBlock,
    /// It said that it does not have what it claims to provide.
    Withheld,
    /// It left a request unanswered.
    Stalled,
    /// It announced, stored or handed on a head that is not what its publisher signed.
    Forged,
    /// It announced, stored or handed on a head whose time is over.
    Replayed,
    /// It handed over something that is valid, and that nobody wants so often: an announcement, a record, who it is.
    Flooded,
    /// It was sent away, for what it says that it speaks.
    SentAway,
    /// It announced, stored or handed on a head, or a message, whose number came to its end or began again.
    Wrapped,
    /// It handed over a message under an author and number that stand for another message.
    Impersonated,
    /// It announced or handed on one of two states of a package for one place.
    Contradicted,
    /// It said that it connects somebody with a peer, and ended the connection at its first byte.
    Disconnected,
    /// It took a record that it stands before and kept it from everybody, or answered with an older one.
    Eclipsed,
}

/// What an adversary is made of.
pub(crate) struct Cast {
    /// Where it is.
    pub(crate) seat: Seat,
    pub(crate) node: usize,
    pub(crate) kind: ScriptKind,
    pub(crate) flood: Flood,
    pub(crate) key: Keypair,
    pub(crate) ip: std::net::IpAddr,
    pub(crate) port: u16,
    /// Every other node: whoever attacks a network has looked around in it.
    pub(crate) others: Vec<Multiaddr>,
    /// Whom it tells others of in the DHT.
    pub(crate) fellows: BTreeSet<PeerId>,
    /// Before whose record it stands.
    pub(crate) eclipsed: Option<PackageId>,
    /// What the honest node that it was has left.
    pub(crate) store: Store,
    pub(crate) topic: String,
    pub(crate) tap: Tap,
    pub(crate) weather: Weather,
    pub(crate) ledger: Shared,
    /// 32 bytes to make keys from.
    pub(crate) secret: [u8; 32],
}

/// What a script decides; the defaults are those of a peer that has nothing.
trait Script {
    /// A head came along that is valid.
    fn learned(&mut self, _: &mut Stage, _: &VerifiedHead) {}
    /// The last connection with somebody is gone.
    fn lost(&mut self, _: &mut Stage, _: PeerId) {}
    /// What it pushed of itself was handed over.
    fn pushed(&mut self, _: &mut Stage, _: PeerId) {}
    /// Somebody answered a request for heads.
    fn read(&mut self, _: &mut Stage, _: PeerId) {}
    /// Time has passed.
    fn turn(&mut self, _: &mut Stage) {}
    /// A message of gossip came along, where the script gossips by hand and listens.
    fn overheard(&mut self, _: &mut Stage, _: &gossip::Message) {}
    /// Somebody asks for blocks; none is no answer at all.
    fn blocks(&mut self, _: &mut Stage, _: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        Some(want.iter().map(|_| Sent::Missing).collect())
    }
    /// What it says that it has, to whoever follows a tree and asks for blocks.
    fn has(&mut self, _: &[ContentId]) -> Vec<ContentId> {
        Vec::new()
    }
    /// Somebody asked something in the DHT, and has its answer.
    fn asked(&mut self, _: &mut Stage, _: &kad::InboundRequest) {}
    /// It relayed a connection of a peer.
    fn relayed(&mut self, _: &mut Stage, _: PeerId) {}
    /// Somebody asks for heads; none is no answer at all.
    fn page(&mut self, _: &mut Stage, _: PeerId) -> Option<Page> {
        Some(page_of(Vec::new()))
    }
}

/// What is sent in the place of a block.
enum Sent {
    Bytes(Vec<u8>),
    Missing,
}

/// An answer to a batch of wants.
fn answer(batch: u32, sent: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, sent) in (0..).zip(sent) {
        match sent {
            Sent::Missing => bytes.extend(Told::Missing.encode(batch, place)),
            Sent::Bytes(block) => bytes.extend(encode_block(batch, place, block)),
        }
    }
    bytes
}

/// A page that holds these heads and ends the reading.
fn page_of(heads: Vec<Vec<u8>>) -> Page {
    let next = heads.len() as u64;
    Page { epoch: 1, next, done: true, heads: heads.into_iter().map(Into::into).collect() }
}

/// The peer that a script acts through.
struct Stage {
    swarm: Swarm<Behaviour>,
    topic: gossipsub::IdentTopic,
    cast: Cast,
    /// Valid heads by package, oldest first.
    heads: BTreeMap<String, Vec<VerifiedHead>>,
    claimed: BTreeSet<ContentId>,
    /// What the answer that is being made will have done, once it is handed over.
    impending: Vec<(Bite, PeerId)>,
    turns: u64,
    /// How many ids it has had before this one.
    ids: u32,
    /// Whether it wants another id.
    wants_another_id: bool,
    /// Where streams hand on what is asked over them.
    wanted: mpsc::Sender<Wanted>,
}

/// Follows a script until the host ends.
pub(crate) async fn run(cast: Cast) -> turmoil::Result {
    let (overheard, mut messages) = mpsc::channel(gossip::OVERHEARD_QUEUED_MAX);
    let topic = gossipsub::IdentTopic::new(&cast.topic);
    let mut swarm = swarm_of(&cast, &cast.key, overheard.clone())?;
    listen(&mut swarm, &cast, &topic)?;
    let mut script: Box<dyn Script> = match cast.kind {
        ScriptKind::CorruptBlocks => Box::new(blocks::Corrupt::default()),
        ScriptKind::Whitewash => Box::new(whitewash::Whitewash::default()),
        ScriptKind::Withhold => Box::new(blocks::Withhold::default()),
        ScriptKind::WithholdLogs => Box::new(blocks::WithholdLogs),
        ScriptKind::Stall => Box::new(blocks::Stall),
        ScriptKind::LieOfBlocks => Box::new(blocks::Lie::default()),
        ScriptKind::ForgeHeads => Box::new(forge::Forge::default()),
        ScriptKind::ReplayHeads => Box::new(replay::Replay),
        ScriptKind::AnotherMajor => Box::new(stranger::Stranger),
        ScriptKind::FalseRelay => Box::new(false_relay::FalseRelay),
        ScriptKind::Eclipse => Box::new(eclipse::Eclipse::new(cast.eclipsed.clone())),
        ScriptKind::FloodGossip => Box::new(flood::Flooding::new(cast.secret, cast.flood)),
        ScriptKind::IdentifyFlood => Box::new(identity::Introducing::new(cast.flood)),
        ScriptKind::ReadFlood => Box::new(reading::Reading::new(cast.flood)),
        ScriptKind::RecordFlood => Box::new(records::Storing::new(cast.secret, cast.flood)),
        ScriptKind::WrapSequences => Box::new(wrap::Wrap::new(cast.secret)),
        ScriptKind::SignTwice => Box::new(double::DoubleSigner::new(cast.secret, double::Ending::Owner)),
        ScriptKind::ResolveStolen => Box::new(double::DoubleSigner::new(cast.secret, double::Ending::Thief)),
        ScriptKind::RotateTwice => Box::new(double::DoubleSigner::new(cast.secret, double::Ending::None)),
        ScriptKind::Impostor => Box::new(impostor::Impostor::new(cast.secret)),
    };
    cast.ledger.lock().record(cast.node, format_args!("misbehaves: {}", cast.kind.as_str()));
    let remembered = remembered(&cast.store);
    let (heads, claimed) = (BTreeMap::new(), BTreeSet::new());
    let (wanted, mut wants) = mpsc::channel(WANTS_QUEUED_MAX);
    let mut stage = Stage {
        swarm,
        topic,
        cast,
        heads,
        claimed,
        impending: Vec::new(),
        turns: 0,
        ids: 0,
        wants_another_id: false,
        wanted,
    };
    for bytes in remembered {
        stage.heard(script.as_mut(), &bytes);
    }
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Channels of requests that are never answered stay open.
    let mut hanging = Vec::new();
    loop {
        tokio::select! { biased;
            event = stage.swarm.select_next_some() => {
                hanging.extend(stage.swarm_event(script.as_mut(), event));
            }
            Some(wanted) = wants.recv() => stage.wanted(script.as_mut(), wanted),
            Some(message) = messages.recv() => script.overheard(&mut stage, &message),
            _ = turns.tick() => {
                stage.look_around();
                script.turn(&mut stage);
                stage.turns += 1;
                if std::mem::take(&mut stage.wants_another_id) {
                    stage.take_another_id(script.as_mut(), overheard.clone())?;
                    hanging.clear();
                }
            }
        }
    }
}

/// A swarm under this key, which nobody can reach yet.
fn swarm_of(
    cast: &Cast,
    key: &Keypair,
    overheard: mpsc::Sender<gossip::Message>,
) -> turmoil::Result<Swarm<Behaviour>> {
    let base = cast.seat.transport(cast.ip, cast.tap.clone(), cast.weather.clone(), Names::default());
    swarm::swarm((base, cast.seat.spawner()), key, cast.kind, overheard)
}

/// Listens where the honest node did, and for what nodes announce.
fn listen(swarm: &mut Swarm<Behaviour>, cast: &Cast, topic: &gossipsub::IdentTopic) -> turmoil::Result {
    if let Some(gossip) = swarm.behaviour_mut().gossip.as_mut() {
        gossip.subscribe(topic)?;
    }
    let unspecified = if cast.ip.is_ipv4() { "/ip4/0.0.0.0" } else { "/ip6/::" };
    swarm.listen_on(format!("{unspecified}/tcp/{}", cast.port).parse()?)?;
    Ok(())
}

/// The heads that the honest node knew.
fn remembered(store: &Store) -> Vec<Vec<u8>> {
    store.read(|conn| Ok(catalog::after(conn, 0, usize::MAX, usize::MAX)?.heads)).unwrap_or_default()
}

impl Stage {
    /// Is somebody else from now on, at the same address: nobody knows the new id, and nothing is known of it.
    fn take_another_id(
        &mut self,
        script: &mut dyn Script,
        overheard: mpsc::Sender<gossip::Message>,
    ) -> turmoil::Result {
        self.ids += 1;
        let secret = Sha256::new().chain_update(self.cast.secret).chain_update("another id");
        let key = Keypair::ed25519_from_bytes(secret.chain_update(self.ids.to_be_bytes()).finalize())?;
        self.cast.ledger.lock().is_also(self.cast.node, key.public().to_peer_id());
        // The one before has to be gone before its port is free.
        self.swarm = swarm_of(&self.cast, &key, overheard)?;
        listen(&mut self.swarm, &self.cast, &self.topic)?;
        self.claimed.clear();
        self.impending.clear();
        self.turns = 0;
        let known: Vec<VerifiedHead> =
            self.heads.values().filter_map(|heads| heads.last()).cloned().collect();
        known.iter().for_each(|head| script.learned(self, head));
        Ok(())
    }

    /// Dials whom it knows and is not connected to.
    fn look_around(&mut self) {
        if !self.turns.is_multiple_of(DIAL_TURNS) {
            return;
        }
        for address in self.cast.others.clone() {
            let Some(Protocol::P2p(peer)) = address.iter().last() else { continue };
            if self.cast.fellows.contains(&peer) {
                self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
            }
            if !self.swarm.is_connected(&peer) {
                // Whoever has banned it does not answer; that is all right.
                let _ = self.swarm.dial(address);
            }
        }
    }

    fn swarm_event(
        &mut self,
        script: &mut dyn Script,
        event: SwarmEvent<BehaviourEvent>,
    ) -> Option<request_response::ResponseChannel<Vec<u8>>> {
        use request_response::{Event, Message};
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::InboundRequest { request })) => {
                script.asked(self, &request);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Pushed { peer_id, .. })) => {
                script.pushed(self, peer_id);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                self.heard(script, &message.data);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(relay::Event::CircuitReqAccepted {
                src_peer_id,
                ..
            })) => script.relayed(self, src_peer_id),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => script.lost(self, peer_id),
            SwarmEvent::Behaviour(BehaviourEvent::Blocks(streams::Event::Accepted {
                peer, stream, ..
            })) => {
                let wanted = self.wanted.clone();
                self.cast.seat.spawner().start(async move {
                    if let Err(error) = swarm::read_wants(peer, stream, wanted).await {
                        tracing::debug!(%peer, %error, "a stream that asked for blocks ended");
                    }
                });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Heads(Event::Message {
                peer,
                message: Message::Request { channel, .. },
                ..
            })) => {
                let Some(page) = script.page(self, peer) else { return Some(channel) };
                let sent = self
                    .swarm
                    .behaviour_mut()
                    .heads
                    .send_response(channel, encoded(&sync::Answer::Page(page)));
                self.answered(sent.is_ok());
            }
            SwarmEvent::Behaviour(BehaviourEvent::Heads(Event::Message {
                peer,
                message: Message::Response { .. },
                ..
            })) => script.read(self, peer),
            _ => {}
        }
        None
    }

    /// Answers a batch of wants as the script does.
    fn wanted(&mut self, script: &mut dyn Script, wanted: Wanted) {
        let Wanted { peer, batch, ids, follows, reply } = wanted;
        let has: Vec<Mark> = script.has(&ids).iter().map(Mark::of).collect();
        let claims = follows.iter().filter(|_| !has.is_empty());
        let mut bytes: Vec<u8> =
            claims.flat_map(|follow| encode_news(*follow, &News::Has(has.clone()))).collect();
        // What is said of a request that stays open is said all the same.
        let sent = script.blocks(self, peer, &ids);
        bytes.extend(sent.iter().flat_map(|sent| answer(batch, sent)));
        if !bytes.is_empty() {
            let is_sent = reply.send(bytes).is_ok();
            self.answered(is_sent && sent.is_some());
        }
    }

    /// Remembers a head, and lets the script act on it, where it is valid and new.
    fn heard(&mut self, script: &mut dyn Script, bytes: &[u8]) {
        let Ok(head) = VerifiedHead::verify(bytes, Timestamp::now()) else { return };
        let of_package = self.heads.entry(head.package_id().to_string()).or_default();
        if of_package.len() >= HEADS_KEPT_MAX || of_package.contains(&head) {
            return;
        }
        of_package.push(head.clone());
        script.learned(self, &head);
    }

    /// Says in the DHT that it provides the newest tree of a head.
    fn claim(&mut self, head: &VerifiedHead) {
        let Some(latest) = &head.head().latest else { return };
        if self.claimed.insert(latest.root) {
            let key = latest.root.multihash_bytes().into();
            if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(key) {
                tracing::debug!(%error, "a claim found no room");
            }
        }
    }

    /// Announces bytes; whether anybody was there to hear them.
    fn announce(&mut self, bytes: Vec<u8>) -> bool {
        let topic = self.topic.clone();
        let gossip = self.swarm.behaviour_mut().gossip.as_mut();
        gossip.is_some_and(|gossip| gossip.publish(topic, bytes).is_ok())
    }

    /// Puts a record into the DHT under a key that need not be its own.
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        let record = kad::Record::new(key.to_vec(), value);
        if let Err(error) = self.swarm.behaviour_mut().kad.put_record(record, kad::Quorum::One) {
            tracing::debug!(%error, "a record found no room");
        }
    }

    /// Tells the ledger what it has just done, and to whom where that is one node.
    fn bit(&self, bite: Bite, victim: Option<PeerId>) {
        let mut ledger = self.cast.ledger.lock();
        if self.ids == 0 {
            ledger.bit(self.cast.node, bite, victim);
        } else {
            ledger.bit_under_another_id(self.cast.node, bite, victim);
        }
    }

    /// Tells the ledger of blocks that it gives as they are.
    fn gave(&self, peer: PeerId, bytes: u64) {
        self.cast.ledger.lock().gave(self.cast.node, peer, bytes);
    }

    /// Keeps in mind what the answer that is being made does to whoever asked.
    fn bites_with_answer(&mut self, bite: Bite, victim: PeerId) {
        self.impending.push((bite, victim));
    }

    /// Tells the ledger what an answer has done, where it was handed over: whoever has given up is not bitten.
    fn answered(&mut self, is_sent: bool) {
        for (bite, victim) in std::mem::take(&mut self.impending).into_iter().filter(|_| is_sent) {
            self.bit(bite, Some(victim));
        }
    }

    /// Tells the ledger which bytes are no head that anybody should pass on.
    fn brand(&self, bytes: &[u8]) {
        self.cast.ledger.lock().branded(Sha256::digest(bytes).into());
    }

    /// Tells the ledger of a head that only those may pass on who know no newer one.
    fn outdated(&self, head: &VerifiedHead) {
        let digest = Sha256::digest(head.bytes()).into();
        let (package, sequence) = (head.package_id().to_string(), head.head().sequence.get());
        self.cast.ledger.lock().outdated(digest, package, sequence);
    }
}

fn encoded(message: &impl Serialize) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(message).expect("our own messages can be encoded")
}
