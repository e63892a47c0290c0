//! Streams of one protocol that stay open: opened to a peer when somebody needs one, and accepted from whoever opens one.
//!
//! What goes over them is up to who takes them. A stream keeps its connection.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

/// What became of a stream.
#[derive(Debug)]
pub enum Event {
    /// One that this side opened.
    Opened {
        /// To whom.
        peer: PeerId,
        /// Over which connection.
        connection: ConnectionId,
        /// The stream.
        stream: Stream,
    },
    /// One that a peer opened.
    Accepted {
        /// The peer.
        peer: PeerId,
        /// Over which connection.
        connection: ConnectionId,
        /// The stream.
        stream: Stream,
    },
    /// One could not be opened.
    Failed {
        /// To whom.
        peer: PeerId,
    },
}

/// The streams of one protocol.
#[derive(Debug)]
pub struct Behaviour {
    protocol: StreamProtocol,
    /// Direct ones, in the order in which they came, and after them those through relays.
    connections: BTreeMap<PeerId, Vec<(ConnectionId, bool)>>,
    /// How many are being opened on a connection.
    opening: BTreeMap<ConnectionId, usize>,
    tells: VecDeque<ToSwarm<Event, Open>>,
    waker: Option<Waker>,
}

/// Asks for a stream.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl Behaviour {
    /// Streams of this protocol.
    pub fn new(protocol: StreamProtocol) -> Self {
        let (connections, opening, tells) = Default::default();
        Self { protocol, connections, opening, tells, waker: None }
    }

    /// Opens a stream to a connected peer; an [`Event`] tells what came of it.
    pub fn open(&mut self, peer: PeerId) {
        // The direct connection that has stood for longest.
        let connection = self.connections.get(&peer).and_then(|connections| connections.first());
        let connection = connection.map(|(connection, _)| connection);
        self.tells.push_back(match connection {
            Some(connection) => {
                *self.opening.entry(*connection).or_default() += 1;
                ToSwarm::NotifyHandler {
                    peer_id: peer,
                    handler: NotifyHandler::One(*connection),
                    event: Open,
                }
            }
            None => ToSwarm::GenerateEvent(Event::Failed { peer }),
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn opened(&mut self, connection: ConnectionId) {
        if let Some(opening) = self.opening.get_mut(&connection) {
            *opening = opening.saturating_sub(1);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(it) => {
                let connections = self.connections.entry(it.peer_id).or_default();
                connections.push((it.connection_id, it.endpoint.is_relayed()));
                connections.sort_by_key(|(_, is_relayed)| *is_relayed);
            }
            FromSwarm::ConnectionClosed(it) => {
                if let Some(connections) = self.connections.get_mut(&it.peer_id) {
                    connections.retain(|(connection, _)| *connection != it.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&it.peer_id);
                    }
                }
                let failed = self.opening.remove(&it.connection_id).unwrap_or_default();
                let failed = (0..failed).map(|_| ToSwarm::GenerateEvent(Event::Failed { peer: it.peer_id }));
                self.tells.extend(failed);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            Came::Opened(stream) => {
                self.opened(connection);
                Event::Opened { peer, connection, stream }
            }
            Came::Failed => {
                self.opened(connection);
                Event::Failed { peer }
            }
            Came::Accepted(stream) => Event::Accepted { peer, connection, stream },
        };
        self.tells.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        match self.tells.pop_front() {
            Some(tell) => Poll::Ready(tell),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What a connection tells of a stream.
#[derive(Debug)]
pub enum Came {
    /// It stands.
    Opened(Stream),
    /// The peer opened it.
    Accepted(Stream),
    /// It could not be opened.
    Failed,
}

/// The streams of one connection.
#[derive(Debug)]
pub struct Handler {
    protocol: StreamProtocol,
    opening: usize,
    came: VecDeque<Came>,
}

impl Handler {
    fn new(protocol: StreamProtocol) -> Self {
        Self { protocol, opening: 0, came: VecDeque::new() }
    }

    fn upgrade(&self) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Came;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.upgrade()
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Came>> {
        if let Some(came) = self.came.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(came));
        }
        if self.opening > 0 {
            self.opening -= 1;
            let protocol = self.upgrade();
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // Whatever adds to these is followed by another poll.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.opening += 1;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.came.push_back(Came::Accepted(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.came.push_back(Came::Opened(protocol));
            }
            ConnectionEvent::DialUpgradeError(_) => self.came.push_back(Came::Failed),
            _ => {}
        }
    }
}
