//! From a relayed connection to a direct one, with [DCUtR](https://github.com/libp2p/specs/blob/master/relay/DCUtR.md): libp2p's, held
//! to the rule about addresses that peers tell, and telling also that it failed, and at which addresses it was tried.
//!
//! Both ends dial each other at once, at addresses of which each has the other's word alone. What is dialled is therefore public, and
//! little: [`PUNCH_ADDRESSES_MAX`] in each of three attempts. libp2p tells the side that was asked of success alone; so its failed dials
//! are counted here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, dcutr,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, derive_prelude::Either, dummy,
    },
};

use crate::{
    limits::PUNCH_ADDRESSES_MAX,
    network::inner::connections_of_inner,
    peers::policy::{self, Origin, Scope},
};

type Inner = dcutr::Behaviour;

/// The first of two types; libp2p names what its handlers tell nowhere else.
trait First {
    type First;
}

impl<A, B> First for Either<A, B> {
    type First = A;
}

type Told = <THandlerOutEvent<Inner> as First>::First;

/// Attempts after which the other side gives up too.
const ATTEMPTS: u8 = 3;

/// What is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) enum Punched {
    /// The peer that came through a relay says that it is at these addresses; they are dialled as the listening side. Told once for
    /// each time that it is connected.
    Begun(PeerId, Vec<Multiaddr>),
    /// A direct connection stands.
    Direct(PeerId),
    /// None could be made.
    Failed(PeerId),
}

/// What was tried with a peer that is connected through a relay.
#[derive(Debug, Default)]
struct Tried {
    failed: u8,
    was_told: bool,
}

/// libp2p's DCUtR, which dials public addresses alone.
pub(in crate::network) struct Behaviour {
    inner: Inner,
    /// Its dials in progress.
    dials: BTreeMap<ConnectionId, PeerId>,
    tried: BTreeMap<PeerId, Tried>,
    /// Peers that come through a relay because they are asked to, and that are connected directly.
    awaited: BTreeSet<PeerId>,
    to_tell: VecDeque<Punched>,
}

impl Behaviour {
    pub(in crate::network) fn new(local: PeerId) -> Self {
        let (dials, tried, awaited, to_tell) = Default::default();
        Self { inner: Inner::new(local), dials, tried, awaited, to_tell }
    }

    /// Has no hole made for a peer that is asked to come through a relay.
    pub(in crate::network) fn awaits(&mut self, peer: PeerId) {
        self.awaited.insert(peer);
    }

    /// Notes that a peer is asked for that no more.
    pub(in crate::network) fn awaits_no_more(&mut self, peer: &PeerId) {
        self.awaited.remove(peer);
    }
}

/// What of the addresses that a peer behind a relay tells is dialled.
fn judge(addresses: &mut Vec<Multiaddr>) {
    addresses.retain(|told| {
        !policy::is_relayed(told) && policy::acceptable(told, Origin::Peer(Scope::Public)).is_ok()
    });
    addresses.truncate(PUNCH_ADDRESSES_MAX);
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Punched;

    connections_of_inner!(but inbound);

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if policy::is_relayed(local) && self.awaited.contains(&peer) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(it) => {
                if let Some(peer) = self.dials.remove(&it.connection_id) {
                    let attempt = self.tried.get(&peer).map_or(0, |it| it.failed).saturating_add(1);
                    tracing::info!(%peer, attempt, "a direct connection was made beside a relayed one");
                }
                if it.endpoint.is_relayed() {
                    self.tried.entry(it.peer_id).or_default();
                }
            }
            FromSwarm::DialFailure(it) => {
                // Who is gone meanwhile is not remembered.
                if let Some(peer) = self.dials.remove(&it.connection_id)
                    && let Some(tried) = self.tried.get_mut(&peer)
                {
                    tried.failed = tried.failed.saturating_add(1);
                    if tried.failed == ATTEMPTS {
                        self.to_tell.push_back(Punched::Failed(peer));
                    }
                }
            }
            FromSwarm::ConnectionClosed(it) if it.remaining_established == 0 => {
                self.tried.remove(&it.peer_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        mut event: THandlerOutEvent<Self>,
    ) {
        if let Either::Left(
            Told::InboundConnectNegotiated { remote_addrs }
            | Told::OutboundConnectNegotiated { remote_addrs },
        ) = &mut event
        {
            judge(remote_addrs);
        }
        if let Either::Left(Told::OutboundConnectNegotiated { remote_addrs }) = &event
            && let Some(tried) = self.tried.get_mut(&peer)
            && !std::mem::replace(&mut tried.was_told, true)
        {
            self.to_tell.push_back(Punched::Begun(peer, remote_addrs.clone()));
        }
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(told) = self.to_tell.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(told));
        }
        self.inner.poll(cx).map(|told| match told {
            ToSwarm::Dial { opts } => {
                self.dials.extend(opts.get_peer_id().map(|peer| (opts.connection_id(), peer)));
                ToSwarm::Dial { opts }
            }
            told => told.map_out(|event| match event.result {
                Ok(_) => Punched::Direct(event.remote_peer_id),
                Err(error) => {
                    tracing::debug!(peer = %event.remote_peer_id, %error, "no direct connection was made");
                    Punched::Failed(event.remote_peer_id)
                }
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hole_is_made_for_who_comes_through_a_relay_because_it_is_asked_to() {
        let mut punching = Behaviour::new(PeerId::random());
        let [asked, other] = [(); 2].map(|()| PeerId::random());
        let through: Multiaddr =
            format!("/ip4/8.8.8.8/tcp/1/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap();
        let is_made = |punching: &mut Behaviour, peer: PeerId| {
            let connection = ConnectionId::new_unchecked(1);
            let from = Multiaddr::empty();
            let handler = punching.handle_established_inbound_connection(connection, peer, &through, &from);
            matches!(handler, Ok(Either::Left(_)))
        };
        punching.awaits(asked);
        assert!(!is_made(&mut punching, asked) && is_made(&mut punching, other));
        punching.awaits_no_more(&asked);
        assert!(is_made(&mut punching, asked));
    }

    #[test]
    fn a_peer_behind_a_relay_has_this_node_dial_few_places_and_public_ones_alone() {
        let relay = PeerId::random();
        let mut told: Vec<Multiaddr> = [
            "/ip4/127.0.0.1/tcp/22".to_owned(),
            "/ip4/192.168.1.1/tcp/80".to_owned(),
            "/ip4/169.254.169.254/tcp/80".to_owned(),
            "/dns4/victim.example/tcp/80".to_owned(),
            format!("/ip4/8.8.8.8/tcp/1/p2p/{relay}/p2p-circuit"),
        ]
        .into_iter()
        .chain((1..100).map(|port| format!("/ip4/8.8.4.4/tcp/{port}")))
        .map(|text| text.parse().unwrap())
        .collect();
        judge(&mut told);
        let wanted: Vec<Multiaddr> = (1..=PUNCH_ADDRESSES_MAX)
            .map(|port| format!("/ip4/8.8.4.4/tcp/{port}").parse().unwrap())
            .collect();
        assert_eq!(told, wanted);
    }
}
