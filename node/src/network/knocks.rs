//! Inbound connections in their handshake: how many there may be, and which of them give way. Pure: `now` is an argument.
//!
//! Where all places are taken, the oldest handshake of the network that has most of them is given up for one of a network that has
//! fewer, so that whoever holds many addresses keeps nobody out. Among equals only a handshake that takes long gives way: were it
//! every one, whoever connects fastest would have none of the others end well.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use libp2p::{Multiaddr, swarm::ConnectionId};
use tokio::time::Instant;

use super::{
    admission::Full,
    diversity::Network,
    handshakes::GiveUp,
    peers::{ip_of, network_of},
};
use crate::peers::limits::HANDSHAKE_CROWDED;

/// Whose inbound handshakes are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    /// All of one public network.
    Network(Network),
    /// An address that is not public, which has a /64 where it is an IPv6 one.
    Address(IpAddr),
    /// Whoever has no IP address.
    Nameless,
}

/// An inbound connection in its handshake.
#[derive(Debug)]
pub(super) struct Incoming {
    address: Option<IpAddr>,
    party: Party,
    since: Instant,
    give_up: Option<GiveUp>,
}

/// The inbound connections in their handshake.
#[derive(Debug)]
pub(super) struct Knocks {
    /// How many there may be.
    all: usize,
    /// How many of one IPv4 address, or of one IPv6 /64.
    per_address: usize,
    /// By id, which is also the order in which they came.
    incoming: BTreeMap<ConnectionId, Incoming>,
    of_address: Counts<IpAddr>,
    of_party: Counts<Party>,
}

impl Knocks {
    pub(super) fn new(all: usize, per_address: usize) -> Self {
        let (of_address, of_party) = (Counts::default(), Counts::default());
        Self { all, per_address, incoming: BTreeMap::new(), of_address, of_party }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.incoming.len()
    }

    /// Notes a handshake that begins from an address, and what ends it.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub(super) fn knock(
        &mut self,
        connection: ConnectionId,
        from: &Multiaddr,
        give_up: Option<GiveUp>,
        now: Instant,
    ) -> Result<(), Full> {
        let address = ip_of(from).map(held_by_one);
        let party = match (network_of(from), address) {
            (Some(network), _) => Party::Network(network),
            (None, Some(address)) => Party::Address(address),
            (None, None) => Party::Nameless,
        };
        if let Some(address) = address {
            let max = self.per_address;
            let is_full = self.of_address.of(&address) >= max;
            if is_full && !self.give_up_slow(|_, it| it.address == Some(address), now) {
                return Err(Full::IncomingOfAddress { address, max });
            }
        }
        if self.incoming.len() >= self.all && !self.make_room(&party, now) {
            return Err(Full::Incoming(self.all));
        }
        address.into_iter().for_each(|address| self.of_address.add(address));
        self.of_party.add(party);
        self.incoming.insert(connection, Incoming { address, party, since: now, give_up });
        Ok(())
    }

    /// Gives up a handshake for one of `party`: the oldest of whoever has most of them. False where that has not many more, and
    /// may still end well.
    fn make_room(&mut self, party: &Party, now: Instant) -> bool {
        let most = self.of_party.most();
        // The other one has as many as `party` afterwards, at least: nobody gains by turns.
        if self.of_party.of(party) + 2 <= most {
            let oldest = self.oldest(|it| self.of_party.of(&it.party) == most);
            return oldest.is_some_and(|(oldest, _)| self.give_up(oldest));
        }
        self.give_up_slow(|knocks, it| knocks.of_party.of(&it.party) == most, now)
    }

    /// Gives up the oldest of some handshakes, where it takes long.
    fn give_up_slow(&mut self, is_one: impl Fn(&Self, &Incoming) -> bool, now: Instant) -> bool {
        let slow = |since: &Instant| now.saturating_duration_since(*since) >= HANDSHAKE_CROWDED;
        let oldest = self.oldest(|it| is_one(self, it)).filter(|(_, since)| slow(since));
        oldest.is_some_and(|(oldest, _)| self.give_up(oldest))
    }

    /// The oldest of some handshakes, and since when it is in progress.
    fn oldest(&self, is_one: impl Fn(&Incoming) -> bool) -> Option<(ConnectionId, Instant)> {
        let mut incoming = self.incoming.iter();
        incoming.find(|(_, it)| is_one(it)).map(|(connection, it)| (*connection, it.since))
    }

    /// Gives up a handshake, and its place at once; what became of it is of no interest any more.
    fn give_up(&mut self, connection: ConnectionId) -> bool {
        let Some(incoming) = self.forget(connection) else { return false };
        if let Some(give_up) = incoming.give_up {
            give_up.now();
        }
        true
    }

    /// Notes that a handshake ended, well or not.
    pub(super) fn forget(&mut self, connection: ConnectionId) -> Option<Incoming> {
        let incoming = self.incoming.remove(&connection)?;
        incoming.address.iter().for_each(|address| self.of_address.take(address));
        self.of_party.take(&incoming.party);
        Some(incoming)
    }
}

