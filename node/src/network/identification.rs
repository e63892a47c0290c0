//! Identify, held to how often a neighbour may say who it is.
//!
//! A peer may push who it is whenever it likes, each time with other addresses, and each time the routing table is searched, the
//! address book is written, and every part of the swarm is told. Of one that says it more often than its pace allows, the last word
//! waits until there is room for it again, so that what it says in the end is what counts; see [`Paced`].
//!
//! What this node tells of itself leads somewhere: the addresses that it listens on, unless nobody can connect to it there; and through
//! each of its relays the address at which it reached that relay itself, whatever the relay says of where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    identify,
    swarm::{
        ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::{ExpiredListenAddr, NewListenAddr},
    },
};
use tokio::time::Instant;

use super::{
    events,
    inner::{connections_of_inner, dials_of_inner},
    pace::Budget,
    paced::{Paced, Weighed},
};
use crate::{
    limits::{
        IDENTITIES_BORNE_MAX, IDENTITIES_BORNE_REFILL, IDENTITIES_PER_PEER_MAX, IDENTITIES_PER_PEER_REFILL,
    },
    peers::policy,
};

type Inner = identify::Behaviour;
/// What a connection tells Identify; libp2p names this type nowhere else.
type Told = THandlerOutEvent<Inner>;

/// libp2p's Identify, at a pace.
pub(super) struct Behaviour {
    inner: Inner,
    said: Paced,
    /// The last word of each peer that said more than its pace allows, and on which connection.
    waiting: BTreeMap<PeerId, (ConnectionId, Told)>,
    unbearable: Vec<PeerId>,
    /// Whether nobody can connect to where this node listens.
    hides_listeners: bool,
    told: Addresses,
    /// Stands for the listeners of all relays, and of ports that lead through a NAT.
    elsewhere: ListenerId,
}

impl Behaviour {
    pub(super) fn new(inner: Inner, hides_listeners: bool) -> Self {
        let pace = Budget::new(IDENTITIES_PER_PEER_MAX, IDENTITIES_PER_PEER_REFILL);
        let borne = Budget::new(IDENTITIES_BORNE_MAX, IDENTITIES_BORNE_REFILL);
        Self {
            inner,
            said: Paced::new(pace, borne),
            waiting: BTreeMap::new(),
            unbearable: Vec::new(),
            hides_listeners,
            told: Addresses::default(),
            elsewhere: ListenerId::next(),
        }
    }

    /// The neighbours that have become unbearable since the last call.
    pub(super) fn take_unbearable(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.unbearable)
    }

    /// Looks at the last words that waited, where there is room for them again.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let due: Vec<PeerId> =
            self.waiting.keys().filter(|peer| self.said.catches_up(peer, now)).copied().collect();
        for peer in due {
            if let Some((connection, told)) = self.waiting.remove(&peer) {
                self.inner.on_connection_handler_event(peer, connection, told);
            }
        }
    }
}

/// The addresses that are told. The same one may be listened on and be known to lead here: it is told until both have ended.
#[derive(Debug, Default)]
struct Addresses {
    listened: BTreeSet<Multiaddr>,
    leading_here: BTreeSet<Multiaddr>,
}

