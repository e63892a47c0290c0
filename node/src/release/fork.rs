//! A double signing: two signed statements for one place of a log, and what ends it.
//!
//! It stands until the publisher, under a later key document, says what becomes of both sides: a head whose log
//! [resolved](super::Resolve) both, or keys of which one side's were [revoked](crate::identity::KeyDocument::revoked), so
//! that what they signed proves nothing. Two chains of keys that go apart end only where recovery keys named both and one revokes the
//! keys of the other ([`KeyLog::ends`]): otherwise anyone who stole a release key could say so too.

use super::{Choice, Entry, Sequence, SignedEntry, VerifiedHead, choice};
use crate::{
    content::{Codec, ContentId},
    identity::{Envelope, KeyDocument, KeyLog, PublicKey, canonical},
    limits::{ENTRY_BYTES_MAX, HEAD_BYTES_MAX},
    package::PackageId,
    time::Timestamp,
};

/// Two signed statements for one place of a log, by keys that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleSigning {
    /// The number of the key document under which both count.
    pub key_n: u64,
    /// The fingerprint of that document; none where the two chains of keys contradict each other.
    pub document: Option<ContentId>,
    /// The place; where the two have no first entry in common, the first.
    pub sequence: Sequence,
    /// What was signed, ascending by entry.
    pub sides: [Side; 2],
}

/// One side of a double signing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// The entry that it names.
    pub entry: ContentId,
    /// The number of the key document whose keys signed it.
    pub key_n: u64,
    /// The keys that signed it.
    pub signers: Vec<PublicKey>,
}

impl DoubleSigning {
    /// What two heads prove together; nothing where they do not contradict each other.
    pub fn of_heads(first: &VerifiedHead, second: &VerifiedHead) -> Option<Self> {
        if first.package_id() != second.package_id() || choice::compare(first, second) != Choice::Equivocation
        {
            return None;
        }
        let (a, b) = (first.seen(), second.seen());
        let agree = first.key_log().agrees_with(second.key_log());
        let sequence = if a.log == b.log { a.sequence.min(b.sequence) } else { Sequence::default() };
        let sides = [Side::of_head(first)?, Side::of_head(second)?];
        Some(Self::new(a.key_n, agree.then_some(a.key_document), sequence, sides))
    }

    /// What two statements prove that stand for one place of a log under the keys of `head`.
    pub fn of_log(head: &VerifiedHead, sequence: Sequence, sides: [Side; 2]) -> Self {
        let seen = head.seen();
        Self::new(seen.key_n, Some(seen.key_document), sequence, sides)
    }

    /// What two statements prove that others found, heads or entries, under the keys of a head: nothing where they do not stand for
    /// one place, or where not the same key document counts for both.
    pub fn of_statements(head: &VerifiedHead, statements: [&[u8]; 2]) -> Option<Self> {
        let [first, second] = statements.map(|bytes| Statement::verify(bytes, head));
        let (first, second) = (first?, second?);
        let is_one_place = (first.sequence, first.side.key_n) == (second.sequence, second.side.key_n);
        let document = head.key_log().fingerprint(first.side.key_n);
        (is_one_place && first.side.entry != second.side.entry)
            .then(|| Self::new(first.side.key_n, document, first.sequence, [first.side, second.side]))
    }

    /// What was written of one, to be read with [`Side::read`] first.
    pub fn new(key_n: u64, document: Option<ContentId>, sequence: Sequence, mut sides: [Side; 2]) -> Self {
        sides.sort();
        Self { key_n, document, sequence, sides }
    }

    /// Whether a head ends it: it was signed under later keys, and its log resolved both sides, or its chain of keys revoked
    /// those of one. Where both sides name the same entry, the log is not contested, and any head under later keys says what counts.
    pub fn is_ended_by(&self, head: &VerifiedHead) -> bool {
        let keys = head.key_log();
        if self.document.is_none() {
            return self.is_ended_by_chain(keys);
        }
        let goes_on = keys.fingerprint(self.key_n) == self.document;
        if !goes_on || keys.current().n <= self.key_n {
            return false;
        }
        let [first, second] = &self.sides;
        first.entry == second.entry
            || self.sides.iter().all(|side| head.resolved(&side.entry))
            || self.sides.iter().any(|side| side.is_void(keys))
    }

    /// Whether a chain of keys ends the one of a side: see [`KeyLog::ends`]. The side's own chain is not here, so what signed it is
    /// taken for its current keys.
    fn is_ended_by_chain(&self, keys: &KeyLog) -> bool {
        let is_ended = |side: &Side| {
            let is_recovered =
                keys.document(side.key_n.saturating_sub(1)).is_some_and(|it| !it.recovery.is_empty());
            is_recovered && side.signers.iter().all(|key| keys.is_revoked(key))
        };
        self.sides.iter().any(is_ended)
    }

