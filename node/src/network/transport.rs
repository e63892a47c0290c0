//! The one seam: from a base transport of byte streams to authenticated, multiplexed connections.
//!
//! Everything above the byte stream is the same wherever a node runs. Production passes [`tcp()`]; a simulation passes a
//! transport of its own.

use std::io;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade},
    dns, identity, noise, tcp, yamux,
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

/// TCP, with names resolved by the system's DNS (`/dns*`, `/dnsaddr`).
///
/// # Errors
/// Where the system's resolver configuration cannot be read.
pub fn tcp() -> io::Result<Base> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    Ok(base(dns::tokio::Transport::system(tcp)?))
}

/// TCP without names, for machines whose resolver configuration is unusable.
pub fn tcp_without_dns() -> Base {
    base(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
}

/// Adds [Noise](https://github.com/libp2p/specs/blob/master/noise/README.md) and
/// [Yamux](https://github.com/libp2p/specs/blob/master/yamux/README.md) to a base transport.
///
/// The whole handshake has one deadline, so that a peer that connects and says nothing costs a bounded time.
///
/// # Errors
/// Where the key cannot sign the Noise handshake.
pub(super) fn authenticated(
    base: Base,
    key: &identity::Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
    Ok(base
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer)
        .timeout(HANDSHAKE_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}
