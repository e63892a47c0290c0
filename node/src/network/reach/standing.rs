//! Whether others can connect to this node, from what is seen anyway.
//!
//! A peer that this node dialled says where it sees it. Where that is a public address that no listener of this machine has, a NAT
//! stands between. A NAT may let in what comes to it, because a port is forwarded; that shows when somebody connects whom this
//! node never asked: peers of two networks to which it did not dial, who say that they came to the same address. Who was dialled before
//! proves nothing, since some NATs let in all that comes from where something was sent. [AutoNAT](https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md)
//! has those that were dialled dial back, and so takes such a NAT for none; it is not used. How long such a proof holds, and what ends
//! it, is said in [`proofs`](super::proofs).
//!
//! A port that the router maps when it is asked counts too, once peers have got through it that were asked to try; see
//! [`mapping`](super::mapping). When it is mapped no longer, what strangers said of it counts no longer either.
//!
//! What peers say is checked against each other: what most networks say of where they see this node counts, and a machine that listens
//! at a public address is taken for reachable whatever they say. What was said lately goes before what was said first: homes get
//! another address from one day to the next. Pure, and bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol, swarm::ConnectionId};
use tokio::time::Instant;

use super::proofs::{Proofs, STRANGERS_MIN};

use crate::{
    config,
    limits::{REACH_NETWORKS_MAX, REACH_PROVED_MAX},
    network::{
        diversity::Network,
        peers::{ip_of, network_of},
        quic::is_quic,
    },
    peers::policy::{self, Scope},
};

/// For how long a network says where it sees this node, once two have said so later: connected peers say it every five minutes.
const SEEN_TIME: Duration = Duration::from_secs(15 * 60);

/// Whether others can connect to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Nothing speaks against it.
    #[default]
    Unknown,
    /// They can.
    Direct,
    /// They cannot, but through a relay.
    Behind,
}

/// What a NAT does with the port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// It has the same number for everybody, so that a direct connection can be made from a relayed one.
    Steady,
    /// It has another one for each.
    Changing,
}

/// The ports that lead to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ports {
    /// Over TCP.
    pub tcp: Option<u16>,
    /// Over QUIC.
    pub udp: Option<u16>,
}

/// Where a network sees this node.
#[derive(Debug)]
struct Seen {
    at: Multiaddr,
    /// Whether that was a connection from the port that is listened on.
    from_listener: bool,
    last: Instant,
}

/// What was seen.
#[derive(Debug, Default)]
pub(in crate::network) struct Standing {
    configured: config::Reach,
    listens: bool,
    bound: BTreeSet<Multiaddr>,
    /// Where peers see it that it dialled.
    seen: BTreeMap<Network, Seen>,
    proofs: Proofs,
    /// Addresses that the router says it maps to this node.
    said: BTreeSet<Multiaddr>,
    /// Those of them at which peers got through that were asked to try.
    mapped: BTreeSet<Multiaddr>,
}

impl Standing {
    pub(in crate::network) fn new(configured: config::Reach, listens: bool) -> Self {
        Self { configured, listens, ..Self::default() }
    }

    /// Notes an address that is listened on.
    pub(in crate::network) fn bound(&mut self, address: &Multiaddr) {
        if self.bound.len() < REACH_NETWORKS_MAX {
            self.bound.insert(address.clone());
        }
    }

    /// Notes that an address is not listened on any more.
    pub(in crate::network) fn unbound(&mut self, address: &Multiaddr) {
        self.bound.remove(address);
    }

    /// Whether an address is one that is listened on.
    pub(super) fn is_bound(&self, address: &Multiaddr) -> bool {
        self.bound.contains(address)
    }

    /// Forgets what was seen, since this machine is somewhere else now, and these connections are dead.
    pub(in crate::network) fn moved(&mut self, dead: &[ConnectionId], now: Instant) {
        self.seen.clear();
        self.proofs.moved(dead, now);
        self.said.clear();
        self.mapped.clear();
    }

