//! Inbound handshakes that can be given up before their time.
//!
//! libp2p lets nobody end a handshake once it has begun. Whoever connects and says nothing would so keep its place until the
//! deadline, and others out. [`Handshakes`] hands over, with each inbound connection, a [`GiveUp`], which
//! [`admission`](super::admission) uses where there is no room for a newcomer.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportEvent},
    },
};
use tokio::sync::oneshot;

/// Ends a handshake; dropping it leaves the handshake alone.
#[derive(Debug)]
pub(super) struct GiveUp(oneshot::Sender<()>);

impl GiveUp {
    /// Ends the handshake, where it has not ended.
    pub(super) fn now(self) {
        let _ = self.0.send(());
    }
}

/// The inbound handshake that began last, for whoever is asked next whether to admit it: libp2p asks at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<(Multiaddr, GiveUp)>>>);

impl Latest {
    fn put(&self, remote: Multiaddr, give_up: GiveUp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((remote, give_up));
    }

    /// Takes it, where it is the one with `remote`.
    pub(super) fn take(&self, remote: &Multiaddr) -> Option<GiveUp> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        latest.filter(|(of, _)| of == remote).map(|(_, give_up)| give_up)
    }
}

/// Authenticated, multiplexed connections, of which the inbound ones can be given up before they stand.
pub(super) struct Handshakes {
    inner: Connections,
    latest: Latest,
}

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

impl Handshakes {
    pub(super) fn new(inner: Connections, latest: Latest) -> Self {
        Self { inner, latest }
    }
}

impl Transport for Handshakes {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Handshake;
    type Dial = <Connections as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Handshake, io::Error>> {
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        let given_up = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => {
                let (give_up, given_up) = oneshot::channel();
                self.latest.put(send_back_addr.clone(), GiveUp(give_up));
                Some(given_up)
            }
            _ => None,
        };
        Poll::Ready(event.map_upgrade(|upgrade| Handshake { upgrade, given_up }))
    }
}

/// An inbound handshake.
pub(super) struct Handshake {
    upgrade: <Connections as Transport>::ListenerUpgrade,
    /// Says when it is to be given up; nothing once nobody can say so any more.
    given_up: Option<oneshot::Receiver<()>>,
}

impl Future for Handshake {
    type Output = io::Result<(PeerId, StreamMuxerBox)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(given_up) = &mut self.given_up {
            match given_up.poll_unpin(cx) {
                Poll::Ready(Ok(())) => {
                    return Poll::Ready(Err(io::Error::other("it was given up for others")));
                }
                Poll::Ready(Err(_)) => self.given_up = None,
                Poll::Pending => {}
            }
        }
        self.upgrade.poll_unpin(cx)
    }
}
