//! A libp2p peer that does whatever a test tells it to.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use ggen_marketplace::{
    content::ContentId,
    fetch::{
        self,
        protocol::{ASK_BYTES, Ask, Told, encode_block},
    },
    network::{self, streams},
    sync,
};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    kad::{
        self,
        store::{MemoryStore, RecordStore},
    },
    multiaddr::Protocol,
    noise, ping, request_response,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts},
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{SOON, eventually};

/// The topic of the guide.
pub(crate) const TOPIC: &str = "/ggen/packages/v1";

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) blocks: streams::Behaviour,
    pub(crate) logs: request_response::Behaviour<Frames>,
    pub(crate) heads: request_response::Behaviour<Frames>,
    mute: Toggle<request_response::Behaviour<Mute>>,
}

/// Takes requests, keeps how each begins, and answers none of them.
#[derive(Clone, Default)]
pub(crate) struct Mute(Arc<Mutex<Vec<Vec<u8>>>>);

impl request_response::Codec for Mute {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut begin = vec![0; 512];
        let length = io.read(&mut begin).await?;
        begin.truncate(length);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(begin);
        std::future::pending().await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        std::future::pending().await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

/// Length-prefixed messages: requests without their length, answers as they go over the wire, so that they may lie.
#[derive(Clone, Default)]
pub(crate) struct Frames;

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
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
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
        io.write_all(&frame(&bytes)).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

/// A message with its length before it.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A message of the protocols of this project, with its length before it.
pub(crate) fn cbor(message: &impl serde::Serialize) -> Vec<u8> {
    frame(&serde_ipld_dagcbor::to_vec(message).unwrap())
}

/// A batch of blocks that a node wants of a peer.
pub(crate) struct Want {
    pub(crate) batch: u32,
    pub(crate) ids: Vec<ContentId>,
}

/// What is sent in the place of a block.
#[derive(Clone)]
pub(crate) enum Sent {
    Bytes(Vec<u8>),
    Missing,
    Later,
}

impl Want {
    /// An answer that sends these, one after another.
    pub(crate) fn answer(&self, sent: impl IntoIterator<Item = Sent>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (place, sent) in (0..).zip(sent) {
            match sent {
                Sent::Bytes(block) => bytes.extend(encode_block(self.batch, place, &block)),
                Sent::Missing => bytes.extend(Told::Missing.encode(self.batch, place)),
                Sent::Later => bytes.extend(Told::Later.encode(self.batch, place)),
            }
        }
        bytes
    }
}

/// Hands on what is asked over a stream, and writes whatever is replied; what is not replied to is never answered.
async fn read_wants(
    stream: Stream,
    wanted: mpsc::Sender<(Want, oneshot::Sender<Vec<u8>>)>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    loop {
        let mut head = [0; ASK_BYTES];
        reader.read_exact(&mut head).await?;
        let mut rest = vec![0; Ask::rest_bytes(&head).unwrap()];
        reader.read_exact(&mut rest).await?;
        let Ask::Want { batch, ids } = Ask::decode(&head, &rest).unwrap() else { continue };
        let (reply, answer) = oneshot::channel();
        if wanted.send((Want { batch, ids }, reply)).await.is_err() {
            return Ok(());
        }
        if let Ok(answer) = answer.await {
            writer.write_all(&answer).await?;
            writer.flush().await?;
        }
    }
}

type Answering = Box<dyn FnMut(Vec<u8>) -> Option<Vec<u8>> + Send>;

/// How a peer behaves.
pub(crate) struct Script {
    pub(crate) key: Keypair,
    pub(crate) protocol_version: String,
    pub(crate) topic: String,
    /// A peer of another DHT is told of nobody, and nobody is told of it.
    pub(crate) kad_protocol: &'static str,
    /// The name of a protocol whose requests it takes and never answers.
    pub(crate) mute_protocol: Option<&'static str>,
    /// How such requests begin.
    pub(crate) left_unanswered: Arc<Mutex<Vec<Vec<u8>>>>,
    /// From wants to the bytes of the answer; none is no answer at all.
    pub(crate) fetch: Box<dyn FnMut(Want) -> Option<Vec<u8>> + Send>,
    /// From a request for a log to the bytes of the answer; none is no answer at all.
    pub(crate) log: Answering,
    /// From a request for heads to the bytes of the answer; none is no answer at all.
    pub(crate) heads: Answering,
}

impl Default for Script {
    fn default() -> Self {
        let page = sync::protocol::Page { epoch: 1, next: 0, done: true, heads: Vec::new() };
        Self {
            key: Keypair::generate_ed25519(),
            protocol_version: network::PROTOCOL_VERSION.to_owned(),
            topic: TOPIC.to_owned(),
            kad_protocol: network::KAD_PROTOCOL,
            mute_protocol: None,
            left_unanswered: Arc::default(),
            fetch: Box::new(|_| None),
            log: Box::new(|_| None),
            heads: Box::new(move |_| Some(cbor(&sync::protocol::Answer::Page(page.clone())))),
        }
    }
}

/// What a peer has seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connected: BTreeSet<PeerId>,
    pub(crate) identified: BTreeMap<PeerId, identify::Info>,
    pub(crate) subscribed: BTreeSet<PeerId>,
    /// Announcements that came, without those of its own.
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) fetch_requests: usize,
    pub(crate) log_requests: usize,
    pub(crate) heads_requests: usize,
    pub(crate) answers: Vec<Vec<u8>>,
    queries: BTreeMap<String, Query>,
}

