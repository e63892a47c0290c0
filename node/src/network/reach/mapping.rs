//! Whether the ports that a router says it maps lead to this node.
//!
//! Routers confirm what they do not do, and anyone on the local network can answer in a router's place. So peers are asked to connect
//! there, in rounds ([`round`](super::round)). What more of the asked networks say counts. The address is told to others only then,
//! and no longer once peers do not get through. The port is another one than a NAT would let those in at who were dialled.
//!
//! Pure: what the router and the peers say, and `now`, are arguments.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr};
use tokio::time::Instant;

use super::{
    dial_back::{Answer, Ask},
    round::{AGAIN, Round, Votes},
    router::{By, Protocol, Told},
    standing::Ports,
};
use crate::network::diversity::Network;

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

/// The ports that a router maps, as it says, and what peers say of them.
#[derive(Debug)]
pub(in crate::network) struct Mapping<I> {
    told: Option<Told>,
    round: Option<Round<I>>,
    /// Rounds in a row in which nobody got through.
    failures: u32,
    due: Option<Instant>,
    works: Ports,
    was_tried: bool,
}

impl<I> Default for Mapping<I> {
    fn default() -> Self {
        let works = Ports::default();
        Self { told: None, round: None, failures: 0, due: None, works, was_tried: false }
    }
}

impl<I: PartialEq> Mapping<I> {
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

    /// Asks peers that this node dialled, and that can be asked.
    pub(in crate::network) fn ask(
        &mut self,
        peers: Vec<(PeerId, Network)>,
        mut send: impl FnMut(&PeerId, Ask) -> I,
    ) {
        let Some((_, _, Ports { tcp, udp })) = self.mapped() else { return };
        // Where there is nobody to ask, somebody may come.
        self.round = Round::begin(peers, |peer| send(peer, Ask { tcp, udp, relay: None }));
    }

    /// Notes that a peer has connected by itself.
    pub(in crate::network) fn came(&mut self, peer: PeerId) {
        if let Some(round) = &mut self.round {
            round.came(peer);
        }
    }

    /// Notes the answer of a peer to what it was asked under an id; nothing where it does not answer. Yields whether anything is
    /// decided by that.
    pub(in crate::network) fn answered(
        &mut self,
        peer: PeerId,
        id: &I,
        answer: Option<Answer>,
        now: Instant,
    ) -> bool {
        let is_last = self.round.as_mut().is_some_and(|round| round.answered(peer, id, answer));
        if is_last {
            self.decide(now);
        }
        is_last
    }

    /// Decides by what the asked have said.
    fn decide(&mut self, now: Instant) {
        let Some((round, (_, _, ports))) = self.round.take().zip(self.mapped()) else { return };
        if round.is_silent() {
            // Nothing was learnt: what stood stands.
            self.failures = self.failures.saturating_add(1);
            self.due = Some(now + AGAIN.ceiling(self.failures));
            return;
        }
        let works = |protocol: Protocol| {
            let Votes { yes, no } = round.votes(protocol);
            yes > no
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

    /// The addresses that the router says it maps.
    pub(in crate::network) fn said(&self) -> BTreeSet<Multiaddr> {
        self.mapped().map_or_else(BTreeSet::new, |(_, outer, ports)| addresses(outer, ports))
    }

    /// Those of them at which peers got through.
    pub(in crate::network) fn works(&self) -> BTreeSet<Multiaddr> {
        self.mapped().map_or_else(BTreeSet::new, |(_, outer, _)| addresses(outer, self.works))
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

fn addresses(outer: Ipv4Addr, Ports { tcp, udp }: Ports) -> BTreeSet<Multiaddr> {
    let at = |part| Multiaddr::empty().with(multiaddr::Protocol::Ip4(outer)).with(part);
    let tcp = tcp.map(|port| at(multiaddr::Protocol::Tcp(port)));
    let udp = udp.map(|port| at(multiaddr::Protocol::Udp(port)).with(multiaddr::Protocol::QuicV1));
    tcp.into_iter().chain(udp).collect()
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
