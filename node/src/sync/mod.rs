//! How two nodes come to know the same heads.
//!
//! Gossip is fast and may be missed; the exchange of heads is what makes a catalogue complete. On connecting, and again
//! every so often, a node reads what its peer's catalogue has gained since it last asked. Everything that comes is verified
//! as if it had come by gossip; a peer can leave out, never forge.
//!
//! The functions here are synchronous: they verify signatures and touch the database, and run beside the network's loop.

pub mod ahead;
pub mod index;
pub mod protocol;
pub mod serve;
mod together;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

pub use self::together::{Written, write};
use self::{
    ahead::Ahead,
    protocol::{Page, Position},
    together::Writes,
};
use crate::{
    catalog::{self, Confirming, Held, Source},
    heads::{self, Blame, Door, Id, Item},
    identity::Chains,
    limits::{CATALOG_HEADS_MAX, HEADS_MALFORMED_PER_PAGE_MAX, HEADS_PAGE_BYTES, HEADS_PAGE_MAX},
    package::PackageId,
    release::{
        self, SignedEntry, VerifiedConfirmation, VerifiedHead,
        confirmation::{self, Heads},
        entry,
        fork::Side,
    },
    store::{self, Store, meta},
    time::Timestamp,
};

/// Statements of one package in one page that are checked against an entry.
const STATEMENTS_OF_PACKAGE_MAX: usize = 8;
/// Entries in one page that are looked at: each of them costs several signatures.
const ENTRIES_OF_PAGE_MAX: usize = 64;

/// Where the epoch is kept.
pub(crate) const EPOCH: &str = "heads-epoch";

/// What became of a page of heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Heads that are held already, byte for byte.
    pub known: usize,
    /// Heads that were new or newer.
    pub new: usize,
    /// Heads that were valid and not admitted: older than what is known, or of a later version of this program.
    pub refused: usize,
    /// Heads that are genuine and were not admitted only for now: from ahead of our clock, which may be wrong, or without room
    /// in the catalogue.
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

/// The number that names this catalogue's order of changes: made with the database, so that another database is another
/// order.
///
/// # Errors
/// Where the database fails.
pub fn epoch(store: &Store) -> Result<u32, store::Error> {
    store.write(|tx| {
        if let Some(epoch) = meta::get(tx, EPOCH)?.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) {
            return Ok(u32::from_be_bytes(epoch));
        }
        #[expect(clippy::disallowed_methods, reason = "names a database once, when it is made")]
        let epoch: u32 = rand::random();
        meta::set(tx, EPOCH, &epoch.to_be_bytes())?;
        Ok(epoch)
    })
}

/// Which heads were verified, by their bytes: what is served is read from a disk that may be damaged, and whoever passes a
/// forged head on is turned away. And the keys that they were verified with, the pages that wait to be written, and what was met of our
/// own packages that is ahead of the clock. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    heads: Arc<Mutex<Generations>>,
    chains: Chains,
    writes: Arc<Writes>,
    ahead: Ahead,
}

/// The heads of now, and those of before.
#[derive(Debug, Default)]
struct Generations {
    young: BTreeSet<u64>,
    old: BTreeSet<u64>,
}

impl Verified {
    /// What was met of our own packages that is ahead of the clock.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// Notes that these bytes are a head that was verified.
    pub fn note(&self, bytes: &[u8]) {
        let mut held = self.held();
        if held.young.len() >= CATALOG_HEADS_MAX {
            held.old = std::mem::take(&mut held.young);
        }
        held.young.insert(digest(bytes));
    }

