//! Whether the ports that a router says it maps lead to this node.
//!
//! Routers confirm what they do not do, and anyone on the local network can answer in a router's place. So peers are asked to connect
//! there: some that this node dialled, of different networks, who say whether they got through. Their word alone does not count; a
//! peer that says so must have come, too. What more of the asked networks say counts. The address is told to others only then, and no
//! longer once peers do not get through. The port is another one than a NAT would let those in at who were dialled.
//!
//! Pure: what the router and the peers say, and `now`, are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr};
use tokio::time::Instant;

use super::{
    dial_back::{Answer, Ask},
    router::{By, Protocol, Told},
    standing::Ports,
};
use crate::{limits::DIALS_BACK_ASKED_MAX, network::diversity::Network, peers::Backoff};

/// After how long peers are asked again where none got through.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));
/// How often peers are asked whether they still get through.
const CHECKED_EVERY: Duration = Duration::from_secs(1200);

/// What is known of the ports that a router maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortMapping {
    /// No router was found that maps ports.
    Nobody,
    /// It refuses.
    Refused {
        /// As the router says.
        why: String,
    },
    /// The router has no public address of its own, or not the one at which peers see this node: another NAT stands before it.
    Inside {
        /// By what it was asked.
        by: By,
        /// The address that it has.
        outer: Ipv4Addr,
    },
    /// It says that it maps ports, and no peer has tried yet.
    Said {
        /// By what it was asked.
        by: By,
        /// The outer ports.
        ports: Ports,
    },
    /// It says that it maps ports, and peers do not get through.
    Untrue {
        /// By what it was asked.
        by: By,
        /// The outer ports.
        ports: Ports,
    },
    /// Peers got through.
    Works {
        /// By what it was asked.
        by: By,
        /// The outer ports at which they did.
        ports: Ports,
    },
}

/// What peers say of one mapping.
#[derive(Debug, Default)]
struct Round {
    /// Who is asked, and has not answered.
    asked: BTreeMap<PeerId, Network>,
    /// Who of them came.
    came: BTreeSet<PeerId>,
    /// What a network says, of each protocol.
    voices: BTreeMap<(Protocol, Network), bool>,
}

/// The ports that a router maps, as it says, and what peers say of them.
#[derive(Debug, Default)]
pub(in crate::network) struct Mapping {
    told: Option<Told>,
    round: Option<Round>,
    /// Rounds in a row in which nobody got through.
    failures: u32,
    due: Option<Instant>,
    works: Ports,
    was_tried: bool,
}

impl Mapping {
    /// Notes what the router says. What has changed is to be tried again.
    pub(in crate::network) fn told(&mut self, told: Told, now: Instant) {
        if self.told.as_ref() != Some(&told) {
            *self = Self { told: Some(told), due: Some(now), ..Self::default() };
        }
    }

    /// Forgets everything: nothing is mapped any more, or this machine is somewhere else.
    pub(in crate::network) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What the router says that it maps.
    fn mapped(&self) -> Option<(By, Ipv4Addr, Ports)> {
        match &self.told {
            Some(Told::Mapped { by, outer, ports }) => Some((*by, *outer, *ports)),
            _ => None,
        }
    }

