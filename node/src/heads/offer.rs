//! The one judgement of a head, whichever way it came.
//!
//! It has two steps. [`stand`] compares the head with what is known of its package; no door plays a part in that, so that every
//! node lists the same. What follows from where it stands depends on the door too: only what is announced is forwarded, and
//! only what is stored here is kept as a record.

use crate::{
    code::Code,
    identity::KeyLog,
    release::{Choice, DoubleSigning, Error, Seen, TwoChains, VerifiedHead, choice, fork},
    time::Timestamp,
};

/// The way by which a head comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// A neighbour announces it.
    Gossip,
    /// A peer stores it here, as a record of the DHT.
    Record,
    /// A node of the DHT answers a lookup with it.
    Answer,
    /// It stands in what a peer's catalogue has gained.
    Exchange,
}

/// What this node knows of a package when a head of it is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What was seen of it, which outlives what is listed.
    pub seen: Option<Seen>,
    /// The head that is listed.
    pub listed: Option<VerifiedHead>,
    /// Whether its publisher signed two states for one place, and has not ended that.
    pub is_frozen: bool,
    /// What proves it, as far as there was room for that.
    pub proofs: Vec<DoubleSigning>,
    /// Whether the catalogue has no room for one more package of this publisher from this peer.
    pub is_full: bool,
    /// The head of another package of its publisher that is listed under the longest chain of keys.
    pub other_keys: Option<VerifiedHead>,
    /// The keys of the confirmation that is held of its publisher, where no head that is listed has as many.
    pub confirmed_keys: Option<KeyLog>,
    /// Whether two chains of keys of its publisher are held as a proof.
    pub is_disputed: bool,
}

impl Known {
    /// Whether what a head proves together with the one that is listed is held already.
    fn holds_proof(&self, head: &VerifiedHead) -> bool {
        let listed = self.listed.as_ref().filter(|_| !self.proofs.is_empty());
        let proof = listed.and_then(|listed| DoubleSigning::of_heads(listed, head));
        proof.is_some_and(|proof| self.proofs.contains(&proof))
    }

    /// What is listed of its publisher under another chain of keys than that of a head, neither of which continues the other.
    pub fn other_chain(&self, head: &VerifiedHead) -> Option<&VerifiedHead> {
        let mut listed = self.listed.iter().chain(&self.other_keys);
        listed.find(|listed| TwoChains::of_heads(listed, head).is_some())
    }

    /// The listed head that a head contradicts, or its publisher's keys.
    pub fn against(&self, head: &VerifiedHead) -> Option<&VerifiedHead> {
        self.other_chain(head).or(self.listed.as_ref())
    }

    /// When the publisher of a head revoked the keys that signed it, as its confirmation says, or a head of another package that is listed.
    ///
    /// Of keys that were only replaced nothing follows: the head of a package whose publisher has been away since stays found.
    pub fn revoked_since(&self, head: &VerifiedHead) -> Option<Timestamp> {
        let chains = self.other_keys.iter().map(VerifiedHead::key_log).chain(&self.confirmed_keys);
        chains.filter_map(|keys| fork::revoked_since(head, keys)).min()
    }

    /// Whether a head, by which its publisher goes on, ends the double signings of a frozen package.
    pub fn is_thawed_by(&self, head: &VerifiedHead) -> bool {
        let Some(seen) = self.seen.filter(|seen| self.is_frozen && *seen != head.seen()) else {
            return false;
        };
        match self.proofs.is_empty() {
            // There was no room for the proof: what later keys resolved is believed.
            true => {
                goes_on(head, &seen) && head.seen().key_n > seen.key_n && !head.head().resolved.is_empty()
            }
            false => self.proofs.iter().all(|proof| proof.is_ended_by(head)),
        }
    }
}

