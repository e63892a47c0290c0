//! Whether others can connect to this node, from what is seen anyway.
//!
//! A peer that this node dialled says where it sees it. Where that is a public address that no listener of this machine has, a NAT
//! stands between. A NAT may let in what comes to it, because a port is forwarded; that shows when somebody connects whom this
//! node never asked: peers of two networks to which it never dialled, who say that they came to the same address. Who was dialled before
//! proves nothing, since some NATs let in all that comes from where something was sent. [AutoNAT](https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md)
//! has those that were dialled dial back, and so takes such a NAT for none; it is not used.
//!
//! A port that the router maps when it is asked counts too, once peers have got through it that were asked to try; see
//! [`mapping`](super::mapping).
//!
//! What peers say is checked against each other: what most networks say of where they see this node counts, and a machine that listens
//! at a public address is taken for reachable whatever they say. Pure, and bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{
    config,
    limits::REACH_NETWORKS_MAX,
    network::{
        diversity::Network,
        peers::{ip_of, network_of},
        quic::is_quic,
    },
    peers::policy::{self, Scope},
};

/// Networks that this node never dialled and that have to have come to an address before others are told of it.
const STRANGERS_MIN: usize = 2;

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

/// What was seen.
#[derive(Debug, Default)]
pub(in crate::network) struct Standing {
    configured: config::Reach,
    listens: bool,
    bound: BTreeSet<Multiaddr>,
    /// Networks that this node dialled.
    dialled: BTreeSet<Network>,
    /// Where peers of such a network saw it, and whether that was a connection from the port that is listened on.
    seen: BTreeMap<Network, (Multiaddr, bool)>,
    /// The address that peers of a network say they came to by themselves: one for each network, the first.
    came: BTreeMap<Network, Multiaddr>,
    /// Addresses that the router maps to this node, at which peers got through that were asked to try.
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

    /// Forgets what was seen, since this machine is somewhere else now.
    pub(in crate::network) fn moved(&mut self) {
        self.dialled.clear();
        self.seen.clear();
        self.came.clear();
        self.mapped.clear();
    }

    /// Notes a place that this node dialled.
    pub(in crate::network) fn dialled(&mut self, address: &Multiaddr) {
        let Some(network) = network_of(address) else { return };
        if self.dialled.len() < REACH_NETWORKS_MAX {
            self.dialled.insert(network);
        }
    }

