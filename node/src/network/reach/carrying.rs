//! Whether the relays that this node is reached on carry what comes for it.
//!
//! A relay can take a node in and carry nothing, and nobody notices but those who wish to connect. Two that do so keep the node from
//! everybody, as long as both go on renewing its place. So peers that are no relays of this node are asked to connect through each of
//! them, in rounds ([`round`](super::round)), soon after it took this node in and every two hours. One through which peers of two networks
//! do not get, and fewer do, is given up where another one can take its place. What is announced meanwhile leads nowhere else: it is the
//! address at which this node itself reaches the relay.
//!
//! Pure: the relays, what the peers say, and `now` are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    dial_back::{Answer, Ask, Relay, Way},
    proofs::STRANGERS_MIN,
    round::{AGAIN, Round, Votes},
};
use crate::network::diversity::Network;

/// How long after a relay took this node in peers are asked: by then others are connected, and have said who they are.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// How often peers are asked whether they still get through. Each one costs some kilobytes: a handshake, and who is who.
const CHECKED_EVERY: Duration = Duration::from_secs(2 * 3600);

/// What is known of one relay.
#[derive(Debug)]
struct Check<I> {
    round: Option<Round<I>>,
    /// Rounds in a row that did not show that it carries.
    failures: u32,
    due: Instant,
}

/// The relays that this node is reached on, and what peers say of them.
#[derive(Debug)]
pub(super) struct Carrying<I>(BTreeMap<PeerId, Check<I>>);

impl<I> Default for Carrying<I> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<I: PartialEq> Carrying<I> {
    /// Forgets who is asked: this machine is somewhere else.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Notes on which relays this node is reached; yields those of which peers are to be asked now.
    pub(super) fn due(&mut self, standing: &BTreeSet<PeerId>, now: Instant) -> Vec<PeerId> {
        self.0.retain(|relay, _| standing.contains(relay));
        for relay in standing {
            let fresh = || Check { round: None, failures: 0, due: now + FIRST_AFTER };
            self.0.entry(*relay).or_insert_with(fresh);
        }
        let is_due = |check: &Check<I>| check.round.is_none() && check.due <= now;
        self.0.iter().filter(|(_, check)| is_due(check)).map(|(relay, _)| *relay).collect()
    }

    /// Asks peers that this node dialled whether they get through a relay.
    pub(super) fn ask(
        &mut self,
        relay: PeerId,
        peers: Vec<(PeerId, Network)>,
        mut send: impl FnMut(&PeerId, Ask) -> I,
        now: Instant,
    ) {
        let Some(check) = self.0.get_mut(&relay) else { return };
        let ask = Ask { relay: Some(Relay(relay)), ..Ask::default() };
        check.round = Round::begin(peers, |peer| send(peer, ask));
        if check.round.is_none() {
            check.fails(now);
        }
    }

    /// Whether a peer is asked to come through a relay.
    pub(super) fn awaits(&self, peer: &PeerId) -> bool {
        self.0.values().filter_map(|check| check.round.as_ref()).any(|round| round.awaits(peer))
    }

    /// Notes that a peer has come through a relay.
    pub(super) fn came(&mut self, peer: PeerId, relay: &PeerId) {
        if let Some(round) = self.0.get_mut(relay).and_then(|check| check.round.as_mut()) {
            round.came(peer);
        }
    }

    /// Notes what a peer says; nothing where it does not answer. Yields the relay that carries nothing, once that is known.
    pub(super) fn answered(
        &mut self,
        peer: PeerId,
        id: &I,
        answer: Option<Answer>,
        now: Instant,
    ) -> Option<PeerId> {
        let is_last =
            |check: &mut Check<I>| check.round.as_mut().is_some_and(|it| it.answered(peer, id, answer));
        let (relay, check) =
            self.0.iter_mut().find_map(|(relay, check)| is_last(check).then_some((relay, check)))?;
        let Votes { yes, no } = check.round.take()?.votes(Way::Relay);
        if yes > 0 && yes >= no {
            (check.failures, check.due) = (0, now + CHECKED_EVERY);
            return None;
        }
        check.fails(now);
        (no > yes && no >= STRANGERS_MIN).then_some(*relay)
    }
}