/// How a head stands to what is known of its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing is listed of the package, and nothing speaks against the head.
    New,
    /// A later state of the package than the one that is listed.
    Newer,
    /// The state that is listed in other words, which come first in the order of heads.
    Reworded,
    /// The head that is listed, byte for byte.
    Same,
    /// The state that is listed in other words, which come after it in the order of heads.
    Superseded,
    /// As [`Standing::New`], and there is no room for it.
    Full,
    /// A later state was seen.
    Older,
    /// Together with the head that is listed it proves that the publisher signed two states for one place.
    DoubleSigned,
    /// It contradicts what was seen, which no two heads that are here prove, or was signed with keys that had been replaced.
    Contradicts,
    /// It goes beyond the place for which two states were signed, and does not end that.
    Frozen,
    /// Signed with keys that its publisher revoked, and not listed before that was known.
    Revoked,
    /// Made further ahead of this node's clock than clocks differ.
    Early,
}

impl Standing {
    /// Whether the catalogue changes, so that the head is worth passing on.
    pub fn is_news(self) -> bool {
        matches!(self, Self::New | Self::Newer | Self::Reworded)
    }

    /// Whether the head is genuine and cannot be taken only for now: the clock here may be wrong, or room may come.
    pub fn is_deferred(self) -> bool {
        matches!(self, Self::Full | Self::Early)
    }

    /// Whether what was seen of the package, or of its publisher's keys, speaks against the head.
    pub fn is_refused(self) -> bool {
        matches!(self, Self::Older | Self::DoubleSigned | Self::Contradicts | Self::Frozen | Self::Revoked)
    }

    /// Whether the state that the head names is the newest that this node knows of.
    fn is_current(self) -> bool {
        self.is_news() || matches!(self, Self::Same | Self::Full)
    }
}

/// What this node tells others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// Nothing.
    Nothing,
    /// The head.
    Head,
    /// The head and the one that is listed, which it contradicts.
    Both,
}

/// What a peer is charged with that brought what is no genuine head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// Nothing: it may be sound for a later version of this program.
    Nothing,
    /// One of the few faults that a damaged disk explains.
    Fault,
    /// An announcement that no honest neighbour passes on.
    Announcement,
    /// A ban: every honest node has verified what it passes on.
    Ban,
}

/// What is to be done with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How it stands to what is known.
    pub standing: Standing,
    /// Whether the catalogue takes it.
    pub list: bool,
    /// What this node tells others of it.
    pub forward: Forward,
    /// Whether it is kept as a record of the DHT.
    pub keep_record: bool,
    /// Whether it is kept, with the head that is listed, as a proof against its publisher.
    pub proof: bool,
}

/// Judges a head that came by `door`.
pub fn offer(door: Door, head: &VerifiedHead, known: &Known, now: Timestamp) -> Verdict {
    let mut verdict = follow(door, stand(head, known, now), known);
    // A proof that is held already is not written again, however often somebody sends it.
    verdict.proof &= !known.holds_proof(head);
    if !known.is_disputed && known.other_chain(head).is_some() {
        verdict.proof = true;
        // Where it is listed and passed on, those who list another chain notice by themselves.
        if door != Door::Exchange && verdict.forward == Forward::Nothing && !verdict.list {
            verdict.forward = Forward::Both;
        }
    }
    verdict
}

/// What a peer is charged with that brought by `door` what is no genuine head.
///
/// Of a genuine one nobody is charged with anything: clocks differ, and old news are no crime of the one who passes them on.
pub fn blame(door: Door, error: &Error) -> Blame {
    let is_forged = error.code() == Code::Signature;
    match door {
        _ if error.is_newer() => Blame::Nothing,
        Door::Gossip => Blame::Announcement,
        Door::Record | Door::Answer | Door::Exchange if is_forged => Blame::Ban,
        Door::Exchange => Blame::Fault,
        Door::Record | Door::Answer => Blame::Nothing,
    }
}