impl Addresses {
    /// Takes in what the swarm says; whether that is the end of an address that is still told for the other reason.
    fn stays(&mut self, event: &FromSwarm<'_>) -> bool {
        match event {
            FromSwarm::NewListenAddr(it) => drop(self.listened.insert(it.addr.clone())),
            FromSwarm::ExternalAddrConfirmed(it) => drop(self.leading_here.insert(it.addr.clone())),
            FromSwarm::ExpiredListenAddr(it) => {
                self.listened.remove(it.addr);
                return self.leading_here.contains(it.addr);
            }
            FromSwarm::ExternalAddrExpired(it) => {
                self.leading_here.remove(it.addr);
                return self.listened.contains(it.addr);
            }
            _ => {}
        }
        false
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = identify::Event;

    connections_of_inner!();
    dials_of_inner!();

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && self.waiting.get(&closed.peer_id).is_some_and(|(at, _)| *at == closed.connection_id)
        {
            self.waiting.remove(&closed.peer_id);
        }
        let hides = |address| self.hides_listeners || policy::is_relayed(address);
        let listener_id = self.elsewhere;
        self.inner.on_swarm_event(match event {
            FromSwarm::NewListenAddr(it) if hides(it.addr) => return,
            FromSwarm::ExpiredListenAddr(it) if hides(it.addr) => return,
            event if self.told.stays(&event) => return,
            // Peers are told at once of what is listened on, and only when they ask of the rest: here all is told at once.
            FromSwarm::ExternalAddrConfirmed(it) => {
                FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr: it.addr })
            }
            FromSwarm::ExternalAddrExpired(it) => {
                FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr: it.addr })
            }
            event => event,
        });
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let Told::Identified(info) = &event else {
            return self.inner.on_connection_handler_event(peer, connection, event);
        };
        let is_last = events::incompatible(&info.protocol_version).is_some();
        match self.said.weigh(peer, Instant::now()) {
            // What ends the connection does not wait: a peer that comes back again and again would stay meanwhile.
            Weighed::Beyond if is_last => {
                self.waiting.remove(&peer);
                self.inner.on_connection_handler_event(peer, connection, event);
            }
            Weighed::Within => {
                self.waiting.remove(&peer);
                self.inner.on_connection_handler_event(peer, connection, event);
            }
            Weighed::Beyond => drop(self.waiting.insert(peer, (connection, event))),
            Weighed::Unbearable => {
                self.waiting.remove(&peer);
                self.unbearable.push(peer);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use libp2p::{
        core::{ConnectedPoint, Endpoint, transport::PortUse},
        identity::Keypair,
        swarm::{
            ConnectionClosed,
            behaviour::{ConnectionEstablished, ExternalAddrConfirmed, ExternalAddrExpired},
        },
    };

    use super::*;

    /// What a peer says that listens at this port.
    fn word(key: &Keypair, port: u16) -> Told {
        Told::Identified(identify::Info {
            public_key: key.public(),
            protocol_version: "/ggen/1.0.0".to_owned(),
            agent_version: "a test".to_owned(),
            listen_addrs: vec![format!("/ip4/203.0.113.9/tcp/{port}").parse().unwrap()],
            protocols: Vec::new(),
            observed_addr: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            signed_peer_record: None,
        })
    }

    /// A node that has one connection, and the peer at its other end.
    fn with_neighbour(key: &Keypair, endpoint: &ConnectedPoint) -> (Behaviour, PeerId, ConnectionId) {
        let (peer, connection) = (key.public().to_peer_id(), ConnectionId::new_unchecked(1));
        let own = Keypair::generate_ed25519();
        let config = identify::Config::new("/ggen/1.0.0".to_owned(), own.public());
        let mut identify = Behaviour::new(identify::Behaviour::new(config), false);
        identify.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: connection,
            endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        (identify, peer, connection)
    }

    fn dialled() -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: "/ip4/203.0.113.9/tcp/1".parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        }
    }

    /// The ports of what the node is told of.
    fn heard(identify: &mut Behaviour) -> Vec<String> {
        let mut context = Context::from_waker(Waker::noop());
        let mut heard = Vec::new();
        while let Poll::Ready(event) = identify.poll(&mut context) {
            if let ToSwarm::GenerateEvent(identify::Event::Received { info, .. }) = event {
                heard.push(info.listen_addrs[0].to_string());
            }
        }
        heard
    }

    #[test]
    fn a_peer_of_another_major_version_is_known_as_one_however_often_it_said_so() {
        let (key, endpoint) = (Keypair::generate_ed25519(), dialled());
        let (mut identify, peer, connection) = with_neighbour(&key, &endpoint);
        let said = usize::try_from(IDENTITIES_PER_PEER_MAX).unwrap() * 2;
        for _ in 0..said {
            let Told::Identified(info) = word(&key, 4001) else { panic!("a word") };
            let other = identify::Info { protocol_version: "/ggen/2.0.0".to_owned(), ..info };
            identify.on_connection_handler_event(peer, connection, Told::Identified(other));
        }
        assert_eq!(heard(&mut identify).len(), said);
        assert!(identify.waiting.is_empty());
    }

    #[test]
    fn the_last_word_of_a_peer_that_says_too_much_counts_in_the_end() {
        let (key, endpoint) = (Keypair::generate_ed25519(), dialled());
        let (mut identify, peer, connection) = with_neighbour(&key, &endpoint);
        let many = u16::try_from(IDENTITIES_PER_PEER_MAX).unwrap() + 100;
        (0..many).for_each(|n| identify.on_connection_handler_event(peer, connection, word(&key, 1_000 + n)));
        assert_eq!(heard(&mut identify).len(), IDENTITIES_PER_PEER_MAX as usize);
        identify.catch_up(Instant::now());
        assert!(heard(&mut identify).is_empty(), "not yet");
        identify.catch_up(Instant::now() + IDENTITIES_PER_PEER_REFILL);
        assert_eq!(heard(&mut identify), [format!("/ip4/203.0.113.9/tcp/{}", 1_000 + many - 1)]);
        assert!(identify.take_unbearable().is_empty());
        (0..IDENTITIES_BORNE_MAX)
            .for_each(|_| identify.on_connection_handler_event(peer, connection, word(&key, 1)));
        assert_eq!(identify.take_unbearable(), [peer]);
        identify.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: peer,
            connection_id: connection,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
        assert!(identify.waiting.is_empty(), "what is closed is forgotten");
    }

    #[test]
    fn an_address_that_is_listened_on_stays_when_the_proof_that_it_leads_here_ends() {
        let (at, listener_id) = ("/ip4/203.0.113.1/tcp/4001".parse().unwrap(), ListenerId::next());
        let listened = FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr: &at });
        let unlistened = FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr: &at });
        let proved = FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr: &at });
        let unproved = FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr: &at });
        let mut told = Addresses::default();
        let mut stays =
            |events: &[&FromSwarm<'_>]| events.iter().map(|it| told.stays(it)).collect::<Vec<_>>();
        assert_eq!(stays(&[&listened, &proved, &unproved, &unlistened]), [false, false, true, false]);
        assert_eq!(stays(&[&listened, &proved, &unlistened, &unproved]), [false, false, true, false]);
    }
}