    /// Whether these bytes are a head, verified now or before.
    ///
    /// An entry is one by the keys of a head of its package among those beside it.
    fn is_genuine(&self, bytes: &[u8], beside: &[Vec<u8>]) -> bool {
        let digest = digest(bytes);
        let held = self.held();
        if held.young.contains(&digest) || held.old.contains(&digest) {
            return true;
        }
        drop(held);
        let is_genuine = if confirmation::is_likely(bytes) {
            VerifiedConfirmation::verify_stored(bytes).is_ok()
        } else if entry::is_likely(bytes) {
            let heads =
                beside.iter().filter_map(|bytes| VerifiedHead::verify_known(bytes, &self.chains).ok());
            let mut keys = heads.map(|head| head.key_log().clone());
            keys.any(|keys| SignedEntry::decode_and_verify(bytes, &keys).is_ok())
        } else {
            VerifiedHead::verify_known(bytes, &self.chains).is_ok()
        };
        if is_genuine {
            self.note(bytes);
        }
        is_genuine
    }

    fn held(&self) -> MutexGuard<'_, Generations> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Damage is not made to collide: a part of the hash is enough.
fn digest(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads the page that a peer asked for; nothing where the database fails.
///
/// Heads that are damaged on the disk are left out, and out of the catalogue too, so that others can bring them again.
pub fn page(store: &Store, verified: &Verified, epoch: u32, request: Position) -> Option<Page> {
    let read = store.read(|conn| {
        // Whoever remembers a place that was never given remembers another database than this one.
        let is_ours = request.epoch == epoch && request.after <= catalog::newest_position(conn)?;
        let after = if is_ours { request.after } else { 0 };
        Ok((after, catalog::changes_after(conn, after, HEADS_PAGE_MAX, HEADS_PAGE_BYTES)?))
    });
    let (after, catalog::Page { heads, next, done }) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, "the catalogue was not read for a peer");
            return None;
        }
    };
    let heads = sound(store, verified, after, heads);
    Some(Page { epoch, next, done, heads })
}

/// Those of the heads after a position that are as they were signed; the others are left out, and out of the catalogue too.
fn sound(store: &Store, verified: &Verified, after: u64, heads: Vec<Vec<u8>>) -> Vec<ByteBuf> {
    let is_genuine: Vec<bool> = heads.iter().map(|bytes| verified.is_genuine(bytes, &heads)).collect();
    let (genuine, damaged): (Vec<_>, Vec<_>) =
        heads.into_iter().zip(is_genuine).partition(|(_, is_genuine)| *is_genuine);
    let [genuine, damaged] = [genuine, damaged].map(|list| list.into_iter().map(|(bytes, _)| bytes));
    let (genuine, damaged): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (genuine.collect(), damaged.collect());
    if !damaged.is_empty() {
        tracing::warn!(heads = damaged.len(), "damaged heads in the catalogue are dropped");
        let dropped = store.write(|tx| {
            damaged
                .iter()
                .try_for_each(|bytes| {
                    catalog::discard_confirmation(tx, bytes)?;
                    catalog::discard(tx, after, bytes).map(drop)
                })
                .map_err(Into::into)
        });
        if let Err(error) = dropped {
            tracing::warn!(%error, "damaged heads stay in the catalogue");
        }
    }
    genuine.into_iter().map(ByteBuf::from).collect()
}

/// Verifies and writes the heads of a page that `from` sent; nothing where the database fails. Those that are held already cost
/// nothing. Heads that contradict each other freeze their package, those from ahead of the clock too.
///
/// It stops at the first head that is forged, and where more are malformed than a damaged disk explains: what such a peer
/// sends is not worth the signatures.
pub fn take_page(
    store: &Store,
    verified: &Verified,
    heads: &[ByteBuf],
    from: &Source,
    now: Timestamp,
) -> Option<Taken> {
    take(store, verified, heads, from, now).map(|took| took.taken)
}

/// What became of heads, and of which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Took {
    /// How many became what.
    pub taken: Taken,
    /// The ids of those that are genuine, frozen or not.
    pub given: BTreeSet<Id>,
    /// The items of those that are genuine and not listed, whenever they come.
    pub declined: Vec<Item>,
}

