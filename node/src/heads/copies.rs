//! What a lookup was given under one key: which copy counts, and who holds an older one.
//!
//! Every copy is genuine before it comes here: a peer can repeat what was signed, and leave out the newest, but invent nothing.
//! However many bring an older one, the newest counts. Pure, and the same for every kind of record ([`Record`]).

use libp2p::PeerId;

use crate::release::{
    DoubleSigning,
    choice::{self, Choice},
    head::VerifiedHead,
};

/// Copies that say different things. The states of one package may be many; those that a newer one replaces give way.
const DIFFERENT_MAX: usize = 64;
/// Peers of one copy that are remembered: more than a lookup asks at once of those that are nearest.
const HOLDERS_MAX: usize = 64;

/// What may stand in the DHT, signed.
pub trait Record: Clone {
    /// It, as it is stored.
    fn bytes(&self) -> &[u8];

    /// Which of two for one key counts.
    fn against(&self, other: &Self) -> Choice;

    /// Whether it ended that two others contradict each other.
    fn ends(&self, _first: &Self, _second: &Self) -> bool {
        false
    }
}

impl Record for VerifiedHead {
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }

    fn against(&self, other: &Self) -> Choice {
        choice::compare(self, other)
    }

    fn ends(&self, first: &Self, second: &Self) -> bool {
        DoubleSigning::of_heads(first, second).is_some_and(|proof| proof.is_ended_by(self))
    }
}

/// The copies that one lookup was given.
#[derive(Debug, Clone)]
pub struct Copies<R> {
    copies: Vec<Held<R>>,
}

/// One that is different from the others.
#[derive(Debug, Clone)]
struct Held<R> {
    record: R,
    /// Who holds it; none for this node.
    holders: Vec<PeerId>,
}

impl<R> Default for Copies<R> {
    fn default() -> Self {
        Self { copies: Vec::new() }
    }
}

impl<R: Record> Copies<R> {
    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Notes that a peer holds what came before already; false where it is new, and has to be verified first.
    pub fn repeats(&mut self, holder: Option<PeerId>, bytes: &[u8]) -> bool {
        let Some(copy) = self.copies.iter_mut().find(|copy| copy.record.bytes() == bytes) else {
            return false;
        };
        copy.held_by(holder);
        true
    }

    /// Adds a copy that this peer holds; none is this node.
    pub fn add(&mut self, holder: Option<PeerId>, record: R) {
        if self.repeats(holder, record.bytes()) {
            return;
        }
        if self.copies.len() >= DIFFERENT_MAX {
            let outdone = self.copies.iter().position(|copy| record.against(&copy.record) == Choice::First);
            match outdone {
                Some(outdone) => drop(self.copies.swap_remove(outdone)),
                None => return,
            }
        }
        let mut copy = Held { record, holders: Vec::new() };
        copy.held_by(holder);
        self.copies.push(copy);
    }

    /// The copies, each with the first peer that brought it.
    pub fn iter(&self) -> impl Iterator<Item = (Option<PeerId>, &R)> {
        self.copies.iter().map(|copy| (copy.holders.first().copied(), &copy.record))
    }

    /// The copy that counts among those that are `admissible`, or among all where none is.
    ///
    /// # Errors
    /// The first two that contradict each other, and that no third one ended.
    pub fn newest(&self, admissible: impl Fn(&R) -> bool) -> Result<Option<&R>, (Choice, &R, &R)> {
        let all = || self.copies.iter().map(|copy| &copy.record);
        let mut records: Vec<&R> = all().filter(|record| admissible(record)).collect();
        if records.is_empty() {
            records = all().collect();
        }
        let mut newest: Option<&R> = None;
        for (at, record) in records.iter().copied().enumerate() {
            for before in records[..at].iter().copied() {
                let is_ended = || {
                    let outdoes =
                        |it: &R| it.against(before) == Choice::First && it.against(record) == Choice::First;
                    records.iter().any(|it| outdoes(it) && it.ends(before, record))
                };
                match before.against(record) {
                    choice @ (Choice::Equivocation | Choice::Fork) if !is_ended() => {
                        return Err((choice, before, record));
                    }
                    Choice::Equivocation | Choice::Fork => {}
                    Choice::First | Choice::Second | Choice::Same => {}
                }
            }
            if newest.is_none_or(|newest| newest.against(record) == Choice::Second) {
                newest = Some(record);
            }
        }
        Ok(newest)
    }

    /// The peers that hold a copy which says the same.
    pub fn holders_of(&self, record: &R) -> &[PeerId] {
        let copy = self.copies.iter().find(|copy| copy.record.bytes() == record.bytes());
        copy.map_or(&[], |copy| &copy.holders)
    }

    /// The peers that hold an older one than `newest`.
    pub fn behind(&self, newest: &R) -> Vec<PeerId> {
        let older = self.copies.iter().filter(|copy| newest.against(&copy.record) == Choice::First);
        older.flat_map(|copy| copy.holders.iter().copied()).collect()
    }
}

impl<R> Held<R> {
    fn held_by(&mut self, holder: Option<PeerId>) {
        if let Some(holder) = holder
            && self.holders.len() < HOLDERS_MAX
            && !self.holders.contains(&holder)
        {
            self.holders.push(holder);
        }
    }
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
