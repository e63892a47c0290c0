//! Which copies of a record go to whom, as nodes come and go.
//!
//! A record stands with the [`HOLDERS`] nodes nearest to its key. When one of them is gone, the next one has to be given a copy, and
//! so has a newcomer that is nearer than they are. Every holder looks ([`Moves::look`]) when its routing table has changed; those few
//! that are nearest give (`GIVERS`), so that not all do the same. Where those have died too, and nobody has noticed it yet, they gave
//! nothing: whoever relied on them finds that out soon after, and then it is its turn (`SETTLED_AFTER`). Beyond that, each record is
//! renewed with all of its holders every [`RENEW_EVERY`], by the nearest that lives, and by the next one where that does not do it.
//!
//! How much is done at once is up to the caller, which asks for a few records at a time ([`Moves::next`]). `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

/// Nodes that hold a record.
pub const HOLDERS: usize = 20;
/// Holders that give copies: the nearest ones. More than one, since the first may have died unnoticed.
const GIVERS: usize = 2;
/// How often a record is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How long the next holder waits for the one before it to renew a record.
const RENEW_TURN: Duration = Duration::from_secs(10 * 60);
/// How soon a copy is offered again to a node that did not take it.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// After which time those who were relied on have given: had they been dead, it would have been noticed by now.
const SETTLED_AFTER: Duration = Duration::from_secs(2 * 60);

/// What is known of one record that is held here.
#[derive(Debug, Clone)]
struct Held {
    /// Who has a copy, as far as this node knows.
    given: BTreeSet<PeerId>,
    /// Who is given one by others, as far as those live.
    relied: BTreeMap<PeerId, Relied>,
    /// When it was renewed last, by anybody.
    renewed: Instant,
    /// Since when it is due here; none where it is not.
    due_since: Option<Instant>,
    /// When it was looked at last.
    looked_at: Option<Instant>,
}

/// On whom this node relies for a copy, and since when.
#[derive(Debug, Clone)]
struct Relied {
    givers: Arc<[PeerId]>,
    since: Instant,
}

impl Held {
    /// Believes the givers that had the time, and no longer counts on those that have gone before that.
    fn settle(&mut self, holders: &[PeerId], now: Instant) {
        self.given.retain(|peer| holders.contains(peer));
        let given = &mut self.given;
        self.relied.retain(|peer, relied| {
            if !holders.contains(peer) {
                return false;
            }
            let is_settled = now >= relied.since + SETTLED_AFTER;
            if is_settled {
                given.insert(*peer);
            }
            !is_settled && relied.givers.iter().any(|giver| holders.contains(giver))
        });
    }
}

/// The records that are held here.
#[derive(Debug, Default)]
pub struct Moves {
    held: BTreeMap<Vec<u8>, Held>,
    /// Records to look at, since the routing table changed.
    queue: VecDeque<Vec<u8>>,
    /// Whether it changed since the queue was filled.
    has_changed: bool,
    /// When some are looked at again that did not go where they should.
    retry_at: Option<Instant>,
}

impl Moves {
    /// Notes that a record came, or came again; whoever brought it gave it to all of its holders.
    pub fn came(&mut self, key: &[u8], nearest: &[PeerId], now: Instant) {
        let given = nearest.iter().take(HOLDERS).copied();
        match self.held.get_mut(key) {
            Some(held) => (held.renewed, held.due_since) = (now, None),
            None => {
                let held = Held {
                    given: given.collect(),
                    relied: BTreeMap::new(),
                    renewed: now,
                    due_since: None,
                    looked_at: None,
                };
                self.held.insert(key.to_vec(), held);
            }
        }
    }

    /// Notes that the routing table changed.
    pub fn changed(&mut self) {
        self.has_changed = true;
    }

