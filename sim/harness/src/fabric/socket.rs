//! What a program on a host holds: its network, open ports, dials and streams.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    future::{self, BoxFuture},
};
use tokio::{runtime::Handle, time::Instant};

use super::state::{Dial, Listening, State, nanos};
use crate::net::{Accept, Net};

/// The state of a fabric, with everything carried out that is due. All programs run on one thread: nobody ever waits for it.
#[derive(Debug, Clone)]
pub(super) struct Fabric {
    state: Arc<Mutex<State>>,
    began: Instant,
}

impl Fabric {
    pub(super) fn new(state: State, began: Instant) -> Self {
        Self { state: Arc::new(Mutex::new(state)), began }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// How long the run has lasted; what it was last outside of the runtime, whose clock is read.
    pub(super) fn elapsed(&self) -> Duration {
        match Handle::try_current() {
            Ok(_) => Instant::now().saturating_duration_since(self.began),
            Err(_) => Duration::from_nanos(self.raw().now),
        }
    }

    fn raw(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let now = nanos(self.elapsed());
        let mut state = self.raw();
        state.run_until(now);
        state
    }
}

/// The network as a program on one host sees it.
#[derive(Debug, Clone)]
pub struct HostNet {
    pub(super) fabric: Fabric,
    pub(super) host: usize,
    pub(super) ip: IpAddr,
}

impl HostNet {
    /// Opens a port of the router before this host for everybody; false where there is none.
    pub fn forward(&self, outside_port: u16, inside_port: u16) -> bool {
        let inside = SocketAddr::new(self.ip, inside_port);
        let mut state = self.fabric.lock();
        let router = state.hosts[self.host].router;
        router.map(|router| state.routers[router].forward(outside_port, inside)).is_some()
    }
}

impl Net for HostNet {
    type Stream = Stream;
    type Listener = Listener;

    fn host(&self) -> IpAddr {
        self.ip
    }

    fn elapsed(&self) -> Duration {
        self.fabric.elapsed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        let opened = || {
            if !at.ip().is_unspecified() && !at.ip().is_loopback() && at.ip() != self.ip {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let mut state = self.fabric.lock();
            let port = match at.port() {
                0 => state.free_port(self.host).ok_or(io::ErrorKind::AddrInUse)?,
                port => port,
            };
            let number = state.number();
            let listeners = &mut state.hosts[self.host].listeners;
            if listeners.contains_key(&port) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            listeners.insert(port, Listening { number, ..Listening::default() });
            Ok(Listener { net: self.clone(), port, number })
        };
        future::ready(opened()).boxed()
    }

    fn dial(&self, to: SocketAddr, from_port: Option<u16>) -> BoxFuture<'static, io::Result<Stream>> {
        let mut state = self.fabric.lock();
        let at = |port: u16| SocketAddr::new(self.ip, port);
        // The same two sockets have one connection at most: another one needs another port.
        let wanted = from_port.filter(|port| !state.is_connected(self.host, at(*port), to));
        let Some(port) = wanted.or_else(|| state.free_port(self.host)) else {
            return future::ready(Err(io::ErrorKind::AddrNotAvailable.into())).boxed();
        };
        let (local, host) = (at(port), self.host);
        let id = state.add_dial(Dial { host, local, to, attempt: 0, conn: None, outcome: None, waker: None });
        state.request(id);
        drop(state);
        Dialling { net: self.clone(), id }.boxed()
    }
}

/// A dial in progress; dropped, it is given up.
#[derive(Debug)]
struct Dialling {
    net: HostNet,
    id: u64,
}

impl Future for Dialling {
    type Output = io::Result<Stream>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let mut state = self.net.fabric.lock();
        let Some(dial) = state.dials.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        match dial.outcome {
            None => {
                dial.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(outcome) => {
                state.take_dial(self.id);
                drop(state);
                Poll::Ready(outcome.map(|(conn, end)| Stream::new(&self.net, conn, end)).map_err(Into::into))
            }
        }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.net.fabric.lock().give_up(self.id);
    }
}

/// An open port; dropped, it is closed.
#[derive(Debug)]
pub struct Listener {
    net: HostNet,
    port: u16,
    number: u64,
}

impl Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let mut state = self.net.fabric.lock();
        let listeners = &mut state.hosts[self.net.host].listeners;
        let Some(listening) = listeners.get_mut(&self.port).filter(|it| it.number == self.number) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        // What is forgotten leaves the queue.
        if let Some(id) = listening.ready.pop_front()
            && let Some(conn) = state.conns.get_mut(&id)
        {
            conn.waits = None;
            let remote = conn.ends[1].remote;
            drop(state);
            return Poll::Ready(Ok((Stream::new(&self.net, id, 1), remote)));
        }
        let listening = state.hosts[self.net.host].listeners.get_mut(&self.port);
        if let Some(listening) = listening {
            listening.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Accept for Listener {
    type Stream = Stream;

    fn port(&self) -> io::Result<u16> {
        Ok(self.port)
    }

    fn accept(&mut self) -> impl Future<Output = io::Result<(Stream, SocketAddr)>> + Send {
        future::poll_fn(|cx| self.poll_accept(cx))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.net.fabric.lock();
        let listeners = &mut state.hosts[self.net.host].listeners;
        if listeners.get(&self.port).is_none_or(|it| it.number != self.number) {
            return;
        }
        let Some(listening) = listeners.remove(&self.port) else { return };
        for id in listening.half_open.into_iter().chain(listening.ready) {
            state.close(id, 1);
        }
    }
}

/// One end of a connection; dropped, it is closed.
#[derive(Debug)]
pub struct Stream {
    net: HostNet,
    conn: u64,
    end: usize,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Stream {
    fn new(net: &HostNet, conn: u64, end: usize) -> Self {
        let nowhere = SocketAddr::new(net.ip, 0);
        let state = net.fabric.lock();
        let (local, remote) =
            state.conns.get(&conn).map_or((nowhere, nowhere), |it| (it.ends[end].local, it.ends[end].remote));
        drop(state);
        Self { net: net.clone(), conn, end, local, remote }
    }

    /// The socket of this end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The socket of the other end, as this one sees it.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.net.fabric.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let own = &mut conn.ends[self.end];
        let mut read = 0;
        while read < buffer.len()
            && let Some(first) = own.inbox.front_mut()
        {
            let part = first.len().min(buffer.len() - read);
            buffer[read..read + part].copy_from_slice(&first.split_to(part));
            read += part;
            if first.is_empty() {
                own.inbox.pop_front();
            }
        }
        if read > 0 {
            state.read(self.conn, self.end, read);
            return Poll::Ready(Ok(read));
        }
        if let Some(error) = own.error {
            return Poll::Ready(Err(error.into()));
        }
        if own.is_eof || buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        own.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.net.fabric.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let own = &mut conn.ends[self.end];
        if let Some(error) = own.error {
            return Poll::Ready(Err(error.into()));
        }
        if own.is_finished || !own.is_open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match state.write(self.conn, self.end, bytes) {
            Some(written) => Poll::Ready(Ok(written)),
            None => {
                if let Some(conn) = state.conns.get_mut(&self.conn) {
                    conn.ends[self.end].writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.fabric.lock().finish(self.conn, self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.net.fabric.lock().close(self.conn, self.end);
    }
}
