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
    catalog::{self, Source},
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
    /// Heads that were new or newer.
    pub new: usize,
    /// Heads that were valid and not admitted: expired, older than what is known, over a bound, or of a later version of
    /// this program.
    pub refused: usize,
    /// Heads that break the rules of their form.
    pub malformed: usize,
    /// Heads that no honest peer passes on: signed by nobody who may.
    pub forged: usize,
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
        let after = if request.epoch == epoch { request.after } else { 0 };
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

/// Verifies and writes the heads of a page that `from` sent; nothing where the database fails.
///
/// It stops at the first head that is forged or malformed: what such a peer sends is not worth the signatures.
pub fn take_page(store: &Store, heads: &[ByteBuf], from: &Source, now: Timestamp) -> Option<Taken> {
    let mut taken = Taken::default();
    let mut verified = Vec::new();
    for bytes in heads {
        match VerifiedHead::verify(bytes, now) {
            Ok(head) => verified.push((from.clone(), head)),
            Err(error) if matches!(error.code(), Code::Expired | Code::Clock) || error.is_newer() => {
                taken.refused += 1;
            }
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
        Ok(new) => {
            taken.new = new;
            taken.refused += verified.len() - new;
            Some(taken)
        }
        Err(error) => {
            tracing::warn!(%error, "heads were not written");
            None
        }
    }
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

/// Writes verified heads, each with whoever told of it, in one transaction and yields how many were new or newer.
///
/// # Errors
/// Where the database fails; nothing is written then.
pub fn write(store: &Store, heads: &[(Source, VerifiedHead)], now: Timestamp) -> Result<usize, store::Error> {
    if heads.is_empty() {
        return Ok(0);
    }
    store.write(|tx| {
        let mut new = 0;
        for (source, head) in heads {
            match catalog::insert(tx, head, source, now)? {
                catalog::Outcome::Added | catalog::Outcome::Replaced | catalog::Outcome::Renewed => new += 1,
                catalog::Outcome::Known => {}
                refused => {
                    tracing::debug!(package = %head.package_id(), ?refused, "a head was refused");
                }
            }
        }
        Ok(new)
    })
}