#[derive(Default, Clone)]
struct Query {
    records: Vec<(PeerId, Vec<u8>)>,
    providers: BTreeSet<PeerId>,
    ended: bool,
}

type Command = Box<dyn FnOnce(&mut Swarm<Behaviour>) + Send>;

/// A running peer; dropping it closes its sockets.
pub(crate) struct Raw {
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    commands: mpsc::UnboundedSender<Command>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    /// Starts a peer that listens on loopback.
    pub(crate) async fn start(script: Script) -> Self {
        let mut swarm = swarm(&script);
        swarm.behaviour_mut().gossip.subscribe(&gossipsub::IdentTopic::new(&script.topic)).unwrap();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let peer = *swarm.local_peer_id();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(peer));
            }
        };
        let (commands, queue) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(run(swarm, script, queue, seen.clone()));
        Self { peer, address, commands, seen, task }
    }

    /// Starts a peer that hears gossip from one node only.
    pub(crate) async fn ear(address: &Multiaddr) -> Self {
        let raw = Self::start(Script { kad_protocol: "/deaf/kad/1.0.0", ..Script::default() }).await;
        raw.connect(address).await;
        raw
    }

    /// Starts a well-behaved peer and connects it.
    pub(crate) async fn connected(address: &Multiaddr) -> Self {
        let raw = Self::start(Script::default()).await;
        raw.connect(address).await;
        raw
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// Does something with the swarm.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Swarm<Behaviour>) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |swarm| drop(reply.send(work(swarm))));
        assert!(self.commands.send(command).is_ok(), "the peer runs");
        answer.await.unwrap()
    }

    /// Dials, and waits until the other side has said who it is and what it listens to.
    pub(crate) async fn connect(&self, address: &Multiaddr) {
        let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("an address with a peer id") };
        let dialled = address.clone();
        self.with(move |swarm| {
            swarm.behaviour_mut().kad.add_address(&peer, dialled.clone());
            dial(swarm, dialled);
        })
        .await;
        eventually("the raw peer is connected", SOON, async || {
            let seen = self.seen();
            (seen.identified.contains_key(&peer) && seen.subscribed.contains(&peer)).then_some(())
        })
        .await;
    }

    /// Announces bytes on a topic, as a signed Gossipsub message.
    pub(crate) async fn announce(&self, bytes: Vec<u8>) {
        let topic = gossipsub::IdentTopic::new(TOPIC);
        self.with(move |swarm| swarm.behaviour_mut().gossip.publish(topic, bytes).unwrap()).await;
    }

    /// Puts a record at one peer and waits for its answer.
    pub(crate) async fn put(&self, to: PeerId, key: &[u8], value: Vec<u8>) {
        let record = kad::Record::new(key.to_vec(), value);
        let id = self.with(move |swarm| {
            swarm.behaviour_mut().kad.put_record_to(record, [to].into_iter(), kad::Quorum::One)
        });
        self.ended(id.await).await;
    }

    /// Holds a record, whatever it is, for those who ask for it.
    pub(crate) async fn hold(&self, key: &[u8], value: Vec<u8>) {
        let record = kad::Record::new(key.to_vec(), value);
        self.with(move |swarm| swarm.behaviour_mut().kad.store_mut().put(record).unwrap()).await;
    }

    /// Asks the DHT for a record; by whom and what, without what this peer holds itself.
    pub(crate) async fn get(&self, key: &[u8]) -> Vec<(PeerId, Vec<u8>)> {
        let key = key.to_vec();
        let id = self.with(move |swarm| swarm.behaviour_mut().kad.get_record(key.into())).await;
        self.ended(id).await.records
    }

    /// Asks the DHT who provides something.
    pub(crate) async fn providers(&self, multihash: Vec<u8>) -> BTreeSet<PeerId> {
        let id = self.with(move |swarm| swarm.behaviour_mut().kad.get_providers(multihash.into())).await;
        self.ended(id).await.providers
    }

    /// Says in the DHT that it provides something.
    pub(crate) async fn provide(&self, multihash: Vec<u8>) {
        let id = self.with(move |swarm| swarm.behaviour_mut().kad.start_providing(multihash.into()).unwrap());
        self.ended(id.await).await;
    }

    async fn ended(&self, id: kad::QueryId) -> Query {
        let id = id.to_string();
        eventually("a lookup ends", SOON, async || {
            self.seen().queries.get(&id).filter(|query| query.ended).cloned()
        })
        .await
    }
}

