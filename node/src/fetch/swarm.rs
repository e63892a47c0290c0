//! Several nodes that fetch one tree at the same time, and what they tell each other.
//!
//! Who asks a peer for blocks of a tree *follows* the tree there. The peer tells it who else follows it, and, where it is fetching
//! the tree itself, which blocks it has verified so far. Those who fetch thus find each other at whoever has the tree, and
//! serve each other what each of them has. Nothing here is believed: a block that does not come is asked of others, and one
//! that comes is hashed.
//!
//! Pure but for the lock around what the streams of one node share. It knows neither sockets nor clocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::Notify;

use crate::{
    content::ContentId,
    limits::{
        SWARM_FOLLOWERS_MAX, SWARM_FOLLOWERS_PER_PEER_MAX, SWARM_MARKS_AT_ONCE_MAX, SWARM_MARKS_MAX,
        SWARM_MEMBERS_AT_ONCE_MAX, SWARM_MEMBERS_MAX, SWARM_TREES_MAX, SWARM_TREES_PER_NETWORK_MAX,
    },
    peers::policy::Network,
};

/// Stands for a block where it is only said who has it: the first eight bytes of its digest. Two blocks with the same mark cost a
/// request in vain, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl Mark {
    /// Bytes of a mark.
    pub const BYTES: usize = 8;

    /// The mark of a block.
    pub fn of(id: &ContentId) -> Self {
        let digest = id.digest();
        Self(u64::from_be_bytes(std::array::from_fn(|at| digest[at])))
    }

    /// As it goes over the wire.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// As it came.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// A number that is spread evenly, and that is another one for each `salt`.
    pub(super) fn mixed(self, salt: u64) -> u64 {
        // The finaliser of splitmix64 (https://prng.di.unimi.it/splitmix64.c).
        let mut z = self.0 ^ salt;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A node that follows a tree, and addresses to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub peer: PeerId,
    /// Where it may be reached, as whoever tells of it says.
    pub addresses: Vec<Multiaddr>,
}

/// What a peer tells of a tree that is followed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is fetching the tree itself, and has these blocks of it beside those that it told of before.
    Has(Vec<Mark>),
    /// These follow it too.
    Members(Vec<Member>),
    /// It tells nothing any more: the stream has ended.
    Ended,
}

/// The trees that are followed here, or that this node fetches; every copy is the same.
#[derive(Debug, Clone, Default)]
pub struct Trees(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    trees: BTreeMap<ContentId, Weak<Tree>>,
    /// How many this node fetches.
    shares: usize,
    /// How many follows there are of each network.
    networks: BTreeMap<Network, usize>,
}

/// What is known here of who fetches one tree.
#[derive(Debug)]
struct Tree {
    id: ContentId,
    state: Mutex<State>,
    /// Where it is listed, so that it can be taken out.
    trees: Trees,
}

#[derive(Debug, Default)]
struct State {
    /// Whether this node fetches it, or did while somebody followed.
    is_fetched: bool,
    /// What this node has of it, in the order in which it came.
    has: Vec<Mark>,
    listed: BTreeSet<Mark>,
    followers: BTreeMap<u64, Follower>,
    next_follower: u64,
    /// Those of the followers that others are told of, in the order in which they were introduced.
    members: BTreeMap<u64, (u64, Member)>,
    next_member: u64,
}

#[derive(Debug)]
struct Follower {
    peer: PeerId,
    wakes: Arc<Notify>,
}

impl Trees {
    /// Begins to follow a tree for a peer of a network, whose stream is woken when there is something to tell; nothing where there is no
    /// room, for all or for those of its network.
    pub fn follow(
        &self,
        id: ContentId,
        (peer, network): (PeerId, Option<Network>),
        wakes: Arc<Notify>,
    ) -> Option<Follow> {
        let place = Place::take(self, network)?;
        let tree = self.tree(id, |known| known.trees.len().saturating_sub(known.shares) < SWARM_TREES_MAX)?;
        let mut state = locked(&tree.state);
        let of_peer = state.followers.values().filter(|it| it.peer == peer).count();
        if state.followers.len() >= SWARM_FOLLOWERS_MAX || of_peer >= SWARM_FOLLOWERS_PER_PEER_MAX {
            return None;
        }
        let key = state.next_follower;
        state.next_follower += 1;
        state.followers.insert(key, Follower { peer, wakes });
        // Of many members, those who came last are the likeliest to be at work still.
        let newest = state.members.keys().rev().nth(SWARM_MEMBERS_MAX / 2 - 1);
        let members_from = newest.copied().unwrap_or(0);
        drop(state);
        Some(Follow {
            tree,
            key,
            told: 0,
            said_so: false,
            members_from,
            members: BTreeSet::new(),
            _place: place,
        })
    }

