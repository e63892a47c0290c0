//! Which peers are on the local network, and which of them to dial. Pure: `now` is an argument, and what is bounded here is bounded
//! whatever others say.
//!
//! Anyone on the local network can answer for anyone, under any address. An answer is believed only as far as it names a private address
//! on the link of one of this machine's interfaces: nobody is sent elsewhere by it. Who answers there is proved by the handshake.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use if_watch::IpNet;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::{
    limits::{NEARBY_ADDRESSES_MAX, NEARBY_DIALLED_AT_ONCE_MAX, NEARBY_NETS_MAX, NEARBY_PEERS_MAX},
    network::peers::ip_of,
    peers::{
        Backoff,
        policy::{self, Origin, Scope},
    },
};

/// How a peer is dialled again that was found: a node of ours is reached at once, others share the port of the answers with it.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30 * 60));

/// A peer that answered on the local network.
#[derive(Debug, Default)]
struct Neighbour {
    addresses: Vec<Multiaddr>,
    /// Dials since it was last known to be of ours.
    tried: u32,
    due: Option<Instant>,
    is_dialled: bool,
}

/// The peers of the local network.
#[derive(Debug, Default)]
pub(in crate::network) struct Neighbours {
    /// The private networks that this machine is in.
    nets: BTreeSet<IpNet>,
    known: BTreeMap<PeerId, Neighbour>,
}

impl Neighbours {
    /// Notes the networks of the interfaces. What was tried in others says nothing about these.
    pub(super) fn moved_to(&mut self, nets: impl IntoIterator<Item = IpNet>) {
        let is_private = |net: &IpNet| policy::scope_of_ip(net.addr()) == Ok(Scope::Private);
        self.nets = nets.into_iter().filter(is_private).take(NEARBY_NETS_MAX).collect();
        let nets = &self.nets;
        for neighbour in self.known.values_mut() {
            neighbour.addresses.retain(|address| is_on(nets, address));
            (neighbour.tried, neighbour.due) = (0, None);
        }
        self.known.retain(|_, neighbour| !neighbour.addresses.is_empty());
    }

    /// Whether an address is on the local network.
    pub(in crate::network) fn is_near(&self, address: &Multiaddr) -> bool {
        is_on(&self.nets, address)
    }

    /// Whether a peer was found on the local network.
    pub(in crate::network) fn is_known(&self, peer: &PeerId) -> bool {
        self.known.contains_key(peer)
    }

    /// How many peers were found on the local network.
    pub(in crate::network) fn len(&self) -> usize {
        self.known.len()
    }

    /// Notes that a peer answered; whether it is believed.
    pub(super) fn found(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let Ok(address) = policy::without_peer(address, &peer) else { return false };
        let is_acceptable = policy::acceptable(&address, Origin::Peer(Scope::Private)).is_ok();
        if !is_acceptable || !is_on(&self.nets, &address) {
            return false;
        }
        if !self.known.contains_key(&peer) && self.known.len() >= NEARBY_PEERS_MAX {
            // Who was dialled in vain most often makes room; who was not dialled yet has had no chance.
            let worst = self.known.iter().max_by_key(|(_, neighbour)| neighbour.tried);
            let Some(worst) = worst.filter(|(_, it)| it.tried > 0 && !it.is_dialled).map(|(peer, _)| *peer)
            else {
                return false;
            };
            self.known.remove(&worst);
        }
        let neighbour = self.known.entry(peer).or_default();
        if !neighbour.addresses.contains(&address) && neighbour.addresses.len() < NEARBY_ADDRESSES_MAX {
            neighbour.addresses.push(address);
        }
        true
    }

    /// Notes that a peer answers under an address no longer.
    pub(super) fn lost(&mut self, peer: PeerId, address: &Multiaddr) {
        let Ok(address) = policy::without_peer(address, &peer) else { return };
        if let Some(neighbour) = self.known.get_mut(&peer) {
            neighbour.addresses.retain(|it| *it != address);
            if neighbour.addresses.is_empty() {
                self.known.remove(&peer);
            }
        }
    }

