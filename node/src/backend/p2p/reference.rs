//! What time it is, as the peers say.
//!
//! A node cannot tell from its own clock that it is wrong: it signs what everybody refuses, and refuses what everybody lists. So
//! it asks its peers, and believes no single one of them. Each network has one vote, however many peers are in it, and where enough
//! peers are there that this node chose itself, and agree, only they count: anyone can connect to it. The time is the median of the votes, as
//! long as most of them are near it: fewer than half can lie without moving it beyond what the honest ones say
//! ([Marzullo](https://doi.org/10.1145/1165389.945480) bounds it the same way).
//!
//! Three peers in two networks are enough to say that the clock is wrong. Fewer are not: they make a doubt, which holds up what is
//! signed for a while and never for longer, so that a lone liar stops nobody.
//!
//! Pure: both clocks are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;

use crate::{
    limits::{CLOCK_OFF_MAX, CLOCKS_MAX},
    peers::policy::Locality,
    time::Timestamp,
};

/// How long the word of a peer counts.
const SAID_FRESH: Duration = Duration::from_secs(30 * 60);
/// Peers that it takes to be sure.
const PEERS_LEAST: usize = 3;
/// Networks that it takes to be sure.
const NETWORKS_LEAST: usize = 2;

/// What a peer said.
#[derive(Debug, Clone, Copy)]
struct Said {
    network: Locality,
    /// Whether this node dialled it.
    is_chosen: bool,
    /// What its clock said, and the running clock here at that moment, in seconds.
    time: i128,
    at: i128,
}

impl Said {
    /// What its clock said when the running clock here began.
    fn beginning(&self) -> i128 {
        self.time - self.at
    }
}

/// How far the wall clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Off {
    /// What the peers say it is.
    pub(super) expected: Timestamp,
    /// What the wall clock says.
    pub(super) wall: Timestamp,
    /// How many peers say so.
    pub(super) peers: usize,
    /// In how many networks.
    pub(super) networks: usize,
}

/// What the peers say of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody says anything, or they contradict each other.
    Unknown,
    /// All that said something agree with it, or most of those that are enough to be sure.
    Right,
    /// It is off, as a few say.
    Doubtful(Off),
    /// It is off, as most of enough say.
    Wrong(Off),
}

/// The clocks of peers, in relation to the running clock here.
#[derive(Debug, Default)]
pub(super) struct Reference(BTreeMap<PeerId, Said>);

impl Reference {
    /// Notes what the clock of a peer said when the running clock here said `running`.
    pub(super) fn note(
        &mut self,
        peer: PeerId,
        network: Locality,
        is_chosen: bool,
        time: Timestamp,
        running: Duration,
    ) {
        if self.0.len() >= CLOCKS_MAX && !self.0.contains_key(&peer) {
            // Those that only connect make way: of the network that has most of them, what was said first. More of one network
            // than of any other never turn others out.
            let in_network =
                |network: Locality| self.0.values().filter(|said| said.network == network).count();
            let crowded = self.0.iter().max_by_key(|(_, said)| {
                (!said.is_chosen, in_network(said.network), std::cmp::Reverse(said.at))
            });
            if let Some((crowded, said)) = crowded.map(|(peer, said)| (*peer, *said)) {
                if !is_chosen && (said.is_chosen || in_network(network) >= in_network(said.network)) {
                    return;
                }
                self.0.remove(&crowded);
            }
        }
        let (time, at) = (i128::from(time.as_secs()), i128::from(running.as_secs()));
        self.0.insert(peer, Said { network, is_chosen, time, at });
    }