/// Does what [`take_page`] does, and tells which heads came.
pub fn take(
    store: &Store,
    verified: &Verified,
    offered: &[ByteBuf],
    from: &Source,
    now: Timestamp,
) -> Option<Took> {
    let mut taken = Taken::default();
    let (mut genuine, mut given): (Vec<_>, Vec<Item>) = (Vec::new(), Vec::new());
    let (mut confirmations, mut entries) = (Vec::new(), Vec::new());
    let held = store.read(|conn| {
        let held = offered.iter().map(|bytes| catalog::holds(conn, bytes));
        Ok(held.collect::<Result<Vec<_>, _>>()?)
    });
    let held = held.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read")).ok()?;
    for (bytes, is_held) in offered.iter().zip(held) {
        if let Some(held) = is_held {
            if let Held::Head(head) = held {
                given.extend([false, true].map(|frozen| heads::item_of(&head, frozen)));
            }
            taken.known += 1;
            continue;
        }
        if entry::is_likely(bytes) {
            entries.push(bytes);
            continue;
        }
        let read = match confirmation::is_likely(bytes) {
            true => VerifiedConfirmation::verify(bytes, now).map(|read| confirmations.push(read)),
            false => VerifiedHead::verify_known(bytes, &verified.chains)
                .map(|head| genuine.push((from.clone(), head))),
        };
        match read {
            Ok(()) => verified.note(bytes),
            Err(release::Error::Early { .. }) => taken.deferred += 1,
            Err(error) => match heads::blame(Door::Exchange, &error) {
                Blame::Nothing => taken.refused += 1,
                Blame::Fault | Blame::Announcement => {
                    taken.malformed += 1;
                    if taken.malformed > HEADS_MALFORMED_PER_PAGE_MAX {
                        break;
                    }
                }
                Blame::Ban => {
                    taken.forged += 1;
                    break;
                }
            },
        }
    }
    let came = genuine.iter().flat_map(|(_, head)| [false, true].map(|frozen| heads::item(head, frozen)));
    given.extend(came);
    let offered_heads = genuine.len();
    let is_ours = |head: &&VerifiedHead| verified.ahead.minds(&head.head().publisher);
    let ours: Vec<VerifiedHead> = genuine.iter().map(|(_, head)| head).filter(is_ours).cloned().collect();
    match verified.writes.write(store, genuine, now) {
        Ok(Written { new, deferred }) => {
            taken.new = new;
            taken.deferred += deferred;
            taken.refused += offered_heads - new - deferred;
            note_ours(store, verified, &ours, now)?;
            // After the heads: of a publisher without any there is nothing to confirm.
            for read in &confirmations {
                match confirm(store, Door::Exchange, read) {
                    Ok(confirming) if confirming.is_kept() => taken.new += 1,
                    Ok(_) => taken.refused += 1,
                    Err(error) => {
                        tracing::warn!(%error, "a confirmation was not written");
                        taken.deferred += 1;
                    }
                }
            }
            match prove(store, offered, &entries, from, now) {
                Ok(proving) => {
                    taken.new += proving;
                    taken.refused += entries.len() - proving;
                }
                Err(error) => {
                    tracing::warn!(%error, "a proof of double signing was not written");
                    taken.deferred += entries.len();
                }
            }
            // Where something waits, it is not told apart from what is never taken.
            let declined = if taken.deferred > 0 { Vec::new() } else { unlisted(store, &given) };
            Some(Took { taken, given: given.iter().map(|item| item.id).collect(), declined })
        }
        Err(error) => {
            tracing::warn!(%error, "heads were not written");
            None
        }
    }
}

/// Notes which of these heads were not taken that say something of our own packages; nothing where the database fails.
fn note_ours(store: &Store, verified: &Verified, heads: &[VerifiedHead], now: Timestamp) -> Option<()> {
    for head in heads {
        let known = store.read(|conn| Ok(catalog::known(conn, &head.package_id())?));
        let known = known.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read")).ok()?;
        verified.ahead.heard(head, heads::stand(head, &known, now));
    }
    Some(())
}