    /// Tells the other followers of one of them, who can be reached so.
    pub fn introduce(&self, id: &ContentId, peer: PeerId, addresses: &[Multiaddr]) {
        let Some(tree) = locked(&self.0).trees.get(id).and_then(Weak::upgrade) else { return };
        let mut state = locked(&tree.state);
        let mut keys = state.followers.iter().filter(|(_, it)| it.peer == peer).map(|(key, _)| *key);
        let Some(key) = keys.next_back() else { return };
        if state.members.values().any(|(of, _)| *of == key) {
            return;
        }
        let (number, addresses) = (state.next_member, addresses.to_vec());
        state.next_member += 1;
        state.members.insert(number, (key, Member { peer, addresses }));
        state.wake();
    }

    /// Says that this node fetches a tree; nothing where there is no room.
    pub fn share(&self, id: ContentId) -> Option<Share> {
        if locked(&self.0).shares >= SWARM_TREES_MAX {
            return None;
        }
        let tree = self.tree(id, |_| true)?;
        locked(&self.0).shares += 1;
        let mut state = locked(&tree.state);
        state.is_fetched = true;
        state.wake();
        drop(state);
        Some(Share(tree))
    }

    /// A tree, which is listed where there is room for it.
    fn tree(&self, id: ContentId, has_room: impl FnOnce(&Known) -> bool) -> Option<Arc<Tree>> {
        let mut known = locked(&self.0);
        if let Some(tree) = known.trees.get(&id).and_then(Weak::upgrade) {
            return Some(tree);
        }
        if !has_room(&known) {
            return None;
        }
        let tree = Arc::new(Tree { id, state: Mutex::default(), trees: self.clone() });
        known.trees.insert(id, Arc::downgrade(&tree));
        Some(tree)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        locked(&self.0).trees.len()
    }
}

/// A place among the follows of one network.
#[derive(Debug)]
struct Place(Trees, Option<Network>);