/// Says how a head stands to what is known of its package.
///
/// A proof comes first: what two states of one place prove does not depend on when somebody hears of them.
pub fn stand(head: &VerifiedHead, known: &Known, now: Timestamp) -> Standing {
    let against_listed = known.listed.as_ref().map(|listed| (listed, choice::compare(listed, head)));
    match against_listed {
        Some((_, Choice::Same)) => return Standing::Same,
        Some((_, Choice::Equivocation)) => return Standing::DoubleSigned,
        Some((_, Choice::Fork)) => return Standing::Contradicts,
        Some((_, Choice::First | Choice::Second)) | None => {}
    }
    // Of what was seen only a document is remembered, and not the chain of keys that this head ends: the listed head has that.
    let ends_chain = against_listed.is_some_and(|(listed, choice)| {
        choice == Choice::Second
            && known.seen == Some(listed.seen())
            && !listed.key_log().agrees_with(head.key_log())
    });
    match choice::accept(head, known.seen) {
        Ok(()) => {}
        Err(_) if ends_chain => {}
        Err(Error::Equivocation { .. }) => return Standing::Contradicts,
        Err(_) => return Standing::Older,
    }
    if known.revoked_since(head).is_some() {
        return Standing::Revoked;
    }
    let state = head.seen();
    // Of the keys that contest a place nothing is taken beyond it; what was listed may be said in other words.
    if let Some(seen) = known.seen.filter(|seen| known.is_frozen && *seen != state)
        && state.key_n <= seen.key_n
        && !known.is_thawed_by(head)
    {
        return Standing::Frozen;
    }
    let standing = match against_listed {
        Some((_, Choice::First)) => return Standing::Superseded,
        Some((listed, _)) if listed.seen() == state => Standing::Reworded,
        Some(_) => Standing::Newer,
        None if known.is_full => Standing::Full,
        None => Standing::New,
    };
    if head.is_ahead(now) { Standing::Early } else { standing }
}

/// What two heads prove together of the keys of their publisher, given what is known of the package: nothing where they do not
/// contradict each other.
///
/// They prove it whether this node would take either of them or not. Keys that had been replaced by what was seen prove only what
/// the head that is listed did not end: anybody who stole a key of the past can sign with it.
pub fn proves(first: &VerifiedHead, second: &VerifiedHead, known: &Known) -> Option<DoubleSigning> {
    let proof = DoubleSigning::of_heads(first, second)?;
    let is_current = |seen: &Seen| [first, second].iter().all(|head| goes_on(head, seen));
    let stands = |listed: &VerifiedHead| proof.counts_in(listed.key_log()) && !proof.is_ended_by(listed);
    // Of two chains that go apart, what was seen is on one at most.
    let is_ended = known.listed.as_ref().is_some_and(|listed| proof.is_ended_by(listed));
    let is_on_one = |seen: &Seen| [first, second].iter().any(|head| goes_on(head, seen));
    let is_of_chains = proof.document.is_none() && !is_ended && known.seen.as_ref().is_some_and(is_on_one);
    let counts = known.seen.as_ref().is_none_or(is_current)
        || known.listed.as_ref().is_some_and(stands)
        || is_of_chains;
    counts.then_some(proof)
}

/// Whether the keys of a head are those that were seen, or followed them.
fn goes_on(head: &VerifiedHead, seen: &Seen) -> bool {
    head.key_log().fingerprint(seen.key_n) == Some(seen.key_document)
}

/// What follows from how a head stands, at one of the doors.
fn follow(door: Door, standing: Standing, known: &Known) -> Verdict {
    let is_first_proof = standing == Standing::DoubleSigned && !known.is_frozen;
    let forward = match door {
        // What a page brought is read on from here, with the proof beside it.
        Door::Exchange => Forward::Nothing,
        _ if is_first_proof => Forward::Both,
        Door::Gossip if standing.is_current() => Forward::Head,
        Door::Gossip | Door::Record | Door::Answer => Forward::Nothing,
    };
    Verdict {
        standing,
        list: standing.is_news(),
        forward,
        keep_record: door == Door::Record && standing.is_current(),
        proof: standing == Standing::DoubleSigned,
    }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
