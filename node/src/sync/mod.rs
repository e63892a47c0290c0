//! How two nodes come to know the same heads.
//!
//! Gossip is fast and may be missed; the exchange of heads is what makes a catalogue complete. On connecting, and again
//! every so often, a node reads what its peer's catalogue has gained since it last asked. Everything that comes is verified
//! as if it had come by gossip; a peer can leave out, never forge.
//!
//! The functions here are synchronous: they verify signatures and touch the database, and run beside the network's loop.

pub mod protocol;

use serde_bytes::ByteBuf;

use self::protocol::{Page, Request};
use crate::{
    catalog::{self, Outcome, Refusal, Source},
    code::Code,
    limits::{HEADS_PAGE_BYTES, HEADS_PAGE_MAX},
    release::{choice, head::VerifiedHead},
    store::{self, Store, meta},
    time::Timestamp,
};

/// Where the epoch is kept.
const EPOCH: &str = "heads-epoch";

/// What became of a page of heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Heads that are held already, byte for byte.
    pub known: usize,
    /// Heads that were new or newer.
    pub new: usize,
    /// Heads that were valid and not admitted: older than what is known, or of a later version of this program.
    pub refused: usize,
    /// Heads that are genuine and were not admitted only for now: out of their time by our clock, which may be wrong, or
    /// without room in the catalogue.
    pub deferred: usize,
    /// Heads that break the rules of their form.
    pub malformed: usize,
    /// Heads that no honest peer passes on: signed by nobody who may.
    pub forged: usize,
}

impl Taken {
    /// Whether a page of so many heads was hardly worth its signatures: nothing new, and most of it not even held.
    pub fn is_barren(&self, heads: usize) -> bool {
        self.new == 0 && self.known.saturating_mul(2) <= heads
    }
}

/// Whether a verified head may enter the catalogue, given what this node has seen of its package.
///
/// # Errors
/// The code and the reason why not.
pub fn admissible(store: &Store, head: &VerifiedHead) -> Result<(), (Code, String)> {
    let seen = store
        .read(|conn| Ok(catalog::seen(conn, &head.package_id())?))
        .map_err(|error| (Code::Io, error.to_string()))?;
    choice::accept(head, seen).map_err(|error| (error.code(), error.to_string()))
}

/// The number that names this catalogue's order of changes: made with the database, so that another database is another
/// order.
///
/// # Errors
/// Where the database fails.
pub fn epoch(store: &Store) -> Result<u64, store::Error> {
    store.write(|tx| {
        if let Some(epoch) = meta::get(tx, EPOCH)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
            return Ok(u64::from_be_bytes(epoch));
        }
        #[expect(clippy::disallowed_methods, reason = "names a database once, when it is made")]
        let epoch: u64 = rand::random();
        meta::set(tx, EPOCH, &epoch.to_be_bytes())?;
        Ok(epoch)
    })
}

/// Reads the page that a peer asked for; nothing where the database fails.
pub fn page(store: &Store, epoch: u64, request: Request, now: Timestamp) -> Option<Page> {
    let read = store.read(|conn| {
        // Whoever remembers a place that was never given remembers another database than this one.
        let is_ours = request.epoch == epoch && request.after <= catalog::newest_position(conn)?;
        let after = if is_ours { request.after } else { 0 };
        let page = catalog::after(conn, after, HEADS_PAGE_MAX, HEADS_PAGE_BYTES, now)?;
        Ok(Page {
            epoch,
            next: page.next,
            done: page.done,
            heads: page.heads.into_iter().map(ByteBuf::from).collect(),
        })
    });
    match read {
        Ok(page) => Some(page),
        Err(error) => {
            tracing::warn!(%error, "the catalogue was not read for a peer");
            None
        }
    }
}

/// Verifies and writes the heads of a page that `from` sent; nothing where the database fails. Those that are held already cost
/// nothing.
///
/// It stops at the first head that is forged or malformed: what such a peer sends is not worth the signatures.
pub fn take_page(store: &Store, heads: &[ByteBuf], from: &Source, now: Timestamp) -> Option<Taken> {
    let mut taken = Taken::default();
    let mut verified = Vec::new();
    let held = store.read(|conn| {
        let held = heads.iter().map(|bytes| catalog::holds(conn, bytes));
        Ok(held.collect::<Result<Vec<_>, _>>()?)
    });
    let held = held.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read")).ok()?;
    for (bytes, is_held) in heads.iter().zip(held) {
        if is_held {
            taken.known += 1;
            continue;
        }
        match VerifiedHead::verify(bytes, now) {
            Ok(head) => verified.push((from.clone(), head)),
            Err(error) if matches!(error.code(), Code::Expired | Code::Clock) => taken.deferred += 1,
            Err(error) if error.is_newer() => taken.refused += 1,
            Err(error) if error.code() == Code::Signature => {
                taken.forged += 1;
                break;
            }
            Err(_) => {
                taken.malformed += 1;
                break;
            }
        }
    }
    match write(store, &verified, now) {
        Ok(Written { new, deferred }) => {
            taken.new = new;
            taken.deferred += deferred;
            taken.refused += verified.len() - new - deferred;
            Some(taken)
        }
        Err(error) => {
            tracing::warn!(%error, "heads were not written");
            None
        }
    }
}