    /// Forgets what a peer said that has gone, unless this node chose it: otherwise those that come and go would fill the room.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if self.0.get(peer).is_some_and(|said| !said.is_chosen) {
            self.0.remove(peer);
        }
    }

    /// Says whether the wall clock is right.
    pub(super) fn verdict(&self, wall: Timestamp, running: Duration) -> Verdict {
        let now = i128::from(running.as_secs());
        let fresh = |said: &&Said| now - said.at <= i128::from(SAID_FRESH.as_secs());
        let all: Vec<&Said> = self.0.values().filter(fresh).collect();
        let chosen: Vec<&Said> = all.iter().copied().filter(|said| said.is_chosen).collect();
        // Where those that were chosen contradict each other, the others have to say.
        let of_chosen = agreed(&chosen).filter(|_| is_enough(&chosen));
        let (counted, beginning) = match of_chosen {
            Some(beginning) => (chosen, Some(beginning)),
            None => (all.clone(), agreed(&all)),
        };
        let Some(beginning) = beginning else { return Verdict::Unknown };
        let expected = beginning + now;
        let off = expected.abs_diff(i128::from(wall.as_secs()));
        if off <= u128::from(CLOCK_OFF_MAX.as_secs()) {
            return Verdict::Right;
        }
        let off = Off {
            expected: Timestamp::from_secs(u64::try_from(expected.max(0)).unwrap_or(u64::MAX)),
            wall,
            peers: counted.len(),
            networks: Locality::networks(counted.iter().map(|said| said.network)),
        };
        if is_enough(&counted) { Verdict::Wrong(off) } else { Verdict::Doubtful(off) }
    }
}

fn is_enough(said: &[&Said]) -> bool {
    // Each process of this machine counts: they are its user's own.
    let places: BTreeSet<Locality> = said.iter().map(|said| said.network).collect();
    said.len() >= PEERS_LEAST && places.len() >= NETWORKS_LEAST
}

/// The median of the networks' medians, where most networks are near it.
fn agreed(said: &[&Said]) -> Option<i128> {
    let mut by_network: BTreeMap<Locality, Vec<i128>> = BTreeMap::new();
    for said in said {
        by_network.entry(said.network).or_default().push(said.beginning());
    }
    let votes: Vec<i128> = by_network.into_values().filter_map(median).collect();
    let middle = median(votes.clone())?;
    let near = |vote: &&i128| vote.abs_diff(middle) <= u128::from(CLOCK_OFF_MAX.as_secs());
    (2 * votes.iter().filter(near).count() > votes.len()).then_some(middle)
}

