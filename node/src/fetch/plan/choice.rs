//! What one peer is asked for next.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use super::{Ask, COPIES_OF_SILENT_MAX, Flight, Plan, RequestId, members::Members, peer::Peer};
use crate::{content::ContentId, limits::FETCH_IDS_MAX};

/// Bytes that one request asks for; the answer's own bound is not far above.
const REQUEST_BYTES: u64 = 1 << 20;
/// Blocks that a peer is asked for of which nothing was heard yet: what it is asked for, nobody else is for a while.
const IDS_FIRST: usize = 64;
/// Such peers that are asked at once, where others have answered.
const UNHEARD_MAX: usize = 8;
/// A want that takes longer than this is asked of a second peer too, as long as too little is known of the first one's pace.
pub(super) const HEDGE_AFTER: Duration = Duration::from_secs(2);
/// Late wants that one search looks at. Only those are passed over of which the peer has a copy or refused one, or which a proven
/// peer may have: it is enough to find some of the others.
const LATE_LOOKED_AT_MAX: usize = 1_024;
/// The least that another peer must save to be asked for what is on its way.
const STEAL_MOMENT: Duration = Duration::from_millis(50);
const STEAL_MOMENT_BEGUN: Duration = Duration::from_millis(500);
/// How long a block waits with those that were asked for it until one more is: where the turn comes soon, it has come by then.
pub(super) const WAITS_PAUSE: Duration = Duration::from_millis(300);
/// How long something must have been coming for its pace to be known.
const PACE_KNOWN_AFTER: Duration = Duration::from_millis(300);
/// What has begun to come stands still where it brought nothing in the time that so many bytes took before.
const STILL_BYTES: u64 = 256 << 10;
/// How long those who fetch the same may take until they bring at least as much as who has all of it did before.
const SHARE_PATIENCE: Duration = Duration::from_secs(2);
/// How long at least, and at most, the blocks of others are waited for before one is asked of who has all of them.
const HELP_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(60);

/// How long a peer that was asked must have sent nothing to count as silent when our own time runs out. A megabyte over a slow
/// line, or the last of many answers, may take some seconds; a request that was sent just before the end proves nothing.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Copies of one want in flight, where somebody may still be sending it.
pub(super) const COPIES_MAX: usize = 2;

/// Whether it is worth it to ask another peer, which takes so long, for what comes in so long a time otherwise. What has come of it already is
/// lost then.
pub(super) fn is_worth(takes: Duration, left: Duration, has_begun: bool) -> bool {
    if has_begun { takes * 2 + STEAL_MOMENT_BEGUN < left } else { takes * 3 / 2 + STEAL_MOMENT < left }
}

impl Plan {
    pub(super) fn ask(&mut self, peer: PeerId, proven: &[PeerId], now: Duration) -> Option<Ask> {
        let state = self.peers.get(&peer)?;
        let ids_max = if state.heard.is_some() { FETCH_IDS_MAX } else { IDS_FIRST };
        let budget = state.room().min(REQUEST_BYTES);
        if state.heard.is_none() && !proven.is_empty() && self.unheard() >= UNHEARD_MAX {
            return None;
        }
        let mut want = Vec::new();
        if state.nothing_at != Some(self.queued) {
            want = match state.is_partial() {
                true => self.held_by(peer, budget, ids_max, now),
                false => self.queued_for(peer, budget, ids_max, now),
            };
        }
        if want.is_empty() {
            let queued = self.queued;
            let state = self.peers.get_mut(&peer)?;
            state.nothing_at = Some(queued);
            // What others fetch is left to them for a while.
            let (helps, is_heard) = (!state.is_partial() && self.is_sharing, state.heard.is_some());
            // Who fetches says so before anything else. Of who has not, one block shows whether it has all of it.
            if helps && !is_heard && self.is_only_told_of(&peer) {
                want = self.first_for(peer, now);
                if !want.is_empty() {
                    return Some(self.send(peer, want, now));
                }
            }
            if helps && !self.may_help(now) {
                return None;
            }
            if helps {
                want = self.first_for(peer, now);
            }
            if want.is_empty() {
                want = self.late(peer, proven, budget, now);
            }
            if want.is_empty() && proven.contains(&peer) {
                want = self.slow(peer, now);
            }
            if helps && !want.is_empty() {
                self.helped_at = Some(now);
            }
        }
        (!want.is_empty()).then(|| self.send(peer, want, now))
    }

    fn is_only_told_of(&self, peer: &PeerId) -> bool {
        self.members.as_ref().is_some_and(|members| members.is_only_told_of(peer))
    }

    /// Until when what belongs to others is left to them: as long as they bring as much as who has all of it did.
    pub(super) fn shares_until(&self) -> Option<Duration> {
        let beat = self.beat();
        self.done_at.map(|at| at + SHARE_PATIENCE + beat.saturating_mul(self.from_members.saturating_add(1)))
    }

