//! Who else fetches the same tree, and who of them fetches which block from those that have all of it.
//!
//! Each block belongs to one member, by [rendezvous hashing](https://doi.org/10.1109/90.663936): all members compute the same without a
//! word, and each asks the holders of the whole tree for its own blocks first, and has the others from the members that fetched them.
//! So a holder sends each block about once, however many fetch. A member counts as long as it tells of blocks now and then:
//! who is silent, or was only told of and never came, holds nothing up for long, and who brings blocks without saying that it
//! fetches itself has done so already.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use sha2::{Digest, Sha256};

use super::super::swarm::Mark;
use crate::limits::SWARM_MEMBERS_MAX;

/// How long a member counts of which somebody else told: so long it may take to reach it, and to hear from it.
const TOLD_PATIENCE: Duration = Duration::from_secs(3);
/// How long after the first of them others are believed of whom nothing is heard: otherwise one who invents members could hold a
/// retrieval up again and again.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How long a member counts that told of a block, beyond the time in which it should have had the next ones.
const HEARD_PATIENCE: Duration = Duration::from_secs(2);
/// In how many of the times in which this node gets a block from who has all of them a member should have got one.
const BEATS: u32 = 3;
/// Blocks from those who have all of them that say how often one comes.
const CAME: usize = 8;
/// How often one comes where that is not known, and the longest that is believed.
const BEAT_GUESS: Duration = Duration::from_millis(500);
const BEAT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Member {
    key: u64,
    told: Duration,
    heard: Option<Duration>,
}

/// The members, and this node among them.
#[derive(Debug)]
pub(super) struct Members {
    own: u64,
    known: BTreeMap<PeerId, Member>,
    /// Those who fetch nothing, or lie, whoever tells of them. They are peers of the plan, which are bounded.
    out: BTreeSet<PeerId>,
    first_told: Option<Duration>,
    /// When those who have all blocks were asked, and when some came from them.
    came: VecDeque<Duration>,
    /// The members that count, as of when it was looked last.
    count: BTreeSet<u64>,
}

impl Members {
    pub(super) fn new(own: PeerId) -> Self {
        let (known, out, first_told, came, count) = Default::default();
        Self { own: key_of(&own), known, out, first_told, came, count }
    }

    /// A number of this node alone: what it prefers, others do not.
    pub(super) fn salt(&self) -> u64 {
        self.own
    }

    /// Somebody told of a member.
    pub(super) fn told(&mut self, peer: PeerId, now: Duration) {
        let first = *self.first_told.get_or_insert(now);
        if now <= first + TOLD_WITHIN {
            self.member(peer, now);
        }
    }

    /// A member told of its blocks.
    pub(super) fn heard(&mut self, peer: PeerId, now: Duration) {
        self.out.remove(&peer);
        if let Some(member) = self.member(peer, now) {
            member.heard = Some(now);
        }
    }

    /// Whether others tell of a peer, and nothing was heard from it.
    pub(super) fn is_only_told_of(&self, peer: &PeerId) -> bool {
        !self.out.contains(peer) && self.known.get(peer).is_some_and(|member| member.heard.is_none())
    }

    fn member(&mut self, peer: PeerId, now: Duration) -> Option<&mut Member> {
        if self.known.len() >= SWARM_MEMBERS_MAX && !self.known.contains_key(&peer) {
            return None;
        }
        Some(self.known.entry(peer).or_insert_with(|| Member { key: key_of(&peer), told: now, heard: None }))
    }

    /// A peer lies, or brings blocks and does not say that it fetches: it counts no longer, as long as it says nothing itself.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.out.insert(peer);
    }

    /// Somebody who has all blocks is asked for some.
    pub(super) fn asks(&mut self, now: Duration) {
        if self.came.is_empty() {
            self.came.push_back(now);
        }
    }

    /// A block came from somebody who has all of them.
    pub(super) fn came(&mut self, now: Duration) {
        if self.came.len() == CAME {
            self.came.pop_front();
        }
        self.came.push_back(now);
    }

    /// How often a block comes from those who have all of them.
    pub(super) fn beat(&self) -> Duration {
        let (Some(first), Some(last)) = (self.came.front(), self.came.back()) else { return BEAT_GUESS };
        match u32::try_from(self.came.len() - 1) {
            Ok(beats) if beats > 0 => ((*last - *first) / beats).min(BEAT_MAX),
            _ => BEAT_GUESS,
        }
    }

    fn until(&self, member: &Member) -> Duration {
        let heard = member.heard.map(|heard| heard + HEARD_PATIENCE + self.beat() * BEATS);
        let told = member.told.saturating_add(TOLD_PATIENCE);
        heard.map_or(told, |heard| heard.max(told))
    }

    /// The members that count at some time, and until when, if nothing is heard until then.
    fn counting(&self, now: Duration) -> impl Iterator<Item = (&Member, Duration)> {
        let known = self.known.iter().filter(|(peer, _)| !self.out.contains(peer));
        known.map(|(_, member)| (member, self.until(member))).filter(move |(_, until)| now < *until)
    }

    /// Looks who counts now; whether that is news.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        let count: BTreeSet<u64> = self.counting(now).map(|(member, _)| member.key).collect();
        let is_news = count != self.count;
        self.count = count;
        is_news
    }

    /// Whether somebody counted when it was looked last.
    pub(super) fn is_anybody(&self) -> bool {
        !self.count.is_empty()
    }

    /// When somebody counts no longer, if nothing is heard until then.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        self.counting(now).map(|(_, until)| until).min()
    }

    /// Whether a member that counts has been heard, and may have more soon.
    pub(super) fn is_hopeful(&self, now: Duration) -> bool {
        self.counting(now).any(|(member, _)| member.heard.is_some())
    }

    /// Whether a block belongs to this node.
    pub(super) fn is_own(&self, mark: Mark) -> bool {
        let own = mark.mixed(self.own);
        self.count.iter().all(|other| own <= mark.mixed(*other))
    }
}