    /// Notes where a peer sees this node that it is connected with at `at`: dialled, perhaps from the port that is listened on, or
    /// come by itself.
    pub(in crate::network) fn seen(&mut self, at: &Multiaddr, dialled: Option<bool>, observed: &Multiaddr) {
        let Some(network) = network_of(at) else { return };
        if policy::scope_of(observed) != Scope::Public || ip_of(observed).is_none() {
            return;
        }
        match dialled {
            Some(from_listener) => {
                let is_new = !self.seen.contains_key(&network);
                let has_room = self.seen.len() < REACH_NETWORKS_MAX;
                if (is_new && has_room) || (!is_new && from_listener) {
                    self.seen.insert(network, (observed.clone(), from_listener));
                }
            }
            // Where the set is full, nobody counts as a stranger any more.
            None if self.dialled.contains(&network) || self.dialled.len() >= REACH_NETWORKS_MAX => {}
            None if self.came.len() >= REACH_NETWORKS_MAX => {}
            None => drop(self.came.entry(network).or_insert_with(|| observed.clone())),
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
        let addresses: BTreeSet<&Multiaddr> = self.came.values().collect();
        let voices = |address: &&Multiaddr| self.came.values().filter(|it| it == address).count();
        let is_seen = |address: &&Multiaddr| ip_of(address).is_some_and(|ip| self.is_seen_at(ip));
        addresses.into_iter().filter(is_seen).filter(move |address| voices(address) >= STRANGERS_MIN)
    }

    /// Notes at which addresses peers got through that the router maps to this node.
    pub(in crate::network) fn mapped(&mut self, addresses: BTreeSet<Multiaddr>) {
        self.mapped = addresses;
    }

    /// Whether a router that maps ports would help: a NAT stands between, and no port leads through it that the router was not asked for.
    pub(in crate::network) fn wants_mapping(&self) -> bool {
        let is_open = self.proved().any(|address| !self.mapped.contains(address));
        self.configured == config::Reach::Auto && self.listens && self.is_translated() && !is_open
    }

    /// Whether most networks that this node dialled, and that see it at an address of this kind, see it at this one; also where none does.
    pub(in crate::network) fn is_seen_at(&self, ip: IpAddr) -> bool {
        let of_kind =
            self.seen.values().filter_map(|(at, _)| ip_of(at)).filter(|it| it.is_ipv4() == ip.is_ipv4());
        let (same, others): (Vec<_>, Vec<_>) = of_kind.partition(|it| *it == ip);
        others.is_empty() || same.len() > others.len()
    }

    /// What the NAT does with the port, where there is one and something is known of it.
    pub(in crate::network) fn mapping(&self) -> Option<Mapping> {
        let holes: BTreeSet<&Multiaddr> =
            self.seen.values().filter(|(_, from_listener)| *from_listener).map(|(hole, _)| hole).collect();
        // The same port has one number for TCP, and may have another one for UDP.
        let (over_udp, over_tcp): (Vec<_>, Vec<_>) = holes.into_iter().partition(|hole| is_quic(hole));
        match (self.is_translated(), over_udp.len().max(over_tcp.len())) {
            (false, _) | (true, 0) => None,
            (true, 1) => Some(Mapping::Steady),
            (true, _) => Some(Mapping::Changing),
        }
    }

    /// The ports to forward to this machine.
    pub(in crate::network) fn ports(&self) -> Ports {
        let mut ports = Ports::default();
        for part in self.bound.iter().flat_map(Multiaddr::iter) {
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
        let v4 = self.seen.values().filter(|(at, _)| matches!(at.iter().next(), Some(Protocol::Ip4(_))));
        let (other, same): (Vec<_>, Vec<_>) =
            v4.partition(|(at, _)| ip_of(at).is_none_or(|ip| !own.contains(&ip)));
        !is_public && other.len() > same.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    const HOLE: &str = "/ip4/203.0.113.21/tcp/4001";

    /// A node that listens at a private address.
    fn private() -> Standing {
        let mut standing = Standing::new(config::Reach::Auto, true);
        standing.bound(&at("/ip4/127.0.0.1/tcp/4001"));
        standing.bound(&at("/ip4/192.168.1.7/tcp/4001"));
        standing
    }

    #[test]
    fn who_is_seen_where_nothing_listens_is_behind_a_nat() {
        let mut standing = private();
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
        standing.seen(&at("/ip4/192.168.1.9/tcp/1"), Some(true), &at("/ip4/192.168.1.7/tcp/4001"));
        assert_eq!(standing.verdict(), Verdict::Unknown, "in the same house");
        standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Steady)));
        assert_eq!(standing.ports(), Ports { tcp: Some(4001), udp: None });
        standing.seen(&at("/ip4/9.9.9.9/tcp/1"), Some(false), &at("/ip4/203.0.113.21/tcp/50000"));
        assert_eq!(standing.mapping(), Some(Mapping::Steady), "it was dialled from another port");
        standing.seen(&at("/ip4/9.9.9.9/tcp/1"), Some(true), &at("/ip4/203.0.113.21/tcp/50001"));
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Changing)));
    }

    #[test]
    fn a_nat_may_give_tcp_and_udp_different_ports_and_is_steady() {
        let mut standing = private();
        standing.bound(&at("/ip4/192.168.1.7/udp/4002/quic-v1"));
        assert_eq!(standing.ports(), Ports { tcp: Some(4001), udp: Some(4002) });
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        standing.seen(&at("/ip4/9.9.9.9/udp/1/quic-v1"), Some(true), &at("/ip4/203.0.113.21/udp/9/quic-v1"));
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Steady)));
        standing.seen(&at("/ip4/1.1.1.1/udp/1/quic-v1"), Some(true), &at("/ip4/203.0.113.21/udp/8/quic-v1"));
        assert_eq!(standing.mapping(), Some(Mapping::Changing));
    }

    #[test]
    fn a_machine_with_a_public_address_is_not_talked_out_of_it() {
        let mut standing = private();
        standing.bound(&at("/ip4/198.51.100.1/tcp/4001"));
        for n in 1..100 {
            standing.seen(&at(&format!("/ip4/8.8.{n}.8/tcp/1")), Some(true), &at(HOLE));
        }
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
        standing.unbound(&at("/ip4/198.51.100.1/tcp/4001"));
        assert_eq!(standing.verdict(), Verdict::Behind, "it moved into a house");
    }

    #[test]
    fn strangers_of_two_networks_prove_an_address_and_nobody_who_was_dialled_does() {
        let mut standing = private();
        standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        // A NAT may let in whom something was sent to.
        standing.seen(&at("/ip4/8.8.8.8/tcp/50000"), None, &at(HOLE));
        standing.seen(&at("/ip4/8.8.8.9/tcp/50000"), None, &at(HOLE));
        // One network tells what it likes, and strangers tell different things.
        for n in 1..100 {
            standing.seen(&at("/ip4/9.9.9.9/tcp/50000"), None, &at(&format!("/ip4/9.9.{n}.1/tcp/1")));
            standing.seen(&at("/ip4/9.9.9.9/tcp/50000"), None, &at(HOLE));
        }
        standing.seen(&at("/ip4/1.1.1.1/tcp/50000"), None, &at("/ip4/10.0.0.1/tcp/4001"));
        assert_eq!((standing.verdict(), standing.proved().count()), (Verdict::Behind, 0));
        assert!(standing.came.len() <= REACH_NETWORKS_MAX);
        let mut standing = private();
        for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
            assert_ne!(standing.verdict(), Verdict::Direct);
            standing.seen(&at(from), None, &at(HOLE));
        }
        assert_eq!(
            (standing.verdict(), standing.proved().collect::<Vec<_>>()),
            (Verdict::Direct, vec![&at(HOLE)])
        );
    }

    #[test]
    fn a_router_is_asked_where_a_nat_stands_between_and_no_port_leads_through_it() {
        const MAPPED: &str = "/ip4/203.0.113.21/tcp/12345";
        let mut standing = private();
        assert!(!standing.wants_mapping(), "no NAT was seen");
        standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        assert!(standing.wants_mapping() && standing.verdict() == Verdict::Behind);
        standing.mapped(BTreeSet::from([at(MAPPED)]));
        assert_eq!(standing.verdict(), Verdict::Direct);
        for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
            standing.seen(&at(from), None, &at(MAPPED));
        }
        assert!(standing.wants_mapping(), "strangers came to what the router maps");
        standing.mapped(BTreeSet::new());
        assert_eq!(
            (standing.wants_mapping(), standing.verdict()),
            (false, Verdict::Direct),
            "somebody forwarded it"
        );
        standing.moved();
        assert!(!standing.wants_mapping());
        for (configured, listens) in
            [(config::Reach::Direct, true), (config::Reach::Relay, true), (config::Reach::Auto, false)]
        {
            let mut standing = Standing::new(configured, listens);
            standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
            assert!(!standing.wants_mapping());
        }
    }

    #[test]
    fn strangers_prove_no_address_of_another_machine_than_the_dialled_see() {
        let mut standing = private();
        for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
            standing.seen(&at(from), None, &at("/ip4/203.0.113.99/tcp/4001"));
        }
        standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        assert_eq!((standing.verdict(), standing.proved().count()), (Verdict::Behind, 0));
        for from in ["/ip4/5.5.5.5/tcp/50000", "/ip4/6.6.6.6/tcp/50000"] {
            standing.seen(&at(from), None, &at(HOLE));
        }
        assert_eq!(standing.proved().collect::<Vec<_>>(), [&at(HOLE)]);
    }

    #[test]
    fn a_machine_that_moved_knows_nothing_of_where_it_is() {
        let mut standing = private();
        standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        assert_eq!(standing.verdict(), Verdict::Behind);
        standing.moved();
        assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), None, &at(HOLE));
        assert!(standing.came.len() == 1, "it was dialled from elsewhere");
    }

    #[test]
    fn what_the_configuration_says_counts() {
        for (configured, listens, verdict) in [
            (config::Reach::Direct, true, Verdict::Direct),
            (config::Reach::Relay, true, Verdict::Behind),
            (config::Reach::Auto, false, Verdict::Behind),
            (config::Reach::Auto, true, Verdict::Unknown),
        ] {
            assert_eq!(Standing::new(configured, listens).verdict(), verdict);
        }
    }
}
