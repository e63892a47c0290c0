//! `reputations-equal-recount`: what a node's books say of a peer is what the others know to have happened.
//!
//! The recount never looks at what a node noted of a peer. Successes are counted from what the *peer* says it sent, and
//! forgeries and silence from what the *adversary* says it did. Where an answer may have come too late to be read, the recount
//! knows only how much it is at least and at most; everywhere else the two are the same number.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ggen_marketplace::limits::FETCH_TIMEOUT;

use super::{Account, Case, Fact, Found, View};
use crate::adversary::Bite;

/// Its name.
pub(super) const RULE: &str = "reputations-equal-recount";
/// How long after something broke, or after a node stopped, silence has that reason: as long as one request may take, and
/// the time until its answer is given up.
const AFTERMATH: Duration = Duration::from_secs(60);

/// How long after wrong bytes were sent they stand in the books at the latest, wherever that install is by then: its other
/// requests run out of time first.
const BOOKED: Duration = Duration::from_secs(5).saturating_add(FETCH_TIMEOUT);

/// Something that a node does for its user, during which it asks peers for blocks.
#[derive(Debug, Clone, Default)]
struct Episode {
    began: Duration,
    ended: Option<Duration>,
    fetched: Option<u64>,
    /// By peer, the bytes that it says it sent.
    served: BTreeMap<usize, u64>,
    /// By peer, when it sent wrong bytes first.
    forged: BTreeMap<usize, Duration>,
    /// Peers that left a request unanswered.
    silent: BTreeSet<usize>,
}

/// Counts what happened between any two nodes.
#[derive(Debug)]
pub(super) struct Recount {
    /// By node and step.
    episodes: BTreeMap<(usize, usize), Episode>,
    /// By the one that asked and the one that sent: the bytes, whenever.
    served: BTreeMap<(usize, usize), u64>,
    /// Likewise: wrong blocks.
    forged: BTreeMap<(usize, usize), u64>,
    /// What the books said when they were looked at last, by whose they are and of whom.
    accounts: BTreeMap<(usize, usize), Account>,
    /// When something was broken, or somebody gone.
    disturbed: Vec<(Duration, Option<Duration>)>,
    /// Nodes that lost their books, or stopped while they might have written.
    unsure: BTreeSet<usize>,
    /// How long an answer may take to its reader, both ways and with what a busy link adds.
    slack: Duration,
    /// How long a request may be on its way.
    crossing: Duration,
}

/// What the books may say at least and at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Range {
    least: u64,
    most: u64,
}

impl Recount {
    pub(super) fn new(case: &Case) -> Self {
        Self {
            episodes: BTreeMap::new(),
            served: BTreeMap::new(),
            forged: BTreeMap::new(),
            accounts: BTreeMap::new(),
            disturbed: Vec::new(),
            unsure: BTreeSet::new(),
            slack: case.latency_max * 4 + Duration::from_secs(5),
            crossing: case.latency_max * 4,
        }
    }

    pub(super) fn hear(&mut self, at: Duration, fact: &Fact) {
        match fact {
            Fact::StepBegan { step, node } => {
                self.episodes.insert((*node, *step), Episode { began: at, ..Episode::default() });
            }
            Fact::StepEnded { step, node, fetched, .. } => {
                if let Some(episode) = self.episodes.get_mut(&(*node, *step)) {
                    episode.ended = Some(at);
                    episode.fetched = *fetched;
                }
            }
            Fact::Served { node, to, bytes } => {
                *self.served.entry((*to, *node)).or_default() += bytes;
                self.in_progress(*to, at).for_each(|it| *it.served.entry(*node).or_default() += bytes);
            }
            Fact::Bit { node, bite: Bite::WrongBlock, victim: Some(victim) } => {
                *self.forged.entry((*victim, *node)).or_default() += 1;
                self.in_progress(*victim, at).for_each(|it| {
                    it.forged.entry(*node).or_insert(at);
                });
            }
            Fact::Bit { node, bite: Bite::Stalled, victim: Some(victim) } => {
                self.in_progress(*victim, at).for_each(|it| {
                    it.silent.insert(*node);
                });
            }
            Fact::FaultBegan => self.disturbed.push((at, None)),
            Fact::FaultEnded => {
                if let Some((_, until)) = self.disturbed.iter_mut().rev().find(|(_, until)| until.is_none()) {
                    *until = Some(at);
                }
            }
            Fact::Stopped { node } => {
                self.disturbed.push((at, Some(at)));
                self.unsure.insert(*node);
            }
            Fact::Wiped { node } => {
                self.unsure.insert(*node);
                self.accounts.retain(|(of, _), _| of != node);
            }
            _ => {}
        }
    }

    /// What a node does now, and did a moment ago: a request may be on its way when what it was for ends.
    fn in_progress(&mut self, node: usize, at: Duration) -> impl Iterator<Item = &mut Episode> {
        let crossing = self.crossing;
        let of_node = self.episodes.range_mut((node, 0)..=(node, usize::MAX));
        of_node
            .map(|(_, episode)| episode)
            .filter(move |it| it.ended.is_none_or(|ended| at <= ended + crossing))
    }