    /// Whether peers are to be asked now, of this node at `seen`.
    pub(in crate::network) fn is_due(&self, seen: impl Fn(IpAddr) -> bool, now: Instant) -> bool {
        let is_seen = self.mapped().is_some_and(|(_, outer, _)| seen(outer.into()));
        is_seen && self.round.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// Whom to ask, of peers that this node dialled and that can be asked, and what; each of them counts as asked. Those of one network
    /// count once.
    pub(in crate::network) fn choose(&mut self, peers: Vec<(PeerId, Network)>) -> Vec<(PeerId, Ask)> {
        let Some((_, _, Ports { tcp, udp })) = self.mapped() else { return Vec::new() };
        let mut networks = BTreeSet::new();
        let chosen = peers.into_iter().filter(|(_, network)| networks.insert(*network));
        let asked: BTreeMap<PeerId, Network> = chosen.take(DIALS_BACK_ASKED_MAX).collect();
        let chosen = asked.keys().map(|peer| (*peer, Ask { tcp, udp })).collect();
        // Where there is nobody to ask, somebody may come.
        self.round = (!asked.is_empty()).then(|| Round { asked, ..Round::default() });
        chosen
    }

    /// Notes that a peer has connected by itself.
    pub(in crate::network) fn came(&mut self, peer: PeerId) {
        if let Some(round) = &mut self.round
            && round.asked.contains_key(&peer)
        {
            round.came.insert(peer);
        }
    }

    /// Notes what a peer says; nothing where it does not answer. Yields whether anything is decided by that.
    pub(in crate::network) fn answered(
        &mut self,
        peer: PeerId,
        answer: Option<Answer>,
        now: Instant,
    ) -> bool {
        let Some(round) = &mut self.round else { return false };
        let Some(network) = round.asked.remove(&peer) else { return false };
        if let Some(Answer { tcp, udp }) = answer {
            for (protocol, said) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
                // Who says so without having come says nothing.
                if let Some(said) = said.filter(|said| !said || round.came.contains(&peer)) {
                    round.voices.insert((protocol, network), said);
                }
            }
        }
        if !round.asked.is_empty() {
            return false;
        }
        self.decide(now);
        true
    }

    /// Decides by what the asked have said.
    fn decide(&mut self, now: Instant) {
        let Some((round, (_, _, ports))) = self.round.take().zip(self.mapped()) else { return };
        if round.voices.is_empty() {
            // Nothing was learnt: what stood stands.
            self.failures = self.failures.saturating_add(1);
            self.due = Some(now + AGAIN.ceiling(self.failures));
            return;
        }
        let works = |protocol: Protocol| {
            let voices = round.voices.iter().filter(|((of, _), _)| *of == protocol);
            let (yes, no): (Vec<_>, Vec<_>) = voices.partition(|(_, said)| **said);
            yes.len() > no.len()
        };
        self.was_tried = true;
        self.works = Ports {
            tcp: ports.tcp.filter(|_| works(Protocol::Tcp)),
            udp: ports.udp.filter(|_| works(Protocol::Udp)),
        };
        let has_failed = self.works == Ports::default();
        self.failures = if has_failed { self.failures.saturating_add(1) } else { 0 };
        let wait = if has_failed { AGAIN.ceiling(self.failures) } else { CHECKED_EVERY };
        self.due = Some(now + wait);
    }

    /// The addresses at which peers got through.
    pub(in crate::network) fn addresses(&self) -> BTreeSet<Multiaddr> {
        let Some((_, outer, _)) = self.mapped() else { return BTreeSet::new() };
        let at = |part| Multiaddr::empty().with(multiaddr::Protocol::Ip4(outer)).with(part);
        let tcp = self.works.tcp.map(|port| at(multiaddr::Protocol::Tcp(port)));
        let udp =
            self.works.udp.map(|port| at(multiaddr::Protocol::Udp(port)).with(multiaddr::Protocol::QuicV1));
        tcp.into_iter().chain(udp).collect()
    }

    /// What is known, of this node at `seen`; nothing where no router was asked.
    pub(in crate::network) fn summary(&self, seen: impl Fn(IpAddr) -> bool) -> Option<PortMapping> {
        Some(match self.told.clone()? {
            Told::Nobody => PortMapping::Nobody,
            Told::Refused(why) => PortMapping::Refused { why },
            Told::Mapped { by, .. } if self.works != Ports::default() => {
                PortMapping::Works { by, ports: self.works }
            }
            Told::Mapped { by, outer, .. } if !seen(outer.into()) => PortMapping::Inside { by, outer },
            Told::Mapped { by, ports, .. } if self.was_tried => PortMapping::Untrue { by, ports },
            Told::Mapped { by, ports, .. } => PortMapping::Said { by, ports },
        })
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
