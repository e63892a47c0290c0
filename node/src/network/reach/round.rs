//! One round of asking peers whether they get through to ports of this node.
//!
//! Some that this node dialled are drawn, of different networks: other ones in each round, so that a few that lie together have the
//! majority of some rounds and not of all. Their word alone does not count; a peer that says that it got through must have come, too.
//! Pure. `I` is the id of what a peer was asked: an answer to something else says nothing of this.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;
use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};

use super::dial_back::{Answer, Way};
use crate::{limits::DIALS_BACK_ASKED_MAX, network::diversity::Network, peers::Backoff};

/// After how long peers are asked again where nothing was learnt, or none got through.
pub(super) const AGAIN: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));

/// Draws whom to ask of these peers: one of each network, and each network as likely as any other, however many peers it has.
pub(super) fn draw(peers: Vec<(PeerId, Network)>, generator: &mut impl Rng) -> Vec<(PeerId, Network)> {
    let mut networks: BTreeMap<Network, Vec<PeerId>> = BTreeMap::new();
    for (peer, network) in peers {
        networks.entry(network).or_default().push(peer);
    }
    let one = networks.into_iter().filter_map(|(network, peers)| Some((*peers.choose(generator)?, network)));
    let mut drawn: Vec<_> = one.collect();
    drawn.shuffle(generator);
    drawn.truncate(DIALS_BACK_ASKED_MAX);
    drawn
}

/// How many networks say what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Votes {
    pub(super) yes: usize,
    pub(super) no: usize,
}

/// What peers say that were asked at once.
#[derive(Debug)]
pub(super) struct Round<I> {
    /// Who is asked, and has not answered.
    asked: BTreeMap<PeerId, (Network, I)>,
    /// Who of them came.
    came: BTreeSet<PeerId>,
    /// What a network says, of each way.
    voices: BTreeMap<(Way, Network), bool>,
}

impl<I: PartialEq> Round<I> {
    /// Asks peers, in this order, those of one network once; none where there is nobody to ask.
    pub(super) fn begin(peers: Vec<(PeerId, Network)>, mut ask: impl FnMut(&PeerId) -> I) -> Option<Self> {
        let mut networks = BTreeSet::new();
        let chosen = peers.into_iter().filter(|(_, network)| networks.insert(*network));
        let asked: BTreeMap<PeerId, (Network, I)> =
            chosen.take(DIALS_BACK_ASKED_MAX).map(|(peer, network)| (peer, (network, ask(&peer)))).collect();
        (!asked.is_empty()).then(|| Self { asked, came: BTreeSet::new(), voices: BTreeMap::new() })
    }

    /// Whether a peer is asked, and has not answered.
    pub(super) fn awaits(&self, peer: &PeerId) -> bool {
        self.asked.contains_key(peer)
    }

    /// Notes that a peer has connected by itself.
    pub(super) fn came(&mut self, peer: PeerId) {
        if self.asked.contains_key(&peer) {
            self.came.insert(peer);
        }
    }

    /// Notes the answer to what was asked under an id; nothing where there is none. Yields whether it was the last one.
    pub(super) fn answered(&mut self, peer: PeerId, id: &I, answer: Option<Answer>) -> bool {
        if self.asked.get(&peer).is_none_or(|(_, asked)| asked != id) {
            return false;
        }
        let Some((network, _)) = self.asked.remove(&peer) else { return false };
        let Answer { tcp, udp, relay } = answer.unwrap_or_default();
        for (way, said) in [(Way::Tcp, tcp), (Way::Udp, udp), (Way::Relay, relay)] {
            // Who says so without having come says nothing.
            if let Some(said) = said.filter(|said| !said || self.came.contains(&peer)) {
                self.voices.insert((way, network), said);
            }
        }
        self.asked.is_empty()
    }

    /// Whether nobody said anything.
    pub(super) fn is_silent(&self) -> bool {
        self.voices.is_empty()
    }

    /// What was said of a way.
    pub(super) fn votes(&self, of: impl Into<Way>) -> Votes {
        let of = of.into();
        let voices = self.voices.iter().filter(|((way, _), _)| *way == of);
        let (yes, no): (Vec<_>, Vec<_>) = voices.partition(|(_, said)| **said);
        Votes { yes: yes.len(), no: no.len() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::peers::policy::group_of;

    #[test]
    fn three_that_lie_together_have_no_majority_for_long_however_many_ids_they_have() {
        let network = |n: u8| group_of(Ipv4Addr::new(8, 8, n, 8).into()).unwrap();
        // Three networks of a dozen lie, and have fifty peers each.
        let peers: Vec<_> = (0..12_u8)
            .flat_map(|n| (0..if n < 3 { 50 } else { 1 }).map(move |_| (PeerId::random(), network(n))))
            .collect();
        let liars: BTreeSet<Network> = (0..3).map(network).collect();
        let mut generator = StdRng::seed_from_u64(1);
        let (mut asked, mut lied, mut longest, mut lasts) = (BTreeSet::new(), 0, 0, 0);
        const ROUNDS: usize = 1_000;
        for _ in 0..ROUNDS {
            let drawn = draw(peers.clone(), &mut generator);
            let networks: BTreeSet<Network> = drawn.iter().map(|(_, network)| *network).collect();
            assert_eq!(networks.len(), DIALS_BACK_ASKED_MAX, "each of another network");
            let lie = networks.intersection(&liars).count();
            lasts = if lie >= 2 { lasts + 1 } else { 0 };
            lied += usize::from(lie >= 2);
            longest = longest.max(lasts);
            asked.extend(networks);
        }
        assert_eq!(asked.len(), 12, "everybody is asked at some time");
        // Two or three of them among three of a dozen: 28 draws of 220.
        assert!((100..160).contains(&lied), "{lied} of {ROUNDS}");
        assert!(longest < 8, "{longest} rounds in a row");
        let one = vec![(PeerId::random(), network(1))];
        assert_eq!(draw(one.clone(), &mut generator), one);
        assert_eq!(draw(Vec::new(), &mut generator), []);
        let again = |seed| draw(peers.clone(), &mut StdRng::seed_from_u64(seed));
        assert_eq!(again(7), again(7), "the generator decides");
    }
}