impl Place {
    fn take(trees: &Trees, network: Option<Network>) -> Option<Self> {
        if let Some(network) = network {
            let mut known = locked(&trees.0);
            let of_network = known.networks.entry(network).or_default();
            if *of_network >= SWARM_TREES_PER_NETWORK_MAX {
                return None;
            }
            *of_network += 1;
        }
        Some(Self(trees.clone(), network))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.1 else { return };
        let networks = &mut locked(&self.0.0).networks;
        if let Some(of_network) = networks.get_mut(&network) {
            *of_network -= 1;
            if *of_network == 0 {
                networks.remove(&network);
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let mut known = locked(&self.trees.0);
        // Somebody may have begun with it again meanwhile.
        if known.trees.get(&self.id).is_some_and(|tree| tree.strong_count() == 0) {
            known.trees.remove(&self.id);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        locked(&self.0.trees.0).shares -= 1;
    }
}

impl State {
    fn wake(&self) {
        self.followers.values().for_each(|follower| follower.wakes.notify_one());
    }
}

/// This node fetches a tree, and tells its followers what it has.
#[derive(Debug)]
pub struct Share(Arc<Tree>);

impl Share {
    /// Tells of blocks that are in the store.
    pub fn has<'a>(&self, blocks: impl IntoIterator<Item = &'a ContentId>) {
        let mut state = locked(&self.0.state);
        let before = state.has.len();
        for mark in blocks.into_iter().map(Mark::of) {
            if state.has.len() < SWARM_MARKS_MAX && state.listed.insert(mark) {
                state.has.push(mark);
            }
        }
        if state.has.len() > before {
            state.wake();
        }
    }

    /// Whether somebody follows it here.
    pub fn is_followed(&self) -> bool {
        !locked(&self.0.state).followers.is_empty()
    }
}

/// A peer follows a tree here.
#[derive(Debug)]
pub struct Follow {
    tree: Arc<Tree>,
    key: u64,
    /// Marks that it was told.
    told: usize,
    /// Whether it was told that this node fetches the tree.
    said_so: bool,
    /// The number of the next member to tell it of, and whom it was told of.
    members_from: u64,
    members: BTreeSet<PeerId>,
    _place: Place,
}

impl Follow {
    /// What to tell the peer next.
    pub fn tell(&mut self) -> Option<News> {
        let state = locked(&self.tree.state);
        let own = state.followers.get(&self.key).map(|follower| follower.peer);
        let mut members = Vec::new();
        for (number, (key, member)) in state.members.range(self.members_from..) {
            if members.len() == SWARM_MEMBERS_AT_ONCE_MAX || self.members.len() == SWARM_MEMBERS_MAX {
                break;
            }
            self.members_from = number + 1;
            if *key != self.key && Some(member.peer) != own && self.members.insert(member.peer) {
                members.push(member.clone());
            }
        }
        if !members.is_empty() {
            return Some(News::Members(members));
        }
        let rest = state.has.get(self.told..).unwrap_or_default();
        if !state.is_fetched || rest.is_empty() && self.said_so {
            return None;
        }
        let marks = rest[..rest.len().min(SWARM_MARKS_AT_ONCE_MAX)].to_vec();
        self.told += marks.len();
        self.said_so = true;
        Some(News::Has(marks))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut state = locked(&self.tree.state);
        state.followers.remove(&self.key);
        state.members.retain(|_, (key, _)| *key != self.key);
    }
}

/// After a panic of another holder, too: each change is complete in itself.
fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn block(n: usize) -> ContentId {
        ContentId::of(Codec::Raw, &n.to_be_bytes())
    }

    fn follow(trees: &Trees, peer: PeerId) -> Follow {
        let follow = trees.follow(block(0), (peer, None), Arc::default()).unwrap();
        trees.introduce(&block(0), peer, &[]);
        follow
    }

    fn told(follow: &mut Follow) -> Vec<News> {
        std::iter::from_fn(|| follow.tell()).collect()
    }

    fn members(peers: &[PeerId]) -> News {
        News::Members(peers.iter().map(|peer| Member { peer: *peer, addresses: Vec::new() }).collect())
    }

    #[test]
    fn followers_hear_of_each_other_once_and_of_nobody_who_is_gone() {
        let (trees, [one, other, third]) = (Trees::default(), [(); 3].map(|()| PeerId::random()));
        let mut first = follow(&trees, one);
        assert_eq!(told(&mut first), [], "nobody else");
        let mut second = follow(&trees, other);
        assert_eq!((told(&mut first), told(&mut second)), (vec![members(&[other])], vec![members(&[one])]));
        trees.introduce(&block(0), other, &[]);
        assert_eq!((told(&mut first), told(&mut second)), (vec![], vec![]));
        drop(first);
        assert_eq!(told(&mut follow(&trees, third)), [members(&[other])]);
    }

    #[test]
    fn followers_are_told_what_is_here_as_it_comes_and_all_of_it_if_they_come_late() {
        let trees = Trees::default();
        let mut early = follow(&trees, PeerId::random());
        assert_eq!(told(&mut early), [], "whether this node has anything is not known");
        let share = trees.share(block(0)).unwrap();
        assert_eq!(told(&mut early), [News::Has(vec![])], "it is fetching");
        share.has(&[block(1), block(2)]);
        share.has(&[block(2)]);
        let both = News::Has(vec![Mark::of(&block(1)), Mark::of(&block(2))]);
        assert_eq!((told(&mut early), told(&mut early)), (vec![both.clone()], vec![]));
        share.has(&[block(3)]);
        // What was not told when the last block had come still is.
        drop(share);
        assert_eq!(told(&mut early), [News::Has(vec![Mark::of(&block(3))])]);
        let mut late = follow(&trees, PeerId::random());
        assert_eq!(told(&mut late).len(), 2, "a member, and all three in one");
        drop((early, late));
        assert_eq!(trees.len(), 0, "nothing is left of it");
        assert_eq!(told(&mut follow(&trees, PeerId::random())), []);
    }

    #[tokio::test]
    async fn who_follows_is_woken_by_what_is_new() {
        let (trees, wakes) = (Trees::default(), Arc::new(Notify::new()));
        let _follow = trees.follow(block(0), (PeerId::random(), None), wakes.clone()).unwrap();
        let share = trees.share(block(0)).unwrap();
        wakes.notified().await;
        assert!(share.is_followed());
        share.has(&[block(1)]);
        wakes.notified().await;
    }

    #[test]
    fn what_is_kept_and_told_is_bounded() {
        let trees = Trees::default();
        let share = trees.share(block(0)).unwrap();
        let many: Vec<ContentId> = (1..SWARM_MARKS_MAX + 10).map(block).collect();
        share.has(&many);
        let mut follows: Vec<Follow> =
            (0..SWARM_FOLLOWERS_MAX).map(|_| follow(&trees, PeerId::random())).collect();
        assert!(trees.follow(block(0), (PeerId::random(), None), Arc::default()).is_none());
        for follow in [0, SWARM_FOLLOWERS_MAX - 1] {
            let (mut marks, mut members) = (0, 0);
            for news in told(&mut follows[follow]) {
                match news {
                    News::Has(some) => {
                        assert!(some.len() <= SWARM_MARKS_AT_ONCE_MAX);
                        marks += some.len();
                    }
                    News::Members(some) => {
                        assert!(some.len() <= SWARM_MEMBERS_AT_ONCE_MAX);
                        members += some.len();
                    }
                    News::Ended => unreachable!(),
                }
            }
            assert_eq!(marks, SWARM_MARKS_MAX);
            assert!((SWARM_MEMBERS_MAX / 2 - 1..=SWARM_MEMBERS_MAX).contains(&members), "{members}");
        }
        let others: Vec<Share> = (1..SWARM_TREES_MAX).filter_map(|n| trees.share(block(n))).collect();
        assert_eq!(others.len(), SWARM_TREES_MAX - 1);
        assert!(trees.share(block(SWARM_TREES_MAX)).is_none());
        drop(others);
        assert!(trees.share(block(SWARM_TREES_MAX)).is_some());
    }

    #[test]
    fn those_who_follow_much_leave_room_for_others_and_for_what_this_node_fetches() {
        let trees = Trees::default();
        let peer = PeerId::random();
        let again = (0..10).map(|_| trees.follow(block(0), (peer, None), Arc::default()));
        let again: Vec<_> = again.flatten().collect();
        assert_eq!(again.len(), SWARM_FOLLOWERS_PER_PEER_MAX, "one peer fills no tree");
        let strangers = |network: Network, from: usize| {
            let follow = |n| trees.follow(block(from + n), (PeerId::random(), Some(network)), Arc::default());
            (0..2 * SWARM_TREES_MAX).filter_map(follow).collect::<Vec<Follow>>()
        };
        let one = strangers([1; 7], 1);
        assert_eq!(one.len(), SWARM_TREES_PER_NETWORK_MAX, "one network fills nothing");
        assert!(trees.follow(block(1), (PeerId::random(), Some([2; 7])), Arc::default()).is_some());
        let all: Vec<_> = (3..10).map(|n| strangers([n; 7], 10_000 * usize::from(n))).collect();
        assert!(
            trees.follow(block(7), (PeerId::random(), Some([99; 7])), Arc::default()).is_some(),
            "a known one"
        );
        assert!(trees.follow(block(9_999), (PeerId::random(), Some([99; 7])), Arc::default()).is_none());
        assert!(trees.share(block(9_998)).is_some(), "what this node fetches has its own room");
        drop((one, all, again));
        // Whoever follows on after all of it is here takes no place from what is fetched next.
        let lingers = |n: usize| {
            let share = trees.share(block(n))?;
            let network = [u8::try_from(n % 8).unwrap(); 7];
            let follow = trees.follow(block(n), (PeerId::random(), Some(network)), Arc::default());
            drop(share);
            follow
        };
        let lingering: Vec<Follow> = (0..2 * SWARM_TREES_MAX).filter_map(lingers).collect();
        assert!(lingering.len() > SWARM_TREES_MAX);
        assert!(trees.share(block(9_997)).is_some());
        drop(lingering);
        assert_eq!(trees.len(), 0);
        let known = locked(&trees.0);
        assert_eq!((known.shares, known.networks.len()), (0, 0));
    }
}
