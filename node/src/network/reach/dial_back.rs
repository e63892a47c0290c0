//! Whether others get through to ports that a peer names, or through a relay: it is dialled there, and nowhere else.
//!
//! What is asked has no address in it, only ports, and the id of a relay. The peer is dialled at the address at which this node sees it,
//! so that nobody can have a third party dialled; at ports that no system reserves, from another port than any that a NAT knows, and as
//! the peer that it is. A relay is tried where this node is connected with it already. How often is bounded, for one network and in all.
//! Pure: what the swarm tells, and `now`, are arguments.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, TransportError, multiaddr,
    swarm::{ConnectionId, DialError},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::time::Instant;

use super::router::Protocol;
use crate::{
    limits::{
        DIALS_BACK_AT_ONCE_MAX, DIALS_BACK_MAX, DIALS_BACK_PER_NETWORK_MAX, DIALS_BACK_PER_NETWORK_REFILL,
        DIALS_BACK_REFILL, RELAY_NETWORKS_MAX,
    },
    network::{
        diversity::Network,
        pace::Budget,
        peers::{ip_of, network_of},
    },
    peers::policy::{self, Origin, Scope},
};

/// The protocol id.
pub(in crate::network) const PROTOCOL: &str = "/ggen/dial-back/1";
/// The lowest port that is dialled.
pub(super) const PORT_MIN: u16 = 1024;
/// How long a connection stays before it is said that it stood: the other end knows of it by then.
const ANSWERED_AFTER: Duration = Duration::from_secs(1);
const PER_NETWORK: Budget = Budget::new(DIALS_BACK_PER_NETWORK_MAX, DIALS_BACK_PER_NETWORK_REFILL);
const ALL: Budget = Budget::new(DIALS_BACK_MAX, DIALS_BACK_REFILL);

/// A way in which a peer is dialled that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::network) enum Way {
    Tcp,
    Udp,
    Relay,
}

impl From<Protocol> for Way {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// A peer that relays, as bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::network) struct Relay(pub(in crate::network) PeerId);

impl Serialize for Relay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Relay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        PeerId::from_bytes(&bytes).map(Self).map_err(de::Error::custom)
    }
}

/// Asks to be dialled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::network) struct Ask {
    /// At this port, over TCP.
    pub(in crate::network) tcp: Option<u16>,
    /// At this port, over QUIC.
    pub(in crate::network) udp: Option<u16>,
    /// Through this relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::network) relay: Option<Relay>,
}

/// Says whether that went well; nothing where it was not tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::network) struct Answer {
    /// Over TCP.
    pub(in crate::network) tcp: Option<bool>,
    /// Over QUIC.
    pub(in crate::network) udp: Option<bool>,
    /// Through the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::network) relay: Option<bool>,
}

/// Somebody who waits for an answer.
#[derive(Debug)]
struct Waiting<C> {
    answers_to: C,
    peer: PeerId,
    /// Where it is dialled, one after the other: of two dials at once, the first that stands may end the other.
    rest: VecDeque<(Way, Multiaddr)>,
    dial: Option<(ConnectionId, Way)>,
    stood: Vec<ConnectionId>,
    answer: Answer,
    /// When the last dial ended.
    ended: Instant,
}

/// An answer that is due: to whom, what, and which connections are closed then.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::network) struct Due<C> {
    pub(in crate::network) answers_to: C,
    pub(in crate::network) answer: Answer,
    pub(in crate::network) close: Vec<ConnectionId>,
}

/// The dials in progress that peers asked for; `C` is where an answer goes.
#[derive(Debug)]
pub(in crate::network) struct DialsBack<C> {
    waiting: Vec<Waiting<C>>,
    networks: BTreeMap<Network, (u32, Instant)>,
    all: Option<(u32, Instant)>,
}

impl<C> Default for DialsBack<C> {
    fn default() -> Self {
        Self { waiting: Vec::new(), networks: BTreeMap::new(), all: None }
    }
}