    /// Nothing stands in the books beyond what happened, and nothing that stood there is gone: not by a crash either.
    pub(super) fn look(&mut self, found: &mut Found, case: &Case, at: Duration, node: usize, view: &View) {
        for (peer, account) in &view.accounts {
            // What may stand there only grows: what did not change is no more wrong than it was.
            if self.accounts.get(&(node, *peer)) == Some(account) {
                continue;
            }
            let name = &case.members[*peer].name;
            let served = self.served.get(&(node, *peer)).copied().unwrap_or_default();
            for (what, counted, most) in [
                ("successes", account.successful, self.successes(node, *peer).most),
                ("failures", account.failed, self.failures(node, *peer).most),
                ("forged blocks", account.forged, self.forged.get(&(node, *peer)).copied().unwrap_or(0)),
                ("bytes", account.bytes_received, served),
            ] {
                if counted > most {
                    let what = format!("counts {counted} {what} of {name}, and there were at most {most}");
                    found.add(RULE, at, node, what);
                }
            }
        }
        for ((_, peer), before) in self.accounts.range((node, 0)..=(node, usize::MAX)) {
            let now = view.accounts.get(peer).copied().unwrap_or_default();
            for (what, counted, before) in [
                ("successes", now.successful, before.successful),
                ("failures", now.failed, before.failed),
                ("forged blocks", now.forged, before.forged),
                ("bytes", now.bytes_received, before.bytes_received),
            ] {
                if counted < before {
                    let name = &case.members[*peer].name;
                    found.add(
                        RULE,
                        at,
                        node,
                        format!("counts {counted} {what} of {name}; there were {before} before"),
                    );
                }
            }
        }
        self.accounts.extend(view.accounts.iter().map(|(peer, account)| ((node, *peer), *account)));
    }

    /// Nothing that happened is missing in the books.
    pub(super) fn finish(&self, found: &mut Found, case: &Case, at: Duration, node: usize, view: &View) {
        if self.unsure.contains(&node) {
            return;
        }
        for peer in 0..case.members.len() {
            let account = view.accounts.get(&peer).copied().unwrap_or_default();
            let name = &case.members[peer].name;
            // An answer that comes when its install has ended is looked at all the same. Once is enough: who was refused by then
            // was cut off, with what else it had in progress.
            let once = u64::from(self.has_forged(node, peer, at));
            for (what, counted, least) in [
                ("successes", account.successful, self.successes(node, peer).least),
                ("failures", account.failed, self.failures(node, peer).least.max(once)),
                ("forged blocks", account.forged, self.forgeries_least(node, peer).max(once)),
            ] {
                if counted < least {
                    let what = format!("counts {counted} {what} of {name}, and there were at least {least}");
                    found.add(RULE, at, node, what);
                }
            }
        }
    }

    fn episodes_of(&self, node: usize) -> impl Iterator<Item = &Episode> {
        self.episodes.range((node, 0)..=(node, usize::MAX)).map(|(_, episode)| episode)
    }

    /// Installs in which a peer helped.
    pub(super) fn successes(&self, node: usize, peer: usize) -> Range {
        let mut range = Range::default();
        for episode in self.episodes_of(node) {
            let Some(bytes) = episode.served.get(&peer) else { continue };
            range.most += 1;
            // Where several sent, some of it may have come twice; who was first is known only where nothing was sent in vain.
            let all: u64 = episode.served.values().sum();
            let is_only = all == *bytes || episode.fetched == Some(all);
            let has_helped = episode.fetched.is_some_and(|fetched| fetched > 0) && is_only;
            let is_clean = !episode.forged.contains_key(&peer)
                && !episode.silent.contains(&peer)
                && !self.is_disturbed(episode);
            range.least += u64::from(has_helped && is_clean);
        }
        range
    }

    /// Installs that a peer got in the way of: by what it sent, or by saying nothing.
    pub(super) fn failures(&self, node: usize, peer: usize) -> Range {
        let mut range = Range::default();
        for episode in self.episodes_of(node) {
            let is_forger = episode.forged.contains_key(&peer);
            // In a world where something is broken, silence is not the peer's doing, and nobody can tell.
            let may_be_silent = episode.silent.contains(&peer) || self.is_disturbed(episode);
            range.most += u64::from(is_forger || may_be_silent);
            range.least += u64::from(self.was_read(episode, peer));
        }
        range
    }

    fn forgeries_least(&self, node: usize, peer: usize) -> u64 {
        self.episodes_of(node).filter(|episode| self.was_read(episode, peer)).count() as u64
    }

    /// Whether wrong bytes of a peer certainly reached an install that was still waiting for some.
    fn was_read(&self, episode: &Episode, peer: usize) -> bool {
        let (Some(sent), Some(ended)) = (episode.forged.get(&peer), episode.ended) else { return false };
        *sent + self.slack <= ended && !self.is_disturbed(episode)
    }

    /// Whether a peer sent wrong bytes so long ago that they have been read, while nothing was broken.
    fn has_forged(&self, node: usize, peer: usize, now: Duration) -> bool {
        self.episodes_of(node).any(|episode| {
            let Some(sent) = episode.forged.get(&peer) else { return false };
            let booked = *sent + self.slack + BOOKED;
            let until_then = Episode { ended: Some(booked), began: episode.began, ..Episode::default() };
            booked <= now && !self.is_disturbed(&until_then)
        })
    }

    fn is_disturbed(&self, episode: &Episode) -> bool {
        self.disturbed.iter().any(|(from, until)| {
            episode.ended.is_none_or(|ended| *from <= ended)
                && until.is_none_or(|until| episode.began <= until + AFTERMATH)
        })
    }
}