/// Dials from a port of its own: the one listened on may be in use on another address of the machine by another test.
pub(crate) fn dial(swarm: &mut Swarm<Behaviour>, address: Multiaddr) {
    swarm.dial(DialOpts::unknown_peer_id().address(address).allocate_new_port().build()).unwrap();
}

/// A failed assertion while somebody looks poisons the lock; that failure is the one to report.
fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn swarm(script: &Script) -> Swarm<Behaviour> {
    let version = script.protocol_version.clone();
    let protocol = |name| [(StreamProtocol::new(name), request_response::ProtocolSupport::Full)];
    let mute = script.mute_protocol.map(protocol);
    let config = || request_response::Config::default().with_request_timeout(Duration::from_secs(120));
    SwarmBuilder::with_existing_identity(script.key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let kad_config = kad::Config::new(StreamProtocol::new(script.kad_protocol));
            let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), kad_config);
            kad.set_mode(Some(kad::Mode::Server));
            let gossip = gossipsub::ConfigBuilder::default().max_transmit_size(256 << 10).build()?;
            Ok(Behaviour {
                identify: identify::Behaviour::new(identify::Config::new(version, key.public())),
                ping: ping::Behaviour::default(),
                kad,
                gossip: gossipsub::Behaviour::new(
                    gossipsub::MessageAuthenticity::Signed(key.clone()),
                    gossip,
                )?,
                blocks: streams::Behaviour::new(StreamProtocol::new(fetch::protocol::PROTOCOL)),
                logs: request_response::Behaviour::new(protocol(fetch::log::protocol::PROTOCOL), config()),
                heads: request_response::Behaviour::new(protocol(sync::protocol::PROTOCOL), config()),
                mute: mute
                    .map(|protocol| {
                        let codec = Mute(script.left_unanswered.clone());
                        request_response::Behaviour::with_codec(codec, protocol, config())
                    })
                    .into(),
            })
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut script: Script,
    mut commands: mpsc::UnboundedReceiver<Command>,
    seen: Arc<Mutex<Seen>>,
) {
    // Channels of requests that are never answered stay open.
    let mut hanging = Vec::new();
    let (wanted, mut wants) = mpsc::channel::<(Want, oneshot::Sender<Vec<u8>>)>(64);
    loop {
        let event = tokio::select! { biased;
            Some((want, reply)) = wants.recv() => {
                locked(&seen).fetch_requests += 1;
                if let Some(answer) = (script.fetch)(want) {
                    let _ = reply.send(answer);
                }
                continue;
            }
            command = commands.recv() => match command {
                Some(command) => {
                    command(&mut swarm);
                    continue;
                }
                None => return,
            },
            event = swarm.select_next_some() => event,
        };
        let mut seen = locked(&seen);
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                seen.connected.insert(peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                seen.connected.remove(&peer_id);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                seen.identified.insert(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => match event {
                gossipsub::Event::Message { message, .. } => seen.messages.push(message.data),
                gossipsub::Event::Subscribed { peer_id, .. } => {
                    seen.subscribed.insert(peer_id);
                }
                _ => {}
            },
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => note_query(&mut seen, event),
            SwarmEvent::Behaviour(BehaviourEvent::Blocks(streams::Event::Accepted { stream, .. })) => {
                tokio::spawn(read_wants(stream, wanted.clone()));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Logs(request_response::Event::Message {
                message: request_response::Message::Request { request, channel, .. },
                ..
            })) => {
                seen.log_requests += 1;
                match (script.log)(request) {
                    Some(answer) => drop(swarm.behaviour_mut().logs.send_response(channel, answer)),
                    None => hanging.push(channel),
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Heads(request_response::Event::Message {
                message,
                ..
            })) => match message {
                request_response::Message::Request { request, channel, .. } => {
                    // Everybody is told that there is something new, whoever asks for it.
                    let is_news = serde_ipld_dagcbor::from_slice(&request).is_ok_and(
                        |request: sync::protocol::Request| request == sync::protocol::Request::News,
                    );
                    if is_news {
                        let noted = cbor(&sync::protocol::Answer::Noted);
                        let _ = swarm.behaviour_mut().heads.send_response(channel, noted);
                        continue;
                    }
                    seen.heads_requests += 1;
                    match (script.heads)(request) {
                        Some(answer) => drop(swarm.behaviour_mut().heads.send_response(channel, answer)),
                        None => hanging.push(channel),
                    }
                }
                request_response::Message::Response { response, .. } => seen.answers.push(response),
            },
            _ => {}
        }
    }
}

fn note_query(seen: &mut Seen, event: kad::Event) {
    let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
    let query = seen.queries.entry(id.to_string()).or_default();
    match result {
        kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
            if let Some(peer) = found.peer {
                query.records.push((peer, found.record.value));
            }
        }
        kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
            query.providers.extend(providers);
        }
        _ => {}
    }
    query.ended |= step.last;
}