/// What one machine has at least: an IPv4 address, or an IPv6 /64.
fn held_by_one(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        ip => ip,
    }
}

/// How many there are of each; of what there is none, nothing is kept.
#[derive(Debug)]
pub(super) struct Counts<K>(pub(super) BTreeMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    pub(super) fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// The largest number there is of any.
    pub(super) fn most(&self) -> usize {
        self.0.values().copied().max().unwrap_or(0)
    }

    pub(super) fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    pub(super) fn take(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 8;

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn one_address_has_its_share_of_handshakes_and_gets_it_back() {
        let (mut knocks, now) = (Knocks::new(ALL, 2), Instant::now());
        let mut knock = |n: usize, ip: &str| {
            let remote: Multiaddr = format!("{ip}/tcp/{n}").parse().unwrap();
            knocks.knock(id(n), &remote, None, now).is_ok()
        };
        assert!(knock(1, "/ip4/192.0.2.7") && knock(2, "/ip4/192.0.2.7") && !knock(3, "/ip4/192.0.2.7"));
        assert!(knock(4, "/ip4/192.0.2.8"), "another address is not affected");
        let of_one = ["/ip6/2001:db8:0:1::1", "/ip6/2001:db8:0:1::2", "/ip6/2001:db8:0:1:ffff::3"];
        assert!(knock(5, of_one[0]) && knock(6, of_one[1]));
        assert!(!knock(7, of_one[2]), "a /64 is one party");
        assert!(knock(8, "/ip6/2001:db8:0:2::1"));
        knocks.forget(id(1));
        knocks.forget(id(1));
        assert_eq!(knocks.of_address.0.values().sum::<usize>(), 5);
        assert_eq!(knocks.incoming.len(), 5);
    }

    /// Handshakes of `ip` that begin at `now`; how many of them have a place.
    fn enter(knocks: &mut Knocks, first: usize, count: usize, ip: &str, now: Instant) -> usize {
        let knock = |n: &usize| {
            let remote: Multiaddr = format!("{ip}/tcp/{n}").parse().unwrap();
            knocks.knock(id(*n), &remote, None, now).is_ok()
        };
        (first..first + count).filter(knock).count()
    }

    #[test]
    fn whoever_holds_many_addresses_gives_way_to_whoever_holds_few() {
        let (mut knocks, now) = (Knocks::new(ALL, 2), Instant::now());
        // A /24 with an address for every two handshakes, and two others.
        for n in 0..3 {
            assert_eq!(enter(&mut knocks, 2 * n, 2, &format!("/ip4/203.0.113.{n}"), now), 2);
        }
        assert_eq!(enter(&mut knocks, 6, 1, "/ip4/198.51.100.1", now), 1);
        assert_eq!(enter(&mut knocks, 7, 1, "/ip4/10.0.0.1", now), 1);
        assert_eq!(enter(&mut knocks, 8, 1, "/ip4/192.0.2.1", now), 1, "all of them are taken");
        assert!(!knocks.incoming.contains_key(&id(0)), "the oldest of the /24 was given up");
        assert_eq!(enter(&mut knocks, 9, 2, "/ip4/10.0.0.2", now), 2);
        assert_eq!(knocks.incoming.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10].map(id));
        assert_eq!(enter(&mut knocks, 11, 2, "/ip4/203.0.113.9", now), 0, "it has most of them itself");
        assert_eq!(enter(&mut knocks, 13, 1, "/ip4/10.0.0.3", now), 1);
        assert_eq!(enter(&mut knocks, 14, 1, "/ip4/192.0.2.2", now), 0, "all have as many, or one more");
        assert_eq!(knocks.incoming.len(), ALL);
        assert_eq!(knocks.of_party.0.values().sum::<usize>(), ALL);
    }

    #[test]
    fn among_equals_only_a_slow_handshake_gives_way() {
        let (mut knocks, start) = (Knocks::new(ALL, 2), Instant::now());
        let later = start + HANDSHAKE_CROWDED;
        assert_eq!(enter(&mut knocks, 0, 3, "/ip4/10.0.0.1", start), 2);
        assert_eq!(enter(&mut knocks, 3, 3, "/ip4/10.0.0.1", later), 2, "of one address");
        assert_eq!(knocks.incoming.keys().copied().collect::<Vec<_>>(), [3, 4].map(id));
        for n in 2..8 {
            assert_eq!(enter(&mut knocks, 10 * n, 1, &format!("/ip4/10.0.0.{n}"), later), 1);
        }
        knocks.forget(id(3));
        assert_eq!(enter(&mut knocks, 80, 2, "/ip4/10.0.0.8", later), 1);
        assert_eq!(enter(&mut knocks, 90, 2, "/ip4/10.0.0.9", later + HANDSHAKE_CROWDED), 2);
        assert_eq!(enter(&mut knocks, 95, 1, "/ip4/10.0.0.9", later + HANDSHAKE_CROWDED), 0);
        assert_eq!(knocks.incoming.len(), ALL);
    }
}