fn key_of(peer: &PeerId) -> u64 {
    let digest = Sha256::digest(peer.to_bytes());
    u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Codec, ContentId};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_block_belongs_to_one_member_and_each_member_has_its_share() {
        let peers: Vec<PeerId> = (0..8).map(|_| PeerId::random()).collect();
        let mut views: Vec<Members> = peers.iter().map(|peer| Members::new(*peer)).collect();
        for (n, view) in views.iter_mut().enumerate() {
            let others = peers.iter().enumerate().filter(|(at, _)| *at != n);
            others.for_each(|(_, peer)| view.told(*peer, SECOND));
            assert!(view.look(SECOND) && !view.look(SECOND));
        }
        let mut shares = vec![0; peers.len()];
        for n in 0..800_u32 {
            let mark = Mark::of(&ContentId::of(Codec::Raw, &n.to_be_bytes()));
            let owners: Vec<usize> = (0..views.len()).filter(|at| views[*at].is_own(mark)).collect();
            assert_eq!(owners.len(), 1, "{owners:?}");
            shares[owners[0]] += 1;
        }
        assert!(shares.iter().all(|share| (50..200).contains(share)), "{shares:?}");
    }

    #[test]
    fn who_never_comes_and_who_falls_silent_count_no_longer() {
        let (mut members, [heard, told]) =
            (Members::new(PeerId::random()), [(); 2].map(|()| PeerId::random()));
        members.told(told, SECOND);
        members.heard(heard, SECOND);
        let of = |members: &mut Members, now| {
            members.look(now);
            members.count.len()
        };
        assert_eq!(of(&mut members, SECOND * 3), 2);
        let never = members.wake_at(SECOND * 3).unwrap();
        assert_eq!((of(&mut members, never), members.is_hopeful(never)), (1, true));
        let silent = members.wake_at(never).unwrap();
        assert_eq!((of(&mut members, silent), members.is_hopeful(silent)), (0, false));
        members.heard(heard, silent);
        assert_eq!(of(&mut members, silent), 1, "it is there again");
        members.remove(heard);
        assert_eq!(of(&mut members, silent), 0);
    }

    #[test]
    fn who_lies_or_has_all_counts_no_longer_at_once_whoever_tells_of_it_until_it_says_that_it_fetches() {
        let (mut members, [first, late]) =
            (Members::new(PeerId::random()), [(); 2].map(|()| PeerId::random()));
        let at = |ms| Duration::from_millis(ms);
        members.told(first, at(0));
        assert!(members.look(at(0)) && members.is_anybody());
        members.remove(first);
        // One brings something before others tell of it.
        members.remove(late);
        members.told(late, at(1));
        members.told(first, at(2));
        assert!(members.look(at(2)) && !members.is_anybody() && !members.is_hopeful(at(2)));
        assert_eq!(members.wake_at(at(2)), None, "nothing is waited for");
        members.heard(first, at(3));
        assert!(members.look(at(3)) && members.is_hopeful(at(3)));
        assert_eq!(members.count.len(), 1);
    }

    #[test]
    fn who_invents_members_holds_a_retrieval_up_once() {
        let mut members = Members::new(PeerId::random());
        let late = TOLD_WITHIN + SECOND;
        (0..1_000).for_each(|_| members.told(PeerId::random(), Duration::ZERO));
        assert!(members.look(Duration::ZERO) && members.count.len() == SWARM_MEMBERS_MAX);
        members.told(PeerId::random(), late);
        assert!(members.look(late) && members.count.is_empty());
    }
}
