//! [QUIC](https://github.com/libp2p/specs/tree/master/quic) beside TCP: libp2p's own, within bounds, and how the two are dialled together.
//!
//! It brings its own security (TLS 1.3) and its own streams, so it joins TCP above Noise and Yamux. No simulation has it: it needs sockets.
//!
//! Anyone can begin a handshake in the name of any address, since nobody has to answer for it. Such a handshake costs this node some
//! computing and a place among those in progress. How fast they are begun is bounded here; how many there are, by
//! [`admission`](super::admission), apart from those over TCP: a flood over UDP keeps nobody out who comes over TCP. What comes faster
//! waits in quinn, 65 536 first packets at most, and is dropped beyond that.
//!
//! Of a peer with addresses of both kinds, TCP is dialled first, and QUIC where that has not led to a connection within [`HEAD_START`], or
//! has failed. The first that stands ends the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{
    FutureExt, TryFutureExt,
    future::{self, BoxFuture, Either},
};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        Endpoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity,
    multiaddr::Protocol,
    quic,
};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use super::{
    names::{Named, Names},
    pace::Budget,
    peers::ip_of,
};
use crate::{
    limits::{
        QUIC_CONNECTION_BYTES_MAX, QUIC_HANDSHAKES_AT_ONCE_MAX, QUIC_HANDSHAKES_REFILL,
        QUIC_STREAM_BYTES_MAX, STREAMS_PER_CONNECTION_MAX,
    },
    peers::{limits::HANDSHAKE_TIMEOUT, policy},
};

/// How long a dial over TCP has before one over QUIC begins beside it, as
/// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305#section-5) has it among addresses. Measured, TCP moves blocks faster.
const HEAD_START: Duration = Duration::from_millis(250);
/// After this time without a packet a connection is dead: twice in a row what [`KEEP_ALIVE`] sent was lost.
const IDLE: Duration = Duration::from_secs(30);
/// How often something is sent on a connection where nothing else is: NATs forget a mapping of UDP after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Authenticated, multiplexed connections.
pub(super) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// QUIC for a node with this key, and the names of peers.
fn transport(key: &identity::Keypair, names: Names) -> Connections {
    let mut config = quic::Config::new(key);
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_idle_timeout = u32::try_from(IDLE.as_millis()).expect("it fits");
    config.keep_alive_interval = KEEP_ALIVE;
    config.max_concurrent_stream_limit = u32::try_from(STREAMS_PER_CONNECTION_MAX).expect("it fits");
    config.max_stream_data = QUIC_STREAM_BYTES_MAX;
    config.max_connection_data = QUIC_CONNECTION_BYTES_MAX;
    let inner = quic::tokio::Transport::new(config);
    let bounded = Bounded { inner, listens: BTreeSet::new(), used: None, rest: None };
    Named::new(bounded, names).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
}

/// Whether an address is one of QUIC.
pub fn is_quic(address: &Multiaddr) -> bool {
    !policy::is_relayed(address) && address.iter().any(|part| part == Protocol::QuicV1)
}

/// QUIC of which no more handshakes begin in a second than are allowed.
struct Bounded {
    inner: quic::tokio::Transport,
    /// The addresses of this machine that it listens on.
    listens: BTreeSet<IpAddr>,
    /// What was used of the budget.
    used: Option<(u32, Instant)>,
    /// Until when nothing is looked at, where the budget is used up.
    rest: Option<Pin<Box<Sleep>>>,
}

const HANDSHAKES: Budget = Budget::new(QUIC_HANDSHAKES_AT_ONCE_MAX, QUIC_HANDSHAKES_REFILL);

impl Bounded {
    /// From which port an address is dialled: not from one of loopback, where it is elsewhere.
    fn port_use(&self, address: &Multiaddr, wanted: PortUse) -> PortUse {
        let Some(ip) = ip_of(address).filter(|ip| !ip.is_loopback()) else { return wanted };
        let mut of_kind = self.listens.iter().filter(|own| own.is_ipv4() == ip.is_ipv4()).peekable();
        match of_kind.peek().is_some() && of_kind.all(IpAddr::is_loopback) {
            true => PortUse::New,
            false => wanted,
        }
    }
}

impl Transport for Bounded {
    type Output = (PeerId, quic::Connection);
    type Error = io::Error;
    type ListenerUpgrade = future::MapErr<quic::Connecting, fn(quic::Error) -> io::Error>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(failed))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let port_use = self.port_use(&address, options.port_use);
        let options = DialOpts { port_use, ..options };
        let dial = self.inner.dial(address, options).map_err(|error| error.map(failed))?;
        Ok(dial.map_err(failed).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        match &event {
            TransportEvent::Incoming { .. } => {
                let now = Instant::now();
                let used = self.used.get_or_insert((0, now));
                HANDSHAKES.owe(used, 1, now);
                if !HANDSHAKES.is_left(*used, now) {
                    self.rest = Some(Box::pin(sleep_until(now + QUIC_HANDSHAKES_REFILL)));
                }
            }
            TransportEvent::NewAddress { listen_addr, .. } => self.listens.extend(ip_of(listen_addr)),
            TransportEvent::AddressExpired { listen_addr, .. } => {
                self.listens.retain(|own| Some(*own) != ip_of(listen_addr));
            }
            _ => {}
        }
        let event = event.map_upgrade(|upgrade| upgrade.map_err(failed as fn(quic::Error) -> io::Error));
        Poll::Ready(event.map_err(failed))
    }
}