    /// Peers that are asked and of which nothing was heard yet.
    fn unheard(&self) -> usize {
        self.peers.values().filter(|state| !state.gone && state.heard.is_none() && state.requests > 0).count()
    }

    /// From the front of the queue, what this peer may hold, up to a request's worth of bytes; where others fetch too, what belongs to
    /// this node and nobody else has.
    fn queued_for(&self, peer: PeerId, budget: u64, ids_max: usize, now: Duration) -> Vec<ContentId> {
        // One that lets wait gives away first what it gave least often: nothing is left to others that it may choose.
        let chooses = self.peers.get(&peer).is_some_and(Peer::lets_wait);
        let is_all = chooses || !self.is_sharing;
        let queued = self.wants.queued().take_while(|(rank, _)| is_all || rank.is_own()).map(|(_, id)| id);
        self.worth_of(queued.filter(|id| self.is_left_to(peer, id, now)), budget, ids_max)
    }

    /// The first of the queue, whoever it belongs to.
    fn first_for(&self, peer: PeerId, now: Duration) -> Vec<ContentId> {
        self.wants.queued().map(|(_, id)| id).find(|id| self.is_left_to(peer, id, now)).into_iter().collect()
    }

    /// Of the queue, what this peer says it has, the rarest first.
    fn held_by(&self, peer: PeerId, budget: u64, ids_max: usize, now: Duration) -> Vec<ContentId> {
        let Some(state) = self.peers.get(&peer) else { return Vec::new() };
        let held = self.wants.held().filter(|id| state.may_have(id) && self.is_left_to(peer, id, now));
        self.worth_of(held, budget, ids_max)
    }

    /// Whether a peer may be asked for a block that is queued.
    fn is_left_to(&self, peer: PeerId, id: &ContentId, now: Duration) -> bool {
        self.wants.get(id).is_some_and(|want| want.is_open(now) && want.may_come_from(&peer))
    }

    /// As many of these as fit into a request.
    fn worth_of(&self, ids: impl Iterator<Item = ContentId>, budget: u64, ids_max: usize) -> Vec<ContentId> {
        let (mut taken, mut bytes) = (Vec::new(), 0_u64);
        for id in ids {
            let size = self.wants.get(&id).map_or(0, |want| want.size);
            bytes = bytes.saturating_add(size);
            if taken.len() == ids_max || !taken.is_empty() && bytes > budget {
                break;
            }
            taken.push(id);
        }
        taken
    }

    /// How often a block came from who has all of them.
    fn beat(&self) -> Duration {
        self.members.as_ref().map_or(Duration::ZERO, Members::beat)
    }

    /// How long what belongs to others is waited for.
    pub(super) fn help_after(&self) -> Duration {
        (self.beat() * 2).clamp(*HELP_AFTER.start(), *HELP_AFTER.end())
    }

    /// Whether one who has all may be asked for what belongs to others, or is on its way from them.
    fn may_help(&mut self, now: Duration) -> bool {
        self.done_at.get_or_insert(now);
        let since = *self.helped_at.get_or_insert(now);
        now >= since + self.help_after()
    }

    /// Wants that are late with somebody else and may be asked of this peer too: those of one request that nobody else is asked for, or one
    /// for which all that were asked are silent.
    ///
    /// Those that have answered before come first. Both the wants and those that are late may be many thousands.
    fn late(&self, peer: PeerId, proven: &[PeerId], budget: u64, now: Duration) -> Vec<ContentId> {
        let (is_proven, Some(state)) = (proven.contains(&peer), self.peers.get(&peer)) else {
            return Vec::new();
        };
        let may_take = |id: &ContentId| {
            #[cfg(test)]
            self.looked_at.set(self.looked_at.get() + 1);
            state.may_have(id)
                && self.wants.get(id).is_some_and(|want| {
                    want.may_come_from(&peer)
                        && (is_proven || !proven.iter().any(|it| want.may_come_from(it)))
                })
        };
        let ids_max = if is_proven { FETCH_IDS_MAX } else { IDS_FIRST };
        let mut looks = LATE_LOOKED_AT_MAX;
        // Requests are numbered as they were sent: the oldest come first.
        let is_late = |it: &&Flight| it.peer != peer && !it.waits && self.late_from(it, now) <= now;
        for flight in self.flights.values().filter(is_late) {
            // Where somebody proven is left to ask, it is so for all of a request that nobody refused.
            let has_better = !is_proven && proven.iter().any(|it| *it != flight.peer);
            if has_better && self.scarce.is_empty() {
                continue;
            }
            let some = flight.alone.iter().take(looks).copied();
            let taken = self.worth_of(some.filter(|id| may_take(id)), budget, ids_max);
            looks = looks.saturating_sub(flight.alone.len());
            if !taken.is_empty() {
                return taken;
            }
        }
        let is_silent = |id: &RequestId| self.flights.get(id).is_some_and(|it| self.silent_from(it) <= now);
        let may_be_copied = |id: &&ContentId| {
            self.wants.get(id).is_some_and(|want| {
                want.asked.len() < COPIES_OF_SILENT_MAX
                    && (want.asked.len() < COPIES_MAX || want.asked.keys().all(is_silent))
            })
        };
        self.copied.iter().filter(may_be_copied).find(|id| may_take(id)).into_iter().copied().collect()
    }