    /// Takes the peers that are to be dialled now, of those that are not connected.
    pub(super) fn due(
        &mut self,
        is_connected: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let dialled = self.known.values().filter(|it| it.is_dialled).count();
        let is_due = |it: &Neighbour| !it.is_dialled && it.due.is_none_or(|due| due <= now);
        let mut due: Vec<(u32, PeerId)> = self
            .known
            .iter()
            .filter(|(peer, neighbour)| is_due(neighbour) && !is_connected(peer))
            .map(|(peer, neighbour)| (neighbour.tried, *peer))
            .collect();
        due.sort_unstable();
        due.truncate(NEARBY_DIALLED_AT_ONCE_MAX.saturating_sub(dialled));
        let mut taken = Vec::new();
        for (_, peer) in due {
            let Some(neighbour) = self.known.get_mut(&peer) else { continue };
            neighbour.tried = neighbour.tried.saturating_add(1);
            neighbour.due = Some(now + AGAIN.ceiling(neighbour.tried));
            neighbour.is_dialled = true;
            taken.push((peer, neighbour.addresses.clone()));
        }
        taken
    }

    /// Notes that a dial of a peer ended, whoever began it.
    pub(in crate::network) fn dialled(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.known.get_mut(peer) {
            neighbour.is_dialled = false;
        }
    }

    /// Notes that a peer is a node of ours: it is dialled again soon where its connection breaks.
    pub(in crate::network) fn is_ours(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.known.get_mut(peer) {
            (neighbour.tried, neighbour.due) = (0, None);
        }
    }
}

