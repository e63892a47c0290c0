//! Which of two heads of a package counts, and which is not accepted at all.
//!
//! The order is that of the keys first, so that a key that was replaced cannot outrun its replacement, and then that of
//! the log. Every node decides alike, whatever the order in which it heard of the heads, unless the publisher signed two
//! different states for one place; then the two heads together are the proof of it.

use std::cmp::Ordering;

use super::{Error, Sequence, VerifiedHead};
use crate::content::ContentId;

/// Which of two heads counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first one.
    First,
    /// The second one.
    Second,
    /// They are the same.
    Same,
    /// Neither: the publisher signed two different states for one place.
    Equivocation,
}

/// What must be remembered of the newest head that was accepted, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number of its current key document.
    pub key_n: u64,
    /// The fingerprint of that document ([`crate::identity::KeyLog::fingerprint`]).
    pub key_document: ContentId,
    /// Its sequence.
    pub sequence: Sequence,
    /// The id of its newest entry.
    pub entry: ContentId,
}

/// Compares two heads of one package.
///
/// The one with the later key document counts, then the one with the higher sequence. Of two that say the same of the log,
/// the later `created` counts, then the later `expires`, then the greater bytes, so that every node keeps the same one.
/// Two chains of keys of which none continues the other are an equivocation, and so are two entries of one sequence under
/// the same keys.
pub fn compare(a: &VerifiedHead, b: &VerifiedHead) -> Choice {
    if !a.key_log().agrees_with(b.key_log()) {
        return Choice::Equivocation;
    }
    let (x, y) = (a.head(), b.head());
    let place = |head: &VerifiedHead| (head.key_log().current().n, head.head().sequence);
    let order = place(a).cmp(&place(b));
    if order.is_eq() && x.entry != y.entry {
        return Choice::Equivocation;
    }
    let renewed = || (x.created, x.expires, a.bytes()).cmp(&(y.created, y.expires, b.bytes()));
    match order.then_with(renewed) {
        Ordering::Greater => Choice::First,
        Ordering::Less => Choice::Second,
        Ordering::Equal => Choice::Same,
    }
}

/// Refuses a head that is older than, or contradicts, what was seen of its package.
///
/// # Errors
/// [`Error::Rollback`] for an earlier key document, or an earlier sequence under the same one; [`Error::Equivocation`] for
/// another document or entry in the place of one that was seen.
pub fn accept(candidate: &VerifiedHead, seen: Option<Seen>) -> Result<(), Error> {
    let Some(seen) = seen else { return Ok(()) };
    let keys = candidate.key_log();
    let n = keys.current().n;
    match keys.fingerprint(seen.key_n) {
        None => return Err(Error::Rollback { what: "key document", found: n, seen: seen.key_n }),
        Some(document) if document != seen.key_document => {
            return Err(Error::Equivocation { what: "key document", number: seen.key_n });
        }
        Some(_) if n > seen.key_n => return Ok(()),
        Some(_) => {}
    }
    let head = candidate.head();
    match head.sequence.cmp(&seen.sequence) {
        Ordering::Less => {
            let (found, seen) = (head.sequence.get(), seen.sequence.get());
            Err(Error::Rollback { what: "sequence", found, seen })
        }
        Ordering::Equal if head.entry != seen.entry => {
            Err(Error::Equivocation { what: "entry", number: seen.sequence.get() })
        }
        _ => Ok(()),
    }
}