    /// What another peer will bring much later than this one could: of the request that takes longest, as much as evens out. Nobody is
    /// asked for anything else any more.
    fn slow(&self, peer: PeerId, now: Duration) -> Vec<ContentId> {
        let Some(state) = self.peers.get(&peer) else { return Vec::new() };
        let mut ahead: BTreeMap<PeerId, u64> = BTreeMap::new();
        let mut slowest: Option<(Duration, &Flight)> = None;
        for flight in self.flights.values().filter(|flight| !flight.waits) {
            let before = ahead.entry(flight.peer).or_default();
            *before = before.saturating_add(flight.bytes);
            let Some(asked) = self.peers.get(&flight.peer) else { continue };
            let left = self.left(flight, now).or_else(|| {
                // Of whom nothing is known, that it is late is waited for.
                let left = asked.pace.time_left(*before)?;
                let since = flight.sent.at.max(asked.heard.unwrap_or_default());
                Some(left.saturating_sub(now.saturating_sub(since)))
            });
            let Some(left) = left else { continue };
            let is_slower = slowest.is_none_or(|(most, _)| left > most);
            if flight.peer != peer && is_slower && !flight.alone.is_empty() {
                slowest = Some((left, flight));
            }
        }
        let Some((left, flight)) = slowest else { return Vec::new() };
        let slow = self.peers.get(&flight.peer).and_then(|slow| slow.pace.rate()).unwrap_or(1);
        let Some(fast) = state.pace.rate() else { return Vec::new() };
        let share =
            u64::try_from(u128::from(flight.bytes) * u128::from(fast) / u128::from(slow.max(1) + fast));
        let share = share.unwrap_or(u64::MAX).min(state.room());
        let some = flight.want.iter().rev().filter(|id| flight.alone.contains(id)).copied();
        let some = some.filter(|id| state.may_have(id) && self.is_left_to(peer, id, now));
        let taken = self.worth_of(some, share, FETCH_IDS_MAX);
        let bytes = taken.iter().filter_map(|id| self.wants.get(id)).map(|want| want.size).sum();
        match state.pace.time_of(bytes, state.in_flight) {
            Some(takes) if is_worth(takes, left, flight.began.is_some()) => taken,
            _ => Vec::new(),
        }
    }

    /// How long the rest of a request takes that has begun to come, at its pace so far.
    pub(super) fn left(&self, flight: &Flight, now: Duration) -> Option<Duration> {
        let took = now.checked_sub(flight.began?).filter(|took| *took >= PACE_KNOWN_AFTER)?;
        let rest = u128::from(flight.bytes.saturating_sub(flight.came));
        let nanos = took.as_nanos().saturating_mul(rest) / u128::from(flight.came.max(1));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// When what a request asks for is late: later than most of what its peer answered, as far as that is known, and once it is
    /// silent. What has begun to come is late once it stands still.
    pub(super) fn late_from(&self, flight: &Flight, now: Duration) -> Duration {
        if let Some(began) = flight.began {
            let took = now.saturating_sub(began).as_millis();
            let usual = took.saturating_mul(u128::from(STILL_BYTES)) / u128::from(flight.came.max(1));
            let usual = Duration::from_millis(u64::try_from(usual).unwrap_or(u64::MAX));
            let moved = began.max(flight.moved.unwrap_or_default());
            return moved + usual.clamp(HEDGE_AFTER, SILENT_AFTER);
        }
        let usual = self.peers.get(&flight.peer).and_then(|peer| peer.pace.late_after());
        // Who fetches too has many others to serve, and its first block may take as long as those of who has all.
        let least = match self.peers.get(&flight.peer).is_some_and(Peer::is_partial) {
            true => self.beat() * 3,
            false => Duration::ZERO,
        };
        let late = flight.sent.at + usual.unwrap_or(HEDGE_AFTER);
        late.min(self.silent_from(flight)).max(flight.sent.at + least)
    }

    /// When the peer of a request counts as silent, if nothing comes from it until then.
    pub(super) fn silent_from(&self, flight: &Flight) -> Duration {
        let heard = self.peers.get(&flight.peer).and_then(|peer| peer.heard).unwrap_or_default();
        flight.sent.at.max(flight.moved.unwrap_or_default()).max(heard) + SILENT_AFTER
    }
}