/// Those of the items that are not listed; none where the database fails.
fn unlisted(store: &Store, items: &[Item]) -> Vec<Item> {
    let read = store.read(|conn| {
        let listed = items.iter().map(|item| catalog::is_listed(conn, &item.id));
        Ok(listed.collect::<Result<Vec<_>, _>>()?)
    });
    let listed = read.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read"));
    let listed = listed.unwrap_or_else(|_| vec![true; items.len()]);
    items.iter().zip(listed).filter(|(_, is_listed)| !is_listed).map(|(item, _)| *item).collect()
}

/// Freezes the packages of which entries in a page prove a double signing, each with another statement of the page or the head that
/// is listed, and counts those entries. By themselves they say nothing that counts.
fn prove(
    store: &Store,
    offered: &[ByteBuf],
    entries: &[&ByteBuf],
    from: &Source,
    now: Timestamp,
) -> Result<usize, store::Error> {
    if entries.is_empty() {
        return Ok(0);
    }
    let of = |bytes: &ByteBuf| Side::read(bytes).map(|(package, _)| package);
    let mut of_package: BTreeMap<PackageId, Vec<&ByteBuf>> = BTreeMap::new();
    for (package, bytes) in offered.iter().filter_map(|bytes| Some((of(bytes)?, bytes))) {
        let statements = of_package.entry(package).or_default();
        if statements.len() < STATEMENTS_OF_PACKAGE_MAX {
            statements.push(bytes);
        }
    }
    store.write(|tx| {
        let mut proving = 0;
        for entry in entries.iter().take(ENTRIES_OF_PAGE_MAX) {
            let Some(package) = of(entry) else { continue };
            let Some(listed) = catalog::known(tx, &package)?.listed else { continue };
            let beside = of_package.get(&package).into_iter().flatten().map(|bytes| bytes.as_slice());
            for other in beside.chain([listed.bytes()]).filter(|other| *other != entry.as_slice()) {
                if catalog::convict_statements(tx, &listed, [entry, other], from, now)? {
                    proving += 1;
                    break;
                }
            }
        }
        Ok(proving)
    })
}

/// Keeps two heads that contradict one another as a proof, and freezes their package.
///
/// # Errors
/// Where the database fails; nothing is written then.
pub fn convict(
    store: &Store,
    first: &VerifiedHead,
    second: &VerifiedHead,
    now: Timestamp,
) -> Result<bool, store::Error> {
    store.write(|tx| Ok(catalog::convict(tx, first, second, &Source::unknown(), now)?))
}