impl<C> DialsBack<C> {
    /// Where a peer is to be dialled that asks on a connection with `at`; nowhere where that is asked too much. `relay` is the address
    /// of the relay that it names, where this node is connected with it.
    pub(in crate::network) fn admit(
        &mut self,
        at: &Multiaddr,
        ask: Ask,
        relay: Option<Multiaddr>,
        now: Instant,
    ) -> Vec<(Way, Multiaddr)> {
        let (Some(IpAddr::V4(ip)), Some(network)) = (ip_of(at), network_of(at)) else { return Vec::new() };
        if policy::is_relayed(at) || self.waiting.len() >= DIALS_BACK_AT_ONCE_MAX || !self.spend(network, now)
        {
            return Vec::new();
        }
        let to = |part| Multiaddr::empty().with(multiaddr::Protocol::Ip4(ip)).with(part);
        let tcp = ask.tcp.map(|port| (port, Way::Tcp, to(multiaddr::Protocol::Tcp(port))));
        let udp = ask.udp.map(|port| {
            (port, Way::Udp, to(multiaddr::Protocol::Udp(port)).with(multiaddr::Protocol::QuicV1))
        });
        let asked = tcp.into_iter().chain(udp).filter(|(port, _, address)| {
            *port >= PORT_MIN && policy::acceptable(address, Origin::Peer(Scope::Public)).is_ok()
        });
        let asked = asked.map(|(_, way, address)| (way, address));
        let through = ask.relay.zip(relay).map(|(Relay(relay), at)| {
            let at = policy::without_peer(&at, &relay).unwrap_or(at);
            (Way::Relay, at.with(multiaddr::Protocol::P2p(relay)).with(multiaddr::Protocol::P2pCircuit))
        });
        asked.chain(through).collect()
    }

    fn spend(&mut self, network: Network, now: Instant) -> bool {
        // A network first, so that one that asks without end uses up its own budget alone.
        self.networks.retain(|_, used| PER_NETWORK.refilled(*used, now).0 > 0);
        if self.networks.len() >= RELAY_NETWORKS_MAX && !self.networks.contains_key(&network) {
            return false;
        }
        PER_NETWORK.spend(self.networks.entry(network).or_insert((0, now)), 1, now)
            && ALL.spend(self.all.get_or_insert((0, now)), 1, now)
    }

    /// Notes where a peer is dialled for an answer. Where that is nowhere the answer is due at once: nothing is kept of those who ask too
    /// much.
    pub(in crate::network) fn begin(
        &mut self,
        answers_to: C,
        peer: PeerId,
        to: Vec<(Way, Multiaddr)>,
        now: Instant,
    ) -> Option<Due<C>> {
        if to.is_empty() {
            return Some(Due { answers_to, answer: Answer::default(), close: Vec::new() });
        }
        let (dial, stood, answer) = Default::default();
        self.waiting.push(Waiting { answers_to, peer, rest: to.into(), dial, stood, answer, ended: now });
        None
    }

    /// Takes the next dial that is due: `dial` begins it, and yields which it is where it can be begun.
    pub(in crate::network) fn dial(
        &mut self,
        mut dial: impl FnMut(PeerId, Multiaddr) -> Option<ConnectionId>,
    ) {
        for waiting in &mut self.waiting {
            while waiting.dial.is_none()
                && let Some((way, address)) = waiting.rest.pop_front()
            {
                waiting.dial = dial(waiting.peer, address).map(|connection| (connection, way));
            }
        }
    }

    /// Notes that a connection stands; whether it was made for an answer.
    pub(in crate::network) fn stands(&mut self, connection: ConnectionId, now: Instant) -> bool {
        self.ended(connection, Some(true), now)
    }

    /// Notes that a dial failed.
    pub(in crate::network) fn failed(&mut self, connection: ConnectionId, error: &DialError, now: Instant) {
        let was_tried = match error {
            DialError::Transport(errors) => {
                !errors.iter().any(|(_, error)| matches!(error, TransportError::MultiaddrNotSupported(_)))
            }
            DialError::WrongPeerId { .. } => true,
            _ => false,
        };
        self.ended(connection, was_tried.then_some(false), now);
    }