/// What became of heads that were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Heads that were new or newer.
    pub new: usize,
    /// Heads that may be taken later: there was no room, or they are expired by our clock.
    pub deferred: usize,
}

/// Writes verified heads, each with whoever told of it, in one transaction and yields what became of them.
///
/// # Errors
/// Where the database fails; nothing is written then.
pub fn write(
    store: &Store,
    heads: &[(Source, VerifiedHead)],
    now: Timestamp,
) -> Result<Written, store::Error> {
    if heads.is_empty() {
        return Ok(Written::default());
    }
    store.write(|tx| {
        let mut written = Written::default();
        for (source, head) in heads {
            let outcome = catalog::insert(tx, head, source, now)?;
            if outcome.is_news() {
                written.new += 1;
            } else if let Outcome::Refused(refusal) = outcome {
                tracing::debug!(package = %head.package_id(), ?refusal, "a head was refused");
                written.deferred += usize::from(matches!(refusal, Refusal::Full | Refusal::Expired));
            }
        }
        Ok(written)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        content::{Codec, ContentId},
        identity::Publisher,
        limits::{CLOCK_SKEW_MAX, HEAD_LIFETIME_MAX},
        package::PackageId,
        release::{Head, Kind, Labels, Log, Release},
    };

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn head(seed: u8, name: &str, created: Timestamp) -> VerifiedHead {
        let publisher = Publisher::from_secret([seed; 32], NOW);
        let mut log = Log::empty(PackageId { publisher: publisher.id(), name: name.parse().unwrap() });
        let id = |codec| ContentId::of(codec, name.as_bytes());
        let (version, manifest, root) = ("1.0.0".parse().unwrap(), id(Codec::Raw), id(Codec::DagPb));
        let kind = Kind::Release(Release { version, manifest, root, size: 1, files: 1 });
        log.push(log.next(kind, &publisher, NOW).unwrap()).unwrap();
        let head = Head::of(&log, Labels::default(), &publisher, created, HEAD_LIFETIME_MAX).unwrap();
        head.sign(&publisher).unwrap()
    }

    fn bytes(head: &VerifiedHead) -> ByteBuf {
        ByteBuf::from(head.bytes())
    }

    #[test]
    fn what_is_held_is_not_verified_again() {
        let store = Store::in_memory().unwrap();
        let page = [bytes(&head(1, "one", NOW)), bytes(&head(1, "two", NOW))];
        assert_eq!(
            take_page(&store, &page, &Source::unknown(), NOW).unwrap(),
            Taken { new: 2, ..Taken::default() }
        );
        // Were it verified, it would be past its time.
        let later = NOW.plus(HEAD_LIFETIME_MAX * 2);
        assert_eq!(
            take_page(&store, &page, &Source::unknown(), later).unwrap(),
            Taken { known: 2, ..Taken::default() }
        );
        let changed = [page[0].clone(), bytes(&head(1, "two", NOW.plus(Duration::from_secs(1))))];
        let taken = take_page(&store, &changed, &Source::unknown(), NOW).unwrap();
        assert_eq!(taken, Taken { known: 1, new: 1, ..Taken::default() });
        assert!(!taken.is_barren(2) && Taken::default().is_barren(0));
        assert!(Taken { known: 1, refused: 1, ..Taken::default() }.is_barren(2));
    }

    #[test]
    fn a_reader_that_is_ahead_of_our_numbering_is_given_it_from_the_beginning() {
        let store = Store::in_memory().unwrap();
        take_page(&store, &[bytes(&head(1, "one", NOW))], &Source::unknown(), NOW).unwrap();
        let asked = |epoch, after| page(&store, 7, Request { epoch, after }, NOW).unwrap().heads.len();
        assert_eq!([asked(7, 0), asked(7, 1), asked(7, 2), asked(8, 1)], [1, 0, 1, 1]);
    }

    #[test]
    fn what_is_out_of_its_time_by_our_clock_is_deferred_and_taken_when_the_clock_is_right() {
        let store = Store::in_memory().unwrap();
        let page = [bytes(&head(1, "one", NOW)), bytes(&head(1, "two", NOW))];
        for wrong in [NOW.minus(CLOCK_SKEW_MAX * 2), NOW.plus(HEAD_LIFETIME_MAX * 2)] {
            let taken = take_page(&store, &page, &Source::unknown(), wrong).unwrap();
            assert_eq!(taken, Taken { deferred: 2, ..Taken::default() });
        }
        assert_eq!(
            take_page(&store, &page, &Source::unknown(), NOW).unwrap(),
            Taken { new: 2, ..Taken::default() }
        );
    }
}
