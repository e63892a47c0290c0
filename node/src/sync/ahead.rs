//! Heads of our own packages that are not taken: those that are ahead of this node's clock, and those of a key that was revoked.
//!
//! No such head is taken, and so nothing of it is remembered where heads are. But it is genuine. One that is ahead says that the log of
//! its package went on elsewhere, and an entry that is signed now would be a second one for one place. One of a revoked key may be what
//! its publisher published on another machine, and only its publisher can say so. So they are noted here: one that is ahead until the
//! catalogue has seen as much, all until the node stops.
//!
//! Only heads of publishers are noted whose keys are here. Nobody else can fill it, and each publisher has its own share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    heads::Standing,
    identity::PublisherId,
    limits::CATALOG_HEADS_PER_PUBLISHER_MAX,
    package::PackageId,
    release::{Seen, VerifiedHead},
    time::Timestamp,
};

/// Heads of revoked keys that are noted of one publisher: a thief can make any number of packages.
const REVOKED_MAX: usize = 256;

/// What was met. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ahead(Arc<Mutex<Met>>);

#[derive(Debug, Default)]
struct Met {
    watched: BTreeSet<PublisherId>,
    /// Publishers whose keys are here.
    minded: BTreeSet<PublisherId>,
    states: BTreeMap<PackageId, State>,
    /// Heads of minded publishers that revoked keys signed.
    revoked: BTreeMap<PackageId, VerifiedHead>,
}

/// A state of a package that could not be taken for the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What to compare with what was seen.
    pub seen: Seen,
    /// When its newest entry was made, as its maker says.
    pub released_at: Timestamp,
}

impl State {
    /// Whether it is further on than what was seen of its package.
    pub fn is_beyond(&self, seen: Option<Seen>) -> bool {
        seen.is_none_or(|seen| self.place() > place(seen))
    }

    fn place(&self) -> (u64, u64) {
        place(self.seen)
    }
}

fn place(seen: Seen) -> (u64, u64) {
    (seen.key_n, seen.sequence.get())
}

impl Ahead {
    /// Has the heads of a publisher noted from now on; tells whether they were not before.
    pub fn watch(&self, publisher: PublisherId) -> bool {
        self.met().watched.insert(publisher)
    }

    /// Has the heads of a publisher noted that revoked keys signed.
    pub fn mind(&self, publisher: PublisherId) {
        self.met().minded.insert(publisher);
    }

    /// Whether any heads of a publisher are noted.
    pub fn minds(&self, publisher: &PublisherId) -> bool {
        let met = self.met();
        met.watched.contains(publisher) || met.minded.contains(publisher)
    }

    /// Notes a head that was met, where it was not taken and says something of a package of ours.
    pub fn heard(&self, head: &VerifiedHead, standing: Standing) {
        match standing {
            Standing::Early => self.note(head),
            Standing::Revoked => {
                let mut met = self.met();
                let package = head.package_id();
                // Of a package the first that was heard: who holds a later one holds that too.
                let of_publisher = met.revoked.keys().filter(|known| known.publisher == package.publisher);
                let has_room = of_publisher.count() < REVOKED_MAX;
                if met.minded.contains(&package.publisher) && has_room {
                    met.revoked.entry(package).or_insert_with(|| head.clone());
                }
            }
            _ => {}
        }
    }

    /// The head of a package that a revoked key signed, as it was met.
    pub fn revoked(&self, package: &PackageId) -> Option<VerifiedHead> {
        self.met().revoked.get(package).cloned()
    }

    /// The packages of a publisher of which such heads were met.
    pub fn all_revoked(&self, publisher: &PublisherId) -> Vec<PackageId> {
        let met = self.met();
        met.revoked.keys().filter(|package| package.publisher == *publisher).cloned().collect()
    }

    /// Notes a head that stands [`Early`](crate::heads::Standing::Early), where its publisher is watched. Of each package the furthest counts.
    pub fn note(&self, head: &VerifiedHead) {
        let mut met = self.met();
        let package = head.package_id();
        if !met.watched.contains(&package.publisher) {
            return;
        }
        let state = State { seen: head.seen(), released_at: head.head().released_at };
        // No more packages of a publisher than its catalogue would list.
        let of_publisher = met.states.keys().filter(|known| known.publisher == package.publisher);
        let is_full = of_publisher.count() >= CATALOG_HEADS_PER_PUBLISHER_MAX;
        match met.states.get_mut(&package) {
            Some(known) if known.place() < state.place() => *known = state,
            Some(_) => {}
            None if is_full => tracing::warn!(%package, "too many of our packages are ahead of the clock"),
            None => drop(met.states.insert(package, state)),
        }
    }

    /// What was met of a package beyond what was `seen` of it. What was seen by now is forgotten.
    pub fn beyond(&self, package: &PackageId, seen: Option<Seen>) -> Option<State> {
        let mut met = self.met();
        let state = *met.states.get(package)?;
        if !state.is_beyond(seen) {
            met.states.remove(package);
            return None;
        }
        Some(state)
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::fixture::{head, publisher, rotated};

    #[test]
    fn heads_of_revoked_keys_are_noted_of_publishers_whose_keys_are_here() {
        let (own, other) = (publisher(1), publisher(2));
        let ahead = Ahead::default();
        ahead.mind(own.id());
        for by in [&own, &other] {
            let stolen = head(by, &["1.0.0"]);
            ahead.heard(&stolen, Standing::Older);
            assert_eq!(ahead.revoked(&stolen.package_id()), None);
            ahead.heard(&stolen, Standing::Revoked);
        }
        let stolen = head(&own, &["1.0.0"]);
        assert_eq!(ahead.all_revoked(&own.id()), [stolen.package_id()]);
        assert_eq!(ahead.revoked(&stolen.package_id()), Some(stolen));
        assert_eq!(ahead.all_revoked(&other.id()), []);
    }

    #[test]
    fn of_watched_publishers_the_furthest_state_counts_until_it_was_seen() {
        let (own, other) = (publisher(1), publisher(2));
        let [one, two, three] = [&["1.0.0"][..], &["1.0.0", "1.1.0"], &["1.0.0", "1.1.0", "1.2.0"]]
            .map(|versions| head(&own, versions));
        let (ahead, package) = (Ahead::default(), one.package_id());
        ahead.note(&two);
        assert_eq!(ahead.beyond(&package, None), None, "its publisher was not watched");
        assert!(ahead.watch(own.id()) && !ahead.watch(own.id()));
        let stranger = head(&other, &["1.0.0"]);
        ahead.note(&stranger);
        assert_eq!(ahead.beyond(&stranger.package_id(), None), None);
        ahead.note(&two);
        ahead.note(&one);
        let met = ahead.beyond(&package, Some(one.seen())).expect("the log went on elsewhere");
        assert_eq!((met.seen, met.released_at), (two.seen(), two.head().released_at));
        ahead.note(&three);
        assert_eq!(ahead.beyond(&package, Some(two.seen())).map(|met| met.seen), Some(three.seen()));
        assert_eq!(ahead.beyond(&package, Some(three.seen())), None);
        assert_eq!(
            ahead.beyond(&package, Some(one.seen())),
            None,
            "it was seen, and nothing more is to be said"
        );
        // Under later keys a log may end at an earlier place.
        ahead.note(&head(&rotated(&own, 3), &["1.0.0"]));
        assert!(ahead.beyond(&package, Some(three.seen())).is_some());
    }
}