    /// Forgets what is too old to count.
    pub(super) fn expire(&mut self, now: Instant) {
        self.proofs.expire(now);
        for is_v4 in [true, false] {
            let is_old = |seen: &Seen| now.saturating_duration_since(seen.last) >= SEEN_TIME;
            let is_of = |seen: &Seen| ip_of(&seen.at).is_some_and(|ip| ip.is_ipv4() == is_v4);
            let lately = self.seen.values().filter(|seen| is_of(seen) && !is_old(seen)).count();
            if lately >= STRANGERS_MIN {
                self.seen.retain(|_, seen| !is_of(seen) || !is_old(seen));
            }
        }
    }

    /// Notes a place that this node dialled.
    pub(in crate::network) fn dialled(&mut self, address: &Multiaddr, now: Instant) {
        self.proofs.dialled(address, now);
    }

    /// Notes a connection with a peer at `at`.
    pub(in crate::network) fn opened(
        &mut self,
        connection: ConnectionId,
        at: &Multiaddr,
        is_dialled: bool,
        now: Instant,
    ) {
        self.proofs.opened(connection, at, is_dialled, now);
    }

    /// Notes that a connection ended.
    pub(in crate::network) fn closed(&mut self, connection: ConnectionId, now: Instant) {
        self.proofs.closed(connection, now);
    }

    /// Notes where a peer sees this node that it is connected with at `at`: dialled, perhaps from the port that is listened on, or
    /// come by itself.
    pub(in crate::network) fn seen(
        &mut self,
        connection: ConnectionId,
        at: &Multiaddr,
        dialled: Option<bool>,
        observed: &Multiaddr,
        now: Instant,
    ) {
        let Some(network) = network_of(at) else { return };
        let Some(ip) = ip_of(observed).filter(|_| policy::scope_of(observed) == Scope::Public) else {
            return;
        };
        let Some(from_listener) = dialled else {
            return self.proofs.came(connection, network, observed, now);
        };
        let has_room = self.seen.len() < REACH_NETWORKS_MAX;
        match self.seen.get_mut(&network) {
            // From another port it is seen at a hole that leads nowhere: only that the machine is still there is news.
            Some(held) if held.from_listener && !from_listener && ip_of(&held.at) == Some(ip) => {
                held.last = now;
            }
            None if !has_room => {}
            _ => drop(self.seen.insert(network, Seen { at: observed.clone(), from_listener, last: now })),
        }
    }

    /// Whether others can connect to this node.
    pub(in crate::network) fn verdict(&self) -> Verdict {
        match self.configured {
            config::Reach::Direct => Verdict::Direct,
            config::Reach::Relay => Verdict::Behind,
            config::Reach::Auto if !self.listens => Verdict::Behind,
            config::Reach::Auto if self.proved().next().is_some() || !self.mapped.is_empty() => {
                Verdict::Direct
            }
            config::Reach::Auto if self.is_translated() => Verdict::Behind,
            config::Reach::Auto => Verdict::Unknown,
        }
    }

    /// Addresses to which strangers of several networks came. Where peers that this node dialled itself see it, the address has to be of the
    /// machine that most of their networks see: strangers choose this node, and could say what they like.
    pub(in crate::network) fn proved(&self) -> impl Iterator<Item = &Multiaddr> {
        let is_seen = |address: &&Multiaddr| ip_of(address).is_some_and(|ip| self.is_seen_at(ip));
        self.proofs.addresses().into_iter().filter(is_seen).take(REACH_PROVED_MAX)
    }

    /// Addresses that others are told of: proved by strangers, or mapped by the router and tried by peers.
    pub(super) fn for_others(&self) -> BTreeSet<Multiaddr> {
        match self.verdict() {
            Verdict::Direct => self.proved().chain(&self.mapped).cloned().collect(),
            Verdict::Unknown | Verdict::Behind => BTreeSet::new(),
        }
    }