/// Whether an address is a private one on one of these networks.
fn is_on(nets: &BTreeSet<IpNet>, address: &Multiaddr) -> bool {
    let is_private = |ip: &std::net::IpAddr| policy::scope_of_ip(*ip) == Ok(Scope::Private);
    let ip = ip_of(address).filter(|ip| is_private(ip) && !policy::is_relayed(address));
    ip.is_some_and(|ip| nets.iter().any(|net| net.contains(&ip)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn at_home() -> Neighbours {
        let mut neighbours = Neighbours::default();
        neighbours.moved_to([net("127.0.0.1/8"), net("192.168.1.7/24"), net("fe80::7/64"), net("8.8.8.8/8")]);
        neighbours
    }

    #[test]
    fn only_what_is_private_and_on_a_link_of_this_machine_is_believed() {
        let (mut neighbours, peer) = (at_home(), PeerId::random());
        let relayed = format!("/ip4/192.168.1.8/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        let of_another = format!("/ip4/192.168.1.8/tcp/1/p2p/{}", PeerId::random());
        for refused in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/192.168.2.8/tcp/4001",
            "/ip4/10.0.0.1/tcp/22",
            "/ip4/8.8.8.9/tcp/4001",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/192.168.1.8/tcp/0",
            "/ip4/192.168.1.8/udp/4001",
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            "/dns4/router.local/tcp/80",
            "/dns4/a\u{7}\u{1b}[2J/tcp/80",
            &relayed,
            &of_another,
        ] {
            assert!(!neighbours.found(peer, &at(refused)), "{refused}");
        }
        assert!(!neighbours.is_known(&peer) && neighbours.due(|_| false, Instant::now()).is_empty());
        assert!(neighbours.found(peer, &at(&format!("/ip4/192.168.1.8/tcp/4001/p2p/{peer}"))));
        assert!(neighbours.found(peer, &at("/ip6/fe80::8/tcp/4001")));
        let wanted = vec![at("/ip4/192.168.1.8/tcp/4001"), at("/ip6/fe80::8/tcp/4001")];
        assert_eq!(neighbours.due(|_| false, Instant::now()), [(peer, wanted)]);
    }

    #[test]
    fn a_node_without_private_networks_believes_nobody() {
        let mut neighbours = Neighbours::default();
        neighbours.moved_to([net("127.0.0.1/8"), net("203.0.113.1/24")]);
        assert!(!neighbours.found(PeerId::random(), &at("/ip4/203.0.113.2/tcp/4001")));
        assert!(!neighbours.is_near(&at("/ip4/127.0.0.1/tcp/1")));
    }

    #[test]
    fn a_flood_of_answers_is_bounded_and_real_ones_find_room_again() {
        let (mut neighbours, now) = (at_home(), Instant::now());
        for n in 0..10_000_u32 {
            let [.., a, b] = n.to_be_bytes();
            neighbours.found(PeerId::random(), &at(&format!("/ip4/192.168.1.{b}/tcp/{}", 1 + u16::from(a))));
        }
        assert_eq!(neighbours.len(), NEARBY_PEERS_MAX);
        let real = PeerId::random();
        assert!(!neighbours.found(real, &at("/ip4/192.168.1.9/tcp/4001")), "nobody of them was tried");
        let dialled = neighbours.due(|_| false, now);
        assert_eq!(dialled.len(), NEARBY_DIALLED_AT_ONCE_MAX);
        assert!(neighbours.due(|_| false, now + AGAIN.ceiling(9)).is_empty(), "none of them has ended");
        dialled.iter().for_each(|(peer, _)| neighbours.dialled(peer));
        assert!(neighbours.found(real, &at("/ip4/192.168.1.9/tcp/4001")));
        assert_eq!(neighbours.len(), NEARBY_PEERS_MAX);
        for n in 1..100 {
            neighbours.found(real, &at(&format!("/ip4/192.168.1.9/tcp/{n}")));
        }
        assert_eq!(neighbours.known[&real].addresses.len(), NEARBY_ADDRESSES_MAX);
    }

    #[test]
    fn who_is_no_node_of_ours_is_dialled_less_and_less() {
        let (mut neighbours, peer, start) = (at_home(), PeerId::random(), Instant::now());
        neighbours.found(peer, &at("/ip4/192.168.1.8/tcp/4001"));
        let mut dials = 0;
        for second in 0..3_600 {
            dials += neighbours.due(|_| false, start + Duration::from_secs(second)).len();
            neighbours.dialled(&peer);
        }
        assert!((8..=13).contains(&dials), "{dials}");
        neighbours.is_ours(&peer);
        assert_eq!(neighbours.due(|_| true, start + Duration::from_secs(3_600)), [], "it is connected");
        assert_eq!(neighbours.due(|_| false, start + Duration::from_secs(3_600)).len(), 1);
    }

    #[test]
    fn what_was_found_in_another_network_is_forgotten() {
        let (mut neighbours, peer) = (at_home(), PeerId::random());
        neighbours.found(peer, &at("/ip4/192.168.1.8/tcp/4001"));
        neighbours.lost(peer, &at("/ip4/192.168.1.9/tcp/4001"));
        assert!(neighbours.is_known(&peer));
        neighbours.moved_to([net("10.1.0.7/16")]);
        assert!(!neighbours.is_known(&peer));
        neighbours.found(peer, &at("/ip4/10.1.2.3/tcp/4001"));
        neighbours.lost(peer, &at(&format!("/ip4/10.1.2.3/tcp/4001/p2p/{peer}")));
        assert!(!neighbours.is_known(&peer));
    }

    proptest! {
        #[test]
        fn nobody_is_sent_out_of_the_local_network(
            answers in proptest::collection::vec((any::<[u8; 4]>(), any::<u16>(), any::<bool>()), 0..200),
        ) {
            let mut neighbours = at_home();
            for (ip, port, is_home) in answers {
                let ip = if is_home { [192, 168, 1, ip[3]] } else { ip };
                let address = at(&format!("/ip4/{}/tcp/{port}", std::net::Ipv4Addr::from(ip)));
                neighbours.found(PeerId::random(), &address);
            }
            for (peer, addresses) in neighbours.due(|_| false, Instant::now()) {
                prop_assert!(neighbours.is_known(&peer));
                prop_assert!(addresses.iter().all(|it| it.to_string().starts_with("/ip4/192.168.1.")));
            }
        }
    }
}