    /// The next record to look at, where there is any.
    pub fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.retry_at.is_some_and(|at| at <= now) {
            (self.retry_at, self.has_changed) = (None, true);
        }
        if self.queue.is_empty() {
            if std::mem::take(&mut self.has_changed) {
                self.queue.extend(self.held.keys().cloned());
            } else {
                // Nothing moved: those alone whose renewal may be due.
                let is_due = |held: &Held| now >= held.renewed + RENEW_EVERY;
                let due = self.held.iter().filter(|(_, held)| {
                    is_due(held) && held.looked_at.is_none_or(|looked| now >= looked + RETRY_AFTER)
                });
                self.queue.extend(due.map(|(key, _)| key.clone()));
            }
        }
        self.queue.pop_front()
    }

    /// Whom to give a copy of a record, where `nearest` live nearest to its key, in this order, and `nearer` of them are nearer than
    /// this node.
    pub fn look(&mut self, key: &[u8], nearest: &[PeerId], nearer: usize, now: Instant) -> Vec<PeerId> {
        let Some(held) = self.held.get_mut(key) else { return Vec::new() };
        let holders = &nearest[..nearest.len().min(HOLDERS)];
        held.looked_at = Some(now);
        let turn = RENEW_TURN * u32::try_from(nearer.min(HOLDERS)).unwrap_or(u32::MAX);
        if nearer < HOLDERS && now >= held.renewed + RENEW_EVERY + turn {
            held.due_since.get_or_insert(now);
            self.retry_at.get_or_insert(now + RETRY_AFTER);
            return holders.to_vec();
        }
        // Others are nearer by now, or renewed it: it is not this node's turn any more.
        held.due_since = None;
        held.settle(holders, now);
        let lacking = holders.iter().filter(|peer| !held.given.contains(peer)).copied();
        if nearer >= GIVERS {
            // Those that are nearer do it.
            let relied = Relied { givers: holders.iter().take(GIVERS).copied().collect(), since: now };
            for peer in lacking {
                held.relied.entry(peer).or_insert_with(|| relied.clone());
            }
            return Vec::new();
        }
        let lacking: Vec<PeerId> = lacking.filter(|peer| !held.relied.contains_key(peer)).collect();
        if !lacking.is_empty() {
            self.retry_at.get_or_insert(now + RETRY_AFTER);
        }
        lacking
    }

    /// Notes who took a copy.
    pub fn gave(&mut self, key: &[u8], taken_by: &[PeerId], now: Instant) {
        let Some(held) = self.held.get_mut(key) else { return };
        held.given.extend(taken_by);
        held.relied.retain(|peer, _| !taken_by.contains(peer));
        if held.due_since.is_some() && !taken_by.is_empty() {
            (held.renewed, held.due_since) = (now, None);
        }
    }

    /// Forgets what is no longer held.
    pub fn retain(&mut self, is_held: impl Fn(&[u8]) -> bool) {
        self.held.retain(|key, _| is_held(key));
    }

    /// How long the oldest record has been due whose renewal was this node's turn.
    pub fn lag(&self, now: Instant) -> Duration {
        let oldest = self.held.values().filter_map(|held| held.due_since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const KEY: &[u8] = b"key";

    fn peers(number: usize) -> Vec<PeerId> {
        (0..number).map(|_| PeerId::random()).collect()
    }

    fn holding(nearest: &[PeerId], now: Instant) -> Moves {
        let mut moves = Moves::default();
        moves.came(KEY, nearest, now);
        moves
    }

    #[test]
    fn who_takes_the_place_of_a_dead_holder_is_given_a_copy_and_so_is_a_newcomer() {
        let (now, all) = (Instant::now(), peers(HOLDERS + 2));
        let mut moves = holding(&all, now);
        assert_eq!(moves.look(KEY, &all, 0, now), []);
        let survivors: Vec<PeerId> = all[3..].to_vec();
        assert_eq!(moves.look(KEY, &survivors, 1, now), all[HOLDERS..]);
        moves.gave(KEY, &all[HOLDERS..], now);
        assert_eq!(moves.look(KEY, &survivors, 1, now), []);
        let newcomer = PeerId::random();
        let with_newcomer: Vec<PeerId> = std::iter::once(newcomer).chain(survivors).collect();
        assert_eq!(moves.look(KEY, &with_newcomer, 1, now), [newcomer]);
        assert_eq!(moves.look(KEY, &with_newcomer, GIVERS, now), [], "others are nearer");
    }

    #[test]
    fn who_relied_on_givers_that_were_dead_already_gives_itself() {
        let (now, all) = (Instant::now(), peers(2 * HOLDERS));
        let nearest = |gone: usize| &all[gone..gone + HOLDERS];
        // The first three have died; that of the third one is noticed first.
        let mut moves = holding(nearest(0), now);
        let seen: Vec<PeerId> = all[..2].iter().chain(&all[3..=HOLDERS]).copied().collect();
        assert_eq!(moves.look(KEY, &seen, 2, now), [], "two others are nearer");
        let seen: Vec<PeerId> = all[1..2].iter().chain(&all[3..HOLDERS + 2]).copied().collect();
        assert_eq!(
            moves.look(KEY, &seen, 1, now + SECOND),
            all[HOLDERS + 1..HOLDERS + 2],
            "one may have given"
        );
        moves.gave(KEY, &all[HOLDERS + 1..HOLDERS + 2], now + SECOND);
        assert_eq!(moves.look(KEY, nearest(3), 0, now + 2 * SECOND), [all[HOLDERS], all[HOLDERS + 2]]);
    }

    #[test]
    fn givers_that_were_seen_alive_long_enough_have_given() {
        let (now, all) = (Instant::now(), peers(2 * HOLDERS));
        let mut moves = holding(&all[..HOLDERS], now);
        assert_eq!(moves.look(KEY, &all[1..=HOLDERS], 2, now), []);
        let after = now + SETTLED_AFTER;
        assert_eq!(moves.look(KEY, &all[3..HOLDERS + 3], 0, after), all[HOLDERS + 1..HOLDERS + 3]);
    }

    #[test]
    fn a_copy_that_was_not_taken_is_offered_again_after_a_while() {
        let (now, all) = (Instant::now(), peers(HOLDERS + 1));
        let mut moves = holding(&all[..HOLDERS], now);
        moves.changed();
        assert_eq!(moves.next(now).as_deref(), Some(KEY));
        assert_eq!(moves.look(KEY, &all[1..], 0, now), [all[HOLDERS]]);
        moves.gave(KEY, &[], now);
        assert_eq!(moves.next(now + SECOND), None);
        assert_eq!(moves.next(now + RETRY_AFTER).as_deref(), Some(KEY));
        assert_eq!(moves.look(KEY, &all[1..], 0, now), [all[HOLDERS]]);
        moves.gave(KEY, &all[HOLDERS..], now);
        assert_eq!(moves.look(KEY, &all[1..], 0, now), []);
    }

    #[test]
    fn one_holder_after_another_renews_until_somebody_has() {
        let (now, all) = (Instant::now(), peers(HOLDERS));
        let (mut first, mut third) = (holding(&all, now), holding(&all, now));
        let due = now + RENEW_EVERY;
        assert_eq!(first.next(due - SECOND), None);
        assert_eq!(first.next(due).as_deref(), Some(KEY));
        assert_eq!(first.look(KEY, &all, 0, due), all);
        assert_eq!(third.look(KEY, &all, 2, due), [], "it is not its turn");
        assert_eq!(third.look(KEY, &all, 2, due + 2 * RENEW_TURN), all, "the first ones did not");
        assert_eq!(first.lag(due + SECOND), SECOND, "nobody has taken it yet");
        first.gave(KEY, &all[..1], due + SECOND);
        third.came(KEY, &all, due + SECOND);
        assert_eq!((first.lag(due + SECOND), third.lag(due + SECOND)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(first.look(KEY, &all, 0, due + 2 * SECOND), []);
    }

    #[test]
    fn a_holder_that_others_have_come_between_owes_nothing_any_more() {
        let (now, all) = (Instant::now(), peers(HOLDERS));
        let mut moves = holding(&all, now);
        let due = now + RENEW_EVERY;
        assert_eq!(moves.look(KEY, &all, 0, due), all);
        assert_eq!(moves.look(KEY, &all, HOLDERS, due + SECOND), []);
        assert_eq!(moves.lag(due + 60 * SECOND), Duration::ZERO);
        moves.next(due + SECOND);
        assert_eq!(moves.next(due + 2 * SECOND), None, "it was looked at a moment ago");
    }

    #[test]
    fn what_is_no_longer_held_is_no_longer_given() {
        let (now, all) = (Instant::now(), peers(HOLDERS + 1));
        let mut moves = holding(&all, now);
        moves.retain(|_| false);
        assert_eq!(moves.look(KEY, &all[1..], 0, now), []);
        moves.changed();
        assert_eq!(moves.next(now), None);
    }
}
