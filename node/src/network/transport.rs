//! The one seam: from a base transport of byte streams to authenticated, multiplexed connections.
//!
//! Everything above the byte stream is the same wherever a node runs. Production passes [`tcp()`]; a simulation passes a
//! transport of its own. QUIC is no byte stream, and joins above it; see `network::quic`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, OrTransport, PortUse, TransportEvent, timeout::TransportTimeout,
        },
        upgrade,
    },
    identity,
    multiaddr::Protocol,
    noise, relay, tcp, yamux,
};
use rustix::net;

use super::{
    first_contact::FirstContact,
    handshakes::{Handshakes, Latest},
    names::{Named, Names},
    quic::Joined,
};
use crate::{limits::STREAMS_PER_CONNECTION_MAX, peers::limits::HANDSHAKE_TIMEOUT};

/// A byte stream that a base transport yields.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A base transport whose streams have lost their type.
pub type Base = Boxed<Box<dyn ByteStream>>;

/// Hides the type of a base transport.
pub fn base<T>(transport: T) -> Base
where
    T: Transport + Send + Unpin + 'static,
    T::Output: ByteStream,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    transport.map(|stream, _| Box::new(stream) as Box<dyn ByteStream>).boxed()
}

/// TCP, and the names of peers (`/dns*`, `/dnsaddr`), resolved again for each dial.
///
/// A `/dnsaddr` is followed from record to record, 32 lookups in all, and 16 of the addresses that it leads to are dialled at most.
pub fn tcp(names: Names) -> Base {
    base(Named::new(exclusive(), names))
}

/// TCP without names.
pub fn tcp_without_dns() -> Base {
    base(exclusive())
}

fn exclusive() -> Exclusive {
    Exclusive(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
}

/// TCP that listens only where nobody else does.
///
/// libp2p shares its ports (`SO_REUSEPORT`), so that it can dial from them. A second program of the same user that does so
/// too, such as another node, could then listen on the same port without an error, and the system would deal connections
/// out among the two.
struct Exclusive(tcp::tokio::Transport);

impl Transport for Exclusive {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<tcp::tokio::TcpStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if let Some(socket) = socket_of(&address) {
            probe(socket).map_err(TransportError::Other)?;
        }
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let shared = self.0.dial(address.clone(), options)?;
        if options.port_use == PortUse::New {
            return Ok(shared);
        }
        // The port that is listened on can be dialled from only while nobody has it on another address of this machine.
        let own = self.0.dial(address, DialOpts { port_use: PortUse::New, ..options })?;
        Ok(Box::pin(async move {
            match shared.await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => own.await,
                dialled => dialled,
            }
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The fixed address and port of a multiaddr; none where the system chooses the port, or where it is no TCP address.
fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if port != 0 => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Binds a socket that does not share its port, and closes it again.
fn probe(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
    let socket = net::socket(family, net::SocketType::STREAM, Some(net::ipproto::TCP))?;
    if address.is_ipv6() {
        net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // A port that was closed a moment ago is free.
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    Ok(())
}

/// Relays, without the addresses that they name.
///
/// Others are told the address at which this node itself reaches a relay. What the relay says instead would be kept with its listener
/// until that ends, and it can say something else each time that its place is renewed.
struct Unnamed<T>(T);

impl<T: Transport + Unpin> Transport for Unnamed<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        self.0.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll(cx)) {
                TransportEvent::NewAddress { .. } => {}
                event => return Poll::Ready(event),
            }
        }
    }
}

/// Adds [Noise](https://github.com/libp2p/specs/blob/master/noise/README.md) and
/// [Yamux](https://github.com/libp2p/specs/blob/master/yamux/README.md) to a base transport.
///
/// What leads through a relay is a byte stream as well, and goes below the same Noise and Yamux.
///
/// Where `quic` says whose names lead to it, there is QUIC beside it, which has both of its own.
///
/// The whole handshake has one deadline, so that a peer that connects and says nothing costs a bounded time; an inbound one can
/// be given up before it, through `latest`. The first one waits until it is written down that there is one.
///
/// # Errors
/// Where the key cannot sign the Noise handshake.
pub(super) fn authenticated(
    base: Base,
    through_relays: relay::client::Transport,
    quic: Option<Names>,
    key: &identity::Keypair,
    latest: Latest,
    first_contact: FirstContact,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
    // On the left, since the other one might take the beginning of such an address for all of it.
    let connections = self::base(OrTransport::new(Unnamed(through_relays), base))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let connections = match quic {
        Some(names) => Joined::new(connections, key, names).boxed(),
        None => connections,
    };
    let connections = connections
        .and_then(move |connection, _| {
            let first_contact = first_contact.clone();
            async move { first_contact.pass().await.map(|()| connection) }
        })
        .boxed();
    let connections = TransportTimeout::new(connections, HANDSHAKE_TIMEOUT).boxed();
    Ok(Handshakes::new(connections, latest).boxed())
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, task::Waker};

    use futures::future;

    use super::*;

    /// Tells what it is given.
    struct Fixed(VecDeque<TransportEvent<future::Pending<io::Result<()>>, io::Error>>);

    impl Transport for Fixed {
        type Output = ();
        type Error = io::Error;
        type ListenerUpgrade = future::Pending<io::Result<()>>;
        type Dial = future::Pending<io::Result<()>>;

        fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, _: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(future::pending())
        }

        fn poll(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            self.0.pop_front().map_or(Poll::Pending, Poll::Ready)
        }
    }

    #[test]
    fn of_what_a_relay_names_itself_nothing_is_kept() {
        let listener_id = ListenerId::next();
        let name = |n| format!("/ip4/203.0.113.250/tcp/{n}/p2p-circuit").parse().unwrap();
        let named = (1..100).map(|n| TransportEvent::NewAddress { listener_id, listen_addr: name(n) });
        let ended = TransportEvent::ListenerClosed { listener_id, reason: Ok(()) };
        let mut relay = Unnamed(Fixed(named.chain([ended]).collect()));
        let mut context = Context::from_waker(Waker::noop());
        let first = Pin::new(&mut relay).poll(&mut context);
        assert!(matches!(first, Poll::Ready(TransportEvent::ListenerClosed { .. })), "{first:?}");
        assert!(Pin::new(&mut relay).poll(&mut context).is_pending());
    }
}
