//! libp2p's base transport over any [`Net`]: byte streams between simulated hosts.
//!
//! Addresses are `/ip4|ip6/<address>/tcp/<port>`, or to be dialled `/dns|dns4/<name>/tcp/<port>`, with or without a peer at the end.
//! Every stream that opens or closes, and every read that yields bytes, is told to a [`Tap`]; before a write a [`Gate`] is asked.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    multiaddr::Protocol,
};
use tokio::time::{Sleep, sleep};

use crate::net::{Accept, Net};

/// How long an answer of a name server takes: one of the provider, which has it ready.
pub const LOOKUP: Duration = Duration::from_millis(20);

/// What happened to a byte stream of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    /// It stands; the node dialled it, or else the other side did.
    Opened {
        /// Whether the node dialled.
        dialled: bool,
    },
    /// It yielded these bytes.
    Delivered(&'a [u8]),
    /// The node let go of it.
    Closed,
}

/// Is told what happens to the streams of a node, and which socket is at their other end.
#[derive(Clone)]
pub struct Tap(Arc<Told>);

type Told = dyn Fn(SocketAddr, Wire<'_>) + Send + Sync;

impl Tap {
    /// A tap that calls `told`, which must not block.
    pub fn new(told: impl Fn(SocketAddr, Wire<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

/// Whether a stream may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// At most so many bytes.
    Now(usize),
    /// The link is busy for so long.
    Busy(Duration),
    /// What was to be written is lost, and is sent again after so long.
    Lost(Duration),
}

/// Is asked before a stream writes.
pub trait Gate: Send + Sync {
    /// Whether bytes may be written `from` one host to another now; `losses` says how often they were lost already.
    fn ask(&self, way: (IpAddr, IpAddr), now: Duration, bytes: usize, losses: u32) -> Passage;
}

/// A gate that lets everything pass.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl Gate for Open {
    fn ask(&self, _: (IpAddr, IpAddr), _: Duration, bytes: usize, _: u32) -> Passage {
        Passage::Now(bytes)
    }
}

/// Knows where names lead.
pub trait Resolve: Send + Sync {
    /// Where a name leads now.
    fn resolve(&self, name: &str) -> Option<IpAddr>;
}

impl Resolve for () {
    fn resolve(&self, _: &str) -> Option<IpAddr> {
        None
    }
}

/// What every stream of a host has.
#[derive(Clone)]
struct Site<N> {
    net: N,
    tap: Tap,
    gate: Arc<dyn Gate>,
}

/// A byte stream between two hosts.
pub struct Stream<N: Net> {
    inner: N::Stream,
    remote: SocketAddr,
    site: Site<N>,
    /// Until when nothing can be written, where that is so.
    pause: Option<Pin<Box<Sleep>>>,
    /// How often what is to be written was lost.
    losses: u32,
    /// Bytes that may be written.
    granted: Option<usize>,
}

impl<N: Net> fmt::Debug for Stream<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stream with {}", self.remote)
    }
}

impl<N: Net> Stream<N> {
    fn new(inner: N::Stream, remote: SocketAddr, dialled: bool, site: Site<N>) -> Self {
        (site.tap.0)(remote, Wire::Opened { dialled });
        Self { inner, remote, site, pause: None, losses: 0, granted: None }
    }

    /// How many of some bytes the link takes, once it takes any.
    fn poll_grant(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(granted) = self.granted {
                return Poll::Ready(granted.min(bytes));
            }
            let now = self.site.net.elapsed();
            let way = (self.site.net.host(), self.remote.ip());
            let wait = match self.site.gate.ask(way, now, bytes, self.losses) {
                Passage::Now(granted) => {
                    self.granted = Some(granted);
                    continue;
                }
                Passage::Busy(wait) => wait,
                Passage::Lost(wait) => {
                    self.losses += 1;
                    wait
                }
            };
            self.pause = Some(Box::pin(sleep(wait)));
        }
    }
}

impl<N: Net> Drop for Stream<N> {
    fn drop(&mut self) {
        (self.site.tap.0)(self.remote, Wire::Closed);
    }
}

impl<N: Net> AsyncRead for Stream<N> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if read > 0 {
            (self.site.tap.0)(self.remote, Wire::Delivered(&buffer[..read]));
        }
        Poll::Ready(Ok(read))
    }
}

impl<N: Net> AsyncWrite for Stream<N> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let granted = ready!(self.poll_grant(cx, bytes.len()));
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[..granted]));
        (self.granted, self.losses) = (None, 0);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Listens and dials on one host.
pub struct NetTransport<N: Net> {
    site: Site<N>,
    names: Arc<dyn Resolve>,
    /// Whether dials come from an open port, where the swarm asks for that: without, no hole can be punched.
    reuses_ports: bool,
    /// The ports that are open, in the order in which they were opened.
    ports: Arc<Mutex<Vec<u16>>>,
    listeners: VecDeque<Listener<N>>,
    closed: VecDeque<(ListenerId, Result<(), io::Error>)>,
    waker: Option<Waker>,
}

struct Listener<N: Net> {
    id: ListenerId,
    events: BoxStream<'static, io::Result<Accepted<N>>>,
}

enum Accepted<N: Net> {
    Bound(Multiaddr),
    Stream { stream: Box<Stream<N>>, local: Multiaddr, remote: Multiaddr },
}

impl<N: Net> NetTransport<N> {
    /// The transport of a host.
    pub fn new(net: N, tap: Tap, gate: Arc<dyn Gate>, names: Arc<dyn Resolve>) -> Self {
        let site = Site { net, tap, gate };
        let (listeners, closed, ports) = Default::default();
        Self { site, names, reuses_ports: false, ports, listeners, closed, waker: None }
    }