    /// Whether its keys are in this chain and nothing that the chain says makes a side of it void.
    pub fn counts_in(&self, keys: &KeyLog) -> bool {
        let is_of_chain = self.document.is_some() && keys.fingerprint(self.key_n) == self.document;
        is_of_chain && !self.sides.iter().any(|side| side.is_void(keys))
    }
}

/// When a chain of keys that continues the one of a head revoked the keys that signed the head, as its document says; nothing where
/// they count.
///
/// What such keys signed counts only where it was known before: somebody else may have them, and no signature tells when it was made.
pub fn revoked_since(head: &VerifiedHead, keys: &KeyLog) -> Option<Timestamp> {
    followed(head, keys)?.void_since(keys)
}

/// When a chain of keys that continues the one of a head replaced the keys that signed the head, revoked or not.
pub fn replaced_since(head: &VerifiedHead, keys: &KeyLog) -> Option<Timestamp> {
    followed(head, keys)?.replaced_since(keys)
}

/// What signed a head, where a chain of keys goes on from that of the head.
fn followed(head: &VerifiedHead, keys: &KeyLog) -> Option<Side> {
    let own = head.key_log();
    let goes_on = keys.current().n > own.current().n && keys.agrees_with(own);
    if goes_on { Side::of_head(head) } else { None }
}

/// A head or an entry of a package whose signatures were checked.
struct Statement {
    sequence: Sequence,
    side: Side,
}

impl Statement {
    /// Checks what somebody signed of the package of `head` with keys of its chain.
    fn verify(bytes: &[u8], head: &VerifiedHead) -> Option<Self> {
        let (package, side) = Side::read(bytes)?;
        if package != head.package_id() {
            return None;
        }
        let keys = head.key_log();
        if let Ok(entry) = SignedEntry::decode_and_verify(bytes, keys) {
            return Some(Self { sequence: entry.entry().sequence, side });
        }
        let said = VerifiedHead::verify_stored(bytes).ok()?;
        let document = said.key_log().fingerprint(side.key_n)?;
        (keys.fingerprint(side.key_n) == Some(document))
            .then(|| Self { sequence: said.head().sequence, side })
    }
}

impl Side {
    fn of_head(head: &VerifiedHead) -> Option<Self> {
        Self::read(head.bytes()).map(|(_, side)| side)
    }

    /// Reads a head or an entry, whose signatures were checked before it was stored, and the package that it is of.
    pub fn read(bytes: &[u8]) -> Option<(PackageId, Self)> {
        let envelope = Envelope::decode(bytes, HEAD_BYTES_MAX.max(ENTRY_BYTES_MAX)).ok()?;
        let signers = envelope.keys().collect();
        if let Ok(head) = canonical::decode_open::<super::Head>("a head", envelope.payload()) {
            let package = PackageId { publisher: head.publisher, name: head.name };
            let key_n = u64::try_from(head.keys.len()).ok()?.checked_sub(1)?;
            return Some((package, Self { entry: head.entry, key_n, signers }));
        }
        let entry: Entry = canonical::decode_open("a log entry", envelope.payload()).ok()?;
        let id = ContentId::of(Codec::DagCbor, bytes);
        Some((entry.package_id(), Self { entry: id, key_n: entry.key_n, signers }))
    }

    /// Whether so many of the keys that signed it were revoked that the rest was not enough.
    pub fn is_void(&self, keys: &KeyLog) -> bool {
        self.void_since(keys).is_some()
    }

    /// When that was, as the first document says that made it so.
    fn void_since(&self, keys: &KeyLog) -> Option<Timestamp> {
        let mut left: Vec<&PublicKey> = self.signers.iter().collect();
        self.ended(keys, 0, |document| {
            left.retain(|key| !document.revoked.contains(key));
            left.len()
        })
    }

    /// When so many of the keys that signed it were replaced that the rest was not enough, as the first such document says.
    fn replaced_since(&self, keys: &KeyLog) -> Option<Timestamp> {
        self.ended(keys, self.key_n, |document| {
            self.signers.iter().filter(|key| document.keys.contains(key)).count()
        })
    }

    /// When the first document from number `first` on was made of which fewer of the signers are `left` than were needed.
    fn ended(
        &self,
        keys: &KeyLog,
        first: u64,
        mut left: impl FnMut(&KeyDocument) -> usize,
    ) -> Option<Timestamp> {
        let threshold = keys.document(self.key_n)?.threshold;
        let mut documents = (first..=keys.current().n).filter_map(|n| keys.document(n));
        let ends = |document: &&KeyDocument| u32::try_from(left(document)).is_ok_and(|left| left < threshold);
        documents.find(ends).map(|document| document.created)
    }
}
