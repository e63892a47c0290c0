//! The two seams of a network: what a program on a host sees of it, and what a world does to it.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, future::BoxFuture};

use crate::fabric::nat;

/// Byte streams, as a program on one host sees them.
pub trait Net: Clone + Send + Sync + Unpin + 'static {
    /// A byte stream. Dropped, it is closed.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// What accepts streams.
    type Listener: Accept<Stream = Self::Stream>;

    /// The address of the host.
    fn host(&self) -> IpAddr;

    /// How long the run has lasted.
    fn elapsed(&self) -> Duration;

    /// Opens a port, a free one where it is zero.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Self::Listener>>;

    /// Opens a stream; from this port of the host where one is given.
    fn dial(&self, to: SocketAddr, from_port: Option<u16>) -> BoxFuture<'static, io::Result<Self::Stream>>;
}

/// An open port.
pub trait Accept: Send + 'static {
    /// What it accepts.
    type Stream;

    /// Its port.
    ///
    /// # Errors
    /// Where the engine cannot tell.
    fn port(&self) -> io::Result<u16>;

    /// Waits for the next stream, and for who opened it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// How a host ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its program is killed; its kernel closes the connections.
    Killed,
    /// It loses power: nobody is told.
    PowerLost,
}

/// A network with its hosts, as a world sees it that breaks and mends them.
pub trait Control {
    /// How long the run has lasted.
    fn elapsed(&self) -> Duration;

    /// Runs for one step of time.
    ///
    /// # Errors
    /// What ended the program of a host.
    fn step(&mut self) -> Result<(), String>;

    /// Ends the program of a host at once.
    fn crash(&mut self, host: IpAddr, end: End);

    /// Starts the program of a host that crashed.
    fn restart(&mut self, host: IpAddr);

    /// Whether the program of a host runs.
    fn is_running(&mut self, host: IpAddr) -> bool;

    /// What a host sends to another arrives no more.
    fn cut(&mut self, from: IpAddr, to: IpAddr);

    /// It arrives again.
    fn mend(&mut self, from: IpAddr, to: IpAddr);

    /// What two hosts send each other is kept back.
    fn hold(&mut self, one: IpAddr, other: IpAddr);

    /// It is kept back no more, and what was kept arrives.
    fn release(&mut self, one: IpAddr, other: IpAddr);

    /// How long it takes from one host to the other, each way.
    fn set_latency(&mut self, one: IpAddr, other: IpAddr, latency: Duration);

    /// A host stands behind this router from now on.
    ///
    /// # Errors
    /// Where the engine has no routers, or the router cannot be there.
    fn move_behind(&mut self, host: IpAddr, router: nat::Settings) -> Result<(), String>;

    /// How much is in progress between two hosts, the smaller address first; without those that nothing is between.
    fn in_progress(&self) -> BTreeMap<(IpAddr, IpAddr), usize>;
}