    /// Dials from an open port, where the swarm asks for that.
    #[must_use]
    pub fn reusing_ports(mut self) -> Self {
        self.reuses_ports = true;
        self
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The address of a socket.
pub fn multiaddr(socket: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port()))
}

/// The socket of an address; none where it is no TCP address with a number.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    matches!(parts.next(), None | Some(Protocol::P2p(_))).then(|| SocketAddr::new(ip, port))
}

/// The name and the port of an address that begins with a name.
fn named(address: &Multiaddr) -> Option<(String, u16)> {
    let mut parts = address.iter();
    let (Protocol::Dns(name) | Protocol::Dns4(name)) = parts.next()? else { return None };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    matches!(parts.next(), None | Some(Protocol::P2p(_))).then(|| (name.into_owned(), port))
}

/// Binds, then accepts without end; the first failure ends it.
fn listen<N: Net>(
    bind: SocketAddr,
    site: Site<N>,
    ports: Arc<Mutex<Vec<u16>>>,
) -> BoxStream<'static, io::Result<Accepted<N>>> {
    enum State<N: Net> {
        Unbound,
        Bound(N::Listener, Multiaddr),
        Failed,
    }
    stream::unfold((State::<N>::Unbound, site), move |(state, site)| {
        let ports = ports.clone();
        async move {
            let bound = match state {
                State::Unbound => {
                    let bound = async {
                        let listener = site.net.listen(bind).await?;
                        let port = listener.port()?;
                        ports.lock().unwrap_or_else(PoisonError::into_inner).push(port);
                        // It listens on the unspecified address, and peers must be told this one.
                        Ok((listener, multiaddr(SocketAddr::new(site.net.host(), port))))
                    };
                    bound.await.map(|(listener, local)| (Accepted::Bound(local.clone()), listener, local))
                }
                State::Bound(mut listener, local) => listener.accept().await.map(|(stream, remote)| {
                    let stream = Stream::new(stream, remote, false, site.clone());
                    let remote = multiaddr(remote);
                    (
                        Accepted::Stream { stream: Box::new(stream), local: local.clone(), remote },
                        listener,
                        local,
                    )
                }),
                State::Failed => return None,
            };
            Some(match bound {
                Ok((accepted, listener, local)) => (Ok(accepted), (State::Bound(listener, local), site)),
                Err(error) => (Err(error), (State::Failed, site)),
            })
        }
    })
    .boxed()
}

impl<N: Net> Transport for NetTransport<N> {
    type Output = Stream<N>;
    type Error = io::Error;
    type ListenerUpgrade = future::Ready<io::Result<Stream<N>>>;
    type Dial = BoxFuture<'static, io::Result<Stream<N>>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let bind = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        self.listeners
            .push_back(Listener { id, events: listen(bind, self.site.clone(), self.ports.clone()) });
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(at) = self.listeners.iter().position(|listener| listener.id == id) else { return false };
        self.listeners.remove(at);
        self.closed.push_back((id, Ok(())));
        self.wake();
        true
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let site = self.site.clone();
        let is_reused = self.reuses_ports && options.port_use == PortUse::Reuse;
        let port = self.ports.lock().unwrap_or_else(PoisonError::into_inner).first().copied();
        let from = port.filter(|_| is_reused);
        if let Some((name, port)) = named(&address) {
            let names = self.names.clone();
            return Ok(async move {
                sleep(LOOKUP).await;
                let ip = names.resolve(&name).ok_or(io::ErrorKind::NotFound)?;
                let remote = SocketAddr::new(ip, port);
                Ok(Stream::new(site.net.dial(remote, from).await?, remote, true, site))
            }
            .boxed());
        }
        let remote = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        Ok(async move { Ok(Stream::new(site.net.dial(remote, from).await?, remote, true, site)) }.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some((listener_id, reason)) = self.closed.pop_front() {
            return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason });
        }
        // Whoever had something to say goes to the back, so that a busy listener does not silence the others.
        for _ in 0..self.listeners.len() {
            let Some(mut listener) = self.listeners.pop_front() else { break };
            let listener_id = listener.id;
            let event = match listener.events.poll_next_unpin(cx) {
                Poll::Pending => {
                    self.listeners.push_back(listener);
                    continue;
                }
                Poll::Ready(Some(Ok(Accepted::Bound(listen_addr)))) => {
                    TransportEvent::NewAddress { listener_id, listen_addr }
                }
                Poll::Ready(Some(Ok(Accepted::Stream { stream, local, remote }))) => {
                    TransportEvent::Incoming {
                        listener_id,
                        upgrade: future::ready(Ok(*stream)),
                        local_addr: local,
                        send_back_addr: remote,
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Err(error) });
                }
                Poll::Ready(None) => {
                    return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) });
                }
            };
            self.listeners.push_back(listener);
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_sockets_and_come_back() {
        let peer = libp2p::PeerId::random();
        for text in ["/ip4/10.0.0.1/tcp/4001", "/ip6/fd00::1/tcp/4001"] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(multiaddr(socket(&address).unwrap()), address);
            assert_eq!(socket(&address.clone().with(Protocol::P2p(peer))), socket(&address));
        }
        for text in
            ["/dns4/example.org/tcp/1", "/ip4/10.0.0.1/udp/1", "/ip4/10.0.0.1", "/ip4/10.0.0.1/tcp/1/ws"]
        {
            assert_eq!(socket(&text.parse().unwrap()), None, "{text}");
        }
        let name = named(&format!("/dns4/example.org/tcp/1/p2p/{peer}").parse().unwrap());
        assert_eq!(name, Some(("example.org".to_owned(), 1)));
        assert_eq!(named(&"/ip4/10.0.0.1/tcp/4001".parse().unwrap()), None);
    }
}