/// What failed, as the system said it where it did.
fn failed(error: quic::Error) -> io::Error {
    match error {
        quic::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// TCP and what goes through relays, and QUIC: one transport.
pub(super) struct Joined {
    streams: Connections,
    quic: Connections,
    race: Race,
    /// Whose turn it is to say something first.
    is_quics_turn: bool,
}

impl Joined {
    pub(super) fn new(streams: Connections, key: &identity::Keypair, names: Names) -> Self {
        Self { streams, quic: transport(key, names), race: Race::default(), is_quics_turn: false }
    }
}

impl Transport for Joined {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Connections as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        match is_quic(&address) {
            true => self.quic.listen_on(id, address),
            false => self.streams.listen_on(id, address),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.streams.remove_listener(id) || self.quic.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let peer = named(&address);
        if is_quic(&address) {
            let dial = self.quic.dial(address, options)?;
            let race = self.race.clone();
            // Where both ends dial at once, each waits for the other already.
            let head_start = peer.filter(|_| options.role == Endpoint::Dialer);
            return Ok(Box::pin(async move {
                match head_start {
                    Some(peer) if race.head_start(peer).await == Start::Needless => {
                        Err(io::Error::other("it was reached over TCP meanwhile"))
                    }
                    _ => dial.await,
                }
            }));
        }
        let is_of_both = is_of_both(&address);
        let running = peer.map(|peer| self.race.run(peer));
        let dial = self.streams.dial(address.clone(), options)?;
        let dial = async move {
            let dialled = dial.await;
            if let (Some(running), Ok(_)) = (&running, &dialled) {
                running.succeeded();
            }
            dialled
        };
        if !is_of_both {
            return Ok(dial.boxed());
        }
        let beside = self.quic.dial(address, options)?;
        Ok(either(dial.boxed(), beside.boxed()).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = &mut *self;
        let both = [&mut this.streams, &mut this.quic];
        let [first, second] = if this.is_quics_turn { [1, 0] } else { [0, 1] };
        for at in [first, second] {
            if let Poll::Ready(event) = Pin::new(&mut *both[at]).poll(cx) {
                this.is_quics_turn = at == 0;
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

/// The peer that an address names at its end.
fn named(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// Whether it is a name that may lead to addresses of both kinds.
fn is_of_both(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    matches!(parts.next(), Some(Protocol::Dnsaddr(_)))
        && matches!(parts.next(), None | Some(Protocol::P2p(_)))
        && !policy::is_relayed(address)
}

type Dial = BoxFuture<'static, io::Result<(PeerId, StreamMuxerBox)>>;

/// Dials both, `first` with a head start; yields what stands first, or why neither does.
async fn either(first: Dial, second: Dial) -> io::Result<(PeerId, StreamMuxerBox)> {
    let first = match future::select(first, Box::pin(sleep(HEAD_START))).await {
        Either::Left((Ok(connection), _)) => return Ok(connection),
        Either::Left((Err(error), _)) => return second.await.map_err(|other| neither(&error, &other)),
        Either::Right(((), first)) => first,
    };
    match future::select(first, second).await {
        Either::Left((Ok(connection), _)) | Either::Right((Ok(connection), _)) => Ok(connection),
        Either::Left((Err(error), second)) => second.await.map_err(|other| neither(&error, &other)),
        Either::Right((Err(other), first)) => first.await.map_err(|error| neither(&error, &other)),
    }
}

fn neither(tcp: &io::Error, quic: &io::Error) -> io::Error {
    let (tcp, quic) = (super::dialling::innermost(tcp), super::dialling::innermost(quic));
    io::Error::other(if tcp == quic { tcp } else { format!("{tcp}; over QUIC: {quic}") })
}

/// The dials over TCP in progress, by the peer that each names: those over QUIC wait for them a little.
#[derive(Clone, Default)]
struct Race(Arc<Mutex<BTreeMap<PeerId, watch::Sender<Dials>>>>);

/// The dials of a peer over TCP.
#[derive(Debug, Clone, Copy, Default)]
struct Dials {
    in_progress: usize,
    has_succeeded: bool,
}

/// What a dial over QUIC is to do when it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Now,
    /// Nothing: the peer is connected.
    Needless,
}

/// A dial over TCP.
struct Running {
    race: Race,
    peer: PeerId,
}

impl Race {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, watch::Sender<Dials>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a dial, until what is returned is dropped.
    fn run(&self, peer: PeerId) -> Running {
        let mut running = self.lock();
        let dials = running.entry(peer).or_insert_with(|| watch::Sender::new(Dials::default()));
        dials.send_modify(|dials| dials.in_progress += 1);
        Running { race: self.clone(), peer }
    }

    /// Waits until a dial of this peer has succeeded or all of them have failed, for [`HEAD_START`] at most.
    async fn head_start(&self, peer: PeerId) -> Start {
        let Some(mut running) = self.lock().get(&peer).map(watch::Sender::subscribe) else {
            return Start::Now;
        };
        let is_over = |dials: &Dials| dials.has_succeeded || dials.in_progress == 0;
        // That nobody is left to tell of them is the same as none.
        let _ = timeout(HEAD_START, running.wait_for(is_over)).await;
        if running.borrow().has_succeeded { Start::Needless } else { Start::Now }
    }
}

impl Running {
    fn succeeded(&self) {
        if let Some(dials) = self.race.lock().get(&self.peer) {
            dials.send_modify(|dials| dials.has_succeeded = true);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.race.lock();
        if let Some(dials) = running.get(&self.peer) {
            dials.send_modify(|dials| dials.in_progress -= 1);
            if dials.borrow().in_progress == 0 {
                running.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_goes_where_it_can_be_dialled() {
        let peer = PeerId::random();
        for (text, quic, both) in [
            ("/ip4/192.0.2.1/udp/4001/quic-v1".to_owned(), true, false),
            (format!("/dns4/a.example/udp/4001/quic-v1/p2p/{peer}"), true, false),
            ("/ip4/192.0.2.1/tcp/4001".to_owned(), false, false),
            ("/dns4/a.example/tcp/4001".to_owned(), false, false),
            ("/dnsaddr/a.example".to_owned(), false, true),
            (format!("/dnsaddr/a.example/p2p/{peer}"), false, true),
            (format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{peer}/p2p-circuit"), false, false),
            (format!("/dnsaddr/a.example/p2p/{peer}/p2p-circuit/p2p/{peer}"), false, false),
        ] {
            assert_eq!((is_quic(&address(&text)), is_of_both(&address(&text))), (quic, both), "{text}");
        }
    }

    #[test]
    fn nobody_elsewhere_is_dialled_from_loopback() {
        let config = quic::Config::new(&identity::Keypair::generate_ed25519());
        let inner = quic::tokio::Transport::new(config);
        let mut bounded = Bounded { inner, listens: BTreeSet::new(), used: None, rest: None };
        let [here, there] = ["/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/192.0.2.1/udp/1/quic-v1"].map(address);
        assert_eq!(bounded.port_use(&there, PortUse::Reuse), PortUse::Reuse);
        bounded.listens.insert("127.0.0.1".parse().unwrap());
        assert_eq!(bounded.port_use(&there, PortUse::Reuse), PortUse::New);
        assert_eq!(bounded.port_use(&here, PortUse::Reuse), PortUse::Reuse);
        bounded.listens.insert("10.0.0.1".parse().unwrap());
        assert_eq!(bounded.port_use(&there, PortUse::Reuse), PortUse::Reuse);
    }

    #[tokio::test]
    async fn quic_waits_for_tcp_a_little_and_no_longer_than_tcp_tries() {
        let (race, peer) = (Race::default(), PeerId::random());
        let other = race.run(PeerId::random());
        assert_eq!(race.head_start(peer).now_or_never(), Some(Start::Now), "nobody else dials it");
        let dials = [race.run(peer), race.run(peer)];
        let begun = Instant::now();
        assert_eq!(race.head_start(peer).await, Start::Now);
        assert!(begun.elapsed() >= HEAD_START);
        let mut waiting = pin!(race.head_start(peer));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(dials);
        assert_eq!(waiting.now_or_never(), Some(Start::Now), "both have failed");
        let dials = [race.run(peer), race.run(peer)];
        let mut waiting = pin!(race.head_start(peer));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        dials[0].succeeded();
        assert_eq!(waiting.now_or_never(), Some(Start::Needless));
        drop((dials, other));
        assert!(race.lock().is_empty());
    }

    #[tokio::test]
    async fn of_a_name_both_are_dialled_and_both_reasons_are_told() {
        let after = |wait: Duration, why: &'static str| -> Dial {
            async move {
                sleep(wait).await;
                Err(io::Error::other(why))
            }
            .boxed()
        };
        let begun = Instant::now();
        for tcp in [Duration::ZERO, HEAD_START * 2] {
            let failed = either(after(tcp, "refused"), after(Duration::ZERO, "silence")).await.err().unwrap();
            assert_eq!(failed.to_string(), "refused; over QUIC: silence");
        }
        assert!(begun.elapsed() >= HEAD_START * 2);
    }
}