fn median(mut values: Vec<i128>) -> Option<i128> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::IpAddr;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(n: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id()
    }

    fn public(n: u8) -> Locality {
        Locality::of(peer(n), Some(IpAddr::from([8, 8, n, 1])))
    }

    /// Peers that each say how far the wall clock is behind theirs, with their networks and whether they were chosen.
    fn reference(said: &[(u8, bool, i64)]) -> Reference {
        let mut reference = Reference::default();
        for (n, (network, is_chosen, ahead)) in said.iter().enumerate() {
            let time = Timestamp::from_secs(START.as_secs().saturating_add_signed(*ahead));
            reference.note(peer(n as u8), public(*network), *is_chosen, time, Duration::ZERO);
        }
        reference
    }

    fn verdict(said: &[(u8, bool, i64)]) -> Verdict {
        reference(said).verdict(START, Duration::ZERO)
    }

    #[test]
    fn three_peers_of_two_networks_are_sure_and_fewer_doubt() {
        let off = 7_200;
        assert_eq!(verdict(&[]), Verdict::Unknown);
        assert_eq!(verdict(&[(1, true, 10)]), Verdict::Right);
        assert!(matches!(verdict(&[(1, true, off)]), Verdict::Doubtful(Off { peers: 1, .. })));
        assert!(matches!(verdict(&[(1, true, off), (1, true, off), (1, true, off)]), Verdict::Doubtful(_)));
        assert!(matches!(verdict(&[(1, true, off), (2, true, off)]), Verdict::Doubtful(_)));
        let sure = verdict(&[(1, true, off), (2, true, off), (2, true, off)]);
        let Verdict::Wrong(Off { expected, peers: 3, networks: 2, .. }) = sure else { panic!("{sure:?}") };
        assert_eq!(expected, START.plus(2 * HOUR));
        assert!(matches!(verdict(&[(1, true, -off), (2, true, -off), (3, true, -off)]), Verdict::Wrong(_)));
        assert_eq!(verdict(&[(1, true, 299), (2, true, -299), (3, true, 0)]), Verdict::Right);
    }

    #[test]
    fn a_liar_moves_nothing_and_two_that_contradict_each_other_say_nothing() {
        let lie = 1_000_000;
        assert_eq!(verdict(&[(1, true, 0), (2, true, 0), (3, true, lie)]), Verdict::Right);
        assert_eq!(verdict(&[(1, true, 0), (2, true, lie)]), Verdict::Unknown);
        // As many as it likes in one network are one voice.
        let mut crowd = vec![(1, true, 0), (2, true, 5), (3, true, -5)];
        crowd.extend([(9, true, lie); 40]);
        assert_eq!(verdict(&crowd), Verdict::Right);
        // Two of three that were chosen lie: the others decide.
        let mut few = vec![(1, true, 0), (2, true, lie), (3, true, -lie)];
        few.extend((4..9).map(|network| (network, false, 0)));
        assert_eq!(verdict(&few), Verdict::Right);
        // Who only connects does not count where enough were chosen, from however many networks.
        let mut botnet = vec![(1, true, 0), (2, true, 5), (3, true, -5)];
        botnet.extend((10..60).map(|network| (network, false, lie)));
        assert_eq!(verdict(&botnet), Verdict::Right);
    }

    #[test]
    fn what_was_said_counts_as_the_clocks_run_on_and_is_forgotten() {
        let said = reference(&[(1, true, 0), (2, true, 0), (3, true, 0)]);
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(said.verdict(START.plus(minutes(20)), minutes(20)), Verdict::Right);
        assert!(matches!(said.verdict(START.plus(2 * HOUR), minutes(20)), Verdict::Wrong(_)), "it leapt");
        assert_eq!(said.verdict(START.plus(minutes(20)), minutes(20)), Verdict::Right, "it was put right");
        assert_eq!(said.verdict(START.plus(minutes(31)), minutes(31)), Verdict::Unknown);
    }

    #[test]
    fn the_number_of_clocks_is_bounded_and_those_that_were_chosen_stay() {
        let mut reference = reference(&[(1, true, 0), (2, true, 0), (3, true, 0)]);
        for n in 3..250 {
            reference.note(peer(n), public(n), false, START.plus(HOUR), Duration::from_secs(1));
        }
        assert_eq!(reference.0.len(), CLOCKS_MAX);
        assert_eq!(reference.verdict(START, Duration::ZERO), Verdict::Right);
    }

    #[test]
    fn those_that_come_and_go_or_come_from_one_network_turn_nobody_out() {
        let honest = [(1, false, 0), (2, false, 5), (3, false, -5)];
        let mut reference = reference(&honest);
        for n in 3..250 {
            let passes = peer(n);
            reference.note(passes, public(n), false, START.plus(2 * HOUR), Duration::from_secs(1));
            reference.gone(&passes);
        }
        assert_eq!(reference.verdict(START, Duration::from_secs(2)), Verdict::Right);
        for n in 3..250 {
            reference.note(peer(n), public(9), false, START.plus(2 * HOUR), Duration::from_secs(1));
        }
        assert_eq!(reference.0.len(), CLOCKS_MAX);
        assert_eq!(reference.verdict(START, Duration::from_secs(2)), Verdict::Right);
        reference.gone(&peer(0));
        assert_eq!(reference.0.len(), CLOCKS_MAX - 1);
    }

    proptest! {
        /// Fewer liars than honest networks never move the time out of what honest peers say.
        #[test]
        fn a_minority_of_liars_is_never_believed(
            honest in proptest::collection::vec(-120i64..=120, 2..8),
            lies in proptest::collection::vec(any::<i32>(), 0..7),
        ) {
            prop_assume!(lies.len() < honest.len());
            let honest = honest.iter().map(|off| (true, *off));
            let lies = lies.iter().map(|off| (true, i64::from(*off)));
            let said: Vec<_> = honest.chain(lies).enumerate().map(|(n, (c, off))| (n as u8, c, off)).collect();
            prop_assert_eq!(verdict(&said), Verdict::Right);
        }

        #[test]
        fn no_number_that_a_peer_says_does_harm(times in proptest::collection::vec(any::<u64>(), 0..9), wall: u64, running: u64) {
            let mut reference = Reference::default();
            for (n, time) in times.iter().enumerate() {
                let (n, time) = (n as u8, Timestamp::from_secs(*time));
                reference.note(peer(n), public(n % 3), n % 2 == 0, time, Duration::from_secs(running));
            }
            reference.verdict(Timestamp::from_secs(wall), Duration::from_secs(running));
        }
    }
}
