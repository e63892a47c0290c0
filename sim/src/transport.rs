//! libp2p's base transport over the TCP of turmoil: byte streams between simulated hosts.
//!
//! Addresses are `/ip4|ip6/<address>/tcp/<port>`, or to be dialled `/dns|dns4/<name>/tcp/<port>`, with or without a peer at the end. What is above the byte stream is the
//! shipped node's. Every stream that opens or closes, and every read that yields bytes, is told to a [`Tap`].

use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
};
use tokio::time::{Sleep, sleep};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    names::{self, Names},
    weather::{Passage, Weather},
};

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

/// What every stream of a host has.
#[derive(Debug, Clone)]
struct Site {
    /// The address of the host: turmoil listens on the unspecified address, and peers must be told this one.
    host: IpAddr,
    tap: Tap,
    weather: Weather,
}

/// A byte stream between two hosts.
#[derive(Debug)]
pub struct Stream {
    inner: Compat<TcpStream>,
    remote: SocketAddr,
    site: Site,
    /// Until when nothing can be written, where that is so.
    pause: Option<Pin<Box<Sleep>>>,
    /// How often what is to be written was lost.
    losses: u32,
    /// Bytes that may be written.
    granted: Option<usize>,
}

impl Stream {
    fn new(inner: TcpStream, remote: SocketAddr, dialled: bool, site: Site) -> Self {
        (site.tap.0)(remote, Wire::Opened { dialled });
        Self { inner: inner.compat(), remote, site, pause: None, losses: 0, granted: None }
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
            let now = turmoil::sim_elapsed().unwrap_or_default();
            let way = (self.site.host, self.remote.ip());
            let wait = match self.site.weather.ask(way, now, bytes, self.losses) {
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

impl Drop for Stream {
    fn drop(&mut self) {
        (self.site.tap.0)(self.remote, Wire::Closed);
    }
}

impl AsyncRead for Stream {
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

impl AsyncWrite for Stream {
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

/// Listens and dials on the turmoil host that polls it.
pub struct TurmoilTransport {
    site: Site,
    names: Names,
    listeners: VecDeque<Listener>,
    closed: VecDeque<(ListenerId, Result<(), io::Error>)>,
    waker: Option<Waker>,
}

struct Listener {
    id: ListenerId,
    events: BoxStream<'static, io::Result<Accepted>>,
}

enum Accepted {
    Bound(Multiaddr),
    Stream { stream: Box<Stream>, local: Multiaddr, remote: Multiaddr },
}

impl TurmoilTransport {
    /// The transport of the host with this address.
    pub(crate) fn new(host: IpAddr, tap: Tap, weather: Weather, names: Names) -> Self {
        let site = Site { host, tap, weather };
        Self { site, names, listeners: VecDeque::new(), closed: VecDeque::new(), waker: None }
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

/// Binds, then accepts for ever; the first failure ends it.
fn listen(bind: SocketAddr, site: Site) -> BoxStream<'static, io::Result<Accepted>> {
    enum State {
        Unbound,
        Bound(TcpListener, Multiaddr),
        Failed,
    }
    stream::unfold((State::Unbound, site), move |(state, site)| async move {
        let bound = match state {
            State::Unbound => {
                let bound = async {
                    let listener = TcpListener::bind(bind).await?;
                    let local = multiaddr(SocketAddr::new(site.host, listener.local_addr()?.port()));
                    Ok((listener, local))
                };
                bound.await.map(|(listener, local)| (Accepted::Bound(local.clone()), listener, local))
            }
            State::Bound(listener, local) => listener.accept().await.map(|(stream, remote)| {
                let stream = Stream::new(stream, remote, false, site.clone());
                let remote = multiaddr(remote);
                (Accepted::Stream { stream: Box::new(stream), local: local.clone(), remote }, listener, local)
            }),
            State::Failed => return None,
        };
        Some(match bound {
            Ok((accepted, listener, local)) => (Ok(accepted), (State::Bound(listener, local), site)),
            Err(error) => (Err(error), (State::Failed, site)),
        })
    })
    .boxed()
}

impl Transport for TurmoilTransport {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = future::Ready<io::Result<Stream>>;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let bind = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        self.listeners.push_back(Listener { id, events: listen(bind, self.site.clone()) });
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

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let site = self.site.clone();
        if let Some((name, port)) = named(&address) {
            let names = self.names.clone();
            return Ok(async move {
                sleep(names::LOOKUP).await;
                let ip = names.resolve(&name).ok_or(io::ErrorKind::NotFound)?;
                let remote = SocketAddr::new(ip, port);
                Ok(Stream::new(TcpStream::connect(remote).await?, remote, true, site))
            }
            .boxed());
        }
        let remote = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        Ok(async move { Ok(Stream::new(TcpStream::connect(remote).await?, remote, true, site)) }.boxed())
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