    /// Proved addresses to which nobody came for a while, and that no router maps: peers are asked to try those in any case.
    pub(super) fn unvisited(&self, now: Instant) -> Vec<Multiaddr> {
        let unvisited = self
            .proved()
            .filter(|address| !self.said.contains(address) && self.proofs.is_unvisited(address, now));
        unvisited.cloned().collect()
    }

    /// Notes whether peers got through to an address that were asked to try.
    pub(super) fn checked(&mut self, address: &Multiaddr, leads_here: bool, now: Instant) {
        match leads_here {
            true => self.proofs.got_through(address, now),
            false => self.proofs.doubt(address),
        }
    }

    /// Notes which addresses the router says it maps to this node, and at which of them peers got through. What strangers said of one that
    /// is mapped no longer, or where peers do not get through any more, counts no longer.
    pub(super) fn mapped(&mut self, said: BTreeSet<Multiaddr>, works: BTreeSet<Multiaddr>) {
        for address in self.said.difference(&said).chain(self.mapped.difference(&works)) {
            self.proofs.doubt(address);
        }
        (self.said, self.mapped) = (said, works);
    }

    /// Whether a router that maps ports would help: a NAT stands between, and no port leads through it that the router was not asked for.
    pub(in crate::network) fn wants_mapping(&self) -> bool {
        let is_open = self.proved().any(|address| !self.said.contains(address));
        self.configured == config::Reach::Auto && self.listens && self.is_translated() && !is_open
    }

    /// Whether most networks that this node dialled, and that see it at an address of this kind, see it at this one; also where none does.
    pub(in crate::network) fn is_seen_at(&self, ip: IpAddr) -> bool {
        let of_kind =
            self.seen.values().filter_map(|seen| ip_of(&seen.at)).filter(|it| it.is_ipv4() == ip.is_ipv4());
        let (same, others): (Vec<_>, Vec<_>) = of_kind.partition(|it| *it == ip);
        others.is_empty() || same.len() > others.len()
    }

    /// What the NAT does with the port, where there is one and something is known of it.
    pub(in crate::network) fn mapping(&self) -> Option<Mapping> {
        let holes: BTreeSet<&Multiaddr> =
            self.seen.values().filter(|seen| seen.from_listener).map(|seen| &seen.at).collect();
        // The same port has one number for TCP, and may have another one for UDP.
        let (over_udp, over_tcp): (Vec<_>, Vec<_>) = holes.into_iter().partition(|hole| is_quic(hole));
        match (self.is_translated(), over_udp.len().max(over_tcp.len())) {
            (false, _) | (true, 0) => None,
            (true, 1) => Some(Mapping::Steady),
            (true, _) => Some(Mapping::Changing),
        }
    }

    /// The ports to forward to this machine: those of listeners that others can get to, over IPv4 where there are such.
    pub(in crate::network) fn ports(&self) -> Ports {
        let mut bound: Vec<&Multiaddr> =
            self.bound.iter().filter(|address| policy::scope_of(address) != Scope::Loopback).collect();
        bound.sort_by_key(|address| !ip_of(address).is_some_and(|ip| ip.is_ipv4()));
        let mut ports = Ports::default();
        for part in bound.into_iter().flat_map(Multiaddr::iter) {
            match part {
                Protocol::Tcp(port) => drop(ports.tcp.get_or_insert(port)),
                Protocol::Udp(port) => drop(ports.udp.get_or_insert(port)),
                _ => {}
            }
        }
        ports
    }

    /// Whether most networks see this node at a public address that nothing here listens on.
    fn is_translated(&self) -> bool {
        let own: BTreeSet<_> = self.bound.iter().filter_map(ip_of).collect();
        let is_public = self.bound.iter().any(|address| {
            policy::scope_of(address) == Scope::Public
                && matches!(address.iter().next(), Some(Protocol::Ip4(_)))
        });
        let v4 = self.seen.values().filter_map(|seen| ip_of(&seen.at)).filter(IpAddr::is_ipv4);
        let (other, same): (Vec<_>, Vec<_>) = v4.partition(|ip| !own.contains(ip));
        !is_public && other.len() > same.len()
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