/// Takes a confirmation where it is newer than the one that is held of its publisher.
///
/// # Errors
/// Where the database fails.
pub fn confirm(
    store: &Store,
    door: Door,
    confirmation: &VerifiedConfirmation,
) -> Result<Confirming, store::Error> {
    let list = match confirmation.confirmation().root {
        Some(root) => store.block(&root)?.and_then(|block| Heads::from_bytes(block.bytes()).ok()),
        None => None,
    };
    store.write(|tx| Ok(catalog::confirm(tx, door, confirmation, list.as_ref())?))
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod entries_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::{Codec, ContentId},
        identity::Publisher,
        limits::CLOCK_SKEW_MAX,
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
        log.push(log.next(kind, &publisher, created).unwrap()).unwrap();
        let head = Head::of(&log, Labels::default(), &publisher).unwrap();
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
            take_page(&store, &Verified::default(), &page, &Source::unknown(), NOW).unwrap(),
            Taken { new: 2, ..Taken::default() }
        );
        // Were it verified, it would be ahead of the clock.
        let before = NOW.minus(CLOCK_SKEW_MAX * 2);
        assert_eq!(
            take_page(&store, &Verified::default(), &page, &Source::unknown(), before).unwrap(),
            Taken { known: 2, ..Taken::default() }
        );
        let changed = [page[0].clone(), bytes(&head(1, "three", NOW))];
        let taken = take_page(&store, &Verified::default(), &changed, &Source::unknown(), NOW).unwrap();
        assert_eq!(taken, Taken { known: 1, new: 1, ..Taken::default() });
        assert!(!taken.is_barren(2) && Taken::default().is_barren(0));
        assert!(Taken { known: 1, refused: 1, ..Taken::default() }.is_barren(2));
    }

    #[test]
    fn a_reader_that_is_ahead_of_our_numbering_is_given_it_from_the_beginning() {
        let store = Store::in_memory().unwrap();
        take_page(&store, &Verified::default(), &[bytes(&head(1, "one", NOW))], &Source::unknown(), NOW)
            .unwrap();
        let asked = |epoch, after| {
            super::page(&store, &Verified::default(), 7, Position { epoch, after }).unwrap().heads.len()
        };
        assert_eq!([asked(7, 0), asked(7, 1), asked(7, 2), asked(8, 1)], [1, 0, 1, 1]);
    }

    #[test]
    fn what_is_ahead_of_our_clock_is_deferred_and_taken_when_the_clock_is_right() {
        let store = Store::in_memory().unwrap();
        let page = [bytes(&head(1, "one", NOW)), bytes(&head(1, "two", NOW))];
        let wrong = NOW.minus(CLOCK_SKEW_MAX * 2);
        let taken = take_page(&store, &Verified::default(), &page, &Source::unknown(), wrong).unwrap();
        assert_eq!(taken, Taken { deferred: 2, ..Taken::default() });
        assert_eq!(
            take_page(&store, &Verified::default(), &page, &Source::unknown(), NOW).unwrap(),
            Taken { new: 2, ..Taken::default() }
        );
    }

    /// Two heads of one package that contradict each other.
    fn contradicting(created: Timestamp) -> [VerifiedHead; 2] {
        let (publisher, first) = (Publisher::from_secret([1; 32], NOW), head(1, "two-faced", created));
        let latest = first.head().latest.clone().map(|release| Release { size: 2, ..release });
        let second = Head { latest, ..first.head().clone() }.sign(&publisher).unwrap();
        [first, second]
    }

    fn is_frozen(store: &Store, head: &VerifiedHead) -> bool {
        store.read(|conn| Ok(catalog::is_frozen(conn, &head.package_id())?)).unwrap()
    }

    /// Takes the page that `from` has for somebody who has read up to `after`; gives where to go on.
    fn read_on(from: &Store, to: &Store, after: u64, now: Timestamp) -> (Taken, u64) {
        let page = super::page(from, &Verified::default(), 7, Position { epoch: 7, after }).unwrap();
        (take_page(to, &Verified::default(), &page.heads, &Source::unknown(), now).unwrap(), page.next)
    }

    #[test]
    fn whoever_reads_from_one_that_holds_a_proof_freezes_the_package_too() {
        let ([first, second], other) = (contradicting(NOW), head(1, "other", NOW));
        let (holder, early) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
        let take = |store: &Store, heads: &[&VerifiedHead]| {
            let heads: Vec<ByteBuf> = heads.iter().map(|head| bytes(head)).collect();
            take_page(store, &Verified::default(), &heads, &Source::unknown(), NOW).unwrap()
        };
        take(&holder, &[&first]);
        let (taken, reached) = read_on(&holder, &early, 0, NOW);
        assert_eq!(taken.new, 1);
        take(&holder, &[&other]);
        assert_eq!(take(&holder, &[&second]), Taken { refused: 1, ..Taken::default() });
        assert!(is_frozen(&holder, &first));
        // One that has read the first head before is told again, and so is one that joins later.
        let (taken, _) = read_on(&holder, &early, reached, NOW);
        assert_eq!((taken.known, taken.new, taken.refused), (1, 1, 1));
        let late = Store::in_memory().unwrap();
        let (taken, reached) = read_on(&holder, &late, 0, NOW);
        assert_eq!((taken.new, taken.refused, taken.deferred), (2, 1, 0));
        // Both hold the proof themselves now, and pass it on.
        let last = Store::in_memory().unwrap();
        read_on(&late, &last, 0, NOW);
        for store in [&early, &late, &last] {
            assert!(is_frozen(store, &first) && !is_frozen(store, &other));
        }
        let (taken, _) = read_on(&holder, &late, 0, NOW);
        assert_eq!(taken, Taken { known: 3, ..Taken::default() }, "what is held costs no signatures");
        assert_eq!(read_on(&holder, &late, reached, NOW).0, Taken::default());
    }

    #[test]
    fn heads_from_ahead_of_the_clock_prove_a_contradiction_all_the_same() {
        let [first, second] = contradicting(NOW);
        let (source, early) = (Source::unknown(), NOW.minus(CLOCK_SKEW_MAX * 2));
        let page = [bytes(&first), bytes(&second)];
        let (one, none) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
        take_page(&one, &Verified::default(), &page[..1], &source, NOW).unwrap();
        take_page(&one, &Verified::default(), &page[1..], &source, early).unwrap();
        take_page(&none, &Verified::default(), &page, &source, early).unwrap();
        assert!(is_frozen(&one, &first) && is_frozen(&none, &first));
        let (alone, page) = (Store::in_memory().unwrap(), &page[..1]);
        let taken = take_page(&alone, &Verified::default(), page, &source, early).unwrap();
        assert_eq!(taken, Taken { deferred: 1, ..Taken::default() });
        assert!(!is_frozen(&alone, &first));
    }

    #[test]
    fn a_damaged_head_is_neither_served_nor_kept_and_can_be_taken_again() {
        let (store, verified) = (Store::in_memory().unwrap(), Verified::default());
        let page = [bytes(&head(1, "one", NOW)), bytes(&head(1, "two", NOW))];
        take_page(&store, &verified, &page, &Source::unknown(), NOW).unwrap();
        let served = || super::page(&store, &verified, 7, Position::default()).unwrap();
        assert_eq!(served().heads, page);
        let mut flipped = page[0].to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        store
            .write(|tx| {
                let sql = "UPDATE catalog_heads SET bytes = ?1 WHERE name = 'one'";
                Ok(tx.execute(sql, rusqlite::params![flipped])?)
            })
            .unwrap();
        let Page { next, done, heads, .. } = served();
        assert_eq!((next, done, heads), (2, true, vec![page[1].clone()]));
        assert_eq!(store.read(|conn| Ok(catalog::count(conn)?)).unwrap(), 1);
        assert_eq!(take_page(&store, &verified, &page, &Source::unknown(), NOW).unwrap().new, 1);
    }

    #[test]
    fn a_few_malformed_heads_are_passed_over_and_many_or_a_forged_one_are_not() {
        let good = bytes(&head(1, "one", NOW));
        let page = |malformed: usize| {
            let mut page = vec![ByteBuf::from([0; 9]); malformed];
            page.push(good.clone());
            take_page(&Store::in_memory().unwrap(), &Verified::default(), &page, &Source::unknown(), NOW)
                .unwrap()
        };
        let most = HEADS_MALFORMED_PER_PAGE_MAX;
        assert_eq!(page(most), Taken { malformed: most, new: 1, ..Taken::default() });
        assert_eq!(page(most + 1), Taken { malformed: most + 1, ..Taken::default() });
        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let (store, verified) = (Store::in_memory().unwrap(), Verified::default());
        let take = |page: &[ByteBuf]| take_page(&store, &verified, page, &Source::unknown(), NOW).unwrap();
        assert_eq!(take(&[forged.clone(), good.clone()]), Taken { forged: 1, ..Taken::default() });
        // Also where the keys are known from the heads before it, which are taken.
        let page = [good, bytes(&head(1, "two", NOW)), forged, bytes(&head(1, "three", NOW))];
        assert_eq!(take(&page), Taken { new: 2, forged: 1, ..Taken::default() });
    }
}