impl<I> Check<I> {
    fn fails(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.due = now + AGAIN.ceiling(self.failures);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::peers::policy::group_of;

    /// Has peers asked of a relay that stands since long ago, each of a network of its own; `said` is what each says, and through which
    /// relay it came.
    fn round(
        carrying: &mut Carrying<usize>,
        relay: PeerId,
        said: &[(Option<bool>, Option<PeerId>)],
        now: Instant,
    ) -> Option<PeerId> {
        assert_eq!(carrying.due(&BTreeSet::from([relay]), now), [relay]);
        let network = |n: usize| group_of(Ipv4Addr::new(8, 8, u8::try_from(n).unwrap(), 8).into()).unwrap();
        let peers: Vec<_> = (0..said.len()).map(|n| (PeerId::random(), network(n))).collect();
        let mut asked = 0;
        let send = |_: &PeerId, ask: Ask| {
            assert_eq!(ask, Ask { relay: Some(Relay(relay)), ..Ask::default() });
            asked += 1;
            asked
        };
        carrying.ask(relay, peers.clone(), send, now);
        let mut found = None;
        for (n, ((peer, _), (said, through))) in peers.iter().zip(said).enumerate() {
            assert!(carrying.awaits(peer));
            if let Some(through) = through {
                carrying.came(*peer, through);
            }
            let answer = Answer { relay: *said, ..Answer::default() };
            assert_eq!(carrying.answered(*peer, &99, Some(answer), now), None, "it was asked something else");
            assert_eq!(found, None, "before the last one has answered");
            found = carrying.answered(*peer, &(n + 1), Some(answer), now);
            assert!(!carrying.awaits(peer));
        }
        found
    }

    #[test]
    fn a_relay_through_which_peers_of_two_networks_do_not_get_is_told() {
        let (relay, other) = (PeerId::random(), PeerId::random());
        let start = Instant::now();
        let standing = || {
            let mut carrying = Carrying::default();
            assert_eq!(carrying.due(&BTreeSet::from([relay]), start), [], "not at once");
            carrying
        };
        let now = start + FIRST_AFTER;
        let (yes, no) = ((Some(true), Some(relay)), (Some(false), None));
        let untried = (None, None);
        // They say that they came, and nobody did, or by another way.
        let (liar, elsewhere) = ((Some(true), None), (Some(true), Some(other)));
        for (said, is_false) in [
            (&[no, no, no][..], true),
            (&[no, no, yes], true),
            (&[no, no, liar], true),
            (&[no, elsewhere, no], true),
            (&[no, yes, yes], false),
            (&[no, yes], false),
            (&[no, untried, untried], false),
            (&[untried, untried], false),
            (&[yes], false),
            (&[], false),
        ] {
            let found = round(&mut standing(), relay, said, now);
            assert_eq!(found, is_false.then_some(relay), "{said:?}");
        }
    }

    #[test]
    fn a_relay_that_carries_is_asked_about_seldom_and_another_one_soon() {
        let (relay, start) = (PeerId::random(), Instant::now());
        let (mut carrying, here) = (Carrying::default(), BTreeSet::from([relay]));
        carrying.due(&here, start);
        let mut now = start + FIRST_AFTER;
        for failures in 1..=3 {
            round(&mut carrying, relay, &[(None, None)], now);
            assert_eq!(carrying.due(&here, now + AGAIN.ceiling(failures) / 2), []);
            now += AGAIN.ceiling(failures);
        }
        assert_eq!(round(&mut carrying, relay, &[(Some(true), Some(relay))], now), None);
        assert_eq!(carrying.due(&here, now + CHECKED_EVERY / 2), []);
        assert_eq!(carrying.due(&here, now + CHECKED_EVERY), [relay]);
        assert_eq!(carrying.due(&BTreeSet::new(), now), []);
        assert_eq!(carrying.due(&here, now), [], "it took this node in again");
        carrying.forget();
        assert!(carrying.0.is_empty());
    }
}