    fn ended(&mut self, connection: ConnectionId, said: Option<bool>, now: Instant) -> bool {
        let is_it = |it: &&mut Waiting<C>| it.dial.is_some_and(|(dial, _)| dial == connection);
        let Some(waiting) = self.waiting.iter_mut().find(is_it) else { return false };
        match waiting.dial.take() {
            Some((_, Way::Tcp)) => waiting.answer.tcp = said,
            Some((_, Way::Udp)) => waiting.answer.udp = said,
            Some((_, Way::Relay)) => waiting.answer.relay = said,
            None => {}
        }
        waiting.stood.extend((said == Some(true)).then_some(connection));
        waiting.ended = now;
        true
    }

    /// Takes the answers that are due.
    pub(in crate::network) fn due(&mut self, now: Instant) -> Vec<Due<C>> {
        let is_due =
            |it: &mut Waiting<C>| it.dial.is_none() && it.rest.is_empty() && it.ended + ANSWERED_AFTER <= now;
        let due = self.waiting.extract_if(.., is_due);
        due.map(|it| Due { answers_to: it.answers_to, answer: it.answer, close: it.stood }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    const BOTH: Ask = Ask { tcp: Some(12345), udp: Some(12345), relay: None };

    #[test]
    fn a_peer_is_dialled_where_it_is_seen_and_nowhere_else() {
        let mut dials = DialsBack::<()>::default();
        let now = Instant::now();
        let admitted = dials.admit(&at("/ip4/203.0.113.21/tcp/50000"), BOTH, None, now);
        assert_eq!(
            admitted,
            [
                (Way::Tcp, at("/ip4/203.0.113.21/tcp/12345")),
                (Way::Udp, at("/ip4/203.0.113.21/udp/12345/quic-v1")),
            ]
        );
        let relay = PeerId::random();
        for (from, ask) in [
            ("/ip4/192.168.1.7/tcp/50000".to_owned(), BOTH),
            ("/ip4/127.0.0.1/tcp/50000".to_owned(), BOTH),
            ("/dns4/host.example/tcp/50000".to_owned(), BOTH),
            (format!("/ip4/203.0.113.22/tcp/1/p2p/{relay}/p2p-circuit"), BOTH),
            ("/ip4/203.0.113.23/tcp/50000".to_owned(), Ask { tcp: Some(22), udp: Some(53), relay: None }),
            ("/ip4/203.0.113.23/tcp/50000".to_owned(), Ask::default()),
        ] {
            assert_eq!(dials.admit(&at(&from), ask, None, now), [], "{from} {ask:?}");
        }
    }

    #[test]
    fn a_relay_is_tried_where_this_node_is_connected_with_it_and_nowhere_else() {
        let (mut dials, now) = (DialsBack::<()>::default(), Instant::now());
        let relay = PeerId::random();
        let ask = Ask { relay: Some(Relay(relay)), ..Ask::default() };
        let from = at("/ip4/203.0.113.21/tcp/50000");
        assert_eq!(dials.admit(&from, ask, None, now), [], "a relay that this node does not know");
        let known = at("/ip4/198.51.100.7/tcp/4001");
        let through = at(&format!("/ip4/198.51.100.7/tcp/4001/p2p/{relay}/p2p-circuit"));
        assert_eq!(dials.admit(&from, ask, Some(known.clone()), now), [(Way::Relay, through)]);
        assert_eq!(dials.admit(&from, Ask::default(), Some(known), now), []);
    }

    #[test]
    fn what_has_no_relay_in_it_is_as_it_was_before_there_were_relays_in_it() {
        let bytes = serde_ipld_dagcbor::to_vec(&BOTH).unwrap();
        assert_eq!(bytes, b"\xa2ctcp\x19\x30\x39cudp\x19\x30\x39");
        assert_eq!(serde_ipld_dagcbor::from_slice::<Ask>(&bytes).unwrap(), BOTH);
        let relay = Some(Relay(PeerId::random()));
        let ask = Ask { tcp: Some(u16::MAX), udp: Some(u16::MAX), relay };
        let bytes = serde_ipld_dagcbor::to_vec(&ask).unwrap();
        assert!(bytes.len() <= crate::limits::DIAL_BACK_BYTES_MAX, "{}", bytes.len());
        assert_eq!(serde_ipld_dagcbor::from_slice::<Ask>(&bytes).unwrap(), ask);
        let garbage = serde_ipld_dagcbor::to_vec(&BTreeMap::from([("relay", serde_bytes::Bytes::new(b"x"))]));
        assert!(serde_ipld_dagcbor::from_slice::<Ask>(&garbage.unwrap()).is_err());
    }

    #[test]
    fn one_network_that_asks_without_end_is_dialled_seldom_and_others_still_are() {
        let mut dials = DialsBack::<()>::default();
        let now = Instant::now();
        let asked = |dials: &mut DialsBack<()>, from: &str, times: u32| {
            let times = 0..times;
            times.filter(|_| !dials.admit(&at(from), BOTH, None, now).is_empty()).count()
        };
        assert_eq!(asked(&mut dials, "/ip4/8.8.8.8/tcp/1", 1_000), DIALS_BACK_PER_NETWORK_MAX as usize);
        assert_eq!(asked(&mut dials, "/ip4/8.8.8.9/tcp/1", 1_000), 0, "of the same network");
        let others: usize = (0..250).map(|n| asked(&mut dials, &format!("/ip4/9.9.{n}.9/tcp/1"), 1)).sum();
        assert_eq!(others, (DIALS_BACK_MAX - DIALS_BACK_PER_NETWORK_MAX) as usize, "so many in all");
    }

    #[test]
    fn the_answer_says_what_was_tried_and_waits_until_the_peer_knows_of_it() {
        let mut dials = DialsBack::default();
        let (now, later) = (Instant::now(), Instant::now() + ANSWERED_AFTER);
        let [tcp, udp, other] = [1, 2, 3].map(ConnectionId::new_unchecked);
        let peer = PeerId::random();
        let quic = at("/ip4/8.8.8.8/udp/1/quic-v1");
        let to = || vec![(Way::Tcp, at("/ip4/8.8.8.8/tcp/1")), (Way::Udp, quic.clone())];
        assert_eq!(dials.begin('a', peer, to(), now), None);
        let mut begun = Vec::new();
        let mut begin = |dials: &mut DialsBack<char>, connection| {
            dials.dial(|_, address| {
                begun.push(address);
                Some(connection)
            });
            begun.len()
        };
        assert_eq!((begin(&mut dials, tcp), begin(&mut dials, udp)), (1, 1), "one after the other");
        assert!(!dials.stands(other, now) && dials.stands(tcp, now));
        assert_eq!((dials.due(later), begin(&mut dials, udp)), (Vec::new(), 2));
        let error = TransportError::Other(io::ErrorKind::TimedOut.into());
        dials.failed(udp, &DialError::Transport(vec![(quic.clone(), error)]), now);
        assert_eq!(dials.due(now), []);
        let answer = Answer { tcp: Some(true), udp: Some(false), relay: None };
        assert_eq!(dials.due(later), [Due { answers_to: 'a', answer, close: vec![tcp] }]);
        assert_eq!(dials.begin('b', peer, to(), now), None);
        dials.dial(|_, address| (address == quic).then_some(udp));
        let error = TransportError::MultiaddrNotSupported(quic.clone());
        dials.failed(udp, &DialError::Transport(vec![(quic.clone(), error)]), now);
        let answer = Answer::default();
        let due = |answers_to| Due { answers_to, answer, close: Vec::new() };
        assert_eq!(dials.due(later), [due('b')], "what was not tried is not said to have failed");
        assert_eq!((dials.begin('c', peer, Vec::new(), now), dials.waiting.len()), (Some(due('c')), 0));
    }
}
